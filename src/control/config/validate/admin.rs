//! `[admin]`: the admin API beyond the machine. Only with a certificate and a token, and only from files that not
//! everybody reads.

use std::net::SocketAddr;
use std::path::Path;

use super::super::error::Problems;
use super::super::plan::Remote;
use super::super::schema::{self, Spanned};
use crate::control::credentials::{CredentialError, Credentials, Files, Token, chain, key};
use crate::control::secret::{Readers, contents};

/// How the API is reached from elsewhere; `None` if it is not.
pub(super) fn remote(
    problems: &mut Problems,
    written: &schema::Admin,
    origin: &Path,
) -> Option<Remote> {
    let files = [
        ("certificate_file", &written.certificate_file),
        ("key_file", &written.key_file),
        ("token_file", &written.token_file),
    ];
    let Some(listen) = &written.listen else {
        if let Some((key, value)) = files.iter().find_map(|(key, file)| Some((key, file.as_ref()?)))
        {
            let message = format!("{key} is for `listen`, which is not there");
            problems.error_help(value.span(), message, "for example `listen = \"192.0.2.1:9151\"`");
        }
        return None;
    };
    if listen.get_ref().is_empty() {
        return None;
    }
    let missing: Vec<_> =
        files.iter().filter(|(_, file)| file.is_none()).map(|(key, _)| *key).collect();
    if !missing.is_empty() {
        let message = format!("listen without {}", missing.join(", "));
        let help = "whoever asks from elsewhere is asked for a token, over TLS";
        problems.error_help(listen.span(), message, help);
    }
    let address = address(problems, listen);
    let credentials = credentials(problems, written, origin);
    Some(Remote { listen: address?, credentials: credentials? })
}

fn address(problems: &mut Problems, value: &Spanned<String>) -> Option<SocketAddr> {
    let address = value.get_ref().parse().ok().filter(|it: &SocketAddr| it.port() != 0);
    if address.is_none() {
        let message = format!("listen `{}` is not an address and port", value.get_ref());
        let help = "for example 192.0.2.1:9151 or [2001:db8::1]:9151; \"\" turns it off";
        problems.error_help(value.span(), message, help);
    }
    address
}

/// All three files are looked at, whatever is wrong with one.
fn credentials(
    problems: &mut Problems,
    written: &schema::Admin,
    origin: &Path,
) -> Option<Credentials> {
    let (certificate_file, key_file, token_file) =
        (&written.certificate_file, &written.key_file, &written.token_file);
    let chain = read(
        problems,
        "certificate_file",
        certificate_file.as_ref(),
        origin,
        Readers::Anybody,
        chain,
    );
    let key = read(problems, "key_file", key_file.as_ref(), origin, Readers::OwnerAndGroup, key);
    let token = read(
        problems,
        "token_file",
        token_file.as_ref(),
        origin,
        Readers::OwnerAndGroup,
        Token::read,
    );
    let name = |file: &schema::Maybe<String>| file.as_ref().map(|it| it.get_ref().clone());
    let files = Files {
        certificate: name(certificate_file)?,
        key: name(key_file)?,
        token: name(token_file)?,
    };
    match Credentials::new(files, chain?, key?, token?) {
        Ok(credentials) => Some(credentials),
        Err(error) => {
            let span = key_file.as_ref().map(Spanned::span);
            problems.error(span.unwrap_or_default(), format!("key_file: {error}"));
            None
        }
    }
}

/// What a file beside `origin` holds.
fn read<T>(
    problems: &mut Problems,
    name: &str,
    value: Option<&Spanned<String>>,
    origin: &Path,
    readers: Readers,
    understood: impl Fn(&[u8]) -> Result<T, CredentialError>,
) -> Option<T> {
    let value = value?;
    let path = origin.parent().unwrap_or(Path::new("")).join(value.get_ref());
    let outcome = contents(&path, readers)
        .and_then(|bytes| understood(&bytes).map_err(|error| error.to_string()));
    let reason = match outcome {
        Ok(found) => return Some(found),
        Err(reason) => reason,
    };
    let help = match name {
        "token_file" => "for example `(umask 077; openssl rand -hex 32 > token)`",
        "key_file" => "a private key in PEM, of the group that `shuntd` runs with at most",
        _ => "certificates in PEM were expected, the server's own first",
    };
    problems.error_help(value.span(), format!("{name} {}: {reason}", path.display()), help);
    None
}
