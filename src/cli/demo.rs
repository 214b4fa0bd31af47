//! `demo`: the real pipeline on a throwaway repository, with a scripted agent.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use clap::Args;
use crossbeam_channel::{Receiver, after, bounded, select};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::context::{CliError, Context, open_queue, print, stop_requests};
use crate::cli::exit::CliExit;
use crate::cli::render::{self, Format};
use crate::cli::worker::new_worker;
use crate::cli::{list, worker};
use crate::config::Config;
use crate::daemon::StopRequest;
use crate::git::environment::plain_git;
use crate::job::{Job, JobId, NewJob, State, limits};
use crate::queue::Queue;
use crate::store::ListQuery;
use crate::time;

#[derive(Args)]
#[command(after_help = "\
Makes a folder with a git repository, enqueues a job for each of some issues,
and lets a worker run a scripted agent on them: no network, no key, no set-up.
The agent of issue 4 fails at its first attempt, to show a retry.

Examples:
  kugetsu demo
  kugetsu demo --jobs=10 --agents=5 --keep")]
pub(super) struct Arguments {
    /// How many jobs
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=30))]
    jobs: u32,
    /// How many agents at once
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=30))]
    agents: u32,
    /// Keep the folder, to look around in it
    #[arg(long)]
    keep: bool,
    /// For people, or the final list for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

const MESSAGES: [&str; 6] = [
    "Write down what the project is for",
    "Describe how to build it",
    "Explain the exit codes",
    "Say how to report a bug",
    "Add a note about backups",
    "List the commands in one place",
];

/// The attempt that fails, to show a retry: the first one of this issue.
const FAILING_ISSUE: u32 = 4;

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    // From here on a Ctrl-C is a request to the worker, and the folder is removed.
    let stop_requests = any_stop_terminates()?;
    let mut folder = tempfile::Builder::new().prefix("kugetsu-demo-").tempdir()?;
    folder.disable_cleanup(arguments.keep);
    let root = folder.path().canonicalize()?;
    let config = config(context, &root, arguments.agents)?;
    worker::check_programs(context, &config)?;
    make_remote(&root)?;
    let queue = open_queue(&config)?;
    for number in 1..=arguments.jobs {
        let message = MESSAGES[(number as usize - 1) % MESSAGES.len()];
        let issue = format!("demo.local/demo/tour#{number}").parse().map_err(CliError::general)?;
        queue.enqueue(NewJob::new(issue, message))?;
    }
    let settings = crate::worker::Settings { once: true, ..config.worker() };
    let worker = new_worker(&config, queue.clone(), settings)?;
    let run =
        thread::Builder::new().name("worker".into()).spawn(move || worker.run(&stop_requests))?;
    if arguments.format == Format::Text {
        let place = root.display();
        print(&format!(
            "{} jobs, {} agents at once, in {place}\n\n",
            arguments.jobs, arguments.agents
        ))?;
    }
    // Whatever becomes of the show, the worker ends before its folder goes.
    let shown = match arguments.format {
        Format::Text => watch(&queue, context.is_interactive(), || run.is_finished()),
        Format::Json => Ok(()),
    };
    let exit = run.join().map_err(|_| CliError::general("a bug ended the worker"))??;
    shown?;
    report(context, &queue, &root, arguments)?;
    let stats = queue.stats()?;
    Ok(match exit {
        crate::worker::Exit::Interrupted | crate::worker::Exit::Terminated => CliExit::Interrupted,
        crate::worker::Exit::Idle if stats.error + stats.cancelled > 0 => CliExit::JobFailed,
        crate::worker::Exit::Idle => CliExit::Success,
    })
}

