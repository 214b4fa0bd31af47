//! Where an issue is worked on: a clone of its own, and what kugetsu keeps of it elsewhere.
//!
//! Before an attempt the mirror is brought up to date, the clone is made or vetted, and its tips are
//! kept as evidence of what was there. What has to be done inside a clone that an agent has used
//! (moving its branch, taking in new commits) is done by steps behind the shim, as the agent.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use crossbeam_channel::Receiver;

use crate::agent::AgentSettings;
use crate::agent::early_exit::{self, EarlyExit};
use crate::agent::legacy;
use crate::agent::places::Places;
use crate::executor::Stop;
use crate::failpoint;
use crate::git::call::Git;
use crate::git::changes::{Changes, Files, Patience};
use crate::git::clone::{self, MadeClone, NewClone, Start};
use crate::git::evidence::{AttemptOf, Evidence, LookError, Replacing, Slot};
use crate::git::lock::RepositoryLock;
use crate::git::mirror::{self, Base, RemoteState};
use crate::git::new_work::{self, BranchOutcome, Question};
use crate::git::refs::{CloneRefs, Head, Unreadable};
use crate::git::trouble::GitError;
use crate::git::{BranchName, Oid};
use crate::job::{IssueRef, Job, Reason, Report, Session, limits};
use crate::process::launch::Step;
use crate::process::run::RunDir;
use crate::process::safe_file;
use crate::process::tree;

/// An issue's clone, ready for an agent.
#[derive(Debug)]
pub(super) struct Workspace {
    pub folder: PathBuf,
    pub branch: BranchName,
    /// The commit that new work starts from.
    pub base: Oid,
    /// Where the branch was when the attempt began.
    pub before: Oid,
    /// What was changed and not committed when the attempt began.
    pub changes: Changes,
    /// Whether the clone was made for this attempt: sessions of an earlier one are not for it.
    pub is_new: bool,
    /// What the agent should know.
    pub notes: Vec<String>,
    /// Commits of the remote that the clone lacks, in a file that `git fetch` reads.
    bundle: Option<PathBuf>,
    /// Where the branch is to be moved before the agent starts.
    move_to: Option<Oid>,
    needs_lfs: bool,
    needs_submodules: bool,
    /// Locks of gits that were killed, below the clone.
    dead_locks: Vec<String>,
}

/// The file in the run's folder.
const BUNDLE: &str = "remote.bundle";

impl Workspace {
    /// That of an attempt that is under way.
    pub fn of_attempt(
        folder: PathBuf,
        branch: BranchName,
        base: Oid,
        before: Oid,
        changes: Changes,
    ) -> Workspace {
        Workspace {
            folder,
            branch,
            base,
            before,
            changes,
            is_new: false,
            notes: Vec::new(),
            bundle: None,
            move_to: None,
            needs_lfs: false,
            needs_submodules: false,
            dead_locks: Vec::new(),
        }
    }

    /// Puts what the clone lacks into the run's folder.
    pub fn write_bundle(&self, dir: &RunDir) -> io::Result<()> {
        match &self.bundle {
            Some(bundle) => fs::rename(bundle, dir.file(BUNDLE)),
            None => Ok(()),
        }
    }

    /// What is done in the clone before the agent starts, as the agent.
    pub fn steps(&self, dir: &RunDir) -> Vec<Step> {
        let mut steps = Vec::new();
        if !self.dead_locks.is_empty() {
            let locks = self.dead_locks.iter().map(String::as_str);
            let remove: Vec<&str> = ["rm", "-f", "--"].into_iter().chain(locks).collect();
            steps.push(step("locks of dead processes", &remove));
        }
        if self.bundle.is_some() {
            let bundle = dir.file(BUNDLE).to_string_lossy().into_owned();
            let all = "+refs/heads/*:refs/remotes/origin/*";
            let fetch = ["git", "fetch", "--quiet", "--no-tags", &bundle, all];
            steps.push(step("what is new on the remote", &fetch));
        }
        if let Some(oid) = &self.move_to {
            let reset = ["git", "reset", "--quiet", "--keep", oid.as_str()];
            steps.push(step(&format!("{} is moved to {oid}", self.branch), &reset));
        }
        if self.needs_submodules {
            let update = ["git", "submodule", "update", "--init", "--recursive", "--quiet"];
            steps.push(step("submodules", &update));
        }
        if self.needs_lfs {
            steps.push(step("files of git-lfs", &["git", "lfs", "pull"]));
        }
        steps
    }

