//! Random inputs: well-formed files, some of them damaged.

use std::sync::Arc;

use crate::chats::chat;
use crate::columnar::{arrow_file, arrow_stream, chats, parquet, table};
use crate::input::{Input, JSON_WORDS, file};
use crate::media::media;
use crate::packed::{bzip2, gzip, tar, xz, zip, zstandard};
use crate::web::{PAGE, page, warc};
use arrow_array::{ArrayRef, Int32Array, StringArray};
use data_ingest::{BadRecordLimit, Chat, Config, Format, Html, Source};
use parquet::basic::Compression;
use test_support::fuzz::Random;

const LINES: &str = "{\"text\": \"one\", \"n\": 1}\n{\"text\": \"\\u00e4\", \"n\": null}\n{\"text\": \"three\"}\n";
const DATASET: &str = "name = \"x\"\ninclude = [\"*.md\", \"**/*.jsonl\"]\nexclude = [\"[ab]\"]\nmax_file_bytes = \
    1000\n[[source]]\nname = \"notes\"\npath = \"notes\"\nlicence = \"MIT\"\nhtml = \"all\"\nformat = \"html\"\n\
    [[source]]\npath = \"notes/*.jsonl\"\ntemplate = \"{{ a }}{% if b %} {{ b|upper }}{% endif %}\"\nid_column = \
    \"n\"\n[[source]]\nurl = \"https://example.org/a.txt\"\nchat = \"sharegpt\"\n\
    [[source]]\nhub = \"datasets/owner/name\"\nrevision = \"main\"\ninclude = [\"**/{a,b}*.parquet\"]\n";
const LOCK: &str = "version = 1\n[[source]]\nname = \"https://example.org/a.txt\"\naddress = \
    \"https://example.org/a.txt\"\nselection = \
    \"02766a8526919ea1d92370d83f5d70ec2c4c511ab8e4fb37a5c1480ae9d88a35\"\n[[source.file]]\npath = \"a.txt\"\nbytes = \
    3\nsha256 = \"02766a8526919ea1d92370d83f5d70ec2c4c511ab8e4fb37a5c1480ae9d88a35\"\netag = '\"1\"'\n";

const PACKED_WORDS: &[&str] =
    &["\0\0\0\0", "../", "PK\u{1}\u{2}", "PK\u{3}\u{4}", "PK\u{5}\u{6}", "ustar", "{", "\"", "\n", "<p>"];
const TOML_WORDS: &[&str] = &[
    "[",
    "]",
    "[[source]]\n",
    "\"",
    "\"\"\"",
    "'",
    "=",
    "\n",
    ".",
    "#",
    "{{",
    "}}",
    "{%",
    "{% for x in range(9) %}",
    "*",
    "**",
    "[!",
    "{a,",
    "\\",
    "$HOME",
    "~",
    "..",
    "/",
    "1e9",
    "-1",
    "0x",
    "nan",
    "true",
    "1979-05-27",
    "\0",
    "sha256 = ",
    "://",
];

/// The kind of inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Archive,
    Warc,
    Html,
    Chat,
    Table,
    Dataset,
    Media,
}

impl Target {
    /// Returns the target with this name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "archive" => Self::Archive,
            "warc" => Self::Warc,
            "html" => Self::Html,
            "chat" => Self::Chat,
            "table" => Self::Table,
            "dataset" => Self::Dataset,
            "media" => Self::Media,
            _ => return None,
        })
    }
}

/// A generator of inputs.
pub struct Inputs {
    target: Target,
    /// One table in each format.
    tables: Vec<(&'static str, Vec<u8>)>,
}

impl Inputs {
    /// Returns the generator of inputs for a target.
    pub fn new(target: Target) -> Self {
        Self { target, tables: tables() }
    }

    /// Returns the next input.
    pub fn next(&self, random: &mut Random) -> Input {
        match self.target {
            Target::Archive => self.archive(random),
            Target::Warc => file(warc(random), Source::default()),
            Target::Html => {
                let html = random.pick(&[Html::Main, Html::Main, Html::All]);
                file(("a.html", page(random, 20)), Source { html, ..Source::default() })
            }
            Target::Chat => chat(random),
            Target::Table => self.table(random),
            Target::Dataset => dataset(random),
            Target::Media => media(random),
        }
    }

    fn archive(&self, random: &mut Random) -> Input {
        let parquet = self.tables[0].1.clone();
        let mut members: Vec<(&str, Vec<u8>)> = vec![
            ("a.md", b"text".repeat(1 + random.below(2000))),
            ("d/b.jsonl", LINES.into()),
            ("c.html", PAGE.into()),
            ("d/e.csv", b"text,n\n\"a, b\",1\nc,2\n".to_vec()),
            ("f.warc", warc(random).1),
            ("g.zip", zip(&[("a.md", b"inside")])),
            ("h.txt.gz", gzip(b"packed twice")),
            ("i.parquet", parquet),
            ("../j.md", b"outside".to_vec()),
            ("k.md.zst", zstandard(&vec![b' '; random.below(1 << 20)])),
        ];
        members.retain(|_| random.one_in(3));
        if let Some((_, bytes)) = members.last_mut().filter(|_| random.one_in(2)) {
            random.damage(bytes, PACKED_WORDS);
        }
        let members: Vec<(&str, &[u8])> = members.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
        let mut packed_tar = tar(&members);
        if random.one_in(2) {
            damage_header(random, &mut packed_tar);
        }
        let text = b"some text to pack\n".repeat(1 + random.below(5000));
        let (name, mut bytes) = match random.below(12) {
            0..=3 => ("a.zip", zip(&members)),
            4..=6 => ("a.tar", packed_tar),
            7 => ("a.tgz", gzip(&packed_tar)),
            8 => ("a.tar.zst", zstandard(&packed_tar)),
            9 => ("a.txz", xz(&packed_tar)),
            10 => ("a.tar.bz2", bzip2(&packed_tar)),
            _ => {
                let (name, pack) = random.pick(PACKINGS);
                (name, pack(&text))
            }
        };
        if !random.one_in(4) {
            random.damage(&mut bytes, PACKED_WORDS);
        }
        file((name, bytes), Source::default())
    }

