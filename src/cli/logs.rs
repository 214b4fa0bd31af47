//! `logs`

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use crossbeam_channel::{after, never, select};

use crate::cli::context::{CliError, Context, parse_issue, print_error, words};
use crate::cli::exit::Exit;
use crate::job::{Job, JobId};
use crate::queue::Queue;
use crate::store::{ListQuery, Watch};

/// How often to look at a log when nothing tells to.
const POLL: Duration = Duration::from_secs(1);

#[derive(Args)]
#[command(after_help = "\
Examples:
  kugetsu logs 41
  kugetsu logs github.com/shoko/kugetsu#14 -f")]
pub(super) struct Arguments {
    /// A job's number, or an issue: its last job is shown
    #[arg(value_name = "ID|REF")]
    job: String,
    /// Go on showing what is added, until the job has ended
    #[arg(short, long)]
    follow: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Exit, CliError> {
    let config = context.config()?;
    let queue = context.queue(&config)?;
    let job = find(&queue, &arguments.job)?;
    let log = config.agents().log(job.id);
    if arguments.follow {
        return follow(&queue, job.id, &log);
    }
    let mut file = match File::open(&log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let state = job.state.kind();
            let message = format!("job {} has no log yet: it is {state}", job.id);
            return Err(CliError::general(message).hint("-f waits for it"));
        }
        file => file?,
    };
    copy(&mut file)?;
    Ok(Exit::Success)
}

fn find(queue: &Queue, text: &str) -> Result<Job, CliError> {
    if let Ok(id) = text.parse() {
        return queue.get(id)?.ok_or_else(|| CliError::no_such_job(id));
    }
    let issue = parse_issue(text)?;
    let query = ListQuery { states: Vec::new(), issue: Some(issue), limit: usize::MAX };
    let last = queue.list(&query)?.items.into_iter().max_by_key(|job| job.id);
    last.ok_or_else(|| CliError {
        exit: Exit::NotFound,
        ..CliError::general(format!("{text} has no job"))
    })
}

/// Shows the log from its beginning, and on until the job has ended and all of it is shown.
fn follow(queue: &Queue, id: JobId, path: &Path) -> Result<Exit, CliError> {
    let interrupted = words()?;
    let changes = queue.watch()?;
    let mut log = None;
    let mut growth: Option<Watch> = None;
    loop {
        // Read before the log is: what was logged before the end is shown.
        let job = queue.get(id)?.ok_or_else(|| CliError::no_such_job(id))?;
        if log.is_none() {
            log = File::open(path).ok();
            growth = log.as_ref().and_then(|_| Watch::file(path).ok());
        }
        if let Some(log) = &mut log
            && !copy(log)?
        {
            return Ok(Exit::Success);
        }
        if job.state.kind().is_ended() {
            return Ok(Exit::Success);
        }
        let nothing = never();
        let growth = growth.as_ref().map_or(&nothing, Watch::hints);
        select! {
            recv(growth) -> _ => {}
            recv(changes.hints()) -> _ => {}
            recv(interrupted) -> _ => {
                print_error("interrupted; the job goes on");
                return Ok(Exit::Interrupted);
            }
            recv(after(POLL)) -> _ => {}
        }
    }
}

/// Copies what is there to standard output. Says whether somebody still reads it.
fn copy(log: &mut File) -> Result<bool, CliError> {
    let mut stdout = io::stdout().lock();
    match io::copy(log, &mut stdout).and_then(|_| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(true),
    }
}
