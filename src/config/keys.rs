//! Every key of the configuration: its default, its meaning, and how it is read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::agent::{Completion, Template};
use crate::config::values::{
    bytes, cost, duration_ms, folder_names, hours, is_opencode_session, number, optional, paths,
    pause_ms, store, token, yes_or_no,
};
use crate::config::{ConfigError, Sandboxing};
use crate::job::{BranchTemplate, Host, Hosts, RetryPolicy, RunLimits, limits};
use crate::secrets::{Address, Secret};
use crate::worker::OnTerminate;

/// One key of the configuration.
#[non_exhaustive]
pub struct Key {
    /// As it is written in the file and in the environment.
    pub name: &'static str,
    /// The value if nothing is said; empty is "not set".
    pub default: &'static str,
    /// Another value, as somebody may want it.
    pub example: &'static str,
    /// What it means, in a sentence or two.
    pub help: &'static str,
    /// What of its value is secret.
    pub sensitivity: Sensitivity,
    pub(super) set: fn(&mut Draft, &str) -> Result<(), String>,
}

/// What of a key's value is secret. It is masked wherever it would be shown, and no agent has it in
/// its environment, but for what is meant for agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sensitivity {
    /// Nothing.
    Open,
    /// A password, if it is an address that holds one.
    Password,
    /// All of it.
    Secret,
}

