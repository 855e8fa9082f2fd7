//! Codecs on disk: what is saved is loaded; hostile files are errors that name the file and the field.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use codec::{AudioCodec, AudioConfig, Autoencoder, CONFIG, Codec, ImageCodec, ImageConfig, WEIGHTS};
use serde_json::{Value, json};

fn codec() -> Codec {
    let device = Device::flex();
    let image = ImageConfig { size: 8, channels: 6, ..ImageConfig::default() };
    let pixels: Vec<u8> = (0..40 * image.values()).map(|i| (i * i % 251) as u8).collect();
    let patches: Vec<f32> = pixels.chunks(image.values()).flat_map(|pixels| image.patches(pixels)).collect();
    let image_model = Autoencoder::init(&image.shape(), &patches, 1, &device).unwrap();
    let audio = AudioConfig { channels: 6, griffin_lim_iterations: 2, ..AudioConfig::default() };
    let patches = audio.patches(&sound());
    let audio_model = Autoencoder::init(&audio.shape(), &patches, 1, &device).unwrap();
    Codec { image: Some(ImageCodec::new(image, image_model)), audio: Some(AudioCodec::new(audio, audio_model)) }
}

fn sound() -> Vec<f32> {
    (0..20_000).map(|i| (f64::from(i * i % 9973) / 9973.0 - 0.5) as f32).collect()
}

#[test]
fn a_loaded_codec_is_the_saved_one() {
    let folder = tempfile::tempdir().unwrap();
    let saved = codec();
    saved.save(folder.path()).unwrap();
    let loaded = Codec::load(folder.path(), &Device::flex()).unwrap();
    let (image, audio) = (saved.image.unwrap(), saved.audio.unwrap());
    let (loaded_image, loaded_audio) = (loaded.image.unwrap(), loaded.audio.unwrap());
    assert_eq!((image.config(), audio.config()), (loaded_image.config(), loaded_audio.config()));
    let pixels: Vec<u8> = (0..33 * 192).map(|i| (i * 7 % 256) as u8).collect();
    let codes = image.encode(&pixels).unwrap();
    assert_eq!(codes.len(), 33 * image.tokens());
    assert!(codes.iter().all(|code| (*code as usize) < image.vocab_size()));
    assert_eq!(codes, loaded_image.encode(&pixels).unwrap());
    assert_eq!(image.decode(&codes).unwrap(), loaded_image.decode(&codes).unwrap());
    // A picture's codes do not depend on the others.
    assert_eq!(codes[20 * image.tokens()..21 * image.tokens()], image.encode(&pixels[20 * 192..21 * 192]).unwrap());

    let codes = audio.encode(&sound()).unwrap();
    assert_eq!(codes.len(), audio.tokens(sound().len()));
    assert_eq!(codes, loaded_audio.encode(&sound()).unwrap());
    assert_eq!(audio.decode(&codes).unwrap(), loaded_audio.decode(&codes).unwrap());
    assert!(audio.encode(&[]).unwrap().is_empty() && audio.decode(&[]).unwrap().is_empty());
    // Saving again changes nothing, and one codec alone can be saved.
    let again = tempfile::tempdir().unwrap();
    let both = Codec { image: Some(loaded_image), audio: Some(loaded_audio) };
    both.save(again.path()).unwrap();
    for file in [CONFIG, WEIGHTS] {
        assert_eq!(fs::read(folder.path().join(file)).unwrap(), fs::read(again.path().join(file)).unwrap(), "{file}");
    }
    Codec { image: None, ..both }.save(again.path()).unwrap();
    let alone = Codec::load(again.path(), &Device::flex()).unwrap();
    assert!(alone.image.is_none() && alone.audio.is_some());
}

#[test]
fn wrong_codes_and_pixels_are_named() {
    let Codec { image: Some(image), audio: Some(audio) } = codec() else { unreachable!() };
    let check = |error: codec::Error, expected: &str| assert_eq!(error.to_string(), expected);
    check(image.encode(&[0; 191]).unwrap_err(), "191 pixel values are not whole pictures of 192 pixel values");
    check(image.decode(&[0; 5]).unwrap_err(), "5 codes are not whole pictures of 4 codes");
    let outside = "code 4375 is not below 4375, the size of the codec's vocabulary";
    check(image.decode(&[0, 1, 4375, 2]).unwrap_err(), outside);
    check(audio.decode(&[1]).unwrap_err(), "1 codes are not whole patches of sound of 2 codes");
    check(
        audio.decode(&[1, u32::MAX]).unwrap_err(),
        "code 4294967295 is not below 4375, the size of the codec's vocabulary",
    );
    assert!(image.encode(&[]).unwrap().is_empty());
}

