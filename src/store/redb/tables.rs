//! The tables, and how a change of one job changes them.

use std::path::Path;

use ::redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::job::{Hold, IssueRef, Job, JobId, Session, State, StateKind, limits, order};
use crate::store::StoreError;
use crate::store::apply::{Header, Tables};
use crate::store::record;
use crate::store::redb::{
    Changed, OrDamaged, SCHEMA, damaged, decode_header, decode_hold, decode_job,
};
use crate::time::Timestamp;

/// Every job: id to record. All other job tables are indexes of this one.
pub(super) const JOBS: TableDefinition<u64, &[u8]> = TableDefinition::new("jobs");
/// Every job by its issue: (issue key, [`Lane`], rank, id).
pub(super) const ISSUES: TableDefinition<IssueRow, ()> = TableDefinition::new("issues");
/// What can be claimed: (rank, id) of the first due job of each issue that is not running.
pub(super) const READY: TableDefinition<(u32, u64), ()> = TableDefinition::new("ready");
/// Pending jobs whose time had not come when they were looked at last: (run_at, id).
pub(super) const SCHEDULED: TableDefinition<(u64, u64), ()> = TableDefinition::new("scheduled");
/// Every job by its state: (state, finished_at or 0, id).
pub(super) const STATES: TableDefinition<StateRow, ()> = TableDefinition::new("states");
/// Request id to job id.
pub(super) const REQUEST_IDS: TableDefinition<&str, u64> = TableDefinition::new("request_ids");
/// Issue key to session record.
pub(super) const SESSIONS: TableDefinition<&str, &[u8]> = TableDefinition::new("sessions");
/// The schema version, the header record, and a record for each agent command that is held.
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

pub(super) const META_SCHEMA: &str = "schema";
pub(super) const META_HEADER: &str = "header";
/// Before the key of an agent command that is held.
const META_HOLD: &str = "provider:";
/// Right behind all of them.
const META_HOLDS_END: &str = "provider;";

pub(super) type IssueRow = (&'static str, u8, u32, u64);
pub(super) type StateRow = (u8, u64, u64);

/// Where a job stands among the jobs of its issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Lane {
    Running = 0,
    Due = 1,
    Scheduled = 2,
    Ended = 3,
}

/// The number of a state in the [`STATES`] table.
pub(super) fn state_number(kind: StateKind) -> u8 {
    match kind {
        StateKind::Pending => 0,
        StateKind::Notified => 1,
        StateKind::Completed => 2,
        StateKind::Error => 3,
        StateKind::Cancelled => 4,
    }
}

/// The job's row in [`STATES`].
pub(super) fn state_row(job: &Job) -> StateRow {
    let finished_at = job.outcome().map_or(0, |outcome| outcome.finished_at.0);
    (state_number(job.state.kind()), finished_at, job.id.0)
}

/// The job's rank in [`ISSUES`] and [`READY`].
pub(super) fn rank(job: &Job) -> u32 {
    order::rank(job.priority)
}

/// All tables of one write transaction.
pub(super) struct WriteTables<'t> {
    path: &'t Path,
    now: Timestamp,
    header: Header,
    header_on_disk: Option<Header>,
    schema_on_disk: Option<u32>,
    jobs: Table<'t, u64, &'static [u8]>,
    issues: Table<'t, IssueRow, ()>,
    ready: Table<'t, (u32, u64), ()>,
    scheduled: Table<'t, (u64, u64), ()>,
    states: Table<'t, StateRow, ()>,
    request_ids: Table<'t, &'static str, u64>,
    sessions: Table<'t, &'static str, &'static [u8]>,
    meta: Table<'t, &'static str, &'static [u8]>,
}

