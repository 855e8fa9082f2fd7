//! Writing and reading shards, and invalid shards.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use artifact::{Host, Outcome, Recipe, Sealed, Unsealed};
use proptest::prelude::*;
use tokenizer::shard::{Answer, MaskedDocument, SegmentKind, Split, Writer};
use tokenizer::{Conversation, Error, Message, REJECTED_ROLE, Tokenizer, TrainConfig};

fn tokenizer(vocab_size: usize) -> Tokenizer {
    if vocab_size <= 1000 {
        let text = include_str!("../src/shard/reader.rs");
        return Tokenizer::train(&TrainConfig { vocab_size, ..TrainConfig::default() }, [text].iter()).unwrap();
    }
    let vocabulary: BTreeMap<String, usize> = (0..vocab_size).map(|id| (format!("w{id}"), id)).collect();
    let model = serde_json::json!({ "type": "WordLevel", "vocab": vocabulary, "unk_token": "w0" });
    let json = serde_json::json!({ "version": "1.0", "added_tokens": [], "model": model });
    Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap()
}

fn write(folder: &Path, tokenizer: &Tokenizer, documents: &[Vec<u32>], shard_bytes: u64) {
    let mut writer = Writer::new(folder, "train", tokenizer, shard_bytes);
    for document in documents {
        writer.push(document, 10).unwrap();
    }
    let written = writer.finish().unwrap();
    assert_eq!(written.documents as usize, documents.len());
    assert_eq!(written.text_bytes as usize, 10 * documents.len());
}

fn seal(folder: &Path) -> Sealed {
    let recipe = Recipe {
        stage: "preprocess".to_owned(),
        stage_version: 1,
        config: serde_json::json!({}),
        inputs: BTreeMap::new(),
        seed: 0,
        device_class: None,
    };
    Unsealed::at(folder, recipe).seal(Outcome::default(), 0.0, Host::default()).unwrap()
}

fn documents(vocab_size: usize) -> Vec<Vec<u32>> {
    (0..7_usize).map(|d| (0..3 + d * 2).map(|i| ((d * 977 + i * 31) % vocab_size) as u32).collect()).collect()
}

#[test]
fn shards_are_read_as_they_were_written() {
    // Two bytes per token for the small vocabulary, four for the large one.
    for (vocab_size, shard_bytes, shards) in [(300, 1 << 20, 1), (300, 20, 4), (300, 1, 7), (70_000, 40, 4)] {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = tokenizer(vocab_size);
        let documents = documents(vocab_size);
        write(folder.path(), &tokenizer, &documents, shard_bytes);
        fs::write(folder.path().join("tokenizer.json"), tokenizer.to_json()).unwrap();
        let sealed = seal(folder.path());
        assert_eq!(sealed.files("train-").len(), shards, "{vocab_size} {shard_bytes}");
        let split = Split::open(&sealed, "train").unwrap();
        let all = documents.concat();
        assert_eq!((split.len(), split.n_documents(), split.text_bytes()), (all.len(), 7, 70));
        assert_eq!((split.vocab_size(), split.tokenizer_digest()), (vocab_size, tokenizer.digest()));
        for (i, document) in documents.iter().enumerate() {
            assert_eq!(split.document(i), *document);
        }
        for start in 0..=all.len() {
            for end in start..=all.len() {
                let mut tokens = vec![u32::MAX; end - start];
                split.copy(start, &mut tokens);
                assert_eq!(tokens, all[start..end]);
            }
        }
    }
}

#[test]
fn any_reader_of_safetensors_reads_a_shard() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &tokenizer(300), &documents(300), 1 << 20);
    let bytes = fs::read(folder.path().join("train-00000.safetensors")).unwrap();
    let shard = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tokens = shard.tensor("tokens").unwrap();
    assert_eq!((tokens.dtype(), tokens.shape()), (safetensors::Dtype::U16, &[63][..]));
    let expected: Vec<u8> = documents(300).concat().iter().flat_map(|id| (*id as u16).to_le_bytes()).collect();
    assert_eq!(tokens.data(), expected);
    let offsets = shard.tensor("document_offsets").unwrap();
    assert_eq!((offsets.dtype(), offsets.shape()), (safetensors::Dtype::U64, &[8][..]));
    let expected: Vec<u8> = [0_u64, 3, 8, 15, 24, 35, 48, 63].iter().flat_map(|at| at.to_le_bytes()).collect();
    assert_eq!(offsets.data(), expected);
}

