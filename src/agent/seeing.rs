//! What an agent left, read from outside its clone and kept as evidence.

use crossbeam_channel::never;

use crate::agent::AgentSettings;
use crate::agent::places::Places;
use crate::agent::plan::Plan;
use crate::failpoint;
use crate::git::call::Git;
use crate::git::changes::{Files, Patience};
use crate::git::evidence::{AttemptOf, Evidence, LookError, Replacing, Slot};
use crate::git::lock::RepositoryLock;
use crate::git::new_work::{self, BranchOutcome, Question, Work};
use crate::git::refs::{CloneRefs, Unreadable};
use crate::git::{Oid, mirror};
use crate::job::{Job, limits};
use crate::run::{self, Seen};

/// Reads what an attempt has left so far. What was committed, wherever it is, is kept from then on.
///
/// Nothing stops it: a run that is over is judged now or by the next worker, but not half.
pub(super) fn seen(settings: &AgentSettings, job: &Job, plan: &Plan) -> Seen {
    match read(settings, job, plan) {
        Ok(evidence) => Seen::Evidence(evidence),
        Err(LookError::Clone(Unreadable::NoClone(why) | Unreadable::Hostile(why))) => {
            Seen::Damaged(why)
        }
        Err(LookError::Clone(Unreadable::TooLarge(why))) => Seen::Unknown { why, passes: false },
        Err(LookError::Clone(Unreadable::Passing(why))) => Seen::Unknown { why, passes: true },
        Err(LookError::Own(error)) => {
            Seen::Unknown { why: error.words().to_string(), passes: true }
        }
    }
}

fn read(settings: &AgentSettings, job: &Job, plan: &Plan) -> Result<run::Evidence, LookError> {
    let places = Places::of(settings, &job.issue);
    let stop = never();
    let lock = RepositoryLock::take(&places.evidence_lock, &stop, limits::EVIDENCE_LOCK_MS_MAX)
        .map_err(LookError::Own)?;
    let git = Git::new(lock.file(), &stop, limits::JUDGING_MS_MAX, Some(&settings.shim));
    let evidence =
        Evidence::open(&places.evidence, &places.mirror, &places.looks).map_err(LookError::Own)?;
    let refs = CloneRefs::read(&places.folder)?;
    let of = AttemptOf { job: job.id, attempt: plan.attempt };
    let before_tips: Vec<Oid> =
        evidence.before(of).map_err(LookError::Own)?.into_iter().map(|kept| kept.oid).collect();
    let heads = mirror::heads(&git, &places.mirror).map_err(LookError::Own)?;
    let remote: Vec<_> = heads.into_iter().collect();
    let known_to_mirror: Vec<Oid> = remote.iter().map(|(_, oid)| oid.clone()).collect();
    let after = refs.branch(&plan.branch).cloned();
    let elsewhere = refs.elsewhere(&plan.branch);
    let wanted = wanted(after.as_ref(), elsewhere.iter().map(|r| &r.oid), &refs, &before_tips);
    let folder = &places.folder;
    evidence.keep(&git, folder, of, &wanted, &known_to_mirror, Replacing::After)?;
    failpoint::here("evidence_kept");
    let first = first_tip(&evidence, job)?;
    let known = new_work::known_tips(&plan.branch, &plan.before, &remote, &refs);
    let question = Question {
        after: after.as_ref(),
        before: &plan.before,
        before_first: first.as_ref(),
        base: &plan.base,
        known: &known,
        before_tips: &before_tips,
        elsewhere: &elsewhere,
        stashes: &refs.stashes,
    };
    let work = new_work::judge(&git, &evidence, &question)?;
    let of_attempt = match work.on_branch.measured_from == plan.before {
        true => work.on_branch.outcome,
        false => {
            let question =
                Question { before_first: None, elsewhere: &[], stashes: &[], ..question };
            new_work::judge(&git, &evidence, &question)?.on_branch.outcome
        }
    };
    let is_dirty = is_dirty(&git, &places, &refs, plan, of_attempt)?;
    Ok(run::Evidence {
        commits: commits(of_attempt),
        commits_of_job: commits(work.on_branch.outcome),
        is_updated: of_attempt == BranchOutcome::Updated,
        left_behind: (work.on_branch.is_rewritten && of_attempt == BranchOutcome::Nothing)
            .then(|| plan.before.to_string()),
        elsewhere: in_words(&work),
        is_dirty,
        unfinished: refs.unfinished.map(|unfinished| format!("a {}", unfinished.as_str())),
        tip: after.map(|oid| oid.to_string()),
    })
}

