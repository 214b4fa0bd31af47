//! `list`, `destroy` and `prune`: nothing unsaved is removed unless somebody says so.

use std::fs;

use serde_json::Value;

use crate::support::{REPOSITORY, World};

/// Issue 1 ends with a commit that is pushed, 2 with one that is not, 3 with changes, 4 with
/// nothing.
const AGENT: &str = "case $KUGETSU_BRANCH in
    issue-1) echo 1 > one; git add one; git commit -qm one; git push -q origin issue-1;;
    issue-2) echo 2 > two; git add two; git commit -qm two;;
    issue-3) echo 3 > three;;
    esac";

fn world_of_four() -> World {
    let mut world = World::new();
    world.agent(AGENT);
    for issue in 1..=4 {
        world.enqueue(issue, &[]);
    }
    world.work();
    world
}

fn items(world: &World) -> Vec<Value> {
    let list: Value = serde_json::from_str(&world.ok(&["list", "--format=json"])).expect("JSON");
    list["items"].as_array().expect("items").clone()
}

fn branches(world: &World) -> String {
    let clone = world.home().join("repos/git.test+o+r.git");
    world.git(&clone, &["for-each-ref", "--format=%(refname:short)", "refs/heads"])
}

fn issue(number: u64) -> String {
    format!("{REPOSITORY}#{number}")
}

#[test]
fn prune_removes_what_is_clean_and_pushed_and_says_why_it_keeps_the_rest() {
    let world = world_of_four();
    let items = items(&world);
    let pick = |name: &str| items.iter().map(|item| item[name].clone()).collect::<Vec<_>>();
    assert_eq!(pick("ahead"), [1, 1, 0, 0]);
    assert_eq!(pick("unpushed"), [0, 1, 0, 0]);
    assert_eq!(pick("dirty"), [false, false, true, false]);
    assert_eq!(pick("state"), ["completed", "completed", "error", "error"]);
    let text = world.ok(&["list"]);
    for line in [
        "git.test/o/r#2\n  state     job 2 ended: completed; used ",
        "  work      1 commit, pushed\n  branch    issue-1\n",
        "  work      1 commit, 1 not pushed\n",
        "  work      no commits, changes without a commit\n",
    ] {
        assert!(text.contains(line), "{text}");
    }

    let kept = "Kept git.test/o/r#2: it has 1 commit that is on no branch of the remote\n\
                Kept git.test/o/r#3: it has changes without a commit\n";
    let would = world.ok(&["prune", "--dry-run"]);
    assert_eq!(
        would,
        format!(
            "Would remove git.test/o/r#1\n{kept}Would remove git.test/o/r#4\n\
             2 would be removed, 2 kept\n"
        )
    );
    assert_eq!(world.ok(&["prune", "--older-than=1h"]).lines().last(), Some("0 removed, 4 kept"));
    assert!((1..=4).all(|issue| world.worktree(issue).is_dir()), "nothing is gone yet");
    let removed = world.ok(&["prune"]);
    assert_eq!(
        removed,
        format!("Removed git.test/o/r#1\n{kept}Removed git.test/o/r#4\n2 removed, 2 kept\n")
    );
    let there: Vec<bool> = (1..=4).map(|issue| world.worktree(issue).is_dir()).collect();
    assert_eq!(there, [false, true, true, false]);
    assert_eq!(branches(&world), "issue-2\nissue-3");
    assert_eq!(self::items(&world).len(), 2);

    // The issue can be worked on again, from what is on the remote of it.
    let id = world.enqueue(4, &[]);
    world.work();
    assert_eq!(world.job(id)["reason"], "no_changes");
}

#[test]
fn destroy_needs_force_for_unsaved_work() {
    let world = world_of_four();
    let [two, three] = [2, 3].map(issue);
    let ran = world.run(&["destroy", &two, &three]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    for why in [
        "git.test/o/r#2 is kept: it has 1 commit that is on no branch of the remote",
        "git.test/o/r#3 is kept: it has changes without a commit",
    ] {
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
    }
    // The branch is unsaved work without its worktree, too.
    fs::remove_dir_all(world.worktree(2)).expect("it is there");
    assert_eq!(world.run(&["destroy", &two]).code, 1);
    assert!(world.ok(&["list"]).contains("  branch    issue-2\n  worktree  gone\n"));
    let ran = world.run(&["destroy", &two, &three, "--force"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(branches(&world), "issue-1\nissue-4");
    assert!(!world.worktree(3).exists());
    let ran = world.run(&["destroy", &two]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("there is no session of git.test/o/r#2"), "{}", ran.stderr);
    // Half gone, as after a crash, is no reason to keep the rest.
    fs::remove_dir_all(world.worktree(1)).expect("it is there");
    assert_eq!(
        world.ok(&["destroy", &issue(1)]),
        "Removed git.test/o/r#1: worktree, branch and session\n"
    );
}

#[test]
fn nobody_takes_a_worktree_from_under_somebody() {
    let mut world = World::new();
    let root = world.root();
    world.agent(&format!(
        "echo > {0}/begun; until [ -e {0}/go ]; do sleep 0.02; done",
        root.display()
    ));
    let id = world.enqueue(1, &[]);
    let _worker = world.worker(&[]);
    world.file("begun");
    let one = issue(1);
    for arguments in [&["destroy", &one][..], &["destroy", &one, "--force"]] {
        let ran = world.run(arguments);
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains("job 1 is at work there"), "{}", ran.stderr);
    }
    assert_eq!(world.ok(&["prune"]), "Kept git.test/o/r#1: job 1 is notified\n0 removed, 1 kept\n");
    fs::write(root.join("go"), "").expect("a file");
    world.ended(id);
    let somebody = world.somebody_in(&world.worktree(1));
    let ran = world.run(&["destroy", &one]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains(&format!("process {} works in it", somebody.pid())));
    drop(somebody);
    assert_eq!(world.run(&["destroy", &one]).code, 0);
    assert!(!world.worktree(1).exists());
}

#[test]
fn work_that_was_pushed_goes_on_where_it_was() {
    let world = world_of_four();
    world.ok(&["destroy", &issue(1)]);
    let id = world.enqueue(1, &[]);
    world.work();
    let log = world.git(&world.worktree(1), &["log", "--format=%s"]);
    assert_eq!(log, "one\nbegin", "and no second beginning: {}", world.log(id));
    assert_eq!(world.job(id)["reason"], "no_changes");
}
