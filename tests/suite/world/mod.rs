//! The world outside, end to end: git, repositories and agents that do what they do, and a job that
//! ends rightly all the same. Each file is a kind, with its table of cases.

mod harm;
mod planted;
mod remote;
mod verdicts;
mod waiting;
mod worth;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::{REPOSITORY, World};

/// A commit that no other one is like.
const COMMIT: &str = "echo work of $KUGETSU_JOB >> work.txt; git add work.txt
    git commit -qm \"work of $KUGETSU_JOB\"";

/// A world whose agent reads, for each job, the script that `script` wrote for its issue. `$ROOT`,
/// `$REMOTE` and `$DRAFT`, a clone of the remote that is nobody's, are known to it.
fn world() -> World {
    let mut world = World::new();
    world.agent("exit 1");
    let root = world.root();
    let root = root.display();
    let agent = world.root().join("agent.sh");
    let known = format!(
        "ROOT={root}; REMOTE={root}/remote/o/r.git; DRAFT={root}/by-hand; export ROOT REMOTE DRAFT\n\
         commit() {{ {COMMIT}; }}\n\
         news() {{ git -C $DRAFT pull -q && echo $1 >> $DRAFT/$2 && git -C $DRAFT add . && \
         git -C $DRAFT commit -qm \"news in $2\" && git -C $DRAFT push -q; }}\n"
    );
    fs::write(root_file(&world, "known.sh"), known).expect("a file");
    let script =
        format!(". {root}/known.sh; echo $KUGETSU_JOB >> {root}/ran\n. {root}/$KUGETSU_BRANCH.sh");
    fs::write(agent, script).expect("a file");
    world.git(&world.root(), &["clone", "-q", "remote/o/r.git", "by-hand"]);
    world.set("KUGETSU_MAX_ATTEMPTS", "1");
    world.set("NETWORK_RETRY_DELAY_SECONDS", "0");
    world
}

fn root_file(world: &World, name: &str) -> PathBuf {
    world.root().join(name)
}

/// Runs lines of shell that know what the agents know.
fn by_hand(world: &World, lines: &str) -> String {
    let ran = world.shell(&format!("set -e; . ./known.sh\n{lines}"));
    assert_eq!(ran.code, 0, "{lines}: {}", ran.stderr);
    ran.stdout
}

/// Gives an issue a job whose agent does this, runs the queue to its end, and gives the job.
fn done_by(world: &World, issue: u64, script: &str) -> Value {
    let id = enqueue(world, issue, script);
    work_within_a_minute(world);
    world.job(id)
}

/// Runs the queue until nothing is left, or for a minute: a row of a table that hangs is to fail
/// alone, by the state that its job is in.
fn work_within_a_minute(world: &World) {
    let kugetsu = env!("CARGO_BIN_EXE_kugetsu");
    // Its end is seen by the state of the job.
    world.shell(&format!("KUGETSU_ON_TERM=stop timeout -k 20 60 {kugetsu} worker --once"));
}

fn enqueue(world: &World, issue: u64, script: &str) -> u64 {
    fs::write(root_file(world, &format!("issue-{issue}.sh")), script).expect("a file");
    world.enqueue(issue, &[])
}

/// A job's end in a few letters, like `completed (done)`.
fn end(job: &Value) -> String {
    let text = |name: &str| job[name].as_str().unwrap_or("nothing").to_string();
    format!("{} ({})", text("state"), text("reason"))
}

fn id(job: &Value) -> u64 {
    job["id"].as_u64().expect("a number")
}

/// What `kugetsu diff` shows of a job or an issue; nothing if it fails.
fn diff(world: &World, of: &str) -> String {
    world.run(&["diff", of]).stdout
}

fn issue(number: u64) -> String {
    format!("{REPOSITORY}#{number}")
}

/// How often agents were started.
fn runs(world: &World) -> usize {
    fs::read_to_string(root_file(world, "ran")).map_or(0, |text| text.lines().count())
}
