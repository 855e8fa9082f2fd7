//! Every kind of picture and sound is decoded to what it was made from, and nothing else is.

mod files;

use files::{FILES, file};
use media::{Decoder, Error, Info, Kind, Limits, Picture};
use proptest::prelude::*;
use test_support::media::{gif, png, svg, wav};

/// Returns the colour of a pixel.
fn at(picture: &Picture, x: u32, y: u32) -> [u8; 3] {
    let at = ((y * picture.width + x) * 3) as usize;
    picture.rgb[at..at + 3].try_into().unwrap()
}

#[track_caller]
fn check_near(picture: &Picture, (x, y): (u32, u32), expected: [u8; 3]) {
    let found = at(picture, x, y);
    let is_near = found.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 6);
    assert!(is_near, "{found:?} at {x}, {y}, expected {expected:?}");
}

#[test]
fn pictures_of_every_kind_have_their_pixels() {
    let (red, blue) = ([255, 0, 0], [0, 0, 255]);
    for name in ["picture.jpeg", "progressive.jpeg", "lossy.webp", "lossless.webp"] {
        let picture = Decoder::default().picture(file(name), 0).unwrap();
        assert_eq!((picture.width, picture.height), (8, 6), "{name}");
        check_near(&picture, (1, 1), red);
        check_near(&picture, (6, 4), blue);
    }
    let turned = Decoder::default().picture(file("turned.jpeg"), 0).unwrap();
    assert_eq!((turned.width, turned.height), (6, 8));
    check_near(&turned, (2, 1), red);
    check_near(&turned, (2, 6), blue);
    let pixels: Vec<u8> = (0..2 * 3 * 4).map(|i| i * 10).collect();
    let rgb = Decoder::default().picture(&png(2, 4, 3, &pixels), 0).unwrap();
    assert_eq!(rgb, Picture { width: 2, height: 4, rgb: pixels });
    let grey = Decoder::default().picture(&png(2, 1, 2, &[0, 255, 0, 0]), 0).unwrap();
    assert_eq!(grey.rgb, [0, 0, 0, 255, 255, 255]);
    let frame = Decoder::default().picture(&gif(3, 5, [red, blue]), 0).unwrap();
    assert_eq!((frame.width, frame.height, &frame.rgb[..]), (3, 5, &blue.repeat(15)[..]));
}

