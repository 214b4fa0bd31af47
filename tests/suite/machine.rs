//! Trouble of the machine: no room, no files, no processes, no memory, a disk that says no, a git
//! that is killed. No job pays for it; the worker says what is wrong, and goes on by itself.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::disk::{Disk, Kind, is_tried_already, left_out};
use crate::support::{Background, World, is_alive, program, wait_for};

/// More than any room that a worker could want to keep free.
const DISK_KIBIBYTES: u64 = 256 << 10;
/// Enough files for everything but a test that makes them scarce.
const FILES: u64 = 20_000;
const JOBS: u64 = 12;
const AGENTS: usize = 3;
/// Claims that came to nothing, in all jobs together: those that were under way, and a few looks.
const CLAIMS_IN_VAIN_MAX: u64 = 9;

/// Commits, says that it is there, and ends when it may: its end falls into the trouble.
const COMMIT_FIRST: &str = "echo $KUGETSU_JOB >> work.txt; git add work.txt
    git commit -qm work; echo > $ROOT/begun-${KUGETSU_JOB%%/*}
    while [ -e $ROOT/hold ]; do sleep 0.02; done
    i=0; while [ $i -lt 200 ]; do echo a line for the log; i=$((i + 1)); done";
/// The same, but its commit falls into the trouble.
const COMMIT_LAST: &str = "echo > $ROOT/begun-${KUGETSU_JOB%%/*}
    while [ -e $ROOT/hold ]; do sleep 0.02; done
    echo $KUGETSU_JOB >> work.txt; git add work.txt && git commit -qm work";

fn world(agent: &str) -> World {
    let mut world = World::new();
    world.agent(&agent.replace("$ROOT", world.root().to_str().expect("letters")));
    world.set("NETWORK_RETRY_DELAY_SECONDS", "0");
    world.set("KUGETSU_MAX_ATTEMPTS", "1");
    world.set("MAX_CONCURRENT_AGENTS", &AGENTS.to_string());
    fs::write(world.root().join("hold"), "").expect("a file");
    world
}

/// What begins and ends: the world, and the worker that is in it.
type Blow<'b> = &'b dyn Fn(&World, &Background);

/// Agents that were at work when the trouble began end in it, others wait for its end; all jobs are
/// completed without a cost, and the worker has said what was wrong, without saying it for ever.
fn check(world: &World, worker: &Background, begin: Blow<'_>, words: &[&str], end: Blow<'_>) {
    wait_for("agents at work", || (begun(world) == AGENTS).then_some(()));
    begin(world, worker);
    fs::remove_file(world.root().join("hold")).expect("it is there");
    wait_for(&format!("one of {words:?} in the worker's log"), || {
        (!lines_with(world, words).is_empty()).then_some(())
    });
    end(world, worker);
    assert_all_complete(world);
    let said = lines_with(world, words);
    assert!(said.len() <= 2 + 2 * AGENTS, "again and again: {said:#?}");
    let same: BTreeSet<&String> = said.iter().collect();
    assert_eq!(same.len(), said.len(), "the same again: {said:#?}");
}

fn enqueue_all(world: &World) {
    for issue in 1..=JOBS {
        world.enqueue(issue, &[]);
    }
}

fn begun(world: &World) -> usize {
    let entries = fs::read_dir(world.root()).expect("a folder").flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("begun-")).count()
}

fn worker_log(world: &World) -> String {
    fs::read_to_string(world.root().join("worker.log")).unwrap_or_default()
}

/// What a worker said of something, without the times.
fn lines_with(world: &World, words: &[&str]) -> Vec<String> {
    let log = worker_log(world);
    let lines = log.lines().filter(|line| words.iter().any(|words| line.contains(words)));
    lines.map(|line| line.split_once(' ').map_or(line, |(_, rest)| rest).trim().into()).collect()
}

/// The only attempt that each job has was not used up, and neither was anything else.
fn assert_all_complete(world: &World) {
    let mut claims = 0;
    for id in 1..=JOBS {
        let job = wait_for(&format!("the end of job {id}"), || {
            let ran = world.run(&["queue", "show", &id.to_string(), "--format=json"]);
            let job: Value = serde_json::from_str(&ran.stdout).ok()?;
            let state = job["state"].as_str()?.to_string();
            matches!(&*state, "completed" | "error" | "cancelled").then_some(job)
        });
        let log = worker_log(world);
        assert_eq!(job["state"], "completed", "{job:#}\n{log}");
        for budget in ["attempts", "lost", "start_failed", "deferred"] {
            assert_eq!(job["spent"][budget], 0, "job {id} paid {budget}: {job:#}\n{log}");
        }
        claims += job["spent"]["claims"].as_u64().expect("a number");
    }
    assert!(claims <= JOBS + CLAIMS_IN_VAIN_MAX, "{claims} claims for {JOBS} jobs");
}

/// A disk of its own for kugetsu's folder, or the word that there is none.
fn disk(made: Result<Disk, String>) -> Option<Disk> {
    made.inspect_err(|why| left_out("a disk that is full or says no", why)).ok()
}

fn check_full(disk: Result<Disk, String>, world: &World, fill: fn(&Disk) -> PathBuf) {
    let Some(disk) = self::disk(disk) else { return };
    enqueue_all(world);
    let worker = world.worker(&[]);
    let remove = |path: &Path| match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    check(
        world,
        &worker,
        &|_, _| drop(fill(&disk)),
        &["No space left on device", "no room", "is full"],
        &|world, _| remove(&world.home().join("fill")).expect("it is there"),
    );
}

#[test]
fn no_room() {
    if !is_tried_already("a full disk") {
        return;
    }
    let world = world(COMMIT_FIRST);
    check_full(Disk::in_memory(DISK_KIBIBYTES, FILES, &world.home()), &world, Disk::fill);
}

#[test]
fn no_room_on_a_disk_with_a_journal() {
    if !is_tried_already("a full disk with a journal") {
        return;
    }
    let world = world(COMMIT_FIRST);
    let image = world.root().join("image");
    let disk = Disk::make_of(Kind::Ext4, DISK_KIBIBYTES >> 10, &image, &world.home());
    check_full(disk, &world, Disk::fill);
}

#[test]
fn no_files() {
    if !is_tried_already("a disk without inodes") {
        return;
    }
    let world = world(COMMIT_FIRST);
    check_full(Disk::in_memory(DISK_KIBIBYTES, FILES, &world.home()), &world, Disk::fill_files);
}

#[test]
fn no_room_for_what_an_agent_commits() {
    if !is_tried_already("a disk that is full for what an agent commits") {
        return;
    }
    let world = world(COMMIT_LAST);
    check_full(Disk::in_memory(DISK_KIBIBYTES, FILES, &world.home()), &world, Disk::fill);
}

#[test]
fn no_files_for_what_an_agent_commits() {
    if !is_tried_already("a disk without inodes for what an agent commits") {
        return;
    }
    let world = world(COMMIT_LAST);
    check_full(Disk::in_memory(DISK_KIBIBYTES, FILES, &world.home()), &world, Disk::fill_files);
}

#[test]
fn no_open_files() {
    let world = world(COMMIT_FIRST);
    if world.shell("prlimit --version").code != 0 {
        return left_out("a worker without open files", "there is no prlimit");
    }
    enqueue_all(&world);
    let worker = world.worker(&[]);
    let limit = |world: &World, worker: &Background, most: usize| {
        let ran = world.shell(&format!("prlimit --pid {} --nofile={most}:4096", worker.pid()));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    };
    let open = || fs::read_dir(format!("/proc/{}/fd", worker.pid())).expect("it lives").count();
    check(
        &world,
        &worker,
        &|world, worker| limit(world, worker, open()),
        &["Too many open files"],
        &|world, worker| limit(world, worker, 4096),
    );
}

fn give_to_nobody(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            give_to_nobody(&entry.path());
        } else {
            chown(entry.path(), Some(NOBODY), Some(NOBODY)).expect("root may");
        }
    }
}

/// A user and a group of their own, so that nobody else's processes count: root has no limit.
const NOBODY: u32 = 64_731;

#[test]
fn no_processes() {
    if !is_tried_already("a worker without processes") {
        return;
    }
    let world = world(COMMIT_FIRST);
    if !nix::unistd::geteuid().is_root() {
        return left_out("a worker without processes", "only root can become somebody else");
    }
    give_to_nobody(&world.root());
    let as_nobody = |arguments: &[&str]| {
        let mut command = program("setpriv");
        let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
        command.args(&ids).args(["--clear-groups", env!("CARGO_BIN_EXE_kugetsu")]).args(arguments);
        command.current_dir(world.root()).env_clear().envs(world.environment());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    };
    let can_run = as_nobody(&["--version"]).status().is_ok_and(|status| status.success());
    if !can_run {
        return left_out("a worker without processes", "nobody may not run kugetsu from here");
    }
    for issue in 1..=JOBS {
        let issue = format!("git.test/o/r#{issue}");
        let ran = as_nobody(&["queue", "enqueue", &issue, "fix it"]).status().expect("it runs");
        assert!(ran.success());
    }
    let log = fs::File::create(world.root().join("worker.log")).expect("a file");
    let worker = Background::spawn(as_nobody(&["worker"]).stderr(log));
    let limit = |world: &World, worker: &Background, most: &str| {
        let ran = world.shell(&format!("prlimit --pid {} --nproc={most}", worker.pid()));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    };
    wait_for("agents at work", || (begun(&world) == AGENTS).then_some(()));
    limit(&world, &worker, "1:");
    fs::remove_file(world.root().join("hold")).expect("it is there");
    wait_for("the word", || {
        (!lines_with(&world, &["Resource temporarily unavailable"]).is_empty()).then_some(())
    });
    limit(&world, &worker, "4096:");
    let show = |id: u64| -> Option<Value> {
        let ran = as_nobody(&["queue", "show", &id.to_string(), "--format=json"])
            .stdout(Stdio::piped())
            .output()
            .expect("it runs");
        serde_json::from_slice(&ran.stdout).ok()
    };
    for id in 1..=JOBS {
        let job = wait_for("an end", || {
            show(id).filter(|job| job["state"] != "pending" && job["state"] != "notified")
        });
        assert_eq!(job["state"], "completed", "{job:#}\n{}", worker_log(&world));
        assert_eq!(job["spent"]["attempts"], 0, "{job:#}");
    }
}

/// A git of kugetsu's own that fails as long as the trouble lasts; that of an agent works.
fn check_git(line: &str, words: &[&str]) {
    let mut world = world(COMMIT_FIRST);
    let trouble = world.root().join("trouble");
    let is_trouble = format!("[ -z \"$KUGETSU_RUN\" ] && [ -e {} ]", trouble.display());
    world.fake_git("*", &format!("if {is_trouble}; then {line}; fi"));
    enqueue_all(&world);
    let worker = world.worker(&[]);
    check(&world, &worker, &|_, _| fs::write(&trouble, "").expect("a file"), words, &|_, _| {
        fs::remove_file(&trouble).expect("it is there")
    });
}

fn git_says(message: &str, words: &str) {
    check_git(&format!("echo '{message}' >&2; exit 128"), &[words]);
}

#[test]
fn git_is_killed() {
    check_git("kill -9 $$", &["SIGKILL", "signal 9", "signal: 9", "was killed"]);
}

#[test]
fn git_finds_no_room() {
    git_says("fatal: write error: No space left on device", "No space left on device");
}

#[test]
fn git_finds_a_disk_that_fails() {
    git_says("fatal: unable to read object: Input/output error", "Input/output error");
}

#[test]
fn git_finds_a_disk_that_can_only_be_read() {
    git_says("fatal: cannot lock ref: Read-only file system", "Read-only file system");
}

#[test]
fn git_cannot_fork() {
    git_says(
        "error: cannot fork() for git-upload-pack: Resource temporarily unavailable",
        "Resource temporarily unavailable",
    );
}

#[test]
fn git_finds_no_memory() {
    git_says("fatal: Out of memory, malloc failed (tried to allocate 9 bytes)", "Out of memory");
}

#[test]
fn git_cannot_make_a_temporary_file() {
    let message = "error: unable to create temporary file: No space left on device";
    git_says(message, "No space left on device");
}

#[test]
fn a_temporary_folder_that_is_not_there_costs_nothing() {
    for is_file in [false, true] {
        let mut world = world("exit 1");
        world.agent(
            "f=$(mktemp) || exit 1; echo $KUGETSU_JOB > $f; cat $f > work.txt
             git add work.txt; git commit -qm work",
        );
        let folder = world.root().join("later");
        if is_file {
            fs::write(&folder, "").expect("a file");
        }
        world.set("TMPDIR", folder.to_str().expect("letters"));
        enqueue_all(&world);
        let doctor = world.run(&["doctor"]);
        let name = folder.display().to_string();
        assert!(doctor.stdout.contains(&name), "{}{}", doctor.stdout, doctor.stderr);
        // Agents have one of their own.
        let _worker = world.worker(&[]);
        assert_all_complete(&world);
    }
}

#[test]
fn a_job_is_cancelled_on_a_full_disk() {
    let world = world(COMMIT_FIRST);
    let made = Disk::in_memory(DISK_KIBIBYTES, FILES, &world.home());
    let Some(disk) = disk(made) else { return };
    let id = world.enqueue(1, &[]);
    let waiting = world.enqueue(1, &[]);
    let _worker = world.worker(&[]);
    wait_for("an agent", || (begun(&world) == 1).then_some(()));
    let fill = disk.fill();
    for id in [id, waiting] {
        let ran = world.run(&["queue", "cancel", &id.to_string()]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    world.assert_no_agent_left();
    fs::remove_file(fill).expect("it is there");
    assert_eq!(world.ended(id)["state"], "cancelled");
    assert_eq!(world.ended(waiting)["state"], "cancelled");
}

/// Folders of kugetsu's that somebody tidies away under a running worker.
const FOLDERS: [&str; 5] = ["runs", "logs", "worktrees", "mirrors", "evidence"];

#[test]
fn a_folder_that_is_removed_under_a_worker_is_made_again() {
    let world = world(COMMIT_FIRST);
    fs::remove_file(world.root().join("hold")).expect("it is there");
    let _worker = world.worker(&[]);
    world.ended(world.enqueue(1, &[]));
    for (folder, issue) in FOLDERS.iter().zip(2..) {
        // In one step, whatever the worker tidies there at the moment.
        let gone = world.root().join("gone");
        fs::rename(world.home().join(folder), &gone).expect(folder);
        fs::remove_dir_all(&gone).expect("it is there");
        for issue in [issue, issue + 10] {
            let job = world.ended(world.enqueue(issue, &[]));
            assert_eq!(job["state"], "completed", "without {folder}: {job:#}");
            assert_eq!(job["spent"]["start_failed"], 0, "without {folder}: {job:#}");
        }
    }
}

#[test]
fn a_file_in_the_place_of_a_folder_is_named_and_costs_nothing() {
    let world = world(COMMIT_FIRST);
    fs::remove_file(world.root().join("hold")).expect("it is there");
    let _worker = world.worker(&[]);
    world.ended(world.enqueue(1, &[]));
    for (folder, issue) in FOLDERS.iter().zip(2..) {
        let path = world.home().join(folder);
        fs::rename(&path, world.root().join(folder)).expect(folder);
        fs::write(&path, "").expect("a file");
        let id = world.enqueue(issue, &[]);
        let name = path.display().to_string();
        wait_for("a word on it", || worker_log(&world).contains(&name).then_some(()));
        let why = world.run(&["queue", "why", &id.to_string()]);
        assert!(why.stdout.contains(&name), "why: {}{}", why.stdout, why.stderr);
        fs::remove_file(&path).expect("it is there");
        fs::rename(world.root().join(folder), &path).expect(folder);
        let job = world.ended(id);
        assert_eq!(job["state"], "completed", "{folder} was a file: {job:#}");
        assert_eq!(job["spent"]["start_failed"], 0, "{folder} was a file: {job:#}");
    }
}

#[test]
fn runs_that_are_removed_under_an_agent_cost_nothing() {
    let world = world(COMMIT_FIRST);
    enqueue_all(&world);
    let _worker = world.worker(&[]);
    wait_for("agents at work", || (begun(&world) == AGENTS).then_some(()));
    let gone = world.root().join("gone");
    fs::rename(world.home().join("runs"), &gone).expect("it is there");
    fs::remove_dir_all(&gone).expect("it is ours");
    fs::remove_file(world.root().join("hold")).expect("it is there");
    for id in 1..=JOBS {
        let job = world.ended(id);
        assert_eq!(job["state"], "completed", "{job:#}\n{}", worker_log(&world));
    }
}

#[test]
fn doctor_knows_how_many_files_can_still_be_made() {
    let world = world(COMMIT_FIRST);
    let made = Disk::in_memory(4 << 20, FILES, &world.home());
    let Some(disk) = disk(made) else { return };
    world.enqueue(1, &[]);
    let ran = world.run(&["doctor"]);
    assert!(ran.stdout.contains("inodes"), "{}", ran.stdout);
    disk.fill_files();
    let ran = world.run(&["doctor"]);
    let line = ran.stdout.lines().find(|line| line.contains("inodes")).expect(&ran.stdout);
    assert!(line.contains('0') && ran.code != 0, "{}", ran.stdout);
}

/// A control group with little memory; or why there can be none here. Removed when dropped.
struct SmallMemory(PathBuf);

impl SmallMemory {
    fn make() -> Result<SmallMemory, String> {
        let name = format!("kugetsu-test-{}", std::process::id());
        let places = [
            ("/sys/fs/cgroup", "memory.max"),
            ("/sys/fs/cgroup/unified", "memory.max"),
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ];
        for (root, limit) in places {
            let folder = Path::new(root).join(&name);
            // Only where cgroups are mounted does a new folder have files.
            if fs::create_dir(&folder).is_ok() {
                let group = SmallMemory(folder);
                if group.0.join(limit).exists() && fs::write(group.0.join(limit), "96M").is_ok() {
                    let _ = fs::write(group.0.join("memory.swap.max"), "0");
                    return Ok(group);
                }
            }
        }
        Err("no control group with a limit of memory can be made".into())
    }

    fn hold(&self, process: &Background) {
        let pid = process.pid().to_string();
        fs::write(self.0.join("cgroup.procs"), pid).expect("it is ours");
    }
}

impl Drop for SmallMemory {
    fn drop(&mut self) {
        // Its processes are killed before, and leave in a moment.
        wait_for("the end of a control group", || match self.0.exists() {
            true => fs::remove_dir(&self.0).ok(),
            false => Some(()),
        });
    }
}

#[test]
fn who_is_killed_for_want_of_memory_does_not_pay() {
    let group = match SmallMemory::make() {
        Ok(group) => group,
        Err(why) => return left_out("an agent that is killed for want of memory", &why),
    };
    let mut world = world("");
    // The first attempt needs more than there is: `tail` keeps a line that does not end.
    world.agent(&format!(
        "if mkdir {}/greedy-$KUGETSU_BRANCH 2>/dev/null; then exec tail /dev/zero; fi
         echo $KUGETSU_JOB > work.txt; git add work.txt; git commit -qm work",
        world.root().display()
    ));
    let worker = world.worker(&[]);
    group.hold(&worker);
    let id = world.enqueue(1, &[]);
    let job = world.ended(id);
    assert_eq!(job["state"], "completed", "{job:#}\n{}", worker_log(&world));
    assert_eq!(job["spent"]["attempts"], 0, "{job:#}");
    let mut worker = worker;
    worker.kill();
    world.assert_no_process_left();
}

/// The counterpart: a SIGKILL of somebody else's is the attempt's end.
#[test]
fn an_agent_that_somebody_kills_pays() {
    let world = world("echo $$ > $ROOT/pid; exec sleep 1000");
    let id = world.enqueue(1, &[]);
    let _worker = world.worker(&[]);
    let agent: i32 = world.file("pid").trim().parse().expect("a pid");
    assert!(is_alive(agent));
    kill(Pid::from_raw(agent), Signal::SIGKILL).expect("it is ours");
    let job = world.ended(id);
    assert_eq!(
        (&job["state"], &job["reason"]),
        (&"error".into(), &"agent_error".into()),
        "{job:#}"
    );
}
