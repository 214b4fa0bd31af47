//! A world for a test: a folder of its own, a remote repository, and kugetsu as a program.

pub mod disk;
pub mod model_server;

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// No wait for a condition is longer: a machine may be slow, but not dead.
const PATIENCE: Duration = Duration::from_secs(60);

/// The repository that every world has.
pub const REPOSITORY: &str = "git.test/o/r";

/// A throwaway home with a remote, and the environment that commands run in.
pub struct World {
    root: TempDir,
    environment: BTreeMap<String, String>,
}

/// What a command left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code().expect("it ends by itself"),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "the one place where tests read it")]
    pub fn new() -> World {
        // kugetsu refuses folders that others may write in, and tests make its folder by hand.
        umask(Mode::from_bits_truncate(0o022));
        let root = tempfile::tempdir().expect("a temporary folder");
        let path = root.path().canonicalize().expect("it has a path");
        let mut world = World { root, environment: BTreeMap::new() };
        for name in ["PATH", "TMPDIR", "LLVM_PROFILE_FILE"] {
            if let Ok(value) = std::env::var(name) {
                world.set(name, &value);
            }
        }
        world.set("HOME", &path.join("home").display().to_string());
        world.set("GIT_CONFIG_NOSYSTEM", "1");
        world.set("KUGETSU_DIR", &path.join("k").display().to_string());
        let remote = format!("file://{}/remote/{{path}}.git", path.display());
        world.set("KUGETSU_CLONE_URL", &remote);
        world.set("KUGETSU_SPAWN_DELAY", "0s");
        world.set("KUGETSU_RETRY_DELAY", "10ms");
        world.set("KUGETSU_KILL_GRACE", "300ms");
        world.set("KUGETSU_POLL_INTERVAL", "500ms");
        world.set("KUGETSU_LEASE", "3s");
        fs::create_dir_all(path.join("home")).expect("a folder");
        let identity = "[user]\n\tname = Test\n\temail = test@localhost\n";
        fs::write(path.join("home/.gitconfig"), identity).expect("a file");
        world.make_remote("o/r");
        world
    }

    /// Where everything of this world is.
    pub fn root(&self) -> PathBuf {
        self.root.path().canonicalize().expect("it has a path")
    }

    /// kugetsu's folder.
    pub fn home(&self) -> PathBuf {
        self.root().join("k")
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.into(), value.into());
    }

    /// What commands of this world have in their environment.
    pub fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// Runs a line of shell.
    pub fn shell(&self, line: &str) -> Ran {
        let output = program("sh")
            .args(["-c", line])
            .current_dir(self.root())
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .output()
            .expect("sh runs");
        Ran::from(output)
    }

    /// A line of shell in the background.
    pub fn background_shell(&self, line: &str) -> Background {
        let mut command = program("sh");
        command
            .args(["-c", &format!("exec {line}")])
            .current_dir(self.root())
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Background::spawn(&mut command)
    }

    /// A process that works in a folder.
    pub fn somebody_in(&self, folder: &Path) -> Background {
        let mut command = program("sleep");
        Background::spawn(command.arg("1000").current_dir(folder).stdin(Stdio::null()))
    }

    /// A bare repository with one commit on `main`.
    pub fn make_remote(&self, path: &str) {
        let root = self.root();
        let draft = root.join("draft");
        fs::create_dir_all(&draft).expect("a folder");
        fs::write(draft.join("README"), "begin\n").expect("a file");
        self.git(&draft, &["init", "-q", "-b", "main"]);
        self.git(&draft, &["add", "README"]);
        self.git(&draft, &["commit", "-q", "-m", "begin"]);
        let remote = root.join("remote").join(format!("{path}.git"));
        let remote = remote.to_str().expect("a path of letters");
        self.git(&draft, &["clone", "-q", "--bare", ".", remote]);
        fs::remove_dir_all(draft).expect("it is ours");
    }

    pub fn git(&self, folder: &Path, arguments: &[&str]) -> String {
        let output = program("git")
            .current_dir(folder)
            .args(arguments)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .output()
            .expect("git runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {stderr}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_string()
    }

    /// Makes a shell script the agent.
    pub fn agent(&mut self, script: &str) {
        let path = self.root().join("agent.sh");
        fs::write(&path, script).expect("a file");
        self.set("KUGETSU_AGENT_COMMAND", &format!("sh {}", path.display()));
    }

    /// Lets a line of shell run before each `git fetch`; if it exits, the fetch does.
    pub fn fake_git_fetch(&mut self, line: &str) {
        self.fake_git("*fetch*", line);
    }

    /// Lets a line of shell run before each git whose arguments look so.
    pub fn fake_git(&mut self, arguments: &str, line: &str) {
        let bin = self.root().join("bin");
        fs::create_dir_all(&bin).expect("a folder");
        let real = self.git(&self.root(), &["--exec-path"]);
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in {arguments})\n{line}\n;; esac\nexec {real}/git \"$@\"\n"
        );
        fs::write(bin.join("git"), script).expect("a file");
        fs::set_permissions(bin.join("git"), fs::Permissions::from_mode(0o755)).expect("ours");
        let path = format!("{}:{}", bin.display(), self.environment["PATH"]);
        self.set("PATH", &path);
    }

    /// kugetsu with arguments, in this world.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(env!("CARGO_BIN_EXE_kugetsu"));
        command
            .args(arguments)
            .current_dir(self.root())
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::from(self.command(arguments).output().expect("kugetsu runs"))
    }

    /// Runs a command with something on its standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut child =
            self.command(arguments).stdin(Stdio::piped()).spawn().expect("kugetsu runs");
        let mut stdin = child.stdin.take().expect("it is a pipe");
        // A command that refuses early does not read all of it.
        let _ = stdin.write_all(input);
        drop(stdin);
        Ran::from(child.wait_with_output().expect("kugetsu ends"))
    }

    /// Runs a command that must succeed, and gives its standard output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
        ran.stdout
    }

    /// Enqueues a job for an issue of the repository, and gives its number.
    pub fn enqueue(&self, issue: u64, more: &[&str]) -> u64 {
        let issue = format!("{REPOSITORY}#{issue}");
        let arguments = [&["queue", "enqueue", &issue, "fix it", "--format=json"], more].concat();
        let value: Value = serde_json::from_str(&self.ok(&arguments)).expect("JSON");
        value["id"].as_u64().expect("a number")
    }

    /// Everything that `queue show` tells of a job.
    pub fn job(&self, id: u64) -> Value {
        let text = self.ok(&["queue", "show", &id.to_string(), "--format=json"]);
        serde_json::from_str(&text).expect("JSON")
    }

    pub fn state(&self, id: u64) -> String {
        self.job(id)["state"].as_str().expect("a state").to_string()
    }

    /// The folder that an issue of the repository is worked on in.
    pub fn worktree(&self, issue: u64) -> PathBuf {
        self.home().join(format!("worktrees/git.test+o+r+{issue}"))
    }

    pub fn log(&self, id: u64) -> String {
        fs::read_to_string(self.home().join(format!("logs/dev-{id}.log"))).unwrap_or_default()
    }

    /// A worker in the background, killed when dropped.
    pub fn worker(&self, more: &[&str]) -> Background {
        let errors = self.root().join("worker.log");
        let log = fs::File::options().create(true).append(true).open(errors).expect("a file");
        let mut command = self.command(&[&["worker"], more].concat());
        Background(command.stdout(Stdio::null()).stderr(log).spawn().expect("kugetsu runs"))
    }

    /// Runs the queue until nothing is left.
    pub fn work(&self) {
        self.ok(&["worker", "--once"]);
    }

    /// Waits until a job has ended, and gives it.
    pub fn ended(&self, id: u64) -> Value {
        wait_for(&format!("the end of job {id}"), || {
            let job = self.job(id);
            let state = job["state"].as_str().expect("a state");
            matches!(state, "completed" | "error" | "cancelled").then(|| job.clone())
        })
    }

    /// Waits until a file is there and not empty, and gives its text.
    pub fn file(&self, name: &str) -> String {
        let path = self.root().join(name);
        wait_for(&format!("the file {name}"), || {
            fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
        })
    }

    /// Nothing of this world's runs is alive.
    pub fn assert_no_process_left(&self) {
        let root = self.root();
        let marker = format!("KUGETSU_DIR={}", root.join("k").display());
        wait_for("the end of every process", || {
            let left = processes_with(&marker);
            left.is_empty().then_some(())
        });
    }
}

