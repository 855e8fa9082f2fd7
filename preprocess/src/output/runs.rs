//! Tokens in runs.
//!
//! Documents are read in the corpus's order and written in a shuffled one. Each file of the corpus becomes a *run*: its
//! documents' tokens, sorted by their final order; then all runs are merged. Only one run's tokens are in memory.

mod document;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use artifact::{Context, file};
use rayon::prelude::*;
use tokenizer::{Conversation, Encoder, Message, Tokenizer};

use crate::engine::documents::Documents;
use crate::engine::record::Body;
use crate::engine::split::Split;
use crate::engine::spool;
use crate::mixture;
use crate::output::refusals::{self, Refusal};
use crate::{Config, Error};

pub(crate) use document::{Head, RunReader, Tokens, write_document};

/// Text that is encoded between two checks for cancellation.
const BATCH_BYTES: u64 = 8 << 20;

/// Documents that a thread encodes at a time.
const CHUNK: usize = 16;

/// Encodes all documents. Returns the folder of the run of each file.
///
/// # Errors
/// Returns an error if a document cannot be encoded for another reason than [`refusals`], on I/O errors, and if the run
/// is interrupted.
pub(crate) fn encode(
    config: &Config,
    tokenizer: &Tokenizer,
    documents: &Documents,
    plan: Option<&mixture::Plan>,
    context: &Context,
) -> Result<Vec<PathBuf>, Error> {
    if documents.has_chats() {
        // A template that is missing or not valid is no matter of single conversations.
        tokenizer.chat_template(false)?;
    }
    let total = (0..documents.files()).map(|file| documents.spool(file).text_bytes()).sum();
    context.progress.begin("encoding", total, "bytes");
    // Each tokenizer has its own folder, in which encoding resumes after an interruption.
    let folder = documents.work().join(format!("tokens-{}", tokenizer.digest().short()));
    file::create_folder(&folder)?;
    let encoders = Mutex::new(Vec::new());
    let run = Run { config, tokenizer, documents, plan, encoders: &encoders, seed: context.seed };
    let mut done = 0;
    let mut runs = Vec::with_capacity(documents.files());
    for file in 0..documents.files() {
        runs.push(run.write(file, &folder, context, done)?);
        done += documents.spool(file).text_bytes();
        context.progress.position(done);
    }
    Ok(runs)
}

/// Removes runs, so that their documents are encoded again.
pub(crate) fn remove(runs: &[PathBuf]) -> Result<(), Error> {
    runs.iter().try_for_each(|run| fs::remove_dir_all(run).map_err(Error::io("remove", run)))
}

/// What is needed to make a run.
struct Run<'a> {
    config: &'a Config,
    tokenizer: &'a Tokenizer,
    documents: &'a Documents,
    plan: Option<&'a mixture::Plan>,
    /// Encoders cache words, so they are reused between batches.
    encoders: &'a Mutex<Vec<Encoder<'a>>>,
    seed: u64,
}

/// The tokens of a document before it has a place in the order.
struct Weighted {
    tokens: Tokens,
    /// How often it is repeated in the train split, as far as it decides.
    weight: f64,
}

/// A document in a run.
struct Place<'a> {
    key: [u8; 16],
    split: Split,
    /// Its number among all documents.
    number: u32,
    tokens: &'a Tokens,
    text_bytes: u64,
}

