//! Words of real gits, servers and systems, and whose trouble they mean.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Network,
    Login,
    Machine,
    TooLarge,
    Damaged,
    Refused,
}

use Kind::{Damaged, Login, Machine, Network, Refused, TooLarge};

fn kind_of(error: &GitError) -> Kind {
    match error {
        GitError::Network(_) => Network,
        GitError::Login(_) => Login,
        GitError::Machine(_) => Machine,
        GitError::TooLarge(_) => TooLarge,
        GitError::Damaged(_) => Damaged,
        GitError::Refused(_) => Refused,
        GitError::Stopped(_) | GitError::TimedOut(_) => panic!("no exit means this: {error:?}"),
    }
}

fn failure(stderr: &str, wait_status: i32, talk: Talk, is_bounded: bool) -> GitError {
    let said = Said { status: ExitStatus::from_raw(wait_status), stderr: stderr.into() };
    of(&Failure::new("fetch", &said, talk, is_bounded))
}

fn check(talk: Talk, table: &[(&str, Kind)]) {
    for (stderr, kind) in table {
        let error = failure(stderr, 128 << 8, talk, false);
        assert_eq!(kind_of(&error), *kind, "{stderr:?}: {error:?}");
        assert!(error.words().starts_with("git fetch: "), "{error:?}");
    }
}

#[test]
fn trouble_of_the_machine_whoever_git_talks_to() {
    let table = [
        ("fatal: write error: No space left on device", Machine),
        (
            "fatal: sha1 file '/m/tmp_pack_1' write error. Out of diskspace: No space left on device",
            Machine,
        ),
        (
            "error: unable to create temporary file: No space left on device\nfatal: failed to write object",
            Machine,
        ),
        ("fatal: cannot store pack file: Disk quota exceeded", Machine),
        ("error: unable to write file x: Disk quota exceeded", Machine),
        ("fatal: unable to create thread: Resource temporarily unavailable", Machine),
        ("fatal: cannot create async thread: Resource temporarily unavailable", Machine),
        ("error: cannot fork() for rev-list: Resource temporarily unavailable", Machine),
        ("fatal: fetch-pack: unable to fork off index-pack", Machine),
        ("fatal: cannot fork to run external filter 'x'", Machine),
        ("fatal: open /dev/null or dup failed: Too many open files", Machine),
        ("error: cannot open x: Too many open files in system", Machine),
        ("fatal: Out of memory, malloc failed (tried to allocate 100 bytes)", Machine),
        ("fatal: mmap failed: Cannot allocate memory", Machine),
        ("error: unable to read x: Input/output error", Machine),
        ("fatal: Unable to create '/m/packed-refs.lock': Read-only file system", Machine),
        ("error: unable to open x: Structure needs cleaning", Machine),
        ("fatal: unable to access '/m/config': Stale file handle", Machine),
        (
            "error: index-pack died of signal 9\nfatal: fetch-pack: invalid index-pack output",
            Machine,
        ),
        ("error: pack-objects died of signal 11", Machine),
        ("error: git-remote-https died of signal 7", Machine),
        (
            "error: insufficient permission for adding an object to repository database objects",
            Machine,
        ),
        ("fatal: could not create leading directories of '/m/x': Permission denied", Machine),
        ("error: cannot run ssh: Permission denied", Machine),
        ("fatal: cannot exec 'git-remote-https': Exec format error", Machine),
        (
            "fatal: Unable to create '/m/index.lock': File exists.\n\nAnother git process seems to be running in this repository",
            Machine,
        ),
        (
            "error: cannot lock ref 'refs/heads/a': Unable to create '/m/refs/heads/a.lock': File exists.",
            Machine,
        ),
        ("error: could not lock config file /m/config: File exists", Machine),
        ("error: cannot lock ref 'refs/heads/a': is at 1234 but expected 5678", Machine),
        // It is not the machine's that two names cannot both be there, or that ssh is not.
        (
            "error: cannot lock ref 'refs/heads/a/b': 'refs/heads/a' exists; cannot create 'refs/heads/a/b'",
            Refused,
        ),
        ("fatal: a branch named 'x' already exists", Refused),
        ("error: cannot run ssh: No such file or directory\nfatal: unable to fork", Machine),
    ];
    check(Talk::Local, &table);
    check(Talk::Remote, &table);
}

