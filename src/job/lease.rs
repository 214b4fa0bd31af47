//! A worker's right to a job, and the process that works on it.

use crate::job::{AgentKey, Token, WorkerId};
use crate::time::Timestamp;

/// A worker's right to a job, until a time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// Who holds it.
    pub worker: WorkerId,
    /// Which lease it is: every write about the job carries it.
    pub token: Token,
    /// When the job was claimed.
    pub claimed_at: Timestamp,
    /// Lapsed from this time on, unless renewed. Nothing happens by itself then: another worker
    /// adopts the job, run and all.
    pub expires_at: Timestamp,
    /// The agent's process, once it is known.
    pub run: Option<Run>,
    /// Somebody wants the job called off: whatever is reported at the end, it ends as cancelled.
    pub cancel_requested: bool,
    /// The agent command that the worker runs, if it has said so.
    pub agent: Option<AgentKey>,
    /// Its agent has ended, and how cannot be read yet: why, in words. It does not count against
    /// the cap then.
    pub judging: Option<String>,
}

/// The process that holds an agent: the shim of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// The shim's process id.
    pub pid: i32,
    /// The shim's start time in clock ticks since boot: with the boot id, who the pid is.
    pub start_time: u64,
    /// The boot it belongs to.
    pub boot_id: String,
    /// Name of the folder that shim and worker share. It stays when the lease changes hands.
    pub folder: String,
    /// When it was recorded, just before its gate opened.
    pub started_at: Timestamp,
    /// 1 for the message, 2 for the reminder to commit.
    pub round: u32,
}

impl Run {
    /// The first round of a process. `start_time` is the 22nd field of `/proc/PID/stat`, `boot_id`
    /// the text of `/proc/sys/kernel/random/boot_id`: together they say who the pid is.
    pub fn new(
        pid: i32,
        start_time: u64,
        boot_id: impl Into<String>,
        folder: impl Into<String>,
        started_at: Timestamp,
    ) -> Run {
        Run {
            pid,
            start_time,
            boot_id: boot_id.into(),
            folder: folder.into(),
            started_at,
            round: 1,
        }
    }
}
