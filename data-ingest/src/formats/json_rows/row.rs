//! The rows of a value: an object, columns, or arrays whose names are elsewhere.

use std::collections::HashMap;
use std::io::Read;

use super::Wanted;
use super::cursor::{Cursor, Stop};

/// A row, or what is in its place.
pub(super) enum Row {
    Object(Vec<u8>),
    TooLong,
    Other,
}

/// The values of a column, one after another.
#[derive(Default)]
struct Values {
    bytes: Vec<u8>,
    /// Where the value of each row begins and ends.
    places: Vec<Option<(usize, usize)>>,
}

impl<R: Read> Cursor<R> {
    /// Gives a value as a row.
    pub(super) fn row<E>(
        &mut self,
        max_bytes: u64,
        give: &mut impl FnMut(Row) -> Result<(), Stop<E>>,
    ) -> Result<(), Stop<E>> {
        if self.token()? != Some(b'{') {
            self.value(None, 0)?;
            return give(Row::Other);
        }
        let mut bytes = Vec::new();
        let is_kept = self.value(Some(&mut bytes), max_bytes)?;
        give(if is_kept { Row::Object(bytes) } else { Row::TooLong })
    }

    /// Gives the rows of an object of columns, of which only the wanted ones are kept.
    pub(super) fn columns<E>(
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
    pub(super) fn split<E>(
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
