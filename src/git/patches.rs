//! Commits compared by what they change: the questions to git, and reading its answers.
//!
//! All of it reads a git folder of kugetsu's own. Each answer is bounded before anything is
//! compared in full: a tree of ten thousand million paths is listed to the bound and no further.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::git::call::{Call, Git};
use crate::git::evidence::LookError;
use crate::git::fingerprint::Fingerprint;
use crate::git::folder::Unreadable;
use crate::git::looker::Looker;
use crate::git::trouble::GitError;
use crate::git::{Oid, tree_diff};
use crate::job::limits;

/// A commit, as `rev-list` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit {
    pub oid: Oid,
    pub tree: Oid,
    pub parents: Vec<Oid>,
}

/// Paths that a commit changes.
pub(super) type Paths = BTreeSet<Vec<u8>>;

/// Asks one folder of evidence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Comparison<'c> {
    pub git: &'c Git<'c>,
    pub folder: &'c Path,
    pub looks: &'c Path,
}

impl<'c> Comparison<'c> {
    fn call(&self, verb: &str) -> Call<'c> {
        self.git.call(self.folder, verb).limit_ms(limits::COMPARE_MS_MAX)
    }

    /// The commits that tips lead to and others do not, the newest first. All are there.
    pub fn commits(
        &self,
        tips: &[&Oid],
        excluded: &[&Oid],
        kind: CommitKind<'_>,
    ) -> Result<Vec<Commit>, LookError> {
        let mut question = String::new();
        for oid in tips {
            question.push_str(&format!("{oid}\n"));
        }
        for oid in excluded {
            question.push_str(&format!("^{oid}\n"));
        }
        let limit = limits::COMPARED_COMMITS_MAX + 1;
        let mut call = self
            .call("rev-list")
            .args(["--stdin", "--topo-order", "--no-commit-header"])
            .arg("--format=%H %T %P")
            .arg(format!("--max-count={limit}"));
        let mut question = question.into_bytes();
        if let CommitKind::Touching(paths) = kind {
            call = call.args(["--no-merges", "--full-history"]).env("GIT_LITERAL_PATHSPECS", "1");
            // A path with a line's end cannot be said there; then all are looked at.
            let can_be_said = |path: &Vec<u8>| !path.contains(&b'\n');
            if paths.len() <= limits::COMPARED_PATHS_MAX && paths.iter().all(can_be_said) {
                question.extend_from_slice(b"--\n");
                for path in paths {
                    question.extend_from_slice(path);
                    question.push(b'\n');
                }
            }
        }
        let text = call.input(question).text().map_err(of_evidence)?;
        let commits = text.lines().map(parse_commit).collect::<Option<Vec<_>>>();
        let commits = commits.ok_or_else(|| strange("rev-list"))?;
        match commits.len() == limit {
            true => {
                let limit = limits::COMPARED_COMMITS_MAX;
                Err(Unreadable::TooLarge(format!("more than {limit} commits to compare")).into())
            }
            false => Ok(commits),
        }
    }

    /// What expressions like `OID^{tree}` name; `None` for what is not there.
    pub fn resolve(&self, expressions: &[String]) -> Result<Vec<Option<Oid>>, LookError> {
        let question: String = expressions.iter().map(|words| format!("{words}\n")).collect();
        let call = self.call("cat-file").arg("--batch-check=%(objectname)").input(question);
        let text = call.text().map_err(of_evidence)?;
        let oids: Vec<_> = text.lines().map(|line| line.parse().ok()).collect();
        match oids.len() == expressions.len() {
            true => Ok(oids),
            false => Err(strange("cat-file")),
        }
    }

    /// Where two histories parted; `None` if they have nothing in common.
    pub fn merge_base(&self, one: &Oid, other: &Oid) -> Result<Option<Oid>, LookError> {
        let call = self.call("merge-base").args([one.as_str(), other.as_str()]);
        let line = call.ask().map_err(of_evidence)?;
        Ok(line.and_then(|line| line.parse().ok()))
    }

    /// Whether one is the other or lies behind it.
    pub fn is_ancestor(&self, one: &Oid, other: &Oid) -> Result<bool, LookError> {
        if one == other {
            return Ok(true);
        }
        let call = self.call("merge-base").args(["--is-ancestor", one.as_str(), other.as_str()]);
        Ok(call.ask().map_err(of_evidence)?.is_some())
    }

    /// The tree of a merge that nobody had a hand in; `None` where somebody must. What it writes is
    /// gone at once.
    pub fn merged_tree(&self, one: &Oid, other: &Oid) -> Result<Option<Oid>, LookError> {
        let objects = self.folder.join("objects");
        let looker = Looker::new(self.looks, &[&objects]).map_err(LookError::Own)?;
        let call = looker
            .call(self.git, "merge-tree")
            .args(["--write-tree", "--no-messages", "--name-only", "-z"])
            .args([one.as_str(), other.as_str()])
            .config("merge.renames", "true")
            .config("merge.directoryRenames", "conflict")
            .config("merge.conflictStyle", "merge")
            .config("core.attributesFile", "/dev/null")
            .limit_ms(limits::COMPARE_MS_MAX);
        let answer = call.answer(&[0, 1]).map_err(of_evidence)?;
        let first = answer.stdout.split(|byte| *byte == 0).next().unwrap_or_default();
        let tree = std::str::from_utf8(first).ok().and_then(|text| text.trim_end().parse().ok());
        match (answer.code, tree) {
            (0, Some(tree)) => Ok(Some(tree)),
            (0, None) => Err(strange("merge-tree")),
            (_, _) => Ok(None),
        }
    }

    /// Whether a base has what a tip has done since their fork, in whatever commits: merging would
    /// change nothing, or it is all in one commit that the known tips lead to, as after a squash
    /// merge, and the base has gone on over it.
    pub fn has_all_of(&self, base: &Oid, tip: &Oid, known: &[&Oid]) -> Result<bool, LookError> {
        let Some(fork) = self.merge_base(tip, base)? else {
            return Ok(false);
        };
        let tree = self.resolve(&[format!("{base}^{{tree}}")])?;
        if self.merged_tree(base, tip)?.is_some_and(|merged| tree == [Some(merged)]) {
            return Ok(true);
        }
        let touched = self.paths_between(&fork, tip)?;
        let theirs = self.commits(known, &[tip], CommitKind::Touching(&touched))?;
        let their_paths = self.paths(&theirs)?;
        let alike = their_paths.iter().filter(|(_, paths)| **paths == touched);
        let candidates: Vec<&Oid> = alike.map(|(oid, _)| oid).collect();
        if candidates.is_empty() {
            return Ok(false);
        }
        let own = self.patch_between(&fork, tip)?;
        Ok(self.patches(&candidates)?.into_values().any(|patch| patch == own))
    }

    /// What each commit changes, by path, against its first parent.
    pub fn paths(&self, commits: &[Commit]) -> Result<BTreeMap<Oid, Paths>, LookError> {
        tree_diff::paths_of(self, commits)
    }

    /// The paths that lie between two commits.
    pub fn paths_between(&self, from: &Oid, to: &Oid) -> Result<Paths, LookError> {
        tree_diff::paths_between(self, from, to)
    }

    /// Objects as `cat-file --batch` gives them, in this order.
    pub fn objects(
        &self,
        queries: &BTreeSet<&String>,
        bytes_max: u64,
    ) -> Result<Vec<u8>, LookError> {
        let question: String = queries.iter().map(|query| format!("{query}\n")).collect();
        let call = self.call("cat-file").args(["--batch", "--buffer"]).input(question);
        call.output_max(bytes_max).run().map_err(of_evidence)
    }

    /// What each commit changes, as a fingerprint that is the same wherever it is applied.
    pub fn patches(&self, commits: &[&Oid]) -> Result<BTreeMap<Oid, String>, LookError> {
        let call = self
            .diff_tree(commits, &PATCH)
            .config("core.bigFileThreshold", limits::COMPARED_FILE_BYTES_MAX.to_string())
            .config("core.attributesFile", "/dev/null")
            .output_max(limits::COMPARED_PATCHES_BYTES_MAX);
        Ok(parse_patches(&call.run().map_err(of_evidence)?))
    }

    /// What lies between two commits, as a fingerprint like those of [`Comparison::patches`].
    pub fn patch_between(&self, from: &Oid, to: &Oid) -> Result<String, LookError> {
        let call = self
            .call("diff-tree")
            .args(["-r", "--no-renames", "--ignore-submodules=none"])
            .args(PATCH)
            .args([from.as_str(), to.as_str()])
            .config("core.bigFileThreshold", limits::COMPARED_FILE_BYTES_MAX.to_string())
            .config("core.attributesFile", "/dev/null")
            .output_max(limits::COMPARED_PATCHES_BYTES_MAX);
        let mut text = format!("{to}\n").into_bytes();
        text.extend_from_slice(&call.run().map_err(of_evidence)?);
        Ok(parse_patches(&text).remove(to).unwrap_or_default())
    }

    /// Bytes on disk of what tips lead to and others do not.
    pub fn bytes(&self, tips: &[&Oid], excluded: &[&Oid]) -> Result<u64, LookError> {
        let tips = tips.iter().map(|oid| format!("{oid}\n"));
        let question: String = tips.chain(excluded.iter().map(|oid| format!("^{oid}\n"))).collect();
        let call = self.call("rev-list").args(["--stdin", "--objects", "--disk-usage"]);
        let text = call.input(question).text().map_err(of_evidence)?;
        text.parse().map_err(|_| strange("rev-list"))
    }

    fn diff_tree(&self, commits: &[&Oid], options: &[&str]) -> Call<'c> {
        let question: String = commits.iter().map(|oid| format!("{oid}\n")).collect();
        self.call("diff-tree")
            .args(["--stdin", "-r", "--root", "--no-renames", "--ignore-submodules=none"])
            .args(options)
            .input(question)
    }
}

