//! Time as the engine sees it: milliseconds since 1970, said by a [`Clock`].
//!
//! Only [`SystemClock`] and the functions beside it ask the system.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment: milliseconds since 1970-01-01T00:00:00Z. Shown as RFC 3339 in UTC.
///
/// ```
/// use kugetsu::time::Timestamp;
///
/// let noon = Timestamp(1_700_000_000_000);
/// assert_eq!(noon.plus_ms(1_500).to_string(), "2023-11-14T22:13:21.500Z");
/// assert_eq!(noon.plus_ms(1_500).ms_since(noon), 1_500);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Later than every moment that comes.
    pub const NEVER: Timestamp = Timestamp(u64::MAX);

    /// Later by so many milliseconds, and never beyond what a `u64` holds.
    pub fn plus_ms(self, ms: u64) -> Timestamp {
        Timestamp(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment; 0 if it is the other way round.
    pub fn ms_since(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// As RFC 3339 in UTC, to the millisecond.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The last second of the year 9999 is the last that RFC 3339 can write.
        let moment = UNIX_EPOCH + Duration::from_millis(self.0.min(253_402_300_799_000));
        humantime::format_rfc3339_millis(moment).fmt(f)
    }
}

/// Reads RFC 3339 in UTC, like `2026-01-31T08:00:00Z`.
impl FromStr for Timestamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Timestamp, String> {
        let moment = humantime::parse_rfc3339_weak(text).ok();
        let since = moment.and_then(|moment| moment.duration_since(UNIX_EPOCH).ok());
        let ms = since.and_then(|since| u64::try_from(since.as_millis()).ok());
        ms.map(Timestamp).ok_or_else(|| "it is a time, like 2026-01-31T08:00:00Z".into())
    }
}

/// Says what time it is to a store, which says it to everybody else. Tests pass their own.
pub trait Clock: Send + Sync {
    /// Now. It may jump, also back: an alarm that is set by it is only looked at again.
    fn now(&self) -> Timestamp;
}

/// The system's clock: what a program gives to its store.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Milliseconds on a clock that never jumps, from a start of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Monotonic(pub u64);

impl Monotonic {
    /// Later by so many milliseconds.
    pub fn plus_ms(self, ms: u64) -> Monotonic {
        Monotonic(self.0.saturating_add(ms))
    }
}

/// A reading of a clock that never jumps, for measuring how long something takes.
#[expect(clippy::disallowed_methods, reason = "this is the one place that asks")]
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}

/// Blocks the thread. For bounded back-off only, never to wait for an effect.
#[expect(clippy::disallowed_methods, reason = "this is the one place that sleeps")]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
