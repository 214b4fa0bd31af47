//! What a shim is told, and what it writes down at the end.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::dialect::{Kind, ModelUsage, Remedy, Source, Trouble};
use crate::job::RunLimits;
use crate::process::launch::Step;
use crate::process::sandbox::Sandbox;
use crate::time::Timestamp;

/// What a shim runs, and its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpec {
    /// Program and arguments. No secret belongs here.
    pub arguments: Vec<String>,
    /// The folder to work in; `PWD` is set to it.
    pub folder: PathBuf,
    /// What the agent reads on its standard input.
    pub stdin: PathBuf,
    /// What its output is added to.
    pub log: PathBuf,
    /// Files that are put where the agent finds them, past the gate: from where, and to where. The
    /// version before put the message into the worktree so.
    #[serde(default)]
    pub places: Vec<(PathBuf, PathBuf)>,
    /// Added to the shim's own environment. No secret belongs here.
    pub environment: Vec<(String, String)>,
    /// Taken out of the shim's own environment. A name that ends in `*` stands for a beginning.
    pub environment_removed: Vec<String>,
    /// When it is ended.
    #[serde(flatten, with = "RunLimitsFields")]
    pub limits: RunLimits,
    /// What is done in the clone before the agent, as the agent.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// The fence round steps and agent, if there is one.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
    /// Folders that agents write to, and from which no program is started before the agent is: the
    /// clones of all issues.
    #[serde(default)]
    pub untrusted: Vec<PathBuf>,
}

/// The fields of [`RunLimits`] as `spec.json` has them, among its own.
#[derive(Serialize, Deserialize)]
#[serde(remote = "RunLimits")]
struct RunLimitsFields {
    timeout_ms: u64,
    kill_grace_ms: u64,
    log_bytes_max: u64,
    #[serde(default)]
    idle_ms: u64,
    #[serde(default)]
    steps_max: Option<u64>,
    #[serde(default)]
    cost_micros_max: Option<u64>,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The agent ended by itself, or somebody else's signal ended it.
    Exited,
    /// The agent could not be started.
    NotStarted,
    /// The wall-clock limit.
    Timeout,
    /// It did nothing for too long.
    IdleTimeout,
    /// The log grew too large.
    LogLimit,
    /// It called the model too often.
    StepLimit,
    /// It cost too much.
    CostLimit,
    /// It waited for its provider, for longer than it may or than makes sense.
    ProviderWait,
    /// The shim was told to end it.
    Terminated,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Why.
    pub cause: Cause,
    /// The agent's exit code, if it had one.
    pub exit_code: Option<i32>,
    /// The signal that ended the agent, if one did.
    pub signal: Option<i32>,
    /// More in words, if there is more.
    pub detail: String,
    /// Milliseconds from the agent's start to its end.
    pub wall_ms: u64,
    /// Processor time of the whole tree.
    pub cpu_ms: u64,
    /// Largest memory of one process of the tree.
    pub peak_memory_kib: u64,
    /// Bytes added to the log.
    pub log_bytes: u64,
    /// Processes that the agent left behind and that were killed.
    pub left_behind: u32,
    /// What its log tells that it used up.
    #[serde(default)]
    pub usage: UsageRecord,
    /// What the worker gave the shim at the gate, and nobody else knows: a record without it was
    /// not written by the shim.
    #[serde(default)]
    pub nonce: String,
    /// Whether kugetsu ordered the end of a run that was terminated, and not somebody else's TERM.
    #[serde(default)]
    pub was_ordered: bool,
    /// How often the kernel killed for want of memory while the agent ran, here or nearby.
    #[serde(default)]
    pub oom_kills: u64,
    /// The session that it named.
    #[serde(default)]
    pub session: Option<String>,
    /// What kept it from its work, if its log or its program's own says so.
    #[serde(default)]
    pub trouble: Option<TroubleRecord>,
    /// Its last words.
    #[serde(default)]
    pub last_words: String,
}

/// What was used up, as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UsageRecord {
    /// Calls of the model.
    pub steps: u64,
    /// Tokens that the model read, from its cache too.
    pub tokens_in: u64,
    /// Tokens that it wrote, its reasoning too.
    pub tokens_out: u64,
    /// Millionths of the currency that prices are in.
    pub cost_micros: u64,
}

impl From<ModelUsage> for UsageRecord {
    fn from(usage: ModelUsage) -> UsageRecord {
        let ModelUsage { steps, tokens_in, tokens_out, cost_micros } = usage;
        UsageRecord { steps, tokens_in, tokens_out, cost_micros }
    }
}

/// Trouble, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TroubleRecord {
    #[serde(with = "KindName")]
    kind: Kind,
    #[serde(with = "RemedyName")]
    remedy: Remedy,
    #[serde(with = "SourceName")]
    source: Source,
    until_ms: Option<u64>,
    words: String,
}

impl From<Trouble> for TroubleRecord {
    fn from(trouble: Trouble) -> TroubleRecord {
        let Trouble { kind, remedy, source, until, words } = trouble;
        TroubleRecord { kind, remedy, source, until_ms: until.map(|until| until.0), words }
    }
}

impl From<TroubleRecord> for Trouble {
    fn from(record: TroubleRecord) -> Trouble {
        let TroubleRecord { kind, remedy, source, until_ms, words } = record;
        Trouble { kind, remedy, source, until: until_ms.map(Timestamp), words }
    }
}

