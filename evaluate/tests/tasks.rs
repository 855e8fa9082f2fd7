//! Tasks asked of a tiny model, against what lm-evaluation-harness finds for the same files.
//!
//! `fixtures/lm_eval` is written by `beside_lm_eval.py --fixture`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use artifact::Context;
use evaluate::Error;
use evaluate::tasks::{
    self, LocalModel, ResponseCache, Scorer, Task, TaskOptions, TaskRequest, TaskResponse, TaskResult,
};
use serde_json::{Value, json};

/// The tasks of the fixture.
const TASKS: [&str; 7] = ["choices", "few_shot", "letters", "yes_no", "last_word", "contexts", "exact"];

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lm_eval")
}

fn load(names: &[&str]) -> Vec<Task> {
    let load = |name: &&str| Task::load(&format!("{name}.yaml"), &fixture(), &TaskOptions::default()).unwrap();
    names.iter().map(load).collect()
}

fn model() -> LocalModel {
    LocalModel::open(&fixture().join("llama"), "cpu").unwrap()
}

fn expected() -> Value {
    serde_json::from_str(&fs::read_to_string(fixture().join("expected.json")).unwrap()).unwrap()
}

fn evaluate(tasks: &[Task], scorer: &mut dyn Scorer, cache: &mut ResponseCache) -> Result<Vec<TaskResult>, Error> {
    tasks::evaluate(tasks, scorer, cache, None, &Context::quiet(0))
}

#[test]
fn scores_and_answers_are_those_of_lm_evaluation_harness() {
    let results = evaluate(&load(&TASKS), &mut model(), &mut ResponseCache::in_memory()).unwrap();
    let expected = expected();
    let mut found: BTreeMap<[String; 3], f64> = BTreeMap::new();
    for task in &results {
        for score in &task.scores {
            found.insert([task.name.clone(), score.metric.clone(), score.filter.clone()], score.value);
        }
    }
    let rows = expected["scores"].as_array().unwrap();
    assert_eq!(found.len(), rows.len());
    for row in rows {
        let key = [0, 1, 2].map(|i: usize| row[i].as_str().unwrap().to_owned());
        let (found, expected) = (found[&key], row[3].as_f64().unwrap());
        assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{key:?}: {found}, not {expected}");
    }
    for row in expected["answers"].as_array().unwrap() {
        let task = results.iter().find(|task| row[0] == task.name.as_str()).unwrap();
        let answer = &task.answers[row[1].as_u64().unwrap() as usize];
        let expected = row[2].as_array().unwrap();
        assert_eq!(answer.responses.len(), expected.len());
        for (found, expected) in answer.responses.iter().zip(expected) {
            match found {
                TaskResponse::Text { text } => assert_eq!(expected, text),
                TaskResponse::Likelihood { log_likelihood, is_greedy } => {
                    let difference = (log_likelihood - expected[0].as_f64().unwrap()).abs();
                    assert!(difference < 1e-4, "{} {}: {found:?}, not {expected}", row[0], row[1]);
                    assert_eq!(expected[1], *is_greedy);
                }
            }
        }
    }
}

#[test]
fn built_in_tasks_can_be_asked() {
    let options = TaskOptions { num_fewshot: Some(2), limit: 5, ..TaskOptions::default() };
    let load = |name| Task::load(name, Path::new("nowhere"), &options);
    let tasks: Vec<Task> = tasks::names(false).map(|name| load(name).unwrap()).collect();
    let results = evaluate(&tasks, &mut model(), &mut ResponseCache::in_memory()).unwrap();
    assert_eq!(results.iter().map(|task| &*task.name).collect::<Vec<_>>(), ["english", "chinese", "code"]);
    for task in &results {
        assert_eq!((task.items, task.num_fewshot, task.answers.len()), (5, 2, 5));
        assert_eq!(task.scores.iter().map(|score| &*score.metric).collect::<Vec<_>>(), ["acc", "acc_norm"]);
        for score in &task.scores {
            let [low, high] = score.ends().unwrap();
            assert!(low <= score.value && score.value <= high && (0.0..=1.0).contains(&score.value), "{score:?}");
        }
    }
    let lines = tasks::lines(&results);
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((&first["task"], &first["item"]), (&json!("english"), &json!(0)));
    assert_eq!(first["responses"].as_array().unwrap().len(), 4);
    assert!(first["scores"]["acc"].is_number());
}

