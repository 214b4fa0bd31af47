//! Trouble with git and with repositories: a clear reason, and nobody's work lost.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::thread;

use serde_json::Value;

use crate::support::World;
use crate::trouble::{assert_refused, set_mode};

const COMMIT: &str =
    "echo $KUGETSU_JOB >> work.txt; git add work.txt; git commit -qm work -- work.txt";

fn world() -> World {
    let mut world = World::new();
    world.agent(COMMIT);
    world.set("NETWORK_RETRY_DELAY_SECONDS", "0");
    world
}

/// Works on an issue to the end of its job, and gives that.
fn work_on(world: &World, issue: u64) -> Value {
    let id = world.enqueue(issue, &[]);
    world.work();
    world.job(id)
}

fn assert_completed(job: &Value) {
    assert_eq!(job["state"], "completed", "{job:#}");
}

/// The worktree could not be had, at once and with a reason.
fn assert_failed(job: &Value, words: &str) {
    assert_eq!((&job["reason"], &job["attempt"]), (&"worktree_failed".into(), &1.into()));
    let detail = job["detail"].as_str().expect("a text");
    assert!(detail.contains(words), "{words:?} is not in: {detail}");
}

/// Puts another git before the real one.
fn fake_git(world: &mut World, script: &str) {
    let bin = world.root().join("bin");
    fs::create_dir_all(&bin).expect("a folder");
    fs::write(bin.join("git"), format!("#!/bin/sh\n{script}\n")).expect("a file");
    set_mode(&bin.join("git"), 0o755);
    let path = format!("{}:{}", bin.display(), world.environment()["PATH"]);
    world.set("PATH", &path);
}

#[test]
fn a_git_that_is_too_old_or_broken_is_refused_at_the_start() {
    let verbs = [
        &["worker", "--once"][..],
        &["start", "git.test/o/r#1", "fix"],
        &["continue", "git.test/o/r#1", "fix"],
    ];
    for (script, words) in [
        ("echo git version 2.30.2", "git 2.30.2 is too old: kugetsu needs git 2.38 or newer"),
        ("echo 'no license' >&2; exit 69", "git does not work (exit status: 69): no license"),
    ] {
        let mut world = world();
        fake_git(&mut world, script);
        for verb in verbs {
            assert_refused(&world.run(verb), 1, words);
        }
        assert!(!world.home().exists(), "nothing was made");
    }
}

/// A forge that lets nobody in without a password.
fn closed_forge() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut lines = BufReader::new(stream.try_clone().expect("a copy")).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let answer = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
                          Content-Length: 0\r\nConnection: close\r\n\r\n";
            // A client that has gone needs no answer.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

#[test]
fn a_forge_that_asks_for_a_password_is_told_of_and_asks_nobody() {
    let mut world = world();
    let port = closed_forge();
    let forge = format!("http://127.0.0.1:{port}/{{path}}.git");
    world.set("KUGETSU_CLONE_URL", &forge);
    let job = work_on(&world, 1);
    assert_failed(&job, "unable to get password from user");
    assert_failed(&job, "or give git a credential helper");
    world.set("KUGETSU_CLONE_URL", &forge.replace("//", "//me:t0p-s3cret@"));
    let job = work_on(&world, 2);
    assert_failed(&job, "Authentication failed");
    assert!(!job.to_string().contains("t0p-s3cret"), "{job:#}");
}

#[test]
fn a_base_branch_that_is_not_there_is_named() {
    let mut world = world();
    world.set("KUGETSU_BASE_BRANCH", "origin/releases");
    assert_failed(
        &work_on(&world, 1),
        "the repository has no branch releases, origin/releases (set KUGETSU_BASE_BRANCH)",
    );
    assert!(!world.worktree(1).exists());
    world.set("KUGETSU_BASE_BRANCH", "");
    assert_completed(&work_on(&world, 1));
}

#[test]
fn what_is_in_the_way_of_a_worktree_is_named_and_left_alone() {
    let world = world();
    fs::create_dir_all(world.worktree(3)).expect("a folder");
    fs::write(world.worktree(3).join("mine"), "precious\n").expect("a file");
    let remote = world.root().join("remote/o/r.git");
    let own = world.worktree(4);
    let arguments = ["clone", "-q", remote.to_str().expect("letters")];
    world.git(&world.root(), &[&arguments[..], &[own.to_str().expect("letters")]].concat());
    for issue in [3, 4] {
        let job = work_on(&world, issue);
        let words = format!("{} is in the way: it ", world.worktree(issue).display());
        assert_failed(&job, &words);
    }
    let mine = world.worktree(3).join("mine");
    assert_eq!(fs::read_to_string(mine).expect("it is kept"), "precious\n");
    assert_eq!(world.git(&own, &["status", "--porcelain"]), "");
}

