//! Why something gave no document: it was passed over, or it was bad.

use std::fmt;

/// Why a file or a row gave no document although nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Skip {
    /// It holds a NUL byte near its beginning.
    Binary,
    /// It holds nothing.
    Empty,
    /// It is larger than the source allows.
    TooLarge,
    /// The row has no value in the text column.
    Null,
    /// A web page without a main text.
    NoMainText,
    /// A record of a web archive that is not a page: a request, a redirect, an image.
    NotAPage,
    /// A link inside an archive.
    Link,
    /// A member whose name leads out of its archive.
    Outside,
    /// A member that only a password opens.
    Encrypted,
    /// An archive inside an archive.
    NestedArchive,
    /// A member with the name of an earlier one.
    RepeatedName,
}

impl Skip {
    /// Returns the reason as counts name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Empty => "empty",
            Self::TooLarge => "too_large",
            Self::Null => "null",
            Self::NoMainText => "no_main_text",
            Self::NotAPage => "not_a_page",
            Self::Link => "link",
            Self::Outside => "outside",
            Self::Encrypted => "encrypted",
            Self::NestedArchive => "nested_archive",
            Self::RepeatedName => "repeated_name",
        }
    }
}

/// What is wrong with a bad record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// It is not what its format asks for.
    Malformed,
    /// It is longer than `max_file_bytes`.
    TooLong,
    /// It lacks a column.
    NoColumn,
    /// A column holds another kind of value than is needed.
    WrongType,
    /// Its template failed.
    Template,
    /// It is no conversation.
    Chat,
    /// It cannot be unpacked or decoded.
    Corrupt,
    /// It unpacks to very many times its size.
    Bomb,
    /// A web page that is made to be hard to read.
    Hostile,
}

impl Reason {
    /// Returns the reason as counts name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::NoColumn => "no_column",
            Self::WrongType => "wrong_type",
            Self::Template => "template",
            Self::Chat => "chat",
            Self::Corrupt => "corrupt",
            Self::Bomb => "bomb",
            Self::Hostile => "hostile",
        }
    }
}

/// Where in a file a record is, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// The file as a whole, or what is left of it.
    File,
    /// A line.
    Line(u64),
    /// A row of a table.
    Row(u64),
    /// Rows of a table, the last included.
    Rows(u64, u64),
    /// A record of a web archive, or an object of a JSON file.
    Record(u64),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => Ok(()),
            Self::Line(n) => write!(f, " line {n}"),
            Self::Row(n) => write!(f, " row {n}"),
            Self::Rows(first, last) => write!(f, " rows {first} to {last}"),
            Self::Record(n) => write!(f, " record {n}"),
        }
    }
}

/// A record that cannot become a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadRecord {
    /// The path of its file inside the source.
    pub file: String,
    /// Where it is in there.
    pub at: At,
    /// What kind of fault it is.
    pub reason: Reason,
    /// What exactly is wrong.
    pub message: String,
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}: {}", self.file, self.at, self.message)
    }
}

/// Why something gave no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It was passed over.
    Skipped(Skip),
    /// It was not asked for, or nothing tells how to read it.
    NotSelected,
    /// It was bad.
    Bad(BadRecord),
}