/// Right answers of built-in tasks are at each place about equally often, so that a constant answer scores 1/4.
#[test]
fn built_in_tasks_are_balanced() {
    for name in tasks::names(false) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tasks/{name}.jsonl"));
        let mut counts = [0; 4];
        for line in fs::read_to_string(path).unwrap().lines() {
            let item: Value = serde_json::from_str(line).unwrap();
            let choices = item["choices"].as_array().unwrap();
            assert_eq!(choices.len(), 4, "{line}");
            assert!(choices.iter().enumerate().all(|(i, choice)| !choices[..i].contains(choice)), "{line}");
            counts[item["label"].as_u64().unwrap() as usize] += 1;
        }
        let items: i32 = counts.iter().sum();
        assert!((40..=60).contains(&items) && counts.iter().all(|count| (count - items / 4).abs() <= 2), "{counts:?}");
    }
}

/// Answers with numbers until it is asked too often.
struct Counting {
    answers_left: usize,
    asked: usize,
}

impl Scorer for Counting {
    fn answer(
        &mut self,
        requests: &[TaskRequest],
        on_response: &mut dyn FnMut(usize, TaskResponse) -> bool,
    ) -> Result<(), Error> {
        for index in (0..requests.len()).rev() {
            if self.answers_left == 0 {
                return Err(Error::Interrupted);
            }
            self.answers_left -= 1;
            self.asked += 1;
            let response = match &requests[index] {
                TaskRequest::Likelihood { continuation, .. } => {
                    TaskResponse::Likelihood { log_likelihood: -(continuation.len() as f64), is_greedy: false }
                }
                TaskRequest::Generate { context, .. } => TaskResponse::Text { text: context.clone() },
            };
            if !on_response(index, response) {
                return Err(Error::Interrupted);
            }
        }
        Ok(())
    }
}

#[test]
fn an_interrupted_evaluation_continues() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers.jsonl");
    let tasks = load(&["choices", "last_word", "exact"]);
    let mut whole = Counting { answers_left: usize::MAX, asked: 0 };
    let expected = evaluate(&tasks, &mut whole, &mut ResponseCache::in_memory()).unwrap();

    let mut model = Counting { answers_left: 20, asked: 0 };
    let error = evaluate(&tasks, &mut model, &mut ResponseCache::open(&path).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
    model.answers_left = usize::MAX;
    let found = evaluate(&tasks, &mut model, &mut ResponseCache::open(&path).unwrap()).unwrap();
    assert_eq!((found, model.asked), (expected, whole.asked));

    // Nothing is asked again.
    model.answers_left = 0;
    evaluate(&tasks, &mut model, &mut ResponseCache::open(&path).unwrap()).unwrap();
}

/// Writes the solution of every built-in function for samples with an even seed, and nonsense for the others.
struct Programmer(Vec<Value>);

impl Scorer for Programmer {
    fn answer(
        &mut self,
        requests: &[TaskRequest],
        on_response: &mut dyn FnMut(usize, TaskResponse) -> bool,
    ) -> Result<(), Error> {
        for (index, request) in requests.iter().enumerate() {
            let TaskRequest::Generate { context, sampling: Some(sampling), .. } = request else {
                panic!("{request:?}")
            };
            let item = self.0.iter().find(|item| item["prompt"] == context.as_str()).unwrap();
            let text =
                if sampling.seed.is_multiple_of(2) { item["solution"].as_str().unwrap() } else { "    return nothing" };
            assert!(on_response(index, TaskResponse::Text { text: text.to_owned() }));
        }
        Ok(())
    }
}

