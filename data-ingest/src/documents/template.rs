//! A document made from several columns by a minijinja template.
//!
//! A column whose name is not a word is written `row["What is your question?"]`, or, where that cannot be read as an
//! expression, as it is: `{{ What is your question? }}`. Both become variables before minijinja compiles the template.
//!
//! A template comes with a dataset, which is not trusted: it reads only the row, and its steps, the data it copies and
//! its output are bounded.

use std::io::{self, Write};

use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};

/// The name of the template in minijinja, which occurs in its messages.
const NAME: &str = "template";
/// What comes before the number of a column's variable.
const VARIABLE: &str = "__column_";
/// A hint for templates that cannot be compiled.
const NOTATION: &str = "; a column of any name is written {{ row[\"What is it?\"] }}";
/// Steps that every template may take, besides one per 16 bytes it may write; minijinja counts one step per 64 bytes
/// that are copied. Heuristic, not measured: thousands of times what `{{ question }} {{ answer }}` needs.
const FUEL: u64 = 1_000_000;

/// A template, compiled.
pub(crate) struct Template<'a> {
    environment: Environment<'a>,
    /// The columns it names, sorted, each with its variable.
    columns: Vec<(String, String)>,
    max_bytes: u64,
}

/// Why a template gave no text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RenderError {
    /// It needs a value that the row does not have.
    Undefined(String),
    /// Something else, in minijinja's words.
    Other(String),
}

impl<'a> Template<'a> {
    /// Compiles a template that writes at most `max_bytes`.
    pub fn new(text: &'a str, max_bytes: u64) -> Result<Self, String> {
        let mut environment = Environment::new();
        // `{% if note %}` may test a column without a value, but `{{ note }}` may not print it.
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_fuel(Some(FUEL.saturating_add(max_bytes / 16)));
        let (text, named) = with_variables(text);
        environment.add_template_owned(NAME, text).map_err(|e| format!("{}{NOTATION}", describe(&e)))?;
        let template = environment.get_template(NAME).map_err(|e| describe(&e))?;
        let mut variables: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        // minijinja's own functions are not columns.
        variables.retain(|name| !environment.globals().any(|(global, _)| global == name));
        let column = |variable: String| {
            let number = variable.strip_prefix(VARIABLE).and_then(|number| number.parse::<usize>().ok());
            let name = number.and_then(|number| named.get(number)).unwrap_or(&variable);
            (name.clone(), variable)
        };
        let mut columns: Vec<(String, String)> = variables.into_iter().map(column).collect();
        columns.sort_unstable();
        if columns.is_empty() {
            return Err("it uses no column; `{{ question }}` inserts the column `question`".to_owned());
        }
        Ok(Self { environment, columns, max_bytes })
    }

    /// Returns the columns it names, sorted; a name may occur twice.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    /// Returns the variable of each column, in the same order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(_, variable)| variable.as_str())
    }

    /// Renders a row, given by its variables.
    pub fn render(&self, row: Value) -> Result<String, RenderError> {
        let mut out = LimitedBuffer { bytes: Vec::new(), limit: self.max_bytes };
        let template = self.environment.get_template(NAME).map_err(|e| RenderError::Other(describe(&e)))?;
        template.render_captured_to(row, &mut out).map_err(|e| match e.kind() {
            ErrorKind::UndefinedError => RenderError::Undefined(describe(&e)),
            ErrorKind::OutOfFuel => RenderError::Other("it takes too many steps".to_owned()),
            ErrorKind::WriteFailure => RenderError::Other("it writes more than max_file_bytes".to_owned()),
            _ => RenderError::Other(describe(&e)),
        })?;
        // minijinja writes strings.
        String::from_utf8(out.bytes).map_err(|e| RenderError::Other(e.to_string()))
    }
}

/// Returns a template with variables in place of columns whose names are not words, and those names by number.
fn with_variables(text: &str) -> (String, Vec<String>) {
    let mut named = Vec::new();
    let mut written = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        written.push_str(&rest[..start]);
        rest = &rest[start..];
        let (close, is_output) = match rest.as_bytes().get(1) {
            Some(b'{') => ("}}", true),
            Some(b'%') => ("%}", false),
            Some(b'#') => ("#}", false),
            _ => {
                written.push('{');
                rest = &rest[1..];
                continue;
            }
        };
        let end = if close == "#}" { rest.find(close) } else { find_outside_text(rest, close) };
        let Some(end) = end else { break };
        let inner = &rest[2..end];
        if is_raw(inner) && close == "%}" {
            // Nothing is a block up to the end of this one.
            let after = find_end_of_raw(&rest[end..]).map_or(rest.len(), |at| end + at);
            written.push_str(&rest[..after]);
            rest = &rest[after..];
            continue;
        }
        written.push_str(&rest[..2]);
        written.push_str(&if close == "#}" { inner.to_owned() } else { block(inner, is_output, &mut named) });
        written.push_str(close);
        rest = &rest[end + 2..];
    }
    written.push_str(rest);
    (written, named)
}

