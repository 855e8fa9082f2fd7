//! E-mail addresses.

use std::net::Ipv4Addr;
use std::ops::Range;

use super::context::{after, before, has_word, is_ideographic, is_word, line_before};
use super::url;

/// Substitutes for `@`: in URLs, in HTML, and in addresses that are hidden from crawlers.
pub(super) const DISGUISED_AT: &[&str] =
    &["%40", "&#64;", "&#x40;", "&commat;", "[at]", "(at)", "{at}", "<at>", "[AT]", "(AT)", "[@]", "(@)", "＠"];

/// Top-level domains of countries, from ISO 3166-1 and IANA's root zone database.
const COUNTRIES: &str = "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br \
    bs bt bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu \
    fi fj fk fm fo fr ga gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq \
    ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml \
    mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr \
    ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj \
    tk tl tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw";

/// Other top-level domains of real addresses, from IANA's root zone database: the old ones, the new ones with the most
/// registrations, and those in other scripts. `zip`, `mov` and `name` are left out, since they nearly always are files
/// and fields.
const GENERIC: &str = "com org net edu gov mil int info biz pro aero coop museum jobs mobi travel tel cat asia post \
    xxx arpa abogado academy accountant ads agency amsterdam app archi art associates attorney auction audio auto \
    baby bank bar barcelona bargains bayern bcn beer berlin best bet bid bike bio blog blue boston boutique brussels \
    build builders business buzz bzh cab cafe camera camp capital car cards care careers casa cash casino catering \
    cfd center ceo chat cheap christmas church city claims cleaning click clinic clothing cloud club coach codes \
    coffee college cologne community company computer construction consulting contact contractors cooking cool \
    corsica country coupons credit cymru dance date day dating deals degree delivery democrat dental dentist design \
    dev diamonds diet digital direct directory discount doctor dog domains download earth eco education email energy \
    engineer engineering enterprises equipment estate eus events exchange expert exposed express fail faith family \
    fan fans farm fashion film finance financial fish fishing fit fitness flights florist flowers football \
    foundation frl fun fund furniture futbol fyi gal gay gallery game games garden gift gifts gives glass global \
    gmbh gold golf graphics gratis green gripe group guide guitars guru hamburg haus health healthcare help hiphop \
    holdings holiday homes horse hospital host hosting house icu immo immobilien inc industries ink institute \
    insurance insure international investments irish ist istanbul jetzt jewelry joburg kaufen kim kitchen kiwi koeln \
    krd land lat law lawyer lease legal lgbt life lighting limited limo link live llc loan loans lol london love ltd \
    ltda luxury madrid maison management market marketing mba media melbourne memorial men miami mobi moda moe money \
    monster motorcycles mortgage moscow music nagoya network news ngo ninja nrw nyc observer okinawa one ong onl \
    online ooo organic osaka page paris partners parts party pet pharmacy phd photo photography photos physio pics \
    pictures pink pizza place plumbing plus poker porn press prof productions promo properties property pub quebec \
    racing recipes red rehab reise reisen rent rentals repair report republican rest restaurant review reviews rich \
    rip rocks rsvp rodeo ruhr run saarland sale sbs salon sarl school schule science scot security services sexy \
    shiksha shoes shop shopping show singles site ski soccer social software solar solutions space sport store \
    stream studio study style sucks supply support surf surgery swiss sydney systems taipei tattoo tax taxi team \
    tech technology tennis theater theatre tickets tienda tips tires tirol today tokyo tools top tours town toys \
    trade trading training tube university uno vacations vegas ventures versicherung vet viajes video villas vin vip \
    vision vlaanderen vodka vote voyage wales wang watch webcam website wedding wien wiki win wine work works world \
    wtf xyz yoga yokohama zone zuerich рф рус укр бел срб мкд қаз ευ ελ 中国 中國 公司 网络 网址 香港 台灣 台湾 한국 닷컴 भारत ไทย გე \
    հայ ישראל مصر السعودية امارات ایران";

