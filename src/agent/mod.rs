//! Agents at work: a worktree, a session, a run behind a shim, and a verdict from the commits.
//!
//! A program of its own runs agents with [`AgentExecutor`], by the settings that
//! [`Config::agents`](crate::config::Config::agents) gives, and a worker that runs them.

mod adoption;
mod base_session;
pub(crate) mod checkup;
mod completion;
pub(crate) mod git;
pub(crate) mod git_version;
mod log;
mod message;
mod repository;
mod result;
mod template;
mod version;
mod workplace;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{after, bounded, never, select};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::executor::{Control, Ending, Executor, Found, Stop, is_lease_lost};
use crate::failpoint;
use crate::job::{IssueRef, Job, JobId, Reason, Report, Run, Session, Usage, limits};
use crate::process::helper::Orphan;
use crate::process::identity::{self, Identity};
use crate::process::remains::{self, Left};
use crate::process::run::{
    Cause, ExitRecord, RESULT, RunDir, RunSpec, TEMPORARY_FOLDER, read_json, write_json,
};
use crate::process::spawn::{self, Running};
use crate::queue::QueueError;
use crate::time::Timestamp;

use self::base_session::{CopyError, Copying};
use self::completion::{Evidence, Verdict, judge};
use self::git::GitError;
use self::repository::{Traces, Worktree};

pub use self::completion::Completion;
pub(crate) use self::repository::clone_repository;
pub use self::template::Template;
pub(crate) use self::template::Values;
pub(crate) use self::version::{check_version, opencode_version};
pub(crate) use self::workplace::{Workplace, remove_workplace};

/// How agents are run. [`Config::agents`](crate::config::Config::agents) makes one, from defaults, a
/// file and an environment.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use kugetsu::agent::Template;
/// use kugetsu::config::Config;
///
/// let environment = BTreeMap::from([("KUGETSU_DIR".into(), "/var/lib/agents".into())]);
/// let mut settings = Config::load(&environment)?.agents();
/// settings.command = Template::parse("my-agent --in {worktree}")?;
/// settings.shim = "/usr/local/bin/kugetsu".into();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AgentSettings {
    /// Where repositories, worktrees, runs and logs are.
    pub home: PathBuf,
    /// The agent's command.
    pub command: Template,
    /// The address to clone from, with `{host}` and `{path}`.
    pub clone_url: String,
    /// The branch that new work starts from; `None` is `origin/main`, or what the remote has.
    pub base_branch: Option<String>,
    /// The opencode session that new ones are made from.
    pub base_session: Option<String>,
    /// What counts as done.
    pub completion: Completion,
    /// Wall-clock limit of a run in milliseconds, when the job has none of its own.
    pub timeout_ms: u64,
    /// From TERM to KILL, in milliseconds.
    pub kill_grace_ms: u64,
    /// Most bytes that a run may log.
    pub log_bytes_max: u64,
    /// How long a run may neither log nor use the processor, in milliseconds; 0 is for ever.
    pub idle_ms: u64,
    /// Most calls of its model that a run may make, as far as it tells.
    pub steps_max: Option<u64>,
    /// Most that a run may cost, in millionths, as far as it tells.
    pub cost_micros_max: Option<u64>,
    /// How often to try what the network refuses, the first time counted.
    pub network_attempts: u32,
    /// How long to wait in between, in milliseconds.
    pub network_delay_ms: u64,
    /// Names and values, given to the agent by its environment, and written down nowhere.
    pub secrets: Vec<(String, String)>,
    /// The program whose verb `shim` is the shim: `kugetsu`. Not set otherwise it is the program
    /// that runs, so another one than kugetsu says where that is.
    pub shim: PathBuf,
}

impl AgentSettings {
    fn repositories(&self) -> PathBuf {
        self.home.join("repos")
    }

    fn worktrees(&self) -> PathBuf {
        self.home.join("worktrees")
    }

    fn clone_of(&self, issue: &IssueRef) -> PathBuf {
        self.repositories().join(format!("{}.git", issue.safe_repository_name()))
    }

