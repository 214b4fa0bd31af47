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
// process
/// How often a file that others make and remove is tried to be opened.
pub const SAFE_OPEN_TRIES_MAX: u32 = 10;
/// Longest path that is read from a file, in bytes.
pub const PATH_BYTES_MAX: u64 = 4096;
/// What is shown of another process's command, in characters.
pub const COMMAND_SHOWN_CHARS_MAX: usize = 200;
/// How long a shim tries to write down how its agent ended, when the disk does not take it.
pub const EXIT_RECORD_MS_MAX: u64 = 10 * 60_000;
/// Pause between two such tries.
pub const EXIT_RECORD_PAUSE_MS: u64 = 1_000;
/// After how long a request to end that its shim has not heard is made again.
pub const ENDING_UNHEARD_MS: u64 = 5_000;
/// Largest file that a shim puts in a place of the agent's, in bytes.
pub const PLACE_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Files of an agent's own log that are followed.
pub const OWN_LOGS_MAX: usize = 8;
/// What is read of an agent's own log at once, in bytes.
pub const OWN_LOG_BYTES_MAX: u64 = 1024 * 1024;
// Secrets and settings.

/// Shortest secret that texts are rid of, in bytes: a shorter one is a part of every text.
pub const SECRET_BYTES_MIN: usize = 4;
/// Shortest line of a secret with several that is one by itself, in bytes.
pub const SECRET_LINE_BYTES_MIN: usize = 12;
/// From this length on a name in an address, `https://NAME@host`, is taken for a token, in bytes.
pub const TOKEN_BYTES_MIN: usize = 16;
/// How far the end of an address is looked for, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 4096;
/// Names of folders, hosts or paths in one setting.
pub const LIST_ENTRIES_MAX: usize = 200;
/// Longest wait of a worker that is a setting (a grace, a pause between starts), in milliseconds.
pub const PAUSE_MS_MAX: u64 = 24 * 3_600_000;
/// Most that one run may cost, in millionths: a thousand millions.
pub const COST_MICROS_MAX: u64 = 1_000_000_000_000_000;

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
// What agents say: `dialect`.

/// Longest line of a run's output that is read as an event, in bytes; of longer ones only the
/// beginning is looked at.
pub const DIALECT_LINE_BYTES_MAX: usize = 256 * 1024;
/// Largest JSON value over several lines that is read as one event, in bytes.
pub const DIALECT_BLOCK_BYTES_MAX: usize = 64 * 1024;
/// Plain lines kept of the end of a run's output.
pub const LAST_LINES_MAX: usize = 20;
/// Longest plain line that is kept, in bytes; the rest of it is cut.
pub const LAST_LINE_BYTES_MAX: usize = 4 * 1024;
/// Last words of an agent, in bytes.
pub const LAST_WORDS_BYTES_MAX: usize = 2_000;
/// Words of a provider's trouble that are kept, in bytes.
pub const TROUBLE_WORDS_BYTES_MAX: usize = 600;
/// Depth to which an error event is looked through.
pub const ERROR_DEPTH_MAX: u32 = 10;
/// Values of an error event that are looked at.
pub const ERROR_VALUES_MAX: u32 = 400;
/// Longest text of an error event in which phrases are looked for, in bytes.
pub const ERROR_TEXT_BYTES_MAX: usize = 8 * 1024;
/// Words after which a time may stand that are tried in one text.
pub const TIMES_TRIED_MAX: usize = 32;
/// Longest session id, in bytes: it becomes an argument and part of a file name.
pub const SESSION_ID_BYTES_MAX: usize = 200;
/// Shortest pause for a provider that named a time.
pub const PROVIDER_WAIT_MS_MIN: u64 = 60_000;
/// Longest pause for a provider that named a time: a week's limit, and a day for zones.
pub const PROVIDER_WAIT_MS_MAX: u64 = 8 * 24 * 3_600_000;
/// How far in the past a named time may lie until it is taken for the next such one.
pub const PROVIDER_CLOCK_GRACE_MS: u64 = 5 * 60_000;
/// Most tokens that one event may name; more is no count.
pub const EVENT_TOKENS_MAX: u64 = 1_000_000_000_000;
/// Most that one event may cost, in millionths; more is no price.
pub const EVENT_COST_MICROS_MAX: u64 = 1_000_000_000_000;
// What comes back without cost, and what holds it.

