//! `doctor`: each finding is provoked once, looked at without a change, and mended if that is safe.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{World, is_alive, processes_with, wait_for};

const COMMITS: &str = "echo x > x; git add x; git commit -qm x";

/// A world with a job that is done.
fn worked() -> World {
    let mut world = World::new();
    world.agent(COMMITS);
    world.ok(&["init"]);
    world.enqueue(1, &[]);
    world.work();
    world
}

/// What a person can tell from outside of every file below kugetsu's folder.
fn everything(folder: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(path) = left.pop() {
        let about = fs::symlink_metadata(&path).expect("it is there");
        let bytes = if about.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        if about.is_dir() {
            left.extend(fs::read_dir(&path).expect("a folder").flatten().map(|entry| entry.path()));
        }
        found.insert(path, (about.mode(), about.mtime(), about.mtime_nsec(), bytes));
    }
    found
}

/// Runs doctor, which must leave everything as it is, and gives code and findings.
fn audit(world: &World) -> (i32, Vec<Value>) {
    let before = everything(&world.home());
    let ran = world.run(&["doctor", "--format=json"]);
    assert_eq!(ran.stderr, "");
    for (path, now) in everything(&world.home()) {
        assert!(before.get(&path) == Some(&now), "{} was changed", path.display());
    }
    let value: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(value["ok"], ran.code == 0);
    (ran.code, value["findings"].as_array().expect("findings").clone())
}

fn fix(world: &World) -> (i32, Vec<Value>) {
    let ran = world.run(&["doctor", "--fix", "--format=json"]);
    assert_eq!(ran.stderr, "");
    let value: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    (ran.code, value["findings"].as_array().expect("findings").clone())
}

/// The findings of one check, as `status: what: trouble`.
fn of<'f>(findings: &'f [Value], check: &str) -> Vec<String> {
    let text = |value: &'f Value| value.as_str().unwrap_or_default();
    let about = findings.iter().filter(|finding| finding["check"] == check);
    about
        .map(|f| format!("{}: {}: {}", text(&f["status"]), text(&f["what"]), text(&f["trouble"])))
        .collect()
}

/// One finding of a check has this status and these words, and is the only trouble.
fn assert_only(world: &World, check: &str, words: &[&str]) {
    let (code, findings) = audit(world);
    let said = of(&findings, check);
    let is_it = |line: &String| {
        line.starts_with("trouble: ") && words.iter().all(|word| line.contains(word))
    };
    assert!(said.iter().any(is_it), "{check}: {findings:#?}");
    let troubles = findings.iter().filter(|finding| finding["status"] == "trouble");
    assert_eq!((code, troubles.count()), (1, 1), "{findings:#?}");
    let without_remedy =
        findings.iter().find(|f| f["status"] == "trouble" && f["remedy"].is_null());
    assert_eq!(without_remedy, None);
}

/// --fix mends it, and all is well.
fn assert_mended(world: &World, check: &str) {
    let (code, findings) = fix(world);
    assert!(of(&findings, check).iter().any(|line| line.starts_with("mended: ")), "{findings:#?}");
    assert_eq!(code, 0, "{findings:#?}");
    assert_eq!(audit(world).0, 0);
}

/// --fix leaves it and everything else alone.
fn assert_left(world: &World, check: &str) {
    let all_but_dead_workers = || {
        let mut all = everything(&world.home());
        all.retain(|path, _| !path.starts_with(world.home().join("workers")));
        all
    };
    let before = all_but_dead_workers();
    let (code, findings) = fix(world);
    assert_eq!(code, 1);
    assert!(of(&findings, check).iter().any(|line| line.starts_with("trouble: ")), "{findings:#?}");
    assert!(before == all_but_dead_workers());
}

