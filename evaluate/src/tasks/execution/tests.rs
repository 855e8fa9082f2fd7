//! Programs that pass, and programs that must do no harm.

use std::time::Instant;

use serde_json::json;

use super::*;

/// Returns what runs programs; None, with a line, where the toolchain is missing or the kernel allows no namespaces.
fn execution(language: &str, timeout_seconds: f64) -> Option<Execution> {
    let options = json!({"language": language, "timeout_seconds": timeout_seconds});
    match Execution::new(&serde_json::from_value(options).unwrap()) {
        Ok(execution) => Some(execution),
        Err(problem) => {
            assert!(problem.contains("isolate") || problem.contains("is needed, but"), "{problem}");
            eprintln!("not tested: {problem}");
            None
        }
    }
}

fn passes(execution: &Execution, program: &str) -> bool {
    !execution.passing("t", BTreeSet::from([program.to_owned()]), &Context::quiet(0)).unwrap().is_empty()
}

#[test]
fn right_programs_pass_and_wrong_ones_do_not() {
    let check = |language: &str, program: &str, expected: bool| {
        if let Some(execution) = execution(language, 20.0) {
            assert_eq!(passes(&execution, program), expected, "{program}");
        }
    };
    let add = "def add(a, b):\n    return a + b\n";
    check("python", &format!("{add}assert add(2, 3) == 5"), true);
    check("python", &format!("{add}assert add(2, 3) == 6"), false);
    check("python", "def add(a, b) return", false);
    // A program that ends before its tests does not pass them.
    check("python", "import sys\nsys.exit(0)\nassert False", false);
    check("python", "print('x' * 1_000_000)\nimport sys\nsys.stderr.write('x' * 1_000_000)", true);
    check("python", "open('a', 'w').write('x')\nassert open('a').read() == 'x'", true);
    check("rust", "fn add(a: i32, b: i32) -> i32 { a + b }\nfn main() { assert_eq!(add(2, 3), 5); }", true);
    check("rust", "fn add(a: i32, b: i32) -> i32 { a - b }\nfn main() { assert_eq!(add(2, 3), 5); }", false);
    check("rust", "fn add(a: i32", false);
}

#[test]
fn harmful_programs_fail_quickly_and_change_nothing() {
    let Some(execution) = execution("python", 2.0) else { return };
    let outside = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let file = outside.path().join("file");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let service = outside.path().join("service");
    let service_listener = std::os::unix::net::UnixListener::bind(&service).unwrap();
    let call = format!("import socket\nsocket.socket(socket.AF_UNIX).connect({service:?})");
    let connect = format!("import socket\nsocket.create_connection({:?}, 1)", ("127.0.0.1", port(&listener)));
    let write = format!("open({file:?}, 'w').write('x')");
    for program in [
        "while True: pass",
        "import time\ntime.sleep(60)",
        // Processes that leave the group, catch errors and wait.
        "import os\nwhile True:\n    try:\n        os.fork()\n        os.setsid()\n    except OSError:\n        pass",
        "bytearray(10 << 30)",
        "open('huge', 'wb').write(bytes(100 << 20))",
        "for i in range(100):\n    open(str(i), 'wb').write(bytes(10 << 20))",
        "open('/dev/shm/file', 'w').write('x')",
        "import os\nassert len([name for name in os.listdir('/proc') if name.isdigit()]) > 3",
        "import os\nassert os.listdir('/tmp') or len(os.listdir('/run')) > 1",
        "import os, signal\nos.kill(0, signal.SIGKILL)\nos.kill(-1, signal.SIGKILL)\nwhile True: pass",
        &connect,
        &call,
        &write,
    ] {
        let start = Instant::now();
        assert!(!passes(&execution, program), "{program}");
        assert!(start.elapsed() < Duration::from_secs(30), "{program} took {:?}", start.elapsed());
    }
    assert!(!file.exists());
    listener.set_nonblocking(true).unwrap();
    service_listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err() && service_listener.accept().is_err(), "nothing was connected");
    assert!(passes(&execution, ""), "the next program runs");
}

fn port(listener: &std::net::TcpListener) -> u16 {
    listener.local_addr().unwrap().port()
}

#[test]
fn no_process_outlives_its_program() {
    let Some(execution) = execution("python", 5.0) else { return };
    let seconds = 100_000 + std::process::id();
    let program = format!(
        "import os, subprocess\nif os.fork() == 0:\n    os.setsid()\n    os.execv('/bin/sleep', ['sleep', '{seconds}'])"
    );
    assert!(passes(&execution, &program));
    let name = format!("sleep\0{seconds}\0");
    let is_alive = || {
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .any(|entry| std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == name.as_bytes()))
    };
    let start = Instant::now();
    while is_alive() {
        assert!(start.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn wrong_options_are_named() {
    let check = |options: Value, expected: &str| {
        let options = serde_json::from_value::<CodeOptions>(options).map_err(|error| error.to_string());
        let error = options.and_then(|options| Execution::new(&options)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    check(json!({"language": "cobol"}), "unknown variant `cobol`, expected `python` or `rust`");
    check(json!({"language": "python", "timeout_seconds": 0}), "must be from 0.1 to 3600, not 0");
    check(json!({"language": "python", "limit": 1}), "unknown field `limit`");
    check(json!({}), "missing field `language`");
}

/// The estimator equals the fraction of all subsets of `k` samples in which one passes.
#[test]
fn the_estimator_is_that_of_all_subsets() {
    for n in 1..=8usize {
        for (passed, k) in (0..=n).flat_map(|passed| (1..=n).map(move |k| (passed, k))) {
            let subsets: Vec<u32> = (0..1u32 << n).filter(|subset| subset.count_ones() as usize == k).collect();
            let hits = subsets.iter().filter(|subset| **subset & ((1 << passed) - 1) != 0).count();
            let expected = hits as f64 / subsets.len() as f64;
            assert!((pass_at_k(n, passed, k) - expected).abs() < 1e-12, "{n} {passed} {k}");
        }
    }
    // 1 - C(190, 100) / C(200, 100), which overflows as a quotient of 64-bit numbers.
    assert!((pass_at_k(200, 10, 100) - 0.999_228_973_937_282_2).abs() < 1e-12, "{}", pass_at_k(200, 10, 100));
}
