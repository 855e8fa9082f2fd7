//! Secrets without a format of their own, after a name that identifies them: `aws_secret_access_key = …`.

use std::ops::Range;

use super::super::context::{has_word, is_word};
use super::random::{is_random, span};
use super::services::Alphabet;

/// Parts of a name whose value is not a secret.
const NO_SECRET: &str = "algorithm arn bytes class count digest dir endpoint expires expiry field file fingerprint \
    folder format hash id ids index len length limit model name path pattern prefix public ref regex sha sha1 sha256 \
    size suffix type uri url version";

/// Parts of a name that make a `token` or `key` that of a parser, a page or a cache.
const NO_SECRET_BEFORE: &str = "cache continuation csrf cursor idempotency next page public sort sync";

/// The maximum length of a name before and after the word that identifies it; bytes.
const MAX_NAME_BYTES: usize = 32;

/// The maximum distance between a name and its value, with operator, quotes and spaces; bytes.
const MAX_GAP_BYTES: usize = 24;

/// Words, in lower case, of values that are names themselves: `Ed25519PrivateKey`.
const NAMES: &[&str] = &["private", "public", "secret", "token"];

/// The minimum and maximum length of a random value; bytes.
const MIN_VALUE_BYTES: usize = 20;
const MAX_VALUE_BYTES: usize = 200;

/// Returns the value of the name that contains the word at `word`, if it is a secret.
pub(super) fn value(text: &str, word: Range<usize>) -> Option<Range<usize>> {
    let is_header = text[word.clone()].ends_with(' ');
    let start = if is_header { word.end } else { value_start(text, name_end(text, word)?)? };
    let value = span(text, start, Alphabet::Base64, MAX_VALUE_BYTES + 1);
    // Tokens of Discord and others have dots.
    let dotted = span(text, start, Alphabet::Dotted, MAX_VALUE_BYTES + 1).trim_end_matches('.');
    let is_dotted = dotted.len() > value.len() && dotted.split('.').all(|part| part.len() > 5);
    let value = if is_dotted { dotted } else { value };
    let end = start + value.len();
    let mut following = text[end..].chars();
    let continues = match (following.next(), following.next()) {
        (Some('.'), next) => next.is_some_and(|c| !c.is_whitespace()),
        (Some(c), _) => is_word(c) || matches!(c, '(' | '[' | '{' | '$' | ':'),
        (None, _) => false,
    };
    let has_length = (MIN_VALUE_BYTES..=MAX_VALUE_BYTES).contains(&value.len());
    (has_length && !continues && looks_secret(value) && is_random(value)).then_some(start..end)
}

/// Returns the end of the name that contains the word at `word`, if its value may be a secret.
fn name_end(text: &str, word: Range<usize>) -> Option<usize> {
    let bytes = text.as_bytes();
    let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let tail = bytes[word.end..].iter().take(MAX_NAME_BYTES).take_while(is_part).count();
    let head = bytes[..word.start].iter().rev().take(MAX_NAME_BYTES).take_while(is_part).count();
    let (head, tail) = (&text[word.start - head..word.start], &text[word.end..word.end + tail]);
    // `tokenizer`, `secretary`; and `secretsmanager:eu-west-1:1234:secret:name`.
    let is_other_word = tail.starts_with(|c: char| c.is_ascii_lowercase()) && tail.len() > 1;
    let is_resource = text[..word.start].ends_with(':') && text[word.end..].starts_with(':');
    if is_other_word || is_resource {
        return None;
    }
    let is_harmless =
        parts(tail).any(|part| has_word(NO_SECRET, &part)) || parts(head).any(|part| has_word(NO_SECRET_BEFORE, &part));
    (!is_harmless).then_some(word.end + tail.len())
}

/// Returns the start of the value after a name that ends at `end`: `= `, `: "`, `"] = '`, `', '`, ` => `, `>`.
fn value_start(text: &str, end: usize) -> Option<usize> {
    const OPERATORS: &[&str] = &["==", ":=", "=>", "=", ":", ",", ">", "is ", "was ", ""];
    const LEADS: &[&str] = &["Bearer ", "bearer ", "Token ", "b'", "b\"", "r\"", "f\"", ""];
    let window = &text[end..text.floor_char_boundary((end + MAX_GAP_BYTES).min(text.len()))];
    let rest = window.trim_start_matches(['"', '\'', ']', ')', '`', '\\', '*']).trim_start_matches([' ', '\t']);
    // `key="ApiKey" value="…"`: attributes of an element.
    let rest = rest.strip_prefix("value").unwrap_or(rest);
    let rest = OPERATORS.iter().find_map(|operator| rest.strip_prefix(operator))?;
    let rest = rest.trim_start_matches([' ', '\t', '"', '\'', '`', '\\', '(', '*']);
    let rest = LEADS.iter().find_map(|lead| rest.strip_prefix(lead))?;
    // Without anything in between, it is one name.
    (!rest.is_empty() && rest.len() < window.len()).then(|| end + window.len() - rest.len())
}

/// Returns the parts of a name in lower case; `clientSecretId` and `client_secret_id` have three.
fn parts(name: &str) -> impl Iterator<Item = String> {
    let mut parts = vec![String::new()];
    let mut last = '_';
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && last.is_lowercase()) {
            parts.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(part) = parts.last_mut()
        {
            part.extend(c.to_lowercase());
        }
        last = c;
    }
    parts.into_iter()
}

/// Returns true if `value` has the mix of characters of a random value: hexadecimal with digits and letters, or digits
/// and letters of both cases; not words separated by hyphens or slashes, and not a UUID.
fn looks_secret(value: &str) -> bool {
    // The prefix of Notion's tokens.
    let lower_case = value.strip_prefix("secret_").unwrap_or(value).to_ascii_lowercase();
    if NAMES.iter().any(|name| lower_case.contains(name)) {
        return false;
    }
    let count = |is: fn(&u8) -> bool| value.bytes().filter(is).count();
    let (digits, lower, upper) =
        (count(u8::is_ascii_digit), count(u8::is_ascii_lowercase), count(u8::is_ascii_uppercase));
    let signs = value.len() - digits - lower - upper;
    let is_hex = value.strip_prefix("0x").unwrap_or(value).bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_flat = signs == 0 && digits >= 5 && lower + upper >= 5 && value.len() >= 24 && value.len() <= 64;
    let is_mixed = digits >= 3 && lower >= 3 && upper >= 3 && signs * 5 <= value.len();
    if is_hex { digits >= 5 && lower + upper >= 4 && (lower == 0 || upper == 0) } else { is_mixed || is_flat }
}
