//! What it means that git failed: whose trouble it is, and what a person can do about it.
//!
//! Git has one exit code for everything, so its words are read. They are English, as `LC_ALL=C` is
//! set. What a remote says begins with `remote:` and is never this machine's trouble.

use std::io;
use std::os::unix::process::ExitStatusExt;

use nix::errno::Errno;
use nix::libc;

use crate::executor::Stop;
use crate::git::address::without_passwords;
use crate::git::running::Said;

/// Why git did not do it. The words name what was tried, and hold no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GitError {
    /// The worker was told to stop.
    Stopped(Stop),
    /// The network or the other side is not there now; later it may be.
    Network(String),
    /// The other side wants to know who asks, and does not accept the answer.
    Login(String),
    /// This machine's trouble: no room, no memory, no processes, a bad disk, a lock that is held.
    Machine(String),
    /// It did not end within its limit.
    TimedOut(String),
    /// It said or wrote more than it may.
    TooLarge(String),
    /// The repository that it worked in is damaged.
    Damaged(String),
    /// Git said no.
    Refused(String),
}

impl GitError {
    /// In words; all that is left to say of an error.
    pub fn words(&self) -> &str {
        match self {
            GitError::Stopped(_) => "it was told to stop",
            GitError::Network(why)
            | GitError::Login(why)
            | GitError::Machine(why)
            | GitError::TimedOut(why)
            | GitError::TooLarge(why)
            | GitError::Damaged(why)
            | GitError::Refused(why) => why,
        }
    }
}

/// Whom a git talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Talk {
    /// Nobody beyond this machine.
    Local,
    /// A remote.
    Remote,
}

/// A git that ended in failure.
#[derive(Debug)]
pub(crate) struct Failure<'f> {
    verb: &'f str,
    stderr: &'f str,
    signal: Option<i32>,
    talk: Talk,
    /// The size of its files was limited.
    is_bounded: bool,
}

impl<'f> Failure<'f> {
    pub fn new(verb: &'f str, said: &'f Said, talk: Talk, is_bounded: bool) -> Failure<'f> {
        // A guard, and git itself for a program that it started, make an exit code of a signal.
        let as_code = said.status.code().filter(|code| SIGNALS_AS_CODES.contains(code));
        let signal = said.status.signal().or(as_code.map(|code| code - 128));
        Failure { verb, stderr: &said.stderr, signal, talk, is_bounded }
    }
}

/// Signals that end a git without its will, as a shell counts them. 129 is git's own: its usage.
const SIGNALS_AS_CODES: [i32; 8] = [
    128 + libc::SIGABRT,
    128 + libc::SIGBUS,
    128 + libc::SIGKILL,
    128 + libc::SIGSEGV,
    128 + libc::SIGPIPE,
    128 + libc::SIGTERM,
    128 + libc::SIGXCPU,
    128 + libc::SIGXFSZ,
];

/// Says what a failure means.
pub(crate) fn of(failure: &Failure<'_>) -> GitError {
    let words = in_words(failure);
    let own = || failure.stderr.lines().filter(|line| !is_of_remote(line));
    if failure.is_bounded && (failure.signal == Some(libc::SIGXFSZ) || own().any(is_too_large)) {
        return GitError::TooLarge(words);
    }
    if failure.signal.is_some() || own().any(is_of_machine) {
        return GitError::Machine(words);
    }
    let says = |table: &[&str]| failure.stderr.lines().any(|line| has(line, table));
    match failure.talk {
        Talk::Remote if says(&LOGIN) => GitError::Login(words),
        Talk::Remote if says(&FINAL) => GitError::Refused(words),
        Talk::Remote if says(&PASSING) || says_of_remote(failure.stderr) => {
            GitError::Network(words)
        }
        Talk::Local | Talk::Remote if own().any(|line| has(line, &TOO_LARGE)) => {
            GitError::TooLarge(words)
        }
        Talk::Local | Talk::Remote if own().any(|line| has(line, &DAMAGED)) => {
            GitError::Damaged(words)
        }
        Talk::Local | Talk::Remote => GitError::Refused(words),
    }
}

