//! What templates use of Python and Jinja, where minijinja lacks it or differs.

use minijinja::value::{Kwargs, Rest, Tuple, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use super::functions::text_of;
use super::values::{self, Text};

/// Adds the methods, tests and filters.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(method);
    // `None` is not iterable in Python; strings and dictionaries are sequences.
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map)
    });
    environment.add_test("callable", |value: &Value| value.as_object().is_some() && value.kind() == ValueKind::Plain);
    environment.add_filter("join", join);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("int", |value: Value, default: Option<i64>| -> Value {
        let number = match value.as_str() {
            Some(text) => text.trim().parse().ok().or_else(|| text.trim().parse::<f64>().ok().map(|x| x as i64)),
            None if value.is_integer() => return value,
            None if value.kind() == ValueKind::Bool => Some(i64::from(value.is_true())),
            None => f64::try_from(value).ok().map(|number| number as i64),
        };
        number.or(default).unwrap_or(0).into()
    });
    environment.add_filter("float", |value: Value, default: Option<f64>| -> f64 {
        let number = match value.as_str() {
            Some(text) => text.trim().parse().ok(),
            None if value.kind() == ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
            None => f64::try_from(value).ok(),
        };
        number.or(default).unwrap_or(0.0)
    });
}

/// The `default` filter with its argument by name.
#[expect(clippy::needless_pass_by_value, reason = "the signature of a filter")]
fn default(value: Value, positional: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let other: Option<Value> = positional.first().cloned().or(options.get("default_value")?);
    let is_lax: Option<Value> = positional.get(1).cloned().or(options.get("boolean")?);
    options.assert_all_used()?;
    let is_lax = is_lax.is_some_and(|is_lax| is_lax.is_true());
    let is_missing = value.is_undefined() || is_lax && !value.is_true();
    Ok(if is_missing { other.unwrap_or_else(|| "".into()) } else { value })
}

/// The `join` filter, which pays for its text while it grows.
#[expect(clippy::needless_pass_by_value, reason = "the signature of a filter")]
fn join(
    state: &State<'_, '_>,
    value: Value,
    separator: Option<Value>,
    attribute: Option<String>,
    options: Kwargs,
) -> Result<String, Error> {
    let separator = separator.or(options.get("d")?).map_or(Ok(String::new()), |text| text_of(state, &text))?;
    let attribute: Option<String> = attribute.or(options.get("attribute")?);
    options.assert_all_used()?;
    let path: Vec<&str> = attribute.iter().flat_map(|attribute| attribute.split('.')).collect();
    let item_at = |item: Value| {
        path.iter().try_fold(item, |item, name| match name.parse::<usize>() {
            Ok(index) => item.get_item_by_index(index),
            Err(_) => item.get_attr(name),
        })
    };
    joined(state, &separator, value.try_iter()?.map(item_at))
}

/// Returns the texts of items with a separator between them.
fn joined(
    state: &State<'_, '_>,
    separator: &str,
    items: impl Iterator<Item = Result<Value, Error>>,
) -> Result<String, Error> {
    let mut text = Text::new(state);
    for (i, item) in items.enumerate() {
        state.consume_fuel(1)?;
        if i > 0 {
            text.push(separator)?;
        }
        text.push(&text_of(state, &item?)?)?;
    }
    Ok(text.into_string())
}

/// Methods of strings and lists that pycompat lacks or that make more text than they are given, else its own.
fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let found = match (value.kind(), value.as_str()) {
        (_, Some(text)) => string_method(state, text, name, args)?,
        (ValueKind::Seq, _) if name == "index" => {
            let (item,): (Value,) = from_args(args)?;
            let position = value.try_iter()?.position(|other| other == item);
            Some(position.ok_or_else(|| invalid("the list does not contain the value"))?.into())
        }
        _ => None,
    };
    match found {
        Some(found) => Ok(found),
        None => pycompat::unknown_method_callback(state, value, name, args),
    }
}

