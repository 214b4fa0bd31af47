//! The tests that need real processes: kugetsu as its users run it.

mod agents;
mod base_session;
mod cli;
mod crashes;
mod daemon;
mod doctor;
mod examples;
mod exchange;
mod hostile;
mod limits;
mod machine;
mod opencode;
mod power;
mod recovery;
mod secrets;
mod sessions;
mod sharing;
mod support;
mod tidy;
mod torture;
mod trouble;
mod trouble_git;
mod upgrade;
mod verbs;
mod why;
mod world;
