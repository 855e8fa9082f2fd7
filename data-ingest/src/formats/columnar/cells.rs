//! The values of Arrow's arrays as fields of a row.
//!
//! Numbers, booleans, lists and structs become JSON as they are, maps objects. Decimals, dates, times, durations and
//! intervals become text (see [`iso8601`](super::iso8601)), UUIDs too. A dictionary, a run or a union stands for its
//! value, and a null at any level is null. NaN and infinity are not values of JSON, and bytes inside a list or a struct
//! must be UTF-8: otherwise the field is refused.

use std::fmt::Write as _;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DecimalType, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType,
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType,
    IntervalMonthDayNanoType, IntervalYearMonthType, RunEndIndexType, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, OffsetSizeTrait};
use arrow_schema::{DataType, Field as ArrowField, IntervalUnit, TimeUnit};
use serde_json::{Map, Value};

use super::iso8601;
use crate::documents::field::Field;
use crate::documents::rejection::Reason;
use crate::formats::json::NOT_A_VALUE;

/// The memory of a value of JSON.
const VALUE_BYTES: u64 = 32;
/// What the values of any field may take. Heuristic, as for compressed files.
const HARMLESS_BYTES: u64 = 64 << 20;
/// The name under which a field's metadata has its extension type.
const EXTENSION: &str = "ARROW:extension:name";

/// A column with access by row.
pub(super) struct Cells<'a> {
    value: Read<'a>,
    /// The bytes of a value, if the column has bytes; `None` for null.
    bytes: Option<ReadBytes<'a>>,
    max_bytes: u64,
}

/// Reads the value of a row.
type Read<'a> = Box<dyn Fn(usize, &mut Budget) -> Result<Value, Unusable> + 'a>;
pub(super) type ReadBytes<'a> = Box<dyn Fn(usize) -> Option<&'a [u8]> + 'a>;
/// The values of runs, and the place of each row's value among them.
type Runs<'a> = (&'a dyn Array, Box<dyn Fn(usize) -> usize + 'a>);
/// Why a value cannot be used.
type Unusable = (Reason, &'static str);

/// What the values of one field may still take. A list of runs or of a dictionary may claim any number of values.
struct Budget(u64);

impl Budget {
    fn spend(&mut self, bytes: usize) -> Result<(), Unusable> {
        let left = self.0.checked_sub(VALUE_BYTES + bytes as u64);
        self.0 = left.ok_or((Reason::TooLong, "has more values than fit into max_file_bytes"))?;
        Ok(())
    }
}

impl<'a> Cells<'a> {
    /// Returns the values of a column, each of which may take `max_bytes`, or 64 MiB if that is more.
    pub fn of(field: &ArrowField, array: &'a dyn Array, max_bytes: u64) -> Self {
        let bytes = if is_uuid(field) { None } else { bytes(array) };
        Self { value: value(field, array), bytes, max_bytes: max_bytes.max(HARMLESS_BYTES) }
    }

    /// Returns the value of a row.
    pub fn field(&self, row: usize) -> Field {
        match &self.bytes {
            Some(bytes) => bytes(row).map_or(Field::Value(Value::Null), |bytes| Field::Bytes(bytes.to_vec())),
            None => match (self.value)(row, &mut Budget(self.max_bytes)) {
                Ok(value) => Field::Value(value),
                Err((reason, message)) => Field::Unusable(reason, message),
            },
        }
    }
}

/// Returns true if a column of this type has text, or bytes that may be text, or nothing but nulls.
pub(super) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_)
        | DataType::Null => true,
        DataType::Dictionary(_, values) => is_text(values),
        DataType::RunEndEncoded(_, values) => is_text(values.data_type()),
        _ => false,
    }
}

