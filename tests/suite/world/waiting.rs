//! Nobody waits for a person: what would ask is not asked, and what hangs hangs alone.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use super::{done_by, end, enqueue, world};
use crate::support::disk::left_out;
use crate::support::{World, wait_for};

/// A program that tells that it was asked, and then waits for somebody who never comes.
fn for_ever(world: &World) -> String {
    let path = world.root().join("for-ever");
    let text = format!(
        "#!/bin/sh\necho \"$0 $*\" >> {}/asked\nexec sleep 100000\n",
        world.root().display()
    );
    fs::write(&path, text).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path.display().to_string()
}

fn configure(world: &World, text: &str) {
    let path = world.root().join("home/.gitconfig");
    let before = fs::read_to_string(&path).expect("a file");
    fs::write(&path, format!("{before}{text}")).expect("a file");
}

/// A forge that lets nobody in without a password, or one that says nothing at all.
fn forge(answers: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            if !answers {
                kept.push(stream);
                continue;
            }
            let mut lines = BufReader::new(stream.try_clone().expect("a copy")).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let answer = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
                          Content-Length: 0\r\nConnection: close\r\n\r\n";
            // A client that has gone needs no answer.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

fn assert_nobody_asked(world: &World, what: &str) {
    let asked = fs::read_to_string(world.root().join("asked")).unwrap_or_default();
    assert_eq!(asked, "", "{what} was asked");
}

/// What would put a question on a screen when kugetsu itself fetches. The forge wants a password, so
/// there is one to put.
#[test]
fn no_question_is_asked_for_a_password() {
    for (what, variable, config) in [
        ("GIT_ASKPASS", "GIT_ASKPASS", ""),
        ("SSH_ASKPASS", "SSH_ASKPASS", ""),
        ("core.askPass", "", "[core]\n\taskpass = P\n"),
    ] {
        let mut world = world();
        let program = for_ever(&world);
        if !variable.is_empty() {
            world.set(variable, &program);
            world.set("DISPLAY", ":0");
            world.set("SSH_ASKPASS_REQUIRE", "force");
        }
        configure(&world, &config.replace('P', &program));
        world.set("KUGETSU_CLONE_URL", &format!("http://127.0.0.1:{}/{{path}}.git", forge(true)));
        let job = done_by(&world, 1, "commit");
        assert_eq!(end(&job), "error (worktree_failed)", "{what}: {job:#}");
        assert_nobody_asked(&world, what);
    }
}

/// The same for what an agent's own git would ask.
#[test]
fn an_agents_git_asks_nobody() {
    for (what, variables, config, script) in [
        (
            "an editor",
            &["GIT_EDITOR", "EDITOR", "VISUAL"][..],
            "[core]\n\teditor = P\n",
            "git commit -q --allow-empty; git commit -q --amend; commit",
        ),
        (
            "a sequence editor",
            &["GIT_SEQUENCE_EDITOR"][..],
            "[sequence]\n\teditor = P\n",
            "commit; git rebase -q -i HEAD~1",
        ),
        (
            "a pager",
            &["GIT_PAGER", "PAGER"][..],
            "[core]\n\tpager = P\n",
            "git -c color.ui=always -p log; commit",
        ),
        (
            "a password",
            &["GIT_ASKPASS", "SSH_ASKPASS"][..],
            "[core]\n\taskpass = P\n",
            "git fetch -q $FORGE; commit",
        ),
        (
            "a merge's message",
            &["GIT_EDITOR"][..],
            "[core]\n\teditor = P\n",
            "commit; git checkout -q -b o HEAD~1; git commit -q --allow-empty -m o; git checkout -q issue-1; git merge --edit o",
        ),
    ] {
        let mut world = world();
        let program = for_ever(&world);
        for variable in variables {
            world.set(variable, &program);
        }
        configure(&world, &config.replace('P', &program));
        world.set("FORGE", &format!("http://127.0.0.1:{}/o/r.git", forge(true)));
        let job = done_by(&world, 1, script);
        assert_eq!(end(&job), "completed (done)", "{what}: {job:#}\n{}", world.log(1));
        assert_nobody_asked(&world, what);
    }
}

/// Global hooks are the user's, and a commit's hook is an agent's business; none of them is run by
/// kugetsu's own git, so none can hold it up or fail it.
#[test]
fn global_hooks_that_hang_or_fail_are_not_kugetsus() {
    for script in ["exec sleep 100000", "exit 1"] {
        let world = world();
        let hooks = world.root().join("hooks");
        fs::create_dir(&hooks).expect("a folder");
        for hook in ["post-checkout", "reference-transaction", "post-index-change", "post-merge"] {
            // An agent's own git is left alone by it, so that the job can be done at all.
            let text = format!(
                "#!/bin/sh\n[ -n \"$KUGETSU_RUN\" ] && exit 0\necho {hook} >> {}/asked\n{script}\n",
                world.root().display()
            );
            fs::write(hooks.join(hook), text).expect("a file");
            fs::set_permissions(hooks.join(hook), fs::Permissions::from_mode(0o755)).expect("ours");
        }
        configure(&world, &format!("[core]\n\thooksPath = {}\n", hooks.display()));
        let job = done_by(&world, 1, "commit; git push -q origin issue-1");
        assert_eq!(end(&job), "completed (done)", "{script}: {job:#}");
        world.ok(&["list"]);
        world.ok(&["prune"]);
        assert_nobody_asked(&world, script);
    }
}

/// Two repositories: one whose forge hangs, and one that works.
fn beside_a_hang(setup: impl Fn(&mut World) -> String, what: &str) {
    let mut world = world();
    let address = setup(&mut world);
    // Everything goes to the working remote but what is in the other owner's repositories.
    configure(
        &world,
        &format!(
            "[url \"{address}\"]\n\tinsteadOf = file://{}/remote/hang/\n",
            world.root().display()
        ),
    );
    world.set("MAX_CONCURRENT_AGENTS", "2");
    let arguments = ["queue", "enqueue", "git.test/hang/r#7", "fix it", "--priority=9"];
    world.ok(&arguments);
    let other = enqueue(&world, 1, "commit");
    let mut worker = world.worker(&[]);
    wait_for("the call that hangs", || (world.state(1) == "notified").then_some(()));
    assert_eq!(end(&world.ended(other)), "completed (done)", "beside {what}");
    let why = world.ok(&["queue", "why", "1"]);
    assert!(why.contains("git") && !why.contains("nothing to do"), "{what}: {why}");
    world.ok(&["queue", "cancel", "1"]);
    assert_eq!(world.ended(1)["state"], "cancelled", "{what}");
    worker.kill();
    world.assert_no_process_left();
}

#[test]
fn a_server_that_says_nothing_holds_up_its_own_jobs_only() {
    beside_a_hang(|_| format!("http://127.0.0.1:{}/", forge(false)), "a server that says nothing");
}

#[test]
fn a_credential_helper_that_hangs_holds_up_its_own_jobs_only() {
    beside_a_hang(
        |world| {
            let program = for_ever(world);
            configure(world, &format!("[credential]\n\thelper = \"!{program}\"\n"));
            format!("http://127.0.0.1:{}/", forge(true))
        },
        "a credential helper",
    );
}

#[test]
fn an_ssh_that_hangs_holds_up_its_own_jobs_only() {
    beside_a_hang(
        |world| {
            let program = for_ever(world);
            configure(world, &format!("[core]\n\tsshCommand = {program}\n"));
            "ssh://git@git.test/".into()
        },
        "ssh",
    );
}

/// The limits themselves are minutes, so these take minutes.
#[test]
#[expect(clippy::disallowed_methods, reason = "what a developer may set")]
fn what_hangs_comes_to_an_end_by_itself() {
    if std::env::var("KUGETSU_TEST_SLOW").is_err() {
        return left_out("limits of minutes", "KUGETSU_TEST_SLOW is not set");
    }
    for answers in [false, true] {
        let mut world = world();
        let program = for_ever(&world);
        configure(&world, &format!("[credential]\n\thelper = \"!{program}\"\n"));
        let forge = forge(answers);
        world.set("KUGETSU_CLONE_URL", &format!("http://127.0.0.1:{forge}/{{path}}.git"));
        world.set("NETWORK_RETRY_ATTEMPTS", "1");
        let id = enqueue(&world, 1, "commit");
        let _worker = world.worker(&[]);
        // The patience of one wait is a minute; git's limits are up to ten.
        let is_over = (0..12).any(|_| {
            let wait = || wait_for("a limit", || (world.state(id) != "notified").then_some(()));
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(wait)).is_ok()
        });
        assert!(is_over, "{:#}", world.job(id));
        assert!(Path::new(&program).exists());
    }
}
