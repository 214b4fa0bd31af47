//! Mirrors of real remotes that change under them.

use std::fs;
use std::os::unix::fs::FileExt;

use super::*;
use crate::git::fixture::{Place, branch, git_in};

fn heads(state: &RemoteState) -> Vec<&str> {
    state.heads.keys().map(BranchName::as_str).collect()
}

fn default_of(state: &RemoteState) -> Option<&str> {
    state.default_branch.as_ref().map(BranchName::as_str)
}

fn base(state: &RemoteState, configured: Option<&str>) -> String {
    match state.base(configured) {
        Base::Branch { branch, oid } => {
            assert_eq!(state.heads.get(&branch), Some(&oid));
            branch.to_string()
        }
        Base::Empty => "(empty)".into(),
        Base::NoSuchBranch(names) => format!("no {}", names.join(", ")),
    }
}

#[test]
fn the_base_of_new_work() {
    const ALL: [&str; 4] = ["develop", "main", "master", "origin/main"];
    for (branches, default, configured, expected) in [
        (&ALL[..], Some("develop"), None, "develop"),
        (&ALL, None, None, "main"),
        (&["master", "x"], None, None, "master"),
        (&["x"], None, None, "no main, master"),
        (&["x"], Some("x"), None, "x"),
        (&[], None, None, "(empty)"),
        (&[], None, Some("main"), "(empty)"),
        (&ALL, Some("develop"), Some("main"), "main"),
        (&ALL, Some("develop"), Some("origin/main"), "main"),
        (&ALL, Some("develop"), Some("refs/heads/main"), "main"),
        (&ALL, Some("develop"), Some("refs/remotes/origin/main"), "main"),
        (&ALL, Some("develop"), Some("refs/heads/origin/main"), "origin/main"),
        (&["origin/main", "x"], Some("x"), Some("origin/main"), "origin/main"),
        (&ALL, Some("develop"), Some("gone"), "no gone"),
        (&ALL, Some("develop"), Some("origin/gone"), "no gone, origin/gone"),
        (&ALL, Some("develop"), Some("HEAD~1"), "no HEAD~1"),
    ] {
        let oid: Oid = "1".repeat(40).parse().expect("an id");
        let heads = branches.iter().map(|name| (branch(name), oid.clone())).collect();
        let state = RemoteState { default_branch: default.map(branch), heads };
        assert_eq!(base(&state, configured), expected, "{branches:?} {default:?} {configured:?}");
    }
}

#[test]
fn a_remote_that_was_empty_and_then_is_not() {
    let place = Place::new();
    let state = place.refresh().expect("a mirror");
    assert_eq!((heads(&state), default_of(&state)), (vec![], None));
    assert_eq!(state.base(None), Base::Empty);
    let tip = place.commit("a", "1");
    let state = place.refresh().expect("a fetch");
    assert_eq!((heads(&state), default_of(&state)), (vec!["main"], Some("main")));
    assert_eq!(state.base(None), Base::Branch { branch: branch("main"), oid: tip });
    assert_eq!(git_in(&place.mirror(), "symbolic-ref HEAD"), "refs/heads/main");
}

#[test]
fn the_default_branch_is_the_remote_s_of_now() {
    let place = Place::new();
    place.commit("a", "1");
    place.upstream("branch develop");
    place.upstream("symbolic-ref HEAD refs/heads/develop");
    // Two branches have the head's commit, and nothing is known from before: it is asked for.
    assert_eq!(default_of(&place.refresh().expect("a mirror")), Some("develop"));
    place.commit("b", "1");
    assert_eq!(default_of(&place.refresh().expect("a fetch")), Some("develop"), "not main");
    place.upstream("branch -m develop trunk");
    assert_eq!(default_of(&place.refresh().expect("a fetch")), Some("trunk"));
    place.upstream("symbolic-ref HEAD refs/heads/main");
    assert_eq!(default_of(&place.refresh().expect("a fetch")), Some("main"));
    place.upstream("symbolic-ref HEAD refs/heads/nowhere");
    let state = place.refresh().expect("a fetch");
    assert_eq!((default_of(&state), heads(&state)), (None, vec!["main", "trunk"]));
    assert_eq!(base(&state, None), "main");
    place.upstream("checkout -q --detach trunk");
    assert_eq!(default_of(&place.refresh().expect("a fetch")), Some("trunk"));
    // Two branches have a commit that the one known from before has not.
    place.upstream("checkout -q -b alpha main");
    place.commit("d", "1");
    place.upstream("checkout -q -b beta");
    assert_eq!(default_of(&place.refresh().expect("a fetch")), Some("beta"));
    place.upstream("checkout -q --detach main");
    place.commit("c", "1");
    assert_eq!(default_of(&place.refresh().expect("a fetch")), None, "it is on no branch");
}

