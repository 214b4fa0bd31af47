//! Whatever dies, and when: what is left, and what the next worker makes of it.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{Background, World, is_alive, wait_for};

/// What a worker says of a job that it adopts.
const ADOPTED: &str = "taken over from a worker that is gone";

/// Writes its pid to `begun`, waits for the file `go`, and commits.
fn waiting_agent(world: &mut World) {
    let root = world.root();
    let root = root.display();
    world.agent(&format!(
        "echo $$ >> {root}/begun; until [ -e {root}/go ]; do sleep 0.02; done; \
         echo work >> work.txt; git add .; git commit -qm work"
    ));
}

fn begun(world: &World) -> Vec<i32> {
    let text = fs::read_to_string(world.root().join("begun")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn wait_for_agents(world: &World, count: usize) -> Vec<i32> {
    wait_for("agents to begin", || Some(begun(world)).filter(|pids| pids.len() >= count))
}

fn let_go(world: &World) {
    fs::write(world.root().join("go"), "").expect("a file");
}

/// Waits until workers have said something so many times.
fn wait_for_word(world: &World, words: &str, times: usize) {
    wait_for(words, || {
        let log = fs::read_to_string(world.root().join("worker.log")).unwrap_or_default();
        (log.matches(words).count() >= times).then_some(())
    });
}

fn reasons(job: &Value) -> Vec<&str> {
    let attempts = job["attempts"].as_array().expect("attempts");
    attempts.iter().filter_map(|attempt| attempt["reason"].as_str()).collect()
}

/// The shim of the only run.
fn shim_pid(world: &World) -> i32 {
    let marker = format!("KUGETSU_DIR={}", world.home().display());
    let is_shim = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "kugetsu-shim"
    };
    wait_for("a shim", || crate::support::processes_with(&marker).into_iter().find(is_shim))
}

fn kill_one(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it is ours");
}

#[test]
fn an_agent_outlives_its_worker_and_the_next_worker_takes_its_result() {
    let mut world = World::new();
    waiting_agent(&mut world);
    let id = world.enqueue(1, &[]);
    let mut worker = world.worker(&[]);
    let agent = wait_for_agents(&world, 1)[0];
    worker.kill();
    assert!(is_alive(agent), "the shim holds it");
    let_go(&world);
    wait_for("the end of the agent", || (!is_alive(agent)).then_some(()));
    assert_eq!(world.state(id), "notified", "nobody is there to record it");
    world.work();
    let job = world.job(id);
    assert_eq!((&job["state"], reasons(&job)), (&json!("completed"), vec!["done"]));
    assert_eq!(begun(&world).len(), 1);
    world.assert_no_process_left();
}

#[test]
fn no_second_agent_while_the_first_one_lives() {
    let mut world = World::new();
    waiting_agent(&mut world);
    world.set("KUGETSU_LEASE", "300ms");
    world.set("KUGETSU_POLL_INTERVAL", "50ms");
    world.set("KUGETSU_LOG", "debug");
    let id = world.enqueue(1, &[]);
    let next = world.enqueue(1, &[]);
    let mut first = world.worker(&[]);
    wait_for_agents(&world, 1);
    let before = world.job(id);
    first.kill();
    let _second = world.worker(&[]);
    wait_for_word(&world, ADOPTED, 1);
    assert_eq!((world.state(id), world.state(next)), ("notified".into(), "pending".into()));
    assert_eq!(begun(&world).len(), 1);
    assert_ne!(world.job(id)["worker"], before["worker"], "same run, new lease");
    let_go(&world);
    assert_eq!(world.ended(id)["state"], "completed");
    assert_eq!(world.ended(next)["state"], "completed");
    assert_eq!(begun(&world).len(), 2);
}

#[test]
fn the_death_of_a_worker_is_heard_of_through_the_kernel() {
    let mut world = World::new();
    waiting_agent(&mut world);
    // Longer than any wait here: neither a lease nor a poll tells.
    world.set("KUGETSU_LEASE", "2h");
    world.set("KUGETSU_POLL_INTERVAL", "1h");
    world.set("MAX_CONCURRENT_AGENTS", "1");
    let id = world.enqueue(1, &[]);
    let mut first = world.worker(&[]);
    let agent = wait_for_agents(&world, 1)[0];
    let second = world.worker(&[]);
    let locks = world.home().join("workers");
    wait_for("the second worker", || {
        let threads = fs::read_dir(format!("/proc/{}/task", second.pid())).ok()?.flatten();
        let mut names = threads.filter_map(|t| fs::read_to_string(t.path().join("comm")).ok());
        names.any(|name| name.trim() == "liveness").then_some(())
    });
    first.kill();
    wait_for_word(&world, ADOPTED, 1);
    // A third one comes, and the second dies with its shim: nothing of the run lives on.
    let _third = world.worker(&[]);
    wait_for("the third worker", || {
        (fs::read_dir(&locks).expect("a folder").count() >= 2).then_some(())
    });
    let next = world.enqueue(2, &["--priority=9"]);
    kill_one(second.pid());
    kill_one(shim_pid(&world));
    wait_for_agents(&world, 2);
    assert!(!is_alive(agent), "the first agent is dead before the second begins");
    assert_eq!(world.state(next), "notified", "the cap is free again");
    let_go(&world);
    assert_eq!(reasons(&world.ended(id)), ["lost", "done"]);
    assert_eq!(world.ended(next)["state"], "completed");
}

#[test]
fn an_agent_that_was_taken_over_is_reminded_to_commit() {
    let mut world = World::new();
    let root = world.root();
    let root = root.display();
    world.agent(&format!(
        "grep -q 'without a commit' && {{ git add .; git commit -qm work; exit; }}; \
         echo work > work.txt; echo $$ >> {root}/begun; until [ -e {root}/go ]; do sleep 0.02; done"
    ));
    let id = world.enqueue(1, &[]);
    let mut worker = world.worker(&[]);
    let agent = wait_for_agents(&world, 1)[0];
    worker.kill();
    let_go(&world);
    wait_for("the end of the agent", || (!is_alive(agent)).then_some(()));
    world.work();
    assert_eq!(reasons(&world.job(id)), ["done"], "in the same attempt");
    assert!(world.log(id).contains("reminder of attempt 1"), "{}", world.log(id));
}

/// Stops a worker at a moment when it holds no lock of the queue's file.
fn stop_between_commits(world: &World, worker: &Background) {
    wait_for("a moment without a commit", || {
        worker.signal(Signal::SIGSTOP);
        // A write that changes nothing: no such job, or busy.
        let ran = world.run(&["queue", "cancel", "999"]);
        if ran.code == 3 {
            return Some(());
        }
        assert_eq!(ran.code, 4, "{}", ran.stderr);
        worker.signal(Signal::SIGCONT);
        None
    });
}

#[test]
fn a_live_run_keeps_its_folder_and_is_known_without_it() {
    let mut world = World::new();
    waiting_agent(&mut world);
    world.set("KUGETSU_LEASE", "300ms");
    world.set("KUGETSU_POLL_INTERVAL", "50ms");
    world.set("KUGETSU_LOG", "debug");
    let id = world.enqueue(1, &[]);
    let mut first = world.worker(&[]);
    wait_for_agents(&world, 1);
    first.kill();
    let runs = world.home().join("runs");
    // Another queue in the same folder: it knows nothing of this job.
    let store = format!("redb:{}", world.root().join("other.redb").display());
    let mut other = world.command(&["worker", "--once"]);
    assert!(other.env("KUGETSU_STORE", store).status().expect("it runs").success());
    assert_eq!(fs::read_dir(&runs).expect("a folder").count(), 1);
    // And somebody who tidies up by hand.
    fs::rename(&runs, world.root().join("moved")).expect("it is ours");
    fs::create_dir(&runs).expect("a folder");
    let _second = world.worker(&[]);
    wait_for_word(&world, ADOPTED, 1);
    assert_eq!((world.state(id).as_str(), begun(&world).len()), ("notified", 1));
    let_go(&world);
    world.ended(id);
}

#[test]
fn a_stopped_worker_loses_its_agent_to_another_and_lets_go_of_it() {
    let mut world = World::new();
    waiting_agent(&mut world);
    world.set("KUGETSU_LEASE", "300ms");
    world.set("KUGETSU_POLL_INTERVAL", "50ms");
    world.set("KUGETSU_LOG", "debug");
    let id = world.enqueue(1, &[]);
    let first = world.worker(&[]);
    wait_for_agents(&world, 1);
    stop_between_commits(&world, &first);
    let _second = world.worker(&[]);
    wait_for_word(&world, ADOPTED, 1);
    first.signal(Signal::SIGCONT);
    let second_worker = world.job(id)["worker"].clone();
    let_go(&world);
    let job = world.ended(id);
    assert_eq!(job["attempts"][0]["worker"], second_worker);
    assert_eq!((&job["state"], reasons(&job)), (&json!("completed"), vec!["done"]));
    assert_eq!(begun(&world).len(), 1);
}

#[test]
fn a_run_that_is_over_is_judged_by_what_it_left_however_busy_the_queue_is() {
    let mut world = World::new();
    waiting_agent(&mut world);
    world.set("KUGETSU_LEASE", "300ms");
    world.set("KUGETSU_POLL_INTERVAL", "50ms");
    let id = world.enqueue(1, &[]);
    let mut first = world.worker(&[]);
    let agent = wait_for_agents(&world, 1)[0];
    first.kill();
    let _second = world.worker(&[]);
    wait_for_word(&world, ADOPTED, 1);
    // Somebody hangs in a write while the run comes to its end.
    let mut builder = redb::Database::builder();
    builder.set_concurrency_mode(redb::ConcurrencyMode::MultiWriter);
    let database = builder.open(world.home().join("queue.redb")).expect("a queue");
    let held = wait_for("the queue", || database.begin_write().ok());
    let_go(&world);
    wait_for("the end of the agent", || (!is_alive(agent)).then_some(()));
    wait_for_word(&world, "the queue is busy", 2);
    held.abort().expect("an abort");
    assert_eq!(reasons(&world.ended(id)), ["done"]);
    assert_eq!(begun(&world).len(), 1, "it is not done again");
}

#[test]
fn a_worker_that_dies_while_it_prepares_costs_nothing_and_blocks_nobody() {
    let mut world = World::new();
    waiting_agent(&mut world);
    let_go(&world);
    let root = world.root();
    // Each fetch hangs until it may go on, and writes down that it came and went.
    world.fake_git_fetch(&format!(
        "echo begin >> {0}/fetches; until [ -e {0}/fetch ]; do sleep 0.02; done; \
         echo end >> {0}/fetches",
        root.display()
    ));
    world.set("KUGETSU_LEASE", "300ms");
    world.set("KUGETSU_POLL_INTERVAL", "50ms");
    let id = world.enqueue(1, &[]);
    let mut first = world.worker(&[]);
    wait_for("the first fetch", || root.join("fetches").exists().then_some(()));
    first.kill();
    let _second = world.worker(&[]);
    wait_for("the second claim", || (world.job(id)["attempt"] == 2).then_some(()));
    // The fetch of the dead worker, and what it started, were ended with it.
    wait_for("the second fetch", || {
        let fetches = fs::read_to_string(root.join("fetches")).ok()?;
        (fetches == "begin\nbegin\n").then_some(())
    });
    let marker = format!("KUGETSU_DIR={}", world.home().display());
    let is_fetch = |pid: &i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains("bin/git")
    };
    let fetches = crate::support::processes_with(&marker).into_iter().filter(is_fetch).count();
    assert_eq!(fetches, 1, "that of the second worker");
    fs::write(root.join("fetch"), "").expect("a file");
    let job = world.ended(id);
    assert_eq!((&job["state"], reasons(&job)), (&json!("completed"), vec!["shutdown", "done"]));
    let fetches = fs::read_to_string(root.join("fetches")).expect("a file");
    assert_eq!(fetches, "begin\nbegin\nend\n", "one at a time");
}

