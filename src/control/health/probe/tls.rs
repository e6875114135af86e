//! TLS for `https`: with `ca_file` the certificate must be good, without it any will do.
//!
//! Without, as keepalived has it: most backends have certificates for the VIP's name or their own authority's,
//! and the question is whether they serve. The handshake itself is checked all the same: who has not the key of
//! the certificate shown fails. Sessions are not taken up again, for a check asks for all of it.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::check::{Ca, Tls};
use super::Failure;

/// The certificates of a PEM file's text, each a good one.
///
/// # Errors
///
/// What is wrong with it.
pub fn certificates(pem: &[u8]) -> Result<Arc<[Vec<u8>]>, String> {
    let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let read = read.map_err(|error| format!("it is not PEM: {error:?}"))?;
    if read.is_empty() {
        return Err("there is no certificate in it".into());
    }
    let all: Arc<[Vec<u8>]> = read.iter().map(|der| der.to_vec()).collect();
    roots(&all)?;
    Ok(all)
}

fn roots(certificates: &[Vec<u8>]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (number, der) in (1..).zip(certificates) {
        let der = CertificateDer::from(der.clone());
        roots.add(der).map_err(|error| format!("certificate {number} in it is bad: {error}"))?;
    }
    Ok(roots)
}

/// How connections are made.
pub(super) fn config(settings: &Tls) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match &settings.ca {
        Some(Ca { certificates, .. }) => {
            let roots = Arc::new(roots(certificates)?);
            let builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
            builder.build().map_err(|error| error.to_string())?
        }
        None => Arc::new(Anybody(Arc::clone(&provider))),
    };
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(|it| it.to_string())?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = builder.with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Without a name to ask for, none is: the certificate is then judged by the address.
pub(super) async fn handshake(
    stream: TcpStream,
    target: SocketAddr,
    name: Option<&str>,
    config: &Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, Failure> {
    let name = match name {
        Some(name) => ServerName::try_from(name.to_owned())
            .map_err(|_| Failure::NotRun(format!("`{name}` is not a host name")))?,
        None => ServerName::IpAddress(target.ip().into()),
    };
    let made = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
    made.map_err(|error| match error.get_ref().and_then(|it| it.downcast_ref::<rustls::Error>()) {
        Some(tls) => Failure::Tls(tls.to_string()),
        None => error.into(),
    })
}

/// Takes any certificate whose key the other side has.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
