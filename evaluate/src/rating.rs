//! Ratings of models from pairwise judgements of their answers.
//!
//! In the model of Bradley and Terry (Rank Analysis of Incomplete Block Designs, 1952), a model of strength `a` is
//! preferred to one of strength `b` with a probability of `a / (a + b)`. The strengths are fitted by
//! minorisation-maximisation (Hunter, MM Algorithms for Generalized Bradley-Terry Models, 2004). A tie is half a win
//! for both sides.

use rayon::prelude::*;
use serde::Serialize;

use crate::intervals::{self, Interval, RESAMPLES};

/// Ties that each model is given against all others together, so that every rating is finite. Of two models, that is
/// the posterior mean under Jeffreys' prior for their win rate.
const PRIOR_TIES: f64 = 1.0;

/// The mean of all ratings, and how much further one is that is preferred ten times as often: those of Elo.
const MEAN: f64 = 1000.0;
const TENFOLD: f64 = 400.0;

/// The largest relative change of a strength at which the fit ends.
const TOLERANCE: f64 = 1e-9;

/// The most steps of a fit; they come close to the maximum long before.
const MAX_STEPS: usize = 10_000;

/// Which of two answers is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preference {
    /// The first.
    First,
    /// The second.
    Second,
    /// Neither.
    Tie,
}

/// A judgement of the answers of two models, which are numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// The two models.
    pub models: [usize; 2],
    /// Whose answer is better.
    pub preference: Preference,
}

/// The rating of a model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rating {
    /// The rating: 1000 is the mean of all models, and 400 more are preferred ten times as often.
    pub rating: f64,
    /// Its 95 % bootstrap interval over the judgements; none for a model that won or lost every time, since no resample
    /// says how far the rating may be from the others'.
    pub interval: Option<Interval>,
    /// Judgements that preferred this model.
    pub won: u64,
    /// Judgements that preferred neither.
    pub tied: u64,
    /// Judgements that preferred the other model.
    pub lost: u64,
}

/// Returns the ratings of `models` models. The same judgements in the same order have the same ratings and intervals.
pub fn ratings(models: usize, judgements: &[Judgement]) -> Vec<Rating> {
    let points = |chosen: &mut dyn Iterator<Item = &Judgement>| -> Vec<f64> {
        let strengths = strengths(&wins(models, PRIOR_TIES, chosen));
        strengths.into_iter().map(|strength| MEAN + TENFOLD * strength.log10()).collect()
    };
    let fitted = points(&mut judgements.iter());
    let resamples: Vec<Vec<f64>> = (0..RESAMPLES)
        .into_par_iter()
        .map(|number| points(&mut intervals::drawn(judgements.len(), number).map(|index| &judgements[index])))
        .collect();
    let rating = |(model, rating): (usize, f64)| {
        let count = |outcome: f64| judgements.iter().filter(|one| one.score_of(model) == Some(outcome)).count() as u64;
        let (won, tied, lost) = (count(1.0), count(0.5), count(0.0));
        let is_bounded = won + tied > 0 && lost + tied > 0;
        let interval = is_bounded.then(|| intervals::quantiles(resamples.iter().map(|points| points[model]).collect()));
        Rating { rating, interval, won, tied, lost }
    };
    fitted.into_iter().enumerate().map(rating).collect()
}

impl Judgement {
    /// Returns what a model gets of the judgement: 1, 0.5 or 0; none if it is about others.
    fn score_of(&self, model: usize) -> Option<f64> {
        let side = self.models.iter().position(|other| *other == model)?;
        Some(match (self.preference, side) {
            (Preference::Tie, _) => 0.5,
            (Preference::First, 0) | (Preference::Second, 1) => 1.0,
            _ => 0.0,
        })
    }
}

/// Returns how often each model won against each other one, `[winner][loser]`.
fn wins<'a>(models: usize, prior_ties: f64, judgements: impl Iterator<Item = &'a Judgement>) -> Vec<Vec<f64>> {
    let of_pair = prior_ties / 2.0 / models.saturating_sub(1).max(1) as f64;
    let mut wins = vec![vec![of_pair; models]; models];
    for (model, row) in wins.iter_mut().enumerate() {
        row[model] = 0.0;
    }
    for judgement in judgements {
        let [first, second] = judgement.models;
        let score = judgement.score_of(first).unwrap_or_default();
        wins[first][second] += score;
        wins[second][first] += 1.0 - score;
    }
    wins
}

