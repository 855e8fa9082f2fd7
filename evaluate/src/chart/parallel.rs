//! Parallel coordinates (Inselberg, The plane with parallel coordinates, 1985): a vertical axis for each measure, and a
//! line through all of them for each object.

use super::{escaped, push};

const LEFT: f64 = 60.0;
const RIGHT: f64 = 60.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 22.0;

/// A vertical axis.
pub struct Axis<'a> {
    /// The name above it.
    pub name: &'a str,
    /// The marked places, from 0 at the bottom to 1 at the top, with their labels.
    pub ticks: Vec<(f64, String)>,
}

/// A line through all axes.
pub struct ParallelLine {
    /// The place on each axis, from 0 to 1; the line has a gap where it is not finite.
    pub places: Vec<f64>,
    /// How good it is, from 0 to 1, shown by its opacity.
    pub weight: f64,
    /// Whether it is the best, which is drawn in another colour and last.
    pub is_best: bool,
    /// The text that a pointer shows.
    pub title: String,
}

/// A plot of parallel coordinates.
pub struct Parallel<'a> {
    /// The title for screen readers.
    pub title: &'a str,
    /// The width, in pixels of the canvas.
    pub width: f64,
    /// The height, in pixels of the canvas.
    pub height: f64,
    /// The axes from the left.
    pub axes: &'a [Axis<'a>],
    /// The lines.
    pub lines: &'a [ParallelLine],
}

impl Parallel<'_> {
    /// Returns the SVG element.
    pub fn to_svg(&self) -> String {
        let mut svg = format!(
            r#"<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">"#,
            self.width,
            self.height,
            escaped(self.title)
        );
        for best in [false, true] {
            for line in self.lines.iter().filter(|line| line.is_best == best) {
                self.draw_line(&mut svg, line);
            }
        }
        for (i, axis) in self.axes.iter().enumerate() {
            self.draw_axis(&mut svg, i, axis);
        }
        svg + "</svg>"
    }

    /// Returns the horizontal place of axis `i`.
    fn x(&self, i: usize) -> f64 {
        let gaps = self.axes.len().saturating_sub(1).max(1) as f64;
        LEFT + i as f64 * (self.width - LEFT - RIGHT) / gaps
    }

    fn y(&self, place: f64) -> f64 {
        let bottom = self.height - BOTTOM;
        bottom - place.clamp(0.0, 1.0) * (bottom - TOP)
    }

    fn draw_line(&self, svg: &mut String, line: &ParallelLine) {
        let mut path = String::new();
        let mut pen_is_down = false;
        for (i, place) in line.places.iter().enumerate().take(self.axes.len()) {
            if !place.is_finite() {
                pen_is_down = false;
                continue;
            }
            let (x, y) = (self.x(i), self.y(*place));
            push(&mut path, format_args!("{}{x:.1} {y:.1}", if pen_is_down { "L" } else { "M" }));
            pen_is_down = true;
        }
        let (class, title) = (if line.is_best { "line first" } else { "line second" }, escaped(&line.title));
        let weight = if line.weight.is_finite() { line.weight.clamp(0.0, 1.0) } else { 0.0 };
        let opacity = if line.is_best { 1.0 } else { 0.15 + 0.7 * weight };
        push(
            svg,
            format_args!(r#"<path class="{class}" opacity="{opacity:.2}" d="{path}"><title>{title}</title></path>"#),
        );
    }

    fn draw_axis(&self, svg: &mut String, i: usize, axis: &Axis<'_>) {
        let (x, top, bottom) = (self.x(i), self.y(1.0), self.y(0.0));
        push(svg, format_args!(r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{top}" y2="{bottom}"/>"#));
        let name = escaped(axis.name);
        push(svg, format_args!(r#"<text class="legend" x="{x:.1}" y="14" text-anchor="middle">{name}</text>"#));
        let (text_x, anchor) = if i == 0 { (x - 6.0, "end") } else { (x + 6.0, "start") };
        for (place, label) in &axis.ticks {
            let (y, label) = (self.y(*place) + 4.0, escaped(label));
            push(
                svg,
                format_args!(r#"<text class="tick" x="{text_x:.1}" y="{y:.1}" text-anchor="{anchor}">{label}</text>"#),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(lines: &[(Vec<f64>, bool)]) -> String {
        let axes =
            ["a < b", "loss"].map(|name| Axis { name, ticks: vec![(0.0, "0".to_owned()), (1.0, "\"1\"".to_owned())] });
        let line = |(places, is_best): &(Vec<f64>, bool)| ParallelLine {
            places: places.clone(),
            weight: f64::NAN,
            is_best: *is_best,
            title: "x > y".to_owned(),
        };
        let lines: Vec<ParallelLine> = lines.iter().map(line).collect();
        Parallel { title: "t & u", width: 400.0, height: 200.0, axes: &axes, lines: &lines }.to_svg()
    }

    #[test]
    fn a_line_goes_through_every_axis_and_the_best_is_last() {
        let text = svg(&[(vec![0.0, 1.0], true), (vec![1.0, 0.0], false)]);
        let paths: Vec<&str> = text.split("d=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(paths, ["M60.0 34.0L340.0 178.0", "M60.0 178.0L340.0 34.0"]);
    }

    #[test]
    fn degenerate_data_gives_valid_svg() {
        for lines in
            [vec![], vec![(vec![f64::NAN, 0.5], false)], vec![(vec![f64::INFINITY, 7.0], true)], vec![(vec![], false)]]
        {
            let text = svg(&lines);
            for wrong in ["NaN", "inf", "a < b", "x > y", "\"1\"<"] {
                assert!(!text.contains(wrong), "{wrong} in {text}");
            }
            assert_eq!(text.matches("<path").count(), lines.len());
        }
    }
}
