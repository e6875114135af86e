//! The sockets of a daemon, taken before anything else is started: a second daemon must find out
//! before it has touched a port.
//!
//! A socket file that nobody answers on is what `kill -9` leaves behind: it is replaced. One that
//! somebody answers on is a running daemon: an error, but not at once, for a killed process holds
//! its sockets until the kernel has taken its memory back. Two daemons starting at once are kept apart by
//! a lock on the directory, held only while looking and binding, so that no lock file stays behind.

use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// How long a process that was killed may still hold its sockets.
const LAST_BREATH: Duration = Duration::from_secs(2);
/// How long another daemon may look and bind; more than one [`LAST_BREATH`].
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Why a socket could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Somebody answers there.
    #[error("another shuntd is running on {0}; stop it, or give this one another `admin_socket`")]
    Running(PathBuf),
    /// The path exists and is no socket.
    #[error("{0} exists and is not a socket; remove it, or choose another `admin_socket`")]
    NotASocket(PathBuf),
    /// The folder of the socket cannot be made or locked.
    #[error(
        "cannot use the folder of admin_socket {path}: {source}; choose another `admin_socket` \
         under [shunt]"
    )]
    Folder {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The unix socket cannot be made.
    #[error(
        "cannot listen on admin_socket {path}: {source}; choose another `admin_socket` under \
         [shunt]"
    )]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The admin API's address beyond the machine cannot be listened on.
    #[error(
        "cannot listen on {address} for the admin API: {source}; change `listen` under [admin]"
    )]
    Remote {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The metrics address cannot be listened on.
    #[error("cannot listen on {address} for /metrics: {source}; change `listen` under [metrics]")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// The sockets. Dropping them removes the file.
#[derive(Debug)]
pub struct Claims {
    /// The admin socket.
    pub admin: UnixListener,
    /// The listener for `/metrics`, unless turned off.
    pub metrics: Option<TcpListener>,
    /// The listener for the admin API beyond the machine, if it is wanted.
    pub remote: Option<TcpListener>,
    /// Removes the file when the daemon ends.
    pub file: SocketFile,
}

/// The socket's file: removed on drop, unless somebody has put another one in its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Claims {
    /// Takes the sockets.
    pub fn take(admin: &Path, metrics: Option<SocketAddr>) -> Result<Self, ClaimError> {
        let failed = |source| ClaimError::Socket { path: admin.into(), source };
        let directory = match admin.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let no_folder = |source| ClaimError::Folder { path: admin.into(), source };
        DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(no_folder)?;
        let _lock = lock(directory).map_err(no_folder)?;
        let deadline = Instant::now() + LAST_BREATH;
        let running = |error: &ClaimError| matches!(error, ClaimError::Running(_));
        patiently(deadline, || make_room(admin), running)?;
        let listener = UnixListener::bind(admin).map_err(failed)?;
        let identity = identity(admin);
        let file = SocketFile { path: admin.into(), identity };
        std::fs::set_permissions(admin, Permissions::from_mode(0o660)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let failed = |address, source| ClaimError::Metrics { address, source };
        let metrics = metrics.map(|address| listen(deadline, address, failed)).transpose()?;
        Ok(Self { admin: listener, metrics, remote: None, file })
    }

    /// And this address for the admin API.
    pub fn with_remote(self, address: Option<SocketAddr>) -> Result<Self, ClaimError> {
        let deadline = Instant::now() + LAST_BREATH;
        let failed = |address, source| ClaimError::Remote { address, source };
        let remote = address.map(|address| listen(deadline, address, failed)).transpose()?;
        Ok(Self { remote, ..self })
    }
}

/// Tries again until the deadline while `may_pass` says that the failure may pass.
fn patiently<T>(
    deadline: Instant,
    attempt: impl Fn() -> Result<T, ClaimError>,
    may_pass: impl Fn(&ClaimError) -> bool,
) -> Result<T, ClaimError> {
    loop {
        match attempt() {
            Err(error) if may_pass(&error) && Instant::now() < deadline => {
                std::thread::sleep(PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// Waits until the deadline for who has the address still.
fn listen(
    deadline: Instant,
    address: SocketAddr,
    failed: impl Fn(SocketAddr, io::Error) -> ClaimError,
) -> Result<TcpListener, ClaimError> {
    let attempt = || {
        let listener = TcpListener::bind(address).map_err(|error| failed(address, error))?;
        listener.set_nonblocking(true).map_err(|error| failed(address, error))?;
        Ok(listener)
    };
    let in_use = |error: &ClaimError| match error {
        ClaimError::Metrics { source, .. } | ClaimError::Remote { source, .. } => {
            source.kind() == io::ErrorKind::AddrInUse
        }
        _ => false,
    };
    patiently(deadline, attempt, in_use)
}

/// Holds the directory for a moment. Waits for another daemon's moment to pass.
fn lock(directory: &Path) -> io::Result<File> {
    let file = File::open(directory)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    while Instant::now() < deadline {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "its directory is locked by another process"))
}

/// Removes a socket that nobody answers on.
fn make_room(path: &Path) -> Result<(), ClaimError> {
    let failed = |source| ClaimError::Socket { path: path.into(), source };
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type()) {
        return Err(ClaimError::NotASocket(path.into()));
    }
    match knock(path) {
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path).map_err(failed),
        // It has gone since.
        Err(Errno::NOENT) => Ok(()),
        // A full backlog is somebody too.
        Ok(()) | Err(Errno::AGAIN) => Err(ClaimError::Running(path.into())),
        Err(error) => Err(failed(error.into())),
    }
}

/// Does anybody answer? Never waits: a daemon that hangs has a backlog that stays full.
fn knock(path: &Path) -> rustix::io::Result<()> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_socket_is_made_with_its_directory_for_owner_and_group_and_goes_with_the_claim() {
        let directory = directory();
        let path = directory.path().join("run/shunt/admin.sock");
        let claims = Claims::take(&path, None).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        drop(claims);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_somebody_answers_on_is_a_running_daemon() {
        let directory = directory();
        let path = directory.path().join("admin.sock");
        let first = Claims::take(&path, None).unwrap();
        let error = Claims::take(&path, None).unwrap_err();
        assert!(matches!(error, ClaimError::Running(_)), "{error}");
        assert!(error.to_string().starts_with("another shuntd is running on"));
        drop(first);
        Claims::take(&path, None).unwrap();
    }

    #[test]
    fn a_daemon_that_hangs_with_a_full_backlog_is_running_too() {
        let directory = directory();
        let path = directory.path().join("admin.sock");
        let address = SocketAddrUnix::new(&path).unwrap();
        let flags = SocketFlags::CLOEXEC;
        let hanging = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        rustix::net::bind(&hanging, &address).unwrap();
        rustix::net::listen(&hanging, 0).unwrap();
        knock(&path).unwrap();
        assert_eq!(knock(&path), Err(Errno::AGAIN), "a backlog of none is full after one");
        let error = Claims::take(&path, None).unwrap_err();
        assert!(matches!(error, ClaimError::Running(_)), "{error}");
    }

    #[test]
    fn a_killed_process_is_given_time_to_let_its_sockets_go() {
        let directory = directory();
        let path = directory.path().join("admin.sock");
        let dying = UnixListener::bind(&path).unwrap();
        let metrics = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = metrics.local_addr().unwrap();
        let death = std::thread::spawn(move || {
            std::thread::sleep(LAST_BREATH / 8);
            drop(dying);
            std::thread::sleep(LAST_BREATH / 8);
            drop(metrics);
        });
        let claims = Claims::take(&path, Some(address)).unwrap();
        assert_eq!(claims.metrics.unwrap().local_addr().unwrap(), address);
        death.join().unwrap();
    }

    #[test]
    fn a_refusal_gives_its_cause_once_and_the_key_to_change() {
        let directory = directory();
        let path = directory.path().join("admin.sock");
        let elsewhere: SocketAddr = "192.0.2.99:9777".parse().unwrap();
        std::fs::write(directory.path().join("file"), "").unwrap();
        let below = directory.path().join("file/admin.sock");
        let long = directory.path().join("x".repeat(200));
        for (error, key) in [
            (Claims::take(&path, Some(elsewhere)).unwrap_err(), "change `listen` under [metrics]"),
            (Claims::take(&below, None).unwrap_err(), "another `admin_socket` under [shunt]"),
            (Claims::take(&long, None).unwrap_err(), "another `admin_socket` under [shunt]"),
        ] {
            let (text, cause) = (error.to_string(), std::error::Error::source(&error).unwrap());
            assert_eq!(text.matches(&cause.to_string()).count(), 1, "{text}");
            assert!(text.contains(key), "{text}");
        }
    }

    #[test]
    fn a_socket_left_behind_by_a_killed_daemon_is_replaced() {
        let directory = directory();
        let path = directory.path().join("admin.sock");
        // A listener that is closed without removing its file: what kill -9 leaves.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        Claims::take(&path, None).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let directory = directory();
        let path = directory.path().join("admin.sock");
        std::fs::write(&path, "mine").unwrap();
        let error = Claims::take(&path, None).unwrap_err();
        assert!(matches!(error, ClaimError::NotASocket(_)), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn a_claim_does_not_remove_somebody_elses_socket() {
        let directory = directory();
        let path = directory.path().join("admin.sock");
        let claims = Claims::take(&path, None).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(claims);
        assert!(path.exists());
    }

    #[test]
    fn a_metrics_address_in_use_is_an_error_and_leaves_no_socket_behind() {
        let directory = directory();
        let path = directory.path().join("admin.sock");
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = Claims::take(&path, Some(taken.local_addr().unwrap())).unwrap_err();
        assert!(matches!(error, ClaimError::Metrics { .. }), "{error}");
        assert!(!path.exists());
    }
}
