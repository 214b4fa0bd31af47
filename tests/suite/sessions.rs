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

fn issue(number: u64) -> String {
    format!("{REPOSITORY}#{number}")
}

#[test]
fn prune_removes_what_is_clean_and_pushed_and_says_why_it_keeps_the_rest() {
    let world = world_of_four();
    let kept = "Kept git.test/o/r#2: it has 1 commit that is on no branch of the remote (issue-2, ";
    let lines = |text: &str| text.lines().map(String::from).collect::<Vec<_>>();
    // The remote is asked where it makes a difference: the push came after its job's fetch.
    let would = lines(&world.ok(&["prune", "--dry-run"]));
    assert_eq!(would[0], "Would remove git.test/o/r#1");
    assert!(would[1].starts_with(kept) && would[1].ends_with(" B)"), "{would:#?}");
    assert_eq!(would[2], "Kept git.test/o/r#3: it has an untracked file (three, 2 B)");
    assert_eq!(would[3..], ["Would remove git.test/o/r#4", "2 would be removed, 2 kept"]);
    let items = items(&world);
    let pick = |name: &str| items.iter().map(|item| item[name].clone()).collect::<Vec<_>>();
    assert_eq!(pick("ahead"), [1, 1, 0, 0]);
    assert_eq!(pick("unpushed"), [0, 1, 0, 0]);
    assert_eq!(pick("dirty"), [false, false, true, false]);
    assert_eq!(pick("state"), ["completed", "completed", "error", "error"]);
    assert_eq!(items[2]["unsaved"][0]["what"], "untracked");
    assert_eq!(items[2]["unsaved"][0]["bytes"], 2);
    assert_eq!(items[1]["work"], "branch issue-2");
    assert_eq!(items[1]["tip"].as_str().map(str::len), Some(40));
    let text = world.ok(&["list"]);
    for line in [
        "git.test/o/r#2\n  state     job 2 ended: completed; used ",
        "  work      1 commit, pushed\n  branch    issue-1\n",
        "  work      1 commit, 1 not pushed\n  unsaved   1 commit that is on no branch",
        "  work      no commits, changes without a commit\n  unsaved   an untracked file (three",
    ] {
        assert!(text.contains(line), "{text}");
    }

    assert_eq!(world.ok(&["prune", "--older-than=1h"]).lines().last(), Some("0 removed, 4 kept"));
    assert!((1..=4).all(|issue| world.worktree(issue).is_dir()), "nothing is gone yet");
    let removed = lines(&world.ok(&["prune"]));
    assert_eq!([&removed[0], &removed[3]], ["Removed git.test/o/r#1", "Removed git.test/o/r#4"]);
    assert_eq!(removed[1..3], would[1..3]);
    assert_eq!(removed[4], "2 removed, 2 kept");
    let there: Vec<bool> = (1..=4).map(|issue| world.worktree(issue).is_dir()).collect();
    assert_eq!(there, [false, true, true, false]);
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
        "git.test/o/r#2 is kept: it has 1 commit that is on no branch of the remote (issue-2, ",
        "git.test/o/r#3 is kept: it has an untracked file (three, 2 B)",
    ] {
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
    }
    // What was kept of it is unsaved work without its worktree, too: its next job goes on there.
    fs::remove_dir_all(world.worktree(2)).expect("it is there");
    assert_eq!(world.run(&["destroy", &two]).code, 1);
    assert!(world.ok(&["list"]).contains("  branch    issue-2\n  worktree  gone\n"));
    let ran = world.run(&["destroy", &two, &three, "--force"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(!world.worktree(3).exists());
    assert_eq!(world.run(&["diff", "2"]).code, 1, "and with force what was kept of it");
    assert!(world.ok(&["diff", "1"]).contains("+1\n"));
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
    assert_eq!(world.ok(&["diff", &id.to_string()]), "");
    let log = world.git(&world.worktree(1), &["log", "--format=%s"]);
    assert_eq!(log, "one\nbegin", "and no second beginning: {}", world.log(id));
    assert_eq!(world.job(id)["reason"], "no_changes");
}

#[test]
fn a_remote_that_does_not_answer_saves_what_is_not_known_to_be_on_it() {
    let mut world = World::new();
    world.set("NETWORK_RETRY_DELAY_SECONDS", "0");
    world.agent("echo 1 > one; git add one; git commit -qm one; git push -q origin issue-1");
    world.enqueue(1, &[]);
    world.work();
    fs::rename(world.root().join("remote"), world.root().join("away")).expect("a move");
    let pruned = world.ok(&["prune"]);
    for words in ["Kept git.test/o/r#1: it has 1 commit", "the remote could not be asked: "] {
        assert!(pruned.contains(words), "{pruned}");
    }
    fs::rename(world.root().join("away"), world.root().join("remote")).expect("a move");
    assert_eq!(world.ok(&["prune"]), "Removed git.test/o/r#1\n1 removed, 0 kept\n");
}

#[test]
fn an_interrupted_removal_is_finished_and_an_old_worktree_is_left() {
    let mut world = World::new();
    world.agent("exit 0");
    world.ok(&["init"]);
    let worktrees = world.home().join("worktrees");
    let half = worktrees.join(".removing-0-git.test+o+r+7");
    for folder in [&half.join("src"), &world.worktree(1)] {
        fs::create_dir_all(folder).expect("a folder");
    }
    fs::write(half.join("src/x"), "x").expect("a file");
    let pointer =
        format!("gitdir: {}/repos/git.test+o+r.git/worktrees/x\n", world.home().display());
    fs::write(world.worktree(1).join(".git"), pointer).expect("a file");
    let pruned = world.ok(&["prune"]);
    assert!(pruned.contains("Kept git.test/o/r#1: it is a worktree of version 0.1.0"), "{pruned}");
    assert!(!half.exists());
    let ran = world.run(&["destroy", &issue(1)]);
    assert_eq!((ran.code, world.worktree(1).is_dir()), (1, true), "{}", ran.stderr);
    assert!(ran.stderr.contains("it is a worktree of version 0.1.0"), "{}", ran.stderr);
    world.ok(&["destroy", "--force", &issue(1)]);
    assert!(!world.worktree(1).exists());
}

#[test]
fn what_was_kept_goes_when_its_job_is_gone_and_the_remote_has_it() {
    let world = world_of_four();
    let kept = |id: u64| {
        let refs = world.home().join(format!("evidence/git.test+o+r.git/refs/kugetsu/{id}"));
        refs.join("1").is_dir()
            && fs::read_dir(refs.join("1")).is_ok_and(|mut e| e.next().is_some())
    };
    assert!(kept(1) && kept(2));
    world.ok(&["destroy", &issue(1)]);
    assert!(kept(1), "its job is there");
    world.ok(&["queue", "clear"]);
    world.ok(&["prune"]);
    assert_eq!([kept(1), kept(2)], [false, true]);
}

#[test]
fn a_diff_tells_what_is_missing() {
    let mut world = World::new();
    world.agent("echo 1 > one; git add one; git commit -qm one");
    world.enqueue(1, &[]);
    for (of, code, words) in [
        ("9", 3, "there is no job 9"),
        ("git.test/o/r#9", 3, "git.test/o/r#9 has no job"),
        ("1", 1, "nothing was kept of job 1, which is pending"),
        ("nonsense", 1, "an issue is written"),
    ] {
        let ran = world.run(&["diff", of]);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{of}");
        assert!(ran.stderr.contains(words), "{of}: {}", ran.stderr);
    }
    world.work();
    let stat = world.ok(&["diff", "1", "--stat"]);
    assert!(stat.contains(" one | 1 +\n 1 file changed, 1 insertion(+)\n"), "{stat}");
    let text = world.ok(&["diff", "1"]);
    world.git(&world.root(), &["clone", "-q", "remote/o/r.git", "copy"]);
    fs::write(world.root().join("x.diff"), text).expect("a file");
    world.git(&world.root().join("copy"), &["apply", "../x.diff"]);
    assert_eq!(fs::read_to_string(world.root().join("copy/one")).expect("a file"), "1\n");
}
