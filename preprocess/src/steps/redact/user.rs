//! Names of persons in the paths of home folders.

use std::ops::Range;

use super::config::Kind;
use super::context::{has_word, is_word, line_before, line_behind, words};

/// What stands before the name. Backslashes are doubled in source code and JSON.
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

/// Names that systems, services and manuals give to everybody, and pages of web sites below `/home/` and `/users/`; in
/// lower case.
const SHARED: &str = "_ about account action actions admin administrator alice all all-users anonymous api app \
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

/// Folders that `/home` lies in where it is no folder of the root.
const PARENTS: &str = "/System/Volumes/Data /data /export /host /media /mnt /net /nfs /private /rootfs /sysroot /usr \
    /var /volume1";

/// Ends of names that are files of a web site.
const PAGES: &str = "asp aspx css htm html jpg js json jsp md php png svg ts tsx vue xml";

/// What stands before a path of a web site.
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

/// How far before a path its surroundings are looked at; bytes. [`PARENTS`] and [`ROUTES`] are shorter.
const MOST_HEAD_BYTES: usize = 40;

/// How far behind the beginning of a path in bold the end of bold is looked for; bytes.
const MOST_BOLD_BYTES: usize = 128;

/// The longest name taken for one; bytes.
const MOST_NAME_BYTES: usize = 64;

/// Returns the name behind the beginning of a path at `at`.
pub(super) fn find(text: &str, at: Range<usize>, home: &str) -> Option<Range<usize>> {
    let line = line_before(text, at.start, MOST_HEAD_BYTES);
    let is_windows = home.starts_with('\\') || (home != "/home/" && ends_in_drive(line));
    let is_home = if home.starts_with('\\') {
        is_windows_root(line)
    } else {
        is_windows || is_root(line, line_behind(text, at.end, MOST_BOLD_BYTES), home)
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
    let is_shared = has_word(SHARED, &name.to_lowercase().replace(' ', "-"));
    (is_name && !is_shared).then_some(at.end..at.end + name.len())
}

/// Returns whether `line` ends in a drive: `C:`, or as MSYS and WSL write it, `/c` and `/mnt/c`.
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

/// Returns whether a path with backslashes can begin behind `line`: a drive, a share (`\\server\c$`), a variable, or a
/// backslash that doubles the first.
fn is_windows_root(line: &str) -> bool {
    let head = line.strip_suffix('\\').unwrap_or(line);
    matches!(head.chars().next_back(), None | Some(':' | '$' | '%' | ' ' | '"' | '\'' | '(' | '?'))
}

/// Returns whether `home` behind `line` is a folder of the root or of one of [`PARENTS`], and no path of a web site.
fn is_root(line: &str, behind: &str, home: &str) -> bool {
    if home == "/users/" {
        return false;
    }
    let is_below = line.ends_with(is_word);
    let head = words(PARENTS).find_map(|parent| line.strip_suffix(parent).filter(|_| is_below)).unwrap_or(line);
    let flag = head.strip_suffix("-I").or_else(|| head.strip_suffix("-L"));
    let is_start = match flag.unwrap_or(head).chars().next_back() {
        Some('/') => head.ends_with("file://") || head.ends_with("vscode-remote://"),
        // Bold in Markdown, where `**/home/` is otherwise a pattern.
        Some('*') => head.ends_with("**") && behind.contains("**"),
        // A path that goes on behind a name taken out is no other path.
        Some('>') => !head.ends_with(Kind::User.placeholder()),
        Some(c) => !is_word(c) && !matches!(c, '.' | '-' | '~' | ')' | '}' | ']' | '%' | '$' | '@' | '?' | '#'),
        None => true,
    };
    is_start && !ROUTES.iter().any(|route| line.ends_with(route))
}

/// Returns where the name ends. Windows has names of several words; they are taken where a separator follows.
fn name_end(text: &str, start: usize, is_windows: bool) -> Option<usize> {
    let window = &text[start..text.floor_char_boundary((start + MOST_NAME_BYTES).min(text.len()))];
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '+') || (c == '~' && is_windows);
    let length = window.find(|c| !is_part(c)).unwrap_or(window.len());
    let is_cut = length == window.len() && text[start + length..].starts_with(is_part);
    let longer = window.find(|c| !is_part(c) && c != ' ' && c != '\'').unwrap_or(0);
    let several = is_windows && longer > length && window[longer..].starts_with(['\\', '/']);
    let length = if several { longer } else { length };
    let next = text[start + length..].chars().next();
    // `/home/{user}`, `/home/$USER`, `/Users/<name>` are patterns; a call is a method's path.
    let is_pattern = length == 0 || matches!(next, Some('{' | '$' | '*' | '(' | '='));
    (!is_cut && !is_pattern).then_some(start + length)
}
