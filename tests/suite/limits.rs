//! What an agent may use up, what is known of what it did, and its wish to be asked later.

use std::fs;

use serde_json::{Value, json};

use crate::support::{World, wait_for};

/// An event of opencode: a call of the model is over.
const STEP: &str = r#"{"type":"step_finish","sessionID":"ses_1","part":{"type":"step-finish","tokens":{"input":100,"output":10,"reasoning":1,"cache":{"read":5,"write":0}},"cost":0.25}}"#;

fn ended(world: &World, more: &[&str]) -> Value {
    let id = world.enqueue(1, more);
    world.work();
    world.job(id)
}

#[test]
fn an_agent_that_does_nothing_is_ended_and_one_that_computes_is_not() {
    let mut world = World::new();
    world.set("KUGETSU_IDLE_TIMEOUT", "600ms");
    world.agent("echo begun; exec sleep 1000");
    let job = ended(&world, &[]);
    assert_eq!((&job["state"], &job["reason"]), (&json!("error"), &json!("idle_timeout")));
    let detail = job["detail"].as_str().expect("words");
    assert!(detail.contains("neither logged nor computed"), "{detail}");
    world.assert_no_process_left();

    // Silent for three times as long, and at work: in a child of its own session.
    world.agent(
        "setsid -w sh -c 'end=$(($(date +%s) + 3)); while [ $(date +%s) -lt $end ]; do :; done'; \
         echo work > work; git add work; git commit -qm work",
    );
    let job = ended(&world, &[]);
    assert_eq!(job["reason"], "done", "{job:#}");
    let usage = &job["usage"];
    assert!(usage["wall_ms"].as_u64() >= Some(1800), "{usage}");
    assert!(usage["cpu_ms"].as_u64() > Some(100), "{usage}");
}

#[test]
fn steps_and_cost_are_counted_and_bounded() {
    let mut world = World::new();
    let root = world.root();
    // It says three steps at once, and ends when it is told to.
    world.agent(&format!(
        "echo '{STEP}'; echo '{STEP}'; echo '{STEP}'; echo > {}/said; exec sleep 1000",
        root.display()
    ));
    for (key, value, reason, words) in [
        (
            "KUGETSU_MAX_STEPS",
            "2",
            "step_limit",
            "ended after 3 calls of its model, with no commit",
        ),
        ("KUGETSU_MAX_COST", "0.60", "cost_limit", "ended at a cost of 0.75, with no commit"),
    ] {
        world.set(key, value);
        let job = ended(&world, &[]);
        assert_eq!((&job["reason"], &job["detail"]), (&json!(reason), &json!(words)));
        let usage = &job["usage"];
        let counted = ["steps", "tokens_in", "tokens_out", "cost_micros"].map(|name| &usage[name]);
        assert_eq!(counted, [&json!(3), &json!(315), &json!(33), &json!(750_000)]);
        world.set(key, "");
    }
    let stats: Value =
        serde_json::from_str(&world.ok(&["queue", "stats", "--format=json"])).expect("JSON");
    assert_eq!((&stats["attempts"], &stats["usage"]["steps"]), (&json!(2), &json!(6)));
    assert_eq!(stats["usage"]["cost_micros"], 1_500_000);
    let text = world.ok(&["queue", "stats"]);
    assert!(text.contains("6 steps, 630 tokens in, 66 out, cost 1.50"), "{text}");
    let text = world.ok(&["queue", "show", "1"]);
    assert!(text.contains("3 steps, 315 tokens in, 33 out, cost 0.75"), "{text}");
}

#[test]
fn within_its_limits_an_agent_is_left_alone() {
    let mut world = World::new();
    world.set("KUGETSU_MAX_STEPS", "1");
    world.set("KUGETSU_MAX_COST", "0.25");
    world.agent(&format!("echo '{STEP}'; echo work > work; git add work; git commit -qm work"));
    let job = ended(&world, &[]);
    assert_eq!((&job["reason"], &job["usage"]["steps"]), (&json!("done"), &json!(1)));
}

#[test]
fn a_log_that_grew_too_large_keeps_its_beginning_and_its_end() {
    let mut world = World::new();
    world.set("KUGETSU_LOG_MAX", "64KiB");
    world.agent("echo first; i=0; while :; do i=$((i + 1)); echo line $i; done");
    let job = ended(&world, &[]);
    assert_eq!(job["reason"], "log_limit", "{job:#}");
    let log = world.log(1);
    assert!(log.len() < 70 * 1024, "{} bytes", log.len());
    assert!(log.contains("\nfirst\nline 1\n"), "its beginning");
    let (_, tail) =
        log.split_once(" bytes are left out: the log grew too large\n").expect("a word");
    let numbers: Vec<u64> =
        tail.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
    assert!(numbers.len() > 100 && numbers.windows(2).all(|pair| pair[1] > pair[0]));
    assert!(job["usage"]["log_bytes"].as_u64() > Some(64 * 1024));
}

