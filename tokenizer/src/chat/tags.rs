//! The tags of a template, found as minijinja finds them, and what is rewritten before it compiles them.
//!
//! minijinja has hooks for filters, but none for assignments. So whatever a tag binds to a name goes through a filter
//! of [`super::values`], which limits how large and how deep values are, and keeps namespaces out of namespaces:
//! `{% set a.b = c %}` becomes `{% set a.b = (c)|_attribute %}`. So do products, which may be a list repeated 10^8
//! times. A tag that cannot be read is left as it is: minijinja refuses it too.

use std::ops::Range;

use minijinja::{Error, ErrorKind};

use super::marks::GENERATION_FILTER;
use super::values::{ATTRIBUTE_FILTER, VALUE_FILTER};

/// The tokens of one tag or expression. minijinja descends once for each of a chain, such as `- - 1` or `a.b.c`,
/// without a limit of its own. Heuristic: templates of published models have at most 100.
const MAX_TOKENS: usize = 1000;

/// The `{% elif %}` tags of a template, for each of which minijinja descends. Heuristic: published templates have at
/// most 20.
const MAX_BRANCHES: usize = 200;

/// A template as minijinja compiles it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rewritten {
    pub(super) source: String,
    /// Whether there are `{% generation %}` blocks, which become blocks of a filter.
    pub(super) marks_generation: bool,
}

/// Rewrites the tags of a template.
///
/// # Errors
/// Returns an error if a tag is too long, or there are too many branches.
pub(super) fn rewrite(source: &str) -> Result<Rewritten, Error> {
    let mut lexer = Lexer { source, at: 0, depth: 0 };
    let (mut edits, mut marks_generation, mut branches) = (Edits::default(), false, 0);
    while let Some(Tag { is_block, tokens, end }) = lexer.next_tag() {
        if tokens.len() > MAX_TOKENS {
            let problem = format!("a tag has more than {MAX_TOKENS} tokens");
            return Err(refused(source, tokens[0].start, &problem));
        }
        // Of a value that minijinja refuses.
        if tokens.iter().any(|token| token.depth < 0) {
            continue;
        }
        let text = |token: &Token| &source[token.start..token.end];
        for product in products(&tokens, is_block, text) {
            edits.filter(tokens[product.start].start, tokens[product.end - 1].end, VALUE_FILTER);
        }
        let (Some(name), true) = (tokens.first(), is_block) else { continue };
        let bound = match (text(name), tokens.len()) {
            ("generation" | "endgeneration", 1) => {
                let is_start = text(name) == "generation";
                let tag = if is_start { format!(" filter {GENERATION_FILTER} ") } else { " endfilter ".to_owned() };
                edits.0.push((name.start..name.end, tag));
                marks_generation = true;
                continue;
            }
            ("elif", _) => {
                branches += 1;
                if branches > MAX_BRANCHES {
                    let problem = format!("the template has more than {MAX_BRANCHES} elif tags");
                    return Err(refused(source, name.start, &problem));
                }
                continue;
            }
            ("set", _) => {
                let filter = |targets: &[Token]| {
                    let is_attribute = targets.iter().any(|token| text(token) == ".");
                    if is_attribute { ATTRIBUTE_FILTER } else { VALUE_FILTER }
                };
                let is_top = |symbol: &'static str| move |token: &Token| token.depth == 0 && text(token) == symbol;
                if let Some(equals) = tokens.iter().position(is_top("=")) {
                    edits.filter(tokens[equals].end, end, filter(&tokens[..equals]));
                } else {
                    // A block, possibly with filters.
                    let targets = tokens.iter().position(is_top("|")).unwrap_or(tokens.len());
                    edits.insert(end, format!("|{} ", filter(&tokens[..targets])));
                }
                continue;
            }
            ("for", _) => tokens[1..].iter().take_while(|token| text(token) != "in").collect(),
            ("with", _) => with_targets(&tokens[1..], text),
            ("macro", _) => parameters(&tokens[1..], text),
            ("call", _) if tokens.get(1).is_some_and(|token| text(token) == "(") => parameters(&tokens[1..], text),
            _ => continue,
        };
        let closing = &source[end..lexer.at];
        for name in bound.into_iter().map(text).filter(|name| name.starts_with(is_name_start)) {
            edits.insert(lexer.at, format!("{{% set {name} = {name}|{VALUE_FILTER} {closing}"));
        }
    }
    Ok(Rewritten { source: edits.apply(source), marks_generation })
}

