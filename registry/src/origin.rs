//! What people write for a model: a folder, a GGUF file, an imported model, or one of the Hub.

use std::path::{Path, PathBuf};

use artifact::file::tidy;
use artifact::{Sealed, StoreLayout};
use fetch::HubModel;

use crate::{Error, gguf, names};

/// The prefix of a name that is looked for on the Hub only.
const HUB: &str = "hub:";

/// Where a model is.
#[derive(Debug)]
pub enum Origin {
    /// A folder in Hugging Face layout.
    Folder(PathBuf),
    /// A GGUF file.
    Gguf(PathBuf),
    /// An artifact of a store: a run's checkpoint, or an imported model.
    Sealed {
        /// The artifact.
        sealed: Box<Sealed>,
        /// Where it is, in words.
        place: String,
    },
    /// The Hub.
    Hub(HubModel),
}

impl Origin {
    /// Returns what `written` means: a folder or a GGUF file, relative to `base`; else an imported model of the store;
    /// else a model of the Hub. A run is looked up by the caller, who knows of runs.
    ///
    /// # Errors
    /// Returns an error with the places that were tried if it is none of them.
    pub fn of(written: &str, base: &Path, layout: &StoreLayout) -> Result<Self, Error> {
        if let Some(id) = written.strip_prefix(HUB) {
            let wrong = |problem: String| Error::HubName { written: written.to_owned(), problem };
            return HubModel::parse(id).map(Self::Hub).map_err(wrong);
        }
        let folder = tidy(&base.join(written));
        if folder.is_dir() {
            return Ok(Self::Folder(folder));
        }
        if gguf::is_gguf(&folder) {
            return Ok(Self::Gguf(folder));
        }
        if folder.is_file() {
            return Err(Error::NotAFolder { path: folder });
        }
        if let Some((sealed, place)) = names::find(layout, written)? {
            return Ok(Self::Sealed { sealed: Box::new(sealed), place: format!("{written} ({place})") });
        }
        let is_id = written.matches('/').count() == 1 && !written.starts_with(['.', '/', '~']);
        match HubModel::parse(written) {
            Ok(hub) if is_id => Ok(Self::Hub(hub)),
            _ => Err(Error::Unknown {
                written: written.to_owned(),
                tried: format!(
                    "no folder {}, no run and no imported model of that name in {}",
                    folder.display(),
                    tidy(layout.root()).display()
                ),
            }),
        }
    }

    /// Returns true if `written` is looked for on the Hub only.
    pub fn is_hub_only(written: &str) -> bool {
        written.starts_with(HUB)
    }

    /// Returns the default name of the model.
    pub fn name(&self, written: &str) -> String {
        let id = written.strip_prefix(HUB).unwrap_or(written).trim_end_matches('/');
        let id = if matches!(self, Self::Hub(_)) { id.split('@').next().unwrap_or(id) } else { id };
        let last = id.rsplit(['/', '\\']).next().unwrap_or(id);
        let last = if let Self::Gguf(_) = self { last.strip_suffix(".gguf").unwrap_or(last) } else { last };
        let known = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
        let name: String = last.chars().map(known).collect();
        let name = name.trim_start_matches('.');
        if name.is_empty() { "model".to_owned() } else { name.to_owned() }
    }
}
