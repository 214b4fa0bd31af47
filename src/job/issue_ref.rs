//! References to issues: `host[:port]/path…/repository#number`, and what people paste instead.

use std::fmt;
use std::str::FromStr;

use crate::job::limits;

/// An issue of a repository on a forge.
///
/// Names on forges are case-insensitive: two references that differ only in case are equal, and
/// [`IssueRef::key`] is the same for both. [`fmt::Display`] keeps the case that was typed.
///
/// ```
/// use kugetsu::IssueRef;
///
/// let issue: IssueRef = "https://github.com/Shoko/kugetsu/issues/14?x=1".parse()?;
/// assert_eq!(issue.to_string(), "github.com/Shoko/kugetsu#14");
/// assert_eq!(issue.key(), "github.com/shoko/kugetsu#14");
/// assert_eq!(issue.branch(), "issue-14");
/// # Ok::<(), kugetsu::job::issue_ref::Malformed>(())
/// ```
#[derive(Clone)]
pub struct IssueRef {
    host: String,
    path: String,
    number: u64,
    key: String,
}

/// Why a text is not an issue reference. Shown with the beginning of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}: {text:?}")]
pub struct Malformed {
    text: String,
    why: &'static str,
}

impl IssueRef {
    /// The forge, with its port if it has one, as typed.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository on the forge, `owner/repository`, as typed.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The issue's number, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The canonical form: equal for all ways to write the same issue.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The repository without the issue, canonical: `host/owner/repository`.
    pub fn repository(&self) -> &str {
        self.key.rsplit_once('#').map_or(self.key.as_str(), |(repository, _)| repository)
    }

    /// The branch that the issue's work goes to.
    pub fn branch(&self) -> String {
        format!("issue-{}", self.number)
    }

    /// A name for the issue's worktree: safe in a path, and different for different issues.
    pub fn safe_name(&self) -> String {
        safe(&self.key)
    }

    /// The issue that a worktree's name stands for, in lower case.
    pub fn from_safe_name(name: &str) -> Option<IssueRef> {
        let (repository, number) = name.rsplit_once('+')?;
        let text = format!("{}#{number}", repository.replace('+', "/").replace('~', ":"));
        let issue: IssueRef = text.parse().ok()?;
        (issue.safe_name() == name).then_some(issue)
    }

    /// A name for the repository's clone, by the same rule.
    pub fn safe_repository_name(&self) -> String {
        safe(self.repository())
    }
}

/// `/` and `#` become `+`, `:` becomes `~`. A name holds neither, and the number comes last, so
/// no two keys become the same.
fn safe(key: &str) -> String {
    key.replace(['/', '#'], "+").replace(':', "~")
}

impl FromStr for IssueRef {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<IssueRef, Malformed> {
        let refuse = |why| Malformed { text: text.chars().take(80).collect(), why };
        if text.is_empty() {
            return Err(refuse("the issue reference is empty"));
        }
        // Looked at before anything else, so that no later message repeats ten kilobytes.
        if text.len() > 4 * limits::ISSUE_REF_BYTES_MAX {
            return Err(refuse("the issue reference is too long"));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(refuse("the issue reference holds a space or control character"));
        }
        let (repository, number) = split(text).map_err(refuse)?;
        let number = parse_number(number).map_err(refuse)?;
        let (host, path) =
            repository.split_once('/').ok_or_else(|| refuse("the issue reference has no owner"))?;
        check_host(host).map_err(refuse)?;
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        check_path(path).map_err(refuse)?;
        let key = format!("{host}/{path}#{number}").to_ascii_lowercase();
        if key.len() > limits::ISSUE_REF_BYTES_MAX {
            return Err(refuse("the issue reference is too long"));
        }
        Ok(IssueRef { host: host.into(), path: path.into(), number, key })
    }
}

/// The repository and the number, from the short form or from the address of a page.
fn split(text: &str) -> Result<(&str, &str), &'static str> {
    let rest = ["https://", "http://", "ssh://", "git@"]
        .iter()
        .find_map(|scheme| strip_prefix_ignoring_case(text, scheme));
    let is_address = rest.is_some();
    let rest = rest.unwrap_or(text);
    let rest =
        rest.split_once('@').filter(|(user, _)| !user.contains('/')).map_or(rest, |(_, r)| r);
    const PAGES: [&str; 7] = [
        "/-/issues/",
        "/-/merge_requests/",
        "/-/work_items/",
        "/issues/",
        "/pulls/",
        "/pull/",
        "/merge_requests/",
    ];
    let page = rest.split(['?', '#']).next().unwrap_or(rest);
    for marker in PAGES {
        if let Some((repository, tail)) = page.rsplit_once(marker)
            && repository.matches('/').count() >= 2
        {
            let number = tail.split('/').next().unwrap_or(tail);
            return Ok((repository, number));
        }
    }
    if is_address && !rest.contains('#') {
        return Err("the address is not one of an issue");
    }
    rest.rsplit_once('#').ok_or("the issue reference has no #NUMBER")
}

fn strip_prefix_ignoring_case<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

fn parse_number(text: &str) -> Result<u64, &'static str> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("the issue number is not a number");
    }
    match text.parse() {
        Ok(0) => Err("issue numbers begin at 1"),
        Ok(number) => Ok(number),
        Err(_) => Err("the issue number is too large"),
    }
}

fn check_host(host: &str) -> Result<(), &'static str> {
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err("the host's port is not a port");
    }
    check_name(name).map_err(|_| "the issue reference has no valid host")
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if !path.contains('/') {
        return Err("the issue reference has no repository");
    }
    path.split('/').try_for_each(check_name)
}

