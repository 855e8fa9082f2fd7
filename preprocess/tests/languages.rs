//! Quality rules hold for documents of every language, and the report says where they cannot.

mod corpus;

use std::sync::{Arc, Mutex};

use artifact::{Context, Event, Progress};
use corpus::{document, seal, small, unlike, unsealed, write};
use preprocess::Config;
use serde_json::Value;

/// Sentences of each language, several to a document.
const SENTENCES: [(&str, [&str; 4]); 4] = [
    (
        "de",
        [
            "Der Zug nach Hamburg hatte heute wieder eine halbe Stunde Verspätung, weil eine Weiche defekt war.",
            "Die Bäckerin öffnet den Laden am frühen Morgen, und das Brot ist noch warm.",
            "Wir gehen mit den Kindern in den Garten und suchen die Schnecken unter den Blättern.",
            "Das Museum ist am Montag geschlossen, aber der Park mit dem Teich bleibt offen.",
        ],
    ),
    (
        "fr",
        [
            "Le boulanger du village ouvre sa boutique à six heures et vend tout son pain avant midi.",
            "La rivière est haute, et les enfants ne jouent plus près des arbres.",
            "Nous pensons que le train de nuit est plus agréable que la voiture.",
            "Les fenêtres de la maison donnent sur le jardin et sur la place.",
        ],
    ),
    (
        "th",
        [
            "เมื่อวานเย็นเราเดินเล่นริมทะเลและดูแสงไฟของเรือ",
            "แม่ไปตลาดทุกเช้าเพื่อซื้อผักสดและผลไม้",
            "เด็กๆ เล่นฟุตบอลในสวนสาธารณะหลังเลิกเรียน",
            "รถไฟไปเชียงใหม่ออกเดินทางตอนหกโมงเย็น",
        ],
    ),
    (
        "en",
        [
            "The old bridge was closed because the river had risen to the height of the road.",
            "If you want the bread to rise, leave it in a warm place and be patient.",
            "They have a garden with beans and a shed that is full of tools.",
            "Most of the boats return to the harbour before the evening.",
        ],
    ),
];

#[test]
fn stop_words_are_those_of_the_language() {
    let mut documents = Vec::new();
    for (language, sentences) in SENTENCES {
        for i in 0..12 {
            let text: Vec<String> = (0..4).map(|at| format!("{} {}", sentences[(at + i) % 4], i * 31 + at)).collect();
            documents.push(document(&format!("{language}-{i}"), text.join("\n")));
        }
    }
    let check = |table: &str, expected: &[&str]| {
        let config: Config = toml::from_str(&format!(
            "steps = [\"gopher_quality\"]\n[gopher_quality]\nmin_words = 10\nmax_mean_word_chars = false\n\
             min_letter_word_fraction = false\nmin_mean_word_chars = false\n{table}"
        ))
        .unwrap();
        let config = Config { tokenizer: small().tokenizer, validation: 0.2, test: 0.2, ..config };
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let corpus = write(from.path(), &documents, 50);
        let outcome = preprocess::run(&config, &corpus, &unsealed(to.path()), &Context::quiet(0)).unwrap();
        let sealed = seal(to.path(), outcome);
        let report = std::fs::read_to_string(sealed.folder().join("report.json")).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        let notices: Vec<&str> =
            report["notices"].as_array().unwrap().iter().map(|notice| notice.as_str().unwrap()).collect();
        assert_eq!(notices, expected, "{table}");
    };
    check(
        "",
        &["gopher_quality.min_stop_words does not apply to the language of 12 documents (tha 12): there are no stop \
           words for it"],
    );
    // Words that the user names hold for every document.
    check(
        "stop_words = [\"the\", \"of\", \"and\", \"to\"]\n",
        &["gopher_quality dropped 36 of 48 documents (min_stop_words 36)"],
    );
}

