//! What an audit of kugetsu's surroundings found, for `init` and `doctor`.

use serde_json::{Value, json};

use crate::cli::context::CliError;

/// One thing that was looked at.
pub(super) struct Finding {
    /// What it is about, for programs.
    pub check: &'static str,
    /// What it is, in words.
    pub what: String,
    pub status: Status,
    /// The next step.
    pub remedy: Option<String>,
    /// What takes the trouble away without a loss.
    pub mend: Option<Mend>,
}

pub(super) type Mend = Box<dyn FnOnce() -> Result<(), String>>;

pub(super) enum Status {
    Good,
    /// Nothing is wrong, and somebody may want to know.
    Note,
    /// It is wrong, and why.
    Trouble(String),
    /// It was wrong.
    Mended(String),
}

impl Finding {
    pub fn good(check: &'static str, what: impl Into<String>) -> Finding {
        Finding { check, what: what.into(), status: Status::Good, remedy: None, mend: None }
    }

    pub fn note(check: &'static str, what: impl Into<String>, remedy: &str) -> Finding {
        let remedy = Some(remedy.into());
        Finding { check, what: what.into(), status: Status::Note, remedy, mend: None }
    }

    pub fn bad(check: &'static str, what: impl Into<String>, error: CliError) -> Finding {
        Finding {
            check,
            what: what.into(),
            status: Status::Trouble(error.message),
            remedy: error.hint,
            mend: None,
        }
    }

    pub fn trouble(
        check: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: &str,
    ) -> Finding {
        Finding::bad(check, what, CliError::general(why.into()).hint(remedy))
    }

    /// The same, and how it is mended.
    pub fn mended_by(self, mend: impl FnOnce() -> Result<(), String> + 'static) -> Finding {
        Finding { mend: Some(Box::new(mend)), ..self }
    }

    pub fn is_trouble(&self) -> bool {
        matches!(self.status, Status::Trouble(_))
    }

    /// Mends it, if that can be done.
    pub fn mend(mut self) -> Finding {
        let Some(mend) = self.mend.take() else { return self };
        let was = match &self.status {
            Status::Trouble(why) => why.clone(),
            Status::Note => String::new(),
            Status::Good | Status::Mended(_) => return self,
        };
        match mend() {
            Ok(()) => Finding { status: Status::Mended(was), remedy: None, ..self },
            Err(why) => {
                let why = format!("{was}; cannot mend it: {why}");
                let why = why.trim_start_matches("; ").to_string();
                Finding { status: Status::Trouble(why), ..self }
            }
        }
    }

    pub fn json(&self) -> Value {
        let (status, trouble) = match &self.status {
            Status::Good => ("good", None),
            Status::Note => ("note", None),
            Status::Trouble(why) => ("trouble", Some(why)),
            Status::Mended(was) => ("mended", Some(was)),
        };
        json!({
            "check": self.check,
            "status": status,
            "what": self.what,
            "trouble": trouble,
            "remedy": self.remedy,
        })
    }

    pub fn text(&self) -> String {
        let mut text = match &self.status {
            Status::Good => format!("✓ {}\n", self.what),
            Status::Note => format!("· {}\n", self.what),
            Status::Trouble(why) => format!("✗ {}: {why}\n", self.what),
            Status::Mended(was) if was.is_empty() => format!("✓ {} (mended)\n", self.what),
            Status::Mended(was) => format!("✓ {}: {was} (mended)\n", self.what),
        };
        if let Some(remedy) = &self.remedy {
            text.push_str(&format!("  {remedy}\n"));
        }
        text
    }
}

/// `2 folders`, `1 folder`.
pub(super) fn count(number: usize, one: &str, more: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {more}") }
}

/// The first few of many, for a line.
pub(super) fn some(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Bytes in a unit that a person reads.
pub(super) fn size(bytes: u64) -> String {
    const KIB: u64 = 1024;
    match bytes {
        0..KIB => format!("{bytes} B"),
        _ if bytes < KIB * KIB => format!("{} KiB", bytes / KIB),
        _ if bytes < KIB * KIB * KIB => format!("{:.1} MiB", bytes as f64 / (KIB * KIB) as f64),
        _ => format!("{:.1} GiB", bytes as f64 / (KIB * KIB * KIB) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_mended_once_and_says_so() {
        let bad = || Finding::trouble("modes", "a file", "it is open", "chmod it");
        assert_eq!(bad().text(), "✗ a file: it is open\n  chmod it\n");
        assert_eq!(bad().mended_by(|| Ok(())).mend().text(), "✓ a file: it is open (mended)\n");
        let failed = bad().mended_by(|| Err("no".into())).mend();
        assert_eq!(failed.text(), "✗ a file: it is open; cannot mend it: no\n  chmod it\n");
        assert!(failed.is_trouble() && bad().mend().is_trouble());
        let note = Finding::note("locks", "1 lock", "leave it").mended_by(|| Ok(()));
        assert_eq!(note.mend().text(), "✓ 1 lock (mended)\n");
    }

    #[test]
    fn sizes_and_lists_are_short() {
        for (bytes, text) in
            [(7, "7 B"), (2048, "2 KiB"), (5 << 20, "5.0 MiB"), (3 << 29, "1.5 GiB")]
        {
            assert_eq!(size(bytes), text);
        }
        let names: Vec<String> = (1..=5).map(|number| number.to_string()).collect();
        assert_eq!(some(&names), "1, 2, 3 and 2 more");
        assert_eq!((some(&names[..2]), count(1, "job", "jobs")), ("1, 2".into(), "1 job".into()));
    }
}
