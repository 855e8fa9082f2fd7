//! Extraction of text from web pages.
//!
//! The main text is found with the algorithm of Firefox's reader view (Readability, through `dom_smoothie`). Pages are
//! not trusted, so the work of the parser is bounded; browsers also limit nesting to 512.

use dom_query::Document;
use dom_smoothie::{Readability, ReadabilityError, TextMode};
use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use html5ever::tendril::TendrilSink;
use html5ever::tree_builder::TreeBuilderOpts;
use html5ever::{ParseOpts, parse_document};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The deepest nesting of elements. Heuristic, not measured: far above real pages; the time of readability grows with
/// its square.
const MAX_DEPTH: usize = 256;
/// The most nodes (elements, texts, comments). Heuristic, not measured: about ten times the largest single-page
/// specifications.
const MAX_NODES: usize = 1_000_000;
/// The limit of the sum of squares of the number of attributes per tag: the parser compares each attribute with all
/// before it. Heuristic, not measured: half a second.
const MAX_ATTRIBUTE_WORK: u64 = 400_000_000;
/// The largest page. Heuristic: a page of only tags takes ten seconds and about twenty times its size in memory.
pub(crate) const MAX_PAGE_BYTES: usize = 8 << 20;
/// Bytes per piece for the parser; the tree is checked between two pieces.
const PIECE_BYTES: usize = 1 << 10;
/// New nodes after which the depth is measured again.
const UNMEASURED_NODES: usize = 1 << 12;
/// The prefix in which browsers look for a declaration of the encoding (HTML Standard, section 13.2.3.2).
const PRESCAN_BYTES: usize = 1024;

/// The part of a web page that is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Html {
    /// Its title and its main text, in paragraphs: no menus, no comments, no advertisements.
    #[default]
    Main,
    /// Its title and all of its text.
    All,
    /// Its source, as a file of code.
    Source,
}

/// Why a page gave no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoText {
    /// Readability finds no main text.
    NoMainText,
    /// It exceeds a limit of the parser: which one.
    Hostile(&'static str),
}

/// Returns the text of a page; `charset` is the encoding that the server declared.
pub(crate) fn text(page: &[u8], charset: Option<&str>, html: Html) -> Result<String, NoText> {
    let (page, ..) = encoding(page, charset).decode(page);
    if attribute_work(&page) > MAX_ATTRIBUTE_WORK {
        return Err(NoText::Hostile("a tag with too many attributes"));
    }
    let document = parse(&page)?;
    let (title, text) = match html {
        Html::Main => {
            let config = dom_smoothie::Config {
                text_mode: TextMode::Formatted,
                // Metadata of the page's author; only the title is used, which the page shows as well.
                disable_json_ld: true,
                ..dom_smoothie::Config::default()
            };
            let mut readability =
                Readability::with_document(document, None, Some(config)).map_err(|_| NoText::NoMainText)?;
            let article = readability.parse().map_err(|e| match e {
                ReadabilityError::TooManyElements(..) => NoText::Hostile("too many elements"),
                _ => NoText::NoMainText,
            })?;
            (article.title, article.text_content.to_string())
        }
        Html::All | Html::Source => {
            let title = document.select("title").first().text().to_string();
            document.select("head, script, style, noscript, template").remove();
            (title, document.formatted_text().to_string())
        }
    };
    let (title, text) = (title.trim(), text.trim());
    match (title.is_empty() || text.lines().next() == Some(title), text.is_empty()) {
        (_, true) => Err(NoText::NoMainText),
        (true, false) => Ok(text.to_owned()),
        (false, false) => Ok(format!("{title}\n\n{text}")),
    }
}

/// Returns the encoding of a page: by its byte order mark, the server, its own declaration, or detection.
fn encoding(page: &[u8], charset: Option<&str>) -> &'static Encoding {
    let by_mark = Encoding::for_bom(page).map(|(encoding, _)| encoding);
    let by_server = || Encoding::for_label(charset?.as_bytes());
    let by_page = || {
        let encoding = Encoding::for_label(declared_charset(&page[..page.len().min(PRESCAN_BYTES)])?)?;
        // A declaration that can be read as ASCII cannot be in UTF-16 (HTML Standard, section 13.2.3.2).
        Some(if encoding.is_ascii_compatible() { encoding } else { UTF_8 })
    };
    let by_trying = || if std::str::from_utf8(page).is_ok() { UTF_8 } else { WINDOWS_1252 };
    by_mark.or_else(by_server).or_else(by_page).unwrap_or_else(by_trying)
}

