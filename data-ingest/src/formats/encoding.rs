//! Encodings of text. Text becomes UTF-8 here if its encoding can be told: by a byte-order mark, by the zero bytes of
//! UTF-16, or by detection (chardetng) whose result must also look like text. What cannot be told stays as it is.

use std::io::{self, Read};

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{CoderResult, Encoding, ISO_2022_JP, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// Bytes of a file that are inspected to tell text from binary, as in git.
const SNIFFED_BYTES: usize = 8000;
/// Bytes after the first one outside ASCII that decide the encoding of a stream. Heuristic, not measured: thousands of
/// words.
const DETECTED_BYTES: usize = 256 << 10;
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

/// A reader of a stream of text, as UTF-8 if its encoding can be told.
///
/// The encoding is decided at the first byte outside ASCII, from what follows it, since all encodings but UTF-16 and
/// UTF-32, which have marks or zero bytes, agree before it.
pub(crate) struct TextReader<R> {
    inner: R,
    /// The encoding that the configuration names.
    named: Option<&'static Encoding>,
    state: State,
    /// Bytes that are not decoded yet.
    input: Vec<u8>,
    is_at_end: bool,
    /// The error that ended the stream, returned after everything before it.
    failed: Option<io::Error>,
    /// Decoded bytes, of which `given` were returned.
    output: Vec<u8>,
    given: usize,
    encoding: Option<FileEncoding>,
}

enum State {
    /// Nothing has been read.
    Start,
    /// Everything so far is ASCII.
    Ascii,
    /// The rest is passed on.
    Passing,
    /// The rest is decoded.
    Decoding(Decoder),
}

impl<R: Read> TextReader<R> {
    /// Returns a reader of the text of `inner`; `label` is the encoding that the configuration names.
    pub fn new(inner: R, label: Option<&str>) -> Self {
        let named = label.and_then(|label| Encoding::for_label_no_replacement(label.as_bytes()));
        let (input, output) = (Vec::new(), Vec::new());
        let (is_at_end, failed) = (false, None);
        Self { inner, named, state: State::Start, input, is_at_end, failed, output, given: 0, encoding: None }
    }

    /// Returns the encoding, as far as it has been read, unless it is plain UTF-8.
    pub fn encoding(&self) -> Option<FileEncoding> {
        self.encoding
    }

    /// Reads until `bytes` are there to be decoded, or the stream ends.
    fn fill(&mut self, bytes: usize) {
        if self.is_at_end || self.input.len() >= bytes {
            return;
        }
        let missing = bytes - self.input.len();
        let read = self.inner.by_ref().take(missing as u64).read_to_end(&mut self.input);
        self.is_at_end = !read.as_ref().is_ok_and(|read| *read == missing);
        self.failed = read.err();
    }

    /// Returns the end of the stream, or its error.
    fn end(&mut self) -> io::Result<usize> {
        self.failed.take().map_or(Ok(0), Err)
    }

    fn start(&mut self) {
        if let Some((codec, mark_bytes)) = marked(&self.input) {
            self.input.drain(..mark_bytes);
            self.encoding = Some(FileEncoding { name: codec.name(true), fate: Fate::Decoded });
            self.state = match codec {
                Codec::Known(encoding) if encoding == UTF_8 => State::Passing,
                codec => State::Decoding(codec.decoder()),
            };
        } else if self.named == Some(UTF_8) {
            self.state = State::Passing;
        } else if let Some(encoding) =
            self.named.or_else(|| unmarked_utf16(&self.input, self.is_at_end)).or_else(|| escaped(&self.input))
        {
            self.encoding = Some(FileEncoding { name: encoding.name(), fate: Fate::Decoded });
            self.state = State::Decoding(Codec::Known(encoding).decoder());
        } else {
            self.state = State::Ascii;
        }
    }

    fn after_ascii(&mut self) {
        match legacy(&self.input, self.is_at_end) {
            Err(UTF_8_NAME) => self.state = State::Passing,
            Err(name) => {
                self.encoding = Some(FileEncoding { name, fate: Fate::Kept });
                self.state = State::Passing;
            }
            Ok(encoding) => {
                self.encoding = Some(FileEncoding { name: encoding.name(), fate: Fate::Decoded });
                self.state = State::Decoding(Codec::Known(encoding).decoder());
            }
        }
    }
}

impl<R: Read> Read for TextReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.given < self.output.len() {
                let length = buffer.len().min(self.output.len() - self.given);
                buffer[..length].copy_from_slice(&self.output[self.given..][..length]);
                self.given += length;
                return Ok(length);
            }
            if buffer.is_empty() {
                return Ok(0);
            }
            self.output.clear();
            self.given = 0;
            match &mut self.state {
                State::Start => {
                    self.fill(CHUNK_BYTES);
                    self.start();
                }
                State::Ascii => {
                    self.fill(CHUNK_BYTES);
                    if self.input.is_ascii() {
                        std::mem::swap(&mut self.input, &mut self.output);
                        if self.output.is_empty() {
                            return self.end();
                        }
                    } else {
                        self.fill(DETECTED_BYTES);
                        self.after_ascii();
                    }
                }
                State::Passing => {
                    std::mem::swap(&mut self.input, &mut self.output);
                    if self.output.is_empty() {
                        return if self.is_at_end { self.end() } else { self.inner.read(buffer) };
                    }
                }
                State::Decoding(_) if self.is_at_end && self.input.is_empty() => return self.end(),
                State::Decoding(_) => {
                    self.fill(CHUNK_BYTES);
                    let State::Decoding(decoder) = &mut self.state else { continue };
                    let mut text = String::new();
                    let has_errors = decoder.decode(&self.input, self.is_at_end, &mut text);
                    self.input.clear();
                    self.output = text.into_bytes();
                    if has_errors && let Some(encoding) = &mut self.encoding {
                        encoding.fate = Fate::Replaced;
                    }
                }
            }
        }
    }
}

