//! The one thing that this program changes about its environment.

#![allow(unsafe_code)]

/// Keeps graphics drivers from complaining on stderr about a desktop that is not there: on a server, Mesa's Wayland client
/// prints an error without `XDG_RUNTIME_DIR` each time that adapters are listed, though none of them needs a display.
///
/// Must be called before any thread is started.
pub fn quiet_drivers() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: the first statement of `main` calls this, when there is no other thread that could read the environment.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir()) };
    }
}
