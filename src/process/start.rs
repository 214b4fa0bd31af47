//! The start of an agent by its shim: where it finds its message, which program it is, and what it
//! knows of its environment.

use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::Pid;

use crate::dialect::Whose;
use crate::job::limits;
use crate::process::cgroup::Cgroup;
use crate::process::own_log::OwnLog;
use crate::process::run::{RunDir, RunSpec, write_whole};
use crate::process::run_log::RunLog;
use crate::process::{command, launch, program, remove_variables, safe_file, sandbox};

/// Past the gate, and not by the worker: one that was stopped in the meantime may have lost the job,
/// and another run may be at work where these go.
pub(super) fn place(spec: &RunSpec) -> io::Result<()> {
    for (from, to) in &spec.places {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "the message is gone");
        let bytes = safe_file::read_bounded(from, limits::PLACE_BYTES_MAX)?.ok_or_else(missing)?;
        match to.strip_prefix(&spec.folder) {
            // What the repository brings along may be anything.
            Ok(relative) => safe_file::write_below(&spec.folder, relative, &bytes)?,
            Err(_) => {
                if let Some(folder) = to.parent() {
                    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
                }
                write_whole(to, &bytes)?;
            }
        }
    }
    Ok(())
}

/// An agent that runs.
pub(super) struct Started {
    pub pid: Pid,
    /// Whether this process is not in the agent's control group.
    pub cgroup_is_left: bool,
}

pub(super) fn start(
    run: &RunDir,
    spec: &RunSpec,
    log: &RunLog,
    lock: &File,
    cgroup: Option<&Cgroup>,
) -> io::Result<Started> {
    let mut agent = agent_command(run, spec)?;
    let output = log.for_agent()?;
    agent
        .current_dir(&spec.folder)
        .stdin(safe_file::open_regular(&spec.stdin)?)
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0);
    // From here on the lock is held by whatever comes of the agent, and so until all of it ends.
    fcntl(lock, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let (child, left) = match cgroup {
        Some(cgroup) => {
            let around = cgroup.around(|| agent.spawn());
            (around.started, around.left)
        }
        None => (agent.spawn(), Ok(())),
    };
    fcntl(lock, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    if let Err(error) = &left {
        tracing::warn!(%error, "cannot leave the agent's control group; it is not used");
    }
    let pid = i32::try_from(child?.id()).map_err(io::Error::other)?;
    Ok(Started { pid: Pid::from_raw(pid), cgroup_is_left: left.is_ok() })
}

/// The agent, or the launcher in front of it, with the agent's environment.
fn agent_command(run: &RunDir, spec: &RunSpec) -> io::Result<Command> {
    let (name, arguments) =
        spec.arguments.split_first().ok_or_else(|| io::Error::other("there is no command"))?;
    let path = search_path(spec);
    // Also where the launcher will look for it once more: what is not there is not started.
    let file = program::resolve(name, &path)?;
    let mut agent = if spec.sandbox.is_some() || !spec.steps.is_empty() {
        if let Some(sandbox) = &spec.sandbox {
            sandbox::prepare(sandbox)?;
        }
        let mut launcher = command("/proc/self/exe");
        launcher.arg0("kugetsu").arg(launch::VERB).arg(run.path());
        launcher
    } else {
        let mut agent = command(file);
        agent.arg0(name).args(arguments);
        agent
    };
    remove_variables(&mut agent, &spec.environment_removed);
    agent.envs(spec.environment.iter().map(|(name, value)| (name, value)));
    agent.env("PATH", path).env("PWD", &spec.folder);
    Ok(agent)
}

/// What a variable is in the agent's environment.
fn variable(spec: &RunSpec, name: &str) -> Option<OsString> {
    let set = spec.environment.iter().find(|(set, _)| set == name);
    let own = || std::env::vars_os().find(|(own, _)| own == name).map(|(_, value)| value);
    set.map(|(_, value)| value.into()).or_else(own)
}

/// Where an opencode keeps a log of its own.
fn own_logs(spec: &RunSpec) -> Option<PathBuf> {
    let data = variable(spec, "XDG_DATA_HOME").filter(|folder| !folder.is_empty());
    let data = data
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(variable(spec, "HOME")?).join(".local/share")))?;
    Some(data.join("opencode/log"))
}

/// The agent's `PATH`.
fn search_path(spec: &RunSpec) -> OsString {
    let path = variable(spec, "PATH");
    let untrusted: Vec<&Path> =
        spec.untrusted.iter().chain([&spec.folder]).map(PathBuf::as_path).collect();
    program::trusted_path(path.as_deref(), &untrusted)
}

/// Begins to follow the log that the agent may keep for itself.
pub(super) fn follow_own_log(spec: &RunSpec) -> Option<OwnLog> {
    let folder = own_logs(spec)?;
    let session = variable(spec, "KUGETSU_SESSION").and_then(|id| id.into_string().ok());
    let whose = Whose {
        folder: Some(spec.folder.display().to_string()),
        session: session.filter(|id| !id.is_empty()),
    };
    Some(OwnLog::begin(&folder, whose))
}
