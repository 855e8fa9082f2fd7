//! Personal data and secrets: what counts as one, and how the report hides it.

use std::ops::Range;

use artifact::Sealed;
use redact::{Hit, Redactor};
use serde_json::Value;

use crate::Error;

/// Finds personal data and secrets as step `redact` of stage preprocess does.
#[derive(Debug)]
pub(crate) struct PersonalData {
    redactor: Redactor,
    /// Whether that step cleaned the training data.
    pub(super) was_redacted: bool,
}

impl PersonalData {
    /// Returns a finder with the settings by which the tokens were redacted, else with the default ones.
    ///
    /// # Errors
    /// [`Error::Redaction`] if the settings are not valid, which stage preprocess would have refused.
    pub(crate) fn of(tokens: &Sealed) -> Result<Self, Error> {
        let config = &tokens.manifest().recipe.config;
        let steps = config["steps"].as_array().into_iter().flatten();
        let was_redacted = steps.into_iter().filter_map(Value::as_str).any(|step| step == "redact");
        let settings = config.get("redact").filter(|_| was_redacted).cloned();
        let settings = settings.map(serde_json::from_value).transpose();
        let settings: redact::Config = settings.map_err(|e| Error::Redaction(e.to_string()))?.unwrap_or_default();
        Ok(Self { redactor: Redactor::new(&settings).map_err(Error::Redaction)?, was_redacted })
    }

    #[cfg(test)]
    pub(super) fn default_for_tests() -> Self {
        Self { redactor: Redactor::new(&redact::Config::default()).unwrap(), was_redacted: false }
    }

    /// Returns what a model wrote of it: the finds that end in `text`, which follows `prompt`, and do not stand in the
    /// prompt too. The ranges are those in both together.
    pub(super) fn written(&self, prompt: &str, text: &str) -> Vec<Hit> {
        let whole = [prompt, text].concat();
        let mut hits = self.redactor.find(&whole);
        hits.retain(|hit| hit.range.end > prompt.len() && !prompt.contains(&whole[hit.range.clone()]));
        hits
    }

    /// Hides what is found in texts that follow each other. Their lengths in bytes stay the same.
    pub(crate) fn hide(&self, parts: &mut [&mut String]) {
        let whole: String = parts.iter().map(|part| part.as_str()).collect();
        let hits = self.redactor.find(&whole);
        if hits.is_empty() {
            return;
        }
        let hidden = masked(&whole, hits.iter().map(|hit| hit.range.clone()));
        let mut at = 0;
        for part in parts {
            let end = at + part.len();
            hidden[at..end].clone_into(part);
            at = end;
        }
    }
}

/// Returns a text with stars for the letters and digits in some ranges, except the first of each range; a star for each
/// byte, so that places in the text stay the same.
pub(super) fn masked(text: &str, ranges: impl Iterator<Item = Range<usize>>) -> String {
    let mut masked = String::with_capacity(text.len());
    for range in ranges {
        masked += &text[masked.len()..range.start];
        let mut is_first = true;
        for c in text[range].chars() {
            if is_first || !c.is_alphanumeric() {
                masked.push(c);
            } else {
                masked.extend(std::iter::repeat_n('*', c.len_utf8()));
            }
            is_first = false;
        }
    }
    let rest = &text[masked.len()..];
    masked + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finder() -> PersonalData {
        PersonalData::default_for_tests()
    }

    #[test]
    fn only_what_the_model_wrote_is_found() {
        let check = |prompt: &str, text: &str, expected: &[&str]| {
            let whole = [prompt, text].concat();
            let hits = finder().written(prompt, text);
            let found: Vec<&str> = hits.iter().map(|hit| &whole[hit.range.clone()]).collect();
            assert_eq!(found, expected, "{prompt:?} {text:?}");
        };
        check("Write to ", "ada@lovelace.net now", &["ada@lovelace.net"]);
        check("Write to ada@love", "lace.net now", &["ada@lovelace.net"]);
        check("Write to ada@lovelace.net", " now", &[]);
        check("Write to ada@lovelace.net", ", I repeat: ada@lovelace.net", &[]);
        check("call me on ", "+44 20 7946 0958", &["+44 20 7946 0958"]);
        check("fn main() {", "}", &[]);
    }

    #[test]
    fn finds_are_hidden_across_parts_without_moving_anything() {
        let mut parts = ["from ada@love", "lace.net é", ""].map(str::to_owned);
        let before = parts.clone();
        let [first, second, third] = &mut parts;
        finder().hide(&mut [first, second, third]);
        assert_eq!(parts, ["from a**@****", "****.*** é", ""]);
        assert_eq!(parts.each_ref().map(String::len), before.each_ref().map(String::len));
        assert_eq!(masked("xé4-b", std::iter::once(0..6)), "x***-*");
    }
}
