//! Power losses on real file systems: what was acknowledged is there when the machine is back.
//!
//! kugetsu's folder lies on a loop device. Right after an acknowledgement the image below it is
//! copied: what the file system has not written by then is lost, as it would be. The copy is mounted
//! in the place of the first one, kugetsu believes in another boot, and the promises are looked at.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::disk::{Disk, Kind, is_tried_already, left_out, lose_power};
use crate::support::{Background, Ran, World, processes_with, wait_for};

const KUGETSU: &str = env!("CARGO_BIN_EXE_kugetsu");

/// Names its commit to the world outside, which no power loss reaches. The text that it commits is
/// one that nothing else holds.
const AGENT: &str =
    "begun=$(mktemp -p $WORLD -t begun-$(printf X%.0s 1 2 3 4 5 6)); printf 'begun\\n' > $begun
    while [ -e $WORLD/wait ]; do sleep 0.02; done
    echo work of $KUGETSU_JOB >> work.txt; head -c 20000 /dev/urandom | base64 >> work.txt
    git add work.txt; git commit -qm \"work of $KUGETSU_JOB\"
    git rev-parse HEAD > $WORLD/commit-${KUGETSU_JOB%%/*}";

/// A world whose kugetsu lives on a disk that can lose its power.
struct Powered {
    // Dropped first: what it holds is on the disk.
    worker: Option<Background>,
    disk: Option<Disk>,
    kind: Kind,
    world: World,
}

impl Powered {
    fn new(kind: Kind) -> Option<Powered> {
        let mut world = World::new();
        world.agent(&AGENT.replace("$WORLD", world.root().to_str().expect("letters")));
        // A power loss is not the job's fault, so nothing may cost it its only attempt.
        world.set("KUGETSU_MAX_ATTEMPTS", "1");
        world.set("KUGETSU_POLL_INTERVAL", "50ms");
        world.set("MAX_CONCURRENT_AGENTS", "2");
        match Disk::make(kind, &image(&world), &world.home()) {
            Ok(disk) => Some(Powered { worker: None, disk: Some(disk), kind, world }),
            Err(why) => {
                left_out(&format!("power losses on {kind:?}"), &why);
                None
            }
        }
    }

    fn start_worker(&mut self) {
        self.worker = Some(self.world.worker(&[]));
    }

    /// What the disk holds now, under a name.
    fn lose_power(&self, name: &str) -> PathBuf {
        let copy = self.world.root().join(name);
        let marker = format!("KUGETSU_DIR={}", self.world.home().display());
        lose_power(&image(&self.world), &copy, &marker);
        copy
    }

    /// Nothing runs, and nothing is mounted.
    fn switch_off(&mut self) {
        self.worker = None;
        let marker = format!("KUGETSU_DIR={}", self.world.home().display());
        wait_for("the end of every process", || {
            let left = processes_with(&marker);
            for pid in &left {
                // One that has ended meanwhile is what is wanted.
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
            left.is_empty().then_some(())
        });
        self.disk = None;
    }

    /// The machine comes back with a disk as it was at a moment.
    fn switch_on(&mut self, copy: &Path) {
        self.switch_off();
        let disk = Disk::mount(copy, &self.world.home());
        self.disk = Some(disk.unwrap_or_else(|why| panic!("{:?}: {why}", self.kind)));
        let another = "00000000-1111-2222-3333-444444444444\n";
        fs::write(self.world.root().join("boot_id"), another).expect("a file");
    }

    /// kugetsu after the machine's next start.
    fn after_boot(&self, line: &str) -> Ran {
        let boot_id = self.world.root().join("boot_id");
        let (boot_id, folder) = (boot_id.display(), self.world.root());
        let script = format!(
            "mount --bind {boot_id} /proc/sys/kernel/random/boot_id; cd {}; exec {KUGETSU} {line}",
            folder.display()
        );
        self.world.shell(&format!("unshare -m sh -euc '{script}'"))
    }

    fn jobs(&self) -> BTreeMap<u64, Value> {
        let ran = self.after_boot("queue list --state=all --format=json");
        assert_eq!(ran.code, 0, "{:?}: {}", self.kind, ran.stderr);
        let list: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        let items = list["items"].as_array().expect("items");
        items.iter().map(|job| (job["id"].as_u64().expect("a number"), job.clone())).collect()
    }

    /// The commit that an agent made for a job.
    fn commit_of(&self, id: u64) -> String {
        self.world.file(&format!("commit-{id}")).trim().to_string()
    }

    /// Why the work of a completed job is not where it was promised, if it is not.
    fn missing_work(&self, id: u64) -> Option<String> {
        let commit = self.commit_of(id);
        let evidence = self.world.home().join("evidence/git.test+o+r.git");
        let git = format!("git --git-dir {}", evidence.display());
        let ran = self.world.shell(&format!("{git} rev-list --objects {commit} | tail -1"));
        if ran.stdout.is_empty() {
            return Some(format!("the evidence has no {commit}: {}", ran.stderr));
        }
        let ran = self.world.shell(&format!("{git} cat-file -p {commit}:work.txt"));
        if ran.code != 0 || !ran.stdout.contains(&format!("work of {id}/1")) {
            return Some(format!("the evidence has not all of {commit}: {}", ran.stderr));
        }
        let ran = self.after_boot(&format!("diff {id}"));
        if ran.code != 0 || !ran.stdout.contains(&format!("+work of {id}/1")) {
            return Some(format!("`diff {id}` shows {:?}: {}", ran.stdout, ran.stderr));
        }
        None
    }

    /// All jobs run to their end, and none pays for what happened.
    fn assert_all_complete(&self) {
        let ran = self.after_boot("worker --once");
        assert_eq!(ran.code, 0, "{:?}: {}", self.kind, ran.stderr);
        for (id, job) in self.jobs() {
            let log = self.world.log(id);
            assert_eq!(job["state"], "completed", "{:?}: {job:#}\n{log}", self.kind);
            let spent = &self.world.job(id)["spent"];
            assert_eq!(spent["attempts"].as_u64().unwrap_or(0), 0, "{:?}: {spent:#}", self.kind);
        }
        self.world.ok(&["queue", "list"]);
    }
}

fn image(world: &World) -> PathBuf {
    world.root().join("image")
}

#[test]
fn the_method_loses_what_was_not_synced_and_nothing_else() {
    for kind in Kind::ALL {
        let Some(mut powered) = Powered::new(kind) else { continue };
        let (root, home) = (powered.world.root(), powered.world.home());
        let remote = root.join("remote/o/r.git");
        let fetch = |name: &str, options: &str| {
            let line = format!(
                "git init -q --bare {0}/{name} && sync -f {0} && \
                 git --git-dir {0}/{name} {options} fetch -q {1} main:refs/heads/main",
                home.display(),
                remote.display()
            );
            let ran = powered.world.shell(&line);
            assert_eq!(ran.code, 0, "{}", ran.stderr);
        };
        fetch("synced", "-c core.fsync=all -c core.fsyncMethod=fsync");
        fetch("unsynced", "-c core.fsync=none");
        let has = |name: &str| {
            let git = format!("git --git-dir {}/{name}", home.display());
            powered.world.shell(&format!("{git} cat-file -p refs/heads/main:README")).stdout
        };
        assert_eq!(("begin\n".to_string(), "begin\n".into()), (has("synced"), has("unsynced")));
        let copy = powered.lose_power("copy");
        powered.switch_on(&copy);
        let has = |name: &str| {
            let git = format!("git --git-dir {}/{name}", home.display());
            powered.world.shell(&format!("{git} cat-file -p refs/heads/main:README")).stdout
        };
        assert_eq!(
            ("begin\n".to_string(), String::new()),
            (has("synced"), has("unsynced")),
            "{kind:?}"
        );
    }
}

#[test]
fn an_acknowledged_job_is_there_after_a_power_loss() {
    for kind in Kind::ALL {
        let Some(mut powered) = Powered::new(kind) else { continue };
        let copies: Vec<PathBuf> = (1..=5)
            .map(|issue| {
                powered.world.enqueue(issue, &[]);
                powered.lose_power(&format!("copy-{issue}"))
            })
            .collect();
        for (copy, count) in copies.iter().zip(1..) {
            powered.switch_on(copy);
            let ids: Vec<u64> = powered.jobs().into_keys().collect();
            assert_eq!(ids, (1..=count).collect::<Vec<_>>(), "{kind:?}");
        }
        powered.assert_all_complete();
    }
}

/// Works on issues one after the other, some of them twice, and copies the disk right after each
/// job is seen to be completed. One more job is always pending then.
fn complete_jobs(powered: &mut Powered) -> Vec<(u64, PathBuf)> {
    powered.start_worker();
    let mut copies = Vec::new();
    for issue in [1, 2, 1, 3] {
        let id = powered.world.enqueue(issue, &[]);
        let pending = powered.world.enqueue(issue + 10, &["--delay=1h"]);
        let job = powered.world.ended(id);
        assert_eq!(job["state"], "completed", "{job:#}");
        copies.push((id, powered.lose_power(&format!("copy-{id}"))));
        powered.world.ok(&["queue", "cancel", &pending.to_string()]);
    }
    copies
}

#[test]
fn the_work_of_a_completed_job_is_there_after_a_power_loss() {
    if !is_tried_already("the work of a completed job after a power loss") {
        return;
    }
    for kind in Kind::ALL {
        let Some(mut powered) = Powered::new(kind) else { continue };
        for (last, copy) in complete_jobs(&mut powered) {
            powered.switch_on(&copy);
            for (id, job) in powered.jobs() {
                if job["state"] == "completed" {
                    let missing = powered.missing_work(id);
                    assert_eq!(missing, None, "{kind:?}, power lost after job {last}");
                }
            }
            let job = &powered.jobs()[&last];
            assert_eq!(job["state"], "completed", "{kind:?}: an acknowledged end: {job:#}");
            // The pending one, and the same issue again: from what it had, at no cost.
            let jobs = powered.jobs();
            let pending =
                jobs.values().find(|job| job["state"] == "pending").expect("there is one");
            let edit = powered.after_boot(&format!("queue edit {} --delay=0s", pending["id"]));
            assert_eq!(edit.code, 0, "{}", edit.stderr);
            let issue = job["issue_ref"].as_str().expect("a text");
            let again = powered.after_boot(&format!("queue enqueue {issue} more"));
            assert_eq!(again.code, 0, "{}", again.stderr);
            for (id, job) in powered.jobs() {
                if job["state"] == "cancelled" {
                    powered.after_boot(&format!("queue retry {id}"));
                }
            }
            powered.assert_all_complete();
            let newest = *powered.jobs().keys().last().expect("there are some");
            let commit = powered.commit_of(newest);
            let number = issue.rsplit_once('#').expect("a number").1.parse().expect("a number");
            let history = ["merge-base", "--is-ancestor", &powered.commit_of(last), &commit];
            powered.world.git(&powered.world.worktree(number), &history);
        }
    }
}

#[test]
fn a_job_that_a_power_loss_cut_short_is_worked_on_at_no_cost() {
    if !is_tried_already("a job that a power loss cut short") {
        return;
    }
    for kind in Kind::ALL {
        let Some(mut powered) = Powered::new(kind) else { continue };
        fs::write(powered.world.root().join("wait"), "").expect("a file");
        for issue in 1..=4 {
            powered.world.enqueue(issue, &[]);
        }
        powered.start_worker();
        // Mirror and clone have just been made; two agents are at work, two jobs wait.
        let begun = || {
            let entries = fs::read_dir(powered.world.root()).expect("a folder").flatten();
            entries.filter(|e| e.file_name().to_string_lossy().starts_with("begun-")).count()
        };
        wait_for("two agents", || (begun() == 2).then_some(()));
        let copy = powered.lose_power("copy");
        fs::remove_file(powered.world.root().join("wait")).expect("it is there");
        powered.switch_on(&copy);
        powered.assert_all_complete();
        for id in 1..=4 {
            let has = powered.after_boot(&format!("diff {id}"));
            assert!(has.stdout.contains(&format!("+work of {id}/")), "{kind:?}: {}", has.stderr);
        }
    }
}

#[test]
fn a_power_loss_at_any_moment_leaves_a_queue_that_runs_to_its_end() {
    if !is_tried_already("a power loss at any moment") {
        return;
    }
    for kind in Kind::ALL {
        let Some(mut powered) = Powered::new(kind) else { continue };
        for issue in 1..=6 {
            powered.world.enqueue(issue, &[]);
        }
        powered.start_worker();
        let mut copies = Vec::new();
        // A copy at each step that is seen from outside: whatever was being written then.
        let mut seen = String::new();
        wait_for("six jobs", || {
            let list = powered.world.ok(&["queue", "list", "--state=all"]);
            if list != seen && copies.len() < 4 {
                seen.clone_from(&list);
                copies.push(powered.lose_power(&format!("copy-{}", copies.len())));
            }
            (list.matches("[completed]").count() == 6).then_some(())
        });
        for copy in copies {
            powered.switch_on(&copy);
            assert_eq!(powered.jobs().len(), 6, "{kind:?}");
            powered.assert_all_complete();
        }
    }
}

/// The same as above with a git that syncs nothing: the look must find what is lost, or it is no look.
#[test]
fn without_the_syncs_of_git_the_same_look_finds_the_loss() {
    if !is_tried_already("the same without git's syncs") {
        return;
    }
    for kind in Kind::ALL {
        let Some(mut powered) = Powered::new(kind) else { continue };
        powered.world.fake_git("*", "export GIT_TEST_FSYNC=0");
        let copies = complete_jobs(&mut powered);
        for (id, _) in &copies {
            assert_eq!(powered.missing_work(*id), None, "{kind:?}: it is there before");
        }
        let lost = copies.iter().filter(|(id, copy)| {
            powered.switch_on(copy);
            powered.missing_work(*id).is_some()
        });
        let lost = lost.count();
        assert!(lost > 0, "{kind:?}: git synced nothing, and {} jobs lost nothing", copies.len());
    }
}
