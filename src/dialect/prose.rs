//! A program's last plain lines: whether they are a provider's words.
//!
//! An agent that writes about limits uses the same words. So only the last line counts, with what
//! a program prints below an error taken off, and only as a whole: it begins with the phrase, and
//! what follows is a time, another sentence of the kind, or nothing.

use super::facts::{Facts, Judged, code_kind, remedy};
use super::kind::{Kind, Remedy};
use super::phrases::{PHRASES, Where};
use super::text;
use super::when;

/// What a line means, with the lines below it, and the words to show.
pub(super) fn judge(line: &str, below: &[&str]) -> Option<(Judged, String)> {
    let shown = text::folded_letters_kept(line);
    let folded = shown.to_ascii_lowercase();
    let head = prefixes(&folded);
    let (words, rest) = (shown[head.length..].trim(), folded[head.length..].trim());
    if speaks_of_itself(rest) || only_warns(rest) || rest.is_empty() {
        return None;
    }
    let judged = if head.is_of_a_provider || is_of_a_provider(rest) || is_a_status(rest) {
        of_a_provider(words, &head)
    } else {
        None
    };
    let mut judged = judged.or_else(|| of_a_phrase(rest))?;
    if judged.said.is_none() && judged.kind.remedy() == Remedy::Wait {
        let below = text::folded(&below.join(" "));
        judged.said = when::find(&below).map(|found| found.said);
    }
    let words = words.trim_end_matches(['"', ',']).trim();
    Some((judged, Facts::of_text(words).words()))
}

/// Programs do not speak of themselves so.
fn speaks_of_itself(folded: &str) -> bool {
    let apart = format!(" {folded} ");
    [" i ", " i'm ", " i've ", " i'll ", " i'd ", " we've ", " let me ", " my "]
        .iter()
        .any(|word| apart.contains(word))
}

/// Of a limit that is near.
fn only_warns(folded: &str) -> bool {
    let near = ["approaching", "you're approaching", "you are approaching", "nearing", "close to"];
    near.iter().any(|word| folded.starts_with(word)) || folded.contains("% of your")
}

/// What stands before the sentence itself.
#[derive(Debug, Default)]
struct Head {
    length: usize,
    /// It names an error of a provider's interface.
    is_of_a_provider: bool,
    /// Names of errors that were taken off.
    codes: Vec<String>,
}

/// Marks and words that programs put before a sentence.
fn prefixes(folded: &str) -> Head {
    const MARKS: &[char] = &[
        ' ', '\u{b7}', '●', '■', '▪', '✗', '✘', '✖', '×', '❌', '⚠', '\u{fe0f}', '⛔', '🚫', '⎿',
        '└', '│', '┃', '!',
    ];
    const WORDS: &[&str] = &[
        "error:",
        "fatal error:",
        "fatal:",
        "uncaught error:",
        "[error]",
        "error -",
        "warning:",
        "turn failed:",
        "stream error:",
        "request failed:",
        "last error:",
        "message: \"",
        "message: '",
        "agent error:",
        "llm error:",
        "provider error:",
        "model error:",
        "opencode:",
        "claude:",
        "codex:",
        "gemini:",
    ];
    /// Layers of prefixes.
    const LAYERS_MAX: usize = 10;
    let mut head = Head::default();
    let mut is_stamped = false;
    for _ in 0..LAYERS_MAX {
        let rest = &folded[head.length..];
        let marks = rest.len() - rest.trim_start_matches(MARKS).len();
        let rest = &rest[marks..];
        head.length += marks;
        if is_stamped && rest.starts_with("error ") {
            head.length += "error ".len();
        } else if let Some(word) = WORDS.iter().find(|word| rest.starts_with(**word)) {
            head.length += word.len();
        } else if let Some(length) = stamp(rest) {
            is_stamped = true;
            head.length += length;
        } else if let Some(length) = attempt(rest) {
            head.length += length;
        } else if let Some((length, name)) = class(rest) {
            head.length += length;
            head.is_of_a_provider |= is_a_providers_class(name);
            head.codes.push(name.to_string());
        } else {
            break;
        }
    }
    head
}