/// Returns a loss mask without every third token.
fn mask(document: &[u32]) -> Vec<bool> {
    (0..document.len()).map(|at| at % 3 != 2).collect()
}

#[test]
fn a_loss_mask_is_read_as_it_was_written() {
    for shard_bytes in [1 << 20, 20] {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(folder.path(), "train", &tokenizer(300), shard_bytes);
        // Documents with and without a mask, in one shard and in several.
        let mut expected = Vec::new();
        for (at, document) in documents(300).iter().enumerate() {
            if at % 2 == 0 {
                writer.push(document, 10).unwrap();
                expected.extend(vec![true; document.len()]);
            } else {
                writer.push_masked(document, &mask(document), 10).unwrap();
                expected.extend(mask(document));
            }
        }
        writer.finish().unwrap();
        let split = Split::open(&seal(folder.path()), "train").unwrap();
        assert!(split.has_loss_mask());
        for start in 0..=expected.len() {
            for end in start..=expected.len() {
                let mut found = vec![false; end - start];
                split.copy_mask(start, &mut found);
                assert_eq!(found, expected[start..end], "{start}..{end}");
            }
        }
        assert_eq!(split.document(3), documents(300)[3]);
    }
}

#[test]
fn the_rejected_answer_of_a_pair_is_not_scored() {
    for shard_bytes in [1 << 20, 20] {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(folder.path(), "train", &tokenizer(300), shard_bytes);
        let mut expected = Vec::new();
        for pair in documents(300).chunks_exact(2) {
            let masks = [mask(&pair[0]), mask(&pair[1])];
            writer.push_pair([(&pair[0], &masks[0]), (&pair[1], &masks[1])], 10).unwrap();
            expected.extend(&masks[0]);
            expected.extend(vec![false; pair[1].len()]);
        }
        writer.finish().unwrap();
        let split = Split::open(&seal(folder.path()), "train").unwrap();
        assert!(expected.contains(&true) && split.len() == expected.len());
        for start in 0..=expected.len() {
            for end in start..=expected.len() {
                let mut found = vec![false; end - start];
                split.copy_scored(start, &mut found);
                assert_eq!(found, expected[start..end], "{start}..{end}");
            }
        }
    }
}

fn conversation(messages: &[(&str, &str)]) -> Conversation {
    let messages = messages.iter().map(|(role, text)| Message::new(*role, *text)).collect();
    Conversation { messages, ..Conversation::default() }
}

/// Returns the text of the segments of a kind that are learned, or that are not.
fn text_of(document: &MaskedDocument, kind: SegmentKind, is_learned: bool) -> Vec<&str> {
    let alike = document.segments.iter().filter(|segment| (segment.kind, segment.is_learned()) == (kind, is_learned));
    alike.map(|segment| segment.text.as_str()).collect()
}

/// Checks that the segments are all tokens of a document, in order, with its counts.
fn check_segments(document: &MaskedDocument) {
    let mut at = 0;
    for segment in &document.segments {
        assert_eq!(segment.range.start, at, "{document:?}");
        at = segment.range.end;
        let is_omitted = segment.kind == SegmentKind::Omitted;
        assert!(is_omitted || [0, segment.range.len()].contains(&segment.learned_tokens), "{segment:?}");
        assert!(is_omitted == segment.text.is_empty(), "{segment:?}");
    }
    assert_eq!(at, document.tokens);
    let learned: usize = document.segments.iter().map(|segment| segment.learned_tokens).sum();
    assert_eq!(learned, document.learned_tokens);
}

