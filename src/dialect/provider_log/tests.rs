//! Lines of opencode's log, as 1.18.33 writes them against a server that refuses.

use super::super::tests::{berlin, moment, said};
use super::*;

/// Lines by a letter: what a log is made of.
#[rustfmt::skip]
const LINES: &[(char, &str)] = &[
    ('F', r#"timestamp=2026-11-25T08:50:00.000Z level=INFO run=aa message="creating instance" directory=/w"#),
    ('C', r#"timestamp=2026-11-25T08:50:01.000Z level=INFO run=aa message=created id=ses_1 slug=x directory=/w path="" parentID=undefined title="New \" session""#),
    ('r', r#"timestamp=2026-11-25T08:55:00.000Z level=ERROR run=aa message="stream error" providerID=fake modelID=m session.id=ses_1 small=false agent=build mode=primary error.error="AI_APICallError: Rate limit exceeded. Please try again later.""#),
    ('R', r#"timestamp=2026-11-25T08:55:02.000Z level=ERROR run=aa message="stream error" providerID=fake modelID=m session.id=ses_1 small=false agent=build mode=primary error.error="AI_APICallError: Rate limit exceeded. Please try again later.""#),
    ('u', r#"timestamp=2026-11-25T08:55:00.000Z level=ERROR run=aa message="stream error" session.id=ses_1 small=false error.error="AI_APICallError: Weekly usage limit reached. Resets in 3 days. To continue using this model now, enable usage from your available balance""#),
    ('b', r#"timestamp=2026-11-25T08:55:00.000Z level=ERROR run=aa message="stream error" session.id=ses_1 small=false error.error="AI_APICallError: boom \"quoted\" \\ x""#),
    ('n', r#"timestamp=2026-11-25T08:55:00.000Z level=ERROR run=aa message="stream error" session.id=ses_1 small=false error.error="AI_APICallError: Cannot connect to API: Unable to connect. Is the computer able to access the url?""#),
    ('h', r#"timestamp=2026-11-25T08:55:00.000Z level=ERROR run=aa message="stream error" session.id=ses_1 small=false error.error="ProviderHeaderTimeoutError: Provider response headers timed out after 300000ms""#),
    ('i', r#"timestamp=2026-11-25T08:55:00.000Z level=ERROR run=aa message="stream error" session.id=ses_1 small=false error.error="AI_APICallError: Upstream request failed: Insufficient account funds""#),
    ('t', r#"timestamp=2026-11-25T08:55:00.000Z level=ERROR run=aa message="stream error" session.id=ses_1 small=true agent=title mode=primary error.error="AI_RetryError: Failed after 3 attempts. Last error: Rate limit exceeded.""#),
    ('T', r#"timestamp=2026-11-25T08:55:00.000Z level=ERROR run=aa message="stream error" session.id=ses_1 agent=title error.error="AI_RetryError: Failed after 3 attempts. Last error: Rate limit exceeded.""#),
    ('o', r#"timestamp=2026-11-25T08:55:00.000Z level=ERROR run=bb message="stream error" session.id=ses_2 small=false error.error="AI_APICallError: Rate limit exceeded.""#),
    ('s', r#"timestamp=2026-11-25T08:55:00.000Z level=ERROR run=bb message="stream error" session.id=ses_1 small=false error.error="AI_APICallError: Rate limit exceeded.""#),
    ('d', r#"timestamp=2026-11-25T08:55:00.100Z level=WARN run=aa message=retry provider=opencode attempt=1 code="Rate limit exceeded. Please try again later." nextDelay=15780000"#),
    ('p', r#"timestamp=2026-11-25T08:55:00.100Z level=ERROR run=aa message=process session.id=ses_1 error="Rate limit exceeded" stack="x\n y""#),
    ('L', r#"timestamp=2026-11-25T08:56:00.000Z level=INFO run=aa message=loop session.id=ses_1 step=1"#),
    ('X', r#"timestamp=2026-11-25T08:56:00.000Z level=INFO run=aa message="exiting loop" session.id=ses_1"#),
    ('S', r#"timestamp=2026-11-25T08:56:00.000Z level=INFO run=aa message=stream session.id=ses_1 small=false"#),
    ('A', r#"timestamp=2026-11-25T08:56:00.000Z level=INFO run=aa message=loop session.id=ses_sub step=1"#),
    ('O', r#"ERROR 2026-11-25T08:55:00 +203ms service=llm providerID=x session.id=ses_1 small=false agent=build error={"error":{"name":"AI_APICallError","statusCode":429,"responseHeaders":{"retry-after":"19014"},"responseBody":"{\"error\":{\"message\":\"Slow down\"}}"}} stream error"#),
    ('g', "message=\"stream error\" level=ERROR"),
];

fn log(whose: Whose, letters: &str) -> ProviderLog {
    let mut log = ProviderLog::new(whose);
    for letter in letters.chars() {
        let line = LINES.iter().find(|(name, _)| *name == letter).expect("a line");
        log.read_line(line.1.as_bytes());
    }
    log
}

#[test]
fn a_run_that_waits() {
    for (letters, failures, expected) in [
        ("F", 0, "none"),
        ("Fr", 1, "Rate - Wait Keep ProviderLog"),
        ("FrR", 2, "Rate - Wait Keep ProviderLog"),
        ("FrSR", 2, "Rate - Wait Keep ProviderLog"),
        ("Frd", 1, "Rate 2026-11-25T13:18:00.100 Wait Keep ProviderLog"),
        ("FrdR", 2, "Rate 2026-11-25T13:18:02 Wait Keep ProviderLog"),
        ("Frp", 1, "Rate - Wait Keep ProviderLog"),
        ("Fu", 1, "Usage 2026-11-28T08:55 Wait Keep ProviderLog"),
        ("Fb", 1, "Overload - Wait Keep ProviderLog"),
        ("Fn", 1, "Network - Wait Keep ProviderLog"),
        ("Fh", 1, "Network - Wait Keep ProviderLog"),
        ("Fi", 1, "Billing - Login Keep ProviderLog"),
        ("Fg", 0, "none"),
        // The helper that makes a title is not the run.
        ("Ft", 0, "none"),
        ("FT", 0, "none"),
        ("FtrR", 2, "Rate - Wait Keep ProviderLog"),
        // Whose lines they are.
        ("r", 0, "none"),
        ("Fo", 0, "none"),
        ("Fs", 0, "none"),
        ("FCs", 1, "Rate - Wait Keep ProviderLog"),
        ("FCO", 1, "Rate 2026-11-25T14:11:54 Wait Keep ProviderLog"),
        // A time is kept for the same trouble alone.
        ("Frdb", 2, "Overload - Wait Keep ProviderLog"),
        ("Fub", 2, "Overload - Wait Keep ProviderLog"),
        // It goes on.
        ("FrL", 0, "none"),
        ("FrX", 0, "none"),
        ("FrS", 1, "Rate - Wait Keep ProviderLog"),
        ("FrA", 1, "Rate - Wait Keep ProviderLog"),
        ("FrLR", 1, "Rate - Wait Keep ProviderLog"),
    ] {
        let whose = Whose { folder: Some("/w".into()), session: None };
        let mut log = log(whose, letters);
        assert_eq!(log.waiting().map_or(0, |waiting| waiting.failures), failures, "{letters}");
        assert_eq!(said(log.trouble(moment(""), &berlin()), moment("")), expected, "{letters}");
        log.went_on();
        assert_eq!(log.waiting(), None);
    }
}

#[test]
fn whose_lines() {
    let folder = |folder: &str| Whose { folder: Some(folder.into()), session: None };
    let session = |session: &str| Whose { folder: None, session: Some(session.into()) };
    for (whose, letters, failures, named) in [
        (folder("/w"), "F", 0, None),
        (folder("/w"), "FC", 0, Some("ses_1")),
        (folder("/w"), "FL", 0, Some("ses_1")),
        (folder("/elsewhere"), "FCr", 0, None),
        (session("ses_1"), "r", 1, Some("ses_1")),
        // The rest of its process, and of its session.
        (session("ses_1"), "rd", 1, Some("ses_1")),
        (session("ses_1"), "rs", 2, Some("ses_1")),
        (session("ses_3"), "FCr", 0, None),
        (Whose::default(), "o", 1, Some("ses_2")),
    ] {
        let log = log(whose.clone(), letters);
        let got = (log.waiting().map_or(0, |waiting| waiting.failures), log.session());
        assert_eq!(got, (failures, named), "{whose:?} {letters}");
    }
    let waiting = log(Whose::default(), "rR").waiting().expect("it waits");
    let (since, last) = (moment("2026-11-25T08:55:00"), moment("2026-11-25T08:55:02"));
    assert_eq!(waiting, Waiting { since, last, failures: 2 });
}
