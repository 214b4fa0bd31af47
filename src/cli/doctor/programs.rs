//! Git, the agent, and who commits: for `init` too.

use crate::agent::{AgentSettings, check_version, checkup, opencode_version};
use crate::cli::context::{CliError, Context};
use crate::cli::finding::Finding;
use crate::cli::render;
use crate::cli::worker::{check_programs, committer};
use crate::config::Config;
use crate::git::environment::plain_git;
use crate::process::sandbox::{self, Support};

/// Whether git and the agent are there and will do.
pub(in crate::cli) fn audit(context: &Context, config: &Config) -> Vec<Finding> {
    let programs = match check_programs(context, config) {
        Ok(()) => audit_agent(config),
        Err(error) => Finding::bad("programs", "git and the agent", error),
    };
    vec![programs, audit_committer(config)]
}

/// The version of git, for whoever is to help.
pub(super) fn git_version() -> Option<Finding> {
    let output = plain_git("/".as_ref()).arg("--version").output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    Some(Finding::good("git", said.trim()))
}

/// The default command needs an opencode that knows its options; another one is its writer's.
fn audit_agent(config: &Config) -> Finding {
    let program = config.agent_command.program();
    if !config.is_default_agent() {
        return Finding::good("programs", format!("git, and the agent {program}"));
    }
    let what = "git, and the agent opencode";
    match opencode_version(program) {
        Err(error) => {
            Finding::bad("programs", what, CliError::general(format!("opencode {error}")))
        }
        Ok(said) => match check_version(&said) {
            Ok(version) => Finding::good("programs", format!("{what} {version}")),
            Err(error) => Finding::bad("programs", what, CliError::general(error)),
        },
    }
}

fn audit_committer(config: &Config) -> Finding {
    match committer(config) {
        Some(name) => Finding::good("committer", format!("commits are by {name}")),
        None => Finding::trouble(
            "committer",
            "who commits",
            "git does not know who you are, so commits will fail",
            "git config --global user.name NAME, and user.email ADDRESS",
        ),
    }
}

/// Whether agents can sign commits, if they are to.
pub(super) fn audit_signing() -> Option<Finding> {
    let what = "commits are signed (commit.gpgSign)";
    Some(match checkup::try_signing()? {
        Ok(()) => Finding::good("signing", format!("{what} without asking anybody")),
        Err(why) => {
            let remedy = "agents' commits will fail like this: let gpg-agent or ssh-agent keep the \
                          key, or `git config --global commit.gpgSign false`";
            Finding::trouble("signing", what, render::one_line(&why), remedy)
        }
    })
}

/// Whether the kernel can do what `KUGETSU_SANDBOX` asks for.
pub(super) fn audit_sandbox(settings: &AgentSettings) -> Option<Finding> {
    if !settings.is_sandboxed {
        return None;
    }
    let what = "agents are confined to their clones (KUGETSU_SANDBOX=clone)";
    let support = sandbox::support();
    Some(match support.lack() {
        None => Finding::good("sandbox", what),
        Some(lack) if support == Support::None => Finding::trouble(
            "sandbox",
            "KUGETSU_SANDBOX=clone",
            lack,
            "no agent is started like this",
        ),
        Some(lack) => Finding::note("sandbox", what, lack),
    })
}
