//! The stage: the index is built block by block.

use artifact::format::{count, grouped};
use artifact::{Context, Outcome, Sealed, Unsealed};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use tokenizer::Tokenizer;
use tokenizer::shard::Split;

use crate::{Config, Error, block, documents};

/// The stage's name.
pub const NAME: &str = "index";

/// Raised when the same inputs would give another output.
pub const VERSION: u32 = 1;

/// The file that says what the index has.
pub(crate) const SUMMARY: &str = "index.json";

/// What the names of blocks begin with.
pub(crate) const BLOCK: &str = "block-";

/// The split that is indexed.
const TRAIN: &str = "train";

/// The tokenizer, as in the tokens artifact.
pub(crate) const TOKENIZER: &str = "tokenizer.json";

/// The content of `index.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// The tokens of the train split, end-of-text tokens included.
    pub tokens: u64,
    /// The documents of the train split.
    pub documents: u64,
    /// The number of blocks; 0 if the split has more than `max_tokens`.
    pub blocks: usize,
    /// The configured limit.
    pub max_tokens: u64,
}

/// Builds the index of the train split of `tokens` in `out`. Blocks that an interrupted run has finished are kept.
///
/// With more than `config.max_tokens` tokens there is only `index.json`, which says so.
///
/// # Errors
/// Returns an error if the tokens differ from their manifest or memory is full; on I/O errors; and
/// [`Error::Interrupted`] if the context is cancelled.
pub fn run(config: &Config, tokens: &Sealed, out: &Unsealed, context: &Context) -> Result<Outcome, Error> {
    config.validate()?;
    let split = Split::open(tokens, TRAIN)?;
    let is_built = split.len() as u64 <= config.max_tokens;
    let blocks = if is_built { block::divide(&split, config.block_tokens)? } else { Vec::new() };
    let name = |block: usize| format!("{BLOCK}{block:05}.safetensors");
    out.clear_except(&(0..blocks.len()).map(name).collect::<Vec<String>>())?;
    if is_built {
        let tokenizer = Tokenizer::from_file(&tokens.verified(TOKENIZER)?)?;
        context.progress.begin("indexing", split.len() as u64, "tokens");
        for (number, range) in blocks.iter().enumerate() {
            if context.cancel.is_requested() {
                return Err(Error::Interrupted);
            }
            let path = out.path(&name(number));
            // An index that was damaged is built again in its folder, and may have lost the end of a block.
            if block::Block::open(&path).is_err() {
                let documents = documents(tokens, TRAIN, range.clone())?;
                block::build(&split, range.clone(), tokenizer.end_of_text(), &documents, &path)?;
            }
            context.progress.position(split.document_range(range.end - 1).end as u64);
        }
        tokenizer.save(out.folder())?;
    }
    let summary = Summary {
        tokens: split.len() as u64,
        documents: split.n_documents() as u64,
        blocks: blocks.len(),
        max_tokens: config.max_tokens,
    };
    artifact::file::write_atomically(&out.path(SUMMARY), format!("{:#}\n", json!(summary)).as_bytes())?;
    Ok(summary.outcome())
}

impl Summary {
    fn outcome(&self) -> Outcome {
        let mut counts = Map::from_iter([
            ("tokens".to_owned(), json!(self.tokens)),
            ("documents".to_owned(), json!(self.documents)),
            ("blocks".to_owned(), json!(self.blocks)),
        ]);
        let tokens = count(self.tokens as f64);
        if self.blocks > 0 {
            return Outcome { counts, headline: format!("{tokens} tokens indexed"), ..Outcome::default() };
        }
        let notice = format!(
            "no index was built, and no text can be traced: the training data has {} tokens, and index.max_tokens is \
             {}",
            grouped(self.tokens),
            grouped(self.max_tokens)
        );
        counts.insert(artifact::NOTICES.to_owned(), json!([notice]));
        Outcome { counts, headline: "no index".to_owned(), ..Outcome::default() }
    }
}
