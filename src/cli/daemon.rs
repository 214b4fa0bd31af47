//! `queue-daemon`: a worker in the background.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use clap::{Args, Subcommand};
use crossbeam_channel::{after, bounded, select};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::cli::context::{
    CliError, Context, begin_logging, make_folder, parse_duration, print, print_note, stop_requests,
};
use crate::cli::exit::CliExit;
use crate::cli::list::whole_number;
use crate::cli::logs::LogReader;
use crate::cli::render::{self, Format};
use crate::cli::worker;
use crate::config::Config;
use crate::job::limits;
use crate::process::command;
use crate::process::lock::{self, LockHolder, LockState};
use crate::process::safe_file;
use crate::time::{Clock, SystemClock};
use crate::worker::OnTerminate;

/// What the background process says once it is at work.
const READY: &str = "ready\n";
/// How often to look at a log without a wake-up.
const POLL: Duration = Duration::from_millis(250);

#[derive(Subcommand)]
pub(super) enum DaemonVerb {
    /// Start a worker in the background; one that runs already is enough
    Start,
    /// End it, and wait until it has
    Stop(StopArguments),
    /// End it and start it anew, with the configuration as it is now
    Restart(StopArguments),
    /// Tell whether it runs: exit code 0 if it does, 3 if not
    Status(StatusArguments),
    /// Show what it said
    Logs(LogsArguments),
}

#[derive(Args)]
#[command(after_help = "\
It ends as KUGETSU_ON_TERM says: unless you set it, its agents go on, and the next
worker takes their results.")]
pub(super) struct StopArguments {
    /// How long to wait for its end; with KUGETSU_ON_TERM=drain that may be long
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    timeout: String,
}

#[derive(Args)]
pub(super) struct StatusArguments {
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Args)]
pub(super) struct LogsArguments {
    /// Go on showing what is added, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// How many lines to begin with
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = whole_number::<usize>, allow_negative_numbers = true)]
    lines: usize,
}

pub(super) fn run(context: &Context, verb: &DaemonVerb) -> Result<CliExit, CliError> {
    let config = context.config()?;
    match verb {
        DaemonVerb::Start => start(context, &config),
        DaemonVerb::Stop(arguments) => stop(&config, arguments),
        DaemonVerb::Restart(arguments) => match stop(&config, arguments)? {
            CliExit::Success | CliExit::NotFound => start(context, &config),
            exit => Ok(exit),
        },
        DaemonVerb::Status(arguments) => status(context, &config, arguments),
        DaemonVerb::Logs(arguments) => logs(&config, arguments),
    }
}

fn lock_file(config: &Config) -> PathBuf {
    config.home.join("queue-daemon.lock")
}

fn log_file(config: &Config) -> PathBuf {
    config.home.join("logs/queue-daemon.log")
}

