//! Why a file or record gave no document: it was skipped, or it was bad.

use std::fmt;

/// Why a file or a row was skipped although nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Skip {
    /// It has a NUL byte near its beginning.
    Binary,
    /// It is empty.
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
    /// A member whose path leaves its archive.
    Outside,
    /// An encrypted member.
    Encrypted,
    /// An archive inside an archive.
    NestedArchive,
    /// A member with the name of an earlier one.
    RepeatedName,
    /// A symbolic link to a file that is read under another path.
    RepeatedLink,
    /// A symbolic link that leads nowhere.
    BrokenLink,
    /// A conversation with the weight 0.
    Weight,
    /// A caption of no picture or sound.
    NoMedia,
}

impl Skip {
    /// Returns the name of the reason in counts.
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
            Self::RepeatedLink => "repeated_link",
            Self::BrokenLink => "broken_link",
            Self::Weight => "weight_0",
            Self::NoMedia => "caption_without_media",
        }
    }
}

/// The kind of fault of a bad record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// It is malformed.
    Malformed,
    /// It is longer than `max_file_bytes`.
    TooLong,
    /// It lacks a column.
    NoColumn,
    /// A column has the wrong type.
    WrongType,
    /// Its template failed.
    Template,
    /// It is not a conversation.
    Chat,
    /// It cannot be decompressed or decoded.
    Corrupt,
    /// It is a decompression bomb.
    Bomb,
    /// A web page nested so deeply that it is likely an attack, or a picture that loads, runs or multiplies something.
    Hostile,
    /// A picture or sound beyond the limits.
    TooLarge,
    /// A picture or sound with a part that is not decoded.
    Unsupported,
}

impl Reason {
    /// Returns the name of the reason in counts.
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
            Self::TooLarge => "too_large",
            Self::Unsupported => "unsupported",
        }
    }
}

/// The position of a record in a file, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// The file as a whole, or the rest of it.
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
    /// Its position in the file.
    pub at: At,
    /// The kind of fault.
    pub reason: Reason,
    /// The details.
    pub message: String,
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}: {}", self.file, self.at, self.message)
    }
}

/// Why a file or record gave no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// It was skipped.
    Skipped(Skip),
    /// It was not selected, or its format is unknown.
    NotSelected,
    /// It was bad.
    Bad(BadRecord),
}
