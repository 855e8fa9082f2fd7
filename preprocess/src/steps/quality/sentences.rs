//! Sentence counts by the rule of spaCy's `Sentencizer`, which datatrove uses: a sentence ends with a word that is a
//! single mark such as `.`, `!` or `。`, and the punctuation after it. A dot inside a word (`3.14`, `U.S.`) and several
//! dots in a row do not end a sentence.

use crate::text::characters::{ends_sentence, is_punctuation};
use crate::text::words::{Text, Word};

/// Returns the number of sentences in a line of `text` with these words.
pub(super) fn count(text: &Text<'_>, words: &[Word]) -> usize {
    let mut sentences = usize::from(!words.is_empty());
    // True if a sentence has ended, so that the next word that is not punctuation begins another.
    let mut ended = false;
    let mut last = None;
    for word in words {
        if ended {
            // White space is a word for spaCy, except for one space between two words.
            let is_one_space = last.is_none_or(|last| matches!(text.between(last, *word), "" | " "));
            if !is_one_space || !text.word(*word).chars().all(is_punctuation) {
                sentences += 1;
                ended = false;
            }
        }
        if word.is_punctuation() && word.chars() == 1 {
            ended |= text.word(*word).chars().all(ends_sentence);
        }
        last = Some(*word);
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::words::Buffers;

    #[test]
    fn sentences_are_counted() {
        let check = |line: &str, expected: usize| {
            let mut buffers = Buffers::default();
            let text = buffers.split(line);
            assert_eq!(count(&text, text.words()), expected, "{line:?}");
        };
        check("", 0);
        check("No mark", 1);
        check("One.", 1);
        check("One。", 1);
        check("One. Two.", 2);
        check("One. two", 2);
        check("One! Two? Three", 3);
        check("One?! Two", 2);
        check("Wait... what?", 1);
        check("Wait… what?", 1);
        check("Pi is 3.14 e.g here", 1);
        check("See main.rs of the U.S. now. Then http://a.de/?go", 2);
        check("He said \"Yes.\" He left.", 2);
        check("(One.) (Two.)", 2);
        check("One. — Two.", 2);
        check("One. $5 more.", 2);
        check("One.  ) two", 2);
        check("One.\t)", 2);
        check("...", 1);
        check("Größe. Über!", 2);
        check("你好。我很好！你呢？", 3);
        check("नमस्ते। आप कैसे हैं?", 2);
        check("Nice. 😀", 2);
    }
}
