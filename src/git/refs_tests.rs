//! Clones as agents may leave them: each plant is named, none is followed, waited for or executed.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::*;
use crate::git::changes::{Files, Patience};
use crate::git::evidence::{AttemptOf, LookError, Replacing, Slot};
use crate::git::trial::Trial;
use crate::job::JobId;

/// `what is planted | references | objects | changes`, each `ok`, or the kind of answer and a word
/// that it has. An agent has committed `x` and changed `README` before.
///
/// `$G` is the clone's `.git`, `$O` the new commit's file of a loose object, `plant` makes a program that
/// leaves a mark.
const PLANTS: &str = r#"
nothing | : | ok | ok | ok
.git gone | rm -rf $G | no_clone .git | - | -
.git as a file | mv $G ../g; echo "gitdir: $T/g" > $G | no_clone file | - | -
.git as a link | mv $G ../g; ln -s ../g $G | no_clone link | - | -
.git as a pipe | rm -rf $G; mkfifo $G | no_clone pipe | - | -
clone gone | rm -rf $T/clone | no_clone gone | - | -
clone as a link | mv $T/clone $T/c; ln -s c $T/clone | no_clone link | - | -
HEAD as a pipe | rm $G/HEAD; mkfifo $G/HEAD | hostile HEAD | - | -
HEAD as a link | mv $G/HEAD $G/h; ln -s h $G/HEAD | hostile HEAD | - | -
HEAD as a folder | rm $G/HEAD; mkdir $G/HEAD | hostile HEAD | - | -
HEAD as zeros | rm $G/HEAD; mknod $G/HEAD c 1 5 2>/dev/null || ln -s /dev/zero $G/HEAD | hostile HEAD | - | -
HEAD empty | : > $G/HEAD | no_clone HEAD | - | -
HEAD of zero bytes | printf '\0\0\0\0' > $G/HEAD | no_clone HEAD | - | -
HEAD of garbage | echo garbage > $G/HEAD | no_clone HEAD | - | -
HEAD outside of refs | echo 'ref: ../../etc/passwd' > $G/HEAD | no_clone HEAD | - | -
HEAD gone | rm $G/HEAD | no_clone HEAD | - | -
HEAD huge | truncate -s 10G $G/HEAD | too_large HEAD | - | -
refs gone | rm -rf $G/refs | no_clone refs | - | -
refs as a link | mv $G/refs $G/r; ln -s r $G/refs | hostile refs | - | -
heads as a link | mv $G/refs/heads $G/r; ln -s ../r $G/refs/heads | hostile heads | - | -
heads as a pipe | rm -rf $G/refs/heads; mkfifo $G/refs/heads | hostile heads | - | -
a reference as a pipe | mkfifo $G/refs/heads/pipe | hostile pipe | - | -
a reference as a link | ln -s issue-1 $G/refs/heads/link | hostile link | - | -
a reference as a link outside | ln -s /etc/passwd $G/refs/heads/link | hostile link | - | -
the branch as a pipe | rm $G/refs/heads/issue-1; mkfifo $G/refs/heads/issue-1 | hostile issue-1 | - | -
the branch empty | : > $G/refs/heads/issue-1 | no_clone issue-1 | - | -
the branch of zero bytes | head -c 41 /dev/zero > $G/refs/heads/issue-1 | no_clone issue-1 | - | -
the branch huge | truncate -s 1G $G/refs/heads/issue-1 | too_large issue-1 | - | -
the branch names nothing | echo 0123456789012345678901234567890123456789 > $G/refs/heads/issue-1 | ok | no_clone 0123 | -
the branch names a tree | t=$(git rev-parse HEAD^{tree}); echo $t > $G/refs/heads/issue-1 | ok | no_clone commit | -
another reference names nothing | echo 0123456789012345678901234567890123456789 > $G/refs/heads/x | ok | ok | ok
a circle of references | echo 'ref: refs/heads/b' > $G/refs/heads/a; echo 'ref: refs/heads/a' > $G/refs/heads/b | ok | ok | ok
a symbolic reference outside | echo 'ref: ../../../etc/passwd' > $G/refs/heads/a | ok | ok | ok
a lock left behind | touch $G/index.lock $G/HEAD.lock $G/refs/heads/issue-1.lock $G/packed-refs.lock | ok | ok | ok
an odd name | echo x > "$G/refs/heads/$(printf 'a\033b')" | hostile name | - | -
deep folders | mkdir -p $G/refs/heads/$(seq -s / 40) | too_large deep | - | -
packed-refs as a pipe | rm -f $G/packed-refs; mkfifo $G/packed-refs | hostile packed-refs | - | -
packed-refs as a link | rm -f $G/packed-refs; ln -s /etc/passwd $G/packed-refs | hostile packed-refs | - | -
packed-refs huge | truncate -s 1G $G/packed-refs | too_large packed-refs | - | -
packed-refs of garbage | echo garbage > $G/packed-refs | no_clone packed-refs | - | -
packed-refs cut short | printf '0123' > $G/packed-refs | no_clone packed-refs | - | -
packed | git pack-refs --all | ok | ok | ok
reftable | git refs migrate --ref-format=reftable 2>/dev/null || mkdir $G/reftable | hostile reftable | - | -
reftable by its HEAD | echo 'ref: refs/heads/.invalid' > $G/HEAD | hostile references | - | -
sha256 | rm -rf $G; git init -q --object-format=sha256; c y 1; git branch -M issue-1 | hostile SHA-256 | - | -
begun again | rm -rf $G; git init -q; git add -A; c y 1; git branch -M issue-1 | ok | ok | ok
commondir | echo $T/origin.git > $G/commondir | hostile commondir | - | -
commondir as a pipe | mkfifo $G/commondir | hostile commondir | - | -
shallow | echo $h > $G/shallow | hostile shallow | - | -
shallow as a pipe | mkfifo $G/shallow | hostile shallow | - | -
grafts | echo $h > $G/info/grafts | hostile grafts | - | -
grafts as a pipe | mkfifo $G/info/grafts | hostile grafts | - | -
info as a link | mv $G/info $G/i; ln -s i $G/info | hostile info | - | -
alternates | echo $T/origin.git/objects > $G/objects/info/alternates | hostile alternates | - | -
alternates as a pipe | mkfifo $G/objects/info/alternates | hostile alternates | - | -
http-alternates | echo x > $G/objects/info/http-alternates | hostile http-alternates | - | -
objects gone | rm -rf $G/objects | no_clone objects | - | -
objects as a link | mv $G/objects $G/o; ln -s o $G/objects | hostile objects | - | -
objects as a pipe | rm -rf $G/objects; mkfifo $G/objects | hostile objects | - | -
an object as a pipe | rm -f $O; mkfifo $O | hostile objects | - | -
an object as a link | mv $O $T/o; ln -s $T/o $O | hostile objects | - | -
an object as a socket | rm -f $O; python3 -c "import socket,os; os.chdir(os.path.dirname('$O')); socket.socket(socket.AF_UNIX).bind(os.path.basename('$O'))" | hostile objects | - | -
an object gone | rm -f $O | ok | no_clone object | -
an object empty | chmod +w $O; : > $O | ok | no_clone | -
an object of garbage | chmod +w $O; echo garbage > $O | ok | no_clone | -
another object in its place | chmod +w $O; cat $G/objects/$(git rev-parse HEAD^{tree} | sed 's#^..#&/#') > $O | ok | no_clone | -
a pack's index as a pipe | mkfifo $G/objects/pack/pack-0123456789012345678901234567890123456789.idx | hostile pack | - | -
a pack of garbage | echo x > $G/objects/pack/pack-0123456789012345678901234567890123456789.idx; echo x > $G/objects/pack/pack-0123456789012345678901234567890123456789.pack | ok | ok | ok
a midx as a pipe | mkfifo $G/objects/pack/multi-pack-index | hostile multi-pack-index | - | -
a midx of garbage | echo garbage > $G/objects/pack/multi-pack-index | ok | ok | ok
a commit-graph as a pipe | mkfifo $G/objects/info/commit-graph | hostile commit-graph | - | -
a commit-graph of garbage | echo garbage > $G/objects/info/commit-graph | ok | ok | ok
a folder among the objects | mkdir -p $G/objects/a/b/c/d/e/f | too_large deep | - | -
stash log as a pipe | echo 2 > README; git stash -q; rm $G/logs/refs/stash; mkfifo $G/logs/refs/stash; echo 2 > README | hostile stash | - | -
a remote's log as a pipe | mkdir -p $G/logs/refs/remotes/origin; rm -f $G/logs/refs/remotes/origin/main; mkfifo $G/logs/refs/remotes/origin/main | hostile main | - | -
a worktree's HEAD as a pipe | mkdir -p $G/worktrees/x; mkfifo $G/worktrees/x/HEAD | hostile HEAD | - | -
worktrees as a link | ln -s /etc $G/worktrees | hostile worktrees | - | -
config as a pipe | rm $G/config; mkfifo $G/config | ok | ok | ok
config gone | rm $G/config | ok | ok | ok
config of garbage | echo '[[[' > $G/config | ok | ok | ok
config that includes a pipe | mkfifo $G/p; git config include.path $G/p | ok | ok | ok
core.fsmonitor | plant f; git config core.fsmonitor $T/f | ok | ok | ok
core.hooksPath | mkdir h; plant h/post-index-change; plant h/reference-transaction; cp $T/h/* h; git config core.hooksPath $T/h | ok | ok | ok
hooks | mkdir -p $G/hooks; plant post-index-change; plant reference-transaction; cp $T/post-index-change $T/reference-transaction $G/hooks | ok | ok | ok
core.pager | plant p; git config core.pager $T/p; git config pager.status true | ok | ok | ok
core.sshCommand | plant p; git config core.sshCommand $T/p; git config core.gitProxy $T/p | ok | ok | ok
core.alternateRefsCommand | plant p; git config core.alternateRefsCommand $T/p | ok | ok | ok
core.worktree elsewhere | git config core.worktree /etc | ok | ok | ok
core.bare | git config core.bare true | ok | ok | ok
a filter | plant f; git config filter.f.clean $T/f; git config filter.f.process $T/f; echo '* filter=f' > .gitattributes; touch -d tomorrow src/a.txt | ok | ok | ok
a diff driver | plant f; git config diff.f.textconv $T/f; git config diff.f.command $T/f; git config diff.external $T/f; echo '* diff=f' > .gitattributes | ok | ok | ok
a merge driver | plant f; git config merge.f.driver $T/f; echo '* merge=f' > .gitattributes | ok | ok | ok
uploadpack.packObjectsHook | plant f; git config uploadpack.packObjectsHook $T/f | ok | ok | ok
a promisor remote | plant f; git config remote.origin.promisor true; git config remote.origin.url ext::$T/f; git config protocol.ext.allow always; git config extensions.partialClone origin; git config core.repositoryFormatVersion 1; rm -f $O | ok | no_clone object | -
an unknown extension | git config core.repositoryFormatVersion 1; git config extensions.future yes | ok | ok | ok
a future version | git config core.repositoryFormatVersion 99 | ok | ok | ok
worktree configuration | plant f; git config extensions.worktreeConfig true; printf '[core]\nfsmonitor = %s/f\n' $T > $G/config.worktree | ok | ok | ok
a replaced commit | git replace HEAD HEAD~1 | ok | ok | ok
a partial clone's mark | for p in $G/objects/pack/*.pack; do touch ${p%.pack}.promisor; done | ok | ok | ok
index as a pipe | rm $G/index; mkfifo $G/index | ok | ok | hostile index
index as a link | mv $G/index $G/i; ln -s i $G/index | ok | ok | hostile index
index empty | : > $G/index | ok | ok | ok
index gone | rm $G/index | ok | ok | ok
index of garbage | echo garbage > $G/index | ok | ok | ok
index cut short | truncate -s 40 $G/index | ok | ok | ok
index split | git update-index --split-index; rm -f $G/sharedindex.* | ok | ok | ok
index huge | rm $G/index; truncate -s 100G $G/index | ok | ok | too_large index
index with fsmonitor | plant f; git config core.fsmonitor $T/f; git config core.fsmonitorHookVersion 2; git update-index --fsmonitor; rm -f $T/canary; git config --unset core.fsmonitor | ok | ok | ok
index with untracked cache | git update-index --force-untracked-cache; git status >/dev/null | ok | ok | ok
info/exclude as a pipe | rm -f $G/info/exclude; mkfifo $G/info/exclude | ok | ok | hostile exclude
.gitignore as a pipe | rm .gitignore; mkfifo .gitignore | ok | ok | hostile .gitignore
.gitignore below as a pipe | mkdir -p a/b; mkfifo a/b/.gitignore; echo 1 > a/b/c | ok | ok | hostile .gitignore
.gitattributes as a pipe | mkfifo .gitattributes; echo 2 >> src/a.txt; touch -d tomorrow src/a.txt | ok | ok | hostile .gitattributes
.gitignore as a link to a device | rm .gitignore; ln -s /dev/zero .gitignore | ok | ok | ok
a tracked file as a pipe | rm README; mkfifo README | ok | ok | ok
a nested HEAD as a pipe | git init -q nested; rm nested/.git/HEAD; mkfifo nested/.git/HEAD | ok | ok | hostile HEAD
a nested .git as a pipe | mkdir nested; mkfifo nested/.git; echo 1 > nested/x | ok | ok | any
a nested .git file to a pipe | mkdir nested ../far; for d in objects refs; do mkdir ../far/$d; done; mkfifo ../far/HEAD; echo "gitdir: ../../far" > nested/.git; echo 1 > nested/x | ok | ok | hostile HEAD
a nested repository's programs | plant f; git init -q nested; (cd nested; c y 1; git config core.fsmonitor $T/f; echo 2 > y) | ok | ok | ok
a submodule's programs | plant f; git submodule add -q ../origin.git sub 2>/dev/null; git commit -qm sub; (cd sub; git config core.fsmonitor $T/f; echo 2 > README) | ok | ok | ok
.gitmodules as a pipe | mkfifo .gitmodules; git init -q nested; (cd nested; c y 1) | ok | ok | any
a link to everything | ln -s / everything | ok | ok | ok
a folder full of files | mkdir many; (cd many; seq 3000 | xargs touch) | ok | ok | ok
"#;

/// Where a plant's program leaves its mark.
const SETTING: &str = r#"
G=$T/clone/.git
c x 1; echo 2 > README
h=$(git rev-parse HEAD); O=$G/objects/${h%${h#??}}/${h#??}
plant() { mkdir -p "$(dirname "$T/$1")"; printf '#!/bin/sh\necho %s >> %s/canary\n' "$1" "$T" > "$T/$1"; chmod +x "$T/$1"; }
"#;

fn answer<T>(result: Result<T, LookError>) -> (String, String) {
    let (kind, why) = match &result {
        Ok(_) => ("ok", ""),
        Err(error) => match error {
            LookError::Clone(Unreadable::NoClone(why)) => ("no_clone", why.as_str()),
            LookError::Clone(Unreadable::Passing(why)) => ("passing", why.as_str()),
            LookError::Clone(Unreadable::TooLarge(why)) => ("too_large", why.as_str()),
            LookError::Clone(Unreadable::Hostile(why)) => ("hostile", why.as_str()),
            LookError::Own(_) => ("own", error.why()),
        },
    };
    (kind.into(), why.into())
}

/// Reads, keeps and looks, and says how each of it ended.
fn look(trial: &Trial) -> Vec<(String, String)> {
    let refs = CloneRefs::read(&trial.clone());
    let mut answers = vec![answer(refs.clone().map_err(LookError::from))];
    let Ok(refs) = refs else {
        return answers;
    };
    let mut wanted = Vec::new();
    let branch = "issue-1".parse().expect("a name");
    wanted.extend(refs.branch(&branch).map(|oid| (Slot::Tip, oid.clone())));
    let others = refs.elsewhere(&branch);
    let others = (0..).zip(others).map(|(number, other)| (Slot::Elsewhere(number), other.oid));
    wanted.extend(others);
    let of = AttemptOf { job: JobId(1), attempt: 1 };
    let known: Vec<Oid> = trial.fetch().into_iter().map(|(_, oid)| oid).collect();
    let evidence = trial.evidence();
    let git = trial.git();
    answers.push(answer(evidence.keep(&git, &trial.clone(), of, &wanted, &known, Replacing::All)));
    let patience = Patience { first_ms: 1_500, second_ms: 20_000 };
    let (looks, clone) = (trial.looks(), trial.clone());
    let files = Files::new(&looks, &clone, &refs, patience);
    answers.push(answer(files.and_then(|files| files.changes(&git))));
    answers
}

fn check(row: &str) -> Result<(), String> {
    let (name, rest) = row.split_once('|').expect("a name");
    let mut cells: Vec<&str> = rest.rsplitn(4, '|').map(str::trim).collect();
    cells.reverse();
    let [plant, expected @ ..] = cells.as_slice() else { panic!("{row}") };
    let trial = Trial::new();
    let planted = trial.try_run(&format!("{SETTING}\n{plant}"));
    planted.map_err(|words| format!("{name}: cannot be planted: {words}"))?;
    // What was planted may have run when it was planted, in the agent's git.
    let _ = std::fs::remove_file(trial.path("canary"));
    let (sender, ended) = mpsc::channel();
    let looker = thread::spawn(move || {
        let answers = look(&trial);
        let _ = sender.send((answers, trial.canary()));
    });
    let Ok((answers, canary)) = ended.recv_timeout(Duration::from_secs(120)) else {
        return Err(format!("{name}: hangs"));
    };
    looker.join().expect("it has answered");
    if let Some(canary) = canary {
        return Err(format!("{name}: {canary} was executed"));
    }
    let fits = |(expected, (kind, why)): (&&str, &(String, String))| {
        let (expected_kind, word) = expected.split_once(' ').unwrap_or((expected, ""));
        matches!(expected_kind, "-" | "any") || (expected_kind == kind && why.contains(word))
    };
    let is_complete = answers.len() == 3 || answers[answers.len() - 1].0 != "ok";
    match is_complete && expected.iter().zip(&answers).all(fits) {
        true => Ok(()),
        false => Err(format!("{name}: {answers:?}, expected {expected:?}")),
    }
}

#[test]
fn plants_are_named_and_harm_nobody() {
    let rows: Vec<&str> = PLANTS.lines().filter(|line| !line.trim().is_empty()).collect();
    let wrong = crate::git::trial::in_parallel(&rows, |row| check(row).err());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What was begun, and what it is called.
const HALF_DONE: [(&str, Option<Unfinished>); 8] = [
    (":", None),
    ("git merge -q origin/main >/dev/null 2>&1 || true", Some(Unfinished::Merge)),
    ("git rebase -q origin/main >/dev/null 2>&1 || true", Some(Unfinished::Rebase)),
    ("git rebase -q --apply origin/main >/dev/null 2>&1 || true", Some(Unfinished::Rebase)),
    ("git cherry-pick origin/main >/dev/null 2>&1 || true", Some(Unfinished::CherryPick)),
    ("git revert --no-commit HEAD >/dev/null 2>&1", Some(Unfinished::Revert)),
    (
        "git format-patch -1 --stdout origin/main | git am -q >/dev/null 2>&1 || true",
        Some(Unfinished::Mail),
    ),
    ("git bisect start -q 2>/dev/null || git bisect start >/dev/null", Some(Unfinished::Bisect)),
];

#[test]
fn what_is_half_done_is_named() {
    for (script, expected) in HALF_DONE {
        let trial = Trial::new();
        trial.run(&format!("c src/a.txt x; up src/a.txt y; git fetch -q; {script}"));
        assert_eq!(CloneRefs::read(&trial.clone()).unwrap().unfinished, expected, "{script}");
    }
}

#[test]
fn all_that_a_clone_names_is_read() {
    let trial = Trial::new();
    trial.run(
        "c x 1; git push -q origin HEAD:other; up u 1; git fetch -q; git tag t; \
         git pack-refs --all; git branch loose; git symbolic-ref refs/heads/symbolic refs/heads/loose; \
         echo 1 > README; git stash -q; echo 2 > README; git stash -q; \
         git worktree add -q --detach $T/added; cd $T/added; c y 1",
    );
    let refs = CloneRefs::read(&trial.clone()).unwrap();
    let oid = |expression: &str| trial.oid(expression);
    let branch: BranchName = "issue-1".parse().unwrap();
    assert_eq!(refs.head, Head::On("refs/heads/issue-1".into(), Some(oid("issue-1"))));
    assert_eq!(refs.branch(&branch), Some(&oid("issue-1")));
    assert_eq!(refs.get("refs/heads/symbolic"), Some(&oid("loose")));
    assert_eq!(refs.stashes, [oid("stash@{0}"), oid("stash@{1}")]);
    assert_eq!(refs.pushed, BTreeSet::from([oid("origin/other")]));
    assert!(refs.fetched.contains(&oid("origin/main")), "{:?}", refs.fetched);
    let added = &refs.worktrees[0];
    assert_eq!(added.folder, Some(trial.path("added")));
    assert_eq!(
        added.head.oid(),
        Some(&trial.run("git -C $T/added rev-parse HEAD").parse().unwrap())
    );
    // What git lists and what was read is the same.
    let listed = trial.run("git for-each-ref --format='%(refname) %(objectname)'");
    let mut read: Vec<String> = Vec::new();
    read.extend(refs.refs.iter().map(|reference| format!("{} {}", reference.name, reference.oid)));
    assert_eq!(read.join("\n"), listed);
    let names: Vec<String> = refs.elsewhere(&branch).into_iter().map(|other| other.name).collect();
    let expected = [
        "refs/heads/loose",
        "refs/heads/main",
        "refs/heads/symbolic",
        "refs/remotes/origin/other",
        "worktrees/added/HEAD",
    ];
    assert_eq!(names, expected);
    let tips: Vec<String> = refs.tips().into_iter().map(|tip| tip.name).collect();
    for name in ["HEAD", "stash@{1}", "refs/stash", "refs/tags/t", "worktrees/added/HEAD"] {
        assert!(tips.iter().any(|tip| tip == name), "{name} in {tips:?}");
    }
}

#[test]
fn names_that_no_reference_has() {
    for (name, is_good) in [
        ("refs/heads/main", true),
        ("refs/heads/a#b", true),
        ("refs/stash", true),
        ("heads/main", false),
        ("refs/heads/a..b", false),
        ("refs/heads/.a", false),
        ("refs/heads/a.lock", false),
        ("refs/heads//a", false),
        ("refs/heads/a b", false),
        ("refs/heads/a\n", false),
        ("refs/heads/a@{1}", false),
        ("refs/heads/a.", false),
        ("refs/../../etc/passwd", false),
    ] {
        assert_eq!(check_name(name.as_bytes()).is_ok(), is_good, "{name}");
    }
    let long = |count: usize| format!("refs/heads/{}", "x".repeat(count - "refs/heads/".len()));
    assert!(check_name(long(limits::REF_NAME_BYTES_MAX).as_bytes()).is_ok());
    assert!(check_name(long(limits::REF_NAME_BYTES_MAX + 1).as_bytes()).is_err());
}
