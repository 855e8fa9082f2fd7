//! `data card`: the dataset card.

use std::collections::BTreeMap;

use anyhow::bail;
use artifact::{Cancel, Sealed, file};
use serde_json::Value;

use super::corpus::{configuration, corpus, dataset_folder, session};
use crate::cli::StoreArgs;
use crate::cli::data::{CardArgs, CorpusArgs};
use crate::commands::print_out;
use crate::run::stage::Stage;
use crate::ui::console::Console;

/// Runs the command.
pub fn run(arguments: &CardArgs) -> anyhow::Result<()> {
    let Some(folder) = dataset_folder(&arguments.name) else {
        bail!("there is no dataset `{}`; `pipeline data ls` lists them", arguments.name);
    };
    let store = StoreArgs { store: None };
    let (corpus, _) = corpus(&CorpusArgs { name: arguments.name.clone(), offline: arguments.offline, store })?;
    let loaded = configuration(&folder)?;
    let session = session(loaded, arguments.offline, &Console::new(), &Cancel::default())?;
    let (loaded, context) = (&session.loaded, session.context());
    let inventory = data_ingest::inventory(&data_ingest::resolve(&loaded.config.collect, &context)?, &context)?;
    let tokens = tokens_by_licence(&session.store.list(Stage::Preprocess.name())?, &corpus)?;
    let path = arguments.out.clone().unwrap_or_else(|| folder.join("CARD.md"));
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        file::create_folder(parent)?;
    }
    data_ingest::dataset::card::write(&path, &inventory, corpus.folder(), tokens.as_ref())?;
    print_out!("wrote {}", path.display())?;
    if tokens.is_none() {
        print_out!("It has no tokens: no run has tokenized this dataset yet.")?;
    }
    Ok(())
}

/// Returns the tokens by licence that the latest of `tokenized` made of `corpus`, if one did.
fn tokens_by_licence(tokenized: &[Sealed], corpus: &Sealed) -> anyhow::Result<Option<BTreeMap<String, u64>>> {
    let digest = corpus.digest();
    let of_corpus = |sealed: &&Sealed| sealed.manifest().recipe.inputs.get(Stage::Collect.artifact()) == Some(&digest);
    let made =
        |sealed: &&Sealed| std::fs::metadata(sealed.folder().join("report.json")).and_then(|m| m.modified()).ok();
    let Some(tokens) = tokenized.iter().filter(of_corpus).max_by_key(made) else { return Ok(None) };
    let path = tokens.verified("report.json")?;
    let bytes = std::fs::read(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
    let report: Value = serde_json::from_slice(&bytes)?;
    let licences = report["licences"].as_object().into_iter().flatten();
    Ok(Some(licences.filter_map(|(licence, amount)| Some((licence.clone(), amount["tokens"].as_u64()?))).collect()))
}