impl<'t> WriteTables<'t> {
    pub fn open(
        txn: &'t WriteTransaction,
        path: &'t Path,
        now: Timestamp,
    ) -> Result<WriteTables<'t>, StoreError> {
        let meta = txn.open_table(META).or_damaged(path)?;
        let header_on_disk = match meta.get(META_HEADER).or_damaged(path)? {
            Some(bytes) => Some(decode_header(path, bytes.value())?),
            None => None,
        };
        let schema_on_disk = schema(&meta, path)?;
        if let Some(found) = schema_on_disk.filter(|found| *found > SCHEMA) {
            return Err(StoreError::TooNew { path: path.into(), found, known: SCHEMA });
        }
        Ok(WriteTables {
            path,
            now,
            header: header_on_disk.clone().unwrap_or(Header::EMPTY),
            header_on_disk,
            schema_on_disk,
            jobs: txn.open_table(JOBS).or_damaged(path)?,
            issues: txn.open_table(ISSUES).or_damaged(path)?,
            ready: txn.open_table(READY).or_damaged(path)?,
            scheduled: txn.open_table(SCHEDULED).or_damaged(path)?,
            states: txn.open_table(STATES).or_damaged(path)?,
            request_ids: txn.open_table(REQUEST_IDS).or_damaged(path)?,
            sessions: txn.open_table(SESSIONS).or_damaged(path)?,
            meta,
        })
    }

    /// Ends the work with the tables, of which `changed` says whether it changed them. Writes the
    /// header if that changed. The first change to a file that is new, or was written by an older
    /// version, marks it as one of this version, in the header too: older programs that have it
    /// open read that with each write.
    pub fn close(mut self, changed: Changed) -> Result<Changed, StoreError> {
        let is_marked = self.schema_on_disk == Some(SCHEMA);
        let header_changed = self.header_on_disk.as_ref() != Some(&self.header);
        if changed == Changed::No && !header_changed {
            return Ok(Changed::No);
        }
        if !is_marked {
            let bytes = SCHEMA.to_le_bytes();
            self.meta.insert(META_SCHEMA, bytes.as_slice()).or_damaged(self.path)?;
        }
        if header_changed || !is_marked {
            self.write_header()?;
        }
        Ok(Changed::Yes)
    }

    /// Writes the header, also if it is there already.
    pub fn write_header(&mut self) -> Result<(), StoreError> {
        let bytes = record::encode_header(&self.header);
        self.meta.insert(META_HEADER, bytes.as_slice()).or_damaged(self.path)?;
        Ok(())
    }

    /// Moves jobs whose time has come from `scheduled` into the order of claims, at most
    /// [`limits::PROMOTIONS_PER_COMMIT_MAX`].
    pub fn promote(&mut self, now: Timestamp) -> Result<(), StoreError> {
        for _ in 0..limits::PROMOTIONS_PER_COMMIT_MAX {
            let first = self.scheduled.first().or_damaged(self.path)?;
            let Some((run_at, id)) = first.map(|(key, _)| key.value()) else { return Ok(()) };
            if run_at > now.0 {
                return Ok(());
            }
            let Some(job) = self.job(JobId(id))? else {
                return Err(damaged(self.path, format!("job {id} is scheduled, but not there")));
            };
            let head = self.head(job.issue.key())?;
            self.scheduled.remove((run_at, id)).or_damaged(self.path)?;
            self.remove_issue_row(&job, Lane::Scheduled)?;
            self.insert_issue_row(&job, Lane::Due)?;
            self.move_head(job.issue.key(), head)?;
        }
        Ok(())
    }

    /// The first due job of an issue that is not running: what `ready` must hold for it.
    fn head(&self, issue: &str) -> Result<Option<(u32, u64)>, StoreError> {
        if self.first_of(issue, Lane::Running)?.is_some() {
            return Ok(None);
        }
        self.first_of(issue, Lane::Due)
    }

    fn first_of(&self, issue: &str, lane: Lane) -> Result<Option<(u32, u64)>, StoreError> {
        let lane = lane as u8;
        let mut rows = self
            .issues
            .range((issue, lane, 0, 0)..=(issue, lane, u32::MAX, u64::MAX))
            .or_damaged(self.path)?;
        match rows.next() {
            None => Ok(None),
            Some(row) => {
                let (key, _) = row.or_damaged(self.path)?;
                let (_, _, rank, id) = key.value();
                Ok(Some((rank, id)))
            }
        }
    }

    fn move_head(&mut self, issue: &str, before: Option<(u32, u64)>) -> Result<(), StoreError> {
        let after = self.head(issue)?;
        if before == after {
            return Ok(());
        }
        if let Some(row) = before {
            self.ready.remove(row).or_damaged(self.path)?;
        }
        if let Some(row) = after {
            self.ready.insert(row, ()).or_damaged(self.path)?;
        }
        Ok(())
    }

    fn insert_issue_row(&mut self, job: &Job, lane: Lane) -> Result<(), StoreError> {
        let row = (job.issue.key(), lane as u8, rank(job), job.id.0);
        self.issues.insert(row, ()).or_damaged(self.path)?;
        Ok(())
    }

    fn remove_issue_row(&mut self, job: &Job, lane: Lane) -> Result<bool, StoreError> {
        let row = (job.issue.key(), lane as u8, rank(job), job.id.0);
        Ok(self.issues.remove(row).or_damaged(self.path)?.is_some())
    }

    /// Takes the job's rows out of every index.
    fn unlist(&mut self, job: &Job) -> Result<(), StoreError> {
        let removed = match &job.state {
            State::Pending(pending) => {
                self.scheduled.remove((pending.run_at.0, job.id.0)).or_damaged(self.path)?;
                self.remove_issue_row(job, Lane::Due)?
                    || self.remove_issue_row(job, Lane::Scheduled)?
            }
            State::Notified(_) => self.remove_issue_row(job, Lane::Running)?,
            State::Completed(_) | State::Error(_) | State::Cancelled(_) => {
                self.remove_issue_row(job, Lane::Ended)?
            }
        };
        let stated = self.states.remove(state_row(job)).or_damaged(self.path)?.is_some();
        if removed && stated {
            Ok(())
        } else {
            Err(damaged(self.path, format!("job {} is missing from an index", job.id)))
        }
    }

    /// Puts the job's rows into every index.
    fn relist(&mut self, job: &Job) -> Result<(), StoreError> {
        let lane = match &job.state {
            State::Pending(pending) if pending.run_at > self.now => {
                self.scheduled.insert((pending.run_at.0, job.id.0), ()).or_damaged(self.path)?;
                Lane::Scheduled
            }
            State::Pending(_) => Lane::Due,
            State::Notified(_) => Lane::Running,
            State::Completed(_) | State::Error(_) | State::Cancelled(_) => Lane::Ended,
        };
        self.insert_issue_row(job, lane)?;
        self.states.insert(state_row(job), ()).or_damaged(self.path)?;
        Ok(())
    }
}

