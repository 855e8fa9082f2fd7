//! The page's fixed words in English and Chinese.
//!
//! Templates and charts name a text by its English words; the page has both, and its style shows one of them.

use std::collections::HashMap;

use minijinja::value::Rest;
use minijinja::{Error, ErrorKind, HtmlEscape, Value};

/// English and Chinese in turn, with an empty line after each pair; `{0}`, `{1}`, … stand for values.
const TERMS: &str = include_str!("../report/terms.txt");

/// The terms, by their English words.
#[derive(Debug, Clone)]
pub(super) struct Terms(HashMap<&'static str, &'static str>);

impl Terms {
    pub(super) fn new() -> Self {
        Self(TERMS.split("\n\n").filter_map(|pair| pair.trim().split_once('\n')).collect())
    }

    /// Returns the Chinese words for English ones, with values in their places.
    ///
    /// # Errors
    /// Returns an error if there are none: a bug of this program.
    pub(super) fn chinese(&self, english: &str, values: &[String]) -> Result<String, Error> {
        let chinese = self.0.get(english);
        let missing = || Error::new(ErrorKind::InvalidOperation, format!("terms.txt has no Chinese for {english:?}"));
        Ok(filled(chinese.ok_or_else(missing)?, values))
    }

    /// Returns the HTML of a term in both languages. Values are escaped, unless they are HTML of the page.
    ///
    /// # Errors
    /// As [`Terms::chinese`].
    pub(super) fn html(&self, english: &str, values: &Rest<Value>) -> Result<Value, Error> {
        let escaped = |value: &Value| {
            if value.is_safe() { value.to_string() } else { HtmlEscape(&value.to_string()).to_string() }
        };
        let values: Vec<String> = values.iter().map(escaped).collect();
        let chinese = self.chinese(english, &values)?;
        Ok(Value::from_safe_string(both("span", &filled(english, &values), &chinese)))
    }

    /// Returns a chart whose labels, where they are terms, are in both languages.
    pub(super) fn chart(&self, svg: &str) -> String {
        let mut translated = String::with_capacity(svg.len());
        for (number, element) in svg.split('<').enumerate() {
            if number > 0 {
                translated.push('<');
            }
            let (tag, text) = element.split_once('>').unwrap_or((element, ""));
            translated += tag;
            let label = tag.split_once("aria-label=\"").and_then(|(_, rest)| rest.split_once('"'));
            if let Some(chinese) = label.and_then(|(label, _)| self.0.get(label)) {
                translated += &[" data-zh=\"", chinese, "\""].concat();
            }
            if element.len() > tag.len() {
                translated.push('>');
            }
            let is_text = tag.starts_with("text") || tag.starts_with("tspan");
            match self.0.get(text).filter(|_| is_text) {
                Some(chinese) => translated += &both("tspan", text, chinese),
                None => translated += text,
            }
        }
        translated
    }
}

fn both(tag: &str, english: &str, chinese: &str) -> String {
    format!(r#"<{tag} class="en">{english}</{tag}><{tag} class="zh" lang="zh-CN">{chinese}</{tag}>"#)
}

/// Puts values in the places of `{0}`, `{1}`, ….
fn filled(text: &str, values: &[String]) -> String {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('{') {
        let (place, after) = after.split_once('}').unwrap_or((after, ""));
        filled += before;
        filled += place.parse().ok().and_then(|place: usize| values.get(place)).map_or("", String::as_str);
        rest = after;
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use regex::Regex;

    use super::super::TEMPLATES;
    use super::*;

    fn regex(pattern: &str) -> Regex {
        Regex::new(pattern).unwrap()
    }

    #[test]
    fn every_term_has_both_languages_and_the_same_values() {
        let pairs: Vec<Vec<&str>> = TERMS.trim().split("\n\n").map(|pair| pair.split('\n').collect()).collect();
        let places = |text: &str| -> BTreeSet<String> {
            regex(r"\{\d\}|</?[a-z]+|class=.[a-z ]+").find_iter(text).map(|found| found.as_str().to_owned()).collect()
        };
        for pair in &pairs {
            let [english, chinese] = pair[..] else { panic!("two lines: {pair:?}") };
            assert_eq!(places(english), places(chinese), "{english}");
            let is_chinese = |c: char| ('\u{3000}'..='\u{9fff}').contains(&c) || ('\u{ff00}'..='\u{ffef}').contains(&c);
            let is_name = ["Self-BLEU", "Distinct-n", "English"].contains(&chinese);
            assert!(chinese.contains(is_chinese) || is_name, "{chinese}");
        }
        assert_eq!(Terms::new().0.len(), pairs.len(), "each once");
    }

    #[test]
    fn the_templates_have_no_words_but_terms() {
        let terms = Terms::new();
        let sources: String = TEMPLATES.iter().map(|(_, source)| *source).collect();
        let sources = [&sources, include_str!("charts.rs"), include_str!("../html.rs")].concat();
        for found in regex(r#"\bt\("((?:[^"\\]|\\.)*)""#).captures_iter(&sources) {
            let english = found[1].replace("\\\"", "\"");
            assert!(terms.0.contains_key(&*english), "terms.txt lacks {english:?}");
        }
        for english in terms.0.keys() {
            let written = format!("\"{}\"", english.replace('"', "\\\""));
            let is_place = ["sample", "passage", "placeholder"].contains(english);
            assert!(is_place || sources.contains(&written) || *english == "no data", "no template has {english:?}");
        }
        // What is left of the templates without expressions, tags and code.
        let rest = regex(r"(?s)\{%.*?%\}|\{\{.*?\}\}|<style>.*?</style>|<script>.*?</script>|<code>.*?</code>|<[^>]*>");
        let has_terms = |name: &str, source: &str| name.ends_with("html") && source.contains("t(\"");
        for (name, source) in TEMPLATES.iter().filter(|(name, source)| has_terms(name, source)) {
            let text = rest.replace_all(source, " ");
            let word = regex(r"\p{L}{2,}");
            let words = word.find_iter(&text).map(|word| word.as_str().to_owned());
            let words: Vec<String> =
                words.filter(|word| !["distinct", "self", "BLEU", "ms"].contains(&&**word)).collect();
            assert!(words.is_empty(), "{name} has words that are no terms: {words:?}");
        }
    }

    #[test]
    fn values_are_in_their_places_and_escaped() {
        let terms = Terms::new();
        let values = Rest(vec![Value::from("<b>"), Value::from_safe_string("<i>4</i>".to_owned())]);
        let html = terms.html("{0} of {1} gates failed", &values).unwrap().to_string();
        let english = r#"<span class="en">&lt;b&gt; of <i>4</i> gates failed</span>"#;
        let chinese = r#"<span class="zh" lang="zh-CN"><i>4</i> 道关卡中有 &lt;b&gt; 道未通过</span>"#;
        assert_eq!(html, [english, chinese].concat());
        assert!(terms.html("not a term", &Rest(Vec::new())).is_err());
    }

    #[test]
    fn labels_of_charts_are_translated() {
        let chart = Terms::new()
            .chart(r#"<svg aria-label="Accuracy by confidence"><text x="1">steps</text><text>7</text></svg>"#);
        let expected = concat!(
            r#"<svg aria-label="Accuracy by confidence" data-zh="各置信度下的准确率"><text x="1">"#,
            r#"<tspan class="en">steps</tspan><tspan class="zh" lang="zh-CN">步</tspan></text><text>7</text></svg>"#
        );
        assert_eq!(chart, expected);
    }
}
