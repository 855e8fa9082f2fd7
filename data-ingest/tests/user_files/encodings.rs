//! Byte-order marks, UTF-16, UTF-32 and legacy encodings.

use data_ingest::Source;
use encoding_rs::Encoding;
use serde_json::json;

use crate::corpus::{one, path};
use crate::packed::{gzip, tar, zip};
use crate::{check, collected};

/// Sentences of languages in the encodings in which their old files are.
const LEGACY: [(&str, &str); 14] = [
    ("windows-1252", "Die Bäume blühen früh in diesem Jahr, und die Vögel singen schöner als im letzten.\n"),
    ("windows-1252", "L'été dernier, j'ai mangé des pâtes à la crème près de l'hôtel où nous étions logés.\n"),
    ("windows-1250", "Příliš žluťoučký kůň úpěl ďábelské ódy, když měsíc svítil na tichou řeku pod mostem.\n"),
    ("windows-1251", "Старый мост над рекой давно закрыт, и люди ходят через лес по узкой тропинке.\n"),
    ("KOI8-R", "Старый мост над рекой давно закрыт, и люди ходят через лес по узкой тропинке.\n"),
    ("IBM866", "Старый мост над рекой давно закрыт, и люди ходят через лес по узкой тропинке.\n"),
    ("windows-1253", "Το παλιό γεφύρι πάνω από το ποτάμι έχει κλείσει και οι άνθρωποι περνούν από το δάσος.\n"),
    ("windows-1255", "הגשר הישן מעל הנהר סגור כבר זמן רב ואנשים הולכים דרך היער בשביל צר.\n"),
    ("gb18030", "河上的旧桥早已关闭，人们沿着一条狭窄的小路穿过树林，到对岸的村子里去。\n"),
    ("Big5", "河上的舊橋早已關閉，人們沿著一條狹窄的小路穿過樹林，到對岸的村子裡去。\n"),
    ("Shift_JIS", "川にかかる古い橋はとうに閉ざされ、人々は森の中の細い道を通って向こう岸の村へ行く。\n"),
    ("EUC-JP", "川にかかる古い橋はとうに閉ざされ、人々は森の中の細い道を通って向こう岸の村へ行く。\n"),
    ("ISO-2022-JP", "川にかかる古い橋はとうに閉ざされ、人々は森の中の細い道を通って向こう岸の村へ行く。\n"),
    ("EUC-KR", "강 위의 오래된 다리는 오래전에 닫혔고 사람들은 숲 속의 좁은 길을 따라 건너편 마을로 간다.\n"),
];

fn encode(label: &str, text: &str) -> Vec<u8> {
    let (bytes, _, has_errors) = Encoding::for_label(label.as_bytes()).unwrap().encode(text);
    assert!(!has_errors, "{label}: {text}");
    bytes.into_owned()
}

fn utf16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(to_bytes).collect()
}

fn utf32(text: &str, to_bytes: fn(u32) -> [u8; 4]) -> Vec<u8> {
    text.chars().flat_map(|c| to_bytes(u32::from(c))).collect()
}

/// Returns a text in every form of Unicode that has a mark.
fn marked(text: &str) -> [Vec<u8>; 5] {
    let text = &format!("\u{feff}{text}");
    [
        text.as_bytes().to_vec(),
        utf16(text, u16::to_le_bytes),
        utf16(text, u16::to_be_bytes),
        utf32(text, u32::to_le_bytes),
        utf32(text, u32::to_be_bytes),
    ]
}

#[test]
fn marked_text_loses_its_mark_in_every_format() {
    let source = Source::default;
    for (plain, document) in [("Früh, 日本 😀\nend", "Früh, 日本 😀|end"), ("x", "x")] {
        for bytes in marked(plain) {
            check("a.txt", &bytes, source(), &[&format!("s/a.txt: {document}")]);
            check("a.md.gz", &gzip(&bytes), source(), &[&format!("s/a.md.gz: {document}")]);
            let members: &[(&str, &[u8])] = &[("b/c.txt", &bytes)];
            check("a.zip", &zip(members), source(), &[&format!("s/a.zip!/b/c.txt: {document}")]);
            check("a.tar", &tar(members), source(), &[&format!("s/a.tar!/b/c.txt: {document}")]);
        }
    }
    for bytes in marked("{\"text\": \"früh\"}\n{\"text\": \"二\"}\n") {
        check("a.jsonl", &bytes, source(), &["s/a.jsonl#1: früh", "s/a.jsonl#2: 二"]);
        let members: &[(&str, &[u8])] = &[("c.jsonl", &bytes)];
        check("a.zip", &zip(members), source(), &["s/a.zip!/c.jsonl#1: früh", "s/a.zip!/c.jsonl#2: 二"]);
    }
    for bytes in marked("[{\"text\": \"früh\"},\n {\"text\": \"二\"}]") {
        let format = Some(data_ingest::Format::Json);
        check("a.json", &bytes, Source { format, ..source() }, &["s/a.json#1: früh", "s/a.json#2: 二"]);
    }
    for bytes in marked("text,id\nfrüh,1\n\"二\n三\",2\n") {
        check("a.csv", &bytes, source(), &["s/a.csv#1: früh", "s/a.csv#2: 二|三"]);
    }
    for bytes in marked("id\ttext\n1\tfrüh\n") {
        check("a.tsv", &bytes, source(), &["s/a.tsv#1: früh"]);
    }
    // Files that were joined have marks in the middle.
    let joined = b"\xef\xbb\xbf{\"text\": \"a\"}\n\xef\xbb\xbf{\"text\": \"b\"}\n";
    check("a.jsonl", joined, source(), &["s/a.jsonl#1: a", "s/a.jsonl#2: b"]);
}

