//! User and password in a URL.

use std::ops::Range;

use super::context::before;

/// The maximum length of the authority after the scheme; bytes.
const MAX_AUTHORITY_BYTES: usize = 256;

/// Returns the password in the URL whose `://` is at `at`: between the first colon after it and the last `@` before the
/// path.
pub(super) fn password(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    before(text, at.start).filter(char::is_ascii_alphanumeric)?;
    let end = text.floor_char_boundary((at.end + MAX_AUTHORITY_BYTES).min(text.len()));
    let rest = &text[at.end..end];
    let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '<' | '>' | '`' | ',' | '\\');
    let authority = rest.find(ends).map_or(rest, |length| &rest[..length]);
    let (userinfo, _host) = authority.rsplit_once('@')?;
    let (user, password) = userinfo.split_once(':')?;
    let start = at.end + user.len() + 1;
    (!user.eq_ignore_ascii_case(password)).then_some(start..start + password.len())
}

/// Returns true if the `@` after the local part that begins at `local` belongs to a URL's authority.
pub(super) fn is_userinfo(text: &str, local: usize) -> bool {
    let start = text.ceil_char_boundary(local.saturating_sub(MAX_AUTHORITY_BYTES));
    let window = &text[start..local];
    window.rfind("://").is_some_and(|scheme| {
        let after = &window[scheme + 3..];
        !after.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '<' | '>' | ','))
    })
}
