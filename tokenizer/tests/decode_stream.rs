//! Incremental decoding against decoding the whole sequence, and both against the library, for every kind of decoder.

use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizer::Tokenizer;

/// Tokens with spaces in every representation, bytes of complete and incomplete characters, and characters of the
/// byte-level alphabet; the last two are special.
const TOKENS: [&str; 32] = [
    "▁", "▁▁", "▁The", "▁old", "was", "##as", "garden", " ", " .", "n't", "en</w>", "</w>", "é", "Ã", "©", "ĠThe", "Ċ",
    "<0x20>", "<0x0A>", "<0xC3>", "<0xA9>", "<0xF0>", "<0x9F>", "<0x99>", "<0x82>", "<0xZZ>", "", "␣", "x", " do not",
    "<s>", "</s>",
];

/// Returns the content of a `tokenizer.json` with a decoder.
fn tokenizer_json(decoder: &Value) -> String {
    let vocabulary: serde_json::Map<String, Value> =
        TOKENS.iter().enumerate().map(|(id, token)| ((*token).to_owned(), id.into())).collect();
    let special = |id: usize| {
        json!({"id": id, "content": TOKENS[id], "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let json = json!({
        "version": "1.0",
        "added_tokens": [special(30), special(31)],
        "decoder": decoder,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "x"},
    });
    json.to_string()
}

fn replace() -> Value {
    json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "})
}

fn strip(start: usize, stop: usize) -> Value {
    json!({"type": "Strip", "content": " ", "start": start, "stop": stop})
}

fn sequence(decoders: &[Value]) -> Value {
    json!({"type": "Sequence", "decoders": decoders})
}

fn decoders() -> Vec<Value> {
    let metaspace =
        |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true});
    let [fuse, fallback, byte_level] = ["Fuse", "ByteFallback", "ByteLevel"]
        .map(|kind| json!({"type": kind, "add_prefix_space": false, "trim_offsets": true, "use_regex": true}));
    let word_piece = |cleanup: bool| json!({"type": "WordPiece", "prefix": "##", "cleanup": cleanup});
    let regex = json!({"type": "Replace", "pattern": {"Regex": "[a-e]+"}, "content": "_"});
    vec![
        Value::Null,
        // Llama 2, Mistral, Phi 3; Gemma; others between them.
        sequence(&[replace(), fallback.clone(), fuse.clone(), strip(1, 0)]),
        sequence(&[replace(), fallback.clone(), fuse.clone()]),
        sequence(&[fallback.clone(), fuse.clone()]),
        sequence(&[fallback.clone(), metaspace("first")]),
        sequence(&[replace(), fallback.clone(), strip(1, 0), fuse.clone()]),
        sequence(&[replace(), fallback, fuse.clone(), strip(2, 0), fuse.clone()]),
        sequence(&[regex, byte_level.clone()]),
        metaspace("always"),
        metaspace("never"),
        word_piece(true),
        word_piece(false),
        json!({"type": "BPEDecoder", "suffix": "</w>"}),
        json!({"type": "CTC", "pad_token": "x", "word_delimiter_token": "▁", "cleanup": true}),
        sequence(&[fuse.clone(), replace()]),
        fuse,
        byte_level,
    ]
}

/// Returns `whole` without what it has in common with `prompt` at the start.
fn after<'a>(whole: &'a str, prompt: &str) -> &'a str {
    let common = whole.chars().zip(prompt.chars()).take_while(|(a, b)| a == b);
    &whole[common.map(|(character, _)| character.len_utf8()).sum()..]
}

fn streamed(tokenizer: &Tokenizer, prompt: &[u32], ids: &[u32]) -> Vec<String> {
    let mut stream = tokenizer.decode_stream_after(prompt).unwrap();
    let mut pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    pieces.push(stream.finish());
    pieces
}