/// Returns the label after the first `charset=` of a `<meta`.
fn declared_charset(head: &[u8]) -> Option<&[u8]> {
    const KEY: &[u8] = b"charset";
    let mut rest = head;
    while let Some(meta) = find(rest, b"<meta") {
        rest = &rest[meta + 5..];
        let tag = &rest[..rest.iter().position(|b| *b == b'>').unwrap_or(rest.len())];
        let Some(key) = find(tag, KEY) else { continue };
        let value = tag[key + KEY.len()..].trim_ascii_start();
        let Some(value) = value.strip_prefix(b"=") else { continue };
        let value = value.trim_ascii_start();
        let value = value.strip_prefix(b"\"").or_else(|| value.strip_prefix(b"'")).unwrap_or(value);
        let end = value.iter().position(|b| b"\"'; />".contains(b)).unwrap_or(value.len());
        return Some(&value[..end]);
    }
    None
}

/// Parses a page piece by piece, and stops once it nests too deep or grows too large.
fn parse(page: &str) -> Result<Document, NoText> {
    let tree_builder = TreeBuilderOpts { scripting_enabled: false, ..TreeBuilderOpts::default() };
    let mut parser = parse_document(Document::default(), ParseOpts { tree_builder, ..ParseOpts::default() });
    let mut measured = 0;
    let mut rest = page;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
        rest = after;
        parser.process(piece.into());
        let document = &parser.tokenizer.sink.sink;
        let nodes = document.tree.len();
        if nodes > MAX_NODES {
            return Err(NoText::Hostile("more than 1,000,000 nodes"));
        }
        // The time of measuring is linear in the size of the tree, so a larger tree is measured less often.
        if nodes - measured > UNMEASURED_NODES.max(nodes / 64) {
            measured = nodes;
            check_depth(document)?;
        }
    }
    let document = parser.finish();
    check_depth(&document)?;
    Ok(document)
}

fn check_depth(document: &Document) -> Result<(), NoText> {
    let mut node = document.root();
    let mut depth = 0;
    loop {
        if let Some(child) = node.first_child() {
            depth += 1;
            if depth > MAX_DEPTH {
                return Err(NoText::Hostile("elements nested more than 256 deep"));
            }
            node = child;
            continue;
        }
        while let Some(parent) = node.parent().filter(|_| node.next_sibling().is_none()) {
            node = parent;
            depth -= 1;
        }
        match node.next_sibling() {
            Some(next) => node = next,
            None => return Ok(()),
        }
    }
}

/// Returns the sum of the squares of the number of attributes in each tag.
fn attribute_work(page: &str) -> u64 {
    let bytes = page.as_bytes();
    let mut work = 0_u64;
    let mut at = 0;
    while let Some(open) = bytes[at..].iter().position(|b| *b == b'<') {
        at += open + 1;
        let rest = &bytes[at..];
        if let Some(comment) = rest.strip_prefix(b"!--") {
            at += 3 + find(comment, b"-->").unwrap_or(0);
        } else if rest.first().is_some_and(u8::is_ascii_alphabetic) {
            let (length, attributes) = tag(rest);
            work = work.saturating_add(attributes * attributes);
            at += length;
            for (name, end) in [(&b"script"[..], &b"</script"[..]), (b"style", b"</style")] {
                if rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)) {
                    at += find(&bytes[at..], end).unwrap_or(0);
                }
            }
        }
    }
    work
}

