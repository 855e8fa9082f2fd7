//! Dates, times, durations and intervals as text of ISO 8601.
//!
//! Timestamps with a time zone are in UTC with the offset `+00:00`, those without one have none. Seconds have no
//! fraction, or one of six digits, or of nine where the unit is smaller. Years beyond 9999 have a sign. A duration is
//! written in days of 24 hours.

use arrow_schema::TimeUnit;

const DAY_SECONDS: i64 = 86_400;
const NANOSECONDS: i128 = 1_000_000_000;

/// Returns how many units are in a second.
fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Returns a date, given its days since 1970-01-01.
pub(super) fn date(days: i64) -> String {
    // Days since 0000-03-01, in the proleptic Gregorian calendar: eras of 400 years, whose years begin in March.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let year = if (0..=9999).contains(&year) { format!("{year:04}") } else { format!("{year:+05}") };
    format!("{year}-{month:02}-{day:02}")
}

/// Returns a time of day, given its units since midnight.
pub(super) fn time(value: i64, unit: TimeUnit) -> String {
    let per_second = per_second(unit);
    let (seconds, part) = (value.div_euclid(per_second), value.rem_euclid(per_second));
    let nanoseconds = part * (1_000_000_000 / per_second);
    let sign = if seconds < 0 { "-" } else { "" };
    let seconds = seconds.unsigned_abs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{sign}{hours:02}:{minutes:02}:{:02}{}", seconds % 60, fraction(nanoseconds))
}

/// Returns a point in time, given its units since 1970-01-01.
pub(super) fn timestamp(value: i64, unit: TimeUnit, has_zone: bool) -> String {
    let day = DAY_SECONDS * per_second(unit);
    let offset = if has_zone { "+00:00" } else { "" };
    format!("{}T{}{offset}", date(value.div_euclid(day)), time(value.rem_euclid(day), unit))
}

/// Returns a duration.
pub(super) fn duration(value: i64, unit: TimeUnit) -> String {
    let nanoseconds = i128::from(value) * (NANOSECONDS / i128::from(per_second(unit)));
    let sign = if value < 0 { "-" } else { "" };
    let nanoseconds = nanoseconds.abs();
    let day = i128::from(DAY_SECONDS) * NANOSECONDS;
    parts(sign, 0, nanoseconds / day, nanoseconds % day)
}

/// Returns an interval of months, days and nanoseconds, each of which may be negative.
pub(super) fn interval(months: i32, days: i32, nanoseconds: i64) -> String {
    parts("", months, i128::from(days), i128::from(nanoseconds))
}

fn parts(sign: &str, months: i32, days: i128, nanoseconds: i128) -> String {
    let part = |value: i128, letter: char| if value == 0 { String::new() } else { format!("{value}{letter}") };
    let seconds = nanoseconds / NANOSECONDS;
    let rest = (nanoseconds % NANOSECONDS) as i64;
    let seconds_text = match (seconds % 60, rest) {
        (0, 0) => String::new(),
        (seconds, rest) => {
            let sign = if seconds < 0 || rest < 0 { "-" } else { "" };
            format!("{sign}{}{}S", seconds.abs(), fraction(rest.abs()))
        }
    };
    let date = [part(i128::from(months / 12), 'Y'), part(i128::from(months % 12), 'M'), part(days, 'D')].concat();
    let time = [part(seconds / 3600, 'H'), part(seconds / 60 % 60, 'M'), seconds_text].concat();
    match (date.is_empty(), time.is_empty()) {
        (true, true) => "PT0S".to_owned(),
        (false, true) => format!("{sign}P{date}"),
        _ => format!("{sign}P{date}T{time}"),
    }
}

/// Returns the fraction of a second, with its point.
fn fraction(nanoseconds: i64) -> String {
    match nanoseconds {
        0 => String::new(),
        nanoseconds if nanoseconds % 1000 == 0 => format!(".{:06}", nanoseconds / 1000),
        nanoseconds => format!(".{nanoseconds:09}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};

    #[test]
    fn dates_are_those_of_the_gregorian_calendar() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (19_782, "2024-02-29"),
            (-719_528, "0000-01-01"),
            (-719_529, "-0001-12-31"),
            (2_932_896, "9999-12-31"),
            (2_932_897, "+10000-01-01"),
            (i64::from(i32::MAX), "+5881580-07-11"),
        ] {
            assert_eq!(date(days), expected);
        }
    }

    #[test]
    fn times_have_the_digits_they_need() {
        assert_eq!(time(0, Second), "00:00:00");
        assert_eq!(time(86_399_999, Millisecond), "23:59:59.999000");
        assert_eq!(time(3_723_000_001, Nanosecond), "00:00:03.723000001");
        assert_eq!(timestamp(1_700_000_000_123, Millisecond, true), "2023-11-14T22:13:20.123000+00:00");
        assert_eq!(timestamp(-1, Microsecond, false), "1969-12-31T23:59:59.999999");
        assert_eq!(timestamp(i64::MIN, Nanosecond, true), "1677-09-21T00:12:43.145224192+00:00");
        assert_eq!(timestamp(i64::MAX, Second, false), "+292277026596-12-04T15:30:07");
    }

    #[test]
    fn durations_and_intervals_leave_out_what_is_zero() {
        assert_eq!(duration(0, Second), "PT0S");
        assert_eq!(duration(90_061, Second), "P1DT1H1M1S");
        assert_eq!(duration(-1_500, Millisecond), "-PT1.500000S");
        assert_eq!(duration(86_400_000_000, Microsecond), "P1D");
        assert_eq!(duration(i64::MIN, Second), "-P106751991167300DT15H30M8S");
        assert_eq!(interval(14, 0, 0), "P1Y2M");
        assert_eq!(interval(-1, 2, -3_000_000_001), "P-1M2DT-3.000000001S");
        assert_eq!(interval(0, 0, -1), "PT-0.000000001S");
    }
}
