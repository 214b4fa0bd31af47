//! Files of git-lfs that may never have been pushed: those to which no pointer on the remote leads.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Found, Loss, Saved, TREE};
use crate::git::Oid;
use crate::git::call::Git;
use crate::git::evidence::LookError;
use crate::git::folder::{Kind, Next, Seen, walk};
use crate::git::looker::Looker;
use crate::git::patches::of_evidence;
use crate::git::refs::CloneRefs;
use crate::git::vet;
use crate::job::limits;

/// Digits of the name of a large file.
const NAME_DIGITS: usize = 64;

pub(super) fn find(
    git: &Git<'_>,
    looks: &Path,
    clone: &Path,
    refs: &CloneRefs,
    saved: &Saved<'_>,
    found: &mut Found,
) -> Result<(), LookError> {
    let mut files: Vec<(String, u64)> = Vec::new();
    let Some(lfs) = vet::open_git(clone)?.folder("lfs")? else {
        return Ok(());
    };
    let Some(objects) = lfs.folder("objects")? else {
        return Ok(());
    };
    walk(objects, TREE, |seen| {
        match seen {
            Seen::Entry { folder, entry, .. } if entry.kind == Kind::File => {
                let name = entry.name.to_string_lossy();
                if name.len() == NAME_DIGITS {
                    let bytes = folder.stat(&entry.name)?.map_or(0, |stat| stat.bytes);
                    files.push((name.into_owned(), bytes));
                }
            }
            Seen::Entry { .. } => {}
            Seen::Unseen { path, .. } => {
                found.add(Loss::Unseen, path.display().to_string(), 0);
            }
        }
        Ok(Next::Enter)
    })?;
    if files.is_empty() {
        return Ok(());
    }
    // Without an answer none of them is known to be pushed.
    let pushed = pointers(git, looks, clone, refs, saved).unwrap_or_default();
    for (name, bytes) in files.into_iter().filter(|(name, _)| !pushed.contains(name)) {
        found.add(Loss::LargeFile, name, bytes);
    }
    Ok(())
}

/// The large files that commits of the remote point to, so far as the clone works on these commits.
fn pointers(
    git: &Git<'_>,
    looks: &Path,
    clone: &Path,
    refs: &CloneRefs,
    saved: &Saved<'_>,
) -> Result<BTreeSet<String>, LookError> {
    let objects = [clone.join(".git/objects"), saved.mirror.join("objects")];
    let looker = Looker::new(looks, &[&objects[0], &objects[1]]).map_err(LookError::Own)?;
    let known: BTreeSet<&Oid> = saved.known.iter().chain([saved.base]).collect();
    let tips = refs.tips();
    let mut trees: BTreeSet<&Oid> =
        tips.iter().map(|tip| &tip.oid).filter(|oid| known.contains(oid)).collect();
    trees.insert(saved.base);
    let mut found = BTreeSet::new();
    for tree in trees.into_iter().take(limits::POINTER_TREES_MAX) {
        let call = looker
            .call(git, "grep")
            .args(["-h", "-o", "-a", "-E", "--no-textconv", "--no-color", "--no-column"])
            .args(["--no-line-number", "-e", "^oid sha256:[0-9a-f]{64}", tree.as_str()])
            .config("core.attributesFile", "/dev/null")
            .config("submodule.recurse", "false");
        let text = call.ask().map_err(of_evidence)?.unwrap_or_default();
        let names = text.lines().filter_map(|line| line.strip_prefix("oid sha256:"));
        found.extend(names.map(str::to_string));
    }
    Ok(found)
}