/// Returns access to the bytes of an array of bytes, also in a dictionary or in runs.
pub(super) fn bytes(array: &dyn Array) -> Option<ReadBytes<'_>> {
    macro_rules! read {
        ($bytes:expr) => {{
            let bytes = $bytes;
            Some(Box::new(move |i| bytes.is_valid(i).then(|| bytes.value(i))))
        }};
    }
    match array.data_type() {
        DataType::Binary => read!(array.as_binary::<i32>()),
        DataType::LargeBinary => read!(array.as_binary::<i64>()),
        DataType::BinaryView => read!(array.as_binary_view()),
        DataType::FixedSizeBinary(_) => read!(array.as_fixed_size_binary()),
        DataType::Dictionary(_, _) => {
            let read = bytes(array.as_any_dictionary().values())?;
            let key = dictionary_key(array);
            Some(Box::new(move |i| key(i).and_then(&read)))
        }
        DataType::RunEndEncoded(_, _) => {
            let (values, index) = runs(array);
            let read = bytes(values)?;
            Some(Box::new(move |i| read(index(i))))
        }
        _ => None,
    }
}

/// Returns access to an array's values as JSON.
#[expect(clippy::too_many_lines, reason = "one line for each type of Arrow")]
fn value<'a>(field: &ArrowField, array: &'a dyn Array) -> Read<'a> {
    let read: Read<'a> = match array.data_type() {
        DataType::Null => Box::new(|_, _| Ok(Value::Null)),
        DataType::Boolean => {
            let values = array.as_boolean();
            Box::new(move |i, _| Ok(values.value(i).into()))
        }
        DataType::Int8 => primitive::<Int8Type>(array, |n| Ok(n.into())),
        DataType::Int16 => primitive::<Int16Type>(array, |n| Ok(n.into())),
        DataType::Int32 => primitive::<Int32Type>(array, |n| Ok(n.into())),
        DataType::Int64 => primitive::<Int64Type>(array, |n| Ok(n.into())),
        DataType::UInt8 => primitive::<UInt8Type>(array, |n| Ok(n.into())),
        DataType::UInt16 => primitive::<UInt16Type>(array, |n| Ok(n.into())),
        DataType::UInt32 => primitive::<UInt32Type>(array, |n| Ok(n.into())),
        DataType::UInt64 => primitive::<UInt64Type>(array, |n| Ok(n.into())),
        DataType::Float16 => primitive::<Float16Type>(array, |x| number(x.to_f64())),
        DataType::Float32 => primitive::<Float32Type>(array, |x| number(x.into())),
        DataType::Float64 => primitive::<Float64Type>(array, number),
        DataType::Decimal32(_, _) => decimal::<Decimal32Type>(array),
        DataType::Decimal64(_, _) => decimal::<Decimal64Type>(array),
        DataType::Decimal128(_, _) => decimal::<Decimal128Type>(array),
        DataType::Decimal256(_, _) => decimal::<Decimal256Type>(array),
        DataType::Date32 => primitive::<Date32Type>(array, |days| Ok(iso8601::date(days.into()).into())),
        DataType::Date64 => primitive::<Date64Type>(array, |ms| Ok(iso8601::date(ms.div_euclid(86_400_000)).into())),
        DataType::Time32(unit) => match unit {
            TimeUnit::Second => time::<Time32SecondType>(array, *unit),
            _ => time::<Time32MillisecondType>(array, *unit),
        },
        DataType::Time64(unit) => match unit {
            TimeUnit::Microsecond => time::<Time64MicrosecondType>(array, *unit),
            _ => time::<Time64NanosecondType>(array, *unit),
        },
        DataType::Timestamp(unit, zone) => {
            let (unit, has_zone) = (*unit, zone.is_some());
            let text = move |value: i64| Ok(iso8601::timestamp(value, unit, has_zone).into());
            match unit {
                TimeUnit::Second => primitive::<TimestampSecondType>(array, text),
                TimeUnit::Millisecond => primitive::<TimestampMillisecondType>(array, text),
                TimeUnit::Microsecond => primitive::<TimestampMicrosecondType>(array, text),
                TimeUnit::Nanosecond => primitive::<TimestampNanosecondType>(array, text),
            }
        }
        DataType::Duration(unit) => {
            let unit = *unit;
            let text = move |value: i64| Ok(iso8601::duration(value, unit).into());
            match unit {
                TimeUnit::Second => primitive::<DurationSecondType>(array, text),
                TimeUnit::Millisecond => primitive::<DurationMillisecondType>(array, text),
                TimeUnit::Microsecond => primitive::<DurationMicrosecondType>(array, text),
                TimeUnit::Nanosecond => primitive::<DurationNanosecondType>(array, text),
            }
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            primitive::<IntervalYearMonthType>(array, |months| Ok(iso8601::interval(months, 0, 0).into()))
        }
        DataType::Interval(IntervalUnit::DayTime) => primitive::<IntervalDayTimeType>(array, |value| {
            Ok(iso8601::interval(0, value.days, i64::from(value.milliseconds) * 1_000_000).into())
        }),
        DataType::Interval(IntervalUnit::MonthDayNano) => primitive::<IntervalMonthDayNanoType>(array, |value| {
            Ok(iso8601::interval(value.months, value.days, value.nanoseconds).into())
        }),
        DataType::Utf8 => text(array.as_string::<i32>()),
        DataType::LargeUtf8 => text(array.as_string::<i64>()),
        DataType::Utf8View => text(array.as_string_view()),
        DataType::FixedSizeBinary(16) if is_uuid(field) => {
            let values = array.as_fixed_size_binary();
            Box::new(move |i, _| Ok(uuid(values.value(i)).into()))
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let read = bytes(array);
            Box::new(move |i, budget| {
                let bytes = read.as_ref().and_then(|read| read(i)).unwrap_or_default();
                let text =
                    std::str::from_utf8(bytes).map_err(|_| (Reason::WrongType, "contains bytes that are not UTF-8"))?;
                budget.spend(bytes.len())?;
                Ok(text.into())
            })
        }
        DataType::List(item) => list(item, array.as_list::<i32>()),
        DataType::LargeList(item) => list(item, array.as_list::<i64>()),
        DataType::ListView(item) => list_view(item, array.as_list_view::<i32>()),
        DataType::LargeListView(item) => list_view(item, array.as_list_view::<i64>()),
        DataType::FixedSizeList(item, length) => {
            let read = value(item, array.as_fixed_size_list().values());
            let length = usize::try_from(*length).unwrap_or(0);
            Box::new(move |i, budget| items(&read, i * length, length, budget))
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            let columns: Vec<(String, Read<'a>)> =
                columns.map(|(field, column)| (field.name().clone(), value(field, column))).collect();
            Box::new(move |i, budget| {
                let mut object = Map::new();
                for (name, read) in &columns {
                    budget.spend(name.len())?;
                    object.insert(name.clone(), read(i, budget)?);
                }
                Ok(Value::Object(object))
            })
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            let (key, value) = map.entries_fields();
            let (keys, values) = (self::value(key, map.keys()), self::value(value, map.values()));
            let offsets = map.value_offsets();
            Box::new(move |i, budget| {
                let mut object = Map::new();
                for at in offsets[i] as usize..offsets[i + 1] as usize {
                    let key = match keys(at, budget)? {
                        Value::String(text) => text,
                        other => other.to_string(),
                    };
                    object.insert(key, values(at, budget)?);
                }
                Ok(Value::Object(object))
            })
        }
        DataType::Dictionary(_, _) => {
            let read = value(field, array.as_any_dictionary().values());
            let key = dictionary_key(array);
            Box::new(move |i, budget| key(i).map_or(Ok(Value::Null), |key| read(key, budget)))
        }
        DataType::RunEndEncoded(_, values) => {
            let (array, index) = runs(array);
            let read = value(values, array);
            Box::new(move |i, budget| read(index(i), budget))
        }
        DataType::Union(fields, _) => {
            let union = array.as_union();
            let children: Vec<(i8, Read<'a>)> =
                fields.iter().map(|(id, field)| (id, value(field, union.child(id)))).collect();
            Box::new(move |i, budget| {
                let child = children.iter().find(|(id, _)| *id == union.type_id(i));
                child.map_or(Ok(Value::Null), |(_, read)| read(union.value_offset(i), budget))
            })
        }
    };
    let nulls = array.nulls();
    Box::new(move |i, budget| {
        budget.spend(0)?;
        if nulls.is_some_and(|nulls| nulls.is_null(i)) { Ok(Value::Null) } else { read(i, budget) }
    })
}

