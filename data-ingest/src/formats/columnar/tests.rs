//! Every type of Arrow, with and without nulls, in every kind of nesting, as Parquet and as Arrow IPC.

use std::io::{Seek as _, Write as _};
use std::sync::Arc;

use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::{
    ArrayRef, DictionaryArray, FixedSizeBinaryArray, FixedSizeListArray, GenericListArray, Int8Array, Int32Array,
    Int64Array, IntervalDayTimeArray, IntervalMonthDayNanoArray, IntervalYearMonthArray, ListArray, ListViewArray,
    MapArray, NullArray, OffsetSizeTrait, RunArray, StringArray, StructArray, UnionArray,
};
use arrow_buffer::{IntervalDayTime, IntervalMonthDayNano, NullBuffer, OffsetBuffer};
use arrow_cast::cast;
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::IntervalUnit::{DayTime, MonthDayNano, YearMonth};
use arrow_schema::TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
use arrow_schema::{Field as ArrowField, FieldRef, IntervalUnit, UnionFields};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use super::*;
use crate::Source;
use crate::documents::mapping::Columns;
use crate::formats::table::{Table, read};

/// Rows of a table; those whose number leaves 1 when divided by 3 are null.
const ROWS: usize = 7;

/// An array, and the JSON of its values.
type Case = (ArrayRef, Vec<Value>);

fn is_null(i: usize) -> bool {
    i % 3 == 1
}

/// Returns numbers 0 to `count`, cast to a type; `expected` is their JSON.
fn numbers(count: usize, nullable: bool, of: &DataType, expected: &dyn Fn(i64) -> Value) -> Case {
    let number = |i: usize| (!(nullable && is_null(i))).then_some(i as i64);
    let array: Int64Array = (0..count).map(number).collect();
    let values = (0..count).map(|i| number(i).map_or(Value::Null, expected)).collect();
    (cast(&array, of).unwrap(), values)
}

fn texts(count: usize, nullable: bool, of: &DataType) -> Case {
    let text = |i: usize| (!(nullable && is_null(i))).then(|| format!("text {i} that is longer than a view"));
    let values = (0..count).map(|i| text(i).map_or(Value::Null, Value::from)).collect();
    (cast(&(0..count).map(text).collect::<StringArray>(), of).unwrap(), values)
}

fn intervals(count: usize, nullable: bool, unit: IntervalUnit) -> Case {
    let used = |i: &usize| !(nullable && is_null(*i));
    let rows = || (0..count).map(|i| Some(i as i32).filter(|_| used(&i)));
    let array: ArrayRef = match unit {
        YearMonth => Arc::new(rows().collect::<IntervalYearMonthArray>()),
        DayTime => Arc::new(rows().map(|i| Some(IntervalDayTime::new(i?, 500))).collect::<IntervalDayTimeArray>()),
        MonthDayNano => {
            let interval = |i: Option<i32>| Some(IntervalMonthDayNano::new(1, i?, 1_000_000_000));
            Arc::new(rows().map(interval).collect::<IntervalMonthDayNanoArray>())
        }
    };
    let text = |i: i32| match (unit, i) {
        (YearMonth, 0) => "PT0S".to_owned(),
        (YearMonth, i) => [(i / 12, 'Y'), (i % 12, 'M')]
            .iter()
            .filter(|(n, _)| *n > 0)
            .fold("P".to_owned(), |text, (n, letter)| format!("{text}{n}{letter}")),
        (DayTime, 0) => "PT0.500000S".to_owned(),
        (DayTime, i) => format!("P{i}DT0.500000S"),
        (MonthDayNano, 0) => "P1MT1S".to_owned(),
        (MonthDayNano, i) => format!("P1M{i}DT1S"),
    };
    (array, rows().map(|i| i.map_or(Value::Null, |i| text(i).into())).collect())
}

