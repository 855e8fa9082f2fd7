//! Rendering of chat templates, with what transformers provides to them.
//!
//! Templates come with models from the Hub, so they are not trusted: rendering has limits of instructions, of memory
//! (see [`values`]) and of recursion, and templates can neither read files nor include others.

use std::ops::Range;

use jiff::civil::DateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde_json::{Map, Value as Json};

use super::marks::{self, Marked};
use super::message::Conversation;
use super::tags::Rewritten;
use super::{functions, python, tags, values};
use crate::Error;

/// The fuel of one rendering, spent on instructions and, 64 for one, on the bytes of all texts that are made on the
/// way, 256 MB. Heuristic: thousands of messages, or prompts of tens of megabytes. A loop without an end stops within
/// a second.
const MAX_FUEL: u64 = 4_000_000;

/// The depth of nested macro calls and loops: heuristic, far above what templates need.
const MAX_RECURSION: usize = 200;

/// The name of a template in errors.
const NAME: &str = "chat_template";

/// A chat template, compiled.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    marks_generation: bool,
}

/// Returns an environment in which templates for Python's Jinja render as there: with the methods of Python's strings
/// and lists, values written as Python writes them, and limits of instructions, memory and recursion.
pub fn jinja_environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(MAX_FUEL));
    environment.set_recursion_limit(MAX_RECURSION);
    python::add_to(&mut environment);
    functions::add_to(&mut environment);
    environment
}

/// What a template is given beside the conversation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RenderOptions {
    /// Whether the beginning of the assistant's turn is appended.
    pub add_generation_prompt: bool,
    /// The time that `strftime_now` returns. Default: [`TRAINING_TIME`].
    pub now: Option<DateTime>,
    /// Further variables, such as `enable_thinking` or `documents`.
    pub variables: Map<String, Json>,
}

impl RenderOptions {
    /// Returns the options of a prompt that is answered now: `strftime_now` returns the time of this call, in UTC.
    pub fn now() -> Self {
        Self { now: Some(jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now())), ..Self::default() }
    }
}

/// The time in prompts of training, so that the same data give the same tokens on any day: 26 July 2024, the date that
/// templates of Llama 3.1 state where they are given none.
pub const TRAINING_TIME: DateTime = jiff::civil::datetime(2024, 7, 26, 0, 0, 0, 0);

/// A rendered conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// The bytes of the assistant's turns, by the `{% generation %}` blocks of the template; empty if it has none.
    pub generated: Vec<Range<usize>>,
    /// The bytes of what looks like a special token, but was written in a message: ordinary text.
    pub(super) ordinary: Vec<Range<usize>>,
    /// The bytes from the first mark of a text to the last.
    pub(super) content: Option<Range<usize>>,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// Returns an error with the line if it is not valid.
    pub fn new(source: &str) -> Result<Self, Error> {
        let mut environment = jinja_environment();
        // The settings of transformers, which templates rely on.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(Error::ChatTemplate)?);
        environment.add_filter(values::VALUE_FILTER, values::value);
        environment.add_filter(values::ATTRIBUTE_FILTER, values::attribute);
        // Jinja reads every line end as a line feed.
        let lines = source.replace("\r\n", "\n").replace('\r', "\n");
        let Rewritten { source: rewritten, marks_generation } = tags::rewrite(&lines).map_err(Error::ChatTemplate)?;
        environment.add_template_owned(NAME, rewritten).map_err(Error::ChatTemplate)?;
        Ok(Self { environment, source: source.to_owned(), marks_generation })
    }

    /// Returns the source text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns true if the template marks the assistant's turns by `{% generation %}`.
    pub fn marks_generation(&self) -> bool {
        self.marks_generation
    }

    /// Renders a conversation. `special_tokens` are variables such as `bos_token`.
    ///
    /// # Errors
    /// Returns an error if the template refuses the conversation, with its own text, or fails.
    pub fn render<'a>(
        &self,
        conversation: &Conversation,
        options: &RenderOptions,
        special_tokens: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Rendered, Error> {
        let messages = conversation.messages.iter().map(|message| Json::Object(message.object())).collect();
        self.render_marked(messages, conversation.tools.clone(), options, special_tokens)
    }

    /// Renders messages and tools whose texts may hold marks.
    pub(super) fn render_marked<'a>(
        &self,
        messages: Vec<Json>,
        tools: Option<Json>,
        options: &RenderOptions,
        special_tokens: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Rendered, Error> {
        let mut context: Vec<(String, Value)> = Vec::new();
        let mut set = |name: &str, value: Value| context.push((name.to_owned(), value));
        for (name, token) in special_tokens {
            set(name, token.into());
        }
        set("messages", Value::from(Serde(messages)));
        // Templates ask both `if tools` and `tools is defined`; transformers passes None.
        set("tools", tools.map_or(Value::from(()), |tools| Value::from(Serde(tools))));
        set("documents", Value::from(()));
        set("add_generation_prompt", options.add_generation_prompt.into());
        set("strftime_now", functions::strftime_now(options.now.unwrap_or(TRAINING_TIME)));
        for (name, value) in &options.variables {
            set(name, Value::from(Serde(value)));
        }
        let context = Value::from_pairs(context);
        let template = self.environment.get_template(NAME).map_err(Error::ChatTemplate)?;
        let text = template.render(context).map_err(functions::error_of)?;
        let Marked { text, generated, ordinary, content } = marks::remove(&text);
        Ok(Rendered { text, generated, ordinary, content })
    }
}
