//! GGUF files that are damaged, or claim what cannot be true: an error that names it, and never a panic.

use std::fs;

use burn::tensor::Device;
use model::gguf::{self, Metadata, Quantization};
use model::{Family, ModelConfig, Transformer, checkpoint};

/// Returns the bytes of a small model's file.
fn small() -> Vec<u8> {
    let config = ModelConfig {
        vocab_size: 8,
        d_model: 4,
        n_layer: 1,
        n_head: 2,
        n_kv_head: 1,
        head_dim: 2,
        d_ff: 4,
        context_length: 8,
        tied_embeddings: true,
        ..ModelConfig::of(Family::Gemma3Text)
    };
    let model = Transformer::init(&config.with_published_layers(None), 1, &Device::flex());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    gguf::save(&model, &path, Quantization::F32, &Metadata::default()).unwrap();
    fs::read(path).unwrap()
}

/// Opens and loads a file of these bytes.
fn load(bytes: &[u8]) -> Result<Transformer, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    let named = |error: model::Error| error.to_string().replace(&*path.to_string_lossy(), "<file>");
    checkpoint::load(&path, &Device::flex()).map_err(named)
}

#[test]
fn no_changed_byte_panics() {
    let bytes = small();
    load(&bytes).unwrap();
    let mut errors = 0;
    for at in 0..bytes.len() {
        for change in [1, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            errors += usize::from(load(&changed).is_err());
        }
    }
    assert!(errors > 1000, "{errors} of {} changes were found", 3 * bytes.len());
}

#[test]
fn no_shorter_file_is_a_model() {
    let bytes = small();
    for len in 0..bytes.len() - 32 {
        assert!(load(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
    }
}

/// A file in the making.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn new(version: u32, tensors: u64, entries: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(version).u64(tensors).u64(entries)
    }

    fn u32(mut self, x: u32) -> Self {
        self.0.extend(x.to_le_bytes());
        self
    }

    fn u64(mut self, x: u64) -> Self {
        self.0.extend(x.to_le_bytes());
        self
    }

    fn text(mut self, text: &str) -> Self {
        self = self.u64(text.len() as u64);
        self.0.extend(text.as_bytes());
        self
    }

    fn tensor(self, name: &str, shape: &[u64], code: u32, offset: u64) -> Self {
        let mut bytes = self.text(name).u32(shape.len() as u32);
        for size in shape {
            bytes = bytes.u64(*size);
        }
        bytes.u32(code).u64(offset)
    }

    fn zeros(mut self, len: usize) -> Self {
        self.0.resize(self.0.len() + len, 0);
        self
    }
}

