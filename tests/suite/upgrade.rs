//! What the version before left: its queue is read, its runs are finished, its work is taken over.
//!
//! `tests/fixtures/1463de4` has a world that it left, and `tests/fixtures/queue-1463de4` a queue
//! alone; each says what is in it. Where `KUGETSU_TEST_OLD_BINARY` names the old program itself, it
//! is run too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
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
    let worktree = files(&world.worktree(7));
    world.ok(&["queue", "edit", "5", "--delay=0s"]);
    world.work();
    for (id, expected, what) in [
        (5, &["done"][..], "it never ran"),
        (6, &["done"], "its run was over, and left a record"),
        (7, &["uncommitted"], "it left changes, and nobody works on in an old worktree"),
        (8, &["lost", "done"], "its shim was killed"),
        (9, &["cancelled"], "it was to be cancelled"),
        (10, &["shutdown", "done"], "it had no run"),
        (11, &["done"], "it never ran"),
    ] {
        let job = world.job(id);
        let kept: Vec<&str> = reasons(&job);
        assert_eq!(kept, expected, "job {id}, {what}: {job:#}\n{}", world.log(id));
        let state = match id {
            7 => "error",
            9 => "cancelled",
            _ => "completed",
        };
        assert_eq!(job["state"], state, "{job:#}");
    }
    assert_eq!(world.job(6)["attempts"][0]["commits"], 1);
    assert!(!world.root().join("said-issue-6").exists(), "it was not run again");
    assert_eq!(files(&world.worktree(7)), worktree, "the changes are as they were");
    // New ones have clones, and the one that was lost goes on from what it had.
    for issue in [5, 8, 10, 11] {
        assert_clone(&world, issue);
    }
    assert!(subjects(&world, 8).iter().any(|subject| subject.starts_with("work of 8/")));
    assert_eq!(files(&repositories), before, "repos/ is not touched any more");
    assert_eq!(fs::read_dir(world.home().join("runs")).expect("a folder").count(), 0);
    world.assert_no_process_left();
    // A person has to look at what was left in no commit; then the issue goes on from there.
    world.ok(&["queue", "retry", "7"]);
    world.work();
    assert_eq!(world.state(7), "pending", "{:#}", world.job(7));
    world.git(&world.worktree(7), &["add", "."]);
    world.git(&world.worktree(7), &["commit", "-q", "-m", "by hand"]);
    world.ok(&["queue", "retry", "7"]);
    world.work();
    assert_eq!(world.state(7), "completed", "{:#}", world.job(7));
    assert!(subjects(&world, 7).contains(&"by hand".to_string()));
}

/// A world with the worktrees of the version before, and none of its runs.
fn idle_old_world() -> World {
    let world = old_world();
    for id in [5, 6, 7, 8, 9, 10, 11] {
        world.ok(&["queue", "cancel", &id.to_string()]);
    }
    world.work();
    world
}

#[test]
fn the_next_job_takes_the_branch_of_an_old_worktree_over() {
    let world = idle_old_world();
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
    // What git ignored in the old worktree is beside it.
    let env = fs::read_to_string(old_place(&world, 1).join(".env"));
    assert_eq!(env.expect("it is kept"), "SECRET=1\n");
    assert_eq!(files(&repositories), before, "repos/ is not touched any more");
}

/// Where an old worktree is once its branch was taken over.
fn old_place(world: &World, issue: u64) -> PathBuf {
    let mut name = world.worktree(issue).into_os_string();
    name.push(".old");
    name.into()
}