#[test]
fn names_in_each_other_s_way() {
    let place = Place::new();
    place.commit("a", "1");
    for line in ["branch issue-2", "branch origin/main", "tag v1", "tag main"] {
        place.upstream(line);
    }
    place.refresh().expect("a mirror");
    for line in ["branch -D issue-2", "branch issue-2/x HEAD", "tag -d v1", "tag v1/x"] {
        place.upstream(line);
    }
    let state = place.refresh().expect("a fetch");
    assert_eq!(heads(&state), ["issue-2/x", "main", "origin/main"]);
    maintain(&place.git(), &place.mirror()).expect("it is tidied up");
    for line in ["branch -D issue-2/x", "branch issue-2 HEAD", "tag -d v1/x", "tag v1"] {
        place.upstream(line);
    }
    let state = place.refresh().expect("a fetch");
    assert_eq!(heads(&state), ["issue-2", "main", "origin/main"]);
    assert_eq!(base(&state, Some("origin/main")), "main");
    assert_eq!(git_in(&place.mirror(), "tag"), "main\nv1");
}

#[test]
fn what_was_fetched_stays_when_its_branch_is_gone() {
    let place = Place::new();
    place.commit("a", "1");
    place.upstream("checkout -q -b gone");
    let lost = place.commit("b", "2");
    place.refresh().expect("a mirror");
    place.upstream("checkout -q main");
    place.upstream("branch -D gone");
    for number in 0..4 {
        place.commit("c", &number.to_string());
        place.refresh().expect("a fetch");
        maintain(&place.git(), &place.mirror()).expect("it is tidied up");
    }
    assert_eq!(git_in(&place.mirror(), &format!("cat-file -t {lost}")), "commit");
    place.upstream("commit -q --amend -m other");
    let tip = place.oid("HEAD");
    let state = place.refresh().expect("a fetch of a branch that was rewritten");
    assert_eq!(state.heads.get(&branch("main")), Some(&tip));
}

#[test]
fn a_remote_of_the_other_hash() {
    let place = Place::new();
    fs::remove_dir_all(place.path("upstream/.git")).expect("it was there");
    place.upstream("init -q -b main --object-format=sha256");
    let tip = place.commit("a", "1");
    assert_eq!(tip.as_str().len(), 64);
    let state = place.refresh().expect("a mirror");
    assert_eq!(state.heads.get(&branch("main")), Some(&tip));
    health::look(&place.mirror()).expect("it is whole");
}

#[test]
fn locks_of_a_killed_git_are_no_hindrance() {
    let place = Place::new();
    place.commit("a", "1");
    place.refresh().expect("a mirror");
    place.upstream("branch -m main trunk");
    for lock in ["refs/heads/trunk.lock", "refs/heads/main.lock", "packed-refs.lock", "HEAD.lock"] {
        fs::write(place.mirror().join(lock), "").expect("a lock");
    }
    let temporary = place.mirror().join("objects/pack/tmp_pack_x");
    fs::write(&temporary, "half").expect("a file");
    let state = place.refresh().expect("a fetch");
    assert_eq!((heads(&state), default_of(&state)), (vec!["trunk"], Some("trunk")));
    assert!(needs_maintenance(&place.mirror()).expect("a look"));
    maintain(&place.git(), &place.mirror()).expect("it is tidied up");
    assert!(!temporary.exists());
    assert!(!needs_maintenance(&place.mirror()).expect("a look"));
}

