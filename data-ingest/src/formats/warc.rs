//! Web archives: fetched pages, or their text.
//!
//! WARC is a sequence of records, each a few header lines, an empty line, as many bytes as the header says, and two
//! empty lines (ISO 28500:2017). A `response` holds what a server answered, HTTP headers included; a `conversion` holds
//! a page's text (the WET files of Common Crawl).

use std::io::{self, BufRead, Read};

use crate::formats::http_response::{self, Body, line};

const MAX_LINES: usize = 256;

/// A record of a web archive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// A page, or its text.
    Page(Page),
    /// A record of another kind: a request, a redirect, an image.
    Other,
    /// A page that is longer than allowed.
    TooLong,
    /// A page that cannot be decoded: why.
    Corrupt(String),
}

/// A fetched page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Its address, as the archive gives it.
    pub address: String,
    /// Whether it is HTML; else it is text.
    pub is_html: bool,
    /// Its encoding, if the server declared it.
    pub charset: Option<String>,
    /// Its bytes after content decoding.
    pub bytes: Vec<u8>,
}

/// Reads records until `reader` ends or fails, numbered from 1; no page is longer than `max_bytes`.
pub(crate) fn records<E: From<io::Error>>(
    mut reader: impl BufRead,
    max_bytes: u64,
    mut emit: impl FnMut(u64, Record) -> Result<(), E>,
) -> Result<(), E> {
    for number in 1.. {
        let Some(header) = Header::read(&mut reader)? else { break };
        let mut block = reader.by_ref().take(header.length);
        let record = match header.kind.as_str() {
            "response" => response(&header, &mut block, max_bytes)?,
            "conversion" if is_text(&header.content_type) => {
                let mut bytes = Vec::new();
                block.by_ref().take(max_bytes + 1).read_to_end(&mut bytes)?;
                let address = header.address.clone();
                let page = Page { address, is_html: false, charset: None, bytes };
                if page.bytes.len() as u64 > max_bytes { Record::TooLong } else { Record::Page(page) }
            }
            _ => Record::Other,
        };
        io::copy(&mut block, &mut io::sink())?;
        if block.limit() > 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        emit(number, record)?;
    }
    Ok(())
}

fn response(header: &Header, block: &mut impl BufRead, max_bytes: u64) -> io::Result<Record> {
    if !header.content_type.starts_with("application/http") {
        return Ok(Record::Other);
    }
    let Some(head) = http_response::head(block)? else { return Ok(Record::Other) };
    let is_html = matches!(head.media_type.as_str(), "text/html" | "application/xhtml+xml");
    if head.status != 200 || !(is_html || head.media_type == "text/plain") {
        return Ok(Record::Other);
    }
    let (address, charset) = (header.address.clone(), head.charset.clone());
    Ok(match http_response::body(block, &head, max_bytes)? {
        Body::Whole(bytes) => Record::Page(Page { address, is_html, charset, bytes }),
        Body::TooLong => Record::TooLong,
        Body::Corrupt(why) => Record::Corrupt(why),
    })
}

fn is_text(content_type: &str) -> bool {
    content_type.split(';').next().unwrap_or_default().trim() == "text/plain"
}

/// The needed part of a record's header.
#[derive(Debug, Default)]
struct Header {
    kind: String,
    address: String,
    content_type: String,
    length: u64,
}

