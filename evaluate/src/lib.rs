//! Stage evaluate: losses, samples and baselines become a report.
//!
//! In: the corpus, the tokens, the checkpoint and the bundle of one run. Out: `report.json` with every figure, and
//! `report.html`, one page that needs nothing but a browser.
//!
//! Reading order: `held_out` (how well text is predicted), `baselines` (what it costs without a model), `samples`
//! with `diversity` and `rust_syntax` (what the model writes), `curves` and `funnel` (how it came to be),
//! `report` (all of it), `html` with `chart` (for people).
//!
//! This crate changes no weight and fetches nothing; the page it writes fetches nothing either.

mod baselines;
mod chart;
mod config;
mod curves;
mod diversity;
mod error;
mod funnel;
mod held_out;
mod html;
mod report;
mod rust_syntax;
mod samples;

pub use config::{Config, Language};
pub use error::Error;

use std::fs;
use std::path::Path;

use artifact::{Context, Outcome, Sealed, Unsealed};
use model::{checkpoint, hub_layout};
use serde_json::Value;
use tokenizer::Tokenizer;
use tokenizer::shard::Split;

use crate::baselines::Baselines;
use crate::curves::Curves;
use crate::funnel::Funnel;
use crate::held_out::{Excerpt, Figures};
use crate::report::{ArtifactFacts, ModelFacts, Report, SplitFigures};

/// The stage's name.
pub const NAME: &str = "evaluate";

/// Raised when the output would change for the same inputs.
pub const VERSION: u32 = 2;

const REPORT: &str = "report.json";
const PAGE: &str = "report.html";

/// The artifacts of one run that the report is about.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// What stage collect made.
    pub corpus: &'a Sealed,
    /// What stage preprocess made.
    pub tokens: &'a Sealed,
    /// What stage train made.
    pub checkpoint: &'a Sealed,
    /// What stage optimize made.
    pub bundle: &'a Sealed,
}

/// Measures the checkpoint and the bundle, and writes the report into `out`.
///
/// `report.html` differs between equal runs: it shows how long the stages took, and on what.
///
/// # Errors
/// When an input is not what was sealed or does not fit the others, or a figure cannot be computed;
/// [`Error::Interrupted`] when the context asks to stop.
pub fn run(config: &Config, inputs: &Inputs<'_>, out: &Unsealed, context: &Context) -> Result<Outcome, Error> {
    config.validate()?;
    out.clear()?;
    let (validation, test) = excerpts(config, inputs)?;

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
        model: ModelFacts {
            parameters: shape.parameters(),
            config: shape,
            checkpoint_bytes: hub_layout::weights_bytes(inputs.checkpoint.folder())?,
            bundle_bytes: hub_layout::weights_bytes(inputs.bundle.folder())?,
        },
        validation: SplitFigures {
            bytes: validation.text.len() as u64,
            checkpoint: checkpoint_on_validation,
            bundle: None,
            baselines: validation_baselines,
        },
        test: SplitFigures {
            bytes: test.text.len() as u64,
            checkpoint: checkpoint_on_test,
            bundle: Some(bundle_on_test),
            baselines: test_baselines,
        },
        parity: read_json(&inputs.bundle.verified("parity.json")?)?,
        training: curves.summary,
        samples,
        data: Funnel::read(&read_json(&inputs.tokens.verified(REPORT)?)?),
        artifacts: sealed.into_iter().map(ArtifactFacts::of).chain([ArtifactFacts::of_this(out)]).collect(),
    };
    let json = serde_json::to_value(&report).map_err(|source| Error::Json { path: out.path(REPORT), source })?;
    artifact::file::write_atomically(&out.path(REPORT), format!("{json:#}\n").as_bytes())?;
    let page = html::render(&json, &curves, &sealed.map(Sealed::manifest))?;
    artifact::file::write_atomically(&out.path(PAGE), page.as_bytes())?;
    Ok(Outcome {
        counts: report.counts(),
        headline: report.headline(),
        volatile: vec![PAGE.to_owned()],
        device: model::device::describe(&context.device)?,
        ..Outcome::default()
    })
}

/// Opens the held-out splits after checking that both models read the tokenizer that made them.
fn excerpts(config: &Config, inputs: &Inputs<'_>) -> Result<(Excerpt, Excerpt), Error> {
    let tokenizer = Tokenizer::from_file(&inputs.tokens.verified("tokenizer.json")?)?;
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
        Excerpt::of(name, split, &tokenizer, config.max_tokens)
    };
    Ok((excerpt("validation")?, excerpt("test")?))
}

/// Scores one model on some excerpts; the model is gone from memory afterwards.
fn score<const N: usize>(
    name: &str,
    sealed: &Sealed,
    excerpts: &[(&str, &Excerpt); N],
    context: &Context,
) -> Result<[Figures; N], Error> {
    hub_layout::verify(sealed)?;
    let device = model::device::resolve(&context.device)?;
    let model = checkpoint::load(sealed.folder(), &device)?;
    let mut figures = Vec::with_capacity(N);
    for (split, excerpt) in excerpts {
        context.progress.begin(&format!("scoring the {name} on {split}"), excerpt.predicted_tokens(), "tokens");
        let found = Figures::of(&model, excerpt, &context.progress, || !context.cancel.is_requested())?;
        context.progress.figures(&format!("bits per byte {:.3}", found.bits_per_byte));
        figures.push(found);
    }
    Ok(figures.try_into().unwrap_or_else(|_| unreachable!("one for each excerpt")))
}

fn read_text(path: &Path) -> Result<String, Error> {
    let bytes = fs::read(path).map_err(|e| artifact::Error::io("read", path, e))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_json(path: &Path) -> Result<Value, Error> {
    serde_json::from_str(&read_text(path)?).map_err(|source| Error::Json { path: path.to_owned(), source })
}
