//! Agents at work: a worktree, a session, a run behind a shim, and a verdict from the commits.

mod completion;
mod git;
mod helper;
mod log;
mod repository;
mod template;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{after, bounded, never, select};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::executor::{Control, Ending, Executor, Found, Stop, is_lease_lost};
use crate::job::{IssueRef, Job, JobId, Reason, Report, Run, Session, Token, limits};
use crate::process::identity::{self, Identity};
use crate::process::run::{
    ExitRecord, RunDir, RunSpec, private_file, read_json, write_json, write_whole,
};
use crate::process::spawn::{self, Running};
use crate::process::tree;
use crate::queue::QueueError;
use crate::time::{self, Timestamp};

use self::completion::{Evidence, Verdict, judge};
use self::git::GitError;
use self::repository::Worktree;

pub use self::completion::Completion;
pub use self::template::{Template, Values};

/// How agents are run.
#[derive(Debug, Clone)]
pub struct AgentSettings {
    /// Where repositories, worktrees, runs and logs are.
    pub home: PathBuf,
    /// The agent's command.
    pub command: Template,
    /// The address to clone from, with `{host}` and `{path}`.
    pub clone_url: String,
    /// The branch that new work starts from; `None` is `origin/main`, or what the remote has.
    pub base_branch: Option<String>,
    /// What counts as done.
    pub completion: Completion,
    /// Wall-clock limit of a run, when the job has none of its own.
    pub timeout_ms: u64,
    /// From TERM to KILL.
    pub kill_grace_ms: u64,
    /// Most bytes that a run may log.
    pub log_bytes_max: u64,
    /// How often to try what the network refuses.
    pub network_attempts: u32,
    /// How long to wait in between.
    pub network_delay_ms: u64,
    /// Given to the agent by its environment, and written down nowhere.
    pub secrets: Vec<(String, String)>,
    /// The program whose verb `shim` is the shim: kugetsu itself.
    pub shim: PathBuf,
}

impl AgentSettings {
    fn repositories(&self) -> PathBuf {
        self.home.join("repos")
    }

    fn worktrees(&self) -> PathBuf {
        self.home.join("worktrees")
    }

    fn runs(&self) -> PathBuf {
        self.home.join("runs")
    }

    /// The folder that an issue is worked on in.
    pub fn worktree(&self, issue: &IssueRef) -> PathBuf {
        self.worktrees().join(issue.safe_name())
    }

    /// The file that a job's agents log to.
    pub fn log(&self, id: JobId) -> PathBuf {
        log_file(&self.home, id)
    }

    fn clone_url(&self, issue: &IssueRef) -> String {
        self.clone_url.replace("{host}", issue.host()).replace("{path}", issue.path())
    }
}

/// The file that a job's agents log to, below kugetsu's folder.
pub fn log_file(home: &Path, id: JobId) -> PathBuf {
    home.join("logs").join(format!("dev-{id}.log"))
}

/// Never passed on to an agent: another program's sockets, and what would make an opencode think
/// that it runs inside of another one.
const ENVIRONMENT_REMOVED: [&str; 11] = [
    "OPENCODE",
    "OPENCODE_PID",
    "OPENCODE_SERVER_*",
    "AGENT",
    "NOTIFY_SOCKET",
    "WATCHDOG_*",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
];

const REMINDER: &str = "You ended without a commit, and there are changes in the worktree. \
     If the work is done, commit it now, on the branch that is checked out. \
     If it is not, finish it first. Remove what does not belong to it.\n";

/// A minute: how long a job waits for a network that does not answer.
const NETWORK_DEFERRAL_MS: u64 = 60_000;

/// Runs agents on issues.
pub struct AgentExecutor {
    settings: AgentSettings,
}

/// What a run began with: enough to judge it, whoever is there when it ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plan {
    worktree: PathBuf,
    branch: String,
    /// Where the branch was before the job's first attempt.
    head_before: String,
    log: PathBuf,
    log_from: u64,
    session: Option<String>,
    round: u32,
}

/// Why an attempt ends without a verdict.
enum Cut {
    LeftAlone,
    Over(Report),
}

impl From<Report> for Cut {
    fn from(report: Report) -> Cut {
        Cut::Over(report)
    }
}

