//! The crash table: a process dies by SIGKILL at a named place, and what follows is compared with
//! what `docs/STATES.md` promises. Leases and polls last hours, so that nothing but the kernel can
//! tell of a death.

use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kugetsu::JobId;
use kugetsu::queue::Queue;
use kugetsu::store::RedbStore;
use kugetsu::time::SystemClock;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Background, REPOSITORY, World, is_alive, wait_for};

/// What the scripted agent does.
#[derive(Clone, Copy)]
enum Agent {
    /// Commits, if it was not done before.
    Works,
    /// In the first attempt it only waits to be killed; in later ones it commits.
    Hangs,
    /// Commits only when it is reminded to.
    Forgets,
}

/// Who takes over.
#[derive(Clone, Copy, Debug)]
enum Successor {
    /// A worker that starts when the one before it is dead.
    Fresh,
    /// One that was there all the time.
    Running,
}

/// Where processes die, and what must follow.
struct Row {
    places: &'static str,
    agent: Agent,
    /// Of the attempts.
    reasons: &'static [&'static str],
    /// How many agents began, reminders counted.
    begun: RangeInclusive<usize>,
}

const fn row(
    places: &'static str,
    agent: Agent,
    reasons: &'static [&'static str],
    begun: RangeInclusive<usize>,
) -> Row {
    Row { places, agent, reasons, begun }
}

const PUT_BACK: &[&str] = &["shutdown", "done"];
const TAKEN_OVER: &[&str] = &["done"];
const LOST: &[&str] = &["lost", "done"];
const LOST_THEN_PUT_BACK: &[&str] = &["lost", "shutdown", "done"];
const NOT_STARTED: &[&str] = &["start_failed", "done"];

/// A worker dies, and lets nothing start or leaves its agent to the shim.
const WORKER: &[Row] = &[
    row("claimed", Agent::Works, PUT_BACK, 1..=1),
    row("mirror_unfinished", Agent::Works, PUT_BACK, 1..=1),
    row("mirror_fetched", Agent::Works, PUT_BACK, 1..=1),
    row("clone_unfinished", Agent::Works, PUT_BACK, 1..=1),
    row("worktree_added", Agent::Works, PUT_BACK, 1..=1),
    row("worktree_made", Agent::Works, PUT_BACK, 1..=1),
    row("session_saved", Agent::Works, PUT_BACK, 1..=1),
    row("before_shim", Agent::Works, PUT_BACK, 1..=1),
    row("shim_at_gate", Agent::Works, PUT_BACK, 1..=1),
    row("run_recorded", Agent::Works, PUT_BACK, 1..=1),
    row("message_written", Agent::Works, PUT_BACK, 1..=1),
    row("plan_written", Agent::Works, PUT_BACK, 1..=1),
    row("before_gate", Agent::Works, PUT_BACK, 1..=1),
    row("gate_opened", Agent::Works, TAKEN_OVER, 1..=1),
    row("agent_ended", Agent::Works, TAKEN_OVER, 1..=1),
    row("evidence_kept", Agent::Works, TAKEN_OVER, 1..=1),
    row("before_finish", Agent::Works, TAKEN_OVER, 1..=1),
];

/// A worker dies between the two rounds of an attempt.
const REMINDER: &[Row] = &[
    row("agent_ended", Agent::Forgets, TAKEN_OVER, 2..=2),
    row("reminded", Agent::Forgets, TAKEN_OVER, 2..=2),
    row("before_shim:2", Agent::Forgets, TAKEN_OVER, 2..=2),
    row("shim_at_gate:2", Agent::Forgets, TAKEN_OVER, 2..=2),
    row("run_recorded:2", Agent::Forgets, TAKEN_OVER, 2..=2),
    row("message_written:2", Agent::Forgets, TAKEN_OVER, 2..=2),
    row("plan_written:2", Agent::Forgets, TAKEN_OVER, 2..=2),
    row("before_gate:2", Agent::Forgets, TAKEN_OVER, 2..=2),
    row("gate_opened:2", Agent::Forgets, TAKEN_OVER, 2..=2),
    row("agent_ended:2", Agent::Forgets, TAKEN_OVER, 2..=2),
];

/// A shim dies, and its worker lives.
const SHIM: &[Row] = &[
    row("shim_locked", Agent::Works, NOT_STARTED, 1..=1),
    row("at_gate", Agent::Works, NOT_STARTED, 1..=1),
    row("past_gate", Agent::Works, NOT_STARTED, 1..=1),
    row("started_marked", Agent::Works, LOST, 1..=1),
    row("agent_spawned", Agent::Hangs, LOST, 1..=2),
    row("agent_reaped", Agent::Works, LOST, 2..=2),
    row("swept", Agent::Works, LOST, 2..=2),
    row("before_record", Agent::Works, LOST, 2..=2),
    row("recorded", Agent::Works, TAKEN_OVER, 1..=1),
];