/// `attempt 1 failed:`, `failed after 3 attempts.`
fn attempt(rest: &str) -> Option<usize> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (before, after) = match () {
        () if rest.starts_with("attempt ") => ("attempt ", &[" failed: ", " failed. "][..]),
        () if rest.starts_with("failed after ") => {
            ("failed after ", &[" attempts. ", " attempts: "][..])
        }
        () => return None,
    };
    let number = digits(&rest[before.len()..]);
    let behind = &rest[before.len() + number..];
    let after = after.iter().find(|after| behind.starts_with(**after) && number > 0)?;
    Some(before.len() + number + after.len())
}

/// The moment and the module that a logger puts before its line.
fn stamp(rest: &str) -> Option<usize> {
    let word = rest.split(' ').next()?;
    let bare = word.trim_matches(['[', ']']);
    let is_moment = bare.len() >= 10
        && bare.starts_with(|c: char| c.is_ascii_digit())
        && bare
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b':' | b't' | b'z' | b'.' | b'+'));
    let is_module = word.contains("::") && word.ends_with(':');
    (is_moment || is_module).then_some(word.len())
}

/// `apierror:`, `litellm.ratelimiterror:`, `unknownerror`: the name of an error, and its length.
fn class(rest: &str) -> Option<(usize, &str)> {
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.');
    let length = rest.bytes().take_while(is_part).count();
    let name = &rest[..length];
    let is_error = name.len() > 5 && (name.ends_with("error") || name.ends_with("exception"));
    (is_error && rest[length..].starts_with(':')).then_some((length + 1, name))
}

fn is_a_providers_class(name: &str) -> bool {
    const OTHERS: &[&str] = &[
        "apierror",
        "ai_apicallerror",
        "ai_retryerror",
        "unknownerror",
        "googlegenerativeaierror",
    ];
    // These names belong to other programs too.
    const ANYBODYS: &[&str] = &["notfounderror", "aborterror", "permissiondeniederror"];
    OTHERS.contains(&name)
        || name.starts_with("litellm.")
        || (code_kind(name).is_some() && !ANYBODYS.contains(&name))
}

/// How the interface of a provider is quoted.
fn is_of_a_provider(rest: &str) -> bool {
    const BEGINNINGS: &[&str] = &[
        "api error",
        "[api error",
        "openai api error",
        "anthropic api error",
        "google api error",
        "error from provider",
        "upstream request failed",
        "unexpected status ",
        "exceeded retry limit, last status",
        "error code: ",
        "litellm.",
        "[1308]",
        "[1310]",
        "[1113]",
        "[1302]",
        "[rate_limit",
        "[permission_error]",
    ];
    BEGINNINGS.iter().any(|beginning| rest.starts_with(beginning))
}

/// `429 Too Many Requests`, `HTTP/1.1 503 …`, `401 {"type":"error",…}`: a bare status only where it
/// means nothing but a wait or a payment, since any other server may have sent it.
fn is_a_status(rest: &str) -> bool {
    const BEGINNINGS: &[&str] = &[
        "http/1.1 ",
        "http/2 ",
        "http ",
        "http error ",
        "status ",
        "status: ",
        "status code ",
        "error ",
        "request failed with status code ",
    ];
    let behind = BEGINNINGS.iter().find_map(|beginning| rest.strip_prefix(beginning));
    let behind = behind.unwrap_or(rest);
    let length = behind.bytes().take_while(u8::is_ascii_digit).count();
    let (status, behind) = behind.split_at(length);
    let behind = behind.trim_start_matches([':', ' ']);
    let is_alone = behind.is_empty()
        || ["too many", "rate limit", "payment", "service unavailable", "overloaded", "{"]
            .iter()
            .any(|reason| behind.starts_with(reason));
    let is_body =
        behind.starts_with("{\"") && (behind.contains("\"error\"") || behind.contains("\"type\""));
    (matches!(status, "402" | "429" | "503" | "529") && is_alone) || (length == 3 && is_body)
}

fn of_a_provider(words: &str, head: &Head) -> Option<Judged> {
    let mut facts = Facts::of_text(words);
    for code in &head.codes {
        facts = facts.with(code, None);
    }
    // `[1310][…]`, `[rate_limit_exceeded] …`
    let folded = words.to_ascii_lowercase();
    for part in folded.split('[').skip(1).take(8) {
        let code = part.split(']').next().unwrap_or_default();
        if code_kind(code).is_some() {
            facts = facts.with(code, None);
        }
    }
    facts.judge()
}

