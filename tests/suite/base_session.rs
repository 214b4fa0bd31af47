//! Sessions that begin as a copy of a base, with a script in opencode's place.

use std::fs;

use serde_json::{Value, json};

use crate::support::{World, wait_for};

const BASE: &str = "ses_0123456789abBASE";

/// What the stand-in says at `import`, once it has taken the file.
const SAYS_SO: &str = "echo \"Imported session: $(cat $root/imported-id)\"";
const COMMITS: &str = "echo \"$*\" >> ran; git add ran; git commit -qm work";

/// A world whose opencode is a script. It notes its calls, and at `import` and `run` it does what
/// it is told.
fn world(import: &str, run: &str) -> World {
    let mut world = World::new();
    let root = world.root();
    let document = json!({
        "info": { "id": BASE, "title": "base", "directory": "/base" },
        "messages": [{
            "info": { "id": "msg_0123456789acBASE", "sessionID": BASE },
            "parts": [{ "id": "prt_0123456789adBASE", "text": BASE }],
        }],
    });
    fs::write(root.join("base.json"), document.to_string()).expect("a file");
    let script = format!(
        "#!/bin/sh
root={root}
echo \"$1 $(readlink /proc/$$/cwd)\" >> $root/calls
tr '\\0' '\\n' < /proc/$$/environ > $root/environment-$1
case $1 in
export)
    if [ $2 != {BASE} ]; then
        printf '\\033[91mError: \\033[0mSession not found: %s\\n' $2 >&2; exit 1
    fi
    cat $root/base.json ;;
import)
    cp \"$2\" $root/imported; stat -c '%a %n' \"$2\" > $root/imported-file
    sed 's/{{\"info\":{{\"id\":\"\\(ses_[^\"]*\\)\".*/\\1/' $root/imported > $root/imported-id
    {import} ;;
run)
    {run} ;;
esac
",
        root = root.display()
    );
    // Written by a shell: no thread of this process can have it open when it is run.
    let program = root.join("opencode");
    let line = format!("cat > {0} <<'END'\n{script}END\nchmod 755 {0}", program.display());
    assert_eq!(world.shell(&line).code, 0);
    world.set(
        "KUGETSU_AGENT_COMMAND",
        &format!("{} run [ --session {{session}} ]", program.display()),
    );
    world.set("KUGETSU_BASE_SESSION", BASE);
    world
}

fn calls(world: &World) -> Vec<String> {
    let calls = fs::read_to_string(world.root().join("calls")).unwrap_or_default();
    calls.lines().map(str::to_string).collect()
}

fn read(world: &World, name: &str) -> String {
    fs::read_to_string(world.root().join(name)).expect("it was written").trim_end().into()
}

#[test]
fn an_issue_begins_with_a_copy_of_the_base_and_goes_on_with_it() {
    let mut world = world(SAYS_SO, COMMITS);
    world.set("OPENCODE_SERVER_PASSWORD", "not for agents");
    world.set("GIT_DIR", "/nowhere");
    world.set("PWD", "/");
    let first = world.enqueue(1, &[]);
    world.work();
    let job = world.job(first);
    assert_eq!(job["state"], "completed", "{job:#}\n{}", world.log(first));
    let session = job["session"].as_str().expect("a session").to_string();
    assert_eq!(session, read(&world, "imported-id"));
    assert!(session.starts_with("ses_0123456789ab") && session != BASE, "{session}");
    let folder = world.worktree(1);
    let arguments = fs::read_to_string(folder.join("ran")).expect("it ran there");
    assert_eq!(arguments, format!("run --session {session}\n"));
    let call = |verb: &str| format!("{verb} {}", folder.display());
    assert_eq!(calls(&world), [call("export"), call("import"), call("run")]);
    for verb in ["export", "import"] {
        let environment = read(&world, &format!("environment-{verb}"));
        let home = format!("HOME={}/home", world.root().display());
        let pwd = format!("PWD={}", folder.display());
        for present in [&*home, &*pwd, "OPENCODE_DISABLE_PROJECT_CONFIG=1"] {
            assert!(environment.lines().any(|line| line == present), "{environment}");
        }
        for absent in ["OPENCODE_SERVER_PASSWORD", "GIT_DIR"] {
            assert!(!environment.contains(absent), "{environment}");
        }
    }

    let copy: Value = serde_json::from_str(&read(&world, "imported")).expect("JSON");
    let message = &copy["messages"][0];
    assert_eq!(copy["info"]["title"], format!("kugetsu:{first}:1"));
    assert_eq!(message["info"]["sessionID"], session);
    let id = message["info"]["id"].as_str().expect("an id");
    assert!(id.starts_with("msg_0123456789ac") && !id.ends_with("BASE"), "{id}");
    assert_eq!(message["parts"][0]["text"], BASE, "what was said stays");
    let file = read(&world, "imported-file");
    let (mode, file) = file.split_once(' ').expect("two words");
    assert_eq!(mode, "600");
    assert!(!std::path::Path::new(file).exists(), "{file} is gone");

    let second = world.enqueue(1, &[]);
    world.work();
    assert_eq!(world.job(second)["session"], session);
    assert_eq!(calls(&world)[3..], [call("run")], "the issue has its session");
    let other = world.enqueue(2, &[]);
    world.work();
    let other = world.job(other);
    assert_eq!(other["state"], "completed", "{other:#}");
    assert_ne!(other["session"], session, "another issue, another copy");
}

