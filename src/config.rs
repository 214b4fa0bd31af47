//! File, environment and flags, to one validated configuration.
//!
//! Every key stands once, in [`KEYS`]: its default, its meaning, and how it is read.
//! `config.example` and `docs/CONFIGURATION.md` are made from the same table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::agent::{AgentSettings, Completion, Template};
use crate::job::{RetryPolicy, limits};
use crate::worker::{OnTerminate, Settings};

#[cfg(test)]
mod document;

/// How kugetsu behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where everything is.
    pub home: PathBuf,
    /// The database file.
    pub store: PathBuf,
    /// Most agents at once.
    pub max_agents: u32,
    /// Wall-clock limit of a run, in milliseconds.
    pub timeout_ms: u64,
    /// How often to try what the network refuses.
    pub network_attempts: u32,
    /// How long to wait in between, in milliseconds.
    pub network_delay_ms: u64,
    /// Where new work starts; `None` looks for it.
    pub base_branch: Option<String>,
    /// Given to agents in their environment.
    pub gitea_token: Option<String>,
    /// How often a worker looks without a hint, in milliseconds.
    pub poll_ms: u64,
    /// How long a lease holds, in milliseconds.
    pub lease_ms: u64,
    /// From TERM to KILL, in milliseconds.
    pub kill_grace_ms: u64,
    /// Most bytes that a run may log.
    pub log_bytes_max: u64,
    /// Least time between two starts, in milliseconds.
    pub spawn_delay_ms: u64,
    /// What failures cost.
    pub policy: RetryPolicy,
    /// The agent's command.
    pub agent_command: Template,
    /// Where to clone from.
    pub clone_url: String,
    /// What counts as done.
    pub completion: Completion,
    /// How long a worker keeps jobs that have ended; `None` is for ever.
    pub retention_ms: Option<u64>,
    /// What SIGTERM means to a worker.
    pub on_terminate: OnTerminate,
    /// The opencode session that new ones are made from.
    pub base_session: Option<String>,
}

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
    set: fn(&mut Draft, &str) -> Result<(), String>,
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
        name: "KUGETSU_LEASE",
        default: "60s",
        example: "2m",
        help: "How long a job stays with a worker that gives no sign of life.",
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
struct Draft {
    store: Option<PathBuf>,
    max_agents: u32,
    timeout_ms: u64,
    network_attempts: u32,
    network_delay_ms: u64,
    base_branch: Option<String>,
    gitea_token: Option<String>,
    poll_ms: u64,
    lease_ms: u64,
    kill_grace_ms: u64,
    log_bytes_max: u64,
    spawn_delay_ms: u64,
    policy: RetryPolicy,
    agent_command: Option<Template>,
    clone_url: String,
    completion: Option<Completion>,
    retention_ms: Option<u64>,
    on_terminate: Option<OnTerminate>,
    base_session: Option<String>,
}

impl Draft {
    /// An agent that is not told its session would not see the base either.
    fn check_base_session(&self) -> Result<(), ConfigError> {
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

/// Why a configuration is refused. Names the place, the key and the cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct ConfigError {
    place: String,
    what: String,
}

impl Config {
    /// Reads the environment, and the file `config` in kugetsu's folder if there is one.
    ///
    /// The environment goes before the file. `KUGETSU_DIR`, or `.kugetsu` in `HOME`, is the folder.
    /// The environment is what the caller says: `std::env::vars().collect()`, or nothing of that.
    ///
    /// # Errors
    ///
    /// When there is no folder, the file cannot be read, a line is not `KEY=value`, or a key or its
    /// value is not known. The text names the place.
    pub fn load(environment: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
        let home = home(environment)?;
        let path = home.join("config");
        let text = read_file(&path)?;
        Config::from_sources(home, &path, text.as_deref(), environment)
    }

