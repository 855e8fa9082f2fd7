//! Decoders: those of the Encoding Standard, and one of UTF-32.

use encoding_rs::{CoderResult, Encoding, UTF_8};

/// A way to decode.
#[derive(Debug, Clone, Copy)]
pub(super) enum Codec {
    /// An encoding of the Encoding Standard.
    Known(&'static Encoding),
    /// UTF-32, which that standard does not have; whether the most significant byte comes first.
    Utf32 { is_big_endian: bool },
}

impl Codec {
    pub(super) fn name(self, is_marked: bool) -> &'static str {
        match self {
            Self::Known(encoding) if is_marked && encoding == UTF_8 => "UTF-8 with a byte-order mark",
            Self::Known(encoding) => encoding.name(),
            Self::Utf32 { is_big_endian: true } => "UTF-32BE",
            Self::Utf32 { is_big_endian: false } => "UTF-32LE",
        }
    }

    pub(super) fn decoder(self) -> Decoder {
        match self {
            Self::Known(encoding) => Decoder::Known(encoding.new_decoder_without_bom_handling()),
            Self::Utf32 { is_big_endian } => Decoder::Utf32 { is_big_endian, pending: Vec::new() },
        }
    }

    /// Returns the text of all bytes, and whether some were replaced.
    pub(super) fn decode(self, bytes: &[u8]) -> (String, bool) {
        let mut text = String::new();
        let has_errors = self.decoder().decode(bytes, true, &mut text);
        (text, has_errors)
    }
}

pub(super) enum Decoder {
    Known(encoding_rs::Decoder),
    Utf32 { is_big_endian: bool, pending: Vec<u8> },
}

impl Decoder {
    /// Appends the text of the next bytes; returns true if some were replaced.
    pub(super) fn decode(&mut self, bytes: &[u8], is_last: bool, text: &mut String) -> bool {
        match self {
            Self::Known(decoder) => {
                let mut has_errors = false;
                let mut rest = bytes;
                loop {
                    text.reserve(decoder.max_utf8_buffer_length(rest.len()).unwrap_or(rest.len()).max(16));
                    let (result, read, found) = decoder.decode_to_string(rest, text, is_last);
                    has_errors |= found;
                    rest = &rest[read..];
                    if result == CoderResult::InputEmpty {
                        return has_errors;
                    }
                }
            }
            Self::Utf32 { is_big_endian, pending } => {
                pending.extend_from_slice(bytes);
                let whole = pending.len() / 4 * 4;
                let mut has_errors = is_last && whole < pending.len();
                for unit in pending[..whole].chunks_exact(4) {
                    let unit = [unit[0], unit[1], unit[2], unit[3]];
                    let code = if *is_big_endian { u32::from_be_bytes(unit) } else { u32::from_le_bytes(unit) };
                    has_errors |= char::from_u32(code).is_none();
                    text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                pending.drain(..whole);
                has_errors
            }
        }
    }
}
