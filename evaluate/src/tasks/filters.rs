//! Filters of generated texts, as in lm-evaluation-harness.

use std::collections::BTreeMap;

use regex::Regex;

use super::definition::{Definition, FilterOptions, OutputType};
use super::template::compile;

/// The pattern of the filter `regex` without one: the answers of GSM8K.
const DEFAULT_PATTERN: &str = r"#### (\-?[0-9\.\,]+)";

/// Filters that are applied one after the other, by their common name.
#[derive(Debug)]
pub(super) struct Filters {
    pub(super) name: String,
    steps: Vec<Filter>,
}

#[derive(Debug)]
enum Filter {
    Regex { regex: Regex, group_select: i64, fallback: String },
    RemoveWhitespace,
    Lowercase,
    Uppercase,
    Map { mapping: BTreeMap<String, String>, default: Option<String> },
}

impl Filters {
    /// Returns the filters of a definition, one list for each score of a metric.
    ///
    /// # Errors
    /// Returns the problem if a regular expression is not supported, or the task generates no texts.
    pub(super) fn of(definition: &Definition) -> Result<Vec<Self>, String> {
        let Some(lists) = &definition.filter_list else {
            return Ok(vec![Self { name: "none".to_owned(), steps: Vec::new() }]);
        };
        let is_first_alone = |filters: &FilterOptions| matches!(filters, FilterOptions::TakeFirst);
        if definition.output_type != OutputType::GenerateUntil
            && !lists.iter().all(|list| list.filter.iter().all(is_first_alone))
        {
            return Err("`filter_list` is for tasks that generate texts".to_owned());
        }
        let of_list = |list: &super::definition::FilterList| {
            let steps = list.filter.iter().filter_map(|options| Filter::of(options).transpose());
            Ok(Self { name: list.name.clone(), steps: steps.collect::<Result<_, String>>()? })
        };
        lists.iter().map(of_list).collect()
    }

    /// Returns what the filters make of a text.
    pub(super) fn apply(&self, text: &str) -> String {
        self.steps.iter().fold(text.to_owned(), |text, step| step.apply(&text))
    }
}

impl Filter {
    /// Returns None for the one that takes the first of several texts: there is only one.
    fn of(options: &FilterOptions) -> Result<Option<Self>, String> {
        Ok(Some(match options {
            FilterOptions::TakeFirst => return Ok(None),
            FilterOptions::RemoveWhitespace => Self::RemoveWhitespace,
            FilterOptions::Lowercase => Self::Lowercase,
            FilterOptions::Uppercase => Self::Uppercase,
            FilterOptions::Map { mapping_dict, default_value } => {
                Self::Map { mapping: mapping_dict.clone(), default: default_value.clone() }
            }
            FilterOptions::Regex { regex_pattern, group_select, fallback } => Self::Regex {
                regex: compile(regex_pattern.as_deref().unwrap_or(DEFAULT_PATTERN))?,
                group_select: group_select.unwrap_or(0),
                fallback: fallback.clone().unwrap_or_else(|| "[invalid]".to_owned()),
            },
        }))
    }

    fn apply(&self, text: &str) -> String {
        match self {
            Self::RemoveWhitespace => text.trim().to_owned(),
            Self::Lowercase => text.to_lowercase(),
            Self::Uppercase => text.to_uppercase(),
            Self::Map { mapping, default } => {
                mapping.get(text).or(default.as_ref()).cloned().unwrap_or_else(|| "None".to_owned())
            }
            Self::Regex { regex, group_select, fallback } => {
                found(regex, *group_select, text).unwrap_or_else(|| fallback.clone())
            }
        }
    }
}

/// Returns the match of a number, counted from the end if it is negative: its only group, the first of its groups that
/// is not empty, or all of it.
fn found(regex: &Regex, number: i64, text: &str) -> Option<String> {
    let matches: Vec<_> = regex.captures_iter(text).collect();
    let index = if number < 0 { matches.len() as i64 + number } else { number };
    let captures = matches.get(usize::try_from(index).ok()?)?;
    let group = |i: usize| captures.get(i).map_or("", |group| group.as_str());
    let found = match captures.len() {
        1 => group(0),
        2 => group(1),
        n => (1..n).map(group).find(|group| !group.is_empty())?,
    };
    Some(found.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn filters(list: &Value) -> Result<Vec<Filters>, String> {
        Filters::of(&serde_json::from_value(json!({"filter_list": list})).unwrap())
    }

    #[test]
    fn texts_are_filtered() {
        let check = |steps: Value, text: &str, expected: &str| {
            let found = filters(&json!([{"name": "x", "filter": steps}])).unwrap();
            assert_eq!(found[0].apply(text), expected, "{steps}");
        };
        let regex = |pattern: &str, select: i64| {
            let options = json!({"function": "regex", "regex_pattern": pattern, "group_select": select});
            json!([options, {"function": "take_first"}])
        };
        check(regex(r"(\d+)", 0), "1 or 22", "1");
        check(regex(r"(\d+)", -1), "1 or 22", "22");
        check(regex(r"\d+ ", 0), "1 or 22", "1");
        check(regex(r"(a)|(b)", 1), "a b", "b");
        check(regex(r"(\d+)", 0), "none", "[invalid]");
        check(json!([{"function": "regex"}]), "so it is\n#### 1,000", "1,000");
        check(json!([{"function": "remove_whitespace"}, {"function": "uppercase"}]), " a\n", "A");
        check(json!([{"function": "map", "mapping_dict": {"a": "b"}, "default_value": "c"}]), "a", "b");
        check(json!([{"function": "map", "mapping_dict": {"a": "b"}, "default_value": "c"}]), "x", "c");
        assert!(
            filters(&json!([{"name": "x", "filter": [{"function": "regex", "regex_pattern": "(?<!a)b"}]}])).is_err()
        );
    }
}