/// Does something to the one pack of a mirror, or to its index.
fn spoil(mirror: &Path, end: &str, how: impl Fn(&fs::File)) {
    let packs = fs::read_dir(mirror.join("objects/pack")).expect("packs");
    let paths: Vec<_> = packs.map(|entry| entry.expect("an entry").path()).collect();
    let path = paths.iter().find(|path| path.to_string_lossy().ends_with(end)).expect("a pack");
    // As root, or by somebody who changed its mode: the file itself, also under its other names.
    let mut permissions = fs::metadata(path).expect("it is there").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    fs::set_permissions(path, permissions).expect("it is ours");
    how(&fs::File::options().write(true).open(path).expect("it is ours"));
}

#[test]
fn a_damaged_mirror_is_fetched_anew() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage); 12] = [
        ("index of another pack", |mirror| {
            spoil(mirror, ".idx", |file| {
                let length = file.metadata().expect("it is there").len();
                file.write_all_at(&[7; 20], length - 40).expect("it is ours");
            });
        }),
        ("empty HEAD", |mirror| fs::write(mirror.join("HEAD"), "").expect("a file")),
        ("zeroed HEAD", |mirror| fs::write(mirror.join("HEAD"), [0; 20]).expect("a file")),
        ("empty config", |mirror| fs::write(mirror.join("config"), "").expect("a file")),
        ("zeroed config", |mirror| fs::write(mirror.join("config"), [0; 60]).expect("a file")),
        ("odd config", |mirror| fs::write(mirror.join("config"), "[[").expect("a file")),
        ("empty reference", |mirror| {
            fs::write(mirror.join("refs/heads/main"), "").expect("a file")
        }),
        ("no refs", |mirror| fs::remove_dir_all(mirror.join("refs")).expect("it was there")),
        ("no objects", |mirror| fs::remove_dir_all(mirror.join("objects")).expect("it was there")),
        ("empty pack", |mirror| spoil(mirror, ".pack", |file| file.set_len(0).expect("ours"))),
        ("cut pack", |mirror| spoil(mirror, ".pack", |file| file.set_len(40).expect("ours"))),
        ("spoilt index", |mirror| {
            spoil(mirror, ".idx", |file| {
                let length = file.metadata().expect("it is there").len();
                file.write_all_at(&[0; 40], length - 40).expect("it is ours");
            });
        }),
    ];
    for (name, damage) in cases {
        let place = Place::new();
        let tip = place.commit("a", "1");
        place.refresh().expect("a mirror");
        damage(&place.mirror());
        // These three are for git to find.
        let is_for_git = matches!(name, "odd config" | "empty reference" | "no refs");
        assert_eq!(health::look(&place.mirror()).is_ok(), is_for_git, "{name}");
        let state = place.refresh().unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(state.heads.get(&branch("main")), Some(&tip), "{name}");
        git_in(&place.mirror(), "fsck --full");
        assert!(place.path("m.git.damaged").exists(), "{name}: what was there is kept");
        assert!(!place.path("m.git.unfinished").exists(), "{name}");
    }
}

#[test]
fn what_was_left_half_made_is_made_again() {
    let place = Place::new();
    place.commit("a", "1");
    fs::create_dir(place.path("m.git.unfinished")).expect("a folder");
    fs::write(place.path("m.git.unfinished/HEAD"), "half").expect("a file");
    assert_eq!(heads(&place.refresh().expect("a mirror")), ["main"]);
    assert!(!place.path("m.git.unfinished").exists());
}

