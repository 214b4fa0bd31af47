//! Scripts: at a time, an event, and the actions it must bring.

use crate::job::{
    Event as JobEvent, IssueRef, Job, JobId, NewJob, Next, Reason, Report, Token, WorkerId, limits,
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
        agent: None,
    };
    match transition::apply(&job, claim, Timestamp(0)) {
        Ok(Next::Changed(job)) => job,
        other => panic!("a due job can be claimed: {other:?}"),
    }
}

fn judging(number: u64, token: u64) -> Box<Job> {
    let judge = JobEvent::Judge { token: Token(token), why: "git was killed".into() };
    match transition::apply(&claimed(number, token), judge, Timestamp(0)) {
        Ok(Next::Changed(job)) => job,
        other => panic!("a notified job can be judged: {other:?}"),
    }
}

fn event(words: &str) -> WorkerEvent {
    let words: Vec<&str> = words.split(' ').collect();
    let number = || words[1].parse().expect("a number");
    match words[0] {
        "tick" => WorkerEvent::Tick,
        "woken" => WorkerEvent::Woken,
        "claimed" => WorkerEvent::Claimed(claimed(number(), number())),
        "nothing" => {
            WorkerEvent::NothingToClaim { due_in_ms: None, unfinished: number(), stuck: 0 }
        }
        "stuck" => WorkerEvent::NothingToClaim {
            due_in_ms: None,
            unfinished: number(),
            stuck: words[2].parse().expect("a number"),
        },
        "due" => WorkerEvent::NothingToClaim { due_in_ms: Some(number()), unfinished: 1, stuck: 0 },
        "no-room" => WorkerEvent::MachineTrouble("no room".into()),
        "well" => WorkerEvent::Examined(Ok(())),
        "ill" => WorkerEvent::Examined(Err("no room".into())),
        "trouble" => WorkerEvent::StoreTrouble,
        "returned-again" => WorkerEvent::Returned {
            id: JobId(number()),
            token: Token(number() + 100),
            ending: Ending::Over(Report::new(Reason::Shutdown, "its worker was gone")),
        },
        "returned" => WorkerEvent::Returned {
            id: JobId(number()),
            token: Token(number()),
            ending: match words[2] {
                "left" => Ending::LeftAlone,
                "over" => Ending::Over(Report::new(Reason::Done, "")),
                reason => Ending::Over(Report::new(reason.parse().expect("a reason"), "no room")),
            },
        },
        "settled" => WorkerEvent::Settled(JobId(number()), Token(number())),
        "unsettled" => WorkerEvent::NotSettled(JobId(number()), Token(number())),
        "seen" => WorkerEvent::Seen {
            id: JobId(number()),
            token: Token(words.get(3).map_or(number(), |token| token.parse().expect("a token"))),
            held: words[2] != "lost",
            cancel: words[2] == "cancel",
            judging: words[2] == "judging",
        },
        "again" => WorkerEvent::Claimed(claimed(number(), number() + 100)),
        "settled-again" => WorkerEvent::Settled(JobId(number()), Token(number() + 100)),
        "peeked" => WorkerEvent::Peeked,
        "adopted" => WorkerEvent::Adopted(claimed(number(), number() + 100)),
        "adopted-judging" => WorkerEvent::Adopted(judging(number(), number() + 100)),
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
        Action::Examine => "examine".into(),
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

#[test]
fn a_machine_in_trouble_gets_no_job_until_an_examination_finds_it_well() {
    check(
        SETTINGS,
        "
        0     | tick               | recover but 0
        0     | recovered          | claim
        1     | claimed 1          | execute 1
        1001  | tick               | claim
        1002  | claimed 2          | execute 2
        2001  | returned 1 machine | say Trouble(\"no room\"), finish 1 machine
        2002  | settled 1          |
        2003  | no-room            |
        2004  | woken              | peek 1
        2005  | peeked             |
        2006  | returned 2 machine | finish 2 machine
        2007  | unsettled 2        |
        5000  | tick               | peek 1
        5001  | peeked             |
        7000  | tick               |
        7001  | tick               | examine
        7002  | tick               |
        7003  | woken              | peek 1
        7004  | peeked             |
        7005  | ill                |
        7007  | tick               | finish 2 machine
        7008  | unsettled 2        |
        10000 | tick               | renew 1, peek 1
        10001 | peeked             |
        12004 | tick               |
        12005 | tick               | examine
        12007 | well               | say TroubleOver, finish 2 machine, recover but 1, claim
        12008 | nothing 1          |
        12009 | settled 2          | claim
        12010 | well               |
        ",
    );
}

#[test]
fn trouble_that_examinations_do_not_see_is_waited_for_longer_each_time() {
    check(
        Settings { cap: 1, spawn_delay_ms: 0, poll_ms: 1_000_000, lease_ms: 3_000_000, ..SETTINGS },
        "
        0     | tick               | recover but 0
        0     | recovered          | claim
        1     | claimed 1          | execute 1
        10    | returned 1 machine | say Trouble(\"no room\"), finish 1 machine
        11    | settled 1          |
        5010  | tick               | examine
        5010  | well               | say TroubleOver, claim
        5011  | claimed 1          | execute 1
        5020  | returned 1 machine | say Trouble(\"no room\"), finish 1 machine
        5021  | settled 1          |
        15019 | tick               |
        15020 | tick               | examine
        15020 | well               | say TroubleOver, claim
        15021 | claimed 1          | execute 1
        15030 | returned 1 over    | finish 1 done
        15031 | settled 1          | claim
        15031 | claimed 2          | execute 2
        15040 | returned 2 machine | say Trouble(\"no room\"), finish 2 machine
        15041 | settled 2          |
        20040 | tick               | examine
        ",
    );
}

#[test]
fn trouble_keeps_it_but_not_from_ending_when_it_is_told_to() {
    let once = Settings { once: true, ..SETTINGS };
    check(
        once.clone(),
        "
        0    | tick      | recover but 0
        0    | recovered | claim
        1    | no-room   | say Trouble(\"no room\")
        1    | nothing 0 |
        5001 | tick      | examine
        5002 | well      | say TroubleOver, recover but 0, claim
        5003 | nothing 0 | exit Idle
        ",
    );
    check(
        once,
        "
        0    | tick      | recover but 0
        0    | recovered | claim
        1    | trouble   |
        1    | no-room   | say Trouble(\"no room\")
        2    | term      | exit Terminated
        ",
    );
}

#[test]
fn once_ends_when_only_a_person_can_let_the_rest_go_on() {
    check(
        Settings { once: true, ..SETTINGS },
        "
        0    | tick            | recover but 0
        0    | recovered       | claim
        1    | stuck 3 2       |
        2    | woken           | claim
        3    | stuck 3 3       | say Stuck(3), exit Idle
        ",
    );
    check(
        SETTINGS,
        "
        0    | tick            | recover but 0
        0    | recovered       | claim
        3    | stuck 3 3       |
        ",
    );
}

#[test]
fn what_is_being_judged_leaves_its_place_to_another_job() {
    check(
        Settings { cap: 1, spawn_delay_ms: 0, ..SETTINGS },
        "
        0    | tick                | recover but 0
        0    | adopted-judging 7   | resume 7
        0    | recovered           | claim
        1    | claimed 1           | execute 1
        2    | woken               | peek 2
        3    | seen 1 judging      | claim
        4    | peeked              |
        5    | claimed 2           | execute 2
        6    | seen 1 held         |
        7    | returned 2 over     | finish 2 done
        8    | settled 2           |
        9    | seen 1 judging      | claim
        10   | nothing 2           |
        11   | seen 1 cancel       | stop 1 Cancel
        12   | int                 | say Draining(2), stop 7 Detach
        13   | returned 1 over     | finish 1 done
        14   | settled 1           |
        ",
    );
    check(
        Settings { cap: 1, ..SETTINGS },
        "
        0    | tick                | recover but 0
        0    | recovered           | claim
        1    | claimed 1           | execute 1
        2    | int                 | say Draining(1)
        3    | woken               | peek 1
        4    | seen 1 judging      | stop 1 Detach
        5    | returned 1 left     | let-go 1, exit Interrupted
        ",
    );
}

#[test]
fn no_more_than_so_many_are_judged_beside_the_cap() {
    let mut state = WorkerState::new(SETTINGS, Monotonic(0));
    state.handle(WorkerEvent::Tick, Monotonic(0));
    let max = limits::JUDGING_MAX + u64::from(SETTINGS.cap) - 1;
    for number in 1..=max {
        state.handle(WorkerEvent::Adopted(judging(number, number)), Monotonic(0));
    }
    let claims = |actions: Vec<Action>| actions.contains(&Action::Claim);
    assert!(claims(state.handle(WorkerEvent::Recovered, Monotonic(0))));
    let nothing = WorkerEvent::NothingToClaim { due_in_ms: None, unfinished: max, stuck: 0 };
    state.handle(nothing, Monotonic(0));
    state.handle(WorkerEvent::Adopted(judging(max + 1, max + 1)), Monotonic(0));
    assert!(!claims(state.handle(WorkerEvent::Woken, Monotonic(0))));
}

#[test]
fn a_shutdown_that_no_worker_ordered_is_an_interruption() {
    check(
        Settings { spawn_delay_ms: 0, ..SETTINGS },
        "
        0    | tick                | recover but 0
        0    | adopted 3           | resume 3
        0    | recovered           | claim
        1    | claimed 1           | execute 1
        2    | returned 1 shutdown | finish 1 interrupted
        2    | returned-again 3    | finish 3 shutdown
        4    | settled 1           | claim
        4    | settled-again 3     |
        4    | claimed 2           | execute 2, claim
        5    | term                | say Detaching(1), stop 2 Detach
        6    | returned 2 shutdown | finish 2 shutdown
        ",
    );
}

#[test]
fn settings_of_nothing_do_not_make_it_spin() {
    let settings = Settings { poll_ms: 0, lease_ms: 0, spawn_delay_ms: 0, ..SETTINGS };
    let mut state = WorkerState::new(settings, Monotonic(0));
    state.handle(WorkerEvent::Tick, Monotonic(0));
    state.handle(WorkerEvent::Recovered, Monotonic(0));
    state.handle(WorkerEvent::Claimed(claimed(1, 1)), Monotonic(0));
    let nothing = WorkerEvent::NothingToClaim { due_in_ms: None, unfinished: 1, stuck: 0 };
    state.handle(nothing, Monotonic(0));
    assert_eq!(state.next_deadline(), Monotonic(limits::POLL_MS_MIN));
    let actions = state.handle(WorkerEvent::Tick, Monotonic(limits::POLL_MS_MIN));
    let renews = |action: &Action| matches!(action, Action::Renew(_));
    assert!(actions.iter().any(renews), "a lease of nothing would lapse at once: {actions:?}");
}
