//! "Did you mean": the right name for a wrong one.

/// Returns the candidate that `name` is likely a misspelling of: at most a third of its letters differ, and at least
/// one may. The distance is Damerau-Levenshtein's, without regard to case.
pub fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).max(1);
    let name = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings_are_recognised() {
        let check = |name, expected| {
            assert_eq!(suggest(name, ["wikipedia", "books", "code"]), expected, "{name}");
        };
        check("wikpedia", Some("wikipedia"));
        check("Wikipedia", Some("wikipedia"));
        check("book", Some("books"));
        check("cdoe", Some("code"));
        check("web", None);
        check("", None);
    }
}
