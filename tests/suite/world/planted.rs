//! What an agent plants in its clone is executed by none of kugetsu's own processes.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{by_hand, done_by, end, enqueue, issue, world};
use crate::support::{World, wait_for};

/// The program that is planted: it tells of everybody who runs it but the agents themselves.
fn plant(world: &World) -> String {
    let path = world.root().join("plant");
    let script = format!(
        "#!/bin/sh\n[ -n \"$KUGETSU_RUN\" ] || echo \"$0 $*\" >> {0}/canary\ncat 2>/dev/null\nexit 0\n",
        world.root().display()
    );
    fs::write(&path, script).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path.display().to_string()
}

/// Everything of kugetsu's that looks at a clone.
fn look_everywhere(world: &World) {
    let issue = issue(1);
    for command in [
        &["list"][..],
        &["list", "--format=json"],
        &["queue", "show", "1"],
        &["queue", "why", "1"],
        &["diff", "1"],
        &["diff", &issue],
        &["logs", "1"],
        &["doctor"],
        &["prune", "--dry-run"],
        &["destroy", &issue],
    ] {
        let ran = world.run(command);
        assert!(!ran.stderr.contains("panicked"), "{command:?}: {}", ran.stderr);
    }
}

/// Why something planted was executed, if it was. The next job of the issue runs too: what is
/// written into a used clone is written inside a run.
fn executed(world: &World, planting: &str) -> Option<String> {
    let plant = plant(world);
    let script = format!("commit; G=$(git rev-parse --git-common-dir); P={plant}\n{planting}\n:");
    done_by(world, 1, &script);
    look_everywhere(world);
    done_by(world, 1, ":");
    world.run(&["destroy", "--force", &issue(1)]);
    fs::read_to_string(world.root().join("canary")).ok()
}

