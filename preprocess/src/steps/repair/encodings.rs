//! The characters that result from decoding UTF-8 in a wrong single-byte encoding.
//!
//! UTF-8 encodes a character beyond ASCII as a lead byte from C2 to F4 and one to three continuation bytes from 80 to
//! BF. Decoded in a single-byte encoding, it becomes a character that stands for the lead byte, followed by characters
//! that stand for continuation bytes: `Ã©` for `é`. The encodings are those that `plsfix` detects; the five that have
//! most of their letters in common form one group.

/// The bytes that a character may stand for, as five fields with one bit per group of encodings: the lead byte of two,
/// of three, of four, a lead byte that a space may follow, and a continuation byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Roles(u32);

const GROUPS: u32 = 5;
const GROUP_BITS: u32 = (1 << GROUPS) - 1;

/// The upper 128 characters of each encoding, and its group; a space stands for an unassigned or control character.
pub(super) const ENCODINGS: [(u32, &str); 9] = [
    // ISO 8859-1, the first 256 characters of Unicode.
    (
        0,
        "                                \u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿\
         ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ",
    ),
    // Windows-1252.
    (
        0,
        "€ ‚ƒ„…†‡ˆ‰Š‹Œ Ž  ‘’“”•–—˜™š›œ žŸ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿\
         ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ",
    ),
    // Windows-1250.
    (
        0,
        "€ ‚ „…†‡ ‰Š‹ŚŤŽŹ ‘’“”•–— ™š›śťžź\u{a0}ˇ˘Ł¤Ą¦§¨©Ş«¬\u{ad}®Ż°±˛ł´µ¶·¸ąş»Ľ˝ľż\
         ŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙",
    ),
    // Windows-1254.
    (
        0,
        "€ ‚ƒ„…†‡ˆ‰Š‹Œ    ‘’“”•–—˜™š›œ  Ÿ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿\
         ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ",
    ),
    // ISO 8859-2.
    (
        0,
        "                                \u{a0}Ą˘Ł¤ĽŚ§¨ŠŞŤŹ\u{ad}ŽŻ°ą˛ł´ľśˇ¸šşťź˝žż\
         ŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙",
    ),
    // Windows-1251.
    (
        1,
        "ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–— ™љ›њќћџ\u{a0}ЎўЈ¤Ґ¦§Ё©Є«¬\u{ad}®Ї°±Ііґµ¶·ё№є»јЅѕї\
         АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюя",
    ),
    // Windows-1253.
    (
        2,
        "€ ‚ƒ„…†‡ ‰ ‹     ‘’“”•–— ™ ›    \u{a0}΅Ά£¤¥¦§¨© «¬\u{ad}®―°±²³΄µ¶·ΈΉΊ»Ό½ΎΏ\
         ΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡ ΣΤΥΦΧΨΩΪΫάέήίΰαβγδεζηθικλμνξοπρςστυφχψωϊϋόύώ ",
    ),
    // Mac OS Roman.
    (
        3,
        "ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø\
         ¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄€‹›ﬁﬂ‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\u{f8ff}ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ",
    ),
    // Code page 437.
    (
        4,
        "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐\
         └┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}",
    ),
];

/// The table has characters of two ranges: Latin to Cyrillic, and punctuation to block elements.
const LETTERS: usize = 0x480;
const SIGNS: usize = 0x2000;
const TABLE: usize = LETTERS + 0x600;

static ROLES: [u32; TABLE] = table();

const fn table() -> [u32; TABLE] {
    let mut table = [0; TABLE];
    let mut i = 0;
    while i < ENCODINGS.len() {
        let (group, upper) = ENCODINGS[i];
        let upper = upper.as_bytes();
        let (mut at, mut byte) = (0, 0x80);
        while at < upper.len() {
            let (c, length) = decode(upper, at);
            let index = index(c);
            if c >= 0x80 && index < TABLE {
                table[index] |= role(byte) << group;
            }
            at += length;
            byte += 1;
        }
        assert!(byte == 0x100, "an encoding has 256 characters");
        i += 1;
    }
    table
}

