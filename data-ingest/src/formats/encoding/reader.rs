//! Streams of text.

use std::io::{self, Read};

use encoding_rs::{Encoding, UTF_8};

use super::codec::{Codec, Decoder};
use super::detection::{UTF_8_NAME, escaped, legacy, marked, unmarked_utf16};
use super::{CHUNK_BYTES, Fate, FileEncoding};

/// Bytes after the first one outside ASCII that decide the encoding of a stream. Heuristic, not measured: thousands of
/// words.
const DETECTED_BYTES: usize = 256 << 10;

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
