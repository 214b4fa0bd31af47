//! What would be lost with clones as agents leave them.

use super::*;
use crate::git::changes;
use crate::git::trial::{Trial, in_parallel};

/// `what was done | what would be lost`: kinds and names, in the order of kinds.
const TABLE: &str = r#"
nothing | : | -
a commit | c x 1 | commits refs/heads/issue-1
two commits are one line | c x 1; c y 1 | commits refs/heads/issue-1 x2
a pushed commit | c x 1; git push -q origin issue-1 | -
pushed to another branch | c x 1; git push -q origin issue-1:other | -
pushed, by the clone's word alone | c x 1; git update-ref refs/remotes/origin/issue-1 HEAD | commits refs/heads/issue-1
on another branch | git checkout -q -b mine; c x 1; git checkout -q issue-1 | commits refs/heads/mine
a branch behind another | c x 1; git branch mine; c y 1 | commits refs/heads/issue-1 x2
detached | git checkout -q --detach; c x 1 | commits HEAD
in a tag alone | git checkout -q --detach; c x 1; git tag t; git checkout -q issue-1 | commits refs/tags/t
in a note | git notes add -m hello | commits refs/notes/commits
an empty commit | git commit -q --allow-empty -m e | -
an empty commit with a tag | git tag keep $(git commit-tree -m x -p HEAD HEAD:) | commits refs/tags/keep
squash-merged | c x 1; c y 1; (cd $T/seed; printf '%s\n' 1 > x; printf '%s\n' 1 > y; git add x y; git commit -qm squashed; git push -q origin main) | -
squash-merged, and the base went on | c x 1; c y 1; (cd $T/seed; printf '%s\n' 1 > x; printf '%s\n' 1 > y; git add x y; git commit -qm squashed; git push -q origin main); up x 2 | -
rebase-merged | c x 1; c y 1; up x 1; up y 1 | -
cherry-picked in part | c x 1; c y 1; up x 1 | commits refs/heads/issue-1 x2
merged into the base | c x 1; git push -q origin issue-1:main | -
merged, with more since | c x 1; git push -q origin issue-1:main; c y 1 | commits refs/heads/issue-1
stash | echo 1 > README; git stash -q | stash stash@{0}
two stashes | echo 1 > README; git stash -q; echo 2 > README; git stash -q | stash stash@{0}, stash stash@{1}
a change | echo 1 > README | change README
a staged change | echo 1 > README; git add README | change README
a deletion | rm README | change README
a change that the index hides | git update-index --assume-unchanged README; echo 1 > README | change README
a change that it is not to mind | git update-index --skip-worktree README; echo 1 > README | change README
a sparse checkout | git update-index --skip-worktree README; rm README | -
an untracked file | echo 1 > new | untracked new
an untracked folder | mkdir -p new/below; echo 1 > new/a; echo 1 > new/below/b | untracked new/ x2
an empty folder | mkdir new | -
an ignored file | echo secret > .env.ignored | ignored .env.ignored
an ignored folder | mkdir -p ignored/a; echo 1 > ignored/a/b; echo 1 > ignored/c | ignored ignored/ x2
what can be made again | printf 'target/\nnode_modules/\n' > .git/info/exclude; mkdir -p target/a node_modules/b; echo 1 > target/a/x; echo 1 > node_modules/b/y | -
what can be made again, deeper | mkdir -p ignored/node_modules/x; echo 1 > ignored/node_modules/x/y | -
notes beside what can be made again | mkdir -p ignored/node_modules/x; echo 1 > ignored/node_modules/x/y; echo 1 > ignored/notes | ignored ignored/
a file with the name of a folder | echo target >> .git/info/exclude; echo 1 > target | ignored target
a repository | git init -q nested; (cd nested; c x 1) | repository nested
a repository without a commit | git init -q nested | repository nested
an ignored repository | mkdir ignored; git init -q ignored/nested | repository ignored/nested
a repository where all can be made again | printf 'target/\n' > .git/info/exclude; git init -q target/deps/x | repository target/deps/x
a bare repository | mkdir ignored; git init -q --bare ignored/x.git | repository ignored/x.git
a worktree in the clone | git worktree add -q ignored/w; (cd ignored/w; echo 1 > y) | worktree ignored/w
a clean worktree in the clone | git worktree add -q --detach ignored/w | -
a worktree outside | git worktree add -q $T/w | worktree /w
a submodule as it should be | sub | -
a submodule with a commit | sub; (cd sub; git checkout -q --detach; c y 1) | submodule sub
a submodule with a branch | sub; (cd sub; git checkout -q -b mine; c y 1; git checkout -q -) | submodule sub
a submodule at another commit | sub; (cd sub; git checkout -q HEAD~1) | submodule sub
a submodule with a change | sub; (cd sub; echo 2 > README) | submodule sub
a submodule with an untracked file | sub; echo 2 > sub/new | submodule sub
a submodule with an ignored file | sub; echo 2 > sub/new.ignored | submodule sub
a submodule with a stash | sub; (cd sub; echo 2 > README; git stash -q) | submodule sub
a submodule that cannot be read | sub; m=$(git -C sub rev-parse --absolute-git-dir); rm $m/HEAD; mkfifo $m/HEAD | any
large files | mkdir -p .git/lfs/objects/aa/bb; echo 1 > .git/lfs/objects/aa/bb/$(seq -s '' -w 32) | large
large files of the base | n=$(seq -s '' -w 32); mkdir -p .git/lfs/objects/01/02; echo 1 > .git/lfs/objects/01/02/$n; c l 'version https://git-lfs.github.com/spec/v1' "oid sha256:$n" 'size 1'; git push -q origin issue-1:main | -
large files that a commit of its own names | n=$(seq -s '' -w 32); mkdir -p .git/lfs/objects/01/02; echo 1 > .git/lfs/objects/01/02/$n; c l 'version https://git-lfs.github.com/spec/v1' "oid sha256:$n" 'size 1' | commits refs/heads/issue-1, large
a merge half done | c src/a.txt x; up src/a.txt y; git fetch -q; merge origin/main; git push -q origin issue-1 | change src/a.txt, half done
a rebase half done | c src/a.txt x; up src/a.txt y; git fetch -q; git push -q origin issue-1; git rebase -q origin/main >/dev/null 2>&1 || true | change src/a.txt, half done
a socket | python3 -c "import socket; socket.socket(socket.AF_UNIX).bind('s')" | -
a pipe | mkfifo p | -
a pipe for a file | rm README; mkfifo README | change README
a link to another folder | ln -s /etc l | untracked l
an ignored link to another folder | ln -s /etc l.ignored | ignored l.ignored
several | echo 1 > README; echo 1 > new; c x 1 | commits refs/heads/issue-1, change README, untracked new
"#;

