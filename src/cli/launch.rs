//! `start` and `continue`: an agent on an issue, now, without a worker.

use std::fs::File;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use clap::Args;
use crossbeam_channel::{after, select};
use serde_json::json;

use crate::cli::context::{
    CliError, Context, begin_logging, make_folder, parse_duration, parse_issue, print, print_error,
    print_note, stop_requests,
};
use crate::cli::exit::CliExit;
use crate::cli::render::{self, Format};
use crate::cli::worker::{check_programs, new_worker};
use crate::config::Config;
use crate::failpoint;
use crate::job::{Job, JobId, NewJob, State, StateKind, Token, limits};
use crate::process::command;
use crate::process::safe_file;
use crate::queue::Queue;
use crate::store::Claim;
use crate::{time, worker};

/// How often to look whether the background process is still there.
const POLL: Duration = Duration::from_millis(250);

#[derive(Args)]
#[command(after_help = "\
The agent runs in the background, supervised as by a worker; --wait stays with
it. When as many agents run as may (MAX_CONCURRENT_AGENTS), the exit code is 2
and nothing was made. `continue` and `start` differ in one word of what they say:
both go on with the issue's session, and make one if there is none.

Examples:
  kugetsu start github.com/shoko/kugetsu#14 'fix the bug'
  kugetsu continue github.com/shoko/kugetsu#14 'also add a test' --wait")]
pub(super) struct Arguments {
    /// The issue: HOST/OWNER/REPO#NUMBER, or the address of its page
    #[arg(value_name = "REF")]
    issue: String,
    /// What the agent is told
    message: Option<String>,
    /// Stay until the agent has ended; the exit code tells how
    #[arg(long)]
    wait: bool,
    /// Wall-clock limit (90s, 15m, 2h)
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Args)]
pub(super) struct SuperviseArguments {
    id: JobId,
    token: u64,
}

pub(super) fn run(
    context: &Context,
    arguments: Arguments,
    word: &str,
) -> Result<CliExit, CliError> {
    let issue = parse_issue(&arguments.issue)?;
    let message = arguments.message.unwrap_or_else(|| format!("Go on with the work on {issue}."));
    let timeout = arguments.timeout.as_deref();
    let new = NewJob {
        timeout_ms: timeout.map(|text| parse_duration("timeout", text)).transpose()?,
        ..NewJob::new(issue, message)
    };
    new.validate().map_err(CliError::general)?;
    let config = context.config()?;
    check_programs(context, &config)?;
    let queue = context.queue(&config)?;
    let worker = new_worker(&config, queue.clone(), config.worker())?;
    let mut claim = Claim::new(worker.id().clone(), config.max_agents, config.lease_ms);
    claim.agent = worker.agent().cloned();
    // There may be no worker to do this, and a dead one's jobs count against the cap.
    worker.settle()?;
    let job = queue.launch(new, claim)?;
    failpoint::here("launched");
    if !arguments.wait {
        let mut child = begin_supervisor(&config, &queue, &job)?;
        let announcer = Announcer { queue: &queue, config: &config, job: &job, word };
        return announcer.announce(arguments.format, || gone(&mut child));
    }
    begin_logging(context);
    let id = job.id;
    let stop_requests = stop_requests()?;
    let claimed = job.clone();
    let run = thread::Builder::new()
        .name("worker".into())
        .spawn(move || worker.run_one(claimed, &stop_requests))?;
    let announcer = Announcer { queue: &queue, config: &config, job: &job, word };
    let announced = announcer.announce(arguments.format, || Ok(run.is_finished()));
    let exit = run.join().map_err(|_| CliError::general("a bug ended the worker"))??;
    if let Err(error) = announced {
        context.complain(&error);
    }
    let ended = ended(&queue, id)?;
    Ok(if exit == worker::Exit::Interrupted { CliExit::Interrupted } else { ended })
}

/// How the job stands when its one attempt is over.
fn ended(queue: &Queue, id: JobId) -> Result<CliExit, CliError> {
    let job = queue.get(id)?.ok_or_else(|| CliError::no_such_job(id))?;
    match &job.state {
        State::Completed(outcome) | State::Error(outcome) | State::Cancelled(outcome) => {
            let kind = job.state.kind();
            let text = format!("job {id} is {kind}: {}", outcome.detail);
            if kind == StateKind::Completed {
                tracing::info!("{text}");
            } else {
                print_error(&text);
            }
        }
        State::Pending(_) => {
            let last = job.attempts.last();
            let why = last.map_or("", |attempt| attempt.report.detail.as_str());
            print_error(&format!(
                "job {id} is pending again, and runs with the next worker: {why}"
            ));
        }
        State::Notified(_) => {
            print_error(&format!("job {id} goes on; the next worker takes its result"));
        }
    }
    Ok(CliExit::of_job(job.state.kind()))
}

