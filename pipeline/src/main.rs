//! The binary: command line, configuration, plan, run, progress.
fn main() {}
