//! `queue why`: what a job waits for, and who looks after it.

use serde_json::Value;

use crate::support::{World, wait_for};

fn reasons(world: &World, id: u64) -> Vec<Value> {
    let text = world.ok(&["queue", "why", &id.to_string(), "--format=json"]);
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["id"], id);
    value["reasons"].as_array().expect("reasons").clone()
}

fn codes(world: &World, id: u64) -> Vec<String> {
    let codes = reasons(world, id);
    codes.iter().map(|reason| reason["code"].as_str().expect("a code").to_string()).collect()
}

/// The first line that a person reads of a job, and its next step.
fn said(world: &World, id: u64) -> String {
    world.ok(&["queue", "why", &id.to_string()])
}

#[test]
fn a_job_without_a_worker_waits_for_one() {
    let world = World::new();
    let first = world.enqueue(1, &[]);
    let second = world.enqueue(1, &[]);
    let other = world.enqueue(2, &["--priority=-1"]);
    let later = world.enqueue(3, &["--delay=2h"]);
    assert_eq!(codes(&world, first), ["no_worker"]);
    assert_eq!(codes(&world, second), ["no_worker", "issue_turn"]);
    assert_eq!(reasons(&world, second)[1]["job"], first);
    assert_eq!(codes(&world, other), ["no_worker", "behind"]);
    assert_eq!(codes(&world, later), ["no_worker", "delayed"]);
    assert_eq!(
        said(&world, other),
        "Job 3 (git.test/o/r#2) is pending, and waits for:\n  \
           a worker: none is running\n    \
             `kugetsu worker` runs one, `kugetsu queue-daemon start` one in the background\n  \
           its turn: 1 job goes first\n    \
             nothing to do; `kugetsu queue edit 3 --priority=N` lets it go earlier\n"
    );
    world.ok(&["queue", "pause"]);
    assert_eq!(codes(&world, later), ["paused", "no_worker", "delayed"]);
    world.ok(&["queue", "pause", "--for=3h"]);
    assert_eq!(codes(&world, later), ["no_worker", "paused", "delayed"]);
    let shown = world.ok(&["queue", "show", &later.to_string()]);
    assert!(shown.contains("\nwaits for  a worker: none is running\n"), "{shown}");
    let ran = world.run(&["queue", "why", "99"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""));
}

#[test]
fn a_job_behind_others_says_behind_whom() {
    let mut world = World::new();
    world.agent("echo begun > \"$HOME/begun\"; while ! test -e \"$HOME/go\"; do sleep 0.02; done");
    world.set("MAX_CONCURRENT_AGENTS", "1");
    let running = world.enqueue(1, &[]);
    let mut worker = world.worker(&[]);
    world.file("home/begun");
    assert_eq!(codes(&world, running), ["running"]);
    let behind = world.enqueue(1, &[]);
    let capped = world.enqueue(2, &[]);
    let last = world.enqueue(3, &[]);
    assert_eq!(codes(&world, behind), ["issue_busy", "cap_reached"]);
    assert_eq!(codes(&world, capped), ["cap_reached"]);
    assert_eq!(codes(&world, last), ["cap_reached", "behind"]);
    let text = said(&world, behind);
    assert!(text.contains("job 1 of the same issue, which is at work"), "{text}");
    assert!(text.contains("a free agent: 1 run, and 1 may"), "{text}");

    worker.kill();
    assert_eq!(codes(&world, running), ["running", "worker_gone"]);
    assert_eq!(codes(&world, capped), ["no_worker", "cap_reached"]);
    world.ok(&["queue", "cancel", &running.to_string()]);
    world.ok(&["queue", "cancel", &behind.to_string()]);
    assert_eq!(codes(&world, behind), ["ended"]);
    let text = said(&world, behind);
    assert!(text.starts_with("Job 2 (git.test/o/r#1) is cancelled:\n  it ended 0s ago"), "{text}");
    assert!(text.contains("`kugetsu queue retry 2` runs it again"), "{text}");
    world.shell("touch home/go");
    world.work();
    assert_eq!(codes(&world, running), ["ended"]);
}

#[test]
fn a_retry_names_the_failure_before_it() {
    let mut world = World::new();
    world.agent("exit 3");
    world.set("KUGETSU_RETRY_DELAY", "1h");
    let id = world.enqueue(1, &[]);
    let _worker = world.worker(&[]);
    wait_for("the first failure", || (codes(&world, id) == ["delayed"]).then_some(()));
    let detail = reasons(&world, id)[0]["detail"].as_str().expect("words").to_string();
    assert!(detail.starts_with("its next attempt, in "), "{detail}");
    assert!(detail.ends_with(", after agent_error"), "{detail}");
    let shown = world.ok(&["queue", "show", &id.to_string()]);
    assert!(shown.contains(&format!("\nwaits for  {}", &detail[..18])), "{shown}");
}
