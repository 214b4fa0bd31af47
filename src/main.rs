//! Arguments, environment and streams into `cli::run`, and its code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(kugetsu::cli::run(std::env::args_os(), std::env::vars_os()))
}
