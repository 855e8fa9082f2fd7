//! A document made from several columns by a minijinja template.
//!
//! A template comes with a dataset, which is not trusted: it reads only the row, and its steps, the data it copies and
//! its output are bounded.

use std::io::{self, Write};

use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};

/// The name of the template in minijinja, which occurs in its messages.
const NAME: &str = "template";
/// Steps that every template may take, besides one per 16 bytes it may write; minijinja counts one step per 64 bytes
/// that are copied. Heuristic, not measured: thousands of times what `{{ question }} {{ answer }}` needs.
const FUEL: u64 = 1_000_000;

/// A template, compiled.
pub(crate) struct Template<'a> {
    environment: Environment<'a>,
    columns: Vec<String>,
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
        environment.add_template(NAME, text).map_err(|e| describe(&e))?;
        let template = environment.get_template(NAME).map_err(|e| describe(&e))?;
        let mut columns: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        // minijinja's own functions are not columns.
        columns.retain(|name| !environment.globals().any(|(global, _)| global == name));
        columns.sort_unstable();
        if columns.is_empty() {
            return Err("it uses no column; `{{ question }}` inserts the column `question`".to_owned());
        }
        Ok(Self { environment, columns, max_bytes })
    }

    /// Returns the columns it names, sorted.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Renders a row.
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
        check("{{ q", Err("syntax error: unexpected end of input, expected end of variable block (line 1)"));
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
        assert_eq!(template.ok().unwrap().columns(), ["a", "b", "e"]);
    }
}