/// What replaces parts of a source.
#[derive(Default)]
struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    fn insert(&mut self, at: usize, text: String) {
        self.0.push((at..at, text));
    }

    /// Passes an expression through a filter.
    fn filter(&mut self, start: usize, end: usize, filter: &str) {
        self.insert(start, " (".to_owned());
        self.insert(end, format!(")|{filter} "));
    }

    fn apply(mut self, source: &str) -> String {
        // Those at the same place stay in their order.
        self.0.sort_by_key(|(place, _)| place.start);
        let (mut edited, mut copied) = (String::with_capacity(source.len()), 0);
        for (place, text) in self.0 {
            edited += &source[copied..place.start];
            edited += &text;
            copied = place.end;
        }
        edited + &source[copied..]
    }
}

/// Returns the tokens of the products, which may be lists that are repeated: minijinja counts them as one.
fn products<'s>(tokens: &[Token], is_block: bool, text: impl Fn(&Token) -> &'s str) -> Vec<Range<usize>> {
    let text = |at: usize| tokens.get(at).map_or("", &text);
    let before = |at: usize| at.checked_sub(1).map_or("", text);
    let is_operator_name = |at: usize| {
        let is_name = matches!(text(at), "and" | "or" | "not" | "in" | "if" | "else" | "is" | "recursive");
        // `is` and `is not` are followed by the name of a test, a dot by that of an attribute.
        let follows_is = before(at) == "is" || before(at) == "not" && at >= 2 && before(at - 1) == "is";
        is_name && !follows_is && before(at) != "."
    };
    let ends_operand = |at: usize| {
        let is_word = text(at).starts_with(|c: char| c == '_' || c.is_ascii_alphanumeric() || "'\")]}".contains(c));
        is_word && !is_operator_name(at) && !(is_block && at == 0)
    };
    let is_boundary = |at: usize| match text(at) {
        "," | "=" | ":" | "~" | "==" | "!=" | "<" | "<=" | ">" | ">=" => true,
        "+" | "-" => at > 0 && ends_operand(at - 1),
        "is" => false,
        _ => is_operator_name(at) || is_block && at == 0,
    };
    let mut products: Vec<Range<usize>> = Vec::new();
    for star in (0..tokens.len()).filter(|at| text(*at) == "*") {
        let depth = tokens[star].depth;
        let is_inside = |at: &usize| tokens[*at].depth > depth || tokens[*at].depth == depth && !is_boundary(*at);
        let start = (0..star).rev().take_while(is_inside).last().unwrap_or(star);
        let end = (star..tokens.len()).take_while(is_inside).last().map_or(star, |last| last + 1);
        // Not `f(*a)`, and what is refused anyway.
        let is_known = products.last().is_some_and(|product| *product == (start..end));
        if start < star && end > star + 1 && !is_known && text(start) != "*" {
            products.push(start..end);
        }
    }
    products
}

/// Returns the names of `a = …, (b, c) = …`, and what stands between them.
fn with_targets<'t, 's>(tokens: &'t [Token], text: impl Fn(&Token) -> &'s str) -> Vec<&'t Token> {
    let assignments = tokens.split(|token| token.depth == 0 && text(token) == ",");
    let targets = assignments.filter_map(|tokens| {
        let equals = tokens.iter().position(|token| token.depth == 0 && text(token) == "=")?;
        Some(&tokens[..equals])
    });
    targets.flatten().collect()
}

/// Returns the names of the parameters in the first parentheses of a tag.
fn parameters<'t, 's>(tokens: &'t [Token], text: impl Fn(&Token) -> &'s str) -> Vec<&'t Token> {
    let inner = tokens.iter().skip_while(|token| token.depth == 0 && text(token) != "(").skip(1);
    let inner: Vec<&Token> = inner.take_while(|token| token.depth > 0).collect();
    let is_first = |i: usize| i == 0 || inner[i - 1].depth == 1 && text(inner[i - 1]) == ",";
    inner.iter().enumerate().filter(|(i, token)| token.depth == 1 && is_first(*i)).map(|(_, token)| *token).collect()
}

fn refused(source: &str, at: usize, problem: &str) -> Error {
    let line = source[..at].matches('\n').count() + 1;
    Error::new(ErrorKind::SyntaxError, format!("{problem} (line {line})"))
}

