//! `diff`

use std::io::{self, IsTerminal, Write};

use clap::Args;

use crate::agent;
use crate::cli::context::{CliError, Context, cannot_print};
use crate::cli::exit::CliExit;
use crate::cli::logs;
use crate::git::new_work::DiffKind;
use crate::job::{Job, StateKind};

#[derive(Args)]
#[command(after_help = "\
Shows what a job did: from where the branch was before its first attempt to where its
work is now, also where that is not on the issue's branch. It is read from what
kugetsu kept when the job was judged, so it is there after the worktree is gone, and
until `destroy --force`. Changes without a commit are not in it. A job that did
nothing shows nothing. What is not for a terminal comes as git wrote it.

Examples:
  kugetsu diff 41
  kugetsu diff github.com/shoko/kugetsu#14 --stat
  kugetsu diff 41 | git apply")]
pub(super) struct Arguments {
    /// A job's number, or an issue: its job that was last at work is shown
    #[arg(value_name = "ID|REF")]
    job: String,
    /// Only which files, and how many lines
    #[arg(long)]
    stat: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let config = context.config()?;
    let queue = context.queue(&config)?;
    let job = logs::find(&queue, &arguments.job)?;
    let kind = if arguments.stat { DiffKind::Stat } else { DiffKind::Text };
    let diff = agent::diff(&config.agents(), &job, kind)
        .map_err(|why| CliError::general(format!("cannot show what job {} did: {why}", job.id)))?;
    let diff = diff.ok_or_else(|| nothing_kept(&job))?;
    let mut stdout = io::stdout().lock();
    let written = match stdout.is_terminal() {
        true => {
            let is_plain = context.environment.get("NO_COLOR").is_some_and(|set| !set.is_empty());
            stdout.write_all(for_terminal(&diff, !is_plain).as_bytes())
        }
        false => stdout.write_all(&diff),
    };
    match written.and_then(|()| stdout.flush()) {
        // A reader that has seen enough is no error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(CliExit::Success),
        result => result.map(|()| CliExit::Success).map_err(cannot_print),
    }
}

fn nothing_kept(job: &Job) -> CliError {
    let (id, state) = (job.id, job.state.kind());
    let error = CliError::general(format!("nothing was kept of job {id}, which is {state}"));
    match state {
        StateKind::Pending => error.hint("it has not been worked on yet"),
        StateKind::Notified => error.hint("its work is kept when its agent has ended"),
        StateKind::Completed | StateKind::Error | StateKind::Cancelled => {
            error.hint(format!("`kugetsu queue show {id}` tells how it went"))
        }
    }
}

/// Without what would change a terminal, and in the colours that git uses.
fn for_terminal(diff: &[u8], has_colours: bool) -> String {
    let text = String::from_utf8_lossy(diff);
    let mut shown = String::with_capacity(text.len());
    // Lines of a file may begin like a header; in a hunk they are none.
    let mut is_in_hunk = false;
    for line in text.split_inclusive('\n') {
        is_in_hunk = match line {
            _ if line.starts_with("diff --git ") => false,
            _ if line.starts_with("@@ ") => true,
            _ => is_in_hunk,
        };
        let line = line.strip_suffix('\n').unwrap_or(line);
        let colour = colour(line, is_in_hunk).filter(|_| has_colours);
        shown.push_str(colour.unwrap_or_default());
        shown.extend(line.chars().map(harmless));
        shown.push_str(colour.map_or("", |_| "\u{1b}[m"));
        shown.push('\n');
    }
    shown
}

fn colour(line: &str, is_in_hunk: bool) -> Option<&'static str> {
    match line.as_bytes().first()? {
        _ if line.starts_with("@@ ") => Some("\u{1b}[36m"),
        b'+' if is_in_hunk => Some("\u{1b}[32m"),
        b'-' if is_in_hunk => Some("\u{1b}[31m"),
        _ if is_in_hunk => None,
        b' ' => None,
        _ => Some("\u{1b}[1m"),
    }
}

/// A character that does nothing to a terminal but to be seen.
fn harmless(character: char) -> char {
    let is_direction = matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    if is_direction || (character.is_control() && character != '\t') {
        '\u{fffd}'
    } else {
        character
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_shown_text_and_our_colours_only() {
        let (bold, red, green, cyan, end) =
            ("\u{1b}[1m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[36m", "\u{1b}[m");
        for (line, expected) in [
            (
                "diff --git a/x b/x\n--- a/x\n",
                format!("{bold}diff --git a/x b/x{end}\n{bold}--- a/x{end}\n"),
            ),
            (
                "@@ -1 +1 @@\n-old\n+new\n same\n",
                format!("{cyan}@@ -1 +1 @@{end}\n{red}-old{end}\n{green}+new{end}\n same\n"),
            ),
            (
                "@@ -1 +1 @@\n--- x\n+\u{1b}[2Jx\tq\u{202e}\r\n",
                format!(
                    "{cyan}@@ -1 +1 @@{end}\n{red}--- x{end}\n{green}+\u{fffd}[2Jx\tq\u{fffd}\u{fffd}{end}\n"
                ),
            ),
            (" x | 1 +\n", " x | 1 +\n".into()),
        ] {
            assert_eq!(for_terminal(line.as_bytes(), true), expected);
            let mut plain = expected;
            for code in [bold, red, green, cyan, end] {
                plain = plain.replace(code, "");
            }
            assert_eq!(for_terminal(line.as_bytes(), false), plain);
        }
    }
}