#[test]
fn claims_are_checked() {
    let check = |bytes: Bytes, expected: &str| {
        let error = load(&bytes.0).unwrap_err();
        let reason = error.strip_prefix("cannot use <file>: ").unwrap_or(&error);
        assert!(reason.starts_with(expected), "{error}\n{expected}");
    };
    check(Bytes::default(), "it does not begin with `GGUF`");
    check(Bytes(b"PK\x03\x04 and more".to_vec()), "it does not begin with `GGUF`");
    check(Bytes::new(1, 0, 0), "it has version 1; 2 and 3 are read");
    check(Bytes::new(3 << 24, 0, 0), "its numbers are big-endian");
    let count = "it claims 18446744073709551615 tensors at byte 16, but its length allows 0 at most";
    check(Bytes::new(3, u64::MAX, 0), count);
    check(Bytes::new(3, 0, 1 << 40).zeros(100), "it claims 1099511627776 keys at byte 24, but");
    let text = |len: u64| Bytes::new(3, 0, 1).u64(len).zeros(40);
    check(text(u64::MAX), "in a key, it claims 18446744073709551615 bytes of text at byte 32, but");
    let entry = |code: u32| Bytes::new(3, 0, 1).text("a\u{1b}key").u32(code);
    check(entry(99).zeros(8), r"key `a\u{1b}key`: has a value of the unknown type 99");
    check(entry(7).u32(2), r"key `a\u{1b}key`: has the byte 2 for true or false");
    check(entry(9).u32(9).zeros(40), r"key `a\u{1b}key`: has arrays in an array");
    check(entry(9).u32(8).u64(1 << 60).zeros(40), r"key `a\u{1b}key`: it claims 1152921504606846976 texts");
    check(entry(9).u32(4).u64(1 << 62).zeros(40), r"key `a\u{1b}key`: it claims 4611686018427387904 numbers");
    check(entry(8).u64(2).u32(0xffff_ffff), r"key `a\u{1b}key`: the text at byte");
    check(entry(10), r"key `a\u{1b}key`: the file ends");
    let twice = Bytes::new(3, 0, 2).text("key").u32(4).u32(1).text("key").u32(4).u32(1);
    check(twice, "it has the key `key` twice");
    let aligned = |alignment| Bytes::new(3, 0, 1).text("general.alignment").u32(4).u32(alignment);
    check(aligned(0), "key general.alignment: U32(0) is not a power of two");
    check(aligned(24), "key general.alignment: U32(24) is not a power of two");
    let one = |shape: &[u64], code: u32, offset: u64| Bytes::new(3, 1, 0).tensor("t", shape, code, offset).zeros(200);
    check(one(&[1; 5], 0, 0), "tensor `t`: it has 5 dimensions; 4 are the most");
    check(
        one(&[1 << 40, 1 << 40], 0, 0),
        "tensor `t`: [1099511627776, 1099511627776] of F32 at byte 0 of the data ends",
    );
    check(one(&[1 << 20], 0, 0), "tensor `t`: [1048576] of F32 at byte 0 of the data ends after the file");
    check(one(&[1], 0, u64::MAX), "tensor `t`: [1] of F32 at byte 18446744073709551615 of the data ends");
    check(one(&[1], 0, 4), "tensor `t`: it begins at byte 4 of the data, not at a multiple of 32");
    check(one(&[1], 21, 0), "tensor `t`: its number type is IQ3_S, which is not supported");
    check(one(&[1], 77, 0), "tensor `t`: its number type is number 77, which is not supported");
    check(one(&[33], 8, 0), "tensor `t`: its rows have 33 numbers, not whole blocks of 32 of Q8_0");
    let two =
        |name: &str, offset: u64| Bytes::new(3, 2, 0).tensor("a", &[16], 0, 0).tensor(name, &[1], 0, offset).zeros(200);
    check(two("b", 32), "the tensors `a` and `b` overlap");
    check(two("a", 64), "it has the tensor `a` twice");
    check(two("b", 64), "<file>: key general.architecture is missing");
}

#[test]
fn models_that_are_not_supported_are_named() {
    let check = |entries: Vec<(&str, Bytes)>, expected: &str| {
        let mut bytes = Bytes::new(3, 1, entries.len() as u64);
        for (key, value) in entries {
            bytes = bytes.text(key);
            bytes.0.extend(value.0);
        }
        let error = load(&bytes.tensor("token_embd.weight", &[2], 0, 0).zeros(100).0).unwrap_err();
        assert_eq!(error, expected);
    };
    let text = |text: &str| Bytes::default().u32(8).text(text);
    let number = |x: u32| Bytes::default().u32(4).u32(x);
    check(
        vec![("general.architecture", text("bert"))],
        "<file>: key general.architecture is bert, which is not supported; one of gpt2, llama, qwen2, qwen3, gemma2, \
         gemma3, phi3, smollm3, olmo2",
    );
    check(vec![("general.architecture", number(1))], "<file>: key general.architecture is not a text");
    check(
        vec![("general.architecture", text("llama")), ("split.count", number(2))],
        "<file>: key split.count divides the model among files; merge them with llama-gguf-split",
    );
    check(vec![("general.architecture", text("llama"))], "<file>: key llama.embedding_length is missing");
    let sizes = |heads: u32, layers: u32| {
        vec![
            ("general.architecture", text("llama")),
            ("llama.embedding_length", number(2)),
            ("llama.attention.head_count", number(heads)),
            ("llama.block_count", number(layers)),
        ]
    };
    check(sizes(0, 1), "<file>: key llama.attention.head_count is 0");
    check(sizes(1, u32::MAX), "<file>: key llama.block_count is 4294967295, more than the file's tensors");
}
