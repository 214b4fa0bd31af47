//! Processes: who they are, how one is started behind a gate, and how a tree of them is ended.

pub mod cgroup;
pub mod guard;
pub mod helper;
pub mod holders;
pub mod identity;
pub mod launch;
mod lines;
pub mod lock;
pub mod oom;
pub mod own_log;
pub mod program;
pub mod record;
pub mod remains;
pub mod run;
mod run_log;
pub mod safe_file;
pub mod sandbox;
pub mod shim;
mod signals;
pub mod spawn;
mod start;
mod supervise;
pub mod tree;

use std::ffi::OsStr;
use std::process::Command;

use nix::errno::Errno;

/// The one place where commands are made.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// Takes variables out of a command's environment. A name that ends in `*` stands for a beginning.
pub fn remove_variables(command: &mut Command, removed: &[impl AsRef<str>]) {
    let is_removed = |name: &str| {
        removed.iter().any(|pattern| match pattern.as_ref().strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == pattern.as_ref(),
        })
    };
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_removed) {
            command.env_remove(name);
        }
    }
}

/// Makes a system call again when a signal came in between.
pub(crate) fn retry_interrupted<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}