/// A patch that no program, no colour and no user's setting has changed.
const PATCH: [&str; 11] = [
    "-p",
    "-U0",
    "--full-index",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--submodule=short",
    "--diff-algorithm=myers",
    "--no-indent-heuristic",
];

/// Which commits are meant.
#[derive(Debug, Clone, Copy)]
pub(super) enum CommitKind<'p> {
    All,
    /// Those that are no merge and change one of these paths.
    Touching(&'p Paths),
}

/// What it means that a git failed that reads the evidence.
pub(super) fn of_evidence(error: GitError) -> LookError {
    match error {
        GitError::TooLarge(why) => Unreadable::TooLarge(why).into(),
        GitError::TimedOut(why) => Unreadable::Passing(why).into(),
        GitError::Stopped(_)
        | GitError::Network(_)
        | GitError::Login(_)
        | GitError::Machine(_)
        | GitError::Damaged(_)
        | GitError::Refused(_) => LookError::Own(error),
    }
}

pub(super) fn strange(verb: &str) -> LookError {
    LookError::Own(GitError::Refused(format!("git {verb} said what it never says")))
}

fn parse_commit(line: &str) -> Option<Commit> {
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let oid = words.next()?.parse().ok()?;
    let tree = words.next()?.parse().ok()?;
    let parents = words.map(|word| word.parse().ok()).collect::<Option<Vec<Oid>>>()?;
    Some(Commit { oid, tree, parents })
}

