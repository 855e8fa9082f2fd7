//! Inspection of a corpus and, from the signals of a tokens artifact, of the outcomes of its documents. Nothing is
//! measured again.

mod documents;
mod dropped;
mod media;
mod stats;
mod what_if;

pub use documents::{Document, documents};
pub use dropped::{Dropped, dropped};
pub use stats::{SHARES, Stats, stats};
pub use what_if::{Amount, StepChange, WhatIf, what_if};

use artifact::Sealed;

use crate::engine::parquet::{ROWS, Reader, Table};
use crate::engine::steps::FAILED;
use crate::{Config, Error, Step};

/// Returns the configuration of the run that wrote an artifact.
fn config_of(tokens: &Sealed) -> Result<Config, Error> {
    Config::of_manifest(tokens.manifest().recipe.config.clone()).map_err(|e| Error::Config {
        key: "preprocess".to_owned(),
        problem: format!("cannot be read from the manifest in {}: {e}", tokens.folder().display()),
    })
}

/// Returns the steps that may have dropped documents of an artifact.
fn steps_of(config: &Config, rows: &Rows) -> Vec<Step> {
    let mut steps = config.steps();
    let refused = format!("{}.{FAILED}", Step::ChatTemplate.name());
    steps.extend(rows.signals.has(&refused).then_some(Step::ChatTemplate));
    steps
}

/// The rows of the signals, in tables.
struct Rows {
    signals: Reader,
    first: usize,
}

impl Rows {
    fn open(tokens: &Sealed) -> Result<Self, Error> {
        Ok(Self { signals: Reader::open(tokens.verified("signals.parquet")?)?, first: 0 })
    }

    /// Returns the next rows, of some columns or all, and the number of the first.
    fn next(&mut self, columns: Option<&[&str]>) -> Result<Option<(usize, Table)>, Error> {
        let (first, rows) = (self.first, self.signals.rows());
        if first >= rows {
            return Ok(None);
        }
        let count = ROWS.min(rows - first);
        self.first += count;
        Ok(Some((first, self.signals.read(columns, (first, count))?)))
    }
}
