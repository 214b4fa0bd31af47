//! opencode's own log, where it says what it keeps silent about: on 429, 5xx and refused
//! connections it tries again inside and prints nothing, for as long as the provider asks for.
//!
//! The file is shared by all opencode processes of a data folder. Lines are taken by the run that
//! is named in them, which is learned from the folder it works in, or by the session.

#[cfg(test)]
mod tests;

use jiff::tz::TimeZone;
use serde_json::Value;

use super::events::is_session_id;
use super::facts::{Facts, Judged};
use super::kind::{Kind, Source, Trouble};
use super::text;
use super::when::Here;
use super::{Failure, until};
use crate::job::limits;
use crate::time::Timestamp;

/// Whose lines count. With nothing known, all do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whose {
    /// The folder that the agent works in, as it was told.
    pub folder: Option<String>,
    /// The session that is resumed.
    pub session: Option<String>,
}

/// A run that waits for its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// When it was refused first, and not served since.
    pub since: Timestamp,
    /// When it was refused last.
    pub last: Timestamp,
    /// How often it was refused in a row.
    pub failures: u32,
}

/// Reads what is added to the log while a run is at work.
#[derive(Debug, Default)]
pub struct ProviderLog {
    whose: Whose,
    /// The name of the run's process in the log.
    run: Option<String>,
    session: Option<String>,
    refused: Option<(Failure, Waiting, Option<String>)>,
}

/// One line of it, taken apart.
#[derive(Debug, Default)]
struct Record {
    fields: Vec<(String, String)>,
    at: Option<Timestamp>,
}

impl Record {
    fn get(&self, key: &str) -> &str {
        let field = self.fields.iter().find(|(name, _)| name == key);
        field.map_or("", |(_, value)| value)
    }
}

impl ProviderLog {
    /// Of a run that begins now: lines that were there before are not to be fed.
    pub fn new(whose: Whose) -> ProviderLog {
        ProviderLog { whose, ..ProviderLog::default() }
    }

    /// Reads a line, without its newline.
    pub fn read_line(&mut self, line: &[u8]) {
        let line = text::cut_bytes(line, limits::DIALECT_LINE_BYTES_MAX);
        let line = String::from_utf8_lossy(line);
        let Some(record) = record(line.trim()) else { return };
        if !self.is_ours(&record) {
            return;
        }
        let session = first_of(&record, &["session.id", "sessionID", "session"]);
        let is_helper = record.get("small") == "true" || record.get("agent") == "title";
        match (record.get("level"), record.get("message")) {
            ("ERROR", "stream error") if !is_helper => self.refuse(&record, session),
            ("ERROR", "process") => self.refuse(&record, session),
            ("WARN" | "ERROR" | "INFO", "retry") if !is_helper => self.refuse(&record, session),
            ("INFO", "loop" | "exiting loop" | "process") => {
                let is_other = |waiting: &str| !session.is_empty() && waiting != session;
                let other = self.refused.as_ref().and_then(|(_, _, of)| of.as_deref());
                if !other.is_some_and(is_other) {
                    self.refused = None;
                }
            }
            _ => {}
        }
    }

    /// The session that the run made or resumed, which opencode may not have printed yet.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// The run's own output showed that its model answered.
    pub fn went_on(&mut self) {
        self.refused = None;
    }

    /// Whether the run waits for its provider now.
    pub fn waiting(&self) -> Option<Waiting> {
        self.refused.as_ref().map(|(_, waiting, _)| *waiting)
    }

    /// What the provider said when it refused last, if it has not served since.
    pub fn trouble(&self, now: Timestamp, zone: &TimeZone) -> Option<Trouble> {
        let (failure, _, _) = self.refused.as_ref()?;
        let here = Here { now, zone };
        let Judged { kind, remedy, said } = failure.judged.as_ref()?;
        let until = said.as_ref().and_then(|said| until(said, failure.at, here));
        let words = failure.words.clone();
        Some(Trouble { kind: *kind, remedy: *remedy, source: Source::ProviderLog, until, words })
    }

    /// Whether a line is of this run; learns its names on the way.
    fn is_ours(&mut self, record: &Record) -> bool {
        let run = record.get("run");
        let session = first_of(record, &["session.id", "sessionID", "session"]);
        let is_our_folder =
            self.whose.folder.as_deref().is_some_and(|folder| record.get("directory") == folder);
        let is_our_session = !session.is_empty() && self.whose.session.as_deref() == Some(session);
        if self.run.is_none() && (is_our_folder || is_our_session) && !run.is_empty() {
            self.run = Some(text::cut(run, limits::SESSION_ID_BYTES_MAX).to_string());
        }
        let has_no_names = self.whose.folder.is_none() && self.whose.session.is_none();
        let is_our_run = self.run.as_deref().is_some_and(|ours| ours == run);
        let is_known = |session: &str| self.session.as_deref() == Some(session);
        let is_ours = has_no_names
            || is_our_run
            || is_our_session
            || is_our_folder
            || (!session.is_empty() && is_known(session));
        let (created, parent) = (record.get("id"), record.get("parentID"));
        let is_new = record.get("message") == "created" && matches!(parent, "" | "undefined");
        if is_ours && self.session.is_none() {
            let named = if is_new { created } else { session };
            self.session = is_session_id(named).then(|| named.to_string());
        }
        is_ours
    }

