//! Whether decoded bytes look like text, which those that are decoded wrongly hardly do.

/// Returns true if decoded bytes look like text in their encoding. Heuristic, not measured: a language with the Latin
/// alphabet has fewer letters with accents than without, and one with its own alphabet hardly any with accents, and
/// fewer capitals than small letters.
pub(super) fn is_plausible(text: &str, is_single_byte: bool) -> bool {
    /// Letters without which a single byte says nothing.
    const MIN_LETTERS: usize = 4;
    /// Letters of another alphabet that may all be capitals.
    const MIN_CAPITALS: usize = 30;
    let Letters { plain, accented, eastern, foreign, capitals, signs, odd, is_printable } = Letters::of(text);
    let is_latin = accented * 2 > foreign;
    is_printable
        && if !is_single_byte {
            foreign >= 2 && eastern * 2 >= foreign && odd * 5 <= foreign
        } else if is_latin || foreign == 0 {
            let is_text = plain >= accented && plain + accented >= MIN_LETTERS && signs <= plain + accented;
            is_text && odd * 10 <= foreign + signs
        } else {
            let is_text = accented * 10 <= foreign && plain + foreign >= MIN_LETTERS && signs <= plain + foreign;
            is_text && odd * 50 <= foreign && (capitals * 2 <= foreign || foreign >= MIN_CAPITALS)
        }
}

/// Returns true if all characters outside ASCII are a few signs where signs can be.
pub(super) fn has_signs_only(text: &str) -> bool {
    let Letters { plain, foreign, signs, odd, is_printable, .. } = Letters::of(text);
    is_printable && foreign == 0 && odd == 0 && signs * 4 <= plain
}

/// Counts of the characters of a text.
#[derive(Default)]
struct Letters {
    /// Letters of ASCII.
    plain: usize,
    /// Latin letters outside ASCII.
    accented: usize,
    /// Letters of Chinese, Japanese and Korean.
    eastern: usize,
    /// Letters outside ASCII.
    foreign: usize,
    /// Capitals among these.
    capitals: usize,
    /// Other characters outside ASCII that are not white space.
    signs: usize,
    /// Those outside ASCII that do not fit their neighbours, as of a text that is decoded wrongly.
    odd: usize,
    /// Whether there are no others.
    is_printable: bool,
}

impl Letters {
    fn of(text: &str) -> Self {
        let mut counts = Self { is_printable: true, ..Self::default() };
        let mut before = None;
        let mut characters = text.chars().peekable();
        while let Some(c) = characters.next() {
            let after = characters.peek().copied();
            counts.is_printable &= is_printable(c);
            if c.is_ascii() {
                counts.plain += usize::from(c.is_ascii_alphabetic());
            } else if c.is_alphabetic() && !SIGNS.contains(c) {
                counts.foreign += 1;
                counts.accented += usize::from(is_latin(c));
                counts.eastern += usize::from(is_eastern(c));
                counts.capitals += usize::from(c.is_uppercase());
                counts.odd += usize::from(is_odd(before, c, after));
            } else if !c.is_whitespace() {
                counts.signs += 1;
                counts.odd += usize::from(is_odd(before, c, after));
            }
            before = Some(c);
        }
        counts
    }
}

/// Signs that Unicode counts as letters.
const SIGNS: &str = "µªº";

fn is_latin(c: char) -> bool {
    matches!(c, '\u{aa}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}')
}

fn is_eastern(c: char) -> bool {
    c >= '\u{2e80}'
}

/// Returns true if a character outside ASCII does not fit its neighbours: a capital after a small letter, letters of
/// two alphabets, a sign inside a word, an opening quote after one.
fn is_odd(before: Option<char>, c: char, after: Option<char>) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphabetic);
    let is_plain = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphabetic());
    if c.is_alphabetic() && !SIGNS.contains(c) {
        let is_late_capital = c.is_uppercase() && before.is_some_and(char::is_lowercase);
        // Chinese, Japanese and Korean have no spaces beside words in ASCII.
        let is_mixed =
            if is_eastern(c) { is_plain(before) && is_plain(after) } else { is_plain(before) || is_plain(after) };
        return is_late_capital || (!is_latin(c) && is_mixed);
    }
    match c {
        // Apostrophes, dashes, dots, soft hyphen; marks of other alphabets, which belong to words.
        '’' | '´' | '–' | '—' | '·' | '…' | '\u{ad}' | '\u{300}'..='\u{1fff}' => false,
        '‚' | '„' | '†' | '‡' => is_letter(before),
        '¡' | '¿' => before.is_some_and(char::is_alphanumeric),
        'ˆ' | '˜' | '¸' | '¨' | '¯' => true,
        _ => is_letter(before) && is_letter(after),
    }
}

/// Returns false for characters that text does not have: controls, private and invalid ones.
pub(super) fn is_printable(c: char) -> bool {
    match c {
        // Colours of logs, and the end of files of DOS.
        '\t' | '\n' | '\r' | '\u{c}' | '\u{1a}' | '\u{1b}' => true,
        '\u{fffd}' | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{f0000}'.. => false,
        c => !c.is_control() && u32::from(c) & 0xfffe != 0xfffe,
    }
}