    /// Issues that have a worktree, in the order of their names.
    pub(crate) fn issues_with_worktree(&self) -> io::Result<Vec<IssueRef>> {
        let entries = match fs::read_dir(self.worktrees()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut issues: Vec<IssueRef> = entries
            .flatten()
            .filter_map(|entry| IssueRef::from_safe_name(entry.file_name().to_str()?))
            .collect();
        issues.sort_by(|a, b| a.key().cmp(b.key()));
        Ok(issues)
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
pub(crate) fn log_file(home: &Path, id: JobId) -> PathBuf {
    home.join("logs").join(format!("dev-{id}.log"))
}

/// Never passed on to an agent, besides git's own: another program's sockets, and what would make
/// an opencode think that it runs inside of another one.
const ENVIRONMENT_REMOVED: [&str; 6] =
    ["OPENCODE", "OPENCODE_PID", "OPENCODE_SERVER_*", "AGENT", "NOTIFY_SOCKET", "WATCHDOG_*"];

fn environment_removed() -> impl Iterator<Item = &'static str> {
    ENVIRONMENT_REMOVED.into_iter().chain(git::REPOSITORY_VARIABLES)
}

/// Runs of an attempt: the message, and if need be the reminder to commit. Its number is larger than
/// 2 where a worker died before its agent began.
const ROUNDS: u32 = 2;

/// One of them.
struct Round {
    /// From 1.
    number: u32,
    /// How the run before it ended.
    earlier: Option<ExitRecord>,
}

/// A run that is over, and all that is known of it.
struct OverRun<'r> {
    dir: &'r RunDir,
    plan: &'r Plan,
    record: &'r ExitRecord,
    /// The request to stop that was passed on, if one was.
    stop_sent: Option<Stop>,
    now: Timestamp,
}

/// Runs agents on issues, each in its issue's worktree and behind a shim, which outlives its worker.
pub struct AgentExecutor {
    settings: AgentSettings,
}

/// What a run began with: enough to judge it, whoever is there when it ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plan {
    worktree: PathBuf,
    base: String,
    head_before: String,
    log: PathBuf,
    log_from: u64,
    round: u32,
    /// How the run before the reminder ended.
    #[serde(default)]
    earlier: Option<ExitRecord>,
}

impl Plan {
    fn traces(&self) -> Result<Traces, GitError> {
        repository::traces(&self.worktree, &self.head_before, &self.base)
    }
}

/// Why an attempt ends without a verdict.
enum EarlyExit {
    LeftAlone,
    Over(Box<Report>),
}

impl From<Report> for EarlyExit {
    fn from(report: Report) -> EarlyExit {
        EarlyExit::Over(Box::new(report))
    }
}

impl From<GitError> for EarlyExit {
    fn from(error: GitError) -> EarlyExit {
        match error {
            GitError::Stopped(stop) => early_exit_on(stop),
            GitError::Network(why) => Report::new(Reason::Deferred, why).into(),
            GitError::Refused(why) => Report::new(Reason::WorktreeFailed, why).into(),
        }
    }
}

impl From<QueueError> for EarlyExit {
    fn from(error: QueueError) -> EarlyExit {
        match &error {
            error if is_lease_lost(error) => EarlyExit::LeftAlone,
            // What is recorded is what counts, also of a run that is over: whoever looks next, when
            // the store answers, goes on from there.
            QueueError::Store(_) => {
                tracing::warn!(%error, "the store does not answer; the job is looked at again");
                EarlyExit::LeftAlone
            }
            error => Report::new(Reason::StartFailed, error.to_string()).into(),
        }
    }
}

/// What a request to stop means to a job whose agent has not started.
fn early_exit_on(stop: Stop) -> EarlyExit {
    match stop {
        Stop::Cancel => Report::new(Reason::Cancelled, "ended on request").into(),
        Stop::Shutdown | Stop::Detach => {
            Report::new(Reason::Shutdown, "the worker stopped before the agent started").into()
        }
        Stop::LeaseLost => EarlyExit::LeftAlone,
    }
}

