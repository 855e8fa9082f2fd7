//! Formats of files, recognised by their names.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A format of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The whole file is one document: prose, Markdown, source code.
    Text,
    /// A web page, one document: its text, without navigation and advertisements (see `html`).
    Html,
    /// Every line is a JSON object, and its keys are columns.
    Jsonl,
    /// JSON objects in one array, one after another, or in an array inside an object; their keys are columns. Also the
    /// shapes that pandas writes, such as an object of columns. Most `.json` files are text, so a name means this
    /// format only for a source with a key that needs rows.
    Json,
    /// Comma-separated values with a header.
    Csv,
    /// Tab-separated values with a header.
    Tsv,
    /// Apache Parquet.
    Parquet,
    /// Apache Arrow IPC, the file or the stream format.
    Arrow,
    /// A web archive (ISO 28500): every fetched page, or its text, is a document.
    Warc,
    /// Every picture or sound, recognised by its content, is a document with its caption.
    Media,
}

/// The compression of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Packing {
    /// None.
    Plain,
    /// gzip, one or more members.
    Gzip,
    /// Zstandard, one or more frames.
    Zstd,
    /// xz, one or more streams.
    Xz,
    /// bzip2, one or more streams.
    Bzip2,
}

/// The kind of a file after decompression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Documents.
    File(Format),
    /// Files.
    Archive(Archive),
    /// Captions of pictures and sounds, of which no document is made.
    Captions,
}

/// An archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Archive {
    /// ZIP.
    Zip,
    /// tar, possibly compressed as a whole.
    Tar,
}

/// Extensions of files that hold prose or mark-up.
const PROSE: &str = "txt text md markdown mdx rst adoc asciidoc org tex typ textile rtf log srt vtt";

/// Extensions of source code and hand-written data.
const CODE: &str = "rs py pyi ipynb js mjs cjs jsx ts mts cts tsx vue svelte css scss sass less java kt kts scala \
    groovy gradle c h cc cpp cxx hh hpp hxx inl cu cuh m mm swift go cs fs fsi fsx vb dart rb php pl pm lua r jl hs \
    lhs ml mli elm ex exs erl hrl clj cljs cljc edn lisp lsp el scm rkt zig nim d v sv vhd vhdl f f90 f95 f03 f08 for \
    pas ada adb ads cob cbl asm s sol move cairo wgsl glsl hlsl vert frag comp metal sh bash zsh fish ps1 psm1 bat cmd \
    awk sed sql graphql gql proto thrift toml yaml yml json json5 jsonc xml xsd xsl svg ini cfg conf properties cmake \
    mk bzl bazel nix tf hcl dockerfile";

/// Names of text files without an extension.
const NAMES: &str = "README LICENSE LICENCE COPYING COPYRIGHT NOTICE AUTHORS CONTRIBUTORS CHANGELOG CHANGES HISTORY \
    NEWS TODO INSTALL Makefile GNUmakefile Dockerfile Containerfile Rakefile Gemfile Vagrantfile Jenkinsfile Justfile \
    justfile BUILD WORKSPACE";

/// Returns the compression of a file by its name, and the name without its extension.
pub(crate) fn packing(file_name: &str) -> (Packing, Cow<'_, str>) {
    let Some((name, extension)) = file_name.rsplit_once('.') else {
        return (Packing::Plain, Cow::Borrowed(file_name));
    };
    match extension.to_ascii_lowercase().as_str() {
        "gz" => (Packing::Gzip, Cow::Borrowed(name)),
        "zst" => (Packing::Zstd, Cow::Borrowed(name)),
        "xz" => (Packing::Xz, Cow::Borrowed(name)),
        "bz2" => (Packing::Bzip2, Cow::Borrowed(name)),
        "tgz" => (Packing::Gzip, Cow::Owned(format!("{name}.tar"))),
        "tzst" => (Packing::Zstd, Cow::Owned(format!("{name}.tar"))),
        "txz" => (Packing::Xz, Cow::Owned(format!("{name}.tar"))),
        "tbz" | "tbz2" => (Packing::Bzip2, Cow::Owned(format!("{name}.tar"))),
        _ => (Packing::Plain, Cow::Borrowed(file_name)),
    }
}

/// Returns the kind of a file by its name, if it is known.
pub(crate) fn of_name(file_name: &str) -> Option<Kind> {
    let (packing, name) = packing(file_name);
    let Some((_, extension)) = name.rsplit_once('.') else {
        let is_known = NAMES.split_whitespace().any(|known| known == name);
        return is_known.then_some(Kind::File(Format::Text));
    };
    let extension = extension.to_ascii_lowercase();
    let is_in = |list: &str| list.split_whitespace().any(|known| known == extension);
    let format = match extension.as_str() {
        "zip" => return (packing == Packing::Plain).then_some(Kind::Archive(Archive::Zip)),
        "tar" => return Some(Kind::Archive(Archive::Tar)),
        "html" | "htm" | "xhtml" => Format::Html,
        "jsonl" | "ndjson" => Format::Jsonl,
        "csv" => Format::Csv,
        "tsv" => Format::Tsv,
        "parquet" => Format::Parquet,
        "arrow" | "arrows" | "feather" | "ipc" => Format::Arrow,
        "warc" | "wet" => Format::Warc,
        _ if is_in(PROSE) || is_in(CODE) => Format::Text,
        _ => return None,
    };
    Some(Kind::File(format))
}

/// Returns true if the name is that of a JSON file, possibly compressed.
pub(crate) fn is_json(file_name: &str) -> bool {
    packing(file_name).1.to_ascii_lowercase().ends_with(".json")
}

impl Format {
    /// Returns true if a file of this format is one document.
    pub(crate) fn is_one_document(self) -> bool {
        matches!(self, Self::Text | Self::Html | Self::Media)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_follow_from_names() {
        let cases = [
            ("a.txt", "plain Some(File(Text))"),
            ("a.MD", "plain Some(File(Text))"),
            ("lib.rs", "plain Some(File(Text))"),
            ("a.rs.gz", "gzip Some(File(Text))"),
            ("Makefile", "plain Some(File(Text))"),
            ("makefile.bak", "plain None"),
            ("a.HTML", "plain Some(File(Html))"),
            ("a.jsonl", "plain Some(File(Jsonl))"),
            ("a.ndjson.zst", "zstd Some(File(Jsonl))"),
            ("a.json", "plain Some(File(Text))"),
            ("a.csv.bz2", "bzip2 Some(File(Csv))"),
            ("a.tsv.xz", "xz Some(File(Tsv))"),
            ("a.parquet", "plain Some(File(Parquet))"),
            ("a.arrow", "plain Some(File(Arrow))"),
            ("a.warc.gz", "gzip Some(File(Warc))"),
            ("a.warc.wet.gz", "gzip Some(File(Warc))"),
            ("a.zip", "plain Some(Archive(Zip))"),
            ("a.zip.gz", "gzip None"),
            ("a.tar", "plain Some(Archive(Tar))"),
            ("a.tar.bz2", "bzip2 Some(Archive(Tar))"),
            ("a.TGZ", "gzip Some(Archive(Tar))"),
            ("a.tzst", "zstd Some(Archive(Tar))"),
            ("a.png", "plain None"),
            ("a", "plain None"),
            (".gz", "gzip None"),
            ("", "plain None"),
        ];
        for (name, expected) in cases {
            let packing = format!("{:?}", packing(name).0).to_lowercase();
            assert_eq!(format!("{packing} {:?}", of_name(name)), expected, "{name}");
        }
        assert_eq!(packing("ä.GZ"), (Packing::Gzip, "ä".into()));
    }
}
