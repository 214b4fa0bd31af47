//! What an agent's log tells: its session, its last words, and what kept it from its work.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use jiff::tz::TimeZone;

use crate::dialect::{HowEnded, Transcript, Trouble};
use crate::job::limits;
use crate::process::run::{Cause, ExitRecord};
use crate::process::safe_file;
use crate::time::Timestamp;

/// What a run said in the end.
pub(super) struct Said {
    /// What kept the agent from its work, if anything tells.
    pub trouble: Option<Trouble>,
    pub last_words: String,
}

/// The session that a run names in its output.
pub(super) fn session(log: &Path, from: u64) -> io::Result<Option<String>> {
    let mut transcript = Transcript::new();
    feed(log, from, limits::SESSION_SEARCH_BYTES_MAX, &mut transcript, |transcript| {
        transcript.session().is_some()
    })?;
    Ok(transcript.session().map(String::from))
}

/// What a run said in the end: its shim has read it. The shim of version 0.1.0 did not, and then the
/// log tells; one that is gone or cannot be read says nothing.
pub(super) fn said(log: &Path, from: u64, record: &ExitRecord, now: Timestamp) -> Said {
    if !record.nonce.is_empty() {
        let trouble = record.trouble.clone().map(Trouble::from);
        return Said { trouble, last_words: record.last_words.clone() };
    }
    let mut transcript = Transcript::new();
    let length = safe_file::length(log).unwrap_or(0);
    let from = from.max(length.saturating_sub(limits::TRANSCRIPT_BYTES_MAX));
    let _ = feed(log, from, limits::TRANSCRIPT_BYTES_MAX, &mut transcript, |_| false);
    let ended = HowEnded {
        exit_code: record.exit_code,
        by_time_limit: matches!(record.cause, Cause::Timeout | Cause::IdleTimeout),
    };
    Said {
        trouble: transcript.trouble(ended, now, &TimeZone::system()),
        last_words: transcript.last_words(),
    }
}

/// Feeds lines from a place in a log on, at most so many bytes, until it is enough.
fn feed(
    log: &Path,
    from: u64,
    bytes_max: u64,
    transcript: &mut Transcript,
    is_enough: impl Fn(&Transcript) -> bool,
) -> io::Result<()> {
    let mut file = match safe_file::open_regular(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::new(file.take(bytes_max));
    let mut line = Vec::new();
    loop {
        line.clear();
        let room = limits::DIALECT_LINE_BYTES_MAX as u64;
        if reader.by_ref().take(room).read_until(b'\n', &mut line)? == 0 || is_enough(transcript) {
            return Ok(());
        }
        if line.ends_with(b"\n") {
            line.pop();
            transcript.read_line(&line);
        } else {
            transcript.read_cut_line(&line);
            skip_line(&mut reader)?;
        }
    }
}

/// The rest of a line that is too long.
fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let (used, is_over) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        reader.consume(used);
        if is_over {
            return Ok(());
        }
    }
}
