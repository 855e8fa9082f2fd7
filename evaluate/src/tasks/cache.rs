//! The answers that a model has given, in a file, so that an interrupted evaluation continues.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use artifact::Digest;
use serde::{Deserialize, Serialize};

use super::scorer::{TaskRequest, TaskResponse};
use crate::Error;

/// The answers of one model.
#[derive(Debug)]
pub struct ResponseCache {
    known: HashMap<Digest, TaskResponse>,
    file: Option<File>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    request: Digest,
    #[serde(flatten)]
    response: TaskResponse,
}

impl ResponseCache {
    /// Returns a cache that lasts as long as the process.
    pub fn in_memory() -> Self {
        Self { known: HashMap::new(), file: None }
    }

    /// Opens the cache in a file, which is that of one model; lines that were cut off are ignored.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| artifact::Error::io("open the cache of answers", path, source);
        if let Some(folder) = path.parent() {
            artifact::file::create_folder(folder)?;
        }
        let mut known = HashMap::new();
        if path.is_file() {
            for line in BufReader::new(File::open(path).map_err(failed)?).split(b'\n') {
                if let Ok(Line { request, response }) = serde_json::from_slice(&line.map_err(failed)?) {
                    known.insert(request, response);
                }
            }
            end_last_line(path).map_err(failed)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
        Ok(Self { known, file: Some(file) })
    }

    /// Returns the answer to a request, if it is known.
    pub(super) fn get(&self, request: &TaskRequest) -> Option<&TaskResponse> {
        self.known.get(&request.digest())
    }

    /// Keeps an answer.
    ///
    /// # Errors
    /// On I/O errors.
    pub(super) fn put(&mut self, request: &TaskRequest, response: TaskResponse) -> Result<(), Error> {
        let line = Line { request: request.digest(), response };
        if let Some(file) = &mut self.file {
            let failed = |source| Error::Io { operation: "write to the cache of answers", source };
            let mut text = serde_json::to_vec(&line).map_err(|e| failed(e.into()))?;
            text.push(b'\n');
            file.write_all(&text).map_err(failed)?;
        }
        self.known.insert(line.request, line.response);
        Ok(())
    }
}

/// Ends the last line of a file, if it was cut off.
fn end_last_line(path: &Path) -> std::io::Result<()> {
    let bytes = fs::read(path)?;
    if bytes.last().is_some_and(|byte| *byte != b'\n') {
        OpenOptions::new().append(true).open(path)?.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_after_a_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/answers.jsonl");
        let likelihood =
            |context: &str| TaskRequest::Likelihood { context: context.to_owned(), continuation: "x".to_owned() };
        let (context, until) = ("a".to_owned(), vec!["\n".to_owned()]);
        let text = TaskRequest::Generate { context, until, max_tokens: 3, sampling: None };
        let answers = [
            (likelihood("a"), TaskResponse::Likelihood { log_likelihood: -1.25, is_greedy: true }),
            (text, TaskResponse::Text { text: "b".to_owned() }),
        ];
        let mut cache = ResponseCache::open(&path).unwrap();
        for (request, response) in &answers {
            cache.put(request, response.clone()).unwrap();
        }
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend(b"{\"request\": \"12");
        fs::write(&path, bytes).unwrap();
        let mut cache = ResponseCache::open(&path).unwrap();
        cache.put(&likelihood("b"), answers[0].1.clone()).unwrap();
        let cache = ResponseCache::open(&path).unwrap();
        for (request, response) in &answers {
            assert_eq!(cache.get(request), Some(response));
        }
        assert_eq!(cache.get(&likelihood("b")), Some(&answers[0].1));
        assert_eq!(cache.get(&likelihood("c")), None);
    }
}
