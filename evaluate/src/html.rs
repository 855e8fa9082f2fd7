//! `report.html`: a single page with its style and charts.
//!
//! The template reads the same values as `report.json`. It escapes everything except the SVG made here.

use artifact::{Manifest, format};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde_json::{Value as Json, json};

use crate::chart::graph::{self, Node};
use crate::chart::{Chart, Point, Scatter, Series};
use crate::curves::{Curve, Curves, smoothed};
use crate::provenance::MIN_TRACED_TOKENS;

const PAGE: &str = "report.html";

/// The page, and the parts that it includes.
const TEMPLATES: [(&str, &str); 13] = [
    (PAGE, include_str!("report.html")),
    ("style.css", include_str!("report/style.css")),
    ("chart.js", include_str!("report/chart.js")),
    ("verdict.html", include_str!("report/verdict.html")),
    ("quality.html", include_str!("report/quality.html")),
    ("training.html", include_str!("report/training.html")),
    ("bundle.html", include_str!("report/bundle.html")),
    ("samples.html", include_str!("report/samples.html")),
    ("risk.html", include_str!("report/risk.html")),
    ("tasks.html", include_str!("report/tasks.html")),
    ("data.html", include_str!("report/data.html")),
    ("provenance.html", include_str!("report/provenance.html")),
    ("definitions.html", include_str!("report/definitions.html")),
];

/// Returns the style sheet of the report, for other pages about runs.
pub fn style() -> &'static str {
    include_str!("report/style.css")
}

/// Validation curves with fewer points have markers.
const FEW_POINTS: usize = 60;

/// A value of the configuration, as the page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The dotted key, such as `train.steps`.
    pub key: String,
    /// The value, as TOML.
    pub value: String,
    /// Where it came from, such as `pipeline.toml:12`; empty for a default.
    pub origin: String,
}

