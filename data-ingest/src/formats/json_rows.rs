//! Where the rows of a JSON file are: an array of objects or objects one after another, an array inside an object,
//! columns of equal length, or one of the shapes that pandas writes. Only strings and nesting are scanned here; values
//! are parsed later, so that a large array is read in pieces.

use std::collections::HashMap;
use std::io::{self, Read};

use crate::formats::json::{JsonPiece, Records, objects};

/// Levels of objects in which rows are looked for.
const MAX_DEPTH: usize = 4;
/// Keys of an object that are looked at to find rows.
const MAX_KEYS: usize = 1000;
/// Nesting of arrays on the way to rows; deeper values are skipped.
const MAX_NESTING: usize = 64;
/// Bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Where rows are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Objects in an array, or one after another.
    Objects,
    /// Objects in an array, or one object, at a path; arrays on the way are walked through.
    At(Vec<String>),
    /// The values of an object, as pandas writes with `orient="index"`.
    Values(Vec<String>),
    /// Columns: an object of arrays, or of objects with the same keys, as pandas writes by default.
    Columns(Vec<String>),
    /// Names in `columns` and rows in `data`, as pandas writes with `orient="split"`.
    Split(Vec<String>),
}

/// The columns that are asked for.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// The columns of the content.
    pub content: Vec<&'a str>,
    /// All columns.
    pub all: Vec<&'a str>,
}

/// Parses a path: keys separated by dots; a key with dots or quotes is quoted as in JSON.
pub(crate) fn parse_path(text: &str) -> Result<Vec<String>, String> {
    let mut keys = Vec::new();
    let mut rest = text;
    loop {
        let (key, after) = if rest.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            let key = values.next().and_then(Result::ok).ok_or("a quote is not closed")?;
            (key, &rest[values.byte_offset()..])
        } else {
            let (key, after) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
            (key.to_owned(), after)
        };
        if key.is_empty() {
            return Err("a key is empty; keys are separated by dots: `data.items`".to_owned());
        }
        keys.push(key);
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(keys),
            None => return Err("a dot must follow a quoted key".to_owned()),
        }
    }
}

/// Returns a path as [`parse_path`] reads it.
fn written(path: &[String]) -> String {
    let quote = |key: &String| {
        let is_plain = !key.is_empty() && !key.contains(['.', '"', '\n']);
        if is_plain { key.clone() } else { serde_json::Value::from(key.as_str()).to_string() }
    };
    path.iter().map(quote).collect::<Vec<_>>().join(".")
}

impl Layout {
    /// Describes where the rows are; none if that is obvious.
    pub fn described(&self) -> Option<String> {
        let at = |path: &[String]| if path.is_empty() { String::new() } else { format!(" at `{}`", written(path)) };
        match self {
            Self::Objects => None,
            Self::At(path) => Some(format!("the objects{}", at(path))),
            Self::Values(path) => Some(format!("the values of the object{}", at(path))),
            Self::Columns(path) => Some(format!("the columns of the object{}", at(path))),
            Self::Split(path) => Some(format!("`data` with the names in `columns`{}", at(path))),
        }
    }

    /// Splits a file into rows; none longer than `max_bytes` is kept.
    pub fn rows<E: From<io::Error>>(
        &self,
        reader: impl Read,
        wanted: &Wanted<'_>,
        max_bytes: u64,
        mut emit: impl FnMut(JsonPiece) -> Result<(), E>,
    ) -> Result<(), E> {
        let (Self::At(path) | Self::Values(path) | Self::Columns(path) | Self::Split(path)) = self else {
            return objects(reader, max_bytes, emit);
        };
        let mut number = 0;
        let mut cursor = Cursor::new(reader);
        let mut give = |row: Row| {
            number += 1;
            emit(match row {
                Row::Object(bytes) => JsonPiece::Records(Records { first: number, bytes }),
                Row::TooLong => JsonPiece::TooLong(number),
                Row::Other => JsonPiece::NoObject(number),
            })
            .map_err(Stop::Caller)
        };
        let read = loop {
            match cursor.token() {
                Err(error) => break Err(error.into()),
                Ok(None) => break Ok(()),
                Ok(Some(b',')) => {
                    cursor.at += 1;
                    continue;
                }
                Ok(Some(_)) => {}
            }
            let walked = cursor.walk(path, MAX_NESTING, &mut |cursor| match self {
                Self::Values(_) => cursor.members(|cursor, _| cursor.row(max_bytes, &mut give)),
                Self::Columns(_) => cursor.columns(wanted, max_bytes, &mut give),
                Self::Split(_) => cursor.split(wanted, max_bytes, &mut give),
                Self::At(_) | Self::Objects => match cursor.token()? {
                    Some(b'[') => cursor.elements(|cursor| cursor.row(max_bytes, &mut give)),
                    _ => cursor.row(max_bytes, &mut give),
                },
            });
            if walked.is_err() {
                break walked;
            }
        };
        match read {
            Ok(()) => Ok(()),
            Err(Stop::Caller(error)) => Err(error),
            Err(Stop::Read(error)) => Err(error.into()),
            Err(Stop::Unended) => emit(JsonPiece::Unended(number + 1)),
            Err(Stop::Malformed) => emit(JsonPiece::Broken(number + 1)),
        }
    }
}

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