impl Tables for WriteTables<'_> {
    fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        match self.jobs.get(id.0).or_damaged(self.path)? {
            None => Ok(None),
            Some(bytes) => decode_job(self.path, bytes.value()).map(Some),
        }
    }

    fn put(&mut self, before: Option<&Job>, after: &Job) -> Result<(), StoreError> {
        let issue = after.issue.key();
        self.jobs.insert(after.id.0, record::encode_job(after).as_slice()).or_damaged(self.path)?;
        match before {
            // While it runs, only its lease moves, and no index holds that.
            Some(Job { state: State::Notified(_), .. })
                if after.state.kind() == StateKind::Notified =>
            {
                Ok(())
            }
            Some(before) => {
                assert_eq!(before.issue, after.issue, "a job keeps its issue");
                let head = self.head(issue)?;
                self.unlist(before)?;
                self.relist(after)?;
                self.move_head(issue, head)
            }
            None => {
                let head = self.head(issue)?;
                self.relist(after)?;
                if let Some(request_id) = &after.request_id {
                    self.request_ids
                        .insert(request_id.as_str(), after.id.0)
                        .or_damaged(self.path)?;
                }
                self.move_head(issue, head)
            }
        }
    }

    fn remove(&mut self, job: &Job) -> Result<(), StoreError> {
        let issue = job.issue.key();
        let head = self.head(issue)?;
        self.unlist(job)?;
        self.jobs.remove(job.id.0).or_damaged(self.path)?;
        if let Some(request_id) = &job.request_id {
            self.request_ids.remove(request_id.as_str()).or_damaged(self.path)?;
        }
        self.move_head(issue, head)
    }

    fn by_request_id(&self, request_id: &str) -> Result<Option<JobId>, StoreError> {
        let id = self.request_ids.get(request_id).or_damaged(self.path)?;
        Ok(id.map(|id| JobId(id.value())))
    }

    fn best_due(&mut self, _now: Timestamp) -> Result<Option<JobId>, StoreError> {
        let first = self.ready.first().or_damaged(self.path)?;
        Ok(first.map(|(key, _)| JobId(key.value().1)))
    }

    fn running_of(&self, issue: &IssueRef) -> Result<Option<JobId>, StoreError> {
        Ok(self.first_of(issue.key(), Lane::Running)?.map(|(_, id)| JobId(id)))
    }

    fn first_pending_of(&self, issue: &IssueRef) -> Result<Option<JobId>, StoreError> {
        let due = self.first_of(issue.key(), Lane::Due)?;
        let scheduled = self.first_of(issue.key(), Lane::Scheduled)?;
        let first = [due, scheduled].into_iter().flatten().min();
        Ok(first.map(|(_, id)| JobId(id)))
    }

    fn next_due_at(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        next_due_at(&self.scheduled, now).or_damaged(self.path)
    }

    fn header(&mut self) -> &mut Header {
        &mut self.header
    }

    fn holds(&self) -> Result<Vec<Hold>, StoreError> {
        holds(&self.meta, self.path)
    }

    fn put_hold(&mut self, hold: &Hold) -> Result<(), StoreError> {
        let bytes = record::encode_hold(hold);
        let row = format!("{META_HOLD}{}", hold.agent);
        self.meta.insert(row.as_str(), bytes.as_slice()).or_damaged(self.path)?;
        Ok(())
    }

    fn remove_hold(&mut self, hold: &Hold) -> Result<(), StoreError> {
        let row = format!("{META_HOLD}{}", hold.agent);
        self.meta.remove(row.as_str()).or_damaged(self.path)?;
        Ok(())
    }

    fn put_session(&mut self, session: &Session) -> Result<(), StoreError> {
        let bytes = record::encode_session(session);
        self.sessions.insert(session.issue.key(), bytes.as_slice()).or_damaged(self.path)?;
        Ok(())
    }

    fn remove_session(&mut self, issue: &IssueRef) -> Result<bool, StoreError> {
        Ok(self.sessions.remove(issue.key()).or_damaged(self.path)?.is_some())
    }
}

