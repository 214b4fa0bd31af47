//! Every backend against the suite, and redb against the reference.

use std::sync::Arc;

use ::redb::ReadableTable;
use proptest::prelude::*;

use super::*;
use crate::job::{Edit, Event, NewJob, Reason, Report, RetryPolicy, Run, Token, WorkerId};
use crate::testing::SimClock;
use crate::time::Clock;

fn redb(clock: Arc<dyn Clock>) -> (tempfile::TempDir, RedbStore) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = RedbStore::open(&folder.path().join("queue.redb"), clock).expect("a new file");
    (folder, store)
}

#[test]
fn memory_conforms() {
    conformance::check(&|clock| Box::new(MemoryStore::new(clock)));
}

#[test]
fn redb_conforms() {
    conformance::check(&|clock| {
        let (folder, store) = redb(clock);
        // The store holds the file open; the folder's name is not needed any more but its
        // wake file is, so it stays until the process ends.
        let _ = folder.keep();
        Box::new(store)
    });
}

/// What the model does next. Numbers pick among few issues, jobs and tokens, so that they meet.
#[derive(Debug, Clone)]
enum Step {
    Enqueue { issue: u8, priority: i16, delay: u16, request: Option<u8>, only_if_idle: bool },
    Claim { cap: u8 },
    Launch { issue: u8, cap: u8 },
    Start { job: u8, token: u8 },
    Renew { job: u8, token: u8 },
    Judge { job: u8, token: u8 },
    Finish { job: u8, token: u8, reason: u8, defer: Option<u16>, pause: bool, hold: bool },
    Adopt { job: u8, token: u8 },
    Cancel { job: u8 },
    Retry { job: u8 },
    Remove { job: u8 },
    Restore { job: u8, request: Option<u8> },
    ForgetSession { issue: u8 },
    SaveSession { job: u8, token: u8 },
    Edit { job: u8, priority: Option<i16>, delay: Option<u16> },
    Pause { ms: Option<u16> },
    Resume,
    Wait { ms: u16 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let job = 1..12u8;
    // Mostly the newest tokens: 0 is the job's own, the rest are stale or unheard of.
    let token = prop_oneof![6 => Just(0u8), 1 => 1..12u8];
    // All reasons, and oftener those that hold something back.
    let of = |reason| Reason::ALL.iter().position(|known| *known == reason).expect("one of all");
    let number = |reason| u8::try_from(of(reason)).expect("there are few");
    let reason = prop_oneof![
        3 => 0..u8::try_from(Reason::ALL.len()).expect("there are few"),
        1 => Just(number(Reason::Deferred)),
        1 => Just(number(Reason::ProviderLimit)),
        1 => Just(number(Reason::ProviderLogin)),
    ];
    let hold = proptest::bool::weighted(0.2);
    let step = prop_oneof![
        6 => (1..5u8, -1..2i16, prop_oneof![Just(0), 0..3000u16], proptest::option::of(0..6u8), any::<bool>())
            .prop_map(|(issue, priority, delay, request, only_if_idle)| Step::Enqueue {
                issue, priority, delay, request, only_if_idle,
            }),
        6 => (0..4u8).prop_map(|cap| Step::Claim { cap }),
        1 => (1..5u8, 0..4u8).prop_map(|(issue, cap)| Step::Launch { issue, cap }),
        2 => (job.clone(), token.clone()).prop_map(|(job, token)| Step::Start { job, token }),
        2 => (job.clone(), token.clone()).prop_map(|(job, token)| Step::Renew { job, token }),
        1 => (job.clone(), token.clone()).prop_map(|(job, token)| Step::Judge { job, token }),
        5 => (job.clone(), token.clone(), reason, proptest::option::of(0..3000u16), any::<bool>(), hold)
            .prop_map(|(job, token, reason, defer, pause, hold)| Step::Finish {
                job, token, reason, defer, pause, hold,
            }),
        1 => (job.clone(), token.clone()).prop_map(|(job, token)| Step::Adopt { job, token }),
        2 => job.clone().prop_map(|job| Step::Cancel { job }),
        1 => job.clone().prop_map(|job| Step::Retry { job }),
        1 => job.clone().prop_map(|job| Step::Remove { job }),
        1 => (job.clone(), proptest::option::of(0..6u8))
            .prop_map(|(job, request)| Step::Restore { job, request }),
        1 => (1..5u8).prop_map(|issue| Step::ForgetSession { issue }),
        2 => (job.clone(), token.clone()).prop_map(|(job, token)| Step::SaveSession { job, token }),
        2 => (job, proptest::option::of(-1..2i16), proptest::option::of(0..2000u16))
            .prop_map(|(job, priority, delay)| Step::Edit { job, priority, delay }),
        1 => proptest::option::of(0..2000u16).prop_map(|ms| Step::Pause { ms }),
        2 => Just(Step::Resume),
        4 => (0..3000u16).prop_map(|ms| Step::Wait { ms }),
    ];
    proptest::collection::vec(step, 1..60)
}

fn run(started_at: Timestamp) -> Run {
    Run { pid: 1, start_time: 2, boot_id: "b".into(), folder: "f".into(), started_at, round: 1 }
}

fn session(job: &Job) -> Session {
    Session {
        issue: job.issue.clone(),
        id: None,
        worktree: "w".into(),
        branch: "b".into(),
        last_job: job.id,
        created_at: Timestamp(1),
        used_at: Timestamp(1),
    }
}

/// The operation of a step, with the tokens that the reference has.
fn operation(step: &Step, reference: &MemoryStore) -> Option<Op> {
    let policy = RetryPolicy { max_attempts: 2, backoff_ms_first: 100, backoff_ms_max: 1000 };
    let id = |job: u8| JobId(job.into());
    let token = |job: u8, token: u8| match token {
        0 => {
            let job = reference.get(id(job)).expect("memory reads");
            job.and_then(|job| job.lease().map(|lease| lease.token)).unwrap_or(Token(1))
        }
        other => Token(other.into()),
    };
    let claim = |cap: u8| Claim {
        // Two commands, and sometimes none.
        agent: ["a-1", "b-1"].get(usize::from(cap)).map(|key| key.parse().expect("a good key")),
        ..Claim::new(WorkerId("w".into()), cap.into(), 1000)
    };
    let new = |issue: u8| {
        let issue = format!("h/o/r#{issue}").parse().expect("a good reference");
        NewJob::new(issue, "fix")
    };
    Some(match *step {
        Step::Enqueue { issue, priority, delay, request, only_if_idle } => Op::Enqueue(NewJob {
            priority,
            run_at: (delay > 0).then(|| reference.now().plus_ms(delay.into())),
            request_id: request.map(|request| format!("r{request}")),
            only_if_idle,
            ..new(issue)
        }),
        Step::Claim { cap } => Op::Claim(claim(cap)),
        Step::Launch { issue, cap } => Op::Launch(new(issue), claim(cap)),
        Step::Start { job, token: t } => {
            Op::Apply(id(job), Event::Start { token: token(job, t), run: run(reference.now()) })
        }
        Step::Renew { job, token: t } => {
            Op::Apply(id(job), Event::Renew { token: token(job, t), lease_ms: 1500 })
        }
        Step::Judge { job, token: t } => {
            Op::Apply(id(job), Event::Judge { token: token(job, t), why: "so".into() })
        }
        Step::Finish { job, token: t, reason, defer, pause, hold } => {
            let defer_ms = defer.map(u64::from);
            let reason = Reason::ALL[usize::from(reason)];
            let report = Report { defer_ms, pause, hold, ..Report::new(reason, "so") };
            Op::Apply(id(job), Event::Finish { token: token(job, t), report, policy, seed: 3 })
        }
        Step::Adopt { job, token: t } => Op::Adopt {
            job: id(job),
            token: token(job, t),
            worker: WorkerId("a".into()),
            lease_ms: 1000,
        },
        Step::Cancel { job } => Op::Apply(id(job), Event::Cancel),
        Step::Retry { job } => Op::Apply(id(job), Event::Retry),
        Step::Remove { job } => Op::Remove(id(job)),
        Step::Restore { job, request } => {
            let job = reference.get(id(job)).expect("memory reads")?;
            let request_id = request.map(|request| format!("r{request}"));
            // Without a request id of its own it is this queue's own job.
            let enqueued_at = if request.is_some() { Timestamp(1) } else { job.enqueued_at };
            Op::Restore(Box::new(Job { request_id, enqueued_at, ..job }))
        }
        Step::ForgetSession { issue } => {
            Op::ForgetSession(format!("h/o/r#{issue}").parse().expect("a good reference"))
        }
        Step::SaveSession { job, token: t } => {
            let (job, token) = (id(job), token(job, t));
            let session = session(&reference.get(job).expect("memory reads")?);
            Op::SaveSession { job, token, session }
        }
        Step::Edit { job, priority, delay } => {
            let run_at = delay.map(|ms| reference.now().plus_ms(ms.into()));
            Op::Apply(id(job), Event::Edit(Edit { priority, run_at, ..Edit::default() }))
        }
        Step::Pause { ms } => Op::Pause { until: ms.map(|ms| reference.now().plus_ms(ms.into())) },
        Step::Resume => Op::Resume,
        Step::Wait { .. } => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Redb and the reference give the same answers to anything, and redb's indexes hold.
    #[test]
    fn redb_is_like_the_reference(steps in steps()) {
        let clock = Arc::new(SimClock::at(1_000_000));
        let memory = MemoryStore::new(clock.clone());
        let (_folder, redb) = redb(clock.clone());
        for step in &steps {
            if let Step::Wait { ms } = step {
                clock.advance_ms((*ms).into());
            }
            if let Some(op) = operation(step, &memory) {
                let expected = memory.commit(vec![op.clone()]).expect("memory never fails");
                let answers = redb.commit(vec![op]).expect("redb takes the commit");
                prop_assert_eq!(answers, expected, "{:?}", step);
            }
            prop_assert_eq!(redb.verify().expect("redb reads"), Vec::<String>::new(), "{:?}", step);
        }
        prop_assert_eq!(redb.stats().expect("a read"), memory.stats().expect("a read"));
        for issue in [None, Some("h/o/r#1".parse().expect("a good reference"))] {
            let query = ListQuery { states: vec![], issue, limit: 100 };
            prop_assert_eq!(redb.list(&query).expect("a read"), memory.list(&query).expect("a read"));
        }
        let sessions = memory.sessions().expect("a read");
        prop_assert_eq!(redb.sessions().expect("a read"), sessions);
        let jobs = memory.jobs_after(JobId(1), 7).expect("a read");
        prop_assert_eq!(redb.jobs_after(JobId(1), 7).expect("a read"), jobs);
        for id in (1..12).map(JobId) {
            let position = memory.position(id, 3).expect("a read");
            prop_assert_eq!(redb.position(id, 3).expect("a read"), position);
        }
    }
}

#[test]
fn many_jobs_become_due_at_once() {
    let clock = Arc::new(SimClock::at(1_000_000));
    let (_folder, store) = redb(clock.clone());
    let many = crate::job::limits::PROMOTIONS_PER_COMMIT_MAX as u64 * 2 + 10;
    let new = |number: u64| NewJob {
        run_at: Some(Timestamp(2_000_000)),
        priority: if number == many { 1 } else { 0 },
        ..NewJob::new(format!("h/o/r#{number}").parse().expect("a good reference"), "fix")
    };
    let numbers: Vec<u64> = (1..=many).collect();
    for slice in numbers.chunks(1000) {
        store.commit(slice.iter().map(|n| Op::Enqueue(new(*n))).collect()).expect("a commit");
    }
    clock.advance_ms(1_000_000);
    let claim = Claim::new(WorkerId("w".into()), 1, 1000);
    let answers = store.commit(vec![Op::Claim(claim)]).expect("a commit");
    let [Ok(Reply::Claimed(job))] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!(job.id.0, many, "the last one goes first: all were looked at");
    assert_eq!(store.verify().expect("a read"), Vec::<String>::new());
}

#[test]
fn what_is_no_queue_is_refused_by_name_and_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("queue.redb");
    let text = b"this is somebody's shopping list, long enough to look like a file\n".repeat(100);
    std::fs::write(&path, &text).expect("a file");
    let Err(error) = RedbStore::open(&path, Arc::new(crate::time::SystemClock)) else {
        panic!("a shopping list is no queue");
    };
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("queue.redb"), "{error}");
    assert_eq!(std::fs::read(&path).expect("the file"), text);
}

/// A queue file with one job, closed.
fn whole_file() -> Vec<u8> {
    let (folder, store) = redb(Arc::new(crate::time::SystemClock));
    let op = Op::Enqueue(NewJob::new("h/o/r#1".parse().expect("a good reference"), "fix"));
    store.commit(vec![op]).expect("a commit");
    drop(store);
    std::fs::read(folder.path().join("queue.redb")).expect("a file")
}

fn open(path: &std::path::Path) -> Result<RedbStore, StoreError> {
    RedbStore::open(path, Arc::new(crate::time::SystemClock))
}

#[test]
fn a_file_that_was_cut_off_or_overwritten_is_damaged_and_no_panic() {
    let whole = whole_file();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("queue.redb");
    let mut sqlite = b"SQLite format 3\0".to_vec();
    sqlite.resize(8192, 0);
    let mut files = vec![sqlite, b"x".to_vec()];
    files.extend([64, 320, 4096, whole.len() / 2].map(|length| whole[..length].to_vec()));
    // The tree's pages, wherever they are, filled with what is no page.
    let garbled = whole
        .chunks(4096)
        .enumerate()
        .flat_map(|(number, page)| if number == 0 { page.to_vec() } else { vec![77; page.len()] });
    files.push(garbled.collect());
    for bytes in files {
        std::fs::write(&path, &bytes).expect("a file");
        let error = open(&path)
            .and_then(|store| store.list(&ListQuery { states: vec![], issue: None, limit: 10 }));
        let error = error.expect_err("it is no queue");
        assert!(matches!(error, StoreError::Damaged { .. }), "{} bytes: {error}", bytes.len());
        assert!(error.to_string().contains("queue.redb"), "{error}");
    }
    std::fs::write(&path, &whole).expect("a file");
    assert_eq!(open(&path).expect("a whole one").stats().expect("a read").pending, 1);
    // Whoever made it may have died before there was anything in it.
    std::fs::write(&path, "").expect("a file");
    assert_eq!(
        open(&path).expect("an empty file is a new queue").stats().expect("a read").pending,
        0
    );
}

#[test]
fn a_file_of_a_newer_kugetsu_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("queue.redb");
    let meta: ::redb::TableDefinition<&str, &[u8]> = ::redb::TableDefinition::new("meta");
    let schema = || {
        let database = ::redb::Database::create(&path).expect("a database");
        let txn = database.begin_write().expect("a transaction");
        let mut table = txn.open_table(meta).expect("a table");
        let before = table.get("schema").expect("a read").map(|bytes| bytes.value().to_vec());
        table.insert("schema", &99u32.to_le_bytes()[..]).expect("a write");
        drop(table);
        txn.commit().expect("a commit");
        before
    };
    assert_eq!(schema(), None);
    let Err(error) = open(&path) else { panic!("nobody knows what is in it") };
    let StoreError::TooNew { found: 99, known: 2, .. } = error else { panic!("{error}") };
    assert!(error.to_string().contains("upgrade kugetsu"), "{error}");
    assert_eq!(schema(), Some(99u32.to_le_bytes().to_vec()), "it is left as it was");
}

