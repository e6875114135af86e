//! A daemon elsewhere: `--address https://HOST:PORT`, over TLS and with its token.
//!
//! The certificate must be good for the host's name or address, by the authorities of `--ca-file` or, without it,
//! by the machine's. The token is read from a file, so that it is in no list of processes and no shell's history.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::control::credentials::{CredentialError, Token};

/// Where Debian keeps the authorities it trusts.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Why a daemon elsewhere cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The address is not one.
    #[error("{0} is not like https://lb1.example.net:9151")]
    Address(String),
    /// There is no token.
    #[error(
        "a daemon elsewhere asks for a token: name its file with --token-file or SHUNT_TOKEN_FILE"
    )]
    NoToken,
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in the file is no token.
    #[error("{path}: {source}")]
    Token {
        /// Which.
        path: PathBuf,
        /// Why.
        source: CredentialError,
    },
    /// What is in the file are no certificates.
    #[error("{0}: expected certificates of authorities in PEM")]
    Authorities(PathBuf),
    /// TLS itself.
    #[error("TLS cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// Nobody answers there, or not with a certificate that is trusted.
    #[error("cannot connect to {host}:{port}: {source}")]
    Connect {
        /// Where.
        host: String,
        /// And at which port.
        port: u16,
        /// Why.
        source: io::Error,
    },
}

/// How a daemon elsewhere is asked.
#[derive(Clone, Debug)]
pub struct Remote {
    host: String,
    port: u16,
    token: Token,
    tls: Arc<ClientConfig>,
}

impl Remote {
    /// The daemon at that address. The files are read, nothing is asked yet.
    pub fn new(
        address: &str,
        token_file: Option<&Path>,
        ca_file: Option<&Path>,
    ) -> Result<Self, RemoteError> {
        let (host, port) =
            parsed(address).ok_or_else(|| RemoteError::Address(address.to_owned()))?;
        let token_file = token_file.ok_or(RemoteError::NoToken)?;
        let token = Token::read(&read(token_file)?)
            .map_err(|source| RemoteError::Token { path: token_file.to_owned(), source })?;
        let tls = trusting(ca_file.unwrap_or(Path::new(AUTHORITIES)))?;
        Ok(Self { host, port, token, tls })
    }

    /// For the header `Host`.
    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// For the header `Authorization`.
    pub(super) fn authorization(&self) -> &str {
        self.token.header()
    }

    /// A connection over which HTTP may be spoken.
    pub(super) async fn connect(&self) -> Result<TlsStream<TcpStream>, RemoteError> {
        let failed =
            |source| RemoteError::Connect { host: self.host.clone(), port: self.port, source };
        let host = self.host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host.clone());
        let name = name.map_err(|_| RemoteError::Address(format!("https://{}", self.name())))?;
        let stream = TcpStream::connect((host.as_str(), self.port)).await.map_err(failed)?;
        TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await.map_err(failed)
    }
}

/// Host and port. An IPv6 address keeps its brackets.
fn parsed(address: &str) -> Option<(String, u16)> {
    let place = address.strip_prefix("https://")?.trim_end_matches('/');
    let (host, port) = place.rsplit_once(':')?;
    let is_bare = !host.contains(['/', '@', '?', '#']) && !host.is_empty();
    let is_whole = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    (is_bare && is_whole).then(|| Some((host.to_owned(), port.parse().ok()?)))?
}

fn read(path: &Path) -> Result<Vec<u8>, RemoteError> {
    std::fs::read(path).map_err(|source| RemoteError::File { path: path.to_owned(), source })
}

fn trusting(ca_file: &Path) -> Result<Arc<ClientConfig>, RemoteError> {
    let pem = read(ca_file)?;
    let wrong = || RemoteError::Authorities(ca_file.to_owned());
    let read = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let mut roots = RootCertStore::empty();
    // A machine's bundle may hold one that is odd; one that holds none that is good is of no use.
    roots.add_parsable_certificates(read.map_err(|_| wrong())?);
    if roots.is_empty() {
        return Err(wrong());
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_with_a_host_and_a_port() {
        for (address, wanted) in [
            ("https://lb1.example.net:9151", Some(("lb1.example.net", 9151))),
            ("https://192.0.2.1:9151/", Some(("192.0.2.1", 9151))),
            ("https://[2001:db8::1]:9151", Some(("[2001:db8::1]", 9151))),
            ("http://lb1:9151", None),
            ("https://lb1", None),
            ("https://lb1:port", None),
            ("https://2001:db8::1:9151", None),
            ("https://user@lb1:9151", None),
            ("https://lb1/status:9151", None),
            ("lb1:9151", None),
        ] {
            let found = parsed(address);
            assert_eq!(found.as_ref().map(|(host, port)| (host.as_str(), *port)), wanted);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (token, short) = (folder.path().join("token"), folder.path().join("short"));
        std::fs::write(&token, "0123456789abcdef").unwrap();
        std::fs::write(&short, "x").unwrap();
        let address = "https://lb1:9151";
        for (token_file, ca_file, wanted) in [
            (None, None, "--token-file"),
            (Some(Path::new("/no/token")), None, "cannot read /no/token"),
            (Some(&*short), None, "the token has 1 characters"),
            (Some(&*token), Some(Path::new("/no/ca.pem")), "cannot read /no/ca.pem"),
            (Some(&*token), Some(&*token), "expected certificates"),
        ] {
            let error = Remote::new(address, token_file, ca_file).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