impl Header {
    /// Reads a header; none at the end of the archive.
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        // Empty lines end the previous record.
        let version = loop {
            match line(reader)? {
                None => return Ok(None),
                Some(line) if line.is_empty() => {}
                Some(line) => break line,
            }
        };
        if !version.starts_with("WARC/") {
            return Err(wrong("a record of a web archive begins with `WARC/`"));
        }
        let mut header = Self::default();
        let mut length = None;
        for _ in 0..MAX_LINES {
            let line = line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                header.length = length.ok_or_else(|| wrong("a record of a web archive without Content-Length"))?;
                return Ok(Some(header));
            }
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "warc-type" => header.kind = value.to_ascii_lowercase(),
                "warc-target-uri" => value.trim_matches(['<', '>']).clone_into(&mut header.address),
                "content-type" => header.content_type = value.to_ascii_lowercase(),
                "content-length" => length = value.parse().ok(),
                _ => {}
            }
        }
        Err(wrong("a record of a web archive with too many header lines"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn record(headers: &str, block: &[u8]) -> Vec<u8> {
        let mut record = format!("WARC/1.1\r\n{headers}\r\nContent-Length: {}\r\n\r\n", block.len()).into_bytes();
        record.extend_from_slice(block);
        record.extend_from_slice(b"\r\n\r\n");
        record
    }

    fn response(block: &[u8]) -> Vec<u8> {
        let uri = "WARC-Target-URI: <https://example.org/a?b>";
        record(&format!("WARC-Type: response\r\n{uri}\r\nContent-Type: application/http; msgtype=response"), block)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn check(archive: &[u8], expected: Result<&[&str], &str>) {
        let mut found = Vec::new();
        let emit = |number, record: Record| {
            found.push(match record {
                Record::Page(page) => {
                    let text = String::from_utf8_lossy(&page.bytes).into_owned();
                    let kind = if page.is_html { "html" } else { "text" };
                    format!("{number} {kind} {} {:?} {text}", page.address, page.charset)
                }
                Record::Other => format!("{number} other"),
                Record::TooLong => format!("{number} too long"),
                Record::Corrupt(why) => format!("{number} {why}"),
            });
            io::Result::Ok(())
        };
        let result = records(archive, 100, emit).map_err(|e| e.to_string());
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(result.map(|()| &found[..]).as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn pages_are_read_and_other_records_reported() {
        let archive = [
            record("WARC-Type: warcinfo", b"software: x\r\n"),
            record("WARC-Type: request\r\nContent-Type: application/http", b"GET / HTTP/1.1\r\n\r\n"),
            response(b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=\"UTF-8\"\r\n\r\n<p>one"),
            response(b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n<p>gone"),
            response(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n\x89PNG"),
            response(b"HTTP/1.0 200\nContent-type: text/plain\n\ntwo\n\n"),
            response(b"no HTTP"),
            record(
                "WARC-Type: conversion\r\nWARC-Target-URI: https://example.org/c\r\nContent-Type: text/plain",
                "drei\u{df}ig".as_bytes(),
            ),
            response(&[b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n".to_vec(), vec![b'x'; 101]].concat()),
        ];
        let expected: &[&str] = &[
            "1 other",
            "2 other",
            "3 html https://example.org/a?b Some(\"utf-8\") <p>one",
            "4 other",
            "5 other",
            "6 text https://example.org/a?b None two\n\n",
            "7 other",
            "8 text https://example.org/c None drei\u{df}ig",
            "9 too long",
        ];
        check(&archive.concat(), Ok(expected));
        check(b"", Ok(&[]));
        check(b"\r\n\r\n", Ok(&[]));
    }

    #[test]
    fn http_encodings_are_decoded() {
        let head = |more: &str| format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{more}\r\n\r\n").into_bytes();
        let with = |more: &str, body: &[u8]| response(&[head(more), body.to_vec()].concat());
        let chunked = b"3\r\none\r\n4;x=y\r\n two\r\n0\r\n\r\n";
        let page = |text: &str| format!("1 text https://example.org/a?b None {text}");
        check(&with("Transfer-Encoding: chunked", chunked), Ok(&[&page("one two")]));
        check(&with("Content-Encoding: gzip", &gzip(b"packed")), Ok(&[&page("packed")]));
        // Crawlers that store the decoded body often keep the original headers.
        check(&with("Content-Encoding: gzip", b"unpacked already"), Ok(&[&page("unpacked already")]));
        check(&with("Transfer-Encoding: chunked", b"unchunked already"), Ok(&[&page("unchunked already")]));
        let both = [b"1a\r\n".to_vec(), gzip(b"packed"), b"\r\n0\r\n\r\n".to_vec()].concat();
        assert_eq!(gzip(b"packed").len(), 0x1a);
        check(&with("Transfer-Encoding: chunked\r\nContent-Encoding: x-gzip", &both), Ok(&[&page("packed")]));
        check(&with("Content-Encoding: br", b"\x0b\x02"), Ok(&["1 its Content-Encoding `br` cannot be unpacked"]));
        check(&with("Content-Encoding: gzip", &gzip(&[b'x'; 101])), Ok(&["1 too long"]));
        let cut = gzip(b"packed");
        check(&with("Content-Encoding: gzip", &cut[..20]), Ok(&["1 its gzip is damaged: unexpected end of file"]));
    }

    #[test]
    fn malformed_archives_are_errors() {
        let wrong = "a record of a web archive begins with `WARC/`";
        check(b"<html>", Err(wrong));
        check(&[record("WARC-Type: warcinfo", b"a"), b"x\r\n".to_vec()].concat(), Err(wrong));
        check(b"WARC/1.0\r\n\r\n", Err("a record of a web archive without Content-Length"));
        check(b"WARC/1.0\r\nContent-Length: -1\r\n\r\n", Err("a record of a web archive without Content-Length"));
        check(b"WARC/1.0\r\nContent-Length: 18446744073709551615\r\n\r\nx", Err("unexpected end of file"));
        check(b"WARC/1.0\r\nContent-Length: 5\r\n", Err("unexpected end of file"));
        let long = [b"WARC/1.0\r\n".to_vec(), vec![b'x'; 100_000]].concat();
        check(&long, Err("a header line that is too long"));
        let many = format!("WARC/1.0\r\n{}", "a: b\r\n".repeat(300));
        check(many.as_bytes(), Err("a record of a web archive with too many header lines"));
    }
}