fn of_a_phrase(rest: &str) -> Option<Judged> {
    let lines = PHRASES.iter().filter(|(_, place, _)| *place != Where::Event);
    let (kind, said) = lines.into_iter().find_map(|(kind, place, shape)| {
        let gap = match (kind, shape.starts_with('*')) {
            (Kind::Permission, _) => 400,
            (_, true) => 32,
            (_, false) => 60,
        };
        // A dash or a quotation mark in front belongs to somebody who tells of it.
        if shape.starts_with('*') && !rest.starts_with(char::is_alphanumeric) {
            return None;
        }
        let end = text::begins(rest, shape, gap)?;
        let is_open = shape.ends_with('*');
        let said = match is_open {
            true => when::find(rest).map(|found| found.said),
            false => whole(&rest[end..])?,
        };
        let is_said = said.is_some() || *place == Where::Line;
        is_said.then_some((*kind, said))
    })?;
    let goes_on = rest.contains("retrying after") || rest.contains("retrying in");
    let kind = if goes_on && kind == Kind::Usage { Kind::Rate } else { kind };
    let is_daily = rest.starts_with("you have exhausted your daily quota");
    let said = said.or_else(|| is_daily.then(when::next_day_of_google).flatten());
    let said = said.filter(|_| kind.remedy() == Remedy::Wait);
    Some(Judged { kind, remedy: remedy(kind, rest), said })
}

/// Whether what follows a phrase leaves it a whole sentence, and the time in it.
#[expect(clippy::option_option, reason = "not whole, whole without a time, whole with one")]
fn whole(tail: &str) -> Option<Option<when::Said>> {
    let found = when::find(tail);
    let begins_apart = !tail.trim_start().starts_with(char::is_alphanumeric)
        || is_for_something(tail)
        || ([" reset", " will reset", " until ", " try again"].iter().any(|w| tail.starts_with(w))
            && found.is_some());
    if !begins_apart {
        return None;
    }
    // Nothing of a sentence may go on behind the time.
    let ends_there = found.as_ref().is_none_or(|found| {
        let behind = &tail[found.end..];
        let ends = behind.trim_start().starts_with(|c: char| !c.is_alphanumeric());
        let joins = [" or ", " and ", " to continue", " for ", " local"];
        behind.is_empty() || ends || joins.iter().any(|join| behind.starts_with(join))
    });
    ends_there.then(|| found.map(|found| found.said))
}

/// ` for codex_other. Switch …`, ` for 5 hour. …`, ` for gpt-4o in organization …`.
fn is_for_something(tail: &str) -> bool {
    let Some(rest) = tail.strip_prefix(" for ") else { return false };
    let words = rest.split(['.', ',', ':', '\u{b7}', '(']).next().unwrap_or_default();
    let words = words.split(" in organization").next().unwrap_or_default();
    words.split(' ').filter(|word| !word.is_empty()).count() <= 4
}

/// Lines that programs print below an error.
pub(super) fn is_below_an_error(line: &str) -> bool {
    const BEGINNINGS: &[&str] = &[
        "at ",
        "caused by",
        "cause:",
        "data:",
        "name:",
        "stack:",
        "ref:",
        "code:",
        "status:",
        "\"",
        "retrying ",
        "retry-after",
        "retry after",
        "please retry",
        "please wait and try",
        "please try again",
        "try again",
        "use --",
        "searched for",
        "tokens used",
        "tokens:",
        "cost:",
        "input tokens:",
        "output tokens:",
        "total tokens:",
        "total cost",
        "total duration",
        "token usage:",
        "for more info",
        "see http",
        "http://",
        "https://",
        "learn more",
        "visit http",
        "full report available",
        "request id",
        "hint:",
        "note:",
        "tip:",
        "resume this session",
        "to resume",
        "to continue this",
        "exit code",
        "exited with",
        "npm err",
        "node.js v",
        "/upgrade",
        "/login",
        "resets ",
        "your limit will reset",
        "- use ",
        "- /",
        "to reduce ",
        "token counts below",
        "- ask for smaller",
        "- break your code",
        "elifecycle",
        "timestamp=",
        "to increase your limits",
        "run --model",
        "run /",
    ];
    let folded = text::folded(line);
    let folded = folded.trim();
    let is_figure = folded.bytes().all(|b| b.is_ascii_digit() || matches!(b, b',' | b'.' | b' '));
    let is_marks = !folded.contains(|c: char| c.is_alphanumeric());
    is_figure || is_marks || BEGINNINGS.iter().any(|beginning| folded.starts_with(beginning))
}