fn primitive<'a, T: ArrowPrimitiveType>(
    array: &'a dyn Array,
    json: impl Fn(T::Native) -> Result<Value, Unusable> + 'a,
) -> Read<'a> {
    let values = array.as_primitive::<T>();
    Box::new(move |i, _| json(values.value(i)))
}

fn number(value: f64) -> Result<Value, Unusable> {
    if value.is_finite() { Ok(value.into()) } else { Err((Reason::WrongType, NOT_A_VALUE)) }
}

fn decimal<T: DecimalType + ArrowPrimitiveType>(array: &dyn Array) -> Read<'_> {
    let values = array.as_primitive::<T>();
    Box::new(move |i, _| Ok(values.value_as_string(i).into()))
}

fn time<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &dyn Array, unit: TimeUnit) -> Read<'_> {
    primitive::<T>(array, move |value| Ok(iso8601::time(value.into(), unit).into()))
}

fn text<'a>(values: impl arrow_array::array::StringArrayType<'a> + 'a) -> Read<'a> {
    Box::new(move |i, budget| {
        let text = values.value(i);
        budget.spend(text.len())?;
        Ok(text.into())
    })
}

fn list<'a, O: OffsetSizeTrait>(item: &ArrowField, list: &'a arrow_array::GenericListArray<O>) -> Read<'a> {
    let (read, offsets) = (value(item, list.values()), list.value_offsets());
    Box::new(move |i, budget| {
        let start = offsets[i].as_usize();
        items(&read, start, offsets[i + 1].as_usize() - start, budget)
    })
}