#[test]
fn a_healthy_world_is_well() {
    let world = worked();
    let (code, findings) = audit(&world);
    assert_eq!(code, 0, "{findings:#?}");
    for check in ["git", "programs", "committer", "folder", "config", "modes", "queue", "clock"] {
        assert_eq!(of(&findings, check).len(), 1, "{check}: {findings:#?}");
    }
    // Of the worker that has ended.
    let locks = of(&findings, "locks");
    assert_eq!(locks, ["note: 1 lock file of a worker that is gone: "]);
    let text = world.ok(&["doctor"]);
    assert!(text.contains("✓ commits are by Test <test@localhost>\n"), "{text}");
    assert!(text.ends_with("\nAll is well.\n"), "{text}");
    assert_mended(&world, "locks");
    assert_eq!(fs::read_dir(world.home().join("workers")).expect("a folder").count(), 0);
}

#[test]
fn programs_and_folders_that_are_missing_are_told() {
    let mut world = World::new();
    world.set("KUGETSU_AGENT_COMMAND", "no-such-agent");
    let ran = world.run(&["doctor", "--format=json"]);
    assert_eq!(ran.code, 1);
    for word in ["'no-such-agent' is not installed", "it is not there", "`kugetsu init` makes it"] {
        assert!(ran.stdout.contains(word), "{}", ran.stdout);
    }
    assert!(!world.home().exists(), "an audit makes nothing");
    fs::write(world.root().join("home/.gitconfig"), "[user]\n\tuseConfigOnly = true\n")
        .expect("a file");
    world.agent(COMMITS);
    world.ok(&["queue", "list"]);
    assert_only(&world, "committer", &["git does not know who you are"]);
}

#[test]
fn a_broken_configuration_is_told_and_nothing_is_mended() {
    let world = worked();
    let config = world.home().join("config");
    fs::write(&config, "NO_SUCH_KEY=1\n").expect("a file");
    fs::create_dir(world.home().join("runs/99-1-1")).expect("a folder");
    fs::set_permissions(world.home().join("logs"), fs::Permissions::from_mode(0o755))
        .expect("ours");
    let (code, findings) = audit(&world);
    assert_eq!(code, 1);
    assert!(of(&findings, "config")[0].contains("config:1: there is no key NO_SUCH_KEY"));
    assert_left(&world, "config");
    assert!(world.home().join("runs/99-1-1").is_dir());
    fs::write(&config, "MAX_CONCURRENT_AGENTS=2\n").expect("a file");
    let text = world.run(&["doctor"]).stdout;
    assert!(text.contains("2 things are to be mended; `kugetsu doctor --fix`"), "{text}");
}

#[test]
fn what_others_may_read_is_closed() {
    let world = worked();
    let open = |name: &str, mode| {
        fs::set_permissions(world.home().join(name), fs::Permissions::from_mode(mode))
            .expect("it is ours");
    };
    let mode = |name: &str| {
        let about = fs::metadata(world.home().join(name)).expect("it is there");
        about.permissions().mode() & 0o7777
    };
    open("queue.redb", 0o644);
    open("logs/dev-1.log", 0o640);
    open("runs", 0o755);
    assert_only(&world, "modes", &["3 files and folders", "queue.redb (644)", "runs (755)"]);
    assert_mended(&world, "modes");
    assert_eq!(["queue.redb", "logs/dev-1.log", "runs"].map(mode), [0o600, 0o600, 0o700]);
    fs::write(world.home().join("config"), "# GITEA_TOKEN=\n").expect("a file");
    open("config", 0o644);
    assert_eq!(audit(&world).0, 0, "without a token anybody may read it");
    fs::write(world.home().join("config"), " export GITEA_TOKEN=secret\n").expect("a file");
    assert_only(&world, "config", &["it holds GITEA_TOKEN", "mode 644"]);
    assert_mended(&world, "config");
    assert_eq!(mode("config"), 0o600);
}