impl From<GitError> for Cut {
    fn from(error: GitError) -> Cut {
        match error {
            GitError::Stopped(stop) => cut_by(stop),
            GitError::Network(why) => Cut::Over(Report {
                defer_ms: Some(NETWORK_DEFERRAL_MS),
                ..Report::new(Reason::Deferred, why)
            }),
            GitError::Refused(why) => Report::new(Reason::WorktreeFailed, why).into(),
        }
    }
}

impl From<QueueError> for Cut {
    fn from(error: QueueError) -> Cut {
        if is_lease_lost(&error) {
            return Cut::LeftAlone;
        }
        Report::new(Reason::StartFailed, error.to_string()).into()
    }
}

/// What a word means to a job whose agent has not started.
fn cut_by(stop: Stop) -> Cut {
    match stop {
        Stop::Cancel => Report::new(Reason::Cancelled, "ended on request").into(),
        Stop::Shutdown | Stop::Detach => {
            Report::new(Reason::Shutdown, "the worker stopped before the agent started").into()
        }
        Stop::LeaseLost => Cut::LeftAlone,
    }
}

fn start_failed(what: &str) -> impl Fn(io::Error) -> Cut {
    move |error| Report::new(Reason::StartFailed, format!("cannot {what}: {error}")).into()
}

impl Executor for AgentExecutor {
    fn execute(&self, job: &Job, control: &Control) -> Ending {
        match self.attempt(job, control) {
            Ok(report) | Err(Cut::Over(report)) => Ending::Over(report),
            Err(Cut::LeftAlone) => Ending::LeftAlone,
        }
    }

    fn inspect(&self, job: &Job) -> Found {
        let Some(lease) = job.lease() else { return Found::NothingRan };
        let Some(run) = &lease.run else { return Found::NothingRan };
        let dir = RunDir::new(&self.settings.runs(), job.id, lease.token, run.round);
        let told = lease.cancel_requested.then_some(Stop::Cancel);
        match look_at_run(&dir, run, told) {
            Ok(Left::Alive) => Found::Alive,
            Ok(Left::NothingRan) => Found::NothingRan,
            Ok(Left::Vanished(why)) => Found::Ended(Report::new(Reason::Lost, why)),
            Ok(Left::Record(record)) => Found::Ended(self.judge_leftover(&dir, &record, told)),
            Err(error) => {
                let why = format!("what its run left cannot be read: {error}");
                Found::Ended(Report::new(Reason::Lost, why))
            }
        }
    }

    fn leftovers(&self) -> Vec<JobId> {
        let Ok(entries) = fs::read_dir(self.settings.runs()) else { return Vec::new() };
        let mut ids: Vec<JobId> = entries
            .flatten()
            .take(limits::LEFTOVERS_PER_ROUND_MAX)
            .filter_map(|entry| entry.file_name().to_str()?.split('-').next()?.parse().ok())
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }

    fn tidy(&self, id: JobId) {
        for folder in self.runs_of(id) {
            if let Err(error) = fs::remove_dir_all(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "cannot remove");
            }
        }
    }
}

impl AgentExecutor {
    /// An executor with folders to work in, which are made if they are not there.
    pub fn new(settings: AgentSettings) -> io::Result<AgentExecutor> {
        for folder in ["repos", "worktrees", "runs", "logs"] {
            DirBuilder::new().recursive(true).mode(0o700).create(settings.home.join(folder))?;
        }
        Ok(AgentExecutor { settings })
    }

    fn attempt(&self, job: &Job, control: &Control) -> Result<Report, Cut> {
        let worktree = repository::prepare(&self.settings, &job.issue, control.stop())?;
        let mut session = self.keep_session(job, control, &worktree)?;
        let head_before = self.first_head(job.id).unwrap_or_else(|| worktree.head.clone());
        for round in 1..=2 {
            let plan = self.plan(job, control, &worktree, &head_before, &session, round)?;
            let dir = RunDir::new(&self.settings.runs(), job.id, control.token(), round);
            let run = self.start(job, control, &plan, &dir)?;
            let (record, told) = self.attend(control, &dir, run)?;
            if let Some(found) = log::session(&plan.log, plan.log_from).unwrap_or_default() {
                session.id = Some(found);
                self.save_session(job, control, &mut session)?;
            }
            match self.verdict(&plan, &record, told)? {
                Verdict::Remind => {
                    tracing::info!(job = %job.id, "no commit, but changes: reminding the agent");
                }
                Verdict::Over(report) => {
                    self.forget_lost_session(job, control, session, &report)?;
                    return Ok(report);
                }
            }
        }
        unreachable!("a reminded agent is not reminded again")
    }

