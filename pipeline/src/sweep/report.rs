//! The report of a sweep: a table for the terminal, and `report.html`.

use evaluate::chart::{Chart, Parallel, ParallelAxis, ParallelLine, Series};
use serde::Serialize;
use serde_json::Value;

use super::results::{Results, TrialResult};
use crate::run::values::{self, number_text};
use crate::ui::{page, summary};

/// Returns the table of results, the best trial first.
pub fn table(results: &Results) -> String {
    let mut table = summary::new_table();
    table.set_header(header(results));
    for trial in results.ranked() {
        table.add_row(row(results, trial));
    }
    summary::text_of(&table)
}

/// Returns the keys whose values differ between trials, in the order of the sweep.
fn keys(results: &Results) -> Vec<&str> {
    let mut keys: Vec<&str> = Vec::new();
    for key in results.trials.iter().flat_map(|trial| trial.values.keys()) {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    keys
}

fn header(results: &Results) -> Vec<&str> {
    let mut header = vec!["trial"];
    header.extend(keys(results));
    header.extend([results.metric.as_str(), "run"]);
    header
}

fn row(results: &Results, trial: &TrialResult) -> Vec<String> {
    let mut row = vec![trial.number.to_string()];
    row.extend(keys(results).iter().map(|key| trial.values.get(*key).map(values::text).unwrap_or_default()));
    row.push(figure(trial));
    let runs: Vec<&str> = trial.seeds.iter().filter_map(|seed| seed.run.as_deref()).collect();
    let error = trial.seeds.iter().find_map(|seed| seed.error.as_deref());
    row.push(error.map_or_else(|| runs.join(", "), |error| format!("failed: {error}")));
    row
}

fn figure(trial: &TrialResult) -> String {
    match (trial.mean, trial.half_width) {
        (Some(mean), Some(half)) => format!("{} ± {half:.2e}", number_text(mean)),
        (Some(mean), None) => number_text(mean),
        (None, _) => "–".to_owned(),
    }
}

#[derive(Serialize)]
struct Page<'a> {
    name: &'a str,
    metric: &'a str,
    goal: &'a str,
    trials: String,
    best: String,
    header: Vec<&'a str>,
    rows: Vec<Vec<String>>,
}

/// Returns the page of results.
///
/// # Errors
/// Returns an error as [`page::render`] does.
pub fn html(results: &Results) -> anyhow::Result<String> {
    let ranked = results.ranked();
    let best = ranked.first().filter(|trial| trial.mean.is_some());
    let data = Page {
        name: &results.sweep,
        metric: &results.metric,
        goal: if results.lower_is_better { "lower is better" } else { "higher is better" },
        trials: ranked.len().to_string(),
        best: best.map_or_else(|| "No trial has a figure.".to_owned(), |trial| best_text(trial)),
        header: header(results),
        rows: ranked.iter().map(|trial| row(results, trial)).collect(),
    };
    let charts = [("parallel_chart", parallel(results)), ("best_chart", best_so_far(results))];
    page::render(include_str!("report.html"), &data, &charts)
}

/// Returns what the best trial is, in one line.
pub fn best_text(trial: &TrialResult) -> String {
    let values: Vec<String> =
        trial.values.iter().map(|(key, value)| format!("{key} = {}", values::text(value))).collect();
    format!("Trial {} is the best, with {}: {}", trial.number, figure(trial), values.join(", "))
}

/// Plots each trial and the best figure so far, in the order in which they ran. Only trials of the last level that was
/// reached compare.
fn best_so_far(results: &Results) -> String {
    let level = results.trials.iter().map(|trial| trial.level).max().unwrap_or(0);
    let of_level = results.trials.iter().filter(|trial| trial.level == level);
    let figures: Vec<(f64, f64)> =
        of_level.zip(1..).map(|(trial, i)| (f64::from(i), trial.mean.unwrap_or(f64::NAN))).collect();
    let mut best = f64::NAN;
    let mut so_far = Vec::new();
    for (i, figure) in &figures {
        // A step, not a slope: nothing is between two trials.
        so_far.push((*i, best));
        if figure.is_finite() && (best.is_nan() || results.is_better(*figure, best)) {
            best = *figure;
        }
        so_far.push((*i, best));
    }
    // Points without a line between them.
    let points: Vec<(f64, f64)> = figures.iter().flat_map(|point| [*point, (point.0, f64::NAN)]).collect();
    let series = [
        Series { name: "trials", class: "line second", marked: true, points: &points },
        Series { name: "best so far", class: "line first", marked: false, points: &so_far },
    ];
    let title = format!("{} of the trials and of the best so far", results.metric);
    Chart { title: &title, x_label: "trials", width: 640.0, height: 300.0, from_zero: false, series: &series }.to_svg()
}

