//! What version 0.1.0 left: worktrees of a shared clone in `repos/`, and runs that began in them.
//!
//! Both are read from outside, and `repos/` is never written to. A worktree is moved when its
//! branch is kept as evidence: to `<name>.moving` until the issue has its clone, so that whoever
//! goes on after a crash knows where to start it, and to `<name>.old` from then on.

use std::fs;
use std::path::{Path, PathBuf};

use crossbeam_channel::never;

use crate::agent::AgentSettings;
use crate::agent::early_exit::EarlyExit;
use crate::agent::places::Places;
use crate::agent::plan::OldPlan;
use crate::agent::seeing::{commits, first_tip, in_words};
use crate::failpoint;
use crate::git::call::Git;
use crate::git::clone;
use crate::git::evidence::{AttemptOf, Evidence, LookError, Replacing, Slot};
use crate::git::lock::RepositoryLock;
use crate::git::new_work::{self, BranchOutcome, Question};
use crate::git::old_layout::{self, OldWorktree};
use crate::git::refs::Unreadable;
use crate::git::{BranchName, Oid, mirror};
use crate::job::{IssueRef, Job, Reason, Report, limits};
use crate::run::{self, Seen};

/// The number below which a job keeps what it took over: that was there before its first attempt.
const BEFORE_ALL_ATTEMPTS: u32 = 0;
/// Changed files that a held job names.
const CHANGES_NAMED_MAX: usize = 3;

/// Takes the branch of an old worktree into the evidence, moves the worktree out of the way, and
/// gives the branch's tip. One with changes is left as it is, and the job held.
pub(super) fn take_over(
    settings: &AgentSettings,
    git: &Git<'_>,
    evidence: &Evidence,
    job: &Job,
) -> Result<Option<Oid>, EarlyExit> {
    let places = Places::of(settings, &job.issue);
    let folder = &places.folder;
    let Some(old) = open(settings, job, folder)? else {
        // Somebody put a file in the place of a clone's `.git`.
        let aside = clone::set_aside(folder)?;
        let aside = aside.display();
        tracing::warn!(job = %job.id, %aside, "its .git leads elsewhere; it is moved aside");
        return Ok(None);
    };
    if let Some(unfinished) = old.refs.unfinished {
        let why = format!("a {} was left half done in it", unfinished.as_str());
        return Err(held(job, folder, &why));
    }
    let changes = match old.changes(git, &places.looks) {
        Ok(changes) => changes,
        Err(error) => return Err(failed(job, folder, error)),
    };
    if !changes.is_empty() {
        let paths = changes.entries.iter().take(CHANGES_NAMED_MAX);
        let paths: Vec<&str> = paths.map(|change| change.path.as_str()).collect();
        let more = if changes.count > paths.len() as u64 { ", …" } else { "" };
        let why = format!("it has changes that are in no commit ({}{more})", paths.join(", "));
        return Err(held(job, folder, &why));
    }
    let tip = keep(git, evidence, &places, job, &old).map_err(|e| failed(job, folder, e))?;
    failpoint::here("old_worktree_kept");
    old_layout::begin_move(folder)?;
    failpoint::here("old_worktree_moved");
    Ok(tip)
}

/// The tip of an old worktree that was moved out of the way for a clone which was never made.
pub(super) fn taken_before(
    settings: &AgentSettings,
    git: &Git<'_>,
    evidence: &Evidence,
    job: &Job,
) -> Result<Option<Oid>, EarlyExit> {
    let places = Places::of(settings, &job.issue);
    let folder = old_layout::moving(&places.folder);
    if fs::symlink_metadata(&folder).is_err() {
        return Ok(None);
    }
    let Some(old) = open(settings, job, &folder)? else { return Ok(None) };
    keep(git, evidence, &places, job, &old).map_err(|error| failed(job, &folder, error))
}

/// Once an issue has its clone, or something else again in that place, what was moved out of the
/// way tells nothing about where to start.
pub(super) fn settle(folder: &Path) {
    match old_layout::end_move(folder) {
        Ok(None) => {}
        Ok(Some(to)) => {
            failpoint::here("old_worktree_settled");
            tracing::info!(folder = %to.display(), "a worktree of version 0.1.0 is kept here");
        }
        Err(error) => tracing::warn!(why = error.words(), "cannot rename an old worktree"),
    }
}

