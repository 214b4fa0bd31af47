//! Why a store did not do it.

use std::path::PathBuf;

/// A process that keeps others from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// The name of its program.
    pub program: String,
    /// Whether it is stopped (SIGSTOP, Ctrl-Z): it lets go only when it is continued or killed.
    pub is_stopped: bool,
}

impl StoreError {
    /// Whether it may pass without anybody doing something about the store itself: other writers
    /// that go on, a disk that has room again, a process that may open files again.
    pub fn may_pass(&self) -> bool {
        match self {
            StoreError::Busy { .. } | StoreError::Io { .. } | StoreError::Latched { .. } => true,
            StoreError::Gone { .. }
            | StoreError::Damaged { .. }
            | StoreError::TooNew { .. }
            | StoreError::Panicked => false,
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Holder { pid, program, is_stopped } = self;
        let stopped = if *is_stopped { ", which is stopped" } else { "" };
        write!(f, "process {pid} ({program}){stopped}")
    }
}

/// Why the store did not do it. Nothing was changed, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Other writers held the store for too long.
    #[error(
        "the queue is busy: {path} was locked for {waited_ms} ms by {}",
        holder.as_ref().map_or("another process".into(), Holder::to_string)
    )]
    Busy {
        /// The file.
        path: PathBuf,
        /// How long this process waited.
        waited_ms: u64,
        /// Who held it, if that can be seen.
        holder: Option<Holder>,
    },
    /// The file at the path is not the one that this process opened.
    #[error(
        "the queue {path} was {} while this process had it open; \
         what it wrote last may be gone with the old file",
        if *removed { "removed" } else { "replaced by another file" }
    )]
    Gone {
        /// Where the file was.
        path: PathBuf,
        /// Whether nothing is there now.
        removed: bool,
    },
    /// What is in the file is not what kugetsu wrote.
    #[error("the queue is damaged: {path}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A newer kugetsu wrote the file.
    #[error(
        "the queue {path} has format {found}, and this kugetsu knows only {known}: upgrade kugetsu"
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest this program knows.
        known: u32,
    },
    /// An error of the disk or a lock has closed the file for this process, which opens it anew with
    /// the next call. The last write may or may not be there.
    #[error(
        "an I/O error has closed the queue {path} for this process; \
         its last write may or may not be there"
    )]
    Latched {
        /// The file.
        path: PathBuf,
    },
    /// The thread that carried this write to the disk panicked: it may or may not be there.
    #[error("a bug ended the thread that wrote to the queue")]
    Panicked,
    /// The system said no.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
