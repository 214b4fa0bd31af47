//! `logs`

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use crossbeam_channel::{after, never, select};

use crate::cli::context::{
    CliError, Context, cannot_print, parse_issue, print_note, stop_requests,
};
use crate::cli::exit::CliExit;
use crate::cli::transcript;
use crate::job::{Job, JobId, limits};
use crate::process::safe_file;
use crate::queue::Queue;
use crate::store::{ListQuery, Watch};
use crate::time::Timestamp;

/// How often to look at a log when nothing tells to.
const POLL: Duration = Duration::from_secs(1);

#[derive(Args)]
#[command(after_help = "\
Examples:
  kugetsu logs 41
  kugetsu logs github.com/shoko/kugetsu#14 -f")]
pub(super) struct Arguments {
    /// A job's number, or an issue: its job that is at work, or was last, is shown
    #[arg(value_name = "ID|REF")]
    job: String,
    /// Go on showing what is added, until the job has ended
    #[arg(short, long)]
    follow: bool,
    /// The log as it is, and not what opencode's events in it say
    #[arg(long)]
    raw: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let config = context.config()?;
    let queue = context.queue(&config)?;
    let job = find(&queue, &arguments.job)?;
    let log = config.agents().log(job.id);
    if arguments.follow {
        return follow(&queue, job.id, &log, arguments.raw);
    }
    let file = match safe_file::open_regular(&log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let state = job.state.kind();
            if state.is_ended() {
                let message = format!("job {} has no log: its agent never started", job.id);
                return Err(CliError::general(message).hint("`kugetsu queue show` tells why"));
            }
            let message = format!("job {} has no log yet: it is {state}", job.id);
            return Err(CliError::general(message).hint("-f waits for it"));
        }
        Err(error) => return Err(cannot_open(&log, &error)),
        Ok(file) => file,
    };
    let mut reader = LogReader::new(file, arguments.raw);
    reader.copy()?;
    reader.end()?;
    Ok(CliExit::Success)
}

fn cannot_open(log: &Path, error: &io::Error) -> CliError {
    CliError::general(format!("cannot open {}: {error}", log.display()))
}

/// The job of a number, or an issue's that is or was at work last.
pub(super) fn find(queue: &Queue, text: &str) -> Result<Job, CliError> {
    if let Ok(id) = text.parse() {
        return queue.get(id)?.ok_or_else(|| CliError::no_such_job(id));
    }
    let issue = parse_issue(text)?;
    let query = ListQuery { states: Vec::new(), issue: Some(issue), limit: 100 };
    let last = queue.list(&query)?.items.into_iter().max_by_key(|job| (agent_began(job), job.id));
    last.ok_or_else(|| CliError {
        exit: CliExit::NotFound,
        ..CliError::general(format!("{text} has no job"))
    })
}

/// When the job's last agent did; one at work goes before all, and one that never was comes last.
fn agent_began(job: &Job) -> Timestamp {
    match job.lease() {
        Some(_) => Timestamp(u64::MAX),
        None => job.attempts.last().map_or(Timestamp(0), |attempt| attempt.claimed_at),
    }
}

/// Shows the log from its beginning, and on until the job has ended and all of it is shown.
fn follow(queue: &Queue, id: JobId, path: &Path, raw: bool) -> Result<CliExit, CliError> {
    let interrupted = stop_requests()?;
    let changes = queue.watch();
    let mut log = None;
    let mut growth: Option<Watch> = None;
    loop {
        // Read before the log is: what was logged before the end is shown.
        let job = queue.get(id)?.ok_or_else(|| CliError::no_such_job(id))?;
        if log.is_none() {
            log = match safe_file::open_regular(path) {
                Ok(file) => Some(LogReader::new(file, raw)),
                // There will be one.
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(cannot_open(path, &error)),
            };
            growth = log.as_ref().map(|_| Watch::file_if_possible(path));
        }
        if let Some(log) = &mut log
            && !log.copy()?
        {
            return Ok(CliExit::Success);
        }
        if job.state.kind().is_ended() {
            if let Some(log) = &mut log {
                log.end()?;
            }
            return Ok(CliExit::Success);
        }
        let nothing = never();
        let growth = growth.as_ref().map_or(&nothing, Watch::wakeups);
        select! {
            recv(growth) -> _ => {}
            recv(changes.wakeups()) -> _ => {}
            recv(interrupted) -> _ => {
                print_note("the job goes on");
                return Ok(CliExit::Interrupted);
            }
            recv(after(POLL)) -> _ => {}
        }
    }
}

/// Reads a log that grows, and shows whole lines of it.
pub(super) struct LogReader {
    log: BufReader<File>,
    raw: bool,
    /// The beginning of a line whose end is not there yet.
    line: Vec<u8>,
}

impl LogReader {
    pub fn new(log: File, raw: bool) -> LogReader {
        LogReader { log: BufReader::new(log), raw, line: Vec::new() }
    }

    /// Shows what is there. Says whether somebody still reads it.
    pub fn copy(&mut self) -> Result<bool, CliError> {
        let mut stdout = BufWriter::new(io::stdout().lock());
        loop {
            let room = limits::LOG_LINE_BYTES_MAX - self.line.len() as u64;
            let read = self.log.by_ref().take(room).read_until(b'\n', &mut self.line)?;
            let is_whole = self.line.ends_with(b"\n") || read as u64 == room;
            if !is_whole && read > 0 {
                continue;
            }
            if !is_whole {
                return is_read(stdout.flush());
            }
            if !is_read(show(&mut stdout, &self.line, self.raw))? {
                return Ok(false);
            }
            self.line.clear();
        }
    }

    /// Shows what is left behind the last line.
    pub fn end(&mut self) -> Result<(), CliError> {
        let rest = std::mem::take(&mut self.line);
        is_read(show(&mut io::stdout().lock(), &rest, self.raw)).map(drop)
    }
}

fn show(out: &mut impl Write, line: &[u8], raw: bool) -> io::Result<()> {
    if raw || !line.starts_with(b"{") {
        return out.write_all(line);
    }
    let text = String::from_utf8_lossy(line);
    match transcript::readable(text.trim_end()) {
        Some(text) => writeln!(out, "{text}"),
        None => Ok(()),
    }
}

/// A reader that has gone away is no error.
fn is_read(result: io::Result<()>) -> Result<bool, CliError> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(cannot_print(error)),
        Ok(()) => Ok(true),
    }
}
