//! One HTTP request over the admin socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::schedule;
use crate::control::admin::view::Failure;

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
    /// The socket may not be opened.
    #[error("{0} may not be opened by this user; become root or join the socket's group")]
    NotAllowed(PathBuf),
    /// The connection broke, or what came was not HTTP.
    #[error("the daemon's answer broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// It did not answer in time.
    #[error("the daemon did not answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// It answered with an error.
    #[error("{0}")]
    Refused(String),
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
    /// The answer cannot be printed.
    #[error("cannot write the answer: {0}")]
    Output(io::Error),
}

impl From<schedule::ScheduleError> for RequestError {
    fn from(error: schedule::ScheduleError) -> Self {
        match error {
            schedule::ScheduleError::Output(error) => Self::Output(error),
            error => Self::Schedule(error),
        }
    }
}

/// The admin socket of a daemon.
#[derive(Clone, Debug)]
pub struct Socket {
    path: PathBuf,
}

impl Socket {
    /// The socket at `path`. Nothing is opened yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.into() }
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

    /// Asks for a reload. A refusal is an answer, too.
    pub fn reload<T: DeserializeOwned>(&self) -> Result<T, RequestError> {
        let (code, body) = self.ask(Method::POST, "/reload")?;
        let answers = [StatusCode::OK, StatusCode::CONFLICT, StatusCode::UNPROCESSABLE_ENTITY];
        accept(answers.contains(&code), &body)
    }

    fn ask(&self, method: Method, route: &str) -> Result<(StatusCode, Bytes), RequestError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| RequestError::Build(error.to_string()))?;
        runtime.block_on(async {
            let exchange = tokio::time::timeout(PATIENCE, self.exchange(method, route));
            exchange.await.map_err(|_| RequestError::Silent)?
        })
    }

    async fn exchange(
        &self,
        method: Method,
        route: &str,
    ) -> Result<(StatusCode, Bytes), RequestError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|e| self.not_there(e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(route).header("host", "shuntd");
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|error| RequestError::Build(error.to_string()))?;
        let response = sender.send_request(request).await?;
        let code = response.status();
        Ok((code, response.into_body().collect().await?.to_bytes()))
    }

    fn not_there(&self, source: io::Error) -> RequestError {
        let path = self.path.clone();
        match source.kind() {
            io::ErrorKind::PermissionDenied => RequestError::NotAllowed(path),
            _ => RequestError::NotThere { path, source },
        }
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
    use crate::control::admin::dump::Parameters;

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
