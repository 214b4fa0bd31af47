//! Scripted agents through the whole pipeline: what they do, and what becomes of their jobs.

use std::fs;

use crate::support::{World, is_alive, processes_with, wait_for};

const COMMIT: &str = "echo work > work.txt; git add work.txt; git commit -qm work";

/// One attempt of an agent, and the job after it.
fn check(script: &str, options: &[&str], state: &str, reason: &str) -> (World, serde_json::Value) {
    let mut world = World::new();
    world.agent(script);
    world.set("KUGETSU_MAX_ATTEMPTS", "1");
    let id = world.enqueue(1, options);
    world.work();
    let job = world.job(id);
    assert_eq!(
        (job["state"].as_str(), job["reason"].as_str()),
        (Some(state), Some(reason)),
        "{job:#}\n{}",
        world.log(id)
    );
    world.assert_no_process_left();
    assert_eq!(fs::read_dir(world.home().join("runs")).expect("a folder").count(), 0);
    (world, job)
}

#[test]
fn a_commit_completes_the_job() {
    let (world, job) = check(COMMIT, &[], "completed", "done");
    assert_eq!(job["attempts"][0]["commits"], 1);
    assert_eq!(job["branch"], "issue-1");
    let worktree = world.worktree(1);
    assert_eq!(job["worktree"], worktree.display().to_string());
    assert_eq!(world.git(&worktree, &["log", "--format=%s", "issue-1"]), "work\nbegin");
    assert_eq!(world.git(&worktree, &["status", "--porcelain", "--ignored"]), "");
}

#[test]
fn a_commit_counts_also_when_the_agent_fails_afterwards() {
    let (_, job) = check(&format!("{COMMIT}; exit 1"), &[], "completed", "done");
    assert_eq!(job["detail"], "1 commit, although it ended with exit code 1");
}

#[test]
fn nothing_done_is_an_error() {
    check("exit 0", &[], "error", "no_changes");
}

#[test]
fn a_failure_is_an_error_with_the_last_words() {
    let (_, job) = check("echo; echo 'no credit left' >&2; exit 1", &[], "error", "agent_error");
    assert_eq!(job["detail"], "exit code 1: no credit left");
    assert_eq!(job["attempts"][0]["exit_code"], 1);
}

#[test]
fn changes_without_a_commit_are_reminded_of_once() {
    let script = "cat >> ../said; echo x >> work.txt";
    let (world, job) = check(script, &[], "error", "uncommitted");
    let said = fs::read_to_string(world.home().join("worktrees/said")).expect("it was written");
    assert!(said.starts_with("fix itYou ended without a commit"), "{said}");
    assert_eq!(said.matches("without a commit").count(), 1);
    assert_eq!(job["attempts"].as_array().map(Vec::len), Some(1), "all in one attempt");
    let kept = fs::read_to_string(world.worktree(1).join("work.txt"));
    assert_eq!(kept.expect("changes are kept"), "x\nx\n");
}

#[test]
fn a_reminder_that_is_heeded_completes_the_job() {
    let script =
        "if [ -e work.txt ]; then git add .; git commit -qm work; else echo x > work.txt; fi";
    let (world, _) = check(script, &[], "completed", "done");
    assert_eq!(world.git(&world.worktree(1), &["status", "--porcelain"]), "");
}

#[test]
fn a_failure_is_retried_and_the_worktree_is_the_same() {
    let mut world = World::new();
    world.agent(&format!(
        "echo $KUGETSU_JOB >> ../tries; [ $KUGETSU_ATTEMPT = 3 ] || exit 1; {COMMIT}"
    ));
    let id = world.enqueue(1, &[]);
    world.work();
    let job = world.job(id);
    assert_eq!(job["state"], "completed", "{job:#}");
    let tries = fs::read_to_string(world.home().join("worktrees/tries")).expect("it was written");
    assert_eq!(tries, format!("{id}/1\n{id}/2\n{id}/3\n"));
}

#[test]
fn an_agent_that_ignores_term_is_killed_after_its_grace() {
    let script =
        "trap '' TERM; (trap '' TERM; setsid sleep 1000 & sleep 1000) & sleep 1000 & wait; wait";
    let (_, job) = check(script, &["--timeout=400ms"], "error", "timeout");
    assert_eq!(job["attempts"][0]["signal"], 9);
}

#[test]
fn an_agent_that_hangs_is_ended_by_term() {
    let (_, job) = check("exec sleep 1000", &["--timeout=400ms"], "error", "timeout");
    assert_eq!(job["attempts"][0]["signal"], 15);
}