pub(super) fn commits(outcome: BranchOutcome) -> u32 {
    match outcome {
        BranchOutcome::Nothing | BranchOutcome::Updated => 0,
        BranchOutcome::New(count) => count,
    }
}

/// What is to be kept: the branch's tip, and every other that was not there before.
fn wanted<'o>(
    after: Option<&Oid>,
    elsewhere: impl Iterator<Item = &'o Oid>,
    refs: &CloneRefs,
    before_tips: &[Oid],
) -> Vec<(Slot, Oid)> {
    let mut wanted: Vec<(Slot, Oid)> =
        after.into_iter().map(|oid| (Slot::Tip, oid.clone())).collect();
    let mut number = 0;
    for oid in elsewhere.cloned().chain(refs.stashes.iter().cloned()) {
        let is_known = before_tips.contains(&oid) || wanted.iter().any(|(_, w)| *w == oid);
        if !is_known && wanted.len() < limits::EVIDENCE_REFS_MAX {
            wanted.push((Slot::Elsewhere(number), oid));
            number += 1;
        }
    }
    wanted
}

/// Where the branch was before the job's first attempt, or its first since a person's retry.
pub(super) fn first_tip(evidence: &Evidence, job: &Job) -> Result<Option<Oid>, LookError> {
    let of = AttemptOf { job: job.id, attempt: job.first_attempt() };
    let before = evidence.before(of).map_err(LookError::Own)?;
    Ok(before.into_iter().find(|kept| kept.slot == Slot::BeforeBranch).map(|kept| kept.oid))
}

/// Whether there are changes that were not there before. Where there is new work, nobody asks.
fn is_dirty(
    git: &Git<'_>,
    places: &Places,
    refs: &CloneRefs,
    plan: &Plan,
    outcome: BranchOutcome,
) -> Result<bool, LookError> {
    let look = || {
        let files = Files::new(&places.looks, &places.folder, refs, Patience::default())?;
        Ok(files.changes(git)?.since(&plan.changes).count > 0)
    };
    match (look(), outcome) {
        (Ok(is_dirty), _) => Ok(is_dirty),
        (Err(_), BranchOutcome::New(_)) => Ok(false),
        (Err(error), BranchOutcome::Nothing | BranchOutcome::Updated) => Err(error),
    }
}

/// The work that is not on the branch: what the branch could be moved to before the rest, then the
/// one with the most commits, then the stash.
pub(super) fn in_words(work: &Work) -> Option<run::Elsewhere> {
    let best = work.elsewhere.iter().max_by_key(|e| (e.is_ahead_of_branch, e.commits));
    if let Some(elsewhere) = best {
        return Some(run::Elsewhere {
            place: place(&elsewhere.name),
            tip: elsewhere.oid.to_string(),
            commits: elsewhere.commits,
            is_ahead_of_branch: elsewhere.is_ahead_of_branch,
        });
    }
    work.stashes.first().map(|oid| run::Elsewhere {
        place: "the stash".into(),
        tip: oid.to_string(),
        commits: 1,
        is_ahead_of_branch: false,
    })
}

/// A reference as people call it.
fn place(name: &str) -> String {
    if name == "HEAD" {
        return "a detached HEAD".into();
    }
    if let Some(worktree) = name.strip_prefix("worktrees/").and_then(|n| n.strip_suffix("/HEAD")) {
        return format!("a detached HEAD of worktree {worktree}");
    }
    if let Some(branch) = name.strip_prefix("refs/heads/") {
        return format!("branch {branch}");
    }
    match name.strip_prefix("refs/remotes/") {
        Some(branch) => format!("{branch}, where it was pushed"),
        None => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_as_people_call_them() {
        for (name, expected) in [
            ("HEAD", "a detached HEAD"),
            ("refs/heads/fix/it", "branch fix/it"),
            ("refs/remotes/origin/x", "origin/x, where it was pushed"),
            ("refs/tags/v1", "refs/tags/v1"),
            ("worktrees/w/HEAD", "a detached HEAD of worktree w"),
        ] {
            assert_eq!(place(name), expected);
        }
    }
}