#[test]
fn trouble_of_the_network() {
    check(Talk::Remote, &NETWORK);
    // A pipe on this machine has no network to blame.
    check(
        Talk::Local,
        &[("fatal: early EOF", Refused), ("fatal: the remote end hung up unexpectedly", Refused)],
    );
}

const NETWORK: [(&str, Kind); 39] = [
    ("fatal: unable to access 'https://x/': Could not resolve host: x", Network),
    (
        "ssh: Could not resolve hostname x: Temporary failure in name resolution\nfatal: Could not read from remote repository.",
        Network,
    ),
    (
        "ssh: Could not resolve hostname x: Name or service not known\nfatal: Could not read from remote repository.",
        Network,
    ),
    ("fatal: Unable to look up x (port 9418) (Name or service not known)", Network),
    ("ssh: connect to host x port 22: Connection refused\nfatal: Could not read", Network),
    ("ssh: connect to host x port 22: Connection timed out", Network),
    ("ssh: connect to host x port 22: No route to host", Network),
    ("ssh: connect to host x port 22: Resource temporarily unavailable", Refused),
    ("fatal: unable to connect to x:\nx[0: ::1]: errno=Connection refused", Network),
    (
        "fatal: unable to access 'https://x/': Failed to connect to x port 443 after 1 ms: Couldn't connect to server",
        Network,
    ),
    (
        "fatal: unable to access 'https://x/': Failed to connect to x port 443 after 1 ms: Could not connect to server",
        Network,
    ),
    ("fatal: unable to access 'https://x/': Operation too slow. Less than 100 bytes/sec", Network),
    (
        "fatal: unable to access 'https://x/': Connection timed out after 300001 milliseconds",
        Network,
    ),
    ("fatal: unable to access 'https://x/': Empty reply from server", Network),
    ("fatal: unable to access 'https://x/': Recv failure: Connection reset by peer", Network),
    (
        "fatal: unable to access 'https://x/': gnutls_handshake() failed: The TLS connection was non-properly terminated.",
        Network,
    ),
    (
        "fatal: unable to access 'https://x/': OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to x:443",
        Network,
    ),
    (
        "fatal: unable to access 'https://x/': GnuTLS recv error (-110): The TLS connection was non-properly terminated.",
        Network,
    ),
    (
        "fatal: unable to access 'https://x/': TLS connect error: error:0A000126:SSL routines::unexpected eof while reading",
        Network,
    ),
    (
        "fatal: unable to access 'https://x/': Received HTTP code 503 from proxy after CONNECT",
        Network,
    ),
    ("fatal: unable to access 'x': The requested URL returned error: 500", Network),
    ("fatal: unable to access 'x': The requested URL returned error: 503", Network),
    ("fatal: unable to access 'x': The requested URL returned error: 522", Network),
    ("fatal: unable to access 'x': The requested URL returned error: 429", Network),
    ("fatal: unable to access 'x': The requested URL returned error: 408", Network),
    (
        "error: RPC failed; curl 56 Recv failure: Connection reset by peer\nfatal: early EOF\nfatal: fetch-pack: invalid index-pack output",
        Network,
    ),
    (
        "error: RPC failed; curl 92 HTTP/2 stream 5 was not closed cleanly: CANCEL (err 8)\nfatal: early EOF",
        Network,
    ),
    ("error: RPC failed; HTTP 502 curl 22 The requested URL returned error: 502", Network),
    (
        "fatal: the remote end hung up unexpectedly\nfatal: early EOF\nfatal: index-pack failed",
        Network,
    ),
    ("fetch-pack: unexpected disconnect while reading sideband packet\nfatal: early EOF", Network),
    (
        "kex_exchange_identification: Connection closed by remote host\nfatal: Could not read from remote repository.",
        Network,
    ),
    (
        "Connection to x closed by remote host.\nfatal: Could not read from remote repository.",
        Network,
    ),
    ("Timeout, server x not responding.\nfatal: the remote end hung up unexpectedly", Network),
    ("client_loop: send disconnect: Broken pipe\nfatal: early EOF", Network),
    // Its disk, its memory and its git are not ours.
    (
        "remote: fatal: write error: No space left on device\nfatal: protocol error: bad pack header",
        Network,
    ),
    (
        "remote: error: pack-objects died of signal 9\nfatal: protocol error: bad pack header",
        Network,
    ),
    (
        "remote: fatal: packfile x cannot be accessed: bad object y\nfatal: remote error: no",
        Network,
    ),
    ("remote: Internal Server Error\nfatal: remote error: no", Network),
    ("fatal: remote error: access denied or repository not exported: /x", Refused),
];