/// The demo's own configuration: the person's is left out of it.
fn config(context: &Context, root: &Path, agents: u32) -> Result<Config, CliError> {
    let mut environment: BTreeMap<String, String> = context
        .environment
        .iter()
        .filter(|(name, _)| !crate::config::KEYS.iter().any(|key| key.name == name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut set = |name: &str, value: String| environment.insert(name.into(), value);
    set("KUGETSU_DIR", root.join("kugetsu").display().to_string());
    set("KUGETSU_CLONE_URL", format!("file://{}/remote/{{path}}.git", root.display()));
    set("KUGETSU_AGENT_COMMAND", "/proc/self/exe demo-agent".into());
    set("MAX_CONCURRENT_AGENTS", agents.to_string());
    set("KUGETSU_SPAWN_DELAY", "200ms".into());
    set("KUGETSU_RETRY_DELAY", "1s".into());
    set("KUGETSU_KILL_GRACE", "1s".into());
    set("KUGETSU_ON_TERM", "stop".into());
    Ok(Config::load(&environment)?)
}

/// A bare repository with one commit, as a forge would hold it.
fn make_remote(root: &Path) -> Result<(), CliError> {
    let draft = root.join("draft");
    let remote = root.join("remote/demo/tour.git");
    fs::create_dir_all(&draft)?;
    fs::write(draft.join("README.md"), "# Tour\n\nA repository to show kugetsu at work.\n")?;
    git(&draft, &["init", "--quiet", "--initial-branch=main"])?;
    git(&draft, &["add", "README.md"])?;
    git(&draft, &["commit", "--quiet", "-m", "Begin"])?;
    let remote = remote.display().to_string();
    git(&draft, &["clone", "--quiet", "--bare", ".", &remote])?;
    fs::remove_dir_all(&draft)?;
    Ok(())
}

fn git(folder: &Path, arguments: &[&str]) -> Result<(), CliError> {
    let output = plain_git(folder)
        .args(["-c", "user.name=kugetsu demo", "-c", "user.email=demo@localhost"])
        .args(["-c", "commit.gpgsign=false"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(CliError::general(format!("git {}: {}", arguments[0], said.trim())))
}

/// Here a Ctrl-C ends the agents at once: nothing of theirs is worth the wait.
fn any_stop_terminates() -> Result<Receiver<StopRequest>, CliError> {
    let stop_requests = stop_requests()?;
    let (sender, ends) = bounded(2);
    thread::Builder::new().name("ends".into()).spawn(move || {
        for _ in stop_requests {
            let _ = sender.try_send(StopRequest::Terminate);
        }
    })?;
    Ok(ends)
}

/// Shows the jobs until the worker is done: lines that move on a terminal, plain ones elsewhere.
fn watch(queue: &Queue, live: bool, is_done: impl Fn() -> bool) -> Result<(), CliError> {
    let changes = queue.watch();
    let mut screen = Screen::new(live);
    loop {
        let done = is_done();
        for job in all_jobs(queue)? {
            screen.show(queue, &job)?;
        }
        if done {
            return screen.end();
        }
        select! {
            recv(changes.wakeups()) -> _ => {}
            recv(after(Duration::from_millis(100))) -> _ => {}
        }
    }
}

fn all_jobs(queue: &Queue) -> Result<Vec<Job>, CliError> {
    let query = ListQuery { states: Vec::new(), issue: None, limit: 100 };
    let mut jobs = queue.list(&query)?.items;
    jobs.sort_by_key(|job| job.id);
    Ok(jobs)
}

struct Screen {
    bars: Option<MultiProgress>,
    lines: BTreeMap<JobId, (ProgressBar, String)>,
}

impl Screen {
    fn new(live: bool) -> Screen {
        let bars = live.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stdout()));
        Screen { bars, lines: BTreeMap::new() }
    }

    fn show(&mut self, queue: &Queue, job: &Job) -> Result<(), CliError> {
        let bars = self.bars.as_ref();
        let (bar, last) = self.lines.entry(job.id).or_insert_with(|| {
            let style = ProgressStyle::with_template("{wide_msg}");
            let bar = ProgressBar::new_spinner()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            (bars.map_or_else(ProgressBar::hidden, |bars| bars.add(bar)), String::new())
        });
        let (what, more) = describe(job, queue);
        bar.set_message(format!("{what}{more}"));
        if *last != what {
            if bars.is_none() {
                print(&format!("{what}\n"))?;
            }
            *last = what;
        }
        Ok(())
    }

    fn end(self) -> Result<(), CliError> {
        for (bar, _) in self.lines.into_values() {
            bar.finish();
        }
        // The last bar leaves the cursor behind its text.
        if self.bars.is_some() { print("\n") } else { Ok(()) }
    }
}

/// The job in a line: what stays the same for a while, and what moves.
fn describe(job: &Job, queue: &Queue) -> (String, String) {
    let number = job.issue.number();
    let head =
        |sign: &str, state: &str| format!("{sign} {:>2}  tour#{number:<3} {state:<10}", job.id.0);
    let now = queue.now();
    match &job.state {
        State::Pending(pending) if pending.run_at > now => {
            let why = job.attempts.last().map_or("", |attempt| attempt.report.detail.as_str());
            (format!("{} retry soon; {why}", head("·", "pending")), String::new())
        }
        State::Pending(_) => (format!("{} {}", head("·", "pending"), job.message), String::new()),
        State::Notified(lease) => match &lease.run {
            None => (format!("{} preparing its worktree", head("›", "notified")), String::new()),
            Some(run) => (
                format!(
                    "{} agent at work, attempt {}",
                    head("›", "notified"),
                    job.attempt_number()
                ),
                format!(", {:.1} s", now.ms_since(run.started_at) as f64 / 1000.0),
            ),
        },
        State::Completed(outcome) => {
            (format!("{} {}", head("✓", "completed"), outcome.detail), String::new())
        }
        State::Error(outcome) => {
            (format!("{} {}", head("✗", "error"), outcome.detail), String::new())
        }
        State::Cancelled(outcome) => {
            (format!("{} {}", head("✗", "cancelled"), outcome.detail), String::new())
        }
    }
}

fn report(
    context: &Context,
    queue: &Queue,
    root: &Path,
    arguments: &Arguments,
) -> Result<(), CliError> {
    let query = ListQuery { states: Vec::new(), issue: None, limit: 100 };
    let mut page = queue.list(&query)?;
    page.items.sort_by_key(|job| job.id);
    if arguments.format == Format::Json {
        return print(&format!("{:#}\n", list::json(&page, queue)?));
    }
    let rows: Vec<Vec<String>> = page
        .items
        .iter()
        .map(|job| {
            let commits = job.attempts.last().map_or(0, |attempt| attempt.report.commits);
            let reason = job.outcome().map_or("", |outcome| outcome.reason.name());
            vec![
                job.id.to_string(),
                job.state.kind().to_string(),
                reason.to_string(),
                job.attempt_number().to_string(),
                commits.to_string(),
                job.issue.branch(),
                job.message.clone(),
            ]
        })
        .collect();
    let header = ["ID", "STATE", "REASON", "ATTEMPTS", "COMMITS", "BRANCH", "MESSAGE"];
    let mut text = format!("\n{}\n", render::table(&header, &rows, render::screen_width()));
    let home = root.join("kugetsu");
    let place = |name: &str| home.join(name).display().to_string();
    if arguments.keep {
        let _ = writeln!(text, "queue      {}", place("queue.redb"));
        let _ = writeln!(text, "worktrees  {}", place("worktrees/"));
        let _ = writeln!(text, "logs       {}", place("logs/"));
        let clone = place("repos/demo.local+demo+tour.git");
        let _ = writeln!(text, "\nThe commits:  git -C {clone} log --oneline --all");
        let _ = writeln!(
            text,
            "The jobs:     KUGETSU_DIR={} {} queue list --state=all",
            home.display(),
            context.program
        );
        let _ = writeln!(text, "When you have seen enough:  rm -rf {}", root.display());
    } else {
        let _ =
            writeln!(text, "All of it (queue, clone, worktrees, logs) lay in {}", root.display());
        let _ = writeln!(
            text,
            "and is removed now. `{} demo --keep` leaves it for you to look at.",
            context.program
        );
    }
    print(&text)
}

/// The scripted agent: reads its message, thinks aloud, writes a file, commits.
pub(super) fn agent(context: &Context) -> Result<CliExit, CliError> {
    let mut message = String::new();
    std::io::stdin().take(limits::MESSAGE_BYTES_MAX as u64).read_to_string(&mut message)?;
    let value = |name: &str| context.environment.get(name).map_or("", String::as_str);
    let (issue, attempt) = (value("KUGETSU_ISSUE"), value("KUGETSU_ATTEMPT"));
    let number: u32 = issue.rsplit('#').next().and_then(|n| n.parse().ok()).unwrap_or(1);
    for step in ["reading the issue", "looking at the code", "writing"] {
        print(&format!("{step} …\n"))?;
        time::pause(Duration::from_millis(300 + u64::from(number * 7 % 5) * 120));
    }
    if number == FAILING_ISSUE && attempt == "1" {
        print("staged: the model's server hung up\n")?;
        return Ok(CliExit::General);
    }
    let folder = Path::new("notes");
    fs::create_dir_all(folder)?;
    fs::write(folder.join(format!("{number}.md")), format!("# {}\n", message.trim()))?;
    git(Path::new("."), &["add", "notes"])?;
    git(Path::new("."), &["commit", "--quiet", "-m", message.trim()])?;
    print("committed\n")?;
    Ok(CliExit::Success)
}
