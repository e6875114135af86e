//! Asking once: every kind of check has a file, and they agree on what a failure is.
//!
//! Sockets leave by the kernel, hence by the TAPs, as any program's of the box would: what a check sees is
//! what the box can reach, not what the workers do with packets. One that asks a VIP is sent to its backend on the
//! way ([`crate::control::punt::aim`]).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::check::{Check, Probe};
use crate::control::punt::aim::{Aim, Aims};

mod dns;
mod http;
mod orphans;
mod ping;
pub mod sayable;
mod script;
mod smtp;
mod socket;
mod talk;
mod tls;

use socket::Road;

/// Whom a check asks, and about whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The name of the service.
    pub service: String,
    /// The backend.
    pub backend: SocketAddr,
    /// Who is asked.
    pub target: SocketAddr,
    /// Asked at a VIP, and to whom that goes.
    pub aim: Option<Aim>,
}

/// Why an answer is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Not in time.
    TimedOut,
    /// Nobody is there: a reset, or an ICMP error.
    Refused,
    /// No way there.
    Unreachable,
    /// It hung up before it had said enough.
    Closed,
    /// The system says no, in its words.
    System(String),
    /// This status was not expected.
    Status(u16),
    /// What was expected is not in it.
    Unexpected(&'static str),
    /// TLS, in the library's words.
    Tls(String),
    /// The program ended with this code, or by a signal.
    Exit(Option<i32>),
    /// Could not be asked.
    NotRun(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Refused => f.write_str("refused"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Closed => f.write_str("closed before the answer was whole"),
            Self::System(text) => f.write_str(text),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Unexpected(what) => f.write_str(what),
            Self::Tls(text) => write!(f, "TLS: {text}"),
            Self::Exit(Some(code)) => write!(f, "exit code {code}"),
            Self::Exit(None) => f.write_str("ended by a signal"),
            Self::NotRun(text) => write!(f, "not run: {text}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionRefused => Self::Refused,
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => {
                Self::Unreachable
            }
            Kind::TimedOut => Self::TimedOut,
            Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::UnexpectedEof => Self::Closed,
            Kind::PermissionDenied => Self::NotRun(error.to_string()),
            // Out of descriptors: no fault of the backend's.
            _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                Self::NotRun(error.to_string())
            }
            _ => Self::System(error.to_string()),
        }
    }
}

/// Asks as its check says. What is costly to make (expressions, TLS) is made once.
#[derive(Debug)]
pub struct Prober {
    probe: Probe,
    /// For HTTP.
    matcher: Option<regex::bytes::Regex>,
    /// For HTTPS.
    tls: Option<Result<Arc<rustls::ClientConfig>, String>>,
    aims: Arc<Aims>,
}

impl Prober {
    /// Ready to ask.
    pub fn new(check: &Check, aims: Arc<Aims>) -> Self {
        let probe = check.probe.clone();
        let (mut matcher, mut tls) = (None, None);
        if let Probe::Http(http) = &probe {
            // The configuration was refused if this is no expression.
            matcher = http.body_regex.as_deref().and_then(|it| http::expression(it).ok());
            tls = http.tls.as_ref().map(tls::config);
        }
        Self { probe, matcher, tls, aims }
    }

    /// Asks, for as long as the caller has patience. A failure to answer in time is the caller's to
    /// notice; `patience` is for those to whom silence is an answer.
    pub async fn ask(&self, asked: &Asked, patience: Duration) -> Result<(), Failure> {
        let aim = asked.aim.map(|aim| (&*self.aims, aim, patience));
        let road = Road { target: asked.target, aim };
        match &self.probe {
            Probe::Tcp(talk) => talk::over_tcp(&road, talk).await,
            Probe::Udp(talk) => talk::over_udp(&road, talk, patience).await,
            // Much larger than the others, which should not have room for it.
            Probe::Http(request) => Box::pin(self.ask_http(&road, request)).await,
            Probe::Dns { name, record } => dns::ask(&road, name, *record).await,
            Probe::Smtp { helo } => smtp::ask(&road, helo).await,
            Probe::Ping => ping::ask(asked.target.ip()).await,
            Probe::Script { command } => script::run(command, asked).await,
        }
    }

    async fn ask_http(&self, road: &Road<'_>, request: &super::check::Http) -> Result<(), Failure> {
        let (target, stream) = (road.target, socket::connect(road).await?);
        match (&self.tls, &request.tls) {
            (Some(config), Some(_)) => {
                let config = config.as_ref().map_err(|error| Failure::NotRun(error.clone()))?;
                let name = request.certificate_name();
                let stream = tls::handshake(stream, target, name, config).await?;
                http::ask(stream, target, request, self.matcher.as_ref()).await
            }
            _ => http::ask(stream, target, request, self.matcher.as_ref()).await,
        }
    }
}

pub use http::expression;
pub(super) use orphans::sweep;
pub use tls::certificates;

#[cfg(test)]
mod tests;
