//! One suite that every backend passes.
//!
//! A backend calls [`check`] with a function that makes an empty store on a given clock.

mod held_back;

use std::sync::Arc;

use crate::job::{
    Event, IssueRef, Job, JobId, NewJob, Reason, Refused, Report, RetryPolicy, Session, StateKind,
    Token, WorkerId,
};
use crate::store::{Answer, Claim, ListQuery, NothingToClaim, Op, OpRefused, Paused, Reply, Store};
use crate::testing::SimClock;
use crate::time::{Clock, Timestamp};

const START_MS: u64 = 1_000_000;
const LEASE_MS: u64 = 60_000;

/// Makes an empty store.
pub type Make<'m> = &'m dyn Fn(Arc<dyn Clock>) -> Box<dyn Store>;

/// Runs the whole suite.
///
/// # Panics
///
/// On the first answer that is not the one a store must give.
pub fn check(make: Make<'_>) {
    for case in [
        claims_follow_priority_then_age as fn(&Bench),
        one_issue_runs_one_job_at_a_time,
        the_cap_counts_rows,
        delayed_jobs_wait_for_their_time,
        a_request_id_is_answered_once,
        an_idle_issue_takes_one_job,
        stale_tokens_change_nothing,
        an_adoption_takes_the_lease,
        a_launch_is_whole_or_nothing,
        a_pause_holds_claims_until_its_end,
        held_back::an_agents_pause_has_a_bound_and_a_name,
        held_back::a_limit_holds_back_its_agent_command_alone,
        held_back::a_login_holds_its_agent_command_until_it_is_lifted,
        held_back::holds_have_a_bound,
        held_back::held_jobs_wait_for_a_person,
        held_back::what_is_being_judged_does_not_count_against_the_cap,
        held_back::not_too_many_are_judged_beside_the_cap,
        refusals_do_not_hold_up_the_rest_of_a_commit,
        lists_are_ordered_and_counted,
        a_job_stands_behind_those_that_go_first,
        sessions_are_kept,
        jobs_move_from_one_queue_to_another,
        changes_wake_watchers,
        bad_requests_are_refused,
        removed_jobs_leave_nothing,
    ] {
        let clock = Arc::new(SimClock::at(START_MS));
        let bench = Bench { store: make(clock.clone()), clock };
        case(&bench);
        assert_eq!(bench.store.verify().expect("verify reads"), Vec::<String>::new());
    }
}

struct Bench {
    store: Box<dyn Store>,
    clock: Arc<SimClock>,
}

