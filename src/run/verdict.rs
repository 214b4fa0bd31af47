//! Was the work done? Decided from how the run ended and from what it left.

use crate::dialect::{Remedy, SessionAdvice, Source, Trouble};
use crate::job::{Reason, Report, Usage};
use crate::run::{Cause, Completion, Elsewhere, End, Evidence, Facts, Purpose, Seen, Undone};
use crate::worker::Stop;

/// The agent's exit code that asks for later (sysexits' `EX_TEMPFAIL`).
const EXIT_LATER: i32 = 75;

/// What follows from a run that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The attempt is over.
    Over(Ruling),
    /// The attempt goes on with another run.
    Another(Purpose),
    /// What it left cannot be read now, and may be later. Judged again, never run again.
    Unreadable(String),
}

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ruling {
    pub report: Report,
    /// The agent cannot go on with its session: the next attempt begins a fresh one.
    pub forgets_session: bool,
}

/// The first rule that fits decides. What ended the run goes before what it left, what the agent or
/// its provider asks for before what it did, and new work before the agent's exit code.
pub(crate) fn judge(facts: &Facts<'_>) -> Verdict {
    let case = Case { facts, evidence: evidence(facts) };
    if let Some(over) = case.ended_by_others() {
        return over;
    }
    if let Some(over) = case.asks_for_later() {
        return over;
    }
    match (facts.seen, facts.completion) {
        (Seen::Unknown { why, passes: true }, Completion::Commits) => {
            Verdict::Unreadable(why.clone())
        }
        (Seen::Unknown { why, passes: false }, Completion::Commits) => {
            case.over(Reason::Unreadable, format!("what the agent left cannot be read: {why}"))
        }
        (Seen::Damaged(why), Completion::Commits) => case.over(Reason::CloneDamaged, why.clone()),
        (Seen::Evidence(_), _) | (_, Completion::Exit) => case.exited(),
    }
}

fn evidence(facts: &Facts<'_>) -> Evidence {
    match facts.seen {
        Seen::Evidence(evidence) => evidence.clone(),
        Seen::Damaged(_) | Seen::Unknown { .. } => Evidence::default(),
    }
}

struct Case<'c> {
    facts: &'c Facts<'c>,
    /// What there is of it.
    evidence: Evidence,
}

