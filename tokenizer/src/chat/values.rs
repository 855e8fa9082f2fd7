//! Limits of the values that a template makes.
//!
//! minijinja charges its fuel for instructions and for the bytes of strings and lists, but not for what is inside
//! lists: one that holds another twice, and so on, has few bytes and many items. And it descends into nested values
//! without a limit, so one that is too deep, or a namespace that contains itself, would end the process. So all that
//! is bound to a name is walked over once, by the filters to which [`super::tags`] rewrites assignments.
//!
//! Bounded are the bytes of all texts and lists together, by the fuel, and the depth of a value. The peak of a
//! rendering is about twice the bytes that the fuel buys, while a text is copied. Not bounded are the text that
//! minijinja itself makes of a list that is no variable, as in `[a, a] ~ b`, and the time of comparing lists: a tag is
//! of limited length, but each of its items may be a large variable.

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// The filter of values bound to names.
pub(super) const VALUE_FILTER: &str = "_value";

/// The filter of values assigned to attributes of namespaces.
pub(super) const ATTRIBUTE_FILTER: &str = "_attribute";

/// The depth of a value: above that of JSON that is read.
const MAX_DEPTH: usize = 200;

/// The bytes that minijinja writes for one unit of fuel.
const BYTES_PER_FUEL: usize = 64;

/// Returns the value, unless it is too large or too deep.
pub(super) fn value(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    measure(state, &value, 0)?;
    Ok(value)
}

/// Returns a copy of the value that refers to no namespace, so that a namespace never contains itself.
#[expect(clippy::needless_pass_by_value, reason = "the signature of a filter")]
pub(super) fn attribute(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    copy(state, &value, 0)
}

/// Pays for every item of a value, and returns the bytes of its strings.
pub(super) fn measure(state: &State<'_, '_>, value: &Value, depth: usize) -> Result<usize, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            check_depth(depth)?;
            let mut bytes = 0_usize;
            for item in value.try_iter()?.checked() {
                state.consume_fuel(1)?;
                bytes = bytes.saturating_add(measure(state, &item?, depth + 1)?);
            }
            Ok(bytes)
        }
        ValueKind::Map => {
            check_depth(depth)?;
            let mut bytes = 0_usize;
            for key in value.try_iter()?.checked() {
                state.consume_fuel(1)?;
                let key = key?;
                bytes = bytes.saturating_add(measure(state, &key, depth + 1)?);
                bytes = bytes.saturating_add(measure(state, &value.get_item(&key)?, depth + 1)?);
            }
            Ok(bytes)
        }
        _ => {
            let bytes = value.as_str().map_or(0, str::len);
            // What is inside of a list may be there many times.
            if depth > 0 {
                pay(state, bytes)?;
            }
            Ok(bytes)
        }
    }
}

fn copy(state: &State<'_, '_>, value: &Value, depth: usize) -> Result<Value, Error> {
    let is_a = |name: &str| value.as_object().is_some_and(|object| object.type_name().ends_with(name));
    let kind = value.kind();
    // A macro has its name and parameters for items, whatever it refers to.
    if !matches!(kind, ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) || is_a("::Macro") {
        measure(state, value, depth)?;
        return Ok(value.clone());
    }
    check_depth(depth)?;
    if kind == ValueKind::Map {
        if is_a("::Namespace") {
            let problem = "a namespace cannot be stored in an attribute of a namespace";
            return Err(Error::new(ErrorKind::InvalidOperation, problem));
        }
        let mut entries = Vec::new();
        for key in value.try_iter()?.checked() {
            state.consume_fuel(1)?;
            let key = key?;
            let item = copy(state, &value.get_item(&key)?, depth + 1)?;
            entries.push((copy(state, &key, depth + 1)?, item));
        }
        return Ok(Value::from_pairs(entries));
    }
    // Lists that are made while they are read may read a namespace.
    let mut items = Vec::new();
    for item in value.try_iter()?.checked() {
        state.consume_fuel(1)?;
        items.push(copy(state, &item?, depth + 1)?);
    }
    Ok(if value.is_tuple() { Tuple::from(items).into() } else { items.into() })
}

fn check_depth(depth: usize) -> Result<(), Error> {
    if depth < MAX_DEPTH {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidOperation, format!("a value is nested more than {MAX_DEPTH} levels deep")))
}

/// Pays for bytes before they are written.
pub(super) fn pay(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    state.consume_fuel((bytes / BYTES_PER_FUEL) as u64)
}

/// A text that is paid for while it grows.
pub(super) struct Text<'a, 's, 'e> {
    state: &'a State<'s, 'e>,
    written: String,
    paid_bytes: usize,
}

impl<'a, 's, 'e> Text<'a, 's, 'e> {
    pub(super) fn new(state: &'a State<'s, 'e>) -> Self {
        Self { state, written: String::new(), paid_bytes: 0 }
    }

    pub(super) fn state(&self) -> &'a State<'s, 'e> {
        self.state
    }

    pub(super) fn push(&mut self, text: &str) -> Result<(), Error> {
        let bytes = self.written.len() + text.len();
        if bytes > self.paid_bytes {
            let missing = (bytes - self.paid_bytes).next_multiple_of(BYTES_PER_FUEL);
            pay(self.state, missing)?;
            self.paid_bytes += missing;
        }
        self.written += text;
        Ok(())
    }

    pub(super) fn into_string(self) -> String {
        self.written
    }
}
