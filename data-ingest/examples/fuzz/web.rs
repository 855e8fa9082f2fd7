//! Random pages, and web archives of them.

use std::fmt::Write as _;

use test_support::fuzz::Random;

use crate::packed::gzip;

/// A well-formed page.
pub const PAGE: &str = "<html><head><meta charset=utf-8><title>Herons</title></head><body><nav><a \
    href=/>Home</a></nav><article><p>A heron stands in the water, still as a post, and waits for a fish to come near, \
    for a very long time.</p><table><tr><td>1<td>2</table><ul><li>a<li>b</ul><pre>code\n \
    x</pre></article></body></html>";
const TAGS: &str = "a abbr address article aside b base blockquote body br button caption center code col colgroup dd \
    details div dl dt em embed fieldset figure font footer form frame frameset h1 h2 h3 head header hr html i iframe \
    image img input ins li link main math mi annotation-xml meta nav nobr noembed noframes noscript object ol optgroup \
    option p param plaintext pre q rp rt ruby s script section select small source span strike strong style sub \
    summary sup svg path g foreignObject desc table tbody td template textarea tfoot th thead time title tr tt u ul \
    var video wbr xmp foo";
const MARKUP: &[&str] = &[
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<!DOCTYPE html>",
    "&",
    "<",
    ">",
    "\0",
    "\u{feff}",
    "ü",
    "<br><br>",
    "  \n",
    "&#x10ffff;",
    "<img src=x data-src='a.jpg 1x'>",
    "<a href='javascript:x'>",
];
const WARC_WORDS: &[&str] = &[
    "\r\n\r\n",
    "WARC/1.0\r\n",
    "Content-Length: 99999999999\r\n",
    "Content-Length: -1\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Content-Encoding: gzip\r\n",
    "Content-Encoding: deflate\r\n",
    "charset=utf-16",
    "ffffffffffffffff\r\n",
    "HTTP/1.1 200",
    ":",
    "\0",
];

/// Returns a page of tags in random order; one in `rarity` is long.
pub fn page(random: &mut Random, rarity: usize) -> Vec<u8> {
    if random.one_in(5) {
        let mut page = PAGE.into();
        random.damage(&mut page, MARKUP);
        return page;
    }
    let tags: Vec<&str> = TAGS.split_whitespace().collect();
    // Parsers have the most trouble with the same few tags repeated.
    let few: Vec<&str> = (0..=random.below(8)).map(|_| random.pick(&tags)).collect();
    let pieces = if random.one_in(rarity) { 20_000 } else { 10 + random.below(600) };
    let mut page = String::new();
    for _ in 0..pieces {
        let tag = if random.one_in(3) { random.pick(&tags) } else { random.pick(&few) };
        match random.below(10) {
            0..=2 => page.extend(["<", tag, ">"]),
            3 => {
                let (class, id) = (random.below(5), random.below(9));
                let _ =
                    write!(page, "<{tag} class='c{class} comment sidebar' style='display:none' href='#{id}' src=x>");
            }
            4..=6 => page.extend(["</", tag, ">"]),
            7 => page.push_str("some text, with commas, and a bit more of it, &amp; so &#x1F600; on. "),
            8 => page.push_str(random.pick(MARKUP)),
            _ => page.push_str(&"x ".repeat(random.below(200))),
        }
    }
    let mut page = page.into_bytes();
    if random.one_in(3) {
        random.damage(&mut page, MARKUP);
    }
    page
}

/// Returns a web archive, compressed or not.
pub fn warc(random: &mut Random) -> (&'static str, Vec<u8>) {
    let is_packed = random.one_in(3);
    let mut archive = Vec::new();
    for _ in 0..=random.below(5) {
        let kind = random.pick(&["response", "response", "response", "conversion", "request", "revisit", "é"]);
        let mut body = page(random, 500);
        let mut head = "HTTP/1.1 200 OK\r\n".to_owned();
        let media = random.pick(&[
            "text/html",
            "text/html; charset=latin1",
            "text/plain",
            "image/png",
            "text/html; charset=\"utf-16\"",
        ]);
        let _ = write!(head, "Content-Type: {media}\r\n");
        if random.one_in(4) {
            body = gzip(&body);
            let _ =
                write!(head, "Content-Encoding: {}\r\n", random.pick(&["gzip", "x-gzip", "deflate", "br", "identity"]));
        }
        if random.one_in(3) {
            let chunks: Vec<Vec<u8>> = body
                .chunks(1 + random.below(1000))
                .map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())
                .collect();
            body = [&chunks.concat()[..], b"0\r\n\r\n"].concat();
            head.push_str("Transfer-Encoding: chunked\r\n");
        }
        let block = if kind == "response" { [head.as_bytes(), b"\r\n", &body].concat() } else { body };
        let length = if random.one_in(20) { random.below(10_000) } else { block.len() };
        let media = if kind == "response" { "application/http; msgtype=response" } else { "text/plain" };
        let header = format!(
            "WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: https://example.org/\r\nContent-Type: {media}\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        let mut record = [header.as_bytes(), &block, b"\r\n\r\n"].concat();
        if random.one_in(3) {
            random.damage(&mut record, WARC_WORDS);
        }
        archive.extend(if is_packed { gzip(&record) } else { record });
    }
    if random.one_in(3) {
        random.damage(&mut archive, WARC_WORDS);
    }
    (if is_packed { "a.warc.gz" } else { "a.warc" }, archive)
}