const SETTING: &str = r#"
sub() { git submodule add -q ../origin.git sub 2>/dev/null; git commit -qm sub; git push -q origin issue-1; }
"#;

fn saved_now(trial: &Trial) -> Result<Vec<Unsaved>, LookError> {
    let remote = trial.fetch();
    let base = remote.iter().find(|(name, _)| name.as_str() == "main").unwrap().1.clone();
    let known: Vec<Oid> = remote.into_iter().map(|(_, oid)| oid).collect();
    let disposable = ["node_modules".to_string(), "target".to_string()];
    let saved = Saved {
        mirror: &trial.path("mirror.git"),
        known: &known,
        base: &base,
        disposable: &disposable,
        phantoms: None,
    };
    unsaved(&trial.git(), &trial.looks(), &trial.clone(), &saved)
}

fn in_words(trial: &Trial, unsaved: &Unsaved) -> String {
    let kind = match unsaved.what {
        Loss::Commits => "commits",
        Loss::Stash => "stash",
        Loss::Change => "change",
        Loss::Untracked => "untracked",
        Loss::Ignored => "ignored",
        Loss::Repository => "repository",
        Loss::Submodule => "submodule",
        Loss::Worktree => "worktree",
        Loss::LargeFile => return "large".into(),
        Loss::HalfDone => return "half done".into(),
        Loss::Unseen => "unseen",
    };
    let top = trial.path("").display().to_string();
    let name = unsaved.name.replace(top.trim_end_matches('/'), "");
    let counted = matches!(unsaved.what, Loss::Commits | Loss::Untracked | Loss::Ignored);
    match unsaved.count {
        count if count > 1 && counted => format!("{kind} {name} x{count}"),
        _ => format!("{kind} {name}"),
    }
}

