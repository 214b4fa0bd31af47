//! The queue: one method, one durable transaction.
//!
//! Every change is on disk when its method returns. What can go wrong is a [`QueueError`]: either
//! the request is [refused](QueueError::Refused), which is for the caller to understand, or the
//! [store](QueueError::Store) cannot do it, which is for somebody to look at, or to try again when
//! it is [busy](crate::store::StoreError::Busy).
//!
//! Threads that write at the same time share a commit: while one thread is on its way to the disk,
//! the others line up behind it, and the next one takes all of them along.

mod commit;
mod error;
mod removal;

use std::sync::Arc;

use crate::job::{
    Edit, Event, IssueRef, Job, JobId, NewJob, Report, RetryPolicy, Run, Session, Token, WorkerId,
    limits,
};
use crate::queue::commit::Group;
use crate::store::{
    Answer, Claim, ListQuery, NothingToClaim, Op, OpRefused, Page, Position, Reply, Resumed, Stats,
    Store, Watch,
};
use crate::time::Timestamp;

pub use self::error::QueueError;
pub use self::removal::Prune;

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
    /// [`OpRefused::Invalid`], [`OpRefused::Paused`], [`OpRefused::AgentHeld`],
    /// [`OpRefused::CapReached`], and
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
    /// [`Refused::LeaseLost`](crate::job::Refused::LeaseLost) if the lease is another one's by now,
    /// [`Refused::HasRun`](crate::job::Refused::HasRun) if a later round is recorded;
    /// [`OpRefused::NoSuchJob`]; [`QueueError::Store`].
    pub fn start(&self, id: JobId, token: Token, run: Run) -> Result<Job, QueueError> {
        self.apply_event(id, Event::Start { token, run })
    }

    /// Holds the lease for `lease_ms` milliseconds from now; 0 lets it lapse at once. A lease that
    /// ran out can be renewed as long as nobody took the job.
    ///
    /// # Errors
    ///
    /// [`Refused::LeaseLost`](crate::job::Refused::LeaseLost): let go of the work, it is another
    /// one's; [`OpRefused::NoSuchJob`]; [`QueueError::Store`], after which the lease holds for as
    /// long as it did.
    pub fn renew(&self, id: JobId, token: Token, lease_ms: u64) -> Result<Job, QueueError> {
        self.apply_event(id, Event::Renew { token, lease_ms })
    }

    /// Notes that the job's agent has ended, and that how cannot be read yet. The job stays notified
    /// and its issue taken, but it does not count against the cap any more. `why` is for people.
    ///
    /// # Errors
    ///
    /// [`Refused::LeaseLost`](crate::job::Refused::LeaseLost) if the lease is another one's by now;
    /// [`OpRefused::NoSuchJob`]; [`QueueError::Store`].
    pub fn judge(
        &self,
        id: JobId,
        token: Token,
        why: impl Into<String>,
    ) -> Result<Job, QueueError> {
        self.apply_event(id, Event::Judge { token, why: why.into() })
    }

    /// Ends the attempt. The job has ended then, or is pending again if a retry is left: `policy`
    /// says how many there are and how long they wait. `seed` chooses within that wait, so that
    /// jobs which failed together do not come back together: any number that differs, like the
    /// token's.
    ///
    /// # Errors
    ///
    /// [`Refused::LeaseLost`](crate::job::Refused::LeaseLost) if somebody else has settled the job,
    /// or this is the second time; [`OpRefused::NoSuchJob`]; [`QueueError::Store`].
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
    /// [`Refused::LeaseLost`](crate::job::Refused::LeaseLost) if that lease is not the job's any
    /// more; [`OpRefused::NoSuchJob`]; [`QueueError::Store`].
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
    /// [`Refused::Wrong`](crate::job::Refused::Wrong) if it is completed or in error;
    /// [`OpRefused::NoSuchJob`]; [`QueueError::Store`].
    pub fn cancel(&self, id: JobId) -> Result<Job, QueueError> {
        self.apply_event(id, Event::Cancel)
    }

    /// Makes an ended job pending again, with all of its attempts anew. One that is held goes on
    /// where it was; another pending one stays as it is.
    ///
    /// # Errors
    ///
    /// [`Refused::Wrong`](crate::job::Refused::Wrong) if it runs; [`OpRefused::NoSuchJob`];
    /// [`QueueError::Store`].
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
    /// [`OpRefused::Invalid`] for what [`Edit::validate`] refuses,
    /// [`Refused::Wrong`](crate::job::Refused::Wrong) if the job is not pending any more;
    /// [`OpRefused::NoSuchJob`]; [`QueueError::Store`].
    pub fn edit(&self, id: JobId, edit: Edit) -> Result<Job, QueueError> {
        self.apply_event(id, Event::Edit(edit))
    }

    /// Lets nothing be claimed until the time, or until [`Queue::resume`]. What runs goes on.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`].
    pub fn pause(&self, until: Option<Timestamp>) -> Result<(), QueueError> {
        self.one(Op::Pause { until }).map(drop)
    }

    /// Lets jobs be claimed again: ends the pause, and lifts what holds agent commands back. Gives
    /// what was in force of these.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`].
    pub fn resume(&self) -> Result<Resumed, QueueError> {
        match self.one(Op::Resume)? {
            Reply::Resumed(resumed) => Ok(*resumed),
            other => unreachable!("a resume is not answered by {other:?}"),
        }
    }

    /// Remembers the session of a job's issue, under the job's lease.
    ///
    /// # Errors
    ///
    /// [`Refused::LeaseLost`](crate::job::Refused::LeaseLost) if the lease is another one's by now,
    /// or the job is gone; [`QueueError::Store`].
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

    /// Writes what is there already, to find out whether the store can be written.
    ///
    /// # Errors
    ///
    /// [`QueueError::Store`].
    pub fn examine(&self) -> Result<(), QueueError> {
        Ok(self.store.examine()?)
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
