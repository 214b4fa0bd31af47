//! What an agent says in its log that it used up: opencode's `step_finish` events.
//!
//! Another program's log says nothing of it, and then nothing is counted.

use serde::{Deserialize, Serialize};

use crate::job::limits;

/// The beginning of a line that counts.
const STEP_FINISH: &[u8] = br#"{"type":"step_finish""#;

/// What was used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
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

/// Counts in what is added to a log.
#[derive(Default)]
pub struct Meter {
    /// The beginning of a line whose end is not there yet.
    line: Vec<u8>,
    /// In the middle of a line that is too long to count.
    skipping: bool,
    /// What was counted.
    pub usage: ModelUsage,
}

#[derive(Deserialize)]
struct StepFinish {
    part: StepPart,
}

#[derive(Deserialize)]
struct StepPart {
    #[serde(default)]
    tokens: Tokens,
    #[serde(default)]
    cost: f64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Tokens {
    input: u64,
    output: u64,
    reasoning: u64,
    cache: Cache,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Cache {
    read: u64,
    write: u64,
}

impl Meter {
    /// Counts in what came next.
    pub fn feed(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = limits::METER_LINE_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            self.skipping |= part.len() > room;
            if part.ends_with(b"\n") {
                if !self.skipping {
                    self.count();
                }
                self.skipping = false;
                self.line.clear();
            }
        }
    }

    fn count(&mut self) {
        if !self.line.starts_with(STEP_FINISH) {
            return;
        }
        let Ok(StepFinish { part }) = serde_json::from_slice(&self.line) else { return };
        let Tokens { input, output, reasoning, cache } = part.tokens;
        let usage = &mut self.usage;
        usage.steps += 1;
        usage.tokens_in = [input, cache.read, cache.write]
            .iter()
            .fold(usage.tokens_in, |a, b| a.saturating_add(*b));
        usage.tokens_out = usage.tokens_out.saturating_add(output).saturating_add(reasoning);
        usage.cost_micros = usage.cost_micros.saturating_add(micros(part.cost));
    }
}

/// Millionths; what is no price is none.
pub fn micros(cost: f64) -> u64 {
    let micros = (cost * 1e6).round();
    if !micros.is_finite() || micros < 0.0 {
        return 0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is a positive number, and a cast holds at the largest one"
    )]
    let micros = micros as u64;
    micros
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: &str = concat!(
        r#"{"type":"step_finish","timestamp":1795379079022,"sessionID":"ses_1","part":{"id":"prt_1","#,
        r#""reason":"stop","type":"step-finish","tokens":{"total":117,"input":100,"output":10,"#,
        r#""reasoning":2,"cache":{"write":2,"read":3}},"cost":0.00012}}"#,
        "\n"
    );

    #[test]
    fn steps_are_counted_as_they_come_and_nothing_else_is() {
        let mut meter = Meter::default();
        let mut seen = |text: &str| {
            meter.feed(text.as_bytes());
            meter.usage
        };
        let one = ModelUsage { steps: 1, tokens_in: 105, tokens_out: 12, cost_micros: 120 };
        let (head, tail) = STEP.split_at(50);
        assert_eq!(seen(head), ModelUsage::default());
        assert_eq!(seen(tail), one);
        let text =
            format!("{}\n{{\"type\":\"text\"}}\n", STEP.trim_end().replace("step_", "stop_"));
        assert_eq!(seen(&text), one);
        assert_eq!(seen("{\"type\":\"step_finish\",\"part\":{}}\n").steps, 2);
        let long = "x".repeat(limits::METER_LINE_BYTES_MAX * 2 + 10);
        assert_eq!(seen(&format!("{long}{STEP}")).steps, 2, "in a line too long");
        assert_eq!(seen(STEP).steps, 3, "and the next one counts again");
        let padded = STEP.trim_end().replace("{\"id\"", &format!("{{{:1$}\"id\"", "", 65_000));
        assert_eq!(seen(&format!("{padded}\n")).steps, 4, "a long one that fits");
    }

    #[test]
    fn prices() {
        for (cost, expected) in [
            (0.0, 0),
            (0.00012, 120),
            (2.5, 2_500_000),
            (-1.0, 0),
            (f64::NAN, 0),
            (f64::INFINITY, 0),
        ] {
            assert_eq!(micros(cost), expected, "{cost}");
        }
    }
}
