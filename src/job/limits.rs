//! Every bound of the engine, in one place.
//!
//! A loop, buffer, wait or table scan without one of these behind it is a bug. They are here to be
//! read: a number may change with any version.

/// Longest message of a job, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Longest issue reference, in bytes: its safe name must fit a file name (255 bytes).
pub const ISSUE_REF_BYTES_MAX: usize = 200;
/// Longest request id, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 200;
/// Longest detail kept with an attempt, in bytes; longer ones are cut.
pub const DETAIL_BYTES_MAX: usize = 1000;
/// Attempts remembered with a job; older ones are dropped.
pub const ATTEMPTS_KEPT_MAX: usize = 20;
/// Largest `--max-attempts`.
pub const ATTEMPTS_MAX: u32 = 100;
/// How often a job may lose its agent (a crash, a reboot) before it ends as `lost`.
pub const LOST_MAX: u32 = 3;
/// How often an agent may fail to start before its job ends as `start_failed`.
pub const START_FAILED_MAX: u32 = 5;
/// How often a job may be deferred before it ends as `deferred`.
pub const DEFERRED_MAX: u32 = 100;
/// First pause before a retry, unless configured; it doubles with each failure.
pub const BACKOFF_MS_FIRST: u64 = 30_000;
/// Longest pause before a retry.
pub const BACKOFF_MS_MAX: u64 = 10 * 60_000;
/// Longest delay, timeout or lease that is accepted: ten years.
pub const DURATION_MS_MAX: u64 = 10 * 365 * 24 * 3_600_000;

