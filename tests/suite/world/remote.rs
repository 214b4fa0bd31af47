//! What is known of the remote is as it is now.

use std::fs;

use super::{by_hand, diff, done_by, end, issue, world};
use crate::support::World;

fn head_has(world: &World, issue: u64, file: &str) -> bool {
    let name = format!("HEAD:{file}");
    world.shell(&format!("git -C '{}' cat-file -e {name}", world.worktree(issue).display())).code
        == 0
}

#[test]
fn a_default_branch_that_is_renamed() {
    let world = world();
    assert_eq!(end(&done_by(&world, 1, "commit")), "completed (done)");
    by_hand(
        &world,
        "git -C $REMOTE branch -m main trunk; git -C $REMOTE symbolic-ref HEAD refs/heads/trunk
         git clone -q $REMOTE $ROOT/other; cd $ROOT/other; echo new > trunk.txt; git add .
         git commit -qm trunk; git push -q origin trunk",
    );
    for issue in [2, 1] {
        let job = done_by(&world, issue, "commit");
        assert_eq!(end(&job), "completed (done)", "issue {issue}: {job:#}");
    }
    assert!(head_has(&world, 2, "trunk.txt"), "it begins at the new one");
}

#[test]
fn a_repository_that_is_empty_at_first() {
    let mut world = world();
    world.set("KUGETSU_MAX_ATTEMPTS", "1");
    let filled = by_hand(
        &world,
        "mv $REMOTE $ROOT/filled; git init -q --bare -b develop $REMOTE; echo $ROOT/filled",
    );
    let job = done_by(&world, 1, "commit");
    assert_eq!(end(&job), "error (worktree_failed)", "{job:#}");
    let detail = job["detail"].as_str().expect("a text");
    assert!(detail.contains("empty"), "{detail}");
    by_hand(&world, &format!("git -C {} push -q $REMOTE main:refs/heads/develop", filled.trim()));
    world.ok(&["queue", "retry", "1"]);
    world.work();
    assert_eq!(end(&world.job(1)), "completed (done)", "{:#}", world.job(1));
    assert_eq!(end(&done_by(&world, 2, "commit")), "completed (done)");
}

#[test]
fn an_old_main_beside_the_default_branch() {
    for known_before in [false, true] {
        let world = world();
        if known_before {
            done_by(&world, 9, "commit");
        }
        by_hand(
            &world,
            "git -C $REMOTE branch develop main; git -C $REMOTE symbolic-ref HEAD refs/heads/develop
             git clone -q $REMOTE $ROOT/other; cd $ROOT/other; echo new > develop.txt; git add .
             git commit -qm develop; git push -q origin develop",
        );
        assert_eq!(end(&done_by(&world, 1, "commit")), "completed (done)");
        assert!(head_has(&world, 1, "develop.txt"), "known before: {known_before}");
        let commits = world.job(1 + u64::from(known_before))["commits"].clone();
        assert_eq!(commits, 1, "the default branch's commits are not the agent's");
    }
}

#[test]
fn a_branch_without_work_is_moved_to_the_new_base() {
    let world = world();
    assert_eq!(end(&done_by(&world, 1, ":")), "error (no_changes)");
    by_hand(&world, "news one news.txt");
    let job = done_by(&world, 1, "[ -e news.txt ] && commit");
    assert_eq!(end(&job), "completed (done)", "{job:#}");
    // With work of its own it stays, and the agent is told.
    by_hand(&world, "news two more.txt");
    let job = done_by(
        &world,
        1,
        "[ ! -e more.txt ] && cat .kugetsu/context.txt $(dirname $KUGETSU_MESSAGE_FILE)/* > $ROOT/told 2>/dev/null; commit",
    );
    assert_eq!(end(&job), "completed (done)", "{job:#}");
    let told = fs::read_to_string(world.root().join("told")).expect("it was written");
    assert!(told.contains("1 commit behind origin/main"), "{told}");
}

