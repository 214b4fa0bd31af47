//! Where everything of an issue's repository is.

use std::path::PathBuf;

use crate::agent::AgentSettings;
use crate::job::IssueRef;

/// The folders of an issue and its repository, all below kugetsu's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    /// The repository's name among the others.
    pub name: String,
    /// A bare repository, kugetsu's alone, with what the remote has.
    pub mirror: PathBuf,
    /// Held by whoever changes the mirror, or makes something from it.
    pub lock: PathBuf,
    /// A bare repository, kugetsu's alone, with what agents committed.
    pub evidence: PathBuf,
    /// Held by whoever adds to the evidence: nobody who judges waits for the network.
    pub evidence_lock: PathBuf,
    /// Folders for one look.
    pub looks: PathBuf,
    /// The issue's clone: its agents' own.
    pub folder: PathBuf,
}

impl Places {
    pub fn of(settings: &AgentSettings, issue: &IssueRef) -> Places {
        let folder = settings.worktree(issue);
        Places { folder, ..Places::named(settings, &issue.safe_repository_name()) }
    }

    /// Those of a repository, by its name among the others; no issue's clone is meant.
    pub fn named(settings: &AgentSettings, name: &str) -> Places {
        let evidence = settings.home.join("evidence");
        let mirrors = settings.mirrors();
        Places {
            mirror: mirrors.join(format!("{name}.git")),
            lock: mirrors.join(format!("{name}.lock")),
            evidence: evidence.join(format!("{name}.git")),
            evidence_lock: evidence.join(format!("{name}.lock")),
            looks: evidence.join("looks"),
            folder: settings.worktrees(),
            name: name.into(),
        }
    }
}