fn open(
    settings: &AgentSettings,
    job: &Job,
    folder: &Path,
) -> Result<Option<OldWorktree>, EarlyExit> {
    open_of(settings, &job.issue, folder).map_err(|why| failed(job, folder, why.into()))
}

fn open_of(
    settings: &AgentSettings,
    issue: &IssueRef,
    folder: &Path,
) -> Result<Option<OldWorktree>, Unreadable> {
    OldWorktree::open(folder, &repository(settings, issue), &old_branch(issue))
}

/// The clone that all issues of a repository shared.
fn repository(settings: &AgentSettings, issue: &IssueRef) -> PathBuf {
    settings.home.join("repos").join(format!("{}.git", issue.safe_repository_name()))
}

/// The only name that an issue's branch had.
fn old_branch(issue: &IssueRef) -> BranchName {
    issue.branch().parse().expect("a number makes a good name")
}

fn held(job: &Job, folder: &Path, why: &str) -> EarlyExit {
    let detail = format!(
        "{} is a worktree of version 0.1.0, and {why}: commit or remove that there, or move the \
         folder away, then `kugetsu queue retry {}`",
        folder.display(),
        job.id
    );
    let mut report = Report::new(Reason::Deferred, detail);
    report.hold = true;
    report.into()
}

/// What passes is tried again; for what does not, somebody has to look.
fn failed(job: &Job, folder: &Path, error: LookError) -> EarlyExit {
    match error {
        LookError::Own(error) => error.into(),
        LookError::Clone(Unreadable::Passing(why)) => Report::new(Reason::Machine, why).into(),
        LookError::Clone(
            Unreadable::NoClone(why) | Unreadable::Hostile(why) | Unreadable::TooLarge(why),
        ) => held(job, folder, &format!("it cannot be read ({why})")),
    }
}

/// Keeps an old worktree's branch and its other tips, and gives where work is to go on.
fn keep(
    git: &Git<'_>,
    evidence: &Evidence,
    places: &Places,
    job: &Job,
    old: &OldWorktree,
) -> Result<Option<Oid>, LookError> {
    let branch = old_branch(&job.issue);
    let Some(tip) = old.refs.branch(&branch).or(old.refs.head.oid()) else { return Ok(None) };
    let mut wanted = vec![(Slot::BeforeBranch, tip.clone())];
    for reference in old.refs.elsewhere(&branch) {
        let is_new = !wanted.iter().any(|(_, oid)| *oid == reference.oid);
        if is_new && wanted.len() < limits::EVIDENCE_REFS_MAX {
            let number = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
            wanted.push((Slot::Before(number), reference.oid));
        }
    }
    let of = AttemptOf { job: job.id, attempt: BEFORE_ALL_ATTEMPTS };
    let known = known_to_mirror(git, places)?;
    let known: Vec<Oid> = known.into_iter().map(|(_, oid)| oid).collect();
    evidence.keep_from(git, &old.objects(), of, &wanted, &known, Replacing::All)?;
    Ok(Some(tip.clone()))
}

/// The branches of the mirror; none if there is no mirror yet.
fn known_to_mirror(git: &Git<'_>, places: &Places) -> Result<Vec<(BranchName, Oid)>, LookError> {
    if !places.mirror.is_dir() {
        return Ok(Vec::new());
    }
    let heads = mirror::heads(git, &places.mirror).map_err(LookError::Own)?;
    Ok(heads.into_iter().collect())
}

