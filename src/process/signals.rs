//! What small processes of our own hear: children that end, and requests to stop.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

/// What is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// A child has ended, perhaps.
    Child,
    /// It is time to end.
    End,
    /// Neither.
    Nothing,
}

/// Signals, as bytes in pipes.
///
/// They are handled and not blocked: a child would inherit blocked ones, and be deaf to TERM.
pub struct Signals {
    children: UnixStream,
    words: UnixStream,
}

impl Signals {
    /// Hears of children that end, and of requests to stop.
    pub fn catch() -> io::Result<Signals> {
        // Whoever started this may have blocked some.
        SigSet::empty().thread_set_mask()?;
        Ok(Signals { children: pipe_of(&[SIGCHLD])?, words: pipe_of(&[SIGTERM, SIGINT, SIGHUP])? })
    }

    /// Ready when there is a request to stop.
    pub fn stop_requests(&self) -> BorrowedFd<'_> {
        self.words.as_fd()
    }

    /// The next thing to hear, if it comes in time.
    pub fn next(&self, patience: Duration) -> io::Result<Heard> {
        let mut ready = [
            PollFd::new(self.words.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
        ];
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut ready, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if drain(&self.words)? {
            return Ok(Heard::End);
        }
        Ok(if drain(&self.children)? { Heard::Child } else { Heard::Nothing })
    }
}

/// The reading end of a pipe that gets a byte for each of these signals.
fn pipe_of(signals: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for signal in signals {
        signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
    }
    Ok(read)
}

/// Takes everything out of a pipe. Says whether there was anything.
fn drain(mut pipe: &UnixStream) -> io::Result<bool> {
    let mut bytes = [0; 64];
    match pipe.read(&mut bytes) {
        Ok(count) => Ok(count > 0),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
