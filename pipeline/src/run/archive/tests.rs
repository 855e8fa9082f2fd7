//! Archives made by `pack` come back as they were; archives made by others are refused.

use std::fs;

use artifact::{Host, Outcome, Recipe, StoreLayout};
use serde_json::json;
use tar::EntryType::{Directory, GNULongName, Link, Regular, Symlink, XHeader};
use tempfile::TempDir;

use super::*;
use crate::run::record::{StageRecord, Status};
use crate::run::stage::Stage;

const MAX_BYTES: u64 = 1 << 20;

/// The members of an archive.
type Members = Vec<(tar::Header, Vec<u8>)>;

/// A store with one run of two stages, the first of which was made from an import.
fn store() -> (TempDir, StoreLayout, Run) {
    let folder = tempfile::tempdir().unwrap();
    let layout = StoreLayout::new(folder.path().join("store"));
    let store = layout.artifacts();
    let mut run = Run::create(&layout, "code").unwrap();
    let mut digest = None;
    for (stage, name) in [(None, "import"), (Some(Stage::Collect), "collect"), (Some(Stage::Train), "train")] {
        let recipe = Recipe {
            stage: name.to_owned(),
            stage_version: 1,
            config: json!({"steps": 3}),
            inputs: digest.map(|digest| ("input".to_owned(), digest)).into_iter().collect(),
            seed: 1,
            device_class: None,
        };
        let out = store.begin(recipe).unwrap();
        fs::create_dir(out.path("part")).unwrap();
        fs::write(out.path("part/data.bin"), name.repeat(1000)).unwrap();
        fs::write(out.path("empty"), "").unwrap();
        let sealed = out.seal(Outcome::default(), 1.0, Host::default()).unwrap();
        digest = Some(sealed.digest());
        run.record
            .stages
            .extend(stage.map(|stage| StageRecord::new(stage, true, "never run before".to_owned(), &sealed)));
    }
    let answers = answers::of_artifact(&layout, digest.unwrap());
    fs::create_dir(layout.answers()).unwrap();
    fs::write(answers, "{}\n").unwrap();
    fs::write(layout.answers().join("0123456789ab.jsonl"), "of another model").unwrap();
    run.record.status = Status::Finished;
    run.save().unwrap();
    fs::write(run.folder.join(config::FILE_NAME), "seed = 1\n").unwrap();
    (folder, layout, run)
}

/// Returns the members of an archive.
fn members(archive: &Path) -> Members {
    let mut archive = tar::Archive::new(zstd::Decoder::new(File::open(archive).unwrap()).unwrap());
    let entries = archive.entries().unwrap().raw(true);
    entries
        .map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.header().clone(), content)
        })
        .collect()
}

