//! Step language: identifies the language of a text and keeps the configured ones.
//!
//! Languages are identified by `whatlang` (alphabets and trigrams, 70 languages) on a sample of the text. Source code
//! and tables get a language too, usually with low confidence: omit the step for code.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whatlang::{Lang, detect};

use settings::suggest;

/// The table `[preprocess.language]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Languages to keep, by their codes in ISO 639-3 (`"eng"`) or 639-1 (`"en"`). Default: empty, all are kept.
    pub keep: Vec<String>,
    /// The minimum confidence, from 0 to 1. Default 0.65, `FineWeb`'s value (Penedo et al., 2024). There it is
    /// fastText's probability; here it is the lead of the best language over the second, so it mostly drops short and
    /// mixed texts.
    pub threshold: f64,
}

/// The signals: the ISO 639-3 code, and the confidence.
pub const SIGNALS: [&str; 2] = ["language", "confidence"];

/// The sample has at most this many bytes, from [`WINDOWS`] positions. Measured on 652 README files: sixteen times as
/// many change the language of none, half as many change that of two. Most of the time is spent on comparing with the
/// profiles of all languages, so a smaller sample saves little.
const SAMPLE_BYTES: usize = 4 << 10;

/// The number of positions that a sample comes from, so that an introduction or licence in another language does not
/// decide.
const WINDOWS: usize = 4;

impl Default for Config {
    fn default() -> Self {
        Self { keep: Vec::new(), threshold: 0.65 }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// Returns the key and what is wrong with its value.
    pub fn validate(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.threshold) {
            return Err(format!("threshold is {}, but must be between 0 and 1", self.threshold));
        }
        self.keep.iter().try_for_each(|code| match language(code) {
            Some(_) => Ok(()),
            None => Err(format!("keep has `{code}`, which is not a known language{}", suggestion(code))),
        })
    }

    /// Returns the key because of which a text in `language` (an ISO 639-3 code, if identified) is dropped, or `None`.
    pub fn failed(&self, language: Option<&str>, confidence: f64) -> Option<&'static str> {
        let is_kept = |code: &String| self::language(code).map(|known| known.code()) == language && language.is_some();
        if !self.keep.is_empty() && !self.keep.iter().any(is_kept) {
            return Some("keep");
        }
        // A text without letters has no language and no confidence.
        (language.is_none() || confidence < self.threshold).then_some("threshold")
    }
}

/// Returns the ISO 639-3 code of the language of `text`, and the confidence from 0 to 1; `None` if it has no letters.
pub fn identify(text: &str) -> Option<(&'static str, f64)> {
    let found = detect(&sample(text))?;
    Some((found.lang().code(), found.confidence().clamp(0.0, 1.0)))
}

/// Returns the text, or evenly spaced windows of a long one.
fn sample(text: &str) -> Cow<'_, str> {
    if text.len() <= SAMPLE_BYTES {
        return Cow::Borrowed(text);
    }
    let window_bytes = SAMPLE_BYTES / WINDOWS;
    let step = (text.len() - window_bytes) / (WINDOWS - 1);
    let window = |i: usize| {
        let start = text.floor_char_boundary(i * step);
        &text[start..text.floor_char_boundary(start + window_bytes)]
    };
    Cow::Owned((0..WINDOWS).map(window).collect::<Vec<_>>().join("\n"))
}

/// Returns the language with the code `code` of ISO 639-1 or 639-3, if `whatlang` knows it.
fn language(code: &str) -> Option<Lang> {
    let code = code.to_lowercase();
    let code = isolang::Language::from_639_1(&code).map_or(code.as_str(), |language| language.to_639_3());
    let member = MACROLANGUAGES.iter().find(|(macrolanguage, _)| *macrolanguage == code).map(|(_, member)| *member);
    Lang::from_code(member.unwrap_or(code))
}