    /// What moves the branch to work that is elsewhere: the steps, and the last command.
    pub fn bring(&self, tip: &str) -> (Vec<Step>, Vec<String>) {
        let branch = self.branch.as_str();
        // Left by a git that was killed: nobody else works in the clone now.
        let head = format!(".git/refs/heads/{branch}.lock");
        let locks = ["rm", "-f", ".git/index.lock", ".git/HEAD.lock", &head];
        let checkout = ["git", "checkout", "--quiet", "-B", branch, tip, "--"];
        (vec![step("locks of dead processes", &locks)], words(&checkout))
    }
}

fn step(heading: &str, arguments: &[&str]) -> Step {
    Step { heading: heading.into(), arguments: words(arguments) }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_string()).collect()
}

/// Locks that git makes and removes, below a clone; that of the branch comes on top.
const LOCKS: [&str; 5] = [
    ".git/index.lock",
    ".git/HEAD.lock",
    ".git/config.lock",
    ".git/packed-refs.lock",
    ".git/shallow.lock",
];

/// What is in the place of an issue's clone.
enum Found {
    Nothing,
    Clone,
    /// A worktree of a shared clone, as version 0.1.0 made them.
    OldWorktree,
    /// Something that is no clone any more, or never was.
    Other(&'static str),
}

fn find(folder: &Path) -> io::Result<Found> {
    let kind = |path: &Path| match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(|found| Some(found.file_type())),
    };
    let Some(own) = kind(folder)? else { return Ok(Found::Nothing) };
    if own.is_symlink() {
        return Ok(Found::Other("it is a symbolic link"));
    }
    if !own.is_dir() {
        return Ok(Found::Other("it is a file"));
    }
    Ok(match kind(&folder.join(".git"))? {
        Some(git) if git.is_dir() => Found::Clone,
        Some(git) if git.is_file() => Found::OldWorktree,
        Some(_) => Found::Other("its .git is neither a folder nor a file"),
        None if fs::read_dir(folder)?.next().is_none() => Found::Nothing,
        None => Found::Other("it has no .git"),
    })
}

/// Whether a clone bears kugetsu's mark: a worker may have died before it saved a session.
fn is_ours(folder: &Path) -> bool {
    let exclude = Path::new(".git/info/exclude");
    let read = safe_file::read_below(folder, exclude, limits::GIT_FILE_BYTES_MAX as u64);
    let text = read.ok().flatten().unwrap_or_default();
    text.split(|byte| *byte == b'\n').any(|line| line == b"/.kugetsu/")
}

/// Preparing one attempt, with the repository's lock held.
struct Preparation<'p> {
    settings: &'p AgentSettings,
    job: &'p Job,
    session: Option<&'p Session>,
    git: Git<'p>,
    places: Places,
    evidence: Evidence,
    state: RemoteState,
    base: (BranchName, Oid),
    branch: BranchName,
    notes: Vec<String>,
}

/// Makes an issue's clone, or brings it up to date.
pub(super) fn prepare(
    settings: &AgentSettings,
    job: &Job,
    session: Option<&Session>,
    stop: &Receiver<Stop>,
) -> Result<Workspace, EarlyExit> {
    let places = Places::of(settings, &job.issue);
    let remote = settings.remote_of(&job.issue).map_err(worktree_failed)?;
    let lock = RepositoryLock::take(&places.lock, stop, limits::REPOSITORY_LOCK_MS_MAX)?;
    let git = Git::new(lock.file(), stop, limits::PREPARE_MS_MAX, Some(&settings.shim));
    let state = mirror::refresh(&git, &places.mirror, &remote.borrowed())?;
    failpoint::here("mirror_fetched");
    let base = base_of(settings, &state).map_err(worktree_failed)?;
    let evidence = Evidence::open(&places.evidence, &places.mirror, &places.looks)?;
    let branch = settings.branch_for(&job.issue, session, &state).map_err(worktree_failed)?;
    let preparation = Preparation {
        settings,
        job,
        session,
        git,
        places,
        evidence,
        state,
        base,
        branch,
        notes: Vec::new(),
    };
    preparation.run()
}

