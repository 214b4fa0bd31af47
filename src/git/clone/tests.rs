//! Clones of real mirrors, and what they lack later.

use std::os::unix::fs::MetadataExt;

use super::*;
use crate::git::fixture::{Place, branch, git_in};

struct Wish {
    url: &'static str,
    branch: &'static str,
    base: &'static str,
    links: bool,
}

impl Default for Wish {
    fn default() -> Wish {
        Wish { url: "https://h/o/r", branch: "issue-1", base: "main", links: false }
    }
}

fn clone(place: &Place, wish: &Wish, start: Start<'_>) -> Result<MadeClone, GitError> {
    let (mirror, folder) = (place.mirror(), place.path("c"));
    let (branch, base) = (branch(wish.branch), branch(wish.base));
    let new = NewClone {
        mirror: &mirror,
        folder: &folder,
        url: wish.url,
        branch: &branch,
        start,
        base: &base,
        links: wish.links,
    };
    make(&place.git(), &new)
}

fn at(oid: &Oid) -> Start<'_> {
    Start { oid, evidence: None }
}

#[test]
fn a_clone_is_what_git_would_have_made() {
    for links in [false, true] {
        let place = Place::new();
        place.commit("a", "1");
        place.upstream("tag -a -m one v1");
        place.upstream("branch origin/main");
        place.upstream("branch other HEAD");
        let tip = place.commit("sub/b", "2");
        place.refresh().expect("a mirror");
        let url = "https://me:s3cret@h/o/r";
        let made = clone(&place, &Wish { url, links, ..Wish::default() }, at(&tip));
        let nothing = MadeClone { needs_lfs: false, needs_submodules: false, is_unfiltered: false };
        assert_eq!(made, Ok(nothing));
        let folder = place.path("c");
        for (line, expected) in [
            ("symbolic-ref HEAD", "refs/heads/issue-1"),
            ("rev-parse HEAD", tip.as_str()),
            ("status --porcelain", ""),
            ("config remote.origin.url", "https://h/o/r"),
            ("remote", "origin"),
            ("describe --tags", &format!("v1-1-g{}", &tip.as_str()[..7])),
            ("rev-parse --abbrev-ref main@{upstream}", "origin/main"),
            (
                "for-each-ref --format=%(refname)",
                "refs/heads/issue-1\nrefs/heads/main\nrefs/remotes/origin/HEAD\n\
                 refs/remotes/origin/main\nrefs/remotes/origin/origin/main\n\
                 refs/remotes/origin/other\nrefs/tags/v1",
            ),
        ] {
            assert_eq!(git_in(&folder, line), expected, "{line}");
        }
        git_in(&folder, "fsck --full --strict");
        git_in(&folder, "commit -q --allow-empty -m works");
        assert_eq!(git_in(&folder, "reflog -1 --format=%gs"), "commit: works");
        assert_eq!(fs::read_to_string(folder.join("sub/b")).expect("it is there"), "2");
        assert_eq!(fs::read_dir(folder.join(".git/hooks")).expect("it is there").count(), 0);
        fs::create_dir(folder.join(".kugetsu")).expect("a folder");
        fs::write(folder.join(".kugetsu/x"), "").expect("a file");
        assert_eq!(git_in(&folder, "status --porcelain"), "", "ours is excluded");
        assert!(!place.path("c.unfinished").exists());
        let packs = fs::read_dir(folder.join(".git/objects/pack")).expect("packs");
        for pack in packs.map(|entry| entry.expect("an entry")) {
            let is_shared = pack.metadata().expect("it is there").nlink() > 1;
            assert_eq!(is_shared, links, "{:?}", pack.path());
        }
    }
}

