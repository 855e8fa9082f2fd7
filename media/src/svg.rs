//! SVG: what is refused, and its size.
//!
//! A picture must be the same everywhere and must not reach outside itself, so what needs fonts, other files or a
//! program is an error, as is what would be left out when it is painted. References multiply elements, also without
//! entities (a `use` of a group of `use`s), so the elements that would be painted are counted before.

mod paint;

use std::collections::HashMap;
use std::fmt::Display;

use usvg::roxmltree::{Document, Node, NodeType, ParsingOptions};
use usvg::{ImageHrefResolver, Options, Tree};

use crate::{Error, Kind, Picture};

/// The most nodes of a file. Heuristic, not measured: a hundred times what an icon has.
const MAX_NODES: u32 = 200_000;
/// The most elements that are painted, counted through references. Heuristic, not measured.
const MAX_PAINTED: u64 = 200_000;
/// The most elements inside each other, which the parsers recurse into. Heuristic, not measured.
const MAX_DEPTH: u32 = 64;
/// The largest side that is painted, in pixels.
const MAX_SIDE: u32 = 1024;

/// Returns the width and height of an SVG, rounded up.
pub(crate) fn size(bytes: &[u8]) -> Result<(u32, u32), Error> {
    let size = tree(bytes)?.size();
    Ok((size.width().ceil() as u32, size.height().ceil() as u32))
}

/// Paints an SVG so that its longer side has `side` pixels, on white.
pub(crate) fn paint(bytes: &[u8], side: u32) -> Result<Picture, Error> {
    paint::picture(&tree(bytes)?, side.clamp(1, MAX_SIDE))
}

fn damaged(error: impl Display) -> Error {
    Error::damaged(Kind::Svg, error)
}

fn hostile(what: impl Into<String>) -> Error {
    Error::Hostile { kind: Kind::Svg, what: what.into() }
}

/// Parses an SVG in which nothing is refused.
fn tree(bytes: &[u8]) -> Result<Tree, Error> {
    let text = std::str::from_utf8(bytes).map_err(damaged)?;
    if text.contains("<!ENTITY") {
        return Err(hostile("it declares entities"));
    }
    // Programs for drawing write the declaration of a document type, which is ignored.
    let options = ParsingOptions { allow_dtd: true, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).map_err(damaged)?;
    check(&document)?;
    let nothing = ImageHrefResolver { resolve_data: Box::new(|_, _, _| None), resolve_string: Box::new(|_, _| None) };
    let options = Options { image_href_resolver: nothing, ..Options::default() };
    Tree::from_xmltree(&document, &options).map_err(damaged)
}

/// Returns an error if something in the document is refused.
fn check(document: &Document<'_>) -> Result<(), Error> {
    let mut depths: Vec<u32> = vec![0; document.descendants().count()];
    for node in document.descendants() {
        if let NodeType::PI = node.node_type()
            && node.pi().is_some_and(|pi| pi.target == "xml-stylesheet")
        {
            return Err(hostile("it loads a style sheet"));
        }
        if !node.is_element() {
            continue;
        }
        let above = node.parent().map_or(0, |parent| depths[parent.id().get_usize()]);
        depths[node.id().get_usize()] = above + 1;
        if above + 1 > MAX_DEPTH {
            return Err(hostile(format!("its elements are nested deeper than {MAX_DEPTH}")));
        }
        check_element(node)?;
    }
    let mut painted = Painted { by_id: HashMap::new(), counts: HashMap::new() };
    painted.by_id = document.descendants().filter_map(|node| Some((node.attribute("id")?, node))).collect();
    let count = painted.count(document.root_element(), 0)?;
    if count > MAX_PAINTED {
        return Err(hostile(format!("its references multiply its elements to more than {MAX_PAINTED}")));
    }
    Ok(())
}