#[test]
fn an_agent_goes_on_among_somebodys_changes() {
    let world = world();
    assert_completed(&work_on(&world, 1));
    fs::write(world.worktree(1).join("mine"), "precious\n").expect("a file");
    fs::write(world.worktree(1).join("README"), "changed\n").expect("a file");
    assert_completed(&work_on(&world, 1));
    let status = world.git(&world.worktree(1), &["status", "--porcelain"]);
    assert_eq!(status.lines().map(str::trim).collect::<Vec<_>>(), ["M README", "?? mine"]);
    assert_eq!(fs::read_to_string(world.worktree(1).join("README")).expect("kept"), "changed\n");
}

fn lines(worktree: &Path) -> usize {
    fs::read_to_string(worktree.join("work.txt")).expect("a file").lines().count()
}

#[test]
fn a_worktree_that_is_gone_is_made_again_from_its_branch() {
    let world = world();
    assert_completed(&work_on(&world, 1));
    fs::remove_dir_all(world.worktree(1)).expect("it is ours");
    assert_completed(&work_on(&world, 1));
    assert_eq!(lines(&world.worktree(1)), 2, "the first job's commit is there");
    // Moved away with work in it: that stays where it is.
    fs::write(world.worktree(1).join("mine"), "precious\n").expect("a file");
    let moved = world.root().join("moved");
    fs::rename(world.worktree(1), &moved).expect("a move");
    assert_completed(&work_on(&world, 1));
    assert_eq!((lines(&world.worktree(1)), lines(&moved)), (3, 2));
    assert_eq!(fs::read_to_string(moved.join("mine")).expect("it is kept"), "precious\n");
    assert!(!world.worktree(1).join("mine").exists());
}

#[test]
fn the_whole_folder_can_be_moved() {
    let mut world = world();
    assert_completed(&work_on(&world, 1));
    fs::write(world.worktree(1).join("mine"), "precious\n").expect("a file");
    let moved = world.root().join("moved");
    fs::rename(world.home(), &moved).expect("a move");
    world.set("KUGETSU_DIR", moved.to_str().expect("letters"));
    assert_completed(&work_on(&world, 1));
    let worktree = moved.join("worktrees/git.test+o+r+1");
    assert_eq!(lines(&worktree), 2);
    assert_eq!(fs::read_to_string(worktree.join("mine")).expect("it is kept"), "precious\n");
}

#[test]
fn what_is_damaged_is_made_again_and_a_repository_around_it_left_alone() {
    let world = world();
    assert_completed(&work_on(&world, 1));
    let around = world.root();
    world.git(&around, &["init", "-q", "-b", "mine"]);
    let mirror = world.home().join("mirrors/git.test+o+r.git");
    fs::remove_file(mirror.join("HEAD")).expect("it is ours");
    assert_completed(&work_on(&world, 2));
    // The work of the damaged clone is kept, and the next one goes on with it.
    fs::remove_dir_all(world.worktree(1).join(".git/objects")).expect("it is ours");
    assert_completed(&work_on(&world, 1));
    let log = world.git(&world.worktree(1), &["rev-list", "--count", "origin/main..issue-1"]);
    assert_eq!(log, "2");
    assert!(world.worktree(1).with_file_name("git.test+o+r+1.damaged-1").exists());
    assert_eq!(world.git(&around, &["for-each-ref"]), "");
    assert_eq!(world.git(&around, &["remote"]), "");
}

#[test]
fn a_git_that_is_not_there_is_named() {
    let mut world = World::new();
    world.agent("exit 0");
    let id = world.enqueue(1, &[]);
    world.set("PATH", "/var/empty");
    for arguments in [&["worker", "--once"][..], &["start", "git.test/o/r#2", "go"]] {
        let ran = world.run(arguments);
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains("git is not installed, or not in PATH"), "{}", ran.stderr);
    }
    assert_eq!(world.job(id)["attempt"], 0, "nothing was begun");
}
