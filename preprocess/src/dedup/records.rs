//! Records of a key and a document on disk, written in any order, read in that of keys.
//!
//! A file is a number of *runs*, each of [`RUN_RECORDS`] records but the last, sorted by key. A range of keys is then
//! one slice of each run, so that all files together can be read range by range, each as large as memory allows.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;

use rayon::prelude::*;

use super::Shard;
use crate::Error;

/// A key, and a document that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Record {
    pub key: u64,
    pub document: u32,
}

/// A record on disk: key and document, little-endian.
const RECORD_BYTES: usize = 12;

/// Records in a run: 3 MiB on disk, 4 in memory while it is written. Few in tests, so that they have many runs.
const RUN_RECORDS: usize = if cfg!(test) { 1 << 6 } else { 1 << 18 };

/// One key of this many is in the index of a run: fine enough to cut ranges to a few percent, coarse
/// enough that all of them together take a few megabytes.
const SAMPLED_RECORDS: usize = RUN_RECORDS >> 6;

/// Writes a file of records.
#[derive(Debug)]
pub(super) struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
    temporary: PathBuf,
    run: Vec<Record>,
}

impl Writer {
    /// Creates the file for `path` under a temporary name.
    pub fn create(path: PathBuf) -> Result<Self, Error> {
        let temporary = path.with_extension("unfinished");
        let file = File::create(&temporary).map_err(Error::io("create", &temporary))?;
        Ok(Self { file: BufWriter::with_capacity(1 << 18, file), path, temporary, run: Vec::new() })
    }

    /// Adds a record.
    pub fn push(&mut self, key: u64, document: u32) -> Result<(), Error> {
        self.run.push(Record { key, document });
        if self.run.len() == RUN_RECORDS { self.write_run() } else { Ok(()) }
    }

    fn write_run(&mut self) -> Result<(), Error> {
        self.run.sort_unstable();
        for record in self.run.drain(..) {
            let mut bytes = [0; RECORD_BYTES];
            bytes[..8].copy_from_slice(&record.key.to_le_bytes());
            bytes[8..].copy_from_slice(&record.document.to_le_bytes());
            self.file.write_all(&bytes).map_err(Error::io("write", &self.temporary))?;
        }
        Ok(())
    }

    /// Flushes the file to the disk and gives it its name.
    pub fn finish(mut self) -> Result<(), Error> {
        self.write_run()?;
        let flushed = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        flushed.map_err(Error::io("write", &self.temporary))?;
        fs::rename(&self.temporary, &self.path).map_err(Error::io("rename", &self.temporary))
    }
}

/// The files of all shards.
pub(super) struct Reader {
    files: Vec<Runs>,
}

/// A file of records, with an index.
struct Runs {
    path: PathBuf,
    records: usize,
    first: u32,
    documents: u32,
    /// Of each run, the keys of the records 0, [`SAMPLED_RECORDS`], and so on.
    samples: Vec<Vec<u64>>,
}

impl Reader {
    /// Opens the file that `path` names for each shard.
    pub fn open(shards: &[Shard], path: impl Fn(&Shard) -> PathBuf) -> Result<Self, Error> {
        let files = shards.iter().map(|shard| Runs::open(path(shard), shard)).collect::<Result<_, Error>>()?;
        Ok(Self { files })
    }

    /// Returns the ranges of keys that divide the records into parts of at most about `bytes` in memory. Equal keys are
    /// never divided: a key that many documents have, 16 bytes each, is a part of its own, however large.
    pub fn ranges(&self, bytes: u64) -> Vec<RangeInclusive<u64>> {
        let most = (bytes / size_of::<Record>() as u64).max(1);
        let total: u64 = self.files.iter().map(|file| file.records as u64).sum();
        if total <= most {
            return vec![0..=u64::MAX];
        }
        let mut samples: Vec<(u64, u64)> = self.files.iter().flat_map(Runs::weighted_samples).collect();
        samples.sort_unstable();
        let mut ranges = Vec::new();
        let (mut start, mut sum) = (0, 0);
        for (key, records) in samples {
            if sum + records > most && key > start {
                ranges.push(start..=key - 1);
                (start, sum) = (key, 0);
            }
            sum += records;
        }
        ranges.push(start..=u64::MAX);
        ranges
    }

