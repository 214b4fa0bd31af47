//! How the branch of an issue is called.

use std::str::FromStr;

use crate::job::{IssueRef, limits};

/// A branch's name with `{number}`, and perhaps `{owner}` and `{repo}`, in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchTemplate(String);

impl BranchTemplate {
    /// The branch of an issue, without `refs/heads/`.
    ///
    /// # Errors
    ///
    /// When it would be no name for a branch: it is too long.
    pub fn fill(&self, issue: &IssueRef) -> Result<String, String> {
        let (owner, repo) = issue.path().rsplit_once('/').unwrap_or(("", issue.path()));
        self.fill_in(&issue.number().to_string(), &plain(owner), &plain(repo))
    }

    /// In one pass: what is put in is not looked at again.
    fn fill_in(&self, number: &str, owner: &str, repo: &str) -> Result<String, String> {
        let mut name = String::new();
        let mut rest = self.0.as_str();
        while let Some((before, behind)) = rest.split_once('{') {
            let (placeholder, behind) =
                behind.split_once('}').ok_or("there is a { without its }")?;
            name.push_str(before);
            name.push_str(match placeholder {
                "number" => number,
                "owner" => owner,
                "repo" => repo,
                other => {
                    return Err(format!(
                        "there is no placeholder {{{other}}} (there are {{number}} {{owner}} {{repo}})"
                    ));
                }
            });
            rest = behind;
        }
        name.push_str(rest);
        check_branch(&name)?;
        match name.starts_with("refs/") {
            true => Err(format!("{name:?} would be taken for a whole reference")),
            false => Ok(name),
        }
    }
}

impl Default for BranchTemplate {
    fn default() -> BranchTemplate {
        BranchTemplate("issue-{number}".into())
    }
}

impl FromStr for BranchTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<BranchTemplate, String> {
        if !text.contains("{number}") {
            return Err("it needs {number}: each issue has a branch of its own".into());
        }
        let template = BranchTemplate(text.into());
        template.fill_in("14", "owner", "repo")?;
        Ok(template)
    }
}

/// The name of an owner or a repository as a part of a branch's name, which may not hold all that
/// they may: `.github`, `x.lock`.
fn plain(path: &str) -> String {
    let parts = path.split('/').map(|part| {
        let mut part = part.replace("..", "__");
        if part.starts_with('.') {
            part.replace_range(..1, "_");
        }
        if part.ends_with('.') || part.ends_with(".lock") {
            let at = part.rfind('.').unwrap_or(0);
            part.replace_range(at..=at, "_");
        }
        part
    });
    parts.collect::<Vec<String>>().join("/")
}

/// The rules of `git check-ref-format --branch`.
pub(crate) fn check_branch(name: &str) -> Result<(), String> {
    let is_bad_character = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
    let is_bad_part =
        |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    let why = if name.len() > limits::BRANCH_NAME_BYTES_MAX {
        format!("it has more than {} bytes", limits::BRANCH_NAME_BYTES_MAX)
    } else if let Some(bad) = name.chars().find(|c| is_bad_character(*c)) {
        format!("no branch has {bad:?} in its name")
    } else if name.split('/').any(is_bad_part) {
        "a part of it is empty, begins with '.' or ends with '.lock'".into()
    } else if name.starts_with('-') || name.ends_with('.') {
        "no branch begins with '-' or ends with '.'".into()
    } else if name.contains("..") || name.contains("@{") {
        "no branch has '..' or '@{' in its name".into()
    } else if name == "@" || name == "HEAD" {
        "it means something else".into()
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(80).collect();
    Err(format!("{shown:?} is no name for a branch: {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn templates_and_what_they_become() {
        for (template, issue, expected) in [
            ("issue-{number}", "github.com/o/r#14", "issue-14"),
            ("{owner}/{repo}/{number}", "gitlab.com/A/b/c#7", "A/b/c/7"),
            ("{repo}-{number}-x{number}", "h/o/r#7", "r-7-x7"),
            ("{repo}/{number}", "h/o/.github#7", "_github/7"),
            ("{number}-{repo}", "h/o/x.lock#7", "7-x_lock"),
            ("{number}/{repo}", "h/o/a..b.#7", "7/a__b_"),
            ("ü/{number}", "h/o/r#7", "ü/7"),
        ] {
            let parsed: BranchTemplate = template.parse().expect(template);
            let issue: IssueRef = issue.parse().expect(issue);
            assert_eq!(parsed.fill(&issue).as_deref(), Ok(expected), "{template}");
        }
        let issue: IssueRef = "h/o/r#7".parse().expect("an issue");
        assert_eq!(BranchTemplate::default().fill(&issue), Ok(issue.branch()));
    }

    #[test]
    fn templates_that_are_none() {
        for (template, words) in [
            ("", "it needs {number}"),
            ("issue-14", "it needs {number}"),
            ("{number}{title}", "there is no placeholder {title}"),
            ("{number}{", "without its }"),
            ("{number} x", "no branch has ' '"),
            ("a:{number}", "no branch has ':'"),
            ("{number}~", "'~'"),
            ("{number}^", "'^'"),
            ("{number}?", "'?'"),
            ("{number}*", "'*'"),
            ("{number}[", "'['"),
            ("{number}\\", "'\\\\'"),
            ("{number}\u{7f}", "'\\u{7f}'"),
            ("{number}\t", "'\\t'"),
            ("-{number}", "begins with '-'"),
            ("{number}.", "ends with '.'"),
            ("{number}.lock", "ends with '.lock'"),
            ("x.lock/{number}", "ends with '.lock'"),
            (".{number}", "begins with '.'"),
            ("x/.{number}", "begins with '.'"),
            ("/{number}", "a part of it is empty"),
            ("{number}/", "a part of it is empty"),
            ("a//{number}", "a part of it is empty"),
            ("a..{number}", "'..'"),
            ("@{{number}", "there is no placeholder"),
            ("refs/heads/{number}", "a whole reference"),
        ] {
            let error = template.parse::<BranchTemplate>().expect_err(template);
            assert!(error.contains(words), "{template}: {error}");
        }
        for (name, is_good) in
            [("@", false), ("HEAD", false), ("a@{1}", false), ("@x", true), ("x/HEAD", true)]
        {
            assert_eq!(check_branch(name).is_ok(), is_good, "{name}");
        }
        let long = format!("{{number}}{}", "x".repeat(limits::BRANCH_NAME_BYTES_MAX - 2));
        assert!(long.parse::<BranchTemplate>().is_ok());
        assert!(format!("{long}x").parse::<BranchTemplate>().is_err());
    }

    proptest! {
        /// What forges allow in a name never stops an issue.
        #[test]
        fn every_issue_has_a_branch(
            path in "[a-z._-]{1,6}(/[a-z._-]{1,6}|/x\\.lock){1,3}",
            template in "[xy/{}]{0,2}(\\{owner\\}|\\{repo\\})?/?\\{number\\}-?(\\{repo\\})?",
        ) {
            let issue = format!("h/{path}#7").parse::<IssueRef>();
            let template = template.parse::<BranchTemplate>();
            if let (Ok(issue), Ok(template)) = (issue, template) {
                prop_assert!(template.fill(&issue).is_ok(), "{:?} {:?}", template, issue);
            }
        }
    }
}
