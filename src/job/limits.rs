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
/// How often a look at the queue begins again because somebody wrote to it in between.
pub const STORE_LOOKS_MAX: u32 = 5;
/// Page cache of an open database file, in bytes.
pub const STORE_CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Largest cap on running agents.
pub const AGENTS_MAX: u32 = 1_000;
/// How long a shim waits at its gate for the worker's word.
pub const GATE_WAIT_MS_MAX: u64 = 60_000;
/// How long a worker waits for a new shim to reach its gate.
pub const SHIM_READY_MS_MAX: u64 = 20_000;
/// How often a shim looks at its limits while its agent logs.
pub const SHIM_TICK_MS: u64 = 250;
/// How often it looks while its agent is quiet.
pub const SHIM_QUIET_TICK_MS: u64 = 1_000;
/// Rounds of killing what is left of a tree, [`KILL_PAUSE_MS`] apart.
pub const KILL_ROUNDS_MAX: u32 = 500;
/// Looks for new processes while a tree is being frozen.
pub const FREEZE_ROUNDS_MAX: u32 = 20;
/// Pause between two rounds of killing.
pub const KILL_PAUSE_MS: u64 = 10;
/// Longest run of one git command.
pub const GIT_MS_MAX: u64 = 30 * 60_000;
/// Longest run of a git command that only looks at a worktree.
pub const GIT_LOOK_MS_MAX: u64 = 60_000;
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
/// First and longest pause between looks whether an agent has named its session.
pub const SESSION_LOOK_MS_FIRST: u64 = 200;
/// See [`SESSION_LOOK_MS_FIRST`].
pub const SESSION_LOOK_MS_MAX: u64 = 10_000;
/// Part of an agent's log that is searched for its session, in bytes.
pub const SESSION_SEARCH_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Longest line of a log that is read as one, in bytes.
pub const LOG_LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Longest line of a log in which an agent's account is looked for, in bytes.
pub const METER_LINE_BYTES_MAX: usize = 64 * 1024;
/// What is kept of the end of a log that grew too large, in bytes.
pub const LOG_TAIL_BYTES: u64 = 64 * 1024;
/// Looks at a quiet agent's processor time in the time after which it counts as idle.
pub const IDLE_LOOKS: u64 = 20;
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
/// Files and folders of one kind that a check-up looks at.
pub const ENTRIES_LOOKED_AT_MAX: usize = 100_000;
/// Jobs that a check-up reads at once.
pub const JOBS_LOOKED_AT_ONCE: usize = 100;
/// How far ahead of now a job may have been enqueued, as clocks of one machine are set right.
pub const CLOCK_SLACK_MS: u64 = 60_000;
/// Least room on a disk, in bytes.
pub const DISK_BYTES_MIN: u64 = 1024 * 1024 * 1024;
/// Room on a disk that is enough, whatever part of it that is.
pub const DISK_BYTES_ENOUGH: u64 = 20 * 1024 * 1024 * 1024;
/// Pause between two looks at a lock that is to fall free.
pub const LOCK_PAUSE_MS: u64 = 10;
/// How long the file of a worker's lock may be in the making until it is taken for forgotten.
pub const LOCK_DRAFT_MS_MAX: u64 = 10 * 60_000;
/// Looks at a lock whose holder does not say who it is.
pub const LOCK_LOOKS_MAX: u32 = 10;
/// Size from which on a queue-daemon that starts begins a new log, in bytes.
pub const DAEMON_LOG_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Pause between two tries to take a repository's lock.
pub const REPOSITORY_LOCK_PAUSE_MS: u64 = 20;
/// Folders of runs that one round of recovery looks at.
pub const LEFTOVERS_PER_ROUND_MAX: usize = 1_000;
/// How long `continue` waits for the agent to name its session.
pub const ANNOUNCE_MS_MAX: u64 = 60_000;

// git: calls, mirrors and clones.

/// Longest name of a branch, in bytes: a lock file beside it must fit a file name.
pub const BRANCH_NAME_BYTES_MAX: usize = 200;
/// Largest output of a git command that is kept, in bytes, unless the call says otherwise.
pub const GIT_OUTPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// What may be written past a limit until the kernel stops it, in bytes: more than it moves in one
/// step.
pub const GIT_OUTPUT_SLACK_BYTES: u64 = 4 * 1024 * 1024;
/// Most that a git may say on standard error, progress included, in bytes; the rest is lost.
pub const GIT_STDERR_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Part of that which is read, from both its ends, in bytes.
pub const GIT_STDERR_READ_BYTES_MAX: u64 = 128 * 1024;
/// How often a running git is looked at, if it has a limit of silence.
pub const GIT_TICK_MS: u64 = 500;
/// Longest question to a remote, its credential helper included.
pub const GIT_ASK_MS_MAX: u64 = 2 * 60_000;
/// Longest fetch into a mirror that is there.
pub const GIT_FETCH_MS_MAX: u64 = 10 * 60_000;
/// Longest time in which a fetch, which shows its progress, says nothing at all.
pub const GIT_SILENCE_MS_MAX: u64 = 3 * 60_000;
/// Fewest bytes a second from a server over http, for [`GIT_SLOW_SECONDS_MAX`].
pub const GIT_SLOW_BYTES_MIN: u64 = 100;
/// How long a server may be slower than [`GIT_SLOW_BYTES_MIN`].
pub const GIT_SLOW_SECONDS_MAX: u64 = 60;
/// How long ssh waits for a connection, in seconds.
pub const SSH_CONNECT_SECONDS_MAX: u64 = 20;
/// How often ssh asks a silent server whether it lives, in seconds; three times without an answer
/// are enough.
pub const SSH_ALIVE_SECONDS: u64 = 20;