/// Sentences for documents of the preset `web`, each of which has all of its language in another order.
const PAGES: [(&str, [&str; 8]); 4] = [
    (
        "de",
        [
            "Der Zug nach Hamburg hatte heute wieder eine halbe Stunde Verspätung, weil eine Weiche defekt war.",
            "Die Bäckerin öffnet den Laden am frühen Morgen, und das Brot ist dann noch warm.",
            "Wir gehen mit den Kindern in den Garten und suchen die Schnecken unter den Blättern.",
            "Das Museum ist am Montag geschlossen, aber der Park mit dem Teich bleibt für alle offen.",
            "Am Abend saßen die Fischer im Hafen und flickten ihre Netze bei einer Tasse Tee.",
            "„Morgen wird es regnen“, sagte der alte Mann, ohne von seiner Zeitung aufzusehen.",
            "Im Keller stehen Gläser mit Kirschen, die meine Großmutter im Sommer eingekocht hat.",
            "Niemand wusste, wem das rote Fahrrad gehörte, das seit Wochen vor dem Rathaus stand.",
        ],
    ),
    (
        "es",
        [
            "La biblioteca cierra los domingos, pero durante la semana está abierta hasta las nueve de la noche.",
            "El panadero abre la tienda muy temprano y vende todo el pan antes del mediodía.",
            "Los niños jugaban en la plaza mientras sus abuelos hablaban a la sombra de los árboles.",
            "Mi hermana aprendió a tocar la guitarra con un libro que encontró en el mercado.",
            "El río creció tanto en primavera que el puente de madera quedó bajo el agua.",
            "—¿Vienes con nosotros a la montaña? —preguntó el guía antes de cerrar la puerta.",
            "En la cocina olía a café y a naranjas, y la radio sonaba muy bajo.",
            "Nadie recordaba quién había pintado las ventanas de azul ni cuándo lo hizo.",
        ],
    ),
    (
        "zh",
        [
            "昨天晚上我们沿着海边散步，看着远处船上的灯光。",
            "面包店的老板每天清晨五点开门，中午以前就把面包卖完了。",
            "孩子们在院子里寻找藏在树叶下面的蜗牛。",
            "博物馆星期一不开放，但是带池塘的公园一直开着。",
            "姐姐用在旧书市场上找到的书学会了弹吉他。",
            "春天河水涨得很高，木桥被淹没在水里。",
            "“明天要下雨了。”老人说着，眼睛没有离开报纸。",
            "谁也不知道那辆红色的自行车是谁的，它在市政厅门口停了好几个星期。",
        ],
    ),
    (
        "th",
        [
            "เมื่อวานเย็นเราเดินเล่นริมทะเลและดูแสงไฟของเรือที่อยู่ไกลออกไป",
            "แม่ไปตลาดทุกเช้าเพื่อซื้อผักสดและผลไม้มาทำอาหารให้ครอบครัว",
            "เด็กๆ เล่นฟุตบอลในสวนสาธารณะหลังเลิกเรียนจนกระทั่งพระอาทิตย์ตก",
            "รถไฟไปเชียงใหม่ออกเดินทางตอนหกโมงเย็นและถึงในตอนเช้าของวันรุ่งขึ้น",
            "พี่สาวของฉันหัดเล่นกีตาร์จากหนังสือเก่าที่ซื้อมาจากร้านใกล้บ้าน",
            "ฤดูฝนปีนี้น้ำในแม่น้ำสูงมากจนสะพานไม้จมอยู่ใต้น้ำหลายวัน",
            "ชายชราบอกว่าพรุ่งนี้ฝนจะตกโดยไม่ได้เงยหน้าขึ้นจากหนังสือพิมพ์",
            "ไม่มีใครรู้ว่าจักรยานสีแดงที่จอดอยู่หน้าศาลากลางเป็นของใคร",
        ],
    ),
];

/// A page about nothing, which the rules are to drop in every language: headings and links.
const MENU: [(&str, &str); 3] = [
    ("de", "Startseite\nKontakt\nImpressum\nAnmelden\nWarenkorb\nMehr lesen\nNach oben\nWeitere Artikel"),
    ("es", "Inicio\nContacto\nAviso legal\nEntrar\nCarrito\nLeer más\nVolver arriba\nMás artículos"),
    ("zh", "首页\n联系我们\n登录\n购物车\n阅读更多\n返回顶部\n更多文章\n版权信息"),
];

