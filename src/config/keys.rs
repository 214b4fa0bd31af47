//! Every key of the configuration: its default, its meaning, and how it is read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::agent::{Completion, Template};
use crate::config::ConfigError;
use crate::job::{RetryPolicy, limits};
use crate::process::meter::micros;
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
    pub(super) set: fn(&mut Draft, &str) -> Result<(), String>,
}

/// All keys, in the order of `config.example` and `docs/CONFIGURATION.md`.
pub const KEYS: &[Key] = &[
    Key {
        name: "MAX_CONCURRENT_AGENTS",
        default: "3",
        example: "5",
        help: "How many agents may run at once, over all workers of this queue.",
        set: |draft, text| number(text, 1, limits::AGENTS_MAX).map(|n| draft.max_agents = n),
    },
    Key {
        name: "TASK_TIMEOUT_HOURS",
        default: "1",
        example: "0.5",
        help: "Wall-clock limit of one agent run, in hours. 0.5 is half an hour.",
        set: |draft, text| hours(text).map(|ms| draft.timeout_ms = ms),
    },
    Key {
        name: "NETWORK_RETRY_ATTEMPTS",
        default: "3",
        example: "5",
        help: "How often a clone or fetch is tried before its job is put off for a while.",
        set: |draft, text| number(text, 1, 100).map(|n| draft.network_attempts = n),
    },
    Key {
        name: "NETWORK_RETRY_DELAY_SECONDS",
        default: "5",
        example: "30",
        help: "The pause between these tries, in seconds.",
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
        set: |draft, text| {
            draft.base_branch = optional(text);
            Ok(())
        },
    },
    Key {
        name: "GITEA_TOKEN",
        default: "",
        example: "5f3c0a1e",
        help: "Given to agents in their environment, and written down nowhere.",
        set: |draft, text| {
            draft.gitea_token = optional(text);
            Ok(())
        },
    },
    Key {
        name: "KUGETSU_STORE",
        default: "",
        example: "redb:/srv/kugetsu/queue.redb",
        help: "The queue: redb:PATH. Not set: queue.redb in kugetsu's folder.",
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
        set: |draft, text| Template::parse(text).map(|t| draft.agent_command = Some(t)),
    },
    Key {
        name: "KUGETSU_CLONE_URL",
        default: "https://{host}/{path}.git",
        example: "git@{host}:{path}.git",
        help: "Where a repository is cloned from.",
        set: |draft, text| {
            if !text.contains("{path}") {
                return Err("it needs {path}".into());
            }
            draft.clone_url = text.into();
            Ok(())
        },
    },
    Key {
        name: "KUGETSU_COMPLETION",
        default: "commits",
        example: "exit",
        help: "What counts as done: commits (new ones on the branch) or exit (code 0).",
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
        set: |draft, text| duration_ms(text).map(|ms| draft.policy.backoff_ms_first = ms),
    },
    Key {
        name: "KUGETSU_SPAWN_DELAY",
        default: "2s",
        example: "5s",
        help: "Least time between the starts of two agents. Three opencodes that start at the same \
               moment fight over one database.",
        set: |draft, text| duration_ms(text).map(|ms| draft.spawn_delay_ms = ms),
    },
    Key {
        name: "KUGETSU_KILL_GRACE",
        default: "10s",
        example: "30s",
        help: "How long an agent has from TERM to KILL.",
        set: |draft, text| duration_ms(text).map(|ms| draft.kill_grace_ms = ms),
    },
    Key {
        name: "KUGETSU_LOG_MAX",
        default: "100MiB",
        example: "1GiB",
        help: "Most that one run may log before it is ended (KiB, MiB, GiB).",
        set: |draft, text| bytes(text).map(|bytes| draft.log_bytes_max = bytes),
    },
    Key {
        name: "KUGETSU_IDLE_TIMEOUT",
        default: "15m",
        example: "30m",
        help: "How long an agent may neither log nor use the processor before it is ended; 0 is for \
               ever. A compiler at work is not idle, one that waits for the network is.",
        set: |draft, text| duration_ms(text).map(|ms| draft.idle_ms = ms),
    },
    Key {
        name: "KUGETSU_MAX_STEPS",
        default: "",
        example: "200",
        help: "Most calls of its model that one run may make. Known for opencode alone, from its \
               events. Not set: any number.",
        set: |draft, text| {
            let steps = optional(text).map(|text| number(&text, 1, u32::MAX)).transpose()?;
            draft.steps_max = steps.map(u64::from);
            Ok(())
        },
    },
    Key {
        name: "KUGETSU_MAX_COST",
        default: "",
        example: "2.50",
        help: "Most that one run may cost, in the currency of its model's prices, like 2.50. Known \
               for opencode alone, from its events. Not set: any sum.",
        set: |draft, text| {
            draft.cost_micros_max = optional(text).map(|text| cost(&text)).transpose()?;
            Ok(())
        },
    },
    Key {
        name: "KUGETSU_LEASE",
        default: "60s",
        example: "2m",
        help: "How long a job stays with a worker that is stopped or hangs. Of one that is dead the \
               others hear at once.",
        set: |draft, text| match duration_ms(text)? {
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
        set: |draft, text| match duration_ms(text)? {
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
        set: |draft, text| {
            draft.retention_ms = optional(text).map(|text| duration_ms(&text)).transpose()?;
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
    pub timeout_ms: u64,
    pub network_attempts: u32,
    pub network_delay_ms: u64,
    pub base_branch: Option<String>,
    pub gitea_token: Option<String>,
    pub poll_ms: u64,
    pub lease_ms: u64,
    pub kill_grace_ms: u64,
    pub log_bytes_max: u64,
    pub idle_ms: u64,
    pub steps_max: Option<u64>,
    pub cost_micros_max: Option<u64>,
    pub spawn_delay_ms: u64,
    pub policy: RetryPolicy,
    pub agent_command: Option<Template>,
    pub clone_url: String,
    pub completion: Option<Completion>,
    pub retention_ms: Option<u64>,
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

fn optional(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_string())
}

fn number(text: &str, least: u32, limit: u32) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if (least..=limit).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(format!("it is a whole number from {least} to {limit}")),
    }
}

fn hours(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(hours) if hours > 0.0 && hours <= 24.0 * 365.0 => {
            let duration = Duration::from_secs_f64(hours * 3600.0);
            Ok(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1))
        }
        Ok(_) | Err(_) => Err("it is a number of hours above 0, like 1 or 0.5".into()),
    }
}