#[test]
fn a_damaged_queue_is_a_finding_and_not_the_end() {
    let world = worked();
    let queue = world.home().join("queue.redb");
    fs::set_permissions(world.home().join("logs"), fs::Permissions::from_mode(0o755))
        .expect("ours");
    let whole = fs::read(&queue).expect("it is there");
    let mut torn = whole.clone();
    for byte in &mut torn[4096..] {
        *byte ^= 0x55;
    }
    for bytes in [b"x".repeat(9000), Vec::new(), torn] {
        fs::write(&queue, &bytes).expect("a file");
        let (code, findings) = audit(&world);
        assert_eq!(code, 8, "{findings:#?}");
        assert!(of(&findings, "queue")[0].starts_with("trouble: "), "{findings:#?}");
        assert!(of(&findings, "modes")[0].contains("logs (755)"), "the other checks go on");
        let before = everything(&world.home());
        assert_eq!(fix(&world).0, 8);
        assert!(everything(&world.home()) == before, "nothing is mended");
    }
    fs::remove_file(&queue).expect("it is ours");
    let (code, findings) = audit(&world);
    assert_eq!(code, 1);
    assert!(of(&findings, "queue")[0].contains("its jobs left runs or logs"), "{findings:#?}");
}

#[test]
fn a_queue_is_audited_beside_its_worker() {
    let mut world = World::new();
    world.agent("echo begun > \"$HOME/begun\"; while ! test -e \"$HOME/go\"; do sleep 0.02; done");
    world.enqueue(1, &[]);
    let mut worker = world.worker(&[]);
    world.file("home/begun");
    let (code, findings) = {
        let ran = world.run(&["doctor", "--format=json"]);
        let value: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        (ran.code, value["findings"].as_array().expect("findings").clone())
    };
    assert_eq!(code, 0, "{findings:#?}");
    assert_eq!(of(&findings, "workers"), ["good: 1 worker is running: "]);

    worker.kill();
    let agent_goes_on = ["job 1 (git.test/o/r#1)", "is gone: ", "its agent goes on"];
    assert_only(&world, "orphans", &agent_goes_on);
    assert_left(&world, "orphans");
    world.enqueue(2, &[]);
    let (_, findings) = audit(&world);
    let none = "trouble: workers: none is running, and 1 job is pending";
    assert_eq!(of(&findings, "workers"), [none]);

    // And now the shim: its agent has nobody any more.
    let marker = format!("KUGETSU_DIR={}", world.home().display());
    let is_shim = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "kugetsu-shim"
    };
    let shim = processes_with(&marker).into_iter().find(is_shim).expect("a shim");
    kill(Pid::from_raw(shim), Signal::SIGKILL).expect("it is ours");
    wait_for("the end of the shim", || (!is_alive(shim)).then_some(()));
    let (_, findings) = audit(&world);
    assert!(of(&findings, "orphans")[0].contains("its agent's shim is gone"), "{findings:#?}");
    let processes = of(&findings, "processes");
    assert!(processes.iter().any(|line| line.contains("its shim is dead")), "{findings:#?}");
    world.shell("touch home/go");
    world.work();
    assert_eq!(of(&audit(&world).1, "processes"), Vec::<String>::new());
    world.assert_no_process_left();
}

#[test]
fn a_process_without_a_job_is_told() {
    let mut world = worked();
    let marker = format!("{}/runs/1-1-1", world.home().display());
    world.set("KUGETSU_RUN", &marker);
    let mut command = crate::support::program("sleep");
    command.arg("1000").envs(world.environment());
    let process = crate::support::Background::spawn(&mut command);
    let world = {
        world.set("KUGETSU_RUN", "");
        world
    };
    let name = format!("process {}", process.pid());
    wait_for("the program", || {
        processes_with(&format!("KUGETSU_RUN={marker}")).contains(&process.pid()).then_some(())
    });
    assert_only(&world, "processes", &[&name, "no job is running there"]);
    assert_left(&world, "processes");
    assert!(is_alive(process.pid()));
}

