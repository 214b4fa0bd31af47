//! What one agent does to its clone, no other issue sees.

use std::fs;

use serde_json::Value;

use super::{diff, done_by, end, enqueue, id, issue, world};

#[test]
fn agents_that_fetch_at_the_same_time() {
    let mut world = world();
    world.set("NETWORK_RETRY_ATTEMPTS", "1");
    world.set("MAX_CONCURRENT_AGENTS", "8");
    for issue in 1..=60 {
        enqueue(
            &world,
            issue,
            "git fetch -q origin && git fetch -q --prune --tags origin && commit",
        );
    }
    world.work();
    let list = world.ok(&["queue", "list", "--state=all", "--limit=100", "--format=json"]);
    let list: Value = serde_json::from_str(&list).expect("JSON");
    let items = list["items"].as_array().expect("items");
    let failed: Vec<String> = items
        .iter()
        .filter(|job| end(job) != "completed (done)" || job["attempt"] != 1)
        .map(|job| format!("{}: {} {}", job["id"], end(job), job["detail"]))
        .collect();
    assert!(failed.is_empty() && items.len() == 60, "{failed:#?}");
}

/// What an agent leaves, in shell; `$G` is the git folder of its branches.
const HARM: &[(&str, &str)] = &[
    ("locks", "for f in index HEAD config packed-refs refs/heads/issue-1 refs/stash; do
        mkdir -p $G/refs; : > $G/$f.lock; : > $(git rev-parse --git-dir)/${f##*/}.lock; done"),
    ("a lock of the fetch", ": > $G/shallow.lock; : > $G/refs/remotes/origin/main.lock"),
    ("hooks that fail", "for h in pre-commit post-checkout reference-transaction post-index-change; do
        mkdir -p $G/hooks; printf '#!/bin/sh\\nexit 1\\n' > $G/hooks/$h; chmod +x $G/hooks/$h; done"),
    ("a folder of hooks that is gone", "git config core.hooksPath /nonexistent/hooks"),
    ("hooks that hang", "for h in post-checkout reference-transaction; do mkdir -p $G/hooks
        printf '#!/bin/sh\\nsleep 1000\\n' > $G/hooks/$h; chmod +x $G/hooks/$h; done"),
    ("core.bare", "git config core.bare true"),
    ("core.worktree", "git config core.worktree /nonexistent"),
    ("a broken configuration", "echo '[broken' >> $G/config"),
    ("an extension that is not known", "git config core.repositoryFormatVersion 1
        git config extensions.nobodyKnows true"),
    ("a renamed remote", "git remote rename origin upstream"),
    ("a remote that leads elsewhere", "git remote set-url origin /nonexistent/r.git"),
    ("no remote", "git remote remove origin"),
    ("a fetch of nothing", "git config remote.origin.fetch +refs/heads/none:refs/remotes/origin/none"),
    ("a branch below another issue's", "git branch issue-2/x"),
    ("another issue's branch", "git branch issue-2 HEAD"),
    ("branches and tags called like the remote's", "git branch origin/main HEAD
        git tag origin/main HEAD; git tag main HEAD; git tag refs/remotes/origin/main HEAD"),
    ("a stash", "echo stashed >> README; git stash -q"),
    ("a broken reference", "echo garbage > $G/refs/heads/broken; : > $G/refs/heads/empty"),
    ("a broken reference of the remote", "echo garbage > $G/refs/remotes/origin/main"),
    ("an empty object", "o=$(git rev-parse HEAD); f=$G/objects/$(echo $o | cut -c1-2)/$(echo $o | cut -c3-)
        chmod u+w $f; : > $f"),
    ("no objects of the base", "rm -rf $G/objects/pack; git rev-parse refs/remotes/origin/main |
        while read o; do rm -f $G/objects/$(echo $o | cut -c1-2)/$(echo $o | cut -c3-); done"),
    ("garbage over packs", "for f in $G/objects/pack/*; do [ -f \"$f\" ] && chmod u+w $f &&
        printf 'garbage garbage garbage' | dd of=$f conv=notrunc 2>/dev/null; done; :"),
    ("a git folder that is gone", "rm -rf $G"),
    ("worktrees of its own", "git worktree add -q -b issue-2 ../mine"),
    ("another issue's branch, checked out elsewhere", "git worktree add -q -b issue-2 $ROOT/mine"),
    ("a merge half done", "git checkout -q -b other HEAD~1; echo other > work.txt; git add .
        git commit -qm other; git checkout -q issue-1; git merge -q other; :"),
    ("a rebase half done", "git checkout -q -b other HEAD~1; echo other > work.txt; git add .
        git commit -qm other; git checkout -q issue-1; git rebase -q other; :"),
    ("a fetch that was pruned to nothing", "git for-each-ref --format='delete %(refname)' \
        refs/remotes | git update-ref --stdin"),
];

#[test]
fn what_an_agent_breaks_stops_no_other_issue() {
    let mut failed = Vec::new();
    for (what, harm) in HARM {
        let world = world();
        // Not at the same time: the second one comes to what the first has left.
        done_by(&world, 1, &format!("commit; G=$(git rev-parse --git-common-dir)\n{harm}"));
        let second =
            done_by(&world, 2, "git stash list > $ROOT/stashes; git fetch -q origin && commit");
        let log = world.log(id(&second));
        if end(&second) != "completed (done)" || second["commits"] != 1 {
            failed.push(format!("{what}: {} {}\n{log}", end(&second), second["detail"]));
            continue;
        }
        let stashes = fs::read_to_string(world.root().join("stashes")).expect("it was written");
        if !stashes.is_empty() {
            failed.push(format!("{what}: another issue sees a stash"));
        }
        let history = world.git(&world.worktree(2), &["log", "--format=%s"]);
        if history.contains("work of 1/") {
            failed.push(format!("{what}: the second issue has the first one's work: {history}"));
        }
    }
    assert!(failed.is_empty(), "{} of {}: {failed:#?}", failed.len(), HARM.len());
}

/// After these an agent's own git works no more in its clone, and no commit can be made there: the
/// user's word may be needed.
const ITS_OWN_FAULT: &[&str] = &[
    "hooks that fail",
    "hooks that hang",
    "core.bare",
    "core.worktree",
    "a broken configuration",
    "an extension that is not known",
    "an empty object",
    "no objects of the base",
    "garbage over packs",
];

/// The issue itself goes on too: mended, or with a fresh clone that has what was done.
#[test]
fn what_an_agent_breaks_does_not_stop_its_own_issue_for_good() {
    let mut failed = Vec::new();
    for (what, harm) in HARM {
        if what.contains("half done") || what.contains("stash") {
            continue;
        }
        let world = world();
        let script = format!("commit; G=$(git rev-parse --git-common-dir)\n{harm}");
        let first = done_by(&world, 1, &script);
        // Nothing was broken before the commit was there.
        if end(&first) == "completed (done)" && !diff(&world, "1").contains("+work of 1/1") {
            failed.push(format!("{what}: `diff` does not show what was done"));
        }
        let mut again = done_by(&world, 1, "commit");
        if ITS_OWN_FAULT.contains(what) && end(&again) != "completed (done)" {
            world.run(&["destroy", "--force", &issue(1)]);
            again = done_by(&world, 1, "commit");
        }
        if end(&again) != "completed (done)" {
            let log = world.log(id(&again));
            failed.push(format!("{what}: {} {}\n{log}", end(&again), again["detail"]));
        }
    }
    assert!(failed.is_empty(), "{} of {}: {failed:#?}", failed.len(), HARM.len());
}

#[test]
fn work_that_lands_in_another_issues_clone_is_not_the_others() {
    let world = world();
    done_by(&world, 2, "commit");
    let other = world.worktree(2);
    let first = done_by(
        &world,
        1,
        &format!("cd {} && echo strayed >> work.txt && git commit -qam strayed", other.display()),
    );
    assert_ne!(end(&first), "completed (done)", "{first:#}");
    let second = done_by(&world, 2, ":");
    assert_eq!(end(&second), "error (no_changes)", "{second:#}");
}
