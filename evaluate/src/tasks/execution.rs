//! Running what a model writes against tests: pass@k (Evaluating Large Language Models Trained on Code, Chen et al.,
//! 2021).
//!
//! A program is the text before the generated one, the generated text, and the tests of the item. It passes if it ends
//! as one whose tests have passed does, within its limits. It never runs outside a [`Sandbox`].

#[cfg_attr(not(target_os = "linux"), path = "execution/unavailable.rs")]
mod sandbox;

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use artifact::Context;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use self::sandbox::{Finished, Sandbox};
use crate::Error;

/// The time in which the smallest program ends, at least.
const FIRST_START: Duration = Duration::from_mins(1);

/// The table `code` of a definition.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CodeOptions {
    /// The language of programs.
    language: CodeLanguage,
    /// The program's text before the generated one. Default: `doc_to_text`.
    #[serde(default)]
    pub(super) prefix: Option<Value>,
    /// The time that a program has, compiling included. Default: 10.
    #[serde(default = "default_timeout_seconds")]
    timeout_seconds: f64,
}

fn default_timeout_seconds() -> f64 {
    10.0
}

/// A language whose programs can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CodeLanguage {
    /// Python 3, with its standard library.
    Python,
    /// Rust, edition 2024, with its standard library.
    Rust,
}

impl CodeLanguage {
    /// Returns the program that runs or compiles it, and the arguments with which that prints its folder.
    fn toolchain(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Python => ("python3", &["-I", "-c", "import sys; print(sys.base_prefix)"]),
            Self::Rust => ("rustc", &["--print", "sysroot"]),
        }
    }

    /// Returns the command that runs the program in its standard input, in a sandbox with the toolchain's folder.
    fn command(self) -> [&'static str; 3] {
        match self {
            Self::Python => ["/run/toolchain/bin/python3", "-I", "-"],
            Self::Rust => [
                "/bin/sh",
                "-c",
                "/run/toolchain/bin/rustc --edition 2024 --cap-lints allow -o program - && exec ./program",
            ],
        }
    }

    /// Returns the smallest program.
    fn smallest(self) -> &'static str {
        match self {
            Self::Python => "",
            Self::Rust => "fn main() {}",
        }
    }

    /// Returns what ends a program, and the exit code that it has then: an unusual one where generated code may end it
    /// before the tests.
    fn end(self) -> (&'static str, i32) {
        match self {
            Self::Python => ("\nimport os\nos._exit(86)\n", 86),
            Self::Rust => ("\n", 0),
        }
    }
}

/// What runs the programs of a task.
#[derive(Debug)]
pub(super) struct Execution {
    language: CodeLanguage,
    sandbox: Sandbox,
}

impl Execution {
    /// Returns what runs the programs of a definition, once the smallest one has run.
    ///
    /// # Errors
    /// Returns the problem if the options are invalid, the language's toolchain is missing, or this machine cannot
    /// isolate programs.
    pub(super) fn new(options: &CodeOptions) -> Result<Self, String> {
        let CodeOptions { language, timeout_seconds, .. } = *options;
        if !(0.1..=3600.0).contains(&timeout_seconds) {
            return Err(format!("`code.timeout_seconds` must be from 0.1 to 3600, not {timeout_seconds}"));
        }
        let folder = toolchain_folder(language)?;
        let within = |time| Ok::<_, String>(Self { language, sandbox: Sandbox::new(&folder, time)? });
        let time = Duration::from_secs_f64(timeout_seconds);
        // The first start of a toolchain reads it from the disk.
        let finished = within(time.max(FIRST_START))?.run(language.smallest())?;
        if finished.code != Some(language.end().1) {
            let (program, stderr) = (language.toolchain().0, finished.stderr.trim());
            return Err(format!("{program} does not run a program that does nothing: {stderr}"));
        }
        within(time)
    }

    /// Runs programs, on all cores, and returns those that pass.
    ///
    /// # Errors
    /// Returns an error if one cannot be isolated; [`Error::Interrupted`] if cancelled.
    pub(super) fn passing(
        &self,
        task: &str,
        programs: BTreeSet<String>,
        context: &Context,
    ) -> Result<HashSet<String>, Error> {
        context.progress.begin(&format!("running programs of {task}"), programs.len() as u64, "programs");
        let done = AtomicU64::new(0);
        let passing = programs.into_par_iter().filter_map(|program| {
            if context.cancel.is_requested() {
                return Some(Err(Error::Interrupted));
            }
            let finished = self.run(&program);
            context.progress.position(1 + done.fetch_add(1, Ordering::Relaxed));
            match finished {
                Ok(finished) => (finished.code == Some(self.language.end().1)).then_some(Ok(program)),
                Err(problem) => Some(Err(Error::Task { task: task.to_owned(), problem })),
            }
        });
        passing.collect()
    }

    fn run(&self, program: &str) -> Result<Finished, String> {
        self.sandbox.run(self.language.command(), &[program, self.language.end().0].concat())
    }
}

/// Returns the folder of a language's toolchain on this machine.
fn toolchain_folder(language: CodeLanguage) -> Result<PathBuf, String> {
    let (program, arguments) = language.toolchain();
    let missing = |cause: &str| {
        format!(
            "it runs {language:?} code, for which {program} is needed, but {cause}: install it, or leave the task out"
        )
    };
    let output = Command::new(program).args(arguments).output().map_err(|error| missing(&error.to_string()))?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() && folder.is_absolute() {
        Ok(folder)
    } else {
        Err(missing(&format!("it fails: {}", String::from_utf8_lossy(&output.stderr).trim())))
    }
}

/// Returns the probability that at least one of `k` samples passes, estimated without bias from `n` samples of which
/// `passed` do: `1 - C(n - passed, k) / C(n, k)`, as the product of Chen et al. (2021), figure 3.
pub(super) fn pass_at_k(n: usize, passed: usize, k: usize) -> f64 {
    if n - passed < k {
        return 1.0;
    }
    let none_passes: f64 = (n - passed + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product();
    1.0 - none_passes
}

#[cfg(test)]
mod tests;
