//! The table of verdicts: what happened in words, and the reason or the next run.

use super::*;
use crate::dialect::Kind;
use crate::job::Usage;
use crate::run::{Deferral, Progress};
use crate::time::Timestamp;

/// What the words of a row stand for.
struct Row {
    end: End,
    evidence: Evidence,
    seen: Option<Seen>,
    trouble: Option<Trouble>,
    result: Result<Option<Deferral>, String>,
    last_words: &'static str,
    requested: Option<Stop>,
    progress: Progress,
    is_resumed: bool,
    completion: Completion,
}

fn row() -> Row {
    Row {
        end: End {
            cause: Cause::Exited,
            exit_code: Some(0),
            signal: None,
            detail: "no such program".into(),
            is_machines_fault: false,
            is_oom_victim: false,
            was_ordered: false,
            usage: Usage { wall_ms: 1500, steps: 2, cost_micros: 1_230_000, ..Usage::NOTHING },
        },
        evidence: Evidence { tip: Some("beef".into()), ..Evidence::default() },
        seen: None,
        trouble: None,
        result: Ok(None),
        last_words: "first\nlast",
        requested: None,
        progress: Progress::default(),
        is_resumed: false,
        completion: Completion::Commits,
    }
}

fn trouble(kind: Kind, source: Source, until: Option<u64>) -> Trouble {
    let words = "its provider's words".into();
    Trouble { kind, remedy: kind.remedy(), source, until: until.map(Timestamp), words }
}

fn elsewhere(is_ahead_of_branch: bool) -> Option<Elsewhere> {
    let place = "branch fix".into();
    Some(Elsewhere { place, tip: "cafe".into(), commits: 1, is_ahead_of_branch })
}

fn understand(row: &mut Row, word: &str) {
    let later = Deferral { until: Timestamp(60_000), reason: None, pause: true };
    match word {
        "0" | "1" | "75" => row.end.exit_code = word.parse().ok(),
        "killed" => (row.end.exit_code, row.end.signal) = (None, Some(9)),
        "oom" => row.end.is_oom_victim = true,
        "ordered" => row.end.was_ordered = true,
        "unstarted" => row.end.cause = Cause::NotStarted,
        "machine" => row.end.is_machines_fault = true,
        "timeout" => row.end.cause = Cause::Timeout,
        "idle" => row.end.cause = Cause::IdleTimeout,
        "flood" => row.end.cause = Cause::LogLimit,
        "steps" => row.end.cause = Cause::StepLimit,
        "cost" => row.end.cause = Cause::CostLimit,
        "waits" => row.end.cause = Cause::ProviderWait,
        "ended" => row.end.cause = Cause::Terminated,
        "commits" => (row.evidence.commits, row.evidence.commits_of_job) = (2, 2),
        "earlier" => row.evidence.commits_of_job = 1,
        "updated" => row.evidence.is_updated = true,
        "reset" => row.evidence.left_behind = Some("dead".into()),
        "dirty" => row.evidence.is_dirty = true,
        "merging" => row.evidence.unfinished = Some("a merge".into()),
        "ahead" => row.evidence.elsewhere = elsewhere(true),
        "aside" => row.evidence.elsewhere = elsewhere(false),
        "damaged" => row.seen = Some(Seen::Damaged("it is no clone".into())),
        "unreadable" => row.seen = Some(Seen::Unknown { why: "io".into(), passes: true }),
        "unreadable!" => row.seen = Some(Seen::Unknown { why: "too much".into(), passes: false }),
        "limit" => row.trouble = Some(trouble(Kind::Usage, Source::Event, Some(90_000))),
        "limit-words" => row.trouble = Some(trouble(Kind::Usage, Source::Prose, None)),
        "limit-log" => row.trouble = Some(trouble(Kind::Overload, Source::ProviderLog, None)),
        "login" => row.trouble = Some(trouble(Kind::Auth, Source::Event, None)),
        "no-session" => row.trouble = Some(trouble(Kind::Session, Source::Prose, None)),
        "too-long" => row.trouble = Some(trouble(Kind::Context, Source::Event, None)),
        "locked" => row.trouble = Some(trouble(Kind::Machine, Source::Prose, None)),
        "refused" => row.trouble = Some(trouble(Kind::Permission, Source::Event, None)),
        "later" => row.result = Ok(Some(later)),
        "garbled" => row.result = Err("expected value".into()),
        "cancel" => row.requested = Some(Stop::Cancel),
        "shutdown" => row.requested = Some(Stop::Shutdown),
        "reminded" => row.progress.is_reminded = true,
        "brought" => row.progress.is_brought = true,
        "renewed" => row.progress.is_renewed = true,
        "resumed" => row.is_resumed = true,
        "at-once" => row.end.usage.steps = 0,
        "by-exit" => row.completion = Completion::Exit,
        other => panic!("no such word: {other}"),
    }
}

