//! The file of the index: a line with the runs in short, then a line for each key of their values.
//!
//! A listing reads the first line. A filter looks for the lines of its keys and parses no other; most values are those
//! of many runs, and are written once.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use artifact::file;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Listed, Source, Stamp, Summary};

/// The index's file name.
pub(super) const FILE: &str = ".index.jsonl";

/// The version of the index's layout; an index of another version is ignored.
const VERSION: u32 = 2;

/// An index whose runs are known, and whose values are still to be read.
#[derive(Default)]
pub(super) struct Index {
    /// Where the values begin.
    rest: Option<BufReader<File>>,
    /// The lines of the values, once one was asked for.
    lines: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    entries: Vec<Entry>,
}

/// A run in the index; its row is its place.
#[derive(Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) stamp: Stamp,
    pub(super) run: Summary,
}

/// The values of a key.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Column {
    key: String,
    /// The different values.
    values: Vec<Value>,
    /// Which of them each row has, counted from 1; 0 for none.
    rows: Vec<u32>,
}

impl Column {
    /// Returns the value of a row, if it has one.
    pub(super) fn value(&self, row: usize) -> Option<&Value> {
        let number = *self.rows.get(row)?;
        self.values.get((number as usize).checked_sub(1)?)
    }
}

impl Index {
    /// Opens the index of a folder of runs, and returns it with its runs; none if there is no valid one.
    pub(super) fn open(folder: &Path) -> (Self, Vec<Entry>) {
        let opened = || {
            let mut rest = BufReader::with_capacity(1 << 16, File::open(folder.join(FILE)).ok()?);
            let mut line = Vec::new();
            rest.read_until(b'\n', &mut line).ok()?;
            let head: Head = serde_json::from_slice(&line).ok()?;
            (head.version == VERSION).then(|| (Self { rest: Some(rest), lines: None }, head.entries))
        };
        opened().unwrap_or_default()
    }

    /// Returns the values of a key; none if no run has any.
    pub(super) fn column(&mut self, key: &str) -> Option<Column> {
        let begin = begin_of(key)?;
        let line = self.lines().lines().find(|line| line.starts_with(&begin))?;
        serde_json::from_str(line).ok()
    }

    /// Returns the keys of all values.
    pub(super) fn keys(&mut self) -> Vec<String> {
        #[derive(Deserialize)]
        struct Key {
            key: String,
        }
        let keys = self.lines().lines().filter_map(|line| serde_json::from_str::<Key>(line).ok());
        keys.map(|key| key.key).collect()
    }

    fn lines(&mut self) -> &str {
        let rest = &mut self.rest;
        self.lines.get_or_insert_with(|| {
            let mut text = String::new();
            // What cannot be read is as if no run had it; the next change rewrites it.
            let read = rest.take().map(|mut rest| rest.read_to_string(&mut text));
            if read.is_some_and(|read| read.is_ok()) { text } else { String::new() }
        })
    }

    /// Writes an index of `runs`, whose older values are in this one. In a store that cannot be written to, the records
    /// are read each time.
    pub(super) fn replace(&mut self, folder: &Path, runs: &[Listed]) {
        let settled: Vec<&Listed> = runs.iter().filter(|run| run.stamp.is_settled()).collect();
        let entry = |run: &&Listed| Entry { stamp: run.stamp, run: run.summary.clone() };
        let head = Head { version: VERSION, entries: settled.iter().map(entry).collect() };
        let mut columns: BTreeMap<String, Builder> = BTreeMap::new();
        for line in self.lines().lines() {
            let Ok(old) = serde_json::from_str::<Column>(line) else { continue };
            let builder = columns.entry(old.key.clone()).or_default();
            // The number of each old value among the new ones, 0 until it is needed.
            let mut numbers = vec![0; old.values.len()];
            for (row, run) in settled.iter().enumerate() {
                let Source::Indexed(old_row) = run.values else { continue };
                let number = old.rows.get(old_row).map_or(0, |number| *number as usize);
                let Some(value) = number.checked_sub(1).and_then(|at| old.values.get(at)) else { continue };
                if numbers[number - 1] == 0 {
                    numbers[number - 1] = builder.number(value);
                }
                builder.set(row, numbers[number - 1]);
            }
        }
        for (row, run) in settled.iter().enumerate() {
            let Source::Read(values) = &run.values else { continue };
            for (key, value) in values {
                let builder = columns.entry(key.clone()).or_default();
                let number = builder.number(value);
                builder.set(row, number);
            }
        }
        let write = || -> Option<()> {
            let mut text = serde_json::to_vec(&head).ok()?;
            text.push(b'\n');
            for (key, builder) in columns {
                if !builder.column.values.is_empty() {
                    serde_json::to_writer(&mut text, &Column { key, ..builder.column }).ok()?;
                    text.push(b'\n');
                }
            }
            file::write_atomically(&folder.join(FILE), &text).ok()
        };
        if write().is_some() {
            // That of versions before this one.
            let _ = fs::remove_file(folder.join(".index.json"));
        }
    }
}

/// Returns how the line of a key begins, by the order of the fields of [`Column`].
fn begin_of(key: &str) -> Option<String> {
    Some(format!("{{\"key\":{},", serde_json::to_string(key).ok()?))
}

/// A column while it is made.
#[derive(Default)]
struct Builder {
    column: Column,
    /// The number of each value, by its JSON.
    numbers: HashMap<String, u32>,
}

impl Builder {
    fn number(&mut self, value: &Value) -> u32 {
        let values = &mut self.column.values;
        *self.numbers.entry(value.to_string()).or_insert_with(|| {
            values.push(value.clone());
            values.len() as u32
        })
    }

    fn set(&mut self, row: usize, number: u32) {
        let rows = &mut self.column.rows;
        if rows.len() <= row {
            rows.resize(row + 1, 0);
        }
        rows[row] = number;
    }
}
