//! Sharded and interrupted runs write the same bytes as an uninterrupted one.

mod corpus;

use std::fs;
use std::path::Path;

use artifact::{Context, Event, Progress, Sealed};
use corpus::{seal, small, unlike, unsealed, write};
use preprocess::{Config, Error, Step};
use tempfile::TempDir;

/// Returns a corpus of several files with near and exact duplicates, and steps that need more than one pass.
fn several_passes() -> (TempDir, Sealed, Config) {
    let folder = tempfile::tempdir().unwrap();
    let mut all = unlike(60);
    for i in 0..10 {
        let mut near = all[i].clone();
        near.0 = format!("near-{i}");
        near.2.extend_from_slice(b"the last line, which the first has not.\n");
        let mut equal = all[i + 20].clone();
        equal.0 = format!("equal-{i}");
        all.extend([near, equal]);
    }
    let sealed = write(folder.path(), &all, 9);
    let mut config = small();
    config.steps =
        Some(vec![Step::Repair, Step::Code, Step::ExactDuplicates, Step::NearDuplicates, Step::Length, Step::Redact]);
    config.near_duplicates.similarity = 0.5;
    (folder, sealed, config)
}

fn run(config: &Config, corpus: &Sealed, out: &Path, context: &Context) -> Result<Sealed, Error> {
    let outcome = preprocess::run(config, corpus, &unsealed(out), context)?;
    Ok(seal(out, outcome))
}

#[test]
fn a_sharded_run_writes_the_bytes_of_one_run() {
    let (_folder, corpus, config) = several_passes();
    let (alone, apart) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let context = Context::quiet(0);
    let expected = run(&config, &corpus, alone.path(), &context).unwrap();
    assert!(expected.manifest().counts["dropped_near_duplicates"].as_u64().unwrap() > 0);
    assert_eq!(expected.manifest().counts["dropped_exact_duplicates"], 10);
    for part in [3, 1, 2] {
        preprocess::part(&config, &corpus, &unsealed(apart.path()), (part, 3), &context).unwrap();
    }
    let first_pass = apart.path().join(".work/pass-0");
    let made = |folder: &Path| fs::metadata(folder).unwrap().modified().unwrap();
    let times: Vec<_> = fs::read_dir(&first_pass).unwrap().map(|entry| made(&entry.unwrap().path())).collect();
    assert_eq!(times.len(), 9, "one folder for each file of the corpus");
    let found = run(&config, &corpus, apart.path(), &context).unwrap();
    assert_eq!(found.manifest().files, expected.manifest().files);
    assert!(!first_pass.exists(), "the unfinished work is deleted when the artifact is sealed");
}

#[test]
fn an_interrupted_run_resumes_to_the_same_bytes() {
    let (_folder, corpus, config) = several_passes();
    let (alone, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = run(&config, &corpus, alone.path(), &Context::quiet(0)).unwrap();
    let mut stops = 0;
    // Each attempt is interrupted one progress event later than the one before.
    for reports in 1_usize.. {
        let context = Context::quiet(0);
        let (cancel, count) = (context.cancel.clone(), std::sync::atomic::AtomicUsize::new(0));
        let progress = Progress::new(move |event| {
            if matches!(event, Event::Position(_) | Event::Begin { .. })
                && count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 >= reports
            {
                cancel.request();
            }
        });
        match run(&config, &corpus, stopped.path(), &Context { progress, ..context }) {
            Err(Error::Interrupted) => stops += 1,
            Ok(found) => {
                assert_eq!(found.manifest().files, expected.manifest().files);
                break;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(stops > 5, "only {stops} stops");
}

#[test]
fn unfinished_files_of_a_killed_process_are_written_again() {
    let (_folder, corpus, config) = several_passes();
    let (alone, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let context = Context::quiet(0);
    let expected = run(&config, &corpus, alone.path(), &context).unwrap();
    preprocess::part(&config, &corpus, &unsealed(killed.path()), (1, 2), &context).unwrap();
    let unfinished = killed.path().join(".work/pass-0/00001.unfinished");
    fs::create_dir_all(&unfinished).unwrap();
    fs::write(unfinished.join("texts"), "half of a tex").unwrap();
    fs::write(killed.path().join("train-00007.safetensors"), "left").unwrap();
    let found = run(&config, &corpus, killed.path(), &context).unwrap();
    assert_eq!(found.manifest().files, expected.manifest().files);
}
