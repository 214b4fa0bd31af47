//! Workers, shims and agents are killed and stopped at any moment, for as long as one likes, and
//! books that are kept outside of kugetsu prove that it keeps its promises.
//!
//! `KUGETSU_TORTURE_SECONDS=600` makes it longer, `KUGETSU_TEST_SEED` repeats its choices.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use kugetsu::job::{Job, Reason, StateKind};
use kugetsu::store::{ListQuery, RedbStore, Store};
use kugetsu::time::SystemClock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{
    Background, REPOSITORY, Ran, Random, World, let_pass, processes_with, seed, wait_for,
};

const CAP: usize = 3;
const ISSUES: u64 = 6;
const WORKERS: usize = 3;
/// Blows that fall in a run of the suite.
const BLOWS: u64 = 60;
/// Enqueuers wait while more jobs than this are pending.
const BACKLOG: u64 = 8;
/// Jobs that the observer sees at most.
const JOBS_MAX: usize = 100_000;
/// Looks for a moment to come, a millisecond apart.
const AIM_POLLS_MAX: u32 = 400;
/// Longest time that a process is stopped, in milliseconds.
const STOP_MS_MAX: u64 = 2_000;

/// Moments that blows are aimed at, by what a worker says just before.
const MOMENTS: [&str; 7] = [
    "claimed job",
    "worktree ready",
    "starting the shim",
    "the shim is at its gate",
    "agent started",
    "taken over",
    "git arguments=[\"worktree\", \"add\"",
];

/// What the agents do, by the first word of their message.
const KINDS: [&str; 9] =
    ["commit", "fork", "flee", "hide", "deaf", "fail", "dirty", "nothing", "hang"];

/// An agent that keeps books.
///
/// The lock of the issue and one of the cap's slots are held by its main process alone, a second
/// lock of the issue by whatever comes of it. And nothing that bears the marks of an earlier run
/// in this worktree may be there any more.
const AGENT: &str = r#"
say() { echo "$*" >> $root/ledger; }
bad() { say "VIOLATION $run $*"; }
run() { "$@" 8>&- 9>&-; }
nap() { run sleep $1; }
run=${KUGETSU_RUN##*/}
n=${KUGETSU_ISSUE##*#}
read -r kind rest
exec 9>> $root/issue-$n; flock -n 9 || bad another agent of issue $n
exec 7>> $root/tree-$n; flock -n 7 || bad something of another agent of issue $n
slot=1
while exec 8>> $root/slot-$slot; ! flock -n 8; do
    slot=$((slot + 1))
    [ $slot -le $cap ] || { bad more than $cap agents; break; }
done
say begin $n $KUGETSU_JOB $run $kind
for file in $(run grep -lzxF "KUGETSU_WORKTREE=$KUGETSU_WORKTREE" /proc/[0-9]*/environ 2> /dev/null); do
    found=$(run tr '\0' '\n' 2> /dev/null < $file | run grep ^KUGETSU_RUN=)
    [ "${found:-KUGETSU_RUN=$KUGETSU_RUN}" = "KUGETSU_RUN=$KUGETSU_RUN" ] || bad alive: $file $found
done
commit() {
    echo "$run" >> work-$n
    run git add -A && run git commit -qm "$run" || { say refused $n $run; return 1; }
    head=$(run git rev-parse HEAD) && say commit $n $head
}
case $kind in
commit) commit; nap 0.1; commit ;;
fork) (run sleep 60) 8>&- 9>&- & commit; nap 0.2 ;;
flee) run setsid sh -c 'setsid sleep 60 & exec sleep 60' > /dev/null 2>&1 & commit; nap 0.3 ;;
hide)
    hidden='for n in 3 4 5 6 7 8 9; do eval "exec $n>&-"; done; sleep 60 & exec sleep 60'
    run setsid sh -c "$hidden" > /dev/null 2>&1 < /dev/null & nap 0.3; commit ;;