/// Returns the inside of a block with variables in place of columns.
fn block(inner: &str, is_output: bool, named: &mut Vec<String>) -> String {
    let mut variable = |name: String| {
        let number = named.iter().position(|known| *known == name).unwrap_or(named.len());
        if number == named.len() {
            named.push(name);
        }
        format!("{VARIABLE}{number}")
    };
    let mut written = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '"' | '\'' => text_length(rest),
            c if c == '_' || c.is_alphanumeric() => {
                let length = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
                let is_member = written.trim_end().ends_with('.');
                if rest[..length] == *"row"
                    && !is_member
                    && let Some((name, subscript)) = subscript(&rest[length..])
                {
                    written.push_str(&variable(name));
                    rest = &rest[length + subscript..];
                    continue;
                }
                length
            }
            c => c.len_utf8(),
        };
        written.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    // `-` and `+` at the ends control white space.
    let (before, after) = (inner.starts_with(['-', '+']), inner.ends_with(['-', '+']));
    let name = inner[usize::from(before)..inner.len() - usize::from(after && inner.len() > 1)].trim();
    let is_name = name.starts_with(char::is_alphanumeric)
        && name.chars().all(|c| c.is_alphanumeric() || c == ' ' || "?!()&/%#,:;-_.+*@$€£°§".contains(c));
    if is_output && is_name && Environment::empty().compile_expression(name).is_err() {
        let sign = |is_there: bool, at: usize| if is_there { &inner[at..=at] } else { "" };
        let variable = variable(name.to_owned());
        return format!("{} {variable} {}", sign(before, 0), sign(after, inner.len() - 1));
    }
    written
}

/// Returns the name in `["name"]` and the length of that.
fn subscript(rest: &str) -> Option<(String, usize)> {
    let inside = rest.trim_start().strip_prefix('[')?.trim_start();
    if !inside.starts_with(['"', '\'']) {
        return None;
    }
    let (text, after) = inside.split_at(text_length(inside));
    let after = after.trim_start().strip_prefix(']')?;
    let environment = Environment::empty();
    let value = environment.compile_expression(text).ok()?.eval(()).ok()?;
    Some((value.as_str()?.to_owned(), rest.len() - after.len()))
}

