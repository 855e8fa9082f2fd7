//! Fuzzes the decoders: damaged pictures and sounds, and random SVG.
//!
//! Usage: `fuzz_media <picture|sound|svg> SECONDS [SEED]`. Every input is probed and decoded, and both must agree.

#[path = "../tests/files/mod.rs"]
mod files;

use std::error::Error;

use files::{FILES, file};
use media::{Decoder, Kind};
use test_support::fuzz::{self, Arguments, Findings, Random};
use test_support::media::{gif, png, svg, wav};

const WORDS: &[&str] =
    &["IDAT", "IHDR", "tRNS", "PLTE", "fdAT", "VP8X", "ALPH", "ANMF", "data", "fmt ", "\u{1}vorbis", "LIST"];
const ELEMENTS: &[&str] = &[
    "g",
    "path",
    "rect",
    "circle",
    "use",
    "defs",
    "clipPath",
    "mask",
    "pattern",
    "marker",
    "symbol",
    "svg",
    "switch",
    "linearGradient",
    "radialGradient",
    "stop",
    "polygon",
    "style",
    "a",
    "filter",
    "text",
    "image",
];
const ATTRIBUTES: &[&str] = &[
    "id='a'",
    "id='b'",
    "id='c'",
    "href='#a'",
    "href='#b'",
    "fill='url(#a)'",
    "fill='url(#b)'",
    "mask='url(#c)'",
    "clip-path='url(#a)'",
    "marker-mid='url(#b)'",
    "d='M0 0h9v9a5 5 0 1 1 9 1z'",
    "d='M1e30 1e-30L-1e38 9'",
    "transform='scale(1e9)'",
    "transform='rotate(7) skewX(89.9)'",
    "opacity='.5'",
    "width='9'",
    "height='1e9'",
    "r='1e20'",
    "stroke='red'",
    "stroke-width='1e5'",
    "stroke-dasharray='1e-9 1'",
    "viewBox='0 0 1e-9 1e9'",
    "x='-9'",
    "patternUnits='userSpaceOnUse'",
    "maskUnits='userSpaceOnUse'",
    "style='mix-blend-mode:hue;isolation:isolate'",
    "points='0,0 9,9 0,9'",
    "offset='.5'",
    "spreadMethod='repeat'",
    "class='k'",
    "preserveAspectRatio='none'",
];

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: fuzz_media <picture|sound|svg> SECONDS [SEED]";
    let arguments = Arguments::read(usage)?;
    let next: fn(&mut Random) -> Vec<u8> = match arguments.target.as_str() {
        "picture" => |random| damaged(random, true),
        "sound" => |random| damaged(random, false),
        "svg" => random_svg,
        _ => return Err(usage.into()),
    };
    let decoder = Decoder::default();
    // The decoders' panics become errors.
    fuzz::run(&arguments, Findings::Uncaught, next, |bytes, _| {
        let probed = decoder.probe(bytes);
        let is_decoded = match &probed {
            Ok((kind, _)) if kind.is_picture() => decoder.picture(bytes, 48).map(drop),
            Ok(_) => decoder.sound(bytes).map(drop),
            Err(_) => return false,
        };
        // Only while it is painted may an SVG turn out to have too many layers.
        assert!(is_decoded.is_ok() || Kind::of(bytes) == Some(Kind::Svg), "{is_decoded:?}");
        true
    })
}

fn damaged(random: &mut Random, is_picture: bool) -> Vec<u8> {
    let names: Vec<&str> = FILES
        .into_iter()
        .filter(|name| Kind::of(file(name)).is_some_and(|kind| kind.is_picture() == is_picture))
        .collect();
    let mut bytes = match (random.below(3), is_picture) {
        (0, true) => png(9, 5, 1 + random.below(4), &[90; 180]),
        (1, true) => gif(9, 4, [[0; 3], [200; 3]]),
        (0, false) => wav(8000, 1 + random.below(3) as u16, &[77; 600]),
        _ => file(random.pick(&names)).to_vec(),
    };
    random.damage(&mut bytes, WORDS);
    bytes
}

fn random_svg(random: &mut Random) -> Vec<u8> {
    let mut content = String::new();
    let mut open = Vec::new();
    for _ in 0..2 + random.below(60) {
        let element = random.pick(ELEMENTS);
        let attributes: Vec<&str> = (0..random.below(6)).map(|_| random.pick(ATTRIBUTES)).collect();
        let name = |attribute: &&str| attribute.split('=').next().unwrap_or_default().to_owned();
        let mut unique: Vec<&str> = Vec::new();
        for attribute in attributes {
            if unique.iter().all(|other| name(other) != name(&attribute)) {
                unique.push(attribute);
            }
        }
        content = format!("{content}<{element} {}>", unique.join(" "));
        open.push(element);
        for _ in 0..random.below(3) {
            if let Some(element) = open.pop() {
                content = format!("{content}</{element}>");
            }
        }
    }
    let closed: Vec<String> = open.iter().rev().map(|element| format!("</{element}>")).collect();
    let mut bytes = svg(&format!("{content}{}", closed.concat()));
    if random.one_in(4) {
        random.damage(&mut bytes, ATTRIBUTES);
    }
    bytes
}
