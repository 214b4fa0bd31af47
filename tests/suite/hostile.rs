//! A repository, an agent or a neighbour that means harm, or just plants what programs plant.

use std::fs;
use std::io::Write;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{World, is_alive, wait_for};

const KUGETSU: &str = env!("CARGO_BIN_EXE_kugetsu");

const COMMIT: &str = "echo work >> work.txt; git add work.txt; git commit -qm work";

/// A file outside of everything that an agent is to touch.
fn precious(world: &World) -> std::path::PathBuf {
    let file = world.root().join("precious");
    fs::write(&file, "precious\n").expect("a file");
    file
}

fn assert_precious(world: &World, what: &str) {
    let text = fs::read_to_string(world.root().join("precious")).expect("it is there");
    assert_eq!(text, "precious\n", "{what}");
}

fn skipped(why: &str) {
    let line = format!("\n*** SKIPPED: {why} ***\n");
    std::io::stderr().write_all(line.as_bytes()).expect("standard error");
}

/// Adds a commit of files and links to the remote's `main`.
fn repository_brings(world: &World, script: &str) {
    let line = format!(
        "set -e; git clone -q remote/o/r.git planted; cd planted; {script}; \
         git add -A -f; git commit -qm planted; git push -q origin HEAD:main"
    );
    let ran = world.shell(&line);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn what_a_repository_brings_along_is_never_written_through() {
    let mut world = World::new();
    let precious = precious(&world);
    repository_brings(
        &world,
        &format!(
            "mkdir .kugetsu; for name in msg.tmp msg.txt message.txt context.txt context.tmp; do \
             ln -s {} .kugetsu/$name; done; ln -s .kugetsu agent",
            precious.display()
        ),
    );
    world.agent(&format!("cat > {}/seen; {COMMIT}", world.root().display()));
    let id = world.enqueue(1, &[]);
    world.work();
    assert_eq!(world.state(id), "completed", "{}", world.log(id));
    assert_eq!(fs::read_to_string(world.root().join("seen")).expect("it is there"), "fix it");
    assert_precious(&world, "before any agent ran");
}

#[test]
fn a_program_of_the_repository_is_not_the_agent() {
    let mut world = World::new();
    let mark = world.root().join("evil-ran");
    repository_brings(
        &world,
        &format!(
            "mkdir bin; printf '#!/bin/sh\\ntouch {}\\n' > evil; chmod +x evil; cp evil bin/evil",
            mark.display()
        ),
    );
    let path = world.environment()["PATH"].clone();
    for (command, path, expected) in [
        ("evil", format!(".:{path}"), "it is in no folder of PATH"),
        ("evil", format!(":{path}"), "it is in no folder of PATH"),
        ("evil", format!("bin:{path}:"), "it is in no folder of PATH"),
        ("evil", format!("{}/bin:{path}", world.worktree(1).display()), "it is in no folder"),
        ("./evil", path.clone(), "a relative path would be looked for in the repository"),
        ("bin/evil", path.clone(), "a relative path would be looked for in the repository"),
    ] {
        world.set("KUGETSU_AGENT_COMMAND", command);
        world.set("PATH", &path);
        let id = world.enqueue(1, &[]);
        let ran = world.run(&["worker", "--once"]);
        // A worker may refuse such a command at its start already.
        if ran.code == 0 {
            let job = world.job(id);
            assert_eq!(job["reason"], "start_failed", "{command} {path}: {job:#}");
            let detail = job["detail"].as_str().expect("a text");
            assert!(detail.contains(expected), "{command} {path}: {detail}");
        } else {
            world.ok(&["queue", "cancel", &id.to_string()]);
        }
        assert!(!mark.exists(), "{command} {path}");
    }
}

/// Plants a thing at `$place`.
const PLANTS: [(&str, &str); 6] = [
    ("pipe", "mkfifo \"$place\""),
    ("link", "ln -s \"$precious\" \"$place\""),
    ("dangling link", "ln -s /nonexistent/x \"$place\""),
    ("endless link", "ln -s /dev/zero \"$place\""),
    ("folder", "mkdir \"$place\""),
    ("huge file", "truncate -s 1T \"$place\""),
];

/// Where an agent can plant something, and what becomes of its run then: it commits before.
const PLACES: [(&str, &[&str]); 13] = [
    ("$KUGETSU_RUN/exit.json", &["done"]),
    ("$KUGETSU_RUN/exit.tmp", &["done"]),
    ("$KUGETSU_RUN/spec.json", &["done"]),
    ("$KUGETSU_RUN/plan.json", &["done"]),
    ("$KUGETSU_RUN/started", &["done"]),
    ("$KUGETSU_RUN/ending", &["done"]),
    ("$KUGETSU_RUN/heard", &["done"]),
    ("$KUGETSU_RUN/cgroup", &["done"]),
    ("$KUGETSU_RUN/shim.log", &["done"]),
    ("$KUGETSU_RUN/launch", &["done"]),
    ("$KUGETSU_RUN/lock", &["done", "lost"]),
    ("$KUGETSU_MESSAGE_FILE", &["done"]),
    ("$KUGETSU_RESULT", &["done", "agent_error"]),
];

#[test]
fn whatever_an_agent_plants_in_its_run_nothing_hangs() {
    let mut world = World::new();
    let precious = precious(&world);
    world.set("KUGETSU_MAX_ATTEMPTS", "1");
    world.agent("eval \"$(cat)\"");
    let mut jobs = Vec::new();
    for (place, reasons) in PLACES {
        for (name, plant) in PLANTS {
            let script = format!(
                "{COMMIT}; place=\"{place}\"; precious={}; rm -rf \"$place\"; {plant}",
                precious.display()
            );
            let issue = format!("git.test/o/r#{}", jobs.len() + 1);
            world.ok(&["queue", "enqueue", &issue, &script]);
            jobs.push((jobs.len() as u64 + 1, format!("{name} at {place}"), reasons));
        }
    }
    world.set("MAX_CONCURRENT_AGENTS", "4");
    world.work();
    for (id, what, reasons) in jobs {
        let job = world.job(id);
        let reason = job["reason"].as_str().unwrap_or_default();
        assert!(reasons.contains(&reason), "{what}: {job:#}");
    }
    assert_precious(&world, "by a plant");
    world.assert_no_process_left();
}

#[test]
fn whatever_an_agent_does_to_its_log_it_is_kept_and_its_size_has_a_limit() {
    for (what, deed) in [
        ("remove", "rm $log"),
        ("rename", "mv $log $log.old"),
        ("replace", "rm $log; ln -s $precious $log"),
        ("pipe", "rm $log; mkfifo $log"),
        ("cut", ": > $log"),
    ] {
        let mut world = World::new();
        let precious = precious(&world);
        world.set("KUGETSU_LOG_MAX", "100KiB");
        world.set("KUGETSU_MAX_ATTEMPTS", "1");
        let log = world.home().join("logs/dev-1.log");
        world.agent(&format!(
            "log={}; precious={}; {deed}; yes flood",
            log.display(),
            precious.display()
        ));
        let id = world.enqueue(1, &[]);
        world.work();
        let job = world.job(id);
        assert_eq!(job["reason"], "log_limit", "{what}: {job:#}");
        assert!(world.log(id).contains("flood\nflood"), "{what}: it is put back");
        assert_precious(&world, what);
        let shown = world.run(&["logs", &id.to_string()]);
        assert_eq!(shown.code, 0, "{what}: {}", shown.stderr);
        world.assert_no_process_left();
    }
}

#[test]
fn an_agent_that_kills_its_shim_and_forges_a_record_is_not_believed() {
    let mut world = World::new();
    let record = json!({
        "cause": "exited", "exit_code": 0, "signal": null, "detail": "", "wall_ms": 1,
        "cpu_ms": 1, "peak_memory_kib": 1, "log_bytes": 1, "left_behind": 0,
        "usage": {"steps": 7, "tokens_in": 1, "tokens_out": 1, "cost_micros": 1},
    });
    let root = world.root();
    world.agent(&format!(
        "{COMMIT}; if [ $KUGETSU_ATTEMPT = 1 ]; then kill -KILL $PPID; \
         echo '{record}' > $KUGETSU_RUN/exit.json; echo $$ > {}/forger; exec sleep 1000; fi",
        root.display()
    ));
    let id = world.enqueue(1, &[]);
    world.work();
    let forger = world.file("forger").trim().parse().expect("a pid");
    assert!(!is_alive(forger), "it ended before the next one began");
    let job = world.job(id);
    let first = &job["attempts"][0];
    assert_eq!(first["reason"], "lost", "{job:#}");
    assert_eq!(first["usage"]["steps"], 0, "{job:#}");
    assert_eq!(job["attempts"].as_array().map(Vec::len), Some(2), "{job:#}");
    world.assert_no_process_left();
}

#[test]
fn a_neighbour_that_locks_the_queue_makes_it_busy_and_not_damaged() {
    let world = World::new();
    world.enqueue(1, &[]);
    let queue = world.home().join("queue.redb");
    let held = world.root().join("held");
    let line = format!(
        "flock -x {} sh -c 'echo $$ > {}; exec sleep 1000'",
        queue.display(),
        held.display()
    );
    let mut neighbour = world.background_shell(&line);
    world.file("held");
    for arguments in [&["queue", "list"][..], &["queue", "enqueue", "git.test/o/r#2", "more"]] {
        let ran = world.run(arguments);
        assert_eq!(ran.code, 4, "{arguments:?}: {}", ran.stderr);
        assert!(!ran.stderr.contains("damaged"), "{}", ran.stderr);
        assert!(ran.stderr.contains("flock") || ran.stderr.contains("sleep"), "{}", ran.stderr);
    }
    neighbour.kill();
    // Killing flock leaves the lock with what it started.
    let pid = fs::read_to_string(&held).expect("it is there").trim().parse().expect("a pid");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it is ours");
    wait_for("the lock to fall free", || (world.run(&["queue", "list"]).code == 0).then_some(()));
}

/// A run's folder with a spec, to be handed to a shim.
fn spec(world: &World, script: &str, more: Value) -> std::path::PathBuf {
    let root = world.root();
    let run = root.join("run");
    for folder in ["run", "run/agent", "run/agent/tmp", "clone"] {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    fs::write(root.join("stdin"), "").expect("a file");
    fs::write(root.join("log"), "").expect("a file");
    let mut spec = json!({
        "arguments": ["sh", "-c", script],
        "folder": root.join("clone"), "stdin": root.join("stdin"), "log": root.join("log"),
        "environment": [["KUGETSU_RUN", run]], "environment_removed": [],
        "timeout_ms": 60_000, "kill_grace_ms": 100, "log_bytes_max": 100_000,
    });
    for (name, value) in more.as_object().expect("an object") {
        spec[name] = value.clone();
    }
    fs::write(run.join("spec.json"), spec.to_string()).expect("a file");
    run
}

/// Has a shim run it to its end, and gives its record and its log.
fn shim(world: &World, run: &Path) -> (Value, String) {
    let ran = world.run_with_input(&["shim", &run.display().to_string()], b"Gn0nce");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "ready\n"), "{}", ran.stderr);
    let record = fs::read(run.join("exit.json")).expect("a record");
    let record: Value = serde_json::from_slice(&record).expect("JSON");
    assert_eq!(record["nonce"], "n0nce", "{record:#}");
    (record, fs::read_to_string(world.root().join("log")).expect("a log"))
}

