//! Running one or two programs as one process group, to their end or a limit.
//!
//! What they say is kept in memory that the kernel bounds: no temporary folder can be full, slow or
//! somebody else's, and no flood outgrows its limit.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, bounded, select};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::executor::Stop;
use crate::job::limits;
use crate::process::guard::guarded;
use crate::process::tree;
use crate::time;

/// Where a program's standard output goes.
#[derive(Debug)]
pub(crate) enum Sink {
    /// Kept, up to so many bytes.
    Kept(u64),
    /// Into a file.
    File(File),
}

/// A program, and its standard input.
#[derive(Debug)]
pub(crate) struct Part {
    pub command: Command,
    pub stdin: File,
}

/// What the programs may take.
#[derive(Debug)]
pub(crate) struct Limits<'g> {
    pub deadline: Instant,
    /// The longest time in which nothing is said on standard error, where there is such a limit.
    pub silence_ms: Option<u64>,
    /// The program whose guard ends them if this process is killed.
    pub guard: Option<&'g Path>,
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub status: ExitStatus,
    /// The beginning and the end, if it is long.
    pub stderr: String,
}

/// How all ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// In the order in which they were given.
    pub parts: Vec<Said>,
    /// Of the last; empty if it went into a file.
    pub stdout: Vec<u8>,
    /// Standard output was longer than what may be kept.
    pub is_too_large: bool,
}

/// Why there is no end to speak of.
#[derive(Debug)]
pub(crate) enum Interrupted {
    /// There was a word to stop.
    Stopped(Stop),
    /// The deadline passed.
    TimedOut,
    /// Nothing was heard for too long.
    Silent,
    /// This machine could not run them.
    Failed(io::Error),
}

impl From<io::Error> for Interrupted {
    fn from(error: io::Error) -> Interrupted {
        Interrupted::Failed(error)
    }
}

impl From<Errno> for Interrupted {
    fn from(errno: Errno) -> Interrupted {
        Interrupted::Failed(errno.into())
    }
}

/// Runs programs side by side, each one's output the next one's input, in a process group of their
/// own. The whole group is ended on a word to stop and at a limit.
pub(crate) fn run(
    parts: Vec<Part>,
    sink: Sink,
    stop: &Receiver<Stop>,
    limits: &Limits<'_>,
) -> Result<Ended, Interrupted> {
    let (kept, stdout) = match sink {
        Sink::Kept(bytes_max) => {
            let memory = bounded_memory(bytes_max)?;
            (Some((memory.try_clone()?, bytes_max)), memory)
        }
        Sink::File(file) => (None, file),
    };
    let mut group = Group::start(parts, stdout, limits.guard)?;
    let statuses = group.wait(stop, limits)?;
    let parts = statuses.into_iter().zip(&mut group.stderrs).map(|(status, stderr)| {
        Ok(Said { status, stderr: String::from_utf8_lossy(&ends_of(stderr)?).into_owned() })
    });
    let parts = parts.collect::<io::Result<Vec<Said>>>()?;
    let (stdout, is_too_large) = match kept {
        Some((mut memory, bytes_max)) => read_back(&mut memory, bytes_max)?,
        None => (Vec::new(), false),
    };
    Ok(Ended { parts, stdout, is_too_large })
}

/// Bytes in memory, to be read from their beginning.
pub(crate) fn memory_of(bytes: &[u8]) -> io::Result<File> {
    let mut memory = memory()?;
    memory.write_all(bytes)?;
    memory.rewind()?;
    Ok(memory)
}

fn memory() -> io::Result<File> {
    let create = |flags| memfd_create(c"kugetsu-git", MFdFlags::MFD_CLOEXEC | flags);
    let no_exec = MFdFlags::from_bits_retain(MFD_NOEXEC_SEAL);
    let memory = match create(no_exec) {
        // A kernel before 6.3 does not know it; a later one may insist on it.
        Err(Errno::EINVAL) => create(MFdFlags::MFD_ALLOW_SEALING),
        memory => memory,
    };
    Ok(File::from(memory?))
}

