//! What a failure costs and how long the next attempt waits.

use crate::job::{Reason, limits};

/// How many attempts, and how far apart. [`Default`]: three, the second after half a minute.
///
/// ```
/// use kugetsu::job::RetryPolicy;
///
/// let mut policy = RetryPolicy::default();
/// policy.max_attempts = 5;
/// policy.backoff_ms_first = 1_000;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Attempts for [`Reason::AgentError`], the first one counted, when the job does not say.
    pub max_attempts: u32,
    /// First pause in milliseconds; it doubles with each failure, and half of it is random.
    pub backoff_ms_first: u64,
    /// Longest pause in milliseconds.
    pub backoff_ms_max: u64,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            max_attempts: 3,
            backoff_ms_first: limits::BACKOFF_MS_FIRST,
            backoff_ms_max: limits::BACKOFF_MS_MAX,
        }
    }
}

/// Which budget a failure is paid from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Not a failure.
    Success,
    /// An attempt; retried up to the policy's number, or the job's own.
    Attempt,
    /// An attempt; retried only if the job asks for several.
    Terminal,
    /// The agent vanished: a small budget of its own.
    Lost,
    /// The agent did not come up: a small budget of its own.
    StartFailed,
    /// Later, please: a large budget of its own.
    Deferred,
    /// Called off.
    Cancelled,
    /// Put back, free of charge.
    Free,
}

/// The budget of each reason.
pub fn class(reason: Reason) -> Class {
    match reason {
        Reason::Done | Reason::Updated => Class::Success,
        Reason::AgentError => Class::Attempt,
        Reason::NoChanges
        | Reason::Uncommitted
        | Reason::OffBranch
        | Reason::Unmerged
        | Reason::Unreadable
        | Reason::CloneDamaged
        | Reason::Timeout
        | Reason::IdleTimeout
        | Reason::WorktreeFailed
        | Reason::LogLimit
        | Reason::StepLimit
        | Reason::CostLimit => Class::Terminal,
        Reason::Lost => Class::Lost,
        Reason::StartFailed => Class::StartFailed,
        Reason::Deferred | Reason::ProviderLimit | Reason::ProviderLogin | Reason::Interrupted => {
            Class::Deferred
        }
        Reason::Cancelled => Class::Cancelled,
        Reason::Shutdown | Reason::Machine => Class::Free,
    }
}

/// The pause before the next attempt: exponential, with half of it random, in milliseconds.
///
/// `failures` counts from 1. The same seed gives the same pause.
pub fn backoff_ms(failures: u32, policy: &RetryPolicy, seed: u64) -> u64 {
    let doublings = failures.saturating_sub(1).min(32);
    let full =
        policy.backoff_ms_first.saturating_mul(1 << doublings).min(policy.backoff_ms_max).max(1);
    full / 2 + mix(seed) % (full - full / 2 + 1)
}

/// The finalizer of splitmix64 (Steele, Lea, Flood 2014): spreads a seed over all 64 bits.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_bound_and_keeps_half() {
        let policy = RetryPolicy { max_attempts: 3, backoff_ms_first: 100, backoff_ms_max: 1000 };
        for (failures, full) in [(0, 100), (1, 100), (2, 200), (3, 400), (4, 800), (5, 1000)] {
            for seed in 0..200 {
                let pause = backoff_ms(failures, &policy, seed);
                assert!((full / 2..=full).contains(&pause), "{failures} {seed}: {pause}");
            }
        }
        assert!(backoff_ms(u32::MAX, &policy, 7) <= 1000);
        assert_eq!(backoff_ms(3, &policy, 7), backoff_ms(3, &policy, 7));
        assert_ne!(backoff_ms(3, &policy, 7), backoff_ms(3, &policy, 8));
    }
}
