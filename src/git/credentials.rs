//! Tokens for git over https: which host gets which, and how git asks for it.
//!
//! A token is answered for exactly one host, over https, never after a redirect to another one. It
//! reaches git neither in an address nor in an argument: git asks a helper, `kugetsu credential
//! get`, which has it from its environment. A user's own helpers are asked for every other host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::git::call::Call;

/// Variables of a git of ours, for its helper alone.
pub(crate) const HOST_VARIABLE: &str = "KUGETSU_CREDENTIAL_HOST";
/// See [`HOST_VARIABLE`].
pub(crate) const SECRET_VARIABLE: &str = "KUGETSU_CREDENTIAL_SECRET";

/// The beginning of the names under which users give tokens.
const TOKEN_VARIABLE: &str = "KUGETSU_TOKEN_";

/// What a server takes as a user's name beside a token.
const USER: &str = "x-access-token";

/// A secret for one host.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// In lower case, with its port if that is not 443.
    host: String,
    secret: String,
}

/// Never shows the secret.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("host", &self.host).finish_non_exhaustive()
    }
}

/// A token, and the program that answers git's questions.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub token: Token,
    /// kugetsu, whose verb `credential` reads the two variables.
    pub program: PathBuf,
}

/// The variable in which a host's token is looked for: capitals, other characters as `_`.
pub(crate) fn variable_of(host: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("{TOKEN_VARIABLE}{}", plain_host(host).chars().map(plain).collect::<String>())
}

/// The token of a host, out of what users set; `None` if there is none.
///
/// `known` are the hosts of all repositories that kugetsu has heard of: of two whose names become
/// the same variable neither gets it, as one may have been named to get the other's.
pub(crate) fn token_for(
    host: &str,
    known: &BTreeSet<String>,
    variables: &BTreeMap<String, String>,
    gitea_host: Option<&str>,
) -> Result<Option<Token>, String> {
    let host = plain_host(host);
    let name = variable_of(&host);
    let of_gitea = || {
        let is_it = gitea_host.is_some_and(|gitea| plain_host(gitea) == host);
        variables.get("GITEA_TOKEN").filter(|_| is_it).map(|secret| ("GITEA_TOKEN", secret))
    };
    let own = variables.get(&name).map(|secret| (name.as_str(), secret));
    let is_set = |found: &(&str, &String)| !found.1.trim().is_empty();
    let Some((source, secret)) = own.filter(is_set).or_else(|| of_gitea().filter(is_set)) else {
        return Ok(None);
    };
    if source == name {
        let other =
            known.iter().find(|other| plain_host(other) != host && variable_of(other) == name);
        if let Some(other) = other {
            return Err(format!("{name} could mean {host} or {other}: neither gets it"));
        }
    }
    let secret = secret.trim();
    if secret.contains(|c: char| c.is_control()) {
        return Err(format!("{source} is no token: it has a line break or a control character"));
    }
    Ok(Some(Token { host, secret: secret.into() }))
}

/// In lower case, without the port that https has anyway.
fn plain_host(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    host.strip_suffix(":443").unwrap_or(&host).into()
}

impl Login {
    /// Lets a call ask for the token. The list of helpers begins anew for this host: a user's own
    /// would store the token where it does not belong.
    pub fn give<'g>(&self, call: Call<'g>) -> Call<'g> {
        let key = format!("credential.https://{}.helper", self.token.host);
        call.config(&key, "")
            .config(&key, helper(&self.program))
            .env(HOST_VARIABLE, &self.token.host)
            .env(SECRET_VARIABLE, &self.token.secret)
    }
}

/// A shell of git's runs it, for which `/proc/self/exe` would be that shell.
fn helper(program: &Path) -> String {
    let program = match program.strip_prefix("/proc/self") {
        Ok(rest) => Path::new("/proc").join(std::process::id().to_string()).join(rest),
        Err(_) => program.into(),
    };
    format!("!{} credential", shell_words::quote(&program.to_string_lossy()))
}