impl Bench {
    fn one(&self, op: Op) -> Answer {
        let mut answers = self.store.commit(vec![op]).expect("the store takes the commit");
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    fn enqueue_new(&self, new: NewJob) -> (JobId, bool) {
        match self.one(Op::Enqueue(new)) {
            Ok(Reply::Enqueued { job, new }) => (job.id, new),
            other => panic!("not enqueued: {other:?}"),
        }
    }

    fn enqueue(&self, issue: &str) -> JobId {
        self.enqueue_new(NewJob::new(issue_ref(issue), "fix")).0
    }

    fn try_claim(&self, cap: u32) -> Result<Job, NothingToClaim> {
        match self.one(Op::Claim(claim_by("one", cap))) {
            Ok(Reply::Claimed(job)) => Ok(*job),
            Ok(Reply::NothingToClaim(why)) => Err(why),
            other => panic!("not an answer to a claim: {other:?}"),
        }
    }

    fn claim(&self) -> Job {
        self.try_claim(1000).expect("there is a job to claim")
    }

    fn finish(&self, job: &Job, reason: Reason) -> Answer {
        self.one(Op::Apply(job.id, finish(token(job), reason)))
    }

    fn report(&self, job: &Job, report: Report) {
        let policy = RetryPolicy::default();
        let finish = Event::Finish { token: token(job), report, policy, seed: 1 };
        self.one(Op::Apply(job.id, finish)).expect("the lease is ours");
    }

    fn paused(&self) -> Option<Paused> {
        self.store.stats().expect("a read").paused
    }

    fn kind(&self, id: JobId) -> StateKind {
        self.store.get(id).expect("a read").expect("the job is there").state.kind()
    }

    fn ids(&self, states: &[StateKind], limit: usize) -> (Vec<u64>, u64) {
        let query = ListQuery { states: states.to_vec(), issue: None, limit };
        let page = self.store.list(&query).expect("a read");
        (page.items.iter().map(|job| job.id.0).collect(), page.total)
    }
}

fn issue_ref(text: &str) -> IssueRef {
    text.parse().expect("a good reference")
}

fn claim_by(worker: &str, cap: u32) -> Claim {
    Claim::new(WorkerId(worker.into()), cap, LEASE_MS)
}

fn token(job: &Job) -> Token {
    job.lease().expect("the job is notified").token
}

fn finish(token: Token, reason: Reason) -> Event {
    let report = Report::new(reason, "so it was");
    Event::Finish { token, report, policy: RetryPolicy::default(), seed: 1 }
}

fn lost_lease(id: JobId) -> Answer {
    Err(OpRefused::Transition(id, Refused::LeaseLost))
}

fn claims_follow_priority_then_age(bench: &Bench) {
    for (issue, priority) in [("h/o/r#1", 0), ("h/o/r#2", 5), ("h/o/r#3", -5), ("h/o/r#4", 5)] {
        bench.enqueue_new(NewJob { priority, ..NewJob::new(issue_ref(issue), "fix") });
    }
    let order: Vec<u64> = (0..4).map(|_| bench.claim().id.0).collect();
    assert_eq!(order, [2, 4, 1, 3]);
    assert_eq!(bench.try_claim(1000), Err(NothingToClaim::NoneDue { next_at: None }));
}

fn a_job_stands_behind_those_that_go_first(bench: &Bench) {
    let mut ids = Vec::new();
    for (issue, priority, delay_ms) in [
        (1, 0, 0),
        (1, 5, 0),
        (2, 5, 10),
        (3, 5, 0),
        (3, -5, 0),
        (4, 0, 10),
        (5, -5, 0),
        (5, 9, 10),
        (6, 9, 10_000),
    ] {
        let new = NewJob::new(issue_ref(&format!("h/o/r#{issue}")), "fix");
        let run_at = Some(Timestamp(START_MS + delay_ms));
        ids.push(bench.enqueue_new(NewJob { priority, run_at, ..new }).0);
    }
    let check = |id: u64, limit: usize, expected: (u64, Option<u64>, Option<u64>, usize)| {
        let found = bench.store.position(JobId(id), limit).expect("a read").expect("it is there");
        assert_eq!(found.job.id, JobId(id));
        let number = |id: Option<JobId>| id.map(|id| id.0);
        let (running, first) = (number(found.running_of_issue), number(found.first_of_issue));
        assert_eq!((found.notified, running, first, found.ahead), expected, "job {id}");
    };
    assert_eq!(bench.store.position(JobId(99), 9).expect("a read"), None);
    check(1, 9, (0, None, Some(2), 1));
    check(3, 9, (0, None, None, 1));
    check(7, 9, (0, None, Some(7), 2));
    check(7, 1, (0, None, Some(7), 1));
    // Time passes, and nobody claims.
    bench.clock.advance_ms(10);
    check(1, 9, (0, None, Some(2), 3));
    check(7, 9, (0, None, Some(8), 4));
    check(8, 9, (0, None, Some(8), 0));
    check(7, 3, (0, None, Some(8), 3));
    let claimed = bench.claim();
    assert_eq!(claimed.id, ids[7]);
    check(7, 9, (1, Some(8), Some(7), 4));
    check(4, 9, (1, None, Some(4), 2));
    check(6, 9, (1, None, Some(6), 3));
    check(8, 9, (1, Some(8), Some(7), 0));
    bench.one(Op::Pause { until: None }).expect("a pause");
    let found = bench.store.position(JobId(1), 9).expect("a read").expect("it is there");
    assert!(found.paused.is_some());
}

fn one_issue_runs_one_job_at_a_time(bench: &Bench) {
    let ids = [bench.enqueue("h/o/r#1"), bench.enqueue("H/O/R#1"), bench.enqueue("h/o/r#2")];
    let urgent = NewJob { priority: 9, ..NewJob::new(issue_ref("h/o/r#1"), "now") };
    let first = bench.claim();
    let (urgent, _) = bench.enqueue_new(urgent);
    assert_eq!(first.id, ids[0]);
    assert_eq!(bench.claim().id, ids[2], "the second job of issue 1 waits");
    assert!(bench.try_claim(1000).is_err());
    assert!(bench.finish(&first, Reason::Done).is_ok());
    let next = bench.claim();
    assert_eq!(next.id, urgent, "the waiting ones go by priority");
    assert!(bench.finish(&next, Reason::NoChanges).is_ok());
    assert_eq!(bench.claim().id, ids[1]);
}

fn the_cap_counts_rows(bench: &Bench) {
    let ids = ["h/o/r#1", "h/o/r#2", "h/o/r#3"].map(|issue| bench.enqueue(issue));
    let first = bench.try_claim(2).expect("one of two");
    bench.try_claim(2).expect("two of two");
    assert_eq!(bench.try_claim(2), Err(NothingToClaim::CapReached));
    assert_eq!(bench.try_claim(0), Err(NothingToClaim::CapReached));
    assert!(bench.finish(&first, Reason::Done).is_ok());
    assert_eq!(bench.try_claim(2).expect("one is free again").id, ids[2]);
    let stats = bench.store.stats().expect("a read");
    assert_eq!((stats.pending, stats.notified, stats.completed), (0, 2, 1));
}

fn delayed_jobs_wait_for_their_time(bench: &Bench) {
    let at = |ms| Some(Timestamp(START_MS + ms));
    for (issue, run_at, priority) in
        [("h/o/r#1", at(200), 0), ("h/o/r#2", at(100), 0), ("h/o/r#3", at(200), 3)]
    {
        bench.enqueue_new(NewJob { run_at, priority, ..NewJob::new(issue_ref(issue), "fix") });
    }
    assert_eq!(bench.try_claim(9), Err(NothingToClaim::NoneDue { next_at: at(100) }));
    assert_eq!(bench.store.stats().expect("a read").next_due, at(100));
    bench.clock.advance_ms(100);
    assert_eq!(bench.claim().id, JobId(2));
    assert_eq!(bench.try_claim(9), Err(NothingToClaim::NoneDue { next_at: at(200) }));
    bench.clock.advance_ms(100);
    assert_eq!(bench.store.stats().expect("a read").next_due, None);
    let retried = bench.claim();
    assert_eq!(retried.id, JobId(3), "among those that are due, priority decides");
    assert!(bench.finish(&retried, Reason::AgentError).is_ok());
    assert_eq!(bench.claim().id, JobId(1));
    let Err(NothingToClaim::NoneDue { next_at: Some(next_at) }) = bench.try_claim(9) else {
        panic!("the failed job waits for its retry");
    };
    bench.clock.advance_ms(next_at.ms_since(bench.clock.now()));
    assert_eq!(bench.claim().id, JobId(3));
}

fn a_request_id_is_answered_once(bench: &Bench) {
    let new =
        |issue| NewJob { request_id: Some("r-1".into()), ..NewJob::new(issue_ref(issue), "fix") };
    assert_eq!(bench.enqueue_new(new("h/o/r#1")), (JobId(1), true));
    assert_eq!(bench.enqueue_new(new("h/o/r#2")), (JobId(1), false));
    let job = bench.claim();
    assert!(bench.finish(&job, Reason::Done).is_ok());
    assert_eq!(bench.enqueue_new(new("h/o/r#1")), (JobId(1), false), "also when it has ended");
    assert_eq!(bench.enqueue("h/o/r#1"), JobId(2), "no number was used up");
}

fn an_idle_issue_takes_one_job(bench: &Bench) {
    let new = || NewJob { only_if_idle: true, ..NewJob::new(issue_ref("h/o/r#1"), "fix") };
    assert_eq!(bench.enqueue_new(new()), (JobId(1), true));
    assert_eq!(bench.enqueue_new(new()), (JobId(1), false));
    let job = bench.claim();
    assert_eq!(bench.enqueue_new(new()), (JobId(1), false));
    assert!(bench.finish(&job, Reason::Done).is_ok());
    assert_eq!(bench.enqueue_new(new()), (JobId(2), true));
}

fn stale_tokens_change_nothing(bench: &Bench) {
    let id = bench.enqueue("h/o/r#1");
    let first = bench.claim();
    bench.clock.advance_ms(LEASE_MS);
    let adopt = Op::Adopt {
        job: id,
        token: token(&first),
        worker: WorkerId("two".into()),
        lease_ms: LEASE_MS,
    };
    let Ok(Reply::Changed(second)) = bench.one(adopt.clone()) else {
        panic!("a lease can be taken over");
    };
    assert!(token(&second) > token(&first));
    let before = bench.store.get(id).expect("a read");
    assert_eq!(bench.finish(&first, Reason::Done), lost_lease(id));
    let renew = Event::Renew { token: token(&first), lease_ms: LEASE_MS };
    assert_eq!(bench.one(Op::Apply(id, renew)), lost_lease(id));
    assert_eq!(bench.one(adopt), lost_lease(id));
    assert_eq!(bench.store.get(id).expect("a read"), before);
    assert!(bench.finish(&second, Reason::Done).is_ok());
    assert_eq!(bench.finish(&second, Reason::Done), lost_lease(id), "a job ends once");
}

fn an_adoption_takes_the_lease(bench: &Bench) {
    let id = bench.enqueue("h/o/r#1");
    let job = bench.claim();
    let adopt =
        |token| Op::Adopt { job: id, token, worker: WorkerId("two".into()), lease_ms: LEASE_MS };
    let Ok(Reply::Changed(adopted)) = bench.one(adopt(token(&job))) else {
        panic!("a held lease can be adopted");
    };
    assert!(token(&adopted) > token(&job));
    assert_eq!(bench.one(adopt(token(&job))), lost_lease(id));
    assert_eq!(bench.finish(&job, Reason::Done), lost_lease(id));
    assert!(bench.finish(&adopted, Reason::Done).is_ok());
    assert_eq!(bench.one(adopt(token(&adopted))), lost_lease(id));
    assert_eq!(bench.store.stats().expect("a read").completed, 1);
}

fn a_launch_is_whole_or_nothing(bench: &Bench) {
    let launch = |issue, cap| Op::Launch(NewJob::new(issue_ref(issue), "go"), claim_by("l", cap));
    let Ok(Reply::Claimed(job)) = bench.one(launch("h/o/r#1", 1)) else {
        panic!("there is room for one");
    };
    assert_eq!(bench.one(launch("h/o/r#2", 1)), Err(OpRefused::CapReached { running: 1, cap: 1 }));
    assert_eq!(bench.one(launch("h/o/r#1", 2)), Err(OpRefused::IssueBusy(job.id)));
    assert!(bench.one(Op::Pause { until: None }).is_ok());
    assert_eq!(bench.one(launch("h/o/r#2", 2)), Err(OpRefused::Paused));
    assert_eq!(bench.ids(&[], 10), (vec![job.id.0], 1));
    assert!(bench.one(Op::Resume).is_ok());
    let later = NewJob {
        run_at: Some(bench.clock.now().plus_ms(1_000)),
        ..NewJob::new(issue_ref("h/o/r#2"), "go")
    };
    let answer = bench.one(Op::Launch(later, claim_by("l", 2)));
    assert!(matches!(answer, Ok(Reply::Claimed(_))), "launched is now: {answer:?}");
}

fn a_pause_holds_claims_until_its_end(bench: &Bench) {
    bench.enqueue("h/o/r#1");
    assert!(bench.one(Op::Pause { until: None }).is_ok());
    bench.clock.advance_ms(1_000_000);
    assert_eq!(bench.try_claim(1), Err(NothingToClaim::Paused { until: None }));
    assert!(bench.one(Op::Resume).is_ok());
    let until = Some(bench.clock.now().plus_ms(500));
    assert!(bench.one(Op::Pause { until }).is_ok());
    assert_eq!(bench.try_claim(1), Err(NothingToClaim::Paused { until }));
    assert!(bench.store.stats().expect("a read").paused.is_some());
    bench.clock.advance_ms(500);
    assert!(bench.store.stats().expect("a read").paused.is_none());
    assert!(bench.try_claim(1).is_ok());
}

fn refusals_do_not_hold_up_the_rest_of_a_commit(bench: &Bench) {
    let answers = bench
        .store
        .commit(vec![
            Op::Apply(JobId(7), Event::Cancel),
            Op::Enqueue(NewJob::new(issue_ref("h/o/r#1"), "fix")),
            Op::Apply(JobId(1), Event::Cancel),
            Op::Apply(JobId(1), Event::Cancel),
            Op::Claim(claim_by("one", 5)),
        ])
        .expect("the store takes the commit");
    assert_eq!(answers[0], Err(OpRefused::NoSuchJob(JobId(7))));
    assert!(matches!(answers[1], Ok(Reply::Enqueued { new: true, .. })));
    assert!(matches!(answers[2], Ok(Reply::Changed(_))));
    assert!(matches!(answers[3], Ok(Reply::AlreadySo(_))));
    assert!(matches!(answers[4], Ok(Reply::NothingToClaim(_))));
    assert_eq!(bench.kind(JobId(1)), StateKind::Cancelled);
}

fn lists_are_ordered_and_counted(bench: &Bench) {
    for number in 1..=8 {
        bench.enqueue(&format!("h/o/r#{number}"));
    }
    for reason in [Reason::Done, Reason::Timeout, Reason::Done] {
        let job = bench.claim();
        bench.clock.advance_ms(10);
        assert!(bench.finish(&job, reason).is_ok());
    }
    bench.claim();
    assert!(bench.one(Op::Apply(JobId(8), Event::Cancel)).is_ok());
    assert_eq!(bench.ids(&[], 100), (vec![4, 5, 6, 7, 8, 3, 2, 1], 8));
    assert_eq!(bench.ids(&[], 3), (vec![4, 5, 6], 8));
    assert_eq!(bench.ids(&[StateKind::Pending], 2), (vec![5, 6], 3));
    assert_eq!(bench.ids(&[StateKind::Completed], 10), (vec![3, 1], 2));
    assert_eq!(bench.ids(&[StateKind::Pending], 0), (vec![], 3));
    bench.enqueue("h/o/r#3");
    let query = ListQuery { states: vec![], issue: Some(issue_ref("H/o/r#3")), limit: 10 };
    let page = bench.store.list(&query).expect("a read");
    assert_eq!(page.items.iter().map(|job| job.id.0).collect::<Vec<_>>(), [9, 3]);
    assert_eq!(page.total, 2);
}

fn sessions_are_kept(bench: &Bench) {
    let session = |id: &str| Session {
        issue: issue_ref("h/o/r#1"),
        id: Some(id.into()),
        worktree: "/w".into(),
        branch: "issue-1".into(),
        last_job: JobId(1),
        created_at: Timestamp(1),
        used_at: Timestamp(2),
    };
    assert_eq!(bench.store.session(&issue_ref("h/o/r#1")).expect("a read"), None);
    bench.enqueue("h/o/r#1");
    let job = bench.claim();
    let save = |token, id| Op::SaveSession { job: job.id, token, session: session(id) };
    assert_eq!(bench.one(save(token(&job), "ses_1")), Ok(Reply::Done));
    assert_eq!(bench.one(save(token(&job), "ses_2")), Ok(Reply::Done));
    assert_eq!(bench.one(save(Token(99), "ses_3")), lost_lease(job.id));
    let found = bench.store.session(&issue_ref("H/O/r#1")).expect("a read");
    assert_eq!(found, Some(session("ses_2")));
    assert_eq!(bench.store.sessions().expect("a read"), [session("ses_2")]);
    let forget = || bench.one(Op::ForgetSession(issue_ref("h/O/r#1")));
    assert_eq!(forget(), Err(OpRefused::IssueBusy(job.id)), "its agent works in it");
    assert!(bench.finish(&job, Reason::Done).is_ok());
    assert_eq!(bench.one(save(token(&job), "ses_3")), lost_lease(job.id));
    assert_eq!(forget(), Ok(Reply::Done));
    assert_eq!(forget(), Err(OpRefused::NoSuchSession("h/O/r#1".into())));
    assert_eq!(bench.store.sessions().expect("a read"), []);
}

fn jobs_move_from_one_queue_to_another(bench: &Bench) {
    let of_request =
        |id: &str| NewJob { request_id: Some(id.into()), ..NewJob::new(issue_ref("a/b/c#1"), "x") };
    for _ in 0..3 {
        bench.enqueue("h/o/r#1");
    }
    let ended = bench.claim();
    assert!(bench.finish(&ended, Reason::NoChanges).is_ok());
    let running = bench.claim();
    let after = |id| bench.store.jobs_after(JobId(id), 2).expect("a read");
    assert_eq!(after(0).iter().map(|job| job.id.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(after(2).iter().map(|job| job.id.0).collect::<Vec<_>>(), [3]);
    assert_eq!(after(3), []);

    let restore = |job: &Job| bench.one(Op::Restore(Box::new(job.clone())));
    let ended = after(0).remove(0);
    let itself = Reply::Enqueued { job: Box::new(ended.clone()), new: false };
    assert_eq!(restore(&ended), Ok(itself), "it is this queue's own");
    assert!(matches!(restore(&running), Err(OpRefused::Invalid(_))));
    let foreign = Job { enqueued_at: Timestamp(5), request_id: Some("f".into()), ..ended };
    let expected = Job { id: JobId(4), ..foreign.clone() };
    let reply = |new| Ok(Reply::Enqueued { job: Box::new(expected.clone()), new });
    assert_eq!(restore(&foreign), reply(true));
    assert_eq!(restore(&foreign), reply(false), "once, however often it is asked");
    assert_eq!(bench.enqueue_new(of_request("f")), (JobId(4), false));
    assert_eq!(bench.kind(JobId(4)), StateKind::Error);
    assert!(bench.one(Op::Apply(JobId(4), Event::Retry)).is_ok());
    let pending = Job { id: JobId(77), ..Job::new(JobId(1), of_request("g"), Timestamp(9)) };
    assert!(matches!(restore(&pending), Ok(Reply::Enqueued { new: true, .. })));
    assert_eq!(bench.claim().id, JobId(5), "it is due");
}

fn changes_wake_watchers(bench: &Bench) {
    let watch = bench.store.watch();
    bench.enqueue("h/o/r#1");
    let deadline = std::time::Duration::from_secs(10);
    watch.wakeups().recv_timeout(deadline).expect("an enqueue wakes others");
}

fn bad_requests_are_refused(bench: &Bench) {
    let issue = || issue_ref("h/o/r#1");
    for new in [
        NewJob::new(issue(), " \n"),
        NewJob::new(issue(), "a\0b"),
        NewJob::new(issue(), "x".repeat(crate::job::limits::MESSAGE_BYTES_MAX + 1)),
        NewJob { request_id: Some(String::new()), ..NewJob::new(issue(), "fix") },
        NewJob { max_attempts: Some(0), ..NewJob::new(issue(), "fix") },
        NewJob { timeout_ms: Some(0), ..NewJob::new(issue(), "fix") },
    ] {
        assert!(matches!(bench.one(Op::Enqueue(new)), Err(OpRefused::Invalid(_))));
    }
    assert_eq!(bench.ids(&[], 10), (vec![], 0));
}

fn removed_jobs_leave_nothing(bench: &Bench) {
    let request =
        |issue| NewJob { request_id: Some("r".into()), ..NewJob::new(issue_ref(issue), "fix") };
    bench.enqueue_new(request("h/o/r#1"));
    let [second, third] = ["h/o/r#1", "h/o/r#2"].map(|issue| bench.enqueue(issue));
    let ended = bench.claim();
    assert!(bench.finish(&ended, Reason::Done).is_ok());
    bench.clock.advance_ms(10);
    let now = bench.clock.now();
    let ended_until = |at| {
        bench.store.ended_until(&[StateKind::Completed, StateKind::Error], at, 10).expect("a read")
    };
    assert_eq!(ended_until(now), [ended.id]);
    assert_eq!(ended_until(Timestamp(START_MS - 1)), []);
    let running = bench.claim();
    assert_eq!(running.id, second);
    let refused = OpRefused::Transition(second, Refused::Wrong(StateKind::Notified));
    assert_eq!(bench.one(Op::Remove(second)), Err(refused));
    assert!(matches!(bench.one(Op::Remove(ended.id)), Ok(Reply::Removed(_))));
    assert_eq!(bench.one(Op::Remove(ended.id)), Err(OpRefused::NoSuchJob(ended.id)));
    assert!(matches!(bench.one(Op::Remove(third)), Ok(Reply::Removed(_))));
    assert_eq!(bench.ids(&[], 10), (vec![second.0], 1));
    assert!(bench.try_claim(9).is_err(), "what was removed is not claimed");
    assert_eq!(bench.enqueue_new(request("h/o/r#3")), (JobId(4), true), "numbers go on");
}
