//! What figures are measured in: a folder with a queue, a remote repository, workers and agents.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kugetsu::IssueRef;
use kugetsu::job::{JobId, NewJob, StateKind, limits};
use kugetsu::queue::Queue;
use kugetsu::store::{ListQuery, Op, RedbStore};
use kugetsu::time::SystemClock;
use tempfile::TempDir;

/// No wait for an effect is longer.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Jobs in a full queue.
pub const BACKLOG: u64 = 100_000;
/// A folder with a queue, a remote repository and the environment that commands run in.
pub struct World {
    root: TempDir,
    environment: BTreeMap<String, String>,
}

impl World {
    /// An empty queue, whose file is there.
    pub fn new() -> World {
        // Not in the system's folder for temporary files, which may be no disk.
        let root = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
        let mut world = World { root, environment: BTreeMap::new() };
        let root = world.root();
        if let Some((_, path)) = std::env::vars().find(|(name, _)| name == "PATH") {
            world.set("PATH", &path);
        }
        world.set("HOME", &root.display().to_string());
        world.set("GIT_CONFIG_NOSYSTEM", "1");
        world.set("KUGETSU_DIR", &root.join("k").display().to_string());
        world.set("KUGETSU_CLONE_URL", &format!("file://{}/remote/{{path}}.git", root.display()));
        world.set("KUGETSU_COMPLETION", "exit");
        world.set("KUGETSU_SPAWN_DELAY", "0s");
        world.set("KUGETSU_AGENT_COMMAND", "true");
        let identity = "[user]\n\tname = Test\n\temail = test@localhost\n";
        fs::write(root.join(".gitconfig"), identity).expect("a file");
        fs::create_dir(root.join("k")).expect("a folder");
        drop(world.queue());
        world
    }

    /// A queue with [`BACKLOG`] pending jobs, of so many issues in turn.
    pub fn with_backlog(issues: u64) -> World {
        let world = World::new();
        world.fill(issues);
        world
    }

    /// Through the library, many jobs a commit: a process for each would take minutes.
    pub fn fill(&self, issues: u64) {
        let queue = self.queue();
        let jobs: Vec<u64> = (0..BACKLOG).collect();
        for slice in jobs.chunks(limits::OPS_PER_COMMIT_MAX) {
            let operations = slice.iter().map(|number| {
                let message = format!("{MESSAGE} ({number})");
                Op::Enqueue(NewJob::new(issue(1 + number % issues), message))
            });
            for answer in queue.commit(operations.collect()).expect("a commit") {
                answer.expect("a good job");
            }
        }
    }

