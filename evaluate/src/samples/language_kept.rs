//! Whether the language of a prompt is kept.

use whatlang::{Lang, detect};

/// Returns the fraction of texts in the language of their prompt, over those of which both are certain; none if there
/// are no such.
pub(crate) fn fraction<'a>(texts: impl Iterator<Item = (&'a str, &'a str)>) -> Option<f64> {
    let certain =
        |text: &str| -> Option<Lang> { detect(text).filter(whatlang::Info::is_reliable).map(|info| info.lang()) };
    let kept: Vec<bool> = texts.filter_map(|(prompt, text)| Some(certain(prompt)? == certain(text)?)).collect();
    (!kept.is_empty()).then(|| kept.iter().filter(|kept| **kept).count() as f64 / kept.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_certain_languages_count() {
        let english = "The building at the end of the street has been empty for many years, and no one knows why.";
        let german =
            "Das Gebäude in der langen Straße steht seit vielen Jahren leer, und niemand weiß, warum das so ist.";
        let chinese = "街道尽头的那座房子已经空了很多年,没有人知道原因。";
        let check = |texts: &[(&str, &str)], expected| assert_eq!(fraction(texts.iter().copied()), expected);
        check(&[], None);
        check(&[("x", "y")], None);
        check(&[(english, english), (chinese, chinese)], Some(1.0));
        check(&[(english, german), (german, german), (english, "")], Some(0.5));
    }
}
