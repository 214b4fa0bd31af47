//! `queue why`

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use crate::agent::checkup;
use crate::cli::context::{CliError, Context, print};
use crate::cli::exit::CliExit;
use crate::cli::render::{self, Format};
use crate::cli::worker::agent_key;
use crate::config::Config;
use crate::daemon::{self, Seen};
use crate::job::why::{Ahead, Facts, Pause, Why, why};
use crate::job::{Job, JobId, Run, StateKind, WorkerId, limits, order};
use crate::process::holders::Holder;
use crate::process::identity::{self, Identity};
use crate::process::lock::LockState;
use crate::queue::Queue;
use crate::store::Position;
use crate::time::Timestamp;

#[derive(Args)]
#[command(after_help = "\
Everything that a job waits for, with the next step for each; first what would
hold it longest. Of a job that runs or has ended it tells that. `queue show`
prints the first reason too.

Examples:
  kugetsu queue why 42
  kugetsu queue why 42 --format=json | jq -r '.reasons[0].code'")]
pub(super) struct Arguments {
    /// The job's number
    id: JobId,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let config = context.config()?;
    let queue = context.queue(&config)?;
    let id = arguments.id;
    let position = position_of(&queue, id)?.ok_or_else(|| CliError::no_such_job(id))?;
    let reasons = reasons(&position, &config)?;
    let holders = holders(&position.job, &config);
    print(&match arguments.format {
        Format::Json => {
            let mut value = json(&position, &reasons);
            value["held_by"] = holders.iter().map(|h| json!(h.process.pid)).collect();
            format!("{value:#}\n")
        }
        Format::Text => {
            let mut text = text(&position, &reasons);
            for holder in &holders {
                let _ = writeln!(text, "  its run is held by {holder}");
                let _ = writeln!(text, "    `kugetsu queue cancel --force {id}` ends it");
            }
            text
        }
    })?;
    Ok(CliExit::Success)
}

/// Who holds the run of a job whose shim is gone.
fn holders(job: &Job, config: &Config) -> Vec<Holder> {
    let run = job.lease().and_then(|lease| lease.run.as_ref());
    let run = run.filter(|run| !shim_lives(run));
    run.map_or(Vec::new(), |run| checkup::lock_holders(&config.agents(), run))
}

/// What a pending job waits for most, in words.
pub(super) fn first_reason(
    queue: &Queue,
    config: &Config,
    job: &Job,
) -> Result<Option<String>, CliError> {
    if job.state.kind() != StateKind::Pending {
        return Ok(None);
    }
    let Some(position) = position_of(queue, job.id)? else { return Ok(None) };
    // It may have been claimed in between.
    if position.job.state.kind() != StateKind::Pending {
        return Ok(None);
    }
    let reasons = reasons(&position, config)?;
    Ok(reasons.first().map(|reason| detail(reason, position.now)))
}

/// Whether a worker lives that takes jobs: one that was made for a single job takes no others.
pub(super) fn takes_jobs(seen: &Seen) -> bool {
    match seen.state {
        LockState::Free => false,
        LockState::Held(None) => true,
        LockState::Held(Some(holder)) => {
            holder.process.arguments().get(1).is_none_or(|verb| verb != "supervise")
        }
    }
}

/// Whether the worker of a running job lives; `None` if nothing tells.
pub(super) fn worker_lives(workers: &[Seen], job: &Job, now: Timestamp) -> Option<bool> {
    let lease = job.lease()?;
    match workers.iter().find(|seen| seen.worker == lease.worker) {
        Some(seen) => Some(seen.state != LockState::Free),
        None => order::is_lapsed(job, now).then_some(false),
    }
}

/// Whether the shim of a run lives.
pub(super) fn shim_lives(run: &Run) -> bool {
    let shim = Identity { pid: run.pid, start_time: run.start_time };
    identity::boot_id().is_ok_and(|boot| boot == run.boot_id) && shim.is_alive()
}

