//! The files that `fixtures/make.py` makes.

#![allow(dead_code, reason = "each test file uses a part")]

/// Their names.
pub const FILES: [&str; 8] = [
    "picture.jpeg",
    "progressive.jpeg",
    "turned.jpeg",
    "lossy.webp",
    "lossless.webp",
    "tone.flac",
    "tone.mp3",
    "tone.ogg",
];

/// Returns a file's bytes.
pub fn file(name: &str) -> &'static [u8] {
    match name {
        "picture.jpeg" => include_bytes!("../fixtures/picture.jpeg"),
        "progressive.jpeg" => include_bytes!("../fixtures/progressive.jpeg"),
        "turned.jpeg" => include_bytes!("../fixtures/turned.jpeg"),
        "lossy.webp" => include_bytes!("../fixtures/lossy.webp"),
        "lossless.webp" => include_bytes!("../fixtures/lossless.webp"),
        "tone.flac" => include_bytes!("../fixtures/tone.flac"),
        "tone.mp3" => include_bytes!("../fixtures/tone.mp3"),
        "tone.ogg" => include_bytes!("../fixtures/tone.ogg"),
        _ => panic!("{name}"),
    }
}
