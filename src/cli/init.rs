//! `init`

use std::io::{self, Write};
use std::thread;

use clap::Args;
use crossbeam_channel::bounded;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::agent::{AgentExecutor, check_version, clone_repository, opencode_version};
use crate::cli::context::{CliError, Context, make_folder, parse_issue, print, words};
use crate::cli::exit::Exit;
use crate::cli::render::Format;
use crate::cli::worker::{check_programs, committer};
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

/// One thing that was looked at.
struct Finding {
    what: String,
    /// What is wrong with it, and the remedy.
    trouble: Option<(String, Option<String>)>,
}

impl Finding {
    fn good(what: impl Into<String>) -> Finding {
        Finding { what: what.into(), trouble: None }
    }

    fn bad(what: impl Into<String>, error: CliError) -> Finding {
        Finding { what: what.into(), trouble: Some((error.message, error.hint)) }
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Exit, CliError> {
    let repository = arguments.repository.as_deref().map(parse_repository).transpose()?;
    let config = context.config()?;
    let mut findings = vec![make_home(&config)?, write_config(&config)?];
    let queue = context.queue(&config)?;
    let stats = queue.stats()?;
    let jobs = format!("{} pending, {} running", stats.pending, stats.notified);
    findings.push(Finding::good(format!("the queue {}: {jobs}", config.store.display())));
    findings.push(match check_programs(context, &config) {
        Ok(()) => look_at_agent(&config),
        Err(error) => Finding::bad("git and the agent", error),
    });
    findings.push(match committer(&config) {
        Some(name) => Finding::good(format!("commits are by {name}")),
        None => {
            let hint = "git config --global user.name NAME, and user.email ADDRESS";
            let error = CliError::general("git does not know who you are, so commits will fail");
            Finding::bad("who commits", error.hint(hint))
        }
    });
    if let Some(repository) = repository {
        findings.push(clone(&config, &repository)?);
    }
    let is_well = findings.iter().all(|finding| finding.trouble.is_none());
    print(&match arguments.format {
        Format::Text => text(&findings, is_well),
        Format::Json => {
            let findings: Vec<Value> = findings.iter().map(json).collect();
            format!("{:#}\n", json!({ "ok": is_well, "findings": findings }))
        }
    })?;
    Ok(if is_well { Exit::Success } else { Exit::General })
}

/// The default command needs an opencode that knows its options; another one is its writer's.
fn look_at_agent(config: &Config) -> Finding {
    let program = config.agent_command.program();
    if !config.is_default_agent() {
        return Finding::good(format!("git, and the agent {program}"));
    }
    let what = "git, and the agent opencode";
    match opencode_version(program) {
        Err(error) => Finding::bad(what, CliError::general(format!("opencode {error}"))),
        Ok(said) => match check_version(&said) {
            Ok(version) => Finding::good(format!("{what} {version}")),
            Err(error) => Finding::bad(what, CliError::general(error)),
        },
    }
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
    Ok(Finding::good(format!("the folder {} ({word})", config.home.display())))
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
    Ok(Finding::good(format!("the configuration {} ({word})", path.display())))
}

fn clone(config: &Config, repository: &IssueRef) -> Result<Finding, CliError> {
    let name = repository.repository();
    let words = words()?;
    let (sender, stop) = bounded(1);
    thread::Builder::new().name("stop".into()).spawn(move || {
        if words.recv().is_ok() {
            // Nobody listens when the clone is done.
            let _ = sender.send(Stop::Shutdown);
        }
    })?;
    let spinner = ProgressBar::new_spinner().with_message(format!("cloning {name}"));
    spinner.enable_steady_tick(std::time::Duration::from_millis(100));
    let cloned = clone_repository(&config.agents(), repository, &stop);
    spinner.finish_and_clear();
    Ok(match cloned {
        Ok(Some(base)) => Finding::good(format!("{name} is cloned; work starts from {base}")),
        Ok(None) => return Err(CliError::new(Exit::Interrupted, "interrupted")),
        Err(why) => {
            let is_gits = why.starts_with("git ");
            let error = CliError::general(why);
            let hint = "`git ls-remote` shows whether git can reach it; KUGETSU_CLONE_URL says \
                        where from, and git's own settings how";
            let error = if is_gits { error.hint(hint) } else { error };
            Finding::bad(format!("the repository {name}"), error)
        }
    })
}

fn json(finding: &Finding) -> Value {
    let (trouble, remedy) = match &finding.trouble {
        None => (None, None),
        Some((trouble, remedy)) => (Some(trouble), remedy.as_ref()),
    };
    json!({ "what": finding.what, "trouble": trouble, "remedy": remedy })
}

fn text(findings: &[Finding], is_well: bool) -> String {
    let mut text = String::new();
    for finding in findings {
        match &finding.trouble {
            None => text.push_str(&format!("✓ {}\n", finding.what)),
            Some((trouble, remedy)) => {
                text.push_str(&format!("✗ {}: {trouble}\n", finding.what));
                if let Some(remedy) = remedy {
                    text.push_str(&format!("  {remedy}\n"));
                }
            }
        }
    }
    text.push_str(if is_well {
        "\nReady. Enqueue a job, and run `kugetsu worker`:\n  \
         kugetsu queue enqueue HOST/OWNER/REPO#NUMBER 'what to do'\n"
    } else {
        "\nNot ready yet: mend what is marked with ✗, and run `kugetsu init` again.\n"
    });
    text
}
