//! The graph of artifacts: boxes in the order of a run, and an arrow for each input.

use super::{escaped, push};

const BOX_WIDTH: f64 = 128.0;
const BOX_HEIGHT: f64 = 48.0;
const GAP: f64 = 44.0;
/// How far an arrow that passes a box rises above it, for each box that it passes.
const RISE: f64 = 24.0;

/// A box.
pub(crate) struct Node {
    pub(crate) name: String,
    /// The line below the name.
    pub(crate) detail: String,
    /// The indices of the boxes before it that it was made from.
    pub(crate) inputs: Vec<usize>,
}

/// Returns the SVG element of a graph, whose last box is highlighted.
pub(crate) fn to_svg(title: &str, nodes: &[Node]) -> String {
    let passed = |(to, node): (usize, &Node)| node.inputs.iter().map(move |from| to.saturating_sub(from + 1)).max();
    let top = 8.0 + RISE * nodes.iter().enumerate().filter_map(passed).max().unwrap_or(0) as f64;
    let width = nodes.len() as f64 * (BOX_WIDTH + GAP) - GAP + 4.0;
    let mut svg = format!(
        r#"<svg class="chart" viewBox="0 0 {width} {}" role="img" aria-label="{}">"#,
        top + BOX_HEIGHT + 6.0,
        escaped(title)
    );
    let left = |index: usize| 2.0 + index as f64 * (BOX_WIDTH + GAP);
    for (to, node) in nodes.iter().enumerate() {
        for from in node.inputs.iter().filter(|from| **from < to) {
            draw_arrow(&mut svg, left(*from), left(to), top, to - from - 1);
        }
    }
    for (index, node) in nodes.iter().enumerate() {
        let (x, middle) = (left(index), left(index) + BOX_WIDTH / 2.0);
        let class = if index + 1 == nodes.len() { "box own" } else { "box" };
        let (name, detail) = (escaped(&node.name), escaped(&node.detail));
        let (name_y, detail_y) = (top + 20.0, top + 37.0);
        push(
            &mut svg,
            format_args!(
                r#"<rect class="{class}" x="{x}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8"/>"#
            ),
        );
        push(
            &mut svg,
            format_args!(r#"<text class="name" x="{middle}" y="{name_y}" text-anchor="middle">{name}</text>"#),
        );
        push(
            &mut svg,
            format_args!(r#"<text class="tick" x="{middle}" y="{detail_y}" text-anchor="middle">{detail}</text>"#),
        );
    }
    svg + "</svg>"
}

/// Draws an arrow between two boxes: straight to the next one, else over the `passed` boxes between them.
fn draw_arrow(svg: &mut String, from: f64, to: f64, top: f64, passed: usize) {
    if passed == 0 {
        let (x1, x2, y) = (from + BOX_WIDTH, to - 8.0, top + BOX_HEIGHT / 2.0);
        push(svg, format_args!(r#"<path class="edge" d="M{x1} {y}L{x2} {y}"/>"#));
        push(svg, format_args!(r#"<path class="head" d="M{to} {y}l-9 -4.5v9z"/>"#));
        return;
    }
    // Arrows leave on the right half of the top and arrive on the left half, the longest furthest outside.
    let shift = BOX_WIDTH / (2.0 + 2.0 * passed as f64);
    let (x1, x2, y) = (from + BOX_WIDTH - shift, to + shift, top - RISE * passed as f64);
    let end = top - 8.0;
    push(svg, format_args!(r#"<path class="edge" d="M{x1:.1} {top}C{x1:.1} {y} {x2:.1} {y} {x2:.1} {end}"/>"#));
    push(svg, format_args!(r#"<path class="head" d="M{x2:.1} {top}l-4.5 -9h9z"/>"#));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, inputs: &[usize]) -> Node {
        Node { name: name.to_owned(), detail: "a < b".to_owned(), inputs: inputs.to_vec() }
    }

    #[test]
    fn every_input_has_an_arrow_within_the_picture() {
        let check = |nodes: &[Node], arrows: usize| {
            let svg = to_svg("t & u", nodes);
            assert_eq!(svg.matches("class=\"edge\"").count(), arrows, "{svg}");
            assert_eq!(svg.matches("<rect").count(), nodes.len());
            assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("< b"), "{svg}");
            assert!(svg.contains("t &amp; u") && svg.ends_with("</svg>"));
            // The highest point of a curve is a coordinate of its control points, from which it keeps a distance.
            assert!(!svg.contains(" -1"), "{svg}");
        };
        check(&[], 0);
        check(&[node("a", &[])], 0);
        // Inputs that come later are none.
        check(&[node("a", &[0, 1]), node("b", &[0])], 1);
        check(&[node("a", &[]), node("b", &[0]), node("c", &[1]), node("d", &[0, 1, 2])], 5);
    }
}
