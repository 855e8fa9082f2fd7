//! The tokenizer and the token shards.
//!
//! Documents are read in the corpus's order and written in a shuffled one. Each file of the corpus becomes a *run*: its
//! documents' tokens, sorted by their final order; then all runs are merged. Only one run's tokens are in memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use artifact::{Context, Digest, Unsealed, file};
use rayon::prelude::*;
use tokenizer::shard::{self, ShardTotals};
use tokenizer::{Conversation, Encoder, Message, Tokenizer, TrainConfig};

use crate::engine::documents::Documents;
use crate::engine::record::Body;
use crate::engine::split::Split;
use crate::engine::spool;
use crate::output::mixture;
use crate::output::refusals::{self, Refusal};
use crate::{Config, Error, TokenizerConfig};

/// Text that is encoded between two checks for cancellation.
const BATCH_BYTES: u64 = 8 << 20;

/// Documents that a thread encodes at a time.
const CHUNK: usize = 16;

/// The minimum frequency of a pair of tokens that is merged: a pair that occurs once would be one occurrence.
const MIN_FREQUENCY: u64 = 2;

/// Returns the special tokens to train a tokenizer with, in addition to those of every tokenizer: the configured ones
/// and those of the chat template.
fn special_tokens(config: &TokenizerConfig) -> Vec<String> {
    let mut tokens = config.special_tokens.clone();
    let template = config.chat_template.as_deref().and_then(tokenizer::builtin);
    for token in template.map_or(&[][..], |template| template.special_tokens) {
        if !tokenizer::SPECIAL_TOKENS.contains(token) && !tokens.iter().any(|other| other == token) {
            tokens.push((*token).to_owned());
        }
    }
    tokens
}

