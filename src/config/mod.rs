//! File, environment and flags, to one validated configuration.
//!
//! Every key stands once, in [`KEYS`]: its default, its meaning, and how it is read.
//! `config.example` and `docs/CONFIGURATION.md` are made from the same table.

#[cfg(test)]
mod document;
mod file;
mod keys;
mod owner;
mod tokens;
mod values;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::agent::{AgentSettings, Completion, Template};
use crate::job::{BranchTemplate, Host, Hosts, IssueRef, RetryPolicy, RunLimits};
use crate::secrets::{Address, Secret, Secrets};
use crate::worker::{OnTerminate, Settings};

use self::keys::Draft;

pub(crate) use self::file::secret_in_line;
pub use self::keys::{KEYS, Key, Sensitivity};
pub(crate) use self::values::duration_ms;

/// Where an agent may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sandboxing {
    /// Wherever its user may.
    #[default]
    None,
    /// In its clone, and where it is said to need it.
    Clone,
}

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
    /// The limits of a run.
    pub limits: RunLimits,
    /// How often to try what the network refuses.
    pub network_attempts: u32,
    /// How long to wait in between, in milliseconds.
    pub network_delay_ms: u64,
    /// Where new work starts; `None` looks for it.
    pub base_branch: Option<String>,
    /// Given to agents in their environment.
    pub gitea_token: Option<Secret>,
    /// The host that kugetsu's own git uses that token for.
    pub gitea_host: Option<Host>,
    /// Tokens for kugetsu's own git, by the whole names under which they were set.
    pub tokens: BTreeMap<String, Secret>,
    /// How often a worker looks without a wake-up, in milliseconds.
    pub poll_ms: u64,
    /// How long a lease holds, in milliseconds.
    pub lease_ms: u64,
    /// Least time between two starts, in milliseconds.
    pub spawn_delay_ms: u64,
    /// What failures cost.
    pub policy: RetryPolicy,
    /// The agent's command.
    pub agent_command: Template,
    /// Where to clone from.
    pub clone_url: Address,
    /// Hosts that may be cloned from.
    pub clone_hosts: Hosts,
    /// Whether clones share their objects by hard links.
    pub clone_links: bool,
    /// How the branch of an issue is called.
    pub branch: BranchTemplate,
    /// Names of folders whose ignored files can be made again.
    pub disposable: Vec<String>,
    /// Where agents may write.
    pub sandbox: Sandboxing,
    /// What they may write to in a sandbox; empty is what opencode needs.
    pub sandbox_write: Vec<PathBuf>,
    /// What counts as done.
    pub completion: Completion,
    /// How long a worker keeps jobs that have ended; `None` is for ever.
    pub retention_ms: Option<u64>,
    /// How long a worker keeps logs of jobs that have ended or are gone; `None` is for ever.
    pub log_retention_ms: Option<u64>,
    /// What SIGTERM means to a worker.
    pub on_terminate: OnTerminate,
    /// The opencode session that new ones are made from.
    pub base_session: Option<String>,
    /// All that is masked, given to agents and kept from them.
    pub secrets: Secrets,
}