#[test]
fn a_conversation_is_divided_into_what_is_learned_and_what_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer(300);
    let (questions, answers) = (["Why 🦀 <|im_end|>?", "次は?"], ["Because 🦀🦀.", "終わり"]);
    let chat = conversation(&[
        ("system", "Be brief."),
        ("user", questions[0]),
        ("assistant", answers[0]),
        ("user", questions[1]),
        ("assistant", answers[1]),
    ]);
    let tokens = tokenizer.encode_chat(&chat).unwrap();
    let mut writer = Writer::new(folder.path(), "train", &tokenizer, 1 << 20);
    writer.push_masked(&tokens.ids, &tokens.loss_mask, 10).unwrap();
    let written = writer.finish().unwrap();
    let split = Split::open(&seal(folder.path()), "train").unwrap();
    let learned = tokens.loss_mask.iter().filter(|is_learned| **is_learned).count();
    assert_eq!((split.n_examples(), split.learned_tokens()), (1, learned));
    assert_eq!(written.learned_tokens as usize, learned);

    let [document] = &split.example(0, &tokenizer, usize::MAX).unwrap()[..] else { panic!("one document") };
    check_segments(document);
    assert_eq!((document.tokens, document.learned_tokens), (tokens.ids.len(), learned));
    assert_eq!(text_of(document, SegmentKind::Text, true), answers);
    assert_eq!(text_of(document, SegmentKind::Special, true), ["<|im_end|>", "<|im_end|>"]);
    let others = text_of(document, SegmentKind::Text, false).concat();
    assert!(questions.iter().all(|question| others.contains(question)), "{others}");
    let text: Vec<&str> = document.segments.iter().filter(|s| s.kind == SegmentKind::Text).map(|s| &*s.text).collect();
    assert_eq!(text.concat(), tokenizer.decode(&tokens.ids).unwrap());

    // With any limit, characters of several tokens are shown whole or not at all.
    for max_tokens in 1..=tokens.ids.len() {
        let [document] = &split.example(0, &tokenizer, max_tokens).unwrap()[..] else { panic!("one document") };
        let shown: usize =
            document.segments.iter().filter(|s| s.kind != SegmentKind::Omitted).map(|s| s.range.len()).sum();
        assert!(shown <= max_tokens && shown > 0, "{shown} of {max_tokens}");
        let omitted = document.segments.windows(2).filter(|two| two.iter().all(|s| s.kind == SegmentKind::Omitted));
        assert_eq!(omitted.count(), 0);
        assert!(document.segments.iter().all(|segment| !segment.text.contains('\u{fffd}')), "{document:?}");
    }
}

#[test]
fn both_answers_of_a_pair_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer(300);
    let chat = conversation(&[("user", "Why?"), ("assistant", "I know."), (REJECTED_ROLE, "No idea.")]);
    let [chosen, rejected] = tokenizer.encoder().encode_preference(&chat).unwrap().unwrap();
    let mut writer = Writer::new(folder.path(), "train", &tokenizer, 1 << 20);
    writer.push_pair([(&chosen.ids, &chosen.loss_mask), (&rejected.ids, &rejected.loss_mask)], 10).unwrap();
    writer.finish().unwrap();
    let split = Split::open(&seal(folder.path()), "train").unwrap();
    assert_eq!(split.n_examples(), 1);
    let documents = split.example(0, &tokenizer, 1000).unwrap();
    let found: Vec<(Option<Answer>, Vec<&str>)> =
        documents.iter().map(|document| (document.answer, text_of(document, SegmentKind::Text, true))).collect();
    assert_eq!(found, [(Some(Answer::Chosen), vec!["I know."]), (Some(Answer::Rejected), vec!["No idea."])]);
}

#[test]
fn long_text_is_shortened_to_its_ends() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer(70_000);
    let long: Vec<u32> = (1..=100).collect();
    write(folder.path(), &tokenizer, &[long, vec![7, 8]], 1 << 20);
    let split = Split::open(&seal(folder.path()), "train").unwrap();
    let check = |index: usize, max_tokens: usize, expected: &[(SegmentKind, std::ops::Range<usize>, &str)]| {
        let document = split.example(index, &tokenizer, max_tokens).unwrap().remove(0);
        let found: Vec<_> = document.segments.iter().map(|s| (s.kind, s.range.clone(), s.text.trim())).collect();
        assert_eq!(found, expected, "{max_tokens}");
    };
    let (text, omitted) = (SegmentKind::Text, SegmentKind::Omitted);
    check(0, 8, &[(text, 0..2, "w1 w2"), (omitted, 2..98, ""), (text, 98..100, "w99 w100")]);
    check(0, 1, &[(text, 0..1, "w1"), (omitted, 1..100, "")]);
    check(1, 8, &[(text, 0..2, "w7 w8")]);
    assert_eq!(split.learned_tokens(), 102);
}

