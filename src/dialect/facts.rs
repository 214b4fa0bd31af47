//! What an error says, whatever its shape: texts, codes, a status, times.

use serde_json::{Map, Value};

use super::kind::{Kind, Remedy};
use super::phrases::{CODES, PHRASES, Where};
use super::text;
use super::when::{self, Said};
use crate::job::limits;

/// What was found in an error.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Sentences, the plainest first.
    pub texts: Vec<String>,
    /// Types, names and codes, in small letters.
    pub codes: Vec<String>,
    /// An HTTP status.
    pub status: Option<u64>,
    /// Fields that name the reset itself.
    pub resets: Vec<Said>,
    /// `retry-after` and its like.
    pub retries: Vec<Said>,
    /// A quota of a whole day.
    is_per_day: bool,
    /// Values that may still be looked at.
    values_left: Option<u32>,
}

/// What an error means.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    pub kind: Kind,
    pub remedy: Remedy,
    pub said: Option<Said>,
}

/// Keys whose text a person would read.
const TEXTS: &[&str] = &["message", "detail", "description", "text", "result", "error_description"];
/// Keys of what holds further facts.
const HOLDERS: &[&str] = &[
    "error",
    "errors",
    "data",
    "details",
    "detail",
    "cause",
    "lasterror",
    "responsebody",
    "body",
    "rate_limit_info",
    "violations",
    "event",
    "message",
    "response",
    "inner",
];
/// Keys of names.
const NAMES: &[&str] = &[
    "name",
    "type",
    "code",
    "status",
    "reason",
    "error",
    "subtype",
    "terminal_reason",
    "quotaid",
    "errortype",
    "error_type",
];
/// Keys of an HTTP status.
const STATUSES: &[&str] = &[
    "status",
    "statuscode",
    "status_code",
    "api_error_status",
    "apierrorstatus",
    "error_status",
    "http_status",
    "httpstatus",
    "code",
];
/// Keys of headers.
const HEADERS: &[&str] = &["responseheaders", "headers", "response_headers"];

impl Facts {
    pub fn of_event(event: &Value) -> Facts {
        let mut facts = Facts { values_left: Some(limits::ERROR_VALUES_MAX), ..Facts::default() };
        facts.walk(event, 0);
        facts
    }

    pub fn of_text(text: &str) -> Facts {
        let mut facts = Facts { values_left: Some(limits::ERROR_VALUES_MAX), ..Facts::default() };
        facts.text(text, 0);
        facts
    }

    /// Another name that was found beside it.
    pub fn with(mut self, code: &str, status: Option<u64>) -> Facts {
        self.name(code);
        self.status = self.status.or(status);
        self
    }

    /// The words to show: the first sentence, else a name.
    pub fn words(&self) -> String {
        let text = self.texts.iter().find(|text| !text.trim().is_empty());
        let is_error = |code: &&String| code.len() > "error".len() && code.ends_with("error");
        let known = self.codes.iter().find(|code| is_known(code));
        let is_telling = |code: &&String| {
            !matches!(code.as_str(), "error" | "result" | "success" | "run_result" | "turn.failed")
        };
        let named = known.or(self.codes.iter().find(is_error));
        let named = named.or(self.codes.iter().find(is_telling));
        let words = text.or(named).cloned();
        let words = words.or_else(|| self.status.map(|status| format!("status {status}")));
        let words = words.unwrap_or_default();
        // `[API Error: {…}]`, of which the body was read.
        let is_half = words.starts_with('[') && !words.contains(']');
        one_line(if is_half { &words[1..] } else { &words })
    }

    fn may_look(&mut self, depth: u32) -> bool {
        let left = self.values_left.get_or_insert(0);
        *left = left.saturating_sub(1);
        *left > 0 && depth < limits::ERROR_DEPTH_MAX
    }