/// Starts the background process that takes the job over.
fn begin_supervisor(config: &Config, queue: &Queue, job: &Job) -> Result<Child, CliError> {
    let spawn = || -> Result<Child, CliError> {
        let token = job.lease().map_or(0, |lease| lease.token.0);
        let log = supervisor_log(config)?;
        let child = command("/proc/self/exe")
            .arg("supervise")
            .arg(job.id.to_string())
            .arg(token.to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(child)
    };
    spawn().inspect_err(|_| {
        // Nobody will run it: better gone than a surprise later. If this fails too, the lease
        // lapses, and the job runs with the next worker.
        let _ = queue.cancel(job.id);
        if let Some(lease) = job.lease() {
            let report = crate::job::Report::new(
                crate::job::Reason::Cancelled,
                "its background process could not be started",
            );
            let _ = queue.finish(job.id, lease.token, report, config.policy, 0);
        }
    })
}

fn supervisor_log(config: &Config) -> Result<File, CliError> {
    let folder = config.home.join("logs");
    make_folder(&folder)?;
    let path = folder.join("queue-daemon.log");
    let opened = safe_file::open_append(&path);
    opened.map_err(|error| CliError::general(format!("cannot open {}: {error}", path.display())))
}

fn gone(child: &mut Child) -> Result<bool, CliError> {
    Ok(child.try_wait()?.is_some())
}

/// The background process of a launched job.
pub(super) fn supervise(
    context: &Context,
    arguments: &SuperviseArguments,
) -> Result<CliExit, CliError> {
    // Away from the terminal that the command was typed at.
    nix::unistd::setsid().map_err(std::io::Error::from)?;
    begin_logging(context);
    let config = context.config()?;
    let queue = context.queue(&config)?;
    let stop_requests = stop_requests()?;
    let worker = new_worker(&config, queue.clone(), config.worker())?;
    let token = Token(arguments.token);
    let job = queue.adopt(arguments.id, token, worker.id().clone(), config.lease_ms)?;
    failpoint::here("supervise_adopted");
    worker.run_one(job, &stop_requests)?;
    Ok(CliExit::Success)
}

/// Tells which session works where, once that is known.
struct Announcer<'a> {
    queue: &'a Queue,
    config: &'a Config,
    job: &'a Job,
    word: &'a str,
}

impl Announcer<'_> {
    fn announce(
        &self,
        format: Format,
        mut is_gone: impl FnMut() -> Result<bool, CliError>,
    ) -> Result<CliExit, CliError> {
        let changes = self.queue.watch();
        let began = time::monotonic();
        loop {
            // Looked at before the job is: what it did before it went is seen.
            let gone = is_gone()?;
            let patient = began.elapsed() < Duration::from_millis(limits::ANNOUNCE_MS_MAX);
            if let Some(session) = self.session(patient && !gone)? {
                return self.print_session(format, &session);
            }
            if gone {
                return self.report_failure();
            }
            select! {
                recv(changes.wakeups()) -> _ => {}
                recv(after(POLL)) -> _ => {}
            }
        }
    }

    /// The agent's session, once the agent runs; one that has none is known by its job.
    fn session(&self, patient: bool) -> Result<Option<String>, CliError> {
        let id = self.job.id;
        let job = self.queue.get(id)?.ok_or_else(|| CliError::no_such_job(id))?;
        let session = self.queue.session(&job.issue)?.filter(|session| session.last_job == id);
        let started = job.lease().is_some_and(|lease| lease.run.is_some())
            || job.attempts.iter().any(|attempt| attempt.started_at.is_some());
        let wanted = self.config.agent_command.has_sessions() && patient;
        Ok(match session.and_then(|session| session.id) {
            Some(session) if started => Some(session),
            None if started && !wanted => Some(format!("job-{id}")),
            Some(_) | None => None,
        })
    }

    fn print_session(&self, format: Format, session: &str) -> Result<CliExit, CliError> {
        let issue = &self.job.issue;
        let worktree = self.config.agents().worktree(issue);
        let worktree = worktree.display();
        if format == Format::Text {
            let id = self.job.id;
            print_note(&format!("job {id}; `kugetsu logs {id} -f` shows what the agent does"));
        }
        print(&match format {
            Format::Text => format!(
                "Session {} for '{issue}': {session}\nWorktree: {worktree}\n{worktree}-{session}-forked\n",
                self.word
            ),
            Format::Json => format!(
                "{:#}\n",
                json!({
                    "job": self.job.id.0,
                    "issue_ref": issue.to_string(),
                    "session": session,
                    "worktree": worktree.to_string(),
                })
            ),
        })?;
        Ok(CliExit::Success)
    }

    /// The agent did not come to run.
    fn report_failure(&self) -> Result<CliExit, CliError> {
        let id = self.job.id;
        let job = self.queue.get(id)?.ok_or_else(|| CliError::no_such_job(id))?;
        let attempt = job.attempts.last();
        let why = attempt.map_or("see logs/queue-daemon.log", |a| a.report.detail.as_str());
        let status = render::status(&job, self.queue.now());
        let kind = job.state.kind();
        let mut hint = format!("job {id} is {kind} ({status})");
        if kind == StateKind::Pending {
            hint.push_str(&format!(
                ": a worker tries it again, or `kugetsu queue cancel {id}` drops it"
            ));
        }
        Err(CliError::general(format!("the agent did not start: {why}")).hint(hint))
    }
}
