//! What an agent says of its run in the file named by `KUGETSU_RESULT`.

use serde::Deserialize;

use crate::job::limits;
use crate::process::run::RunDir;
use crate::time::Timestamp;

/// The wish to be asked again later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deferral {
    pub until: Timestamp,
    /// Why, in the agent's words.
    pub reason: Option<String>,
    /// Whether others would fare no better: nothing is begun until then.
    pub pause: bool,
}

#[derive(Deserialize)]
struct Text {
    defer_until: Option<String>,
    reason: Option<String>,
    #[serde(default)]
    pause: bool,
}

/// `Ok(None)` when the agent said nothing. An error names what is wrong with what it said.
pub(super) fn read(run: &RunDir) -> Result<Option<Deferral>, String> {
    let bytes = run.result(limits::RESULT_BYTES_MAX).map_err(|error| error.to_string())?;
    let Some(bytes) = bytes else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    let said: Text = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let Some(until) = said.defer_until else {
        return if said.pause { Err("a pause needs defer_until".into()) } else { Ok(None) };
    };
    let until = until.parse().map_err(|why| format!("defer_until={until}: {why}"))?;
    Ok(Some(Deferral { until, reason: said.reason, pause: said.pause }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_say() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let run = RunDir::at(&folder.path().join("1-1-1"));
        run.create().expect("a folder");
        let path = run.agent_file(crate::process::run::RESULT);
        assert_eq!(read(&run), Ok(None), "nothing");
        let said = |text: &str| {
            std::fs::write(&path, text).expect("a file");
            read(&run)
        };
        let deferral = |reason: Option<&str>, pause| {
            let until = Timestamp(1_767_225_600_000);
            Ok(Some(Deferral { until, reason: reason.map(Into::into), pause }))
        };
        assert_eq!(said(r#"{"defer_until": "2026-01-01T00:00:00Z"}"#), deferral(None, false));
        assert_eq!(
            said(r#"{"defer_until": "2026-01-01T00:00:00Z", "reason": "429", "pause": true}"#),
            deferral(Some("429"), true)
        );
        assert_eq!(said(""), Ok(None));
        assert_eq!(said(r#"{"more": 1}"#), Ok(None));
        for (text, why) in [
            ("later", "expected value"),
            (r#"{"defer_until": "tomorrow"}"#, "defer_until=tomorrow: it is a time"),
            (r#"{"pause": true}"#, "a pause needs defer_until"),
        ] {
            let error = said(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
