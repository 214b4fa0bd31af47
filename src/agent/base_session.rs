//! An issue's session, made from a base session: export, fresh ids, import in the worktree.
//!
//! A fork would not do: it works in the folder of its base. An import is bound to the folder that
//! it runs in.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::Path;

use crossbeam_channel::Receiver;
use serde_json::{Map, Value, json};

use crate::agent::settings::environment_removed;
use crate::executor::Stop;
use crate::job::limits;
use crate::process::helper::{self, Bounds, Interrupted, Orphan};
use crate::process::{command, remove_variables};

/// What to copy, and where to.
pub(super) struct Copying<'c> {
    /// The opencode to do it with.
    pub program: &'c str,
    /// The session to copy.
    pub base: &'c str,
    /// The folder that the copy is bound to.
    pub folder: &'c Path,
    /// What `opencode session list` shows of the copy.
    pub title: &'c str,
    pub stop: &'c Receiver<Stop>,
    pub orphan: Orphan<'c>,
}

/// Why there is no copy.
#[derive(Debug)]
pub(super) enum CopyError {
    /// The worker was told to stop.
    Stopped(Stop),
    /// In words that name the base and the next step.
    Failed(String),
}

/// Copies a session into a folder, and gives the copy's id.
///
/// Whoever dies between the import and the moment when the id is in the store leaves a session in
/// opencode's database that nobody continues. It harms nobody, and the next attempt makes another.
pub(super) fn copy(copying: &Copying<'_>) -> Result<String, CopyError> {
    let document = opencode(copying, &["export", copying.base])?;
    let seed = (RandomState::new(), RandomState::new());
    let tail =
        |id: &str| (u128::from(seed.0.hash_one(id)) << u64::BITS) | u128::from(seed.1.hash_one(id));
    let copy = renew(&document, copying.title, tail)
        .map_err(|why| failed(copying, &format!("its export {why}")))?;
    let write = || -> io::Result<tempfile::NamedTempFile> {
        // For its owner only, and gone when dropped.
        let mut file = tempfile::Builder::new().prefix("kugetsu-").suffix(".json").tempfile()?;
        file.write_all(copy.document.as_bytes())?;
        file.flush()?;
        Ok(file)
    };
    let file = write().map_err(|error| failed(copying, &format!("cannot write it: {error}")))?;
    let said = opencode(copying, &["import", &file.path().to_string_lossy()])?;
    // Some versions end well when they could not read the file.
    if !said.contains(&copy.id) {
        let line = said.lines().last().unwrap_or("nothing");
        return Err(failed(copying, &format!("opencode import said {line:?}")));
    }
    tracing::info!(base = copying.base, session = copy.id, "made a session from the base");
    Ok(copy.id)
}

/// Whatever it is, the agent did not start: that is tried again a few times, since an opencode may
/// be busy with its database, and ends with these words when it is no passing trouble.
fn failed(copying: &Copying<'_>, why: &str) -> CopyError {
    CopyError::Failed(format!(
        "no session from KUGETSU_BASE_SESSION={}: {why} (`opencode session list`, in the folder \
         where the base was made, shows the ids that there are)",
        copying.base
    ))
}

fn opencode(copying: &Copying<'_>, arguments: &[&str]) -> Result<String, CopyError> {
    let mut opencode = command(copying.program);
    remove_variables(&mut opencode, &environment_removed().collect::<Vec<_>>());
    opencode
        .args(arguments)
        .current_dir(copying.folder)
        // Its `run` goes by this one, `import` by the current folder.
        .env("PWD", copying.folder)
        // The repository's plugins would be installed and run: into the worktree, with no run that
        // is recorded, and for longer than the copy takes.
        .env("OPENCODE_DISABLE_PROJECT_CONFIG", "1");
    let bounds = Bounds {
        timeout_ms: limits::SESSION_COPY_MS_MAX,
        output_bytes_max: limits::SESSION_EXPORT_BYTES_MAX,
    };
    let what = format!("{} {}", copying.program, arguments[0]);
    let nothing = File::open("/dev/null")
        .map_err(|error| failed(copying, &format!("cannot open /dev/null: {error}")))?;
    match helper::run(opencode, &nothing, copying.stop, bounds, copying.orphan) {
        Ok(output) if output.status.success() => Ok(output.stdout),
        Ok(output) => Err(failed(copying, &format!("{what}: {}", output.said()))),
        Err(Interrupted::Stopped(stop)) => Err(CopyError::Stopped(stop)),
        Err(Interrupted::TimedOut) => {
            let minutes = bounds.timeout_ms / 60_000;
            Err(failed(copying, &format!("{what} took longer than {minutes} min")))
        }
        Err(Interrupted::Failed(error)) => Err(failed(copying, &format!("{what}: {error}"))),
    }
}

