//! Intervals, details, gates and comparisons in the report.

use super::*;

fn report_of(sealed: &Sealed) -> Value {
    serde_json::from_str(&text(sealed, "report.json")).unwrap()
}

fn config_with(gates: Value) -> Config {
    Config { gates: serde_json::from_value(gates).unwrap(), ..config() }
}

#[test]
fn gates_that_fail_are_part_of_the_report() {
    let run = inputs();
    let check = |name: &str, gates: Value, failed: &[&str], on_page: &str| {
        let sealed = run.evaluate(name, &config_with(gates), &Context::quiet(3)).unwrap();
        let report = report_of(&sealed);
        assert_eq!(report["verdict"]["passed"], failed.is_empty());
        let found = evaluate::failed_gates(&sealed);
        assert_eq!(found.len(), failed.len(), "{found:?}");
        assert!(found.iter().zip(failed).all(|(found, expected)| found.starts_with(expected)), "{found:?}");
        assert_eq!(sealed.manifest().headline.contains("failed"), !failed.is_empty());
        let page = text(&sealed, "report.html");
        assert!(page.contains(on_page), "{on_page}");
    };
    check("none", json!({}), &[], "No gates are configured");
    check("passing", json!({"bits_per_byte": "< 20", "top_5_accuracy": ">= 0"}), &[], "all 2 gates passed");
    let gates = json!({"bits_per_byte": "<= 0.1", "perplexity": ">= 1", "memorised_fraction": "<= 0.5"});
    let failed = ["bits_per_byte is ", "memorised_fraction must be <= 0.5, but this run does not measure it"];
    check("failing", gates, &failed, "2 of 3 gates failed");
}

#[test]
fn details_divide_the_test_split() {
    let run = inputs();
    let sealed = run.evaluate("evaluate", &config(), &Context::quiet(3)).unwrap();
    let report = report_of(&sealed);
    let (details, bundle) = (&report["test_details"], &report["test"]["bundle"]);
    let sum =
        |rows: &Value, key: &str| rows.as_array().unwrap().iter().map(|row| row[key].as_u64().unwrap()).sum::<u64>();
    for rows in ["by_context", "by_training_frequency"] {
        assert_eq!(sum(&details[rows], "tokens"), bundle["tokens"].as_u64().unwrap(), "{rows}");
    }
    assert_eq!(sum(&details["calibration"]["bins"], "tokens"), bundle["tokens"].as_u64().unwrap());
    // The first document has no source, and 3, 6 and 9 have the rare one.
    let sources = details["by_source"].as_array().unwrap();
    let mut named: Vec<(&str, u64)> =
        sources.iter().map(|row| (row["source"].as_str().unwrap(), row["documents"].as_u64().unwrap())).collect();
    named.sort_unstable();
    assert_eq!(named, [("common", 8), ("rare <b>", 3)]);
    // The documents' losses are those of the whole.
    let lines: Vec<Value> =
        text(&sealed, "documents.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 12);
    assert_eq!((&lines[0]["source"], &lines[3]["source"]), (&Value::Null, &json!("rare <b>")));
    let total = |key: &str| lines.iter().map(|line| line[key].as_f64().unwrap()).sum::<f64>();
    let expected = bundle["bits_per_byte"].as_f64().unwrap();
    assert!((total("bundle_bits") / total("bytes") - expected).abs() < 1e-9);
}

#[test]
fn a_run_is_compared_with_an_earlier_one() {
    let run = inputs();
    let earlier = run.evaluate("earlier", &config(), &Context::quiet(3)).unwrap();
    let gates = config_with(json!({"regression_vs": "last"}));
    let baseline = Baseline { run: "demo-001", report: &earlier };
    let sealed = run.evaluate_after(Some(baseline), "later", &gates, &Context::quiet(3)).unwrap();
    let verdict = &report_of(&sealed)["verdict"];
    let comparison = &verdict["comparison"];
    assert_eq!(
        (&comparison["run"], &comparison["documents"], &comparison["is_paired"]),
        (&json!("demo-001"), &json!(12), &json!(true))
    );
    assert_eq!((&comparison["difference"], &comparison["is_worse"]), (&json!(0.0), &json!(false)));
    assert_eq!(comparison["report"], earlier.digest().to_string());
    assert_eq!((&verdict["passed"], &verdict["gates"][0]["metric"]), (&json!(true), &json!("regression_vs")));
    assert!(text(&sealed, "report.html").contains("Not to be told from demo-001"));
    // What the gate is compared with decides nothing by its name alone.
    assert_eq!(gates.fingerprint_value(), config().fingerprint_value());

    assert!(evaluate::is_comparable(&earlier) && !evaluate::is_comparable(&run.corpus));
    let old = Baseline { run: "demo-000", report: &run.corpus };
    let error = run.evaluate_after(Some(old), "again", &gates, &Context::quiet(3)).unwrap_err().to_string();
    assert!(error.contains("demo-000") && error.contains("repeat that run"), "{error}");
}

#[test]
fn configured_files_are_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let context = Context { base: folder.path().to_owned(), ..Context::quiet(3) };
    let pairs = "sent_more,sent_less,stereo_antistereo,bias_type\nThey add.,We add.,stereo,other\n";
    fs::write(folder.path().join("pairs.csv"), pairs).unwrap();
    fs::write(folder.path().join("words.txt"), "add\n").unwrap();
    let risk: evaluate::RiskConfig =
        serde_json::from_value(json!({"pairs": ["pairs.csv"], "toxic_words": "words.txt"})).unwrap();
    let config = Config { risk, ..config() };
    let digests = evaluate::inputs(&config, &context).unwrap();
    assert_eq!(digests.keys().collect::<Vec<_>>(), ["pairs pairs.csv", "toxic words"]);
    assert_eq!(digests["toxic words"], Digest::of(b"add\n"));
    assert!(evaluate::inputs(&super::config(), &context).unwrap().is_empty());

    let report = report_of(&inputs().evaluate("evaluate", &config, &context).unwrap());
    assert_eq!(report["risk"]["stereotypes"]["by_file"]["pairs.csv"]["pairs"], 1);
    assert_eq!(report["risk"]["toxicity"]["words"], 1);
    fs::remove_file(folder.path().join("words.txt")).unwrap();
    let error = evaluate::inputs(&config, &context).unwrap_err().to_string();
    assert!(error.contains("words.txt"), "{error}");
}
