//! HTTP responses in web archives: RFC 9112, parsed leniently, since crawlers do not always comply.
//!
//! Crate httparse is not used because it rejects the status lines `HTTP/2 200` that browser-based crawlers write.

use std::io::{self, BufRead, Read};

use flate2::read::{MultiGzDecoder, ZlibDecoder};

/// The longest header line. Heuristic, not measured: about ten times what crawlers write.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// The most header lines. Heuristic, not measured: servers send about twenty.
const MAX_LINES: usize = 256;

/// The needed part of a response's head.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The status.
    pub status: u16,
    /// The media type in lower case, without parameters.
    pub media_type: String,
    /// The encoding of the text, if the server declared it.
    pub charset: Option<String>,
    /// The content encodings.
    pub content_encoding: String,
    /// Whether the body was sent in chunks.
    pub is_chunked: bool,
}

/// The body of a response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// It is longer than allowed.
    TooLong,
    /// It cannot be decompressed: why.
    Corrupt(String),
}

/// Reads the head of a response; none if it is not HTTP.
pub(crate) fn head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let Some(first) = line(reader)? else { return Ok(None) };
    let mut words = first.split_ascii_whitespace();
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/"));
    let Some(status) = words.next().and_then(|status| status.parse().ok()).filter(|_| is_http) else {
        return Ok(None);
    };
    let mut head = Head { status, ..Head::default() };
    for _ in 0..MAX_LINES {
        let Some(line) = line(reader)?.filter(|line| !line.is_empty()) else { return Ok(Some(head)) };
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim().to_ascii_lowercase();
        match name.trim().to_ascii_lowercase().as_str() {
            "content-type" => {
                let mut parts = value.split(';').map(str::trim);
                parts.next().unwrap_or_default().clone_into(&mut head.media_type);
                let charset = parts.find_map(|part| part.strip_prefix("charset="));
                head.charset = charset.map(|label| label.trim_matches(['"', '\'', ' ']).to_owned());
            }
            "content-encoding" => head.content_encoding = value,
            "transfer-encoding" => head.is_chunked = value.contains("chunked"),
            _ => {}
        }
    }
    Ok(None)
}

/// Reads the body for `head`, at most `max_bytes` long.
pub(crate) fn body(reader: &mut impl BufRead, head: &Head, max_bytes: u64) -> io::Result<Body> {
    let mut packed = Vec::new();
    // Chunks and compression add little: a body of twice the limit exceeds it when decoded, too.
    let most = max_bytes.saturating_mul(2);
    reader.by_ref().take(most.saturating_add(1)).read_to_end(&mut packed)?;
    if packed.len() as u64 > most {
        return Ok(Body::TooLong);
    }
    if head.is_chunked
        && let Some(whole) = unchunked(&packed)
    {
        packed = whole;
    }
    let mut bytes = Vec::new();
    let unpacked = match head.content_encoding.as_str() {
        "gzip" | "x-gzip" if packed.starts_with(&[0x1f, 0x8b]) => {
            MultiGzDecoder::new(&packed[..]).take(max_bytes + 1).read_to_end(&mut bytes)
        }
        // The first byte of zlib (RFC 1950) gives its window; 0x78 is the usual one.
        "deflate" if packed.starts_with(&[0x78]) => {
            ZlibDecoder::new(&packed[..]).take(max_bytes + 1).read_to_end(&mut bytes)
        }
        "" | "identity" | "gzip" | "x-gzip" | "deflate" => {
            bytes = packed;
            Ok(bytes.len())
        }
        other => {
            return Ok(Body::Corrupt(format!("its Content-Encoding `{}` cannot be unpacked", other.escape_debug())));
        }
    };
    Ok(match unpacked {
        Err(e) => Body::Corrupt(format!("its {} is damaged: {e}", head.content_encoding)),
        Ok(_) if bytes.len() as u64 > max_bytes => Body::TooLong,
        Ok(_) => Body::Whole(bytes),
    })
}

/// Joins chunks; none if the body is not chunked.
fn unchunked(body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::with_capacity(body.len());
    let mut rest = body;
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let size = std::str::from_utf8(&rest[..end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = &rest[end + 1..];
        if size == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(rest.get(..size)?);
        rest = &rest[size..];
        rest = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n"))?;
    }
}

/// Reads a header line, without its end; none at the end of the input.
pub(crate) fn line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') && line.len() as u64 == MAX_LINE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a header line that is too long"));
    }
    Ok(Some(String::from_utf8_lossy(line.trim_ascii_end()).into_owned()))
}