#[test]
fn a_sandbox_lets_an_agent_write_where_it_works_and_nowhere_else() {
    let world = World::new();
    precious(&world);
    let root = world.root();
    fs::create_dir(root.join("cache")).expect("a folder");
    let script = format!(
        "cd {0}; t() {{ if sh -c \"$2\" 2>> clone/errors; then echo $1 yes; else echo $1 no; fi; }}; \
         t clone 'echo x > clone/x'; t own 'echo x > run/agent/x'; t tmp 'echo x > run/agent/tmp/x'; \
         t cache 'echo x > cache/x'; t null 'echo x > /dev/null'; t made 'echo x > made/x'; \
         t write 'echo x > precious'; t create 'echo x > new'; t cut ': > precious'; \
         t remove 'rm precious'; t rename 'mv precious clone/'; t link 'ln precious clone/p'; \
         t record 'echo {{}} > run/exit.json'; t run 'rm -f run/spec.json'; t shim 'kill -0 '$PPID; \
         t read 'cat precious'; t child 'setsid -w sh -c \"echo x > new\"'; t self 'kill -0 $$'",
        root.display()
    );
    let sandbox = json!({"writable": [root.join("cache")], "made": [root.join("made")]});
    let run = spec(&world, &script, json!({"sandbox": sandbox}));
    let ran = world.run_with_input(&["shim", &run.display().to_string()], b"Gn0nce");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let record = fs::read_to_string(run.join("exit.json")).expect("a record");
    if record.contains("Landlock") {
        return skipped("this kernel has no Landlock: what a sandbox confines was not tested");
    }
    let said = fs::read_to_string(root.join("log")).expect("a log");
    for (what, expected) in [
        ("clone", "yes"),
        ("own", "yes"),
        ("tmp", "yes"),
        ("cache", "yes"),
        ("null", "yes"),
        ("made", "yes"),
        ("read", "yes"),
        ("self", "yes"),
        ("write", "no"),
        ("create", "no"),
        ("cut", "no"),
        ("remove", "no"),
        ("rename", "no"),
        ("link", "no"),
        ("record", "no"),
        ("run", "no"),
        ("child", "no"),
    ] {
        assert!(said.lines().any(|line| line == format!("{what} {expected}")), "{what}:\n{said}");
    }
    if !said.lines().any(|line| line == "shim no") {
        skipped("this kernel's Landlock does not hold back signals (Linux 6.12 does)");
    }
    let record: Value = serde_json::from_str(&record).expect("JSON");
    assert_eq!((&record["cause"], &record["exit_code"]), (&json!("exited"), &json!(0)));
    assert_precious(&world, "from inside");
}

