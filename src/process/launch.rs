//! The launcher: what stands between a shim and an agent that is to be fenced in, or before which
//! there is something to do in its clone. At its end it becomes the agent, so the pid stays.
//!
//! Whatever it starts is the agent's as much as the agent: same folder, environment, sandbox, log
//! and limits.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use serde::{Deserialize, Serialize};

use crate::process::run::{RunDir, RunSpec};
use crate::process::{command, program, safe_file, sandbox};

/// The first argument of a launcher.
pub const VERB: &str = "launch";
/// What a launcher ends with that could not become the agent, as a shell does.
pub const NOT_STARTED: i32 = 127;
/// Where it says why, in the run's folder.
pub const FAILURE_FILE: &str = "launch";

/// Something to do before the agent. If it fails, the log says so, and the agent starts all the
/// same: it may know better.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What the log calls it.
    pub heading: String,
    /// Program and arguments. No secret belongs here.
    pub arguments: Vec<String>,
}

/// How a step ended.
enum StepEnd {
    Exited(std::process::ExitStatus),
    NotStarted(io::Error),
}

impl fmt::Display for StepEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepEnd::Exited(status) => status.fmt(f),
            StepEnd::NotStarted(error) => write!(f, "cannot start: {error}"),
        }
    }
}

/// Becomes the agent of a run's folder. Returns only if it cannot; the exit code is
/// [`NOT_STARTED`], and why is in [`FAILURE_FILE`].
pub fn run(folder: &Path) -> i32 {
    let run = RunDir::at(folder);
    // Opened before the fence is up, and closed by becoming the agent.
    let Ok(mut failure) = safe_file::open_or_create(&run.file(FAILURE_FILE)) else {
        return NOT_STARTED;
    };
    let error = match become_agent(&run) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    // Who cannot even write this down is known by the exit code.
    let _ = write!(failure, "{error}");
    NOT_STARTED
}

fn become_agent(run: &RunDir) -> io::Result<std::convert::Infallible> {
    let spec = run.spec()?.ok_or_else(|| io::Error::other("the run has no spec.json"))?;
    let (name, arguments) =
        spec.arguments.split_first().ok_or_else(|| io::Error::other("there is no command"))?;
    // The shim has set it, without what an agent may write to.
    let path = std::env::vars_os().find(|(name, _)| name == "PATH").map(|(_, path)| path);
    let program = program::resolve(name, &path.unwrap_or_default())?;
    if let Some(sandbox) = &spec.sandbox {
        sandbox::enter(sandbox, &[&spec.folder, &run.agent_folder()])?;
    }
    for step in &spec.steps {
        take(step, &spec)?;
    }
    Err(command(program).arg0(name).args(arguments).exec())
}

/// Runs one step to its end. Its input is empty: the message is the agent's.
fn take(step: &Step, spec: &RunSpec) -> io::Result<()> {
    let mut log = io::stdout();
    writeln!(log, "--- {}", step.heading)?;
    let Some((program, arguments)) = step.arguments.split_first() else { return Ok(()) };
    let status = command(program)
        .args(arguments)
        .current_dir(&spec.folder)
        .stdin(Stdio::null())
        .stdout(log_again()?)
        .stderr(log_again()?)
        .status();
    let end = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => StepEnd::Exited(status),
        Err(error) => StepEnd::NotStarted(error),
    };
    writeln!(log, "--- {} failed: {end}; the agent starts all the same", step.heading)?;
    log.flush()
}

fn log_again() -> io::Result<File> {
    use std::os::fd::AsFd;
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}
