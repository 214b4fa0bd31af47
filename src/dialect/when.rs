//! When it will be over, as providers say it: a moment, a span, a clock time, a date.
//!
//! What was said is read first ([`Said`]), then set against now: nothing in the past is believed,
//! and everything is held between a minute and eight days.

mod read;
#[cfg(test)]
mod tests;
mod words;
mod zone;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};

use crate::job::limits;
use crate::time::Timestamp;

pub(super) use zone::Place;

/// The moment and the place at which something is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Here<'z> {
    pub now: Timestamp,
    /// The time zone of the agent's process.
    pub zone: &'z TimeZone,
}

/// A time as it was said.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// Milliseconds since 1970.
    Moment(i64),
    /// Milliseconds from now.
    Span(u64),
    /// A date and what else was said of it.
    Date { date: Date, time: Option<Time>, place: Place },
    /// A date of some year.
    Day { month: i8, day: i8, time: Option<Time>, place: Place },
    /// The next such day.
    Weekday { weekday: Weekday, time: Option<Time>, place: Place },
    /// A time of day, some days ahead if that was said.
    Clock { time: Time, days: Option<i8>, place: Place },
}

/// A time in a text, and where in the text it ends.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub said: Said,
    pub end: usize,
}

/// The first time in a text in small letters that stands where a time of reset would.
pub(super) fn find(text: &str) -> Option<Found> {
    read::find(text)
}

/// A whole header or field: a number is in milliseconds if its name says so, else in seconds.
pub(super) fn span_or_moment(text: &str, in_ms: bool) -> Option<Said> {
    let text = text.trim().to_ascii_lowercase();
    if let Ok(number) = text.parse::<f64>() {
        let ms = number * if in_ms { 1.0 } else { 1000.0 };
        return (ms.is_finite() && ms >= 0.0).then(|| Said::Span(whole_ms(ms)));
    }
    read::expression(&text).map(|found| found.said)
}

/// A number that names a moment: seconds since 1970, or milli- or microseconds by its size.
pub(super) fn moment(number: f64) -> Option<Said> {
    let ms = match number {
        n if !n.is_finite() || n < 1e9 => return None,
        n if n < 1e11 => n * 1000.0,
        n if n < 1e14 => n,
        n if n < 1e17 => n / 1000.0,
        _ => return None,
    };
    i64::try_from(whole_ms(ms)).ok().map(Said::Moment)
}

/// A span of so many seconds or milliseconds.
pub(super) fn span(number: f64, in_ms: bool) -> Option<Said> {
    let ms = number * if in_ms { 1.0 } else { 1000.0 };
    (ms.is_finite() && ms >= 0.0).then(|| Said::Span(whole_ms(ms)))
}

/// Milliseconds, rounded up.
fn whole_ms(ms: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast holds at the smallest and the largest number"
    )]
    let whole = ms.ceil() as u64;
    whole
}

/// The next midnight in California, where Google's days begin.
pub(super) fn next_day_of_google() -> Option<Said> {
    let zone = TimeZone::get("America/Los_Angeles").ok()?;
    Some(Said::Clock { time: Time::midnight(), days: Some(1), place: Place::Zone(zone) })
}

/// The moment that was meant, if it can be believed.
pub(super) fn resolve(said: &Said, here: Here<'_>) -> Option<Timestamp> {
    match said {
        Said::Moment(ms) => believable(*ms, here.now),
        Said::Span(ms) => {
            let ms = *ms;
            let ms = ms.clamp(limits::PROVIDER_WAIT_MS_MIN, limits::PROVIDER_WAIT_MS_MAX);
            Some(here.now.plus_ms(ms))
        }
        Said::Date { date, time, place } => {
            believable(at(*date, time.unwrap_or_default(), &place.zone(here.zone))?, here.now)
        }
        Said::Day { month, day, time, place } => next_date((*month, *day), *time, place, here),
        Said::Weekday { weekday, time, place } => {
            let zone = place.zone(here.zone);
            let today = today(here.now, &zone)?;
            let days = today.until_weekday(*weekday);
            let candidates = [days, days + 7].map(|days| (days, time.unwrap_or_default()));
            first_to_come(&candidates, today, &zone, here.now)
        }
        Said::Clock { time, days, place } => {
            let zone = place.zone(here.zone);
            let today = today(here.now, &zone)?;
            let candidates: &[(i8, Time)] = match days {
                Some(days) => &[(*days, *time)],
                None => &[(0, *time), (1, *time)],
            };
            first_to_come(candidates, today, &zone, here.now)
        }
    }
}

/// A date of this year or the next: never one that has just gone by.
fn next_date(
    (month, day): (i8, i8),
    time: Option<Time>,
    place: &Place,
    here: Here<'_>,
) -> Option<Timestamp> {
    /// A date that only comes again after so long was the one just gone by.
    const AHEAD_MS_MAX: i64 = 180 * 24 * 3_600_000;
    let zone = place.zone(here.zone);
    let today = today(here.now, &zone)?;
    let now = i64::try_from(here.now.0).ok()?;
    [today.year(), today.year().saturating_add(1)].into_iter().find_map(|year| {
        let date = Date::new(year, month, day).ok()?;
        let ms = at(date, time.unwrap_or_default(), &zone)?;
        (ms.checked_sub(now)? < AHEAD_MS_MAX).then(|| believable(ms, here.now)).flatten()
    })
}

/// The first of some moments, so many days after today, that can be believed.
fn first_to_come(
    candidates: &[(i8, Time)],
    today: Date,
    zone: &TimeZone,
    now: Timestamp,
) -> Option<Timestamp> {
    candidates.iter().find_map(|(days, time)| {
        let date = today.checked_add(i64::from(*days).days()).ok()?;
        believable(at(date, *time, zone)?, now)
    })
}

fn believable(ms: i64, now: Timestamp) -> Option<Timestamp> {
    let moment = Timestamp(u64::try_from(ms).ok()?);
    if moment.plus_ms(limits::PROVIDER_CLOCK_GRACE_MS) < now {
        return None;
    }
    let earliest = now.plus_ms(limits::PROVIDER_WAIT_MS_MIN);
    Some(moment.clamp(earliest, now.plus_ms(limits::PROVIDER_WAIT_MS_MAX).max(earliest)))
}

/// A gap in a zone's clock is read as the hour after it, a fold as the earlier hour.
fn at(date: Date, time: Time, zone: &TimeZone) -> Option<i64> {
    let moment: Zoned = zone.to_ambiguous_zoned(date.to_datetime(time)).compatible().ok()?;
    Some(moment.timestamp().as_millisecond())
}

fn today(now: Timestamp, zone: &TimeZone) -> Option<Date> {
    let now = jiff::Timestamp::from_millisecond(i64::try_from(now.0).ok()?).ok()?;
    Some(zone.to_datetime(now).date())
}

/// Days from a date to the next such day of the week.
trait UntilWeekday {
    fn until_weekday(self, weekday: Weekday) -> i8;
}

impl UntilWeekday for Date {
    fn until_weekday(self, weekday: Weekday) -> i8 {
        (weekday.to_monday_zero_offset() - self.weekday().to_monday_zero_offset()).rem_euclid(7)
    }
}
