//! Crates that Cargo has unpacked on this machine, as sources.

use std::fs;
use std::path::{Path, PathBuf};

use fetch::Environment;

use crate::Error;

/// Returns the folder of an unpacked crate: `$CARGO_HOME/registry/src/<index>/<name>-<version>`.
pub(crate) fn folder(name: &str, version: &str, environment: &Environment) -> Result<PathBuf, Error> {
    let registry = environment.cargo_home().unwrap_or_default().join("registry").join("src");
    let mut indices: Vec<PathBuf> = fs::read_dir(&registry).into_iter().flatten().flatten().map(|e| e.path()).collect();
    // A machine with several indices, such as a mirror, has the same crate under each; the choice must be stable.
    indices.sort_unstable();
    let folders = indices.into_iter().map(|index| index.join(format!("{name}-{version}")));
    folders.into_iter().find(|folder| folder.join("Cargo.toml").is_file()).ok_or_else(|| Error::MissingCrate {
        name: name.to_owned(),
        version: version.to_owned(),
        registry,
    })
}

/// Returns the licence in a crate's manifest.
pub(crate) fn licence(folder: &Path) -> Result<String, Error> {
    let path = folder.join("Cargo.toml");
    let text = fs::read_to_string(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
    let wrong = |message: String| Error::Manifest { path: path.clone(), message };
    let manifest: toml::Table = toml::from_str(&text).map_err(|e| wrong(e.message().to_owned()))?;
    let licence = manifest.get("package").and_then(|package| package.get("license")).and_then(toml::Value::as_str);
    licence.map(str::to_owned).ok_or_else(|| wrong("it has no `package.license`".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_found_under_any_index_and_a_missing_one_is_named() {
        let home = tempfile::tempdir().unwrap();
        let crate_folder = home.path().join("registry/src/mirror-1/serde-1.0.0");
        fs::create_dir_all(&crate_folder).unwrap();
        fs::create_dir_all(home.path().join("registry/src/a-0")).unwrap();
        let environment = Environment {
            home: None,
            variables: [("CARGO_HOME".to_owned(), home.path().to_str().unwrap().to_owned())].into(),
        };
        let missing = folder("serde", "1.0.0", &environment).unwrap_err().to_string();
        assert!(missing.starts_with("source serde 1.0.0: the crate is not under "), "{missing}");
        assert!(missing.ends_with("run `cargo fetch` and try again"), "{missing}");
        fs::write(crate_folder.join("Cargo.toml"), "[package]\nname = \"serde\"\n").unwrap();
        let found = folder("serde", "1.0.0", &environment).unwrap();
        assert_eq!(found, crate_folder);
        assert!(licence(&found).unwrap_err().to_string().ends_with("it has no `package.license`"));
        fs::write(crate_folder.join("Cargo.toml"), "[package]\nlicense = \"MIT\"\n").unwrap();
        assert_eq!(licence(&found).unwrap(), "MIT");
    }
}
