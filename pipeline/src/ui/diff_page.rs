//! The page of `diff`.

use std::fs;

use evaluate::chart::{Chart, Series};
use evaluate::curves::{Curve, Curves, smoothed};
use serde::Serialize;

use crate::run::comparison::{Changed, Comparison};
use crate::run::record::Run;
use crate::run::stage::Stage;
use crate::run::values::{self, number_text, signed};

use super::page;

#[derive(Serialize)]
struct Page<'a> {
    a: &'a str,
    b: &'a str,
    verdict: &'a str,
    tables: Vec<Table<'a>>,
    samples: Vec<Samples<'a>>,
}

#[derive(Serialize)]
struct Table<'a> {
    title: &'a str,
    header: Vec<&'a str>,
    rows: Vec<Vec<String>>,
}

#[derive(Serialize)]
struct Samples<'a> {
    prompt: &'a str,
    a: &'a str,
    b: &'a str,
}

/// Returns the page of a comparison.
///
/// # Errors
/// Returns an error as [`page::render`] does.
pub fn render(comparison: &Comparison, a: &Run, b: &Run) -> anyhow::Result<String> {
    let names = [comparison.a.as_str(), comparison.b.as_str()];
    let missing = "–";
    let number = |number: Option<f64>| number.map_or_else(|| missing.to_owned(), number_text);
    let changed = |title, changed: &[Changed]| {
        let value = |value: &Option<serde_json::Value>| value.as_ref().map_or_else(|| missing.to_owned(), values::text);
        let rows = changed.iter().map(|row| vec![row.key.clone(), value(&row.a), value(&row.b)]).collect();
        Table { title, header: vec!["key", names[0], names[1]], rows }
    };
    let digest = |digest: Option<artifact::Digest>| digest.map_or_else(|| missing.to_owned(), |digest| digest.short());
    let artifacts = comparison.artifacts.iter().map(|pair| {
        let is_same = if pair.a == pair.b { "the same" } else { "differs" };
        vec![pair.stage.artifact().to_owned(), digest(pair.a), digest(pair.b), is_same.to_owned()]
    });
    let figures = comparison.figures.iter().filter(|figure| figure.a != figure.b).map(|figure| {
        let interval = figure.interval.map(|interval| format!("{} to {}", signed(interval.low), signed(interval.high)));
        let difference = figure.difference.filter(|difference| *difference != 0.0).map(signed);
        let name = format!("{}.{}", figure.stage, figure.name);
        vec![name, number(figure.a), number(figure.b), difference.unwrap_or_default(), interval.unwrap_or_default()]
    });
    let samples = comparison.samples.iter().map(|pair| Samples {
        prompt: &pair.prompt,
        a: pair.a.as_deref().unwrap_or(missing),
        b: pair.b.as_deref().unwrap_or(missing),
    });
    let data = Page {
        a: names[0],
        b: names[1],
        verdict: &comparison.verdict,
        tables: vec![
            changed("Configuration", &comparison.config),
            changed("Environment", &comparison.environment),
            Table { title: "Artifacts", header: vec!["artifact", names[0], names[1], ""], rows: artifacts.collect() },
            Table {
                title: "Figures",
                header: vec!["figure", names[0], names[1], "difference", "95 % interval"],
                rows: figures.collect(),
            },
        ],
        samples: samples.collect(),
    };
    let curves = [curves(a), curves(b)];
    let loss = curves.each_ref().map(|curves| smoothed(&curves.loss));
    let validation = curves.each_ref().map(|curves| curves.validation_loss.clone());
    let charts = [
        ("loss_chart", chart("Training loss by step", names, &loss)),
        ("validation_chart", chart("Validation loss by step", names, &validation)),
    ];
    page::render(include_str!("diff.html"), &data, &charts)
}

fn curves(run: &Run) -> Curves {
    let text = run.artifact(Stage::Train).ok().and_then(|sealed| fs::read(sealed.folder().join("metrics.jsonl")).ok());
    Curves::read(&String::from_utf8_lossy(&text.unwrap_or_default()))
}

fn chart(title: &str, names: [&str; 2], curves: &[Curve; 2]) -> String {
    let classes = ["line first", "line second"];
    let series: Vec<Series<'_>> =
        (0..2).map(|i| Series { name: names[i], class: classes[i], marked: false, points: &curves[i] }).collect();
    Chart { title, x_label: "steps", width: 480.0, height: 280.0, from_zero: false, series: &series }.to_svg()
}