/// All keys, in the order of `config.example` and `docs/CONFIGURATION.md`.
pub const KEYS: &[Key] = &[
    Key {
        name: "MAX_CONCURRENT_AGENTS",
        default: "3",
        example: "5",
        help: "How many agents may run at once, over all workers of this queue.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| number(text, 1, limits::AGENTS_MAX).map(|n| draft.max_agents = n),
    },
    Key {
        name: "TASK_TIMEOUT_HOURS",
        default: "1",
        example: "0.5",
        help: "Wall-clock limit of one agent run, in hours. 0.5 is half an hour.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| hours(text).map(|ms| draft.limits.timeout_ms = ms),
    },
    Key {
        name: "NETWORK_RETRY_ATTEMPTS",
        default: "3",
        example: "5",
        help: "How often a clone or fetch is tried before its job is put off for a while.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| number(text, 1, 100).map(|n| draft.network_attempts = n),
    },
    Key {
        name: "NETWORK_RETRY_DELAY_SECONDS",
        default: "5",
        example: "30",
        help: "The pause between these tries, in seconds.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| {
            number(text, 0, 3600).map(|n| draft.network_delay_ms = u64::from(n) * 1000)
        },
    },
    Key {
        name: "KUGETSU_BASE_BRANCH",
        default: "",
        example: "origin/develop",
        help: "The branch that new work starts from. Not set: origin/main, or else what the remote \
               calls its head.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| {
            draft.base_branch = optional(text);
            Ok(())
        },
    },
    Key {
        name: "GITEA_TOKEN",
        default: "",
        example: "5f3c0a1e",
        help: "A token for Gitea or Forgejo, given to agents in their environment and written down \
               nowhere. See KUGETSU_GITEA_HOST.",
        sensitivity: Sensitivity::Secret,
        set: |draft, text| {
            draft.gitea_token = optional(text).map(|text| token(&text)).transpose()?;
            Ok(())
        },
    },
    Key {
        name: "KUGETSU_GITEA_HOST",
        default: "",
        example: "git.example.com",
        help: "The host, with its port if that is not 443, that GITEA_TOKEN is for when kugetsu \
               itself clones and fetches over https. Not set: kugetsu's own git does not use it.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| {
            draft.gitea_host = optional(text).map(|text| Host::parse(&text)).transpose()?;
            Ok(())
        },
    },
    Key {
        name: "KUGETSU_STORE",
        default: "",
        example: "redb:/srv/kugetsu/queue.redb",
        help: "The queue: redb:PATH. Not set: queue.redb in kugetsu's folder.",
        sensitivity: Sensitivity::Password,
        set: |draft, text| store(text).map(|path| draft.store = path),
    },
    Key {
        name: "KUGETSU_AGENT_COMMAND",
        default: "opencode run --auto --format json --title kugetsu:{job}:{attempt} \
                  [ --session {session} ]",
        example: "opencode run --auto --format json --model anthropic/claude-sonnet-4-5 \
                  [ --session {session} ]",
        help: "The agent's command, split into words without a shell. It reads the message on its \
               standard input and works in the worktree. Placeholders: {message_file} {session} \
               {worktree} {job} {attempt} {issue} {branch}. Words between [ and ] are left out \
               when a value in them is empty.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| Template::parse(text).map(|t| draft.agent_command = Some(t)),
    },
    Key {
        name: "KUGETSU_CLONE_URL",
        default: "https://{host}/{path}.git",
        example: "git@{host}:{path}.git",
        help: "Where a repository is cloned from.",
        sensitivity: Sensitivity::Password,
        set: |draft, text| {
            if !text.contains("{path}") {
                return Err("it needs {path}".into());
            }
            draft.clone_url = Some(Address::new(text));
            Ok(())
        },
    },
    Key {
        name: "KUGETSU_CLONE_HOSTS",
        default: "",
        example: "github.com git.example.com",
        help: "The hosts whose repositories may be cloned, with blanks between them. Not set: any.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| Hosts::parse(text).map(|hosts| draft.clone_hosts = hosts),
    },
    Key {
        name: "KUGETSU_CLONE_LINKS",
        default: "no",
        example: "yes",
        help: "Whether the clones of a repository's issues share its objects on the disk by hard \
               links: yes or no. They take less room then, but an agent that writes over one \
               damages it for all; kugetsu fetches it anew.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| yes_or_no(text).map(|yes| draft.clone_links = yes),
    },
    Key {
        name: "KUGETSU_BRANCH",
        default: "issue-{number}",
        example: "{owner}/{repo}-{number}",
        help: "The branch that an issue's work goes to. Placeholders: {number} {owner} {repo}. An \
               issue that has a session keeps its branch.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| text.parse().map(|branch| draft.branch = branch),
    },
    Key {
        name: "KUGETSU_DISPOSABLE",
        default: "node_modules target .venv __pycache__ .gradle .next dist build",
        example: "node_modules target vendor",
        help: "Names of folders, with blanks between them, whose ignored files can be made again: \
               `kugetsu prune` and `kugetsu destroy` take them away unasked. The word none alone is \
               no folder.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| folder_names(text).map(|names| draft.disposable = names),
    },
    Key {
        name: "KUGETSU_SANDBOX",
        default: "none",
        example: "clone",
        help: "Where an agent may write: none (wherever you may) or clone (in its clone, its \
               temporary folder, and KUGETSU_SANDBOX_WRITE; by Landlock of the Linux kernel). It \
               limits neither what is read nor the network.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| {
            draft.sandbox = match text {
                "none" => Sandboxing::None,
                "clone" => Sandboxing::Clone,
                _ => return Err("it is one of none, clone".into()),
            };
            Ok(())
        },
    },
    Key {
        name: "KUGETSU_SANDBOX_WRITE",
        default: "",
        example: "/home/you/.cargo:/home/you/.local/share/opencode",
        help: "What else an agent may write to in a sandbox: absolute paths with : between them. \
               Not set: opencode's own folders for data, state, cache and configuration. What you \
               set stands in their place.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| paths(text).map(|paths| draft.sandbox_write = paths),
    },
    Key {
        name: "KUGETSU_COMPLETION",
        default: "commits",
        example: "exit",
        help: "What counts as done: commits (new ones on the branch) or exit (code 0).",
        sensitivity: Sensitivity::Open,
        set: |draft, text| {
            draft.completion = Some(match text {
                "commits" => Completion::Commits,
                "exit" => Completion::Exit,
                _ => return Err("it is one of commits, exit".into()),
            });
            Ok(())
        },
    },
    Key {
        name: "KUGETSU_MAX_ATTEMPTS",
        default: "3",
        example: "5",
        help: "How often a job is tried whose agent ends with an error, unless it says itself.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| {
            number(text, 1, limits::ATTEMPTS_MAX).map(|n| draft.policy.max_attempts = n)
        },
    },
    Key {
        name: "KUGETSU_RETRY_DELAY",
        default: "30s",
        example: "2m",
        help: "The pause before the second attempt. It doubles with each further one, up to ten \
               minutes.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| duration_ms(text).map(|ms| draft.policy.backoff_ms_first = ms),
    },
    Key {
        name: "KUGETSU_SPAWN_DELAY",
        default: "2s",
        example: "5s",
        help: "Least time between the starts of two agents. Three opencodes that start at the same \
               moment fight over one database.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| pause_ms(text).map(|ms| draft.spawn_delay_ms = ms),
    },
    Key {
        name: "KUGETSU_KILL_GRACE",
        default: "10s",
        example: "30s",
        help: "How long an agent has from TERM to KILL.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| pause_ms(text).map(|ms| draft.limits.kill_grace_ms = ms),
    },
    Key {
        name: "KUGETSU_LOG_MAX",
        default: "100MiB",
        example: "1GiB",
        help: "Most that one run may log before it is ended (KiB, MiB, GiB).",
        sensitivity: Sensitivity::Open,
        set: |draft, text| bytes(text).map(|bytes| draft.limits.log_bytes_max = bytes),
    },
    Key {
        name: "KUGETSU_IDLE_TIMEOUT",
        default: "15m",
        example: "30m",
        help: "How long an agent may neither log nor use the processor before it is ended; 0 is for \
               ever. A compiler at work is not idle, one that waits for the network is.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| duration_ms(text).map(|ms| draft.limits.idle_ms = ms),
    },
    Key {
        name: "KUGETSU_MAX_STEPS",
        default: "",
        example: "200",
        help: "Most calls of its model that one run may make. Known for opencode alone, from its \
               events. Not set: any number.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| {
            let steps = optional(text).map(|text| number(&text, 1, u32::MAX)).transpose()?;
            draft.limits.steps_max = steps.map(u64::from);
            Ok(())
        },
    },
    Key {
        name: "KUGETSU_MAX_COST",
        default: "",
        example: "2.50",
        help: "Most that one run may cost, in the currency of its model's prices, like 2.50. Known \
               for opencode alone, from its events. Not set: any sum.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| {
            draft.limits.cost_micros_max = optional(text).map(|text| cost(&text)).transpose()?;
            Ok(())
        },
    },
    Key {
        name: "KUGETSU_LEASE",
        default: "60s",
        example: "2m",
        help: "How long a job stays with a worker that is stopped or hangs. Of one that is dead the \
               others hear at once.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| match pause_ms(text)? {
            ms if ms < 300 => Err("a lease holds at least 300ms".into()),
            ms => {
                draft.lease_ms = ms;
                Ok(())
            }
        },
    },
    Key {
        name: "KUGETSU_POLL_INTERVAL",
        default: "10s",
        example: "1m",
        help: "How often a worker looks at the queue when nothing tells it to.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| match pause_ms(text)? {
            ms if ms < 10 => Err("it is at least 10ms".into()),
            ms => {
                draft.poll_ms = ms;
                Ok(())
            }
        },
    },
    Key {
        name: "KUGETSU_RETENTION",
        default: "",
        example: "90d",
        help: "How long the worker keeps jobs that have ended, with their history: 90d. Not set: \
               until `kugetsu queue prune`. Worktrees, branches, sessions and logs stay.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| {
            draft.retention_ms = optional(text).map(|text| duration_ms(&text)).transpose()?;
            Ok(())
        },
    },
    Key {
        name: "KUGETSU_LOG_RETENTION",
        default: "",
        example: "30d",
        help: "How long the worker keeps the log of a job that has ended or is gone: 30d. Not set: \
               for good.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| {
            draft.log_retention_ms = match optional(text).map(|text| duration_ms(&text)) {
                Some(Ok(0)) => return Err("it is longer than 0".into()),
                ms => ms.transpose()?,
            };
            Ok(())
        },
    },
    Key {
        name: "KUGETSU_ON_TERM",
        default: "detach",
        example: "drain",
        help: "What a worker does with running agents at SIGTERM: detach (they go on, the next \
               worker takes their results), drain (wait for them), stop (end them and put the jobs \
               back).",
        sensitivity: Sensitivity::Open,
        set: |draft, text| {
            draft.on_terminate = Some(match text {
                "detach" => OnTerminate::Detach,
                "drain" => OnTerminate::Drain,
                "stop" => OnTerminate::Stop,
                _ => return Err("it is one of detach, drain, stop".into()),
            });
            Ok(())
        },
    },
    Key {
        name: "KUGETSU_BASE_SESSION",
        default: "",
        example: "ses_4f2c81d7effeYq3m",
        help: "An opencode session (ses_…) that knows the code already: the session of an issue \
               begins as a copy of it, and goes on with its model. `opencode session list` shows \
               those that there are. The program of KUGETSU_AGENT_COMMAND makes the copy, with \
               `export` and `import`, and the command needs {session}. Not set: sessions begin \
               empty.",
        sensitivity: Sensitivity::Open,
        set: |draft, text| {
            if !text.is_empty() && !is_opencode_session(text) {
                return Err("it is the id of an opencode session, like ses_1a2b3c".into());
            }
            draft.base_session = optional(text);
            Ok(())
        },
    },
];

