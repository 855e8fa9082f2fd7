//! The part of a URL that names a user and a password.

use std::ops::Range;

use super::context::before;

/// How far from the scheme a host is looked for; bytes.
const MOST_AUTHORITY_BYTES: usize = 256;

/// Returns the password in the URL whose `://` is at `at`: between the first colon behind it and the last `@` before the
/// path.
pub(super) fn password(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    before(text, at.start).filter(char::is_ascii_alphanumeric)?;
    let end = text.floor_char_boundary((at.end + MOST_AUTHORITY_BYTES).min(text.len()));
    let rest = &text[at.end..end];
    let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '<' | '>' | '`' | ',' | '\\');
    let authority = rest.find(ends).map_or(rest, |length| &rest[..length]);
    let (userinfo, _host) = authority.rsplit_once('@')?;
    let (user, password) = userinfo.split_once(':')?;
    let start = at.end + user.len() + 1;
    (!user.eq_ignore_ascii_case(password)).then_some(start..start + password.len())
}

/// Returns whether the `@` behind the local part that begins at `local` belongs to a URL's host.
pub(super) fn is_userinfo(text: &str, local: usize) -> bool {
    let start = text.ceil_char_boundary(local.saturating_sub(MOST_AUTHORITY_BYTES));
    let window = &text[start..local];
    window.rfind("://").is_some_and(|scheme| {
        let behind = &window[scheme + 3..];
        !behind.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '<' | '>' | ','))
    })
}