/// The names of kinds in a record.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Kind", rename_all = "snake_case")]
enum KindName {
    Usage,
    Rate,
    Overload,
    Billing,
    Auth,
    Context,
    Session,
    Request,
    Model,
    Network,
    Permission,
    Budget,
    Config,
    Machine,
    Aborted,
}

/// The names of remedies in a record.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Remedy", rename_all = "snake_case")]
enum RemedyName {
    Wait,
    Login,
    Person,
    FreshSession,
    StartAgain,
    Nothing,
}

/// The names of sources in a record.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Source", rename_all = "snake_case")]
enum SourceName {
    Event,
    Prose,
    ProviderLog,
}

impl ExitRecord {
    /// A record of a run that came to nothing.
    pub fn of(cause: Cause, detail: String) -> ExitRecord {
        ExitRecord {
            cause,
            exit_code: None,
            signal: None,
            detail,
            wall_ms: 0,
            cpu_ms: 0,
            peak_memory_kib: 0,
            log_bytes: 0,
            left_behind: 0,
            usage: UsageRecord::default(),
            nonce: String::new(),
            was_ordered: false,
            oom_kills: 0,
            session: None,
            trouble: None,
            last_words: String::new(),
        }
    }

    /// Whether the agent was killed by nobody of ours while memory was short: not its job's fault.
    pub fn is_oom_victim(&self) -> bool {
        const SIGKILL: i32 = 9;
        let killed = self.signal == Some(SIGKILL) || self.exit_code == Some(128 + SIGKILL);
        self.cause == Cause::Exited && killed && self.oom_kills > 0
    }
}

/// Millionths; what is no price is none.
pub fn micros(cost: f64) -> u64 {
    let micros = (cost * 1e6).round();
    if !micros.is_finite() || micros < 0.0 {
        return 0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is a positive number, and a cast holds at the largest one"
    )]
    let micros = micros as u64;
    micros
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn who_is_a_victim_of_the_machine() {
        for (cause, signal, exit_code, oom_kills, expected) in [
            (Cause::Exited, Some(9), None, 1, true),
            // A shell round the agent says it so.
            (Cause::Exited, None, Some(137), 1, true),
            (Cause::Exited, Some(9), None, 0, false),
            (Cause::Exited, Some(15), None, 1, false),
            (Cause::Exited, None, Some(1), 1, false),
            (Cause::Timeout, Some(9), None, 1, false),
        ] {
            let record =
                ExitRecord { signal, exit_code, oom_kills, ..ExitRecord::of(cause, String::new()) };
            assert_eq!(record.is_oom_victim(), expected, "{record:?}");
        }
    }

    #[test]
    fn trouble_is_read_as_it_was_written() {
        let trouble = Trouble {
            kind: Kind::Usage,
            remedy: Remedy::Wait,
            source: Source::ProviderLog,
            until: Some(Timestamp(7)),
            words: "weekly usage limit".into(),
        };
        let text = serde_json::to_string(&TroubleRecord::from(trouble.clone())).expect("JSON");
        let expected = r#"{"kind":"usage","remedy":"wait","source":"provider_log","until_ms":7,"#;
        assert!(text.starts_with(expected), "{text}");
        let read: TroubleRecord = serde_json::from_str(&text).expect("it is read");
        assert_eq!(Trouble::from(read), trouble);
    }

    #[test]
    fn records_and_specs_of_the_version_before_are_read() {
        let record = r#"{"cause":"exited","exit_code":0,"signal":null,"detail":"","wall_ms":1,
            "cpu_ms":2,"peak_memory_kib":3,"log_bytes":4,"left_behind":0}"#;
        let record: ExitRecord = serde_json::from_str(record).expect("it is read");
        let expected = ExitRecord {
            exit_code: Some(0),
            wall_ms: 1,
            cpu_ms: 2,
            peak_memory_kib: 3,
            log_bytes: 4,
            ..ExitRecord::of(Cause::Exited, String::new())
        };
        assert_eq!(record, expected);
        let spec = r#"{"arguments":["a"],"folder":"/w","stdin":"/w/.kugetsu/msg.txt","log":"/l",
            "places":[["/r/msg.txt","/w/.kugetsu/msg.txt"]],"environment":[],
            "environment_removed":[],"timeout_ms":1,"kill_grace_ms":2,"log_bytes_max":3}"#;
        let spec: RunSpec = serde_json::from_str(spec).expect("it is read");
        let expected =
            RunLimits { timeout_ms: 1, kill_grace_ms: 2, log_bytes_max: 3, ..RunLimits::default() };
        assert_eq!(spec.limits, expected);
        let written = serde_json::to_value(&spec).expect("it is written");
        assert_eq!((&written["timeout_ms"], &written["steps_max"]), (&1.into(), &Value::Null));
        assert_eq!((spec.steps.len(), spec.sandbox, spec.places.len()), (0, None, 1));
    }

    #[test]
    fn prices() {
        for (cost, expected) in [
            (0.0, 0),
            (0.00012, 120),
            (2.5, 2_500_000),
            (-1.0, 0),
            (f64::NAN, 0),
            (f64::INFINITY, 0),
        ] {
            assert_eq!(micros(cost), expected, "{cost}");
        }
    }
}
