//! What every command needs: the environment, the queue, and a way to speak.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::DirBuilder;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::DirBuilderExt;
use std::panic;
use std::path::Path;
use std::sync::{Arc, Once, OnceLock};
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use nix::sys::stat::{Mode, umask};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::cli::exit::CliExit;
use crate::config::{Config, ConfigError, KEYS, check_owner, duration_ms};
use crate::daemon::StopRequest;
use crate::job::issue_ref::Malformed;
use crate::job::{IssueRef, JobId, StateKind};
use crate::queue::{Queue, QueueError};
use crate::secrets::Secrets;
use crate::store::{Holder, OpRefused, RedbStore, StoreError, is_guarding};
use crate::time::{Clock, SystemClock};

/// Why a command failed: for the person, and for the caller.
#[derive(Debug)]
pub(super) struct CliError {
    pub exit: CliExit,
    pub message: String,
    /// The next step, if there is one.
    pub hint: Option<String>,
}

impl CliError {
    pub fn new(exit: CliExit, message: impl Into<String>) -> CliError {
        CliError { exit, message: message.into(), hint: None }
    }

    pub fn general(message: impl Display) -> CliError {
        CliError::new(CliExit::General, message.to_string())
    }

    pub fn hint(self, hint: impl Into<String>) -> CliError {
        CliError { hint: Some(hint.into()), ..self }
    }

    pub fn no_such_job(id: JobId) -> CliError {
        CliError::new(CliExit::NotFound, format!("there is no job {id}"))
            .hint("`kugetsu queue list --state=all` lists them")
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> CliError {
        CliError::general(error)
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> CliError {
        CliError::general(error)
    }
}

impl From<QueueError> for CliError {
    fn from(error: QueueError) -> CliError {
        match error {
            QueueError::Store(error) => from_store(&error),
            QueueError::Worker(_) => CliError::general(error),
            QueueError::Refused(refused) => match refused {
                OpRefused::NoSuchJob(id) => CliError::no_such_job(id),
                OpRefused::CapReached { .. } => {
                    CliError::new(CliExit::CapReached, refused.to_string())
                        .hint("try again later, or `kugetsu queue enqueue` it")
                }
                OpRefused::IssueBusy(_) => CliError::new(CliExit::CapReached, refused.to_string())
                    .hint("`kugetsu queue enqueue` runs a job after it"),
                OpRefused::NoSuchSession(_) => {
                    CliError::new(CliExit::NotFound, format!("there is {refused}"))
                        .hint("`kugetsu list` lists them")
                }
                OpRefused::AgentHeld(_) => CliError::new(CliExit::CapReached, refused.to_string())
                    .hint("see to that, then `kugetsu queue resume`"),
                OpRefused::Paused => CliError::new(CliExit::CapReached, refused.to_string()),
                OpRefused::Transition(..) | OpRefused::Invalid(_) => CliError::general(refused),
            },
        }
    }
}

fn from_store(error: &StoreError) -> CliError {
    match error {
        StoreError::Busy { holder, .. } => CliError::new(CliExit::StoreBusy, error.to_string())
            .hint(match holder {
                Some(Holder { pid, is_stopped: true, .. }) => format!(
                    "let it go on (kill -CONT {pid}) or end it (kill -KILL {pid}), and try again"
                ),
                Some(Holder { pid, .. }) => {
                    format!("try again; if it stays so, look what process {pid} does")
                }
                None => "try again; if it stays so, look for a stopped kugetsu process".into(),
            }),
        StoreError::Gone { .. } => CliError::general(error).hint(
            "the same command again uses the file that is there now, or makes a new, empty queue",
        ),
        StoreError::Damaged { .. } => CliError::new(CliExit::StoreDamaged, error.to_string()).hint(
            "keep the file; to begin an empty queue, stop every worker and move it away \
             (docs/STORAGE.md)",
        ),
        StoreError::TooNew { .. } => CliError::new(CliExit::StoreDamaged, error.to_string()),
        StoreError::Io { source, .. } => match next_step(source.kind()) {
            Some(step) => CliError::general(error).hint(step),
            None => CliError::general(error),
        },
        StoreError::Latched { .. } => CliError::general(error)
            .hint("see to the cause, look at the queue, and run the command again"),
        StoreError::Panicked => CliError::general(error),
    }
}

/// What a person can do about an error of the system.
fn next_step(kind: io::ErrorKind) -> Option<&'static str> {
    use io::ErrorKind as Kind;
    match kind {
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem | Kind::IsADirectory => {
            Some("it must be a file that you can write; KUGETSU_DIR says which folder it is in")
        }
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => {
            Some("make room, and run the same command again")
        }
        _ => None,
    }
}

/// Reads an issue reference that a person typed.
pub(super) fn parse_issue(text: &str) -> Result<IssueRef, CliError> {
    let hint = "an issue is written HOST/OWNER/REPO#NUMBER, like github.com/shoko/kugetsu#14";
    text.parse().map_err(|error: Malformed| CliError::general(error).hint(hint))
}

/// Reads states that a person typed; `all` is an empty list.
pub(super) fn parse_states(text: &str) -> Result<Vec<StateKind>, CliError> {
    if text == "all" {
        return Ok(Vec::new());
    }
    text.split(',').map(str::parse).collect::<Result<_, String>>().map_err(CliError::general)
}

/// Reads the duration that an option was given.
pub(super) fn parse_duration(option: &str, text: &str) -> Result<u64, CliError> {
    duration_ms(text).map_err(|why| CliError::general(format!("--{option}={text}: {why}")))
}

/// A umask that takes from the owner what kugetsu gives to its owner alone would lock it out of
/// its own files.
pub(super) fn allow_owner() {
    let mask = umask(Mode::all());
    umask(mask & !Mode::S_IRWXU);
}

/// The environment as text. What kugetsu reads of it must be text; the rest is other programs'.
pub(super) fn readable(
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, String>, CliError> {
    let mut readable = BTreeMap::new();
    for (name, value) in environment {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => {
                readable.insert(name, value);
            }
            Err(_) if name.starts_with("KUGETSU_") || KEYS.iter().any(|key| key.name == name) => {
                return Err(CliError::general(format!("environment: {name} is not UTF-8")));
            }
            Err(_) => {}
        }
    }
    Ok(readable)
}

/// The world of one command.
pub(super) struct Context {
    pub environment: BTreeMap<String, String>,
    /// This program as it was called.
    pub program: String,
}

impl Context {
    pub fn new(environment: BTreeMap<String, String>, program: String) -> Context {
        Context { environment, program }
    }

