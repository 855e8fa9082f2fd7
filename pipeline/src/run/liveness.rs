//! Whether a run whose record says "running" still is.

use sysinfo::{Pid, ProcessesToUpdate, System};

use super::catalog;
use super::record::{Run, Status};

/// Returns true if a run of this machine is being worked on: it is the store's newest, and the process that locked the
/// store last exists.
pub fn is_alive(run: &Run) -> bool {
    let layout = run.layout();
    let is_latest =
        || catalog::latest(&layout).ok().flatten().is_some_and(|latest| latest.record.name == run.record.name);
    let holder_exists = || {
        let Some(holder) = layout.artifacts().last_holder().map(Pid::from_u32) else { return false };
        let Ok(mut system) = System::new() else { return false };
        system.refresh_processes(ProcessesToUpdate::Some(&[holder]), true);
        system.process(holder).is_some()
    };
    run.record.status == Status::Running && holder_exists() && is_latest()
}
