//! The decoder of a `tokenizer.json`, applied token by token: each step holds back what a later token may change.

use tokenizers::decoders::strip::Strip;
use tokenizers::{Decoder, DecoderWrapper, Error};

use crate::pre_tokenizer::byte_of;

/// A step from tokens to text.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Maps each token by itself; the first one differently from the others.
    Each(DecoderWrapper),
    /// Maps each token by itself; the last one differently from the others.
    EachUpToLast(DecoderWrapper),
    /// Strips each token.
    StripEach(Strip),
    /// Puts a space between tokens.
    Spaces,
    /// Reads tokens such as `<0x41>` as bytes. A run of them that is not UTF-8 becomes one U+FFFD per byte.
    ByteFallback,
    /// Reads the characters of all tokens as bytes.
    ByteLevel,
    /// Strips the whole text.
    StripWhole(Strip),
}

/// Returns the steps of a decoder; `None` if the whole sequence is needed for any text.
pub(crate) fn steps(decoder: Option<&DecoderWrapper>) -> Option<Vec<Step>> {
    let Some(decoder) = decoder else { return Some(vec![Step::Spaces]) };
    let decoders = match decoder {
        DecoderWrapper::Sequence(sequence) => sequence.get_decoders(),
        one => std::slice::from_ref(one),
    };
    let mut steps = Vec::new();
    // Whether the tokens are joined to one text.
    let mut is_joined = false;
    for decoder in decoders {
        steps.push(match decoder {
            DecoderWrapper::Fuse(_) => {
                is_joined = true;
                continue;
            }
            DecoderWrapper::Strip(strip) if is_joined => Step::StripWhole(strip.clone()),
            _ if is_joined => return None,
            DecoderWrapper::Strip(strip) => Step::StripEach(strip.clone()),
            DecoderWrapper::Replace(_) | DecoderWrapper::Metaspace(_) | DecoderWrapper::WordPiece(_) => {
                Step::Each(decoder.clone())
            }
            DecoderWrapper::BPE(_) => Step::EachUpToLast(decoder.clone()),
            DecoderWrapper::ByteFallback(_) => Step::ByteFallback,
            DecoderWrapper::ByteLevel(_) => {
                is_joined = true;
                Step::ByteLevel
            }
            DecoderWrapper::CTC(_) | DecoderWrapper::Sequence(_) => return None,
        });
    }
    Some(steps)
}

/// Returns the bytes of a token that stands after others; `None` where they depend on these.
pub(crate) fn bytes_of(steps: &[Step], token: String) -> Option<Vec<u8>> {
    const BEFORE: &str = "a";
    let depends = |step: &Step| match step {
        Step::EachUpToLast(_) | Step::ByteLevel => true,
        Step::StripWhole(strip) => strip.stop > 0,
        Step::Each(_) | Step::StripEach(_) | Step::Spaces | Step::ByteFallback => false,
    };
    if steps.iter().any(depends) {
        return None;
    }
    let has_bytes = steps.iter().any(|step| matches!(step, Step::ByteFallback));
    if let Some(byte) = byte_token(&token).filter(|_| has_bytes) {
        return Some(vec![byte]);
    }
    let (mut chain, mut text) = (Chain::new(steps), String::new());
    chain.push(BEFORE.to_owned(), &mut text).ok()?;
    chain.push(token, &mut text).ok()?;
    chain.finish(&mut text).ok()?;
    Some(text.strip_prefix(BEFORE)?.as_bytes().to_vec())
}

/// Steps with what they hold back.
#[derive(Clone)]
pub(crate) struct Chain<'t>(Vec<State<'t>>);

#[derive(Clone)]
struct State<'t> {
    step: &'t Step,
    /// Whether the step has seen a token, or for [`Step::StripWhole`] the first character that it keeps.
    is_started: bool,
    /// The number of characters stripped at the start of the text.
    stripped: usize,
    /// The token or the characters that are held back.
    held: Option<String>,
    /// The bytes that are held back.
    bytes: Vec<u8>,
}

impl<'t> Chain<'t> {
    pub(crate) fn new(steps: &'t [Step]) -> Self {
        let state = |step| State { step, is_started: false, stripped: 0, held: None, bytes: Vec::new() };
        Self(steps.iter().map(state).collect())
    }

    /// Adds a token, and appends the text that no later token changes.
    pub(crate) fn push(&mut self, token: String, text: &mut String) -> Result<(), Error> {
        push(&mut self.0, token, text)
    }

    /// Returns whether the bytes that are held back end within a character.
    pub(crate) fn is_within_character(&self) -> bool {
        self.0.iter().any(|state| std::str::from_utf8(&state.bytes).is_err())
    }

