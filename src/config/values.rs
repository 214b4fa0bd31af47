//! How the values of keys are read. An error says what a value is, and leaves it to the caller to
//! repeat it: it may be a secret.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::job::limits;
use crate::process::record::micros;
use crate::secrets::Secret;

pub(super) fn optional(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_string())
}

pub(super) fn number(text: &str, least: u32, limit: u32) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if (least..=limit).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(format!("it is a whole number from {least} to {limit}")),
    }
}

pub(super) fn hours(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(hours) if hours > 0.0 && hours <= 24.0 * 365.0 => {
            let duration = Duration::from_secs_f64(hours * 3600.0);
            Ok(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1))
        }
        Ok(_) | Err(_) => Err("it is a number of hours above 0, like 1 or 0.5".into()),
    }
}

/// `30s`, `1h 30m`, `250ms`; a bare number is seconds.
pub(crate) fn duration_ms(text: &str) -> Result<u64, String> {
    let parsed = match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    match parsed.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)) {
        Some(ms) if ms <= limits::DURATION_MS_MAX => Ok(ms),
        Some(_) => Err("it is more than ten years".into()),
        None => Err("it is a duration, like 90s, 15m or 1h 30m".into()),
    }
}

/// A duration that a worker waits for.
pub(super) fn pause_ms(text: &str) -> Result<u64, String> {
    match duration_ms(text)? {
        ms if ms > limits::PAUSE_MS_MAX => Err("it is more than a day".into()),
        ms => Ok(ms),
    }
}

pub(super) fn cost(text: &str) -> Result<u64, String> {
    match text.parse::<f64>().map(micros) {
        Ok(micros) if (1..=limits::COST_MICROS_MAX).contains(&micros) => Ok(micros),
        Ok(_) | Err(_) => Err("it is a sum above 0, like 2.50".into()),
    }
}

pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        _ => return Err("it is a size, like 100MiB".into()),
    };
    match digits.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        Some(_) | None => Err("it is a size, like 100MiB".into()),
    }
}

pub(super) fn store(text: &str) -> Result<Option<PathBuf>, String> {
    match text.split_once(':') {
        None if text.is_empty() => Ok(None),
        Some(("redb", path)) if Path::new(path).is_absolute() => Ok(Some(path.into())),
        Some(("redb", _)) => Err("the path is absolute: redb:/path/to/queue.redb".into()),
        _ => Err("it is redb:PATH".into()),
    }
}

/// It becomes an argument of opencode: no surprises.
pub(super) fn is_opencode_session(text: &str) -> bool {
    text.strip_prefix("ses_").is_some_and(|tail| {
        (1..=200).contains(&tail.len()) && tail.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

pub(super) fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("it is one of no, yes".into()),
    }
}

/// It becomes a line of what git is answered.
pub(super) fn token(text: &str) -> Result<Secret, String> {
    match text.trim() {
        token if token.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Err("it has a blank, a line break or a control character in it".into())
        }
        token => Ok(Secret::new(token)),
    }
}

pub(super) fn folder_names(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = text.split_whitespace().map(str::to_string).collect();
    if names == ["none"] {
        return Ok(Vec::new());
    }
    let is_name = |name: &str| {
        !name.contains(['/', '*', '?']) && !matches!(name, "." | ".." | ".git" | "none")
    };
    match names.iter().find(|name| !is_name(name)) {
        Some(name) => Err(format!("{name:?} is no name of a folder that can be made again")),
        None => bounded(names),
    }
}

/// Absolute paths with `:` between them.
pub(super) fn paths(text: &str) -> Result<Vec<PathBuf>, String> {
    let parts = text.split(':').filter(|_| !text.is_empty());
    let read = |part: &str| {
        let path = Path::new(part);
        let is_plain =
            path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        if part.is_empty() {
            Err("there is an empty path: paths have one : between them".into())
        } else if part.starts_with('~') || part.contains('$') {
            Err(format!("{part:?}: ~ and $ mean nothing here: write the path out, from / on"))
        } else if !path.is_absolute() || !is_plain {
            Err(format!("{part:?} is no absolute path without .."))
        } else if path == Path::new("/") {
            Err("/ is everything: KUGETSU_SANDBOX=none says so".into())
        } else {
            Ok(path.to_path_buf())
        }
    };
    bounded(parts.map(read).collect::<Result<_, String>>()?)
}

fn bounded<T>(list: Vec<T>) -> Result<Vec<T>, String> {
    match list.len() {
        length if length > limits::LIST_ENTRIES_MAX => {
            Err(format!("it has more than {} entries", limits::LIST_ENTRIES_MAX))
        }
        _ => Ok(list),
    }
}