/// Returns the character's index in the table, or one beyond its end.
const fn index(c: usize) -> usize {
    match c {
        0..LETTERS => c,
        SIGNS.. => c - SIGNS + LETTERS,
        _ => TABLE,
    }
}

/// Returns the character at `at` of UTF-8 in up to three bytes, and its length.
const fn decode(text: &[u8], at: usize) -> (usize, usize) {
    let first = text[at] as usize;
    match first {
        0..0x80 => (first, 1),
        0x80..0xe0 => ((first & 0x1f) << 6 | continuation(text, at + 1), 2),
        _ => ((first & 0xf) << 12 | continuation(text, at + 1) << 6 | continuation(text, at + 2), 3),
    }
}

const fn continuation(text: &[u8], at: usize) -> usize {
    text[at] as usize & 0x3f
}

const fn role(byte: usize) -> u32 {
    match byte {
        0x80..0xc0 => 1 << (4 * GROUPS),
        0xc2..0xe0 => 1,
        // If A0 became a space, plsfix accepts only these as lead bytes of probable characters.
        0xe0..0xe4 => 1 << GROUPS | 1 << (3 * GROUPS),
        0xe4..0xf0 => 1 << GROUPS,
        0xf0 => 1 << (2 * GROUPS) | 1 << (3 * GROUPS),
        0xf1..0xf5 => 1 << (2 * GROUPS),
        _ => 0,
    }
}

impl Roles {
    /// Returns the roles of `c`. Two ligatures and a logo of Mac OS Roman are left out: no character in use begins with
    /// their bytes.
    pub(super) fn of(c: char) -> Self {
        Self(ROLES.get(index(c as usize)).copied().unwrap_or(0))
    }

    /// Returns true if the character stands for a lead byte in any group.
    pub(super) fn is_lead(self) -> bool {
        self.0 & ((1 << (3 * GROUPS)) - 1) != 0
    }

    /// Returns the groups in which it stands for the lead byte of two.
    pub(super) fn lead_of_two(self) -> u32 {
        self.0 & GROUP_BITS
    }

    /// Returns the groups in which it stands for the lead byte of three.
    pub(super) fn lead_of_three(self) -> u32 {
        self.0 >> GROUPS & GROUP_BITS
    }

    /// Returns the groups in which it stands for the lead byte of four.
    pub(super) fn lead_of_four(self) -> u32 {
        self.0 >> (2 * GROUPS) & GROUP_BITS
    }

    /// Returns the groups in which it stands for a lead byte of three or four that a space may follow.
    pub(super) fn lead_before_space(self) -> u32 {
        self.0 >> (3 * GROUPS) & GROUP_BITS
    }

    /// Returns the groups in which it stands for a continuation byte.
    pub(super) fn continuation(self) -> u32 {
        self.0 >> (4 * GROUPS) & GROUP_BITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_have_the_roles_of_their_bytes() {
        let check = |c, two, three, continuation| {
            let roles = Roles::of(c);
            assert_eq!(
                (roles.lead_of_two(), roles.lead_of_three(), roles.continuation()),
                (two, three, continuation),
                "{c:?}"
            );
            assert_eq!(roles.is_lead(), two | three | roles.lead_of_four() != 0, "{c:?}");
        };
        let (latin, cyrillic, greek, mac, dos) = (1, 2, 4, 8, 16);
        check('a', 0, 0, 0);
        check('猫', 0, 0, 0);
        check('\u{a0}', mac, 0, latin | cyrillic | greek);
        check('Ã', latin | mac, 0, 0);
        check('©', 0, 0, latin | cyrillic | greek | mac);
        check('é', 0, latin, mac | dos);
        check('В', cyrillic, 0, 0);
        check('в', 0, cyrillic, 0);
        check('ё', 0, 0, cyrillic);
        check('╨', dos, 0, 0);
        check('░', 0, 0, dos);
        assert_eq!((Roles::of('ã').lead_before_space(), Roles::of('é').lead_before_space()), (latin, 0));
        assert_eq!((Roles::of('ð').lead_of_four(), Roles::of('р').lead_of_four()), (latin, cyrillic));
        check('€', mac, 0, latin | cyrillic | greek);
    }
}
