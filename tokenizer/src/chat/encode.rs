//! Conversations as tokens: prompts, and training data with a loss mask.

use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use super::marks;
use super::message::{ASSISTANT, Content, Conversation, Message};
use super::template::{ChatTemplate, RenderOptions, Rendered};
use super::{REJECTED_ROLE, TEMPLATE};
use crate::special_tokens::SPECIAL_TOKENS;
use crate::{Encoder, Error, Tokenizer};

/// The named template that transformers prefers where tools are given.
const TOOL_USE: &str = "tool_use";

/// The tokens of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatTokens {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Whether each token counts towards the loss: the assistant's turns and the tokens that end them.
    pub loss_mask: Vec<bool>,
}

impl Tokenizer {
    /// Returns the chat template for a conversation: the model's own; `ChatML` for a tokenizer that has its tokens.
    ///
    /// # Errors
    /// Returns an error if there is none, or it is not valid.
    pub fn chat_template(&self, has_tools: bool) -> Result<Arc<ChatTemplate>, Error> {
        let templates = &self.interface().chat_templates;
        let named = templates.named.get(TOOL_USE).filter(|_| has_tools);
        let has_chatml = || SPECIAL_TOKENS[1..].iter().all(|token| self.id(token).is_some());
        let source =
            named.or(templates.default.as_ref()).map(String::as_str).or_else(|| has_chatml().then_some(TEMPLATE));
        let source = source.ok_or(Error::NoChatTemplate)?;
        let mut compiled = self.compiled_template();
        if let Some(template) = compiled.as_ref().filter(|template| template.source() == source) {
            return Ok(Arc::clone(template));
        }
        let template = Arc::new(ChatTemplate::new(source)?);
        *compiled = Some(Arc::clone(&template));
        Ok(template)
    }

    /// Returns the special tokens as variables of a template.
    fn template_tokens(&self) -> impl Iterator<Item = (&str, &str)> {
        let declared = self.interface().special_tokens.iter().map(|(key, token)| (key.as_str(), token.as_str()));
        let guessed = self.end_of_text_name().map(|token| ("eos_token", token));
        guessed.into_iter().chain(declared)
    }

    /// Renders a conversation as the chat template writes it, equal to `apply_chat_template` of transformers.
    ///
    /// # Errors
    /// Returns an error if there is no template, or it refuses the conversation or fails.
    pub fn apply_chat_template(&self, conversation: &Conversation, options: &RenderOptions) -> Result<String, Error> {
        let template = self.chat_template(conversation.tools.is_some())?;
        Ok(template.render(conversation, options, self.template_tokens())?.text)
    }

    /// Returns the tokens of a conversation with the beginning of the assistant's turn. What ends the turn is among
    /// [`Tokenizer::stop_tokens`]. Special tokens in a message are ordinary text.
    ///
    /// # Errors
    /// As [`Tokenizer::apply_chat_template`].
    pub fn encode_chat_prompt(&self, conversation: &Conversation, options: &RenderOptions) -> Result<Vec<u32>, Error> {
        let options = RenderOptions { add_generation_prompt: true, ..options.clone() };
        let rendered = Renderer::new(self, conversation)?.render(conversation.messages.len(), &options, false)?;
        Ok(self.encode_rendered(&rendered)?.into_iter().map(|(id, _)| id).collect())
    }

    /// Returns the tokens of a conversation: [`Encoder::encode_chat`] for a single one.
    ///
    /// # Errors
    /// As [`Encoder::encode_chat`].
    pub fn encode_chat(&self, conversation: &Conversation) -> Result<ChatTokens, Error> {
        let renderer = Renderer::new(self, conversation)?;
        let (rendered, learned) = renderer.with_learned_spans()?;
        let mut tokens = ChatTokens::default();
        let mut spans = learned.iter().peekable();
        for (id, bytes) in self.encode_rendered(&rendered)? {
            // As in transformers: every token that overlaps a span.
            while spans.next_if(|span| span.end <= bytes.start).is_some() {}
            tokens.ids.push(id);
            tokens.loss_mask.push(spans.peek().is_some_and(|span| span.start < bytes.end));
        }
        Ok(tokens)
    }

    /// Returns the tokens of a rendered conversation with the bytes that they stand for.
    fn encode_rendered(&self, rendered: &Rendered) -> Result<Vec<(u32, Range<usize>)>, Error> {
        let mut tokens = Vec::new();
        let (mut at, text) = (0, rendered.text.as_str());
        for ordinary in &rendered.ordinary {
            self.encode_part(text, at..ordinary.start, false, &mut tokens)?;
            self.encode_part(text, ordinary.clone(), true, &mut tokens)?;
            at = ordinary.end;
        }
        self.encode_part(text, at..text.len(), false, &mut tokens)?;
        Ok(tokens)
    }

