//! `completions` and `man`: made from the same tree as `--help`.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::cli::context::{CliError, print};
use crate::cli::exit::CliExit;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kugetsu completions bash > ~/.local/share/bash-completion/completions/kugetsu
  kugetsu completions fish > ~/.config/fish/completions/kugetsu.fish")]
pub(super) struct CompletionsArguments {
    /// The shell
    shell: Shell,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kugetsu man | man -l -
  kugetsu man --folder ~/.local/share/man/man1")]
pub(super) struct ManArguments {
    /// Where to write a page for each verb; without it, the first page goes to standard output
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

pub(super) fn completions(arguments: &CompletionsArguments) -> Result<CliExit, CliError> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "kugetsu", &mut text);
    print(&String::from_utf8_lossy(&text))?;
    Ok(CliExit::Success)
}

pub(super) fn man(arguments: &ManArguments) -> Result<CliExit, CliError> {
    let Some(folder) = &arguments.folder else {
        let mut text = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut text)?;
        print(&String::from_utf8_lossy(&text))?;
        return Ok(CliExit::Success);
    };
    let refuse =
        |error| CliError::general(format!("cannot write to {}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(refuse)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(refuse)?;
    Ok(CliExit::Success)
}
