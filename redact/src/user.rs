//! Names of persons in paths of home folders.

use std::ops::Range;

use super::config::Kind;
use super::context::{has_word, is_word, line_after, line_before, words};

/// The path before the name. Backslashes are doubled in source code and JSON.
pub(super) const HOMES: &[&str] = &[
    "/home/",
    "/Users/",
    "/users/",
    "\\Users\\",
    "\\Users\\\\",
    "\\users\\",
    "\\users\\\\",
    "\\Documents and Settings\\",
    "\\Documents and Settings\\\\",
];

/// Generic names of systems, services and manuals, and pages of web sites below `/home/` and `/users/`; in lower case.
const GENERIC_NAMES: &str = "_ about account action actions admin administrator alice all all-users anonymous api app \
    appuser assets azureuser bar bitnami bob build builder centos ci circleci cloud-user coder codespace conda \
    contact core css current dashboard debian default default-user default.migrated defaultapppool deploy deployer \
    dev developer devuser docker ec2-user edit example fedora foo ftp git github gitlab-runner gitpod guest hadoop \
    home images img index jenkins jovyan js kali linaro linuxbrew list localadmin login logout lost+found me mock my \
    myname myself myuser myusername name new news nobody node none nonroot null opc oracle page phablet pi postgres \
    postgresql profile project projects public pwuser register root runner runneradmin sandbox search self service \
    settings share shared signin signup site some somebody someone someuser src static steam student superuser svc \
    sysadmin temp test tester testuser tmp travis u ubuntu undefined user user1 username usernames users vagrant \
    vcap vmuser vscode vsts web webapp welcome who work workspace www www-data xxx yarn you your your-name your-user \
    your-username your_name your_user your_user_name your_username yourname yourself youruser yourusername zeppelin";

/// Parent folders of `/home` other than the root.
const PARENTS: &str = "/System/Volumes/Data /data /export /host /media /mnt /net /nfs /private /rootfs /sysroot /usr \
    /var /volume1";

/// Extensions of files of a web site.
const PAGES: &str = "asp aspx css htm html jpg js json jsp md php png svg ts tsx vue xml";

/// The text before a path of a web site.
const ROUTES: &[&str] = &[
    "href=\"",
    "href='",
    "src=\"",
    "to=\"",
    "action=\"",
    "path=\"",
    "GET ",
    "POST ",
    "PUT ",
    "PATCH ",
    "DELETE ",
    "HEAD ",
    "OPTIONS ",
    "get('",
    "get(\"",
    "post('",
    "post(\"",
    "put('",
    "put(\"",
    "delete('",
    "delete(\"",
    "fetch('",
    "fetch(\"",
    "route('",
    "route(\"",
    "path('",
    "path(\"",
    "goto('",
    "goto(\"",
    "push('",
    "push(\"",
    "navigate('",
    "navigate(\"",
    "redirect_to '",
    "redirect('",
    "redirect(\"",
    "url(",
    "url: \"",
    "url: '",
    "curl ",
    "Disallow: ",
    "Allow: ",
    "endpoint: ",
    "route: ",
    "](",
];

/// The length of the examined text before a path; bytes. [`PARENTS`] and [`ROUTES`] are shorter.
const MAX_HEAD_BYTES: usize = 40;

/// The maximum distance from the start of a path in bold to the end of bold; bytes.
const MAX_BOLD_BYTES: usize = 128;

/// The maximum length of a name; bytes.
const MAX_NAME_BYTES: usize = 64;

