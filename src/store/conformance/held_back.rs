//! What holds jobs back, and what leaves its place to others.

use crate::job::{AgentKey, Edit, Event, JobId, NewJob, Reason, Report, Token, WorkerId, limits};
use crate::store::conformance::{Bench, LEASE_MS, claim_by, issue_ref, lost_lease, token};
use crate::store::{Claim, NothingToClaim, Op, OpRefused, Reply};
use crate::time::Clock;

pub(super) fn an_agents_pause_has_a_bound_and_a_name(bench: &Bench) {
    let id = bench.enqueue("h/o/r#1");
    let pausing = |defer_ms| {
        let mut report = Report::new(Reason::Deferred, "429");
        (report.defer_ms, report.pause) = (defer_ms, true);
        report
    };
    bench.report(&bench.claim(), pausing(Some(u64::MAX)));
    let now = bench.clock.now();
    let until = Some(now.plus_ms(limits::DEFERRED_MS_MAX));
    let paused = bench.paused().expect("it is paused");
    assert_eq!((paused.until, paused.since, paused.job), (until, Some(now), Some(id)));
    assert_eq!(paused.why, "429");
    assert_eq!(bench.try_claim(9), Err(NothingToClaim::Paused { until }));
    let Ok(Reply::Resumed(resumed)) = bench.one(Op::Resume) else { panic!("it was paused") };
    assert_eq!((resumed.paused, resumed.holds.len()), (Some(paused), 0));
    let Ok(Reply::Resumed(resumed)) = bench.one(Op::Resume) else { panic!("it is no refusal") };
    assert_eq!(resumed.paused, None);
    // A shorter pause, or one that a provider's limit asks for, changes nothing.
    bench.one(Op::Apply(id, Event::Retry)).expect("it is pending");
    bench.clock.advance_ms(limits::DEFERRED_MS_MAX);
    let running = bench.claim();
    bench.one(Op::Pause { until: None }).expect("a pause");
    bench.report(&running, pausing(Some(60_000)));
    assert_eq!(bench.paused().map(|paused| (paused.until, paused.job)), Some((None, None)));
    bench.one(Op::Resume).expect("a resume");
    bench.clock.advance_ms(60_000);
    let mut limit = pausing(Some(60_000));
    limit.reason = Reason::ProviderLimit;
    bench.report(&bench.claim(), limit);
    assert_eq!(bench.paused(), None);
}

fn key(text: &str) -> AgentKey {
    text.parse().expect("a good key")
}

pub(super) fn a_limit_holds_back_its_agent_command_alone(bench: &Bench) {
    for issue in 1..=5 {
        bench.enqueue(&format!("h/o/r#{issue}"));
    }
    let by = |agent: &str| Claim { agent: Some(key(agent)), ..claim_by("one", 1000) };
    let claim = |agent: &str| match bench.one(Op::Claim(by(agent))) {
        Ok(Reply::Claimed(job)) => Ok(*job),
        Ok(Reply::NothingToClaim(why)) => Err(why),
        other => panic!("not an answer to a claim: {other:?}"),
    };
    let jobs = [claim("a-1"), claim("a-1"), claim("a-1")].map(|job| job.expect("there are five"));
    assert_eq!(jobs[0].lease().and_then(|lease| lease.agent.clone()), Some(key("a-1")));
    let limit = |ms| {
        let mut report = Report::new(Reason::ProviderLimit, format!("limit of {ms}"));
        report.defer_ms = Some(ms);
        report
    };
    let started = bench.clock.now();
    let until = |ms| Some(started.plus_ms(ms));
    bench.report(&jobs[0], limit(60_000));
    assert_eq!(claim("a-1"), Err(NothingToClaim::Held { until: until(60_000) }));
    // A longer one takes its place, a shorter one does not.
    bench.report(&jobs[1], limit(90_000));
    bench.report(&jobs[2], limit(70_000));
    assert_eq!(claim("a-1"), Err(NothingToClaim::Held { until: until(90_000) }));
    let holds = bench.store.stats().expect("a read").holds;
    assert_eq!(holds.len(), 1);
    assert_eq!((holds[0].agent.as_str(), holds[0].since), ("a-1", started));
    assert_eq!((holds[0].why.as_str(), holds[0].job), ("limit of 90000", jobs[1].id));
    let position = bench.store.position(JobId(4), 9).expect("a read").expect("it is there");
    assert_eq!(position.holds, holds);
    let new = || NewJob::new(issue_ref("h/o/r#9"), "now");
    let refused = bench.one(Op::Launch(new(), by("a-1")));
    assert_eq!(refused, Err(OpRefused::AgentHeld(Box::new(holds[0].clone()))));
    // Others go on, and so do those that name no command.
    assert_eq!(claim("b-1").expect("another command").id, JobId(4));
    assert_eq!(bench.claim().id, JobId(5));
    assert!(bench.one(Op::Launch(new(), by("b-1"))).is_ok());
    bench.clock.advance_ms(89_999);
    assert!(matches!(claim("a-1"), Err(NothingToClaim::Held { .. })));
    bench.clock.advance_ms(1);
    let stats = bench.store.stats().expect("a read");
    assert_eq!(stats.stuck(Some(&key("a-1"))), 0);
    assert_eq!(stats.holds, [], "it has ended by itself");
    let again = claim("a-1").expect("it goes on");
    bench.report(&again, limit(0));
    let first = Some(bench.clock.now().plus_ms(2 * limits::POSTPONED_MS_FIRST));
    assert_eq!(claim("a-1"), Err(NothingToClaim::Held { until: first }), "the second in a row");
}

