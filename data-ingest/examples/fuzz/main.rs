//! Fuzzes the readers of foreign formats: feeds damaged and hostile inputs to the stage and reports panics.
//!
//! Usage: `fuzz <archive|warc|html|chat|table|dataset|media> SECONDS [SEED]`. Every input is a file, or a dataset, that
//! the whole stage collects.

mod chats;
#[path = "../../tests/columnar/mod.rs"]
mod columnar;
#[path = "../../tests/corpus/mod.rs"]
mod corpus;
mod input;
mod inputs;
mod media;
#[path = "../../tests/packed/mod.rs"]
mod packed;
mod web;

use std::error::Error;
use std::path::Path;

use data_ingest::{Source, dataset};
use input::Input;
use inputs::{Inputs, Target};
use test_support::fuzz::{self, Arguments, Findings};

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: fuzz <archive|warc|html|chat|table|dataset|media> SECONDS [SEED]";
    let arguments = Arguments::read(usage)?;
    let inputs = Inputs::new(Target::named(&arguments.target).ok_or(usage)?);
    // The stage turns panics of its libraries into bad records.
    fuzz::run(
        &arguments,
        Findings::Uncaught,
        |random| inputs.next(random),
        |input, folder| collect(input, &folder.join("in"), &folder.join("out")),
    )
}

/// Collects an input, and returns true if it yielded documents.
fn collect(input: &Input, base: &Path, out: &Path) -> bool {
    let context = corpus::context(base);
    if input.config.dataset.is_some() {
        let stays_here = |source: &Source| {
            let leads_out = |path: &String| path.contains("..") || path.starts_with(['/', '\\', '~', '$']);
            source.git.is_none() && source.path.as_ref().is_none_or(|path| !leads_out(path))
        };
        // A random path may be that of a whole disk.
        match dataset::summary(&input.config, &context) {
            Ok(summary) if summary.sources.iter().all(stays_here) => {}
            _ => return false,
        }
    }
    corpus::collect_into(&input.config, &context, out).is_ok()
}