#[test]
fn where_a_branch_may_start() {
    let place = Place::new();
    let first = place.commit("a", "1");
    place.commit("b", "2");
    place.refresh().expect("a mirror");
    clone(&place, &Wish::default(), at(&first)).expect("an older commit will do");
    assert_eq!(git_in(&place.path("c"), "rev-parse HEAD"), first.as_str());
    assert!(!place.path("c/b").exists());
    // What only a folder of evidence has: that borrows from the mirror.
    let evidence = place.path("e.git");
    git_in(&place.path("c"), "commit -q --allow-empty -m kept");
    fs::write(place.path("c/new"), "new").expect("a file");
    git_in(&place.path("c"), "add -A");
    git_in(&place.path("c"), "commit -q -m new");
    let kept: Oid = git_in(&place.path("c"), "rev-parse HEAD").parse().expect("an id");
    git_in(&place.path("upstream"), &format!("init -q --bare {}", evidence.display()));
    let borrowed = format!("{}\n", place.mirror().join("objects").display());
    fs::write(evidence.join("objects/info/alternates"), borrowed).expect("a file");
    git_in(&place.path("c"), &format!("push -q {} HEAD:refs/kugetsu/1/1/tip", evidence.display()));
    set_aside(&place.path("c")).expect("it moves");
    clone(&place, &Wish::default(), Start { oid: &kept, evidence: Some(&evidence) })
        .expect("a clone");
    let folder = place.path("c");
    assert_eq!(git_in(&folder, "rev-parse HEAD"), kept.as_str());
    assert_eq!(fs::read_to_string(folder.join("new")).expect("it is there"), "new");
    git_in(&folder, "fsck --full");
    // A commit that is nowhere makes no clone, and nothing half.
    set_aside(&folder).expect("it moves");
    let nowhere: Oid = "1".repeat(40).parse().expect("an id");
    let error = clone(&place, &Wish::default(), at(&nowhere)).expect_err("it is nowhere");
    assert!(!matches!(error, GitError::Machine(_)), "{error:?}");
    assert!(!folder.exists());
}

#[test]
fn branches_with_odd_names() {
    for (name, base) in [("main", "main"), ("issue-1/x#y", "main"), ("ü", "main"), ("x", "gone")] {
        let place = Place::new();
        let tip = place.commit("a", "1");
        place.refresh().expect("a mirror");
        let wish = Wish { branch: name, base, ..Wish::default() };
        clone(&place, &wish, at(&tip)).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let folder = place.path("c");
        assert_eq!(git_in(&folder, "symbolic-ref HEAD"), format!("refs/heads/{name}"));
        assert_eq!(git_in(&folder, "status --porcelain"), "");
        let origin = folder.join(".git/refs/remotes/origin/HEAD");
        assert_eq!(origin.exists(), base == "main", "{name}");
    }
}

#[test]
fn a_folder_in_the_way() {
    let place = Place::new();
    let tip = place.commit("a", "1");
    place.refresh().expect("a mirror");
    fs::create_dir(place.path("c")).expect("a folder");
    fs::create_dir_all(place.path("c.unfinished/.git")).expect("left by a crash");
    clone(&place, &Wish::default(), at(&tip)).expect("an empty folder is no hindrance");
    let error = clone(&place, &Wish::default(), at(&tip)).expect_err("it is there");
    assert!(matches!(&error, GitError::Refused(why) if why.contains("in the way")), "{error:?}");
    let first = set_aside(&place.path("c")).expect("it moves");
    assert_eq!(first, place.path("c.damaged-1"));
    fs::write(place.path("c"), "a file").expect("a file");
    let error = clone(&place, &Wish::default(), at(&tip)).expect_err("it is there");
    assert!(matches!(&error, GitError::Refused(_)), "{error:?}");
    assert_eq!(set_aside(&place.path("c")).expect("it moves"), place.path("c.damaged-2"));
    clone(&place, &Wish::default(), at(&tip)).expect("it is free");
}

#[test]
fn what_a_tree_says_that_it_needs() {
    for (file, text, needs_lfs, needs_submodules) in [
        (".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n", true, false),
        ("deep/er/.gitattributes", "x filter=lfs\n", true, false),
        ("x.gitattributes", "x filter=lfs\n", false, false),
        (".gitattributes", "* text=auto\n", false, false),
        (".gitmodules", "[submodule \"x\"]\n\tpath = x\n\turl = ../x\n", false, true),
        ("deep/.gitmodules", "", false, false),
    ] {
        let place = Place::new();
        let tip = place.commit(file, text);
        place.refresh().expect("a mirror");
        let made = clone(&place, &Wish::default(), at(&tip)).expect("a clone");
        assert_eq!(made, MadeClone { needs_lfs, needs_submodules, is_unfiltered: false }, "{file}");
    }
}