#[test]
fn a_timeout_keeps_what_was_committed() {
    let (world, job) =
        check(&format!("{COMMIT}; sleep 1000"), &["--timeout=700ms"], "error", "timeout");
    assert_eq!(job["attempts"][0]["commits"], 1);
    assert_eq!(world.git(&world.worktree(1), &["log", "-1", "--format=%s"]), "work");
}

#[test]
fn what_the_base_had_already_is_no_work() {
    let mut world = World::new();
    world.agent("git merge -q origin/main");
    world.set("KUGETSU_MAX_ATTEMPTS", "1");
    let first = world.enqueue(1, &[]);
    world.work();
    assert_eq!(world.job(first)["reason"], "no_changes");
    let remote = world.root().join("remote/o/r.git");
    let draft = world.root().join("draft");
    world.git(&world.root(), &["clone", "-q", remote.to_str().expect("letters"), "draft"]);
    world.git(&draft, &["commit", "-q", "--allow-empty", "-m", "news"]);
    world.git(&draft, &["push", "-q", "origin", "main"]);
    let second = world.enqueue(1, &[]);
    world.work();
    assert_eq!(world.job(second)["reason"], "no_changes", "{:#}", world.job(second));
    let log = world.git(&world.worktree(1), &["log", "--format=%s"]);
    assert_eq!(log, "news\nbegin", "the merge itself went through");
}

#[test]
fn a_network_that_comes_back_is_waited_for() {
    const OUTAGE: &str =
        "echo \"fatal: unable to access 'x': Could not resolve host: x\" >&2; exit 128";
    let mut world = World::new();
    world.agent(COMMIT);
    world.set("NETWORK_RETRY_ATTEMPTS", "3");
    world.set("NETWORK_RETRY_DELAY_SECONDS", "0");
    let fetches = world.root().join("fetches");
    let count = |limit: u32| {
        let fetches = fetches.display();
        format!("echo >> {fetches}; [ $(wc -l < {fetches}) -gt {limit} ] || {{ {OUTAGE}; }}")
    };
    world.fake_git_fetch(&count(2));
    let id = world.enqueue(1, &[]);
    world.work();
    let job = world.job(id);
    assert_eq!((&job["state"], &job["attempt"]), (&"completed".into(), &1.into()), "{job:#}");

    // A longer outage puts the job off, and costs no attempt.
    fs::remove_file(&fetches).expect("it is there");
    world.fake_git_fetch(&count(7));
    let id = world.enqueue(2, &["--max-attempts=1"]);
    let _worker = world.worker(&[]);
    for attempts in 1..=2 {
        wait_for("a deferral", || {
            (world.job(id)["attempts"].as_array()?.len() == attempts).then_some(())
        });
        world.ok(&["queue", "edit", &id.to_string(), "--delay=0s"]);
    }
    let job = world.ended(id);
    let attempts = job["attempts"].as_array().expect("attempts");
    let reasons: Vec<&str> = attempts.iter().filter_map(|a| a["reason"].as_str()).collect();
    assert_eq!(reasons, ["deferred", "deferred", "done"], "{job:#}");
    assert!(attempts[0]["detail"].as_str().is_some_and(|d| d.contains("Could not resolve host")));
}

#[test]
fn a_repository_that_is_not_there_is_an_error_at_once() {
    let mut world = World::new();
    world.agent(COMMIT);
    let ran = world.ok(&["queue", "enqueue", "git.test/no/such#1", "fix", "--format=json"]);
    let id = serde_json::from_str::<serde_json::Value>(&ran).expect("JSON")["id"].as_u64();
    world.work();
    let job = world.job(id.expect("a number"));
    assert_eq!((&job["reason"], &job["attempt"]), (&"worktree_failed".into(), &1.into()));
    assert!(job["detail"].as_str().is_some_and(|d| d.contains("no/such.git")), "{job:#}");
}

#[test]
fn a_folder_behind_a_symbolic_link_is_as_good() {
    let mut world = World::new();
    world.agent("echo $KUGETSU_JOB >> x; git add x; git commit -qm x");
    let link = world.root().join("link");
    fs::create_dir(world.root().join("real")).expect("a folder");
    std::os::unix::fs::symlink(world.root().join("real"), &link).expect("a link");
    world.set("KUGETSU_DIR", link.join("k").to_str().expect("letters"));
    for _ in 0..2 {
        let id = world.enqueue(1, &[]);
        world.work();
        assert_eq!(world.state(id), "completed", "{:#}", world.job(id));
    }
}