#[test]
fn a_remote_that_says_no() {
    check(
        Talk::Remote,
        &[
            ("fatal: could not read Username for 'https://x': terminal prompts disabled", Login),
            ("fatal: could not read Password for 'https://x': terminal prompts disabled", Login),
            (
                "remote: Invalid username or token.\nfatal: Authentication failed for 'https://x/'",
                Login,
            ),
            (
                "remote: HTTP Basic: Access denied\nfatal: Authentication failed for 'https://x/'",
                Login,
            ),
            ("fatal: unable to access 'x': The requested URL returned error: 403", Login),
            (
                "git@x: Permission denied (publickey).\r\nfatal: Could not read from remote repository.",
                Login,
            ),
            (
                "Host key verification failed.\r\nfatal: Could not read from remote repository.",
                Login,
            ),
            ("Received disconnect from x: Too many authentication failures", Login),
            ("remote: Repository not found.\nfatal: repository 'https://x/' not found", Refused),
            (
                "ERROR: Repository not found.\nfatal: Could not read from remote repository.",
                Refused,
            ),
            ("fatal: repository 'https://x/y/' not found", Refused),
            (
                "fatal: '/x' does not appear to be a git repository\nfatal: Could not read from remote repository.",
                Refused,
            ),
            ("fatal: unable to access 'x': The requested URL returned error: 404", Refused),
            ("fatal: unable to access 'x': The requested URL returned error: 410", Refused),
            (
                "fatal: unable to access 'x': SSL certificate problem: self-signed certificate",
                Refused,
            ),
            (
                "fatal: unable to access 'x': server certificate verification failed. CAfile: none",
                Refused,
            ),
            ("git: 'remote-https' is not a git command. See 'git --help'.", Refused),
            ("fatal: transport 'ext' not allowed", Refused),
            (
                "fatal: mismatched algorithms: client sha1; server sha256\nfatal: the remote end hung up unexpectedly",
                Refused,
            ),
            (
                "fatal: Server does not support this repository's object format\nfatal: the remote end hung up unexpectedly",
                Refused,
            ),
            ("fatal: protocol error: bad line length character: Welc", Refused),
            ("fatal: couldn't find remote ref refs/heads/x", Refused),
        ],
    );
}

#[test]
fn a_repository_in_pieces() {
    check(
        Talk::Local,
        &[
            ("fatal: bad object HEAD", Damaged),
            (
                "error: object file /m/objects/12/34 is empty\nfatal: loose object 1234 (stored in x) is corrupt",
                Damaged,
            ),
            ("error: inflate: data stream error (incorrect header check)", Damaged),
            (
                "error: file /m/pack-1.pack is far too short to be a packfile\nfatal: missing blob object 'x'",
                Damaged,
            ),
            ("fatal: unable to read tree (1234)", Damaged),
            ("error: /m/x did not send all necessary objects", Damaged),
            ("fatal: not a git repository: '/m'", Damaged),
            ("fatal: bad config line 1 in file /m/config", Damaged),
            ("fatal: unexpected line in /m/packed-refs: x", Damaged),
            (
                "error: refs/heads/x does not point to a valid object!\nfatal: bad reference",
                Damaged,
            ),
            ("fatal: Could not read 1234\nfatal: revision walk setup failed", Damaged),
            ("fatal: index file corrupt", Damaged),
            ("fatal: pack has 3 unresolved deltas", Damaged),
            ("fatal: ambiguous argument 'x': unknown revision", Refused),
            ("fatal: invalid reference: origin/main", Refused),
            ("", Refused),
        ],
    );
}