#[test]
fn runs_that_are_over_are_removed_and_those_that_live_are_not() {
    let world = worked();
    let runs = world.home().join("runs");
    let private = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    for name in ["1-1-1", "99-1-1"] {
        fs::create_dir(runs.join(name)).expect("a folder");
        private(&runs.join(name), 0o700);
    }
    assert_only(&world, "runs", &["2 run folders", "1-1-1, 99-1-1"]);
    assert_mended(&world, "runs");
    assert_eq!(fs::read_dir(&runs).expect("a folder").count(), 0);

    fs::create_dir(runs.join("98-1-1")).expect("a folder");
    private(&runs.join("98-1-1"), 0o700);
    let held = fs::File::create(runs.join("98-1-1/lock")).expect("a file");
    private(&runs.join("98-1-1/lock"), 0o600);
    held.lock().expect("nobody else holds it");
    assert_only(&world, "runs", &["run 98-1-1", "a process holds its lock"]);
    assert_left(&world, "runs");
    drop(held);
    assert_mended(&world, "runs");
}

#[test]
fn what_is_damaged_is_named_and_left() {
    type Harm = fn(&World);
    let damaged: [(Harm, &str, &[&str]); 4] = [
        (
            |w| fs::remove_file(w.worktree(1).join(".git/HEAD")).expect("ours"),
            "worktrees",
            &["git.test+o+r+1", "it cannot be used"],
        ),
        (
            |w| fs::remove_dir_all(w.worktree(1).join(".git")).expect("ours"),
            "worktrees",
            &["git.test+o+r+1", "it cannot be used"],
        ),
        (
            |w| fs::write(w.home().join("mirrors/git.test+o+r.git/HEAD"), "").expect("a file"),
            "mirrors",
            &["mirrors/git.test+o+r.git", "HEAD is empty"],
        ),
        (
            |w| fs::write(w.home().join("evidence/git.test+o+r.git/config"), "").expect("a file"),
            "mirrors",
            &["evidence/git.test+o+r.git", "config is empty"],
        ),
    ];
    for (harm, check, words) in damaged {
        let world = worked();
        harm(&world);
        assert_only(&world, check, words);
        assert_left(&world, check);
    }
}

