//! Rewriting a text line by line.

use std::borrow::Cow;

/// Returns `text` with each line (without its line feed) replaced by the result of `change`, and the number of changed
/// lines. A line for which `change` returns `None` stays.
pub(super) fn rewrite(text: &str, change: impl Fn(&str) -> Option<String>) -> (Cow<'_, str>, u32) {
    let mut rewritten = String::new();
    let (mut copied, mut at, mut count) = (0, 0, 0);
    for line in text.split('\n') {
        if let Some(changed) = change(line) {
            rewritten.push_str(&text[copied..at]);
            rewritten.push_str(&changed);
            copied = at + line.len();
            count += 1;
        }
        at += line.len() + 1;
    }
    if count == 0 {
        return (Cow::Borrowed(text), 0);
    }
    rewritten.push_str(&text[copied..]);
    (Cow::Owned(rewritten), count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_rewritten() {
        let check = |text: &str, expected: &str, count| {
            let change = |line: &str| line.contains('x').then(|| line.replace('x', "yz"));
            assert_eq!(rewrite(text, change), (Cow::Borrowed(expected), count), "{text:?}");
        };
        check("", "", 0);
        check("a\nb\n", "a\nb\n", 0);
        check("x", "yz", 1);
        check("x\n", "yz\n", 1);
        check("\nx\n\na\nxx", "\nyz\n\na\nyzyz", 2);
    }
}
