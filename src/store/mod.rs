//! Durable jobs: one trait in domain types, and the backends behind it.
//!
//! A program opens a [`RedbStore`], or a [`MemoryStore`] in its tests, and gives it to a
//! [`Queue`](crate::Queue), which has a method for everything that is here.
//!
//! A backend selects and locks; `job::transition` decides, for every backend, through the one
//! interpreter in `apply`.

mod apply;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod error;
mod memory;
mod operation;
mod overview;
mod record;
mod redb;
mod wake;

use crate::job::{IssueRef, Job, JobId, Session, StateKind};
use crate::time::Timestamp;

pub use self::error::{Holder, StoreError};
pub use self::memory::MemoryStore;
pub use self::operation::{Answer, Claim, NothingToClaim, Op, OpRefused, Reply};
pub use self::overview::{ListQuery, Page, Paused, Position, Resumed, Stats};
pub use self::redb::RedbStore;
pub(crate) use self::redb::is_guarding;
pub use self::wake::Watch;

/// Jobs that outlive whoever put them there. Every method is one transaction.
///
/// It is here to be called, and to be wrapped: a [`Watch`] comes from a store of this crate alone.
/// Methods may be added with any minor version.
///
/// # Errors
///
/// Every method that can fail does so with a [`StoreError`]: [`Io`](StoreError::Io) if the system
/// refuses, [`Damaged`](StoreError::Damaged) or [`TooNew`](StoreError::TooNew) if the file is not
/// one to work with, [`Latched`](StoreError::Latched) when an error closed it meanwhile,
/// [`Busy`](StoreError::Busy) if other processes held the file for more than
/// [`STORE_WAIT_MS_MAX`](crate::job::limits::STORE_WAIT_MS_MAX). A [`MemoryStore`] never fails.
pub trait Store: Send + Sync {
    /// The one write: all operations in one durable transaction, answered one by one.
    ///
    /// A refused operation changes nothing and does not hold up the others. When no operation
    /// changes anything, nothing is written. At most
    /// [`OPS_PER_COMMIT_MAX`](crate::job::limits::OPS_PER_COMMIT_MAX) operations.
    ///
    /// # Errors
    ///
    /// As for the trait; then no operation has changed anything. After
    /// [`Latched`](StoreError::Latched) and [`Io`](StoreError::Io) all of them may be there, or none.
    ///
    /// # Panics
    ///
    /// A [`RedbStore`] panics when it is given more operations. A queue refuses them before.
    fn commit(&self, operations: Vec<Op>) -> Result<Vec<Answer>, StoreError>;

    /// One job, or `None` if there never was one of this number or it is pruned.
    ///
    /// # Errors
    ///
    /// As for the trait.
    fn get(&self, id: JobId) -> Result<Option<Job>, StoreError>;

    /// A page of jobs.
    ///
    /// # Errors
    ///
    /// As for the trait.
    fn list(&self, query: &ListQuery) -> Result<Page, StoreError>;

    /// Jobs with larger numbers than `after`, in the order of their numbers, at most `limit`.
    ///
    /// # Errors
    ///
    /// As for the trait.
    fn jobs_after(&self, after: JobId, limit: usize) -> Result<Vec<Job>, StoreError>;

    /// How many jobs are where.
    ///
    /// # Errors
    ///
    /// As for the trait.
    fn stats(&self) -> Result<Stats, StoreError>;

    /// What is between a job and its turn, or `None` if there is no such job. Jobs that go before
    /// it are counted up to `ahead_max`.
    ///
    /// # Errors
    ///
    /// As for the trait.
    fn position(&self, id: JobId, ahead_max: usize) -> Result<Option<Position>, StoreError>;

    /// Jobs that ended so and not after `at`, those that ended first, at most `limit`.
    ///
    /// # Errors
    ///
    /// As for the trait.
    fn ended_until(
        &self,
        states: &[StateKind],
        at: Timestamp,
        limit: usize,
    ) -> Result<Vec<JobId>, StoreError>;

    /// The session of an issue.
    ///
    /// # Errors
    ///
    /// As for the trait.
    fn session(&self, issue: &IssueRef) -> Result<Option<Session>, StoreError>;

    /// All sessions, by issue.
    ///
    /// # Errors
    ///
    /// As for the trait.
    fn sessions(&self) -> Result<Vec<Session>, StoreError>;

    /// Recomputes indexes and counters from the jobs alone and says what differs. Reads them all.
    ///
    /// # Errors
    ///
    /// As for the trait, when nothing can be read. What differs is no error.
    fn verify(&self) -> Result<Vec<String>, StoreError>;

    /// Writes what is there already, to find out whether the store can be written.
    ///
    /// # Errors
    ///
    /// As for the trait.
    fn examine(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// The time that this store goes by: its clock's.
    fn now(&self) -> Timestamp;

    /// Hints that something may have changed, in this process or another.
    fn watch(&self) -> Watch;
}

#[cfg(test)]
mod tests;
