//! A remote, a mirror, a clone and an agent, for tests: real repositories in a temporary folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, never};
use tempfile::TempDir;

use crate::executor::Stop;
use crate::git::call::Git;
use crate::git::evidence::Evidence;
use crate::git::{BranchName, Oid};
use crate::process::{command, remove_variables};

/// What the scripts of agents and of other people have: `c FILE TEXT…` commits a file, `up FILE
/// TEXT…` does so on the remote's main branch, `upon BRANCH FILE TEXT…` on another; `merge` may leave
/// conflicts.
const PRELUDE: &str = r#"
set -e
c() { f=$1; shift; mkdir -p "$(dirname "$f")"; printf '%s\n' "$@" > "$f"; git add -A -- "$f"; git commit -qm "$f: $*"; }
upon() { b=$1; shift; (cd "$T/seed"; GIT_COMMITTER_NAME="Somebody else"; git fetch -q origin; git checkout -q -B "$b" "origin/$b" 2>/dev/null || git checkout -q -B "$b" origin/main; c "$@"; git push -q origin "HEAD:refs/heads/$b"); }
up() { upon main "$@"; }
merge() { git merge -q "$@" >/dev/null 2>&1 || true; }
"#;

/// The folder of a trial: `origin.git`, `seed`, `mirror.git`, `clone`, `evidence/`, `looks/`.
#[derive(Debug)]
pub(super) struct Trial {
    folder: TempDir,
    lock: File,
    stop: Receiver<Stop>,
}

/// Made once, and copied for each trial.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<TempDir> = OnceLock::new();
    let made = TEMPLATE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let script = r#"
            git init -q --bare -b main "$T/origin.git"
            git clone -q ../origin.git "$T/seed" 2>/dev/null || true
            cd "$T"; rm -rf seed; git clone -q origin.git seed 2>/dev/null
            cd seed; git config remote.origin.url ../origin.git; git checkout -q -b main
            c README one two three four five; c src/a.txt 1 2 3 4 5 6 7 8 9; c .gitignore '*.ignored' ignored/
            git push -q origin main; git push -q origin main:refs/heads/side
            cd "$T"; git clone -q --mirror origin.git mirror.git; git -C mirror.git config remote.origin.url ../origin.git
            git clone -q --template= --no-tags --no-checkout -b main mirror.git clone
            cd clone; git config remote.origin.url ../origin.git
            mkdir -p .git/info .git/hooks
            git checkout -q --no-track -b issue-1 refs/remotes/origin/main
        "#;
        run_script(folder.path(), folder.path(), script);
        folder
    });
    made.path()
}

fn run_script(trial: &Path, folder: &Path, script: &str) -> String {
    try_script(trial, folder, script).unwrap_or_else(|words| panic!("{script}\n{words}"))
}

fn try_script(trial: &Path, folder: &Path, script: &str) -> Result<String, String> {
    let mut shell = command("sh");
    shell.arg("-c").arg(format!("{PRELUDE}\n{script}")).current_dir(folder).env("T", trial);
    remove_variables(&mut shell, &["GIT_*"]);
    for name in ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"] {
        shell.env(name, "Somebody");
    }
    for name in ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"] {
        shell.env(name, "somebody@example.com");
    }
    shell.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    shell.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "protocol.file.allow");
    shell.env("GIT_CONFIG_VALUE_0", "always").env("GIT_EDITOR", "true");
    let output = shell.output().unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim_end().into()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

impl Trial {
    /// A clone with the branch `issue-1` at the remote's `main`.
    pub fn new() -> Trial {
        let folder = tempfile::tempdir().unwrap();
        let copied =
            command("cp").arg("-a").arg(template().join(".")).arg(folder.path()).status().unwrap();
        assert!(copied.success());
        Trial { folder, lock: File::open("/dev/null").unwrap(), stop: never() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn clone(&self) -> PathBuf {
        self.path("clone")
    }

    pub fn looks(&self) -> PathBuf {
        self.path("looks")
    }

    pub fn git(&self) -> Git<'_> {
        Git::new(&self.lock, &self.stop, 120_000, None)
    }

    pub fn evidence(&self) -> Evidence {
        let folder = self.path("evidence/x.git");
        Evidence::open(&folder, &self.path("mirror.git"), &self.looks()).unwrap()
    }

    /// Runs a script in the clone; `$T` is the folder of the trial.
    pub fn run(&self, script: &str) -> String {
        run_script(self.folder.path(), &self.clone(), script)
    }

    /// The same, with what went wrong.
    pub fn try_run(&self, script: &str) -> Result<String, String> {
        try_script(self.folder.path(), &self.clone(), script)
    }

    pub fn oid(&self, expression: &str) -> Oid {
        self.run(&format!("git rev-parse --verify '{expression}'")).parse().unwrap()
    }

    /// Fetches into the mirror, and gives the branches of the remote.
    pub fn fetch(&self) -> Vec<(BranchName, Oid)> {
        let listing = self.run(
            "cd $T/mirror.git; git fetch -q --prune origin; \
             git for-each-ref --format='%(refname) %(objectname)' refs/heads",
        );
        let parse = |line: &str| {
            let (name, oid) = line.split_once(' ').unwrap();
            (BranchName::from_ref(name).unwrap(), oid.parse().unwrap())
        };
        listing.lines().map(parse).collect()
    }

    /// Whether a program ran that should not: plants write there.
    pub fn canary(&self) -> Option<String> {
        fs::read_to_string(self.path("canary")).ok()
    }
}

/// Does something with each row on a few threads, and gives what came of it.
pub(super) fn in_parallel<R: Sync>(
    rows: &[R],
    check: impl Fn(&R) -> Option<String> + Sync,
) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
            found.extend(check(row));
        }
        found
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}
