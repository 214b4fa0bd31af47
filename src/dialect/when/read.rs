//! Reads a time out of a text in small letters.

use jiff::civil::{Date, Time};

use super::words::{month, unit_ms, weekday};
use super::zone::{self, Place};
use super::{Found, Said, moment, span};
use crate::job::limits;

/// Words that a time of reset follows.
const ANCHORS: &[&str] = &[
    "reset",
    "retry",
    "again",
    "regain access",
    "available",
    "until",
    "wait",
    "refresh",
    "renew",
    "come back",
    "resume",
    "unlock",
    "lifted",
    "|",
];
/// Words that may stand between.
const FILLERS: &[&str] = &[
    "at",
    "in",
    "on",
    "after",
    "about",
    "approximately",
    "around",
    "by",
    "again",
    "time",
    "is",
    "will",
    "be",
    "the",
    "from",
    "for",
    "another",
    "date",
    "your",
];

/// The first time behind one of the anchors.
pub(super) fn find(text: &str) -> Option<Found> {
    let mut starts: Vec<usize> = ANCHORS
        .iter()
        .flat_map(|anchor| text.match_indices(anchor).take(limits::TIMES_TRIED_MAX))
        .map(|(at, _)| at)
        .collect();
    starts.sort_unstable();
    starts.dedup();
    starts.into_iter().take(limits::TIMES_TRIED_MAX).find_map(|at| {
        let mut from = at;
        from += anchor_length(&text[from..]);
        let word = &text[at..from];
        // The agent's own pause until it tries again.
        if word == "retrying" {
            return None;
        }
        let (filler, length) = fillers(&text[from..]);
        from += length;
        let is_z_ai = text[..from].ends_with("limit will reset at ");
        let found = expression_of(&text[from..], is_z_ai).or_else(|| {
            let counts =
                filler || ["after", "seconds", "ms", "delay"].iter().any(|e| word.ends_with(e));
            counts.then(|| bare_number(&text[from..], word)).flatten()
        })?;
        Some(Found { said: found.said, end: from + found.end })
    })
}

/// The anchor, to the end of its word: `resets`, `retry-after`, `reset_at`.
fn anchor_length(text: &str) -> usize {
    let space = text.find(' ').unwrap_or(text.len());
    let within = ANCHORS.iter().find(|anchor| text.starts_with(**anchor));
    let least = within.map_or(0, |anchor| anchor.len());
    let is_part = |b: &u8| b.is_ascii_lowercase() || matches!(b, b'-' | b'_');
    let word = text.bytes().skip(least).take_while(is_part).count();
    match text.as_bytes().first() {
        Some(b'|') => 1,
        _ => (least + word).min(space.max(least)),
    }
}

/// Whether `in` or `after` was among what stands between, and its length.
fn fillers(text: &str) -> (bool, usize) {
    let mut length = 0;
    let mut is_span = false;
    loop {
        let rest = &text[length..];
        let marks = rest
            .bytes()
            .take_while(|b| {
                matches!(b, b' ' | b':' | b'=' | b'"' | b'\'' | b'`' | b'~' | b'\\' | b'*')
            })
            .count();
        let rest = &rest[marks..];
        let word = rest.bytes().take_while(u8::is_ascii_lowercase).count();
        if !FILLERS.contains(&&rest[..word]) {
            return (is_span, length + marks);
        }
        is_span |= matches!(&rest[..word], "in" | "after" | "wait" | "for" | "another");
        length += marks + word;
    }
}

/// A number without a unit, in seconds unless its name says otherwise.
fn bare_number(text: &str, name: &str) -> Option<Found> {
    let length = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let digits = text[..length].trim_end_matches('.');
    let is_alone = !text[digits.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '/');
    let number: f64 = digits.parse().ok().filter(|_| is_alone && digits.len() < 12)?;
    let said = span(number, name.ends_with("ms"))?;
    Some(Found { said, end: digits.len() })
}

