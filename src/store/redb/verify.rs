//! Recomputes every index and counter from the jobs alone.

use std::collections::BTreeMap;

use ::redb::{ReadableTable, ReadableTableMetadata};

use crate::job::{Job, State, limits};
use crate::store::StoreError;
use crate::store::apply::Header;
use crate::store::redb::read::Reader;
use crate::store::redb::tables::{self, Lane};
use crate::store::redb::{OrDamaged, decode_job};

/// What the jobs say that the indexes must hold.
struct Expected {
    counts: Header,
    jobs: u64,
    scheduled: u64,
    request_ids: u64,
    last_id: u64,
    last_token: u64,
    /// The first due job of each issue without a running one.
    heads: BTreeMap<String, Head>,
}

#[derive(Default)]
struct Head {
    running: u32,
    first_due: Option<(u32, u64)>,
}

/// What was found, up to a bound.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, problem: String) {
        if self.0.len() < limits::PROBLEMS_MAX {
            self.0.push(problem);
        }
    }

    fn check(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.add(problem());
        }
    }
}

impl Reader<'_> {
    /// The differences between what the jobs say and what the indexes hold; empty is good.
    pub fn verify(&self) -> Result<Vec<String>, StoreError> {
        let mut problems = Problems::default();
        let mut expected = Expected {
            counts: Header::EMPTY,
            jobs: 0,
            scheduled: 0,
            request_ids: 0,
            last_id: 0,
            last_token: 0,
            heads: BTreeMap::new(),
        };
        let jobs = self.txn.open_table(tables::JOBS).or_damaged(self.path)?;
        for row in jobs.iter().or_damaged(self.path)? {
            let (key, bytes) = row.or_damaged(self.path)?;
            match decode_job(self.path, bytes.value()) {
                Ok(job) if job.id.0 != key.value() => {
                    problems.add(format!("row {} holds job {}", key.value(), job.id));
                }
                Ok(job) => self.check_job(&job, &mut expected, &mut problems)?,
                Err(error) => problems.add(format!("job {}: {error}", key.value())),
            }
        }
        self.check_totals(&expected, &mut problems)?;
        self.check_ready(&expected, &mut problems)?;
        Ok(problems.0)
    }

    /// The job's rows are there. That there are no others, the totals show.
    fn check_job(
        &self,
        job: &Job,
        expected: &mut Expected,
        problems: &mut Problems,
    ) -> Result<(), StoreError> {
        let id = job.id.0;
        expected.last_id = expected.last_id.max(id);
        expected.counts.count(job);
        expected.jobs += 1;
        let states = self.txn.open_table(tables::STATES).or_damaged(self.path)?;
        let stated = states.get(tables::state_row(job)).or_damaged(self.path)?.is_some();
        problems.check(stated, || format!("job {id} is not in 'states'"));

        let issues = self.txn.open_table(tables::ISSUES).or_damaged(self.path)?;
        let is_in = |lane: Lane| -> Result<bool, StoreError> {
            let row = (job.issue.key(), lane as u8, tables::rank(job), id);
            Ok(issues.get(row).or_damaged(self.path)?.is_some())
        };
        let lane = match &job.state {
            State::Pending(_) if is_in(Lane::Scheduled)? => Lane::Scheduled,
            State::Pending(_) => Lane::Due,
            State::Notified(_) => Lane::Running,
            State::Completed(_) | State::Error(_) | State::Cancelled(_) => Lane::Ended,
        };
        problems.check(is_in(lane)?, || format!("job {id} is not in 'issues' as {lane:?}"));
        let head = expected.heads.entry(job.issue.key().to_string()).or_default();
        match (&job.state, lane) {
            (State::Pending(pending), Lane::Scheduled) => {
                expected.scheduled += 1;
                let table = self.txn.open_table(tables::SCHEDULED).or_damaged(self.path)?;
                let row = table.get((pending.run_at.0, id)).or_damaged(self.path)?;
                problems.check(row.is_some(), || format!("job {id} is not in 'scheduled'"));
            }
            (State::Pending(_), _) => {
                let first = (tables::rank(job), id);
                head.first_due = Some(head.first_due.map_or(first, |due| due.min(first)));
            }
            (State::Notified(lease), _) => {
                head.running += 1;
                expected.last_token = expected.last_token.max(lease.token.0);
            }
            (State::Completed(_) | State::Error(_) | State::Cancelled(_), _) => {}
        }
        if let Some(request_id) = &job.request_id {
            expected.request_ids += 1;
            let table = self.txn.open_table(tables::REQUEST_IDS).or_damaged(self.path)?;
            let found = table.get(request_id.as_str()).or_damaged(self.path)?;
            problems.check(found.is_some_and(|found| found.value() == id), || {
                format!("job {id} is not in 'request_ids'")
            });
        }
        Ok(())
    }

    fn check_totals(&self, expected: &Expected, problems: &mut Problems) -> Result<(), StoreError> {
        let header = self.header()?;
        let counters = header.counters().into_iter().zip(expected.counts.counters());
        for ((name, counter), (_, jobs)) in counters {
            problems.check(counter == jobs, || format!("{name}: counter {counter}, jobs {jobs}"));
        }
        problems.check(header.next_job > expected.last_id, || {
            format!("the next job would be {}, but {} is used", header.next_job, expected.last_id)
        });
        problems.check(header.next_token > expected.last_token, || {
            format!(
                "the next token would be {}, but {} is used",
                header.next_token, expected.last_token
            )
        });
        let jobs = expected.jobs;
        let txn = &self.txn;
        let lengths = [
            ("issues", txn.open_table(tables::ISSUES).or_damaged(self.path)?.len(), jobs),
            ("states", txn.open_table(tables::STATES).or_damaged(self.path)?.len(), jobs),
            (
                "scheduled",
                txn.open_table(tables::SCHEDULED).or_damaged(self.path)?.len(),
                expected.scheduled,
            ),
            (
                "request_ids",
                txn.open_table(tables::REQUEST_IDS).or_damaged(self.path)?.len(),
                expected.request_ids,
            ),
        ];
        for (name, length, expected) in lengths {
            let length = length.or_damaged(self.path)?;
            problems.check(length == expected, || {
                format!("'{name}' has {length} rows, the jobs say {expected}")
            });
        }
        Ok(())
    }

    fn check_ready(&self, expected: &Expected, problems: &mut Problems) -> Result<(), StoreError> {
        let ready = self.txn.open_table(tables::READY).or_damaged(self.path)?;
        let mut rows = 0;
        for (issue, head) in &expected.heads {
            problems
                .check(head.running <= 1, || format!("{issue} has {} running jobs", head.running));
            if let (0, Some(first)) = (head.running, head.first_due) {
                rows += 1;
                let row = ready.get(first).or_damaged(self.path)?;
                problems.check(row.is_some(), || {
                    format!("job {}, the next of {issue}, is not in 'ready'", first.1)
                });
            }
        }
        let length = ready.len().or_damaged(self.path)?;
        problems
            .check(length == rows, || format!("'ready' has {length} rows, the jobs say {rows}"));
        Ok(())
    }
}