/// Operations in one commit; a caller with more commits in slices.
pub const OPS_PER_COMMIT_MAX: usize = 1_000;
/// Longest line that an import reads, in bytes: a message may grow sixfold in JSON.
pub const IMPORT_LINE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Lines that an import takes into one transaction, in bytes; it takes one in any case.
pub const IMPORT_CHUNK_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Jobs whose time has come that one transaction moves into the order of claims.
pub const PROMOTIONS_PER_COMMIT_MAX: usize = 1_000;
/// Other workers whose end a worker waits for; of more it hears at its next poll.
pub const WORKERS_WATCHED_MAX: usize = 64;
/// Jobs that are counted before another one; of more it is said that there are more.
pub const AHEAD_COUNTED_MAX: usize = 1_000;
/// Problems that `verify` reports before it stops looking.
pub const PROBLEMS_MAX: usize = 100;
/// How long a write waits for other writers of the same file.
pub const STORE_WAIT_MS_MAX: u64 = 5_000;
/// Longest pause between two tries to become the writer.
pub const STORE_BACKOFF_MS_MAX: u64 = 8;
/// How often an audit of the queue begins again because somebody wrote to it in between.
pub const STORE_AUDITS_MAX: u32 = 5;
/// Page cache of an open database file, in bytes.
pub const STORE_CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Largest cap on running agents.
pub const AGENTS_MAX: u32 = 1_000;
/// How long a shim waits at its gate for the worker's go-ahead.
pub const GATE_WAIT_MS_MAX: u64 = 60_000;
/// How long a worker waits for a new shim to reach its gate.
pub const SHIM_READY_MS_MAX: u64 = 20_000;
/// How often a shim checks its limits while its agent logs.
pub const SHIM_TICK_MS: u64 = 250;
/// How often it checks them while its agent is quiet.
pub const SHIM_QUIET_TICK_MS: u64 = 1_000;
/// Rounds of killing what is left of a tree, [`KILL_PAUSE_MS`] apart.
pub const KILL_ROUNDS_MAX: u32 = 500;
/// Looks for new processes while a tree is being frozen.
pub const FREEZE_ROUNDS_MAX: u32 = 20;
/// Pause between two rounds of killing.
pub const KILL_PAUSE_MS: u64 = 10;
/// Longest run of one git command.
pub const GIT_MS_MAX: u64 = 30 * 60_000;
/// Longest run of a git command that only inspects a worktree.
pub const GIT_INSPECT_MS_MAX: u64 = 60_000;
/// Largest output of a helper program, in bytes.
pub const HELPER_OUTPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How long a helper program that is ended has from TERM to KILL.
pub const HELPER_GRACE_MS: u64 = 3_000;
/// Longest run of opencode that exports or imports a session.
pub const SESSION_COPY_MS_MAX: u64 = 5 * 60_000;
/// Largest session that a new one is made from, as JSON, in bytes.
pub const SESSION_EXPORT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long an opencode may take to say its version.
pub const VERSION_MS_MAX: u64 = 30_000;
/// First and longest pause between checks whether an agent has named its session.
pub const SESSION_POLL_MS_FIRST: u64 = 200;
/// See [`SESSION_POLL_MS_FIRST`].
pub const SESSION_POLL_MS_MAX: u64 = 10_000;
/// Part of an agent's log that is searched for its session, in bytes.
pub const SESSION_SEARCH_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Longest line of a log that is read as one, in bytes.
pub const LOG_LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Longest line of a log in which an agent's usage is looked for, in bytes.
pub const METER_LINE_BYTES_MAX: usize = 64 * 1024;
/// What is kept of the end of a log that grew too large, in bytes.
pub const LOG_TAIL_BYTES: u64 = 64 * 1024;
/// Looks at a quiet agent's processor time in the time after which it counts as idle.
pub const IDLE_CHECKS: u64 = 20;
/// An agent that uses less than this part of a processor, in thousandths, does nothing.
pub const IDLE_CPU_PERMILLE: u32 = 10;
/// Size of the file in which an agent says what became of it, in bytes.
pub const RESULT_BYTES_MAX: u64 = 64 * 1024;
/// Size of a configuration file, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// Size of an exit record or another small file that kugetsu writes for itself, in bytes.
pub const RECORD_BYTES_MAX: u64 = 1024 * 1024;
/// How long a person's command waits for a repository that another git works on.
pub const REPOSITORY_BUSY_MS_MAX: u64 = 10_000;
/// How long one git may work on a repository before somebody should look.
pub const REPOSITORY_HELD_MS_LONG: u64 = 10 * 60_000;
/// Files and folders of one kind that an audit reads.
pub const ENTRIES_READ_MAX: usize = 100_000;
/// Jobs that a check-up reads at once.
pub const JOBS_READ_AT_ONCE: usize = 100;
/// How far ahead of now a job may have been enqueued, as clocks of one machine are set right.
pub const CLOCK_SLACK_MS: u64 = 60_000;
/// Least room on a disk, in bytes.
pub const DISK_BYTES_MIN: u64 = 1024 * 1024 * 1024;
/// Room on a disk that is enough, whatever part of it that is.
pub const DISK_BYTES_ENOUGH: u64 = 20 * 1024 * 1024 * 1024;
/// Pause between two inspections of a lock that is to fall free.
pub const LOCK_PAUSE_MS: u64 = 10;
/// How long the file of a worker's lock may be in the making until it is taken for forgotten.
pub const LOCK_DRAFT_MS_MAX: u64 = 10 * 60_000;
/// Looks at a lock whose holder does not say who it is.
pub const LOCK_INSPECTIONS_MAX: u32 = 10;
/// Size from which on a queue-daemon that starts begins a new log, in bytes.
pub const DAEMON_LOG_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Pause between two tries to take a repository's lock.
pub const REPOSITORY_LOCK_PAUSE_MS: u64 = 20;
/// Folders of runs that one round of recovery inspects.
pub const LEFTOVERS_PER_ROUND_MAX: usize = 1_000;
/// How long `continue` waits for the agent to name its session.
pub const ANNOUNCE_MS_MAX: u64 = 60_000;

// Secrets and settings.

/// Shortest secret that texts are rid of, in bytes: a shorter one is a part of every text.
pub const SECRET_BYTES_MIN: usize = 4;
/// Shortest line of a secret with several that is one by itself, in bytes.
pub const SECRET_LINE_BYTES_MIN: usize = 12;
/// From this length on a name in an address, `https://NAME@host`, is taken for a token, in bytes.
pub const TOKEN_BYTES_MIN: usize = 16;
/// How far the end of an address is looked for, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 4096;
/// Longest name of a branch, in bytes: a file is called so, with `.lock` behind it.
pub const BRANCH_BYTES_MAX: usize = 240;
/// Names of folders, hosts or paths in one setting.
pub const LIST_ENTRIES_MAX: usize = 200;
/// Longest wait of a worker that is a setting (a grace, a pause between starts), in milliseconds.
pub const PAUSE_MS_MAX: u64 = 24 * 3_600_000;
/// Most that one run may cost, in millionths: a thousand millions.
pub const COST_MICROS_MAX: u64 = 1_000_000_000_000_000;
