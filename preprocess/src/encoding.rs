//! The tokenizer, and the shards it makes.

use std::ops::Range;

use artifact::{Context, Unsealed};
use rayon::prelude::*;
use tokenizer::shard::{Writer, Written};
use tokenizer::{Tokenizer, TrainConfig};

use crate::corpus::Collection;
use crate::selection::Split;
use crate::{Config, Error};

/// How much text is encoded between two looks at whether to stop; it bounds the tokens in memory too.
const BATCH_BYTES: u64 = 8 << 20;

/// How often a pair of tokens must occur to become one: once would be a name for a single place.
const MIN_FREQUENCY: u64 = 2;

/// Reads the given tokenizer, or trains one on the train split.
pub(crate) fn tokenizer(config: &Config, collection: &Collection, context: &Context) -> Result<Tokenizer, Error> {
    if let Some(file) = &config.tokenizer.file {
        let path = context.base.join(file);
        let tokenizer = Tokenizer::from_file(&path)?;
        return if tokenizer.end_of_text().is_some() { Ok(tokenizer) } else { Err(Error::NoEndOfText { path }) };
    }
    let sample = sample(collection, config.tokenizer.train_bytes);
    let total = sample.iter().map(|text| text.len() as u64).sum();
    context.progress.begin("training the tokenizer", total, "bytes");
    let mut done = 0;
    let documents = sample.into_iter().take_while(|text| {
        done += text.len() as u64;
        context.progress.position(done);
        !context.cancel.is_requested()
    });
    let train = TrainConfig {
        vocab_size: config.tokenizer.vocab_size,
        pattern: config.tokenizer.pattern,
        min_frequency: MIN_FREQUENCY,
    };
    let tokenizer = Tokenizer::train(&train, documents)?;
    if context.cancel.is_requested() {
        return Err(Error::Interrupted);
    }
    let (vocab_size, wanted) = (tokenizer.vocab_size(), config.tokenizer.vocab_size);
    if vocab_size < wanted {
        let why = "the train split has no more pairs of tokens that come twice";
        context.progress.line(&format!("the vocabulary has {vocab_size} tokens instead of {wanted}: {why}"));
    }
    Ok(tokenizer)
}

/// Returns the documents of the train split, in the order of their digests, up to `train_bytes`; one at the least.
fn sample(collection: &Collection, train_bytes: u64) -> Vec<&str> {
    let mut bytes = 0;
    let mut sample = Vec::new();
    for i in collection.order(Split::Train) {
        let entry = &collection.entries[i];
        bytes += entry.bytes;
        if bytes > train_bytes && !sample.is_empty() {
            break;
        }
        sample.push(entry.text.as_str());
    }
    sample
}

/// Writes the shards of every split and notes each document's tokens.
pub(crate) fn encode(
    config: &Config,
    tokenizer: &Tokenizer,
    collection: &mut Collection,
    out: &Unsealed,
    context: &Context,
) -> Result<Vec<(Split, Written)>, Error> {
    let end_of_text = tokenizer.end_of_text();
    let orders = Split::ALL.map(|split| (split, collection.order(split)));
    let total = orders.iter().flat_map(|(_, order)| order).map(|i| collection.entries[*i].bytes).sum();
    context.progress.begin("encoding", total, "bytes");
    let mut done = 0;
    let mut written = Vec::new();
    for (split, order) in orders {
        let mut writer = Writer::new(out.folder(), split.name(), tokenizer, config.shard_bytes);
        for batch in batches(collection, &order) {
            if context.cancel.is_requested() {
                return Err(Error::Interrupted);
            }
            let batch = &order[batch];
            // Parallel, but in order: what is written depends on the documents alone.
            let encoded: Vec<Vec<u32>> = batch
                .par_iter()
                .map_init(
                    || tokenizer.encoder(),
                    |encoder, i| {
                        let mut ids = encoder.encode(&collection.entries[*i].text)?;
                        ids.extend(end_of_text);
                        Ok(ids)
                    },
                )
                .collect::<Result<_, tokenizer::Error>>()?;
            for (i, ids) in batch.iter().zip(encoded) {
                let entry = &mut collection.entries[*i];
                entry.tokens = ids.len() as u64;
                writer.push(&ids, entry.bytes)?;
                done += entry.bytes;
            }
            context.progress.position(done);
        }
        written.push((split, writer.finish()?));
    }
    Ok(written)
}

/// Returns `order` in runs of about [`BATCH_BYTES`].
fn batches(collection: &Collection, order: &[usize]) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, i) in order.iter().enumerate() {
        bytes += collection.entries[*i].bytes;
        if bytes >= BATCH_BYTES || at + 1 == order.len() {
            batches.push(start..at + 1);
            (start, bytes) = (at + 1, 0);
        }
    }
    batches
}
