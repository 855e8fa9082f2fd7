//! The files that the configuration names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use artifact::{Context, Digest};

use super::{Config, Step};
use crate::Error;

/// Returns the digests of the files that this stage reads in addition to the corpus, by name: a given `tokenizer.json`
/// and the evaluation sets to decontaminate against.
///
/// # Errors
/// Returns an error if one cannot be read.
pub fn inputs(config: &Config, context: &Context) -> Result<BTreeMap<String, Digest>, Error> {
    let mut inputs = BTreeMap::new();
    let mut add = |what: &str, file: &PathBuf| {
        let (digest, _) = Digest::of_file(&context.base.join(file))?;
        inputs.insert(format!("{what} {}", file.display()), digest);
        Ok::<(), Error>(())
    };
    if let Some(file) = &config.tokenizer.file {
        add("tokenizer", file)?;
        tokenizer::files_beside(&context.base.join(file)).iter().try_for_each(|file| add("tokenizer", file))?;
    }
    if let Some(file) = config.tokenizer.template_file() {
        if !context.base.join(&file).is_file() {
            let names: Vec<&str> = tokenizer::BUILTIN.iter().map(|template| template.name).collect();
            let problem = format!("`{}` is neither one of {} nor a file", file.display(), names.join(", "));
            return Err(Error::config("train.chat_template", problem));
        }
        add("chat template", &file)?;
    }
    if config.steps().contains(&Step::Decontaminate) {
        config.decontaminate.sets.iter().try_for_each(|file| add("evaluation set", file))?;
    }
    Ok(inputs)
}
