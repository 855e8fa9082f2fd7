//! The tokenizer compared with Hugging Face's, and its properties.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tokenizer::{Error, Kind, MIN_VOCAB_SIZE, Pattern, SPECIAL_TOKENS, Tokenizer, TrainConfig};

/// Real text: this crate.
const TEXTS: [&str; 8] = [
    include_str!("../src/error.rs"),
    include_str!("../src/training.rs"),
    include_str!("../src/training/merges.rs"),
    include_str!("../src/tokenizer.rs"),
    include_str!("../src/pre_tokenizer.rs"),
    include_str!("../src/chat.rs"),
    include_str!("../src/shard/reader.rs"),
    include_str!("../src/shard/writer.rs"),
];

/// Text that is hard to split, to merge or to decode.
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

const PATTERNS: [Pattern; 3] = [Pattern::Qwen2, Pattern::Gpt2, Pattern::SmolLm];

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
    for pattern in PATTERNS {
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
fn offsets_are_the_bytes_of_tokens() {
    let tokenizer = trained(Pattern::Qwen2);
    for text in TEXTS.iter().chain(&HARD) {
        let tokens = tokenizer.encode_with_offsets(text).unwrap();
        let ids: Vec<u32> = tokens.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, tokenizer.encode(text).unwrap(), "{text:?}");
        let mut end = 0;
        for (id, bytes) in tokens {
            assert!(bytes.start <= end && bytes.end >= end, "{text:?}: {bytes:?} after {end}");
            end = bytes.end;
            let token = tokenizer.decode(&[id]).unwrap();
            // A token with a part of a character has the bytes of the whole one.
            assert!(text[bytes.clone()] == token || token.contains('\u{fffd}'), "{text:?}: {token:?} at {bytes:?}");
        }
        assert_eq!(end, text.len());
    }
}

#[test]
fn training_is_that_of_hugging_face() {
    for pattern in PATTERNS {
        let ours = trained(pattern);
        // Otherwise, special tokens in the text would be removed from it.
        let mut theirs = reference(&ours);
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
        let theirs = theirs.to_string(true).unwrap();
        let differing = theirs.lines().zip(ours.to_json().lines()).find(|(theirs, ours)| theirs != ours);
        assert_eq!(differing, None, "{pattern:?}");
        assert_eq!(theirs.len() + 1, ours.to_json().len(), "{pattern:?}");
    }
}

const KINDS: [Kind; 4] = [Kind::Bpe, Kind::Unigram, Kind::WordPiece, Kind::Character];

fn trained_as(kind: Kind) -> Tokenizer {
    Tokenizer::train(&TrainConfig { kind, vocab_size: 700, ..TrainConfig::default() }, TEXTS.iter()).unwrap()
}

#[test]
fn training_depends_on_neither_threads_nor_order() {
    let train = |kind, threads, texts: &[&str]| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let config = TrainConfig { kind, vocab_size: 1200, ..TrainConfig::default() };
        pool.install(|| Tokenizer::train(&config, texts.iter()).unwrap()).to_json().to_owned()
    };
    for kind in KINDS {
        let one = train(kind, 1, &TEXTS);
        let backwards: Vec<&str> = TEXTS.into_iter().rev().collect();
        assert!(one == train(kind, 2, &TEXTS) && one == train(kind, 4, &backwards), "{kind:?}");
    }
}

#[test]
fn ids_of_every_kind_are_those_of_hugging_face() {
    for (kind, is_lossless) in KINDS.into_iter().zip([true, true, false, false]) {
        let tokenizer = trained_as(kind);
        let reference = reference(&tokenizer);
        let unknown = tokenizer.unknown_token();
        for text in TEXTS.iter().chain(&HARD) {
            let mut encoder = tokenizer.encoder();
            let ids = encoder.encode(text).unwrap();
            assert_eq!(ids, reference.encode(*text, false).unwrap().get_ids(), "{kind:?} {text:?}");
            let unknown = ids.iter().filter(|id| Some(**id) == unknown).count();
            assert!(!is_lossless || unknown == 0, "{kind:?} {text:?}");
            let decoded = tokenizer.decode(&ids).unwrap();
            assert_eq!(decoded, reference.decode(&ids, true).unwrap(), "{kind:?} {text:?}");
            if is_lossless || (kind == Kind::Character && unknown == 0) {
                assert_eq!(decoded, *text, "{kind:?}");
            }
            let mut stream = tokenizer.decode_stream();
            let streamed: String = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
            assert_eq!(streamed + &stream.finish(), decoded, "{kind:?} {text:?}");
        }
    }
}

