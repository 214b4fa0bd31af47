//! Removing jobs, a bounded slice at a time.

use crate::job::{JobId, StateKind, limits};
use crate::queue::{Queue, QueueError};
use crate::store::{ListQuery, Op};
use crate::time::Timestamp;

/// Which ended jobs to remove.
///
/// ```
/// use kugetsu::job::StateKind;
/// use kugetsu::queue::Prune;
///
/// let mut prune = Prune::new([StateKind::Completed, StateKind::Cancelled]);
/// prune.keep = 100;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prune {
    /// Only jobs in these states. Of a state that a job can still leave, nothing is removed.
    pub states: Vec<StateKind>,
    /// Only jobs that ended by this time; `None` is now.
    pub before: Option<Timestamp>,
    /// How many of them to keep: those that ended last.
    pub keep: u64,
    /// How many to remove at most.
    pub limit: u64,
}

impl Prune {
    /// All jobs of these states.
    pub fn new(states: impl IntoIterator<Item = StateKind>) -> Prune {
        let states = states.into_iter().collect();
        Prune { states, before: None, keep: 0, limit: u64::MAX }
    }
}

impl Queue {
    /// Removes jobs that ended, the oldest first, in transactions of at most
    /// [`limits::OPS_PER_COMMIT_MAX`]. Gives how many.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`]; what was removed before stays removed.
    pub fn prune(&self, prune: &Prune) -> Result<u64, QueueError> {
        let stats = self.stats()?;
        let ended: u64 = prune.states.iter().map(|kind| stats.count(*kind)).sum();
        let until = prune.before.unwrap_or(self.now());
        self.remove_in_slices(ended.saturating_sub(prune.keep).min(prune.limit), |limit| {
            Ok(self.store.ended_until(&prune.states, until, limit)?)
        })
    }

    /// Removes every job that does not run, in transactions of at most
    /// [`limits::OPS_PER_COMMIT_MAX`]. Gives how many.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`]; what was removed before stays removed.
    pub fn clear(&self) -> Result<u64, QueueError> {
        let states: Vec<StateKind> =
            StateKind::ALL.into_iter().filter(|kind| *kind != StateKind::Notified).collect();
        let query = |limit| ListQuery { states: states.clone(), issue: None, limit };
        // Only as many as there were at the beginning: others may go on adding.
        self.remove_in_slices(self.list(&query(0))?.total, |limit| {
            Ok(self.list(&query(limit))?.items.iter().map(|job| job.id).collect())
        })
    }

    /// Removes at most `room` jobs, a slice of what `next` gives at a time, until it gives none
    /// that can be removed. Gives how many.
    fn remove_in_slices(
        &self,
        room: u64,
        next: impl Fn(usize) -> Result<Vec<JobId>, QueueError>,
    ) -> Result<u64, QueueError> {
        let mut removed = 0;
        while removed < room {
            let left = usize::try_from(room - removed).unwrap_or(usize::MAX);
            let ids = next(left.min(limits::OPS_PER_COMMIT_MAX))?;
            let answers = self.commit(ids.iter().map(|id| Op::Remove(*id)).collect())?;
            let count = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
            if count == 0 {
                break;
            }
            removed += count;
        }
        Ok(removed)
    }
}