#[test]
fn utf_16_without_a_mark_is_told_from_binary() {
    for text in ["Two lines\nof text.", "河上的旧桥早已关闭。\n人们穿过树林。\n"] {
        for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            let expected = format!("s/a.txt: {}", text.replace('\n', "|"));
            check("a.txt", &utf16(text, to_bytes), Source::default(), &[&expected]);
            let line = format!("{{\"text\": \"{}\"}}\n", text.trim_end().replace('\n', " "));
            let expected = format!("s/a.jsonl#1: {}", text.trim_end().replace('\n', " "));
            check("a.jsonl", &utf16(&line, to_bytes), Source::default(), &[&expected]);
        }
    }
    let binary: [&[u8]; 4] = [b"a\0b", b"\x7fELF\x01\0\x02\0\x03\0\0\0", b"\x01\0\x02\0\x03\0\x04\0", b"a\0\0b\0c"];
    for bytes in binary {
        let found = collected(&[("p/a.txt", b"text"), ("p/b.txt", bytes)], &path("p"));
        assert_eq!(found.documents, ["p/a.txt: text"]);
        assert_eq!(found.lines, ["source p: 1 left out as binary"]);
    }
}

#[test]
fn legacy_encodings_are_decoded_and_named() {
    for (label, text) in LEGACY {
        let bytes = encode(label, text);
        let name = Encoding::for_label(label.as_bytes()).unwrap().name();
        // Detection does not tell GB 18030 and KOI8-R from encodings with the same characters in these places.
        let name = match name {
            "gb18030" => "GBK",
            "KOI8-R" => "KOI8-U",
            name => name,
        };
        let found = collected(&[("p/a.txt", &bytes)], &path("p"));
        assert_eq!(found.documents, [format!("p/a.txt: {}", text.replace('\n', "|"))], "{label}");
        assert_eq!(found.lines, [format!("source p: 1 file decoded from {name}")]);
        assert_eq!(found.source["encodings"], json!({ name: { "decoded": 1, "replaced": 0, "kept": 0 } }));
        assert_eq!(found.source["not_utf8"], 0);
        // Long runs of ASCII come before the first other byte.
        let before = "{\"text\": \"plain\"}\n".repeat(20_000);
        let line = format!("{{\"text\": \"{}\"}}\n", text.trim_end());
        if label != "ISO-2022-JP" {
            let bytes = [before.as_bytes(), &encode(label, &line)].concat();
            let found = collected(&[("a.jsonl", &bytes)], &path("a.jsonl"));
            assert_eq!(found.documents.len(), 20_001, "{label}");
            assert_eq!(found.documents[20_000], format!("a.jsonl/a.jsonl#20001: {}", text.trim_end()), "{label}");
            assert_eq!(found.lines, [format!("source a.jsonl: 1 file decoded from {name}")]);
        }
        let table = encode(label, &format!("id,text\n1,\"{}\"\n", text.trim_end()));
        let members: &[(&str, &[u8])] = &[("b.csv", &table)];
        check("a.zip", &zip(members), Source::default(), &[&format!("s/a.zip!/b.csv#1: {}", text.trim_end())]);
    }
}

