//! Which opencode there is, and whether the default command is right for it.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;

use crossbeam_channel::never;

use crate::job::limits;
use crate::process::command;
use crate::process::helper::{self, Bounds, Interrupted, Orphan};

/// A version of opencode. What follows the three numbers is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Another one, other options.
    pub major: u32,
    /// More options.
    pub minor: u32,
    /// The rest.
    pub patch: u32,
}

/// The oldest one that is known to have every option of the default command. 1.17.11 has no
/// `--auto`; those in between could not be tried.
pub const VERSION_NEEDED: Version = Version { major: 1, minor: 17, patch: 18 };

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Why the default command is not for an opencode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// It does not know an option.
    #[error(
        "opencode {0} is too old, {VERSION_NEEDED} or newer is needed: \
         npm install -g opencode-ai@latest"
    )]
    TooOld(Version),
    /// Its options are others.
    #[error(
        "opencode {0} has other options than 1.x ({VERSION_NEEDED} or newer), which the default \
         command is for: set KUGETSU_AGENT_COMMAND to a command for it, or \
         npm install -g opencode-ai@latest"
    )]
    OtherOptions(Version),
    /// It did not say a version.
    #[error(
        "{0:?} is no version of opencode, of which {VERSION_NEEDED} or newer is needed: \
         npm install -g opencode-ai@latest"
    )]
    Unknown(String),
}

/// Reads what `opencode --version` says, and checks it against [`VERSION_NEEDED`].
pub fn check_version(text: &str) -> Result<Version, VersionError> {
    // Older ones complain first, of a network that is not there; 2.x says `opencode v2.0.9`.
    let found = text.split_whitespace().rev().find_map(parse);
    match found {
        None => Err(VersionError::Unknown(text.trim().chars().take(100).collect())),
        Some(version) if version.major > VERSION_NEEDED.major => {
            Err(VersionError::OtherOptions(version))
        }
        Some(version) if version < VERSION_NEEDED => Err(VersionError::TooOld(version)),
        Some(version) => Ok(version),
    }
}

fn parse(word: &str) -> Option<Version> {
    let word = word.strip_prefix('v').unwrap_or(word);
    let numbers = word.split(['-', '+']).next()?;
    let mut numbers = numbers.split('.').map(str::parse);
    let mut next = || numbers.next()?.ok();
    let version = Version { major: next()?, minor: next()?, patch: next()? };
    numbers.next().is_none().then_some(version)
}

/// What `opencode --version` says, for [`check_version`].
///
/// It takes about a second, and makes folders below `HOME`. It is ended after half a minute.
pub fn opencode_version(program: impl AsRef<OsStr>) -> io::Result<String> {
    let mut opencode = command(program);
    opencode.arg("--version");
    let bounds = Bounds {
        timeout_ms: limits::VERSION_MS_MAX,
        output_bytes_max: limits::HELPER_OUTPUT_BYTES_MAX,
    };
    let output = helper::run(opencode, &File::open("/dev/null")?, &never(), bounds, Orphan::Ends);
    match output {
        Ok(output) if output.status.success() => Ok(output.stdout.trim().to_string()),
        Ok(output) => {
            Err(io::Error::other(format!("--version: {}: {}", output.status, output.said())))
        }
        Err(Interrupted::Failed(error)) => Err(error),
        Err(Interrupted::TimedOut | Interrupted::Stopped(_)) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("--version took longer than {} s", limits::VERSION_MS_MAX / 1000),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_good_or_says_what_to_do() {
        const UPGRADE: &str = "npm install -g opencode-ai@latest";
        for (text, expected, more) in [
            ("1.18.33\n", "good: 1.18.33", ""),
            ("1.17.18", "good: 1.17.18", ""),
            ("v1.20.0-beta.1", "good: 1.20.0", ""),
            ("ERROR fetch failed after 30.0 s\n1.18.3", "good: 1.18.3", ""),
            ("1.17.11", "opencode 1.17.11 is too old, 1.17.18 or newer is needed", UPGRADE),
            ("0.9.99", "opencode 0.9.99 is too old", UPGRADE),
            ("opencode v2.0.9", "opencode 2.0.9 has other options", "set KUGETSU_AGENT_COMMAND"),
            ("2.0.0-beta.3", "opencode 2.0.0 has other options", UPGRADE),
            ("", "\"\" is no version of opencode", UPGRADE),
            ("local", "\"local\" is no version of opencode", UPGRADE),
            ("1.18", "\"1.18\" is no version", "1.17.18 or newer"),
            ("1.18.33.4", "\"1.18.33.4\" is no version", UPGRADE),
            ("1.-8.3", "\"1.-8.3\" is no version", UPGRADE),
            ("1.18.99999999999", "\"1.18.99999999999\" is no version", UPGRADE),
        ] {
            let said = match check_version(text) {
                Ok(version) => format!("good: {version}"),
                Err(error) => error.to_string(),
            };
            assert!(said.starts_with(expected) && said.contains(more), "{text}: {said}");
        }
    }

    #[test]
    fn a_program_is_asked_for_its_version() {
        let said = opencode_version("git").expect("git is here");
        assert!(said.starts_with("git version "), "{said}");
        let error = opencode_version("false").expect_err("it fails").to_string();
        assert!(error.contains("exit status: 1"), "{error}");
        let error = opencode_version("/nowhere/opencode").expect_err("it is not there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
