//! `init`

use std::io::{self, Write};
use std::thread;

use clap::Args;
use crossbeam_channel::bounded;
use serde_json::{Value, json};

use crate::agent::{AgentExecutor, fetch_repository};
use crate::cli::context::{CliError, Context, make_folder, parse_issue, print, stop_requests};
use crate::cli::doctor::programs;
use crate::cli::exit::CliExit;
use crate::cli::finding::Finding;
use crate::cli::progress::Spinner;
use crate::cli::render::Format;
use crate::config::{self, Config};
use crate::executor::Stop;
use crate::job::IssueRef;
use crate::process::run::private_file;

#[derive(Args)]
#[command(after_help = "\
Makes kugetsu's folder (~/.kugetsu, or KUGETSU_DIR) and a configuration with every
key explained and commented out, if they are not there; looks whether git and the
agent are; and clones a repository, if you name one, so that a wrong address or a
missing key shows now. It changes nothing that is there, so it can be run again.

Examples:
  kugetsu init
  kugetsu init github.com/shoko/kugetsu")]
pub(super) struct Arguments {
    /// A repository that you will have issues of: HOST/OWNER/REPO, or its address
    repository: Option<String>,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let repository = arguments.repository.as_deref().map(parse_repository).transpose()?;
    let config = context.config()?;
    let mut findings = vec![make_home(&config)?, write_config(&config)?];
    let queue = context.queue(&config)?;
    let stats = queue.stats()?;
    let jobs = format!("{} pending, {} running", stats.pending, stats.notified);
    findings.push(Finding::good("queue", format!("the queue {}: {jobs}", config.store.display())));
    findings.extend(programs::audit(context, &config));
    if let Some(repository) = repository {
        findings.push(clone(&config, &repository)?);
    }
    let is_well = !findings.iter().any(Finding::is_trouble);
    print(&match arguments.format {
        Format::Text => text(&findings, is_well),
        Format::Json => {
            let findings: Vec<Value> = findings.iter().map(Finding::json).collect();
            format!("{:#}\n", json!({ "ok": is_well, "findings": findings }))
        }
    })?;
    Ok(if is_well { CliExit::Success } else { CliExit::General })
}

/// A repository is written like an issue, without the issue.
fn parse_repository(text: &str) -> Result<IssueRef, CliError> {
    if text.contains('#') {
        return parse_issue(text);
    }
    parse_issue(&format!("{}#1", text.trim_end_matches('/'))).map_err(|error| {
        let hint = "a repository is written HOST/OWNER/REPO, like github.com/shoko/kugetsu";
        let why = error.message.replace("#1\"", "\"").replace("issue reference", "repository");
        CliError::general(why).hint(hint)
    })
}

fn make_home(config: &Config) -> Result<Finding, CliError> {
    let was_there = config.home.is_dir();
    make_folder(&config.home)?;
    AgentExecutor::new(config.agents())?;
    let word = if was_there { "is there" } else { "made" };
    Ok(Finding::good("folder", format!("the folder {} ({word})", config.home.display())))
}

fn write_config(config: &Config) -> Result<Finding, CliError> {
    let path = config.home.join("config");
    let word = match private_file().write(true).create_new(true).open(&path) {
        Ok(mut file) => {
            file.write_all(config::example().as_bytes())?;
            file.sync_all()?;
            "written, all commented out"
        }
        // It has been read by now, so it is a good one.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => "is there",
        Err(error) => {
            return Err(CliError::general(format!("cannot write {}: {error}", path.display())));
        }
    };
    Ok(Finding::good("config", format!("the configuration {} ({word})", path.display())))
}

fn clone(config: &Config, repository: &IssueRef) -> Result<Finding, CliError> {
    let name = repository.repository();
    let stop_requests = stop_requests()?;
    let (sender, stop) = bounded(1);
    thread::Builder::new().name("stop".into()).spawn(move || {
        if stop_requests.recv().is_ok() {
            // Nobody listens when the clone is done.
            let _ = sender.send(Stop::Shutdown);
        }
    })?;
    let spinner = Spinner::begin(&format!("cloning {name}"));
    let cloned = fetch_repository(&config.agents(), repository, &stop);
    drop(spinner);
    Ok(match cloned {
        Ok(Some(base)) => {
            Finding::good("repository", format!("{name} is cloned; work starts from {base}"))
        }
        Ok(None) => return Err(CliError::new(CliExit::Interrupted, "interrupted")),
        Err(why) => {
            let is_gits = why.starts_with("git ");
            let error = CliError::general(why);
            let hint = "`git ls-remote` shows whether git can reach it; KUGETSU_CLONE_URL says \
                        where from, and git's own settings how";
            let error = if is_gits { error.hint(hint) } else { error };
            Finding::bad("repository", format!("the repository {name}"), error)
        }
    })
}

fn text(findings: &[Finding], is_well: bool) -> String {
    let mut text: String = findings.iter().map(Finding::text).collect();
    text.push_str(if is_well {
        "\nReady. Enqueue a job, and run `kugetsu worker`:\n  \
         kugetsu queue enqueue HOST/OWNER/REPO#NUMBER 'what to do'\n"
    } else {
        "\nNot ready yet: mend what is marked with ✗, and run `kugetsu init` again.\n"
    });
    text
}
