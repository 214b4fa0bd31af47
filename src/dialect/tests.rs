//! Every row that was seen, siblings of them, and bytes of any kind.

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::rows::{ROWS, Row};
use super::*;

const NOW: &str = "2026-11-25T09:00";

pub(super) fn moment(text: &str) -> Timestamp {
    let text = if text.is_empty() { NOW } else { text };
    let seconds = if text.matches(':').count() == 1 { ":00" } else { "" };
    format!("{text}{seconds}Z").parse().expect("a moment")
}

pub(super) fn berlin() -> TimeZone {
    TimeZone::get("Europe/Berlin").expect("a zone")
}

fn how(ended: &str) -> HowEnded {
    match ended {
        "limit" => HowEnded { exit_code: None, by_time_limit: true },
        "limit0" => HowEnded { exit_code: Some(0), by_time_limit: true },
        code => HowEnded { exit_code: code.parse().ok(), by_time_limit: false },
    }
}

fn transcript(lines: &str) -> Transcript {
    let mut transcript = Transcript::new();
    for line in lines.split('\n') {
        transcript.read_line(line.as_bytes());
    }
    transcript
}

pub(super) fn said(trouble: Option<Trouble>, now: Timestamp) -> String {
    let Some(trouble) = trouble else { return "none".into() };
    assert!(!trouble.words.is_empty(), "{trouble:?}");
    assert!(!trouble.words.contains(['\n', '\u{1b}']), "{trouble:?}");
    let until = match trouble.until {
        None => "-".to_string(),
        Some(until) if until == now.plus_ms(limits::PROVIDER_WAIT_MS_MIN) => "least".into(),
        Some(until) if until == now.plus_ms(limits::PROVIDER_WAIT_MS_MAX) => "most".into(),
        Some(until) => {
            let text = until.to_string();
            let text = text.trim_end_matches('Z').trim_end_matches(".000");
            text.strip_suffix(":00").unwrap_or(text).to_string()
        }
    };
    let session = trouble.session();
    let Trouble { kind, remedy, source, .. } = trouble;
    format!("{kind:?} {until} {remedy:?} {session:?} {source:?}")
}

const KINDS: [Kind; 15] = [
    Kind::Usage,
    Kind::Rate,
    Kind::Overload,
    Kind::Billing,
    Kind::Auth,
    Kind::Context,
    Kind::Session,
    Kind::Request,
    Kind::Model,
    Kind::Network,
    Kind::Permission,
    Kind::Budget,
    Kind::Config,
    Kind::Machine,
    Kind::Aborted,
];

#[test]
fn remedies() {
    for (kinds, expected) in [
        ("Usage Rate Overload Network", (Remedy::Wait, SessionAdvice::Keep)),
        ("Billing Auth", (Remedy::Login, SessionAdvice::Keep)),
        ("Context Session Request", (Remedy::FreshSession, SessionAdvice::Drop)),
        ("Model Config", (Remedy::Person, SessionAdvice::Keep)),
        ("Machine", (Remedy::StartAgain, SessionAdvice::Keep)),
        ("Permission Budget Aborted", (Remedy::Nothing, SessionAdvice::Keep)),
    ] {
        for kind in KINDS.iter().filter(|kind| kinds.contains(&format!("{kind:?}"))) {
            assert_eq!((kind.remedy(), kind.session()), expected, "{kind:?}");
        }
    }
}