fn verdict(words: &str) -> Verdict {
    let mut row = row();
    for word in words.split_whitespace() {
        understand(&mut row, word);
    }
    let seen = row.seen.clone().unwrap_or(Seen::Evidence(row.evidence.clone()));
    judge(&Facts {
        completion: row.completion,
        end: &row.end,
        seen: &seen,
        trouble: row.trouble.as_ref(),
        last_words: row.last_words,
        result: &row.result,
        is_resumed: row.is_resumed,
        progress: row.progress,
        requested: row.requested,
        now: Timestamp(1_000),
    })
}

fn in_words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Unreadable(_) => "again".into(),
        Verdict::Another(Purpose::Message) => "message".into(),
        Verdict::Another(Purpose::FreshSession) => "fresh".into(),
        Verdict::Another(Purpose::Bring { tip }) => format!("bring {tip}"),
        Verdict::Another(Purpose::Reminder(undone)) => {
            let word = |undone: &Undone| match undone {
                Undone::Uncommitted => " uncommitted",
                Undone::Unfinished(_) => " unmerged",
                Undone::OffBranch(_) => " off_branch",
            };
            format!("remind{}", undone.iter().map(word).collect::<String>())
        }
        Verdict::Over(ruling) => {
            let forgets = if ruling.forgets_session { " forget" } else { "" };
            format!("{}{forgets}", ruling.report.reason)
        }
    }
}

fn check(rows: &str) {
    for line in rows.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (words, expected) = line.split_once('|').expect("two cells");
        assert_eq!(in_words(&verdict(words)), expected.trim(), "in row: {line}");
    }
}

#[test]
fn new_work_on_the_branch_decides() {
    check(
        "
        0 commits                   | done
        0 commits dirty             | done
        0 commits aside             | done
        0 commits updated           | done
        1 commits                   | done
        killed commits              | done
        0                           | no_changes
        0 reset                     | no_changes
        0 updated                   | updated
        0 updated dirty             | remind uncommitted
        0 updated dirty reminded    | uncommitted
        0 earlier                   | done
        0 earlier dirty             | remind uncommitted
        0 earlier dirty reminded    | uncommitted
        0 earlier reset             | done
        1 earlier                   | agent_error
        1 updated                   | agent_error
        0 dirty                     | remind uncommitted
        0 dirty reminded            | uncommitted
        0 reminded                  | no_changes
        0 commits reminded          | done
        1                           | agent_error
        1 dirty                     | agent_error
        killed                      | agent_error
        0 by-exit                   | done
        0 by-exit dirty             | done
        0 by-exit merging           | done
        0 by-exit aside             | done
        0 by-exit unreadable        | done
        0 by-exit damaged           | done
        1 by-exit                   | agent_error
        1 by-exit commits           | agent_error
        ",
    );
}

#[test]
fn work_that_is_not_finished_or_not_on_the_branch_is_not_done() {
    check(
        "
        0 merging                   | remind unmerged
        0 merging dirty             | remind unmerged uncommitted
        0 commits merging           | remind unmerged
        1 commits merging           | remind unmerged
        1 merging                   | agent_error
        0 commits merging reminded  | unmerged
        1 commits merging reminded  | unmerged
        0 ahead                     | bring cafe
        1 ahead                     | bring cafe
        0 ahead brought             | remind off_branch
        0 ahead brought dirty       | remind off_branch uncommitted
        0 ahead brought reminded    | off_branch
        0 ahead reminded            | bring cafe
        0 aside                     | remind off_branch
        1 aside                     | remind off_branch
        0 aside merging dirty       | remind unmerged off_branch uncommitted
        0 aside reminded            | off_branch
        0 aside updated             | remind off_branch
        0 ahead cancel              | cancelled
        0 ahead shutdown            | shutdown
        0 aside cancel              | cancelled
        0 dirty cancel              | cancelled
        0 dirty shutdown            | shutdown
        0 dirty reminded cancel     | uncommitted
        ",
    );
}

#[test]
fn what_cannot_be_read_is_judged_again_and_never_run_again() {
    check(
        "
        0 unreadable                | again
        1 unreadable                | again
        0 unreadable!               | unreadable
        0 damaged                   | clone_damaged
        1 damaged                   | clone_damaged
        timeout unreadable          | timeout
        timeout damaged             | timeout
        ended unreadable            | interrupted
        75 unreadable               | deferred
        0 later damaged             | deferred
        ",
    );
}

