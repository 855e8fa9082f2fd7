//! The web page: its files, which are part of the program, and what they need to know about the server.

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Handler, ServerState};

/// A file of the page.
struct File {
    /// The path of its route.
    path: &'static str,
    content_type: &'static str,
    content: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Returns the files of a folder of this crate, `index.html` at `/` and the others under `/page`.
macro_rules! files {
    ($($name:literal: $content_type:ident),* $(,)?) => {
        [
            File { path: "/", content_type: HTML, content: include_str!("../page/index.html") },
            $(File {
                path: concat!("/page/", $name),
                content_type: $content_type,
                content: include_str!(concat!("../page/", $name)),
            }),*
        ]
    };
}

static FILES: &[File] = &files![
    "icon.svg": SVG,
    "style.css": CSS,
    "content.css": CSS,
    "api.js": SCRIPT,
    "applications.js": SCRIPT,
    "attention.js": SCRIPT,
    "chat.js": SCRIPT,
    "completion.js": SCRIPT,
    "dom.js": SCRIPT,
    "generation.js": SCRIPT,
    "history.js": SCRIPT,
    "i18n.js": SCRIPT,
    "insight.js": SCRIPT,
    "main.js": SCRIPT,
    "markdown.js": SCRIPT,
    "sampling.js": SCRIPT,
    "status.js": SCRIPT,
    "trace.js": SCRIPT,
];

/// The page may load its own files and call this server; nothing else. No script is in the page itself, and none can
/// turn text into HTML: Trusted Types are required, and there are none.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for \
                      'script'; trusted-types 'none'";

/// The entity tags of [`FILES`], in their order.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |file: &File| {
        let digest = Sha256::digest(file.content.as_bytes());
        let number = digest.iter().take(8).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        format!("\"{number:016x}\"")
    };
    FILES.iter().map(tag).collect()
});

/// What the page needs to know about the server before it has a key.
#[derive(Debug, Serialize)]
pub(super) struct PageSettings {
    /// Prompts to choose from.
    example_prompts: Vec<String>,
    /// Whether requests need a key.
    needs_key: bool,
    /// The maximum number of tokens per text.
    max_tokens: usize,
    /// The maximum number of alternatives with log probabilities.
    max_logprobs: usize,
}

/// Returns the routes of the page's files.
pub(super) fn files() -> impl Iterator<Item = (&'static str, Handler)> {
    FILES
        .iter()
        .enumerate()
        .map(|(i, file)| (file.path, get(move |headers: HeaderMap| async move { answer(i, &headers) })))
}

/// Returns true for the routes that are only for the page.
#[cfg(test)]
pub(super) fn is_page(path: &str) -> bool {
    path == "/" || path.starts_with("/page/")
}

/// Answers with a file, or with status 304 if the browser has it.
fn answer(index: usize, headers: &HeaderMap) -> Response {
    let (file, tag) = (&FILES[index], &TAGS[index]);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_known = known.split(',').any(|other| other.trim().trim_start_matches("W/") == tag);
    let common = [
        (header::ETAG, HeaderValue::from_str(tag).unwrap_or(HeaderValue::from_static("\"\""))),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    ];
    if is_known {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(header::CONTENT_TYPE, file.content_type)], file.content).into_response()
}

pub(super) async fn settings(State(state): State<Arc<ServerState>>) -> Json<PageSettings> {
    Json(PageSettings {
        example_prompts: state.config.example_prompts.clone(),
        needs_key: state.keys.is_some(),
        max_tokens: state.config.max_tokens,
        max_logprobs: state.config.max_logprobs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_loads_nothing_from_elsewhere_and_makes_no_html_from_text() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), FILES.len(), "every file is served");
        for File { path, content, .. } in FILES {
            // The SVG namespace is a URL that nothing is loaded from.
            let content = content.replace("http://www.w3.org/2000/svg", "");
            for forbidden in ["src=\"http", "src=\"/", "href=\"http", "@import", "url(", "from \"http"] {
                assert!(!content.contains(forbidden), "{path} contains {forbidden}");
            }
            for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser"] {
                assert!(!content.contains(forbidden), "{path} contains {forbidden}");
            }
        }
    }

    #[test]
    fn everything_that_the_page_refers_to_is_served() {
        let is_served = |path: &str| FILES.iter().any(|file| file.path == path);
        for File { path, content, .. } in FILES {
            let (prefix, mark) = if *path == "/" { ("/", "=\"page/") } else { ("/page/", "from \"./") };
            for reference in content.split(mark).skip(1) {
                let name = reference.split('"').next().unwrap();
                let name = if *path == "/" { format!("page/{name}") } else { name.to_owned() };
                assert!(is_served(&format!("{prefix}{name}")), "{path} refers to {name}");
            }
        }
    }

    #[test]
    fn a_file_that_the_browser_has_is_not_sent_again() {
        let mut headers = HeaderMap::new();
        let first = answer(0, &headers);
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[header::CONTENT_TYPE], HTML);
        assert!(first.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("script-src 'self';"));
        headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(answer(0, &headers).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(answer(1, &headers).status(), StatusCode::OK, "another file");
    }
}
