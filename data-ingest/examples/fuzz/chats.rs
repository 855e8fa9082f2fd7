//! Random conversations.

use std::fmt::Write as _;

use data_ingest::{Chat, Format, Source};
use test_support::fuzz::Random;

use crate::input::{Input, JSON_WORDS, file};

/// Returns conversations as JSON lines: valid ones, and ones with random values in random places.
pub fn chat(random: &mut Random) -> Input {
    let shape = random.pick(&[Chat::Messages, Chat::Sharegpt, Chat::Alpaca]);
    let mut lines = String::new();
    for _ in 0..=random.below(30) {
        if shape == Chat::Alpaca {
            let [instruction, input, output] = [(); 3].map(|()| value(random, 3));
            let _ = writeln!(lines, "{{\"instruction\": {instruction}, \"input\": {input}, \"output\": {output}}}");
            continue;
        }
        let (role, content) = if shape == Chat::Sharegpt { ("from", "value") } else { ("role", "content") };
        let mut turns = Vec::new();
        for i in 0..random.below(8) {
            let right = if i % 2 == 0 { "\"user\"" } else { "\"assistant\"" };
            let said = if random.one_in(12) { value(random, 2) } else { right.to_owned() };
            turns.push(format!("{{\"{role}\": {said}, \"{content}\": {}}}", value(random, 4)));
        }
        let turns = format!("[{}]", turns.join(", "));
        let turns = if random.one_in(8) { serde_json::Value::from(turns).to_string() } else { turns };
        let column = if shape == Chat::Sharegpt { "conversations" } else { "messages" };
        let _ = writeln!(lines, "{{\"{column}\": {turns}, \"x\": {}}}", value(random, 1));
    }
    let mut bytes = lines.into_bytes();
    if random.one_in(2) {
        random.damage(&mut bytes, JSON_WORDS);
    }
    let (name, format) = random.pick(&[("a.jsonl", None), ("a.json", Some(Format::Json))]);
    file((name, bytes), Source { chat: Some(shape), format, ..Source::default() })
}

/// Returns a JSON value: text half of the time, otherwise any value, sometimes deeply nested.
fn value(random: &mut Random, depth: usize) -> String {
    match random.below(if depth == 0 { 12 } else { 16 }) {
        0..=7 => "\"Some words, \\u00e4 \\ud83d\\ude00\\n and more.\"".to_owned(),
        8 => random.pick(&["\"\"", "\" \"", "\"\\ud800\"", "\"\\u0000\"", "\"[]\"", "\"[{}]\""]).to_owned(),
        9 => random.pick(&["null", "true", "0", "-1.5e300", "18446744073709551616", "1e400"]).to_owned(),
        10 if random.one_in(20) => ["[".repeat(500), "]".repeat(500)].concat(),
        10 | 11 => format!("\"{}\"", "word ".repeat(random.below(300))),
        12 | 13 => format!("[{{\"type\": \"text\", \"text\": {}}}]", value(random, depth - 1)),
        14 => format!("[{}, {}]", value(random, depth - 1), value(random, depth - 1)),
        _ => format!("{{\"role\": {}, \"role\": 1}}", value(random, depth - 1)),
    }
}
