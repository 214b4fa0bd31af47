//! Everything that can stand in a file's place, for every way to open one.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use nix::unistd::mkfifo;

use super::*;

/// A trusted folder with an outside beside it.
struct Scene {
    root: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        let root = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(root.path().join("trusted")).expect("a folder");
        fs::write(root.path().join("outside"), "secret").expect("a file");
        Scene { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("trusted").join(name)
    }

    fn outside(&self) -> PathBuf {
        self.root.path().join("outside")
    }

    /// Plants something under the name `x`.
    fn plant(&self, what: &str) {
        let path = self.path("x");
        match what {
            "link" => symlink(self.outside(), path).expect("a link"),
            "dangling" => symlink("/nonexistent/y", path).expect("a link"),
            "magic" => symlink("/proc/self/fd/0", path).expect("a link"),
            "device link" => symlink("/dev/zero", path).expect("a link"),
            "loop" => symlink("x", path).expect("a link"),
            "folder" => fs::create_dir(path).expect("a folder"),
            "pipe" => mkfifo(&path, Mode::S_IRWXU).expect("a pipe"),
            "socket" => drop(UnixListener::bind(path).expect("a socket")),
            "sparse" => {
                let file = File::create(path).expect("a file");
                file.set_len(1 << 40).expect("a large file");
            }
            other => panic!("{other} is not known"),
        }
    }
}

const PLANTS: [(&str, Option<NotAFile>); 9] = [
    ("link", Some(NotAFile::Link)),
    ("dangling", Some(NotAFile::Link)),
    ("magic", Some(NotAFile::Link)),
    ("device link", Some(NotAFile::Link)),
    ("loop", Some(NotAFile::Link)),
    ("folder", Some(NotAFile::Folder)),
    ("pipe", Some(NotAFile::Pipe)),
    ("socket", Some(NotAFile::Socket)),
    ("sparse", None),
];

#[test]
fn what_is_planted_is_named_and_never_opened() {
    for (what, found) in PLANTS {
        let scene = Scene::new();
        scene.plant(what);
        let path = scene.path("x");
        let check = |how: &str, error: Option<io::Error>| {
            let said = error.as_ref().and_then(planted);
            assert_eq!(said, found, "{what} by {how}: {error:?}");
            if let Some(error) = error {
                let words = error.to_string();
                assert!(words.contains("trusted/x is a"), "{what} by {how}: {words}");
            }
        };
        check("open", open_regular(&path).err());
        check("append", open_append(&path).err());
        check("create", open_or_create(&path).err());
        check("tail", read_tail(&path, 0, 10).err());
        let bounded = read_bounded(&path, 10).expect_err("nothing here is a small file");
        assert_eq!(planted(&bounded), found.or(Some(NotAFile::TooLarge(10))), "{what}");
        assert!(!create_mark(&path).expect("a look"), "{what} counts as there");
        assert_eq!(fs::read_to_string(scene.outside()).expect("it is there"), "secret");
    }
}

#[test]
fn what_is_written_replaces_what_was_planted() {
    for (what, _) in PLANTS {
        let scene = Scene::new();
        scene.plant(what);
        let written = write_new(&scene.path(""), OsStr::new("x"), b"new");
        match what {
            "folder" => {
                let error = written.expect_err("a folder stays");
                assert_eq!(planted(&error), Some(NotAFile::Folder));
            }
            _ => {
                written.expect("a write");
                let read = read_bounded(&scene.path("x"), 3).expect("a read");
                assert_eq!(read.as_deref(), Some(&b"new"[..]), "{what}");
                let metadata = fs::metadata(scene.path("x")).expect("it is there");
                assert_eq!(metadata.mode() & 0o7777, 0o600);
            }
        }
        assert_eq!(fs::read_to_string(scene.outside()).expect("it is there"), "secret", "{what}");
        let names = fs::read_dir(scene.path("")).expect("a folder").count();
        assert_eq!(names, 1, "{what}: no draft is left");
    }
}

