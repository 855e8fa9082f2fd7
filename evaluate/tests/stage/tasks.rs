//! Tasks in the report: overlaps with the training data, gates, and items that flipped.

use super::*;

const TASK: &str = "output_type = \"multiple_choice\"\ndata = \"items.jsonl\"\ndoc_to_text = \"text\"\n\
                    doc_to_target = \"right\"\ndoc_to_choice = \"choices\"\ntarget_delimiter = \"\"\n\
                    metric_list = [{ metric = \"acc\" }]\n";

/// Writes the task `made.toml` with ten items, of which the first four are documents of the training data.
fn write_task(folder: &Path) -> Context {
    let text = |i: usize| match documents().get(i) {
        Some(document) if i < 4 => document.trim_end().trim_end_matches('}').to_owned(),
        _ => format!("Wer <b>{i}</b> Jahre wartet, ist"),
    };
    let item = |i: usize| json!({"text": text(i), "choices": ["}", " alt", "?!"], "right": i % 3}).to_string() + "\n";
    fs::write(folder.join("made.toml"), TASK).unwrap();
    fs::write(folder.join("items.jsonl"), (0..10).map(item).collect::<String>()).unwrap();
    Context { base: folder.to_owned(), ..Context::quiet(3) }
}

fn config_with(gates: Value) -> Config {
    let gates = serde_json::from_value(gates).unwrap();
    Config { tasks: vec!["made.toml".to_owned()], gates, ..config() }
}

fn report_of(sealed: &Sealed) -> Value {
    serde_json::from_str(&text(sealed, "report.json")).unwrap()
}

