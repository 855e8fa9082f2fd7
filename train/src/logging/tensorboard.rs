//! The metrics as a TensorBoard event file.
//!
//! We write it ourselves because the crates for it are unmaintained (the last release of `tensorboard-rs` is from 2022,
//! and it panics on a full disk). The file has only scalars: a record is a length, an event in protocol buffers, and a
//! masked CRC-32C of each (TensorFlow's `record_writer.h` and `event.proto`).

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::Error;

/// The file's name; TensorBoard looks for `tfevents` in it.
pub const FILE: &str = "events.out.tfevents.0.pipeline";

/// An event file.
pub struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Creates the file in `folder`, replacing an earlier one.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn create(folder: &Path, unix_seconds: f64) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let file = File::create(&path).map_err(|e| artifact::Error::io("create", &path, e))?;
        let mut events = Self { path, file };
        let mut event = Vec::new();
        fixed64(&mut event, 1, unix_seconds);
        bytes(&mut event, 3, b"brain.Event:2");
        events.record(&event)?;
        Ok(events)
    }

    /// Writes scalars of a step, each with its tag.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn scalars(&mut self, unix_seconds: f64, step: u64, scalars: &[(&str, f64)]) -> Result<(), Error> {
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            let mut entry = Vec::new();
            bytes(&mut entry, 1, tag.as_bytes());
            entry.push(2 << 3 | 5);
            entry.extend((*value as f32).to_le_bytes());
            bytes(&mut summary, 1, &entry);
        }
        let mut event = Vec::new();
        fixed64(&mut event, 1, unix_seconds);
        event.push(2 << 3);
        varint(&mut event, step);
        bytes(&mut event, 5, &summary);
        self.record(&event)
    }

    // One write per record, so that a kill leaves no partial record except the last.
    fn record(&mut self, event: &[u8]) -> Result<(), Error> {
        let length = (event.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(event);
        record.extend(masked_crc(event).to_le_bytes());
        Ok(self.file.write_all(&record).map_err(|e| artifact::Error::io("write", &self.path, e))?)
    }
}

fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn fixed64(to: &mut Vec<u8>, field: u8, value: f64) {
    to.push(field << 3 | 1);
    to.extend(value.to_le_bytes());
}

fn bytes(to: &mut Vec<u8>, field: u8, value: &[u8]) {
    to.push(field << 3 | 2);
    varint(to, value.len() as u64);
    to.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fixture was written by TensorBoard 2.21 (`tests/fixtures/tensorboard_events.py`).
    #[test]
    fn bytes_match_tensorboard() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = Events::create(folder.path(), 1.5).unwrap();
        events.scalars(2.5, 300, &[("train/loss", 2.25), ("train/learning_rate", 0.001)]).unwrap();
        let found = std::fs::read(folder.path().join(FILE)).unwrap();
        let expected = include_bytes!("../../tests/fixtures/tensorboard_events.bin");
        assert_eq!(found, expected);
    }
}
