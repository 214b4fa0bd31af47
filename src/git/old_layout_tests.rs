//! Worktrees as version 0.1.0 made them, and as its agents may have left them: each plant is named,
//! none is followed, waited for or executed.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::*;
use crate::git::evidence::{AttemptOf, Replacing, Slot};
use crate::git::refs::Unfinished;
use crate::git::trial::{Trial, in_parallel};
use crate::job::JobId;

/// A worktree of `issue-1` with a commit, beside one of `issue-2` with another. `$W` is the folder,
/// `$G` what git keeps of it, `$R` the shared clone; `plant` makes a program that leaves a mark.
const SETTING: &str = r#"
R=$T/repos/x.git; W=$T/worktrees/x+1; G=$R/worktrees/x+1
plant() { printf '#!/bin/sh\necho %s >> %s/canary\n' "$1" "$T" > "$T/$1"; chmod +x "$T/$1"; }
git clone -q --bare $T/mirror.git $R; cd $R
git update-ref refs/remotes/origin/main refs/heads/main; git update-ref -d refs/heads/main; git update-ref -d refs/heads/side
for n in 1 2; do git worktree add -q --no-track -b issue-$n $T/worktrees/x+$n refs/remotes/origin/main; done
cd $T/worktrees/x+2; c two 2; git checkout -q -b own-2; c two 3; git checkout -q issue-2
cd $W; c x 1
"#;

/// `what is planted | the answer | changed paths`: the answer is `ok`, `none`, or its kind with a
/// word of it.
const PLANTS: &str = r#"
nothing | : | ok |
a changed file | echo 2 > x | ok | x
an untracked file | touch new | ok | new
an ignored file | touch a.ignored; mkdir ignored; touch ignored/b | ok |
a file excluded by all | mkdir -p $R/info; echo excluded > $R/info/exclude; touch excluded | ok |
a file that the index has | echo 2 > y; git add y | ok | y
nothing at all | rm -rf $W | no_clone x+1 |
no .git | rm .git | none |
another .git | rm .git; git init -q . | none |
.git as a link | mv .git g; ln -s g .git | none |
.git of somebody else | echo "gitdir: $T/clone/.git" > .git | none |
.git of another repository | mkdir -p $T/repos/y.git/worktrees; cp -r $G $T/repos/y.git/worktrees; echo "gitdir: $T/repos/y.git/worktrees/x+1" > .git | none |
.git that climbs | echo "gitdir: $R/worktrees/.." > .git | none |
.git of garbage | echo garbage > .git | none |
.git of another place of kugetsu's | echo "gitdir: /elsewhere/repos/x.git/worktrees/x+1" > .git | ok |
.git huge | truncate -s 10G .git | too_large .git |
the shared clone gone | rm -rf $R | no_clone x.git |
the shared clone as a link | mv $R $T/r; ln -s $T/r $R | hostile link |
its part gone | rm -rf $G | no_clone x+1 |
its part as a link | mv $G $T/g; ln -s $T/g $G | hostile link |
HEAD as a pipe | rm $G/HEAD; mkfifo $G/HEAD | hostile HEAD |
HEAD gone | rm $G/HEAD | no_clone HEAD |
HEAD empty | : > $G/HEAD | no_clone HEAD |
HEAD elsewhere | echo 'ref: ../../etc/passwd' > $G/HEAD | no_clone HEAD |
its log as a pipe | rm $G/logs/HEAD; mkfifo $G/logs/HEAD | hostile HEAD |
its log gone | rm -r $G/logs | ok |
a reference as a pipe | mkfifo $R/refs/heads/pipe | hostile pipe |
another's branch empty | : > $R/refs/heads/issue-2 | ok |
another's HEAD as a pipe | rm $R/worktrees/x+2/HEAD; mkfifo $R/worktrees/x+2/HEAD | ok |
packed references | git -C $R pack-refs --all | ok |
objects from elsewhere | mkdir -p $R/objects/info; echo /o > $R/objects/info/alternates | hostile alternates |
a pipe among the objects | mkfifo $R/objects/pack/p.pack | hostile pipe |
grafts | mkdir -p $R/info; touch $R/info/grafts | hostile grafts |
index as a pipe | rm $G/index; mkfifo $G/index | ok | hostile index
index gone | rm $G/index | ok |
index of garbage | echo garbage > $G/index; echo 2 > x | ok | x
core.fsmonitor | plant f; git config core.fsmonitor $T/f | ok |
its own configuration | plant f; git config extensions.worktreeConfig true; printf '[core]\nfsmonitor = %s/f\n' $T > $G/config.worktree | ok |
a filter | plant f; git config filter.f.clean $T/f; echo '* filter=f' > $R/info/attributes; touch -d tomorrow x | ok |
hooks | plant post-index-change; cp $T/post-index-change $R/hooks; touch -d tomorrow x | ok |
"#;

