//! Values of runs by their keys, for filters, tables and comparisons.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::{Value, json};

use super::record::Run;
use super::stage::Stage;

/// Returns the value of `key` in a run: a field of the record (`name`, `status`, `started`, `wall_seconds`, `device`),
/// `seed`, a key of the configuration (`train.learning_rate`), or a figure of a stage (`validation_loss`, or
/// `train.validation_loss`).
pub fn value(run: &Run, key: &str) -> Option<Value> {
    let record = &run.record;
    match key {
        "name" => return Some(json!(record.name)),
        "status" => return Some(json!(record.status)),
        "started" => return Some(json!(record.started)),
        "wall_seconds" => return Some(json!(record.wall_seconds)),
        "device" => return Some(json!(record.host.device)),
        "seed" => return record.stages.first().map(|stage| json!(stage.recipe.seed)),
        _ => {}
    }
    config_value(run, key).or_else(|| figure(run, key)).cloned()
}

/// Returns the value of a key of the configuration, if a finished stage of the run depends on it.
fn config_value<'a>(run: &'a Run, key: &str) -> Option<&'a Value> {
    let (stage, path) = key.split_once('.')?;
    let stage = run.record.stages.iter().find(|record| record.stage.name() == stage)?;
    path.split('.').try_fold(&stage.recipe.config, |value, name| value.get(name)).filter(|value| !value.is_null())
}

/// Returns a figure of a stage: `<stage>.<name>`, or `<name>` of the last stage that has it.
pub fn figure<'a>(run: &'a Run, key: &str) -> Option<&'a Value> {
    let of_stage = key.split_once('.').and_then(|(stage, name)| {
        run.record.stages.iter().find(|record| record.stage.name() == stage)?.counts.get(name)
    });
    of_stage.or_else(|| run.record.stages.iter().rev().find_map(|record| record.counts.get(key)))
}

/// Returns the value of every key that [`value`] has one of, except the fields of the record that a listing has anyway.
/// Of tables of the configuration, those are the values in them.
pub fn all(run: &Run) -> BTreeMap<String, Value> {
    fn leaves(path: &str, value: &Value, out: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    leaves(&format!("{path}.{name}"), value, out);
                }
            }
            Value::Null => {}
            leaf => drop(out.insert(path.to_owned(), leaf.clone())),
        }
    }
    let mut all: BTreeMap<String, Value> = [("device".to_owned(), json!(run.record.host.device))].into();
    for record in &run.record.stages {
        for (name, value) in &record.counts {
            all.insert(name.clone(), value.clone());
            all.insert(format!("{}.{name}", record.stage), value.clone());
        }
    }
    // The configuration goes before a figure of the same name.
    for record in &run.record.stages {
        leaves(record.stage.name(), &record.recipe.config, &mut all);
    }
    all.extend(value(run, "seed").map(|seed| ("seed".to_owned(), seed)));
    all
}

/// Returns every figure of a run's stages.
pub fn figures(run: &Run) -> BTreeMap<(Stage, &str), f64> {
    let figures = run.record.stages.iter().flat_map(|record| {
        record.counts.iter().filter_map(|(name, value)| Some(((record.stage, name.as_str()), value.as_f64()?)))
    });
    figures.collect()
}

/// Returns the values inside `value` by their dotted paths; elements of a list of tables are numbered from 0.
pub fn flat(value: &Value) -> BTreeMap<String, Value> {
    fn walk(path: &str, value: &Value, out: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    walk(&path, value, out);
                }
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                for (i, item) in items.iter().enumerate() {
                    walk(&format!("{path}[{i}]"), item, out);
                }
            }
            Value::Null => {}
            other => drop(out.insert(path.to_owned(), other.clone())),
        }
    }
    let mut out = BTreeMap::new();
    walk("", value, &mut out);
    out
}

