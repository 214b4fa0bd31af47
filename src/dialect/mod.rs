//! What a program's log lines mean: its session, its usage, its last words, and what kept it from
//! its work (opencode and kilo, claude, codex, gemini, aider, cline, or anything plain).
//!
//! The dialect is told by the lines, not by the program's name. An error event counts until the
//! agent goes on after it; plain text counts as the run's last words alone; a tool's output never.
//! No I/O, no clock: whoever reads the log feeds its lines and says what time it is.

mod events;
mod facts;
mod kind;
mod phrases;
mod prose;
mod provider_log;
mod text;
mod usage;
mod when;

#[cfg(test)]
mod rows;
#[cfg(test)]
mod siblings;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use jiff::tz::TimeZone;
use serde_json::Value;

use crate::job::limits;
use crate::time::Timestamp;
use events::Meaning;
use facts::{Facts, Judged};
use when::{Here, Said};

pub use kind::{Kind, Remedy, SessionAdvice, Source, Trouble};
pub use provider_log::{ProviderLog, Whose};
pub use usage::ModelUsage;

/// How a run ended, as far as its words depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HowEnded {
    /// Its exit code; none if a signal ended it.
    pub exit_code: Option<i32>,
    /// The limit on its idle or whole time ended it.
    pub by_time_limit: bool,
}

impl HowEnded {
    fn failed(self) -> bool {
        self.exit_code != Some(0) || self.by_time_limit
    }
}

/// Reads one run's output line by line, and keeps little of it.
#[derive(Debug, Default)]
pub struct Transcript {
    session: Option<String>,
    counter: usage::Counter,
    last_lines: VecDeque<Line>,
    final_text: Option<String>,
    /// The last error event that nothing followed.
    failure: Option<Failure>,
    /// The end of a window, as an event named it.
    window: Option<Said>,
    /// What the agent meant to go on after.
    passing: Option<Failure>,
    /// Tools that the agent was not allowed to use.
    denied: Vec<String>,
    /// The beginning of a JSON value over several lines.
    block: Option<Vec<u8>>,
    is_stream: bool,
    is_aider: bool,
    /// Lines of opencode's own log, when it prints them.
    log: ProviderLog,
    has_log: bool,
}

/// One of the last lines.
#[derive(Debug)]
enum Line {
    Plain(String),
    /// The body of an error, printed by whoever: it counts like a plain line.
    Error(Failure),
}

#[derive(Debug, Clone)]
struct Failure {
    judged: Option<Judged>,
    words: String,
    /// When it happened, if it says so: spans count from there.
    at: Option<Timestamp>,
}

impl Failure {
    fn of(facts: &Facts, event: &Value) -> Failure {
        let at = event["timestamp"].as_u64().filter(|ms| *ms > 1_000_000_000_000).map(Timestamp);
        Failure { judged: facts.judge(), words: facts.words(), at }
    }

    fn trouble(&self, source: Source, here: Here<'_>) -> Option<Trouble> {
        let Judged { kind, remedy, said } = self.judged.as_ref()?;
        let until = said.as_ref().and_then(|said| until(said, self.at, here));
        let words = self.words.clone();
        Some(Trouble { kind: *kind, remedy: *remedy, source, until, words })
    }
}

/// The moment that was meant: a span counts from when it was said.
fn until(said: &Said, at: Option<Timestamp>, here: Here<'_>) -> Option<Timestamp> {
    let said_ago =
        at.filter(|at| *at < here.now && here.now.ms_since(*at) <= limits::PROVIDER_WAIT_MS_MAX);
    match (said, said_ago.and_then(|at| i64::try_from(at.0).ok())) {
        (Said::Span(ms), Some(at)) => {
            let ms = i64::try_from(*ms).unwrap_or(i64::MAX);
            when::resolve(&Said::Moment(at.saturating_add(ms)), here)
        }
        _ => when::resolve(said, here),
    }
}

impl Transcript {
    /// Of a run that has said nothing yet.
    pub fn new() -> Transcript {
        Transcript::default()
    }

