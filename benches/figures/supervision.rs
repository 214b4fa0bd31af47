//! How soon a dead worker's jobs are taken over, how soon a tree is ended, and what shims cost.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kugetsu::job::StateKind;
use kugetsu::queue::Queue;
use kugetsu::store::ListQuery;

use crate::world::{Background, PATIENCE, World, command, monotonic, pause, time};
use crate::{Row, print_rows, processor_time, say};

/// Deaths of a worker.
const DEATHS: usize = 100;
/// Processes of the tree that is ended.
const TREE: usize = 200;
/// Trees that are ended.
const TREES: usize = 20;
/// Shims that run at once.
const SHIMS: usize = 10;
/// How long the shims are watched.
const SHIM_SPAN: Duration = Duration::from_secs(60);

/// The processes of a world whose name begins so.
fn processes(world: &World, name: &str) -> Vec<u32> {
    let marker = format!("KUGETSU_DIR={}", world.root().join("k").display());
    let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_ours = |pid: &u32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        comm.starts_with(name)
            && environment.split(|byte| *byte == 0).any(|entry| entry == marker.as_bytes())
    };
    pids.filter(is_ours).collect()
}

/// Waits for a condition, looking as often as is worth measuring.
fn until(what: &str, mut condition: impl FnMut() -> bool) -> Instant {
    let began = monotonic();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited too long for {what}");
        pause(Duration::from_micros(200));
    }
    monotonic()
}

fn kill(pid: u32) {
    assert!(command("kill").args(["-9", &pid.to_string()]).status().expect("kill runs").success());
}

/// The worker that holds the only running job, if one runs.
fn holder(queue: &Queue) -> Option<(u64, String)> {
    let mut query = ListQuery::all(1);
    query.states = vec![StateKind::Notified];
    let job = queue.list(&query).expect("a read").items.pop()?;
    let worker = job.lease()?.worker.to_string();
    Some((job.id.0, worker))
}

fn worker(world: &World) -> Background {
    let mut worker = world.kugetsu(&["worker", "--max-agents=1"]);
    worker.stdin(Stdio::null()).stdout(Stdio::null());
    Background(worker.spawn().expect("kugetsu runs"))
}

/// Two workers, of which the one with the agent is killed; with its shim too, the other one has to
/// end what it left, and begins the next job.
pub fn adoption() {
    let mut world = World::new();
    world.make_remote();
    // Neither a lease nor a poll is to tell.
    for (name, value) in [
        ("KUGETSU_LEASE", "1h"),
        ("KUGETSU_POLL_INTERVAL", "1h"),
        ("KUGETSU_RETRY_DELAY", "1h"),
        ("KUGETSU_AGENT_COMMAND", "sleep 1000"),
    ] {
        world.set(name, value);
    }
    let queue = world.queue();
    let mut adopted = Row::new("SIGKILL of a worker to the adoption of its run").goal_ms(100);
    let mut claimed = Row::new("SIGKILL of a worker and its shim to the next claim");
    let mut number = 0;
    let mut enqueue = || {
        number += 1;
        time(&mut world.enqueue(number));
    };
    enqueue();
    let mut workers = vec![worker(&world)];
    until("the first agent", || !processes(&world, "sleep").is_empty());
    for death in 0..2 * DEATHS {
        let (id, name) = holder(&queue).expect("a job runs");
        workers.push(worker(&world));
        // Both are there, and the second watches the first.
        pause(Duration::from_millis(150));
        let with_shim = death % 2 == 1;
        if with_shim {
            enqueue();
        }
        let shims = processes(&world, "kugetsu-shim");
        let began = monotonic();
        drop(workers.remove(0));
        if with_shim {
            shims.into_iter().for_each(kill);
            let at = until("the next claim", || holder(&queue).is_some_and(|(now, _)| now != id));
            claimed.samples.push(at - began);
            until("its agent", || processes(&world, "sleep").len() == 1);
        } else {
            let at = until("the adoption", || holder(&queue).is_some_and(|(_, now)| now != name));
            adopted.samples.push(at - began);
        }
    }
    queue.pause(None).expect("a write");
    drop(workers);
    for name in ["kugetsu-shim", "sleep"] {
        processes(&world, name).into_iter().for_each(kill);
    }
    print_rows(&[adopted, claimed]);
}

/// A tree of processes, half of them in sessions of their own, from the word to its end.
pub fn tree() {
    let mut row = Row::new(&format!("cancel to the end of {TREE} processes"));
    let mut world = World::new();
    world.make_remote();
    world.set("KUGETSU_KILL_GRACE", "0s");
    let script = world.root().join("agent.sh");
    let half = TREE / 2 - 1;
    let text = format!(
        "trap '' TERM\nfor n in $(seq {half}); do sleep 1000 & setsid sleep 1000 & done; wait\n"
    );
    fs::write(&script, text).expect("a file");
    world.set("KUGETSU_AGENT_COMMAND", &format!("sh {}", script.display()));
    let queue = world.queue();
    let _worker = worker(&world);
    for number in 1..=TREES {
        time(&mut world.enqueue(u64::try_from(number).expect("a number")));
        until("the tree", || processes(&world, "sleep").len() == 2 * half);
        let (id, _) = holder(&queue).expect("it runs");
        let began = monotonic();
        time(&mut world.kugetsu(&["queue", "cancel", &id.to_string()]));
        let at = until("its end", || holder(&queue).is_none());
        row.samples.push(at - began);
        assert!(processes(&world, "sleep").is_empty(), "something is left");
    }
    print_rows(&[row]);
}

/// Shims of agents that do nothing.
pub fn shims() {
    let mut world = World::new();
    world.make_remote();
    world.set("KUGETSU_AGENT_COMMAND", "sleep 1000");
    world.set("MAX_CONCURRENT_AGENTS", &SHIMS.to_string());
    for number in 1..=SHIMS {
        time(&mut world.enqueue(u64::try_from(number).expect("a number")));
    }
    let mut command: Command = world.kugetsu(&["worker"]);
    let worker = Background(command.stdin(Stdio::null()).spawn().expect("kugetsu runs"));
    until("the agents", || processes(&world, "sleep").len() == SHIMS);
    let shims = processes(&world, "kugetsu-shim");
    assert_eq!(shims.len(), SHIMS);
    pause(Duration::from_secs(2));
    let spent = || -> Duration { shims.iter().map(|pid| processor_time(*pid)).sum() };
    let before = spent();
    pause(SHIM_SPAN);
    let each = (spent() - before) / u32::try_from(SHIMS).expect("a number");
    let share = each.as_secs_f64() / SHIM_SPAN.as_secs_f64() * 100.0;
    let largest = shims.iter().map(|pid| proportional_kib(*pid)).max().expect("there are some");
    say("| each of ten shims | measured | goal |");
    say("|---|---|---|");
    say(&format!("| memory (PSS, the largest) | {:.1} MiB | < 4 MB |", largest as f64 / 1024.0));
    say(&format!("| processor | {share:.3} % of a core | < 0.05 % |"));
    drop(worker);
    for name in ["kugetsu-shim", "sleep"] {
        processes(&world, name).into_iter().for_each(kill);
    }
}

/// Memory of a process, with its part of what it shares.
fn proportional_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a line");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}
