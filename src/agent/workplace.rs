//! What lies where an issue was worked on, and taking it away.

use std::path::PathBuf;

use crate::agent::AgentSettings;
use crate::job::IssueRef;

/// The clone and the branch of an issue, as they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workplace {
    /// Where the clone is, or would be.
    pub folder: PathBuf,
    /// Whether it is there.
    pub is_there: bool,
    /// The issue's branch, if it is there.
    pub branch: Option<String>,
    /// Commits that the base does not have; `None` where there is no base to compare with.
    pub ahead: Option<u32>,
    /// Commits that no branch of the remote has.
    pub unpushed: u32,
    /// Whether there are changes without a commit, untracked files included.
    pub is_dirty: bool,
}

impl Workplace {
    pub fn inspect(_settings: &AgentSettings, _issue: &IssueRef) -> Result<Workplace, String> {
        Err("TEMPORARY".into())
    }

    pub fn is_empty(&self) -> bool {
        !self.is_there && self.branch.is_none()
    }

    pub fn unsaved_work(&self) -> Option<String> {
        None
    }
}

pub fn remove_workplace(
    _settings: &AgentSettings,
    _issue: &IssueRef,
    _force: bool,
    _is_free: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    Err("TEMPORARY".into())
}
