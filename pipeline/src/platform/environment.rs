//! The one environment variable that this program sets.

#![allow(unsafe_code)]

/// Prevents messages of graphics drivers about a missing desktop: on a server without `XDG_RUNTIME_DIR`, Mesa's Wayland
/// client prints an error each time that adapters are listed, although none of them needs a display.
///
/// Must be called before any thread is started.
pub fn quiet_drivers() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: the first statement of `main` calls this, when there is no other thread that could read the
        // environment.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir()) };
    }
}
