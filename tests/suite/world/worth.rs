//! Nothing of worth is deleted: `prune`, `destroy` and what they look at.

use std::fs;
use std::os::unix::fs::symlink;

use super::{by_hand, diff, done_by, end, issue, world};
use crate::support::World;

/// Issue 1 with work that is on the remote, in a repository that ignores some names.
fn pushed(more: &str) -> World {
    let world = world();
    by_hand(
        &world,
        "cd $DRAFT; printf '.env\\nvendor/\\nnotes/\\nnode_modules/\\ntarget/\\n*.log\\n' > .gitignore
         git add .; git commit -qm ignore; git push -q",
    );
    let job = done_by(&world, 1, &format!("commit; git push -q origin issue-1\n{more}\n:"));
    assert_eq!(end(&job), "completed (done)", "{more}: {job:#}");
    world
}

/// What an agent leaves beside its pushed work, and the path in the clone that is named for it.
const WORTH: &[(&str, &str)] = &[
    ("echo SECRET=1 > .env", ".env"),
    ("mkdir notes; echo idea > notes/idea.md", "notes"),
    ("git init -q vendor/lib; cd vendor/lib; echo x > x; git add .; git commit -qm x", "vendor/lib"),
    ("git clone -q $REMOTE vendor/copy; cd vendor/copy; echo x > x", "vendor/copy"),
    ("git clone -q $REMOTE vendor/copy; cd vendor/copy; echo x >> README; git stash -q", "vendor/copy"),
    ("git init -q node_modules/lib; cd node_modules/lib; echo x > x; git add .; git commit -qm x",
        "node_modules/lib"),
    ("git worktree add -q vendor/tree; cd vendor/tree; echo x > x; git add .; git commit -qm x", "vendor/tree"),
    ("git worktree add -q vendor/tree; echo x > vendor/tree/x", "vendor/tree"),
    ("echo x >> README; git stash -q", "stash"),
    ("git checkout -q -b spare; echo x > x; git add .; git commit -qm x; git checkout -q issue-1", "spare"),
    ("git tag keep $(git commit-tree -m x -p HEAD HEAD:)", "keep"),
    ("echo x > untracked.txt", "untracked.txt"),
    ("echo x >> README", "README"),
    ("git init -q nested; echo x > nested/x", "nested"),
    ("echo trace > agent.log", "agent.log"),
    ("mkdir -p vendor/deep/er; git init -q --bare vendor/deep/er/bare.git
      git push -q vendor/deep/er/bare.git HEAD:refs/heads/only; git -C vendor/deep/er/bare.git branch more \
      $(git commit-tree -m x HEAD:)", "bare.git"),
];

#[test]
fn what_is_nowhere_else_is_kept_and_named() {
    let mut failed = Vec::new();
    for (leave, named) in WORTH {
        let world = pushed(&format!("({leave})"));
        let before = by_hand(
            &world,
            &format!("cd {}; find . -type f | sort | xargs cksum", world.worktree(1).display()),
        );
        let pruned = world.run(&["prune"]);
        if !world.worktree(1).is_dir() || !pruned.stdout.contains("Kept git.test/o/r#1") {
            failed.push(format!("`prune` deleted {named}: {}", pruned.stdout));
            continue;
        }
        if !pruned.stdout.contains(named) {
            failed.push(format!("`prune` does not name {named}: {}", pruned.stdout));
        }
        let destroyed = world.run(&["destroy", &issue(1)]);
        if destroyed.code != 1 || !world.worktree(1).is_dir() {
            failed.push(format!("`destroy` deleted {named}: {}", destroyed.stdout));
            continue;
        }
        let after = by_hand(
            &world,
            &format!("cd {}; find . -type f | sort | xargs cksum", world.worktree(1).display()),
        );
        if before != after {
            failed.push(format!("{named}: something was changed by looking at it"));
        }
        // With the user's word it goes.
        let forced = world.run(&["destroy", "--force", &issue(1)]);
        if forced.code != 0 || world.worktree(1).exists() {
            failed.push(format!("`destroy --force` left {named}: {}", forced.stderr));
        }
    }
    assert!(failed.is_empty(), "{} of {}: {failed:#?}", failed.len(), WORTH.len());
}

#[test]
fn what_can_be_made_again_is_not_worth_keeping() {
    for leave in [
        ":",
        "mkdir -p node_modules/x target/debug; echo x > node_modules/x/index.js; echo x > target/debug/x",
        "git clone -q $REMOTE target/clone",
        "git branch same; git tag same",
        "git worktree add -q --detach target/tree",
    ] {
        let world = pushed(&format!("({leave})"));
        let pruned = world.ok(&["prune"]);
        let is_clone = leave.contains("target/clone");
        // A repository is never disposable, whatever folder it is in.
        assert_eq!(world.worktree(1).exists(), is_clone, "{leave}: {pruned}");
    }
}

#[test]
fn squash_merged_work_is_pruned() {
    for merge in [
        "git merge -q --squash FETCH_HEAD; git commit -qm squashed",
        "git merge -q --no-ff --no-edit FETCH_HEAD",
        "git cherry-pick FETCH_HEAD~1 FETCH_HEAD",
        "git merge -q --squash FETCH_HEAD; git commit -qm squashed; echo x >> work.txt; git commit -qam later",
    ] {
        let world = world();
        let first = done_by(&world, 1, "commit; commit; git push -q origin issue-1");
        assert_eq!(end(&first), "completed (done)");
        by_hand(
            &world,
            &format!("cd $DRAFT; git pull -q; echo n > n; git add .; git commit -qm n
                      git fetch -q origin issue-1; {merge}; git push -q; git push -q origin :issue-1"),
        );
        // The mirror learns of it with the next job.
        done_by(&world, 2, "commit; git push -q origin issue-2");
        let pruned = world.ok(&["prune"]);
        assert!(!world.worktree(1).exists(), "{merge}: {pruned}");
    }
}

#[test]
fn sizes_are_told() {
    let world = pushed("head -c 3000000 /dev/urandom > .env");
    for command in [&["prune", "--dry-run"][..], &["list"]] {
        let text = world.ok(command);
        // The file and a small repository. What a run used of memory is told in MiB too.
        let told = ["2.8 MiB", "2.9 MiB", "3.0 MiB", "3.1 MiB", " 3 MiB"];
        assert!(told.iter().any(|size| text.contains(size)), "{command:?}: {text}");
    }
}

#[test]
fn what_a_link_leads_to_is_left_alone() {
    for force in [false, true] {
        let world = pushed(":");
        let (clone, moved) = (world.worktree(1), world.root().join("moved"));
        fs::rename(&clone, &moved).expect("a move");
        fs::write(moved.join("mine"), "precious\n").expect("a file");
        symlink(&moved, &clone).expect("a link");
        let issue = issue(1);
        let arguments =
            if force { vec!["destroy", "--force", &issue] } else { vec!["destroy", &issue] };
        let ran = world.run(&arguments);
        let mine = fs::read_to_string(moved.join("mine"));
        assert_eq!(
            mine.ok().as_deref(),
            Some("precious\n"),
            "force {force}: {}{}",
            ran.stdout,
            ran.stderr
        );
        assert!(moved.join("README").exists() && moved.join(".git").exists(), "force {force}");
        world.run(&["prune"]);
        assert!(moved.join("mine").exists());
    }
}

#[test]
fn what_was_made_anew_is_destroyed_by_force() {
    for harm in [
        "rm -rf .git; git init -q; git add .; git commit -qm mine",
        "rm -rf .git",
        "chmod -R a-w .",
        "mkdir closed; echo x > closed/x; chmod 000 closed",
        "git init -q sub; git -C sub commit -q --allow-empty -m s; git add sub; git commit -qm s",
    ] {
        let world = pushed(":");
        by_hand(&world, &format!("cd '{}'; {harm}", world.worktree(1).display()));
        let ran = world.run(&["destroy", &issue(1)]);
        let has_worth = !harm.contains("chmod -R");
        if has_worth {
            assert_eq!((ran.code, world.worktree(1).is_dir()), (1, true), "{harm}: {}", ran.stderr);
        }
        if world.worktree(1).is_dir() {
            let ran = world.run(&["destroy", "--force", &issue(1)]);
            assert_eq!(
                (ran.code, world.worktree(1).exists()),
                (0, false),
                "{harm}: {}",
                ran.stderr
            );
        }
        // The issue can be worked on again.
        assert_eq!(end(&done_by(&world, 1, "commit")), "completed (done)", "{harm}");
    }
}

#[test]
fn what_a_job_did_can_be_seen_without_its_clone() {
    let world = pushed(":");
    let expected = diff(&world, "1");
    assert!(expected.contains("+work of 1/1"), "{expected}");
    assert_eq!(diff(&world, &issue(1)), expected);
    fs::remove_dir_all(world.worktree(1)).expect("it is there");
    assert_eq!(diff(&world, "1"), expected);
    assert_eq!(diff(&world, &issue(1)), expected);
    world.ok(&["destroy", &issue(1)]);
    assert_eq!(diff(&world, "1"), expected);
    // A job that is not there, and one that did nothing.
    assert_eq!(world.run(&["diff", "99"]).code, 3);
    done_by(&world, 2, ":");
    assert_eq!(diff(&world, "2"), "");
}
