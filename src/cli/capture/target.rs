//! Where captured frames go: a file, the standard output, or a `tcpdump` that prints them.
//!
//! ```text
//! asked ──► daemon says no, or is not there ──► nothing was touched
//!       └─► first bytes ──► file truncated, tcpdump started ──► more bytes ──► finish: on the disk, exit code
//! ```
//!
//! Nothing is opened before the daemon has sent the first bytes: a file with an older capture survives a daemon
//! that refuses. A disk may say only at the end that it is full, so a file is synced before the capture counts as written.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::{CaptureError, TCPDUMP};
use crate::cli::request::RequestError;

/// What a shell adds to the number of the signal that ended a program.
const SIGNALLED: u8 = 128;

/// Where frames go.
pub(super) enum Target<'a, W> {
    Out(&'a mut W),
    File(Sink),
    Tcpdump(Option<Child>),
}

/// A file, from its first bytes on.
pub(super) struct Sink {
    path: PathBuf,
    file: Option<File>,
}

impl<'a, W: Write> Target<'a, W> {
    /// `write` is the file of the command line. Nothing is opened yet.
    pub(super) fn new(write: Option<&Path>, out: &'a mut W) -> Self {
        match write {
            None => Self::Tcpdump(None),
            Some(path) if path.as_os_str() == "-" => Self::Out(out),
            Some(path) => Self::File(Sink { path: path.to_owned(), file: None }),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), RequestError> {
        match self {
            Self::Out(out) => {
                out.write_all(bytes).and_then(|()| out.flush()).map_err(RequestError::Output)
            }
            Self::File(sink) => Ok(sink.write(bytes)?),
            Self::Tcpdump(child) => Ok(pass(child, bytes)?),
        }
    }

    /// Everything is where it shall be. The exit code: `tcpdump`'s, if one prints.
    pub(super) fn finish(self) -> Result<u8, CaptureError> {
        match self {
            Self::Out(_) | Self::Tcpdump(None) => Ok(0),
            Self::File(sink) => sink.finish().map(|()| 0),
            Self::Tcpdump(Some(child)) => ended(child),
        }
    }
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CaptureError> {
        let file = match &mut self.file {
            Some(file) => file,
            empty => {
                let opened = |source| CaptureError::Open { path: self.path.clone(), source };
                empty.insert(File::create(&self.path).map_err(opened)?)
            }
        };
        let failed = |source| CaptureError::File { path: self.path.clone(), source };
        file.write_all(bytes).map_err(failed)
    }

    fn finish(self) -> Result<(), CaptureError> {
        match self.file.map_or(Ok(()), |file| file.sync_all()) {
            // A pipe or a device has nothing to sync.
            Err(error) if error.kind() != ErrorKind::InvalidInput => {
                Err(CaptureError::File { path: self.path, source: error })
            }
            _ => Ok(()),
        }
    }
}

/// Passes bytes on to `tcpdump`, which is started for the first of them.
fn pass(child: &mut Option<Child>, bytes: &[u8]) -> Result<(), CaptureError> {
    let child = match child {
        Some(child) => child,
        none => none.insert(started().map_err(CaptureError::NoTcpdump)?),
    };
    let written = child.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(bytes));
    written.map_err(CaptureError::Unread)
}

fn started() -> io::Result<Child> {
    Command::new(TCPDUMP).args(["-n", "-l", "-r", "-"]).stdin(Stdio::piped()).spawn()
}

/// Lets `tcpdump` come to its end. Its exit code.
fn ended(mut child: Child) -> Result<u8, CaptureError> {
    drop(child.stdin.take());
    child.wait().map(code).map_err(CaptureError::NoTcpdump)
}

/// As a shell would say it. Ended for want of a reader is no failure: `shunt capture | head`.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    match status.signal() {
        Some(libc::SIGPIPE) => 0,
        Some(signal) => u8::try_from(signal).unwrap_or(u8::MAX).saturating_add(SIGNALLED),
        None => code.unwrap_or(u8::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcpdumps_end_is_told_as_a_shell_would_and_a_reader_that_left_is_none() {
        // What wait(2) gives: the code in the second byte, or a signal in the first.
        let rows = [(0, 0), (1 << 8, 1), (3 << 8, 3), (libc::SIGPIPE, 0), (libc::SIGKILL, 137)];
        for (raw, wanted) in rows {
            assert_eq!(code(ExitStatus::from_raw(raw)), wanted, "{raw:#x}");
        }
    }

    #[test]
    fn a_file_is_touched_by_the_first_bytes_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.pcapng");
        std::fs::write(&path, "yesterday's").unwrap();
        let mut nowhere = io::sink();
        let mut target = Target::new(Some(&path), &mut nowhere);
        assert_eq!(std::fs::read(&path).unwrap(), b"yesterday's");
        target.write(b"to").unwrap();
        target.write(b"day").unwrap();
        assert_eq!(target.finish().unwrap(), 0);
        assert_eq!(std::fs::read(&path).unwrap(), b"today");
    }
}
