//! The tokenizer against Hugging Face's own, and its laws.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tokenizer::{Error, MINIMUM_VOCAB_SIZE, Pattern, SPECIAL_TOKENS, Tokenizer, TrainConfig};

/// Real text: this crate.
const TEXTS: [&str; 6] = [
    include_str!("../src/lib.rs"),
    include_str!("../src/tokenizer.rs"),
    include_str!("../src/words.rs"),
    include_str!("../src/training.rs"),
    include_str!("../src/shard/reader.rs"),
    include_str!("../src/shard/writer.rs"),
];

/// Text that is hard to cut, to merge or to decode.
const HARD: [&str; 14] = [
    "",
    " ",
    "\n\n  \n\t",
    "   three   spaces   ",
    "it's IT'S we'll WE'LL they'd",
    "1234567890 12 3.14e-10",
    "fn main() { println!(\"{:?}\", [1u8, 2]); }\r\n",
    "<|endoftext|>",
    "a<|im_start|>user\nhello<|im_end|>b <|endoftext|><|endoftext|>",
    "Ünïcödé naïve e\u{301} 日本語 한국어 עברית",
    "👩‍👩‍👧‍👦 🇪🇺 \u{1f3f4}\u{e0067}\u{e0062}",
    "\u{0}\u{1}\u{7f}\u{80}\u{ad}\u{feff}\u{fffd}\u{ffff}\u{10ffff}",
    "½ ² Ⅷ ٣ \u{2028}\u{a0}\u{3000}x",
    "====================================================================",
];

fn trained(pattern: Pattern) -> Tokenizer {
    let config = TrainConfig { vocab_size: 600, pattern, ..TrainConfig::default() };
    Tokenizer::train(&config, TEXTS.iter()).unwrap()
}

/// Hugging Face's tokenizer of the same `tokenizer.json`.
fn reference(tokenizer: &Tokenizer) -> tokenizers::Tokenizer {
    let mut reference = tokenizers::Tokenizer::from_bytes(tokenizer.to_json()).unwrap();
    reference.set_encode_special_tokens(true);
    reference
}

#[test]
fn ids_are_those_of_hugging_face() {
    for pattern in [Pattern::Qwen2, Pattern::Gpt2] {
        let tokenizer = trained(pattern);
        let reference = reference(&tokenizer);
        assert_eq!(tokenizer.vocab_size(), 600);
        let mut encoder = tokenizer.encoder();
        for text in TEXTS.iter().chain(&HARD) {
            let expected = reference.encode(*text, false).unwrap();
            assert_eq!(encoder.encode(text).unwrap(), expected.get_ids(), "{pattern:?} {text:?}");
            assert_eq!(tokenizer.decode(expected.get_ids()).unwrap(), *text, "{pattern:?}");
        }
    }
}

#[test]
fn training_is_that_of_hugging_face() {
    for pattern in [Pattern::Qwen2, Pattern::Gpt2] {
        let ours = trained(pattern);
        let mut theirs = tokenizers::Tokenizer::from_bytes(ours.to_json()).unwrap();
        let mut trainer: tokenizers::models::TrainerWrapper = tokenizers::models::bpe::BpeTrainer::builder()
            .vocab_size(600)
            .min_frequency(2)
            .show_progress(false)
            .special_tokens(SPECIAL_TOKENS.iter().map(|name| tokenizers::AddedToken::from(*name, true)).collect())
            .initial_alphabet(tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect())
            .build()
            .into();
        theirs.with_model(tokenizers::models::bpe::BPE::default());
        theirs.train(&mut trainer, TEXTS.iter()).unwrap();
        assert_eq!(theirs.to_string(true).unwrap() + "\n", ours.to_json(), "{pattern:?}");
    }
}

