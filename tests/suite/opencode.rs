//! The real opencode, offline, against a scripted model on this machine.

use std::fs;
use std::io::Write;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::model_server::{
    ModelServer, Reply, carries_tools, opencode_config, opencode_env,
};
use crate::support::{World, is_alive, processes_with, wait_for};

#[expect(clippy::disallowed_methods, reason = "tests/run tells where opencode is")]
fn opencode() -> Option<String> {
    std::env::var("KUGETSU_TEST_OPENCODE").ok()
}

/// A world whose agent is the real opencode; `None`, and a loud line, where there is none.
fn world(server: &ModelServer) -> Option<World> {
    let Some(opencode) = opencode() else {
        // Past the capture of the test runner, so that it is seen.
        let _ = std::io::stderr().write_all(
            b"\n*** SKIPPED: a test with the real opencode (run ./tests/run to have it) ***\n",
        );
        return None;
    };
    let mut world = World::new();
    let root = world.root();
    let config = root.join("opencode.json");
    fs::write(&config, opencode_config(&server.url())).expect("a file");
    for (name, value) in opencode_env(&root.join("home"), &config) {
        world.set(&name, &value);
    }
    let default = kugetsu::config::KEYS.iter().find(|key| key.name == "KUGETSU_AGENT_COMMAND");
    let template = default.expect("the key is there").default;
    world.set("KUGETSU_AGENT_COMMAND", &template.replacen("opencode", &opencode, 1));
    Some(world)
}

fn commit(file: &str) -> Reply {
    let command = format!("pwd > {file} && git add {file} && git commit -qm 'add {file}'");
    Reply::Bash { command }
}

/// The texts of the user's messages in a request.
fn user_texts(request: &Value) -> Vec<String> {
    let messages = request["messages"].as_array().expect("messages");
    let of_user = messages.iter().filter(|message| message["role"] == "user");
    of_user.map(|message| message["content"].to_string()).collect()
}

#[test]
fn opencode_commits_and_a_second_job_continues_its_session() {
    let server = ModelServer::start(vec![
        commit("one"),
        Reply::Text("first answer".into()),
        commit("two"),
        Reply::Text("second answer".into()),
    ]);
    let Some(world) = world(&server) else { return };
    let first = world.enqueue(1, &[]);
    world.work();
    let job = world.job(first);
    assert_eq!(job["state"], "completed", "{job:#}\n{}", world.log(first));
    let session = job["session"].as_str().expect("opencode named its session").to_string();
    assert!(session.starts_with("ses_"), "{session}");
    let worktree = world.worktree(1);
    let pwd = fs::read_to_string(worktree.join("one")).expect("the tool ran here");
    assert_eq!(pwd.trim(), worktree.display().to_string());
    assert_eq!(world.git(&worktree, &["log", "--format=%s"]), "add one\nbegin");
    assert_eq!(world.git(&worktree, &["status", "--porcelain"]), "");

    let said = world.ok(&["continue", "git.test/o/r#1", "and now the second", "--wait"]);
    assert_eq!(
        said.lines().next(),
        Some(&*format!("Session continued for 'git.test/o/r#1': {session}"))
    );
    assert_eq!(said.lines().nth(2), Some(&*format!("{}-{session}-forked", worktree.display())));
    assert_eq!(world.git(&worktree, &["log", "--format=%s"]), "add two\nadd one\nbegin");
    let requests: Vec<Value> = server.requests().into_iter().filter(carries_tools).collect();
    assert_eq!(requests.len(), 4, "two replies a job");
    let texts = user_texts(&requests[2]);
    assert!(texts[0].contains("fix it"), "the first conversation is there: {texts:?}");
    assert!(texts.last().is_some_and(|text| text.contains("and now the second")), "{texts:?}");
    world.assert_no_process_left();
}

#[test]
fn opencode_that_only_talks_is_no_completion_and_a_dirty_tree_is_reminded_of() {
    let server = ModelServer::start(vec![
        Reply::Text("nothing to do".into()),
        Reply::Bash { command: "echo x > dirty".into() },
        Reply::Text("did it".into()),
        Reply::Bash { command: "git add dirty && git commit -qm dirty".into() },
        Reply::Text("committed".into()),
    ]);
    let Some(world) = world(&server) else { return };
    let talk = world.enqueue(1, &[]);
    world.work();
    assert_eq!(world.job(talk)["reason"], "no_changes", "{}", world.log(talk));
    let dirty = world.enqueue(1, &[]);
    world.work();
    let job = world.job(dirty);
    assert_eq!((&job["state"], &job["reason"]), (&json!("completed"), &json!("done")), "{job:#}");
    let requests: Vec<Value> = server.requests().into_iter().filter(carries_tools).collect();
    let last = user_texts(requests.last().expect("there are some"));
    assert!(last.iter().any(|text| text.contains("without a commit")), "{last:?}");
}

