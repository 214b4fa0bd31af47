//! A worker on a machine that fails it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crossbeam_channel::never;

use crate::daemon::Worker;
use crate::executor::{Control, Ending, Executor};
use crate::job::{IssueRef, Job, JobId, NewJob, Reason, Report, Session, StateKind};
use crate::queue::Queue;
use crate::store::{
    Answer, ListQuery, MemoryStore, Op, Page, Position, Stats, Store, StoreError, Watch,
};
use crate::time::Timestamp;
use crate::worker::{Exit, Settings};

/// A store on a disk that may be full.
#[derive(Default)]
struct Refusing {
    inner: MemoryStore,
    is_full: AtomicBool,
    refused: AtomicU32,
}

impl Refusing {
    fn check(&self) -> Result<(), StoreError> {
        if !self.is_full.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.refused.fetch_add(1, Ordering::SeqCst);
        let source = std::io::ErrorKind::StorageFull.into();
        Err(StoreError::Io { what: "use the queue", path: "/k/queue.redb".into(), source })
    }
}

impl Store for Arc<Refusing> {
    fn commit(&self, operations: Vec<Op>) -> Result<Vec<Answer>, StoreError> {
        self.check()?;
        self.inner.commit(operations)
    }
    fn get(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.inner.get(id)
    }
    fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        self.inner.list(query)
    }
    fn jobs_after(&self, after: JobId, limit: usize) -> Result<Vec<Job>, StoreError> {
        self.inner.jobs_after(after, limit)
    }
    fn stats(&self) -> Result<Stats, StoreError> {
        self.inner.stats()
    }
    fn position(&self, id: JobId, ahead_max: usize) -> Result<Option<Position>, StoreError> {
        self.inner.position(id, ahead_max)
    }
    fn ended_until(
        &self,
        states: &[StateKind],
        at: Timestamp,
        limit: usize,
    ) -> Result<Vec<JobId>, StoreError> {
        self.inner.ended_until(states, at, limit)
    }
    fn session(&self, issue: &IssueRef) -> Result<Option<Session>, StoreError> {
        self.inner.session(issue)
    }
    fn sessions(&self) -> Result<Vec<Session>, StoreError> {
        self.inner.sessions()
    }
    fn verify(&self) -> Result<Vec<String>, StoreError> {
        self.inner.verify()
    }
    fn examine(&self) -> Result<(), StoreError> {
        self.check()
    }
    fn now(&self) -> Timestamp {
        self.inner.now()
    }
    fn watch(&self) -> Watch {
        self.inner.watch()
    }
}

/// Fills the disk with its third job, and makes room when it is asked how the machine is.
struct Filling {
    store: Arc<Refusing>,
    executions: AtomicU32,
    examinations: AtomicU32,
}

impl Executor for Arc<Filling> {
    fn execute(&self, _job: &Job, _control: &Control) -> Ending {
        if self.executions.fetch_add(1, Ordering::SeqCst) == 2 {
            self.store.is_full.store(true, Ordering::SeqCst);
            return Ending::Over(Report::new(Reason::Machine, "no room"));
        }
        Ending::Over(Report::new(Reason::Done, "done"))
    }

    fn examine(&self) -> Result<(), String> {
        self.examinations.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn a_disk_that_is_full_for_a_while_costs_no_job_and_ends_no_worker() {
    let store = Arc::new(Refusing::default());
    let queue = Queue::new(Arc::clone(&store));
    for number in 1..=12 {
        let issue = format!("h/o/r#{number}").parse().expect("a good reference");
        queue.enqueue(NewJob::new(issue, "fix")).expect("an enqueue");
    }
    let executor = Arc::new(Filling {
        store: Arc::clone(&store),
        executions: AtomicU32::new(0),
        examinations: AtomicU32::new(0),
    });
    let settings = Settings { once: true, cap: 1, poll_ms: 100, ..Settings::default() };
    let worker = Worker::new(queue.clone(), settings, Arc::clone(&executor)).expect("a worker");
    let running = std::thread::spawn(move || worker.run(&never()));
    // Its end of the third job is refused, and so is the examination of the store.
    while store.refused.load(Ordering::SeqCst) < 3 && !running.is_finished() {
        crate::time::pause(std::time::Duration::from_millis(5));
    }
    assert_eq!(executor.examinations.load(Ordering::SeqCst), 0, "the store comes first");
    store.is_full.store(false, Ordering::SeqCst);
    assert_eq!(running.join().expect("no panic").expect("it is no error"), Exit::Idle);
    let stats = queue.stats().expect("a read");
    assert_eq!((stats.completed, stats.error), (12, 0));
    assert_eq!(executor.executions.load(Ordering::SeqCst), 13, "one was begun again");
    assert_eq!(executor.examinations.load(Ordering::SeqCst), 1);
}
