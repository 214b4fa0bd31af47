//! How agents are run, and where everything of theirs is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::agent::Template;
use crate::git::BranchName;
use crate::git::credentials::{Login, token_for};
use crate::git::environment::REPOSITORY_VARIABLES;
use crate::git::mirror::{Remote, RemoteState};
use crate::job::{BranchTemplate, Host, Hosts, IssueRef, JobId, RunLimits, Session, limits};
use crate::process::sandbox::Sandbox;
use crate::run::Completion;
use crate::secrets::{Address, Secret, Secrets};

/// How agents are run. [`Config::agents`](crate::config::Config::agents) makes one, from defaults, a
/// file and an environment.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use kugetsu::agent::Template;
/// use kugetsu::config::Config;
///
/// let environment = BTreeMap::from([("KUGETSU_DIR".into(), "/var/lib/agents".into())]);
/// let mut settings = Config::load(&environment)?.agents();
/// settings.command = Template::parse("my-agent --in {worktree}")?;
/// settings.shim = "/usr/local/bin/kugetsu".into();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AgentSettings {
    /// Where mirrors, clones, runs and logs are.
    pub home: PathBuf,
    /// The agent's command.
    pub command: Template,
    /// The address to clone from, with `{host}` and `{path}`.
    pub clone_url: Address,
    /// Hosts that may be cloned from.
    pub clone_hosts: Hosts,
    /// Whether clones share their objects with the mirror.
    pub clone_links: bool,
    /// The branch that new work starts from; `None` is the remote's default branch.
    pub base_branch: Option<String>,
    /// How the branch of an issue is called.
    pub branch: BranchTemplate,
    /// The opencode session that new ones are made from.
    pub base_session: Option<String>,
    /// What counts as done.
    pub completion: Completion,
    /// The limits of a run; a job may have a time limit of its own.
    pub limits: RunLimits,
    /// Names of folders whose ignored files can be made again.
    pub disposable: Vec<String>,
    /// Whether agents are confined to their clones.
    pub is_sandboxed: bool,
    /// What they may write to in a sandbox, besides their clone; empty is what opencode needs.
    pub sandbox_write: Vec<PathBuf>,
    /// How often to try what the network refuses, the first time counted.
    pub network_attempts: u32,
    /// How long to wait in between, in milliseconds.
    pub network_delay_ms: u64,
    /// How long a job waits for a network that is not there, the first time, in milliseconds; twice
    /// as long with each further one.
    pub network_pause_ms: u64,
    /// Tokens for kugetsu's own git, by the names under which they were set.
    pub tokens: BTreeMap<String, Secret>,
    /// The host that `GITEA_TOKEN` is for.
    pub gitea_host: Option<Host>,
    /// What agents are given in their environment, what is kept from them, and what no detail of a
    /// job may hold.
    pub secrets: Secrets,
    /// How long logs are kept that nobody adds to any more, in milliseconds; `None` is for ever.
    pub log_retention_ms: Option<u64>,
    /// The program whose verb `shim` is the shim: `kugetsu`. Not set otherwise it is the program
    /// that runs, so another one than kugetsu says where that is.
    pub shim: PathBuf,
}

/// Never passed on to an agent, besides git's own: another program's sockets, and what would make
/// an opencode think that it runs inside of another one.
const ENVIRONMENT_REMOVED: [&str; 6] =
    ["OPENCODE", "OPENCODE_PID", "OPENCODE_SERVER_*", "AGENT", "NOTIFY_SOCKET", "WATCHDOG_*"];

/// Where a repository comes from, for as long as it is fetched.
pub(super) struct RemoteOf {
    url: String,
    login: Option<Login>,
    attempts: u32,
    pause_ms: u64,
}

