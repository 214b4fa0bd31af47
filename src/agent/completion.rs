//! Was the work done? Decided from how the agent ended and what it left. Pure.

use crate::agent::repository::Traces;
use crate::agent::result::Deferral;
use crate::executor::Stop;
use crate::job::{Reason, Report, Usage};
use crate::process::run::{Cause, ExitRecord};
use crate::time::Timestamp;

/// What counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Completion {
    /// New commits on the branch.
    Commits,
    /// Exit code 0.
    Exit,
}

/// The agent's exit code that asks for later (sysexits' `EX_TEMPFAIL`).
const EXIT_LATER: i32 = 75;
/// How much later, in milliseconds.
const LATER_MS: u64 = 5 * 60_000;

/// What follows from a run that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The attempt is over.
    Over(Report),
    /// The agent ended well and left changes without a commit: remind it.
    Remind,
}

/// All that a verdict rests on.
#[derive(Debug, Clone)]
pub(super) struct Evidence<'e> {
    pub completion: Completion,
    pub record: &'e ExitRecord,
    pub traces: &'e Traces,
    /// Commits of earlier attempts of the job that came to nothing.
    pub commits_before: u32,
    /// The request to stop that the worker passed on, if it did.
    pub stop_sent: Option<Stop>,
    /// Whether this was the reminder already.
    pub was_reminded: bool,
    /// What the agent said last, in lines.
    pub last_lines: &'e str,
    /// How the attempt's run before the reminder ended.
    pub earlier: Option<&'e ExitRecord>,
    /// What the agent said of its run, or what is wrong with that.
    pub result: Result<Option<Deferral>, String>,
    pub now: Timestamp,
}

pub(super) fn judge(evidence: &Evidence<'_>) -> Verdict {
    let Evidence { record, traces, .. } = evidence;
    let over = |reason: Reason, detail: String| {
        Verdict::Over(Report {
            exit_code: record.exit_code,
            signal: record.signal,
            commits: traces.commits,
            defer_ms: (reason == Reason::Deferred).then_some(LATER_MS),
            usage: evidence.earlier.map_or(Usage::default(), usage).plus(usage(record)),
            ..Report::new(reason, detail)
        })
    };
    match record.cause {
        Cause::NotStarted => over(Reason::StartFailed, record.detail.clone()),
        Cause::Timeout => over(
            Reason::Timeout,
            format!("its time was up after {}, with {}", span(record.wall_ms), commits(traces)),
        ),
        Cause::LogLimit => {
            over(Reason::LogLimit, format!("ended after {} bytes of log", record.log_bytes))
        }
        Cause::IdleTimeout => over(
            Reason::IdleTimeout,
            format!(
                "it neither logged nor computed any more, and was ended after {}, with {}",
                span(record.wall_ms),
                commits(traces)
            ),
        ),
        Cause::ProviderWait => over(
            Reason::Deferred,
            format!(
                "it waited for its provider, and was ended after {}: {}",
                span(record.wall_ms),
                record.own_log.last().map_or("", String::as_str)
            ),
        ),
        Cause::StepLimit => over(
            Reason::StepLimit,
            format!(
                "ended after {} calls of its model, with {}",
                record.usage.steps,
                commits(traces)
            ),
        ),
        Cause::CostLimit => over(
            Reason::CostLimit,
            format!(
                "ended at a cost of {}, with {}",
                cost(record.usage.cost_micros),
                commits(traces)
            ),
        ),
        Cause::Terminated => match evidence.stop_sent {
            Some(Stop::Cancel) => over(Reason::Cancelled, "ended on request".into()),
            Some(Stop::Shutdown) => over(Reason::Shutdown, "the worker was told to stop".into()),
            // A supervisor that ends a whole service, or a machine that goes down.
            Some(Stop::Detach | Stop::LeaseLost) | None => {
                over(Reason::Shutdown, "the agent's shim was told to end from outside".into())
            }
        },
        Cause::Exited => match &evidence.result {
            Ok(None) => exited(evidence, over),
            Ok(Some(deferral)) => deferred(deferral, evidence.now, over),
            Err(why) => {
                let mut verdict = exited(evidence, over);
                if let Verdict::Over(report) = &mut verdict {
                    report.detail.push_str(&format!(" (its result file cannot be read: {why})"));
                }
                verdict
            }
        },
    }
}

