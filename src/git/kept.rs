//! The names under which commits are kept: `refs/kugetsu/<job>/<attempt>/…`.

use std::fmt;

use crate::git::Oid;
use crate::job::JobId;

/// What a kept commit was for an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    /// The tip of the branch after it.
    Tip,
    /// Work that is not on the branch after it.
    Elsewhere(u32),
    /// The tip of the branch before it.
    BeforeBranch,
    /// Another tip of before.
    Before(u32),
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Slot::Tip => f.write_str("tip"),
            Slot::Elsewhere(number) => write!(f, "elsewhere/{number}"),
            Slot::BeforeBranch => f.write_str("before/branch"),
            Slot::Before(number) => write!(f, "before/{number}"),
        }
    }
}

impl Slot {
    fn parse(text: &str) -> Option<Slot> {
        match text.split_once('/') {
            None if text == "tip" => Some(Slot::Tip),
            Some(("before", "branch")) => Some(Slot::BeforeBranch),
            Some(("before", number)) => number.parse().ok().map(Slot::Before),
            Some(("elsewhere", number)) => number.parse().ok().map(Slot::Elsewhere),
            None | Some(_) => None,
        }
    }
}

/// An attempt of a job, as references name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AttemptOf {
    pub job: JobId,
    pub attempt: u32,
}

impl AttemptOf {
    /// The reference of a slot, in full.
    pub fn reference(self, slot: Slot) -> String {
        format!("{}{slot}", self.prefix())
    }

    /// What the names of all its references begin with.
    pub(super) fn prefix(self) -> String {
        format!("{OWN}{}/{}/", self.job.0, self.attempt)
    }
}

/// Where all references of kugetsu's own begin.
pub(super) const OWN: &str = "refs/kugetsu/";

/// A commit that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub of: AttemptOf,
    pub slot: Slot,
    pub oid: Oid,
}

/// What a reference of kugetsu's own keeps; `None` for any other.
pub(super) fn parse_kept(name: &str, oid: Oid) -> Option<Kept> {
    let mut parts = name.strip_prefix(OWN)?.splitn(3, '/');
    let job = JobId(parts.next()?.parse().ok()?);
    let attempt = parts.next()?.parse().ok()?;
    let slot = Slot::parse(parts.next()?)?;
    Some(Kept { of: AttemptOf { job, attempt }, slot, oid })
}
