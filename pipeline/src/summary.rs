//! The tables and lines that a run ends with.

use artifact::Sealed;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::figures;
use crate::runs::Run;
use crate::stage::Stage;

/// Returns an empty table in the style of every table here.
pub fn new_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table
}

/// Returns a table's text without spaces at the ends of lines.
pub fn text_of(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Returns the stages of a run: time, size, main figure, artifact.
pub fn table(run: &Run) -> String {
    let mut table = new_table();
    table.set_header(["stage", "time", "size", "figure", "artifact"]);
    for stage in &run.record.stages {
        let time = match stage.ran {
            true => figures::seconds(stage.wall_seconds),
            false => "skipped".to_owned(),
        };
        table.add_row([
            stage.stage.name().to_owned(),
            time,
            figures::bytes(stage.bytes),
            stage.headline.clone(),
            format!("{} {}", stage.stage.artifact(), stage.fingerprint.short()),
        ]);
    }
    for column in table.column_iter_mut().skip(1).take(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    text_of(&table)
}

/// Returns the model's bits per byte beside those of gzip and zstd, where the report has them.
pub fn bits_per_byte(report: &Sealed) -> Option<String> {
    let counts = &report.manifest().counts;
    let figure = |name: &str| counts.get(name).and_then(serde_json::Value::as_f64);
    Some(format!(
        "bits per byte on held-out text: model {:.3}, gzip -9 {:.3}, zstd -19 {:.3}",
        figure("bits_per_byte")?,
        figure("gzip_bits_per_byte")?,
        figure("zstd_bits_per_byte")?
    ))
}

/// Returns the commands to try next, as they would be typed.
pub fn what_next(run: &Run, program: &str, name: &str) -> String {
    let mut lines = Vec::new();
    if run.stage(Stage::Optimize).or(run.stage(Stage::Train)).is_some() {
        lines.push(format!("complete a prompt  {program} generate {name} \"fn main() {{\""));
        lines.push(format!("serve the model    {program} serve {name}"));
    }
    let report = run.folder.join("report.html");
    if report.is_file() {
        lines.push(format!("read the report    {}", report.display()));
    }
    lines.push(format!("prove the run      {program} verify {name}"));
    lines.join("\n")
}
