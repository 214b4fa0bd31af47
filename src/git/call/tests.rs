//! Calls of the real git.

use std::fs;

use crossbeam_channel::never;

use super::*;

struct Place {
    folder: tempfile::TempDir,
    nothing: File,
    stop: Receiver<Stop>,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let nothing = File::open("/dev/null").expect("it is there");
        let place = Place { folder, nothing, stop: never() };
        let path = place.path("r.git");
        place.init(&path);
        place
    }

    fn init(&self, folder: &Path) {
        let init = self.git().call_nowhere("init").env("GIT_DEFAULT_HASH", "sha1");
        init.args(["-q", "--bare"]).arg(folder).run().expect("a repository");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn git(&self) -> Git<'_> {
        Git::new(&self.nothing, &self.stop, 60_000, None)
    }

    fn call(&self, verb: &str) -> Call<'_> {
        self.git().call(&self.path("r.git"), verb)
    }
}

#[test]
fn settings_are_ours_and_no_argument() {
    let place = Place::new();
    for (key, value) in SETTINGS {
        let said = place.call("config").args(["--get", key]).text().expect(key);
        assert_eq!(said, value, "{key}");
    }
    // A key with `=` in it is no riddle.
    let call = place.call("config").config("url./a=b.insteadOf", "/a=b");
    let said = call.args(["--get", "url./a=b.insteadof"]).text().expect("it is set");
    assert_eq!(said, "/a=b");
}

#[test]
fn answers() {
    let place = Place::new();
    let hash = |call: Call<'_>| call.args(["-w", "--stdin"]).text();
    let blob = hash(place.call("hash-object").input("hello\n")).expect("an object");
    assert_eq!(blob, "ce013625030ba8dba906f756967f9e9ca394464a");
    let verify = |name: &str| {
        place.call("rev-parse").args(["--verify", "--quiet", "--end-of-options", name]).ask()
    };
    assert_eq!(verify(&blob), Ok(Some(blob.clone())));
    assert_eq!(verify("refs/heads/main"), Ok(None));
    let error = place.call("cat-file").args(["blob", "main"]).run().expect_err("no such object");
    assert!(matches!(&error, GitError::Refused(why) if why.contains("main")), "{error:?}");
    let error = place.call("cat-file").args(["blob", &blob]).output_max(5).run();
    assert!(matches!(&error, Err(GitError::TooLarge(_))), "{error:?}");
    let said = place.call("cat-file").arg("--batch-check").input(format!("{blob}\nx\n")).text();
    assert_eq!(said, Ok(format!("{blob} blob 6\nx missing")));
    let path = place.path("out");
    let file = File::create(&path).expect("a file");
    place.call("cat-file").args(["blob", &blob]).run_into(file).expect("it is there");
    assert_eq!(fs::read(&path).expect("it is there"), b"hello\n");
    let given = File::open(&path).expect("it is there");
    assert_eq!(hash(place.call("hash-object").input_file(given)), Ok(blob));
}

#[test]
fn a_file_size_is_kept() {
    let place = Place::new();
    let path = place.path("large");
    let file = File::create(&path).expect("a file");
    file.set_len(3_000_000).expect("room");
    let call = |bytes| {
        place
            .call("hash-object")
            .args(["-w", "--no-filters"])
            .arg(&path)
            .config("core.compression", "0")
            .file_bytes_max(bytes)
            .run()
    };
    let error = call(1_000_000).expect_err("the object is larger");
    assert!(matches!(error, GitError::TooLarge(_)), "{error:?}");
    call(4_000_000).expect("there is room for it");
}

#[test]
fn pipes_blame_whoever_broke_them() {
    let place = Place::new();
    let other = place.path("o.git");
    place
        .git()
        .call_nowhere("init")
        .env("GIT_DEFAULT_HASH", "sha1")
        .args(["-q", "--bare"])
        .arg(&other)
        .run()
        .expect("another");
    let blob = place.call("hash-object").args(["-w", "--stdin"]).input("hello\n").text();
    let blob = blob.expect("an object");
    let pack =
        |id: &str| place.call("pack-objects").args(["-q", "--stdout"]).input(format!("{id}\n"));
    let index = |flag: &str| place.git().call(&other, "index-pack").args(["--stdin", flag]);
    let git = place.git();
    let said = git.pipe(pack(&blob), index("--fix-thin")).expect("a pack");
    assert!(said.starts_with(b"pack\t"), "{said:?}");
    place.git().call(&other, "cat-file").args(["-e", &blob]).run().expect("it came over");
    for (first, second, words) in [
        (pack("x"), index("--fix-thin"), "git pack-objects: "),
        (pack(&blob), index("--no-such-flag"), "git index-pack: "),
        (pack(&blob), index("--max-input-size=10"), "pack exceeds"),
    ] {
        let error = git.pipe(first, second).expect_err("one of them fails");
        assert!(error.words().contains(words), "{error:?}");
    }
    let error = git.pipe(pack(&blob), index("--max-input-size=10")).expect_err("too large");
    assert!(matches!(error, GitError::TooLarge(_)), "{error:?}");
}

#[test]
fn limits_of_one_call_and_of_all() {
    let place = Place::new();
    let slow = |git: Git<'_>| {
        git.call(&place.path("r.git"), "slow")
            .config("alias.slow", "!exec sleep 600")
            .limit_ms(1)
            .run()
    };
    let error = slow(place.git()).expect_err("it is too slow");
    assert!(matches!(error, GitError::TimedOut(_)), "{error:?}");
    let git = Git::new(&place.nothing, &place.stop, 0, None);
    let error = git.call(&place.path("r.git"), "rev-parse").arg("--git-dir").limit_ms(60_000).run();
    assert!(matches!(error, Err(GitError::TimedOut(_))), "{error:?}");
}

#[test]
fn nothing_is_fetched_unless_it_is_allowed() {
    let place = Place::new();
    let from = place.path("r.git");
    let fetch = || place.call("fetch").arg(&from).arg("refs/heads/*:refs/heads/*");
    let error = fetch().run().expect_err("no transport is allowed");
    assert!(error.words().contains("not allowed"), "{error:?}");
    fetch().protocols("file").run().expect("an empty repository");
    let error = place.call("fetch").arg("ext::true").protocols("file").run().expect_err("never");
    assert!(error.words().contains("not allowed"), "{error:?}");
}
