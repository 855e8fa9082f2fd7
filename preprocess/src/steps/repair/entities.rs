//! Character references of HTML (`&eacute;`, `&#39;`) in text that is no HTML any more.

use std::borrow::Cow;

use plsfix::{TextFixerConfig, fix_text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When character references are decoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Entities {
    /// Where all of a text shows that it was escaped: every `&` begins a reference, there is no `<`, no reference stands
    /// alone between quotation marks as one that is talked about, and one stands where only text has it: not last in its
    /// line, as an address does in C or Rust (`x = &lt;`), and either it is one that escaping makes (`&amp;`, `&nbsp;`,
    /// `&#39;`) or it touches a word (`caf&eacute; `).
    #[default]
    Auto,
    /// Wherever they stand.
    Always,
    /// Nowhere.
    Never,
}

/// The longest name of HTML with `&` and `;` has 33 bytes; those beyond 24 letters are not decoded, as in ftfy.
const MOST_LETTERS: usize = 24;

/// Returns `text` with its references decoded, and how many there were. What decoding makes a reference (`&amp;lt;`) is
/// decoded as well.
pub(super) fn decode(entities: Entities, text: &str) -> (Cow<'_, str>, u32) {
    let decodes = match entities {
        Entities::Auto => was_escaped(text),
        Entities::Always => true,
        Entities::Never => false,
    };
    if !decodes {
        return (Cow::Borrowed(text), 0);
    }
    let mut decoded = String::new();
    let (mut copied, mut at, mut count) = (0, 0, 0);
    while let Some(found) = text[at..].find('&') {
        at += found;
        let Some((mut character, mut end)) = reference(&text[at..]).map(|(c, length)| (c, at + length)) else {
            at += 1;
            continue;
        };
        count += 1;
        while character == "&"
            && let Some((next, length)) = reference_behind_ampersand(&text[end..])
        {
            character = next;
            end += length;
            count += 1;
        }
        decoded.push_str(&text[copied..at]);
        decoded.push_str(&character);
        (copied, at) = (end, end);
    }
    if count == 0 {
        return (Cow::Borrowed(text), 0);
    }
    decoded.push_str(&text[copied..]);
    (Cow::Owned(decoded), count)
}

/// Returns whether `text` is text that was escaped: see [`Entities::Auto`].
fn was_escaped(text: &str) -> bool {
    if text.contains('<') {
        return false;
    }
    let mut is_evident = false;
    let mut at = 0;
    while let Some(found) = text[at..].find('&') {
        at += found;
        let Some((_, length)) = reference(&text[at..]) else { return false };
        let (name, after) = text[at..].split_at(length);
        let before = text[..at].chars().next_back();
        let next = after.chars().next();
        if matches!(before, Some('"' | '\'' | '`' | '“' | '‘')) && matches!(next, Some('"' | '\'' | '`' | '”' | '’'))
        {
            return false;
        }
        let is_last = next.is_none_or(|c| c == '\n');
        let touches_word = before.is_some_and(char::is_alphabetic) || next.is_some_and(char::is_alphanumeric);
        is_evident |= !is_last && (is_made_by_escaping(name) || touches_word);
        at += length;
    }
    is_evident
}

fn is_made_by_escaping(reference: &str) -> bool {
    matches!(reference, "&amp;" | "&lt;" | "&gt;" | "&quot;" | "&apos;" | "&nbsp;") || reference.starts_with("&#")
}

/// Returns the character of the reference that `text` begins with, and the reference's length.
fn reference(text: &str) -> Option<(Cow<'static, str>, usize)> {
    reference_behind_ampersand(text.strip_prefix('&')?).map(|(character, length)| (character, 1 + length))
}

fn reference_behind_ampersand(text: &str) -> Option<(Cow<'static, str>, usize)> {
    let name = text.strip_prefix('#').unwrap_or(text);
    let letters = name.bytes().take(MOST_LETTERS + 1).take_while(u8::is_ascii_alphanumeric).count();
    if letters == 0 || letters > MOST_LETTERS || name.as_bytes().get(letters) != Some(&b';') {
        return None;
    }
    let length = text.len() - name.len() + letters + 1;
    Some((character(&text[..length])?, length))
}

/// Returns the character with the name `body` (what is behind `&`, its semicolon included).
fn character(body: &str) -> Option<Cow<'static, str>> {
    let common = match body {
        "amp;" => "&",
        "lt;" => "<",
        "gt;" => ">",
        "quot;" => "\"",
        "apos;" | "#39;" | "#x27;" => "'",
        "nbsp;" => "\u{a0}",
        _ => {
            // It knows HTML's two thousand names, those of letters in capitals too, and decodes whatever else it is
            // told to leave.
            let reference = format!("&{body}");
            let decoded = fix_text(&reference, Some(&NOTHING_ELSE));
            return (decoded != reference).then_some(Cow::Owned(decoded));
        }
    };
    Some(Cow::Borrowed(common))
}

const NOTHING_ELSE: TextFixerConfig = TextFixerConfig {
    unescape_html: Some(true),
    remove_terminal_escapes: false,
    fix_encoding: false,
    restore_byte_a0: false,
    replace_lossy_sequences: false,
    decode_inconsistent_utf8: false,
    fix_c1_controls: false,
    fix_latin_ligatures: false,
    fix_character_width: false,
    uncurl_quotes: false,
    fix_line_breaks: false,
    remove_control_chars: false,
    normalization: None,
    max_decode_length: i32::MAX,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_decoded() {
        let check = |text: &str, expected: &str, count| {
            assert_eq!(decode(Entities::Always, text), (Cow::Borrowed(expected), count), "{text:?}");
            assert_eq!(decode(Entities::Never, text), (Cow::Borrowed(text), 0), "{text:?}");
        };
        check("", "", 0);
        check("a & b && c &; &#; &x", "a & b && c &; &#; &x", 0);
        check("&lt;tag&gt;", "<tag>", 2);
        check("P&eacute;rez, P&EACUTE;REZ &nTILDE;", "Pérez, PÉREZ &nTILDE;", 2);
        check("&#233;&#xe9;&#XE9;&#39;&quot;", "ééé'\"", 5);
        check("&amp;lt; &amp;amp;amp;eacute;", "< é", 6);
        check("&amp;nosuchname; &nosuchname;", "&nosuchname; &nosuchname;", 1);
        check("&#xd800; &#1114112; &#99999999999999999999;", "&#xd800; &#1114112; &#99999999999999999999;", 0);
        check("&aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa;", "&aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa;", 0);
    }

    #[test]
    fn escaped_text_is_told_from_code() {
        let check = |text: &str, expected: bool| assert_eq!(was_escaped(text), expected, "{text:?}");
        check("Tom &amp; Jerry", true);
        check("don&#39;t", true);
        check("caf&eacute; au lait", true);
        check("10&nbsp;km", true);
        check("&copy;2020", true);
        check("", false);
        check("no reference", false);
        check("R&D &amp; more", false);
        check("<p>Tom &amp; Jerry</p>", false);
        check("Write `&lt;` for a less-than sign.", false);
        check("text.replace(\"&amp;\", \"and\")", false);
        check("let x = &sum;\nlet y = &lt;\n", false);
        check("int *p = &reg;", false);
        check("f(&a, &b);", false);
        check("&nosuchname; &amp; ", false);
    }
}