/// Returns `count` values of every type that holds no others.
fn leaves(count: usize, nullable: bool) -> Vec<Case> {
    use DataType as D;
    let number = |of: D, expected: &dyn Fn(i64) -> Value| numbers(count, nullable, &of, expected);
    let mut cases = Vec::new();
    for of in [D::Int8, D::Int16, D::Int32, D::Int64, D::UInt8, D::UInt16, D::UInt32, D::UInt64] {
        cases.push(number(of, &|n| n.into()));
    }
    for of in [D::Float16, D::Float32, D::Float64] {
        cases.push(number(of, &|n| (n as f64).into()));
    }
    for of in [D::Decimal32(5, 2), D::Decimal64(12, 2), D::Decimal128(30, 2), D::Decimal256(60, 2)] {
        cases.push(number(of, &|n| format!("{n}.00").into()));
    }
    cases.push(number(D::Boolean, &|n| (n != 0).into()));
    let zone = |zone: &str| Some(Arc::from(zone));
    for zone in [None, zone("UTC"), zone("+02:00"), zone("Europe/Zurich")] {
        let offset = if zone.is_some() { "+00:00" } else { "" };
        let time = |n: i64, digits: usize| {
            let fraction = if n == 0 { String::new() } else { format!(".{n:0digits$}") };
            format!("1970-01-01T00:00:00{fraction}{offset}").into()
        };
        let second = |n| format!("1970-01-01T00:00:{n:02}{offset}").into();
        cases.push(number(D::Timestamp(Second, zone.clone()), &second));
        cases.push(number(D::Timestamp(Millisecond, zone.clone()), &|n| time(1000 * n, 6)));
        cases.push(number(D::Timestamp(Microsecond, zone.clone()), &|n| time(n, 6)));
        cases.push(number(D::Timestamp(Nanosecond, zone), &|n| time(n, 9)));
    }
    cases.push(numbers(count, nullable, &D::Int32, &|n| format!("1970-01-{:02}", n + 1).into()));
    if let Some((days, _)) = cases.last_mut() {
        *days = cast(days, &D::Date32).unwrap();
    }
    cases.push(number(D::Date64, &|_| "1970-01-01".into()));
    for (of, digits) in [(D::Time32(Second), 0), (D::Time32(Millisecond), 3), (D::Time64(Microsecond), 6)] {
        let base = if digits == 0 || digits == 3 { D::Int32 } else { D::Int64 };
        let (array, values) = number(base, &|n| match (digits, n) {
            (0, n) => format!("00:00:{n:02}").into(),
            (_, 0) => "00:00:00".into(),
            (3, n) => format!("00:00:00.{n:03}000").into(),
            (_, n) => format!("00:00:00.{n:06}").into(),
        });
        cases.push((cast(&array, &of).unwrap(), values));
    }
    let nine = |n: i64| if n == 0 { String::new() } else { format!(".{n:09}") };
    cases.push(number(D::Time64(Nanosecond), &|n| format!("00:00:00{}", nine(n)).into()));
    cases.push(number(D::Duration(Second), &|n| format!("PT{n}S").into()));
    cases.push(number(D::Duration(Nanosecond), &|n| format!("PT0{}S", nine(n)).into()));
    cases.extend([YearMonth, DayTime, MonthDayNano].map(|unit| intervals(count, nullable, unit)));
    for of in [D::Utf8, D::LargeUtf8, D::Utf8View, D::Binary, D::LargeBinary, D::BinaryView] {
        cases.push(texts(count, nullable, &of));
    }
    let fixed = (0..count).map(|i| (!(nullable && is_null(i))).then_some(*b"abc"));
    let fixed = FixedSizeBinaryArray::try_from_sparse_iter_with_size(fixed, 3).unwrap();
    let values = (0..count).map(|i| if nullable && is_null(i) { Value::Null } else { "abc".into() }).collect();
    cases.push((Arc::new(fixed), values));
    if nullable {
        cases.push((Arc::new(NullArray::new(count)), vec![Value::Null; count]));
    }
    cases
}

