//! Reading: one snapshot of the file.

use std::ops::Bound;
use std::path::Path;

use ::redb::{ReadTransaction, ReadableTable};

use crate::job::{Hold, IssueRef, Job, JobId, Session, StateKind, limits};
use crate::store::apply::Header;
use crate::store::redb::tables::{self, Lane, StateRow};
use crate::store::redb::{
    OrDamaged, RedbStore, damaged, decode_header, decode_job, decode_session,
};
use crate::store::{ListQuery, Page, Stats, StoreError};
use crate::time::Timestamp;

/// A read transaction.
pub(super) struct Reader<'s> {
    pub(super) txn: ReadTransaction,
    pub(super) path: &'s Path,
}

impl RedbStore {
    pub(super) fn reader(&self) -> Result<Reader<'_>, StoreError> {
        let txn = self.begin_read()?;
        Ok(Reader { txn, path: &self.path })
    }
}

impl Reader<'_> {
    pub fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let jobs = self.txn.open_table(tables::JOBS).or_damaged(self.path)?;
        match jobs.get(id.0).or_damaged(self.path)? {
            None => Ok(None),
            Some(bytes) => decode_job(self.path, bytes.value()).map(Some),
        }
    }

    /// A job that an index names.
    fn indexed_job(&self, id: u64) -> Result<Job, StoreError> {
        let missing = || damaged(self.path, format!("job {id} is indexed, but not there"));
        self.job(JobId(id))?.ok_or_else(missing)
    }

    pub fn header(&self) -> Result<Header, StoreError> {
        let meta = self.txn.open_table(tables::META).or_damaged(self.path)?;
        match meta.get(tables::META_HEADER).or_damaged(self.path)? {
            Some(bytes) => decode_header(self.path, bytes.value()),
            None => Err(damaged(self.path, "it has no header")),
        }
    }

    pub fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        let wanted = |kind: &StateKind| query.states.is_empty() || query.states.contains(kind);
        let mut page = Page { items: Vec::new(), total: 0 };
        for kind in [StateKind::Notified, StateKind::Pending].into_iter().filter(wanted) {
            let room = query.limit - page.items.len();
            let (ids, count) = match &query.issue {
                Some(issue) => self.unended_of(issue, kind)?,
                None => (self.ids_in_state(kind, room)?, self.count(kind)?),
            };
            page.total += count;
            for id in ids.into_iter().take(room) {
                page.items.push(self.indexed_job(id)?);
            }
        }
        let ended: Vec<StateKind> =
            StateKind::ALL.into_iter().filter(|kind| kind.is_ended()).filter(wanted).collect();
        let room = query.limit - page.items.len();
        let (mut rows, count) = match &query.issue {
            Some(issue) => self.ended_of(issue, &ended)?,
            None => self.last_ended(&ended, room)?,
        };
        page.total += count;
        rows.sort_unstable();
        for (_, id) in rows.into_iter().rev().take(room) {
            page.items.push(self.indexed_job(id)?);
        }
        Ok(page)
    }

    fn count(&self, kind: StateKind) -> Result<u64, StoreError> {
        let header = self.header()?;
        Ok(match kind {
            StateKind::Pending => header.pending,
            StateKind::Notified => header.notified,
            StateKind::Completed => header.completed,
            StateKind::Error => header.error,
            StateKind::Cancelled => header.cancelled,
        })
    }

    /// The first ids of a state.
    fn ids_in_state(&self, kind: StateKind, limit: usize) -> Result<Vec<u64>, StoreError> {
        let rows = self.txn.open_table(tables::STATES).or_damaged(self.path)?;
        let number = tables::state_number(kind);
        let all = (number, 0, 0)..=(number, u64::MAX, u64::MAX);
        let mut ids = Vec::new();
        for row in rows.range::<StateRow>(all).or_damaged(self.path)?.take(limit) {
            ids.push(row.or_damaged(self.path)?.0.value().2);
        }
        Ok(ids)
    }

    /// The last `limit` of each of these states, as (finished_at, id), and how many there are.
    fn last_ended(
        &self,
        kinds: &[StateKind],
        limit: usize,
    ) -> Result<(Vec<(u64, u64)>, u64), StoreError> {
        let states = self.txn.open_table(tables::STATES).or_damaged(self.path)?;
        let (mut rows, mut count) = (Vec::new(), 0);
        for &kind in kinds {
            count += self.count(kind)?;
            let number = tables::state_number(kind);
            let all = (number, 0, 0)..=(number, u64::MAX, u64::MAX);
            for row in states.range::<StateRow>(all).or_damaged(self.path)?.rev().take(limit) {
                let (_, finished_at, id) = row.or_damaged(self.path)?.0.value();
                rows.push((finished_at, id));
            }
        }
        Ok((rows, count))
    }

    /// The first of these states that ended, and not after `at`.
    pub fn ended_until(
        &self,
        states: &[StateKind],
        at: Timestamp,
        limit: usize,
    ) -> Result<Vec<JobId>, StoreError> {
        let table = self.txn.open_table(tables::STATES).or_damaged(self.path)?;
        let mut ended = Vec::new();
        for &kind in states {
            let number = tables::state_number(kind);
            let range = (number, 0, 0)..=(number, at.0, u64::MAX);
            for row in table.range::<StateRow>(range).or_damaged(self.path)?.take(limit) {
                let (_, finished_at, id) = row.or_damaged(self.path)?.0.value();
                ended.push((finished_at, id));
            }
        }
        ended.sort_unstable();
        Ok(ended.into_iter().map(|(_, id)| JobId(id)).take(limit).collect())
    }

    /// The issue's running or pending jobs, by their numbers: from the index alone.
    fn unended_of(&self, issue: &IssueRef, kind: StateKind) -> Result<(Vec<u64>, u64), StoreError> {
        let mut ids = if kind == StateKind::Notified {
            self.ids_in_lane(issue, Lane::Running)?
        } else {
            let mut ids = self.ids_in_lane(issue, Lane::Due)?;
            ids.extend(self.ids_in_lane(issue, Lane::Scheduled)?);
            ids
        };
        ids.sort_unstable();
        let count = ids.len() as u64;
        Ok((ids, count))
    }

    /// The issue's jobs that ended so, as (finished_at, id). Reads all that ended: the index by
    /// issue does not tell how.
    fn ended_of(
        &self,
        issue: &IssueRef,
        kinds: &[StateKind],
    ) -> Result<(Vec<(u64, u64)>, u64), StoreError> {
        let mut rows = Vec::new();
        if !kinds.is_empty() {
            for id in self.ids_in_lane(issue, Lane::Ended)? {
                let job = self.indexed_job(id)?;
                if kinds.contains(&job.state.kind()) {
                    rows.push((tables::state_row(&job).1, id));
                }
            }
        }
        let count = rows.len() as u64;
        Ok((rows, count))
    }

    fn ids_in_lane(&self, issue: &IssueRef, lane: Lane) -> Result<Vec<u64>, StoreError> {
        let rows = self.txn.open_table(tables::ISSUES).or_damaged(self.path)?;
        let (key, lane) = (issue.key(), lane as u8);
        let range = (key, lane, 0, 0)..=(key, lane, u32::MAX, u64::MAX);
        let mut ids = Vec::new();
        for row in rows.range(range).or_damaged(self.path)? {
            ids.push(row.or_damaged(self.path)?.0.value().3);
        }
        Ok(ids)
    }

    pub fn jobs_after(&self, after: JobId, limit: usize) -> Result<Vec<Job>, StoreError> {
        let jobs = self.txn.open_table(tables::JOBS).or_damaged(self.path)?;
        let beyond = (Bound::Excluded(after.0), Bound::Unbounded);
        let mut found = Vec::new();
        for row in jobs.range::<u64>(beyond).or_damaged(self.path)?.take(limit) {
            let (_, bytes) = row.or_damaged(self.path)?;
            found.push(decode_job(self.path, bytes.value())?);
        }
        Ok(found)
    }

    pub fn stats(&self, now: Timestamp) -> Result<Stats, StoreError> {
        let header = self.header()?;
        let oldest = match self.ids_in_state(StateKind::Pending, 1)?.first() {
            Some(&id) => Some(self.indexed_job(id)?.enqueued_at),
            None => None,
        };
        let scheduled = self.txn.open_table(tables::SCHEDULED).or_damaged(self.path)?;
        Ok(Stats {
            pending: header.pending,
            notified: header.notified,
            completed: header.completed,
            error: header.error,
            cancelled: header.cancelled,
            held: header.held,
            judging: header.judging,
            oldest_pending: oldest,
            next_due: tables::next_due_at(&scheduled, now).or_damaged(self.path)?,
            paused: header.paused_at(now).cloned(),
            holds: self.holds_at(now)?,
            attempts: header.attempts,
            usage: header.usage,
        })
    }

    /// The holds of agent commands that are in force.
    pub fn holds_at(&self, now: Timestamp) -> Result<Vec<Hold>, StoreError> {
        let meta = self.txn.open_table(tables::META).or_damaged(self.path)?;
        let holds = tables::holds(&meta, self.path)?;
        Ok(holds.into_iter().filter(|hold| hold.is_in_force(now)).collect())
    }

    /// How many scheduled jobs are due, counted up to what one transaction may move.
    pub fn due_but_scheduled(&self, now: Timestamp) -> Result<usize, StoreError> {
        let scheduled = self.txn.open_table(tables::SCHEDULED).or_damaged(self.path)?;
        let due = scheduled.range(..=(now.0, u64::MAX)).or_damaged(self.path)?;
        Ok(due.take(limits::PROMOTIONS_PER_COMMIT_MAX).count())
    }

    pub fn session(&self, issue: &IssueRef) -> Result<Option<Session>, StoreError> {
        let sessions = self.txn.open_table(tables::SESSIONS).or_damaged(self.path)?;
        match sessions.get(issue.key()).or_damaged(self.path)? {
            None => Ok(None),
            Some(bytes) => decode_session(self.path, bytes.value()).map(Some),
        }
    }

    pub fn sessions(&self) -> Result<Vec<Session>, StoreError> {
        let sessions = self.txn.open_table(tables::SESSIONS).or_damaged(self.path)?;
        let mut all = Vec::new();
        for row in sessions.iter().or_damaged(self.path)? {
            let (_, bytes) = row.or_damaged(self.path)?;
            all.push(decode_session(self.path, bytes.value())?);
        }
        Ok(all)
    }
}
