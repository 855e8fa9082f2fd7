//! Tests of each criterion at its threshold and on both sides of it, and of every signal against datatrove.

mod c4_lines;
mod datatrove;
mod languages;

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::text::words::Buffers;

fn failure_of(rule: &Rule, text: &str) -> Option<Failure> {
    let (mut buffers, mut signals) = (Buffers::default(), Vec::new());
    rule.measure(&buffers.split(text), Orthography::of(text), &mut Scratch::default(), &mut signals);
    assert_eq!(signals.len(), rule.signals().len());
    rule.first_failure(&signals)
}

/// Returns the default configuration with all criteria but one disabled.
fn only<C: Default + Serialize + DeserializeOwned>(criteria: &[Criterion], key: &str) -> C {
    let mut table = serde_json::to_value(C::default()).unwrap();
    assert!(criteria.iter().any(|criterion| criterion.key == key), "{key}");
    for criterion in criteria.iter().filter(|criterion| criterion.key != key) {
        table[criterion.key] = Value::Bool(false);
    }
    serde_json::from_value(table).unwrap()
}

/// Checks `text` against one criterion of a rule with the published threshold; an expected `""` means that it is met.
fn check(rule: &Rule, key: &str, text: &str, expected: &str) {
    let criteria = rule.criteria();
    let rule = match rule {
        Rule::GopherQuality(_) => Rule::GopherQuality(only(&criteria, key)),
        Rule::GopherRepetition(_) => Rule::GopherRepetition(only(&criteria, key)),
        Rule::C4(_) => Rule::C4(only(&criteria, key)),
        Rule::FineWeb(_) => Rule::FineWeb(only(&criteria, key)),
        Rule::Code(_) => Rule::Code(only(&criteria, key)),
    };
    let failure = failure_of(&rule, text);
    if let Some(failure) = failure {
        assert_eq!(failure.criterion, key);
    }
    let head: String = text.chars().take(60).collect();
    assert_eq!(failure.map(|failure| failure.to_string()).unwrap_or_default(), expected, "{key} of {head:?}");
}

/// Returns the rules of the preset `web`.
fn web() -> Vec<Rule> {
    let c4 = c4::Config { drop_unterminated_lines: Some(false), ..c4::Config::default() };
    vec![
        Rule::GopherRepetition(gopher_repetition::Config::default()),
        Rule::GopherQuality(gopher_quality::Config::default()),
        Rule::C4(c4),
        Rule::FineWeb(fineweb::Config::default()),
    ]
}

fn code() -> Vec<Rule> {
    vec![Rule::Code(code::Config::default())]
}

