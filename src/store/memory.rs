//! The reference backend: plain maps and linear scans, nothing on disk.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::job::{AgentKey, Hold, IssueRef, Job, JobId, Session, State, StateKind, order};
use crate::store::apply::{self, Header, Tables};
use crate::store::wake::{Hub, Watch};
use crate::store::{Answer, ListQuery, Op, Page, Position, Stats, Store, StoreError};
use crate::time::{Clock, SystemClock, Timestamp};

/// Jobs in memory. For tests, and as the plainest statement of what a store does. [`Default`] goes
/// by the system's clock.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    rows: Mutex<Rows>,
    hub: Hub,
}

struct Rows {
    header: Header,
    jobs: BTreeMap<JobId, Job>,
    sessions: BTreeMap<String, Session>,
    holds: BTreeMap<AgentKey, Hold>,
}

impl Rows {
    fn holds_at(&self, now: Timestamp) -> Vec<Hold> {
        self.holds.values().filter(|hold| hold.is_in_force(now)).cloned().collect()
    }
}

impl MemoryStore {
    /// An empty store that goes by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> MemoryStore {
        let rows = Rows {
            header: Header::EMPTY,
            jobs: BTreeMap::new(),
            sessions: BTreeMap::new(),
            holds: BTreeMap::new(),
        };
        MemoryStore { clock, rows: Mutex::new(rows), hub: Hub::default() }
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().expect("no thread panics while it holds the rows")
    }
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new(Arc::new(SystemClock))
    }
}

impl Store for MemoryStore {
    fn commit(&self, operations: Vec<Op>) -> Result<Vec<Answer>, StoreError> {
        let mut rows = self.rows();
        let now = self.now();
        let mut wakes = false;
        let mut answers = Vec::with_capacity(operations.len());
        for op in operations {
            let wakes_others = apply::wakes_others(&op);
            let answer = apply::apply(&mut *rows, op, now)?;
            wakes |= wakes_others && apply::is_change(&answer);
            answers.push(answer);
        }
        drop(rows);
        if wakes {
            self.hub.notify_all();
        }
        Ok(answers)
    }

    fn get(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        Ok(self.rows().jobs.get(&id).cloned())
    }

    fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        let rows = self.rows();
        let mut items: Vec<Job> = rows
            .jobs
            .values()
            .filter(|job| query.states.is_empty() || query.states.contains(&job.state.kind()))
            .filter(|job| query.issue.as_ref().is_none_or(|issue| *issue == job.issue))
            .cloned()
            .collect();
        items.sort_by_key(list_order);
        let total = items.len() as u64;
        items.truncate(query.limit);
        Ok(Page { items, total })
    }

    fn jobs_after(&self, after: JobId, limit: usize) -> Result<Vec<Job>, StoreError> {
        let beyond = (Bound::Excluded(after), Bound::Unbounded);
        Ok(self.rows().jobs.range(beyond).map(|(_, job)| job.clone()).take(limit).collect())
    }

    fn stats(&self) -> Result<Stats, StoreError> {
        let rows = self.rows();
        let now = self.now();
        let pending = |job: &&Job| job.state.kind() == StateKind::Pending;
        Ok(Stats {
            pending: rows.header.pending,
            notified: rows.header.notified,
            completed: rows.header.completed,
            error: rows.header.error,
            cancelled: rows.header.cancelled,
            held: rows.header.held,
            judging: rows.header.judging,
            oldest_pending: rows.jobs.values().find(pending).map(|job| job.enqueued_at),
            next_due: rows.next_due_at(now)?,
            paused: rows.header.paused_at(now).cloned(),
            holds: rows.holds_at(now),
            attempts: rows.header.attempts,
            usage: rows.header.usage,
        })
    }

    fn position(&self, id: JobId, ahead_max: usize) -> Result<Option<Position>, StoreError> {
        let rows = self.rows();
        let now = self.now();
        let Some(job) = rows.jobs.get(&id).cloned() else { return Ok(None) };
        let mut heads: BTreeMap<&str, &Job> = BTreeMap::new();
        for due in rows.jobs.values().filter(|job| order::is_due(job, now)) {
            let head = heads.entry(due.issue.key()).or_insert(due);
            if order::claim_order(due) < order::claim_order(head) {
                *head = due;
            }
        }
        let first_of_issue = heads.remove(job.issue.key()).map(|head| head.id);
        let mut ahead = 0;
        for head in heads.into_values() {
            let is_before = order::claim_order(head) < order::claim_order(&job);
            ahead += usize::from(is_before && rows.running_of(&head.issue)?.is_none());
        }
        Ok(Some(Position {
            now,
            notified: rows.header.running(),
            paused: rows.header.paused_at(now).cloned(),
            holds: rows.holds_at(now),
            running_of_issue: rows.running_of(&job.issue)?,
            first_of_issue,
            ahead: ahead.min(ahead_max),
            job,
        }))
    }

    fn ended_until(
        &self,
        states: &[StateKind],
        at: Timestamp,
        limit: usize,
    ) -> Result<Vec<JobId>, StoreError> {
        let rows = self.rows();
        let wanted = rows.jobs.values().filter(|job| states.contains(&job.state.kind()));
        let mut ended: Vec<(Timestamp, JobId)> = wanted
            .filter_map(|job| Some((job.outcome()?.finished_at, job.id)))
            .filter(|(finished_at, _)| *finished_at <= at)
            .collect();
        ended.sort_unstable();
        Ok(ended.into_iter().map(|(_, id)| id).take(limit).collect())
    }

    fn session(&self, issue: &IssueRef) -> Result<Option<Session>, StoreError> {
        Ok(self.rows().sessions.get(issue.key()).cloned())
    }

    fn sessions(&self) -> Result<Vec<Session>, StoreError> {
        Ok(self.rows().sessions.values().cloned().collect())
    }

    fn verify(&self) -> Result<Vec<String>, StoreError> {
        let rows = self.rows();
        let counted = Header::counting(rows.jobs.values());
        let counters = rows.header.counters().into_iter().zip(counted.counters());
        Ok(counters
            .filter(|((_, counter), (_, jobs))| counter != jobs)
            .map(|((name, counter), (_, jobs))| format!("{name}: counter {counter}, jobs {jobs}"))
            .collect())
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn watch(&self) -> Watch {
        self.hub.watch()
    }
}

