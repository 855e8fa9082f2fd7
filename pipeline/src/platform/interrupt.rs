//! Ctrl-C and the polite signals: once to stop where nothing is lost, twice to stop at once.

use artifact::Cancel;

/// The exit code of a process that was interrupted: 128 and the number of SIGINT, as shells have it.
pub const EXIT_CODE: u8 = 130;

/// What a command returns when it stopped because somebody asked; its text says how to go on.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Interrupted(pub String);

impl Default for Interrupted {
    fn default() -> Self {
        Self("interrupted".to_owned())
    }
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