    fn table(&self, random: &mut Random) -> Input {
        let (name, mut bytes) = self.tables[random.below(self.tables.len())].clone();
        let words = if name.ends_with("parquet") || name.ends_with("arrow") { PACKED_WORDS } else { JSON_WORDS };
        random.damage(&mut bytes, words);
        let some = |column: &str| Some(column.to_owned());
        let source = match random.below(4) {
            0 => Source { chat: Some(Chat::Messages), ..Source::default() },
            1 => Source { template: some("{{ n }} {{ text }}"), id_column: some("n"), ..Source::default() },
            _ => Source::default(),
        };
        let format = name.strip_suffix(".json").is_some().then_some(Format::Json);
        let json_path = (format.is_some() && random.one_in(4)).then(|| "data".to_owned());
        file((name, bytes), Source { format, json_path, ..source })
    }
}

/// Compresses a file.
type Pack = fn(&[u8]) -> Vec<u8>;
/// Compressed text files.
const PACKINGS: &[(&str, Pack)] =
    &[("a.txt.gz", gzip), ("a.txt.zst", zstandard), ("a.txt.xz", xz), ("a.txt.bz2", bzip2)];

/// Returns one table in every format.
fn tables() -> Vec<(&'static str, Vec<u8>)> {
    const ROWS: usize = 300;
    let texts = StringArray::from_iter_values((0..ROWS).map(|i| format!("text {}", i * i)));
    let turn = |role: &str, content: String| (role.to_owned(), content);
    let turns = |i| vec![turn("user", format!("What is {i}?")), turn("assistant", "A number.".to_owned())];
    let conversations: Vec<_> = (0..ROWS).map(turns).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("text", Arc::new(texts)),
        ("n", Arc::new(Int32Array::from_iter_values(0..ROWS as i32))),
        ("messages", chats(["role", "content"], &conversations)),
    ];
    let all = table(columns);
    let [packed, plain] = [(64, Compression::SNAPPY), (ROWS, Compression::UNCOMPRESSED)]
        .map(|(rows, packing)| parquet(&all, rows, packing));
    let (file, stream) = (arrow_file(&all), arrow_stream(&all));
    let rows = LINES.trim_end().replace('\n', ",");
    vec![
        ("a.parquet", packed),
        ("b.parquet", plain),
        ("a.arrow", file),
        ("a.arrows", stream),
        ("a.csv", b"text,n\n\"a, b\",1\nc,2\n".repeat(20)),
        ("a.tsv", b"n\ttext\n1\ta, b\n".repeat(20)),
        ("a.jsonl", LINES.repeat(20).into_bytes()),
        ("a.json", format!("[{rows}]").into_bytes()),
        ("wrapped.json", format!("{{\"v\": [NaN], \"data\": [{rows}], \"x\": {{\"y\": [{{}}]}}}}").into_bytes()),
        ("columns.json", br#"{"text": ["a", "b", null], "n": [1, 2, Infinity], "x": [[], {}, "\ud83d"]}"#.to_vec()),
        ("keyed.json", br#"{"text": {"0": "a", "k": "b"}, "n": {"0": 1, "k": 2}}"#.to_vec()),
        ("split.json", br#"{"columns": ["n", "text"], "index": [0, 1], "data": [[1, "a"], [2, "b"]]}"#.to_vec()),
        ("values.json", br#"{"0": {"text": "a", "n": 1}, "1": {"text": "b", "n": 2}}"#.to_vec()),
        ("wide.csv", "\u{feff}text,n\nä,1\n".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("legacy.tsv", b"n\ttext\n1\tEin sch\xf6ner Tag f\xfcr alle B\xe4ume\n".repeat(20)),
    ]
}

/// Damages a member's header in a tar archive, and corrects its checksum.
fn damage_header(random: &mut Random, bytes: &mut [u8]) {
    let start = random.below(bytes.len() / 512) * 512;
    let header = &mut bytes[start..start + 512];
    header[156] = random.pick(b"00123567LKxgSD");
    for _ in 0..random.below(4) {
        // Mostly the numeric fields, from the mode to the time.
        let at = if random.one_in(3) { random.below(512) } else { 100 + random.below(56) };
        header[at] = random.pick(b"\0\x80\xff0789 ");
    }
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn dataset(random: &mut Random) -> Input {
    let (mut written, mut lock) = (DATASET.into(), LOCK.into());
    let damaged = if random.one_in(4) { &mut lock } else { &mut written };
    random.damage(damaged, TOML_WORDS);
    // Remote sources end an offline run; without them the other sources are tested too.
    if random.one_in(2) {
        let text = String::from_utf8_lossy(&written).into_owned();
        written = text.split("[[source]]\nurl").next().unwrap_or_default().as_bytes().to_vec();
    }
    let files = vec![
        ("dataset.toml", written),
        ("dataset.lock", lock),
        ("notes/a.md", b"text".to_vec()),
        ("notes/b.jsonl", b"{\"a\": \"x\", \"b\": \"y\", \"n\": 7}\n".to_vec()),
    ];
    let config =
        Config { dataset: Some(".".to_owned()), max_bad_records: BadRecordLimit::Fraction(1.0), ..Config::default() };
    Input { files, config }
}
