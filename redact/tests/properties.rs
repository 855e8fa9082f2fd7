//! Properties of redaction that hold for any text.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use redact::{Action, Config, KINDS, Kind, Redactor};

fn all() -> Redactor {
    Redactor::new(&Config::default()).expect("the default is valid")
}

#[test]
fn finds_are_replaced_by_typed_placeholders() {
    let redactor = all();
    let check = |text: &str, expected: &str, kinds: &[Kind]| {
        let redacted = redactor.redact(text);
        assert_eq!(redacted.text, expected, "{text:?}");
        let count = |kind: &Kind| kinds.iter().filter(|other| *other == kind).count() as u32;
        assert_eq!(redacted.counts.to_vec(), Kind::ALL.iter().map(count).collect::<Vec<_>>(), "{text:?}");
    };
    check("", "", &[]);
    check("nothing here", "nothing here", &[]);
    check("Write to ada@lovelace.net.", "Write to <EMAIL>.", &[Kind::Email]);
    check("tél. 01 99 00 12 34, ada@lovelace.net", "tél. <PHONE>, <EMAIL>", &[Kind::Phone, Kind::Email]);
    check("a@b.io a@b.io", "<EMAIL> <EMAIL>", &[Kind::Email, Kind::Email]);
    check("/home/lovelace/.ssh", "/home/<USER>/.ssh", &[Kind::User]);
    check("é45.83.12.7é", "é45.83.12.7é", &[]);
    check("«45.83.12.7»", "«<IPV4>»", &[Kind::Ipv4]);
    // Of two overlapping finds, the one of higher precedence.
    check("/home/ada@lovelace.net/", "/home/<EMAIL>/", &[Kind::Email]);
}

#[test]
fn kinds_and_actions_are_configurable() {
    let text = "ada@lovelace.net from 10.1.2.3, ADA@work.lovelace.net";
    let check = |table: &str, expected: &str, dropped: bool| {
        let config: Config = toml::from_str(table).expect(table);
        let redacted = Redactor::new(&config).expect(table);
        let redacted = redacted.redact(text);
        assert_eq!((&*redacted.text, redacted.dropped), (expected, dropped), "{table}");
    };
    check("", "<EMAIL> from 10.1.2.3, <EMAIL>", false);
    check("private_addresses = true", "<EMAIL> from <IPV4>, <EMAIL>", false);
    check("kinds = ['iban']", text, false);
    check("kinds = ['iban']\naction = 'drop'", text, false);
    check("action = 'drop'", "<EMAIL> from 10.1.2.3, <EMAIL>", true);
    check("actions = { email = 'drop' }", "<EMAIL> from 10.1.2.3, <EMAIL>", true);
    check("actions = { secret = 'drop' }", "<EMAIL> from 10.1.2.3, <EMAIL>", false);
    check("action = 'drop'\nactions = { email = 'replace' }", "<EMAIL> from 10.1.2.3, <EMAIL>", false);
    check("allow = ['ada@WORK.lovelace.net']", "<EMAIL> from 10.1.2.3, ADA@work.lovelace.net", false);
}

#[test]
fn invalid_configurations_are_errors() {
    let check = |config: Config, expected: &str| assert_eq!(Redactor::new(&config).map(drop), Err(expected.to_owned()));
    let default = Config::default;
    check(Config { kinds: vec![], ..default() }, "kinds is empty; remove the step to disable redaction");
    check(Config { kinds: vec![Kind::Card, Kind::Card], ..default() }, "kinds has `card` twice");
    let actions = [(Kind::Iban, Action::Drop)].into();
    check(Config { kinds: vec![Kind::Card], actions, ..default() }, "actions has `iban`, which is not in kinds");
    check(Config { allow: vec![String::new()], ..default() }, "allow has an empty value");
    assert!(toml::from_str::<Config>("kinds = ['passport']").is_err());
    assert!(toml::from_str::<Config>("kind = ['email']").is_err());
}

#[test]
fn kinds_are_named_as_in_the_configuration() {
    for kind in Kind::ALL {
        let config: Config = toml::from_str(&format!("kinds = ['{}']", kind.name())).expect("a kind");
        assert_eq!(config.kinds, [kind]);
        assert_eq!(kind.placeholder(), format!("<{}>", kind.name().to_uppercase()));
    }
    assert_eq!(Kind::ALL.map(|kind| kind as usize).to_vec(), (0..KINDS).collect::<Vec<_>>());
}

#[test]
fn debug_shows_no_text() {
    let redactor = all();
    let shown = format!("{:?}", redactor.redact("call me: ada@lovelace.net"));
    assert_eq!(shown, "Redacted { text_bytes: 16, counts: [0, 1, 0, 0, 0, 0, 0, 0], dropped: false }");
}

