//! The queue: one method, one durable transaction.
//!
//! Every change is on disk when its method returns. What can go wrong is a [`QueueError`]: either
//! the request is [refused](QueueError::Refused), which is for the caller to understand, or the
//! [store](QueueError::Store) cannot do it, which is for somebody to look at, or to try again when
//! it is [busy](StoreError::Busy).
//!
//! Threads that write at the same time share a commit: while one thread is on its way to the disk,
//! the others line up behind it, and the next one takes all of them along.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::job::{
    Edit, Event, IssueRef, Job, JobId, NewJob, Report, RetryPolicy, Run, Session, StateKind, Token,
    WorkerId, limits,
};
use crate::store::{
    Answer, Claim, ListQuery, NothingToClaim, Op, OpRefused, Page, Position, Reply, Stats, Store,
    StoreError, Watch,
};
use crate::time::Timestamp;

/// Why a queue did not do it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The request makes no sense in the state things are in.
    #[error("{0}")]
    Refused(OpRefused),
    /// The system gave a worker no thread.
    #[error("cannot begin a worker: {0}")]
    Worker(Arc<std::io::Error>),
    /// The store could not do it. Shared, because threads share commits.
    #[error("{0}")]
    Store(Arc<StoreError>),
}

impl From<StoreError> for QueueError {
    fn from(error: StoreError) -> QueueError {
        QueueError::Store(Arc::new(error))
    }
}

/// Which ended jobs to remove.
///
/// ```
/// use kugetsu::job::StateKind;
/// use kugetsu::queue::Prune;
///
/// let mut prune = Prune::new([StateKind::Completed, StateKind::Cancelled]);
/// prune.keep = 100;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prune {
    /// Only jobs in these states. Of a state that a job can still leave, nothing is removed.
    pub states: Vec<StateKind>,
    /// Only jobs that ended by this time; `None` is now.
    pub before: Option<Timestamp>,
    /// How many of them to keep: those that ended last.
    pub keep: u64,
    /// How many to remove at most.
    pub limit: u64,
}

impl Prune {
    /// All jobs of these states.
    pub fn new(states: impl IntoIterator<Item = StateKind>) -> Prune {
        let states = states.into_iter().collect();
        Prune { states, before: None, keep: 0, limit: u64::MAX }
    }
}

/// A durable queue of jobs. Cheap to clone; every clone is the same queue.
///
/// A program that only adds jobs and looks at them needs nothing else. One that works on them gives
/// a clone to a [`Worker`](crate::daemon::Worker), or claims by hand:
///
/// ```
/// use kugetsu::job::{NewJob, Reason, Report, RetryPolicy, StateKind, WorkerId};
/// use kugetsu::store::{Claim, MemoryStore};
/// use kugetsu::Queue;
///
/// let queue = Queue::new(MemoryStore::default());
/// queue.enqueue(NewJob::new("github.com/shoko/kugetsu#14".parse()?, "fix the bug"))?;
///
/// let claim = Claim::new(WorkerId("host-4711-1".into()), 3, 60_000);
/// let Ok(job) = queue.claim(claim)? else { panic!("nothing to claim") };
/// let token = job.lease().expect("a claimed job has a lease").token;
///
/// // … the work, and now and then a sign of life …
/// queue.renew(job.id, token, 60_000)?;
///
/// let report = Report::new(Reason::Done, "fixed");
/// let job = queue.finish(job.id, token, report, RetryPolicy::default(), token.0)?;
/// assert_eq!(job.state.kind(), StateKind::Completed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Queue {
    store: Arc<dyn Store>,
    group: Arc<Group>,
}

impl Queue {
    /// A queue on a store.
    pub fn new(store: impl Store + 'static) -> Queue {
        Queue { store: Arc::new(store), group: Arc::default() }
    }

