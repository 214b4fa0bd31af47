//! What counts as done: new work on the issue's branch, whatever the agent's git was up to.

use super::{by_hand, diff, done_by, end, enqueue, id, issue, runs, world};

/// A first job's script (or none), what is done by hand after it, the script of the job that is
/// judged, and its end.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static str);

const PUSH_NEWS: &str = "news one news.txt";

const CASES: &[Case] = &[
    ("a commit", "", "", "commit", "completed (done)"),
    ("nothing", "", "", ":", "error (no_changes)"),
    ("only a pull", "", "", "news one news.txt; git pull -q origin main", "error (no_changes)"),
    (
        "only a merge of the base",
        "",
        "",
        "news one news.txt; git fetch -q origin
        git merge -q --no-ff --no-edit refs/remotes/origin/main",
        "error (no_changes)",
    ),
    (
        "a pull, and a commit",
        "",
        "",
        "news one news.txt; git pull -q origin main; commit",
        "completed (done)",
    ),
    (
        "only a rebase of earlier work",
        "commit",
        PUSH_NEWS,
        "git fetch -q origin
        git rebase -q refs/remotes/origin/main",
        "completed (updated)",
    ),
    (
        "only a merge into earlier work",
        "commit",
        PUSH_NEWS,
        "git fetch -q origin
        git merge -q --no-edit refs/remotes/origin/main",
        "completed (updated)",
    ),
    (
        "a rebase, and a commit",
        "commit",
        PUSH_NEWS,
        "git fetch -q origin
        git rebase -q refs/remotes/origin/main; commit",
        "completed (done)",
    ),
    (
        "an amended date",
        "commit",
        "",
        "git commit -q --amend --no-edit --date=2001-01-01T00:00:00",
        "error (no_changes)",
    ),
    ("an amended message", "commit", "", "git commit -q --amend -m other", "error (no_changes)"),
    (
        "an amended commit",
        "commit",
        "",
        "echo more >> work.txt; git commit -qa --amend --no-edit",
        "completed (done)",
    ),
    ("an empty commit", "", "", "git commit -q --allow-empty -m nothing", "error (no_changes)"),
    ("a commit and its revert", "", "", "commit; git revert --no-edit HEAD", "error (no_changes)"),
    ("a revert that was asked for", "commit", "", "git revert --no-edit HEAD", "completed (done)"),
    ("a reset", "commit", "", "git reset -q --hard HEAD~1", "error (no_changes)"),
    (
        "two commits made one",
        "commit; commit",
        "",
        "git reset -q --soft HEAD~2
        git commit -qm squashed",
        "error (no_changes)",
    ),
    ("changes only", "", "", "echo x > new.txt", "error (uncommitted)"),
    (
        "a commit on main",
        "",
        "",
        "git checkout -q -b main refs/remotes/origin/main || git checkout -q main
        commit",
        "completed (done)",
    ),
    (
        "a commit on a branch of its own",
        "",
        "",
        "git checkout -q -b mine; commit",
        "completed (done)",
    ),
    ("a commit on a detached HEAD", "", "", "git checkout -q --detach; commit", "completed (done)"),
    (
        "a commit on another branch, beside earlier work",
        "commit",
        "",
        "git checkout -q -b mine \
        refs/remotes/origin/main; commit",
        "error (off_branch)",
    ),
    (
        "a commit on a detached HEAD, beside earlier work",
        "commit",
        "",
        "git checkout -q --detach \
        refs/remotes/origin/main; commit",
        "error (off_branch)",
    ),
    ("a stash", "", "", "echo stashed >> README; git stash -q", "error (off_branch)"),
    (
        "a stash of new files",
        "",
        "",
        "echo stashed > new.txt; git stash -q -u",
        "error (off_branch)",
    ),
    (
        "a merge left with conflicts",
        "",
        "",
        "news one README; echo mine >> README; git commit -qam mine
        git fetch -q origin; git merge -q refs/remotes/origin/main; :",
        "error (unmerged)",
    ),
    (
        "a rebase left with conflicts",
        "",
        "",
        "news one README; echo mine >> README; git commit -qam mine
        git fetch -q origin; git rebase -q refs/remotes/origin/main; :",
        "error (unmerged)",
    ),
    (
        "a cherry-pick of what the base has",
        "",
        "",
        "news one news.txt; git fetch -q origin
        git cherry-pick refs/remotes/origin/main",
        "error (no_changes)",
    ),
    ("a commit, and an error", "", "", "commit; exit 1", "completed (done)"),
    ("an error", "", "", "exit 1", "error (agent_error)"),
    ("a commit that is pushed", "", "", "commit; git push -q origin issue-1", "completed (done)"),
    ("a push of nothing", "commit", "", "git push -q origin issue-1", "error (no_changes)"),
    (
        "a commit, its branch deleted here and pushed",
        "",
        "",
        "commit; git push -q origin issue-1
        git checkout -q --detach; git branch -q -D issue-1",
        "completed (done)",
    ),
    (
        "a commit among many untracked files",
        "",
        "",
        "mkdir many; (cd many; seq 20000 | xargs touch)
        commit",
        "completed (done)",
    ),
    ("a pipe in the tree", "", "", "mkfifo pipe; commit", "completed (done)"),
    (
        "a commit of an earlier job, and new changes",
        "commit",
        "",
        "echo x > new.txt",
        "error (uncommitted)",
    ),
    (
        "another issue's commit",
        "",
        "cd $DRAFT; git checkout -q -b issue-2; echo x > x; git add .; git commit -qm x
        git push -q origin issue-2; git checkout -q main",
        "git fetch -q origin; git merge -q refs/remotes/origin/issue-2",
        "error (no_changes)",
    ),
    ("a mode", "", "", "chmod +x README; git commit -qam mode", "completed (done)"),
    ("white space", "", "", "echo >> README; git commit -qam space", "completed (done)"),
    (
        "a file that is renamed",
        "",
        "",
        "git mv README READ; git commit -qm moved",
        "completed (done)",
    ),
    (
        "a binary file",
        "",
        "",
        "head -c 2000 /dev/urandom > b; git add b; git commit -qm b",
        "completed (done)",
    ),
    (
        "a branch renamed by its agent",
        "",
        "",
        "commit; git branch -m issue-1 better-name",
        "completed (done)",
    ),
    ("a root of its own", "", "", "git checkout -q --orphan fresh; commit", "error (off_branch)"),
];

