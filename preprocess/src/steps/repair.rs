//! Step repair: fixes mojibake, HTML entities, line ends, control characters, Unicode normalization and white space.
//!
//! In: a text. Out: the same text if a single fast scan finds no damage, else the repaired text with counts of the
//! changes. Repair is idempotent. Words, indentation and the look of the text are preserved: curly quotes, ligatures
//! and full-width letters stay.

mod characters;
mod encodings;
mod entities;
mod lines;
mod mojibake;
mod scan;
mod white_space;

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use unicode_normalization::{UnicodeNormalization, is_nfc, is_nfkc};

pub use entities::Entities;
use scan::{Needs, scan};

/// The table `[preprocess.repair]`. The defaults suit source code as well as prose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each enables one repair")]
pub struct Config {
    /// The action for a document that is not UTF-8: `"repair"` replaces invalid bytes by U+FFFD, `"reject"` drops the
    /// document. Both are counted. Default `"repair"`.
    pub invalid_utf8: InvalidUtf8,
    /// Fixes UTF-8 that was decoded in another encoding (`cafÃ©`), line by line, and replaces control characters U+0080
    /// to U+009F by the characters of Windows-1252. Default true.
    pub mojibake: bool,
    /// When HTML character references (`&eacute;`) are decoded: `"auto"` (only if the whole text appears to be
    /// escaped), `"always"` or `"never"`. Default `"auto"`.
    pub entities: Entities,
    /// Replaces CR LF, CR and Unicode's line and paragraph separators by LF. Default true.
    pub line_ends: bool,
    /// Removes control characters, byte order marks and terminal escape sequences; tabs, line and form feeds, joiners
    /// and directional marks stay. Default true.
    pub control_characters: bool,
    /// The Unicode normalization form (Unicode Standard Annex 15): `"nfc"`, `"nfkc"`, which also changes the look and
    /// the meaning of text (`10²` becomes `102`), or `"none"`. Default `"nfc"`.
    pub normalization: Normalization,
    /// Removes white space at line ends and empty lines beyond two in a row, and replaces no-break spaces and spaces of
    /// other widths by the ordinary space. Indentation and Markdown's line break of two spaces stay. Default true.
    pub white_space: bool,
}

/// The action for a document that is not UTF-8.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InvalidUtf8 {
    /// Invalid bytes are replaced by U+FFFD.
    #[default]
    Repair,
    /// The document is dropped.
    Reject,
}

/// A Unicode normalization form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Normalization {
    /// Canonical composition.
    #[default]
    Nfc,
    /// Compatibility composition.
    Nfkc,
    /// No normalization.
    None,
}

/// The counted changes: lines with mojibake, references, line ends, control characters, positions with white space, and
/// lines that were not normalized.
pub const CHANGES: [&str; 6] =
    ["mojibake", "entities", "line_ends", "control_characters", "white_space", "normalization"];

/// A text after repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired<'t> {
    /// The text; borrowed where nothing changed.
    pub text: Cow<'t, str>,
    /// The number of changes of each kind, in the order of [`CHANGES`].
    pub changes: [u32; CHANGES.len()],
}

/// One repair may reveal the next (`&Atilde;&copy;` becomes `Ã©`, then `é`), so all are repeated while the text
/// changes, at most as often as in ftfy. Real text needs two rounds.
const MAX_ROUNDS: usize = 16;

impl Default for Config {
    fn default() -> Self {
        Self {
            invalid_utf8: InvalidUtf8::default(),
            mojibake: true,
            entities: Entities::default(),
            line_ends: true,
            control_characters: true,
            normalization: Normalization::default(),
            white_space: true,
        }
    }
}

impl Config {
    /// Returns the enabled repairs.
    fn enabled(&self) -> Needs {
        let when = |enabled: bool, needs| if enabled { needs } else { Needs::NONE };
        let normalization = match self.normalization {
            Normalization::Nfc => Needs::COMPOSITION,
            Normalization::Nfkc => Needs::NON_ASCII,
            Normalization::None => Needs::NONE,
        };
        when(self.mojibake, Needs::MOJIBAKE)
            .or(when(self.entities != Entities::Never, Needs::ENTITIES))
            .or(when(self.line_ends, Needs::LINE_ENDS))
            .or(when(self.control_characters, Needs::CONTROL_CHARACTERS))
            .or(when(self.white_space, Needs::WHITE_SPACE))
            .or(normalization)
    }
}