    fn encode_part(
        &self,
        text: &str,
        part: Range<usize>,
        is_ordinary: bool,
        to: &mut Vec<(u32, Range<usize>)>,
    ) -> Result<(), Error> {
        if part.is_empty() {
            return Ok(());
        }
        let failed = |source| Error::Encode { bytes: part.len(), source };
        let inner = if is_ordinary { self.inner() } else { self.parsing() };
        // After a line end, so that no space is added that SentencePiece adds at the beginning of a text.
        let lead = if part.start == 0 { "" } else { "\n" };
        let lead_ids = inner.encode(lead, false).map_err(failed)?.get_ids().to_vec();
        let mut encoding = inner.encode(format!("{lead}{}", &text[part.clone()]), false).map_err(failed)?;
        let mut skip = lead_ids.len();
        let mut shift = part.start as isize - lead.len() as isize;
        if !encoding.get_ids().starts_with(&lead_ids) {
            encoding = inner.encode(&text[part.clone()], false).map_err(failed)?;
            (skip, shift) = (0, part.start as isize);
        }
        let moved = |at: usize| (at as isize + shift).max(0) as usize;
        let tokens = encoding.get_ids().iter().zip(encoding.get_offsets()).skip(skip);
        to.extend(tokens.map(|(id, (start, end))| (*id, moved(*start)..moved(*end))));
        Ok(())
    }
}

impl Encoder<'_> {
    /// Returns the tokens of a conversation as the chat template renders it, equal to those of `apply_chat_template` in
    /// transformers, except that special tokens in a message are ordinary text.
    ///
    /// The loss mask has the assistant's turns with the tokens that end them: by the `{% generation %}` blocks of the
    /// template, else by rendering the conversation up to each turn. Messages with a weight of 0 are not learned.
    ///
    /// # Errors
    /// Returns an error if there is no template, it refuses the conversation or fails, or it cannot be told what is the
    /// assistant's.
    pub fn encode_chat(&mut self, conversation: &Conversation) -> Result<ChatTokens, Error> {
        self.tokenizer().encode_chat(conversation)
    }

    /// Returns the tokens of the two conversations of a preference, with the chosen and with the rejected answer;
    /// `None` if the last message does not have the role [`REJECTED_ROLE`]. Only these two answers count towards the
    /// loss.
    ///
    /// # Errors
    /// As [`Encoder::encode_chat`].
    pub fn encode_preference(&mut self, conversation: &Conversation) -> Result<Option<[ChatTokens; 2]>, Error> {
        let [before @ .., chosen, rejected] = conversation.messages.as_slice() else { return Ok(None) };
        if rejected.role != REJECTED_ROLE {
            return Ok(None);
        }
        let mut with = |answer: &Message| {
            let mut messages = before.to_vec();
            messages.iter_mut().for_each(|message| message.weight = Some(0.0));
            messages.push(Message { role: ASSISTANT.to_owned(), ..answer.clone() });
            self.encode_chat(&Conversation { messages, ..conversation.clone() })
        };
        Ok(Some([with(chosen)?, with(rejected)?]))
    }
}

/// Renders a conversation and its beginnings.
struct Renderer<'a> {
    tokenizer: &'a Tokenizer,
    conversation: &'a Conversation,
    template: Arc<ChatTemplate>,
    /// The messages, with special tokens marked.
    messages: Vec<Value>,
    tools: Option<Value>,
}

impl<'a> Renderer<'a> {
    fn new(tokenizer: &'a Tokenizer, conversation: &'a Conversation) -> Result<Self, Error> {
        let special_tokens = tokenizer.special_token_names();
        let mut messages: Vec<Value> =
            conversation.messages.iter().map(|message| Value::Object(message.object())).collect();
        for message in messages.iter_mut().filter_map(Value::as_object_mut) {
            // A role is part of the template's own text.
            let keys = message.iter_mut().filter(|(key, _)| *key != "role");
            keys.for_each(|(_, value)| marks::mark_special_tokens(value, special_tokens));
        }
        let mut tools = conversation.tools.clone();
        tools.iter_mut().for_each(|tools| marks::mark_special_tokens(tools, special_tokens));
        let template = tokenizer.chat_template(conversation.tools.is_some())?;
        Ok(Self { tokenizer, conversation, template, messages, tools })
    }

    /// Renders the first `count` messages; with `mark_contents`, the assistant's contents are marked.
    fn render(&self, count: usize, options: &RenderOptions, mark_contents: bool) -> Result<Rendered, Error> {
        let mut messages = self.messages[..count].to_vec();
        if mark_contents {
            for (position, message) in messages.iter_mut().enumerate() {
                if self.conversation.messages[position].role == ASSISTANT
                    && let Some(Value::String(text)) = message.get_mut("content")
                {
                    *text = marks::mark_content(text, position);
                }
            }
        }
        self.template.render_marked(messages, self.tools.clone(), options, self.tokenizer.template_tokens())
    }

