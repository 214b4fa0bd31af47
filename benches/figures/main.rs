//! The figures of docs/BENCHMARKS.md: whole processes of the release binary, on a real disk.
//!
//! `cargo bench --bench figures` prints all of them as Markdown; `-- enqueue` (or another
//! of the names in `main`) prints one. What is compared is measured in turns, one sample of each at a time,
//! because the load of other programs comes and goes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use kugetsu::queue::Queue;
use kugetsu::store::ListQuery;

mod supervision;
mod world;

use self::world::{
    BACKLOG, Busy, Instants, PATIENCE, World, command, issue, monotonic, pause, time,
    wait_until_ended,
};

/// Issues that a full queue's jobs belong to, in the usual case.
const ISSUES: u64 = 10_000;
/// Samples of each row that is one short process.
const SAMPLES: usize = 300;
/// Samples of each kind of start.
const STARTS: usize = 40;
/// Jobs that an empty queue may collect while it is measured, until it is made anew.
const EMPTY_ENOUGH: usize = 20;
/// How long processor time is counted.
const IDLE_SPAN: Duration = Duration::from_secs(10);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        say("figures takes minutes, and so only `cargo bench` runs it");
        return;
    }
    let names: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let all: [(&str, fn()); 8] = [
        ("enqueue", enqueue),
        ("list", list),
        ("start", start),
        ("memory", memory),
        ("idle", idle),
        ("adoption", supervision::adoption),
        ("tree", supervision::tree),
        ("shims", supervision::shims),
    ];
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|(known, _)| known != *name)) {
        let known = all.map(|(name, _)| name).join(", ");
        say(&format!("there is no figure '{unknown}': {known}"));
        return;
    }
    say(&machine());
    for (name, figure) in all {
        if names.is_empty() || names.contains(&name) {
            say(&format!("\n### {name}\n"));
            figure();
        }
    }
}

fn enqueue() {
    let mut empty = World::new();
    let full = World::with_backlog(ISSUES);
    let one_issue = World::with_backlog(1);
    let page = File::create(empty.root().join("page")).expect("a file");
    let mut rows = [
        Row::new("spawn `true` and wait for it"),
        Row::new("write 4 KiB and `fdatasync`"),
        Row::new("`queue enqueue`, next to nothing pending").goal_ms(5),
        Row::new(&format!("`queue enqueue`, {BACKLOG} pending, {ISSUES} issues")).goal_ms(5),
        Row::new(&format!("`queue enqueue`, {BACKLOG} pending, one issue")).goal_ms(5),
    ];
    for sample in 0..SAMPLES {
        if sample % EMPTY_ENOUGH == 0 {
            empty = World::new();
            time(&mut empty.enqueue(1));
        }
        // In the full queue a new job's issue is one that has jobs already.
        let issue = 1 + sample as u64;
        rows[0].add(time(&mut command("true")));
        rows[1].add(time_a_write(&page));
        rows[2].add(time(&mut empty.enqueue(issue)));
        rows[3].add(time(&mut full.enqueue(issue)));
        rows[4].add(time(&mut one_issue.enqueue(1)));
    }
    print_rows(&rows);
    say("");
    print_ratio("full queue to empty queue, medians", &rows[3], &rows[2], 1.3);
    print_ratio("one issue to empty queue, medians", &rows[4], &rows[2], 1.3);
    for world in [&empty, &full, &one_issue] {
        assert_eq!(world.queue().verify().expect("a read"), Vec::<String>::new());
    }
}