#[test]
fn gopher_quality_criteria() {
    let rule = Rule::GopherQuality(gopher_quality::Config::default());
    let check = |key: &str, text: &str, expected: &str| self::check(&rule, key, text, expected);
    check("min_words", &"word ".repeat(51), "");
    check("min_words", &"word, ".repeat(50), "");
    check("min_words", &"word, ".repeat(49), "words 49 < min_words 50");
    check("min_words", "", "words 0 < min_words 50");
    check("min_words", &"猫".repeat(50), "");
    check("min_words", &"😀 ".repeat(49), "words 49 < min_words 50");
    check("max_words", &"a ".repeat(99_999), "");
    check("max_words", &"a. ".repeat(100_000), "");
    check("max_words", &"a ".repeat(100_001), "words 100001 > max_words 100000");
    check("min_mean_word_chars", "abc, abc", "");
    check("min_mean_word_chars", "abcd abc ab", "");
    check("min_mean_word_chars", "abc abc ab", "mean_word_chars 2.6667 < min_mean_word_chars 3");
    check("min_mean_word_chars", "Öle äßü", "");
    check("min_mean_word_chars", "猫喜欢睡觉。", "");
    check("max_mean_word_chars", "猫喜欢睡觉。", "");
    check("min_mean_word_chars", "강아지는 집에 있고 새는 숲에 산다.", "");
    check("min_mean_word_chars", "새 집 물 산", "mean_word_chars 2 < min_mean_word_chars 3");
    check("max_mean_word_chars", "abcdefghij", "");
    check("max_mean_word_chars", "abcdefghi abcdefghij", "");
    check("max_mean_word_chars", "abcdefghijk!", "mean_word_chars 11 > max_mean_word_chars 10");
    check("max_mean_word_chars", &"w".repeat(1 << 20), "mean_word_chars 1048576 > max_mean_word_chars 10");
    check("max_hashes_per_word", "# a b c d e f g h i j", "");
    check("max_hashes_per_word", "#a b c d e f g h i", "");
    check("max_hashes_per_word", "# a b c d e f g h", "hashes_per_word 0.1111 > max_hashes_per_word 0.1");
    check("max_ellipses_per_word", "a b c d e f g h i... ", "");
    check("max_ellipses_per_word", "a b c d e f g h i…", "");
    check("max_ellipses_per_word", "a b c d e f g h…", "ellipses_per_word 0.1111 > max_ellipses_per_word 0.1");
    check("max_ellipses_per_word", "a b c d e f g h...", "ellipses_per_word 0.1111 > max_ellipses_per_word 0.1");
    let lines = |marked: usize, line: &str| format!("{line}\n").repeat(marked) + &"plain\n".repeat(100 - marked);
    check("max_bullet_line_fraction", &lines(89, " - item"), "");
    check("max_bullet_line_fraction", &lines(90, "• item"), "");
    check(
        "max_bullet_line_fraction",
        &lines(91, "\t-item"),
        "bullet_line_fraction 0.91 > max_bullet_line_fraction 0.9",
    );
    check("max_ellipsis_line_fraction", &lines(29, "and…"), "");
    check("max_ellipsis_line_fraction", &lines(30, "and... "), "");
    check(
        "max_ellipsis_line_fraction",
        &lines(31, "and…"),
        "ellipsis_line_fraction 0.31 > max_ellipsis_line_fraction 0.3",
    );
    check("min_letter_word_fraction", "a b c d e f g h i 1", "");
    check("min_letter_word_fraction", "a b c d e f g é 1 2", "");
    check("min_letter_word_fraction", "a b c d e f g 1 2 .", "letter_word_fraction 0.7 < min_letter_word_fraction 0.8");
    check("min_stop_words", "the end of that", "");
    check("min_stop_words", "the end of", "");
    check("min_stop_words", "the end the", "stop_words 1 < min_stop_words 2");
    check("min_stop_words", "The End Of that", "stop_words 1 < min_stop_words 2");
    check("min_stop_words", "Größe und Maß", "stop_words 1 < min_stop_words 2");
}

#[test]
fn gopher_quality_with_other_stop_words() {
    let stop_words: Vec<String> = ["der", "die", "und"].map(str::to_owned).into();
    let config = gopher_quality::Config { stop_words, ..gopher_quality::Config::default() };
    assert_eq!(config.validate(), Ok(()));
    let mut buffers = Buffers::default();
    let stop_words =
        gopher_quality::measure(&config, &buffers.split("der Hund und die Katze und der Wald"), Orthography::ENGLISH)
            [7];
    assert!((stop_words - 3.0).abs() < f64::EPSILON);
}

