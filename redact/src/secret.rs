//! Keys and tokens of common services, passwords in URLs and private keys.

mod named;
mod random;
mod services;

use std::ops::Range;

use super::context::{before, is_word};
use super::url;
use random::{is_random, span};
pub(super) use services::TOKENS;
use services::{Alphabet, Token};

/// The kind of secret that a literal may be part of, if it is not the prefix of a token.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mark {
    /// The name of a variable or key whose value is a secret.
    Name,
    /// A private key in PEM (RFC 7468) or `OpenPGP` format.
    Pem,
    /// A signed JSON web token (RFC 7519): `{"` in base64.
    Jwt,
    /// A URL that may contain a password.
    Scheme,
    /// A bot token of Telegram: a number, then this.
    Telegram,
    /// A client secret of Azure, which has this from its fourth character on.
    Azure,
}

/// Literals that are not prefixes of tokens.
pub(super) const MARKS: &[(&str, Mark)] = &[
    ("-----BEGIN ", Mark::Pem),
    ("eyJ", Mark::Jwt),
    ("://", Mark::Scheme),
    (":AA", Mark::Telegram),
    ("8Q~", Mark::Azure),
    ("7Q~", Mark::Azure),
    ("secret", Mark::Name),
    ("Secret", Mark::Name),
    ("SECRET", Mark::Name),
    ("token", Mark::Name),
    ("Token", Mark::Name),
    ("TOKEN", Mark::Name),
    ("apikey", Mark::Name),
    ("apiKey", Mark::Name),
    ("ApiKey", Mark::Name),
    ("APIKEY", Mark::Name),
    ("api_key", Mark::Name),
    ("api-key", Mark::Name),
    ("api key", Mark::Name),
    ("Api-Key", Mark::Name),
    ("API_KEY", Mark::Name),
    ("API-Key", Mark::Name),
    ("API key", Mark::Name),
    ("access_key", Mark::Name),
    ("accessKey", Mark::Name),
    ("AccessKey", Mark::Name),
    ("ACCESS_KEY", Mark::Name),
    ("access key", Mark::Name),
    ("auth_key", Mark::Name),
    ("AUTH_KEY", Mark::Name),
    ("private_key", Mark::Name),
    ("PRIVATE_KEY", Mark::Name),
    ("Bearer ", Mark::Name),
    ("bearer ", Mark::Name),
];

/// The maximum length of a private key: RSA with 16384 bits has about 13 KB.
const MAX_PEM_BYTES: usize = 16 << 10;

/// The maximum length of a part of a JSON web token; bytes.
const MAX_JWT_BYTES: usize = 8 << 10;

/// Returns the token that begins with the literal at `at`, if it is one.
pub(super) fn token(text: &str, at: Range<usize>, token: &Token) -> Option<Range<usize>> {
    let within_url = token.prefix.ends_with(['/', '=']);
    let is_glued = |c| is_word(c) || (c == '-' && token.prefix.ends_with('-'));
    if !within_url && before(text, at.start).is_some_and(is_glued) {
        return None;
    }
    let body = span(text, at.end, token.alphabet, token.length.end() + 1).trim_end_matches(['.', '-']);
    let has_digit = body.bytes().any(|byte| byte.is_ascii_digit());
    let found = token.length.contains(&body.len()) && (has_digit || !token.alphabet.has_words()) && is_random(body);
    // The host of a webhook stays, and so does the name of a key.
    let start = if within_url { at.end } else { at.start };
    found.then_some(start..at.end + body.len())
}

/// Returns the secret that the literal at `at` is part of, if it is one.
pub(super) fn marked(text: &str, at: Range<usize>, mark: Mark) -> Option<Range<usize>> {
    match mark {
        Mark::Name => named::value(text, at),
        Mark::Pem => private_key(text, at.start),
        Mark::Jwt => web_token(text, at.start),
        Mark::Scheme => url::password(text, at).filter(|range| is_password(&text[range.clone()])),
        Mark::Telegram => telegram(text, at.start),
        Mark::Azure => azure(text, at.start),
    }
}

/// Returns true if `password`, from a URL, is a real one: not a variable or a placeholder.
fn is_password(password: &str) -> bool {
    let is_pattern = |c: char| matches!(c, '{' | '}' | '$' | '<' | '>' | '%' | '*' | '[' | ']' | '(' | ')' | '|' | '…');
    let is_escaped = |password: &str| {
        password
            .split('%')
            .skip(1)
            .all(|code| code.len() >= 2 && code.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit))
    };
    let lower = password.to_ascii_lowercase();
    let placeholders = ["pass", "pwd", "secret", "token", "xxx", "example", "your", "...", "redacted", "changeme"];
    let has_letter = password.bytes().any(|byte| byte.is_ascii_alphabetic());
    let has_other = password.bytes().any(|byte| !byte.is_ascii_lowercase());
    let is_plain = !password.contains(|c| c != '%' && is_pattern(c)) && is_escaped(password);
    password.len() >= 6 && is_plain && has_letter && has_other && !placeholders.iter().any(|word| lower.contains(word))
}