fn list() {
    let full = World::with_backlog(ISSUES);
    let one_issue = World::with_backlog(1);
    let many: &[&str] = &["queue", "list", "--limit=1000", "--format=jsonl"];
    let of_issue: &[&str] = &["queue", "list", "--issue=git.test/o/r#1"];
    let measured: [(&str, &World, &[&str]); 7] = [
        ("`queue list`, 10,000 issues", &full, &["queue", "list"]),
        ("`queue list`, one issue", &one_issue, &["queue", "list"]),
        ("`queue list --format=json`, 10,000 issues", &full, &["queue", "list", "--format=json"]),
        ("`queue list --limit=1000`, 10,000 issues", &full, many),
        ("`queue list --issue=REF`, an issue of 10 jobs", &full, of_issue),
        ("`queue stats`, 10,000 issues", &full, &["queue", "stats"]),
        ("`queue stats`, one issue", &one_issue, &["queue", "stats"]),
    ];
    let mut rows: Vec<Row> =
        measured.iter().map(|(what, _, _)| Row::new(what).goal_ms(10)).collect();
    let mut slow_one = Row::new("`queue list --issue=REF`, an issue of all jobs").goal_ms(10);
    for sample in 0..SAMPLES {
        for ((_, world, arguments), row) in measured.iter().zip(&mut rows) {
            row.add(time(&mut world.kugetsu(arguments)));
        }
        if sample % 10 == 0 {
            slow_one.add(time(&mut one_issue.kugetsu(of_issue)));
        }
    }
    rows.push(slow_one);
    print_rows(&rows);
}

fn start() {
    let mut world = World::new();
    world.make_remote();
    let words = world.agent_that_says_so("");
    world.set("KUGETSU_LOG", "kugetsu=debug");
    let queue = world.queue();
    let worker = world.worker();
    // The first start clones the repository, and is none of the figures.
    one_start(&world, &queue, &words, 1);
    let mut kinds = [
        Starts::new("worktree is there, from `queue enqueue` to the agent's first instruction"),
        Starts::new("new worktree, from `queue enqueue` to the agent's first instruction"),
    ];
    for sample in 0..STARTS {
        let first_new_issue = 2;
        kinds[0].add(one_start(&world, &queue, &words, 1));
        kinds[1].add(one_start(&world, &queue, &words, first_new_issue + sample as u64));
    }
    drop(worker);
    let rows: Vec<Row> = kinds.into_iter().flat_map(Starts::into_rows).collect();
    print_rows(&rows);
}

fn memory() {
    say(
        "| process | resident (VmRSS) | of it its own (RssAnon) | most so far (VmHWM) | goal | met |",
    );
    say("|---|---|---|---|---|---|");
    for (backlog, what) in [
        (None, "worker, an empty queue, one agent running".to_string()),
        (Some(ISSUES), format!("worker, {BACKLOG} pending, {ISSUES} issues, one agent running")),
        (Some(1), format!("worker, {BACKLOG} pending, one issue, one agent running")),
    ] {
        let busy = Busy::new(backlog);
        pause(Duration::from_secs(2));
        print_memory(&what, busy.worker.0.id(), Some(30));
        print_memory("its shim", busy.shim(), None);
        busy.end();
    }
}

fn idle() {
    say(&format!(
        "| worker | processor time in {} s | share of one core |\n|---|---|---|",
        IDLE_SPAN.as_secs()
    ));
    let print = |what: &str, pid: u32| {
        let before = processor_time(pid);
        pause(IDLE_SPAN);
        let spent = processor_time(pid) - before;
        let share = spent.as_secs_f64() / IDLE_SPAN.as_secs_f64() * 100.0;
        say(&format!("| {what} | {} ms | {share:.2} % |", spent.as_millis()));
    };
    let world = World::new();
    let worker = world.worker();
    pause(Duration::from_secs(2));
    print("an empty queue", worker.0.id());
    drop(worker);
    let busy = Busy::new(Some(ISSUES));
    pause(Duration::from_secs(2));
    print(&format!("{BACKLOG} pending, the one allowed agent running"), busy.worker.0.id());
    print("its shim", busy.shim());
    busy.end();
}

fn time_a_write(file: &File) -> Duration {
    let began = monotonic();
    file.write_all_at(&[7; 4096], 0).expect("a write");
    file.sync_data().expect("a disk");
    began.elapsed()
}

