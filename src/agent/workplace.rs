//! What lies where an issue was worked on, and taking it away.
//!
//! Nothing that a person or an agent made is removed unless somebody says so: a clone goes only when
//! all of it is on the remote, as the mirror knows it, or can be made again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, never};

use crate::agent::AgentSettings;
use crate::agent::places::Places;
use crate::executor::Stop;
use crate::git::call::Git;
use crate::git::evidence::{Evidence, Kept as KeptCommit, LookError, Slot};
use crate::git::lock::RepositoryLock;
use crate::git::mirror::{self, Base, RemoteState};
use crate::git::new_work::{self, BranchOutcome, Question};
use crate::git::refs::CloneRefs;
use crate::git::trouble::GitError;
use crate::git::unsaved::{self, Loss, Saved, Unsaved};
use crate::git::{BranchName, Oid, removal};
use crate::job::{IssueRef, JobId, Session, limits};
use crate::process::{safe_file, tree};

/// The clone and the branch of an issue, as they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Workplace {
    /// Where the clone is, or would be.
    pub folder: PathBuf,
    /// Whether it is there.
    pub is_there: bool,
    /// The issue's branch, if it is there.
    pub branch: Option<String>,
    /// Commits that the base does not have; `None` where that cannot be told.
    pub ahead: Option<u32>,
    /// What would be lost with it.
    pub unsaved: Vec<Unsaved>,
    /// Why the remote could not be asked, where that was wanted.
    pub not_asked: Option<String>,
}

/// Why a workplace was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Something would be lost.
    Unsaved(Workplace),
    /// Something else, in words.
    Because(String),
}

/// The issue whose workplace is meant, and what the store knows of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'p> {
    pub issue: &'p IssueRef,
    pub session: Option<&'p Session>,
}

impl Workplace {
    /// Inspects it by what is known of the remote already: only reads, and waits for nobody.
    pub fn inspect(settings: &AgentSettings, place: Place<'_>) -> Result<Workplace, String> {
        let nothing = File::open("/dev/null").map_err(|error| error.to_string())?;
        Visit::new(settings, place, &nothing, &never(), limits::INSPECT_MS_MAX).look()
    }

    /// Inspects it as for its removal: the remote is asked, if what it has makes a difference.
    pub fn inspect_anew(settings: &AgentSettings, place: Place<'_>) -> Result<Workplace, String> {
        let stop = never();
        let lock = lock(settings, place.issue, &stop)?;
        Visit::new(settings, place, lock.file(), &stop, limits::INSPECT_MS_MAX).look_anew()
    }

    /// Whether there is anything at all.
    pub fn is_empty(&self) -> bool {
        !self.is_there && self.branch.is_none()
    }

    /// Commits that the remote does not have.
    pub fn unpushed(&self) -> u64 {
        let commits = self.unsaved.iter().filter(|unsaved| unsaved.what == Loss::Commits);
        commits.map(|unsaved| unsaved.count).sum()
    }

    /// Whether there are changes without a commit, untracked files included.
    pub fn is_dirty(&self) -> bool {
        self.unsaved.iter().any(|unsaved| matches!(unsaved.what, Loss::Change | Loss::Untracked))
    }
}

/// Takes the clone of an issue away, or says why it is kept. What is gone already is no reason.
///
/// `is_free` is asked while the repository is locked, so that no worker can begin to work there
/// between the question and the removal. With `force`, unsaved work goes too, and what was kept of
/// these jobs.
pub(crate) fn remove_workplace(
    settings: &AgentSettings,
    place: Place<'_>,
    forced: Option<&[JobId]>,
    is_free: impl FnOnce() -> Result<(), String>,
) -> Result<(), Kept> {
    let stop = never();
    let lock = lock(settings, place.issue, &stop).map_err(Kept::Because)?;
    is_free().map_err(Kept::Because)?;
    let visit = Visit::new(settings, place, lock.file(), &stop, limits::INSPECT_MS_MAX);
    let folder = &visit.places.folder;
    match forced {
        Some(jobs) => {
            is_ours(folder).map_err(Kept::Because)?;
            // First, so that after a crash in between it can be done again.
            visit.forget(jobs).map_err(Kept::Because)?;
        }
        None => {
            let found = visit.look_anew().map_err(Kept::Because)?;
            if !found.unsaved.is_empty() {
                return Err(Kept::Unsaved(found));
            }
            if found.is_there
                && let Some(pid) = tree::somebody_in(folder).unwrap_or(None)
            {
                return Err(Kept::Because(format!("process {pid} works in it")));
            }
        }
    }
    removal::remove_clone(folder).map_err(Kept::Because)
}

