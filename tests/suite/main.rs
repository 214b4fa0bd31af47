//! The tests that need real processes: kugetsu as its users run it.

mod agents;
mod cli;
mod opencode;
mod recovery;
mod support;
mod tidy;
