//! Captions of pictures and sounds: what stands beside a file, or in a table with a row for each file.

use std::collections::HashMap;
use std::sync::Arc;

use media::Kind as MediaKind;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::documents::document::MediaBytes;
use crate::documents::field::{Field, MediaField};
use crate::documents::mapping::MEDIA;
use crate::documents::rejection::{At, Reason};
use crate::formats::delimited::{self, DelimitedPiece};
use crate::formats::encoding::{self, Text};
use crate::formats::json::{self, FieldsError, JsonPiece, Records};
use crate::formats::limits::ReadError;

/// The most that captions may take in memory: those of an archive, or of a source's other files. Heuristic, not
/// measured.
const MAX_BYTES: usize = 1 << 30;
/// The memory of a caption besides its columns.
const OWN_BYTES: usize = 128;

/// The columns of a caption.
pub(crate) type Caption = Arc<Map<String, Value>>;

/// Reports a record: its place, the fault, and the details.
pub(crate) type Report<'a> = dyn FnMut(At, Reason, String) -> Result<(), Error> + 'a;

/// Returns true if a file, by its name, has the caption of the file beside it.
pub(crate) fn is_sidecar(path: &str) -> bool {
    matches!(extension(path).to_ascii_lowercase().as_str(), "txt" | "json")
}

/// Returns the kind of picture or sound that the name of a file means.
pub(crate) fn extension_kind(path: &str) -> Option<MediaKind> {
    MediaKind::of_extension(extension(path))
}

/// Returns the fields of a picture or sound: [`MEDIA`], `file`, and the columns of its caption.
pub(crate) fn fields<'n>(
    path: &str,
    bytes: &MediaBytes,
    caption: Option<&Map<String, Value>>,
    names: impl Iterator<Item = &'n str>,
) -> Vec<Option<Field>> {
    // An archive counts as a folder.
    let path = path.rsplit_once("!/").map_or(path, |(_, member)| member);
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let folder = folder.rsplit('/').next().unwrap_or_default();
    let field = |column: &str| match column {
        MEDIA => Some(Field::Media(MediaField { items: vec![Arc::clone(bytes)], is_list: false })),
        "file" => Some(Field::Value(json!({ "name": stem(name), "folder": folder, "path": path }))),
        column => caption.and_then(|caption| caption.get(column)).cloned().map(Field::Value),
    };
    names.map(field).collect()
}

fn extension(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}

/// Returns a path without its extension.
fn stem(path: &str) -> &str {
    let extension = extension(path);
    path.strip_suffix(extension).and_then(|rest| rest.strip_suffix('.')).unwrap_or(path)
}

/// Captions by the files that they belong to.
#[derive(Debug, Default)]
pub(crate) struct Captions {
    entries: HashMap<String, Entry>,
    is_table: bool,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Entry {
    captions: Vec<Caption>,
    is_used: bool,
}

impl Captions {
    /// Returns the captions of a file, in their order.
    pub fn find(&mut self, path: &str) -> Vec<Caption> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let before_dot = name.find('.').map_or(path, |dot| &path[..path.len() - name.len() + dot]);
        // WebDataset's keys end at the first dot: `0001.image.png` and `0001.txt` belong together.
        let keys = if self.is_table { [path, name, stem(name)] } else { [stem(path), before_dot, before_dot] };
        let Some(key) = keys.into_iter().find(|key| self.entries.contains_key(*key)) else { return Vec::new() };
        self.entries.get_mut(key).map_or_else(Vec::new, |entry| {
            entry.is_used = true;
            entry.captions.clone()
        })
    }

    /// Returns the number of captions that no file had.
    pub fn unused(&self) -> u64 {
        let unused = self.entries.values().filter(|entry| !entry.is_used);
        unused.map(|entry| entry.captions.len() as u64).sum()
    }

