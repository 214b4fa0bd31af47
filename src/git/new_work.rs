//! What a run's commits are: new work, earlier work on a newer base, or nothing.
//!
//! New work is patches that neither the branch before, nor a base, nor a branch of the remote had.
//! History tells little: a pull, a rebase, an amended date or an empty commit make new commits and
//! no new work. What git is asked stands in `patches.rs`; here is what its answers mean.

use std::collections::{BTreeMap, BTreeSet};

use crate::git::call::Git;
use crate::git::evidence::{Evidence, LookError};
use crate::git::patches::{Commit, CommitKind, Comparison, Paths, of_evidence};
use crate::git::refs::{CloneRefs, Reference};
use crate::git::trouble::GitError;
use crate::git::{BranchName, Oid};
use crate::job::limits;

/// What is known of a run, and of what was there before.
///
/// All commits are in the evidence; those of `known` that are not are passed over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'q> {
    /// The tip of the issue's branch after the run; `None` if there is no such branch any more.
    pub after: Option<&'q Oid>,
    /// The tip before this attempt.
    pub before: &'q Oid,
    /// The tip before the job's first attempt, from which it is measured if it is still on the
    /// branch.
    pub before_first: Option<&'q Oid>,
    /// The tip of the base branch.
    pub base: &'q Oid,
    /// What others have: see [`known_tips`].
    pub known: &'q [Oid],
    /// All tips of before, of whatever kind: work that is not on the branch is new work only if
    /// none of them had it.
    pub before_tips: &'q [Oid],
    /// Tips after the run that are not the branch's: see [`CloneRefs::elsewhere`].
    pub elsewhere: &'q [Reference],
    /// The stash after the run.
    pub stashes: &'q [Oid],
}

/// What became of the issue's branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BranchOutcome {
    /// It has nothing new.
    Nothing,
    /// Earlier work of its own is on a newer base, and nothing else is new.
    Updated,
    /// It has new work: so many commits with patches that nobody had.
    New(u32),
}

/// The issue's branch after a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BranchWork {
    pub outcome: BranchOutcome,
    /// What it was compared with.
    pub measured_from: Oid,
    /// The tip of before is not on it any more.
    pub is_rewritten: bool,
}

/// New work that is not on the issue's branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    /// The reference in full, `HEAD`, or `worktrees/<name>/HEAD`.
    pub name: String,
    pub oid: Oid,
    /// Commits with patches that nobody had.
    pub commits: u32,
    /// The branch can be moved there without losing anything.
    pub is_ahead_of_branch: bool,
}

/// What a run left in commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Work {
    pub on_branch: BranchWork,
    pub elsewhere: Vec<Elsewhere>,
    /// Stashes with something in them that were not there before, the newest first.
    pub stashes: Vec<Oid>,
}

/// What others have, as far as the mirror and the clone tell it.
///
/// `remote` are the branches of the remote as the mirror has them now. What the agent itself
/// pushed is no less its work. A tip of the issue's own branch that the clone never fetched and
/// that was not there before can only have come from it.
pub(crate) fn known_tips(
    branch: &BranchName,
    before: &Oid,
    remote: &[(BranchName, Oid)],
    clone: &CloneRefs,
) -> Vec<Oid> {
    let is_others = |name: &BranchName, oid: &Oid| {
        let is_own = name == branch && oid != before && !clone.fetched.contains(oid);
        !clone.pushed.contains(oid) && !is_own
    };
    let of_remote = remote.iter().filter(|(name, oid)| is_others(name, oid)).map(|(_, oid)| oid);
    let fetched = clone.fetched.iter().filter(|oid| !clone.pushed.contains(*oid));
    let known: BTreeSet<&Oid> = of_remote.chain(fetched).filter(|oid| !oid.is_zero()).collect();
    known.into_iter().take(limits::KNOWN_TIPS_MAX).cloned().collect()
}

/// Says what a run's commits are. It only reads.
pub(crate) fn judge(
    git: &Git<'_>,
    evidence: &Evidence,
    question: &Question<'_>,
) -> Result<Work, LookError> {
    let comparison = Comparison { git, folder: evidence.folder(), looks: evidence.looks() };
    let trees = Trees::of(&comparison, question)?;
    // What is not there leads to nothing; git would take offence at its name.
    let is_there = |oid: &&Oid| trees.0.contains_key(*oid);
    let known: Vec<Oid> = question.known.iter().filter(is_there).cloned().collect();
    let before_tips: Vec<Oid> = question.before_tips.iter().filter(is_there).cloned().collect();
    let question = &Question { known: &known, before_tips: &before_tips, ..*question };
    let on_branch = judge_branch(&comparison, question, &trees)?;
    let elsewhere = judge_elsewhere(&comparison, question)?;
    let stashes = judge_stashes(&comparison, question)?;
    Ok(Work { on_branch, elsewhere, stashes })
}