#[test]
fn a_killed_shim_takes_its_agent_along_and_the_job_is_tried_again() {
    let mut world = World::new();
    waiting_agent(&mut world);
    let id = world.enqueue(1, &[]);
    let _worker = world.worker(&[]);
    let first = wait_for_agents(&world, 1)[0];
    kill_one(shim_pid(&world));
    let second = wait_for_agents(&world, 2)[1];
    assert!(!is_alive(first), "the first agent is dead before the second begins");
    assert!(is_alive(second));
    let_go(&world);
    assert_eq!(reasons(&world.ended(id)), ["lost", "done"]);
}

#[test]
fn what_a_killed_worker_and_a_killed_shim_leave_is_ended_and_tried_again() {
    let mut world = World::new();
    waiting_agent(&mut world);
    world.set("KUGETSU_LEASE", "300ms");
    world.set("KUGETSU_POLL_INTERVAL", "50ms");
    let id = world.enqueue(1, &[]);
    let mut worker = world.worker(&[]);
    let first = wait_for_agents(&world, 1)[0];
    worker.kill();
    kill_one(shim_pid(&world));
    assert!(is_alive(first));
    let _next = world.worker(&[]);
    wait_for_agents(&world, 2);
    assert!(!is_alive(first), "the first agent is dead before the second begins");
    let_go(&world);
    assert_eq!(reasons(&world.ended(id)), ["lost", "done"]);
}

