//! What people write for a model, runs included.

use std::path::Path;

use artifact::StoreLayout;
use artifact::file::tidy;
use registry::Origin;

use super::names;
use super::record::{self, Run};
use super::stage::Stage;

/// Returns what `written` means: a run (its folder, relative to `base`, or its name or a tag in the store), or what
/// [`Origin::of`] finds.
///
/// # Errors
/// Returns an error if it is neither, with the places that were tried.
pub fn origin(written: &str, base: &Path, layout: &StoreLayout) -> anyhow::Result<Origin> {
    if !Origin::is_hub_only(written) {
        let folder = tidy(&base.join(written));
        if folder.join(record::RECORD).is_file() {
            return of_run(&Run::open(&folder)?);
        }
        if !folder.exists()
            && let Some(folder) = names::folder(layout, written)
        {
            return of_run(&Run::open(&folder)?);
        }
    }
    Ok(Origin::of(written, base, layout)?)
}

fn of_run(run: &Run) -> anyhow::Result<Origin> {
    let sealed = Box::new(run.artifact(Stage::Train)?);
    Ok(Origin::Sealed { sealed, place: format!("run {}", run.record.name) })
}