fn is_name_start(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

/// `{% … %}` or `{{ … }}`.
struct Tag {
    is_block: bool,
    tokens: Vec<Token>,
    /// Where `%}`, `-%}` or `+%}` begins.
    end: usize,
}

/// A name, number, string or symbol.
struct Token {
    start: usize,
    end: usize,
    /// The open brackets around it.
    depth: isize,
}

/// What minijinja's lexer does with its default delimiters.
struct Lexer<'s> {
    source: &'s str,
    at: usize,
    depth: isize,
}

impl Lexer<'_> {
    /// Returns the next tag, after which `at` is; `None` at the end, or where minijinja fails.
    fn next_tag(&mut self) -> Option<Tag> {
        loop {
            let start = self.at + self.source[self.at..].find('{')?;
            let kind = self.source.as_bytes().get(start + 1);
            self.at = start + 1;
            let Some(kind @ (b'{' | b'%' | b'#')) = kind else { continue };
            self.at = start + 2;
            if self.rest().starts_with(['-', '+']) {
                self.at += 1;
            }
            match kind {
                b'#' => self.at += self.rest().find("#}")? + 2,
                b'%' => {
                    let Some(raw) = basic_tag(self.rest(), "raw") else { return self.tag(true) };
                    self.at += raw;
                    self.skip_raw()?;
                }
                _ => return self.tag(false),
            }
        }
    }

    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    /// Skips `{% endraw %}` and what is before it.
    fn skip_raw(&mut self) -> Option<()> {
        loop {
            self.at += self.rest().find("{%")? + 2;
            let rest = self.rest();
            let inner = rest.strip_prefix(['-', '+']).unwrap_or(rest);
            if let Some(length) = basic_tag(inner, "endraw") {
                self.at += rest.len() - inner.len() + length;
                return Some(());
            }
        }
    }

    fn tag(&mut self, is_block: bool) -> Option<Tag> {
        let delimiter: &[u8] = if is_block { b"%}" } else { b"}}" };
        let bytes = self.source.as_bytes();
        let mut tokens = Vec::new();
        loop {
            let rest = &bytes[self.at..];
            let first = *rest.first()?;
            if first.is_ascii_whitespace() {
                self.at += 1;
                continue;
            }
            let sign = usize::from(matches!(first, b'-' | b'+'));
            if self.depth == 0 && rest[sign..].starts_with(delimiter) {
                let end = self.at;
                self.at += sign + delimiter.len();
                return Some(Tag { is_block, tokens, end });
            }
            let length = match first {
                b'\'' | b'"' => string_length(rest)?,
                b'=' | b'!' | b'<' | b'>' if rest.get(1) == Some(&b'=') => 2,
                b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                    rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
                }
                // minijinja refuses it.
                _ if !first.is_ascii() => return None,
                _ => 1,
            };
            if matches!(first, b')' | b']' | b'}') {
                self.depth -= 1;
            }
            tokens.push(Token { start: self.at, end: self.at + length, depth: self.depth });
            if matches!(first, b'(' | b'[' | b'{') {
                self.depth += 1;
            }
            self.at += length;
        }
    }
}

/// Returns the length of `name %}` at the start of `text`, if it is there.
fn basic_tag(text: &str, name: &str) -> Option<usize> {
    let is_space = |c: char| c.is_ascii_whitespace();
    let rest = text.trim_start_matches(is_space).strip_prefix(name)?.trim_start_matches(is_space);
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).strip_prefix("%}")?;
    Some(text.len() - rest.len())
}

