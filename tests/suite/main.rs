//! The tests that need real processes: kugetsu as its users run it.

mod agents;
mod recovery;
mod support;
