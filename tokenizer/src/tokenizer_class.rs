//! The tokenizer classes of transformers that replace parts of `tokenizer.json`.
//!
//! `AutoTokenizer` of transformers 5 mostly uses `tokenizer.json` as it is. Where the class is `LlamaTokenizer`, only
//! the vocabulary, the added tokens and the post-processor are those of the file: the class has no normalizer, writes
//! spaces by Metaspace, and decodes accordingly. The files that Llama 2 and its descendants are published with have a
//! normalizer instead, which writes one space more before a text that begins with a space, and after a special token.
//! `GPT2Tokenizer`, `Qwen2Tokenizer` and `GemmaTokenizer` put in place what their files have anyway.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::normalizers::replace::Replace;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{DecoderWrapper, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper};

use crate::Error;
use crate::files::{MODEL_CONFIG, TOKENIZER, TOKENIZER_CONFIG, object};

/// The key of the class.
pub(crate) const CLASS: &str = "tokenizer_class";

/// The models whose `tokenizer.json` is used as it is, whatever class is declared (`TOKENIZER_MAPPING_NAMES` and
/// `MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS` in transformers 5.24, those whose files declare `LlamaTokenizer`).
const MODELS_WITH_OWN_FILE: [&str; 19] = [
    "granite",
    "granitemoe",
    "internlm2",
    "internlm3",
    "jamba",
    "minicpm3",
    "ministral",
    "ministral3",
    "mistral",
    "mistral3",
    "mixtral",
    "nemotron",
    "olmo2",
    "olmo3",
    "persimmon",
    "phi3",
    "phimoe",
    "qwen2",
    "stablelm",
];

/// The character that stands for a space.
const SPACE: char = '▁';

/// Returns the declared class without the suffix `Fast`.
pub(crate) fn declared(tokenizer_config: &Map<String, Value>, model_config: &Map<String, Value>) -> Option<String> {
    let name = [tokenizer_config, model_config].into_iter().find_map(|config| config.get(CLASS)?.as_str())?;
    Some(name.strip_suffix("Fast").unwrap_or(name).to_owned())
}

/// Returns true if the model's `tokenizer.json` is used as it is, although `LlamaTokenizer` is declared.
pub(crate) fn is_overruled(tokenizer_config: &Map<String, Value>, model_config: &Map<String, Value>) -> bool {
    let model_type = model_config.get("model_type").and_then(Value::as_str);
    declared(tokenizer_config, &Map::new()).as_deref() == Some("LlamaTokenizer")
        && model_type.is_some_and(|model_type| MODELS_WITH_OWN_FILE.contains(&model_type))
}

/// Replaces what the class of the model in `folder` replaces.
pub(crate) fn apply(inner: &mut tokenizers::Tokenizer, folder: &Path) -> Result<(), Error> {
    let config = object(folder, TOKENIZER_CONFIG)?.unwrap_or_default();
    // Loading the weights reports what is wrong with this file.
    let model_config = object(folder, MODEL_CONFIG).ok().flatten().unwrap_or_default();
    let is_llama = declared(&config, &model_config).as_deref() == Some("LlamaTokenizer");
    let is_pieces = matches!(inner.get_model(), ModelWrapper::BPE(_)) && !is_byte_level(inner);
    if is_llama && is_pieces && !is_overruled(&config, &model_config) {
        let is = |key: &str, default| config.get(key).and_then(Value::as_bool).unwrap_or(default);
        let failed = |source| Error::Parse { origin: folder.join(TOKENIZER).display().to_string(), source };
        llama(inner, is("add_prefix_space", true), is("legacy", false)).map_err(failed)?;
    }
    Ok(())
}

/// Puts the components of `LlamaTokenizer` in place.
fn llama(inner: &mut tokenizers::Tokenizer, add_prefix_space: bool, legacy: bool) -> tokenizers::Result<()> {
    let scheme = match (add_prefix_space, legacy) {
        (false, _) => PrependScheme::Never,
        (true, false) => PrependScheme::First,
        (true, true) => PrependScheme::Always,
    };
    inner.with_normalizer(None::<NormalizerWrapper>)?;
    inner.with_pre_tokenizer(Some(Metaspace::new(SPACE, scheme, false)));
    let mut decoders: Vec<DecoderWrapper> =
        vec![Replace::new(SPACE.to_string(), " ")?.into(), ByteFallback::new().into(), Fuse::new().into()];
    if add_prefix_space {
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    inner.with_decoder(Some(Sequence::new(decoders)));
    Ok(())
}

/// Returns true if the file declares a byte-level tokenizer, which `LlamaTokenizer` is not.
fn is_byte_level(inner: &tokenizers::Tokenizer) -> bool {
    let is_bytes = |pre_tokenizer: &PreTokenizerWrapper| matches!(pre_tokenizer, PreTokenizerWrapper::ByteLevel(_));
    let splits_bytes = match inner.get_pre_tokenizer() {
        Some(PreTokenizerWrapper::Sequence(sequence)) => sequence.as_ref().iter().any(is_bytes),
        Some(one) => is_bytes(one),
        None => false,
    };
    let joins = |decoder: &DecoderWrapper| matches!(decoder, DecoderWrapper::ByteLevel(_));
    let joins_bytes = match inner.get_decoder() {
        Some(DecoderWrapper::Sequence(sequence)) => sequence.get_decoders().iter().any(joins),
        Some(one) => joins(one),
        None => false,
    };
    splits_bytes || joins_bytes
}