/// Text on which a badly written search backtracks or rescans; see [`pieces_of`].
const ADVERSARIAL: &str = r#"
    @ 1 9 . : ␣ - + ( a a@ @a. a@a. a@b.com 1. 1␣ 12␣ 1- 01␣ 0123␣ 1234␣ 4111␣ 4111- +1 +1␣ (0) 00 :: 1: f: 2a00:
    1:: DE89 DE89␣ de eyJ eyJ- eyJ. ␣eyJ :// a:// a://a: a://a:b@ :AA 8Q~ -----BEGIN␣ -----BEGIN␣PRIVATE␣KEY-----
    -----BEGIN␣PRIVATE␣KEY-----a␣ ----- /home/ /home/a **/home/a /home/a␣ /Users/a␣ C:\Users\ C:\Users\a␣b sk- sk-a
    ghp_ ␣ghp_a
    glpat-a. token token= token=a secret:␣ Bearer␣ api_key=" [at] a[at]b a␣[at]␣ %40 a%40b x␣[dot]␣ é 电话 电话1 ⍽1 –1
    phone␣ phone␣1 call␣1234567␣ 1x 415-555-0199␣ 415-555-0199␣x1 ⏎1.1.1.1␣a =1.1.1.1 x=1.1.1.1␣ SG.a 1.2.3.4␣
    a.b@c.d.e.f. x@y.Com. 1234567␣ 12345678901234567␣ key- AKIA ' " \ / ~ < <USER> <EMAIL>@
"#;

/// Parts of finds and of their context; see [`pieces_of`].
const PARTS: &str = r#"
    ada@lovelace.net ada␣[at]␣lovelace␣[dot]␣net 45.83.12.7 2a00:1450:4001:81b::200e 4111␣1111␣1111␣1111
    4111111111111111 DE89␣3704␣0044␣0532␣0130␣00 GB29NWBK60161331926819 +44␣20␣7946␣0958 (415)␣555-0199
    415-555-0199 01␣99␣00␣12␣34 555-0199 /home/lovelace/ C:\Users\Ada␣Lovelace\ /Users/ /home/ token= Bearer␣
    api_key:␣" phone␣ tel:␣ version␣ order␣ +1␣ https:// ada:Tr0ub4dor @ . : :: - ␣ ⏎ / " ' < > = ( ) + 0 1 12 123
    4111 2a00: a x é 电话 ghp_ a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8 sk- eyJ <EMAIL> <USER> <PHONE> <SECRET> .com
    .net ext.␣12 %40 ssh␣
"#;

/// Returns the pieces of a space-separated list, with `␣`, `⍽` and `⏎` for a space, a no-break space and a line feed.
fn pieces_of(list: &str) -> Vec<String> {
    let written = |piece: &str| piece.replace('␣', " ").replace('⍽', "\u{a0}").replace('⏎', "\n");
    list.split_ascii_whitespace().map(written).collect()
}

#[test]
fn time_is_linear_in_adversarial_texts() {
    let redactor = all();
    // The slowest takes 150 ms of one core in release; quadratic time would be minutes.
    let most = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });
    for piece in pieces_of(ADVERSARIAL) {
        let text = piece.repeat((1 << 20) / piece.len());
        let time = || {
            let start = Instant::now();
            redactor.redact(&text);
            start.elapsed()
        };
        // Other programs may run at the same time: one fast run of several is enough.
        assert!((0..5).any(|_| time() < most), "1 MB of {piece:?} takes more than {most:?}");
    }
}

/// Parts of finds and of their context in any order, some repeated, since replacing one find may make a find of the
/// text after it.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(pieces_of(PARTS)),
        1 => "[0-9]{1,6}",
        1 => "[ -~]{1,4}",
        1 => "\\PC{1,2}",
    ];
    (prop::collection::vec(piece, 0..14), prop_oneof![3 => Just(1_usize), 1 => 2_usize..8])
        .prop_map(|(pieces, times)| pieces.concat().repeat(times))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn redaction_is_idempotent(text in texts()) {
        let redactor = all_once();
        let once = redactor.redact(&text);
        let twice = redactor.redact(&once.text);
        prop_assert_eq!(&twice.text, &once.text);
        prop_assert_eq!(twice.counts, [0; KINDS]);
    }

    #[test]
    fn counts_equal_the_new_placeholders(text in texts()) {
        let redacted = all_once().redact(&text);
        for kind in Kind::ALL {
            let count = |text: &str| text.matches(kind.placeholder()).count();
            prop_assert_eq!(count(&redacted.text) - count(&text), redacted.counts[kind as usize] as usize);
        }
        prop_assert_eq!(redacted.counts == [0; KINDS], redacted.text == text);
    }
}

/// Returns a redactor that is created once, since compiling the patterns takes longer than a case.
fn all_once() -> &'static Redactor {
    static REDACTOR: std::sync::OnceLock<Redactor> = std::sync::OnceLock::new();
    REDACTOR.get_or_init(all)
}
