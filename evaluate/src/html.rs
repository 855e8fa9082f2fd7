//! `report.html`: one page, with its style and its drawings in it.
//!
//! The template reads the same values as `report.json`, and everything in it is escaped but the drawings made here.

use artifact::Manifest;
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde_json::{Value as Json, json};

use crate::chart::{Chart, Series, grouped};
use crate::curves::{Curves, smoothed};

const TEMPLATE: &str = include_str!("report.html");

/// Fewer validation points than this are marked one by one.
const FEW_POINTS: usize = 60;

/// Returns the page of a report, with the manifests of the artifacts it is about.
///
/// # Errors
/// When the template and the report do not fit: a fault of this program.
pub(crate) fn render(report: &Json, curves: &Curves, manifests: &[&Manifest]) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_filter("grouped", |value: f64| grouped(value));
    environment.add_filter("fixed", fixed);
    environment
        .add_filter("percent", |share: f64, decimals: usize| format!("{}\u{202f}%", fixed(100.0 * share, decimals)));
    environment.add_filter("signed", signed);
    environment.add_filter("bytes", |bytes: f64| amount(bytes, &["B", "kB", "MB", "GB", "TB"]));
    environment.add_filter("count", |count: f64| amount(count, &["", "k", "M", "G", "T"]));
    environment.add_filter("duration", duration);
    environment.add_filter("short_digest", |digest: String| digest.chars().take(12).collect::<String>());
    environment.add_filter("bar", bar);
    environment.add_template("report.html", TEMPLATE)?;
    let page = json!({
        "report": report,
        "samples": report["samples"]["items"].as_array().into_iter().flatten().map(sample).collect::<Json>(),
        "made": manifests.iter().map(|manifest| made(manifest)).collect::<Json>(),
        "settings": report["artifacts"].as_array().into_iter().flatten().map(settings).collect::<Json>(),
    });
    let drawings = [("loss_chart", loss_chart(curves)), ("learning_rate_chart", learning_rate_chart(curves))];
    let drawings = drawings.into_iter().map(|(name, svg)| (name, Value::from_safe_string(svg)));
    let context = Value::from_pairs(drawings.chain([("page", value(&page))]));
    environment.get_template("report.html")?.render(context)
}

fn loss_chart(curves: &Curves) -> String {
    let smooth = smoothed(&curves.loss);
    let series = [
        Series { name: "", class: "line raw", marked: false, points: &curves.loss },
        Series { name: "training", class: "line first", marked: false, points: &smooth },
        Series {
            name: "validation",
            class: "line second",
            marked: curves.validation_loss.len() < FEW_POINTS,
            points: &curves.validation_loss,
        },
    ];
    let title = "Training and validation loss by step";
    Chart { title, x_label: "steps", width: 640.0, height: 300.0, from_zero: false, series: &series }.to_svg()
}

fn learning_rate_chart(curves: &Curves) -> String {
    let series = [Series { name: "", class: "line first", marked: false, points: &curves.learning_rate }];
    let title = "Learning rate by step";
    Chart { title, x_label: "steps", width: 360.0, height: 300.0, from_zero: true, series: &series }.to_svg()
}

/// Divides a sample where the parser stopped reading.
fn sample(sample: &Json) -> Json {
    let mut sample = sample.clone();
    let text = sample["text"].as_str().unwrap_or_default();
    let kept = sample["kept_bytes"].as_u64().unwrap_or(u64::MAX).min(text.len() as u64) as usize;
    let (kept, rest) = text.split_at_checked(kept).unwrap_or((text, ""));
    let parts = json!({"kept": kept, "rest": rest});
    sample["parts"] = parts;
    sample
}

fn made(manifest: &Manifest) -> Json {
    json!({
        "stage": manifest.recipe.stage,
        "headline": manifest.headline,
        "bytes": manifest.total_bytes(),
        "wall_seconds": manifest.wall_seconds,
        "host": manifest.host,
    })
}

/// Returns a stage's configuration as rows.
fn settings(artifact: &Json) -> Json {
    let mut rows = Vec::new();
    flatten("", &artifact["config"], &mut rows);
    let rows: Json = rows.into_iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    json!({"stage": artifact["stage"], "rows": rows})
}

fn flatten(key: &str, value: &Json, rows: &mut Vec<(String, String)>) {
    match value {
        Json::Object(fields) => {
            for (name, value) in fields {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(&key, value, rows);
            }
        }
        Json::String(text) => rows.push((key.to_owned(), format!("{text:?}"))),
        Json::Null => {}
        // A list of tables is many rows; anything else is one.
        Json::Array(items) if items.iter().any(Json::is_object) => {
            for (i, item) in items.iter().enumerate() {
                flatten(&format!("{key}[{i}]"), item, rows);
            }
        }
        other => rows.push((key.to_owned(), other.to_string())),
    }
}

fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    // No nought is negative to a reader.
    let is_nought = text.bytes().all(|b| matches!(b, b'-' | b'0' | b'.'));
    if is_nought { text.replace('-', "") } else { text.replace('-', "−") }
}

