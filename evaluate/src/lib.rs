//! Stage evaluate: loss on held-out text, samples, risks and baselines, as a report with a verdict.
//!
//! In: the corpus, the tokens, the checkpoint, the bundle and the index of one run, and possibly the report of an
//! earlier one and other models. Out: `report.json` with all metrics, `documents.jsonl` with the losses of each
//! held-out document, `latency.json` with the times of requests, and `report.html`, a single page that works offline.
//! This crate never changes a weight; it uses the network only for a [`tasks::HttpModel`], which the stage does not
//! have.
//!
//! Modules in reading order: `config`, `held_out` (loss, perplexity, bits per byte) with `intervals`, `breakdown`,
//! `calibration` and `details` (where the model is weak), `provenance` (sources of documents and of samples),
//! `baselines` with `ngram`, `batch` (many completions at once), `samples` with `diversity`, `overlap`,
//! `language_kept` and `syntax` (generated text), `reference` (another model on the same texts), `risk` (memorised
//! text, personal data, stereotypes, harmful text), `latency`, [`tasks`] (questions with known answers), `curves`
//! (training), `funnel` and `examples` (data), `comparison` and `gates` (the verdict), `report` (`report.json`), `html`
//! and `chart` (`report.html`). The charts, the curves and the style of the page are also those of the pages that
//! compare runs; [`rating`] is of judgements that people make of answers.

mod batch;
pub mod chart;
mod comparison;
mod config;
pub mod curves;
mod error;
mod gates;
mod held_out;
mod html;
mod intervals;
mod latency;
mod provenance;
pub mod rating;
mod reference;
mod report;
mod risk;
mod samples;
pub mod tasks;

pub use comparison::{Baseline, Difference, PairedDifferences};
pub use config::{Config, Language};
pub use error::Error;
pub use gates::{Gates, Threshold};
pub use html::{Setting, partials, style};
pub use intervals::Interval;
pub use reference::ReferenceModel;
pub use risk::{ClassifierConfig, Config as RiskConfig};

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use artifact::{Context, Digest, Outcome, Sealed, Unsealed};
use generate::Generator;
use inference::{ForwardPass, continuations};
use model::scoring::SlidingWindow;
use model::{ModelConfig, checkpoint, hub_layout};
use serde_json::Value;
use tokenizer::Tokenizer;
use tokenizer::shard::Split;
use trace::Index;

use crate::comparison::{Comparison, DOCUMENTS, DocumentLine};
use crate::curves::Curves;
use crate::gates::Verdict;
use crate::held_out::baselines::{Baselines, NGram};
use crate::held_out::breakdown::{self, Breakdown};
use crate::held_out::details::{self, Details};
use crate::held_out::{DocumentScore, Excerpt, Metrics, Scorer};
use crate::html::Measured;
use crate::latency::Latency;
use crate::reference::Reference;
use crate::report::examples::SplitExamples;
use crate::report::funnel::Funnel;
use crate::report::{ArtifactInfo, FAILED_GATES, ModelInfo, Report, SplitMetrics};
use crate::risk::{Classified, PersonalData, Risk};
use crate::tasks::{ANSWERS, LocalModel, ResponseCache, Task, TaskResult, TaskSummary};

/// The stage's name.
pub const NAME: &str = "evaluate";

/// Raised when the same inputs would give a different output.
pub const VERSION: u32 = 7;

const REPORT: &str = "report.json";
const PAGE: &str = "report.html";
/// The times of requests to the bundle.
const LATENCY: &str = "latency.json";
/// The answers of an interrupted attempt.
const CACHE: &str = ".answers.jsonl";

/// The artifacts of one run.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The output of stage collect.
    pub corpus: &'a Sealed,
    /// The output of stage preprocess.
    pub tokens: &'a Sealed,
    /// The output of stage train.
    pub checkpoint: &'a Sealed,
    /// The output of stage optimize.
    pub bundle: &'a Sealed,
    /// The output of stage index.
    pub index: &'a Sealed,
    /// The model to compare with, that of `reference_model`.
    pub reference: Option<ReferenceModel<'a>>,
    /// The model of `risk.classifier`.
    pub classifier: Option<&'a Sealed>,
    /// The report to compare with, that of `gates.regression_vs`.
    pub baseline: Option<Baseline<'a>>,
    /// The values of the whole configuration, for the page.
    pub settings: &'a [Setting],
}

