//! Hostile files are refused with a reason, soon, and within little memory.

mod files;

use std::time::Instant;

use files::file;
use media::Decoder;
use test_support::media::{gif, png, png_of, svg, wav, zlib};

/// Returns `bytes` with others from `at`.
fn patched(bytes: &[u8], at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

/// Returns a picture in which each of `depth` groups uses the one before `times` times.
fn nested_uses(depth: usize, times: usize) -> Vec<u8> {
    let mut content = "<defs><rect id='g0' width='1' height='1'/>".to_owned();
    for level in 1..=depth {
        let uses = format!("<use href='#g{}'/>", level - 1).repeat(times);
        content = format!("{content}<g id='g{level}'>{uses}</g>");
    }
    svg(&format!("{content}</defs><use href='#g{depth}'/>"))
}

#[test]
fn hostile_files_are_refused_with_a_reason() {
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("text", b"hello".to_vec(), "neither a picture"),
        ("an empty file", Vec::new(), "neither a picture"),
        ("an executable", b"\x7fELF\x02\x01\x01".to_vec(), "neither a picture"),
        ("PNG without a header", b"\x89PNG\r\n\x1a\n".to_vec(), "png is damaged: it has no header"),
        ("PNG of 10^18 pixels", png_of(1 << 30, 1 << 30, 2, &zlib(b"")), "png is too large: it has 1073741824 ×"),
        ("PNG of no pixels", png_of(0, 5, 2, &zlib(b"")), "png is damaged: it has no pixels"),
        ("PNG with too few rows", png_of(9, 9, 2, &zlib(&[0; 28])), "png is damaged"),
        ("PNG bomb", png_of(1, 1, 2, &zlib(&[0; 1 << 22])), "png is damaged"),
        ("PNG with a wrong checksum", patched(&png(2, 2, 1, &[7; 4]), 45, &[9]), "png is damaged"),
        ("PNG cut", png(64, 64, 3, &[7; 64 * 64 * 3])[..5000].to_vec(), "png is damaged"),
        ("JPEG cut", file("picture.jpeg")[..400].to_vec(), "jpeg is damaged"),
        ("JPEG of 2^32 pixels", jpeg_of(65535, 65535), "jpeg is too large"),
        ("WebP cut", file("lossy.webp")[..50].to_vec(), "webp is damaged"),
        ("WebP that claims 2^28 pixels", patched(file("lossless.webp"), 21, &[0xff, 0xff, 0xff, 0x0f]), "webp is"),
        ("GIF of 2^32 pixels", patched(&gif(1, 1, [[0; 3]; 2]), 6, &[0xff; 4]), "gif is too large"),
        ("GIF without a frame", [&gif(1, 1, [[0; 3]; 2])[..19], b";"].concat(), "gif is damaged"),
        ("GIF whose frame is outside", patched(&gif(1, 1, [[0; 3]; 2]), 20, &[9, 0]), "gif is damaged"),
        (
            "WAV that claims hours",
            patched(&patched(&wav(8000, 1, &[0; 9]), 4, &[0xff, 0xff, 0xff, 0x7f]), 40, &[0, 0xff, 0xff, 0x7f]),
            "wav is too large",
        ),
        ("WAV cut", wav(8000, 1, &[0; 999])[..500].to_vec(), "wav is damaged"),
        ("WAV of no rate", patched(&wav(8000, 1, &[0; 9]), 24, &[0; 4]), "wav is damaged"),
        ("FLAC cut", file("tone.flac")[..1500].to_vec(), "flac is damaged"),
        ("OGG of noise", [b"OggS", &[7; 400][..]].concat(), "ogg is damaged"),
        ("MP3 of noise", [b"ID3\x04\0\0\0\0\0\0", &[7; 400][..]].concat(), "mp3 is damaged"),
        ("SVG that is not closed", b"<svg xmlns='http://www.w3.org/2000/svg'><g>".to_vec(), "svg is damaged"),
        (
            "SVG with entities",
            [b"<!DOCTYPE svg [<!ENTITY a 'ha'>]>", &svg("")[..]].concat(),
            "svg is refused: it declares",
        ),
        ("SVG with a script", svg("<script>1</script>"), "svg is refused: it has a `script`"),
        ("SVG with a handler", svg("<g onload='1'/>"), "svg is refused: it has a program in `onload`"),
        ("SVG with a picture", svg("<image href='file:///etc/passwd'/>"), "svg is refused: it refers to another file"),
        ("SVG with a remote use", svg("<use href='http://x/y.svg#z'/>"), "svg is refused: it refers to another file"),
        ("SVG with a style", svg("<style>@import 'x.css';</style>"), "svg is refused: its style loads something"),
        ("SVG with a remote fill", svg("<g fill='url(http://x/y#z)'/>"), "svg is refused: its style loads something"),
        (
            "SVG with a style sheet",
            [b"<?xml-stylesheet href='a'?>", &svg("")[..]].concat(),
            "svg is refused: it loads a style sheet",
        ),
        ("SVG that uses itself", svg("<g id='a'><use href='#a'/></g>"), "svg is refused: an element refers to itself"),
        ("SVG of 10^9 squares", nested_uses(9, 10), "svg is refused: its references multiply"),
        ("SVG of deep groups", svg(&"<g>".repeat(9999)), "svg is"),
        (
            "SVG of closed deep groups",
            svg(&["<g>".repeat(9999), "</g>".repeat(9999)].concat()),
            "svg is refused: its el",
        ),
        ("SVG with text", svg("<text>a</text>"), "svg has text, which needs fonts"),
        ("SVG without a size", b"<svg xmlns='http://www.w3.org/2000/svg' width='0'/>".to_vec(), "svg is damaged"),
    ];
    assert!(cases.len() >= 20);
    for (what, bytes, expected) in cases {
        let begin = Instant::now();
        let error = Decoder::default().probe(&bytes).expect_err(what).to_string();
        assert!(error.starts_with(expected), "{what}: {error}");
        assert!(!error.contains("panicked") && !error.contains('\n'), "{what}: {error}");
        assert!(begin.elapsed().as_secs() < 5, "{what} takes {:?}", begin.elapsed());
    }
}