/// The trees of all commits of a question that are there.
struct Trees(BTreeMap<Oid, Oid>);

impl Trees {
    fn of(comparison: &Comparison<'_>, question: &Question<'_>) -> Result<Trees, LookError> {
        let named = question.known.iter().chain(question.before_tips);
        let named = named.chain(question.after).chain(question.before_first);
        let all: BTreeSet<&Oid> = named.chain([question.before, question.base]).collect();
        let expressions: Vec<String> = all.iter().map(|oid| format!("{oid}^{{tree}}")).collect();
        let trees = comparison.resolve(&expressions)?;
        let there = all.into_iter().zip(trees);
        Ok(Trees(there.filter_map(|(oid, tree)| Some((oid.clone(), tree?))).collect()))
    }

    /// What must be there: it was kept for this, or the mirror has it.
    fn get(&self, oid: &Oid) -> Result<&Oid, LookError> {
        let gone = || GitError::Damaged(format!("the evidence has no commit {oid}"));
        self.0.get(oid).ok_or_else(|| LookError::Own(gone()))
    }
}

fn judge_branch(
    comparison: &Comparison<'_>,
    question: &Question<'_>,
    trees: &Trees,
) -> Result<BranchWork, LookError> {
    let Question { before, base, .. } = *question;
    let nothing = |from: &Oid, is_rewritten| BranchWork {
        outcome: BranchOutcome::Nothing,
        measured_from: from.clone(),
        is_rewritten,
    };
    let Some(after) = question.after else {
        return Ok(nothing(before, true));
    };
    let from = match question.before_first {
        Some(first)
            if first != before
                && trees.0.contains_key(first)
                && comparison.is_ancestor(first, after)? =>
        {
            first
        }
        Some(_) | None => before,
    };
    if after == from {
        return Ok(nothing(from, after != before));
    }
    let mut excluded = vec![from, base];
    excluded.extend(question.known);
    let commits = comparison.commits(&[after], &excluded, CommitKind::All)?;
    let is_grown = is_grown_from(&commits, from);
    let is_rewritten = !is_grown && !comparison.is_ancestor(from, after)?;
    if commits.is_empty() {
        return Ok(nothing(from, is_rewritten));
    }
    let growth = match (is_grown, is_rewritten) {
        (true, _) => Growth::Only,
        (false, false) => Growth::WithOthers,
        (false, true) => Growth::Rewritten,
    };
    let outcome = match trees.get(after)? == trees.get(from)? {
        true => BranchOutcome::Nothing,
        false => judge_commits(comparison, &commits, growth, (from, after), question, trees)?,
    };
    Ok(BranchWork { outcome, measured_from: from.clone(), is_rewritten })
}

/// How a branch came from what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    /// By commits on top of it.
    Only,
    /// By commits on top of it and of what others have.
    WithOthers,
    /// It is not on the branch any more.
    Rewritten,
}

/// Whether commits stand on one other and on nothing else.
fn is_grown_from(commits: &[Commit], from: &Oid) -> bool {
    let own: BTreeSet<&Oid> = commits.iter().map(|commit| &commit.oid).collect();
    let is_known = |parent: &Oid| parent == from || own.contains(parent);
    !commits.is_empty()
        && commits.iter().all(|c| !c.parents.is_empty() && c.parents.iter().all(is_known))
}

/// What the commits are that the branch has and nobody else.
fn judge_commits(
    comparison: &Comparison<'_>,
    commits: &[Commit],
    growth: Growth,
    (from, after): (&Oid, &Oid),
    question: &Question<'_>,
    trees: &Trees,
) -> Result<BranchOutcome, LookError> {
    let (tree_after, tree_base) = (trees.get(after)?, trees.get(question.base)?);
    // Nothing is compared in full before it is known to be within bounds.
    let paths = comparison.paths(commits)?;
    let mut is_on_newer_base = false;
    if growth != Growth::Only
        && let Some(fork) = comparison.merge_base(after, question.base)?
    {
        is_on_newer_base =
            !comparison.is_ancestor(&fork, from)? && has_own(comparison, from, question.base)?;
        if comparison.merge_base(from, &fork)?.is_some()
            && comparison.merged_tree(from, &fork)?.as_ref() == Some(tree_after)
        {
            return Ok(updated_if(is_on_newer_base));
        }
    }
    if tree_after == tree_base && comparison.is_ancestor(from, question.base)? {
        // All of it is in the base by now, in other commits.
        return Ok(BranchOutcome::Nothing);
    }
    let mut others = vec![from, question.base];
    others.extend(question.known);
    let fresh = count_fresh(comparison, commits, &paths, after, &others)?;
    Ok(match fresh {
        // Taken back to what the base has, by patches that are known from elsewhere.
        0 if tree_after == tree_base && growth != Growth::Rewritten => BranchOutcome::New(1),
        0 => updated_if(is_on_newer_base),
        count => BranchOutcome::New(count),
    })
}