/// The outline of a value.
#[derive(Debug)]
enum Node {
    /// Text, a number, a boolean, null; or something too deep.
    Scalar,
    /// An array: its first element, the number of elements, and those that are text.
    Array { first: Option<Box<Node>>, count: usize, texts: Vec<String> },
    /// An object.
    Object(Vec<(String, Node)>),
}

impl Node {
    /// Returns how many of the wanted columns it has as an object.
    fn score(&self, wanted: &Wanted<'_>) -> usize {
        let Self::Object(members) = self else { return 0 };
        wanted.content.iter().filter(|name| members.iter().any(|(key, _)| key == **name)).count()
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

/// A row, or what is in its place.
enum Row {
    Object(Vec<u8>),
    TooLong,
    Other,
}

/// Why scanning ended.
enum Stop<E> {
    /// The caller wants no more.
    Caller(E),
    Read(io::Error),
    Unended,
    Malformed,
}

impl<E> From<io::Error> for Stop<E> {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// The values of a column, one after another.
#[derive(Default)]
struct Values {
    bytes: Vec<u8>,
    /// Where the value of each row begins and ends.
    places: Vec<Option<(usize, usize)>>,
}

/// A position in JSON text.
struct Cursor<R> {
    reader: R,
    buffer: Vec<u8>,
    at: usize,
}

impl<R: Read> Cursor<R> {
    fn new(reader: R) -> Self {
        Self { reader, buffer: Vec::new(), at: 0 }
    }

    /// Returns the next byte without passing over it; none at the end.
    fn peek(&mut self) -> io::Result<Option<u8>> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
            self.reader.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut self.buffer)?;
        }
        Ok(self.buffer.get(self.at).copied())
    }

    /// Returns the next byte that is not white space, without passing over it; none at the end.
    fn token(&mut self) -> io::Result<Option<u8>> {
        while self.peek()?.is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
        self.peek()
    }

