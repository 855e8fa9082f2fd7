//! The program `git`, run with care: no questions, no other transport, and no more than may be fetched.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Git;
use crate::Error;

/// How often a command is looked after.
const TICK: Duration = Duration::from_millis(10);
/// How often what has been fetched is measured; a guess, some megabytes of a fast line.
const MEASURED_EVERY: Duration = Duration::from_millis(100);
/// How long git may take to end its helpers and itself. A guess.
const PATIENCE: Duration = Duration::from_secs(2);

impl Git<'_> {
    /// Runs a command of git to its end and returns what it prints.
    ///
    /// # Errors
    /// When it fails, a stop is asked for, or it has fetched more into `folder` than a download may have.
    pub(super) fn output(
        &self,
        folder: Option<&Path>,
        command: &'static str,
        arguments: &[&str],
    ) -> Result<Vec<u8>, Error> {
        let mut child = self.spawn(folder, command, arguments, Stdio::null(), Stdio::piped())?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let read = |pipe: Option<Box<dyn Read + Send>>| {
            let mut bytes = Vec::new();
            // A pipe that breaks shows in the exit status.
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
        let last = err.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
        Err(self.error(command, last.trim()))
    }

    fn wait(&self, child: &mut Child, command: &'static str, folder: Option<&Path>) -> Result<bool, Error> {
        let fetched_into = folder.filter(|_| command == "fetch").map(|folder| folder.join("objects"));
        let mut measured = Instant::now();
        loop {
            let ended = child.try_wait().map_err(|e| self.error(command, &e.to_string()))?;
            if let Some(objects) =
                fetched_into.as_deref().filter(|_| ended.is_some() || measured.elapsed() > MEASURED_EVERY)
            {
                let (bytes, limit) = (bytes_in(objects), self.reach.config.max_download_bytes);
                if bytes > limit {
                    stop(child);
                    let (name, url) = (self.name.to_owned(), self.repository.shown());
                    return Err(Error::TooLarge { name, url, bytes, limit });
                }
                measured = Instant::now();
            }
            match ended {
                Some(status) => return Ok(status.success()),
                None if self.reach.context.cancel.is_requested() => {
                    stop(child);
                    return Err(Error::Interrupted);
                }
                None => thread::sleep(TICK),
            }
        }
    }

    pub(super) fn spawn(
        &self,
        folder: Option<&Path>,
        command: &'static str,
        arguments: &[&str],
        stdin: Stdio,
        stdout: Stdio,
    ) -> Result<Child, Error> {
        let mut git = Command::new("git");
        // Variables of a git that called us would make this one work on its repository.
        for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"] {
            git.env_remove(variable);
        }
        // The user's own settings could send an address to another transport.
        git.env("GIT_ALLOW_PROTOCOL", self.repository.transport);
        // Nobody is there to answer a question.
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

    pub(super) fn error(&self, command: &'static str, message: &str) -> Error {
        let (name, address) = (self.name.to_owned(), self.repository.shown());
        Error::Git { name, address, command, message: message.to_owned() }
    }
}

/// Returns the length of all files in a folder and its folders; what vanishes meanwhile has none.
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
    // Killed outright, git leaves its helpers behind, which go on downloading; asked to end, it ends them first.
    if cfg!(unix) {
        let ask = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &child.id().to_string()]).status();
        let begin = Instant::now();
        while ask.is_ok() && begin.elapsed() < PATIENCE && matches!(child.try_wait(), Ok(None)) {
            thread::sleep(TICK);
        }
    }
    let _ = child.kill();
    let _ = child.wait();
}