/// Returns the whole text of the error of loading a folder.
fn error(folder: &Path) -> String {
    let error = Codec::load(folder, &Device::flex()).unwrap_err();
    let mut text = error.to_string().replace(&folder.display().to_string(), "codec");
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.extend([": ".to_owned(), error.to_string()]);
        cause = error.source();
    }
    text
}

#[test]
fn hostile_configurations_are_errors_that_name_the_field() {
    let folder = tempfile::tempdir().unwrap();
    codec().save(folder.path()).unwrap();
    let path = folder.path().join(CONFIG);
    let saved: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let check = |change: &dyn Fn(&mut Value), expected: &str| {
        let mut value = saved.clone();
        change(&mut value);
        fs::write(&path, value.to_string()).unwrap();
        assert_eq!(error(folder.path()), expected);
    };
    let unusable = |reason: &str| format!("cannot use codec/config.json: {reason}");
    check(&|v| v["version"] = json!(2), &unusable("version: 2 is not the version that this program reads, 1"));
    check(
        &|v| v["image"]["channels"] = json!(1_u64 << 40),
        &unusable("image.channels: 1099511627776 is not between 1 and 2048"),
    );
    check(&|v| v["image"]["size"] = json!(0), &unusable("image.size: 0 is not between 4 and 1024"));
    check(&|v| v["audio"]["hop_samples"] = json!(0), &unusable("audio.hop_samples: 0 is not between 2 and 512"));
    check(&|v| v["audio"]["levels"] = json!([7, 0]), &unusable("audio.levels: 0 is not between 2 and 256"));
    // Another shape than that of the weights.
    check(
        &|v| v["image"]["channels"] = json!(7),
        "codec/model.safetensors: tensor image.encoder.first.weight has the shape [6, 432], not [7, 432]",
    );
    check(
        &|v| v["image"] = Value::Null,
        "codec/model.safetensors: tensor image.decoder.blocks.0.first.bias is not one of the codec",
    );
    let text = |text: &str, expected: &str| {
        fs::write(&path, text).unwrap();
        let found = error(folder.path());
        assert!(found.contains(expected), "{found}");
    };
    text("", "EOF");
    text("{\"version\": 1, \"image\": {\"size\": -3}}", "image.size: invalid value");
    text("{\"version\": 1, \"image\": {\"sizes\": 3}}", "unknown field `sizes`");
    text(&"[".repeat(100_000), "invalid type: sequence");
    fs::remove_file(&path).unwrap();
    assert!(error(folder.path()).starts_with("cannot read codec/config.json"));
}

#[test]
fn hostile_weights_are_errors_that_name_the_tensor() {
    let folder = tempfile::tempdir().unwrap();
    codec().save(folder.path()).unwrap();
    let path = folder.path().join(WEIGHTS);
    let saved = fs::read(&path).unwrap();
    let check = |bytes: &[u8], expected: &str| {
        fs::write(&path, bytes).unwrap();
        let found = error(folder.path());
        assert!(found.starts_with(expected), "{found}");
    };
    check(&[], "codec/model.safetensors is not a whole safetensors file");
    check(&saved[..saved.len() - 4], "codec/model.safetensors is not a whole safetensors file");
    check(&[0xff; 64], "codec/model.safetensors is not a whole safetensors file");
    let mut not_finite = saved.clone();
    let end = not_finite.len();
    not_finite[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    check(&not_finite, "codec/model.safetensors: tensor image.encoder_map.weight has values that are not finite");
    let mut large = saved.clone();
    large.resize(saved.len() + (1 << 20) + 1, 0);
    check(&large, &format!("codec/model.safetensors has {} bytes, but", large.len()));
    let mut renamed = saved.clone();
    let at = renamed.windows(11).position(|name| name == b"encoder_map").unwrap();
    renamed[at] = b'E';
    check(&renamed, "codec/model.safetensors: tensor audio.encoder_map.bias is missing");
    let mut halves = saved;
    let at = halves.windows(5).position(|name| name == b"\"F32\"").unwrap();
    halves[at + 1] = b'I';
    check(&halves, "codec/model.safetensors: tensor audio.decoder.blocks.0.first.bias is I32, not F32");
}
