//! `data what-if`: what other thresholds would keep.

use anyhow::bail;
use artifact::format::grouped;
use preprocess::inspect::{self, Amount};
use serde_json::Value;

use crate::cli::data::WhatIfArgs;
use crate::commands::print_out;
use crate::run::names;
use crate::run::stage::Stage;
use crate::ui::summary;

/// Runs the command.
pub fn run(arguments: &WhatIfArgs) -> anyhow::Result<()> {
    let run = names::find_with(&crate::commands::layout(&arguments.store)?, &arguments.run, Stage::Preprocess)?;
    let tokens = run.artifact(Stage::Preprocess)?;
    let overrides = arguments.overrides.iter().map(|text| assignment(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let answer = inspect::what_if(&tokens, &overrides)?;
    let mut table = summary::new_table();
    table.set_header(["dropped by", "documents now", "then", "tokens now", "then"]);
    let row = |name: &str, now: Amount, then: Amount| {
        [name.to_owned(), grouped(now.documents), grouped(then.documents), grouped(now.tokens), grouped(then.tokens)]
    };
    for change in &answer.steps {
        table.add_row(row(change.step.name(), change.now, change.then));
    }
    table.add_row(row("(kept)", answer.now, answer.then));
    summary::align_right(&mut table, 1..5);
    print_out!("{}", summary::text_of(&table))?;
    print_out!(
        "gained {} documents, {} tokens; lost {} documents, {} tokens",
        grouped(answer.gained.documents),
        grouped(answer.gained.tokens),
        grouped(answer.lost.documents),
        grouped(answer.lost.tokens)
    )?;
    if answer.not_compared > 0 {
        print_out!(
            "{} of the gained documents were never compared with others: a run may find duplicates among them",
            grouped(answer.not_compared)
        )?;
    }
    Ok(())
}

/// Reads `gopher_quality.min_words=30`, with or without `preprocess.` in front.
fn assignment(text: &str) -> anyhow::Result<(String, Value)> {
    let Some((key, value)) = text.split_once('=') else {
        bail!("{text}: expected KEY=VALUE, such as gopher_quality.min_words=30");
    };
    let key = key.trim().trim_start_matches("preprocess.").to_owned();
    // Text without quotes is not a TOML value.
    let table: Result<toml::Table, _> = toml::from_str(&format!("value = {value}"));
    let value = match table.ok().and_then(|mut table| table.remove("value")) {
        Some(value) => serde_json::to_value(value)?,
        None => Value::String(value.trim().to_owned()),
    };
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn assignments_are_read_as_toml() {
        let check =
            |text: &str, key: &str, value: Value| assert_eq!(assignment(text).unwrap(), (key.to_owned(), value));
        check("gopher_quality.min_words=30", "gopher_quality.min_words", json!(30));
        check("preprocess.language.threshold = 0.5", "language.threshold", json!(0.5));
        check("language.keep=[\"en\"]", "language.keep", json!(["en"]));
        check("length.long=cut", "length.long", json!("cut"));
        check("fineweb.max_short_line_fraction=false", "fineweb.max_short_line_fraction", json!(false));
        assert!(assignment("gopher_quality").unwrap_err().to_string().contains("KEY=VALUE"));
    }
}