    /// Passes over a value, and keeps it in `kept` up to `max_bytes`; returns false if it is longer.
    fn value<E>(&mut self, mut kept: Option<&mut Vec<u8>>, max_bytes: u64) -> Result<bool, Stop<E>> {
        let (mut depth, mut is_text, mut is_escaped, mut is_scalar, mut is_kept) = (0_u64, false, false, false, true);
        let start = kept.as_ref().map_or(0, |kept| kept.len());
        self.token()?;
        loop {
            let Some(byte) = self.peek()? else { return if is_scalar { Ok(is_kept) } else { Err(Stop::Unended) } };
            if is_scalar && (byte.is_ascii_whitespace() || b",]}:".contains(&byte)) {
                return Ok(is_kept);
            }
            self.at += 1;
            if let Some(kept) = &mut kept
                && is_kept
            {
                is_kept = ((kept.len() - start) as u64) < max_bytes;
                if is_kept { kept.push(byte) } else { kept.truncate(start) }
            }
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if is_text => is_escaped = true,
                b'"' => is_text = !is_text,
                _ if is_text => continue,
                b'{' | b'[' => depth += 1,
                b'}' | b']' | b',' | b':' if depth == 0 => return Err(Stop::Malformed),
                b'}' | b']' => depth -= 1,
                _ if depth == 0 => is_scalar = true,
                _ => {}
            }
            if depth == 0 && !is_text && !is_scalar {
                return Ok(is_kept);
            }
        }
    }

    /// Passes over a key and its colon, and returns the key.
    fn key<E>(&mut self) -> Result<String, Stop<E>> {
        /// The longest key that is compared with column names.
        const MAX_KEY_BYTES: u64 = 1 << 16;
        if self.token()? != Some(b'"') {
            return Err(Stop::Malformed);
        }
        let mut bytes = Vec::new();
        self.value(Some(&mut bytes), MAX_KEY_BYTES)?;
        if self.token()? != Some(b':') {
            return Err(Stop::Malformed);
        }
        self.at += 1;
        Ok(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Visits the items of an array or an object, which `close` ends; `visit` passes over each.
    fn items<E>(&mut self, close: u8, mut visit: impl FnMut(&mut Self) -> Result<(), Stop<E>>) -> Result<(), Stop<E>> {
        self.at += 1;
        loop {
            match self.token()? {
                None => return Err(Stop::Unended),
                Some(b',') => self.at += 1,
                Some(byte) if byte == close => {
                    self.at += 1;
                    return Ok(());
                }
                Some(_) => {
                    visit(self)?;
                    if !matches!(self.token()?, None | Some(b',' | b']' | b'}')) {
                        return Err(Stop::Malformed);
                    }
                }
            }
        }
    }

    /// Visits the elements of an array; passes over another value.
    fn elements<E>(&mut self, visit: impl FnMut(&mut Self) -> Result<(), Stop<E>>) -> Result<(), Stop<E>> {
        if self.token()? == Some(b'[') { self.items(b']', visit) } else { self.value(None, 0).map(drop) }
    }

    /// Visits the values of an object by their keys; passes over another value.
    fn members<E>(&mut self, mut visit: impl FnMut(&mut Self, String) -> Result<(), Stop<E>>) -> Result<(), Stop<E>> {
        if self.token()? != Some(b'{') {
            return self.value(None, 0).map(drop);
        }
        self.items(b'}', |cursor| {
            let key = cursor.key()?;
            cursor.token()?;
            visit(cursor, key)
        })
    }

    /// Visits the values at a path; passes over the others.
    fn walk<E>(
        &mut self,
        path: &[String],
        nesting: usize,
        visit: &mut dyn FnMut(&mut Self) -> Result<(), Stop<E>>,
    ) -> Result<(), Stop<E>> {
        match (path.split_first(), self.token()?) {
            (None, _) => visit(self),
            (Some((first, rest)), Some(b'{')) => self.members(|cursor, key| {
                if key == *first { cursor.walk(rest, nesting, visit) } else { cursor.value(None, 0).map(drop) }
            }),
            (Some(_), Some(b'[')) if nesting > 0 => self.elements(|cursor| cursor.walk(path, nesting - 1, visit)),
            _ => self.value(None, 0).map(drop),
        }
    }

    /// Gives a value as a row.
    fn row<E>(&mut self, max_bytes: u64, give: &mut impl FnMut(Row) -> Result<(), Stop<E>>) -> Result<(), Stop<E>> {
        if self.token()? != Some(b'{') {
            self.value(None, 0)?;
            return give(Row::Other);
        }
        let mut bytes = Vec::new();
        let is_kept = self.value(Some(&mut bytes), max_bytes)?;
        give(if is_kept { Row::Object(bytes) } else { Row::TooLong })
    }

    /// Gives the rows of an object of columns, of which only the wanted ones are kept.
    fn columns<E>(
        &mut self,
        wanted: &Wanted<'_>,
        max_bytes: u64,
        give: &mut impl FnMut(Row) -> Result<(), Stop<E>>,
    ) -> Result<(), Stop<E>> {
        let mut columns: Vec<(String, Values)> = Vec::new();
        // The row of each key, where columns are objects.
        let mut rows = HashMap::new();
        self.members(|cursor, name| {
            if !wanted.all.contains(&name.as_str()) {
                return cursor.value(None, 0).map(drop);
            }
            let mut values = Values::default();
            if cursor.token()? == Some(b'[') {
                cursor.elements(|cursor| {
                    let row = values.places.len();
                    cursor.cell(&mut values, row, max_bytes)
                })?;
            } else {
                cursor.members(|cursor, key| {
                    let next = rows.len();
                    let row = *rows.entry(key).or_insert(next);
                    cursor.cell(&mut values, row, max_bytes)
                })?;
            }
            columns.push((name, values));
            Ok(())
        })?;
        let count = columns.iter().map(|(_, values)| values.places.len()).max().unwrap_or(0);
        for row in 0..count {
            let cell = |(name, values): &(String, Values)| {
                let (start, end) = (*values.places.get(row)?)?;
                Some((name.clone(), values.bytes[start..end].to_vec()))
            };
            give(Row::Object(object(columns.iter().filter_map(cell))))?;
        }
        Ok(())
    }

    fn cell<E>(&mut self, values: &mut Values, row: usize, max_bytes: u64) -> Result<(), Stop<E>> {
        let start = values.bytes.len();
        // A value that is too long is missing in its row.
        let is_kept = self.value(Some(&mut values.bytes), max_bytes)?;
        values.places.resize((row + 1).max(values.places.len()), None);
        values.places[row] = is_kept.then_some((start, values.bytes.len()));
        Ok(())
    }

    /// Gives the rows of `data`, whose names are in `columns`.
    fn split<E>(
        &mut self,
        wanted: &Wanted<'_>,
        max_bytes: u64,
        give: &mut impl FnMut(Row) -> Result<(), Stop<E>>,
    ) -> Result<(), Stop<E>> {
        let mut names: Option<Vec<String>> = None;
        // Rows that come before their names, as pandas does not write them.
        let mut waiting = Vec::new();
        self.members(|cursor, key| match (key.as_str(), &names) {
            ("columns", _) => {
                let mut found = Vec::new();
                cursor.elements(|cursor| {
                    let mut bytes = Vec::new();
                    cursor.value(Some(&mut bytes), max_bytes)?;
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    found.push(serde_json::from_str(&text).unwrap_or(text));
                    Ok(())
                })?;
                names = Some(found);
                Ok(())
            }
            ("data", Some(names)) => cursor.elements(|cursor| cursor.tuple(names, wanted, max_bytes, give)),
            ("data", None) => cursor.value(Some(&mut waiting), u64::MAX).map(drop),
            _ => cursor.value(None, 0).map(drop),
        })?;
        if waiting.is_empty() {
            return Ok(());
        }
        let names = names.unwrap_or_default();
        Cursor::new(&waiting[..]).elements(|cursor| cursor.tuple(&names, wanted, max_bytes, give))
    }

    /// Gives an array of values as a row.
    fn tuple<E>(
        &mut self,
        names: &[String],
        wanted: &Wanted<'_>,
        max_bytes: u64,
        give: &mut impl FnMut(Row) -> Result<(), Stop<E>>,
    ) -> Result<(), Stop<E>> {
        if self.token()? != Some(b'[') {
            self.value(None, 0)?;
            return give(Row::Other);
        }
        let mut names = names.iter();
        let mut cells = Vec::new();
        self.elements(|cursor| match names.next().filter(|name| wanted.all.contains(&name.as_str())) {
            None => cursor.value(None, 0).map(drop),
            Some(name) => {
                let mut bytes = Vec::new();
                if cursor.value(Some(&mut bytes), max_bytes)? {
                    cells.push((name.clone(), bytes));
                }
                Ok(())
            }
        })?;
        give(Row::Object(object(cells.into_iter())))
    }
}

impl Cursor<&[u8]> {
    /// Returns the outline of the next value, as far as the bytes go.
    fn outline(&mut self, depth: usize) -> Node {
        match self.token() {
            Ok(Some(b'{')) if depth > 0 => {
                let mut members = Vec::new();
                let seen: Result<(), Stop<()>> = self.members(|cursor, key| {
                    if members.len() == MAX_KEYS {
                        return Err(Stop::Caller(()));
                    }
                    members.push((key, cursor.outline(depth - 1)));
                    Ok(())
                });
                drop(seen);
                Node::Object(members)
            }
            Ok(Some(b'[')) if depth > 0 => {
                let (mut first, mut count, mut texts) = (None, 0, Vec::new());
                let seen: Result<(), Stop<()>> = self.elements(|cursor| {
                    count += 1;
                    if count == 1 && cursor.token()? != Some(b'"') {
                        first = Some(Box::new(cursor.outline(depth - 1)));
                        return Ok(());
                    }
                    if texts.len() < MAX_KEYS && cursor.token()? == Some(b'"') {
                        let mut bytes = Vec::new();
                        cursor.value(Some(&mut bytes), 1 << 10)?;
                        texts.push(serde_json::from_slice(&bytes).unwrap_or_default());
                        first.get_or_insert_with(|| Box::new(Node::Scalar));
                        return Ok(());
                    }
                    cursor.value(None, 0).map(drop)
                });
                drop(seen);
                Node::Array { first, count, texts }
            }
            _ => {
                let seen: Result<bool, Stop<()>> = self.value(None, 0);
                drop(seen);
                Node::Scalar
            }
        }
    }
}

/// Returns an object of values that are already JSON.
fn object(cells: impl Iterator<Item = (String, Vec<u8>)>) -> Vec<u8> {
    let mut bytes = b"{".to_vec();
    for (i, (name, value)) in cells.enumerate() {
        bytes.extend_from_slice(if i > 0 { b"," } else { b"" });
        bytes.extend_from_slice(serde_json::Value::from(name).to_string().as_bytes());
        bytes.push(b':');
        bytes.extend_from_slice(&value);
    }
    bytes.push(b'}');
    bytes
}