fn start_failed(what: &str) -> impl Fn(io::Error) -> EarlyExit + use<'_> {
    move |error| Report::new(Reason::StartFailed, format!("cannot {what}: {error}")).into()
}

/// After a panic nobody knows what runs: the next worker looks.
fn ending(done: thread::Result<Result<Report, EarlyExit>>) -> Ending {
    match done {
        Ok(Ok(report)) => Ending::Over(report),
        Ok(Err(EarlyExit::Over(report))) => Ending::Over(*report),
        Ok(Err(EarlyExit::LeftAlone)) | Err(_) => Ending::LeftAlone,
    }
}

impl Executor for AgentExecutor {
    fn execute(&self, job: &Job, control: &Control) -> Ending {
        ending(catch_unwind(AssertUnwindSafe(|| self.attempt(job, control))))
    }

    fn resume(&self, job: &Job, control: &Control) -> Ending {
        ending(catch_unwind(AssertUnwindSafe(|| self.resume_attempt(job, control))))
    }

    fn inspect(&self, job: &Job) -> Found {
        self.inspect_left(job)
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
            let removed = remains::remove(&RunDir::at(&folder));
            // Another worker may tidy up at the same time.
            if let Some(error) = removed.err().filter(|e| e.kind() != io::ErrorKind::NotFound) {
                tracing::warn!(folder = %folder.display(), %error, "cannot remove");
            }
        }
    }
}

impl AgentExecutor {
    /// An executor with folders to work in, which are made if they are not there.
    ///
    /// # Errors
    ///
    /// When one of them cannot be made.
    pub fn new(settings: AgentSettings) -> io::Result<AgentExecutor> {
        for folder in ["repos", "worktrees", "runs", "logs"] {
            DirBuilder::new().recursive(true).mode(0o700).create(settings.home.join(folder))?;
        }
        Ok(AgentExecutor { settings })
    }

    fn attempt(&self, job: &Job, control: &Control) -> Result<Report, EarlyExit> {
        let worktree = repository::prepare(&self.settings, &job.issue, control.stop())?;
        tracing::debug!(job = %job.id, "worktree ready");
        failpoint::here("worktree_made");
        let mut session = self.keep_session(job, control, &worktree)?;
        self.begin_from_base(job, control, &worktree, &mut session)?;
        failpoint::here("session_saved");
        self.run_rounds(job, control, &worktree, session, Round { number: 1, earlier: None })
    }