fn string_method(state: &State<'_, '_>, text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let found = match name {
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            joined(state, text, items.try_iter()?.map(Ok))?.into()
        }
        "format" => {
            check_format(state, text, args)?;
            return Ok(None);
        }
        "split" | "splitlines" => {
            pay_for_parts(state, text, args.first().and_then(Value::as_str).filter(|_| name == "split"))?;
            return Ok(None);
        }
        "rsplit" => {
            let (separator, limit): (Option<&str>, Option<i64>) = from_args(args)?;
            pay_for_parts(state, text, separator)?;
            // Without a limit as `split`.
            let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else {
                let parts: Vec<Value> = match separator {
                    Some(separator) => text.split(separator).map(Value::from).collect(),
                    None => text.split_whitespace().map(Value::from).collect(),
                };
                return Ok(Some(parts.into()));
            };
            let separator = separator.ok_or_else(|| invalid("rsplit needs a separator with a limit"))?;
            let mut parts: Vec<Value> = text.rsplitn(limit + 1, separator).map(Value::from).collect();
            parts.reverse();
            parts.into()
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let is_last = name == "rpartition";
            let found = if is_last { text.rsplit_once(separator) } else { text.split_once(separator) };
            let parts = match found {
                Some((before, after)) => [before, separator, after],
                None if is_last => ["", "", text],
                None => [text, "", ""],
            };
            Tuple::from(parts.map(Value::from).to_vec()).into()
        }
        "index" | "rindex" => {
            let (part,): (&str,) = from_args(args)?;
            let at = if name == "index" { text.find(part) } else { text.rfind(part) };
            let at = at.ok_or_else(|| invalid("substring not found"))?;
            text[..at].chars().count().into()
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            text.strip_prefix(prefix).unwrap_or(text).into()
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            text.strip_suffix(suffix).unwrap_or(text).into()
        }
        "swapcase" => {
            let () = from_args(args)?;
            let swapped = text.chars().flat_map(|c| -> Box<dyn Iterator<Item = char>> {
                if c.is_uppercase() { Box::new(c.to_lowercase()) } else { Box::new(c.to_uppercase()) }
            });
            swapped.collect::<String>().into()
        }
        "isdecimal" => {
            let () = from_args(args)?;
            (!text.is_empty() && text.chars().all(char::is_numeric)).into()
        }
        "zfill" | "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<&str>) = from_args(args)?;
            padded(text, name, width.min(MAX_WIDTH), fill.unwrap_or(if name == "zfill" { "0" } else { " " })).into()
        }
        _ => return Ok(None),
    };
    Ok(Some(found))
}

/// Pays for the list of the parts of a text, each of which is a value of 24 bytes.
fn pay_for_parts(state: &State<'_, '_>, text: &str, separator: Option<&str>) -> Result<(), Error> {
    let parts = match separator {
        Some("") => text.len(),
        Some(separator) => text.matches(separator).count(),
        None => text.matches(char::is_whitespace).count(),
    };
    values::pay(state, parts.saturating_mul(size_of::<Value>()))
}

/// Pays for what `format` writes at most, and refuses widths that are too large.
fn check_format(state: &State<'_, '_>, text: &str, args: &[Value]) -> Result<(), Error> {
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let width = numbers.map(|digits| digits.parse().unwrap_or(usize::MAX)).max().unwrap_or(0);
    if width > MAX_WIDTH {
        return Err(invalid("format: the width or precision is too large"));
    }
    let mut longest = width;
    for value in args {
        longest = longest.max(values::measure(state, value, 0)?);
    }
    values::pay(state, text.matches('{').count().saturating_mul(longest))
}

/// The longest text that padding makes: heuristic, since the width is the template's.
const MAX_WIDTH: usize = 10_000;

fn padded(text: &str, name: &str, width: usize, fill: &str) -> String {
    let missing = width.saturating_sub(text.chars().count());
    let before = match name {
        "ljust" => 0,
        // As in Python: the odd one goes to the left if the width is odd.
        "center" => missing / 2 + (missing & width & 1),
        _ => missing,
    };
    let (sign, digits) = match name {
        "zfill" if text.starts_with(['+', '-']) => text.split_at(1),
        _ => ("", text),
    };
    format!("{sign}{}{digits}{}", fill.repeat(before), fill.repeat(missing - before))
}

fn invalid(problem: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}
