//! Line charts, plots of points, graphs and parallel coordinates as SVG.
//!
//! Written by hand instead of with a plotting crate, because the charts take colours and fonts from the page's style
//! sheet through classes, which makes them follow dark mode and print. Points that are not finite interrupt the line.

pub(crate) mod graph;
mod parallel;
mod scatter;

use std::fmt::Write;

use artifact::format::grouped;

pub use parallel::{Axis as ParallelAxis, Parallel, ParallelLine};
pub(crate) use scatter::{Point, Scatter};

/// A line of a chart.
pub struct Series<'a> {
    /// The name in the legend; empty for a line without an entry.
    pub name: &'a str,
    /// The CSS class of its elements, which sets the colour.
    pub class: &'a str,
    /// Whether points have markers, for lines with few points.
    pub marked: bool,
    /// The points, in the order of the line.
    pub points: &'a [(f64, f64)],
}

/// A line chart.
pub struct Chart<'a> {
    /// The title for screen readers.
    pub title: &'a str,
    /// The unit of the horizontal axis, at its right end.
    pub x_label: &'a str,
    /// The width, in pixels of the canvas.
    pub width: f64,
    /// The height, in pixels of the canvas.
    pub height: f64,
    /// Whether the vertical axis starts at 0.
    pub from_zero: bool,
    /// The lines, the first one drawn first.
    pub series: &'a [Series<'a>],
}

const LEFT: f64 = 46.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 30.0;

/// Lines with more points are thinned: charts are about this many pixels wide.
const MAX_POINTS: usize = 600;