impl Fate {
    fn of(has_errors: bool) -> Self {
        if has_errors { Self::Replaced } else { Self::Decoded }
    }
}

/// A way to decode.
#[derive(Debug, Clone, Copy)]
enum Codec {
    /// An encoding of the Encoding Standard.
    Known(&'static Encoding),
    /// UTF-32, which that standard does not have; whether the most significant byte comes first.
    Utf32 { is_big_endian: bool },
}

impl Codec {
    fn name(self, is_marked: bool) -> &'static str {
        match self {
            Self::Known(encoding) if is_marked && encoding == UTF_8 => "UTF-8 with a byte-order mark",
            Self::Known(encoding) => encoding.name(),
            Self::Utf32 { is_big_endian: true } => "UTF-32BE",
            Self::Utf32 { is_big_endian: false } => "UTF-32LE",
        }
    }

    fn decoder(self) -> Decoder {
        match self {
            Self::Known(encoding) => Decoder::Known(encoding.new_decoder_without_bom_handling()),
            Self::Utf32 { is_big_endian } => Decoder::Utf32 { is_big_endian, pending: Vec::new() },
        }
    }

    /// Returns the text of all bytes, and whether some were replaced.
    fn decode(self, bytes: &[u8]) -> (String, bool) {
        let mut text = String::new();
        let has_errors = self.decoder().decode(bytes, true, &mut text);
        (text, has_errors)
    }
}

enum Decoder {
    Known(encoding_rs::Decoder),
    Utf32 { is_big_endian: bool, pending: Vec<u8> },
}

impl Decoder {
    /// Appends the text of the next bytes; returns true if some were replaced.
    fn decode(&mut self, bytes: &[u8], is_last: bool, text: &mut String) -> bool {
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

/// Returns the encoding that a byte-order mark names, and the length of the mark.
fn marked(bytes: &[u8]) -> Option<(Codec, usize)> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] => Some((Codec::Utf32 { is_big_endian: false }, 4)),
        [0, 0, 0xfe, 0xff, ..] => Some((Codec::Utf32 { is_big_endian: true }, 4)),
        _ => Encoding::for_bom(bytes).map(|(encoding, length)| (Codec::Known(encoding), length)),
    }
}

/// Returns the byte order of UTF-16 without a mark: all zero bytes are in one half of the units, and what it decodes to
/// looks like text. `is_all` is false if only the beginning is given.
fn unmarked_utf16(bytes: &[u8], is_all: bool) -> Option<&'static Encoding> {
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
fn escaped(bytes: &[u8]) -> Option<&'static Encoding> {
    let switches = |sequence: &[u8]| sequence.starts_with(b"\x1b$B") || sequence.starts_with(b"\x1b$@");
    if !bytes.is_ascii() || !bytes.windows(3).any(switches) {
        return None;
    }
    let text = sound(ISO_2022_JP, bytes, false)?;
    text.chars().all(is_printable).then_some(ISO_2022_JP)
}

/// The name of UTF-8 in [`legacy`]'s error.
const UTF_8_NAME: &str = "UTF-8";
/// The name of UTF-8 with other bytes in it.
const DAMAGED_UTF_8: &str = "damaged UTF-8";