#[test]
fn a_worker_that_dies_while_it_takes_over_is_followed_by_one_that_ends_it() {
    for place in [
        "old_worktree_kept",
        "old_worktree_moved",
        "clone_unfinished",
        "worktree_added",
        "old_worktree_settled",
        "worktree_made",
    ] {
        let mut world = idle_old_world();
        let before = files(&world.home().join("repos"));
        let id = world.enqueue(1, &[]);
        world.set("KUGETSU_FAILPOINT", place);
        let mut worker = world.worker(&["--once"]);
        assert!(worker.wait().code().is_none(), "{place} is no place on its way");
        world.set("KUGETSU_FAILPOINT", "nowhere");
        world.work();
        let job = world.job(id);
        assert_eq!(job["state"], "completed", "{place}: {job:#}\n{}", world.log(id));
        assert_clone(&world, 1);
        assert_eq!(subjects(&world, 1).len(), 3, "{place}: begin, the old commit, the new one");
        assert!(old_place(&world, 1).join(".env").is_file(), "{place}");
        let names = fs::read_dir(world.home().join("worktrees")).expect("a folder").flatten();
        let names: Vec<_> = names.map(|entry| entry.file_name()).collect();
        let moved = |name: &&std::ffi::OsString| name.to_string_lossy().contains("r+1.");
        assert_eq!(names.iter().filter(moved).count(), 1, "{place}: {names:?}");
        assert_eq!(files(&world.home().join("repos")), before, "{place}");
    }
}

#[test]
fn nothing_that_an_agent_planted_in_the_old_layout_is_run_or_waited_for() {
    let world = idle_old_world();
    let planted = world.shell(
        "mark=$PWD/planted && cd k/repos/git.test+o+r.git &&
         for key in core.fsmonitor filter.x.clean filter.x.smudge core.sshCommand; do
             git config $key \"touch $mark; false\"; done &&
         git config core.hooksPath $PWD/hooks && mkdir -p hooks && for hook in post-checkout \
             post-index-change reference-transaction; do
             printf '#!/bin/sh\ntouch %s' $mark > hooks/$hook; chmod +x hooks/$hook; done &&
         mkdir -p info && echo '* filter=x' > info/attributes &&
         rm worktrees/git.test+o+r+2/HEAD && mkfifo worktrees/git.test+o+r+2/HEAD &&
         echo 'gitdir: /somewhere/else' > ../../worktrees/git.test+o+r+7/.git",
    );
    assert_eq!(planted.code, 0, "{}", planted.stderr);
    let ids = [1, 2, 7].map(|issue| world.enqueue(issue, &[]));
    world.work();
    let states = ids.map(|id| world.state(id));
    assert_eq!(states, ["completed", "pending", "completed"], "{:#}", world.job(ids[0]));
    assert!(!world.root().join("planted").exists(), "a program of an agent was run");
    let why = world.run(&["queue", "why", &ids[1].to_string()]).stdout;
    assert!(why.contains("HEAD is no file but a named pipe"), "{why}");
    assert!(world.worktree(2).join(".git").is_file(), "it is left as it is");
    let aside = format!("{}.damaged-1", world.worktree(7).display());
    assert!(Path::new(&aside).is_dir(), "what leads elsewhere is kept aside");
}

#[test]
fn an_old_worktree_with_changes_holds_its_job_until_somebody_looks() {
    let world = idle_old_world();
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
    let world = idle_old_world();
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
    let program = |arguments: &[&str]| {
        let mut command = crate::support::program(old.to_str().expect("letters"));
        command.args(arguments).current_dir(world.root()).env_clear().envs(world.environment());
        command
    };
    // A queue that the new program has written to is not for the old one.
    for issue in ["git.test/o/r#1", "git.test/o/r#2"] {
        let output = program(&["queue", "enqueue", issue, "fix it"]).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut command = program(&["worker"]);
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
    let mut successor = world.worker(&[]);
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
    successor.kill();
    world.assert_no_process_left();
}

#[test]
fn an_agent_of_the_old_program_is_cancelled() {
    let Some(old) = old_program() else { return };
    let mut world = World::new();
    let (mut worker, agents) = old_worker(&mut world, &old);
    worker.kill();
    // One by whoever asks, one by the worker that takes it over.
    world.ok(&["queue", "cancel", "1"]);
    let mut successor = world.worker(&[]);
    wait_for("the end of a cancelled agent", || (!is_alive(agents[0])).then_some(()));
    world.ok(&["queue", "cancel", "2"]);
    wait_for("the end of the other", || (!is_alive(agents[1])).then_some(()));
    world.ended(2);
    successor.kill();
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

/// The queue that the program of commit 1463de4 left; its README says what is in it.
fn old_queue() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/queue-1463de4"))
}

fn world_with_old_queue() -> World {
    let world = World::new();
    fs::create_dir_all(world.home()).expect("a folder");
    let queue = world.home().join("queue.redb");
    fs::copy(old_queue().join("queue.redb"), &queue).expect("a copy");
    fs::set_permissions(&queue, fs::Permissions::from_mode(0o600)).expect("ours");
    world
}

fn export(world: &World) -> Vec<Value> {
    let lines = world.ok(&["queue", "export"]);
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The version bytes of all copies of a record that the file holds: a job's begins with its number
/// and its issue.
fn versions_of(world: &World, job: u8, issue: u8) -> BTreeSet<u8> {
    let bytes = fs::read(world.home().join("queue.redb")).expect("the queue");
    let issue = format!("git.test/o/r#{issue}");
    let length = u8::try_from(issue.len()).expect("it is short");
    let begin = [&[job, length], issue.as_bytes()].concat();
    let found = bytes.windows(begin.len() + 1).filter(|window| window[1..] == *begin);
    // Where the issue begins an index row, something else stands before it.
    found.map(|window| window[0]).filter(|version| *version < 10).collect()
}

/// Whether everything that the old version said is still so. New fields may have come.
fn assert_still_so(old: &Value, new: &Value, place: &str) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old {
                let renamed = if key == "account" { "usage" } else { key };
                assert_still_so(value, &new[renamed], &format!("{place}.{renamed}"));
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            assert_eq!(old.len(), new.len(), "{place}");
            for (at, (old, new)) in old.iter().zip(new).enumerate() {
                assert_still_so(old, new, &format!("{place}[{at}]"));
            }
        }
        (old, new) => assert_eq!(old, new, "{place}"),
    }
}

