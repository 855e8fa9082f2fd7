//! Detection of an encoding: by marks, zero bytes, escape sequences, or the text that the bytes decode to.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, ISO_2022_JP, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::CHUNK_BYTES;
use super::codec::Codec;
use super::plausibility::{has_signs_only, is_plausible, is_printable};

/// Returns the encoding that a byte-order mark names, and the length of the mark.
pub(super) fn marked(bytes: &[u8]) -> Option<(Codec, usize)> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] => Some((Codec::Utf32 { is_big_endian: false }, 4)),
        [0, 0, 0xfe, 0xff, ..] => Some((Codec::Utf32 { is_big_endian: true }, 4)),
        _ => Encoding::for_bom(bytes).map(|(encoding, length)| (Codec::Known(encoding), length)),
    }
}

/// Returns the byte order of UTF-16 without a mark: all zero bytes are in one half of the units, and what it decodes to
/// looks like text. `is_all` is false if only the beginning is given.
pub(super) fn unmarked_utf16(bytes: &[u8], is_all: bool) -> Option<&'static Encoding> {
    if is_all && !bytes.len().is_multiple_of(2) {
        return None;
    }
    let head = &bytes[..bytes.len().min(CHUNK_BYTES) / 2 * 2];
    let zeros = |half: usize| head.iter().skip(half).step_by(2).filter(|byte| **byte == 0).count();
    let encoding = match (zeros(0), zeros(1)) {
        (0, 0) => return None,
        (0, _) => UTF_16LE,
        (_, 0) => UTF_16BE,
        _ => return None,
    };
    // The last unit may be the first half of a pair.
    let text = sound(encoding, head, is_all && head.len() == bytes.len())?;
    text.chars().all(is_printable).then_some(encoding)
}

/// Returns ISO-2022-JP if the bytes switch between its character sets; it is ASCII otherwise.
pub(super) fn escaped(bytes: &[u8]) -> Option<&'static Encoding> {
    let switches = |sequence: &[u8]| sequence.starts_with(b"\x1b$B") || sequence.starts_with(b"\x1b$@");
    if !bytes.is_ascii() || !bytes.windows(3).any(switches) {
        return None;
    }
    let text = sound(ISO_2022_JP, bytes, false)?;
    text.chars().all(is_printable).then_some(ISO_2022_JP)
}

/// The name of UTF-8 in [`legacy`]'s error.
pub(super) const UTF_8_NAME: &str = "UTF-8";
/// The name of UTF-8 with other bytes in it.
pub(super) const DAMAGED_UTF_8: &str = "damaged UTF-8";

/// Returns the encoding of bytes that contain some outside ASCII; an error with the name of what it is instead if it
/// cannot be told, or is UTF-8. `is_all` is false if more bytes follow.
pub(super) fn legacy(bytes: &[u8], is_all: bool) -> Result<&'static Encoding, &'static str> {
    let (mut sequences, mut faults) = (0, 0);
    for chunk in bytes.utf8_chunks() {
        sequences += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        faults += usize::from(!chunk.invalid().is_empty());
    }
    let is_cut = !is_all && std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_none());
    match (sequences, faults - usize::from(is_cut)) {
        (_, 0) => return Err(UTF_8_NAME),
        // A pair of bytes in another encoding is a sequence of UTF-8 by chance only.
        (sequences, faults) if sequences >= faults => return Err(DAMAGED_UTF_8),
        _ => {}
    }
    // Detection needs letters; a few signs (`£`, curly quotes) are nearly always in this encoding.
    if sound(WINDOWS_1252, bytes, is_all).is_some_and(|text| has_signs_only(&text)) {
        return Ok(WINDOWS_1252);
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, is_all);
    let encoding = detector.guess(None, Utf8Detection::Deny);
    let told = sound(encoding, bytes, is_all).filter(|text| is_plausible(text, encoding.is_single_byte()));
    told.map(|_| encoding).ok_or("unknown")
}

/// Returns the text of bytes that have only sequences of an encoding.
fn sound(encoding: &'static Encoding, bytes: &[u8], is_all: bool) -> Option<String> {
    let mut text = String::new();
    let has_errors = Codec::Known(encoding).decoder().decode(bytes, is_all, &mut text);
    (!has_errors).then_some(text)
}