/// Enqueues a job for an idle worker, and waits for its end after the agent's word has come.
/// Gives the time between, and its parts as the worker's log has them.
fn one_start(
    world: &World,
    queue: &Queue,
    words: &Receiver<Instants>,
    number: u64,
) -> (Duration, Parts) {
    let log_from = world.worker_log().len();
    let began = Instants::now();
    time(&mut world.enqueue(number));
    let word = words.recv_timeout(PATIENCE).expect("the agent starts");
    let mut query = ListQuery::all(usize::MAX);
    query.issue = Some(issue(number));
    let jobs = queue.list(&query).expect("a read").items;
    let job = jobs.iter().map(|job| job.id).max().expect("it was enqueued");
    wait_until_ended(queue, job);
    // The worker looks whether there is more to do, and is idle again.
    pause(Duration::from_millis(100));
    let took = word.monotonic - began.monotonic;
    (took, Parts::read(&world.worker_log()[log_from..], began, word))
}

/// What a start is made of, in its order.
struct Parts(Vec<(String, Duration)>);

impl Parts {
    /// Reads the lines of one job's start in a worker's log of level debug.
    fn read(log: &str, began: Instants, word: Instants) -> Parts {
        let mut parts: Vec<(String, Duration)> = Vec::new();
        let mut what = "`queue enqueue`, the wake and the claim".to_string();
        let mut since = began.system;
        for line in log.lines() {
            let next = match line {
                _ if line.contains(" claimed ") => "the lock of the repository".into(),
                _ if line.contains(" git arguments=") => git_words(line),
                _ if line.contains(" worktree ready ") => "session and spec on disk".into(),
                _ if line.contains(" starting the shim ") => "the shim, up to its gate".into(),
                _ if line.contains(" the shim is at its gate ") => {
                    "run, message, log and plan on disk".into()
                }
                _ if line.contains(" agent started ") => "from the gate to the agent".into(),
                _ => continue,
            };
            let at = time_of(line, began.system);
            parts.push((std::mem::replace(&mut what, next), at.saturating_sub(since)));
            since = at;
            if line.contains(" agent started ") {
                break;
            }
        }
        parts.push((what, word.system.saturating_sub(since)));
        Parts(parts)
    }
}

/// The command of a line like `… git arguments=["fetch", "--quiet", "origin"] folder=…`.
fn git_words(line: &str) -> String {
    let list = line.split_once('[').map_or("", |(_, rest)| rest);
    let mut words = list.split('"').skip(1).step_by(2);
    match words.next() {
        Some("worktree") => format!("`git worktree {}`", words.next().unwrap_or_default()),
        Some(word) => format!("`git {word}`"),
        None => "git".into(),
    }
}

/// When a log line was written, since 1970: it begins `2026-01-31T08:00:00.123Z`.
fn time_of(line: &str, day_of: Duration) -> Duration {
    const DAY: u64 = 24 * 3600;
    let digits = |from: usize, to: usize| {
        line.get(from..to).and_then(|text| text.parse::<u64>().ok()).expect("a line has its time")
    };
    let seconds = digits(11, 13) * 3600 + digits(14, 16) * 60 + digits(17, 19);
    let midnight = day_of.as_secs() / DAY * DAY;
    let in_day = Duration::from_secs(seconds) + Duration::from_millis(digits(20, 23));
    let at = Duration::from_secs(midnight) + in_day;
    // A start may begin before midnight and end after it.
    if at + Duration::from_secs(DAY / 2) < day_of { at + Duration::from_secs(DAY) } else { at }
}

/// The samples of one kind of start: the whole, and its parts.
struct Starts {
    whole: Row,
    parts: Vec<Row>,
}

impl Starts {
    fn new(what: &str) -> Starts {
        Starts { whole: Row::new(what).goal_ms(100), parts: Vec::new() }
    }

    /// Parts of one name in one start count as one.
    fn add(&mut self, (took, parts): (Duration, Parts)) {
        self.whole.add(took);
        let mut sums: Vec<(String, u32, Duration)> = Vec::new();
        for (what, took) in parts.0 {
            match sums.iter_mut().find(|(known, ..)| *known == what) {
                Some((_, count, sum)) => {
                    *count += 1;
                    *sum += took;
                }
                None => sums.push((what, 1, took)),
            }
        }
        for (what, count, took) in sums {
            let times = if count > 1 { format!(", {count} times") } else { String::new() };
            let what = format!("– {what}{times}");
            match self.parts.iter_mut().find(|row| row.what == what) {
                Some(row) => row.add(took),
                None => {
                    let mut row = Row::new(&what);
                    row.add(took);
                    self.parts.push(row);
                }
            }
        }
    }

