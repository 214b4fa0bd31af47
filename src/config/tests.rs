//! Configurations, good and bad.

use super::*;

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment = environment.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    Config::from_sources("/k".into(), Path::new("/k/config"), Some(text), &environment)
        .map_err(|error| error.to_string())
}

#[test]
fn the_environment_goes_before_the_file_and_the_file_before_defaults() {
    let config = load("", &[]).expect("defaults are valid");
    assert_eq!((config.max_agents, config.limits.timeout_ms), (3, 3_600_000));
    assert_eq!(config.store, Path::new("/k/queue.redb"));
    let text = "\n# a comment\nMAX_CONCURRENT_AGENTS=5\r\nexport TASK_TIMEOUT_HOURS=\"0.5\"\n";
    let config = load(text, &[]).expect("a valid file");
    assert_eq!((config.max_agents, config.limits.timeout_ms), (5, 1_800_000));
    let config = load(text, &[("MAX_CONCURRENT_AGENTS", "7")]).expect("a valid file");
    assert_eq!(config.max_agents, 7);
    let config = load(text, &[("MAX_CONCURRENT_AGENTS", "")]).expect("empty is the default");
    assert_eq!(config.max_agents, 3);
}

#[test]
fn errors_name_the_line_and_the_cause() {
    for (text, words) in [
        ("MAX_CONCURRENT_AGENTS=0", "/k/config:1: MAX_CONCURRENT_AGENTS=0: it is a whole"),
        (
            "\nMAX_CONCURRENT_AGENT=1",
            "/k/config:2: there is no key MAX_CONCURRENT_AGENT (did you mean MAX_CONCURRENT_AGENTS?)",
        ),
        ("COLOUR=red", "there is no key COLOUR"),
        ("hello", "this is not KEY=value"),
        ("KUGETSU_DIR=/x", "set it in the environment"),
        ("KUGETSU_LOG=debug", "from the environment alone"),
        ("TASK_TIMEOUT_HOURS=-1", "number of hours"),
        ("TASK_TIMEOUT_HOURS=nan", "number of hours"),
        ("KUGETSU_LEASE=1ms", "at least 300ms"),
        ("KUGETSU_KILL_GRACE=soon", "a duration"),
        ("KUGETSU_KILL_GRACE=99999y", "ten years"),
        ("KUGETSU_LOG_MAX=12QB", "a size"),
        ("KUGETSU_LOG_MAX=99999999999GiB", "a size"),
        ("KUGETSU_STORE=mysql://x", "redb:PATH"),
        ("KUGETSU_AGENT_COMMAND=a {x}", "there is no placeholder {x}"),
        ("KUGETSU_CLONE_URL=https://x", "it needs {path}"),
        ("KUGETSU_MAX_COST=1e300", "a sum"),
        ("KUGETSU_MAX_COST=inf", "a sum"),
        ("KUGETSU_KILL_GRACE=2d", "more than a day"),
        ("KUGETSU_SPAWN_DELAY=1y", "more than a day"),
        ("KUGETSU_POLL_INTERVAL=9y", "more than a day"),
        ("KUGETSU_LEASE=25h", "more than a day"),
        ("KUGETSU_LOG_RETENTION=0", "longer than 0"),
        ("KUGETSU_LOG_RETENTION=long", "a duration"),
        ("KUGETSU_CLONE_LINKS=true", "one of no, yes"),
        ("KUGETSU_SANDBOX=on", "one of none, clone"),
        ("KUGETSU_SANDBOX_WRITE=~/x", "~ and $ mean nothing"),
        ("KUGETSU_SANDBOX_WRITE=$HOME/x", "~ and $ mean nothing"),
        ("KUGETSU_SANDBOX_WRITE=/a::/b", "an empty path"),
        ("KUGETSU_SANDBOX_WRITE=/a:b", "\"b\" is no absolute path"),
        ("KUGETSU_SANDBOX_WRITE=/a/../b", "no absolute path without .."),
        ("KUGETSU_SANDBOX_WRITE=/", "KUGETSU_SANDBOX=none"),
        ("KUGETSU_DISPOSABLE=a/b", "\"a/b\" is no name of a folder"),
        ("KUGETSU_DISPOSABLE=dist ..", "\"..\" is no name of a folder"),
        ("KUGETSU_DISPOSABLE=.git", "\".git\" is no name of a folder"),
        ("KUGETSU_BRANCH=issue", "it needs {number}"),
        ("KUGETSU_BRANCH={number}..", "is no name for a branch"),
        ("KUGETSU_GITEA_HOST=https://h", "KUGETSU_GITEA_HOST=https://h: it is a host"),
        ("KUGETSU_CLONE_HOSTS=a.b /x", "\"/x\": it is a host"),
        ("KUGETSU_TOKEN_github=abcd", "KUGETSU_TOKEN_github: the host is written in capitals"),
        ("KUGETSU_TOKEN=abcd", "there is no key KUGETSU_TOKEN"),
        (
            "KUGETSU_CLONE_HOSTS=git.a git-a\nKUGETSU_TOKEN_GIT_A=abcd",
            "KUGETSU_CLONE_HOSTS: KUGETSU_TOKEN_GIT_A could mean git.a or git-a",
        ),
        ("KUGETSU_BASE_SESSION=--help", "it is the id of an opencode session"),
        ("KUGETSU_BASE_SESSION=ses_", "it is the id of an opencode session"),
        (
            "KUGETSU_BASE_SESSION=ses_1\nKUGETSU_AGENT_COMMAND=opencode run",
            "KUGETSU_AGENT_COMMAND: it needs {session}",
        ),
    ] {
        let error = load(text, &[]).expect_err(text);
        assert!(error.contains(words), "{text}: {error}");
    }
    let error = load("", &[("KUGETSU_ON_TERM", "panic")]).expect_err("no such way");
    assert_eq!(error, "environment: KUGETSU_ON_TERM=panic: it is one of detach, drain, stop");
}