/// Returns the page of a report, with the bundle's `speed.json`, the manifests of its artifacts and the configuration.
///
/// # Errors
/// Returns an error if the template does not match the report: a bug of this program.
pub(crate) fn render(
    report: &Json,
    curves: &Curves,
    speed: &Json,
    manifests: &[&Manifest],
    configuration: &[Setting],
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
    environment.add_filter("interval", interval);
    for (name, source) in TEMPLATES {
        environment.add_template(name, source)?;
    }
    let page = json!({
        "report": report,
        "samples": report["samples"]["items"].as_array().into_iter().flatten().map(sample).collect::<Json>(),
        "manifests": manifests.iter().map(|manifest| manifest_row(manifest)).collect::<Json>(),
        "settings": report["artifacts"].as_array().into_iter().flatten().map(settings).collect::<Json>(),
        "configuration": tables(configuration),
        "min_traced_tokens": MIN_TRACED_TOKENS,
    });
    let charts = [
        ("loss_chart", loss_chart(curves)),
        ("learning_rate_chart", curve_chart("Learning rate by step", 360.0, &curves.learning_rate)),
        ("gradient_norm_chart", curve_chart("Gradient norm by step", 480.0, &smoothed(&curves.gradient_norm))),
        ("throughput_chart", curve_chart("Tokens per second by step", 480.0, &smoothed(&curves.tokens_per_second))),
        ("calibration_chart", calibration_chart(report)),
        ("artifact_graph", artifact_graph(report)),
        ("formats_chart", formats_chart(report, speed)),
    ];
    let charts = charts.into_iter().map(|(name, svg)| (name, Value::from_safe_string(svg)));
    let context = Value::from_pairs(charts.chain([("page", value(&page))]));
    environment.get_template(PAGE)?.render(context)
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

fn curve_chart(title: &str, width: f64, points: &Curve) -> String {
    let series = [Series { name: "", class: "line first", marked: false, points }];
    Chart { title, x_label: "steps", width, height: 300.0, from_zero: true, series: &series }.to_svg()
}

/// Plots the accuracy of predictions by their confidence, beside the diagonal of a calibrated model.
fn calibration_chart(report: &Json) -> String {
    let bins = report["test_details"]["calibration"]["bins"].as_array().into_iter().flatten();
    let point = |bin: &Json| Some((bin["confidence"].as_f64()?, bin["accuracy"].as_f64()?));
    let points: Curve = bins.filter_map(point).collect();
    let series = [
        Series { name: "", class: "line plain", marked: false, points: &[(0.0, 0.0), (1.0, 1.0)] },
        Series { name: "", class: "line first", marked: true, points: &points },
    ];
    let title = "Accuracy by confidence";
    Chart { title, x_label: "confidence", width: 480.0, height: 420.0, from_zero: true, series: &series }.to_svg()
}

/// Draws the artifacts, with an arrow from each to those that were made from it.
fn artifact_graph(report: &Json) -> String {
    let artifacts: Vec<&Json> = report["artifacts"].as_array().into_iter().flatten().collect();
    let stage = |artifact: &Json| artifact["stage"].as_str().unwrap_or_default().to_owned();
    let index = |name: &Json| artifacts.iter().position(|artifact| artifact["stage"] == *name);
    let node = |artifact: &&Json| Node {
        name: stage(artifact),
        detail: artifact["fingerprint"].as_str().unwrap_or_default().chars().take(12).collect(),
        inputs: artifact["made_from"].as_array().into_iter().flatten().filter_map(index).collect(),
    };
    graph::to_svg("Artifacts and what they were made from", &artifacts.iter().map(node).collect::<Vec<_>>())
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

/// Divides a sample's text after the part that parses, and where passages of the training data begin and end.
fn sample(sample: &Json) -> Json {
    let mut sample = sample.clone();
    let text = sample["text"].as_str().unwrap_or_default();
    let byte = |value: &Json| value.as_u64().map_or(text.len(), |byte| (byte as usize).min(text.len()));
    let kept = byte(&sample["kept_bytes"]);
    let traced: Vec<(usize, usize, String)> = sample["traced"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|passage| (byte(&passage["bytes"]["start"]), byte(&passage["bytes"]["end"]), place(passage)))
        .collect();
    let mut cuts: Vec<usize> =
        traced.iter().flat_map(|(start, end, _)| [*start, *end]).chain([0, kept, text.len()]).collect();
    cuts.retain(|cut| text.is_char_boundary(*cut));
    cuts.sort_unstable();
    cuts.dedup();
    let part = |cut: &[usize]| {
        let place = traced.iter().find(|(start, end, _)| *start <= cut[0] && cut[1] <= *end).map(|(_, _, place)| place);
        json!({"text": text[cut[0]..cut[1]], "is_rest": cut[0] >= kept, "traced": place})
    };
    let parts: Json = cuts.windows(2).map(part).collect();
    sample["parts"] = parts;
    sample
}

/// Returns where a passage occurs in the training data: "3 times in training, as in serde: src/lib.rs (MIT)".
fn place(passage: &Json) -> String {
    let times = match passage["count"].as_u64().unwrap_or(0) {
        1 => "once".to_owned(),
        count => format!("{} times", format::grouped(count)),
    };
    let text = |key: &str| passage["origin"][key].as_str().filter(|text| !text.is_empty());
    let source = text("source").map(|source| format!(", as in {source}")).unwrap_or_default();
    let path = text("path").map(|path| format!(": {path}")).unwrap_or_default();
    let licence = text("licence").map(|licence| format!(" ({licence})")).unwrap_or_default();
    format!("{times} in training{source}{path}{licence}")
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

/// Returns the values of a configuration by table, in their order.
fn tables(configuration: &[Setting]) -> Json {
    let mut tables: Vec<(&str, Vec<Json>)> = Vec::new();
    for Setting { key, value, origin } in configuration {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        let row = json!({"key": name, "value": value, "origin": origin});
        match tables.last_mut() {
            Some((last, rows)) if *last == table => rows.push(row),
            _ => tables.push((table, vec![row])),
        }
    }
    tables.into_iter().map(|(name, rows)| json!({"name": name, "rows": rows})).collect()
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

/// Returns the ends of an interval: "1.02 to 1.08".
fn interval(interval: &Value, decimals: usize) -> Result<String, minijinja::Error> {
    let end = |name| interval.get_attr(name).and_then(f64::try_from);
    let [low, high] = [end("low")?, end("high")?].map(|end| fixed(end, decimals));
    Ok(unbroken(&format!("{low} to {high}")))
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
    fn values_are_grouped_by_table() {
        let setting = |key: &str, origin: &str| Setting { key: key.into(), value: "1".into(), origin: origin.into() };
        let found = tables(&[setting("seed", ""), setting("train.steps", "pipeline.toml:3"), setting("train.lr", "")]);
        let expected = json!([
            {"name": "", "rows": [{"key": "seed", "value": "1", "origin": ""}]},
            {"name": "train", "rows": [
                {"key": "steps", "value": "1", "origin": "pipeline.toml:3"}, {"key": "lr", "value": "1", "origin": ""},
            ]},
        ]);
        assert_eq!(found, expected);
    }

    #[test]
    fn samples_are_divided_by_what_parses_and_what_is_traced() {
        let check = |text: &str, kept: u64, traced: &[(u64, u64)], expected: &[(&str, bool, bool)]| {
            let traced: Json =
                traced.iter().map(|(start, end)| json!({"bytes": {"start": start, "end": end}})).collect();
            let found = sample(&json!({"text": text, "kept_bytes": kept, "traced": traced}));
            let parts = found["parts"].as_array().unwrap().iter();
            let found: Vec<(&str, bool, bool)> = parts
                .map(|part| (part["text"].as_str().unwrap(), part["is_rest"] == true, part["traced"].is_string()))
                .collect();
            assert_eq!(found, expected, "{text:?}");
        };
        check("fn f() {} le", 9, &[], &[("fn f() {}", false, false), (" le", true, false)]);
        check("fn f() {}", 9, &[], &[("fn f() {}", false, false)]);
        check("fn f() {}", 0, &[], &[("fn f() {}", true, false)]);
        check("fn f() {}", 99, &[], &[("fn f() {}", false, false)]);
        check("", 0, &[], &[]);
        // Never inside a character.
        check("ж", 1, &[], &[("ж", false, false)]);
        let parts = [("ab", false, false), ("cd", false, true), ("ef", true, true), ("g", true, false)];
        check("abcdefg", 4, &[(2, 6)], &parts);
        check("abcd", 4, &[(0, 2), (2, 4)], &[("ab", false, true), ("cd", false, true)]);
    }

    #[test]
    fn places_are_sentences() {
        let check = |passage: Json, expected: &str| assert_eq!(place(&passage), expected);
        let origin = json!({"source": "serde", "path": "src/lib.rs", "licence": "MIT"});
        check(json!({"count": 1, "origin": origin}), "once in training, as in serde: src/lib.rs (MIT)");
        check(json!({"count": 1200, "origin": null}), "1,200 times in training");
    }
}
