//! The pre-tokenizers that llama.cpp knows by name, and their form in `tokenizer.json`.
//!
//! Only those whose splitting is the same in both are here. Names of one row split alike in llama.cpp.

use std::fmt;

use serde_json::{Value as Json, json};

/// A step of a pre-tokenizer, before bytes are mapped to characters.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// Every match of a regular expression is a word, and so is the text between two matches.
    Split(String),
    /// Every digit is a word.
    Digits,
}

/// The steps of a byte-level pre-tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Steps(Vec<Step>);

/// A pre-tokenizer of llama.cpp.
pub(super) struct PreTokenizer {
    /// Its names, the one that is written first.
    pub(super) names: &'static [&'static str],
    /// The regular expressions of its steps; [`DIGITS`] for digits.
    expressions: &'static [&'static str],
    /// Whether a word that is a token is not merged from smaller ones.
    pub(super) ignores_merges: bool,
    /// Whether begin-of-text is placed where the file does not say.
    pub(super) adds_bos: bool,
    /// Whether the published tokenizers of this name normalise text to NFC.
    pub(super) is_nfc: bool,
}

/// Stands for every digit as a word.
const DIGITS: &str = r"\p{N}";

/// GPT-2's (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019), built into tokenizers.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// That of Qwen 2.
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// That of Llama 3.
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// The pre-tokenizers.
pub(super) const PRE_TOKENIZERS: [PreTokenizer; 7] = [
    PreTokenizer {
        names: &["gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "gigachat", "mellum", "a.x-4.0", "exaone4"],
        expressions: &[GPT2],
        ignores_merges: false,
        adds_bos: false,
        is_nfc: false,
    },
    PreTokenizer {
        names: &["qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "kormo", "hunyuan"],
        expressions: &[QWEN2],
        ignores_merges: false,
        adds_bos: false,
        is_nfc: true,
    },
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "lfm2"],
        expressions: &[LLAMA3],
        ignores_merges: true,
        adds_bos: true,
        is_nfc: false,
    },
    PreTokenizer {
        names: &["dbrx", "smaug-bpe", "chatglm-bpe"],
        expressions: &[LLAMA3],
        ignores_merges: false,
        adds_bos: false,
        is_nfc: false,
    },
    PreTokenizer {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        expressions: &[DIGITS, GPT2],
        ignores_merges: false,
        adds_bos: false,
        is_nfc: false,
    },
    PreTokenizer {
        names: &["deepseek-coder"],
        expressions: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", DIGITS],
        ignores_merges: false,
        adds_bos: false,
        is_nfc: false,
    },
    PreTokenizer {
        names: &["deepseek-v3", "hunyuan-dense"],
        expressions: &[
            r"\p{N}{1,3}",
            "[一-龥぀-ゟ゠-ヿ]+",
            concat!(
                "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+",
                "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
            ),
        ],
        ignores_merges: false,
        adds_bos: false,
        is_nfc: false,
    },
];

impl PreTokenizer {
    fn steps(&self) -> Steps {
        let step = |expression: &&str| match *expression {
            DIGITS => Step::Digits,
            other => Step::Split(other.to_owned()),
        };
        Steps(self.expressions.iter().map(step).collect())
    }

    /// Returns true if the pre-tokenizer has these steps.
    pub(super) fn matches(&self, steps: &Steps, ignores_merges: bool) -> bool {
        self.steps() == *steps && self.ignores_merges == ignores_merges
    }

    /// Returns the form in `tokenizer.json`.
    pub(super) fn to_json(&self) -> Json {
        let mut steps = self.steps().0;
        // The expression that tokenizers has built in.
        let ends_with_gpt2 = steps.last() == Some(&Step::Split(GPT2.to_owned()));
        if ends_with_gpt2 {
            steps.pop();
        }
        let step = |step: Step| match step {
            Step::Digits => json!({"type": "Digits", "individual_digits": true}),
            Step::Split(expression) => {
                json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false})
            }
        };
        let mut all: Vec<Json> = steps.into_iter().map(step).collect();
        all.push(json!({
            "type": "ByteLevel",
            "add_prefix_space": false,
            "trim_offsets": false,
            "use_regex": ends_with_gpt2,
        }));
        if let [only] = &all[..] { only.clone() } else { json!({"type": "Sequence", "pretokenizers": all}) }
    }
}

impl Steps {
    /// Returns the steps of a pre-tokenizer of `tokenizer.json`.
    ///
    /// # Errors
    /// Returns the reason if it does anything else.
    pub(super) fn of_json(json: &Json) -> Result<Self, String> {
        let sequence = json["pretokenizers"].as_array().filter(|_| json["type"] == "Sequence");
        let sequence = sequence.map_or(std::slice::from_ref(json), Vec::as_slice);
        let Some((bytes, steps)) = sequence.split_last().filter(|(last, _)| last["type"] == "ByteLevel") else {
            return Err(format!("its pre-tokenizer {json} does not end with ByteLevel"));
        };
        if bytes["add_prefix_space"] == true {
            return Err("it adds a space before a text, which llama.cpp does not".to_owned());
        }
        let step = |step: &Json| match step["type"].as_str() {
            Some("Digits") if step["individual_digits"] == true => Ok(Step::Digits),
            // The words are the matches: between them is nothing, or it is a word as well.
            Some("Split") if is_isolated(step) => match step["pattern"]["Regex"].as_str() {
                Some(DIGITS) => Ok(Step::Digits),
                Some(expression) => Ok(Step::Split(expression.to_owned())),
                None => Err(format!("it splits by {}, which llama.cpp does not know", step["pattern"])),
            },
            _ => Err(format!("it has the pre-tokenizer {step}, which llama.cpp does not know")),
        };
        let mut steps = steps.iter().map(step).collect::<Result<Vec<_>, _>>()?;
        if bytes["use_regex"] != false {
            steps.push(Step::Split(GPT2.to_owned()));
        }
        Ok(Self(steps))
    }
}

/// Returns true if every match is a word: tokenizers converted from tiktoken say so by removing what is not.
fn is_isolated(split: &Json) -> bool {
    (split["behavior"] == "Isolated" && split["invert"] != true)
        || (split["behavior"] == "Removed" && split["invert"] == true)
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            f.write_str(if i > 0 { ", then " } else { "" })?;
            match step {
                Step::Split(expression) => write!(f, "`{expression}`")?,
                Step::Digits => f.write_str("digits")?,
            }
        }
        Ok(())
    }
}
