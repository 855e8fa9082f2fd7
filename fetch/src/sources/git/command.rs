//! Running the program `git`: without prompts, over one transport only, and with a limit on what is fetched.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;
use crate::address::git::GitRepository;
use crate::context::RemoteContext;

/// How often a running command is checked for its end and for cancellation.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How often the size of what has been fetched is measured. Heuristic, not measured: a fast connection transfers some
/// megabytes in that time.
const MEASURE_INTERVAL: Duration = Duration::from_millis(100);
/// How long git may take to end its child processes and itself. Heuristic, not measured.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The program `git`, for one repository of one source.
pub(super) struct Git<'a> {
    pub repository: &'a GitRepository,
    /// The source, for errors.
    pub name: &'a str,
    pub remote: &'a RemoteContext<'a>,
}

impl Git<'_> {
    /// Runs a git command to its end and returns its output.
    ///
    /// # Errors
    /// Returns an error if it fails, on cancellation, or if it has fetched more into `folder` than is allowed.
    pub fn output(&self, folder: Option<&Path>, command: &'static str, arguments: &[&str]) -> Result<Vec<u8>, Error> {
        let mut child = self.spawn(folder, command, arguments, Stdio::null(), Stdio::piped())?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let read = |pipe: Option<Box<dyn Read + Send>>| {
            let mut bytes = Vec::new();
            // A broken pipe shows in the exit status.
            let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
            bytes
        };
        let (out, err, status) = thread::scope(|scope| {
            let out = scope.spawn(|| read(stdout.map(|pipe| Box::new(pipe) as Box<dyn Read + Send>)));
            let err = scope.spawn(|| read(stderr.map(|pipe| Box::new(pipe) as Box<dyn Read + Send>)));
            let status = self.wait(&mut child, command, folder);
            (out.join().unwrap_or_default(), err.join().unwrap_or_default(), status)
        });
        if status? {
            return Ok(out);
        }
        let err = String::from_utf8_lossy(&err);
        let last = err.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it printed no message");
        Err(self.error(command, last.trim()))
    }

    fn wait(&self, child: &mut Child, command: &'static str, folder: Option<&Path>) -> Result<bool, Error> {
        let objects = folder.filter(|_| command == "fetch").map(|folder| folder.join("objects"));
        let mut measured = Instant::now();
        loop {
            let ended = child.try_wait().map_err(|e| self.error(command, &e.to_string()))?;
            let is_due = ended.is_some() || measured.elapsed() > MEASURE_INTERVAL;
            if let Some(objects) = objects.as_deref().filter(|_| is_due) {
                let bytes = bytes_in(objects);
                let checked = self.remote.options.check_size(self.name, &self.repository.location, bytes);
                checked.inspect_err(|_| stop(child))?;
                measured = Instant::now();
            }
            match ended {
                Some(status) => return Ok(status.success()),
                None if self.remote.context.cancel.is_requested() => {
                    stop(child);
                    return Err(Error::Interrupted);
                }
                None => thread::sleep(POLL_INTERVAL),
            }
        }
    }

    /// Starts a git command.
    pub fn spawn(
        &self,
        folder: Option<&Path>,
        command: &'static str,
        arguments: &[&str],
        stdin: Stdio,
        stdout: Stdio,
    ) -> Result<Child, Error> {
        let mut git = Command::new("git");
        // Where git itself started this process (in a hook), its variables would redirect the command to that
        // repository.
        for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"] {
            git.env_remove(variable);
        }
        // The user's configuration could rewrite an address to another transport.
        git.env("GIT_ALLOW_PROTOCOL", self.repository.transport);
        git.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
        if let Some(folder) = folder {
            git.arg("--git-dir").arg(folder);
        }
        git.arg(command).args(arguments).stdin(stdin).stdout(stdout);
        git.stderr(if command == "cat-file" { Stdio::null() } else { Stdio::piped() });
        git.spawn().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => self.error(command, "the program `git` is not installed"),
            _ => self.error(command, &e.to_string()),
        })
    }

    /// Returns the error of a command.
    pub fn error(&self, command: &'static str, message: &str) -> Error {
        let (name, address) = (self.name.to_owned(), self.repository.location.clone());
        Error::Git { name, address, command, message: message.to_owned() }
    }
}

/// Returns the length of all files below a folder; files that vanish meanwhile count 0.
fn bytes_in(folder: &Path) -> u64 {
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    fs::read_dir(folder).into_iter().flatten().flatten().map(bytes).sum()
}

/// Ends git.
fn stop(child: &mut Child) {
    // On SIGKILL git leaves its child processes behind, which continue to download; on SIGTERM it ends them first.
    if cfg!(unix) {
        let terminated = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &child.id().to_string()]).status();
        let started = Instant::now();
        while terminated.is_ok() && started.elapsed() < STOP_TIMEOUT && matches!(child.try_wait(), Ok(None)) {
            thread::sleep(POLL_INTERVAL);
        }
    }
    let _ = child.kill();
    let _ = child.wait();
}
