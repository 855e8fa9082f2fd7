//! What `doc_to_text` and its like make of an item: a column, a Jinja template or a constant.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error as Failure, ErrorKind, UndefinedBehavior};
use regex::Regex;
use serde_json::{Map, Value};

/// An item: a row of a data file.
pub(super) type Item = Map<String, Value>;

/// Renders templates as lm-evaluation-harness does.
pub(super) struct Templates {
    environment: Environment<'static>,
}

/// What a field makes of an item.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Field {
    /// The value of a column.
    Column(String),
    /// The text of a template.
    Template(String),
    /// A value.
    Constant(Value),
}

impl Field {
    /// Returns the field that a definition writes, for items with these columns.
    pub(super) fn of(written: &Value, columns: &[String]) -> Self {
        match written {
            Value::String(text) if columns.contains(text) => Self::Column(text.clone()),
            Value::String(text) => Self::Template(text.clone()),
            other => Self::Constant(other.clone()),
        }
    }
}

impl Templates {
    /// # Errors
    /// Never: the syntax is that of Jinja.
    pub(super) fn new() -> Result<Self, String> {
        let mut environment = tokenizer::jinja_environment();
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        environment.set_syntax(syntax.map_err(|error| describe(&error))?);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_filter("regex_replace", regex_replace);
        Ok(Self { environment })
    }

    /// Returns the text of a template for an item.
    ///
    /// # Errors
    /// Returns the problem if the template is not valid or fails.
    pub(super) fn render(&self, template: &str, item: &Item) -> Result<String, String> {
        self.environment.render_str(template, Serde(item)).map_err(|error| describe(&error))
    }

    /// Returns the text of a question, or the index that stands for it where the choices are the contexts.
    ///
    /// # Errors
    /// As [`Templates::render`].
    pub(super) fn text(&self, field: &Field, item: &Item, has_choices: bool) -> Result<Value, String> {
        match field {
            Field::Column(name) => Ok(item.get(name).cloned().unwrap_or_default()),
            Field::Constant(value) => Ok(value.clone()),
            Field::Template(template) => {
                let text = self.render(template, item)?;
                Ok(if has_choices { index(&text).map_or_else(|| text.into(), Value::from) } else { text.into() })
            }
        }
    }

    /// Returns the answer: a text, an index of the choices, or a list of either.
    ///
    /// # Errors
    /// As [`Templates::render`].
    pub(super) fn target(&self, field: &Field, item: &Item, has_choices: bool) -> Result<Value, String> {
        let found = self.text(field, item, has_choices)?;
        let list = match (field, found.as_str()) {
            (Field::Template(_), Some(text)) if text.len() >= 2 && text.starts_with('[') && text.ends_with(']') => {
                self.literal(text)
            }
            _ => None,
        };
        Ok(match (list, found) {
            (Some(list), _) => list,
            // As in Python, where True is 1.
            (None, Value::Bool(flag)) => u8::from(flag).into(),
            (None, found) => found,
        })
    }

    /// Returns the choices.
    ///
    /// # Errors
    /// As [`Templates::render`]; or if they are not a list of texts.
    pub(super) fn choices(&self, field: &Field, item: &Item) -> Result<Vec<String>, String> {
        let found = match field {
            Field::Column(name) => item.get(name).cloned().unwrap_or_default(),
            Field::Constant(Value::Object(entries)) => entries.values().cloned().collect(),
            Field::Constant(value) => value.clone(),
            Field::Template(template) => {
                let text = self.render(template, item)?;
                self.literal(&text).ok_or_else(|| format!("doc_to_choice makes `{text}`, which is not a list"))?
            }
        };
        let Value::Array(choices) = found else {
            return Err(format!("doc_to_choice makes {found}, which is not a list"));
        };
        let text = |choice: Value| match choice {
            Value::String(text) => Ok(text),
            other => Err(format!("doc_to_choice makes the choice {other}, which is not a text: quote it")),
        };
        choices.into_iter().map(text).collect()
    }

    /// Returns the value of a literal of Python, as `ast.literal_eval`; None if it is not valid.
    fn literal(&self, text: &str) -> Option<Value> {
        let value = self.environment.compile_expression_owned(text.to_owned()).ok()?.eval(()).ok()?;
        serde_json::to_value(value).ok()
    }
}

/// Returns the number that a text of digits writes.
fn index(text: &str) -> Option<u64> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_digits { text.parse().ok() } else { None }
}

