//! The web page.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse};

use super::ServerState;

/// The page, with its style and script. The example prompts of the configuration replace [`EXAMPLES_PLACEHOLDER`].
const PAGE: &str = include_str!("../page.html");
const EXAMPLES_PLACEHOLDER: &str = "/*EXAMPLE_PROMPTS*/[]";
/// The page may run its own script and style, and call this server; nothing else.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; \
                           connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) async fn page(State(state): State<Arc<ServerState>>) -> impl IntoResponse {
    let page = render_page(&state.config.example_prompts);
    ([(header::CONTENT_SECURITY_POLICY, PAGE_POLICY), (header::CACHE_CONTROL, "no-cache")], Html(page))
}

fn render_page(example_prompts: &[String]) -> String {
    // A prompt must not close the script element.
    let examples = serde_json::Value::from(example_prompts).to_string().replace('<', "\\u003c");
    PAGE.replacen(EXAMPLES_PLACEHOLDER, &examples, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_loads_nothing_from_elsewhere() {
        for external in ["http://", "https://", "src=\"/", "@import", "url(/"] {
            // The SVG namespace is a URL that nothing is loaded from.
            let page = PAGE.replace("http://www.w3.org/2000/svg", "");
            assert!(!page.contains(external), "the page contains {external}");
        }
    }

    #[test]
    fn example_prompts_are_in_the_page_and_escaped() {
        let page = render_page(&["fn main() {".to_owned(), "</script>\"".to_owned()]);
        assert!(page.contains(r#"const EXAMPLES = ["fn main() {","\u003c/script>\""];"#), "{page}");
        assert!(render_page(&[]).contains("const EXAMPLES = [];"));
    }
}
