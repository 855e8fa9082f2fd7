//! Judging the answers of two models: which pairs are asked, in which order, and what people said.
//!
//! In: two models and prompts. Out: a line of `votes.jsonl` in the store for each vote, and ratings over all of them. A
//! pair is shown without the models' names, each side at random; its order and sides follow from the seed.

pub mod duels;
pub mod table;
pub mod votes;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use duels::{Duel, Duels};
use votes::{Side, Vote, Votes};

use crate::platform::clock;

/// What a person says of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The left answer is better.
    Left,
    /// The right answer is better.
    Right,
    /// Neither is.
    Tie,
    /// Nothing; the pair is asked again in the next session.
    Skip,
}

/// A session of votes, of which each is kept at once.
pub struct Judging {
    duels: Duels,
    votes: Votes,
    asked: Option<Duel>,
    /// Pairs that this session is done with.
    done: usize,
}

impl Judging {
    /// Begins a session over `duels`.
    pub fn new(duels: Duels, votes: Votes) -> Self {
        Self { duels, votes, asked: None, done: 0 }
    }

    /// Returns the pair to ask, none at the end; waits until both models have answered. Of two equal answers neither is
    /// better, which is a vote too.
    ///
    /// # Errors
    /// Returns an error if a model fails, or a vote cannot be written.
    pub fn ask(&mut self) -> anyhow::Result<Option<&Duel>> {
        while self.asked.is_none() {
            let Some(duel) = self.duels.next().transpose()? else { return Ok(None) };
            let is_tie = duel.sides[0].text == duel.sides[1].text;
            self.asked = Some(duel);
            if is_tie {
                self.choose(Choice::Tie)?;
            }
        }
        Ok(self.asked.as_ref())
    }

    /// Keeps what a person said of the pair that was asked.
    ///
    /// # Errors
    /// Returns an error if the vote cannot be written.
    pub fn choose(&mut self, choice: Choice) -> anyhow::Result<()> {
        let Some(Duel { prompt, seed, sides, .. }) = self.asked.take() else { return Ok(()) };
        self.done += 1;
        let better = match choice {
            Choice::Left => Side::Left,
            Choice::Right => Side::Right,
            Choice::Tie => Side::Neither,
            Choice::Skip => return Ok(()),
        };
        let [left, right] = sides;
        let vote = Vote { time: clock::now(), prompt, seed, left, right, better };
        self.votes.append(vote).context("cannot keep the vote")
    }

    /// Returns the pairs that this session is done with, and all that it has.
    pub fn progress(&self) -> (usize, usize) {
        (self.done, self.duels.total())
    }

    /// Returns all votes of the store.
    pub fn votes(&self) -> &Votes {
        &self.votes
    }
}
