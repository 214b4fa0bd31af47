//! Git as kugetsu uses it: how it is called, what its trouble means, the mirror of a remote, and
//! the clone of an issue.
//!
//! No git of this module reads a configuration, a hook or a reference that an agent can write.
//! References are named in full: a short name like `origin/main` means whatever somebody's tag or
//! branch of that name makes it mean.

pub(crate) mod address;
pub(crate) mod call;
pub(crate) mod changes;
pub(crate) mod clone;
pub(crate) mod credentials;
mod disk;
pub(crate) mod environment;
pub(crate) mod evidence;
mod fingerprint;
#[cfg(test)]
mod fixture;
pub(crate) mod folder;
mod health;
mod kept;
pub(crate) mod lock;
pub(crate) mod looker;
pub(crate) mod mirror;
#[cfg(test)]
mod nasty;
pub(crate) mod new_work;
pub(crate) mod old_layout;
mod patches;
pub(crate) mod refs;
pub(crate) mod removal;
pub(crate) mod running;
mod tree_diff;
#[cfg(test)]
mod trial;
pub(crate) mod trouble;
mod unfinished;
pub(crate) mod unsaved;
pub(crate) mod version;
mod vet;

use std::fmt;
use std::str::FromStr;

use crate::job::check_branch;

/// Where the names of branches begin.
pub(crate) const HEADS: &str = "refs/heads/";

/// The name of an object: 40 or 64 hexadecimal digits in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Oid(String);

impl Oid {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for "nothing there" in what git says.
    pub fn is_zero(&self) -> bool {
        self.0.bytes().all(|digit| digit == b'0')
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Oid {
    type Err = String;

    fn from_str(text: &str) -> Result<Oid, String> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if matches!(text.len(), 40 | 64) && text.bytes().all(is_digit) {
            return Ok(Oid(text.into()));
        }
        Err(format!("{:?} is no name of an object", text.chars().take(80).collect::<String>()))
    }
}

/// The name of a branch, without `refs/heads/`, as git would accept it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BranchName(String);

impl BranchName {
    /// The branch that a full reference names; `None` for any other reference.
    pub fn from_ref(reference: &str) -> Option<BranchName> {
        reference.strip_prefix(HEADS)?.parse().ok()
    }

    /// Without `refs/heads/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The full reference.
    pub fn to_ref(&self) -> String {
        format!("{HEADS}{}", self.0)
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BranchName {
    type Err = String;

    /// The rules of `git check-ref-format --branch`.
    fn from_str(text: &str) -> Result<BranchName, String> {
        check_branch(text).map(|()| BranchName(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::limits;

    #[test]
    fn names_of_objects() {
        let long = "0123456789abcdef".repeat(4);
        for (text, is_good) in [
            (&long[..40], true),
            (&long[..], true),
            (&long[..39], false),
            (&long[..41], false),
            ("", false),
            (&"A".repeat(40), false),
            (&"g".repeat(40), false),
            (&format!("{}\n", &long[..40]), false),
        ] {
            assert_eq!(text.parse::<Oid>().is_ok(), is_good, "{text:?}");
        }
        assert!("0".repeat(40).parse::<Oid>().expect("an id").is_zero());
        assert!(!long.parse::<Oid>().expect("an id").is_zero());
    }

    #[test]
    fn names_of_branches() {
        for (text, is_good) in [
            ("main", true),
            ("origin/main", true),
            ("issue-14/fix#2", true),
            ("ü/x@y", true),
            ("a.b", true),
            ("", false),
            ("@", false),
            ("HEAD", false),
            ("-x", false),
            ("x/-y", true),
            ("a..b", false),
            ("a.", false),
            (".a", false),
            ("a/.b", false),
            ("a.lock", false),
            ("a.lock/b", false),
            ("/a", false),
            ("a/", false),
            ("a//b", false),
            ("a b", false),
            ("a:b", false),
            ("a~1", false),
            ("a^", false),
            ("a?", false),
            ("a*", false),
            ("a[", false),
            ("a\\b", false),
            ("a@{1}", false),
            ("a\u{7f}", false),
            ("a\nb", false),
            (&"x".repeat(limits::BRANCH_NAME_BYTES_MAX), true),
            (&"x".repeat(limits::BRANCH_NAME_BYTES_MAX + 1), false),
        ] {
            assert_eq!(text.parse::<BranchName>().is_ok(), is_good, "{text:?}");
            let full = format!("{HEADS}{text}");
            assert_eq!(BranchName::from_ref(&full).is_some(), is_good, "{text:?}");
        }
        assert_eq!(BranchName::from_ref("refs/tags/main"), None);
        assert_eq!(BranchName::from_ref("main"), None);
        let name = BranchName::from_ref("refs/heads/a/b").expect("a branch");
        assert_eq!((name.as_str(), &*name.to_ref()), ("a/b", "refs/heads/a/b"));
    }
}