/// Both die. A worker that dies at `gate_opened` is dead while its shim goes on, one that dies at
/// `agent_ended` has seen the shim die.
const BOTH: &[Row] = &[
    row("shim_locked,before_finish", Agent::Works, PUT_BACK, 1..=1),
    row("at_gate,shim_at_gate", Agent::Works, PUT_BACK, 1..=1),
    row("at_gate,run_recorded", Agent::Works, PUT_BACK, 1..=1),
    row("at_gate,before_gate", Agent::Works, PUT_BACK, 1..=1),
    row("gate_opened,past_gate", Agent::Works, PUT_BACK, 1..=1),
    row("gate_opened,started_marked", Agent::Works, LOST, 1..=1),
    row("gate_opened,agent_spawned", Agent::Hangs, LOST, 1..=2),
    row("gate_opened,agent_reaped", Agent::Works, LOST, 2..=2),
    row("gate_opened,swept", Agent::Works, LOST, 2..=2),
    row("gate_opened,before_record", Agent::Works, LOST, 2..=2),
    row("gate_opened,recorded", Agent::Works, TAKEN_OVER, 1..=1),
    row("past_gate,agent_ended", Agent::Works, PUT_BACK, 1..=1),
    row("started_marked,agent_ended", Agent::Works, LOST, 1..=1),
    row("agent_spawned,agent_ended", Agent::Hangs, LOST, 1..=2),
    row("agent_reaped,agent_ended", Agent::Works, LOST, 2..=2),
    row("before_record,agent_ended", Agent::Works, LOST, 2..=2),
    row("recorded,agent_ended", Agent::Works, TAKEN_OVER, 1..=1),
    // The next attempt, in the clone that was used.
    row("gate_opened,agent_spawned,before_kept", Agent::Hangs, LOST_THEN_PUT_BACK, 1..=2),
];

/// The job has ended: nobody takes it over.
const ENDED: &[Row] = &[row("finished", Agent::Works, TAKEN_OVER, 1..=1)];

/// `start` or its background process dies, and a worker comes.
const LAUNCHED: &[Row] = &[
    row("launched", Agent::Works, PUT_BACK, 1..=1),
    row("supervise_adopted", Agent::Works, PUT_BACK, 1..=1),
    row("worktree_made", Agent::Works, PUT_BACK, 1..=1),
    row("run_recorded", Agent::Works, PUT_BACK, 1..=1),
    row("gate_opened", Agent::Works, TAKEN_OVER, 1..=1),
    row("agent_ended", Agent::Works, TAKEN_OVER, 1..=1),
    row("evidence_kept", Agent::Works, TAKEN_OVER, 1..=1),
    row("before_finish", Agent::Works, TAKEN_OVER, 1..=1),
    row("gate_opened,agent_spawned", Agent::Hangs, LOST, 1..=2),
];

/// A world in which nobody hears of anything by waiting.
fn world(agent: Agent) -> World {
    let mut world = World::new();
    world.set("KUGETSU_LEASE", "4h");
    world.set("KUGETSU_POLL_INTERVAL", "2h");
    world.set("KUGETSU_LOG", "debug");
    let first = match agent {
        Agent::Works => "",
        Agent::Hangs => "[ $KUGETSU_ATTEMPT = 1 ] && exec sleep 1000",
        Agent::Forgets => "grep -q 'without a commit' || { echo work > work.txt; exit; }",
    };
    let root = world.root();
    let root = root.display();
    world.agent(&format!(
        "exec 9>> {root}/alone; flock -n 9 || echo $KUGETSU_JOB >> {root}/two-at-once\n\
         echo $KUGETSU_JOB >> {root}/begun\n{first}\n\
         echo work > work.txt; git add work.txt; git diff --cached --quiet || git commit -qm work\n"
    ));
    world
}

fn die_at(world: &mut World, places: &str) {
    world.set("KUGETSU_FAILPOINT", places);
    let once = world.root().join("died");
    world.set("KUGETSU_FAILPOINT_ONCE", &once.display().to_string());
}

/// How many of the places were the end of somebody.
fn deaths(world: &World, places: &str) -> usize {
    let mark = |number: usize| world.root().join(format!("died.{number}"));
    (0..places.split(',').count()).filter(|number| mark(*number).exists()).count()
}

/// Workers, each after the death of the one before it, until one ends by itself.
fn work_until_done(world: &World, places: &str) {
    for _ in 0..=places.split(',').count() {
        let status = world.worker(&["--once"]).wait();
        if status.signal().is_none() {
            assert_eq!(status.code(), Some(0));
            return;
        }
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
    }
    panic!("more workers died than there are places");
}

