//! Text whose UTF-8 somebody read in another encoding (`cafÃ©`), through `plsfix`, the Rust port of ftfy (Speer, "ftfy",
//! 2019).
//!
//! It is slow, so it sees only lines in which [`super::scan`] finds a trace. What is wrong in version 0.1.8 is kept from
//! it:
//!
//! - It decodes entities whatever it is told. Ampersands are hidden from it behind a control character.
//! - It cuts segments longer than its limit inside a character, and panics; so may its backtracking expressions where
//!   they give up. It gets pieces far below either.
//! - A character that stands for byte C0 at the end is lost. Each piece ends with a line feed.
//! - It decodes what begins with the characters of a byte order mark as the mark says. Such a piece is left alone, but
//!   for UTF-8's mark (`ï»¿`), which is mended here.
//! - It lost a blank from ftfy's expression for `.Â `, the trace that no-break spaces leave in most text, which it
//!   therefore takes for legitimate. That is put right before.

use std::borrow::Cow;

use plsfix::{TextFixerConfig, fix_text};

/// A line is looked at in pieces of at most this many bytes. Long enough for sentences, and hundreds of times below what
/// makes `plsfix` panic.
const PIECE_BYTES: usize = 4 << 10;

/// Encodings only: all else is done here, and done right.
const ENCODINGS: TextFixerConfig = TextFixerConfig {
    unescape_html: Some(false),
    remove_terminal_escapes: false,
    fix_encoding: true,
    restore_byte_a0: true,
    replace_lossy_sequences: true,
    decode_inconsistent_utf8: true,
    fix_c1_controls: true,
    fix_latin_ligatures: false,
    fix_character_width: false,
    uncurl_quotes: false,
    fix_line_breaks: false,
    remove_control_chars: false,
    normalization: None,
    max_decode_length: i32::MAX,
};

/// Returns the line as it was meant, if it changes.
pub(super) fn mend_line(line: &str) -> Option<String> {
    let mut mended = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(piece_end(rest));
        mended.push_str(&mend_piece(piece));
        rest = after;
    }
    (mended != line).then_some(mended)
}

/// Returns where the first piece of a line ends: between letters of ASCII, which no mojibake spans, or else where it must.
fn piece_end(line: &str) -> usize {
    if line.len() <= PIECE_BYTES {
        return line.len();
    }
    let bytes = line.as_bytes();
    let between_letters = |at: &usize| bytes[at - 1].is_ascii_alphabetic() && bytes[*at].is_ascii_alphabetic();
    let end = (PIECE_BYTES / 2..PIECE_BYTES).rev().find(between_letters);
    end.unwrap_or_else(|| line.floor_char_boundary(PIECE_BYTES))
}

fn mend_piece(piece: &str) -> Cow<'_, str> {
    if let Some(rest) = piece.strip_prefix("ï»¿") {
        return Cow::Owned(format!("\u{feff}{}", mend_piece(rest)));
    }
    if piece.starts_with("ÿþ") || piece.starts_with("þÿ") {
        return Cow::Borrowed(piece);
    }
    // Control characters that mean the same in all encodings, are no white space and stand for nothing else.
    let Some(hidden) = ('\u{1}'..='\u{8}').find(|c| !piece.contains(*c)) else { return Cow::Borrowed(piece) };
    let mut buffer = [0; 4];
    let mut given = with_no_break_spaces(piece).replace('&', hidden.encode_utf8(&mut buffer));
    given.push('\n');
    let mended = fix_text(&given, Some(&ENCODINGS));
    match mended.strip_suffix('\n') {
        Some(mended) => Cow::Owned(mended.replace(hidden, "&")),
        None => Cow::Borrowed(piece),
    }
}

/// Returns `piece` with no-break spaces (C2 A0, of which A0 became a space) where `Â ` stands directly behind the end of a
/// sentence or quotation, where no language has a word.
fn with_no_break_spaces(piece: &str) -> Cow<'_, str> {
    if !piece.contains("Â ") {
        return Cow::Borrowed(piece);
    }
    let ends = ['.', ',', '?', '!', '”', '»', '›', '™', '®'];
    Cow::Owned(
        ends.iter().fold(piece.to_owned(), |piece, end| piece.replace(&format!("{end}Â "), &format!("{end}\u{a0}"))),
    )
}

#[cfg(test)]
mod tests {
    use super::super::scan::{Needs, scan};
    use super::*;
    use proptest::prelude::*;

