//! Fixes mojibake, UTF-8 that was decoded in another encoding (`cafÃ©`), with `plsfix`, the Rust port of ftfy (Speer,
//! "ftfy", 2019).
//!
//! It is slow, so it is called only for lines in which [`super::scan`] finds a trace. Workarounds for bugs of version
//! 0.1.8:
//!
//! - It decodes entities even if told not to. Ampersands are replaced by a control character before the call.
//! - It panics when it splits a segment longer than its limit inside a character, and perhaps when its backtracking
//!   expressions give up. It gets pieces far below both limits.
//! - It loses a character that stands for byte C0 at the end. Each piece ends with a line feed.
//! - It decodes text that begins with the characters of a byte order mark as that mark says. Such a piece is not passed
//!   to it; UTF-8's mark (`ï»¿`) is fixed here.
//! - Its version of ftfy's expression for `.Â `, the usual trace of a no-break space, lacks a space, so it treats the
//!   trace as legitimate text. It is fixed before the call.

use std::borrow::Cow;

use plsfix::{TextFixerConfig, fix_text};

/// A line is fixed in pieces of at most this many bytes: enough for sentences, and hundreds of times below the length
/// at which `plsfix` panics.
const PIECE_BYTES: usize = 4 << 10;

/// The configuration of `plsfix` with every fix disabled.
pub(super) const ALL_OFF: TextFixerConfig = TextFixerConfig {
    unescape_html: Some(false),
    remove_terminal_escapes: false,
    fix_encoding: false,
    restore_byte_a0: false,
    replace_lossy_sequences: false,
    decode_inconsistent_utf8: false,
    fix_c1_controls: false,
    fix_latin_ligatures: false,
    fix_character_width: false,
    uncurl_quotes: false,
    fix_line_breaks: false,
    remove_control_chars: false,
    normalization: None,
    max_decode_length: i32::MAX,
};

/// The fixes of encodings; this step does the others itself.
const ENCODINGS: TextFixerConfig = TextFixerConfig {
    fix_encoding: true,
    restore_byte_a0: true,
    replace_lossy_sequences: true,
    decode_inconsistent_utf8: true,
    fix_c1_controls: true,
    ..ALL_OFF
};

/// Returns the line without mojibake, if it changes.
pub(super) fn fix_line(line: &str) -> Option<String> {
    let mut fixed = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(piece_end(rest));
        fixed.push_str(&fix_piece(piece));
        rest = after;
    }
    (fixed != line).then_some(fixed)
}

/// Returns the end of the first piece of a line: between ASCII letters, which no mojibake spans, or else at the limit.
fn piece_end(line: &str) -> usize {
    if line.len() <= PIECE_BYTES {
        return line.len();
    }
    let bytes = line.as_bytes();
    let between_letters = |at: &usize| bytes[at - 1].is_ascii_alphabetic() && bytes[*at].is_ascii_alphabetic();
    let end = (PIECE_BYTES / 2..PIECE_BYTES).rev().find(between_letters);
    end.unwrap_or_else(|| line.floor_char_boundary(PIECE_BYTES))
}

fn fix_piece(piece: &str) -> Cow<'_, str> {
    if let Some(rest) = piece.strip_prefix("ï»¿") {
        return Cow::Owned(format!("\u{feff}{}", fix_piece(rest)));
    }
    if piece.starts_with("ÿþ") || piece.starts_with("þÿ") {
        return Cow::Borrowed(piece);
    }
    // Control characters that are the same in all encodings and are neither white space nor the result of mojibake.
    let Some(hidden) = ('\u{1}'..='\u{8}').find(|c| !piece.contains(*c)) else { return Cow::Borrowed(piece) };
    let mut buffer = [0; 4];
    let mut input = with_no_break_spaces(piece).replace('&', hidden.encode_utf8(&mut buffer));
    input.push('\n');
    let fixed = fix_text(&input, Some(&ENCODINGS));
    match fixed.strip_suffix('\n') {
        Some(fixed) => Cow::Owned(fixed.replace(hidden, "&")),
        None => Cow::Borrowed(piece),
    }
}

/// Returns `piece` with a no-break space (C2 A0, whose A0 became a space) for `Â ` directly after the end of a sentence
/// or quotation, where no language has a word.
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

    fn fixed(line: &str) -> String {
        let has_trace = scan(line).has(Needs::MOJIBAKE);
        has_trace.then(|| fix_line(line)).flatten().unwrap_or_else(|| line.to_owned())
    }

    #[test]
    fn mojibake_is_fixed() {
        let check = |text: &str, expected: &str| assert_eq!(fixed(text), expected, "{text:?}");
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
        // Only part of the line.
        check("À propos — „Größe“ — cafÃ©", "À propos — „Größe“ — café");
        // References stay, whichever control characters the text has.
        check("cafÃ© &amp; &eacute; \u{1}\u{2}", "café &amp; &eacute; \u{1}\u{2}");
        check("\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8} cafÃ©", "\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8} cafÃ©");
        // The last character is not lost.
        check("bon mot Ã© À", "bon mot é À");
    }

    #[test]
    fn correct_text_stays() {
        let check = |text: &str| assert_eq!(fixed(text), text);
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
    fn long_lines_are_fixed_in_pieces() {
        let check = |line: &str, expected: &str| assert_eq!(fixed(line), expected);
        check(&"cafÃ© ".repeat(5_000), &"café ".repeat(5_000));
        check(&"Ã©".repeat(50_000), &"é".repeat(50_000));
        check(&"x".repeat(100_000), &"x".repeat(100_000));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn lines_without_a_trace_do_not_change(
            line in concat!(
                r"[ -~éàüÃÂÄÅÎÐÑâðíï¿€œ™š©®°»¡¢²³¼‚ƒ„…†‡ˆ‰“”‘’•–—ВГРСабвЂђѓљћџЎўІіґё№єѕї",
                r"ΒΓΞΟαβγΆΈΉ├┬─╨╤│┐░▒▓√¬≈∆«»\u{a0}\u{ad}\u{fffd}\x1a]{0,12}",
            ),
        ) {
            if !scan(&line).has(Needs::MOJIBAKE) {
                prop_assert_eq!(fix_line(&line), None);
            }
        }
    }
}
