//! Commits and stashes that are nowhere else.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Found, Loss, Saved};
use crate::git::Oid;
use crate::git::call::Git;
use crate::git::evidence::LookError;
use crate::git::looker::Looker;
use crate::git::new_work::count_fresh;
use crate::git::patches::{Commit, CommitKind, Comparison};
use crate::git::refs::CloneRefs;

/// Names what the clone's references, HEADs and stashes lead to and the remote does not have.
pub(super) fn find(
    git: &Git<'_>,
    looks: &Path,
    clone: &Path,
    refs: &CloneRefs,
    saved: &Saved<'_>,
    found: &mut Found,
) -> Result<(), LookError> {
    let objects = [clone.join(".git/objects"), saved.mirror.join("objects")];
    let looker = Looker::new(looks, &[&objects[0], &objects[1]]).map_err(LookError::Own)?;
    let comparison = Comparison { git, folder: looker.folder(), looks };
    let known: Vec<&Oid> = saved.known.iter().chain([saved.base]).collect();
    let mut tips: BTreeMap<Oid, String> = BTreeMap::new();
    for tip in refs.tips() {
        if !refs.stashes.contains(&tip.oid) && !known.contains(&&tip.oid) {
            tips.entry(tip.oid).or_insert(tip.name);
        }
    }
    let questions: Vec<String> = tips.keys().map(|oid| format!("{oid}^{{commit}}")).collect();
    let commits = comparison.resolve(&questions)?;
    let mut unsaved: Vec<(Oid, String, Vec<Commit>)> = Vec::new();
    for ((oid, name), commit) in tips.into_iter().zip(commits) {
        match commit {
            // Not there, or no commit: that it is on the remote cannot be told.
            None => found.add(Loss::Unseen, format!("{name} ({oid})"), 0),
            Some(commit) => {
                let commits = comparison.commits(&[&commit], &known, CommitKind::All)?;
                if !commits.is_empty()
                    && !is_merged(&comparison, (&name, &commit), &commits, &known, saved)?
                {
                    unsaved.push((commit, name, commits));
                }
            }
        }
    }
    // A tip that lies behind another one is said with it.
    for (index, (oid, name, commits)) in unsaved.iter().enumerate() {
        let is_behind = |(other, theirs): (usize, &(Oid, String, Vec<Commit>))| {
            let has = theirs.2.iter().any(|commit| commit.oid == *oid);
            other != index && has && (theirs.0 != *oid || other < index)
        };
        if !unsaved.iter().enumerate().any(is_behind) {
            let bytes = comparison.bytes(&[oid], &known)?;
            found.add_several(Loss::Commits, name.clone(), bytes, commits.len() as u64);
        }
    }
    for (number, stash) in refs.stashes.iter().enumerate() {
        let bytes = comparison.bytes(&[stash], &known).unwrap_or(0);
        found.add(Loss::Stash, format!("stash@{{{number}}}"), bytes);
    }
    Ok(())
}

/// Whether the remote has what these commits do, in other commits: squashed, picked or rebased.
fn is_merged(
    comparison: &Comparison<'_>,
    (name, tip): (&str, &Oid),
    commits: &[Commit],
    known: &[&Oid],
    saved: &Saved<'_>,
) -> Result<bool, LookError> {
    let paths = comparison.paths(commits)?;
    let mut plain = commits.iter().filter(|commit| commit.parents.len() < 2).peekable();
    let changes_nothing = |commit: &Commit| paths.get(&commit.oid).is_none_or(|p| p.is_empty());
    if name.starts_with("refs/tags/") && plain.peek().is_some() && plain.all(changes_nothing) {
        // An empty commit that somebody has marked is kept for what it says.
        return Ok(false);
    }
    if count_fresh(comparison, commits, &paths, tip, known)? == 0 {
        return Ok(true);
    }
    comparison.has_all_of(saved.base, tip, known)
}