#[test]
fn every_row() {
    let mut wrong = Vec::new();
    for Row(number, now, ended, lines, expected) in ROWS {
        let now = moment(now);
        let trouble = transcript(lines).trouble(how(ended), now, &berlin());
        let words = trouble.as_ref().map(|trouble| trouble.words.clone());
        let got = said(trouble, now);
        if got != *expected {
            wrong.push(format!("{number}: {expected}\n  got {got}\n  {words:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for number in 1..=123 {
        assert!(ROWS.iter().any(|row| row.0 == number), "row {number}");
    }
}

#[test]
fn siblings() {
    let mut wrong = Vec::new();
    let now = moment("");
    for (ended, lines, expected) in siblings::SAID {
        let got = said(transcript(lines).trouble(how(ended), now, &berlin()), now);
        if got != *expected {
            wrong.push(format!("{lines}\n  expected {expected}\n  got      {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_session_is_the_first_one_named() {
    for (lines, expected) in [
        ("", None),
        (
            "{\"sessionID\":\"--evil\"}\n{\"other\":1}\n{\"sessionID\":\"ses_new\",\"part\":{}}",
            Some("ses_new"),
        ),
        (
            "{\"type\":\"x\",\"sessionID\":\"ses_1\"}\n{\"type\":\"x\",\"sessionID\":\"ses_2\"}",
            Some("ses_1"),
        ),
        ("{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"0-a\"}", Some("0-a")),
        ("{\"session_id\":\"of-a-tool\"}\n{\"thread_id\":\"of-a-tool\"}", None),
        ("{\"type\":\"thread.started\",\"thread_id\":\"t1\"}", Some("t1")),
        ("{\"type\":\"init\",\"session_id\":\"g\"}", Some("g")),
        ("{\"type\":\"hook_event\",\"taskId\":\"17\"}", Some("17")),
        ("{\"part\":{\"sessionID\":\"deep\"}}", None),
        ("{\"sessionID\":7}\n{\"sessionID\":\"a b\"}\n{\"sessionID\":\"\"}", None),
        ("  {\"sessionID\":\"a.b:c_d-e\"}\r", Some("a.b:c_d-e")),
    ] {
        assert_eq!(transcript(lines).session(), expected, "{lines}");
    }
    for (length, is_one) in [(200, true), (201, false)] {
        let line = format!("{{\"sessionID\":\"{}\"}}", "s".repeat(length));
        assert_eq!(transcript(&line).session().is_some(), is_one, "{length}");
    }
}

#[test]
fn what_was_used() {
    const STEP: &str = r#"{"type":"step_finish","timestamp":1795379079022,"sessionID":"ses_1","part":{"id":"prt_1","reason":"stop","type":"step-finish","tokens":{"total":117,"input":100,"output":10,"reasoning":2,"cache":{"write":2,"read":3}},"cost":0.00012}}"#;
    const MESSAGE: &str = r#"{"type":"assistant","session_id":"u","message":{"id":"m1","content":[],"usage":{"input_tokens":5,"cache_read_input_tokens":3,"output_tokens":2}}}"#;
    const RESULT: &str = r#"{"type":"result","subtype":"success","is_error":false,"session_id":"u","num_turns":2,"total_cost_usd":0.5,"usage":{"input_tokens":9,"cache_creation_input_tokens":1,"cache_read_input_tokens":6,"output_tokens":4}}"#;
    const TURN: &str = r#"{"type":"turn.completed","usage":{"input_tokens":24763,"cached_input_tokens":24448,"output_tokens":122}}"#;
    const ITEM: &str = r#"{"type":"item.completed","item":{"type":"command_execution"}}"#;
    const SENT: &str =
        "Tokens: 2.9k sent, 1k cache hit, 120 received. Cost: $0.0032 message, $0.0064 session.";
    let second = MESSAGE.replace("m1", "m2");
    for (lines, expected) in [
        (vec![], (0, 0, 0, 0)),
        (vec![STEP], (1, 105, 12, 120)),
        (vec![STEP, STEP, r#"{"type":"step_finish","part":{}}"#], (3, 210, 24, 240)),
        (
            vec![
                r#"{"type":"step_finish","part":{"tokens":{"input":1e300,"output":-5},"cost":1e300}}"#,
                STEP,
            ],
            (2, 105, 12, 120),
        ),
        (
            vec![r#"{"type":"step_finish","part":{"tokens":{"input":1e999}}}"#, STEP],
            (1, 105, 12, 120),
        ),
        (vec![MESSAGE, MESSAGE], (1, 8, 2, 0)),
        (vec![MESSAGE, &second], (2, 16, 4, 0)),
        (vec![MESSAGE, MESSAGE, RESULT], (2, 16, 4, 500_000)),
        (vec![MESSAGE, RESULT, &second], (3, 24, 6, 500_000)),
        (vec![ITEM, ITEM, TURN, TURN], (2, 24763, 122, 0)),
        (vec![TURN], (1, 24763, 122, 0)),
        (
            vec![r#"{"type":"item.completed","item":{"type":"error","message":"careful"}}"#],
            (0, 0, 0, 0),
        ),
        (
            vec![
                r#"{"type":"item.completed","item":{"type":"reasoning"}}"#,
                r#"{"type":"item.started","item":{"type":"command_execution"}}"#,
            ],
            (0, 0, 0, 0),
        ),
        (
            vec![
                r#"{"type":"result","status":"success","stats":{"input_tokens":7,"output_tokens":3,"tool_calls":2}}"#,
            ],
            (3, 7, 3, 0),
        ),
        (
            vec![
                r#"{"response":"done","stats":{"models":{"g":{"api":{"totalRequests":4},"tokens":{"prompt":10,"candidates":2,"thoughts":1}}}}}"#,
            ],
            (4, 10, 3, 0),
        ),
        (
            vec![
                r#"{"type":"run_result","finishReason":"completed","iterations":2,"usage":{"inputTokens":1,"outputTokens":2,"cacheReadTokens":3,"cacheWriteTokens":4,"totalCost":0.25},"text":"ok"}"#,
            ],
            (2, 8, 2, 250_000),
        ),
        (vec!["Aider v0.86.1", SENT, SENT], (2, 7800, 240, 6400)),
        (vec![SENT], (0, 0, 0, 0)),
    ] {
        let usage = transcript(&lines.join("\n")).usage();
        let got = (usage.steps, usage.tokens_in, usage.tokens_out, usage.cost_micros);
        assert_eq!(got, expected, "{lines:?}");
    }
}

#[test]
fn last_words() {
    for (lines, expected) in [
        ("", ""),
        ("\u{1b}[91mnot json\n{\"other\":1}\n", "not json"),
        ("one\n\n  two  \r", "one\ntwo"),
        ("{\"type\":\"text\",\"sessionID\":\"s\",\"part\":{\"text\":\"All done.\"}}", "All done."),
        (
            "{\"type\":\"text\",\"sessionID\":\"s\",\"part\":{\"text\":\"All done.\"}}\nwarning",
            "warning",
        ),
        (
            "warning\n{\"type\":\"error\",\"sessionID\":\"s\",\"error\":{\"name\":\"X\",\"data\":{\"message\":\"It\\n broke\"}}}",
            "It broke",
        ),
        ("{\"type\":\"error\",\"sessionID\":\"s\",\"error\":{\"name\":\"OddError\"}}", "odderror"),
        ("{\"error\":{\"message\":\"No\"}}", "No"),
        (
            "{\"type\":\"result\",\"subtype\":\"error_during_execution\",\"is_error\":true}",
            "error_during_execution",
        ),
        (
            "{\"type\":\"result\",\"is_error\":false,\"result\":\"Merged.\",\"session_id\":\"u\"}",
            "Merged.",
        ),
        ("{\"half", ""),
    ] {
        assert_eq!(transcript(lines).last_words(), expected, "{lines}");
    }
    let many = format!("{}\nlast", "ä".repeat(limits::LAST_LINE_BYTES_MAX));
    let words = transcript(&many).last_words();
    assert!(words.ends_with("last") && words.len() <= limits::LAST_WORDS_BYTES_MAX, "{words}");
}

#[test]
fn a_line_too_long_is_read_as_far_as_it_goes() {
    let error = "{\"type\":\"error\",\"sessionID\":\"s\",\"error\":{\"name\":\"APIError\",\"data\":{\"message\":\"Overloaded\"}}}";
    let mut transcript = transcript(error);
    let trouble = |t: &Transcript| said(t.trouble(how("1"), moment(""), &berlin()), moment(""));
    transcript.read_cut_line(b"{\"type\":\"error\",\"sessionID\":\"s\",\"err");
    assert_eq!(trouble(&transcript), "Overload - Wait Keep Event");
    let long = format!(
        "{{\"type\":\"tool_use\",\"x\":\"{}\"}}",
        "x".repeat(limits::DIALECT_LINE_BYTES_MAX)
    );
    transcript.read_line(long.as_bytes());
    assert_eq!(trouble(&transcript), "none", "the agent went on");
    transcript.read_cut_line("Unable to connect".as_bytes());
    assert_eq!(trouble(&transcript), "Network - Wait Keep Prose");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_are_a_panic(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8)) {
        feed(&lines);
    }

    #[test]
    fn no_text_is_a_panic(text in "(resets|try again at|retry after|\\||in)? ?[0-9apm:., ()/+\\-TZé·a-z]{0,40}", number in any::<f64>()) {
        feed(&[text.clone().into_bytes(), format!("You've hit your limit · resets {text}").into_bytes()]);
        for now in [0, 1_795_597_200_000, u64::MAX] {
            let zone = berlin();
            let here = Here { now: Timestamp(now), zone: &zone };
            let folded = text::folded(&text);
            let found = when::find(&folded);
            if let Some(found) = &found {
                prop_assert!(folded.get(found.end..).is_some());
            }
            let numbers = [when::moment(number), when::span(number, true), when::span_or_moment(&text, false)];
            for said in numbers.into_iter().flatten().chain(found.map(|found| found.said)) {
                if let Some(until) = when::resolve(&said, here) {
                    prop_assert!(until >= here.now);
                    prop_assert!(until.ms_since(here.now) <= limits::PROVIDER_WAIT_MS_MAX);
                }
            }
        }
    }

    #[test]
    fn no_changed_row_is_a_panic(row in 0..ROWS.len(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = ROWS[row].3.as_bytes().to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if cut {
                bytes.truncate(at);
            }
        }
        feed(&bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>());
    }
}

fn feed(lines: &[Vec<u8>]) {
    let mut transcript = Transcript::new();
    let mut log = ProviderLog::new(Whose::default());
    for line in lines {
        transcript.read_line(line);
        transcript.read_cut_line(line);
        log.read_line(line);
        log.read_line(
            &[&b"timestamp=x level=ERROR message=\"stream error\" error.error="[..], line].concat(),
        );
    }
    for ended in ["0", "1", "limit", "limit0"] {
        for now in [0, 1_795_597_200_000, u64::MAX] {
            let trouble = transcript.trouble(how(ended), Timestamp(now), &berlin());
            if let Some(Trouble { until: Some(until), .. }) = trouble {
                assert!(until >= Timestamp(now));
            }
            log.trouble(Timestamp(now), &berlin());
        }
    }
    let waiting = log.waiting();
    let is_told = log.trouble(Timestamp(0), &berlin()).is_some();
    assert_eq!(waiting.is_some(), is_told);
    let _ = (transcript.last_words(), transcript.usage(), transcript.session());
}
