//! What garbage collection keeps and removes, beside a search of the graph of artifacts node by node.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use artifact::gc::{Entry, Survey, collect, survey};
use artifact::{Digest, Host, Outcome, Recipe, Store};
use proptest::prelude::*;

/// A node of a random graph: the earlier nodes that it is made from, whether it is a root, whether it is finished.
type Node = (Vec<prop::sample::Index>, bool, bool);

/// Writes the graph; returns for each node its fingerprint and the nodes that it is made from.
fn write(store: &Store, nodes: &[Node]) -> Vec<(Digest, Vec<usize>)> {
    let mut digests: Vec<Option<Digest>> = Vec::new();
    let mut written = Vec::new();
    for (i, (parents, _, is_finished)) in nodes.iter().enumerate() {
        // Unfinished work has no digest that others could be made from.
        let finished: Vec<usize> = (0..i).filter(|at| digests[*at].is_some()).collect();
        let parents: BTreeSet<usize> = if finished.is_empty() {
            BTreeSet::new()
        } else {
            parents.iter().map(|index| *index.get(&finished)).collect()
        };
        let inputs: BTreeMap<String, Digest> =
            parents.iter().filter_map(|at| digests[*at].map(|digest| (format!("input {at}"), digest))).collect();
        let recipe = Recipe {
            stage: ["collect", "train"][i % 2].to_owned(),
            stage_version: 1,
            config: serde_json::json!(i),
            inputs,
            seed: 1,
            device_class: None,
        };
        let fingerprint = recipe.fingerprint();
        let unsealed = store.begin(recipe).unwrap();
        fs::write(unsealed.path("data"), format!("content {i}")).unwrap();
        digests.push(is_finished.then(|| unsealed.seal(Outcome::default(), 0.0, Host::default()).unwrap().digest()));
        written.push((fingerprint, parents.into_iter().collect()));
    }
    written
}

fn node() -> impl Strategy<Value = Node> {
    let parents = prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    (parents, prop::bool::weighted(0.25), prop::bool::weighted(0.8))
}

fn fingerprints(entries: &[Entry]) -> BTreeSet<Digest> {
    entries.iter().map(|entry| entry.fingerprint).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_a_root_needs_stays_and_the_rest_goes(
        nodes in prop::collection::vec(node(), 1..12),
        drop_abandoned in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let written = write(&store, &nodes);
        let is_root = |i: &usize| nodes[*i].1;
        let roots: BTreeSet<Digest> = (0..nodes.len()).filter(is_root).map(|i| written[i].0).collect();
        // From each source upwards, node by node.
        let mut needed = BTreeSet::new();
        let is_source = |i: &usize| is_root(i) || (!nodes[*i].2 && !drop_abandoned);
        let mut stack: Vec<usize> = (0..nodes.len()).filter(is_source).collect();
        while let Some(at) = stack.pop() {
            if needed.insert(at) {
                stack.extend(&written[at].1);
            }
        }
        let found = survey(&store, &roots, drop_abandoned).unwrap();
        let expected = |is_finished: bool, is_needed: bool| -> BTreeSet<Digest> {
            let chosen = (0..nodes.len()).filter(|i| nodes[*i].2 == is_finished && needed.contains(i) == is_needed);
            chosen.map(|i| written[i].0).collect()
        };
        prop_assert_eq!(fingerprints(&found.needed), expected(true, true));
        prop_assert_eq!(fingerprints(&found.unneeded), expected(true, false));

        let lock = store.lock().unwrap();
        collect(&store, &found.unneeded, &lock).unwrap();
        let after = survey(&store, &roots, drop_abandoned).unwrap();
        prop_assert_eq!(&after.needed, &found.needed);
        prop_assert!(after.unneeded.is_empty());
        let n_unfinished = nodes.iter().filter(|node| !node.2).count();
        prop_assert_eq!(after.abandoned.len() + after.unfinished.len(), n_unfinished);
    }
}

#[test]
fn what_cannot_be_read_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let name = Digest::of(b"name").to_string();
    for path in ["train/notes".to_owned(), format!("train/{name}"), ".cache/x".to_owned()] {
        fs::create_dir_all(folder.path().join(path)).unwrap();
    }
    fs::write(folder.path().join(format!("train/{name}/manifest.json")), "{\"schema_version\": 99}").unwrap();
    assert_eq!(survey(&store, &BTreeSet::new(), true).unwrap(), Survey::default());
}