/// Why a configuration is refused. Names the place, the key and the cause, and repeats no secret.
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
        if home.exists() && !home.is_dir() {
            let place = home.display().to_string();
            let what = "it is a file: KUGETSU_DIR is a folder".into();
            return Err(ConfigError { place, what });
        }
        let path = home.join("config");
        owner::check_read(&path)
            .map_err(|what| ConfigError { place: path.display().to_string(), what })?;
        let text = file::read_file(&path)?;
        Config::from_sources(home, &path, text.as_deref(), environment)
    }

    /// As [`Config::load`], without the file.
    pub(crate) fn without_file(
        environment: &BTreeMap<String, String>,
    ) -> Result<Config, ConfigError> {
        let home = home(environment)?;
        let path = home.join("config");
        Config::from_sources(home, &path, None, environment)
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
        let text = text.unwrap_or_default();
        let mut secrets = secrets_of(text, environment);
        let refuse = |place: String, why: String| {
            let what = secrets.mask(&why).into_owned();
            ConfigError { place, what }
        };
        for (number, line) in text.lines().enumerate() {
            let place = || format!("{}:{}", path.display(), number + 1);
            file::apply_line(&mut draft, line).map_err(|why| refuse(place(), why))?;
        }
        for (name, value) in environment {
            // An agent finds the name of its own branch there.
            let is_agents = name == "KUGETSU_BRANCH" && environment.contains_key("KUGETSU_JOB");
            if file::sensitivity_of(name).is_some() && !is_agents {
                file::apply(&mut draft, name, value)
                    .map_err(|why| refuse("environment".into(), why))?;
            }
        }
        tokens::check_hosts(&draft.tokens, &draft.clone_hosts)
            .map_err(|why| refuse("KUGETSU_CLONE_HOSTS".into(), why))?;
        draft.check_base_session()?;
        if let Some(token) = &draft.gitea_token {
            secrets.give("GITEA_TOKEN", token.clone());
        }
        Ok(Config {
            store: draft.store.unwrap_or_else(|| home.join("queue.redb")),
            home,
            max_agents: draft.max_agents,
            limits: draft.limits,
            network_attempts: draft.network_attempts,
            network_delay_ms: draft.network_delay_ms,
            base_branch: draft.base_branch,
            gitea_token: draft.gitea_token,
            gitea_host: draft.gitea_host,
            tokens: draft.tokens,
            poll_ms: draft.poll_ms,
            lease_ms: draft.lease_ms,
            spawn_delay_ms: draft.spawn_delay_ms,
            policy: draft.policy,
            agent_command: draft.agent_command.expect("it has a default"),
            clone_url: draft.clone_url.expect("it has a default"),
            clone_hosts: draft.clone_hosts,
            clone_links: draft.clone_links,
            branch: draft.branch,
            disposable: draft.disposable,
            sandbox: draft.sandbox,
            sandbox_write: draft.sandbox_write,
            completion: draft.completion.expect("it has a default"),
            retention_ms: draft.retention_ms,
            log_retention_ms: draft.log_retention_ms,
            on_terminate: draft.on_terminate.expect("it has a default"),
            base_session: draft.base_session,
            secrets,
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

    /// Refuses an issue of a host that nothing may be cloned from.
    ///
    /// # Errors
    ///
    /// When KUGETSU_CLONE_HOSTS does not name its host. The text says so.
    pub fn check_host(&self, issue: &IssueRef) -> Result<(), String> {
        let host = Host::of_issue(issue);
        match self.clone_hosts.allow(&host) {
            true => Ok(()),
            false => Err(format!("{host} is none of the hosts in KUGETSU_CLONE_HOSTS")),
        }
    }

    /// The folder in which each worker holds a lock for as long as it lives.
    pub fn workers(&self) -> PathBuf {
        self.home.join("workers")
    }

    /// Every token, by the name under which it was set.
    fn all_tokens(&self) -> BTreeMap<String, Secret> {
        let gitea = self.gitea_token.iter().map(|token| ("GITEA_TOKEN".to_string(), token.clone()));
        let own = self.tokens.iter().map(|(name, token)| (name.clone(), token.clone()));
        own.chain(gitea).collect()
    }

    /// The settings of agent runs. The shim is the program that runs.
    pub fn agents(&self) -> AgentSettings {
        AgentSettings {
            home: self.home.clone(),
            command: self.agent_command.clone(),
            clone_url: self.clone_url.clone(),
            clone_hosts: self.clone_hosts.clone(),
            clone_links: self.clone_links,
            base_branch: self.base_branch.clone(),
            branch: self.branch.clone(),
            base_session: self.base_session.clone(),
            completion: self.completion,
            limits: self.limits,
            disposable: self.disposable.clone(),
            is_sandboxed: self.sandbox == Sandboxing::Clone,
            sandbox_write: self.sandbox_write.clone(),
            network_attempts: self.network_attempts,
            network_delay_ms: self.network_delay_ms,
            log_retention_ms: self.log_retention_ms,
            network_pause_ms: self.policy.backoff_ms_first,
            tokens: self.all_tokens(),
            gitea_host: self.gitea_host.clone(),
            secrets: self.secrets.clone(),
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
        if key.name == "KUGETSU_GITEA_HOST" {
            text.push('\n');
            for line in wrap(tokens::HELP, 98) {
                let _ = writeln!(text, "# {line}");
            }
            let _ = writeln!(text, "#{}=", tokens::EXAMPLE_NAME);
        }
    }
    text
}

/// All that is secret in a file and an environment, by the names there.
fn secrets_of(text: &str, environment: &BTreeMap<String, String>) -> Secrets {
    let mut secrets = Secrets::default();
    // In an error, also what is badly set is masked.
    for (name, value) in text.lines().filter_map(|line| file::assignment(line).ok().flatten()) {
        hide(&mut secrets, name, value);
    }
    for (name, value) in environment {
        hide(&mut secrets, name, value);
        let address = Address::new(value.clone());
        let is_passed_on = file::sensitivity_of(name) == Some(Sensitivity::Password);
        if is_passed_on && address.without_password() != *value {
            secrets.replace(name, address.without_password());
        }
    }
    secrets.remove(format!("{}*", tokens::PREFIX));
    secrets
}

fn hide(secrets: &mut Secrets, name: &str, value: &str) {
    match file::sensitivity_of(name) {
        Some(Sensitivity::Secret) => secrets.hide(&Secret::new(value)),
        Some(Sensitivity::Password | Sensitivity::Open) | None => {
            secrets.hide_variable(name, value)
        }
    }
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
    // Before its links are gone: whoever owns one of them chose where it leads.
    check_owner(&home)?;
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

/// Refuses what somebody else could have written: it decides what agents are told and run.
pub(crate) fn check_owner(path: &Path) -> Result<(), ConfigError> {
    owner::check(path).map_err(|what| ConfigError { place: path.display().to_string(), what })
}

#[cfg(test)]
mod tests;
