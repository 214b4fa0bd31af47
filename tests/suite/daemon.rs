//! `queue-daemon`: one worker in the background, known by its lock.

use std::fs;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{World, is_alive, wait_for};

/// A world whose daemon ends with it.
struct Daemons(World);

impl Drop for Daemons {
    fn drop(&mut self) {
        // A test that failed must not leave one behind.
        self.0.run(&["queue-daemon", "stop"]);
    }
}

fn status(world: &World) -> (i32, Value) {
    let ran = world.run(&["queue-daemon", "status", "--format=json"]);
    (ran.code, serde_json::from_str(&ran.stdout).expect("JSON"))
}

fn pid(world: &World) -> i32 {
    let pid = status(world).1["pid"].as_i64().expect("it runs");
    i32::try_from(pid).expect("a pid")
}

#[test]
fn it_is_started_once_and_stopped_once() {
    let mut world = World::new();
    world.agent("echo work > work; git add work; git commit -qm work");
    let world = Daemons(world);
    let world = &world.0;
    assert_eq!(status(world).0, 3);
    let ran = world.run(&["queue-daemon", "stop"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, "queue-daemon does not run\n"));
    let ran = world.run(&["queue-daemon", "logs"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("it was never started"), "{}", ran.stderr);

    let starts: Vec<_> = (0..4)
        .map(|_| world.command(&["queue-daemon", "start"]).spawn().expect("kugetsu runs"))
        .collect();
    let mut said: Vec<String> = starts
        .into_iter()
        .map(|start| start.wait_with_output().expect("it ends"))
        .inspect(|output| assert!(output.status.success(), "{output:?}"))
        .map(|output| String::from_utf8(output.stdout).expect("letters"))
        .collect();
    said.sort();
    let pid = pid(world);
    assert_eq!(said[0], format!("Started queue-daemon (pid {pid})\n"));
    assert_eq!(said[1..], [0; 3].map(|_| format!("queue-daemon runs already (pid {pid})\n")));

    let id = world.enqueue(1, &[]);
    assert_eq!(world.ended(id)["state"], "completed");
    let (code, value) = status(world);
    assert_eq!((code, &value["running"], &value["pending"]), (0, &true.into(), &0.into()));
    let text = world.ok(&["queue-daemon", "status"]);
    let tail = format!(" (pid {pid}): 0 job(s) pending, 0 running\n");
    assert!(text.starts_with("queue-daemon runs for ") && text.ends_with(&tail), "{text}");
    let log = world.ok(&["queue-daemon", "logs"]);
    assert!(log.contains("agent started"), "{log}");
    assert_eq!(world.ok(&["queue-daemon", "logs", "--lines=1"]).lines().count(), 1);

    let stopped = world.ok(&["queue-daemon", "stop"]);
    assert_eq!(stopped, format!("Stopped queue-daemon (pid {pid})\n"));
    assert!(!is_alive(pid));
    assert_eq!(status(world).0, 3);
}

#[test]
fn what_its_file_says_is_not_believed_when_its_lock_is_free() {
    let mut world = World::new();
    world.agent("exit 0");
    let world = Daemons(world);
    let world = &world.0;
    world.ok(&["queue-daemon", "start"]);
    let pid = pid(world);
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it is ours");
    wait_for("its end", || (status(world).0 == 3).then_some(()));
    let innocent = world.somebody_in(&world.root());
    let lock = world.home().join("queue-daemon.lock");
    let text = fs::read_to_string(&lock).expect("it is there");
    let stat = fs::read_to_string(format!("/proc/{}/stat", innocent.pid())).expect("it runs");
    let start_time = stat.rsplit_once(") ").expect("a stat").1.split(' ').nth(19);
    let mut fields: Vec<&str> = text.split(' ').collect();
    let innocent_pid = innocent.pid().to_string();
    fields[0] = &innocent_pid;
    fields[1] = start_time.expect("a start time");
    fs::write(&lock, fields.join(" ")).expect("a file");
    assert_eq!(world.run(&["queue-daemon", "stop"]).code, 3);
    assert!(is_alive(innocent.pid()));
    world.ok(&["queue-daemon", "start"]);
    assert_ne!(self::pid(world), innocent.pid());
}

#[test]
fn a_restart_leaves_the_agents_alone() {
    let mut world = World::new();
    let root = world.root();
    world.agent(&format!(
        "echo $$ >> {0}/begun; until [ -e {0}/go ]; do sleep 0.02; done; \
         echo work > work; git add work; git commit -qm work",
        root.display()
    ));
    let world = Daemons(world);
    let world = &world.0;
    world.ok(&["queue-daemon", "start"]);
    let id = world.enqueue(1, &[]);
    let agent: i32 = world.file("begun").trim().parse().expect("a pid");
    let before = pid(world);
    let text = world.ok(&["queue-daemon", "restart"]);
    let after = pid(world);
    assert_eq!(
        text,
        format!("Stopped queue-daemon (pid {before})\nStarted queue-daemon (pid {after})\n")
    );
    assert!(is_alive(agent), "its agent goes on");
    fs::write(root.join("go"), "").expect("a file");
    assert_eq!(world.ended(id)["state"], "completed");
    assert_eq!(world.file("begun").lines().count(), 1, "it began once");
}

#[test]
fn a_daemon_that_cannot_start_says_why_and_one_that_drains_is_waited_for() {
    let mut world = World::new();
    let root = world.root();
    world.set("KUGETSU_AGENT_COMMAND", "no-such-agent");
    let ran = world.run(&["queue-daemon", "start"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("'no-such-agent' is not installed"), "{}", ran.stderr);
    assert!(!world.home().join("logs/queue-daemon.log").exists(), "nothing was begun");

    world.agent(&format!(
        "echo > {0}/begun; until [ -e {0}/go ]; do sleep 0.02; done",
        root.display()
    ));
    world.set("KUGETSU_ON_TERM", "drain");
    let world = Daemons(world);
    let world = &world.0;
    world.ok(&["queue-daemon", "start"]);
    let id = world.enqueue(1, &[]);
    world.file("begun");
    let ran = world.run(&["queue-daemon", "stop", "--timeout=50ms"]);
    assert_eq!(ran.code, 7);
    assert!(ran.stderr.contains("waiting for its agents"), "{}", ran.stderr);
    assert!(ran.stderr.contains("was told to end, and has not yet"), "{}", ran.stderr);
    fs::write(root.join("go"), "").expect("a file");
    wait_for("its end", || (status(world).0 == 3).then_some(()));
    assert_eq!(world.job(id)["reason"], "no_changes", "it was waited for");
}

#[test]
fn its_log_is_followed_into_the_next_one() {
    let mut world = World::new();
    world.agent("exit 0");
    let world = Daemons(world);
    let world = &world.0;
    world.ok(&["queue-daemon", "start"]);
    let path = world.home().join("logs/queue-daemon.log");
    let follow = world
        .command(&["queue-daemon", "logs", "-f", "--lines=0"])
        .stdout(fs::File::create(world.root().join("followed")).expect("a file"))
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    // Until it is there, what is written might be skipped.
    wait_for("the follower", || {
        let fds = fs::read_dir(format!("/proc/{}/fd", follow.id())).ok()?;
        let mut files = fds.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        files.any(|file| file == path).then_some(())
    });
    world.ok(&["queue-daemon", "stop"]);
    let log = fs::File::options().write(true).open(&path).expect("a log");
    log.set_len(11 * 1024 * 1024).expect("a large one");
    world.ok(&["queue-daemon", "start"]);
    assert!(path.with_extension("log.1").exists());
    wait_for("the words of the second daemon", || {
        let text = fs::read_to_string(world.root().join("followed")).ok()?;
        text.trim_end_matches('\n').rsplit('\0').next()?.contains("up to 3 agent(s)").then_some(())
    });
    let mut follow = follow;
    kill(Pid::from_raw(i32::try_from(follow.id()).expect("a pid")), Signal::SIGINT).expect("ours");
    assert_eq!(follow.wait().expect("it ends").code(), Some(130));
}

#[test]
fn the_service_file_is_one_that_systemd_understands() {
    let world = World::new();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/kugetsu-worker.service");
    let text = fs::read_to_string(path).expect("the service file");
    assert!(text.contains("\nKillMode=process\n"), "a stop would kill the shims");
    let program = "%h/.cargo/bin/kugetsu";
    assert!(text.contains(program));
    let copy = world.root().join("kugetsu-worker.service");
    let text = text.replace(program, env!("CARGO_BIN_EXE_kugetsu"));
    fs::write(&copy, text).expect("a file");
    let verify = "command -v systemd-analyze > found || exit 0
        XDG_RUNTIME_DIR=$PWD systemd-analyze verify --user --man=no kugetsu-worker.service";
    let ran = world.shell(verify);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
    if fs::read_to_string(world.root().join("found")).expect("a file").is_empty() {
        eprintln!("left out: there is no systemd-analyze here");
    }
}