/// The filter `regex_replace`: `re.sub` of Python.
fn regex_replace(text: &str, pattern: &str, replacement: &str, count: Option<usize>) -> Result<String, Failure> {
    let regex = compile(pattern).map_err(|problem| Failure::new(ErrorKind::InvalidOperation, problem))?;
    let replacement = replacement.replace('$', "$$");
    let groups =
        Regex::new(r"\\(\d)|\\g<(\w+)>").map_err(|e| Failure::new(ErrorKind::InvalidOperation, e.to_string()))?;
    let replacement = groups.replace_all(&replacement, "$${$1$2}");
    Ok(regex.replacen(text, count.unwrap_or(0), &*replacement).into_owned())
}

/// Compiles a regular expression of Python.
///
/// # Errors
/// Returns the problem if it uses what is not supported, such as references and looking ahead.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| {
        let text = error.to_string();
        format!("the regular expression `{pattern}` is not supported: {}", text.lines().last().unwrap_or_default())
    })
}

fn describe(error: &Failure) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.extend([": ".to_owned(), cause.to_string()]);
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item() -> Item {
        let Value::Object(item) = json!({
            "question": " Is it? ", "label": 1, "flag": true, "options": {"text": ["a b", "c"], "label": ["A", "B"]},
            "key": "B", "sentence": "the last word", "none": null,
        }) else {
            unreachable!()
        };
        item
    }

    /// The expected texts are those of Jinja 3.1.6 with the environment of lm-evaluation-harness 0.4.13.
    #[test]
    fn templates_render_as_in_python() {
        let check = |template: &str, expected: &str| {
            let found =
                Templates::new().unwrap().render(template, &item()).unwrap_or_else(|error| format!("error: {error}"));
            assert_eq!(found, expected, "{template}");
        };
        check("{{question.strip()}}\nAnswer:\n", "Is it?\nAnswer:\n");
        check("{{' '+sentence.split(' ')[-1]}}", " word");
        check("{{sentence.split(' ')[:-1]|join(' ')}}", "the last");
        check("{{options.label.index(key)}}", "1");
        check("{{options.text}} {{flag}} {{none}}", "['a b', 'c'] True None");
        check("{% for x in options.text %}{{loop.index}}. {{x}}\n{% endfor %}", "1. a b\n2. c\n");
        check("{{sentence|regex_replace('(l)ast', '\\\\1ong')}}", "the long word");
        check("{{['no', 'yes'][label]}}", "yes");
        check("{{ {'A': 1}.get('B', 'x') }}", "x");
        check("{{missing}}", "error: undefined value (in <string>:1)");
    }

    #[test]
    fn fields_are_columns_templates_or_constants() {
        let (templates, columns) = (Templates::new().unwrap(), item().keys().cloned().collect::<Vec<_>>());
        let target = |written: Value, has_choices| {
            templates.target(&Field::of(&written, &columns), &item(), has_choices).unwrap()
        };
        assert_eq!(target(json!("label"), true), json!(1));
        assert_eq!(target(json!("flag"), true), json!(1));
        assert_eq!(target(json!("{{label}}"), true), json!(1));
        assert_eq!(target(json!("{{label}}"), false), json!("1"));
        assert_eq!(target(json!(0), true), json!(0));
        assert_eq!(target(json!("{{options.text}}"), false), json!(["a b", "c"]));
        assert_eq!(target(json!("[not a list]"), false), json!("[not a list]"));
        let choices = |written: Value| templates.choices(&Field::of(&written, &columns), &item());
        assert_eq!(choices(json!("{{options.text}}")).unwrap(), ["a b", "c"]);
        assert_eq!(choices(json!("{{[key, 'it\\'s']}}")).unwrap(), ["B", "it's"]);
        assert_eq!(choices(json!(["no", "yes"])).unwrap(), ["no", "yes"]);
        assert_eq!(choices(json!({"a": "x", "b": "y"})).unwrap(), ["x", "y"]);
        assert!(choices(json!([true, false])).unwrap_err().contains("quote it"));
        assert!(choices(json!("{{key}}")).unwrap_err().contains("not a list"));
    }

    #[test]
    fn unsupported_regular_expressions_are_named() {
        assert!(compile("a(?=b)").unwrap_err().starts_with("the regular expression `a(?=b)` is not supported: "));
    }
}