#[test]
fn what_hides_from_the_lock_of_a_killed_shim_is_found_by_its_marker() {
    let mut world = World::new();
    let root = world.root();
    let root = root.display();
    // The child holds no descriptor of the run: the lock is free once the shim is dead.
    world.agent(&format!(
        "[ $KUGETSU_ATTEMPT = 2 ] && {{ echo x > x; git add x; git commit -qm x; exit; }}; \
         setsid sh -c 'for n in 3 4 5 6 7 8 9; do eval \"exec $n>&-\"; done; \
         echo $$ > {root}/hidden; exec sleep 1000' > /dev/null 2>&1 < /dev/null & \
         for n in 3 4 5 6 7 8 9; do eval \"exec $n>&-\"; done; echo $$ >> {root}/begun; \
         exec sleep 1000"
    ));
    let id = world.enqueue(1, &[]);
    let _worker = world.worker(&[]);
    let agent = wait_for_agents(&world, 1)[0];
    let hidden: i32 = world.file("hidden").trim().parse().expect("a pid");
    assert!(is_alive(agent) && is_alive(hidden));
    kill_one(shim_pid(&world));
    assert_eq!(reasons(&world.ended(id)), ["lost", "done"]);
    assert!(!is_alive(agent) && !is_alive(hidden));
}

