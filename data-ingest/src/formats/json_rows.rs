//! Where the rows of a JSON file are: an array of objects or objects one after another, an array inside an object,
//! columns of equal length, or one of the shapes that pandas writes. Only strings and nesting are scanned here; values
//! are parsed later, so that a large array is read in pieces.

mod cursor;
mod detection;
mod outline;
mod path;
mod row;

use std::io::{self, Read};

use crate::formats::json::{JsonPiece, Records, objects};

use cursor::{Cursor, Stop};
use path::written;
use row::Row;

pub(crate) use detection::find;
pub(crate) use path::parse_path;

/// Nesting of arrays on the way to rows; deeper values are skipped.
const MAX_NESTING: usize = 64;

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
