//! `diff`: two runs side by side.

use artifact::{Digest, file};
use serde_json::Value;

use crate::cli::experiments::DiffArgs;
use crate::commands::print_out;
use crate::run::comparison::{Changed, Comparison, Figure, SamplePair};
use crate::run::names;
use crate::run::values::{self, number_text, signed};
use crate::ui::{diff_page, summary};

/// The samples that are shown in the terminal; the page and the JSON have all.
const SAMPLES_SHOWN: usize = 3;

/// The characters of a sample that are shown in the terminal.
const SAMPLE_CHARS: usize = 300;

/// Runs the command.
pub fn run(arguments: &DiffArgs) -> anyhow::Result<()> {
    let layout = crate::commands::layout(&arguments.store)?;
    let (a, b) = (names::find(&layout, &arguments.a)?, names::find(&layout, &arguments.b)?);
    let comparison = Comparison::of(&a, &b);
    if let Some(path) = &arguments.html {
        file::write_atomically(path, diff_page::render(&comparison, &a, &b)?.as_bytes())?;
    }
    if arguments.json {
        return Ok(print_out!("{:#}", serde_json::to_value(&comparison)?)?);
    }
    print(&comparison)?;
    if let Some(path) = &arguments.html {
        print_out!("\nwrote {}", path.display())?;
    }
    Ok(())
}

fn print(comparison: &Comparison) -> anyhow::Result<()> {
    let Comparison { a, b, .. } = comparison;
    print_out!("{}", comparison.verdict)?;
    changes("configuration", &comparison.config, a, b)?;
    changes("environment", &comparison.environment, a, b)?;
    let mut table = summary::new_table();
    table.set_header(["artifact", a.as_str(), b.as_str()]);
    for pair in &comparison.artifacts {
        let digest = |digest: Option<Digest>| digest.map_or_else(|| "–".to_owned(), |digest| digest.short());
        let of_b = if pair.a == pair.b { "the same".to_owned() } else { digest(pair.b) };
        table.add_row([pair.stage.artifact().to_owned(), digest(pair.a), of_b]);
    }
    print_out!("\n{}", summary::text_of(&table))?;
    figures(&comparison.figures, a, b)?;
    let has_both = |pair: &&SamplePair| pair.a.is_some() && pair.b.is_some() && pair.a != pair.b;
    for pair in comparison.samples.iter().filter(has_both).take(SAMPLES_SHOWN) {
        print_out!("\nprompt {:?}", pair.prompt)?;
        for (name, text) in [(a, &pair.a), (b, &pair.b)] {
            let text: String = text.as_deref().unwrap_or("–").chars().take(SAMPLE_CHARS).collect();
            let text = crate::ui::console::printable(&text);
            for (i, line) in text.lines().enumerate() {
                print_out!("{:>12} │ {line}", if i == 0 { name.as_str() } else { "" })?;
            }
        }
    }
    Ok(())
}

fn changes(title: &str, changed: &[Changed], a: &str, b: &str) -> anyhow::Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let mut table = summary::new_table();
    table.set_header([title, a, b]);
    let text = |value: &Option<Value>| value.as_ref().map_or_else(|| "–".to_owned(), values::text);
    for row in changed {
        table.add_row([row.key.clone(), text(&row.a), text(&row.b)]);
    }
    Ok(print_out!("\n{}", summary::text_of(&table))?)
}

/// Prints the figures that differ, and how many only one run has.
fn figures(figures: &[Figure], a: &str, b: &str) -> anyhow::Result<()> {
    let only = |has: fn(&Figure) -> bool| figures.iter().filter(|figure| has(figure)).count();
    for (name, count) in [(a, only(|figure| figure.b.is_none())), (b, only(|figure| figure.a.is_none()))] {
        if count > 0 {
            print_out!("\nonly {name} has {count} more figures; --json lists them")?;
        }
    }
    let differing: Vec<&Figure> = figures.iter().filter(|figure| figure.difference.is_some_and(|d| d != 0.0)).collect();
    if differing.is_empty() {
        return Ok(());
    }
    let has_intervals = differing.iter().any(|figure| figure.interval.is_some());
    let mut table = summary::new_table();
    let mut header = vec!["figure", a, b, "difference"];
    header.extend(has_intervals.then_some("95 % interval"));
    table.set_header(header);
    for figure in differing {
        let number = |number: Option<f64>| number.map_or_else(|| "–".to_owned(), number_text);
        let difference = figure.difference.map_or_else(String::new, signed);
        let mut row = vec![format!("{}.{}", figure.stage, figure.name), number(figure.a), number(figure.b), difference];
        if has_intervals {
            let text = |interval: evaluate::Interval| {
                let chance = if interval.excludes_zero() { "" } else { " (chance)" };
                format!("{} to {}{chance}", signed(interval.low), signed(interval.high))
            };
            row.push(figure.interval.map(text).unwrap_or_default());
        }
        table.add_row(row);
    }
    summary::align_right(&mut table, 1..4);
    Ok(print_out!("\n{}", summary::text_of(&table))?)
}