#[test]
fn pages_of_many_languages_pass_the_filters_of_the_web() {
    let mut documents = Vec::new();
    for (language, sentences) in PAGES {
        for i in 0..10 {
            let text: Vec<&str> = (0..8).map(|at| sentences[(at * 3 + i) % 8]).collect();
            documents.push(document(&format!("{language}-{i}"), format!("{}\n", text.join("\n"))));
        }
    }
    documents.extend(MENU.map(|(language, text)| document(&format!("menu-{language}"), text)));
    // Near duplicates are meant to be dropped.
    let steps = "steps = [\"gopher_repetition\", \"gopher_quality\", \"c4\", \"fineweb\"]\n";
    let check = |table: &str, kept: usize, expected: &[&str]| {
        let config: Config = toml::from_str(&format!("preset = \"web\"\n{steps}{table}")).unwrap();
        let config = Config { tokenizer: small().tokenizer, validation: 0.2, test: 0.2, ..config };
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let corpus = write(from.path(), &documents, 50);
        let outcome = preprocess::run(&config, &corpus, &unsealed(to.path()), &Context::quiet(0)).unwrap();
        let sealed = seal(to.path(), outcome);
        let report = std::fs::read_to_string(sealed.folder().join("report.json")).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        let notices: Vec<&str> =
            report["notices"].as_array().unwrap().iter().map(|notice| notice.as_str().unwrap()).collect();
        let dropped = format!("{}", report["failed"]);
        assert_eq!((report["documents_out"].as_u64().unwrap(), notices), (kept as u64, expected.to_vec()), "{dropped}");
    };
    let words = [
        "gopher_quality.min_mean_word_chars and max_mean_word_chars do not apply to the language of 21 documents (cmn \
         11, tha 10): it does not separate words by spaces",
        "gopher_quality.min_stop_words does not apply to the language of 21 documents (cmn 11, tha 10): there are no \
         stop words for it",
        "c4.max_word_chars does not apply to the language of 21 documents (cmn 11, tha 10): it does not separate words \
         by spaces",
        "c4.min_words_per_line does not apply to the language of 21 documents (cmn 11, tha 10): it does not separate \
         words by spaces",
        "c4.min_sentences does not apply to the language of 10 documents (tha 10): it has no marks that end sentences",
        "c4.drop_policy_lines does not apply to the language of 10 documents (tha 10): there are no phrases for it",
        "fineweb.min_punctuated_line_fraction does not apply to the language of 10 documents (tha 10): it has no marks \
         that end sentences",
    ];
    check("", 40, &words);
    // What is off need not apply.
    let off = "[gopher_quality]\nmin_mean_word_chars = false\nmin_stop_words = false\n[c4]\nmax_word_chars = false\n\
               min_words_per_line = false\ndrop_policy_lines = false\nmin_sentences = false\n[fineweb]\n\
               min_punctuated_line_fraction = false";
    check(
        off,
        40,
        &["gopher_quality.max_mean_word_chars does not apply to the language of 21 documents (cmn 11, tha 10): it \
           does not separate words by spaces"],
    );
}

#[test]
fn tables_of_steps_that_do_not_run_are_named() {
    let config = Config { fineweb: toml::from_str("short_line_chars = 9").unwrap(), ..small() };
    let lines = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&lines);
    let progress = Progress::new(move |event| {
        if let Event::Line(line) = event {
            heard.lock().unwrap().push(line.to_owned());
        }
    });
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let corpus = write(from.path(), &unlike(20), 50);
    let context = Context { progress, ..Context::quiet(0) };
    preprocess::run(&config, &corpus, &unsealed(to.path()), &context).unwrap();
    let expected = "[preprocess.fineweb] has no effect: preprocess.steps does not have \"fineweb\", only repair, \
                    length, exact_duplicates";
    assert!(lines.lock().unwrap().iter().any(|line| line == expected), "{lines:?}");
}