impl Case<'_> {
    fn end(&self) -> &End {
        self.facts.end
    }

    /// What all runs of the attempt used up.
    fn usage(&self) -> Usage {
        self.facts.progress.usage.plus(self.end().usage)
    }

    fn over(&self, reason: Reason, detail: impl Into<String>) -> Verdict {
        self.ruling(reason, detail.into(), false)
    }

    fn ruling(&self, reason: Reason, detail: String, forgets_session: bool) -> Verdict {
        let end = self.end();
        let elsewhere = self.only_elsewhere();
        let mut report = Report::new(reason, detail);
        report.exit_code = end.exit_code;
        report.signal = end.signal;
        report.commits = self.evidence.commits;
        report.usage = self.usage();
        report.tip = match elsewhere {
            Some(elsewhere) => Some(elsewhere.tip.clone()),
            None => self.evidence.tip.clone(),
        };
        report.work = elsewhere.map(|elsewhere| elsewhere.place.clone());
        Verdict::Over(Ruling { report, forgets_session })
    }

    /// Of a run that did not end by itself, why it was ended decides.
    fn ended_by_others(&self) -> Option<Verdict> {
        let end = self.end();
        let usage = &end.usage;
        let with = || self.with_commits();
        let (reason, detail) = match end.cause {
            Cause::Exited => return None,
            Cause::NotStarted if end.is_machines_fault => (Reason::Machine, end.detail.clone()),
            Cause::NotStarted => (Reason::StartFailed, end.detail.clone()),
            Cause::Terminated => return Some(self.terminated()),
            Cause::ProviderWait => return Some(self.waited_for_provider()),
            Cause::Timeout => (
                Reason::Timeout,
                format!("its time was up after {}{}", span(usage.wall_ms), with()),
            ),
            Cause::IdleTimeout => (
                Reason::IdleTimeout,
                format!(
                    "it neither logged nor computed any more, and was ended after {}{}",
                    span(usage.wall_ms),
                    with()
                ),
            ),
            Cause::LogLimit => {
                (Reason::LogLimit, format!("ended after {} bytes of log", usage.log_bytes))
            }
            Cause::StepLimit => (
                Reason::StepLimit,
                format!("ended after {} calls of its model{}", usage.steps, with()),
            ),
            Cause::CostLimit => (
                Reason::CostLimit,
                format!("ended at a cost of {}{}", cost(usage.cost_micros), with()),
            ),
        };
        // One that waits for its provider is idle, and its time runs out.
        let waits = matches!(end.cause, Cause::Timeout | Cause::IdleTimeout);
        let trouble = self.facts.trouble.filter(|trouble| waits && self.counts(trouble));
        Some(
            trouble
                .and_then(|trouble| self.put_off(trouble))
                .unwrap_or_else(|| self.over(reason, detail)),
        )
    }

    fn terminated(&self) -> Verdict {
        match self.facts.requested {
            Some(Stop::Cancel) => self.over(Reason::Cancelled, "ended on request"),
            Some(Stop::Shutdown) => self.over(Reason::Shutdown, "the worker was told to stop"),
            Some(Stop::Detach | Stop::LeaseLost) | None if self.end().was_ordered => {
                self.over(Reason::Shutdown, "a worker that is gone was told to stop")
            }
            // A supervisor that ends a whole service, a machine that goes down, or the agent itself.
            Some(Stop::Detach | Stop::LeaseLost) | None => {
                self.over(Reason::Interrupted, "the agent's shim was told to end from outside")
            }
        }
    }

    fn waited_for_provider(&self) -> Verdict {
        let known = self.facts.trouble.and_then(|trouble| self.put_off(trouble));
        known.unwrap_or_else(|| {
            self.over(Reason::ProviderLimit, "it waited for its provider, and was ended")
        })
    }

    /// What the agent, its provider or the machine says goes before what the agent left: its
    /// commits count for the next attempt.
    fn asks_for_later(&self) -> Option<Verdict> {
        let end = self.end();
        if let Ok(Some(deferral)) = self.facts.result {
            let why = deferral.reason.as_deref().map_or(String::new(), |why| format!(": {why}"));
            let detail = format!("the agent asks for {}{why}", deferral.until);
            let mut verdict = self.over(Reason::Deferred, detail);
            if let Verdict::Over(Ruling { report, .. }) = &mut verdict {
                report.defer_ms = Some(deferral.until.ms_since(self.facts.now));
                report.pause = deferral.pause;
            }
            return Some(verdict);
        }
        if end.exit_code == Some(EXIT_LATER) {
            return Some(self.over(Reason::Deferred, "the agent asks for later (exit code 75)"));
        }
        if end.is_oom_victim {
            let detail = "the machine ran out of memory, and the kernel killed the agent";
            return Some(self.over(Reason::Machine, detail));
        }
        let trouble = self.facts.trouble.filter(|trouble| self.counts(trouble))?;
        self.put_off(trouble)
    }

    /// A structured error that ended the run goes before new work. Mere words count only where
    /// nothing was done: an agent that did its work may write about limits.
    fn counts(&self, trouble: &Trouble) -> bool {
        let nothing_done = self.evidence.commits == 0 && self.evidence.elsewhere.is_none();
        let failed = self.end().exit_code != Some(0);
        match trouble.source {
            Source::Event => failed || nothing_done,
            // Some agents end with exit code 0 after such words.
            Source::Prose => nothing_done,
            // An agent that ended well has had its answer in the end.
            Source::ProviderLog => failed && nothing_done,
        }
    }

    /// Whether it did nothing because something refused it, whatever its exit code says.
    fn was_refused(&self) -> bool {
        self.facts
            .trouble
            .is_some_and(|trouble| self.counts(trouble) && trouble.remedy != Remedy::Nothing)
    }

    fn put_off(&self, trouble: &Trouble) -> Option<Verdict> {
        let reason = match trouble.remedy {
            Remedy::Wait => Reason::ProviderLimit,
            Remedy::Login => Reason::ProviderLogin,
            Remedy::Person | Remedy::FreshSession | Remedy::StartAgain | Remedy::Nothing => {
                return None;
            }
        };
        let mut verdict = self.over(reason, trouble.words.clone());
        if let Verdict::Over(Ruling { report, .. }) = &mut verdict {
            report.defer_ms = trouble.until.map(|until| until.ms_since(self.facts.now));
        }
        Some(verdict)
    }

    /// The agent ended by itself, and nobody asks for later.
    fn exited(&self) -> Verdict {
        let verdict = match self.facts.completion {
            Completion::Commits => self.by_commits(),
            Completion::Exit => self.by_exit_code(),
        };
        match (verdict, self.facts.result) {
            (Verdict::Over(mut ruling), Err(why)) => {
                let more = format!(" (its result file cannot be read: {why})");
                ruling.report.detail.push_str(&more);
                Verdict::Over(ruling)
            }
            (verdict, _) => verdict,
        }
    }

    /// Work that the branch has nothing of.
    fn only_elsewhere(&self) -> Option<&Elsewhere> {
        self.evidence.elsewhere.as_ref().filter(|_| self.evidence.commits == 0)
    }

    fn is_clean(&self) -> bool {
        self.end().exit_code == Some(0)
    }

    fn by_exit_code(&self) -> Verdict {
        if self.is_clean() {
            let wall = span(self.usage().wall_ms);
            return self
                .over(Reason::Done, format!("{} in {wall}", commits(self.evidence.commits)));
        }
        self.failed()
    }

    fn by_commits(&self) -> Verdict {
        let Evidence { commits: new, commits_of_job, is_updated, .. } = self.evidence;
        if let Some(undone) = self.blocks() {
            return self.remind_or(undone);
        }
        let wall = span(self.usage().wall_ms);
        if new > 0 && self.is_clean() {
            return self.over(Reason::Done, format!("{} in {wall}", commits(new)));
        }
        if new > 0 {
            let detail =
                format!("{}, although it ended with {}", commits(new), self.how_it_ended());
            return self.over(Reason::Done, detail);
        }
        if let Some(elsewhere) = self.only_elsewhere() {
            return self.off_branch(elsewhere);
        }
        if !self.is_clean() || self.was_refused() {
            return self.failed();
        }
        if self.evidence.is_dirty {
            return self.remind_or(Undone::Uncommitted);
        }
        if is_updated {
            return self.over(Reason::Updated, "earlier work was brought up to date; nothing new");
        }
        if commits_of_job > 0 {
            // An agent that finds the work of an earlier attempt has nothing to add.
            let earlier = commits(commits_of_job);
            return self.over(Reason::Done, format!("nothing to add to {earlier} of before"));
        }
        match &self.evidence.left_behind {
            Some(tip) => {
                let detail =
                    format!("its branch was reset, and there is nothing new; {tip} is kept");
                self.over(Reason::NoChanges, detail)
            }
            None => self.over(Reason::NoChanges, "the agent ended and there is nothing new"),
        }
    }

    /// A merge with conflicts left in it is not done, whatever was committed before.
    fn blocks(&self) -> Option<Undone> {
        self.evidence.unfinished.clone().map(Undone::Unfinished)
    }

    fn off_branch(&self, elsewhere: &Elsewhere) -> Verdict {
        if elsewhere.is_ahead_of_branch && !self.facts.progress.is_brought {
            return match self.facts.requested {
                None => Verdict::Another(Purpose::Bring { tip: elsewhere.tip.clone() }),
                Some(requested) => self.no_further_run(requested),
            };
        }
        self.remind_or(Undone::OffBranch(elsewhere.place.clone()))
    }

    /// One reminder tells of everything that is left undone.
    fn remind_or(&self, undone: Undone) -> Verdict {
        if self.facts.progress.is_reminded {
            return self.left_undone(&undone);
        }
        // An agent that failed and did nothing is not asked for more.
        if !self.is_clean() && self.evidence.commits == 0 && self.only_elsewhere().is_none() {
            return self.failed();
        }
        if let Some(requested) = self.facts.requested {
            return self.no_further_run(requested);
        }
        let mut all = vec![undone];
        let more = [
            self.blocks(),
            self.only_elsewhere().map(|elsewhere| Undone::OffBranch(elsewhere.place.clone())),
            self.evidence.is_dirty.then_some(Undone::Uncommitted),
        ];
        for other in more.into_iter().flatten() {
            if !all.contains(&other) {
                all.push(other);
            }
        }
        Verdict::Another(Purpose::Reminder(all))
    }

    fn left_undone(&self, undone: &Undone) -> Verdict {
        match undone {
            Undone::Uncommitted => self.over(
                Reason::Uncommitted,
                "changes without a commit are in the worktree, after a reminder too",
            ),
            Undone::Unfinished(what) => self.over(
                Reason::Unmerged,
                format!("{what} is not finished, after a reminder too{}", self.with_commits()),
            ),
            Undone::OffBranch(place) => self.over(
                Reason::OffBranch,
                format!("the work is on {place}, not on the issue's branch, after a reminder too"),
            ),
        }
    }

    /// It ended by itself just when it was to be ended: no more of it is wanted.
    fn no_further_run(&self, requested: Stop) -> Verdict {
        match requested {
            Stop::Cancel => self.over(Reason::Cancelled, "ended on request"),
            Stop::Shutdown | Stop::Detach | Stop::LeaseLost => self.over(
                Reason::Shutdown,
                "the worker was told to stop before the attempt could go on",
            ),
        }
    }

    /// The agent ended with an error, and left nothing new.
    fn failed(&self) -> Verdict {
        let how = self.how_it_ended();
        let Some(trouble) = self.facts.trouble else {
            let words = self.facts.last_words.lines().next_back().unwrap_or_default();
            let detail = if words.is_empty() { how } else { format!("{how}: {words}") };
            return self.over(Reason::AgentError, detail);
        };
        let detail = format!("{how}: {}", trouble.words);
        if trouble.session() == SessionAdvice::Drop {
            return self.without_its_session(detail);
        }
        match trouble.remedy {
            Remedy::StartAgain => self.over(Reason::StartFailed, detail),
            Remedy::Wait
            | Remedy::Login
            | Remedy::Person
            | Remedy::FreshSession
            | Remedy::Nothing => self.over(Reason::AgentError, detail),
        }
    }

    /// A session that the agent cannot go on with is dropped. If nothing came of it, the attempt
    /// goes on with a fresh one.
    fn without_its_session(&self, detail: String) -> Verdict {
        let facts = self.facts;
        let is_first_word = facts.is_resumed && self.end().usage.steps == 0;
        match facts.requested {
            None if is_first_word && !facts.progress.is_renewed => {
                Verdict::Another(Purpose::FreshSession)
            }
            Some(_) | None => self.ruling(Reason::AgentError, detail, true),
        }
    }

    fn how_it_ended(&self) -> String {
        let end = self.end();
        match (end.exit_code, end.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "an unknown end".into(),
        }
    }

    /// `, with 2 commits`; nothing where that is not known.
    fn with_commits(&self) -> String {
        match self.facts.seen {
            Seen::Evidence(evidence) => format!(", with {}", commits(evidence.commits)),
            Seen::Damaged(_) | Seen::Unknown { .. } => String::new(),
        }
    }
}

fn cost(micros: u64) -> String {
    format!("{}.{:02}", micros / 1_000_000, micros % 1_000_000 / 10_000)
}

fn commits(count: u32) -> String {
    match count {
        0 => "no commit".into(),
        1 => "1 commit".into(),
        several => format!("{several} commits"),
    }
}

fn span(ms: u64) -> String {
    if ms < 60_000 {
        return format!("{}.{} s", ms / 1000, ms % 1000 / 100);
    }
    humantime::format_duration(std::time::Duration::from_secs(ms / 1000)).to_string()
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
