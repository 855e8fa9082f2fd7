//! The place of a request in its caller's trace: the header `traceparent` (Trace Context, W3C Recommendation, 2021).

use axum::http::HeaderMap;

const HEADER: &str = "traceparent";

/// The span of the caller that a request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceParent {
    /// The trace's id, not 0.
    pub(crate) trace: u128,
    /// The span's id, not 0.
    pub(crate) span: u64,
    /// Bits, of which the lowest says that the caller records the trace.
    pub(crate) flags: u8,
}

impl TraceParent {
    /// Returns the parent that headers name. One that is not valid counts as none, as the recommendation asks.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(HEADER).iter();
        let value = values.next().filter(|_| values.next().is_none())?;
        Self::parse(value.to_str().ok()?)
    }

    fn parse(value: &str) -> Option<Self> {
        let mut fields = value.split('-');
        let mut next = |digits| fields.next().and_then(|field| hexadecimal(field, digits));
        let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        // Later versions may add fields; 255 is no version.
        let is_valid = version != 0xff && (version != 0 || fields.next().is_none()) && trace != 0 && span != 0;
        is_valid.then_some(Self { trace, span: span as u64, flags: flags as u8 })
    }
}

/// Reads a number of so many digits, lower case.
fn hexadecimal(field: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if field.len() != digits || !field.bytes().all(is_digit) {
        return None;
    }
    u128::from_str_radix(field, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_the_recommendation() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let parent =
            TraceParent { trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, span: 0x00f0_67aa_0ba9_02b7, flags: 1 };
        for (value, expected) in [
            (format!("00-{trace}-{span}-01"), Some(parent)),
            (format!("00-{trace}-{span}-00"), Some(TraceParent { flags: 0, ..parent })),
            (format!("cc-{trace}-{span}-01-what-comes"), Some(parent)),
            (format!("00-{trace}-{span}-01-more"), None),
            (format!("ff-{trace}-{span}-01"), None),
            (format!("00-{trace}-{span}"), None),
            (format!("00-{trace}-{span}-1"), None),
            (format!("00-{}-{span}-01", trace.to_uppercase()), None),
            (format!("00-{}-{span}-01", "0".repeat(32)), None),
            (format!("00-{trace}-{}-01", "0".repeat(16)), None),
            (format!("00-+{}-{span}-01", &trace[1..]), None),
            (String::new(), None),
        ] {
            assert_eq!(TraceParent::parse(&value), expected, "{value}");
        }
    }

    #[test]
    fn two_parents_are_none() {
        let mut headers = HeaderMap::new();
        let value = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.append(HEADER, value.parse().unwrap());
        assert!(TraceParent::of(&headers).is_some());
        headers.append(HEADER, value.parse().unwrap());
        assert_eq!(TraceParent::of(&headers), None);
    }
}
