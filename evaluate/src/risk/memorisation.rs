//! Memorisation: whether the model, given the beginning of a training passage, continues it word for word.
//!
//! The model continues prefixes with its most likely tokens; the tokens until the first that differs from the training
//! text are memorised (Quantifying Memorization Across Neural Language Models, 2022). With an index, that is whatever
//! follows the prefix somewhere in the training data, else the passage itself. Held-out passages show how often a
//! continuation is right because it is predictable.

use std::collections::HashSet;

use artifact::Context;
use generate::{Generator, Sampling};
use inference::Request;
use schemars::JsonSchema;
use serde::Serialize;
use tokenizer::shard::Split;
use trace::Index;

use super::passages::{CONTINUATION_TOKENS, PREFIX_TOKENS, Passage, repeated, spread};
use crate::provenance::{self, MIN_TRACED_TOKENS, Origin};
use crate::samples::overlap::Overlap;
use crate::{Error, batch};

/// The lengths, in tokens, at which a repetition is counted.
const LENGTHS: [usize; 4] = [8, 16, 32, CONTINUATION_TOKENS];

/// The passages that are shown.
const MAX_SHOWN: usize = 8;

/// What the model repeats of its training data.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Memorisation {
    /// Tokens of a passage that the model is given.
    pub(crate) prefix_tokens: usize,
    /// Passages of the train split, from documents spread evenly over it.
    pub(crate) train: Repetition,
    /// Passages that occur more than once in the train split; none if none was found, or without an index.
    pub(crate) repeated: Option<Repetition>,
    /// Passages of the test split, which the model cannot have memorised; none if its documents are too short.
    pub(crate) held_out: Option<Repetition>,
    /// Training passages that the model repeats, the longest repetitions first.
    pub(crate) passages: Vec<Memorised>,
}

/// How many passages the model repeats.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Repetition {
    /// The number of passages.
    pub(crate) passages: usize,
    /// The median number of their copies in the training data; none without an index.
    pub(crate) median_copies: Option<u64>,
    /// The fraction that the model repeats, by length.
    pub(crate) lengths: Vec<RepeatedLength>,
}

/// The passages of which the model repeats at least a number of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub(crate) struct RepeatedLength {
    pub(crate) tokens: usize,
    pub(crate) fraction: f64,
}

/// A training passage that the model repeats.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Memorised {
    /// The text that the model is given.
    pub(crate) prefix: String,
    /// The text that it repeats.
    pub(crate) repeated: String,
    /// The text by which it continues differently.
    pub(crate) rest: String,
    /// The number of tokens that it repeats.
    pub(crate) tokens: usize,
    /// How often the passage occurs in the training data; none without an index.
    pub(crate) copies: Option<u64>,
    /// Where a document with it came from, if that is known.
    pub(crate) origin: Option<Origin>,
}

/// A passage with what the model makes of its prefix.
struct Continued {
    passage: Passage,
    /// The most likely tokens.
    tokens: Vec<u32>,
    /// Those until the first that differs from the passage.
    repeated: usize,
}

/// What was measured by continuing passages.
pub(super) struct Measured {
    pub(super) memorisation: Memorisation,
    /// The overlap of the continuations of held-out passages with the text that follows them.
    pub(super) held_out_overlap: Option<Overlap>,
    /// The prefixes and continuations of all passages.
    pub(super) texts: Vec<(String, String)>,
}

