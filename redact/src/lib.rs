//! Personal data and secrets in texts: finds them, and replaces them by typed placeholders.
//!
//! In: a text. Out: the redacted text, and the number of finds of each [`Kind`]; or where the finds are. Never: a found
//! value in an error, a log line or `Debug` output. Step `redact` of stage preprocess cleans documents with it, and
//! stage evaluate searches what a model writes.
//!
//! One pass over the bytes stops at triggers (`@`, a digit, a colon, some literals such as `ghp_`), and only there a
//! kind's own module examines the text. It reads no further than a fixed number of bytes around a trigger, or skips
//! what it has read, so time is linear in the length of any text.

mod card;
#[cfg(test)]
mod cases;
mod config;
mod context;
mod digits;
mod email;
mod iban;
mod ip;
mod phone;
mod scan;
mod secret;
mod url;
mod user;

use std::borrow::Cow;
use std::fmt;

pub use config::{Action, Config, KINDS, Kind};
pub use scan::Hit;
use scan::Scanner;

/// A redacted text.
#[derive(Clone, PartialEq, Eq)]
pub struct Redacted<'a> {
    /// The text with placeholders; the original text if there are none. A dropped document has placeholders too, so
    /// that it can be shown.
    pub text: Cow<'a, str>,
    /// The number of finds of each kind, in the order of [`Kind::ALL`].
    pub counts: [u32; KINDS],
    /// True if there is a find of a kind whose action is [`Action::Drop`].
    pub dropped: bool,
}

/// Finds and replaces the kinds of a [`Config`]. Created once, used by any number of threads.
#[derive(Debug)]
pub struct Redactor {
    scanner: Scanner,
    actions: [Action; KINDS],
}

/// A replacement may produce a new find, for example by removing an overlapping one, so passes are repeated until there
/// is none; ordinary texts need two. The limit keeps time linear.
const MAX_PASSES: usize = 16;

impl Redactor {
    /// Returns the redactor for the kinds of `config`.
    ///
    /// # Errors
    /// See [`Config::validate`].
    pub fn new(config: &Config) -> Result<Self, String> {
        config.validate()?;
        Ok(Self { scanner: Scanner::new(config)?, actions: Kind::ALL.map(|kind| config.action(kind)) })
    }

    /// Returns the finds in `text`, in its order and without overlaps.
    pub fn find(&self, text: &str) -> Vec<Hit> {
        self.scanner.find(text)
    }

    /// Returns `text` redacted. Redaction is idempotent, except for chains of more than 16 finds, each of which appears
    /// only after the replacement of the one before.
    pub fn redact<'a>(&self, text: &'a str) -> Redacted<'a> {
        let mut counts = [0; KINDS];
        let mut clean = Cow::Borrowed(text);
        for _ in 0..MAX_PASSES {
            let hits = self.scanner.find(&clean);
            if hits.is_empty() {
                break;
            }
            for hit in &hits {
                counts[hit.kind as usize] += 1;
            }
            clean = Cow::Owned(replaced(&clean, &hits));
        }
        let dropped = counts.iter().zip(self.actions).any(|(count, action)| *count > 0 && action == Action::Drop);
        Redacted { text: clean, counts, dropped }
    }
}

/// Returns `text` with a placeholder for each of `hits`, which are sorted and do not overlap.
fn replaced(text: &str, hits: &[Hit]) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut done = 0;
    for hit in hits {
        clean.push_str(&text[done..hit.range.start]);
        clean.push_str(hit.kind.placeholder());
        done = hit.range.end;
    }
    clean.push_str(&text[done..]);
    clean
}

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redacted")
            .field("text_bytes", &self.text.len())
            .field("counts", &self.counts)
            .field("dropped", &self.dropped)
            .finish()
    }
}
