//! `destroy`

use clap::Args;

use crate::agent::finish_removals;
use crate::cli::context::{CliError, Context, parse_issue, print};
use crate::cli::exit::CliExit;
use crate::cli::render;
use crate::cli::sessions::{known, remove};

#[derive(Args)]
#[command(after_help = "\
Takes away the worktree, which is a clone of the issue's own, and what kugetsu
knows of the session. What is on the remote stays, and so do jobs and logs. Without
--force nothing goes in which something would be lost, as `prune` judges it. With
--force all of it goes, damaged or not, and so do the commits that `kugetsu diff`
shows of its jobs. What a symbolic link leads to is never touched.

Examples:
  kugetsu destroy github.com/shoko/kugetsu#14
  kugetsu destroy github.com/shoko/kugetsu#14 --force")]
pub(crate) struct Arguments {
    /// The issues: HOST/OWNER/REPO#NUMBER, or the addresses of their pages
    #[arg(value_name = "REF", required = true)]
    issues: Vec<String>,
    /// Also what is not committed or not pushed
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(context: &Context, arguments: &Arguments) -> Result<CliExit, CliError> {
    let issues = arguments.issues.iter().map(|text| parse_issue(text));
    let issues: Vec<_> = issues.collect::<Result<_, _>>()?;
    let config = context.config()?;
    let queue = context.queue(&config)?;
    let settings = config.agents();
    let known = known(&queue, &settings)?;
    let mut exit = CliExit::Success;
    for why in finish_removals(&settings) {
        context.complain(&CliError::general(why));
        exit = CliExit::General;
    }
    for issue in issues {
        let Some(known) = known.iter().find(|known| known.issue == issue) else {
            let error = CliError::new(CliExit::NotFound, format!("there is no session of {issue}"));
            context.complain(&error.hint("`kugetsu list` lists them"));
            exit = CliExit::NotFound;
            continue;
        };
        match remove(&queue, &settings, known, arguments.force)? {
            Ok(()) => print(&format!("Removed {issue}: worktree, branch and session\n"))?,
            Err(why) => {
                let why = render::one_line(&why);
                let error = CliError::general(format!("{issue} is kept: {why}"));
                let hint = "`kugetsu list` tells more; --force removes what nobody works on";
                context.complain(&error.hint(hint));
                exit = CliExit::General;
            }
        }
    }
    Ok(exit)
}