fn worktree_failed(why: String) -> EarlyExit {
    Report::new(Reason::WorktreeFailed, why).into()
}

fn base_of(settings: &AgentSettings, state: &RemoteState) -> Result<(BranchName, Oid), String> {
    match state.base(settings.base_branch.as_deref()) {
        Base::Branch { branch, oid } => Ok((branch, oid)),
        Base::Empty => {
            Err("the repository is empty: push a first commit, then `kugetsu queue retry`".into())
        }
        Base::NoSuchBranch(names) => Err(format!(
            "the repository has no branch {} (set KUGETSU_BASE_BRANCH)",
            names.join(", ")
        )),
    }
}

impl Preparation<'_> {
    fn run(mut self) -> Result<Workspace, EarlyExit> {
        let folder = self.places.folder.clone();
        let found = find(&folder).map_err(|error| {
            EarlyExit::from(crate::git::trouble::cannot("look at the issue's clone", &error))
        })?;
        if !matches!(found, Found::Nothing) {
            legacy::settle(&folder);
        }
        match found {
            Found::Nothing => {
                let tip = legacy::taken_before(self.settings, &self.git, &self.evidence, self.job)?;
                self.make(tip)
            }
            Found::OldWorktree => {
                let tip = legacy::take_over(self.settings, &self.git, &self.evidence, self.job)?;
                self.make(tip)
            }
            // What never was a clone of ours is somebody's.
            Found::Other(why) if self.session.is_none() => Err(worktree_failed(format!(
                "{} is in the way: {why} (move it away, and retry)",
                folder.display()
            ))),
            Found::Other(why) => self.make_anew(why),
            // Made by nobody of ours, as far as anything tells.
            Found::Clone if self.session.is_none() && !is_ours(&folder) => {
                Err(worktree_failed(format!(
                    "{} is in the way: it is a clone of somebody else's (move it away, and retry)",
                    folder.display()
                )))
            }
            Found::Clone => match CloneRefs::read(&folder) {
                Ok(refs) => self.reuse(&refs),
                Err(Unreadable::NoClone(why) | Unreadable::Hostile(why)) => self.make_anew(&why),
                Err(Unreadable::TooLarge(why)) => Err(Report::new(Reason::Unreadable, why).into()),
                Err(Unreadable::Passing(why)) => Err(Report::new(Reason::Machine, why).into()),
            },
        }
    }

    /// Moves a clone that cannot be used any more aside, and makes another one. It costs no job
    /// anything: what was committed is kept as evidence.
    fn make_anew(&mut self, why: &str) -> Result<Workspace, EarlyExit> {
        let aside = clone::set_aside(&self.places.folder)?;
        let aside = aside.display();
        tracing::warn!(job = %self.job.id, %aside, "the issue's clone cannot be used: {why}");
        self.notes.push(format!("an earlier clone was damaged ({why}); it is kept in {aside}"));
        self.make(None)
    }

    fn make(&mut self, tip: Option<Oid>) -> Result<Workspace, EarlyExit> {
        let start = self.start_of_new_clone(tip)?;
        let made = self.make_clone(&start)?;
        failpoint::here("worktree_added");
        sync_beside(&self.places.folder);
        legacy::settle(&self.places.folder);
        self.keep_before(&[(Slot::BeforeBranch, start.clone())]).map_err(look_failed)?;
        let refs = CloneRefs::read(&self.places.folder).map_err(|why| {
            EarlyExit::from(Report::new(Reason::Machine, format!("a new clone: {why}")))
        })?;
        let changes = self.changes(&refs);
        Ok(Workspace {
            changes,
            is_new: true,
            notes: std::mem::take(&mut self.notes),
            needs_lfs: made.needs_lfs,
            needs_submodules: made.needs_submodules,
            ..self.workspace(start)
        })
    }

    /// A mirror that turns out to be damaged is fetched anew, once.
    fn make_clone(&mut self, start: &Oid) -> Result<MadeClone, EarlyExit> {
        match self.try_make_clone(start) {
            Err(GitError::Damaged(why)) => {
                tracing::warn!(mirror = %self.places.mirror.display(), "is damaged: {why}");
                let remote = self.settings.remote_of(&self.job.issue).map_err(worktree_failed)?;
                mirror::make_anew(&self.git, &self.places.mirror, &remote.borrowed())?;
                Ok(self.try_make_clone(start)?)
            }
            made => Ok(made?),
        }
    }

    fn try_make_clone(&self, start: &Oid) -> Result<MadeClone, GitError> {
        clone::make(
            &self.git,
            &NewClone {
                mirror: &self.places.mirror,
                folder: &self.places.folder,
                url: &self.settings.clone_url(&self.job.issue),
                branch: &self.branch,
                start: Start { oid: start, evidence: Some(self.evidence.folder()) },
                base: &self.base.0,
                links: self.settings.clone_links,
            },
        )
    }

    fn workspace(&self, before: Oid) -> Workspace {
        let (folder, branch) = (self.places.folder.clone(), self.branch.clone());
        Workspace::of_attempt(folder, branch, self.base.1.clone(), before, Changes::default())
    }

    /// Work that is pushed goes on where it was, also on another machine; work that was kept of a
    /// clone that is gone goes before that, unless it was pushed on top of.
    fn start_of_new_clone(&self, tip: Option<Oid>) -> Result<Oid, EarlyExit> {
        let pushed = self.state.heads.get(&self.branch).cloned();
        let kept = match (tip, self.session) {
            (Some(tip), _) => Some(tip),
            (None, Some(session)) => self.evidence.tip_of(session.last_job)?.map(|kept| kept.oid),
            (None, None) => None,
        };
        Ok(match (pushed, kept) {
            (Some(pushed), Some(kept)) => {
                let is_older = self.is_ancestor(&kept, &pushed)?;
                if is_older { pushed } else { kept }
            }
            // All of it is in the base by now.
            (None, Some(kept)) if self.is_ancestor(&kept, &self.base.1)? => self.base.1.clone(),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => self.base.1.clone(),
        })
    }

    fn is_ancestor(&self, one: &Oid, other: &Oid) -> Result<bool, EarlyExit> {
        let answer = self
            .git
            .call(self.evidence.folder(), "merge-base")
            .args(["--is-ancestor", one.as_str(), other.as_str()])
            .answer(&[0, 1])?;
        Ok(answer.code == 0)
    }

    /// Goes on in a clone that an agent has used.
    fn reuse(&mut self, refs: &CloneRefs) -> Result<Workspace, EarlyExit> {
        let on_branch = refs.branch(&self.branch);
        let tip = on_branch.or(refs.head.oid()).unwrap_or(&self.base.1).clone();
        let mut wanted = vec![(Slot::BeforeBranch, tip.clone())];
        let others = refs.elsewhere(&self.branch).into_iter().map(|reference| reference.oid);
        for oid in others.chain(refs.stashes.iter().cloned()) {
            if wanted.len() < limits::EVIDENCE_REFS_MAX && !wanted.iter().any(|(_, w)| *w == oid) {
                let number = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
                wanted.push((Slot::Before(number), oid));
            }
        }
        match self.keep_before(&wanted) {
            Ok(()) => {}
            Err(LookError::Clone(Unreadable::NoClone(why) | Unreadable::Hostile(why))) => {
                return self.make_anew(&why);
            }
            Err(error) => return Err(look_failed(error)),
        }
        failpoint::here("before_kept");
        let changes = self.changes(refs);
        let is_at_rest = changes.is_empty()
            && refs.unfinished.is_none()
            && matches!(&refs.head, Head::On(name, _) if *name == self.branch.to_ref());
        let target = self.target(&tip)?;
        let move_to = target.clone().filter(|target| is_at_rest && *target != tip);
        let bundle = self.bundle(refs)?;
        self.note_how_far_behind(move_to.as_ref().unwrap_or(&tip))?;
        let fills = move_to.is_some() || tip == self.base.1;
        let has_submodules = fs::symlink_metadata(self.places.folder.join(".gitmodules")).is_ok();
        Ok(Workspace {
            changes,
            notes: std::mem::take(&mut self.notes),
            dead_locks: self.dead_locks()?,
            bundle,
            needs_submodules: fills && has_submodules,
            move_to,
            ..self.workspace(tip)
        })
    }

    fn keep_before(&self, wanted: &[(Slot, Oid)]) -> Result<(), LookError> {
        let of = AttemptOf { job: self.job.id, attempt: self.job.attempt_number() };
        let known: Vec<Oid> = self.state.heads.values().cloned().collect();
        let (git, folder) = (&self.git, &self.places.folder);
        self.evidence.keep(git, folder, of, wanted, &known, Replacing::All).map(drop)
    }

    /// What is changed in the clone now. What cannot be seen is taken for nothing: the look after
    /// the run tells more, and is judged by its own trouble.
    fn changes(&self, refs: &CloneRefs) -> Changes {
        let look = || {
            let files =
                Files::new(&self.places.looks, &self.places.folder, refs, Patience::default())?;
            files.changes(&self.git)
        };
        look().unwrap_or_else(|error: LookError| {
            tracing::warn!(job = %self.job.id, why = error.why(), "cannot see what is changed");
            Changes::default()
        })
    }

    /// Where the branch should be: on the remote's own branch of its name, if that is ahead of it;
    /// on the base, if there is nothing of its own on it.
    fn target(&self, tip: &Oid) -> Result<Option<Oid>, EarlyExit> {
        let base = &self.base.1;
        let pushed = self.state.heads.get(&self.branch);
        let tip = match pushed {
            Some(pushed) if pushed != tip && self.is_ancestor(tip, pushed)? => pushed,
            Some(_) | None => tip,
        };
        if tip == base || self.is_ancestor(base, tip)? && !self.is_ancestor(tip, base)? {
            return Ok(Some(tip.clone()));
        }
        if self.is_ancestor(tip, base)? {
            return Ok(Some(base.clone()));
        }
        let fork = new_work::fork(&self.git, &self.evidence, base, tip).map_err(look_failed)?;
        let Some(fork) = fork else { return Ok(Some(tip.clone())) };
        match new_work::is_in_base(&self.git, &self.evidence, base, tip) {
            Ok(true) => return Ok(Some(base.clone())),
            // Too much to compare is something of its own.
            Ok(false) | Err(LookError::Clone(_)) => {}
            Err(error @ LookError::Own(_)) => return Err(look_failed(error)),
        }
        let others = self.state.heads.iter().filter(|(name, _)| **name != self.branch);
        let known: Vec<Oid> = others.map(|(_, oid)| oid.clone()).collect();
        let work = new_work::judge(
            &self.git,
            &self.evidence,
            &Question {
                after: Some(tip),
                before: &fork,
                before_first: None,
                base,
                known: &known,
                before_tips: &[],
                elsewhere: &[],
                stashes: &[],
            },
        );
        match work {
            Ok(work) if work.on_branch.outcome == BranchOutcome::Nothing => Ok(Some(base.clone())),
            Ok(_) => Ok(Some(tip.clone())),
            // Too much to compare is something of its own.
            Err(LookError::Clone(_)) => Ok(Some(tip.clone())),
            Err(error @ LookError::Own(_)) => Err(look_failed(error)),
        }
    }

    /// Locks that a git which was killed has left, and on which every later one fails. None, if
    /// somebody works in the clone.
    fn dead_locks(&self) -> Result<Vec<String>, EarlyExit> {
        let branch = format!(".git/refs/heads/{}.lock", self.branch);
        let names = LOCKS.into_iter().map(String::from).chain([branch]);
        let is_there = |name: &String| self.places.folder.join(name).symlink_metadata().is_ok();
        let locks: Vec<String> = names.filter(is_there).collect();
        if locks.is_empty() {
            return Ok(locks);
        }
        let somebody = tree::somebody_in(&self.places.folder);
        match somebody.map_err(early_exit::start_failed("look who works in the clone"))? {
            None => Ok(locks),
            Some(pid) => {
                tracing::warn!(job = %self.job.id, pid, "works in the clone; its locks are left");
                Ok(Vec::new())
            }
        }
    }

    /// What the remote has and the clone has not.
    fn bundle(&self, refs: &CloneRefs) -> Result<Option<PathBuf>, EarlyExit> {
        let have: Vec<Oid> = refs.refs.iter().map(|reference| reference.oid.clone()).collect();
        let wanted: Vec<BranchName> = self.state.heads.keys().cloned().collect();
        let file = self.places.looks.join(format!("{}.bundle", self.places.name));
        let _ = fs::remove_file(&file);
        let written = clone::bundle(&self.git, &self.places.mirror, &wanted, &have, &file)?;
        Ok(written.then_some(file))
    }

    fn note_how_far_behind(&mut self, tip: &Oid) -> Result<(), EarlyExit> {
        let (name, base) = &self.base;
        let behind = self
            .git
            .call(self.evidence.folder(), "rev-list")
            .args(["--count", base.as_str(), &format!("^{tip}")])
            .text()?;
        if behind != "0" {
            let commits = if behind == "1" { "commit" } else { "commits" };
            self.notes.push(format!("the branch is {behind} {commits} behind origin/{name}"));
        }
        if let Some(pushed) = self.state.heads.get(&self.branch)
            && pushed != tip
            && !self.is_ancestor(pushed, tip)?
        {
            let branch = &self.branch;
            self.notes
                .push(format!("origin/{branch} has commits that this clone's {branch} lacks"));
        }
        Ok(())
    }
}

