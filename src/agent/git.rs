//! One way to run git, and what its answers mean.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crossbeam_channel::Receiver;

use crate::executor::Stop;
use crate::job::limits;
use crate::process::command;
use crate::process::helper::{self, Bounds, Interrupted, Orphan, Output};

/// Runs git commands while holding a repository's lock.
pub(super) struct Git<'g> {
    pub lock: &'g File,
    pub stop: &'g Receiver<Stop>,
    /// For one command.
    pub timeout_ms: u64,
    /// The program whose guard ends what may take long when this process is killed.
    pub guard: Option<&'g Path>,
}

/// Commands that may take long, or talk to somebody.
const LONG: [&str; 3] = ["fetch", "worktree", "remote"];

/// Why git did not do it.
#[derive(Debug)]
pub(super) enum GitError {
    /// The worker was told to stop.
    Stopped(Stop),
    /// The network or the other side is not there now.
    Network(String),
    /// Git said no.
    Refused(String),
}

impl Git<'_> {
    /// Runs git in a folder and gives its standard output; a non-zero exit is an error.
    pub fn run(&self, folder: &Path, arguments: &[&str]) -> Result<String, GitError> {
        let output = self.output(folder, arguments)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = said(&output.stderr);
        let advice = advice(&output.stderr);
        let what = format!("git {}: {said}{advice}", arguments.first().unwrap_or(&""));
        Err(if is_network_trouble(&output.stderr) {
            GitError::Network(what)
        } else {
            GitError::Refused(what)
        })
    }

    /// Runs git in a folder; `None` when it exits with an error.
    pub fn ask(&self, folder: &Path, arguments: &[&str]) -> Result<Option<String>, GitError> {
        let output = self.output(folder, arguments)?;
        Ok(output.status.success().then(|| output.stdout.trim_end().to_string()))
    }

    fn output(&self, folder: &Path, arguments: &[&str]) -> Result<Output, GitError> {
        let mut git = git(folder);
        git.args(arguments);
        tracing::debug!(?arguments, folder = %folder.display(), "git");
        let bounds = Bounds {
            timeout_ms: self.timeout_ms,
            output_bytes_max: limits::HELPER_OUTPUT_BYTES_MAX,
        };
        let is_long = arguments.first().is_some_and(|verb| LONG.contains(verb));
        let orphan = match self.guard.filter(|_| is_long) {
            Some(guard) => Orphan::IsKilledBy(guard),
            None => Orphan::Ends,
        };
        helper::run(git, self.lock, self.stop, bounds, orphan).map_err(|error| match error {
            Interrupted::Stopped(stop) => GitError::Stopped(stop),
            Interrupted::TimedOut => GitError::Network(format!(
                "git {} took longer than {} min",
                arguments.first().unwrap_or(&""),
                self.timeout_ms / 60_000
            )),
            Interrupted::Failed(error) => GitError::Refused(format!("cannot run git: {error}")),
        })
    }
}

/// What a git hook, from which kugetsu may have been called, says about its own repository.
pub(super) const REPOSITORY_VARIABLES: [&str; 7] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_NAMESPACE",
];

/// A git that asks nobody anything, speaks English, and minds no environment of a caller's hook.
pub(crate) fn git(folder: &Path) -> Command {
    let mut git = command("git");
    git.current_dir(folder)
        .args(["-c", "gc.auto=0", "-c", "maintenance.auto=false"])
        .env("LC_ALL", "C")
        .env("GIT_TERMINAL_PROMPT", "0")
        // Makes ssh ask a program that says no, and not the terminal.
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env("SSH_ASKPASS", "false")
        .env("GIT_OPTIONAL_LOCKS", "0");
    if let Some(above) = folder.parent() {
        // A clone that is damaged is no reason to work in a repository around kugetsu's folder.
        git.env("GIT_CEILING_DIRECTORIES", above);
    }
    for name in REPOSITORY_VARIABLES {
        git.env_remove(name);
    }
    git
}

/// The line that says why, out of all that git says.
fn said(stderr: &str) -> String {
    // Git asks the program that always says no, and goes on to say whom it asked for.
    let is_noise = |line: &str| line.is_empty() || line.contains("unable to read askpass response");
    let lines = || stderr.lines().map(str::trim).filter(|line| !is_noise(line));
    let telling = lines().find(|line| line.starts_with("fatal:") || line.starts_with("error:"));
    let line = telling.or_else(|| lines().next_back()).unwrap_or("it failed without a word");
    without_password(line)
}

/// What a person can do about it, where git does not say so.
fn advice(stderr: &str) -> &'static str {
    const TABLE: [(&str, &str); 6] = [
        ("could not read Username", " (give git a credential helper, or see KUGETSU_CLONE_URL)"),
        ("could not read Password", " (give git a credential helper, or see KUGETSU_CLONE_URL)"),
        ("Authentication failed", " (give git a credential helper, or see KUGETSU_CLONE_URL)"),
        ("Permission denied (publickey", " (give ssh a key that it needs not ask for)"),
        ("already used by worktree", " (remove that worktree or its branch, and retry)"),
        ("already checked out at", " (remove that worktree or its branch, and retry)"),
    ];
    TABLE.iter().find(|(words, _)| stderr.contains(words)).map_or("", |(_, advice)| advice)
}

