//! Fuzzes what serving reads from others: requests, and the files of models. Feeds damaged and hostile inputs and
//! reports panics.
//!
//! Usage: `fuzz_serving <request|template|config|tokenizer|safetensors|gguf> SECONDS [SEED]`. A request goes to a
//! server in this process; a file is put among the valid ones of a tiny model, which is loaded and asked for a few
//! tokens.

mod files;
mod json;
mod requests;
mod templates;

use std::error::Error;

use files::{File, Files};
use requests::Requests;
use templates::Templates;
use test_support::fuzz::{self, Arguments, Findings, Random};

/// A kind of input.
trait Target {
    /// Returns the next input.
    fn next(&self, random: &mut Random) -> Vec<u8>;

    /// Reads an input, and returns true if it is valid.
    fn feed(&self, input: &[u8]) -> bool;
}

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: fuzz_serving <request|template|config|tokenizer|safetensors|gguf> SECONDS [SEED]";
    let arguments = Arguments::read(usage)?;
    let folder = tempfile::tempdir()?;
    let target: Box<dyn Target> = match arguments.target.as_str() {
        "request" => Box::new(Requests::new(&folder.path().join("model"))?),
        "template" => Box::new(Templates),
        "config" => Box::new(Files::new(File::Config, &folder.path().join("model"))?),
        "tokenizer" => Box::new(Files::new(File::Tokenizer, &folder.path().join("model"))?),
        "safetensors" => Box::new(Files::new(File::Safetensors, &folder.path().join("model"))?),
        "gguf" => Box::new(Files::new(File::Gguf, &folder.path().join("model"))?),
        _ => return Err(usage.into()),
    };
    // The server turns panics of its threads into errors; what a reader catches of its libraries is one.
    fuzz::run(&arguments, Findings::OtherThreads, |random| target.next(random), |input, _| target.feed(input))
}
