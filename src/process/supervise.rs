//! An agent's life under its shim: its start, its limits, and the end of all that it leaves behind.
//!
//! Its time is that of the machine's monotonic clock, which nobody sets and which stands still while
//! the machine sleeps: an agent that could not work has not used up its time.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::dialect::{HowEnded, Remedy, Transcript, Trouble};
use crate::failpoint;
use crate::job::limits;
use crate::process::cgroup::Cgroup;
use crate::process::lines::{Line, Lines};
use crate::process::oom::OomCount;
use crate::process::own_log::OwnLog;
use crate::process::record::TroubleRecord;
use crate::process::run::{Cause, ExitRecord, RunDir, RunSpec};
use crate::process::run_log::RunLog;
use crate::process::signals::{Heard, Signals};
use crate::process::start::{Started, follow_own_log, place, start};
use crate::process::{launch, remains, retry_interrupted, safe_file, tree};
use crate::time::{Clock, SystemClock, monotonic};

/// The agent's life.
struct Agent<'s> {
    run: &'s RunDir,
    spec: &'s RunSpec,
    cgroup: Option<Cgroup>,
    signals: &'s Signals,
    pid: Pid,
    began: Instant,
    log: RunLog,
    /// Whether there was something new in the log when that was looked at last.
    is_logging: bool,
    /// Whether there is more in it than was read.
    is_behind: bool,
    lines: Lines,
    said: Transcript,
    own_log: Option<OwnLog>,
    /// When it was last seen to do something.
    active_at: Instant,
    /// When its processor time was looked at last, and how much it was.
    cpu_checked_at: Instant,
    cpu_ms: u64,
    /// How the agent itself ended, once it has.
    ended: Option<WaitStatus>,
    /// Why it is being ended, and when it is killed.
    ending: Option<(Cause, Instant)>,
}

/// Runs the agent of a spec to its end, and everything that came of it too.
pub(super) fn supervise(
    run: &RunDir,
    spec: &RunSpec,
    signals: &Signals,
    lock: &File,
    cgroup: Option<Cgroup>,
) -> io::Result<ExitRecord> {
    let began = monotonic();
    let oom = OomCount::begin(cgroup.as_ref());
    let own_log = follow_own_log(spec);
    let started = place(spec)
        .and_then(|()| RunLog::open(&spec.log, spec.limits.log_bytes_max))
        .and_then(|log| Ok((start(run, spec, &log, lock, cgroup.as_ref())?, log)));
    let (Started { pid, cgroup_is_left }, log) = match started {
        Ok(started) => started,
        Err(error) => return Ok(not_started(spec, &error.to_string())),
    };
    failpoint::here("agent_spawned");
    let mut agent = Agent {
        run,
        spec,
        // A group that this process is in as well cannot be killed.
        cgroup: cgroup.filter(|_| cgroup_is_left),
        signals,
        pid,
        began,
        log,
        is_logging: true,
        is_behind: false,
        lines: Lines::default(),
        said: Transcript::new(),
        own_log,
        active_at: began,
        cpu_checked_at: began,
        cpu_ms: 0,
        ended: None,
        ending: None,
    };
    while agent.ended.is_none() {
        agent.step()?;
    }
    failpoint::here("agent_reaped");
    let wall_ms = agent.elapsed_ms();
    let left_behind = sweep(signals, agent.cgroup.as_ref())?;
    failpoint::here("swept");
    let oom_kills = oom.map_or(0, |count| count.rise());
    let record = agent.record()?;
    if let Some(cgroup) = agent.cgroup {
        cgroup.remove();
    }
    Ok(ExitRecord { wall_ms, left_behind, oom_kills, ..record })
}

/// Has a line of the agent's log read.
fn read(said: &mut Transcript, line: Line<'_>) {
    match line {
        Line::Whole(line) => said.read_line(line),
        Line::Beginning(line) => said.read_cut_line(line),
    }
}

