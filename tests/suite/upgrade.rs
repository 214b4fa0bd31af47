//! What the version before left: its queue is read, its runs are finished, its work is taken over.
//!
//! `tests/fixtures/1463de4` has a world that it left, and says what is in it. The tests at the end
//! run the old program itself, where `KUGETSU_TEST_OLD_BINARY` names it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::disk::left_out;
use crate::support::{Background, World, is_alive, processes_with, wait_for};

/// Commits, once it was reminded also what it found. The name of the file is its issue's.
const AGENT: &str = "echo again $KUGETSU_JOB >> again.txt; git add .
    git commit -qm \"again $KUGETSU_JOB\"; cat >> $ROOT/said-$KUGETSU_BRANCH";

/// A world as the version before left it.
fn old_world() -> World {
    let mut world = World::new();
    let root = world.root();
    let root = root.to_str().expect("letters");
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/1463de4/world.tar.gz");
    fs::remove_dir_all(world.root().join("remote")).expect("it is there");
    let unpacked = world.shell(&format!(
        "tar xzf {} && mkdir -p k/runs k/workers && \
         grep -rlI @WORLD@ k | xargs sed -i 's|@WORLD@|{root}|g'",
        archive.display()
    ));
    assert_eq!(unpacked.code, 0, "{}", unpacked.stderr);
    world.agent(&AGENT.replace("$ROOT", root));
    world.set("KUGETSU_POLL_INTERVAL", "50ms");
    world
}

fn states(world: &World) -> BTreeMap<u64, String> {
    let list = world.ok(&["queue", "list", "--state=all", "--limit=100", "--format=json"]);
    let list: Value = serde_json::from_str(&list).expect("JSON");
    let items = list["items"].as_array().expect("items").iter();
    items
        .map(|job| {
            let state = job["state"].as_str().expect("a state");
            let reason = job["reason"].as_str().map(|reason| format!(" ({reason})"));
            let text = format!("{state}{}", reason.unwrap_or_default());
            (job["id"].as_u64().expect("a number"), text)
        })
        .collect()
}

fn reasons(job: &Value) -> Vec<&str> {
    let attempts = job["attempts"].as_array().expect("attempts");
    attempts.iter().filter_map(|attempt| attempt["reason"].as_str()).collect()
}

/// Every file below a folder, but for the sockets and the like that nobody keeps.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let kind = entry.file_type().expect("it is there");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.insert(entry.path(), fs::read(entry.path()).expect("a file"));
            }
        }
    }
    found
}

fn subjects(world: &World, issue: u64) -> Vec<String> {
    let log = world.git(&world.worktree(issue), &["log", "--format=%s", &format!("issue-{issue}")]);
    log.lines().map(str::to_string).collect()
}

/// The issue is worked on in a clone that is its own.
fn assert_clone(world: &World, issue: u64) {
    let git = world.worktree(issue).join(".git");
    assert!(git.is_dir(), "{} is no clone's", git.display());
    let origin = world.git(&world.worktree(issue), &["remote", "get-url", "origin"]);
    assert!(origin.ends_with("/remote/o/r.git"), "{origin}");
}

#[test]
fn the_queue_of_the_version_before_is_read() {
    let world = old_world();
    let expected = [
        (1, "completed (done)"),
        (2, "error (no_changes)"),
        (3, "completed (done)"),
        (4, "cancelled (cancelled)"),
        (5, "pending"),
        (6, "notified"),
        (7, "notified"),
        (8, "notified"),
        (9, "notified"),
        (10, "notified"),
        (11, "pending"),
    ];
    let expected = expected.map(|(id, state)| (id, state.to_string()));
    assert_eq!(states(&world), BTreeMap::from(expected));
    let job = world.job(1);
    assert_eq!((&job["request_id"], &job["priority"]), (&"request-1".into(), &3.into()));
    assert_eq!((&job["message"], &job["commits"]), (&"fix issue 1".into(), &1.into()));
    assert!(job["usage"]["wall_ms"].is_u64(), "{job:#}");
    assert_eq!(world.job(5)["timeout_ms"], 20 * 60_000);
    assert_eq!(world.job(9)["cancel_requested"], true);
    assert!(!world.ok(&["queue", "stats"]).is_empty());
    let again = world.enqueue(1, &["--request-id=request-1"]);
    assert_eq!(again, 1, "a known request");
    world.run(&["doctor"]);
    assert_eq!(states(&world).len(), 11);
}

#[test]
fn what_was_exported_by_the_version_before_is_imported() {
    let world = old_world();
    // `account` became `usage`: a line of the old form is read all the same.
    let exported = world.ok(&["queue", "export"]).replace("\"usage\":", "\"account\":");
    assert!(exported.contains("\"account\":"), "{exported}");
    let fresh = World::new();
    let ran = fresh.run_with_input(&["queue", "import", "-"], exported.as_bytes());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(fresh.job(1)["usage"]["wall_ms"].is_u64(), "{:#}", fresh.job(1));
    assert_eq!(fresh.job(1)["usage"]["wall_ms"], world.job(1)["usage"]["wall_ms"]);
}

