//! The rows of `images-*.parquet` and `sounds-*.parquet`: each picture or sound once, as it was found.
//!
//! Its bytes are in a struct of `bytes` and `path`, as Hugging Face `datasets` keeps pictures and sounds; the path is
//! only a name with the extension of its kind.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Float64Array, LargeBinaryArray, LargeStringArray, RecordBatch, StructArray, UInt32Array, UInt64Array,
};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema};
use media::Info;

use crate::documents::document::Medium;

/// Returns the columns of pictures or of sounds.
pub(super) fn schema(is_picture: bool) -> Schema {
    let (name, size): (_, &[(&str, DataType)]) = if is_picture {
        ("image", &[("width", DataType::UInt32), ("height", DataType::UInt32)])
    } else {
        let seconds = ("seconds", DataType::Float64);
        ("audio", &[("sample_rate", DataType::UInt32), ("channels", DataType::UInt32), seconds])
    };
    let mut fields = vec![
        Field::new("sha256", DataType::LargeUtf8, true),
        Field::new("kind", DataType::LargeUtf8, true),
        Field::new(name, DataType::Struct(file_fields()), true),
        Field::new("bytes", DataType::UInt64, true),
    ];
    fields.extend(size.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)));
    Schema::new(fields)
}

fn file_fields() -> Fields {
    vec![Field::new("bytes", DataType::LargeBinary, true), Field::new("path", DataType::LargeUtf8, true)].into()
}

/// Returns media, all of them pictures or all sounds, as columns.
pub(super) fn batch(media: &[Arc<Medium>], is_picture: bool) -> Result<RecordBatch, ArrowError> {
    let path = |medium: &Arc<Medium>| format!("{}.{}", medium.sha256, medium.kind);
    let files: Vec<ArrayRef> = vec![
        Arc::new(LargeBinaryArray::from_iter_values(media.iter().map(|medium| medium.bytes.as_slice()))),
        Arc::new(LargeStringArray::from_iter_values(media.iter().map(path))),
    ];
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(LargeStringArray::from_iter_values(media.iter().map(|medium| medium.sha256.to_string()))),
        Arc::new(LargeStringArray::from_iter_values(media.iter().map(|medium| medium.kind.name()))),
        Arc::new(StructArray::try_new(file_fields(), files, None)?),
        Arc::new(UInt64Array::from_iter_values(media.iter().map(|medium| medium.bytes.len() as u64))),
    ];
    let sizes = || {
        media.iter().map(|medium| match medium.info {
            Info::Picture { width, height } => (width, height, None),
            Info::Sound { sample_rate, channels, seconds } => (sample_rate, channels, Some(seconds)),
        })
    };
    columns.push(Arc::new(UInt32Array::from_iter_values(sizes().map(|(first, ..)| first))));
    columns.push(Arc::new(UInt32Array::from_iter_values(sizes().map(|(_, second, _)| second))));
    if !is_picture {
        columns.push(Arc::new(sizes().map(|(.., seconds)| seconds).collect::<Float64Array>()));
    }
    RecordBatch::try_new(Arc::new(schema(is_picture)), columns)
}
