//! How a worker behaves.

/// How a worker behaves.
///
/// ```
/// use kugetsu::worker::Settings;
///
/// let mut settings = Settings::default();
/// settings.cap = 8;
/// settings.once = true;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Most jobs at once, over all workers of the queue that have the same cap; 0 claims nothing
    /// and only ends what it was given. 3 unless said otherwise.
    pub cap: u32,
    /// How long a lease holds, in milliseconds; it is renewed at a third of it. So long does a job
    /// of a worker that hangs wait for the next one, and of one that died without
    /// [`with_liveness`](crate::daemon::Worker::with_liveness). A minute unless said otherwise.
    pub lease_ms: u64,
    /// How often to read the store without a wake-up, in milliseconds. Ten seconds unless said
    /// otherwise, and not oftener than [`POLL_MS_MIN`](crate::job::limits::POLL_MS_MIN).
    pub poll_ms: u64,
    /// Least time between two starts, in milliseconds. 0 unless said otherwise.
    pub spawn_delay_ms: u64,
    /// Ends when no job is pending or running any more that goes on without a person. Those that
    /// wait for a retry do.
    pub once: bool,
    /// What a supervisor's first request to stop means.
    pub on_terminate: OnTerminate,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            cap: 3,
            lease_ms: 60_000,
            poll_ms: 10_000,
            spawn_delay_ms: 0,
            once: false,
            on_terminate: OnTerminate::Detach,
        }
    }
}

/// What to do with running jobs when a supervisor ends the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnTerminate {
    /// Leave them to their shims and end at once. Work that cannot live without the worker is told
    /// [`Stop::Detach`](crate::worker::Stop::Detach) all the same, and waited for.
    Detach,
    /// Wait for them.
    Drain,
    /// End them and put the jobs back.
    Stop,
}