    fn mended(line: &str) -> String {
        let needs_mending = scan(line).has(Needs::MOJIBAKE);
        needs_mending.then(|| mend_line(line)).flatten().unwrap_or_else(|| line.to_owned())
    }

    #[test]
    fn mojibake_is_mended() {
        let check = |text: &str, expected: &str| assert_eq!(mended(text), expected, "{text:?}");
        check("", "");
        check("cafÃ© & ZÃ¼rich", "café & Zürich");
        check("The Mona Lisa doesnÃƒÂ¢Ã¢â€šÂ¬Ã¢â€žÂ¢t.", "The Mona Lisa doesn’t.");
        check("â€œquotedâ€\u{9d} and â€œlostâ€\u{fffd}", "“quoted” and “lost\u{fffd}");
        check("\u{93}quoted\u{94} \u{96} dash\u{85}", "“quoted” – dash…");
        check("sÃ³ e nÃ£o Â£10 10Â°C Â© 2020", "só e não £10 10°C © 2020");
        check("End.Â  Next. “Quote”Â more", "End.\u{a0} Next. “Quote”\u{a0}more");
        check("Ã\u{a0} la mode", "à la mode");
        check("Ñ€ÑƒÑ\u{81}Ñ\u{81}ÐºÐ¸Ð¹", "русский");
        check("РґРѕСЂРѕРіРµ Р\u{98}Р·-РїРѕРґ", "дороге Из-под");
        check("ÎµÎ»Î»Î·Î½Î¹ÎºÎ¬", "ελληνικά");
        check("ç®€ä½“ä¸\u{ad}æ–‡", "简体中文");
        check("g√¢teaux et r√©gime √©quilibr√©", "gâteaux et régime équilibré");
        check("#╨┐╤Ç╨░╨▓╨╕╨╗╤î╨╜╨╛╨╡", "#правильное");
        check("ðŸ˜\u{8d} so much", "😍 so much");
        check("ï»¿title cafÃ©", "\u{feff}title café");
        // Part of the line only.
        check("À propos — „Größe“ — cafÃ©", "À propos — „Größe“ — café");
        // References stay, whatever characters are free to hide them.
        check("cafÃ© &amp; &eacute; \u{1}\u{2}", "café &amp; &eacute; \u{1}\u{2}");
        check("\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8} cafÃ©", "\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8} cafÃ©");
        // The last character is not lost.
        check("bon mot Ã© À", "bon mot é À");
    }

    #[test]
    fn text_in_order_stays() {
        let check = |text: &str| assert_eq!(mended(text), text);
        check("L’été, « Noël » à 10 € — où ça ?");
        check("„Größe“, »Zitat«, Ångström, ÄÖÜ");
        check("¿Dónde? ¡Ñandú! São às três; É ÚNICA");
        check("Şişli’de, žluťoučký, zażółć, Árvíztűrő");
        check("Съешь «ещё» — Я в доме № 5. Їжак її п’яне");
        check("Ελληνικά «Ά» Ώρα");
        check("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞß");
        check("├┬┐ ┌──┬──┐ │ x │ ╔═╗");
        check("x² ≤ y³ × π ≈ ½, √2, 10 °C ± 2 ™");
        check("\u{ff}\u{fe}\u{93}");
        check("Â, â and  in Vietnamese: ĂÂĐÊÔƠƯ");
    }

    #[test]
    fn long_lines_are_cut_into_pieces() {
        let check = |line: &str, expected: &str| assert_eq!(mended(line), expected);
        check(&"cafÃ© ".repeat(5_000), &"café ".repeat(5_000));
        check(&"Ã©".repeat(50_000), &"é".repeat(50_000));
        check(&"x".repeat(100_000), &"x".repeat(100_000));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn lines_without_a_trace_are_none_that_would_change(
            line in r"[ -~éàüÃÂÄÅÎÐÑâðíï¿€œ™š©®°»¡¢²³¼‚ƒ„…†‡ˆ‰“”‘’•–—ВГРСабвЂђѓљћџЎўІіґё№єѕїΒΓΞΟαβγΆΈΉ├┬─╨╤│┐░▒▓√¬≈∆«»\u{a0}\u{ad}\u{fffd}\x1a]{0,12}",
        ) {
            if !scan(&line).has(Needs::MOJIBAKE) {
                prop_assert_eq!(mend_line(&line), None);
            }
        }
    }
}
