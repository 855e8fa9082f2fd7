//! Stage evaluate: loss on held-out text, samples and baselines, as a report.
//!
//! In: the corpus, the tokens, the checkpoint, the bundle and the index of one run. Out: `report.json` with all
//! metrics, and `report.html`, a single page that works offline. This crate never changes a weight and never uses the
//! network.
//!
//! Modules in reading order: `config`, `held_out` (loss, perplexity, bits per byte), `baselines` (compressors on the
//! same text), `samples` with `diversity` and `syntax` (generated text), `curves` (training), `funnel` and `examples`
//! (data), `report` (`report.json`), `html` and `chart` (`report.html`).

mod baselines;
mod chart;
mod config;
mod curves;
mod diversity;
mod error;
mod examples;
mod funnel;
mod held_out;
mod html;
mod report;
mod samples;
mod syntax;

pub use config::{Config, Language};
pub use error::Error;

use std::fs;
use std::path::Path;

use artifact::{Context, Outcome, Sealed, Unsealed};
use model::scoring::SlidingWindow;
use model::{checkpoint, hub_layout};
use serde_json::Value;
use tokenizer::Tokenizer;
use tokenizer::shard::Split;

use crate::baselines::Baselines;
use crate::curves::Curves;
use crate::examples::SplitExamples;
use crate::funnel::Funnel;
use crate::held_out::{Excerpt, Metrics};
use crate::report::{ArtifactInfo, ModelInfo, Report, SplitMetrics};

/// The stage's name.
pub const NAME: &str = "evaluate";

/// Raised when the same inputs would give a different output.
pub const VERSION: u32 = 4;

const REPORT: &str = "report.json";
const PAGE: &str = "report.html";

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
}

/// Evaluates the checkpoint and the bundle, and writes the report into `out`.
///
/// `report.html` differs between equal runs, since it shows the stages' durations and host.
///
/// # Errors
/// Returns an error if an input differs from its manifest or does not match the others, or a model cannot be evaluated;
/// [`Error::Interrupted`] if the context is cancelled.
pub fn run(config: &Config, inputs: &Inputs<'_>, out: &Unsealed, context: &Context) -> Result<Outcome, Error> {
    config.validate()?;
    out.clear()?;
    let tokenizer = Tokenizer::from_file(&inputs.tokens.verified("tokenizer.json")?)?;
    let (validation, test) = excerpts(config, inputs, &tokenizer)?;

    context.progress.begin("compressing", (validation.text.len() + test.text.len()) as u64, "bytes");
    let baselines = |excerpt: &Excerpt| {
        Baselines::of(&excerpt.text).map_err(|source| Error::Io { operation: "compress the held-out text", source })
    };
    let (validation_baselines, test_baselines) = (baselines(&validation)?, baselines(&test)?);

    let [checkpoint_on_validation, checkpoint_on_test] =
        score("checkpoint", inputs.checkpoint, &[("validation", &validation), ("test", &test)], context)?;
    let [bundle_on_test] = score("bundle", inputs.bundle, &[("test", &test)], context)?;
    let samples = samples::draw(config, inputs.bundle.folder(), &test.split, context)?;

    let curves = Curves::read(&read_text(&inputs.checkpoint.verified("metrics.jsonl")?)?);
    let shape = checkpoint::load_config(inputs.checkpoint.folder())?;
    let sealed = [inputs.corpus, inputs.tokens, inputs.checkpoint, inputs.bundle];
    let report = Report {
        schema_version: report::SCHEMA_VERSION,
        model: ModelInfo {
            parameters: shape.parameters(),
            config: shape,
            checkpoint_bytes: hub_layout::weights_bytes(inputs.checkpoint.folder())?,
            bundle_bytes: hub_layout::weights_bytes(inputs.bundle.folder())?,
        },
        validation: SplitMetrics {
            bytes: validation.text.len() as u64,
            checkpoint: checkpoint_on_validation,
            bundle: None,
            baselines: validation_baselines,
        },
        test: SplitMetrics {
            bytes: test.text.len() as u64,
            checkpoint: checkpoint_on_test,
            bundle: Some(bundle_on_test),
            baselines: test_baselines,
        },
        parity: read_json(&inputs.bundle.verified("parity.json")?)?,
        training: curves.summary,
        samples,
        data: Funnel::read(&read_json(&inputs.tokens.verified(REPORT)?)?),
        examples: vec![
            SplitExamples::of("train", &Split::open_first(inputs.tokens, "train")?, &tokenizer)?,
            SplitExamples::of("validation", &validation.split, &tokenizer)?,
        ],
        artifacts: sealed.into_iter().map(ArtifactInfo::of).chain([ArtifactInfo::of_this(out)]).collect(),
    };
    let json = serde_json::to_value(&report).map_err(|source| Error::Json { path: out.path(REPORT), source })?;
    artifact::file::write_atomically(&out.path(REPORT), format!("{json:#}\n").as_bytes())?;
    let speed = read_json(&inputs.bundle.verified("speed.json")?)?;
    let page = html::render(&json, &curves, &speed, &sealed.map(Sealed::manifest))?;
    artifact::file::write_atomically(&out.path(PAGE), page.as_bytes())?;
    Ok(Outcome {
        counts: report.counts(),
        headline: report.headline(),
        volatile: vec![PAGE.to_owned()],
        device: model::device::describe(&context.device)?,
        ..Outcome::default()
    })
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

/// Scores one model on the excerpts, and frees it.
fn score<const N: usize>(
    name: &str,
    sealed: &Sealed,
    excerpts: &[(&str, &Excerpt); N],
    context: &Context,
) -> Result<[Metrics; N], Error> {
    hub_layout::verify(sealed)?;
    let device = model::device::resolve(&context.device)?;
    let config = checkpoint::load_config(sealed.folder())?;
    let mut model = inference::load(sealed.folder(), &device, None)?;
    let mut metrics = Vec::with_capacity(N);
    for (split, excerpt) in excerpts {
        context.progress.begin(&format!("scoring the {name} on {split}"), excerpt.predicted_tokens(), "tokens");
        let walk = SlidingWindow::overlapping(&config, &device, Some(excerpt.tokens as u64));
        let scores = inference::scoring::score(&mut *model, &config, &excerpt.split, &walk, |done| {
            context.progress.position(done);
            !context.cancel.is_requested()
        })?;
        let found = Metrics::of(&scores, excerpt);
        context.progress.figures(&format!("bits per byte {:.3}", found.bits_per_byte));
        metrics.push(found);
    }
    Ok(metrics.try_into().unwrap_or_else(|_| unreachable!("one for each excerpt")))
}

fn read_text(path: &Path) -> Result<String, Error> {
    let bytes = fs::read(path).map_err(|e| artifact::Error::io("read", path, e))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_json(path: &Path) -> Result<Value, Error> {
    serde_json::from_str(&read_text(path)?).map_err(|source| Error::Json { path: path.to_owned(), source })
}
