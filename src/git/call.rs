//! The one way to run git: where it works, what it may do, and whom it may not ask.
//!
//! Git is always told its folder (`GIT_DIR`) and never looks for one. Every variable that steers
//! git is taken out of its environment but those by which users choose their ssh, their proxy and
//! their configuration files; settings come by the environment, where no list of processes shows
//! them. Of a user's own settings only those are overruled that run a hook, wait for a person or
//! tidy up behind our back.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::executor::Stop;
use crate::git::address;
use crate::git::environment::{self, ENVIRONMENT, SETTINGS};
use crate::git::running::{self, Ended, Interrupted, Limits, Part, Sink};
use crate::git::trouble::{self, Failure, GitError, Talk};
use crate::job::limits;
use crate::process::command;
use crate::time;

/// What all git calls of one operation share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Git<'g> {
    /// Standard input of every git that needs no other: a lock, which is then held for as long as
    /// that git lives, even when this process is killed. `/dev/null` will do.
    pub lock: &'g File,
    pub stop: &'g Receiver<Stop>,
    /// Of the whole operation, however many calls it makes.
    pub deadline: Instant,
    /// The program whose guard ends long calls when this process is killed: kugetsu.
    pub guard: Option<&'g Path>,
}

impl<'g> Git<'g> {
    /// An operation that begins now.
    pub fn new(
        lock: &'g File,
        stop: &'g Receiver<Stop>,
        operation_ms: u64,
        guard: Option<&'g Path>,
    ) -> Git<'g> {
        let deadline = time::monotonic() + Duration::from_millis(operation_ms);
        Git { lock, stop, deadline, guard }
    }

    /// A call in a git folder, given as an absolute path: `GIT_DIR`, not the tree around it.
    pub fn call(&self, git_dir: &Path, verb: &str) -> Call<'g> {
        debug_assert!(git_dir.is_absolute(), "{}", git_dir.display());
        self.call_nowhere(verb).env("GIT_DIR", git_dir)
    }

    /// A call that needs no repository: `init`, `clone`, `ls-remote URL`.
    pub fn call_nowhere(&self, verb: &str) -> Call<'g> {
        Call {
            git: *self,
            verb: verb.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            configuration: SETTINGS.map(|(key, value)| (key.into(), value.into())).into(),
            folder: "/".into(),
            limit_ms: limits::GIT_INSPECT_MS_MAX,
            silence_ms: None,
            input: Input::Lock,
            output_bytes_max: limits::GIT_OUTPUT_BYTES_MAX,
            file_bytes_max: None,
            talk: Talk::Local,
            is_guarded: false,
        }
    }

    /// Runs two calls side by side, what the first says being the second's input, and gives what
    /// the second says. Both must succeed. The longer of both limits counts for both.
    pub fn pipe(&self, first: Call<'g>, second: Call<'g>) -> Result<Vec<u8>, GitError> {
        let verbs = [first.verb.clone(), second.verb.clone()];
        let talk = second.talk;
        let limits = Limits {
            deadline: first.deadline().max(second.deadline()),
            silence_ms: None,
            guard: self.guard,
        };
        let is_bounded = second.file_bytes_max.is_some() || first.file_bytes_max.is_some();
        let sink = Sink::Kept(second.output_bytes_max);
        let failed = |error| interrupted(&verbs[1], &limits, Interrupted::Failed(error));
        let parts = [first, second].map(Call::into_part);
        let parts = parts.into_iter().collect::<io::Result<Vec<Part>>>().map_err(failed)?;
        let ended = running::run(parts, sink, self.stop, &limits)
            .map_err(|why| interrupted(&verbs[1], &limits, why))?;
        let [first, second] = ended.parts.as_slice() else {
            unreachable!("as many programs ended as were started")
        };
        // Whoever broke the pipe is to blame, not whoever could then not go on.
        let blamed = match (first.status.success(), second.status.success()) {
            (true, true) => return kept(&verbs[1], ended),
            (true, false) => (second, &verbs[1]),
            (false, false) if trouble::is_broken_pipe(first) => (second, &verbs[1]),
            (false, true | false) => (first, &verbs[0]),
        };
        Err(trouble::of(&Failure::new(blamed.1, blamed.0, talk, is_bounded)))
    }
}

/// What git reads.
#[derive(Debug)]
enum Input {
    Lock,
    Bytes(Vec<u8>),
    File(File),
}

