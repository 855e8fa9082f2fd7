//! The dataset and its lock, read once per run.

use artifact::Context;
use fetch::{Environment, Lock};

use crate::config::{Declarations, declared};
use crate::{Config, Error};

/// The sources that a configuration declares, and the lock that belongs to them.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub(crate) config: Config,
    pub(crate) environment: Environment,
    pub(crate) declarations: Declarations,
    pub(crate) lock: Lock,
}

/// Reads `dataset.toml`, if `config` names one, and `dataset.lock`.
///
/// # Errors
/// Returns an error if a value is invalid, or if one of the files cannot be read or parsed.
pub fn resolve(config: &Config, context: &Context) -> Result<Resolved, Error> {
    resolve_in(config, context, Environment::of_process())
}

pub(crate) fn resolve_in(config: &Config, context: &Context, environment: Environment) -> Result<Resolved, Error> {
    let declarations = declared(config, &context.base, &environment)?;
    let lock = Lock::read(&declarations.lock)?;
    Ok(Resolved { config: config.clone(), environment, declarations, lock })
}
