//! Which paths commits change, read tree by tree to a bound.
//!
//! Git would gather all paths before it says the first: a planted tree of ten thousand million
//! paths, which is ten objects, would fill the memory first.

use std::collections::{BTreeMap, BTreeSet};

use crate::git::Oid;
use crate::git::evidence::LookError;
use crate::git::folder::Unreadable;
use crate::git::patches::{Commit, Comparison, Paths, strange};
use crate::job::limits;

/// A tree, as a question to git: an id, or `COMMIT^{tree}`.
type Query = String;

/// Two trees to be compared.
struct Pair {
    /// Which of the comparisons it is part of.
    of: usize,
    /// Where the trees lie, with a `/` behind it.
    prefix: Vec<u8>,
    old: Option<Query>,
    new: Option<Query>,
}

/// What a tree has: each name with its mode and its object.
type Tree = BTreeMap<Vec<u8>, (Vec<u8>, Oid)>;

/// The paths that each commit changes, against its first parent.
pub(super) fn paths_of(
    comparison: &Comparison<'_>,
    commits: &[Commit],
) -> Result<BTreeMap<Oid, Paths>, LookError> {
    let pairs = commits.iter().enumerate().map(|(of, commit)| Pair {
        of,
        prefix: Vec::new(),
        old: commit.parents.first().map(|parent| format!("{parent}^{{tree}}")),
        new: Some(commit.tree.to_string()),
    });
    let all = compare(comparison, pairs.collect(), commits.len())?;
    Ok(commits.iter().map(|commit| commit.oid.clone()).zip(all).collect())
}

/// The paths that lie between two commits.
pub(super) fn paths_between(
    comparison: &Comparison<'_>,
    from: &Oid,
    to: &Oid,
) -> Result<Paths, LookError> {
    let tree = |oid: &Oid| Some(format!("{oid}^{{tree}}"));
    let pair = Pair { of: 0, prefix: Vec::new(), old: tree(from), new: tree(to) };
    Ok(compare(comparison, vec![pair], 1)?.remove(0))
}

/// Compares level by level; one question to git for each.
fn compare(
    comparison: &Comparison<'_>,
    mut pairs: Vec<Pair>,
    count: usize,
) -> Result<Vec<Paths>, LookError> {
    let mut all = vec![Paths::new(); count];
    let mut bytes_left = limits::COMPARED_TREES_BYTES_MAX;
    let mut steps_left = limits::COMPARED_PATHS_ALL_MAX;
    for _ in 0..limits::TREE_DEPTH_MAX {
        if pairs.is_empty() {
            return Ok(all);
        }
        let queries: BTreeSet<&Query> =
            pairs.iter().flat_map(|pair| pair.old.iter().chain(&pair.new)).collect();
        let trees = read_trees(comparison, &queries, &mut bytes_left)?;
        let mut next = Vec::new();
        for pair in &pairs {
            let nothing = Tree::new();
            let tree = |query: &Option<Query>| query.as_ref().map_or(&nothing, |q| &trees[q]);
            for (path, below) in differences(pair, tree(&pair.old), tree(&pair.new)) {
                if steps_left == 0 {
                    return Err(too_many());
                }
                steps_left -= 1;
                match below {
                    Some(below) => next.push(below),
                    None => drop(all[pair.of].insert(path)),
                }
            }
        }
        pairs = next;
    }
    Err(Unreadable::TooLarge("folders are too deep to compare".into()).into())
}

fn too_many() -> LookError {
    let limit = limits::COMPARED_PATHS_ALL_MAX;
    Unreadable::TooLarge(format!("more than {limit} changed paths to compare")).into()
}

/// What two trees do not have in common: a path, or a pair of trees that lie there.
fn differences(pair: &Pair, old: &Tree, new: &Tree) -> Vec<(Vec<u8>, Option<Pair>)> {
    let names: BTreeSet<&Vec<u8>> = old.keys().chain(new.keys()).collect();
    let mut found = Vec::new();
    for name in names.into_iter().filter(|name| old.get(*name) != new.get(*name)) {
        let path = [&pair.prefix[..], name].concat();
        let as_tree = |tree: &Tree| {
            let entry = tree.get(name).filter(|(mode, _)| mode == b"40000");
            entry.map(|(_, oid)| oid.to_string())
        };
        let is_file = |tree: &Tree| tree.get(name).is_some_and(|(mode, _)| mode != b"40000");
        if is_file(old) || is_file(new) {
            found.push((path.clone(), None));
        }
        let (old, new) = (as_tree(old), as_tree(new));
        if old.is_some() || new.is_some() {
            let prefix = [&path[..], b"/"].concat();
            found.push((path, Some(Pair { of: pair.of, prefix, old, new })));
        }
    }
    found
}