/// What a failed call of the system means, made to do `what`.
pub(crate) fn cannot(what: &str, error: &io::Error) -> GitError {
    let words = format!("cannot {what}: {error}");
    match error.raw_os_error().map(Errno::from_raw) {
        Some(
            Errno::EEXIST
            | Errno::ENOTEMPTY
            | Errno::ENOTDIR
            | Errno::EISDIR
            | Errno::ELOOP
            | Errno::ENAMETOOLONG
            | Errno::EINVAL,
        ) => GitError::Refused(words),
        // Whatever else a system says no for, the job has no part in it.
        Some(_) | None => GitError::Machine(words),
    }
}

/// What it means that more was said than may be kept.
pub(crate) fn too_large(verb: &str) -> GitError {
    GitError::TooLarge(format!("git {verb} said more than can be read"))
}

/// Whether a git ended because nobody read what it said.
pub(crate) fn is_broken_pipe(said: &Said) -> bool {
    let code = 128 + libc::SIGPIPE;
    said.status.signal() == Some(libc::SIGPIPE)
        || said.status.code() == Some(code)
        || said.stderr.contains("Broken pipe")
}

fn has(line: &str, table: &[&str]) -> bool {
    table.iter().any(|words| line.contains(words))
}

fn is_of_remote(line: &str) -> bool {
    line.trim_start().starts_with("remote:")
}

/// A remote that fails for its own reasons: its disk is full, its git was killed.
fn says_of_remote(stderr: &str) -> bool {
    stderr.lines().any(|line| {
        is_of_remote(line) && (has(line, &SYSTEM) || has(line, &DAMAGED) || has(line, &BUSY_REMOTE))
    })
}

/// This machine's trouble, by one line of what git itself said.
fn is_of_machine(line: &str) -> bool {
    // ssh and curl say it of a connection.
    let is_of_connection = has(line, &["connect", "ssh:", "resolve", "RPC failed"]);
    let is_of_key = line.contains("Permission denied (") || line.contains("please try again");
    let is_denied =
        line.contains("Permission denied") && !is_of_key && has(line, &["fatal:", "error:"]);
    (has(line, &SYSTEM) && !is_of_connection)
        || is_denied
        || is_held_lock(line)
        || (line.contains("cannot run") && !line.contains("No such file"))
        || line.contains("cannot exec") && !line.contains("No such file")
}

/// A lock that another git holds, or held when it was killed.
fn is_held_lock(line: &str) -> bool {
    let is_file = line.contains(".lock'") && line.contains("File exists")
        || line.contains("could not lock config file") && line.contains("File exists");
    // Two names that cannot both be there are no lock.
    let is_name = line.contains("exists; cannot create") || line.contains("already exists");
    let is_race = line.contains("cannot lock ref") && line.contains("but expected");
    (is_file || is_race || line.contains("Another git process seems to be running")) && !is_name
}

fn is_too_large(line: &str) -> bool {
    line.contains("File too large") || has(line, &TOO_LARGE)
}

/// What the system says of a machine in trouble.
const SYSTEM: [&str; 30] = [
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "Too many open files",
    "Resource temporarily unavailable",
    "unable to fork",
    "cannot fork",
    "fork failed",
    "cannot create async thread",
    "unable to create thread",
    "failed to create thread",
    "unable to create threaded",
    "Cannot allocate memory",
    "Out of memory",
    "out of memory",
    "mmap failed",
    "unable to mmap",
    "malloc failed",
    "Input/output error",
    "Read-only file system",
    "Structure needs cleaning",
    "Bad message",
    "Stale file handle",
    "Transport endpoint is not connected",
    "No such device",
    "Remote I/O error",
    "Text file busy",
    "No locks available",
    "died of signal",
    "insufficient permission for adding an object",
];

