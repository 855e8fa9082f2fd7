//! Damaged and hostile files.

use std::io::{Seek as _, Write as _};

use arrow_array::types::Int8Type;
use arrow_array::{DictionaryArray, Int64Array, StringArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{DictionaryHandling, FileWriter, IpcWriteOptions, StreamWriter};

use super::*;
use crate::Source;
use crate::formats::columnar;
use crate::formats::table::{self, Table};

/// Returns the text of each row, and the complaints about the others.
fn read(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    let source = Source { template: Some("{{ n }}".to_owned()), ..Source::default() };
    let columns = crate::documents::mapping::Columns::of(&source);
    let mapping = Mapping::new(&columns, 1 << 20).unwrap();
    let (mut rows, mut messages) = (Vec::new(), Vec::new());
    table::read(&file, Table::Arrow, &mapping, &mut |found| {
        match found {
            TablePart::Rows(_, batch) => {
                let document =
                    |row| mapping.map(row).map_or_else(|e| format!("{e:?}"), |row| format!("{:?}", row.content));
                rows.extend(columnar::rows(&batch, &mapping).map(document));
            }
            TablePart::Damaged(at, message) => messages.push(format!("{at}: {message}").trim_start().to_owned()),
            TablePart::Unsupported(message) => messages.push(message),
            TablePart::Unreadable(error) => panic!("{error}"),
            TablePart::NoColumn { .. } | TablePart::WrongType { .. } => messages.push("another column".to_owned()),
        }
        Ok(())
    })
    .unwrap();
    (rows, messages)
}

/// Writes batches as a stream.
fn stream(batches: &[Rows], options: IpcWriteOptions) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new_with_options(&mut bytes, batches[0].schema_ref(), options).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

/// Returns a batch of 37 numbers, which take 296 bytes.
fn numbers() -> Rows {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..37));
    Rows::try_from_iter([("n", column)]).unwrap()
}

#[test]
fn sizes_are_checked_against_the_file() {
    let plain = || IpcWriteOptions::default();
    let whole = stream(&[numbers(), numbers()], plain());
    assert_eq!(read(&whole).0.len(), 74);
    // The first of each claim is that of the first batch.
    let check = |from: &[i64], to: &[i64], rows: usize, message: &str| {
        let [from, to] =
            [from, to].map(|claims| claims.iter().flat_map(|claim| claim.to_le_bytes()).collect::<Vec<_>>());
        let mut bytes = whole.clone();
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(&to);
        let (found, messages) = read(&bytes);
        assert_eq!((found.len(), messages), (rows, vec![message.to_owned()]));
    };
    let negative = "row 1: out of range integral type conversion attempted";
    check(&[0, 296], &[0, 1 << 40], 0, "row 1: a buffer is longer than its batch");
    check(&[0, 296], &[8, i64::MAX], 0, "row 1: a buffer is longer than its batch");
    check(&[0, 296], &[-1, 296], 0, negative);
    check(&[0, 296], &[0, -1], 0, negative);
    // The batch, then its column, claims to have 37 rows without nulls.
    let short = "rows 1 to 37: Invalid argument error: Need at least 304 bytes in buffers[0] in array of type Int64, \
                 but got 296";
    check(&[37, 0], &[38, 0], 37, short);
}

#[test]
fn a_truncated_stream_keeps_its_first_batches() {
    let whole = stream(&[numbers(), numbers()], IpcWriteOptions::default());
    let (rows, messages) = read(&whole[..whole.len() - 100]);
    assert_eq!((rows.len(), messages), (37, vec!["row 38: the file ends inside a batch".to_owned()]));
    let message = [&CONTINUATION[..], &[0xff, 0xff, 0xff, 0x7f]].concat();
    assert_eq!(read(&message), (vec![], vec![": a message is longer than the file".to_owned()]));
    assert_eq!(read(b""), (vec![], vec![": the file is empty".to_owned()]));
}

#[test]
fn unpacked_sizes_are_limited() {
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD)).unwrap();
    let column: ArrayRef = Arc::new(Int64Array::from(vec![7; 1000]));
    let mut bytes = stream(&[Rows::try_from_iter([("n", column)]).unwrap()], options);
    assert_eq!(read(&bytes).0.len(), 1000);
    let length = 8000_i64.to_le_bytes();
    let at = bytes.windows(8).rposition(|window| window == length).unwrap();
    bytes[at..at + 8].copy_from_slice(&(1_i64 << 43).to_le_bytes());
    let message = "row 1: a buffer unpacks to more than 1000 times its size";
    assert_eq!(read(&bytes), (vec![], vec![message.to_owned()]));
}

#[test]
fn dictionaries_may_grow_or_be_replaced() {
    let batch = |values: &[&str], keys: &[i8]| {
        let values = Arc::new(StringArray::from(values.to_vec()));
        let column = DictionaryArray::<Int8Type>::new(keys.to_vec().into(), values);
        Rows::try_from_iter([("n", Arc::new(column) as ArrayRef)]).unwrap()
    };
    let batches = [batch(&["a", "b"], &[1, 0]), batch(&["a", "b", "c"], &[2, 0])];
    for handling in [DictionaryHandling::Delta, DictionaryHandling::Resend] {
        let options = IpcWriteOptions::default().with_dictionary_handling(handling);
        let (rows, messages) = read(&stream(&batches, options));
        let expected = ["b", "a", "c", "a"].map(|text| format!("Text({text:?})"));
        assert_eq!((rows, messages), (expected.to_vec(), vec![]));
    }
}

#[test]
fn other_kinds_of_files_are_refused() {
    let message = "it is Feather version 1; write it as version 2, which is Arrow IPC, or as Parquet";
    assert_eq!(read(b"FEA1 and more"), (vec![], vec![message.to_owned()]));
}

#[test]
fn changed_bytes_do_not_abort_the_process() {
    let column: ArrayRef = Arc::new((0..20).map(|i| (i % 3 != 0).then_some("text")).collect::<StringArray>());
    let options = |packing| IpcWriteOptions::default().try_with_compression(packing).unwrap();
    for packing in [None, Some(CompressionType::ZSTD), Some(CompressionType::LZ4_FRAME)] {
        let whole = stream(&[Rows::try_from_iter([("n", Arc::clone(&column))]).unwrap()], options(packing));
        for at in 0..whole.len() {
            for change in [0x01, 0x40, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                assert!(read(&bytes).0.len() <= 40, "byte {at} changed by {change:x}");
            }
        }
    }
}

/// polars writes the schema of a file without its length.
#[test]
fn a_file_is_read_by_its_footer() {
    let mut bytes = Vec::new();
    let mut writer = FileWriter::try_new(&mut bytes, numbers().schema_ref()).unwrap();
    for _ in 0..2 {
        writer.write(&numbers()).unwrap();
    }
    writer.finish().unwrap();
    let at = bytes.windows(4).position(|window| window == CONTINUATION).unwrap();
    bytes[at..at + 4].fill(4);
    let (rows, messages) = read(&bytes);
    assert_eq!((rows.len(), messages), (74, vec![]));
    let (rows, messages) = read(&bytes[..bytes.len() - 1]);
    assert_eq!((rows.len(), messages.len()), (0, 1), "{messages:?}");
}
