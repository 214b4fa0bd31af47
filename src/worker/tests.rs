//! Scripts: at a time, an event, and the actions it must bring.

use crate::job::{
    Event as JobEvent, IssueRef, Job, JobId, NewJob, Next, Reason, Report, Token, WorkerId,
    transition,
};
use crate::time::{Monotonic, Timestamp};
use crate::worker::{Action, Ending, OnTerminate, Settings, WorkerEvent, WorkerState};

const SETTINGS: Settings = Settings {
    cap: 2,
    lease_ms: 30_000,
    poll_ms: 5_000,
    spawn_delay_ms: 1_000,
    once: false,
    on_terminate: OnTerminate::Detach,
};

fn claimed(number: u64, token: u64) -> Box<Job> {
    let issue: IssueRef = format!("h/o/r#{number}").parse().expect("a good reference");
    let job = Job::new(JobId(number), NewJob::new(issue, "fix"), Timestamp(0));
    let claim = JobEvent::Claim {
        worker: WorkerId("w".into()),
        token: Token(token),
        lease_ms: SETTINGS.lease_ms,
    };
    match transition::apply(&job, claim, Timestamp(0)) {
        Ok(Next::Changed(job)) => job,
        other => panic!("a due job can be claimed: {other:?}"),
    }
}

fn event(words: &str) -> WorkerEvent {
    let words: Vec<&str> = words.split(' ').collect();
    let number = || words[1].parse().expect("a number");
    match words[0] {
        "tick" => WorkerEvent::Tick,
        "woken" => WorkerEvent::Woken,
        "claimed" => WorkerEvent::Claimed(claimed(number(), number())),
        "nothing" => WorkerEvent::NothingToClaim { due_in_ms: None, unfinished: number() },
        "due" => WorkerEvent::NothingToClaim { due_in_ms: Some(number()), unfinished: 1 },
        "trouble" => WorkerEvent::StoreTrouble,
        "returned" => WorkerEvent::Returned {
            id: JobId(number()),
            token: Token(number()),
            ending: match words[2] {
                "left" => Ending::LeftAlone,
                _ => Ending::Over(Report::new(Reason::Done, "")),
            },
        },
        "settled" => WorkerEvent::Settled(JobId(number()), Token(number())),
        "unsettled" => WorkerEvent::NotSettled(JobId(number()), Token(number())),
        "seen" => WorkerEvent::Seen {
            id: JobId(number()),
            token: Token(words.get(3).map_or(number(), |token| token.parse().expect("a token"))),
            held: words[2] != "lost",
            cancel: words[2] == "cancel",
        },
        "again" => WorkerEvent::Claimed(claimed(number(), number() + 100)),
        "settled-again" => WorkerEvent::Settled(JobId(number()), Token(number() + 100)),
        "peeked" => WorkerEvent::Peeked,
        "adopted" => WorkerEvent::Adopted(claimed(number(), number() + 100)),
        "others" => WorkerEvent::OthersChanged,
        "recovered" => WorkerEvent::Recovered,
        "term" => WorkerEvent::Terminate,
        "int" => WorkerEvent::Interrupt,
        other => panic!("no such event: {other}"),
    }
}

fn show(action: &Action) -> String {
    match action {
        Action::Claim => "claim".into(),
        Action::Execute(job) => format!("execute {}", job.id),
        Action::Resume(job) => format!("resume {}", job.id),
        Action::SendStop(id, stop) => format!("stop {id} {stop:?}"),
        Action::Finish(id, _, report) => format!("finish {id} {}", report.reason),
        Action::LetGo(id, _) => format!("let-go {id}"),
        Action::Renew(leases) => format!("renew {}", leases.len()),
        Action::Peek(leases) => format!("peek {}", leases.len()),
        Action::Recover(own) => format!("recover but {}", own.len()),
        Action::Say(notice) => format!("say {notice:?}"),
        Action::Exit(exit) => format!("exit {exit:?}"),
    }
}

/// Each row: milliseconds, event, actions.
fn check(settings: Settings, script: &str) {
    let mut state = WorkerState::new(settings, Monotonic(0));
    for row in script.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let now = Monotonic(cells[0].parse().expect("milliseconds"));
        let actions = state.handle(event(cells[1]), now);
        let shown: Vec<String> = actions.iter().map(show).collect();
        assert_eq!(shown.join(", "), cells[2], "in row: {row}");
        assert!(state.next_deadline() > now || !shown.is_empty(), "spins after: {row}");
    }
}

#[test]
fn it_recovers_first_and_then_claims_up_to_its_cap_with_a_pause_between_starts() {
    check(
        SETTINGS,
        "
        0    | tick            | recover but 0
        10   | woken           |
        20   | recovered       | claim
        30   | claimed 1       | execute 1
        40   | woken           | peek 1
        41   | woken           |
        42   | peeked          | peek 1
        43   | peeked          |
        1029 | tick            |
        1030 | tick            | claim
        1040 | claimed 2       | execute 2
        2040 | tick            |
        2050 | returned 1 over | finish 1 done
        2060 | settled 1       | claim
        2070 | nothing 1       |
        2080 | woken           | peek 1, claim
        2090 | nothing 1       |
        ",
    );
}