/// When the first scheduled job is due that is not due now.
pub(super) fn next_due_at(
    scheduled: &impl ReadableTable<(u64, u64), ()>,
    now: Timestamp,
) -> Result<Option<Timestamp>, ::redb::StorageError> {
    // Those that are held have no time.
    let range = (now.0.saturating_add(1), 0)..(Timestamp::NEVER.0, 0);
    match scheduled.range(range)?.next() {
        None => Ok(None),
        Some(row) => Ok(Some(Timestamp(row?.0.value().0))),
    }
}

/// All holds of agent commands, also those that have ended.
pub(super) fn holds(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    path: &Path,
) -> Result<Vec<Hold>, StoreError> {
    let mut holds = Vec::new();
    for row in meta.range::<&str>(META_HOLD..META_HOLDS_END).or_damaged(path)? {
        let (_, bytes) = row.or_damaged(path)?;
        holds.push(decode_hold(path, bytes.value())?);
    }
    Ok(holds)
}

/// The layout of the tables in a file, if it has been said.
pub(super) fn schema(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    path: &Path,
) -> Result<Option<u32>, StoreError> {
    let Some(bytes) = meta.get(META_SCHEMA).or_damaged(path)? else { return Ok(None) };
    match bytes.value().try_into() {
        Ok(bytes) => Ok(Some(u32::from_le_bytes(bytes))),
        Err(_) => Err(damaged(path, "its schema version is not a number")),
    }
}
