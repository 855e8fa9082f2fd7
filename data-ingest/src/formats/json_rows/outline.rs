//! The outline of a JSON value: the keys of its objects and the lengths of its arrays.

use super::Wanted;
use super::cursor::{Cursor, Stop};

/// Keys of an object that are looked at to find rows.
const MAX_KEYS: usize = 1000;

/// The outline of a value.
#[derive(Debug)]
pub(super) enum Node {
    /// Text, a number, a boolean, null; or something too deep.
    Scalar,
    /// An array: its first element, the number of elements, and those that are text.
    Array { first: Option<Box<Node>>, count: usize, texts: Vec<String> },
    /// An object.
    Object(Vec<(String, Node)>),
}

impl Node {
    /// Returns how many of the wanted columns it has as an object.
    pub(super) fn score(&self, wanted: &Wanted<'_>) -> usize {
        let Self::Object(members) = self else { return 0 };
        wanted.content.iter().filter(|name| members.iter().any(|(key, _)| key == **name)).count()
    }
}

impl Cursor<&[u8]> {
    /// Returns the outline of the next value, as far as the bytes go.
    pub(super) fn outline(&mut self, depth: usize) -> Node {
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
