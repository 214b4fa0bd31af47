//! Repositories for tests, made with the git that is there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, never};

use crate::executor::Stop;
use crate::git::call::Git;
use crate::git::mirror::{self, Remote, RemoteState};
use crate::git::trouble::GitError;
use crate::git::{BranchName, Oid};
use crate::process::command;

/// A folder with a remote `upstream` in it, and room for a mirror and clones.
pub(super) struct Place {
    folder: tempfile::TempDir,
    nothing: File,
    stop: Receiver<Stop>,
}

impl Place {
    /// The remote has no commit yet; its head is `main`.
    pub fn new() -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let nothing = File::open("/dev/null").expect("it is there");
        let place = Place { folder, nothing, stop: never() };
        fs::create_dir(place.path("upstream")).expect("a folder");
        place.upstream("init -q -b main");
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn mirror(&self) -> PathBuf {
        self.path("m.git")
    }

    pub fn git(&self) -> Git<'_> {
        Git::new(&self.nothing, &self.stop, 60_000, None)
    }

    /// A git command of whoever works at the remote; words are split at spaces.
    pub fn upstream(&self, line: &str) -> String {
        git_in(&self.path("upstream"), line)
    }

    /// A file with this text, committed on the branch that is checked out at the remote.
    pub fn commit(&self, file: &str, text: &str) -> Oid {
        let path = self.path("upstream").join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
        self.upstream("add -A");
        self.upstream(&format!("commit -q -m {file}"));
        self.oid("HEAD")
    }

    pub fn oid(&self, name: &str) -> Oid {
        self.upstream(&format!("rev-parse {name}")).parse().expect("an id")
    }

    pub fn refresh(&self) -> Result<RemoteState, GitError> {
        let url = self.path("upstream");
        self.refresh_from(url.to_str().expect("it is UTF-8"))
    }

    pub fn refresh_from(&self, url: &str) -> Result<RemoteState, GitError> {
        let remote = Remote { url, login: None, attempts: 1, pause_ms: 0 };
        mirror::refresh(&self.git(), &self.mirror(), &remote)
    }
}

/// A git command in a folder, by somebody who has no settings.
pub(super) fn git_in(folder: &Path, line: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "the test needs its git")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    let output = command("git")
        .args(line.split(' '))
        .current_dir(folder)
        .env_clear()
        .env("PATH", path)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "somebody")))
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "some@body")))
        .output()
        .expect("git is there");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {line}: {stderr}");
    String::from_utf8_lossy(&output.stdout).trim_end().into()
}

pub(super) fn branch(name: &str) -> BranchName {
    name.parse().expect("a branch")
}