/// A remote that does not believe, or does not know, who asks.
const LOGIN: [&str; 18] = [
    "could not read Username",
    "unable to get password from user",
    "could not read Password",
    "Authentication failed",
    "Invalid username or password",
    "Invalid username or token",
    "Invalid credentials",
    "Access denied",
    "Permission denied (",
    "Permission denied, please try again",
    "Host key verification failed",
    "Too many authentication failures",
    "no mutual signature",
    "returned error: 401",
    "returned error: 403",
    "returned error: 407",
    "HTTP 401",
    "HTTP 403",
];

/// What a later try will not mend.
const FINAL: [&str; 22] = [
    "mismatched algorithms",
    "repository's object format",
    "epository not found",
    "epository does not exist",
    "' not found",
    "does not exist",
    "does not appear to be a git repository",
    "could not be found",
    "returned error: 400",
    "returned error: 404",
    "returned error: 410",
    "returned error: 451",
    "HTTP 404",
    "HTTP 413",
    "certificate problem",
    "certificate verification failed",
    "no alternative certificate subject name",
    "not valid: is this a git repository",
    "is not a git command",
    "transport '",
    "couldn't find remote ref",
    "bad line length character",
];

/// What a later try may mend.
const PASSING: [&str; 62] = [
    "Could not resolve",
    "Couldn't resolve",
    "name resolution",
    "Name or service not known",
    "No address associated with hostname",
    "Unable to look up",
    "Connection refused",
    "Connection timed out",
    "Connection reset",
    "Connection was reset",
    "Connection closed",
    "Connection aborted",
    "Connection to ",
    "closed by remote host",
    "connection unexpectedly closed",
    "unable to connect to",
    "Failed to connect",
    "Could not connect",
    "Couldn't connect",
    "Operation timed out",
    "Operation too slow",
    "timed out",
    "Timeout was reached",
    "Timeout, server",
    "Network is unreachable",
    "Network is down",
    "No route to host",
    "Host is down",
    "early EOF",
    "unexpected disconnect",
    "hung up unexpectedly",
    "Broken pipe",
    "broken pipe",
    "Empty reply from server",
    "transfer closed",
    "Transferred a partial file",
    "Recv failure",
    "Send failure",
    "Failure when receiving data",
    "recv error",
    "RPC failed; curl",
    "RPC failed; result",
    "RPC failed; HTTP 5",
    "RPC failed; HTTP 408",
    "RPC failed; HTTP 429",
    "returned error: 5",
    "returned error: 408",
    "returned error: 425",
    "returned error: 429",
    "from proxy after CONNECT",
    "Proxy CONNECT aborted",
    "HTTP/2 ",
    "HTTP2 framing",
    "SSL_ERROR_SYSCALL",
    "SSL_connect",
    "SSL connection",
    "TLS connect error",
    "non-properly terminated",
    "gnutls_handshake",
    "OpenSSL SSL_read",
    "kex_exchange_identification",
    "ssh_exchange_identification",
];

/// What a remote says that has too much to do.
const BUSY_REMOTE: [&str; 5] =
    ["try again", "temporarily unavailable", "rate limit", "Too many requests", "Internal Server"];

/// What git says that reached a limit of size.
const TOO_LARGE: [&str; 2] = ["pack exceeds maximum allowed size", "too large to parse"];

/// What git says of a repository in which something is missing or wrong.
const DAMAGED: [&str; 48] = [
    "bad object",
    "bad tree object",
    "bad tag object",
    "bad packed object",
    "bad pack",
    "bad signature",
    "bad index file",
    "bad config line",
    "bad config value",
    "bad reference",
    "bad ref",
    "broken ref",
    "reference broken",
    "corrupt",
    "is empty",
    "hash mismatch",
    "inflate:",
    "garbage at end",
    "unable to parse object",
    "unable to unpack",
    "unable to read tree",
    "unable to read sha1",
    "unable to read object",
    "unable to resolve reference",
    "error reading reference",
    "could not read blob",
    "could not read ref",
    "cannot read object",
    "cannot read existing object",
    "failed to read object",
    "Could not read ",
    "Cannot read ",
    "missing blob",
    "missing tree",
    "missing commit",
    "missing object",
    "object missing",
    "invalid object",
    "invalid sha1 pointer",
    "not a valid object",
    "does not match index",
    "did not send all necessary objects",
    "revision walk setup failed",
    "unresolved deltas",
    "unexpected line in",
    "not a git repository",
    "index uses",
    "expected git repo version",
];

