//! Structured output of tiny random models: every finished text is valid, whatever the vocabulary.

use std::ops::ControlFlow;

use generate::{
    Completion, CompletionOptions, FinishReason, Generator, Grammar, GrammarLimits, Part, Prompt, Sampling, Tagged,
};
use inference::{Event, Scheduler, Settings};
use model::Family;
use serde_json::{Map, Value, json};
use test_support::tiny;
use tokenizer::Tokenizer;

/// A vocabulary as `SentencePiece` makes them: pieces with `▁` for spaces, and tokens for bytes.
fn sentence_pieces() -> Tokenizer {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    tokens.extend((0..=255_u8).map(|byte| format!("<0x{byte:02X}>")));
    let characters = "▁abcdefghijklmnopqrstuvwxyz0123456789{}[]\",:.-\\é";
    tokens.extend(characters.chars().map(String::from));
    let merges = [("▁", "a"), ("▁", "{"), ("\"", ":"), ("i", "n"), ("▁", "\""), (",", "▁")];
    tokens.extend(merges.iter().map(|(a, b)| format!("{a}{b}")));
    let vocab: Map<String, Value> = tokens.iter().zip(0..).map(|(token, id)| (token.clone(), json!(id))).collect();
    let special = |id: usize| {
        json!({
            "id": id, "content": tokens[id], "special": true, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false,
        })
    };
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [special(0), special(1), special(2)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {
            "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
            "merges": merges.map(|(a, b)| json!([a, b])),
        },
    });
    Tokenizer::from_bytes(tokenizer.to_string().as_bytes()).unwrap()
}

fn generators() -> Vec<Generator> {
    let generator =
        |tokenizer: Tokenizer| Generator::new(tiny::model(Family::Qwen3, 256, &tokenizer), tokenizer).unwrap();
    vec![generator(tiny::tokenizer()), generator(sentence_pieces())]
}

fn generate(generator: &Generator, grammar: &Grammar, options: CompletionOptions) -> Completion {
    let constraint = Some(generator.constraint(grammar, &GrammarLimits::default()).unwrap());
    let options = CompletionOptions { constraint, ..options };
    generator.generate(&Prompt::Text("let a".to_owned()), &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn random(max_tokens: usize, seed: u64) -> CompletionOptions {
    let sampling = Sampling { seed, ..Sampling::unfiltered() };
    CompletionOptions { max_tokens, sampling, ..CompletionOptions::default() }
}

/// Returns true if a value is valid after the keywords that the schemas of these tests use.
fn is_valid(schema: &Value, value: &Value) -> bool {
    let kind = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        Some(other) => panic!("{other}"),
        None => true,
    };
    let number = |key: &str| schema[key].as_i64();
    let limits = value.as_i64().is_none_or(|value| {
        number("minimum").is_none_or(|min| value >= min) && number("maximum").is_none_or(|max| value <= max)
    });
    let length = value.as_str().map(|text| text.chars().count() as i64);
    let length = length.is_none_or(|length| {
        number("minLength").is_none_or(|min| length >= min) && number("maxLength").is_none_or(|max| length <= max)
    });
    let items = value.as_array().is_none_or(|items| {
        let count = items.len() as i64;
        number("minItems").is_none_or(|min| count >= min)
            && number("maxItems").is_none_or(|max| count <= max)
            && items.iter().all(|item| schema.get("items").is_none_or(|schema| is_valid(schema, item)))
    });
    let fields = value.as_object().is_none_or(|fields| {
        let required = schema["required"].as_array();
        required.is_none_or(|names| names.iter().all(|name| fields.contains_key(name.as_str().unwrap())))
            && fields.iter().all(|(name, value)| match schema["properties"].get(name) {
                Some(schema) => is_valid(schema, value),
                None => schema["additionalProperties"] != false,
            })
    });
    let choices = schema["enum"].as_array().is_none_or(|values| values.contains(value))
        && schema["anyOf"].as_array().is_none_or(|schemas| schemas.iter().any(|schema| is_valid(schema, value)));
    kind && limits && length && items && fields && choices
}

#[test]
fn every_finished_text_is_valid_after_its_schema() {
    let person = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 6},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "tags": {"type": "array", "items": {"enum": ["a", "é", "\"\\"]}, "minItems": 1, "maxItems": 3},
            "parent": {"anyOf": [{"type": "null"}, {"type": "boolean"}]},
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": false,
    });
    let schemas = [
        person.clone(),
        json!({"type": "array", "items": person, "maxItems": 2}),
        json!({"enum": [1, "two", null, {"three": [3]}]}),
        json!({"type": "integer", "minimum": -5, "maximum": 1500}),
    ];
    for (which, generator) in generators().iter().enumerate() {
        for schema in &schemas {
            let grammar = Grammar::JsonSchema(schema.clone());
            let mut finished = 0;
            for seed in 0..12 {
                let found = generate(generator, &grammar, random(240, seed));
                if found.finish_reason == FinishReason::Stop {
                    finished += 1;
                    let value = serde_json::from_str(&found.text);
                    let value: Value = value.unwrap_or_else(|e| panic!("{which} {seed}: {e}: {:?}", found.text));
                    assert!(is_valid(schema, &value), "{which} {seed}: {value} after {schema}");
                }
            }
            assert!(finished >= 6, "{which}: {finished} of 12 finished after {schema}");
        }
    }
}

