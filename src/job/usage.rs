//! What attempts used up.

/// What an attempt, or several, used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Milliseconds that its agent ran.
    pub wall_ms: u64,
    /// Milliseconds of processor time of the agent's whole tree.
    pub cpu_ms: u64,
    /// Largest memory of one process of the tree, in KiB.
    pub peak_memory_kib: u64,
    /// Bytes logged.
    pub log_bytes: u64,
    /// Calls of the model, if the agent tells.
    pub steps: u64,
    /// Tokens that the model read, from its cache too, if the agent tells.
    pub tokens_in: u64,
    /// Tokens that the model wrote, its reasoning too, if the agent tells.
    pub tokens_out: u64,
    /// What the model cost, in millionths of the currency its prices are in, if the agent tells.
    pub cost_micros: u64,
}

impl Usage {
    /// Nothing used up.
    pub const NOTHING: Usage = Usage {
        wall_ms: 0,
        cpu_ms: 0,
        peak_memory_kib: 0,
        log_bytes: 0,
        steps: 0,
        tokens_in: 0,
        tokens_out: 0,
        cost_micros: 0,
    };

    /// Both together: sums, and of the memory the larger one.
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            wall_ms: self.wall_ms.saturating_add(other.wall_ms),
            cpu_ms: self.cpu_ms.saturating_add(other.cpu_ms),
            peak_memory_kib: self.peak_memory_kib.max(other.peak_memory_kib),
            log_bytes: self.log_bytes.saturating_add(other.log_bytes),
            steps: self.steps.saturating_add(other.steps),
            tokens_in: self.tokens_in.saturating_add(other.tokens_in),
            tokens_out: self.tokens_out.saturating_add(other.tokens_out),
            cost_micros: self.cost_micros.saturating_add(other.cost_micros),
        }
    }
}
