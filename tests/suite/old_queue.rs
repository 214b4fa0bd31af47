//! A queue file that an older version wrote: read as it is, and written anew as it changes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::World;

/// The queue that the program of commit 1463de4 left; its README says what is in it.
fn old_queue() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/queue-1463de4"))
}

fn world() -> World {
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

/// The program of commit 1463de4, if this machine has it.
#[expect(clippy::disallowed_methods, reason = "tests are told by their environment")]
fn old_program() -> Option<String> {
    std::env::var("KUGETSU_TEST_OLD").ok()
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
    let world = world();
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
    let world = world();
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
    // With the old program at hand: it must not take the file for one of its own.
    let Some(old) = old_program() else {
        eprintln!("left out: KUGETSU_TEST_OLD does not name the program of commit 1463de4");
        return;
    };
    let ran = world.shell(&format!("{old} queue list; echo $?"));
    assert!(ran.stdout.ends_with("8\n") && ran.stderr.contains("upgrade kugetsu"), "{ran:?}");
}
