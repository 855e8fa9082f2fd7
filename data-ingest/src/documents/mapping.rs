//! The meaning of table columns.

mod column;
mod places;

use minijinja::Value as TemplateValue;
use serde::Serialize;
use serde_json::Value;

use crate::config::source::Source;
use crate::documents::chat::{self, Chat, ChatColumns, Conversation, Message};
use crate::documents::document::{Content, MediaBytes};
use crate::documents::field::Field;
use crate::documents::rejection::{Reason, Skip};
use crate::documents::template::{RenderError, Template};
use crate::formats::format::Format;
use crate::formats::json_rows::{self, Wanted};

use column::{Column, Part};
use places::Places;

/// The columns that a source names; defaults are filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Columns {
    /// The column that holds the text.
    pub text: String,
    /// The template that makes the text from several columns.
    pub template: Option<String>,
    /// The shape of conversations.
    pub chat: Option<Chat>,
    /// The column that holds the turns of a conversation, unless its shape says so.
    pub messages: Option<String>,
    /// Other names of the columns of conversations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ChatColumns>,
    /// The column that names the document.
    pub id: Option<String>,
    /// The column that names the document's licence.
    pub licence: Option<String>,
    /// The column that names the document's source.
    pub source: Option<String>,
    /// Where the rows of a JSON file are.
    pub json_path: Option<Vec<String>>,
    /// The columns of pictures and sounds; of files of them, the one that stands for a file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<String>,
    /// The table of captions, and its column that names the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub captions: Option<(String, String)>,
}

impl Columns {
    /// Returns the columns that a source names.
    pub fn of(source: &Source) -> Self {
        let text = source.text_column.clone().unwrap_or_else(|| "text".to_owned());
        let media = match source.format {
            Some(Format::Media) => vec![MEDIA.to_owned()],
            _ => source.media_columns.clone(),
        };
        let behind_text = || {
            let place = |name: &String| format!("{{{{ row[{}] }}}}", Value::from(name.as_str()));
            [&text].into_iter().chain(&media).map(place).collect::<Vec<_>>().concat()
        };
        Self {
            template: source.template.clone().or_else(|| (!media.is_empty()).then(behind_text)),
            captions: source.captions.clone().zip(source.caption_key.clone()),
            text,
            media,
            chat: source.chat,
            messages: source.messages_column.clone(),
            conversation: source.chat_columns.clone(),
            id: source.id_column.clone(),
            licence: source.licence_column.clone(),
            source: source.source_column.clone(),
            json_path: source.json_path.as_deref().and_then(|path| json_rows::parse_path(path).ok()),
        }
    }
}

/// Validates the columns of a source; returns the wrong key and the reason.
pub(crate) fn validate(source: &Source) -> Result<(), (&'static str, String)> {
    let wrong = |key, message: &str| Err((key, message.to_owned()));
    match (&source.text_column, &source.template, source.chat) {
        (Some(_), Some(_), _) => return wrong("template", "a source has a `text_column` or a `template`, not both"),
        (Some(_), None, Some(_)) => return wrong("text_column", "a source of conversations (`chat`) has no text"),
        (None, Some(_), Some(_)) => return wrong("template", "a source of conversations (`chat`) has no text"),
        _ => {}
    }
    match (source.chat, &source.messages_column) {
        (None, Some(_)) => return wrong("messages_column", "needs `chat`"),
        (Some(Chat::Alpaca), Some(_)) => {
            return wrong("messages_column", "`alpaca` reads the columns instruction, input and output");
        }
        (Some(Chat::Preference), Some(_)) => {
            return wrong("messages_column", "`preference` reads the columns prompt, chosen and rejected");
        }
        _ => {}
    }
    match (source.chat, &source.chat_columns) {
        (None, Some(_)) => return wrong("chat_columns", "needs `chat`"),
        (Some(chat), Some(columns)) => {
            if let Some(key) = columns.unused(chat).first() {
                let shape = format!("{chat:?}").to_lowercase();
                return wrong("chat_columns", &format!("`{shape}` has no column for `{key}`"));
            }
        }
        _ => {}
    }
    if let Some(path) = &source.json_path {
        json_rows::parse_path(path).map_err(|message| ("json_path", message))?;
    }
    // Whether a template is valid does not depend on its limit.
    Mapping::new(&Columns::of(source), u64::MAX).map(drop).map_err(|message| ("template", message))
}

/// The column of a file of pictures or sounds that stands for it.
pub(crate) const MEDIA: &str = "media";

/// A document made from a row.
#[derive(Debug, PartialEq)]
pub(crate) struct Mapped {
    pub content: Content,
    /// The bytes of its pictures and sounds, in the order of their places in the text.
    pub media: Vec<MediaBytes>,
    pub id: Option<String>,
    pub licence: Option<String>,
    pub source: Option<String>,
}

