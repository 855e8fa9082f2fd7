//! Conversations in their published formats.

use data_ingest::{Format, Source};

use crate::check_file;
use crate::corpus::{collect_into, context, one, rows, write};

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]

    #[test]
    fn conversations_are_unchanged(
        chats in proptest::collection::vec(
            (proptest::bool::ANY, proptest::collection::vec(".{0,20}[a-z]", 1..5)),
            1..20,
        ),
    ) {
        let turns = |(has_system, texts): &(bool, Vec<String>)| {
            let system = has_system.then(|| ("system".to_owned(), "Be brief.".to_owned()));
            let pairs = texts.iter().flat_map(|text| [("user", text.clone()), ("assistant", format!("{text}!"))]);
            system.into_iter().chain(pairs.map(|(role, text)| (role.to_owned(), text))).collect::<Vec<_>>()
        };
        let expected: Vec<Vec<(String, String)>> = chats.iter().map(turns).collect();
        let line = |chat: &Vec<(String, String)>| {
            let turn = |(role, content): &(String, String)| serde_json::json!({ "role": role, "content": content });
            serde_json::json!({ "messages": chat.iter().map(turn).collect::<Vec<_>>() }).to_string()
        };
        let jsonl: Vec<String> = expected.iter().map(line).collect();
        let base = tempfile::tempdir().unwrap();
        write(base.path(), &[("a.jsonl", jsonl.join("\n").as_bytes())]);
        let chat = Some(data_ingest::Chat::Messages);
        let config = one(Source { path: Some("a.jsonl".to_owned()), chat, ..Source::default() });
        let out = tempfile::tempdir().unwrap();
        collect_into(&config, &context(base.path()), out.path()).unwrap();
        let found: Vec<_> = rows(out.path()).into_iter().map(|row| row.messages.unwrap()).collect();
        proptest::prop_assert_eq!(&found, &expected);
        // The corpus itself is a table of conversations.
        let again = tempfile::tempdir().unwrap();
        let shard = out.path().join("documents-00000.parquet").to_str().unwrap().to_owned();
        let config = one(Source { path: Some(shard), chat, ..Source::default() });
        collect_into(&config, &context(base.path()), again.path()).unwrap();
        let found: Vec<_> = rows(again.path()).into_iter().map(|row| row.messages.unwrap()).collect();
        proptest::prop_assert_eq!(&found, &expected);
    }
}

#[test]
fn conversations_become_messages() {
    let turns = "[(\"user\", \"Hi\"), (\"assistant\", \"Hello\")]";
    let chat = |chat| Source { chat: Some(chat), ..Source::default() };
    let openai = b"{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \
        \"Hello\"}]}\n{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}\n{\"messages\": null}\n{\"text\": \
        \"no\"}\n";
    check_file(
        "a.jsonl",
        openai,
        chat(data_ingest::Chat::Messages),
        &[
            &format!("s/a.jsonl#1: {turns}"),
            "1 null",
            "a.jsonl line 2 [chat]: it has no turn of the assistant, so nothing is learned",
            "a.jsonl line 4 [no_column]: no `messages`; it has `text` (see `messages_column`)",
        ],
    );
    let sharegpt = b"[{\"id\": 1, \"conversations\": [{\"from\": \"human\", \"value\": \"Hi\"}, {\"from\": \"gpt\", \
        \"value\": \"Hello\"}]}]";
    let source = Source { format: Some(Format::Json), ..chat(data_ingest::Chat::Sharegpt) };
    check_file("a.json", sharegpt, source, &[&format!("s/a.json#1: {turns}")]);
    let alpaca = chat(data_ingest::Chat::Alpaca);
    check_file("a.csv", b"instruction,output\nHi,Hello\n", alpaca.clone(), &[&format!("s/a.csv#1: {turns}")]);
    check_file(
        "a.csv",
        b"output,input,instruction\nHello,there,Hi\n,,Hi\n",
        alpaca,
        &[
            "s/a.csv#1: [(\"user\", \"Hi\\n\\nthere\"), (\"assistant\", \"Hello\")]",
            "a.csv row 2 [chat]: turn 2: it is empty",
        ],
    );
    let chat_columns = data_ingest::ChatColumns {
        instruction: Some("prompt".to_owned()),
        output: Some("completion".to_owned()),
        ..data_ingest::ChatColumns::default()
    };
    let source = Source { chat_columns: Some(chat_columns), ..chat(data_ingest::Chat::Alpaca) };
    check_file(
        "a.jsonl",
        b"{\"prompt\": \"Hi\", \"completion\": \"Hello\", \"system\": \"\"}\n\
          {\"prompt\": \"Hi\", \"completion\": \"Hello\", \"system\": \"Greet.\"}\n\
          {\"instruction\": \"Hi\", \"output\": \"Hello\"}\n",
        source.clone(),
        &[
            &format!("s/a.jsonl#1: {turns}"),
            "s/a.jsonl#2: [(\"system\", \"Greet.\"), (\"user\", \"Hi\"), (\"assistant\", \"Hello\")]",
            "a.jsonl line 3 [no_column]: no `prompt`, `completion`; it has `instruction`, `output` \
             (see `chat_columns`)",
        ],
    );
    check_file(
        "a.csv",
        b"instruction,output\nHi,Hello\n",
        source,
        &["<base>/a.csv has no column `prompt`; it has `instruction`, `output`: set the source's `chat_columns`; \
           or leave the file out with `exclude`, and give it a source of its own"],
    );
    let source = Source { messages_column: Some("m".to_owned()), ..chat(data_ingest::Chat::Messages) };
    let cell = "\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"Hi\"\"}, {\"\"role\"\": \"\"assistant\"\", \
        \"\"content\"\": \"\"Hello\"\"}]\"";
    check_file("a.csv", format!("m\n{cell}\n").as_bytes(), source, &[&format!("s/a.csv#1: {turns}")]);
}

#[test]
fn the_digest_of_a_conversation_is_that_of_its_compact_json() {
    let base = tempfile::tempdir().unwrap();
    let line = "{\"messages\": [{\"content\": \"H\\u00e4?\", \"role\": \"user\"}, {\"role\": \"assistant\", \
        \"content\": \"Ja\"}]}";
    write(base.path(), &[("a.jsonl", line.as_bytes())]);
    let chat = Some(data_ingest::Chat::Messages);
    let config = one(Source { path: Some("a.jsonl".to_owned()), chat, ..Source::default() });
    let out = tempfile::tempdir().unwrap();
    collect_into(&config, &context(base.path()), out.path()).unwrap();
    let json = "[{\"role\":\"user\",\"content\":\"Hä?\"},{\"role\":\"assistant\",\"content\":\"Ja\"}]";
    let row = &rows(out.path())[0];
    assert_eq!((row.bytes, row.sha256.clone()), (json.len() as u64, artifact::Digest::of(json.as_bytes()).to_string()));
    assert_eq!((&row.text, &row.raw), (&None, &None));
}
