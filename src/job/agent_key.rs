//! Which agent command a worker runs, as a short name, and what holds it back.

use std::fmt;
use std::str::FromStr;

use crate::job::{JobId, limits};
use crate::time::Timestamp;

/// The name of an agent command: its program and a checksum of all its words.
///
/// Jobs do not name a command, workers do: what a provider refuses to one job of a command, it
/// refuses to all of them.
///
/// ```
/// use kugetsu::job::AgentKey;
///
/// let key = AgentKey::of_command(["/usr/bin/opencode", "run", "--model", "m"]);
/// assert_eq!(key.to_string().parse(), Ok(key.clone()));
/// assert!(key.to_string().starts_with("opencode-"));
/// assert!("two words".parse::<AgentKey>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentKey(String);

impl AgentKey {
    /// The key of a command, from all of its words.
    pub fn of_command<'w>(words: impl IntoIterator<Item = &'w str>) -> AgentKey {
        let mut words = words.into_iter().peekable();
        let program = words.peek().copied().unwrap_or_default();
        let program = program.rsplit('/').next().unwrap_or_default();
        let name: String = program
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
            .take(limits::AGENT_KEY_BYTES_MAX / 2)
            .collect();
        let name = if name.is_empty() { "agent" } else { &name };
        AgentKey(format!("{name}-{:08x}", checksum(words)))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// FNV-1a over the words, each with an end: the same command has the same key in every version.
fn checksum<'w>(words: impl Iterator<Item = &'w str>) -> u32 {
    let bytes = words.flat_map(|word| word.bytes().chain([0]));
    bytes.fold(0x811c_9dc5, |sum: u32, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

impl fmt::Display for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for AgentKey {
    type Err = String;

    fn from_str(text: &str) -> Result<AgentKey, String> {
        let max = limits::AGENT_KEY_BYTES_MAX;
        if text.is_empty() || text.len() > max || !text.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(format!("an agent's key is 1 to {max} visible ASCII characters"));
        }
        Ok(AgentKey(text.into()))
    }
}

/// Why no job is claimed for an agent command, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hold {
    /// The command that is held.
    pub agent: AgentKey,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself; `None` is not before a person lifts it.
    pub until: Option<Timestamp>,
    /// The evidence in words.
    pub why: String,
    /// The job whose attempt told of it.
    pub job: JobId,
}

impl Hold {
    /// Whether it holds anything back at `now`.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }

    /// Whether it ends before another one does. One without an end ends last.
    pub fn ends_before(&self, other: &Hold) -> bool {
        match (self.until, other.until) {
            (Some(until), Some(end)) => until < end,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }
}
