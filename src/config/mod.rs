//! File, environment and flags, to one validated configuration.
//!
//! Every key stands once, in [`KEYS`]: its default, its meaning, and how it is read.
//! `config.example` and `docs/CONFIGURATION.md` are made from the same table.

#[cfg(test)]
mod document;
mod keys;
mod owner;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::agent::{AgentSettings, Completion, Template};
use crate::job::{RetryPolicy, limits};
use crate::worker::{OnTerminate, Settings};

use self::keys::Draft;

pub(crate) use self::keys::duration_ms;
pub use self::keys::{KEYS, Key};

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
    /// How often a worker looks without a wake-up, in milliseconds.
    pub poll_ms: u64,
    /// How long a lease holds, in milliseconds.
    pub lease_ms: u64,
    /// From TERM to KILL, in milliseconds.
    pub kill_grace_ms: u64,
    /// Most bytes that a run may log.
    pub log_bytes_max: u64,
    /// How long a run may neither log nor use the processor, in milliseconds; 0 is for ever.
    pub idle_ms: u64,
    /// Most calls of its model that a run may make; `None` is any number.
    pub steps_max: Option<u64>,
    /// Most that a run may cost, in millionths; `None` is any sum.
    pub cost_micros_max: Option<u64>,
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
        check_owner(&home)?;
        if home.exists() && !home.is_dir() {
            let place = home.display().to_string();
            let what = "it is a file: KUGETSU_DIR is a folder".into();
            return Err(ConfigError { place, what });
        }
        let path = home.join("config");
        let text = read_file(&path)?;
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
            idle_ms: draft.idle_ms,
            steps_max: draft.steps_max,
            cost_micros_max: draft.cost_micros_max,
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
            idle_ms: self.idle_ms,
            steps_max: self.steps_max,
            cost_micros_max: self.cost_micros_max,
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

/// Refuses what somebody else could have written: it decides what agents are told and run.
pub(crate) fn check_owner(path: &Path) -> Result<(), ConfigError> {
    owner::check(path).map_err(|what| ConfigError { place: path.display().to_string(), what })
}

fn read_file(path: &Path) -> Result<Option<String>, ConfigError> {
    let refuse = |what: String| ConfigError { place: path.display().to_string(), what };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(error.to_string())),
        Ok(metadata) if metadata.is_dir() => return Err(refuse("it is a folder".into())),
        // A pipe would be waited for.
        Ok(metadata) if !metadata.is_file() => return Err(refuse("it is not a file".into())),
        Ok(metadata) if metadata.len() > limits::CONFIG_BYTES_MAX => {
            return Err(refuse(format!("it has more than {} bytes", limits::CONFIG_BYTES_MAX)));
        }
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limits::CONFIG_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| refuse(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let place = format!("{}:{line}", path.display());
        ConfigError { place, what: "this is not UTF-8: save the file as UTF-8".into() }
    })?;
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
    fn files_that_cannot_be_read_as_text() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("config");
        assert_eq!(read_file(&path), Ok(None), "no file is no error");
        for (bytes, expected) in [
            (&b"A=1\r\nB=2\r\n"[..], Ok("A=1\r\nB=2\r\n")),
            (b"\xef\xbb\xbfA=1\n", Ok("A=1\n")),
            (b"A=1\nB=\xff\n", Err(":2: this is not UTF-8")),
            (b"\xff\xfeA\0=\0", Err(":1: this is not UTF-8")),
        ] {
            std::fs::write(&path, bytes).expect("a file");
            match (read_file(&path), expected) {
                (Ok(text), Ok(expected)) => assert_eq!(text.as_deref(), Some(expected)),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (got, _) => panic!("{bytes:?}: {got:?}"),
            }
        }
        std::fs::remove_file(&path).expect("it is ours");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let error = read_file(&path).expect_err("nobody writes to it");
        assert!(error.to_string().contains("it is not a file"), "{error}");
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