impl World {
    /// No agent of this world's is alive, whatever becomes of kugetsu's own processes.
    pub fn assert_no_agent_left(&self) {
        let runs = self.home().join("runs");
        let beginning = format!("KUGETSU_RUN={}/", runs.display());
        wait_for("the end of every agent", || {
            let left = processes_where(|entry| entry.starts_with(beginning.as_bytes()));
            left.is_empty().then_some(())
        });
    }
}

/// A program of our own that runs until it is told to end.
pub struct Background(Child);

impl Background {
    pub fn spawn(command: &mut Command) -> Background {
        Background(command.spawn().expect("the program runs"))
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("a pid")
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("it is our child");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the end of a process", || self.0.try_wait().expect("it is our child"))
    }

    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("it is our child").is_none()
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.kill();
    }
}

#[expect(clippy::disallowed_methods, reason = "tests start programs as their users do")]
pub fn program(program: &str) -> Command {
    Command::new(program)
}

/// Waits for a condition, and gives what it gives.
#[expect(clippy::disallowed_methods, reason = "the one place where tests wait")]
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(result) = condition() {
            return result;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lets time pass before a blow that is to fall at any moment. Never a way to wait for an effect.
#[expect(clippy::disallowed_methods, reason = "the one place where tests wait")]
pub fn let_pass(time: Duration) {
    std::thread::sleep(time);
}

/// A number that the random choices of a test follow from: `KUGETSU_TEST_SEED`, or any.
#[expect(clippy::disallowed_methods, reason = "the one place where tests read it")]
pub fn seed() -> u64 {
    match std::env::var("KUGETSU_TEST_SEED") {
        Ok(text) => text.parse().expect("KUGETSU_TEST_SEED is a number"),
        Err(_) => RandomState::new().hash_one(0),
    }
}

/// The same choices for the same seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub fn up_to_ms(&mut self, ms: u64) -> Duration {
        Duration::from_micros(self.below(ms * 1000))
    }
}

/// Processes with an entry in their environment, zombies left out.
pub fn processes_with(marker: &str) -> Vec<i32> {
    processes_where(|entry| entry == marker.as_bytes())
}

fn processes_where(is_wanted: impl Fn(&[u8]) -> bool) -> Vec<i32> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").expect("/proc is there");
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| u32::try_from(*pid) != Ok(own))
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(&is_wanted)
        })
        .collect()
}

/// Whether a process is there and not a zombie.
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
