//! The votes of a store: `votes.jsonl`, a line for each.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use artifact::{Digest, file};
use serde::{Deserialize, Serialize};

/// The answer of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The model's name when it was asked.
    pub model: String,
    /// The digest of its files: two models of one name are told apart, and one model of two names is one.
    pub digest: Digest,
    /// The text.
    pub text: String,
}

/// Which answer is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The left one.
    Left,
    /// The right one.
    Right,
    /// Neither.
    Neither,
}

/// A vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// When, UTC, RFC 3339.
    pub time: String,
    /// The prompt as it was shown.
    pub prompt: String,
    /// The seed of the session.
    pub seed: u64,
    /// The answer on the left.
    pub left: Answer,
    /// The answer on the right.
    pub right: Answer,
    /// Which one is better.
    pub better: Side,
}

/// All votes of a store.
#[derive(Debug)]
pub struct Votes {
    path: PathBuf,
    all: Vec<Vote>,
}

impl Votes {
    /// Reads the votes in `path`, which need not exist. A last line that was cut off, as by a power failure, is
    /// ignored.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or a line is not a vote.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            other => other.with_context(|| format!("cannot read the votes in {}", path.display()))?,
        };
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let vote = |(i, line): (usize, &str)| {
            serde_json::from_str(line)
                .with_context(|| format!("{}:{}: this is not a vote; remove the line", path.display(), i + 1))
        };
        let lines = whole.lines().enumerate().filter(|(_, line)| !line.is_empty());
        Ok(Self { path: path.to_owned(), all: lines.map(vote).collect::<anyhow::Result<_>>()? })
    }

    /// Appends a vote to the file.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn append(&mut self, vote: Vote) -> anyhow::Result<()> {
        if let Some(folder) = self.path.parent() {
            file::create_folder(folder)?;
        }
        let failed = || format!("cannot write to {}", self.path.display());
        let mut line = serde_json::to_vec(&vote)?;
        line.push(b'\n');
        let mut options = OpenOptions::new();
        options.create(true).read(true).write(true).truncate(false);
        let mut file = options.open(&self.path).with_context(failed)?;
        // Until the file is closed, no other session writes.
        file.lock().with_context(failed)?;
        let mut written = Vec::new();
        file.read_to_end(&mut written).with_context(failed)?;
        let whole = written.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        // A line that was cut off makes way.
        file.set_len(whole as u64).and_then(|()| file.seek(SeekFrom::End(0))).with_context(failed)?;
        file.write_all(&line).and_then(|()| file.sync_data()).with_context(failed)?;
        self.all.push(vote);
        Ok(())
    }

    /// Returns the votes, the earliest first.
    pub fn all(&self) -> &[Vote] {
        &self.all
    }

    /// Returns true if a session of `seed` has voted on the answers of two models to a prompt.
    pub fn has(&self, models: [Digest; 2], prompt: &str, seed: u64) -> bool {
        self.all.iter().any(|vote| {
            let found = [vote.left.digest, vote.right.digest];
            vote.seed == seed && vote.prompt == prompt && (found == models || found == [models[1], models[0]])
        })
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Returns a vote on two models that are named by a letter.
    pub fn vote(left: &str, right: &str, better: Side) -> Vote {
        let answer = |model: &str| Answer {
            model: model.to_owned(),
            digest: Digest::of(model.as_bytes()),
            text: format!("by {model}"),
        };
        let (left, right) = (answer(left), answer(right));
        Vote { time: "2026-01-01T00:00:00Z".to_owned(), prompt: "p\n".to_owned(), seed: 3, left, right, better }
    }

    #[test]
    fn votes_outlive_a_cut_and_other_lines_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/votes.jsonl");
        let all = [vote("a", "b", Side::Left), vote("b", "c", Side::Neither), vote("b", "a", Side::Right)];
        let mut votes = Votes::open(&path).unwrap();
        votes.append(all[0].clone()).unwrap();
        votes.append(all[1].clone()).unwrap();
        assert_eq!(Votes::open(&path).unwrap().all(), &all[..2]);
        let text = fs::read_to_string(&path).unwrap();
        // Cut off within the second line: the first stays, and the next vote replaces the rest.
        fs::write(&path, &text[..text.len() - 10]).unwrap();
        let mut votes = Votes::open(&path).unwrap();
        assert_eq!(votes.all(), &all[..1]);
        votes.append(all[2].clone()).unwrap();
        assert_eq!(Votes::open(&path).unwrap().all(), [all[0].clone(), all[2].clone()]);
        fs::write(&path, "{}\n").unwrap();
        let error = Votes::open(&path).unwrap_err().to_string();
        assert!(error.ends_with("votes.jsonl:1: this is not a vote; remove the line"), "{error}");

        let digests = ["a", "b", "c"].map(|model| Digest::of(model.as_bytes()));
        votes.all = all.to_vec();
        assert!(votes.has([digests[0], digests[1]], "p\n", 3) && votes.has([digests[1], digests[0]], "p\n", 3));
        assert!(!votes.has([digests[0], digests[2]], "p\n", 3) && !votes.has([digests[0], digests[1]], "p\n", 4));
    }
}
