//! Git repositories, through the program `git`, so that the user's credentials, proxies and keys apply.
//!
//! One commit is fetched without its history into a folder of the cache. Nothing is checked out, so that no hook,
//! filter or attribute of the repository is executed. Submodules and files in Git LFS are skipped.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;

use artifact::digest::Hasher;
use artifact::{Digest, file};

mod command;

use command::Git;

use crate::Error;
use crate::address::Refused;
use crate::address::git::{GitRepository, is_commit};
use crate::context::RemoteContext;
use crate::download::cache::{CachedFile, cached_path};
use crate::download::meter::Meter;
use crate::sources::listing::{Listing, RemoteFile};

/// Fetches a commit and lists its files.
pub(crate) fn list(
    repository: &GitRepository,
    name: &str,
    revision: &str,
    remote: &RemoteContext<'_>,
) -> Result<Listing, Error> {
    let git = Git { repository, name, remote };
    let commit = if is_commit(revision) { revision.to_owned() } else { resolve(&git, revision)? };
    let folder = fetched_folder(&git, &commit)?;
    let tree = git.output(Some(&folder), "ls-tree", &["-r", "-z", "-l", "--full-tree", &commit])?;
    let mut listing = Listing { commit: Some(commit), ..Listing::default() };
    for entry in tree.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
        // `<mode> <type> <object> <bytes>\t<path>`; the mode of a link is 120000, the type of a submodule is commit.
        let entry = std::str::from_utf8(entry).ok().and_then(|entry| entry.split_once('\t'));
        let fields: Vec<&str> = entry.map(|(fields, _)| fields.split_whitespace().collect()).unwrap_or_default();
        match (&fields[..], entry) {
            // `cat-file` reads one path a line, so a path with a line break cannot be requested.
            ([mode, "blob", _, bytes], Some((_, path))) if mode.starts_with("100") && !path.contains('\n') => {
                let (path, bytes) = (path.to_owned(), bytes.parse().ok());
                listing.files.push(RemoteFile { path, bytes, sha256: None, version: None });
            }
            _ => listing.skipped += 1,
        }
    }
    Ok(listing)
}

/// Copies files of a commit into the cache, each under its digest; fetches the commit if it is not there.
pub(crate) fn extract(
    repository: &GitRepository,
    name: &str,
    commit: &str,
    paths: &[&str],
    remote: &RemoteContext<'_>,
    meter: &Meter<'_>,
) -> Result<Vec<CachedFile>, Error> {
    let git = Git { repository, name, remote };
    let folder = fetched_folder(&git, commit)?;
    file::create_folder(&remote.cache)?;
    let mut child = git.spawn(Some(&folder), "cat-file", &["--batch"], Stdio::piped(), Stdio::piped())?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(git.error("cat-file", "it has no pipes"));
    };
    let extracted = thread::scope(|scope| {
        // Requests are written on another thread, or both processes would wait for each other on a full pipe.
        scope.spawn(move || {
            let mut requests = BufWriter::new(stdin);
            for path in paths {
                if writeln!(requests, "{commit}:{path}").is_err() {
                    break;
                }
            }
        });
        let mut responses = BufReader::with_capacity(1 << 18, stdout);
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            if remote.context.cancel.is_requested() {
                return Err(Error::Interrupted);
            }
            let copied = copy_to_cache(&git, &mut responses, path)?;
            meter.add(copied.bytes);
            files.push(copied);
        }
        Ok(files)
    });
    if extracted.is_err() {
        // It may have ended already.
        let _ = child.kill();
    }
    let _ = child.wait();
    extracted
}

/// Returns the commit of a branch, a tag or `HEAD`, with git's own order of precedence.
fn resolve(git: &Git<'_>, revision: &str) -> Result<String, Error> {
    if revision.is_empty() || revision.starts_with('-') || revision.contains(char::is_whitespace) {
        return Err(git.error("ls-remote", &format!("`{revision}` is not a valid revision")));
    }
    check_host(git)?;
    let listing = git.output(None, "ls-remote", &["--", &git.repository.location])?;
    let listing = String::from_utf8_lossy(&listing);
    let commit_of = |reference: &str| {
        let found = listing.lines().filter_map(|line| line.split_once('\t')).find(|(_, name)| *name == reference);
        found.map(|(commit, _)| commit.to_owned())
    };
    // An annotated tag is an object of its own; the commit that it points to has the suffix `^{}`.
    let candidates = ["refs/tags/%^{}", "refs/tags/%", "refs/heads/%", "%^{}", "%"];
    let commit = candidates.iter().find_map(|pattern| commit_of(&pattern.replace('%', revision)));
    commit.filter(|commit| is_commit(commit)).ok_or_else(|| {
        let message = format!("it has no branch or tag `{revision}`; a commit must be written with all its digits");
        git.error("ls-remote", &message)
    })
}