/// Puts a new clone on disk while its agent begins: what a power loss takes of it is made again from
/// mirror and evidence.
fn sync_beside(folder: &Path) {
    let folder = folder.to_path_buf();
    let begun = thread::Builder::new().name("sync".into()).spawn(move || clone::sync(&folder));
    if let Err(error) = begun {
        tracing::warn!(%error, "no thread to sync a new clone");
    }
}

/// Fetches a repository, and gives the commit that work starts from; `None` if it was told to stop.
pub(crate) fn fetch_repository(
    settings: &AgentSettings,
    issue: &IssueRef,
    stop: &Receiver<Stop>,
) -> Result<Option<String>, String> {
    let fetch = || -> Result<Result<String, String>, GitError> {
        let places = Places::of(settings, issue);
        let remote = match settings.remote_of(issue) {
            Ok(remote) => remote,
            Err(why) => return Ok(Err(why)),
        };
        let lock = RepositoryLock::take(&places.lock, stop, limits::REPOSITORY_BUSY_MS_MAX)?;
        let git = Git::new(lock.file(), stop, limits::PREPARE_MS_MAX, Some(&settings.shim));
        let state = mirror::refresh(&git, &places.mirror, &remote.borrowed())?;
        let (_, oid) = match base_of(settings, &state) {
            Ok(base) => base,
            Err(why) => return Ok(Err(why)),
        };
        let short = git.call(&places.mirror, "log").args(["-1", "--format=%h (%s)"]);
        Ok(Ok(short.arg(oid.as_str()).text()?))
    };
    match fetch() {
        Ok(base) => base.map(Some),
        Err(GitError::Stopped(_)) => Ok(None),
        Err(error) => Err(error.words().into()),
    }
}

/// What it means that nothing could be learned of a clone before the attempt.
fn look_failed(error: LookError) -> EarlyExit {
    match error {
        LookError::Own(error) => error.into(),
        LookError::Clone(Unreadable::Passing(why)) => Report::new(Reason::Machine, why).into(),
        LookError::Clone(unreadable) => {
            Report::new(Reason::Unreadable, unreadable.why().to_string()).into()
        }
    }
}
