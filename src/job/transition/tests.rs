//! Every state against every event, as text.

use super::*;
use crate::job::{JobId, NewJob};

const NOW: Timestamp = Timestamp(1_000_000);
const POLICY: RetryPolicy =
    RetryPolicy { max_attempts: 2, backoff_ms_first: 1_000, backoff_ms_max: 60_000 };

/// The job that a row begins with. `notified` holds token 7 until one minute from now.
fn job(words: &str) -> Job {
    let issue = "h/o/r#1".parse().expect("a good reference");
    let mut job = Job::new(JobId(1), NewJob::new(issue, "fix"), Timestamp(500_000));
    job.spent.claims = 1;
    let lease = Lease {
        worker: WorkerId("one".into()),
        token: Token(7),
        claimed_at: Timestamp(900_000),
        expires_at: NOW.plus_ms(60_000),
        run: None,
        cancel_requested: false,
        agent: None,
        judging: None,
    };
    let outcome =
        Outcome { reason: Reason::Done, detail: String::new(), finished_at: Timestamp(990_000) };
    for word in words.split(' ') {
        match word {
            "pending" => {}
            "held" => {
                job.state = State::Pending(Pending { run_at: Timestamp::NEVER, since: NOW });
            }
            "delayed" => {
                job.state = State::Pending(Pending { run_at: NOW.plus_ms(1), since: NOW });
            }
            "notified" => job.state = State::Notified(lease.clone()),
            "lapsed" => {
                job.state = State::Notified(Lease { expires_at: NOW, ..lease.clone() });
            }
            "running" => {
                job.state = State::Notified(Lease { run: Some(run(1)), ..lease.clone() });
            }
            "overdue" => {
                let run = Some(run(1));
                job.state = State::Notified(Lease { expires_at: NOW, run, ..lease.clone() });
            }
            "cancelling" => {
                job.state = State::Notified(Lease { cancel_requested: true, ..lease.clone() });
            }
            "judging" => {
                let judging = Some("git was killed".into());
                job.state = State::Notified(Lease { judging, run: Some(run(1)), ..lease.clone() });
            }
            "with-agent" => {
                let agent = Some("opencode-1a2b3c4d".parse().expect("a good key"));
                job.state = State::Notified(Lease { agent, run: Some(run(1)), ..lease.clone() });
            }
            "completed" => job.state = State::Completed(outcome.clone()),
            "error" => job.state = State::Error(outcome.clone()),
            "cancelled" => job.state = State::Cancelled(outcome.clone()),
            "asks-for-3" => job.max_attempts = Some(3),
            other => {
                let (budget, used) = other.split_once('-').expect("a budget and a number");
                let used = used.parse().expect("a number");
                match budget {
                    "spent" => job.spent.attempts = used,
                    "lost" => job.spent.lost = used,
                    "unstarted" => job.spent.start_failed = used,
                    "deferred" => job.spent.deferred = used,
                    "interrupted" => job.spent.interrupted = used,
                    other => panic!("no such budget: {other}"),
                }
            }
        }
    }
    job
}

fn run(round: u32) -> Run {
    Run {
        pid: 5,
        start_time: 6,
        boot_id: "boot".into(),
        folder: format!("1-7-{round}"),
        started_at: Timestamp(950_000),
        round,
    }
}

fn event(words: &str) -> Event {
    let words: Vec<&str> = words.split(' ').collect();
    let token = words.iter().find_map(|word| word.strip_prefix('t')?.parse().ok()).map(Token);
    let token = token.unwrap_or(Token(7));
    let report = || {
        let reason = Reason::ALL.into_iter().find(|reason| reason.name() == words[1]);
        let reason = reason.unwrap_or_else(|| panic!("no such reason: {}", words[1]));
        let named = words.iter().find_map(|word| word.strip_prefix("named-")?.parse().ok());
        let hold = words.contains(&"hold");
        Report { defer_ms: named, hold, ..Report::new(reason, "so it was") }
    };
    match words[0] {
        "claim" => Event::Claim {
            worker: WorkerId("two".into()),
            token: Token(8),
            lease_ms: 60_000,
            agent: None,
        },
        "judge" => Event::Judge { token, why: "git was killed".into() },
        "judge-again" => Event::Judge { token, why: "no room".into() },
        "start" => Event::Start { token, run: run(1) },
        "restart" => Event::Start { token, run: run(2) },
        "renew" => Event::Renew { token, lease_ms: 90_000 },
        "finish" => Event::Finish { token, report: report(), policy: POLICY, seed: 1 },
        "adopt" => Event::Adopt {
            token,
            worker: WorkerId("two".into()),
            new_token: Token(9),
            lease_ms: 60_000,
        },
        "cancel" => Event::Cancel,
        "retry" => Event::Retry,
        "edit" => Event::Edit(match words[1] {
            "later" => Edit { run_at: Some(NOW.plus_ms(1)), ..Edit::default() },
            "now" => Edit { run_at: Some(NOW), ..Edit::default() },
            "message" => Edit { message: Some("other".into()), ..Edit::default() },
            other => panic!("no such edit: {other}"),
        }),
        other => panic!("no such event: {other}"),
    }
}