/// Measures `count` passages of each kind; none if no training document is long enough.
pub(super) fn measure(
    count: usize,
    generator: &Generator,
    [train, test]: [&Split; 2],
    index: Option<&Index>,
    context: &Context,
) -> Result<Option<Measured>, Error> {
    if generator.config().context_length < PREFIX_TOKENS + CONTINUATION_TOKENS {
        return Ok(None);
    }
    let spread_train = spread(train, index, count);
    let repeated = index.map(|index| repeated(train, index, count)).unwrap_or_default();
    let held_out = spread(test, None, count);
    if spread_train.is_empty() {
        return Ok(None);
    }
    let complete = |prefixes: Vec<Vec<u32>>| -> Result<Vec<Vec<u32>>, Error> {
        let request = |prefix| Request { sampling: Sampling::greedy(), ..Request::new(prefix, CONTINUATION_TOKENS) };
        let requests = prefixes.into_iter().map(request).collect();
        let completed = batch::complete(generator, requests, "continuing training passages", context)?;
        Ok(completed.into_iter().map(|completed| completed.tokens).collect())
    };
    let [mut spread_train, mut repeated, held_out] = continued([spread_train, repeated, held_out], complete)?;
    for continued in spread_train.iter_mut().chain(&mut repeated) {
        continued.look_up(index);
    }
    let shown = longest(spread_train.iter().chain(&repeated));
    let memorisation = Memorisation {
        prefix_tokens: PREFIX_TOKENS,
        train: Repetition::of(&spread_train),
        repeated: (!repeated.is_empty()).then(|| Repetition::of(&repeated)),
        held_out: (!held_out.is_empty()).then(|| Repetition::of(&held_out)),
        passages: Memorised::of(&shown, generator, index)?,
    };
    let text = |Continued { passage, tokens, .. }: &Continued| -> Result<(String, String), Error> {
        let prefix = generator.tokenizer().decode(passage.prefix())?;
        Ok((prefix, batch::text(generator, passage.prefix(), tokens)?))
    };
    let texts = held_out.iter().chain(&spread_train).chain(&repeated).map(text).collect::<Result<Vec<_>, Error>>()?;
    let reference =
        |Continued { passage, .. }: &Continued| batch::text(generator, passage.prefix(), passage.continuation());
    let references: Vec<String> = held_out.iter().map(reference).collect::<Result<_, Error>>()?;
    let pairs: Vec<(&str, &str)> =
        texts.iter().zip(&references).map(|((_, text), reference)| (text.as_str(), reference.as_str())).collect();
    Ok(Some(Measured { memorisation, held_out_overlap: Overlap::of(&pairs), texts }))
}

/// Continues the prefixes of all passages at once.
fn continued<const N: usize>(
    sets: [Vec<Passage>; N],
    complete: impl FnOnce(Vec<Vec<u32>>) -> Result<Vec<Vec<u32>>, Error>,
) -> Result<[Vec<Continued>; N], Error> {
    let prefixes = sets.iter().flatten().map(|passage| passage.prefix().to_vec()).collect();
    let mut completed = complete(prefixes)?.into_iter();
    Ok(sets.map(|passages| {
        let pairs = passages.into_iter().zip(&mut completed);
        pairs.map(|(passage, tokens)| Continued::new(passage, tokens)).collect()
    }))
}

/// Returns the passages to show: those that the model repeats furthest, of each prefix one.
fn longest<'a>(continued: impl Iterator<Item = &'a Continued>) -> Vec<&'a Continued> {
    let mut seen = HashSet::new();
    let mut longest: Vec<&Continued> = continued
        .filter(|continued| continued.repeated >= MIN_TRACED_TOKENS && seen.insert(continued.passage.prefix()))
        .collect();
    longest.sort_by_key(|continued| std::cmp::Reverse(continued.repeated));
    longest.truncate(MAX_SHOWN);
    longest
}

impl Continued {
    fn new(passage: Passage, tokens: Vec<u32>) -> Self {
        let repeated = tokens.iter().zip(passage.continuation()).take_while(|(own, other)| own == other).count();
        Self { passage, tokens, repeated }
    }

    /// Counts the tokens that follow the prefix anywhere in the training data.
    fn look_up(&mut self, index: Option<&Index>) {
        let text = [self.passage.prefix(), &self.tokens].concat();
        let found = index.map_or(0, |index| index.longest_prefix(&text)).saturating_sub(PREFIX_TOKENS);
        self.repeated = self.repeated.max(found);
    }
}

