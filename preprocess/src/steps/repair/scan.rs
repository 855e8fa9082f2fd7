//! A first look at a text that says which repairs it may need, so that clean text costs one pass.

use std::iter::once;

use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, is_nfc_quick};

use super::encodings::Roles;

/// Repairs that a text may need: none that it needs is left out, and some turn out not to be needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needs(u8);

impl Needs {
    pub(super) const NONE: Self = Self(0);
    pub(super) const MOJIBAKE: Self = Self(1);
    pub(super) const ENTITIES: Self = Self(1 << 1);
    pub(super) const LINE_ENDS: Self = Self(1 << 2);
    pub(super) const CONTROL_CHARACTERS: Self = Self(1 << 3);
    pub(super) const WHITE_SPACE: Self = Self(1 << 4);
    /// The text is perhaps not in Unicode's composed form.
    pub(super) const COMPOSITION: Self = Self(1 << 5);
    /// The text is not ASCII.
    pub(super) const WIDE: Self = Self(1 << 6);

    /// Returns whether any of `other` is among these.
    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns these but for `other`.
    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns what is in both.
    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns what is in either.
    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Returns what `text` may need.
pub(super) fn scan(text: &str) -> Needs {
    let needs = Needs(scan_bytes(text.as_bytes()));
    if needs.has(Needs::WIDE) { needs.or(scan_wide(text)) } else { needs }
}

/// Looks at bytes alone. The loops have no branches, so that they become vector instructions.
fn scan_bytes(bytes: &[u8]) -> u8 {
    // A look past a block's end, for what takes several bytes: two blanks and a line feed, four line feeds.
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
    // A text ends as if the line did.
    let at = |i: usize| rest.get(i).copied().unwrap_or(if i == rest.len() { b'\n' } else { 0 });
    for i in 0..rest.len() {
        needs |= needs_at(at(i), at(i + 1), at(i + 2), at(i + 3));
    }
    needs
}

#[inline]
fn needs_at(byte: u8, second: u8, third: u8, fourth: u8) -> u8 {
    let flag = |holds: bool, needs: Needs| u8::from(holds) * needs.0;
    let is_blank = matches!(byte, b' ' | b'\t');
    let is_feed = byte == b'\n';
    flag(byte >= 0x80, Needs::WIDE)
        | flag(byte == b'\r', Needs::LINE_ENDS)
        | flag(matches!(byte, 0..=8 | 0xb | 0xe..=0x1f | 0x7f), Needs::CONTROL_CHARACTERS)
        | flag(byte == b'&', Needs::ENTITIES)
        | flag(is_blank && second == b'\n', Needs::WHITE_SPACE)
        | flag(is_feed && second == b'\n' && third == b'\n' && fourth == b'\n', Needs::WHITE_SPACE)
}

/// Looks at the characters beyond ASCII.
fn scan_wide(text: &str) -> Needs {
    let mut needs = 0;
    let mut behind_mark = false;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c.is_ascii() {
            behind_mark = false;
            continue;
        }
        let mut need = needs_of(c);
        if need.has(Needs::COMPOSITION) {
            let is_mark = canonical_combining_class(c) != 0;
            // A mark alone behind its letter is in order, and so is what composition leaves as it is.
            if !(is_mark && behind_mark) && is_nfc_quick(once(c)) == IsNormalized::Yes {
                need = need.without(Needs::COMPOSITION);
            }
            behind_mark = is_mark;
        } else {
            behind_mark = false;
        }
        needs |= need.0;
        if needs & Needs::MOJIBAKE.0 == 0 && begins_mojibake(c, rest.as_str()) {
            needs |= Needs::MOJIBAKE.0;
        }
    }
    Needs(needs)
}

/// Returns what a character beyond ASCII may need for itself.
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