#[test]
fn the_first_shard_opens_alone() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &tokenizer(300), &documents(300), 1);
    let sealed = seal(folder.path());
    let first = Split::open_first(&sealed, "train").unwrap();
    assert_eq!((first.n_documents(), first.document(0)), (1, documents(300)[0].clone()));
    assert!(matches!(Split::open_first(&sealed, "test"), Err(Error::NoShards { .. })));
}

#[test]
fn without_a_loss_mask_every_token_counts() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &tokenizer(300), &documents(300), 20);
    let split = Split::open(&seal(folder.path()), "train").unwrap();
    let mut found = vec![false; split.len()];
    split.copy_mask(0, &mut found);
    assert!(!split.has_loss_mask() && found.iter().all(|is_target| *is_target));
}

/// The format of shards without a loss mask must not change.
#[test]
fn a_shard_without_a_loss_mask_has_fixed_bytes() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &tokenizer(70_000), &[vec![1, 2, 69_999]], 1 << 20);
    let bytes = fs::read(folder.path().join("train-00000.safetensors")).unwrap();
    let digest = tokenizer(70_000).digest();
    let header = format!(
        "{{\"__metadata__\":{{\"split\":\"train\",\"vocab_size\":\"70000\",\"tokenizer_digest\":\"{digest}\",\
         \"text_bytes\":\"10\"}},\"document_offsets\":{{\"dtype\":\"U64\",\"shape\":[2],\"data_offsets\":[0,16]}},\
         \"tokens\":{{\"dtype\":\"U32\",\"shape\":[3],\"data_offsets\":[16,28]}}}}"
    );
    let length = header.len().next_multiple_of(8);
    let mut expected = (length as u64).to_le_bytes().to_vec();
    expected.extend(format!("{header:length$}").into_bytes());
    expected.extend([0_u64, 3].iter().flat_map(|at| at.to_le_bytes()));
    expected.extend([1_u32, 2, 69_999].iter().flat_map(|id| id.to_le_bytes()));
    assert_eq!(bytes, expected);
}

#[test]
fn a_flipped_bit_is_detected() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &tokenizer(300), &documents(300), 20);
    let sealed = seal(folder.path());
    let path = folder.path().join("train-00002.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = Split::open(&sealed, "train").unwrap_err();
    assert!(matches!(&error, Error::Artifact(artifact::Error::Corrupt { .. })), "{error:?}");
    assert!(error.to_string().starts_with(&format!("{} is corrupt", path.display())), "{error}");
}

#[test]
fn an_invalid_loss_mask_is_an_error_with_both_values() {
    let at =
        |header: &serde_json::Value, end: bool| header["tokens"]["data_offsets"][usize::from(end)].as_u64().unwrap();
    let add = |header: &mut serde_json::Value, data: &mut Vec<u8>, dtype: &str, length: u64, value: u8| {
        let start = at(header, true);
        let bytes = if dtype == "U8" { length } else { 2 * length };
        header["loss_mask"] =
            serde_json::json!({ "dtype": dtype, "shape": [length], "data_offsets": [start, start + bytes] });
        data.resize(data.len() + bytes as usize, value);
    };
    check_invalid(|header, data| add(header, data, "U16", 63, 1), "tensor `loss_mask` has dtype U16, expected U8");
    check_invalid(
        |header, data| add(header, data, "U8", 62, 1),
        "tensor `loss_mask` has shape [62], expected [63] as `tokens`",
    );
    check_invalid(|header, data| add(header, data, "U8", 63, 7), "its loss mask is 7 at position 0, expected 0 or 1");
}

/// Seals a shard that `change` was applied to, and compares the error.
fn check_invalid(change: impl FnOnce(&mut serde_json::Value, &mut Vec<u8>), expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &tokenizer(300), &documents(300), 1 << 20);
    let path = folder.path().join("train-00000.safetensors");
    let bytes = fs::read(&path).unwrap();
    let header_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header_bytes]).unwrap();
    let mut data = bytes[8 + header_bytes..].to_vec();
    change(&mut header, &mut data);
    let header = header.to_string();
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
    fs::write(&path, bytes).unwrap();
    let error = Split::open(&seal(folder.path()), "train").unwrap_err().to_string();
    assert_eq!(error, format!("{} is not a valid shard: {expected}", path.display()));
}