/// Under the nasty configuration there are such filters; under a plain one nobody knows them.
#[test]
fn filters_of_the_user() {
    for (filter, fails) in [("lfs", false), ("fails", true), ("works", false), ("unknown", false)] {
        let place = Place::new();
        place.commit("file", "text");
        let tip = place.commit(".gitattributes", &format!("file filter={filter}\n"));
        place.refresh().expect("a mirror");
        let key = format!("filter.{filter}.smudge");
        let known = place.git().call_nowhere("config").args(["--get", &key]).ask();
        let is_known = known.expect("an answer").is_some();
        let made = clone(&place, &Wish::default(), at(&tip)).expect("a clone");
        assert_eq!(made.is_unfiltered, fails && is_known, "{filter}");
        let text = fs::read_to_string(place.path("c/file")).expect("it is there");
        let expected = if filter == "works" && is_known { "TEXT" } else { "text" };
        assert_eq!(text, expected, "{filter}");
    }
}

#[test]
fn a_damaged_mirror_is_named_as_such() {
    let place = Place::new();
    let tip = place.commit("a", &"text\n".repeat(2000));
    place.refresh().expect("a mirror");
    let packs = fs::read_dir(place.mirror().join("objects/pack")).expect("packs");
    let paths: Vec<_> = packs.map(|entry| entry.expect("an entry").path()).collect();
    let pack = paths.iter().find(|path| path.extension().is_some_and(|end| end == "pack"));
    let pack = pack.expect("a pack");
    let mut bytes = fs::read(pack).expect("it is there");
    let end = bytes.len() - 20;
    bytes[12..end].fill(0x55);
    fs::remove_file(pack).expect("it is there");
    fs::write(pack, bytes).expect("a file");
    let error = clone(&place, &Wish::default(), at(&tip)).expect_err("nothing can be read");
    assert!(matches!(error, GitError::Damaged(_)), "{error:?}");
    assert!(!place.path("c").exists());
}

#[test]
fn bundles_hold_what_is_missing() {
    let place = Place::new();
    let first = place.commit("a", "1");
    place.refresh().expect("a mirror");
    clone(&place, &Wish::default(), at(&first)).expect("a clone");
    let (git, mirror, file) = (place.git(), place.mirror(), place.path("x.bundle"));
    let wanted = [branch("main"), branch("other")];
    let elsewhere: Oid = "2".repeat(40).parse().expect("an id");
    place.upstream("branch other");
    place.refresh().expect("a fetch");
    let have = [first.clone(), elsewhere.clone()];
    assert_eq!(bundle(&git, &mirror, &wanted, &have, &file), Ok(false));
    assert!(!file.exists());
    let second = place.commit("b", "2");
    place.refresh().expect("a fetch");
    assert_eq!(missing(&git, &mirror, &wanted, &have), Ok(true));
    assert_eq!(bundle(&git, &mirror, &wanted, &have, &file), Ok(true));
    let folder = place.path("c");
    let fetch = format!("fetch -q {} +refs/heads/*:refs/remotes/origin/*", file.display());
    git_in(&folder, &fetch);
    assert_eq!(git_in(&folder, "rev-parse refs/remotes/origin/main"), second.as_str());
    assert_eq!(missing(&git, &mirror, &wanted, &[second]), Ok(false));
    // Whoever has nothing gets all of it.
    fs::remove_file(&file).expect("it was there");
    assert_eq!(bundle(&git, &mirror, &wanted, &[elsewhere], &file), Ok(true));
    git_in(&place.path("upstream"), &format!("bundle verify -q {}", file.display()));
}

#[test]
fn values_of_a_configuration() {
    let place = Place::new();
    let tip = place.commit("a", "1");
    place.refresh().expect("a mirror");
    let url = "/srv/a \"b\" \\c;#d\n[core]\n\tfsmonitor = x";
    clone(&place, &Wish { url, ..Wish::default() }, at(&tip)).expect("a clone");
    assert_eq!(git_in(&place.path("c"), "config remote.origin.url"), url);
}
