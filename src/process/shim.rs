//! The shim: a small process of our own round each agent.
//!
//! It outlives the worker, holds the run's lock and limits, is the parent of whatever the agent
//! leaves behind, and writes down how it ended. It never touches the store.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};

use crate::failpoint;
use crate::job::limits;
use crate::process::cgroup::Cgroup;
use crate::process::meter::{Meter, ModelUsage};
use crate::process::run::{Cause, ExitRecord, RunDir, RunSpec, write_whole};
use crate::process::signals::{Heard, Signals};
use crate::process::{command, remove_variables, retry_interrupted, tree};
use crate::time::{Clock, SystemClock, monotonic};

/// What the shim says on its standard output once it holds the lock.
pub const READY: &[u8] = b"ready\n";
/// What the worker says on the shim's standard input to let the agent start.
pub const GO: u8 = b'G';

/// Runs the shim of a run's folder to its end. An error is one of the shim, not of the agent.
pub fn run(folder: &Path) -> io::Result<()> {
    let run = RunDir::at(folder);
    // Fails where the shim leads a group already, and then it leads what it needs to.
    let _ = setsid();
    prctl::set_child_subreaper(true)?;
    prctl::set_name(c"kugetsu-shim")?;
    let spec = run.spec()?.ok_or_else(|| io::Error::other("the run has no spec.json"))?;
    let lock = run.try_lock()?.ok_or_else(|| io::Error::other("the run's lock is held"))?;
    let _alive = run
        .hold_shim(SystemClock.now())?
        .ok_or_else(|| io::Error::other("another shim holds the run"))?;
    failpoint::here("shim_locked");
    let signals = Signals::catch()?;
    io::stdout().write_all(READY)?;
    io::stdout().flush()?;
    failpoint::here("at_gate");
    if !wait_at_gate(&signals)? {
        return Ok(());
    }
    failpoint::here("past_gate");
    run.mark_started()?;
    failpoint::here("started_marked");
    // systemd says so to what it runs. Elsewhere the group we are in is not ours to divide.
    let is_service = std::env::vars_os().any(|(name, _)| name == "INVOCATION_ID");
    let cgroup = if is_service { run.make_cgroup()? } else { None };
    let record = supervise(&spec, &signals, &lock, cgroup.as_ref())?;
    if let Some(cgroup) = cgroup {
        cgroup.remove();
    }
    failpoint::here("before_record");
    run.write_exit_record(&record).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot write exit.json: {error}"))
    })?;
    failpoint::here("recorded");
    Ok(())
}

/// Whether the worker said go. Its end of the pipe closes with it, however it ends.
fn wait_at_gate(signals: &Signals) -> io::Result<bool> {
    let stdin = io::stdin();
    let mut ready = [
        PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
        PollFd::new(signals.stop_requests(), PollFlags::POLLIN),
    ];
    let timeout = PollTimeout::try_from(Duration::from_millis(limits::GATE_WAIT_MS_MAX))
        .map_err(io::Error::other)?;
    if retry_interrupted(|| poll(&mut ready, timeout))? == 0 || ready[1].any().unwrap_or(true) {
        return Ok(false);
    }
    let mut word = [0];
    Ok(stdin.lock().read(&mut word)? == 1 && word[0] == GO)
}

/// The agent's life.
struct Agent<'s> {
    spec: &'s RunSpec,
    cgroup: Option<&'s Cgroup>,
    signals: &'s Signals,
    pid: Pid,
    began: Instant,
    log_bytes_before: u64,
    /// How much it had logged when that was looked at last, and whether that was more than before.
    logged: u64,
    is_logging: bool,
    meter: Option<Meter>,
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