fn answer(before: &Job, result: Result<Next, Refused>) -> String {
    match result {
        Ok(Next::AlreadySo) => "already so".into(),
        Err(refused) => format!("refused: {refused}"),
        Ok(Next::Changed(after)) => {
            let kind = after.state.kind();
            match &after.state {
                State::Pending(pending) if pending.is_held() => format!("{kind} held"),
                State::Pending(pending) if pending.run_at > NOW => format!("{kind} later"),
                State::Pending(_) => kind.to_string(),
                State::Notified(lease) => {
                    let run = lease
                        .run
                        .as_ref()
                        .map_or(String::new(), |run| format!(" round {}", run.round));
                    let cancel = if lease.cancel_requested { " cancelling" } else { "" };
                    assert!(lease.expires_at > NOW || before.lease().is_some());
                    let judging =
                        lease.judging.as_ref().map_or(String::new(), |why| format!(": {why}"));
                    format!("{kind} {} t{}{run}{cancel}{judging}", lease.worker, lease.token)
                }
                State::Completed(outcome) | State::Error(outcome) | State::Cancelled(outcome) => {
                    assert_eq!(outcome.finished_at, NOW);
                    format!("{kind} ({})", outcome.reason)
                }
            }
        }
    }
}

fn check(table: &str) {
    for row in table.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let before = job(cells[0]);
        let got = answer(&before, apply(&before, event(cells[1]), NOW));
        assert_eq!(got, cells[2], "in row: {row}");
    }
}

#[test]
fn every_event_of_a_worker_in_every_state() {
    check(
        "
        pending    | claim            | notified two t8
        delayed    | claim            | refused: it is not due
        notified   | claim            | refused: it is notified
        held       | claim            | refused: it is not due
        completed  | claim            | refused: it is completed
        error      | claim            | refused: it is error
        cancelled  | claim            | refused: it is cancelled

        notified   | start t7         | notified one t7 round 1
        running    | start t7         | already so
        running    | restart t7       | notified one t7 round 2
        cancelling | start t7         | notified one t7 round 1 cancelling
        notified   | start t6         | refused: the lease is lost
        pending    | start t7         | refused: the lease is lost
        completed  | start t7         | refused: the lease is lost
        error      | start t7         | refused: the lease is lost
        cancelled  | start t7         | refused: the lease is lost

        judging    | start t7         | already so
        judging    | restart t7       | notified one t7 round 2

        running    | judge t7         | notified one t7 round 1: git was killed
        judging    | judge t7         | already so
        judging    | judge-again t7   | notified one t7 round 1: no room
        running    | judge t6         | refused: the lease is lost
        pending    | judge t7         | refused: the lease is lost
        completed  | judge t7         | refused: the lease is lost
        error      | judge t7         | refused: the lease is lost
        cancelled  | judge t7         | refused: the lease is lost

        judging    | renew t7         | notified one t7 round 1: git was killed
        notified   | renew t7         | notified one t7
        lapsed     | renew t7         | notified one t7
        notified   | renew t8         | refused: the lease is lost
        pending    | renew t7         | refused: the lease is lost
        completed  | renew t7         | refused: the lease is lost
        error      | renew t7         | refused: the lease is lost
        cancelled  | renew t7         | refused: the lease is lost

        notified   | finish done t7   | completed (done)
        running    | finish done t7   | completed (done)
        lapsed     | finish done t7   | completed (done)
        notified   | finish done t6   | refused: the lease is lost
        pending    | finish done t7   | refused: the lease is lost
        completed  | finish done t7   | refused: the lease is lost
        error      | finish done t7   | refused: the lease is lost
        cancelled  | finish done t7   | refused: the lease is lost
        judging    | finish done t7   | completed (done)

        notified   | adopt t7         | notified two t9
        running    | adopt t7         | notified two t9 round 1
        cancelling | adopt t7         | notified two t9 cancelling
        judging    | adopt t7         | notified two t9 round 1: git was killed
        notified   | adopt t6         | refused: the lease is lost
        pending    | adopt t7         | refused: the lease is lost
        completed  | adopt t7         | refused: the lease is lost
        error      | adopt t7         | refused: the lease is lost
        cancelled  | adopt t7         | refused: the lease is lost
        ",
    );
}