fn check_element(node: Node<'_, '_>) -> Result<(), Error> {
    let unsupported = |what| Err(Error::Unsupported { kind: Kind::Svg, what });
    let name = node.tag_name().name();
    match name {
        "script" | "iframe" | "object" | "embed" | "handler" => return Err(hostile(format!("it has a `{name}`"))),
        "text" => return unsupported("text, which needs fonts; convert it to paths"),
        "image" | "feImage" => {
            let href = node.attributes().find(|attribute| attribute.name() == "href").map(|href| href.value().trim());
            if href.is_some_and(|href| !href.starts_with("data:")) {
                return Err(hostile("it refers to another file"));
            }
            return unsupported("an embedded picture of pixels, which is not painted");
        }
        "filter" => return unsupported("a filter, which is not painted"),
        "style" => check_style(node.text().unwrap_or_default())?,
        _ => {}
    }
    for attribute in node.attributes() {
        let value = attribute.value().trim();
        match attribute.name() {
            // A link is followed by a click, which nothing here does.
            "href" if name != "a" && !value.starts_with('#') && !value.is_empty() => {
                return Err(hostile("it refers to another file"));
            }
            handler if handler.len() > 2 && handler[..2].eq_ignore_ascii_case("on") => {
                return Err(hostile(format!("it has a program in `{handler}`")));
            }
            _ => check_style(value)?,
        }
    }
    Ok(())
}

/// Returns an error if a style, or any other value, loads something.
fn check_style(style: &str) -> Result<(), Error> {
    let is_external = |rest: &str| !rest.trim_start().trim_start_matches(['\'', '"']).starts_with('#');
    if style.contains("@import") || style.split("url(").skip(1).any(is_external) {
        return Err(hostile("its style loads something"));
    }
    Ok(())
}

/// Counts elements as often as they are painted.
struct Painted<'a, 'input> {
    by_id: HashMap<&'a str, Node<'a, 'input>>,
    /// The count of each element; none while it is being counted.
    counts: HashMap<usize, Option<u64>>,
}

impl<'a, 'input> Painted<'a, 'input> {
    /// Returns how many elements painting `node` paints. Those in what its attributes refer to (a pattern, a mask)
    /// count for each of its elements, which may inherit the attribute.
    fn count(&mut self, node: Node<'a, 'input>, depth: u32) -> Result<u64, Error> {
        let key = node.id().get_usize();
        match self.counts.get(&key) {
            Some(Some(count)) => return Ok(*count),
            Some(None) => return Err(hostile("an element refers to itself")),
            None if depth > 8 * MAX_DEPTH => return Err(hostile("its references are nested too deeply")),
            None => {}
        }
        self.counts.insert(key, None);
        let mut own: u64 = 1;
        for child in node.children().filter(Node::is_element) {
            own = own.saturating_add(self.count(child, depth + 1)?);
        }
        let mut referred: u64 = 1;
        let targets: Vec<_> = references(node).filter_map(|id| self.by_id.get(id).copied()).collect();
        for target in targets {
            // A gradient is painted as fast as a colour.
            if !target.tag_name().name().ends_with("Gradient") {
                referred = referred.saturating_add(self.count(target, depth + 1)?);
            }
        }
        // A marker is painted at every corner of a path; two characters are needed for one.
        let corners = node.attribute("d").or_else(|| node.attribute("points")).map_or(0, |path| path.len() as u64 / 2);
        let is_marked = node.attributes().any(|attribute| attribute.name().starts_with("marker"));
        let times = if is_marked { referred.saturating_mul(corners.max(1)) } else { referred };
        let count = own.saturating_mul(times);
        self.counts.insert(key, Some(count));
        Ok(count)
    }
}

/// Returns the identifiers that an element refers to.
fn references<'a>(node: Node<'a, '_>) -> impl Iterator<Item = &'a str> {
    let of = |attribute: usvg::roxmltree::Attribute<'a, '_>| {
        let value = attribute.value();
        let whole = (attribute.name() == "href").then(|| value.trim().strip_prefix('#')).flatten();
        let in_style = value.split("url(").skip(1).filter_map(|rest| {
            let rest = rest.trim_start().trim_start_matches(['\'', '"']).strip_prefix('#')?;
            rest.split(['\'', '"', ')']).next().map(str::trim_end)
        });
        whole.into_iter().chain(in_style).collect::<Vec<_>>()
    };
    node.attributes().flat_map(of)
}
