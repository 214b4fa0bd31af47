//! How a worker behaves, and its state machine: what happened, and what to do about it. Pure: no
//! I/O, no clock, no threads.
//!
//! The shell round it is [`crate::daemon`].

mod ending;
mod event;
mod settings;
mod slot;
mod state;
#[cfg(test)]
mod tests;

pub use ending::{Ending, Exit, Stop};
pub(crate) use event::{Action, Notice, WorkerEvent};
pub use settings::{OnTerminate, Settings};
pub(crate) use state::WorkerState;
