//! What each operation means, once for every backend.

use crate::job::{
    Event, IssueRef, Job, JobId, NewJob, Next, Reason, Refused, Report, Session, State, StateKind,
    Token, Usage, limits, transition,
};
use crate::store::{Answer, Claim, NothingToClaim, Op, OpRefused, Paused, Reply, StoreError};
use crate::time::Timestamp;

/// The one row that every transaction may need: counters and the pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub next_job: u64,
    pub next_token: u64,
    pub pending: u64,
    pub notified: u64,
    pub completed: u64,
    pub error: u64,
    pub cancelled: u64,
    pub paused: Option<Paused>,
    /// Attempts that ended, and what they used up, ever: also of jobs that were removed.
    pub attempts: u64,
    pub usage: Usage,
}

impl Header {
    pub const EMPTY: Header = Header {
        next_job: 1,
        next_token: 1,
        pending: 0,
        notified: 0,
        completed: 0,
        error: 0,
        cancelled: 0,
        paused: None,
        attempts: 0,
        usage: Usage::NOTHING,
    };

    fn count_mut(&mut self, kind: StateKind) -> &mut u64 {
        match kind {
            StateKind::Pending => &mut self.pending,
            StateKind::Notified => &mut self.notified,
            StateKind::Completed => &mut self.completed,
            StateKind::Error => &mut self.error,
            StateKind::Cancelled => &mut self.cancelled,
        }
    }

    /// The pause in force at `now`.
    pub fn paused_at(&self, now: Timestamp) -> Option<Paused> {
        self.paused.filter(|paused| paused.until.is_none_or(|until| until > now))
    }
}