/// Why a row gives no document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MappingError {
    /// It is empty.
    Skipped(Skip),
    /// It lacks these columns.
    Missing(Vec<String>),
    /// Something else is wrong with it.
    Bad(Reason, String),
}

/// A mapping of columns, prepared for rows.
pub(crate) struct Mapping<'a> {
    columns: Vec<Column>,
    /// The columns of pictures and sounds.
    media: &'a [String],
    shape: Shape<'a>,
    max_bytes: u64,
}

enum Shape<'a> {
    Text,
    Template(Box<Template<'a>>),
    Turns(Chat),
    Alpaca,
    Preference,
}

fn conversation(messages: Result<Vec<Message>, String>) -> Result<Content, MappingError> {
    let chat = messages.map(|messages| Content::Chat(Conversation { messages, ..Conversation::default() }));
    chat.map_err(|message| MappingError::Bad(Reason::Chat, message))
}

impl<'a> Mapping<'a> {
    /// Prepares `columns`; no document may be longer than `max_bytes`.
    pub fn new(columns: &'a Columns, max_bytes: u64) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut add = |name: &str, part| parts.push(Column { name: name.to_owned(), part });
        let named = columns.conversation.clone().unwrap_or_default();
        let or = |name: Option<String>, default: &str| name.unwrap_or_else(|| default.to_owned());
        let shape = match (&columns.template, columns.chat) {
            (Some(template), _) => {
                let template = Template::new(template, max_bytes)?;
                let is_media = |name: &str| columns.media.iter().any(|column| column == name);
                let part = |name: &str| if is_media(name) { Part::Media } else { Part::Content };
                template.columns().for_each(|name| add(name, part(name)));
                Shape::Template(Box::new(template))
            }
            (None, Some(Chat::Alpaca)) => {
                add(&or(named.instruction, "instruction"), Part::Content);
                add(&or(named.input, "input"), Part::OptionalContent);
                add(&or(named.output, "output"), Part::Content);
                add(&or(named.system, "system"), Part::OptionalContent);
                Shape::Alpaca
            }
            (None, Some(Chat::Preference)) => {
                add(&or(named.prompt, "prompt"), Part::OptionalContent);
                add(&or(named.chosen, "chosen"), Part::Content);
                add(&or(named.rejected, "rejected"), Part::Content);
                add(&or(named.system, "system"), Part::OptionalContent);
                Shape::Preference
            }
            (None, Some(chat)) => {
                let default = if chat == Chat::Sharegpt { "conversations" } else { "messages" };
                add(columns.messages.as_deref().unwrap_or(default), Part::Content);
                Shape::Turns(chat)
            }
            (None, None) => {
                add(&columns.text, Part::Content);
                Shape::Text
            }
        };
        if columns.chat.is_some() && columns.template.is_none() {
            add(&or(named.tools, "tools"), Part::Tools);
            add(&or(named.weight, "weight"), Part::Weight);
        }
        let own = [(&columns.id, Part::Id), (&columns.licence, Part::Licence), (&columns.source, Part::Source)];
        for (name, part) in own {
            if let Some(name) = name {
                add(name, part);
            }
        }
        if let Some(unused) = columns.media.iter().find(|name| parts.iter().all(|column| column.name != **name)) {
            return Err(format!(
                "it does not use the pictures or sounds in `{unused}`; `{{{{ {unused} }}}}` is their place"
            ));
        }
        Ok(Self { columns: parts, media: &columns.media, shape, max_bytes })
    }

    /// Returns true if a column has pictures or sounds.
    pub fn is_media(&self, name: &str) -> bool {
        self.media.iter().any(|column| column == name)
    }

