//! A model in memory, with its worker, or an adapter of one.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use artifact::{Cancel, Sealed};
use generate::Generator;
use inference::CacheOptions;
use model::{KvCacheDtype, ModelConfig};
use trace::Index;

use crate::error::causes;
use crate::metrics::ModelMetrics;
use crate::models::ModelFolder;
use crate::parameters::Limits;
use crate::response::{ModelEntry, ServedModel, seconds_since_1970};
use crate::tool_calls::Notation;
use crate::worker::Queue;
use crate::{Config, Error};

/// The default size of the KV cache, in contexts of the model, if memory has room for it. Heuristic, not measured:
/// because most texts are much shorter than the context.
const DEFAULT_CACHED_CONTEXTS: usize = 4;

/// The part of the memory beside the weights that the KV caches of all models have by default: one of so many.
/// Heuristic, not measured: because activations and other programs need memory as well.
const MEMORY_PARTS: u64 = 2;

/// The default size of the KV cache where the system says that memory is full, in tokens. Heuristic, not measured:
/// because some of what it counts as used can be freed, and a short request should be answered.
const MIN_CACHE_TOKENS: usize = 1024;

/// A model that answers requests.
pub(crate) struct LoadedModel {
    /// The server's configuration, with the name of this model.
    pub(crate) config: Config,
    /// Encodes the prompts here; only the worker generates.
    pub(crate) generator: Arc<Generator>,
    pub(crate) description: ServedModel,
    pub(crate) queue: Queue,
    /// How the model writes calls of tools.
    notation: Notation,
    /// The index of its training data, or why there is none.
    pub(crate) index: Result<Index, String>,
    /// Time at which the weights were written, in seconds since 1970.
    created: u64,
}

impl LoadedModel {
    /// Loads a model, one of `n_models` that share the memory, and starts its worker.
    ///
    /// # Errors
    /// Returns an error if the model cannot be loaded or the thread not be started.
    pub(super) fn load(
        model: &ModelFolder,
        n_models: usize,
        config: Config,
        device: &str,
        metrics: ModelMetrics,
        abort: Cancel,
    ) -> Result<(Self, JoinHandle<()>), Error> {
        let ModelFolder { folder, index, .. } = model;
        let index = open_index(index.as_deref(), &config);
        let free = model::device::free_memory_bytes(model::device::backend(device)?);
        let generator = Generator::open_with_cache(folder, device, |model| {
            let tokens = config.kv_cache_tokens.unwrap_or_else(|| {
                // Weights whose size is not known cannot be loaded either.
                let weights = model::hub_layout::weights_bytes(folder).unwrap_or_default();
                let room = free.map(|free| free.saturating_sub(weights) / MEMORY_PARTS / n_models.max(1) as u64);
                default_cache_tokens(model, config.kv_cache_dtype, room)
            });
            CacheOptions { tokens: Some(tokens), dtype: config.kv_cache_dtype }
        })?;
        let draft_model = config.draft_model.as_deref().map(Path::new);
        let generator = Arc::new(generator.with_drafts(config.draft_tokens, draft_model, device)?);
        let shape = generator.config();
        let description = ServedModel {
            id: config.model_name.clone(),
            family: shape.family.model_type(),
            parameters: shape.parameters(),
            context_length: shape.context_length,
            vocab_size: generator.tokenizer().vocab_size(),
            chat: generator.has_chat_template(),
            trace: index.is_ok(),
            device: model::device::describe(device)?,
            base: None,
        };
        let created = written(&model::hub_layout::weights_entry(folder));
        let (queue, worker) = Queue::start(Arc::clone(&generator), &config, metrics, abort)
            .map_err(|source| Error::Start { operation: "start the worker thread", source })?;
        let template = generator.tokenizer().chat_template(true);
        let notation = template.map_or(Notation::Hermes, |template| Notation::of_template(template.source()));
        Ok((Self { config, generator, description, queue, notation, index, created }, worker))
    }