fn signed(value: f64, decimals: usize) -> String {
    let text = fixed(value, decimals);
    let is_nought = text.bytes().all(|b| matches!(b, b'0' | b'.'));
    if value > 0.0 && !is_nought { format!("+{text}") } else { text }
}

/// Returns a number with three significant digits and a unit: "2.93 MB".
fn amount(value: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    // What would be rounded to 1000 is 1 of the next.
    while value.abs() >= 999.5
        && let Some(larger) = units.next()
    {
        value /= 1000.0;
        unit = larger;
    }
    let decimals = match value.abs() {
        _ if value.fract() == 0.0 && value.abs() < 1000.0 && unit.len() < 2 => 0,
        x if x < 9.995 => 2,
        x if x < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}\u{202f}{unit}").trim_end().to_owned()
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 119.5 => format!("{s:.0} s"),
        s if s < 5970.0 => format!("{:.0} min {:.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
        s => format!("{:.0} h {:.0} min", (s / 3600.0).floor(), (s % 3600.0 / 60.0).floor()),
    }
}

/// Returns a bar as long as `value` is of `whole`.
fn bar(value: f64, whole: f64, class: &str) -> Value {
    let share = if whole > 0.0 && value.is_finite() { (value / whole).clamp(0.0, 1.0) } else { 0.0 };
    Value::from_safe_string(format!(
        r#"<svg class="bar" aria-hidden="true"><rect class="track" width="100%" height="100%" rx="3"/><rect class="{class}" width="{:.2}%" height="100%" rx="3"/></svg>"#,
        100.0 * share
    ))
}

/// Returns JSON as the template engine has it.
fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::from(whole),
            (None, Some(real)) => Value::from(real),
            (None, None) => Value::from(number.to_string()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(value).collect(),
        Json::Object(fields) => Value::from_pairs(fields.iter().map(|(name, field)| (name.as_str(), value(field)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        let check = |found: String, expected: &str| assert_eq!(found.replace('\u{202f}', " "), expected);
        check(fixed(-0.00001, 3), "0.000");
        check(fixed(-1.25, 1), "−1.2");
        check(signed(0.004, 2), "0.00");
        check(signed(0.006, 2), "+0.01");
        check(signed(-3.0, 1), "−3.0");
        let bytes = |value| amount(value, &["B", "kB", "MB"]);
        check(bytes(0.0), "0 B");
        check(bytes(999.0), "999 B");
        check(bytes(999.9), "1.00 kB");
        check(bytes(1_234_567.0), "1.23 MB");
        check(bytes(12_345_678_901.0), "12346 MB");
        check(amount(12.0, &["", "k"]), "12");
        check(amount(3_145_984.0, &["", "k", "M"]), "3.15 M");
        check(duration(0.04), "0.0 s");
        check(duration(100.0), "100 s");
        check(duration(241.0), "4 min 1 s");
        check(duration(7320.0), "2 h 2 min");
    }

    #[test]
    fn bars_stay_inside_their_track() {
        let width = |value, whole| bar(value, whole, "first").to_string().split("width=\"").nth(2).unwrap().to_owned();
        for (value, whole, expected) in [
            (1.0, 4.0, "25.00%"),
            (5.0, 4.0, "100.00%"),
            (-1.0, 4.0, "0.00%"),
            (f64::NAN, 4.0, "0.00%"),
            (1.0, 0.0, "0.00%"),
        ] {
            assert!(width(value, whole).starts_with(expected), "{value} of {whole}");
        }
    }

    #[test]
    fn a_configuration_becomes_rows() {
        let rows = |config: &Json| {
            let mut rows = Vec::new();
            flatten("", config, &mut rows);
            rows.into_iter().map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>()
        };
        let config = json!({
            "steps": 600, "model": {"family": "qwen3"}, "prompts": ["a\n", "b"], "none": null, "on": true,
            "sources": [{"name": "x"}, {"name": "y"}],
        });
        let expected = [
            "steps = 600",
            "model.family = \"qwen3\"",
            r#"prompts = ["a\n","b"]"#,
            "on = true",
            "sources[0].name = \"x\"",
            "sources[1].name = \"y\"",
        ];
        assert_eq!(rows(&config), expected);
        assert!(rows(&Json::Null).is_empty());
    }

    #[test]
    fn a_sample_is_divided_where_the_parser_stopped() {
        let check = |text: &str, kept: u64, expected: [&str; 2]| {
            let divided = sample(&json!({"text": text, "kept_bytes": kept}));
            assert_eq!([&divided["parts"]["kept"], &divided["parts"]["rest"]], expected);
        };
        check("fn f() {} le", 9, ["fn f() {}", " le"]);
        check("fn f() {}", 9, ["fn f() {}", ""]);
        check("fn f() {}", 0, ["", "fn f() {}"]);
        check("fn f() {}", 99, ["fn f() {}", ""]);
        // Never inside a character.
        check("ж", 1, ["ж", ""]);
    }
}