#[test]
fn an_unknown_base_is_said_so() {
    let mut world = world(SAYS_SO, COMMITS);
    world.set("KUGETSU_BASE_SESSION", "ses_nosuch");
    let id = world.enqueue(1, &[]);
    world.work();
    let job = world.job(id);
    assert_eq!((&job["state"], &job["reason"]), (&json!("error"), &json!("start_failed")));
    let detail = job["detail"].as_str().expect("a detail");
    for words in ["KUGETSU_BASE_SESSION=ses_nosuch", "opencode session list"] {
        assert!(detail.contains(words), "{detail}");
    }
    assert!(detail.contains("export: Error: Session not found: ses_nosuch ("), "{detail}");
    let calls = calls(&world);
    assert!(calls.iter().all(|call| call.starts_with("export ")), "no agent ran: {calls:?}");
    assert_eq!(calls.len(), 5, "a few tries: {calls:?}");
}

#[test]
fn an_import_that_fails_is_tried_again_for_free() {
    let flaky = format!(
        "case $(grep -c ^import $root/calls) in \
         1) echo 'Error: database is locked' >&2; exit 1 ;; \
         2) echo 'File not found' ;; \
         *) {SAYS_SO} ;; esac"
    );
    let world = world(&flaky, COMMITS);
    let id = world.enqueue(1, &["--max-attempts=1"]);
    world.work();
    let job = world.job(id);
    assert_eq!(job["state"], "completed", "{job:#}");
    let attempts: Vec<(&str, &str)> = job["attempts"]
        .as_array()
        .expect("attempts")
        .iter()
        .filter_map(|a| Some((a["reason"].as_str()?, a["detail"].as_str()?)))
        .collect();
    let [locked, silent, done] = attempts[..] else { panic!("{attempts:?}") };
    assert!(locked.0 == "start_failed" && locked.1.contains("database is locked"), "{locked:?}");
    assert!(silent.0 == "start_failed" && silent.1.contains("File not found"), "{silent:?}");
    assert_eq!(done.0, "done");
}

#[test]
fn a_copy_under_way_is_ended_by_a_cancel() {
    let world = world("sleep 1000 & wait", COMMITS);
    let id = world.enqueue(1, &[]);
    let worker = world.worker(&[]);
    world.file("imported-file");
    world.ok(&["queue", "cancel", &id.to_string()]);
    assert_eq!(world.ended(id)["reason"], "cancelled");
    drop(worker);
    world.assert_no_process_left();
    assert!(!calls(&world).iter().any(|call| call.starts_with("run ")));
}

#[test]
fn a_worker_killed_after_the_import_leaves_a_session_that_nobody_takes() {
    // Between the worker and its helper is a guard.
    let killing = format!(
        "if [ $(grep -c ^import $root/calls) = 1 ]; then \
             cp $root/imported-id $root/orphan; kill -9 $(cut -d' ' -f4 /proc/$PPID/stat); \
         fi; {SAYS_SO}"
    );
    let world = world(&killing, COMMITS);
    let id = world.enqueue(1, &["--max-attempts=1"]);
    let mut worker = world.worker(&[]);
    worker.wait();
    wait_for("the end of the import", || (calls(&world).len() == 2).then_some(()));
    world.work();
    let job = world.job(id);
    assert_eq!(job["state"], "completed", "{job:#}");
    assert_eq!(job["session"], read(&world, "imported-id"));
    assert_ne!(job["session"], read(&world, "orphan"));
}