    /// Returns the names of the columns whose fields [`Mapping::map`] expects, in its order; a name may occur twice.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// Returns the columns by which rows are found.
    pub fn wanted(&self) -> Wanted<'_> {
        let is_content = |column: &&Column| matches!(column.part, Part::Content | Part::OptionalContent);
        let content = self.columns.iter().filter(is_content).map(|column| column.name.as_str()).collect();
        Wanted { content, all: self.names().collect() }
    }

    /// Returns the first column that a table must have and that is not among `header`.
    pub fn missing_in(&self, header: &[String]) -> Option<&str> {
        let is_optional = |part| matches!(part, Part::OptionalContent | Part::Tools | Part::Weight);
        let needed = self.columns.iter().filter(|column| !is_optional(column.part));
        needed.map(|column| column.name.as_str()).find(|name| !header.iter().any(|known| known == name))
    }

    /// Returns the most bytes that a document may have.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Returns the column that holds the text, if there is one.
    pub fn text(&self) -> Option<&str> {
        let is_text = matches!(self.shape, Shape::Text);
        self.columns.first().filter(|_| is_text).map(|column| column.name.as_str())
    }

    /// Returns true if a template makes the text.
    pub fn is_template(&self) -> bool {
        matches!(self.shape, Shape::Template(_))
    }

    /// Returns the keys of a source that say which columns are meant.
    pub fn naming_keys(&self) -> &'static str {
        match self.shape {
            Shape::Text | Shape::Template(_) => "`text_column` or `template`",
            Shape::Turns(_) => "`messages_column`",
            Shape::Alpaca | Shape::Preference => "`chat_columns`",
        }
    }

    /// Makes a document of a row, given its value in each column, or none.
    pub fn map(&self, fields: Vec<Option<Field>>) -> Result<Mapped, MappingError> {
        let mut content = Vec::with_capacity(fields.len());
        let (mut id, mut licence, mut source) = (None, None, None);
        let (mut tools, mut weight) = (Value::Null, Value::Null);
        for (column, field) in self.columns.iter().zip(fields) {
            match column.part {
                Part::Content | Part::OptionalContent | Part::Media => content.push(field),
                Part::Tools => tools = field.map(|field| column.value(field)).transpose()?.unwrap_or_default(),
                Part::Weight => weight = field.map(|field| column.value(field)).transpose()?.unwrap_or_default(),
                Part::Id => id = Some(column.id(field)?),
                Part::Licence => licence = column.name_of(field)?,
                Part::Source => source = column.name_of(field)?,
            }
        }
        let (mut content, media) = match &self.shape {
            Shape::Template(template) => self.rendered(template, content)?,
            _ => (self.content(content)?, Vec::new()),
        };
        if let Content::Chat(chat) = &mut content {
            let bad = |message| MappingError::Bad(Reason::Chat, message);
            chat.tools = chat::tools(tools).map_err(bad)?;
            chat.weight = chat::weight(&weight).map_err(bad)?;
            if chat.weight == Some(0.0) {
                return Err(MappingError::Skipped(Skip::Weight));
            }
        }
        let bytes = match &content {
            Content::Text(text) => text.len(),
            Content::Raw(bytes) => bytes.len(),
            Content::Chat(chat) => chat.text_bytes(),
        };
        match bytes as u64 {
            0 => Err(MappingError::Skipped(Skip::Empty)),
            bytes if bytes > self.max_bytes => {
                Err(MappingError::Bad(Reason::TooLong, format!("{bytes} bytes, max_file_bytes is {}", self.max_bytes)))
            }
            _ => Ok(Mapped { content, media, id, licence, source }),
        }
    }

    fn content(&self, fields: Vec<Option<Field>>) -> Result<Content, MappingError> {
        let missing = self.missing(&fields);
        if !missing.is_empty() {
            return Err(MappingError::Missing(missing));
        }
        if let Shape::Preference = self.shape {
            let columns = self.columns.iter().zip(fields);
            let mut values = columns.map(|(column, field)| field.map_or(Ok(Value::Null), |field| column.value(field)));
            let mut next = || values.next().unwrap_or(Ok(Value::Null));
            let (prompt, chosen, rejected, system) = (next()?, next()?, next()?, next()?);
            if chosen.is_null() || rejected.is_null() {
                return Err(MappingError::Skipped(Skip::Null));
            }
            let system = match system {
                Value::Null => String::new(),
                Value::String(text) => text,
                _ => return Err(MappingError::Bad(Reason::WrongType, "the system message is not text".to_owned())),
            };
            return conversation(chat::preference(&system, prompt, chosen, rejected));
        }
        let mut fields = self.columns.iter().zip(fields);
        let mut next = || fields.next().and_then(|(column, field)| Some((column, field?)));
        match (&self.shape, next()) {
            (Shape::Text | Shape::Turns(_), Some((_, Field::Value(Value::Null))))
            | (Shape::Template(_) | Shape::Preference, _)
            | (_, None) => Err(MappingError::Skipped(Skip::Null)),
            (Shape::Text, Some((_, Field::Bytes(bytes)))) => Ok(Content::of(bytes)),
            (Shape::Text, Some((_, Field::Value(Value::String(text))))) => Ok(Content::Text(text)),
            (Shape::Text, Some((column, field))) => Err(column.wrong_type(&field)),
            (Shape::Turns(chat), Some((column, field))) => {
                let value = column.value(field)?;
                conversation(chat::turns(value, *chat))
            }
            (Shape::Alpaca, Some((column, instruction))) => {
                let instruction = column.text(instruction)?;
                let mut text = || next().map_or(Ok(String::new()), |(column, field)| column.text(field));
                let (input, output, system) = (text()?, text()?, text()?);
                conversation(chat::alpaca(&system, instruction, &input, output))
            }
        }
    }

    /// Returns the names of the needed columns without a field.
    fn missing(&self, fields: &[Option<Field>]) -> Vec<String> {
        let is_missing = |(column, field): &(&Column, &Option<Field>)| {
            matches!(column.part, Part::Content | Part::Media) && field.is_none()
        };
        self.columns.iter().zip(fields).filter(is_missing).map(|(column, _)| column.name.clone()).collect()
    }

    /// Returns the text that the template makes, and the pictures and sounds in it.
    fn rendered(
        &self,
        template: &Template<'_>,
        fields: Vec<Option<Field>>,
    ) -> Result<(Content, Vec<MediaBytes>), MappingError> {
        let missing = self.missing(&fields);
        let mut row = Vec::with_capacity(fields.len());
        let mut nulls = Vec::new();
        let mut places = Places::default();
        for ((column, field), variable) in self.columns.iter().zip(fields).zip(template.variables()) {
            let value = match field {
                Some(Field::Media(media)) if column.part == Part::Media => Some(places.value(media)),
                field => field.map(|field| column.value(field)).transpose()?,
            };
            match value {
                // A template may test whether a column has a value; it has none in either case.
                None => {}
                Some(Value::Null) => nulls.push(format!("`{}`", column.name)),
                Some(value) => row.push((variable.to_owned(), template_value(value))),
            }
        }
        let text = template.render(TemplateValue::from_pairs(row)).map_err(|failed| match failed {
            RenderError::Undefined(_) if !missing.is_empty() => MappingError::Missing(missing),
            RenderError::Undefined(_) if !nulls.is_empty() => {
                MappingError::Bad(Reason::Template, format!("it prints a null value: {}", nulls.join(", ")))
            }
            RenderError::Undefined(message) | RenderError::Other(message) => {
                MappingError::Bad(Reason::Template, message)
            }
        })?;
        if self.media.is_empty() {
            return Ok((Content::Text(text), Vec::new()));
        }
        let (text, media) = places.in_text(&text).map_err(|message| MappingError::Bad(Reason::Template, message))?;
        Ok((Content::Text(text), media))
    }
}