impl<'a> Inputs<'a> {
    /// Returns the artifacts of the run, in its order.
    fn sealed(&self) -> [&'a Sealed; 5] {
        [self.corpus, self.tokens, self.checkpoint, self.bundle, self.index]
    }
}

/// Returns the digests of the stage's inputs besides artifacts: the files and the tasks that the configuration names.
///
/// # Errors
/// Returns an error if one cannot be read or is not valid.
pub fn inputs(config: &Config, context: &Context) -> Result<BTreeMap<String, Digest>, Error> {
    let mut inputs = config.risk.inputs(&context.base)?;
    let read = |name: &String| TaskSummary::read(name, &context.base, &config.task_options());
    let tasks: Vec<TaskSummary> = config.tasks.iter().map(read).collect::<Result<_, Error>>()?;
    config.gates.validate_tasks(&tasks)?;
    inputs.extend(config.tasks.iter().zip(&tasks).map(|(name, task)| (format!("task {name}"), task.digest)));
    Ok(inputs)
}

/// Returns a sentence for each gate that failed in a report; none if all passed.
pub fn failed_gates(report: &Sealed) -> Vec<String> {
    let failed = report.manifest().counts.get(FAILED_GATES).and_then(Value::as_array);
    failed.into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// Returns true if a later report can be compared with this one, which those of older versions do not allow.
pub fn is_comparable(report: &Sealed) -> bool {
    !report.files(DOCUMENTS).is_empty()
}

/// Returns the JSON schema of `report.json`.
pub fn report_schema() -> Value {
    report::schema()
}

/// Evaluates the checkpoint and the bundle, and writes the report into `out`. A gate that fails is part of the report,
/// and no error: see [`failed_gates`].
///
/// `report.html` and `latency.json` differ between equal runs: they have times and the host.
///
/// # Errors
/// Returns an error if an input differs from its manifest or does not match the others, or a model cannot be evaluated;
/// [`Error::Interrupted`] if the context is cancelled.
pub fn run(config: &Config, inputs: &Inputs<'_>, out: &Unsealed, context: &Context) -> Result<Outcome, Error> {
    config.validate()?;
    let cached = fs::read(out.path(CACHE)).ok();
    out.clear()?;
    let options = config.task_options();
    let tasks = config.tasks.iter().map(|name| Task::load(name, &context.base, &options));
    let tasks: Vec<Task> = tasks.collect::<Result<_, Error>>()?;
    let tokenizer = Tokenizer::from_file(&inputs.tokens.verified("tokenizer.json")?)?;
    let (validation, test) = excerpts(config, inputs, &tokenizer)?;
    let train = Split::open_first(inputs.tokens, "train")?;
    let training_counts = breakdown::training_counts(&train);
    let [validation_baselines, test_baselines] = baselines(config, &train, [&validation, &test], context)?;

    hub_layout::verify(inputs.checkpoint)?;
    let shape = checkpoint::load_config(inputs.checkpoint.folder())?;
    let device = model::device::resolve(&context.device)?;
    let mut model = inference::load(inputs.checkpoint.folder(), &device, None)?;
    let mut score_checkpoint = |split: &str, excerpt| {
        score(&mut *model, &shape, &format!("the checkpoint on {split}"), excerpt, &training_counts, context)
    };
    let on_validation = score_checkpoint("validation", &validation)?;
    let on_test = score_checkpoint("test", &test)?;
    drop(model);

    hub_layout::verify(inputs.bundle)?;
    let cache_tokens = |config: &ModelConfig| {
        let of_tasks = if tasks.is_empty() { 0 } else { continuations::cache_tokens(config.context_length) };
        batch::cache_tokens(config).max(of_tasks)
    };
    let generator = Generator::open_with_cache(inputs.bundle.folder(), &context.device, cache_tokens)?;
    let what = "the bundle on test";
    let bundle = score(&mut **generator.model(), generator.config(), what, &test, &training_counts, context)?;
    let index = provenance::open(inputs.index)?;
    let mut samples = samples::draw(config, &generator, &test.split, index.as_ref(), context)?;
    let splits = [&train, &test.split];
    let personal_data = config.risk.personal_data.then(|| PersonalData::of(inputs.tokens)).transpose()?;
    let finder = personal_data.as_ref();
    let mut risk = Risk::measure(&config.risk, &generator, splits, index.as_ref(), finder, &samples, context)?;

    let last = test.documents.last().map_or(0, |document| document.index + 1);
    let origins = provenance::origins(inputs.tokens, "test", last)?;
    let documents = details::lines(&test, [&on_test.documents, &bundle.documents], &origins);
    let mut comparison = inputs.baseline.as_ref().map(|baseline| Comparison::with(baseline, &documents)).transpose()?;

    let latencies = latency::measure(&generator, &test.split, context)?;
    let answers = ask(&tasks, LocalModel::new(generator), index.as_ref(), cached.as_deref(), out, context)?;
    if let (Some(comparison), Some(baseline)) = (&mut comparison, &inputs.baseline) {
        comparison.tasks = tasks::compare(&tasks, &answers, REPORT, baseline.report)?;
    }
    let reference = inputs.reference.as_ref();
    let reference = reference.map(|model| Reference::measure(model, inputs.bundle, &test, &samples, context));
    let reference = reference.transpose()?;
    if let (Some(classifier), Some(model)) = (&config.risk.classifier, inputs.classifier) {
        risk.classifier = Some(Classified::measure(classifier, model, &samples, context)?);
    }
    if let Some(personal_data) = &personal_data {
        samples.hide(personal_data);
        risk.hide(personal_data);
    }

    let curves = Curves::read(&read_text(&inputs.checkpoint.verified("metrics.jsonl")?)?);
    let mut report = Report {
        schema_version: report::SCHEMA_VERSION,
        verdict: Verdict::default(),
        model: ModelInfo {
            parameters: shape.parameters(),
            config: shape,
            checkpoint_bytes: hub_layout::weights_bytes(inputs.checkpoint.folder())?,
            bundle_bytes: hub_layout::weights_bytes(inputs.bundle.folder())?,
        },
        validation: SplitMetrics {
            bytes: validation.text.len() as u64,
            checkpoint: on_validation.metrics,
            bundle: None,
            baselines: validation_baselines,
        },
        test: SplitMetrics {
            bytes: test.text.len() as u64,
            checkpoint: on_test.metrics,
            bundle: Some(bundle.metrics),
            baselines: test_baselines,
        },
        test_details: Details::of(&test, &bundle.documents, &bundle.breakdown, &origins),
        reference,
        parity: read_json(&inputs.bundle.verified("parity.json")?)?,
        training: curves.summary,
        samples,
        risk,
        tasks: answers,
        data: Funnel::read(&read_json(&inputs.tokens.verified(REPORT)?)?),
        examples: vec![
            SplitExamples::of("train", &train, &tokenizer)?,
            SplitExamples::of("validation", &validation.split, &tokenizer)?,
        ],
        artifacts: ArtifactInfo::of_run(&inputs.sealed(), out),
    };
    report.verdict = Verdict::of(&config.gates, |name| report.metric(name), comparison);
    write(&report, &documents, &latencies, &curves, inputs, out)?;
    Ok(Outcome {
        counts: report.counts(),
        headline: report.headline(),
        volatile: vec![PAGE.to_owned(), LATENCY.to_owned()],
        device: model::device::describe(&context.device)?,
        ..Outcome::default()
    })
}

/// Writes the files of the report.
fn write(
    report: &Report,
    documents: &[DocumentLine],
    latencies: &[Latency],
    curves: &Curves,
    inputs: &Inputs<'_>,
    out: &Unsealed,
) -> Result<(), Error> {
    let json_error = |name: &str| {
        let path = out.path(name);
        move |source| Error::Json { path, source }
    };
    let lines = comparison::to_lines(documents).map_err(json_error(DOCUMENTS))?;
    artifact::file::write_atomically(&out.path(DOCUMENTS), lines.as_bytes())?;
    let json = serde_json::to_value(report).map_err(json_error(REPORT))?;
    artifact::file::write_atomically(&out.path(REPORT), format!("{json:#}\n").as_bytes())?;
    let speed = read_json(&inputs.bundle.verified("speed.json")?)?;
    let latencies = serde_json::to_value(latencies).map_err(json_error(LATENCY))?;
    artifact::file::write_atomically(&out.path(LATENCY), format!("{latencies:#}\n").as_bytes())?;
    let measured = Measured { report: &json, curves, speed: &speed, latencies: &latencies };
    let page = html::render(&measured, &inputs.sealed().map(Sealed::manifest), inputs.settings)?;
    artifact::file::write_atomically(&out.path(PAGE), page.as_bytes())?;
    Ok(())
}

/// Returns what compressors and an n-gram model need for the same texts.
fn baselines(
    config: &Config,
    train: &Split,
    excerpts: [&Excerpt; 2],
    context: &Context,
) -> Result<[Baselines; 2], Error> {
    let bytes: usize = excerpts.iter().map(|excerpt| excerpt.text.len()).sum();
    context.progress.begin("compressing", bytes as u64, "bytes");
    let n_grams = NGram::of(train, config.n_gram_tokens, excerpts);
    let [validation, test] = excerpts.map(|excerpt| {
        Baselines::of(&excerpt.text).map_err(|source| Error::Io { operation: "compress the held-out text", source })
    });
    let [of_validation, of_test] = n_grams;
    Ok([Baselines { n_gram: of_validation, ..validation? }, Baselines { n_gram: of_test, ..test? }])
}

/// Asks the bundle the tasks, and writes the answers to each item into `out`.
fn ask(
    tasks: &[Task],
    mut bundle: LocalModel,
    index: Option<&Index>,
    cached: Option<&[u8]>,
    out: &Unsealed,
    context: &Context,
) -> Result<Vec<TaskResult>, Error> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(cached) = cached {
        artifact::file::write_atomically(&out.path(CACHE), cached)?;
    }
    let mut cache = ResponseCache::open(&out.path(CACHE))?;
    let results = tasks::evaluate(tasks, &mut bundle, &mut cache, index, context)?;
    artifact::file::write_atomically(&out.path(ANSWERS), tasks::lines(&results).as_bytes())?;
    Ok(results)
}