    /// From this round on: the message is the first, the reminder the second and last.
    fn run_rounds(
        &self,
        job: &Job,
        control: &Control,
        worktree: &Worktree,
        mut session: Session,
        mut round: Round,
    ) -> Result<Report, EarlyExit> {
        for _ in 0..ROUNDS {
            let number = round.number;
            let name = format!("{}-{}-{number}", job.id, control.token());
            let dir = RunDir::at(&self.settings.runs().join(name));
            let (running, run, plan) = self.start(job, control, worktree, &session, &dir, round)?;
            let shim = running.identity;
            let nonce = running.nonce.clone();
            // A child is waited for, so that it does not stay as a zombie.
            let learns = self.settings.command.has_sessions();
            let stop_sent = self.attend(
                control,
                &dir,
                shim,
                move |_| running.wait(),
                || learns && !self.learn_session(job, control, &mut session, &plan),
            )?;
            let record = self.record_of(&dir, &run, &nonce)?;
            self.learn_session(job, control, &mut session, &plan);
            let over =
                OverRun { dir: &dir, plan: &plan, record: &record, stop_sent, now: control.now() };
            match self.verdict(job, &over)? {
                Verdict::Remind => {
                    tracing::info!(job = %job.id, "no commit, but changes: reminding the agent");
                    failpoint::here("reminded");
                    round = Round { number: number + 1, earlier: Some(record) };
                }
                Verdict::Over(report) => {
                    self.forget_lost_session(job, control, session, &report);
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
    ) -> Result<Session, EarlyExit> {
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

    /// A session that has not begun begins as a copy of the base, if there is one. It is in the
    /// store before the agent runs: whatever becomes of the run, the issue goes on with it.
    fn begin_from_base(
        &self,
        job: &Job,
        control: &Control,
        worktree: &Worktree,
        session: &mut Session,
    ) -> Result<(), EarlyExit> {
        let Some(base) = &self.settings.base_session else { return Ok(()) };
        if session.id.is_some() {
            return Ok(());
        }
        let command =
            self.settings.command.fill(&self.values(job, worktree, session, Path::new("")));
        let copy = base_session::copy(&Copying {
            program: command.first().map_or("", String::as_str),
            base,
            folder: &worktree.folder,
            title: &format!("kugetsu:{}:{}", job.id, job.attempt_number()),
            stop: control.stop(),
            orphan: Orphan::IsKilledBy(&self.settings.shim),
        });
        session.id = Some(copy.map_err(|error| match error {
            CopyError::Stopped(stop) => early_exit_on(stop),
            CopyError::Failed(why) => {
                Report::new(Reason::StartFailed, self.without_secrets(why)).into()
            }
        })?);
        self.save_session(job, control, session)
    }

    /// The session that the agent named in its log. Says whether it did. A store that is busy now
    /// is no reason to doubt the run.
    fn learn_session(
        &self,
        job: &Job,
        control: &Control,
        session: &mut Session,
        plan: &Plan,
    ) -> bool {
        let found = log::session(&plan.log, plan.log_from).unwrap_or_default();
        let is_named = found.is_some();
        if is_named && found != session.id {
            session.id = found;
            if self.save_session(job, control, session).is_err() {
                tracing::warn!(job = %job.id, "cannot remember the agent's session");
            }
        }
        is_named
    }

    fn save_session(
        &self,
        job: &Job,
        control: &Control,
        session: &mut Session,
    ) -> Result<(), EarlyExit> {
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
    ) {
        if report.reason == Reason::StartFailed && report.detail.contains("Session not found") {
            session.id = None;
            if self.save_session(job, control, &mut session).is_err() {
                tracing::warn!(job = %job.id, "cannot forget a session that the agent has lost");
            }
        }
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

    /// Starts the agent: shim, gate, record, and only then the go-ahead. What another holder of the
    /// job could see is written by the shim, past its gate: this worker may be stopped at any line,
    /// and go on when the job is another's.
    fn start(
        &self,
        job: &Job,
        control: &Control,
        worktree: &Worktree,
        session: &Session,
        dir: &RunDir,
        round: Round,
    ) -> Result<(Running, Run, Plan), EarlyExit> {
        dir.create().map_err(start_failed("make the run's folder"))?;
        let log = self.settings.log(job.id);
        let text = if round.number == 1 { &job.message } else { message::REMINDER };
        message::write_message(job, worktree, text, dir)
            .map_err(start_failed("write the message"))?;
        failpoint::here("message_written");
        let spec = self.spec(job, worktree, session, dir);
        dir.write_spec(&spec).map_err(start_failed("write the run's spec"))?;
        failpoint::here("before_shim");
        tracing::debug!(job = %job.id, "starting the shim");
        let gated = spawn::spawn(
            &self.settings.shim,
            dir,
            &spec.environment_removed,
            &self.settings.secrets,
        )
        .map_err(start_failed("start the shim"))?;
        tracing::debug!(job = %job.id, pid = gated.identity().pid, "the shim is at its gate");
        failpoint::here("shim_at_gate");
        let boot_id = identity::boot_id().map_err(start_failed("read the boot id"))?;
        let run = Run {
            pid: gated.identity().pid,
            start_time: gated.identity().start_time,
            boot_id,
            folder: dir.name(),
            started_at: control.now(),
            round: round.number,
        };
        control.record_run(run.clone())?;
        failpoint::here("run_recorded");
        let log_from = message::begin_log(&log, job, round.number, control.now())
            .map_err(start_failed(&format!("write the log {}", log.display())))?;
        let plan = Plan {
            worktree: worktree.folder.clone(),
            base: worktree.base.clone(),
            head_before: worktree.head.clone(),
            log,
            log_from,
            round: round.number,
            earlier: round.earlier,
        };
        write_json(&dir.file("plan.json"), &plan).map_err(start_failed("write the run's plan"))?;
        failpoint::here("plan_written");
        // A request to stop that came in the meantime: nothing has run yet, and dropping the gate
        // keeps it so.
        if let Ok(stop) = control.stop().try_recv() {
            return Err(early_exit_on(stop));
        }
        failpoint::here("before_gate");
        let running = gated.open().map_err(start_failed("open the gate"))?;
        failpoint::here("gate_opened");
        let pid = running.identity.pid;
        tracing::info!(job = %job.id, issue = %job.issue, pid, "agent started");
        Ok((running, run, plan))
    }

    fn values(&self, job: &Job, worktree: &Worktree, session: &Session, message: &Path) -> Values {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Values {
            message_file: text(message),
            session: session.id.clone().unwrap_or_default(),
            worktree: text(&worktree.folder),
            job: job.id.to_string(),
            attempt: job.attempt_number().to_string(),
            issue: job.issue.to_string(),
            branch: worktree.branch.clone(),
        }
    }

    fn spec(&self, job: &Job, worktree: &Worktree, session: &Session, dir: &RunDir) -> RunSpec {
        let message = dir.agent_file(message::MESSAGE);
        let values = self.values(job, worktree, session, &message);
        let run = dir.path().to_string_lossy().into_owned();
        let result = dir.agent_file(RESULT).to_string_lossy().into_owned();
        let temporary = dir.agent_file(TEMPORARY_FOLDER).to_string_lossy().into_owned();
        let environment = [
            ("KUGETSU_MESSAGE_FILE", &values.message_file),
            ("KUGETSU_SESSION", &values.session),
            ("KUGETSU_WORKTREE", &values.worktree),
            ("KUGETSU_JOB", &format!("{}/{}", values.job, values.attempt)),
            ("KUGETSU_ATTEMPT", &values.attempt),
            ("KUGETSU_ISSUE", &values.issue),
            ("KUGETSU_BRANCH", &values.branch),
            ("KUGETSU_RUN", &run),
            ("KUGETSU_RESULT", &result),
            ("TMPDIR", &temporary),
        ];
        RunSpec {
            arguments: self.settings.command.fill(&values),
            folder: worktree.folder.clone(),
            stdin: message,
            log: self.settings.log(job.id),
            places: Vec::new(),
            environment: environment.map(|(name, value)| (name.into(), value.clone())).into(),
            environment_removed: environment_removed().map(str::to_string).collect(),
            timeout_ms: job.timeout_ms.unwrap_or(self.settings.timeout_ms),
            kill_grace_ms: self.settings.kill_grace_ms,
            log_bytes_max: self.settings.log_bytes_max,
            idle_ms: self.settings.idle_ms,
            steps_max: self.settings.steps_max,
            cost_micros_max: self.settings.cost_micros_max,
            steps: Vec::new(),
            sandbox: None,
            untrusted: vec![self.settings.worktrees()],
        }
    }

    /// Waits for the shim, and passes requests to stop on to it; gives the request, if there was
    /// one. Calls
    /// `learn` now and then, for as long as it wants to be. From here on the agent may be alive, so
    /// whatever goes wrong leaves it to the next worker.
    fn attend(
        &self,
        control: &Control,
        dir: &RunDir,
        shim: Identity,
        wait: impl FnOnce(&RunDir) -> io::Result<()> + Send + 'static,
        mut learn: impl FnMut() -> bool,
    ) -> Result<Option<Stop>, EarlyExit> {
        let (sender, ended) = bounded(1);
        let waiter = thread::Builder::new().name("shim".into());
        let waited_for = dir.clone();
        if let Err(error) = waiter.spawn(move || sender.send(wait(&waited_for))) {
            tracing::error!(%error, "no thread to wait for the agent");
            return Err(EarlyExit::LeftAlone);
        }
        let mut stop_sent = None;
        let mut patience = never();
        let mut poll_ms = limits::SESSION_POLL_MS_FIRST;
        let mut poll = after(Duration::from_millis(poll_ms));
        loop {
            select! {
                recv(ended) -> _ => {
                    failpoint::here("agent_ended");
                    return Ok(stop_sent);
                }
                recv(poll) -> _ => {
                    poll_ms = (2 * poll_ms).min(limits::SESSION_POLL_MS_MAX);
                    poll = if learn() { after(Duration::from_millis(poll_ms)) } else { never() };
                }
                recv(control.stop()) -> stop => match stop.unwrap_or(Stop::LeaseLost) {
                    Stop::Detach | Stop::LeaseLost => return Err(EarlyExit::LeftAlone),
                    stop @ (Stop::Cancel | Stop::Shutdown) => {
                        if stop_sent.replace(stop).is_none() {
                            if let Err(error) = remains::request_end(dir, shim) {
                                tracing::error!(pid = shim.pid, %error, "cannot signal the shim");
                            }
                            patience = after(self.ending_time());
                        }
                    }
                },
                recv(patience) -> _ => {
                    tracing::error!(pid = shim.pid, "the shim does not end its agent; killing both");
                    // One that cannot be signalled is gone, or is looked at again.
                    let _ = shim.signal(Signal::SIGKILL);
                    patience = after(self.ending_time());
                }
            }
        }
    }

    /// How a run ended whose shim was ours: nothing of it may go on.
    fn record_of(&self, dir: &RunDir, run: &Run, nonce: &str) -> Result<ExitRecord, EarlyExit> {
        match self.what_is_left(dir, run, Some(nonce))? {
            Left::Record(record) => Ok(*record),
            Left::NothingRan => {
                let why = "the shim ended before the agent started";
                Err(Report::new(Reason::StartFailed, why).into())
            }
            Left::Vanished(why) => Err(self.lost(dir, &why).into()),
            // Something of it lives on: the issue stays taken, and recovery looks again.
            Left::Supervised | Left::Orphaned => Err(EarlyExit::LeftAlone),
        }
    }

    /// Twice what the shim needs, and what a busy machine adds.
    fn ending_time(&self) -> Duration {
        Duration::from_millis(2 * self.settings.kill_grace_ms + limits::SHIM_READY_MS_MAX)
    }

    /// A run that nobody saw end. What it committed counts for the next attempt.
    fn lost(&self, dir: &RunDir, why: &str) -> Report {
        let plan: Option<Plan> = read_json(&dir.file("plan.json")).unwrap_or_default();
        let traces = plan.as_ref().and_then(|plan| plan.traces().ok());
        let commits = traces.map_or(0, |traces| traces.commits);
        let earlier = plan.and_then(|plan| plan.earlier);
        let usage = earlier.map_or(Usage::NOTHING, |earlier| completion::usage(&earlier));
        Report { commits, usage, ..Report::new(Reason::Lost, why) }
    }

    fn verdict(&self, job: &Job, over: &OverRun<'_>) -> Result<Verdict, EarlyExit> {
        let OverRun { dir, plan, record, stop_sent, now } = *over;
        let traces = match plan.traces() {
            Ok(traces) => traces,
            // What was ended is judged by why, whatever became of its worktree.
            Err(_) if record.cause != Cause::Exited => Traces { commits: 0, is_dirty: false },
            Err(error) => return Err(error.into()),
        };
        let last_lines = log::last_lines(&plan.log, plan.log_from).unwrap_or_default();
        Ok(judge(&Evidence {
            completion: self.settings.completion,
            record,
            traces: &traces,
            commits_before: job.commits_of_failed_attempts(),
            stop_sent,
            was_reminded: plan.round > 1,
            last_lines: &self.without_secrets(last_lines),
            earlier: plan.earlier.as_ref(),
            result: result::read(dir),
            now,
        }))
    }

    /// What an agent says ends up in the store; what it was trusted with does not.
    fn without_secrets(&self, words: String) -> String {
        let secrets = self.settings.secrets.iter().filter(|(_, secret)| !secret.is_empty());
        secrets.fold(words, |words, (_, secret)| words.replace(secret, "…"))
    }
}