/// Returns whether composition leaves `c` as it is, whatever stands around it. Of most scripts the answer is no without a
/// closer look.
fn is_inert(c: char) -> bool {
    matches!(
        c,
        // Latin; Greek and Cyrillic but for combining marks.
        '\u{a1}'..='\u{2ff}' | '\u{388}'..='\u{482}' | '\u{48a}'..='\u{590}' | '\u{1e00}'..='\u{1eff}'
            // The letters of Hebrew, Arabic, Devanagari and Thai.
            | '\u{5d0}'..='\u{60f}' | '\u{61b}'..='\u{64a}' | '\u{660}'..='\u{66f}' | '\u{671}'..='\u{6d5}'
            | '\u{904}'..='\u{93b}' | '\u{93d}'..='\u{94c}' | '\u{964}'..='\u{97f}'
            | '\u{e01}'..='\u{e37}' | '\u{e3f}'..='\u{e47}' | '\u{e4c}'..='\u{e5b}'
            // Punctuation and symbols.
            | '\u{200b}'..='\u{20cf}' | '\u{2200}'..='\u{2328}' | '\u{232b}'..='\u{2adb}'
            // Kana but for their voice marks, Chinese characters, Korean syllables.
            | '\u{3000}'..='\u{3029}' | '\u{3030}'..='\u{3098}' | '\u{309b}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}'
            // Variation selectors, full-width forms, emoji.
            | '\u{fe00}'..='\u{fe0f}' | '\u{ff00}'..='\u{fff8}' | '\u{fffd}'..='\u{10000}'
            | '\u{1f000}'..='\u{1faff}'
    )
}

/// Returns whether `c` and what follows look like the bytes of one character of UTF-8, each read as a character. Bytes
/// that were lost show as U+FFFD or `?`, and the no-break space, which is byte A0, often as a space. (C0 80, which Java
/// writes for U+0000, is not looked for: nobody means that character.)
fn begins_mojibake(c: char, rest: &str) -> bool {
    let roles = Roles::of(c);
    if !roles.is_first() {
        return false;
    }
    let mut following = rest.chars();
    let mut next = || following.next().unwrap_or('\n');
    let is_lost = |c| matches!(c, '\u{fffd}' | '?' | '\u{1a}');
    let is_later = |c: char, groups: u32| groups & Roles::of(c).later() != 0 || c == '\u{fffd}';
    let second = next();
    let two = roles.first_of_two();
    if two != 0 && (is_later(second, two) || is_lost(second) || (matches!(c, 'Ã' | 'Â') && second.is_whitespace())) {
        return true;
    }
    let more = roles.first_of_three() | roles.first_of_four();
    let may_be_later = |c| is_later(c, more) || is_lost(c) || (c == ' ' && roles.first_before_space() != 0);
    if more == 0 || !may_be_later(second) {
        return false;
    }
    let third = next();
    may_be_later(third)
        && (is_later(second, more) || is_later(third, more))
        && (roles.first_of_three() != 0 || may_be_later(next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_need_what_they_show() {
        let check = |text: &str, expected: &[Needs]| {
            let expected = expected.iter().fold(Needs::NONE, |all, needs| all.or(*needs));
            assert_eq!(scan(text), expected, "{text:?}");
            // The same far into a longer text, where whole blocks are looked at.
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
        check("é", &[Needs::WIDE]);
        check("naïve cafés “quoted”, Größe, Ångström, 1 – 2", &[Needs::WIDE]);
        check("Я пошёл в дом.", &[Needs::WIDE]);
        check("你好，世界！", &[Needs::WIDE]);
        check("こんにちは、ガ", &[Needs::WIDE]);
        check("안녕하세요 😀", &[Needs::WIDE]);
        check("\n\na", &[]);
        check("e\u{301}", &[Needs::WIDE, Needs::COMPOSITION]);
        check("cafÃ©", &[Needs::WIDE, Needs::MOJIBAKE]);
        check("â€œ", &[Needs::WIDE, Needs::MOJIBAKE]);
        check("\u{85}", &[Needs::WIDE, Needs::MOJIBAKE]);
        check("Ã la mode", &[Needs::WIDE, Needs::MOJIBAKE]);
        check("a\u{a0}b", &[Needs::WIDE, Needs::WHITE_SPACE]);
        check("\u{feff}a", &[Needs::WIDE, Needs::CONTROL_CHARACTERS]);
        check("a\u{2028}b", &[Needs::WIDE, Needs::LINE_ENDS]);
    }

    #[test]
    fn characters_that_composition_changes_are_found() {
        for c in ('\u{80}'..=char::MAX).filter(|c| !needs_of(*c).has(Needs::COMPOSITION)) {
            assert_eq!(is_nfc_quick(once(c)), IsNormalized::Yes, "{:x}", c as u32);
            assert_eq!(canonical_combining_class(c), 0, "{:x}", c as u32);
        }
    }
}
