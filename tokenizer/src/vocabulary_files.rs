//! Byte-level BPE in the files of GPT-2: `vocab.json` and `merges.txt`, without `tokenizer.json`.

use std::path::Path;

use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use crate::text_interface::{AddedToken, TOKENIZER_CONFIG, TextInterface};
use crate::{Error, Tokenizer};

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
    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    inner.with_decoder(Some(ByteLevel::new(false, true, true)));
    inner.with_post_processor(Some(ByteLevel::new(false, false, true)));
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
    Tokenizer::wrap(inner, &origin)
}
