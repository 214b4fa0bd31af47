//! What a run used up, as its events count it.
//!
//! Numbers come from an agent: none of them may spoil a sum. What is no count is none.

use serde_json::Value;

use crate::job::limits;

/// What was used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModelUsage {
    /// Calls of the model.
    pub steps: u64,
    /// Tokens that the model read, from its cache too.
    pub tokens_in: u64,
    /// Tokens that it wrote, its reasoning too.
    pub tokens_out: u64,
    /// Millionths of the currency that prices are in.
    pub cost_micros: u64,
}

impl ModelUsage {
    /// Both together, at most what a `u64` holds.
    #[must_use]
    pub fn plus(self, other: ModelUsage) -> ModelUsage {
        ModelUsage {
            steps: self.steps.saturating_add(other.steps),
            tokens_in: self.tokens_in.saturating_add(other.tokens_in),
            tokens_out: self.tokens_out.saturating_add(other.tokens_out),
            cost_micros: self.cost_micros.saturating_add(other.cost_micros),
        }
    }

    /// The larger of each number: of what is told as a sum so far.
    #[must_use]
    fn at_least(self, other: ModelUsage) -> ModelUsage {
        ModelUsage {
            steps: self.steps.max(other.steps),
            tokens_in: self.tokens_in.max(other.tokens_in),
            tokens_out: self.tokens_out.max(other.tokens_out),
            cost_micros: self.cost_micros.max(other.cost_micros),
        }
    }
}

/// Millionths; what is no price is none.
fn micros(cost: f64) -> u64 {
    let micros = (cost * 1e6).round();
    #[expect(clippy::cast_precision_loss, reason = "a bound needs no last digit")]
    let most = limits::EVENT_COST_MICROS_MAX as f64;
    if !(0.0..=most).contains(&micros) {
        return 0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between nothing and the bound"
    )]
    let micros = micros as u64;
    micros
}

/// Counts what events tell.
#[derive(Debug, Clone, Default)]
pub(super) struct Counter {
    /// What is told as it is used: opencode's steps, claude's messages.
    running: ModelUsage,
    /// What is told at the end of a turn in place of what was counted meanwhile.
    turns: ModelUsage,
    /// What is told as a sum so far.
    so_far: ModelUsage,
    /// The message of claude that was counted last, and what it was counted with.
    message: Option<(String, ModelUsage)>,
}

impl Counter {
    pub fn total(&self) -> ModelUsage {
        self.turns.plus(self.running).at_least(self.so_far)
    }

    /// opencode, kilo: `step_finish`.
    pub fn step_finish(&mut self, part: &Value) {
        let tokens = &part["tokens"];
        self.running = self.running.plus(ModelUsage {
            steps: 1,
            tokens_in: sum(tokens, &["input"])
                .saturating_add(sum(&tokens["cache"], &["read", "write"])),
            tokens_out: sum(tokens, &["output", "reasoning"]),
            cost_micros: price(&part["cost"]),
        });
    }

    /// claude: a message of the model, told once for each of its parts.
    pub fn message(&mut self, message: &Value) {
        let counted = ModelUsage { steps: 1, ..of_claude(&message["usage"]) };
        let id = message["id"].as_str().unwrap_or_default();
        let again = self.message.as_ref().filter(|(last, _)| !id.is_empty() && last == id);
        let before = again.map_or(ModelUsage::default(), |(_, counted)| *counted);
        let counted = counted.at_least(before);
        self.running = ModelUsage {
            steps: (self.running.steps - before.steps).saturating_add(counted.steps),
            tokens_in: (self.running.tokens_in - before.tokens_in)
                .saturating_add(counted.tokens_in),
            tokens_out: (self.running.tokens_out - before.tokens_out)
                .saturating_add(counted.tokens_out),
            cost_micros: self.running.cost_micros,
        };
        let id = super::text::cut(id, limits::SESSION_ID_BYTES_MAX).to_string();
        self.message = Some((id, counted));
    }

    /// claude: the end of a turn. Its cost is the process's so far.
    pub fn result(&mut self, event: &Value) {
        let told = ModelUsage { steps: count(&event["num_turns"]), ..of_claude(&event["usage"]) };
        self.turns = self.turns.plus(told.at_least(self.running));
        self.running = ModelUsage::default();
        self.message = None;
        self.so_far.cost_micros = self.so_far.cost_micros.max(price(&event["total_cost_usd"]));
    }

    /// codex: something that the model did.
    pub fn item(&mut self) {
        self.running.steps = self.running.steps.saturating_add(1);
    }

    /// codex: the end of a turn, with the thread's tokens so far.
    pub fn turn(&mut self, usage: &Value) {
        self.so_far = self.so_far.at_least(ModelUsage {
            steps: 1,
            tokens_in: sum(usage, &["input_tokens"]),
            tokens_out: sum(usage, &["output_tokens"]),
            cost_micros: 0,
        });
    }