/// The shim of the only run.
fn shim(world: &World) -> i32 {
    let marker = format!("KUGETSU_DIR={}", world.home().display());
    let is_shim = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "kugetsu-shim"
    };
    wait_for("a shim", || processes_with(&marker).into_iter().find(is_shim))
}

#[test]
fn opencode_is_taken_over_and_one_that_lost_its_shim_is_ended_and_goes_on_in_its_session() {
    let root_of_replies = tempfile::tempdir().expect("a temporary folder");
    let root = root_of_replies.path().display();
    let server = ModelServer::start(vec![
        Reply::Bash {
            command: format!(
                "echo $$ > {root}/first; until [ -e {root}/go ]; do sleep 0.05; done; \
                 echo x > one && git add one && git commit -qm one"
            ),
        },
        Reply::Text("done".into()),
        Reply::Bash { command: format!("echo $$ > {root}/second; exec sleep 1000") },
        commit("two"),
        Reply::Text("done".into()),
    ]);
    let Some(world) = world(&server) else { return };
    let pid = |name: &str| {
        wait_for("opencode's tool", || {
            let text = fs::read_to_string(root_of_replies.path().join(name)).ok()?;
            text.trim().parse::<i32>().ok()
        })
    };
    let id = world.enqueue(1, &[]);
    let mut worker = world.worker(&[]);
    let tool = pid("first");
    worker.kill();
    assert!(is_alive(tool));
    let mut worker = world.worker(&[]);
    wait_for("the adoption", || {
        let log = fs::read_to_string(world.root().join("worker.log")).ok()?;
        log.contains("taken over from a worker that is gone").then_some(())
    });
    fs::write(root_of_replies.path().join("go"), "").expect("a file");
    let job = world.ended(id);
    assert_eq!(job["state"], "completed", "{job:#}\n{}", world.log(id));
    assert_eq!((job["attempts"].as_array().map(Vec::len), &job["commits"]), (Some(1), &json!(1)));
    let session = job["session"].as_str().expect("it is known").to_string();

    let id = world.enqueue(1, &[]);
    let tool = pid("second");
    worker.kill();
    let shim = shim(&world);
    kill(Pid::from_raw(shim), Signal::SIGKILL).expect("it is ours");
    assert!(is_alive(tool), "it has a session of its own");
    let _worker = world.worker(&[]);
    let job = world.ended(id);
    assert!(!is_alive(tool));
    let reasons: Vec<&Value> =
        job["attempts"].as_array().expect("attempts").iter().map(|a| &a["reason"]).collect();
    assert_eq!(reasons, ["lost", "done"], "{job:#}\n{}", world.log(id));
    assert_eq!(job["session"], session);
    assert_eq!(job["usage"]["steps"], 2, "{job:#}");
    let log = world.git(&world.worktree(1), &["log", "--format=%s"]);
    assert_eq!(log, "add two\none\nbegin");
}

#[test]
fn a_forgotten_session_is_begun_anew() {
    let server = ModelServer::start(vec![
        commit("one"),
        Reply::Text("first answer".into()),
        commit("two"),
        Reply::Text("second answer".into()),
    ]);
    let Some(world) = world(&server) else { return };
    let first = world.enqueue(1, &[]);
    world.work();
    let session = world.job(first)["session"].clone();
    let data = world.root().join("home");
    let databases = find(&data, "opencode.db");
    assert!(!databases.is_empty(), "opencode keeps its sessions below {}", data.display());
    for file in databases {
        fs::remove_file(file).expect("it is ours");
    }
    let second = world.enqueue(1, &[]);
    world.work();
    let job = world.job(second);
    assert_eq!(job["state"], "completed", "{job:#}\n{}", world.log(second));
    assert_eq!(job["attempts"][0]["reason"], "done", "in the same attempt: {job:#}");
    assert_ne!(job["session"], session);
}

/// Runs opencode in a folder below the world's, as a person would.
fn in_folder(world: &World, folder: &str, line: &str) -> String {
    let opencode = opencode().expect("there is a world");
    let ran = world.shell(&format!("cd {folder} && {}", line.replace("opencode", &opencode)));
    assert_eq!(ran.code, 0, "{line}: {}", ran.stderr);
    ran.stdout
}