#[test]
fn a_verdict_is_of_what_is_new_on_the_branch() {
    let mut failed = Vec::new();
    for (what, before, by_hand_then, script, expected) in CASES {
        let world = world();
        if !before.is_empty() {
            let first = done_by(&world, 1, before);
            assert_eq!(end(&first), "completed (done)", "before {what}: {first:#}");
        }
        by_hand(&world, by_hand_then);
        // The further round, where there is one, changes nothing.
        let once = "was=$ROOT/was-$(echo $KUGETSU_JOB | tr / -); [ -e $was ] && exit 0; : > $was";
        let job = done_by(&world, 1, &format!("{once}\n{script}"));
        if end(&job) != *expected {
            failed.push(format!("{what}: {}, not {expected}: {}", end(&job), job["detail"]));
        }
        // Whatever was judged, the earlier work is there to be seen.
        if !before.is_empty() && !diff(&world, "1").contains("+work of 1/1") {
            failed.push(format!("{what}: the first job's work cannot be seen any more"));
        }
        world.assert_no_process_left();
    }
    assert!(failed.is_empty(), "{} of {}: {failed:#?}", failed.len(), CASES.len());
}

#[test]
fn what_was_brought_onto_the_branch_is_there() {
    for script in [
        "git checkout -q -b mine; commit",
        "git checkout -q --detach; commit",
        "commit; git checkout -q --detach; git branch -q -D issue-1",
        "commit; git branch -m issue-1 better-name",
    ] {
        let world = world();
        let job = done_by(&world, 1, script);
        assert_eq!(
            (end(&job).as_str(), &job["commits"]),
            ("completed (done)", &1.into()),
            "{script}"
        );
        let log = world.git(&world.worktree(1), &["log", "--format=%s", "refs/heads/issue-1"]);
        assert_eq!(log, "work of 1/1\nbegin", "{script}");
        let head = world.git(&world.worktree(1), &["symbolic-ref", "HEAD"]);
        assert_eq!(head, "refs/heads/issue-1", "{script}: the clone is left on its branch");
        assert!(diff(&world, "1").contains("+work of 1/1"), "{script}");
    }
}

#[test]
fn an_agent_is_asked_once_to_bring_its_work_to_the_branch() {
    for (first, second) in [
        (
            "git checkout -q -b mine refs/remotes/origin/main; commit",
            "git checkout -q issue-1; git cherry-pick mine",
        ),
        ("echo stashed >> README; git stash -q", "git stash pop -q; git commit -qam popped"),
        (
            "news one README; echo mine >> README; git commit -qam mine; git fetch -q origin
             git merge -q refs/remotes/origin/main; :",
            "echo both > README; git add .; git commit -qm merged",
        ),
        // Two things at once are one round more, not two.
        (
            "echo x > new.txt; git checkout -q -b mine refs/remotes/origin/main; commit",
            "git add .; git commit -qm more; git checkout -q issue-1; git merge -q --no-edit mine",
        ),
    ] {
        let world = world();
        done_by(&world, 1, "echo earlier > earlier.txt; git add .; git commit -qm earlier");
        let script = format!(
            "if [ -e $ROOT/asked ]; then cat >> $ROOT/said\n{second}\nelse : > $ROOT/asked\n{first}\nfi"
        );
        let job = done_by(&world, 1, &script);
        assert_eq!(end(&job), "completed (done)", "{first}: {job:#}\n{}", world.log(id(&job)));
        assert_eq!(job["attempts"].as_array().map(Vec::len), Some(1), "{first}: in one attempt");
        assert_eq!(runs(&world), 3, "{first}: one further round");
    }
}

