//! The files of tasks whose items are a dataset of the Hub.

use std::collections::{BTreeMap, BTreeSet};

use artifact::Context;
use evaluate::tasks::{DataFile, HubDataset};
use fetch::{Environment, HubModel, Options, RemoteContext};

/// The branch with every dataset as Parquet: `CONFIGURATION/SPLIT/NUMBER.parquet`.
const REVISION: &str = "refs/convert/parquet";

/// The file with the commits, beside `dataset.lock` and `model.lock`.
const LOCK: &str = "tasks.lock";

/// Fetches the splits of a dataset that a task needs.
///
/// # Errors
/// Returns an error if the dataset or a split does not exist, or cannot be fetched.
pub fn files_of(
    dataset: &HubDataset,
    options: &Options,
    context: &Context,
) -> anyhow::Result<BTreeMap<String, Vec<DataFile>>> {
    let hub = HubModel::dataset(&dataset.path, REVISION).map_err(anyhow::Error::msg)?;
    let environment = Environment::of_process();
    let remote = RemoteContext::new(options, context, &environment)?;
    let choose = |names: &[&str]| match missing(dataset, names) {
        None => {
            Ok(names.iter().filter(|name| split_of(dataset, name).is_some()).map(|name| (*name).to_owned()).collect())
        }
        Some(split) => {
            let places: BTreeSet<&str> = names.iter().filter_map(|name| Some(name.rsplit_once('/')?.0)).collect();
            let places = places.into_iter().take(20).collect::<Vec<_>>().join(", ");
            Err(format!("has no split {}/{split}; it has {places}", configuration(dataset)))
        }
    };
    let lock = context.base.join(LOCK);
    let mut snapshot = hub.fetch(&lock, false, &choose, &remote)?;
    let locked: Vec<&str> = snapshot.files.iter().map(|file| file.path.as_str()).collect();
    if missing(dataset, &locked).is_some() {
        // What is locked is for another task, which needs other splits.
        snapshot = hub.fetch(&lock, true, &choose, &remote)?;
    }
    let mut splits = BTreeMap::<String, Vec<DataFile>>::new();
    for file in snapshot.files {
        if let Some(split) = split_of(dataset, &file.path).map(str::to_owned) {
            splits.entry(split).or_default().push(DataFile { name: file.path.into(), place: file.place });
        }
    }
    Ok(splits)
}

fn configuration(dataset: &HubDataset) -> &str {
    dataset.name.as_deref().unwrap_or("default")
}

/// Returns the first split that is needed and has none of the files.
fn missing<'d>(dataset: &'d HubDataset, paths: &[&str]) -> Option<&'d String> {
    dataset.splits.iter().find(|split| !paths.iter().any(|path| split_of(dataset, path) == Some(split)))
}

/// Returns the split of a file, if it is needed.
fn split_of<'p>(dataset: &HubDataset, path: &'p str) -> Option<&'p str> {
    let (found, rest) = path.split_once('/')?;
    let (split, file) = rest.split_once('/')?;
    let is_needed = found == configuration(dataset) && dataset.splits.iter().any(|other| other == split);
    (is_needed && !file.contains('/') && file.ends_with(".parquet")).then_some(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_belong_to_splits() {
        let dataset = |name: Option<&str>, splits: &[&str]| HubDataset {
            path: "owner/data".to_owned(),
            name: name.map(str::to_owned),
            splits: splits.iter().map(|split| (*split).to_owned()).collect(),
        };
        let paths = ["default/test/0000.parquet", "default/train/0000.parquet", "en/test/0000.parquet", "README.md"];
        let of = |dataset: &HubDataset| paths.map(|path| split_of(dataset, path));
        assert_eq!(of(&dataset(None, &["test"])), [Some("test"), None, None, None]);
        assert_eq!(of(&dataset(Some("en"), &["test"])), [None, None, Some("test"), None]);
        let both = dataset(Some("en"), &["test", "train"]);
        assert_eq!(missing(&both, &paths).map(String::as_str), Some("train"));
        assert_eq!(missing(&dataset(None, &["test", "train"]), &paths), None);
    }
}
