//! Damaged and hostile files.

use std::io::{Seek as _, Write as _};

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};

use super::*;
use crate::Source;
use crate::documents::mapping::Columns as SourceColumns;
use crate::formats::columnar;
use crate::formats::table::{self, Table};

/// Returns a small table with nulls and, optionally, a dictionary, in row groups of 20 rows.
fn packed(properties: WriterPropertiesBuilder, is_repeated: bool) -> Vec<u8> {
    let text = |i: usize| (i % 3 != 1).then(|| if is_repeated { "again".repeat(9) } else { format!("text {i}") });
    let texts: ArrayRef = Arc::new((0..40).map(text).collect::<StringArray>());
    let table = RecordBatch::try_from_iter_with_nullable([("text", texts, true)]).unwrap();
    let properties = properties
        .set_max_row_group_row_count(Some(20))
        .set_dictionary_enabled(is_repeated)
        .set_statistics_enabled(parquet::file::properties::EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, table.schema(), Some(properties)).unwrap();
    writer.write(&table).unwrap();
    writer.close().unwrap();
    bytes
}

/// Returns the number of rows read, and the complaint about the others.
fn read(bytes: &[u8]) -> (usize, Vec<String>) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    let columns = SourceColumns::of(&Source::default());
    let mapping = Mapping::new(&columns, 1 << 20).unwrap();
    let (mut rows, mut messages) = (0, Vec::new());
    table::read(&file, Table::Parquet, &mapping, &mut |found| {
        match found {
            TablePart::Rows(_, batch) => rows += columnar::rows(&batch, &mapping).count(),
            TablePart::Damaged(at, message) => messages.push(format!("{at}: {message}").trim_start().to_owned()),
            TablePart::Unsupported(message) => messages.push(message),
            TablePart::Unreadable(error) => panic!("{error}"),
            _ => {}
        }
        Ok(())
    })
    .unwrap();
    (rows, messages)
}

/// Returns the place of `pattern` in `bytes`.
fn place(bytes: &[u8], pattern: &[u8]) -> usize {
    bytes.windows(pattern.len()).position(|window| window == pattern).unwrap()
}

#[test]
fn a_page_with_an_untrue_value_count_costs_its_row_group_alone() {
    let mut bytes = packed(WriterProperties::builder(), false);
    assert_eq!(read(&bytes), (40, vec![]));
    // The header's fifth field is the header of its data, the first of which are 20 values, in zigzag 40.
    let at = place(&bytes, &[0x2c, 0x15, 40]);
    bytes[at + 2] = 39;
    assert_eq!(read(&bytes), (20, vec!["rows 1 to 20: a page claims -20 values".to_owned()]));
    bytes[at + 2] = 42;
    let message = "rows 1 to 20: the pages of a column have more than its 20 values";
    assert_eq!(read(&bytes), (20, vec![message.to_owned()]));
    bytes[at + 2] = 38;
    let message = "rows 1 to 20: the pages of a column have 19 of its 20 values";
    assert_eq!(read(&bytes), (20, vec![message.to_owned()]));
}

