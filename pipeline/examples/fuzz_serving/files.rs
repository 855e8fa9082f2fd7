//! Files of models: one is damaged among the valid ones of a tiny model, which is loaded and asked for a few tokens.

use std::error::Error;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use generate::{CompletionOptions, Generator, Prompt};
use model::Family;
use model::gguf::Quantization;
use registry::gguf::LinkedFolder;
use serde_json::Value;
use test_support::fuzz::Random;

use crate::Target;
use crate::json::{self, WORDS};

/// Keys of configurations, including those of models that are not supported.
const CONFIG_KEYS: &[&str] = &[
    "architectures",
    "model_type",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "rope_type",
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
    "short_factor",
    "long_factor",
    "beta_fast",
    "attention_factor",
    "mscale",
    "tie_word_embeddings",
    "torch_dtype",
    "dtype",
    "hidden_act",
    "attention_bias",
    "mlp_bias",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "layer_types",
    "quantization_config",
    "quant_method",
    "config_groups",
    "group_size",
    "num_bits",
    "partial_rotary_factor",
    "final_logit_softcapping",
    "attn_logit_softcapping",
    "query_pre_attn_scalar",
    "n_embd",
    "n_head",
    "n_layer",
    "n_positions",
    "n_inner",
    "activation_function",
    "eos_token_id",
    "bos_token_id",
    "num_experts",
    "text_config",
    "auto_map",
];

/// Keys of tokenizers.
const TOKENIZER_KEYS: &[&str] = &[
    "version",
    "truncation",
    "padding",
    "added_tokens",
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
    "model",
    "type",
    "vocab",
    "merges",
    "unk_token",
    "byte_fallback",
    "ignore_merges",
    "dropout",
    "fuse_unk",
    "pattern",
    "Regex",
    "String",
    "behavior",
    "invert",
    "pretokenizers",
    "normalizers",
    "processors",
    "decoders",
    "add_prefix_space",
    "trim_offsets",
    "use_regex",
    "content",
    "id",
    "special",
    "lstrip",
    "rstrip",
    "normalized",
    "single_word",
    "replacement",
    "prepend_scheme",
    "prefix",
    "cleanup",
    "start",
    "stop",
    "single",
    "pair",
    "special_tokens",
    "ids",
    "tokens",
    "Sequence",
    "max_input_chars_per_word",
    "continuing_subword_prefix",
    "end_of_word_suffix",
];

/// Keys of the header of a safetensors file.
const HEADER_KEYS: &[&str] =
    &["__metadata__", "dtype", "shape", "data_offsets", "model.embed_tokens.weight", "lm_head.weight", "format"];

/// Values of `type` and of others that name a kind.
const KINDS: &[&str] = &[
    "BPE",
    "WordPiece",
    "Unigram",
    "WordLevel",
    "ByteLevel",
    "Metaspace",
    "Split",
    "Digits",
    "Sequence",
    "Whitespace",
    "Bert",
    "BertProcessing",
    "RobertaProcessing",
    "TemplateProcessing",
    "NFC",
    "NFKD",
    "Lowercase",
    "Strip",
    "Replace",
    "Prepend",
    "Precompiled",
    "Fuse",
    "ByteFallback",
    "CTC",
    "Isolated",
    "MergedWithNext",
    "F32",
    "BF16",
    "F16",
    "I8",
    "U8",
    "F8_E4M3",
    "I64",
    "BOOL",
    "llama",
    "gpt2",
    "qwen2",
    "qwen3",
    "gemma2",
    "phi3",
    "mistral",
    "linear",
    "dynamic",
    "yarn",
    "llama3",
    "longrope",
    "default",
    "silu",
    "gelu_new",
    "gelu_pytorch_tanh",
    "(a+)+",
    "(?i:'s)|\\p{L}+",
    "compressed-tensors",
    "full_attention",
    "sliding_attention",
];

/// Words of the binary formats.
const BINARY_WORDS: &[&str] = &[
    "GGUF",
    "\u{3}\0\0\0",
    "\0\0\0\0\0\0\0\0",
    "\u{ff}",
    "general.alignment",
    "general.architecture",
    "llama",
    "qwen3",
    "{",
    "}",
    "\"",
    "tokenizer.ggml.tokens",
    "\u{8}\0\0\0",
    "\u{9}\0\0\0",
    "F32",
    "BF16",
    "data_offsets",
];

/// The file that is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    Config,
    Tokenizer,
    Safetensors,
    Gguf,
}

/// Folders of valid models, and what one of their files is in each.
pub struct Files {
    file: File,
    models: Vec<(PathBuf, Vec<u8>)>,
}