/// Several workers from the beginning on, one more than will die.
fn stand_by(world: &World, places: &str) -> Vec<Background> {
    let mut workers: Vec<Background> =
        (0..=places.split(',').count()).map(|_| world.worker(&[])).collect();
    for worker in &mut workers {
        wait_for("a worker that watches the others", || {
            assert!(worker.is_running(), "{}", said(world));
            let threads = fs::read_dir(format!("/proc/{}/task", worker.pid())).ok()?.flatten();
            let mut names = threads.filter_map(|t| fs::read_to_string(t.path().join("comm")).ok());
            names.any(|name| name.trim() == "liveness").then_some(())
        });
    }
    workers
}

fn lines(world: &World, name: &str) -> usize {
    fs::read_to_string(world.root().join(name)).unwrap_or_default().lines().count()
}

/// What the workers said.
fn said(world: &World) -> String {
    fs::read_to_string(world.root().join("worker.log")).unwrap_or_default()
}

fn left_in_runs(world: &World) -> usize {
    fs::read_dir(world.home().join("runs")).map_or(0, Iterator::count)
}

fn queue(world: &World) -> Queue {
    let path = world.home().join("queue.redb");
    Queue::new(RedbStore::open(&path, Arc::new(SystemClock)).expect("the queue"))
}

fn reasons(job: &Value) -> Vec<&str> {
    let attempts = job["attempts"].as_array().expect("attempts");
    attempts.iter().filter_map(|attempt| attempt["reason"].as_str()).collect()
}

/// What holds whoever died: the job is done, once, and nothing is left.
fn assert_done(world: &World, id: u64, what: &str) -> Value {
    let job = world.job(id);
    assert_eq!(job["state"], json!("completed"), "{what}: {job:#}\n{}", said(world));
    let log = world.git(&world.worktree(1), &["log", "--format=%s"]);
    assert_eq!(log, "work\nbegin", "{what}");
    assert!(!world.root().join("two-at-once").exists(), "{what}: two agents at once");
    world.assert_no_process_left();
    assert_eq!(left_in_runs(world), 0, "{what}: something is left in runs\n{}", said(world));
    assert_eq!(queue(world).verify().expect("a read"), Vec::<String>::new(), "{what}");
    job
}

fn assert_follows(world: &World, row: &Row, places: &str, what: &str) {
    let job = assert_done(world, 1, what);
    assert_eq!(reasons(&job), row.reasons, "{what}: {job:#}");
    let begun = lines(world, "begun");
    assert!(row.begun.contains(&begun), "{what}: {begun} agents began");
    assert_eq!(deaths(world, places), places.split(',').count(), "{what}: somebody did not die");
}

/// One row, in which processes die at some more places.
fn check(row: &Row, more: &str, successor: Successor) {
    let places = format!("{}{more}", row.places);
    let what = format!("{places} ({successor:?})");
    let mut world = world(row.agent);
    match successor {
        Successor::Fresh => {
            world.enqueue(1, &[]);
            die_at(&mut world, &places);
            work_until_done(&world, &places);
        }
        Successor::Running => {
            // The queue's file is made by one who lives.
            world.ok(&["queue", "stats"]);
            die_at(&mut world, &places);
            let workers = stand_by(&world, &places);
            world.set("KUGETSU_FAILPOINT", "nowhere");
            world.enqueue(1, &[]);
            world.ended(1);
            wait_for(&format!("{what}: empty runs"), || (left_in_runs(&world) == 0).then_some(()));
            for mut worker in workers {
                if worker.is_running() {
                    worker.signal(Signal::SIGTERM);
                    assert_eq!(worker.wait().code(), Some(0), "{what}");
                }
            }
        }
    }
    assert_follows(&world, row, &places, &what);
}

/// More deaths: of the successor when it has taken over, and of its successor when that knows how
/// it ended.
const SUCCESSORS_DIE: &str = ",adopted,before_finish";

#[test]
fn a_worker_dies_and_a_fresh_one_comes() {
    for row in WORKER {
        check(row, "", Successor::Fresh);
        check(row, SUCCESSORS_DIE, Successor::Fresh);
    }
}

#[test]
fn a_worker_dies_and_another_one_is_there() {
    for row in WORKER {
        check(row, SUCCESSORS_DIE, Successor::Running);
    }
}

#[test]
fn a_worker_dies_between_a_run_and_its_reminder() {
    for row in REMINDER {
        check(row, "", Successor::Running);
        check(row, SUCCESSORS_DIE, Successor::Fresh);
    }
}

#[test]
fn a_shim_dies() {
    for row in SHIM {
        check(row, "", Successor::Fresh);
    }
}

#[test]
fn a_shim_and_its_worker_die() {
    for row in BOTH {
        check(row, "", Successor::Fresh);
        check(row, SUCCESSORS_DIE, Successor::Fresh);
    }
}

