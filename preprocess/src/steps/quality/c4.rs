//! C4's rules (Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
//! 2020, section 2.2, and the code published with it), as datatrove implements them: first lines are dropped, then
//! documents, based on their remaining lines.
//!
//! Phrases are matched ignoring the case of ASCII letters. In other languages than English, lines also end by other
//! marks, and policy lines have other phrases; see [`Orthography`].

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inapplicable::{Inapplicable, NO_SENTENCE_MARKS, NO_SPACES};
use super::orthography::Orthography;
use super::policy_phrases;
use super::scratch::Scratch;
use super::sentences;
use super::threshold::{self, Criterion, Failure, Threshold};
use crate::text::words::{Text, is_blank, trim};

/// The table `[preprocess.c4]`. Each threshold is a number, or `false` for none; the defaults are C4's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Lines with a word of more characters than this are dropped. Default 1000. It does not apply to a language
    /// without spaces between words, such as Chinese.
    pub max_word_chars: Threshold,
    /// Removes marks such as `[1]`, `[edit]` and `[citation needed]`. Default true.
    pub remove_citations: bool,
    /// Drops lines that do not end with one of `. ? ! " '`, and those that end with `...`. Default true, and false in
    /// the preset `web`, as in `FineWeb`. In other languages than English, lines may also end with another mark that
    /// ends sentences, such as `。`, or a closing quotation mark; it does not apply to Thai, which has no such marks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_unterminated_lines: Option<bool>,
    /// Lines with fewer words are dropped; words are separated by white space. Default 3. It does not apply to a
    /// language without spaces between words.
    pub min_words_per_line: Threshold,
    /// Drops lines that mention Javascript. Default true.
    pub drop_javascript_lines: bool,
    /// Drops lines about terms of use, privacy and cookies, by phrases in English and in the language of the text, as
    /// far as there are some for it. Default true.
    pub drop_policy_lines: bool,
    /// The maximum number of lines with "lorem ipsum". Default 0.
    pub max_lorem_ipsum_lines: Threshold,
    /// The maximum number of lines with an opening curly bracket. Default 0.
    pub max_curly_bracket_lines: Threshold,
    /// The minimum number of sentences in the kept lines. Default 5. It does not apply to Thai.
    pub min_sentences: Threshold,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_word_chars: Threshold::new(1000.0),
            remove_citations: true,
            drop_unterminated_lines: None,
            min_words_per_line: Threshold::new(3.0),
            drop_javascript_lines: true,
            drop_policy_lines: true,
            max_lorem_ipsum_lines: Threshold::new(0.0),
            max_curly_bracket_lines: Threshold::new(0.0),
            min_sentences: Threshold::new(5.0),
        }
    }
}

/// The signals: those that the criteria use, then the number of lines, and of lines dropped for each reason. One is NaN
/// where the language has not what it counts.
pub const SIGNALS: [&str; 9] = [
    "lorem_ipsum_lines",
    "curly_bracket_lines",
    "sentences",
    "lines",
    "long_word_lines",
    "unterminated_lines",
    "short_lines",
    "javascript_lines",
    "policy_lines",
];

/// A text after the rules for lines.
#[derive(Debug, Clone, PartialEq)]
pub struct Cleaned {
    /// The kept lines, each trimmed; `None` if the text did not change.
    pub text: Option<String>,
    /// The [`SIGNALS`].
    pub signals: [f64; SIGNALS.len()],
}

impl Config {
    /// Returns the criteria for documents.
    pub fn criteria(&self) -> [Criterion; 3] {
        [
            Criterion::at_most("max_lorem_ipsum_lines", "lorem_ipsum_lines", self.max_lorem_ipsum_lines),
            Criterion::at_most("max_curly_bracket_lines", "curly_bracket_lines", self.max_curly_bracket_lines),
            Criterion::at_least("min_sentences", "sentences", self.min_sentences),
        ]
    }