#[test]
fn what_a_sandbox_cannot_have_is_a_start_that_failed() {
    for (arguments, sandbox, expected) in [
        (json!(["no-such-agent"]), json!({}), "no-such-agent: it is in no folder of PATH"),
        (json!(["{root}/bad"]), json!({}), "bad: No such file or directory"),
        (json!(["true"]), json!({"writable": ["{root}/none"]}), "none: No such file"),
        (json!(["true"]), json!({"writable": ["{root}/link"]}), "it is a link; name"),
        (json!(["true"]), json!({"made": ["{root}/log/x"]}), "log is a file; move it away"),
    ] {
        let world = World::new();
        let root = world.root().display().to_string();
        let filled = |value: &Value| -> Value {
            serde_json::from_str(&value.to_string().replace("{root}", &root)).expect("JSON")
        };
        // Its interpreter is not there, which is known when it is started.
        let bad = world.shell("printf '#!/no/such/shell\\n' > bad; chmod +x bad; ln -s /tmp link");
        assert_eq!(bad.code, 0, "{}", bad.stderr);
        let more = json!({"arguments": filled(&arguments), "sandbox": filled(&sandbox)});
        let (record, _) = shim(&world, &spec(&world, "", more));
        if record["detail"].as_str().is_some_and(|detail| detail.contains("Landlock")) {
            return skipped("this kernel has no Landlock: its refusals were not tested");
        }
        assert_eq!(record["cause"], "not_started", "{record:#}");
        let detail = record["detail"].as_str().expect("a text");
        assert!(detail.contains(expected), "{expected}: {detail}");
    }
}