/// A way to nest an array: how many values are needed for `ROWS` rows, and their nesting.
type Nest = (&'static str, usize, fn(Case, bool) -> Case);

const NESTS: [Nest; 11] = [
    ("list", 2 * ROWS, list::<i32>),
    ("large list", 2 * ROWS, list::<i64>),
    ("list view", 2 * ROWS, list_view),
    ("fixed-size list", 2 * ROWS, fixed_size_list),
    ("struct", ROWS, in_struct),
    ("map", ROWS, map),
    ("dictionary", ROWS, dictionary),
    ("runs", ROWS, runs),
    ("union", ROWS, union),
    ("list of structs", 2 * ROWS, |case, nullable| {
        let case = in_struct(case, nullable);
        list::<i32>(case, nullable)
    }),
    ("struct of list", 2 * ROWS, |case, nullable| in_struct(list::<i32>(case, nullable), nullable)),
];

fn item(array: &ArrayRef, nullable: bool) -> FieldRef {
    Arc::new(ArrowField::new("item", array.data_type().clone(), nullable || array.null_count() > 0))
}

fn nulls(nullable: bool) -> Option<NullBuffer> {
    nullable.then(|| (0..ROWS).map(|i| !is_null(i)).collect::<Vec<_>>().into())
}

/// Returns the places of each row's values in lists of 0 to 2 items, of which null ones are empty.
fn places(nullable: bool) -> Vec<Option<std::ops::Range<usize>>> {
    let mut end = 0;
    let place = |i: usize| {
        let start = end;
        end += if nullable && is_null(i) { 0 } else { i % 3 };
        (!(nullable && is_null(i))).then_some(start..end)
    };
    (0..ROWS).map(place).collect()
}

fn listed(values: &[Value], nullable: bool) -> Vec<Value> {
    places(nullable).into_iter().map(|place| place.map_or(Value::Null, |place| values[place].into())).collect()
}

fn lengths(nullable: bool) -> Vec<usize> {
    places(nullable).into_iter().map(|place| place.map_or(0, |place| place.len())).collect()
}

fn list<O: OffsetSizeTrait>((array, values): Case, nullable: bool) -> Case {
    let offsets = OffsetBuffer::<O>::from_lengths(lengths(nullable));
    let list = GenericListArray::<O>::new(item(&array, nullable), offsets, array, nulls(nullable));
    (Arc::new(list), listed(&values, nullable))
}

fn list_view((array, values): Case, nullable: bool) -> Case {
    let starts = places(nullable).into_iter().map(|place| place.map_or(0, |place| place.start as i32));
    let sizes = lengths(nullable).into_iter().map(|length| length as i32);
    let (starts, sizes): (Vec<i32>, Vec<i32>) = (starts.collect(), sizes.collect());
    let list = ListViewArray::new(item(&array, nullable), starts.into(), sizes.into(), array, nulls(nullable));
    (Arc::new(list), listed(&values, nullable))
}

fn fixed_size_list((array, values): Case, nullable: bool) -> Case {
    let list = FixedSizeListArray::new(item(&array, nullable), 2, array, nulls(nullable));
    let pair = |i: usize| if nullable && is_null(i) { Value::Null } else { values[2 * i..2 * i + 2].into() };
    (Arc::new(list), (0..ROWS).map(pair).collect())
}

fn in_struct((array, values): Case, nullable: bool) -> Case {
    let rows = array.len();
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..rows as i32));
    let fields =
        vec![ArrowField::new("a b", array.data_type().clone(), true), ArrowField::new("n", DataType::Int32, true)];
    let is_used = |i: usize| !(nullable && i % 4 == 2);
    let nulls = nullable.then(|| (0..rows).map(is_used).collect::<Vec<_>>().into());
    let array = StructArray::new(fields.into(), vec![array, numbers], nulls);
    let values = values.into_iter().enumerate();
    let object = |(i, value)| if is_used(i) { json!({ "a b": value, "n": i }) } else { Value::Null };
    (Arc::new(array), values.map(object).collect())
}

fn map((array, values): Case, nullable: bool) -> Case {
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..ROWS).map(|i| format!("key {i}"))));
    let entries = vec![
        ArrowField::new("keys", DataType::Utf8, false),
        ArrowField::new("values", array.data_type().clone(), true),
    ];
    let entries = StructArray::new(entries.into(), vec![keys, array], None);
    let offsets = OffsetBuffer::from_lengths(lengths(nullable));
    let field = Arc::new(ArrowField::new("entries", entries.data_type().clone(), false));
    let map = MapArray::new(field, offsets, entries, nulls(nullable), false);
    let object = |place: std::ops::Range<usize>| place.map(|i| (format!("key {i}"), values[i].clone())).collect();
    let objects = places(nullable).into_iter().map(|place| place.map_or(Value::Null, object));
    (Arc::new(map), objects.collect())
}

fn dictionary((array, values): Case, nullable: bool) -> Case {
    let key = |i: usize| (!(nullable && is_null(i))).then_some((ROWS - 1 - i) as i8);
    let keys: Int8Array = (0..ROWS).map(key).collect();
    let expected = (0..ROWS).map(|i| key(i).map_or(Value::Null, |key| values[key as usize].clone())).collect();
    (Arc::new(DictionaryArray::<Int8Type>::new(keys, array)), expected)
}

fn runs((array, values): Case, _: bool) -> Case {
    let values = [vec![values[0].clone(); 4], vec![values[1].clone(); ROWS - 4]].concat();
    let ends = Int32Array::from(vec![4, ROWS as i32]);
    (Arc::new(RunArray::<Int32Type>::try_new(&ends, &array.slice(0, 2)).unwrap()), values)
}

fn union((array, values): Case, _: bool) -> Case {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["text"; ROWS]));
    let fields =
        [ArrowField::new("value", array.data_type().clone(), true), ArrowField::new("text", DataType::Utf8, true)];
    let kinds: Vec<i8> = (0..ROWS).map(|i| (i % 2) as i8).collect();
    let values = values.into_iter().enumerate().map(|(i, value)| if i % 2 == 0 { value } else { "text".into() });
    let fields = UnionFields::try_new([0, 1], fields).unwrap();
    let union = UnionArray::try_new(fields, kinds.into(), None, vec![array, texts]).unwrap();
    (Arc::new(union), values.collect())
}

