//! The present time, as records have it.

use jiff::{Timestamp, Unit};

/// Returns the present time in UTC as RFC 3339 has it, to the second; texts of this form sort as the times do.
pub fn now() -> String {
    let now = Timestamp::now();
    // Rounding fails only at the end of the calendar.
    now.round(Unit::Second).unwrap_or(now).to_string()
}

/// Returns the seconds from 1970 to a time that [`now`] returned; none if the text is not one.
pub fn seconds(time: &str) -> Option<u64> {
    u64::try_from(time.parse::<Timestamp>().ok()?.as_second()).ok()
}
