//! What names a request in the access log and in its answer: the header `X-Request-Id`, which OpenAI's clients show
//! with their errors.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::random::random;

pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longer ids of clients are not repeated. Heuristic, not measured: ids of proxies are shorter.
const MAX_BYTES: usize = 128;

/// Returns the id that the client has given a request, else a new one.
pub(super) fn of(headers: &HeaderMap) -> HeaderValue {
    let is_id = |id: &&HeaderValue| {
        let bytes = id.as_bytes();
        (1..=MAX_BYTES).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    };
    let new = || HeaderValue::try_from(format!("req_{:016x}", random()));
    // A new one is always valid.
    headers.get(HEADER).filter(is_id).cloned().or_else(|| new().ok()).unwrap_or(HeaderValue::from_static("req"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_clients_where_they_are_harmless() {
        let of = |id: &str| super::of(&HeaderMap::from_iter([(HEADER, HeaderValue::from_str(id).unwrap())]));
        assert_eq!(of("a-1"), "a-1");
        for other in ["", "a b", "\u{e9}", &"a".repeat(MAX_BYTES + 1)] {
            assert!(of(other).to_str().unwrap().starts_with("req_"), "{other}");
        }
        assert_ne!(super::of(&HeaderMap::new()), super::of(&HeaderMap::new()));
    }
}