/// Reads `diff-tree --stdin -p -U0`: fingerprints without the numbers of lines, and without the
/// ids of files but those whose contents are not shown.
fn parse_patches(text: &[u8]) -> BTreeMap<Oid, String> {
    let mut all = BTreeMap::new();
    let mut current: Option<(Oid, Fingerprint)> = None;
    let mut index_line: &[u8] = b"";
    for line in text.split(|byte| *byte == b'\n') {
        let oid = std::str::from_utf8(line).ok().and_then(|text| text.parse::<Oid>().ok());
        if let Some(oid) = oid {
            if let Some((done, sum)) = current.take() {
                all.insert(done, sum.to_hex());
            }
            current = Some((oid, Fingerprint::new()));
            continue;
        }
        let Some((_, sum)) = &mut current else {
            continue;
        };
        if line.starts_with(b"index ") {
            index_line = line;
        } else if line.starts_with(b"@@ ") {
            *sum = sum.with(b"@@");
        } else if line.starts_with(b"Binary files ") {
            *sum = sum.with(index_line).with(line);
        } else if !line.is_empty() {
            *sum = sum.with(line);
        }
    }
    if let Some((done, sum)) = current {
        all.insert(done, sum.to_hex());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oid(digit: char) -> Oid {
        digit.to_string().repeat(40).parse().unwrap()
    }

    #[test]
    fn patches_are_alike_wherever_they_apply() {
        let patch = |body: &str| {
            let text = format!("{}\n{body}", oid('a'));
            parse_patches(text.as_bytes()).remove(&oid('a')).unwrap()
        };
        let text = "diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n";
        for (other, is_alike) in [
            (text.to_string(), true),
            (text.replace("1..2", "3..4"), true),
            (text.replace("-1 +1", "-7 +9"), true),
            (text.replace("+b", "+c"), false),
            (text.replace("+b", "+ b"), false),
            (text.replace("+b", "+b\r"), false),
            (text.replace("x", "y"), false),
            (text.replace("+b\n", "+b\n\\ No newline at end of file\n"), false),
            (text.replace("index", "old mode 100644\nnew mode 100755\nindex"), false),
            (text.replace("-a\n", "-a\n@@ -3 +3 @@\n"), false),
        ] {
            assert_eq!(patch(text) == patch(&other), is_alike, "{other}");
        }
        let binary = "diff --git a/x b/x\nindex 1..2 100644\nBinary files a/x and b/x differ\n";
        assert_ne!(patch(binary), patch(&binary.replace("1..2", "1..3")));
    }

    #[test]
    fn lists_are_read_commit_by_commit() {
        let (a, b, c) = (oid('a'), oid('b'), oid('c'));
        let patches = parse_patches(format!("{a}\n+1\n{b}\n+1\n{c}\n+2\n").as_bytes());
        assert_eq!(patches.len(), 3);
        assert_eq!(patches[&a], patches[&b]);
        assert_ne!(patches[&a], patches[&c]);
        let line = format!("{a} {b} {c} {a}");
        let commit = parse_commit(&line).unwrap();
        assert_eq!((commit.oid, commit.tree, commit.parents), (a.clone(), b, vec![c, a.clone()]));
        assert_eq!(parse_commit("nothing"), None);
    }
}
