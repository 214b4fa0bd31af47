//! Secrets: who has them, and that nothing else shows them.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::{World, wait_for};

const COMMIT: &str = "echo work >> work.txt; git add work.txt; git commit -qm work";

#[test]
fn an_agent_has_its_own_token_and_no_other() {
    let mut world = World::new();
    fs::create_dir_all(world.home()).expect("a folder");
    let text = "KUGETSU_TOKEN_GIT_TEST=t0p-file\nGITEA_TOKEN=t0p-tea\n";
    fs::write(world.home().join("config"), text).expect("a file");
    world.set("KUGETSU_TOKEN_GIT_OTHER", "t0p-other");
    world.set("ANTHROPIC_API_KEY", "t0p-agents-own");
    let seen = world.root().join("seen");
    // Its own processes too: the shim is the agent's parent, and of the same user.
    world.agent(&format!(
        "{{ env; tr '\\0' '\\n' < /proc/$PPID/environ; }} > {}; {COMMIT}",
        seen.display()
    ));
    let id = world.enqueue(1, &[]);
    world.work();
    assert_eq!(world.state(id), "completed", "{}", world.log(id));
    let seen = fs::read_to_string(seen).expect("it was written");
    let secrets: Vec<&str> = seen.lines().filter(|line| line.contains("t0p-")).collect();
    for line in &secrets {
        let name = line.split('=').next().expect("a name");
        assert!(["GITEA_TOKEN", "ANTHROPIC_API_KEY"].contains(&name), "{secrets:?}");
    }
    assert!(secrets.contains(&"GITEA_TOKEN=t0p-tea"), "{secrets:?}");
}

#[test]
fn what_an_agent_says_reaches_the_queue_without_secrets() {
    let mut world = World::new();
    world.set("GITEA_TOKEN", "t0p/s3cret");
    world.set("ANTHROPIC_API_KEY", "k3y-of-the-worker");
    let long = "x".repeat(990);
    for (issue, script) in (1..).zip([
        "echo no $ANTHROPIC_API_KEY; exit 1".into(),
        "echo no $GITEA_TOKEN t0p%2Fs3cret; exit 1".into(),
        format!("echo {long}$ANTHROPIC_API_KEY; exit 1"),
        format!("echo $ANTHROPIC_API_KEY{}; exit 1", "x".repeat(1988)),
        "echo sk-ant-api03-t0p0123456789; exit 1".into(),
        "echo https://me:t0ppass@git.test/; exit 1".into(),
        "echo '{\"defer_until\": \"2099-01-01T00:00:00Z\", \"reason\": \"no t0p/s3cret\"}' \
         > $KUGETSU_RESULT; exit 1"
            .into(),
    ]) {
        let script: String = script;
        world.agent(&script);
        let id = world.enqueue(issue, &["--max-attempts=1"]);
        // One that is put off until another day is not waited for.
        let mut worker = world.worker(&[]);
        let detail = wait_for("an attempt", || {
            world.job(id)["attempts"][0]["detail"].as_str().map(str::to_string)
        });
        worker.signal(Signal::SIGTERM);
        worker.wait();
        let shown = world.ok(&["queue", "show", &id.to_string(), "--format=json"]);
        let store = fs::read(world.home().join("queue.redb")).expect("it is there");
        let store = String::from_utf8_lossy(&store).into_owned();
        for text in [shown, world.ok(&["queue", "show", &id.to_string()]), store] {
            for secret in ["t0p", "s3cret", "k3y-", "the-worker"] {
                let at = text.find(secret);
                let around = at.map(|at| text[..at].chars().rev().take(300).collect::<String>());
                let around = around.map(|text| text.chars().rev().collect::<String>());
                assert_eq!(around, None, "{script}: {secret}");
            }
        }
        // Behind so many letters, the mark is cut off too.
        assert!(detail.contains('…') || script.contains(&long), "{script}: {detail}");
    }
}

#[test]
fn an_address_loses_its_password_on_the_way_to_logs_and_errors() {
    let mut world = World::new();
    world.agent(COMMIT);
    world.set("KUGETSU_CLONE_URL", "https://me:t0p-pass@127.0.0.1:1/{path}.git");
    world.set("NETWORK_RETRY_ATTEMPTS", "1");
    world.set("KUGETSU_LOG", "debug");
    let id = world.enqueue(1, &["--max-attempts=1"]);
    let mut worker = world.worker(&[]);
    wait_for("an attempt", || world.job(id)["attempts"][0]["detail"].as_str().map(str::to_string));
    worker.signal(Signal::SIGTERM);
    worker.wait();
    let log = fs::read_to_string(world.root().join("worker.log")).expect("a log");
    let shown = world.ok(&["queue", "show", &id.to_string()]);
    assert!(log.contains("git") && !log.contains("t0p-pass"), "{log}");
    assert!(!shown.contains("t0p-pass"), "{shown}");
    for (key, value) in [
        ("KUGETSU_STORE", "postgres://me:t0p-pass@h/d"),
        ("KUGETSU_CLONE_URL", "https://me:t0p-pass@h/"),
        ("GITEA_TOKEN", "t0p-pass two"),
        ("KUGETSU_TOKEN_H", "t0p-pass two"),
    ] {
        let mut world = World::new();
        world.set(key, value);
        let ran = world.run(&["queue", "list"]);
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains(key) && !ran.stderr.contains("t0p"), "{}", ran.stderr);
    }
}

#[test]
fn git_is_answered_for_one_host_alone() {
    let mut world = World::new();
    world.set("KUGETSU_CREDENTIAL_HOST", "git.test");
    world.set("KUGETSU_CREDENTIAL_SECRET", "t0p-s3cret");
    let asked = |operation: &str, request: &[u8]| {
        let ran = world.run_with_input(&["credential", operation], request);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{operation}");
        ran.stdout
    };
    let answer = "username=x-access-token\npassword=t0p-s3cret\n";
    assert_eq!(asked("get", b"protocol=https\nhost=git.test\n\n"), answer);
    for (operation, request) in [
        ("get", &b"protocol=https\nhost=evil.test\n\n"[..]),
        ("get", b"protocol=http\nhost=git.test\n\n"),
        ("get", b"\xff"),
        ("get", &[b'a'; 100_000]),
        ("store", b"protocol=https\nhost=git.test\n\n"),
        ("erase", b"protocol=https\nhost=git.test\n\n"),
    ] {
        assert_eq!(asked(operation, request), "", "{operation}");
    }
}
