//! Training a byte-level BPE tokenizer.

use serde::{Deserialize, Serialize};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, PreTokenizerWrapper, Trainer};

use crate::words::{self, Words};
use crate::{Error, MINIMUM_VOCAB_SIZE, SPECIAL_TOKENS, Tokenizer};

/// Where text is cut before bytes are merged; no token crosses a cut. Both are known by name to llama.cpp, so that a
/// GGUF file with them needs no change there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// Qwen 2's: digits one by one, line ends kept together with what precedes them.
    #[default]
    Qwen2,
    /// GPT-2's.
    Gpt2,
}

impl Pattern {
    fn regular_expression(self) -> &'static str {
        match self {
            Self::Qwen2 => words::QWEN2,
            Self::Gpt2 => words::GPT2,
        }
    }
}

/// How a tokenizer is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainConfig {
    /// How many tokens to have, special ones included; fewer come out when the text has too few pairs to merge.
    pub vocab_size: usize,
    /// Where text is cut first.
    pub pattern: Pattern,
    /// How often a pair must occur to be merged.
    pub min_frequency: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self { vocab_size: 4096, pattern: Pattern::default(), min_frequency: 2 }
    }
}

impl Tokenizer {
    /// Trains a byte-level BPE tokenizer (Sennrich et al., "Neural Machine Translation of Rare Words with Subword
    /// Units", 2016, over bytes as in GPT-2) on `documents`. The result depends on what the documents are, not on their
    /// order nor on the number of threads: the words are counted, and pairs of equal count are merged in the order of
    /// their ids.
    ///
    /// # Errors
    /// When the vocabulary is too small for the 256 bytes.
    pub fn train<S>(config: &TrainConfig, documents: impl Iterator<Item = S> + Send) -> Result<Self, Error>
    where
        S: AsRef<str> + Send,
    {
        let vocab_size = config.vocab_size;
        if vocab_size < MINIMUM_VOCAB_SIZE {
            return Err(Error::VocabularyTooSmall { vocab_size });
        }
        let failed = |source| Error::Train { vocab_size, source };
        let pre_tokenizer = pre_tokenizer(config.pattern).map_err(failed)?;
        let words = Words::new(config.pattern.regular_expression()).map_err(failed)?;
        let mut trainer = BpeTrainer::builder()
            .vocab_size(vocab_size)
            .min_frequency(config.min_frequency)
            .show_progress(false)
            .special_tokens(SPECIAL_TOKENS.iter().map(|name| AddedToken::from(*name, true)).collect())
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        trainer.feed(documents, |text| Ok(words.split(text).map(words::to_byte_level).collect())).map_err(failed)?;
        let mut model = BPE::default();
        let special_tokens = trainer.train(&mut model).map_err(failed)?;
        let mut inner = tokenizers::Tokenizer::new(model);
        inner.with_pre_tokenizer(Some(pre_tokenizer));
        inner.with_decoder(Some(ByteLevel::new(false, false, false)));
        inner.with_post_processor(Some(ByteLevel::new(false, false, false)));
        inner.add_special_tokens(special_tokens).map_err(failed)?;
        Self::wrap(inner, "the trained tokenizer")
    }
}

fn pre_tokenizer(pattern: Pattern) -> Result<PreTokenizerWrapper, tokenizers::Error> {
    Ok(match pattern {
        Pattern::Gpt2 => ByteLevel::new(false, false, true).into(),
        Pattern::Qwen2 => {
            let pattern = SplitPattern::Regex(words::QWEN2.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
            Sequence::new(vec![split.into(), ByteLevel::new(false, false, false).into()]).into()
        }
    })
}
