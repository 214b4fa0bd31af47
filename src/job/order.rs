//! What is due and what comes first.

use crate::job::{Job, JobId, State};
use crate::time::Timestamp;

/// Whether the job waits for nothing but its turn.
pub fn is_due(job: &Job, now: Timestamp) -> bool {
    match &job.state {
        State::Pending(pending) => pending.run_at <= now,
        State::Notified(_) | State::Completed(_) | State::Error(_) | State::Cancelled(_) => false,
    }
}

/// Whether the job's lease has run out.
pub fn is_lapsed(job: &Job, now: Timestamp) -> bool {
    job.lease().is_some_and(|lease| lease.expires_at <= now)
}

/// A priority as a number that sorts the highest first.
pub fn rank(priority: i16) -> u32 {
    (i32::from(i16::MAX) - i32::from(priority)).unsigned_abs()
}

/// The order of claims: highest priority, then oldest. The smallest goes first.
pub fn claim_order(job: &Job) -> (u32, JobId) {
    (rank(job.priority), job.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_priorities_rank_first() {
        let ranks = [i16::MAX, 100, 1, 0, -1, -100, i16::MIN].map(rank);
        assert!(ranks.is_sorted(), "{ranks:?}");
        assert_eq!(ranks[0], 0);
        assert_eq!(ranks[6], u32::from(u16::MAX));
    }
}