fn repository(trial: &Trial) -> PathBuf {
    trial.path("repos/x.git")
}

fn folder(trial: &Trial) -> PathBuf {
    trial.path("worktrees/x+1")
}

fn opened(trial: &Trial) -> Result<Option<OldWorktree>, Unreadable> {
    OldWorktree::open(&folder(trial), &repository(trial), &"issue-1".parse().expect("a name"))
}

fn in_words(why: &Unreadable) -> String {
    let kind = match why {
        Unreadable::NoClone(_) => "no_clone",
        Unreadable::Hostile(_) => "hostile",
        Unreadable::TooLarge(_) => "too_large",
        Unreadable::Passing(_) => "passing",
    };
    format!("{kind} {}", why.why())
}

/// What was said of it, and of its changes.
fn look(trial: &Trial) -> (String, String) {
    let old = match opened(trial) {
        Ok(Some(old)) => old,
        Ok(None) => return ("none".into(), String::new()),
        Err(why) => return (in_words(&why), String::new()),
    };
    let changes = match old.changes(&trial.git(), &trial.looks()) {
        Ok(changes) => {
            let paths: Vec<String> = changes.entries.into_iter().map(|entry| entry.path).collect();
            paths.join(" ")
        }
        Err(LookError::Clone(why)) => in_words(&why),
        Err(LookError::Own(why)) => why.words().into(),
    };
    ("ok".into(), changes)
}

/// Whether an answer is of the kind that was expected, and has its word.
fn fits(answer: &str, expected: &str) -> bool {
    match expected.split_once(' ') {
        Some((kind, word)) => answer.starts_with(kind) && answer.contains(word),
        None => answer == expected,
    }
}

fn check(row: &str) -> Result<(), String> {
    let cells: Vec<&str> = row.split(" |").map(str::trim).collect();
    let [name, plant, expected, changed] = cells.as_slice() else { panic!("{row}") };
    let trial = Trial::new();
    trial.try_run(&format!("{SETTING}\n{plant}")).map_err(|words| format!("{name}: {words}"))?;
    // What was planted may have run when it was planted, in the agent's git.
    let _ = fs::remove_file(trial.path("canary"));
    let (sender, ended) = mpsc::channel();
    let looker = thread::spawn(move || {
        let answer = look(&trial);
        let _ = sender.send((answer, trial.canary()));
    });
    let Ok(((answer, paths), canary)) = ended.recv_timeout(Duration::from_secs(120)) else {
        return Err(format!("{name}: hangs"));
    };
    looker.join().expect("it has answered");
    match fits(&answer, expected) && fits(&paths, changed) && canary.is_none() {
        true => Ok(()),
        false => Err(format!("{name}: {answer:?}, {paths:?}, executed: {canary:?}")),
    }
}

