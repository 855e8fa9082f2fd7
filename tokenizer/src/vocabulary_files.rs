//! Byte-level BPE in the files of GPT-2 and Qwen 2: `vocab.json` and `merges.txt`, without `tokenizer.json`.

use std::path::Path;

use serde_json::{Map, Value, json};
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::tokenizer::SplitDelimiterBehavior;

use crate::files::{MODEL_CONFIG, TOKENIZER_CONFIG, object};
use crate::pre_tokenizer::QWEN2;
use crate::text_interface::{self, AddedToken, TextInterface};
use crate::{Error, Tokenizer, tokenizer_class};

/// The names of the files: the id of each token, and the merges in order.
pub const VOCABULARY_FILES: [&str; 2] = ["vocab.json", "merges.txt"];

/// What writes a `tokenizer.json`.
const REMEDY: &str = "AutoTokenizer.from_pretrained(…).save_pretrained(…) of transformers writes one";

/// Reads the vocabulary and the merges in `folder`, with the tokens that other files add.
///
/// # Errors
/// Returns an error if one of them is missing or not valid.
pub(crate) fn read(folder: &Path) -> Result<Tokenizer, Error> {
    let [vocabulary, merges] = VOCABULARY_FILES.map(|name| folder.join(name));
    if !vocabulary.exists() || !merges.exists() {
        let other = ["tokenizer.model", "tekken.json", "vocab.txt", "spiece.model"];
        let found = other.into_iter().find(|name| folder.join(name).exists());
        let found = found.map_or_else(String::new, |name| format!(", only {name}, which is not read"));
        return Err(Error::NoTokenizer { folder: folder.to_owned(), found, remedy: REMEDY });
    }
    let origin = folder.display().to_string();
    let failed = |source| Error::Parse { origin: origin.clone(), source };
    let paths = [&vocabulary, &merges].map(|path| path.to_string_lossy().into_owned());
    let model = BPE::from_file(&paths[0], &paths[1]).build().map_err(failed)?;
    let config = object(folder, TOKENIZER_CONFIG)?.unwrap_or_default();
    let model_config = object(folder, MODEL_CONFIG).ok().flatten().unwrap_or_default();
    let mut inner = tokenizers::Tokenizer::new(model);
    if is_qwen2(&config, &model_config) {
        let split = Split::new(SplitPattern::Regex(QWEN2.to_owned()), SplitDelimiterBehavior::Isolated, false);
        let words = split.map_err(failed)?.into();
        inner.with_normalizer(Some(NFC)).map_err(failed)?;
        inner.with_pre_tokenizer(Some(Sequence::new(vec![words, ByteLevel::new(false, true, false).into()])));
    } else {
        inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    }
    inner.with_decoder(Some(ByteLevel::new(false, true, true)));
    for AddedToken { id, token } in TextInterface::added_tokens(folder)? {
        let content = token.content.clone();
        inner.add_tokens([token]).map_err(failed)?;
        let found = inner.token_to_id(&content);
        if found != Some(id) {
            let problem = format!("`{content}` has id {id}, but would get {found:?}");
            return Err(Error::SideFile { path: folder.join(TOKENIZER_CONFIG), problem });
        }
    }
    // GPT-2's own end-of-text is an ordinary entry of vocab.json, and special all the same.
    if inner.token_to_id(crate::END_OF_TEXT).is_some() {
        inner.add_special_tokens([tokenizers::AddedToken::from(crate::END_OF_TEXT, true)]).map_err(failed)?;
    }
    let affixes = affixes(&inner, &config).map_err(|source| failed(source.into()))?;
    inner.with_post_processor(Some(affixes));
    Tokenizer::wrap(inner, &origin)
}

/// Returns true if transformers reads the files by `Qwen2Tokenizer` instead of `GPT2Tokenizer`: for models of the type
/// `qwen2` whatever class is declared.
fn is_qwen2(config: &Map<String, Value>, model_config: &Map<String, Value>) -> bool {
    let model_type = model_config.get("model_type").and_then(Value::as_str).unwrap_or_default();
    match tokenizer_class::declared(config, model_config) {
        Some(class) => class == "Qwen2Tokenizer" || model_type == "qwen2",
        None => model_type.starts_with("qwen2") || model_type.starts_with("qwen3"),
    }
}

/// Returns what places begin-of-text and end-of-text where `add_bos_token` and `add_eos_token` ask for them.
fn affixes(inner: &tokenizers::Tokenizer, config: &Map<String, Value>) -> serde_json::Result<TemplateProcessing> {
    let names = text_interface::token_names(config);
    let mut special_tokens = Map::new();
    let mut piece = |flag: &str, role: &str| {
        let is_added = config.get(flag).and_then(Value::as_bool) == Some(true);
        let name = names.get(role).map_or(crate::END_OF_TEXT, String::as_str);
        let id = inner.token_to_id(name).filter(|_| is_added)?;
        special_tokens.insert(name.to_owned(), json!({"id": name, "ids": [id], "tokens": [name]}));
        Some(json!({"SpecialToken": {"id": name, "type_id": 0}}))
    };
    let (bos, eos) = (piece("add_bos_token", "bos_token"), piece("add_eos_token", "eos_token"));
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let single: Vec<Value> = bos.into_iter().chain([text("A")]).chain(eos).collect();
    let pair = [text("A"), text("B")];
    let kind = "TemplateProcessing";
    serde_json::from_value(json!({"type": kind, "single": single, "pair": pair, "special_tokens": special_tokens}))
}
