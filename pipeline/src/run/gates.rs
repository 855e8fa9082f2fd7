//! What follows from gates that failed: the run fails, and its model is not served.

use anyhow::bail;
use artifact::Sealed;

use crate::run::plan::Selection;
use crate::run::record::Run;
use crate::run::stage::Stage;

/// Fails if the model of a report did not pass its gates, unless only later stages are selected, with `--force`.
///
/// # Errors
/// Returns an error that names the gates and the report.
pub fn check(report: &Sealed, selection: &Selection) -> anyhow::Result<()> {
    let failed = evaluate::failed_gates(report);
    if failed.is_empty() || selection.ignores_gates() {
        return Ok(());
    }
    let page = report.folder().join("report.html");
    bail!("the model does not pass its gates: {}; the report is {}", failed.join("; "), page.display())
}

/// Fails if the model of a run did not pass its gates, unless `force`.
///
/// # Errors
/// Returns an error that names the gates.
pub fn check_run(run: &Run, force: bool) -> anyhow::Result<()> {
    let failed = run.stage(Stage::Evaluate).map(|report| report.failed_gates.as_slice()).unwrap_or_default();
    if failed.is_empty() || force {
        return Ok(());
    }
    let name = &run.record.name;
    bail!("the model of run {name} does not pass its gates: {}; --force serves it all the same", failed.join("; "))
}
