//! What an agent says in its log that it used up: opencode's `step_finish` events.
//!
//! Another program's log says nothing of it, and then nothing is counted.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

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

/// Reads what is added to a log.
pub struct Meter {
    log: BufReader<File>,
    /// How far it has read.
    position: u64,
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
    /// Counts from this place in the log on.
    pub fn begin(log: &Path, from: u64) -> io::Result<Meter> {
        let mut file = File::open(log)?;
        file.seek(SeekFrom::Start(from))?;
        let log = BufReader::new(file);
        let usage = ModelUsage::default();
        Ok(Meter { log, position: from, line: Vec::new(), skipping: false, usage })
    }

    /// Counts what was added up to a place in the log: whoever writes may be faster than this.
    pub fn read(&mut self, until: u64) -> io::Result<()> {
        while self.position < until {
            let room = limits::METER_LINE_BYTES_MAX.saturating_sub(self.line.len()).max(1) as u64;
            let room = room.min(until - self.position);
            let read = self.log.by_ref().take(room).read_until(b'\n', &mut self.line)?;
            if read == 0 {
                return Ok(());
            }
            self.position += read as u64;
            let is_whole = self.line.ends_with(b"\n");
            if is_whole && !self.skipping {
                self.count();
            }
            if is_whole || self.line.len() >= limits::METER_LINE_BYTES_MAX {
                self.skipping = !is_whole;
                self.line.clear();
            }
        }
        Ok(())
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
    use std::io::Write;

    use super::*;

    const STEP: &str = concat!(
        r#"{"type":"step_finish","timestamp":1795379079022,"sessionID":"ses_1","part":{"id":"prt_1","#,
        r#""reason":"stop","type":"step-finish","tokens":{"total":117,"input":100,"output":10,"#,
        r#""reasoning":2,"cache":{"write":2,"read":3}},"cost":0.00012}}"#,
        "\n"
    );

    #[test]
    fn steps_are_counted_as_they_come_and_nothing_else_is() {
        let mut log = tempfile::NamedTempFile::new().expect("a temporary file");
        log.write_all(STEP.as_bytes()).expect("a write");
        let from = STEP.len() as u64;
        let path = log.path().to_path_buf();
        let mut meter = Meter::begin(&path, from).expect("a log");
        let mut seen = |meter: &mut Meter, text: &str| {
            log.write_all(text.as_bytes()).expect("a write");
            let length = std::fs::metadata(&path).expect("a log").len();
            meter.read(length).expect("a read");
            meter.usage
        };
        assert_eq!(seen(&mut meter, ""), ModelUsage::default(), "what was before does not count");
        let one = ModelUsage { steps: 1, tokens_in: 105, tokens_out: 12, cost_micros: 120 };
        let (head, tail) = STEP.split_at(50);
        assert_eq!(seen(&mut meter, head), ModelUsage::default());
        assert_eq!(seen(&mut meter, tail), one);
        let text =
            format!("{}\n{{\"type\":\"text\"}}\n", STEP.trim_end().replace("step_", "stop_"));
        assert_eq!(seen(&mut meter, &text), one);
        assert_eq!(seen(&mut meter, "{\"type\":\"step_finish\",\"part\":{}}\n").steps, 2);
        let long = "x".repeat(limits::METER_LINE_BYTES_MAX * 2 + 10);
        assert_eq!(seen(&mut meter, &format!("{long}{STEP}")).steps, 2, "in a line too long");
        assert_eq!(seen(&mut meter, STEP).steps, 3, "and the next one counts again");
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