#[test]
fn runs_that_were_begun_before_are_judged_and_finished() {
    let world = old_world();
    let repositories = world.home().join("repos");
    let before = files(&repositories);
    world.ok(&["queue", "edit", "5", "--delay=0s"]);
    world.work();
    for (id, expected, what) in [
        (5, &["done"][..], "it never ran"),
        (6, &["done"], "its run was over, and left a record"),
        (7, &["done"], "it was reminded in the same attempt"),
        (8, &["lost", "done"], "its shim was killed"),
        (9, &["cancelled"], "it was to be cancelled"),
        (10, &["shutdown", "done"], "it had no run"),
        (11, &["done"], "it never ran"),
    ] {
        let job = world.job(id);
        let kept: Vec<&str> = reasons(&job);
        assert_eq!(kept, expected, "job {id}, {what}: {job:#}\n{}", world.log(id));
        let state = if id == 9 { "cancelled" } else { "completed" };
        assert_eq!(job["state"], state, "{job:#}");
    }
    assert_eq!(world.job(6)["attempts"][0]["commits"], 1);
    assert!(!world.root().join("said-issue-6").exists(), "it was not run again");
    let said = fs::read_to_string(world.root().join("said-issue-7")).expect("it was reminded");
    assert!(said.contains("without a commit"), "{said}");
    // New ones have clones, and the one that was lost goes on from what it had.
    for issue in [5, 8, 10, 11] {
        assert_clone(&world, issue);
    }
    assert!(subjects(&world, 8).iter().any(|subject| subject.starts_with("work of 8/")));
    // Nothing was taken out of the old repository; what it got is what the agent of 7 did there.
    let after = files(&repositories);
    for (path, bytes) in before {
        let name = path.display().to_string();
        let is_of_seven = ["issue-7", "+7/", "git.test+o+r.lock"].iter().any(|n| name.contains(n));
        let is_same = after.get(&path) == Some(&bytes);
        assert!(is_same || is_of_seven && after.contains_key(&path), "{name} was touched");
    }
    assert_eq!(fs::read_dir(world.home().join("runs")).expect("a folder").count(), 0);
    world.assert_no_process_left();
}

#[test]
fn the_next_job_takes_the_branch_of_an_old_worktree_over() {
    let world = old_world();
    for id in [5, 6, 7, 8, 9, 10, 11] {
        world.ok(&["queue", "cancel", &id.to_string()]);
    }
    world.work();
    let repositories = world.home().join("repos");
    let before = files(&repositories);
    let tip = fs::read_to_string(repositories.join("git.test+o+r.git/refs/heads/issue-1"));
    let tip = tip.expect("a branch").trim().to_string();
    for issue in [1, 2] {
        let id = world.enqueue(issue, &[]);
        world.work();
        let job = world.job(id);
        assert_eq!(job["state"], "completed", "{job:#}\n{}", world.log(id));
        assert_eq!(job["attempts"][0]["commits"], 1, "old work is not counted again: {job:#}");
        assert_clone(&world, issue);
    }
    world.git(&world.worktree(1), &["merge-base", "--is-ancestor", &tip, "issue-1"]);
    assert_eq!(subjects(&world, 1).len(), 3, "begin, the old commit, the new one");
    // What git ignored in the old worktree is somewhere still.
    let kept = files(&world.home());
    let kept = kept.iter().any(|(path, text)| path.ends_with(".env") && text == b"SECRET=1\n");
    assert!(kept, "an ignored file of the old worktree is gone");
    assert_eq!(files(&repositories), before, "repos/ is not touched any more");
}

#[test]
fn an_old_worktree_with_changes_holds_its_job_until_somebody_looks() {
    let world = old_world();
    for id in [5, 6, 7, 8, 9, 10, 11] {
        world.ok(&["queue", "cancel", &id.to_string()]);
    }
    let id = world.enqueue(3, &[]);
    // It ends, as only a person can go on.
    world.work();
    let job = world.job(id);
    assert_eq!(job["state"], "pending", "{job:#}");
    assert_eq!(job["spent"]["attempts"], 0, "{job:#}");
    let folder = world.worktree(3).display().to_string();
    for command in [["queue", "why"], ["queue", "show"]] {
        let ran = world.run(&[&command[..], &[&id.to_string()]].concat());
        assert!(ran.stdout.contains(&folder), "{command:?}: {}{}", ran.stdout, ran.stderr);
    }
    let read = |name: &str| fs::read_to_string(world.worktree(3).join(name)).expect("it is kept");
    assert_eq!(
        (read("notes.txt"), read("README")),
        ("not committed\n".into(), "begin\nchanged\n".into())
    );
    // Another issue is not held.
    let other = world.enqueue(20, &[]);
    world.work();
    assert_eq!(world.state(other), "completed");

    world.git(&world.worktree(3), &["add", "."]);
    world.git(&world.worktree(3), &["commit", "-q", "-m", "by hand"]);
    world.ok(&["queue", "retry", &id.to_string()]);
    world.work();
    assert_eq!(world.state(id), "completed", "{:#}", world.job(id));
    assert_clone(&world, 3);
    assert!(subjects(&world, 3).contains(&"by hand".to_string()));
}

