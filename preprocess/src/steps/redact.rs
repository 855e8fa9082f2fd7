//! The step `redact`: personal data and secrets give way to typed placeholders, or the document is dropped.
//!
//! In: a text. Out: the text without what was found, and how many there were of each [`Kind`]. Never: a found value in an
//! error, a log line or a `Debug` output.
//!
//! One pass over the bytes stops at what can begin a find (`@`, a digit, a colon, some literals such as `ghp_`), and
//! only there does a kind's own module look closer. Nothing looks further than a fixed number of bytes around such a
//! place, or passes over what it has seen, so time is linear in the text whatever it holds.

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
use scan::{Hit, Scanner};

/// A text without what was found in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Redacted<'a> {
    /// The text with placeholders; the text as it came where there are none. Placeholders stand in a dropped document
    /// too, so that it can be shown.
    pub text: Cow<'a, str>,
    /// Finds of each kind, in the order of [`Kind::ALL`].
    pub counts: [u32; KINDS],
    /// Whether a kind was found whose action is [`Action::Drop`].
    pub dropped: bool,
}

/// Finds and replaces what a [`Config`] names. Made once, used by any number of threads.
#[derive(Debug)]
pub struct Redactor {
    scanner: Scanner,
    actions: [Action; KINDS],
}

/// A replacement can bring a new find about, as when it takes away what overlapped with it; texts are gone over until
/// there is none, which ordinary ones are after the second time. The bound keeps time linear.
const MOST_PASSES: usize = 16;

impl Redactor {
    /// Makes ready to look for what `config` names.
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn new(config: &Config) -> Result<Self, String> {
        config.validate()?;
        Ok(Self { scanner: Scanner::new(config)?, actions: Kind::ALL.map(|kind| config.action(kind)) })
    }

    /// Returns `text` without what is looked for. Redacting the result again changes nothing, but where more than 16
    /// finds hang together so that each comes about by the replacement of the one before.
    pub fn redact<'a>(&self, text: &'a str) -> Redacted<'a> {
        let mut counts = [0; KINDS];
        let mut clean = Cow::Borrowed(text);
        for _ in 0..MOST_PASSES {
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

/// Returns `text` with a placeholder for each of `hits`, which are in order and apart.
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
