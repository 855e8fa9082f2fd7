//! Groups of digits, in which card and telephone numbers are found.

/// Groups of digits with at most [`Run::MAX_SEPARATORS`] separators between them.
#[derive(Debug)]
pub(super) struct Run {
    /// The position of the first digit.
    pub(super) start: usize,
    /// The position after the last digit.
    pub(super) end: usize,
    pub(super) digits: usize,
}

impl Run {
    /// Three, as in `+49 (0) 30`.
    const MAX_SEPARATORS: usize = 3;

    /// Returns the run that begins with the digit at `start`.
    pub(super) fn at(bytes: &[u8], start: usize) -> Self {
        let mut run = Self { start, end: start, digits: 0 };
        let (mut at, mut separators) = (start, 0);
        while separators <= Self::MAX_SEPARATORS {
            match bytes[at..] {
                [b'0'..=b'9', ..] => {
                    at += 1;
                    separators = 0;
                    run.end = at;
                    run.digits += 1;
                    continue;
                }
                [b' ' | b'-' | b'.' | b'(' | b')' | b'/' | b'+', ..] => at += 1,
                // No-break space; thin and narrow spaces; hyphens and the en dash.
                [0xC2, 0xA0, ..] => at += 2,
                [0xE2, 0x80, 0x89 | 0x90..=0x93 | 0xAF, ..] => at += 3,
                _ => break,
            }
            separators += 1;
        }
        run
    }
}

/// Returns the end of the digits that begin at `start`.
pub(super) fn digits_end(bytes: &[u8], start: usize) -> usize {
    bytes[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(bytes.len(), |length| start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_digits_end_with_a_digit() {
        let check = |text: &str, end, digits| {
            let run = Run::at(text.as_bytes(), 0);
            assert_eq!((run.end, run.digits), (end, digits), "{text:?}");
        };
        check("12", 2, 2);
        check("49 (0) 30-1 ", 11, 6);
        check("1    2", 1, 1);
        check("12\u{a0}34\u{202f}56.", 11, 6);
        check("1,2", 1, 1);
        check("1\n2", 1, 1);
    }
}