/// Returns the strengths that make `wins` most likely, with a geometric mean of 1. They exist if every model has won
/// and lost against others, directly or through a chain of models (Ford, 1957).
fn strengths(wins: &[Vec<f64>]) -> Vec<f64> {
    let models = wins.len();
    let mut strengths = vec![1.0; models];
    for _ in 0..MAX_STEPS {
        let mut next: Vec<f64> = (0..models)
            .map(|i| {
                let others = || (0..models).filter(|j| *j != i);
                let won: f64 = others().map(|j| wins[i][j]).sum();
                let met: f64 = others().map(|j| (wins[i][j] + wins[j][i]) / (strengths[i] + strengths[j])).sum();
                if met > 0.0 { won / met } else { 1.0 }
            })
            .collect();
        let mean = (next.iter().map(|strength| strength.ln()).sum::<f64>() / models as f64).exp();
        for strength in &mut next {
            *strength /= mean;
        }
        let change = strengths.iter().zip(&next).map(|(old, new)| (new / old - 1.0).abs()).fold(0.0, f64::max);
        strengths = next;
        if change < TOLERANCE {
            break;
        }
    }
    strengths
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns `counts` judgements of models `a` and `b`: won by `a`, won by `b`, ties.
    fn judged(a: usize, b: usize, [won, lost, tied]: [usize; 3]) -> Vec<Judgement> {
        let of = |preference, count| std::iter::repeat_n(Judgement { models: [a, b], preference }, count);
        let all = of(Preference::First, won).chain(of(Preference::Second, lost)).chain(of(Preference::Tie, tied));
        all.collect()
    }

    #[test]
    fn baseball_teams_have_the_known_abilities() {
        // The American League of 1987 (Agresti, Categorical Data Analysis): wins of the row against the column. The
        // abilities are those of R's BradleyTerry2, the logarithms of strengths with Baltimore's as 0.
        let wins: [[u32; 7]; 7] = [
            [0, 7, 9, 7, 7, 9, 11],
            [6, 0, 7, 5, 11, 9, 9],
            [4, 6, 0, 7, 7, 8, 12],
            [6, 8, 6, 0, 6, 7, 10],
            [6, 2, 6, 7, 0, 7, 12],
            [4, 4, 5, 6, 6, 0, 6],
            [2, 4, 1, 3, 1, 7, 0],
        ];
        let strengths = strengths(&wins.map(|row| row.map(f64::from).to_vec()));
        let expected = [1.5814, 1.4364, 1.2945, 1.2476, 1.1077, 0.6839, 0.0];
        for (strength, expected) in strengths.iter().zip(expected) {
            assert!(((strength / strengths[6]).ln() - expected).abs() < 5e-5, "{strengths:?}");
        }
    }

    #[test]
    fn two_models_differ_by_their_odds() {
        let check = |counts, odds: f64| {
            let [a, b] = ratings(2, &judged(0, 1, counts))[..] else { panic!("two ratings") };
            assert!((a.rating - b.rating - 400.0 * odds.log10()).abs() < 1e-4, "{a:?} {b:?}");
            assert!((a.rating + b.rating - 2000.0).abs() < 1e-6);
        };
        // Each with half a win of the prior.
        check([0, 0, 0], 1.0);
        check([3, 1, 0], 3.5 / 1.5);
        check([3, 1, 6], 6.5 / 4.5);
        check([0, 0, 9], 1.0);
        check([10, 0, 0], 10.5 / 0.5);
    }

    #[test]
    fn a_model_that_always_wins_is_finite_and_without_an_interval() {
        let all = [judged(0, 1, [8, 0, 0]), judged(1, 2, [5, 3, 1])].concat();
        let [first, second, third] = ratings(3, &all)[..] else { panic!("three ratings") };
        assert!(first.rating.is_finite() && first.rating > second.rating && second.rating > third.rating);
        assert_eq!((first.won, first.tied, first.lost, first.interval), (8, 0, 0, None));
        assert_eq!((third.won, third.tied, third.lost), (3, 1, 5));
        let Interval { low, high } = third.interval.unwrap();
        assert!(low < third.rating && third.rating < high);
        // Models that were never compared are not told apart.
        let [a, b, c, d] = ratings(4, &[judged(0, 1, [5, 1, 0]), judged(2, 3, [5, 1, 0])].concat())[..] else {
            panic!("four ratings")
        };
        assert!((a.rating - c.rating).abs() < 1e-3 && (b.rating - d.rating).abs() < 1e-3 && a.rating > b.rating);
    }

    #[test]
    fn the_side_does_not_matter_and_intervals_are_reproducible() {
        let one = judged(0, 1, [12, 7, 3]);
        let other: Vec<Judgement> = one
            .iter()
            .map(|judgement| {
                let preference = match judgement.preference {
                    Preference::First => Preference::Second,
                    Preference::Second => Preference::First,
                    Preference::Tie => Preference::Tie,
                };
                Judgement { models: [1, 0], preference }
            })
            .collect();
        assert_eq!(ratings(2, &one), ratings(2, &other));
        assert_eq!(ratings(0, &[]), []);
    }

    #[test]
    fn intervals_cover_the_strengths_that_made_the_judgements() {
        use rand_chacha::ChaCha8Rng;
        use rand_chacha::rand_core::{Rng, SeedableRng};
        // Model 0 is preferred two times of three: 120 points more.
        let covers = |seed| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut won = [0, 0, 0];
            for _ in 0..60 {
                won[usize::from(random.next_u64() % 3 == 0)] += 1;
            }
            let Interval { low, high } = ratings(2, &judged(0, 1, won))[0].interval.unwrap();
            let expected = 1000.0 + 200.0 * 2f64.log10();
            low <= expected && expected <= high
        };
        let covered = (0..200).filter(|seed| covers(*seed)).count();
        assert!((182..=197).contains(&covered), "{covered} of 200, and about 95 % are expected");
    }
}
