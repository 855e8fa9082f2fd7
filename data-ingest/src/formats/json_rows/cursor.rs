//! A position in JSON text, which passes over values without parsing them.

use std::io::{self, Read};

/// Bytes read at once.
pub(super) const CHUNK_BYTES: usize = 64 << 10;

/// A position in JSON text.
pub(super) struct Cursor<R> {
    reader: R,
    buffer: Vec<u8>,
    pub(super) at: usize,
}

impl<R: Read> Cursor<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, buffer: Vec::new(), at: 0 }
    }

    /// Returns the next byte without passing over it; none at the end.
    fn peek(&mut self) -> io::Result<Option<u8>> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
            self.reader.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut self.buffer)?;
        }
        Ok(self.buffer.get(self.at).copied())
    }

    /// Returns the next byte that is not white space, without passing over it; none at the end.
    pub(super) fn token(&mut self) -> io::Result<Option<u8>> {
        while self.peek()?.is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
        self.peek()
    }

    /// Passes over a value, and keeps it in `kept` up to `max_bytes`; returns false if it is longer.
    pub(super) fn value<E>(&mut self, mut kept: Option<&mut Vec<u8>>, max_bytes: u64) -> Result<bool, Stop<E>> {
        let (mut depth, mut is_text, mut is_escaped, mut is_scalar, mut is_kept) = (0_u64, false, false, false, true);
        let start = kept.as_ref().map_or(0, |kept| kept.len());
        self.token()?;
        loop {
            let Some(byte) = self.peek()? else { return if is_scalar { Ok(is_kept) } else { Err(Stop::Unended) } };
            if is_scalar && (byte.is_ascii_whitespace() || b",]}:".contains(&byte)) {
                return Ok(is_kept);
            }
            self.at += 1;
            if let Some(kept) = &mut kept
                && is_kept
            {
                is_kept = ((kept.len() - start) as u64) < max_bytes;
                if is_kept { kept.push(byte) } else { kept.truncate(start) }
            }
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if is_text => is_escaped = true,
                b'"' => is_text = !is_text,
                _ if is_text => continue,
                b'{' | b'[' => depth += 1,
                b'}' | b']' | b',' | b':' if depth == 0 => return Err(Stop::Malformed),
                b'}' | b']' => depth -= 1,
                _ if depth == 0 => is_scalar = true,
                _ => {}
            }
            if depth == 0 && !is_text && !is_scalar {
                return Ok(is_kept);
            }
        }
    }

    /// Passes over a key and its colon, and returns the key.
    fn key<E>(&mut self) -> Result<String, Stop<E>> {
        /// The longest key that is compared with column names.
        const MAX_KEY_BYTES: u64 = 1 << 16;
        if self.token()? != Some(b'"') {
            return Err(Stop::Malformed);
        }
        let mut bytes = Vec::new();
        self.value(Some(&mut bytes), MAX_KEY_BYTES)?;
        if self.token()? != Some(b':') {
            return Err(Stop::Malformed);
        }
        self.at += 1;
        Ok(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Visits the items of an array or an object, which `close` ends; `visit` passes over each.
    fn items<E>(&mut self, close: u8, mut visit: impl FnMut(&mut Self) -> Result<(), Stop<E>>) -> Result<(), Stop<E>> {
        self.at += 1;
        loop {
            match self.token()? {
                None => return Err(Stop::Unended),
                Some(b',') => self.at += 1,
                Some(byte) if byte == close => {
                    self.at += 1;
                    return Ok(());
                }
                Some(_) => {
                    visit(self)?;
                    if !matches!(self.token()?, None | Some(b',' | b']' | b'}')) {
                        return Err(Stop::Malformed);
                    }
                }
            }
        }
    }

    /// Visits the elements of an array; passes over another value.
    pub(super) fn elements<E>(&mut self, visit: impl FnMut(&mut Self) -> Result<(), Stop<E>>) -> Result<(), Stop<E>> {
        if self.token()? == Some(b'[') { self.items(b']', visit) } else { self.value(None, 0).map(drop) }
    }

    /// Visits the values of an object by their keys; passes over another value.
    pub(super) fn members<E>(
        &mut self,
        mut visit: impl FnMut(&mut Self, String) -> Result<(), Stop<E>>,
    ) -> Result<(), Stop<E>> {
        if self.token()? != Some(b'{') {
            return self.value(None, 0).map(drop);
        }
        self.items(b'}', |cursor| {
            let key = cursor.key()?;
            cursor.token()?;
            visit(cursor, key)
        })
    }

    /// Visits the values at a path; passes over the others.
    pub(super) fn walk<E>(
        &mut self,
        path: &[String],
        nesting: usize,
        visit: &mut dyn FnMut(&mut Self) -> Result<(), Stop<E>>,
    ) -> Result<(), Stop<E>> {
        match (path.split_first(), self.token()?) {
            (None, _) => visit(self),
            (Some((first, rest)), Some(b'{')) => self.members(|cursor, key| {
                if key == *first { cursor.walk(rest, nesting, visit) } else { cursor.value(None, 0).map(drop) }
            }),
            (Some(_), Some(b'[')) if nesting > 0 => self.elements(|cursor| cursor.walk(path, nesting - 1, visit)),
            _ => self.value(None, 0).map(drop),
        }
    }
}

/// Why scanning ended.
pub(super) enum Stop<E> {
    /// The caller wants no more.
    Caller(E),
    Read(io::Error),
    Unended,
    Malformed,
}

impl<E> From<io::Error> for Stop<E> {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}
