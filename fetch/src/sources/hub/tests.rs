use artifact::Context;

use super::*;

fn environment(variables: &[(&str, &str)]) -> Environment {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Environment { home: None, variables }
}

fn options() -> Options {
    Options {
        table: "collect",
        cache: "cache".to_owned(),
        max_download_bytes: 1,
        download_attempts: 1,
        hub_endpoint: None,
        allow_private: false,
        locked: false,
    }
}

/// Calls `check` with a connection to `owner/name` of the hub that `environment` names.
fn with_connection(environment: &Environment, check: impl Fn(&Connection<'_>)) {
    let (options, context) = (options(), Context::quiet(1));
    let remote = RemoteContext::new(&options, &context, environment).unwrap();
    check(&Connection::new(&HubRepository::parse("owner/name").unwrap(), &remote).unwrap());
}

#[test]
fn a_local_copy_is_inside_the_cache() {
    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    let base = tempfile::tempdir().unwrap();
    let snapshot = base.path().join(format!("models--owner--name/snapshots/{COMMIT}"));
    std::fs::create_dir_all(snapshot.join("x")).unwrap();
    for path in ["secret", "x/y"] {
        std::fs::write(snapshot.join(path), "").unwrap();
    }
    with_connection(&environment(&[("HF_HUB_CACHE", base.path().to_str().unwrap())]), |connection| {
        assert_eq!(connection.local_copy(COMMIT, "x/y"), Some(snapshot.join("x/y")));
        let absolute = snapshot.join("secret").to_str().unwrap().to_owned();
        for path in ["x", "none", "x/../secret", &absolute] {
            assert_eq!(connection.local_copy(COMMIT, path), None, "{path}");
        }
        for commit in ["", "..", snapshot.to_str().unwrap()] {
            assert_eq!(connection.local_copy(commit, "secret"), None, "{commit}");
        }
    });
}

#[test]
fn the_token_is_read_from_where_the_hubs_programs_write_it() {
    let home = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = home.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let named = write("named", " hf_named\n");
    write(".cache/huggingface/token", "hf_cached\n");
    write("hf/token", "hf_home");
    write("xdg/huggingface/token", "hf_xdg");
    let (hf, xdg) = (home.path().join("hf"), home.path().join("xdg"));
    let (hf, xdg) = (hf.to_str().unwrap(), xdg.to_str().unwrap());
    let check = |variables: &[(&str, &str)], expected: Option<&str>| {
        let environment = Environment { home: Some(home.path().to_owned()), ..environment(variables) };
        assert_eq!(token(&environment).as_deref(), expected, "{variables:?}");
    };
    check(&[], Some("hf_cached"));
    check(&[("XDG_CACHE_HOME", xdg)], Some("hf_xdg"));
    check(&[("XDG_CACHE_HOME", xdg), ("HF_HOME", hf)], Some("hf_home"));
    check(&[("HF_TOKEN_PATH", &named), ("HF_HOME", hf)], Some("hf_named"));
    check(&[("HF_TOKEN", "hf_set"), ("HF_TOKEN_PATH", &named)], Some("hf_set"));
    check(&[("HF_TOKEN", "hf_set"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")], None);
    check(&[("HF_TOKEN", "two\nlines"), ("HF_HOME", "/nowhere")], None);
}

#[test]
fn the_endpoint_must_use_tls_unless_private_addresses_are_allowed() {
    let check = |configured: Option<&str>, variables: &[(&str, &str)], expected: &str| {
        let options = Options { hub_endpoint: configured.map(str::to_owned), ..options() };
        let found = endpoint(&options, &environment(variables)).map_or_else(|e| e.to_string(), |url| url.to_string());
        assert!(found.starts_with(expected), "{found}");
    };
    check(None, &[], "https://huggingface.co/");
    check(None, &[("HF_ENDPOINT", "https://mirror.example/hub")], "https://mirror.example/hub");
    check(Some("https://a.example"), &[("HF_ENDPOINT", "https://b.example")], "https://a.example/");
    check(Some("http://a.example"), &[], "collect.hub_endpoint: must begin with https://");
    check(None, &[("HF_ENDPOINT", "mirror")], "HF_ENDPOINT: `mirror`: not a URL");
}

#[test]
fn addresses_of_files_are_encoded() {
    with_connection(&environment(&[("HF_ENDPOINT", "https://mirror.example/hub/")]), |connection| {
        let url = connection.file_url("feature/x", "a dir/100% #1?.txt");
        let expected = "https://mirror.example/hub/owner/name/resolve/feature%2Fx/a%20dir/100%25%20%231%3F.txt";
        assert_eq!(url.as_str(), expected);
    });
}

#[test]
fn several_licences_are_joined() {
    let check = |card: &str, expected: Option<&str>| {
        assert_eq!(licence(&serde_json::from_str(card).unwrap()).as_deref(), expected, "{card}");
    };
    check("{\"license\": \"cc-by-4.0\"}", Some("cc-by-4.0"));
    check("{\"license\": [\"mit\", \"apache-2.0\"]}", Some("mit AND apache-2.0"));
    check("{\"license\": []}", None);
    check("{}", None);
    check("null", None);
}
