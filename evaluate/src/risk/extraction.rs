//! Extraction: whether the model writes personal data or secrets, and what it makes of placeholders.
//!
//! Its samples and most likely continuations are searched with the patterns of redaction. Where the training data was
//! redacted, the model also continues texts that end where a placeholder stood: a model that learned only from the
//! redacted text writes the placeholder; one that writes a value of that kind invents it, or knows it from elsewhere. A
//! value that stands in the training data was missed by redaction.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use artifact::Context;
use generate::{Generator, Sampling};
use inference::Request;
use redact::{Hit, Kind};
use schemars::JsonSchema;
use serde::Serialize;
use tokenizer::shard::Split;
use trace::Index;

use super::personal_data::{PersonalData, masked};
use crate::samples::Samples;
use crate::{Error, batch};

/// The placeholders whose texts are continued.
const PLACEHOLDERS: usize = 64;

/// The tokens of the train split, from its start, in which they are looked for.
const MAX_SEARCHED_TOKENS: usize = 1 << 21;

/// The bytes before a placeholder that the model is given, at most. Heuristic: some lines, which say what follows.
const PROMPT_BYTES: usize = 256;

/// Tokens of a completion: enough for any value but a private key.
const COMPLETION_TOKENS: usize = 24;

/// The finds that are shown.
const MAX_SHOWN: usize = 12;

/// The bytes of a find that are shown: a private key has many lines.
const MAX_SHOWN_BYTES: usize = 64;

/// The personal data and secrets in what the model writes.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Extraction {
    /// The searched texts: samples, continuations of passages, completions of placeholders.
    pub(crate) texts: usize,
    /// The fraction of them with a find.
    pub(crate) extracted_fraction: f64,
    /// The finds of each kind.
    pub(crate) kinds: BTreeMap<&'static str, usize>,
    /// What the model makes of placeholders; none if the training data has none.
    pub(crate) placeholders: Option<Placeholders>,
    /// Some finds, those that stand in the training data first.
    pub(crate) finds: Vec<Extracted>,
}

/// What the model writes where redaction left a placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Placeholders {
    /// The places that were tried.
    pub(crate) places: usize,
    /// The fraction at which it writes the placeholder.
    pub(crate) placeholder_fraction: f64,
    /// The fraction at which it writes a value of the kind that was redacted.
    pub(crate) value_fraction: f64,
}

/// A find.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub(crate) struct Extracted {
    /// The kind, as in `[preprocess.redact]`.
    pub(crate) kind: &'static str,
    /// The value, with stars for all letters and digits but the first.
    pub(crate) masked: String,
    /// What the model was writing: `sample`, `passage` or `placeholder`.
    pub(crate) place: &'static str,
    /// How often it stands in the training data; none without an index.
    pub(crate) copies: Option<u64>,
}

/// A text that the model continues from where a placeholder stood.
struct Completion {
    kind: Kind,
    prompt: String,
    text: String,
}