/// Implies that sealing is allowed. The crate has no name for it.
const MFD_NOEXEC_SEAL: u32 = 8;

/// Memory that takes no more than so many bytes, and a little more by which it is seen that there
/// were more. Its size is fixed; how far it was written is told by its position, which all who
/// write to it share.
fn bounded_memory(bytes_max: u64) -> io::Result<File> {
    let memory = memory()?;
    memory.set_len(bytes_max.saturating_add(limits::GIT_OUTPUT_SLACK_BYTES))?;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK))?;
    Ok(memory)
}

fn read_back(memory: &mut File, bytes_max: u64) -> io::Result<(Vec<u8>, bool)> {
    let written = memory.stream_position()?;
    memory.rewind()?;
    let mut bytes = Vec::new();
    memory.take(written.min(bytes_max)).read_to_end(&mut bytes)?;
    Ok((bytes, written > bytes_max))
}

/// The beginning and the end of what was said: the first error and the last word.
fn ends_of(memory: &mut File) -> io::Result<Vec<u8>> {
    let written = memory.stream_position()?;
    memory.rewind()?;
    let mut bytes = Vec::new();
    let half = limits::GIT_STDERR_READ_BYTES_MAX / 2;
    if written <= 2 * half {
        memory.take(written).read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    (&mut *memory).take(half).read_to_end(&mut bytes)?;
    bytes.push(b'\n');
    memory.seek(SeekFrom::Start(written - half))?;
    memory.take(half).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Programs at work. Dropped, whatever is left of them is killed.
struct Group {
    leader: Option<Pid>,
    stderrs: Vec<File>,
    ended: Receiver<(usize, io::Result<ExitStatus>)>,
    count: usize,
    is_guarded: bool,
    is_over: bool,
}

impl Group {
    fn start(parts: Vec<Part>, stdout: File, guard: Option<&Path>) -> io::Result<Group> {
        let count = parts.len();
        let (sender, ended) = bounded(count);
        // Threads first: one that cannot be had must not leave a program that nobody waits for.
        let waiters = (0..count).map(|number| waiter(number, sender.clone()));
        let waiters = waiters.collect::<io::Result<Vec<Sender<Child>>>>()?;
        let mut group = Group {
            leader: None,
            stderrs: Vec::new(),
            ended,
            count,
            is_guarded: guard.is_some(),
            is_over: false,
        };
        let mut children = Vec::new();
        let mut stdout = Some(stdout);
        let mut previous = None;
        for (number, part) in parts.into_iter().enumerate() {
            let stderr = bounded_memory(limits::GIT_STDERR_BYTES_MAX)?;
            let mut command = match guard {
                Some(guard) => guarded(guard, &part.command),
                None => part.command,
            };
            command
                .stdin(previous.take().map_or_else(|| Stdio::from(part.stdin), Stdio::from))
                .stderr(stderr.try_clone()?)
                .process_group(group.leader.map_or(0, Pid::as_raw));
            match stdout.take_if(|_| number + 1 == count) {
                Some(stdout) => command.stdout(stdout),
                None => command.stdout(Stdio::piped()),
            };
            group.stderrs.push(stderr);
            // Nobody waits for the first yet, so its group is there until all have joined it.
            let spawned = command.spawn();
            let mut child = match spawned {
                Ok(child) => child,
                Err(error) => {
                    group.kill();
                    children.iter_mut().for_each(|child: &mut Child| drop(child.wait()));
                    return Err(error);
                }
            };
            previous = child.stdout.take();
            let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
            group.leader.get_or_insert(Pid::from_raw(pid));
            children.push(child);
        }
        for (waiter, child) in waiters.into_iter().zip(children) {
            waiter.send(child).map_err(|_| io::Error::other("a waiting thread is gone"))?;
        }
        Ok(group)
    }

    /// Waits for all of them.
    fn wait(
        &mut self,
        stop: &Receiver<Stop>,
        limits: &Limits<'_>,
    ) -> Result<Vec<ExitStatus>, Interrupted> {
        let mut statuses = vec![None; self.count];
        let mut heard = Heard { bytes: 0, at: time::monotonic() };
        while statuses.contains(&None) {
            let now = time::monotonic();
            let tick = Duration::from_millis(limits::GIT_TICK_MS);
            let left = limits.deadline.saturating_duration_since(now);
            select! {
                recv(self.ended) -> end => {
                    let (number, status) = end.map_err(io::Error::other)?;
                    statuses[number] = Some(status?);
                }
                recv(stop) -> word => {
                    return Err(self.end(Interrupted::Stopped(word.unwrap_or(Stop::Shutdown))));
                }
                recv(after(left.min(tick))) -> _ => {
                    if left <= tick && time::monotonic() >= limits.deadline {
                        return Err(self.end(Interrupted::TimedOut));
                    }
                    if self.is_silent(&mut heard, limits)? {
                        return Err(self.end(Interrupted::Silent));
                    }
                }
            }
        }
        self.is_over = true;
        let statuses: Vec<ExitStatus> = statuses.into_iter().flatten().collect();
        // What a killed git or guard leaves works on for nobody: `upload-pack`, a helper.
        if statuses.iter().any(|status| status.signal().is_some()) {
            self.kill();
        }
        Ok(statuses)
    }

    fn is_silent(&mut self, heard: &mut Heard, limits: &Limits<'_>) -> io::Result<bool> {
        let Some(silence_ms) = limits.silence_ms else { return Ok(false) };
        let mut bytes = 0;
        for stderr in &mut self.stderrs {
            bytes += stderr.stream_position()?;
        }
        let now = time::monotonic();
        if bytes != heard.bytes {
            *heard = Heard { bytes, at: now };
        }
        Ok(now.duration_since(heard.at) >= Duration::from_millis(silence_ms))
    }

    /// TERM, grace, KILL. TERM lets git clean up behind itself; a guard gives the same grace, and
    /// then needs a moment to kill what left its group.
    fn end(&mut self, why: Interrupted) -> Interrupted {
        let Some(leader) = self.leader else { return why };
        let grace = match self.is_guarded {
            true => 2 * limits::HELPER_GRACE_MS,
            false => limits::HELPER_GRACE_MS,
        };
        let deadline = time::monotonic() + Duration::from_millis(grace);
        // A group that is gone needs no signal, and there is nobody else to tell of an error.
        let _ = tree::signal_group(leader, Signal::SIGTERM);
        let mut ends = 0;
        while ends < self.count && self.ended.recv_deadline(deadline).is_ok() {
            ends += 1;
        }
        self.kill();
        while ends < self.count && self.ended.recv().is_ok() {
            ends += 1;
        }
        self.is_over = true;
        why
    }

    fn kill(&self) {
        if let Some(leader) = self.leader {
            let _ = tree::signal_group(leader, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.is_over {
            self.kill();
        }
    }
}

/// How much was heard, and when it last became more.
struct Heard {
    bytes: u64,
    at: Instant,
}

/// A thread that waits for the child that it is given.
fn waiter(
    number: usize,
    ended: Sender<(usize, io::Result<ExitStatus>)>,
) -> io::Result<Sender<Child>> {
    let (sender, child) = bounded::<Child>(1);
    thread::Builder::new().name("git".into()).spawn(move || {
        if let Ok(mut child) = child.recv() {
            // The other end is there until all are dead.
            let _ = ended.send((number, child.wait()));
        }
    })?;
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::never;

    use super::*;
    use crate::process::command;

    fn shell(script: &str) -> Part {
        let mut command = command("sh");
        command.args(["-c", script]);
        Part { command, stdin: memory_of(b"given").expect("memory") }
    }

    fn within(ms: u64) -> Limits<'static> {
        let deadline = time::monotonic() + Duration::from_millis(ms);
        Limits { deadline, silence_ms: None, guard: None }
    }

    fn run_scripts(scripts: &[&str], limits: &Limits<'_>) -> Result<Ended, Interrupted> {
        let parts = scripts.iter().map(|script| shell(script)).collect();
        run(parts, Sink::Kept(1000), &never(), limits)
    }

    #[test]
    fn output_is_kept_up_to_its_limit() {
        for (script, length, is_too_large) in [
            ("cat", 5, false),
            ("head -c 1000 /dev/zero", 1000, false),
            ("head -c 1001 /dev/zero", 1000, true),
            ("head -c 2000 /dev/zero", 1000, true),
            ("cat /dev/zero; exit 0", 1000, true),
            ("true", 0, false),
        ] {
            let ended = run_scripts(&[script], &within(60_000)).expect("it ends");
            assert_eq!(
                (ended.stdout.len(), ended.is_too_large),
                (length, is_too_large),
                "{script}"
            );
        }
    }

    #[test]
    fn standard_error_is_quoted_from_both_ends() {
        let script = "echo first >&2; head -c 3000000 /dev/zero | tr '\\0' x >&2; echo last >&2";
        let ended = run_scripts(&[script], &within(60_000)).expect("it ends");
        let said = &ended.parts[0].stderr;
        assert!(said.starts_with("first\nxx") && said.ends_with("xlast\n"));
        assert!(said.len() as u64 <= limits::GIT_STDERR_READ_BYTES_MAX + 1);
        // A flood is cut off by the kernel, and does not hinder the end.
        let ended = run_scripts(&["yes >&2; exit 3"], &within(60_000)).expect("it ends");
        assert_eq!(ended.parts[0].status.code(), Some(3));
    }

    #[test]
    fn a_pipe_is_one_group_with_two_ends() {
        let ended = run_scripts(&["cat; exit 3", "tr a-z A-Z; exit 4"], &within(60_000));
        let ended = ended.expect("it ends");
        assert_eq!(ended.stdout, b"GIVEN");
        let codes: Vec<_> = ended.parts.iter().map(|said| said.status.code()).collect();
        assert_eq!(codes, [Some(3), Some(4)]);
    }

    #[test]
    fn what_a_program_leaves_in_its_group_ends_with_it_at_the_limit() {
        let folder = tempfile::tempdir().expect("a folder");
        let held = folder.path().join("held");
        // The grandchild ignores TERM and holds a lock until it is dead.
        let script = format!(
            "exec 9>'{0}'; flock 9; trap '' TERM; (sleep 600) & echo > '{0}.ready'; wait",
            held.display()
        );
        let (sender, stop) = bounded(1);
        let ready = folder.path().join("held.ready");
        let teller = thread::spawn(move || {
            let give_up = time::monotonic() + Duration::from_secs(60);
            while !ready.exists() && time::monotonic() < give_up {
                time::pause(Duration::from_millis(5));
            }
            sender.send(Stop::Cancel).expect("somebody listens");
        });
        let answer = run(vec![shell(&script)], Sink::Kept(10), &stop, &within(60_000));
        assert!(matches!(answer, Err(Interrupted::Stopped(Stop::Cancel))), "{answer:?}");
        teller.join().expect("it told");
        // It was killed; the kernel may need a moment to bury it.
        let give_up = time::monotonic() + Duration::from_secs(60);
        let held = File::open(held).expect("it was made");
        while held.try_lock().is_err() {
            assert!(time::monotonic() < give_up, "somebody lives to hold it");
            time::pause(Duration::from_millis(5));
        }
    }

    #[test]
    fn limits_of_time_and_of_silence() {
        let answer = run_scripts(&["exec sleep 600"], &within(1));
        assert!(matches!(answer, Err(Interrupted::TimedOut)), "{answer:?}");
        let limits = Limits { silence_ms: Some(1), ..within(60_000) };
        let answer = run_scripts(&["exec sleep 600"], &limits);
        assert!(matches!(answer, Err(Interrupted::Silent)), "{answer:?}");
    }

    #[test]
    fn a_program_that_is_not_there_leaves_none_of_the_others() {
        let missing = Part {
            command: command("/nowhere/to/be/found"),
            stdin: memory_of(b"").expect("memory"),
        };
        let parts = vec![shell("exec sleep 600"), missing];
        let answer = run(parts, Sink::Kept(10), &never(), &within(60_000));
        assert!(matches!(answer, Err(Interrupted::Failed(_))), "{answer:?}");
    }
}
