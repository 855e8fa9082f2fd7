//! The places of pictures and sounds in a text.

use std::sync::Arc;

use serde_json::Value;

use crate::documents::document::{MediaBytes, PLACE};
use crate::documents::field::MediaField;

/// The pictures and sounds of a row. A template writes the number of each between two [`PLACE`]s, from which the places
/// in its text are found.
#[derive(Debug, Default)]
pub(super) struct Places {
    media: Vec<MediaBytes>,
}

impl Places {
    /// Adds the media of a column, and returns what the template writes for them.
    pub fn value(&mut self, field: MediaField) -> Value {
        let mark = |bytes| {
            self.media.push(bytes);
            Value::from(format!("{PLACE}{}{PLACE}", self.media.len() - 1))
        };
        let mut marks: Vec<Value> = field.items.into_iter().map(mark).collect();
        if field.is_list { Value::Array(marks) } else { marks.pop().unwrap_or_default() }
    }

    /// Returns a text in which one [`PLACE`] stands for each picture or sound, and these in their order.
    pub fn in_text(&self, written: &str) -> Result<(String, Vec<MediaBytes>), String> {
        let mut text = String::with_capacity(written.len());
        let mut media = Vec::new();
        for (i, part) in written.split(PLACE).enumerate() {
            if i % 2 == 0 {
                text.push_str(part);
                continue;
            }
            let found = part.parse::<usize>().ok().and_then(|number| self.media.get(number));
            media.push(Arc::clone(found.ok_or_else(stray)?));
            text.push(PLACE);
        }
        // After a mark that is not closed, the number of parts is even.
        if written.matches(PLACE).count() % 2 == 1 { Err(stray()) } else { Ok((text, media)) }
    }
}

fn stray() -> String {
    "its text contains U+FFFC, which stands for a picture or sound".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_in_the_order_of_the_text() {
        let mut places = Places::default();
        let one = places.value(MediaField { items: vec![Arc::new(vec![1])], is_list: false });
        let list = places.value(MediaField { items: [2, 3].map(|byte| Arc::new(vec![byte])).into(), is_list: true });
        let (one, two, three) = (one.as_str().unwrap(), list[0].as_str().unwrap(), list[1].as_str().unwrap());
        let (text, media) = places.in_text(&format!("a {three}{one} b {one}{two}")).unwrap();
        assert_eq!(text, "a \u{fffc}\u{fffc} b \u{fffc}\u{fffc}");
        assert_eq!(media.iter().map(|bytes| bytes[0]).collect::<Vec<_>>(), [3, 1, 1, 2]);
        assert_eq!(places.in_text("none").unwrap(), ("none".to_owned(), Vec::new()));
        for stray in ["a\u{fffc}b", "\u{fffc}", "\u{fffc}9\u{fffc}", "\u{fffc}\u{fffc}", "\u{fffc}0\u{fffc}\u{fffc}"] {
            assert!(places.in_text(stray).is_err(), "{stray}");
        }
        let empty = places.value(MediaField { items: Vec::new(), is_list: true });
        assert_eq!(empty, Value::Array(Vec::new()));
    }
}
