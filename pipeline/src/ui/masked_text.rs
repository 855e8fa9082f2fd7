//! Documents on a terminal or in plain text, with marks for what counts towards the loss.

use std::io::IsTerminal;

use artifact::format::grouped;
use tokenizer::shard::{MaskedDocument, SegmentKind};

use super::console::printable;

/// How learned text, other text and special tokens are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// By colours.
    Colours,
    /// By brackets.
    Brackets,
}

/// What a piece of a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Text { is_learned: bool },
    Special { is_learned: bool },
    Omitted,
}

impl Marks {
    /// Returns colours for a terminal that shows them, else brackets: <https://no-color.org>.
    pub fn of_stdout() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        if std::io::stdout().is_terminal() && !no_color && !is_dumb { Self::Colours } else { Self::Brackets }
    }

    /// Returns what the marks mean.
    pub fn legend(self) -> String {
        let parts = [
            (Style::Text { is_learned: true }, "learned text"),
            (Style::Text { is_learned: false }, "text that is only context"),
            (Style::Special { is_learned: false }, "special token"),
        ];
        let parts = parts.map(|(style, text)| self.line(&[(style, text.to_owned())]));
        format!("{}, ↵ line break", parts.join(", "))
    }

    /// Returns the lines of a document.
    pub fn lines(self, document: &MaskedDocument) -> Vec<String> {
        let mut lines: Vec<Vec<(Style, String)>> = vec![Vec::new()];
        for segment in &document.segments {
            let is_learned = segment.is_learned();
            let (style, text) = match segment.kind {
                SegmentKind::Text => (Style::Text { is_learned }, segment.text.clone()),
                SegmentKind::Special => (Style::Special { is_learned }, segment.text.clone()),
                SegmentKind::Omitted => {
                    let (tokens, learned) = (segment.range.len() as u64, segment.learned_tokens as u64);
                    (Style::Omitted, format!("… {} tokens left out, {} learned …", grouped(tokens), grouped(learned)))
                }
            };
            for (i, part) in printable(&text).split('\n').enumerate() {
                if i > 0 {
                    let line = lines.last_mut().expect("there is one from the start");
                    match line.last_mut() {
                        Some((last, text)) if *last == style => text.push('↵'),
                        _ => line.push((style, "↵".to_owned())),
                    }
                    lines.push(Vec::new());
                }
                if !part.is_empty() {
                    lines.last_mut().expect("there is one from the start").push((style, part.to_owned()));
                }
            }
        }
        if lines.last().is_some_and(Vec::is_empty) {
            lines.pop();
        }
        lines.iter().map(|line| self.line(line)).collect()
    }

    fn line(self, pieces: &[(Style, String)]) -> String {
        match self {
            Self::Colours => {
                pieces.iter().flat_map(|(style, text)| [style.colour(), text.as_str(), "\x1b[0m"]).collect()
            }
            Self::Brackets => {
                let mut line = String::new();
                let mut is_open = false;
                for (style, text) in pieces {
                    if style.is_learned() != is_open {
                        line.push(if is_open { '⟧' } else { '⟦' });
                        is_open = !is_open;
                    }
                    let (before, after) = match style {
                        Style::Text { .. } => ("", ""),
                        Style::Special { .. } => ("«", "»"),
                        Style::Omitted => ("[", "]"),
                    };
                    line.extend([before, text.as_str(), after]);
                }
                if is_open {
                    line.push('⟧');
                }
                line
            }
        }
    }
}

impl Style {
    fn is_learned(self) -> bool {
        matches!(self, Self::Text { is_learned: true } | Self::Special { is_learned: true })
    }

    /// Returns the escape sequence (ECMA-48, SGR): green and faint, special tokens inverse.
    fn colour(self) -> &'static str {
        match self {
            Self::Text { is_learned: true } => "\x1b[32m",
            Self::Text { is_learned: false } => "\x1b[2m",
            Self::Special { is_learned: true } => "\x1b[32;7m",
            Self::Special { is_learned: false } => "\x1b[2;7m",
            Self::Omitted => "\x1b[3m",
        }
    }
}

#[cfg(test)]
mod tests {
    use tokenizer::shard::Segment;

    use super::*;

    fn document() -> MaskedDocument {
        let mut at = 0;
        let mut segment = |kind, tokens: usize, is_learned: bool, text: &str| {
            let range = at..at + tokens;
            at += tokens;
            Segment { kind, range, learned_tokens: if is_learned { tokens } else { 0 }, text: text.to_owned() }
        };
        let segments = vec![
            segment(SegmentKind::Special, 1, false, "<s>"),
            segment(SegmentKind::Text, 3, false, "Why?\n\x1b[31m"),
            segment(SegmentKind::Omitted, 1200, false, ""),
            segment(SegmentKind::Text, 5, true, "So.\nAnd\n"),
            segment(SegmentKind::Special, 1, true, "</s>"),
            segment(SegmentKind::Text, 1, false, "\n"),
        ];
        MaskedDocument { index: 0, answer: None, tokens: at, learned_tokens: 6, segments }
    }

    #[test]
    fn brackets_enclose_learned_text_on_each_line() {
        let expected =
            ["«<s>»Why?↵", "\u{fffd}[31m[… 1,200 tokens left out, 0 learned …]⟦So.↵⟧", "⟦And↵⟧", "⟦«</s>»⟧↵"];
        assert_eq!(Marks::Brackets.lines(&document()), expected);
        let legend = "⟦learned text⟧, text that is only context, «special token», ↵ line break";
        assert_eq!(Marks::Brackets.legend(), legend);
    }

    #[test]
    fn colours_end_with_each_line() {
        let lines = Marks::Colours.lines(&document());
        assert_eq!(lines[0], "\x1b[2;7m<s>\x1b[0m\x1b[2mWhy?↵\x1b[0m");
        assert_eq!(lines[3], "\x1b[32;7m</s>\x1b[0m\x1b[2m↵\x1b[0m");
        assert!(lines.iter().all(|line| line.ends_with("\x1b[0m") && !line.contains("\x1b[31m")), "{lines:?}");
        let text = |line: &String| line.split('\x1b').map(|part| part.split_once('m').map_or(part, |p| p.1)).collect();
        let found: Vec<String> = lines.iter().map(text).collect();
        assert_eq!(found[2], "And↵");
    }
}
