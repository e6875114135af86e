//! Reading what is to be imported: a file, or standard input.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::ImportError;

/// The text of a file, or of standard input if it is called `-`. Bytes that are no UTF-8, as in the
/// comments of old files, are replaced; a file of bytes that no text has is refused.
pub(super) fn read(path: &Path, most: u64) -> Result<String, ImportError> {
    let refuse = |reason: String| ImportError::Unreadable { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    let taken = if path == Path::new("-") {
        std::io::stdin().lock().take(most + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes))
    };
    taken.map_err(|error| refuse(error.to_string()))?;
    if bytes.len() as u64 > most {
        return Err(refuse(format!("it is larger than {} MiB", most >> 20)));
    }
    if bytes.contains(&0) {
        return Err(refuse("it is no text: there are zero bytes in it".into()));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_any_encoding_is_read_and_other_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let said = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read(&path, 8).map_err(|error| error.to_string())
        };
        assert_eq!(said(b"a\xe9b").unwrap(), "a\u{fffd}b");
        assert!(said(b"a\0b").unwrap_err().contains("is no text"));
        assert!(said(b"123456789").unwrap_err().contains("larger than"));
        assert!(read(folder.path(), 8).unwrap_err().to_string().contains("directory"));
        assert!(read(Path::new("/no/such"), 8).unwrap_err().to_string().contains("/no/such"));
    }
}