#[test]
fn what_cannot_be_told_is_kept_counted_and_named() {
    let damaged = "Größe und Länge, Höhe und Breite\n".as_bytes();
    let damaged = [damaged, b"\xff\xfe\x80 ", damaged].concat();
    let files: &[(&str, &[u8])] = &[
        ("p/a.txt", b"plain"),
        ("p/b.txt", b"x\xe9"),
        ("p/c.txt", &damaged),
        ("p/d.txt", b"Text with \x81\x8d\x90 in the middle of it."),
        ("p/e.txt", &encode("windows-1252", "Ein schöner Tag für alle Bäume.")),
    ];
    let found = collected(files, &path("p"));
    let kept: Vec<bool> = found.documents.iter().map(|document| document.contains(": [")).collect();
    assert_eq!(kept, [false, true, true, true, false], "{:?}", found.documents);
    let line = "source p: 1 file of damaged UTF-8, whose other bytes preprocess replaces by U+FFFD; 2 files of an \
                unknown encoding, whose other bytes preprocess replaces by U+FFFD; if you know it, set the source's \
                `encoding`; 1 file decoded from windows-1252";
    assert_eq!(found.lines, [line]);
    assert_eq!(found.source["not_utf8"], 3);
    assert_eq!(found.source["encodings"]["unknown"], json!({ "decoded": 0, "replaced": 0, "kept": 2 }));
}

#[test]
fn sequences_that_an_encoding_does_not_have_are_replaced_and_counted() {
    let odd = [utf16("\u{feff}half", u16::to_le_bytes), b"\x00".to_vec()].concat();
    let found = collected(&[("p/a.txt", &odd)], &path("p"));
    assert_eq!(found.documents, ["p/a.txt: half\u{fffd}"]);
    let line = "source p: 1 file decoded from UTF-16LE (1 with sequences that it does not have, replaced by U+FFFD)";
    assert_eq!(found.lines, [line]);
}

#[test]
fn a_damaged_stream_gives_what_comes_before_the_damage() {
    let lines: Vec<String> = (0..2000).map(|i| format!("{{\"text\": \"früh {i}\"}}\n")).collect();
    let packed = gzip(&encode("windows-1252", &lines.concat()));
    let found = collected(
        &[("a.jsonl.gz", &packed[..packed.len() - 100])],
        &one(Source { path: Some("a.jsonl.gz".to_owned()), ..Source::default() }),
    );
    assert!(found.documents.len() > 1000, "{}", found.documents.len());
    assert_eq!(found.documents[0], "a.jsonl.gz/a.jsonl.gz#1: früh 0");
}

/// Sentences in encodings of DOS and the old Macintosh, which are not detected, as bytes beside their text.
const UNDETECTED: [&[u8]; 4] = [
    b"Min s\x9bster har lige f\x86et en hund, som sover det meste af dagen.",
    b"# Author: Jos\x82 Mu\xa4oz\ndef main():\n    return 0\n",
    b"Kes\x8all\x8a j\x8arven vesi on niin l\x8ammint\x8a, ett\x8a lapset uivat aamusta iltaan.",
    b"Der Zug hatte wieder Versp\x84tung, weil eine Weiche defekt war. Der Zug hatte wieder Versp\x84tung.",
];

#[test]
fn a_wrong_encoding_is_not_taken_for_the_right_one() {
    for bytes in UNDETECTED {
        let found = collected(&[("p/a.txt", bytes)], &path("p"));
        assert_eq!(found.source["not_utf8"], 1, "{:?}", found.documents);
    }
}

#[test]
fn signs_in_ascii_text_are_decoded() {
    for text in ["It’s the user’s “file” — copyright © 2019.", "The price was £5, plus 2 € for ±0.5 µm.", "it´s l´eau"]
    {
        let expected = format!("s/a.txt: {text}");
        check("a.txt", &encode("windows-1252", text), Source::default(), &[&expected]);
    }
}

#[test]
fn an_encoding_may_be_named() {
    let named = |label: &str| Source { encoding: crate::some(label), ..Source::default() };
    let finnish = "s/a.txt: Kesällä järven vesi on niin lämmintä, että lapset uivat aamusta iltaan.";
    check("a.txt", UNDETECTED[2], named("macintosh"), &[finnish]);
    check("a.jsonl", b"{\"text\": \"\x8a\"}\n", named("macintosh"), &["s/a.jsonl#1: ä"]);
    check("a.csv", b"text\n\xe9\n", named("latin1"), &["s/a.csv#1: é"]);
    check("a.zip", &zip(&[("b.txt", b"x\xe9")]), named("windows-1252"), &["s/a.zip!/b.txt: xé"]);
    // A mark is stronger, and UTF-8 means that nothing is detected.
    check("a.txt", "\u{feff}é".as_bytes(), named("macintosh"), &["s/a.txt: é"]);
    check("a.txt", b"caf\xe9", named("utf-8"), &["s/a.txt: [99, 97, 102, 233]"]);
    let wrong = "collect.sources[0].encoding: is not an encoding of the Encoding Standard, such as `windows-1252` or \
                 `shift_jis`";
    check("a.txt", b"a", named("cp437"), &[wrong]);
}
