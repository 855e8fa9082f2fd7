//! Random changes of JSON that keep its structure.

use serde_json::{Map, Value, json};
use test_support::fuzz::Random;

/// Tokens with a meaning in JSON.
pub const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "\\u",
    "\\ud800",
    "null",
    "true",
    "1e999",
    "-0",
    "1e-400",
    "99999999999999999999",
    "\0",
    "\u{feff}",
    "{\"a\":",
    "[[",
];

/// Changes one to six places of a value: a value becomes another, a key is removed, added or renamed. `keys` are those
/// that readers know.
pub fn change(value: &mut Value, keys: &[&str], random: &mut Random) {
    for _ in 0..=random.below(6).min(random.below(6)) {
        change_once(value, keys, random);
    }
}

fn change_once(value: &mut Value, keys: &[&str], random: &mut Random) {
    // Descend to a random depth.
    let stops = random.one_in(4);
    match value {
        Value::Object(map) if !stops && !map.is_empty() => {
            let at = random.below(map.len());
            let key = map.keys().nth(at).cloned().unwrap_or_default();
            match random.below(10) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert(random.pick(keys).to_owned(), scalar(random))),
                2 => {
                    let moved = map.remove(&key).unwrap_or_default();
                    map.insert(random.pick(keys).to_owned(), moved);
                }
                _ => change_once(&mut map[&key], keys, random),
            }
        }
        Value::Array(items) if !stops && !items.is_empty() => {
            let at = random.below(items.len());
            match random.below(10) {
                0 => drop(items.remove(at)),
                1 => items.insert(at, scalar(random)),
                2 => {
                    let copy = items[at].clone();
                    items.extend(std::iter::repeat_n(copy, random.below(40)));
                }
                _ => change_once(&mut items[at], keys, random),
            }
        }
        value => *value = self::value(value, random),
    }
}

/// Returns another value, often of the same type.
fn value(old: &Value, random: &mut Random) -> Value {
    match old {
        Value::Number(number) if !random.one_in(3) => {
            let number = number.as_f64().unwrap_or_default();
            match random.below(8) {
                0 => json!(number as i64 + 1),
                1 => json!(number as i64 - 1),
                2 => json!(-number),
                3 => json!(number * 2.0),
                4 => json!(number as i64 / 2),
                _ => scalar(random),
            }
        }
        Value::String(text) if !random.one_in(3) => match random.below(6) {
            0 => json!(text.repeat(random.below(200))),
            1 => json!(text.chars().rev().collect::<String>()),
            2 => json!(text.chars().skip(1).collect::<String>()),
            3 => json!(format!("{text}\u{fffd}\0🦀")),
            _ => scalar(random),
        },
        _ => scalar(random),
    }
}

/// Returns a value at some limit.
fn scalar(random: &mut Random) -> Value {
    match random.below(26) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(false),
        3 => json!(0),
        4 => json!(-1),
        5 => json!(1),
        6 => json!(i64::MAX),
        7 => json!(i64::MIN),
        8 => json!(u64::MAX),
        9 => json!(u32::MAX),
        10 => json!(1_u64 << 40),
        11 => json!(random.below(1000)),
        12 => json!(0.5),
        13 => json!(-0.0),
        14 => json!(1e300),
        15 => json!(1e-300),
        16 => json!(""),
        17 => json!("x"),
        18 => json!("\u{0}\u{feff}é日🦀"),
        19 => json!("a".repeat(random.below(5000))),
        20 => json!([]),
        21 => json!({}),
        22 => json!([[], [[]], {}, null]),
        23 => json!({"": {"": [0]}}),
        24 => nested(random.below(300)),
        _ => json!([random.below(1000), random.below(1000)]),
    }
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::Null, |inner, i| {
        if i % 2 == 0 { Value::Array(vec![inner]) } else { Value::Object(Map::from_iter([("a".to_owned(), inner)])) }
    })
}
