//! The matrices that formats have in blocks of integers, rounded one layer after the other.
//!
//! They wait in a file until the formats are written, each of which has its own order of tensors. A matrix that several
//! formats have in the same blocks is rounded once.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;

use artifact::Context;
use inference::engine::ProjectionInput;
use kernels::Pool;
use kernels::blocks::BlockType;
use model::checkpoint::{StoredModel, StoredParameter};
use model::{Dtype, ModelConfig};
use tokenizer::shard::Split;

use crate::calibration::{Calibration, input_of};
use crate::config::TRANSPOSED;
use crate::format::{Format, Layout};
use crate::quantize::quantize;
use crate::{Config, Error, Method};

/// The default of `optimize.calibration_tokens`.
const DEFAULT_CALIBRATION_TOKENS: u64 = 8192;

/// Rounded matrices, in a file that is removed with this.
#[derive(Default)]
pub(crate) struct Rounded {
    storage: Option<Storage>,
    places: HashMap<(String, BlockType), Place>,
}

struct Storage {
    path: PathBuf,
    file: File,
    len: u64,
}

#[derive(Clone, Copy)]
struct Place {
    start: u64,
    len: usize,
}

/// The parameters to be rounded of each input, with the types of their blocks.
type Matrices = BTreeMap<(usize, ProjectionInput), BTreeMap<String, Vec<BlockType>>>;

impl Rounded {
    /// Rounds what the formats of `config` need of the checkpoint, and stores it in the file `path`.
    ///
    /// # Errors
    /// Returns an error if a format has nothing to round, a weight cannot be rounded, the model does not fit the split
    /// or computes numbers that are not finite, and on I/O errors; [`Error::Interrupted`] if the run was asked to stop.
    pub(crate) fn new(
        config: &Config,
        checkpoint: &Path,
        validation: &Split,
        path: &Path,
        context: &Context,
    ) -> Result<Self, Error> {
        let model = StoredModel::open(checkpoint)?;
        let weights = model.weights()?;
        let matrices = matrices(&config.formats, model.config())?;
        let Some(((last_layer, _), _)) = matrices.last_key_value() else { return Ok(Self::default()) };
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
        let file = file.map_err(|e| artifact::Error::io("create", path, e))?;
        let storage = Storage { path: path.to_owned(), file, len: 0 };
        let mut rounded = Self { storage: Some(storage), places: HashMap::new() };
        let pool = Pool::new(thread::available_parallelism().map_or(1, usize::from));
        let mut calibration = match config.method() {
            Method::Nearest => None,
            method => {
                let tokens = config.calibration_tokens.unwrap_or(DEFAULT_CALIBRATION_TOKENS);
                Some(Calibration::new(method, tokens, checkpoint, validation)?)
            }
        };
        context.progress.begin("rounding", *last_layer as u64 + 1, "layers");
        for layer in 0..=*last_layer {
            let sums = calibration.as_mut().map(|calibration| calibration.next_layer(&pool, context));
            let mut sums = sums.transpose()?.unwrap_or_default();
            for ((_, input), parameters) in matrices.iter().filter(|((of, _), _)| *of == layer) {
                let inputs = sums.remove(input).map(|sums| sums.finish().ok_or(Error::Activations { layer }));
                let inputs = inputs.transpose()?;
                for (name, block_types) in parameters {
                    if context.cancel.is_requested() {
                        return Err(Error::Interrupted);
                    }
                    let values = weights.get(name).map(StoredParameter::values).unwrap_or_default();
                    check(checkpoint, name, &values)?;
                    for block_type in block_types {
                        let blocks = quantize(&values, inputs.as_ref(), *block_type, &pool);
                        rounded.append(name, *block_type, &blocks)?;
                    }
                }
            }
            context.progress.position(layer as u64 + 1);
        }
        Ok(rounded)
    }

    /// Returns true if the parameter is there in such blocks.
    pub(crate) fn has(&self, parameter: &str, block_type: BlockType) -> bool {
        self.places.contains_key(&(parameter.to_owned(), block_type))
    }

    /// Returns the rows of a parameter in blocks, if it was rounded to them.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    pub(crate) fn blocks(&mut self, parameter: &str, block_type: BlockType) -> Result<Option<Vec<u8>>, Error> {
        let place = self.places.get(&(parameter.to_owned(), block_type)).copied();
        let (Some(Place { start, len }), Some(storage)) = (place, &mut self.storage) else { return Ok(None) };
        let mut blocks = vec![0; len];
        let read = storage.file.seek(SeekFrom::Start(start)).and_then(|_| storage.file.read_exact(&mut blocks));
        read.map_err(|e| artifact::Error::io("read", &storage.path, e))?;
        Ok(Some(blocks))
    }

    fn append(&mut self, parameter: &str, block_type: BlockType, blocks: &[u8]) -> Result<(), Error> {
        let Some(storage) = &mut self.storage else { return Ok(()) };
        let written: io::Result<()> = storage.file.write_all(blocks);
        written.map_err(|e| artifact::Error::io("write", &storage.path, e))?;
        let place = Place { start: storage.len, len: blocks.len() };
        storage.len += blocks.len() as u64;
        self.places.insert((parameter.to_owned(), block_type), place);
        Ok(())
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // If it stays, the next run of the stage removes it with everything in its folder.
        let _ = fs::remove_file(&self.path);
    }
}

/// Returns what the formats need.
fn matrices(formats: &[Format], config: &ModelConfig) -> Result<Matrices, Error> {
    let mut matrices = Matrices::new();
    for format in formats.iter().filter(|format| format.is_quantized()) {
        let mut is_quantizable = false;
        for (name, block_type) in format.blocks(config) {
            let Some(input) = input_of(&name) else { continue };
            let block_types = matrices.entry(input).or_default().entry(name).or_default();
            if !block_types.contains(&block_type) {
                block_types.push(block_type);
            }
            is_quantizable = true;
        }
        if !is_quantizable {
            let reason = match format.layout() {
                Layout::Safetensors(_) if !config.family.is_rotary() => TRANSPOSED,
                _ => "the inputs of its projections are no multiples of 32; remove it from optimize.formats",
            };
            return Err(Error::NotQuantizable { format: format.name(), reason });
        }
    }
    Ok(matrices)
}

/// Checks that the values of a parameter can be rounded.
fn check(path: &Path, parameter: &str, values: &[f32]) -> Result<(), Error> {
    // A scale is a weight divided by at least 6.
    let largest = Dtype::F16.max();
    let Some(element) = values.iter().position(|x| !x.is_finite() || x.abs() > largest) else { return Ok(()) };
    let (value, tensor) = (values[element], parameter.to_owned());
    Err(if value.is_finite() {
        Error::Overflow { tensor, element, value, dtype: Dtype::F16.name(), largest }
    } else {
        Error::NotFinite { path: path.to_owned(), tensor, element, value }
    })
}