#[test]
fn an_old_queue_is_read_as_it_was_and_by_the_way_nothing_is_changed() {
    let world = world_with_old_queue();
    let said = fs::read_to_string(old_queue().join("jobs.jsonl")).expect("what it said");
    let old: Vec<Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let new = export(&world);
    assert_eq!(new.len(), old.len());
    for (old, new) in old.iter().zip(&new) {
        assert_still_so(old, new, &format!("job {}", old["id"]));
    }
    let states: Vec<&str> = new.iter().filter_map(|job| job["state"].as_str()).collect();
    assert_eq!(
        states,
        ["completed", "error", "cancelled", "pending", "notified", "notified", "pending"]
    );
    let stats: Value =
        serde_json::from_str(&world.ok(&["queue", "stats", "--format=json"])).expect("JSON");
    assert_eq!((&stats["attempts"], &stats["paused"]), (&4.into(), &true.into()));
    assert_eq!(stats["pause"]["job"], Value::Null, "that was not kept then");
    assert!(world.ok(&["queue", "show", "5"]).contains("notified"));
    world.ok(&["queue", "list", "--state=all"]);
    world.ok(&["queue", "why", "7"]);
    assert_eq!(versions_of(&world, 2, 2), BTreeSet::from([1]));
}

#[test]
fn an_old_queue_is_written_anew_as_it_changes_and_refused_by_the_old_program() {
    let world = world_with_old_queue();
    assert!(world.ok(&["queue", "resume"]).starts_with("Resumed"));
    world.ok(&["queue", "retry", "2"]);
    assert_eq!(world.ok(&["queue", "edit", "7", "--delay=0s"]).lines().count(), 1);
    let id = world.enqueue(9, &[]);
    assert_eq!(id, 8);
    assert_eq!(world.state(2), "pending");
    let spent = &world.job(2)["spent"];
    assert_eq!((&spent["claims"], &spent["claims_before"]), (&2.into(), &2.into()));
    assert_eq!(world.job(7)["spent"]["deferred"], 1);
    assert!(versions_of(&world, 2, 2).contains(&2));
    assert_eq!(versions_of(&world, 1, 1), BTreeSet::from([1]), "it has not changed");
    let doctor = world.run(&["doctor", "--format=json"]);
    assert!(!doctor.stdout.contains("counter"), "{}", doctor.stdout);
    // It must not take the file for one of its own.
    let Some(old) = old_program() else { return };
    let ran = world.shell(&format!("{} queue list; echo $?", old.display()));
    assert!(ran.stdout.ends_with("8\n") && ran.stderr.contains("upgrade kugetsu"), "{ran:?}");
}
