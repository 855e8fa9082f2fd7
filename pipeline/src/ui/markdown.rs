//! Markdown on a terminal, styled while it is generated.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

const RESET: &str = "\u{1b}[0m";
const BOLD_UNDERLINE: &str = "\u{1b}[1;4m";
const BOLD: &str = "\u{1b}[1m";
const DIM: &str = "\u{1b}[2m";
const ITALIC: &str = "\u{1b}[3m";
const UNDERLINE: &str = "\u{1b}[4m";
const STRIKETHROUGH: &str = "\u{1b}[9m";
const CYAN: &str = "\u{1b}[36m";

/// Characters that may begin a span of a line whose end must be known before it can be shown.
const OPENING: [char; 8] = ['*', '_', '`', '[', '~', '<', '\\', '&'];

/// Markdown that arrives in pieces.
///
/// Text is returned as soon as its style is known: at once, unless it is at the beginning of a line, where a mark may
/// follow, or after a character that may open a span; then when the span or the line ends. Lines are read one by one,
/// so that what needs several, such as a table, is shown as it is written.
#[derive(Debug, Default)]
pub struct Markdown {
    /// The line so far.
    line: String,
    /// The bytes of it that were returned.
    shown: usize,
    /// The mark that ends the block of code which the line is in.
    fence: Option<String>,
}

impl Markdown {
    /// Returns what can be shown after another piece of text without control characters.
    pub fn push(&mut self, piece: &str) -> String {
        let mut shown = String::new();
        for part in piece.split_inclusive('\n') {
            self.line.push_str(part.trim_end_matches('\n'));
            shown.push_str(&self.show(part.ends_with('\n')));
            if part.ends_with('\n') {
                shown.push('\n');
                self.line.clear();
                self.shown = 0;
            }
        }
        shown
    }

    /// Returns what is left at the end of the text.
    pub fn finish(&mut self) -> String {
        let shown = self.show(true);
        *self = Self::default();
        shown
    }

    fn show(&mut self, is_complete: bool) -> String {
        let text = self.line.trim_start();
        let mark: String = text.chars().take_while(|c| matches!(c, '`' | '~')).collect();
        let is_fence = mark.len() >= 3 && mark.chars().all(|c| mark.starts_with(c));
        let may_be_fence = !is_complete && text.chars().all(|c| matches!(c, '`' | '~'));
        if may_be_fence {
            return String::new();
        }
        if is_complete && is_fence && self.fence.as_ref().is_none_or(|open| mark.starts_with(open.as_str())) {
            self.fence = if self.fence.is_some() { None } else { Some(mark) };
            return format!("{DIM}{}{RESET}", self.line);
        }
        if self.fence.is_some() {
            let new = &self.line[self.shown..];
            let styled = if new.is_empty() || is_fence && !is_complete { String::new() } else { code(new) };
            self.shown += if styled.is_empty() { 0 } else { new.len() };
            return styled;
        }
        if is_fence {
            return String::new();
        }
        let (styled, shown) = spans(&self.line, self.shown, is_complete);
        self.shown = shown;
        styled
    }
}

fn code(text: &str) -> String {
    format!("{CYAN}{text}{RESET}")
}

/// Returns the styled text of `line` from the byte `from`, and the byte to which its style is known.
fn spans(line: &str, from: usize, is_complete: bool) -> (String, usize) {
    let indent = line.len() - line.trim_start().len();
    let text = &line[indent..];
    // A mark of a heading, a list or a quotation ends with a space, and a rule with the line.
    let is_mark = |c: char| c.is_ascii_digit() || "#-+*>.)_= ".contains(c);
    if !is_complete && text.chars().all(is_mark) {
        return (String::new(), from);
    }
    let mut shown = Shown { out: String::new(), from, until: from };
    shown.add(0, indent, &line[..indent], &[]);
    let (mut blocks, mut inline): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    let mut number = None;
    for (event, range) in Parser::new_ext(text, Options::ENABLE_STRIKETHROUGH).into_offset_iter() {
        let (start, end) = (range.start + indent, range.end + indent);
        // More of the same character may follow the end of a span, and belong to it.
        let is_open = !is_complete && end == line.len();
        match event {
            Event::Start(Tag::Heading { level: HeadingLevel::H1 | HeadingLevel::H2, .. }) => {
                blocks.push(BOLD_UNDERLINE);
            }
            Event::Start(Tag::Heading { .. }) => blocks.push(BOLD),
            Event::Start(Tag::BlockQuote(_)) => {
                shown.add(start, start + 1, "│ ", &[]);
                blocks.push(DIM);
            }
            Event::Start(Tag::List(first)) => number = first,
            Event::Start(Tag::Item) => {
                let mark = number.map_or_else(|| "• ".to_owned(), |number| format!("{number}. "));
                shown.add(start, start + 1, &mark, &[]);
            }
            Event::Start(Tag::Emphasis | Tag::Strong | Tag::Strikethrough | Tag::Link { .. }) | Event::Code(_)
                if is_open =>
            {
                break;
            }
            Event::Start(Tag::Emphasis) => inline.push(ITALIC),
            Event::Start(Tag::Strong) => inline.push(BOLD),
            Event::Start(Tag::Strikethrough) => inline.push(STRIKETHROUGH),
            Event::Start(Tag::Link { .. }) => inline.push(UNDERLINE),
            Event::End(TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link) => {
                inline.pop();
                shown.until = shown.until.max(end);
            }
            Event::Code(text) => shown.add(start, end, &text, &[&blocks[..], &[CYAN]].concat()),
            Event::Rule => shown.add(start, end, "────────", &[DIM]),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => {
                let opening = text.find(OPENING).filter(|_| !is_complete && inline.is_empty());
                let known = opening.unwrap_or(text.len());
                let end = if opening.is_some() { start + known } else { end };
                shown.add(start, end, &text[..known], &[&blocks[..], &inline].concat());
                if opening.is_some() {
                    break;
                }
            }
            _ => {}
        }
    }
    (shown.out, if is_complete { line.len() } else { shown.until })
}

