//! Hosts of forges.

use std::fmt;

use crate::job::IssueRef;

/// A forge's host, with its port if it has one, in the one way in which it is compared: lower case,
/// without the port that https has anyway.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(String);

impl Host {
    /// Reads a host, by the rule that is the issue references'.
    ///
    /// # Errors
    ///
    /// When an issue reference could not have it.
    pub fn parse(text: &str) -> Result<Host, String> {
        let issue = format!("{text}/owner/repo#1").parse::<IssueRef>();
        match issue {
            Ok(issue) if issue.host() == text => Ok(Host::of(text)),
            Ok(_) | Err(_) => Err("it is a host, like git.example.com or localhost:3000".into()),
        }
    }

    /// The host of an issue.
    pub fn of_issue(issue: &IssueRef) -> Host {
        Host::of(issue.host())
    }

    fn of(text: &str) -> Host {
        let host = text.to_ascii_lowercase();
        Host(host.strip_suffix(":443").unwrap_or(&host).into())
    }

    /// The host as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Hosts that may be cloned from. None is all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hosts(Vec<Host>);

impl Hosts {
    /// Reads hosts that blanks or commas are between.
    ///
    /// # Errors
    ///
    /// When one of them is no host.
    pub fn parse(text: &str) -> Result<Hosts, String> {
        let parts = text.split([' ', '\t', ',']).filter(|part| !part.is_empty());
        let read = |part: &str| Host::parse(part).map_err(|why| format!("{part:?}: {why}"));
        parts.map(read).collect::<Result<_, String>>().map(Hosts)
    }

    /// Whether this host is one of them.
    pub fn allow(&self, host: &Host) -> bool {
        self.0.is_empty() || self.0.contains(host)
    }

    /// Each of them; nothing if all are meant.
    pub fn iter(&self) -> impl Iterator<Item = &Host> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, expected) in [
            ("github.com", Some("github.com")),
            ("GitHub.com:443", Some("github.com")),
            ("localhost:3000", Some("localhost:3000")),
            ("127.0.0.1", Some("127.0.0.1")),
            ("", None),
            ("https://github.com", None),
            ("me@github.com", None),
            ("github.com/o", None),
            ("github.com/", None),
            ("h:0", None),
            ("h:x", None),
            ("-h", None),
            ("a b", None),
            ("h#1", None),
            ("*.example.com", None),
        ] {
            let host = Host::parse(text).ok();
            assert_eq!(host.as_ref().map(Host::as_str), expected, "{text:?}");
        }
    }

    #[test]
    fn which_hosts_are_allowed() {
        for (list, host, expected) in [
            ("", "evil.example", true),
            ("github.com", "github.com", true),
            ("github.com", "GITHUB.com:443", true),
            ("github.com", "github.com:8443", false),
            ("github.com", "evil.github.com", false),
            ("github.com", "github.com.evil", false),
            ("a.b, github.com  c:1", "c:1", true),
            ("a.b,github.com", "c", false),
        ] {
            let hosts = Hosts::parse(list).expect(list);
            assert_eq!(hosts.allow(&Host::parse(host).expect(host)), expected, "{list} {host}");
        }
        let error = Hosts::parse("github.com https://x").expect_err("an address");
        assert!(error.contains("\"https://x\""), "{error}");
    }
}