    /// Adds a job, which is on disk when this returns. The flag says whether it is new: a known
    /// request id, or an issue that is not idle, is answered with the job that is there.
    ///
    /// ```
    /// use kugetsu::job::NewJob;
    /// use kugetsu::store::MemoryStore;
    /// use kugetsu::Queue;
    ///
    /// let queue = Queue::new(MemoryStore::default());
    /// let mut new = NewJob::new("github.com/shoko/kugetsu#14".parse()?, "fix the bug");
    /// new.request_id = Some("webhook-7731".into());
    /// let (first, is_new) = queue.enqueue(new.clone())?;
    /// assert!(is_new);
    /// // Asked again, because the answer was lost on its way:
    /// let (again, is_new) = queue.enqueue(new)?;
    /// assert!(!is_new && again.id == first.id);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OpRefused::Invalid`] for what [`NewJob::validate`] refuses; [`QueueError::Store`].
    pub fn enqueue(&self, new: NewJob) -> Result<(Job, bool), QueueError> {
        match self.one(Op::Enqueue(new))? {
            Reply::Enqueued { job, new } => Ok((*job, new)),
            other => unreachable!("an enqueue is not answered by {other:?}"),
        }
    }

    /// Takes the best job that is due: of the highest priority, and of those the oldest, whose
    /// issue has no other job that runs. It is the caller's until its lease lapses; the token in
    /// [`Job::lease`] goes with every later request about it.
    ///
    /// The inner `Err` is no failure: there is nothing to claim now, and why.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`].
    pub fn claim(&self, claim: Claim) -> Result<Result<Job, NothingToClaim>, QueueError> {
        match self.one(Op::Claim(claim))? {
            Reply::Claimed(job) => Ok(Ok(*job)),
            Reply::NothingToClaim(why) => Ok(Err(why)),
            other => unreachable!("a claim is not answered by {other:?}"),
        }
    }

    /// Adds a job and claims it, or refuses and adds nothing.
    ///
    /// # Errors
    ///
    /// [`OpRefused::Invalid`], [`OpRefused::Paused`], [`OpRefused::CapReached`], and
    /// [`OpRefused::IssueBusy`] if the issue has a job that runs, or the request a job already;
    /// [`QueueError::Store`].
    pub fn launch(&self, new: NewJob, claim: Claim) -> Result<Job, QueueError> {
        match self.one(Op::Launch(new, claim))? {
            Reply::Claimed(job) => Ok(*job),
            Reply::Enqueued { job, .. } => Err(QueueError::Refused(OpRefused::IssueBusy(job.id))),
            other => unreachable!("a launch is not answered by {other:?}"),
        }
    }

    /// Records the process that holds the job's agent. The same run twice is no error.
    ///
    /// # Errors
    ///
    /// [`Refused::LeaseLost`](crate::job::Refused::LeaseLost) if the lease is another one's by now, [`Refused::HasRun`](crate::job::Refused::HasRun) if a later
    /// round is recorded; [`OpRefused::NoSuchJob`]; [`QueueError::Store`].
    pub fn start(&self, id: JobId, token: Token, run: Run) -> Result<Job, QueueError> {
        self.apply_event(id, Event::Start { token, run })
    }

    /// Holds the lease for `lease_ms` milliseconds from now; 0 lets it lapse at once. A lease that
    /// ran out can be renewed as long as nobody took the job.
    ///
    /// # Errors
    ///
    /// [`Refused::LeaseLost`](crate::job::Refused::LeaseLost): let go of the work, it is another one's; [`OpRefused::NoSuchJob`];
    /// [`QueueError::Store`], after which the lease holds for as long as it did.
    pub fn renew(&self, id: JobId, token: Token, lease_ms: u64) -> Result<Job, QueueError> {
        self.apply_event(id, Event::Renew { token, lease_ms })
    }

