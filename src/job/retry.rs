//! What the end of an attempt costs, and how long the next one waits.

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

/// Who pays for the end of an attempt, and from which budget.
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
    /// Later, please: free, with a pause; after many in a row a person decides.
    Postponed,
    /// The agent command cannot work until a person has seen to it: free.
    Login,
    /// Something outside ended it: free, with a pause; after many in a row a person decides.
    Interrupted,
    /// Called off.
    Cancelled,
    /// Put back by a worker that looks before it claims again: free, and due at once.
    Free,
}

/// The class of each reason.
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
        Reason::Deferred | Reason::ProviderLimit => Class::Postponed,
        Reason::ProviderLogin => Class::Login,
        Reason::Interrupted => Class::Interrupted,
        Reason::Cancelled => Class::Cancelled,
        Reason::Shutdown | Reason::Machine => Class::Free,
    }
}

/// The pause before the next attempt: exponential, with half of it random, in milliseconds.
///
/// `failures` counts from 1. The same seed gives the same pause.
pub fn backoff_ms(failures: u32, policy: &RetryPolicy, seed: u64) -> u64 {
    let full = doubled(policy.backoff_ms_first, policy.backoff_ms_max, failures).max(1);
    full / 2 + mix(seed) % (full - full / 2 + 1)
}

/// How long a job waits that was put off, in milliseconds.
///
/// `named_ms` is how far away the time is that the agent or its provider named; one that has passed
/// is as good as none. `in_a_row` counts from 1.
pub fn postponed_ms(reason: Reason, named_ms: Option<u64>, in_a_row: u32) -> u64 {
    let max = match class(reason) {
        // What a provider says of its limits was recognised; an agent may say anything.
        Class::Postponed if reason == Reason::ProviderLimit => limits::PROVIDER_LIMIT_MS_MAX,
        _ => limits::DEFERRED_MS_MAX,
    };
    match named_ms {
        Some(named) if named > 0 => named.clamp(limits::POSTPONED_MS_MIN, max),
        Some(_) | None => doubled(limits::POSTPONED_MS_FIRST, limits::POSTPONED_MS_LAST, in_a_row),
    }
}

/// How long a job waits that something outside ended, in milliseconds. `in_a_row` counts from 1.
pub fn interrupted_ms(in_a_row: u32) -> u64 {
    doubled(limits::INTERRUPTED_MS_FIRST, limits::INTERRUPTED_MS_LAST, in_a_row)
}

/// `first`, doubled with each time after the first one, up to a bound.
fn doubled(first: u64, max: u64, times: u32) -> u64 {
    let doublings = times.saturating_sub(1).min(32);
    first.saturating_mul(1 << doublings).min(max)
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
