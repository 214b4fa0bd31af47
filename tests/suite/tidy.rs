//! Rules that hold for the whole tree, and that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

fn files(folder: &str, ending: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                let text = fs::read_to_string(&path).expect("a text");
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "there are no .{ending} files in {folder}");
    found
}

/// The code of a file, without its unit tests and comments.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn imports_point_down() {
    const PURE: &str = "std::fs std::io std::net std::process std::thread std::time std::env \
                        std::sync serde nix:: tracing crossbeam rand";
    const ABOVE_STORE: &str = "crate::queue crate::process crate::agent crate::daemon \
                               crate::worker crate::executor crate::cli crate::config";
    let layers = [
        ("src/job", format!("{PURE} {ABOVE_STORE} crate::store")),
        ("src/worker", format!("{PURE} {} crate::store", ABOVE_STORE.replace("crate::worker", ""))),
        ("src/store", format!("{ABOVE_STORE} nix::unistd")),
        (
            "src/process",
            // What a worker asks for is what a process is stopped by.
            format!("{} crate::store", ABOVE_STORE.replace("crate::process", ""))
                .replace("crate::worker", ""),
        ),
        ("src/agent", "crate::store crate::daemon crate::cli crate::config".into()),
        ("src/daemon", "crate::agent crate::cli crate::config clap".into()),
    ];
    for (folder, banned) in layers {
        for (path, text) in files(folder, "rs") {
            if path.ends_with("tests.rs") {
                continue;
            }
            let code = code(&text);
            for word in banned.split_whitespace() {
                assert!(!code.contains(word), "{} mentions {word}", path.display());
            }
        }
    }
}

#[test]
fn files_stay_readable() {
    for folder in ["src", "tests/suite", "examples", "benches"] {
        for (path, text) in files(folder, "rs") {
            let name = path.display();
            assert!(text.starts_with("//! "), "{name} does not say what it is for");
            assert!(text.lines().count() <= 800, "{name} is too long to read");
            for word in ["TODO", "FIXME", "XXX", "#[ignore", "unimplemented!"] {
                let own = path.ends_with("tidy.rs");
                assert!(own || !text.contains(word), "{name} holds {word}");
            }
        }
    }
}

#[test]
fn documents_name_files_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("a text");
    let mut documents = files("docs", "md");
    documents.push((root.join("README.md"), readme));
    for (path, text) in documents {
        for word in text.split(['`', '(', ')', ' ', '\n', ',']) {
            let is_path = ["src/", "docs/", "tests/", "benches/", "examples/"]
                .iter()
                .any(|f| word.starts_with(f));
            let word = word.split(':').next().unwrap_or(word).trim_end_matches('.');
            if is_path && !word.contains(['*', '{', '<', '…']) {
                assert!(root.join(word).exists(), "{} names {word}", path.display());
            }
        }
        for line in text.lines() {
            assert!(line.len() <= 400, "{}: a line that nobody reads: {line}", path.display());
        }
    }
}

#[test]
fn every_key_of_the_readme_is_a_key() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = files("docs", "md");
    texts.push((
        root.join("README.md"),
        fs::read_to_string(root.join("README.md")).expect("a text"),
    ));
    // Said to the environment alone, or said by kugetsu to its agents.
    const OTHERS: &[&str] = &[
        "KUGETSU_DIR",
        "KUGETSU_LOG",
        "KUGETSU_MESSAGE_FILE",
        "KUGETSU_SESSION",
        "KUGETSU_WORKTREE",
        "KUGETSU_JOB",
        "KUGETSU_ATTEMPT",
        "KUGETSU_ISSUE",
        "KUGETSU_BRANCH",
        "KUGETSU_RUN",
        "KUGETSU_RESULT",
        "KUGETSU_FAILPOINT",
        "KUGETSU_FAILPOINT_ONCE",
        "KUGETSU_TEST_NOT_YET",
        "KUGETSU_TEST_OLD_BINARY",
        "KUGETSU_TEST_OPENCODE",
        "KUGETSU_TEST_SLOW",
        "KUGETSU_TEST_OVERWRITE",
        "KUGETSU_TEST_SEED",
        "KUGETSU_TORTURE_SECONDS",
    ];
    for (path, text) in texts {
        let words = text.split(|c: char| !c.is_ascii_uppercase() && c != '_');
        for word in words.filter(|word| word.starts_with("KUGETSU_")) {
            let known = kugetsu::config::KEYS.iter().any(|key| key.name == word)
                || word.starts_with("KUGETSU_TOKEN_");
            assert!(known || OTHERS.contains(&word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn every_place_to_die_at_is_died_at() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |name: &str| fs::read_to_string(root.join(name)).expect("a text");
    let tests = text("tests/suite/crashes.rs") + &text("tests/suite/upgrade.rs");
    let mut places = 0;
    for (path, text) in files("src", "rs") {
        for call in text.split("failpoint::here(\"").skip(1) {
            let name = call.split('"').next().expect("it ends");
            let is_named = tests.split(['"', ',', ':']).any(|word| word == name);
            assert!(is_named, "{}: no test dies at {name}", path.display());
            places += 1;
        }
    }
    assert!(places > 20, "there are {places}");
}

#[test]
fn no_user_gets_places_to_die_at() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("a text");
    let section = |name: &str| {
        let (_, rest) = manifest.split_once(&format!("\n[{name}]\n")).expect("a section");
        rest.split("\n[").next().unwrap_or(rest)
    };
    assert!(section("features").contains("\nfailpoints = []"));
    assert!(!section("features").contains("\ndefault"));
    assert!(!section("dependencies").contains("failpoints"));
    assert!(section("dev-dependencies").contains("\"failpoints\""), "these tests do");
}