#[test]
fn gopher_repetition_criteria() {
    let rule = Rule::GopherRepetition(gopher_repetition::Config::default());
    let check = |key: &str, text: &str, expected: &str| self::check(&rule, key, text, expected);
    let pieces = |repeated: usize, between: &str| {
        let others = (repeated + 1..10).map(|i| i.to_string());
        let all: Vec<String> = std::iter::repeat_n("same".to_owned(), repeated + 1).chain(others).collect();
        all.join(between)
    };
    let (paragraphs, lines) = ("max_duplicate_paragraph_fraction", "max_duplicate_line_fraction");
    check(paragraphs, &pieces(2, "\n\n"), "");
    check(paragraphs, &pieces(3, "\n\n\n"), "");
    check(paragraphs, &pieces(4, "\n\n"), "duplicate_paragraph_fraction 0.4 > max_duplicate_paragraph_fraction 0.3");
    check(lines, &pieces(2, "\n"), "");
    check(lines, &pieces(3, "\n\n\n"), "");
    check(lines, &pieces(4, "\n"), "duplicate_line_fraction 0.4 > max_duplicate_line_fraction 0.3");
    // Twice 20 characters and the separators; the rest makes 101, 100 or 99.
    let chars = |between: &str, all: usize| {
        let rest = "z".repeat(all - 40 - 2 * between.len());
        format!("{0}{between}{0}{between}{rest}", "ä".repeat(20))
    };
    for (key, between) in
        [("max_duplicate_paragraph_char_fraction", "\n\n"), ("max_duplicate_line_char_fraction", "\n")]
    {
        check(key, &chars(between, 101), "");
        check(key, &chars(between, 100), "");
        check(key, &chars(between, 99), &format!("{} 0.202 > {key} 0.2", &key[4..]));
    }
    // `n` words of `length` characters, a long word, and the words again; `all` characters.
    let ngrams = |n: usize, length: usize, all: usize| {
        let words: Vec<String> = ('a'..).take(n).map(|c| c.to_string().repeat(length)).collect();
        let words = words.join(" ");
        format!("{words} {} {words}", "ö".repeat(all - 2 * words.len() - 2))
    };
    check("max_top_2_gram_fraction", &ngrams(2, 2, 51), "");
    check("max_top_2_gram_fraction", &ngrams(2, 2, 50), "");
    check("max_top_2_gram_fraction", &ngrams(2, 2, 49), "top_2_gram_fraction 0.2041 > max_top_2_gram_fraction 0.2");
    check("max_top_3_gram_fraction", &ngrams(3, 2, 89), "");
    check("max_top_3_gram_fraction", &ngrams(3, 2, 88), "top_3_gram_fraction 0.1818 > max_top_3_gram_fraction 0.18");
    check("max_top_4_gram_fraction", &ngrams(4, 1, 88), "");
    check("max_top_4_gram_fraction", &ngrams(4, 1, 87), "top_4_gram_fraction 0.1609 > max_top_4_gram_fraction 0.16");
    for (n, length, all, above) in [
        (5, 3, 100, "0.1515"),
        (6, 7, 300, "0.1405"),
        (7, 13, 700, "0.1302"),
        (8, 3, 200, "0.1206"),
        (9, 11, 900, "0.1101"),
        (10, 1, 100, "0.101"),
    ] {
        let key = format!("max_duplicate_{n}_gram_fraction");
        check(&key, &ngrams(n, length, all + 1), "");
        check(&key, &ngrams(n, length, all), "");
        let limit = (20 - n) as f64 / 100.0;
        check(&key, &ngrams(n, length, all - 1), &format!("{} {above} > {key} {limit}", &key[4..]));
    }
    for text in ["", "word"] {
        assert_eq!(failure_of(&rule, text), None, "{text:?}");
    }
    // As in datatrove: of two words, the most frequent pair is the whole text.
    assert_eq!(failure_of(&rule, "two words").unwrap().criterion, "max_top_2_gram_fraction");
    assert_eq!(failure_of(&rule, &"same ".repeat(1 << 18)).unwrap().criterion, "max_top_2_gram_fraction");
}

#[test]
fn c4_criteria_apply_to_the_kept_lines() {
    let rule = Rule::C4(c4::Config::default());
    let check = |key: &str, text: &str, expected: &str| self::check(&rule, key, text, expected);
    check("min_sentences", &"It is one line.\n".repeat(6), "");
    check("min_sentences", "It is one. It is two.\nThese are three.\nWe are four. And that is five!", "");
    check("min_sentences", &"It is one line.\n".repeat(4), "sentences 4 < min_sentences 5");
    check("min_sentences", &"Too short.\n".repeat(9), "sentences 0 < min_sentences 5");
    check("min_sentences", "", "sentences 0 < min_sentences 5");
    check("min_sentences", &"no end ".repeat(1 << 16), "sentences 0 < min_sentences 5");
    check("max_lorem_ipsum_lines", "Ipsum lorem is what it is.", "");
    check("max_lorem_ipsum_lines", "Here LOREM Ipsum stands.", "lorem_ipsum_lines 1 > max_lorem_ipsum_lines 0");
    check("max_lorem_ipsum_lines", "Lorem ipsum stands here without an end", "");
    check("max_curly_bracket_lines", "A bracket (this one) or } that.", "");
    check("max_curly_bracket_lines", "We {do}.\nSo do { we.", "curly_bracket_lines 1 > max_curly_bracket_lines 0");
    check("max_curly_bracket_lines", "With javascript { it goes first.", "");
}

