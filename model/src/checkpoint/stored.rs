//! Parameters in memory-mapped files, read row by row in the type that they are stored in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use kernels::blocks::BlockType;
use memmap2::Mmap;

use super::mapped;
use crate::Dtype;
use crate::compressed_tensors::Rows;
use crate::gguf::TensorType;

/// The weights of a model, by the name of the parameter.
#[derive(Debug)]
pub struct StoredWeights<'a> {
    pub(crate) parameters: BTreeMap<String, StoredParameter<'a>>,
}

impl<'a> StoredWeights<'a> {
    /// Returns a parameter; None if the model has none of that name.
    pub fn get(&self, name: &str) -> Option<&StoredParameter<'a>> {
        self.parameters.get(name)
    }
}

/// A parameter: a matrix, or a vector, each of whose rows is one number.
#[derive(Debug, Clone)]
pub struct StoredParameter<'a> {
    pub(crate) content: Content<'a>,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// The map that the bytes of the content are in.
    pub(crate) map: Option<&'a Mmap>,
}

/// The bytes of a parameter.
#[derive(Debug, Clone)]
pub(crate) enum Content<'a> {
    /// Numbers in memory.
    Values(Cow<'a, [f32]>),
    /// Rows one after the other.
    Rows { tensor_type: TensorType, bytes: &'a [u8], order: RowOrder },
    /// Numbers at regular distances, in elements: those of rows and of columns. The type is one that is read as
    /// weights.
    Strided { dtype: safetensors::Dtype, bytes: &'a [u8], strides: [usize; 2] },
    /// Integers with scales, and the type of the blocks with the same content.
    Quantized { rows: Rows<'a>, block_type: Option<BlockType> },
}

/// The order of the rows in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowOrder {
    /// That of the parameter.
    Same,
    /// In each head of so many rows, row i + C / 2 comes after row i.
    Interleaved { head_rows: usize },
}

impl RowOrder {
    /// Returns the row in the file of a row of the parameter.
    pub(crate) fn in_file(self, row: usize) -> usize {
        match self {
            Self::Same => row,
            Self::Interleaved { head_rows } => {
                let (head, row) = (row / head_rows, row % head_rows);
                head * head_rows + row % (head_rows / 2) * 2 + row / (head_rows / 2)
            }
        }
    }
}

impl<'a> StoredParameter<'a> {
    /// Returns a parameter of values in memory, row by row.
    ///
    /// # Panics
    /// Panics if they are not whole rows of `columns`.
    pub fn of_values(values: &'a [f32], columns: usize) -> Self {
        assert_eq!(values.len() % columns.max(1), 0, "rows of {columns} values");
        let rows = values.len() / columns.max(1);
        Self { content: Content::Values(Cow::Borrowed(values)), rows, columns, map: None }
    }

    /// Returns the numbers of rows and of columns.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// Returns the type of [`read_stored_row`](Self::read_stored_row): that in the file, as far as blocks have one; f32
    /// for f64, and for integers with scales that blocks cannot hold.
    pub fn tensor_type(&self) -> TensorType {
        let float = |dtype: Option<Dtype>| TensorType::Float(dtype.unwrap_or(Dtype::F32));
        match &self.content {
            Content::Values(_) => float(None),
            Content::Rows { tensor_type, .. } => *tensor_type,
            Content::Strided { dtype, .. } => float(Dtype::from_safetensors(*dtype)),
            Content::Quantized { block_type, .. } => block_type.map_or_else(|| float(None), TensorType::Blocks),
        }
    }

    /// Returns all values, row by row.
    pub fn values(&self) -> Vec<f32> {
        // A transposed matrix is read in tiles, so that each cache line is used while it is in the cache.
        const TILE: usize = 32;
        if let Content::Rows { tensor_type, bytes, order: RowOrder::Same } = &self.content {
            return tensor_type.decode(bytes);
        }
        let mut values = vec![0.0; self.rows * self.columns];
        match &self.content {
            Content::Strided { .. } => {
                for first in (0..self.columns).step_by(TILE) {
                    let tile = first..self.columns.min(first + TILE);
                    for (row, values) in values.chunks_exact_mut(self.columns).enumerate() {
                        self.gather(row, tile.clone(), &mut values[tile.clone()]);
                    }
                }
            }
            _ if self.columns > 0 => {
                values.chunks_exact_mut(self.columns).enumerate().for_each(|(row, values)| self.read_row(row, values));
            }
            _ => {}
        }
        values
    }

    /// Writes the values of a row.
    ///
    /// # Panics
    /// Panics if there is no such row, or `values` has another length.
    pub fn read_row(&self, row: usize, values: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(values.len(), self.columns, "a value for each column");
        match &self.content {
            Content::Values(all) => values.copy_from_slice(&all[row * self.columns..][..self.columns]),
            Content::Rows { tensor_type, .. } => tensor_type.decode_to(self.stored_row(row), values),
            Content::Strided { .. } => self.gather(row, 0..self.columns, values),
            Content::Quantized { rows, .. } => rows.part(row, 1).write_values(values),
        }
    }

    /// Writes a row in the layout of [`tensor_type`](Self::tensor_type).
    ///
    /// # Panics
    /// Panics if there is no such row, or `stored` has another length.
    pub fn read_stored_row(&self, row: usize, stored: &mut [u8]) {
        match &self.content {
            Content::Rows { .. } => stored.copy_from_slice(self.stored_row(row)),
            Content::Strided { dtype, bytes, strides } if Dtype::from_safetensors(*dtype).is_some() => {
                let elements = (0..self.columns).map(|column| row * strides[0] + column * strides[1]);
                if dtype.bitsize() == 32 {
                    copy_elements::<4>(bytes, elements, stored);
                } else {
                    copy_elements::<2>(bytes, elements, stored);
                }
            }
            Content::Quantized { rows, block_type: Some(_) } => rows.part(row, 1).write_blocks(stored),
            _ => {
                let mut values = vec![0.0; self.columns];
                self.read_row(row, &mut values);
                for (stored, x) in stored.as_chunks_mut().0.iter_mut().zip(values) {
                    *stored = x.to_le_bytes();
                }
            }
        }
    }

    /// Releases the memory of rows that are not read again soon; the file is read again if they are.
    pub fn release(&self, rows: Range<usize>) {
        let part = |bytes: &'a [u8], count: usize| {
            let row_bytes = bytes.len() / count.max(1);
            &bytes[rows.start * row_bytes..rows.end * row_bytes]
        };
        let Some(map) = self.map else { return };
        match &self.content {
            Content::Rows { bytes, .. } => mapped::release(map, part(bytes, self.rows)),
            Content::Strided { bytes, .. } if rows.end == self.rows => mapped::release(map, bytes),
            Content::Values(_) | Content::Strided { .. } => {}
            Content::Quantized { rows: all, .. } => {
                let (packed, scales) = all.part(rows.start, rows.len()).bytes();
                mapped::release(map, packed);
                mapped::release(map, scales);
            }
        }
    }

    fn stored_row(&self, row: usize) -> &'a [u8] {
        match self.content {
            Content::Rows { bytes, order, .. } => {
                let row_bytes = bytes.len() / self.rows;
                &bytes[order.in_file(row) * row_bytes..][..row_bytes]
            }
            _ => &[],
        }
    }

    /// Writes the values of some columns of a row of [`Content::Strided`].
    fn gather(&self, row: usize, columns: Range<usize>, values: &mut [f32]) {
        let Content::Strided { dtype, bytes, strides } = &self.content else { return };
        let elements = columns.map(|column| row * strides[0] + column * strides[1]);
        if *dtype == safetensors::Dtype::F64 {
            for (x, at) in values.iter_mut().zip(elements) {
                *x = f64::from_le_bytes(bytes.as_chunks().0[at]) as f32;
            }
        } else if let Some(dtype) = Dtype::from_safetensors(*dtype) {
            let size = dtype.bytes() as usize;
            for (x, at) in values.iter_mut().zip(elements) {
                dtype.decode_to(&bytes[at * size..][..size], std::slice::from_mut(x));
            }
        }
    }
}

fn copy_elements<const N: usize>(bytes: &[u8], elements: impl Iterator<Item = usize>, stored: &mut [u8]) {
    let all = bytes.as_chunks::<N>().0;
    for (stored, at) in stored.as_chunks_mut::<N>().0.iter_mut().zip(elements) {
        *stored = all[at];
    }
}
