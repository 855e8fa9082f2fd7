//! Whole trainings of small codecs, on pictures and sound made by code.

use std::path::Path;

use artifact::{Context, Digest, Event, Progress};
use codec::metrics::{CodeUsage, mel_distance_db, psnr, ssim};
use codec::{AudioCodec, AudioConfig, Codec, ImageCodec, ImageConfig, WEIGHTS};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::ThreadPoolBuilder;
use train::Error;
use train::codec::{CodecTraining, audio_codec, image_codec};

const SIZE: usize = 16;

/// The colours of the pictures.
const PALETTE: [[f32; 3]; 6] = [
    [250.0, 240.0, 230.0],
    [220.0, 40.0, 30.0],
    [30.0, 160.0, 70.0],
    [40.0, 60.0, 200.0],
    [245.0, 200.0, 40.0],
    [20.0; 3],
];

/// Returns pictures of a gradient and two rectangles.
fn pictures(seed: u64, count: usize) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut pixels = Vec::new();
    for _ in 0..count {
        let mut color = || PALETTE[rng.random_range(0..PALETTE.len())];
        let (from, to, colors) = (color(), color(), [color(), color()]);
        let mut range = || {
            let start = rng.random_range(0..SIZE - 4);
            start..rng.random_range(start + 3..SIZE)
        };
        let rectangles = [(range(), range()), (range(), range())];
        for (y, x) in (0..SIZE).flat_map(|y| (0..SIZE).map(move |x| (y, x))) {
            let inside = rectangles.iter().rposition(|(rows, columns)| rows.contains(&y) && columns.contains(&x));
            let t = x as f32 / SIZE as f32;
            let gradient = [0, 1, 2].map(|c| from[c] * (1.0 - t) + to[c] * t);
            pixels.extend(inside.map_or(gradient, |i| colors[i]).map(|value| value as u8));
        }
    }
    pixels
}

/// Returns clips of a second with two tones that rise or fall, and noise.
fn clips(seed: u64, count: usize) -> Vec<Vec<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let clip = |_| {
        let mut tone =
            || (rng.random_range(150.0..3000.0), rng.random_range(-800.0..800.0), rng.random_range(0.05..0.4));
        let tones: [(f64, f64, f64); 2] = [tone(), tone()];
        let sample = |i: usize| {
            let t = i as f64 / 16_000.0;
            let of = |(hertz, slope, loudness): (f64, f64, f64)| {
                loudness * (2.0 * std::f64::consts::PI * (hertz + slope * t / 2.0) * t).sin()
            };
            (tones.into_iter().map(of).sum::<f64>() + rng.random_range(-0.01..0.01)) as f32
        };
        (0..16_000).map(sample).collect()
    };
    (0..count).map(clip).collect()
}

fn image_config() -> ImageConfig {
    ImageConfig { size: SIZE, channels: 24, ..ImageConfig::default() }
}

fn audio_config() -> AudioConfig {
    AudioConfig { channels: 24, blocks: 1, griffin_lim_iterations: 8, ..AudioConfig::default() }
}

fn training(steps: u64) -> CodecTraining {
    CodecTraining { steps, batch_size: 8, validation_every: 10, ..CodecTraining::default() }
}

fn train_image(steps: u64, folder: &Path, context: &Context) -> Result<ImageCodec, Error> {
    let (train, validation) = (pictures(1, 400), pictures(2, 16));
    image_codec(&image_config(), &training(steps), [&train, &validation], folder, context)
}

fn train_audio(steps: u64, folder: &Path, context: &Context) -> Result<AudioCodec, Error> {
    let (train, validation) = (clips(1, 24), clips(2, 2));
    audio_codec(&audio_config(), &training(steps), [&train, &validation], folder, context)
}

fn digest(codec: &Codec) -> Digest {
    let folder = tempfile::tempdir().unwrap();
    codec.save(folder.path()).unwrap();
    Digest::of_file(&folder.path().join(WEIGHTS)).unwrap().0
}

fn of_image(image: ImageCodec) -> Digest {
    digest(&Codec { image: Some(image), audio: None })
}

fn of_audio(audio: AudioCodec) -> Digest {
    digest(&Codec { image: None, audio: Some(audio) })
}

fn stopping_at(step: u64) -> Context {
    let mut context = Context::quiet(1);
    let cancel = context.cancel.clone();
    context.progress = Progress::new(move |event| {
        if event == Event::Position(step) {
            cancel.request();
        }
    });
    context
}

#[test]
fn a_killed_training_resumes_to_the_same_bits() {
    let root = tempfile::tempdir().unwrap();
    let image = of_image(train_image(24, &root.path().join("image"), &Context::quiet(1)).unwrap());
    let audio = of_audio(train_audio(12, &root.path().join("audio"), &Context::quiet(1)).unwrap());
    for stop_at in [1, 10, 11] {
        let (folder, context) = (root.path().join(format!("image-{stop_at}")), stopping_at(stop_at));
        let error = train_image(24, &folder, &context).unwrap_err();
        assert!(matches!(error, Error::InterruptedAt { step, steps: 24 } if step == stop_at), "{error}");
        assert_eq!(of_image(train_image(24, &folder, &Context::quiet(1)).unwrap()), image, "stopped at {stop_at}");
    }
    let folder = root.path().join("audio-5");
    train_audio(12, &folder, &stopping_at(5)).unwrap_err();
    assert_eq!(of_audio(train_audio(12, &folder, &Context::quiet(1)).unwrap()), audio);
}