/// An address may hold a user's password: `https://user:password@host`.
fn without_password(line: &str) -> String {
    let mut words = Vec::new();
    for word in line.split(' ') {
        words.push(
            match word.split_once("://").map(|(scheme, rest)| (scheme, rest.split_once('@'))) {
                Some((scheme, Some((user, host)))) if !user.contains('/') => {
                    format!("{scheme}://…@{host}")
                }
                _ => word.to_string(),
            },
        );
    }
    words.join(" ")
}

/// Whether a later try may fare better.
fn is_network_trouble(stderr: &str) -> bool {
    const FINAL: [&str; 6] = [
        "not found",
        "does not exist",
        "does not appear to be a git repository",
        "Authentication failed",
        "could not read Username",
        "error: 40",
    ];
    const PASSING: [&str; 11] = [
        "Could not resolve host",
        "Temporary failure in name resolution",
        "Connection refused",
        "Connection timed out",
        "Connection reset",
        "Failed to connect",
        "Couldn't connect",
        "Operation timed out",
        "early EOF",
        "Network is unreachable",
        "error: 50",
    ];
    !FINAL.iter().any(|word| stderr.contains(word))
        && PASSING.iter().any(|word| stderr.contains(word))
}

/// A worktree as `git worktree list --porcelain -z` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WorktreeEntry {
    pub folder: PathBuf,
    /// Without `refs/heads/`; `None` when detached or bare.
    pub branch: Option<String>,
}

/// Reads `git worktree list --porcelain -z`.
pub(super) fn parse_worktrees(listing: &str) -> Vec<WorktreeEntry> {
    let mut entries: Vec<WorktreeEntry> = Vec::new();
    for field in listing.split('\0') {
        if let Some(folder) = field.strip_prefix("worktree ") {
            entries.push(WorktreeEntry { folder: folder.into(), branch: None });
        } else if let Some(branch) = field.strip_prefix("branch ")
            && let Some(entry) = entries.last_mut()
        {
            entry.branch = Some(branch.strip_prefix("refs/heads/").unwrap_or(branch).into());
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worktree_listings() {
        let listing = "worktree /r/a.git\0bare\0\0worktree /w/x y\0HEAD 12\0branch refs/heads/issue-1\0\
                       locked kugetsu\0\0worktree /w/z\0HEAD 12\0detached\0\0";
        let entry = |folder: &str, branch: Option<&str>| WorktreeEntry {
            folder: folder.into(),
            branch: branch.map(Into::into),
        };
        assert_eq!(
            parse_worktrees(listing),
            [entry("/r/a.git", None), entry("/w/x y", Some("issue-1")), entry("/w/z", None)]
        );
        assert_eq!(parse_worktrees(""), []);
    }

    #[test]
    fn passing_trouble_and_final_refusals() {
        for (stderr, passing) in [
            ("fatal: unable to access 'https://x/': Could not resolve host: x", true),
            ("ssh: connect to host x port 22: Connection refused\nfatal: Could not read", true),
            ("fatal: unable to access 'x': The requested URL returned error: 503", true),
            ("fatal: unable to access 'x': The requested URL returned error: 403", false),
            ("remote: Repository not found.\nfatal: repository 'x' not found", false),
            ("fatal: '/x' does not appear to be a git repository", false),
            ("fatal: could not read Username for 'https://x': terminal prompts disabled", false),
            ("fatal: invalid reference: origin/main", false),
        ] {
            assert_eq!(is_network_trouble(stderr), passing, "{stderr}");
        }
    }

    #[test]
    fn what_git_says_and_what_to_do_about_it() {
        for (stderr, line, step) in [
            (
                "error: unable to read askpass response from 'false'\n\
                 fatal: could not read Username for 'https://x': terminal prompts disabled\n",
                "fatal: could not read Username for 'https://x': terminal prompts disabled",
                "a credential helper",
            ),
            (
                "fatal: 'issue-1' is already used by worktree at '/w'\n",
                "fatal: 'issue-1' is already used by worktree at '/w'",
                "remove that worktree",
            ),
            (
                "git@x: Permission denied (publickey).\r\nfatal: Could not read from\n",
                "fatal: Could not read from",
                "give ssh a key",
            ),
            ("warning: odd\nerror: RPC failed\nfatal: early EOF\n", "error: RPC failed", ""),
            ("hint: only\n", "hint: only", ""),
            ("\n", "it failed without a word", ""),
        ] {
            assert_eq!(said(stderr), line);
            let advice = advice(stderr);
            assert!(advice.contains(step) && advice.is_empty() == step.is_empty(), "{stderr}");
        }
    }

    #[test]
    fn passwords_are_not_repeated() {
        assert_eq!(
            without_password("fatal: unable to access 'https://me:secret@h/o/r.git/': no"),
            "fatal: unable to access 'https://…@h/o/r.git/': no"
        );
        assert_eq!(without_password("see https://h/a@b"), "see https://h/a@b");
    }
}