    /// Ends the attempt. The job has ended then, or is pending again if a retry is left: `policy`
    /// says how many there are and how long they wait. `seed` chooses within that wait, so that
    /// jobs which failed together do not come back together: any number that differs, like the
    /// token's.
    ///
    /// # Errors
    ///
    /// [`Refused::LeaseLost`](crate::job::Refused::LeaseLost) if somebody else has settled the job, or this is the second time;
    /// [`OpRefused::NoSuchJob`]; [`QueueError::Store`].
    pub fn finish(
        &self,
        id: JobId,
        token: Token,
        report: Report,
        policy: RetryPolicy,
        seed: u64,
    ) -> Result<Job, QueueError> {
        self.apply_event(id, Event::Finish { token, report, policy, seed })
    }

    /// Takes over a job and its run from the holder of a lease, whose token is worth nothing from
    /// then on. The new one is in the answer.
    ///
    /// # Errors
    ///
    /// [`Refused::LeaseLost`](crate::job::Refused::LeaseLost) if that lease is not the job's any more; [`OpRefused::NoSuchJob`];
    /// [`QueueError::Store`].
    pub fn adopt(
        &self,
        job: JobId,
        token: Token,
        worker: WorkerId,
        lease_ms: u64,
    ) -> Result<Job, QueueError> {
        match self.one(Op::Adopt { job, token, worker, lease_ms })? {
            Reply::Changed(job) | Reply::AlreadySo(job) => Ok(*job),
            other => unreachable!("an adoption is not answered by {other:?}"),
        }
    }

    /// Calls a job off: at once if it is pending; if it runs, its worker ends it, and the answer
    /// is a job that is still notified. Twice is no error.
    ///
    /// # Errors
    ///
    /// [`Refused::Wrong`](crate::job::Refused::Wrong) if it is completed or in error; [`OpRefused::NoSuchJob`];
    /// [`QueueError::Store`].
    pub fn cancel(&self, id: JobId) -> Result<Job, QueueError> {
        self.apply_event(id, Event::Cancel)
    }

    /// Makes an ended job pending again, with all of its attempts anew. A pending one stays as it
    /// is.
    ///
    /// # Errors
    ///
    /// [`Refused::Wrong`](crate::job::Refused::Wrong) if it runs; [`OpRefused::NoSuchJob`]; [`QueueError::Store`].
    pub fn retry(&self, id: JobId) -> Result<Job, QueueError> {
        self.apply_event(id, Event::Retry)
    }

    /// Changes what a pending job asks for. What it asked for already is no error.
    ///
    /// ```
    /// use kugetsu::job::{Edit, NewJob};
    /// use kugetsu::store::MemoryStore;
    /// use kugetsu::Queue;
    ///
    /// let queue = Queue::new(MemoryStore::default());
    /// let (job, _) = queue.enqueue(NewJob::new("github.com/shoko/kugetsu#14".parse()?, "fix"))?;
    /// let mut edit = Edit::default();
    /// edit.priority = Some(5);
    /// assert_eq!(queue.edit(job.id, edit)?.priority, 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OpRefused::Invalid`] for what [`Edit::validate`] refuses, [`Refused::Wrong`](crate::job::Refused::Wrong) if the job
    /// is not pending any more; [`OpRefused::NoSuchJob`]; [`QueueError::Store`].
    pub fn edit(&self, id: JobId, edit: Edit) -> Result<Job, QueueError> {
        self.apply_event(id, Event::Edit(edit))
    }

    /// Removes jobs that ended, the oldest first, in transactions of at most
    /// [`limits::OPS_PER_COMMIT_MAX`]. Gives how many.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`]; what was removed before stays removed.
    pub fn prune(&self, prune: &Prune) -> Result<u64, QueueError> {
        let stats = self.stats()?;
        let ended: u64 = prune.states.iter().map(|kind| stats.count(*kind)).sum();
        let until = prune.before.unwrap_or(self.now());
        self.remove_in_slices(ended.saturating_sub(prune.keep).min(prune.limit), |limit| {
            Ok(self.store.ended_until(&prune.states, until, limit)?)
        })
    }