    /// The issue's session, in the store before anything runs in its worktree.
    fn keep_session(
        &self,
        job: &Job,
        control: &Control,
        worktree: &Worktree,
    ) -> Result<Session, Cut> {
        let folder = worktree.folder.to_string_lossy().into_owned();
        let now = control.now();
        let known = control.session(job)?;
        let mut session = Session {
            issue: job.issue.clone(),
            // A session is bound to its folder: in another one it would hang.
            id: known.as_ref().filter(|s| s.worktree == folder).and_then(|s| s.id.clone()),
            worktree: folder,
            branch: worktree.branch.clone(),
            last_job: job.id,
            created_at: known.map_or(now, |session| session.created_at),
            used_at: now,
        };
        self.save_session(job, control, &mut session)?;
        Ok(session)
    }

    fn save_session(&self, job: &Job, control: &Control, session: &mut Session) -> Result<(), Cut> {
        session.last_job = job.id;
        session.used_at = control.now();
        Ok(control.save_session(session.clone())?)
    }

    /// An agent that does not know its session any more would fail every attempt.
    fn forget_lost_session(
        &self,
        job: &Job,
        control: &Control,
        mut session: Session,
        report: &Report,
    ) -> Result<(), Cut> {
        if report.reason == Reason::StartFailed && report.detail.contains("Session not found") {
            session.id = None;
            self.save_session(job, control, &mut session)?;
        }
        Ok(())
    }

    /// Where the branch was before the job's first attempt: commits of an attempt that was lost
    /// count for the next.
    fn first_head(&self, id: JobId) -> Option<String> {
        let mut folders = self.runs_of(id);
        folders.sort_by_key(|folder| token_of(folder));
        folders.iter().find_map(|folder| {
            let plan: Option<Plan> = read_json(&folder.join("plan.json")).ok()?;
            plan.map(|plan| plan.head_before)
        })
    }

