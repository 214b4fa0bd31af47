//! Looking over what agents work with: mirrors, clones, folders of runs.
//!
//! An audit changes nothing and waits for nobody. Mending takes away nothing that a person or an
//! agent made.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crossbeam_channel::never;

use crate::agent::AgentSettings;
use crate::git::call::Git;
use crate::git::environment::plain_git;
use crate::git::folder::{Folder, Kind, Next, Reach, Seen, walk};
use crate::git::refs::CloneRefs;
use crate::git::{lock, mirror};
use crate::job::{IssueRef, JobId, Run, limits};
use crate::process::holders::Holder;
use crate::process::identity::Identity;
use crate::process::remains;
use crate::process::run::RunDir;
use crate::process::tree;

/// Something that is not as it should be, or that somebody may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WorkFinding {
    /// A clone that cannot be used: the issue's next job moves it aside and makes another one.
    Damaged { folder: PathBuf, why: String },
    /// A clone, a mirror or evidence that was moved aside, and how much is in it.
    Aside { folder: PathBuf, bytes: u64 },
    /// A mirror or evidence that cannot be used: the next job that needs it makes it anew.
    DamagedOwn { folder: PathBuf, why: String },
    /// A removal that was interrupted.
    Removing { folder: PathBuf },
    /// A worktree of version 0.1.0.
    OldWorktree { folder: PathBuf },
    /// A folder among the clones whose name is no issue's.
    Foreign { folder: PathBuf },
    /// A mirror or clone in the making that nobody makes.
    Unfinished { folder: PathBuf },
    /// Somebody works on a repository.
    Busy { mirror: PathBuf, by: String },
    /// It cannot be read.
    Unreadable { what: PathBuf, why: String },
}

/// A folder among those of the runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunLeft {
    pub folder: PathBuf,
    /// The job that its name tells.
    pub job: Option<JobId>,
}

/// A process that carries a run's marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marked {
    pub process: Identity,
    /// The name of the run's folder.
    pub run: String,
}

/// Looks over mirrors, evidence and clones.
pub(crate) fn audit(settings: &AgentSettings) -> Vec<WorkFinding> {
    let mut found = Vec::new();
    for path in entries(&settings.mirrors(), &mut found) {
        found.extend(audit_own(path));
    }
    for path in entries(&settings.home.join("evidence"), &mut found) {
        found.extend(audit_own(path));
    }
    for folder in entries(&settings.worktrees(), &mut found) {
        found.extend(audit_clone(folder));
    }
    found
}

/// A mirror, the evidence of a repository, or the lock of one.
fn audit_own(path: PathBuf) -> Option<WorkFinding> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.ends_with(".lock") {
        let by = lock::holder_in_words(&path).ok().flatten()?;
        return Some(WorkFinding::Busy { mirror: path.with_extension("git"), by });
    }
    if name.ends_with(".unfinished") {
        return Some(WorkFinding::Unfinished { folder: path });
    }
    if name.contains(".damaged") {
        return Some(WorkFinding::Aside { bytes: measure(&path), folder: path });
    }
    if !name.ends_with(".git") {
        return None;
    }
    mirror::check(&path).err().map(|why| WorkFinding::DamagedOwn { folder: path, why })
}

/// The bytes of all files below a folder, as far as they can be seen.
pub(crate) fn measure(folder: &Path) -> u64 {
    let reach =
        Reach { entries_max: limits::MEASURED_ENTRIES_MAX, depth_max: limits::TREE_DEPTH_MAX };
    let mut bytes: u64 = 0;
    let Ok(Some(top)) = Folder::open(folder) else { return 0 };
    let walked = walk(top, reach, |seen| {
        if let Seen::Entry { folder, entry, .. } = seen
            && entry.kind == Kind::File
        {
            bytes += folder.stat(&entry.name).ok().flatten().map_or(0, |stat| stat.bytes);
        }
        Ok(Next::Enter)
    });
    if let Err(why) = walked {
        tracing::debug!(folder = %folder.display(), %why, "was not measured to its end");
    }
    bytes
}