    /// Removes every job that does not run, in transactions of at most
    /// [`limits::OPS_PER_COMMIT_MAX`]. Gives how many.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`]; what was removed before stays removed.
    pub fn clear(&self) -> Result<u64, QueueError> {
        let states: Vec<StateKind> =
            StateKind::ALL.into_iter().filter(|kind| *kind != StateKind::Notified).collect();
        let query = |limit| ListQuery { states: states.clone(), issue: None, limit };
        // Only as many as there were at the beginning: others may go on adding.
        self.remove_in_slices(self.list(&query(0))?.total, |limit| {
            Ok(self.list(&query(limit))?.items.iter().map(|job| job.id).collect())
        })
    }

    /// Removes at most `room` jobs, a slice of what `next` gives at a time, until it gives none
    /// that can be removed. Gives how many.
    fn remove_in_slices(
        &self,
        room: u64,
        next: impl Fn(usize) -> Result<Vec<JobId>, QueueError>,
    ) -> Result<u64, QueueError> {
        let mut removed = 0;
        while removed < room {
            let left = usize::try_from(room - removed).unwrap_or(usize::MAX);
            let ids = next(left.min(limits::OPS_PER_COMMIT_MAX))?;
            let answers = self.commit(ids.iter().map(|id| Op::Remove(*id)).collect())?;
            let count = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
            if count == 0 {
                break;
            }
            removed += count;
        }
        Ok(removed)
    }

    /// Lets nothing be claimed until the time, or until [`Queue::resume`]. What runs goes on.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`].
    pub fn pause(&self, until: Option<Timestamp>) -> Result<(), QueueError> {
        self.one(Op::Pause { until }).map(drop)
    }

    /// Lets jobs be claimed again.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`].
    pub fn resume(&self) -> Result<(), QueueError> {
        self.one(Op::Resume).map(drop)
    }

    /// Remembers the session of a job's issue, under the job's lease.
    ///
    /// # Errors
    ///
    /// [`Refused::LeaseLost`](crate::job::Refused::LeaseLost) if the lease is another one's by now, or the job is gone;
    /// [`QueueError::Store`].
    pub fn save_session(
        &self,
        job: JobId,
        token: Token,
        session: Session,
    ) -> Result<(), QueueError> {
        self.one(Op::SaveSession { job, token, session }).map(drop)
    }

    /// Several operations in one transaction, answered one by one and in their order. A refused
    /// one changes nothing and does not hold up the others. At most
    /// [`limits::OPS_PER_COMMIT_MAX`].
    ///
    /// ```
    /// use kugetsu::job::NewJob;
    /// use kugetsu::store::{MemoryStore, Op};
    /// use kugetsu::Queue;
    ///
    /// let queue = Queue::new(MemoryStore::default());
    /// let enqueue = |number: u32| {
    ///     let issue = format!("github.com/shoko/kugetsu#{number}").parse().expect("a reference");
    ///     Op::Enqueue(NewJob::new(issue, "fix the bug"))
    /// };
    /// let answers = queue.commit((1..=100).map(enqueue).collect())?;
    /// assert!(answers.iter().all(|answer| answer.is_ok()));
    /// # Ok::<(), kugetsu::QueueError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OpRefused::Invalid`] if there are more; [`QueueError::Store`].
    pub fn commit(&self, operations: Vec<Op>) -> Result<Vec<Answer>, QueueError> {
        if operations.len() > limits::OPS_PER_COMMIT_MAX {
            let limit = limits::OPS_PER_COMMIT_MAX;
            let why = format!("a commit has at most {limit} operations, not {}", operations.len());
            return Err(QueueError::Refused(OpRefused::Invalid(why)));
        }
        self.group.commit(&*self.store, operations)
    }

    /// One job, or `None` if there never was one of this number or it is pruned.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`].
    pub fn get(&self, id: JobId) -> Result<Option<Job>, QueueError> {
        Ok(self.store.get(id)?)
    }

    /// A page of jobs: running ones, then pending ones, then ended ones from the last on.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`].
    pub fn list(&self, query: &ListQuery) -> Result<Page, QueueError> {
        Ok(self.store.list(query)?)
    }