impl Files {
    /// Writes the valid models below `folder`.
    ///
    /// # Errors
    /// Returns an error if they cannot be written.
    pub fn new(file: File, folder: &Path) -> Result<Self, Box<dyn Error>> {
        let mut models = Vec::new();
        if file == File::Gguf {
            let tokenizer = test_support::tiny::tokenizer();
            for quantization in [Quantization::F32, Quantization::F16, Quantization::Q8_0] {
                let folder = folder.join(quantization.name());
                fs::create_dir_all(&folder)?;
                let path = folder.join("model.gguf");
                let model = test_support::tiny::model(Family::Qwen3, 64, &tokenizer);
                registry::gguf::write(&model, &tokenizer, "tiny", quantization, &path)?;
                let bytes = fs::read(&path)?;
                models.push((path, bytes));
            }
            return Ok(Self { file, models });
        }
        let name = match file {
            File::Config => "config.json",
            File::Tokenizer => "tokenizer.json",
            File::Safetensors | File::Gguf => "model.safetensors",
        };
        for family in [Family::Qwen3, Family::Gpt2, Family::Llama] {
            let folder = folder.join(family.model_type());
            fs::create_dir_all(&folder)?;
            test_support::tiny::write(&folder, family, 64);
            let bytes = fs::read(folder.join(name))?;
            models.push((folder.join(name), bytes));
        }
        Ok(Self { file, models })
    }

    /// Damages a JSON document, mostly without breaking its syntax.
    fn document(bytes: &[u8], keys: &[&str], random: &mut Random) -> Vec<u8> {
        let mut value: Value = serde_json::from_slice(bytes).unwrap_or_default();
        json::change(&mut value, keys, random);
        if random.one_in(3) {
            rename(&mut value, random);
        }
        let mut bytes = value.to_string().into_bytes();
        if random.one_in(5) {
            random.damage(&mut bytes, WORDS);
        }
        bytes
    }
}

/// Replaces a random string by the name of another kind.
fn rename(value: &mut Value, random: &mut Random) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            let key = map.keys().nth(random.below(map.len())).cloned().unwrap_or_default();
            rename(&mut map[&key], random);
        }
        Value::Array(items) if !items.is_empty() => {
            let at = random.below(items.len());
            rename(&mut items[at], random);
        }
        Value::String(text) => random.pick(KINDS).clone_into(text),
        _ => {}
    }
}

impl Target for Files {
    /// The first byte is the number of the model.
    fn next(&self, random: &mut Random) -> Vec<u8> {
        let number = random.below(self.models.len());
        let valid = &self.models[number].1;
        let mut bytes = match self.file {
            File::Config => Self::document(valid, CONFIG_KEYS, random),
            File::Tokenizer => Self::document(valid, TOKENIZER_KEYS, random),
            File::Safetensors => {
                let length = u64::from_le_bytes(valid[..8].try_into().unwrap_or_default()) as usize;
                let (header, data) = valid[8..].split_at(length);
                let header =
                    if random.one_in(4) { header.to_vec() } else { Self::document(header, HEADER_KEYS, random) };
                let stated = if random.one_in(10) { random.number() >> random.below(64) } else { header.len() as u64 };
                [&stated.to_le_bytes()[..], &header, data].concat()
            }
            File::Gguf => valid.clone(),
        };
        match self.file {
            File::Gguf => {
                // Mostly in the metadata, whose numbers are little-endian.
                let head = if random.one_in(4) { bytes.len() } else { (bytes.len() / 2).min(16_384) };
                for _ in 0..=random.below(4) {
                    let at = random.below(head.saturating_sub(8));
                    let number = random.pick(&[0, 1, 255, u64::from(u32::MAX), 1 << 40, u64::MAX, i64::MAX as u64]);
                    let width = random.pick(&[1, 4, 8]);
                    bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
                }
                if random.one_in(3) {
                    random.damage(&mut bytes, BINARY_WORDS);
                }
            }
            File::Safetensors if random.one_in(3) => random.damage(&mut bytes, BINARY_WORDS),
            _ => {}
        }
        bytes.insert(0, number as u8);
        bytes
    }

    fn feed(&self, input: &[u8]) -> bool {
        let Some((number, bytes)) = input.split_first() else { return false };
        let (path, valid) = &self.models[usize::from(*number) % self.models.len()];
        if fs::write(path, bytes).is_err() {
            return false;
        }
        let completed = self.complete(path);
        // The next input may be a damaged file of another model.
        let _ = fs::write(path, valid);
        completed.is_ok()
    }
}

impl Files {
    fn complete(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        let folder = path.parent().ok_or("no folder")?;
        let linked = if self.file == File::Gguf { Some(LinkedFolder::of(path)?) } else { None };
        let generator = Generator::open(linked.as_ref().map_or(folder, LinkedFolder::path), "cpu")?;
        let options = CompletionOptions { max_tokens: 3, ..CompletionOptions::default() };
        for prompt in [Prompt::Text("let x = é🦀".to_owned()), Prompt::chat(None, "let x")] {
            generator.generate(&prompt, &options, &mut |_| ControlFlow::Continue(()))?;
        }
        Ok(())
    }
}
