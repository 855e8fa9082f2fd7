//! Inspection of a corpus and, from the signals of a tokens artifact, of the outcomes of its documents. Nothing is
//! measured again.

mod documents;
mod dropped;
mod stats;
mod what_if;

pub use documents::{Document, documents};
pub use dropped::{Dropped, dropped};
pub use stats::{SHARES, Stats, stats};
pub use what_if::{Amount, StepChange, WhatIf, what_if};

use std::path::PathBuf;

use artifact::Sealed;
use polars::prelude::{DataFrame, PolarsError};

use crate::engine::parquet;
use crate::{Config, Error};

/// Rows in memory at a time.
const ROWS: usize = 1 << 15;

/// Returns the configuration of the run that wrote an artifact.
fn config_of(tokens: &Sealed) -> Result<Config, Error> {
    serde_json::from_value(tokens.manifest().recipe.config.clone()).map_err(|e| Error::Config {
        key: "preprocess".to_owned(),
        problem: format!("cannot be read from the manifest in {}: {e}", tokens.folder().display()),
    })
}

/// The rows of the signals, in batches.
struct Rows {
    path: PathBuf,
    first: usize,
    count: usize,
}

impl Rows {
    fn open(tokens: &Sealed) -> Result<Self, Error> {
        let path = tokens.verified("signals.parquet")?;
        let count = parquet::height(&path)?;
        Ok(Self { path, first: 0, count })
    }

    /// Returns the next rows and the number of the first.
    fn next(&mut self) -> Result<Option<(usize, DataFrame)>, Error> {
        if self.first >= self.count {
            return Ok(None);
        }
        let frame = parquet::read_rows(&self.path, (self.first, ROWS.min(self.count - self.first)))?;
        let first = self.first;
        self.first += frame.height().max(1);
        Ok(Some((first, frame)))
    }

    fn error(&self, source: PolarsError) -> Error {
        Error::Signals { operation: "read", path: self.path.clone(), source }
    }
}
