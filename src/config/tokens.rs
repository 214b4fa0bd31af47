//! The family of keys `KUGETSU_TOKEN_<HOST>`: a token for one host each.

use std::collections::BTreeMap;

use crate::config::values;
use crate::git::credentials::variable_of;
use crate::job::{Host, Hosts};
use crate::secrets::Secret;

/// The beginning of their names.
pub(super) const PREFIX: &str = "KUGETSU_TOKEN_";

/// How `docs/CONFIGURATION.md` names them all.
#[cfg(test)]
pub(super) const NAME: &str = "KUGETSU_TOKEN_<HOST>";
/// One of them.
pub(super) const EXAMPLE_NAME: &str = "KUGETSU_TOKEN_GIT_EXAMPLE_COM";
/// A value of it.
#[cfg(test)]
pub(super) const EXAMPLE: &str = "5f3c0a1e";
/// What they mean.
pub(super) const HELP: &str = "\
    A token with which kugetsu itself clones and fetches from this host, over https alone. The host \
    is written in capitals, and what is no letter or digit as _, so localhost:3000 is \
    KUGETSU_TOKEN_LOCALHOST_3000. Of two hosts whose names become the same, like git-example.com and \
    git.example.com, neither gets it once kugetsu knows both: name the one that you mean in \
    KUGETSU_CLONE_HOSTS. Agents do not have it.";

/// Takes a token up, or out of the tokens if it is empty.
pub(super) fn set(
    tokens: &mut BTreeMap<String, Secret>,
    name: &str,
    text: &str,
) -> Result<(), String> {
    let host = name.strip_prefix(PREFIX).unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if !host.contains(|c: char| c.is_ascii_alphanumeric()) || !host.chars().all(is_plain) {
        return Err("the host is written in capitals, and other characters as _".into());
    }
    if text.is_empty() {
        tokens.remove(name);
    } else {
        tokens.insert(name.into(), values::token(text)?);
    }
    Ok(())
}

/// Refuses a token that two of the hosts named could be given.
pub(super) fn check_hosts(tokens: &BTreeMap<String, Secret>, hosts: &Hosts) -> Result<(), String> {
    let mut known: BTreeMap<String, &Host> = BTreeMap::new();
    for host in hosts.iter() {
        let name = variable_of(host.as_str());
        match known.insert(name.clone(), host) {
            Some(other) if other != host && tokens.contains_key(&name) => {
                return Err(format!("{name} could mean {other} or {host}: name one of them"));
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts() {
        for (host, expected) in [
            ("github.com", "KUGETSU_TOKEN_GITHUB_COM"),
            ("GitHub.com:443", "KUGETSU_TOKEN_GITHUB_COM"),
            ("git-1.example.com:3000", "KUGETSU_TOKEN_GIT_1_EXAMPLE_COM_3000"),
        ] {
            let host = Host::parse(host).expect(host);
            assert_eq!(variable_of(host.as_str()), expected);
        }
        assert!(EXAMPLE_NAME.starts_with(PREFIX) && NAME.starts_with(PREFIX));
    }

    #[test]
    fn names_of_tokens_are_checked() {
        for (name, value, expected) in [
            ("KUGETSU_TOKEN_GITHUB_COM", "s3cr", ""),
            ("KUGETSU_TOKEN_GITHUB_COM", " s3cr\n", ""),
            ("KUGETSU_TOKEN_", "s3cr", "capitals"),
            ("KUGETSU_TOKEN__", "s3cr", "capitals"),
            ("KUGETSU_TOKEN_GitHub", "s3cr", "capitals"),
            ("KUGETSU_TOKEN_GIT.HUB", "s3cr", "capitals"),
            ("KUGETSU_TOKEN_H", "s3 cr", "a blank"),
            ("KUGETSU_TOKEN_H", "s3\ncr", "a blank"),
            ("KUGETSU_TOKEN_H", "s3\u{7}cr", "a blank"),
        ] {
            let mut tokens = BTreeMap::new();
            let said = set(&mut tokens, name, value).err().unwrap_or_default();
            let fits = if expected.is_empty() { said.is_empty() } else { said.contains(expected) };
            assert!(fits && !said.contains("s3"), "{name}: {said:?}");
            assert_eq!(tokens.len(), usize::from(expected.is_empty()), "{name}");
            if expected.is_empty() {
                assert_eq!(tokens[name].expose(), "s3cr");
                assert_eq!(set(&mut tokens, name, ""), Ok(()));
                assert!(tokens.is_empty(), "an empty one is none");
            }
        }
    }

    #[test]
    fn hosts_that_one_name_could_mean() {
        for (hosts, is_good) in [
            ("git.example.com", true),
            ("git.example.com GIT.example.com:443", true),
            ("git.example.com git-example.com", false),
            ("a.b a-b git.example.com", true),
            ("a.b git_example.com x git-example.com", false),
        ] {
            let tokens = [("KUGETSU_TOKEN_GIT_EXAMPLE_COM".into(), Secret::new("s3cr"))].into();
            let hosts = Hosts::parse(hosts).expect(hosts);
            let checked = check_hosts(&tokens, &hosts);
            assert_eq!(checked.is_ok(), is_good, "{hosts:?}");
            assert!(!checked.err().unwrap_or_default().contains("s3cr"));
        }
    }
}