fn check_stream(tokenizer: &Tokenizer, prompt: &[u32], ids: &[u32]) {
    let [before, whole] = [prompt, &[prompt, ids].concat()].map(|ids| tokenizer.decode(ids).unwrap());
    assert_eq!(streamed(tokenizer, prompt, ids).concat(), after(&whole, &before), "{prompt:?} {ids:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_stream_is_what_the_whole_sequence_adds_to_the_prompt(
        decoder in prop::sample::select(decoders()),
        prompt in prop::collection::vec(0..TOKENS.len() as u32, 0..8),
        ids in prop::collection::vec(0..TOKENS.len() as u32, 0..12),
    ) {
        let json = tokenizer_json(&decoder);
        let tokenizer = Tokenizer::from_bytes(json.as_bytes()).unwrap();
        check_stream(&tokenizer, &prompt, &ids);
        let ids = [prompt, ids].concat();
        if !ids.is_empty() {
            let reference = tokenizers::Tokenizer::from_bytes(&json).unwrap();
            prop_assert_eq!(tokenizer.decode(&ids).unwrap(), reference.decode(&ids, true).unwrap(), "{}", decoder);
        }
    }

    /// Not with CTC, whose text of the first tokens is not how that of all begins, nor with bytes that are no text.
    #[test]
    fn flushing_divides_the_text_and_changes_nothing(
        decoder in prop::sample::select(decoders()),
        ids in prop::collection::vec(0..TOKENS.len() as u32, 0..12),
        flushed in prop::collection::vec(any::<bool>(), 12),
    ) {
        let tokenizer = Tokenizer::from_bytes(tokenizer_json(&decoder).as_bytes()).unwrap();
        let whole = tokenizer.decode(&ids).unwrap();
        prop_assume!(decoder["type"] != "CTC" && !whole.contains('\u{fffd}'));
        let mut stream = tokenizer.decode_stream();
        let mut text = String::new();
        for (id, is_flushed) in ids.iter().zip(flushed) {
            text += &stream.push(*id).unwrap();
            if is_flushed {
                text += &stream.flush();
            }
        }
        prop_assert_eq!(text + &stream.finish(), whole, "{} {:?}", decoder, ids);
    }

    /// The library panics on tokens that are shorter than what is stripped at their end.
    #[test]
    fn stripping_the_end_is_streamed(
        decoder in prop::sample::select(vec![
            sequence(&[replace(), json!({"type": "Fuse"}), strip(1, 2)]),
            sequence(&[replace(), strip(0, 1), json!({"type": "Fuse"})]),
        ]),
        prompt in prop::collection::vec(0..8_u32, 0..6),
        ids in prop::collection::vec(0..8_u32, 0..8),
    ) {
        let tokenizer = Tokenizer::from_bytes(tokenizer_json(&decoder).as_bytes()).unwrap();
        check_stream(&tokenizer, &prompt, &ids);
    }
}

#[test]
fn the_first_word_of_a_completion_keeps_its_space() {
    let ids = |tokens: &[&str]| -> Vec<u32> {
        tokens.iter().map(|token| TOKENS.iter().position(|known| known == token).unwrap() as u32).collect()
    };
    let check = |decoder: &Value, prompt: &[&str], tokens: &[&str], expected: &[&str]| {
        let tokenizer = Tokenizer::from_bytes(tokenizer_json(decoder).as_bytes()).unwrap();
        let pieces = streamed(&tokenizer, &ids(prompt), &ids(tokens));
        assert_eq!(pieces, expected, "{decoder}");
    };
    let kinds = decoders();
    let [llama, metaspace, word_piece] = [&kinds[1], &kinds[8], &kinds[10]];
    check(llama, &["<s>", "▁The"], &["▁old", "garden", "</s>"], &[" old", "garden", "", ""]);
    check(metaspace, &["<s>", "▁The"], &["▁old", "garden"], &[" old", "garden", ""]);
    check(word_piece, &["garden"], &["was", "##as"], &[" was", "as", ""]);
    // Without a prompt there is no space.
    check(llama, &["<s>"], &["▁old"], &["old", ""]);
    // A new line at the end of the prompt is not repeated; a character that the prompt cuts is completed.
    check(llama, &["▁The", "<0x0A>"], &["was", "<0x0A>"], &["was", "", "\n"]);
    check(llama, &["▁The", "<0xC3>"], &["<0xA9>", "was"], &["", "éwas", ""]);
}
