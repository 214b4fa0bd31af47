//! What every git is told: variables and settings by which it asks nobody, runs nothing and works
//! where it is told to; and what agents' gits are told.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use crate::job::limits;
use crate::process::command;

/// What every git is told. A user's own settings, `core.hooksPath` above all, give way to these.
pub(super) const SETTINGS: [(&str, &str); 16] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.alternateRefsCommand", ""),
    ("core.askPass", ""),
    ("core.pager", "cat"),
    // A split index and a skipped sum make, together, an index that git itself cannot read.
    ("core.splitIndex", "false"),
    ("core.untrackedCache", "false"),
    ("index.skipHash", "false"),
    ("core.editor", "true"),
    ("credential.interactive", "false"),
    ("commit.gpgSign", "false"),
    ("tag.gpgSign", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("advice.detachedHead", "false"),
    ("protocol.ext.allow", "never"),
];

/// Variables that git and what it starts are told, whatever they were.
pub(super) const ENVIRONMENT: [(&str, &str); 16] = [
    ("LC_ALL", "C"),
    ("GIT_ALLOW_PROTOCOL", ""),
    ("GIT_PROTOCOL_FROM_USER", "0"),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_TERMINAL_PROMPT", "0"),
    // Empty, it is nobody, and neither `core.askPass` nor SSH_ASKPASS is asked in its place.
    ("GIT_ASKPASS", ""),
    // Makes ssh ask a program that says no, and not the terminal.
    ("SSH_ASKPASS", "false"),
    ("SSH_ASKPASS_REQUIRE", "force"),
    ("GCM_INTERACTIVE", "never"),
    ("GIT_EDITOR", "true"),
    ("GIT_SEQUENCE_EDITOR", "true"),
    ("GIT_PAGER", "cat"),
    ("PAGER", "cat"),
    ("GIT_LFS_SKIP_SMUDGE", "1"),
];

/// Variables of git that users set for themselves and that do no harm. All others are removed:
/// what a hook that called kugetsu says of its repository, settings, traces, and whatever a later
/// git will have.
const KEPT: [&str; 17] = [
    "GIT_ATTR_NOSYSTEM",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_SYSTEM",
    "GIT_EXEC_PATH",
    "GIT_HTTP_PROXY_AUTHMETHOD",
    "GIT_HTTP_USER_AGENT",
    "GIT_PROXY_COMMAND",
    "GIT_PROXY_SSL_CERT",
    "GIT_PROXY_SSL_CAINFO",
    "GIT_SSH",
    "GIT_SSH_VARIANT",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_SSL_CERT",
    "GIT_SSL_KEY",
    "GIT_SSL_NO_VERIFY",
];

/// What `git rev-parse --local-env-vars` names, and more: never passed on to an agent either. A
/// name that ends in `*` stands for a beginning.
pub(crate) const REPOSITORY_VARIABLES: [&str; 28] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_ATTR_SOURCE",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_KEY_*",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_VALUE_*",
    "GIT_DEFAULT_HASH",
    "GIT_DEFAULT_REF_FORMAT",
    "GIT_DIR",
    "GIT_EXTERNAL_DIFF",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_PUSH_OPTION_*",
    "GIT_QUARANTINE_PATH",
    "GIT_REFLOG_ACTION",
    "GIT_REF_*",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_TEMPLATE_DIR",
    "GIT_WORK_TREE",
];

/// What an agent's git, ssh, editors and pagers are told, so that none of them waits for a person.
///
/// Editors and pagers too: the `EDITOR=vim` of the shell that a worker was started from would wait
/// for ever. By `was_set` it is told which variables are set for the worker: a user's own ssh stays.
pub(crate) fn environment_for_agents(
    was_set: impl Fn(&str) -> bool,
) -> Vec<(&'static str, String)> {
    // What would open a window or ask at a terminal.
    const ALWAYS: [(&str, &str); 13] = [
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GCM_INTERACTIVE", "never"),
        ("GIT_ASKPASS", ""),
        ("SSH_ASKPASS", "false"),
        ("SSH_ASKPASS_REQUIRE", "force"),
        // Where no terminal is named, gpg's pinentry has none to ask at.
        ("GPG_TTY", ""),
        ("GIT_EDITOR", "true"),
        ("GIT_SEQUENCE_EDITOR", "true"),
        ("EDITOR", "true"),
        ("VISUAL", "true"),
        ("GIT_PAGER", "cat"),
        ("PAGER", "cat"),
        ("GIT_MERGE_AUTOEDIT", "no"),
    ];
    let mut all: Vec<_> = ALWAYS.into_iter().map(|(name, value)| (name, value.into())).collect();
    if !was_set("GIT_SSH_COMMAND") && !was_set("GIT_SSH") {
        all.push(("GIT_SSH_COMMAND", format!("ssh {}", ssh_options())));
    }
    all
}