fn check(row: &str) -> Option<String> {
    let (rest, expected) = row.rsplit_once('|').unwrap();
    let (name, script) = rest.split_once('|').unwrap_or((rest, ":"));
    let expected = expected.trim();
    let trial = Trial::new();
    if let Err(words) = trial.try_run(&format!("{SETTING}\n{script}")) {
        return Some(format!("{name}: {words}"));
    }
    let said = match saved_now(&trial) {
        Ok(list) if list.is_empty() => "-".to_string(),
        Ok(list) => list.iter().map(|u| in_words(&trial, u)).collect::<Vec<_>>().join(", "),
        Err(error) => format!("{error:?}"),
    };
    let fits = expected == "any" && said != "-" || said == expected;
    (!fits).then(|| format!("{name}: {said}, expected {expected}"))
}

#[test]
fn what_would_be_lost() {
    let rows: Vec<&str> = TABLE.lines().filter(|line| !line.trim().is_empty()).collect();
    let wrong = in_parallel(&rows, |row| check(row));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn sizes_are_told() {
    let trial = Trial::new();
    trial.run("mkdir ignored; head -c 1000 /dev/zero > ignored/a; head -c 500 /dev/zero > new");
    let list = saved_now(&trial).unwrap();
    let sizes: Vec<(Loss, u64)> =
        list.iter().map(|unsaved| (unsaved.what, unsaved.bytes)).collect();
    assert_eq!(sizes, [(Loss::Untracked, 500), (Loss::Ignored, 1000)]);
}

#[test]
fn what_always_looked_changed_is_not_lost() {
    let trial = Trial::new();
    trial.run("echo phantom > README; echo phantom > src/a.txt");
    let refs = CloneRefs::read(&trial.clone()).unwrap();
    let phantoms = changes::changes(&trial.git(), &trial.looks(), &trial.clone(), &refs).unwrap();
    trial.run("echo more >> src/a.txt");
    let base = trial.oid("refs/remotes/origin/main");
    let saved = Saved {
        mirror: &trial.path("mirror.git"),
        known: &[],
        base: &base,
        disposable: &[],
        phantoms: Some(&phantoms),
    };
    let list = unsaved(&trial.git(), &trial.looks(), &trial.clone(), &saved).unwrap();
    let names: Vec<&str> = list.iter().map(|unsaved| unsaved.name.as_str()).collect();
    assert_eq!(names, ["src/a.txt"]);
}

#[test]
fn of_many_only_some_are_named() {
    let mut found = Found::default();
    for number in 0..2 * limits::UNSAVED_NAMED_MAX as u64 {
        found.add(Loss::Change, number.to_string(), 1);
    }
    found.add(Loss::Ignored, "x".into(), 7);
    let list = found.into_list();
    assert_eq!(list.len(), limits::UNSAVED_NAMED_MAX + 1);
    assert_eq!(list.iter().map(|unsaved| unsaved.count).sum::<u64>(), 401);
    assert_eq!(list.iter().map(|unsaved| unsaved.bytes).sum::<u64>(), 407);
}