    /// Appends the rest of the text.
    pub(crate) fn finish(mut self, text: &mut String) -> Result<(), Error> {
        for at in 0..self.0.len() {
            let (state, later) = self.0[at..].split_first_mut().expect("`at` is less than the length");
            for token in state.finish()? {
                push(later, token, text)?;
            }
        }
        Ok(())
    }
}

fn push(states: &mut [State], token: String, text: &mut String) -> Result<(), Error> {
    let Some((state, later)) = states.split_first_mut() else {
        text.push_str(&token);
        return Ok(());
    };
    for token in state.push(token)? {
        push(later, token, text)?;
    }
    Ok(())
}

impl State<'_> {
    /// Adds a token, and returns the tokens that no later one changes.
    fn push(&mut self, token: String) -> Result<Vec<String>, Error> {
        let is_first = !std::mem::replace(&mut self.is_started, true);
        Ok(match self.step {
            Step::Each(decoder) if is_first => decoder.decode_chain(vec![token])?,
            Step::Each(decoder) => decoder.decode_chain(vec![String::new(), token])?.split_off(1),
            Step::EachUpToLast(decoder) => {
                let Some(previous) = self.held.replace(token) else { return Ok(Vec::new()) };
                let mut tokens = decoder.decode_chain(vec![previous, String::new()])?;
                tokens.truncate(1);
                tokens
            }
            Step::StripEach(strip) => {
                let rest = strip_start(&token, strip.content, strip.start);
                vec![rest[..rest.len() - held_at_end(rest, strip)].to_owned()]
            }
            Step::Spaces if is_first => vec![token],
            Step::Spaces => vec![format!(" {token}")],
            Step::ByteFallback => {
                if let Some(byte) = byte_token(&token) {
                    self.bytes.push(byte);
                    return Ok(Vec::new());
                }
                let mut tokens = self.finish()?;
                tokens.push(token);
                tokens
            }
            Step::ByteLevel => {
                let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
                self.bytes.extend(bytes.unwrap_or_else(|| token.into_bytes()));
                vec![drain_complete_characters(&mut self.bytes)]
            }
            Step::StripWhole(strip) => {
                let rest =
                    if is_first { strip_start(&token, strip.content, strip.start - self.stripped) } else { &token };
                if is_first {
                    self.stripped += token[..token.len() - rest.len()].chars().count();
                    self.is_started = !rest.is_empty() || self.stripped == strip.start;
                }
                let mut text = self.held.take().unwrap_or_default() + rest;
                self.held = Some(text.split_off(text.len() - held_at_end(&text, strip)));
                vec![text]
            }
        })
    }

    /// Returns the tokens that are held back.
    fn finish(&mut self) -> Result<Vec<String>, Error> {
        let bytes = std::mem::take(&mut self.bytes);
        Ok(match self.step {
            Step::Each(_) | Step::StripEach(_) | Step::Spaces | Step::StripWhole(_) => Vec::new(),
            Step::EachUpToLast(decoder) => match self.held.take() {
                Some(last) => decoder.decode_chain(vec![last])?,
                None => Vec::new(),
            },
            Step::ByteFallback if bytes.is_empty() => Vec::new(),
            Step::ByteFallback => {
                vec![String::from_utf8(bytes).unwrap_or_else(|error| "\u{fffd}".repeat(error.as_bytes().len()))]
            }
            Step::ByteLevel => vec![String::from_utf8_lossy(&bytes).into_owned()],
        })
    }
}

/// Returns `text` without up to `most` characters `content` at its start.
fn strip_start(text: &str, content: char, most: usize) -> &str {
    let mut rest = text;
    for _ in 0..most {
        let Some(stripped) = rest.strip_prefix(content) else { break };
        rest = stripped;
    }
    rest
}

/// Returns the length in bytes of what is stripped from the end of `text`.
fn held_at_end(text: &str, strip: &Strip) -> usize {
    let held = text.chars().rev().take(strip.stop).take_while(|character| *character == strip.content);
    held.map(char::len_utf8).sum()
}

/// Returns the byte of a token such as `<0x41>`.
fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// Removes all complete characters from `bytes` and returns them.
pub(crate) fn drain_complete_characters(bytes: &mut Vec<u8>) -> String {
    let complete = match bytes.utf8_chunks().last() {
        // An incomplete character is a prefix of a valid one: the error then has no length.
        Some(last) if std::str::from_utf8(last.invalid()).is_err_and(|e| e.error_len().is_none()) => {
            bytes.len() - last.invalid().len()
        }
        _ => bytes.len(),
    };
    let text = String::from_utf8_lossy(&bytes[..complete]).into_owned();
    bytes.drain(..complete);
    text
}