#[test]
fn generated_functions_are_run_against_their_tests() {
    let options = TaskOptions { allow_code_execution: true, ..TaskOptions::default() };
    let task = match Task::load("python_functions", Path::new("nowhere"), &options) {
        Ok(task) => task,
        Err(error) => {
            let problem = error.to_string();
            assert!(problem.contains("isolate") || problem.contains("python3 is needed, but"), "{problem}");
            return eprintln!("not tested: {problem}");
        }
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tasks/python_functions.jsonl");
    let items = fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let results = evaluate(&[task], &mut Programmer(items), &mut ResponseCache::in_memory()).unwrap();
    let scores: Vec<(&str, f64)> = results[0].scores.iter().map(|score| (&*score.metric, score.value)).collect();
    assert_eq!(scores, [("pass@1", 0.5), ("pass@4", 1.0)]);
    assert_eq!((results[0].items, results[0].answers[0].responses.len()), (20, 4));
}

#[test]
fn code_runs_only_if_that_is_allowed() {
    let load = |name| Task::load(name, &fixture(), &TaskOptions::default()).unwrap_err().to_string();
    let error = load("python_functions");
    assert!(error.contains("allow_code_execution = true"), "{error}");
    assert!(tasks::names(false).all(|name| name != "python_functions"));

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("items.jsonl"), "{\"q\": \"a\", \"t\": \"b\"}\n").unwrap();
    let check = |text: &str, expected: &str| {
        let base = "doc_to_text = \"q\"\ndoc_to_target = \"t\"\ndata = \"items.jsonl\"\n";
        fs::write(folder.path().join("task.toml"), base.to_owned() + text).unwrap();
        let options = TaskOptions { allow_code_execution: true, ..TaskOptions::default() };
        let error = Task::load("task.toml", folder.path(), &options).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let code = "code = { language = \"python\" }\n";
    check("metric_list = [{ metric = \"pass_at_k\" }]", "the metric `pass_at_k` needs `code = {");
    check(&format!("{code}repeats = 0"), "`repeats` must be at least 1");
    check(&format!("{code}repeats = 4"), "`repeats` = 4 without sampling");
    check(&format!("{code}metric_list = [{{ metric = \"exact_match\" }}]"), "is all that `code` is for");
    check(&format!("{code}metric_list = [{{ metric = \"pass_at_k\", k = [2] }}]"), "needs `repeats = 2` or more");
    check("metric_list = [{ metric = \"exact_match\", k = [2] }]", "the metric `exact_match` has no `k`");
    let sampled = format!("{code}generation_kwargs = {{ do_sample = true, top_p = 2.0 }}");
    check(&sampled, "needs a `temperature` above 0 and a `top_p` above 0 and at most 1");
}

#[test]
fn the_loss_of_a_text_is_that_of_its_tokens() {
    let model = model();
    let text = "The small dog sees the old house. ".repeat(40);
    let loss = model.text_loss(&text).unwrap();
    assert_eq!(loss.bytes, text.len() as u64);
    assert!(loss.tokens > 256, "{loss:?}");
    let bits = loss.loss_nats * loss.tokens as f64 / 2_f64.ln() / text.len() as f64;
    assert!((loss.bits_per_byte - bits).abs() < 1e-9 && (loss.perplexity.ln() - loss.loss_nats).abs() < 1e-9);
    assert!(model.text_loss("").is_err());
}

#[test]
fn wrong_tasks_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let items = "{\"q\": \"a\", \"c\": [\"x\", \"y\"], \"a\": 0}\n";
    fs::write(folder.path().join("items.jsonl"), items).unwrap();
    let check = |text: &str, expected: &str| {
        fs::write(folder.path().join("task.toml"), text).unwrap();
        let error = Task::load("task.toml", folder.path(), &TaskOptions::default()).unwrap_err().to_string();
        assert!(error.contains("task.toml") && error.contains(expected), "{error}");
    };
    let base = "output_type = \"multiple_choice\"\ndoc_to_text = \"q\"\ndoc_to_target = \"a\"\ndoc_to_choice = \"c\"\n";
    check(base, "it names no data");
    check(&format!("{base}data = \"items.jsonl\"\nrepeats = 2"), "`repeats` = 2 is not supported without `code`");
    check(&format!("{base}data = \"items.jsonl\"\nnum_fewshot = 1"), "there are only 0 examples");

    check(&format!("{base}data = \"items.jsonl\"\nfilters = 1"), "unknown field `filters`");
    check("doc_to_text = \"{{ x }}\"\ndoc_to_target = \"a\"\ndata = \"items.jsonl\"", "undefined value");
    check(
        "doc_to_text = \"q\"\ndoc_to_target = \"a\"\ndata = \"items.jsonl\"\ngeneration_kwargs = { do_sample = true }",
        "sampling in `generation_kwargs` is not supported",
    );
    let error = Task::load("nothing", folder.path(), &TaskOptions::default()).unwrap_err().to_string();
    assert_eq!(
        error,
        "the task nothing cannot be used: there is no such task; name a .toml or .yaml file, or one of english, \
         chinese, code, python_functions"
    );
}