pub(super) fn a_login_holds_its_agent_command_until_it_is_lifted(bench: &Bench) {
    for issue in 1..=3 {
        bench.enqueue(&format!("h/o/r#{issue}"));
    }
    let by = |agent: &str| Claim { agent: Some(key(agent)), ..claim_by("one", 1000) };
    let claim = |agent: &str| match bench.one(Op::Claim(by(agent))) {
        Ok(Reply::Claimed(job)) => Ok(*job),
        Ok(Reply::NothingToClaim(why)) => Err(why),
        other => panic!("not an answer to a claim: {other:?}"),
    };
    let jobs = [claim("a-1"), claim("a-1")].map(|job| job.expect("there are three"));
    bench.report(&jobs[0], Report::new(Reason::ProviderLogin, "no credit"));
    // A limit ends earlier.
    bench.report(&jobs[1], Report::new(Reason::ProviderLimit, "429"));
    assert_eq!(claim("a-1"), Err(NothingToClaim::Held { until: None }));
    bench.clock.advance_ms(limits::PROVIDER_LIMIT_MS_MAX);
    assert_eq!(claim("a-1"), Err(NothingToClaim::Held { until: None }));
    let stats = bench.store.stats().expect("a read");
    assert_eq!(stats.stuck(Some(&key("a-1"))), 3, "only a person frees them");
    assert_eq!((stats.stuck(Some(&key("b-1"))), stats.stuck(None)), (0, 0));
    let Ok(Reply::Resumed(resumed)) = bench.one(Op::Resume) else { panic!("it was held") };
    assert_eq!((resumed.paused, resumed.holds), (None, stats.holds));
    let again = claim("a-1").expect("it is due at once");
    assert_eq!((again.id, again.spent.deferred), (jobs[0].id, 0));
    assert_eq!(bench.store.stats().expect("a read").holds, []);
}

pub(super) fn holds_have_a_bound(bench: &Bench) {
    let max = u64::try_from(limits::HOLDS_MAX).expect("it is small");
    for number in 0..=max {
        bench.enqueue(&format!("h/o/r#{}", number + 1));
        let agent = Some(key(&format!("a-{number:03}")));
        let Ok(Reply::Claimed(job)) =
            bench.one(Op::Claim(Claim { agent, ..claim_by("one", 1000) }))
        else {
            panic!("it is due")
        };
        let mut report = match number {
            0 => Report::new(Reason::ProviderLogin, "no credit"),
            _ => Report::new(Reason::ProviderLimit, "429"),
        };
        // The fifth ends first.
        report.defer_ms = Some(if number == 5 { 60_000 } else { 90_000 + number });
        bench.report(&job, report);
    }
    let holds = bench.store.stats().expect("a read").holds;
    let keys: Vec<&str> = holds.iter().map(|hold| hold.agent.as_str()).collect();
    assert_eq!(keys.len(), limits::HOLDS_MAX);
    assert!(keys.is_sorted() && !keys.contains(&"a-005"), "{keys:?}");
    assert!(keys.contains(&"a-000") && keys.contains(&"a-100"), "{keys:?}");
}

