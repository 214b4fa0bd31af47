//! `queue export` and `queue import`: jobs leave a queue and come into another one.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Background, World, wait_for};

/// Lines of so many jobs, each with a request id.
fn lines(count: u64) -> String {
    let mut lines = String::new();
    for number in 1..=count {
        let (issue, message) = (number % 7 + 1, "fix it");
        let _ = writeln!(
            lines,
            r#"{{"issue_ref":"git.test/o/r#{issue}","message":"{message}","request_id":"r{number}"}}"#
        );
    }
    lines
}

fn total(world: &World) -> u64 {
    let stats: Value =
        serde_json::from_str(&world.ok(&["queue", "stats", "--format=json"])).expect("JSON");
    stats["total"].as_u64().expect("a number")
}

#[test]
fn what_one_queue_exports_another_imports_once() {
    let mut here = World::new();
    here.agent("echo work > work; git add work; git commit -qm work");
    here.enqueue(1, &[]);
    here.enqueue(2, &["--priority=3", "--timeout=5m", "--request-id=mine"]);
    here.work();
    here.enqueue(3, &["--delay=10h"]);
    let exported = here.ok(&["queue", "export"]);
    assert_eq!(exported.lines().count(), 3);
    fs::write(here.root().join("jobs.jsonl"), &exported).expect("a file");
    let again = here.ok(&["queue", "import", "jobs.jsonl"]);
    assert_eq!(again, "Imported 0 job(s); 3 were there already\n");

    let there = World::new();
    there.enqueue(9, &[]);
    let import = || there.run_with_input(&["queue", "import", "-"], exported.as_bytes()).stdout;
    assert_eq!(import(), "Imported 3 job(s)\n");
    assert_eq!(import(), "Imported 0 job(s); 3 were there already\n");
    let mut moved = there.ok(&["queue", "export"]);
    for (new, old) in [(2, 1), (3, 2), (4, 3)] {
        moved = moved.replace(&format!("{{\"id\":{new},"), &format!("{{\"id\":{old},"));
    }
    let tail: String = moved.lines().skip(1).map(|line| format!("{line}\n")).collect();
    let with_its_name = |line: &str| -> Value {
        let mut value: Value = serde_json::from_str(line).expect("JSON");
        // A name for the request is what the export added.
        value["request_id"].take();
        value
    };
    let values = |text: &str| text.lines().map(with_its_name).collect::<Vec<_>>();
    assert_eq!(values(&tail), values(&exported), "state, times, history and all");
    let listed = there.ok(&["queue", "export", "--state=completed"]);
    assert_eq!(listed.lines().count(), 2);
}

#[test]
fn a_bad_line_is_named_and_takes_along_its_chunk_alone() {
    let world = World::new();
    let good = lines(2500);
    let bad = good.replace("\"r2400\"", "\"\"");
    fs::write(world.root().join("bad.jsonl"), &bad).expect("a file");
    let ran = world.run(&["queue", "import", "bad.jsonl"]);
    let says = "error: line 2400: a request id has 1 to 200 bytes, not 0\n  the 2000 job(s) before \
                line 2001 are imported; go on with `tail -n +2001 bad.jsonl | kugetsu queue import -`\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (1, says));
    assert_eq!(total(&world), 2000);
    let ran = world.run_with_input(&["queue", "import", "-", "--format=json"], good.as_bytes());
    let answer: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(answer, serde_json::json!({ "imported": 500, "known": 2000 }));
    assert_eq!(total(&world), 2500);

    for (input, says) in [
        (b"\xff\n".to_vec(), "line 1: it is not UTF-8"),
        (b"\n \nhello\n".to_vec(), "line 3: expected value (character 1)"),
        (vec![b'x'; 9 * 1024 * 1024], "line 1: it has more than 8388608 bytes"),
    ] {
        let ran = world.run_with_input(&["queue", "import", "-"], &input);
        assert_eq!(ran.code, 1, "{says}");
        assert_eq!(ran.stderr, format!("error: {says}\n  nothing was imported\n"));
    }
    for (file, says) in [("missing", "No such file"), (".", "it is a folder")] {
        let ran = world.run(&["queue", "import", file]);
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains(&format!("cannot read {file}: {says}")), "{}", ran.stderr);
    }
    assert_eq!(world.run_with_input(&["queue", "import", "-"], b"").stdout, "Imported 0 job(s)\n");
    assert_eq!(total(&world), 2500);
}

#[test]
fn an_interrupted_import_says_where_to_go_on() {
    let world = World::new();
    let mut command = world.command(&["queue", "import", "-"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(lines(1500).as_bytes()).expect("it reads");
    // The second chunk waits for lines that do not come.
    wait_for("the first chunk", || (total(&world) == 1000).then_some(()));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, Signal::SIGINT).expect("it is our child");
    let output = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let says = "error: interrupted\n  the 1000 job(s) before line 1001 are imported; go on with \
                line 1001\n";
    assert_eq!((output.status.code(), &*stderr), (Some(130), says));
    drop(stdin);
    assert_eq!(total(&world), 1000);
}

#[test]
fn an_export_ends_with_its_reader() {
    let world = World::new();
    world.run_with_input(&["queue", "import", "-"], lines(3000).as_bytes());
    let mut export = world.command(&["queue", "export"]).spawn().expect("it runs");
    drop(export.stdout.take());
    let output = export.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
    let mut export = Background::spawn(
        world
            .command(&["queue", "export"])
            .stdout(fs::File::options().write(true).open("/dev/full").expect("a device"))
            .stderr(Stdio::null()),
    );
    assert_eq!(export.wait().code(), Some(1), "a full disk is an error");
}
