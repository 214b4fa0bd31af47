//! Golden bytes of every version that was released.

use super::*;
use crate::job::{
    Attempt, JobId, Lease, NewJob, Outcome, Reason, Report, Run, Spent, State, Token, Usage,
    WorkerId,
};
use crate::store::Paused;
use crate::time::Timestamp;

/// Records of version 1, one of each kind that matters. Bytes that were released never change:
/// when a row here fails, make a new version.
const GOLDEN_JOBS: [(&str, &str); 3] = [
    (
        "pending",
        "01ac02146769742e6c6f63616c3a333030302f4f2f7223370666697820c3bc050190bf0501020103722d3180d095ffbc310080d095ffbc3180d095ffbc31000000000000",
    ),
    (
        "notified",
        "01ac02146769742e6c6f63616c3a333030302f4f2f7223370666697820c3bc050190bf0501020103722d3180d095ffbc31010177090405010c070162073330302d392d3208020105040302010101080177010102030b6167656e745f6572726f7202736f01020112020105000000000000000000",
    ),
    (
        "error",
        "01ac02146769742e6c6f63616c3a333030302f4f2f7223370666697820c3bc050190bf0501020103722d3180d095ffbc31030774696d656f7574046c61746509000000000000",
    ),
];
const GOLDEN_SESSION: &str = "0107682f6f2f72233101057365735f31022f770769737375652d31030102";
const GOLDEN_HEADER: &str = "019003f4030102030405010106070800000000000009";

/// Of version 2.
const GOLDEN_JOBS_2: [(&str, &str); 3] = [
    (
        "pending",
        "02ac02146769742e6c6f63616c3a333030302f4f2f7223370666697820c3bc050190bf0501020103722d3180d095ffbc3100ffffffffffffffffff0180d095ffbc310006000000000700",
    ),
    (
        "notified",
        "02ac02146769742e6c6f63616c3a333030302f4f2f7223370666697820c3bc050190bf0501020103722d3180d095ffbc31010177090405010c070162073330302d392d3208020101116f70656e636f64652d3161326233633464010e67697420776173206b696c6c6564050604030201070101080177010102030b6167656e745f6572726f7202736f010201120201050101010466316130010e6272616e63682069737375652d370102030405060708",
    ),
    (
        "error",
        "02ac02146769742e6c6f63616c3a333030302f4f2f7223370666697820c3bc050190bf0501020103722d3180d095ffbc31030774696d656f7574046c617465090006000000000700",
    ),
];
const GOLDEN_HEADER_2: &str = "029003f4030102030405090a0101060107010803343239070800000000000009";
const GOLDEN_HOLD_2: &str = "02116f70656e636f64652d31613262336334640101ac02096e6f2063726564697403";

fn job(kind: &str) -> Job {
    let issue = "git.local:3000/O/r#7".parse().expect("a good reference");
    let new = NewJob {
        priority: -3,
        timeout_ms: Some(90_000),
        max_attempts: Some(2),
        request_id: Some("r-1".into()),
        ..NewJob::new(issue, "fix ü")
    };
    let mut job = Job::new(JobId(300), new, Timestamp(1_700_000_000_000));
    let report = Report {
        exit_code: Some(1),
        signal: Some(9),
        commits: 2,
        defer_ms: Some(5),
        ..Report::new(Reason::AgentError, "so")
    };
    let attempt = Attempt {
        number: 1,
        token: Token(8),
        worker: WorkerId("w".into()),
        claimed_at: Timestamp(1),
        started_at: Some(Timestamp(2)),
        ended_at: Timestamp(3),
        report,
    };
    let lease = Lease {
        worker: WorkerId("w".into()),
        token: Token(9),
        claimed_at: Timestamp(4),
        expires_at: Timestamp(5),
        run: Some(Run {
            pid: 6,
            start_time: 7,
            boot_id: "b".into(),
            folder: "300-9-2".into(),
            started_at: Timestamp(8),
            round: 2,
        }),
        cancel_requested: true,
        agent: None,
        judging: None,
    };
    match kind {
        "pending" => {}
        "notified" => {
            job.state = State::Notified(lease);
            job.spent = Spent {
                claims: 5,
                attempts: 4,
                lost: 3,
                start_failed: 2,
                deferred: 1,
                ..Spent::default()
            };
            job.attempts = vec![attempt];
        }
        _ => {
            let outcome = Outcome {
                reason: Reason::Timeout,
                detail: "late".into(),
                finished_at: Timestamp(9),
            };
            job.state = State::Error(outcome);
        }
    }
    job
}

fn session() -> Session {
    Session {
        issue: "h/o/r#1".parse().expect("a good reference"),
        id: Some("ses_1".into()),
        worktree: "/w".into(),
        branch: "issue-1".into(),
        last_job: JobId(3),
        created_at: Timestamp(1),
        used_at: Timestamp(2),
    }
}

