//! Where the assistant's turns are in a rendered conversation.
//!
//! A template with `{% generation %}` blocks says so. For others, a turn is what follows the beginning that
//! `add_generation_prompt` writes, up to the special token that ends it. It is found by rendering the conversation up
//! to the turn and with it. Where these are not beginnings of the whole conversation (earlier reasoning is left out, a
//! system message stands in the last question, every rendering ends with a token), invisible marks in the message say
//! where it is in the whole.

use std::ops::Range;
use std::sync::Arc;

use serde_json::{Value, json};

use super::marks::{self, Marking};
use super::message::{ASSISTANT, Conversation};
use super::template::{ChatTemplate, RenderOptions, Rendered};
use crate::{Error, Tokenizer};

/// A conversation, ready to be rendered as a whole and in parts.
pub(super) struct Turns<'a> {
    tokenizer: &'a Tokenizer,
    conversation: &'a Conversation,
    template: Arc<ChatTemplate>,
    /// The messages, with special tokens marked.
    messages: Vec<Value>,
    tools: Option<Value>,
}

impl<'a> Turns<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, conversation: &'a Conversation) -> Result<Self, Error> {
        let special_tokens = tokenizer.special_token_names();
        let mut messages: Vec<Value> =
            conversation.messages.iter().map(|message| Value::Object(message.object())).collect();
        for message in messages.iter_mut().filter_map(Value::as_object_mut) {
            // A role is part of the template's own text.
            let keys = message.iter_mut().filter(|(key, _)| *key != "role");
            keys.for_each(|(_, value)| marks::mark_special_tokens(value, special_tokens));
        }
        let mut tools = conversation.tools.clone();
        if let Some(tools) = &mut tools {
            marks::mark_special_tokens(tools, special_tokens);
        }
        let template = tokenizer.chat_template(conversation.tools.is_some())?;
        Ok(Self { tokenizer, conversation, template, messages, tools })
    }

    /// Renders the conversation.
    pub(super) fn render(&self, options: &RenderOptions) -> Result<Rendered, Error> {
        let tokens = self.tokenizer.template_tokens();
        self.template.render_marked(self.messages.clone(), self.tools.clone(), options, tokens)
    }

    /// Renders the conversation, and returns the bytes that are learned, in order.
    pub(super) fn learned_spans(&self) -> Result<(Rendered, Vec<Range<usize>>), Error> {
        let all = &self.conversation.messages;
        let whole = self.render(&RenderOptions::default())?;
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
            let span = match self.span_by_beginnings(&whole, turn)? {
                Some(span) => span,
                None => self.span_by_marks(&whole, turn)?.ok_or(Error::UnclearTurn { position: turn + 1 })?,
            };
            let start = spans.last().map_or(span.start, |last| span.start.max(last.end));
            if start < span.end {
                spans.push(start..span.end);
            }
        }
        Ok((whole, spans))
    }

    /// Returns the bytes of a turn where the conversation up to it, and with it, are rendered as beginnings of the
    /// whole.
    fn span_by_beginnings(&self, whole: &Rendered, turn: usize) -> Result<Option<Range<usize>>, Error> {
        let Some(turn) = self.in_context(&self.messages[..turn], &self.messages[turn], self.tools.as_ref())? else {
            return Ok(None);
        };
        let is_beginning = whole.text.starts_with(&turn.rendered.text) && turn.before == turn.bare.len();
        let end = turn.start + self.end_of_turn(&turn.rendered.text[turn.start..]);
        Ok(is_beginning.then_some(turn.start..end))
    }

    /// Returns the bytes of a turn where marks in its message are.
    fn span_by_marks(&self, whole: &Rendered, turn: usize) -> Result<Option<Range<usize>>, Error> {
        for marking in [Marking::Texts, Marking::Contents, Marking::Empty] {
            let mut messages = self.messages.clone();
            marks::mark_message(&mut messages[turn], marking);
            let message = messages[turn].clone();
            let Some(marked) = self.attempt(messages, self.tools.as_ref(), false)? else { continue };
            let Some(content) = marked.content.filter(|_| marked.text == whole.text) else { continue };
            // The same turn after all that is before it, or after a question alone: some templates move the system
            // message or the tools to the last question.
            let question = self.messages[..turn].iter().rfind(|message| message["role"] == "user");
            let question: Vec<Value> = question.cloned().into_iter().collect();
            for (before, tools) in [(&self.messages[..turn], self.tools.as_ref()), (question.as_slice(), None)] {
                let Some(turn) = self.in_context(before, &message, tools)? else { continue };
                if let Some(span) = self.span_like(&turn, whole, &content) {
                    return Ok(Some(span));
                }
            }
            // The template shows the turn in no shorter conversation: its content, and the token after it.
            if self.conversation.messages[turn].text().trim() == &whole.text[content.clone()] && !content.is_empty() {
                let rest = &whole.text[content.end..];
                let gap = rest.len() - rest.trim_start().len();
                let end = self.special_tokens().find(|token| rest[gap..].starts_with(token));
                return Ok(Some(content.start..content.end + end.map_or(0, |token| gap + token.len())));
            }
        }
        Ok(None)
    }

    /// Returns the bytes in `whole` of a turn whose marks are at `content` there, by how it begins and ends in a part.
    fn span_like(&self, turn: &TurnInContext, whole: &Rendered, content: &Range<usize>) -> Option<Range<usize>> {
        let part = turn.rendered.content.clone()?;
        let beginning = turn.rendered.text.get(turn.before..turn.start.min(part.start))?;
        let start = if beginning.is_empty() {
            // Nothing but what is before the content tells where the turn begins.
            let lead = turn.rendered.text.get(turn.start..part.start)?;
            whole.text[..content.start].ends_with(lead).then(|| content.start - lead.len())?
        } else {
            whole.text[..content.start].rfind(beginning)? + beginning.len()
        };
        // What ends every rendering is not the assistant's.
        let trailer = &turn.bare[turn.before..];
        let end = &turn.rendered.text[part.end..];
        let (end, rest) = (end.strip_suffix(trailer).unwrap_or(end), &whole.text[content.end..]);
        Some(start..content.end + self.first_special_tokens(&rest[..common_prefix(end, rest)]))
    }

    /// Renders a turn after other messages; `None` if the template refuses this, or writes what is before it in another
    /// way.
    fn in_context(
        &self,
        before: &[Value],
        message: &Value,
        tools: Option<&Value>,
    ) -> Result<Option<TurnInContext>, Error> {
        let Some(bare) = self.attempt(before.to_vec(), tools, false)? else { return Ok(None) };
        let Some(prompt) = self.attempt(before.to_vec(), tools, true)? else { return Ok(None) };
        let messages = before.iter().chain([message]).cloned().collect();
        let Some(rendered) = self.attempt(messages, tools, false)? else { return Ok(None) };
        let (bare, prompt) = (bare.text, prompt.text);
        // `<|end|>` and `<|assistant|>` begin in the same way.
        let before = common_prefix(&bare, &prompt);
        let before = self.start_of_token(&prompt, self.start_of_token(&bare, before));
        // The prompt may go on with an empty thought, which the turn itself may not have.
        let mut start = common_prefix(&prompt, &rendered.text);
        if start < prompt.len()
            && let Some(end) = end_of_beginning(&prompt[before..], rendered.text.get(before..).unwrap_or_default())
        {
            start = before + end;
        }
        // After an answer, some templates write no beginning of another one.
        if prompt == bare
            && let Some(beginning) = self.beginning()?
            && let Some(end) = end_of_beginning(&beginning, rendered.text.get(start..).unwrap_or_default())
        {
            start += end;
        }
        // Without a beginning of its own, a turn follows what is before it, apart from white space at the end of that.
        let is_same = start >= before && prompt.len() > before || start >= prompt.trim_end().len();
        Ok(is_same.then_some(TurnInContext { bare, rendered, before: before.min(start), start }))
    }

    /// Returns the beginning of the assistant's turn after a question; `None` if the template refuses a single one.
    fn beginning(&self) -> Result<Option<String>, Error> {
        let question = vec![json!({"role": "user", "content": "question"})];
        let Some(bare) = self.attempt(question.clone(), None, false)? else { return Ok(None) };
        let prompt = self.attempt(question, None, true)?;
        Ok(prompt.and_then(|prompt| prompt.text.strip_prefix(&bare.text).map(str::to_owned)))
    }

    /// Renders messages; `None` if the template refuses them: they are not the whole conversation.
    fn attempt(
        &self,
        messages: Vec<Value>,
        tools: Option<&Value>,
        add_generation_prompt: bool,
    ) -> Result<Option<Rendered>, Error> {
        let options = RenderOptions { add_generation_prompt, ..RenderOptions::default() };
        match self.template.render_marked(messages, tools.cloned(), &options, self.tokenizer.template_tokens()) {
            Ok(rendered) => Ok(Some(rendered)),
            Err(Error::TemplateRaised { .. } | Error::ChatTemplate(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the length of a turn without the white space after its last special token.
    fn end_of_turn(&self, turn: &str) -> usize {
        let trimmed = turn.trim_end();
        if self.special_tokens().any(|token| trimmed.ends_with(token)) { trimmed.len() } else { turn.len() }
    }

    /// Returns the length of `text` up to the end of the first special tokens, those without a gap; all of it if there
    /// are none.
    fn first_special_tokens(&self, text: &str) -> usize {
        let starts = self.special_tokens().filter_map(|token| text.find(token));
        let Some(mut end) = starts.min() else { return text.len() };
        while let Some(token) = self.special_tokens().find(|token| text[end..].starts_with(token)) {
            end += token.len();
        }
        end
    }

    /// Returns the start of the special token of `text` that `at` is within, else `at`.
    fn start_of_token(&self, text: &str, at: usize) -> usize {
        let around = |token: &str| {
            let first = at.saturating_sub(token.len() - 1);
            (first..at).find(|start| text.as_bytes()[*start..].starts_with(token.as_bytes()))
        };
        self.special_tokens().filter_map(around).min().unwrap_or(at)
    }

    /// Returns the special tokens, the longest first: some are beginnings of others.
    fn special_tokens(&self) -> impl Iterator<Item = &str> {
        self.tokenizer.special_token_names().iter().map(String::as_str)
    }
}

/// A turn as the last message after others.
struct TurnInContext {
    /// The messages before it.
    bare: String,
    /// The messages with it.
    rendered: Rendered,
    /// Where the beginning of the assistant's turn is.
    before: usize,
    /// Where the turn's own text begins in `rendered`.
    start: usize,
}

/// Returns where the beginning of a turn, as it is in a prompt, ends in a turn that begins with other white space: some
/// templates indent their text.
fn end_of_beginning(prompt: &str, turn: &str) -> Option<usize> {
    let beginning = prompt.trim();
    let rest = turn.trim_start().strip_prefix(beginning).filter(|_| !beginning.is_empty())?;
    let white_space = &prompt[prompt.trim_end().len()..];
    Some(turn.len() - rest.len() + common_prefix(white_space, rest))
}

/// Returns the length in bytes of the longest common prefix.
fn common_prefix(a: &str, b: &str) -> usize {
    let pairs = a.char_indices().zip(b.chars());
    let differs = pairs.skip_while(|((_, a), b)| a == b).map(|((at, _), _)| at).next();
    differs.unwrap_or(a.len().min(b.len()))
}