/// The part of a line that was not shown before.
struct Shown {
    out: String,
    from: usize,
    until: usize,
}

impl Shown {
    /// Adds the text that the bytes from `start` to `end` of the line stand for.
    fn add(&mut self, start: usize, end: usize, text: &str, styles: &[&str]) {
        // Text that stands for itself may have been shown in part.
        let is_verbatim = end - start == text.len();
        let skipped = if is_verbatim { self.from.saturating_sub(start).min(text.len()) } else { 0 };
        if end <= self.from || skipped == text.len() {
            return;
        }
        let text = &text[skipped..];
        if styles.is_empty() {
            self.out.push_str(text);
        } else {
            self.out.extend([&styles.concat(), text, RESET]);
        }
        self.until = self.until.max(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the Markdown styled, with names for the styles, as it is shown whole and by single characters.
    fn styled(text: &str) -> String {
        let mut whole = Markdown::default();
        let whole = whole.push(text) + &whole.finish();
        let mut pieces = Markdown::default();
        let mut shown: String = text.chars().map(|c| pieces.push(&c.to_string())).collect();
        shown.push_str(&pieces.finish());
        assert_eq!(unstyled(&shown), unstyled(&whole), "{text:?}");
        named(&whole)
    }

    fn named(text: &str) -> String {
        let names = [
            (BOLD_UNDERLINE, "<h>"),
            (BOLD, "<b>"),
            (DIM, "<d>"),
            (ITALIC, "<i>"),
            (UNDERLINE, "<u>"),
            (STRIKETHROUGH, "<s>"),
            (CYAN, "<c>"),
            (RESET, "</>"),
        ];
        names.iter().fold(text.to_owned(), |text, (style, name)| text.replace(style, name))
    }

    fn unstyled(text: &str) -> String {
        [BOLD_UNDERLINE, BOLD, DIM, ITALIC, UNDERLINE, STRIKETHROUGH, CYAN, RESET]
            .iter()
            .fold(text.to_owned(), |text, style| text.replace(style, ""))
    }

    #[test]
    fn marks_become_styles() {
        let check = |text: &str, expected: &str| assert_eq!(styled(text), expected, "{text:?}");
        check("plain text", "plain text");
        check("a **bold** and *slanted* word", "a <b>bold</> and <i>slanted</> word");
        check("both ***at once***", "both <i><b>at once</>");
        check("call `f(x)` now", "call <c>f(x)</> now");
        check("see [the book](https://example.org) and ~~not~~ that", "see <u>the book</> and <s>not</> that");
        check("# Title\n\n### Part", "<h>Title</>\n\n<b>Part</>");
        check("- one\n- two **2**\n  - three", "• one\n• two <b>2</>\n  • three");
        check("3. three\n4. four", "3. three\n4. four");
        check("> said", "│ <d>said</>");
        check("---\n", "<d>────────</>\n");
        check("```rust\nlet a = **b;\n```\nend", "<d>```rust</>\n<c>let a = **b;</>\n<d>```</>\nend");
        check("~~~~\n~~~\n~~~~", "<d>~~~~</>\n<c>~~~</>\n<d>~~~~</>");
    }

    #[test]
    fn what_is_no_markdown_stays_as_it_is() {
        for text in [
            "2 * 3 ** 4",
            "snake_case_name",
            "a < b & c",
            "5",
            "1.5",
            "[1",
            "`open",
            "|a|b|\n|-|-|",
            "",
            "\n\n",
            "  in",
        ] {
            assert_eq!(styled(text), text, "{text:?}");
        }
    }

    #[test]
    fn text_is_shown_as_soon_as_its_style_is_known() {
        let mut markdown = Markdown::default();
        let mut check = |piece: &str, expected: &str| assert_eq!(named(&markdown.push(piece)), expected, "{piece:?}");
        check("Hello", "Hello");
        check(" there", " there");
        check(", **bo", ", ");
        check("ld**", "");
        check(" word", "<b>bold</> word");
        check(" 2 * 3", " 2 ");
        check("\n", "* 3\n");
        check("##", "");
        check(" T", "<h>T</>");
        check("itle\n", "<h>itle</>\n");
    }
}
