//! Codecs in a folder: `config.json`, and `model.safetensors` with the weights of all of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use model::safetensors::{F32Tensor, PYTORCH, write_f32};
use model::{Dtype, named_parameters};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::{AudioCodec, AudioConfig, Autoencoder, Error, ImageCodec, ImageConfig};

/// The folder of the codecs beside `tokenizer.json`.
pub const FOLDER: &str = "codec";

/// The file of the configuration in it.
pub const CONFIG: &str = "config.json";

/// The file of the weights in it.
pub const WEIGHTS: &str = "model.safetensors";

/// The version of the layout.
const VERSION: u32 = 1;

/// Bytes that the header of the weights may take. Heuristic, not measured: far above the names of the tensors.
const MAX_HEADER_BYTES: u64 = 1 << 20;

/// The names of the codecs in the configuration and before their tensors.
const IMAGE: &str = "image";
const AUDIO: &str = "audio";

/// The codecs of a model: of pictures, of sound, or both.
#[derive(Debug, Clone, Default)]
pub struct Codec {
    /// The codec of pictures.
    pub image: Option<ImageCodec>,
    /// The codec of sound.
    pub audio: Option<AudioCodec>,
}

/// `config.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<ImageConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio: Option<AudioConfig>,
}

impl Codec {
    /// Writes the codecs to a folder, which is created.
    ///
    /// # Errors
    /// Returns an error if the device fails, and on I/O errors.
    pub fn save(&self, folder: &Path) -> Result<(), Error> {
        artifact::file::create_folder(folder)?;
        let mut tensors = Vec::new();
        if let Some(codec) = &self.image {
            tensors.extend(weights(codec.model(), IMAGE)?);
        }
        if let Some(codec) = &self.audio {
            tensors.extend(weights(codec.model(), AUDIO)?);
        }
        write_f32(&folder.join(WEIGHTS), tensors, PYTORCH)?;
        let file = File {
            version: VERSION,
            image: self.image.as_ref().map(|codec| codec.config().clone()),
            audio: self.audio.as_ref().map(|codec| codec.config().clone()),
        };
        let path = folder.join(CONFIG);
        let mut text = serde_json::to_vec_pretty(&file).map_err(|e| unusable(&path, e))?;
        text.push(b'\n');
        Ok(artifact::file::write_atomically(&path, &text)?)
    }

    /// Loads the codecs of a folder.
    ///
    /// # Errors
    /// Returns an error that names the file and the field or tensor that is missing, unexpected or wrong.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, Error> {
        let path = folder.join(CONFIG);
        let text = fs::read(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
        let file: File = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(&text))
            .map_err(|e| unusable(&path, e))?;
        if file.version != VERSION {
            let reason = format!("{} is not the version that this program reads, {VERSION}", file.version);
            return Err(unusable(&path, Error::Config { key: "version".to_owned(), reason }));
        }
        let in_table = |table: &str, result: Result<(), Error>| {
            result.map_err(|error| match error {
                Error::Config { key, reason } => {
                    unusable(&path, Error::Config { key: format!("{table}.{key}"), reason })
                }
                other => other,
            })
        };
        let mut models = Vec::new();
        if let Some(config) = &file.image {
            in_table(IMAGE, config.validate())?;
            models.push((IMAGE, Autoencoder::zeros(&config.shape(), device)));
        }
        if let Some(config) = &file.audio {
            in_table(AUDIO, config.validate())?;
            models.push((AUDIO, Autoencoder::zeros(&config.shape(), device)));
        }
        let mut models = read(models, &folder.join(WEIGHTS))?.into_iter();
        Ok(Self {
            image: file.image.and_then(|config| Some(ImageCodec::new(config, models.next()?))),
            audio: file.audio.and_then(|config| Some(AudioCodec::new(config, models.next()?))),
        })
    }
}

/// Writes the weights of an autoencoder in training.
///
/// # Errors
/// Returns an error if the device fails, and on I/O errors.
pub fn save_weights(model: &Autoencoder, path: &Path) -> Result<(), Error> {
    Ok(write_f32(path, weights(model, "")?, PYTORCH)?)
}

