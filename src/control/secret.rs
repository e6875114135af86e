//! What is known to few: read from a file that not everybody may open, shown to nobody.
//!
//! ```text
//! authorization_file = "web.auth" ──► Secret { file, bytes }, part of the plan ──► what a check says
//!                                                └─► diff, logs, API, Debug: web.auth #5f0c…
//! ```
//!
//! It is part of the plan with what it holds, as certificates are, so that a reload finds that it has changed; and what
//! `shunt save` writes is the text of the file, in which there is only the name. What is shown beside the name is a
//! number that is another for other bytes. It is made with a key of this process, so that nobody finds the bytes by trying
//! out what gives the same number.

use std::fmt;
use std::fs::OpenOptions;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, LazyLock};

/// Largest file read.
const SIZE_MAX: u64 = 1 << 20;
/// Mode bits of others than owner and group.
const OTHERS: u32 = 0o007;

static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The bytes of a file, not to be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// The file, as it is written.
    pub file: String,
    /// What is in it.
    pub bytes: Arc<[u8]>,
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{:08x}", self.file, KEY.hash_one(&self.bytes) >> 32)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Who may open a file that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Anybody: it is no secret.
    Anybody,
    /// Its owner and group at most.
    OwnerAndGroup,
}

/// What a file holds; or what is wrong with it, and the command that mends it.
pub fn contents(path: &Path, readers: Readers) -> Result<Vec<u8>, String> {
    // Who opens a pipe otherwise waits for whoever writes into it.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(|error| format!("cannot be opened: {error}"))?;
    let metadata = file.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if !metadata.is_file() {
        return Err("it is no ordinary file".to_owned());
    }
    let mode = metadata.permissions().mode();
    if readers == Readers::OwnerAndGroup && mode & OTHERS != 0 {
        let path = path.display();
        return Err(format!("anybody may open it (mode {:04o}); chmod o= {path}", mode & 0o7777));
    }
    let mut bytes = Vec::new();
    let read = file.take(SIZE_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err(format!("it is larger than {} MiB", SIZE_MAX >> 20));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(bytes: &[u8]) -> Secret {
        Secret { file: "web.auth".into(), bytes: bytes.into() }
    }

    #[test]
    fn a_secret_is_shown_by_its_file_and_by_whether_it_is_another() {
        let (one, two) = (secret(b"Bearer one"), secret(b"Bearer two"));
        for shown in [one.to_string(), format!("{one:?}"), serde_json::to_string(&one).unwrap()] {
            assert!(shown.contains("web.auth #") && !shown.contains("Bearer"), "{shown}");
        }
        assert_eq!(one.to_string(), secret(b"Bearer one").to_string());
        assert_ne!(one.to_string(), two.to_string());
    }

    #[test]
    fn what_is_no_ordinary_file_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let (mode, kind) = (rustix::fs::Mode::RUSR, rustix::fs::FileType::Fifo);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/zero")] {
            let said = contents(path, Readers::Anybody).unwrap_err();
            assert_eq!(said, "it is no ordinary file", "{}", path.display());
        }
    }

    #[test]
    fn a_file_that_everybody_may_open_is_refused_with_what_mends_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret").unwrap();
        for (mode, is_refused) in [(0o600, false), (0o640, false), (0o644, true), (0o601, true)] {
            file.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
            let read = contents(file.path(), Readers::OwnerAndGroup);
            assert_eq!(read.is_err(), is_refused, "{mode:o}");
            if let Err(reason) = read {
                assert!(
                    reason.ends_with(&format!("chmod o= {}", file.path().display())),
                    "{reason}"
                );
            }
            assert_eq!(contents(file.path(), Readers::Anybody).unwrap(), b"s3cret", "{mode:o}");
        }
    }
}
