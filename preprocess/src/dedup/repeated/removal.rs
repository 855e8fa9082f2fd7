//! The lines and paragraphs of one text, and the removal of repeated ones.

use xxhash_rust::xxh3::xxh3_64;

use super::{Config, Repeats};
use crate::dedup::shingles::mix;
use crate::dedup::words;

/// The hashes of a document's lines and paragraphs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    /// In ascending order, each once.
    hashes: Vec<u64>,
}

impl Hashes {
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.hashes.iter().copied()
    }
}

/// Buffers that are reused between texts.
#[derive(Debug, Default)]
pub struct Scratch {
    words: words::Scratch,
}

/// Returns the hashes of the lines and paragraphs of `text` that are long enough.
pub fn hashes(config: &Config, text: &str, scratch: &mut Scratch) -> Hashes {
    let mut hashes = Vec::new();
    for paragraph in paragraphs(text) {
        let hashed = Hashed::new(config, &paragraph, scratch);
        hashes.extend(hashed.lines.into_iter().chain([hashed.paragraph]).flatten());
    }
    hashes.sort_unstable();
    hashes.dedup();
    Hashes { hashes }
}

/// A text without its repeated lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The rest.
    pub text: String,
    /// Lines removed, those of removed paragraphs not counted.
    pub lines: u32,
    /// Paragraphs removed as a whole.
    pub paragraphs: u32,
}

impl Repeats {
    /// Returns `text`, of the document with this number, without its repeated lines; none if it has none.
    ///
    /// A paragraph that is removed completely is removed with the blank lines before it.
    pub fn remove(&self, config: &Config, document: u32, text: &str, scratch: &mut Scratch) -> Option<Removal> {
        let is_repeated = |hash: &Option<u64>| {
            let first = hash.and_then(|hash| self.first(hash));
            first.is_some_and(|first| !config.keep_first || first != document)
        };
        let mut removal = Removal { text: String::new(), lines: 0, paragraphs: 0 };
        let mut rest_starts = 0;
        for paragraph in paragraphs(text) {
            let hashed = Hashed::new(config, &paragraph, scratch);
            if is_repeated(&hashed.paragraph) {
                removal.paragraphs += 1;
                rest_starts = paragraph.end;
                continue;
            }
            let lines = hashed.lines.iter().zip(paragraph.lines());
            let kept: Vec<&str> = lines.filter(|(hash, _)| !is_repeated(hash)).map(|(_, line)| line).collect();
            removal.lines += (hashed.lines.len() - kept.len()) as u32;
            if !kept.is_empty() {
                if !removal.text.is_empty() || rest_starts == 0 {
                    removal.text.push_str(paragraph.blank);
                }
                removal.text.extend(kept);
            }
            rest_starts = paragraph.end;
        }
        if removal.lines == 0 && removal.paragraphs == 0 {
            return None;
        }
        if !removal.text.is_empty() {
            removal.text.push_str(&text[rest_starts..]);
        }
        // The line that is last now had one after it.
        if !text.ends_with('\n') {
            removal.text.truncate(removal.text.trim_end_matches('\n').len());
        }
        Some(removal)
    }
}

/// Consecutive lines without a blank one.
struct Paragraph<'a> {
    /// The blank lines before it.
    blank: &'a str,
    /// Its lines, with their ends.
    text: &'a str,
    /// Its end in the text, in bytes.
    end: usize,
}

impl<'a> Paragraph<'a> {
    fn lines(&self) -> impl Iterator<Item = &'a str> {
        self.text.split_inclusive('\n')
    }
}

fn paragraphs(text: &str) -> impl Iterator<Item = Paragraph<'_>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let is_blank = |line: &&str| line.trim().is_empty();
        let rest = &text[start..];
        let blank: usize = rest.split_inclusive('\n').take_while(is_blank).map(str::len).sum();
        let (blank, rest) = rest.split_at(blank);
        let length: usize = rest.split_inclusive('\n').take_while(|line| !is_blank(line)).map(str::len).sum();
        start += blank.len() + length;
        (length > 0).then(|| Paragraph { blank, text: &rest[..length], end: start })
    })
}

/// The hashes of a paragraph and of its lines; none if they are too short.
struct Hashed {
    lines: Vec<Option<u64>>,
    paragraph: Option<u64>,
}

impl Hashed {
    fn new(config: &Config, paragraph: &Paragraph<'_>, scratch: &mut Scratch) -> Self {
        // Where each starts, so that a paragraph is no line with the same words.
        let mut whole = Sum { hash: 1, characters: 0 };
        let mut lines = Vec::new();
        for line in paragraph.lines() {
            let mut sum = Sum { hash: 0, characters: 0 };
            words::for_each(line, &mut scratch.words, |word| {
                sum.add(word);
                whole.add(word);
            });
            lines.push(sum.finish(config).filter(|_| config.lines));
        }
        let is_wanted = config.paragraphs && lines.len() > 1;
        Self { paragraph: whole.finish(config).filter(|_| is_wanted), lines }
    }
}

/// A running hash of words, and their number of characters.
struct Sum {
    hash: u64,
    characters: u32,
}

impl Sum {
    fn add(&mut self, word: &[u8]) {
        self.hash = mix(self.hash ^ xxh3_64(word));
        // The bytes that begin a character.
        let characters = word.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        self.characters = self.characters.saturating_add(characters as u32);
    }

    fn finish(self, config: &Config) -> Option<u64> {
        (self.characters >= config.min_characters).then_some(self.hash)
    }
}