/// Returns `text` repaired.
pub fn repair<'t>(config: &Config, text: &'t str) -> Repaired<'t> {
    let enabled = config.enabled();
    let mut repaired = Repaired { text: Cow::Borrowed(text), changes: [0; CHANGES.len()] };
    for _ in 0..MAX_ROUNDS {
        let needs = scan(&repaired.text).and(enabled);
        if needs == Needs::NONE || !round(config, needs, &mut repaired) {
            break;
        }
    }
    repaired
}

/// Applies each needed repair once, and returns true if the text changed.
fn round(config: &Config, needs: Needs, repaired: &mut Repaired<'_>) -> bool {
    let before = repaired.changes;
    let mut apply = |change: usize, needed: Needs, step: &dyn Fn(&str) -> (Cow<'_, str>, u32)| {
        if !needs.has(needed) {
            return;
        }
        if let (Cow::Owned(text), count) = step(&repaired.text) {
            repaired.text = Cow::Owned(text);
            repaired.changes[change] += count;
        }
    };
    // Line ends come first, since mojibake is fixed line by line; white space last, since byte A0 of mojibake is a
    // space.
    apply(2, Needs::LINE_ENDS, &characters::unix_line_ends);
    apply(0, Needs::MOJIBAKE, &|text| lines::rewrite(text, fix_mojibake));
    apply(1, Needs::ENTITIES, &|text| entities::decode(config.entities, text));
    apply(3, Needs::CONTROL_CHARACTERS, &characters::without_control_characters);
    apply(5, Needs::COMPOSITION.or(Needs::NON_ASCII), &|text| {
        lines::rewrite(text, |line| normalize_line(config.normalization, line))
    });
    apply(4, Needs::WHITE_SPACE, &white_space::tidy);
    repaired.changes != before
}

/// Returns the line without mojibake, if it changes.
fn fix_mojibake(line: &str) -> Option<String> {
    scan(line).has(Needs::MOJIBAKE).then(|| mojibake::fix_line(line)).flatten()
}

