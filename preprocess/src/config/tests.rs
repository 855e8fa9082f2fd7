use super::*;

fn check(json: &str, expected: Result<(), &str>) {
    let config: Config = serde_json::from_str(json).unwrap();
    assert_eq!(config.validate().map_err(|e| e.to_string()), expected.map_err(str::to_owned), "{json}");
}

#[test]
fn invalid_values_are_reported_with_their_key() {
    check("{}", Ok(()));
    for preset in ["none", "web", "code", "chat"] {
        check(&format!(r#"{{"preset": "{preset}"}}"#), Ok(()));
    }
    check(r#"{"steps": []}"#, Ok(()));
    check(
        r#"{"length": {"min_bytes": 0}}"#,
        Err("preprocess.length.min_bytes is 0; an empty document has no tokens, so the minimum is 1"),
    );
    check(
        r#"{"length": {"max_bytes": 10}}"#,
        Err("preprocess.length.max_bytes is 10, less than preprocess.length.min_bytes = 64"),
    );
    check(r#"{"steps": ["repair", "repair"]}"#, Err("preprocess.steps contains `repair` twice; a step runs only once"));
    check(
        r#"{"steps": ["exact_duplicates", "length"], "length": {"long": "cut"}}"#,
        Err("preprocess.steps has `length`, which cuts documents, after `exact_duplicates`: put it first"),
    );
    check(
        r#"{"steps": ["decontaminate"]}"#,
        Err("preprocess.decontaminate.sets missing: name the files of the evaluation sets"),
    );
    check(
        r#"{"steps": ["near_duplicates"], "near_duplicates": {"bands": 0}}"#,
        Err("preprocess.near_duplicates.bands must be from 1 to 256"),
    );
    check(r#"{"near_duplicates": {"bands": 0}}"#, Ok(()));
    check(r#"{"test": 0.0}"#, Err("preprocess.test is 0, but must be between 0 and 1, a fraction of the documents"));
    check(
        r#"{"validation": 0.5, "test": 0.5}"#,
        Err("preprocess.validation = 0.5 and preprocess.test = 0.5 leave no documents for training"),
    );
    check(
        r#"{"tokenizer": {"vocab_size": 258}}"#,
        Err("preprocess.tokenizer.vocab_size is 258, but must be between 259 (the minimum that can encode any text, \
             special tokens included) and 1048576"),
    );
    check(
        r#"{"tokenizer": {"train_bytes": 0}}"#,
        Err("preprocess.tokenizer.train_bytes is 0, but must be between 1 and 1073741824"),
    );
    check(r#"{"tokenizer": {"vocab_size": 1, "file": "tokenizer.json"}}"#, Ok(()));
}

#[test]
fn the_fingerprint_omits_values_without_effect() {
    let value = |json: &str| serde_json::from_str::<Config>(json).unwrap().fingerprint_value();
    assert_eq!(value("{}"), value(r#"{"gopher_quality": {"min_words": 3}}"#));
    assert_eq!(value(r#"{"preset": "none"}"#), value(r#"{"steps": ["repair", "length", "exact_duplicates"]}"#));
    assert_ne!(value("{}"), value(r#"{"length": {"min_bytes": 3}}"#));
    assert_ne!(value("{}"), value(r#"{"preset": "chat"}"#));
    // The preset's value of a key of C4 is included.
    let web = value(r#"{"preset": "web"}"#);
    assert_eq!(web["c4"]["drop_unterminated_lines"], false);
    assert_eq!(value(r#"{"steps": ["c4"]}"#)["c4"]["drop_unterminated_lines"], true);
    assert_eq!(serde_json::from_value::<Config>(web.clone()).unwrap().fingerprint_value(), web);
    let given =
        |vocab_size: usize| value(&format!(r#"{{"tokenizer": {{"file": "t.json", "vocab_size": {vocab_size}}}}}"#));
    assert_eq!(given(1000), given(2000));
    assert_ne!(value(r#"{"tokenizer": {"vocab_size": 1000}}"#), value(r#"{"tokenizer": {"vocab_size": 2000}}"#));
}

#[test]
fn values_are_overridden_by_key() {
    let with = |key: &str, new: Value| Config::default().with(&[(key.to_owned(), new)]);
    assert_eq!(with("length.min_bytes", json!(5)).unwrap().length.min_bytes, 5);
    assert_eq!(with("length.min_byte", json!(5)).unwrap_err().to_string(), "preprocess.length.min_byte is not a key");
    assert!(with("length.min_bytes", json!("x")).unwrap_err().to_string().starts_with("preprocess cannot be set"));
}

#[test]
fn manifests_of_the_release_before_are_read() {
    let config = Config { steps: Some(Step::ALL.to_vec()), ..Config::default() };
    let mut recorded = config.fingerprint_value();
    for (old, new) in RENAMED_KEYS {
        let ((table, old), (new_table, new)) = (old.rsplit_once('.').unwrap(), new.rsplit_once('.').unwrap());
        let value = recorded[new_table].as_object_mut().unwrap().shift_remove(new).unwrap();
        recorded[table][old] = value;
    }
    assert!(serde_json::from_value::<Config>(recorded.clone()).is_err());
    assert_eq!(Config::of_manifest(recorded).unwrap().fingerprint_value(), config.fingerprint_value());
}
