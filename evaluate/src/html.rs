//! `report.html`: a single page with its style and charts.
//!
//! The templates read the same values as `report.json`. They escape everything except the SVG made here, and have every
//! word in two languages.

mod charts;
mod terms;

use artifact::{Manifest, format};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Rest;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde_json::{Value as Json, json};

use crate::curves::Curves;
use crate::provenance::MIN_TRACED_TOKENS;
use terms::Terms;

const PAGE: &str = "report.html";

/// The page, and the parts that it includes.
const TEMPLATES: [(&str, &str); 13] = [
    (PAGE, include_str!("report.html")),
    ("language.js", include_str!("report/language.js")),
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

/// Returns the style sheet of the report.
pub fn style() -> &'static str {
    include_str!("report/style.css")
}

/// Returns the templates that the report has in common with other pages about runs: `head.html`, with everything above
/// the content, where `title` is set; `table.html`, a macro for a table of texts; and the style of both.
pub fn partials() -> [(&'static str, &'static str); 3] {
    [
        ("head.html", include_str!("report/head.html")),
        ("table.html", include_str!("report/table.html")),
        ("style.css", style()),
    ]
}

/// What the page shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured<'a> {
    /// `report.json`.
    pub(crate) report: &'a Json,
    pub(crate) curves: &'a Curves,
    /// The bundle's `speed.json`.
    pub(crate) speed: &'a Json,
    /// `latency.json`.
    pub(crate) latencies: &'a Json,
}

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

/// Returns the page of a report, with the manifests of its artifacts and the configuration.
///
/// # Errors
/// Returns an error if the template does not match the report: a bug of this program.
pub(crate) fn render(
    measured: &Measured<'_>,
    manifests: &[&Manifest],
    configuration: &[Setting],
) -> Result<String, minijinja::Error> {
    let report = measured.report;
    let terms = Terms::new();
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
    let translate = terms.clone();
    environment.add_function("t", move |english: String, values: Rest<Value>| translate.html(&english, &values));
    for (name, source) in TEMPLATES.into_iter().chain(partials()) {
        environment.add_template(name, source)?;
    }
    let title_figure = fixed(report["test"]["checkpoint"]["bits_per_byte"].as_f64().unwrap_or(f64::NAN), 3);
    let page = json!({
        "report": report,
        "samples": samples(report, &terms)?,
        "title": format!("Evaluation: {title_figure} bits per byte"),
        "title_zh": terms.chinese("Evaluation: {0} bits per byte", &[title_figure])?,
        "latencies": measured.latencies,
        "manifests": manifests.iter().map(|manifest| manifest_row(manifest)).collect::<Json>(),
        "settings": report["artifacts"].as_array().into_iter().flatten().map(settings).collect::<Json>(),
        "configuration": tables(configuration),
        "min_traced_tokens": MIN_TRACED_TOKENS,
    });
    let charts = charts::all(measured);
    let charts = charts.into_iter().map(|(name, svg)| (name, Value::from_safe_string(terms.chart(&svg))));
    let context = Value::from_pairs(charts.chain([("page", value(&page))]));
    environment.get_template(PAGE)?.render(context)
}

/// Returns the samples with their texts in parts.
fn samples(report: &Json, terms: &Terms) -> Result<Json, minijinja::Error> {
    report["samples"]["items"].as_array().into_iter().flatten().map(|item| sample(item, terms)).collect()
}

/// Divides a sample's text after the part that parses, and where passages of the training data begin and end.
fn sample(sample: &Json, terms: &Terms) -> Result<Json, minijinja::Error> {
    let mut sample = sample.clone();
    let text = sample["text"].as_str().unwrap_or_default();
    let byte = |value: &Json| value.as_u64().map_or(text.len(), |byte| (byte as usize).min(text.len()));
    let kept = byte(&sample["kept_bytes"]);
    let mut traced: Vec<(usize, usize, Json)> = Vec::new();
    for passage in sample["traced"].as_array().into_iter().flatten() {
        traced.push((byte(&passage["bytes"]["start"]), byte(&passage["bytes"]["end"]), place(passage, terms)?));
    }
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
    Ok(sample)
}

/// Returns where a passage occurs in the training data: "occurrences in training: 3; serde: src/lib.rs (MIT)".
fn place(passage: &Json, terms: &Terms) -> Result<Json, minijinja::Error> {
    let count = format::grouped(passage["count"].as_u64().unwrap_or(0));
    let text = |key: &str| passage["origin"][key].as_str().filter(|text| !text.is_empty());
    let source = text("source").map(|source| format!("; {source}")).unwrap_or_default();
    let path = text("path").map(|path| format!(": {path}")).unwrap_or_default();
    let licence = text("licence").map(|licence| format!(" ({licence})")).unwrap_or_default();
    let origin = format!("{source}{path}{licence}");
    let chinese = terms.chinese("occurrences in training: {0}", std::slice::from_ref(&count))?;
    Ok(json!({"english": format!("occurrences in training: {count}{origin}"), "chinese": chinese + &origin}))
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

/// Returns the ends of an interval, "[1.02, 1.08]", or a dash for none.
fn interval(interval: &Value, decimals: usize) -> Result<String, minijinja::Error> {
    if interval.is_none() {
        return Ok("–".to_owned());
    }
    let end = |name| interval.get_attr(name).and_then(f64::try_from);
    let [low, high] = [end("low")?, end("high")?].map(|end| fixed(end, decimals));
    Ok(unbroken(&format!("[{low}, {high}]")))
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
            let found = sample(&json!({"text": text, "kept_bytes": kept, "traced": traced}), &Terms::new()).unwrap();
            let parts = found["parts"].as_array().unwrap().iter();
            let found: Vec<(&str, bool, bool)> = parts
                .map(|part| (part["text"].as_str().unwrap(), part["is_rest"] == true, part["traced"].is_object()))
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
    fn places_are_in_both_languages() {
        let check = |passage: Json, english: &str, chinese: &str| {
            let expected = json!({"english": english, "chinese": chinese});
            assert_eq!(place(&passage, &Terms::new()).unwrap(), expected);
        };
        let origin = json!({"source": "serde", "path": "src/lib.rs", "licence": "MIT"});
        let (english, chinese) = ("occurrences in training: ", "在训练数据中出现的次数：");
        let check = |passage: Json, rest: &str| check(passage, &[english, rest].concat(), &[chinese, rest].concat());
        check(json!({"count": 1, "origin": origin}), "1; serde: src/lib.rs (MIT)");
        check(json!({"count": 1200, "origin": null}), "1,200");
    }
}