#[test]
fn files_that_cannot_be_read_as_text() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("config");
    assert_eq!(file::read_file(&path), Ok(None), "no file is no error");
    for (bytes, expected) in [
        (&b"A=1\r\nB=2\r\n"[..], Ok("A=1\r\nB=2\r\n")),
        (b"\xef\xbb\xbfA=1\n", Ok("A=1\n")),
        (b"A=1\nB=\xff\n", Err(":2: this is not UTF-8")),
        (b"\xff\xfeA\0=\0", Err(":1: this is not UTF-8")),
    ] {
        std::fs::write(&path, bytes).expect("a file");
        match (file::read_file(&path), expected) {
            (Ok(text), Ok(expected)) => assert_eq!(text.as_deref(), Some(expected)),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (got, _) => panic!("{bytes:?}: {got:?}"),
        }
    }
    std::fs::remove_file(&path).expect("it is ours");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let error = file::read_file(&path).expect_err("nobody writes to it");
    assert!(error.to_string().contains("it is not a file"), "{error}");
}

#[test]
fn the_example_is_what_the_table_says() {
    let text = example();
    document::check("config.example", &text);
    let uncommented: String = text
        .lines()
        .filter_map(|line| {
            line.strip_prefix('#').filter(|line| line.contains('=') && !line.starts_with(' '))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    // And one of the tokens.
    assert_eq!(uncommented.lines().count(), KEYS.len() + 1);
    load(&uncommented, &[]).expect("every default can be written down");
}

#[test]
fn every_example_is_another_value_that_is_read() {
    for key in KEYS {
        assert_ne!(key.example, key.default, "{}", key.name);
        let line = format!("{}={}\n", key.name, key.example);
        load(&line, &[]).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn what_the_newer_keys_mean() {
    let config = load("", &[]).expect("defaults are valid");
    assert!(!config.clone_links && config.disposable.len() == 8);
    assert_eq!((config.sandbox, config.sandbox_write.len()), (Sandboxing::None, 0));
    assert_eq!((config.gitea_host, config.log_retention_ms), (None, None));
    assert_eq!(config.branch, BranchTemplate::default());
    let text = "KUGETSU_CLONE_LINKS=yes\nKUGETSU_DISPOSABLE=none\nKUGETSU_SANDBOX=clone\n\
                KUGETSU_SANDBOX_WRITE=/a:/b c\nKUGETSU_LOG_RETENTION=30d\n\
                KUGETSU_GITEA_HOST=Git.Example.com\nKUGETSU_CLONE_HOSTS=git.example.com,h:1\n\
                KUGETSU_TOKEN_H_1=from-file\nKUGETSU_TOKEN_X=from-file\n";
    let environment =
        [("KUGETSU_TOKEN_H_1", "from-environment"), ("KUGETSU_TOKEN_X", ""), ("KUGETSU_Y", "z")];
    let config = load(text, &environment).expect("a valid file");
    assert!(config.clone_links && config.disposable.is_empty());
    assert_eq!(config.sandbox, Sandboxing::Clone);
    assert_eq!(config.sandbox_write, ["/a", "/b c"].map(PathBuf::from));
    assert_eq!(config.log_retention_ms, Some(30 * 24 * 3_600_000));
    assert_eq!(config.gitea_host.as_ref().map(Host::as_str), Some("git.example.com"));
    let tokens: Vec<_> =
        config.tokens.iter().map(|(name, token)| (name.as_str(), token.expose())).collect();
    assert_eq!(tokens, [("KUGETSU_TOKEN_H_1", "from-environment")]);
    for (issue, is_good) in [("GIT.example.com/o/r#1", true), ("evil.com/o/r#1", false)] {
        let issue = issue.parse().expect("an issue");
        assert_eq!(config.check_host(&issue).is_ok(), is_good);
    }
}

#[test]
fn an_agents_branch_is_no_template() {
    let branch = ("KUGETSU_BRANCH", "issue-14");
    load("", &[branch]).expect_err("it has no number");
    let config = load("KUGETSU_BRANCH=x-{number}", &[branch, ("KUGETSU_JOB", "14/1")]);
    let issue = "h/o/r#7".parse().expect("an issue");
    assert_eq!(config.expect("it is an agent's").branch.fill(&issue).as_deref(), Ok("x-7"));
}

/// Wherever a secret is set, and however wrongly.
#[test]
fn no_error_repeats_a_secret_and_nothing_shows_one() {
    for (text, environment) in [
        ("GITEA_TOKEN=s3cr3t one", &[][..]),
        ("GITEA_TOKE=s3cr3t", &[]),
        ("s3cr3t", &[]),
        ("KUGETSU_TOKEN_H=s3cr3t one", &[]),
        ("KUGETSU_TOKEN_h=s3cr3t", &[]),
        ("KUGETSU_STORE=postgres://u:s3cr3t@h/d", &[]),
        ("KUGETSU_STORE=https://s3cr3t0123456789@h/d", &[]),
        ("KUGETSU_CLONE_URL=https://me:s3cr3t@h/x", &[]),
        ("KUGETSU_AGENT_COMMAND=a --key s3cr3t {x}\nGITEA_TOKEN=s3cr3t", &[]),
        ("KUGETSU_AGENT_COMMAND=a --key s3cr3t {x}", &[("OPENAI_API_KEY", "s3cr3t")]),
        ("", &[("KUGETSU_TOKEN_H", "s3cr3t one")]),
        ("", &[("GITEA_TOKEN", "s3cr3t\none")]),
        ("", &[("KUGETSU_STORE", "postgres://u:s3cr3t@h/d")]),
        ("", &[("KUGETSU_CLONE_URL", "https://u:s3cr3t@h/d")]),
    ] {
        let error = load(text, environment).expect_err(text);
        assert!(!error.contains("s3cr3t"), "{text}: {error}");
    }
    // Too short for a mask, and not repeated all the same.
    let error = load("GITEA_TOKEN=q z", &[]).expect_err("it has a blank");
    assert!(error.contains("GITEA_TOKEN: it has") && !error.contains("q z"), "{error}");
    let text = "KUGETSU_CLONE_URL=https://me:s3cr3t-url@h/{path}\nGITEA_TOKEN=s3cr3t-tea\n\
                KUGETSU_TOKEN_H=s3cr3t-host\n";
    let url = ("KUGETSU_CLONE_URL", "https://me:s3cr3t-other@h/{path}");
    let own = ("MY_API_KEY", "s3cr3t-own");
    for environment in [&[][..], &[url, own, ("X_KEY", "true")]] {
        let config = load(text, environment).expect("a valid configuration");
        let shown = format!("{config:?} {:?}", config.agents());
        assert!(!shown.contains("s3cr3t"), "{shown}");
        let all = "s3cr3t-url s3cr3t-tea s3cr3t-host true";
        assert_eq!(config.secrets.mask(all), "… … … true");
        assert_eq!(config.secrets.mask("s3cr3t-own") == "…", !environment.is_empty());
        let given: Vec<_> =
            config.agents().secrets.given().map(|(name, _)| name.to_string()).collect();
        assert_eq!(given, ["GITEA_TOKEN"]);
        let removed: Vec<_> = config.secrets.removed_for_agents().collect();
        assert_eq!(removed, ["KUGETSU_TOKEN_*"]);
        let replaced: Vec<_> = config.secrets.replaced().collect();
        let expected = ("KUGETSU_CLONE_URL", "https://h/{path}");
        assert_eq!(replaced, if environment.is_empty() { vec![] } else { vec![expected] });
    }
}

#[test]
fn lines_that_nobody_else_may_read() {
    for (line, expected) in [
        ("GITEA_TOKEN=abcd", Some("GITEA_TOKEN")),
        (" export GITEA_TOKEN='abcd'", Some("GITEA_TOKEN")),
        ("KUGETSU_TOKEN_H=abcd", Some("KUGETSU_TOKEN_H")),
        ("KUGETSU_CLONE_URL=https://u:p@h/{path}", Some("KUGETSU_CLONE_URL")),
        ("KUGETSU_CLONE_URL=https://h/{path}", None),
        ("GITEA_TOKEN=", None),
        ("# GITEA_TOKEN=abcd", None),
        ("MAX_CONCURRENT_AGENTS=3", None),
        ("nonsense", None),
    ] {
        assert_eq!(secret_in_line(line), expected, "{line}");
    }
}