/// An exported session, as another one.
#[derive(Debug, PartialEq, Eq)]
struct Copy {
    id: String,
    document: String,
}

/// What an id of opencode begins with: sessions, messages, and parts of messages.
const PREFIXES: [&str; 3] = ["ses_", "msg_", "prt_"];
/// Hexadecimal digits after that, which tell the time and so the order.
const TIME_DIGITS: usize = 12;
/// Letters and digits after those, which make it one of a kind.
const TAIL_LETTERS: usize = 14;

/// What people, models and tools say, and what providers keep for themselves. An id in there is a
/// word, or even another one's: OpenAI's messages are `msg_…` too.
const FREE: [&str; 4] = ["text", "input", "output", "metadata"];

/// Makes another session of an exported one: every id has a new tail, wherever it is named.
///
/// The same `tail` gives the same copy. It must differ between ids, and from one copy to the next.
fn renew(document: &str, title: &str, tail: impl Fn(&str) -> u128) -> Result<Copy, String> {
    // A plugin may have said something before.
    let document = document.find('{').map_or("", |start| &document[start..]);
    let mut document: Value =
        serde_json::from_str(document).map_err(|error| format!("is not JSON: {error}"))?;
    let mut names = BTreeMap::new();
    collect(&document, &mut |id| {
        names.insert(id.to_string(), with_tail(id, tail(id)));
    });
    let id = document["info"]["id"].as_str().and_then(|id| names.get(id)).cloned();
    let id = id.ok_or("has no session id")?;
    rename(&mut document, &names);
    match document["info"].as_object_mut() {
        Some(info) => make_own(info, title),
        None => return Err("has no session".into()),
    }
    Ok(Copy { id, document: document.to_string() })
}

/// Finds what has an id.
fn collect(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(id) if name == "id" && is_id(id) => found(id),
                    _ if FREE.contains(&name.as_str()) => {}
                    value => collect(value, found),
                }
            }
        }
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

/// Replaces ids, and nothing that is more than an id.
fn rename(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, names)),
        Value::Object(fields) => {
            for (_, value) in fields.iter_mut().filter(|(name, _)| !FREE.contains(&name.as_str())) {
                rename(value, names);
            }
        }
        Value::String(text) => {
            if let Some(name) = names.get(text.as_str()) {
                text.clone_from(name);
            }
        }
        Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

fn is_id(text: &str) -> bool {
    PREFIXES.iter().any(|prefix| text.starts_with(prefix))
}

/// An id with its time and another tail. One that has no time is kept whole before the tail.
fn with_tail(id: &str, number: u128) -> String {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let time = PREFIXES[0].len()..PREFIXES[0].len() + TIME_DIGITS;
    let has_time =
        id.get(time.clone()).is_some_and(|time| time.bytes().all(|b| b.is_ascii_hexdigit()));
    let mut name = if has_time { id[..time.end].to_string() } else { id.to_string() };
    let mut rest = number;
    for _ in 0..TAIL_LETTERS {
        let letter = usize::try_from(rest % 62).expect("it is below 62");
        name.push(char::from(LETTERS[letter]));
        rest /= 62;
    }
    name
}