#[test]
fn a_remote_that_is_not_there() {
    let place = Place::new();
    place.commit("a", "1");
    let error = place.refresh_from("/nowhere/to/be/found").expect_err("there is none");
    assert!(matches!(error, GitError::Refused(_)), "{error:?}");
    assert!(!place.mirror().exists(), "nothing half is under its name");
    let error = place.refresh_from("http://user:s3cret@127.0.0.1:1/o/r").expect_err("refused");
    assert!(matches!(&error, GitError::Network(why) if !why.contains("s3cret")), "{error:?}");
    place.refresh().expect("a mirror");
    let before = git_in(&place.mirror(), "rev-parse refs/heads/main");
    place.refresh_from("http://user:s3cret@127.0.0.1:1/o/r").expect_err("refused");
    assert_eq!(git_in(&place.mirror(), "rev-parse refs/heads/main"), before);
    let config = fs::read_to_string(place.mirror().join("config")).expect("it is there");
    assert!(!config.contains("s3cret"));
    let error = place.refresh_from("ext::sh -c true").expect_err("never");
    assert!(error.words().contains("not allowed"), "{error:?}");
}

#[test]
fn an_address_that_changed() {
    let place = Place::new();
    place.commit("a", "1");
    place.refresh().expect("a mirror");
    fs::rename(place.path("upstream"), place.path("moved")).expect("it moves");
    let moved = place.path("moved");
    let state = place.refresh_from(&format!("file://{}", moved.display())).expect("a fetch");
    assert_eq!(heads(&state), ["main"]);
}

#[test]
fn a_server_that_says_nothing_has_a_limit() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = server.local_addr().expect("it has one").port();
    let place = Place::new();
    for scheme in ["http", "git"] {
        let url = format!("{scheme}://127.0.0.1:{port}/o/r");
        let remote = Remote { url: &url, login: None, attempts: 3, pause_ms: 0 };
        let git =
            Git { deadline: crate::time::monotonic() + Duration::from_secs(1), ..place.git() };
        let error = refresh(&git, &place.mirror(), &remote).expect_err("nothing comes");
        assert!(matches!(error, GitError::TimedOut(_)), "{scheme}: {error:?}");
        assert!(!place.mirror().exists());
    }
}

/// Needs a file system of its own to fill; only root has one.
#[test]
fn no_room_is_the_machine_s_trouble() {
    let place = Place::new();
    let tip = place.commit("large", &noise());
    let full = place.path("full");
    fs::create_dir(&full).expect("a folder");
    let mut mount = crate::process::command("mount");
    mount.args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(&full);
    if !mount.output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no_room_is_the_machine_s_trouble cannot mount a file system");
        return;
    }
    let url = place.path("upstream");
    let remote =
        Remote { url: url.to_str().expect("UTF-8"), login: None, attempts: 1, pause_ms: 0 };
    let into_mirror = refresh(&place.git(), &full.join("m.git"), &remote);
    disk::remove_all(&full.join("m.git.unfinished")).expect("there was room for that");
    place.refresh().expect("there is room elsewhere");
    let main = branch("main");
    let new = crate::git::clone::NewClone {
        mirror: &place.mirror(),
        folder: &full.join("c"),
        url: "https://h/o/r",
        branch: &branch("issue-1"),
        start: crate::git::clone::Start { oid: &tip, evidence: None },
        base: &main,
        links: true,
    };
    let into_clone = crate::git::clone::make(&place.git(), &new);
    crate::process::command("umount").arg(&full).output().expect("it was mounted");
    assert!(matches!(into_mirror, Err(GitError::Machine(_))), "{into_mirror:?}");
    assert!(matches!(into_clone, Err(GitError::Machine(_))), "{into_clone:?}");
}

/// Text that no compression makes small.
fn noise() -> String {
    let mut seed = 1_u64;
    let next = |_| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        format!("{seed:016x}\n")
    };
    (0..60_000).map(next).collect()
}

#[test]
fn what_ls_remote_says_of_a_head() {
    for (said, expected) in [
        ("ref: refs/heads/main\tHEAD\n1234\tHEAD\n", Some("main")),
        ("1\trefs/x\nref: refs/heads/a/b\tHEAD\n", Some("a/b")),
        ("ref: refs/heads/x\trefs/remotes/origin/HEAD\n", None),
        ("ref: refs/tags/x\tHEAD\n", None),
        ("1234\tHEAD\n", None),
        ("", None),
    ] {
        assert_eq!(parse_symref(said), expected.map(branch), "{said:?}");
    }
}
