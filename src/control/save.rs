//! Writing the configuration file: the old one or the new one, never half of either.
//!
//! ```text
//! has it changed since it was read? ─► new file beside it: mode and owner of the old, text, fsync ─► rename
//! ```
//!
//! A link stays a link: what it points to is replaced. The folder is synced too, so that the new name is there after a
//! crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Why the file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// It is not what was read.
    #[error(
        "{path} has changed since it was read: `shunt reload` takes the file, `shunt save --force` overwrites it"
    )]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{path} cannot be written: {source}; it is as it was")]
    Io {
        /// The file, or the one beside it.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Replaces the file at `path` with `text`; with `known`, only if that is what it says.
pub(super) fn write(path: &Path, text: &str, known: Option<&str>) -> Result<(), SaveError> {
    let fail = |source| SaveError::Io { path: path.to_owned(), source };
    let target = fs::canonicalize(path).map_err(fail)?;
    if let Some(known) = known
        && fs::read(&target).map_err(fail)? != known.as_bytes()
    {
        return Err(SaveError::Changed { path: path.to_owned() });
    }
    let beside = beside(&target);
    let outcome = replace(&target, &beside, text);
    outcome.inspect_err(|_| drop(fs::remove_file(&beside))).map_err(fail)
}

/// In the same folder, so that a rename is enough; of a name that is this process's.
fn beside(target: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    target.with_file_name(name)
}

fn replace(target: &Path, beside: &Path, text: &str) -> io::Result<()> {
    let old = fs::metadata(target)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
    file.write_all(text.as_bytes())?;
    // In this order: who has given a file away may no more change its mode, without one more capability.
    file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o777))?;
    fchown(&file, Some(old.uid()), Some(old.gid()))?;
    file.sync_all()?;
    fs::rename(beside, target)?;
    match target.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a file in it.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shunt.toml");
        fs::write(&path, "old").unwrap();
        (folder, path)
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_nothing_is_left_beside_it() {
        let (folder, path) = folder();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write(&path, "new", Some("old")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_somebody_has_changed_is_left_alone_unless_forced() {
        let (_folder, path) = folder();
        let error = write(&path, "new", Some("older")).unwrap_err().to_string();
        assert!(error.contains("has changed since it was read"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        write(&path, "new", None).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn a_link_stays_a_link() {
        let (folder, path) = folder();
        let link = folder.path().join("link.toml");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write(&link, "new", Some("old")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn a_file_that_is_gone_is_not_made() {
        let (_folder, path) = folder();
        fs::remove_file(&path).unwrap();
        let error = write(&path, "new", None).unwrap_err().to_string();
        assert!(error.contains("cannot be written"), "{error}");
        assert!(!path.exists());
    }
}
