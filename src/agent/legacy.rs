//! What version 0.1.0 left: worktrees of a shared clone in `repos/`, and runs that began in them.

use crate::agent::AgentSettings;
use crate::agent::early_exit::EarlyExit;
use crate::agent::plan::OldPlan;
use crate::git::Oid;
use crate::git::call::Git;
use crate::git::evidence::Evidence;
use crate::job::{Job, Reason, Report};
use crate::run::Seen;

/// Takes the branch of an old worktree into the evidence, and gives its tip.
pub(super) fn take_over(
    _settings: &AgentSettings,
    _git: &Git<'_>,
    _evidence: &Evidence,
    _job: &Job,
) -> Result<Option<Oid>, EarlyExit> {
    Err(Report::new(Reason::WorktreeFailed, "a worktree of version 0.1.0 is in the way").into())
}

/// What an agent left in an old worktree.
pub(super) fn seen(_settings: &AgentSettings, _job: &Job, _plan: &OldPlan) -> Seen {
    Seen::Unknown { why: "it was begun by version 0.1.0".into(), passes: false }
}