/// What the agent says goes before what it left: its commits count for the next attempt.
fn deferred(
    deferral: &Deferral,
    now: Timestamp,
    over: impl Fn(Reason, String) -> Verdict,
) -> Verdict {
    let why = deferral.reason.as_deref().map_or(String::new(), |reason| format!(": {reason}"));
    let until = deferral.until;
    let mut verdict = over(Reason::Deferred, format!("the agent asks for {until}{why}"));
    if let Verdict::Over(report) = &mut verdict {
        report.defer_ms = Some(until.ms_since(now));
        report.pause = deferral.pause;
    }
    verdict
}

pub(super) fn usage(record: &ExitRecord) -> Usage {
    Usage {
        wall_ms: record.wall_ms,
        cpu_ms: record.cpu_ms,
        peak_memory_kib: record.peak_memory_kib,
        log_bytes: record.log_bytes,
        steps: record.usage.steps,
        tokens_in: record.usage.tokens_in,
        tokens_out: record.usage.tokens_out,
        cost_micros: record.usage.cost_micros,
    }
}

fn cost(micros: u64) -> String {
    format!("{}.{:02}", micros / 1_000_000, micros % 1_000_000 / 10_000)
}

fn exited(evidence: &Evidence<'_>, over: impl Fn(Reason, String) -> Verdict) -> Verdict {
    let Evidence { record, traces, .. } = evidence;
    let clean = record.exit_code == Some(0);
    let how = match (record.exit_code, record.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".into(),
    };
    if record.exit_code == Some(EXIT_LATER) {
        return over(Reason::Deferred, "the agent asks for later (exit code 75)".into());
    }
    let done = match evidence.completion {
        // An agent that finds the work of an earlier attempt has nothing to add.
        Completion::Commits => traces.commits > 0 || (clean && evidence.commits_before > 0),
        Completion::Exit => clean,
    };
    if done && traces.commits == 0 && evidence.completion == Completion::Commits {
        let before = evidence.commits_before;
        return over(Reason::Done, format!("nothing to add to {before} earlier commit(s)"));
    }
    if done && clean {
        return over(Reason::Done, format!("{} in {}", commits(traces), span(record.wall_ms)));
    }
    if done {
        return over(Reason::Done, format!("{}, although it ended with {how}", commits(traces)));
    }
    if !clean {
        let words = evidence.last_lines.lines().next_back().unwrap_or_default();
        let never_began = |line: &&str| {
            line.contains("database is locked")
                || line.contains("Session not found")
                // How opencode says that its database is locked, when it has just begun.
                || (record.usage.steps == 0 && line.contains("Failed query"))
        };
        if let Some(line) = evidence.last_lines.lines().find(never_began) {
            return over(Reason::StartFailed, format!("{how}: {line}"));
        }
        let detail = if words.is_empty() { how } else { format!("{how}: {words}") };
        return over(Reason::AgentError, detail);
    }
    match (traces.is_dirty, evidence.was_reminded) {
        // It ended by itself just when it was to be ended: no more of it is wanted.
        (true, false) => match evidence.stop_sent {
            None => Verdict::Remind,
            Some(Stop::Cancel) => over(Reason::Cancelled, "ended on request".into()),
            Some(Stop::Shutdown | Stop::Detach | Stop::LeaseLost) => {
                let why = "the worker was told to stop before it reminded the agent";
                over(Reason::Shutdown, why.into())
            }
        },
        (true, true) => over(
            Reason::Uncommitted,
            "changes without a commit are in the worktree, after a reminder too".into(),
        ),
        (false, _) => over(Reason::NoChanges, "the agent ended and there is nothing new".into()),
    }
}