/// What the keys are read into.
#[derive(Default)]
pub(super) struct Draft {
    pub store: Option<PathBuf>,
    pub max_agents: u32,
    pub limits: RunLimits,
    pub network_attempts: u32,
    pub network_delay_ms: u64,
    pub base_branch: Option<String>,
    pub gitea_token: Option<Secret>,
    pub gitea_host: Option<Host>,
    pub tokens: BTreeMap<String, Secret>,
    pub poll_ms: u64,
    pub lease_ms: u64,
    pub spawn_delay_ms: u64,
    pub policy: RetryPolicy,
    pub agent_command: Option<Template>,
    pub clone_url: Option<Address>,
    pub clone_hosts: Hosts,
    pub clone_links: bool,
    pub branch: BranchTemplate,
    pub disposable: Vec<String>,
    pub sandbox: Sandboxing,
    pub sandbox_write: Vec<PathBuf>,
    pub completion: Option<Completion>,
    pub retention_ms: Option<u64>,
    pub log_retention_ms: Option<u64>,
    pub on_terminate: Option<OnTerminate>,
    pub base_session: Option<String>,
}

impl Draft {
    /// An agent that is not told its session would not see the base either.
    pub fn check_base_session(&self) -> Result<(), ConfigError> {
        let has_sessions = self.agent_command.as_ref().is_some_and(Template::has_sessions);
        match &self.base_session {
            Some(base) if !has_sessions => Err(ConfigError {
                place: "KUGETSU_AGENT_COMMAND".into(),
                what: format!(
                    "it needs {{session}} (as in [ --session {{session}} ]), because \
                     KUGETSU_BASE_SESSION={base} is set"
                ),
            }),
            Some(_) | None => Ok(()),
        }
    }
}
