//! What an agent's log tells: its session, and its last words.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;

use crate::job::limits;
use crate::process::safe_file;

/// The last words of an agent, at most this many bytes.
const LAST_WORDS_BYTES_MAX: u64 = 2000;

#[derive(Deserialize)]
struct SessionLine {
    #[serde(rename = "sessionID")]
    session: String,
}

/// The session that a run names in its output: the first JSON line with a `sessionID`.
pub(super) fn session(log: &Path, from: u64) -> io::Result<Option<String>> {
    let mut file = safe_file::open_regular(log)?;
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::new(file.take(limits::SESSION_SEARCH_BYTES_MAX));
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if let Ok(SessionLine { session }) = serde_json::from_slice(&line)
            && is_session_id(&session)
        {
            return Ok(Some(session));
        }
        line.clear();
    }
    Ok(None)
}

/// A session becomes an argument of the agent's command: no surprises.
fn is_session_id(text: &str) -> bool {
    (1..=200).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:".contains(&b))
}

/// The end of a run's output, without terminal codes and without events.
pub(super) fn last_lines(log: &Path, from: u64) -> io::Result<String> {
    let bytes = safe_file::read_tail(log, from, LAST_WORDS_BYTES_MAX)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let plain = anstream::adapter::strip_str(&text).to_string();
    let lines = plain.lines().map(str::trim);
    let words: Vec<&str> =
        lines.filter(|line| !line.is_empty() && !line.starts_with('{')).collect();
    Ok(words.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_the_first_one_named_in_this_run() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = folder.path().join("log");
        let earlier = "{\"sessionID\":\"ses_old\"}\n";
        let text = format!(
            "{earlier}\u{1b}[91mnot json\n{{\"sessionID\":\"--evil\"}}\n{{\"other\":1}}\n\
             {{\"type\":\"x\",\"sessionID\":\"ses_new\",\"part\":{{}}}}\n"
        );
        std::fs::write(&log, &text).expect("a log");
        let from = earlier.len() as u64;
        assert_eq!(session(&log, 0).expect("a read").as_deref(), Some("ses_old"));
        assert_eq!(session(&log, from).expect("a read").as_deref(), Some("ses_new"));
        assert_eq!(session(&log, text.len() as u64).expect("a read"), None);
        assert_eq!(last_lines(&log, from).expect("a read"), "not json");
        assert_eq!(last_lines(&log, text.len() as u64).expect("a read"), "");
    }
}