#[test]
fn both_runs_of_a_reminded_attempt_are_in_its_usage() {
    let mut world = World::new();
    world.agent(&format!(
        "echo '{STEP}'; grep -q 'without a commit' && {{ git add .; git commit -qm work; exit; }}; \
         echo work > work"
    ));
    let job = ended(&world, &[]);
    assert_eq!((&job["reason"], &job["attempt"]), (&json!("done"), &json!(1)));
    assert_eq!(job["usage"]["steps"], 2);
}

#[test]
fn an_agent_may_ask_for_later_and_for_a_pause_of_the_queue() {
    let mut world = World::new();
    let root = world.root();
    world.agent(&format!(
        "echo begun >> {0}/begun; [ -e {0}/go ] || \
         echo \"{{\\\"defer_until\\\": \\\"$(date -ud '+1 hour' +%FT%TZ)\\\", \
         \\\"reason\\\": \\\"429 from the model\\\", \\\"pause\\\": true}}\" > $KUGETSU_RESULT; \
         echo work >> work; git add work; git commit -qm work",
        root.display()
    ));
    let first = world.enqueue(1, &["--max-attempts=1"]);
    let _worker = world.worker(&[]);
    wait_for("the deferral", || {
        (world.job(first)["attempts"][0]["reason"] == "deferred").then_some(())
    });
    let job = world.job(first);
    assert_eq!(job["state"], "pending", "its one attempt is not used up");
    let detail = job["attempts"][0]["detail"].as_str().expect("words");
    assert!(detail.ends_with(": 429 from the model"), "{detail}");
    let stats: Value =
        serde_json::from_str(&world.ok(&["queue", "stats", "--format=json"])).expect("JSON");
    assert_eq!(stats["paused"], true);
    let second = world.enqueue(2, &[]);
    fs::write(root.join("go"), "").expect("a file");
    world.ok(&["queue", "resume"]);
    assert_eq!(world.ended(second)["state"], "completed");
    assert_eq!(world.state(first), "pending", "it waits for its time");
    assert!(world.ok(&["queue", "list"]).contains("git.test/o/r#1"));
}

#[test]
fn a_result_that_cannot_be_read_is_named() {
    let mut world = World::new();
    world.agent("echo later > $KUGETSU_RESULT; exit 0");
    let job = ended(&world, &[]);
    assert_eq!(job["reason"], "no_changes");
    let detail = job["detail"].as_str().expect("words");
    assert!(detail.contains("(its result file cannot be read: expected value"), "{detail}");
}

/// As systemd would give it one: a hierarchy of control groups that this user may divide.
#[test]
fn what_hides_from_everything_else_is_in_the_control_group() {
    let mut world = World::new();
    let root = world.root();
    let kugetsu = env!("CARGO_BIN_EXE_kugetsu");
    fs::create_dir(root.join("cgroup")).expect("a folder");
    let mount = "mount -t cgroup2 none cgroup && [ -w cgroup/cgroup.procs ]";
    if world.shell(&format!("unshare -m sh -c '{mount}'")).code != 0 {
        eprintln!("left out: no control groups can be made here");
        return;
    }
    world.set("INVOCATION_ID", "of a service");
    // Neither a child of the shim's nor of the run by its environment nor by its descriptors.
    world.agent(&format!(
        "[ $KUGETSU_ATTEMPT = 1 ] || exec sleep 1000
         for n in 3 4 5 6 7 8 9; do eval \"exec $n>&-\"; done
         cat /proc/self/cgroup > {0}/mine; exec 2>&1
         env -i setsid sh -c 'echo $$ > {0}/hidden; exec sleep 1000' > /dev/null < /dev/null &
         until [ -s {0}/hidden ]; do sleep 0.01; done; kill -9 $PPID; exec sleep 1000",
        root.display()
    ));
    let id = world.enqueue(1, &["--max-attempts=1"]);
    let work = format!("unshare -m sh -c '{mount} && exec {kugetsu} worker'");
    let _worker = world.background_shell(&work);
    let job = wait_for("the end of the first attempt", || {
        let job = world.job(id);
        (job["attempts"][0]["reason"] == "lost").then_some(job)
    });
    let mine = world.file("mine");
    assert!(mine.contains("/kugetsu-1-1-1-"), "{mine}");
    let hidden: i32 = world.file("hidden").trim().parse().expect("a pid");
    wait_for("its end", || (!crate::support::is_alive(hidden)).then_some(()));
    assert_eq!(job["attempts"][0]["reason"], "lost");
    world.ok(&["queue", "cancel", "1"]);
    world.ended(id);
}