#[test]
fn every_word_of_a_person_in_every_state() {
    check(
        "
        pending    | cancel           | cancelled (cancelled)
        delayed    | cancel           | cancelled (cancelled)
        held       | cancel           | cancelled (cancelled)
        judging    | cancel           | notified one t7 round 1 cancelling: git was killed
        running    | cancel           | notified one t7 round 1 cancelling
        cancelling | cancel           | already so
        completed  | cancel           | refused: it is completed
        error      | cancel           | refused: it is error
        cancelled  | cancel           | already so

        pending    | retry            | already so
        held       | retry            | pending
        notified   | retry            | refused: it is notified
        completed  | retry            | pending
        error      | retry            | pending
        cancelled  | retry            | pending

        pending    | edit later       | pending later
        delayed    | edit now         | pending
        delayed    | edit later       | already so
        held       | edit now         | pending
        held       | edit later       | pending later
        held       | edit message     | pending held
        pending    | edit message     | pending
        notified   | edit message     | refused: it is notified
        completed  | edit message     | refused: it is completed
        error      | edit message     | refused: it is error
        cancelled  | edit message     | refused: it is cancelled
        ",
    );
}

#[test]
fn what_each_failure_costs() {
    check(
        "
        running                     | finish agent_error     | pending later
        running spent-1             | finish agent_error     | error (agent_error)
        running spent-1 asks-for-3  | finish agent_error     | pending later
        running spent-2 asks-for-3  | finish agent_error     | error (agent_error)
        running                     | finish no_changes      | error (no_changes)
        running                     | finish uncommitted     | error (uncommitted)
        running                     | finish timeout         | error (timeout)
        running                     | finish idle_timeout    | error (idle_timeout)
        running                     | finish log_limit       | error (log_limit)
        running                     | finish worktree_failed | error (worktree_failed)
        running                     | finish step_limit      | error (step_limit)
        running                     | finish cost_limit      | error (cost_limit)
        running                     | finish off_branch      | error (off_branch)
        running                     | finish unmerged        | error (unmerged)
        running                     | finish unreadable      | error (unreadable)
        running                     | finish clone_damaged   | error (clone_damaged)
        running asks-for-3          | finish clone_damaged   | pending later
        running                     | finish updated         | completed (updated)
        running asks-for-3          | finish timeout         | pending later
        running asks-for-3 spent-1  | finish no_changes      | pending later
        running asks-for-3 spent-2  | finish no_changes      | error (no_changes)
        running spent-2             | finish lost            | pending later
        running lost-2              | finish lost            | error (lost)
        running spent-2             | finish start_failed    | pending later
        running unstarted-4         | finish start_failed    | error (start_failed)
        running spent-2 lost-2      | finish shutdown        | pending
        running spent-2 lost-2      | finish machine         | pending
        running                     | finish cancelled       | cancelled (cancelled)
        cancelling                  | finish deferred        | cancelled (cancelled)
        cancelling                  | finish done            | cancelled (cancelled)
        cancelling                  | finish agent_error     | cancelled (cancelled)
        cancelling                  | finish shutdown        | cancelled (cancelled)
        ",
    );
}

