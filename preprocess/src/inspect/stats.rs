//! What a corpus is made of: lengths, languages, licences, sources, duplicates.

use std::collections::{BTreeMap, HashSet};

use artifact::{Context, Digest, Sealed};
use rayon::prelude::*;

use crate::Error;
use crate::dedup::minhash::{self, Signer};
use crate::engine::corpus;
use crate::engine::record::Body;
use crate::steps::language;

/// Documents, the first of the corpus, whose language and similarity are measured. Heuristic: about a minute.
const LOOKED_AT: u64 = 200_000;

/// What a corpus is made of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Documents.
    pub documents: u64,
    /// Their length together, in bytes.
    pub bytes: u64,
    /// Conversations among them.
    pub conversations: u64,
    /// Documents that are not UTF-8.
    pub invalid_utf8: u64,
    /// The lengths that 0, 5, 25, 50, 75, 95 and 100 per cent of the documents do not exceed, in bytes.
    pub lengths: [u64; 7],
    /// Documents and bytes by licence.
    pub licences: BTreeMap<String, (u64, u64)>,
    /// Documents and bytes by source.
    pub sources: BTreeMap<String, (u64, u64)>,
    /// How many of the documents were looked at for language and similarity.
    pub looked_at: u64,
    /// Documents and bytes by ISO 639-3 code, `none` where nothing is certain.
    pub languages: BTreeMap<String, (u64, u64)>,
    /// Documents that are equal to an earlier one.
    pub equal: u64,
    /// Documents that share a band of their `MinHash` signature with an earlier one that is not equal: about those that
    /// are similar by 70 % or more.
    pub similar: u64,
}

/// The shares of [`Stats::lengths`].
pub const SHARES: [f64; 7] = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0];

/// Returns what `corpus` is made of.
///
/// # Errors
/// When the corpus cannot be read, or a stop was asked for.
pub fn stats(corpus: &Sealed, context: &Context) -> Result<Stats, Error> {
    let mut stats = Stats::default();
    let mut lengths = Vec::new();
    let (mut digests, mut bands) = (HashSet::new(), HashSet::new());
    let signer = Signer::new(&minhash::Config::default());
    let files = corpus::files(corpus);
    context.progress.begin("looking", files.len() as u64, "files");
    for (file, name) in files.iter().enumerate() {
        let reader = corpus::Reader::open(corpus, name)?;
        for group in reader.row_groups() {
            if context.cancel.is_requested() {
                return Err(Error::Interrupted);
            }
            let rows = reader.rows(group)?;
            let left = usize::try_from(LOOKED_AT.saturating_sub(stats.documents)).unwrap_or(usize::MAX);
            let looked: Vec<Option<Look>> = rows
                .par_iter()
                .enumerate()
                .map_init(minhash::Scratch::default, |scratch, (i, row)| {
                    (i < left).then(|| Look::at(row, &signer, scratch))
                })
                .collect();
            for (row, look) in rows.iter().zip(looked) {
                stats.add(row);
                lengths.push(row.document.bytes);
                let Some(look) = look else { continue };
                stats.looked_at += 1;
                count(&mut stats.languages, look.language, row.document.bytes);
                if digests.insert(look.digest) {
                    // Every band is inserted, also where the first has been met.
                    let met = look.bands.iter().filter(|band| !bands.insert(**band)).count();
                    stats.similar += u64::from(met > 0);
                } else {
                    stats.equal += 1;
                }
            }
        }
        context.progress.position(file as u64 + 1);
    }
    lengths.sort_unstable();
    let at = |share: f64| lengths.get(((lengths.len().max(1) - 1) as f64 * share).round() as usize).copied();
    stats.lengths = SHARES.map(|share| at(share).unwrap_or(0));
    Ok(stats)
}

/// What takes time to find out of a document.
struct Look {
    digest: Digest,
    language: &'static str,
    bands: Vec<u64>,
}

impl Look {
    fn at(row: &corpus::Row, signer: &Signer, scratch: &mut minhash::Scratch) -> Self {
        let (digest, text) = match &row.content {
            corpus::Content::Body(body) => (body.digest(), body.text()),
            corpus::Content::Raw(bytes) => (Digest::of(bytes), String::from_utf8_lossy(bytes)),
        };
        let language = language::identify(&text).map_or("none", |(language, _)| language);
        Self { digest, language, bands: signer.bands(&text, scratch).unwrap_or_default() }
    }
}

impl Stats {
    fn add(&mut self, row: &corpus::Row) {
        let document = &row.document;
        self.documents += 1;
        self.bytes += document.bytes;
        self.invalid_utf8 += u64::from(document.invalid_utf8);
        self.conversations += u64::from(matches!(row.content, corpus::Content::Body(Body::Chat(_))));
        count(&mut self.licences, &document.licence, document.bytes);
        count(&mut self.sources, &document.source, document.bytes);
    }
}

fn count(counts: &mut BTreeMap<String, (u64, u64)>, name: &str, bytes: u64) {
    let (documents, sum) = match counts.get_mut(name) {
        Some(counted) => counted,
        None => counts.entry(name.to_owned()).or_default(),
    };
    *documents += 1;
    *sum += bytes;
}