    fn refuse(&mut self, record: &Record, session: &str) {
        let said = first_of(record, &["error.error", "error", "code"]);
        let mut facts = match serde_json::from_str::<Value>(said) {
            Ok(value @ Value::Object(_)) => Facts::of_event(&value),
            Ok(_) | Err(_) => Facts::of_text(said),
        };
        for text in &mut facts.texts {
            let plain = without_class(text).to_string();
            *text = plain;
        }
        if let Some((name, _)) = said.split_once(": ") {
            facts = facts.with(name, None);
        }
        if let Ok(ms) = first_of(record, &["nextDelay", "retryDelayMs", "delay"]).parse() {
            facts.retries.extend(super::when::span(ms, true));
        }
        for (key, value) in &record.fields {
            let key = key.to_ascii_lowercase();
            facts.header(key.rsplit('.').next().unwrap_or_default(), value);
        }
        // What is tried again without a word that is known: the provider is broken.
        let judged = facts.judge().or_else(|| {
            let kind = Kind::Overload;
            let said = facts.retries.first().cloned();
            Some(Judged { kind, remedy: kind.remedy(), said })
        });
        let at = record.at;
        let mut failure = Failure { judged, words: facts.words(), at };
        let now = at.unwrap_or(Timestamp(0));
        let before = self.refused.take();
        let mut waiting = Waiting { since: now, last: now, failures: 1 };
        if let Some((earlier, before, _)) = before {
            // `retry` tells the same failure once more, with the pause that follows it.
            let is_told_twice = record.get("message") != "stream error";
            let again = u32::from(!is_told_twice);
            waiting.since = before.since;
            waiting.failures = before.failures.saturating_add(again);
            if let (Some(now), Some(earlier)) = (&mut failure.judged, earlier.judged) {
                let is_same = now.kind == earlier.kind;
                now.said = now.said.take().or(earlier.said.filter(|_| is_same));
            }
        }
        let session = (!session.is_empty()).then(|| session.to_string());
        self.refused = Some((failure, waiting, session));
    }
}

fn first_of<'r>(record: &'r Record, keys: &[&str]) -> &'r str {
    keys.iter().map(|key| record.get(key)).find(|value| !value.is_empty()).unwrap_or_default()
}

/// `AI_APICallError: what it says` without its class.
fn without_class(said: &str) -> &str {
    let mut rest = said;
    for class in ["AI_RetryError: ", "AI_APICallError: ", "APIError: ", "Error: "] {
        rest = rest.strip_prefix(class).unwrap_or(rest);
    }
    let attempts = rest.strip_prefix("Failed after ").and_then(|r| r.split_once("Last error: "));
    attempts.map_or(rest, |(_, last)| last)
}

/// Takes a line apart, of today's format or the one before: `ERROR 2025-11-03T03:26:27 +203ms
/// service=llm … error={…} stream error`.
fn record(line: &str) -> Option<Record> {
    const LEVELS: &[&str] = &["DEBUG", "INFO", "WARN", "ERROR"];
    /// Fields of one line.
    const FIELDS_MAX: usize = 64;
    let mut record = Record::default();
    let mut rest = line;
    let mut trailing = Vec::new();
    let first = line.split(' ').next()?;
    if LEVELS.contains(&first) {
        record.fields.push(("level".into(), first.into()));
        rest = line[first.len()..].trim_start();
        let moment = rest.split(' ').next()?;
        record.at = moment.parse().ok();
        rest = rest[moment.len()..].trim_start();
        // How long after the line before.
        let ago = rest.split(' ').next().filter(|word| word.starts_with('+'));
        rest = rest[ago.map_or(0, str::len)..].trim_start();
    } else if !line.starts_with("timestamp=") {
        return None;
    }
    while !rest.is_empty() && record.fields.len() < FIELDS_MAX && trailing.len() < FIELDS_MAX {
        let word = rest.split(' ').next().unwrap_or_default();
        match word.split_once('=') {
            Some((key, _)) if !key.is_empty() => {
                let behind = &rest[key.len() + 1..];
                let (value, length) = value(behind);
                record.fields.push((key.to_string(), value));
                rest = behind[length..].trim_start();
            }
            Some(_) | None => {
                trailing.push(word);
                rest = rest[word.len()..].trim_start();
            }
        }
    }
    if record.get("message").is_empty() {
        record.fields.push(("message".into(), trailing.join(" ")));
    }
    if record.at.is_none() {
        record.at = record.get("timestamp").parse().ok();
    }
    Some(record)
}

/// A value at the beginning of a text, and its length there: a word, a text in quotes, JSON.
fn value(text: &str) -> (String, usize) {
    if text.starts_with(['"', '{', '[']) {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        if let Some(Ok(value)) = values.next() {
            let length = values.byte_offset();
            return match value {
                Value::String(said) => (said, length),
                other => (other.to_string(), length),
            };
        }
    }
    let length = text.find(' ').unwrap_or(text.len());
    (text[..length].to_string(), length)
}
