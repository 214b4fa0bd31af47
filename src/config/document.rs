//! What is written down about the keys: `config.example` and `docs/CONFIGURATION.md`.

use std::fmt::Write as _;
use std::path::Path;

use super::{KEYS, tokens, wrap};

/// What the document says before it comes to the keys.
const INTRODUCTION: &str = "\
# Configuration

Nothing has to be set. `kugetsu init` writes a file with every key, its meaning and its default, all
commented out.

## Where from

The file is `config` in kugetsu's folder: `~/.kugetsu`, or what `KUGETSU_DIR` says. A variable of
the same name in the environment goes before the file, and the file before the default. An empty
value is the default, in both. Every command reads both when it begins; a worker that runs does not
read them again (`kugetsu queue-daemon restart`).

Two things are said to the environment only:

- `KUGETSU_DIR`, the folder of everything. In the file it is an error.
- `KUGETSU_LOG`, how much a worker says: `error`, `warn`, `info` (the default), `debug`, `trace`.

## How the file is written

```sh
# A comment has a line of its own.
MAX_CONCURRENT_AGENTS=5
export TASK_TIMEOUT_HOURS=\"0.5\"
KUGETSU_AGENT_COMMAND=opencode run --auto --format json --title \"job {job}\" [ --session {session} ]
```

- A line is `KEY=value`. It is read as data and never run: `$NAME`, `~` and backticks mean nothing.
- Blanks round the key and the value do not count, nor does `export ` before the key.
- One pair of quotes, single or double, round the whole value is taken away. There is no escaping.
- `#` begins a comment at the start of a line only. Behind a value it belongs to the value.
- If a key is there twice, the last one counts.
- The text is UTF-8. Lines may end as on Windows (CRLF), and a byte order mark at the start is fine.
- Durations are written `250ms`, `90s`, `15m`, `1h 30m`, `90d`; a bare number is seconds. Sizes are
  written `100MiB` (also `KiB`, `GiB`); a bare number is bytes.

An unknown key and a bad value are errors, with exit code 1, whatever the command. They name the
line:

```text
error: /home/you/.kugetsu/config:2: there is no key MAX_CONCURENT_AGENTS (did you mean MAX_CONCURRENT_AGENTS?)
error: environment: MAX_CONCURRENT_AGENTS=0: it is a whole number from 1 to 1000
```

The file may hold tokens, and addresses with a password. No error, log or detail of a job repeats
one: `…` stands in its place, and in that of the values of the worker's own variables whose names end
in `_KEY`, `_TOKEN`, `_SECRET` or `_PASSWORD`, and of whatever looks like a key. `kugetsu init` makes it readable by you alone; if you made it
yourself, run `chmod 600 ~/.kugetsu/config`.

## The agent's command

`KUGETSU_AGENT_COMMAND` is split into words as a shell would split it (quotes and backslashes), but
no shell runs. The first word is the program. Then each word is filled in, and not split again:

| placeholder | is |
|---|---|
| `{message_file}` | the file with the message, which is the standard input too |
| `{session}` | the agent's session of this issue; empty the first time |
| `{worktree}` | the folder to work in, which is the current folder too |
| `{job}`, `{attempt}` | their numbers |
| `{issue}` | the reference as it was enqueued |
| `{branch}` | the branch that is checked out |

Words between a word `[` and a word `]` are left out when a value in them is empty. So `[ --session
{session} ]` is two words, or none.

For a pipe, a redirection or a variable, write a script and name it here. Quotes are for words with
blanks: `\"/opt/my agent\" --fast`. If the first and the last word are both quoted, put another pair
round it all, because one pair is taken away: `'\"/opt/my agent\" \"{issue}\"'`.

## What an agent finds

Its standard input is the message. Its current folder (and `PWD`) is the worktree. Its output goes to
`logs/dev-JOB.log`. Its environment is the worker's, with these:

| variable | holds |
|---|---|
| `KUGETSU_MESSAGE_FILE` | the file with the message; `context.txt` beside it has issue, branch, base |
| `KUGETSU_SESSION` | the agent's session of this issue; empty the first time |
| `KUGETSU_WORKTREE` | the folder to work in |
| `KUGETSU_JOB` | number of the job and of the attempt: `14/2` |
| `KUGETSU_ATTEMPT` | number of the attempt |
| `KUGETSU_ISSUE` | the reference as it was enqueued |
| `KUGETSU_BRANCH` | the branch that is checked out |
| `KUGETSU_RUN` | the folder of this run, by which kugetsu finds its processes |
| `KUGETSU_RESULT` | a file that it may write: see below |
| `GITEA_TOKEN` | the token, if one is set here |

Left out of it: what git tells its hooks (`GIT_DIR` and the like), what one opencode tells another
(`OPENCODE`, `OPENCODE_PID`, `OPENCODE_SERVER_*`, `AGENT`), and systemd's `NOTIFY_SOCKET` and
`WATCHDOG_*`. `KUGETSU_TOKEN_*` is left out too, and an address in `KUGETSU_CLONE_URL` or
`KUGETSU_STORE` loses its password. Where `KUGETSU_JOB` is set, `KUGETSU_BRANCH` is the agent's branch
and not the key of that name.

Exit code 75 means \"not now\": the job is tried again five minutes later. To name the time, the agent
writes JSON into the file `KUGETSU_RESULT`, and ends as it likes; `reason` and `pause` may be left out,
and `pause` stops the whole queue until then:

```json
{\"defer_until\": \"2026-11-23T06:00:00Z\", \"reason\": \"429 from the model\", \"pause\": true}
```

## The keys

<!-- From here on made from the table KEYS in src/config/keys.rs. -->
";

/// The file `docs/CONFIGURATION.md`.
fn document() -> String {
    let mut text = String::from(INTRODUCTION);
    for key in KEYS {
        let _ = writeln!(text, "\n### `{}`\n", key.name);
        for line in wrap(&in_code(key.help), 100) {
            let _ = writeln!(text, "{line}");
        }
        let default = if key.default.is_empty() { "# not set" } else { key.default };
        let _ = writeln!(text, "\n```sh\n{}={}", key.name, key.example);
        let _ = writeln!(text, "# default: {}\n```", default.trim_start_matches("# "));
        if key.name == "KUGETSU_GITEA_HOST" {
            let _ = writeln!(text, "\n### `{}`\n", tokens::NAME);
            for line in wrap(tokens::HELP, 100) {
                let _ = writeln!(text, "{line}");
            }
            let example = format!("{}={}", tokens::EXAMPLE_NAME, tokens::EXAMPLE);
            let _ = writeln!(text, "\n```sh\n{example}\n# default: not set\n```");
        }
    }
    text
}

/// Placeholders and brackets are set as code: elsewhere they would be markup.
fn in_code(help: &str) -> String {
    let words = help.split(' ').map(|word| {
        let bare = word.trim_end_matches(['.', ',']);
        let is_code = bare.starts_with('{') || bare == "[" || bare == "]";
        if is_code { format!("`{bare}`{}", &word[bare.len()..]) } else { word.into() }
    });
    words.collect::<Vec<String>>().join(" ")
}

/// Compares a file of the repository with what it should be, or writes it.
#[expect(clippy::disallowed_methods, reason = "the one place where these tests read it")]
pub(super) fn check(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("KUGETSU_TEST_OVERWRITE").is_some() {
        std::fs::write(&path, expected).expect("the repository can be written to");
    }
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == expected,
        "{name} is not what src/config/ says; \
         `KUGETSU_TEST_OVERWRITE=1 cargo test --lib config` writes it anew"
    );
}

#[test]
fn the_document_is_what_the_table_says() {
    check("docs/CONFIGURATION.md", &document());
}
