//! The charts of the page.

use artifact::format;
use serde_json::Value as Json;

use super::Measured;
use crate::chart::graph::{self, Node};
use crate::chart::{Chart, Point, Scatter, Series};
use crate::curves::{Curve, Curves, smoothed};

/// Validation curves with fewer points have markers.
const FEW_POINTS: usize = 60;

/// Returns the SVG of each chart by its name in the templates.
pub(super) fn all(measured: &Measured<'_>) -> [(&'static str, String); 7] {
    let Measured { report, curves, speed, .. } = measured;
    [
        ("loss_chart", loss_chart(curves)),
        ("learning_rate_chart", curve_chart("Learning rate by step", 360.0, &curves.learning_rate)),
        ("gradient_norm_chart", curve_chart("Gradient norm by step", 480.0, &smoothed(&curves.gradient_norm))),
        ("throughput_chart", curve_chart("Tokens per second by step", 480.0, &smoothed(&curves.tokens_per_second))),
        ("calibration_chart", calibration_chart(report)),
        ("artifact_graph", artifact_graph(report)),
        ("formats_chart", formats_chart(report, speed)),
    ]
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
        Point { name: name.to_owned(), detail: format!("{}/s", format::grouped(size.round() as u64)), x, y, size }
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