/// A time at the beginning of a text.
pub(super) fn expression(text: &str) -> Option<Found> {
    expression_of(text, false)
}

fn expression_of(text: &str, is_z_ai: bool) -> Option<Found> {
    let mut reader = Reader { text, at: 0 };
    let said = if text.starts_with(|c: char| c.is_ascii_digit()) {
        reader
            .attempt(|r| r.iso(is_z_ai))
            .or_else(|| reader.attempt(Reader::unix))
            .or_else(|| reader.attempt(|r| r.clock(None)))
            .or_else(|| reader.attempt(Reader::day_and_month))
            .or_else(|| reader.attempt(Reader::spans))
    } else {
        reader
            .attempt(Reader::http_date)
            .or_else(|| reader.attempt(Reader::month_and_day))
            .or_else(|| reader.attempt(Reader::weekday))
            .or_else(|| reader.attempt(Reader::named_day))
            .or_else(|| reader.attempt(Reader::spans))
    }?;
    Some(Found { said, end: reader.at })
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn attempt<T>(&mut self, read: impl Fn(&mut Reader<'t>) -> Option<T>) -> Option<T> {
        let before = self.at;
        let read = read(self);
        if read.is_none() {
            self.at = before;
        }
        read
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// Takes one of these, the first that is there.
    fn any(&mut self, of: &[&str]) -> bool {
        let taken = of.iter().find(|mark| self.rest().starts_with(**mark));
        self.at += taken.map_or(0, |mark| mark.len());
        taken.is_some()
    }

    fn spaces(&mut self) {
        self.at += self.rest().bytes().take_while(|b| *b == b' ').count();
    }

    /// So many digits, and no further one.
    fn digits(&mut self, least: usize, most: usize) -> Option<i64> {
        let length = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        if !(least..=most).contains(&length) {
            return None;
        }
        let number = self.rest()[..length].parse().ok()?;
        self.at += length;
        Some(number)
    }

    fn small(&mut self, least: usize, most: usize) -> Option<i8> {
        i8::try_from(self.digits(least, most)?).ok()
    }

    /// A word: the letters up to what is none.
    fn word(&mut self) -> &'t str {
        let rest = self.rest();
        let length = rest.bytes().take_while(u8::is_ascii_lowercase).count();
        self.at += length;
        &rest[..length]
    }

    fn place(&mut self) -> Place {
        match zone::read(self.rest()) {
            Some((place, length)) => {
                self.at += length;
                place
            }
            None => Place::Local,
        }
    }

    /// `2026-09-09 05:38:28`, `2026-01-01 at 00:00 utc`, `2026-01-01t00:00:00.5z`, `2026-01-01`.
    fn iso(&mut self, is_z_ai: bool) -> Option<Said> {
        let year = i16::try_from(self.digits(4, 4)?).ok()?;
        let mark = if self.any(&["-"]) { "-" } else { self.any(&["/"]).then_some("/")? };
        let month = self.small(1, 2)?;
        self.any(&[mark]).then_some(())?;
        let date = Date::new(year, month, self.small(1, 2)?).ok()?;
        let mut is_t = false;
        let time = self.attempt(|r| {
            is_t_or_space(r)?;
            r.time()
        });
        if time.is_some() {
            is_t = self.text[..self.at].contains('t') && !self.text[..self.at].contains(" at");
        }
        let place = match (zone::read(self.rest()), is_t) {
            (Some((place, length)), _) => {
                self.at += length;
                place
            }
            (None, true) => zone::utc(),
            (None, false) if is_z_ai && time.is_some() => zone::beijing(),
            (None, false) => Place::Local,
        };
        Some(Said::Date { date, time, place })
    }

    /// Seconds since 1970, or milliseconds.
    fn unix(&mut self) -> Option<Said> {
        #[expect(clippy::cast_precision_loss, reason = "13 digits fit")]
        let number = self.digits(10, 13)? as f64;
        moment(number)
    }

    /// `23:00`, `23:00:15`, and `5pm`, `3:45 p.m.`, which need no minutes.
    fn time(&mut self) -> Option<Time> {
        let hour = self.small(1, 2)?;
        let mut minute = None;
        let mut second = 0;
        if self.any(&[":"]) {
            minute = Some(self.small(2, 2)?);
            if self.any(&[":"]) {
                second = self.small(2, 2)?;
                if self.any(&[".", ","]) {
                    self.digits(1, 9)?;
                }
            }
        }
        let half = self.attempt(|r| {
            r.spaces();
            let is_morning = r.any(&["a.m.", "a.m", "am"]);
            let is_half = is_morning || r.any(&["p.m.", "p.m", "pm"]);
            let is_whole = !r.rest().starts_with(|c: char| c.is_ascii_alphanumeric());
            (is_half && is_whole).then_some(is_morning)
        });
        let hour = match (half, minute) {
            (Some(_), _) if !(1..=12).contains(&hour) => return None,
            (Some(true), _) => hour % 12,
            (Some(false), _) => hour % 12 + 12,
            // A leap second of the clock that says so is no reason to refuse it.
            (None, Some(_)) => hour,
            (None, None) => return None,
        };
        Time::new(hour, minute.unwrap_or(0), second.min(59), 0).ok()
    }

    fn clock(&mut self, days: Option<i8>) -> Option<Said> {
        let time = self.time()?;
        let days = days.or_else(|| self.attempt(|r| r.any(&[" tomorrow"]).then_some(1)));
        let place = self.place();
        let days = days.or_else(|| self.attempt(|r| r.any(&[" tomorrow"]).then_some(1)));
        // `12:16 pm on sep 29`
        let date = self.attempt(|r| {
            (r.any(&[" on ", ", "])).then_some(())?;
            r.month_and_day().or_else(|| r.attempt(Reader::day_and_month))
        });
        match date {
            Some(Said::Day { month, day, time: None, .. }) => {
                Some(Said::Day { month, day, time: Some(time), place })
            }
            Some(Said::Date { date, time: None, .. }) => {
                Some(Said::Date { date, time: Some(time), place })
            }
            _ => Some(Said::Clock { time, days, place }),
        }
    }

    /// The time that may follow a date, and the zone.
    fn time_of_day(&mut self) -> (Option<Time>, Place) {
        let time = self.attempt(|r| {
            r.any(&[", at ", " at ", ", ", " ", ","]).then_some(())?;
            r.spaces();
            r.time()
        });
        (time, self.place())
    }

    /// `, 2026` or ` 2026`.
    fn year(&mut self) -> Option<i16> {
        self.attempt(|r| {
            r.any(&[", ", " ", ","]).then_some(())?;
            r.digits(4, 4)
        })
        .and_then(|year| i16::try_from(year).ok())
    }

    fn day_of(&mut self, month: i8, day: i8) -> Option<Said> {
        if !(1..=31).contains(&day) {
            return None;
        }
        let year = self.year();
        let (time, place) = self.time_of_day();
        match year {
            Some(year) => {
                let date = Date::new(year, month, day).ok()?;
                Some(Said::Date { date, time, place })
            }
            None => Some(Said::Day { month, day, time, place }),
        }
    }

    /// `feb 7, 11am`, `sep 19th, 2026 7:10 am`.
    fn month_and_day(&mut self) -> Option<Said> {
        let month = month(self.word())?;
        self.any(&[". ", " "]).then_some(())?;
        self.spaces();
        let day = self.small(1, 2)?;
        self.any(&["st", "nd", "rd", "th"]);
        self.day_of(month, day)
    }

    /// `7 feb 2026`, `29th of september`.
    fn day_and_month(&mut self) -> Option<Said> {
        let day = self.small(1, 2)?;
        self.any(&["st", "nd", "rd", "th"]);
        self.any(&[" of ", " ", "-"]).then_some(())?;
        let month = month(self.word())?;
        self.any(&["."]);
        self.day_of(month, day)
    }

    /// `wed, 21 oct 2026 07:28:00 gmt`, and the two older forms that HTTP still allows.
    fn http_date(&mut self) -> Option<Said> {
        weekday(self.word())?;
        if self.any(&[", "]) {
            let day = self.small(2, 2)?;
            self.any(&["-", " "]).then_some(())?;
            let month = month(self.word())?;
            self.any(&["-", " "]).then_some(())?;
            let year = self.digits(2, 4)?;
            let year = i16::try_from(if year < 100 { year + 2000 } else { year }).ok()?;
            self.spaces();
            let time = Some(self.time()?);
            let date = Date::new(year, month, day).ok()?;
            let place = match self.place() {
                Place::Local => zone::utc(),
                said @ Place::Zone(_) => said,
            };
            return Some(Said::Date { date, time, place });
        }
        self.spaces();
        let month = month(self.word())?;
        self.spaces();
        let day = self.small(1, 2)?;
        self.spaces();
        let time = Some(self.time()?);
        self.spaces();
        let date = Date::new(i16::try_from(self.digits(4, 4)?).ok()?, month, day).ok()?;
        Some(Said::Date { date, time, place: zone::utc() })
    }

    /// `mon 12:00am`, `sunday at 9:00`, `wednesday, oct 9`.
    fn weekday(&mut self) -> Option<Said> {
        let weekday = weekday(self.word())?;
        let dated = self.attempt(|r| {
            r.any(&[", ", " "]).then_some(())?;
            r.attempt(Reader::month_and_day).or_else(|| r.attempt(Reader::day_and_month))
        });
        if dated.is_some() {
            return dated;
        }
        let (time, place) = self.time_of_day();
        Some(Said::Weekday { weekday, time, place })
    }

    /// `tomorrow at 5pm`, `midnight`, `noon`.
    fn named_day(&mut self) -> Option<Said> {
        let noon = Time::constant(12, 0, 0, 0);
        let (time, days) = match self.word() {
            "tomorrow" | "tmrw" => {
                let (time, place) = self.time_of_day();
                return Some(Said::Clock { time: time.unwrap_or_default(), days: Some(1), place });
            }
            "today" | "tonight" => {
                let (time, place) = self.time_of_day();
                return Some(Said::Clock { time: time?, days: None, place });
            }
            "midnight" => (Time::midnight(), None),
            "noon" => (noon, None),
            _ => return None,
        };
        Some(Said::Clock { time, days, place: self.place() })
    }

    /// `8h44m7s`, `22hr 43min`, `10 days 19 hours`, `47.14s`, `1500ms`, `an hour and 5 minutes`.
    fn spans(&mut self) -> Option<Said> {
        let mut whole = self.one_span()?;
        while let Some(more) = self.attempt(|r| {
            let _ = r.any(&[", and ", " and ", ", ", " ", ","]);
            r.one_span()
        }) {
            whole = whole.saturating_add(more);
        }
        Some(Said::Span(whole))
    }

    fn one_span(&mut self) -> Option<u64> {
        let rest = self.rest();
        let length = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let number: f64 = if length == 0 {
            matches!(self.word(), "a" | "an" | "one").then_some(1.0)?
        } else {
            self.at += length;
            rest[..length].parse().ok()?
        };
        let _ = self.any(&[" ", "-"]);
        let ms = unit_ms(self.word())?;
        match span(number * ms, true)? {
            Said::Span(ms) => Some(ms),
            Said::Moment(_)
            | Said::Date { .. }
            | Said::Day { .. }
            | Said::Weekday { .. }
            | Said::Clock { .. } => None,
        }
    }
}

fn is_t_or_space(reader: &mut Reader<'_>) -> Option<()> {
    reader.any(&["t", " at ", ", ", " "]).then_some(())?;
    reader.spaces();
    Some(())
}
