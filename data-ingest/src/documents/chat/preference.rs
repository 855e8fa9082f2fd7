//! Preferences: a prompt with a chosen and a rejected answer.

use serde_json::Value;

use super::message::{ASSISTANT, Message, USER, checked};
use super::{Chat, after_system, unchecked};

/// The role of the rejected answer of a preference pair, after the chosen one.
const REJECTED: &str = "rejected";

/// Makes a preference of a prompt, the chosen and the rejected answer: the conversation with the first, and the second
/// after it. An answer is a text, its own turns, or the whole conversation including them.
pub(crate) fn preference(system: &str, prompt: Value, chosen: Value, rejected: Value) -> Result<Vec<Message>, String> {
    let before = match prompt {
        Value::Null => Vec::new(),
        Value::String(text) => transcript(&text).unwrap_or_else(|| vec![Message::new(USER, text)]),
        turns => unchecked(turns, Chat::Messages).map_err(|e| format!("prompt: {e}"))?,
    };
    let whole = |name: &str, answer: Value| {
        let named = |message| format!("{name}: {message}");
        let turns = match answer {
            Value::String(text) => transcript(&text).unwrap_or_else(|| vec![Message::new(ASSISTANT, text)]),
            turns => unchecked(turns, Chat::Messages).map_err(named)?,
        };
        let is_whole_conversation = turns.iter().any(|turn| turn.role != ASSISTANT);
        let before = if is_whole_conversation { &[][..] } else { &before };
        let turns = after_system(system, before.iter().cloned().chain(turns).collect());
        answered(checked(turns).map_err(named)?).map_err(named)
    };
    let (mut chosen, mut rejected) = (whole("chosen", chosen)?, whole("rejected", rejected)?);
    let answer = rejected.pop().unwrap_or_default();
    if chosen.split_last().is_none_or(|(_, before)| before != rejected) {
        return Err("chosen and rejected differ before the last turn".to_owned());
    }
    if chosen.last().is_some_and(|chosen| *chosen == answer) {
        return Err("chosen and rejected are the same".to_owned());
    }
    chosen.push(Message { role: REJECTED.to_owned(), ..answer });
    Ok(chosen)
}

/// Reads a transcript as in Anthropic's HH-RLHF (Bai et al., 2022): paragraphs that begin with `Human:` or
/// `Assistant:`, the first with `Human:`. `None` if the text is none.
fn transcript(text: &str) -> Option<Vec<Message>> {
    const SPEAKERS: [(&str, &str); 2] = [("Human:", USER), ("Assistant:", ASSISTANT)];
    let text = text.trim();
    text.starts_with(SPEAKERS[0].0).then_some(())?;
    let mut turns: Vec<(&str, String)> = Vec::new();
    for paragraph in text.split("\n\n") {
        let spoken = SPEAKERS.iter().find_map(|(speaker, role)| Some((*role, paragraph.strip_prefix(speaker)?)));
        match (spoken, turns.last_mut()) {
            (Some((role, said)), _) => turns.push((role, said.trim().to_owned())),
            (None, Some((_, said))) => {
                said.push_str("\n\n");
                said.push_str(paragraph);
            }
            (None, None) => {}
        }
    }
    Some(turns.into_iter().map(|(role, said)| Message::new(role, said)).collect())
}

/// Validates one side of a preference: a question, and the assistant's answer last.
fn answered(messages: Vec<Message>) -> Result<Vec<Message>, String> {
    let first = messages.iter().position(|message| message.role == ASSISTANT).unwrap_or_default();
    if !messages[..first].iter().any(|message| message.role == USER) {
        return Err(format!("turn {}: an assistant turn before the first user turn", first + 1));
    }
    match messages.last() {
        Some(last) if last.role != ASSISTANT => {
            Err(format!("turn {}: the last turn is the {}'s, not the assistant's", messages.len(), last.role))
        }
        _ => Ok(messages),
    }
}
