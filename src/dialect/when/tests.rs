//! Times as they are said, and the moments that are meant.

use super::*;

/// What is said, where the agent runs, now, and the moment (all in UTC).
#[rustfmt::skip]
const TIMES: &[(&str, &str, &str, &str)] = &[
    // Spans.
    ("retry-after: 19014", "UTC", "2026-11-25T09:00:00", "2026-11-25T14:16:54"),
    ("retry_after_ms=150000", "UTC", "2026-11-25T09:00:00", "2026-11-25T09:02:30"),
    ("resets_in_seconds\":13872", "UTC", "2026-11-25T09:00:00", "2026-11-25T12:51:12"),
    ("\"retrydelay\": \"147.143958509s\"", "UTC", "2026-11-25T09:00:00", "2026-11-25T09:02:27.144"),
    ("reset after 8h44m7s", "UTC", "2026-11-25T09:00:00", "2026-11-25T17:44:07"),
    ("resets in 22hr 43min.", "UTC", "2026-11-25T09:00:00", "2026-11-26T07:43:00"),
    ("try again in 2 days", "UTC", "2026-11-25T09:00:00", "2026-11-27T09:00:00"),
    ("try again in 1 day, 2 hours and 3 minutes", "UTC", "2026-11-25T09:00:00", "2026-11-26T11:03:00"),
    ("please wait 90 seconds", "UTC", "2026-11-25T09:00:00", "2026-11-25T09:01:30"),
    ("try again in an hour", "UTC", "2026-11-25T09:00:00", "2026-11-25T10:00:00"),
    ("try again in about 20 minutes", "UTC", "2026-11-25T09:00:00", "2026-11-25T09:20:00"),
    ("retry after 1500ms", "UTC", "2026-11-25T09:00:00", "2026-11-25T09:01:00"),
    ("try again in 300", "UTC", "2026-11-25T09:00:00", "2026-11-25T09:05:00"),
    ("resets in 1w", "UTC", "2026-11-25T09:00:00", "2026-12-02T09:00:00"),
    ("resets in 10 days 19 hours", "UTC", "2026-11-25T09:00:00", "2026-12-03T09:00:00"),
    ("resets in 99999999999 days", "UTC", "2026-11-25T09:00:00", "2026-12-03T09:00:00"),
    ("please try again later", "UTC", "2026-11-25T09:00:00", "-"),
    ("retry limit 5", "UTC", "2026-11-25T09:00:00", "-"),
    ("it takes 5 hours", "UTC", "2026-11-25T09:00:00", "-"),
    // Moments.
    ("reached|1795604400", "UTC", "2026-11-25T09:00:00", "2026-11-25T11:00:00"),
    ("reached|1795604400123", "UTC", "2026-11-25T09:00:00", "2026-11-25T11:00:00.123"),
    ("resets at 2026-11-25t10:00:00z", "Asia/Tokyo", "2026-11-25T09:00:00", "2026-11-25T10:00:00"),
    ("resets at 2026-11-25t10:00:00.5+00:30", "UTC", "2026-11-25T09:00:00", "2026-11-25T09:30:00"),
    ("resets at 2026-11-25t10:00:00", "Asia/Tokyo", "2026-11-25T09:00:00", "2026-11-25T10:00:00"),
    ("resets at 2026-11-25 19:00:00", "Asia/Tokyo", "2026-11-25T09:00:00", "2026-11-25T10:00:00"),
    ("resets at 2026-11-25 19:00 jst", "UTC", "2026-11-25T09:00:00", "2026-11-25T10:00:00"),
    ("your limit will reset at 2026-11-25 18:00:00", "UTC", "2026-11-25T09:00:00", "2026-11-25T10:00:00"),
    ("your limit will reset at 2026-11-25 18:00:00 utc", "UTC", "2026-11-25T09:00:00", "2026-11-25T18:00:00"),
    ("your limit will reset at 2026-11-25 18:00:00 (beijing time)", "UTC", "2026-11-25T09:00:00", "2026-11-25T10:00:00"),
    ("regain access on 2026-11-26 at 00:00 utc", "Asia/Tokyo", "2026-11-25T09:00:00", "2026-11-26T00:00:00"),
    ("regain access on 2026/11/26", "UTC", "2026-11-25T09:00:00", "2026-11-26T00:00:00"),
    ("retry-after: wed, 25 nov 2026 10:30:00 gmt", "Asia/Tokyo", "2026-11-25T09:00:00", "2026-11-25T10:30:00"),
    ("retry-after: wednesday, 25-nov-26 10:30:00 gmt", "Asia/Tokyo", "2026-11-25T09:00:00", "2026-11-25T10:30:00"),
    ("retry-after: wed nov 25 10:30:00 2026", "Asia/Tokyo", "2026-11-25T09:00:00", "2026-11-25T10:30:00"),
    // Clocks.
    ("resets 5pm", "Europe/Warsaw", "2026-11-25T09:00:00", "2026-11-25T16:00:00"),
    ("resets 3:45 pm", "UTC", "2026-11-25T09:00:00", "2026-11-25T15:45:00"),
    ("resets 12am", "UTC", "2026-11-25T09:00:00", "2026-11-26T00:00:00"),
    ("resets 12pm", "UTC", "2026-11-25T09:00:00", "2026-11-25T12:00:00"),
    ("resets at 23:00", "UTC", "2026-11-25T09:00:00", "2026-11-25T23:00:00"),
    ("resets at 23:00:30", "UTC", "2026-11-25T09:00:00", "2026-11-25T23:00:30"),
    ("resets at midnight", "America/New_York", "2026-11-25T09:00:00", "2026-11-26T05:00:00"),
    ("resets at noon (utc)", "America/New_York", "2026-11-25T09:00:00", "2026-11-25T12:00:00"),
    ("resets tomorrow at 5pm", "UTC", "2026-11-25T09:00:00", "2026-11-26T17:00:00"),
    ("resets 5pm tomorrow", "UTC", "2026-11-25T09:00:00", "2026-11-26T17:00:00"),
    ("resets today at 5pm", "UTC", "2026-11-25T09:00:00", "2026-11-25T17:00:00"),
    ("resets 13pm", "UTC", "2026-11-25T09:00:00", "-"),
    ("resets 25:00", "UTC", "2026-11-25T09:00:00", "-"),
    ("resets 5", "UTC", "2026-11-25T09:00:00", "-"),
    // Just gone by, and gone by.
    ("resets 9am", "UTC", "2026-11-25T09:00:00", "2026-11-25T09:01:00"),
    ("resets 9am", "UTC", "2026-11-25T09:05:00", "2026-11-25T09:06:00"),
    ("resets 9am", "UTC", "2026-11-25T09:05:01", "2026-11-26T09:00:00"),
    ("reached|1795597200", "UTC", "2026-11-25T09:05:00", "2026-11-25T09:06:00"),
    ("reached|1795597200", "UTC", "2026-11-25T09:05:01", "-"),
    // Zones.
    ("resets 1pm (etc/gmt+5)", "UTC", "2026-11-25T09:00:00", "2026-11-25T18:00:00"),
    ("resets 1pm (gmt+5)", "UTC", "2026-11-25T05:00:00", "2026-11-25T08:00:00"),
    ("resets 1pm utc-3", "Asia/Tokyo", "2026-11-25T09:00:00", "2026-11-25T16:00:00"),
    ("resets 1pm (utc+05:30)", "UTC", "2026-11-25T05:00:00", "2026-11-25T07:30:00"),
    ("resets 1pm pst", "UTC", "2026-11-25T09:00:00", "2026-11-25T21:00:00"),
    ("resets 1pm pacific time", "UTC", "2026-11-25T09:00:00", "2026-11-25T21:00:00"),
    ("resets 1pm (america/argentina/buenos_aires)", "UTC", "2026-11-25T09:00:00", "2026-11-25T16:00:00"),
    ("resets 1pm (mars/olympus)", "Asia/Tokyo", "2026-11-25T01:00:00", "2026-11-25T04:00:00"),
    ("resets 1pm (in 4h)", "UTC", "2026-11-25T09:00:00", "2026-11-25T13:00:00"),
    ("resets 1pm local time", "Asia/Tokyo", "2026-11-25T01:00:00", "2026-11-25T04:00:00"),
    ("resets 1pm (utc+14)", "UTC", "2026-11-24T22:00:00", "2026-11-24T23:00:00"),
    ("resets 1pm (utc+15)", "UTC", "2026-11-25T09:00:00", "2026-11-25T13:00:00"),
    ("resets 1pm (utc+99)", "UTC", "2026-11-25T09:00:00", "2026-11-25T13:00:00"),
    // Dates.
    ("resets feb 7, 11am (asia/seoul)/login", "UTC", "2026-02-06T09:00:00", "2026-02-07T02:00:00"),
    ("resets oct 9", "UTC", "2026-10-08T09:00:00", "2026-10-09T00:00:00"),
    ("resets oct 9", "UTC", "2026-10-09T09:00:00", "-"),
    ("resets oct 9", "UTC", "2026-10-10T09:00:00", "-"),
    ("resets jan 2, 4pm", "UTC", "2026-12-30T09:00:00", "2027-01-02T16:00:00"),
    ("resets 29 sept at 16:00", "UTC", "2026-09-28T09:00:00", "2026-09-29T16:00:00"),
    ("resets on the 29th", "UTC", "2026-09-28T09:00:00", "-"),
    ("try again at sep 19th, 2026 7:10 am.", "UTC", "2026-09-18T09:00:00", "2026-09-19T07:10:00"),
    ("try again at september 1st 2026, 7:10 am", "UTC", "2026-08-31T09:00:00", "2026-09-01T07:10:00"),
    ("try again at sep 19th, 2025 7:10 am.", "UTC", "2026-09-18T09:00:00", "-"),
    ("try again at 7:10 am on sep 19", "UTC", "2026-09-18T09:00:00", "2026-09-19T07:10:00"),
    ("resets feb 30", "UTC", "2026-02-06T09:00:00", "-"),
    ("resets feb 29", "UTC", "2026-02-26T09:00:00", "-"),
    ("resets mon 12:00am", "UTC", "2026-11-25T09:00:00", "2026-11-30T00:00:00"),
    ("resets wednesday at 10:00", "UTC", "2026-11-25T09:00:00", "2026-11-25T10:00:00"),
    ("resets wednesday at 8:00", "UTC", "2026-11-25T09:00:00", "2026-12-02T08:00:00"),
    ("resets thu, nov 26 at 8am", "UTC", "2026-11-25T09:00:00", "2026-11-26T08:00:00"),
    ("resets monday", "UTC", "2026-11-25T09:00:00", "2026-11-30T00:00:00"),
    // Clocks that are put forward (2026-03-29, 2 to 3) and back (2026-10-25, 3 to 2).
    ("resets 2:30am", "Europe/Berlin", "2026-03-28T23:00:00", "2026-03-29T01:30:00"),
    ("resets 2:30am", "Europe/Berlin", "2026-10-24T23:00:00", "2026-10-25T00:30:00"),
    ("resets 12am", "America/Santiago", "2026-09-05T12:00:00", "2026-09-06T04:00:00"),
];