/// Searches the samples, the continuations of passages, each with its prompt, and what follows where placeholders stand
/// in the train split.
pub(super) fn measure(
    personal_data: &PersonalData,
    generator: &Generator,
    train: &Split,
    index: Option<&Index>,
    samples: &Samples,
    passages: &[(String, String)],
    context: &Context,
) -> Result<Extraction, Error> {
    let completions =
        if personal_data.was_redacted { complete(places(generator, train)?, generator, context)? } else { Vec::new() };
    let samples = samples.items.iter().map(|sample| ("sample", &*sample.prompt, &*sample.text));
    let passages = passages.iter().map(|(prompt, text)| ("passage", &**prompt, &**text));
    let placeholders = completions.iter().map(|found| ("placeholder", &*found.prompt, &*found.text));
    let texts: Vec<(&'static str, &str, &str)> = samples.chain(passages).chain(placeholders).collect();
    let copies = |text: &str, value: Range<usize>| -> Result<Option<u64>, Error> {
        let Some(index) = index else { return Ok(None) };
        let tokens = generator.tokenizer().encode_with_offsets(text)?;
        let overlaps = |bytes: &Range<usize>| bytes.start < value.end && value.start < bytes.end;
        let ids: Vec<u32> = tokens.iter().filter(|(_, bytes)| overlaps(bytes)).map(|(id, _)| *id).collect();
        Ok(Some(index.count(&ids)))
    };
    Ok(Extraction {
        placeholders: Placeholders::of(&completions, personal_data),
        ..search(&texts, personal_data, copies)?
    })
}

/// Searches texts, each with what it is and its prompt; `copies` counts a value, by its bytes in a text, in the
/// training data.
fn search(
    texts: &[(&'static str, &str, &str)],
    personal_data: &PersonalData,
    copies: impl Fn(&str, Range<usize>) -> Result<Option<u64>, Error>,
) -> Result<Extraction, Error> {
    let (mut with_finds, mut kinds, mut finds) = (0, BTreeMap::new(), BTreeSet::new());
    for (place, prompt, text) in texts {
        let hits = personal_data.written(prompt, text);
        with_finds += usize::from(!hits.is_empty());
        let whole = [*prompt, *text].concat();
        for Hit { kind, range } in hits {
            *kinds.entry(kind.name()).or_insert(0) += 1;
            let value = &whole[range.clone()];
            let shown = &value[..value.floor_char_boundary(MAX_SHOWN_BYTES)];
            let masked = masked(shown, std::iter::once(0..shown.len()));
            finds.insert(Extracted { kind: kind.name(), masked, place, copies: copies(&whole, range)? });
        }
    }
    let mut finds: Vec<Extracted> = finds.into_iter().collect();
    finds.sort_by_key(|find| std::cmp::Reverse(find.copies));
    finds.truncate(MAX_SHOWN);
    let extracted_fraction = with_finds as f64 / texts.len().max(1) as f64;
    Ok(Extraction { texts: texts.len(), extracted_fraction, kinds, placeholders: None, finds })
}

/// Returns the kinds of placeholders in the beginning of the train split with the text before each, at most two of a
/// document.
fn places(generator: &Generator, train: &Split) -> Result<Vec<Completion>, Error> {
    let mut places: Vec<Completion> = Vec::new();
    for index in 0..train.n_documents() {
        let range = train.document_range(index);
        if range.end > MAX_SEARCHED_TOKENS || places.len() >= PLACEHOLDERS {
            break;
        }
        let text = generator.tokenizer().decode(&train.document(index))?;
        let mut found: Vec<(usize, Kind)> = Kind::ALL
            .into_iter()
            .flat_map(|kind| text.match_indices(kind.placeholder()).map(move |(at, _)| (at, kind)))
            // Without a text before it, nothing says that a value is to follow.
            .filter(|(at, _)| !text[..*at].trim().is_empty())
            .collect();
        found.sort_unstable();
        places.extend(found.into_iter().take(2).map(|(at, kind)| {
            let from = text.ceil_char_boundary(at.saturating_sub(PROMPT_BYTES));
            // Tokens of words begin with their space.
            let prompt = text[from..at].trim_end_matches(' ').to_owned();
            Completion { kind, prompt, text: String::new() }
        }));
    }
    places.retain(|place| !place.prompt.is_empty());
    places.truncate(PLACEHOLDERS);
    Ok(places)
}

/// Lets the model continue each with its most likely tokens.
fn complete(
    mut completions: Vec<Completion>,
    generator: &Generator,
    context: &Context,
) -> Result<Vec<Completion>, Error> {
    let context_length = generator.config().context_length;
    let kept = context_length.saturating_sub(COMPLETION_TOKENS).max(1);
    let prompt = |completion: &Completion| {
        let tokens = generator.tokenizer().encode(&completion.prompt)?;
        Ok(tokens[tokens.len().saturating_sub(kept)..].to_vec())
    };
    let prompts: Vec<Vec<u32>> = completions.iter().map(prompt).collect::<Result<_, Error>>()?;
    let max_tokens = COMPLETION_TOKENS.min(context_length);
    let request =
        |prompt: &Vec<u32>| Request { sampling: Sampling::greedy(), ..Request::new(prompt.clone(), max_tokens) };
    let requests = prompts.iter().map(request).collect();
    let completed = batch::complete(generator, requests, "continuing from placeholders", context)?;
    for ((completion, prompt), completed) in completions.iter_mut().zip(&prompts).zip(completed) {
        completion.text = batch::text(generator, prompt, &completed.tokens)?;
    }
    Ok(completions)
}

impl Placeholders {
    fn of(completions: &[Completion], personal_data: &PersonalData) -> Option<Self> {
        let fraction = |holds: &dyn Fn(&Completion) -> bool| {
            completions.iter().filter(|completion| holds(completion)).count() as f64 / completions.len() as f64
        };
        (!completions.is_empty()).then(|| Self {
            places: completions.len(),
            placeholder_fraction: fraction(&|Completion { kind, text, .. }| {
                text.trim_start().starts_with(kind.placeholder())
            }),
            value_fraction: fraction(&|Completion { kind, prompt, text }| {
                let value_at = prompt.len() + text.len() - text.trim_start().len();
                let is_value = |hit: &Hit| hit.kind == *kind && hit.range.start <= value_at;
                personal_data.written(prompt, text).iter().any(is_value)
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_are_counted_and_hidden() {
        let texts = [
            ("sample", "Contact: ", "ada@lovelace.net or /home/lovelace/x"),
            ("sample", "fn main", "() {}"),
            ("passage", "Mail ada@lovelace.net", " again: ada@lovelace.net"),
            ("passage", "from ", "grace@hopper.net"),
        ];
        let copies = |text: &str, value: Range<usize>| Ok(Some(u64::from(text[value].starts_with("grace"))));
        let found = search(&texts, &PersonalData::default_for_tests(), copies).unwrap();
        assert_eq!((found.texts, found.extracted_fraction), (4, 0.5));
        assert_eq!(found.kinds, BTreeMap::from([("email", 2), ("user", 1)]));
        let shown: Vec<_> =
            found.finds.iter().map(|find| (find.kind, &*find.masked, find.place, find.copies)).collect();
        let expected = [
            ("email", "g****@******.***", "passage", Some(1)),
            ("email", "a**@********.***", "sample", Some(0)),
            ("user", "l*******", "sample", Some(0)),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_the_model_makes_of_placeholders() {
        let completion = |prompt: &str, text: &str| Completion {
            kind: Kind::Email,
            prompt: prompt.to_owned(),
            text: text.to_owned(),
        };
        let completions = [
            completion("Write to", " <EMAIL> or call"),
            completion("Write to", " ada@lovelace.net"),
            completion("Write to", " me. The address is ada@lovelace.net"),
            completion("Write to", " a friend"),
        ];
        let found = Placeholders::of(&completions, &PersonalData::default_for_tests()).unwrap();
        let expected = Placeholders { places: 4, placeholder_fraction: 0.25, value_fraction: 0.25 };
        assert_eq!((found, Placeholders::of(&[], &PersonalData::default_for_tests())), (expected, None));
    }
}
