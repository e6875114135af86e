//! One HTTP request to the daemon: over its admin socket, or elsewhere over TLS.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use super::remote::{Remote, RemoteError};
use super::{capture, completion, import, schedule};
use crate::control::admin::door::VERSION_HEADER;
use crate::control::admin::view::{
    EditFailure, EditKind, Edited, Edits, Failure, Hand, Handed, Zeroed,
};
use crate::control::edit::{Edit, Which};

/// A daemon that has not answered by then is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nobody listens.
    #[error("no shuntd answers on {path}: {source}; is it running, and is --socket right?")]
    NotThere {
        /// Where it was looked for.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A daemon elsewhere cannot be asked.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The socket may not be opened.
    #[error("{0} may not be opened by this user; become root or join the socket's group")]
    NotAllowed(PathBuf),
    /// The connection broke, or what came was not HTTP.
    #[error("the daemon's answer broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// The command has none.
    #[error("expected no --json, this command has none: {0}")]
    NoJson(&'static str),
    /// It did not answer in time.
    #[error("the daemon did not answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// It answered with an error.
    #[error("{0}")]
    Refused(String),
    /// It would not change its configuration so.
    #[error("{error}")]
    Edit {
        /// For programs.
        kind: EditKind,
        /// A sentence.
        error: String,
    },
    /// It answered with something else than this `shunt` expects.
    #[error("the daemon's answer is not understood: {0}; are shunt and shuntd of one version?")]
    Decode(serde_json::Error),
    /// The parameters cannot be sent.
    #[error("the request cannot be written: {0}")]
    Encode(serde_json::Error),
    /// The request cannot be built.
    #[error("the request cannot be built: {0}")]
    Build(String),
    /// What was to be scheduled is not clear.
    #[error(transparent)]
    Schedule(schedule::ScheduleError),
    /// Frames cannot be captured, or not be written.
    #[error(transparent)]
    Capture(#[from] capture::CaptureError),
    /// Nothing was imported.
    #[error(transparent)]
    Import(import::ImportError),
    /// The manual cannot be written.
    #[error(transparent)]
    Manual(#[from] completion::ManualError),
    /// The answer cannot be printed.
    #[error("cannot write the answer: {0}")]
    Output(io::Error),
}

impl From<import::ImportError> for RequestError {
    fn from(error: import::ImportError) -> Self {
        match error {
            import::ImportError::Output(error) => Self::Output(error),
            error => Self::Import(error),
        }
    }
}

impl From<schedule::ScheduleError> for RequestError {
    fn from(error: schedule::ScheduleError) -> Self {
        match error {
            schedule::ScheduleError::Output(error) => Self::Output(error),
            error => Self::Schedule(error),
        }
    }
}

/// Where a daemon is asked.
#[derive(Clone, Debug)]
pub struct Socket {
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    /// Its admin socket.
    Here(PathBuf),
    /// Over TLS.
    Elsewhere(Box<Remote>),
}

impl From<Remote> for Socket {
    fn from(remote: Remote) -> Self {
        Self { place: Place::Elsewhere(Box::new(remote)) }
    }
}

impl Socket {
    /// The socket at `path`. Nothing is opened yet.
    pub fn new(path: &Path) -> Self {
        Self { place: Place::Here(path.into()) }
    }

    /// Asks for something.
    pub fn get<T: DeserializeOwned>(&self, route: &str) -> Result<T, RequestError> {
        let (code, body) = self.ask(Method::GET, route)?;
        accept(code.is_success(), &body)
    }

    /// Asks for something with parameters.
    pub fn get_with<T: DeserializeOwned>(
        &self,
        route: &str,
        parameters: &impl Serialize,
    ) -> Result<T, RequestError> {
        let query = query(parameters)?;
        self.get(&format!("{route}?{query}"))
    }

    /// Has something done.
    pub fn post_with<T: DeserializeOwned>(
        &self,
        route: &str,
        parameters: &impl Serialize,
    ) -> Result<T, RequestError> {
        let query = query(parameters)?;
        let (code, body) = self.ask(Method::POST, &format!("{route}?{query}"))?;
        accept(code.is_success(), &body)
    }

    /// Changes the running configuration, at that version if one is said.
    pub fn edit(&self, edits: Vec<Edit>, version: Option<u64>) -> Result<Edited, RequestError> {
        let body = serde_json::to_vec(&Edits { version, edits }).map_err(RequestError::Encode)?;
        let (code, answer) = self.ask_with(Method::POST, "/edit", body)?;
        edited(code, &answer)
    }

    /// Drains a backend, or sets its weight.
    pub fn hand(&self, hand: &Hand) -> Result<Handed, RequestError> {
        let body = serde_json::to_vec(hand).map_err(RequestError::Encode)?;
        let (code, answer) = self.ask_with(Method::POST, "/hand", body)?;
        edited(code, &answer)
    }

    /// Has figures begin anew, of one service or of all.
    pub fn zero(&self, which: Option<Which>) -> Result<Zeroed, RequestError> {
        let query = match which {
            None => String::new(),
            Some(Which::Name(name)) => format!("service={}", escaped(&name)),
            Some(Which::Place { protocol, address }) => {
                format!("protocol={protocol}&address={}", escaped(&address))
            }
        };
        let (code, answer) = self.ask(Method::POST, &format!("/zero?{query}"))?;
        edited(code, &answer)
    }

    /// Asks for a reload. A refusal is an answer, too.
    pub fn reload<T: DeserializeOwned>(&self) -> Result<T, RequestError> {
        let (code, body) = self.ask(Method::POST, "/reload")?;
        let answers = [StatusCode::OK, StatusCode::CONFLICT, StatusCode::UNPROCESSABLE_ENTITY];
        accept(answers.contains(&code), &body)
    }

    /// Asks for something that comes bit by bit, within `patience`.
    pub fn stream(
        &self,
        route: &str,
        parameters: &impl Serialize,
        patience: Duration,
        each: impl FnMut(&[u8]) -> Result<(), RequestError>,
    ) -> Result<(), RequestError> {
        let route = format!("{route}?{}", query(parameters)?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| RequestError::Build(error.to_string()))?;
        runtime.block_on(async {
            let all = tokio::time::timeout(patience, self.follow(&route, each));
            all.await.map_err(|_| RequestError::Silent)?
        })
    }

    async fn follow(
        &self,
        route: &str,
        mut each: impl FnMut(&[u8]) -> Result<(), RequestError>,
    ) -> Result<(), RequestError> {
        let response = self.request(Method::GET, route, Vec::new()).await?;
        let mut body = response.into_parts();
        if !body.0.status.is_success() {
            let said = body.1.collect().await?.to_bytes();
            return accept::<Failure>(false, &said).map(drop);
        }
        while let Some(frame) = body.1.frame().await {
            if let Some(bytes) = frame?.data_ref() {
                each(bytes)?;
            }
        }
        Ok(())
    }

    fn ask(&self, method: Method, route: &str) -> Result<(StatusCode, Bytes), RequestError> {
        self.ask_with(method, route, Vec::new())
    }

    /// With a JSON body, or an empty one.
    fn ask_with(
        &self,
        method: Method,
        route: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), RequestError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| RequestError::Build(error.to_string()))?;
        runtime.block_on(async {
            let exchange = tokio::time::timeout(PATIENCE, self.exchange(method, route, body));
            exchange.await.map_err(|_| RequestError::Silent)?
        })
    }

    async fn exchange(
        &self,
        method: Method,
        route: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), RequestError> {
        let response = self.request(method, route, body).await?;
        let code = response.status();
        Ok((code, response.into_body().collect().await?.to_bytes()))
    }

    async fn request(
        &self,
        method: Method,
        route: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, RequestError> {
        let request = Request::builder().method(method).uri(route);
        let request = request.header("content-type", "application/json");
        let request = request.header(VERSION_HEADER, env!("CARGO_PKG_VERSION"));
        let request = match &self.place {
            Place::Here(_) => request.header("host", "shuntd"),
            Place::Elsewhere(remote) => request
                .header("host", remote.name())
                .header("authorization", remote.authorization()),
        };
        let request = request.body(Full::new(Bytes::from(body)));
        let request = request.map_err(|error| RequestError::Build(error.to_string()))?;
        match &self.place {
            Place::Here(path) => {
                let stream = UnixStream::connect(path).await;
                send(stream.map_err(|error| not_there(path, error))?, request).await
            }
            Place::Elsewhere(remote) => send(remote.connect().await?, request).await,
        }
    }
}

async fn send<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, RequestError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

fn not_there(path: &Path, source: io::Error) -> RequestError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::PermissionDenied => RequestError::NotAllowed(path),
        _ => RequestError::NotThere { path, source },
    }
}