fn list_order(job: &Job) -> (u8, u64, u64) {
    match &job.state {
        State::Notified(_) => (0, 0, job.id.0),
        State::Pending(_) => (1, 0, job.id.0),
        // From the last to the first, among those of one moment too.
        State::Completed(outcome) | State::Error(outcome) | State::Cancelled(outcome) => {
            (2, u64::MAX - outcome.finished_at.0, u64::MAX - job.id.0)
        }
    }
}

impl Tables for Rows {
    fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        Ok(self.jobs.get(&id).cloned())
    }

    fn put(&mut self, _before: Option<&Job>, after: &Job) -> Result<(), StoreError> {
        self.jobs.insert(after.id, after.clone());
        Ok(())
    }

    fn remove(&mut self, job: &Job) -> Result<(), StoreError> {
        self.jobs.remove(&job.id);
        Ok(())
    }

    fn by_request_id(&self, request_id: &str) -> Result<Option<JobId>, StoreError> {
        let same = |job: &&Job| job.request_id.as_deref() == Some(request_id);
        Ok(self.jobs.values().find(same).map(|job| job.id))
    }

    fn best_due(&mut self, now: Timestamp) -> Result<Option<JobId>, StoreError> {
        let mut best: Option<&Job> = None;
        for job in self.jobs.values().filter(|job| order::is_due(job, now)) {
            let better = best.is_none_or(|best| order::claim_order(job) < order::claim_order(best));
            if better && self.running_of(&job.issue)?.is_none() {
                best = Some(job);
            }
        }
        Ok(best.map(|job| job.id))
    }

    fn running_of(&self, issue: &IssueRef) -> Result<Option<JobId>, StoreError> {
        let running = |job: &&Job| job.lease().is_some() && job.issue == *issue;
        Ok(self.jobs.values().find(running).map(|job| job.id))
    }

    fn first_pending_of(&self, issue: &IssueRef) -> Result<Option<JobId>, StoreError> {
        let pending = |job: &&Job| job.state.kind() == StateKind::Pending && job.issue == *issue;
        let first = self.jobs.values().filter(pending).min_by_key(|job| order::claim_order(job));
        Ok(first.map(|job| job.id))
    }

    fn next_due_at(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let run_at = |job: &Job| match &job.state {
            State::Pending(pending) => {
                Some(pending.run_at).filter(|at| *at > now && !pending.is_held())
            }
            State::Notified(_) | State::Completed(_) | State::Error(_) | State::Cancelled(_) => {
                None
            }
        };
        Ok(self.jobs.values().filter_map(run_at).min())
    }

    fn header(&mut self) -> &mut Header {
        &mut self.header
    }

    fn holds(&self) -> Result<Vec<Hold>, StoreError> {
        Ok(self.holds.values().cloned().collect())
    }

    fn put_hold(&mut self, hold: &Hold) -> Result<(), StoreError> {
        self.holds.insert(hold.agent.clone(), hold.clone());
        Ok(())
    }

    fn remove_hold(&mut self, hold: &Hold) -> Result<(), StoreError> {
        self.holds.remove(&hold.agent);
        Ok(())
    }

    fn put_session(&mut self, session: &Session) -> Result<(), StoreError> {
        self.sessions.insert(session.issue.key().into(), session.clone());
        Ok(())
    }

    fn remove_session(&mut self, issue: &IssueRef) -> Result<bool, StoreError> {
        Ok(self.sessions.remove(issue.key()).is_some())
    }
}
