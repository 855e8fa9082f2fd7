//! The page of `judge`.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};
use serve::{Page, PageRequest};

use crate::commands::print_out;
use crate::commands::ui::{CSS, HTML, JSON, OWN, SCRIPT};
use crate::judge::duels::Duel;
use crate::judge::table::Table;
use crate::judge::{Choice, Judging};
use crate::platform::interrupt;

/// A vote of the page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chosen {
    /// The number of the pair, so that a page that was left open does not vote on another one.
    number: usize,
    choice: Choice,
}

/// Serves the page until Ctrl-C, then prints the ratings.
pub fn serve(judging: Judging, port: u16) -> anyhow::Result<()> {
    let config = serve::Config { port, ..serve::Config::default() };
    let listener = serve::bind(&config)?;
    let address = listener.local_addr().context("cannot determine the address of the page")?;
    let cancel = interrupt::listen(|| ())?;
    print_out!("judge at http://{address}; Ctrl-C ends it")?;
    let judging = Arc::new(Mutex::new(judging));
    let served = Arc::clone(&judging);
    serve::serve_pages(listener, &config, &cancel, move |asked| answer(&served, asked))?;
    let judging = judging.lock().unwrap_or_else(PoisonError::into_inner);
    print_out!("{}", Table::of(judging.votes().all()).text())?;
    Ok(())
}

/// Returns the page of a request, none if there is none.
fn answer(judging: &Mutex<Judging>, asked: &PageRequest) -> Option<Page> {
    let text = |content_type, text: &str| Some(Page { content_type, policy: OWN, body: text.as_bytes().to_vec() });
    // After a panic while the lock was held, the votes so far are on disk.
    let judging = || judging.lock().unwrap_or_else(PoisonError::into_inner);
    match (asked.path.as_str(), &asked.body) {
        ("/", None) => text(HTML, include_str!("index.html")),
        ("/judge.js", None) => text(SCRIPT, include_str!("judge.js")),
        ("/judge.css", None) => text(CSS, include_str!("judge.css")),
        ("/style.css", None) => text(CSS, evaluate::style()),
        ("/api/pair", None) => text(JSON, &pair(&mut judging()).to_string()),
        ("/api/vote", Some(body)) => text(JSON, &vote(&mut judging(), body).to_string()),
        _ => None,
    }
}

/// Returns the pair to ask, without the models' names; at the end, the ratings.
fn pair(judging: &mut Judging) -> Value {
    let asked = judging.ask().map(Option::<&Duel>::cloned);
    let (done, total) = judging.progress();
    match asked {
        Ok(Some(duel)) => {
            let [left, right] = duel.sides.map(|answer| answer.text);
            json!({"number": done + 1, "total": total, "prompt": duel.prompt, "left": left, "right": right})
        }
        Ok(None) => json!({"total": total, "table": Table::of(judging.votes().all()).text()}),
        Err(error) => json!({"error": format!("{error:#}")}),
    }
}

/// Keeps a vote, and returns the next pair.
fn vote(judging: &mut Judging, body: &[u8]) -> Value {
    let Ok(Chosen { number, choice }) = serde_json::from_slice(body) else {
        return json!({"error": "this is not a vote"});
    };
    if number == judging.progress().0 + 1
        && let Err(error) = judging.choose(choice)
    {
        return json!({"error": format!("{error:#}")});
    }
    pair(judging)
}
