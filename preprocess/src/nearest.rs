//! The right name for a wrong one.

/// Returns the name among `known` that `unknown` is likely a slip of: at most a third of its letters are wrong, one at
/// least.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (unknown.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&unknown.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognized() {
        let check = |unknown, expected| {
            assert_eq!(nearest(unknown, ["wikipedia", "books", "code"]), expected, "{unknown}");
        };
        check("wikpedia", Some("wikipedia"));
        check("Wikipedia", Some("wikipedia"));
        check("book", Some("books"));
        check("cdoe", Some("code"));
        check("web", None);
        check("", None);
    }
}
