//! Memorisation: a model that was trained on planted texts, repeated 1, 10 and 100 times.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::project::Project;

/// Returns a text of random words, the same for the same number.
fn text(number: u64, n_words: usize) -> String {
    let words: Vec<&str> =
        "count total offset length index value first rest left right state token width height depth \
                            source target buffer parser writer adds returns finds moves keeps drops reads sorts joins"
            .split_whitespace()
            .collect();
    let mut state = number * 2 + 1;
    let mut next = || {
        // Knuth, The Art of Computer Programming 2, MMIX's multiplier.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        words[(state >> 33) as usize % words.len()]
    };
    let text: Vec<&str> = (0..n_words).map(|_| next()).collect();
    text.join(" ") + "\n"
}

/// Returns the fraction of passages whose 50 tokens the model repeats.
fn whole(repetition: &Value) -> f64 {
    let longest = &repetition["lengths"][3];
    assert_eq!(longest["tokens"], 50);
    longest["fraction"].as_f64().unwrap()
}

#[test]
fn what_training_repeats_is_memorised_and_what_it_reads_once_is_not() {
    let project = Project::with(0);
    for number in 0..60 {
        project.write(&format!("texts/{number}.txt"), &text(number, 48));
    }
    // Few passages are within the text with 100 copies, so that the report has room for others.
    let planted = [(1, text(1001, 48)), (10, text(1010, 48)), (100, text(1101, 40))];
    for (copies, text) in &planted {
        for copy in 0..*copies {
            project.write(&format!("texts/planted-{copies}-{copy}.txt"), text);
        }
    }
    // No step removes duplicates.
    project.configure(
        "[preprocess]\nvalidation = 0.15\ntest = 0.15\n",
        "[preprocess]\nsteps = []\nvalidation = 0.05\ntest = 0.05\n",
    );
    project.configure("vocab_size = 300", "vocab_size = 320");
    project.configure("steps = 12\nbatch_size = 2", "steps = 300\nbatch_size = 8");
    project.configure("validation_every = 6", "validation_every = 300");
    project.configure("save_every = 3", "save_every = 300");
    project.configure(
        "context_length = 32\nn_layer = 1\nd_model = 32\nn_head = 2",
        "context_length = 96\nn_layer = 2\nd_model = 64\nn_head = 4",
    );
    project.configure(
        "sample_tokens = 8\n",
        "sample_tokens = 8\n\n[evaluate.risk]\nmemorisation_passages = 500\npairs = []\n",
    );
    let memorisation = |run: &str| -> Value {
        let path = project.artifact(run, "evaluate").join("report.json");
        let report: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        report["risk"]["memorisation"].clone()
    };
    project.succeeds(&["run", "--until", "evaluate"]);
    let found = memorisation("tiny-001");
    // Every document is looked at: what is repeated to its end are exactly the passages with 10 and 100 copies.
    let (train, repeated) = (&found["train"], &found["repeated"]);
    assert!(whole(repeated) >= 1.0, "{found:#}");
    let count = |repetition: &Value| repetition["passages"].as_u64().unwrap();
    let of_train = (whole(train) * count(train) as f64).round() as u64;
    assert_eq!(of_train, count(repeated), "{found:#}");
    assert!(count(train) > 3 * count(repeated) && whole(&found["held_out"]) <= 0.0, "{found:#}");
    let mut shown = BTreeSet::new();
    for passage in found["passages"].as_array().unwrap() {
        assert_eq!(passage["tokens"], 50, "{passage}");
        let copies = passage["copies"].as_u64().unwrap();
        let (_, text) = planted.iter().find(|(planted, _)| *planted == copies).unwrap();
        assert!(copies > 1 && text.contains(passage["repeated"].as_str().unwrap()), "{passage}");
        shown.insert(copies);
    }
    assert_eq!(shown, [10, 100].into(), "{found:#}");

    // What is not among them was read once.
    let once = planted[0].1.trim_end();
    let traced: Value = serde_json::from_str(&project.succeeds(&["trace", "latest", once, "--json"])).unwrap();
    assert_eq!((&traced["passages"][0]["text"], &traced["passages"][0]["count"]), (&once.into(), &1.into()));
}
