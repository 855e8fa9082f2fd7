//! Arguments of `generate` and `chat`.

use std::path::PathBuf;

use clap::Args;

use super::StoreArgs;

/// Arguments of `generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// A run's name, its folder, `latest`, a folder with a model in Hugging Face layout, or a GGUF file
    pub model: String,
    /// The prompt; read from standard input if neither it nor --prompts is given, as a conversation with --chat on a
    /// terminal
    pub prompt: Option<String>,
    /// A file of prompts: one per line, or the `prompt` or `messages` of each object in a `.jsonl` file
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub prompts: Option<PathBuf>,
    /// Treat the prompt as a user's message and answer it, instead of continuing it
    #[arg(long)]
    pub chat: bool,
    /// Write the samples to this file as JSON lines instead of printing them
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write the log probability of each token to the file as well, and of the K most likely tokens in its place
    #[arg(long, value_name = "K", requires = "out")]
    pub logprobs: Option<usize>,
    #[command(flatten)]
    pub generation: GenerationArgs,
}

/// Arguments of `chat`.
#[derive(Debug, Args)]
pub struct ChatArgs {
    /// A run's name, its folder, `latest`, a folder with a model in Hugging Face layout, or a GGUF file
    pub model: String,
    #[command(flatten)]
    pub generation: GenerationArgs,
}

/// The arguments that `generate` and `chat` have in common.
#[derive(Debug, Args)]
pub struct GenerationArgs {
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub grammar: GrammarArgs,
    #[command(flatten)]
    pub drafts: DraftArgs,
    /// Where to compute: auto, cpu, wgpu, … [default: the run's configuration's, else auto]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Sampling settings; the defaults are those of the run's configuration, then those of the model's
/// `generation_config.json`.
#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// Stop after this many tokens
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<usize>,
    /// 0 takes the most likely token; higher is more varied
    #[arg(long, value_name = "T")]
    pub temperature: Option<f32>,
    /// Sample from the K most likely tokens (0: all)
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Sample from the most likely tokens whose probabilities add up to P
    #[arg(long, value_name = "P")]
    pub top_p: Option<f32>,
    /// Sample from tokens with at least this fraction of the most likely one's probability
    #[arg(long, value_name = "M")]
    pub min_p: Option<f32>,
    /// Sample from the tokens closest to the expected information whose probabilities add up to P
    #[arg(long, value_name = "P")]
    pub typical_p: Option<f32>,
    /// Above 1, makes tokens that have occurred less likely
    #[arg(long, value_name = "R")]
    pub repetition_penalty: Option<f32>,
    /// Above 0, makes a token of the text less likely each time it occurs
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub frequency_penalty: Option<f32>,
    /// Above 0, makes every token of the text less likely
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub presence_penalty: Option<f32>,
    /// Above 1, follow the prompt more closely (classifier-free guidance), with two sequences to compute
    #[arg(long, value_name = "S")]
    pub guidance_scale: Option<f32>,
    /// Guide the text away from what would follow this prompt; with --guidance-scale
    #[arg(long, value_name = "TEXT")]
    pub negative_prompt: Option<String>,
    /// Add BIAS to the logit of a token, by its id (may be repeated)
    #[arg(long, value_name = "TOKEN=BIAS", value_parser = logit_bias)]
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same text
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
    /// End before this text (may be repeated)
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// End before this token, by its id (may be repeated)
    #[arg(long, value_name = "TOKEN")]
    pub stop_token: Vec<u32>,
    /// Keep only the last N tokens of a prompt; by default a prompt longer than the model's context is an error
    #[arg(long, value_name = "N")]
    pub truncate_prompt_tokens: Option<usize>,
    /// The system prompt of the conversation; `generate` then answers the prompt as with --chat
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
}

/// What the text must obey: at most one.
#[derive(Debug, Default, Args)]
#[group(multiple = false)]
pub struct GrammarArgs {
    /// Write JSON that is valid after the schema in this file
    #[arg(long, value_name = "FILE")]
    pub json_schema: Option<PathBuf>,
    /// Write a text that this regular expression matches as a whole
    #[arg(long, value_name = "REGEX")]
    pub regex: Option<String>,
    /// Write a text of the grammar in this file, in the Lark notation of llguidance
    #[arg(long, value_name = "FILE")]
    pub grammar: Option<PathBuf>,
}

/// Speculative decoding, which makes texts faster and changes none.
#[derive(Debug, Default, Args)]
pub struct DraftArgs {
    /// A smaller model with the same tokenizer that proposes tokens: a run, an imported model, or a folder
    #[arg(long, value_name = "MODEL")]
    pub draft_model: Option<String>,
    /// Propose up to N tokens at once, by the draft model or else from earlier text
    /// [default: the configuration's; 4 with --draft-model]
    #[arg(long, value_name = "N")]
    pub draft_tokens: Option<usize>,
}

fn logit_bias(text: &str) -> Result<(u32, f32), String> {
    let parts = text.split_once('=').and_then(|(token, bias)| Some((token.parse().ok()?, bias.parse().ok()?)));
    parts
        .filter(|(_, bias): &(u32, f32)| bias.is_finite())
        .ok_or_else(|| "expected the id of a token, `=` and a number".to_owned())
}