#[test]
fn a_character_tokenizer_has_the_characters_of_the_text() {
    let config = TrainConfig { kind: Kind::Character, ..TrainConfig::default() };
    let tokenizer = Tokenizer::train(&config, ["To be,\n", "or né"].iter()).unwrap();
    let vocabulary: Vec<u32> = "\n ,Tbenoré".chars().map(|c| tokenizer.id(&c.to_string()).unwrap()).collect();
    assert_eq!(vocabulary, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    // The characters, the unknown token and the special tokens.
    assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_text(), tokenizer.unknown_token()), (14, Some(11), Some(0)));
    assert_eq!(tokenizer.encode("not T").unwrap(), [7, 8, 0, 2, 4]);
    assert_eq!(tokenizer.unknown_token_name(), Some("<unk>"));
    assert_eq!(tokenizer.decode(&[7, 8, 0, 2, 4]).unwrap(), "no T");
}

#[test]
fn a_word_piece_tokenizer_keeps_words_but_not_white_space() {
    let tokenizer = trained_as(Kind::WordPiece);
    let ids = tokenizer.encode("  the\ntokenizer,  Tokenizer").unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), "the tokenizer, Tokenizer");
    assert_eq!(tokenizer.encode("the 日 ").unwrap()[1..], [tokenizer.unknown_token().unwrap()]);
}

#[test]
fn unigram_prefers_likely_pieces() {
    let tokenizer = trained_as(Kind::Unigram);
    assert_eq!(tokenizer.vocab_size(), 700);
    let tokens = |text| tokenizer.encode(text).unwrap().len();
    assert!(tokens(" tokenizer") <= 2 && tokens("    ") <= 2, "{} {}", tokens(" tokenizer"), tokens("    "));
    // Three bytes for a character outside the vocabulary.
    assert_eq!(tokens("日"), 3);
}

#[test]
fn additional_special_tokens_follow_the_default_ones() {
    for kind in KINDS {
        let special_tokens = vec!["<|tool|>".to_owned(), "token".to_owned()];
        let config = TrainConfig { kind, vocab_size: 700, special_tokens, ..TrainConfig::default() };
        let tokenizer = Tokenizer::train(&config, TEXTS.iter()).unwrap();
        let first = tokenizer.end_of_text().unwrap();
        let ids: Vec<Option<u32>> =
            SPECIAL_TOKENS.into_iter().chain(["<|tool|>", "token"]).map(|name| tokenizer.id(name)).collect();
        assert_eq!(ids, (first..first + 5).map(Some).collect::<Vec<_>>(), "{kind:?}");
        // A word of the text does not become a special token.
        for text in ["a token", "token", "<|tool|>token"] {
            let encoded = tokenizer.encode(text).unwrap();
            assert!(encoded.iter().all(|id| !(first..first + 5).contains(id)), "{kind:?} {text:?}");
            assert_eq!(encoded, reference(&tokenizer).encode(text, false).unwrap().get_ids());
        }
        let read = Tokenizer::from_bytes(tokenizer.to_json().as_bytes()).unwrap();
        assert_eq!(read.to_json(), tokenizer.to_json(), "{kind:?}");
    }
}

#[test]
fn files_on_which_the_library_panics_are_errors() {
    let json = |decoder: serde_json::Value, prefix: Option<&str>| {
        serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": null, "post_processor": null, "decoder": decoder,
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": prefix,
                      "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                      "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
        })
    };
    let read = |json: serde_json::Value| Tokenizer::from_bytes(json.to_string().as_bytes());
    assert_eq!(read(json(serde_json::json!({"type": "Fuse"}), None)).unwrap().vocab_size(), 3);
    let nested = (0..110).fold(serde_json::json!({"type": "Fuse"}), |inner, _| serde_json::json!([inner]));
    for hostile in [json(nested, None), json(serde_json::Value::Null, Some("longer than a token"))] {
        let error = read(hostile).unwrap_err();
        assert!(error.to_string().contains("the given text"), "{error}");
    }
}

#[test]
fn a_tokenizer_that_doubles_bytes_again_and_again_is_an_error() {
    let read = |byte_levels: usize| {
        let config = TrainConfig { vocab_size: MIN_VOCAB_SIZE, ..TrainConfig::default() };
        let tokenizer = Tokenizer::train(&config, ["abc abc"].iter()).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(tokenizer.to_json()).unwrap();
        let step = serde_json::json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
        });
        json["pre_tokenizer"] = serde_json::json!({"type": "Sequence", "pretokenizers": vec![step; byte_levels]});
        Tokenizer::from_bytes(json.to_string().as_bytes())
    };
    assert!(read(2).unwrap().encode("é").is_ok());
    let error = std::error::Error::source(&read(39).unwrap_err()).unwrap().to_string();
    assert!(error.contains("39 steps of type `ByteLevel`"), "{error}");
}