fn supervise(
    spec: &RunSpec,
    signals: &Signals,
    lock: &File,
    cgroup: Option<&Cgroup>,
) -> io::Result<ExitRecord> {
    let log_bytes_before = fs::metadata(&spec.log).map_or(0, |metadata| metadata.len());
    let began = monotonic();
    let pid = match place(spec).and_then(|()| start(spec, lock, cgroup)) {
        Ok(pid) => pid,
        Err(error) => return Ok(not_started(spec, &error)),
    };
    failpoint::here("agent_spawned");
    let mut agent = Agent {
        spec,
        cgroup,
        signals,
        pid,
        began,
        log_bytes_before,
        logged: 0,
        is_logging: true,
        // Without one nothing is counted, and the run is as good.
        meter: Meter::begin(&spec.log, log_bytes_before).ok(),
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
    let left_behind = sweep(signals, cgroup)?;
    failpoint::here("swept");
    let log_bytes = agent.log_bytes();
    agent.read_meter(log_bytes);
    if log_bytes > spec.log_bytes_max {
        shorten_log(spec, log_bytes_before)?;
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let (exit_code, signal) = match agent.ended {
        Some(WaitStatus::Exited(_, code)) => (Some(code), None),
        Some(WaitStatus::Signaled(_, signal, _)) => (None, Some(signal as i32)),
        _ => (None, None),
    };
    Ok(ExitRecord {
        cause: agent.ending.map_or(Cause::Exited, |(cause, _)| cause),
        exit_code,
        signal,
        detail: String::new(),
        wall_ms,
        cpu_ms: cpu_ms_of(&usage),
        peak_memory_kib: u64::try_from(usage.max_rss()).unwrap_or(0),
        log_bytes,
        left_behind,
        usage: agent.meter.map_or(ModelUsage::default(), |meter| meter.usage),
    })
}

fn cpu_ms_of(usage: &nix::sys::resource::Usage) -> u64 {
    let ms = usage.user_time().num_milliseconds() + usage.system_time().num_milliseconds();
    u64::try_from(ms).unwrap_or(0)
}

/// Cuts a log that grew too large: its beginning stays, up to the bound, and its end, which tells
/// how it came to that.
fn shorten_log(spec: &RunSpec, log_bytes_before: u64) -> io::Result<()> {
    let mut log = File::options().read(true).write(true).open(&spec.log)?;
    let length = log.metadata()?.len();
    let tail_bytes = limits::LOG_TAIL_BYTES.min(spec.log_bytes_max / 2);
    let head_end = log_bytes_before + spec.log_bytes_max - tail_bytes;
    let mut tail = Vec::new();
    log.seek(SeekFrom::Start(length.saturating_sub(tail_bytes).max(head_end)))?;
    (&log).take(tail_bytes).read_to_end(&mut tail)?;
    let left_out = length - head_end - tail.len() as u64;
    log.set_len(head_end)?;
    log.seek(SeekFrom::Start(head_end))?;
    write!(log, "\n--- {left_out} bytes are left out: the log grew too large\n")?;
    log.write_all(&tail)
}

fn not_started(spec: &RunSpec, error: &io::Error) -> ExitRecord {
    let program = spec.arguments.first().map_or("", String::as_str);
    ExitRecord {
        cause: Cause::NotStarted,
        exit_code: None,
        signal: None,
        detail: format!("cannot start {program}: {error}"),
        wall_ms: 0,
        cpu_ms: 0,
        peak_memory_kib: 0,
        log_bytes: 0,
        left_behind: 0,
        usage: ModelUsage::default(),
    }
}

/// Past the gate, and not by the worker: one that was stopped in the meantime may have lost the job,
/// and another run may be at work where these go.
fn place(spec: &RunSpec) -> io::Result<()> {
    for (from, to) in &spec.places {
        if let Some(folder) = to.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        write_whole(to, &fs::read(from)?)?;
    }
    Ok(())
}

fn start(spec: &RunSpec, lock: &File, cgroup: Option<&Cgroup>) -> io::Result<Pid> {
    let (program, arguments) =
        spec.arguments.split_first().ok_or_else(|| io::Error::other("there is no command"))?;
    let log = File::options().append(true).open(&spec.log)?;
    let mut agent = command(program);
    agent
        .args(arguments)
        .current_dir(&spec.folder)
        .stdin(File::open(&spec.stdin)?)
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    remove_variables(&mut agent, &spec.environment_removed);
    agent.envs(spec.environment.iter().map(|(name, value)| (name, value)));
    agent.env("PWD", &spec.folder);
    // From here on the lock is held by whatever comes of the agent, and so until all of it ends.
    fcntl(lock, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let child = match cgroup {
        Some(cgroup) => cgroup.around(|| agent.spawn()),
        None => agent.spawn(),
    };
    fcntl(lock, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let pid = i32::try_from(child?.id()).map_err(io::Error::other)?;
    Ok(Pid::from_raw(pid))
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
            Heard::End => self.end(Cause::Terminated)?,
            Heard::Child | Heard::Nothing => {}
        }
        let logged = self.log_bytes();
        self.is_logging = logged > self.logged;
        self.logged = logged;
        if self.is_logging {
            self.active_at = monotonic();
            self.read_meter(logged);
        }
        match self.ending {
            Some((_, kill_at)) if monotonic() >= kill_at => self.kill(),
            Some(_) => Ok(()),
            None => match self.limit_reached()? {
                None => Ok(()),
                Some(Cause::LogLimit) => {
                    // No grace: it would be used to fill the disk.
                    self.end(Cause::LogLimit)?;
                    self.kill()
                }
                Some(cause) => self.end(cause),
            },
        }
    }

    fn limit_reached(&mut self) -> io::Result<Option<Cause>> {
        let spec = self.spec;
        let usage = self.meter.as_ref().map_or(ModelUsage::default(), |meter| meter.usage);
        Ok(if self.elapsed_ms() >= spec.timeout_ms {
            Some(Cause::Timeout)
        } else if self.logged > spec.log_bytes_max {
            Some(Cause::LogLimit)
        } else if spec.steps_max.is_some_and(|limit| usage.steps > limit) {
            Some(Cause::StepLimit)
        } else if spec.cost_micros_max.is_some_and(|limit| usage.cost_micros > limit) {
            Some(Cause::CostLimit)
        } else if self.is_idle()? {
            Some(Cause::IdleTimeout)
        } else {
            None
        })
    }

    /// Of a log that is too large, only what it may have is read.
    fn read_meter(&mut self, logged: u64) {
        let until = self.log_bytes_before + logged.min(self.spec.log_bytes_max);
        if let Some(Err(_)) = self.meter.as_mut().map(|meter| meter.read(until)) {
            // What was counted so far goes for nothing: half of it would say too little.
            self.meter = None;
        }
    }

    /// Whether it neither logged nor used the processor for as long as it may. A quiet agent may be
    /// compiling: its log alone does not tell.
    fn is_idle(&mut self) -> io::Result<bool> {
        let limit = Duration::from_millis(self.spec.idle_ms);
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
        Duration::from_millis((self.spec.idle_ms / limits::IDLE_CHECKS).max(limits::KILL_PAUSE_MS))
    }

    /// How long nothing can become due.
    fn patience(&self) -> Duration {
        let tick = if self.is_logging { limits::SHIM_TICK_MS } else { limits::SHIM_QUIET_TICK_MS };
        let tick = match self.spec.idle_ms {
            0 => Duration::from_millis(tick),
            // Several checks before it counts as idle.
            _ => Duration::from_millis(tick).min(self.idle_check_interval()),
        };
        let due_in = match self.ending {
            Some((_, kill_at)) => kill_at.saturating_duration_since(monotonic()),
            None => Duration::from_millis(self.spec.timeout_ms.saturating_sub(self.elapsed_ms())),
        };
        // A millisecond more, so that what is due has come when it is looked at.
        tick.min(due_in + Duration::from_millis(1))
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn log_bytes(&self) -> u64 {
        let length = fs::metadata(&self.spec.log).map_or(0, |metadata| metadata.len());
        length.saturating_sub(self.log_bytes_before)
    }

    fn end(&mut self, cause: Cause) -> io::Result<()> {
        let grace = Duration::from_millis(self.spec.kill_grace_ms);
        self.ending = Some((cause, monotonic() + grace));
        tree::signal_group(self.pid, Signal::SIGTERM)?;
        Ok(())
    }

    /// Kills the group and whatever else is below; again after a pause, should anything live.
    fn kill(&mut self) -> io::Result<()> {
        tree::signal_group(self.pid, Signal::SIGKILL)?;
        kill_all(self.cgroup)?;
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

/// How a shim is started: no terminal, both ends of its talk with the worker as pipes.
pub(super) fn command_for(program: &Path, run: &RunDir, errors: File) -> std::process::Command {
    let mut shim = command(program);
    shim.arg0("kugetsu")
        .arg("shim")
        .arg(run.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(errors);
    shim
}