/// Returns the encoding of bytes that contain some outside ASCII; an error with the name of what it is instead if it
/// cannot be told, or is UTF-8. `is_all` is false if more bytes follow.
fn legacy(bytes: &[u8], is_all: bool) -> Result<&'static Encoding, &'static str> {
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

/// Returns true if decoded bytes look like text in their encoding. Heuristic, not measured: a language with the Latin
/// alphabet has fewer letters with accents than without, and one with its own alphabet hardly any with accents, and
/// fewer capitals than small letters.
fn is_plausible(text: &str, is_single_byte: bool) -> bool {
    /// Letters without which a single byte says nothing.
    const MIN_LETTERS: usize = 4;
    /// Letters of another alphabet that may all be capitals.
    const MIN_CAPITALS: usize = 30;
    let Letters { plain, accented, eastern, foreign, capitals, signs, odd, is_printable } = Letters::of(text);
    let is_latin = accented * 2 > foreign;
    is_printable
        && if !is_single_byte {
            foreign >= 2 && eastern * 2 >= foreign && odd * 5 <= foreign
        } else if is_latin || foreign == 0 {
            let is_text = plain >= accented && plain + accented >= MIN_LETTERS && signs <= plain + accented;
            is_text && odd * 10 <= foreign + signs
        } else {
            let is_text = accented * 10 <= foreign && plain + foreign >= MIN_LETTERS && signs <= plain + foreign;
            is_text && odd * 50 <= foreign && (capitals * 2 <= foreign || foreign >= MIN_CAPITALS)
        }
}

/// Returns true if all characters outside ASCII are a few signs where signs can be.
fn has_signs_only(text: &str) -> bool {
    let Letters { plain, foreign, signs, odd, is_printable, .. } = Letters::of(text);
    is_printable && foreign == 0 && odd == 0 && signs * 4 <= plain
}

/// Counts of the characters of a text.
#[derive(Default)]
struct Letters {
    /// Letters of ASCII.
    plain: usize,
    /// Latin letters outside ASCII.
    accented: usize,
    /// Letters of Chinese, Japanese and Korean.
    eastern: usize,
    /// Letters outside ASCII.
    foreign: usize,
    /// Capitals among these.
    capitals: usize,
    /// Other characters outside ASCII that are not white space.
    signs: usize,
    /// Those outside ASCII that do not fit their neighbours, as of a text that is decoded wrongly.
    odd: usize,
    /// Whether there are no others.
    is_printable: bool,
}

impl Letters {
    fn of(text: &str) -> Self {
        let mut counts = Self { is_printable: true, ..Self::default() };
        let mut before = None;
        let mut characters = text.chars().peekable();
        while let Some(c) = characters.next() {
            let after = characters.peek().copied();
            counts.is_printable &= is_printable(c);
            if c.is_ascii() {
                counts.plain += usize::from(c.is_ascii_alphabetic());
            } else if c.is_alphabetic() && !SIGNS.contains(c) {
                counts.foreign += 1;
                counts.accented += usize::from(is_latin(c));
                counts.eastern += usize::from(is_eastern(c));
                counts.capitals += usize::from(c.is_uppercase());
                counts.odd += usize::from(is_odd(before, c, after));
            } else if !c.is_whitespace() {
                counts.signs += 1;
                counts.odd += usize::from(is_odd(before, c, after));
            }
            before = Some(c);
        }
        counts
    }
}

/// Signs that Unicode counts as letters.
const SIGNS: &str = "µªº";

fn is_latin(c: char) -> bool {
    matches!(c, '\u{aa}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}')
}

fn is_eastern(c: char) -> bool {
    c >= '\u{2e80}'
}

/// Returns true if a character outside ASCII does not fit its neighbours: a capital after a small letter, letters of
/// two alphabets, a sign inside a word, an opening quote after one.
fn is_odd(before: Option<char>, c: char, after: Option<char>) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphabetic);
    let is_plain = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphabetic());
    if c.is_alphabetic() && !SIGNS.contains(c) {
        let is_late_capital = c.is_uppercase() && before.is_some_and(char::is_lowercase);
        // Chinese, Japanese and Korean have no spaces beside words in ASCII.
        let is_mixed =
            if is_eastern(c) { is_plain(before) && is_plain(after) } else { is_plain(before) || is_plain(after) };
        return is_late_capital || (!is_latin(c) && is_mixed);
    }
    match c {
        // Apostrophes, dashes, dots, soft hyphen; marks of other alphabets, which belong to words.
        '’' | '´' | '–' | '—' | '·' | '…' | '\u{ad}' | '\u{300}'..='\u{1fff}' => false,
        '‚' | '„' | '†' | '‡' => is_letter(before),
        '¡' | '¿' => before.is_some_and(char::is_alphanumeric),
        'ˆ' | '˜' | '¸' | '¨' | '¯' => true,
        _ => is_letter(before) && is_letter(after),
    }
}

/// Returns false for characters that text does not have: controls, private and invalid ones.
fn is_printable(c: char) -> bool {
    match c {
        // Colours of logs, and the end of files of DOS.
        '\t' | '\n' | '\r' | '\u{c}' | '\u{1a}' | '\u{1b}' => true,
        '\u{fffd}' | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{f0000}'.. => false,
        c => !c.is_control() && u32::from(c) & 0xfffe != 0xfffe,
    }
}
