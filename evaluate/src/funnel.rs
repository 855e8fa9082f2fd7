//! What became of the collected documents, from the `report.json` of stage preprocess.
//!
//! What is not there is left out, so that a report of an older or a newer preprocess still makes a page.

use serde::Serialize;
use serde_json::Value;

/// The way of the documents into the splits.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Funnel {
    /// What each step left, from everything collected to what was kept.
    pub(crate) steps: Vec<Amount>,
    /// Where the rest went.
    pub(crate) splits: Vec<Amount>,
    /// The licences of the rest, the largest first.
    pub(crate) licences: Vec<Amount>,
    pub(crate) bytes_per_token: Option<f64>,
}

/// Some of the documents.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Amount {
    pub(crate) name: String,
    pub(crate) documents: u64,
    pub(crate) bytes: u64,
    /// None before there were tokens.
    pub(crate) tokens: Option<u64>,
}

impl Funnel {
    /// Takes what it knows out of a report.
    pub(crate) fn read(report: &Value) -> Self {
        let steps = report["funnel"].as_array().into_iter().flatten();
        let steps = steps.filter_map(|step| Amount::read(step["step"].as_str()?, step)).collect();
        let named = |key: &str| -> Vec<Amount> {
            let amounts = report[key].as_object().into_iter().flatten();
            amounts.filter_map(|(name, amount)| Amount::read(name, amount)).collect()
        };
        let mut splits = named("splits");
        let place = |name: &str| ["train", "validation", "test"].iter().position(|known| *known == name);
        splits.sort_by_key(|split| place(&split.name).unwrap_or(usize::MAX));
        let mut licences = named("licences");
        licences.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
        Self { steps, splits, licences, bytes_per_token: report["bytes_per_token"].as_f64() }
    }
}

impl Amount {
    fn read(name: &str, value: &Value) -> Option<Self> {
        Some(Self {
            name: name.to_owned(),
            documents: value["documents"].as_u64()?,
            bytes: value["bytes"].as_u64()?,
            tokens: value["tokens"].as_u64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_known_is_taken_and_the_rest_passed_over() {
        let funnel = Funnel::read(&json!({
            "funnel": [
                {"step": "collected", "documents": 10, "bytes": 1000},
                {"step": "unique", "documents": 8, "bytes": 900},
                {"step": "later", "documents": "many"},
                7,
            ],
            "splits": {
                "test": {"documents": 1, "bytes": 50, "tokens": 20, "shards": 1},
                "train": {"documents": 7, "bytes": 850, "tokens": 300, "shards": 1},
            },
            "licences": {"MIT": {"documents": 2, "bytes": 100}, "Apache-2.0": {"documents": 6, "bytes": 800}},
            "bytes_per_token": 2.8,
            "new": {},
        }));
        let names = |amounts: &[Amount]| amounts.iter().map(|a| a.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&funnel.steps), ["collected", "unique"]);
        assert_eq!(names(&funnel.splits), ["train", "test"]);
        assert_eq!(names(&funnel.licences), ["Apache-2.0", "MIT"]);
        assert_eq!(funnel.splits[1].tokens, Some(20));
        assert_eq!(funnel.bytes_per_token, Some(2.8));
        for nothing in [json!(null), json!([]), json!({"funnel": {}, "splits": []})] {
            assert_eq!(Funnel::read(&nothing), Funnel::default());
        }
    }
}
