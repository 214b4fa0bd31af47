//! Processes: who they are, how one is started behind a gate, and how a tree of them is ended.

pub mod identity;
pub mod lock;
pub mod run;
pub mod shim;
pub mod spawn;
pub mod tree;

use std::ffi::OsStr;
use std::process::Command;

use nix::errno::Errno;

/// The one place where commands are made.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// Makes a system call again when a signal came in between.
fn retry_interrupted<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}