// Reading an agent's clone, what is kept of it, and what its work is: git/{refs,evidence,changes,
// new_work,unsaved}.rs.

/// References that are read from one clone.
pub const CLONE_REFS_MAX: usize = 100_000;
/// Folders between `refs` and a reference.
pub const REF_DEPTH_MAX: usize = 32;
/// Longest name of a reference, in bytes.
pub const REF_NAME_BYTES_MAX: usize = 1_000;
/// Largest file of one reference, in bytes.
pub const REF_BYTES_MAX: usize = 4 * 1024;
/// Largest `packed-refs`, in bytes.
pub const PACKED_REFS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Largest reflog that is read, in bytes.
pub const REFLOG_BYTES_MAX: usize = 16 * 1024 * 1024;
/// References that a symbolic one may lead through.
pub const SYMBOLIC_REFS_MAX: usize = 5;
/// Entries of one stash, or worktrees of one clone, that are read.
pub const CLONE_TIPS_MAX: usize = 1_000;
/// Files below the objects of one clone.
pub const CLONE_OBJECT_FILES_MAX: usize = 1_000_000;
/// Folders between `objects` and a file of it.
pub const CLONE_OBJECT_DEPTH_MAX: usize = 4;
/// Largest pack of what one run made, in bytes.
pub const EVIDENCE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Longest that bringing the objects of one run may take.
pub const EVIDENCE_MS_MAX: u64 = 5 * 60_000;
/// Commits that are named as known when objects are brought or work is looked for.
pub const KNOWN_TIPS_MAX: usize = 10_000;
/// References that are kept of one attempt.
pub const EVIDENCE_REFS_MAX: usize = 1_000;
/// Packs of one evidence folder from which on they are made into one.
pub const EVIDENCE_PACKS_MAX: usize = 100;
/// Evidence folders that were set aside as damaged and are kept.
pub const EVIDENCE_ASIDE_MAX: usize = 10;
/// Age from which on a folder for one look is one that a killed process left.
pub const LOOK_MS_MAX: u64 = 24 * 3_600_000;
/// Largest index of a clone, in bytes.
pub const INDEX_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Largest small file of a clone that git reads whole: excludes, `.git` files, in bytes.
pub const GIT_FILE_BYTES_MAX: usize = 1024 * 1024;
/// How long the first look for changes may take before it is asked what holds it up.
pub const CHANGES_MS_FIRST: u64 = 10_000;
/// How long the second may take.
pub const CHANGES_MS_MAX: u64 = 3 * 60_000;
/// Largest list of changes that is read, in bytes.
pub const CHANGES_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Changes that are remembered one by one.
pub const CHANGES_KEPT_MAX: usize = 500;
/// Largest changed file whose contents are compared, in bytes; of larger ones size and time are.
pub const CHANGED_FILE_BYTES_MAX: usize = 1024 * 1024;
/// Contents of changed files that are compared, in bytes, altogether.
pub const CHANGED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Entries below untracked folders that are compared, altogether.
pub const UNTRACKED_ENTRIES_MAX: usize = 20_000;
/// Files and folders that one walk through a clone looks at.
pub const TREE_ENTRIES_MAX: usize = 3_000_000;
/// Folders between a clone and a file of it that a walk goes down.
pub const TREE_DEPTH_MAX: usize = 256;
/// Commits of one side that are compared with each other.
pub const COMPARED_COMMITS_MAX: usize = 5_000;
/// Paths and folders that commits of one side change, altogether.
pub const COMPARED_PATHS_ALL_MAX: usize = 200_000;
/// Trees that are read to find them, in bytes.
pub const COMPARED_TREES_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Paths by which commits of the other side are chosen; of more, all are looked at.
pub const COMPARED_PATHS_MAX: usize = 1_000;
/// Patches of one side that are compared, in bytes.
pub const COMPARED_PATCHES_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Size from which on a file is compared by its name alone, in bytes.
pub const COMPARED_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Merges that are made again to see what was added to them.
pub const COMPARED_MERGES_MAX: usize = 100;
/// Tips beside the branch that are looked at one by one.
pub const ELSEWHERE_MAX: usize = 100;
/// Longest one of the calls that compare commits.
pub const COMPARE_MS_MAX: u64 = 60_000;
/// Largest text of a diff that is kept in memory, in bytes.
pub const DIFF_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Things that would be lost with a clone that are named one by one, of each kind.
pub const UNSAVED_NAMED_MAX: usize = 200;
/// Submodules of one clone that are looked into.
pub const SUBMODULES_MAX: usize = 100;
/// Trees in which pointers to large files are looked for.
pub const POINTER_TREES_MAX: usize = 10;
/// Folders that are entered to remove a tree, one in the other; what lies deeper is moved up first.
pub const REMOVE_DEPTH_MAX: usize = 64;
/// Entries of one folder that are removed before it is listed again.
pub const REMOVE_BATCH_MAX: usize = 10_000;
/// Names that are tried for a folder that is being removed.
pub const REMOVE_NAMES_MAX: usize = 1_000;
/// Longest first fetch of a repository.
pub const GIT_FIRST_FETCH_MS_MAX: u64 = 30 * 60_000;
/// Most that may be said of a repository's references, in bytes.
pub const GIT_REFERENCES_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Packs of a mirror from which on it is tidied up.
pub const MIRROR_PACKS_MAX: usize = 40;
/// How long a file system may take to put on disk what was written to it.
pub const SYNC_MS_MAX: u64 = 60_000;
/// Longest filling of a clone's tree.
pub const CHECKOUT_MS_MAX: u64 = 10 * 60_000;
/// Largest pack that a new clone gets from an issue's evidence, in bytes.
pub const CLONE_PACK_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Damaged clones of one issue that are kept beside it.
pub const CLONES_SET_ASIDE_MAX: u32 = 20;
