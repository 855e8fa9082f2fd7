//! The tokens of a tokenizer, in `tokenizer.json` and in a GGUF file.

use std::collections::HashMap;

use model::gguf::{Array, Metadata, TOKENS, Value};
use serde_json::{Value as Json, json};

use crate::Error;

/// The key of the types of the tokens.
const TYPES: &str = "tokenizer.ggml.token_type";

/// The types of tokens in a file, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenType {
    Normal = 1,
    /// Stands for what cannot be encoded.
    Unknown = 2,
    /// Special: it has no text, and no text becomes it.
    Control = 3,
    /// Added: found in a text before anything else.
    UserDefined = 4,
    /// A row of the embedding without a token.
    Unused = 5,
    /// A byte, written `<0x0A>`.
    Byte = 6,
}

impl TokenType {
    fn of(number: i32) -> Option<Self> {
        let all = [Self::Normal, Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte];
        all.into_iter().find(|known| *known as i32 == number)
    }
}

/// The tokens by id, with their types.
#[derive(Debug, Clone)]
pub(super) struct Vocabulary {
    pub(super) tokens: Vec<String>,
    pub(super) types: Vec<TokenType>,
}

impl Vocabulary {
    /// Returns the tokens of a `tokenizer.json` for a model of `vocab_size` ids, and what is lost, in words.
    ///
    /// # Errors
    /// Returns the reason if two tokens have one id, or one has none of the model's.
    pub(super) fn of_json(json: &Json, vocab_size: usize) -> Result<(Self, Vec<String>), String> {
        let model = &json["model"];
        let kind = model["type"].as_str().unwrap_or("of an unknown kind");
        let Some(vocabulary) = model["vocab"].as_object().filter(|_| kind == "BPE") else {
            return Err(format!("its model is {kind}; llama.cpp encodes BPE in the same way, and no other here"));
        };
        let mut tokens: Vec<Option<String>> = vec![None; vocab_size];
        let mut types = vec![TokenType::Normal; vocab_size];
        let unknown = model["unk_token"].as_str();
        let has_bytes = model["byte_fallback"] == true;
        for (token, id) in vocabulary {
            let id = place(&mut tokens, token, id)?;
            if has_bytes && is_byte(token) {
                types[id] = TokenType::Byte;
            } else if unknown == Some(token.as_str()) {
                types[id] = TokenType::Unknown;
            }
        }
        let mut stripping = Vec::new();
        for added in json["added_tokens"].as_array().into_iter().flatten() {
            let content = added["content"].as_str().unwrap_or_default();
            let id = place(&mut tokens, content, &added["id"])?;
            let is_unknown = types[id] == TokenType::Unknown;
            let is_special = added["special"] == true;
            types[id] = match (is_unknown, is_special) {
                (true, _) => TokenType::Unknown,
                (_, true) => TokenType::Control,
                _ => TokenType::UserDefined,
            };
            if ["lstrip", "rstrip", "single_word"].iter().any(|key| added[*key] == true) {
                stripping.push(content.to_owned());
            }
        }
        let mut notes = Vec::new();
        if !stripping.is_empty() {
            let names = stripping.join(", ");
            notes.push(format!("GGUF does not have that {names} take white space with them, or are whole words"));
        }
        let mut ids = HashMap::new();
        for (id, token) in tokens.iter().enumerate() {
            if let Some(first) = token.as_ref().and_then(|token| ids.insert(token, id)) {
                return Err(format!("one of its tokens has the ids {first} and {id}"));
            }
        }
        let named = |(id, token): (usize, Option<String>)| {
            token.unwrap_or_else(|| {
                types[id] = TokenType::Unused;
                unused(id)
            })
        };
        let tokens = tokens.into_iter().enumerate().map(named).collect();
        Ok((Self { tokens, types }, notes))
    }

    /// Adds the tokens and their types.
    pub(super) fn write(self, metadata: &mut Metadata) {
        metadata.set(TOKENS, Value::Array(Array::String(self.tokens)));
        let types = self.types.into_iter().map(|token_type| token_type as i32).collect();
        metadata.set(TYPES, Value::Array(Array::I32(types)));
    }

    /// Returns the tokens of a file.
    ///
    /// # Errors
    /// Names the key that is missing or wrong.
    pub(super) fn of_metadata(metadata: &Metadata) -> Result<Self, Error> {
        let tokens = metadata.strings(TOKENS)?.ok_or_else(|| metadata.wrong(TOKENS, "is missing"))?.to_vec();
        let types = match metadata.get(TYPES) {
            None => vec![TokenType::Normal; tokens.len()],
            Some(Value::Array(Array::I32(types))) if types.len() == tokens.len() => {
                let known: Option<Vec<_>> = types.iter().map(|number| TokenType::of(*number)).collect();
                known.ok_or_else(|| metadata.wrong(TYPES, "has a type that is not known"))?
            }
            Some(_) => return Err(metadata.wrong(TYPES, "is not one integer for each token").into()),
        };
        let mut ids = HashMap::new();
        for (id, token) in tokens.iter().enumerate() {
            if let Some(first) = ids.insert(token, id) {
                let reason = format!("has one token for the ids {first} and {id}");
                return Err(metadata.wrong(TOKENS, reason).into());
            }
        }
        Ok(Self { tokens, types })
    }