/// Returns the head of a JPEG that claims a size, with the rest of a small one.
fn jpeg_of(width: u16, height: u16) -> Vec<u8> {
    let bytes = file("picture.jpeg");
    let frame = bytes.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    patched(bytes, frame + 5, &[height.to_be_bytes(), width.to_be_bytes()].concat())
}

/// References multiply also without `use`: patterns and masks inside each other, markers at every corner.
#[test]
fn references_of_every_kind_are_counted() {
    let patterns: Vec<String> = (1..30)
        .map(|i| {
            let fill = format!("<rect width='1' height='1' fill='url(#p{})'/>", i - 1).repeat(3);
            format!("<pattern id='p{i}' width='2' height='2'>{fill}</pattern>")
        })
        .collect();
    let masks: Vec<String> = (1..30)
        .map(|i| format!("<mask id='m{i}'>{}</mask>", format!("<path mask='url(#m{})'/>", i - 1).repeat(3)))
        .collect();
    let marker = format!(
        "<marker id='k'>{}</marker><path marker-mid='url(#k)' d='M0 0{}'/>",
        "<path/>".repeat(999),
        "l1 1".repeat(999)
    );
    for content in [
        format!("{}<rect width='9' height='9' fill='url(#p29)'/>", patterns.concat()),
        format!("{}<rect width='9' height='9' mask='url(#m29)'/>", masks.concat()),
        marker,
    ] {
        let error = Decoder::default().probe(&svg(&content)).unwrap_err().to_string();
        assert!(error.starts_with("svg is refused: its references"), "{error}");
    }
    // An ordinary picture with shared parts is not.
    let shared = "<linearGradient id='l'><stop/></linearGradient><g id='a' fill='url(#l)'><path d='M0 0h9v9z'/></g>\
        <use href='#a' x='9'/>";
    Decoder::default().probe(&svg(shared)).unwrap();
}