/// What an agent left in an old worktree.
pub(super) fn seen(settings: &AgentSettings, job: &Job, plan: &OldPlan) -> Seen {
    let (Ok(base), Ok(before)) = (plan.base.parse(), plan.head_before.parse()) else {
        return Seen::Unknown { why: "the run's plan names no commits".into(), passes: false };
    };
    match read(settings, job, &base, &before) {
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

/// As for a run in a clone, but that nothing was kept of it before.
fn read(
    settings: &AgentSettings,
    job: &Job,
    base: &Oid,
    before: &Oid,
) -> Result<run::Evidence, LookError> {
    let places = Places::of(settings, &job.issue);
    let stop = never();
    let lock = RepositoryLock::take(&places.evidence_lock, &stop, limits::EVIDENCE_LOCK_MS_MAX)
        .map_err(LookError::Own)?;
    let git = Git::new(lock.file(), &stop, limits::JUDGING_MS_MAX, Some(&settings.shim));
    let evidence =
        Evidence::open(&places.evidence, &places.mirror, &places.looks).map_err(LookError::Own)?;
    let folder = &places.folder;
    let old = open_of(settings, &job.issue, folder)?
        .ok_or_else(|| Unreadable::NoClone(format!("{}/.git leads elsewhere", folder.display())))?;
    let branch = old_branch(&job.issue);
    let after = old.refs.branch(&branch).cloned();
    let elsewhere = old.refs.elsewhere(&branch);
    let in_mirror = known_to_mirror(&git, &places)?;
    keep_run(&git, &evidence, job, &old, [base, before], after.as_ref(), &in_mirror)?;
    let mut remote = old.remote_branches();
    remote.extend(in_mirror);
    let known = new_work::known_tips(&branch, before, &remote, &old.refs);
    let first = first_tip(&evidence, job)?;
    let question = Question {
        after: after.as_ref(),
        before,
        before_first: first.as_ref(),
        base,
        known: &known,
        before_tips: &[],
        elsewhere: &elsewhere,
        stashes: &[],
    };
    let work = new_work::judge(&git, &evidence, &question)?;
    let of_attempt = match work.on_branch.measured_from == *before {
        true => work.on_branch.outcome,
        false => {
            let question = Question { before_first: None, elsewhere: &[], ..question };
            new_work::judge(&git, &evidence, &question)?.on_branch.outcome
        }
    };
    let is_dirty = match (old.changes(&git, &places.looks), of_attempt) {
        (Ok(changes), _) => !changes.is_empty(),
        (Err(_), BranchOutcome::New(_)) => false,
        (Err(error), BranchOutcome::Nothing | BranchOutcome::Updated) => return Err(error),
    };
    // What attempts before this one made was counted by the version that began them.
    let of_job = commits(work.on_branch.outcome);
    let of_job = of_job.max(commits(of_attempt) + job.commits_of_failed_attempts());
    Ok(run::Evidence {
        commits: commits(of_attempt),
        commits_of_job: of_job,
        is_updated: of_attempt == BranchOutcome::Updated,
        left_behind: (work.on_branch.is_rewritten && of_attempt == BranchOutcome::Nothing)
            .then(|| before.to_string()),
        elsewhere: in_words(&work),
        is_dirty,
        unfinished: old.refs.unfinished.map(|unfinished| format!("a {}", unfinished.as_str())),
        tip: after.map(|oid| oid.to_string()),
    })
}

/// Keeps what a run left, and what it began with.
fn keep_run(
    git: &Git<'_>,
    evidence: &Evidence,
    job: &Job,
    old: &OldWorktree,
    [base, before]: [&Oid; 2],
    after: Option<&Oid>,
    in_mirror: &[(BranchName, Oid)],
) -> Result<(), LookError> {
    let mut wanted = vec![(Slot::BeforeBranch, before.clone()), (Slot::Before(1), base.clone())];
    wanted.extend(after.map(|oid| (Slot::Tip, oid.clone())));
    for (reference, number) in old.refs.elsewhere(&old_branch(&job.issue)).into_iter().zip(0..) {
        let is_new = !wanted.iter().any(|(_, oid)| *oid == reference.oid);
        if is_new && wanted.len() < limits::EVIDENCE_REFS_MAX {
            wanted.push((Slot::Elsewhere(number), reference.oid));
        }
    }
    let of = AttemptOf { job: job.id, attempt: job.attempt_number() };
    let known: Vec<Oid> = in_mirror.iter().map(|(_, oid)| oid.clone()).collect();
    let objects = old.objects();
    let kept = evidence.keep_from(git, &objects, of, &wanted, &known, Replacing::After)?;
    match kept.iter().any(|kept| kept.slot == Slot::Before(1)) {
        true => Ok(()),
        false => Err(Unreadable::NoClone(format!("there is no commit {base} any more")).into()),
    }
}