/// Makes a base session in another folder, as a person leaves one that works in a terminal: free
/// to ask questions.
fn make_base(world: &World) -> String {
    let run = "echo learn the code | PWD=$(pwd) opencode run --auto --format json --title base";
    world.git(&world.root(), &["clone", "-q", "remote/o/r.git", "base"]);
    let said = in_folder(world, "base", run);
    let first: Value = serde_json::from_str(said.lines().next().expect("a line")).expect("JSON");
    let base = first["sessionID"].as_str().expect("a session").to_string();
    let mut document = export(world, &base);
    document["info"].as_object_mut().expect("it has some").remove("permission");
    fs::write(world.root().join("base.json"), document.to_string()).expect("a file");
    let again = format!("PWD=$(pwd) opencode import {}", world.root().join("base.json").display());
    in_folder(world, "base", &format!("opencode session delete {base}"));
    in_folder(world, "base", &again);
    base
}

fn export(world: &World, session: &str) -> Value {
    let said = in_folder(world, ".", &format!("opencode export {session}"));
    serde_json::from_str(&said).expect("JSON")
}

#[test]
fn opencode_begins_with_a_copy_of_the_base_session_in_the_worktree() {
    let server = ModelServer::start(vec![
        Reply::Text("I know the code now".into()),
        commit("one"),
        Reply::Text("first answer".into()),
        commit("two"),
        Reply::Text("second answer".into()),
    ]);
    let Some(mut world) = world(&server) else { return };
    let base = make_base(&world);
    let before = export(&world, &base);
    world.set("KUGETSU_BASE_SESSION", &base);
    // As a shell leaves it to its programs: the folder that the worker was started in.
    world.set("PWD", &world.root().display().to_string());
    let jobs = [(); 2].map(|()| {
        let id = world.enqueue(1, &[]);
        world.work();
        let job = world.job(id);
        assert_eq!(job["state"], "completed", "{job:#}\n{}", world.log(id));
        job
    });
    let session = jobs[0]["session"].as_str().expect("a session").to_string();
    assert_ne!(session, base);
    assert_eq!(jobs[1]["session"], session, "the second job goes on with it");
    let worktree = world.worktree(1);
    for file in ["one", "two"] {
        let pwd = fs::read_to_string(worktree.join(file)).expect("the tool ran here");
        assert_eq!(pwd.trim(), worktree.display().to_string());
    }

    let requests: Vec<Value> = server.requests().into_iter().filter(carries_tools).collect();
    assert_eq!(requests.len(), 5, "one reply for the base, two a job");
    let [first, second] = [&requests[1], &requests[3]].map(user_texts);
    assert!(first[0].contains("learn the code") && first[1].contains("fix it"), "{first:?}");
    assert_eq!((first.len(), second.len()), (2, 3), "{second:?}");
    assert_eq!(second[..2], first, "the same conversation");
    assert!(requests[1].to_string().contains("I know the code now"));
    let tools = requests[1]["tools"].as_array().expect("tools");
    assert!(tools.iter().all(|tool| tool["function"]["name"] != "question"), "nobody answers");

    assert_eq!(export(&world, &base), before, "the base is as it was");
    assert!(before["info"]["permission"].is_null(), "it was free to ask");
    let list = in_folder(&world, "base", "opencode session list --format json");
    let list: Value = serde_json::from_str(&list).expect("JSON");
    let mut folders: Vec<(&str, &str)> = list
        .as_array()
        .expect("sessions")
        .iter()
        .filter_map(|entry| Some((entry["id"].as_str()?, entry["directory"].as_str()?)))
        .collect();
    folders.sort_by_key(|(id, _)| *id == base);
    let other = world.root().join("base");
    let expected = [(&*session, &worktree), (&*base, &other)]
        .map(|(id, folder)| (id, folder.to_str().expect("letters")));
    assert_eq!(folders, expected, "each in its own folder");
    world.assert_no_process_left();
}

#[test]
fn opencode_that_does_not_know_the_base_session_says_so() {
    let server = ModelServer::start(vec![]);
    let Some(mut world) = world(&server) else { return };
    world.set("KUGETSU_BASE_SESSION", "ses_000000000000Unknown");
    let id = world.enqueue(1, &[]);
    world.work();
    let job = world.job(id);
    assert_eq!(job["reason"], "start_failed", "{job:#}");
    let detail = job["detail"].as_str().expect("a detail");
    assert!(detail.contains("KUGETSU_BASE_SESSION=ses_000000000000Unknown: "), "{detail}");
    assert!(detail.contains("export: Error: Session not found: ses_000000000000Unknown"));
    assert!(server.requests().is_empty(), "no agent ran");
}

fn find(folder: &std::path::Path, beginning: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(find(&path, beginning));
        } else if entry.file_name().to_string_lossy().starts_with(beginning) {
            found.push(path);
        }
    }
    found
}
