//! What people write for a model: a folder, a run, an imported model, or one of the hub.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use artifact::{Sealed, StoreLayout};
use fetch::HubModel;

use crate::run::record::{self, Run};
use crate::run::stage::Stage;
use artifact::file::tidy;

use super::names;

/// What a model's name must begin with to be looked for on the hub alone.
const HUB: &str = "hub:";

/// Where a model is.
#[derive(Debug)]
pub enum Origin {
    /// A folder in the Hugging Face layout.
    Folder(PathBuf),
    /// An artifact of a store: a run's checkpoint, or an imported model.
    Sealed {
        /// The artifact.
        sealed: Box<Sealed>,
        /// Where it is, in words.
        place: String,
    },
    /// The hub.
    Hub(HubModel),
}

impl Origin {
    /// Returns what `written` means: a folder, from `base`; else a run or an imported model of the store in the folder
    /// `store`; else a model of the hub.
    ///
    /// # Errors
    /// When it is none of them, with what was tried.
    pub fn of(written: &str, base: &Path, layout: &StoreLayout) -> anyhow::Result<Self> {
        if let Some(id) = written.strip_prefix(HUB) {
            return HubModel::parse(id).map(Self::Hub).map_err(|problem| anyhow!("{written}: {problem}"));
        }
        let folder = tidy(&base.join(written));
        if folder.join(record::RECORD).is_file() {
            return Self::of_run(&Run::open(&folder)?);
        }
        if folder.is_dir() {
            return Ok(Self::Folder(folder));
        }
        if folder.is_file() {
            bail!("{} is a file; name the folder that it lies in", folder.display());
        }
        if layout.runs().join(written).join(record::RECORD).is_file() {
            return Self::of_run(&record::find(layout, written)?);
        }
        if let Some((sealed, place)) = names::find(layout, written)? {
            return Ok(Self::Sealed { sealed: Box::new(sealed), place: format!("{written} ({place})") });
        }
        let is_id = written.matches('/').count() == 1 && !written.starts_with(['.', '/', '~']);
        match HubModel::parse(written) {
            Ok(hub) if is_id => Ok(Self::Hub(hub)),
            _ => bail!(
                "there is no model `{written}`: no folder {}, no run and no imported model of that name in {}; one of the \
                 hub is written owner/name",
                folder.display(),
                tidy(layout.root()).display()
            ),
        }
    }

    fn of_run(run: &Run) -> anyhow::Result<Self> {
        let sealed = Box::new(run.artifact(Stage::Train)?);
        Ok(Self::Sealed { sealed, place: format!("run {}", run.record.name) })
    }

    /// Returns the name that the model is given where no other is said.
    pub fn name(&self, written: &str) -> String {
        let id = written.strip_prefix(HUB).unwrap_or(written).trim_end_matches('/');
        let id = if matches!(self, Self::Hub(_)) { id.split('@').next().unwrap_or(id) } else { id };
        let last = id.rsplit(['/', '\\']).next().unwrap_or(id);
        let known = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
        let name: String = last.chars().map(known).collect();
        let name = name.trim_start_matches('.');
        if name.is_empty() { "model".to_owned() } else { name.to_owned() }
    }
}
