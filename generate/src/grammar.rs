//! Structured output: texts that obey a JSON schema, a regular expression or a grammar.

use std::borrow::Cow;
use std::sync::Arc;

use inference::{Constraint, TokenMask};
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Number, Value, json};
use tokenizer::Tokenizer;
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use crate::Error;

/// What a text must obey.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {
    /// Any JSON object.
    JsonObject,
    /// A JSON value that is valid after this JSON schema, on one line with a space after each comma and colon: free
    /// white space would let a text that never ends.
    JsonSchema(Value),
    /// One of several of these.
    Tagged(Vec<Tagged>),
    /// A text that this regular expression matches as a whole, in the syntax of the crate `regex`.
    Regex(String),
    /// A text of this grammar, in the variant of Lark's notation that llguidance reads.
    Lark(String),
}

/// A JSON value that is valid after a JSON schema, between two texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Tagged {
    /// What comes before it.
    pub before: Vec<Part>,
    /// The JSON schema.
    pub schema: Value,
    /// What comes after it.
    pub after: Vec<Part>,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A text.
    Text(String),
    /// A special token, by its name; for a tokenizer that has no such special token, its name as a text.
    Token(String),
}

/// What is too large to be compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrammarLimits {
    /// The maximum length of a schema, a regular expression or a grammar, in bytes. Default: 65,536.
    pub max_bytes: usize,
    /// The maximum depth of a schema, in nested objects and arrays. Default: 64.
    pub max_depth: usize,
}

impl Default for GrammarLimits {
    fn default() -> Self {
        Self { max_bytes: 1 << 16, max_depth: 64 }
    }
}

impl Grammar {
    /// Checks the limits.
    ///
    /// # Errors
    /// [`Error::Grammar`] says which limit is exceeded.
    pub(crate) fn check(&self, limits: &GrammarLimits) -> Result<(), Error> {
        let schemas = self.schemas();
        let bytes = match self {
            Self::Regex(text) | Self::Lark(text) => text.len(),
            _ => schemas.iter().map(|schema| schema.to_string().len()).sum(),
        };
        let depth = schemas.iter().map(|schema| depth(schema)).max().unwrap_or_default();
        for (found, limit, unit) in [(bytes, limits.max_bytes, "bytes"), (depth, limits.max_depth, "levels deep")] {
            if found > limit {
                return Err(Error::Grammar { reason: format!("it is {found} {unit}, more than the {limit} allowed") });
            }
        }
        match schemas.iter().find_map(|schema| too_low(schema)) {
            Some(number) => {
                Err(Error::Grammar { reason: format!("it has the number {number}, but numbers must be above -2^63") })
            }
            None => Ok(()),
        }
    }

    /// Returns the JSON schemas in it.
    fn schemas(&self) -> Vec<Cow<'_, Value>> {
        match self {
            Self::JsonObject | Self::Regex(_) => Vec::new(),
            Self::JsonSchema(schema) => vec![Cow::Borrowed(schema)],
            Self::Tagged(tagged) => tagged.iter().map(|tagged| Cow::Borrowed(&tagged.schema)).collect(),
            Self::Lark(text) => {
                let after = text.match_indices("%json").map(|(at, name)| &text[at + name.len()..]);
                let value = |text| serde_json::Deserializer::from_str(text).into_iter().next()?.ok();
                after.filter_map(value).map(Cow::Owned).collect()
            }
        }
    }

    fn top_level(&self, tokenizer: &Tokenizer) -> TopLevelGrammar {
        match self {
            Self::JsonObject => TopLevelGrammar::from_json_schema(on_one_line(json!({"type": "object"}))),
            Self::JsonSchema(schema) => TopLevelGrammar::from_json_schema(on_one_line(schema.clone())),
            Self::Tagged(tagged) => TopLevelGrammar::from_lark(lark(tagged, tokenizer)),
            Self::Regex(regex) => TopLevelGrammar::from_regex(regex),
            Self::Lark(grammar) => TopLevelGrammar::from_lark(grammar.clone()),
        }
    }
}

