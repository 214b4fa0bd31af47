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
//! let settings = kugetsu::worker::Settings { once: true, ..Default::default() };
//! let worker = Worker::new(queue.clone(), settings, |job: &Job, _: &Control| {
//!     Report::new(Reason::Done, format!("did: {}", job.message))
//! })?;
//! worker.run(&crossbeam_channel::never())?;
//!
//! let job = queue.get(job.id)?.expect("it is there");
//! assert_eq!(job.state.kind(), StateKind::Completed);
//! # Ok(())
//! # }
//! ```
//!
//! The modules, from the bottom up: each knows only those above it in this list.

pub mod time;

pub mod job;

pub mod store;

pub mod queue;

pub mod worker;

pub mod executor;

pub mod process;

pub mod agent;

pub mod daemon;

pub mod config;

pub mod cli;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use job::{IssueRef, Job, JobId};
pub use queue::{Queue, QueueError};
