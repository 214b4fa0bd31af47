//! What a run began with: enough to judge it, whoever is there when it ends.

use std::io;

use serde::{Deserialize, Serialize};

use crate::git::changes::Changes;
use crate::git::{BranchName, Oid};
use crate::job::Usage;
use crate::process::run::{RunDir, read_json, write_json};
use crate::run::Progress;

/// The file in the run's folder.
const FILE: &str = "plan.json";

/// A run's plan. An agent may have rewritten the file, so whatever reaches git is parsed, and no
/// path is taken from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// The attempt that the run belongs to.
    pub attempt: u32,
    /// The branch to commit to.
    pub branch: BranchName,
    /// The commit that new work starts from.
    pub base: Oid,
    /// Where the branch was when the attempt began.
    pub before: Oid,
    /// What was changed and not committed when the attempt began.
    pub changes: Changes,
    /// Where the run's output begins in the log.
    pub log_from: u64,
    /// Whether the agent goes on with an earlier session.
    pub is_resumed: bool,
    /// What the attempt has been through before.
    pub progress: Progress,
}

/// The plan of a run, whichever version began it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AnyPlan {
    Current(Plan),
    /// Of version 0.1.0, whose agents worked in a worktree of a shared clone.
    Old(OldPlan),
}

/// As that version wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct OldPlan {
    pub base: String,
    pub head_before: String,
    pub log_from: u64,
    pub round: u32,
}

/// As it is in the file.
#[derive(Serialize, Deserialize)]
struct PlanText {
    attempt: u32,
    branch: String,
    base: String,
    before: String,
    changes: Changes,
    log_from: u64,
    is_resumed: bool,
    is_reminded: bool,
    is_brought: bool,
    is_renewed: bool,
    usage: [u64; Usage::COUNT],
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AnyText {
    Current(PlanText),
    Old(OldPlan),
}

impl Plan {
    /// Writes it into the run's folder: whole on disk, or not there.
    pub fn write(&self, dir: &RunDir) -> io::Result<()> {
        let Progress { is_reminded, is_brought, is_renewed, usage } = self.progress;
        let text = PlanText {
            attempt: self.attempt,
            branch: self.branch.to_string(),
            base: self.base.to_string(),
            before: self.before.to_string(),
            changes: self.changes.clone(),
            log_from: self.log_from,
            is_resumed: self.is_resumed,
            is_reminded,
            is_brought,
            is_renewed,
            usage: usage.to_array(),
        };
        write_json(&dir.file(FILE), &text)
    }
}

impl AnyPlan {
    /// Reads the plan of a run's folder; `None` if there is none.
    pub fn read(dir: &RunDir) -> io::Result<Option<AnyPlan>> {
        let Some(text) = read_json(&dir.file(FILE))? else { return Ok(None) };
        let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        Ok(Some(match text {
            AnyText::Old(old) => AnyPlan::Old(old),
            AnyText::Current(text) => AnyPlan::Current(Plan {
                attempt: text.attempt,
                branch: text.branch.parse().map_err(bad)?,
                base: text.base.parse().map_err(bad)?,
                before: text.before.parse().map_err(bad)?,
                changes: text.changes,
                log_from: text.log_from,
                is_resumed: text.is_resumed,
                progress: Progress {
                    is_reminded: text.is_reminded,
                    is_brought: text.is_brought,
                    is_renewed: text.is_renewed,
                    usage: Usage::from_array(text.usage),
                },
            }),
        }))
    }

    pub fn log_from(&self) -> u64 {
        match self {
            AnyPlan::Current(plan) => plan.log_from,
            AnyPlan::Old(plan) => plan.log_from,
        }
    }
}