#[test]
fn invalid_training_options_are_errors() {
    let check = |kind, vocab_size, special_tokens: &[&str], expected: &str| {
        let special_tokens = special_tokens.iter().map(|token| (*token).to_owned()).collect();
        let config = TrainConfig { kind, vocab_size, special_tokens, ..TrainConfig::default() };
        let error = Tokenizer::train(&config, ["abc abc"].iter()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    let twice = "is a duplicate, or one that is added by default";
    check(Kind::Bpe, 4096, &[""], "the special token `` has fewer than two characters");
    check(Kind::Bpe, 4096, &["<a>", "é"], "the special token `é` has fewer than two characters");
    check(Kind::Bpe, 4096, &["<a>", "<a>"], &format!("the special token `<a>` {twice}"));
    check(Kind::Bpe, 4096, &["<|im_end|>"], &format!("the special token `<|im_end|>` {twice}"));
    check(Kind::WordPiece, 4096, &["[UNK]"], &format!("the special token `[UNK]` {twice}"));
    let taken = "is already a token of this kind of tokenizer";
    check(Kind::Unigram, 4096, &["<0x41>"], &format!("the special token `<0x41>` {taken}"));
    check(Kind::WordPiece, 4096, &["##b"], &format!("the special token `##b` {taken}"));
    let small = |vocab_size, kind, minimum| {
        format!("a vocabulary of {vocab_size} is too small: {kind} needs at least {minimum} for this text")
    };
    check(Kind::Bpe, 260, &["<a>", "<b>"], &small(260, "byte-level BPE", 261));
    // The bytes, four special tokens, four characters, and one piece more.
    check(Kind::Unigram, 264, &[], &small(264, "Unigram", 265));
    // Three characters, each at the beginning of a word and inside.
    check(Kind::WordPiece, 9, &[], &small(9, "WordPiece", 10));
    check(Kind::Character, 7, &[], &small(7, "character", 8));
}

/// The scores were infinite, and the search for the lowest one ran out of memory.
#[test]
fn training_on_nul_characters_terminates() {
    for kind in KINDS {
        let config = TrainConfig { kind, vocab_size: 900, ..TrainConfig::default() };
        let tokenizer = Tokenizer::train(&config, ["\0", "\0\0"].iter()).unwrap();
        let ids = tokenizer.encode("a\0").unwrap();
        assert!(
            matches!(kind, Kind::WordPiece | Kind::Character) || tokenizer.decode(&ids).unwrap() == "a\0",
            "{kind}"
        );
    }
}

#[test]
fn the_smallest_vocabulary_and_an_empty_text_can_be_trained() {
    for (kind, smallest) in KINDS.into_iter().zip([259, 265, 10, 8]) {
        let config = TrainConfig { kind, vocab_size: smallest, ..TrainConfig::default() };
        let tokenizer = Tokenizer::train(&config, ["abc abc"].iter()).unwrap();
        assert!(tokenizer.vocab_size() <= smallest, "{kind:?} {}", tokenizer.vocab_size());
        assert_eq!(tokenizer.decode(&tokenizer.encode("abc abc").unwrap()).unwrap(), "abc abc", "{kind:?}");
        let config = TrainConfig { kind, ..TrainConfig::default() };
        for nothing in [&[][..], &[""]] {
            let tokenizer = Tokenizer::train(&config, nothing.iter()).unwrap();
            assert!(!tokenizer.encode("x").unwrap().is_empty(), "{kind:?}");
        }
    }
}

#[test]
fn a_model_must_have_every_token() {
    let tokenizer = trained(Pattern::Qwen2);
    assert!(tokenizer.check_vocabulary(600).is_ok() && tokenizer.check_vocabulary(640).is_ok());
    let error = tokenizer.check_vocabulary(599).unwrap_err().to_string();
    assert_eq!(error, "the tokenizer has a vocabulary of 600, the model one of 599");
}

#[test]
fn special_tokens_in_text_are_ordinary_text() {
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
fn a_tokenizer_survives_a_round_trip() {
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
fn truncation_and_padding_of_a_loaded_tokenizer_are_ignored() {
    let mut given = reference(&trained(Pattern::Qwen2));
    let truncation = tokenizers::TruncationParams { max_length: 2, ..tokenizers::TruncationParams::default() };
    given.with_truncation(Some(truncation)).unwrap().with_padding(Some(tokenizers::PaddingParams::default()));
    let tokenizer = Tokenizer::from_bytes(given.to_string(false).unwrap().as_bytes()).unwrap();
    assert_eq!(tokenizer.decode(&tokenizer.encode(TEXTS[0]).unwrap()).unwrap(), TEXTS[0]);
}

#[test]
fn a_tokenizer_that_does_not_work_on_bytes_is_supported() {
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
    let mut stream = tokenizer.decode_stream();
    let pieces: Vec<String> = [0, 1, 3, 1].map(|id| stream.push(id).unwrap()).to_vec();
    assert_eq!(pieces.concat() + &stream.finish(), "one two two");
}

#[test]
fn invalid_files_and_ids_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let missing = Tokenizer::from_file(&path).unwrap_err().to_string();
    assert_eq!(missing, format!("cannot read {}", path.display()));
    fs::write(&path, "{\"model\": 3}").unwrap();
    let broken = Tokenizer::from_file(&path).unwrap_err().to_string();
    assert_eq!(broken, format!("{} is not a tokenizer.json that this version of tokenizers can read", path.display()));
    let config = TrainConfig { vocab_size: MIN_VOCAB_SIZE - 1, ..TrainConfig::default() };
    let small = Tokenizer::train(&config, TEXTS.iter()).unwrap_err().to_string();
    assert_eq!(small, "a vocabulary of 258 is too small: byte-level BPE needs at least 259 for this text");
    let tokenizer = trained(Pattern::Qwen2);
    assert!(matches!(tokenizer.decode(&[600]), Err(Error::UnknownToken { id: 600, vocab_size: 600 })));
    assert!(matches!(tokenizer.decode_stream().push(600), Err(Error::UnknownToken { .. })));
}

#[test]
fn training_without_text_gives_a_byte_tokenizer() {
    let tokenizer = Tokenizer::train(&TrainConfig::default(), std::iter::empty::<&str>()).unwrap();
    assert_eq!(tokenizer.vocab_size(), MIN_VOCAB_SIZE);
    assert_eq!(tokenizer.encode("né").unwrap().len(), 3);
}

#[test]
fn hugging_face_files_have_what_transformers_needs() {
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
    fn decoding_undoes_encoding(text in any::<String>(), plain in "[ -~\n\t]{0,80}", pattern in 0..3_usize) {
        let tokenizer = shared(pattern);
        for text in [text, plain] {
            let ids = tokenizer.encode(&text).unwrap();
            let expected = reference_ids(pattern, &text);
            prop_assert_eq!(&ids, &expected);
            prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }
    }

    #[test]
    fn every_kind_trains_on_any_text(
        documents in prop::collection::vec(
            prop_oneof![any::<String>(), "([a-c]{1,3} ?){0,30}", "[\u{0}-\u{5}]{0,9}"],
            0..6,
        ),
        kind in 0..4_usize,
        pattern in 0..3_usize,
    ) {
        let (kind, pattern) = (KINDS[kind], PATTERNS[pattern]);
        let config = TrainConfig { kind, pattern, vocab_size: 900, ..TrainConfig::default() };
        let tokenizer = Tokenizer::train(&config, documents.iter()).unwrap();
        prop_assert!(tokenizer.vocab_size() <= 900);
        for text in &documents {
            let ids = tokenizer.encode(text).unwrap();
            prop_assert!(kind == Kind::WordPiece || tokenizer.decode(&ids).unwrap() == *text, "{text:?}");
        }
    }

    #[test]
    fn incremental_decoding_is_equivalent_to_decoding(
        text in any::<String>(),
        cut in any::<prop::sample::Index>(),
        noise in prop::collection::vec(0_u32..600, 0..20),
    ) {
        let tokenizer = shared(0);
        let mut ids = tokenizer.encode(&text).unwrap();
        ids.truncate(cut.index(ids.len() + 1));
        for ids in [ids, noise] {
            let mut stream = tokenizer.decode_stream();
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
fn incremental_decoding_holds_back_an_incomplete_character() {
    let tokenizer = Tokenizer::train(&TrainConfig::default(), std::iter::empty::<&str>()).unwrap();
    let ids = tokenizer.encode("a€").unwrap();
    let mut stream = tokenizer.decode_stream();
    let pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    assert_eq!(pieces, ["a", "", "", "€"]);
    assert_eq!(stream.finish(), "");
    let mut stream = tokenizer.decode_stream();
    assert_eq!(ids[..2].iter().map(|id| stream.push(*id).unwrap()).collect::<String>(), "a");
    assert_eq!(stream.finish(), "\u{fffd}");
}

fn shared(pattern: usize) -> &'static Tokenizer {
    static SHARED: std::sync::LazyLock<[Tokenizer; 3]> = std::sync::LazyLock::new(|| PATTERNS.map(trained));
    &SHARED[pattern]
}

fn reference_ids(pattern: usize, text: &str) -> Vec<u32> {
    static REFERENCES: std::sync::LazyLock<[tokenizers::Tokenizer; 3]> =
        std::sync::LazyLock::new(|| [0, 1, 2].map(|pattern| reference(shared(pattern))));
    REFERENCES[pattern].encode(text, false).unwrap().get_ids().to_vec()
}
