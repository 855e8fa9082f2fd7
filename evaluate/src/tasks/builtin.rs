//! The tasks that come with this program.

use std::path::{Path, PathBuf};

/// The tasks: name, definition and items. All are written here, for models of a few million parameters.
const TASKS: [(&str, &str, &str); 4] = [
    ("english", include_str!("../../tasks/english.toml"), include_str!("../../tasks/english.jsonl")),
    ("chinese", include_str!("../../tasks/chinese.toml"), include_str!("../../tasks/chinese.jsonl")),
    ("code", include_str!("../../tasks/code.toml"), include_str!("../../tasks/code.jsonl")),
    (RUNS_CODE, include_str!("../../tasks/python_functions.toml"), include_str!("../../tasks/python_functions.jsonl")),
];

/// The name of the one that runs what the model writes.
pub(super) const RUNS_CODE: &str = "python_functions";

/// The folder that stands for this program in their paths.
const FOLDER: &str = "<built in>";

/// Returns the path and the definition of a task by its name.
pub(super) fn definition(name: &str) -> Option<(PathBuf, &'static str)> {
    let (name, definition, _) = TASKS.iter().find(|(other, ..)| *other == name)?;
    Some((Path::new(FOLDER).join(format!("{name}.toml")), definition))
}

/// Returns the items in a file of a task.
pub(super) fn data(path: &Path) -> Option<&'static str> {
    let name = path.strip_prefix(FOLDER).ok()?.file_stem()?;
    TASKS.iter().find(|(other, ..)| name == *other).map(|(.., items)| *items)
}

/// Returns the names of the tasks.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TASKS.iter().map(|(name, ..)| *name)
}
