//! Enqueues from more and more threads. Each job is on disk when `enqueue` returns, and yet many
//! threads get more done than one: those that wait for the disk at the same time share a commit.
//!
//! `cargo run --release --example threads -- [FOLDER]`: the figures are those of the folder's disk,
//! else of the one for temporary files, which may be none.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;
use std::thread;

use kugetsu::job::NewJob;
use kugetsu::store::RedbStore;
use kugetsu::time::SystemClock;
use kugetsu::{Queue, QueueError};

const JOBS_PER_THREAD: u64 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = match std::env::args_os().nth(1) {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let store = RedbStore::open(&folder.path().join("queue.redb"), Arc::new(SystemClock))?;
    let queue = Queue::new(store);

    println!("threads    jobs      ms  jobs/s");
    for threads in [1, 4, 16] {
        let began = queue.now();
        // A clone is the same queue: cheap, and for a thread of its own.
        let clones: Vec<Queue> = (0..threads).map(|_| queue.clone()).collect();
        let workers: Vec<_> =
            clones.into_iter().map(|queue| thread::spawn(move || enqueue_many(&queue))).collect();
        for worker in workers {
            worker.join().expect("no thread panics")?;
        }
        let ms = queue.now().ms_since(began).max(1);
        let jobs = threads * JOBS_PER_THREAD;
        println!("{threads:7} {jobs:7} {ms:7} {:7}", jobs * 1000 / ms);
    }
    println!("{} jobs are pending, and on disk", queue.stats()?.pending);
    Ok(())
}

fn enqueue_many(queue: &Queue) -> Result<(), QueueError> {
    for number in 1..=JOBS_PER_THREAD {
        let issue = format!("example.org/demo/threads#{number}");
        let issue = issue.parse().expect("a reference of letters and a number");
        // One transaction of its own. Whoever has many jobs at hand gives them to
        // `Queue::commit`, up to a thousand in one.
        queue.enqueue(NewJob::new(issue, "work"))?;
    }
    Ok(())
}
