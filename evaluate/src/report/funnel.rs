//! The data funnel: documents from collection to the splits, from the `report.json` of stage preprocess.
//!
//! Missing values are left out, so that reports of older and newer versions of preprocess can be read.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// The documents at each stage of filtering, and in the splits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Funnel {
    /// The documents left after each step, from the first.
    pub(crate) steps: Vec<DataAmount>,
    /// The documents in each split.
    pub(crate) splits: Vec<DataAmount>,
    /// The documents by licence, the largest number of bytes first.
    pub(crate) licences: Vec<DataAmount>,
    /// The documents by source, the largest number of bytes first.
    pub(crate) sources: Vec<DataAmount>,
    /// The criteria that documents failed, most documents first.
    pub(crate) failed: Vec<Failed>,
    pub(crate) bytes_per_token: Option<f64>,
}

/// The documents that failed a criterion of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Failed {
    /// The step and the criterion.
    pub(crate) criterion: String,
    pub(crate) documents: u64,
}

/// An amount of data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub(crate) struct DataAmount {
    pub(crate) name: String,
    pub(crate) documents: u64,
    pub(crate) bytes: u64,
    /// None before tokenization.
    pub(crate) tokens: Option<u64>,
    /// Tokens that count towards the loss. None except for splits.
    pub(crate) learned_tokens: Option<u64>,
}

impl Funnel {
    /// Reads the known fields of a report.
    pub(crate) fn read(report: &Value) -> Self {
        let steps = report["funnel"].as_array().into_iter().flatten();
        let steps = steps.filter_map(|step| DataAmount::read(step["step"].as_str()?, step)).collect();
        let named = |key: &str| -> Vec<DataAmount> {
            let amounts = report[key].as_object().into_iter().flatten();
            amounts.filter_map(|(name, amount)| DataAmount::read(name, amount)).collect()
        };
        let mut splits = named("splits");
        let position = |name: &str| ["train", "validation", "test"].iter().position(|known| *known == name);
        splits.sort_by_key(|split| position(&split.name).unwrap_or(usize::MAX));
        let by_size = |key: &str| {
            let mut amounts = named(key);
            amounts.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
            amounts
        };
        let failed = report["failed"].as_object().into_iter().flatten();
        let failed = failed.filter_map(|(name, count)| {
            Some(Failed { criterion: name.clone(), documents: count.as_u64().filter(|count| *count > 0)? })
        });
        let mut failed: Vec<Failed> = failed.collect();
        failed.sort_by(|a, b| b.documents.cmp(&a.documents).then_with(|| a.criterion.cmp(&b.criterion)));
        let (licences, sources) = (by_size("licences"), by_size("sources"));
        Self { steps, splits, licences, sources, failed, bytes_per_token: report["bytes_per_token"].as_f64() }
    }
}

impl DataAmount {
    fn read(name: &str, value: &Value) -> Option<Self> {
        Some(Self {
            name: name.to_owned(),
            documents: value["documents"].as_u64()?,
            bytes: value["bytes"].as_u64()?,
            tokens: value["tokens"].as_u64(),
            learned_tokens: value["learned_tokens"].as_u64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_and_malformed_fields_are_skipped() {
        let funnel = Funnel::read(&json!({
            "funnel": [
                {"step": "collected", "documents": 10, "bytes": 1000},
                {"step": "unique", "documents": 8, "bytes": 900},
                {"step": "later", "documents": "many"},
                7,
            ],
            "splits": {
                "test": {"documents": 1, "bytes": 50, "tokens": 20, "shards": 1},
                "train": {"documents": 7, "bytes": 850, "tokens": 300, "learned_tokens": 120, "shards": 1},
            },
            "licences": {"MIT": {"documents": 2, "bytes": 100}, "Apache-2.0": {"documents": 6, "bytes": 800}},
            "sources": {"a": {"documents": 3, "bytes": 5}, "b": {"documents": 5, "bytes": 895}},
            "failed": {"quality.mean_line_length": 3, "length.too_long": 7, "none": 0, "unknown": "many"},
            "bytes_per_token": 2.8,
            "new": {},
        }));
        let names = |amounts: &[DataAmount]| amounts.iter().map(|a| a.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&funnel.steps), ["collected", "unique"]);
        assert_eq!(names(&funnel.splits), ["train", "test"]);
        assert_eq!(names(&funnel.licences), ["Apache-2.0", "MIT"]);
        assert_eq!(names(&funnel.sources), ["b", "a"]);
        let failed: Vec<(&str, u64)> = funnel.failed.iter().map(|f| (&*f.criterion, f.documents)).collect();
        assert_eq!(failed, [("length.too_long", 7), ("quality.mean_line_length", 3)]);
        assert_eq!(funnel.splits[1].tokens, Some(20));
        assert_eq!([0, 1].map(|i: usize| funnel.splits[i].learned_tokens), [Some(120), None]);
        assert_eq!(funnel.bytes_per_token, Some(2.8));
        for nothing in [json!(null), json!([]), json!({"funnel": {}, "splits": []})] {
            assert_eq!(Funnel::read(&nothing), Funnel::default());
        }
    }
}