    fn into_rows(self) -> impl Iterator<Item = Row> {
        std::iter::once(self.whole).chain(self.parts)
    }
}

/// A line of a table: something measured many times.
struct Row {
    what: String,
    samples: Vec<Duration>,
    goal: Option<Duration>,
}

impl Row {
    fn new(what: &str) -> Row {
        Row { what: what.into(), samples: Vec::new(), goal: None }
    }

    fn goal_ms(self, ms: u64) -> Row {
        Row { goal: Some(Duration::from_millis(ms)), ..self }
    }

    fn add(&mut self, sample: Duration) {
        self.samples.push(sample);
    }

    /// The smallest sample that so many of a hundred are not above.
    fn percentile(&self, percent: usize) -> Duration {
        let mut samples = self.samples.clone();
        samples.sort();
        let rank = (samples.len() * percent).div_ceil(100).max(1);
        samples[rank - 1]
    }
}

fn print_rows(rows: &[Row]) {
    say("| what | samples | median | p99 | goal | median | p99 |\n|---|---|---|---|---|---|---|");
    for row in rows {
        let (median, p99) = (row.percentile(50), row.percentile(99));
        let met = |took: Duration| row.goal.map_or("", |goal| yes_or_no(took < goal));
        let goal = row.goal.map_or(String::new(), |goal| format!("< {} ms", goal.as_millis()));
        say(&format!(
            "| {} | {} | {} | {} | {goal} | {} | {} |",
            row.what,
            row.samples.len(),
            in_ms(median),
            in_ms(p99),
            met(median),
            met(p99),
        ));
    }
}

fn print_ratio(what: &str, above: &Row, below: &Row, goal: f64) {
    let ratio = above.percentile(50).as_secs_f64() / below.percentile(50).as_secs_f64();
    let met = if ratio <= goal { "met" } else { "not met" };
    say(&format!("{what}: {ratio:.2} (goal: at most {goal}, {met})"));
}

fn print_memory(what: &str, pid: u32, goal_mib: Option<u64>) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|number| number.parse().ok()).expect("a number of kB")
    };
    let mib = |name: &str| format!("{:.1} MiB", kib(name) as f64 / 1024.0);
    let (now, own, peak) = (mib("VmRSS"), mib("RssAnon"), mib("VmHWM"));
    // The goal was set in MB, and is read as MiB; see docs/BENCHMARKS.md.
    let goal = goal_mib.map_or(String::new(), |goal| format!("< {goal} MiB"));
    let met = goal_mib.map_or("", |goal| yes_or_no(kib("VmHWM") < goal * 1024));
    say(&format!("| {what} | {now} | {own} | {peak} | {goal} | {met} |"));
}

/// User and system time of a process and its threads, also of those that have ended. In steps of
/// 10 ms, the kernel's unit in `/proc`.
fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number of ticks");
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// What the figures depend on.
fn machine() -> String {
    let cores = thread::available_parallelism().map_or(0, |cores| cores.get());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: String = load.split(' ').take(1).collect();
    let kernel: String = kernel.split(['-', '\n']).take(1).collect();
    format!(
        "{cores} cores, Linux {kernel}, {}, load average {load} at the start",
        file_system(Path::new(env!("CARGO_TARGET_TMPDIR")))
    )
}

/// The type of the file system that a folder is on: that of the longest mount point above it.
fn file_system(folder: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((PathBuf::from(fields.next()?), fields.next()?.to_string()))
    });
    let above = mounts.filter(|(mount, _)| folder.starts_with(mount));
    above.max_by_key(|(mount, _)| mount.as_os_str().len()).map_or(String::new(), |(_, kind)| kind)
}

fn yes_or_no(met: bool) -> &'static str {
    if met { "met" } else { "not met" }
}

fn in_ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}

fn say(text: &str) {
    // A reader that has gone away misses nothing that it wants.
    let _ = writeln!(io::stdout(), "{text}");
}
