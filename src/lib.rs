//! A durable job queue engine on an embedded database, and the supervisor of the agents that do
//! the jobs.
//!
//! The command `kugetsu` is one user of this library. Another program can use the same queue with
//! work of its own:
//!
//! ```
//! use std::sync::Arc;
//!
//! use kugetsu::daemon::Worker;
//! use kugetsu::executor::Control;
//! use kugetsu::job::{NewJob, Reason, Report, StateKind};
//! use kugetsu::store::RedbStore;
//! use kugetsu::time::SystemClock;
//! use kugetsu::worker::Settings;
//! use kugetsu::{Job, Queue};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let store = RedbStore::open(&folder.path().join("queue.redb"), Arc::new(SystemClock))?;
//! let queue = Queue::new(store);
//!
//! // On disk when it returns, and seen by every process that has the file open.
//! let (job, _) = queue.enqueue(NewJob::new("github.com/shoko/kugetsu#14".parse()?, "say hello"))?;
//!
//! // A worker that ends when nothing is left to do.
//! let mut settings = Settings::default();
//! settings.once = true;
//! let worker = Worker::new(queue.clone(), settings, |job: &Job, _: &Control| {
//!     Report::new(Reason::Done, format!("did: {}", job.message))
//! })?;
//! worker.run(&kugetsu::crossbeam_channel::never())?;
//!
//! let job = queue.get(job.id)?.expect("it is there");
//! assert_eq!(job.state.kind(), StateKind::Completed);
//! # Ok(())
//! # }
//! ```
//!
//! # What to use
//!
//! | for | see |
//! |---|---|
//! | putting jobs on disk, asking about them, changing them | [`Queue`] |
//! | running them on threads of this process | [`daemon::Worker`] |
//! | what a worker calls for each job: a closure or a type of your own | [`executor::Executor`] |
//! | running agents as the command does | [`agent::AgentExecutor`], [`config::Config::agents`] |
//! | claiming and finishing jobs without a worker | [`Queue::claim`] |
//! | hearing of changes, also of other processes' | [`Queue::watch`] |
//!
//! `examples/` in the repository has a program for each kind: `closures.rs`, `threads.rs` and
//! `watch.rs`.
//!
//! Nothing here prints, installs a signal handler or ends the process. What a person should know
//! goes to [`tracing`](https://docs.rs/tracing), under the target `kugetsu`. It runs on Linux.
//!
//! # What may change
//!
//! Times are milliseconds: points in time since 1970 ([`time::Timestamp`]), spans as a `u64` whose
//! name ends in `_ms`. Enums and structs that will grow are `#[non_exhaustive]`: match with a `_`,
//! make a struct by its constructor or [`Default`], and set the fields that matter. Five states of
//! a job are all there ever are: [`job::State`] and [`job::StateKind`] are matched whole. The
//! numbers in [`job::limits`] may change with any version. A file that an older version wrote can
//! be used by a newer one; a file that a newer version wrote is refused.
//!
//! The modules, from the bottom up: each knows only those above it in this list.

pub(crate) mod failpoint;

pub mod time;

pub mod job;

pub mod secrets;

pub(crate) mod dialect;

pub mod store;

pub mod queue;

pub mod worker;

pub(crate) mod run;

pub mod executor;

pub(crate) mod process;

pub(crate) mod git;

pub mod agent;

pub mod daemon;

pub mod config;

/// The program `kugetsu`, for its `main.rs` alone: what it takes and prints is the contract, not
/// the functions behind that.
#[doc(hidden)]
pub mod cli;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use job::{IssueRef, Job, JobId};
pub use queue::{Queue, QueueError};

/// The library's channels are this crate's: requests to stop a worker or an execution, and
/// wake-ups.
#[doc(no_inline)]
pub use crossbeam_channel;

// The example in the README is a test too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