#[test]
fn it_wakes_for_what_is_due_and_polls_behind_hints() {
    check(
        SETTINGS,
        "
        0    | tick            | recover but 0
        0    | recovered       | claim
        0    | due 700         |
        699  | tick            |
        700  | tick            | claim
        701  | nothing 0       |
        5000 | tick            | recover but 0, claim
        5001 | trouble         |
        5002 | recovered       | claim
        5003 | nothing 0       |
        ",
    );
}

#[test]
fn it_renews_at_a_third_and_keeps_quiet_about_what_it_lost() {
    check(
        Settings { cap: 1, poll_ms: 1_000_000, ..SETTINGS },
        "
        0     | tick            | recover but 0
        0     | recovered       | claim
        1     | claimed 1       | execute 1
        9999  | tick            |
        10000 | tick            | renew 1
        10001 | seen 1 held     |
        20000 | tick            | renew 1
        20001 | seen 1 lost 99  |
        20001 | seen 1 lost     | stop 1 LeaseLost
        20002 | seen 1 cancel   |
        20003 | returned 1 over | claim
        20004 | claimed 1       | execute 1
        ",
    );
}

#[test]
fn a_lost_job_that_comes_back_too_early_is_put_back() {
    check(
        SETTINGS,
        "
        0     | tick            | recover but 0
        0     | recovered       | claim
        1     | claimed 1       | execute 1
        1001  | tick            | claim
        1002  | again 1         | stop 1 LeaseLost, finish 1 shutdown
        1003  | settled-again 1 |
        5002  | tick            | peek 1, recover but 1
        6001  | tick            |
        6002  | tick            | claim
        6003  | nothing 1       |
        6004  | returned 1 over |
        ",
    );
}

#[test]
fn a_cancelled_job_is_told_once_and_its_end_is_written_until_it_is_there() {
    check(
        Settings { cap: 1, ..SETTINGS },
        "
        0     | tick            | recover but 0
        0     | recovered       | claim
        1     | claimed 1       | execute 1
        2     | woken           | peek 1
        2     | peeked          |
        3     | seen 1 cancel   | stop 1 Cancel
        4     | seen 1 cancel   |
        5     | returned 1 over | finish 1 done
        6     | unsettled 1     |
        5006  | tick            | finish 1 done, peek 1, recover but 1
        5007  | settled 1       | claim
        ",
    );
}

#[test]
fn once_ends_when_nothing_is_left_anywhere() {
    check(
        Settings { once: true, ..SETTINGS },
        "
        0    | tick            | recover but 0
        0    | recovered       | claim
        1    | nothing 1       |
        2    | woken           | claim
        3    | nothing 0       | exit Idle
        ",
    );
}

#[test]
fn a_supervisors_word_leaves_agents_to_their_shims() {
    check(
        SETTINGS,
        "
        0    | tick            | recover but 0
        0    | recovered       | claim
        1    | claimed 1       | execute 1
        1001 | tick            | claim
        1002 | term            | say Detaching(1), stop 1 Detach
        1003 | returned 1 left | let-go 1
        1004 | claimed 2       | execute 2, stop 2 Shutdown
        1005 | returned 2 over | finish 2 done
        1006 | settled 2       | exit Terminated
        ",
    );
}

#[test]
fn a_persons_word_waits_for_agents_and_a_second_one_ends_them() {
    check(
        SETTINGS,
        "
        0    | tick            | recover but 0
        0    | recovered       | claim
        1    | claimed 1       | execute 1
        2    | int             | say Draining(1)
        1500 | woken           | peek 1
        1501 | int             | say Stopping(1), stop 1 Shutdown
        1502 | int             |
        1503 | returned 1 over | finish 1 done
        1504 | settled 1       | exit Interrupted
        ",
    );
}

#[test]
fn a_worker_that_is_told_twice_does_not_wait_for_a_busy_store() {
    check(
        SETTINGS,
        "
        0 | tick            | recover but 0
        0 | recovered       | claim
        1 | claimed 1       | execute 1
        2 | int             | say Draining(1)
        3 | int             | say Stopping(1), stop 1 Shutdown
        4 | returned 1 over | finish 1 done
        5 | unsettled 1     | exit Interrupted
        ",
    );
}

#[test]
fn a_persons_word_to_an_idle_worker_ends_it() {
    check(
        SETTINGS,
        "
        0 | tick      | recover but 0
        0 | recovered | claim
        1 | nothing 0 |
        2 | int       | exit Interrupted
        ",
    );
}

#[test]
fn what_it_takes_over_counts_before_it_claims_and_may_be_more_than_its_cap() {
    check(
        SETTINGS,
        "
        0    | tick            | recover but 0
        1    | adopted 1       | resume 1
        2    | adopted 2       | resume 2
        3    | adopted 3       | resume 3
        4    | recovered       |
        5    | others          | recover but 3
        6    | others          |
        7    | recovered       | recover but 3
        8    | recovered       |
        9    | adopted 3       | let-go 3
        20   | term            | say Detaching(3), stop 1 Detach, stop 2 Detach, stop 3 Detach
        21   | adopted 4       | let-go 4
        ",
    );
}