    /// Jobs with larger numbers than `after`, in the order of their numbers, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`].
    pub fn jobs_after(&self, after: JobId, limit: usize) -> Result<Vec<Job>, QueueError> {
        Ok(self.store.jobs_after(after, limit)?)
    }

    /// What is between a job and its turn, or `None` if there is no such job. Jobs that go before
    /// it are counted up to `ahead_max`.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`].
    pub fn position(&self, id: JobId, ahead_max: usize) -> Result<Option<Position>, QueueError> {
        Ok(self.store.position(id, ahead_max)?)
    }

    /// How many jobs are where. It costs the same whatever is in the queue.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`].
    pub fn stats(&self) -> Result<Stats, QueueError> {
        Ok(self.store.stats()?)
    }

    /// The session of an issue, if it has one.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`].
    pub fn session(&self, issue: &IssueRef) -> Result<Option<Session>, QueueError> {
        Ok(self.store.session(issue)?)
    }

    /// All sessions, by issue.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`].
    pub fn sessions(&self) -> Result<Vec<Session>, QueueError> {
        Ok(self.store.sessions()?)
    }

    /// Forgets the session of an issue that has no running job.
    ///
    /// # Errors
    ///
    /// [`OpRefused::NoSuchSession`], [`OpRefused::IssueBusy`]; [`QueueError::Store`].
    pub fn forget_session(&self, issue: &IssueRef) -> Result<(), QueueError> {
        self.one(Op::ForgetSession(issue.clone())).map(drop)
    }

    /// What differs between the jobs and the store's indexes, at most [`limits::PROBLEMS_MAX`]
    /// texts; empty is good. Reads all jobs.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`].
    pub fn verify(&self) -> Result<Vec<String>, QueueError> {
        Ok(self.store.verify()?)
    }

    /// The time that the queue goes by.
    pub fn now(&self) -> Timestamp {
        self.store.now()
    }

    /// Wake-ups when something may have changed, in this process or another.
    pub fn watch(&self) -> Watch {
        self.store.watch()
    }

    fn apply_event(&self, id: JobId, event: Event) -> Result<Job, QueueError> {
        match self.one(Op::Apply(id, event))? {
            Reply::Changed(job) | Reply::AlreadySo(job) => Ok(*job),
            other => unreachable!("an event is not answered by {other:?}"),
        }
    }

    fn one(&self, op: Op) -> Result<Reply, QueueError> {
        let mut answers = self.commit(vec![op])?;
        assert_eq!(answers.len(), 1, "one operation has one answer");
        answers.remove(0).map_err(QueueError::Refused)
    }
}

/// Group commit: the first thread in line leads, and takes along whoever waits behind it.
#[derive(Default)]
struct Group {
    line: Mutex<WaitingLine>,
    moved: Condvar,
}

#[derive(Default)]
struct WaitingLine {
    /// Number of the next one to line up.
    next: u64,
    /// Whether a thread is on its way to the disk.
    led: bool,
    waiting: Vec<(u64, Vec<Op>)>,
    done: Vec<(u64, Result<Vec<Answer>, QueueError>)>,
}

impl Group {
    fn commit(&self, store: &dyn Store, operations: Vec<Op>) -> Result<Vec<Answer>, QueueError> {
        let mut line = self.line();
        let number = line.next;
        line.next += 1;
        line.waiting.push((number, operations));
        loop {
            if let Some(at) = line.done.iter().position(|(done, _)| *done == number) {
                return line.done.swap_remove(at).1;
            }
            if line.led {
                line = self.moved.wait(line).expect("no thread panics while it holds the line");
                continue;
            }
            line.led = true;
            let batch = take_batch(&mut line.waiting);
            drop(line);
            let mut leader = Leader {
                group: self,
                numbers: batch.iter().map(|(number, _)| *number).collect(),
                done: Vec::new(),
            };
            leader.done = commit_batch(store, batch);
            drop(leader);
            line = self.line();
        }
    }

