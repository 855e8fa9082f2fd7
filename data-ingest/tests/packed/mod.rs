//! Compressed files and archives, created in memory.

#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{Cursor, Write as _};

use zip::write::SimpleFileOptions;

/// Compresses with gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Compresses with Zstandard.
pub fn zstandard(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// Compresses with bzip2.
pub fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Wraps bytes in an xz stream that stores them as they are ("The .xz File Format", version 1.2.1).
pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum().to_le_bytes()
    };
    let number = |mut n: usize| {
        let mut out = Vec::new();
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
        out
    };
    let pad = |out: &mut Vec<u8>| out.resize(out.len().next_multiple_of(4), 0);
    // Check type 1: CRC32.
    let flags = [0, 1];
    let mut out = [&[0xfd, b'7', b'z', b'X', b'Z', 0][..], &flags, &crc(&flags)].concat();
    // One filter, LZMA2 (0x21), with a dictionary of 1 MiB (0x10).
    let mut block = vec![2, 0, 0x21, 1, 0x10, 0, 0, 0];
    block.extend(crc(&block));
    for (i, chunk) in bytes.chunks(1 << 16).enumerate() {
        block.push(if i == 0 { 1 } else { 2 });
        block.extend((chunk.len() as u16).wrapping_sub(1).to_be_bytes());
        block.extend(chunk);
    }
    block.push(0);
    let unpadded = block.len() + 4;
    pad(&mut block);
    block.extend(crc(bytes));
    out.extend(block);
    let mut index = [vec![0, 1], number(unpadded), number(bytes.len())].concat();
    pad(&mut index);
    index.extend(crc(&index));
    let backward = (index.len() as u32 / 4 - 1).to_le_bytes();
    let end = [&backward[..], &flags].concat();
    out.extend(index);
    out.extend(crc(&end));
    out.extend(end);
    out.extend(b"YZ");
    out
}

/// Returns a ZIP archive.
pub fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Returns a tar archive, with any names.
pub fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        // The builder rejects paths outside the archive.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}
