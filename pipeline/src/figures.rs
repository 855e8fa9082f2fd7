//! Figures as people read them: bytes, seconds, counts and times of day.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns a length in decimal units with three significant digits: `14.2 MB`.
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

/// Returns the present time in UTC as RFC 3339 writes it, to the second; texts of this form sort as the times do.
pub fn now() -> String {
    utc(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
}

/// Returns the time `unix_seconds` after 1970 in UTC.
///
/// The date is computed as in Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms" (2013), `civil_from_days`,
/// for days after 1970 only.
fn utc(unix_seconds: u64) -> String {
    let days = unix_seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let second = unix_seconds % 86_400;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T>(of: impl Fn(T) -> String, input: T, expected: &str) {
        assert_eq!(of(input), expected);
    }

    #[test]
    fn figures_have_three_digits_and_a_unit() {
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
    fn times_are_those_of_the_calendar() {
        // `date -u -d @N +%FT%TZ`
        check(utc, 0, "1970-01-01T00:00:00Z");
        check(utc, 951_827_696, "2000-02-29T12:34:56Z");
        check(utc, 1_709_251_199, "2024-02-29T23:59:59Z");
        check(utc, 4_102_444_800, "2100-01-01T00:00:00Z");
    }
}
