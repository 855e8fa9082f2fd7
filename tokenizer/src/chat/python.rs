//! What templates use of Python and Jinja, where minijinja lacks it or differs.

use minijinja::value::{Kwargs, Rest, Tuple, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

/// Adds the methods, tests and filters.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(method);
    // `None` is not iterable in Python; strings and dictionaries are sequences.
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map)
    });
    environment.add_test("callable", |value: &Value| value.as_object().is_some() && value.kind() == ValueKind::Plain);
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

/// Methods of strings and lists that pycompat lacks, else its own.
fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let found = match (value.kind(), value.as_str()) {
        (_, Some(text)) => string_method(text, name, args)?,
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

fn string_method(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let found = match name {
        "rsplit" => {
            let (separator, limit): (Option<&str>, Option<i64>) = from_args(args)?;
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
