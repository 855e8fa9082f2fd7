//! Number formats for the terminal, reports and headlines.

/// Returns a size in decimal units with three significant digits: `14.2 MB`.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, &[" B", " kB", " MB", " GB", " TB"])
}

/// Returns a count with three significant digits: `1.24 M`.
pub fn count(count: f64) -> String {
    scaled(count, &["", " k", " M", " G", " T", " P", " E"])
}

fn scaled(value: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut unit = 0;
    // 999.5 would be printed as 1000.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{}", units[unit])
}

/// Returns a duration: `0.42 s`, `12.3 s`, `2 min 05 s`, `1 h 04 min`.
pub fn seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match seconds {
        s if s < 9.995 => format!("{s:.2} s"),
        s if s < 59.95 => format!("{s:.1} s"),
        _ if whole < 3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Returns a count with thousands separators: `1,234,567`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T>(format: impl Fn(T) -> String, input: T, expected: &str) {
        assert_eq!(format(input), expected);
    }

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        check(bytes, 0, "0 B");
        check(bytes, 999, "999 B");
        check(bytes, 1_000, "1.00 kB");
        check(bytes, 14_249_000, "14.2 MB");
        check(bytes, 999_600, "1.00 MB");
        check(count, 1_240_000.0, "1.24 M");
        check(seconds, 0.004, "0.00 s");
        check(seconds, 12.34, "12.3 s");
        check(seconds, 59.97, "1 min 00 s");
        check(seconds, 125.4, "2 min 05 s");
        check(seconds, 3_900.0, "1 h 05 min");
    }

    #[test]
    fn counts_are_grouped_by_three() {
        for (number, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            check(grouped, number, expected);
        }
    }
}