#[test]
fn a_file_that_is_not_at_its_place_any_more_is_left_alone() {
    let (folder, store) = redb(Arc::new(crate::time::SystemClock));
    let new = || Op::Enqueue(NewJob::new("h/o/r#1".parse().expect("a good reference"), "fix"));
    store.commit(vec![new()]).expect("a commit");
    let path = folder.path().join("queue.redb");
    let elsewhere = folder.path().join("elsewhere");
    std::fs::rename(&path, &elsewhere).expect("a move");
    let bytes = std::fs::read(&elsewhere).expect("a file");
    for replaced in [false, true] {
        if replaced {
            std::fs::write(&path, "").expect("a file");
        }
        let write = store.commit(vec![new()]).expect_err("nobody would see it");
        let read = store.stats().expect_err("nobody else sees it");
        for error in [write, read] {
            let StoreError::Gone { removed, .. } = error else { panic!("{error}") };
            assert_eq!(removed, !replaced, "{error}");
        }
    }
    assert_eq!(std::fs::read(&elsewhere).expect("a file"), bytes);
    let second = open(&path).expect("the file that is there now");
    assert_eq!(second.stats().expect("a read").pending, 0);
    drop(second);
    std::fs::rename(&elsewhere, &path).expect("a move");
    assert_eq!(store.stats().expect("it is back").pending, 1);
}