    /// Reads all records with a key in `range`, sorted; documents are numbered over all shards.
    pub fn read(&self, range: &RangeInclusive<u64>) -> Result<Vec<Record>, Error> {
        let at_most = self.files.iter().flat_map(|file| file.slices(range)).map(|slice| slice.len()).sum();
        let mut records = Vec::with_capacity(at_most);
        for file in &self.files {
            file.read(range, &mut records)?;
        }
        records.par_sort_unstable();
        Ok(records)
    }
}

impl Runs {
    fn open(path: PathBuf, shard: &Shard) -> Result<Self, Error> {
        let mut file = File::open(&path).map_err(Error::io("open", &path))?;
        let bytes = file.metadata().map_err(Error::io("read", &path))?.len() as usize;
        if !bytes.is_multiple_of(RECORD_BYTES) {
            let problem = format!("its {bytes} bytes are no multiple of {RECORD_BYTES}");
            return Err(Error::Records { path, problem });
        }
        let records = bytes / RECORD_BYTES;
        let mut samples = Vec::new();
        for run in (0..records).step_by(RUN_RECORDS) {
            let end = (run + RUN_RECORDS).min(records);
            let mut key_at = |record: usize| {
                let mut key = [0; 8];
                file.seek(SeekFrom::Start((record * RECORD_BYTES) as u64))?;
                file.read_exact(&mut key)?;
                Ok(u64::from_le_bytes(key))
            };
            let keys = (run..end).step_by(SAMPLED_RECORDS).map(&mut key_at).collect::<Result<_, _>>();
            samples.push(keys.map_err(Error::io("read", &path))?);
        }
        Ok(Self { path, records, first: shard.first, documents: shard.documents, samples })
    }

    /// Returns the sampled keys, each with the number of records it stands for.
    fn weighted_samples(&self) -> impl Iterator<Item = (u64, u64)> {
        self.samples.iter().enumerate().flat_map(move |(run, keys)| {
            let records = (self.records - run * RUN_RECORDS).min(RUN_RECORDS);
            let weight = move |sample: usize| (records - sample * SAMPLED_RECORDS).min(SAMPLED_RECORDS) as u64;
            keys.iter().enumerate().map(move |(sample, key)| (*key, weight(sample)))
        })
    }

    /// Returns the records of each run among which those of `range` are.
    fn slices(&self, range: &RangeInclusive<u64>) -> impl Iterator<Item = Range<usize>> {
        self.samples.iter().enumerate().map(|(run, keys)| {
            let start = run * RUN_RECORDS;
            // A sample below the range may be followed by records in it; one above is followed by none.
            let from = keys.partition_point(|key| key < range.start()).saturating_sub(1) * SAMPLED_RECORDS;
            let to = keys.partition_point(|key| key <= range.end()) * SAMPLED_RECORDS;
            start + from..(start + to).min(start + RUN_RECORDS).min(self.records)
        })
    }

    fn read(&self, range: &RangeInclusive<u64>, into: &mut Vec<Record>) -> Result<(), Error> {
        let file = File::open(&self.path).map_err(Error::io("open", &self.path))?;
        let mut file = BufReader::with_capacity(1 << 18, file);
        for slice in self.slices(range).filter(|slice| !slice.is_empty()) {
            self.read_slice(&mut file, slice, range, into)?;
        }
        Ok(())
    }

