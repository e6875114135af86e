//! The lock on the door beyond the machine: TLS first, then the token.
//!
//! ```text
//! plan ─► Keys (control loop) ──► the lock as it is now ──► Lock (door): TLS handshake, token of each request
//! ```
//!
//! A reload changes it for whoever comes next. Who is inside stays: a connection carries one request.

use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::visitor::{Head, Visitor};
use crate::control::credentials::{CredentialError, Credentials, Token};
use crate::stats::http::Turned;

/// What TLS begins with: the type of a record (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// What is asked of who comes now.
#[derive(Clone, Debug)]
struct Demand {
    tls: Arc<ServerConfig>,
    token: Token,
}

impl Demand {
    fn new(credentials: &Credentials) -> Result<Self, CredentialError> {
        Ok(Self { tls: credentials.tls()?, token: credentials.token().clone() })
    }
}

/// The control loop's end.
#[derive(Debug)]
pub struct Keys(watch::Sender<Demand>);

/// The door's end.
#[derive(Clone, Debug)]
pub(in crate::control::admin) struct Lock(watch::Receiver<Demand>);

/// Both ends.
pub(in crate::control::admin) fn lock(
    credentials: &Credentials,
) -> Result<(Keys, Lock), CredentialError> {
    let (keys, lock) = watch::channel(Demand::new(credentials)?);
    Ok((Keys(keys), Lock(lock)))
}

impl Keys {
    /// From now on.
    pub fn change(&self, credentials: &Credentials) -> Result<(), CredentialError> {
        self.0.send_replace(Demand::new(credentials)?);
        Ok(())
    }
}

impl Lock {
    /// Speaks TLS. Who speaks something else comes back, to be told so.
    pub(super) async fn shake_hands<S>(
        &self,
        mut visitor: Visitor<S>,
    ) -> Result<TlsStream<Visitor<S>>, Option<Visitor<S>>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match visitor.first().await {
            Some(HANDSHAKE) => {}
            Some(_) => return Err(Some(visitor)),
            None => return Err(None),
        }
        let tls = Arc::clone(&self.0.borrow().tls);
        // Who fails now has been sent an alert, which says why.
        TlsAcceptor::from(tls).accept(visitor).await.map_err(|_| None)
    }

    /// May they ask this?
    pub(super) fn check(&self, head: &Head) -> Result<(), Turned> {
        let opens = |header: &str| self.0.borrow().token.opens(header, head.method == "GET");
        if head.header("authorization").is_some_and(opens) { Ok(()) } else { Err(Turned::Token) }
    }
}