#[test]
fn what_an_agent_leaves_survives_its_own_cleaning() {
    let mut world = World::new();
    world
        .agent("[ $KUGETSU_ATTEMPT = 2 ] && exit 0; git clean -fdxq; echo precious > work; exit 1");
    world.set("KUGETSU_MAX_ATTEMPTS", "2");
    let id = world.enqueue(1, &[]);
    world.work();
    assert_eq!(world.job(id)["reason"], "uncommitted", "{:#}", world.job(id));
    let work = fs::read_to_string(world.worktree(1).join("work"));
    assert_eq!(work.expect("it is kept"), "precious\n");
}

#[test]
fn a_flood_of_log_is_stopped() {
    let mut world = World::new();
    world.agent("yes flood");
    world.set("KUGETSU_LOG_MAX", "1MiB");
    let id = world.enqueue(1, &[]);
    world.work();
    assert_eq!(world.job(id)["reason"], "log_limit");
    world.assert_no_process_left();
}

#[test]
fn what_an_agent_leaves_running_ends_with_it() {
    let script = format!(
        "{COMMIT}; sleep 1000 & setsid sh -c 'sleep 1000 & sleep 1000' & (setsid sleep 1000 &) ; exit 0"
    );
    check(&script, &[], "completed", "done");
}

#[test]
fn an_agent_that_cannot_be_started_is_tried_again_a_few_times() {
    let mut world = World::new();
    world.set("KUGETSU_AGENT_COMMAND", "{worktree}/no-such-program");
    let id = world.enqueue(1, &[]);
    world.work();
    let job = world.job(id);
    assert_eq!(job["reason"], "start_failed", "{job:#}");
    assert_eq!(job["attempts"].as_array().map(Vec::len), Some(5));
    assert!(job["detail"].as_str().is_some_and(|d| d.contains("no-such-program")), "{job:#}");
}

#[test]
fn an_agent_gets_its_world_and_nothing_else() {
    let mut world = World::new();
    world.agent(&format!(
        "{{ echo \"args: $*\"; echo \"PWD: $PWD\"; echo \"cwd: $(readlink /proc/$$/cwd)\"; \
           echo \"input: $(cat)\"; cat ${{KUGETSU_MESSAGE_FILE%/*}}/context.txt; ls -l /proc/$$/fd | sed -n 's/.* \\([0-9]*\\) -> /fd \\1 /p'; \
           echo \"sid: $(cut -d' ' -f6 /proc/$$/stat)\"; env; }} > {0}/seen.tmp; \
         mv {0}/seen.tmp {0}/seen; {COMMIT}",
        world.root().display()
    ));
    let agent = world.root().join("agent.sh");
    let template = format!(
        "sh {} {{job}} '{{issue}} x' [ --session {{session}} ] {{branch}}",
        agent.display()
    );
    world.set("KUGETSU_AGENT_COMMAND", &template);
    world.set("GITEA_TOKEN", "t0p-s3cret");
    world.set("OPENCODE_SERVER_PASSWORD", "not for agents");
    world.set("OPENCODE_PID", "1");
    world.set("GIT_DIR", "/nowhere");
    let id = world.enqueue(1, &[]);
    world.work();
    assert_eq!(world.state(id), "completed", "{}", world.log(id));
    let seen = fs::read_to_string(world.root().join("seen")).expect("it was written");
    let worktree = world.worktree(1).display().to_string();
    let has = |line: &str| assert!(seen.lines().any(|l| l == line), "no {line:?} in:\n{seen}");
    has(&format!("args: {id} git.test/o/r#1 x issue-1"));
    has(&format!("PWD: {worktree}"));
    has(&format!("cwd: {worktree}"));
    has("input: fix it");
    let own = world.home().join(format!("runs/{id}-1-1/agent")).display().to_string();
    has(&format!("KUGETSU_MESSAGE_FILE={own}/message.txt"));
    has(&format!("KUGETSU_RESULT={own}/result.json"));
    has(&format!("TMPDIR={own}/tmp"));
    has("KUGETSU_ISSUE=git.test/o/r#1");
    has("KUGETSU_BRANCH=issue-1");
    has("KUGETSU_SESSION=");
    has(&format!("KUGETSU_WORKTREE={worktree}"));
    has(&format!("KUGETSU_JOB={id}/1"));
    has("GITEA_TOKEN=t0p-s3cret");
    for absent in ["OPENCODE_SERVER_PASSWORD", "OPENCODE_PID", "GIT_DIR"] {
        assert!(!seen.contains(&format!("{absent}=")), "{seen}");
    }
    let open: Vec<&str> =
        seen.lines().filter_map(|line| line.strip_prefix("fd ")?.split(' ').nth(1)).collect();
    assert!(!open.iter().any(|file| file.contains("queue.redb") || file.contains("/wake")));
    assert!(open.iter().any(|file| file.ends_with("/lock")), "it holds its run's lock: {open:?}");
    assert!(seen.contains("issue: git.test/o/r#1\nbranch: issue-1\nbase: "), "{seen}");
    assert!(!world.worktree(1).join(".kugetsu").exists(), "nothing of kugetsu's is in the tree");
}

