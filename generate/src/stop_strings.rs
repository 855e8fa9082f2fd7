//! Stop strings: text that could be the start of one is held back until more text rules that out.

/// Passes text up to the first stop string, wherever the text is split into pieces.
///
/// Of several stop strings the one completed first ends the text, as if the text arrived one character at a time.
#[derive(Debug)]
pub(crate) struct StopFilter {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl StopFilter {
    /// Returns a filter that has seen no text; no stop string may be empty.
    pub(crate) fn new(stops: &[String]) -> Self {
        Self { stops: stops.to_vec(), held: String::new(), stopped: false }
    }

    /// Adds a piece of text and returns the text that is certain to be before any stop string.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(piece);
        let first = self.stops.iter().filter_map(|stop| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start))
        });
        if let Some((_, start)) = first.min() {
            self.stopped = true;
            self.held.truncate(start);
            return std::mem::take(&mut self.held);
        }
        let kept = self.possible_start();
        let rest = self.held.split_off(self.held.len() - kept);
        std::mem::replace(&mut self.held, rest)
    }

    /// Returns true if a stop string was found.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Returns the text still held back, at the end of the input.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Returns the number of bytes at the end of the held text that could be the start of a stop string.
    fn possible_start(&self) -> usize {
        let ends = self.held.char_indices().map(|(start, _)| &self.held[start..]);
        ends.filter(|end| self.stops.iter().any(|stop| stop.starts_with(end))).map(str::len).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// Pushes the pieces; `expected` is the output at each, then at the end.
    #[track_caller]
    fn check(stops: &[&str], pieces: &[&str], expected: &[&str]) {
        let stops = strings(stops);
        let mut filter = StopFilter::new(&stops);
        let mut found: Vec<String> = pieces.iter().map(|piece| filter.push(piece)).collect();
        found.push(filter.finish());
        assert_eq!(found, expected, "{stops:?} {pieces:?}");
    }

    #[test]
    fn text_is_held_back_only_while_it_could_start_a_stop_string() {
        check(&[], &["a", "b"], &["a", "b", ""]);
        check(&["\n\n"], &["a\n", "b"], &["a", "\nb", ""]);
        check(&["\n\n"], &["a\n", "\nb", "c"], &["a", "", "", ""]);
        check(&["}\n"], &["{}", "\n", "x"], &["{", "", "", ""]);
        check(&["END"], &["E", "N", "E", "ND"], &["", "", "EN", "", ""]);
        check(&["END"], &["xEN"], &["x", "EN"]);
        check(&["aab"], &["aaab"], &["a", ""]);
        check(&["→é"], &["1→", "é2"], &["1", "", ""]);
        check(&["→é"], &["1→", "è2"], &["1", "→è2", ""]);
    }

    #[test]
    fn stop_string_completed_first_wins() {
        check(&["abcdef", "cd"], &["abcdef"], &["ab", ""]);
        check(&["bc", "abc"], &["xabc"], &["x", ""]);
    }

    proptest! {
        #[test]
        fn result_does_not_depend_on_where_text_is_split(
            text in "[ab→]{0,24}",
            stops in prop::collection::vec("[ab→]{1,4}", 0..4),
            cuts in prop::collection::vec(1_usize..5, 24),
        ) {
            let characters: Vec<char> = text.chars().collect();
            let run = |sizes: &mut dyn Iterator<Item = usize>| {
                let mut filter = StopFilter::new(&stops);
                let (mut out, mut at) = (String::new(), 0);
                while at < characters.len() {
                    let end = (at + sizes.next().unwrap_or(1)).min(characters.len());
                    out += &filter.push(&characters[at..end].iter().collect::<String>());
                    at = end;
                }
                let stopped = filter.is_stopped();
                (out + &filter.finish(), stopped)
            };
            let (out, stopped) = run(&mut cuts.iter().copied());
            prop_assert_eq!(&run(&mut std::iter::repeat(1)), &(out.clone(), stopped));
            prop_assert!(text.starts_with(&out));
            prop_assert_eq!(stopped, stops.iter().any(|stop| text.contains(stop.as_str())));
            prop_assert!(stops.iter().all(|stop| !out.contains(stop.as_str())));
        }
    }
}