    fn line(&self) -> MutexGuard<'_, WaitingLine> {
        self.line.lock().expect("no thread panics while it holds the line")
    }
}

/// Hands out the answers and gives the lead back, also when the store panics.
struct Leader<'g> {
    group: &'g Group,
    numbers: Vec<u64>,
    done: Done,
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        let mut line = self.group.line();
        line.led = false;
        if std::thread::panicking() {
            let error = QueueError::from(StoreError::Panicked);
            line.done.extend(self.numbers.iter().map(|number| (*number, Err(error.clone()))));
        } else {
            line.done.append(&mut self.done);
        }
        self.group.moved.notify_all();
    }
}

/// As many as fit in a commit, in their order, and one in any case.
fn take_batch(waiting: &mut Vec<(u64, Vec<Op>)>) -> Vec<(u64, Vec<Op>)> {
    let mut room = limits::OPS_PER_COMMIT_MAX;
    let fits = waiting
        .iter()
        .take_while(|(_, operations)| {
            let fits = operations.len() <= room;
            room = room.saturating_sub(operations.len());
            fits
        })
        .count();
    waiting.drain(..fits.max(1)).collect()
}

type Done = Vec<(u64, Result<Vec<Answer>, QueueError>)>;

fn commit_batch(store: &dyn Store, batch: Vec<(u64, Vec<Op>)>) -> Done {
    let lengths: Vec<(u64, usize)> =
        batch.iter().map(|(number, operations)| (*number, operations.len())).collect();
    let operations = batch.into_iter().flat_map(|(_, operations)| operations).collect();
    match store.commit(operations) {
        Ok(answers) => {
            let mut answers = answers.into_iter();
            lengths
                .into_iter()
                .map(|(number, length)| (number, Ok(answers.by_ref().take(length).collect())))
                .collect()
        }
        Err(error) => {
            let error = QueueError::from(error);
            lengths.into_iter().map(|(number, _)| (number, Err(error.clone()))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;
    use crate::store::MemoryStore;

    /// Counts commits, and holds the first until the rest have lined up behind it.
    struct Slow {
        inner: MemoryStore,
        commits: AtomicU64,
        group: Mutex<Option<Arc<Group>>>,
        behind: usize,
    }

    impl Store for Arc<Slow> {
        fn commit(&self, operations: Vec<Op>) -> Result<Vec<Answer>, StoreError> {
            if self.commits.fetch_add(1, Ordering::SeqCst) == 0 {
                let group = self.group.lock().expect("a lock").clone().expect("it is set");
                while group.line().waiting.len() < self.behind {
                    thread::yield_now();
                }
            }
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
        fn position(&self, id: JobId, limit: usize) -> Result<Option<Position>, StoreError> {
            self.inner.position(id, limit)
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
        fn now(&self) -> Timestamp {
            self.inner.now()
        }
        fn watch(&self) -> Watch {
            self.inner.watch()
        }
    }

    #[test]
    fn threads_share_a_commit_and_each_gets_its_own_answer() {
        const THREADS: usize = 8;
        let slow = Arc::new(Slow {
            inner: MemoryStore::default(),
            commits: AtomicU64::new(0),
            group: Mutex::new(None),
            behind: THREADS - 1,
        });
        let queue = Queue::new(slow.clone());
        *slow.group.lock().expect("a lock") = Some(queue.group.clone());
        thread::scope(|scope| {
            for number in 1..=THREADS {
                let queue = queue.clone();
                scope.spawn(move || {
                    let issue: IssueRef =
                        format!("h/o/r#{number}").parse().expect("a good reference");
                    let (job, new) =
                        queue.enqueue(NewJob::new(issue.clone(), "fix")).expect("an enqueue");
                    assert!(new && job.issue == issue);
                });
            }
        });
        assert_eq!(queue.stats().expect("a read").pending, THREADS as u64);
        assert_eq!(slow.commits.load(Ordering::SeqCst), 2, "the rest went together");
    }
}
