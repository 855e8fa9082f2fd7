//! What an application must be besides its types.

use super::{Application, Field, FieldKind, Sampling, Text};

impl Application {
    /// Checks that templates and examples name the fields that there are, and that every value is possible.
    ///
    /// # Errors
    /// Returns the key and what is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        for (i, field) in self.fields.iter().enumerate() {
            field.check().map_err(|(key, reason)| format!("`fields[{i}].{key}`: {reason}"))?;
            if self.fields[..i].iter().any(|other| other.name == field.name) {
                return Err(format!("`fields[{i}].name`: another field has the name `{}`", field.name));
            }
        }
        let templates = [("system", Some(&self.system)), ("template", Some(&self.template))];
        let templates = templates.into_iter().chain([("completion", self.completion.as_ref())]);
        let templates: Vec<(&str, &str)> = templates
            .flat_map(|(key, text)| text.into_iter().flat_map(Text::all).map(move |text| (key, text)))
            .collect();
        for (key, template) in &templates {
            if let Some(name) = placeholders(template).find(|name| self.field(name).is_none()) {
                return Err(format!("`{key}`: there is no field `{name}`"));
            }
        }
        for (i, Field { name, .. }) in self.fields.iter().enumerate() {
            if !templates.iter().any(|(_, template)| placeholders(template).any(|other| other == name)) {
                return Err(format!("`fields[{i}]`: no template has `{{{name}}}`, so the field has no effect"));
            }
        }
        for (i, (name, value)) in self.examples.iter().enumerate().flat_map(|(i, e)| e.iter().map(move |v| (i, v))) {
            let Some(field) = self.field(name) else {
                return Err(format!("`examples[{i}]`: there is no field `{name}`"));
            };
            if field.kind == FieldKind::Choice && !field.choices.contains(value) {
                let value = value.all()[0];
                return Err(format!("`examples[{i}].{name}`: `{value}` is not a choice of the field"));
            }
        }
        self.sampling.check()
    }

    fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl Field {
    /// Returns the key and what is wrong with it.
    fn check(&self) -> Result<(), (&'static str, String)> {
        if !is_name(&self.name) {
            let reason = "must be a lower-case letter, then lower-case letters, digits and underscores";
            return Err(("name", format!("`{}` {reason}", self.name)));
        }
        let is_choice = self.kind == FieldKind::Choice;
        match () {
            () if is_choice && self.choices.len() < 2 => Err(("choices", "a choice needs at least two".to_owned())),
            () if !is_choice && !self.choices.is_empty() => Err(("choices", "only a choice has choices".to_owned())),
            () if is_choice && self.default.is_some() => {
                Err(("default", "the default of a choice is its first; remove this key".to_owned()))
            }
            () if is_choice && self.optional => {
                Err(("optional", "a choice is never empty; remove this key".to_owned()))
            }
            () => Ok(()),
        }
    }
}

impl Sampling {
    fn check(&self) -> Result<(), String> {
        let Self { max_tokens, temperature, top_p, top_k, repetition_penalty, stop } = self;
        for (key, value, min, max) in [
            ("max_tokens", max_tokens.map(f64::from), 1.0, 4096.0),
            ("temperature", *temperature, 0.0, 2.0),
            ("top_p", *top_p, 0.05, 1.0),
            ("top_k", top_k.map(f64::from), 0.0, 100_000.0),
            ("repetition_penalty", *repetition_penalty, 0.8, 2.0),
        ] {
            if let Some(value) = value.filter(|value| !(min..=max).contains(value)) {
                return Err(format!("`sampling.{key}`: {value} must be from {min} to {max}"));
            }
        }
        if stop.len() > 4 || stop.iter().any(String::is_empty) {
            return Err("`sampling.stop`: must hold at most four strings, none of them empty".to_owned());
        }
        Ok(())
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Returns the names in braces. Braces around anything else are part of the text.
fn placeholders(template: &str) -> impl Iterator<Item = &str> {
    template
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(name, _)| name)
        .filter(|name| is_name(name))
}