    /// Reads a line, without its newline.
    pub fn read_line(&mut self, line: &[u8]) {
        if line.len() > limits::DIALECT_LINE_BYTES_MAX {
            return self.read_cut_line(&line[..limits::DIALECT_LINE_BYTES_MAX]);
        }
        let colourless = line.starts_with(b"\x1b").then(|| text::plain(line));
        let trimmed = colourless.as_deref().map_or(line, str::as_bytes).trim_ascii();
        if trimmed.starts_with(b"{")
            && let Ok(event @ Value::Object(_)) = serde_json::from_slice(trimmed)
        {
            return self.event(&event);
        }
        if self.block.is_some() || trimmed == b"{" {
            return self.block(trimmed);
        }
        // Half an event, or one that is no JSON: no words of anybody.
        if !trimmed.starts_with(b"{") {
            self.plain(line);
        }
    }

    /// Reads the beginning of a line that is too long to be read whole.
    pub fn read_cut_line(&mut self, beginning: &[u8]) {
        let trimmed = beginning.trim_ascii_start();
        if !trimmed.starts_with(b"{") {
            return self.plain(text::cut_bytes(beginning, limits::LAST_LINE_BYTES_MAX));
        }
        let is_error = [&br#"{"type":"error""#[..], br#"{"type":"turn.failed""#]
            .iter()
            .any(|start| trimmed.starts_with(start));
        if self.is_stream && !is_error {
            self.went_on();
        }
    }

    /// The session: the first one that the run named.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// What it has used up so far.
    pub fn usage(&self) -> ModelUsage {
        self.counter.total()
    }

    /// Its last words, at most [`limits::LAST_WORDS_BYTES_MAX`]: the final error's, else its last
    /// plain lines, else its final text. Foreign text, without terminal codes.
    pub fn last_words(&self) -> String {
        if let Some(failure) = &self.failure {
            return failure.words.clone();
        }
        let lines = self.last_lines.iter().map(|line| match line {
            Line::Plain(line) => line.as_str(),
            Line::Error(failure) => failure.words.as_str(),
        });
        let lines = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
        let words =
            if lines.is_empty() { self.final_text.clone().unwrap_or_default() } else { lines };
        events::tail(&words, limits::LAST_WORDS_BYTES_MAX).trim().to_string()
    }

    /// What kept the run from its work, if its lines say so.
    ///
    /// With a clean exit only an error event, a session that is not there and refused permissions
    /// are told. `zone` is that of the agent's process.
    pub fn trouble(&self, ended: HowEnded, now: Timestamp, zone: &TimeZone) -> Option<Trouble> {
        let here = Here { now, zone };
        let by_event = self.failure.as_ref().and_then(|f| f.trouble(Source::Event, here));
        if by_event.is_some() {
            return by_event;
        }
        if let Some(trouble) = self.by_last_lines(here)
            && (ended.failed() || matches!(trouble.kind, Kind::Session | Kind::Permission))
        {
            return Some(trouble);
        }
        if ended.failed() {
            let passing = self.passing.as_ref().and_then(|f| f.trouble(Source::Event, here));
            let logged = || self.has_log.then(|| self.log.trouble(now, zone)).flatten();
            if let Some(trouble) = passing.or_else(logged).or_else(|| self.failed_start()) {
                return Some(trouble);
            }
        }
        let denied = (!self.denied.is_empty()).then(|| self.denied.join(", "))?;
        Some(Trouble {
            kind: Kind::Permission,
            remedy: Kind::Permission.remedy(),
            source: Source::Event,
            until: None,
            words: facts::one_line(&format!("permission refused: {denied}")),
        })
    }

    /// The last line, and lines above it while those below are what programs print under an error.
    fn by_last_lines(&self, here: Here<'_>) -> Option<Trouble> {
        let mut below: Vec<&str> = Vec::new();
        for line in self.last_lines.iter().rev() {
            match line {
                Line::Error(failure) => return failure.trouble(Source::Event, here),
                Line::Plain(line) => {
                    if let Some((judged, words)) = prose::judge(line, &below) {
                        let failure = Failure { judged: Some(judged), words, at: None };
                        return failure.trouble(Source::Prose, here);
                    }
                    if !prose::is_below_an_error(line) {
                        return None;
                    }
                    below.insert(0, line);
                }
            }
        }
        None
    }

    /// opencode's database was in use when it had just begun.
    fn failed_start(&self) -> Option<Trouble> {
        if self.usage().steps > 0 {
            return None;
        }
        let plain = self.last_lines.iter().filter_map(|line| match line {
            Line::Plain(line) => Some(line),
            Line::Error(_) => None,
        });
        let mut found = plain
            .filter(|line| line.contains("database is locked") || line.contains("Failed query"));
        let words = facts::one_line(found.next_back()?);
        let kind = Kind::Machine;
        Some(Trouble { kind, remedy: kind.remedy(), source: Source::Prose, until: None, words })
    }

    /// A JSON value over several lines: its closing brace stands alone, like its opening one.
    fn block(&mut self, line: &[u8]) {
        let block = self.block.get_or_insert_default();
        block.extend_from_slice(line);
        block.push(b'\n');
        if block.len() > limits::DIALECT_BLOCK_BYTES_MAX {
            self.block = None;
            return;
        }
        // An inner object closes so too: then the whole is not read yet.
        if line == b"}"
            && let Ok(event @ Value::Object(_)) = serde_json::from_slice(block)
        {
            self.block = None;
            self.event(&event);
        }
    }

    fn event(&mut self, event: &Value) {
        if self.session.is_none() {
            self.session = events::session(event).map(str::to_string);
        }
        self.is_stream |= events::is_of_a_stream(event);
        match events::read(event, &mut self.counter) {
            Meaning::Progress(text) => {
                self.went_on();
                self.final_text = text.or(self.final_text.take());
            }
            Meaning::Failure(facts) => {
                let failure = Failure::of(&facts, event);
                if self.is_stream {
                    self.fail(failure);
                } else {
                    self.keep(Line::Error(failure));
                }
            }
            Meaning::Passing(facts) => self.passing = Some(Failure::of(&facts, event)),
            Meaning::Window(Some(facts)) => {
                let failure = Failure::of(&facts, event);
                self.window = failure.judged.as_ref().and_then(|judged| judged.said.clone());
                self.fail(failure);
            }
            Meaning::Window(None) => self.window = None,
            Meaning::Ended { text, denied } => {
                self.went_on();
                self.final_text = text.or(self.final_text.take());
                self.denied = denied;
            }
            Meaning::Other => {}
        }
    }

    /// An event goes before the one it follows, but for what only that one knew.
    fn fail(&mut self, mut failure: Failure) {
        let before = self.failure.take();
        match (&mut failure.judged, before.and_then(|before| before.judged)) {
            (None, before @ Some(_)) => failure.judged = before,
            (Some(now), Some(before)) if now.said.is_none() && now.kind == before.kind => {
                now.said = before.said;
            }
            (_, _) => {}
        }
        if let (Some(judged), Some(window)) = (&mut failure.judged, &self.window)
            && matches!(judged.kind, Kind::Usage | Kind::Rate)
        {
            judged.said = Some(window.clone());
        }
        self.failure = Some(failure);
    }

    fn went_on(&mut self) {
        self.failure = None;
        self.passing = None;
        self.window = None;
        self.log.went_on();
    }

    fn plain(&mut self, line: &[u8]) {
        let line = text::plain(text::cut_bytes(line, limits::LAST_LINE_BYTES_MAX));
        if line.is_empty() {
            return;
        }
        if line.starts_with("timestamp=") && line.contains(" level=") {
            self.has_log = true;
            return self.log.read_line(line.as_bytes());
        }
        // opencode's text: it goes on, or says itself how it ended.
        if self.has_log && !prose::is_below_an_error(&line) {
            self.log.went_on();
        }
        self.is_aider |= line.starts_with("Aider v");
        if self.is_aider {
            self.counter.aider(&line);
        }
        self.keep(Line::Plain(line));
    }

    fn keep(&mut self, line: Line) {
        if self.last_lines.len() >= limits::LAST_LINES_MAX {
            self.last_lines.pop_front();
        }
        self.last_lines.push_back(line);
    }
}