fn read_trees(
    comparison: &Comparison<'_>,
    queries: &BTreeSet<&Query>,
    bytes_left: &mut u64,
) -> Result<BTreeMap<Query, Tree>, LookError> {
    let listing = comparison.objects(queries, *bytes_left)?;
    *bytes_left = bytes_left.saturating_sub(listing.len() as u64);
    let mut rest = listing.as_slice();
    let mut trees = BTreeMap::new();
    for query in queries {
        let (tree, behind) = parse_object(rest).ok_or_else(|| strange("cat-file"))?;
        trees.insert((*query).clone(), tree);
        rest = behind;
    }
    Ok(trees)
}

/// Reads one answer of `cat-file --batch`: `OID tree SIZE`, a line's end, the tree, a line's end.
fn parse_object(text: &[u8]) -> Option<(Tree, &[u8])> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&text[..end]).ok()?;
    let mut words = head.split(' ');
    let (Some(_), Some("tree"), Some(size)) = (words.next(), words.next(), words.next()) else {
        return None;
    };
    let body = text.get(end + 1..)?;
    let size: usize = size.parse().ok()?;
    let tree = parse_tree(body.get(..size)?)?;
    Some((tree, body.get(size + 1..)?))
}

/// Reads a tree: `MODE NAME`, a zero, the twenty bytes of an id, for each name.
fn parse_tree(mut bytes: &[u8]) -> Option<Tree> {
    const ID_BYTES: usize = 20;
    let mut tree = Tree::new();
    while !bytes.is_empty() {
        let blank = bytes.iter().position(|byte| *byte == b' ')?;
        let zero = bytes.iter().position(|byte| *byte == 0).filter(|zero| *zero > blank)?;
        let id = bytes.get(zero + 1..zero + 1 + ID_BYTES)?;
        let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        // Some old programs wrote zeros before the mode.
        let zeros = bytes[..blank].iter().take_while(|byte| **byte == b'0').count();
        let entry = (bytes[zeros..blank].to_vec(), digits.parse().ok()?);
        tree.insert(bytes[blank + 1..zero].to_vec(), entry);
        bytes = &bytes[zero + 1 + ID_BYTES..];
    }
    Some(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(entries: &[(&str, &str, u8)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (mode, name, id) in entries {
            bytes.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            bytes.extend_from_slice(&[*id; 20]);
        }
        bytes
    }

    #[test]
    fn trees_are_read_and_compared() {
        let old = tree(&[
            ("100644", "changed", 1),
            ("40000", "folder", 2),
            ("100644", "gone", 3),
            ("100644", "grown", 4),
            ("100644", "mode", 5),
            ("100644", "same one", 6),
            ("40000", "still", 7),
        ]);
        let new = tree(&[
            ("100644", "changed", 9),
            ("40000", "folder", 8),
            ("40000", "grown", 4),
            ("100755", "mode", 5),
            ("120000", "new", 1),
            ("100644", "same one", 6),
            ("040000", "still", 7),
        ]);
        let (old, new) = (parse_tree(&old).unwrap(), parse_tree(&new).unwrap());
        let pair = Pair { of: 3, prefix: b"a/".to_vec(), old: None, new: None };
        let found: Vec<String> = differences(&pair, &old, &new)
            .into_iter()
            .map(|(path, below)| {
                let path = String::from_utf8(path).unwrap();
                match below {
                    None => path,
                    Some(below) => format!(
                        "{path} {} {}",
                        below.old.map_or("-".into(), |old| old[..2].to_string()),
                        below.new.map_or("-".into(), |new| new[..2].to_string())
                    ),
                }
            })
            .collect();
        let expected =
            ["a/changed", "a/folder 02 08", "a/gone", "a/grown", "a/grown - 04", "a/mode", "a/new"];
        assert_eq!(found, expected);
    }

    #[test]
    fn answers_are_read_one_by_one() {
        let body = tree(&[("100644", "x\ny", 10)]);
        let id = "0123456789012345678901234567890123456789";
        let mut text = format!("{id} tree {}\n", body.len()).into_bytes();
        text.extend_from_slice(&body);
        text.extend_from_slice(b"\nrest");
        let (tree, rest) = parse_object(&text).unwrap();
        assert_eq!((tree.len(), rest), (1, b"rest".as_slice()));
        assert!(tree.contains_key(b"x\ny".as_slice()));
        for text in
            [format!("{id} missing\n"), format!("{id} blob 0\n\n"), format!("{id} tree 9\n")]
        {
            assert!(parse_object(text.as_bytes()).is_none(), "{text}");
        }
        assert!(parse_tree(&body[..body.len() - 1]).is_none());
    }
}