    fn from_sources(
        home: PathBuf,
        path: &Path,
        text: Option<&str>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Config, ConfigError> {
        let mut draft = Draft::default();
        for key in KEYS {
            (key.set)(&mut draft, key.default).expect("every default is valid");
        }
        for (number, line) in text.unwrap_or_default().lines().enumerate() {
            let place = || format!("{}:{}", path.display(), number + 1);
            apply_line(&mut draft, line).map_err(|what| ConfigError { place: place(), what })?;
        }
        for key in KEYS {
            if let Some(text) = environment.get(key.name) {
                let text = if text.is_empty() { key.default } else { text };
                (key.set)(&mut draft, text).map_err(|why| ConfigError {
                    place: "environment".into(),
                    what: bad_value(key.name, text, &why),
                })?;
            }
        }
        draft.check_base_session()?;
        Ok(Config {
            store: draft.store.unwrap_or_else(|| home.join("queue.redb")),
            home,
            max_agents: draft.max_agents,
            timeout_ms: draft.timeout_ms,
            network_attempts: draft.network_attempts,
            network_delay_ms: draft.network_delay_ms,
            base_branch: draft.base_branch,
            gitea_token: draft.gitea_token,
            poll_ms: draft.poll_ms,
            lease_ms: draft.lease_ms,
            kill_grace_ms: draft.kill_grace_ms,
            log_bytes_max: draft.log_bytes_max,
            spawn_delay_ms: draft.spawn_delay_ms,
            policy: draft.policy,
            agent_command: draft.agent_command.expect("it has a default"),
            clone_url: draft.clone_url,
            completion: draft.completion.expect("it has a default"),
            retention_ms: draft.retention_ms,
            on_terminate: draft.on_terminate.expect("it has a default"),
            base_session: draft.base_session,
        })
    }

    /// The settings of a worker that does not end by itself.
    pub fn worker(&self) -> Settings {
        Settings {
            cap: self.max_agents,
            lease_ms: self.lease_ms,
            poll_ms: self.poll_ms,
            spawn_delay_ms: self.spawn_delay_ms,
            once: false,
            on_terminate: self.on_terminate,
        }
    }

    /// Whether the agent is what nobody has chosen otherwise.
    pub(crate) fn is_default_agent(&self) -> bool {
        let key = KEYS.iter().find(|key| key.name == "KUGETSU_AGENT_COMMAND");
        key.is_some_and(|key| Template::parse(key.default).as_ref() == Ok(&self.agent_command))
    }

    /// The folder in which each worker holds a lock for as long as it lives.
    pub fn workers(&self) -> PathBuf {
        self.home.join("workers")
    }

    /// The settings of agent runs. The shim is the program that runs.
    pub fn agents(&self) -> AgentSettings {
        let token = self.gitea_token.clone();
        AgentSettings {
            home: self.home.clone(),
            command: self.agent_command.clone(),
            clone_url: self.clone_url.clone(),
            base_branch: self.base_branch.clone(),
            base_session: self.base_session.clone(),
            completion: self.completion,
            timeout_ms: self.timeout_ms,
            kill_grace_ms: self.kill_grace_ms,
            log_bytes_max: self.log_bytes_max,
            network_attempts: self.network_attempts,
            network_delay_ms: self.network_delay_ms,
            secrets: token.map(|token| ("GITEA_TOKEN".into(), token)).into_iter().collect(),
            // Also right after the file was replaced by a newer one.
            shim: "/proc/self/exe".into(),
        }
    }
}

/// The file `config.example`: every key with its meaning, and its default behind a `#`.
pub fn example() -> String {
    let mut text = String::from(
        "# kugetsu's configuration: copy this file to ~/.kugetsu/config and take the # away from\n\
         # what you change. Lines are KEY=value, read as data and never run. A variable of the same\n\
         # name in the environment goes before the file.\n\
         #\n\
         # In the environment only: KUGETSU_DIR, the folder of everything (~/.kugetsu), and KUGETSU_LOG,\n\
         # how much a worker says (error, warn, info, debug).\n",
    );
    for key in KEYS {
        text.push('\n');
        for line in wrap(key.help, 98) {
            let _ = writeln!(text, "# {line}");
        }
        let _ = writeln!(text, "#{}={}", key.name, key.default);
    }
    text
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is a line");
        if last.is_empty() {
            last.push_str(word);
        } else if last.len() + 1 + word.len() <= width {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.into());
        }
    }
    lines
}

fn home(environment: &BTreeMap<String, String>) -> Result<PathBuf, ConfigError> {
    let refuse = |what: &str| ConfigError { place: "environment".into(), what: what.into() };
    let set = |name: &str| environment.get(name).filter(|text| !text.is_empty());
    let home = match (set("KUGETSU_DIR"), set("HOME")) {
        (Some(folder), _) => PathBuf::from(folder),
        (None, Some(home)) => Path::new(home).join(".kugetsu"),
        (None, None) => return Err(refuse("neither KUGETSU_DIR nor HOME is set")),
    };
    let home =
        std::path::absolute(&home).map_err(|error| refuse(&format!("KUGETSU_DIR: {error}")))?;
    Ok(real_path(&home))
}

/// Without symbolic links, as git shows paths; what is not there yet stays as it is.
fn real_path(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(real), _, _) => real,
        (Err(_), Some(parent), Some(name)) => real_path(parent).join(name),
        (Err(_), _, _) => path.into(),
    }
}

fn read_file(path: &Path) -> Result<Option<String>, ConfigError> {
    let refuse = |what: String| ConfigError { place: path.display().to_string(), what };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(error.to_string())),
        Ok(metadata) if metadata.is_dir() => return Err(refuse("it is a folder".into())),
        Ok(metadata) if metadata.len() > limits::CONFIG_BYTES_MAX => {
            return Err(refuse(format!("it has more than {} bytes", limits::CONFIG_BYTES_MAX)));
        }
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    Ok(Some(text.strip_prefix('\u{feff}').unwrap_or(&text).to_string()))
}

fn apply_line(draft: &mut Draft, line: &str) -> Result<(), String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(());
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').ok_or("this is not KEY=value")?;
    let (name, value) = (name.trim(), unquote(value.trim()));
    if name == "KUGETSU_DIR" {
        return Err("KUGETSU_DIR says where this file is: set it in the environment".into());
    }
    if name == "KUGETSU_LOG" {
        return Err("KUGETSU_LOG is read from the environment alone".into());
    }
    let Some(key) = KEYS.iter().find(|key| key.name == name) else {
        return Err(unknown_key(name));
    };
    let text = if value.is_empty() { key.default } else { value };
    (key.set)(draft, text).map_err(|why| bad_value(name, text, &why))
}

fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        let inner = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner {
            return inner;
        }
    }
    value
}

fn unknown_key(name: &str) -> String {
    let closest = KEYS
        .iter()
        .map(|key| (strsim::jaro_winkler(&name.to_ascii_uppercase(), key.name), key.name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match closest {
        Some((likeness, key)) if likeness > 0.8 => {
            format!("there is no key {name} (did you mean {key}?)")
        }
        _ => format!("there is no key {name}"),
    }
}

/// A secret is not repeated.
fn bad_value(name: &str, text: &str, why: &str) -> String {
    if name.ends_with("TOKEN") {
        return format!("{name}: {why}");
    }
    format!("{name}={text}: {why}")
}

/// It becomes an argument of opencode: no surprises.
fn is_opencode_session(text: &str) -> bool {
    text.strip_prefix("ses_").is_some_and(|tail| {
        (1..=200).contains(&tail.len()) && tail.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

fn optional(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_string())
}

fn number(text: &str, least: u32, most: u32) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(format!("it is a whole number from {least} to {most}")),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let environment = environment.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Config::from_sources("/k".into(), Path::new("/k/config"), Some(text), &environment)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_goes_before_the_file_and_the_file_before_defaults() {
        let config = load("", &[]).expect("defaults are valid");
        assert_eq!((config.max_agents, config.timeout_ms), (3, 3_600_000));
        assert_eq!(config.store, Path::new("/k/queue.redb"));
        let text = "\n# a comment\nMAX_CONCURRENT_AGENTS=5\r\nexport TASK_TIMEOUT_HOURS=\"0.5\"\n";
        let config = load(text, &[]).expect("a valid file");
        assert_eq!((config.max_agents, config.timeout_ms), (5, 1_800_000));
        let config = load(text, &[("MAX_CONCURRENT_AGENTS", "7")]).expect("a valid file");
        assert_eq!(config.max_agents, 7);
        let config = load(text, &[("MAX_CONCURRENT_AGENTS", "")]).expect("empty is the default");
        assert_eq!(config.max_agents, 3);
    }

    #[test]
    fn errors_name_the_line_and_the_cause() {
        for (text, words) in [
            ("MAX_CONCURRENT_AGENTS=0", "/k/config:1: MAX_CONCURRENT_AGENTS=0: it is a whole"),
            (
                "\nMAX_CONCURRENT_AGENT=1",
                "/k/config:2: there is no key MAX_CONCURRENT_AGENT (did you mean MAX_CONCURRENT_AGENTS?)",
            ),
            ("COLOUR=red", "there is no key COLOUR"),
            ("hello", "this is not KEY=value"),
            ("KUGETSU_DIR=/x", "set it in the environment"),
            ("KUGETSU_LOG=debug", "from the environment alone"),
            ("TASK_TIMEOUT_HOURS=-1", "number of hours"),
            ("TASK_TIMEOUT_HOURS=nan", "number of hours"),
            ("KUGETSU_LEASE=1ms", "at least 300ms"),
            ("KUGETSU_KILL_GRACE=soon", "a duration"),
            ("KUGETSU_KILL_GRACE=99999y", "ten years"),
            ("KUGETSU_LOG_MAX=12QB", "a size"),
            ("KUGETSU_LOG_MAX=99999999999GiB", "a size"),
            ("KUGETSU_STORE=mysql://x", "redb:PATH"),
            ("KUGETSU_AGENT_COMMAND=a {x}", "there is no placeholder {x}"),
            ("KUGETSU_CLONE_URL=https://x", "it needs {path}"),
            ("KUGETSU_BASE_SESSION=--help", "it is the id of an opencode session"),
            ("KUGETSU_BASE_SESSION=ses_", "it is the id of an opencode session"),
            (
                "KUGETSU_BASE_SESSION=ses_1\nKUGETSU_AGENT_COMMAND=opencode run",
                "KUGETSU_AGENT_COMMAND: it needs {session}",
            ),
        ] {
            let error = load(text, &[]).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
        let error = load("", &[("KUGETSU_ON_TERM", "panic")]).expect_err("no such way");
        assert_eq!(error, "environment: KUGETSU_ON_TERM=panic: it is one of detach, drain, stop");
    }

    #[test]
    fn the_example_is_what_the_table_says() {
        let text = example();
        document::check("config.example", &text);
        let uncommented: String = text
            .lines()
            .filter_map(|line| {
                line.strip_prefix('#').filter(|line| line.contains('=') && !line.starts_with(' '))
            })
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(uncommented.lines().count(), KEYS.len());
        load(&uncommented, &[]).expect("every default can be written down");
    }

    #[test]
    fn every_example_is_another_value_that_is_read() {
        for key in KEYS {
            assert_ne!(key.example, key.default, "{}", key.name);
            let line = format!("{}={}\n", key.name, key.example);
            load(&line, &[]).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}