#[test]
fn a_process_opens_a_file_once() {
    let (folder, first) = redb(Arc::new(crate::time::SystemClock));
    let path = folder.path().join("queue.redb");
    let second = RedbStore::open(&path, Arc::new(crate::time::SystemClock)).expect("again");
    let op = Op::Enqueue(NewJob::new("h/o/r#1".parse().expect("a good reference"), "fix"));
    first.commit(vec![op]).expect("a commit");
    assert_eq!(second.stats().expect("a read").pending, 1);
}

#[test]
fn a_clock_that_is_set_back_holds_up_no_job() {
    let clock = Arc::new(SimClock::at(1_000_000));
    let (_folder, store) = redb(clock.clone());
    let new = NewJob::new("h/o/r#1".parse().expect("a good reference"), "fix");
    store.commit(vec![Op::Enqueue(new)]).expect("a commit");
    clock.set_ms(500_000);
    let claim = Claim::new(WorkerId("w".into()), 1, 1000);
    let answers = store.commit(vec![Op::Claim(claim)]).expect("a commit");
    assert!(matches!(answers.as_slice(), [Ok(Reply::Claimed(_))]), "{answers:?}");
    assert_eq!(store.verify().expect("a read"), Vec::<String>::new());
}

#[test]
fn a_long_history_is_pruned_in_slices_and_the_last_ones_kept() {
    let clock = Arc::new(SimClock::at(1_000_000));
    let (_folder, store) = redb(clock.clone());
    let queue = crate::queue::Queue::new(store);
    let many = crate::job::limits::OPS_PER_COMMIT_MAX as u64 * 2 + 10;
    let numbers: Vec<u64> = (1..=many).collect();
    for slice in numbers.chunks(500) {
        let issue = |n: &u64| format!("h/o/r#{n}").parse().expect("a good reference");
        let enqueue = |n: &u64| Op::Enqueue(NewJob::new(issue(n), "fix"));
        let cancel = |n: &u64| Op::Apply(JobId(*n), Event::Cancel);
        queue.commit(slice.iter().map(enqueue).collect()).expect("a commit");
        clock.advance_ms(1);
        queue.commit(slice.iter().map(cancel).collect()).expect("a commit");
    }
    let states = vec![StateKind::Completed, StateKind::Cancelled];
    let prune = |before, keep| crate::queue::Prune {
        states: states.clone(),
        before,
        keep,
        limit: u64::MAX,
    };
    assert_eq!(queue.prune(&prune(Some(Timestamp(1_000_001)), 0)).expect("a prune"), 500);
    assert_eq!(queue.prune(&prune(None, 7)).expect("a prune"), many - 507);
    let query = ListQuery { states: vec![], issue: None, limit: 100 };
    let left: Vec<u64> =
        queue.list(&query).expect("a read").items.iter().map(|job| job.id.0).collect();
    assert_eq!(left, (many - 6..=many).rev().collect::<Vec<_>>());
    assert_eq!(queue.clear().expect("a clear"), 7);
    assert_eq!(queue.verify().expect("a read"), Vec::<String>::new());
}
