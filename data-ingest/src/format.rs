//! How a file is read, told by its name.

use serde::{Deserialize, Serialize};

/// How a file becomes documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The whole file is one document: prose, Markdown, source code.
    Text,
    /// Every line is a JSON object, and one of its keys holds the document.
    Jsonl,
    /// Comma-separated values with a header; one column holds the documents.
    Csv,
    /// Tab-separated values with a header; one column holds the documents.
    Tsv,
    /// Apache Parquet; one column holds the documents.
    Parquet,
}

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// Not at all.
    Plain,
    /// gzip, one or more members.
    Gzip,
    /// Zstandard, one or more frames.
    Zstd,
}

/// Extensions of files that hold prose or mark-up.
const PROSE: &str = "txt text md markdown mdx rst adoc asciidoc org tex typ textile rtf log srt vtt";

/// Extensions of files that hold source code or data that people write by hand.
const CODE: &str = "rs py pyi ipynb js mjs cjs jsx ts mts cts tsx vue svelte html htm css scss sass less java kt kts scala \
    groovy gradle c h cc cpp cxx hh hpp hxx inl cu cuh m mm swift go cs fs fsi fsx vb dart rb php pl pm lua r jl hs lhs \
    ml mli elm ex exs erl hrl clj cljs cljc edn lisp lsp el scm rkt zig nim d v sv vhd vhdl f f90 f95 f03 f08 for pas \
    ada adb ads cob cbl asm s sol move cairo wgsl glsl hlsl vert frag comp metal sh bash zsh fish ps1 psm1 bat cmd awk \
    sed sql graphql gql proto thrift toml yaml yml json json5 jsonc xml xsd xsl svg ini cfg conf properties cmake mk \
    bzl bazel nix tf hcl dockerfile";

/// Whole names of files that hold text and have no extension.
const NAMES: &str = "README LICENSE LICENCE COPYING COPYRIGHT NOTICE AUTHORS CONTRIBUTORS CHANGELOG CHANGES HISTORY NEWS \
    TODO INSTALL Makefile GNUmakefile Dockerfile Containerfile Rakefile Gemfile Vagrantfile Jenkinsfile Justfile justfile \
    BUILD WORKSPACE";

/// Returns how a file of this name is packed, and its name without that.
pub(crate) fn packing(file_name: &str) -> (Packing, &str) {
    match file_name.rsplit_once('.') {
        Some((name, extension)) if extension.eq_ignore_ascii_case("gz") => (Packing::Gzip, name),
        Some((name, extension)) if extension.eq_ignore_ascii_case("zst") => (Packing::Zstd, name),
        _ => (Packing::Plain, file_name),
    }
}

/// Returns the format that a file's name tells, if it tells one.
pub(crate) fn of_name(file_name: &str) -> Option<Format> {
    let (_, name) = packing(file_name);
    let Some((_, extension)) = name.rsplit_once('.') else {
        return NAMES.split_whitespace().any(|known| known == name).then_some(Format::Text);
    };
    let extension = extension.to_ascii_lowercase();
    let is_in = |list: &str| list.split_whitespace().any(|known| known == extension);
    match extension.as_str() {
        "jsonl" | "ndjson" => Some(Format::Jsonl),
        "csv" => Some(Format::Csv),
        "tsv" => Some(Format::Tsv),
        "parquet" => Some(Format::Parquet),
        _ if is_in(PROSE) || is_in(CODE) => Some(Format::Text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_formats() {
        let cases = [
            ("a.txt", Some(Format::Text)),
            ("a.MD", Some(Format::Text)),
            ("lib.rs", Some(Format::Text)),
            ("a.rs.gz", Some(Format::Text)),
            ("Makefile", Some(Format::Text)),
            ("makefile.bak", None),
            ("a.jsonl", Some(Format::Jsonl)),
            ("a.ndjson.zst", Some(Format::Jsonl)),
            ("a.csv", Some(Format::Csv)),
            ("a.tsv", Some(Format::Tsv)),
            ("a.parquet", Some(Format::Parquet)),
            ("a.png", None),
            ("a", None),
            (".gz", None),
            ("", None),
        ];
        for (name, expected) in cases {
            assert_eq!(of_name(name), expected, "{name}");
        }
        assert_eq!(packing("ä.GZ"), (Packing::Gzip, "ä"));
    }
}