#[test]
fn objects_expressions_and_grammars_are_followed() {
    for (which, generator) in generators().iter().enumerate() {
        let mut finished = 0;
        for seed in 0..12 {
            let found = generate(generator, &Grammar::JsonObject, random(150, seed));
            if found.finish_reason == FinishReason::Stop {
                finished += 1;
                let value: Value = serde_json::from_str(&found.text).unwrap();
                assert!(value.is_object(), "{which}: {value}");
            }
            let regex = Grammar::Regex("[a-c]{2,5}(, [0-9]{3})?".to_owned());
            let text = generate(generator, &regex, random(40, seed)).text;
            let (letters, digits) = text.split_once(", ").unwrap_or((&text, "000"));
            assert!((2..=5).contains(&letters.len()) && letters.bytes().all(|b| (b'a'..=b'c').contains(&b)), "{text}");
            assert!(digits.len() == 3 && digits.parse::<u32>().is_ok(), "{text}");
            let part = |text: &str| Part::Text(text.to_owned());
            let tagged = Grammar::Tagged(vec![Tagged {
                before: vec![part("<call>\n")],
                schema: json!({"enum": [1, "\"é"]}),
                after: vec![part("\n"), Part::Token("</call>".to_owned())],
            }]);
            let text = generate(generator, &tagged, random(60, seed)).text;
            assert!(["<call>\n1\n</call>", "<call>\n\"\\\"é\"\n</call>"].contains(&text.as_str()), "{text}");
            let lark = Grammar::Lark("start: item+ \".\"\nitem: \"ab\" | \"[\" item \"]\"".to_owned());
            let found = generate(generator, &lark, random(60, seed));
            if found.finish_reason == FinishReason::Stop {
                assert!(found.text.ends_with('.') && !found.text.contains("[]"), "{}", found.text);
                assert_eq!(found.text.matches('[').count(), found.text.matches(']').count());
            }
        }
        assert!(finished > 0, "{which}: no object was finished");
    }
}

#[test]
fn text_is_the_same_where_everything_is_allowed() {
    let generator = &generators()[0];
    let grammar = Grammar::Regex("(.|\n)*".to_owned());
    let greedy = CompletionOptions { sampling: Sampling::greedy(), ..random(40, 0) };
    let prompt = Prompt::Text("let a".to_owned());
    let free = generator.generate(&prompt, &greedy, &mut |_| ControlFlow::Continue(())).unwrap();
    let bound = generate(generator, &grammar, greedy);
    assert_eq!((bound.text, bound.completion_tokens), (free.text, free.completion_tokens));
}