impl Run<'_> {
    /// Writes the run of a file, unless it is finished. Returns its folder.
    fn write(&self, file: usize, folder: &Path, context: &Context, done: u64) -> Result<PathBuf, Error> {
        let finished = folder.join(format!("{file:05}"));
        if finished.is_dir() {
            return Ok(finished);
        }
        let index = self.documents.index(file)?;
        let mut documents: Vec<Result<Weighted, Refusal>> = Vec::with_capacity(index.len());
        let mut bytes = 0;
        for range in spool::runs(&index, BATCH_BYTES) {
            if context.cancel.is_requested() {
                return Err(Error::Interrupted);
            }
            let entries = &index[range.clone()];
            let bodies = self.documents.spool(file).bodies(entries)?;
            let chunk = |(chunk, bodies): (usize, &[Body])| {
                let taken = self.encoders.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let mut encoder = taken.unwrap_or_else(|| self.tokenizer.encoder());
                let weighted = |(at, body)| match self.encode(&mut encoder, body) {
                    Ok(tokens) => Ok(Ok(Weighted { tokens, weight: weight(body) })),
                    Err(reason) => {
                        let at = range.start + chunk * CHUNK + at;
                        let refusal = Refusal::of(at, &reason);
                        refusal.map(Err).ok_or_else(|| self.not_encoded(file, at, reason))
                    }
                };
                let encoded = bodies.iter().enumerate().map(weighted).collect();
                self.encoders.lock().unwrap_or_else(PoisonError::into_inner).push(encoder);
                encoded
            };
            let encoded: Vec<Vec<Result<Weighted, Refusal>>> =
                bodies.par_chunks(CHUNK).enumerate().map(chunk).collect::<Result<_, Error>>()?;
            documents.extend(encoded.into_iter().flatten());
            bytes += entries.iter().map(|entry| entry.length).sum::<u64>();
            context.progress.position(done + bytes);
        }
        let sources = if self.plan.is_some() { self.documents.texts(file, "source")? } else { Vec::new() };
        let mut places = Vec::new();
        for (at, entry) in index.iter().enumerate() {
            let Some(split) = self.documents.split(self.config, file, at, entry) else { continue };
            let Ok(document) = &documents[at] else { continue };
            let copies = if split == Split::Train {
                let rate = self.plan.map_or(1.0, |plan| plan.rate(&sources[at])) * document.weight;
                mixture::copies(rate, self.seed, entry.digest.as_bytes())
            } else {
                1
            };
            let tokens = &document.tokens;
            let key = |copy| mixture::order_key(self.seed, entry.digest.as_bytes(), copy);
            let number = self.documents.number(file, at);
            let place = |copy| Place { key: key(copy), split, number, tokens, text_bytes: entry.text_bytes };
            places.extend((0..copies).map(place));
        }
        places.sort_unstable_by_key(|place| (place.split, place.key));
        let temporary = folder.join(format!("{file:05}.unfinished"));
        if temporary.exists() {
            fs::remove_dir_all(&temporary).map_err(|e| artifact::Error::io("remove", &temporary, e))?;
        }
        file::create_folder(&temporary)?;
        for split in Split::ALL {
            let path = temporary.join(split.name());
            let places = places.iter().filter(|place| place.split == split);
            let write = || {
                let mut to = BufWriter::with_capacity(1 << 18, File::create(&path)?);
                for place in places {
                    write_document(&mut to, place.key, place.number, place.tokens, place.text_bytes)?;
                }
                to.flush()?;
                to.get_ref().sync_all()
            };
            write().map_err(|e| artifact::Error::io("write", &path, e))?;
        }
        let length = |document: &Result<Weighted, _>| document.as_ref().map_or(0, |done| done.tokens.ids.len() as u64);
        let counts: Vec<u8> = documents.iter().flat_map(|document| length(document).to_le_bytes()).collect();
        let path = temporary.join(COUNTS);
        fs::write(&path, counts).map_err(|e| artifact::Error::io("write", &path, e))?;
        let refused: Vec<&Refusal> = documents.iter().filter_map(|document| document.as_ref().err()).collect();
        refusals::write(&temporary, &refused)?;
        fs::rename(&temporary, &finished).map_err(|e| artifact::Error::io("rename", &temporary, e))?;
        file::sync_folder(folder)?;
        Ok(finished)
    }

    /// Returns the error of a document that cannot be encoded.
    fn not_encoded(&self, file: usize, at: usize, reason: tokenizer::Error) -> Error {
        let text = |column| Ok::<_, Error>(self.documents.texts(file, column)?.swap_remove(at));
        match text("id").and_then(|id| Ok((id, text("source")?))) {
            Ok((id, name)) => Error::Encode { id, name, reason: Box::new(reason) },
            Err(error) => error,
        }
    }

    fn encode(&self, encoder: &mut Encoder<'_>, body: &Body) -> Result<Tokens, tokenizer::Error> {
        let end = self.tokenizer.end_of_text();
        match body {
            Body::Text(text) => {
                let mut ids = encoder.encode_document(text)?;
                // Some tokenizers place it themselves.
                ids.extend(end.filter(|end| ids.last() != Some(end)));
                Ok(Tokens { ids, loss_mask: None, chosen: 0 })
            }
            Body::Chat(chat) => {
                let answers = encoder.encode_preference(chat)?;
                let is_pair = answers.is_some();
                let chats = match answers {
                    Some(answers) => answers.to_vec(),
                    None => vec![encoder.encode_chat(chat)?],
                };
                let (mut ids, mut loss_mask) = (Vec::new(), Vec::new());
                let learns_end = is_pair || chat.messages.last().is_some_and(Message::is_learned);
                let mut chosen = 0;
                for chat in chats {
                    chosen = if is_pair { ids.len() } else { 0 };
                    ids.extend(chat.ids);
                    loss_mask.extend(chat.loss_mask);
                    // Some templates end with it.
                    ids.extend(end.filter(|end| ids.last() != Some(end)));
                    // It follows the last answer, and the model must learn to stop there, if it learns the answer.
                    loss_mask.resize(ids.len(), learns_end);
                }
                Ok(Tokens { ids, loss_mask: Some(loss_mask), chosen })
            }
        }
    }
}

/// Returns the weight of a conversation; 1 where none is given.
fn weight(body: &Body) -> f64 {
    match body {
        Body::Chat(Conversation { weight: Some(weight), .. }) => *weight,
        _ => 1.0,
    }
}

const COUNTS: &str = "counts";

/// Returns the number of tokens of each document of a run's file, its end included; 0 for a refused conversation.
pub(crate) fn token_counts(run: &Path) -> Result<Vec<u64>, Error> {
    let path = run.join(COUNTS);
    let bytes = fs::read(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
    Ok(bytes.as_chunks().0.iter().map(|count| u64::from_le_bytes(*count)).collect())
}
