//! Tests of the lines that the rules of C4 drop.

use super::*;

/// Returns the remaining text, and the reasons for which lines were dropped.
fn clean(config: &c4::Config, text: &str, orthography: Orthography) -> (String, Vec<&'static str>) {
    let mut buffers = Buffers::default();
    let words = buffers.split(text);
    let cleaned = c4::clean(config, &words, orthography, &mut Scratch::default());
    let measured = c4::measure(config, &words, orthography, &mut Scratch::default());
    assert_eq!(cleaned.signals.map(f64::to_bits), measured.map(f64::to_bits), "{text:?}");
    assert_ne!(cleaned.text.as_deref(), Some(text));
    let reasons = (4..9).filter(|at| cleaned.signals[*at] > 0.0).map(|at| c4::SIGNALS[at]).collect();
    (cleaned.text.unwrap_or_else(|| text.to_owned()), reasons)
}

#[test]
fn c4_drops_lines() {
    let published = c4::Config::default();
    let check = |config: &c4::Config, text: &str, expected: &str| {
        assert_eq!(clean(config, text, Orthography::ENGLISH).0, expected, "{text:?}");
    };
    let dropped = |text: &str, reason: &str| {
        assert_eq!(clean(&published, text, Orthography::ENGLISH), (String::new(), vec![reason]), "{text:?}");
    };
    check(&published, "", "");
    check(
        &published,
        "  It is kept. \r\nSo is \"this\"\nand 'that'\n\nIs it?\tIt is!",
        "It is kept.\nSo is \"this\"\nIs it?\tIt is!",
    );
    check(
        &published,
        "Größe zählt nicht.\n猫 喜欢 睡觉.\nEin 😀 ist!",
        "Größe zählt nicht.\n猫 喜欢 睡觉.\nEin 😀 ist!",
    );
    dropped("A line without an end", "unterminated_lines");
    dropped("A line that goes on...", "unterminated_lines");
    dropped("猫喜欢睡觉。", "unterminated_lines");
    dropped("Two words.", "short_lines");
    dropped("One JavaScript is enough.", "javascript_lines");
    dropped(&format!("{} two three.", "w".repeat(1001)), "long_word_lines");
    check(&published, &format!("{} b c.", "ü".repeat(1000)), &format!("{} b c.", "ü".repeat(1000)));
    for phrase in ["Terms of use", "PRIVACY POLICY", "cookie policy", "uses cookies", "use of cookies", "use cookies"] {
        dropped(&format!("The {phrase} are here."), "policy_lines");
        dropped(&format!("{phrase} are here."), "policy_lines");
    }
    for text in ["We use a cookie here.", "The terms of user groups.", "A script in Java.", "Terms of-use it is."] {
        let kept = !text.contains("terms of use");
        check(&published, text, if kept { text } else { "" });
    }
    check(&published, "It[1] is[22] so[edit].", "It is so.");
    check(&published, "It[] is [citation needed] so.[a] [1 2] [3.", "It is  so.[a] [1 2] [3.");
    check(&published, "It is so. [4]", "");
    let all = c4::Config {
        max_word_chars: Threshold::OFF,
        remove_citations: false,
        drop_unterminated_lines: Some(false),
        min_words_per_line: Threshold::OFF,
        drop_javascript_lines: false,
        drop_policy_lines: false,
        ..c4::Config::default()
    };
    let text = format!("no end\n{}\nJavascript[1]\n\nuse cookies", "w".repeat(1001));
    check(&all, &text, &text);
}

#[test]
fn c4_drops_lines_by_language() {
    let check = |language: &str, text: &str, kept: &str, reasons: &[&str]| {
        let orthography = Orthography::of(text);
        assert_eq!(orthography.language(), language);
        let found = clean(&c4::Config::default(), text, orthography);
        assert_eq!(found, (kept.to_owned(), reasons.to_vec()), "{text:?}");
    };
    check(
        "deu",
        "Der Zug hatte heute wieder Verspätung, weil eine Weiche defekt war.\n\
         Er sagte: „Wir warten noch eine Weile.“\n\
         Mehr lesen\nNach oben.\n\
         Diese Seite verwendet Cookies, damit alles geht.\n\
         Es gilt die DATENSCHUTZERKLÄRUNG von hier.\n\
         See our privacy policy for more.",
        "Der Zug hatte heute wieder Verspätung, weil eine Weiche defekt war.\n\
         Er sagte: „Wir warten noch eine Weile.“",
        &["unterminated_lines", "short_lines", "policy_lines"],
    );
    check(
        "spa",
        "La biblioteca cierra los domingos, pero durante la semana está abierta.\n«¿Vienes con nosotros esta tarde?»\n\
         Menú principal de la página\nConsulte la política de privacidad de este sitio.",
        "La biblioteca cierra los domingos, pero durante la semana está abierta.\n«¿Vienes con nosotros esta tarde?»",
        &["unterminated_lines", "policy_lines"],
    );
    check(
        "cmn",
        "昨天晚上我们沿着海边散步。\n他说：“船上的灯光很亮。”\n返回首页\n本网站的隐私政策在这里。\n我们使用 Cookie 来改进网站。",
        "昨天晚上我们沿着海边散步。\n他说：“船上的灯光很亮。”",
        &["unterminated_lines", "policy_lines"],
    );
    // Nothing tells the end of a sentence in Thai, and there are no phrases for it.
    let thai = "เมื่อวานเย็นเราเดินเล่นริมทะเลและดูแสงไฟของเรือ\nแม่ไปตลาดทุกเช้าเพื่อซื้อผักสดและผลไม้";
    check("tha", thai, thai, &[]);
    check("tha", &format!("{thai}\nPrivacy policy"), thai, &["policy_lines"]);
}