/// Goes on with removals that were interrupted, and says which could not be finished.
pub(crate) fn finish_removals(settings: &AgentSettings) -> Vec<String> {
    removal::finish_removals(&settings.worktrees())
}

/// Forgets what was kept of jobs that are gone, if all of it is on the remote.
pub(crate) fn tidy_evidence(
    settings: &AgentSettings,
    is_known: &dyn Fn(JobId) -> bool,
) -> Result<u32, String> {
    let mut forgotten = 0;
    let entries = fs::read_dir(settings.home.join("evidence")).into_iter().flatten().flatten();
    for entry in entries.take(limits::ENTRIES_READ_MAX) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = name.strip_suffix(".git") else { continue };
        if !name.starts_with('.') && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            forgotten += tidy_one(&Places::named(settings, name), settings, is_known)
                .map_err(|error| format!("{}: {}", entry.path().display(), error.words()))?;
        }
    }
    Ok(forgotten)
}

fn tidy_one(
    places: &Places,
    settings: &AgentSettings,
    is_known: &dyn Fn(JobId) -> bool,
) -> Result<u32, GitError> {
    let stop = never();
    let patience_ms = limits::REPOSITORY_BUSY_MS_MAX;
    let lock = RepositoryLock::take(&places.evidence_lock, &stop, patience_ms)?;
    let git = Git::new(lock.file(), &stop, limits::INSPECT_MS_MAX, Some(&settings.shim));
    let evidence = Evidence::open(&places.evidence, &places.mirror, &places.looks)?;
    let kept = evidence.list(None)?;
    let jobs: BTreeSet<JobId> = kept.iter().map(|kept| kept.of.job).collect();
    let gone: Vec<JobId> = jobs.into_iter().filter(|job| !is_known(*job)).collect();
    if gone.is_empty() {
        return Ok(0);
    }
    let heads = mirror::heads(&git, &places.mirror)?;
    let mut forgotten = 0;
    for job in gone {
        let mut revisions: String =
            kept.iter().filter(|k| k.of.job == job).map(|k| format!("{}\n", k.oid)).collect();
        for oid in heads.values() {
            revisions.push_str(&format!("^{oid}\n"));
        }
        let call = git.call(evidence.folder(), "rev-list").args(["--max-count=1", "--stdin"]);
        if call.input(revisions).run()?.is_empty() {
            evidence.drop_job(&git, job)?;
            forgotten += 1;
        }
    }
    evidence.tidy(&git)?;
    Ok(forgotten)
}

fn lock(
    settings: &AgentSettings,
    issue: &IssueRef,
    stop: &Receiver<Stop>,
) -> Result<RepositoryLock, String> {
    let places = Places::of(settings, issue);
    safe_file::ensure_folder(&settings.mirrors()).map_err(|error| error.to_string())?;
    RepositoryLock::take(&places.lock, stop, limits::REPOSITORY_BUSY_MS_MAX)
        .map_err(|error| error.words().to_string())
}

/// Whether what lies there is a folder of kugetsu's own, or nothing.
fn is_ours(folder: &Path) -> Result<(), String> {
    match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("cannot look at {}: {error}", folder.display())),
        Ok(found) if found.is_symlink() => Err(format!(
            "{} is a symbolic link: what it leads to is not kugetsu's (remove the link by hand)",
            folder.display()
        )),
        Ok(found) if !found.is_dir() => Err(format!("{} is no folder", folder.display())),
        Ok(_) => Ok(()),
    }
}

/// One look at an issue's workplace.
struct Visit<'v> {
    settings: &'v AgentSettings,
    place: Place<'v>,
    places: Places,
    git: Git<'v>,
}

