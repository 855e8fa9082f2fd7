//! Git repositories, through the program `git`, so that the user's credentials, proxies and keys work as everywhere else.
//!
//! Of a repository, one commit is fetched without its history into a folder of the cache; nothing is checked out, so no
//! hook, filter or attribute of the repository has a say. Submodules and files that Git LFS keeps elsewhere are left.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;

use artifact::digest::Hasher;
use artifact::{Digest, file};
use url::Url;

mod command;

use crate::Error;
use crate::address::{self, Refused};
use crate::cache::{Fetched, Meter, cached};
use crate::remote::{Found, Reach};

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repository {
    /// An address, `user@host:path`, or a folder.
    location: String,
    /// The transport that git may use, by git's own name.
    transport: &'static str,
    /// The machine that is asked, where it is another.
    host: Option<(String, u16)>,
}

/// Tells whether a text is a folder rather than an address.
pub(crate) fn is_path(text: &str) -> bool {
    !text.contains("://") && !text.contains("::") && short_ssh(text).is_none()
}

/// Returns the host of `user@host:path`.
fn short_ssh(text: &str) -> Option<&str> {
    let (before, _) = text.split_once(':')?;
    let (user, host) = before.split_once('@')?;
    (!user.is_empty() && !host.is_empty() && !before.contains('/')).then_some(host)
}

impl Repository {
    /// Returns the repository of an address or an expanded path, or what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('-') {
            return Err(format!("`{text}` begins with `-`, and would be taken for an option"));
        }
        let location = text.to_owned();
        if is_path(text) {
            return Ok(Self { location, transport: "file", host: None });
        }
        if text.contains("::") && !text.contains("://") {
            return Err(format!("`{text}` names a transport of its own, and could run any program"));
        }
        if let Some(host) = short_ssh(text).filter(|_| !text.contains("://")) {
            let is_option = host.starts_with('-') || text.starts_with('-');
            let host = Some((host.to_owned(), 22)).filter(|_| !is_option);
            let host = host.ok_or_else(|| format!("the host of `{text}` would be taken for an option"))?;
            return Ok(Self { location, transport: "ssh", host: Some(host) });
        }
        let url = Url::parse(text).map_err(|e| format!("`{text}` is no address ({e})"))?;
        let (transport, port) = match url.scheme() {
            "https" => ("https", 443),
            "http" => ("http", 80),
            "ssh" => ("ssh", 22),
            other => return Err(format!("`{other}://` is not supported; use https://, ssh:// or a path")),
        };
        if url.password().is_some() || (transport != "ssh" && !url.username().is_empty()) {
            let message = "holds a user's name or password, which would be written into the lock and the corpus; git's \
                           credential helpers keep them for you";
            return Err(message.to_owned());
        }
        let host = url.host_str().filter(|host| !host.starts_with('-'));
        let host = host.ok_or_else(|| format!("`{text}` names no host"))?.to_owned();
        Ok(Self { location, transport, host: Some((host, url.port().unwrap_or(port))) })
    }

    /// Returns its address, as it may be printed.
    pub fn shown(&self) -> String {
        self.location.clone()
    }

    /// Returns the folder of the cache for one commit: what a killed run leaves there is told from what is complete, and
    /// never mixed with another's.
    fn folder(&self, commit: &str, reach: &Reach<'_>) -> PathBuf {
        reach.cache.join("git").join(Digest::of(format!("{}\n{commit}", self.location).as_bytes()).to_string())
    }
}

/// Tells whether a revision is a whole commit id: of SHA-1, or of SHA-256.
pub(crate) fn is_commit(revision: &str) -> bool {
    matches!(revision.len(), 40 | 64) && revision.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The files of a commit.
pub(crate) struct Tree {
    /// The commit.
    pub commit: String,
    /// Its files.
    pub files: Vec<Found>,
    /// Symbolic links, submodules, and files whose names are not UTF-8.
    pub left: u64,
}

/// Git, at work on one repository of one source.
struct Git<'a> {
    repository: &'a Repository,
    name: &'a str,
    reach: &'a Reach<'a>,
}

