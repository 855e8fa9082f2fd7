//! Self-contained HTML pages about runs, in the style of the evaluation report.

use anyhow::Context as _;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde::Serialize;

/// Returns the page of `template` with `data`, whose values are texts, flags and lists of them, and with charts, which
/// are SVG made here. Everything else is escaped.
///
/// # Errors
/// Returns an error if the template does not match the data: a bug of this program.
pub fn render(template: &str, data: &impl Serialize, charts: &[(&str, String)]) -> anyhow::Result<String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    let charts = charts.iter().map(|(name, svg)| (*name, Value::from_safe_string(svg.clone())));
    let context = Value::from_pairs(charts.chain([("page", Value::from(Serde(data)))]));
    let page = || {
        for (name, source) in evaluate::partials() {
            environment.add_template(name, source)?;
        }
        environment.render_named_str("page.html", template, context)
    };
    page().context("cannot make the page")
}