/// Options that keep ssh from asking and from waiting. What stands before them in a command or on
/// ssh's own command line goes before them.
fn ssh_options() -> String {
    format!(
        "-oBatchMode=yes -oConnectTimeout={} -oServerAliveInterval={} -oServerAliveCountMax=3",
        limits::SSH_CONNECT_SECONDS_MAX,
        limits::SSH_ALIVE_SECONDS
    )
}

/// A user's own ssh command, told not to wait; as it is, if it is no ssh whose options are known.
pub(super) fn patient_ssh(own: &str) -> String {
    let program = shell_words::split(own).ok().and_then(|words| words.into_iter().next());
    let is_ssh = program.is_some_and(|program| Path::new(&program).ends_with("ssh"));
    match is_ssh {
        true => format!("{own} {}", ssh_options()),
        false => own.into(),
    }
}

/// The ssh command that users set for themselves. Where only `GIT_SSH` is set, that is it: git would
/// prefer ours to it.
pub(super) fn own_ssh_command() -> Option<String> {
    let value = |wanted: &str| {
        let (_, value) = std::env::vars_os().find(|(name, _)| name == wanted)?;
        value.into_string().ok().filter(|value| !value.is_empty())
    };
    value("GIT_SSH_COMMAND").or_else(|| Some(shell_words::quote(&value("GIT_SSH")?).into_owned()))
}

/// Takes variables of git out of a command's environment, but for those that users choose for
/// themselves.
pub(super) fn remove_others(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let is_of_git = name.as_bytes().starts_with(b"GIT_");
        if is_of_git && !KEPT.iter().any(|kept| name == OsStr::new(kept)) {
            command.env_remove(name);
        }
    }
}

/// A git in a folder of the user's own, with what they set: for `git --version`, for who they are,
/// and for a repository that kugetsu has just made itself. It asks nobody anything either.
pub(crate) fn plain_git(folder: &Path) -> Command {
    let mut git = command("git");
    remove_others(&mut git);
    git.current_dir(folder).envs(ENVIRONMENT).env("GIT_ALLOW_PROTOCOL", "file");
    if let Some(above) = folder.parent() {
        // A folder that is no repository is no reason to work in one around it.
        git.env("GIT_CEILING_DIRECTORIES", above);
    }
    git
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_is_told_not_to_wait() {
        let options = ssh_options();
        assert!(options.contains("-oBatchMode=yes") && options.contains("-oConnectTimeout="));
        for (own, is_ssh) in [
            ("ssh", true),
            ("ssh -i '/a b' -v", true),
            ("/usr/bin/ssh -F x", true),
            ("plink", false),
            ("my-ssh", false),
            ("VARIABLE=1 ssh", false),
            ("'unclosed", false),
            ("", false),
        ] {
            let expected = if is_ssh { format!("{own} {options}") } else { own.into() };
            assert_eq!(patient_ssh(own), expected);
        }
    }

    #[test]
    fn agents_are_told_not_to_ask() {
        let all = environment_for_agents(|_| false);
        let value = |all: &[(&'static str, String)], name: &str| {
            all.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
        };
        for (name, expected) in [
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", ""),
            ("SSH_ASKPASS_REQUIRE", "force"),
            ("GCM_INTERACTIVE", "never"),
            ("GIT_EDITOR", "true"),
            ("EDITOR", "true"),
            ("PAGER", "cat"),
        ] {
            assert_eq!(value(&all, name).as_deref(), Some(expected), "{name}");
        }
        assert!(value(&all, "GIT_SSH_COMMAND").is_some_and(|ssh| ssh.contains("BatchMode=yes")));
        let some =
            environment_for_agents(|name| matches!(name, "EDITOR" | "GIT_SSH" | "GIT_ASKPASS"));
        assert_eq!(value(&some, "EDITOR").as_deref(), Some("true"), "a shell's editor waits");
        assert_eq!(value(&some, "GIT_SSH_COMMAND"), None, "it would overrule GIT_SSH");
        assert_eq!(value(&some, "GIT_ASKPASS").as_deref(), Some(""), "nobody is asked");
    }
}