/// Fetches a commit and lists its files.
pub(crate) fn tree(repository: &Repository, name: &str, revision: &str, reach: &Reach<'_>) -> Result<Tree, Error> {
    let git = Git { repository, name, reach };
    let commit = if is_commit(revision) { revision.to_owned() } else { git.resolve(revision)? };
    let folder = git.fetched(&commit)?;
    let listing = git.output(Some(&folder), "ls-tree", &["-r", "-z", "-l", "--full-tree", &commit])?;
    let mut tree = Tree { commit, files: Vec::new(), left: 0 };
    for entry in listing.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
        // `<mode> <type> <object> <bytes>\t<path>`; a link's mode is 120000, a submodule's type is commit.
        let entry = std::str::from_utf8(entry).ok().and_then(|entry| entry.split_once('\t'));
        let fields: Vec<&str> = entry.map(|(fields, _)| fields.split_whitespace().collect()).unwrap_or_default();
        match (&fields[..], entry) {
            // A line of `cat-file` could not name a file with an end of line in its name.
            ([mode, "blob", _, bytes], Some((_, path))) if mode.starts_with("100") && !path.contains('\n') => {
                tree.files.push(Found {
                    path: path.to_owned(),
                    bytes: bytes.parse().ok(),
                    sha256: None,
                    version: None,
                });
            }
            _ => tree.left += 1,
        }
    }
    Ok(tree)
}

/// Copies files of a commit into the cache, each under its digest; fetches the commit if it is not there.
pub(crate) fn extract(
    repository: &Repository,
    name: &str,
    commit: &str,
    paths: &[&str],
    reach: &Reach<'_>,
    meter: &Meter<'_>,
) -> Result<Vec<Fetched>, Error> {
    let git = Git { repository, name, reach };
    let folder = git.fetched(commit)?;
    file::create_folder(&reach.cache)?;
    let mut child = git.spawn(Some(&folder), "cat-file", &["--batch"], Stdio::piped(), Stdio::piped())?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(git.error("cat-file", "it has no pipes"));
    };
    let extracted = thread::scope(|scope| {
        // Questions are written beside reading the answers, or both sides would wait for each other on a full pipe.
        scope.spawn(move || {
            let mut questions = BufWriter::new(stdin);
            for path in paths {
                if writeln!(questions, "{commit}:{path}").is_err() {
                    break;
                }
            }
        });
        let mut answers = BufReader::with_capacity(1 << 18, stdout);
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            if reach.context.cancel.is_requested() {
                return Err(Error::Interrupted);
            }
            files.push(git.copy(&mut answers, path)?);
            meter.add(files.last().map_or(0, |fetched: &Fetched| fetched.bytes));
        }
        Ok(files)
    });
    if extracted.is_err() {
        // Whether it still runs or not, nothing more is wanted of it.
        let _ = child.kill();
    }
    let _ = child.wait();
    extracted
}