#[test]
fn signals_and_sizes() {
    let code = |code: i32| code << 8;
    for (stderr, status, is_bounded, kind) in [
        ("", libc::SIGKILL, false, Machine),
        ("", libc::SIGSEGV, false, Machine),
        ("", libc::SIGBUS, true, Machine),
        ("fatal: bad object HEAD", code(137), false, Machine),
        ("", code(139), false, Machine),
        ("usage: git fetch", code(129), false, Refused),
        ("fatal: no", code(128), false, Refused),
        ("", libc::SIGXFSZ, true, TooLarge),
        ("", code(128 + libc::SIGXFSZ), true, TooLarge),
        ("", libc::SIGXFSZ, false, Machine),
        ("fatal: write error: File too large", code(128), true, TooLarge),
        ("fatal: write error: File too large", code(128), false, Machine),
        ("error: index-pack died of signal 25", code(128), false, Machine),
        ("fatal: pack exceeds maximum allowed size (10 bytes)", code(128), false, TooLarge),
    ] {
        let error = failure(stderr, status, Talk::Local, is_bounded);
        assert_eq!(kind_of(&error), kind, "{stderr:?} {status}: {error:?}");
    }
}

#[test]
fn failed_calls_of_the_system() {
    for (errno, kind) in [
        (Errno::ENOSPC, Machine),
        (Errno::EDQUOT, Machine),
        (Errno::EMFILE, Machine),
        (Errno::EAGAIN, Machine),
        (Errno::ENOMEM, Machine),
        (Errno::EROFS, Machine),
        (Errno::EIO, Machine),
        (Errno::EACCES, Machine),
        (Errno::ENOENT, Machine),
        (Errno::ENOTDIR, Refused),
        (Errno::EEXIST, Refused),
        (Errno::ELOOP, Refused),
    ] {
        let error = cannot("make it", &errno.into());
        assert_eq!(kind_of(&error), kind, "{errno}");
        assert!(error.words().starts_with("cannot make it: "), "{error:?}");
    }
}

#[test]
fn what_git_says_and_what_to_do_about_it() {
    for (stderr, line, step) in [
        (
            "fatal: could not read Username for 'https://x': terminal prompts disabled\n",
            "fatal: could not read Username for 'https://x': terminal prompts disabled",
            "KUGETSU_TOKEN_",
        ),
        (
            "git@x: Permission denied (publickey).\r\nfatal: Could not read from remote repository.\n",
            "git@x: Permission denied (publickey).",
            "give ssh a key",
        ),
        (
            "Host key verification failed.\nfatal: Could not read from remote repository.\n",
            "Host key verification failed.",
            "ssh HOST",
        ),
        (
            "remote: Repository not found.\nfatal: repository 'https://u:p@x/' not found",
            "fatal: repository 'https://…@x/' not found",
            "private",
        ),
        ("warning: odd\nerror: RPC failed\nfatal: early EOF\n", "error: RPC failed", ""),
        ("Receiving: 1%\rReceiving: 2%\rfatal: early EOF\n", "fatal: early EOF", ""),
        (
            "fatal: Could not read from remote repository.\n",
            "fatal: Could not read from remote repository.",
            "",
        ),
        ("hint: only\n", "hint: only", ""),
        ("fatal: \u{1b}[31mred\n", "fatal: [31mred", ""),
        ("\n", "it failed without a word", ""),
    ] {
        assert_eq!(said(stderr), line);
        let advice = advice(stderr);
        assert!(
            advice.contains(step) && advice.is_empty() == step.is_empty(),
            "{stderr}: {advice}"
        );
    }
    assert_eq!(said(&"x".repeat(1000)).len(), LINE_CHARS_MAX);
}
