//! `doctor`: an audit of everything that kugetsu stands on.
//!
//! Looking changes nothing. Mending is for what nobody can miss, and only of a kugetsu whose
//! configuration and queue are sound: otherwise nobody knows what is whose.

mod folder;
pub(super) mod programs;
mod queue;
mod work;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::{CliError, Context, print};
use crate::cli::doctor::work::Remains;
use crate::cli::exit::CliExit;
use crate::cli::finding::{Finding, count};
use crate::cli::progress::Spinner;
use crate::cli::render::Format;
use crate::daemon;

#[derive(Args)]
#[command(after_help = "\
Looks at git and the agent, kugetsu's folder and who may read it, the
configuration, the queue and every job in it, workers, runs and their processes,
clones, worktrees, logs, the disk and the clock. It changes nothing: `✗` is to be
mended, and the line below says how; `·` is only to be known.

--fix mends what nobody can miss: modes of kugetsu's own files, lock files that
nobody holds, run folders of jobs that have ended or are gone. It never touches
commits, branches, worktrees, changes, processes or logs, also not logs of jobs
that are gone. With a configuration or a queue that is broken it mends nothing.

The exit code is 0 if all is well, 1 if something is to be mended, and 8 if the
queue is damaged.

Examples:
  kugetsu doctor
  kugetsu doctor --fix
  kugetsu doctor --format=json | jq '.findings[] | select(.status == \"trouble\")'")]
pub(super) struct Arguments {
    /// Mend what is safe to mend
    #[arg(long)]
    fix: bool,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let spinner = Spinner::begin("looking at git and the agent");
    let (config, loaded) = folder::configuration(context)?;
    let is_configured = loaded.is_ok();
    let mut findings: Vec<Finding> = programs::git_version().into_iter().collect();
    findings.extend(programs::audit(context, &config));
    findings.extend(programs::audit_signing());
    spinner.say("looking at the folder");
    findings.extend(folder::audit(&config, loaded));
    spinner.say("looking at clones and worktrees");
    let settings = config.agents();
    findings.extend(programs::audit_sandbox(&settings));
    let remains = Remains::collect(&settings);
    let workers = daemon::workers_in(&config.workers());
    spinner.say("reading every job");
    let (contents, of_queue, queue_exit) = queue::audit(&config);
    findings.extend(of_queue);
    match (&workers, &contents) {
        (Ok(workers), Some(contents)) => {
            findings.extend(queue::audit_workers(&config, workers, contents));
        }
        (Err(error), _) => {
            let what = config.workers().display().to_string();
            findings.push(Finding::trouble("workers", what, error.to_string(), "is it yours?"));
        }
        (Ok(_), None) => {}
    }
    // Without its configuration, the queue may be another one.
    let judged = contents.as_ref().filter(|_| is_configured);
    findings.extend(work::audit(&settings, remains, judged));
    let is_sound = judged.is_some();
    if arguments.fix && is_sound {
        spinner.say("mending");
        findings = findings.into_iter().map(Finding::mend).collect();
    }
    drop(spinner);
    let troubles = findings.iter().filter(|finding| finding.is_trouble()).count();
    let unmended = arguments.fix && !is_sound;
    print(&match arguments.format {
        Format::Json => {
            let findings: Vec<Value> = findings.iter().map(Finding::json).collect();
            format!("{:#}\n", json!({ "ok": troubles == 0, "findings": findings }))
        }
        Format::Text => text(&findings, troubles, unmended),
    })?;
    Ok(match queue_exit {
        CliExit::StoreDamaged => CliExit::StoreDamaged,
        _ if troubles > 0 => CliExit::General,
        _ => CliExit::Success,
    })
}

fn text(findings: &[Finding], troubles: usize, unmended: bool) -> String {
    let mut text: String = findings.iter().map(Finding::text).collect();
    let mendable = findings.iter().any(|finding| finding.is_trouble() && finding.mend.is_some());
    text.push('\n');
    if troubles == 0 {
        text.push_str("All is well.\n");
        return text;
    }
    let things = count(troubles, "thing is", "things are");
    let with_fix = match (unmended, mendable) {
        (true, _) => "; nothing was mended: first the configuration and the queue",
        (false, true) => "; `kugetsu doctor --fix` mends what is safe to mend",
        (false, false) => "",
    };
    text.push_str(&format!("{things} to be mended{with_fix}.\n"));
    text
}