#[test]
fn prune_and_destroy_know_old_worktrees() {
    let world = old_world();
    for id in [5, 6, 7, 8, 9, 10, 11] {
        world.ok(&["queue", "cancel", &id.to_string()]);
    }
    world.work();
    world.ok(&["prune"]);
    for issue in [1, 3] {
        assert!(world.worktree(issue).is_dir(), "issue {issue} has work that is nowhere else");
        assert_eq!(world.run(&["destroy", &format!("git.test/o/r#{issue}")]).code, 1);
    }
    let env = fs::read_to_string(world.worktree(1).join(".env"));
    assert_eq!(env.expect("it is kept"), "SECRET=1\n");
}

/// The program of the version before, if somebody named it.
#[expect(clippy::disallowed_methods, reason = "what a developer may set")]
fn old_program() -> Option<PathBuf> {
    let path = std::env::var("KUGETSU_TEST_OLD_BINARY").ok().filter(|path| !path.is_empty());
    if path.is_none() {
        left_out("runs of the old program itself", "KUGETSU_TEST_OLD_BINARY names no kugetsu");
    }
    path.map(PathBuf::from)
}

/// A worker of the old program, with agents of two issues at work.
fn old_worker(world: &mut World, old: &Path) -> (Background, Vec<i32>) {
    let root = world.root();
    let root = root.display();
    world.agent(&format!(
        "echo $$ >> {root}/begun; until [ -e {root}/go ]; do sleep 0.02; done
         echo work of $KUGETSU_JOB >> work.txt; git add work.txt; git commit -qm work"
    ));
    world.set("KUGETSU_POLL_INTERVAL", "50ms");
    for issue in 1..=2 {
        world.enqueue(issue, &[]);
    }
    let mut command = crate::support::program(old.to_str().expect("letters"));
    command.arg("worker").current_dir(world.root()).env_clear().envs(world.environment());
    command.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let worker = Background::spawn(&mut command);
    let agents =
        wait_for("agents of the old program", || Some(begun(world)).filter(|p| p.len() == 2));
    (worker, agents)
}

fn begun(world: &World) -> Vec<i32> {
    let text = fs::read_to_string(world.root().join("begun")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

#[test]
fn agents_of_the_old_program_are_taken_over() {
    let Some(old) = old_program() else { return };
    let mut world = World::new();
    let (mut worker, agents) = old_worker(&mut world, &old);
    worker.kill();
    let next = world.enqueue(1, &[]);
    let _worker = world.worker(&[]);
    // Whatever the new one does, it runs no second agent of the issue.
    let other = world.enqueue(3, &[]);
    wait_for("an agent of the new program", || (begun(&world).len() == 3).then_some(()));
    assert!(agents.iter().all(|pid| is_alive(*pid)));
    assert_eq!(world.state(next), "pending");
    fs::write(world.root().join("go"), "").expect("a file");
    for id in [1, 2, next, other] {
        let job = world.ended(id);
        assert_eq!(reasons(&job), ["done"], "{job:#}");
    }
    assert_clone(&world, 1);
    let log = fs::read_to_string(world.worktree(1).join("work.txt")).expect("a file");
    assert_eq!(log, format!("work of 1/1\nwork of {next}/1\n"), "one after the other");
    world.assert_no_process_left();
}

#[test]
fn an_agent_of_the_old_program_is_cancelled() {
    let Some(old) = old_program() else { return };
    let mut world = World::new();
    let (mut worker, agents) = old_worker(&mut world, &old);
    world.ok(&["queue", "cancel", "1"]);
    wait_for("the end of a cancelled agent", || (!is_alive(agents[0])).then_some(()));
    worker.kill();
    world.ok(&["queue", "cancel", "2"]);
    wait_for("the end of the other", || (!is_alive(agents[1])).then_some(()));
    world.work();
    assert_eq!((world.state(1), world.state(2)), ("cancelled".into(), "cancelled".into()));
    world.assert_no_process_left();
}

#[test]
fn a_run_whose_old_shim_is_killed_is_lost_and_done_again() {
    let Some(old) = old_program() else { return };
    let mut world = World::new();
    let (mut worker, agents) = old_worker(&mut world, &old);
    worker.kill();
    let marker = format!("KUGETSU_DIR={}", world.home().display());
    for pid in processes_with(&marker) {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.trim() == "kugetsu-shim" {
            kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it is ours");
        }
    }
    fs::write(world.root().join("go"), "").expect("a file");
    world.work();
    assert!(agents.iter().all(|pid| !is_alive(*pid)));
    for id in [1, 2] {
        let job = world.job(id);
        assert_eq!(job["state"], "completed", "{job:#}");
        assert_eq!(reasons(&job), ["lost", "done"], "{job:#}");
    }
}