#[test]
fn a_clone_that_is_half_made_is_made_again_and_stale_locks_of_git_are_removed() {
    let mut world = World::new();
    world.agent("echo $KUGETSU_JOB >> x; git add x; git commit -qm \"$KUGETSU_JOB\"");
    let worktree = world.worktree(1);
    // As a worker leaves it that dies while it makes the clone.
    let unfinished = worktree.with_file_name("git.test+o+r+1.unfinished");
    fs::create_dir_all(unfinished.join(".git/objects")).expect("a folder");
    fs::write(unfinished.join("half"), "").expect("a file");
    let first = world.enqueue(1, &[]);
    world.work();
    assert_eq!(world.state(first), "completed", "{}", world.log(first));
    assert!(!unfinished.exists() && worktree.join("README").exists());
    // As a git leaves it that is killed in `git commit`.
    for lock in ["index.lock", "HEAD.lock", "config.lock", "refs/heads/issue-1.lock"] {
        fs::write(worktree.join(".git").join(lock), "").expect("a file");
    }
    let second = world.enqueue(1, &[]);
    world.work();
    assert_eq!(world.state(second), "completed", "{}", world.log(second));
    let log = world.git(&worktree, &["log", "--reverse", "--format=%s"]);
    assert_eq!(log, format!("begin\n{first}/1\n{second}/1"));
}

