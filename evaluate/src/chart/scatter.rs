//! A plot of points whose area shows a third measure.

use super::{Axis, BOTTOM, LEFT, Plane, RIGHT, TOP, escaped, push};

/// The radius of the point with the largest measure.
const MAX_RADIUS: f64 = 16.0;

/// The radius of the smallest points, which must still be visible.
const MIN_RADIUS: f64 = 3.0;

/// A point with its label.
pub(crate) struct Point {
    pub(crate) label: String,
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// The measure that the area is proportional to.
    pub(crate) size: f64,
}

/// A plot of labelled points; the horizontal axis starts at 0.
pub(crate) struct Scatter<'a> {
    /// The title for screen readers.
    pub(crate) title: &'a str,
    /// The unit of the horizontal axis, at its right end.
    pub(crate) x_label: &'a str,
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) points: &'a [Point],
}

impl Scatter<'_> {
    /// Returns the SVG element. Points that are not finite are left out.
    pub(crate) fn to_svg(&self) -> String {
        let title = escaped(self.title);
        let mut svg = format!(
            r#"<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{title}">"#,
            self.width, self.height
        );
        let points = || self.points.iter().filter(|point| point.x.is_finite() && point.y.is_finite());
        let x = Axis::around(points().map(|point| point.x), true);
        let y = Axis::around(points().map(|point| point.y), false);
        if let (Some(x), Some(y)) = (x, y) {
            let plane = Plane { x, y, width: self.width, height: self.height };
            plane.draw_grid(&mut svg, self.x_label);
            let max = points().map(|point| point.size).fold(0.0, f64::max);
            for point in points() {
                plane.draw_point(&mut svg, point, max);
            }
        }
        svg + "</svg>"
    }
}

impl Plane {
    fn draw_point(&self, svg: &mut String, point: &Point, max_size: f64) {
        let (cx, cy) = self.at(point.x, point.y);
        let ratio = if max_size > 0.0 { (point.size / max_size).clamp(0.0, 1.0) } else { 0.0 };
        let radius = (MAX_RADIUS * ratio.sqrt()).max(MIN_RADIUS);
        let label = escaped(&point.label);
        push(svg, format_args!(r#"<circle class="point" cx="{cx:.1}" cy="{cy:.1}" r="{radius:.1}">"#));
        push(svg, format_args!("<title>{label}</title></circle>"));
        // Where there is room for it.
        let is_right = cx > f64::midpoint(LEFT, self.width - RIGHT);
        let (x, anchor) = if is_right { (cx - radius - 5.0, "end") } else { (cx + radius + 5.0, "start") };
        let y = (cy + 4.0).clamp(TOP, self.height - BOTTOM);
        push(svg, format_args!(r#"<text class="legend" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{label}</text>"#));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(points: &[(f64, f64, f64)]) -> String {
        let point = |&(x, y, size): &(f64, f64, f64)| Point { label: "a < b".to_owned(), x, y, size };
        let points: Vec<Point> = points.iter().map(point).collect();
        Scatter { title: "t & u", x_label: "MB", width: 400.0, height: 200.0, points: &points }.to_svg()
    }

    #[test]
    fn areas_are_proportional_to_the_measure() {
        let text = svg(&[(1.0, 2.0, 100.0), (2.0, 1.0, 400.0), (3.0, 1.5, 0.0)]);
        let radii: Vec<&str> = text.split(" r=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(radii, ["8.0", "16.0", "3.0"]);
        assert_eq!(text.matches("a &lt; b</text>").count(), 3, "{text}");
    }

    #[test]
    fn degenerate_data_gives_valid_svg() {
        let check = |points: &[(f64, f64, f64)], circles: usize| {
            let text = svg(points);
            for wrong in ["NaN", "inf", "< b"] {
                assert!(!text.contains(wrong), "{wrong} in {text}");
            }
            assert_eq!(text.matches("<circle").count(), circles, "{text}");
            assert!(text.ends_with("</svg>"));
        };
        check(&[], 0);
        check(&[(f64::NAN, 1.0, 1.0)], 0);
        check(&[(1.0, 1.0, 0.0)], 1);
        check(&[(1.0, 1.0, f64::NAN), (1.0, 1.0, 2.0)], 2);
    }
}