#[test]
fn plants_in_the_old_layout_are_named_and_harm_nobody() {
    let rows: Vec<&str> = PLANTS.lines().filter(|line| !line.trim().is_empty()).collect();
    let wrong = in_parallel(&rows, |row| check(row).err());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// `what happens | HEAD | branch | elsewhere | pushed | unfinished`, by the last words of commits.
const TIPS: &str = r#"
nothing more | issue-1 | x: 1 | | |
a branch of its own | git checkout -q -b mine; c m 1 | mine | x: 1 | refs/heads/mine=m: 1 | |
one that it left again | git checkout -q -b mine; c m 1; git checkout -q issue-1 | issue-1 | x: 1 | refs/heads/mine=m: 1 | |
a detached HEAD | git checkout -q --detach; c d 1 | - | x: 1 | HEAD=d: 1 | |
a branch of nobody's commits | git branch other refs/heads/own-2 | issue-1 | x: 1 | | |
another's branch at its commit | (cd ../x+2; git reset -q --hard issue-1) | issue-1 | x: 1 | | |
no branch of its name | git branch -m other | other | - | refs/heads/other=x: 1 | |
a stash, which is everybody's | echo 2 > x; git stash -q | issue-1 | x: 1 | | |
a push | git push -q origin issue-1:refs/heads/there | issue-1 | x: 1 | refs/remotes/origin/there=x: 1 | x: 1 |
a push of another's | (cd ../x+2; git push -q origin own-2:refs/heads/there) | issue-1 | x: 1 | | |
a merge | git checkout -q -b mine; c x 2; git checkout -q issue-1; c x 3; merge mine | issue-1 | x: 3 | refs/heads/mine=x: 2 | | merge
"#;

fn check_tips(row: &str) -> Result<(), String> {
    let cells: Vec<&str> = row.split(" |").map(str::trim).collect();
    let (name, script, expected) = match cells.as_slice() {
        [name, rest @ ..] if rest.len() == 5 => (name, ":", rest.join(" | ")),
        [name, script, rest @ ..] => (name, *script, rest.join(" | ")),
        [] | [_] => panic!("{row}"),
    };
    let trial = Trial::new();
    let origin = "git config remote.origin.url $T/origin.git; \
                  git config remote.origin.fetch '+refs/heads/*:refs/remotes/origin/*'";
    let ran = trial.try_run(&format!("{SETTING}\n{origin}\n{script}"));
    ran.map_err(|words| format!("{name}: {words}"))?;
    let old = opened(&trial).map_err(|why| format!("{name}: {why}"))?.ok_or("it is one")?;
    let branch: BranchName = "issue-1".parse().expect("a name");
    let subject =
        |oid: &Oid| trial.run(&format!("cd $T/repos/x.git; git log -1 --format=%s {oid}"));
    let head = match &old.refs.head {
        Head::On(name, _) => name.trim_start_matches("refs/heads/").to_string(),
        Head::Detached(_) => "-".into(),
    };
    let named = |reference: Reference| format!("{}={}", reference.name, subject(&reference.oid));
    let elsewhere: Vec<String> = old.refs.elsewhere(&branch).into_iter().map(named).collect();
    let pushed: Vec<String> = old.refs.pushed.iter().map(subject).collect();
    let found = [
        head,
        old.refs.branch(&branch).map_or("-".into(), subject),
        elsewhere.join(" "),
        pushed.join(" "),
        old.refs.unfinished.map_or("", Unfinished::as_str).into(),
    ];
    match found.join(" | ") == expected && old.refs.stashes.is_empty() {
        true => Ok(()),
        false => Err(format!("{name}: {found:?}, expected {expected}")),
    }
}

#[test]
fn what_an_old_worktree_has_of_its_own() {
    let rows: Vec<&str> = TIPS.lines().filter(|line| !line.trim().is_empty()).collect();
    let wrong = in_parallel(&rows, |row| check_tips(row).err());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn its_commits_are_kept_without_a_touch_and_it_is_moved_as_it_is() {
    let trial = Trial::new();
    trial.run(SETTING);
    let before = trial.run("cd $T/repos; find . -type f -newermt 2000-01-01 | sort | xargs md5sum");
    let old = opened(&trial).expect("a look").expect("it is one");
    let tip = old.refs.branch(&"issue-1".parse().expect("a name")).expect("a commit").clone();
    let of = AttemptOf { job: JobId(1), attempt: 0 };
    let wanted = [(Slot::BeforeBranch, tip.clone())];
    let evidence = trial.evidence();
    for _ in 0..2 {
        let git = trial.git();
        let kept = evidence.keep_from(&git, &old.objects(), of, &wanted, &[], Replacing::All);
        assert_eq!(kept.expect("it is sound").len(), 1);
    }
    let place = folder(&trial);
    assert_eq!(end_move(&place).expect("nothing to do"), None);
    for expected in ["x+1.old", "x+1.old-2"] {
        fs::create_dir_all(&place).expect("a folder");
        begin_move(&place).expect("there is room");
        assert!(!place.exists() && moving(&place).is_dir());
        let to = end_move(&place).expect("a name is free").expect("it was moved");
        assert_eq!(to, trial.path("worktrees").join(expected));
    }
    assert!(trial.path("worktrees/x+1.old/x").is_file());
    let after = trial.run("cd $T/repos; find . -type f -newermt 2000-01-01 | sort | xargs md5sum");
    assert_eq!(before, after, "repos/ is only read");
    assert_eq!(evidence.before(of).expect("a look").len(), 1);
}

#[test]
fn names_in_git_files() {
    let repository = Path::new("/k/repos/h+o+r.git");
    for (text, expected) in [
        ("gitdir: /k/repos/h+o+r.git/worktrees/h+o+r+1\n", Some("h+o+r+1")),
        ("gitdir: /other/repos/h+o+r.git/worktrees/h+o+r+1", Some("h+o+r+1")),
        ("gitdir:/k/repos/h+o+r.git/worktrees/h+o+r+11", Some("h+o+r+11")),
        ("gitdir: /k/repos/h+o+r.git/worktrees/..", None),
        ("gitdir: /k/repos/h+o+r.git/worktrees", None),
        ("gitdir: /k/repos/h+o+r.git/modules/x", None),
        ("gitdir: /k/repos/h+o+s.git/worktrees/h+o+r+1", None),
        ("gitdir: /k/h+o+r.git/worktrees/h+o+r+1", None),
        ("gitdir: x", None),
        ("gitdir:", None),
        ("", None),
        ("/k/repos/h+o+r.git/worktrees/h+o+r+1", None),
        ("gitdir: /k/repos/h+o+r.git/worktrees/a\0b", None),
    ] {
        let name = registered_name(text.as_bytes(), repository);
        assert_eq!(name.as_deref(), expected.map(OsStr::new), "{text:?}");
    }
}
