//! Group commit: threads that write at the same time share a transaction.

use std::sync::{Condvar, Mutex, MutexGuard};

use crate::job::limits;
use crate::queue::QueueError;
use crate::store::{Answer, Op, Store, StoreError};

/// Group commit: the first thread in line leads, and takes along whoever waits behind it.
#[derive(Default)]
pub(super) struct Group {
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
    pub fn commit(
        &self,
        store: &dyn Store,
        operations: Vec<Op>,
    ) -> Result<Vec<Answer>, QueueError> {
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;
    use crate::job::{IssueRef, Job, JobId, NewJob, Session, StateKind};
    use crate::queue::Queue;
    use crate::store::{ListQuery, MemoryStore, Page, Position, Stats, Watch};
    use crate::time::Timestamp;

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
