//! The limits of one run of an agent.

/// What a run may take, use up and write before it is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunLimits {
    /// Wall-clock time, in milliseconds.
    pub timeout_ms: u64,
    /// From TERM to KILL, in milliseconds.
    pub kill_grace_ms: u64,
    /// Most bytes that it may log.
    pub log_bytes_max: u64,
    /// How long it may neither log nor use the processor, in milliseconds; 0 is for ever.
    pub idle_ms: u64,
    /// Most calls of its model, as far as its log tells; `None` is any number.
    pub steps_max: Option<u64>,
    /// Most it may cost, in millionths, as far as its log tells; `None` is any sum.
    pub cost_micros_max: Option<u64>,
}

impl RunLimits {
    /// The limits of a job's runs, which may have a time limit of its own.
    pub fn of_job(self, timeout_ms: Option<u64>) -> RunLimits {
        RunLimits { timeout_ms: timeout_ms.unwrap_or(self.timeout_ms), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_may_have_a_time_limit_of_its_own() {
        let limits = RunLimits { timeout_ms: 5, idle_ms: 7, ..RunLimits::default() };
        assert_eq!(limits.of_job(None), limits);
        assert_eq!(limits.of_job(Some(9)), RunLimits { timeout_ms: 9, ..limits });
    }
}