/// One write transaction of a backend. What it selects, and where it puts things, is its own
/// affair; it decides nothing.
pub(super) trait Tables {
    fn job(&self, id: JobId) -> Result<Option<Job>, StoreError>;
    /// Replaces `before` by `after` everywhere. They have the same id.
    fn put(&mut self, before: Option<&Job>, after: &Job) -> Result<(), StoreError>;
    /// Takes the job out of everything.
    fn remove(&mut self, job: &Job) -> Result<(), StoreError>;
    fn by_request_id(&self, request_id: &str) -> Result<Option<JobId>, StoreError>;
    /// The first job in claim order among those that are due and whose issue is free.
    fn best_due(&mut self, now: Timestamp) -> Result<Option<JobId>, StoreError>;
    fn running_of(&self, issue: &IssueRef) -> Result<Option<JobId>, StoreError>;
    /// The first of the issue's pending jobs in claim order, due or not.
    fn first_pending_of(&self, issue: &IssueRef) -> Result<Option<JobId>, StoreError>;
    fn next_due_at(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError>;
    fn header(&mut self) -> &mut Header;
    fn put_session(&mut self, session: &Session) -> Result<(), StoreError>;
    /// Says whether there was one.
    fn remove_session(&mut self, issue: &IssueRef) -> Result<bool, StoreError>;
}

/// Carries out one operation. `Ok(Err(_))` has changed nothing.
pub(super) fn apply(
    tables: &mut impl Tables,
    op: Op,
    now: Timestamp,
) -> Result<Answer, StoreError> {
    match op {
        Op::Enqueue(new) => enqueue(tables, new, now),
        Op::Claim(claim) => claim_best(tables, &claim, now),
        Op::Launch(new, claim) => launch(tables, new, &claim, now),
        Op::Apply(_, Event::Edit(edit)) if edit.validate().is_err() => {
            Ok(Err(OpRefused::Invalid(edit.validate().err().unwrap_or_default())))
        }
        Op::Apply(id, event) => match tables.job(id)? {
            None => Ok(Err(OpRefused::NoSuchJob(id))),
            Some(job) => apply_event(tables, job, event, now),
        },
        Op::Adopt { job, token, worker, lease_ms } => match tables.job(job)? {
            None => Ok(Err(OpRefused::NoSuchJob(job))),
            Some(job) => with_new_token(tables, job, now, |new_token| Event::Adopt {
                token,
                worker,
                new_token,
                lease_ms,
            }),
        },
        Op::SaveSession { job, token, session } => {
            let holder = tables.job(job)?;
            let lease = holder.as_ref().and_then(|job| job.lease());
            if lease.is_none_or(|lease| lease.token != token) {
                return Ok(Err(OpRefused::Transition(job, Refused::LeaseLost)));
            }
            tables.put_session(&session)?;
            Ok(Ok(Reply::Done))
        }
        Op::Restore(job) => restore(tables, *job),
        Op::Remove(id) => remove(tables, id),
        Op::ForgetSession(issue) => Ok(match tables.running_of(&issue)? {
            Some(id) => Err(OpRefused::IssueBusy(id)),
            None if tables.remove_session(&issue)? => Ok(Reply::Done),
            None => Err(OpRefused::NoSuchSession(issue.to_string())),
        }),
        Op::Pause { until } => {
            tables.header().paused = Some(Paused { until });
            Ok(Ok(Reply::Done))
        }
        Op::Resume => {
            tables.header().paused = None;
            Ok(Ok(Reply::Done))
        }
    }
}

/// Whether an answer comes with a change that must reach the disk.
pub(super) fn is_change(answer: &Answer) -> bool {
    match answer {
        Ok(Reply::Enqueued { new, .. }) => *new,
        Ok(Reply::Claimed(_) | Reply::Changed(_) | Reply::Removed(_) | Reply::Done) => true,
        Ok(Reply::NothingToClaim(_) | Reply::AlreadySo(_)) | Err(_) => false,
    }
}

/// Whether other processes should hear of an operation: all but signs of life.
pub(super) fn wakes_others(op: &Op) -> bool {
    match op {
        Op::Apply(_, Event::Renew { lease_ms, .. }) => *lease_ms == 0,
        Op::Enqueue(_)
        | Op::Claim(_)
        | Op::Launch(..)
        | Op::Apply(..)
        | Op::Adopt { .. }
        | Op::SaveSession { .. }
        | Op::Restore(_)
        | Op::Remove(_)
        | Op::ForgetSession(_)
        | Op::Pause { .. }
        | Op::Resume => true,
    }
}

fn enqueue(tables: &mut impl Tables, new: NewJob, now: Timestamp) -> Result<Answer, StoreError> {
    if let Err(why) = new.validate() {
        return Ok(Err(OpRefused::Invalid(why)));
    }
    let known = match &new.request_id {
        Some(request_id) => tables.by_request_id(request_id)?,
        None => None,
    };
    let known = match known {
        None if new.only_if_idle => match tables.running_of(&new.issue)? {
            Some(running) => Some(running),
            None => tables.first_pending_of(&new.issue)?,
        },
        known => known,
    };
    match known {
        Some(id) => answer_with(tables, id),
        None => add(tables, |id| Job::new(id, new, now)),
    }
}

fn restore(tables: &mut impl Tables, job: Job) -> Result<Answer, StoreError> {
    if let Err(why) = job.validate() {
        return Ok(Err(OpRefused::Invalid(why)));
    }
    let same = |known: &Job| known.issue == job.issue && known.enqueued_at == job.enqueued_at;
    if tables.job(job.id)?.as_ref().is_some_and(same) {
        return answer_with(tables, job.id);
    }
    match job.request_id.as_deref().map(|id| tables.by_request_id(id)).transpose()?.flatten() {
        Some(id) => answer_with(tables, id),
        None => add(tables, |id| Job { id, ..job }),
    }
}

fn answer_with(tables: &mut impl Tables, id: JobId) -> Result<Answer, StoreError> {
    Ok(match tables.job(id)? {
        Some(job) => Ok(Reply::Enqueued { job: Box::new(job), new: false }),
        None => Err(OpRefused::NoSuchJob(id)),
    })
}

fn add(tables: &mut impl Tables, job: impl FnOnce(JobId) -> Job) -> Result<Answer, StoreError> {
    let id = JobId(tables.header().next_job);
    tables.header().next_job += 1;
    let job = job(id);
    save(tables, None, &job)?;
    Ok(Ok(Reply::Enqueued { job: Box::new(job), new: true }))
}

fn claim_best(
    tables: &mut impl Tables,
    claim: &Claim,
    now: Timestamp,
) -> Result<Answer, StoreError> {
    let nothing = |why| Ok(Ok(Reply::NothingToClaim(why)));
    if let Some(paused) = tables.header().paused_at(now) {
        return nothing(NothingToClaim::Paused { until: paused.until });
    }
    if tables.header().notified >= u64::from(claim.cap) {
        return nothing(NothingToClaim::CapReached);
    }
    match tables.best_due(now)? {
        None => {
            let next_at = tables.next_due_at(now)?;
            nothing(NothingToClaim::NoneDue { next_at })
        }
        Some(id) => take(tables, id, claim, now),
    }
}

/// `enqueue` and a claim of that very job, or neither.
fn launch(
    tables: &mut impl Tables,
    new: NewJob,
    claim: &Claim,
    now: Timestamp,
) -> Result<Answer, StoreError> {
    if let Err(why) = new.validate() {
        return Ok(Err(OpRefused::Invalid(why)));
    }
    if tables.header().paused_at(now).is_some() {
        return Ok(Err(OpRefused::Paused));
    }
    let running = tables.header().notified;
    if running >= u64::from(claim.cap) {
        return Ok(Err(OpRefused::CapReached { running, cap: claim.cap }));
    }
    if let Some(id) = tables.running_of(&new.issue)? {
        return Ok(Err(OpRefused::IssueBusy(id)));
    }
    // It is claimed now, so it is due now.
    match enqueue(tables, NewJob { run_at: None, ..new }, now)? {
        Ok(Reply::Enqueued { job, new: true }) => take(tables, job.id, claim, now),
        answer => Ok(answer),
    }
}

fn take(
    tables: &mut impl Tables,
    id: JobId,
    claim: &Claim,
    now: Timestamp,
) -> Result<Answer, StoreError> {
    let Some(job) = tables.job(id)? else {
        return Ok(Err(OpRefused::NoSuchJob(id)));
    };
    // A job that was due once stays due, also when the clock is set back.
    let now = match &job.state {
        State::Pending(pending) => now.max(pending.run_at),
        State::Notified(_) | State::Completed(_) | State::Error(_) | State::Cancelled(_) => now,
    };
    let answer = with_new_token(tables, job, now, |token| Event::Claim {
        worker: claim.worker.clone(),
        token,
        lease_ms: claim.lease_ms,
    })?;
    Ok(answer.map(|reply| match reply {
        Reply::Changed(job) => Reply::Claimed(job),
        other => other,
    }))
}

/// Applies an event that brings a new lease. A refused one uses up no token.
fn with_new_token(
    tables: &mut impl Tables,
    job: Job,
    now: Timestamp,
    event: impl FnOnce(Token) -> Event,
) -> Result<Answer, StoreError> {
    let token = tables.header().next_token;
    let answer = apply_event(tables, job, event(Token(token)), now)?;
    if is_change(&answer) {
        tables.header().next_token = token + 1;
    }
    Ok(answer)
}

fn apply_event(
    tables: &mut impl Tables,
    job: Job,
    event: Event,
    now: Timestamp,
) -> Result<Answer, StoreError> {
    let ends = matches!(event, Event::Finish { .. });
    Ok(match transition::apply(&job, event, now) {
        Ok(Next::Changed(after)) => {
            save(tables, Some(&job), &after)?;
            if let Some(attempt) = after.attempts.last().filter(|_| ends) {
                add_usage(tables.header(), &attempt.report, now);
            }
            Ok(Reply::Changed(after))
        }
        Ok(Next::AlreadySo) => Ok(Reply::AlreadySo(Box::new(job))),
        Err(refused) => Err(OpRefused::Transition(job.id, refused)),
    })
}

/// What the end of an attempt means to the whole queue.
fn add_usage(header: &mut Header, report: &Report, now: Timestamp) {
    header.attempts += 1;
    header.usage = header.usage.plus(report.usage);
    if let Some(ms) = report.defer_ms.filter(|_| report.pause && report.reason == Reason::Deferred)
    {
        let until = now.plus_ms(ms.min(limits::DURATION_MS_MAX));
        // Somebody's own pause, and a longer one, stay as they are.
        let holds = header.paused_at(now).is_some_and(|p| p.until.is_none_or(|end| end >= until));
        if !holds {
            header.paused = Some(Paused { until: Some(until) });
        }
    }
}

fn remove(tables: &mut impl Tables, id: JobId) -> Result<Answer, StoreError> {
    let Some(job) = tables.job(id)? else {
        return Ok(Err(OpRefused::NoSuchJob(id)));
    };
    let kind = job.state.kind();
    if kind == StateKind::Notified {
        return Ok(Err(OpRefused::Transition(id, Refused::Wrong(kind))));
    }
    uncount(tables.header(), kind);
    tables.remove(&job)?;
    Ok(Ok(Reply::Removed(Box::new(job))))
}

fn uncount(header: &mut Header, kind: StateKind) {
    let count = header.count_mut(kind);
    assert!(*count > 0, "a job in a state is counted there");
    *count -= 1;
}

fn save(tables: &mut impl Tables, before: Option<&Job>, after: &Job) -> Result<(), StoreError> {
    let header = tables.header();
    if let Some(before) = before {
        uncount(header, before.state.kind());
    }
    *header.count_mut(after.state.kind()) += 1;
    tables.put(before, after)
}