#[test]
fn special_tokens_are_generated_and_shown() {
    let generator = &generators()[0];
    let token = |name: &str| Part::Token(name.to_owned());
    let tagged = |name: &str| Tagged {
        before: vec![token("<|im_start|>"), Part::Text(name.to_owned())],
        schema: json!({"enum": [[1], "x"]}),
        after: vec![token("<|im_start|>")],
    };
    let grammar = Grammar::Tagged(vec![tagged("a"), tagged("b")]);
    let constraint = Some(generator.constraint(&grammar, &GrammarLimits::default()).unwrap());
    let prompt = generator.encode(&Prompt::Text("let a".to_owned())).unwrap();
    let id = generator.tokenizer().id("<|im_start|>").unwrap();
    for seed in 0..8 {
        let options = CompletionOptions { constraint: constraint.clone(), ..random(40, seed) };
        let mut model = generator.model();
        let mut scheduler = Scheduler::new(&mut **model, Settings::default()).unwrap();
        scheduler.submit(generator.request(&prompt, &options)).unwrap();
        let (mut tokens, mut hidden) = (Vec::new(), generator.text_stream(&prompt, &[], &[]).unwrap());
        let mut shown = generator.text_stream(&prompt, &[], &["<|im_start|>"]).unwrap();
        let (mut text, mut text_with_tokens) = (String::new(), String::new());
        while !scheduler.is_idle() {
            for event in scheduler.step().unwrap() {
                if let Event::Token { token, .. } = event {
                    tokens.push(token);
                    text += &hidden.push(token).unwrap();
                    text_with_tokens += &shown.push(token).unwrap();
                }
            }
        }
        assert!(tokens[0] == id && tokens.iter().filter(|token| **token == id).count() == 2, "{tokens:?}");
        assert!(["a[1]", "b[1]", "a\"x\"", "b\"x\""].contains(&text.as_str()), "{text}");
        assert_eq!(text_with_tokens, format!("<|im_start|>{text}<|im_start|>"));
    }
}

/// Drafts change no text that obeys a grammar.
#[test]
fn drafts_obey_the_grammar() {
    let grammar = Grammar::JsonSchema(json!({
        "type": "array", "items": {"enum": ["alpha", "beta", {"gamma": [1, 2]}]}, "minItems": 4, "maxItems": 6,
    }));
    for (plain, drafted) in generators().iter().zip(generators()) {
        let drafted = drafted.with_drafts(4, None, "cpu").unwrap();
        for seed in 0..6 {
            let expected = generate(plain, &grammar, random(200, seed));
            let found = generate(&drafted, &grammar, random(200, seed));
            assert_eq!((&found.text, found.finish_reason), (&expected.text, expected.finish_reason));
        }
    }
}

#[test]
fn invalid_grammars_say_why() {
    let generator = &generators()[0];
    let limits = GrammarLimits { max_bytes: 60, max_depth: 3 };
    let check = |grammar: Grammar, expected: &str| {
        let error = generator.constraint(&grammar, &limits).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(Grammar::Regex("a".repeat(61)), "it is 61 bytes, more than the 60 allowed");
    check(Grammar::JsonSchema(json!([[[[1]]]])), "it is 4 levels deep, more than the 3 allowed");
    // llguidance would compile these until memory or the stack is full.
    check(Grammar::JsonSchema(json!({"enum": ["x", i64::MIN]})), "the number -9223372036854775808");
    check(Grammar::JsonSchema(json!({"type": "integer", "maximum": -1e300})), "the number -1e+300, but");
    check(Grammar::Lark(format!("start: %json {{\"minimum\": {}}}", i64::MIN)), "the number -9223372036854775808");
    check(Grammar::Regex("(".to_owned()), "");
    check(Grammar::Lark("start: nothing".to_owned()), "nothing");
    check(Grammar::JsonSchema(json!({"type": "nothing"})), "nothing");
}
