//! What each operation means, once for every backend.

use crate::job::{
    Attempt, Event, Hold, IssueRef, Job, JobId, Lease, NewJob, Next, Reason, Refused, Session,
    State, StateKind, Token, Usage, limits, retry, transition,
};
use crate::store::{
    Answer, Claim, NothingToClaim, Op, OpRefused, Paused, Reply, Resumed, StoreError,
};
use crate::time::Timestamp;

/// The one row that every transaction may need: counters and the pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub next_job: u64,
    pub next_token: u64,
    pub pending: u64,
    pub notified: u64,
    pub completed: u64,
    pub error: u64,
    pub cancelled: u64,
    /// Of the pending ones: jobs that only a person frees.
    pub held: u64,
    /// Of the notified ones: jobs whose end is still to be read.
    pub judging: u64,
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
        held: 0,
        judging: 0,
        paused: None,
        attempts: 0,
        usage: Usage::NOTHING,
    };

    /// The counters that a job is in.
    fn counters_of(&mut self, job: &Job) -> [Option<&mut u64>; 3] {
        let (is_held, is_judging) = (job.is_held(), job.is_judging());
        let Header { pending, notified, completed, error, cancelled, held, judging, .. } = self;
        let state = match job.state.kind() {
            StateKind::Pending => pending,
            StateKind::Notified => notified,
            StateKind::Completed => completed,
            StateKind::Error => error,
            StateKind::Cancelled => cancelled,
        };
        [Some(state), is_held.then_some(held), is_judging.then_some(judging)]
    }

    pub fn count(&mut self, job: &Job) {
        for counter in self.counters_of(job).into_iter().flatten() {
            *counter += 1;
        }
    }

    fn uncount(&mut self, job: &Job) {
        for counter in self.counters_of(job).into_iter().flatten() {
            assert!(*counter > 0, "a job in a state is counted there");
            *counter -= 1;
        }
    }

    /// All counters, by their names.
    pub fn counters(&self) -> [(&'static str, u64); 7] {
        [
            (StateKind::Pending.name(), self.pending),
            (StateKind::Notified.name(), self.notified),
            (StateKind::Completed.name(), self.completed),
            (StateKind::Error.name(), self.error),
            (StateKind::Cancelled.name(), self.cancelled),
            ("held", self.held),
            ("judging", self.judging),
        ]
    }

    /// What the counters would be with these jobs.
    pub fn counting<'j>(jobs: impl IntoIterator<Item = &'j Job>) -> Header {
        let mut header = Header::EMPTY;
        jobs.into_iter().for_each(|job| header.count(job));
        header
    }

    /// Jobs that count against the cap.
    pub fn running(&self) -> u64 {
        self.notified.saturating_sub(self.judging.min(limits::JUDGING_MAX))
    }

    /// The pause in force at `now`.
    pub fn paused_at(&self, now: Timestamp) -> Option<&Paused> {
        self.paused.as_ref().filter(|paused| paused.until.is_none_or(|until| until > now))
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
    /// All holds of agent commands, also those that have ended, by their keys.
    fn holds(&self) -> Result<Vec<Hold>, StoreError>;
    /// Replaces the hold of the same agent command.
    fn put_hold(&mut self, hold: &Hold) -> Result<(), StoreError>;
    fn remove_hold(&mut self, hold: &Hold) -> Result<(), StoreError>;
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
            let by_a_person = Paused { until, since: Some(now), job: None, why: String::new() };
            tables.header().paused = Some(by_a_person);
            Ok(Ok(Reply::Done))
        }
        Op::Resume => resume(tables, now),
    }
}