/// `30s`, `1h 30m`, `250ms`; a bare number is seconds.
pub(crate) fn duration_ms(text: &str) -> Result<u64, String> {
    let parsed = match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    match parsed.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)) {
        Some(ms) if ms <= limits::DURATION_MS_MAX => Ok(ms),
        Some(_) => Err("it is more than ten years".into()),
        None => Err("it is a duration, like 90s, 15m or 1h 30m".into()),
    }
}

fn cost(text: &str) -> Result<u64, String> {
    match text.parse::<f64>().map(micros) {
        Ok(micros) if micros > 0 => Ok(micros),
        Ok(_) | Err(_) => Err("it is a sum above 0, like 2.50".into()),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        _ => return Err("it is a size, like 100MiB".into()),
    };
    match digits.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        Some(_) | None => Err("it is a size, like 100MiB".into()),
    }
}

fn store(text: &str) -> Result<Option<PathBuf>, String> {
    match text.split_once(':') {
        None if text.is_empty() => Ok(None),
        Some(("redb", path)) if Path::new(path).is_absolute() => Ok(Some(path.into())),
        Some(("redb", _)) => Err("the path is absolute: redb:/path/to/queue.redb".into()),
        _ => Err("it is redb:PATH".into()),
    }
}

/// It becomes an argument of opencode: no surprises.
fn is_opencode_session(text: &str) -> bool {
    text.strip_prefix("ses_").is_some_and(|tail| {
        (1..=200).contains(&tail.len()) && tail.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}
