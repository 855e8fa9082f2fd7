//! Errors of training.

use std::path::PathBuf;

use artifact::Digest;

/// An error of training.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key of `[train]` has an invalid value.
    #[error("{key}: {reason}")]
    Config {
        /// The dotted key.
        key: String,
        /// Why the value is invalid.
        reason: String,
    },
    /// The training split is shorter than one step.
    #[error(
        "the training split has {found} tokens, but one step needs {needed} (train.batch_size {batch_size} × \
         train.model.context_length {context_length} + 1): add documents, or lower one of the two"
    )]
    TooFewTokens {
        /// Tokens in the split.
        found: usize,
        /// Tokens that one step reads.
        needed: usize,
        /// The configured batch size.
        batch_size: usize,
        /// The configured context length.
        context_length: usize,
    },
    /// Every target of the training split is ignored.
    #[error("the training split has no target to learn: no document has two tokens, or no chat has an answer")]
    NoTargets,
    /// Every target of the validation split is ignored.
    #[error(
        "the validation split has no target to score in its {tokens} tokens: its conversations have no answer that is \
         learned; check `weight` and the roles of their messages, or raise preprocess.validation"
    )]
    NoValidationTargets {
        /// The tokens of the split.
        tokens: usize,
    },
    /// Every target of the validation tokens that are read is ignored.
    #[error(
        "the validation split has no target to score in its first {read} tokens, as its conversations begin with long \
         prompts: raise train.validation_tokens above {first}, where the first answer begins"
    )]
    ValidationTargetsBeyond {
        /// The tokens that are read.
        read: u64,
        /// The position of the first target.
        first: usize,
    },
    /// The training does not fit into the memory of its device.
    #[error(
        "training needs about {:.1} GB of memory, but {:.1} GB are free: {advice}",
        *needed_bytes as f64 / 1e9,
        *free_bytes as f64 / 1e9
    )]
    Memory {
        /// The estimated need.
        needed_bytes: u64,
        /// The free memory of the device.
        free_bytes: u64,
        /// Settings that would fit.
        advice: String,
    },
    /// The loss or a gradient is not finite, or the loss spiked.
    #[error("{0}")]
    Diverged(Box<Diverged>),
    /// The state of the optimizer cannot be read or written.
    #[error("cannot use the optimizer state {}", path.display())]
    OptimizerState {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A complete saved state cannot be used.
    #[error(
        "cannot resume from {}; delete that folder to resume from an older state, or from the start",
        path.display()
    )]
    Resume {
        /// The state's folder.
        path: PathBuf,
        /// The file and its error.
        #[source]
        source: Box<Error>,
    },
    /// A saved state has the layout of another version.
    #[error(
        "{} has layout {found}, but this version reads {expected}: resume with the version that wrote it",
        path.display()
    )]
    StateVersion {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u64,
        /// The layout of this version.
        expected: u32,
    },
    /// `trainer_state.json` or `budget.json` cannot be read or written.
    #[error("cannot use the trainer state {}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// The JSON error.
        #[source]
        source: serde_json::Error,
    },
    /// The run was asked to stop; the state is saved.
    #[error("interrupted at step {step} of {steps}; the state is saved, run the same command again to resume")]
    InterruptedAt {
        /// Steps taken.
        step: u64,
        /// Steps of the whole training.
        steps: u64,
    },
    /// The run was asked to stop before the first step.
    #[error("interrupted")]
    Interrupted,
    /// `[train.dpo]` without pairs to train on.
    #[error(
        "train.dpo needs pairs of a chosen and a rejected answer, but the {split} split has none that fit in \
         {context_length} tokens: collect a source with `chat = \"preference\"`, or raise train.model.context_length"
    )]
    NoPairs {
        /// The split.
        split: &'static str,
        /// The maximum length of an answer with its prompt.
        context_length: usize,
    },
    /// A codec has nothing to train on.
    #[error("the {split} split of the codec has no pictures or sound: collect more, or raise the split's fraction")]
    NoItems {
        /// The split.
        split: &'static str,
    },
    /// The teacher of a distillation has another tokenizer than the tokens.
    #[error(
        "the tokenizer of train.distill.teacher ({teacher}) is {}, but that of the tokens is {}: a student learns from \
         a teacher with the same tokenizer; set preprocess.tokenizer.file to the teacher's tokenizer.json",
        own.short(),
        tokens.short()
    )]
    TeacherTokenizer {
        /// The teacher, as configured.
        teacher: String,
        /// The digest of its tokenizer.
        own: Digest,
        /// The digest of the tokenizer of the tokens.
        tokens: Digest,
    },
    /// Sampling text from the model failed.
    #[error("cannot sample from the model")]
    Sample(#[source] inference::Error),
    /// An error of the model, its checkpoint or its device.
    #[error(transparent)]
    Model(model::Error),
    /// An error of a codec or its configuration.
    #[error(transparent)]
    Codec(#[from] codec::Error),
    /// An error of the tokenizer or the token shards.
    #[error(transparent)]
    Tokens(#[from] tokenizer::Error),
    /// An I/O error, or an error of a sealed artifact.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
}

/// Where and how a training diverged.
#[derive(Debug, thiserror::Error)]
#[error(
    "the {what} is {value:.3} at step {step}{} (learning rate {learning_rate:.2e}). Gradient norms: {norms}. {}lower \
     train.learning_rate, or raise train.warmup_steps{}",
    .median.map(|median| format!(", after a median of {median:.3}")).unwrap_or_default(),
    .last_good.as_ref().map_or_else(
        || "No state was saved yet: ".to_owned(),
        |folder| format!("The last good state is {} and can be loaded as a model: ", folder.display())
    ),
    if .median.is_some() { ", or train.loss_spike if the difficulty of the data varies this much" } else { "" }
)]
pub struct Diverged {
    /// "loss", "gradient norm" or "validation loss".
    pub what: &'static str,
    /// Its value.
    pub value: f64,
    /// The median of the losses before, if the loss is finite but far above it.
    pub median: Option<f64>,
    /// The step.
    pub step: u64,
    /// The learning rate of the step.
    pub learning_rate: f64,
    /// The gradient norm of each layer.
    pub norms: String,
    /// The latest saved state.
    pub last_good: Option<PathBuf>,
}

impl Error {
    pub(crate) fn compute(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Model(model::Error::Compute { what: "training", source: Box::new(source) })
    }

    /// Puts the path of a table before the key of a configuration error.
    pub(crate) fn in_table(table: &str, error: model::Error) -> Self {
        match error {
            model::Error::Config { key, reason } => Self::Config { key: format!("{table}{key}"), reason },
            other => Self::Model(other),
        }
    }
}

impl From<model::Error> for Error {
    fn from(error: model::Error) -> Self {
        match error {
            model::Error::Interrupted => Self::Interrupted,
            other => Self::Model(other),
        }
    }
}
