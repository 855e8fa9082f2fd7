//! Files become documents.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

use artifact::Digest;
use flate2::read::MultiGzDecoder;

use crate::format::{self, Format, Packing};
use crate::inventory::{HashedFile, ListedSource, Place};
use crate::{Error, table};

/// How much of a file is looked at to tell text from binary, as git does.
const SNIFFED_BYTES: usize = 8000;

/// What a document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Text.
    Text(String),
    /// Bytes that are not UTF-8; preprocess repairs or rejects them.
    Raw(Vec<u8>),
}

impl Content {
    /// Returns the bytes as text where they are UTF-8, else as they are.
    pub fn of(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|e| Self::Raw(e.into_bytes()), Self::Text)
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Raw(bytes) => bytes,
        }
    }
}

/// A document, without what all documents of its source share.
#[derive(Debug)]
pub(crate) struct Document {
    /// Its name in the corpus: `<source>/<path>`, and `#<row>` where it is a row of a table.
    pub id: String,
    /// The path of its file inside the source.
    pub path: String,
    /// What it says.
    pub content: Content,
    /// The digest of its bytes.
    pub sha256: Digest,
}

/// Why a file or a row gave no document.
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
}

impl Skip {
    /// Returns the reason as counts name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Empty => "empty",
            Self::TooLarge => "too_large",
            Self::Null => "null",
        }
    }
}

/// Where documents, and what was skipped, are handed to.
pub(crate) type Sink<'a> = dyn FnMut(Result<Document, Skip>) -> Result<(), Error> + 'a;

/// Reads a file that is one document, and checks that it still is the file that was listed.
pub(crate) fn text(source: &ListedSource, file: &HashedFile) -> Result<Result<Document, Skip>, Error> {
    let path = file.place.path();
    let failed = |e| Error::from(artifact::Error::io("read", path, e));
    let packed = fs::read(path).map_err(failed)?;
    let packed_digest = Digest::of(&packed);
    if packed_digest != file.sha256 {
        return Err(Error::Changed { name: source.name.clone(), path: path.to_owned() });
    }
    let (bytes, sha256) = match format::packing(&file.relative).0 {
        Packing::Plain => (packed, packed_digest),
        packing => {
            let mut bytes = Vec::new();
            // One byte more than allowed tells a file that is too large without unpacking all of it.
            let mut reader = unpack(packed.as_slice(), packing).map_err(failed)?.take(source.max_file_bytes + 1);
            reader.read_to_end(&mut bytes).map_err(failed)?;
            let digest = Digest::of(&bytes);
            (bytes, digest)
        }
    };
    if bytes.len() as u64 > source.max_file_bytes {
        return Ok(Err(Skip::TooLarge));
    }
    if bytes.is_empty() {
        return Ok(Err(Skip::Empty));
    }
    if bytes[..bytes.len().min(SNIFFED_BYTES)].contains(&0) {
        return Ok(Err(Skip::Binary));
    }
    let id = format!("{}/{}", source.name, file.relative);
    Ok(Ok(Document { id, path: file.relative.clone(), content: Content::of(bytes), sha256 }))
}

/// Reads a table row by row, after checking that it still is the file that was listed.
pub(crate) fn table(source: &ListedSource, file: &HashedFile, sink: &mut Sink<'_>) -> Result<(), Error> {
    let path = file.place.path();
    if Digest::of_file(path)?.0 != file.sha256 {
        return Err(Error::Changed { name: source.name.clone(), path: path.to_owned() });
    }
    let column = source.text_column.as_str();
    let mut row = |number: u64, content: Option<Content>| {
        sink(match content {
            None => Err(Skip::Null),
            Some(content) if content.as_bytes().is_empty() => Err(Skip::Empty),
            Some(content) => Ok(Document {
                id: format!("{}/{}#{number}", source.name, file.relative),
                path: file.relative.clone(),
                sha256: Digest::of(content.as_bytes()),
                content,
            }),
        })
    };
    let packing = format::packing(&file.relative).0;
    match file.format {
        Format::Parquet => table::parquet(path, column, &mut row),
        Format::Jsonl => table::json_lines(open(path, packing)?, path, column, &mut row),
        Format::Csv => table::delimited(open(path, packing)?, path, b',', column, &mut row),
        Format::Tsv => table::delimited(open(path, packing)?, path, b'\t', column, &mut row),
        Format::Text => unreachable!("a text file is one document, read by `text`"),
    }
}

fn open(path: &Path, packing: Packing) -> Result<BufReader<Box<dyn Read>>, Error> {
    let failed = |e| artifact::Error::io("read", path, e);
    let file = File::open(path).map_err(failed)?;
    Ok(BufReader::with_capacity(1 << 18, unpack(file, packing).map_err(failed)?))
}

fn unpack<'a>(packed: impl Read + 'a, packing: Packing) -> std::io::Result<Box<dyn Read + 'a>> {
    Ok(match packing {
        Packing::Plain => Box::new(packed),
        Packing::Gzip => Box::new(MultiGzDecoder::new(BufReader::new(packed))),
        Packing::Zstd => Box::new(zstd::Decoder::new(packed)?),
    })
}

impl Place {
    /// Returns where the bytes are, or will be once downloaded.
    pub fn path(&self) -> &Path {
        match self {
            Self::Disk(path) => path,
            Self::Download(cached) => cached,
        }
    }
}