fn answers(sealed: &Sealed) -> Vec<Value> {
    text(sealed, "tasks.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn scores_are_divided_by_what_stands_in_the_training_data() {
    let (run, folder) = (inputs(), tempfile::tempdir().unwrap());
    let sealed = run.evaluate("evaluate", &config_with(json!({})), &write_task(folder.path())).unwrap();
    let overlaps: Vec<bool> = answers(&sealed).iter().map(|line| line["overlaps"].as_bool().unwrap()).collect();
    assert_eq!(overlaps, (0..10).map(|i| i < 4).collect::<Vec<_>>());
    let score = &report_of(&sealed)["tasks"][0]["scores"][0];
    for (name, items) in [("overlapping", 0..4), ("clean", 4..10)] {
        let own: Vec<f64> =
            answers(&sealed)[items.clone()].iter().map(|line| line["scores"]["acc"].as_f64().unwrap()).collect();
        assert_eq!(score[name]["items"], items.len());
        let mean = own.iter().sum::<f64>() / own.len() as f64;
        assert!((score[name]["value"].as_f64().unwrap() - mean).abs() < 1e-12, "{score}");
    }
    let page = text(&sealed, "report.html");
    assert!(page.contains("overlapping items") && page.contains("of 4</span>"));
}

#[test]
fn gates_have_conditions_on_scores_of_tasks() {
    let (run, folder) = (inputs(), tempfile::tempdir().unwrap());
    let context = write_task(folder.path());
    let passing = config_with(json!({"tasks": {"made": {"acc": ">= 0"}}}));
    let sealed = run.evaluate("passing", &passing, &context).unwrap();
    let verdict = &report_of(&sealed)["verdict"];
    assert_eq!((&verdict["passed"], &verdict["gates"][0]["metric"]), (&json!(true), &json!("tasks.made.acc")));
    let sealed = run.evaluate("failing", &config_with(json!({"tasks": {"made": {"acc": "> 1"}}})), &context).unwrap();
    let failed = evaluate::failed_gates(&sealed);
    assert!(failed.len() == 1 && failed[0].starts_with("tasks.made.acc is "), "{failed:?}");

    let check = |gates: Value, expected: &str| {
        let error = evaluate::inputs(&config_with(gates), &context).unwrap_err().to_string();
        assert_eq!(error, expected);
    };
    check(
        json!({"tasks": {"maid": {"acc": "> 1"}}}),
        "evaluate.gates.tasks has a condition on the task `maid`, but the tasks are made",
    );
    check(
        json!({"tasks": {"made": {"f1": "> 1"}}}),
        "evaluate.gates.tasks has a condition on `f1` of the task `made`, whose scores are acc",
    );
}

/// Returns a copy of a report whose answers to some items of the task are right, and to the others wrong.
fn with_right_answers(run: &Run, sealed: &Sealed, name: &str, is_right: impl Fn(usize) -> bool) -> Sealed {
    let copy = unsealed(run.root.path(), name);
    for file in ["documents.jsonl", "report.json"] {
        fs::copy(sealed.verified(file).unwrap(), copy.path(file)).unwrap();
    }
    let line = |(i, mut line): (usize, Value)| {
        line["scores"]["acc"] = f64::from(u8::from(is_right(i))).into();
        format!("{line}\n")
    };
    fs::write(copy.path("tasks.jsonl"), answers(sealed).into_iter().enumerate().map(line).collect::<String>()).unwrap();
    seal(copy)
}

#[test]
fn tasks_are_compared_with_an_earlier_run_item_by_item() {
    let (run, folder) = (inputs(), tempfile::tempdir().unwrap());
    let context = write_task(folder.path());
    let first = run.evaluate("first", &config_with(json!({})), &context).unwrap();
    let now: Vec<bool> = answers(&first).iter().map(|line| line["scores"]["acc"] == 1.0).collect();
    let check = |earlier: &Sealed, name: &str| {
        let baseline = Baseline { run: "demo-001", report: earlier };
        let gates = config_with(json!({"regression_vs": "last"}));
        run.evaluate_after(Some(baseline), name, &gates, &context).unwrap()
    };
    // The same answers: no difference.
    let sealed = check(&first, "same");
    let verdict = report_of(&sealed)["verdict"].clone();
    let task = &verdict["comparison"]["tasks"][0];
    assert_eq!(
        (&task["items"], &task["scores"][0]["difference"], &task["lost"]["count"]),
        (&json!(10), &json!(0.0), &json!(0))
    );
    assert_eq!(verdict["gates"][1]["metric"], "regression_vs: tasks.made.acc");
    assert_eq!(verdict["passed"], true);

    // The first three answers were others.
    let earlier = with_right_answers(&run, &first, "earlier", |i| now[i] != (i < 3));
    let sealed = check(&earlier, "later");
    let report = report_of(&sealed);
    let task = &report["verdict"]["comparison"]["tasks"][0];
    let items = |key: &str| -> Vec<u64> {
        task[key]["items"].as_array().unwrap().iter().map(|flip| flip["item"].as_u64().unwrap()).collect()
    };
    let expected = |is_right: bool| -> Vec<u64> { (0..3).filter(|i| now[*i as usize] == is_right).collect() };
    assert_eq!((items("lost"), items("won")), (expected(false), expected(true)));
    let page = text(&sealed, "report.html");
    assert!(
        page.contains("Tasks beside demo-001")
            && (page.contains("wrong before, right now") || expected(true).is_empty())
    );

    // Everything was right: this run is worse, beyond chance.
    let earlier = with_right_answers(&run, &first, "perfect", |_| true);
    let sealed = check(&earlier, "worse");
    let wrong = now.iter().filter(|right| !**right).count();
    assert!(wrong > 3, "a random model");
    assert_eq!(report_of(&sealed)["verdict"]["comparison"]["tasks"][0]["lost"]["count"], wrong);
    let failed = evaluate::failed_gates(&sealed);
    assert!(failed.len() == 1 && failed[0].starts_with("regression_vs: tasks.made.acc differs by -"), "{failed:?}");

    // Another task is not compared.
    fs::write(folder.path().join("made.toml"), TASK.replace("target_delimiter = \"\"", "target_delimiter = \" \""))
        .unwrap();
    let sealed = check(&first, "other");
    assert_eq!(report_of(&sealed)["verdict"]["comparison"]["tasks"], json!([]));
}
