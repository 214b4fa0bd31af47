//! Files that no commit has: changed, untracked and ignored ones.

use std::collections::BTreeSet;
use std::path::Path;

use super::nested::Nested;
use super::{Apart, Found, Loss, Saved, measure, open_clone, shown};
use crate::git::call::Git;
use crate::git::changes::{ChangeKind, Files, parse_status};
use crate::git::evidence::LookError;
use crate::git::folder::Folder;

/// Names files that no commit has.
pub(super) fn find(
    git: &Git<'_>,
    clone: &Path,
    files: &Files<'_>,
    nested: &[Nested],
    saved: &Saved<'_>,
    found: &mut Found,
) -> Result<(), LookError> {
    let top = open_clone(clone)?;
    let repositories: BTreeSet<&[u8]> = nested.iter().map(|n| n.path.as_slice()).collect();
    let is_repository =
        |path: &[u8]| repositories.contains(path.strip_suffix(b"/").unwrap_or(path));
    for (kind, path) in changed(git, files, saved)? {
        let what = match kind {
            ChangeKind::Changed | ChangeKind::Unmerged => Loss::Change,
            ChangeKind::Untracked => Loss::Untracked,
        };
        if is_repository(&path) {
            continue;
        }
        let size = measure(&top, &path, Apart { disposable: &[], nested })?;
        // An untracked folder may hold nothing but repositories.
        if size.files > 0 || what == Loss::Change {
            found.add_several(what, shown(&path), size.bytes, size.files.max(1));
        }
    }
    for path in ignored(git, files)? {
        if !is_repository(&path) {
            add_ignored(&top, &path, Apart { disposable: saved.disposable, nested }, found)?;
        }
    }
    find_hidden(git, &top, files, found)
}

/// What is changed and was not always.
fn changed(
    git: &Git<'_>,
    files: &Files<'_>,
    saved: &Saved<'_>,
) -> Result<Vec<(ChangeKind, Vec<u8>)>, LookError> {
    let listing = files.status(git)?;
    let all = parse_status(&listing).map(|(kind, path)| (kind, path.to_vec()));
    let Some(phantoms) = saved.phantoms.filter(|phantoms| !phantoms.is_empty()) else {
        return Ok(all.collect());
    };
    let now = files.changes(git)?;
    let is_phantom = |path: &[u8]| {
        let of_path = now.entries.iter().find(|change| change.path.as_bytes() == path);
        of_path.is_some_and(|change| phantoms.entries.contains(change))
    };
    Ok(all.filter(|(_, path)| !is_phantom(path)).collect())
}

/// Files and folders that are ignored, as git lists them: a folder ends in `/`.
pub(super) fn ignored(git: &Git<'_>, files: &Files<'_>) -> Result<Vec<Vec<u8>>, LookError> {
    const IGNORED: [&str; 5] = ["--others", "--ignored", "--exclude-standard", "--directory", "-z"];
    let listing = files.ask(git, "ls-files", &IGNORED)?;
    let paths = listing.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    Ok(paths.map(<[u8]>::to_vec).collect())
}

fn add_ignored(
    top: &Folder,
    path: &[u8],
    apart: Apart<'_>,
    found: &mut Found,
) -> Result<(), LookError> {
    let is_folder = path.ends_with(b"/");
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|p| !p.is_empty()).collect();
    let folders = if is_folder { parts.len() } else { parts.len() - 1 };
    let is_named = |part: &&[u8]| apart.disposable.iter().any(|name| name.as_bytes() == *part);
    if parts[..folders].iter().any(is_named) {
        return Ok(());
    }
    let size = measure(top, path, apart)?;
    if size.files > 0 {
        found.add_several(Loss::Ignored, shown(path), size.bytes, size.files);
    }
    Ok(())
}

/// Changes that the index hides: of files that it was told to take for unchanged, or not to mind.
fn find_hidden(
    git: &Git<'_>,
    top: &Folder,
    files: &Files<'_>,
    found: &mut Found,
) -> Result<(), LookError> {
    let listing = files.ask(git, "ls-files", &["-v", "-z"])?;
    let hidden: BTreeSet<&[u8]> = listing
        .split(|byte| *byte == 0)
        .filter(|line| line.first().is_some_and(|tag| tag.is_ascii_lowercase() || *tag == b'S'))
        .filter_map(|line| line.get(2..))
        .collect();
    if hidden.is_empty() {
        return Ok(());
    }
    files.make_index(git)?;
    let listing = files.status(git)?;
    for (_, path) in parse_status(&listing).filter(|(_, path)| hidden.contains(path)) {
        // One that is not there was left out of a sparse checkout.
        let size = measure(top, path, Apart::default())?;
        if size.files > 0 {
            found.add(Loss::Change, shown(path), size.bytes);
        }
    }
    Ok(())
}
