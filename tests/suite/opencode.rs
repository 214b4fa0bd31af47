//! The real opencode, offline, against a scripted model on this machine.

use std::fs;
use std::io::Write;

use serde_json::{Value, json};

use crate::support::World;
use crate::support::model_server::{
    ModelServer, Reply, carries_tools, opencode_config, opencode_env,
};

/// A world whose agent is the real opencode; `None`, and a loud line, where there is none.
#[expect(clippy::disallowed_methods, reason = "tests/run tells where opencode is")]
fn world(server: &ModelServer) -> Option<World> {
    let Ok(opencode) = std::env::var("KUGETSU_TEST_OPENCODE") else {
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
    assert_eq!(job["attempts"][0]["reason"], "start_failed", "{job:#}");
    assert_ne!(job["session"], session);
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