fn suggestion(unknown: &str) -> String {
    let by_name = Lang::all().iter().find(|lang| lang.eng_name().eq_ignore_ascii_case(unknown));
    let names = Lang::all().iter().map(|lang| lang.eng_name());
    let by_similarity =
        || suggest(unknown, names).and_then(|name| Lang::all().iter().find(|lang| lang.eng_name() == name));
    // Every code is close to other codes of three letters, so only names are compared.
    let found = by_name.or_else(|| (unknown.chars().count() > 3).then(by_similarity).flatten());
    match found {
        Some(lang) => format!("; did you mean `{}` ({})?", lang.code(), lang.eng_name()),
        None => format!("; known are {}", Lang::all().iter().map(Lang::code).collect::<Vec<_>>().join(", ")),
    }
}

/// Macrolanguages of ISO 639-3, and the member that `whatlang` detects.
const MACROLANGUAGES: [(&str, &str); 3] = [("fas", "pes"), ("nor", "nob"), ("zho", "cmn")];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn languages_are_identified() {
        let check = |expected: &str, text: &str| {
            assert_eq!(identify(text).map(|(code, _)| code), Some(expected), "{text}");
        };
        check("eng", "If you want the bread to rise, leave it in a warm place for an hour before you bake it.");
        check(
            "deu",
            "Der Zug nach Hamburg hatte heute wieder eine halbe Stunde Verspätung, weil eine Weiche defekt war.",
        );
        check("fra", "Le boulanger du village ouvre sa boutique à six heures et vend tout son pain avant midi.");
        check(
            "spa",
            "La biblioteca cierra los domingos, pero durante la semana está abierta hasta las nueve de la noche.",
        );
        check("por", "O mercado fica perto da estação e vende frutas frescas todos os dias da semana.");
        check("ita", "Mia zia coltiva pomodori e basilico sul balcone e li regala ai vicini di casa.");
        check("nld", "De kinderen speelden de hele middag in het park en kwamen moe maar vrolijk thuis.");
        check("swe", "På sommaren brukar vi åka till stugan vid sjön och bada varje dag.");
        check("dan", "Min søster har lige fået en hund, som sover det meste af dagen.");
        check("fin", "Kesällä järven vesi on niin lämmintä, että lapset uivat aamusta iltaan.");
        check("pol", "Wczoraj wieczorem spotkaliśmy się u znajomych i graliśmy w karty do późnej nocy.");
        check("ces", "Včera jsme šli na výlet do hor, ale kvůli mlze nebylo nic vidět.");
        check("hun", "Tegnap este a barátaimmal moziba mentünk, de a film nem tetszett senkinek.");
        check("tur", "Dün akşam arkadaşlarımla sahilde yürüdük ve güneşin batışını izledik.");
        check("ron", "În fiecare dimineață bunica merge la piață și cumpără legume proaspete.");
        check("rus", "Вчера вечером мы долго гуляли по набережной и смотрели на огни кораблей.");
        check("ukr", "Учора ввечері ми довго гуляли набережною і дивилися на вогні кораблів.");
        check("bul", "Вчера вечерта се разхождахме край морето и гледахме светлините на корабите.");
        check("ell", "Χθες το βράδυ περπατήσαμε στην παραλία και κοιτάζαμε τα φώτα των πλοίων.");
        check("ara", "ذهبنا أمس إلى الشاطئ مع الأصدقاء وشاهدنا غروب الشمس.");
        check("pes", "دیروز عصر با دوستانم به پارک رفتیم و چای نوشیدیم.");
        check("heb", "אתמול בערב הלכנו לאורך החוף והסתכלנו על אורות האוניות.");
        check("hin", "कल शाम हम समुद्र के किनारे टहल रहे थे और जहाज़ों की रोशनी देख रहे थे।");
        check("tha", "เมื่อวานเย็นเราเดินเล่นริมทะเลและดูแสงไฟของเรือ");
        check("vie", "Tối qua chúng tôi đi dạo dọc bờ biển và ngắm ánh đèn của những con tàu.");
        check("ind", "Kemarin sore kami berjalan di tepi pantai dan melihat lampu kapal dari kejauhan.");
        check("cmn", "昨天晚上我们沿着海边散步，看着远处船上的灯光。");
        check("jpn", "昨日の夕方、私たちは海辺を散歩して船の明かりを眺めました。");
        check("kor", "어제저녁 우리는 바닷가를 걸으며 배의 불빛을 바라보았다.");
    }

    #[test]
    fn texts_without_letters_have_no_language() {
        let check = |text: &str| assert_eq!(identify(text), None, "{text:?}");
        check("");
        check("12 + 30 = 42 …");
        check(" \n\t");
        check("😀😀");
    }

    #[test]
    fn long_texts_are_sampled_in_all_parts() {
        let licence = "Permission is hereby granted, free of charge, to any person who obtains a copy. ".repeat(40);
        let story =
            "Der Zug hatte wieder Verspätung, weil eine Weiche defekt war und niemand sie reparierte. ".repeat(200);
        assert_eq!(identify(&format!("{licence}{story}")).map(|(code, _)| code), Some("deu"));
        // Windows never split a character.
        assert_eq!(identify(&"猫は窓の外を見ています。".repeat(1000)), Some(("jpn", 1.0)));
    }

    #[test]
    fn documents_are_dropped_by_their_signals() {
        let check = |keep: &[&str], language: Option<&str>, confidence: f64, expected: Option<&str>| {
            let config = Config { keep: keep.iter().map(|code| (*code).to_owned()).collect(), ..Config::default() };
            assert_eq!(config.failed(language, confidence), expected, "{keep:?} {language:?}");
        };
        check(&[], Some("eng"), 0.7, None);
        check(&[], Some("eng"), 0.65, None);
        check(&[], Some("eng"), 0.6, Some("threshold"));
        check(&[], None, 0.0, Some("threshold"));
        check(&["eng"], Some("eng"), 1.0, None);
        check(&["en"], Some("eng"), 1.0, None);
        check(&["EN", "zh"], Some("cmn"), 1.0, None);
        check(&["en"], Some("deu"), 1.0, Some("keep"));
        check(&["en"], None, 0.0, Some("keep"));
        check(&["en"], Some("eng"), 0.1, Some("threshold"));
    }

    #[test]
    fn values_are_validated() {
        let check = |keep: &str, threshold: f64, expected: &str| {
            let problem = Config { keep: vec![keep.to_owned()], threshold }.validate().err().unwrap_or_default();
            assert!(if expected.is_empty() { problem.is_empty() } else { problem.starts_with(expected) }, "{problem}");
        };
        check("eng", 0.65, "");
        check("de", 0.0, "");
        check("no", 1.0, "");
        check("eng", 1.1, "threshold is 1.1, but must be between 0 and 1");
        check("eng", f64::NAN, "threshold is NaN, but must be between 0 and 1");
        check("german", 0.5, "keep has `german`, which is not a known language; did you mean `deu` (German)?");
        check(
            "Portugese",
            0.5,
            "keep has `Portugese`, which is not a known language; did you mean `por` (Portuguese)?",
        );
        check("xx", 0.5, "keep has `xx`, which is not a known language; known are epo, eng, rus,");
    }

    #[test]
    fn codes_are_those_of_both_standards() {
        let check = |code: &str, expected: Option<&str>| {
            assert_eq!(language(code).map(|lang| lang.code()), expected, "{code}");
        };
        check("de", Some("deu"));
        check("DEU", Some("deu"));
        check("fa", Some("pes"));
        check("fas", Some("pes"));
        check("no", Some("nob"));
        check("nb", Some("nob"));
        check("nor", Some("nob"));
        check("zh", Some("cmn"));
        check("zho", Some("cmn"));
        check("is", None);
        check("", None);
        check("…", None);
        // Every language has a two-letter code.
        for lang in Lang::all() {
            let code =
                MACROLANGUAGES.iter().find(|(_, member)| *member == lang.code()).map_or(lang.code(), |(code, _)| *code);
            let short = isolang::Language::from_639_3(code).and_then(|language| language.to_639_1());
            assert_eq!(short.and_then(language), Some(*lang), "{}", lang.code());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn any_text_has_a_confidence(text in r"\PC{0,30}|[a-zéßñİſK]{0,3}|[а-яђ ]{0,4}|[آ-ی ]{0,4}|[अ-ह ]{0,4}") {
            if let Some((_, confidence)) = identify(&text) {
                prop_assert!((0.0..=1.0).contains(&confidence), "{}", confidence);
            }
        }
    }
}
