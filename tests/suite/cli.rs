//! The command line as its users see it: `tests/cli/*.trycmd` and `docs/CLI.md` are commands with
//! their output.
//!
//! After a change that is meant: `TRYCMD=overwrite cargo test --test suite cli`, and read the diff.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Background, World, wait_for};

fn check(name: &str) {
    let mut world = World::new();
    world.agent("exit 0");
    let cases = trycmd::TestCases::new();
    for (name, value) in world.environment() {
        cases.env(name, value);
    }
    cases
        .insert_var("[HOME]", world.home().display().to_string())
        .expect("a name in brackets")
        .case(format!("tests/cli/{name}.trycmd"));
}

#[test]
fn queue() {
    check("queue");
}

#[test]
fn change() {
    check("change");
}

#[test]
fn remove() {
    check("remove");
}

#[test]
fn errors() {
    check("errors");
}

#[test]
fn help() {
    check("help");
}

/// The agent of `docs/CLI.md`, under the name of the real one. On issue 15 it
/// gives up in a new session, and works until it is told to go on when it goes on with one.
const DOCUMENTED_AGENT: &str = r#"#!/bin/sh
if [ "$1" = --version ]; then echo 1.18.33; exit; fi
say() { echo '{"type":"text","sessionID":"ses_'"$KUGETSU_BRANCH"'","part":{"text":"'"$1"'"}}'; }
say "Reading issue ${KUGETSU_ISSUE#*#}."
case $KUGETSU_BRANCH/$KUGETSU_SESSION in
issue-15/) say "I cannot find the bug."; exit ;;
issue-15/*) until [ -e "$HOME/go" ]; do sleep 0.02; done ;;
esac
cat "$KUGETSU_MESSAGE_FILE" >> CHANGES
git add CHANGES && git commit -q -m "work on $KUGETSU_ISSUE"
if [ "$KUGETSU_BRANCH" = issue-16 ]; then git push -q origin issue-16; fi
say "Done and tested."
"#;

/// A world whose queue-daemon ends with it, also when its document is not true.
struct Documented(World);

impl Drop for Documented {
    fn drop(&mut self) {
        self.0.run(&["queue-daemon", "stop"]);
    }
}

/// Makes a program that the document names: in the user's folder, and with the redirections that
/// trycmd does not know.
fn as_in_a_shell(world: &World, name: &str, program: &str) -> PathBuf {
    let home = world.root().join("home");
    let script = format!(
        "#!/usr/bin/env bash\ncd {} || exit\ncase \"${{*: -2:1}}\" in\n\
         '>') exec {program} \"${{@:1:$#-2}}\" > \"${{*: -1}}\" ;;\n\
         '<') exec {program} \"${{@:1:$#-2}}\" < \"${{*: -1}}\" ;;\n\
         esac\nexec {program} \"$@\"\n",
        home.display()
    );
    let path = world.root().join(format!("as-in-a-shell-{name}"));
    write_program(&path, &script);
    path
}

fn write_program(path: &Path, script: &str) {
    fs::write(path, script).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

#[test]
fn document() {
    let mut world = World::new();
    world.make_remote("shoko/kugetsu");
    let (root, home) = (world.root(), world.root().join("home"));
    // Everything is where it is for a user who has set nothing.
    world.set("KUGETSU_DIR", "");
    fs::create_dir(root.join("bin")).expect("a folder");
    write_program(&root.join("bin/opencode"), DOCUMENTED_AGENT);
    let path = format!("{}:{}", root.join("bin").display(), world.environment()["PATH"]);
    world.set("PATH", &path);
    fs::write(home.join("message.txt"), "fix the bug, and say how").expect("a file");
    let line = r#"{"issue_ref": "github.com/shoko/kugetsu#18", "message": "fix the link"}"#;
    fs::write(home.join("new.jsonl"), format!("{line}\n")).expect("a file");
    let world = Documented(world);
    let cases = trycmd::TestCases::new();
    for (name, value) in world.0.environment() {
        cases.env(name, value);
    }
    let kugetsu = env!("CARGO_BIN_EXE_kugetsu");
    for (name, program) in [("kugetsu", kugetsu), ("cat", "cat"), ("touch", "touch")] {
        cases.register_bin(name, as_in_a_shell(&world.0, name, program));
    }
    let home = home.display().to_string();
    cases.insert_var("[HOME]", home).expect("a name in brackets").case("docs/CLI.md");
}

#[test]
fn a_message_comes_from_standard_input_byte_for_byte() {
    let world = World::new();
    let message = "  two lines,\n\tand \"quotes\" — $HOME `id`\n";
    let arguments = ["queue", "enqueue", "git.test/o/r#1", "-"];
    let ran = world.run_with_input(&arguments, message.as_bytes());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(world.job(1)["message"], message);
    for (input, why) in [
        (&b"\xff\xfe"[..], "not UTF-8"),
        (b"", "the message is empty"),
        (&vec![b'x'; 1024 * 1024 + 1], "more than 1048576 bytes"),
    ] {
        let ran = world.run_with_input(&arguments, input);
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
    }
    assert!(world.run_with_input(&arguments, &vec![b'x'; 1024 * 1024]).code == 0);
    assert_eq!(stats(&world)["total"], 2);
}

fn stats(world: &World) -> Value {
    serde_json::from_str(&world.ok(&["queue", "stats", "--format=json"])).expect("JSON")
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let world = World::new();
    for _ in 0..3 {
        world.enqueue(1, &[]);
    }
    let mut child = world.command(&["queue", "list", "--format=json"]).spawn().expect("it runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

/// Folders and files below a folder with their modes, but for what is in clones and what agents
/// have to themselves.
fn own_files(folder: &Path, found: &mut BTreeMap<PathBuf, u32>) {
    let mode = |path: &Path| fs::metadata(path).map(|metadata| metadata.permissions().mode());
    // A run that ends takes its folder away.
    let (Ok(own), Ok(entries)) = (mode(folder), fs::read_dir(folder)) else { return };
    found.insert(folder.into(), own);
    for path in entries.flatten().map(|entry| entry.path()) {
        // What is in a clone or a worktree is the agent's, and not kugetsu's.
        if folder.ends_with("worktrees") {
            continue;
        }
        if path.extension().is_some_and(|extension| extension == "git") {
            continue;
        } else if path.is_dir() {
            own_files(&path, found);
        } else if let Ok(mode) = mode(&path) {
            found.insert(path, mode);
        }
    }
}

#[test]
fn what_belongs_to_kugetsu_is_its_owners_alone() {
    let kugetsu = env!("CARGO_BIN_EXE_kugetsu");
    // One gives everything away, one takes it from its owner too.
    for umask in ["000", "777"] {
        let mut world = World::new();
        let go = world.root().join("go");
        world.agent(&format!(
            "echo > {0}.begun; until [ -e {0} ]; do sleep 0.02; done; \
             echo x > x; git add x; git commit -qm x",
            go.display()
        ));
        let line = |verb: &str| world.shell(&format!("umask {umask}; exec {kugetsu} {verb}"));
        assert_eq!(line("queue enqueue git.test/o/r#1 fix").code, 0);
        let started = line("start git.test/o/r#2 fix");
        assert_eq!(started.code, 0, "{}", started.stderr);
        wait_for("the agent", || fs::exists(world.root().join("go.begun")).ok()?.then_some(()));
        let mut found = BTreeMap::new();
        own_files(&world.home(), &mut found);
        fs::write(&go, "").expect("a file");
        let worker = line("worker --once");
        assert_eq!(worker.code, 0, "{}", worker.stderr);
        assert_eq!((world.state(1), world.state(2)), ("completed".into(), "completed".into()));
        own_files(&world.home(), &mut found);
        let names: Vec<_> = found.keys().filter_map(|path| path.file_name()?.to_str()).collect();
        for name in [
            "queue.redb",
            "wake",
            "mirrors",
            "evidence",
            "worktrees",
            "runs",
            "spec.json",
            "plan.json",
            "lock",
            "started",
            "shim.log",
            "dev-2.log",
            "queue-daemon.log",
            "message.txt",
            "context.txt",
            "git.test+o+r.lock",
            "dev-1.log",
        ] {
            assert!(names.contains(&name), "no {name} in {names:?}");
        }
        for (path, mode) in found {
            let kind = mode & 0o170_000;
            let expected = if kind == 0o040_000 { 0o700 } else { 0o600 };
            assert_eq!(mode & 0o777, expected, "{} under umask {umask}", path.display());
        }
    }
}

#[test]
fn a_damaged_queue_is_named_and_left_alone() {
    let world = World::new();
    fs::create_dir_all(world.home()).expect("a folder");
    let path = world.home().join("queue.redb");
    for text in ["not a database, and long enough to be read as one\n".repeat(200), "x".into()] {
        fs::write(&path, &text).expect("a file");
        for arguments in [
            &["queue", "enqueue", "git.test/o/r#1", "fix"][..],
            &["queue", "list"],
            &["queue", "stats"],
        ] {
            let ran = world.run(arguments);
            assert_eq!((ran.code, ran.stdout.as_str()), (8, ""), "{}", ran.stderr);
            assert!(ran.stderr.contains("queue.redb"), "{}", ran.stderr);
            assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        }
        assert_eq!(fs::read_to_string(&path).expect("it is there"), text);
    }
}

#[test]
fn configuration_errors_name_the_line() {
    let mut world = World::new();
    fs::create_dir_all(world.home()).expect("a folder");
    fs::write(world.home().join("config"), "# mine\nMAX_CONCURENT_AGENTS=2\n").expect("a file");
    let ran = world.run(&["queue", "list"]);
    let place = world.home().join("config").display().to_string();
    assert_eq!(ran.code, 1);
    assert_eq!(
        ran.stderr,
        format!(
            "error: {place}:2: there is no key MAX_CONCURENT_AGENTS \
             (did you mean MAX_CONCURRENT_AGENTS?)\n"
        )
    );
    fs::remove_file(world.home().join("config")).expect("it is ours");
    world.set("KUGETSU_DIR", "/proc/no/such");
    let ran = world.run(&["queue", "list"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("cannot make /proc/no/such"), "{}", ran.stderr);
}

#[test]
fn a_file_in_the_place_of_a_folder_is_named() {
    let mut world = World::new();
    world.agent("exit 0");
    world.enqueue(1, &[]);
    fs::write(world.home().join("runs"), "").expect("a file");
    let ran = world.run(&["worker", "--once"]);
    assert_eq!(ran.code, 1);
    let words = format!("cannot make folders in {}", world.home().display());
    assert!(ran.stderr.contains(&words), "{}", ran.stderr);
    assert_eq!(world.state(1), "pending");
}

#[test]
fn a_missing_agent_is_said_once_and_at_the_start() {
    let mut world = World::new();
    world.set("KUGETSU_AGENT_COMMAND", "no-such-agent run");
    for arguments in [&["worker", "--once"][..], &["continue", "git.test/o/r#1", "go"]] {
        let ran = world.run(arguments);
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains("'no-such-agent' is not installed"), "{}", ran.stderr);
    }
    assert_eq!(stats(&world)["total"], 0);
}

#[test]
fn logs_are_shown_and_followed_to_the_end() {
    let mut world = World::new();
    let root = world.root();
    world.agent(&format!(
        "echo first; touch {0}/begun; until [ -e {0}/go ]; do sleep 0.02; done; echo last; exit 1",
        root.display()
    ));
    world.set("KUGETSU_MAX_ATTEMPTS", "1");
    let id = world.enqueue(1, &[]);
    let text = id.to_string();
    let early = world.run(&["logs", &text]);
    assert_eq!(early.code, 1);
    assert!(early.stderr.contains("has no log yet: it is pending"), "{}", early.stderr);
    let follower = world.command(&["logs", "git.test/o/r#1", "-f"]).spawn().expect("it runs");
    let _worker = world.worker(&[]);
    wait_for("the agent", || root.join("begun").exists().then_some(()));
    fs::write(root.join("go"), "").expect("a file");
    let followed = follower.wait_with_output().expect("it ends with the job");
    let shown = world.ok(&["logs", &text]);
    assert_eq!(String::from_utf8_lossy(&followed.stdout), shown);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("--- ") && lines[0].ends_with("git.test/o/r#1, attempt 1"));
    assert_eq!(lines[1..], ["first", "last"]);
}

#[test]
fn the_demo_shows_the_whole_pipeline() {
    let world = World::new();
    let mut demo = world.command(&["demo", "--jobs=4", "--format=json"]);
    let output = demo.stdin(Stdio::null()).output().expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*stderr), (Some(0), ""));
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let items = list["items"].as_array().expect("items");
    assert_eq!(items.len(), 4);
    assert!(items.iter().all(|item| item["state"] == "completed"), "{list:#}");
    assert_eq!(items[3]["attempt"], 2, "the staged failure was tried again");
    assert!(!world.home().exists(), "a person's own folder is left out of it");

    let text = world.ok(&["demo", "--jobs=2", "--keep"]);
    assert!(text.contains("✓  2  tour#2   completed  1 commit in "), "{text}");
    let place =
        text.lines().find_map(|line| line.strip_prefix("When you have seen enough:  rm -rf "));
    let place = Path::new(place.expect("it says where everything lies"));
    for issue in [1, 2] {
        let clone = place.join(format!("kugetsu/worktrees/demo.local+demo+tour+{issue}"));
        let branch = format!("issue-{issue}");
        assert_eq!(world.git(&clone, &["rev-list", "--count", &branch, "^origin/main"]), "1");
    }
    fs::remove_dir_all(place).expect("it is ours");
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let mut world = World::new();
    world.set("TMPDIR", world.root().to_str().expect("letters"));
    let mut demo = Background::spawn(world.command(&["demo", "--jobs=3"]).stdout(Stdio::null()));
    let folder = wait_for("an agent of the demo", || {
        let entries = fs::read_dir(world.root()).expect("a folder").flatten();
        let mut demos =
            entries.filter(|e| e.file_name().to_string_lossy().starts_with("kugetsu-demo"));
        let folder = demos.next()?.path();
        let text = fs::read_to_string(folder.join("kugetsu/logs/dev-1.log")).ok()?;
        text.contains("reading the issue").then_some(folder)
    });
    let marker = format!("KUGETSU_RUN={}/kugetsu/runs/1-1-1", folder.display());
    assert!(!crate::support::processes_with(&marker).is_empty());
    demo.signal(Signal::SIGINT);
    assert_eq!(demo.wait().code(), Some(130));
    assert!(crate::support::processes_with(&marker).is_empty());
    assert!(!folder.exists());
}

#[test]
fn a_demo_in_a_git_hook_minds_its_own_repository() {
    let mut world = World::new();
    let victim = world.root().join("remote/o/r.git");
    let before = world.git(&victim, &["rev-list", "--all", "--count"]);
    world.set("GIT_DIR", victim.to_str().expect("letters"));
    world.ok(&["demo", "--jobs=1"]);
    world.set("GIT_DIR", ".");
    assert_eq!(world.git(&victim, &["rev-list", "--all", "--count"]), before);
}

#[test]
fn many_jobs_are_cancelled_in_slices() {
    let world = World::new();
    world.enqueue(1, &[]);
    let ids: Vec<String> = (1..=1500).map(|id: u32| id.to_string()).collect();
    let arguments: Vec<&str> =
        ["queue", "cancel"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    let ran = world.run(&arguments);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, "Cancelled 1: git.test/o/r#1\n"));
    assert_eq!(ran.stderr.matches("there is no job").count(), 1499);
}