/// What the helper answers to git: `None` is no answer, and git asks nobody else for this host.
///
/// `operation` is the last argument, `request` what stands on standard input, `host` and `secret`
/// are the two variables.
pub(crate) fn answer(operation: &str, request: &str, host: &str, secret: &str) -> Option<String> {
    let value = |key: &str| {
        // The last one counts, as for git.
        let mut lines = request.lines().rev().filter_map(|line| line.split_once('='));
        lines.find(|(found, _)| *found == key).map(|(_, value)| value)
    };
    let is_asked = operation == "get" && value("protocol") == Some("https");
    let is_host = !host.is_empty() && plain_host(value("host")?) == plain_host(host);
    if !is_asked || !is_host || secret.is_empty() {
        return None;
    }
    let user = value("username").filter(|user| !user.is_empty()).unwrap_or(USER);
    Some(format!("username={user}\npassword={secret}\n"))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::PermissionsExt;

    use crossbeam_channel::never;

    use super::*;
    use crate::git::call::Git;

    #[test]
    fn one_host_over_https_is_answered() {
        const FULL: &str = "protocol=https\nhost=git.example.com\n\n";
        for (operation, request, host, secret, expected) in [
            ("get", FULL, "git.example.com", "s3", Some("x-access-token")),
            ("get", FULL, "GIT.example.com:443", "s3", Some("x-access-token")),
            (
                "get",
                "protocol=https\nhost=git.example.com:443\n",
                "git.example.com",
                "s3",
                Some("x-access-token"),
            ),
            ("get", "protocol=https\nhost=h:8443\nusername=me\n", "h:8443", "s3", Some("me")),
            ("get", "protocol=https\nhost=h\nusername=\n", "h", "s3", Some("x-access-token")),
            ("get", "protocol=https\nhost=h:8443\n", "h", "s3", None),
            ("get", "protocol=https\nhost=h\n", "h:8443", "s3", None),
            ("get", "protocol=http\nhost=h\n", "h", "s3", None),
            ("get", "host=h\n", "h", "s3", None),
            ("get", "protocol=https\n", "h", "s3", None),
            ("get", "protocol=https\nhost=evil.h\n", "h", "s3", None),
            ("get", "protocol=https\nhost=h.evil\n", "h", "s3", None),
            ("get", "protocol=https\nhost=h\nhost=evil\n", "h", "s3", None),
            ("get", "protocol=https\nhost=h\nprotocol=http\n", "h", "s3", None),
            ("get", "protocol=https\nhost=\n", "", "s3", None),
            ("get", FULL, "git.example.com", "", None),
            ("get", "", "h", "s3", None),
            ("store", FULL, "git.example.com", "s3", None),
            ("erase", FULL, "git.example.com", "s3", None),
        ] {
            let expected = expected.map(|user| format!("username={user}\npassword={secret}\n"));
            assert_eq!(
                answer(operation, request, host, secret),
                expected,
                "{operation} {request:?}"
            );
        }
    }

    #[test]
    fn which_token_a_host_gets() {
        let variables: BTreeMap<String, String> = [
            ("KUGETSU_TOKEN_GIT_EXAMPLE_COM", "one"),
            ("KUGETSU_TOKEN_H_8443", "two\n"),
            ("KUGETSU_TOKEN_EMPTY", " "),
            ("KUGETSU_TOKEN_BROKEN", "a\nb"),
            ("GITEA_TOKEN", "tea"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
        let token = |host: &str, known: &[&str], gitea: Option<&str>| {
            let known = known.iter().map(|host| host.to_string()).collect();
            token_for(host, &known, &variables, gitea).map(|token| token.map(|token| token.secret))
        };
        for (host, known, gitea, expected) in [
            ("git.example.com", &[][..], None, Some("one")),
            ("Git.Example.com:443", &["git.example.com", "github.com"], None, Some("one")),
            ("h:8443", &[], None, Some("two")),
            ("h", &["h:8443"], None, None),
            ("empty", &[], None, None),
            ("empty", &[], Some("empty"), Some("tea")),
            ("tea.example.com", &[], Some("TEA.example.com"), Some("tea")),
            ("tea.example.com", &[], Some("tea.example.com:443"), Some("tea")),
            ("other.example.com", &[], Some("tea.example.com"), None),
            ("other.example.com", &[], None, None),
            ("git.example.com", &[], Some("git.example.com"), Some("one")),
        ] {
            assert_eq!(token(host, known, gitea), Ok(expected.map(String::from)), "{host}");
        }
        for (host, known, words) in [
            ("git-example.com", &["git.example.com"][..], "neither"),
            ("git.example.com", &["git-example.com"], "neither"),
            ("broken", &[], "line break"),
        ] {
            let error = token(host, known, None).expect_err(host);
            assert!(error.contains(words) && !error.contains("one"), "{error}");
        }
    }

    #[test]
    fn the_helper_is_this_program_also_in_gits_shell() {
        let own = format!("!/proc/{}/exe credential", std::process::id());
        for (program, expected) in [
            ("/proc/self/exe", own.as_str()),
            ("/usr/bin/kugetsu", "!/usr/bin/kugetsu credential"),
            ("/o'r/k", "!'/o'\\''r/k' credential"),
        ] {
            assert_eq!(helper(Path::new(program)), expected);
        }
    }

    /// What git itself makes of it: our helper is asked for the one host, the user's for others.
    #[test]
    fn git_asks_for_one_host_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("it's kugetsu");
        let script = "#!/bin/sh\ncat >/dev/null; [ \"$1 $2\" = 'credential get' ] && \
                      printf 'username=u\\npassword=%s\\n' \"$KUGETSU_CREDENTIAL_SECRET\"\n";
        fs::write(&program, script).expect("a program");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("it is ours");
        let token = Token { host: "h.example".into(), secret: "not-in-a-folder-s-name".into() };
        let login = Login { token, program };
        assert!(!format!("{login:?}").contains("not-in-a-folder-s-name"));
        let nothing = File::open("/dev/null").expect("it is there");
        let stop = never();
        let git = Git::new(&nothing, &stop, 60_000, None);
        for (url, secret) in [
            ("protocol=https\nhost=h.example\npath=o/r\n", "not-in-a-folder-s-name"),
            ("protocol=https\nhost=other.example\n", "users"),
            ("protocol=http\nhost=h.example\n", "users"),
            ("protocol=https\nhost=h.example:8443\n", "users"),
        ] {
            let own = "!f() { echo username=me; echo password=users; }; f";
            let call = git.call_nowhere("credential").arg("fill").config("credential.helper", own);
            let said = login.give(call).input(url).text().expect("an answer");
            assert!(said.ends_with(&format!("password={secret}")), "{url:?}: {said:?}");
        }
    }
}
