//! Ctrl-C, SIGTERM and SIGHUP: the first stops at the next safe point, the second aborts.

use artifact::Cancel;

/// The exit code of an interrupted process: 128 plus the number of SIGINT, as in shells.
pub const EXIT_CODE: u8 = 130;

/// The error of an interrupted command; its text says how to continue.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Interrupted(pub String);

impl Default for Interrupted {
    fn default() -> Self {
        Self("interrupted".to_owned())
    }
}

/// Returns a cancel that signals request. The first one calls `notice`; the second one exits.
///
/// # Errors
/// Returns an error if the system refuses a signal handler.
pub fn listen(notice: impl Fn() + Send + 'static) -> anyhow::Result<Cancel> {
    let cancel = Cancel::default();
    let asked = cancel.clone();
    on_signal(move || {
        if asked.is_requested() {
            std::process::exit(i32::from(EXIT_CODE));
        }
        asked.request();
        notice();
    })?;
    Ok(cancel)
}

/// Calls `receive` at each signal, on another thread.
///
/// # Errors
/// Returns an error if the system refuses a signal handler.
pub fn on_signal(receive: impl Fn() + Send + 'static) -> anyhow::Result<()> {
    Ok(ctrlc::set_handler(receive)?)
}