/// Takes away what is the base's alone, and makes the session one that works unattended.
fn make_own(info: &mut Map<String, Value>, title: &str) {
    // Who removes the base's parent removes its children; a shared page and a workspace are not
    // the copy's; and it is at work, even when the base was put aside.
    for name in ["parentID", "share", "workspaceID"] {
        info.shift_remove(name);
    }
    if let Some(time) = info.get_mut("time").and_then(Value::as_object_mut) {
        time.shift_remove("archived");
    }
    info.insert("title".into(), title.into());
    // As `opencode run` begins its own: a base made by a person at a terminal may ask questions,
    // and nobody would answer them. The last rule that fits holds.
    let unattended = ["question", "plan_enter", "plan_exit"]
        .map(|what| json!({ "permission": what, "pattern": "*", "action": "deny" }));
    let rules = info.entry("permission").or_insert_with(|| json!([]));
    if let Some(rules) = rules.as_array_mut() {
        rules.retain(|rule| !unattended.contains(rule));
        rules.extend(unattended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tail is the length of the id and zeros.
    fn renewed(document: &Value) -> Result<(String, Value), String> {
        let copy = renew(&document.to_string(), "kugetsu:4:1", |id| id.len() as u128)?;
        Ok((copy.id, serde_json::from_str(&copy.document).expect("it is JSON")))
    }

    const SESSION: &str = "ses_dfb414c0affed7ecGLh525OuXN";
    const MESSAGE: &str = "msg_204beb463001OFsGFeBEthvnrM";
    const PART: &str = "prt_204beb46f001z9WjBW1bTsAbWr";
    const NEW_SESSION: &str = "ses_dfb414c0affeU0000000000000";
    const NEW_MESSAGE: &str = "msg_204beb463001U0000000000000";
    const NEW_PART: &str = "prt_204beb46f001U0000000000000";

    fn deny(what: &str) -> Value {
        json!({ "permission": what, "pattern": "*", "action": "deny" })
    }

    #[test]
    fn a_copy_has_new_ids_wherever_they_are_named() {
        let text = format!("see {SESSION}, {MESSAGE} and {PART}");
        // An id that is no part of the session stays: of a sub-agent's session, of a provider.
        let other = "ses_dfb414c0afff00000000000000";
        let document = |session: &str, message: &str, part: &str, info: Value| {
            let mut info = info;
            info["id"] = session.into();
            info["revert"] = json!({ "messageID": message, "partID": part });
            json!({
                "info": info,
                "messages": [{
                    "info": { "id": message, "sessionID": session, "parentID": message },
                    "parts": [
                        { "id": part, "sessionID": session, "messageID": message, "text": text },
                        { "id": part, "text": SESSION },
                        { "id": part, "state": {
                            "input": { "id": MESSAGE, "sessionID": SESSION },
                            "output": PART,
                            "title": text,
                            "metadata": { "sessionId": other, "openai": { "id": MESSAGE } },
                            "attachments": [{ "id": part, "messageID": message, "url": "data:" }],
                        } },
                        { "id": part, "type": "compaction", "tail_start_id": message, "x": other },
                    ],
                }],
            })
        };
        let before = json!({
            "id": "", "title": "base", "directory": "/base", "parentID": other,
            "share": { "url": "https://x" }, "workspaceID": "wrk_1",
            "permission": [deny("plan_exit"), { "permission": "question", "action": "allow" }],
            "time": { "created": 1, "archived": 2 },
        });
        let after = json!({
            "id": "", "title": "kugetsu:4:1", "directory": "/base",
            "permission": [
                { "permission": "question", "action": "allow" },
                deny("question"), deny("plan_enter"), deny("plan_exit"),
            ],
            "time": { "created": 1 },
        });
        let (id, copy) = renewed(&document(SESSION, MESSAGE, PART, before)).expect("a session");
        assert_eq!(id, NEW_SESSION);
        assert_eq!(copy, document(NEW_SESSION, NEW_MESSAGE, NEW_PART, after));
    }

    #[test]
    fn an_id_keeps_its_time() {
        for (id, number, expected) in [
            (SESSION, 0, "ses_dfb414c0affe00000000000000"),
            (SESSION, u128::MAX, "ses_dfb414c0affe"),
            ("msg_204beb463001", 61, "msg_204beb463001z0000000000000"),
            ("msg_short", 62, "msg_short01000000000000"),
            ("msg_ünsinnig ööö", 1, "msg_ünsinnig ööö10000000000000"),
        ] {
            let name = with_tail(id, number);
            assert!(name.starts_with(expected), "{id}: {name}");
            assert_ne!(name, id);
        }
    }

    #[test]
    fn what_is_no_session_is_refused() {
        for (document, why) in [
            ("", "is not JSON"),
            ("{\"info\":", "is not JSON"),
            ("[]", "is not JSON"),
            ("{}", "has no session id"),
            (r#"{"info": {"id": "x"}, "messages": []}"#, "has no session id"),
            (r#"{"info": 1, "id": "ses_1"}"#, "has no session id"),
        ] {
            let error = renew(document, "", |_| 0).expect_err(document);
            assert!(error.starts_with(why), "{document}: {error}");
        }
        let chatty = "a plugin says hello\n{\"info\":{\"id\":\"ses_1\"}}";
        assert_eq!(renew(chatty, "", |_| 0).expect("a session").id, "ses_100000000000000");
    }
}