    fn walk(&mut self, value: &Value, depth: u32) {
        if !self.may_look(depth) {
            return;
        }
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    if self.may_look(depth) {
                        self.field(&key.to_ascii_lowercase(), value, depth);
                    }
                }
            }
            Value::Array(values) => {
                for value in values.iter().take(limits::ERROR_VALUES_MAX as usize) {
                    self.walk(value, depth + 1);
                }
            }
            Value::String(said) => self.text(said, depth + 1),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn field(&mut self, key: &str, value: &Value, depth: u32) {
        if let Some(number) = number(value) {
            if STATUSES.contains(&key) {
                self.number(number);
            }
            self.time(key, value);
            return;
        }
        match value {
            Value::String(said) => {
                if NAMES.contains(&key) && is_name(said) {
                    self.name(said);
                } else if TEXTS.contains(&key) || HOLDERS.contains(&key) {
                    self.text(said, depth + 1);
                } else {
                    self.time(key, value);
                }
            }
            Value::Object(headers) if HEADERS.contains(&key) => self.headers(headers),
            Value::Object(_) | Value::Array(_) if HOLDERS.contains(&key) => {
                self.walk(value, depth + 1);
            }
            Value::Object(_) | Value::Array(_) => {}
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A status, or one of the exit codes that gemini puts in its place.
    fn number(&mut self, number: f64) {
        let whole = number.to_string();
        let status = whole.parse().ok().filter(|status| (400..600).contains(status));
        self.status = self.status.or(status);
        if number.fract() == 0.0 && (0.0..100_000.0).contains(&number) {
            self.name(&whole);
        }
    }

    fn name(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        self.is_per_day |= name.contains("perday");
        if self.codes.len() < limits::ERROR_VALUES_MAX as usize {
            self.codes.push(name);
        }
    }

    /// A sentence; JSON that it holds is looked through like the rest.
    fn text(&mut self, said: &str, depth: u32) {
        if !self.may_look(depth) {
            return;
        }
        let said = said.trim();
        let start = said.find(['{', '[']).filter(|start| {
            let behind = said[*start + 1..].trim_start();
            behind.starts_with(['"', '{', '[', '}', '\n'])
        });
        let Some(start) = start else { return self.sentence(said) };
        let mut values = serde_json::Deserializer::from_str(&said[start..]).into_iter::<Value>();
        let Some(Ok(value)) = values.next() else { return self.sentence(said) };
        let before = self.texts.len();
        self.walk(&value, depth + 1);
        let head = said[..start].trim();
        self.status = self.status.or_else(|| status_in(&text::folded(head)));
        match self.texts.get_mut(before) {
            // `API Error: 429` and what the body says.
            Some(first) if !head.is_empty() => {
                *first = format!("{head} {first}");
            }
            Some(_) => {}
            None => self.sentence(said),
        }
    }

    fn sentence(&mut self, said: &str) {
        if said.is_empty() {
            return;
        }
        if self.texts.len() >= limits::LAST_LINES_MAX {
            return;
        }
        let said = text::cut(said, limits::ERROR_TEXT_BYTES_MAX);
        self.is_per_day |= said.to_ascii_lowercase().contains("perday");
        self.status = self.status.or_else(|| status_in(&text::folded(said)));
        self.texts.push(said.to_string());
    }

    fn headers(&mut self, headers: &Map<String, Value>) {
        for (name, value) in headers.iter().take(limits::ERROR_VALUES_MAX as usize) {
            let value = match value {
                Value::String(value) => value.clone(),
                Value::Number(value) => value.to_string(),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => continue,
            };
            self.header(&name.to_ascii_lowercase(), &value);
        }
    }

    /// A header, by its name in small letters.
    pub fn header(&mut self, name: &str, value: &str) {
        let said = match name {
            "retry-after" => when::span_or_moment(value, false),
            "retry-after-ms" => when::span_or_moment(value, true),
            "anthropic-ratelimit-unified-reset" => value.parse().ok().and_then(when::moment),
            _ => None,
        };
        self.retries.extend(said);
    }

    /// A field that is named after a time of reset.
    fn time(&mut self, key: &str, value: &Value) {
        let key: String = key.chars().filter(char::is_ascii_alphanumeric).collect();
        let is_span = ["in", "after", "delay", "seconds", "ms"].iter().any(|part| {
            key.strip_prefix("resets")
                .or(key.strip_prefix("reset"))
                .or(key.strip_prefix("retry"))
                .is_some_and(|rest| rest.starts_with(part))
        });
        let in_ms = key.ends_with("ms");
        let said = match (value, number(value)) {
            (_, Some(number)) if is_span => when::span(number, in_ms),
            (_, Some(number)) => when::moment(number),
            (Value::String(said), None) => when::span_or_moment(said, in_ms),
            _ => None,
        };
        match key.as_str() {
            "resetsat" | "resetat" | "resettime" | "resetsinseconds" | "resetinseconds"
            | "resetsin" | "resetsinms" | "resetafterseconds" | "resetdate" | "resets" => {
                self.resets.extend(said);
            }
            "retryafter" | "retryafterms" | "retryafterseconds" | "retrydelay" | "retrydelayms"
            | "nextdelay" | "retryin" | "retryinseconds" => self.retries.extend(said),
            _ => {}
        }
    }

    /// What it means, if it is known.
    pub fn judge(&self) -> Option<Judged> {
        let joined = text::folded(&self.texts.join(". "));
        let joined = text::cut(&joined, limits::ERROR_TEXT_BYTES_MAX);
        let mut phrases = PHRASES.iter().filter(|(_, place, _)| *place != Where::Timed);
        let phrase = phrases.find(|(_, _, shape)| text::contains(joined, shape, GAP));
        let by_text = phrase.map(|(kind, _, _)| *kind);
        let known: Vec<Kind> = self.codes.iter().filter_map(|code| code_kind(code)).collect();
        let is_strong = |kind: &&Kind| {
            matches!(
                kind,
                Kind::Usage
                    | Kind::Billing
                    | Kind::Context
                    | Kind::Session
                    | Kind::Budget
                    | Kind::Aborted
            )
        };
        let by_code = known.iter().find(is_strong).or(known.first()).copied();
        let is_quota = joined.contains("exceeded your current quota")
            || matches!(by_text.or(by_code), Some(Kind::Rate));
        let is_google = joined.contains("ai.google.dev")
            || self.codes.iter().any(|code| code == "resource_exhausted");
        let kind = if is_quota && (self.is_per_day || (is_google && by_text == Some(Kind::Billing)))
        {
            Kind::Usage
        } else if by_text == Some(Kind::Billing) {
            Kind::Billing
        } else if let Some(strong) = by_code.filter(|kind| is_strong(&kind)) {
            strong
        } else {
            by_text.or(by_code).or_else(|| self.status.and_then(status_kind))?
        };
        // It tries again by itself: short, whatever it calls itself.
        let goes_on = joined.contains("retrying after") || joined.contains("retrying in");
        let kind = if goes_on && kind == Kind::Usage { Kind::Rate } else { kind };
        let said = self.said(kind, joined);
        let remedy = remedy(kind, joined);
        Some(Judged { kind, remedy, said })
    }

    /// The time: a field of its own before headers and words.
    fn said(&self, kind: Kind, joined: &str) -> Option<Said> {
        if kind.remedy() != Remedy::Wait {
            return None;
        }
        if let Some(said) = self.resets.first() {
            return Some(said.clone());
        }
        let words = when::find(joined).map(|found| found.said);
        let header = self.retries.first().cloned();
        match (kind, words, header) {
            // A window's end is as far as either says: a short `retry-after` is a habit.
            (Kind::Usage, Some(Said::Span(words)), Some(Said::Span(header))) => {
                Some(Said::Span(words.max(header)))
            }
            (Kind::Usage, Some(words), _) => Some(words),
            (Kind::Usage, None, None) if joined.contains("exhausted your daily quota") => {
                when::next_day_of_google()
            }
            (_, words, header) => header.or(words),
        }
    }
}

/// How many bytes `*` may stand for in an error event.
const GAP: usize = 120;

/// What helps, where the words say something else than their kind.
pub(super) fn remedy(kind: Kind, folded: &str) -> Remedy {
    match kind {
        // Where this machine stands is not welcome.
        Kind::Network if folded.contains("access blocked by cloudflare") => Remedy::Login,
        // It says that something is wrong and not what.
        Kind::Model if folded.contains("unexpected server error") => Remedy::Nothing,
        kind => kind.remedy(),
    }
}

pub(super) fn code_kind(code: &str) -> Option<Kind> {
    let last = code.rsplit('.').next().unwrap_or(code);
    CODES.iter().find(|(_, known)| *known == code || *known == last).map(|(kind, _)| *kind)
}

fn is_known(code: &str) -> bool {
    code_kind(code).is_some()
}

fn status_kind(status: u64) -> Option<Kind> {
    Some(match status {
        400 | 422 => Kind::Request,
        401 | 403 => Kind::Auth,
        402 => Kind::Billing,
        404 => Kind::Model,
        408 => Kind::Network,
        413 => Kind::Context,
        429 => Kind::Rate,
        500..=599 => Kind::Overload,
        _ => return None,
    })
}

/// A status that a sentence names.
fn status_in(folded: &str) -> Option<u64> {
    const BEFORE: &[&str] = &[
        "status: ",
        "status ",
        "status code ",
        "api error: ",
        "api error (",
        "error code: ",
        "failed: ",
        "failed with ",
        "http ",
    ];
    let digits = |at: usize| {
        let rest = &folded[at..];
        let length = rest.bytes().take_while(u8::is_ascii_digit).count();
        rest[..length].parse().ok().filter(|status| (400..600).contains(status))
    };
    digits(0).or_else(|| {
        BEFORE.iter().find_map(|before| {
            folded.match_indices(before).take(8).find_map(|(at, _)| digits(at + before.len()))
        })
    })
}

/// A number, also one in quotes.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) if text.len() <= 20 => {
            text.parse().ok().filter(|n: &f64| n.is_finite())
        }
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            None
        }
    }
}

/// A name rather than a sentence.
fn is_name(text: &str) -> bool {
    (1..=100).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/'))
}

/// A text in one line, of bounded length.
pub(super) fn one_line(said: &str) -> String {
    let plain: Vec<String> = said.lines().map(|line| text::plain(line.as_bytes())).collect();
    let line = plain.iter().filter(|line| !line.is_empty()).cloned().collect::<Vec<_>>().join(" ");
    text::cut(&line, limits::TROUBLE_WORDS_BYTES_MAX).to_string()
}
