//! `evaluate`: asks a model tasks, and measures its loss on a text.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use artifact::file::tidy;
use artifact::format::grouped;
use artifact::{Context, StoreLayout, file};
use evaluate::tasks::{
    self, HttpModel, HubDataset, LocalModel, PartialScore, ResponseCache, Scorer, Task, TaskOptions, TaskResult,
    TextLoss,
};
use registry::{Model, Origin};
use serde_json::json;
use trace::Index;

use crate::cli::evaluate::EvaluateArgs;
use crate::config::Config;
use crate::platform::host::host;
use crate::platform::interrupt::Interrupted;
use crate::run::stage::Stage;
use crate::run::{answers, engine, session, task_data};
use crate::ui::console::Console;
use crate::ui::summary::{align_right, new_table, text_of};

use super::print_out;

/// Runs the command.
pub fn run(arguments: &EvaluateArgs) -> anyhow::Result<()> {
    let console = Console::new();
    super::log_to(&console, "");
    let cancel = session::listen(&console, super::STOPPING)?;
    let context = Context {
        base: PathBuf::from("."),
        seed: 0,
        device: "auto".to_owned(),
        offline: arguments.offline,
        progress: console.progress(Stage::Evaluate),
        cancel,
    };
    let layout = super::layout(&arguments.store)?;
    let found = if is_address(&arguments.model) {
        Found { folder: None, config: None, index: None }
    } else {
        Found::of(arguments, &layout, &context).inspect_err(|_| console.clear())?
    };
    let config = found.config.clone().unwrap_or_default();
    // Before the model is loaded, which may take long.
    let tasks = load_tasks(arguments, &config, &context).inspect_err(|_| console.clear())?;
    let text = arguments
        .text
        .as_ref()
        .map(|path| fs::read_to_string(path).with_context(|| format!("cannot read the text in {}", path.display())));
    let text = text.transpose()?;
    let device = arguments.device.as_deref().unwrap_or(&config.device);
    let mut loss = None;
    let (mut model, answers): (Box<dyn Scorer>, PathBuf) = if let Some(folder) = &found.folder {
        let model = LocalModel::open(folder.path(), device)?;
        loss = text.as_deref().map(|text| model.text_loss(text)).transpose()?;
        (Box::new(model), answers::of_folder(&layout, folder.path())?)
    } else {
        ensure!(text.is_none(), "--text needs a model on this machine, not a server");
        let key = arguments.api_key.clone().filter(|key| !key.is_empty());
        let model = HttpModel::open(&arguments.model, arguments.api_model.as_deref(), key)?;
        let (address, name) = model.place();
        let answers = answers::of_server(&layout, address, name);
        (Box::new(model), answers)
    };
    if arguments.force && answers.exists() {
        fs::remove_file(&answers).with_context(|| format!("cannot remove {}", answers.display()))?;
    }
    let mut cache = ResponseCache::open(&answers)?;
    let results = tasks::evaluate(&tasks, &mut *model, &mut cache, found.index.as_ref(), &context);
    console.clear();
    let results = results.map_err(|error| match error {
        evaluate::Error::Interrupted => {
            Interrupted("interrupted; the same command continues where it stopped".to_owned()).into()
        }
        error => anyhow::Error::from(error),
    })?;
    if let Some(path) = &arguments.out {
        file::write_atomically(path, tasks::lines(&results).as_bytes())?;
    }
    if arguments.json {
        print_out!("{:#}", json!({"model": arguments.model, "text": loss, "tasks": results}))?;
    } else {
        print(&results, loss.as_ref())?;
    }
    Ok(())
}

/// A model on this machine; no folder for one behind an address.
struct Found {
    folder: Option<super::Folder>,
    config: Option<Config>,
    /// The index of its training data, if it is that of a run that has one.
    index: Option<Index>,
}

impl Found {
    /// Returns the model that the arguments name, importing it from the Hub into the store if it is there.
    fn of(arguments: &EvaluateArgs, layout: &StoreLayout, context: &Context) -> anyhow::Result<Self> {
        let name = &arguments.model;
        let origin = Origin::of(name, Path::new("."), layout);
        if let Err(error @ registry::Error::NotAFolder { .. }) = origin {
            return Err(error.into());
        }
        let is_nowhere = matches!(origin, Err(registry::Error::Unknown { .. }));
        if let Ok(origin @ Origin::Hub(_)) = origin
            && !layout.runs().join(name).exists()
        {
            let collect = super::here()?.map_or_else(Config::default, |loaded| loaded.config).collect;
            let model = Model::find(&origin, false, &collect.fetch_options(), context);
            let model = model.map_err(|error| engine::import_failure(error.into()))?;
            let store = layout.artifacts();
            let _lock = store.lock()?;
            let folder = registry::verified(&model.seal(&store, host())?)?;
            return Ok(Self { folder: Some(super::Folder::Path(folder)), config: None, index: None });
        }
        let model = super::model(name, &arguments.store).map_err(|error| {
            // Another name may be a run's, of which the error names the nearest.
            let is_path = name.contains(['/', '\\']) || Path::new(name).extension().is_some_and(|kind| kind == "gguf");
            if is_nowhere && is_path { nowhere(name, layout) } else { error }
        })?;
        let index = match &model.run {
            Some(run) if run.stage(Stage::Index).is_some() => match Index::open(&run.artifact(Stage::Index)?) {
                Err(trace::Error::NotBuilt { .. }) => None,
                index => Some(index?),
            },
            _ => None,
        };
        Ok(Self { folder: Some(model.folder), config: model.config, index })
    }
}