    /// Renders the conversation, and returns the bytes that are learned, in order.
    fn with_learned_spans(&self) -> Result<(Rendered, Vec<Range<usize>>), Error> {
        let all = &self.conversation.messages;
        let whole = self.render(all.len(), &RenderOptions::default(), false)?;
        let turns: Vec<usize> = (0..all.len()).filter(|turn| all[*turn].role == ASSISTANT).collect();
        if turns.iter().all(|turn| !all[*turn].is_learned()) {
            return Ok((whole, Vec::new()));
        }
        let are_all_learned = turns.iter().all(|turn| all[*turn].is_learned());
        if self.template.marks_generation() && (are_all_learned || whole.generated.len() == turns.len()) {
            let spans = whole.generated.iter().enumerate();
            let is_learned = |i: usize| are_all_learned || all[turns[i]].is_learned();
            let spans = spans.filter(|(i, _)| is_learned(*i)).map(|(_, span)| span.clone()).collect();
            return Ok((whole, spans));
        }
        let mut spans: Vec<Range<usize>> = Vec::new();
        for turn in turns.into_iter().filter(|turn| all[*turn].is_learned()) {
            let span = match self.span_by_prefixes(&whole, turn)? {
                Some(span) => span,
                None => self.span_by_content(&whole, turn)?,
            };
            let start = spans.last().map_or(span.start, |last| span.start.max(last.end));
            if start < span.end {
                spans.push(start..span.end);
            }
        }
        Ok((whole, spans))
    }

    /// Returns the bytes of a turn: between the rendering of what is before it, with the beginning of the assistant's
    /// turn, and that of what it ends. `None` if these are not beginnings of the whole conversation: some templates
    /// refuse them, leave out earlier reasoning, or place the tools with the last question.
    fn span_by_prefixes(&self, whole: &Rendered, turn: usize) -> Result<Option<Range<usize>>, Error> {
        let prompt = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
        let Some(before) = refusable(self.render(turn, &prompt, false))? else { return Ok(None) };
        let Some(bare) = refusable(self.render(turn, &RenderOptions::default(), false))? else { return Ok(None) };
        let Some(after) = refusable(self.render(turn + 1, &RenderOptions::default(), false))? else { return Ok(None) };
        let (bare, before, after) = (bare.text.as_str(), before.text.as_str(), after.text.as_str());
        // Some templates end every rendering with a token that the whole conversation has only at its end.
        let after = match common_prefix(after, &whole.text) {
            common if common == after.len() => after,
            _ => return Ok(None),
        };
        if !after.starts_with(bare) || before.len() == bare.len() && before != bare {
            return Ok(None);
        }
        // The beginning of the turn may be followed by an empty thought, which the turn itself may not have.
        let start = common_prefix(before, after);
        if start < bare.len() {
            return Ok(None);
        }
        Ok(Some(start..start + self.end_of_turn(&after[start..])))
    }

    /// Returns the bytes of a turn by the place of its content, marked, with the special token after it.
    fn span_by_content(&self, whole: &Rendered, turn: usize) -> Result<Range<usize>, Error> {
        let unclear = || Error::UnclearTurn { position: turn + 1 };
        let marked = self.render(self.messages.len(), &RenderOptions::default(), true)?;
        if marked.text != whole.text {
            return Err(unclear());
        }
        let found = marked.contents.iter().find(|(position, _)| *position == turn);
        let (_, content) = found.ok_or_else(unclear)?;
        let rest = &whole.text[content.end..];
        let spaces = rest.len() - rest.trim_start().len();
        let special = self.special_tokens().find(|token| rest[spaces..].starts_with(token)).map_or(0, str::len);
        Ok(content.start..content.end + if special > 0 { spaces + special } else { 0 })
    }

    /// Returns the length of a turn without the white space after its last special token.
    fn end_of_turn(&self, turn: &str) -> usize {
        let trimmed = turn.trim_end();
        if self.special_tokens().any(|token| trimmed.ends_with(token)) { trimmed.len() } else { turn.len() }
    }

    /// Returns the special tokens, the longest first: some are beginnings of others.
    fn special_tokens(&self) -> impl Iterator<Item = &str> {
        self.tokenizer.special_token_names().iter().map(String::as_str)
    }
}

/// Returns `None` for a conversation that the template refuses: it is only the beginning of one.
fn refusable(rendered: Result<Rendered, Error>) -> Result<Option<Rendered>, Error> {
    match rendered {
        Ok(rendered) => Ok(Some(rendered)),
        Err(Error::TemplateRaised { .. } | Error::ChatTemplate(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the length in bytes of the longest common prefix.
fn common_prefix(a: &str, b: &str) -> usize {
    let pairs = a.char_indices().zip(b.chars());
    let differs = pairs.skip_while(|((_, a), b)| a == b).map(|((at, _), _)| at).next();
    differs.unwrap_or(a.len().min(b.len()))
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