fn write_members(path: &Path, members: &[(tar::Header, Vec<u8>)]) {
    let mut builder = tar::Builder::new(zstd::Encoder::new(File::create(path).unwrap(), 1).unwrap());
    for (header, content) in members {
        builder.append(header, content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap();
}

fn name(header: &tar::Header) -> String {
    String::from_utf8(header.path_bytes().into_owned()).unwrap()
}

/// Returns a header of a file with any name, safe or not.
fn header(name: &str, bytes: usize, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(bytes as u64);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<String> = entries
        .flatten()
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() => files(&path),
            path => vec![path.display().to_string()],
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a_run_comes_back_as_it_was() {
    let (folder, layout, run) = store();
    let archive = folder.path().join("a.tar.zst");
    let packed = pack(&run, &archive).unwrap();
    assert_eq!(packed.artifacts, 3, "the import too");
    let again = folder.path().join("b.tar.zst");
    pack(&run, &again).unwrap();
    assert_eq!(fs::read(&archive).unwrap(), fs::read(&again).unwrap());

    let other = StoreLayout::new(folder.path().join("other"));
    let imported = unpack(&archive, &other, MAX_BYTES).unwrap();
    assert_eq!((imported.run.record.name.as_str(), imported.added, imported.was_known), ("code-001", 3, false));
    for stage in &imported.run.record.stages {
        assert!(Sealed::open(&imported.run.artifact_folder(stage)).unwrap().verify().is_empty());
    }
    let relative = |layout: &StoreLayout| -> Vec<String> {
        let root = layout.root().display().to_string();
        files(layout.root())
            .iter()
            .map(|path| path.replace(&root, ""))
            .filter(|path| !path.ends_with("/.lock"))
            .collect()
    };
    let mut of_run = relative(&layout);
    of_run.retain(|path| !path.ends_with("/0123456789ab.jsonl"));
    assert_eq!(relative(&other), of_run);

    let known = unpack(&archive, &other, MAX_BYTES).unwrap();
    assert!(known.was_known && known.added == 0);
    fs::write(known.run.artifact_folder(&known.run.record.stages[0]).join("part/data.bin"), "short").unwrap();
    let repaired = unpack(&archive, &other, MAX_BYTES).unwrap();
    assert!(repaired.was_known && repaired.added == 1);
    assert_eq!(relative(&other), of_run);
    let mut run = imported.run;
    run.record.wall_seconds = 9.0;
    run.save().unwrap();
    let renamed = unpack(&archive, &other, MAX_BYTES).unwrap();
    assert_eq!((renamed.run.record.name.as_str(), renamed.original_name.as_str()), ("code-002", "code-001"));
}

#[test]
fn a_run_with_a_changed_artifact_is_not_exported() {
    let (folder, _, run) = store();
    let archive = folder.path().join("a.tar.zst");
    fs::write(run.artifact_folder(&run.record.stages[1]).join("part/data.bin"), "trail".repeat(1000)).unwrap();
    let error = format!("{:#}", pack(&run, &archive).unwrap_err());
    assert!(error.contains("run code-001 cannot be exported") && error.contains("data.bin is corrupt"), "{error}");
    assert!(!archive.exists());
}

#[test]
fn nothing_of_a_hostile_archive_reaches_the_store() {
    let (folder, _, run) = store();
    let archive = folder.path().join("a.tar.zst");
    pack(&run, &archive).unwrap();
    let good = members(&archive);
    let at = |part: &str| good.iter().position(|(header, _)| name(header).contains(part)).unwrap();
    let (record, manifest, data) = (at(RECORD), at("collect-"), at("part/data.bin"));
    let collect = name(&good[manifest].0).split('/').nth(1).unwrap().to_owned();
    let check = |change: &dyn Fn(&mut Members), max_bytes: u64, expected: &str| {
        let mut members = good.clone();
        change(&mut members);
        let bad = folder.path().join("bad.tar.zst");
        write_members(&bad, &members);
        let other = StoreLayout::new(folder.path().join("other"));
        let error = format!("{:#}", unpack(&bad, &other, max_bytes).unwrap_err());
        assert!(error.contains(expected), "{expected} is not in: {error}");
        let left: Vec<String> = files(other.root()).into_iter().filter(|path| !path.ends_with("/.lock")).collect();
        assert!(left.is_empty(), "{expected} left {left:?}");
        assert!(!folder.path().join("outside").exists());
    };
    let replaced = |index: usize, content: Vec<u8>| {
        move |members: &mut Members| {
            let name = name(&members[index].0);
            members[index] = (header(&name, content.len(), Regular), content.clone());
        }
    };
    let added = |at: usize, name: String, kind: tar::EntryType| {
        move |members: &mut Members| members.insert(at, (header(&name, 0, kind), Vec::new()))
    };
    let edited_manifest = |from: &str, to: &str| {
        let text = String::from_utf8(good[manifest].1.clone()).unwrap();
        assert!(text.contains(from), "{text}");
        replaced(manifest, text.replace(from, to).into_bytes())
    };

    for kind in [Symlink, Link, Directory, GNULongName, XHeader] {
        check(&added(0, "run/log.txt".to_owned(), kind), MAX_BYTES, "is not a regular file");
    }
    for path in ["../outside", "/outside", "run/../../outside", "run/other", "artifacts/outside", "outside"] {
        check(&added(0, path.to_owned(), Regular), MAX_BYTES, "is not part of a run");
    }
    for folder in ["../outside", "collect-../../outside", "nothing-0123456789ab"] {
        check(&added(0, format!("artifacts/{folder}/manifest.json"), Regular), MAX_BYTES, "");
    }
    check(&added(0, format!("artifacts/{collect}/extra"), Regular), MAX_BYTES, "is in no manifest before it");
    check(
        &added(manifest + 1, format!("artifacts/{collect}/../outside"), Regular),
        MAX_BYTES,
        "is in no manifest before it",
    );
    check(&|members| drop(members.remove(data)), MAX_BYTES, "is missing from it");
    check(&|members| drop(members.remove(record)), MAX_BYTES, "has no run/run.json");
    check(&|members| members.push(members[data].clone()), MAX_BYTES, "is in no manifest before it");
    check(&|members| members.insert(0, members[record].clone()), MAX_BYTES, "two members");
    for label in ["nothing", "../outside", ""] {
        let name = format!("answers/{label}.jsonl");
        check(
            &|members| members.push((header(&name, 0, Regular), Vec::new())),
            MAX_BYTES,
            "is of no artifact before it",
        );
    }
    check(&|members| members.push(members[at("answers/")].clone()), MAX_BYTES, "has two members");
    let mut flipped = good[data].1.clone();
    flipped[0] ^= 1;
    check(&replaced(data, flipped), MAX_BYTES, "its SHA-256 is");
    check(&replaced(data, good[data].1[1..].to_vec()), MAX_BYTES, "but its manifest says");
    check(&edited_manifest("part/data.bin", "../data.bin"), MAX_BYTES, "its digest is not that of its files");
    check(&edited_manifest("\"seed\": 1", "\"seed\": 2"), MAX_BYTES, "its fingerprint is not that of its recipe");
    check(&replaced(manifest, b"{".to_vec()), MAX_BYTES, "is not a valid manifest");
    let text = String::from_utf8(good[record].1.clone()).unwrap();
    for other in ["../out", "../out-001", ".out-001", "latest", "best", "best-1", "a b-001"] {
        check(&replaced(record, text.replace("code-001", other).into_bytes()), MAX_BYTES, "not one of a run");
    }
    let commanding = text.replace("never run before", "\\u001b[2J");
    check(&replaced(record, commanding.into_bytes()), MAX_BYTES, "its record has characters that command a terminal");
    let headline = ("\"headline\": \"\"", "\"headline\": \"\\u001b[2J\"");
    check(&edited_manifest(headline.0, headline.1), MAX_BYTES, "its texts have characters that command a terminal");
    check(&replaced(record, text.replace("\"train\"", "\"optimize\"").into_bytes()), MAX_BYTES, "its record names");
    check(&|_| (), 3000, "unpacks to more than 3000 bytes");
}

#[test]
fn a_manifest_with_files_outside_its_folder_is_refused() {
    for (name, expected) in [("a", true), ("a/b.c", true), ("../a", false), ("a/../b", false), ("/a", false)] {
        assert_eq!(unpack::is_plain(name), expected, "{name}");
    }
    for name in ["", "a//b", "a/", ".a", "a/.b", "manifest.json", "a\\b", "C:a", "a\0b"] {
        assert!(!unpack::is_plain(name), "{name}");
    }
}

#[test]
fn a_truncated_archive_and_other_files_are_refused() {
    let (folder, _, run) = store();
    let archive = folder.path().join("a.tar.zst");
    pack(&run, &archive).unwrap();
    let bytes = fs::read(&archive).unwrap();
    let other = StoreLayout::new(folder.path().join("other"));
    for content in [&bytes[..bytes.len() / 2], &bytes[..bytes.len() - 4], &b"text"[..], &[]] {
        let bad = folder.path().join("bad.tar.zst");
        fs::write(&bad, content).unwrap();
        unpack(&bad, &other, MAX_BYTES).unwrap_err();
        assert!(files(&other.runs()).is_empty());
    }
}

#[test]
fn an_artifact_with_other_content_is_not_replaced() {
    let (folder, _, run) = store();
    let archive = folder.path().join("a.tar.zst");
    pack(&run, &archive).unwrap();
    let other = StoreLayout::new(folder.path().join("other"));
    let out = other.artifacts().begin(run.record.stages[1].recipe.clone()).unwrap();
    fs::write(out.path("data"), "of another machine").unwrap();
    let digest = out.seal(Outcome::default(), 1.0, Host::default()).unwrap().digest();
    let error = format!("{:#}", unpack(&archive, &other, MAX_BYTES).unwrap_err());
    assert!(error.contains("with other content"), "{error}");
    assert_eq!(Sealed::open(&other.artifacts().folder(&run.record.stages[1].recipe)).unwrap().digest(), digest);
    assert!(files(&other.runs()).is_empty());
}
