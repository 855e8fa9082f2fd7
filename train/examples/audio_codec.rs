//! Trains a codec on a folder of speech and measures it on every nineteenth clip, which it does not train on.
//!
//! `cargo run --release --example audio_codec -- FOLDER OUT [STEPS] [CODES_PER_PATCH]`: FOLDER has WAV files of 16-bit
//! mono sound at 16 kHz. OUT gets the states of the training, which a second call resumes from, the codec, and the
//! first held-out clips as they are heard after the codec.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use artifact::{Context, Event, Progress};
use codec::metrics::{CodeUsage, mel_distance_db};
use codec::{AudioConfig, Codec, FOLDER, SAMPLE_RATE};
use train::codec::{CodecTraining, audio_codec};

/// One of so many clips is held out. A prime, so that names with a pattern do not make them all of one kind.
const HELD_OUT: usize = 19;

/// Clips that are written as sound.
const HEARD: usize = 50;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, out, rest @ ..] = &arguments[..] else { return Err("usage: audio_codec FOLDER OUT [STEPS]".into()) };
    let (folder, out) = (Path::new(folder), Path::new(out));
    let number = |at: usize, default: u64| rest.get(at).map_or(Ok(default), |text| text.parse());

    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    let (mut train, mut held_out, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for (i, path) in paths.iter().enumerate() {
        if i % HELD_OUT == 0 {
            names.push(path.file_name().unwrap_or_default());
            held_out.push(read_wav(path)?);
        } else {
            train.push(read_wav(path)?);
        }
    }
    let config = AudioConfig { codes_per_patch: number(1, 2)? as usize, ..AudioConfig::default() };
    let steps = number(0, CodecTraining::default().steps)?;
    let training = CodecTraining { steps, micro_batches: 1, learning_rate: 2e-3, ..CodecTraining::default() };
    let mut context = Context::quiet(1);
    context.progress = Progress::new(|event| {
        if let Event::Line(line) = event {
            println!("{line}");
        }
    });
    let started = Instant::now();
    let codec = audio_codec(&config, &training, [&train, &held_out], &out.join("training"), &context)?;
    let seconds = started.elapsed().as_secs_f64();

    let (mut of_frames, mut of_sound, mut of_griffin_lim, mut codes) = (0.0, 0.0, 0.0, Vec::new());
    for (i, clip) in held_out.iter().enumerate() {
        let of_clip = codec.encode(clip)?;
        let (frames, sound) = (config.frames(clip), codec.decode(&of_clip)?);
        of_frames += mel_distance_db(&frames, &codec.decode_frames(&of_clip)?);
        of_sound += mel_distance_db(&frames, &config.frames(&sound));
        let exact = config.sound(&frames);
        of_griffin_lim += mel_distance_db(&frames, &config.frames(&exact));
        if i < HEARD {
            write_wav(&out.join(names[i]), &sound)?;
            write_wav(&out.join(format!("griffin-lim-{}", names[i].display())), &exact)?;
        }
        codes.extend(of_clip);
    }
    let usage = CodeUsage::of(&codes, codec.vocab_size());
    let clips = held_out.len() as f64;
    println!("Mel distances in dB, of the frames, of the sound, and of sound by Griffin-Lim from the exact frames:\n");
    println!(
        "| clips | steps | seconds | parameters | tokens/s | vocabulary | frames | sound | exact | used | entropy |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    println!(
        "| {} + {clips} | {steps} | {seconds:.0} | {} | {} | {} | {:.2} | {:.2} | {:.2} | {:.1} % | {:.2} bits |",
        train.len(),
        config.shape().parameters(),
        config.tokens_per_second(),
        codec.vocab_size(),
        of_frames / clips,
        of_sound / clips,
        of_griffin_lim / clips,
        100.0 * usage.used,
        usage.entropy_bits,
    );
    Codec { image: None, audio: Some(codec) }.save(&out.join(FOLDER))?;
    Ok(())
}

/// Returns the samples of a file.
fn read_wav(path: &Path) -> Result<Vec<f32>, Box<dyn Error>> {
    let bytes = fs::read(path)?;
    let expected = header(bytes.len().saturating_sub(44));
    // The sizes of the chunks may be those of a stream.
    let is_same = |range: std::ops::Range<usize>| bytes.get(range.clone()) == expected.get(range);
    if !is_same(0..4) || !is_same(8..40) {
        return Err(format!("{} is not a WAV file of 16-bit mono sound at {SAMPLE_RATE} Hz", path.display()).into());
    }
    Ok(bytes[44..].as_chunks().0.iter().map(|sample| f32::from(i16::from_le_bytes(*sample)) / 32768.0).collect())
}

fn write_wav(path: &Path, samples: &[f32]) -> std::io::Result<()> {
    let mut bytes = header(samples.len() * 2);
    bytes.extend(samples.iter().flat_map(|sample| ((sample * 32767.0) as i16).to_le_bytes()));
    fs::write(path, bytes)
}

/// Returns the header of a file with that many bytes of sound.
fn header(data_bytes: usize) -> Vec<u8> {
    let number = |value: usize| (value as u32).to_le_bytes();
    let format = [[1, 0, 1, 0], number(SAMPLE_RATE), number(SAMPLE_RATE * 2), [2, 0, 16, 0]];
    [&b"RIFF"[..], &number(data_bytes + 36), b"WAVEfmt ", &number(16), &format.concat(), b"data", &number(data_bytes)]
        .concat()
}
