//! Bad input and trouble: a clear error, the documented exit code, and nothing changed.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use kugetsu::queue::Queue;
use kugetsu::store::RedbStore;
use kugetsu::time::SystemClock;
use nix::sys::signal::Signal;

use crate::support::{Background, Ran, World, is_alive, wait_for};

const KUGETSU: &str = env!("CARGO_BIN_EXE_kugetsu");
const COMMIT: &str =
    "echo $KUGETSU_JOB >> work.txt; git add work.txt; git commit -qm work -- work.txt";

/// An error as it should be: its code, its words, and no word on standard output.
pub fn assert_refused(ran: &Ran, code: i32, words: &str) {
    assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{}", ran.stderr);
    let first = ran.stderr.lines().find_map(|line| line.strip_prefix("error: "));
    let first = first.unwrap_or_else(|| panic!("no error in {}", ran.stderr));
    assert!(first.contains(words), "{words:?} is not in: {first}");
    assert!(!first.ends_with('.') && !first.starts_with(char::is_uppercase), "{first}");
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

/// Runs a shell script where it may mount, or says that this test is left out.
fn with_mounts(world: &World, script: &str) -> Option<Ran> {
    if world.shell("unshare -rm true").code != 0 {
        // Past the capture of the test runner, so that it is seen.
        let _ = std::io::stderr().write_all(
            b"\n*** SKIPPED: a test of full or read-only disks (`unshare -rm true` fails) ***\n",
        );
        return None;
    }
    fs::write(world.root().join("script"), script).expect("a file");
    Some(world.shell("unshare -rm sh -eu script"))
}

fn verify(path: &Path) -> Vec<String> {
    let store = RedbStore::open(path, Arc::new(SystemClock)).expect("a queue");
    Queue::new(store).verify().expect("a read")
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

#[test]
fn arguments_and_variables_that_are_no_text() {
    let mut world = World::new();
    world.agent("exit 0");
    let bad = OsStr::from_bytes(b"\xff\xfe");
    for arguments in [
        &["queue", "enqueue", "git.test/o/r#1"][..],
        &["queue", "enqueue"],
        &["queue", "edit", "1", "--message"],
        &["start", "git.test/o/r#1"],
        &["logs"],
    ] {
        let output = world.command(arguments).arg(bad).output().expect("kugetsu runs");
        assert_refused(&Ran::from(output), 1, "invalid UTF-8");
    }
    for name in ["KUGETSU_DIR", "MAX_CONCURRENT_AGENTS"] {
        let output = world.command(&["queue", "list"]).env(name, bad).output().expect("it runs");
        assert_refused(&Ran::from(output), 1, &format!("environment: {name} is not UTF-8"));
    }
    assert!(!world.home().exists());
    let output = world.command(&["queue", "list"]).env("LANG", bad).output().expect("it runs");
    assert_eq!(Ran::from(output).code, 0, "others' variables are others'");
}

#[test]
fn a_folder_that_cannot_be_kugetsus_is_refused() {
    let mut world = World::new();
    world.agent("exit 0");
    let verbs = [
        &["queue", "list"][..],
        &["queue", "enqueue", "git.test/o/r#1", "fix"],
        &["worker", "--once"],
        &["start", "git.test/o/r#1", "fix"],
    ];
    let root = world.root();
    fs::write(root.join("file"), "").expect("a file");
    fs::create_dir(root.join("open")).expect("a folder");
    // Not read: it is no word of ours.
    fs::write(root.join("open/config"), "KUGETSU_AGENT_COMMAND=evil\nX=1\n").expect("a file");
    set_mode(&root.join("open"), 0o777);
    let is_root = nix::unistd::geteuid().is_root();
    let foreign = if is_root { root.join("foreign") } else { "/usr".into() };
    if is_root {
        fs::create_dir(&foreign).expect("a folder");
        chown(&foreign, Some(65534), Some(65534)).expect("root may");
    }
    for (folder, words) in [
        (root.join("file"), "it is a file: KUGETSU_DIR is a folder"),
        (root.join("file/below"), "a part of this path is a file"),
        (root.join("open"), "others may write to it (mode 777)"),
        (foreign, "it belongs to "),
    ] {
        world.set("KUGETSU_DIR", folder.to_str().expect("letters"));
        for verb in verbs {
            let ran = world.run(verb);
            assert_refused(&ran, 1, words);
            assert!(ran.stderr.contains(folder.to_str().expect("letters")), "{}", ran.stderr);
        }
        assert!(!folder.join("queue.redb").exists() && !folder.join("repos").exists());
    }
}

#[test]
fn a_queue_file_in_other_hands_is_refused() {
    let mut world = World::new();
    let store = world.root().join("shared.redb");
    world.set("KUGETSU_STORE", &format!("redb:{}", store.display()));
    world.enqueue(1, &[]);
    set_mode(&store, 0o666);
    assert_refused(&world.run(&["queue", "list"]), 1, "shared.redb: others may write to it");
    set_mode(&store, 0o600);
    world.ok(&["queue", "list"]);
    if nix::unistd::geteuid().is_root() {
        chown(&store, Some(65534), None).expect("root may");
        assert_refused(&world.run(&["queue", "list"]), 1, "shared.redb: it belongs to ");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let world = World::new();
    world.enqueue(1, &[]);
    let before = fs::read(world.home().join("queue.redb")).expect("a file");
    let script = format!(
        "mount --bind k k; mount -o remount,ro,bind k k; set +e\n\
         {KUGETSU} queue enqueue git.test/o/r#2 fix; echo $?; {KUGETSU} queue list; echo $?"
    );
    let Some(ran) = with_mounts(&world, &script) else { return };
    assert_eq!(ran.stdout, "1\n1\n", "{}", ran.stderr);
    let path = world.home().join("queue.redb").display().to_string();
    let error = format!("error: cannot open the queue {path}: Read-only file system");
    assert_eq!(ran.stderr.matches(&error).count(), 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("KUGETSU_DIR says which folder"), "{}", ran.stderr);
    assert_eq!(fs::read(world.home().join("queue.redb")).expect("a file"), before);
}

#[test]
fn what_is_in_the_place_of_the_queue_is_named() {
    let world = World::new();
    fs::create_dir(world.home()).expect("a folder");
    let path = world.home().join("queue.redb");
    let verbs = [&["queue", "list"][..], &["queue", "enqueue", "git.test/o/r#1", "fix"]];
    let check = |code: i32, words: &str| {
        for verb in verbs {
            let ran = world.run(verb);
            assert_refused(&ran, code, words);
            assert!(ran.stderr.contains("queue.redb"), "{}", ran.stderr);
        }
    };
    fs::create_dir(&path).expect("a folder");
    check(1, "Is a directory");
    assert_eq!(fs::read_dir(&path).expect("a folder").count(), 0);
    fs::remove_dir(&path).expect("it is empty");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    check(1, "it is not a file");
    fs::remove_file(&path).expect("it is ours");
    let sqlite = [&b"SQLite format 3\0"[..], &[0; 8192]].concat();
    fs::write(&path, &sqlite).expect("a file");
    check(8, "it is not a redb file");
    assert_eq!(fs::read(&path).expect("a file"), sqlite);
    fs::remove_file(&path).expect("it is ours");
    let meta: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta");
    let database = redb::Database::create(&path).expect("a database");
    let txn = database.begin_write().expect("a transaction");
    let newer = 99u32.to_le_bytes();
    txn.open_table(meta).expect("a table").insert("schema", &newer[..]).expect("a write");
    txn.commit().expect("a commit");
    drop(database);
    set_mode(&path, 0o600);
    check(8, "has format 99, and this kugetsu knows only 2: upgrade kugetsu");
    fs::write(&path, "").expect("a file");
    assert_eq!(world.ok(&["queue", "list"]), "No pending tasks in queue.\n");
}

/// redb's lock of the one writer, as the kernel shows it.
const WRITER_LOCK: &str = " 4611686018427387904 4611686018427387904";

/// Stops a process in the middle of a write: it holds a lock that nobody can share.
fn stop_in_a_write(process: &Background) {
    let proc = Path::new("/proc").join(process.pid().to_string());
    let is_stopped = || {
        let stat = fs::read_to_string(proc.join("stat")).expect("it is there");
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    let holds = || {
        fs::read_dir(proc.join("fd")).expect("it is there").flatten().any(|entry| {
            let is_queue = fs::read_link(entry.path()).is_ok_and(|to| to.ends_with("queue.redb"));
            let info = proc.join("fdinfo").join(entry.file_name());
            let text = fs::read_to_string(info).unwrap_or_default();
            is_queue && text.lines().any(|line| line.contains(WRITER_LOCK))
        })
    };
    wait_for("a moment in a write", || {
        process.signal(Signal::SIGSTOP);
        wait_for("the stop", || is_stopped().then_some(()));
        if holds() {
            return Some(());
        }
        process.signal(Signal::SIGCONT);
        None
    });
}

#[test]
fn a_stopped_process_that_holds_the_queue_is_named() {
    let mut world = World::new();
    world.agent("exit 0");
    world.set("KUGETSU_POLL_INTERVAL", "10ms");
    world.ok(&["queue", "list"]);
    let worker = world.worker(&[]);
    wait_for("the worker", || {
        let log = fs::read_to_string(world.root().join("worker.log")).unwrap_or_default();
        log.contains("agent(s) at once").then_some(())
    });
    stop_in_a_write(&worker);
    let pid = worker.pid();
    let ran = world.run(&["queue", "enqueue", "git.test/o/r#1", "fix"]);
    assert_refused(&ran, 4, &format!("by process {pid} (kugetsu), which is stopped"));
    assert!(ran.stderr.contains(&format!("kill -CONT {pid}")), "{}", ran.stderr);
    worker.signal(Signal::SIGCONT);
    assert_eq!(world.enqueue(1, &[]), 1);
}

#[test]
fn a_worker_whose_queue_is_gone_ends_and_leaves_its_agents() {
    let mut world = World::new();
    let root = world.root();
    world.agent(&format!(
        "echo $$ > {0}/pid; until [ -e {0}/go ]; do sleep 0.02; done; {COMMIT}",
        root.display()
    ));
    let id = world.enqueue(1, &[]);
    let mut worker = world.worker(&[]);
    let agent: i32 = world.file("pid").trim().parse().expect("a pid");
    let (queue, aside) = (world.home().join("queue.redb"), world.home().join("aside"));
    fs::rename(&queue, &aside).expect("a move");
    assert_eq!(worker.wait().code(), Some(1));
    let log = fs::read_to_string(root.join("worker.log")).expect("a log");
    assert!(log.contains("queue.redb was removed while this process had it open"), "{log}");
    assert!(!queue.exists(), "nothing was made in its place");
    assert!(is_alive(agent));

    fs::rename(&aside, &queue).expect("a move");
    let mut worker = world.worker(&["--max-agents=5"]);
    wait_for("the second worker", || {
        let log = fs::read_to_string(root.join("worker.log")).expect("a log");
        log.contains("up to 5 agent(s)").then_some(())
    });
    fs::rename(&queue, &aside).expect("a move");
    fs::write(&queue, "").expect("a file");
    assert_eq!(worker.wait().code(), Some(1));
    let log = fs::read_to_string(root.join("worker.log")).expect("a log");
    // It may have looked between the two.
    assert!(log.contains("replaced by another file") || log.matches("was removed").count() > 1);
    assert!(is_alive(agent));

    fs::rename(&aside, &queue).expect("a move");
    fs::write(root.join("go"), "").expect("a file");
    world.work();
    assert_eq!(world.state(id), "completed", "{:#}", world.job(id));
    assert_eq!(verify(&queue), Vec::<String>::new());
}

#[test]
fn a_full_disk_is_said_and_the_queue_stays_sound() {
    let mut world = World::new();
    world.agent(COMMIT);
    fs::create_dir(world.home()).expect("a folder");
    fs::write(world.root().join("big"), "x".repeat(900_000)).expect("a file");
    let script = format!(
        "mount -t tmpfs -o size=1m,mode=700 none k\n\
         {KUGETSU} queue enqueue git.test/o/r#1 fix\n\
         dd if=/dev/zero of=k/fill bs=4k 2>/dev/null || true; set +e\n\
         {KUGETSU} queue enqueue git.test/o/r#2 - < big; echo enqueue $?\n\
         {KUGETSU} worker --once; echo worker $?\n\
         {KUGETSU} queue list\n\
         rm k/fill; mount -o remount,size=50m k\n\
         {KUGETSU} queue enqueue git.test/o/r#3 fix\n\
         {KUGETSU} worker --once --max-agents=1; echo worker $?\n\
         {KUGETSU} queue list --state=all; cp k/queue.redb after"
    );
    let Some(ran) = with_mounts(&world, &script) else { return };
    assert_eq!(
        ran.stdout,
        "Enqueued 1: git.test/o/r#1 - fix\nenqueue 1\nworker 1\n\
         Pending tasks:\n  1: git.test/o/r#1 - fix\n\
         Enqueued 2: git.test/o/r#3 - fix\nworker 0\n\
         Tasks:\n  2: git.test/o/r#3 [completed] - fix\n  1: git.test/o/r#1 [completed] - fix\n",
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("queue.redb: No space left on device"), "{}", ran.stderr);
    assert!(ran.stderr.contains("make room, and run the same command again"), "{}", ran.stderr);
    assert_eq!(verify(&world.root().join("after")), Vec::<String>::new());
}

#[test]
fn a_write_that_is_refused_changes_nothing() {
    let mut world = World::new();
    world.agent(COMMIT);
    let id = world.enqueue(1, &[]);
    fs::write(world.root().join("big"), "x".repeat(900_000)).expect("a file");
    // In blocks of 512 or of 1024 bytes, as the shell has it.
    let within = |blocks: u32, line: &str| {
        world.shell(&format!("trap '' XFSZ; ulimit -f {blocks}; exec {KUGETSU} {line}"))
    };
    let ran = within(400, "queue enqueue git.test/o/r#2 - < big");
    assert_refused(&ran, 1, "queue.redb: File too large");
    assert_eq!(within(400, "queue list").code, 0);
    // Nothing can be written at all: no worker comes up.
    let ran = within(0, "worker --once");
    assert_refused(&ran, 1, "File too large");
    assert_eq!(world.state(id), "pending");
    assert_eq!(verify(&world.home().join("queue.redb")), Vec::<String>::new());
    world.enqueue(2, &[]);
    world.work();
    assert_eq!((world.state(id), world.state(2)), ("completed".into(), "completed".into()));
}

#[test]
fn a_claim_that_cannot_be_written_is_made_when_it_can() {
    let mut world = World::new();
    world.agent(COMMIT);
    if world.shell("prlimit --version").code != 0 {
        // Past the capture of the test runner, so that it is seen.
        let _ = std::io::stderr().write_all(b"\n*** SKIPPED: a test that needs prlimit ***\n");
        return;
    }
    let ran = world.shell(&format!(
        "trap '' XFSZ; mkfifo words; cat words > log & {KUGETSU} worker 2> words & worker=$!\n\
         until grep -q 'agent(s) at once' log; do sleep 0.02; done\n\
         prlimit --pid $worker --fsize=0:unlimited\n\
         {KUGETSU} queue enqueue git.test/o/r#1 fix\n\
         until grep -q 'is in trouble' log; do sleep 0.02; done; {KUGETSU} queue list\n\
         prlimit --pid $worker --fsize=unlimited; {KUGETSU} wait 1\n\
         kill -TERM $worker; wait $worker; code=$?; wait; cat log >&2; exit $code"
    ));
    let said = "Enqueued 1: git.test/o/r#1 - fix\nPending tasks:\n  1: git.test/o/r#1 - fix\n";
    assert!(ran.code == 0 && ran.stdout.starts_with(said), "{}", ran.stdout);
    assert!(ran.stderr.contains("cannot claim a job"), "{}", ran.stderr);
    assert!(ran.stderr.contains("queue.redb: File too large"), "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("is in trouble").count(), 1, "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("trouble is over").count(), 1, "{}", ran.stderr);
    assert_eq!(world.state(1), "completed");
    assert_eq!(verify(&world.home().join("queue.redb")), Vec::<String>::new());
}

#[test]
fn a_log_that_cannot_be_written_is_the_reason_of_the_attempts_end() {
    for (plant, expected) in [
        ("ln -s /dev/full dev-1.log", "dev-1.log is a symbolic link"),
        ("mkfifo dev-1.log", "dev-1.log is a named pipe"),
        ("mkdir dev-1.log", "dev-1.log is a folder"),
    ] {
        let mut world = World::new();
        world.agent(COMMIT);
        fs::create_dir_all(world.home().join("logs")).expect("a folder");
        let planted = world.shell(&format!("cd {}/logs && {plant}", world.home().display()));
        assert_eq!(planted.code, 0, "{}", planted.stderr);
        let id = world.enqueue(1, &[]);
        world.work();
        let job = world.job(id);
        assert_eq!((&job["state"], &job["reason"]), (&"error".into(), &"start_failed".into()));
        let detail = job["detail"].as_str().expect("a text");
        assert!(detail.contains(expected), "{detail}");
        world.assert_no_process_left();
    }
}

#[test]
fn a_run_that_cannot_be_recorded_says_so_and_is_tried_again() {
    let mut world = World::new();
    // Only at the first attempt.
    world.agent(&format!("{COMMIT}; [ $KUGETSU_ATTEMPT = 1 ] && rm -rf $KUGETSU_RUN"));
    let id = world.enqueue(1, &[]);
    world.work();
    let job = world.job(id);
    assert_eq!(job["state"], "completed", "{job:#}");
    let first = &job["attempts"][0];
    assert_eq!(
        (&first["reason"], &first["detail"]),
        (&"lost".into(), &"the run's folder is gone".into())
    );
}

#[test]
fn a_worker_goes_on_when_nobody_reads_its_words() {
    let mut world = World::new();
    world.agent(COMMIT);
    for (issue, line) in [
        "exec KUGETSU worker --once 2>/dev/full",
        "exec KUGETSU worker --once 2>&-",
        // The reader is gone before the first word.
        "{ until [ -e gone ]; do sleep 0.02; done; KUGETSU worker --once; echo $? > code; } 2>&1 \
         | { exec <&-; touch gone; }; until [ -s code ]; do sleep 0.02; done; exit $(cat code)",
    ]
    .into_iter()
    .enumerate()
    {
        let id = world.enqueue(issue as u64 + 1, &[]);
        let ran = world.shell(&line.replace("KUGETSU", KUGETSU));
        assert_eq!((ran.code, world.state(id)), (0, "completed".into()), "{line}: {}", ran.stderr);
    }
}

#[test]
fn output_that_goes_nowhere() {
    let mut world = World::new();
    world.agent("exit 0");
    for issue in 1..=3 {
        world.enqueue(issue, &[]);
    }
    world.ok(&["queue", "cancel", "3"]);
    fs::create_dir_all(world.home().join("logs")).expect("a folder");
    fs::write(world.home().join("logs/dev-3.log"), "a line\n".repeat(100_000)).expect("a file");
    // With the codes that they have anyway.
    for (verb, code) in [
        ("queue enqueue git.test/o/r#9 fix", 0),
        ("queue list", 0),
        ("queue list --format=table", 0),
        ("queue list --format=json", 0),
        ("queue list --format=jsonl", 0),
        ("queue stats", 0),
        ("queue show 1", 0),
        ("queue show 1 --format=json", 0),
        ("queue edit 1 --priority=3", 0),
        ("queue pause", 0),
        ("queue resume", 0),
        ("queue retry 3", 0),
        ("queue cancel 3", 0),
        ("queue prune --keep=100", 0),
        ("queue export", 0),
        ("queue import /dev/null", 0),
        ("logs 3", 0),
        ("logs 3 --raw", 0),
        ("logs 3 -f", 0),
        ("wait 3", 6),
        ("list", 0),
        ("prune", 0),
        ("queue-daemon status", 3),
        ("init", 0),
        ("completions bash", 0),
        ("man", 0),
        ("start git.test/o/r#1 fix", 0),
        ("demo --jobs=1", 0),
        ("--help", 0),
        ("--version", 0),
        ("queue enqueue --help", 0),
        ("queue clear --yes", 0),
    ] {
        let shell = |line: &str| {
            let ran = world.shell(line);
            // What `start` began would stand in the way of what comes next.
            wait_for("its agent", || {
                let stats = world.ok(&["queue", "list", "--state=notified"]);
                (stats == "No notified tasks in queue.\n").then_some(())
            });
            ran
        };
        let full = shell(&format!("exec {KUGETSU} {verb} > /dev/full"));
        assert_eq!(full.code, 1, "{verb}: {}", full.stderr);
        let words = "error: cannot write to standard output: No space left on device";
        assert!(full.stderr.contains(words), "{verb}: {}", full.stderr);
        // As good as /dev/null; above all it is no file that is opened next.
        let closed = shell(&format!("exec {KUGETSU} {verb} >&-"));
        assert_eq!(closed.code, code, "{verb}: {}", closed.stderr);
        let gone = shell(&format!("{{ {KUGETSU} {verb}; echo $? >&2; }} | true"));
        assert!(gone.stderr.ends_with(&format!("{code}\n")), "{verb}: {}", gone.stderr);
        assert!(!gone.stderr.contains("error"), "{verb}: {}", gone.stderr);
    }
    assert_eq!(verify(&world.home().join("queue.redb")), Vec::<String>::new());
}

/// Answers the question of `queue clear` on a terminal. Gives the code and what was on the screen.
fn answer(world: &World, with: &dyn Fn(&Background, &mut fs::File)) -> (i32, String) {
    let pty = nix::pty::openpty(None, None).expect("a terminal");
    let mut command = world.command(&["queue", "clear"]);
    command.stdin(pty.slave.try_clone().expect("a copy")).stderr(pty.slave).stdout(Stdio::null());
    let mut child = Background::spawn(&mut command);
    drop(command);
    let mut screen = fs::File::from(pty.master);
    let mut shown = Vec::new();
    let mut byte = [0];
    let mut asked = false;
    // A terminal that nobody has open any more ends with an error.
    while screen.read(&mut byte).is_ok_and(|count| count > 0) {
        shown.push(byte[0]);
        if !asked && shown.ends_with(b"[y/N] ") {
            asked = true;
            with(&child, &mut screen);
        }
    }
    assert!(asked, "{}", String::from_utf8_lossy(&shown));
    let code = child.wait().code().expect("it ends by itself");
    (code, String::from_utf8(shown).expect("a text"))
}

#[test]
fn the_question_of_clear_can_be_interrupted() {
    let world = World::new();
    world.enqueue(1, &[]);
    let question = "Remove 1 job(s), 1 of them pending? [y/N] ";
    let (code, shown) = answer(&world, &|child, _| child.signal(Signal::SIGINT));
    assert_eq!(shown, format!("{question}\r\nnothing was removed\r\n"));
    assert_eq!(code, 130);
    let typed = |text: &'static str| {
        answer(&world, &move |_, screen| screen.write_all(text.as_bytes()).expect("a terminal"))
    };
    let (code, shown) = typed("no\n");
    assert_eq!((code, shown), (1, format!("{question}no\r\nnothing was removed\r\n")));
    let (code, shown) = typed("\u{4}");
    assert_eq!(code, 1);
    assert!(shown.ends_with("\r\nnothing was removed\r\n"), "{shown:?}");
    assert_eq!(world.state(1), "pending");
    let (code, _) = typed("y\n");
    assert_eq!(code, 0);
    assert_eq!(world.run(&["queue", "show", "1"]).code, 3);
}