#[test]
fn an_empty_folder_is_not_in_the_way_of_a_worktree() {
    let mut world = World::new();
    waiting_agent(&mut world);
    let_go(&world);
    // As a machine leaves it that goes down when git has made the folder and nothing else.
    fs::create_dir_all(world.worktree(1)).expect("a folder");
    let id = world.enqueue(1, &[]);
    world.work();
    assert_eq!(world.state(id), "completed", "{}", world.log(id));
}

#[test]
fn commits_of_a_lost_attempt_count_for_the_next() {
    let mut world = World::new();
    let root = world.root();
    world.agent(&format!(
        "[ $KUGETSU_ATTEMPT = 2 ] && exit 0; echo x > x; git add x; git commit -qm x; \
         echo $$ >> {}/begun; exec sleep 1000",
        root.display()
    ));
    let id = world.enqueue(1, &[]);
    let _worker = world.worker(&[]);
    wait_for_agents(&world, 1);
    kill_one(shim_pid(&world));
    let job = world.ended(id);
    assert_eq!((&job["state"], reasons(&job)), (&json!("completed"), vec!["lost", "done"]));
}

#[test]
fn sigterm_leaves_the_agent_to_its_shim() {
    let mut world = World::new();
    waiting_agent(&mut world);
    // Longer than any wait here: what is let go is looked at without waiting for the lease.
    world.set("KUGETSU_LEASE", "1h");
    let id = world.enqueue(1, &[]);
    let mut worker = world.worker(&[]);
    let agent = wait_for_agents(&world, 1)[0];
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait().code(), Some(0));
    assert!(is_alive(agent));
    assert_eq!(world.state(id), "notified");
    let_go(&world);
    world.work();
    assert_eq!(reasons(&world.job(id)), ["done"]);
    assert_eq!(begun(&world).len(), 1);
}

#[test]
fn a_cancel_ends_an_agent_that_no_worker_holds() {
    let mut world = World::new();
    waiting_agent(&mut world);
    let id = world.enqueue(1, &[]);
    let mut worker = world.worker(&[]);
    let agent = wait_for_agents(&world, 1)[0];
    worker.signal(Signal::SIGTERM);
    worker.wait();
    let said = world.ok(&["queue", "cancel", &id.to_string()]);
    assert!(said.ends_with("(ending its agent; the next worker records it)\n"), "{said}");
    wait_for("the end of the agent", || (!is_alive(agent)).then_some(()));
    world.assert_no_process_left();
    world.work();
    assert_eq!(world.state(id), "cancelled");
}

#[test]
fn sigint_waits_for_the_agent_and_says_so() {
    let mut world = World::new();
    waiting_agent(&mut world);
    let id = world.enqueue(1, &[]);
    let other = world.enqueue(2, &["--delay=1h"]);
    let mut worker = world.worker(&[]);
    wait_for_agents(&world, 1);
    worker.signal(Signal::SIGINT);
    wait_for_word(&world, "waiting for 1 running agent(s)", 1);
    assert!(worker.is_running());
    let_go(&world);
    assert_eq!(worker.wait().code(), Some(130));
    assert_eq!((world.state(id), world.state(other)), ("completed".into(), "pending".into()));
}

#[test]
fn a_second_sigint_ends_the_agent_and_puts_the_job_back() {
    let mut world = World::new();
    waiting_agent(&mut world);
    let id = world.enqueue(1, &["--max-attempts=1"]);
    let mut worker = world.worker(&[]);
    let agent = wait_for_agents(&world, 1)[0];
    worker.signal(Signal::SIGINT);
    wait_for_word(&world, "interrupt again", 1);
    worker.signal(Signal::SIGINT);
    assert_eq!(worker.wait().code(), Some(130));
    assert!(!is_alive(agent));
    let job = world.job(id);
    assert_eq!((&job["state"], reasons(&job)), (&json!("pending"), vec!["shutdown"]));
    let_go(&world);
    world.work();
    assert_eq!(world.state(id), "completed", "its one attempt was not used up");
}