/// How a call ended that may end in several ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// One of the exit codes that the caller asked for.
    pub code: i32,
    pub stdout: Vec<u8>,
    /// The beginning and the end, if it is long; it may hold a password.
    pub stderr: String,
}

/// A call of git in the making.
#[derive(Debug)]
#[must_use = "it does nothing until it is run"]
pub(crate) struct Call<'g> {
    git: Git<'g>,
    verb: String,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    configuration: Vec<(OsString, OsString)>,
    folder: PathBuf,
    limit_ms: u64,
    silence_ms: Option<u64>,
    input: Input,
    output_bytes_max: u64,
    file_bytes_max: Option<u64>,
    talk: Talk,
    is_guarded: bool,
}

impl<'g> Call<'g> {
    /// One more argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Call<'g> {
        self.arguments.push(argument.as_ref().into());
        self
    }

    /// More arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Call<'g> {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().into()));
        self
    }

    /// A setting, over everybody else's. Later ones win, or add to the list, as git has it.
    pub fn config(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Call<'g> {
        self.configuration.push((key.as_ref().into(), value.as_ref().into()));
        self
    }

    /// A variable of git's environment; no argument shows it, so a secret may be in it.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Call<'g> {
        self.environment.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    /// The tree of files to work on, absolute.
    pub fn work_tree(self, folder: &Path) -> Call<'g> {
        debug_assert!(folder.is_absolute(), "{}", folder.display());
        self.env("GIT_WORK_TREE", folder)
    }

    /// The folder that git is started in; `/` unless said otherwise.
    pub fn folder(mut self, folder: &Path) -> Call<'g> {
        self.folder = folder.into();
        self
    }

    /// Transports that may be used, with `:` between them; none unless said otherwise.
    pub fn protocols(self, names: &str) -> Call<'g> {
        debug_assert!(!names.split(':').any(|name| name == "ext"));
        self.env("GIT_ALLOW_PROTOCOL", names)
    }

    /// It talks to a remote over these transports: nobody is asked, silence has a limit, and what
    /// the remote says is not this machine's trouble.
    pub fn network(mut self, protocols: &str) -> Call<'g> {
        self.talk = Talk::Remote;
        self.limit_ms = limits::GIT_ASK_MS_MAX;
        self.is_guarded = true;
        self.protocols(protocols)
            .config("http.lowSpeedLimit", limits::GIT_SLOW_BYTES_MIN.to_string())
            .config("http.lowSpeedTime", limits::GIT_SLOW_SECONDS_MAX.to_string())
    }

    /// How ssh is called: by the user's own command, which `GIT_SSH_COMMAND` or, failing that, the
    /// setting `core.sshCommand` gave.
    pub fn ssh(self, own: Option<&str>) -> Call<'g> {
        let command = environment::patient_ssh(own.unwrap_or("ssh"));
        self.env("GIT_SSH_COMMAND", command)
    }

    /// The longest it may take; a minute unless said otherwise, and never past the deadline of the
    /// whole operation.
    pub fn limit_ms(mut self, limit_ms: u64) -> Call<'g> {
        self.limit_ms = limit_ms;
        self
    }

    /// The longest it may be silent on standard error: for calls that show their progress.
    pub fn silence_ms(mut self, silence_ms: u64) -> Call<'g> {
        self.silence_ms = Some(silence_ms);
        self
    }

    /// What it reads on its standard input.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Call<'g> {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// The file that it reads on its standard input.
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests of calls alone need it yet"))]
    pub fn input_file(mut self, file: File) -> Call<'g> {
        self.input = Input::File(file);
        self
    }

    /// Most that it may say; more is an error of its own kind.
    pub fn output_max(mut self, bytes: u64) -> Call<'g> {
        self.output_bytes_max = bytes;
        self
    }

    /// Size that no file which it writes may exceed. (`index-pack --max-input-size` is better where
    /// it can be had.)
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests of calls alone need it yet"))]
    pub fn file_bytes_max(mut self, bytes: u64) -> Call<'g> {
        self.file_bytes_max = Some(bytes);
        self
    }

    /// It may take long: it is ended if this process is killed, so that nothing holds the lock.
    pub fn guarded(mut self) -> Call<'g> {
        self.is_guarded = true;
        self
    }

    /// Runs it, and gives what it says. An exit code other than 0 is an error.
    pub fn run(self) -> Result<Vec<u8>, GitError> {
        self.answer(&[0]).map(|answer| answer.stdout)
    }

    /// The same as one piece of text, without the line's end.
    pub fn text(self) -> Result<String, GitError> {
        Ok(String::from_utf8_lossy(&self.run()?).trim_end().into())
    }

    /// Asks something that may not be there: `None` where git exits with 1, which is how it says
    /// no if it is told to be quiet.
    pub fn ask(self) -> Result<Option<String>, GitError> {
        let answer = self.answer(&[0, 1])?;
        let text = || String::from_utf8_lossy(&answer.stdout).trim_end().to_string();
        Ok((answer.code == 0).then(text))
    }

    /// Runs it; each of these exit codes is an answer, any other an error.
    pub fn answer(self, codes: &[i32]) -> Result<Answer, GitError> {
        let sink = Sink::Kept(self.output_bytes_max);
        self.perform(sink, codes)
    }

    /// Runs it, its output going into a file.
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests of calls alone need it yet"))]
    pub fn run_into(self, file: File) -> Result<(), GitError> {
        self.perform(Sink::File(file), &[0]).map(drop)
    }

    fn perform(self, sink: Sink, codes: &[i32]) -> Result<Answer, GitError> {
        let Git { stop, guard, .. } = self.git;
        let limits = Limits {
            deadline: self.deadline(),
            silence_ms: self.silence_ms,
            guard: guard.filter(|_| self.is_guarded),
        };
        let (verb, talk) = (self.verb.clone(), self.talk);
        let is_bounded = self.file_bytes_max.is_some();
        tracing::debug!(git = %verb, arguments = %self.shown_arguments(), "runs");
        let failed = |error| interrupted(&verb, &limits, Interrupted::Failed(error));
        let part = self.into_part().map_err(failed)?;
        let ended = running::run(vec![part], sink, stop, &limits)
            .map_err(|why| interrupted(&verb, &limits, why))?;
        let said = &ended.parts[0];
        let code = said.status.code().filter(|code| codes.contains(code));
        if ended.is_too_large {
            return Err(trouble::too_large(&verb));
        }
        let Some(code) = code else {
            return Err(trouble::of(&Failure::new(&verb, said, talk, is_bounded)));
        };
        let stderr = said.stderr.clone();
        Ok(Answer { code, stdout: kept(&verb, ended)?, stderr })
    }

    fn deadline(&self) -> Instant {
        self.git.deadline.min(time::monotonic() + Duration::from_millis(self.limit_ms))
    }

    /// Arguments for a log: an address may hold a password.
    fn shown_arguments(&self) -> String {
        let words: Vec<_> = self.arguments.iter().map(|word| word.to_string_lossy()).collect();
        address::without_passwords(&words.join(" "))
    }

    fn into_part(self) -> io::Result<Part> {
        let stdin = match self.input {
            Input::Lock => self.git.lock.try_clone()?,
            Input::Bytes(bytes) => running::memory_of(&bytes)?,
            Input::File(file) => file,
        };
        let mut command = match self.file_bytes_max {
            None => command("git"),
            Some(bytes) => {
                // Only a shell can set a limit for one program; it counts in blocks of 512.
                let mut shell = command("sh");
                let script = "ulimit -f \"$0\" && exec git \"$@\"";
                shell.args(["-c", script, &bytes.div_ceil(512).to_string()]);
                shell
            }
        };
        command.arg(&self.verb).args(&self.arguments).current_dir(&self.folder);
        environment::remove_others(&mut command);
        command.envs(ENVIRONMENT).env("GIT_CONFIG_COUNT", self.configuration.len().to_string());
        for (number, (key, value)) in self.configuration.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        command.envs(self.environment);
        Ok(Part { command, stdin })
    }
}

fn kept(verb: &str, ended: Ended) -> Result<Vec<u8>, GitError> {
    match ended.is_too_large {
        true => Err(trouble::too_large(verb)),
        false => Ok(ended.stdout),
    }
}

fn interrupted(verb: &str, limits: &Limits<'_>, why: Interrupted) -> GitError {
    match why {
        Interrupted::Stopped(stop) => GitError::Stopped(stop),
        Interrupted::TimedOut => GitError::TimedOut(format!("git {verb} did not end in its time")),
        Interrupted::Silent => GitError::TimedOut(format!(
            "git {verb} said nothing for {} s (does it wait for a password, or for a server?)",
            limits.silence_ms.unwrap_or(0) / 1000
        )),
        Interrupted::Failed(error) => trouble::cannot(&format!("run git {verb}"), &error),
    }
}

#[cfg(test)]
mod tests;