    /// Returns the signals that some languages have not.
    pub(super) fn inapplicable(&self) -> [Inapplicable; 5] {
        let drops_unterminated = self.drop_unterminated_lines.unwrap_or(true);
        [
            Inapplicable::new("long_word_lines", &[("max_word_chars", self.max_word_chars)], NO_SPACES),
            Inapplicable::new("short_lines", &[("min_words_per_line", self.min_words_per_line)], NO_SPACES),
            Inapplicable::switch(
                "unterminated_lines",
                "drop_unterminated_lines",
                drops_unterminated,
                NO_SENTENCE_MARKS,
            ),
            Inapplicable::new("sentences", &[("min_sentences", self.min_sentences)], NO_SENTENCE_MARKS),
            Inapplicable::switch(
                "policy_lines",
                "drop_policy_lines",
                self.drop_policy_lines,
                "there are no phrases for it",
            ),
        ]
    }

    /// Checks the thresholds.
    ///
    /// # Errors
    /// Returns the key and what is wrong with its value.
    pub fn validate(&self) -> Result<(), String> {
        let lines = [
            Criterion::at_most("max_word_chars", "word_chars", self.max_word_chars),
            Criterion::at_least("min_words_per_line", "words_per_line", self.min_words_per_line),
        ];
        threshold::validate(&lines)?;
        threshold::validate(&self.criteria())
    }
}

/// Drops lines of `text` and measures it.
pub fn clean(config: &Config, text: &Text<'_>, orthography: Orthography, scratch: &mut Scratch) -> Cleaned {
    let mut kept = String::with_capacity(text.as_str().len());
    let signals = lines(config, text, orthography, scratch, |line| {
        if !kept.is_empty() {
            kept.push('\n');
        }
        kept.push_str(line);
    });
    let cleaned = trim(&kept);
    let text = (cleaned != text.as_str()).then(|| cleaned.to_owned());
    Cleaned { text, signals }
}

/// Returns the [`SIGNALS`] of `text`.
pub fn measure(
    config: &Config,
    text: &Text<'_>,
    orthography: Orthography,
    scratch: &mut Scratch,
) -> [f64; SIGNALS.len()] {
    lines(config, text, orthography, scratch, |_| {})
}

/// Returns the first criterion that a document with these signals does not meet.
///
/// # Panics
/// Panics if `signals` are not those of this rule.
pub fn first_failure(config: &Config, signals: &[f64]) -> Option<Failure> {
    threshold::first_failure(&config.criteria(), &SIGNALS, signals)
}

/// Calls `keep` with each kept line and returns the signals. As in datatrove, a criterion for documents counts only the
/// lines that the rules before it did not drop.
fn lines(
    config: &Config,
    text: &Text<'_>,
    orthography: Orthography,
    scratch: &mut Scratch,
    mut keep: impl FnMut(&str),
) -> [f64; SIGNALS.len()] {
    let (has_words, has_sentences) = (orthography.separates_words(), orthography.ends_sentences());
    let own_phrases =
        if orthography == Orthography::ENGLISH { Some(&[][..]) } else { policy_phrases::of(orthography.language()) };
    let (mut all, mut long_word, mut unterminated, mut short) = (0, 0, 0, 0);
    let (mut lorem_ipsum, mut javascript, mut curly_bracket, mut policy) = (0, 0, 0, 0);
    let mut sentences = 0;
    for line in text.universal_lines() {
        all += 1;
        let whole = trim(line);
        if has_words && has_long_word(config, whole) {
            long_word += 1;
            continue;
        }
        let line = if config.remove_citations { without_citations(whole) } else { Cow::Borrowed(whole) };
        if has_sentences && config.drop_unterminated_lines.unwrap_or(true) && !orthography.is_terminated(&line) {
            unterminated += 1;
            continue;
        }
        if has_words && has_few_words(config, whole) {
            short += 1;
            continue;
        }
        let found = Phrases::find(&line);
        lorem_ipsum += usize::from(found.lorem_ipsum);
        if config.drop_javascript_lines && found.javascript {
            javascript += 1;
            continue;
        }
        curly_bracket += usize::from(line.contains('{'));
        if config.drop_policy_lines && (found.policy || has_phrase(own_phrases.unwrap_or_default(), &line)) {
            policy += 1;
            continue;
        }
        sentences += match &line {
            Cow::Borrowed(line) => sentences::count(text, text.words_of(line)),
            Cow::Owned(line) => {
                let line = scratch.line.split(line);
                sentences::count(&line, line.words())
            }
        };
        keep(&line);
    }
    let count_if = |applies: bool, count: usize| if applies { count as f64 } else { f64::NAN };
    [
        lorem_ipsum as f64,
        curly_bracket as f64,
        count_if(has_sentences, sentences),
        f64::from(all),
        count_if(has_words, long_word),
        count_if(has_sentences, unterminated),
        count_if(has_words, short),
        f64::from(javascript),
        // English phrases are found in any language.
        count_if(own_phrases.is_some() || policy > 0, policy),
    ]
}