/// Returns the name after the start of a path at `at`, if it is a person's.
pub(super) fn find(text: &str, at: Range<usize>, home: &str) -> Option<Range<usize>> {
    let line = line_before(text, at.start, MAX_HEAD_BYTES);
    let is_windows = home.starts_with('\\') || (home != "/home/" && ends_in_drive(line));
    let is_home = if home.starts_with('\\') {
        is_windows_root(line)
    } else {
        is_windows || is_root(line, line_after(text, at.end, MAX_BOLD_BYTES), home)
    };
    if !is_home {
        return None;
    }
    let end = name_end(text, at.end, is_windows)?;
    let name = &text[at.end..end];
    let is_folder = text[end..].starts_with(['/', '\\']);
    let name = if is_folder { name } else { name.trim_end_matches(['.', '-']) };
    let is_page = name.rsplit_once('.').is_some_and(|(_, extension)| has_word(PAGES, extension));
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let is_name = name.starts_with(|c: char| c.is_alphanumeric() || c == '_') && !is_number && !is_page;
    let is_generic = has_word(GENERIC_NAMES, &name.to_lowercase().replace(' ', "-"));
    (is_name && !is_generic).then_some(at.end..at.end + name.len())
}

/// Returns true if `line` ends with a drive: `C:`, or `/c` and `/mnt/c` in MSYS and WSL.
fn ends_in_drive(line: &str) -> bool {
    let is_free =
        |head: &str| head.chars().next_back().is_none_or(|c| !is_word(c) && !matches!(c, '.' | '-' | '~' | '}' | ')'));
    if let Some(head) = line.strip_suffix(':') {
        let drive = head.strip_suffix(|c: char| c.is_ascii_alphabetic());
        return drive.is_some_and(is_free);
    }
    let Some(head) = line.strip_suffix(|c: char| c.is_ascii_alphabetic()).and_then(|head| head.strip_suffix('/'))
    else {
        return false;
    };
    is_free(head.strip_suffix("/mnt").unwrap_or(head)) && !head.ends_with('/')
}

/// Returns true if a path with backslashes may begin after `line`: after a drive, a network share (`\\server\c$`), a
/// variable, or a backslash that escapes the first.
fn is_windows_root(line: &str) -> bool {
    let head = line.strip_suffix('\\').unwrap_or(line);
    matches!(head.chars().next_back(), None | Some(':' | '$' | '%' | ' ' | '"' | '\'' | '(' | '?'))
}

/// Returns true if `home` after `line` is a folder in the root or in one of [`PARENTS`], and not a path of a web site.
fn is_root(line: &str, after: &str, home: &str) -> bool {
    if home == "/users/" {
        return false;
    }
    let is_below = line.ends_with(is_word);
    let head = words(PARENTS).find_map(|parent| line.strip_suffix(parent).filter(|_| is_below)).unwrap_or(line);
    let flag = head.strip_suffix("-I").or_else(|| head.strip_suffix("-L"));
    let is_start = match flag.unwrap_or(head).chars().next_back() {
        Some('/') => head.ends_with("file://") || head.ends_with("vscode-remote://"),
        // Bold in Markdown, where `**/home/` is otherwise a pattern.
        Some('*') => head.ends_with("**") && after.contains("**"),
        // The rest of a path after a replaced name is not a path of its own.
        Some('>') => !head.ends_with(Kind::User.placeholder()),
        Some(c) => !is_word(c) && !matches!(c, '.' | '-' | '~' | ')' | '}' | ']' | '%' | '$' | '@' | '?' | '#'),
        None => true,
    };
    is_start && !ROUTES.iter().any(|route| line.ends_with(route))
}

/// Returns the end of the name. Names on Windows may have several words; these count if a separator follows.
fn name_end(text: &str, start: usize, is_windows: bool) -> Option<usize> {
    let window = &text[start..text.floor_char_boundary((start + MAX_NAME_BYTES).min(text.len()))];
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '+') || (c == '~' && is_windows);
    let length = window.find(|c| !is_part(c)).unwrap_or(window.len());
    let is_cut = length == window.len() && text[start + length..].starts_with(is_part);
    let longer = window.find(|c| !is_part(c) && c != ' ' && c != '\'').unwrap_or(0);
    let several = is_windows && longer > length && window[longer..].starts_with(['\\', '/']);
    let length = if several { longer } else { length };
    let next = text[start + length..].chars().next();
    // `/home/{user}`, `/home/$USER`, `/Users/<name>` are patterns; a call is a path of code.
    let is_pattern = length == 0 || matches!(next, Some('{' | '$' | '*' | '(' | '='));
    (!is_cut && !is_pattern).then_some(start + length)
}