/// Whether a branch has anything that its base does not have, and not only commits.
fn has_own(comparison: &Comparison<'_>, tip: &Oid, base: &Oid) -> Result<bool, LookError> {
    let Some(fork) = comparison.merge_base(tip, base)? else {
        return Ok(true);
    };
    let trees = [tip, &fork].map(|oid| format!("{oid}^{{tree}}"));
    Ok(&fork != tip && comparison.resolve(&trees)?.windows(2).any(|pair| pair[0] != pair[1]))
}

fn updated_if(is_on_newer_base: bool) -> BranchOutcome {
    match is_on_newer_base {
        true => BranchOutcome::Updated,
        false => BranchOutcome::Nothing,
    }
}

/// How many commits have patches that the others do not have. Merges count only where nothing else
/// does, if somebody had a hand in them.
pub(super) fn count_fresh(
    comparison: &Comparison<'_>,
    commits: &[Commit],
    paths: &BTreeMap<Oid, Paths>,
    tip: &Oid,
    others: &[&Oid],
) -> Result<u32, LookError> {
    let mut changing = commits.iter().filter(|c| c.parents.len() < 2 && changes_a_path(c, paths));
    let changing: Vec<&Oid> = changing.by_ref().map(|commit| &commit.oid).collect();
    let mut fresh = changing.len();
    if !changing.is_empty() {
        let touched: Paths = changing.iter().flat_map(|oid| paths[*oid].iter().cloned()).collect();
        let theirs = comparison.commits(others, &[tip], CommitKind::Touching(&touched))?;
        let alike = alike(comparison, &changing, paths, &theirs)?;
        fresh -= changing.iter().filter(|oid| alike.contains(**oid)).count();
    }
    if fresh == 0 {
        for merge in commits.iter().filter(|c| c.parents.len() > 1).take(MERGES_MAX) {
            fresh += usize::from(is_work_of_a_hand(comparison, merge)?);
        }
    }
    Ok(u32::try_from(fresh).unwrap_or(u32::MAX))
}

const MERGES_MAX: usize = limits::COMPARED_MERGES_MAX;

fn changes_a_path(commit: &Commit, paths: &BTreeMap<Oid, Paths>) -> bool {
    paths.get(&commit.oid).is_some_and(|paths| !paths.is_empty())
}

/// Those of our commits whose patches are among theirs.
fn alike<'o>(
    comparison: &Comparison<'_>,
    ours: &[&'o Oid],
    paths: &BTreeMap<Oid, Paths>,
    theirs: &[Commit],
) -> Result<BTreeSet<&'o Oid>, LookError> {
    if theirs.is_empty() {
        return Ok(BTreeSet::new());
    }
    // A patch can only be the same if it changes the same files.
    let their_paths = comparison.paths(theirs)?;
    let by_paths: BTreeSet<&Paths> = ours.iter().map(|oid| &paths[*oid]).collect();
    let candidates: Vec<&Oid> =
        their_paths.iter().filter(|(_, p)| by_paths.contains(p)).map(|(oid, _)| oid).collect();
    if candidates.is_empty() {
        return Ok(BTreeSet::new());
    }
    let their_patches: BTreeSet<String> = comparison.patches(&candidates)?.into_values().collect();
    let our_patches = comparison.patches(ours)?;
    let is_alike =
        |oid: &&&Oid| our_patches.get(**oid).is_some_and(|patch| their_patches.contains(patch));
    Ok(ours.iter().filter(is_alike).copied().collect())
}

/// Whether a merge is not what git makes of its parents by itself.
fn is_work_of_a_hand(comparison: &Comparison<'_>, merge: &Commit) -> Result<bool, LookError> {
    let parents: Vec<String> = merge.parents.iter().map(|oid| format!("{oid}^{{tree}}")).collect();
    let tree = Some(merge.tree.clone());
    // One side as it is: nothing was added.
    if comparison.resolve(&parents)?.contains(&tree) {
        return Ok(false);
    }
    match merge.parents.as_slice() {
        [one, other] if comparison.merge_base(one, other)?.is_some() => {
            Ok(comparison.merged_tree(one, other)? != tree)
        }
        // Git makes no such merge where there is a conflict, so no hand had to be in it.
        _ => Ok(false),
    }
}