/// Domain labels that are placeholders, and those of SSH's extension names.
const PLACEHOLDERS: &str = "domain example libssh mydomain openssh your-company your-domain yourcompany yourdomain \
    yourorg yoursite";

/// Words before `name@host` on its line that indicate an account on a machine, or a message identifier.
const NO_MAILBOX: &[&str] = &[
    "ssh ",
    "scp ",
    "sftp ",
    "rsync ",
    "mosh ",
    "ssh-copy-id ",
    "git clone ",
    "git remote add ",
    "autossh ",
    "sshfs ",
    "message-id:",
    "in-reply-to:",
    "references:",
    "mid:",
    "cid:",
];

const MAX_LOCAL_BYTES: usize = 64;
const MAX_DOMAIN_BYTES: usize = 253;
/// The 63 bytes of RFC 1035 apply to the ASCII form of a label; in UTF-8, other scripts take more.
const MAX_LABEL_BYTES: usize = 120;

/// Returns the address whose `@` is at `at`, if it is one.
pub(super) fn find(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    let is_spaced = matches!(text.as_bytes()[at.start], b'[' | b'(' | b'{' | b'<');
    let local_end = if is_spaced { text[..at.start].trim_end_matches(' ').len() } else { at.start };
    let domain_start = if is_spaced { text.len() - text[at.end..].trim_start_matches(' ').len() } else { at.end };
    if at.start - local_end > 2 || domain_start - at.end > 2 {
        return None;
    }
    let local = quoted_local(text, local_end).or_else(|| local(text, local_end))?;
    let end = address_literal(text, domain_start).or_else(|| domain(text, domain_start, is_spaced))?;
    let after = &text[end..];
    let is_italic = text[local..].starts_with('_') && after.starts_with('_');
    let continues = after.starts_with(['@', '(', '_', '=']) && !is_italic;
    let local = local + usize::from(is_italic);
    let is_account =
        text[local..local_end].eq_ignore_ascii_case("git") || is_remote_path(after) || url::is_userinfo(text, local);
    let line = line_before(text, local, 64).to_ascii_lowercase();
    let found = !continues && !is_account && !NO_MAILBOX.iter().any(|word| line.contains(word));
    found.then_some(local..end)
}

/// Returns the start of the local part that ends at `end` (RFC 5322's dot-atom, without characters that are rarely part
/// of one and often precede one; letters of any script, RFC 6531).
fn local(text: &str, end: usize) -> Option<usize> {
    let from = text.ceil_char_boundary(end.saturating_sub(MAX_LOCAL_BYTES + 4));
    let ideographic = before(text, end).is_some_and(is_ideographic);
    let is_part = |c: char| {
        ((c.is_alphanumeric() || c == '_') && is_ideographic(c) == ideographic)
            || matches!(c, '.' | '+' | '-' | '%' | '\'' | '’')
    };
    let written = text[from..end].rsplit(|c| !is_part(c)).next()?;
    // A quote may end another address: `a@b.net'c@d.net`.
    let written = match written.rsplit_once('\'') {
        Some((head, tail)) if head.rsplit_once('.').is_some_and(|(_, label)| is_top_level(label)) => tail,
        _ => written,
    };
    let before = before(text, end - written.len());
    let trimmed = written.trim_start_matches(['.', '-', '+', '%', '\'', '’']);
    let valid = (1..=MAX_LOCAL_BYTES).contains(&trimmed.len()) && !trimmed.ends_with(['.', '’', '\'']);
    // `@name@host` is a Fediverse handle; `$x@y` and `\w@y` are code.
    (valid && !matches!(before, Some('@' | '$' | '\\'))).then_some(end - trimmed.len())
}

/// Returns the start of the quoted local part that ends at `end`: `"Jane Doe"@host.org`.
fn quoted_local(text: &str, end: usize) -> Option<usize> {
    let from = text.ceil_char_boundary(end.saturating_sub(MAX_LOCAL_BYTES));
    let inside = text[from..end].strip_suffix('"')?;
    let name = &inside[inside.rfind('"')? + 1..];
    let is_name = !name.is_empty() && name.chars().all(|c| is_word(c) || matches!(c, '.' | ' ' | '-' | '+'));
    is_name.then_some(end - name.len() - 2)
}

