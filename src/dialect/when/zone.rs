//! Where a clock hangs: zones as they stand beside a time.

use jiff::tz::{Offset, TimeZone};

/// The zone that a time was said in.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// None was said: that of the agent's process.
    Local,
    /// It was said, or is known from who says it.
    Zone(TimeZone),
}

impl Place {
    pub(super) fn zone(&self, local: &TimeZone) -> TimeZone {
        match self {
            Place::Local => local.clone(),
            Place::Zone(zone) => zone.clone(),
        }
    }
}

/// Where z.ai's clock hangs.
pub(super) fn beijing() -> Place {
    fixed(8 * 3600)
}

pub(super) fn utc() -> Place {
    Place::Zone(TimeZone::UTC)
}

fn fixed(seconds: i32) -> Place {
    match Offset::from_seconds(seconds) {
        Ok(offset) => Place::Zone(TimeZone::fixed(offset)),
        Err(_) => Place::Local,
    }
}

/// What people call their zones, where the database has no such name or another one.
const NAMES: &[(&str, &str)] = &[
    ("pst", "America/Los_Angeles"),
    ("pdt", "America/Los_Angeles"),
    ("pt", "America/Los_Angeles"),
    ("pacific time", "America/Los_Angeles"),
    ("pacific", "America/Los_Angeles"),
    ("mst", "America/Denver"),
    ("mdt", "America/Denver"),
    ("mt", "America/Denver"),
    ("mountain time", "America/Denver"),
    ("cst", "America/Chicago"),
    ("cdt", "America/Chicago"),
    ("ct", "America/Chicago"),
    ("central time", "America/Chicago"),
    ("est", "America/New_York"),
    ("edt", "America/New_York"),
    ("et", "America/New_York"),
    ("eastern time", "America/New_York"),
    ("brt", "America/Sao_Paulo"),
    ("art", "America/Argentina/Buenos_Aires"),
    ("bst", "Europe/London"),
    ("wet", "Europe/Lisbon"),
    ("west", "Europe/Lisbon"),
    ("cet", "Europe/Paris"),
    ("cest", "Europe/Paris"),
    ("eet", "Europe/Helsinki"),
    ("eest", "Europe/Helsinki"),
    ("msk", "Europe/Moscow"),
    ("ist", "Asia/Kolkata"),
    ("sgt", "Asia/Singapore"),
    ("hkt", "Asia/Hong_Kong"),
    ("jst", "Asia/Tokyo"),
    ("kst", "Asia/Seoul"),
    ("awst", "Australia/Perth"),
    ("acst", "Australia/Adelaide"),
    ("acdt", "Australia/Adelaide"),
    ("aest", "Australia/Sydney"),
    ("aedt", "Australia/Sydney"),
    ("nzst", "Pacific/Auckland"),
    ("nzdt", "Pacific/Auckland"),
    ("beijing time", "Asia/Shanghai"),
    ("beijing", "Asia/Shanghai"),
    ("china standard time", "Asia/Shanghai"),
];

/// A zone at the beginning of a text in small letters, in parentheses or not, and its length.
pub(super) fn read(text: &str) -> Option<(Place, usize)> {
    let inner = text.trim_start();
    let skipped = text.len() - inner.len();
    if let Some(inside) = inner.strip_prefix('(') {
        let end = inside.find(')')?;
        let place = named(inside[..end].trim())?;
        return Some((place, skipped + 1 + end + 1));
    }
    if inner.starts_with(['+', '-']) {
        // Only right behind the time: elsewhere it is a dash.
        let (seconds, length) = offset(inner).filter(|_| skipped == 0)?;
        return Some((fixed(seconds), length));
    }
    let several = NAMES.iter().map(|(name, _)| *name).filter(|name| name.contains(' '));
    let several = several.chain(["local time"]).find(|name| inner.starts_with(name));
    let length = several.map_or_else(|| word(inner), str::len);
    let place = named(&inner[..length])?;
    Some((place, skipped + length))
}

/// The length of what may be a zone's name.
fn word(text: &str) -> usize {
    let is_part = |(at, b): (usize, u8)| {
        b.is_ascii_alphanumeric()
            || b == b'_'
            || (b == b'/' && text[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic()))
            || (matches!(b, b'+' | b'-' | b':')
                && text[at + 1..].starts_with(|c: char| c.is_ascii_digit()))
    };
    text.bytes().enumerate().take_while(|part| is_part(*part)).count()
}

/// A zone by its name: of the database, as people say it, or by its distance from Greenwich.
fn named(name: &str) -> Option<Place> {
    if name == "local time" || name == "local" {
        return Some(Place::Local);
    }
    if let Some((_, database)) = NAMES.iter().find(|(said, _)| *said == name) {
        return TimeZone::get(database).ok().map(Place::Zone);
    }
    for greenwich in ["utc", "gmt"] {
        if let Some(rest) = name.strip_prefix(greenwich) {
            let rest = rest.trim();
            if rest.is_empty() {
                return Some(utc());
            }
            let (seconds, length) = offset(rest)?;
            return (length == rest.len()).then(|| fixed(seconds));
        }
    }
    if name == "z" {
        return Some(utc());
    }
    if let Some((seconds, length)) = offset(name) {
        return (length == name.len()).then(|| fixed(seconds));
    }
    let is_of_the_database = name.contains('/') && name.len() <= 40;
    is_of_the_database.then(|| TimeZone::get(name).ok()).flatten().map(Place::Zone)
}

/// `+8`, `-0530`, `+05:30` in seconds, and its length.
fn offset(text: &str) -> Option<(i32, usize)> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits =
        |from: usize| text.bytes().skip(from).take_while(u8::is_ascii_digit).take(4).count();
    let first = digits(1);
    let number = |from: usize, length: usize| text[from..from + length].parse::<i32>().ok();
    let (hours, minutes, length) = match first {
        1 | 2 if text[1 + first..].starts_with(':') && digits(2 + first) == 2 => {
            (number(1, first)?, number(2 + first, 2)?, first + 4)
        }
        1 | 2 => (number(1, first)?, 0, first + 1),
        4 => (number(1, 2)?, number(3, 2)?, 5),
        _ => return None,
    };
    (hours <= 14 && minutes < 60).then(|| (sign * (hours * 3600 + minutes * 60), length))
}
