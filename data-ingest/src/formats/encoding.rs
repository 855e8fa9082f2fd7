//! Encodings of text. Text becomes UTF-8 here if its encoding can be told: by a byte-order mark, by the zero bytes of
//! UTF-16, or by detection (chardetng) whose result must also look like text. What cannot be told stays as it is.

mod codec;
mod detection;
mod plausibility;
mod reader;

use encoding_rs::{Encoding, UTF_8};

use codec::Codec;
use detection::{DAMAGED_UTF_8, UTF_8_NAME, escaped, legacy, marked, unmarked_utf16};

pub(crate) use reader::TextReader;

/// Bytes of a file that are inspected to tell text from binary, as in git.
const SNIFFED_BYTES: usize = 8000;

/// Bytes of a stream that are decoded together.
const CHUNK_BYTES: usize = 64 << 10;

/// The encoding of a file that is not plain UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileEncoding {
    /// Its name, as in the Encoding Standard.
    pub name: &'static str,
    /// What became of the file.
    pub fate: Fate,
}

/// What became of a file that is not plain UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// All of it was decoded.
    Decoded,
    /// It was decoded, except for sequences that its encoding does not have, which became U+FFFD.
    Replaced,
    /// Its encoding is not known, or it is damaged UTF-8: its bytes are kept.
    Kept,
}

impl Fate {
    fn of(has_errors: bool) -> Self {
        if has_errors { Self::Replaced } else { Self::Decoded }
    }
}

/// The text of a whole file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// Text, and its encoding unless it was plain UTF-8.
    Decoded(String, Option<FileEncoding>),
    /// Bytes of an unknown encoding.
    Unknown(Vec<u8>, FileEncoding),
    /// Not text.
    Binary,
}

/// Decodes a whole file; `label` is the encoding that a server or the configuration names.
pub(crate) fn decode(bytes: Vec<u8>, label: Option<&str>) -> Text {
    if let Some((codec, mark_bytes)) = marked(&bytes) {
        let (text, has_errors) = codec.decode(&bytes[mark_bytes..]);
        return Text::Decoded(text, Some(FileEncoding { name: codec.name(true), fate: Fate::of(has_errors) }));
    }
    let has_zero = bytes[..bytes.len().min(SNIFFED_BYTES)].contains(&0);
    let named = label.and_then(|label| Encoding::for_label_no_replacement(label.as_bytes()));
    let is_utf_8 = named == Some(UTF_8);
    let known = match named {
        Some(encoding) if !is_utf_8 => Some(encoding),
        _ if has_zero => match unmarked_utf16(&bytes, true) {
            None => return Text::Binary,
            utf16 => utf16,
        },
        _ => escaped(&bytes),
    };
    let encoding = match (known, std::str::from_utf8(&bytes)) {
        (Some(encoding), _) => Ok(encoding),
        (None, Ok(_)) => Err(UTF_8_NAME),
        (None, Err(_)) if is_utf_8 => Err(DAMAGED_UTF_8),
        (None, Err(_)) => legacy(&bytes, true),
    };
    match encoding {
        Ok(encoding) => {
            let (text, has_errors) = Codec::Known(encoding).decode(&bytes);
            Text::Decoded(text, Some(FileEncoding { name: encoding.name(), fate: Fate::of(has_errors) }))
        }
        Err(name) => match String::from_utf8(bytes) {
            Ok(text) => Text::Decoded(text, None),
            Err(error) => Text::Unknown(error.into_bytes(), FileEncoding { name, fate: Fate::Kept }),
        },
    }
}
