//! The machine and the program, as every manifest and run records them.

use artifact::Host;

/// The program's version and the git revision it was built from.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("PIPELINE_GIT_REVISION"), ")");

/// Returns this machine and this program; the device is filled in by the stage.
pub fn host() -> Host {
    Host {
        device: String::new(),
        cores: cores(),
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        git_revision: env!("PIPELINE_GIT_REVISION").to_owned(),
    }
}

/// Returns the number of cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