#[test]
fn svg_is_painted_at_the_requested_size() {
    let paint = |content: &str| Decoder::default().picture(&svg(content), 36).unwrap();
    let square = paint("<rect width='36' height='72' fill='#f00'/>");
    assert_eq!((square.width, square.height), (36, 36));
    assert_eq!((at(&square, 8, 8), at(&square, 30, 8)), ([255, 0, 0], [255, 255, 255]));
    let stroke = paint("<path d='M0 36H72' stroke='#00f' stroke-width='8'/>");
    assert_eq!((at(&stroke, 18, 18), at(&stroke, 18, 2)), ([0, 0, 255], [255, 255, 255]));
    let clipped = paint(
        "<clipPath id='c'><rect width='36' height='72'/></clipPath><g clip-path='url(#c)'><rect \
        width='72' height='72' fill='#0f0'/></g>",
    );
    assert_eq!((at(&clipped, 8, 8), at(&clipped, 30, 8)), ([0, 255, 0], [255, 255, 255]));
    let masked = paint(
        "<mask id='m' x='0' y='0' width='72' height='72' maskUnits='userSpaceOnUse'><rect width='36' \
        height='72' fill='#fff'/></mask><rect width='72' height='72' mask='url(#m)'/>",
    );
    assert_eq!((at(&masked, 8, 8), at(&masked, 30, 8)), ([0, 0, 0], [255, 255, 255]));
    let faded = paint("<g opacity='.5'><rect width='72' height='72'/><rect width='72' height='72'/></g>");
    check_near(&faded, (8, 8), [127, 127, 127]);
    let gradient = paint(
        "<linearGradient id='l'><stop stop-color='#000'/><stop offset='1' stop-color='#fff'/>\
        </linearGradient><rect width='72' height='72' fill='url(#l)'/>",
    );
    check_near(&gradient, (18, 8), [131, 131, 131]);
    let tiles = paint(
        "<pattern id='p' width='16' height='16' patternUnits='userSpaceOnUse'><rect width='8' \
        height='16' fill='#f00'/></pattern><rect width='72' height='72' fill='url(#p)'/>",
    );
    assert_eq!((at(&tiles, 1, 1), at(&tiles, 6, 1), at(&tiles, 9, 1)), ([255, 0, 0], [255, 255, 255], [255, 0, 0]));
    let wide =
        Decoder::default().picture(b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='3'/>", 30).unwrap();
    assert_eq!((wide.width, wide.height), (30, 10));
}

#[test]
fn sounds_of_every_kind_have_their_samples() {
    let tone: Vec<f32> = (0..4000).map(|i| 0.5 * (std::f32::consts::TAU * 440.0 * i as f32 / 16000.0).sin()).collect();
    let pcm: Vec<i16> = tone.iter().map(|x| (x * 32768.0).round() as i16).collect();
    let stereo: Vec<i16> = pcm.iter().flat_map(|x| [*x, 0]).collect();
    let made = [
        (wav(16000, 1, &pcm), 1.0, 1e-4),
        (wav(16000, 2, &stereo), 0.5, 1e-4),
        (file("tone.flac").to_vec(), 1.0, 1e-4),
        (file("tone.ogg").to_vec(), 1.0, 0.05),
        (file("tone.mp3").to_vec(), 1.0, 0.05),
    ];
    for (bytes, scale, tolerance) in made {
        let (kind, info) = Decoder::default().probe(&bytes).unwrap();
        let sound = Decoder::default().sound(&bytes).unwrap();
        assert_eq!(sound.sample_rate, 16000, "{kind}");
        let Info::Sound { sample_rate: 16000, seconds, .. } = info else { panic!("{info:?}") };
        assert!((seconds - sound.samples.len() as f64 / 16000.0).abs() < 1e-9, "{kind}");
        assert!((0.25..0.33).contains(&seconds), "{kind} has {seconds} s");
        // Lossy kinds may have a delay; away from the ends they are the tone at some phase.
        let lag =
            (0..1200).min_by(|a, b| error(&sound.samples, &tone, *a).total_cmp(&error(&sound.samples, &tone, *b)));
        let found: Vec<f32> = sound.samples.iter().map(|x| x / scale).collect();
        assert!(error(&found, &tone, lag.unwrap()) < tolerance, "{kind}");
    }
}

/// Returns the root mean square difference in the middle, with `found` later by `lag`.
fn error(found: &[f32], expected: &[f32], lag: usize) -> f32 {
    let pairs = found.iter().skip(1000 + lag).zip(&expected[1000..2500]);
    (pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f32>() / 1500.0).sqrt()
}

#[test]
fn limits_are_kept() {
    let decoder = Decoder::new(Limits { max_pixels: 20, max_seconds: 1 });
    assert!(decoder.probe(&png(4, 5, 1, &[0; 20])).is_ok());
    let large = decoder.probe(&png(4, 6, 1, &[0; 24])).unwrap_err();
    assert_eq!(large.to_string(), "png is too large: it has 4 × 6 pixels, and 20 pixels are allowed");
    assert!(decoder.probe(&wav(8000, 1, &[0; 8000])).is_ok());
    let long = decoder.probe(&wav(8000, 1, &vec![0; 17000])).unwrap_err();
    assert_eq!(long.to_string(), "wav is too large: it is longer than 1 seconds; cut it into pieces");
    assert_eq!(decoder.sound(&png(1, 1, 1, &[0])).unwrap_err().to_string(), "png is not a sound");
    assert_eq!(decoder.picture(&wav(8000, 1, &[0]), 1).unwrap_err().to_string(), "wav is not a picture");
    assert_eq!(decoder.probe(b"text").unwrap_err(), Error::Unknown);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever a file is cut to, or a byte of it changed to, it is decoded or refused; what is decoded has its size.
    #[test]
    fn damaged_files_are_decoded_or_refused(
        index in 0..FILES.len() + 3,
        cut in 0.0..1.0_f64,
        changes in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 0..3)
    ) {
        let mut bytes = match index.checked_sub(FILES.len()) {
            None => file(FILES[index]).to_vec(),
            Some(0) => png(7, 9, 4, &[90; 7 * 9 * 4]),
            Some(1) => gif(9, 4, [[0; 3], [200; 3]]),
            Some(_) => wav(8000, 2, &[77; 600]),
        };
        let whole = bytes.clone();
        if changes.is_empty() {
            bytes.truncate((cut * bytes.len() as f64) as usize);
        }
        for (place, byte) in changes {
            let at = (place * bytes.len() as f64) as usize;
            bytes[at] = byte;
        }
        let decoder = Decoder::default();
        match decoder.probe(&bytes) {
            Ok((kind, Info::Picture { width, height })) => {
                let picture = decoder.picture(&bytes, 0).unwrap();
                prop_assert_eq!((picture.width, picture.height), (width, height), "{}", kind);
                prop_assert_eq!(picture.rgb.len(), width as usize * height as usize * 3);
            }
            Ok((_, Info::Sound { seconds, .. })) => {
                let sound = decoder.sound(&bytes).unwrap();
                prop_assert!((seconds * f64::from(sound.sample_rate) - sound.samples.len() as f64).abs() < 0.5);
            }
            Err(error) => prop_assert!(bytes != whole && !error.to_string().contains("panicked"), "{}", error),
        }
    }
}

/// A picture that ends early is refused: nothing is filled up in its place.
#[test]
fn truncated_pictures_are_refused() {
    for name in FILES.iter().filter(|name| Kind::of(file(name)).unwrap().is_picture()) {
        let bytes = file(name);
        // A few bytes at the end are only a mark, which decoders need not read.
        for length in [bytes.len() / 2, bytes.len() * 3 / 4, bytes.len() - 12] {
            assert!(Decoder::default().probe(&bytes[..length]).is_err(), "{name} cut to {length}");
        }
    }
}
