//! What attempts used up.

use crate::job::limits;

/// What an attempt, or several, used up.
///
/// ```
/// use kugetsu::job::Usage;
///
/// let mut usage = Usage::NOTHING;
/// usage.steps = 7;
/// assert_eq!(Usage::from_named(usage.named()), Ok(usage));
/// ```
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
    /// How many numbers it has.
    pub const COUNT: usize = 8;

    /// Their names, as programs see them. The order is that of [`Usage::to_array`], and of the
    /// bytes of a record.
    pub const NAMES: [&'static str; Usage::COUNT] = [
        "wall_ms",
        "cpu_ms",
        "peak_memory_kib",
        "log_bytes",
        "steps",
        "tokens_in",
        "tokens_out",
        "cost_micros",
    ];

    /// Nothing used up.
    pub const NOTHING: Usage = Usage::from_array([0; Usage::COUNT]);

    /// All numbers, in the order of their names.
    pub const fn to_array(self) -> [u64; Usage::COUNT] {
        let Usage { wall_ms, cpu_ms, peak_memory_kib, log_bytes, .. } = self;
        let Usage { steps, tokens_in, tokens_out, cost_micros, .. } = self;
        [wall_ms, cpu_ms, peak_memory_kib, log_bytes, steps, tokens_in, tokens_out, cost_micros]
    }

    /// The other way round.
    pub const fn from_array(numbers: [u64; Usage::COUNT]) -> Usage {
        let [
            wall_ms,
            cpu_ms,
            peak_memory_kib,
            log_bytes,
            steps,
            tokens_in,
            tokens_out,
            cost_micros,
        ] = numbers;
        Usage {
            wall_ms,
            cpu_ms,
            peak_memory_kib,
            log_bytes,
            steps,
            tokens_in,
            tokens_out,
            cost_micros,
        }
    }

    /// All numbers with their names.
    pub fn named(self) -> impl Iterator<Item = (&'static str, u64)> {
        Usage::NAMES.into_iter().zip(self.to_array())
    }

    /// The other way round. What is not named is 0.
    ///
    /// # Errors
    ///
    /// A name that is none of [`Usage::NAMES`].
    pub fn from_named<'n>(
        named: impl IntoIterator<Item = (&'n str, u64)>,
    ) -> Result<Usage, String> {
        let mut numbers = [0; Usage::COUNT];
        for (name, number) in named {
            let at = Usage::NAMES.iter().position(|known| *known == name);
            numbers[at.ok_or_else(|| format!("'{name}' is nothing that is used up"))?] = number;
        }
        Ok(Usage::from_array(numbers))
    }

    /// Both together: sums, and of the memory the larger one.
    pub fn plus(self, other: Usage) -> Usage {
        let mut sums = self.to_array();
        for (sum, number) in sums.iter_mut().zip(other.to_array()) {
            *sum = sum.saturating_add(number);
        }
        let peak_memory_kib = self.peak_memory_kib.max(other.peak_memory_kib);
        Usage { peak_memory_kib, ..Usage::from_array(sums) }
    }

    /// Without numbers that nothing can have used up: one of them would spoil every sum.
    pub fn plausible(self) -> Usage {
        let believed = |number| if number > limits::USAGE_MAX { 0 } else { number };
        Usage::from_array(self.to_array().map(believed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another number for each name.
    fn all_different() -> Usage {
        Usage {
            wall_ms: 1,
            cpu_ms: 2,
            peak_memory_kib: 3,
            log_bytes: 4,
            steps: 5,
            tokens_in: 6,
            tokens_out: 7,
            cost_micros: 8,
        }
    }

    #[test]
    fn every_number_has_its_name_and_its_place() {
        let usage = all_different();
        assert_eq!(usage.to_array(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(Usage::from_array([1, 2, 3, 4, 5, 6, 7, 8]), usage);
        let named: Vec<String> = usage.named().map(|(name, n)| format!("{name}={n}")).collect();
        assert_eq!(
            named.join(" "),
            "wall_ms=1 cpu_ms=2 peak_memory_kib=3 log_bytes=4 steps=5 tokens_in=6 tokens_out=7 \
             cost_micros=8"
        );
        assert_eq!(Usage::from_named(usage.named()), Ok(usage));
        assert_eq!(Usage::from_named([]), Ok(Usage::NOTHING));
        assert!(Usage::from_named([("steps", 1), ("step", 1)]).is_err());
    }

    #[test]
    fn numbers_are_summed_but_memory_is_compared() {
        let sum = all_different().plus(Usage { peak_memory_kib: 2, ..all_different() });
        assert_eq!(sum.to_array(), [2, 4, 3, 8, 10, 12, 14, 16]);
        let full = Usage { steps: u64::MAX, ..Usage::NOTHING };
        assert_eq!(full.plus(all_different()).steps, u64::MAX);
    }

    #[test]
    fn what_nothing_can_have_used_up_is_not_believed() {
        let usage = Usage { cost_micros: u64::MAX, steps: limits::USAGE_MAX, ..all_different() };
        let plausible = Usage { cost_micros: 0, ..usage };
        assert_eq!(usage.plausible(), plausible);
    }
}
