//! kugetsu.
pub mod job;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub use job::IssueRef;
pub mod agent;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod executor;
pub mod process;
pub mod queue;
pub mod worker;