fn position_of(queue: &Queue, id: JobId) -> Result<Option<Position>, CliError> {
    Ok(queue.position(id, limits::AHEAD_COUNTED_MAX)?)
}

fn reasons(position: &Position, config: &Config) -> Result<Vec<Why>, CliError> {
    let workers = daemon::workers_in(&config.workers())?;
    let job = &position.job;
    let run = job.lease().and_then(|lease| lease.run.as_ref());
    let ahead = position.ahead as u64;
    let agent = agent_key(config);
    Ok(why(&Facts {
        job,
        now: position.now,
        cap: config.max_agents,
        notified: position.notified,
        pause: position.paused.as_ref().map(|paused| Pause {
            until: paused.until,
            by: paused.job.map(|job| (job, paused.why.clone())),
        }),
        agent_held: position.holds.iter().find(|hold| hold.agent == agent).cloned(),
        running_of_issue: position.running_of_issue,
        first_of_issue: position.first_of_issue,
        ahead: match position.ahead < limits::AHEAD_COUNTED_MAX {
            true => Ahead::Exactly(ahead),
            false => Ahead::AtLeast(ahead),
        },
        has_worker: workers.iter().any(takes_jobs),
        worker_lives: worker_lives(&workers, job, position.now),
        shim_lives: run.map(shim_lives),
    }))
}

fn json(position: &Position, reasons: &[Why]) -> Value {
    let job = &position.job;
    let reason = |why: &Why| {
        let mut value = json!({
            "code": why.code(),
            "detail": detail(why, position.now),
            "next": next_step(why, job.id),
        });
        if let Some(id) = why.other_job() {
            value["job"] = json!(id.0);
        }
        value
    };
    let reasons: Vec<Value> = reasons.iter().map(reason).collect();
    json!({
        "id": job.id.0,
        "issue_ref": job.issue.to_string(),
        "state": job.state.kind().name(),
        "reasons": reasons,
    })
}

fn text(position: &Position, reasons: &[Why]) -> String {
    let job = &position.job;
    let kind = job.state.kind();
    let verb = if kind == StateKind::Pending { ", and waits for" } else { "" };
    let mut text = format!("Job {} ({}) is {kind}{verb}:\n", job.id, job.issue);
    for reason in reasons {
        let _ = writeln!(text, "  {}", detail(reason, position.now));
        let _ = writeln!(text, "    {}", next_step(reason, job.id));
    }
    text
}

