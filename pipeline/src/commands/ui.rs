//! `ui`: a read-only page of the runs, on this machine.

use std::fs;

use anyhow::Context as _;
use artifact::StoreLayout;
use serde_json::{Value, json};
use serve::{Page, PageRequest};

use crate::cli::experiments::UiArgs;
use crate::platform::interrupt;
use crate::run::comparison::Comparison;
use crate::run::record::Run;
use crate::run::{catalog, liveness, names};
use crate::ui::console::Console;
use crate::ui::diff_page;

use super::{print_out, watch};

pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const CSS: &str = "text/css; charset=utf-8";
pub(super) const SCRIPT: &str = "text/javascript; charset=utf-8";
pub(super) const JSON: &str = "application/json";
const LINES: &str = "application/jsonl";

/// The page loads its own files and data, and nothing turns text into HTML: Trusted Types are required, and there are
/// none.
pub(super) const OWN: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
                              connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                              require-trusted-types-for 'script'; trusted-types 'none'";

/// Reports and comparisons have everything in one file, and reach nothing, not even this server.
const SEALED: &str = "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; \
                      style-src 'unsafe-inline'; img-src data:";

/// Runs the command.
pub fn run(arguments: &UiArgs) -> anyhow::Result<()> {
    let layout = super::layout(&arguments.store)?;
    let console = Console::new();
    super::log_to(&console, "");
    let config = serve::Config { port: arguments.port, ..serve::Config::default() };
    let listener = serve::bind(&config)?;
    let address = listener.local_addr().context("cannot determine the address of the page")?;
    let cancel = interrupt::listen(|| ())?;
    print_out!("the runs of {} are at http://{address}; Ctrl-C stops it", layout.root().display())?;
    Ok(serve::serve_pages(listener, &config, &cancel, move |asked| answer(&layout, asked))?)
}

/// Returns the page of a request, none if there is none or it cannot be made.
fn answer(layout: &StoreLayout, asked: &PageRequest) -> Option<Page> {
    if asked.body.is_some() {
        return None;
    }
    let page = |content_type, policy, body: Vec<u8>| Some(Page { content_type, policy, body });
    let text = |content_type, text: &str| page(content_type, OWN, text.as_bytes().to_vec());
    let named = |key: &str| run_of(layout, &asked.query, key);
    match asked.path.as_str() {
        "/" => text(HTML, include_str!("ui/index.html")),
        "/ui.js" => text(SCRIPT, include_str!("ui/ui.js")),
        "/ui.css" => text(CSS, include_str!("ui/ui.css")),
        "/style.css" => text(CSS, evaluate::style()),
        "/api/runs" => text(JSON, &runs(layout).ok()?.to_string()),
        "/api/metrics" => text(LINES, &watch::metrics(&named("run")?)),
        "/report" => page(HTML, SEALED, fs::read(named("run")?.folder.join("report.html")).ok()?),
        "/diff" => {
            let (a, b) = (named("a")?, named("b")?);
            page(HTML, SEALED, diff_page::render(&Comparison::of(&a, &b), &a, &b).ok()?.into_bytes())
        }
        _ => None,
    }
}

/// Returns the run that a key of the query names; a name has no character that would be encoded.
fn run_of(layout: &StoreLayout, query: &str, key: &str) -> Option<Run> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, name) = pairs.find(|(found, _)| *found == key)?;
    let is_plain = !name.starts_with('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    Run::open(&names::folder(layout, name).filter(|_| is_plain)?).ok()
}

/// Returns what the list shows of every run, the newest first.
fn runs(layout: &StoreLayout) -> anyhow::Result<Value> {
    let tags = names::tags_by_run(layout)?;
    let newest = catalog::latest(layout)?;
    let alive = newest.filter(liveness::is_alive).map(|run| run.record.name);
    let runs = catalog::summaries(layout)?;
    let described = runs.iter().rev().map(|run| {
        let ran = run.stages.iter().filter(|(_, ran)| *ran).count();
        let is_alive = alive.as_ref() == Some(&run.name);
        json!({
            "name": run.name,
            "tags": tags.get(&run.name).cloned().unwrap_or_default(),
            "started": run.started,
            "status": if is_alive { "running" } else { run.status.name() },
            "is_alive": is_alive,
            "time": artifact::format::seconds(run.wall_seconds),
            "stages": format!("{ran} of {}", run.stages.len()),
            "result": run.result,
            "has_report": layout.runs().join(&run.name).join("report.html").is_file(),
        })
    });
    Ok(described.collect())
}
