//! Quality rules hold for documents of every language.

mod corpus;

use artifact::Context;
use corpus::{document, seal, small, unsealed, write};
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
    check("", &["gopher_quality.min_stop_words does not apply to 12 documents: their language has no stop words"]);
    // Words that the user names hold for every document.
    check(
        "stop_words = [\"the\", \"of\", \"and\", \"to\"]\n",
        &["gopher_quality dropped 36 of 48 documents (min_stop_words 36)"],
    );
}