/// The answer to an edit: what it refuses is of a kind.
fn edited<T: DeserializeOwned>(code: StatusCode, body: &[u8]) -> Result<T, RequestError> {
    match serde_json::from_slice(body) {
        Ok(EditFailure { error, kind }) if !code.is_success() => {
            Err(RequestError::Edit { kind, error })
        }
        _ => accept(code.is_success(), body),
    }
}

fn accept<T: DeserializeOwned>(good: bool, body: &[u8]) -> Result<T, RequestError> {
    if good {
        return serde_json::from_slice(body).map_err(RequestError::Decode);
    }
    let said = serde_json::from_slice::<Failure>(body).map(|failure| failure.error);
    let said = said.unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned());
    Err(RequestError::Refused(said))
}

/// `name=value&…` of a struct's fields that are set.
fn query(parameters: &impl Serialize) -> Result<String, RequestError> {
    let value = serde_json::to_value(parameters).map_err(RequestError::Encode)?;
    let fields = value.as_object().into_iter().flatten();
    let pair = |(name, value): (&String, &serde_json::Value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{name}={}", escaped(&text))
    };
    Ok(fields.map(pair).collect::<Vec<_>>().join("&"))
}

/// RFC 3986: everything but the unreserved characters as `%XX`.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::admin::answers::dump::Parameters;

    #[test]
    fn only_parameters_that_are_set_are_sent_and_any_name_survives() {
        let parameters = Parameters {
            limit: Some(5),
            service: Some("web & café".into()),
            ..Parameters::default()
        };
        assert_eq!(query(&parameters).unwrap(), "limit=5&service=web%20%26%20caf%C3%A9");
        assert_eq!(query(&Parameters::default()).unwrap(), "");
    }

    #[test]
    fn a_daemon_that_is_not_there_is_told_with_the_socket_it_was_looked_for_at() {
        let socket = Socket::new(Path::new("/nonexistent/admin.sock"));
        let error = socket.get::<Failure>("/status").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("no shuntd answers on /nonexistent/admin.sock"), "{text}");
    }
}