#[test]
fn folders_that_nobody_needs_are_told() {
    let world = worked();
    let private = |path: &Path| {
        fs::create_dir(path).expect("a folder");
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("ours");
    };
    let worktrees = world.home().join("worktrees");
    let aside = worktrees.join("git.test+o+r+9.damaged-1");
    for folder in [
        &worktrees.join("mine"),
        &worktrees.join("git.test+o+r+8.unfinished"),
        &worktrees.join(".removing-0-git.test+o+r+7"),
        &aside,
    ] {
        private(folder);
    }
    fs::write(aside.join("work"), vec![b'x'; 3 << 20]).expect("a file");
    let log = world.home().join("logs/dev-77.log");
    fs::write(&log, "hello\n").expect("a file");
    fs::set_permissions(&log, fs::Permissions::from_mode(0o600)).expect("ours");
    let (_, findings) = audit(&world);
    let told = format!("{:?}{:?}", of(&findings, "worktrees"), of(&findings, "clones"));
    for words in [
        "worktrees/mine is no issue's",
        "git.test+o+r+8.unfinished was interrupted in the making",
        ".removing-0-git.test+o+r+7 is what an interrupted removal left",
        "git.test+o+r+9.damaged-1 was damaged, and is kept aside (3.0 MiB)",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert_eq!(of(&findings, "logs"), ["note: 1 log of jobs that are gone, 6 B: dev-77.log: "]);
    fix(&world);
    assert!(log.exists() && aside.join("work").exists(), "logs and what is kept aside are work");
}

#[test]
fn room_is_told_in_bytes_and_inodes_and_a_temporary_folder_is_tried() {
    let mut world = worked();
    let (_, findings) = audit(&world);
    let disk = of(&findings, "disk");
    assert!(disk.iter().all(|line| line.contains("inodes") || line.contains("free")), "{disk:?}");
    assert_eq!(of(&findings, "temporary").len(), 1);
    let nowhere = world.root().join("nowhere").display().to_string();
    world.set("TMPDIR", &nowhere);
    let (code, findings) = audit(&world);
    let said = of(&findings, "temporary");
    assert!(code == 1 && said[0].starts_with("trouble: "), "{said:?}");
    assert!(said[0].contains(&nowhere), "{said:?}");
}

#[test]
fn signing_is_tried() {
    let world = worked();
    let signer = world.root().join("signer");
    let identity = fs::read_to_string(world.root().join("home/.gitconfig")).expect("it is there");
    let config =
        format!("{identity}[commit]\n\tgpgSign = true\n[gpg]\n\tprogram = {}\n", signer.display());
    fs::write(world.root().join("home/.gitconfig"), config).expect("a file");
    for (script, is_well) in [
        ("cat > /dev/null; echo '[GNUPG:] SIG_CREATED D' >&2; echo signature", true),
        ("echo 'gpg: no pinentry' >&2; exit 2", false),
    ] {
        fs::write(&signer, format!("#!/bin/sh\n{script}\n")).expect("a file");
        fs::set_permissions(&signer, fs::Permissions::from_mode(0o755)).expect("ours");
        let (_, findings) = audit(&world);
        let said = of(&findings, "signing");
        assert_eq!(said[0].starts_with("good: "), is_well, "{said:?}");
    }
}

#[test]
fn whoever_holds_the_run_of_a_dead_shim_is_named_and_ended_by_force() {
    let mut world = World::new();
    world.agent("echo begun > \"$HOME/begun\"; while ! test -e \"$HOME/go\"; do sleep 0.02; done");
    world.enqueue(1, &[]);
    let mut worker = world.worker(&[]);
    world.file("home/begun");
    worker.kill();
    let marker = format!("KUGETSU_DIR={}", world.home().display());
    for pid in processes_with(&marker) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    wait_for("their end", || processes_with(&marker).is_empty().then_some(()));
    let runs = fs::read_dir(world.home().join("runs")).expect("a folder");
    let run = runs.flatten().next().expect("a run").path();
    let mut holder = world.background_shell(&format!("flock {}/lock sleep 1000", run.display()));
    let held = wait_for("the lock", || {
        let said = of(&audit(&world).1, "held");
        said.first().cloned()
    });
    for words in ["trouble: job 1", "is held by process ", "sleep 1000"] {
        assert!(held.contains(words), "{held}");
    }
    let why = world.ok(&["queue", "why", "1"]);
    assert!(why.contains("its run is held by process "), "{why}");
    assert!(why.contains("`kugetsu queue cancel --force 1` ends it"), "{why}");
    world.ok(&["queue", "cancel", "--force", "1"]);
    holder.wait();
    wait_for("the end of its heirs", || of(&audit(&world).1, "held").is_empty().then_some(()));
    world.work();
    assert_eq!(world.state(1), "cancelled");
}

#[test]
fn a_job_from_the_future_tells_of_a_wrong_clock() {
    let world = worked();
    let line = world.ok(&["queue", "export"]);
    let mut job: Value = serde_json::from_str(line.trim()).expect("JSON");
    job["id"] = 2.into();
    let at = job["enqueued_at"].as_str().expect("a time").to_string();
    job["enqueued_at"] = at.replacen("20", "21", 1).into();
    let ran = world.run_with_input(&["queue", "import", "-"], job.to_string().as_bytes());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_only(&world, "clock", &["jobs were enqueued later: job 2 at 21"]);
    assert_left(&world, "clock");
}

#[test]
fn a_git_at_work_is_told_and_no_trouble() {
    let mut world = World::new();
    world.agent(COMMITS);
    world.fake_git_fetch("while ! test -e \"$HOME/go\"; do sleep 0.02; done");
    world.enqueue(1, &[]);
    let _worker = world.worker(&[]);
    wait_for("a git at work", || {
        let ran = world.run(&["doctor", "--format=json"]);
        let value: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        let findings = value["findings"].as_array().expect("findings");
        let said = of(findings, "repositories");
        let is_said = |line: &String| line.starts_with("good: git.test+o+r.git: held by process ");
        said.iter().any(is_said).then_some(())
    });
    world.shell("touch home/go");
    assert_eq!(world.ended(1)["state"], "completed");
}
