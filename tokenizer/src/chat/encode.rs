//! Conversations as tokens: prompts, and training data with a loss mask.

use std::ops::Range;
use std::sync::Arc;

use super::message::{ASSISTANT, Content, Conversation, Message};
use super::template::{ChatTemplate, RenderOptions, Rendered};
use super::turns::Turns;
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
    pub(super) fn template_tokens(&self) -> impl Iterator<Item = (&str, &str)> {
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
        let rendered = Turns::new(self, conversation)?.render(&options)?;
        Ok(self.encode_rendered(&rendered)?.into_iter().map(|(id, _)| id).collect())
    }

    /// Returns the tokens of a conversation: [`Encoder::encode_chat`] for a single one.
    ///
    /// # Errors
    /// As [`Encoder::encode_chat`].
    pub fn encode_chat(&self, conversation: &Conversation) -> Result<ChatTokens, Error> {
        let (rendered, learned) = Turns::new(self, conversation)?.learned_spans()?;
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
            for message in &mut messages {
                message.weight = Some(0.0);
            }
            messages.push(Message { role: ASSISTANT.to_owned(), ..answer.clone() });
            self.encode_chat(&Conversation { messages, ..conversation.clone() })
        };
        Ok(Some([with(chosen)?, with(rejected)?]))
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