/// Returns a value as people write it: a text without quotation marks, a number with at most six significant digits
/// after its point.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(real) if number.is_f64() => number_text(real),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// Returns a number with six significant digits, without zeros at its end.
pub fn number_text(number: f64) -> String {
    if !number.is_finite() {
        return number.to_string();
    }
    if number != 0.0 && !(1e-4..1e15).contains(&number.abs()) {
        let text = format!("{number:.5e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'));
    }
    let whole_digits = if number == 0.0 { 1 } else { number.abs().log10().floor() as i32 + 1 };
    let text = format!("{number:.*}", (6 - whole_digits).clamp(0, 9) as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Returns a difference with its sign, as [`number_text`].
pub fn signed(number: f64) -> String {
    let text = number_text(number);
    if number > 0.0 { format!("+{text}") } else { text }
}

/// Orders two values: numbers by size, others as text; a number comes before a text.
pub fn compare(a: &Value, b: &Value) -> Ordering {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => text(a).cmp(&text(b)),
    }
}

/// A condition on a value: `status=finished`, `train.steps>=300`.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The key.
    pub key: String,
    operator: Operator,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The notations, longer ones first.
const OPERATORS: [(&str, Operator); 6] = [
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("!=", Operator::NotEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
    ("=", Operator::Equal),
];

impl Condition {
    /// Returns true if `found` satisfies the condition; a list does if one of its elements does, or for `!=` each. A
    /// value that does not exist satisfies none.
    pub fn holds(&self, found: Option<&Value>) -> bool {
        match found {
            None => false,
            Some(Value::Array(items)) if self.operator == Operator::NotEqual => {
                items.iter().all(|item| self.holds(Some(item)))
            }
            Some(Value::Array(items)) => items.iter().any(|item| self.holds(Some(item))),
            Some(found) => {
                let wanted = match self.value.parse::<f64>() {
                    Ok(number) if found.is_number() => json!(number),
                    _ => json!(self.value),
                };
                let order = if found.is_number() && wanted.is_number() {
                    compare(found, &wanted)
                } else {
                    text(found).cmp(&text(&wanted))
                };
                match self.operator {
                    Operator::Equal => order.is_eq(),
                    Operator::NotEqual => order.is_ne(),
                    Operator::Less => order.is_lt(),
                    Operator::LessOrEqual => order.is_le(),
                    Operator::Greater => order.is_gt(),
                    Operator::GreaterOrEqual => order.is_ge(),
                }
            }
        }
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = |(notation, operator)| text.find(notation).map(|at| (at, notation, operator));
        // The leftmost, and of those the longest.
        let first =
            OPERATORS.into_iter().filter_map(at).min_by_key(|(at, notation, _)| (*at, usize::MAX - notation.len()));
        match first {
            Some((at, notation, operator)) if at > 0 => Ok(Self {
                key: text[..at].trim().to_owned(),
                operator,
                value: text[at + notation.len()..].trim().to_owned(),
            }),
            _ => Err("expected KEY=VALUE, or another of !=, <, <=, > and >=".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_compare_numbers_as_numbers_and_the_rest_as_text() {
        let check = |condition: &str, found: Value, expected: bool| {
            assert_eq!(condition.parse::<Condition>().unwrap().holds(Some(&found)), expected, "{condition} of {found}");
        };
        check("a=3e-4", json!(0.0003), true);
        check("a=10", json!(9), false);
        check("a>9", json!(10), true);
        check("a<=0.5", json!(0.5), true);
        check("a<0.5", json!(0.5), false);
        check("status=finished", json!("finished"), true);
        check("status!=finished", json!("failed"), true);
        check("a=true", json!(true), true);
        check("version=10", json!("10"), true);
        check("tag = best", json!(["first", "best"]), true);
        check("tag=best", json!([]), false);
        check("tag!=best", json!(["first", "best"]), false);
        check("tag!=best", json!(["first"]), true);
        check("tag!=best", json!([]), true);
        assert!(!"a!=1".parse::<Condition>().unwrap().holds(None));
        assert_eq!("a.b<=1=2".parse::<Condition>().unwrap().value, "1=2");
        for wrong in ["", "status", "=1", "<3"] {
            assert!(wrong.parse::<Condition>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn tables_become_paths() {
        let found = flat(&json!({"a": {"b": 1, "c": [1, 2]}, "d": [{"e": true}, {"f": null}], "g": null}));
        let found: Vec<String> = found.iter().map(|(path, value)| format!("{path} = {value}")).collect();
        assert_eq!(found, ["a.b = 1", "a.c = [1,2]", "d[0].e = true"]);
    }

    #[test]
    fn numbers_have_six_significant_digits() {
        let check = |number: f64, expected: &str| assert_eq!(number_text(number), expected);
        check(0.0, "0");
        check(0.1, "0.1");
        check(2.0, "2");
        check(1_234_567.0, "1234567");
        check(1.234_567_8, "1.23457");
        check(0.000_312_345_678, "0.000312346");
        check(0.000_03, "3e-5");
        check(-2.5e-7, "-2.5e-7");
        check(1.5e20, "1.5e20");
        check(f64::NAN, "NaN");
    }

    #[test]
    fn order_is_by_size_then_by_text() {
        let mut values = [json!("b"), json!(10), json!(9.5), json!("a")];
        values.sort_by(compare);
        assert_eq!(values, [json!(9.5), json!(10), json!("a"), json!("b")]);
    }
}