/// Returns the error of what is not found anywhere.
fn nowhere(name: &str, layout: &StoreLayout) -> anyhow::Error {
    let store = tidy(layout.root());
    anyhow!(
        "there is no model {name}: no folder with a model or a run and no GGUF file has this path, no run and no \
         imported model in {} has this name, a model of the Hub is written owner/name, and the address of a server \
         begins with http:// or https://; `pipeline runs` lists the runs",
        store.display()
    )
}

/// Returns true for the address of a server.
fn is_address(model: &str) -> bool {
    model.starts_with("http://") || model.starts_with("https://")
}

/// Loads the tasks of the arguments, else those of the run's configuration, else all that come with this program.
fn load_tasks(arguments: &EvaluateArgs, config: &Config, context: &Context) -> anyhow::Result<Vec<Task>> {
    let configured = &config.evaluate;
    let allow_code_execution = arguments.allow_code_execution || configured.allow_code_execution;
    let names: Vec<String> = match (&arguments.tasks[..], &configured.tasks[..]) {
        ([], []) => tasks::names(allow_code_execution).map(str::to_owned).collect(),
        ([], configured) => configured.to_vec(),
        (given, _) => given.to_vec(),
    };
    let options = TaskOptions {
        num_fewshot: arguments.num_fewshot.or(configured.num_fewshot),
        limit: arguments.limit.unwrap_or(configured.task_limit),
        allow_code_execution,
    };
    let fetch_options = super::here()?.map_or_else(Config::default, |loaded| loaded.config).collect.fetch_options();
    let find = |dataset: &HubDataset| {
        task_data::files_of(dataset, &fetch_options, context).map_err(|error| {
            let problem = error.to_string();
            evaluate::Error::Task { task: dataset.path.clone(), problem }
        })
    };
    let load = |name: &String| Task::load_with(name, Path::new("."), &options, &find);
    Ok(names.iter().map(load).collect::<Result<_, _>>()?)
}

fn print(results: &[TaskResult], loss: Option<&TextLoss>) -> anyhow::Result<()> {
    let mut table = new_table();
    let is_divided =
        results.iter().flat_map(|task| &task.scores).any(|score| score.parts().iter().any(Option::is_some));
    let header = ["task", "items", "examples", "metric", "score", "± stderr", "95 % interval"];
    let divided = if is_divided { &["clean", "overlapping"][..] } else { &[] };
    table.set_header(header.iter().chain(divided));
    for task in results {
        for (i, score) in task.scores.iter().enumerate() {
            let first = |text: String| if i == 0 { text } else { String::new() };
            let arrow = if score.higher_is_better { '↑' } else { '↓' };
            let filter = if score.filter == "none" { String::new() } else { format!(" ({})", score.filter) };
            let interval = score.ends().map(|[low, high]| format!("{low:.4} to {high:.4}"));
            let mut row = vec![
                first(task.name.clone()),
                first(grouped(task.items as u64)),
                first(task.num_fewshot.to_string()),
                format!("{}{filter} {arrow}", score.metric),
                format!("{:.4}", score.value),
                score.standard_error.map_or_else(|| "–".to_owned(), |error| format!("{error:.4}")),
                interval.unwrap_or_else(|| "–".to_owned()),
            ];
            let part = |part: Option<PartialScore>| match part {
                Some(PartialScore { items, value, .. }) => format!("{value:.4} of {}", grouped(items as u64)),
                None => "none".to_owned(),
            };
            row.extend(score.parts().map(part).into_iter().filter(|_| is_divided));
            table.add_row(row);
        }
    }
    align_right(&mut table, 1..3);
    align_right(&mut table, 4..if is_divided { 9 } else { 7 });
    print_out!("{}", text_of(&table))?;
    if let Some(TextLoss { loss_nats, perplexity, bits_per_byte, tokens, .. }) = loss {
        let tokens = grouped(*tokens);
        print_out!(
            "\ntext: loss {loss_nats:.4} nats per token, perplexity {perplexity:.2}, {bits_per_byte:.4} bits per byte, \
             over {tokens} tokens"
        )?;
    }
    Ok(())
}
