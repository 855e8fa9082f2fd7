//! Syntax check of generated code: the fraction of samples that tree-sitter parses without an error.
//!
//! A sample parses if its tree has neither ERROR nor MISSING nodes and holds anything but comments. Most samples are
//! cut off by the token limit in the middle of a statement, which says nothing about the model. Therefore:
//!
//! 1. A sample that ended by itself is parsed as it stands.
//! 2. A truncated sample is completed: an open comment or string, the open brackets and the last statement are closed.
//! 3. If that does not parse, its end is removed, at most a quarter of the sample, and the rest is completed. Cuts are
//!    tried at line ends and after `;`, `,`, `{` and `}`, where the innermost open bracket is a block's (in Python,
//!    none is open), up to [`MAX_CUTS`] of them from the last one back. A bracket that closes one that is not open is
//!    an error at once.
//! 4. A truncated sample of which rules 2 and 3 leave only comments, documentation strings and attributes counts
//!    neither way.
//!
//! The report also gives the fraction that parses without rules 2 and 3. The grammars are those of editors: they accept
//! more than compilers do, such as statements at the top level of a Rust file.
//!
//! Measured on 400 Rust, 300 C, 400 Python and 132 JavaScript files of cargo's registry and of a Linux system, each cut
//! at six lengths from 400 to 885 bytes: of those with code, 98 %, 96 %, 99 % and 99 % parse. With one bracket, `;` or
//! `:` deleted in their middle such that the whole file has an error: 4 %, 12 %, 7 % and 6 %.

use schemars::JsonSchema;
use serde::Serialize;
use tree_sitter::{Node, Parser, Tree};

use crate::config::Language;

/// How many cuts are tried. Measured on the files above: with 3, C loses 2 % of valid samples; with 8, a fifth more of
/// the invalid ones pass.
const MAX_CUTS: usize = 5;

/// The result for one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SyntaxCheck {
    /// True if the sample parses as it stands.
    pub(crate) parses_uncut: bool,
    pub(crate) verdict: Verdict,
    /// Bytes of the sample that parse by the rules above; all if none do.
    pub(crate) kept_bytes: usize,
}

/// The verdict on a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Parses,
    DoesNotParse,
    /// Truncated before any code.
    OnlyComments,
}

/// Checks samples, each with its prompt and whether it ended by itself; none for [`Language::None`].
pub(crate) fn check_all(language: Language, samples: &[(String, bool)]) -> Vec<SyntaxCheck> {
    let Some(mut grammar) = Grammar::of(language) else { return Vec::new() };
    samples.iter().map(|(text, ended)| grammar.check(text, *ended)).collect()
}

/// A language's parser, and how to complete truncated samples.
struct Grammar {
    parser: Parser,
    /// Ends of block comments and strings.
    literal_ends: &'static [&'static str],
    /// Whether `{` opens a block.
    has_blocks: bool,
}

/// A place to cut a truncated sample.
struct Cut {
    end: usize,
    /// The brackets that are open there, from the outermost.
    open: Vec<Bracket>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Round,
    Square,
    Brace,
    /// `#if` of the C preprocessor.
    If,
}

impl Grammar {
    fn of(language: Language) -> Option<Self> {
        let (grammar, literal_ends, has_blocks): (_, &[&str], _) = match language {
            Language::None => return None,
            Language::Rust => (tree_sitter_rust::LANGUAGE, &["*/", "\""], true),
            Language::Python => (tree_sitter_python::LANGUAGE, &["\"\"\"", "'''"], false),
            Language::JavaScript => (tree_sitter_javascript::LANGUAGE, &["*/", "`", "\"", "'"], true),
            Language::C => (tree_sitter_c::LANGUAGE, &["*/", "\""], true),
            Language::Go => (tree_sitter_go::LANGUAGE, &["*/", "`", "\"", "'"], true),
        };
        let mut parser = Parser::new();
        parser.set_language(&grammar.into()).expect("the grammars' versions match tree-sitter's");
        Some(Self { parser, literal_ends, has_blocks })
    }