#[test]
fn kugetsu_on_term_chooses_what_sigterm_means() {
    for (choice, state) in [("drain", "completed"), ("stop", "pending")] {
        let mut world = World::new();
        waiting_agent(&mut world);
        world.set("KUGETSU_ON_TERM", choice);
        let id = world.enqueue(1, &[]);
        let mut worker = world.worker(&[]);
        wait_for_agents(&world, 1);
        worker.signal(Signal::SIGTERM);
        if choice == "drain" {
            let_go(&world);
        }
        assert_eq!(worker.wait().code(), Some(0), "{choice}");
        assert_eq!(world.state(id), state, "{choice}");
        world.assert_no_process_left();
    }
}

#[test]
fn behind_a_gate_that_closes_nothing_runs() {
    let world = World::new();
    let root = world.root();
    let run = root.join("run");
    fs::create_dir_all(&run).expect("a folder");
    fs::write(root.join("stdin"), "").expect("a file");
    fs::write(root.join("message"), "fix it").expect("a file");
    fs::write(root.join("log"), "").expect("a file");
    let spec = json!({
        "arguments": ["touch", root.join("ran")],
        "folder": root, "stdin": root.join("stdin"), "log": root.join("log"),
        "environment": [], "environment_removed": [],
        "places": [[root.join("message"), root.join("worktree/.kugetsu/message")]],
        "timeout_ms": 10_000, "kill_grace_ms": 100, "log_bytes_max": 1000,
    });
    fs::write(run.join("spec.json"), spec.to_string()).expect("a file");
    let run_text = run.display().to_string();
    for (word, runs) in [("", false), ("x", false), ("G", true)] {
        let ran = world.run_with_input(&["shim", &run_text], word.as_bytes());
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "ready\n"), "{}", ran.stderr);
        assert_eq!(run.join("started").exists(), runs, "after {word:?}");
        assert_eq!(run.join("exit.json").exists(), runs, "after {word:?}");
        assert_eq!(root.join("ran").exists(), runs, "after {word:?}");
        assert_eq!(root.join("worktree/.kugetsu/message").exists(), runs, "after {word:?}");
    }
    let record: Value =
        serde_json::from_slice(&fs::read(run.join("exit.json")).expect("a file")).expect("JSON");
    assert_eq!((&record["cause"], &record["exit_code"]), (&json!("exited"), &json!(0)));
}

#[test]
fn an_idle_worker_hears_of_a_job_without_polling() {
    let mut world = World::new();
    waiting_agent(&mut world);
    let_go(&world);
    world.set("KUGETSU_POLL_INTERVAL", "1h");
    world.set("KUGETSU_LEASE", "2h");
    let first = world.enqueue(1, &[]);
    let _worker = world.worker(&[]);
    world.ended(first);
    // Idle now. Each of these is heard of by its wake alone, and the delayed one by its time.
    for more in [&[][..], &["--delay=300ms"]] {
        let id = world.enqueue(1, more);
        assert_eq!(world.ended(id)["state"], "completed");
    }
}

#[test]
fn a_paused_queue_begins_nothing_until_it_is_resumed() {
    let mut world = World::new();
    waiting_agent(&mut world);
    let_go(&world);
    world.ok(&["queue", "pause"]);
    let id = world.enqueue(1, &[]);
    let _worker = world.worker(&[]);
    wait_for_word(&world, "the queue is paused", 1);
    assert_eq!(world.state(id), "pending");
    world.ok(&["queue", "resume"]);
    assert_eq!(world.ended(id)["state"], "completed");
}

