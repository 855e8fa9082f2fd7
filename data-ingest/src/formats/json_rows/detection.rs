//! Which layout a file has, from its beginning.

use std::io::{self, Read};

use super::cursor::{CHUNK_BYTES, Cursor};
use super::outline::Node;
use super::{Layout, Wanted};

/// Levels of objects in which rows are looked for.
const MAX_DEPTH: usize = 4;

/// Finds the rows of a file from its beginning; `path` is where they are said to be. Returns the beginning, the layout
/// or several places that could be meant, and the error that ended the beginning, if there was one.
pub(crate) fn find(
    reader: &mut impl Read,
    path: Option<&[String]>,
    wanted: &Wanted<'_>,
    max_bytes: u64,
) -> (Vec<u8>, Result<Layout, String>, Option<io::Error>) {
    let mut head = Vec::new();
    let mut balance = Balance::default();
    let mut end = None;
    let mut failed = None;
    loop {
        let known = head.len();
        let read = reader.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut head);
        let is_all = !matches!(read, Ok(1..));
        failed = failed.or(read.err());
        let is_object = head.iter().find(|byte| !byte.is_ascii_whitespace()).is_none_or(|byte| *byte == b'{');
        end = end.or_else(|| balance.end(&head[known..]).map(|at| known + at));
        // Another object after the first shows that the first is a row.
        let has_next = end.is_some_and(|end| head[end..].iter().any(|byte| !byte.is_ascii_whitespace()));
        if is_all || has_next || !is_object || head.len() as u64 > max_bytes {
            let outline = Cursor::new(&head[..end.unwrap_or(head.len())]).outline(MAX_DEPTH);
            let layout = match path {
                Some(path) => Ok(said(&outline, path, wanted)),
                None if !is_object || (has_next && outline.score(wanted) > 0) => Ok(Layout::Objects),
                None => decide(&outline, wanted, !has_next),
            };
            return (head, layout, failed);
        }
    }
}

/// Returns the layout at a path that the user named.
fn said(outline: &Node, path: &[String], wanted: &Wanted<'_>) -> Layout {
    let node = path.iter().try_fold(outline, |node, key| match node {
        Node::Object(members) => members.iter().find(|(name, _)| name == key).map(|(_, node)| node),
        Node::Scalar | Node::Array { .. } => None,
    });
    let tables = node.map(|node| tables(node, path, wanted)).unwrap_or_default();
    tables.into_iter().max_by_key(|(score, _)| *score).map_or_else(|| Layout::At(path.to_vec()), |(_, layout)| layout)
}

/// Chooses the layout that has most of the columns that are asked for; of equal ones, the file's own object. `is_alone`
/// is false if other objects follow.
fn decide(outline: &Node, wanted: &Wanted<'_>, is_alone: bool) -> Result<Layout, String> {
    let own = outline.score(wanted);
    let mut found = tables(outline, &[], wanted);
    candidates(outline, &mut Vec::new(), wanted, &mut found);
    let best = found.iter().map(|(score, _)| *score).max().unwrap_or(0);
    let is_table = |layout: &Layout| matches!(layout, Layout::Columns(path) | Layout::Split(path) if path.is_empty());
    let mut chosen: Vec<&Layout> = found.iter().filter(|(score, _)| *score == best).map(|(_, layout)| layout).collect();
    if let Some(table) = chosen.iter().find(|layout| best > 0 && is_table(layout)) {
        return Ok((*table).clone());
    }
    if own > 0 && own >= best {
        return Ok(Layout::Objects);
    }
    match (chosen.pop(), &chosen[..]) {
        (Some(only), []) if best > 0 || is_alone => Ok(only.clone()),
        (Some(last), others) if best > 0 => {
            let all = others.iter().copied().chain([last]);
            let places: Vec<String> = all.filter_map(Layout::described).collect();
            Err(places.join(", or "))
        }
        _ => Ok(Layout::Objects),
    }
}

/// Returns the layouts of an object as a table of columns or of values.
fn tables(node: &Node, path: &[String], wanted: &Wanted<'_>) -> Vec<(usize, Layout)> {
    let Node::Object(members) = node else { return Vec::new() };
    let mut found = Vec::new();
    let member = |key: &str| members.iter().find(|(name, _)| name == key).map(|(_, node)| node);
    if let (Some(Node::Array { texts, .. }), Some(Node::Array { first: Some(first), .. })) =
        (member("columns"), member("data"))
        && matches!(**first, Node::Array { .. })
    {
        let score = wanted.content.iter().filter(|name| texts.iter().any(|text| text == **name)).count();
        found.push((score, Layout::Split(path.to_vec())));
    }
    let score = node.score(wanted);
    let is_column = |node: &Node| match node {
        // A list of objects is one value, such as a conversation.
        Node::Array { first, .. } => !matches!(first.as_deref(), None | Some(Node::Object(_))),
        Node::Object(members) => !members.is_empty(),
        Node::Scalar => false,
    };
    let has_equal_lengths = members.windows(2).all(|pair| match (&pair[0].1, &pair[1].1) {
        (Node::Array { count: a, .. }, Node::Array { count: b, .. }) => a == b,
        (Node::Object(a), Node::Object(b)) => a.iter().map(|(key, _)| key).eq(b.iter().map(|(key, _)| key)),
        _ => false,
    });
    if score > 0 && has_equal_lengths && members.iter().all(|(_, node)| is_column(node)) {
        found.push((score, Layout::Columns(path.to_vec())));
    }
    let are_objects = members.iter().all(|(_, node)| matches!(node, Node::Object(_)));
    let score = members.first().map_or(0, |(_, first)| first.score(wanted));
    // A table inside an object is not its row.
    let is_row = |node: &Node| tables(node, &[], wanted).is_empty();
    if are_objects && score > 0 && members.first().is_some_and(|(_, first)| is_row(first)) {
        found.push((score, Layout::Values(path.to_vec())));
    }
    found
}

/// Adds the layouts inside an object.
fn candidates(node: &Node, path: &mut Vec<String>, wanted: &Wanted<'_>, found: &mut Vec<(usize, Layout)>) {
    let Node::Object(members) = node else { return };
    // The values of an object of rows are rows, not places of rows.
    if found.iter().any(|(_, layout)| matches!(layout, Layout::Values(at) if at == path)) {
        return;
    }
    for (key, child) in members {
        path.push(key.clone());
        match child {
            Node::Array { first: Some(first), .. } if matches!(**first, Node::Object(_)) => {
                found.push((first.score(wanted), Layout::At(path.clone())));
            }
            Node::Object(_) => {
                found.extend(tables(child, path, wanted));
                candidates(child, path, wanted, found);
            }
            Node::Array { .. } | Node::Scalar => {}
        }
        path.pop();
    }
}

/// Finds the end of an object.
#[derive(Default)]
struct Balance {
    depth: u64,
    is_text: bool,
    is_escaped: bool,
}

impl Balance {
    /// Returns the end of the first value with brackets, if it is in these bytes, which follow those before.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.is_text => self.is_escaped = true,
                b'"' => self.is_text = !self.is_text,
                b'{' | b'[' if !self.is_text => self.depth += 1,
                b'}' | b']' if !self.is_text => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}
