//! `worker`

use std::path::{Path, PathBuf};

use clap::Args;

use crate::agent::AgentExecutor;
use crate::cli::context::{CliError, Context, begin_logging, stop_requests};
use crate::cli::exit::CliExit;
use crate::config::Config;
use crate::daemon::Worker;
use crate::git::environment::plain_git;
use crate::git::version;
use crate::job::AgentKey;
use crate::queue::Queue;
use crate::worker;

#[derive(Args)]
#[command(after_help = "\
Ctrl-C stops claiming and waits for the running agents; a second one ends them
and puts their jobs back. SIGTERM leaves them running and ends at once: the next
worker takes their results (KUGETSU_ON_TERM).

Examples:
  kugetsu worker
  kugetsu worker --once --max-agents=1")]
pub(super) struct Arguments {
    /// End when no job is left that goes on without a person
    #[arg(long)]
    once: bool,
    /// Most agents at once, in place of MAX_CONCURRENT_AGENTS
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    max_agents: Option<u32>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let mut config = context.config()?;
    config.max_agents = arguments.max_agents.unwrap_or(config.max_agents);
    begin_logging(context);
    work(context, config, arguments.once, || ())
}

/// Works until told to end. Calls `ready` when nothing stands in the way any more.
pub(super) fn work(
    context: &Context,
    config: Config,
    once: bool,
    ready: impl FnOnce(),
) -> Result<CliExit, CliError> {
    check_programs(context, &config)?;
    let queue = context.queue(&config)?;
    check_identity(&config);
    let stop_requests = stop_requests()?;
    let settings = worker::Settings { once, ..config.worker() };
    let worker = new_worker(&config, queue.clone(), settings)?;
    ready();
    let stats = queue.stats()?;
    tracing::info!(
        "up to {} agent(s) at once on {}: {} pending, {} running",
        config.max_agents,
        config.store.display(),
        stats.pending,
        stats.notified
    );
    Ok(match worker.run(&stop_requests)? {
        worker::Exit::Idle | worker::Exit::Terminated => CliExit::Success,
        worker::Exit::Interrupted => CliExit::Interrupted,
    })
}

pub(super) fn new_worker(
    config: &Config,
    queue: Queue,
    settings: worker::Settings,
) -> Result<Worker, CliError> {
    let executor = AgentExecutor::new(config.agents()).map_err(|error| {
        CliError::general(format!("cannot make folders in {}: {error}", config.home.display()))
    })?;
    let worker = Worker::new(queue, settings, executor)?;
    let worker = worker.with_policy(config.policy).with_retention(config.retention_ms);
    let worker = worker.with_agent(agent_key(config));
    let folder = config.workers();
    worker.with_liveness(&folder).map_err(|error| {
        CliError::general(format!("cannot hold a lock in {}: {error}", folder.display()))
    })
}

/// The agent command of these settings, as the queue knows it.
pub(super) fn agent_key(config: &Config) -> AgentKey {
    AgentKey::of_command(config.agent_command.words())
}

/// Better said once, now, than by every job.
pub(super) fn check_programs(context: &Context, config: &Config) -> Result<(), CliError> {
    let agent = config.agent_command.program();
    if find_program(context, "git").is_none() {
        return Err(CliError::general("git is not installed, or not in PATH")
            .hint("install it (Debian: apt install git)"));
    }
    check_git()?;
    if !agent.contains('{') && find_program(context, agent).is_none() {
        let message = if Path::new(agent).is_file() {
            format!("the agent's program '{agent}' is not executable")
        } else {
            format!("the agent's program '{agent}' is not installed, or not in PATH")
        };
        let hint = if agent == "opencode" {
            "install it (npm install -g opencode-ai), or set KUGETSU_AGENT_COMMAND"
        } else {
            "see KUGETSU_AGENT_COMMAND; no shell reads it, so neither ~ nor $NAME mean anything"
        };
        return Err(CliError::general(message).hint(hint));
    }
    Ok(())
}

fn check_git() -> Result<(), CliError> {
    let hint = "`git --version` tells which one is found in PATH";
    // Also where kugetsu's folder is still to be made.
    let answer = plain_git(Path::new("/")).arg("--version").output();
    let answer = answer.map_err(|error| CliError::general(format!("cannot run git: {error}")))?;
    if !answer.status.success() {
        let said = String::from_utf8_lossy(&answer.stderr);
        let message = format!("git does not work ({}): {}", answer.status, said.trim());
        return Err(CliError::general(message).hint(hint));
    }
    version::check_git(&String::from_utf8_lossy(&answer.stdout))
        .map_err(|why| CliError::general(why).hint(hint))
}

/// Without an identity every commit of an agent fails.
fn check_identity(config: &Config) {
    if committer(config).is_none() {
        tracing::warn!(
            "git does not know who you are, so commits of agents will fail: \
             git config --global user.name NAME, and user.email ADDRESS"
        );
    }
}

/// Whose name commits bear: `NAME <ADDRESS>`.
pub(super) fn committer(config: &Config) -> Option<String> {
    let folder = if config.home.is_dir() { &config.home } else { Path::new("/") };
    let output = plain_git(folder).args(["var", "GIT_COMMITTER_IDENT"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    // Behind it is the time.
    text.split_once('>').map(|(name, _)| format!("{name}>"))
}

fn find_program(context: &Context, program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| is_executable(path));
    }
    let path = context.environment.get("PATH")?;
    std::env::split_paths(path).map(|folder| folder.join(program)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