fn commits(traces: &Traces) -> String {
    match traces.commits {
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
mod tests {
    use super::*;
    use crate::process::meter::ModelUsage;

    /// `exit 0, 2 commits, dirty, reminded, cancel …` to a reason.
    fn verdict(words: &str) -> String {
        let mut record = ExitRecord {
            exit_code: Some(0),
            wall_ms: 1500,
            usage: ModelUsage { cost_micros: 1_230_000, ..ModelUsage::default() },
            ..ExitRecord::of(Cause::Exited, String::new())
        };
        let mut result = Ok(None);
        let mut traces = Traces { commits: 0, is_dirty: false };
        let mut stop_sent = None;
        let mut commits_before = 0;
        let mut was_reminded = false;
        let mut completion = Completion::Commits;
        let mut last_lines = "";
        for word in words.split(' ') {
            match word {
                "0" | "1" | "75" => record.exit_code = word.parse().ok(),
                "killed" => (record.exit_code, record.signal) = (None, Some(9)),
                "commits" => traces.commits = 2,
                "earlier" => commits_before = 1,
                "dirty" => traces.is_dirty = true,
                "reminded" => was_reminded = true,
                "timeout" => record.cause = Cause::Timeout,
                "flood" => record.cause = Cause::LogLimit,
                "unstarted" => record.cause = Cause::NotStarted,
                "idle" => record.cause = Cause::IdleTimeout,
                "steps" => record.cause = Cause::StepLimit,
                "cost" => record.cause = Cause::CostLimit,
                "later" => {
                    let until = Timestamp(60_000);
                    result = Ok(Some(Deferral { until, reason: None, pause: true }));
                }
                "garbled" => result = Err("expected value".into()),
                "ended" => record.cause = Cause::Terminated,
                "cancel" => stop_sent = Some(Stop::Cancel),
                "shutdown" => stop_sent = Some(Stop::Shutdown),
                "by-exit" => completion = Completion::Exit,
                "locked" => last_lines = "Error: database is locked",
                "busy" => last_lines = "Failed query: insert\nparams: 1",
                "begun" => record.usage.steps = 1,
                "unknown-session" => last_lines = "Error: Session not found",
                other => panic!("no such word: {other}"),
            }
        }
        let evidence = Evidence {
            completion,
            record: &record,
            traces: &traces,
            commits_before,
            stop_sent,
            was_reminded,
            last_lines,
            earlier: None,
            result,
            now: Timestamp(1_000),
        };
        match judge(&evidence) {
            Verdict::Remind => "remind".into(),
            Verdict::Over(report) => {
                assert_eq!(report.defer_ms.is_some(), report.reason == Reason::Deferred);
                assert!(!report.detail.is_empty() || report.reason == Reason::StartFailed);
                assert_eq!(report.usage.wall_ms, 1500);
                assert_eq!(report.pause, words.contains("later"), "{report:?}");
                assert_eq!(report.detail.contains("result file"), words.contains("garbled"));
                report.reason.to_string()
            }
        }
    }

    #[test]
    fn commits_decide() {
        for row in "
            0 commits              | done
            0 commits dirty        | done
            1 commits              | done
            killed commits         | done
            0                      | no_changes
            0 dirty                | remind
            0 dirty reminded       | uncommitted
            0 dirty cancel         | cancelled
            0 dirty shutdown       | shutdown
            0 reminded             | no_changes
            0 commits reminded     | done
            1                      | agent_error
            1 dirty                | agent_error
            killed                 | agent_error
            1 locked               | start_failed
            1 unknown-session      | start_failed
            1 busy                 | start_failed
            1 busy begun           | agent_error
            1 locked commits       | done
            75                     | deferred
            75 commits             | deferred
            timeout killed         | timeout
            timeout commits        | timeout
            flood killed           | log_limit
            idle killed            | idle_timeout
            steps commits          | step_limit
            cost                   | cost_limit
            0 later                | deferred
            1 later commits        | deferred
            0 commits garbled      | done
            1 garbled              | agent_error
            unstarted              | start_failed
            ended cancel           | cancelled
            ended cancel commits   | cancelled
            ended shutdown         | shutdown
            ended                  | shutdown
            0 earlier              | done
            0 earlier dirty        | done
            1 earlier              | agent_error
            timeout earlier        | timeout
            0 by-exit              | done
            1 by-exit              | agent_error
            1 by-exit commits      | agent_error
            0 by-exit dirty        | done
            "
        .lines()
        .map(str::trim)
        .filter(|row| !row.is_empty())
        {
            let (words, expected) = row.split_once('|').expect("two cells");
            assert_eq!(verdict(words.trim()), expected.trim(), "in row: {row}");
        }
    }
}