/// How often in a row a job may be put off, or ended from outside, before it waits for a person.
pub const FREE_IN_A_ROW_MAX: u32 = 100;
/// Shortest wait of a job that was put off.
pub const POSTPONED_MS_MIN: u64 = 10_000;
/// First wait of a job that was put off to no time; it doubles with each time in a row.
pub const POSTPONED_MS_FIRST: u64 = 5 * 60_000;
/// Longest wait of a job that was put off to no time.
pub const POSTPONED_MS_LAST: u64 = 3_600_000;
/// How far ahead an agent's own word is believed.
pub const DEFERRED_MS_MAX: u64 = 24 * 3_600_000;
/// How far ahead a provider's limit is believed.
pub const PROVIDER_LIMIT_MS_MAX: u64 = 8 * 24 * 3_600_000;
/// First wait of a job that something outside ended; it doubles with each time in a row.
pub const INTERRUPTED_MS_FIRST: u64 = 1_000;
/// Longest wait of a job that something outside ended.
pub const INTERRUPTED_MS_LAST: u64 = 5 * 60_000;
/// Agent commands that a queue holds at once; a further one takes the place of the one whose hold
/// ends first.
pub const HOLDS_MAX: usize = 100;
/// Longest key of an agent command, in bytes.
pub const AGENT_KEY_BYTES_MAX: usize = 100;
/// Jobs whose end is still to be read that do not count against the cap.
pub const JUDGING_MAX: u64 = 64;
/// Longest words for where an attempt's work is, in bytes; longer ones are cut.
pub const WORK_BYTES_MAX: usize = 200;
/// Longest name of a commit, in bytes: 64 hexadecimal digits.
pub const TIP_BYTES_MAX: usize = 64;
/// Largest number that is believed of what an attempt used up; a larger one counts as nothing.
pub const USAGE_MAX: u64 = 1_000_000_000_000_000;
/// Shortest pause between two reads of the store without a wake-up.
pub const POLL_MS_MIN: u64 = 100;
/// Shortest lease of a worker.
pub const LEASE_MS_MIN: u64 = 300;
/// Pause between two examinations of a machine that is in trouble.
pub const EXAMINE_MS: u64 = 5_000;
/// Room beside the queue that an examination asks for, in bytes.
pub const EXAMINE_BYTES: usize = 4 * 1024 * 1024;
/// Longest pause before the first examination, when trouble comes back that none of them saw.
pub const EXAMINE_MS_LAST: u64 = 5 * 60_000;
/// How far off a provider's next chance may be for an agent to wait for it; beyond, the run is ended
/// and put off.
pub const PROVIDER_PATIENCE_MS: u64 = 5 * 60_000;
/// How long an agent may try a provider that wants a person: one that pays, or logs in.
pub const PROVIDER_LOGIN_PATIENCE_MS: u64 = 60_000;
/// Folders and links on the way to a file whose owner is looked at.
pub const PATH_PARTS_MAX: usize = 200;
/// What is read of a run's log at once, in bytes: limits are looked at in between.
pub const LOG_READ_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Longest question of git's for a credential, in bytes.
pub const CREDENTIAL_REQUEST_BYTES_MAX: u64 = 64 * 1024;

// agent: attempts, and what they are judged by.

/// Runs of one attempt: the message, once more with a fresh session, a step that brings work onto
/// the branch, and a reminder.
pub const ROUNDS_MAX: u32 = 5;
/// First pause before a run is judged again whose clone could not be read.
pub const JUDGE_PAUSE_MS_FIRST: u64 = 1_000;
/// Longest pause before it is judged again.
pub const JUDGE_PAUSE_MS_MAX: u64 = 60_000;
/// How long after its end a run is judged again, until it is given up.
pub const JUDGE_MS_MAX: u64 = 3_600_000;
/// Longest judging of one run, the wait for others who judge not counted.
pub const JUDGING_MS_MAX: u64 = 15 * 60_000;
/// How long a verdict waits for others who add to the evidence of a repository.
pub const EVIDENCE_LOCK_MS_MAX: u64 = 15 * 60_000;
/// How long a job waits for others who fetch its repository.
pub const REPOSITORY_LOCK_MS_MAX: u64 = 30 * 60_000;
/// Longest preparation of an attempt: fetch, clone, evidence of before.
pub const PREPARE_MS_MAX: u64 = 45 * 60_000;
/// Part of the end of an agent's log that is read for the verdict, in bytes.
pub const TRANSCRIPT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Names that are tried for a branch which the remote leaves no room for.
pub const BRANCH_NAMES_TRIED_MAX: u32 = 100;
/// What is read of a shim's own words, in bytes.
pub const SHIM_WORDS_BYTES_MAX: u64 = 16 * 1024;
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
/// Files that are made on trial before a worker goes on after trouble of the machine.
pub const EXAMINE_FILES: u32 = 20;

// Looking over what is there, for a person who waits.
/// Longest look at one issue's clone.
pub const INSPECT_MS_MAX: u64 = 5 * 60_000;
/// Longest time that `prune` and `destroy` ask a remote what it has.
pub const ASK_REMOTE_MS_MAX: u64 = 60_000;
/// Things that would be lost that are named in one line.
pub const UNSAVED_SHOWN_MAX: usize = 8;
/// Entries that are looked at to measure a folder.
pub const MEASURED_ENTRIES_MAX: usize = 3_000_000;
/// Longest time that `doctor` tries to sign a commit.
pub const SIGN_MS_MAX: u64 = 10_000;
/// Inodes without which a disk counts as full.
pub const INODES_MIN: u64 = 10_000;
/// Free inodes that are enough whatever part of the disk they are.
pub const INODES_ENOUGH: u64 = 200_000;
