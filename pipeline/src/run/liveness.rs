//! Whether a run whose record says "running" still is.

use sysinfo::{Pid, ProcessesToUpdate, System};

use crate::platform::clock;

use super::catalog;
use super::record::{Run, Status};

/// Returns true if a run of this machine is being worked on: it is the store's newest, and the process that locked the
/// store last exists.
pub fn is_alive(run: &Run) -> bool {
    let layout = run.layout();
    let is_latest =
        || catalog::latest(&layout).ok().flatten().is_some_and(|latest| latest.record.name == run.record.name);
    let holder_exists = || layout.artifacts().last_holder().is_some_and(|holder| existed(holder, &run.record.started));
    run.record.status == Status::Running && holder_exists() && is_latest()
}

/// Returns true if a process exists that existed at the time `started`; one that began later has the id of another,
/// as often after a restart of a container.
fn existed(id: u32, started: &str) -> bool {
    let Ok(mut system) = System::new() else { return false };
    let id = Pid::from_u32(id);
    system.refresh_processes(ProcessesToUpdate::Some(&[id]), true);
    let began = system.process(id).map(sysinfo::Process::start_time);
    // Both times are rounded to seconds.
    began.zip(clock::seconds(started)).is_some_and(|(began, started)| began <= started + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_began_after_the_run_is_another() {
        let own = std::process::id();
        assert!(existed(own, &clock::now()));
        assert!(!existed(own, "2026-01-01T00:00:00Z"));
        assert!(!existed(own, "yesterday") && !existed(u32::MAX >> 2, &clock::now()));
    }
}