    pub fn root(&self) -> PathBuf {
        self.root.path().canonicalize().expect("it has a path")
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.into(), value.into());
    }

    /// The same queue, by way of the library.
    pub fn queue(&self) -> Queue {
        let path = self.root().join("k/queue.redb");
        Queue::new(RedbStore::open(&path, Arc::new(SystemClock)).expect("a queue"))
    }

    pub fn kugetsu(&self, arguments: &[&str]) -> Command {
        let mut kugetsu = command(env!("CARGO_BIN_EXE_kugetsu"));
        kugetsu.args(arguments).env_clear().envs(&self.environment).stderr(Stdio::null());
        kugetsu
    }

    pub fn enqueue(&self, number: u64) -> Command {
        self.kugetsu(&["queue", "enqueue", &issue(number).to_string(), MESSAGE])
    }

    /// A worker in the background, with its log in a file.
    pub fn worker(&self) -> Background {
        let log = File::create(self.root().join("worker.log")).expect("a file");
        let mut worker = self.kugetsu(&["worker", "--max-agents=1"]);
        worker.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Background(worker.spawn().expect("kugetsu runs"))
    }

    pub fn worker_log(&self) -> String {
        fs::read_to_string(self.root().join("worker.log")).expect("a worker's log")
    }

    /// A bare repository with one commit on `main`.
    pub fn make_remote(&self) {
        let draft = self.root().join("draft");
        fs::create_dir_all(&draft).expect("a folder");
        fs::write(draft.join("README"), "begin\n").expect("a file");
        let remote = self.root().join("remote/o/r.git").display().to_string();
        for arguments in [
            &["init", "-q", "-b", "main"][..],
            &["add", "README"],
            &["commit", "-q", "-m", "begin"],
            &["clone", "-q", "--bare", ".", &remote],
        ] {
            let mut git = command("git");
            git.args(arguments).current_dir(&draft).env_clear().envs(&self.environment);
            assert!(git.status().expect("git runs").success(), "git {arguments:?}");
        }
    }

    /// Makes a shell script the agent whose first act is a word that is received here, with the
    /// time; `then` is what it does afterwards.
    pub fn agent_that_says_so(&mut self, then: &str) -> Receiver<Instants> {
        let (script, fifo) = (self.root().join("agent.sh"), self.root().join("fifo"));
        assert!(command("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
        fs::write(&script, format!("echo > '{}'\n{then}\n", fifo.display())).expect("a file");
        self.set("KUGETSU_AGENT_COMMAND", &format!("sh '{}'", script.display()));
        // Open for writing too, so that it never ends and no agent waits for a reader.
        let mut options = File::options();
        let mut fifo = options.read(true).write(true).open(&fifo).expect("a FIFO");
        let (sender, words) = mpsc::channel();
        thread::spawn(move || {
            let mut word = [0];
            // Whoever waits has ended once nobody receives any more.
            while fifo.read_exact(&mut word).is_ok() && sender.send(Instants::now()).is_ok() {}
        });
        words
    }
}

#[expect(clippy::disallowed_methods, reason = "figures start programs as their users do")]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

#[expect(clippy::disallowed_methods, reason = "what is measured is measured by it")]
pub fn monotonic() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a time that is measured passes")]
pub fn pause(duration: Duration) {
    thread::sleep(duration);
}

pub const MESSAGE: &str = "fix the bug that makes the list forget its last entry";

pub fn issue(number: u64) -> IssueRef {
    format!("git.test/o/r#{number}").parse().expect("a good reference")
}

/// A moment on the clock that never jumps, and on the one that logs are written by.
#[derive(Clone, Copy)]
pub struct Instants {
    pub monotonic: Instant,
    pub system: Duration,
}

impl Instants {
    #[expect(clippy::disallowed_methods, reason = "a log's times have microseconds, a job's not")]
    pub fn now() -> Instants {
        let system = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        Instants { monotonic: monotonic(), system }
    }
}

/// A program that runs until it is dropped.
pub struct Background(pub Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A worker whose one agent runs and does nothing.
pub struct Busy {
    pub world: World,
    pub worker: Background,
    pub queue: Queue,
    pub job: JobId,
}

impl Busy {
    pub fn new(backlog: Option<u64>) -> Busy {
        let mut world = World::new();
        world.make_remote();
        let words = world.agent_that_says_so("exec sleep 120");
        match backlog {
            Some(issues) => world.fill(issues),
            None => {
                time(&mut world.enqueue(1));
            }
        }
        let worker = world.worker();
        words.recv_timeout(PATIENCE).expect("the agent starts");
        let queue = world.queue();
        let mut query = ListQuery::all(1);
        query.states = vec![StateKind::Notified];
        let job = queue.list(&query).expect("a read").items.first().expect("it runs").id;
        Busy { world, worker, queue, job }
    }

    pub fn shim(&self) -> u32 {
        let job = self.queue.get(self.job).expect("a read").expect("it is there");
        let run = job.lease().and_then(|lease| lease.run.as_ref()).expect("it runs");
        u32::try_from(run.pid).expect("a pid")
    }

    /// Ends the agent first: it would outlive its worker.
    pub fn end(self) {
        self.queue.pause(None).expect("a write");
        self.queue.cancel(self.job).expect("a write");
        wait_until_ended(&self.queue, self.job);
        drop(self.worker);
        drop(self.world);
    }
}

/// From the spawn of a process to its end, which must be a success.
pub fn time(command: &mut Command) -> Duration {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let began = monotonic();
    let status = command.spawn().expect("it runs").wait().expect("it ends");
    let took = began.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    took
}

pub fn wait_until_ended(queue: &Queue, job: JobId) {
    let began = monotonic();
    while !queue.get(job).expect("a read").expect("it is there").state.kind().is_ended() {
        assert!(began.elapsed() < PATIENCE, "job {job} does not end");
        pause(Duration::from_millis(20));
    }
}
