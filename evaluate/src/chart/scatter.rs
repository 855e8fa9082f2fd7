//! A plot of points whose area shows a third measure.

use super::{Axis, BOTTOM, LEFT, Plane, escaped, push};

/// The radius of the point with the largest measure.
const MAX_RADIUS: f64 = 16.0;

/// The radius of the smallest points, which must still be visible.
const MIN_RADIUS: f64 = 3.0;

/// The width of a letter of a label, on average, and the height of a line: those of phones, where letters are largest.
const LETTER_WIDTH: f64 = 9.0;
const LINE_HEIGHT: f64 = 21.0;

/// A point with its label.
pub(crate) struct Point {
    pub(crate) name: String,
    /// What stands after the name.
    pub(crate) detail: String,
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
            let circles: Vec<Circle<'_>> = points().map(|point| plane.circle(point, max)).collect();
            let mut taken: Vec<Area> = circles.iter().map(Circle::area).collect();
            for circle in &circles {
                let label = plane.label(circle, &taken);
                taken.push(label.area);
                circle.draw(&mut svg, &label);
            }
        }
        svg + "</svg>"
    }
}

/// A point on the canvas.
struct Circle<'a> {
    point: &'a Point,
    cx: f64,
    cy: f64,
    radius: f64,
}

/// A rectangle on the canvas.
#[derive(Debug, Clone, Copy)]
struct Area {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

/// Where the label of a point stands.
struct Label {
    x: f64,
    y: f64,
    anchor: &'static str,
    area: Area,
}

impl Plane {
    fn circle<'a>(&self, point: &'a Point, max_size: f64) -> Circle<'a> {
        let (cx, cy) = self.at(point.x, point.y);
        let ratio = if max_size > 0.0 { (point.size / max_size).clamp(0.0, 1.0) } else { 0.0 };
        Circle { point, cx, cy, radius: (MAX_RADIUS * ratio.sqrt()).max(MIN_RADIUS) }
    }

    /// Returns the first place beside a circle that is inside the canvas and not taken; the last one if all are.
    fn label(&self, circle: &Circle<'_>, taken: &[Area]) -> Label {
        let Circle { point, cx, cy, radius } = circle;
        let width = LETTER_WIDTH * (point.name.chars().count() + 1 + point.detail.chars().count()) as f64;
        let sides = [(cx + radius + 5.0, "start", 0.0), (cx - radius - 5.0, "end", width)];
        let beside = [0.0, -1.0, 1.0, -2.0, 2.0, -3.0, 3.0]
            .into_iter()
            .flat_map(|line| sides.map(|(x, anchor, before)| (x, cy + 4.0 + line * LINE_HEIGHT, anchor, before)));
        let mut last = None;
        for (x, y, anchor, before) in beside {
            let area =
                Area { left: x - before, right: x - before + width, top: y - LINE_HEIGHT + 4.0, bottom: y + 4.0 };
            let is_inside = area.left >= LEFT && area.right <= self.width && area.top >= 0.0;
            let is_inside = is_inside && area.bottom <= self.height - BOTTOM;
            let is_free = !taken.iter().any(|other| area.overlaps(other));
            let label = Label { x, y, anchor, area };
            if is_inside && is_free {
                return label;
            }
            last = last.or(Some(label));
        }
        last.unwrap_or(Label { x: *cx, y: *cy, anchor: "middle", area: circle.area() })
    }
}

impl Circle<'_> {
    fn area(&self) -> Area {
        let Self { cx, cy, radius, .. } = self;
        Area { left: cx - radius, right: cx + radius, top: cy - radius, bottom: cy + radius }
    }

    fn draw(&self, svg: &mut String, label: &Label) {
        let (Self { cx, cy, radius, point }, Label { x, y, anchor, .. }) = (self, label);
        let (name, detail) = (escaped(&point.name), escaped(&point.detail));
        push(svg, format_args!(r#"<circle class="point" cx="{cx:.1}" cy="{cy:.1}" r="{radius:.1}">"#));
        push(svg, format_args!("<title>{name} {detail}</title></circle>"));
        push(svg, format_args!(r#"<text class="legend" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">"#));
        push(svg, format_args!("<tspan>{name}</tspan> {detail}</text>"));
    }
}

impl Area {
    fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(points: &[(f64, f64, f64)]) -> String {
        let point =
            |&(x, y, size): &(f64, f64, f64)| Point { name: "a < b".to_owned(), detail: "7/s".to_owned(), x, y, size };
        let points: Vec<Point> = points.iter().map(point).collect();
        Scatter { title: "t & u", x_label: "MB", width: 400.0, height: 200.0, points: &points }.to_svg()
    }

    #[test]
    fn areas_are_proportional_to_the_measure() {
        let text = svg(&[(1.0, 2.0, 100.0), (2.0, 1.0, 400.0), (3.0, 1.5, 0.0)]);
        let radii: Vec<&str> = text.split(" r=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(radii, ["8.0", "16.0", "3.0"]);
        assert_eq!(text.matches("<tspan>a &lt; b</tspan> 7/s</text>").count(), 3, "{text}");
    }

    #[test]
    fn labels_do_not_overlap() {
        let point = |x, y| Point { name: "checkpoint".to_owned(), detail: "1,234/s".to_owned(), x, y, size: 1.0 };
        let points = [point(10.4, 1.5), point(5.2, 1.5), point(5.2, 1.5003), point(5.3, 1.4999), point(1.4, 1.9)];
        let plane = Plane {
            x: Axis::around(points.iter().map(|point| point.x), true).unwrap(),
            y: Axis::around(points.iter().map(|point| point.y), false).unwrap(),
            width: 640.0,
            height: 300.0,
        };
        let circles: Vec<Circle<'_>> = points.iter().map(|point| plane.circle(point, 1.0)).collect();
        let mut taken: Vec<Area> = circles.iter().map(Circle::area).collect();
        for circle in &circles {
            let Area { left, right, .. } = plane.label(circle, &taken).area;
            assert!(left >= 0.0 && right <= 640.0);
            let area = plane.label(circle, &taken).area;
            assert!(!taken.iter().any(|other| area.overlaps(other)), "{area:?} in {taken:?}");
            taken.push(area);
        }
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
