//! The kinds of tokenizers that can be trained.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The algorithm of a tokenizer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Byte-level BPE (Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", 2016, over bytes
    /// as in GPT-2): the most frequent pair of neighbours becomes a token, repeatedly. Encodes any text.
    #[default]
    Bpe,
    /// Unigram (Kudo, "Subword Regularization", 2018): the vocabulary under which the text is most likely if its tokens
    /// are independent. Characters, and bytes for those outside the vocabulary: encodes any text.
    Unigram,
    /// `WordPiece` as in BERT, case-sensitive: words and punctuation, split into pieces. White space is lost, and a
    /// word with a character outside the vocabulary is unknown.
    WordPiece,
    /// Every character of the training text is a token; others are unknown.
    Character,
}

impl Kind {
    /// Returns the token for text that cannot be encoded, if there is one.
    pub(crate) fn unknown_token(self) -> Option<&'static str> {
        match self {
            Self::Bpe => None,
            Self::WordPiece => Some("[UNK]"),
            Self::Unigram | Self::Character => Some("<unk>"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bpe => "byte-level BPE",
            Self::Unigram => "Unigram",
            Self::WordPiece => "WordPiece",
            Self::Character => "character",
        })
    }
}
