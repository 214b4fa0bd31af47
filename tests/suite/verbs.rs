//! The verbs round the queue: `init`, `wait`, `completions`, `man`.

use std::fs;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{World, wait_for};

#[test]
fn init_makes_what_is_missing_and_says_what_it_cannot_make() {
    let mut world = World::new();
    world.set("KUGETSU_AGENT_COMMAND", "no-such-agent");
    let ran = world.run(&["init"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""));
    for line in [
        format!("✓ the folder {} (made)", world.home().display()),
        format!(
            "✓ the configuration {}/config (written, all commented out)",
            world.home().display()
        ),
        "the agent's program 'no-such-agent' is not installed, or not in PATH".into(),
        "Not ready yet".into(),
    ] {
        assert!(ran.stdout.contains(&line), "{}", ran.stdout);
    }
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example");
    let example = fs::read_to_string(example).expect("config.example");
    let path = world.home().join("config");
    assert_eq!(fs::read_to_string(&path).expect("a config"), example);

    world.agent("exit 0");
    fs::write(&path, "MAX_CONCURRENT_AGENTS=7\n").expect("a file");
    let text = world.ok(&["init", "git.test/o/r"]);
    assert_eq!(fs::read_to_string(&path).expect("a config"), "MAX_CONCURRENT_AGENTS=7\n");
    for line in [
        "(is there)\n",
        "✓ commits are by Test <test@localhost>\n",
        "✓ git.test/o/r is cloned; work starts from ",
        " (begin)\n",
        "\nReady.",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(world.home().join("mirrors/git.test+o+r.git").is_dir());
    fs::write(&path, "MAX_CONCURRENT_AGENTS=many\n").expect("a file");
    let ran = world.run(&["init"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "a bad one is named, and nothing done");
    assert!(ran.stderr.contains("config:1: MAX_CONCURRENT_AGENTS=many"), "{}", ran.stderr);
}

#[test]
fn init_looks_at_the_version_of_the_default_agent() {
    let mut world = World::new();
    let bin = world.root().join("bin");
    fs::create_dir_all(&bin).expect("a folder");
    let path = format!("{}:{}", bin.display(), world.environment()["PATH"]);
    world.set("PATH", &path);
    for (says, code, expected) in [
        ("echo 1.18.33", 0, "✓ git, and the agent opencode 1.18.33\n"),
        ("echo 1.2.3", 1, "opencode 1.2.3 is too old, 1.17.18 or newer is needed"),
        ("echo opencode v2.0.9", 1, "set KUGETSU_AGENT_COMMAND"),
        ("echo 'no way' >&2; exit 1", 1, "no way"),
    ] {
        fs::write(bin.join("opencode"), format!("#!/bin/sh\n{says}\n")).expect("a file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(bin.join("opencode"), mode).expect("it is ours");
        let ran = world.run(&["init"]);
        assert_eq!(ran.code, code, "{}", ran.stdout);
        assert!(ran.stdout.contains(expected), "{}", ran.stdout);
    }
}

#[test]
fn init_tells_of_a_repository_that_cannot_be_had() {
    let mut world = World::new();
    world.agent("exit 0");
    let ran = world.run(&["init", "https://git.test/o/missing.git", "--format=json"]);
    assert_eq!(ran.code, 1);
    let value: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let finding = value["findings"].as_array().and_then(|all| all.last()).expect("a finding");
    assert_eq!(
        (&value["ok"], &finding["what"]),
        (&false.into(), &"the repository git.test/o/missing".into())
    );
    let trouble = finding["trouble"].as_str().expect("trouble");
    assert!(trouble.contains("does not appear to be a git repository"), "{trouble}");
    for (text, why) in [("git.test", "the repository has no owner"), ("a/b/..", "'.' or '..'")] {
        let ran = world.run(&["init", text]);
        assert_eq!(ran.code, 1);
        assert!(
            ran.stderr.contains(why) && ran.stderr.contains(&format!("{text:?}")),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn a_wait_ends_with_the_jobs_and_tells_how_they_ended() {
    let mut world = World::new();
    world.agent(
        "case $KUGETSU_BRANCH in issue-1) echo > work; git add .; git commit -qm work;; esac",
    );
    for issue in 1..=3 {
        world.enqueue(issue, &[]);
    }
    let waiting = world.command(&["wait", "1", "2", "3"]).spawn().expect("it runs");
    world.ok(&["queue", "cancel", "3"]);
    world.work();
    let output = waiting.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(5));
    let mut lines: Vec<String> =
        String::from_utf8_lossy(&output.stdout).lines().map(Into::into).collect();
    lines.sort();
    for (line, beginning) in lines.iter().zip([
        "Job 1 completed: git.test/o/r#1 (done, ",
        "Job 2 error: git.test/o/r#2 (no_changes, ",
        "Job 3 cancelled: git.test/o/r#3 (cancelled, ",
    ]) {
        assert!(line.starts_with(beginning), "{lines:?}");
    }
    assert_eq!(lines.len(), 3);
    for (ids, code) in [(&["1"][..], 0), (&["1", "3"], 6), (&["3", "2"], 5), (&["1", "9"], 3)] {
        assert_eq!(world.run(&[&["wait", "--format=json"], ids].concat()).code, code, "{ids:?}");
    }
    let id = world.enqueue(4, &["--delay=1h"]);
    let ran = world.run(&["wait", &id.to_string(), "--timeout=1ms"]);
    assert_eq!(ran.code, 7);
    assert!(ran.stderr.contains("time ran out: job 4 has not ended"), "{}", ran.stderr);
}

#[test]
fn an_interrupted_wait_ends_at_once() {
    let world = World::new();
    world.enqueue(1, &[]);
    let mut waiting = world.command(&["wait", "1"]).stdin(Stdio::null()).spawn().expect("it runs");
    let pid = i32::try_from(waiting.id()).expect("a pid");
    // From the moment that it catches the signal.
    wait_for("the signal's handler", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        (caught & 2 != 0).then_some(())
    });
    kill(Pid::from_raw(pid), Signal::SIGINT).expect("it is our child");
    assert_eq!(waiting.wait().expect("it ends").code(), Some(130));
}

#[test]
fn completions_and_manual_know_every_verb() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        let text = world.ok(&["completions", shell]);
        for word in ["queue-daemon", "if-idle", "destroy"] {
            assert!(text.contains(word), "{shell} does not know {word}");
        }
        assert!(!text.contains("demo-agent"), "{shell} knows what is hidden");
    }
    assert!(world.ok(&["man"]).contains("kugetsu\\-queue\\-daemon"));
    world.ok(&["man", "--folder=pages"]);
    let page =
        fs::read_to_string(world.root().join("pages/kugetsu-queue-enqueue.1")).expect("a page");
    assert!(page.contains("Only if the issue has no job"), "{page}");
    let pages = fs::read_dir(world.root().join("pages")).expect("a folder");
    let names: Vec<String> =
        pages.flatten().map(|page| page.file_name().to_string_lossy().into_owned()).collect();
    assert!(!names.iter().any(|name| name.contains("demo-agent")), "{names:?}");
    assert_eq!(world.run(&["man", "--folder=/dev/null/x"]).code, 1);
}

#[test]
fn a_session_is_announced_as_soon_as_the_agent_names_it() {
    let mut world = World::new();
    let root = world.root();
    let script = format!(
        "echo '{{\"sessionID\":\"ses_early\"}}'; until [ -e {}/go ]; do sleep 0.02; done",
        root.display()
    );
    fs::write(root.join("agent.sh"), script).expect("a file");
    let command = format!("sh {}/agent.sh [ --session {{session}} ]", root.display());
    world.set("KUGETSU_AGENT_COMMAND", &command);
    let said = world.ok(&["start", "git.test/o/r#1", "go"]);
    assert!(said.starts_with("Session started for 'git.test/o/r#1': ses_early\n"), "{said}");
    assert_eq!(world.state(1), "notified", "while it is at work");
    // A later job of the issue has no log yet, and does not hide that of the agent at work.
    world.enqueue(1, &[]);
    assert!(world.ok(&["logs", "git.test/o/r#1"]).contains("ses_early"));
    fs::write(root.join("go"), "").expect("a file");
    wait_for("its end", || (world.state(1) == "error").then_some(()));
}