impl Chart<'_> {
    /// Returns the SVG element.
    pub fn to_svg(&self) -> String {
        let plane = self.plane();
        // What the page's script needs to convert pixels to values.
        let ranges = plane.as_ref().map_or_else(String::new, |Plane { x, y, .. }| {
            format!(r#" data-x="{} {}" data-y="{} {}""#, x.from, x.to, y.from, y.to)
        });
        let mut svg = format!(
            r#"<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}"{ranges}>"#,
            self.width,
            self.height,
            escaped(self.title)
        );
        match plane {
            Some(plane) => {
                plane.draw_grid(&mut svg, self.x_label);
                for series in self.series {
                    plane.draw_series(&mut svg, series);
                }
                self.draw_legend(&mut svg);
            }
            None => push(
                &mut svg,
                format_args!(
                    r#"<text class="tick" x="{}" y="{}" text-anchor="middle">no data</text>"#,
                    self.width / 2.0,
                    self.height / 2.0
                ),
            ),
        }
        svg + "</svg>"
    }

    /// Returns axes that fit all points, if there are any.
    fn plane(&self) -> Option<Plane> {
        let finite = || {
            let points = self.series.iter().flat_map(|series| series.points);
            points.filter(|(x, y)| x.is_finite() && y.is_finite())
        };
        let x = Axis::around(finite().map(|(x, _)| *x), false)?;
        let y = Axis::around(finite().map(|(_, y)| *y), self.from_zero)?;
        // The horizontal axis spans exactly the data; only the vertical one ends at round values.
        let ends = |fold: fn(f64, f64) -> f64, start| finite().map(|(x, _)| *x).fold(start, fold);
        let (first, last) = (ends(f64::min, f64::INFINITY), ends(f64::max, f64::NEG_INFINITY));
        let x = if first < last { Axis { from: first, to: last, ..x } } else { x };
        Some(Plane { x, y, width: self.width, height: self.height })
    }

    fn draw_legend(&self, svg: &mut String) {
        let right = self.width - RIGHT;
        for (i, series) in self.series.iter().filter(|series| !series.name.is_empty()).enumerate() {
            let y = TOP + 8.0 + 18.0 * i as f64;
            let (class, name) = (series.class, escaped(series.name));
            let (x, x1, text_y) = (right - 24.0, right - 18.0, y + 4.0);
            push(svg, format_args!(r#"<line class="{class}" x1="{x1}" x2="{right}" y1="{y}" y2="{y}"/>"#));
            push(svg, format_args!(r#"<text class="legend" x="{x}" y="{text_y}" text-anchor="end">{name}</text>"#));
        }
    }
}

/// A pair of axes on a canvas.
struct Plane {
    x: Axis,
    y: Axis,
    width: f64,
    height: f64,
}

impl Plane {
    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let (right, bottom) = (self.width - RIGHT, self.height - BOTTOM);
        (LEFT + self.x.fraction(x) * (right - LEFT), bottom - self.y.fraction(y) * (bottom - TOP))
    }

    fn draw_grid(&self, svg: &mut String, x_label: &str) {
        let (right, bottom) = (self.width - RIGHT, self.height - BOTTOM);
        for tick in self.y.ticks() {
            let (_, y) = self.at(self.x.from, tick);
            let (x, text_y, label) = (LEFT - 8.0, y + 4.0, self.y.label(tick));
            push(svg, format_args!(r#"<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1}" y2="{y:.1}"/>"#));
            push(
                svg,
                format_args!(
                    r#"<text class="tick" data-tick="y" x="{x}" y="{text_y:.1}" text-anchor="end">{label}</text>"#
                ),
            );
        }
        for tick in self.x.ticks() {
            let (x, _) = self.at(tick, self.y.from);
            // The label of the axis is at its end.
            if x < right - 44.0 {
                push(
                    svg,
                    format_args!(
                        r#"<text class="tick" data-tick="x" x="{x:.1}" y="{}" text-anchor="middle">{}</text>"#,
                        bottom + 18.0,
                        self.x.label(tick)
                    ),
                );
            }
        }
        push(
            svg,
            format_args!(
                r#"<text class="tick" x="{right}" y="{}" text-anchor="end">{}</text>"#,
                bottom + 18.0,
                escaped(x_label)
            ),
        );
    }

    fn draw_series(&self, svg: &mut String, series: &Series<'_>) {
        let class = series.class;
        let mut path = String::new();
        let mut pen_is_down = false;
        let points = thinned(series.points);
        for (x, y) in &points {
            if !(x.is_finite() && y.is_finite()) {
                pen_is_down = false;
                continue;
            }
            let (x, y) = self.at(*x, *y);
            push(&mut path, format_args!("{}{x:.1} {y:.1}", if pen_is_down { "L" } else { "M" }));
            pen_is_down = true;
        }
        if !path.is_empty() {
            push(svg, format_args!(r#"<path class="{class}" d="{path}"/>"#));
        }
        let finite = || points.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
        // A line of one point has no length: without a marker it would be invisible.
        if series.marked || finite().count() == 1 {
            for (x, y) in finite() {
                let (cx, cy) = self.at(*x, *y);
                let title = format!("{} {} at {}", escaped(series.name), significant(*y), significant(*x));
                push(svg, format_args!(r#"<circle class="{class}" cx="{cx:.1}" cy="{cy:.1}" r="3">"#));
                push(svg, format_args!("<title>{title}</title></circle>"));
            }
        }
    }
}

/// A linear axis whose ends are multiples of its step.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    from: f64,
    to: f64,
    step: f64,
}

impl Axis {
    /// Returns an axis that holds all `values`, which must be finite; none if there are no values.
    fn around(values: impl Iterator<Item = f64>, from_zero: bool) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            return None;
        }
        if from_zero {
            (low, high) = (low.min(0.0), high.max(0.0));
        }
        // A constant line needs a range too, whether it is at 0, 2.5 or 1e300.
        if high - low <= 1e-9 * high.abs().max(low.abs()) {
            let margin = if high == 0.0 { 1.0 } else { high.abs() / 2.0 };
            (low, high) = (if from_zero && low == 0.0 { 0.0 } else { low - margin }, high + margin);
        }
        let rough = (high - low) / 4.0;
        if !rough.is_finite() || rough <= 0.0 {
            return None;
        }
        // The nearest of 1, 2 and 5 times a power of ten.
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|step| *step >= rough * 0.99)?;
        Some(Self { from: (low / step).floor() * step, to: (high / step).ceil() * step, step })
    }

    fn fraction(&self, value: f64) -> f64 {
        if self.to > self.from { (value - self.from) / (self.to - self.from) } else { 0.5 }
    }

    fn ticks(&self) -> Vec<f64> {
        let first = (self.from / self.step).ceil();
        let count = ((self.to / self.step).floor() - first).clamp(0.0, 20.0) as usize;
        (0..=count).map(|i| (first + i as f64) * self.step).collect()
    }

    fn label(&self, tick: f64) -> String {
        let decimals = (-self.step.log10().floor()).max(0.0);
        if tick.abs() < self.step / 2.0 {
            "0".to_owned()
        } else if decimals > 3.0 && tick.abs() < 0.01 || decimals > 6.0 || tick.abs() >= 1e7 {
            // A mantissa of one digit unless the step needs two.
            let text = format!("{tick:.1e}");
            text.replace(".0e", "e").replace("e-", "e−")
        } else if decimals == 0.0 {
            whole(tick)
        } else {
            format!("{tick:.*}", decimals as usize).replace('-', "−")
        }
    }
}

fn whole(value: f64) -> String {
    format!("{}{}", if value < 0.0 { "−" } else { "" }, grouped(value.abs().round() as u64))
}

/// Returns a number with about four significant digits.
fn significant(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e12 {
        whole(value)
    } else if value.abs() < 1e-3 {
        format!("{value:.3e}")
    } else {
        format!("{value:.3}")
    }
}

/// Returns at most [`MAX_POINTS`] evenly spaced points, including the first and the last.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MAX_POINTS {
        return points.to_vec();
    }
    (0..MAX_POINTS).map(|i| points[i * (points.len() - 1) / (MAX_POINTS - 1)]).collect()
}

/// Escapes text for elements and attributes.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(points: &[(f64, f64)]) -> String {
        let series = [Series { name: "a < b", class: "line", marked: false, points }];
        Chart { title: "t & u", x_label: "steps", width: 400.0, height: 200.0, from_zero: false, series: &series }
            .to_svg()
    }

    #[test]
    fn degenerate_data_gives_valid_svg() {
        let check = |points: &[(f64, f64)], paths: usize, moves: usize, circles: usize| {
            let text = svg(points);
            for wrong in ["NaN", "inf", "< b"] {
                assert!(!text.contains(wrong), "{wrong} in {text}");
            }
            assert_eq!(text.matches("<path").count(), paths, "{text}");
            assert_eq!(text.matches('M').count(), moves, "{text}");
            assert_eq!(text.matches("<circle").count(), circles, "{text}");
            assert_eq!(text.matches("no data").count(), usize::from(paths == 0), "{text}");
        };
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        check(&[], 0, 0, 0);
        check(&[(1.0, nan)], 0, 0, 0);
        check(&[(1.0, 2.0)], 1, 1, 1);
        check(&[(0.0, 0.0)], 1, 1, 1);
        check(&[(1.0, 2.0), (2.0, 2.0)], 1, 1, 0);
        check(&[(1.0, 3.0), (2.0, nan), (3.0, 1.0), (4.0, 2.0)], 1, 2, 0);
        check(&[(1.0, 3.0), (2.0, inf), (3.0, -inf)], 1, 1, 1);
        check(&[(1.0, 1e300), (2.0, 1e300)], 1, 1, 0);
        check(&[(1.0, 1e-300), (2.0, 2e-300)], 1, 1, 0);
        check(&[(1.0, f64::MIN), (2.0, f64::MAX)], 0, 0, 0);
        check(&[(5.0, 1.0), (5.0, 2.0)], 1, 1, 0);
    }

    #[test]
    fn coordinates_are_inside_the_canvas() {
        let points: Vec<(f64, f64)> = (0..5000).map(|i| (f64::from(i), f64::from(i % 97) - 40.0)).collect();
        let text = svg(&points);
        let path = text.split("d=\"").nth(1).unwrap().split('"').next().unwrap();
        let pairs: Vec<Vec<f64>> = path
            .split(['M', 'L'])
            .skip(1)
            .map(|pair| pair.split(' ').map(|number| number.parse().unwrap()).collect())
            .collect();
        assert_eq!(pairs.len(), MAX_POINTS);
        assert!(pairs.iter().all(|p| (LEFT..=400.0 - RIGHT).contains(&p[0]) && (TOP..=200.0 - BOTTOM).contains(&p[1])));
    }

    #[test]
    fn axes_have_round_steps() {
        let check = |low: f64, high: f64, expected: &[&str]| {
            let axis = Axis::around([low, high].into_iter(), false).unwrap();
            let labels: Vec<String> = axis.ticks().into_iter().map(|tick| axis.label(tick)).collect();
            assert_eq!(labels, expected, "{low} to {high}");
            assert!(axis.from <= low && axis.to >= high);
        };
        check(0.0, 600.0, &["0", "200", "400", "600"]);
        check(2.1, 8.3, &["2", "4", "6", "8", "10"]);
        check(0.0, 0.003, &["0", "0.001", "0.002", "0.003"]);
        check(0.0, 3e-4, &["0", "1e−4", "2e−4", "3e−4"]);
        check(1.0391, 1.0404, &["1.0390", "1.0395", "1.0400", "1.0405"]);
        check(-1.0, 1.0, &["−1.0", "−0.5", "0", "0.5", "1.0"]);
        check(2.51, 2.58, &["2.50", "2.52", "2.54", "2.56", "2.58"]);
        check(0.0, 12_000.0, &["0", "5,000", "10,000", "15,000"]);
    }
}