#[test]
fn nothing_on_the_way_is_a_link() {
    let scene = Scene::new();
    fs::create_dir(scene.root.path().join("elsewhere")).expect("a folder");
    fs::write(scene.root.path().join("elsewhere/file"), "secret").expect("a file");
    symlink(scene.root.path().join("elsewhere"), scene.path("linked")).expect("a link");
    mkfifo(&scene.path("pipe"), Mode::S_IRWXU).expect("a pipe");
    fs::create_dir_all(scene.path("a/b")).expect("folders");
    fs::write(scene.path("a/b/file"), "text").expect("a file");
    let trusted = scene.path("");
    for (relative, found) in [
        ("linked/file", Some(NotAFile::Link)),
        ("pipe/file", Some(NotAFile::FileOnTheWay)),
        ("a/b/file/more", Some(NotAFile::FileOnTheWay)),
        ("a/../../outside", Some(NotAFile::Outside)),
        ("/etc/passwd", Some(NotAFile::Outside)),
        ("", Some(NotAFile::Outside)),
        ("a/b/file", None),
        ("./a/./b/file", None),
    ] {
        let opened = open_below(&trusted, Path::new(relative));
        assert_eq!(opened.err().as_ref().and_then(planted), found, "{relative}");
        if found.is_some() {
            let written = write_below(&trusted, Path::new(relative), b"evil");
            assert_eq!(written.err().as_ref().and_then(planted), found, "{relative}");
        }
    }
    let missing = read_below(&trusted, Path::new("no/such/file"), 9).expect("a look");
    assert_eq!(missing, None);
    write_below(&trusted, Path::new("made/on/the/way"), b"text").expect("a write");
    assert_eq!(fs::read(scene.path("made/on/the/way")).expect("it is there"), b"text");
    let mode = fs::metadata(scene.path("made")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let beside = fs::read_dir(scene.root.path().join("elsewhere")).expect("a folder").count();
    assert_eq!(beside, 1);
}

#[test]
fn bounds_are_met_to_the_byte() {
    let scene = Scene::new();
    fs::write(scene.path("x"), "12345").expect("a file");
    for (max, expected) in [(5, Some("12345")), (6, Some("12345")), (4, None), (0, None)] {
        let read = read_bounded(&scene.path("x"), max).ok().flatten();
        assert_eq!(read.as_deref(), expected.map(str::as_bytes), "{max}");
    }
    for (from, max, expected) in [(0, 3, "345"), (4, 3, "5"), (9, 3, ""), (0, 9, "12345")] {
        let read = read_tail(&scene.path("x"), from, max).expect("a read").expect("it is there");
        assert_eq!(String::from_utf8_lossy(&read), expected, "{from} {max}");
    }
    assert_eq!(read_tail(&scene.path("none"), 0, 1).expect("a look"), None);
    assert_eq!(read_text(&scene.path("x"), 5).expect("a read").as_deref(), Some("12345"));
}

#[test]
fn a_mark_is_made_once_and_appending_adds() {
    let scene = Scene::new();
    assert!(create_mark(&scene.path("mark")).expect("a mark"));
    assert!(!create_mark(&scene.path("mark")).expect("a mark"));
    for _ in 0..2 {
        let mut log = open_append(&scene.path("log")).expect("a log");
        let flags = fcntl(&log, FcntlArg::F_GETFL).expect("its flags");
        let flags = OFlag::from_bits_truncate(flags);
        assert!(!flags.contains(OFlag::O_NONBLOCK) && flags.contains(OFlag::O_APPEND));
        log.write_all(b"line\n").expect("a write");
    }
    assert_eq!(fs::read_to_string(scene.path("log")).expect("it is there"), "line\nline\n");
}

#[test]
fn a_folder_is_made_or_what_stands_there_is_named() {
    let scene = Scene::new();
    ensure_folder(&scene.path("a/b")).expect("it is made");
    ensure_folder(&scene.path("a/b")).expect("it is there");
    fs::remove_dir_all(scene.path("a")).expect("it goes");
    ensure_folder(&scene.path("a/b")).expect("it is made again");
    fs::write(scene.path("file"), "").expect("a file");
    mkfifo(&scene.path("pipe"), Mode::S_IRWXU).expect("a pipe");
    symlink("/nonexistent/y", scene.path("dangling")).expect("a link");
    for (name, expected) in [
        ("file", "trusted/file is a file; move it away"),
        ("file/below/it", "trusted/file is a file; move it away"),
        ("pipe", "trusted/pipe is a named pipe"),
        ("dangling", "trusted/dangling is a link that leads to no folder"),
    ] {
        let said = ensure_folder(&scene.path(name)).expect_err(name).to_string();
        assert!(said.contains(expected), "{name}: {said}");
    }
    let folder = fs::canonicalize(scene.path("a")).expect("it is there");
    symlink(folder, scene.path("to-a-folder")).expect("a link");
    ensure_folder(&scene.path("to-a-folder")).expect("a link of the user's own");
}

#[test]
fn random_words_differ() {
    let (one, other) = (random_word().expect("a word"), random_word().expect("a word"));
    assert!(one != other && one.len() == 32, "{one} {other}");
}