/// Returns the autoencoder with the weights that [`save_weights`] wrote.
///
/// # Errors
/// Returns an error that names the file and the tensor that is missing, unexpected or wrong.
pub fn load_weights(model: Autoencoder, path: &Path) -> Result<Autoencoder, Error> {
    let mut models = read(vec![("", model)], path)?;
    Ok(models.remove(0))
}

fn unusable(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::ConfigFile { path: path.to_owned(), source: source.into() }
}

fn full_name(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

/// Returns the weights of a model, with a prefix before their names.
fn weights(model: &Autoencoder, prefix: &str) -> Result<Vec<F32Tensor>, Error> {
    struct Weights<'a> {
        prefix: &'a str,
        tensors: Result<Vec<F32Tensor>, Error>,
    }
    impl named_parameters::Visitor for Weights<'_> {
        fn parameter<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            let Ok(tensors) = &mut self.tensors else { return };
            match param.val().inner().try_into_vec_as() {
                Ok(values) => {
                    let (name, shape) = (full_name(self.prefix, name), param.val().dims().to_vec());
                    tensors.push(F32Tensor { name, shape, values });
                }
                Err(error) => self.tensors = Err(Error::compute("the weights of a codec")(error)),
            }
        }
    }
    let mut weights = Weights { prefix, tensors: Ok(Vec::new()) };
    named_parameters::visit(model, &mut weights);
    weights.tensors
}

/// Returns the models with the weights of a file, whose tensors begin with the models' prefixes.
fn read(models: Vec<(&str, Autoencoder)>, path: &Path) -> Result<Vec<Autoencoder>, Error> {
    let io = |e| artifact::Error::io("read", path, e);
    let parameters: usize = models.iter().map(|(_, model)| model.shape().parameters()).sum();
    let (found, expected) = (fs::metadata(path).map_err(io)?.len(), parameters as u64 * 4 + MAX_HEADER_BYTES);
    if found > expected {
        return Err(Error::WeightsSize { path: path.to_owned(), found, expected });
    }
    let bytes = fs::read(path).map_err(io)?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|source| model::Error::Safetensors { path: path.to_owned(), source })?;
    let mut tensors = BTreeMap::new();
    for (name, tensor) in file.iter() {
        if tensor.dtype() != safetensors::Dtype::F32 {
            return Err(wrong(path, name, format!("is {:?}, not F32", tensor.dtype())));
        }
        tensors.insert(name.to_owned(), (Dtype::F32.decode(tensor.data()), tensor.shape().to_vec()));
    }
    let mut loaded = Vec::new();
    for (prefix, model) in models {
        let mut fill = Fill { prefix, path, tensors: &mut tensors, error: None };
        let model = named_parameters::map(model, &mut fill);
        match fill.error {
            Some(error) => return Err(error),
            None => loaded.push(model),
        }
    }
    match tensors.keys().next() {
        Some(name) => Err(wrong(path, name, "is not one of the codec".to_owned())),
        None => Ok(loaded),
    }
}

fn wrong(path: &Path, tensor: &str, reason: String) -> Error {
    model::Error::Tensor { path: path.to_owned(), tensor: tensor.to_owned(), reason }.into()
}

/// Replaces parameters by the tensors of a file, taking these away.
struct Fill<'a> {
    prefix: &'a str,
    path: &'a Path,
    tensors: &'a mut BTreeMap<String, (Vec<f32>, Vec<usize>)>,
    error: Option<Error>,
}

impl named_parameters::Mapper for Fill<'_> {
    fn parameter<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = full_name(self.prefix, name);
        let expected = param.val().dims();
        let problem = match self.tensors.remove(&name) {
            None => "is missing".to_owned(),
            Some((_, shape)) if *shape != expected => format!("has the shape {shape:?}, not {expected:?}"),
            Some((values, _)) if values.iter().any(|value| !value.is_finite()) => {
                "has values that are not finite".to_owned()
            }
            Some((values, _)) => {
                return param.map(|tensor| {
                    let trainable = tensor.is_require_grad();
                    let loaded = Tensor::from_data(TensorData::new(values, expected), &tensor.device());
                    if trainable { loaded.require_grad() } else { loaded }
                });
            }
        };
        self.error.get_or_insert_with(|| wrong(self.path, &name, problem));
        param
    }
}
