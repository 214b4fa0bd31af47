//! The tests of this module once more, under a configuration and an environment as nasty as users
//! and their hooks can have them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::process::command;

/// All that a user may have set that bites: it waits, fails, or means something else.
const CONFIGURATION: &str = r#"
[core]
    hooksPath = PLACE/hooks
    fsmonitor = PLACE/planted
    alternateRefsCommand = PLACE/planted
    askPass = PLACE/planted
    editor = PLACE/planted
    pager = PLACE/planted
    sshCommand = PLACE/planted
    autocrlf = true
    bare = true
    worktree = /nowhere
    sparseCheckout = true
    splitIndex = true
    untrackedCache = true
    logAllRefUpdates = false
    sharedRepository = group
    attributesFile = PLACE/attributes
    excludesFile = PLACE/attributes
[init]
    templateDir = PLACE
    defaultBranch = odd/name
    defaultObjectFormat = sha256
    defaultRefFormat = reftable
[clone]
    defaultRemoteName = upstream
    rejectShallow = true
    filterSubmodules = true
[checkout]
    defaultRemote = upstream
    workers = 4
    thresholdForParallelism = 1
[commit]
    gpgSign = true
[tag]
    gpgSign = true
    forceSignAnnotated = true
[gpg]
    program = PLACE/planted
[fetch]
    prune = false
    pruneTags = true
    recurseSubmodules = true
    fsckObjects = true
    parallel = 8
    writeCommitGraph = true
    negotiationAlgorithm = skipping
    output = compact
[transfer]
    fsckObjects = true
[remote "origin"]
    url = https://127.0.0.1:1/evil
    fetch = +refs/pull/*/head:refs/heads/pr/*
    prune = false
    tagOpt = --no-tags
[remote]
    pushDefault = upstream
[branch]
    autoSetupMerge = always
    autoSetupRebase = always
[submodule]
    recurse = true
[protocol]
    allow = never
    version = 0
[safe]
    bareRepository = explicit
    directory = /nowhere
[credential]
    helper = "!sleep 600"
    useHttpPath = true
[color]
    ui = always
[column]
    ui = always
[diff]
    external = PLACE/planted
[log]
    showSignature = true
[gc]
    auto = 1
    autoDetach = true
[maintenance]
    auto = true
    strategy = incremental
[pack]
    writeBitmapHashCache = true
    packSizeLimit = 1m
[repack]
    writeBitmaps = true
    updateServerInfo = false
[index]
    version = 4
[feature]
    experimental = true
    manyFiles = true
[uploadpack]
    packObjectsHook = PLACE/hook
[bundle]
    version = 2
[filter "lfs"]
    process = PLACE/planted
    smudge = PLACE/planted
    required = true
[filter "fails"]
    smudge = false
    required = true
[filter "works"]
    smudge = tr a-z A-Z
[alias]
    fetch = !sleep 600
    config = !sleep 600
"#;

const ENVIRONMENT: [(&str, &str); 27] = [
    ("GIT_DIR", "/nowhere"),
    ("GIT_WORK_TREE", "/nowhere"),
    ("GIT_INDEX_FILE", "/nowhere/index"),
    ("GIT_OBJECT_DIRECTORY", "/nowhere"),
    ("GIT_ALTERNATE_OBJECT_DIRECTORIES", "/nowhere"),
    ("GIT_COMMON_DIR", "/nowhere"),
    ("GIT_NAMESPACE", "odd"),
    ("GIT_PREFIX", "odd/"),
    ("GIT_CONFIG_COUNT", "1"),
    ("GIT_CONFIG_KEY_0", "core.bare"),
    ("GIT_CONFIG_VALUE_0", "nonsense"),
    ("GIT_CONFIG_PARAMETERS", "nonsense"),
    ("GIT_DEFAULT_HASH", "sha256"),
    ("GIT_DEFAULT_REF_FORMAT", "reftable"),
    ("GIT_ATTR_SOURCE", "nowhere"),
    ("GIT_QUARANTINE_PATH", "/nowhere"),
    ("GIT_EXTERNAL_DIFF", "false"),
    ("GIT_LITERAL_PATHSPECS", "1"),
    ("GIT_NO_LAZY_FETCH", "0"),
    ("GIT_SHALLOW_FILE", "/nowhere"),
    ("GIT_TEMPLATE_DIR", "/nowhere"),
    ("GIT_TRACE", "1"),
    ("GIT_TRACE2_EVENT", "1"),
    ("GIT_TERMINAL_PROMPT", "1"),
    ("GIT_FLUSH", "nonsense"),
    ("GIT_REF_PARANOIA", "1"),
    ("LANG", "de_DE.UTF-8"),
];

#[test]
fn the_same_under_a_nasty_configuration() {
    run_again(&["git::call::", "git::mirror::", "git::clone::"]);
}

#[test]
fn the_same_of_what_was_done_under_a_nasty_configuration() {
    run_again(&["git::evidence::", "git::changes::", "git::new_work::", "git::unsaved::"]);
}

#[test]
fn the_same_of_plants_under_a_nasty_configuration() {
    run_again(&["git::refs::"]);
}

fn run_again(tests: &[&str]) {
    let place = tempfile::tempdir().expect("a folder");
    let path = |name: &str| place.path().join(name);
    let text = CONFIGURATION.replace("PLACE", place.path().to_str().expect("it is UTF-8"));
    fs::write(path("config"), text).expect("a file");
    fs::write(path("attributes"), "").expect("a file");
    let planted = format!("#!/bin/sh\necho \"$0 $*\" >> '{}'\nsleep 600\n", path("ran").display());
    let program = |name: &str, script: &str| {
        fs::create_dir_all(path(name).parent().expect("a folder")).expect("a folder");
        fs::write(path(name), script).expect("a program");
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o700)).expect("it is ours");
    };
    program("planted", &planted);
    // This one is the user's own word to a git that serves, and is minded.
    program("hook", "#!/bin/sh\nexec \"$@\"\n");
    for hook in ["post-checkout", "post-index-change", "reference-transaction", "pre-auto-gc"] {
        program(&format!("hooks/{hook}"), &planted);
    }
    let output = command(std::env::current_exe().expect("a test is a program"))
        .args(tests)
        .arg("--test-threads=2")
        .env("GIT_CONFIG_GLOBAL", path("config"))
        .env("GIT_CONFIG_SYSTEM", path("config"))
        .env("GIT_ASKPASS", path("planted"))
        .env("SSH_ASKPASS", path("planted"))
        .env("GIT_EDITOR", path("planted"))
        .env("GIT_PAGER", path("planted"))
        .envs(ENVIRONMENT)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("test result: ok. ") && !said.contains("ok. 0 passed"), "{said}");
    let ran = fs::read_to_string(path("ran")).unwrap_or_default();
    assert_eq!(ran, "", "planted programs ran");
}