    fn check(&mut self, text: &str, ended: bool) -> SyntaxCheck {
        let tree = self.parse(text);
        let content = Content::of(&tree);
        let parses_uncut = content == Content::Code;
        let result = |verdict, kept_bytes| SyntaxCheck { parses_uncut, verdict, kept_bytes };
        if parses_uncut {
            return result(Verdict::Parses, text.len());
        }
        if ended {
            return result(Verdict::DoesNotParse, text.len());
        }
        for literal_end in ["\n"].iter().chain(self.literal_ends) {
            let candidate = format!("{text}{literal_end}");
            let open = open_at_end(&self.parse(&candidate));
            match self.complete(&candidate, &open) {
                Content::Code => return result(Verdict::Parses, text.len()),
                Content::OnlyComments => return result(Verdict::OnlyComments, text.len()),
                Content::Invalid => {}
            }
        }
        for cut in self.cuts(&tree).iter().rev().take(MAX_CUTS).filter(|cut| cut.end * 4 >= text.len() * 3) {
            match self.complete(&format!("{}\n", &text[..cut.end]), &cut.open) {
                Content::Code => return result(Verdict::Parses, cut.end),
                Content::OnlyComments => return result(Verdict::OnlyComments, text.len()),
                Content::Invalid => {}
            }
        }
        result(Verdict::DoesNotParse, text.len())
    }

    /// Closes the open brackets, with and without ending the statements that they are part of.
    fn complete(&mut self, text: &str, open: &[Bracket]) -> Content {
        let candidates = ["", ";"].map(|statement_end| format!("{text}{}", closing(open, statement_end)));
        let contents = candidates.map(|candidate| Content::of(&self.parse(&candidate)));
        contents.into_iter().find(|content| *content != Content::Invalid).unwrap_or(Content::Invalid)
    }

    fn parse(&mut self, text: &str) -> Tree {
        self.parser.parse(text, None).expect("a language is set and nothing cancels")
    }

    /// Returns the places to cut a text, in order; none if it closes a bracket that is not open.
    fn cuts(&self, tree: &Tree) -> Vec<Cut> {
        let mut cuts: Vec<Cut> = Vec::new();
        let mut open = Vec::new();
        let (mut previous_row, mut previous_end) = (0, 0);
        for leaf in leaves(tree) {
            // By rows, because a line comment may include the line's end.
            if leaf.start_position().row > previous_row && self.is_in_block(&open) {
                cuts.push(Cut { end: previous_end, open: open.clone() });
            }
            if !follow_brackets(&mut open, leaf) {
                return Vec::new();
            }
            (previous_row, previous_end) = (leaf.start_position().row, leaf.end_byte());
            if self.has_blocks && matches!(leaf.kind(), ";" | "," | "{" | "}") && self.is_in_block(&open) {
                cuts.push(Cut { end: previous_end, open: open.clone() });
            }
        }
        cuts.dedup_by_key(|cut| cut.end);
        cuts
    }

    /// Returns true if the innermost open bracket is a block's.
    fn is_in_block(&self, open: &[Bracket]) -> bool {
        open.last().is_none_or(|bracket| self.has_blocks && is_block(*bracket))
    }
}

fn is_block(bracket: Bracket) -> bool {
    matches!(bracket, Bracket::Brace | Bracket::If)
}

/// What an error-free text holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Invalid,
    OnlyComments,
    Code,
}

impl Content {
    fn of(tree: &Tree) -> Self {
        let root = tree.root_node();
        // MISSING nodes count as errors.
        if root.has_error() {
            return Self::Invalid;
        }
        let mut cursor = root.walk();
        if root.named_children(&mut cursor).all(is_comment) { Self::OnlyComments } else { Self::Code }
    }
}

/// Returns true for comments, attributes and documentation strings.
fn is_comment(node: Node<'_>) -> bool {
    let is_docstring =
        || node.named_child_count() == 1 && node.named_child(0).is_some_and(|child| child.kind() == "string");
    match node.kind() {
        "attribute_item" | "inner_attribute_item" => true,
        "expression_statement" => is_docstring(),
        _ => node.is_extra(),
    }
}