    fn read_slice(
        &self,
        file: &mut BufReader<File>,
        records: Range<usize>,
        range: &RangeInclusive<u64>,
        into: &mut Vec<Record>,
    ) -> Result<(), Error> {
        file.seek(SeekFrom::Start((records.start * RECORD_BYTES) as u64)).map_err(Error::io("read", &self.path))?;
        for _ in records {
            let mut bytes = [0; RECORD_BYTES];
            file.read_exact(&mut bytes).map_err(Error::io("read", &self.path))?;
            let [key @ .., a, b, c, d] = bytes;
            let (key, document) = (u64::from_le_bytes(key), u32::from_le_bytes([a, b, c, d]));
            if document >= self.documents {
                let problem = format!("it names document {document} of {}", self.documents);
                return Err(Error::Records { path: self.path.clone(), problem });
            }
            if range.contains(&key) {
                into.push(Record { key, document: self.first + document });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    fn write(path: &Path, records: &[(u64, u32)]) {
        let mut writer = Writer::create(path.to_owned()).unwrap();
        for (key, document) in records {
            writer.push(*key, *document).unwrap();
        }
        writer.finish().unwrap();
    }

    fn shard(folder: &Path, first: u32) -> Shard {
        Shard { folder: folder.to_owned(), first, documents: 100 }
    }

    fn file(shard: &Shard) -> PathBuf {
        shard.folder.join(format!("records-{}", shard.first))
    }

    fn read_error(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let shard = shard(folder.path(), 0);
        fs::write(file(&shard), bytes).unwrap();
        let read = Reader::open(&[shard], file).and_then(|reader| reader.read(&(0..=u64::MAX)));
        read.unwrap_err().to_string().replace(&folder.path().display().to_string(), "")
    }

    #[test]
    fn damage_is_told() {
        let check = |bytes: &[u8], expected: &str| assert_eq!(read_error(bytes), expected);
        let rest = "; delete its folder and run again";
        check(&[0; 13], &format!("/records-0 is damaged: its 13 bytes are no multiple of 12{rest}"));
        check(&[100; 12], &format!("/records-0 is damaged: it names document 1684300900 of 100{rest}"));
        let missing = Reader::open(&[shard(Path::new("/nowhere"), 0)], file).map(|_| ()).unwrap_err();
        assert_eq!(missing.to_string(), "cannot open /nowhere/records-0");
    }

    #[test]
    fn an_unfinished_file_has_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        let mut writer = Writer::create(path.clone()).unwrap();
        (0..1000).for_each(|key| writer.push(key, 0).unwrap());
        drop(writer);
        assert!(!path.exists());
        write(&path, &[(1, 2)]);
        assert_eq!(fs::read(&path).unwrap(), [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        std::os::unix::fs::symlink("/dev/full", path.with_extension("unfinished")).unwrap();
        let mut writer = Writer::create(path).unwrap();
        writer.push(1, 2).unwrap();
        let error = writer.finish().unwrap_err();
        assert!(matches!(error, Error::Artifact(artifact::Error::DiskFull { .. })), "{error}");
    }

    proptest! {
        #[test]
        fn ranges_divide_all_records(
            shards in prop::collection::vec(prop::collection::vec((0_u64..3000, 0_u32..100), 0..400), 0..4),
            spread in prop::bool::ANY,
            records_in_memory in 1_u64..500,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let stretch = |key: u64| if spread { key.wrapping_mul(0x0015_0000_0000_0001) } else { key / 500 };
            let mut expected = Vec::new();
            let mut all = Vec::new();
            for (first, records) in (0..).step_by(100).zip(&shards) {
                let records: Vec<(u64, u32)> =
                    records.iter().map(|(key, document)| (stretch(*key), *document)).collect();
                write(&file(&shard(folder.path(), first)), &records);
                all.push(shard(folder.path(), first));
                expected.extend(records.iter().map(|(key, document)| Record { key: *key, document: first + document }));
            }
            expected.sort_unstable();
            let reader = Reader::open(&all, file).unwrap();
            let ranges = reader.ranges(records_in_memory * size_of::<Record>() as u64);
            let parts: Vec<Vec<Record>> = ranges.iter().map(|range| reader.read(range).unwrap()).collect();
            // In addition to the request: a sample of each run, and equal keys that cannot be divided.
            let runs: usize = shards.iter().map(|records| records.len().div_ceil(RUN_RECORDS)).sum();
            for part in &parts {
                let equal = part.chunk_by(|a, b| a.key == b.key).map(<[Record]>::len).max().unwrap_or(0);
                prop_assert!(part.len() <= records_in_memory as usize + runs * SAMPLED_RECORDS + equal);
            }
            prop_assert_eq!(parts.concat(), expected);
        }
    }
}
