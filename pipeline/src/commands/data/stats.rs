//! `data stats`: lengths, languages, licences and duplicates of a dataset.

use std::collections::BTreeMap;

use artifact::format::grouped;
use preprocess::inspect::{self, SHARES, Stats};

use super::corpus::corpus;
use crate::cli::data::StatsArgs;
use crate::commands::print_out;
use crate::ui::summary;
use artifact::format::bytes;

/// Rows of a table of names.
const SHOWN_ROWS: usize = 12;

/// Runs the command.
pub fn run(arguments: &StatsArgs) -> anyhow::Result<()> {
    let (corpus, context) = corpus(&arguments.corpus)?;
    let stats = inspect::stats(&corpus, &context)?;
    print_out!("{} documents, {}", grouped(stats.documents), bytes(stats.bytes))?;
    if stats.conversations > 0 {
        print_out!("{} of them are conversations", grouped(stats.conversations))?;
    }
    let counts = &corpus.manifest().counts;
    for what in ["pictures", "sounds"] {
        let count = |key: &str| counts.get(key).and_then(serde_json::Value::as_u64);
        if let (Some(items), Some(length)) = (count(what), count(&format!("{what}_bytes"))) {
            print_out!("with {} {what}, {}", grouped(items), bytes(length))?;
        }
    }
    if stats.invalid_utf8 > 0 {
        print_out!("{} of them are not UTF-8", grouped(stats.invalid_utf8))?;
    }
    print_out!("\nlength\n{}", lengths(&stats))?;
    for (what, counts) in [("licence", &stats.licences), ("source", &stats.sources), ("language", &stats.languages)] {
        print_out!("\n{}", names(what, counts))?;
    }
    let percent = |count: u64| 100.0 * count as f64 / stats.looked_at.max(1) as f64;
    print_out!(
        "\nduplicates: {} are equal to an earlier document ({:.1} %), {} are nearly equal to one ({:.1} %)",
        grouped(stats.equal),
        percent(stats.equal),
        grouped(stats.similar),
        percent(stats.similar)
    )?;
    if stats.looked_at < stats.documents {
        print_out!("languages and duplicates are measured on the first {} documents", grouped(stats.looked_at))?;
    }
    Ok(())
}

fn lengths(stats: &Stats) -> String {
    let words = |share: f64| match share {
        0.0 => "shortest".to_owned(),
        0.5 => "median".to_owned(),
        1.0 => "longest".to_owned(),
        share => format!("{:.0} %", 100.0 * share),
    };
    let line = |(share, length): (f64, u64)| format!("  {:>8}  {}", words(share), bytes(length));
    SHARES.into_iter().zip(stats.lengths).map(line).collect::<Vec<_>>().join("\n")
}

fn names(what: &str, counts: &BTreeMap<String, (u64, u64)>) -> String {
    let mut rows: Vec<(&String, &(u64, u64))> = counts.iter().collect();
    rows.sort_by(|a, b| b.1.1.cmp(&a.1.1).then_with(|| a.0.cmp(b.0)));
    let mut table = summary::new_table();
    table.set_header([what, "documents", "bytes"]);
    for (name, (documents, length)) in rows.iter().take(SHOWN_ROWS) {
        table.add_row([super::dropped::printable(name), grouped(*documents), bytes(*length)]);
    }
    if rows.len() > SHOWN_ROWS {
        table.add_row([format!("and {} more", rows.len() - SHOWN_ROWS), String::new(), String::new()]);
    }
    summary::align_right(&mut table, 1..3);
    summary::text_of(&table)
}