fn cpu_ms_of(usage: &nix::sys::resource::Usage) -> u64 {
    let ms = usage.user_time().num_milliseconds() + usage.system_time().num_milliseconds();
    u64::try_from(ms).unwrap_or(0)
}

fn not_started(spec: &RunSpec, why: &str) -> ExitRecord {
    let program = spec.arguments.first().map_or("", String::as_str);
    ExitRecord::of(Cause::NotStarted, format!("cannot start {program}: {why}"))
}

impl Agent<'_> {
    /// Waits for the next thing to happen, and handles it.
    fn step(&mut self) -> io::Result<()> {
        let heard = self.signals.next(self.patience())?;
        // An agent that has ended by itself is not stopped by a signal that comes later.
        self.reap()?;
        if self.ended.is_some() {
            return Ok(());
        }
        match heard {
            Heard::End if self.ending.is_some() => self.kill()?,
            Heard::End => {
                if let Err(error) = remains::note_heard(self.run) {
                    tracing::warn!(%error, "cannot note that the end was asked for");
                }
                self.end(Cause::Terminated)?;
            }
            Heard::Child | Heard::Nothing => {}
        }
        // Before it is read: whoever reads a flood is slower than who writes it.
        self.is_logging = self.log.measure()?;
        if self.log.is_too_large() && self.ending.is_none() {
            // No grace: it would be used to fill the disk.
            self.end(Cause::LogLimit)?;
            return self.kill();
        }
        self.read_logs()?;
        match self.ending {
            Some((_, kill_at)) if monotonic() >= kill_at => self.kill(),
            Some(_) => Ok(()),
            None => match self.limit_reached()? {
                None => Ok(()),
                Some(cause) => self.end(cause),
            },
        }
    }

    fn read_logs(&mut self) -> io::Result<()> {
        let Agent { log, lines, said, .. } = self;
        self.is_behind = log.read_new(|bytes| lines.feed(bytes, |line| read(said, line)))?;
        if self.is_logging {
            self.active_at = monotonic();
        }
        if let Some(own_log) = &mut self.own_log {
            if self.is_logging {
                own_log.says.went_on();
            }
            own_log.read_new();
        }
        Ok(())
    }

    fn limit_reached(&mut self) -> io::Result<Option<Cause>> {
        let spec = self.spec;
        let usage = self.said.usage();
        let is_waiting = self.own_log.as_ref().is_some_and(|log| log.says.waiting().is_some());
        let unless_waiting = |cause| if is_waiting { Cause::ProviderWait } else { cause };
        Ok(if self.elapsed_ms() >= spec.limits.timeout_ms {
            Some(unless_waiting(Cause::Timeout))
        } else if spec.limits.steps_max.is_some_and(|limit| usage.steps > limit) {
            Some(Cause::StepLimit)
        } else if spec.limits.cost_micros_max.is_some_and(|limit| usage.cost_micros > limit) {
            Some(Cause::CostLimit)
        } else if is_waiting && self.waits_in_vain() {
            Some(Cause::ProviderWait)
        } else if self.is_idle()? {
            Some(unless_waiting(Cause::IdleTimeout))
        } else {
            None
        })
    }

    /// Whether the provider, as opencode tells of it in its own log alone, will not serve soon.
    fn waits_in_vain(&self) -> bool {
        let Some(says) = self.own_log.as_ref().map(|log| &log.says) else { return false };
        let now = SystemClock.now();
        let (Some(waiting), Some(trouble)) =
            (says.waiting(), says.trouble(now, &TimeZone::system()))
        else {
            return false;
        };
        let is_far =
            trouble.until.is_some_and(|until| until.ms_since(now) > limits::PROVIDER_PATIENCE_MS);
        let wants_a_person = match trouble.remedy {
            Remedy::Login | Remedy::Person => true,
            Remedy::Wait | Remedy::FreshSession | Remedy::StartAgain | Remedy::Nothing => false,
        };
        is_far
            || wants_a_person && now.ms_since(waiting.since) >= limits::PROVIDER_LOGIN_PATIENCE_MS
    }

    /// What there is to say when all of it has ended.
    fn record(&mut self) -> io::Result<ExitRecord> {
        self.log.measure()?;
        self.read_logs()?;
        while self.is_behind {
            self.read_logs()?;
        }
        let Agent { lines, said, .. } = self;
        lines.finish(|line| read(said, line));
        let mut cause = self.ending.map_or(Cause::Exited, |(cause, _)| cause);
        let mut detail = String::new();
        match self.log.finish() {
            Ok(told) => detail.push_str(told.unwrap_or_default()),
            Err(error) => {
                tracing::warn!(%error, "cannot put the log in order");
                detail = format!("its log could not be put in order: {error}");
            }
        }
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        let (exit_code, signal) = match self.ended {
            Some(WaitStatus::Exited(_, code)) => (Some(code), None),
            Some(WaitStatus::Signaled(_, signal, _)) => (None, Some(signal as i32)),
            _ => (None, None),
        };
        if cause == Cause::Exited
            && exit_code == Some(launch::NOT_STARTED)
            && let Some(why) = self.launch_failure()
        {
            cause = Cause::NotStarted;
            detail = not_started(self.spec, &why).detail;
        }
        let session = self.said.session().map(str::to_string);
        let session_logged = self.own_log.as_ref().and_then(|log| log.says.session());
        Ok(ExitRecord {
            exit_code,
            signal,
            cpu_ms: cpu_ms_of(&usage),
            peak_memory_kib: u64::try_from(usage.max_rss()).unwrap_or(0),
            log_bytes: self.log.added(),
            usage: self.said.usage().into(),
            was_ordered: cause == Cause::Terminated && remains::is_end_requested(self.run),
            session: session.or_else(|| session_logged.map(str::to_string)),
            trouble: self.trouble(cause, exit_code).map(TroubleRecord::from),
            last_words: self.said.last_words(),
            ..ExitRecord::of(cause, detail)
        })
    }

    /// What kept the agent from its work, as it said itself or as its program's own log does.
    fn trouble(&self, cause: Cause, exit_code: Option<i32>) -> Option<Trouble> {
        let by_time_limit = match cause {
            Cause::Timeout | Cause::IdleTimeout | Cause::ProviderWait => true,
            Cause::Exited
            | Cause::NotStarted
            | Cause::LogLimit
            | Cause::StepLimit
            | Cause::CostLimit
            | Cause::Terminated => false,
        };
        let (now, zone) = (SystemClock.now(), TimeZone::system());
        let said = self.said.trouble(HowEnded { exit_code, by_time_limit }, now, &zone);
        let logged = || {
            let says = &self.own_log.as_ref()?.says;
            // With a clean exit what was refused before is of no interest.
            (by_time_limit || exit_code != Some(0)).then(|| says.trouble(now, &zone))?
        };
        said.or_else(logged)
    }

    /// Why the launcher could not become the agent, if it could not.
    fn launch_failure(&self) -> Option<String> {
        if self.spec.sandbox.is_none() && self.spec.steps.is_empty() {
            return None;
        }
        let file = self.run.file(launch::FAILURE_FILE);
        let why = safe_file::read_text(&file, limits::RECORD_BYTES_MAX).ok()??;
        (!why.is_empty()).then_some(why)
    }

    /// Whether it neither logged nor used the processor for as long as it may. A quiet agent may be
    /// compiling: its log alone does not tell.
    fn is_idle(&mut self) -> io::Result<bool> {
        let limit = Duration::from_millis(self.spec.limits.idle_ms);
        let checked_ago = self.cpu_checked_at.elapsed();
        if limit.is_zero() || checked_ago < self.idle_check_interval() {
            return Ok(false);
        }
        let dead_ms = cpu_ms_of(&getrusage(UsageWho::RUSAGE_CHILDREN)?);
        let cpu_ms = dead_ms + tree::cpu_ms_of_descendants()?;
        let used = Duration::from_millis(cpu_ms.saturating_sub(self.cpu_ms));
        // What a process used is nowhere between its death and its parent's wait for it.
        let one_ended = cpu_ms < self.cpu_ms;
        self.cpu_ms = cpu_ms;
        self.cpu_checked_at = monotonic();
        if one_ended || used * 1000 >= checked_ago * limits::IDLE_CPU_PERMILLE {
            self.active_at = monotonic();
        }
        Ok(self.active_at.elapsed() >= limit)
    }

    /// How often to check the processor time.
    fn idle_check_interval(&self) -> Duration {
        Duration::from_millis(
            (self.spec.limits.idle_ms / limits::IDLE_CHECKS).max(limits::KILL_PAUSE_MS),
        )
    }

    /// How long nothing can become due.
    fn patience(&self) -> Duration {
        if self.is_behind {
            return Duration::ZERO;
        }
        let tick = if self.is_logging { limits::SHIM_TICK_MS } else { limits::SHIM_QUIET_TICK_MS };
        let tick = match self.spec.limits.idle_ms {
            0 => Duration::from_millis(tick),
            // Several checks before it counts as idle.
            _ => Duration::from_millis(tick).min(self.idle_check_interval()),
        };
        let due_in = match self.ending {
            Some((_, kill_at)) => kill_at.saturating_duration_since(monotonic()),
            None => {
                Duration::from_millis(self.spec.limits.timeout_ms.saturating_sub(self.elapsed_ms()))
            }
        };
        // A millisecond more, so that what is due has come when it is looked at.
        tick.min(due_in + Duration::from_millis(1))
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn end(&mut self, cause: Cause) -> io::Result<()> {
        let grace = Duration::from_millis(self.spec.limits.kill_grace_ms);
        self.ending = Some((cause, monotonic() + grace));
        tree::signal_group(self.pid, Signal::SIGTERM)?;
        Ok(())
    }

    /// Kills the group and whatever else is below; again after a pause, should anything live.
    fn kill(&mut self) -> io::Result<()> {
        tree::signal_group(self.pid, Signal::SIGKILL)?;
        kill_all(self.cgroup.as_ref())?;
        if let Some((_, kill_at)) = &mut self.ending {
            *kill_at = monotonic() + Duration::from_millis(limits::SHIM_QUIET_TICK_MS);
        }
        Ok(())
    }

    fn reap(&mut self) -> io::Result<()> {
        while let Some(status) = reap_one()? {
            if status.pid() == Some(self.pid) {
                self.ended = Some(status);
            }
        }
        Ok(())
    }
}

