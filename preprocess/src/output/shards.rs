//! The token shards: the runs of all files, merged; and the order of their documents.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use artifact::{Context, Unsealed};
use tokenizer::Tokenizer;
use tokenizer::shard::{self, ShardTotals};

use crate::engine::documents::Documents;
use crate::engine::split::Split;
use crate::output::order::OrderWriter;
use crate::output::runs::{Head, RunReader, Tokens, write_document};
use crate::{Config, Error};

/// Runs that are open at the same time: systems allow some hundreds of files.
const MAX_OPEN_RUNS: usize = 256;

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
    let path = out.path("order.parquet");
    let mut order = OrderWriter::create(&path)?;
    for split in Split::ALL {
        let to = shard::Writer::new(out.folder(), split.name(), tokenizer, config.shard_bytes);
        // A shard has a mask for all of its documents or for none.
        written.push((split, merge_split(split, runs, to, &mut order, documents.has_chats(), context)?));
    }
    order.finish()?;
    Ok(written)
}

/// Merges the runs of one split into its shards, with loss masks if `masked`.
fn merge_split(
    split: Split,
    runs: &[PathBuf],
    mut writer: shard::Writer,
    order: &mut OrderWriter<'_>,
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
                Ok(write_document(&mut to, head.key, head.number, &head.tokens, head.text_bytes).map_err(failed)?)
            })?;
            to.flush().map_err(failed)?;
            fewer.push(path);
        }
        runs = fewer;
    }
    let mut pairs = None;
    merge_runs(&runs, context, &mut |Head {
                                         number, tokens: Tokens { ids, loss_mask, chosen }, text_bytes, ..
                                     }| {
        // The two answers of a preference are two documents of a shard.
        for _ in 0..=usize::from(chosen > 0) {
            order.push(split, number)?;
        }
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
