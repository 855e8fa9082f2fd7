//! A document in the file of a run.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::PathBuf;

use crate::Error;

/// The tokens of a document, its end included.
pub(crate) struct Tokens {
    pub ids: Vec<u32>,
    /// The loss mask, if there is one.
    pub loss_mask: Option<Vec<bool>>,
    /// Of a preference, the number of tokens of the chosen answer; those of the rejected one follow. Otherwise 0.
    pub chosen: usize,
}

/// Writes a document of a run: key, number, lengths, whether there is a mask, tokens, mask.
pub(crate) fn write_document(
    to: &mut impl Write,
    key: [u8; 16],
    number: u32,
    tokens: &Tokens,
    text_bytes: u64,
) -> std::io::Result<()> {
    to.write_all(&key)?;
    to.write_all(&number.to_le_bytes())?;
    to.write_all(&text_bytes.to_le_bytes())?;
    to.write_all(&(tokens.ids.len() as u64).to_le_bytes())?;
    to.write_all(&(tokens.chosen as u64).to_le_bytes())?;
    to.write_all(&[u8::from(tokens.loss_mask.is_some())])?;
    for id in &tokens.ids {
        to.write_all(&id.to_le_bytes())?;
    }
    let mask: Vec<u8> = tokens.loss_mask.iter().flatten().map(|counts| u8::from(*counts)).collect();
    to.write_all(&mask)
}

/// A run that is being merged.
pub(crate) struct RunReader {
    from: BufReader<File>,
    path: PathBuf,
}

/// The next document of a run.
pub(crate) struct Head {
    pub key: [u8; 16],
    /// Its number among all documents.
    pub number: u32,
    pub text_bytes: u64,
    pub tokens: Tokens,
}

impl RunReader {
    pub fn open(path: PathBuf) -> Result<Self, Error> {
        let file = File::open(&path).map_err(|e| artifact::Error::io("open", &path, e))?;
        Ok(Self { from: BufReader::with_capacity(1 << 16, file), path })
    }

    pub fn next(&mut self) -> Result<Option<Head>, Error> {
        let mut key = [0; 16];
        match self.from.read_exact(&mut key) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read.map_err(|e| artifact::Error::io("read", &self.path, e))?,
        }
        let read = |from: &mut BufReader<File>| {
            let mut number = [0; 4];
            from.read_exact(&mut number)?;
            let document = u32::from_le_bytes(number);
            let mut number = [0; 8];
            from.read_exact(&mut number)?;
            let text_bytes = u64::from_le_bytes(number);
            from.read_exact(&mut number)?;
            let length = u64::from_le_bytes(number) as usize;
            from.read_exact(&mut number)?;
            let chosen = u64::from_le_bytes(number) as usize;
            let mut masked = [0];
            from.read_exact(&mut masked)?;
            let mut bytes = vec![0; 4 * length];
            from.read_exact(&mut bytes)?;
            let ids = bytes.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
            let mut mask = vec![0; if masked[0] == 0 { 0 } else { length }];
            from.read_exact(&mut mask)?;
            let loss_mask = (masked[0] != 0).then(|| mask.iter().map(|counts| *counts != 0).collect());
            Ok(Head { key, number: document, text_bytes, tokens: Tokens { ids, loss_mask, chosen } })
        };
        let head = read(&mut self.from).map_err(|e: std::io::Error| artifact::Error::io("read", &self.path, e))?;
        Ok(Some(head))
    }
}