#[test]
fn an_invalid_shard_is_an_error_with_both_values() {
    check_invalid(
        |header, _| header["tokens"]["dtype"] = "I16".into(),
        "tensor `tokens` has dtype I16, expected U16 or U32",
    );
    check_invalid(
        |header, _| header["document_offsets"]["dtype"] = "I64".into(),
        "tensor `document_offsets` has dtype I64, expected U64",
    );
    check_invalid(
        |header, _| header["tokens"]["shape"] = serde_json::json!([7, 9]),
        "tensor `tokens` has shape [7, 9], expected one dimension, not 0",
    );
    check_invalid(
        |header, _| header["__metadata__"]["vocab_size"] = "200".into(),
        "token 201 at position 7 is not in its vocabulary of 200",
    );
    check_invalid(|header, _| header["__metadata__"]["split"] = "test".into(), "it is of split test, expected train");
    check_invalid(
        |header, _| {
            header["__metadata__"].as_object_mut().unwrap().remove("text_bytes");
        },
        "its metadata has no `text_bytes`",
    );
    check_invalid(
        |header, _| header["__metadata__"]["text_bytes"] = "many".into(),
        "its metadata has text_bytes = many, expected a number",
    );
    check_invalid(
        |header, _| header["__metadata__"]["tokenizer_digest"] = "abc".into(),
        "`abc` is not a SHA-256 digest (64 hexadecimal digits)",
    );
    check_invalid(|_, data| data[8] = 20, "document 1 ends before it begins");
    check_invalid(|_, data| data[56] = 64, "its document offsets run from 0 to 64, its tokens from 0 to 63");
    check_invalid(
        |header, _| {
            let tokens = header["tokens"].take();
            header.as_object_mut().unwrap().remove("tokens");
            header["other"] = tokens;
        },
        "it has no tensor `tokens`",
    );
}

#[test]
fn shards_must_agree_with_each_other_and_with_the_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &tokenizer(300), &documents(300), 1 << 20);
    fs::rename(folder.path().join("train-00000.safetensors"), folder.path().join("train-00001.safetensors")).unwrap();
    write(folder.path(), &tokenizer(310), &documents(300), 1 << 20);
    let path = folder.path().join("train-00001.safetensors");
    let error = Split::open(&seal(folder.path()), "train").unwrap_err().to_string();
    let expected = "its vocab_size is 300, the first shard's is 310";
    assert_eq!(error, format!("{} is not a valid shard: {expected}", path.display()));

    fs::write(folder.path().join("tokenizer.json"), tokenizer(300).to_json()).unwrap();
    let error = Split::open(&seal(folder.path()), "train").unwrap_err().to_string();
    let (found, expected) = (tokenizer(310).digest(), tokenizer(300).digest());
    let problem = format!("it was made with tokenizer {found}, the tokenizer.json beside it is {expected}");
    assert!(error.ends_with(&problem), "{error}");
}

#[test]
fn a_split_without_shards_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &tokenizer(300), &documents(300), 1 << 20);
    let error = Split::open(&seal(folder.path()), "validation").unwrap_err().to_string();
    let folder = folder.path().display();
    let expected = "has no validation shards (validation-*.safetensors): is it the artifact of stage preprocess?";
    assert_eq!(error, format!("{folder} {expected}"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn documents_are_preserved_by_any_number_of_shards(
        documents in prop::collection::vec(prop::collection::vec(0_u32..259, 1..30), 1..20),
        shard_bytes in 1_u64..200,
        masked in prop::collection::vec(any::<bool>(), 20),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::train(&TrainConfig::default(), std::iter::empty::<&str>()).unwrap();
        let mut writer = Writer::new(folder.path(), "train", &tokenizer, shard_bytes);
        let mut expected = Vec::new();
        for (document, masked) in documents.iter().zip(masked) {
            if masked {
                writer.push_masked(document, &mask(document), 1).unwrap();
                expected.extend(mask(document));
            } else {
                writer.push(document, 1).unwrap();
                expected.extend(vec![true; document.len()]);
            }
        }
        writer.finish().unwrap();
        let split = Split::open(&seal(folder.path()), "train").unwrap();
        let read: Vec<Vec<u32>> = (0..split.n_documents()).map(|i| split.document(i)).collect();
        prop_assert_eq!(read, documents);
        let mut learned = vec![false; split.len()];
        split.copy_mask(0, &mut learned);
        prop_assert_eq!(learned, expected);
    }
}