/// Whether an answer comes with a change that must reach the disk.
pub(super) fn is_change(answer: &Answer) -> bool {
    match answer {
        Ok(Reply::Enqueued { new, .. }) => *new,
        Ok(Reply::Resumed(resumed)) => **resumed != Resumed::default(),
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
    if let Some(hold) = hold_of(tables, claim, now)? {
        return nothing(NothingToClaim::Held { until: hold.until });
    }
    if tables.header().running() >= u64::from(claim.cap) {
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

/// What holds the claimer's agent command back.
fn hold_of(
    tables: &impl Tables,
    claim: &Claim,
    now: Timestamp,
) -> Result<Option<Hold>, StoreError> {
    let Some(agent) = &claim.agent else { return Ok(None) };
    let mut holds = tables.holds()?.into_iter();
    Ok(holds.find(|hold| hold.agent == *agent && hold.is_in_force(now)))
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
    if let Some(hold) = hold_of(tables, claim, now)? {
        return Ok(Err(OpRefused::AgentHeld(Box::new(hold))));
    }
    let running = tables.header().running();
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
        agent: claim.agent.clone(),
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
            if let (true, Some(lease), Some(attempt)) = (ends, job.lease(), after.attempts.last()) {
                record_end(tables, lease, &after, attempt, now)?;
            }
            Ok(Reply::Changed(after))
        }
        Ok(Next::AlreadySo) => Ok(Reply::AlreadySo(Box::new(job))),
        Err(refused) => Err(OpRefused::Transition(job.id, refused)),
    })
}

/// What the end of an attempt means to the whole queue.
fn record_end(
    tables: &mut impl Tables,
    lease: &Lease,
    after: &Job,
    attempt: &Attempt,
    now: Timestamp,
) -> Result<(), StoreError> {
    let report = &attempt.report;
    let header = tables.header();
    header.attempts += 1;
    header.usage = header.usage.plus(report.usage);
    let in_a_row = after.spent.deferred;
    let until = now.plus_ms(retry::postponed_ms(report.reason, report.defer_ms, in_a_row));
    let why = report.detail.clone();
    if report.pause && report.reason == Reason::Deferred {
        // Somebody's own pause, and a longer one, stay as they are.
        let stays = |paused: &Paused| paused.until.is_none_or(|end| end >= until);
        if !header.paused_at(now).is_some_and(stays) {
            let (until, since, job) = (Some(until), Some(now), Some(after.id));
            header.paused = Some(Paused { until, since, job, why });
        }
        return Ok(());
    }
    let is_login = report.reason == Reason::ProviderLogin;
    match &lease.agent {
        Some(agent) if is_login || report.reason == Reason::ProviderLimit => {
            let (agent, until) = (agent.clone(), (!is_login).then_some(until));
            hold_back(tables, &Hold { agent, since: now, until, why, job: after.id }, now)
        }
        Some(_) | None => Ok(()),
    }
}

/// Holds an agent command back. One that is held for longer stays as it is.
fn hold_back(tables: &mut impl Tables, hold: &Hold, now: Timestamp) -> Result<(), StoreError> {
    let mut others = Vec::new();
    for known in tables.holds()? {
        if !known.is_in_force(now) {
            tables.remove_hold(&known)?;
        } else if known.agent != hold.agent {
            others.push(known);
        } else if !known.ends_before(hold) {
            return Ok(());
        }
    }
    if others.len() >= limits::HOLDS_MAX {
        let first = others.into_iter().reduce(|a, b| if b.ends_before(&a) { b } else { a });
        if let Some(first) = first {
            tables.remove_hold(&first)?;
        }
    }
    tables.put_hold(hold)
}

fn resume(tables: &mut impl Tables, now: Timestamp) -> Result<Answer, StoreError> {
    let header = tables.header();
    let paused = header.paused_at(now).cloned();
    header.paused = None;
    let mut holds = Vec::new();
    for hold in tables.holds()? {
        tables.remove_hold(&hold)?;
        if hold.is_in_force(now) {
            holds.push(hold);
        }
    }
    Ok(Ok(Reply::Resumed(Box::new(Resumed { paused, holds }))))
}

fn remove(tables: &mut impl Tables, id: JobId) -> Result<Answer, StoreError> {
    let Some(job) = tables.job(id)? else {
        return Ok(Err(OpRefused::NoSuchJob(id)));
    };
    let kind = job.state.kind();
    if kind == StateKind::Notified {
        return Ok(Err(OpRefused::Transition(id, Refused::Wrong(kind))));
    }
    tables.header().uncount(&job);
    tables.remove(&job)?;
    Ok(Ok(Reply::Removed(Box::new(job))))
}

fn save(tables: &mut impl Tables, before: Option<&Job>, after: &Job) -> Result<(), StoreError> {
    let header = tables.header();
    if let Some(before) = before {
        header.uncount(before);
    }
    header.count(after);
    tables.put(before, after)
}