fn header() -> Header {
    Header {
        next_job: 400,
        next_token: 500,
        pending: 1,
        notified: 2,
        completed: 3,
        error: 4,
        cancelled: 5,
        paused: Some(Paused {
            until: Some(Timestamp(6)),
            since: None,
            job: None,
            why: String::new(),
        }),
        held: 0,
        judging: 0,
        attempts: 7,
        usage: Usage { wall_ms: 8, cost_micros: 9, ..Usage::NOTHING },
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digits).collect()
}

/// The same kinds of job, with everything that version 2 has on top.
fn job_of_now(kind: &str) -> Job {
    let mut job = job(kind);
    job.spent.claims_before = 6;
    job.spent.interrupted = 7;
    if let State::Notified(lease) = &mut job.state {
        lease.agent = Some("opencode-1a2b3c4d".parse().expect("a good key"));
        lease.judging = Some("git was killed".into());
    }
    if let State::Pending(pending) = &mut job.state {
        pending.run_at = Timestamp::NEVER;
    }
    for attempt in &mut job.attempts {
        attempt.report.pause = true;
        attempt.report.hold = true;
        attempt.report.tip = Some("f1a0".into());
        attempt.report.work = Some("branch issue-7".into());
        attempt.report.usage = Usage::from_array([1, 2, 3, 4, 5, 6, 7, 8]);
    }
    job
}

fn header_of_now() -> Header {
    let paused = Paused {
        until: Some(Timestamp(6)),
        since: Some(Timestamp(7)),
        job: Some(JobId(8)),
        why: "429".into(),
    };
    Header { held: 9, judging: 10, paused: Some(paused), ..header() }
}

fn hold() -> Hold {
    Hold {
        agent: "opencode-1a2b3c4d".parse().expect("a good key"),
        since: Timestamp(1),
        until: Some(Timestamp(300)),
        why: "no credit".into(),
        job: JobId(3),
    }
}

#[test]
fn version_1_is_read_as_ever() {
    for (kind, golden) in GOLDEN_JOBS {
        assert_eq!(decode_job(&bytes(golden)).expect("it reads"), job(kind));
    }
    assert_eq!(hex(&encode_session(&session())), GOLDEN_SESSION);
    assert_eq!(decode_session(&bytes(GOLDEN_SESSION)).expect("it reads"), session());
    assert_eq!(decode_header(&bytes(GOLDEN_HEADER)).expect("it reads"), header());
}

#[test]
fn version_2_is_read_and_written_as_ever() {
    for (kind, golden) in GOLDEN_JOBS_2 {
        assert_eq!(hex(&encode_job(&job_of_now(kind))), golden, "{kind}");
        assert_eq!(decode_job(&bytes(golden)).expect("it reads"), job_of_now(kind));
    }
    assert_eq!(hex(&encode_header(&header_of_now())), GOLDEN_HEADER_2);
    assert_eq!(decode_header(&bytes(GOLDEN_HEADER_2)).expect("it reads"), header_of_now());
    assert_eq!(hex(&encode_hold(&hold())), GOLDEN_HOLD_2);
    assert_eq!(decode_hold(&bytes(GOLDEN_HOLD_2)).expect("it reads"), hold());
}

#[test]
fn what_was_read_as_version_1_is_written_as_version_2_and_is_the_same() {
    for (kind, golden) in GOLDEN_JOBS {
        let read = decode_job(&bytes(golden)).expect("it reads");
        let written = encode_job(&read);
        assert_eq!(written[0], 2, "{kind}");
        assert_eq!(decode_job(&written).expect("it reads"), read);
    }
    let read = decode_header(&bytes(GOLDEN_HEADER)).expect("it reads");
    assert_eq!(decode_header(&encode_header(&read)).expect("it reads"), read);
}

#[test]
fn what_is_no_record_is_refused() {
    let good = encode_job(&job("pending"));
    let newer = [&[VERSION + 1], &good[1..]].concat();
    assert!(matches!(decode_job(&newer), Err(BadRecord::TooNew(3))));
    let longer = [&good[..], &[0]].concat();
    for bytes in [&good[..good.len() - 1], &longer, &[0], &[]] {
        assert!(matches!(decode_job(bytes), Err(BadRecord::Garbled(_))), "{bytes:?}");
    }
    let of_no_version = [&[2], &bytes(GOLDEN_SESSION)[1..]].concat();
    assert!(matches!(decode_session(&of_no_version), Err(BadRecord::Garbled(_))));
    assert!(matches!(decode_hold(&[1]), Err(BadRecord::Garbled(_))));
}