    fn runs_of(&self, id: JobId) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.settings.runs()) else { return Vec::new() };
        let beginning = format!("{id}-");
        let ours = |path: &PathBuf| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|n| n.starts_with(&beginning))
        };
        entries.flatten().map(|entry| entry.path()).filter(ours).collect()
    }

    fn plan(
        &self,
        job: &Job,
        control: &Control,
        worktree: &Worktree,
        head_before: &str,
        session: &Session,
        round: u32,
    ) -> Result<Plan, Cut> {
        let message = if round == 1 { &job.message } else { REMINDER };
        let now = control.now();
        write_message(job, worktree, message).map_err(start_failed("write the message"))?;
        let log = self.settings.log(job.id);
        let log_from = begin_log(&log, job, round, now).map_err(start_failed("write the log"))?;
        Ok(Plan {
            worktree: worktree.folder.clone(),
            branch: worktree.branch.clone(),
            head_before: head_before.into(),
            log,
            log_from,
            session: session.id.clone(),
            round,
        })
    }

    /// Starts the agent: shim, gate, record, and only then the word.
    fn start(
        &self,
        job: &Job,
        control: &Control,
        plan: &Plan,
        dir: &RunDir,
    ) -> Result<Running, Cut> {
        dir.create().map_err(start_failed("make the run's folder"))?;
        write_json(&dir.file("plan.json"), plan).map_err(start_failed("write the run's plan"))?;
        dir.write_spec(&self.spec(job, plan, dir)).map_err(start_failed("write the run's spec"))?;
        let gated = spawn::spawn(&self.settings.shim, dir, &self.settings.secrets)
            .map_err(start_failed("start the shim"))?;
        let boot_id = identity::boot_id().map_err(start_failed("read the boot id"))?;
        control.record_run(Run {
            pid: gated.identity().pid,
            start_time: gated.identity().start_time,
            boot_id,
            started_at: control.now(),
            round: plan.round,
        })?;
        // A word that came in the meantime: nothing has run yet, and dropping the gate keeps it so.
        if let Ok(stop) = control.stop().try_recv() {
            return Err(cut_by(stop));
        }
        let running = gated.open().map_err(start_failed("open the gate"))?;
        tracing::info!(job = %job.id, issue = %job.issue, pid = running.identity.pid, "agent started");
        Ok(running)
    }

    fn spec(&self, job: &Job, plan: &Plan, dir: &RunDir) -> RunSpec {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let message_file = message_file(&plan.worktree);
        let values = Values {
            message_file: text(&message_file),
            session: plan.session.clone().unwrap_or_default(),
            worktree: text(&plan.worktree),
            job: job.id.to_string(),
            attempt: job.attempt_number().to_string(),
            issue: job.issue.to_string(),
            branch: plan.branch.clone(),
        };
        let environment = [
            ("KUGETSU_MESSAGE_FILE", &values.message_file),
            ("KUGETSU_SESSION", &values.session),
            ("KUGETSU_WORKTREE", &values.worktree),
            ("KUGETSU_JOB", &format!("{}/{}", values.job, values.attempt)),
            ("KUGETSU_ATTEMPT", &values.attempt),
            ("KUGETSU_ISSUE", &values.issue),
            ("KUGETSU_BRANCH", &values.branch),
            ("KUGETSU_RUN", &text(dir.path())),
        ];
        RunSpec {
            arguments: self.settings.command.fill(&values),
            folder: plan.worktree.clone(),
            stdin: message_file,
            log: plan.log.clone(),
            environment: environment.map(|(name, value)| (name.into(), value.clone())).into(),
            environment_removed: ENVIRONMENT_REMOVED.map(String::from).into(),
            timeout_ms: job.timeout_ms.unwrap_or(self.settings.timeout_ms),
            kill_grace_ms: self.settings.kill_grace_ms,
            log_bytes_max: self.settings.log_bytes_max,
        }
    }

    /// Waits for the shim, and passes words on to it.
    fn attend(
        &self,
        control: &Control,
        dir: &RunDir,
        running: Running,
    ) -> Result<(ExitRecord, Option<Stop>), Cut> {
        let shim = running.identity;
        let (sender, ended) = bounded(1);
        thread::Builder::new()
            .name("shim".into())
            .spawn(move || sender.send(running.wait()))
            .map_err(start_failed("wait for the agent"))?;
        let mut told = None;
        let mut patience = never();
        loop {
            select! {
                recv(ended) -> _ => break,
                recv(control.stop()) -> stop => match stop.unwrap_or(Stop::LeaseLost) {
                    Stop::Detach | Stop::LeaseLost => return Err(Cut::LeftAlone),
                    stop @ (Stop::Cancel | Stop::Shutdown) => {
                        if told.replace(stop).is_none() {
                            shim.signal(Signal::SIGTERM).map_err(start_failed("end the agent"))?;
                            patience = after(self.ending_time());
                        }
                    }
                },
                recv(patience) -> _ => {
                    tracing::error!(pid = shim.pid, "the shim does not end its agent; killing both");
                    patience = after(self.ending_time());
                    shim.signal(Signal::SIGKILL).map_err(start_failed("kill the shim"))?;
                }
            }
        }
        match dir.exit_record() {
            Ok(Some(record)) => Ok((record, told)),
            Ok(None) => Err(self.without_record(dir)),
            Err(error) => {
                let why = format!("the exit record cannot be read: {error}");
                Err(Report::new(Reason::Lost, why).into())
            }
        }
    }

    /// Twice what the shim needs, and what a busy machine adds.
    fn ending_time(&self) -> Duration {
        Duration::from_millis(2 * self.settings.kill_grace_ms + limits::SHIM_READY_MS_MAX)
    }

    /// The shim was killed: nothing of its run may go on.
    fn without_record(&self, dir: &RunDir) -> Cut {
        let deadline = time::monotonic() + self.ending_time();
        match kill_until_free(dir, deadline) {
            Ok(true) => {}
            // Something of it lives on: the issue stays taken, and recovery looks again.
            Ok(false) | Err(_) => return Cut::LeftAlone,
        }
        match dir.is_started() {
            Ok(false) => {
                let why = "the shim ended before the agent started";
                Report::new(Reason::StartFailed, why).into()
            }
            Ok(true) | Err(_) => Report::new(Reason::Lost, "the agent's shim was killed").into(),
        }
    }

    fn verdict(
        &self,
        plan: &Plan,
        record: &ExitRecord,
        told: Option<Stop>,
    ) -> Result<Verdict, Cut> {
        let traces = repository::traces(&plan.worktree, &plan.head_before)?;
        let last_words = log::last_words(&plan.log, plan.log_from).unwrap_or_default();
        Ok(judge(&Evidence {
            completion: self.settings.completion,
            record,
            traces: &traces,
            told,
            was_reminded: plan.round > 1,
            last_words: &last_words,
        }))
    }

    fn judge_leftover(&self, dir: &RunDir, record: &ExitRecord, told: Option<Stop>) -> Report {
        let plan: Plan = match read_json(&dir.file("plan.json")) {
            Ok(Some(plan)) => plan,
            Ok(None) => return Report::new(Reason::Lost, "the run's plan is gone"),
            Err(error) => {
                return Report::new(Reason::Lost, format!("the run's plan is damaged: {error}"));
            }
        };
        match self.verdict(&plan, record, told) {
            Ok(Verdict::Over(report)) | Err(Cut::Over(report)) => report,
            Ok(Verdict::Remind) | Err(Cut::LeftAlone) => {
                let why = "its worker was gone before it could be reminded to commit";
                Report::new(Reason::Lost, why)
            }
        }
    }
}