/// Returns the block whose `-----BEGIN ` is at `start`, if it is a private key with a body: to its end line, or to the
/// end of its body.
fn private_key(text: &str, start: usize) -> Option<Range<usize>> {
    const DASHES: &str = "-----";
    let window = &text[start..text.floor_char_boundary((start + MAX_PEM_BYTES).min(text.len()))];
    let label = &window[DASHES.len() + "BEGIN ".len()..];
    let label = &label[..label.bytes().take(40).take_while(|byte| byte.is_ascii_uppercase() || *byte == b' ').count()];
    if !label.trim_end_matches(" BLOCK").ends_with("PRIVATE KEY") {
        return None;
    }
    let body_start = DASHES.len() + "BEGIN ".len() + label.len() + DASHES.len();
    let body = window.get(body_start..)?;
    let next = body.find(DASHES);
    let is_end = next.is_some_and(|next| body[next + DASHES.len()..].starts_with("END "));
    // Headers, and escaped line ends of source code and JSON, are part of a body.
    let is_part = |c: char| c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || "+/=\\:,\"'-.()<>@_|;".contains(c);
    let body_length = match next {
        Some(next) if is_end => next,
        _ => body
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '\n' | '\r' | '\\')))
            .unwrap_or(body.len()),
    };
    let body = &body[..body_length];
    let digits = body.bytes().filter(u8::is_ascii_digit).count();
    let longest =
        body.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '='))).map(str::len).max()?;
    if longest < 32
        || digits < 3
        || !body.chars().all(is_part)
        || !is_random(body.get(..longest.min(64))?) && longest < 64
    {
        return None;
    }
    let end = start + body_start + body.trim_end().len();
    let after = &text[start + body_start + body_length..];
    let closed = is_end.then(|| after[DASHES.len()..].find(DASHES)).flatten().filter(|length| *length < 50);
    Some(start..closed.map_or(end, |length| start + body_start + body_length + 2 * DASHES.len() + length))
}

/// Returns the token that begins at `start`, if it is one: header, payload and signature in base64url, separated by
/// dots.
fn web_token(text: &str, start: usize) -> Option<Range<usize>> {
    if before(text, start).is_some_and(|c| is_word(c) || matches!(c, '-' | '.')) {
        return None;
    }
    let mut end = start;
    for (i, least) in [16, 16, 20].into_iter().enumerate() {
        if i > 0 {
            text[end..].starts_with('.').then_some(())?;
            end += 1;
        }
        let part = span(text, end, Alphabet::Word, MAX_JWT_BYTES);
        if part.len() < least || (i == 1 && !part.starts_with("ey")) {
            return None;
        }
        end += part.len();
    }
    is_random(&text[start..end]).then_some(start..end)
}

/// Returns the token whose colon is at `colon`, if it is one: 8 to 10 digits before it, 35 characters after it.
fn telegram(text: &str, colon: usize) -> Option<Range<usize>> {
    let digits = text.as_bytes()[..colon].iter().rev().take(11).take_while(|byte| byte.is_ascii_digit()).count();
    let start = colon - digits;
    let body = span(text, colon + 1, Alphabet::Word, 36);
    let is_free = before(text, start).is_none_or(|c| !is_word(c)) || text[..start].ends_with("/bot");
    ((8..=10).contains(&digits) && body.len() == 35 && is_free && is_random(body)).then_some(start..colon + 36)
}

/// Returns the secret whose digit before `Q~` is at `mark`, if it is one: 3 characters before it, 31 to 34 after.
fn azure(text: &str, mark: usize) -> Option<Range<usize>> {
    let start = mark.checked_sub(3)?;
    let has = |byte: &u8| Alphabet::Dotted.has(*byte) || *byte == b'~';
    let bytes = text.as_bytes();
    let is_free = start == 0 || !has(&bytes[start - 1]);
    let length = bytes[mark..].iter().take(40).take_while(|byte| has(byte)).count();
    let found = is_free && bytes[start..mark].iter().all(has) && (34..=37).contains(&length);
    found.then(|| start..mark + length).filter(|range| is_random(&text[range.clone()]))
}
