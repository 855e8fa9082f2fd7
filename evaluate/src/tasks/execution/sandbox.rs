//! A program without network, in namespaces of its own, with limits that the kernel enforces.
//!
//! A program sees the files of this machine but cannot change any: its only writable folder is an empty `/tmp` in
//! memory. `/run` and the processes of the machine are hidden, and no socket can be made, since those of services may
//! be anywhere. A program of root runs as a user who owns nothing. When it ends or its time is up, the kernel ends all
//! of its processes; when memory is short, it ends these first. Memory is limited per process only.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{ptr, thread};

/// The limit of a process's memory. Heuristic: several times what rustc needs for a small program.
const MAX_MEMORY_BYTES: u64 = 2 << 30;
/// The limit of a file, and of all files of a program.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// The limit of a program's processes and threads.
const MAX_PROCESSES: u64 = 64;

/// The user of programs of root, to whom no file belongs.
const UNPRIVILEGED: libc::uid_t = 65_531;

/// The limit of open files.
const MAX_OPEN_FILES: u64 = 256;

/// The most bytes of a program's messages that are kept.
const MAX_MESSAGE_BYTES: u64 = 4096;

/// Attributes of `mount_setattr(2)`, from `linux/mount.h`.
const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;

/// The architecture whose system calls a program may make, `AUDIT_ARCH_*` of `linux/audit.h`; on others, none runs.
const AUDIT_ARCH: u32 = match () {
    () if cfg!(target_arch = "x86_64") => 0xc000_003e,
    () if cfg!(target_arch = "aarch64") => 0xc000_00b7,
    () => 0,
};
/// The bit of system calls of the x32 ABI, which have the same architecture.
const X32: u32 = 0x4000_0000;

/// The time between two looks at a program.
const POLL: Duration = Duration::from_millis(2);

/// What programs of a toolchain run in.
#[derive(Debug)]
pub(super) struct Sandbox {
    time: Duration,
    toolchain: CString,
    /// Whether this is root, whose programs run as [`UNPRIVILEGED`].
    is_root: bool,
    /// The lines that map the user and the group in a user namespace.
    uid_map: String,
    gid_map: String,
}

/// How a program ended.
pub(super) struct Finished {
    /// Its exit code; None if its time was up, or a signal ended the process that waited for it.
    pub(super) code: Option<i32>,
    /// The beginning of its messages.
    pub(super) stderr: String,
}

impl Sandbox {
    /// Returns a sandbox in which `/run/toolchain` is this folder.
    ///
    /// # Errors
    /// Returns the problem if the folder's name has a zero byte.
    pub(super) fn new(toolchain: &Path, time: Duration) -> Result<Self, String> {
        let toolchain = CString::new(toolchain.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: these functions have no preconditions.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        let (uid_map, gid_map) = (format!("{uid} {uid} 1"), format!("{gid} {gid} 1"));
        Ok(Self { time, toolchain, is_root: uid == 0, uid_map, gid_map })
    }

    /// Runs a command with this standard input until it ends or its time is up.
    ///
    /// # Errors
    /// Returns the problem if the program cannot be isolated; it did not run then.
    pub(super) fn run(&self, command: [&str; 3], input: &str) -> Result<Finished, String> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        let mut process = Command::new(command[0]);
        // A group of its own, so that Ctrl-C reaches this program alone.
        process.args(&command[1..]).env_clear().current_dir("/").process_group(0);
        process.envs([("HOME", "/tmp"), ("TMPDIR", "/tmp"), ("LANG", "C.UTF-8")]).env("PATH", path);
        process.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let (toolchain, is_root, seconds) = (self.toolchain.clone(), self.is_root, self.time.as_secs() + 1);
        let (uid_map, gid_map) = (self.uid_map.clone(), self.gid_map.clone());
        let enter = move || enter(&toolchain, (!is_root).then_some([&uid_map, &gid_map]), seconds);
        // SAFETY: between fork and exec, `enter` only makes system calls; it neither allocates nor takes locks.
        unsafe { process.pre_exec(enter) };
        let mut child = process.spawn().map_err(|error| refused(&error))?;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        thread::scope(|scope| {
            // A program that ends early does not read its input.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
            let messages = scope.spawn(move || stderr.map(read_messages).unwrap_or_default());
            let code = wait(&mut child, self.time).map_err(|error| format!("a program was lost: {error}"));
            let stderr = messages.join().unwrap_or_default();
            Ok(Finished { code: code?, stderr })
        })
    }
}