#[test]
fn an_attempt_is_remembered_and_a_retry_starts_the_budgets_anew() {
    let mut job = job("running spent-1 lost-2");
    for _ in 0..limits::ATTEMPTS_KEPT_MAX + 5 {
        job.state = self::job("running").state;
        let Ok(Next::Changed(next)) = apply(&job, event("finish agent_error"), NOW) else {
            panic!("a failure changes the job");
        };
        job = *next;
    }
    assert_eq!(job.attempts.len(), limits::ATTEMPTS_KEPT_MAX);
    assert_eq!(job.attempts[0].started_at, Some(Timestamp(950_000)));

    let Ok(Next::Changed(again)) = apply(&job, Event::Retry, NOW) else {
        panic!("an ended job can be retried");
    };
    assert_eq!(again.spent, Spent { claims: 1, claims_before: 1, ..Spent::default() });
    assert_eq!((job.first_attempt(), again.first_attempt()), (1, 2));
    assert_eq!(again.attempts.len(), limits::ATTEMPTS_KEPT_MAX);
}

/// Each row: a job, the end of its attempt, and how long it waits (or that it is held); then what
/// stands in a row against it.
fn check_free(table: &str) {
    for row in table.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let before = job(cells[0]);
        let Ok(Next::Changed(after)) = apply(&before, event(cells[1]), NOW) else {
            panic!("an end changes the job: {row}");
        };
        let State::Pending(pending) = &after.state else { panic!("{:?}: {row}", after.state) };
        let wait = if pending.is_held() { "held".into() } else { span(pending.run_at) };
        let Spent { deferred, interrupted, .. } = after.spent;
        assert_eq!(
            (wait.as_str(), deferred, interrupted),
            (cells[2], number(cells[3]), number(cells[4])),
            "in row: {row}"
        );
        assert_eq!(pending.since, NOW);
        let paid = Spent { deferred: 0, interrupted: 0, ..after.spent };
        assert_eq!(
            paid,
            Spent { deferred: 0, interrupted: 0, ..before.spent },
            "it is free: {row}"
        );
    }
}

fn number(text: &str) -> u32 {
    text.parse().expect("a number")
}

/// Milliseconds in the largest unit that leaves none over.
fn span(until: Timestamp) -> String {
    let ms = until.ms_since(NOW);
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let (unit, name) =
        units.into_iter().find(|(unit, _)| ms.is_multiple_of(*unit)).expect("1 ms fits");
    format!("{}{name}", ms / unit)
}

#[test]
fn what_comes_back_for_nothing_waits_and_is_held_in_the_end() {
    check_free(
        "
        running spent-2                 | finish deferred                           | 5m    | 1   | 0
        running deferred-1              | finish deferred                           | 10m   | 2   | 0
        running deferred-3              | finish deferred                           | 40m   | 4   | 0
        running deferred-4              | finish deferred                           | 1h    | 5   | 0
        running deferred-98             | finish deferred                           | 1h    | 99  | 0
        running deferred-99             | finish deferred                           | held  | 100 | 0
        running deferred-99             | finish deferred named-60000               | held  | 100 | 0
        running deferred-100            | finish deferred                           | held  | 101 | 0
        running                         | finish deferred named-0                   | 5m    | 1   | 0
        running deferred-1              | finish deferred named-0                   | 10m   | 2   | 0
        running                         | finish deferred named-1                   | 10s   | 1   | 0
        running                         | finish deferred named-10000               | 10s   | 1   | 0
        running                         | finish deferred named-10001               | 10001ms | 1 | 0
        running deferred-7              | finish deferred named-60000               | 1m    | 8   | 0
        running                         | finish deferred named-86400000            | 1d    | 1   | 0
        running                         | finish deferred named-86400001            | 1d    | 1   | 0
        running                         | finish deferred named-251575164947241     | 1d    | 1   | 0
        running                         | finish deferred hold                      | held  | 1   | 0
        running                         | finish provider_limit                     | 5m    | 1   | 0
        running deferred-2              | finish provider_limit                     | 20m   | 3   | 0
        running deferred-99             | finish provider_limit named-60000         | held  | 100 | 0
        running                         | finish provider_limit named-0             | 5m    | 1   | 0
        running                         | finish provider_limit named-1             | 10s   | 1   | 0
        running                         | finish provider_limit named-604800000     | 7d    | 1   | 0
        running                         | finish provider_limit named-691200000     | 8d    | 1   | 0
        running                         | finish provider_limit named-691200001     | 8d    | 1   | 0
        with-agent deferred-5           | finish provider_login                     | 0d    | 5   | 0
        with-agent deferred-5           | finish provider_login named-60000         | 0d    | 5   | 0
        running                         | finish provider_login                     | 5m    | 1   | 0
        running deferred-99             | finish provider_login                     | held  | 100 | 0
        running interrupted-3           | finish deferred                           | 5m    | 1   | 3
        running                         | finish interrupted                        | 1s    | 0   | 1
        running interrupted-1           | finish interrupted                        | 2s    | 0   | 2
        running interrupted-8           | finish interrupted                        | 256s  | 0   | 9
        running interrupted-9           | finish interrupted                        | 5m    | 0   | 10
        running interrupted-98          | finish interrupted                        | 5m    | 0   | 99
        running interrupted-99          | finish interrupted                        | held  | 0   | 100
        running interrupted-1           | finish interrupted named-60000            | 2s    | 0   | 2
        running deferred-6              | finish interrupted                        | 1s    | 6   | 1
        running deferred-6 interrupted-7 | finish machine                           | 0d    | 6   | 7
        running deferred-6 interrupted-7 | finish shutdown                          | 0d    | 6   | 7
        ",
    );
}