/// Returns the length of a text in quotes, or of everything if it is not closed.
fn text_length(rest: &str) -> usize {
    let quote = rest.chars().next();
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if Some(c) == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Returns where `close` begins, outside quoted text.
fn find_outside_text(block: &str, close: &str) -> Option<usize> {
    let mut at = 2;
    while at < block.len() {
        let rest = &block[at..];
        if rest.starts_with(close) {
            return Some(at);
        }
        at += if rest.starts_with(['"', '\'']) { text_length(rest) } else { rest.chars().next()?.len_utf8() };
    }
    None
}

fn is_raw(inner: &str) -> bool {
    inner.trim_matches(['-', '+', ' ', '\n', '\t']) == "raw"
}

/// Returns where the block that ends a raw one ends.
fn find_end_of_raw(rest: &str) -> Option<usize> {
    let name = rest.find("endraw")?;
    rest[name..].find("%}").map(|end| name + end + 2)
}

/// Returns minijinja's message, with the line and without the template's name.
fn describe(error: &minijinja::Error) -> String {
    let line = error.line().map_or_else(String::new, |line| format!(" (line {line})"));
    // Only debug builds name an undefined value; the caller, who knows the row, adds it.
    let detail = error.detail().filter(|_| error.kind() != ErrorKind::UndefinedError);
    let detail = detail.map_or_else(String::new, |detail| format!(": {detail}"));
    format!("{}{detail}{line}", error.kind())
}

struct LimitedBuffer {
    bytes: Vec<u8>,
    limit: u64,
}

impl Write for LimitedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.bytes.len() + bytes.len()) as u64 > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

    fn check(text: &str, expected: Result<&str, &str>) {
        let row = context! {
            q => "What?", a => "This <&>.", n => 3, list => vec!["x", "y"], object => context! { key => "v" },
        };
        let found = Template::new(text, 1000)
            .map_err(RenderError::Other)
            .and_then(|template| template.render(row))
            .map_err(|(RenderError::Other(message) | RenderError::Undefined(message))| message);
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn a_template_renders_a_row() {
        check("Q: {{ q }}\nA: {{ a }}", Ok("Q: What?\nA: This <&>."));
        check("{{ n + 1 }} {{ object.key }} {{ list | join('-') }}{# no #}", Ok("4 v x-y"));
        check("{% for x in list %}{{ loop.index }}{{ x }}{% endfor %}", Ok("1x2y"));
        check("{{ q }}{% if note %} ({{ note }}){% endif %}", Ok("What?"));
        check("{{ q }}\n{{ note }}", Err("undefined value (line 2)"));
        check(
            "{{ q",
            Err("syntax error: unexpected end of input, expected end of variable block (line 1); a column of \
                 any name is written {{ row[\"What is it?\"] }}"),
        );
        check("no column", Err("it uses no column; `{{ question }}` inserts the column `question`"));
        check("{{ range(3) }}", Err("it uses no column; `{{ question }}` inserts the column `question`"));
        check(
            "{% include q %}{{ q }}",
            Err("template not found: tried to include non-existing template 'What?' (line 1)"),
        );
        check("{{ q.missing.deeper }}", Err("undefined value (line 1)"));
    }

    #[test]
    fn templates_are_limited_in_steps_and_output() {
        let many = "{% for a in range(9999) %}{% for b in range(9999) %}{% if q %}{% endif %}{% endfor %}{% endfor %}";
        check(many, Err("it takes too many steps"));
        check("{% for a in range(9999) %}{{ q }}{% endfor %}", Err("it writes more than max_file_bytes"));
        let doubling = format!("{{% set x = q %}}{}{{{{ x | length }}}}", "{% set x = x ~ x %}".repeat(50));
        check(&doubling, Err("it takes too many steps"));
        check("{{ q * 100000000000 }}", Err("it takes too many steps"));
        check(
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}{{ q }}",
            Err("invalid operation: recursion limit exceeded (line 1)"),
        );
    }

    #[test]
    fn columns_of_a_template_are_listed() {
        let template = Template::new("{{ b }}{{ a.x }}{% set c = 1 %}{{ c }}{% for d in e %}{{ d }}{% endfor %}", 1);
        assert_eq!(template.ok().unwrap().columns().collect::<Vec<_>>(), ["a", "b", "e"]);
    }

    #[test]
    fn columns_of_any_name_become_variables() {
        let check = |text: &str, expected: &str, columns: &[&str]| {
            let (written, named) = with_variables(text);
            assert_eq!(
                (written.as_str(), named),
                (expected, columns.iter().map(ToString::to_string).collect()),
                "{text}"
            );
        };
        check("{{ q }}{ {% if a %}x{% endif %}", "{{ q }}{ {% if a %}x{% endif %}", &[]);
        check("{{ row[\"a.b\"] }}", "{{ __column_0 }}", &["a.b"]);
        check("{{ row['{x} }}'] ~ row [ \"ü \\\"1\\\"\" ] }}", "{{ __column_0 ~ __column_1 }}", &["{x} }}", "ü \"1\""]);
        check(
            "{% if row['a b'] %}{{ row['a b'].c }}{% endif %}",
            "{% if __column_0 %}{{ __column_0.c }}{% endif %}",
            &["a b"],
        );
        check("{{ What is it? }}", "{{ __column_0 }}", &["What is it?"]);
        check("{{- What is it? -}}", "{{- __column_0 -}}", &["What is it?"]);
        check(
            "{{ my.row['x'] }}{{ row[x] }}{{ 'row[\"x\"]' }}",
            "{{ my.row['x'] }}{{ row[x] }}{{ 'row[\"x\"]' }}",
            &[],
        );
        check(
            "{# row['x'] #}{% raw %}{{ row['x'] }}{% endraw %}",
            "{# row['x'] #}{% raw %}{{ row['x'] }}{% endraw %}",
            &[],
        );
        check("{{ row['x'", "{{ row['x'", &[]);
    }
}