impl Git<'_> {
    /// Returns the commit that a branch, a tag or `HEAD` is, by the order in which git itself would take them.
    fn resolve(&self, revision: &str) -> Result<String, Error> {
        if revision.is_empty() || revision.starts_with('-') || revision.contains(char::is_whitespace) {
            return Err(self.error("ls-remote", &format!("`{revision}` is no revision")));
        }
        self.check_host()?;
        let listing = self.output(None, "ls-remote", &["--", &self.repository.location])?;
        let listing = String::from_utf8_lossy(&listing);
        let of = |wanted: &str| {
            let found = listing.lines().filter_map(|line| line.split_once('\t')).find(|(_, name)| *name == wanted);
            found.map(|(commit, _)| commit.to_owned())
        };
        // A tag with a message is an object of its own; what it points to has the same name and `^{}`.
        let candidates = ["refs/tags/%^{}", "refs/tags/%", "refs/heads/%", "%^{}", "%"];
        let commit = candidates.iter().find_map(|form| of(&form.replace('%', revision)));
        commit.filter(|commit| is_commit(commit)).ok_or_else(|| {
            let message = format!("it has no branch or tag `{revision}`; a commit is written with all its digits");
            self.error("ls-remote", &message)
        })
    }

    /// Returns the folder that has a commit, after fetching it if need be.
    fn fetched(&self, commit: &str) -> Result<PathBuf, Error> {
        if !is_commit(commit) {
            return Err(self.error("fetch", &format!("`{commit}` is no commit")));
        }
        let folder = self.repository.folder(commit, self.reach);
        let reference = format!("refs/collected/{commit}");
        // The name is given last, so a folder that has it has everything.
        if folder.is_dir() && self.output(Some(&folder), "rev-parse", &["--verify", "--quiet", &reference]).is_ok() {
            return Ok(folder);
        }
        let Reach { context, cache, .. } = self.reach;
        if context.offline {
            let (name, url) = (self.name.to_owned(), format!("{} at {commit}", self.repository.shown()));
            return Err(Error::Offline { name, url, cache: cache.clone() });
        }
        self.check_host()?;
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|e| artifact::Error::io("remove", &folder, e))?;
        }
        file::create_folder(&folder)?;
        let fetched = self.fetch(commit, &reference, &folder);
        if matches!(fetched, Err(Error::TooLarge { .. })) {
            // Half a repository cannot be gone on from, and this one is large.
            fs::remove_dir_all(&folder).map_err(|e| artifact::Error::io("remove", &folder, e))?;
        }
        fetched.map(|()| folder)
    }

    /// Fetches a commit into an empty folder, where it is called `reference`.
    fn fetch(&self, commit: &str, reference: &str, folder: &Path) -> Result<(), Error> {
        let format = if commit.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
        self.output(Some(folder), "init", &["--quiet", "--bare", format])?;
        let options = ["--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-gc"];
        let location = self.repository.location.as_str();
        let refspec = format!("{commit}:{reference}");
        let shallow = [&options[..], &["--depth=1", "--", location, &refspec]].concat();
        let Err(refusal) = self.output(Some(folder), "fetch", &shallow) else { return Ok(()) };
        if matches!(refusal, Error::Interrupted | Error::TooLarge { .. }) {
            return Err(refusal);
        }
        // A server may refuse to be asked for a commit by its id; then everything it shows is fetched.
        let everything = [&options[..], &["--", location, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]];
        self.output(Some(folder), "fetch", &everything.concat())?;
        let object = format!("{commit}^{{commit}}");
        if self.output(Some(folder), "rev-parse", &["--verify", "--quiet", &object]).is_err() {
            return Err(refusal);
        }
        self.output(Some(folder), "update-ref", &[reference, commit])?;
        Ok(())
    }

    /// Copies the next answer of `cat-file --batch` into the cache.
    fn copy(&self, answers: &mut impl BufRead, path: &str) -> Result<Fetched, Error> {
        let read = |e: std::io::Error| self.error("cat-file", &e.to_string());
        let mut head = String::new();
        answers.read_line(&mut head).map_err(read)?;
        // `<object> blob <bytes>`, the bytes, and an end of line.
        let fields: Vec<&str> = head.split_whitespace().collect();
        let bytes = match fields[..] {
            [_, "blob", bytes] => bytes.parse::<u64>().ok(),
            _ => None,
        };
        let bytes = bytes.ok_or_else(|| self.error("cat-file", &format!("{path}: {}", head.trim_end())))?;
        let limit = self.reach.config.max_download_bytes;
        if bytes > limit {
            let (name, url) = (self.name.to_owned(), format!("{}: {path}", self.repository.shown()));
            return Err(Error::TooLarge { name, url, bytes, limit });
        }
        let part = self.reach.cache.join("git.part");
        let written = |e| artifact::Error::io("write", &part, e);
        let mut out = File::create(&part).map_err(written)?;
        let mut hasher = Hasher::default();
        let mut left = bytes;
        while left > 0 {
            let piece = answers.fill_buf().map_err(read)?;
            let taken = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if taken == 0 {
                return Err(self.error("cat-file", &format!("{path} ends early")));
            }
            hasher.update(&piece[..taken]);
            out.write_all(&piece[..taken]).map_err(written)?;
            answers.consume(taken);
            left -= taken as u64;
        }
        answers.read_exact(&mut [0]).map_err(read)?;
        // Not flushed to the disk: every file of the cache is checked before it is used, and git still has this one.
        let sha256 = hasher.finish();
        fs::rename(&part, cached(&self.reach.cache, sha256)).map_err(|e| artifact::Error::io("rename", &part, e))?;
        Ok(Fetched { sha256, bytes, validator: None })
    }

    /// Refuses a host of this machine or of a private network. Git resolves the name once more, so this is a guard
    /// against mistakes in a dataset rather than against a name server that plays tricks.
    fn check_host(&self) -> Result<(), Error> {
        let Some((host, port)) = &self.repository.host else { return Ok(()) };
        let allow_private = self.reach.config.allow_private;
        let checked = if self.repository.transport == "http" && !allow_private {
            Err(Refused("it is not encrypted; use https://".to_owned()))
        } else {
            address::check_host(host, *port, allow_private)
        };
        let refused = |Refused(reason)| {
            let (name, url) = (self.name.to_owned(), self.repository.shown());
            Error::Refused { name, url, reason }
        };
        checked.map_err(refused)
    }
}

/// Tells whether a file in the cache is a pointer that Git LFS left in place of the content.
pub(crate) fn is_lfs_pointer(cache: &Path, fetched: &Fetched) -> Result<bool, Error> {
    // The specification of pointer files says they are smaller than this, and begin so.
    if fetched.bytes >= 1024 {
        return Ok(false);
    }
    let path = cached(cache, fetched.sha256);
    let bytes = fs::read(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
    Ok(bytes.starts_with(b"version https://git-lfs.github.com/spec/v1\n"))
}