/// What is left of a run whose worker is gone.
enum Left {
    Alive,
    NothingRan,
    Record(ExitRecord),
    Vanished(&'static str),
}

fn look_at_run(dir: &RunDir, run: &Run, told: Option<Stop>) -> io::Result<Left> {
    if let Some(record) = dir.exit_record()? {
        return Ok(Left::Record(record));
    }
    if identity::boot_id()? != run.boot_id {
        return Ok(Left::Vanished("the machine was restarted while the agent ran"));
    }
    let shim = Identity { pid: run.pid, start_time: run.start_time };
    if dir.path().is_dir() && dir.try_lock()?.is_none() {
        if shim.is_alive() {
            if told.is_some() {
                shim.signal(Signal::SIGTERM)?;
            }
        } else {
            // Nobody holds the agent's limits any more, and nobody will tell how it ends.
            tree::signal_marked(&marker(dir), Signal::SIGKILL)?;
        }
        return Ok(Left::Alive);
    }
    // Between the first look and the lock the shim may have ended.
    match dir.exit_record()? {
        Some(record) => Ok(Left::Record(record)),
        None if dir.is_started()? => Ok(Left::Vanished("the agent's shim was killed")),
        None => Ok(Left::NothingRan),
    }
}

fn marker(dir: &RunDir) -> String {
    format!("KUGETSU_RUN={}", dir.path().display())
}

/// Kills every process of a run until none holds its lock. Says whether that was in time.
fn kill_until_free(dir: &RunDir, deadline: Instant) -> io::Result<bool> {
    while dir.try_lock()?.is_none() {
        if time::monotonic() > deadline {
            return Ok(false);
        }
        tree::signal_marked(&marker(dir), Signal::SIGKILL)?;
        time::pause(Duration::from_millis(limits::KILL_PAUSE_MS));
    }
    Ok(true)
}

fn token_of(folder: &Path) -> Option<Token> {
    folder.file_name()?.to_str()?.split('-').nth(1)?.parse().ok().map(Token)
}

fn message_file(worktree: &Path) -> PathBuf {
    worktree.join(".kugetsu/msg.txt")
}

fn write_message(job: &Job, worktree: &Worktree, message: &str) -> io::Result<()> {
    let folder = worktree.folder.join(".kugetsu");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    write_whole(&folder.join("msg.txt"), message.as_bytes())?;
    let context = format!(
        "issue: {}\nbranch: {}\nbase: {}\njob: {}\nattempt: {}\n",
        job.issue,
        worktree.branch,
        worktree.base,
        job.id,
        job.attempt_number()
    );
    write_whole(&folder.join("context.txt"), context.as_bytes())
}

/// Adds a heading to the log, and says where the run's own output will begin.
fn begin_log(log: &Path, job: &Job, round: u32, now: Timestamp) -> io::Result<u64> {
    let mut file: File = private_file().create(true).append(true).open(log)?;
    let what = if round == 1 { "attempt" } else { "reminder of attempt" };
    let (id, issue, attempt) = (job.id, &job.issue, job.attempt_number());
    writeln!(file, "--- {now} job {id}, {issue}, {what} {attempt}")?;
    Ok(file.metadata()?.len())
}
