//! Trains a codec on a folder of pictures and measures it on every nineteenth, which it does not train on.
//!
//! `cargo run --release --example image_codec -- FOLDER OUT [STEPS] [MICRO_BATCHES]`: FOLDER has square binary PPM
//! files (P6) of one size, such as `magick a.png -background white -flatten -resize 32x32 a.ppm` writes. OUT gets the
//! states of the training, which a second call resumes from, the codec, and `reconstructions.ppm`: rows of originals,
//! each above the row of its reconstructions.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use artifact::{Context, Event, Progress};
use codec::metrics::{CodeUsage, psnr, ssim};
use codec::{Codec, FOLDER, ImageConfig};
use train::codec::{CodecTraining, image_codec};

/// One of so many pictures is held out. A prime, so that names with a pattern do not make them all of one kind.
const HELD_OUT: usize = 19;

/// Pictures in a row of `reconstructions.ppm`.
const COLUMNS: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, out, rest @ ..] = &arguments[..] else { return Err("usage: image_codec FOLDER OUT [STEPS]".into()) };
    let (folder, out) = (Path::new(folder), Path::new(out));
    let number = |at: usize, default: u64| rest.get(at).map_or(Ok(default), |text| text.parse());

    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    let (mut size, mut train, mut held_out) = (0, Vec::new(), Vec::new());
    for (i, path) in paths.iter().enumerate() {
        let (side, pixels) = read_ppm(path)?;
        if i > 0 && side != size {
            return Err(format!("{} is {side} pixels wide, the others {size}", path.display()).into());
        }
        size = side;
        if i % HELD_OUT == 0 { &mut held_out } else { &mut train }.extend(pixels);
    }
    let config = ImageConfig { size, ..ImageConfig::default() };
    let (each, steps) = (config.values(), number(0, CodecTraining::default().steps)?);
    let training = CodecTraining { steps, micro_batches: number(1, 1)? as usize, ..CodecTraining::default() };
    let mut context = Context::quiet(1);
    context.progress = Progress::new(|event| {
        if let Event::Line(line) = event {
            println!("{line}");
        }
    });
    let started = Instant::now();
    let codec = image_codec(&config, &training, [&train, &held_out], &out.join("training"), &context)?;
    let seconds = started.elapsed().as_secs_f64();

    let codes = codec.encode(&held_out)?;
    let decoded = codec.decode(&codes)?;
    let pairs = || held_out.chunks(each).zip(decoded.chunks(each));
    let mean =
        |metric: &dyn Fn(&[u8], &[u8]) -> f64| pairs().map(|(a, b)| metric(a, b)).sum::<f64>() / pairs().count() as f64;
    let usage = CodeUsage::of(&codec.encode(&train)?, codec.vocab_size());
    println!("| pictures | steps | seconds | parameters | tokens | vocabulary | PSNR | SSIM | codes used | entropy |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
    println!(
        "| {} + {} | {steps} | {seconds:.0} | {} | {} | {} | {:.2} dB | {:.3} | {:.1} % | {:.2} bits |",
        train.len() / each,
        held_out.len() / each,
        config.shape().parameters(),
        codec.tokens(),
        codec.vocab_size(),
        mean(&psnr),
        mean(&|a, b| ssim(a, b, size)),
        100.0 * usage.used,
        usage.entropy_bits,
    );
    Codec { image: Some(codec), audio: None }.save(&out.join(FOLDER))?;
    write_grid(&out.join("reconstructions.ppm"), [&held_out, &decoded], size)
}

/// Returns the side and the pixels of a square picture.
fn read_ppm(path: &Path) -> Result<(usize, Vec<u8>), Box<dyn Error>> {
    let bytes = fs::read(path)?;
    let invalid = || format!("{} is not a square binary PPM of 8 bits", path.display());
    let mut fields = bytes.splitn(5, u8::is_ascii_whitespace);
    let mut field = || fields.next().and_then(|field| std::str::from_utf8(field).ok()).unwrap_or_default();
    let (magic, width, height, max) = (field().to_owned(), field().to_owned(), field().to_owned(), field().to_owned());
    let side: usize = width.parse().map_err(|_| invalid())?;
    let pixels = fields.next().unwrap_or_default();
    if magic != "P6" || height != width || max != "255" || Some(pixels.len()) != side.checked_pow(2).map(|n| 3 * n) {
        return Err(invalid().into());
    }
    Ok((side, pixels.to_vec()))
}

/// Writes the first pictures of each list, row by row in turn.
fn write_grid(path: &Path, lists: [&[u8]; 2], size: usize) -> Result<(), Box<dyn Error>> {
    let (row, mut pixels, mut height) = (COLUMNS * size * size * 3, Vec::new(), 0);
    for (a, b) in lists[0].chunks_exact(row).zip(lists[1].chunks_exact(row)).take(6) {
        for pictures in [a, b] {
            for y in 0..size {
                for picture in pictures.chunks_exact(size * size * 3) {
                    pixels.extend_from_slice(&picture[y * size * 3..][..size * 3]);
                }
            }
            height += size;
        }
    }
    let mut bytes = format!("P6\n{} {height}\n255\n", COLUMNS * size).into_bytes();
    bytes.extend(pixels);
    Ok(fs::write(path, bytes)?)
}