/// Returns the length of a string literal with its quotes.
fn string_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'\\' => at += 2,
            byte if *byte == bytes[0] => return Some(at + 1),
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &str) {
        assert_eq!(rewrite(source).unwrap().source, expected, "{source}");
    }

    #[test]
    fn generation_blocks_become_filters_with_their_white_space_control() {
        let check = |source: &str, expected: &str| {
            let rewritten = rewrite(source).unwrap();
            assert_eq!((rewritten.source.as_str(), rewritten.marks_generation), (expected, expected != source));
        };
        check("a {% if x %}b{% endif %} {{ '{% generation' }}", "a {% if x %}b{% endif %} {{ '{% generation' }}");
        check("{% generation %}x{% endgeneration %}", "{%  filter _generation  %}x{%  endfilter  %}");
        check("{%- generation -%}x{%+ endgeneration %}", "{%-  filter _generation  -%}x{%+  endfilter  %}");
        check("{%generation%}", "{% filter _generation %}");
        check("{%}a{% generation", "{%}a{% generation");
    }

    #[test]
    fn what_is_assigned_goes_through_a_filter() {
        check("{% set a = b %}", "{% set a = ( b )|_value %}");
        check("{%- set a.b=c -%}", "{%- set a.b= (c )|_attribute -%}");
        check("{% set a, b.c = 1, [2] %}", "{% set a, b.c = ( 1, [2] )|_attribute %}");
        check("{% set a = b == 'c=d %}' %}", "{% set a = ( b == 'c=d %}' )|_value %}");
        check("{% set a %}b{% endset %}", "{% set a |_value %}b{% endset %}");
        check("{% set a.b | c(d=e) %}f{% endset %}", "{% set a.b | c(d=e) |_attribute %}f{% endset %}");
        check("{% set a = {'b': {}} %}", "{% set a = ( {'b': {}} )|_value %}");
    }

    #[test]
    fn products_go_through_a_filter() {
        check("{{ a * 2 }}", "{{  (a * 2)|_value  }}");
        check("{{ -a * -2 ~ b - c * d }}", "{{  (-a * -2)|_value  ~ b -  (c * d)|_value  }}");
        check("{{ f(a, b=[c] * d|e, **g) }}", "{{ f(a, b= ([c] * d|e)|_value , **g) }}");
        check("{{ f(*a) }}", "{{ f(*a) }}");
        check("{{ (a + b) * c(d * e) is not in f }}", "{{  ((a + b) * c( (d * e)|_value ) is not in f)|_value  }}");
        check("{% if a and b.in * 2 == 'c' %}", "{% if a and  (b.in * 2)|_value  == 'c' %}");
        check("{% if a * 2 %}", "{% if  (a * 2)|_value  %}");
        check(
            "{{ a[1:b * 2] if -a * b else [a * b] }}",
            "{{ a[1: (b * 2)|_value ] if  (-a * b)|_value  else [ (a * b)|_value ] }}",
        );
        check("{% set a = b * 2 %}", "{% set a = (  (b * 2)|_value  )|_value %}");
    }

    #[test]
    fn names_that_tags_bind_are_assigned_again() {
        let set = |name: &str, end: &str| format!("{{% set {name} = {name}|_value {end}");
        check("{% for a in b -%} c", &format!("{{% for a in b -%}}{} c", set("a", "-%}")));
        let sets = set("a", "%}") + &set("b", "%}");
        check("{% for (a, b) in c %}", &format!("{{% for (a, b) in c %}}{sets}"));
        check("{% macro m(a, b=[c, d], ) %}", &format!("{{% macro m(a, b=[c, d], ) %}}{sets}"));
        check("{% with a = f(c=d, e), (b) = 1 %}", &format!("{{% with a = f(c=d, e), (b) = 1 %}}{sets}"));
        check("{% call(a, b) m(c) %}", &format!("{{% call(a, b) m(c) %}}{sets}"));
        check("{% call m(a, b) %}", "{% call m(a, b) %}");
        check("{% macro m() %}", "{% macro m() %}");
    }

    #[test]
    fn what_is_no_tag_stays() {
        for source in [
            "{# {% set a = b %} #}",
            "{%- raw -%} {% set a = b %} {%- endraw %}",
            "{{ '{% set a = b %}' }}",
            "{{ {'a': {'b': 1}} }}",
            "{% set a = b) , (c %}",
            "{% set a = 'b %}",
            "{% set a = (b %}",
            "{%- é set a = b %}",
            "{",
        ] {
            check(source, source);
        }
        check("{{ {'a': {}} }}{% set a = b %}", "{{ {'a': {}} }}{% set a = ( b )|_value %}");
    }

    #[test]
    fn long_chains_are_refused() {
        let error = rewrite(&format!("a\n{{{{ {}1 }}}}", "-".repeat(2000))).unwrap_err().to_string();
        assert!(error.contains("more than 1000 tokens (line 2)"), "{error}");
        let error = rewrite(&"{% elif a %}".repeat(300)).unwrap_err().to_string();
        assert!(error.contains("more than 200 elif tags (line 1)"), "{error}");
    }
}