/// Reads the column `x` of a table.
fn read_column(bytes: &[u8], table: Table) -> Result<Vec<Value>, String> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    let columns = Columns::of(&Source { template: Some("{{ x }}".to_owned()), ..Source::default() });
    let mapping = Mapping::new(&columns, 1 << 20).unwrap();
    let (mut values, mut problems) = (Vec::new(), Vec::new());
    read(&file, table, &mapping, &mut |part| {
        match part {
            TablePart::Rows(_, batch) => values.extend(rows(&batch, &mapping).map(|mut row| row.remove(0))),
            TablePart::Damaged(_, message) | TablePart::Unsupported(message) => problems.push(message),
            TablePart::NoColumn { .. } | TablePart::WrongType { .. } | TablePart::Unreadable(_) => panic!("no column"),
        }
        Ok(())
    })
    .unwrap();
    if !problems.is_empty() {
        return Err(problems.join("; "));
    }
    let value = |field: Option<Field>| match field.unwrap() {
        Field::Value(value) => value,
        Field::Bytes(bytes) => String::from_utf8(bytes).unwrap().into(),
        Field::Unusable(_, why) => why.into(),
        Field::Media(media) => panic!("{media:?}"),
    };
    Ok(values.into_iter().map(value).collect())
}

/// Writes and reads a column in every format that has its type; returns the number of formats.
fn check(what: &str, (array, expected): Case, nullable: bool) -> usize {
    let data_type = array.data_type().clone();
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..array.len() as i64));
    let fields = vec![ArrowField::new("n", DataType::Int64, false), ArrowField::new("x", data_type.clone(), nullable)];
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![numbers, array]).unwrap();
    let [mut file, mut stream, mut parquet] = [const { Vec::new() }; 3];
    let mut writer = FileWriter::try_new(&mut file, batch.schema_ref()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    let mut writer = StreamWriter::try_new(&mut stream, batch.schema_ref()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    let mut formats = vec![(file, Table::Arrow), (stream, Table::Arrow)];
    let written = caught(|| {
        let mut writer = ArrowWriter::try_new(&mut parquet, batch.schema(), None)?;
        writer.write(&batch)?;
        Ok(writer.close()?)
    });
    if written.is_ok() {
        formats.push((parquet, Table::Parquet));
    }
    let count = formats.len();
    for (bytes, table) in formats {
        let found = read_column(&bytes, table);
        assert_eq!(found.as_ref(), Ok(&expected), "{what} of {data_type}, {table:?}, nullable: {nullable}");
    }
    count
}

#[test]
fn every_type_is_read_in_every_nesting() {
    std::panic::set_hook(Box::new(|_| {}));
    let (mut schemas, mut files) = (0, 0);
    for nullable in [false, true] {
        for case in leaves(ROWS, nullable) {
            schemas += 1;
            files += check("a column", case, nullable);
        }
        for (what, count, nest) in NESTS {
            for case in leaves(count, nullable) {
                schemas += 1;
                files += check(what, nest(case, nullable), true);
            }
        }
    }
    let _ = std::panic::take_hook();
    assert!(schemas > 1000 && files > 2 * schemas, "{schemas} schemas in {files} files");
}

#[test]
fn values_that_are_not_json_are_refused() {
    let floats: ArrayRef = Arc::new(arrow_array::Float32Array::from(vec![1.5, f32::NAN, f32::INFINITY]));
    let batch = |array| RecordBatch::try_from_iter([("x", array)]).unwrap();
    let found = |array: ArrayRef| {
        let mut stream = Vec::new();
        let batch = batch(array);
        let mut writer = StreamWriter::try_new(&mut stream, batch.schema_ref()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        read_column(&stream, Table::Arrow)
    };
    let refused = "is or contains NaN or Infinity, which is not a value of JSON";
    assert_eq!(found(floats), Ok(vec![json!(1.5), refused.into(), refused.into()]));
    let bytes: ArrayRef = Arc::new(arrow_array::BinaryArray::from_vec(vec![b"caf\xe9", b"plain"]));
    let list = ListArray::new(item(&bytes, false), OffsetBuffer::from_lengths([1, 1]), bytes, None);
    assert_eq!(found(Arc::new(list)), Ok(vec!["contains bytes that are not UTF-8".into(), json!(["plain"])]));
    // A list of four billion nulls takes no space in a file.
    let nulls: ArrayRef = Arc::new(NullArray::new(i32::MAX as usize));
    let list = ListArray::new(item(&nulls, true), OffsetBuffer::from_lengths([i32::MAX as usize]), nulls, None);
    assert_eq!(found(Arc::new(list)), Ok(vec!["has more values than fit into max_file_bytes".into()]));
}
