//! The tables and lines at the end of a run.

use artifact::Sealed;
use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use crate::config::Config;
use crate::run::record::Run;
use crate::run::stage::Stage;
use artifact::format;

/// The narrowest terminal that tables are wrapped to, in columns.
const MIN_WIDTH: u16 = 60;

/// Returns an empty table in the style of every table here.
pub fn new_table() -> Table {
    let mut table = Table::new();
    let line = LineStyle::none().fill('─').junction('─');
    let style = TableStyle::new().header_separator(line).bottom_border(line);
    table.load_style(style);
    // Some terminals report a width of zero.
    if table.width().is_some_and(|width| width >= MIN_WIDTH) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

/// Returns a table's text without spaces at the ends of lines.
pub fn text_of(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Returns the stages of a run: time, size, main result, artifact; then what they left out.
pub fn table(run: &Run) -> String {
    let mut table = new_table();
    table.set_header(["stage", "time", "size", "result", "artifact"]);
    for stage in &run.record.stages {
        let time = if stage.ran { format::seconds(stage.wall_seconds) } else { "skipped".to_owned() };
        table.add_row([
            stage.stage.name().to_owned(),
            time,
            format::bytes(stage.bytes),
            stage.headline.clone(),
            format!("{} {}", stage.stage.artifact(), stage.fingerprint.short()),
        ]);
    }
    align_right(&mut table, 1..3);
    let stages = run.record.stages.iter();
    let notices =
        stages.flat_map(|stage| stage.notices.iter().map(|notice| format!("\n{}: {notice}", stage.stage.name())));
    text_of(&table) + &notices.collect::<String>()
}

/// Returns the bits per byte of the model, gzip and zstd on the same held-out text, where the report has them.
pub fn bits_per_byte(report: &Sealed) -> Option<String> {
    let counts = &report.manifest().counts;
    let figure = |name: String| counts.get(&name).and_then(serde_json::Value::as_f64).map(|bits| format!("{bits:.3}"));
    let mut table = new_table();
    table.set_header(["bits per byte", "checkpoint", "bundle", "gzip -9", "zstd -19"]);
    for split in ["validation", "test"] {
        let checkpoint = figure(format!("checkpoint_{split}_bits_per_byte"))?;
        table.add_row([
            split.to_owned(),
            checkpoint,
            figure(format!("bundle_{split}_bits_per_byte")).unwrap_or_else(|| "–".to_owned()),
            figure(format!("gzip_9_{split}_bits_per_byte"))?,
            figure(format!("zstd_19_{split}_bits_per_byte"))?,
        ]);
    }
    align_right(&mut table, 1..5);
    Some(text_of(&table))
}

/// Aligns columns to the right.
pub fn align_right(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in table.column_iter_mut().skip(columns.start).take(columns.len()) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// Returns the commands to try next, the first prompt as their example; of a model of conversations, also one.
pub fn what_next(run: &Run, program: &str, name: &str, config: &Config) -> String {
    let mut lines = Vec::new();
    if run.stage(Stage::Optimize).or(run.stage(Stage::Train)).is_some() {
        let prompts = config.generate.inline_prompts();
        // The shell interprets these even between quotes.
        let typed = prompts.first().filter(|prompt| !prompt.contains(['"', '$', '`', '\\', '!', '\n']));
        if config.collect.sources.iter().any(|source| source.chat.is_some()) {
            lines.push(format!("have a chat        {program} generate {name} --chat"));
        }
        lines.push(format!("complete a prompt  {program} generate {name} \"{}\"", typed.map_or("The", String::as_str)));
        lines.push(format!("serve the model    {program} serve {name}"));
    }
    let report = run.folder.join("report.html");
    if report.is_file() {
        lines.push(format!("read the report    {}", report.display()));
    }
    lines.push(format!("verify the run     {program} verify {name}"));
    lines.join("\n")
}