fn audit_clone(folder: PathBuf) -> Option<WorkFinding> {
    let name = folder.file_name()?.to_string_lossy().into_owned();
    if name.ends_with(".unfinished") {
        return Some(WorkFinding::Unfinished { folder });
    }
    if name.contains(".damaged-") {
        return Some(WorkFinding::Aside { bytes: measure(&folder), folder });
    }
    if name.starts_with(".removing-") {
        return Some(WorkFinding::Removing { folder });
    }
    if issue_of(&folder).is_none() {
        return Some(WorkFinding::Foreign { folder });
    }
    if fs::symlink_metadata(folder.join(".git")).is_ok_and(|git| git.is_file()) {
        return Some(WorkFinding::OldWorktree { folder });
    }
    match CloneRefs::read(&folder) {
        Ok(_) => None,
        Err(why) => Some(WorkFinding::Damaged { folder, why: why.why().to_string() }),
    }
}

/// The issue that a clone's folder is for.
pub(crate) fn issue_of(folder: &Path) -> Option<IssueRef> {
    IssueRef::from_safe_name(folder.file_name()?.to_str()?)
}

/// The folders of runs.
pub(crate) fn runs(settings: &AgentSettings) -> io::Result<Vec<RunLeft>> {
    let job = |path: &Path| path.file_name()?.to_str()?.split('-').next()?.parse().ok();
    let left = |folder: PathBuf| RunLeft { job: job(&folder), folder };
    Ok(sorted_entries(&settings.runs())?.into_iter().map(left).collect())
}

/// Whether something of a run lives. Not for a run that may be about to begin.
pub(crate) fn is_run_held(folder: &Path) -> bool {
    // What cannot be inspected counts as held.
    RunDir::at(folder).is_locked().unwrap_or(true)
}

/// Who holds the lock of a run whose shim is gone: its job stays as it is for as long.
pub(crate) fn lock_holders(settings: &AgentSettings, run: &Run) -> Vec<Holder> {
    remains::lock_holders(&RunDir::at(&settings.runs().join(&run.folder))).unwrap_or_default()
}

/// Kills them, on a person's word. Gives those that live on.
pub(crate) fn end_lock_holders(settings: &AgentSettings, run: &Run) -> io::Result<Vec<Holder>> {
    remains::end_lock_holders(&RunDir::at(&settings.runs().join(&run.folder)))
}

/// Whether commits can be signed without a person; `None` where git is not told to sign them.
pub(crate) fn try_signing() -> Option<Result<(), String>> {
    let asked = plain_git(Path::new("/"))
        .args(["config", "--type=bool", "--get", "commit.gpgSign"])
        .stderr(Stdio::null())
        .output();
    let is_wanted = asked.is_ok_and(|output| output.stdout.trim_ascii() == b"true");
    is_wanted.then(|| {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let nothing = File::open("/dev/null").map_err(|error| error.to_string())?;
        let stop = never();
        let git = Git::new(&nothing, &stop, limits::SIGN_MS_MAX, None);
        let sign = || {
            let folder = folder.path();
            git.call_nowhere("init")
                .args(["--quiet", "--bare", "--template="])
                .arg(folder)
                .run()?;
            let commit = git.call(folder, "commit-tree").args(["-S", "-m", "a try", EMPTY_TREE]);
            commit.env("GPG_TTY", "").run()
        };
        sign().map(drop).map_err(|error| error.words().to_string())
    })
}

/// Git knows it without having it.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// Removes a run's folder, unless something of the run lives.
pub(crate) fn remove_run(folder: &Path) -> Result<(), String> {
    match remains::remove(&RunDir::at(folder)) {
        Ok(true) => Ok(()),
        Ok(false) => Err("something of the run lives".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Processes that belong to runs of this folder.
pub(crate) fn marked(settings: &AgentSettings) -> io::Result<Vec<Marked>> {
    let found = tree::with_variable(&format!("KUGETSU_RUN={}/", settings.runs().display()))?;
    Ok(found.into_iter().map(|(process, run)| Marked { process, run }).collect())
}

fn entries(folder: &Path, found: &mut Vec<WorkFinding>) -> Vec<PathBuf> {
    sorted_entries(folder).unwrap_or_else(|error| {
        found.push(WorkFinding::Unreadable { what: folder.into(), why: error.to_string() });
        Vec::new()
    })
}

/// What is in a folder; nothing, if the folder is not there.
fn sorted_entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let entries = entries.flatten().take(limits::ENTRIES_READ_MAX);
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}
