//! The only door between states: `(job, event, now)` to the job's next form, or a refusal.
//!
//! `docs/STATES.md` shows the same as a picture and a table.

use crate::job::retry::{self, Class, RetryPolicy};
use crate::job::{
    AgentKey, Attempt, Edit, Job, Lease, Outcome, Pending, Reason, Report, Run, Spent, State,
    StateKind, Token, WorkerId, limits, order,
};
use crate::time::Timestamp;

/// Something that happens to one job. [`Queue`](crate::Queue) has a method for each; as
/// [`Op::Apply`](crate::store::Op::Apply) they go into one transaction with others.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A worker takes the job.
    Claim {
        /// Who.
        worker: WorkerId,
        /// Its fencing token, larger than any before.
        token: Token,
        /// How long the lease holds unless renewed, in milliseconds.
        lease_ms: u64,
        /// The agent command that the worker runs, if it says so.
        agent: Option<AgentKey>,
    },
    /// The agent's process is known and about to be let go.
    Start {
        /// The lease it acts under.
        token: Token,
        /// The process.
        run: Run,
    },
    /// The worker is alive.
    Renew {
        /// The lease it acts under.
        token: Token,
        /// How long the lease holds from now, in milliseconds.
        lease_ms: u64,
    },
    /// The agent has ended, and how cannot be read now: the job stays notified until it can.
    Judge {
        /// The lease it acts under.
        token: Token,
        /// Why it cannot be read, in words.
        why: String,
    },
    /// The attempt is over.
    Finish {
        /// The lease it acts under.
        token: Token,
        /// How it went.
        report: Report,
        /// What a failure costs.
        policy: RetryPolicy,
        /// For the jitter of the next attempt's delay.
        seed: u64,
    },
    /// Another worker takes over the lease and the run behind it.
    Adopt {
        /// The lease that was.
        token: Token,
        /// The new holder.
        worker: WorkerId,
        /// Its fencing token, larger than any before.
        new_token: Token,
        /// How long the new lease holds unless renewed, in milliseconds.
        lease_ms: u64,
    },
    /// Somebody calls the job off.
    Cancel,
    /// Somebody wants an ended job run again.
    Retry,
    /// Somebody changes what a pending job asks for.
    Edit(Edit),
}

/// The answer to an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// The job as it is from now on.
    Changed(Box<Job>),
    /// It was so before.
    AlreadySo,
}

/// Why an event changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The writer's lease is not the job's lease any more.
    #[error("the lease is lost")]
    LeaseLost,
    /// The job is not in a state where this can happen.
    #[error("it is {0}")]
    Wrong(StateKind),
    /// The job's time has not come.
    #[error("it is not due")]
    NotDue,
    /// A run that is known cannot be replaced by an older one.
    #[error("it has a run already")]
    HasRun,
}

/// What `event` makes of `job` at `now`.
pub fn apply(job: &Job, event: Event, now: Timestamp) -> Result<Next, Refused> {
    match event {
        Event::Claim { worker, token, lease_ms, agent } => {
            claim(job, Claim { worker, token, lease_ms, agent }, now)
        }
        Event::Start { token, run } => start(job, token, run),
        Event::Renew { token, lease_ms } => renew(job, token, lease_ms, now),
        Event::Judge { token, why } => judge(job, token, why),
        Event::Finish { token, report, policy, seed } => {
            let lease = held(job, token)?;
            Ok(Next::Changed(Box::new(end(job, lease, report, &policy, seed, now))))
        }
        Event::Adopt { token, worker, new_token, lease_ms } => {
            let mut lease = held(job, token)?.clone();
            assert!(new_token > token, "a new lease has a larger token");
            lease.worker = worker;
            lease.token = new_token;
            lease.expires_at = now.plus_ms(lease_ms);
            Ok(changed(job, State::Notified(lease)))
        }
        Event::Cancel => cancel(job, now),
        Event::Retry => retry_again(job, now),
        Event::Edit(edit) => change(job, edit),
    }
}

/// What a claim brings along.
struct Claim {
    worker: WorkerId,
    token: Token,
    lease_ms: u64,
    agent: Option<AgentKey>,
}

fn claim(job: &Job, claim: Claim, now: Timestamp) -> Result<Next, Refused> {
    match &job.state {
        State::Pending(_) if !order::is_due(job, now) => Err(Refused::NotDue),
        State::Pending(_) => {
            let mut next = job.clone();
            next.spent.claims += 1;
            next.state = State::Notified(Lease {
                worker: claim.worker,
                token: claim.token,
                claimed_at: now,
                expires_at: now.plus_ms(claim.lease_ms),
                run: None,
                cancel_requested: false,
                agent: claim.agent,
                judging: None,
            });
            Ok(Next::Changed(Box::new(next)))
        }
        State::Notified(_) | State::Completed(_) | State::Error(_) | State::Cancelled(_) => {
            Err(Refused::Wrong(job.state.kind()))
        }
    }
}

