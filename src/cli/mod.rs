//! The command line: a client of the same file as everybody else. Only this module prints.

mod cancel;
mod clear;
mod context;
mod credential;
mod daemon;
mod demo;
mod diff;
mod doctor;
mod each;
mod edit;
mod enqueue;
mod exchange;
mod exit;
mod export;
mod finding;
mod import;
mod init;
mod launch;
mod list;
mod logs;
mod manual;
mod pause;
mod progress;
mod prune;
mod render;
mod retry;
mod sessions;
mod show;
mod stats;
mod transcript;
mod wait;
mod why;
mod worker;

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::process::{guard, launch as launch_agent, shim};

use self::context::{CliError, Context};

pub use self::exit::CliExit;

/// Durable queue for coding agents: enqueue issues, and a worker runs an agent on each.
///
/// A job is on disk when `queue enqueue` returns. `worker` gives each job a git worktree, a branch
/// and an agent session, watches the agent's processes, and judges the result by its commits.
#[derive(Parser)]
#[command(
    name = "kugetsu",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  kugetsu demo                                   see it work, without any set-up
  kugetsu queue enqueue github.com/shoko/kugetsu#14 'fix the bug'
  kugetsu worker                                 run the queue's jobs
  kugetsu queue list --state=all                 what became of them
  kugetsu logs github.com/shoko/kugetsu#14 -f    watch an agent

Everything is kept in ~/.kugetsu (KUGETSU_DIR). Exit codes: see EXITCODES.md."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Add, list, show, change and cancel jobs
    #[command(subcommand)]
    Queue(QueueVerb),
    /// Run the queue's jobs, until told to end
    Worker(worker::Arguments),
    /// A worker in the background
    #[command(subcommand)]
    QueueDaemon(daemon::DaemonVerb),
    /// Start an agent on an issue now, if the cap allows
    Start(launch::Arguments),
    /// Go on with an issue's session now, if the cap allows
    Continue(launch::Arguments),
    /// Wait until jobs have ended
    Wait(wait::Arguments),
    /// Show what a job's agent logged
    Logs(logs::Arguments),
    /// Show the commits of a job, also when its worktree is gone
    Diff(diff::Arguments),
    /// List sessions, with their worktrees and branches
    List(sessions::list::Arguments),
    /// Take away an issue's worktree, branch and session
    Destroy(sessions::destroy::Arguments),
    /// Take away worktrees, branches and sessions that have nothing of worth
    Prune(sessions::prune::Arguments),
    /// Make kugetsu's folder and configuration, and look whether all it needs is there
    Init(init::Arguments),
    /// Look for what is wrong: programs, folder, queue, workers, runs, worktrees
    Doctor(doctor::Arguments),
    /// See kugetsu work: a throwaway repository and a scripted agent
    Demo(demo::Arguments),
    /// Write completions for a shell to standard output
    Completions(manual::CompletionsArguments),
    /// Write the manual as man pages
    Man(manual::ManArguments),
}

/// The first arguments that [`Internal`] has an answer for.
const INTERNAL: [&str; 4] = ["supervise", "queue-daemon-process", "demo-agent", "credential"];

/// Processes that kugetsu starts of itself. No help and no completion knows them.
#[derive(Parser)]
enum Internal {
    /// What `start` and `continue` leave behind
    Supervise(launch::SuperviseArguments),
    /// What `queue-daemon start` leaves behind
    QueueDaemonProcess,
    /// The agent of `demo`
    DemoAgent,
    /// What kugetsu's git asks for a token
    Credential(credential::Arguments),
}

#[derive(Subcommand)]
enum QueueVerb {
    /// Add a job; it is on disk when this returns
    Enqueue(enqueue::Arguments),
    /// List jobs
    List(list::Arguments),
    /// Count jobs
    Stats(stats::Arguments),
    /// Show one job with its history
    Show(show::Arguments),
    /// Tell why a job does not run
    Why(why::Arguments),
    /// Call jobs off; a running one's agent is ended
    Cancel(cancel::Arguments),
    /// Make ended jobs pending again
    Retry(retry::Arguments),
    /// Change pending jobs
    Edit(edit::Arguments),
    /// Remove jobs that ended long ago
    Prune(prune::Arguments),
    /// Remove all jobs but the running ones
    Clear(clear::Arguments),
    /// Write jobs as lines of JSON
    Export(export::Arguments),
    /// Add jobs from lines of JSON
    Import(import::Arguments),
    /// Let no more jobs be begun, for a while or until resume
    Pause(pause::Arguments),
    /// Let jobs be begun again
    Resume,
}

enum Call {
    Verb(Verb),
    Internal(Internal),
}

