//! The documentation matches the repository: links lead somewhere, and configuration examples have no unknown key.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Returns every Markdown file that people read: those at the root and those of the book.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut folders = vec![root().join("docs")];
    let is_page = |path: &Path| path.extension().is_some_and(|extension| extension == "md");
    pages.extend(fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| is_page(path)));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if is_page(&path) {
                pages.push(path);
            }
        }
    }
    assert!(pages.len() > 15, "only {} pages", pages.len());
    pages
}

/// Returns the text with its fenced code blocks left out, and the blocks as (language, code).
fn split(text: &str) -> (String, Vec<(String, String)>) {
    let (mut prose, mut blocks) = (String::new(), Vec::new());
    let mut block: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut block) {
            (Some(language), None) => block = Some((language.trim().to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(block.take()),
            (None, Some((_, code))) => code.extend([line, "\n"]),
            (None, None) => prose.extend([line, "\n"]),
        }
    }
    (prose, blocks)
}

/// Returns the anchor that GitHub and mdBook give a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn links_lead_to_a_file_and_a_heading() {
    let mut broken = Vec::new();
    let mut count = 0;
    for page in pages() {
        let (prose, _) = split(&fs::read_to_string(&page).unwrap());
        for target in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.starts_with("http") || target.starts_with("mailto:") {
                continue;
            }
            count += 1;
            let (file, heading) =
                target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
            let path = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let found = match heading {
                None => path.exists(),
                Some(heading) => fs::read_to_string(&path).is_ok_and(|text| {
                    split(&text)
                        .0
                        .lines()
                        .filter(|line| line.starts_with('#'))
                        .any(|line| anchor(line.trim_start_matches('#')) == heading)
                }),
            };
            if !found {
                broken.push(format!("{}: {target}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(count > 40, "only {count} links were found");
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn configuration_examples_have_only_known_keys() {
    let folder = tempfile::tempdir().unwrap();
    let (config, sweep) = (folder.path().join("pipeline.toml"), folder.path().join("sweep.toml"));
    let mut count = 0;
    for page in pages() {
        for (_, code) in split(&fs::read_to_string(&page).unwrap()).1.iter().filter(|(language, _)| language == "toml")
        {
            count += 1;
            let is_sweep = code.starts_with("# sweep.toml\n");
            let arguments: &[&str] = if is_sweep { &["sweep", "--plan"] } else { &["plan", "--offline"] };
            fs::write(if is_sweep { &sweep } else { &config }, code).unwrap();
            if is_sweep {
                fs::write(&config, "[collect]\ndataset = \"texts\"\n").unwrap();
            }
            let output = Command::new(env!("CARGO_BIN_EXE_pipeline"))
                .args(arguments)
                .current_dir(folder.path())
                .output()
                .unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(!is_sweep || output.status.success(), "{code}\n{error}");
            let is_about_the_example = ["unknown key", "invalid type", "unknown variant", "was renamed", "TOML"];
            assert!(
                !is_about_the_example.iter().any(|text| error.contains(text)),
                "{}: an example is refused:\n{code}\n{error}",
                page.strip_prefix(root()).unwrap().display()
            );
        }
    }
    assert!(count > 8, "only {count} examples were found");
}