#[test]
fn a_supervisor_hears_ready_alive_and_stopping() {
    let mut world = World::new();
    world.agent("exit 0");
    let path = world.root().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    world.set("NOTIFY_SOCKET", &path.display().to_string());
    world.set("WATCHDOG_USEC", "200000");
    let mut worker = world.worker(&[]);
    let mut heard = Vec::new();
    let mut bytes = [0; 256];
    while heard.iter().filter(|word| *word == "WATCHDOG=1").count() < 5 {
        let length = socket.recv(&mut bytes).expect("a word in time");
        heard.extend(String::from_utf8_lossy(&bytes[..length]).lines().map(String::from));
    }
    assert_eq!(heard.iter().filter(|word| *word == "READY=1").count(), 1, "{heard:?}");
    worker.signal(Signal::SIGTERM);
    worker.wait();
    socket.set_nonblocking(true).expect("a socket");
    while let Ok(length) = socket.recv(&mut bytes) {
        heard.extend(String::from_utf8_lossy(&bytes[..length]).lines().map(String::from));
    }
    assert_eq!(heard.last().map(String::as_str), Some("STOPPING=1"));
}

#[test]
fn a_launched_agent_counts_against_the_cap_and_outlives_the_terminal() {
    let mut world = World::new();
    waiting_agent(&mut world);
    world.set("MAX_CONCURRENT_AGENTS", "1");
    let said = world.ok(&["continue", "git.test/o/r#1", "go"]);
    let worktree = world.worktree(1);
    let worktree = worktree.display();
    assert_eq!(
        said,
        format!(
            "Session continued for 'git.test/o/r#1': job-1\nWorktree: {worktree}\n\
             {worktree}-job-1-forked\n"
        )
    );
    wait_for_agents(&world, 1);
    let refused = world.run(&["continue", "git.test/o/r#2", "go"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""));
    assert!(refused.stderr.contains("1 of 1 agents are running"), "{}", refused.stderr);
    let list: Value =
        serde_json::from_str(&world.ok(&["queue", "list", "--state=all", "--format=json"]))
            .expect("JSON");
    assert_eq!(list["total"], 1, "nothing was made");
    assert!(!world.worktree(2).exists());
    let_go(&world);
    assert_eq!(world.ended(1)["state"], "completed");
    world.assert_no_process_left();
}

#[test]
fn waiting_for_a_launched_agent_tells_how_it_ended() {
    let mut world = World::new();
    for (script, code) in [("echo x >> x; git add x; git commit -qm x", 0), ("exit 0", 5)] {
        world.agent(script);
        let mut start = world.command(&["start", "git.test/o/r#1", "go", "--wait"]);
        let output = start.stdin(Stdio::null()).output().expect("kugetsu runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{script}: {stderr}");
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(stdout.starts_with("Session started for 'git.test/o/r#1': job-"), "{stdout}");
    }
    let waited = world.run(&["start", "git.test/nobody/nowhere#1", "go", "--wait"]);
    assert_eq!(waited.code, 5, "{}", waited.stderr);
    let busy = world.run(&["start", "git.test/nobody/nowhere#1", "go"]);
    assert_eq!(busy.code, 1, "{}", busy.stderr);
    assert!(busy.stderr.contains("the agent did not start: git fetch"), "{}", busy.stderr);
}

#[test]
fn a_worker_forgets_jobs_that_ended_long_ago() {
    let mut world = World::new();
    world.agent("exit 0");
    let old = world.enqueue(1, &[]);
    world.work();
    let kept = world.enqueue(2, &["--delay=1h"]);
    world.set("KUGETSU_RETENTION", "1h");
    let mut worker = world.worker(&[]);
    world.set("KUGETSU_RETENTION", "1ms");
    let id = world.enqueue(3, &[]);
    world.ended(id);
    assert_eq!(world.state(old), "error", "an hour is not over");
    worker.kill();
    let _worker = world.worker(&[]);
    wait_for("the end of its history", || {
        (world.run(&["queue", "show", &old.to_string()]).code == 3).then_some(())
    });
    assert_eq!(world.state(kept), "pending");
}