/// Kills whatever the agent left behind, until none is left. Says how many there were.
fn sweep(signals: &Signals, cgroup: Option<&Cgroup>) -> io::Result<u32> {
    let mut killed = 0;
    for round in 0..limits::KILL_ROUNDS_MAX {
        while reap_one()?.is_some() {}
        if !has_children()? {
            return Ok(killed);
        }
        let sent = kill_all(cgroup)?;
        if round == 0 {
            killed = sent;
        }
        // The death of a child ends this wait early.
        signals.next(Duration::from_millis(limits::KILL_PAUSE_MS))?;
    }
    Err(io::Error::other("processes of the agent do not die"))
}

/// Kills everything below this process, and says how many there were.
fn kill_all(cgroup: Option<&Cgroup>) -> io::Result<u32> {
    let killed = tree::kill_descendants()?;
    // On top, for what is not below it any more.
    if let Some(Err(error)) = cgroup.map(Cgroup::kill) {
        tracing::warn!(%error, "cannot kill the control group");
    }
    Ok(killed)
}

/// One child that has ended.
fn reap_one() -> io::Result<Option<WaitStatus>> {
    match retry_interrupted(|| waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG))) {
        Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => Ok(None),
        Ok(status) => Ok(Some(status)),
        Err(errno) => Err(errno.into()),
    }
}

fn has_children() -> io::Result<bool> {
    use nix::sys::wait::{Id, waitid};
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match retry_interrupted(|| waitid(Id::All, flags)) {
        Ok(_) => Ok(true),
        Err(Errno::ECHILD) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