impl Repetition {
    /// Returns the measures of passages, of which there is at least one.
    fn of(continued: &[Continued]) -> Self {
        let fraction = |tokens| {
            let repeated = continued.iter().filter(|continued| continued.repeated >= tokens).count();
            RepeatedLength { tokens, fraction: repeated as f64 / continued.len() as f64 }
        };
        let mut copies: Vec<u64> = continued.iter().filter_map(|continued| continued.passage.copies).collect();
        copies.sort_unstable();
        Self {
            passages: continued.len(),
            median_copies: copies.get(copies.len() / 2).copied(),
            lengths: LENGTHS.map(fraction).to_vec(),
        }
    }

    /// Returns the fraction of passages that are repeated to their end.
    pub(crate) fn whole_fraction(&self) -> f64 {
        self.lengths.last().map_or(0.0, |length| length.fraction)
    }
}

impl Memorised {
    fn of(shown: &[&Continued], generator: &Generator, index: Option<&Index>) -> Result<Vec<Self>, Error> {
        let memorised = |Continued { passage, tokens, repeated }: &Continued| -> Result<Self, Error> {
            let (same, other) = tokens.split_at(*repeated);
            let text = |before: &[u32], tokens: &[u32]| batch::text(generator, before, tokens);
            let prefix = generator.tokenizer().decode(passage.prefix())?;
            let repeated_text = text(passage.prefix(), same)?;
            let traced = index.map(|index| provenance::passages(index, &format!("{prefix}{repeated_text}")));
            let longest = traced.transpose()?.into_iter().flatten().max_by_key(|traced| traced.tokens);
            Ok(Self {
                prefix,
                repeated: repeated_text,
                rest: text(&[passage.prefix(), same].concat(), other)?,
                tokens: *repeated,
                copies: passage.copies,
                origin: longest.and_then(|traced| traced.origin),
            })
        };
        shown.iter().map(|continued| memorised(continued)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use artifact::{Host, Outcome, Recipe, Unsealed};
    use tokenizer::shard::Writer;
    use tokenizer::{Tokenizer, TrainConfig};

    use super::*;

    /// Returns a train split of 900 documents without repetitions, and of others with 1, 10 and 100 copies, each of its
    /// own tokens; and its index.
    fn planted(folder: &Path) -> (Split, Index) {
        let config = TrainConfig { vocab_size: 300, ..TrainConfig::default() };
        let tokenizer = Tokenizer::train(&config, ["some text to train on"].iter()).unwrap();
        let begin = |stage: &str| {
            std::fs::create_dir_all(folder.join(stage)).unwrap();
            let (config, inputs) = (serde_json::json!({}), [].into());
            let recipe =
                Recipe { stage: stage.to_owned(), stage_version: 1, config, inputs, seed: 1, device_class: None };
            Unsealed::at(folder.join(stage), recipe)
        };
        let seal = |out: Unsealed| out.seal(Outcome::default(), 1.0, Host::default()).unwrap();
        let out = begin("preprocess");
        std::fs::write(out.path("tokenizer.json"), tokenizer.to_json()).unwrap();
        let mut writer = Writer::new(out.folder(), "train", &tokenizer, 1 << 20);
        let end = tokenizer.end_of_text().unwrap();
        let document = |seed: u32| -> Vec<u32> {
            let mut state = seed;
            let token = |_| {
                // The generator of Numerical Recipes; only its top bits are random enough.
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 16) % 251
            };
            (0..100).map(token).chain([end]).collect()
        };
        for number in 0..900 {
            writer.push(&document(number), 100).unwrap();
            for (seed, copies) in [(1001, 1), (1010, 10), (1100, 100)] {
                // Spread over the split.
                if number % (900 / copies) == 0 {
                    writer.push(&document(seed), 100).unwrap();
                }
            }
        }
        writer.finish().unwrap();
        let tokens = seal(out);
        let out = begin("index");
        trace::run(&trace::Config::default(), &tokens, &out, &Context::quiet(1)).unwrap();
        (Split::open(&tokens, "train").unwrap(), Index::open(&seal(out)).unwrap())
    }

    #[test]
    fn the_most_frequent_passages_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let (split, index) = planted(folder.path());
        let copies: Vec<u64> = repeated(&split, &index, 8).iter().filter_map(|passage| passage.copies).collect();
        assert!(copies.len() > 1 && copies.iter().all(|copies| [10, 100].contains(copies)), "{copies:?}");
        assert!(copies.is_sorted_by(|a, b| a >= b) && copies[0] == 100, "{copies:?}");
        let mut all = vec![0; split.len()];
        split.copy(0, &mut all);
        for passage in spread(&split, Some(&index), 40) {
            let expected = all.windows(passage.tokens.len()).filter(|window| *window == passage.tokens).count();
            assert_eq!(passage.copies, Some(expected as u64));
        }
    }

