//! The present time.

use jiff::{Timestamp, Unit};

/// Returns the present time in UTC as RFC 3339 has it, to the second; texts of this form sort as the times do.
pub fn now() -> String {
    let now = Timestamp::now();
    // Rounding fails only at the end of the calendar.
    now.round(Unit::Second).unwrap_or(now).to_string()
}
