//! The examples, as their readers run them: `cargo test` has built them, unless it was told to build
//! this test alone.

use std::path::Path;
use std::sync::Arc;

use kugetsu::store::{RedbStore, Store};
use kugetsu::time::SystemClock;

use crate::support::{Ran, World, program};

/// Runs an example in a world. Cargo puts examples beside the program, in a folder of their own.
fn run(world: &World, name: &str, arguments: &[&str]) -> Ran {
    let folder = Path::new(env!("CARGO_BIN_EXE_kugetsu")).with_file_name("examples");
    let path = folder.join(name);
    assert!(path.exists(), "{name} is not built: `cargo build --examples` does that");
    let output = program(path.to_str().expect("a path of letters"))
        .args(arguments)
        .current_dir(world.root())
        .env_clear()
        .envs(world.environment())
        .output()
        .expect("it runs");
    let ran = Ran::from(output);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{name}: {}", ran.stdout);
    ran
}

/// Each of the lines is there; they need not follow each other.
fn check(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "no line {line:?} in:\n{text}");
    }
}

#[test]
fn closures_succeed_are_tried_again_and_are_called_off() {
    let ran = run(&World::new(), "closures", &[]);
    check(
        &ran.stdout,
        &[
            "job 2, attempt 1: fail once",
            "job 2, attempt 2: fail once",
            "job 1: completed after 1 attempt(s): it was easy",
            "job 2: completed after 2 attempt(s): the second attempt does not",
            "job 3: cancelled after 1 attempt(s): called off while it ran",
        ],
    );
}

#[test]
fn threads_lose_nothing() {
    let world = World::new();
    let ran = run(&world, "threads", &[world.root().to_str().expect("a path of letters")]);
    check(&ran.stdout, &["2100 jobs are pending, and on disk"]);
    assert_eq!(ran.stdout.lines().count(), 5, "{}", ran.stdout);
}

#[test]
fn a_watcher_sees_the_jobs_of_its_own_queue_end() {
    let ran = run(&World::new(), "watch", &[]);
    // What lies between may have been one wake-up with its neighbours.
    for number in 1..=3 {
        let job = format!("job {number} of example.org/demo/watch#{number}: ");
        let last = ran.stdout.lines().rfind(|line| line.starts_with(&job));
        assert!(last.is_some_and(|line| line.ends_with("-> completed")), "{}", ran.stdout);
    }
    check(&ran.stdout, &["that was all"]);
}

#[test]
fn a_watcher_sees_what_the_command_does() {
    let world = World::new();
    world.enqueue(1, &[]);
    let queue = world.home().join("queue.redb");
    let ran = run(&world, "watch", &[queue.to_str().expect("a path of letters"), "1"]);
    check(&ran.stdout, &["job 1 of git.test/o/r#1: new -> pending", "that was all"]);
    let store = RedbStore::open(&queue, Arc::new(SystemClock)).expect("a queue");
    assert_eq!(store.verify().expect("a read"), Vec::<String>::new());
}