#[test]
fn steps_run_before_the_agent_and_a_failing_one_is_noted() {
    let world = World::new();
    let steps = json!([
        {"heading": "look around", "arguments": ["sh", "-c", "pwd; cat; echo $STEP_VARIABLE"]},
        {"heading": "fail", "arguments": ["sh", "-c", "echo no; exit 3"]},
        {"heading": "not there", "arguments": ["no-such-program"]},
    ]);
    let more = json!({
        "steps": steps,
        "environment": [["STEP_VARIABLE", "inherited"]],
    });
    let run = spec(&world, "echo agent: $(cat) as $$; exit 5", more);
    fs::write(world.root().join("stdin"), "message").expect("a file");
    let (record, log) = shim(&world, &run);
    let clone = world.root().join("clone").display().to_string();
    let expected = format!(
        "--- look around\n{clone}\ninherited\n--- fail\nno\n\
         --- fail failed: exit status: 3; the agent starts all the same\n--- not there\n\
         --- not there failed: cannot start: No such file or directory (os error 2); \
         the agent starts all the same\nagent: message as "
    );
    assert!(log.starts_with(&expected), "{log}");
    assert_eq!((&record["cause"], &record["exit_code"]), (&json!("exited"), &json!(5)));
}

#[test]
fn a_step_that_hangs_is_ended_with_its_run() {
    let world = World::new();
    let steps = json!([{"heading": "hang", "arguments": ["sleep", "1000"]}]);
    let more = json!({"steps": steps, "timeout_ms": 500});
    let (record, log) = shim(&world, &spec(&world, "echo agent", more));
    assert_eq!(record["cause"], "timeout", "{record:#}");
    assert_eq!(log, "--- hang\n");
    world.assert_no_process_left();
}