fn refused(error: &io::Error) -> String {
    format!(
        "it runs code that the model writes, and this machine does not let this user isolate that from network and \
         files ({error}), so nothing was run; it needs Linux 5.14 or later with user namespaces: on Ubuntu, `sysctl \
         kernel.apparmor_restrict_unprivileged_userns=0`, in a container, its option `--privileged`"
    )
}

/// Reads all messages, so that the program never waits, and returns the first.
fn read_messages(mut stderr: impl Read) -> String {
    let mut first = Vec::new();
    // A failed read ends the messages.
    let _ = stderr.by_ref().take(MAX_MESSAGE_BYTES).read_to_end(&mut first);
    let _ = io::copy(&mut stderr, &mut io::sink());
    String::from_utf8_lossy(&first).into_owned()
}

/// Returns the exit code of a process once it ends, and ends it once its time is up.
fn wait(child: &mut Child, time: Duration) -> io::Result<Option<i32>> {
    let start = Instant::now();
    while start.elapsed() < time {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        thread::sleep(POLL);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// Isolates the calling process, which then may only start a program. Returns in a child of it that is the first
/// process of a namespace, while the calling process waits for that child and ends as it does.
///
/// `maps` are those of a user namespace; without, the process is that of root.
fn enter(toolchain: &CStr, maps: Option<[&String; 2]>, seconds: u64) -> io::Result<()> {
    let namespaces = libc::CLONE_NEWNET | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC;
    let of_user = if maps.is_some() { libc::CLONE_NEWUSER } else { 0 };
    write(c"/proc/self/oom_score_adj", "1000")?;
    // SAFETY: `unshare` takes no pointers.
    check(unsafe { libc::unshare(namespaces | of_user) })?;
    if let Some([uid_map, gid_map]) = maps {
        write(c"/proc/self/uid_map", uid_map)?;
        write(c"/proc/self/setgroups", "deny")?;
        write(c"/proc/self/gid_map", gid_map)?;
    }
    become_child()?;
    mount_folders(toolchain)?;
    if maps.is_none() {
        // SAFETY: no group is read from the null pointer, since there are none.
        unsafe {
            check(libc::setgroups(0, ptr::null()))?;
            check(libc::setresgid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED))?;
            check(libc::setresuid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED))?;
            // In it, the limit of processes counts those of this program alone.
            check(libc::unshare(libc::CLONE_NEWUSER))?;
        }
    }
    for (resource, limit) in [
        (libc::RLIMIT_AS, MAX_MEMORY_BYTES),
        (libc::RLIMIT_FSIZE, MAX_FILE_BYTES),
        (libc::RLIMIT_NPROC, MAX_PROCESSES),
        (libc::RLIMIT_NOFILE, MAX_OPEN_FILES),
        (libc::RLIMIT_CPU, seconds),
        (libc::RLIMIT_CORE, 0),
    ] {
        let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        // SAFETY: the pointer is that of a live `rlimit`.
        check(unsafe { libc::setrlimit(resource, &raw const limit) })?;
    }
    let (zero, one): (libc::c_ulong, libc::c_ulong) = (0, 1);
    // SAFETY: this option takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, one, zero, zero, zero) })?;
    forbid_sockets()?;
    // Files that this program was started with may be in folders that can be written. That by which `Command` learns
    // that the program has started closes on exec too.
    let close_on_exec = libc::CLOSE_RANGE_CLOEXEC as libc::c_uint;
    // SAFETY: this call takes numbers.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, close_on_exec) };
    check(closed as libc::c_int)?;
    // Last, since a change of user resets it.
    end_with_parent()
}

