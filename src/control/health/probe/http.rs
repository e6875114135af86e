//! `http` and `https`: one request on a connection of its own, the status and the body judged.
//!
//! Of the body the first [`BODY_MAX`] bytes are read, and only if something is expected of it. Redirects are
//! not followed: they are answers like others.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::HeaderValue;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use regex::bytes::Regex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::check::Http;
use super::{Failure, talk};

/// Most that is read of a body.
const BODY_MAX: usize = 64 * 1024;
/// Memory of a compiled expression.
const EXPRESSION_MAX: usize = 1024 * 1024;

/// A regular expression for bodies.
///
/// # Errors
///
/// What is wrong with it, in one line.
pub fn expression(text: &str) -> Result<Regex, String> {
    let built = regex::bytes::RegexBuilder::new(text).size_limit(EXPRESSION_MAX).build();
    built.map_err(|error| match error {
        // The text of a syntax error is a picture of several lines; its last says what is wrong.
        regex::Error::Syntax(text) => {
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
        other => other.to_string(),
    })
}

pub(super) async fn ask<S>(
    stream: S,
    target: SocketAddr,
    request: &Http,
    matcher: Option<&Regex>,
) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| of_http(&error))?;
    let host = request.host.clone().unwrap_or_else(|| target.to_string());
    let mut message = Request::builder();
    if let Some(secret) = &request.authorization_file {
        let value = HeaderValue::from_bytes(&secret.bytes);
        let mut value = value.map_err(|error| Failure::NotRun(error.to_string()))?;
        value.set_sensitive(true);
        message = message.header(header::AUTHORIZATION, value);
    }
    let message = message
        .method(request.method.as_str())
        .uri(request.path.as_str())
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("shunt/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Failure::NotRun(error.to_string()))?;
    let exchange = async {
        let answer = sender.send_request(message).await.map_err(|error| of_http(&error))?;
        judge(answer, request, matcher).await
    };
    // The connection does the work; when it ends, what came of it may still be read.
    let work = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        outcome = exchange => outcome,
        never = work => never,
    }
}

async fn judge(
    answer: Response<Incoming>,
    request: &Http,
    matcher: Option<&Regex>,
) -> Result<(), Failure> {
    let status = answer.status().as_u16();
    if !request.status.contain(status) {
        return Err(Failure::Status(status));
    }
    if request.body.is_none() && matcher.is_none() {
        return Ok(());
    }
    let body = body(answer.into_body()).await?;
    let has = |text: &String| talk::contains(&body, text.as_bytes());
    if !request.body.as_ref().is_none_or(has) {
        return Err(Failure::Unexpected("the body does not hold what is expected"));
    }
    if !matcher.is_none_or(|matcher| matcher.is_match(&body)) {
        return Err(Failure::Unexpected("the body does not match"));
    }
    Ok(())
}

/// The beginning of a body.
async fn body(mut incoming: Incoming) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while body.len() < BODY_MAX {
        let Some(frame) = incoming.frame().await else { break };
        if let Ok(data) = frame.map_err(|error| of_http(&error))?.into_data() {
            body.extend_from_slice(&data);
        }
    }
    body.truncate(BODY_MAX);
    Ok(body)
}

fn of_http(error: &hyper::Error) -> Failure {
    if error.is_parse() {
        return Failure::Unexpected("the answer is not HTTP");
    }
    let source =
        std::error::Error::source(error).and_then(|it| it.downcast_ref::<std::io::Error>());
    match source {
        Some(io) => std::io::Error::new(io.kind(), io.to_string()).into(),
        None => Failure::Closed,
    }
}