    #[test]
    fn passages_that_a_model_has_memorised_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let (split, index) = planted(folder.path());
        // Not one for every tenth document, as the copies are.
        let (spread, repeated) = (spread(&split, Some(&index), 97), repeated(&split, &index, 8));
        // A model that knows what it has read at least ten times, and half of what it has read once.
        let known: HashMap<Vec<u32>, (Vec<u32>, Option<u64>)> = spread
            .iter()
            .chain(&repeated)
            .map(|passage| (passage.prefix().to_vec(), (passage.continuation().to_vec(), passage.copies)))
            .collect();
        let complete = |prefixes: Vec<Vec<u32>>| {
            let continuation = |prefix: Vec<u32>| {
                let (mut continuation, copies) = known[&prefix].clone();
                if copies < Some(10) {
                    continuation[25..].fill(299);
                }
                continuation
            };
            Ok(prefixes.into_iter().map(continuation).collect())
        };
        let [mut spread, mut repeated] = continued([spread, repeated], complete).unwrap();
        let before: Vec<usize> = spread.iter().map(|continued| continued.repeated).collect();
        spread.iter_mut().chain(&mut repeated).for_each(|continued| continued.look_up(Some(&index)));
        assert_eq!(spread.iter().map(|continued| continued.repeated).collect::<Vec<_>>(), before);
        let by_length = |set: &[Continued]| {
            Repetition::of(set).lengths.iter().map(|length| (length.tokens, length.fraction)).collect::<Vec<_>>()
        };
        assert_eq!(by_length(&repeated), [(8, 1.0), (16, 1.0), (32, 1.0), (50, 1.0)]);
        let [_, of_16, of_32, of_50] = by_length(&spread)[..] else { panic!("four lengths") };
        assert_eq!((of_16.1, of_32), (1.0, (32, of_50.1)));
        assert!((0.01..0.5).contains(&of_50.1), "{of_50:?}: a tenth of the documents are copies");
        let shown = longest(spread.iter().chain(&repeated));
        assert!(shown.len() == MAX_SHOWN && shown[0].repeated == CONTINUATION_TOKENS);
    }

    #[test]
    fn what_follows_a_copy_of_the_prefix_is_memorised_too() {
        let folder = tempfile::tempdir().unwrap();
        let (split, index) = planted(folder.path());
        let mut passages = spread(&split, Some(&index), 1);
        let text = passages[0].tokens.clone();
        // As if the passage had another continuation than the one that the model repeats.
        passages[0].tokens[PREFIX_TOKENS + 5..].fill(299);
        let [mut found] = continued([passages], |_| Ok(vec![text[PREFIX_TOKENS..].to_vec()])).unwrap();
        assert_eq!(found[0].repeated, 5);
        found[0].look_up(Some(&index));
        assert_eq!(found[0].repeated, CONTINUATION_TOKENS);
    }
}