#[test]
fn training_depends_on_neither_threads_nor_order() {
    let train = |threads, texts: &[&str]| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let config = TrainConfig { vocab_size: 1200, ..TrainConfig::default() };
        pool.install(|| Tokenizer::train(&config, texts.iter()).unwrap()).to_json().to_owned()
    };
    let one = train(1, &TEXTS);
    let backwards: Vec<&str> = TEXTS.into_iter().rev().collect();
    assert!(one == train(2, &TEXTS) && one == train(4, &backwards));
}

#[test]
fn special_tokens_are_only_what_this_program_places() {
    let tokenizer = trained(Pattern::Qwen2);
    let ids = SPECIAL_TOKENS.map(|name| tokenizer.id(name).unwrap());
    assert_eq!((ids, tokenizer.end_of_text()), ([0, 1, 2], Some(0)));
    for text in HARD {
        assert!(tokenizer.encode(text).unwrap().iter().all(|id| !ids.contains(id)), "{text:?}");
    }
    let mut tokens = tokenizer.encode("fn ").unwrap();
    tokens.extend(ids);
    tokens.extend(tokenizer.encode("main").unwrap());
    assert_eq!(tokenizer.decode(&tokens).unwrap(), "fn main");
}

#[test]
fn a_tokenizer_read_again_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = trained(Pattern::Qwen2);
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, tokenizer.to_json()).unwrap();
    let again = Tokenizer::from_file(&path).unwrap();
    assert_eq!(again.to_json(), tokenizer.to_json());
    assert_eq!(again.digest(), tokenizer.digest());
    assert_eq!((again.vocab_size(), again.end_of_text()), (600, Some(0)));
}

#[test]
fn truncation_and_padding_of_a_given_tokenizer_do_not_apply() {
    let mut given = reference(&trained(Pattern::Qwen2));
    let truncation = tokenizers::TruncationParams { max_length: 2, ..tokenizers::TruncationParams::default() };
    given.with_truncation(Some(truncation)).unwrap().with_padding(Some(tokenizers::PaddingParams::default()));
    let tokenizer = Tokenizer::from_bytes(given.to_string(false).unwrap().as_bytes()).unwrap();
    assert_eq!(tokenizer.decode(&tokenizer.encode(TEXTS[0]).unwrap()).unwrap(), TEXTS[0]);
}

#[test]
fn a_tokenizer_that_does_not_work_on_bytes_is_understood() {
    let json = r#"{"version": "1.0", "added_tokens": [
        {"id": 3, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
         "special": true}],
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "model": {"type": "WordLevel", "vocab": {"▁one": 0, "▁two": 1, "▁?": 2}, "unk_token": "▁?"}}"#;
    let tokenizer = Tokenizer::from_bytes(json.as_bytes()).unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_text()), (4, Some(3)));
    assert_eq!(tokenizer.encode("one two three").unwrap(), [0, 1, 2]);
    assert_eq!(tokenizer.decode(&[0, 1, 3]).unwrap(), "one two");
    let mut stream = tokenizer.stream();
    let pieces: Vec<String> = [0, 1, 3, 1].map(|id| stream.push(id).unwrap()).to_vec();
    assert_eq!(pieces.concat() + &stream.finish(), "one two two");
}

#[test]
fn what_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let missing = Tokenizer::from_file(&path).unwrap_err().to_string();
    assert_eq!(missing, format!("cannot read {}", path.display()));
    fs::write(&path, "{\"model\": 3}").unwrap();
    let broken = Tokenizer::from_file(&path).unwrap_err().to_string();
    assert_eq!(broken, format!("{} is not a tokenizer.json that this version of tokenizers reads", path.display()));
    let config = TrainConfig { vocab_size: MINIMUM_VOCAB_SIZE - 1, ..TrainConfig::default() };
    let small = Tokenizer::train(&config, TEXTS.iter()).unwrap_err().to_string();
    assert_eq!(small, "a vocabulary of 258 is too small: byte-level BPE needs at least 259");
    let tokenizer = trained(Pattern::Qwen2);
    assert!(matches!(tokenizer.decode(&[600]), Err(Error::UnknownToken { id: 600, vocab_size: 600 })));
    assert!(matches!(tokenizer.stream().push(600), Err(Error::UnknownToken { .. })));
}