#[test]
fn fineweb_criteria() {
    let rule = Rule::FineWeb(fineweb::Config::default());
    let check = |key: &str, text: &str, expected: &str| self::check(&rule, key, text, expected);
    let lines = |marked: usize, line: &str, other: &str| {
        format!("{line}\n\n").repeat(marked) + &format!("{other}\n \n").repeat(100 - marked)
    };
    let punctuated = "punctuated_line_fraction 0.11 < min_punctuated_line_fraction 0.12";
    check("min_punctuated_line_fraction", &lines(13, "ends.", "ends. "), "");
    check("min_punctuated_line_fraction", &lines(12, "ends。", "ends,"), "");
    check("min_punctuated_line_fraction", &lines(11, "ends?", "ends\""), punctuated);
    check("min_punctuated_line_fraction", "", "punctuated_line_fraction 0 < min_punctuated_line_fraction 0.12");
    let (short, long) = ("ü".repeat(30), "ü".repeat(31));
    check("max_short_line_fraction", &lines(66, &short, &long), "");
    check("max_short_line_fraction", &lines(67, &short, &long), "");
    check(
        "max_short_line_fraction",
        &lines(68, &short, &long),
        "short_line_fraction 0.68 > max_short_line_fraction 0.67",
    );
    // Ten characters of Chinese say as much as thirty letters.
    let chinese = |count: usize| format!("{}\n{}", "昨天晚上我们沿着海边散步。", "散".repeat(count));
    let short = "short_line_fraction 0.5 > max_short_line_fraction 0.4";
    let strict = fineweb::Config { max_short_line_fraction: Threshold::new(0.4), ..fineweb::Config::default() };
    let failed = |count| failure_of(&Rule::FineWeb(strict.clone()), &chinese(count)).map(|failure| failure.to_string());
    assert_eq!(failed(10).as_deref(), Some(short));
    assert_eq!(failed(11), None);
    let repeated = |all: usize| format!("ü\n\nü\n{}", "z".repeat(all - 2));
    let duplicate = "duplicate_line_char_fraction 0.0101 > max_duplicate_line_char_fraction 0.01";
    check("max_duplicate_line_char_fraction", &repeated(101), "");
    check("max_duplicate_line_char_fraction", &repeated(100), "");
    check("max_duplicate_line_char_fraction", &repeated(99), duplicate);
    check("max_newlines_per_word", "a b c d\n e f g h\n i j\n k", "");
    check("max_newlines_per_word", "a b c d\n\n e f g h\n i.", "");
    check("max_newlines_per_word", "a b c d\n\n e f g h\n i", "newlines_per_word 0.3333 > max_newlines_per_word 0.3");
}

#[test]
fn code_criteria() {
    let rule = Rule::Code(code::Config::default());
    let check = |key: &str, text: &str, expected: &str| self::check(&rule, key, text, expected);
    let lines = |chars: usize| format!("{}\n{}\n", "ü".repeat(chars - 1), "x".repeat(101));
    check("max_mean_line_chars", &lines(99), "");
    check("max_mean_line_chars", &lines(100), "");
    check("max_mean_line_chars", &lines(102), "mean_line_chars 101 > max_mean_line_chars 100");
    check("max_line_chars", &"ü".repeat(999), "");
    check("max_line_chars", &("ü".repeat(1000) + "\n"), "");
    check("max_line_chars", &"x".repeat(1001), "longest_line_chars 1001 > max_line_chars 1000");
    check("max_line_chars", &"x".repeat(1 << 20), "longest_line_chars 1048576 > max_line_chars 1000");
    check("min_alphanumeric_fraction", &format!("{}{}", "a".repeat(26), "-".repeat(74)), "");
    check("min_alphanumeric_fraction", &format!("{}{}", "猫".repeat(25), "😀".repeat(75)), "");
    let low = "alphanumeric_fraction 0.24 < min_alphanumeric_fraction 0.25";
    check("min_alphanumeric_fraction", &format!("{}{}", "1".repeat(24), ";".repeat(76)), low);
    check("min_alphanumeric_fraction", "", "alphanumeric_fraction 0 < min_alphanumeric_fraction 0.25");
    let generated = "generated_markers 1 > max_generated_markers 0";
    check("max_generated_markers", "// Written by hand.\nfn main() {}\n", "");
    check("max_generated_markers", "# @Generated\n", generated);
    check("max_generated_markers", "\n\n\n\n// Code AUTOGENERATED from a table.", generated);
    check("max_generated_markers", "\n\n\n\n\n// Code autogenerated from a table.", "");
    check("max_generated_markers", "/* Automatically generated. */", generated);
    check("max_generated_markers", "// Code generated by a tool. DO NOT EDIT.", &generated.replace('1', "2"));
}

