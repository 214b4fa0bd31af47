//! What is between a job and its turn, from the indexes.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::job::{IssueRef, Job, JobId, limits, order};
use crate::store::redb::OrDamaged;
use crate::store::redb::read::Reader;
use crate::store::redb::tables::{self, Lane};
use crate::store::{Position, StoreError};
use crate::time::Timestamp;

impl Reader<'_> {
    /// Reads rows of indexes up to a bound, whatever is in the queue.
    pub fn position(
        &self,
        id: JobId,
        ahead_max: usize,
        now: Timestamp,
    ) -> Result<Option<Position>, StoreError> {
        let Some(job) = self.job(id)? else { return Ok(None) };
        let header = self.header()?;
        let place = order::claim_order(&job);
        let mut first = self.first_in_lane(&job.issue, Lane::Due)?;
        let mut ahead = self.ready_before(&job, ahead_max)?;
        // Those whose time has come since the last claim are not among the others yet.
        let mut issues = BTreeSet::new();
        for due in self.due_and_scheduled(now)? {
            let order = order::claim_order(&due);
            if due.issue == job.issue {
                first = Some(first.map_or(order, |first| first.min(order)));
                continue;
            }
            let is_free = self.first_in_lane(&due.issue, Lane::Running)?.is_none();
            let head = self.first_in_lane(&due.issue, Lane::Due)?;
            let is_counted = head.is_some_and(|head| head < place);
            if order < place && is_free && !is_counted {
                issues.insert(due.issue.key().to_string());
            }
        }
        ahead = (ahead + issues.len()).min(ahead_max);
        Ok(Some(Position {
            now,
            notified: header.running(),
            paused: header.paused_at(now).cloned(),
            holds: self.holds_at(now)?,
            running_of_issue: self.first_in_lane(&job.issue, Lane::Running)?.map(|(_, id)| id),
            first_of_issue: first.map(|(_, id)| id),
            ahead,
            job,
        }))
    }

    /// Heads of other issues that are ready and go first, counted up to a bound.
    fn ready_before(&self, job: &Job, limit: usize) -> Result<usize, StoreError> {
        let ready = self.txn.open_table(tables::READY).or_damaged(self.path)?;
        let own = match self.first_in_lane(&job.issue, Lane::Running)? {
            Some(_) => None,
            None => self.first_in_lane(&job.issue, Lane::Due)?,
        };
        let place = (tables::rank(job), job.id.0);
        let range = (Bound::Unbounded, Bound::Excluded(place));
        let mut count = 0;
        for row in ready.range::<(u32, u64)>(range).or_damaged(self.path)? {
            let (rank, id) = row.or_damaged(self.path)?.0.value();
            count += usize::from(own != Some((rank, JobId(id))));
            if count >= limit {
                break;
            }
        }
        Ok(count)
    }

    fn due_and_scheduled(&self, now: Timestamp) -> Result<Vec<Job>, StoreError> {
        let scheduled = self.txn.open_table(tables::SCHEDULED).or_damaged(self.path)?;
        let due = scheduled.range(..=(now.0, u64::MAX)).or_damaged(self.path)?;
        let mut jobs = Vec::new();
        for row in due.take(limits::PROMOTIONS_PER_COMMIT_MAX) {
            let (_, id) = row.or_damaged(self.path)?.0.value();
            jobs.extend(self.job(JobId(id))?);
        }
        Ok(jobs)
    }

    fn first_in_lane(
        &self,
        issue: &IssueRef,
        lane: Lane,
    ) -> Result<Option<(u32, JobId)>, StoreError> {
        let rows = self.txn.open_table(tables::ISSUES).or_damaged(self.path)?;
        let (key, lane) = (issue.key(), lane as u8);
        let range = (key, lane, 0, 0)..=(key, lane, u32::MAX, u64::MAX);
        let first = rows.range(range).or_damaged(self.path)?.next();
        let Some(row) = first else { return Ok(None) };
        let (_, _, rank, id) = row.or_damaged(self.path)?.0.value();
        Ok(Some((rank, JobId(id))))
    }
}