/// Plots the trials at their last level in parallel coordinates, the metric last.
fn parallel(results: &Results) -> String {
    let ranked = results.ranked();
    let keys = keys(results);
    let columns: Vec<Vec<Value>> = keys
        .iter()
        .map(|key| ranked.iter().map(|trial| trial.values.get(*key).cloned().unwrap_or_default()).collect())
        .chain([ranked.iter().map(|trial| trial.mean.map_or(Value::Null, Value::from)).collect()])
        .collect();
    let scales: Vec<Scale> = columns.iter().map(|column| Scale::of(column)).collect();
    let names = keys.iter().copied().chain([results.metric.as_str()]);
    let axes: Vec<ParallelAxis<'_>> =
        names.zip(&scales).map(|(name, scale)| ParallelAxis { name, ticks: scale.ticks() }).collect();
    let count = ranked.iter().filter(|trial| trial.mean.is_some()).count();
    let lines: Vec<ParallelLine> = ranked
        .iter()
        .enumerate()
        .map(|(i, trial)| ParallelLine {
            places: columns.iter().zip(&scales).map(|(column, scale)| scale.place(&column[i])).collect(),
            weight: 1.0 - i as f64 / count.max(1) as f64,
            is_best: i == 0 && trial.mean.is_some(),
            title: format!("trial {}, {}", trial.number, figure(trial)),
        })
        .collect();
    let title = format!("The trials by their values and {}", results.metric);
    let width = 160.0 * axes.len().max(4) as f64;
    Parallel { title: &title, width, height: 320.0, axes: &axes, lines: &lines }.to_svg()
}

/// Where the values of a column are on an axis.
enum Scale {
    /// Numbers, by their size, or by their logarithm where they span more than a factor of ten.
    Numbers { min: f64, max: f64, is_log: bool },
    /// Few or other values, evenly and in their order.
    Names(Vec<Value>),
}

impl Scale {
    /// Numbers of so few different values are marked one by one: heuristic, their labels fit an axis.
    const MAX_NAMES: usize = 8;

    fn of(column: &[Value]) -> Self {
        let mut different: Vec<Value> = column.iter().filter(|value| !value.is_null()).cloned().collect();
        different.sort_by(values::compare);
        different.dedup();
        let numbers: Option<Vec<f64>> = different.iter().map(Value::as_f64).collect();
        match numbers.as_deref() {
            Some([min, .., max]) if different.len() > Self::MAX_NAMES || different.iter().all(Value::is_f64) => {
                Self::Numbers { min: *min, max: *max, is_log: *min > 0.0 && max / min > 10.0 }
            }
            _ => Self::Names(different),
        }
    }

    fn place(&self, value: &Value) -> f64 {
        match self {
            Self::Numbers { min, max, is_log } => {
                let Some(value) = value.as_f64() else { return f64::NAN };
                if *is_log { (value / min).ln() / (max / min).ln() } else { (value - min) / (max - min) }
            }
            Self::Names(names) => match names.iter().position(|name| name == value) {
                Some(_) if names.len() == 1 => 0.5,
                Some(i) => i as f64 / (names.len() - 1) as f64,
                None => f64::NAN,
            },
        }
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        match self {
            Self::Numbers { min, max, is_log } => [0.0, 0.5, 1.0]
                .into_iter()
                .map(|place| {
                    let value = if *is_log { min * (max / min).powf(place) } else { min + (max - min) * place };
                    let rounded: f64 = format!("{value:.3e}").parse().unwrap_or(value);
                    (place, number_text(rounded))
                })
                .collect(),
            Self::Names(names) => names.iter().map(|name| (self.place(name), values::text(name))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_have_places_on_an_axis() {
        let check = |column: &[Value], expected: &[f64], ticks: &[&str]| {
            let scale = Scale::of(column);
            let found: Vec<f64> = column.iter().map(|value| scale.place(value)).collect();
            let is_same = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9 || (a.is_nan() && b.is_nan()));
            assert!(is_same && found.len() == expected.len(), "{found:?}");
            assert_eq!(scale.ticks().iter().map(|(_, label)| label.as_str()).collect::<Vec<_>>(), ticks);
        };
        check(&[json!(1.5), json!(2.5), json!(2.0)], &[0.0, 1.0, 0.5], &["1.5", "2", "2.5"]);
        check(&[json!(0.001), json!(0.1), json!(0.01)], &[0.0, 1.0, 0.5], &["0.001", "0.01", "0.1"]);
        check(&[json!(8), json!(2), json!(4)], &[1.0, 0.0, 0.5], &["2", "4", "8"]);
        check(&[json!("b"), json!("a"), Value::Null], &[1.0, 0.0, f64::NAN], &["a", "b"]);
        check(&[json!(3.5)], &[0.5], &["3.5"]);
        check(&[], &[], &[]);
    }
}
