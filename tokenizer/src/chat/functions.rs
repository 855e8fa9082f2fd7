//! The filters and functions that transformers adds to templates, and values written as Python writes them.

use std::fmt::Write as _;

use jiff::civil::DateTime;
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};

use super::marks;
use super::values::Text;

/// The text of `raise_exception`, as the source of an error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

/// Adds the filters, functions and the formatter.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.add_filter(marks::GENERATION_FILTER, |text: String| marks::mark_generation(&text));
    environment.add_filter("tojson", to_json);
    environment.add_filter("string", |state: &State<'_, '_>, value: Value| text_of(state, &value));
    environment.add_filter("pprint", |state: &State<'_, '_>, value: Value| text_of(state, &value));
    // Jinja has none, and it writes all values of the template at once.
    environment.remove_global("debug");
    environment.add_function("raise_exception", |state: &State<'_, '_>, message: Value| -> Result<Value, Error> {
        let text = text_of(state, &message)?;
        Err(Error::new(ErrorKind::InvalidOperation, text.clone()).with_source(Raised(text)))
    });
    environment.set_formatter(format);
}

/// Returns the function `strftime_now` for a given time.
pub(super) fn strftime_now(now: DateTime) -> Value {
    Value::from_function(move |state: &State<'_, '_>, format: String| -> Result<String, Error> {
        // A directive writes up to 64 bytes for each of its own.
        state.consume_fuel(format.len() as u64)?;
        let mut text = String::new();
        write!(text, "{}", now.strftime(&format)).map_err(|_| {
            Error::new(ErrorKind::InvalidOperation, format!("strftime_now: the format `{format}` is not valid"))
        })?;
        Ok(text)
    })
}

/// Returns the error of a rendering: a refusal of the template's own, or a failure.
pub(super) fn error_of(error: Error) -> crate::Error {
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        if let Some(Raised(text)) = cause.downcast_ref::<Raised>() {
            return crate::Error::TemplateRaised { text: text.clone() };
        }
        source = cause.source();
    }
    crate::Error::ChatTemplate(error)
}

/// `json.dumps` of Python, with the arguments that transformers passes on.
#[expect(clippy::needless_pass_by_value, reason = "the signature of a filter")]
fn to_json(state: &State<'_, '_>, value: Value, positional: Rest<Value>, options: Kwargs) -> Result<String, Error> {
    let ensure_ascii = match positional.first() {
        Some(value) => value.is_true(),
        None => options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    let indent = match positional.get(1).cloned().or(options.get("indent")?).unwrap_or_default() {
        none if none.is_none() || none.is_undefined() => None,
        text if text.kind() == ValueKind::String => text.as_str().map(str::to_owned),
        number => Some(" ".repeat(usize::try_from(number)?.min(32))),
    };
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let [item, key] = match separators.as_deref() {
        Some([item, key]) => [item.clone(), key.clone()],
        Some(_) => {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: separators must be two strings"));
        }
        None => [if indent.is_some() { "," } else { ", " }, ": "].map(str::to_owned),
    };
    let writer = JsonWriter { ensure_ascii, indent, item, key, sort_keys };
    let mut text = Text::new(state);
    writer.write(&mut text, &value, 0)?;
    Ok(text.into_string())
}

/// How JSON is written.
struct JsonWriter {
    ensure_ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sort_keys: bool,
}

impl JsonWriter {
    fn write(&self, to: &mut Text<'_, '_, '_>, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => to.push("null"),
            ValueKind::Bool => to.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => to.push(&number(value)),
            ValueKind::String => self.write_string(to, value.as_str().unwrap_or_default()),
            ValueKind::Map => {
                let mut entries: Vec<(String, Value)> = Vec::new();
                for key in value.try_iter()? {
                    to.state().consume_fuel(1)?;
                    let text = match key.kind() {
                        ValueKind::Bool => key.to_string(),
                        ValueKind::None => "null".to_owned(),
                        _ => text_of(to.state(), &key)?,
                    };
                    entries.push((text, value.get_item(&key)?));
                }
                if self.sort_keys {
                    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                self.write_items(to, ['{', '}'], depth, entries.into_iter(), |to, (key, value)| {
                    self.write_string(to, &key)?;
                    to.push(&self.key)?;
                    self.write(to, &value, depth + 1)
                })
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?;
                self.write_items(to, ['[', ']'], depth, items, |to, item| self.write(to, &item, depth + 1))
            }
            other => {
                let problem = format!("tojson: a value of type {other} cannot be written as JSON");
                Err(Error::new(ErrorKind::InvalidOperation, problem))
            }
        }
    }

    fn write_items<'a, 's, 'e, T>(
        &self,
        to: &mut Text<'a, 's, 'e>,
        [open, close]: [char; 2],
        depth: usize,
        items: impl Iterator<Item = T>,
        mut write: impl FnMut(&mut Text<'a, 's, 'e>, T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        to.push(open.encode_utf8(&mut [0; 4]))?;
        let mut is_empty = true;
        for item in items {
            if !is_empty {
                to.push(&self.item)?;
            }
            is_empty = false;
            self.new_line(to, depth + 1)?;
            write(to, item)?;
        }
        if !is_empty {
            self.new_line(to, depth)?;
        }
        to.push(close.encode_utf8(&mut [0; 4]))
    }

    fn new_line(&self, to: &mut Text<'_, '_, '_>, depth: usize) -> Result<(), Error> {
        let Some(indent) = &self.indent else { return Ok(()) };
        to.push("\n")?;
        (0..depth).try_for_each(|_| to.push(indent))
    }

    fn write_string(&self, to: &mut Text<'_, '_, '_>, text: &str) -> Result<(), Error> {
        let quoted = serde_json::Value::from(text).to_string();
        if !self.ensure_ascii {
            return to.push(&quoted);
        }
        let mut escaped = String::new();
        for c in quoted.chars() {
            if c.is_ascii() && c != '\u{7f}' {
                escaped.push(c);
            } else {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units).iter() {
                    let _ = write!(escaped, "\\u{unit:04x}");
                }
            }
        }
        to.push(&escaped)
    }
}

