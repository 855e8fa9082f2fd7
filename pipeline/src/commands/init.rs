//! `init`: writes a commented configuration for the user's own files.

use std::fs::File;
use std::io::Write;

use anyhow::bail;
use artifact::file::tidy;

use crate::cli::InitArgs;
use crate::config;

use super::print_out;

/// The file.
const TEMPLATE: &str = include_str!("init.toml");

/// Runs the command.
pub fn run(arguments: &InitArgs) -> anyhow::Result<()> {
    let path = tidy(&arguments.folder.join(config::FILE_NAME));
    let mut file = match File::create_new(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{} exists and is not overwritten; remove it first, or name another folder", path.display());
        }
        other => other.map_err(|e| artifact::Error::io("create", &path, e))?,
    };
    file.write_all(TEMPLATE.as_bytes()).map_err(|e| artifact::Error::io("write", &path, e))?;
    print_out!("wrote {}: it trains on the text and code of this folder; review it, then", path.display())?;
    print_out!("  {} plan {}", super::program(), path.display())?;
    Ok(print_out!("  {} run {}", super::program(), path.display())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_valid_and_its_comments_show_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipeline.toml");
        // A line that begins with `#` and no space after it is a setting that is not in use.
        let is_setting = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line != "#";
        let bare = |line: &str| if is_setting(line) { line[1..].to_owned() } else { line.to_owned() };
        let everything: Vec<String> = TEMPLATE.lines().map(bare).collect();
        assert_ne!(everything.join("\n"), TEMPLATE.trim_end(), "the template shows settings that are not in use");
        let [with, without] = [TEMPLATE.to_owned(), everything.join("\n")].map(|text| {
            std::fs::write(&path, &text).unwrap();
            let loaded = config::load(&path, &[]).map_err(|e| format!("{e}: {:?}", std::error::Error::source(&e)));
            toml::to_string_pretty(&loaded.unwrap().config).unwrap()
        });
        assert_eq!(with, without, "what is not in use shows the default");
    }
}