fn has_phrase(phrases: &[&str], line: &str) -> bool {
    if phrases.is_empty() {
        return false;
    }
    let line = line.to_lowercase();
    phrases.iter().any(|phrase| line.contains(phrase))
}

fn has_long_word(config: &Config, line: &str) -> bool {
    // A line has at most as many characters as bytes, which settles nearly all lines without counting characters.
    config.max_word_chars.limit().is_some_and(|most| {
        line.len() as f64 > most && line.split(is_blank).any(|word| word.chars().count() as f64 > most)
    })
}

fn has_few_words(config: &Config, line: &str) -> bool {
    config.min_words_per_line.limit().is_some_and(|least| {
        let least = least.ceil() as usize;
        line.split(is_blank).filter(|word| !word.is_empty()).take(least).count() < least
    })
}

fn without_citations(line: &str) -> Cow<'_, str> {
    let mut rest = line;
    let mut kept = String::new();
    while let Some((start, length)) = next_citation(rest) {
        kept.push_str(&rest[..start]);
        rest = &rest[start + length..];
    }
    if rest.len() == line.len() { Cow::Borrowed(line) } else { Cow::Owned(kept + rest) }
}

/// Returns the start and the length of the next citation, in bytes.
fn next_citation(text: &str) -> Option<(usize, usize)> {
    text.match_indices('[').find_map(|(start, _)| {
        let inside = &text[start + 1..];
        let length = ["edit]", "citation needed]"].into_iter().find(|mark| inside.starts_with(mark)).map(str::len);
        let number = || inside.trim_start_matches(|c: char| c.is_ascii_digit());
        let length = length.or_else(|| number().starts_with(']').then(|| inside.len() - number().len() + 1));
        length.map(|length| (start, 1 + length))
    })
}

/// The phrases that a line contains.
#[derive(Debug, Clone, Copy, Default)]
struct Phrases {
    lorem_ipsum: bool,
    javascript: bool,
    policy: bool,
}

/// The phrases of policy lines; C4's list.
const POLICY: [&str; 6] =
    ["terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"];

/// The letters that start a search: each is rare in text, and every phrase has one, at the position of [`anchor`].
const fn is_anchor(byte: u8) -> bool {
    matches!(byte, b'j' | b'J' | b'k' | b'K' | b'v' | b'V' | b'm' | b'M')
}

impl Phrases {
    fn find(line: &str) -> Self {
        let mut found = Self::default();
        for (at, &byte) in line.as_bytes().iter().enumerate().filter(|(_, byte)| is_anchor(**byte)) {
            let is_here = |phrase: &str| {
                let start = at.checked_sub(anchor(phrase)?)?;
                line.as_bytes()
                    .get(start..start + phrase.len())
                    .filter(|here| here.eq_ignore_ascii_case(phrase.as_bytes()))
            };
            match byte {
                b'j' | b'J' => found.javascript |= is_here("javascript").is_some(),
                _ => {
                    found.lorem_ipsum |= is_here("lorem ipsum").is_some();
                    found.policy |= POLICY.iter().any(|phrase| is_here(phrase).is_some());
                }
            }
        }
        found
    }
}

/// Returns the position of the first anchor letter in `phrase`.
fn anchor(phrase: &str) -> Option<usize> {
    phrase.bytes().position(is_anchor)
}