/// Returns the folder with a commit, after fetching it if it is not there.
fn fetched_folder(git: &Git<'_>, commit: &str) -> Result<PathBuf, Error> {
    if !is_commit(commit) {
        return Err(git.error("fetch", &format!("`{commit}` is not a commit")));
    }
    let RemoteContext { context, cache, .. } = git.remote;
    let location = &git.repository.location;
    // One folder a commit, so that what a killed run left is never mixed with a complete one.
    let folder = cache.join("git").join(Digest::of(format!("{location}\n{commit}").as_bytes()).to_string());
    let reference = format!("refs/collected/{commit}");
    // The reference is created last, so a folder that has it is complete.
    if folder.is_dir() && git.output(Some(&folder), "rev-parse", &["--verify", "--quiet", &reference]).is_ok() {
        return Ok(folder);
    }
    if context.offline {
        let (name, url) = (git.name.to_owned(), format!("{location} at {commit}"));
        return Err(Error::Offline { name, url, cache: cache.clone() });
    }
    check_host(git)?;
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|e| artifact::Error::io("remove", &folder, e))?;
    }
    file::create_folder(&folder)?;
    let fetched = fetch(git, commit, &reference, &folder);
    if matches!(fetched, Err(Error::TooLarge { .. })) {
        // A partial repository cannot be resumed, and this one is large.
        fs::remove_dir_all(&folder).map_err(|e| artifact::Error::io("remove", &folder, e))?;
    }
    fetched.map(|()| folder)
}

/// Fetches a commit into an empty folder, under the name `reference`.
fn fetch(git: &Git<'_>, commit: &str, reference: &str, folder: &Path) -> Result<(), Error> {
    let format = if commit.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
    git.output(Some(folder), "init", &["--quiet", "--bare", format])?;
    let options = ["--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-gc"];
    let location = git.repository.location.as_str();
    let refspec = format!("{commit}:{reference}");
    let shallow = [&options[..], &["--depth=1", "--", location, &refspec]].concat();
    let Err(rejection) = git.output(Some(folder), "fetch", &shallow) else { return Ok(()) };
    if matches!(rejection, Error::Interrupted | Error::TooLarge { .. }) {
        return Err(rejection);
    }
    // A server may reject requests for a commit by its id; then all its branches and tags are fetched.
    let everything = [&options[..], &["--", location, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]];
    git.output(Some(folder), "fetch", &everything.concat())?;
    let object = format!("{commit}^{{commit}}");
    if git.output(Some(folder), "rev-parse", &["--verify", "--quiet", &object]).is_err() {
        return Err(rejection);
    }
    git.output(Some(folder), "update-ref", &[reference, commit])?;
    Ok(())
}

/// Copies the next response of `cat-file --batch` into the cache.
fn copy_to_cache(git: &Git<'_>, responses: &mut impl BufRead, path: &str) -> Result<CachedFile, Error> {
    let read = |e: std::io::Error| git.error("cat-file", &e.to_string());
    let mut head = String::new();
    responses.read_line(&mut head).map_err(read)?;
    // `<object> blob <bytes>`, the bytes, and a line break.
    let fields: Vec<&str> = head.split_whitespace().collect();
    let bytes = match fields[..] {
        [_, "blob", bytes] => bytes.parse::<u64>().ok(),
        _ => None,
    };
    let bytes = bytes.ok_or_else(|| git.error("cat-file", &format!("{path}: {}", head.trim_end())))?;
    git.remote.options.check_size(git.name, &format!("{}: {path}", git.repository.location), bytes)?;
    let part = git.remote.cache.join("git.part");
    let written = |e| artifact::Error::io("write", &part, e);
    let mut out = File::create(&part).map_err(written)?;
    let mut hasher = Hasher::default();
    let mut left = bytes;
    while left > 0 {
        let chunk = responses.fill_buf().map_err(read)?;
        let length = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if length == 0 {
            return Err(git.error("cat-file", &format!("{path} is truncated")));
        }
        hasher.update(&chunk[..length]);
        out.write_all(&chunk[..length]).map_err(written)?;
        responses.consume(length);
        left -= length as u64;
    }
    responses.read_exact(&mut [0]).map_err(read)?;
    // Not flushed to the disk: every file of the cache is verified before it is used, and git still has this one.
    let sha256 = hasher.finish();
    let complete = cached_path(&git.remote.cache, sha256);
    fs::rename(&part, complete).map_err(|e| artifact::Error::io("rename", &part, e))?;
    Ok(CachedFile { sha256, bytes, validator: None })
}

/// Refuses a host on this machine or in a private network. Git resolves the name again, so this guards against mistakes
/// and not against DNS rebinding.
fn check_host(git: &Git<'_>) -> Result<(), Error> {
    let Some((host, port)) = &git.repository.host else { return Ok(()) };
    let policy = git.remote.options.address_policy();
    let checked = if git.repository.transport == "http" && !policy.allow_private {
        Err(Refused("it is not encrypted; use https://".to_owned()))
    } else {
        policy.check_host(host, *port)
    };
    checked.map_err(|Refused(reason)| {
        let (name, url) = (git.name.to_owned(), git.repository.location.clone());
        Error::Refused { name, url, reason }
    })
}

/// Returns whether a file in the cache is a pointer that Git LFS keeps in place of the content.
///
/// # Errors
/// On I/O errors.
pub fn is_lfs_pointer(cache: &Path, file: &CachedFile) -> Result<bool, Error> {
    // By the specification, pointer files are smaller than 1024 bytes and begin with this line.
    if file.bytes >= 1024 {
        return Ok(false);
    }
    let path = cached_path(cache, file.sha256);
    let bytes = fs::read(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
    Ok(bytes.starts_with(b"version https://git-lfs.github.com/spec/v1\n"))
}