#[test]
fn a_text_without_pairs_trains_a_tokenizer_of_bytes() {
    let tokenizer = Tokenizer::train(&TrainConfig::default(), std::iter::empty::<&str>()).unwrap();
    assert_eq!(tokenizer.vocab_size(), MINIMUM_VOCAB_SIZE);
    assert_eq!(tokenizer.encode("né").unwrap().len(), 3);
}

#[test]
fn hugging_face_files_say_what_transformers_needs() {
    let folder = tempfile::tempdir().unwrap();
    trained(Pattern::Qwen2).write_hugging_face(folder.path(), 512).unwrap();
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(Path::new(folder.path()).join(name)).unwrap()).unwrap()
    };
    assert_eq!(read("tokenizer.json")["model"]["type"], "BPE");
    let config = read("tokenizer_config.json");
    let expected = [
        ("tokenizer_class", "PreTrainedTokenizerFast".into()),
        ("eos_token", "<|endoftext|>".into()),
        ("pad_token", "<|endoftext|>".into()),
        ("model_max_length", 512.into()),
        ("clean_up_tokenization_spaces", serde_json::Value::Bool(false)),
        ("chat_template", tokenizer::CHAT_TEMPLATE.into()),
    ];
    for (key, value) in expected {
        assert_eq!(config[key], value, "{key}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn decoding_undoes_encoding(text in any::<String>(), plain in "[ -~\n\t]{0,80}", gpt2: bool) {
        let tokenizer = shared(gpt2);
        for text in [text, plain] {
            let ids = tokenizer.encode(&text).unwrap();
            let expected = reference_ids(gpt2, &text);
            prop_assert_eq!(&ids, &expected);
            prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }
    }

    #[test]
    fn a_stream_says_what_decoding_says_in_whole_characters(
        text in any::<String>(),
        cut in any::<prop::sample::Index>(),
        noise in prop::collection::vec(0_u32..600, 0..20),
    ) {
        let tokenizer = shared(false);
        let mut ids = tokenizer.encode(&text).unwrap();
        ids.truncate(cut.index(ids.len() + 1));
        for ids in [ids, noise] {
            let mut stream = tokenizer.stream();
            let mut streamed = String::new();
            for id in &ids {
                streamed += &stream.push(*id).unwrap();
            }
            streamed += &stream.finish();
            prop_assert_eq!(streamed, tokenizer.decode(&ids).unwrap());
        }
    }
}

#[test]
fn a_stream_holds_back_half_a_character() {
    let tokenizer = Tokenizer::train(&TrainConfig::default(), std::iter::empty::<&str>()).unwrap();
    let ids = tokenizer.encode("a€").unwrap();
    let mut stream = tokenizer.stream();
    let pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    assert_eq!(pieces, ["a", "", "", "€"]);
    assert_eq!(stream.finish(), "");
    let mut stream = tokenizer.stream();
    assert_eq!(ids[..2].iter().map(|id| stream.push(*id).unwrap()).collect::<String>(), "a");
    assert_eq!(stream.finish(), "\u{fffd}");
}

fn shared(gpt2: bool) -> &'static Tokenizer {
    static SHARED: std::sync::LazyLock<[Tokenizer; 2]> =
        std::sync::LazyLock::new(|| [Pattern::Qwen2, Pattern::Gpt2].map(trained));
    &SHARED[usize::from(gpt2)]
}

fn reference_ids(gpt2: bool, text: &str) -> Vec<u32> {
    static REFERENCES: std::sync::LazyLock<[tokenizers::Tokenizer; 2]> =
        std::sync::LazyLock::new(|| [false, true].map(|gpt2| reference(shared(gpt2))));
    REFERENCES[usize::from(gpt2)].encode(text, false).unwrap().get_ids().to_vec()
}