#[test]
fn a_secret_is_written_down_nowhere() {
    let mut world = World::new();
    world.agent(COMMIT);
    fs::create_dir_all(world.home()).expect("a folder");
    fs::write(world.home().join("config"), "GITEA_TOKEN=t0p-s3cret\n").expect("a file");
    world.agent(&format!("[ \"$GITEA_TOKEN\" = t0p-s3cret ] && {{ {COMMIT}; }}; sleep 1000"));
    let id = world.enqueue(1, &[]);
    let worker = world.worker(&[]);
    wait_for("a commit", || world.worktree(1).join("work.txt").exists().then_some(()));
    let found = grep(&world.root(), b"t0p-s3cret");
    let expected = [world.root().join("agent.sh"), world.home().join("config")]
        .map(|p| p.display().to_string());
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(found, expected, "it is where the test put it, and nowhere else");
    let marker = format!("KUGETSU_DIR={}", world.home().display());
    let processes = processes_with(&marker);
    assert!(processes.len() > 2, "a worker, a shim and an agent");
    for pid in processes {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains("t0p-s3cret"), "process {pid}");
    }
    world.ok(&["queue", "cancel", &id.to_string()]);
    world.ended(id);
    drop(worker);
}

fn grep(folder: &std::path::Path, needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            found.extend(grep(&path, needle));
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            if bytes.windows(needle.len()).any(|window| window == needle) {
                found.push(path.display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn cancelling_a_running_job_ends_its_agent() {
    let mut world = World::new();
    world.agent(&format!("echo $$ > {}/pid; exec sleep 1000", world.root().display()));
    let id = world.enqueue(1, &[]);
    let waiting = world.enqueue(1, &[]);
    let _worker = world.worker(&[]);
    let pid: i32 = world.file("pid").trim().parse().expect("a pid");
    let said = world.ok(&["queue", "cancel", &waiting.to_string(), &id.to_string()]);
    assert_eq!(
        said,
        format!(
            "Cancelled {waiting}: git.test/o/r#1\nCancelling {id}: git.test/o/r#1 (ending its agent)\n"
        )
    );
    let job = world.ended(id);
    assert_eq!(job["state"], "cancelled");
    assert!(!is_alive(pid));
    let again = world.run(&["queue", "cancel", &id.to_string()]);
    assert_eq!((again.code, again.stdout), (0, format!("Cancelled {id}: git.test/o/r#1\n")));
}

#[test]
fn jobs_of_one_issue_run_one_after_the_other_and_others_side_by_side() {
    let mut world = World::new();
    // Each agent waits until two issues are at work at once; a second of one issue would see the
    // first one's file.
    world.agent(&format!(
        "set -e; cd {}; n=${{KUGETSU_ISSUE##*#}}; mkdir busy-$n; \
         until [ -d busy-1 -a -d busy-2 ] || [ -e met ]; do sleep 0.01; done; touch met; \
         rmdir busy-$n; cd $PWD; cd \"$KUGETSU_WORKTREE\"; {}",
        world.root().display(),
        "echo $KUGETSU_JOB >> work.txt; git add .; git commit -qm \"$KUGETSU_JOB\""
    ));
    let ids = [world.enqueue(1, &[]), world.enqueue(1, &[]), world.enqueue(2, &[])];
    world.work();
    for id in ids {
        assert_eq!(world.state(id), "completed", "{}", world.log(id));
    }
    let order = world.git(&world.worktree(1), &["log", "--reverse", "--format=%s"]);
    assert_eq!(order, format!("begin\n{}/1\n{}/1", ids[0], ids[1]));
}