#[test]
fn times() {
    let mut wrong = Vec::new();
    for (said, zone, now, expected) in TIMES {
        let zone = TimeZone::get(zone).expect("a zone");
        let now: Timestamp = format!("{now}Z").parse().expect("a moment");
        let found = find(said);
        let until =
            found.as_ref().and_then(|found| resolve(&found.said, Here { now, zone: &zone }));
        let got = until.map_or("-".into(), |until| {
            until.to_string().trim_end_matches('Z').trim_end_matches(".000").to_string()
        });
        if got != *expected {
            wrong.push(format!("{said} in {now}: expected {expected}, got {got} of {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn whole_fields() {
    for (text, in_ms, expected) in [
        ("60", false, Some(Said::Span(60_000))),
        (" 1.5 ", false, Some(Said::Span(1_500))),
        ("1500.2", true, Some(Said::Span(1_501))),
        ("0", false, Some(Said::Span(0))),
        ("-1", false, None),
        ("nan", false, None),
        ("1e400", false, None),
        ("soon", false, None),
        ("6m0s", false, Some(Said::Span(360_000))),
    ] {
        assert_eq!(span_or_moment(text, in_ms), expected, "{text}");
    }
    for (number, expected) in [
        (999_999_999.0, None),
        (1_753_560_000.0, Some(1_753_560_000_000)),
        (1_753_560_000_123.0, Some(1_753_560_000_123)),
        (1_753_560_000_123_456.0, Some(1_753_560_000_124)),
        (1e17, None),
        (f64::NAN, None),
        (f64::INFINITY, None),
    ] {
        assert_eq!(moment(number), expected.map(Said::Moment), "{number}");
    }
}