    /// Returns what requests to the model are checked against.
    pub(crate) fn limits(&self) -> Limits<'_> {
        Limits { config: &self.config, declared: self.generator.declared_sampling(), notation: self.notation }
    }

    /// Loads an adapter, a model with the weights and the worker of its base.
    ///
    /// # Errors
    /// Returns an error if it cannot be loaded.
    pub(super) fn load_adapter(base: &Self, model: &ModelFolder, metrics: ModelMetrics) -> Result<Self, Error> {
        let ModelFolder { name, folder, index, .. } = model;
        let (adapter, index) = (base.generator.load_adapter(folder)?, open_index(index.as_deref(), &base.config));
        let (id, base_name) = (name.clone(), Some(base.description.id.clone()));
        Ok(Self {
            config: Config { model_name: id.clone(), ..base.config.clone() },
            generator: Arc::clone(&base.generator),
            description: ServedModel { id, base: base_name, trace: index.is_ok(), ..base.description.clone() },
            queue: base.queue.with_adapter(adapter, metrics),
            notation: base.notation,
            index,
            created: written(&folder.join(model::lora::WEIGHTS)),
        })
    }

    /// Returns the model's entry in the list of models.
    pub(crate) fn entry(&self) -> ModelEntry {
        let ServedModel { id, base, context_length, .. } = &self.description;
        ModelEntry {
            id: id.clone(),
            object: "model",
            created: self.created,
            owned_by: "pipeline",
            root: base.as_ref().unwrap_or(id).clone(),
            parent: base.clone(),
            max_model_len: *context_length,
        }
    }
}

/// Opens the index of a model's training data; the model answers without it.
fn open_index(folder: Option<&Path>, config: &Config) -> Result<Index, String> {
    if !config.trace {
        return Err("`serve.trace` of this server is false".to_owned());
    }
    let Some(folder) = folder else {
        return Err("it was not served as a run with stage index, which `pipeline run` makes".to_owned());
    };
    let index = Sealed::open(folder).map_err(trace::Error::from).and_then(|sealed| Index::open(&sealed));
    index.map_err(|error| {
        let reason = causes(&error);
        tracing::info!(reason, "no text can be traced");
        reason
    })
}

/// Returns the default size of a model's KV cache, in tokens, with this many bytes of memory for it if that is known.
fn default_cache_tokens(shape: &ModelConfig, dtype: Option<KvCacheDtype>, room: Option<u64>) -> usize {
    let usual = DEFAULT_CACHED_CONTEXTS * shape.context_length;
    let Some(room) = room else { return usual };
    let fitting = room / inference::cache_token_bytes(shape, dtype) as u64;
    let tokens = usual.min(usize::try_from(fitting).unwrap_or(usize::MAX).max(MIN_CACHE_TOKENS));
    if tokens < usual {
        tracing::info!(tokens, "free memory limits the KV cache; `serve.kv_cache_tokens` sets its size");
    }
    tokens
}

/// Returns when a file was written, in seconds since 1970; now if that is not known.
fn written(path: &Path) -> u64 {
    let modified = std::fs::metadata(path).and_then(|file| file.modified());
    seconds_since_1970(modified.unwrap_or_else(|_| SystemTime::now()))
}

#[cfg(test)]
mod tests {
    use model::Family;

    use super::*;

    #[test]
    fn the_cache_fits_in_memory() {
        let model = test_support::tiny::model(Family::Qwen3, 10_000, &test_support::tiny::tokenizer());
        let shape = model.config();
        let check = |dtype, room, expected| assert_eq!(default_cache_tokens(shape, dtype, room), expected);
        let token = inference::cache_token_bytes(shape, None) as u64;
        check(None, None, 40_000);
        check(None, Some(1 << 40), 40_000);
        check(None, Some(5000 * token), 5000);
        check(Some(KvCacheDtype::F16), Some(5000 * token), 10_000);
        check(None, Some(0), MIN_CACHE_TOKENS);
        let short = ModelConfig { context_length: 100, ..shape.clone() };
        assert_eq!(default_cache_tokens(&short, None, Some(0)), 400);
    }
}
