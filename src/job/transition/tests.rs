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
    };
    let outcome =
        Outcome { reason: Reason::Done, detail: String::new(), finished_at: Timestamp(990_000) };
    for word in words.split(' ') {
        match word {
            "pending" => {}
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
            "completed" => job.state = State::Completed(outcome.clone()),
            "error" => job.state = State::Error(outcome.clone()),
            "cancelled" => job.state = State::Cancelled(outcome.clone()),
            "asks-for-3" => job.max_attempts = Some(3),
            "spent-1" => job.spent.attempts = 1,
            "spent-2" => job.spent.attempts = 2,
            "lost-2" => job.spent.lost = 2,
            "unstarted-4" => job.spent.start_failed = 4,
            "deferred-99" => job.spent.deferred = 99,
            other => panic!("no such word: {other}"),
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
        Report::new(reason.unwrap_or_else(|| panic!("no such reason: {}", words[1])), "so it was")
    };
    match words[0] {
        "claim" => {
            Event::Claim { worker: WorkerId("two".into()), token: Token(8), lease_ms: 60_000 }
        }
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
                State::Pending(pending) if pending.run_at > NOW => format!("{kind} later"),
                State::Pending(_) => kind.to_string(),
                State::Notified(lease) => {
                    let run = lease
                        .run
                        .as_ref()
                        .map_or(String::new(), |run| format!(" round {}", run.round));
                    let cancel = if lease.cancel_requested { " cancelling" } else { "" };
                    assert!(lease.expires_at > NOW || before.lease().is_some());
                    format!("{kind} {} t{}{run}{cancel}", lease.worker, lease.token)
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
fn every_event_in_every_state() {
    check(
        "
        pending    | claim            | notified two t8
        delayed    | claim            | refused: it is not due
        notified   | claim            | refused: it is notified
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


        notified   | adopt t7         | notified two t9
        running    | adopt t7         | notified two t9 round 1
        cancelling | adopt t7         | notified two t9 cancelling
        notified   | adopt t6         | refused: the lease is lost
        pending    | adopt t7         | refused: the lease is lost
        completed  | adopt t7         | refused: the lease is lost
        error      | adopt t7         | refused: the lease is lost
        cancelled  | adopt t7         | refused: the lease is lost

        pending    | cancel           | cancelled (cancelled)
        delayed    | cancel           | cancelled (cancelled)
        running    | cancel           | notified one t7 round 1 cancelling
        cancelling | cancel           | already so
        completed  | cancel           | refused: it is completed
        error      | cancel           | refused: it is error
        cancelled  | cancel           | already so

        pending    | retry            | already so
        notified   | retry            | refused: it is notified
        completed  | retry            | pending
        error      | retry            | pending
        cancelled  | retry            | pending

        pending    | edit later       | pending later
        delayed    | edit now         | pending
        delayed    | edit later       | already so
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
        running spent-2             | finish deferred        | pending later
        running deferred-99         | finish deferred        | error (deferred)
        running spent-2 lost-2      | finish shutdown        | pending
        running spent-2 lost-2      | finish machine         | pending
        running                     | finish cancelled       | cancelled (cancelled)
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
    assert_eq!(again.spent, Spent { claims: 1, ..Spent::default() });
    assert_eq!(again.attempts.len(), limits::ATTEMPTS_KEPT_MAX);
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
