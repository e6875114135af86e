//! Programs we start (checks of health) inherit no file of DPDK's.
//!
//! Rust opens everything to be closed on exec; DPDK does not: devices, huge pages and its sockets would be
//! open in every child, and a port could be driven from there. Once ports and workers are there, everything
//! that is open is marked. What is opened later is ours.

/// Standard input, output and error are the child's own.
const FIRST: libc::c_uint = 3;

/// Marks every open file to be closed in programs this process starts.
///
/// # Errors
///
/// The system's: before Linux 5.11 it cannot.
pub fn keep_files_from_children() -> std::io::Result<()> {
    let flags = libc::c_int::try_from(libc::CLOSE_RANGE_CLOEXEC).unwrap_or_default();
    // SAFETY: with this flag no file is closed, here or anywhere, before an exec: a flag of each descriptor
    // is set.
    let result = unsafe { libc::close_range(FIRST, libc::c_uint::MAX, flags) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_file_that_would_be_inherited_is_not_any_more() {
        let file = File::open("/dev/null").unwrap();
        let descriptor = file.as_raw_fd();
        // SAFETY: the descriptor is open, and its flag nobody else's business.
        assert_eq!(unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) }, 0);
        let is_inherited = || {
            let path = format!("/proc/self/fd/{descriptor}");
            let found = Command::new("/usr/bin/readlink").arg(path).output().unwrap();
            found.stdout == b"/dev/null\n"
        };
        assert!(is_inherited());
        keep_files_from_children().unwrap();
        assert!(!is_inherited());
    }
}