    /// Adds what stands beside the files of this name: text, as the column `text`, or an object of columns.
    pub fn add_sidecar(
        &mut self,
        path: &str,
        bytes: Vec<u8>,
        label: Option<&str>,
        report: &mut Report<'_>,
    ) -> Result<(), Error> {
        let text = match encoding::decode(bytes, label) {
            Text::Decoded(text, _) => text,
            Text::Unknown(..) | Text::Binary => {
                return report(At::File, Reason::Malformed, "a caption that is not text".to_owned());
            }
        };
        let columns = if extension(path).eq_ignore_ascii_case("json") {
            match serde_json::from_str::<Value>(&text) {
                Ok(Value::Object(columns)) => columns,
                Ok(_) => return report(At::File, Reason::Malformed, "a caption that is not a JSON object".to_owned()),
                Err(error) => {
                    return report(At::File, Reason::Malformed, format!("a caption that is not JSON: {error}"));
                }
            }
        } else {
            Map::from_iter([("text".to_owned(), text.trim().into())])
        };
        let key = stem(path);
        // Both a text and an object may stand beside a file.
        let mut all = columns;
        if let Some(Entry { captions, .. }) = self.entries.remove(key) {
            for other in captions {
                all.extend(other.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
        }
        self.add(key, all)
    }

    /// Adds the rows of a table, in which the column `key` names the file; only the columns of `names` are kept.
    pub fn add_table(
        &mut self,
        path: &str,
        bytes: Vec<u8>,
        (key, names): (&str, &[&str]),
        label: Option<&str>,
        report: &mut Report<'_>,
    ) -> Result<(), ReadError> {
        self.is_table = true;
        let max_bytes = bytes.len() as u64;
        let text = match encoding::decode(bytes, label) {
            Text::Decoded(text, _) => text.into_bytes(),
            Text::Unknown(..) | Text::Binary => {
                let message = "a table of captions that is not text".to_owned();
                return Ok(report(At::File, Reason::Malformed, message)?);
            }
        };
        let names: Vec<&str> = [key].into_iter().chain(names.iter().copied()).collect();
        match extension(path).to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" => {
                json::lines(&text[..], max_bytes, |piece| Ok(self.piece(piece, true, &names, report)?))
            }
            "json" => json::objects(&text[..], max_bytes, |piece| Ok(self.piece(piece, false, &names, report)?)),
            other => {
                let delimiter = if other == "tsv" { b'\t' } else { b',' };
                let mut places = Vec::new();
                delimited::records(&text[..], delimiter, max_bytes, |piece| match piece {
                    DelimitedPiece::Header(header) => {
                        places = names.iter().map(|name| header.iter().position(|column| column == name)).collect();
                        if places[0].is_some() { Ok(()) } else { Err(no_key(path, key, &header).into()) }
                    }
                    DelimitedPiece::Record(number, record) => {
                        let value = |place: &Option<usize>| {
                            Some(Value::from(String::from_utf8_lossy(record.get((*place)?)?).into_owned()))
                        };
                        Ok(self.row(At::Row(number), places.iter().map(value).collect(), &names, report)?)
                    }
                    DelimitedPiece::Malformed(line, message) => Ok(report(At::Line(line), Reason::Malformed, message)?),
                    DelimitedPiece::TooLong(line) => {
                        Ok(report(At::Line(line), Reason::TooLong, "no end (an unclosed quote?)".to_owned())?)
                    }
                })
            }
        }
    }

    /// Adds the objects of a piece of JSON; `by_line` if it is made of lines.
    fn piece(&mut self, piece: JsonPiece, by_line: bool, names: &[&str], report: &mut Report<'_>) -> Result<(), Error> {
        let at = |number| if by_line { At::Line(number) } else { At::Record(number) };
        let Records { first, bytes } = match piece {
            JsonPiece::Records(records) => records,
            JsonPiece::TooLong(number) => return report(at(number), Reason::TooLong, "too long".to_owned()),
            JsonPiece::NoObject(number) | JsonPiece::Unended(number) | JsonPiece::Broken(number) => {
                return report(at(number), Reason::Malformed, "expected a JSON object".to_owned());
            }
        };
        let objects: Vec<&[u8]> = if by_line { bytes.split(|byte| *byte == b'\n').collect() } else { vec![&bytes[..]] };
        for (number, object) in (first..).zip(objects).filter(|(_, object)| !object.trim_ascii().is_empty()) {
            match json::fields(object, names.iter().copied()) {
                Ok(fields) => {
                    let value = |field: Option<Field>| match field {
                        Some(Field::Value(value)) => Some(value),
                        _ => None,
                    };
                    self.row(at(number), fields.values.into_iter().map(value).collect(), names, report)?;
                }
                Err(FieldsError::Malformed(message)) => report(at(number), Reason::Malformed, message)?,
                Err(FieldsError::Value(message)) => report(at(number), Reason::WrongType, message)?,
            }
        }
        Ok(())
    }