#[test]
fn what_is_paid_for_ends_a_row_and_so_does_a_person() {
    let spent = |words: &str, happened: &str| {
        let Ok(Next::Changed(after)) = apply(&job(words), event(happened), NOW) else {
            panic!("{happened} changes the job");
        };
        (
            after.spent.deferred,
            after.spent.interrupted,
            after.spent.attempts,
            after.spent.claims_before,
        )
    };
    let row = "running deferred-9 interrupted-8";
    assert_eq!(spent(row, "finish agent_error"), (0, 0, 1, 0));
    assert_eq!(spent(row, "finish lost"), (0, 0, 0, 0));
    assert_eq!(spent(row, "finish start_failed"), (0, 0, 0, 0));
    assert_eq!(spent(row, "finish timeout"), (0, 0, 1, 0));
    // The attempts so far still belong to a job that was held.
    let held = "held spent-2 deferred-100 interrupted-8";
    assert_eq!(spent(held, "retry"), (0, 0, 2, 0));
    assert_eq!(spent(held, "edit now"), (0, 0, 2, 0));
    assert_eq!(spent(held, "edit message"), (100, 8, 2, 0));
    assert_eq!(spent("delayed spent-2 deferred-9 interrupted-8", "edit now"), (9, 8, 2, 0));
    assert_eq!(spent("error spent-2 deferred-9 interrupted-8", "retry"), (0, 0, 0, 1));
}

#[test]
fn a_report_is_brought_within_its_bounds() {
    let kept = |report: Report| {
        let event = Event::Finish { token: Token(7), report, policy: POLICY, seed: 0 };
        let Ok(Next::Changed(mut next)) = apply(&job("running"), event, NOW) else {
            panic!("finishing changes the job");
        };
        next.attempts.remove(0).report
    };
    let new = || Report::new(Reason::Done, "so");
    let work = |length| Some("w".repeat(length));
    let longest = limits::WORK_BYTES_MAX;
    assert_eq!(kept(Report { work: work(longest), ..new() }).work, work(longest));
    assert_eq!(kept(Report { work: work(longest + 1), ..new() }).work, work(longest));
    for (tip, good) in [
        ("f1A0".repeat(16), true),
        ("f".into(), true),
        ("f1A0".repeat(16) + "f", false),
        ("".into(), false),
        ("-upload-pack=sh".into(), false),
        ("main".into(), false),
    ] {
        let report = kept(Report { tip: Some(tip.clone()), ..new() });
        assert_eq!(report.tip, good.then_some(tip));
    }
    let mut report = new();
    report.usage.cost_micros = u64::MAX;
    report.usage.steps = 3;
    let usage = kept(report).usage;
    assert_eq!((usage.cost_micros, usage.steps), (0, 3));
}

#[test]
fn details_are_cut_between_characters() {
    let mut report = Report::new(Reason::Done, "ü".repeat(limits::DETAIL_BYTES_MAX));
    report.detail.insert(0, 'x');
    let event = Event::Finish { token: Token(7), report, policy: POLICY, seed: 0 };
    let Ok(Next::Changed(next)) = apply(&job("running"), event, NOW) else {
        panic!("finishing changes the job");
    };
    let detail = &next.outcome().expect("it is completed").detail;
    assert_eq!(detail.len(), limits::DETAIL_BYTES_MAX - 1);
}
