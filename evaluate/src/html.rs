//! `report.html`: a single page with its style and charts.
//!
//! The template reads the same values as `report.json`. It escapes everything except the SVG made here.

use artifact::{Manifest, format};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde_json::{Value as Json, json};

use crate::chart::{Chart, Point, Scatter, Series};
use crate::curves::{Curves, smoothed};

const TEMPLATE: &str = include_str!("report.html");

/// Validation curves with fewer points have markers.
const FEW_POINTS: usize = 60;

/// Returns the page of a report, with the bundle's `speed.json` and the manifests of its artifacts.
///
/// # Errors
/// Returns an error if the template does not match the report: a bug of this program.
pub(crate) fn render(
    report: &Json,
    curves: &Curves,
    speed: &Json,
    manifests: &[&Manifest],
) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_filter("grouped", format::grouped);
    environment.add_filter("fixed", fixed);
    environment.add_filter("percent", percent);
    environment.add_filter("signed", signed);
    environment.add_filter("bytes", |bytes: u64| unbroken(&format::bytes(bytes)));
    environment.add_filter("count", |count: f64| unbroken(&format::count(count)));
    environment.add_filter("duration", |seconds: f64| unbroken(&format::seconds(seconds)));
    environment.add_filter("short_digest", |digest: String| digest.chars().take(12).collect::<String>());
    environment.add_filter("bar", bar);
    environment.add_template("report.html", TEMPLATE)?;
    let page = json!({
        "report": report,
        "samples": report["samples"]["items"].as_array().into_iter().flatten().map(sample).collect::<Json>(),
        "manifests": manifests.iter().map(|manifest| manifest_row(manifest)).collect::<Json>(),
        "settings": report["artifacts"].as_array().into_iter().flatten().map(settings).collect::<Json>(),
    });
    let charts = [
        ("loss_chart", loss_chart(curves)),
        ("learning_rate_chart", learning_rate_chart(curves)),
        ("formats_chart", formats_chart(report, speed)),
    ];
    let charts = charts.into_iter().map(|(name, svg)| (name, Value::from_safe_string(svg)));
    let context = Value::from_pairs(charts.chain([("page", value(&page))]));
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

/// Plots the checkpoint and each format by size, bits per byte and speed.
fn formats_chart(report: &Json, speed: &Json) -> String {
    let point = |name: &str, bytes: &Json, bits_per_byte: &Json, speed: &Json| {
        let number = |value: &Json| value.as_f64().unwrap_or(f64::NAN);
        let (x, y, size) = (number(bytes) / 1e6, number(bits_per_byte), number(speed));
        Point { label: format!("{name}, {} tokens/s", format::grouped(size.round() as u64)), x, y, size }
    };
    let (checkpoint, parity) = (&report["model"]["checkpoint_bytes"], &report["parity"]);
    let mut points =
        vec![point("checkpoint", checkpoint, &parity["checkpoint"]["bits_per_byte"], &speed["checkpoint"])];
    for format in parity["formats"].as_array().into_iter().flatten() {
        let name = format["format"].as_str().unwrap_or_default();
        points.push(point(name, &format["weights_bytes"], &format["bits_per_byte"], &speed["formats"][name]));
    }
    let title = "Formats by size, bits per byte and speed";
    Scatter { title, x_label: "MB", width: 640.0, height: 300.0, points: &points }.to_svg()
}

/// Splits a sample's text after the part that parses.
fn sample(sample: &Json) -> Json {
    let mut sample = sample.clone();
    let text = sample["text"].as_str().unwrap_or_default();
    let kept = sample["kept_bytes"].as_u64().unwrap_or(u64::MAX).min(text.len() as u64) as usize;
    let (kept, rest) = text.split_at_checked(kept).unwrap_or((text, ""));
    sample["parts"] = json!({"kept": kept, "rest": rest});
    sample
}

fn manifest_row(manifest: &Manifest) -> Json {
    json!({
        "stage": manifest.recipe.stage,
        "headline": manifest.headline,
        "notices": manifest.counts.get(artifact::NOTICES),
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
        // A list of tables becomes many rows; any other value is one row.
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
    // "−0.00" would be confusing.
    let is_zero = text.bytes().all(|b| matches!(b, b'-' | b'0' | b'.'));
    if is_zero { text.replace('-', "") } else { text.replace('-', "−") }
}

fn signed(value: f64, decimals: usize) -> String {
    let text = fixed(value, decimals);
    let is_zero = text.bytes().all(|b| matches!(b, b'0' | b'.'));
    if value > 0.0 && !is_zero { format!("+{text}") } else { text }
}

fn percent(fraction: f64, decimals: usize) -> String {
    unbroken(&format!("{} %", fixed(100.0 * fraction, decimals)))
}

/// Replaces spaces by narrow ones that do not break lines.
fn unbroken(text: &str) -> String {
    text.replace(' ', "\u{202f}")
}

/// Returns a bar that is filled to `value / whole`.
fn bar(value: f64, whole: f64, class: &str) -> Value {
    let fraction = if whole > 0.0 && value.is_finite() { (value / whole).clamp(0.0, 1.0) } else { 0.0 };
    let rect =
        |class: &str, percent: f64| format!(r#"<rect class="{class}" width="{percent}%" height="100%" rx="3"/>"#);
    let percent = (1e4 * fraction).round() / 100.0;
    let rects = rect("track", 100.0) + &rect(class, percent);
    Value::from_safe_string(format!(r#"<svg class="bar" aria-hidden="true">{rects}</svg>"#))
}

/// Converts JSON to the template engine's values.
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
    fn numbers_are_formatted() {
        let check = |found: String, expected: &str| assert_eq!(found.replace('\u{202f}', " "), expected);
        check(fixed(-0.00001, 3), "0.000");
        check(fixed(-1.25, 1), "−1.2");
        check(signed(0.004, 2), "0.00");
        check(signed(0.006, 2), "+0.01");
        check(signed(-3.0, 1), "−3.0");
        check(percent(0.1234, 1), "12.3 %");
    }

    #[test]
    fn bars_stay_within_their_track() {
        let width = |value, whole| bar(value, whole, "first").to_string().split("width=\"").nth(2).unwrap().to_owned();
        for (value, whole, expected) in
            [(1.0, 4.0, "25%"), (5.0, 4.0, "100%"), (-1.0, 4.0, "0%"), (f64::NAN, 4.0, "0%"), (1.0, 0.0, "0%")]
        {
            assert!(width(value, whole).starts_with(expected), "{value} of {whole}");
        }
    }

    #[test]
    fn configurations_become_rows() {
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
    fn samples_are_split_after_the_part_that_parses() {
        let check = |text: &str, kept: u64, expected: [&str; 2]| {
            let found = sample(&json!({"text": text, "kept_bytes": kept}));
            assert_eq!([&found["parts"]["kept"], &found["parts"]["rest"]], expected);
        };
        check("fn f() {} le", 9, ["fn f() {}", " le"]);
        check("fn f() {}", 9, ["fn f() {}", ""]);
        check("fn f() {}", 0, ["", "fn f() {}"]);
        check("fn f() {}", 99, ["fn f() {}", ""]);
        // Never inside a character.
        check("ж", 1, ["ж", ""]);
    }
}