/// Returns the normalized line, if it changes. Nothing combines with a line feed, so lines are independent.
fn normalize_line(normalization: Normalization, line: &str) -> Option<String> {
    match normalization {
        Normalization::Nfc => (scan(line).has(Needs::COMPOSITION) && !is_nfc(line)).then(|| line.nfc().collect()),
        Normalization::Nfkc => (!line.is_ascii() && !is_nfkc(line)).then(|| line.nfkc().collect()),
        Normalization::None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_are_repaired() {
        let check = |text: &str, expected: &str, expected_changes: &[(&str, u32)]| {
            let repaired = repair(&Config::default(), text);
            assert_eq!(repaired.text, expected, "{text:?}");
            let changes: Vec<(&str, u32)> =
                CHANGES.into_iter().zip(repaired.changes).filter(|(_, count)| *count > 0).collect();
            assert_eq!(changes, expected_changes, "{text:?}");
            assert_eq!(matches!(repaired.text, Cow::Borrowed(_)), changes.is_empty(), "{text:?}");
        };
        check("", "", &[]);
        check("plain\n", "plain\n", &[]);
        check("naïve café, “quoted”, ﬁne, Ｗｉｄｅ\n", "naïve café, “quoted”, ﬁne, Ｗｉｄｅ\n", &[]);
        check("one\r\ntwo\rthree", "one\ntwo\nthree", &[("line_ends", 2)]);
        check("\u{feff}marked", "marked", &[("control_characters", 1)]);
        check("e\u{301}\u{f1} n\u{303}", "\u{e9}\u{f1} \u{f1}", &[("normalization", 1)]);
        check("\u{1100}\u{1161}", "\u{ac00}", &[("normalization", 1)]);
        check("\u{212b}", "\u{c5}", &[("normalization", 1)]);
        check("\u{fb01}\u{b2}", "\u{fb01}\u{b2}", &[]);
        check("a \n\n\n\n\nb", "a\n\n\nb", &[("white_space", 3)]);
        check("A cafÃ© in ZÃ¼rich.\nAnd here.\n", "A café in Zürich.\nAnd here.\n", &[("mojibake", 1)]);
        check("Tom &amp; Jerry, caf&eacute;s", "Tom & Jerry, cafés", &[("entities", 2)]);
        check("caf&Atilde;&copy;s", "cafés", &[("mojibake", 1), ("entities", 2)]);
        check("10&nbsp;km", "10 km", &[("entities", 1), ("white_space", 1)]);
        check("if (a &lt; b) return `&lt;`;", "if (a &lt; b) return `&lt;`;", &[]);
        check("\tx = f(&a) && b\n\t\ty  = 1\n", "\tx = f(&a) && b\n\t\ty  = 1\n", &[]);
    }

    #[test]
    fn disabled_repairs_change_nothing() {
        let check = |config: Config, text: &str, expected: &str| {
            assert_eq!(repair(&config, text).text, expected, "{config:?}");
        };
        let damaged = "\u{feff}cafÃ©&amp;c \r\ne\u{301} ";
        check(Config::default(), damaged, "café&c\né");
        check(Config { mojibake: false, ..Config::default() }, damaged, "cafÃ©&c\né");
        check(Config { entities: Entities::Never, ..Config::default() }, damaged, "café&amp;c\né");
        check(Config { line_ends: false, ..Config::default() }, damaged, "café&c \r\né");
        check(Config { control_characters: false, ..Config::default() }, damaged, "\u{feff}café&c\né");
        check(Config { normalization: Normalization::None, ..Config::default() }, damaged, "café&c\ne\u{301}");
        check(Config { white_space: false, ..Config::default() }, damaged, "café&c \né ");
        check(Config { normalization: Normalization::Nfkc, ..Config::default() }, "10²", "102");
        check(Config { entities: Entities::Always, ..Config::default() }, "a <b> &lt; c", "a <b> < c");
    }

    #[test]
    fn the_table_is_parsed() {
        let check = |json: &str, expected: &str| {
            let read = serde_json::from_str::<Config>(json);
            assert_eq!(read.map_or_else(|e| e.to_string(), |config| format!("{config:?}")), expected);
        };
        check("{}", &format!("{:?}", Config::default()));
        let never = Config { entities: Entities::Never, ..Config::default() };
        check(r#"{"entities": "never"}"#, &format!("{never:?}"));
        check(
            r#"{"entities": "sometimes"}"#,
            "unknown variant `sometimes`, expected one of `auto`, `always`, `never` at line 1 column 24",
        );
    }

    /// Text with damage of all kinds.
    fn damaged() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => r"[ -~]{0,6}",
            2 => r"[\n\r\t \u{a0}\u{2003}\u{3000}\u{2028}]{1,4}",
            2 => r"[ÃÂÄÅÎÐÑâàðíïÀ¿€œ™š©®°»¡¢²³¼ÿþ‚ƒ„…†‡ˆ‰“”‘’•–—]{1,5}",
            2 => r"[ВГРСабвЂђѓ‚љћџЎўІіґё№єѕї]{1,4}",
            1 => r"[ΒΓΞΟαβγΆΈΉΊΌΎΏ΄΅]{1,4}",
            1 => r"[├┬─╨╤Γ│┐░▒▓╗√¬ƒ≈∆«»]{1,4}",
            1 => r"\PC{0,4}",
            1 => r"[\x00-\x1f\x7f\u{80}-\u{9f}\u{feff}\u{fffd}\u{fff9}]{1,3}",
            1 => r"[e\u{301}\u{323}\u{1100}\u{1161}\u{11a8}\u{212b}\u{340}]{1,4}",
            2 => "&(amp|lt|gt|nbsp|eacute|Atilde|copy|sum|#233|#x80|#0|#38|#1114112);|&[a-z#]{0,5};?|(amp|lt|#38);",
        ];
        proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    /// Text whose UTF-8 was decoded in another encoding, up to twice.
    fn misdecoded() -> impl Strategy<Value = String> {
        let decode = |text: &String, upper: &[char]| {
            text.bytes().map(|byte| if byte < 0x80 { byte as char } else { upper[usize::from(byte) - 0x80] }).collect()
        };
        let text = r"[a-z éàÅßñçœ“”’—…€漢字жшяλό😀&;\n]{0,24}";
        (text, proptest::collection::vec(0..encodings::ENCODINGS.len(), 1..3)).prop_map(move |(text, encodings)| {
            encodings.into_iter().fold(text, |text, encoding| {
                let upper: Vec<char> = encodings::ENCODINGS[encoding].1.chars().collect();
                decode(&text, &upper)
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn repair_is_idempotent(text in prop_oneof![damaged(), misdecoded()]) {
            let once = repair(&Config::default(), &text).text;
            prop_assert_eq!(&repair(&Config::default(), &once).text, &once);
        }

        #[test]
        fn the_scan_misses_no_damage(text in prop_oneof![damaged(), misdecoded()]) {
            let config = Config::default();
            let mut repaired = repair(&config, &text);
            prop_assert!(!round(&config, config.enabled(), &mut repaired), "{:?}", repaired);
        }
    }
}