/// Returns the tokens of a tree in the order of the text.
fn leaves(tree: &Tree) -> Vec<Node<'_>> {
    let mut leaves = Vec::new();
    let mut cursor = tree.walk();
    loop {
        if cursor.goto_first_child() {
            continue;
        }
        leaves.push(cursor.node());
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return leaves;
            }
        }
    }
}

/// Opens or closes a bracket; returns false if the bracket that it closes is not open.
fn follow_brackets(open: &mut Vec<Bracket>, leaf: Node<'_>) -> bool {
    let bracket = match leaf.kind() {
        _ if leaf.is_missing() => return true,
        "(" | ")" => Bracket::Round,
        "[" | "]" => Bracket::Square,
        "{" | "${" | "}" => Bracket::Brace,
        "#if" | "#ifdef" | "#ifndef" | "#endif" => Bracket::If,
        _ => return true,
    };
    if matches!(leaf.kind(), ")" | "]" | "}" | "#endif") {
        return open.pop() == Some(bracket);
    }
    open.push(bracket);
    true
}

/// Returns the brackets that are open at the end of a text, from the outermost.
fn open_at_end(tree: &Tree) -> Vec<Bracket> {
    let mut open = Vec::new();
    let is_balanced = leaves(tree).into_iter().all(|leaf| follow_brackets(&mut open, leaf));
    if is_balanced { open } else { Vec::new() }
}