impl<'v> Visit<'v> {
    fn new(
        settings: &'v AgentSettings,
        place: Place<'v>,
        lock: &'v File,
        stop: &'v Receiver<Stop>,
        ms: u64,
    ) -> Visit<'v> {
        let places = Places::of(settings, place.issue);
        Visit { settings, place, places, git: Git::new(lock, stop, ms, Some(&settings.shim)) }
    }

    /// As [`Visit::look`], and again with what the remote says now, if commits seem to be on none of
    /// its branches.
    fn look_anew(&self) -> Result<Workplace, String> {
        let first = self.look();
        let has_commits = |place: &Workplace| {
            let needs_remote = |loss| matches!(loss, Loss::Commits | Loss::LargeFile);
            place.unsaved.iter().any(|unsaved| needs_remote(unsaved.what))
        };
        match first {
            Ok(place) if !has_commits(&place) => Ok(place),
            Ok(place) => match self.ask_remote() {
                Ok(()) => self.look(),
                Err(why) => Ok(Workplace { not_asked: Some(why), ..place }),
            },
            Err(why) if self.places.mirror.is_dir() => Err(why),
            // Without a mirror nothing is known of the remote.
            Err(why) => self.ask_remote().map_or(Err(why), |()| self.look()),
        }
    }

    fn ask_remote(&self) -> Result<(), String> {
        let mut remote = self.settings.remote_of(self.place.issue)?;
        // A person waits.
        remote.try_once();
        let limit_ms = limits::ASK_REMOTE_MS_MAX;
        let git = Git::new(self.git.lock, self.git.stop, limit_ms, self.git.guard);
        mirror::refresh(&git, &self.places.mirror, &remote.borrowed())
            .map(drop)
            .map_err(|error| error.words().to_string())
    }

    fn look(&self) -> Result<Workplace, String> {
        let folder = &self.places.folder;
        is_ours(folder)?;
        let found = Workplace {
            folder: folder.clone(),
            is_there: folder.is_dir(),
            branch: None,
            ahead: None,
            unsaved: Vec::new(),
            not_asked: None,
        };
        safe_file::ensure_folder(&self.settings.home.join("evidence"))
            .and_then(|()| safe_file::ensure_folder(&self.places.looks))
            .map_err(|error| error.to_string())?;
        if !found.is_there {
            return self.look_at_evidence(found);
        }
        let git_file = folder.join(".git");
        if fs::symlink_metadata(&git_file).is_ok_and(|kind| kind.is_file()) {
            return Err(self.in_words_of_old_worktree());
        }
        let state = self.remembered()?;
        let base = self.base(&state)?;
        let refs = CloneRefs::read(folder).map_err(|why| why.why().to_string())?;
        let branch = self.branch(&state)?;
        let tip = refs.branch(&branch).or(refs.head.oid());
        let known: Vec<Oid> = state.heads.values().cloned().collect();
        let saved = Saved {
            mirror: &self.places.mirror,
            known: &known,
            base: &base,
            disposable: &self.settings.disposable,
            phantoms: None,
        };
        let (git, looks) = (&self.git, &self.places.looks);
        let unsaved = unsaved::unsaved(git, looks, folder, &saved).map_err(in_words)?;
        let ahead = tip.and_then(|tip| {
            unsaved::ahead(git, looks, folder, &self.places.mirror, tip, &base).ok()
        });
        let branch = refs.branch(&branch).map(|_| branch.to_string());
        Ok(Workplace { branch, ahead, unsaved, ..found })
    }

    /// What was kept of a clone that is gone: it goes on from there.
    fn look_at_evidence(&self, found: Workplace) -> Result<Workplace, String> {
        let Some(session) = self.place.session else { return Ok(found) };
        if !self.places.evidence.is_dir() {
            return Ok(found);
        }
        let Places { evidence, mirror, looks, .. } = &self.places;
        let evidence = Evidence::open(evidence, mirror, looks).map_err(words)?;
        let kept = evidence.list(Some(session.last_job)).map_err(words)?;
        let last = kept.iter().map(|kept| kept.of.attempt).max();
        let is_left = |kept: &&KeptCommit| {
            Some(kept.of.attempt) == last && matches!(kept.slot, Slot::Tip | Slot::Elsewhere(_))
        };
        let left: Vec<&KeptCommit> = kept.iter().filter(is_left).collect();
        if left.is_empty() {
            return Ok(found);
        }
        let state = self.remembered()?;
        let base = self.base(&state)?;
        let known: Vec<Oid> = state.heads.values().cloned().collect();
        let mut found = found;
        for kept in left {
            let is_tip = kept.slot == Slot::Tip;
            let count = self.fresh(&evidence, &kept.oid, &base, &known).map_err(in_words)?;
            if is_tip {
                found.branch = Some(session.branch.clone());
                found.ahead = self.count(&evidence, &kept.oid, &base);
            }
            if count > 0 {
                let name = match is_tip {
                    true => session.branch.clone(),
                    false => kept.oid.to_string(),
                };
                let (what, count) = (Loss::Commits, u64::from(count));
                found.unsaved.push(Unsaved { what, name, bytes: 0, count });
            }
        }
        Ok(found)
    }

    /// Commits that do what no branch of the remote does.
    fn fresh(
        &self,
        evidence: &Evidence,
        tip: &Oid,
        base: &Oid,
        known: &[Oid],
    ) -> Result<u32, LookError> {
        let fork = new_work::fork(&self.git, evidence, base, tip)?;
        let question = Question {
            after: Some(tip),
            before: fork.as_ref().unwrap_or(base),
            before_first: None,
            base,
            known,
            before_tips: &[],
            elsewhere: &[],
            stashes: &[],
        };
        let work = new_work::judge(&self.git, evidence, &question)?;
        Ok(match work.on_branch.outcome {
            BranchOutcome::Nothing | BranchOutcome::Updated => 0,
            BranchOutcome::New(count) => count,
        })
    }

    fn count(&self, evidence: &Evidence, tip: &Oid, base: &Oid) -> Option<u32> {
        let call = self.git.call(evidence.folder(), "rev-list");
        let count = call.args(["--count", tip.as_str(), &format!("^{base}")]).text();
        count.ok()?.parse().ok()
    }

    fn remembered(&self) -> Result<RemoteState, String> {
        let mirror = &self.places.mirror;
        if !mirror.is_dir() {
            let gone = "what the remote has is not known: its mirror is not there";
            return Err(format!("{gone} ({})", mirror.display()));
        }
        mirror::remembered(&self.git, mirror).map_err(words)
    }

    /// Where a base is only to be compared with, any will do that there is.
    fn base(&self, state: &RemoteState) -> Result<Oid, String> {
        match state.base(self.settings.base_branch.as_deref()) {
            Base::Branch { oid, .. } => Ok(oid),
            Base::Empty => Err("the remote has no branches".into()),
            Base::NoSuchBranch(_) => {
                state.heads.values().next().cloned().ok_or_else(|| "the remote is empty".into())
            }
        }
    }

    fn branch(&self, state: &RemoteState) -> Result<BranchName, String> {
        self.settings.branch_for(self.place.issue, self.place.session, state)
    }

    fn in_words_of_old_worktree(&self) -> String {
        let repos = self.settings.home.join("repos");
        let git_file = self.places.folder.join(".git");
        let pointer = safe_file::read_text(&git_file, limits::GIT_FILE_BYTES_MAX as u64);
        let is_of_ours = |text: &String| text.contains(&*repos.to_string_lossy());
        match pointer.ok().flatten().as_ref().is_some_and(is_of_ours) {
            true => format!(
                "it is a worktree of version 0.1.0, whose commits are in {}: the issue's next job \
                 takes its branch into a clone",
                repos.display()
            ),
            false => "its .git is a file that leads elsewhere".into(),
        }
    }

    /// Forgets what was kept of jobs.
    fn forget(&self, jobs: &[JobId]) -> Result<(), String> {
        if !self.places.evidence.is_dir() {
            return Ok(());
        }
        let Places { evidence, mirror, looks, evidence_lock, .. } = &self.places;
        let patience_ms = limits::REPOSITORY_BUSY_MS_MAX;
        let lock =
            RepositoryLock::take(evidence_lock, self.git.stop, patience_ms).map_err(words)?;
        let git = Git { lock: lock.file(), ..self.git };
        let evidence = Evidence::open(evidence, mirror, looks).map_err(words)?;
        jobs.iter().try_for_each(|job| evidence.drop_job(&git, *job)).map_err(words)
    }
}

fn words(error: GitError) -> String {
    error.words().into()
}

fn in_words(error: LookError) -> String {
    error.why().into()
}
