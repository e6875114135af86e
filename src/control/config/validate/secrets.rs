//! `authorization_file` and `send_file` of a check: what is said and not to be read in the configuration.

use std::path::Path;

use super::super::error::Problems;
use super::super::schema::{self, Spanned};
use super::checks::TALK_MAX;
use crate::control::secret::{Readers, Secret, contents};

/// The value of the Authorization header: one line of visible characters and blanks, as it is sent.
pub(super) fn authorization(
    problems: &mut Problems,
    written: &schema::Check,
    origin: &Path,
) -> Option<Secret> {
    let value = written.authorization_file.as_ref().filter(|it| !it.get_ref().is_empty())?;
    let bytes = read(problems, "authorization_file", value, origin)?;
    let line = bytes.trim_ascii();
    if line.is_empty() || !line.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') {
        let message = format!("authorization_file {}: it is no header's value", value.get_ref());
        let help = "one line, like `Bearer 0123abcd` or `Basic dXNlcjpwYXNzd29yZA==`";
        problems.error_help(value.span(), message, help);
        return None;
    }
    Some(Secret { file: value.get_ref().clone(), bytes: line.into() })
}

/// What is said in the place of `send`: all bytes of the file, as they are.
pub(super) fn said(
    problems: &mut Problems,
    written: &schema::Check,
    origin: &Path,
) -> Option<Secret> {
    let value = written.send_file.as_ref().filter(|it| !it.get_ref().is_empty())?;
    if written.send.is_some() || written.send_hex.is_some() {
        let message = "send_file says what is said, and so does another key";
        problems.error_help(value.span(), message, "one of send, send_hex and send_file");
    }
    let bytes = read(problems, "send_file", value, origin)?;
    if bytes.len() > TALK_MAX {
        let message = format!("send_file {}: longer than {TALK_MAX} bytes", value.get_ref());
        problems.error(value.span(), message);
    }
    Some(Secret { file: value.get_ref().clone(), bytes: bytes.into() })
}

/// A file beside `origin`.
fn read(
    problems: &mut Problems,
    key: &str,
    value: &Spanned<String>,
    origin: &Path,
) -> Option<Vec<u8>> {
    let path = origin.parent().unwrap_or(Path::new("")).join(value.get_ref());
    let read = contents(&path, Readers::OwnerAndGroup);
    let refuse =
        |reason| problems.error(value.span(), format!("{key} {}: {reason}", path.display()));
    read.map_err(refuse).ok()
}