impl RemoteOf {
    pub fn borrowed(&self) -> Remote<'_> {
        let RemoteOf { url, login, attempts, pause_ms } = self;
        Remote { url, login: login.as_ref(), attempts: *attempts, pause_ms: *pause_ms }
    }

    /// For somebody who waits: what the network refuses is not tried again.
    pub fn try_once(&mut self) {
        self.attempts = 1;
    }
}

impl AgentSettings {
    pub(super) fn mirrors(&self) -> PathBuf {
        self.home.join("mirrors")
    }

    pub(super) fn worktrees(&self) -> PathBuf {
        self.home.join("worktrees")
    }

    pub(super) fn runs(&self) -> PathBuf {
        self.home.join("runs")
    }

    /// Issues that have a clone, in the order of their names.
    pub(crate) fn issues_with_worktree(&self) -> io::Result<Vec<IssueRef>> {
        let entries = match fs::read_dir(self.worktrees()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut issues: Vec<IssueRef> = entries
            .flatten()
            .take(limits::ENTRIES_READ_MAX)
            .filter_map(|entry| IssueRef::from_safe_name(entry.file_name().to_str()?))
            .collect();
        issues.sort_by(|a, b| a.key().cmp(b.key()));
        Ok(issues)
    }

    /// The folder that an issue is worked on in.
    pub fn worktree(&self, issue: &IssueRef) -> PathBuf {
        self.worktrees().join(issue.safe_name())
    }

    /// The file that a job's agents log to.
    pub fn log(&self, id: JobId) -> PathBuf {
        log_file(&self.home, id)
    }

    pub(super) fn clone_url(&self, issue: &IssueRef) -> String {
        let url = self.clone_url.expose();
        url.replace("{host}", issue.host()).replace("{path}", issue.path())
    }

    /// Where an issue's repository comes from, or why it must not be fetched.
    pub(super) fn remote_of(&self, issue: &IssueRef) -> Result<RemoteOf, String> {
        let host = Host::of_issue(issue);
        if !self.clone_hosts.allow(&host) {
            return Err(format!("{host} is not among the hosts of KUGETSU_CLONE_HOSTS"));
        }
        Ok(RemoteOf {
            url: self.clone_url(issue),
            login: self.login_for(&host)?,
            attempts: self.network_attempts.max(1),
            pause_ms: self.network_delay_ms,
        })
    }

    /// The token for a host, if there is one, and kugetsu itself as the helper that tells it to git.
    fn login_for(&self, host: &Host) -> Result<Option<Login>, String> {
        if self.tokens.is_empty() {
            return Ok(None);
        }
        let named: BTreeSet<String> =
            self.clone_hosts.iter().map(|host| host.as_str().to_string()).collect();
        let known = if named.is_empty() { self.known_hosts() } else { named };
        let variables: BTreeMap<String, String> =
            self.tokens.iter().map(|(name, token)| (name.clone(), token.expose().into())).collect();
        let gitea = self.gitea_host.as_ref().map(Host::as_str);
        let token = token_for(host.as_str(), &known, &variables, gitea)?;
        Ok(token.map(|token| Login { token, program: self.shim.clone() }))
    }

    /// Hosts of the issues that have a clone.
    fn known_hosts(&self) -> BTreeSet<String> {
        let issues = self.issues_with_worktree().unwrap_or_default();
        issues.iter().map(|issue| Host::of_issue(issue).as_str().to_string()).collect()
    }

    /// The branch of an issue: the one that its session has, or one that the remote leaves room for.
    pub(super) fn branch_for(
        &self,
        issue: &IssueRef,
        session: Option<&Session>,
        state: &RemoteState,
    ) -> Result<BranchName, String> {
        if let Some(session) = session {
            return session.branch.parse();
        }
        free_branch(&self.branch.fill(issue)?, state)
    }

    /// Without what nobody is to read, and no longer than a detail may be.
    pub(super) fn masked(&self, text: &str) -> String {
        self.secrets.detail(text)
    }

    /// What no agent has in its environment.
    pub(super) fn environment_removed(&self) -> Vec<String> {
        let secret = self.secrets.removed_for_agents().map(String::from);
        environment_removed().map(String::from).chain(secret).collect()
    }

    /// What agents are told, and what is written down nowhere.
    pub(super) fn secret_environment(&self) -> Vec<(String, String)> {
        let all = self.secrets.given().chain(self.secrets.replaced());
        all.map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    /// The fence round an agent, if there is to be one.
    pub(super) fn sandbox(&self, inherited: impl Fn(&str) -> Option<PathBuf>) -> Option<Sandbox> {
        if !self.is_sandboxed {
            return None;
        }
        if !self.sandbox_write.is_empty() {
            return Some(Sandbox { writable: self.sandbox_write.clone(), made: Vec::new() });
        }
        let home = inherited("HOME");
        let folder = |variable: &str, below_home: &str| {
            let base = inherited(variable).or_else(|| Some(home.as_ref()?.join(below_home)));
            base.map(|base| base.join("opencode"))
        };
        let made = OPENCODE_FOLDERS.iter().filter_map(|(variable, below)| folder(variable, below));
        Some(Sandbox { writable: Vec::new(), made: made.collect() })
    }
}

/// Where opencode keeps what it needs to write: the variable that says so, and where it is below
/// `HOME` without.
const OPENCODE_FOLDERS: [(&str, &str); 4] = [
    ("XDG_DATA_HOME", ".local/share"),
    ("XDG_STATE_HOME", ".local/state"),
    ("XDG_CACHE_HOME", ".cache"),
    ("XDG_CONFIG_HOME", ".config"),
];

/// What no agent and no helper of it has in its environment.
pub(super) fn environment_removed() -> impl Iterator<Item = &'static str> {
    ENVIRONMENT_REMOVED.into_iter().chain(REPOSITORY_VARIABLES)
}

/// The file that a job's agents log to, below kugetsu's folder.
pub(crate) fn log_file(home: &Path, id: JobId) -> PathBuf {
    home.join("logs").join(format!("dev-{id}.log"))
}

/// The name that is wanted, or another one if the remote has branches above or below it, between
/// which and that name git can only have one.
fn free_branch(wanted: &str, state: &RemoteState) -> Result<BranchName, String> {
    let clashes = |name: &str| {
        state.heads.keys().any(|head| {
            let head = head.as_str();
            is_below(head, name) || is_below(name, head)
        })
    };
    let names = (1..=limits::BRANCH_NAMES_TRIED_MAX).map(|number| match number {
        1 => wanted.to_string(),
        number => format!("{}-{number}", wanted.replace('/', "-")),
    });
    let mut names = names.filter(|name| !clashes(name));
    let name = names.next().ok_or_else(|| format!("the remote has branches below {wanted}"))?;
    name.parse()
}

fn is_below(one: &str, other: &str) -> bool {
    one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_branch_is_named_so_that_the_remote_can_have_it() {
        let oid = "0123456789012345678901234567890123456789";
        for (heads, wanted, expected) in [
            ("", "issue-14", Some("issue-14")),
            ("issue-14", "issue-14", Some("issue-14")),
            ("issue-140 issue-1", "issue-14", Some("issue-14")),
            ("issue-14/x", "issue-14", Some("issue-14-2")),
            ("issue-14/x issue-14-2/y", "issue-14", Some("issue-14-3")),
            ("fix", "fix/issue-14", Some("fix-issue-14-2")),
            ("", "a..b", None),
        ] {
            let heads: BTreeMap<BranchName, _> = heads
                .split_whitespace()
                .map(|name| (name.parse().expect("a name"), oid.parse().expect("an id")))
                .collect();
            let state = RemoteState { default_branch: None, heads };
            let found = free_branch(wanted, &state).ok();
            assert_eq!(found.as_ref().map(BranchName::as_str), expected, "{wanted}");
        }
    }
}