/// What git tried, the line that says why it failed, and what a person can do about it.
fn in_words(failure: &Failure<'_>) -> String {
    let Failure { verb, stderr, signal, .. } = failure;
    let mut words = format!("git {verb}: ");
    match signal {
        Some(signal) => words.push_str(&format!("ended by signal {signal}")),
        None => words.push_str(&said(stderr)),
    }
    words.push_str(advice(stderr));
    words
}

/// The line that says why, out of all that git says: its own, or failing that the remote's.
fn said(stderr: &str) -> String {
    // Progress is overwritten in place on a terminal.
    let lines = || stderr.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
    let is_telling = |line: &&str| line.starts_with("fatal:") || line.starts_with("error:");
    // It follows the line that says what happened.
    let is_vague = |line: &&str| {
        line.contains("Could not read from remote repository")
            || line.contains("hung up unexpectedly")
            || line.contains("fetch-pack: ")
    };
    let telling = lines().filter(is_telling);
    let line = telling.clone().find(|line| !is_vague(line)).or_else(|| cause_before(stderr));
    let line = line.or_else(|| telling.clone().next()).or_else(|| lines().next_back());
    let line = without_passwords(line.unwrap_or("it failed without a word"));
    line.chars().filter(|c| !c.is_control()).take(LINE_CHARS_MAX).collect()
}

/// Longest line of git that is quoted, in characters.
const LINE_CHARS_MAX: usize = 300;

/// What ssh or the remote said before git said that it cannot go on.
fn cause_before(stderr: &str) -> Option<&str> {
    let tables = [&LOGIN[..], &FINAL, &PASSING];
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.starts_with("fatal:"));
    tables.iter().find_map(|table| lines().find(|line| has(line, table)))
}

/// What a person can do about it, where git does not say so.
fn advice(stderr: &str) -> &'static str {
    const TOKEN: &str =
        " (set KUGETSU_TOKEN_<HOST>, or give git a credential helper that need not ask)";
    const PRIVATE: &str = " (or it is private: set KUGETSU_TOKEN_<HOST>; or see KUGETSU_CLONE_URL)";
    const TABLE: [(&str, &str); 19] = [
        ("unable to get password from user", TOKEN),
        ("could not read Username", TOKEN),
        ("could not read Password", TOKEN),
        ("Authentication failed", TOKEN),
        ("returned error: 401", TOKEN),
        ("returned error: 403", " (the login may not read this repository)"),
        ("Permission denied (publickey", " (give ssh a key that it need not ask for)"),
        ("Permission denied (", " (give ssh a login that it need not ask for)"),
        (
            "Host key verification failed",
            " (connect once by hand: `ssh HOST`, and look at its key)",
        ),
        ("epository not found", PRIVATE),
        ("' not found", PRIVATE),
        ("does not appear to be a git repository", " (see KUGETSU_CLONE_URL)"),
        ("does not exist", " (see KUGETSU_CLONE_URL)"),
        ("transport '", " (see KUGETSU_CLONE_URL: kugetsu does not let git use this transport)"),
        ("is not a git command", " (this git lacks a part: install it whole)"),
        ("cannot run ssh", " (install ssh)"),
        ("certificate", " (see git's http.sslCAInfo)"),
        ("dubious ownership", " (the folder is another user's: see git's safe.directory)"),
        ("No space left on device", " (blocks or inodes: see `df -h` and `df -i`)"),
    ];
    TABLE.iter().find(|(words, _)| stderr.contains(words)).map_or("", |(_, advice)| advice)
}

#[cfg(test)]
mod tests;