/// The decoders of gzip and Brotli unpack without a limit, whatever the page claims.
#[test]
fn a_page_with_an_untrue_size_costs_its_row_group_alone() {
    for compression in [Compression::GZIP(GzipLevel::default()), Compression::BROTLI(BrotliLevel::default())] {
        let packed = |is_repeated| packed(WriterProperties::builder().set_compression(compression), is_repeated);
        let whole = packed(false);
        assert_eq!(read(&whole), (40, vec![]), "{compression}");
        // The type, 0, and the unpacked size, in zigzag a number of two bytes.
        let at = place(&whole, &[0x15, 0, 0x15]) + 3;
        assert!(whole[at] >= 0x80 && whole[at + 1] < 0x80, "{compression}");
        let mut bytes = whole.clone();
        bytes[at..at + 2].copy_from_slice(&[0xc8, 0x01]);
        let message = |size| vec![format!("rows 1 to 20: a page unpacks to more than the {size} bytes it claims")];
        assert_eq!(read(&bytes), (20, message(100)), "{compression}");
        bytes[at..at + 2].copy_from_slice(&[whole[at], whole[at + 1] + 1]);
        let (rows, messages) = read(&bytes);
        assert!(rows == 20 && messages.len() == 1, "{compression}: {rows} rows, {messages:?}");
        // The same of a dictionary: one text of 45 bytes, and its length.
        let mut bytes = packed(true);
        let at = place(&bytes, &[0x15, 4, 0x15]) + 3;
        assert_eq!(bytes[at], 2 * 49, "{compression}");
        bytes[at] = 2 * 40;
        assert_eq!(read(&bytes), (20, message(40)), "{compression}");
    }
}

/// The decoder would allocate as many lengths as the page claims.
#[test]
fn delta_encoded_lengths_with_an_untrue_count_are_damaged() {
    for encoding in [Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY] {
        let mut bytes = packed(WriterProperties::builder().set_encoding(encoding), false);
        assert_eq!(read(&bytes), (40, vec![]));
        // Blocks of 128 lengths in four parts, then their number: 13 of 20 rows have a text.
        let at = place(&bytes, &[0x80, 1, 4, 13]);
        bytes[at + 3] = 0x7f;
        let message = "rows 1 to 20: Parquet argument error: Parquet error: a page is shorter than its lengths";
        assert_eq!(read(&bytes), (20, vec![message.to_owned()]), "{encoding}");
    }
}

#[test]
fn encrypted_files_are_refused() {
    let mut bytes = packed(WriterProperties::builder(), false);
    let length = bytes.len();
    bytes[length - 1] = b'E';
    let message = "it is encrypted; decrypt it, or leave it out with `exclude`";
    assert_eq!(read(&bytes), (0, vec![message.to_owned()]));
}

#[test]
fn lzo_is_refused_by_column() {
    let bytes = packed(WriterProperties::builder(), false);
    // In the metadata of a column: the path, a list of one text, and then the codec, none.
    let mut changed = bytes.clone();
    let pattern = [&[0x19, 0x18, 4][..], b"text", &[0x15, 0]].concat();
    let at = place(&bytes, &pattern) + pattern.len() - 1;
    changed[at] = 6;
    let message = "column `text` is compressed with LZO, which is not supported; write the file again with zstd, or \
                   leave the file out with `exclude`";
    assert_eq!(read(&changed), (0, vec![message.to_owned()]));
}

#[test]
fn columns_are_not_nested_without_end() {
    // A footer whose second field is a list of 70 groups of one column each, in one another.
    let group = [0x48, 1, b'a', 0x15, 2, 0];
    let mut footer = vec![0x15, 4, 0x19, 0xfc, 70];
    (0..70).for_each(|_| footer.extend(group));
    footer.push(0);
    let length = (footer.len() as u32).to_le_bytes();
    let bytes = [b"PAR1", &footer[..], &length, b"PAR1"].concat();
    assert_eq!(read(&bytes), (0, vec![": its columns are nested more than 64 levels deep".to_owned()]));
}

#[test]
fn changed_bytes_do_not_abort_the_process() {
    let zstd = parquet::basic::Compression::ZSTD(ZstdLevel::default());
    let delta = WriterProperties::builder().set_encoding(Encoding::DELTA_BYTE_ARRAY);
    for (properties, is_repeated) in [
        (WriterProperties::builder(), true),
        (WriterProperties::builder().set_compression(zstd), false),
        (delta, false),
    ] {
        let whole = packed(properties, is_repeated);
        for at in 0..whole.len() {
            for change in [0x01, 0x40, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                assert!(read(&bytes).0 <= 80, "byte {at} changed by {change:x}");
            }
        }
    }
}