/// Returns the text that closes `open`; each bracket inside a block is followed by `statement_end`.
fn closing(open: &[Bracket], statement_end: &str) -> String {
    let mut text = String::new();
    for (depth, bracket) in open.iter().enumerate().rev() {
        text += match bracket {
            Bracket::Round => ")",
            Bracket::Square => "]",
            Bracket::Brace => "}",
            Bracket::If => "\n#endif\n",
        };
        if open[..depth].last().is_none_or(|outer| is_block(*outer)) {
            text += statement_end;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a truncated sample; `expected` is the text that is kept, none if it does not parse.
    #[track_caller]
    fn check_truncated(language: Language, text: &str, expected: Option<&str>) {
        let found = check_all(language, &[(text.to_owned(), false)])[0];
        let kept = (found.verdict == Verdict::Parses).then(|| &text[..found.kept_bytes]);
        assert_eq!(kept, expected, "{text:?} {found:?}");
    }

    #[test]
    fn truncated_rust_is_completed_or_cut() {
        let check = |text, expected| check_truncated(Language::Rust, text, expected);
        let whole = |text| check(text, Some(text));
        whole("fn main() {}");
        whole("fn main() { if x {");
        whole("use a::b; use c::{d, e");
        whole("struct A { a: u8, b: [u8; 4");
        whole("fn f() { let s = \"{;}\"; let c = '{'; h('}', \"open");
        whole("fn f<'a>(x: &'a str) { g(x); // {");
        whole("fn f() { spawn(move || { g();");
        whole("/* { */ const A: &str = r#\"{\"{\"#; /* open");
        check("fn main() { let x = 1; f(x); let y = ", Some("fn main() { let x = 1; f(x);"));
        check("struct A { first: u8, second: u8, third", Some("struct A { first: u8, second: u8,"));
        check("fn ж() { let ё = 'ж'; г(.", Some("fn ж() { let ё = 'ж';"));
        check("the model writes prose; not Rust", None);
        check("fn main() } {", None);
        check("fn main() { g(] ; }", None);
        check("fn fn fn { ; ; }", None);
        check("let x = \"\\", None);
        // More than a quarter of it would be removed.
        check("fn f() { g(); let let let let let let = 1; let", None);
    }

    #[test]
    fn other_languages_are_completed_or_cut() {
        let check = check_truncated;
        check(Language::Python, "def f(x):\n    return g(x, [1, 2", Some("def f(x):\n    return g(x, [1, 2"));
        check(Language::Python, "def f(x):\n    \"\"\"Returns", Some("def f(x):\n    \"\"\"Returns"));
        check(
            Language::Python,
            "def f(x):\n    y = x\n    return y\n\nif x",
            Some("def f(x):\n    y = x\n    return y"),
        );
        check(Language::Python, "def f(x:\n    return x\n    y = 1\n", None);
        check(Language::JavaScript, "f(() => {\n  g(`a ${b} c", Some("f(() => {\n  g(`a ${b} c"));
        check(Language::JavaScript, "const a = {b: 1,\n  c: [2, ", Some("const a = {b: 1,\n  c: [2, "));
        check(Language::JavaScript, "function f( { return } }", None);
        check(Language::C, "#ifndef A\n#define A\nint f(void) {\n  g(1, ", Some("#ifndef A\n#define A\nint f(void) {"));
        check(
            Language::C,
            "#include <stdio.h>\n#include <stdint.h>\n#include",
            Some("#include <stdio.h>\n#include <stdint.h>"),
        );
        check(Language::C, "static const int a[] = {1, 2, 3", Some("static const int a[] = {1, 2, 3"));
        check(Language::C, "int f(void) { return 1 }", None);
        check(
            Language::Go,
            "package a\n\nfunc f() {\n\tx := []int{1, 2",
            Some("package a\n\nfunc f() {\n\tx := []int{1, 2"),
        );
        check(Language::Go, "package a\n\nfunc f( {\n\treturn )\n", None);
    }

    #[test]
    fn samples_that_ended_are_parsed_as_they_stand() {
        let check = |text: &str, ended: bool, parses_uncut: bool, verdict: Verdict, kept_bytes: usize| {
            let found = check_all(Language::Rust, &[(text.to_owned(), ended)])[0];
            assert_eq!(found, SyntaxCheck { parses_uncut, verdict, kept_bytes }, "{text:?}");
        };
        check("fn main() {}", true, true, Verdict::Parses, 12);
        check("fn main() { let x = 1; let", true, false, Verdict::DoesNotParse, 26);
        check("fn main() { let x = 1; let", false, false, Verdict::Parses, 22);
        check("//! Words.", true, false, Verdict::DoesNotParse, 10);
        check("//! Words.", false, false, Verdict::OnlyComments, 10);
    }

    #[test]
    fn truncated_comments_count_neither_way() {
        let check = |language: Language, text: &str, expected: Verdict| {
            assert_eq!(check_all(language, &[(text.to_owned(), false)])[0].verdict, expected, "{text:?}");
        };
        check(Language::Rust, "", Verdict::OnlyComments);
        check(Language::Rust, "/// Returns the", Verdict::OnlyComments);
        check(Language::Rust, "// { ; }\n\n/* fn */ /* open", Verdict::OnlyComments);
        check(Language::Rust, "#![allow(x)]\n#[cfg(any(a, b))]\n//! More", Verdict::OnlyComments);
        check(Language::Rust, "/// Returns the sum of all numbers.\npub f", Verdict::OnlyComments);
        check(Language::Rust, "/// Returns\npub f f f f", Verdict::DoesNotParse);
        check(Language::Rust, "# A title", Verdict::DoesNotParse);
        check(Language::Rust, "[link](there)", Verdict::DoesNotParse);
        check(Language::Python, "# A comment\n\"\"\"Documentation", Verdict::OnlyComments);
        check(Language::C, "/*\n * Copyright", Verdict::OnlyComments);
        check(Language::Go, "// Package a", Verdict::OnlyComments);
        assert!(check_all(Language::None, &[("fn".to_owned(), true)]).is_empty());
    }

    #[test]
    fn deep_nesting_is_no_problem() {
        let length = 1 << 14;
        for level in ["(", "[", "{", "<", "&", "!", "- ", "A<", "return ", "|a", "if a {} else ", "*const ", "a = "] {
            let text = format!("fn f() {{ {}", level.repeat(length / level.len()));
            assert!(!check_all(Language::Rust, &[(text, true)])[0].parses_uncut, "{level}");
        }
        let nested = format!("fn f() {{ {}{} }}", "{".repeat(50), "}".repeat(50));
        assert!(check_all(Language::Rust, &[(nested, true)])[0].parses_uncut);
    }
}