const PLANTS: &[(&str, &str)] = &[
    ("core.fsmonitor", "git config core.fsmonitor $P; echo changed >> README"),
    ("filters", "git config filter.x.clean $P; git config filter.x.smudge $P
        git config filter.x.required true; echo '* filter=x' > .gitattributes; touch README"),
    ("a filter process", "git config filter.x.process $P; mkdir -p $G/info
        echo '* filter=x' > $G/info/attributes; touch README; echo changed >> README"),
    ("diff drivers", "git config diff.external $P; git config diff.x.command $P
        git config diff.x.textconv $P; echo '* diff=x' > .gitattributes; echo changed >> README"),
    ("hooks", "mkdir -p $G/hooks; for h in post-checkout post-commit pre-commit reference-transaction \
        post-index-change fsmonitor-watchman pre-auto-gc post-merge update pre-receive post-update \
        post-rewrite pre-push proc-receive push-to-checkout; do cp $P $G/hooks/$h; done"),
    ("a folder of hooks", "mkdir -p $ROOT/hooks; for h in post-checkout reference-transaction \
        post-index-change; do cp $P $ROOT/hooks/$h; done; git config core.hooksPath $ROOT/hooks"),
    ("commands of the transport", "git config core.sshCommand $P; git config core.gitProxy $P
        git config remote.origin.uploadpack $P; git config remote.origin.receivepack $P
        git config uploadpack.packObjectsHook $P; git config core.alternateRefsCommand $P
        git config remote.origin.vcs x; git config protocol.ext.allow always"),
    ("a remote that is a command", "git config protocol.ext.allow always
        git config remote.origin.url \"ext::$P %S\"; git config remote.origin.pushurl \"ext::$P %S\""),
    ("addresses that are rewritten", "git config protocol.ext.allow always
        git config url.\"ext::$P \".insteadOf file:; git config url.\"ext::$P \".insteadOf /"),
    ("helpers", "git config credential.helper \"!$P\"; git config core.askPass $P
        git config core.editor $P; git config sequence.editor $P; git config core.pager $P
        git config pager.diff $P; git config pager.log $P; git config interactive.diffFilter $P"),
    ("signatures", "git config gpg.program $P; git config log.showSignature true
        git config commit.gpgSign true; git config gpg.ssh.program $P; git config gpg.format ssh"),
    ("merge drivers", "git config merge.x.driver \"$P %A\"; git config merge.default x
        git config merge.renormalize true; echo '* merge=x' > .gitattributes"),
    ("a configuration from elsewhere", "printf \"[core]\\n\\tfsmonitor = $P\\n\" > $ROOT/included
        git config include.path $ROOT/included; echo changed >> README"),
    ("a configuration of the worktree", "git config extensions.worktreeConfig true
        git config --worktree core.fsmonitor $P; echo changed >> README"),
    ("submodules", "git init -q sub; git -C sub commit -q --allow-empty -m sub
        git config -f .gitmodules submodule.sub.path sub
        git config -f .gitmodules submodule.sub.url ./sub
        git config submodule.sub.update \"!$P\"; git config submodule.sub.url \"ext::$P\"
        git -C sub config core.fsmonitor $P; git add .; git commit -qm sub; echo x > sub/x"),
    ("a nested repository", "git init -q nested; git -C nested config core.fsmonitor $P
        git -C nested commit -q --allow-empty -m nested; echo x > nested/x"),
    ("templates", "git config init.templateDir $ROOT/templates; mkdir -p $ROOT/templates/hooks
        cp $P $ROOT/templates/hooks/post-checkout; cp $P $ROOT/templates/hooks/reference-transaction"),
    ("programs with the names of known ones", "for n in git sh ssh opencode kugetsu; do
        cp $P ./$n; done; mkdir -p bin; cp $P bin/git"),
    (".git as a file", "git clone -q --bare . $ROOT/evil.git; git -C $ROOT/evil.git config core.bare false
        git -C $ROOT/evil.git config core.fsmonitor $P; mkdir -p $ROOT/evil.git/hooks
        cp $P $ROOT/evil.git/hooks/reference-transaction
        rm -rf .git; echo \"gitdir: $ROOT/evil.git\" > .git"),
    (".git as a link", "git clone -q . $ROOT/evil; git -C $ROOT/evil config core.fsmonitor $P
        rm -rf .git; ln -s $ROOT/evil/.git .git"),
    ("commondir", "D=$(git rev-parse --git-dir); git clone -q . $ROOT/evil
        git -C $ROOT/evil config core.fsmonitor $P; echo $ROOT/evil/.git > $D/commondir"),
];

#[test]
fn nothing_planted_is_executed() {
    let mut failed = Vec::new();
    for (what, planting) in PLANTS {
        if let Some(canary) = executed(&world(), planting) {
            failed.push(format!("{what}: {canary}"));
        }
    }
    assert!(failed.is_empty(), "{} of {}: {failed:#?}", failed.len(), PLANTS.len());
}

/// What becomes of a job whose agent leaves that, at its only attempt.
#[test]
fn a_clone_that_is_none_any_more_is_called_damaged_and_moved_aside() {
    for (what, harm) in [
        (
            ".git as a file",
            "git clone -q --bare . $ROOT/e.git; rm -rf .git; echo gitdir: $ROOT/e.git > .git",
        ),
        (".git as a link", "mv .git $ROOT/moved; ln -s $ROOT/moved .git"),
        ("no .git", "rm -rf .git"),
        ("an empty .git", "rm -rf .git; mkdir .git"),
        ("no HEAD", "rm .git/HEAD"),
        ("no objects", "rm -rf .git/objects"),
        (
            "objects that are a link",
            "mv .git/objects $ROOT/objects; ln -s $ROOT/objects .git/objects",
        ),
        ("HEAD as a pipe", "rm .git/HEAD; mkfifo .git/HEAD"),
        (
            "the clone as a link",
            "cd ..; mv $KUGETSU_WORKTREE $ROOT/moved; ln -s $ROOT/moved $KUGETSU_WORKTREE",
        ),
        ("the clone as a file", "cd ..; rm -rf $KUGETSU_WORKTREE; echo > $KUGETSU_WORKTREE"),
    ] {
        let world = world();
        let job = done_by(&world, 1, &format!("echo precious > notes; commit\n{harm}"));
        assert_eq!(end(&job), "error (clone_damaged)", "{what}: {job:#}");
        // Nothing is deleted, and the next attempt is a fresh one.
        let notes = by_hand(&world, "find $ROOT -name notes 2>/dev/null | wc -l");
        let is_file = what == "the clone as a file";
        assert!(is_file || notes.trim() != "0", "{what}: what was there is gone");
        let again = done_by(&world, 1, "commit");
        assert_eq!(end(&again), "completed (done)", "{what}: {again:#}");
        assert!(world.worktree(1).join(".git").is_dir(), "{what}");
    }
}

/// Files that hold up whoever opens them. The job ends, or waits to be judged again, and nobody
/// else waits with it.
#[test]
fn a_pipe_in_a_git_folder_holds_up_nobody() {
    for (what, path) in [
        ("the configuration", "config"),
        ("the index", "index"),
        ("packed references", "packed-refs"),
        ("a reference", "refs/heads/other"),
        ("an exclude file", "info/exclude"),
        ("alternates", "objects/info/alternates"),
        ("shallow", "shallow"),
        ("grafts", "info/grafts"),
        ("the log of the stash", "logs/refs/stash"),
    ] {
        let mut world = world();
        world.set("MAX_CONCURRENT_AGENTS", "1");
        let script = format!(
            "commit; G=$(git rev-parse --git-dir); mkdir -p $G/info $G/logs/refs\n\
             rm -f $G/{path}; mkfifo $G/{path}"
        );
        let held = enqueue(&world, 1, &script);
        let other = enqueue(&world, 2, "commit");
        let _worker = world.worker(&[]);
        assert_eq!(end(&world.ended(other)), "completed (done)", "behind {what}");
        let job = wait_for(what, || {
            let job = world.job(held);
            (job["state"] != "pending").then_some(job)
        });
        assert_ne!(end(&job), "error (no_changes)", "{what}: {job:#}");
        assert!(job["attempt"].as_u64() <= Some(1), "{what}: it is not run again: {job:#}");
    }
}