#[test]
fn a_worker_dies_when_the_job_has_ended() {
    for row in ENDED {
        check(row, "", Successor::Fresh);
        check(row, "", Successor::Running);
    }
}

#[test]
fn a_launched_job_is_taken_over_by_a_worker() {
    for row in LAUNCHED {
        for more in ["", SUCCESSORS_DIE] {
            let places = format!("{}{more}", row.places);
            let mut world = world(row.agent);
            // Its own first inspection finds nothing, and makes the queue's file.
            world.ok(&["queue", "stats"]);
            die_at(&mut world, &places);
            let mut start = world.command(&["start", &format!("{REPOSITORY}#1"), "fix it"]);
            start.output().expect("kugetsu runs");
            work_until_done(&world, &places);
            assert_follows(&world, row, &places, &format!("{places} (start)"));
        }
    }
}

/// On either side of each commit of a worker, whatever it is about.
#[test]
fn a_worker_dies_before_or_after_any_commit() {
    for side in ["before_commit", "committed"] {
        for agent in [Agent::Works, Agent::Forgets] {
            let mut commits = 0;
            loop {
                let place = format!("{side}:{}", commits + 1);
                let mut world = world(agent);
                world.enqueue(1, &[]);
                die_at(&mut world, &place);
                work_until_done(&world, &place);
                let job = assert_done(&world, 1, &place);
                if deaths(&world, &place) == 0 {
                    break;
                }
                let rounds = match agent {
                    Agent::Forgets => 2,
                    Agent::Works | Agent::Hangs => 1,
                };
                assert_eq!(lines(&world, "begun"), rounds, "{place}: {job:#}");
                assert!([PUT_BACK, TAKEN_OVER].contains(&&*reasons(&job)), "{place}: {job:#}");
                commits += 1;
            }
            assert!((4..20).contains(&commits), "{side}: there are {commits} commits");
        }
    }
}

#[test]
fn a_job_is_in_the_queue_once_it_is_committed_and_never_twice() {
    // The first commit makes the tables.
    for (place, there) in
        [("before_commit", 0), ("committed", 0), ("before_commit:2", 0), ("committed:2", 1)]
    {
        let mut world = World::new();
        die_at(&mut world, place);
        let issue = format!("{REPOSITORY}#1");
        let enqueue = ["queue", "enqueue", &issue, "fix it", "--request-id=r"];
        let died = world.command(&enqueue).output().expect("kugetsu runs");
        assert_eq!(died.status.signal(), Some(Signal::SIGKILL as i32), "{place}");
        assert_eq!(died.stdout, b"", "{place}");
        let count = |world: &World| queue(world).jobs_after(JobId(0), 9).expect("a read").len();
        if place.ends_with(":2") {
            assert_eq!(count(&world), there, "{place}");
        }
        world.ok(&enqueue);
        assert_eq!(count(&world), 1, "{place}");
        assert_eq!(queue(&world).verify().expect("a read"), Vec::<String>::new(), "{place}");
    }
}

/// As if the machine had been restarted: the run is of another boot, and its pid is somebody else's.
#[test]
fn after_a_reboot_a_run_is_over_and_its_pid_somebody_elses() {
    for (record, expected) in [(true, TAKEN_OVER), (false, LOST)] {
        let mut world = world(Agent::Works);
        world.enqueue(1, &[]);
        // What the run left, from one that was real.
        die_at(&mut world, "before_finish");
        assert!(world.worker(&["--once"]).wait().signal().is_some());
        world.set("KUGETSU_FAILPOINT", "nowhere");
        let innocent = world.somebody_in(Path::new("/"));
        let folder = put_on_another_boot(&world, &innocent);
        if !record {
            fs::remove_file(folder.join("exit.json")).expect("a record");
        }
        work_until_done(&world, "");
        assert!(is_alive(innocent.pid()), "it was none of ours");
        drop(innocent);
        let job = assert_done(&world, 1, "reboot");
        assert_eq!(reasons(&job), expected, "record: {record}");
    }
}

/// Gives the only job's run to another boot, and its pid to a process that lives. Gives its folder.
fn put_on_another_boot(world: &World, innocent: &Background) -> PathBuf {
    let queue = queue(world);
    let job = queue.get(JobId(1)).expect("a read").expect("a job");
    let lease = job.lease().expect("it was claimed");
    let mut run = lease.run.clone().expect("it ran");
    let stat = fs::read_to_string(format!("/proc/{}/stat", innocent.pid())).expect("it lives");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
    run.start_time = fields.split(' ').nth(19).and_then(|field| field.parse().ok()).expect("ticks");
    run.pid = innocent.pid();
    run.boot_id = "another".into();
    // Only a later round replaces a run.
    run.round += 1;
    let folder = world.home().join("runs").join(&run.folder);
    queue.start(job.id, lease.token, run).expect("the lease is that of a dead worker");
    folder
}