#[test]
fn what_ended_the_run_goes_before_what_it_left() {
    check(
        "
        timeout killed              | timeout
        timeout commits             | timeout
        timeout earlier             | timeout
        flood killed                | log_limit
        idle killed                 | idle_timeout
        steps commits               | step_limit
        cost                        | cost_limit
        unstarted                   | start_failed
        unstarted machine           | machine
        ended cancel                | cancelled
        ended cancel commits        | cancelled
        ended shutdown              | shutdown
        ended                       | interrupted
        ended ordered               | shutdown
        ended ordered cancel        | cancelled
        killed oom                  | machine
        killed oom commits          | machine
        75                          | deferred
        75 commits                  | deferred
        0 later                     | deferred
        1 later commits             | deferred
        0 commits garbled           | done
        1 garbled                   | agent_error
        ",
    );
}

#[test]
fn a_provider_that_refuses_is_not_the_jobs_fault() {
    check(
        "
        1 limit                     | provider_limit
        1 limit commits             | provider_limit
        0 limit                     | provider_limit
        0 limit commits             | done
        1 limit-words               | provider_limit
        0 limit-words               | provider_limit
        0 limit-words commits       | done
        1 limit-words commits       | done
        1 limit-words ahead         | bring cafe
        1 limit-log                 | provider_limit
        0 limit-log                 | no_changes
        idle killed limit-log       | provider_limit
        idle killed limit           | provider_limit
        timeout killed limit-words  | provider_limit
        timeout killed limit-words commits | timeout
        timeout killed limit commits | provider_limit
        steps killed limit          | step_limit
        waits killed limit-log      | provider_limit
        waits killed                | provider_limit
        1 login                     | provider_login
        1 login commits             | provider_login
        1 later limit               | deferred
        1 refused                   | agent_error
        1 locked                    | start_failed
        1 locked commits            | done
        ",
    );
}

#[test]
fn a_session_that_the_agent_cannot_go_on_with_is_dropped() {
    check(
        "
        1 no-session resumed at-once          | fresh
        1 too-long resumed at-once            | fresh
        1 no-session resumed at-once renewed  | agent_error forget
        1 no-session resumed at-once cancel   | agent_error forget
        1 too-long resumed                    | agent_error forget
        1 too-long at-once                    | agent_error forget
        1 too-long commits                    | done
        0 no-session resumed at-once          | fresh
        0 no-session commits                  | done
        0 refused                             | no_changes
        ",
    );
}

#[test]
fn reports_tell_what_was_used_where_the_work_is_and_how_long_to_wait() {
    let report = |words: &str| match verdict(words) {
        Verdict::Over(ruling) => ruling.report,
        other => panic!("{words}: {other:?}"),
    };
    let done = report("0 commits aside");
    assert_eq!((done.commits, done.tip.as_deref(), done.work), (2, Some("beef"), None));
    assert_eq!(done.usage.wall_ms, 1500);
    assert_eq!(done.detail, "2 commits in 1.5 s");
    let off = report("0 aside reminded");
    assert_eq!((off.tip.as_deref(), off.work.as_deref()), (Some("cafe"), Some("branch fix")));
    assert_eq!(report("1 commits").detail, "2 commits, although it ended with exit code 1");
    assert_eq!(report("1").detail, "exit code 1: last");
    assert_eq!(report("killed").detail, "signal 9: last");
    assert_eq!(report("1 refused").detail, "exit code 1: its provider's words");
    assert!(report("0 reset").detail.contains("dead"));
    assert!(report("timeout commits").detail.ends_with(", with 2 commits"));
    assert!(!report("timeout unreadable").detail.contains("commit"));
    assert_eq!(report("cost").detail, "ended at a cost of 1.23, with no commit");
    assert!(report("1 garbled").detail.contains("result file"));
    assert_eq!(report("1 limit").defer_ms, Some(89_000));
    assert_eq!(report("1 limit").detail, "its provider's words");
    assert_eq!(report("1 limit-words").defer_ms, None);
    let later = report("0 later");
    assert_eq!((later.defer_ms, later.pause), (Some(59_000), true));
    assert_eq!(report("75").defer_ms, None);
    let mut twice = row();
    twice.progress.usage = Usage { wall_ms: 500, ..Usage::NOTHING };
    let seen = Seen::Evidence(twice.evidence.clone());
    let facts = Facts {
        completion: twice.completion,
        end: &twice.end,
        seen: &seen,
        trouble: None,
        last_words: "",
        result: &twice.result,
        is_resumed: false,
        progress: twice.progress,
        requested: None,
        now: Timestamp(0),
    };
    match judge(&facts) {
        Verdict::Over(ruling) => assert_eq!(ruling.report.usage.wall_ms, 2000),
        other => panic!("{other:?}"),
    }
}
