//! Thrift's compact protocol, as far as headers of pages and footers need it.
//!
//! Crate `parquet` keeps its own reader to itself. A value that is not asked for is skipped without being stored, so no
//! claim of a length allocates anything (Apache Thrift, `thrift-compact-protocol.md`).

use std::io::{self, Read};

use crate::wrong;

/// Levels of nesting that are skipped; Parquet's own structures have fewer than ten.
const MAX_DEPTH: u32 = 32;

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A boolean, whose value is in the type.
    Boolean(bool),
    /// One byte.
    Byte,
    /// An integer of 16, 32 or 64 bits.
    Integer,
    Double,
    /// Bytes or text.
    Binary,
    /// A list or a set.
    List,
    Map,
    Struct,
}

impl Kind {
    fn of(code: u8) -> io::Result<Self> {
        Ok(match code {
            1 => Self::Boolean(true),
            2 => Self::Boolean(false),
            3 => Self::Byte,
            4..=6 => Self::Integer,
            7 => Self::Double,
            8 => Self::Binary,
            9 | 10 => Self::List,
            11 => Self::Map,
            12 => Self::Struct,
            _ => return Err(wrong(format!("Thrift has no type {code}"))),
        })
    }
}

/// A reader of the protocol.
pub(crate) struct Compact<R> {
    reader: R,
    /// The number of bytes read.
    pub bytes: u64,
}

impl<R: Read> Compact<R> {
    /// Returns a reader of `reader`.
    pub fn new(reader: R) -> Self {
        Self { reader, bytes: 0 }
    }

    /// Reads a struct: `read` gets each field's number and type, and returns false to have its value skipped.
    pub fn fields(&mut self, read: impl FnMut(&mut Self, i16, Kind) -> io::Result<bool>) -> io::Result<()> {
        self.fields_within(MAX_DEPTH, read)
    }

    fn fields_within(
        &mut self,
        depth: u32,
        mut read: impl FnMut(&mut Self, i16, Kind) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut number = 0_i16;
        loop {
            let head = self.byte()?;
            let (delta, code) = (head >> 4, head & 0xf);
            if code == 0 {
                return Ok(());
            }
            let kind = Kind::of(code)?;
            number = match delta {
                0 => self.integer()? as i16,
                delta => number.checked_add(i16::from(delta)).ok_or_else(|| wrong("a field number is too large"))?,
            };
            if !read(self, number, kind)? {
                self.skip(kind, depth)?;
            }
        }
    }

    /// Reads an integer of any width.
    pub fn integer(&mut self) -> io::Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Reads the beginning of a list: the number and type of its items, which follow.
    pub fn list(&mut self) -> io::Result<(u64, Kind)> {
        let head = self.byte()?;
        // Some writers give an empty list no type.
        if head == 0 {
            return Ok((0, Kind::Byte));
        }
        let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        Ok((count, Kind::of(head & 0xf)?))
    }

    fn skip(&mut self, kind: Kind, depth: u32) -> io::Result<()> {
        let Some(depth) = depth.checked_sub(1) else { return Err(wrong("structures are nested too deeply")) };
        match kind {
            Kind::Boolean(_) => Ok(()),
            Kind::Byte => self.byte().map(drop),
            Kind::Integer => self.varint().map(drop),
            Kind::Double => self.skip_bytes(8),
            Kind::Binary => {
                let length = self.varint()?;
                self.skip_bytes(length)
            }
            Kind::List => {
                let (count, item) = self.list()?;
                (0..count).try_for_each(|_| self.skip_item(item, depth))
            }
            Kind::Map => {
                let count = self.varint()?;
                if count == 0 {
                    return Ok(());
                }
                let types = self.byte()?;
                let (key, value) = (Kind::of(types >> 4)?, Kind::of(types & 0xf)?);
                (0..count).try_for_each(|_| {
                    self.skip_item(key, depth)?;
                    self.skip_item(value, depth)
                })
            }
            Kind::Struct => self.fields_within(depth, |_, _, _| Ok(false)),
        }
    }

    /// Skips an item of a list or a map, where a boolean takes a byte.
    fn skip_item(&mut self, kind: Kind, depth: u32) -> io::Result<()> {
        if let Kind::Boolean(_) = kind { self.byte().map(drop) } else { self.skip(kind, depth) }
    }

    fn skip_bytes(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.reader.by_ref().take(count), &mut io::sink())?;
        self.bytes += skipped;
        if skipped < count { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(wrong("an integer has more than 64 bits"))
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.reader.read_exact(&mut byte)?;
        self.bytes += 1;
        Ok(byte[0])
    }
}