    /// Returns the special token whose id has the key `tokenizer.ggml.<name>_token_id`, if there is one.
    ///
    /// # Errors
    /// Returns an error if the id is not one of the vocabulary.
    pub(super) fn special(&self, metadata: &Metadata, name: &str) -> Result<Option<(usize, &str)>, Error> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let Some(id) = metadata.usize(&key)? else { return Ok(None) };
        let token = self
            .tokens
            .get(id)
            .ok_or_else(|| metadata.wrong(&key, format!("is {id}, beyond the {} tokens", self.tokens.len())))?;
        Ok(Some((id, token)))
    }

    /// Returns the ids and tokens without those that only fill the embedding.
    pub(super) fn used(&self) -> impl Iterator<Item = (usize, &str, TokenType)> {
        let all = self.tokens.iter().zip(&self.types).enumerate();
        let all = all.map(|(id, (token, token_type))| (id, token.as_str(), *token_type));
        all.filter(|(id, token, token_type)| *token_type != TokenType::Unused || *token != unused(*id))
    }

    /// Returns `vocab` and `added_tokens` of a `tokenizer.json`.
    pub(super) fn to_json(&self) -> (Json, Json) {
        let vocabulary = self.used().map(|(id, token, _)| (token.to_owned(), json!(id)));
        let vocabulary = Json::Object(vocabulary.collect());
        let is_added =
            |token_type| matches!(token_type, TokenType::Control | TokenType::Unknown | TokenType::UserDefined);
        let added = self.used().filter(|(.., token_type)| is_added(*token_type)).map(|(id, token, token_type)| {
            json!({
                "id": id,
                "content": token,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": token_type != TokenType::UserDefined,
            })
        });
        (vocabulary, added.collect())
    }

    /// Returns the post-processor of a `tokenizer.json` that places begin-of-text and end-of-text as the file says.
    ///
    /// # Errors
    /// Returns an error if a token that is placed has no id.
    pub(super) fn post_processor(&self, metadata: &Metadata, adds_bos: bool) -> Result<Option<Json>, Error> {
        let mut around = Vec::new();
        for (name, default) in [("bos", adds_bos), ("eos", false)] {
            let key = format!("tokenizer.ggml.add_{name}_token");
            let adds = metadata.bool(&key)?.unwrap_or(default);
            around.push(if adds { self.special(metadata, name)? } else { None });
        }
        let placed: Vec<_> = around.iter().flatten().collect();
        if placed.is_empty() {
            return Ok(None);
        }
        let part = |token: &Option<(usize, &str)>| {
            token.map(|(_, token)| json!({"SpecialToken": {"id": token, "type_id": 0}}))
        };
        let sequence = |id: &str, type_id: u32| json!({"Sequence": {"id": id, "type_id": type_id}});
        let (before, after) = (part(&around[0]), part(&around[1]));
        let single =
            |id: &str, type_id| [before.clone(), Some(sequence(id, type_id)), after.clone()].into_iter().flatten();
        let special = placed
            .iter()
            .map(|(id, token)| ((*token).to_owned(), json!({"id": token, "ids": [id], "tokens": [token]})));
        Ok(Some(json!({
            "type": "TemplateProcessing",
            "single": single("A", 0).collect::<Json>(),
            "pair": single("A", 0).chain(single("B", 1)).collect::<Json>(),
            "special_tokens": Json::Object(special.collect()),
        })))
    }
}

/// Puts a token at its id.
fn place(tokens: &mut [Option<String>], token: &str, id: &Json) -> Result<usize, String> {
    let index = id.as_u64().and_then(|id| usize::try_from(id).ok());
    let size = tokens.len();
    let Some(index) = index.filter(|index| *index < size) else {
        return Err(format!("its token `{token}` has the id {id}, the model has {size}"));
    };
    match &tokens[index] {
        Some(other) if other != token => Err(format!("its tokens `{other}` and `{token}` have the id {index}")),
        _ => {
            tokens[index] = Some(token.to_owned());
            Ok(index)
        }
    }
}

/// Returns llama.cpp's name of a row of the embedding without a token.
fn unused(id: usize) -> String {
    format!("[PAD{id}]")
}

/// Returns true if a token stands for a byte: `<0x0A>`.
pub(super) fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F')))
}
