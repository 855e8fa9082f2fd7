//! Tests of languages that are written otherwise than English.

use super::*;

/// A phrase that an article is about repeats the characters of a 5-gram, but not five words.
#[test]
fn n_grams_of_a_language_without_spaces_have_the_characters_of_words() {
    let rule = Rule::GopherRepetition(gopher_repetition::Config::default());
    let article = "去年春天，上海市中心医院开始试用人工智能技术。\
        医生们每天都要看几百张影像，人工智能技术先挑出可疑的部分，再由专家判断。\
        上海市中心医院的院长说，夜里值班的人少，机器的帮助最大。护士们却担心，人工智能技术不懂得怎样安慰病人。\
        三所大学比较了上海市中心医院和别处的病历，发现误诊少了一成。\
        没有可靠的数据，人工智能技术就无从谈起，所以每份记录都要复核。明年，上海市中心医院还要培训两百名年轻同事。\
        有人问，学生会不会因为人工智能技术而失去练习的机会？上海市中心医院的回答是：先自己看，再看机器的结果。";
    let failure = |text: &str, orthography: Orthography| {
        let (mut buffers, mut signals) = (Buffers::default(), Vec::new());
        rule.measure(&buffers.split(text), orthography, &mut Scratch::default(), &mut signals);
        rule.first_failure(&signals).map(|failure| failure.criterion)
    };
    assert_eq!(Orthography::of(article).language(), "cmn");
    assert_eq!(failure(article, Orthography::of(article)), None);
    assert_eq!(failure(article, Orthography::ENGLISH), Some("max_duplicate_5_gram_fraction"));
    let spam = "点击这里立即领取优惠券，".repeat(12);
    assert_eq!(Orthography::of(&spam).language(), "cmn");
    assert!(failure(&spam, Orthography::of(&spam)).is_some());
    let thai = "เมื่อวานเย็นเราเดินเล่นริมทะเลและดูแสงไฟของเรือ ".repeat(4);
    assert_eq!(Orthography::of(&thai).language(), "tha");
    assert!(failure(&thai, Orthography::of(&thai)).is_some());
}

#[test]
fn signals_that_a_language_has_not_meet_every_criterion() {
    let check = |text: &str, expected: &[(&str, &[&str])]| {
        for rule in web() {
            let (mut buffers, mut signals) = (Buffers::default(), Vec::new());
            rule.measure(&buffers.split(text), Orthography::of(text), &mut Scratch::default(), &mut signals);
            let missing: Vec<&str> = rule
                .signals()
                .iter()
                .zip(&signals)
                .filter(|(_, value)| value.is_nan())
                .map(|(name, _)| *name)
                .collect();
            let expected = expected.iter().find(|(name, _)| *name == rule.name()).map_or(&[][..], |(_, names)| *names);
            assert_eq!(missing, expected, "{} of {text:?}", rule.name());
            let known = rule.inapplicable();
            assert!(missing.iter().all(|signal| known.iter().any(|entry| entry.signal == *signal)));
            for criterion in rule.criteria().iter().filter(|criterion| missing.contains(&criterion.signal)) {
                assert_eq!(criterion.failure(f64::NAN), None);
                assert!(known.iter().any(|entry| entry.keys.contains(&criterion.key)), "{}", criterion.key);
            }
        }
    };
    check("The end of that and to", &[]);
    check("Der Zug hatte heute wieder Verspätung, weil eine Weiche defekt war.", &[]);
    check(
        "昨天晚上我们沿着海边散步，看着远处船上的灯光。",
        &[("gopher_quality", &["mean_word_chars", "stop_words"]), ("c4", &["long_word_lines", "short_lines"])],
    );
    check(
        "เมื่อวานเย็นเราเดินเล่นริมทะเลและดูแสงไฟของเรือ",
        &[
            ("gopher_quality", &["mean_word_chars", "stop_words"]),
            ("c4", &["sentences", "long_word_lines", "unterminated_lines", "short_lines", "policy_lines"]),
            ("fineweb", &["punctuated_line_fraction"]),
        ],
    );
    let off = c4::Config { drop_policy_lines: false, min_words_per_line: Threshold::OFF, ..c4::Config::default() };
    let keys: Vec<&str> = Rule::C4(off).inapplicable().into_iter().flat_map(|entry| entry.keys).collect();
    assert_eq!(keys, ["max_word_chars", "drop_unterminated_lines", "min_sentences"]);
}