    pub fn config(&self) -> Result<Config, CliError> {
        let config = Config::load(&self.environment)?;
        // The first one of a process counts: it has but one.
        let _ = SECRETS.set(config.secrets.clone());
        Ok(config)
    }

    /// The queue of this configuration. Its folder is made if it is not there.
    pub fn queue(&self, config: &Config) -> Result<Queue, CliError> {
        open_queue(config)
    }

    /// Tells a person on standard error.
    pub fn complain(&self, error: &CliError) {
        complain(error);
    }

    /// Whether standard output is a terminal.
    pub fn is_interactive(&self) -> bool {
        io::stdout().is_terminal()
    }
}

pub(super) fn open_queue(config: &Config) -> Result<Queue, CliError> {
    make_folder(&config.home)?;
    check_owner(&config.store)?;
    quiet_damage();
    let store = RedbStore::open(&config.store, Arc::new(SystemClock))
        .map_err(|error| from_store(&error))?;
    let queue = Queue::new(store);
    // Never closed. A close commits once more and shrinks the file, with four fsyncs, for what the
    // next one to open it does not need: each commit already holds all that is needed to go on.
    std::mem::forget(queue.clone());
    Ok(queue)
}

/// A panic that the store tells of as damage is not told a second time.
pub(super) fn quiet_damage() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !is_guarding() {
                usual(info);
            }
        }));
    });
}

pub(super) fn make_folder(folder: &Path) -> Result<(), CliError> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        CliError::general(format!("cannot make {}: {error}", folder.display()))
            .hint("KUGETSU_DIR says where kugetsu keeps everything")
    })
}

/// What no error and no line of a log may hold.
static SECRETS: OnceLock<Secrets> = OnceLock::new();

/// Without secrets, as far as they are known by now.
fn masked(text: &str) -> Cow<'_, str> {
    match SECRETS.get() {
        Some(secrets) => secrets.mask(text),
        None => Secrets::default().mask(text).into_owned().into(),
    }
}

/// Tells a person on standard error.
pub(super) fn complain(error: &CliError) {
    print_error(&error.message);
    if let Some(hint) = &error.hint {
        let mut stderr = anstream::stderr().lock();
        let _ = writeln!(stderr, "  {hint}");
    }
}

/// Standard error is the last resort: if it is gone, there is nobody to tell.
pub(super) fn print_error(message: &str) {
    let mut stderr = anstream::stderr().lock();
    let style = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Red.into()));
    let _ = writeln!(stderr, "{style}error{style:#}: {}", masked(message));
}

/// Something to know that is no error, for the person alone.
pub(super) fn print_note(note: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{note}");
}

/// Writes to standard output. A reader that has gone away (`| head -1`) is no error.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = anstream::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(cannot_print),
    }
}

/// What was asked for is done, but nobody could be told.
pub(super) fn cannot_print(error: io::Error) -> CliError {
    CliError::general(format!("cannot write to standard output: {error}"))
        .hint("only the output is lost: what the command changes is changed")
}

/// SIGTERM, SIGINT and SIGHUP as requests to stop a worker.
pub(super) fn stop_requests() -> Result<Receiver<StopRequest>, CliError> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    // More than three requests say nothing that three do not.
    let (sender, stop_requests) = bounded(3);
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            let request =
                if signal == SIGINT { StopRequest::Interrupt } else { StopRequest::Terminate };
            let _ = sender.try_send(request);
        }
    })?;
    Ok(stop_requests)
}

/// The time in log lines: all of it in a file, hours to seconds (UTC) on a screen.
struct LogClock {
    short: bool,
}

impl FormatTime for LogClock {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        let now = SystemClock.now().to_string();
        let shown = if self.short { now.get(11..19) } else { Some(now.as_str()) };
        writer.write_str(shown.unwrap_or_default())
    }
}

/// Standard error, for whole lines without secrets.
struct MaskedStderr;

impl Write for MaskedStderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        io::stderr().write_all(masked(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Log lines of a worker, on standard error. `KUGETSU_LOG` says how many.
pub(super) fn begin_logging(context: &Context) {
    let filter = context.environment.get("KUGETSU_LOG").map_or("info", String::as_str);
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let colours = io::stderr().is_terminal()
        && context.environment.get("NO_COLOR").is_none_or(String::is_empty);
    // A second subscriber in one process is refused, and the first one serves.
    let clock = LogClock { short: io::stderr().is_terminal() };
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(clock)
        .with_target(false)
        .with_ansi(colours)
        .with_writer(|| MaskedStderr)
        // Would be told on the standard error that cannot be written, and end in a panic.
        .log_internal_errors(false)
        .try_init();
}
