//! Runs closures through the pool that runs agents: one succeeds, one fails and is tried again, and
//! one is called off while it runs.
//!
//! `cargo run --example closures`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use kugetsu::crossbeam_channel::{bounded, never};
use kugetsu::daemon::Worker;
use kugetsu::executor::{Control, Stop};
use kugetsu::job::{NewJob, Reason, Report, RetryPolicy};
use kugetsu::store::{ListQuery, RedbStore};
use kugetsu::time::SystemClock;
use kugetsu::worker::Settings;
use kugetsu::{Job, Queue};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = RedbStore::open(&folder.path().join("queue.redb"), Arc::new(SystemClock))?;
    let queue = Queue::new(store);

    // A job is an issue and a message. What they mean is the executor's affair; jobs of one issue
    // run one at a time, so these three have one each.
    queue.enqueue(NewJob::new("example.org/demo/closures#1".parse()?, "succeed"))?;
    queue.enqueue(NewJob::new("example.org/demo/closures#2".parse()?, "fail once"))?;
    queue.enqueue(NewJob::new("example.org/demo/closures#3".parse()?, "take for ever"))?;

    // Calls the endless one off as soon as it says that it runs. Any process could do that.
    let (says, endless) = bounded(1);
    let canceller = thread::spawn({
        let queue = queue.clone();
        move || endless.recv().map(|id| queue.cancel(id))
    });

    let work = move |job: &Job, control: &Control| {
        println!("job {}, attempt {}: {}", job.id, job.attempt_number(), job.message);
        match job.message.as_str() {
            "succeed" => Report::new(Reason::Done, "it was easy"),
            "fail once" if job.attempt_number() == 1 => {
                // Tried again, after a pause, as often as the policy says.
                Report::new(Reason::AgentError, "the first attempt fails")
            }
            "fail once" => Report::new(Reason::Done, "the second attempt does not"),
            _ => {
                let _ = says.try_send(job.id);
                work_in_slices(control)
            }
        }
    };

    let mut settings = Settings::default();
    settings.once = true; // ends when nothing is left
    let mut policy = RetryPolicy::default();
    policy.backoff_ms_first = 100;
    let worker = Worker::new(queue.clone(), settings, work)?.with_policy(policy);
    // A program that lives on would keep the other end of this channel, to end its worker.
    worker.run(&never())?;
    let _ = canceller.join();

    println!();
    for job in queue.list(&ListQuery::all(10))?.items.iter().rev() {
        let state = job.state.kind();
        let detail = job.outcome().map_or("", |outcome| outcome.detail.as_str());
        println!("job {}: {state} after {} attempt(s): {detail}", job.id, job.attempts.len());
    }
    Ok(())
}

/// Work that can be stopped looks between two slices whether it should.
fn work_in_slices(control: &Control) -> Report {
    for slice in 0.. {
        match control.stop().recv_timeout(Duration::from_millis(20)) {
            Err(_) => {} // nobody says stop: the next slice
            Ok(Stop::Cancel) => {
                println!("called off in slice {slice}");
                return Report::new(Reason::Cancelled, "called off while it ran");
            }
            // The worker ends. The job is pending again, and no attempt is used up.
            Ok(_) => return Report::new(Reason::Shutdown, "the worker ends"),
        }
    }
    unreachable!("there is always a next slice")
}