/// Returns the end of the domain that begins at `start`, if it is an IPv4 address in brackets.
fn address_literal(text: &str, start: usize) -> Option<usize> {
    let inside = text[start..].strip_prefix('[')?;
    let length = inside.bytes().take(16).position(|byte| byte == b']')?;
    inside[..length].parse::<Ipv4Addr>().ok().map(|_| start + length + 2)
}

/// Returns the end of the domain that begins at `start`.
fn domain(text: &str, start: usize, disguised: bool) -> Option<usize> {
    let mut labels: Vec<Range<usize>> = Vec::new();
    let mut at = start;
    loop {
        let ideographic = after(text, at).is_some_and(is_ideographic);
        let is_part = |c: char| (c.is_alphanumeric() && is_ideographic(c) == ideographic) || c == '-';
        let window = &text[at..text.floor_char_boundary((at + MAX_LABEL_BYTES + 4).min(text.len()))];
        let length = window.find(|c| !is_part(c)).unwrap_or(window.len());
        let label = &window[..length];
        if length == 0
            || length > MAX_LABEL_BYTES
            || at + length - start > MAX_DOMAIN_BYTES
            || label.starts_with('-')
            || label.ends_with('-')
        {
            break;
        }
        labels.push(at..at + length);
        let Some(dot) = dot(&text[at + length..], disguised) else { break };
        at += length + dot;
    }
    // A sentence may follow without a space: `jane@host.net.Then`.
    let is_sentence = |label: &Range<usize>| text[label.clone()].starts_with(char::is_uppercase);
    while labels.len() > 2 && !is_top_level(&text[labels.last()?.clone()]) && is_sentence(labels.last()?) {
        labels.pop();
    }
    let (top, rest) = labels.split_last()?;
    let second = &text[rest.last()?.clone()];
    let is_placeholder = rest.iter().any(|label| has_word(PLACEHOLDERS, &text[label.clone()].to_lowercase()));
    let is_numeric = second.bytes().all(|byte| byte.is_ascii_digit()) && second.len() < 3 && rest.len() == 1;
    (is_top_level(&text[top.clone()]) && !is_placeholder && !is_numeric).then_some(top.end)
}

/// Returns the length of the dot, or its substitute, at the beginning of `rest`.
fn dot(rest: &str, disguised: bool) -> Option<usize> {
    if let Some(following) = rest.strip_prefix('.') {
        return following.starts_with(char::is_alphanumeric).then_some(1);
    }
    if !disguised {
        return None;
    }
    let trimmed = rest.trim_start_matches(' ');
    let sign = ["[dot]", "(dot)", "{dot}", "<dot>", "[DOT]", "(DOT)", "dot ", "DOT ", "[.]", "(.)"];
    let sign = sign.iter().find(|sign| trimmed.starts_with(**sign))?;
    let following = trimmed[sign.len()..].trim_start_matches(' ');
    (rest.len() - trimmed.len() <= 2).then_some(rest.len() - following.len())
}

fn is_top_level(label: &str) -> bool {
    let label = label.to_lowercase();
    let domains = if label.len() == 2 { COUNTRIES } else { GENERIC };
    has_word(domains, &label) || (label.starts_with("xn--") && label.len() > 6)
}

/// Returns true if `rest` begins with a path of `scp` or `git` after a host: `:/srv`, `:~/`, `:team/project`.
fn is_remote_path(rest: &str) -> bool {
    let Some(path) = rest.strip_prefix(':') else { return false };
    let path = path.split(|c: char| !(is_word(c) || matches!(c, '/' | '.' | '-' | '~'))).next().unwrap_or_default();
    path.starts_with(['/', '~', '.']) || path.contains('/') || path.strip_suffix(".git").is_some()
}
