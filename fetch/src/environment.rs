//! The environment of the process: home folder and variables, read once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::Error;

/// The home folder and the environment variables.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The user's home folder.
    pub home: Option<PathBuf>,
    /// The variables whose names and values are Unicode.
    pub variables: BTreeMap<String, String>,
}

impl Environment {
    /// Returns the environment of this process.
    pub fn of_process() -> Self {
        let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { home: std::env::home_dir(), variables: std::env::vars_os().filter_map(unicode).collect() }
    }

    /// Returns `text` with a leading `~` and all `$VARS` and `${VARS}` replaced.
    ///
    /// # Errors
    /// Returns an error that names `key` if there is no home folder or a variable is not set.
    pub fn expand(&self, text: &str, key: &str) -> Result<String, Error> {
        if text.starts_with('~') && self.home.is_none() {
            return Err(Error::value(key, "`~` is the home folder, and this process has none"));
        }
        let home = || self.home.as_ref().map(|home| home.to_string_lossy().into_owned());
        let variable = |name: &str| self.variables.get(name).map(Some).ok_or(());
        let expanded = shellexpand::full_with_context(text, home, variable)
            .map_err(|e| Error::value(key, &format!("the environment variable {} is not set", e.var_name)))?;
        Ok(expanded.into_owned())
    }

    /// Returns a variable that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns cargo's home folder: `$CARGO_HOME`, else `~/.cargo`.
    pub fn cargo_home(&self) -> Option<PathBuf> {
        self.variable("CARGO_HOME").map(PathBuf::from).or_else(|| self.home.as_ref().map(|home| home.join(".cargo")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let environment =
            Environment { home: Some("/home/me".into()), variables: [("DATA".to_owned(), "/data".to_owned())].into() };
        let found = environment.expand(text, "collect.dataset").unwrap_or_else(|e| e.to_string());
        assert_eq!(found, expected);
    }

    #[test]
    fn home_and_variables_are_expanded() {
        check("~/x", "/home/me/x");
        check("$DATA/x/${DATA}", "/data/x//data");
        check("a~b", "a~b");
        check("$NONE/x", "collect.dataset: the environment variable NONE is not set");
        let homeless = Environment::default();
        assert!(homeless.expand("~/x", "k").is_err());
        assert!(homeless.cargo_home().is_none());
        let moved = Environment { variables: [("CARGO_HOME".to_owned(), "/c".to_owned())].into(), ..homeless };
        assert_eq!(moved.cargo_home(), Some(PathBuf::from("/c")));
    }
}
