//! `runs --json`: the records without what makes them long.

use std::fmt;
use std::fs;

use artifact::StoreLayout;
use rayon::prelude::*;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

use crate::commands::print_out;
use crate::run::catalog::Summary;
use crate::run::record::RECORD;

use super::Tags;

/// The key that is left out: the recipes of the stages are most of a record, and `show --json` has them.
const LEFT_OUT: &str = "recipe";

/// Prints the records of runs with their tags, one per line of a JSON array.
pub fn print(runs: &[&Summary], layout: &StoreLayout, tags: &Tags) -> anyhow::Result<()> {
    let folder = layout.runs();
    // One that was removed meanwhile is left out.
    let line = |run: &&Summary| -> Option<String> {
        let mut record = without_recipes(&fs::read(folder.join(&run.name).join(RECORD)).ok()?).ok()?;
        record["name"] = json!(run.name);
        record["tags"] = json!(tags.get(&run.name).map_or(&[][..], Vec::as_slice));
        Some(record.to_string())
    };
    let lines: Vec<Option<String>> = runs.par_iter().map(line).collect();
    let lines: Vec<String> = lines.into_iter().flatten().collect();
    Ok(print_out!("[\n{}\n]", lines.join(",\n"))?)
}

/// Returns a record without the recipes, which are skipped without being read into memory.
fn without_recipes(text: &[u8]) -> serde_json::Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Copied.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Any JSON, without the values of [`LEFT_OUT`].
struct Copied;

impl<'de> DeserializeSeed<'de> for Copied {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Copied {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            if key == LEFT_OUT {
                fields.next_value::<IgnoredAny>()?;
            } else {
                map.insert(key, fields.next_value_seed(Self)?);
            }
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_recipes_are_left_out() {
        let value = json!({
            "a": [1, -2, 3.5, true, null, "é\n", {"recipe": {"b": [1, {"c": 2}]}, "d": 18_446_744_073_709_551_615_u64}],
            "e": {},
            "recipe": 7,
        });
        let expected = json!({"a": [1, -2, 3.5, true, null, "é\n", {"d": 18_446_744_073_709_551_615_u64}], "e": {}});
        assert_eq!(without_recipes(value.to_string().as_bytes()).unwrap(), expected);
        for wrong in ["", "{", "{} {}", "{\"recipe\": }"] {
            assert!(without_recipes(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