fn start(context: &Context, config: &Config) -> Result<CliExit, CliError> {
    if let LockState::Held(holder) = lock::inspect(&lock_file(config))? {
        return tell_that_it_runs(holder);
    }
    // What is missing is better said here than in a log.
    worker::check_programs(context, config)?;
    context.queue(config)?;
    make_folder(&config.home.join("logs"))?;
    let log = begin_log(&log_file(config))?;
    let log_bytes = log.metadata()?.len();
    let mut child = command("/proc/self/exe")
        .arg("queue-daemon-process")
        .current_dir(&config.home)
        // It may have been said relative to where this was typed.
        .env("KUGETSU_DIR", &config.home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    let mut stdout = child.stdout.take().expect("it is a pipe");
    let (sender, said) = bounded(1);
    thread::Builder::new().name("ready".into()).spawn(move || {
        let mut word = vec![0; READY.len()];
        // Whoever waited may have given up.
        let _ = sender.send(stdout.read_exact(&mut word).is_ok() && word == READY.as_bytes());
    })?;
    let patience = Duration::from_millis(limits::SHIM_READY_MS_MAX);
    if said.recv_timeout(patience).unwrap_or(false) {
        print(&format!("Started queue-daemon (pid {})\n", child.id()))?;
        print_note("`kugetsu queue-daemon logs -f` shows what it does");
        return Ok(CliExit::Success);
    }
    // Somebody else's start may have been faster.
    if let LockState::Held(holder) = lock::inspect(&lock_file(config))? {
        return tell_that_it_runs(holder);
    }
    let why = last_line(&log_file(config), log_bytes).unwrap_or_default();
    Err(CliError::general(format!("the queue-daemon did not start: {why}"))
        .hint(format!("see {}", log_file(config).display())))
}

fn tell_that_it_runs(holder: Option<LockHolder>) -> Result<CliExit, CliError> {
    print(&format!("queue-daemon runs already{}\n", pid_of(holder)))?;
    Ok(CliExit::Success)
}

fn pid_of(holder: Option<LockHolder>) -> String {
    holder.map_or(String::new(), |holder| format!(" (pid {})", holder.process.pid))
}

/// The log, which begins anew when it has grown large; the one before is kept.
fn begin_log(path: &Path) -> io::Result<File> {
    let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
    if length > limits::DAEMON_LOG_BYTES_MAX {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    safe_file::open_append(path)
}

fn last_line(log: &Path, from: u64) -> Option<String> {
    let mut file = safe_file::open_regular(log).ok()?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(from)).ok()?;
    let mut text = String::new();
    file.take(limits::RECORD_BYTES_MAX).read_to_string(&mut text).ok()?;
    let said = text.lines().find_map(|line| line.strip_prefix("error: ").map(str::to_string));
    said.or_else(|| text.lines().next_back().map(str::to_string))
}

/// The background process: holds the lock for as long as it lives.
pub(super) fn work(context: &Context) -> Result<CliExit, CliError> {
    let config = context.config()?;
    // Away from the terminal that the command was typed at.
    nix::unistd::setsid().map_err(io::Error::from)?;
    let path = lock_file(&config);
    let Some(_held) = lock::try_take(&path, SystemClock.now())? else {
        return Err(CliError::general(format!("another process holds {}", path.display())));
    };
    // It was started as /proc/self/exe, and would be called `exe` in lists of processes.
    nix::sys::prctl::set_name(c"kugetsu").map_err(io::Error::from)?;
    begin_logging(context);
    let exit = worker::work(context, config, false, || {
        let mut stdout = io::stdout().lock();
        // Whoever started it may be gone; the work is the same.
        let _ = stdout.write_all(READY.as_bytes()).and_then(|()| stdout.flush());
    })?;
    tracing::info!("ended");
    Ok(exit)
}

fn stop(config: &Config, arguments: &StopArguments) -> Result<CliExit, CliError> {
    let timeout_ms = parse_duration("timeout", &arguments.timeout)?;
    let path = lock_file(config);
    let holder = match lock::inspect(&path)? {
        LockState::Free => {
            print("queue-daemon does not run\n")?;
            return Ok(CliExit::NotFound);
        }
        LockState::Held(Some(holder)) => holder,
        LockState::Held(None) => {
            let why = format!("somebody holds {}, and it does not say who", path.display());
            return Err(CliError::general(why).hint("try again: it may just be starting"));
        }
    };
    let pid = holder.process.pid;
    // One that ended by itself in the meantime has stopped, too.
    holder.process.signal(Signal::SIGTERM)?;
    if config.on_terminate == OnTerminate::Drain {
        print_note("waiting for its agents (KUGETSU_ON_TERM=drain)");
    }
    if lock::wait_until_free(&path, Duration::from_millis(timeout_ms))? {
        print(&format!("Stopped queue-daemon (pid {pid})\n"))?;
        return Ok(CliExit::Success);
    }
    let why = format!("queue-daemon (pid {pid}) was told to end, and has not yet");
    Err(CliError::new(CliExit::TimedOut, why)
        .hint("`kugetsu queue-daemon logs` tells what it does"))
}

fn status(
    context: &Context,
    config: &Config,
    arguments: &StatusArguments,
) -> Result<CliExit, CliError> {
    let state = lock::inspect(&lock_file(config))?;
    let holder = match state {
        LockState::Free => None,
        LockState::Held(holder) => holder,
    };
    let queue = context.queue(config)?;
    let stats = queue.stats()?;
    let text = match (arguments.format, state) {
        (Format::Json, _) => format!(
            "{:#}\n",
            json!({
                "running": state != LockState::Free,
                "pid": holder.map(|holder| holder.process.pid),
                "since": holder.map(|holder| holder.since.to_string()),
                "pending": stats.pending,
                "notified": stats.notified,
            })
        ),
        (Format::Text, LockState::Free) => "queue-daemon does not run\n".into(),
        (Format::Text, LockState::Held(holder)) => {
            let since = holder.map(|holder| render::ago(queue.now(), holder.since));
            let since = since.map_or(String::new(), |ago| format!(" for {ago}"));
            format!(
                "queue-daemon runs{since}{}: {} job(s) pending, {} running\n",
                pid_of(holder),
                stats.pending,
                stats.notified
            )
        }
    };
    print(&text)?;
    Ok(if state == LockState::Free { CliExit::NotFound } else { CliExit::Success })
}

fn logs(config: &Config, arguments: &LogsArguments) -> Result<CliExit, CliError> {
    let path = log_file(config);
    let interrupted = stop_requests()?;
    let mut file = match safe_file::open_regular(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let why = "the queue-daemon has no log: it was never started";
            return Err(CliError::new(CliExit::NotFound, why).hint("`kugetsu queue-daemon start`"));
        }
        file => file?,
    };
    skip_to_last_lines(&mut file, arguments.lines)?;
    let mut inode = file.metadata()?.ino();
    let mut reader = LogReader::new(file, true);
    loop {
        if !reader.copy()? || !arguments.follow {
            reader.end()?;
            return Ok(CliExit::Success);
        }
        select! {
            recv(interrupted) -> _ => return Ok(CliExit::Interrupted),
            recv(after(POLL)) -> _ => {}
        }
        // A restart may have begun a new log; the rest of the old one is shown first.
        let now = fs::metadata(&path).map_or(inode, |metadata| metadata.ino());
        if now != inode && reader.copy()? {
            reader.end()?;
            inode = now;
            reader = LogReader::new(safe_file::open_regular(&path)?, true);
        }
    }
}

/// Leaves the file at the first of its last lines.
fn skip_to_last_lines(file: &mut File, count: usize) -> io::Result<()> {
    let mut lengths = std::collections::VecDeque::new();
    let mut reader = BufReader::new(&mut *file);
    let mut line = Vec::new();
    let mut total = 0;
    loop {
        line.clear();
        let length =
            reader.by_ref().take(limits::LOG_LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if length == 0 {
            break;
        }
        total += length as u64;
        lengths.push_back(length as u64);
        if lengths.len() > count {
            lengths.pop_front();
        }
    }
    drop(reader);
    let start = total - lengths.iter().sum::<u64>();
    io::Seek::seek(file, io::SeekFrom::Start(start)).map(drop)
}