/// Returns a grammar in Lark's notation.
fn lark(tagged: &[Tagged], tokenizer: &Tokenizer) -> String {
    let part = |part: &Part| match part {
        Part::Token(name) => match tokenizer.id(name) {
            Some(id) if tokenizer.bytes_of(id).is_some_and(|bytes| bytes.is_empty()) => format!("<[{id}]>"),
            _ => Value::from(name.as_str()).to_string(),
        },
        // JSON writes strings as Lark does.
        Part::Text(text) => Value::from(text.as_str()).to_string(),
    };
    let parts = |parts: &[Part]| parts.iter().map(part).collect::<Vec<_>>().join(" ");
    let names: Vec<String> = (0..tagged.len()).map(|i| format!("tagged{i}")).collect();
    let rule = |(i, Tagged { before, schema, after }): (usize, &Tagged)| {
        let (before, schema, after) = (parts(before), on_one_line(schema.clone()), parts(after));
        format!("\ntagged{i}: {before} value{i} {after}\nvalue{i}: %json {schema}")
    };
    format!("start: {}{}", names.join(" | "), tagged.iter().enumerate().map(rule).collect::<String>())
}

/// Returns the depth of nested arrays and objects; serde's parser has limited it by now.
fn depth(value: &Value) -> usize {
    let inner = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(fields) => fields.values().map(depth).max(),
        _ => return 0,
    };
    1 + inner.unwrap_or_default()
}

/// Returns a number of at most -2^63. llguidance negates bounds as 64-bit integers, and never ends with this one.
fn too_low(value: &Value) -> Option<&Number> {
    match value {
        Value::Number(number) => number.as_f64().filter(|x| *x <= i64::MIN as f64).map(|_| number),
        Value::Array(items) => items.iter().find_map(too_low),
        Value::Object(fields) => fields.values().find_map(too_low),
        _ => None,
    }
}

fn on_one_line(mut schema: Value) -> Value {
    let layout = json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
    match &mut schema {
        Value::Object(fields) => {
            fields.insert("x-guidance".to_owned(), layout);
            schema
        }
        // `true` allows every value; other schemas are refused by the compiler.
        Value::Bool(true) => json!({"x-guidance": layout}),
        _ => schema,
    }
}

/// Compiles grammars for the tokens of a model.
pub(crate) struct Compiler(ParserFactory);

impl Compiler {
    /// Returns the compiler for a tokenizer and the tokens that end a text.
    ///
    /// # Errors
    /// Returns the reason if no grammar can be applied to these tokens.
    pub(crate) fn new(tokenizer: &Tokenizer, stop_tokens: &[u32]) -> Result<Self, String> {
        let vocab_size = tokenizer.vocab_size();
        let bytes = (0..vocab_size as u32).map(|id| tokenizer.bytes_of(id)).collect::<Option<Vec<Vec<u8>>>>();
        let bytes = bytes.ok_or("this model's tokenizer writes tokens differently depending on their neighbours")?;
        let mut ends: Vec<u32> = stop_tokens.iter().copied().filter(|id| (*id as usize) < vocab_size).collect();
        ends.sort_unstable();
        ends.dedup();
        let first = *ends.first().ok_or("this model has no token that ends a text")?;
        let trie = TokTrie::from(&TokRxInfo::new(vocab_size as u32, first), &bytes).with_eos_tokens(&ends);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment).map_err(|error| format!("{error:#}"))?;
        *factory.limits_mut() = ParserLimits { verbose_errors: false, ..ParserLimits::default() };
        factory.quiet();
        Ok(Self(factory))
    }

    pub(crate) fn compile(&self, grammar: &Grammar, tokenizer: &Tokenizer) -> Result<Box<dyn Constraint>, Error> {
        let matcher = Matcher::new(self.0.create_parser(grammar.top_level(tokenizer)));
        match matcher.get_error() {
            Some(reason) => Err(Error::Grammar { reason: reason.trim().trim_end_matches('.').to_owned() }),
            None => Ok(Box::new(Guided(matcher))),
        }
    }
}

/// A text that follows a grammar.
struct Guided(Matcher);

impl Constraint for Guided {
    fn allowed(&mut self) -> Result<TokenMask, String> {
        let mask = self.0.compute_mask_or_eos().map_err(|error| format!("{error:#}"))?;
        Ok(TokenMask::from_words(mask.as_slice().to_vec()))
    }

    fn accept(&mut self, token: u32) -> Result<bool, String> {
        self.0.consume_token(token).map_err(|error| format!("{error:#}"))?;
        Ok(self.0.is_stopped())
    }

    fn accepts(&mut self, tokens: &[u32]) -> usize {
        self.0.validate_tokens(tokens).unwrap_or(0)
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(Self(self.0.deep_clone()))
    }
}

impl std::fmt::Debug for Guided {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guided").finish_non_exhaustive()
    }
}
