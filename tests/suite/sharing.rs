//! Several real processes on one queue file, some of them killed: nothing acknowledged is lost,
//! and nothing is done twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Barrier, Mutex, Weak};
use std::thread;
use std::time::Duration;

use kugetsu::store::{RedbStore, Store};
use kugetsu::time::SystemClock;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Background, REPOSITORY, Random, World, let_pass, seed, wait_for};

const CAP: usize = 3;
const ISSUES: u64 = 5;
const ENQUEUERS: u64 = 4;
/// Enqueuers wait while more jobs than this are pending.
const BACKLOG: u64 = 8;
const WORKER: [&str; 1] = ["--max-agents=3"];

/// What enqueuers were told: the job of each request.
type Acknowledged = Mutex<BTreeMap<String, u64>>;

/// A world whose agents keep books of their own, outside of kugetsu.
///
/// A folder that can be made only once is the lock of an issue, and each line of the ledger is one
/// write. The first agents end only when as many as the cap allows have met; after that each third
/// one works for as long as `long` says, in seconds.
fn keep_books(world: &mut World, long: &str) {
    world.agent(&format!(
        "cd {root}; n=${{KUGETSU_ISSUE##*#}}
         mkdir busy-$n || echo \"$KUGETSU_JOB found issue $n busy\" >> violations
         echo \"begin $n $KUGETSU_JOB\" >> ledger
         until [ -e met ]; do set -- busy-*; [ $# -lt {CAP} ] || : > met; sleep 0.02; done
         set -- busy-*; [ $# -le {CAP} ] || echo \"$KUGETSU_JOB saw $*\" >> violations
         [ $(( ${{KUGETSU_JOB%/*}} % 3 )) -gt 0 ] && sleep 0.03 || sleep {long}
         echo \"end $n $KUGETSU_JOB\" >> ledger
         rmdir busy-$n",
        root = world.root().display()
    ));
    world.set("KUGETSU_COMPLETION", "exit");
}

fn ledger(world: &World) -> Vec<String> {
    let text = fs::read_to_string(world.root().join("ledger")).unwrap_or_default();
    text.lines().map(String::from).collect()
}

/// The test is one more process on the file.
fn open(world: &World) -> RedbStore {
    let path = world.home().join("queue.redb");
    RedbStore::open(&path, Arc::new(SystemClock)).expect("the queue opens")
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// Asks for a job, and gives its number if the answer came out whole. `blow` is when to kill the
/// process that asks, counted from its start.
fn ask(world: &World, request: &str, issue: u64, blow: Option<Duration>) -> Option<u64> {
    let issue = format!("{REPOSITORY}#{issue}");
    let request = format!("--request-id={request}");
    let arguments = ["queue", "enqueue", &issue, "fix it", "--format=json", &request];
    let mut child = world.command(&arguments).spawn().expect("kugetsu runs");
    if let Some(blow) = blow {
        let_pass(blow);
        child.kill().expect("it is our child");
    }
    let output = child.wait_with_output().expect("kugetsu ends");
    let was_killed = blow.is_some() && output.status.signal() == Some(Signal::SIGKILL as i32);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || was_killed, "{:?}: {stderr}", output.status);
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    stdout.ends_with('\n').then(|| parse(&stdout)["id"].as_u64().expect("a number"))
}

/// Enqueues, one process after the other, as long as `rounds` says.
fn enqueue(
    world: &World,
    store: &RedbStore,
    name: u64,
    rounds: impl Iterator<Item = u64>,
    acknowledged: &Acknowledged,
    mut random: Option<Random>,
) {
    for round in rounds {
        wait_for("room in the queue", || {
            (store.stats().expect("a read").pending < BACKLOG).then_some(())
        });
        let request = format!("{name}-{round}");
        let issue = (name + round) % ISSUES + 1;
        let asked = |blow| {
            let Some(id) = ask(world, &request, issue, blow) else { return };
            let mut known = acknowledged.lock().expect("nobody panics with it");
            let before = known.insert(request.clone(), id);
            assert!(before.is_none_or(|before| before == id), "{request}: {before:?}, then {id}");
        };
        let Some(random) = &mut random else {
            asked(None);
            continue;
        };
        match random.below(4) {
            0 => asked(None),
            // Whoever asks again after a blow gets the job that is there, or the only one.
            1 => {
                asked(Some(random.up_to_ms(15)));
                asked(None);
            }
            _ => asked(Some(random.up_to_ms(15))),
        }
    }
}

/// What anybody sees at any time.
fn audit(world: &World, store: &RedbStore, acknowledged: &Acknowledged) {
    let before: BTreeSet<u64> =
        acknowledged.lock().expect("nobody panics with it").values().copied().collect();
    let list = ["queue", "list", "--state=all", "--limit=10000", "--format=json"];
    let list = parse(&world.ok(&list));
    let items = list["items"].as_array().expect("a list");
    let ids: BTreeSet<u64> = items.iter().filter_map(|item| item["id"].as_u64()).collect();
    assert_eq!((ids.len(), list["total"].as_u64()), (items.len(), Some(items.len() as u64)));
    assert!(ids.is_superset(&before), "{before:?} were acknowledged, and {ids:?} are there");

    let running: Vec<&Value> = items.iter().filter(|item| item["state"] == "notified").collect();
    let issues: BTreeSet<&str> =
        running.iter().filter_map(|item| item["issue_ref"].as_str()).collect();
    assert!(running.len() <= CAP && issues.len() == running.len(), "{running:#?}");

    let stats = parse(&world.ok(&["queue", "stats", "--format=json"]));
    let count = |name: &str| stats[name].as_u64().expect("a count");
    let states = ["pending", "notified", "completed", "error", "cancelled"];
    assert_eq!(count("total"), states.map(count).iter().sum::<u64>(), "{stats}");
    assert!(count("total") >= ids.len() as u64 && count("notified") <= CAP as u64, "{stats}");
    assert_eq!(store.verify().expect("a read"), Vec::<String>::new());
}

/// Ends the workers while agents are at work, and runs what is left.
fn drain(world: &World, workers: Vec<Background>) {
    for mut worker in workers {
        worker.signal(Signal::SIGTERM);
        assert!(worker.wait().success(), "a worker that is told to end does so");
    }
    assert!(world.worker(&["--once", "--max-agents=3"]).wait().success());
    // This one finds nothing to do but to tidy up.
    world.work();
    world.assert_no_process_left();
    let runs = fs::read_dir(world.home().join("runs")).expect("a folder");
    assert_eq!(runs.flatten().map(|run| run.file_name()).collect::<Vec<_>>(), [""; 0]);
}

/// Replays the ledger, checks the rules against it, and gives the jobs that ran.
fn check_ledger(world: &World) -> BTreeSet<u64> {
    let violations = fs::read_to_string(world.root().join("violations")).unwrap_or_default();
    assert_eq!(violations, "");
    let lines = ledger(world);
    let mut running: BTreeMap<&str, &str> = BTreeMap::new();
    let mut last_of_issue: BTreeMap<&str, u64> = BTreeMap::new();
    let mut begun = BTreeSet::new();
    let mut largest = 0;
    for line in &lines {
        let words: Vec<&str> = line.split(' ').collect();
        let [word, issue, job] = words[..] else { panic!("{line:?} in {lines:#?}") };
        if word == "end" {
            assert_eq!(running.remove(issue), Some(job), "{line:?} in {lines:#?}");
            continue;
        }
        assert_eq!(running.insert(issue, job), None, "{line:?} in {lines:#?}");
        largest = largest.max(running.len());
        let id = job.split('/').next().and_then(|id| id.parse().ok()).expect("a number");
        assert!(begun.insert(id), "job {id} ran twice: {lines:#?}");
        let before = last_of_issue.insert(issue, id);
        assert!(before.is_none_or(|before| before < id), "{line:?} after {before:?}: {lines:#?}");
    }
    assert!(running.is_empty(), "nobody killed an agent, and {running:?} did not end");
    assert_eq!(largest, CAP, "agents at once");
    begun
}

/// Compares what the queue says in the end with the ledger and with what was acknowledged.
fn check_end(world: &World, store: &RedbStore, acknowledged: &Acknowledged) -> u64 {
    let ran = check_ledger(world);
    let acknowledged = acknowledged.lock().expect("nobody panics with it");
    audit(world, store, &Mutex::new(acknowledged.clone()));
    let stats = store.stats().expect("a read");
    let total = stats.completed;
    assert_eq!(
        (stats.pending, stats.notified, stats.error, stats.cancelled),
        (0, 0, 0, 0),
        "{stats:?}"
    );
    assert_eq!(ran, (1..=total).collect(), "numbers have no gap, and every job ran");
    let mut requests = BTreeMap::new();
    for id in ran {
        let job = world.job(id);
        let reasons: Vec<&str> = job["attempts"]
            .as_array()
            .expect("attempts")
            .iter()
            .filter_map(|attempt| attempt["reason"].as_str())
            .collect();
        // Nothing was the job's fault, so nothing was counted against it.
        let (last, others) = reasons.split_last().expect("an attempt");
        assert!(*last == "done" && others.iter().all(|reason| *reason == "shutdown"), "{job:#}");
        let request = job["request_id"].as_str().expect("a request").to_string();
        assert_eq!(requests.insert(request, id), None, "one request, one job");
    }
    for (request, id) in &*acknowledged {
        assert_eq!(requests.get(request), Some(id), "{request} was acknowledged");
    }
    total
}

#[test]
fn first_use_by_many_processes_at_once() {
    const PROCESSES: u64 = 8;
    for _ in 0..5 {
        let world = World::new();
        assert!(!world.home().exists());
        let start = Barrier::new(usize::try_from(PROCESSES).expect("a few"));
        let ids: BTreeSet<u64> = thread::scope(|scope| {
            let one = |issue| {
                let (world, start) = (&world, &start);
                scope.spawn(move || {
                    start.wait();
                    world.enqueue(issue, &[])
                })
            };
            let all: Vec<_> = (1..=PROCESSES).map(one).collect();
            all.into_iter().map(|one| one.join().expect("an id")).collect()
        });
        assert_eq!(ids, (1..=PROCESSES).collect());
        let store = open(&world);
        assert_eq!(store.stats().expect("a read").pending, PROCESSES);
        assert_eq!(store.verify().expect("a read"), Vec::<String>::new());
    }
}

#[test]
fn enqueuers_a_lister_and_a_worker_share_one_file() {
    const ROUNDS: u64 = 12;
    let mut world = World::new();
    keep_books(&mut world, "0.1");
    let acknowledged = Acknowledged::default();
    let worker = world.worker(&WORKER);
    wait_for("the queue", || world.home().join("queue.redb").exists().then_some(()));
    let store = open(&world);
    thread::scope(|scope| {
        let one = |name| {
            let (world, store, acknowledged) = (&world, &store, &acknowledged);
            scope.spawn(move || enqueue(world, store, name, 0..ROUNDS, acknowledged, None))
        };
        let enqueuers: Vec<_> = (0..ENQUEUERS).map(one).collect();
        while !enqueuers.iter().all(|enqueuer| enqueuer.is_finished()) {
            audit(&world, &store, &acknowledged);
        }
    });
    drain(&world, vec![worker]);
    assert_eq!(check_end(&world, &store, &acknowledged), ENQUEUERS * ROUNDS);
    assert_eq!(
        acknowledged.lock().expect("nobody panics with it").len() as u64,
        ENQUEUERS * ROUNDS
    );
}

/// Kills one of two workers at any moment and starts another in its place, again and again.
fn kill_workers(world: &World, random: &mut Random) -> Vec<Background> {
    const KILLS: u64 = 12;
    let mut workers = vec![world.worker(&WORKER), world.worker(&WORKER)];
    for _ in 0..KILLS {
        // Now while agents begin and end, now while it has hardly started.
        if random.below(3) > 0 {
            let enough = ledger(world).len() + 1;
            wait_for("a line in the ledger", || (ledger(world).len() >= enough).then_some(()));
        }
        let_pass(random.up_to_ms(200));
        workers.remove(usize::try_from(random.below(2)).expect("small")).kill();
        workers.push(world.worker(&WORKER));
    }
    workers
}

#[test]
fn whoever_is_killed_nothing_acknowledged_is_lost_and_nothing_runs_twice() {
    let seed = seed();
    println!("KUGETSU_TEST_SEED={seed}");
    let mut world = World::new();
    // Longer than a lease, so that the lapse comes while an agent lives without its worker.
    keep_books(&mut world, "0.9");
    world.set("KUGETSU_LEASE", "500ms");
    world.set("KUGETSU_POLL_INTERVAL", "100ms");
    let acknowledged = Acknowledged::default();
    world.ok(&["queue", "stats"]);
    let store = open(&world);
    // Held for as long as blows fall, and dropped by a panic too.
    let chaos = Arc::new(());
    let workers = thread::scope(|scope| {
        for name in 0..ENQUEUERS {
            let (world, store, acknowledged) = (&world, &store, &acknowledged);
            let rounds = rounds_during(&chaos);
            let random = Random(seed.wrapping_add(name));
            scope.spawn(move || enqueue(world, store, name, rounds, acknowledged, Some(random)));
        }
        let rounds = rounds_during(&chaos);
        scope.spawn(|| rounds.for_each(|_| audit(&world, &store, &acknowledged)));
        let workers = kill_workers(&world, &mut Random(seed.wrapping_sub(1)));
        drop(chaos);
        workers
    });
    drain(&world, workers);
    check_end(&world, &store, &acknowledged);
}

fn rounds_during(chaos: &Arc<()>) -> impl Iterator<Item = u64> + use<> {
    let chaos: Weak<()> = Arc::downgrade(chaos);
    (0..).take_while(move |_| chaos.strong_count() > 0)
}

#[test]
fn a_process_that_hangs_in_a_write_hangs_nobody_else() {
    let world = World::new();
    world.enqueue(1, &[]);
    let mut builder = redb::Database::builder();
    builder.set_concurrency_mode(redb::ConcurrencyMode::MultiWriter);
    let database = builder.open(world.home().join("queue.redb")).expect("a queue");
    let held = database.begin_write().expect("nobody else writes");
    for arguments in [&["queue", "list"][..], &["queue", "enqueue", "git.test/o/r#2", "fix"]] {
        let ran = world.run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{}", ran.stderr);
        assert!(ran.stderr.contains("the queue is busy"), "{}", ran.stderr);
    }
    held.abort().expect("an abort");
    assert!(world.ok(&["queue", "list"]).contains("1: git.test/o/r#1"));
}