#[test]
fn commits_of_a_reviewer_are_taken_in() {
    let world = world();
    assert_eq!(end(&done_by(&world, 1, "commit; git push -q origin issue-1")), "completed (done)");
    by_hand(
        &world,
        "git clone -q -b issue-1 $REMOTE $ROOT/reviewer; cd $ROOT/reviewer; echo please > review.txt
         git add .; git commit -qm review; git push -q origin issue-1",
    );
    // They are no work of the agent's,
    let job = done_by(&world, 1, "[ -e review.txt ] || exit 7");
    assert_eq!(end(&job), "error (no_changes)", "{job:#}");
    // and what it adds is.
    let job = done_by(&world, 1, "[ -e review.txt ] && commit && git push -q origin issue-1");
    assert_eq!((end(&job).as_str(), &job["commits"]), ("completed (done)", &1.into()), "{job:#}");
    // Also where the clone is gone.
    by_hand(
        &world,
        "cd $ROOT/reviewer; git pull -q; echo more > more.txt; git add .; git commit -qm more; git push -q origin issue-1",
    );
    world.ok(&["destroy", &issue(1)]);
    let job = done_by(&world, 1, "[ -e more.txt ] && commit");
    assert_eq!(end(&job), "completed (done)", "{job:#}");
}

#[test]
fn an_issue_that_is_reopened_after_a_squash_merge() {
    for deleted in [false, true] {
        let world = world();
        let first = done_by(
            &world,
            1,
            "commit; echo more > more.txt; git add .; git commit -qm more\n\
                                        git push -q origin issue-1",
        );
        assert_eq!(end(&first), "completed (done)");
        by_hand(
            &world,
            "cd $DRAFT; git pull -q; git fetch -q origin issue-1; git merge -q --squash FETCH_HEAD
             git commit -qm 'the issue, squashed'; echo later >> work.txt; git commit -qam later; git push -q",
        );
        if deleted {
            by_hand(&world, "git -C $REMOTE branch -q -D issue-1");
        }
        // It begins where the squashed work is, not at the old fork.
        let job = done_by(&world, 1, "grep -q later work.txt || exit 7; commit");
        assert_eq!(end(&job), "completed (done)", "deleted {deleted}: {job:#}");
        assert_eq!(job["commits"], 1, "{job:#}");
        assert!(
            diff(&world, &first["id"].to_string()).contains("+more"),
            "the first job's work is kept"
        );
    }
}

#[test]
fn submodules_are_filled() {
    let world = world();
    let config = world.root().join("home/.gitconfig");
    let text = fs::read_to_string(&config).expect("a file");
    // The user's own word, which kugetsu trusts.
    fs::write(config, format!("{text}[protocol \"file\"]\n\tallow = always\n")).expect("a file");
    world.make_remote("o/sub");
    by_hand(
        &world,
        "cd $DRAFT; git submodule --quiet add ../sub.git sub; git commit -qm sub; git push -q",
    );
    let job = done_by(&world, 1, "[ -e sub/README ] && commit");
    assert_eq!(end(&job), "completed (done)", "{job:#}\n{}", world.log(1));
    assert!(world.worktree(1).join("sub/README").exists());
    world.ok(&["destroy", "--force", &issue(1)]);
    assert!(!world.worktree(1).exists());
}

#[test]
fn names_of_the_remotes_that_mislead() {
    let world = world();
    // A tag and a branch that are called like what one could look for.
    by_hand(
        &world,
        "cd $DRAFT; git checkout -q -b misleading; echo bad > bad.txt; git add .; git commit -qm bad
         git push -q origin HEAD:refs/heads/origin/main HEAD:refs/tags/main HEAD:refs/tags/origin/main \
         HEAD:refs/heads/HEAD HEAD:refs/tags/issue-1 HEAD:refs/tags/HEAD",
    );
    for issue in [1, 2] {
        let job = done_by(&world, issue, "[ ! -e bad.txt ] && commit");
        assert_eq!(
            (end(&job).as_str(), &job["commits"]),
            ("completed (done)", &1.into()),
            "{job:#}"
        );
    }
}

#[test]
fn a_branch_below_the_issues_on_the_remote() {
    let world = world();
    by_hand(&world, "cd $DRAFT; git push -q origin HEAD:refs/heads/issue-1/fix");
    // Git cannot have both, so the issue's branch has another name, and keeps it.
    let agent = world.root().join("agent.sh");
    fs::write(&agent, ". $(dirname $0)/known.sh; commit && git push -q origin HEAD")
        .expect("a file");
    for _ in 0..2 {
        let id = world.enqueue(1, &[]);
        world.work();
        let job = world.job(id);
        assert_eq!(end(&job), "completed (done)", "{job:#}");
        assert_ne!(job["branch"], "issue-1");
    }
    assert_eq!(world.job(1)["branch"], world.job(2)["branch"]);
}