pub(super) fn held_jobs_wait_for_a_person(bench: &Bench) {
    let ids = ["h/o/r#1", "h/o/r#2", "h/o/r#3"].map(|issue| bench.enqueue(issue));
    let hold = || {
        let mut report = Report::new(Reason::Deferred, "changes in the old folder");
        report.hold = true;
        report
    };
    for _ in 0..3 {
        bench.report(&bench.claim(), hold());
    }
    let held = |expected| {
        let stats = bench.store.stats().expect("a read");
        assert_eq!(
            (stats.pending, stats.held, stats.stuck(None), stats.next_due),
            (3, expected, expected, None)
        );
    };
    held(3);
    bench.clock.advance_ms(limits::DURATION_MS_MAX);
    assert_eq!(bench.try_claim(9), Err(NothingToClaim::NoneDue { next_at: None }));
    // It is an unfinished job of its issue all the same.
    let idle = NewJob { only_if_idle: true, ..NewJob::new(issue_ref("h/o/r#1"), "fix") };
    assert_eq!(bench.enqueue_new(idle), (ids[0], false));
    bench.one(Op::Apply(ids[0], Event::Retry)).expect("it is freed");
    let edit = Edit { run_at: Some(bench.clock.now()), ..Edit::default() };
    bench.one(Op::Apply(ids[1], Event::Edit(edit))).expect("it is freed");
    held(1);
    assert_eq!([bench.claim().id, bench.claim().id], [ids[0], ids[1]]);
    bench.one(Op::Apply(ids[2], Event::Cancel)).expect("it is called off");
    let stats = bench.store.stats().expect("a read");
    assert_eq!((stats.pending, stats.held, stats.cancelled), (0, 0, 1));
}

pub(super) fn what_is_being_judged_does_not_count_against_the_cap(bench: &Bench) {
    for issue in 1..=3 {
        bench.enqueue(&format!("h/o/r#{issue}"));
    }
    let job = bench.try_claim(1).expect("one of one");
    let judge = |token| Op::Apply(job.id, Event::Judge { token, why: "git was killed".into() });
    assert_eq!(bench.one(judge(Token(99))), lost_lease(job.id));
    assert_eq!(bench.try_claim(1), Err(NothingToClaim::CapReached));
    assert!(matches!(bench.one(judge(token(&job))), Ok(Reply::Changed(_))));
    assert!(matches!(bench.one(judge(token(&job))), Ok(Reply::AlreadySo(_))));
    let stats = bench.store.stats().expect("a read");
    assert_eq!((stats.notified, stats.judging), (1, 1));
    let position = bench.store.position(JobId(3), 9).expect("a read").expect("it is there");
    assert_eq!(position.notified, 0);
    // Its issue stays taken.
    bench.enqueue_new(NewJob { priority: 9, ..NewJob::new(issue_ref("h/o/r#1"), "more") });
    assert_eq!(bench.try_claim(1).expect("its place is free").id, JobId(2));
    assert_eq!(bench.try_claim(1), Err(NothingToClaim::CapReached));
    let worker = WorkerId("two".into());
    let adopt = Op::Adopt { job: job.id, token: token(&job), worker, lease_ms: LEASE_MS };
    let Ok(Reply::Changed(adopted)) = bench.one(adopt) else { panic!("it can be adopted") };
    assert!(adopted.is_judging());
    assert!(bench.finish(&adopted, Reason::Done).is_ok());
    let stats = bench.store.stats().expect("a read");
    assert_eq!((stats.notified, stats.judging, stats.completed), (1, 0, 1));
}

pub(super) fn not_too_many_are_judged_beside_the_cap(bench: &Bench) {
    for number in 1..=limits::JUDGING_MAX + 2 {
        bench.enqueue(&format!("h/o/r#{number}"));
        let job = bench.try_claim(2).expect("those before it do not count");
        let judge = Event::Judge { token: token(&job), why: "git was killed".into() };
        bench.one(Op::Apply(job.id, judge)).expect("the lease is ours");
    }
    bench.enqueue("h/o/r#100");
    assert_eq!(bench.try_claim(2), Err(NothingToClaim::CapReached));
    assert!(bench.try_claim(3).is_ok());
}
