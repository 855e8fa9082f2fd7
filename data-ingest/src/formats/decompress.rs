//! Decompression of a stream.

use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;

use crate::formats::format::Packing;
use crate::formats::limits::{InputFile, LimitedReader};

/// The largest dictionary of an xz stream; `xz -9` needs 64 MiB (xz manual).
const XZ_MEMORY_KIB: u32 = 256 << 10;

/// Returns a reader of the decompressed bytes; `packed_bytes` counts the compressed bytes read.
pub(crate) fn unpack<'r>(
    packed: impl Read + 'r,
    packing: Packing,
    packed_bytes: Rc<Cell<u64>>,
    input: &'r InputFile<'_>,
) -> io::Result<Box<dyn Read + 'r>> {
    let decoder: Box<dyn Read + 'r> = match packing {
        Packing::Plain => return Ok(Box::new(packed)),
        Packing::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 16, packed))),
        Packing::Zstd => Box::new(zstd::Decoder::new(packed)?),
        Packing::Xz => Box::new(XzReader::new_mem_limit(BufReader::new(packed), true, XZ_MEMORY_KIB)),
        Packing::Bzip2 => Box::new(MultiBzDecoder::new(BufReader::new(packed))),
    };
    Ok(Box::new(LimitedReader::new(decoder, input, packed_bytes)))
}
