//! What an agent says of its run in the file named by `KUGETSU_RESULT`.

use serde::Deserialize;

use crate::job::limits;
use crate::process::run::RunDir;
use crate::run::Deferral;

#[derive(Deserialize)]
struct Text {
    defer_until: Option<String>,
    reason: Option<String>,
    #[serde(default)]
    pause: bool,
}

/// `Ok(None)` when the agent said nothing. An error names what is wrong with what it said.
pub(super) fn read(dir: &RunDir) -> Result<Option<Deferral>, String> {
    let bytes = dir.result(limits::RESULT_BYTES_MAX).map_err(|error| error.to_string())?;
    parse(&bytes.unwrap_or_default())
}

fn parse(bytes: &[u8]) -> Result<Option<Deferral>, String> {
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    let said: Text = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let Some(until) = said.defer_until else {
        return if said.pause { Err("a pause needs defer_until".into()) } else { Ok(None) };
    };
    let until = until.parse().map_err(|why| format!("defer_until={until}: {why}"))?;
    Ok(Some(Deferral { until, reason: said.reason, pause: said.pause }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    #[test]
    fn what_agents_say() {
        let deferral = |reason: Option<&str>, pause| {
            let until = Timestamp(1_767_225_600_000);
            Ok(Some(Deferral { until, reason: reason.map(Into::into), pause }))
        };
        let said = |text: &str| parse(text.as_bytes());
        assert_eq!(said(r#"{"defer_until": "2026-01-01T00:00:00Z"}"#), deferral(None, false));
        assert_eq!(
            said(r#"{"defer_until": "2026-01-01T00:00:00Z", "reason": "429", "pause": true}"#),
            deferral(Some("429"), true)
        );
        assert_eq!(said(""), Ok(None));
        assert_eq!(said(" \n"), Ok(None));
        assert_eq!(said(r#"{"more": 1}"#), Ok(None));
        assert!(parse(b"\xff").is_err());
        for (text, why) in [
            ("later", "expected value"),
            (r#"{"defer_until": "tomorrow"}"#, "defer_until=tomorrow: it is a time"),
            (r#"{"pause": true}"#, "a pause needs defer_until"),
        ] {
            let error = said(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_run_whose_agent_said_nothing_has_no_result() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = RunDir::at(&folder.path().join("1-1-1"));
        dir.create().expect("a folder");
        assert_eq!(read(&dir), Ok(None));
        std::fs::create_dir(dir.agent_file("result.json")).expect("a folder");
        assert!(read(&dir).is_err(), "what is no file is said to be none");
    }
}
