//! A fast scan that determines which repairs a text may need, so that clean text costs one pass.

use std::iter::once;

use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, is_nfc_quick};

use super::encodings::Roles;

/// The repairs that a text may need: a superset of those that it does need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needs(u8);

impl Needs {
    pub(super) const NONE: Self = Self(0);
    pub(super) const MOJIBAKE: Self = Self(1);
    pub(super) const ENTITIES: Self = Self(1 << 1);
    pub(super) const LINE_ENDS: Self = Self(1 << 2);
    pub(super) const CONTROL_CHARACTERS: Self = Self(1 << 3);
    pub(super) const WHITE_SPACE: Self = Self(1 << 4);
    /// The text may not be in Unicode's composed form (NFC).
    pub(super) const COMPOSITION: Self = Self(1 << 5);
    /// The text is not ASCII.
    pub(super) const NON_ASCII: Self = Self(1 << 6);

    /// Returns true if these contain any of `other`.
    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns these except `other`.
    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns the intersection.
    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the union.
    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Returns the repairs that `text` may need.
pub(super) fn scan(text: &str) -> Needs {
    let needs = Needs(scan_bytes(text.as_bytes()));
    if needs.has(Needs::NON_ASCII) { needs.or(scan_non_ascii(text)) } else { needs }
}

/// Scans bytes. The loops have no branches, so that the compiler vectorizes them.
fn scan_bytes(bytes: &[u8]) -> u8 {
    // Bytes read beyond a block's end, for patterns of several bytes: a blank and a line feed, four line feeds.
    const BLOCK: usize = 256;
    const AHEAD: usize = 3;
    let mut needs = if bytes.starts_with(b"\n\n\n") { Needs::WHITE_SPACE.0 } else { 0 };
    let mut rest = bytes;
    while let Some(block) = rest.first_chunk::<{ BLOCK + AHEAD }>() {
        let mut found = 0;
        for i in 0..BLOCK {
            found |= needs_at(block[i], block[i + 1], block[i + 2], block[i + 3]);
        }
        needs |= found;
        rest = &rest[BLOCK..];
    }
    // The end of the text counts as a line end.
    let at = |i: usize| rest.get(i).copied().unwrap_or(if i == rest.len() { b'\n' } else { 0 });
    for i in 0..rest.len() {
        needs |= needs_at(at(i), at(i + 1), at(i + 2), at(i + 3));
    }
    needs
}

#[inline]
fn needs_at(byte: u8, second: u8, third: u8, fourth: u8) -> u8 {
    let flag = |condition: bool, needs: Needs| u8::from(condition) * needs.0;
    let is_blank = matches!(byte, b' ' | b'\t');
    let is_feed = byte == b'\n';
    flag(byte >= 0x80, Needs::NON_ASCII)
        | flag(byte == b'\r', Needs::LINE_ENDS)
        | flag(matches!(byte, 0..=8 | 0xb | 0xe..=0x1f | 0x7f), Needs::CONTROL_CHARACTERS)
        | flag(byte == b'&', Needs::ENTITIES)
        | flag(is_blank && second == b'\n', Needs::WHITE_SPACE)
        | flag(is_feed && second == b'\n' && third == b'\n' && fourth == b'\n', Needs::WHITE_SPACE)
}

/// Scans the characters beyond ASCII.
fn scan_non_ascii(text: &str) -> Needs {
    let mut needs = 0;
    let mut after_mark = false;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c.is_ascii() {
            after_mark = false;
            continue;
        }
        let mut need = needs_of(c);
        if need.has(Needs::COMPOSITION) {
            let is_mark = canonical_combining_class(c) != 0;
            // Only a mark after another mark can be out of canonical order; other characters that are always NFC stay.
            if !(is_mark && after_mark) && is_nfc_quick(once(c)) == IsNormalized::Yes {
                need = need.without(Needs::COMPOSITION);
            }
            after_mark = is_mark;
        } else {
            after_mark = false;
        }
        needs |= need.0;
        if needs & Needs::MOJIBAKE.0 == 0 && begins_mojibake(c, rest.as_str()) {
            needs |= Needs::MOJIBAKE.0;
        }
    }
    Needs(needs)
}

/// Returns the repairs that a single character beyond ASCII may need.
fn needs_of(c: char) -> Needs {
    match c {
        '\u{80}'..='\u{9f}' => Needs::MOJIBAKE,
        '\u{a0}' | '\u{1680}' | '\u{2002}'..='\u{200a}' | '\u{202f}' | '\u{205f}' => Needs::WHITE_SPACE,
        '\u{2000}' | '\u{2001}' => Needs::WHITE_SPACE.or(Needs::COMPOSITION),
        '\u{2028}' | '\u{2029}' => Needs::LINE_ENDS,
        '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}' => Needs::CONTROL_CHARACTERS,
        c if is_inert(c) => Needs::NONE,
        _ => Needs::COMPOSITION,
    }
}