/// Writes a value as `{{ … }}` does in Python.
fn format(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let written = match value.as_str() {
        Some(text) => out.write_str(text),
        None => out.write_str(&text_of(state, value)?),
    };
    written.map_err(|_| Error::new(ErrorKind::WriteFailure, "the text cannot be written"))
}

/// Returns `str(value)` of Python.
pub(super) fn text_of(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let mut text = Text::new(state);
    write_repr(&mut text, value)?;
    Ok(text.into_string())
}

/// Writes `repr(value)` of Python.
fn write_repr(to: &mut Text<'_, '_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(()),
        ValueKind::None => to.push("None"),
        ValueKind::Bool => to.push(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => to.push(&number(value)),
        ValueKind::String => to.push(&quoted(value.as_str().unwrap_or_default())),
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if value.is_tuple() { ("(", ")") } else { ("[", "]") };
            to.push(open)?;
            for (i, item) in value.try_iter()?.enumerate() {
                to.push(if i > 0 { ", " } else { "" })?;
                write_repr(to, &item)?;
            }
            to.push(if value.is_tuple() && value.len() == Some(1) { "," } else { "" })?;
            to.push(close)
        }
        ValueKind::Map => {
            to.push("{")?;
            for (i, key) in value.try_iter()?.enumerate() {
                to.push(if i > 0 { ", " } else { "" })?;
                write_repr(to, &key)?;
                to.push(": ")?;
                write_repr(to, &value.get_item(&key)?)?;
            }
            to.push("}")
        }
        _ => to.push(&value.to_string()),
    }
}

/// Returns a string literal of Python.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut literal = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            '\\' => literal.push_str("\\\\"),
            _ if c == quote => literal.extend(['\\', c]),
            _ if c.is_control() => drop(write!(literal, "\\x{:02x}", c as u32)),
            _ => literal.push(c),
        }
    }
    literal.push(quote);
    literal
}

/// Returns a number as Python writes it.
fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let Ok(number) = f64::try_from(value.clone()) else { return value.to_string() };
    let magnitude = number.abs();
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or_default();
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.abs())
    } else {
        format!("{number:?}")
    }
}
