//! A tailoring of the word boundaries of Unicode Standard Annex 29, which the annex allows: inside a chunk, a stretch
//! of text without blanks, ASCII marks join the words beside them.
//!
//! The thresholds of the published rules were set with tokenizers for which `https://docs.rs/burn`, `std::fmt::Debug`
//! and `|------|` are one word each. The annex splits them into seven, seven and eight, mostly punctuation, so that a
//! page with links would be dropped for repeating `: / /` and for words without letters. The tailoring follows spaCy's
//! tokenizer for English: opening and closing marks are split off the ends of a chunk, a link stays whole, and
//! elsewhere there is a boundary only at hyphens, commas, slashes and the like between letters, operators between
//! digits, and several dots in a row. Marks beyond ASCII, and boundaries without a mark, follow the annex.

use super::word::Word;

/// Joins words of `words[from..]`, which were split by the annex; the first one begins a chunk.
pub(super) fn join(text: &[u8], words: &mut Vec<Word>, from: usize) {
    let (mut read, mut written) = (from, from);
    while read < words.len() {
        let glued = words[read..].windows(2).take_while(|pair| pair[0].end == pair[1].start).count();
        let end = read + 1 + glued;
        let chunk = if glued == 0 { Chunk::default() } else { Chunk::of(text, &words[read..end]) };
        // Most chunks are a word, or a word and a mark.
        let is_split =
            glued == 0 || glued == 1 && chunk.end <= chunk.first + 1 && text[words[read].start as usize] != b'.';
        if is_split && read == written {
            (read, written) = (end, end);
            continue;
        }
        for at in read..end {
            let word = words[at];
            if at == read || chunk.has_boundary(text, at - read, words[at - 1], word) {
                words[written] = word;
                written += 1;
            } else {
                let joined = &mut words[written - 1];
                joined.end = word.end;
                joined.chars += word.chars;
                joined.kinds |= word.kinds;
            }
        }
        read = end;
    }
    words.truncate(written);
}

/// The words of a chunk between the marks that are split off its ends, by their index in the chunk.
#[derive(Debug, Clone, Copy, Default)]
struct Chunk {
    first: usize,
    end: usize,
    is_link: bool,
}

impl Chunk {
    fn of(text: &[u8], words: &[Word]) -> Self {
        let first = words.iter().take_while(|word| is_split_off_front(text, **word)).count();
        let off = words[first..].iter().rev().take_while(|word| is_split_off_back(text, **word)).count();
        let end = words.len() - off;
        let is_link = end > first + 1 && is_link(&text[words[first].start as usize..words[end - 1].end as usize]);
        Self { first, end, is_link }
    }

    /// Returns true if there is a boundary between two words, the second of which has the index `at`.
    fn has_boundary(self, text: &[u8], at: usize, before: Word, after: Word) -> bool {
        let (left, right) = (mark(text, before), mark(text, after));
        if left == Some(b'.') && right == left {
            return false;
        }
        if !(self.first < at && at < self.end) {
            return true;
        }
        let joins = |mark: Option<u8>, word: Word, other: Option<u8>| {
            mark.is_some() && (other.is_some() || word.is_alphanumeric())
        };
        if !(joins(left, after, right) || joins(right, before, left)) {
            return true;
        }
        let splits =
            |word: Word, mark: Option<u8>| mark.is_some_and(|mark| is_boundary(text, word.start as usize, mark));
        !self.is_link && left != right && (splits(before, left) || splits(after, right))
    }
}

/// Returns the byte of `word` if it is a single ASCII mark.
fn mark(text: &[u8], word: Word) -> Option<u8> {
    let byte = text[word.start as usize];
    (word.end - word.start == 1 && !word.is_alphanumeric()).then_some(byte)
}

fn is_split_off_front(text: &[u8], word: Word) -> bool {
    let next = byte(text, word.end as usize);
    match mark(text, word) {
        None => !word.is_alphanumeric(),
        Some(b'+') => !next.is_ascii_digit(),
        Some(b'.') => next == b'.' || text[..word.start as usize].ends_with(b"."),
        Some(mark) => is_bracket_or_quote(mark) || matches!(mark, b'$' | b'%' | b'='),
    }
}

fn is_split_off_back(text: &[u8], word: Word) -> bool {
    let before = &text[..word.start as usize];
    let last = before.last().copied().unwrap_or(b' ');
    match mark(text, word) {
        None => !word.is_alphanumeric(),
        // Not the dot of an initial.
        Some(b'.') => !last.is_ascii_uppercase() || before.iter().rev().nth(1).is_some_and(u8::is_ascii_uppercase),
        Some(b'%' | b'+' | b'$') => last.is_ascii_digit(),
        Some(mark) => is_bracket_or_quote(mark),
    }
}