/// Lets system calls fail that make sockets, or could through a ring of requests: neither a namespace nor a read-only
/// mount keeps a program from the socket of a service that is a file. Other ABIs than the machine's end the process.
fn forbid_sockets() -> io::Result<()> {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const IS: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const IS_FROM: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    // Offsets of `struct seccomp_data`.
    const NUMBER: u32 = 0;
    const ARCHITECTURE: u32 = 4;
    let step = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EACCES as u32;
    let mut steps = [
        step(LOAD, ARCHITECTURE, 0, 0),
        step(IS, AUDIT_ARCH, 1, 0),
        step(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        step(LOAD, NUMBER, 0, 0),
        step(IS_FROM, X32, 0, 1),
        step(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        step(IS, libc::SYS_socket as u32, 2, 0),
        step(IS, libc::SYS_io_uring_setup as u32, 1, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
        step(RETURN, refuse, 0, 0),
    ];
    let filter = libc::sock_fprog { len: steps.len() as libc::c_ushort, filter: steps.as_mut_ptr() };
    let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
    // SAFETY: the pointer is that of a live filter, whose steps are live.
    check(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter) })
}

/// Lets the kernel end the calling process when its parent ends.
fn end_with_parent() -> io::Result<()> {
    // SAFETY: this option takes a number.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) })
}

/// Continues in a child, the first process of the new namespace of processes. The parent ends as the child does; if it
/// is killed, so is the child, and with it all processes of the namespace.
fn become_child() -> io::Result<()> {
    end_with_parent()?;
    // SAFETY: the process has one thread, as a child of `fork` in `Command`; the parent only makes system calls.
    unsafe {
        let child = libc::fork();
        check(child)?;
        if child == 0 {
            // A group of its own, since a signal to a group reaches all namespaces.
            return check(libc::setsid());
        }
        // All files: one is that by which `Command` learns that the program has started.
        libc::syscall(libc::SYS_close_range, 0 as libc::c_uint, libc::c_uint::MAX, 0 as libc::c_uint);
        let mut status = 0;
        while libc::waitpid(child, &raw mut status, 0) == -1 && *libc::__errno_location() == libc::EINTR {}
        libc::_exit(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 1 })
    }
}

/// Makes all files read-only, hides those of services and of other programs, and gives the program an empty folder.
fn mount_folders(toolchain: &CStr) -> io::Result<()> {
    let plain = libc::MS_NOSUID | libc::MS_NODEV;
    mount(c"none", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c"")?;
    // `struct mount_attr`: what is set, what is cleared, the propagation, a file.
    let attributes: [u64; 4] = [MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0, 0, 0];
    // SAFETY: the pointers are those of a live C string and of a live structure of this size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            libc::AT_RECURSIVE,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    check(result as libc::c_int)?;
    mount(c"proc", c"/proc", c"proc", plain | libc::MS_NOEXEC, c"")?;
    mount(c"tmpfs", c"/run", c"tmpfs", plain, c"size=1m,mode=755")?;
    // SAFETY: the pointer is that of a live C string.
    check(unsafe { libc::mkdir(c"/run/toolchain".as_ptr(), 0o755) })?;
    // With what is mounted in it, which a user namespace does not take apart.
    mount(toolchain, c"/run/toolchain", c"", libc::MS_BIND | libc::MS_REC, c"")?;
    // `MAX_FILE_BYTES` for all files together.
    mount(c"tmpfs", c"/tmp", c"tmpfs", plain, c"size=64m,mode=1777")?;
    // SAFETY: as above.
    check(unsafe { libc::chdir(c"/tmp".as_ptr()) })
}

fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: libc::c_ulong, options: &CStr) -> io::Result<()> {
    // SAFETY: the pointers are those of live C strings.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) })
}

fn write(path: &CStr, text: &str) -> io::Result<()> {
    // SAFETY: the pointers are those of a live C string and of as many live bytes as are written.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        check(file)?;
        let written = libc::write(file, text.as_ptr().cast(), text.len());
        let result = check(written as libc::c_int);
        libc::close(file);
        result
    }
}

/// Returns the error of a system call that returned -1.
fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