/// Opens the held-out splits and checks that both models have the tokenizer that encoded them.
fn excerpts(config: &Config, inputs: &Inputs<'_>, tokenizer: &Tokenizer) -> Result<(Excerpt, Excerpt), Error> {
    let excerpt = |name| {
        let split = Split::open(inputs.tokens, name)?;
        for sealed in [inputs.checkpoint, inputs.bundle] {
            let path = sealed.verified("tokenizer.json")?;
            let found = Tokenizer::from_file(&path)?.digest();
            if found != split.tokenizer_digest() {
                let (found, expected) = (found.to_string(), split.tokenizer_digest().to_string());
                return Err(Error::Tokenizer { path, found, expected });
            }
        }
        Excerpt::of(name, split, tokenizer, config.max_tokens)
    };
    Ok((excerpt("validation")?, excerpt("test")?))
}

/// The scores of a model on an excerpt.
struct Scored<'a> {
    metrics: Metrics,
    documents: Vec<DocumentScore>,
    breakdown: Breakdown<'a>,
}

/// Scores a model on an excerpt, in windows in which every token except the first ones has at least a quarter of a
/// window of context.
fn score<'a>(
    model: &mut dyn ForwardPass,
    config: &ModelConfig,
    what: &str,
    excerpt: &'a Excerpt,
    training_counts: &'a [u64],
    context: &Context,
) -> Result<Scored<'a>, Error> {
    context.progress.begin(&format!("scoring {what}"), excerpt.predicted_tokens(), "tokens");
    let device = model::device::resolve(&context.device)?;
    let disjoint = SlidingWindow::disjoint(config, &device, Some(excerpt.ids.len() as u64));
    let walk = SlidingWindow { stride: (disjoint.window * 3).div_ceil(4), ..disjoint };
    let mut scorer = Scorer::new(excerpt, training_counts);
    let on_progress = |done| {
        context.progress.position(done);
        !context.cancel.is_requested()
    };
    let on_token = |token: &_| scorer.add(token);
    inference::scoring::score_tokens(model, config, &excerpt.split, &walk, on_token, on_progress)?;
    let (metrics, documents, breakdown) = scorer.finish();
    context.progress.figures(&format!("bits per byte {:.3}", metrics.bits_per_byte));
    Ok(Scored { metrics, documents, breakdown })
}

fn read_text(path: &Path) -> Result<String, Error> {
    let bytes = fs::read(path).map_err(|e| artifact::Error::io("read", path, e))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_json(path: &Path) -> Result<Value, Error> {
    serde_json::from_str(&read_text(path)?).map_err(|source| Error::Json { path: path.to_owned(), source })
}