/// What forges allow in a name, less what would be special in a path or an argument.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("the issue reference has an empty part");
    }
    if name.starts_with('-') {
        return Err("a part of the issue reference begins with '-'");
    }
    if name == "." || name == ".." {
        return Err("the issue reference holds '.' or '..'");
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        return Err("the issue reference holds a character that no forge allows");
    }
    Ok(())
}

impl fmt::Display for IssueRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}#{}", self.host, self.path, self.number))
    }
}

impl fmt::Debug for IssueRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssueRef({self})")
    }
}

impl PartialEq for IssueRef {
    fn eq(&self, other: &IssueRef) -> bool {
        self.key == other.key
    }
}

impl Eq for IssueRef {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_paste() {
        let table = [
            ("github.com/shoko/kugetsu#14", "github.com/shoko/kugetsu#14"),
            ("GitHub.com/Shoko/Kugetsu#14", "GitHub.com/Shoko/Kugetsu#14"),
            ("github.com/o/r#007", "github.com/o/r#7"),
            ("github.com/o/r.git#7", "github.com/o/r#7"),
            ("https://github.com/o/r/issues/14", "github.com/o/r#14"),
            ("HTTPS://github.com/o/r/issues/14/", "github.com/o/r#14"),
            ("https://github.com/o/r/issues/14?a=b#issuecomment-99", "github.com/o/r#14"),
            ("https://github.com/o/r/pull/3/files", "github.com/o/r#3"),
            ("github.com/o/r/pulls/3", "github.com/o/r#3"),
            ("http://git.local:3000/o/r/pulls/3", "git.local:3000/o/r#3"),
            ("https://gitlab.com/a/b/c/d/-/issues/9", "gitlab.com/a/b/c/d#9"),
            ("https://gitlab.com/a/b/-/merge_requests/9/diffs", "gitlab.com/a/b#9"),
            ("https://gitlab.com/a/issues/-/issues/9", "gitlab.com/a/issues#9"),
            ("https://user@github.com/o/r#1", "github.com/o/r#1"),
            ("git.local:3000/a/b/c#1", "git.local:3000/a/b/c#1"),
        ];
        for (typed, shown) in table {
            let issue: IssueRef = typed.parse().unwrap_or_else(|e| panic!("{typed}: {e}"));
            assert_eq!(issue.to_string(), shown, "{typed}");
            assert_eq!(issue.key(), shown.to_ascii_lowercase(), "{typed}");
            assert_eq!(shown.parse::<IssueRef>().as_ref(), Ok(&issue), "{typed}");
        }
    }

    #[test]
    fn what_is_refused() {
        let long = format!("github.com/o/{}#1", "r".repeat(300));
        let huge = format!("github.com/o/{}#1", "r\u{1b}".repeat(5_000));
        let table = [
            ("", "is empty"),
            ("github.com/o/r", "no #NUMBER"),
            ("github.com/o/r#", "not a number"),
            ("github.com/o/r#0", "begin at 1"),
            ("github.com/o/r#-1", "not a number"),
            ("github.com/o/r#1x", "not a number"),
            ("github.com/o/r#99999999999999999999999", "too large"),
            ("github.com/o r#1", "space or control"),
            ("github.com/o/r\n#1", "space or control"),
            ("github.com/../r#1", "'.' or '..'"),
            ("github.com/o/..#1", "'.' or '..'"),
            ("github.com/-o/r#1", "begins with '-'"),
            ("-github.com/o/r#1", "no valid host"),
            ("github.com/o#1", "no repository"),
            ("github.com#1", "no owner"),
            ("github.com//r#1", "empty part"),
            ("/o/r#1", "no valid host"),
            ("github.com:0/o/r#1", "port"),
            ("github.com:x/o/r#1", "port"),
            ("github.com/o/r~x#1", "no forge allows"),
            ("github.com/ö/r#1", "no forge allows"),
            ("https://github.com/o/r", "not one of an issue"),
            ("github.com/o/\u{1b}[31mr#1", "space or control"),
            ("github.com/o/r\u{7}#1", "space or control"),
            (" github.com/o/r#1", "space or control"),
            ("-x", "no #NUMBER"),
            (&long, "too long"),
            (&huge, "too long"),
        ];
        for (typed, why) in table {
            let refusal = typed.parse::<IssueRef>().expect_err(typed).to_string();
            assert!(refusal.contains(why), "{typed}: {refusal}");
            assert!(refusal.len() < 500, "{refusal}");
            assert!(!refusal.contains(char::is_control), "{refusal:?}");
        }
    }

    #[test]
    fn safe_names_do_not_collide() {
        let references = [
            "h/a/b#1",
            "h/a/b#11",
            "h/a/b/c#1",
            "h/a-b/c#1",
            "h/a/b-c#1",
            "h:1/a/b#1",
            "h.1/a/b#1",
            "h/a.b/c#1",
            "h/a_b/c#1",
        ];
        let names: std::collections::BTreeSet<String> = references
            .iter()
            .map(|text| text.parse::<IssueRef>().expect("a good reference").safe_name())
            .collect();
        assert_eq!(names.len(), references.len(), "{names:?}");
        for text in references {
            let issue: IssueRef = text.parse().expect("a good reference");
            assert_eq!(IssueRef::from_safe_name(&issue.safe_name()), Some(issue));
        }
        for name in ["", "h", "h+a+b", "h+a+b+0", "h+a+b+01", "H+a+b+1", "h+a+b+1.lock", "h/a+b+1"]
        {
            assert_eq!(IssueRef::from_safe_name(name), None, "{name}");
        }
        assert!(names.iter().all(|name| !name.contains(['/', ':', '#', ' '])));
    }
}