/// Returns true if composition never changes `c`, whatever its neighbours are. Returns false for most scripts without
/// checking.
fn is_inert(c: char) -> bool {
    matches!(
        c,
        // Latin; Greek and Cyrillic except combining marks.
        '\u{a1}'..='\u{2ff}' | '\u{388}'..='\u{482}' | '\u{48a}'..='\u{590}' | '\u{1e00}'..='\u{1eff}'
            // The letters of Hebrew, Arabic, Devanagari and Thai.
            | '\u{5d0}'..='\u{60f}' | '\u{61b}'..='\u{64a}' | '\u{660}'..='\u{66f}' | '\u{671}'..='\u{6d5}'
            | '\u{904}'..='\u{93b}' | '\u{93d}'..='\u{94c}' | '\u{964}'..='\u{97f}'
            | '\u{e01}'..='\u{e37}' | '\u{e3f}'..='\u{e47}' | '\u{e4c}'..='\u{e5b}'
            // Punctuation and symbols.
            | '\u{200b}'..='\u{20cf}' | '\u{2200}'..='\u{2328}' | '\u{232b}'..='\u{2adb}'
            // Kana except their voicing marks, Chinese characters, Korean syllables.
            | '\u{3000}'..='\u{3029}' | '\u{3030}'..='\u{3098}' | '\u{309b}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}'
            // Variation selectors, full-width forms, emoji.
            | '\u{fe00}'..='\u{fe0f}' | '\u{ff00}'..='\u{fff8}' | '\u{fffd}'..='\u{10000}'
            | '\u{1f000}'..='\u{1faff}'
    )
}

/// Returns true if `c` and the characters after it look like the bytes of one UTF-8 character, each decoded as a
/// character of its own. Lost bytes appear as U+FFFD or `?`, and the no-break space, byte A0, often as a space. (C0 80,
/// Java's encoding of U+0000, is not detected, since that character is never intended.)
fn begins_mojibake(c: char, rest: &str) -> bool {
    let roles = Roles::of(c);
    if !roles.is_lead() {
        return false;
    }
    let mut following = rest.chars();
    let mut next = || following.next().unwrap_or('\n');
    let is_lost = |c| matches!(c, '\u{fffd}' | '?' | '\u{1a}');
    let is_continuation = |c: char, groups: u32| groups & Roles::of(c).continuation() != 0 || c == '\u{fffd}';
    let second = next();
    let two = roles.lead_of_two();
    if two != 0
        && (is_continuation(second, two) || is_lost(second) || (matches!(c, 'Ã' | 'Â') && second.is_whitespace()))
    {
        return true;
    }
    let more = roles.lead_of_three() | roles.lead_of_four();
    let may_be_continuation =
        |c| is_continuation(c, more) || is_lost(c) || (c == ' ' && roles.lead_before_space() != 0);
    if more == 0 || !may_be_continuation(second) {
        return false;
    }
    let third = next();
    may_be_continuation(third)
        && (is_continuation(second, more) || is_continuation(third, more))
        && (roles.lead_of_three() != 0 || may_be_continuation(next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needed_repairs_are_found() {
        let check = |text: &str, expected: &[Needs]| {
            let expected = expected.iter().fold(Needs::NONE, |all, needs| all.or(*needs));
            assert_eq!(scan(text), expected, "{text:?}");
            // The same within a longer text, which is scanned in whole blocks.
            let long = format!("{}{text}\n{}", "word,".repeat(200), "word, ".repeat(200) + ".");
            assert_eq!(scan(&long), expected, "{text:?}");
        };
        check("", &[]);
        check("plain\n\ttext\n\n\nmore", &[]);
        check("a\r\n", &[Needs::LINE_ENDS]);
        check("a\u{0}b", &[Needs::CONTROL_CHARACTERS]);
        check("a\u{7f}b", &[Needs::CONTROL_CHARACTERS]);
        check("a\u{c}b", &[]);
        check("a && b", &[Needs::ENTITIES]);
        check("a \nb", &[Needs::WHITE_SPACE]);
        check("a\t", &[Needs::WHITE_SPACE]);
        check("a\n\n\n\nb", &[Needs::WHITE_SPACE]);
        check("é", &[Needs::NON_ASCII]);
        check("naïve cafés “quoted”, Größe, Ångström, 1 – 2", &[Needs::NON_ASCII]);
        check("Я пошёл в дом.", &[Needs::NON_ASCII]);
        check("你好，世界！", &[Needs::NON_ASCII]);
        check("こんにちは、ガ", &[Needs::NON_ASCII]);
        check("안녕하세요 😀", &[Needs::NON_ASCII]);
        check("\n\na", &[]);
        check("e\u{301}", &[Needs::NON_ASCII, Needs::COMPOSITION]);
        check("cafÃ©", &[Needs::NON_ASCII, Needs::MOJIBAKE]);
        check("â€œ", &[Needs::NON_ASCII, Needs::MOJIBAKE]);
        check("\u{85}", &[Needs::NON_ASCII, Needs::MOJIBAKE]);
        check("Ã la mode", &[Needs::NON_ASCII, Needs::MOJIBAKE]);
        check("a\u{a0}b", &[Needs::NON_ASCII, Needs::WHITE_SPACE]);
        check("\u{feff}a", &[Needs::NON_ASCII, Needs::CONTROL_CHARACTERS]);
        check("a\u{2028}b", &[Needs::NON_ASCII, Needs::LINE_ENDS]);
    }

    #[test]
    fn characters_that_composition_changes_are_found() {
        for c in ('\u{80}'..=char::MAX).filter(|c| !needs_of(*c).has(Needs::COMPOSITION)) {
            assert_eq!(is_nfc_quick(once(c)), IsNormalized::Yes, "{:x}", c as u32);
            assert_eq!(canonical_combining_class(c), 0, "{:x}", c as u32);
        }
    }
}
