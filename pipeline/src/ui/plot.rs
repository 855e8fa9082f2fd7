//! A line plot for the terminal, of braille dots: two by four in each character.

use crate::run::values::number_text;

/// Columns for the labels of the vertical axis.
const LABELS: usize = 9;

/// The bits of a braille character from U+2800, by column and row (Unicode 1.1).
const DOTS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// Returns the lines of a plot of `points`, `width` columns wide and `height` lines high; none without two finite
/// points.
pub fn plot(points: &[(f64, f64)], width: usize, height: usize) -> Vec<String> {
    let finite: Vec<(f64, f64)> = points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    let (columns, rows) = (width.saturating_sub(LABELS + 2), height);
    if finite.len() < 2 || columns == 0 || rows == 0 {
        return Vec::new();
    }
    let range = |value: fn(&(f64, f64)) -> f64| {
        let (low, high) = finite
            .iter()
            .map(value)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if high > low { (low, high) } else { (low - 0.5, low + 0.5) }
    };
    let (left, right) = range(|point| point.0);
    let (bottom, top) = range(|point| point.1);
    let mut cells = vec![0u32; columns * rows];
    let (dots_across, dots_down) = (2 * columns - 1, 4 * rows - 1);
    let place = |(x, y): (f64, f64)| {
        let across = (x - left) / (right - left) * dots_across as f64;
        let down = (top - y) / (top - bottom) * dots_down as f64;
        (across.round() as usize, down.round() as usize)
    };
    let mut before = place(finite[0]);
    for point in &finite {
        let to = place(*point);
        let steps = to.0.abs_diff(before.0).max(to.1.abs_diff(before.1)).max(1);
        for step in 0..=steps {
            let between =
                |a: usize, b: usize| (a as f64 + (b as f64 - a as f64) * step as f64 / steps as f64).round() as usize;
            let (x, y) = (between(before.0, to.0), between(before.1, to.1));
            cells[y / 4 * columns + x / 2] |= DOTS[x % 2][y % 4];
        }
        before = to;
    }
    let label = |row: usize| match row {
        0 => number_text(rounded(top)),
        row if row + 1 == rows => number_text(rounded(bottom)),
        _ => String::new(),
    };
    let line = |(row, cells): (usize, &[u32])| {
        let dots: String = cells.iter().filter_map(|dots| char::from_u32(0x2800 + dots)).collect();
        format!("{:>LABELS$} ┤{dots}", label(row))
    };
    cells.chunks(columns).enumerate().map(line).collect()
}

/// Returns a number with four significant digits, which the labels have room for.
fn rounded(number: f64) -> f64 {
    format!("{number:.3e}").parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_from_corner_to_corner() {
        let expected = ["        3 ┤⠑⢄  ", "        1 ┤  ⠑⢄"].map(|line| line.replace(' ', "\u{2800}"));
        let found = plot(&[(0.0, 3.0), (10.0, 1.0)], LABELS + 6, 2);
        assert_eq!(found.iter().map(|line| line.replace(' ', "\u{2800}")).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn degenerate_data_is_plotted_or_left_out() {
        assert!(plot(&[], 40, 5).is_empty());
        assert!(plot(&[(1.0, f64::NAN), (2.0, 1.0)], 40, 5).is_empty());
        assert!(plot(&[(1.0, 1.0), (2.0, 1.0)], 5, 5).is_empty());
        for points in [[(1.0, 2.0), (1.0, 2.0)], [(1.0, 1e300), (2.0, -1e300)], [(0.0, 0.0), (1.0, 1e-300)]] {
            assert_eq!(plot(&points, 40, 5).len(), 5, "{points:?}");
        }
    }
}