fn judge_elsewhere(
    comparison: &Comparison<'_>,
    question: &Question<'_>,
) -> Result<Vec<Elsewhere>, LookError> {
    let known: BTreeSet<&Oid> =
        question.before_tips.iter().chain(question.known).chain(question.after).collect();
    let mut tips: BTreeMap<&Oid, &str> = BTreeMap::new();
    for reference in question.elsewhere.iter().filter(|r| !known.contains(&r.oid)) {
        tips.entry(&reference.oid).or_insert(&reference.name);
    }
    let mut others: Vec<&Oid> = known.into_iter().collect();
    others.extend([question.base, question.before]);
    let all: Vec<&Oid> = tips.keys().copied().collect();
    if all.is_empty() || comparison.commits(&all, &others, CommitKind::All)?.is_empty() {
        return Ok(Vec::new());
    }
    let branch = question.after.unwrap_or(question.before);
    let mut found = Vec::new();
    for (oid, name) in tips.into_iter().take(limits::ELSEWHERE_MAX) {
        let commits = comparison.commits(&[oid], &others, CommitKind::All)?;
        if commits.is_empty() {
            continue;
        }
        let paths = comparison.paths(&commits)?;
        let commits = count_fresh(comparison, &commits, &paths, oid, &others)?;
        if commits > 0 {
            let is_ahead_of_branch = comparison.is_ancestor(branch, oid)?;
            found.push(Elsewhere {
                name: name.into(),
                oid: oid.clone(),
                commits,
                is_ahead_of_branch,
            });
        }
    }
    Ok(found)
}

/// A stash has something in it if its files are not those of the commit below it, or if it has
/// untracked ones.
fn judge_stashes(
    comparison: &Comparison<'_>,
    question: &Question<'_>,
) -> Result<Vec<Oid>, LookError> {
    let before: BTreeSet<&Oid> = question.before_tips.iter().collect();
    let new: Vec<&Oid> = question.stashes.iter().filter(|oid| !before.contains(oid)).collect();
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let expressions = new.iter().flat_map(|oid| {
        ["^{tree}", "^1^{tree}", "^2^{tree}", "^3"].map(|suffix| format!("{oid}{suffix}"))
    });
    let answers = comparison.resolve(&expressions.collect::<Vec<_>>())?;
    let has_work = |answers: &[Option<Oid>]| match answers {
        [tree, below, index, untracked] => {
            tree != below || (index.is_some() && index != below) || untracked.is_some()
        }
        _ => unreachable!("four answers to four questions"),
    };
    let found = new.into_iter().zip(answers.chunks(4));
    Ok(found.filter(|(_, answers)| has_work(answers)).map(|(oid, _)| oid.clone()).collect())
}

/// How much of a diff is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiffKind {
    /// The whole text.
    Text,
    /// A line for each file, and a sum.
    Stat,
}

/// What lies between two kept commits, as text. No program that a repository or its attributes
/// name has a hand in it.
pub(crate) fn diff(
    git: &Git<'_>,
    evidence: &Evidence,
    base: &Oid,
    tip: &Oid,
    kind: DiffKind,
) -> Result<Vec<u8>, LookError> {
    // Git gathers all paths before it says the first.
    let comparison = Comparison { git, folder: evidence.folder(), looks: evidence.looks() };
    comparison.paths_between(base, tip)?;
    let options: &[&str] = match kind {
        DiffKind::Text => &["-p", "--full-index"],
        DiffKind::Stat => &["--stat=100"],
    };
    git.call(evidence.folder(), "diff-tree")
        .args(["-r", "-M", "--no-ext-diff", "--no-textconv", "--no-color"])
        .args(["--src-prefix=a/", "--dst-prefix=b/", "--submodule=short"])
        .arg("--ignore-submodules=none")
        .args(options)
        .args([base.as_str(), tip.as_str()])
        .config("core.attributesFile", "/dev/null")
        .output_max(limits::DIFF_BYTES_MAX)
        .run()
        .map_err(of_evidence)
}

/// Whether a base has what a tip has done, in whatever commits, as after a squash merge.
pub(crate) fn is_in_base(
    git: &Git<'_>,
    evidence: &Evidence,
    base: &Oid,
    tip: &Oid,
) -> Result<bool, LookError> {
    let comparison = Comparison { git, folder: evidence.folder(), looks: evidence.looks() };
    comparison.has_all_of(base, tip, &[base])
}

/// Where work on a branch forks from a base: what a diff begins at.
pub(crate) fn fork(
    git: &Git<'_>,
    evidence: &Evidence,
    base: &Oid,
    tip: &Oid,
) -> Result<Option<Oid>, LookError> {
    Comparison { git, folder: evidence.folder(), looks: evidence.looks() }.merge_base(base, tip)
}

#[cfg(test)]
#[path = "new_work_tests.rs"]
mod tests;