/// Runs one command, and gives its exit code.
pub fn run(
    arguments: impl Iterator<Item = OsString>,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> u8 {
    context::allow_owner();
    let arguments: Vec<OsString> = arguments.collect();
    if let [_, verb, folder] = arguments.as_slice()
        && verb == "shim"
    {
        // A shim lives as long as its agent, and needs none of what follows.
        return run_shim(&PathBuf::from(folder));
    }
    if let [_, verb, folder] = arguments.as_slice()
        && verb == launch_agent::VERB
    {
        return u8::try_from(launch_agent::run(&PathBuf::from(folder))).unwrap_or(1);
    }
    if let [_, verb, parent, program, rest @ ..] = arguments.as_slice()
        && verb == guard::VERB
    {
        return run_guard(&parent.to_string_lossy(), program, rest);
    }
    let parsed = if arguments.get(1).is_some_and(|verb| INTERNAL.iter().any(|name| verb == name)) {
        Internal::try_parse_from(&arguments).map(Call::Internal)
    } else {
        Cli::try_parse_from(&arguments).map(|cli| Call::Verb(cli.verb))
    };
    let call = match parsed {
        Ok(call) => call,
        Err(error) => return refuse_usage(&error),
    };
    let program = arguments.first().map(|name| name.to_string_lossy().into_owned());
    let program = program.unwrap_or_else(|| "kugetsu".into());
    let done = context::readable(environment).and_then(|environment| {
        let context = Context::new(environment, program);
        match call {
            Call::Verb(verb) => dispatch(verb, &context),
            Call::Internal(internal) => dispatch_internal(&internal, &context),
        }
    });
    let exit = done.unwrap_or_else(|error| {
        context::complain(&error);
        error.exit
    });
    exit as u8
}

fn dispatch(verb: Verb, context: &Context) -> Result<CliExit, CliError> {
    match verb {
        Verb::Queue(QueueVerb::Enqueue(arguments)) => enqueue::run(context, arguments),
        Verb::Queue(QueueVerb::List(arguments)) => list::run(context, &arguments),
        Verb::Queue(QueueVerb::Stats(arguments)) => stats::run(context, &arguments),
        Verb::Queue(QueueVerb::Show(arguments)) => show::run(context, &arguments),
        Verb::Queue(QueueVerb::Why(arguments)) => why::run(context, &arguments),
        Verb::Queue(QueueVerb::Cancel(arguments)) => cancel::run(context, &arguments),
        Verb::Queue(QueueVerb::Retry(arguments)) => retry::run(context, &arguments),
        Verb::Queue(QueueVerb::Edit(arguments)) => edit::run(context, &arguments),
        Verb::Queue(QueueVerb::Prune(arguments)) => prune::run(context, &arguments),
        Verb::Queue(QueueVerb::Clear(arguments)) => clear::run(context, &arguments),
        Verb::Queue(QueueVerb::Export(arguments)) => export::run(context, &arguments),
        Verb::Queue(QueueVerb::Import(arguments)) => import::run(context, &arguments),
        Verb::Queue(QueueVerb::Pause(arguments)) => pause::run(context, &arguments),
        Verb::Queue(QueueVerb::Resume) => pause::resume(context),
        Verb::Worker(arguments) => worker::run(context, &arguments),
        Verb::Init(arguments) => init::run(context, &arguments),
        Verb::Doctor(arguments) => doctor::run(context, &arguments),
        Verb::Wait(arguments) => wait::run(context, &arguments),
        Verb::Completions(arguments) => manual::completions(&arguments),
        Verb::Man(arguments) => manual::man(&arguments),
        Verb::QueueDaemon(verb) => daemon::run(context, &verb),
        Verb::Start(arguments) => launch::run(context, arguments, "started"),
        Verb::Continue(arguments) => launch::run(context, arguments, "continued"),
        Verb::Logs(arguments) => logs::run(context, &arguments),
        Verb::Diff(arguments) => diff::run(context, &arguments),
        Verb::List(arguments) => sessions::list::run(context, &arguments),
        Verb::Destroy(arguments) => sessions::destroy::run(context, &arguments),
        Verb::Prune(arguments) => sessions::prune::run(context, &arguments),
        Verb::Demo(arguments) => demo::run(context, &arguments),
    }
}

fn dispatch_internal(internal: &Internal, context: &Context) -> Result<CliExit, CliError> {
    match internal {
        Internal::Supervise(arguments) => launch::supervise(context, arguments),
        Internal::QueueDaemonProcess => daemon::work(context),
        Internal::DemoAgent => demo::agent(context),
        Internal::Credential(arguments) => credential::run(context, arguments),
    }
}

fn run_guard(parent: &str, program: &OsString, arguments: &[OsString]) -> u8 {
    guard::run(parent, program, arguments).unwrap_or_else(|error| {
        context::print_error(&format!("{}: {error}", program.display()));
        1
    })
}

fn run_shim(folder: &std::path::Path) -> u8 {
    // Its standard error is shim.log.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .init();
    match shim::run(folder) {
        Ok(()) => 0,
        Err(error) => {
            context::print_error(&format!("shim of {}: {error}", folder.display()));
            1
        }
    }
}

/// Clap's own code for a wrong call is 2, which has another meaning here.
fn refuse_usage(error: &clap::Error) -> u8 {
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    match printed {
        // Without standard error there is nobody to tell.
        _ if error.use_stderr() => CliExit::General as u8,
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            context::complain(&context::cannot_print(error));
            CliExit::General as u8
        }
        Ok(()) | Err(_) => CliExit::Success as u8,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_tree_is_sound() {
        super::Cli::command().debug_assert();
        let internal = super::Internal::command();
        internal.clone().debug_assert();
        let names: Vec<&str> = internal.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(names, super::INTERNAL);
    }
}
