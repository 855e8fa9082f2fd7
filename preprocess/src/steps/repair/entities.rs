//! HTML character references (`&eacute;`, `&#39;`) in text that is not HTML.

use std::borrow::Cow;

use plsfix::{TextFixerConfig, fix_text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mojibake::ALL_OFF;

/// When character references are decoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Entities {
    /// If the whole text appears to be escaped: every `&` begins a reference, there is no `<`, no reference stands
    /// alone in quotation marks, as one that is being discussed, and at least one is used as in text: it is not the
    /// last on its line, as an address in C or Rust may be (`x = &lt;`), and is either one that escaping produces
    /// (`&amp;`, `&nbsp;`, `&#39;`) or next to a word (`caf&eacute; `).
    #[default]
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

/// The longest name in HTML has 33 bytes with `&` and `;`; names of more than 24 letters are not decoded, as in ftfy.
const MAX_LETTERS: usize = 24;

/// Returns `text` with its references decoded, and their number. A reference that decoding produces (`&amp;lt;`) is
/// decoded too.
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
            && let Some((next, length)) = reference_after_ampersand(&text[end..])
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

/// Returns true if `text` appears to be escaped; see [`Entities::Auto`].
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
        is_evident |= !is_last && (is_from_escaping(name) || touches_word);
        at += length;
    }
    is_evident
}

fn is_from_escaping(reference: &str) -> bool {
    matches!(reference, "&amp;" | "&lt;" | "&gt;" | "&quot;" | "&apos;" | "&nbsp;") || reference.starts_with("&#")
}

/// Returns the character of the reference at the beginning of `text`, and the reference's length.
fn reference(text: &str) -> Option<(Cow<'static, str>, usize)> {
    reference_after_ampersand(text.strip_prefix('&')?).map(|(character, length)| (character, 1 + length))
}

fn reference_after_ampersand(text: &str) -> Option<(Cow<'static, str>, usize)> {
    let name = text.strip_prefix('#').unwrap_or(text);
    let letters = name.bytes().take(MAX_LETTERS + 1).take_while(u8::is_ascii_alphanumeric).count();
    if letters == 0 || letters > MAX_LETTERS || name.as_bytes().get(letters) != Some(&b';') {
        return None;
    }
    let length = text.len() - name.len() + letters + 1;
    Some((character(&text[..length])?, length))
}

/// Returns the character of the reference `&` + `body`; `body` includes the semicolon.
fn character(body: &str) -> Option<Cow<'static, str>> {
    let common = match body {
        "amp;" => "&",
        "lt;" => "<",
        "gt;" => ">",
        "quot;" => "\"",
        "apos;" | "#39;" | "#x27;" => "'",
        "nbsp;" => "\u{a0}",
        _ => {
            // plsfix knows HTML's two thousand names and, like ftfy, those of letters in upper case.
            let reference = format!("&{body}");
            let decoded = fix_text(&reference, Some(&ENTITIES_ONLY));
            return (decoded != reference).then_some(Cow::Owned(decoded));
        }
    };
    Some(Cow::Borrowed(common))
}

const ENTITIES_ONLY: TextFixerConfig = TextFixerConfig { unescape_html: Some(true), ..ALL_OFF };

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
    fn escaped_text_is_distinguished_from_code() {
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
