//! How a text's language is written, as far as the published rules take it to be English.
//!
//! The rules count words between spaces, letters and marks. What another language writes in another way is measured in
//! that way; what it has not is NaN, which no threshold excludes, and the report says which keys did not apply.

use super::stop_words;
use crate::steps::language;
use crate::text::characters::ends_sentence;

/// How a language is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orthography {
    /// The ISO 639-3 code.
    language: &'static str,
}

/// A text with this many of the English stop words is English; others are identified. Heuristic, not measured: half of
/// them. It is independent of the threshold, because signals are.
const SURELY_ENGLISH: usize = 4;

/// The minimum confidence by which a text counts as of another language than English. Heuristic, not measured.
const MIN_CONFIDENCE: f64 = 0.5;

/// Bytes that are searched for English stop words. Heuristic, not measured.
const SEARCHED_BYTES: usize = 16 << 10;

impl Orthography {
    /// That of the published rules.
    pub const ENGLISH: Self = Self { language: "eng" };

    /// Returns that of a text, and English where its language cannot be told.
    pub fn of(text: &str) -> Self {
        let mut missing = stop_words::ENGLISH.to_vec();
        let start = &text[..text.floor_char_boundary(SEARCHED_BYTES)];
        for word in start.split(|c: char| !c.is_alphanumeric()) {
            missing.retain(|stop_word| *stop_word != word);
            if stop_words::ENGLISH.len() - missing.len() >= SURELY_ENGLISH {
                return Self::ENGLISH;
            }
        }
        match language::identify(text) {
            Some((language, confidence)) if confidence >= MIN_CONFIDENCE => Self { language },
            _ => Self::ENGLISH,
        }
    }

    /// Returns the ISO 639-3 code of the language.
    pub fn language(self) -> &'static str {
        self.language
    }

    /// Returns true if the language has spaces between words. Elsewhere a word of the rules is a character.
    pub fn separates_words(self) -> bool {
        !matches!(self.language, "cmn" | "jpn" | "khm" | "mya" | "tha")
    }

    /// Returns the words of [`Text::words`](crate::text::words::Text::words) that make a word of the rules: more than
    /// one where they are characters. Heuristic, not measured: an English word with its space has six letters, for
    /// which Chinese and Japanese need two characters (see [`Self::letters_per_char`]) and other scripts without
    /// spaces, whose characters are letters and their marks, four.
    pub fn characters_per_word(self) -> usize {
        match self.language {
            "cmn" | "jpn" => 2,
            _ if self.separates_words() => 1,
            _ => 4,
        }
    }

    /// Returns true if the language has marks that end sentences.
    pub fn ends_sentences(self) -> bool {
        self.language != "tha"
    }

    /// Returns the letters of an alphabet that a character stands for. Heuristic, not measured: texts in Chinese and
    /// Japanese have about a third of the characters of their English translations, those in Korean half.
    pub fn letters_per_char(self) -> usize {
        match self.language {
            "cmn" | "jpn" => 3,
            "kor" => 2,
            _ => 1,
        }
    }

    /// Returns the stop words of the language, if there is a list.
    pub fn stop_words(self) -> Option<&'static [&'static str]> {
        stop_words::of(self.language)
    }

    /// Returns true if a line ends as a sentence does: in English by one of C4's marks, elsewhere also by another mark
    /// that ends sentences, or by a closing quotation mark.
    pub fn is_terminated(self, line: &str) -> bool {
        let is_end = |c: char| {
            let is_foreign = || ends_sentence(c) || "’‘”“»«›‹」』".contains(c);
            matches!(c, '.' | '?' | '!' | '"' | '\'') || self != Self::ENGLISH && is_foreign()
        };
        line.ends_with(is_end) && !line.ends_with("...")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_orthography_is_that_of_the_language() {
        let check = |text: &str, language: &str, separates: bool, ends: bool| {
            let found = Orthography::of(text);
            assert_eq!(
                (found.language(), found.separates_words(), found.ends_sentences()),
                (language, separates, ends)
            );
        };
        check("", "eng", true, true);
        check("12 + 30 = 42", "eng", true, true);
        check("The end of that and to", "eng", true, true);
        check(
            "Der Zug hatte heute wieder eine halbe Stunde Verspätung, weil eine Weiche defekt war.",
            "deu",
            true,
            true,
        );
        check("La biblioteca cierra los domingos, pero durante la semana está abierta.", "spa", true, true);
        check("昨天晚上我们沿着海边散步，看着远处船上的灯光。", "cmn", false, true);
        check("昨日の夕方、私たちは海辺を散歩して船の明かりを眺めました。", "jpn", false, true);
        check("เมื่อวานเย็นเราเดินเล่นริมทะเลและดูแสงไฟของเรือ", "tha", false, false);
        check("어제저녁 우리는 바닷가를 걸으며 배의 불빛을 바라보았다.", "kor", true, true);
        // English words far from the beginning count as little as a licence at the end does.
        let text =
            "Der Zug hatte wieder Verspätung, weil eine Weiche defekt war. ".repeat(400) + "the end of that and to";
        check(&text, "deu", true, true);
    }

    #[test]
    fn lines_end_by_the_marks_of_the_language() {
        let check = |language: &'static str, line: &str, expected: bool| {
            assert_eq!(Orthography { language }.is_terminated(line), expected, "{language}: {line}");
        };
        for language in ["eng", "deu", "cmn"] {
            check(language, "It ends.", true);
            check(language, "It ends\"", true);
            check(language, "It goes on...", false);
            check(language, "It goes on…", false);
            check(language, "It goes on", false);
            check(language, "", false);
        }
        for (line, expected) in [("„Er endet.“", true), ("Il finit »", true), ("他说完了。", true), ("「はい」", true)]
        {
            check("eng", line, false);
            check("deu", line, expected);
        }
        check("hin", "नमस्ते।", true);
    }
}