/// Returns the length of the tag at the start of `bytes`, and an upper bound of its number of attributes.
fn tag(bytes: &[u8]) -> (usize, u64) {
    let mut attributes = 0;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'>' => break,
            b'=' => {
                at += bytes[at..].iter().take_while(|b| b.is_ascii_whitespace()).count();
                if let Some(quote @ (b'"' | b'\'')) = bytes.get(at) {
                    at += 1;
                    at += bytes[at..].iter().position(|b| b == quote).map_or(bytes.len() - at, |end| end + 1);
                }
                attributes += 1;
            }
            b' ' | b'\t' | b'\n' | b'\x0c' | b'\r' | b'/' => attributes += 1,
            _ => {}
        }
    }
    (at, attributes)
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|at| at.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARTICLE: &str = "<p>The heron stands in the shallow water, still as a post, and waits until a fish comes \
        near enough to be caught.</p><p>Then, faster than one can see, it strikes; more often than not, it misses, \
        and waits again.</p>";

    fn page(inside: &str) -> String {
        format!(
            "<!DOCTYPE html><html><head><title>The heron</title><style>p {{ color: red }}</style>\
             <script>let secret = \"<p>script</p>\";</script></head><body>\
             <nav><ul><li><a href=\"/\">Home</a></li><li><a href=\"/birds\">Birds</a></li></ul></nav>\
             <article>{inside}</article><footer>All rights reserved. <a \
             href=\"/terms\">Terms</a></footer></body></html>"
        )
    }

    fn check(page: &[u8], charset: Option<&str>, html: Html, expected: Result<&str, NoText>) {
        let found = text(page, charset, html);
        let shown = String::from_utf8_lossy(&page[..page.len().min(200)]);
        assert_eq!(found.as_deref().map_err(|e| *e), expected, "{shown}");
    }

    #[test]
    fn the_main_text_is_extracted_in_paragraphs() {
        let first = "The heron stands in the shallow water, still as a post, and waits until a fish comes near enough \
            to be caught.";
        let second = "Then, faster than one can see, it strikes; more often than not, it misses, and waits again.";
        let main = format!("The heron\n\n{first}\n\n{second}");
        check(page(ARTICLE).as_bytes(), None, Html::Main, Ok(&main));
        let all = format!("The heron\n\nHome\nBirds\n\n\n{first}\n\n{second}\n\nAll rights reserved. Terms");
        check(page(ARTICLE).as_bytes(), None, Html::All, Ok(&all));
        check(b"", None, Html::Main, Err(NoText::NoMainText));
        check(b"<script>let a = 1;</script>", None, Html::Main, Err(NoText::NoMainText));
    }

    #[test]
    fn code_keeps_its_lines() {
        let inside = format!("{ARTICLE}<pre>fn main() {{\n    heron();\n}}</pre>{ARTICLE}");
        let found = text(page(&inside).as_bytes(), None, Html::Main).unwrap();
        assert!(found.contains("fn main() {\n    heron();\n}"), "{found}");
    }

    #[test]
    fn encodings_are_detected() {
        let cases: &[(&[u8], Option<&str>)] = &[
            ("<p>Käse".as_bytes(), None),
            (b"\xef\xbb\xbf<p>K\xc3\xa4se", Some("latin1")),
            (b"\xff\xfe<\0p\0>\0K\0\xe4\0s\0e\0", None),
            (b"<p>K\xe4se", Some("ISO-8859-1")),
            (b"<meta charset=iso-8859-2><p>K\xe4se", None),
            (b"<META http-equiv='Content-Type' content='text/html; charset=windows-1252'><p>K\xe4se", None),
            (b"<meta name=a><meta charset = \"latin1\"><p>K\xe4se", None),
            (b"<p>K\xe4se", None),
            (b"<p>K\xe4se", Some("no such")),
            ("<meta charset=utf-16le><p>Käse".as_bytes(), None),
        ];
        for (page, charset) in cases {
            check(page, *charset, Html::All, Ok("Käse"));
        }
        check(b"<meta charset=shift_jis><p>\x93\xfa\x96\x7b", None, Html::All, Ok("日本"));
    }

    #[test]
    fn hostile_pages_are_rejected_quickly() {
        let deep = "elements nested more than 256 deep";
        let attributes: String = (0..100_000).fold(String::new(), |tag, i| tag + &format!("a{i} "));
        let formatting = |n: usize| (0..n).fold(String::new(), |tags, i| tags + &format!("<b a={i}>"));
        let cases = [
            ("<div>".repeat(100_000), deep),
            ("<b>".repeat(1_000_000), deep),
            ("<table><tr><td>".repeat(100_000), deep),
            ("<svg><g>".repeat(100_000), deep),
            ("<table>".to_owned() + &"<div>".repeat(100_000), deep),
            (formatting(20_000) + &"<p>".repeat(100_000), deep),
            (format!("<div {attributes}>"), "a tag with too many attributes"),
            (format!("<div a='>' {attributes}>"), "a tag with too many attributes"),
            ("<p>".to_owned() + &formatting(200) + &"<p>b".repeat(100_000), "more than 1,000,000 nodes"),
        ];
        for (page, what) in cases {
            let started = std::time::Instant::now();
            assert!(text(page.as_bytes(), None, Html::Main) == Err(NoText::Hostile(what)), "{}", &page[..60]);
            assert!(started.elapsed().as_secs() < 60, "{}", &page[..60]);
        }
    }
}