fn start(job: &Job, token: Token, run: Run) -> Result<Next, Refused> {
    let lease = held(job, token)?;
    match &lease.run {
        Some(known) if *known == run => Ok(Next::AlreadySo),
        Some(known) if known.round >= run.round => Err(Refused::HasRun),
        Some(_) | None => {
            // An agent is at work again.
            let lease = Lease { run: Some(run), judging: None, ..lease.clone() };
            Ok(changed(job, State::Notified(lease)))
        }
    }
}

/// A lease that ran out is still its holder's as long as nobody took it.
fn renew(job: &Job, token: Token, lease_ms: u64, now: Timestamp) -> Result<Next, Refused> {
    let lease = held(job, token)?;
    let expires_at = now.plus_ms(lease_ms);
    if lease.expires_at == expires_at {
        return Ok(Next::AlreadySo);
    }
    Ok(changed(job, State::Notified(Lease { expires_at, ..lease.clone() })))
}

fn judge(job: &Job, token: Token, mut why: String) -> Result<Next, Refused> {
    let lease = held(job, token)?;
    cut(&mut why, limits::DETAIL_BYTES_MAX);
    if lease.judging.as_ref() == Some(&why) {
        return Ok(Next::AlreadySo);
    }
    Ok(changed(job, State::Notified(Lease { judging: Some(why), ..lease.clone() })))
}

fn cancel(job: &Job, now: Timestamp) -> Result<Next, Refused> {
    match &job.state {
        State::Pending(_) => {
            let outcome = Outcome {
                reason: Reason::Cancelled,
                detail: "cancelled before it ran".into(),
                finished_at: now,
            };
            Ok(changed(job, State::Cancelled(outcome)))
        }
        State::Notified(lease) if lease.cancel_requested => Ok(Next::AlreadySo),
        State::Notified(lease) => {
            let lease = Lease { cancel_requested: true, ..lease.clone() };
            Ok(changed(job, State::Notified(lease)))
        }
        State::Cancelled(_) => Ok(Next::AlreadySo),
        State::Completed(_) | State::Error(_) => Err(Refused::Wrong(job.state.kind())),
    }
}

/// A job that has ended starts anew. One that is held goes on where it was: its attempts so far and
/// their work belong to it.
fn retry_again(job: &Job, now: Timestamp) -> Result<Next, Refused> {
    match &job.state {
        State::Pending(pending) if pending.is_held() => {
            let mut next = job.clone();
            next.spent = job.spent.without_row();
            next.state = State::Pending(Pending { run_at: now, since: now });
            Ok(Next::Changed(Box::new(next)))
        }
        State::Pending(_) => Ok(Next::AlreadySo),
        State::Notified(_) => Err(Refused::Wrong(StateKind::Notified)),
        State::Completed(_) | State::Error(_) | State::Cancelled(_) => {
            let mut next = job.clone();
            let claims = job.spent.claims;
            next.spent = Spent { claims, claims_before: claims, ..Spent::default() };
            next.state = State::Pending(Pending { run_at: now, since: now });
            Ok(Next::Changed(Box::new(next)))
        }
    }
}

fn change(job: &Job, edit: Edit) -> Result<Next, Refused> {
    let State::Pending(pending) = &job.state else {
        return Err(Refused::Wrong(job.state.kind()));
    };
    let mut next = job.clone();
    next.message = edit.message.unwrap_or(next.message);
    next.priority = edit.priority.unwrap_or(next.priority);
    next.timeout_ms = edit.timeout_ms.or(next.timeout_ms);
    let run_at = edit.run_at.unwrap_or(pending.run_at);
    if pending.is_held() && run_at != pending.run_at {
        next.spent = job.spent.without_row();
    }
    next.state = State::Pending(Pending { run_at, since: pending.since });
    Ok(if next == *job { Next::AlreadySo } else { Next::Changed(Box::new(next)) })
}

/// The lease, if the token is the one it was given.
fn held(job: &Job, token: Token) -> Result<&Lease, Refused> {
    match &job.state {
        State::Notified(lease) if lease.token == token => Ok(lease),
        State::Notified(_)
        | State::Pending(_)
        | State::Completed(_)
        | State::Error(_)
        | State::Cancelled(_) => Err(Refused::LeaseLost),
    }
}