fn list_view<'a, O: OffsetSizeTrait>(item: &ArrowField, list: &'a arrow_array::GenericListViewArray<O>) -> Read<'a> {
    let read = value(item, list.values());
    Box::new(move |i, budget| items(&read, list.value_offset(i).as_usize(), list.value_size(i).as_usize(), budget))
}

fn items(read: &Read<'_>, start: usize, length: usize, budget: &mut Budget) -> Result<Value, Unusable> {
    (start..start + length).map(|i| read(i, budget)).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

/// Returns the key of each row; `None` for null.
fn dictionary_key(array: &dyn Array) -> impl Fn(usize) -> Option<usize> + '_ {
    let dictionary = array.as_any_dictionary();
    let keys = if dictionary.values().is_empty() { Vec::new() } else { dictionary.normalized_keys() };
    let nulls = dictionary.keys().nulls();
    move |i| keys.get(i).copied().filter(|_| !nulls.is_some_and(|nulls| nulls.is_null(i)))
}

/// Returns the values of an array of runs, and the place of each row's value.
fn runs(array: &dyn Array) -> Runs<'_> {
    fn of<R: RunEndIndexType>(array: &dyn Array) -> Option<Runs<'_>> {
        let runs = array.as_run_opt::<R>()?;
        Some((runs.values().as_ref(), Box::new(|i| runs.get_physical_index(i))))
    }
    let found = of::<Int16Type>(array).or_else(|| of::<Int32Type>(array)).or_else(|| of::<Int64Type>(array));
    found.expect("Arrow has no other type of run ends")
}

fn is_uuid(field: &ArrowField) -> bool {
    field.metadata().get(EXTENSION).is_some_and(|name| name == "arrow.uuid")
        && *field.data_type() == DataType::FixedSizeBinary(16)
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
