//! What DPDK prints while it does something for us: kept, so that a refusal is one message of ours
//! with DPDK's reason in it, and not a page of usage text.
//!
//! DPDK logs to standard error, its usage text goes to standard output, and `getopt` writes past
//! both of them: so for the time of one call the two descriptors lead to a file in memory. If the
//! call succeeds, what was printed is printed after it. If DPDK ended the process in the middle,
//! its words would be lost; what it may print outside of such calls is not touched.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::stdio::{dup2_stderr, dup2_stdout, stderr, stdout};

/// True and said below every reason: no reason themselves.
const EMPTY_PHRASES: [&str; 5] = [
    "Failed to attach device on primary process",
    "Driver cannot attach the device",
    "Invalid 'command line' arguments",
    "failed to initialize device",
    "failed to initialise device",
];

/// Runs `work`; if it fails, the second value is the one line DPDK printed that tells most.
pub(super) fn overhear<T, E>(
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, (E, Option<String>)> {
    let (outcome, text) = divert(work);
    match outcome {
        Ok(value) => {
            let _ = io::stderr().write_all(text.as_bytes());
            Ok(value)
        }
        Err(error) => {
            text.lines().for_each(|line| tracing::debug!(%line, "DPDK says"));
            Err((error, telling(&text)))
        }
    }
}

/// A reason with DPDK's own words, if there are any.
pub(super) fn with_words(reason: String, words: Option<String>) -> String {
    match words {
        Some(words) => format!("{reason} ({words})"),
        None => reason,
    }
}

fn divert<T>(work: impl FnOnce() -> T) -> (T, String) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(mut file) = memfd_create("dpdk-says", MemfdFlags::CLOEXEC).map(File::from) else {
        return (work(), String::new());
    };
    let Ok(diverted) = Diverted::into(&file) else { return (work(), String::new()) };
    let outcome = work();
    drop(diverted);
    let mut bytes = Vec::new();
    let _ = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    (outcome, String::from_utf8_lossy(&bytes).into_owned())
}

/// Where standard output and error led before; they do again when this is dropped.
struct Diverted {
    out: OwnedFd,
    err: OwnedFd,
}

impl Diverted {
    fn into(file: &File) -> io::Result<Self> {
        let (out, err) = (fcntl_dupfd_cloexec(stdout(), 3)?, fcntl_dupfd_cloexec(stderr(), 3)?);
        flush();
        let diverted = Self { out, err };
        dup2_stdout(file)?;
        dup2_stderr(file)?;
        Ok(diverted)
    }
}

impl Drop for Diverted {
    fn drop(&mut self) {
        flush();
        let _ = dup2_stdout(&self.out);
        let _ = dup2_stderr(&self.err);
    }
}

/// C keeps what was printed to a file until its buffer is full.
fn flush() {
    // SAFETY: null means all open streams; each is locked while it is flushed.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// The last line that is neither usage text nor one of [`EMPTY_PHRASES`]; without such a line, the
/// last one there is.
fn telling(text: &str) -> Option<String> {
    let usage = text.find("Usage:").unwrap_or(text.len());
    let (before, after) = text.split_at(usage);
    let after = after.lines().filter(|line| line.starts_with("EAL: "));
    let said = before.lines().chain(after).map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = said.collect();
    let empty = |line: &str| EMPTY_PHRASES.iter().any(|phrase| line.contains(phrase));
    let best = lines.iter().rfind(|line| !empty(line)).or(lines.last())?;
    Some(best.trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_tells_most_is_found_among_what_dpdk_prints() {
        for (text, line) in [
            ("", None),
            (
                "EAL: Driver cannot attach the device (x)\n",
                Some("EAL: Driver cannot attach the device (x)"),
            ),
            (
                "rte_pmd_init_internals(): net_af_packet0: ioctl failed (SIOCGIFINDEX)\n\
                 EAL: Driver cannot attach the device (net_af_packet0)\n\
                 EAL: Failed to attach device on primary process\n",
                Some("rte_pmd_init_internals(): net_af_packet0: ioctl failed (SIOCGIFINDEX)"),
            ),
            (
                "shunt: unrecognized option '--no-such'\n\nUsage: shunt [options]\n  -a, --allow x\n\
                 EAL: FATAL: Invalid 'command line' arguments.\n",
                Some("shunt: unrecognized option '--no-such'"),
            ),
        ] {
            assert_eq!(telling(text).as_deref(), line, "{text}");
        }
    }
}