#[test]
fn configurations_are_validated() {
    let check = |rule: &Rule, expected: &str| assert_eq!(rule.validate().err().unwrap_or_default(), expected);
    for rule in web().iter().chain(&code()) {
        check(rule, "");
    }
    let gopher = gopher_quality::Config::default;
    let twice = || vec!["the".to_owned(), "the".to_owned()];
    check(
        &Rule::GopherQuality(gopher_quality::Config { min_words: Threshold::new(1e6), ..gopher() }),
        "min_words is 1000000, more than max_words = 100000",
    );
    check(
        &Rule::GopherQuality(gopher_quality::Config { min_stop_words: Threshold::new(9.0), ..gopher() }),
        "min_stop_words is 9, more than stop_words has (8)",
    );
    check(
        &Rule::GopherQuality(gopher_quality::Config { stop_words: twice(), ..gopher() }),
        "stop_words has \"the\" twice",
    );
    check(
        &Rule::GopherQuality(gopher_quality::Config { stop_words: vec!["of the".to_owned()], ..gopher() }),
        "stop_words has \"of the\", which is not a single word",
    );
    check(
        &Rule::GopherRepetition(gopher_repetition::Config {
            max_top_2_gram_fraction: Threshold::new(20.0),
            ..gopher_repetition::Config::default()
        }),
        "max_top_2_gram_fraction is 20, but a fraction must be false or between 0 and 1",
    );
    check(
        &Rule::C4(c4::Config { min_words_per_line: Threshold::new(-1.0), ..c4::Config::default() }),
        "min_words_per_line is -1, but must be false or a non-negative number",
    );
    check(
        &Rule::Code(code::Config { generated_markers: vec![String::new()], ..code::Config::default() }),
        "generated_markers has an empty string, which matches every file",
    );
    let misspelt = serde_json::from_str::<fineweb::Config>(r#"{"max_short_lines": 0.5}"#).unwrap_err();
    assert!(misspelt.to_string().contains("unknown field `max_short_lines`, expected one of"), "{misspelt}");
    let off: fineweb::Config = serde_json::from_str(r#"{"max_short_line_fraction": false}"#).unwrap();
    assert_eq!(off.max_short_line_fraction, Threshold::OFF);
    assert_eq!(serde_json::to_value(&off).unwrap()["max_short_line_fraction"], Value::Bool(false));
}

proptest! {
    #[test]
    fn any_text_has_finite_signals(text in r##"\PC{0,60}|([a-z]{0,3}[ .,\n\r{\["#…-]){0,60}"##) {
        let (mut buffers, mut scratch, mut signals) = (Buffers::default(), Scratch::default(), Vec::new());
        for rule in web().iter().chain(&code()) {
            signals.clear();
            rule.measure(&buffers.split(&text), Orthography::of(&text), &mut scratch, &mut signals);
            let may_lack: Vec<&str> = rule.inapplicable().iter().map(|entry| entry.signal).collect();
            let is_valid = |(at, signal): (usize, &f64)| {
                signal.is_finite() && *signal >= 0.0 || signal.is_nan() && may_lack.contains(&rule.signals()[at])
            };
            prop_assert!(signals.iter().enumerate().all(is_valid), "{:?}", signals);
        }
    }
}