fn changed(job: &Job, state: State) -> Next {
    Next::Changed(Box::new(Job { state, ..job.clone() }))
}

/// What becomes of a job whose attempt is over: ended, or pending again.
fn end(
    job: &Job,
    lease: &Lease,
    mut report: Report,
    policy: &RetryPolicy,
    seed: u64,
    now: Timestamp,
) -> Job {
    let mut next = job.clone();
    if lease.cancel_requested {
        report.reason = Reason::Cancelled;
    }
    trim(&mut report);
    let outcome =
        || Outcome { reason: report.reason, detail: report.detail.clone(), finished_at: now };
    let wait = |ms| State::Pending(Pending { run_at: now.plus_ms(ms), since: now });
    next.state = match charge(&mut next.spent, job, lease, &report, policy) {
        Charge::Success => State::Completed(outcome()),
        Charge::Cancelled => State::Cancelled(outcome()),
        Charge::UsedUp => State::Error(outcome()),
        Charge::Retry { failures } => {
            let backoff = retry::backoff_ms(failures, policy, seed);
            wait(report.defer_ms.unwrap_or(backoff).min(limits::DURATION_MS_MAX))
        }
        Charge::Free { wait_ms } => wait(wait_ms),
        Charge::Held => State::Pending(Pending { run_at: Timestamp::NEVER, since: now }),
    };
    next.attempts.push(Attempt {
        number: job.spent.claims,
        token: lease.token,
        worker: lease.worker.clone(),
        claimed_at: lease.claimed_at,
        started_at: lease.run.as_ref().map(|run| run.started_at),
        ended_at: now,
        report,
    });
    let dropped = next.attempts.len().saturating_sub(limits::ATTEMPTS_KEPT_MAX);
    next.attempts.drain(..dropped);
    next
}

/// What the end of an attempt costs its job.
enum Charge {
    Success,
    Cancelled,
    /// The budget allows another attempt.
    Retry {
        failures: u32,
    },
    UsedUp,
    /// Nothing, and it waits.
    Free {
        wait_ms: u64,
    },
    /// Nothing, but it came back too often: a person decides.
    Held,
}

fn charge(
    spent: &mut Spent,
    job: &Job,
    lease: &Lease,
    report: &Report,
    policy: &RetryPolicy,
) -> Charge {
    let (used, limit) = match retry::class(report.reason) {
        Class::Success => return Charge::Success,
        Class::Cancelled => return Charge::Cancelled,
        Class::Free => return Charge::Free { wait_ms: 0 },
        // The command is held, and with it this job.
        Class::Login if lease.agent.is_some() => return Charge::Free { wait_ms: 0 },
        Class::Login | Class::Postponed => return postpone(spent, report),
        Class::Interrupted => {
            spent.interrupted += 1;
            let wait_ms = retry::interrupted_ms(spent.interrupted);
            return free(spent.interrupted, wait_ms);
        }
        Class::Attempt => (&mut spent.attempts, job.max_attempts.unwrap_or(policy.max_attempts)),
        Class::Terminal => (&mut spent.attempts, job.max_attempts.unwrap_or(1)),
        Class::Lost => (&mut spent.lost, limits::LOST_MAX),
        Class::StartFailed => (&mut spent.start_failed, limits::START_FAILED_MAX),
    };
    *used += 1;
    let failures = *used;
    // What is paid for ends a row of what is not.
    *spent = spent.without_row();
    if failures < limit { Charge::Retry { failures } } else { Charge::UsedUp }
}

fn postpone(spent: &mut Spent, report: &Report) -> Charge {
    spent.deferred += 1;
    if report.hold {
        return Charge::Held;
    }
    let wait_ms = retry::postponed_ms(report.reason, report.defer_ms, spent.deferred);
    free(spent.deferred, wait_ms)
}

fn free(in_a_row: u32, wait_ms: u64) -> Charge {
    if in_a_row < limits::FREE_IN_A_ROW_MAX { Charge::Free { wait_ms } } else { Charge::Held }
}

/// Brings a report within its bounds. Whoever made it may have read it from an agent's files.
fn trim(report: &mut Report) {
    cut(&mut report.detail, limits::DETAIL_BYTES_MAX);
    if let Some(work) = &mut report.work {
        cut(work, limits::WORK_BYTES_MAX);
    }
    report.tip = report.tip.take().filter(|tip| is_commit(tip));
    report.usage = report.usage.plausible();
}

/// Whether a text can be the name of a commit.
pub(super) fn is_commit(tip: &str) -> bool {
    let length = 1..=limits::TIP_BYTES_MAX;
    length.contains(&tip.len()) && tip.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Cuts at the bound, between characters.
fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests;
