//! Ctrl-C and the polite signals: once to stop where nothing is lost, twice to stop at once.

use artifact::Cancel;

/// The exit code of a process that was interrupted: 128 and the number of SIGINT, as shells have it.
pub const EXIT_CODE: u8 = 130;

/// What a command returns when it stopped because somebody asked.
#[derive(Debug, thiserror::Error)]
#[error("interrupted{}", what_now.as_ref().map_or_else(String::new, |next| format!("; {next}")))]
pub struct Interrupted {
    /// How to go on from here, where there is something to go on with.
    pub what_now: Option<String>,
}

/// Returns a cancel that Ctrl-C, SIGTERM and SIGHUP request. `notice` is called the first time; the second time ends the
/// process.
///
/// # Errors
/// When the system refuses a handler.
pub fn listen(notice: impl Fn() + Send + 'static) -> anyhow::Result<Cancel> {
    let cancel = Cancel::default();
    let asked = cancel.clone();
    ctrlc::set_handler(move || {
        if asked.is_requested() {
            std::process::exit(i32::from(EXIT_CODE));
        }
        asked.request();
        notice();
    })?;
    Ok(cancel)
}