    /// gemini: figures at the end, of all or by model.
    pub fn stats(&mut self, stats: &Value) {
        let mut told = ModelUsage {
            steps: sum(stats, &["tool_calls"]).saturating_add(1),
            tokens_in: sum(stats, &["input_tokens"]),
            tokens_out: sum(stats, &["output_tokens"]),
            cost_micros: 0,
        };
        let models = stats["models"].as_object().into_iter().flatten();
        let mut by_model = ModelUsage::default();
        for (_, model) in models.take(limits::ERROR_VALUES_MAX as usize) {
            let tokens = &model["tokens"];
            by_model = by_model.plus(ModelUsage {
                steps: sum(&model["api"], &["totalRequests"]),
                tokens_in: sum(tokens, &["prompt"]),
                tokens_out: sum(tokens, &["candidates", "thoughts"]),
                cost_micros: 0,
            });
        }
        told = told.at_least(by_model);
        self.so_far = self.so_far.at_least(told);
    }

    /// cline: the end of a run.
    pub fn run_result(&mut self, event: &Value) {
        let usage = &event["usage"];
        let read = ["inputTokens", "cacheReadTokens", "cacheWriteTokens"];
        self.so_far = self.so_far.at_least(ModelUsage {
            steps: count(&event["iterations"]),
            tokens_in: sum(usage, &read),
            tokens_out: sum(usage, &["outputTokens"]),
            cost_micros: price(&usage["totalCost"]),
        });
    }

    /// aider: `Tokens: 2.9k sent, 1.1k cache hit, 120 received. Cost: $0.0032 message, …`.
    pub fn aider(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("Tokens: ") else { return };
        let (tokens, cost) = rest.split_once("Cost: ").unwrap_or((rest, ""));
        let mut step = ModelUsage { steps: 1, ..ModelUsage::default() };
        for part in tokens.split(", ").take(8) {
            let (number, what) = part.split_once(' ').unwrap_or((part, ""));
            let number = thousands(number);
            if what.starts_with("received") {
                step.tokens_out = step.tokens_out.saturating_add(number);
            } else {
                step.tokens_in = step.tokens_in.saturating_add(number);
            }
        }
        let message = cost.strip_prefix('$').and_then(|cost| cost.split_once(" message"));
        step.cost_micros = message.and_then(|(cost, _)| cost.parse().ok()).map_or(0, micros);
        self.running = self.running.plus(step);
    }
}

fn of_claude(usage: &Value) -> ModelUsage {
    let read = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];
    ModelUsage {
        steps: 0,
        tokens_in: sum(usage, &read),
        tokens_out: sum(usage, &["output_tokens"]),
        cost_micros: 0,
    }
}

fn sum(of: &Value, keys: &[&str]) -> u64 {
    keys.iter().fold(0, |sum: u64, key| sum.saturating_add(count(&of[*key])))
}

/// A count; what is negative, broken or absurd is none.
fn count(value: &Value) -> u64 {
    let whole = value.as_u64();
    whole
        .or_else(|| value.as_f64().and_then(whole_of))
        .filter(|n| *n <= limits::EVENT_TOKENS_MAX)
        .unwrap_or(0)
}

fn whole_of(number: f64) -> Option<u64> {
    #[expect(clippy::cast_precision_loss, reason = "a bound needs no last digit")]
    let most = limits::EVENT_TOKENS_MAX as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between nothing and the bound"
    )]
    (0.0..=most).contains(&number).then_some(number as u64)
}

fn price(value: &Value) -> u64 {
    value.as_f64().map_or(0, micros)
}

/// `2.9k`, `1.2M`, `120`, `7,453`.
fn thousands(text: &str) -> u64 {
    let text = text.trim_end_matches('.').replace(',', "");
    let (number, times) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1e3),
        None => text.strip_suffix('M').map_or((text.as_str(), 1.0), |number| (number, 1e6)),
    };
    number.parse::<f64>().ok().and_then(|n| whole_of(n * times)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices() {
        for (cost, expected) in [
            (0.0, 0),
            (0.00012, 120),
            (2.5, 2_500_000),
            (1e6, 1_000_000_000_000),
            (1.1e6, 0),
            (1e300, 0),
            (-1.0, 0),
            (f64::NAN, 0),
            (f64::INFINITY, 0),
        ] {
            assert_eq!(micros(cost), expected, "{cost}");
        }
    }

    #[test]
    fn counts() {
        for (json, expected) in [
            ("7", 7),
            ("7.9", 7),
            ("-7", 0),
            ("1e300", 0),
            ("1000000000000", 1_000_000_000_000),
            ("1000000000001", 0),
            ("18446744073709551615", 0),
            ("\"7\"", 0),
            ("null", 0),
        ] {
            let value: Value = serde_json::from_str(json).unwrap();
            assert_eq!(count(&value), expected, "{json}");
        }
        for (text, expected) in [("2.9k", 2900), ("1.2M", 1_200_000), ("7,453", 7453), ("x", 0)] {
            assert_eq!(thousands(text), expected, "{text}");
        }
    }
}
