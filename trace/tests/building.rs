//! The stage: what it writes, and what it does about what it cannot use.

mod tokens;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use artifact::{Cancel, Context, Event, Progress};
use tokens::{Documents, build, run, seal, unsealed, words, write};
use trace::{Config, Error, Index};

fn documents() -> Documents {
    (0..40_u32).map(|d| (0..50 + d).map(|i| 1 + (d * 977 + i * i * 31) % 90).collect()).collect()
}

fn config() -> Config {
    Config { block_tokens: 700, ..Config::default() }
}

#[test]
fn the_bytes_depend_on_neither_threads_nor_shards() {
    let folder = tempfile::tempdir().unwrap();
    let digest = |threads: usize, shard_bytes: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let at = folder.path().join(format!("{threads}-{shard_bytes}"));
        let tokens = write(&at.join("tokens"), &words(100), &documents(), shard_bytes);
        let sealed = pool.install(|| run(&config(), &tokens, &at.join("index"))).unwrap();
        assert!(sealed.files("block-").len() > 2);
        sealed.digest()
    };
    let one = digest(1, 500);
    assert_eq!(digest(2, 500), one);
    assert_eq!(digest(2, 1 << 20), one);
}

#[test]
fn a_killed_stage_continues_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = write(&folder.path().join("tokens"), &words(100), &documents(), 500);
    let whole = run(&config(), &tokens, &folder.path().join("whole")).unwrap();
    let out = unsealed(&folder.path().join("killed"));
    // What a process that was killed may leave: blocks, a part of one under another name, files of another attempt.
    fs::create_dir(out.path(".work")).unwrap();
    fs::write(out.path(".tmpAbc"), "half a block").unwrap();
    fs::write(out.path(".recipe.json"), "{}").unwrap();
    fs::write(out.path("index.json"), "{").unwrap();
    fs::write(out.path("block-00099.safetensors"), "old").unwrap();
    let (cancel, blocks) = (Cancel::default(), Arc::new(AtomicUsize::new(0)));
    let progress = {
        let (cancel, blocks) = (cancel.clone(), Arc::clone(&blocks));
        Progress::new(move |event| {
            if matches!(event, Event::Position(_)) && blocks.fetch_add(1, Ordering::SeqCst) == 1 {
                cancel.request();
            }
        })
    };
    let context = Context { cancel, progress, ..Context::quiet(0) };
    assert!(matches!(trace::run(&config(), &tokens, &out, &context), Err(Error::Interrupted)));
    let first = out.path("block-00000.safetensors");
    let written = fs::metadata(&first).unwrap().modified().unwrap();
    assert!(!out.path("block-00002.safetensors").exists() && !out.path("block-00099.safetensors").exists());
    assert!(!out.path(".tmpAbc").exists() && out.path(".recipe.json").is_file(), "it still says what it needs");
    // As of an index that lost the end of a file and is built again in its folder.
    let second = fs::File::options().write(true).open(out.path("block-00001.safetensors")).unwrap();
    second.set_len(second.metadata().unwrap().len() - 8).unwrap();
    let outcome = trace::run(&config(), &tokens, &out, &Context::quiet(0)).unwrap();
    assert_eq!(fs::metadata(&first).unwrap().modified().unwrap(), written, "a finished block is kept");
    assert_eq!(seal(out, outcome).digest(), whole.digest());
}

#[test]
fn too_much_training_data_is_said_and_not_indexed() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = write(&folder.path().join("tokens"), &words(100), &documents(), 500);
    for max_tokens in [0, 2_819] {
        let sealed = run(&Config { max_tokens, ..config() }, &tokens, &folder.path().join("index")).unwrap();
        assert_eq!(sealed.files(""), ["index.json"]);
        let notice = sealed.manifest().counts[artifact::NOTICES][0].as_str().unwrap();
        assert!(notice.contains("the training data has 2,820 tokens, and index.max_tokens is"), "{notice}");
        let error = Index::open(&sealed).unwrap_err();
        assert!(matches!(error, Error::NotBuilt { tokens: 2_820, .. }));
        assert!(error.to_string().ends_with("; raise it and run again"), "{error}");
    }
    run(&Config { max_tokens: 2_820, ..config() }, &tokens, &folder.path().join("index")).unwrap();
}

/// Changes the first block of an index and seals it again, so that only its content is wrong.
fn check_invalid(change: impl FnOnce(&Path), expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let tokens = write(&folder.path().join("tokens"), &words(100), &documents(), 1 << 20);
    let out = unsealed(&folder.path().join("index"));
    let outcome = trace::run(&Config::default(), &tokens, &out, &Context::quiet(0)).unwrap();
    let path = out.path("block-00000.safetensors");
    change(&path);
    let error = Index::open(&seal(out, outcome)).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{} is not a file of an index: ", path.display())), "{error}");
    assert!(error.contains(expected), "{error}");
}

fn replace(path: &Path, from: &str, to: &str) {
    let bytes = fs::read(path).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    fs::write(path, [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()).unwrap();
}

#[test]
fn a_file_that_is_no_part_of_an_index_is_an_error_that_names_it() {
    check_invalid(|path| fs::write(path, "text").unwrap(), "");
    check_invalid(|path| replace(path, "\"suffix_array\"", "\"suffix_arrax\""), "it has no tensor `suffix_array`");
    check_invalid(
        |path| replace(path, "\"text\":{\"dtype\":\"U16\"", "\"text\":{\"dtype\":\"I16\""),
        "tensor `text` has dtype I16, expected U16",
    );
    check_invalid(
        |path| {
            // The last value of the suffix array, before the text and the documents.
            let mut bytes = fs::read(path).unwrap();
            let at = bytes.len() - 2 * 2_820 - documents_bytes(&bytes) - 1;
            bytes[at] = 0x7f;
            fs::write(path, bytes).unwrap();
        },
        "and `text` has 2820 symbols",
    );
}

/// Returns the length of the documents in a block.
fn documents_bytes(block: &[u8]) -> usize {
    let header = u64::from_le_bytes(block[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&block[8..8 + header]).unwrap();
    header["documents"]["shape"][0].as_u64().unwrap() as usize
}

#[test]
fn a_file_that_differs_from_its_manifest_is_an_error_that_names_it() {
    let built = build(&words(100), &documents(), 500, 700);
    let path = built.sealed.folder().join("block-00001.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = Index::open(&built.sealed).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{} is corrupt", path.display())), "{error}");
}