deaf) trap '' TERM; commit; (run sleep 60) & nap 0.7; commit ;;
fail) nap 0.2; exit 3 ;;
dirty) echo $run >> dirt-$n; nap 0.1 ;;
You) [ $((${KUGETSU_JOB%/*} % 2)) = 0 ] && commit; nap 0.1 ;;
nothing) nap 0.1 ;;
hang)
    read -r begun < $root/blows; now=$begun
    until [ -e $root/go ] || [ $now -gt $((begun + 5)) ]; do nap 0.05; read -r now < $root/blows; done
    commit ;;
*) bad no such message: $kind $rest ;;
esac
say end $n $KUGETSU_JOB $run
"#;

/// What was answered with success.
#[derive(Default)]
struct Acknowledged {
    enqueued: BTreeSet<u64>,
    cancelled: BTreeSet<u64>,
}

/// Everything that a thread of the test needs.
struct Torture {
    world: World,
    store: RedbStore,
    acknowledged: Mutex<Acknowledged>,
    seed: u64,
}

/// A process that may end at any moment, and whose number may be somebody else's then.
#[derive(Clone, PartialEq)]
struct Target {
    pid: i32,
    start_time: u64,
}

impl Target {
    fn of(pid: i32) -> Option<Target> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let start_time = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
        Some(Target { pid, start_time })
    }

    fn signal(&self, signal: Signal) {
        if Target::of(self.pid).as_ref() == Some(self) {
            // It may have ended just now.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

impl Torture {
    fn new(seed: u64) -> Torture {
        let mut world = World::new();
        let root = world.root();
        world.agent(&format!("root={}; cap={CAP}\n{AGENT}", root.display()));
        fs::write(root.join("blows"), "0\n").expect("a file");
        for (name, value) in [
            ("KUGETSU_LEASE", "1s"),
            ("KUGETSU_POLL_INTERVAL", "150ms"),
            ("KUGETSU_LOG", "debug"),
            ("MAX_CONCURRENT_AGENTS", "3"),
        ] {
            world.set(name, value);
        }
        world.ok(&["queue", "stats"]);
        let path = world.home().join("queue.redb");
        let store = RedbStore::open(&path, Arc::new(SystemClock)).expect("the queue opens");
        Torture { world, store, acknowledged: Mutex::default(), seed }
    }

    fn ledger(&self) -> Vec<Vec<String>> {
        let text = fs::read_to_string(self.world.root().join("ledger")).unwrap_or_default();
        text.lines().map(|line| line.split(' ').map(String::from).collect()).collect()
    }

    /// Runs a command, again while somebody who was stopped keeps the queue locked.
    fn run_patiently(&self, arguments: &[&str]) -> Ran {
        wait_for("the queue", || Some(self.world.run(arguments)).filter(|ran| ran.code != 4))
    }

    /// Enqueues and cancels, as long as blows fall.
    fn use_it(&self, name: u64, blows: &Weak<()>) {
        let mut random = Random(self.seed.wrapping_add(name));
        for round in 0.. {
            let over = || blows.strong_count() == 0;
            wait_for("room in the queue", || {
                let pending = self.store.stats().map_or(BACKLOG, |stats| stats.pending);
                (pending < BACKLOG || over()).then_some(())
            });
            if over() {
                return;
            }
            match random.below(4) {
                0 => self.cancel_any(&mut random),
                _ => self.enqueue(&format!("{name}-{round}"), &mut random),
            }
        }
    }

    fn enqueue(&self, request: &str, random: &mut Random) {
        let kind = KINDS[pick(random, KINDS.len())];
        let issue = format!("{REPOSITORY}#{}", random.below(ISSUES) + 1);
        let (message, request) = (format!("{kind} it"), format!("--request-id={request}"));
        let mut arguments = vec!["queue", "enqueue", &issue, &message, &request, "--format=json"];
        if random.below(6) == 0 {
            arguments.push("--timeout=1s");
        }
        let ran = self.run_patiently(&arguments);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let answer: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
        let id = answer["id"].as_u64().expect("a number");
        self.acknowledged.lock().expect("nobody panics with it").enqueued.insert(id);
    }

    fn cancel_any(&self, random: &mut Random) {
        let known = self.acknowledged.lock().expect("nobody panics with it").enqueued.clone();
        let unfinished: Vec<u64> = self.jobs().into_iter().filter_map(unfinished).collect();
        let of_these: Vec<u64> = unfinished.into_iter().filter(|id| known.contains(id)).collect();
        if of_these.is_empty() {
            return;
        }
        let id = of_these[pick(random, of_these.len())];
        let ran = self.run_patiently(&["queue", "cancel", &id.to_string()]);
        match ran.code {
            0 => _ = self.acknowledged.lock().expect("nobody panics").cancelled.insert(id),
            code => assert!(ran.stderr.contains("already"), "{code}: {}", ran.stderr),
        }
    }

    fn jobs(&self) -> Vec<Job> {
        // Busy at times, as for everybody.
        wait_for("an answer", || self.store.list(&ListQuery::all(JOBS_MAX)).ok()).items
    }

    /// What an observer may ask at any time.
    fn audit(&self) {
        let jobs = self.jobs();
        let running: Vec<&Job> =
            jobs.iter().filter(|job| job.state.kind() == StateKind::Notified).collect();
        let issues: BTreeSet<String> = running.iter().map(|job| job.issue.to_string()).collect();
        assert!(running.len() <= CAP && issues.len() == running.len(), "{running:#?}");
        // What had ended before the processes are looked at has none.
        let ended: BTreeSet<u64> =
            jobs.iter().filter(|job| job.state.kind().is_ended()).map(|job| job.id.0).collect();
        for (pid, run) in self.processes_of_runs() {
            let id = run.split('-').next().and_then(|id| id.parse().ok()).expect("a number");
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            assert!(!ended.contains(&id), "process {pid} ({name}) of {run} outlives its job");
        }
        if let Ok(problems) = self.store.verify() {
            assert_eq!(problems, Vec::<String>::new());
        }
    }

    /// Agents and what comes of them, each with the name of its run.
    fn processes_of_runs(&self) -> Vec<(i32, String)> {
        let beginning = format!("KUGETSU_RUN={}/", self.world.home().join("runs").display());
        let run_of = |pid: i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let environment = String::from_utf8_lossy(&environment).into_owned();
            let entry = environment.split('\0').find_map(|entry| entry.strip_prefix(&beginning));
            Some((pid, entry?.to_string()))
        };
        let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(run_of).collect()
    }

    fn shims(&self) -> Vec<Target> {
        let marker = format!("KUGETSU_DIR={}", self.world.home().display());
        let is_shim = |pid: &i32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim() == "kugetsu-shim"
        };
        let pids = processes_with(&marker).into_iter().filter(is_shim);
        pids.filter_map(Target::of).collect()
    }

    fn agents(&self) -> Vec<Target> {
        self.processes_of_runs().into_iter().filter_map(|(pid, _)| Target::of(pid)).collect()
    }

    fn new_worker(&self) -> Background {
        self.world.worker(&[])
    }
}

/// Who falls, and who stands up again.
struct Chaos<'t, 's, 'e> {
    torture: &'t Torture,
    scope: &'s Scope<'s, 'e>,
    workers: Vec<Background>,
    random: Random,
}

impl Chaos<'_, '_, '_> {
    fn blow(&mut self) {
        if self.random.below(2) == 0 {
            let_pass(self.random.up_to_ms(300));
        } else {
            self.aim();
        }
        let place = self.worker_of_newest_shim();
        let place = place.unwrap_or_else(|| pick(&mut self.random, WORKERS));
        match self.random.below(16) {
            0..=3 => self.workers[place].kill(),
            4 => self.workers[place].signal(Signal::SIGTERM),
            5..=8 => {
                let worker = Target::of(self.workers[place].pid());
                self.stop(worker);
            }
            9..=11 => {
                let shim = self.any_of(&self.torture.shims());
                self.stop(shim);
            }
            12 | 13 => self.kill_any(&self.torture.shims()),
            14 => self.kill_any(&self.torture.agents()),
            _ => {
                self.workers[place].kill();
                self.kill_any(&self.torture.shims());
            }
        }
        self.replace_the_dead();
    }

    /// Waits a while for the moment just after a worker says a certain thing.
    fn aim(&mut self) {
        let words = MOMENTS[pick(&mut self.random, MOMENTS.len())];
        let log = self.torture.world.root().join("worker.log");
        let said = || fs::read(&log).unwrap_or_default();
        let from = said().len();
        for _ in 0..AIM_POLLS_MAX {
            if String::from_utf8_lossy(&said()[from..]).contains(words) {
                break;
            }
            let_pass(Duration::from_millis(1));
        }
        let_pass(self.random.up_to_ms(8));
    }

    /// Half of the times, the one that has just begun a run.
    fn worker_of_newest_shim(&mut self) -> Option<usize> {
        let newest = self.torture.shims().into_iter().max_by_key(|shim| shim.start_time)?;
        let stat = fs::read_to_string(format!("/proc/{}/stat", newest.pid)).ok()?;
        let parent: i32 = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        let place = self.workers.iter().position(|worker| worker.pid() == parent)?;
        (self.random.below(2) == 0).then_some(place)
    }

    fn any_of(&mut self, targets: &[Target]) -> Option<Target> {
        (!targets.is_empty()).then(|| targets[pick(&mut self.random, targets.len())].clone())
    }

    fn kill_any(&mut self, targets: &[Target]) {
        if let Some(target) = self.any_of(targets) {
            target.signal(Signal::SIGKILL);
        }
    }

    /// Stops a process, and lets it go on later.
    fn stop(&mut self, target: Option<Target>) {
        let Some(target) = target else { return };
        target.signal(Signal::SIGSTOP);
        let time = self.random.up_to_ms(STOP_MS_MAX);
        self.scope.spawn(move || {
            let_pass(time);
            target.signal(Signal::SIGCONT);
        });
    }

    fn replace_the_dead(&mut self) {
        for worker in &mut self.workers {
            if !worker.is_running() {
                // Killed, told to end, or the queue was busy for longer than it waits.
                let status = worker.wait();
                let allowed = [None, Some(0), Some(4)];
                assert!(allowed.contains(&status.code()), "a worker ended by itself: {status}");
                *worker = self.torture.new_worker();
            }
        }
    }
}

/// How long blows fall: so many, or so many seconds.
#[expect(clippy::disallowed_methods, reason = "the one place where its length is read")]
fn blows() -> impl Iterator<Item = u64> {
    let text = std::env::var("KUGETSU_TORTURE_SECONDS").ok();
    let seconds = text.map(|text| text.parse().expect("KUGETSU_TORTURE_SECONDS is a number"));
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    (0..).take_while(move |blow| match end {
        Some(end) => Instant::now() < end,
        None => *blow < BLOWS,
    })
}

fn torture(torture: &Torture) -> Vec<Background> {
    // Held for as long as blows fall, and dropped by a panic too.
    let alive = Arc::new(());
    thread::scope(|scope| {
        for name in 1..=2 {
            let blows = Arc::downgrade(&alive);
            scope.spawn(move || torture.use_it(name, &blows));
        }
        let watched = Arc::downgrade(&alive);
        scope.spawn(move || {
            while watched.strong_count() > 0 {
                torture.audit();
            }
        });
        let workers = (0..WORKERS).map(|_| torture.new_worker()).collect();
        let mut chaos = Chaos { torture, scope, workers, random: Random(torture.seed) };
        for blow in blows() {
            chaos.blow();
            let next = torture.world.root().join("blows.next");
            fs::write(&next, format!("{blow}\n")).expect("a file");
            fs::rename(&next, torture.world.root().join("blows")).expect("it is ours");
        }
        drop(alive);
        chaos.workers
    })
}

/// Ends the workers while agents are at work, and runs what is left.
fn drain(torture: &Torture, workers: Vec<Background>) {
    for mut worker in workers {
        if worker.is_running() {
            worker.signal(Signal::SIGTERM);
        }
        worker.wait();
    }
    fs::write(torture.world.root().join("go"), "").expect("a file");
    let (world, max_agents) = (&torture.world, format!("--max-agents={CAP}"));
    assert!(world.worker(&["--once", &max_agents]).wait().success());
    // This one finds nothing to do but to tidy up.
    world.work();
    world.assert_no_process_left();
    let names = |folder: &str| -> Vec<_> {
        let entries = fs::read_dir(world.home().join(folder)).expect("a folder").flatten();
        entries.map(|entry| entry.file_name()).collect()
    };
    assert_eq!(names("runs"), [""; 0]);
    // The file of the last worker stays, and tells that it is gone. The draft of one that was killed
    // while it began goes after ten minutes.
    let mut workers = names("workers");
    workers.retain(|name| !name.to_string_lossy().ends_with(".new"));
    assert!(workers.len() <= 1, "{workers:?}");
}

/// Reads the ledger, and says how many runs it tells of.
fn check_ledger(torture: &Torture) -> usize {
    let ledger = torture.ledger();
    let mut begun = BTreeSet::new();
    for line in &ledger {
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        match words[..] {
            ["begin", _, _, run, _] => assert!(begun.insert(run), "{run} began twice"),
            ["end", _, _, run] => assert!(begun.contains(run), "{run} never began"),
            ["commit", issue, commit] => torture.assert_kept(issue, commit),
            ["refused", ..] => {}
            _ => panic!("{}", line.join(" ")),
        }
    }
    begun.len()
}

impl Torture {
    /// A commit that an agent made is on its issue's branch.
    fn assert_kept(&self, issue: &str, commit: &str) {
        let issue = issue.parse().expect("a number");
        let clone = self.world.worktree(issue);
        let branch = self.world.git(&clone, &["branch", "--show-current"]);
        let line = format!("git merge-base --is-ancestor {commit} refs/heads/{branch}");
        let ran = self.world.shell(&format!("cd {} && {line}", clone.display()));
        assert_eq!(ran.code, 0, "{commit} of issue {issue} is lost: {}", ran.stderr);
    }
}

/// What the queue says in the end; gives how many jobs ended for which reason.
fn check_end(torture: &Torture) -> BTreeMap<String, usize> {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let jobs: BTreeMap<u64, Job> = torture.jobs().into_iter().map(|job| (job.id.0, job)).collect();
    let acknowledged = torture.acknowledged.lock().expect("nobody panics with it");
    for id in &acknowledged.enqueued {
        let job = jobs.get(id).unwrap_or_else(|| panic!("job {id} was acknowledged"));
        let (last, others) = match job.attempts.split_last() {
            Some((last, others)) => (Some(last.report.reason), others),
            None => (None, &[][..]),
        };
        let outcome = job.outcome().unwrap_or_else(|| panic!("{job:#?} has not ended"));
        let is_cancelled = outcome.reason == Reason::Cancelled;
        // Between two attempts it is cancelled without one.
        assert!(is_cancelled || last.is_some_and(|reason| reason == outcome.reason), "{job:#?}");
        let over = [Reason::Done, Reason::Cancelled];
        assert!(others.iter().all(|attempt| !over.contains(&attempt.report.reason)), "{job:#?}");
        let was_cancelled = acknowledged.cancelled.contains(id);
        assert_eq!(is_cancelled, job.state.kind() == StateKind::Cancelled, "{job:#?}");
        assert_eq!(was_cancelled, is_cancelled, "{job:#?}");
        for attempt in &job.attempts {
            let is_ours = attempt.report.reason == Reason::WorktreeFailed;
            assert!(!is_ours, "no blow is the job's fault: {job:#?}");
            *reasons.entry(attempt.report.reason.to_string()).or_default() += 1;
        }
    }
    for line in torture.ledger().iter().filter(|line| line[0] == "begin") {
        let [_, _, job, run, kind] = &line[..] else { panic!("{line:?}") };
        let id = job.split('/').next().and_then(|id| id.parse().ok()).expect("a number");
        let is_reminder = run.ends_with("-2");
        let expected = if is_reminder { "You" } else { &jobs[&id].message };
        assert_eq!(Some(&**kind), expected.split(' ').next(), "{run} has read another message");
    }
    assert_eq!(torture.store.verify().expect("a read"), Vec::<String>::new());
    reasons
}

/// What a failure is understood by.
impl Drop for Torture {
    #[expect(clippy::print_stdout, reason = "a test's output is shown when it fails")]
    fn drop(&mut self) {
        let text =
            |name: &str| fs::read_to_string(self.world.root().join(name)).unwrap_or_default();
        if thread::panicking() {
            println!("ledger:\n{}", text("ledger"));
            println!("workers:\n{}", text("worker.log"));
            println!("KUGETSU_TEST_SEED={} failed", self.seed);
        }
    }
}

#[test]
fn whatever_dies_or_hangs_every_promise_is_kept() {
    let seed = seed();
    println!("KUGETSU_TEST_SEED={seed}");
    let mine = Torture::new(seed);
    let workers = torture(&mine);
    drain(&mine, workers);
    println!("{} runs", check_ledger(&mine));
    println!("how jobs ended: {:?}", check_end(&mine));
}
fn unfinished(job: Job) -> Option<u64> {
    (!job.state.kind().is_ended()).then_some(job.id.0)
}

fn pick(random: &mut Random, bound: usize) -> usize {
    let bound = u64::try_from(bound).expect("small");
    usize::try_from(random.below(bound)).expect("small")
}