/// Returns true if `mark` is split off both ends of a chunk.
fn is_bracket_or_quote(mark: u8) -> bool {
    matches!(
        mark,
        b'(' | b')'
            | b'['
            | b']'
            | b'{'
            | b'}'
            | b'<'
            | b'>'
            | b'"'
            | b'\''
            | b'`'
            | b','
            | b':'
            | b';'
            | b'!'
            | b'?'
            | b'_'
            | b'#'
            | b'*'
            | b'&'
    )
}

/// Returns true if there are boundaries beside the mark at `at` inside a chunk.
fn is_boundary(text: &[u8], at: usize, mark: u8) -> bool {
    // Hyphens and dots come in runs.
    let in_run = |byte: &&u8| **byte == mark && matches!(mark, b'-' | b'.');
    let start = at - text[..at].iter().rev().take_while(in_run).count();
    let end = at + 1 + text[at + 1..].iter().take_while(in_run).count();
    let (before, after) = (if start == 0 { b' ' } else { text[start - 1] }, byte(text, end));
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || !byte.is_ascii();
    let are_digits = before.is_ascii_digit() && after.is_ascii_digit();
    match mark {
        b'.' => end - start > 1,
        b'-' => end - start <= 3 && is_letter(before) && is_letter(after) || are_digits,
        b'~' | b',' => is_letter(before) && is_letter(after),
        b':' | b'<' | b'>' | b'=' | b'/' => (is_letter(before) || before.is_ascii_digit()) && is_letter(after),
        b'+' | b'*' | b'^' => are_digits,
        _ => false,
    }
}

/// Returns true if a chunk is a link: a scheme and `://`, `www.`, or a host with a domain before the first slash.
fn is_link(chunk: &[u8]) -> bool {
    let in_host =
        chunk.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+')).count();
    let (host, rest) = chunk.split_at(in_host);
    let domain = host.iter().rev().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let has_domain = domain >= 2 && host[..host.len() - domain].ends_with(b".") && host.len() > domain + 1;
    rest.starts_with(b"://") && in_host > 1 || host.starts_with(b"www.") || has_domain && rest.starts_with(b"/")
}

fn byte(text: &[u8], at: usize) -> u8 {
    text.get(at).copied().unwrap_or(b' ')
}

#[cfg(test)]
mod tests {
    use super::super::words::Buffers;

    #[test]
    fn chunks_are_split_into_words() {
        let check = |text: &str, expected: &str| {
            let mut buffers = Buffers::default();
            let split = buffers.split(text);
            let words: Vec<&str> = split.words().iter().map(|word| split.word(*word)).collect();
            assert_eq!(words.join(" "), expected, "{text:?}");
            let chars: usize = split.words().iter().map(|word| word.chars()).sum();
            assert_eq!(chars, expected.chars().filter(|c| *c != ' ').count(), "{text:?}");
        };
        check("(see \"it\"), and 'so'!", "( see \" it \" ) , and ' so ' !");
        check(
            "https://docs.rs/burn, (http://a.de/b?c=1&d=2#e).",
            "https://docs.rs/burn , ( http://a.de/b?c=1&d=2#e ) .",
        );
        check("www.x.org/a:b docs.rs/burn src/main.rs", "www.x.org/a:b docs.rs/burn src / main.rs");
        check("[text](https://docs.rs/burn)", "[ text](https://docs.rs / burn )");
        check("std::fmt::Debug a==b x=y f(x)", "std::fmt::Debug a==b x = y f(x )");
        check("|---|---| ------ ~~~ ==", "|---|---| ------ ~~~ = =");
        check(
            "well-known a--b a----b 1-2 v1.2-rc -x --flag=on",
            "well - known a -- b a----b 1 - 2 v1.2-rc -x --flag = on",
        );
        check("and/or 1/2 a/1 yes,no 1,2", "and / or 1/2 a/1 yes , no 1,2");
        check(".. wait... what..no ...so .x", ".. wait ... what .. no ... so .x");
        check("U.S. USA. C. e.g. 3.", "U.S. USA . C. e.g . 3 .");
        check("50% $5 +49 1+1 C++ c+d #1 a#b", "50 % $ 5 +49 1 + 1 C++ c+d # 1 a#b");
        check("me@home.org a|b c\\d ^x", "me@home.org a|b c\\d ^x");
        check("**bold** `code` __init__ _x_", "* * bold * * ` code ` __init__ _x_");
        // Beyond ASCII, the annex alone applies.
        check("猫,狗。“Größe”…", "猫 , 狗 。 “ Größe ” …");
        check("Über/unter Größe::Maß 👍🏽! •x", "Über / unter Größe::Maß 👍🏽 ! • x");
        check("https://de.wikipedia.org/wiki/Größe", "https://de.wikipedia.org/wiki/Größe");
    }
}
