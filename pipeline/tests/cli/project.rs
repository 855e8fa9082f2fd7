//! A folder with texts and a configuration whose whole run takes seconds.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_pipeline");

/// A configuration of the smallest useful size.
pub const CONFIG: &str = r#"name = "tiny"
seed = 7
device = "cpu"

[[collect.sources]]
path = "texts"
licence = "CC0-1.0"

[preprocess]
validation = 0.15
test = 0.15

[preprocess.tokenizer]
vocab_size = 300

[train]
steps = 12
batch_size = 2
learning_rate = 0.004
validation_every = 6
validation_tokens = 256
save_every = 3
sample_every = 0

[train.model]
context_length = 32
n_layer = 1
d_model = 32
n_head = 2

[optimize]
parity_tokens = 256

[evaluate]
max_tokens = 512
samples = 2
sample_tokens = 8

[generate]
prompts = ["fn main() {"]
samples_per_prompt = 1
max_tokens = 8

[serve]
check_requests = 1
check_max_tokens = 4
"#;

/// Texts, a configuration, and the results of runs.
pub struct Project {
    folder: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it printed on stdout.
    pub out: String,
    /// What it printed on stderr.
    pub err: String,
}

impl Project {
    /// Returns a project with sixty texts.
    pub fn new() -> Self {
        Self::with(60)
    }

    /// Returns a project with `count` texts.
    pub fn with(n_texts: usize) -> Self {
        let project = Self { folder: TempDir::new().unwrap() };
        project.write("pipeline.toml", CONFIG);
        fs::create_dir(project.path("texts")).unwrap();
        for i in 0..n_texts {
            project.write(&format!("texts/{i:02}.rs"), &text(i));
        }
        project
    }

    /// Returns the path of a file in the project.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Replaces a part of the configuration that must be there.
    pub fn configure(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("pipeline.toml")).unwrap();
        assert!(text.contains(from), "{from} is not in\n{text}");
        self.write("pipeline.toml", &text.replacen(from, to, 1));
    }

    /// Returns the command, to be started in the project's folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for variable in ["PIPELINE_LOG", "COLUMNS", "LINES"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs the program to its end.
    pub fn pipeline(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(arguments).output().unwrap())
    }

    /// Runs the program, which must succeed, and returns its stdout.
    pub fn succeeds(&self, arguments: &[&str]) -> String {
        let ended = self.pipeline(arguments);
        assert_eq!(ended.code, Some(0), "pipeline {arguments:?}\n{}\n{}", ended.out, ended.err);
        ended.out
    }

    /// Runs the program, which must fail with `code`, and returns its stderr.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let ended = self.pipeline(arguments);
        assert_eq!(ended.code, Some(code), "pipeline {arguments:?}\n{}\n{}", ended.out, ended.err);
        ended.err
    }

    /// Returns the record of a run.
    pub fn record(&self, run: &str) -> Value {
        let path = self.path(&format!("experiments/runs/{run}/run.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// Returns the stages of a run with their reasons: `collect ran: never run before`.
    pub fn stages(&self, run: &str) -> Vec<String> {
        let record = self.record(run);
        let stage = |stage: &Value| {
            let what = if stage["ran"] == true { "ran" } else { "skipped" };
            format!("{} {what}: {}", stage["stage"].as_str().unwrap(), stage["reason"].as_str().unwrap())
        };
        record["stages"].as_array().unwrap().iter().map(stage).collect()
    }

    /// Returns the folder of a stage's artifact in a run.
    pub fn artifact(&self, run: &str, stage: &str) -> PathBuf {
        let record = self.record(run);
        let stages = record["stages"].as_array().unwrap();
        let found = stages.iter().find(|found| found["stage"] == stage).unwrap();
        self.path(&format!("experiments/artifacts/{stage}/{}", found["fingerprint"].as_str().unwrap()))
    }

    /// Returns the digest that a manifest gives a file.
    pub fn digest(&self, run: &str, stage: &str, file: &str) -> String {
        let path = self.artifact(run, stage).join("manifest.json");
        let manifest: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        manifest["files"][file]["sha256"].as_str().unwrap().to_owned()
    }

    /// Compares a text with a snapshot, without the parts that depend on the run and the machine.
    pub fn snapshot(&self, name: &str, text: &str) {
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        for folder in [self.folder.path().to_owned(), self.folder.path().canonicalize().unwrap()] {
            settings.add_filter(&regex_of(&folder), "DIR");
        }
        settings.add_filter(&regex_of(Path::new(PROGRAM)), "pipeline");
        // Results of a model differ slightly between processors.
        settings.add_filter(r"(nothing changed): .*", "$1: FIGURES");
        settings.add_filter(r"\b\d+(\.\d+)? (B|kB|MB)\b", "SIZE");
        settings.add_filter(r"\b[0-9a-f]{64}\b", "DIGEST");
        settings.add_filter(r"\b[0-9a-f]{12}\b", "DIGEST");
        settings.add_filter(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "WHEN");
        settings.add_filter(r" *\b\d+(\.\d+)? (s|min \d\d s)\b", " TIME");
        settings.bind(|| insta::assert_snapshot!(name, text));
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

fn regex_of(path: &Path) -> String {
    let mut pattern = String::new();
    for c in path.display().to_string().chars() {
        if !c.is_alphanumeric() && c != '/' {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// Returns a text of about 900 bytes that looks like code; texts of different numbers differ.
fn text(number: usize) -> String {
    let names = ["count", "total", "offset", "length", "index", "value", "first", "rest", "left", "right"];
    let mut state = number as u64 * 2 + 1;
    let mut next = |below: usize| {
        // Knuth, The Art of Computer Programming 2, MMIX's multiplier.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut text = format!("//! Part {number}.\n\n");
    for _ in 0..8 {
        let (a, b, c) = (names[next(10)], names[next(10)], names[next(10)]);
        let n = next(100);
        writeln!(text, "/// Returns the {a} of the {b}.\npub fn {a}_{b}({c}: usize) -> usize {{\n    {c} + {n}\n}}\n")
            .unwrap();
    }
    text
}