/// What opencode writes into its own log when its provider refuses, and prints nowhere.
fn opencode_log(root: &Path, error: &str) -> String {
    let line = |level: &str, rest: &str| {
        format!("timestamp=$(date -u +%Y-%m-%dT%H:%M:%S.000Z) level={level} run=1e84240b {rest}")
    };
    let clone = root.join("clone").display().to_string();
    let begin = line("INFO", &format!("message=\\\"creating instance\\\" directory={clone}"));
    let error = line(
        "ERROR",
        &format!(
            "message=\\\"stream error\\\" providerID=p modelID=m session.id=ses_deded2f55ffewpJpunzx0EUlBZ \
             small=false agent=build mode=primary error.error=\\\"AI_APICallError: {error}\\\""
        ),
    );
    let log = root.join("data/opencode/log");
    format!(
        "mkdir -p {0}; echo \"{begin}\" >> {0}/opencode.log; echo \"{error}\" >> {0}/opencode.log; \
         exec sleep 1000",
        log.display()
    )
}

#[test]
fn a_run_that_waits_for_its_provider_is_not_called_idle() {
    for (error, idle_ms) in [
        ("Weekly usage limit reached. Resets in 3 days.", 0),
        // It names no time: an agent may wait for it, as long as it may be idle.
        ("Rate limit exceeded. Please try again later.", 500),
    ] {
        let world = World::new();
        let root = world.root();
        let data = root.join("data");
        let more = json!({
            "environment": [["XDG_DATA_HOME", data]],
            "idle_ms": idle_ms,
        });
        let (record, _) = shim(&world, &spec(&world, &opencode_log(&root, error), more));
        assert_eq!(record["cause"], "provider_wait", "{error}: {record:#}");
        let trouble = &record["trouble"];
        assert_eq!(trouble["source"], "provider_log", "{record:#}");
        assert_eq!(trouble["until_ms"].is_null(), idle_ms > 0, "{record:#}");
        assert_eq!(record["session"], "ses_deded2f55ffewpJpunzx0EUlBZ", "{record:#}");
        world.assert_no_process_left();
    }
}

#[test]
fn who_ordered_an_end_is_written_down() {
    for (mark, expected) in [("", false), ("touch $KUGETSU_RUN/ending; ", true)] {
        let world = World::new();
        // An agent that ends its shim by itself is not to come back at once.
        let script = format!("{mark}kill -TERM $PPID; exec sleep 1000");
        let (record, _) = shim(&world, &spec(&world, &script, json!({})));
        assert_eq!(record["cause"], "terminated", "{record:#}");
        assert_eq!(record["was_ordered"], expected, "{record:#}");
        world.assert_no_process_left();
    }
}

#[test]
fn a_full_disk_delays_the_record_and_does_not_lose_it() {
    let world = World::new();
    let root = world.root();
    let script = format!(
        "echo $$ > {0}/agent-pid; cat /dev/zero > {0}/run/agent/filler 2>/dev/null; exit 4",
        root.display()
    );
    spec(&world, &script, json!({}));
    // A file system of its own, seen by these processes alone, and gone with them.
    let line = format!(
        "cat > in-namespace <<'EOF'\n\
         set -e; cp run/spec.json spec.json; mount -t tmpfs -o size=256k none run\n\
         mkdir -p run/agent; cp spec.json run/; echo mounted > mounted\n\
         printf Gn0nce | {KUGETSU} shim $PWD/run > ready & shim=$!\n\
         until [ -s agent-pid ] && ! [ -e /proc/$(cat agent-pid) ]; do sleep 0.02; done\n\
         [ ! -e run/exit.json ]; rm run/agent/filler; wait $shim; cp run/exit.json exit.json\n\
         EOF\n\
         unshare -m sh in-namespace"
    );
    let ran = world.shell(&line);
    if !root.join("mounted").exists() {
        return skipped("no file system can be mounted here: a full disk was not tested");
    }
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let record = fs::read(root.join("exit.json")).expect("a record");
    let record: Value = serde_json::from_slice(&record).expect("JSON");
    assert_eq!((&record["exit_code"], &record["nonce"]), (&json!(4), &json!("n0nce")));
}

#[test]
fn a_run_of_the_version_before_is_read() {
    let world = World::new();
    let root = world.root();
    fs::write(root.join("run-message"), "old message").expect("a file");
    let place = root.join("clone/.kugetsu/msg.txt");
    let more = json!({
        "stdin": place,
        "places": [[root.join("run-message"), place]],
    });
    let (record, log) = shim(&world, &spec(&world, "cat", more));
    assert_eq!((&record["exit_code"], log.as_str()), (&json!(0), "old message"));
}