fn template_value(value: Value) -> TemplateValue {
    match value {
        Value::Null => TemplateValue::from(()),
        Value::Bool(value) => value.into(),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Value::String(text) => text.into(),
        Value::Array(items) => items.into_iter().map(template_value).collect::<Vec<_>>().into(),
        Value::Object(map) => {
            TemplateValue::from_pairs(map.into_iter().map(|(key, value)| (key, template_value(value))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &Source, expected: &str) {
        let found = validate(source).map_or_else(|(key, message)| format!("{key}: {message}"), |()| "valid".to_owned());
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }

    #[test]
    fn content_keys_are_mutually_exclusive() {
        let some = |text: &str| Some(text.to_owned());
        let path = Source { path: some("."), ..Source::default() };
        let template = Source { template: some("{{ q }}"), ..path.clone() };
        check(&template, "valid");
        check(
            &Source { text_column: some("q"), ..template.clone() },
            "template: a source has a `text_column` or a `template`",
        );
        check(&Source { template: some("{{ q"), ..path.clone() }, "template: syntax error");
        check(&Source { template: some("q"), ..path.clone() }, "template: it uses no column");
        let chat = |chat| Source { chat: Some(chat), ..path.clone() };
        check(&chat(Chat::Alpaca), "valid");
        check(&chat(Chat::Preference), "valid");
        let messages_column = some("turns");
        check(&Source { messages_column, ..chat(Chat::Preference) }, "messages_column: `preference` reads");
        let turns = some("turns");
        check(&Source { messages_column: turns.clone(), ..chat(Chat::Sharegpt) }, "valid");
        check(&Source { messages_column: turns.clone(), ..chat(Chat::Alpaca) }, "messages_column: `alpaca` reads");
        check(&Source { messages_column: turns, ..path.clone() }, "messages_column: needs `chat`");
        let chat_columns = Some(ChatColumns { output: some("answer"), weight: some("w"), ..ChatColumns::default() });
        check(&Source { chat_columns: chat_columns.clone(), ..chat(Chat::Alpaca) }, "valid");
        let of_alpaca = Source { chat_columns: chat_columns.clone(), ..chat(Chat::Preference) };
        check(&of_alpaca, "chat_columns: `preference` has no column for `output`");
        check(&Source { chat_columns, ..path.clone() }, "chat_columns: needs `chat`");
        check(&Source { template: some("{{ q }}"), ..chat(Chat::Messages) }, "template: a source of conversations");
    }
}
