//! The ratings of the models that people judged.

use std::collections::HashMap;

use artifact::Digest;
use evaluate::rating::{Judgement, Preference, Rating, ratings};
use serde::Serialize;

use crate::ui::summary;

use super::votes::{Side, Vote};

/// The ratings over all votes.
#[derive(Debug, Serialize)]
pub struct Table {
    /// The number of votes.
    pub votes: usize,
    /// The models, the best first.
    pub models: Vec<Rated>,
}

/// A model with its rating.
#[derive(Debug, Serialize)]
pub struct Rated {
    /// Its last name; with the beginning of its digest if another model has the same.
    pub model: String,
    /// The digest of its files.
    pub digest: Digest,
    /// The rating.
    #[serde(flatten)]
    pub rating: Rating,
}

impl Table {
    /// Returns the ratings over `votes`.
    pub fn of(votes: &[Vote]) -> Self {
        let mut numbers: HashMap<Digest, usize> = HashMap::new();
        let mut names: Vec<(Digest, String)> = Vec::new();
        let mut judgements = Vec::with_capacity(votes.len());
        for vote in votes {
            let models = [&vote.left, &vote.right].map(|answer| {
                let number = *numbers.entry(answer.digest).or_insert(names.len());
                if number == names.len() {
                    names.push((answer.digest, String::new()));
                }
                names[number].1.clone_from(&answer.model);
                number
            });
            let preference = match vote.better {
                Side::Left => Preference::First,
                Side::Right => Preference::Second,
                Side::Neither => Preference::Tie,
            };
            judgements.push(Judgement { models, preference });
        }
        let ratings = ratings(names.len(), &judgements);
        let rated = |((digest, name), rating): (&(Digest, String), Rating)| {
            let is_unique = names.iter().filter(|(_, other)| other == name).count() == 1;
            let model = if is_unique { name.clone() } else { format!("{name} ({})", digest.short()) };
            Rated { model, digest: *digest, rating }
        };
        let mut models: Vec<Rated> = names.iter().zip(ratings).map(rated).collect();
        models.sort_by(|a, b| b.rating.rating.total_cmp(&a.rating.rating));
        Self { votes: votes.len(), models }
    }

    /// Returns the ratings as a table for a terminal.
    pub fn text(&self) -> String {
        let mut table = summary::new_table();
        table.set_header(["model", "rating", "95 % interval", "votes", "won", "tied", "lost"]);
        for Rated { model, rating, .. } in &self.models {
            let Rating { rating, interval, won, tied, lost } = rating;
            let interval = match interval {
                Some(interval) => format!("{:.0} to {:.0}", interval.low, interval.high),
                None if *won > 0 => "no upper end".to_owned(),
                None => "no lower end".to_owned(),
            };
            let counts = [won + tied + lost, *won, *tied, *lost].map(|count| count.to_string());
            let row = [model.clone(), format!("{rating:.0}"), interval];
            table.add_row(row.into_iter().chain(counts));
        }
        summary::align_right(&mut table, 1..7);
        let unbounded = self.models.iter().any(|model| model.rating.interval.is_none());
        let note =
            if unbounded { "\nOf a model that won or lost every time, only more votes tell how far." } else { "" };
        format!("{}\nOf two models 100 apart, the better one wins 64 % of the votes.{note}", summary::text_of(&table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::votes::tests::vote;

    #[test]
    fn models_accumulate_by_their_digests() {
        let mut votes = vec![
            vote("a", "b", Side::Left),
            vote("b", "a", Side::Right),
            vote("b", "c", Side::Left),
            vote("c", "b", Side::Neither),
            vote("b", "c", Side::Right),
        ];
        let table = Table::of(&votes);
        let rows: Vec<String> = table
            .models
            .iter()
            .map(|Rated { model, rating, .. }| format!("{model} {} {} {}", rating.won, rating.tied, rating.lost))
            .collect();
        assert_eq!(rows, ["a 2 0 0", "c 1 1 1", "b 1 1 3"]);
        assert!(table.text().contains("no upper end") && table.text().contains("only more votes tell"));
        // The same files under another name are the same model; other files under the same name are another.
        votes[4].left.model = "best".to_owned();
        votes[4].right.digest = Digest::of(b"other");
        let names: Vec<String> = Table::of(&votes).models.into_iter().map(|rated| rated.model).collect();
        assert!(names.contains(&"best".to_owned()) && !names.contains(&"b".to_owned()), "{names:?}");
        assert_eq!(names.iter().filter(|name| name.starts_with("c (")).count(), 2, "{names:?}");
        assert!(Table::of(&[]).models.is_empty());
    }
}