#[test]
fn threads_do_not_change_the_codec_or_its_codes() {
    let on = |threads: usize| {
        let run = || {
            let root = tempfile::tempdir().unwrap();
            let image = train_image(12, &root.path().join("image"), &Context::quiet(1)).unwrap();
            let audio = train_audio(6, &root.path().join("audio"), &Context::quiet(1)).unwrap();
            let codes = image.encode(&pictures(5, 40)).unwrap();
            let sound = audio.encode(&clips(5, 1)[0]).unwrap();
            let decoded = (image.decode(&codes).unwrap(), audio.decode(&sound).unwrap());
            (codes, sound, decoded, of_image(image), of_audio(audio))
        };
        ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
    };
    let one = on(1);
    assert!(one == on(2), "2 threads");
    assert!(one == on(3), "3 threads");
}

#[test]
fn pictures_are_reconstructed() {
    let root = tempfile::tempdir().unwrap();
    let (before, after) = (root.path().join("before"), root.path().join("after"));
    let quality = |codec: &ImageCodec| {
        let pictures = pictures(3, 32);
        let codes = codec.encode(&pictures).unwrap();
        let decoded = codec.decode(&codes).unwrap();
        let each = codec.config().values();
        let pairs: Vec<_> = pictures.chunks(each).zip(decoded.chunks(each)).collect();
        let mean = |metric: &dyn Fn(&[u8], &[u8]) -> f64| {
            pairs.iter().map(|(a, b)| metric(a, b)).sum::<f64>() / pairs.len() as f64
        };
        (mean(&psnr), mean(&|a, b| ssim(a, b, SIZE)), CodeUsage::of(&codes, codec.vocab_size()).entropy_bits)
    };
    let linear = quality(&train_image(1, &before, &Context::quiet(1)).unwrap());
    let trained = quality(&train_image(600, &after, &Context::quiet(1)).unwrap());
    println!("PSNR, SSIM, entropy: {linear:?} of the linear transform, {trained:?} trained");
    assert!(trained.0 > 19.0 && trained.0 > linear.0 + 1.5, "{linear:?}, {trained:?}");
    assert!(trained.1 > linear.1 + 0.02 && trained.2 > 6.0, "{linear:?}, {trained:?}");
}

#[test]
fn sound_is_reconstructed() {
    let root = tempfile::tempdir().unwrap();
    let codec = train_audio(300, root.path(), &Context::quiet(1)).unwrap();
    let clip = clips(3, 1).remove(0);
    let codes = codec.encode(&clip).unwrap();
    assert_eq!((codes.len(), codec.tokens(clip.len())), (50, 50));
    let frames = codec.config().frames(&clip);
    let distance = mel_distance_db(&frames, &codec.decode_frames(&codes).unwrap());
    let silence = mel_distance_db(&frames, &vec![1e-5_f32.ln(); frames.len()]);
    let sound = codec.decode(&codes).unwrap();
    assert_eq!(sound.len(), clip.len());
    let heard = mel_distance_db(&frames, &codec.config().frames(&sound));
    println!("mel distance: {distance:.1} dB of the frames, {heard:.1} dB of the sound, {silence:.1} dB of silence");
    assert!(distance < 6.5 && heard < 6.5, "{distance}, {heard}, {silence}");
}

/// The same steps on wgpu and on the CPU. Skipped with a message if no adapter is found.
#[test]
fn losses_on_wgpu_match_the_cpu() {
    let Ok(adapter) = model::device::describe("wgpu") else {
        println!("skipped: wgpu finds no adapter here (on Debian: apt-get install mesa-vulkan-drivers)");
        return;
    };
    println!("on {adapter}");
    let validation_loss = |device: &str| {
        let folder = tempfile::tempdir().unwrap();
        let codec = train_image(3, folder.path(), &Context { device: device.to_owned(), ..Context::quiet(1) }).unwrap();
        let metrics = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
        let lines = metrics.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let loss = lines.filter_map(|line| line["validation_loss"].as_f64()).next_back().unwrap();
        (loss, codec.encode(&pictures(5, 20)).unwrap())
    };
    let ((cpu, cpu_codes), (wgpu, wgpu_codes)) = (validation_loss("cpu"), validation_loss("wgpu"));
    // Roundings differ, so a value on the boundary of two codes may get the other one.
    assert!((cpu - wgpu).abs() < 0.02 * cpu, "{cpu} on the CPU, {wgpu} on wgpu");
    let equal = cpu_codes.iter().zip(&wgpu_codes).filter(|(a, b)| a == b).count();
    assert!(equal * 10 > cpu_codes.len() * 9, "{equal} of {} codes are equal", cpu_codes.len());
}

#[test]
fn unusable_data_and_settings_are_named() {
    let root = tempfile::tempdir().unwrap();
    let one = pictures(1, 1);
    let check = |config: &ImageConfig, training: &CodecTraining, splits: [&[u8]; 2], expected: &str| {
        let error = image_codec(config, training, splits, root.path(), &Context::quiet(1)).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    let (config, training) = (image_config(), training(4));
    let none =
        "the validation split of the codec has no pictures or sound: collect more, or raise the split's fraction";
    check(&config, &training, [&one, &[]], none);
    let part = "767 pixel values are not whole pictures of 768 pixel values";
    check(&config, &training, [&one[1..], &one], part);
    let odd = ImageConfig { patch: 5, ..config.clone() };
    check(&odd, &training, [&one, &one], "size: 16 is not a multiple of patch = 5");
    let split = CodecTraining { micro_batches: 3, ..training.clone() };
    check(&config, &split, [&one, &one], "train.micro_batches: 3 does not divide train.batch_size = 8");
    // One picture is enough.
    image_codec(&config, &training, [&one, &one], &root.path().join("one"), &Context::quiet(1)).unwrap();
}
