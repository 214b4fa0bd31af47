//! Prints what changes in a queue, whichever process changes it.
//!
//! `cargo run --example watch`: a queue of its own, with a worker, until its jobs have ended.
//! `cargo run --example watch -- ~/.kugetsu/queue.redb [CHANGES]`: yours, until it has seen so many
//! changes, or Ctrl-C.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kugetsu::crossbeam_channel::never;
use kugetsu::daemon::Worker;
use kugetsu::executor::Control;
use kugetsu::job::{NewJob, Reason, Report, StateKind};
use kugetsu::store::{ListQuery, RedbStore};
use kugetsu::time::SystemClock;
use kugetsu::worker::Settings;
use kugetsu::{Job, JobId, Queue, QueueError};

/// A wake-up may be missed, so this is how long a change stays unseen at most.
const PATIENCE: Duration = Duration::from_secs(1);
/// Jobs that are looked at: those that run, that wait, and that ended last.
const JOBS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next();
    let mut left = arguments.next().map_or(Ok(usize::MAX), |changes| changes.parse())?;

    let folder = tempfile::tempdir()?;
    let queue = match &file {
        Some(file) => open(Path::new(file))?,
        None => open(&folder.path().join("queue.redb"))?,
    };
    // Watched before the first reading, so that no change falls between the two.
    let watch = queue.watch();
    let demo = if file.is_none() { Some(begin_demo(queue.clone())?) } else { None };

    let mut known = BTreeMap::new();
    while left > 0 {
        // Asked before the reading: what the demo did last is seen by it.
        let is_last = demo.as_ref().is_some_and(JoinHandle::is_finished);
        left = left.saturating_sub(print_changes(&queue, &mut known)?);
        if is_last {
            break;
        }
        // A wake-up says that something may have changed, not what. Several changes are one
        // wake-up, so a job may have gone through a state that nobody saw.
        let _ = watch.wakeups().recv_timeout(PATIENCE);
    }
    println!("that was all");
    Ok(())
}

fn open(file: &Path) -> Result<Queue, Box<dyn Error>> {
    Ok(Queue::new(RedbStore::open(file, Arc::new(SystemClock))?))
}

/// Prints which jobs are in another state than they were. Gives how many.
fn print_changes(
    queue: &Queue,
    known: &mut BTreeMap<JobId, StateKind>,
) -> Result<usize, QueueError> {
    let mut changes = 0;
    for job in queue.list(&ListQuery::all(JOBS))?.items {
        let state = job.state.kind();
        let before = known.insert(job.id, state);
        if before != Some(state) {
            let before = before.map_or("new", StateKind::name);
            println!("job {} of {}: {before} -> {state}", job.id, job.issue);
            changes += 1;
        }
    }
    Ok(changes)
}

/// Three jobs, and a worker on a thread of its own that ends when they have ended.
fn begin_demo(queue: Queue) -> Result<JoinHandle<()>, Box<dyn Error>> {
    for number in 1..=3 {
        let issue = format!("example.org/demo/watch#{number}").parse()?;
        queue.enqueue(NewJob::new(issue, "take a while"))?;
    }
    let mut settings = Settings::default();
    settings.cap = 1;
    settings.once = true;
    let worker = Worker::new(queue, settings, |_: &Job, control: &Control| {
        match control.stop().recv_timeout(Duration::from_millis(200)) {
            Err(_) => Report::new(Reason::Done, "a while is over"),
            Ok(_) => Report::new(Reason::Shutdown, "told to stop"),
        }
    })?;
    Ok(thread::spawn(move || {
        if let Err(error) = worker.run(&never()) {
            println!("the worker ended: {error}");
        }
    }))
}