#[test]
fn where_the_work_is_can_be_read() {
    let world = world();
    done_by(&world, 1, "commit");
    let off = done_by(&world, 1, "git checkout -q -b mine-alone refs/remotes/origin/main; commit");
    let id = id(&off).to_string();
    for command in [&["queue", "show", &id][..], &["list"], &["logs", &id]] {
        let text = world.ok(command);
        assert!(text.contains("mine-alone"), "{command:?}: {text}");
    }
    assert!(diff(&world, &id).contains(&format!("+work of {id}/1")), "{}", diff(&world, &id));
    // A reset with nothing new names the tip that is kept.
    let tip = world.git(&world.worktree(1), &["rev-parse", "refs/heads/issue-1"]);
    let reset = done_by(&world, 1, "git checkout -q issue-1; git reset -q --hard HEAD~1");
    assert_eq!(end(&reset), "error (no_changes)", "{reset:#}");
    let detail = reset["detail"].as_str().expect("a text");
    assert!(detail.contains(&tip[..7]), "{tip} is not in: {detail}");
}

#[test]
fn new_work_is_measured_from_before_the_first_attempt() {
    let mut world = world();
    world.set("KUGETSU_MAX_ATTEMPTS", "2");
    // The first attempt's commit is the job's, and nothing is to be done for the second.
    let script = "if [ $KUGETSU_ATTEMPT = 1 ]; then commit; exec sleep 1000; fi";
    let id = {
        std::fs::write(world.root().join("issue-1.sh"), script).expect("a file");
        world.enqueue(1, &["--timeout=1s", "--max-attempts=2"])
    };
    world.work();
    assert_eq!(end(&world.job(id)), "completed (done)", "{:#}", world.job(id));
    // The same, and changes that are in no commit.
    let script = "if [ $KUGETSU_ATTEMPT = 1 ]; then commit; exec sleep 1000; fi; echo x > new.txt";
    std::fs::write(world.root().join("issue-2.sh"), script).expect("a file");
    let id = world.enqueue(2, &["--timeout=1s", "--max-attempts=2"]);
    world.work();
    assert_eq!(end(&world.job(id)), "error (uncommitted)", "{:#}", world.job(id));
    // Commits of a clone that was destroyed are none of the next job's.
    let first = done_by(&world, 3, "commit; git push -q origin issue-3; exit 1");
    assert_eq!(end(&first), "completed (done)");
    world.ok(&["destroy", &issue(3)]);
    assert_eq!(end(&done_by(&world, 3, ":")), "error (no_changes)");
}

/// Line endings that git calls a change without anybody having changed anything.
#[test]
fn phantom_changes_cost_no_second_run() {
    let world = world();
    by_hand(
        &world,
        "cd $DRAFT; printf 'a\\r\\nb\\r\\n' > crlf.txt; git -c core.autocrlf=false add crlf.txt
         git commit -qm crlf; echo '*.txt text eol=lf' > .gitattributes; git add .gitattributes
         git commit -qm attributes; git push -q",
    );
    let job = done_by(&world, 1, ":");
    assert_eq!(end(&job), "error (no_changes)", "{job:#}\n{}", world.log(id(&job)));
    assert_eq!(runs(&world), 1, "nobody is reminded of what nobody did");
}

#[test]
fn a_verdict_that_cannot_be_read_is_read_again_and_nothing_is_run_again() {
    let mut world = world();
    let blind = world.root().join("blind");
    // The looks at a clone fail for a while, as for want of memory.
    let is_blind = format!("[ -z \"$KUGETSU_RUN\" ] && [ -e {} ]", blind.display());
    world.fake_git(
        "*",
        &format!(
            "if {is_blind}; then echo > {}; kill -9 $$; fi",
            world.root().join("tried").display()
        ),
    );
    let id = enqueue(&world, 1, "commit; : > $ROOT/blind");
    let _worker = world.worker(&[]);
    world.file("tried");
    assert_eq!(world.state(id), "notified", "it stays so until it can be judged");
    std::fs::remove_file(&blind).expect("it is there");
    let job = world.ended(id);
    assert_eq!(end(&job), "completed (done)", "{job:#}");
    assert_eq!((runs(&world), &job["spent"]["attempts"]), (1, &0.into()));
}