/// Returns a tokenizer with the chat template of the configuration, if there is one. With its own, it stops where the
/// answers in `documents` stop, whatever its files declare.
fn with_template(
    tokenizer: Tokenizer,
    config: &Config,
    documents: &Documents,
    context: &Context,
) -> Result<Tokenizer, Error> {
    let Some(name) = &config.tokenizer.chat_template else {
        return Ok(if documents.has_chats() { tokenizer.with_turn_end_as_stop_token() } else { tokenizer });
    };
    Ok(match config.tokenizer.template_file() {
        Some(file) => {
            let path = context.base.join(file);
            let source = fs::read_to_string(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
            let tokenizer = tokenizer.with_chat_template(&source)?;
            let end = tokenizer.turn_end()?;
            if end.token.is_none() {
                context.progress.line(&format!(
                    "train.chat_template: {} ends an answer by {:?}, which is no token, so that the model learns to \
                     stop only after the last message; write eos_token or a token such as <|end|> after each answer",
                    path.display(),
                    end.text
                ));
            }
            tokenizer
        }
        None => tokenizer.with_chat_template(name)?,
    })
}

/// Reads the given tokenizer, or trains one on the train split.
pub(crate) fn tokenizer(config: &Config, documents: &Documents, context: &Context) -> Result<Tokenizer, Error> {
    let TokenizerConfig { file, from_init, init_file, .. } = &config.tokenizer;
    if let Some(file) = if *from_init { init_file } else { file } {
        let path = context.base.join(file);
        let tokenizer = with_template(Tokenizer::from_file(&path)?, config, documents, context)?;
        return if tokenizer.end_of_text().is_some() { Ok(tokenizer) } else { Err(Error::NoEndOfText { path }) };
    }
    let sample = sample(config, documents, context)?;
    let total = sample.iter().map(|text| text.len() as u64).sum();
    context.progress.begin("training the tokenizer", total, "bytes");
    let mut done = 0;
    let texts = sample.iter().take_while(|text| {
        done += text.len() as u64;
        context.progress.position(done);
        !context.cancel.is_requested()
    });
    let train = TrainConfig {
        kind: config.tokenizer.kind,
        vocab_size: config.tokenizer.vocab_size,
        pattern: config.tokenizer.pattern,
        special_tokens: special_tokens(&config.tokenizer),
        min_frequency: MIN_FREQUENCY,
    };
    let tokenizer = with_template(Tokenizer::train(&train, texts)?, config, documents, context)?;
    if context.cancel.is_requested() {
        return Err(Error::Interrupted);
    }
    let (vocab_size, wanted) = (tokenizer.vocab_size(), config.tokenizer.vocab_size);
    if vocab_size < wanted {
        let why = "the train split has no more that could become one";
        context.progress.line(&format!("the vocabulary has {vocab_size} tokens instead of {wanted}: {why}"));
    }
    Ok(tokenizer)
}

/// Returns the texts of the train split in the order of their digests, up to `train_bytes`; one at the least.
fn sample(config: &Config, documents: &Documents, context: &Context) -> Result<Vec<String>, Error> {
    // The largest digest of the sample is on top: it is removed first.
    let mut chosen: BinaryHeap<(Digest, u64, usize, usize)> = BinaryHeap::new();
    let mut bytes = 0;
    for file in 0..documents.files() {
        if context.cancel.is_requested() {
            return Err(Error::Interrupted);
        }
        for (at, entry) in documents.index(file)?.iter().enumerate() {
            if documents.split(config, file, at, entry) != Some(Split::Train) {
                continue;
            }
            chosen.push((entry.digest, entry.text_bytes, file, at));
            bytes += entry.text_bytes;
            while bytes > config.tokenizer.train_bytes && chosen.len() > 1 {
                bytes -= chosen.pop().map_or(0, |(_, bytes, ..)| bytes);
            }
        }
    }
    let mut places: Vec<(Digest, usize, usize)> =
        chosen.into_iter().map(|(digest, _, file, at)| (digest, file, at)).collect();
    places.sort_unstable();
    let text = |(_, file, at): &(Digest, usize, usize)| Ok(documents.body(*file, *at)?.text().into_owned());
    places.iter().map(text).collect()
}

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

/// Merges the runs into the shards of every split. Returns what was written.
pub(crate) fn merge(
    config: &Config,
    tokenizer: &Tokenizer,
    documents: &Documents,
    runs: &[PathBuf],
    out: &Unsealed,
    context: &Context,
) -> Result<Vec<(Split, ShardTotals)>, Error> {
    context.progress.begin("shuffling", 0, "documents");
    let mut written = Vec::new();
    for split in Split::ALL {
        let to = shard::Writer::new(out.folder(), split.name(), tokenizer, config.shard_bytes);
        // A shard has a mask for all of its documents or for none.
        written.push((split, merge_split(split, runs, to, documents.has_chats(), context)?));
    }
    Ok(written)
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

/// The tokens of a document, its end included.
struct Tokens {
    ids: Vec<u32>,
    /// The loss mask, if there is one.
    loss_mask: Option<Vec<bool>>,
    /// Of a preference, the number of tokens of the chosen answer; those of the rejected one follow. Otherwise 0.
    chosen: usize,
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
            let place = |copy| Place { key: key(copy), split, tokens, text_bytes: entry.text_bytes };
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
                    write_document(&mut to, place.key, place.tokens, place.text_bytes)?;
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

/// Writes a document of a run: key, lengths, whether there is a mask, tokens, mask.
fn write_document(to: &mut impl Write, key: [u8; 16], tokens: &Tokens, text_bytes: u64) -> std::io::Result<()> {
    to.write_all(&key)?;
    to.write_all(&text_bytes.to_le_bytes())?;
    to.write_all(&(tokens.ids.len() as u64).to_le_bytes())?;
    to.write_all(&(tokens.chosen as u64).to_le_bytes())?;
    to.write_all(&[u8::from(tokens.loss_mask.is_some())])?;
    for id in &tokens.ids {
        to.write_all(&id.to_le_bytes())?;
    }
    let mask: Vec<u8> = tokens.loss_mask.iter().flatten().map(|counts| u8::from(*counts)).collect();
    to.write_all(&mask)
}

/// A run that is being merged.
struct RunReader {
    from: BufReader<File>,
    path: PathBuf,
}

/// The next document of a run.
struct Head {
    key: [u8; 16],
    text_bytes: u64,
    tokens: Tokens,
}

impl RunReader {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let file = File::open(&path).map_err(|e| artifact::Error::io("open", &path, e))?;
        Ok(Self { from: BufReader::with_capacity(1 << 16, file), path })
    }

    fn next(&mut self) -> Result<Option<Head>, Error> {
        let mut key = [0; 16];
        match self.from.read_exact(&mut key) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read.map_err(|e| artifact::Error::io("read", &self.path, e))?,
        }
        let read = |from: &mut BufReader<File>| {
            let mut number = [0; 8];
            from.read_exact(&mut number)?;
            let text_bytes = u64::from_le_bytes(number);
            from.read_exact(&mut number)?;
            let length = u64::from_le_bytes(number) as usize;
            from.read_exact(&mut number)?;
            let chosen = u64::from_le_bytes(number) as usize;
            let mut masked = [0];
            from.read_exact(&mut masked)?;
            let mut bytes = vec![0; 4 * length];
            from.read_exact(&mut bytes)?;
            let ids = bytes.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
            let mut mask = vec![0; if masked[0] == 0 { 0 } else { length }];
            from.read_exact(&mut mask)?;
            let loss_mask = (masked[0] != 0).then(|| mask.iter().map(|counts| *counts != 0).collect());
            Ok(Head { key, text_bytes, tokens: Tokens { ids, loss_mask, chosen } })
        };
        let head = read(&mut self.from).map_err(|e: std::io::Error| artifact::Error::io("read", &self.path, e))?;
        Ok(Some(head))
    }
}

/// Runs that are open at the same time: systems allow some hundreds of files.
const MAX_OPEN_RUNS: usize = 256;

/// Merges the runs of one split into its shards, with loss masks if `masked`.
fn merge_split(
    split: Split,
    runs: &[PathBuf],
    mut writer: shard::Writer,
    masked: bool,
    context: &Context,
) -> Result<ShardTotals, Error> {
    let mut runs: Vec<PathBuf> = runs.iter().map(|run| run.join(split.name())).collect();
    for round in 0.. {
        if runs.len() <= MAX_OPEN_RUNS {
            break;
        }
        let mut fewer = Vec::new();
        for (number, group) in runs.chunks(MAX_OPEN_RUNS).enumerate() {
            let path = group[0].with_file_name(format!("merged-{}-{round}-{number}", split.name()));
            let failed = |e| artifact::Error::io("write", &path, e);
            let mut to = BufWriter::with_capacity(1 << 18, File::create(&path).map_err(failed)?);
            merge_runs(group, context, &mut |head| {
                Ok(write_document(&mut to, head.key, &head.tokens, head.text_bytes).map_err(failed)?)
            })?;
            to.flush().map_err(failed)?;
            fewer.push(path);
        }
        runs = fewer;
    }
    let mut pairs = None;
    merge_runs(&runs, context, &mut |Head { tokens: Tokens { ids, loss_mask, chosen }, text_bytes, .. }| {
        if *pairs.get_or_insert(chosen > 0) != (chosen > 0) {
            return Err(Error::MixedPairs { split: split.name() });
        }
        if !masked {
            return Ok(writer.push(&ids, text_bytes)?);
        }
        let mask = loss_mask.unwrap_or_else(|| vec![true; ids.len()]);
        if chosen == 0 {
            return Ok(writer.push_masked(&ids, &mask, text_bytes)?);
        }
        let pair = [(&ids[..chosen], &mask[..chosen]), (&ids[chosen..], &mask[chosen..])];
        Ok(writer.push_pair(pair, text_bytes)?)
    })?;
    Ok(writer.finish()?)
}

/// Passes the documents of sorted runs to `each`, in the order of their keys.
fn merge_runs(
    paths: &[PathBuf],
    context: &Context,
    each: &mut dyn FnMut(Head) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut runs = paths.iter().map(|path| RunReader::open(path.clone())).collect::<Result<Vec<_>, Error>>()?;
    let mut heads: Vec<Option<Head>> = runs.iter_mut().map(RunReader::next).collect::<Result<_, Error>>()?;
    let key = |head: &Option<Head>, run: usize| head.as_ref().map(|head| Reverse((head.key, run)));
    let mut queue: BinaryHeap<Reverse<([u8; 16], usize)>> =
        heads.iter().enumerate().filter_map(|(run, head)| key(head, run)).collect();
    while let Some(Reverse((_, run))) = queue.pop() {
        if context.cancel.is_requested() {
            return Err(Error::Interrupted);
        }
        heads[run].take().map(&mut *each).transpose()?;
        heads[run] = runs[run].next()?;
        queue.extend(key(&heads[run], run));
    }
    Ok(())
}