    /// Adds a row, of which the first value names the file.
    fn row(
        &mut self,
        at: At,
        values: Vec<Option<Value>>,
        names: &[&str],
        report: &mut Report<'_>,
    ) -> Result<(), Error> {
        let mut values = names.iter().zip(values);
        let key = match values.next() {
            Some((_, Some(Value::String(key)))) if !key.is_empty() => key,
            Some((_, Some(Value::Number(key)))) => key.to_string(),
            _ => return report(at, Reason::NoColumn, format!("no `{}`, which names the file", names[0])),
        };
        let columns = values.filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
        self.add(key.strip_prefix("./").unwrap_or(&key), columns.collect())
    }

    fn add(&mut self, key: &str, columns: Map<String, Value>) -> Result<(), Error> {
        let bytes = columns.iter().map(|(name, value)| name.len() + value.to_string().len()).sum::<usize>();
        self.bytes += key.len() + bytes + OWN_BYTES;
        if self.bytes > MAX_BYTES {
            let message = format!("take more than {} MiB of memory; divide the source or the archive", MAX_BYTES >> 20);
            return Err(Error::value("captions", &message));
        }
        self.entries.entry(key.to_owned()).or_default().captions.push(Arc::new(columns));
        Ok(())
    }
}

fn no_key(path: &str, key: &str, header: &[String]) -> Error {
    let quoted: Vec<String> = header.iter().map(|name| format!("`{name}`")).collect();
    let (path, column) = (path.into(), key.to_owned());
    Error::Column { path, column, available: quoted.join(", "), keys: "`caption_key`" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], table: Option<&str>, wanted: &[(&str, &[&str])]) {
        let mut captions = Captions::default();
        for (path, text) in files {
            let bytes = text.as_bytes().to_vec();
            let mut report = |at: At, _, message: String| panic!("{path}{at}: {message}");
            match table {
                Some(key) => assert!(captions.add_table(path, bytes, (key, &["text", "n"]), None, &mut report).is_ok()),
                None => captions.add_sidecar(path, bytes, None, &mut report).unwrap(),
            }
        }
        for (path, expected) in wanted {
            let found: Vec<String> = captions.find(path).iter().map(|caption| json!(**caption).to_string()).collect();
            assert_eq!(found, *expected, "{path}");
        }
    }

    #[test]
    fn captions_beside_files_are_found() {
        let files = [("d/a.txt", " a cat\n"), ("d/a.json", "{\"n\": 1}"), ("0001.txt", "one"), ("b.TXT", "b")];
        let wanted: [(&str, &[&str]); 5] = [
            ("d/a.png", &["{\"n\":1,\"text\":\"a cat\"}"]),
            ("a.png", &[]),
            ("0001.left.png", &["{\"text\":\"one\"}"]),
            ("b.wav", &["{\"text\":\"b\"}"]),
            ("d/b.wav", &[]),
        ];
        check(&files, None, &wanted);
    }

    #[test]
    fn captions_in_tables_are_found_by_path_name_or_stem() {
        let one: &[&str] = &["{\"text\":\"one\"}"];
        let two: &[&str] = &["{\"text\":\"two\"}", "{\"text\":\"zwei\"}"];
        let wanted = [("d/a.png", one), ("b.png", two), ("c.png", &[])];
        check(&[("t.csv", "file,text\nd/a.png,one\nb,two\nb,zwei\n")], Some("file"), &wanted);
        check(&[("t.tsv", "text\tfile\none\ta.png\ntwo\t./b.png\nzwei\tb.png\n")], Some("file"), &wanted);
        let lines = concat!(
            r#"{"file": "a", "text": "one", "x": 1}"#,
            "\n\n",
            r#"{"file": "b", "text": "two"}"#,
            "\n",
            r#"{"file": "b", "text": "zwei"}"#
        );
        check(&[("t.jsonl", lines)], Some("file"), &wanted);
        let array = format!("[{}]", lines.replace("\n\n", ",").replace('\n', ","));
        check(&[("t.json", &array)], Some("file"), &wanted);
    }
}