/// In words that go on after "it waits for", or after its state.
fn detail(why: &Why, now: Timestamp) -> String {
    let in_time = |until: Timestamp| format!("in {} ({until})", render::ahead(now, until));
    let ago = |since: Timestamp| render::ago(now, since);
    match why {
        Why::NoWorker => "a worker: none is running".into(),
        Why::Held { after: Some((reason, detail)) } => {
            format!("a person: {reason}, {}", render::one_line(detail))
        }
        Why::Machine(detail) => {
            format!("the machine, which a worker examines: {}", render::one_line(detail))
        }
        Why::Held { after: None } => "a person: it has no time of its own".into(),
        Why::Paused(pause) => {
            let until = match pause.until {
                Some(until) => in_time(until),
                None => "which has no end".into(),
            };
            let by = match &pause.by {
                Some((job, why)) => format!("; job {job} asked for it: {}", render::one_line(why)),
                None => String::new(),
            };
            format!("the end of the queue's pause, {until}{by}")
        }
        Why::AgentHeld(hold) => {
            let (agent, job, why) = (&hold.agent, hold.job, render::one_line(&hold.why));
            let until = match hold.until {
                Some(until) => in_time(until),
                None => "when a person says so".into(),
            };
            format!("its agent command {agent}, held since job {job} ({why}); it goes on {until}")
        }
        Why::Delayed { until, after: Some(reason) } => {
            format!("its next attempt, {}, after {reason}", in_time(*until))
        }
        Why::Delayed { until, after: None } => {
            format!("its time, {}, as it was asked for", in_time(*until))
        }
        Why::IssueBusy(id) => format!("job {id} of the same issue, which is at work"),
        Why::CapReached { running, cap } => {
            format!("a free agent: {running} run, and {cap} may")
        }
        Why::IssueTurn(id) => format!("job {id} of the same issue, which goes first"),
        Why::Behind(ahead) => {
            let (least, count) = match ahead {
                Ahead::Exactly(count) => ("", *count),
                Ahead::AtLeast(count) => ("at least ", *count),
            };
            let jobs = if count == 1 { "1 job goes" } else { &format!("{count} jobs go") };
            format!("its turn: {least}{jobs} first")
        }
        Why::Next => "nothing: it is next, and a worker takes it in a moment".into(),
        Why::Starting { worker, since } => {
            format!("its agent is about to start: claimed {} ago by {worker}", ago(*since))
        }
        Why::Running { worker, since } => {
            format!("its agent has run for {}, looked after by {worker}", ago(*since))
        }
        Why::Judging(why) => {
            format!("its end cannot be read yet: {}", render::one_line(why))
        }
        Why::Cancelling => "it was called off, and its agent is being ended".into(),
        Why::WorkerGone(WorkerId(worker)) => format!("its worker {worker} is gone"),
        Why::AgentGone => {
            "its agent's shim is gone, and nobody has recorded how it ended yet".into()
        }
        Why::Ended(outcome) if outcome.detail.is_empty() => {
            format!("it ended {} ago: {}", ago(outcome.finished_at), outcome.reason)
        }
        Why::Ended(outcome) => {
            let (ago, reason) = (ago(outcome.finished_at), outcome.reason);
            format!("it ended {ago} ago: {reason}, {}", outcome.detail)
        }
    }
}

/// What a person can do about it.
fn next_step(why: &Why, id: JobId) -> String {
    match why {
        Why::NoWorker => "`kugetsu worker` runs one, `kugetsu queue-daemon start` one in the \
                          background"
            .into(),
        Why::Held { .. } => format!("see to the cause, then `kugetsu queue retry {id}`"),
        Why::Machine(_) => "see to the cause; the worker goes on by itself then".into(),
        Why::Paused(_) => "`kugetsu queue resume` ends it now".into(),
        Why::AgentHeld(_) => "see to the cause, then `kugetsu queue resume` lifts it".into(),
        Why::Delayed { .. } => format!("`kugetsu queue edit {id} --delay=0s` lets it run now"),
        Why::IssueBusy(other) => {
            format!(
                "`kugetsu logs {other} -f` shows what it does, `kugetsu queue cancel {other}` ends it"
            )
        }
        Why::CapReached { .. } => "`kugetsu queue list --state=notified` lists those that run; \
                                   MAX_CONCURRENT_AGENTS says how many may"
            .into(),
        Why::IssueTurn(_) | Why::Behind(_) => {
            format!("nothing to do; `kugetsu queue edit {id} --priority=N` lets it go earlier")
        }
        Why::Next => "nothing to do".into(),
        Why::Starting { .. } => {
            format!(
                "git makes its clone and worktree, which may take a while; \
                 `kugetsu queue cancel {id}` ends it"
            )
        }
        Why::Running { .. } => {
            format!("`kugetsu logs {id} -f` shows what it does, `kugetsu wait {id}` waits for it")
        }
        Why::Judging(_) => {
            format!(
                "nothing to do: it is read again for an hour; `kugetsu queue cancel {id}` ends it"
            )
        }
        Why::Cancelling => "nothing to do: it has KUGETSU_KILL_GRACE to end by itself".into(),
        Why::WorkerGone(_) => "the next worker takes it over: `kugetsu worker`, or `kugetsu \
                               queue-daemon start`"
            .into(),
        Why::AgentGone => "its worker does, or the next one: `kugetsu doctor` looks for one".into(),
        Why::Ended(_) => format!("`kugetsu queue retry {id}` runs it again"),
    }
}
