//! A connection to one of our servers, before and below HTTP: what it has said so far, and how long it lets us wait.
//!
//! ```text
//!   socket ──► ahead (until the head is whole) ──► hyper ──► socket
//!                 ▲ at most HEAD_MAX                          ▲ a write may stand still for so long
//! ```
//!
//! The head of a request is read here and not by hyper. hyper would close on a head that is late or answer a long one
//! with nothing but a number; who is refused here is told in a sentence. What was read is read once more by hyper.
//!
//! hyper waits for a reader as long as that takes. So [`Visitor`] is a stream that fails when a write has stood
//! still for as long as its [`Patience`] says. Time in which there is nothing to write does not count: a watcher to
//! whom nothing happens is a good reader.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::{HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::stats::http::Turned;

/// Longest head of a request, bytes.
pub(super) const HEAD_MAX: usize = 16 * 1024;
/// Most headers.
const HEADERS_MAX: usize = 64;
/// Bytes read at once.
const CHUNK: usize = 4096;
/// How long a write may stand still if nothing else is said.
pub(super) const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a visitor may take, as its handler says.
#[derive(Debug)]
pub(in crate::control::admin) struct Patience {
    /// Beyond what every answer has, and not yet used.
    life_ms: AtomicU64,
    /// For one write.
    stall_ms: AtomicU64,
}

impl Default for Patience {
    fn default() -> Self {
        let stall_ms = AtomicU64::new(milliseconds(WRITE_PATIENCE));
        Self { life_ms: AtomicU64::new(0), stall_ms }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Patience {
    /// The answer may take so much longer, and so may its reader at any time.
    pub(in crate::control::admin) fn longer(&self, than: Duration) {
        self.lasting(than);
        self.stall_ms.fetch_max(milliseconds(WRITE_PATIENCE + than), Ordering::Relaxed);
    }

    /// The answer may take so much longer; its reader has to go on reading.
    pub(in crate::control::admin) fn lasting(&self, than: Duration) {
        self.life_ms.fetch_max(milliseconds(than), Ordering::Relaxed);
    }

    /// How much longer, the first time this is asked.
    pub(super) fn take_life(&self) -> Duration {
        Duration::from_millis(self.life_ms.swap(0, Ordering::Relaxed))
    }

    fn stall(&self) -> Duration {
        Duration::from_millis(self.stall_ms.load(Ordering::Relaxed))
    }
}

/// Why there is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadError {
    /// They went away.
    Gone,
    /// It cannot be taken.
    Bad(Turned),
}

/// What a request begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// `GET`, say.
    pub(super) method: String,
    /// What was asked for, with its parameters.
    pub(super) target: String,
    /// Its headers.
    pub(super) headers: HeaderMap,
}

impl Head {
    /// A header, if it is there and is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Bytes of the body, if that was said.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Visitor<S> {
    stream: S,
    /// Read, and not read by hyper.
    ahead: Vec<u8>,
    patience: Arc<Patience>,
    /// When a write that stands still is given up.
    stalled: Option<Pin<Box<Sleep>>>,
    gave_up: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Visitor<S> {
    pub(super) fn new(stream: S, patience: Arc<Patience>) -> Self {
        Self { stream, ahead: Vec::new(), patience, stalled: None, gave_up: false }
    }

    /// Reads until the head is whole. What was read is there to be read again.
    pub(super) async fn head(&mut self) -> Result<Head, HeadError> {
        let mut looked_at = 0;
        loop {
            if let Some(end) = end_of_head(&self.ahead, looked_at) {
                return understood(self.ahead.get(..end).unwrap_or_default());
            }
            if self.ahead.len() >= HEAD_MAX {
                return Err(HeadError::Bad(Turned::LongHead));
            }
            looked_at = self.ahead.len();
            let mut chunk = [0; CHUNK];
            match self.stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return Err(HeadError::Gone),
                Ok(read) => self.ahead.extend(chunk.iter().take(read)),
            }
        }
    }

    /// The first byte they say, which is there to be read again; `None` if they went away.
    pub(super) async fn first(&mut self) -> Option<u8> {
        if self.ahead.is_empty() {
            let mut chunk = [0; CHUNK];
            let read = self.stream.read(&mut chunk).await.ok()?;
            self.ahead.extend(chunk.iter().take(read));
        }
        self.ahead.first().copied()
    }

    /// Reads and forgets what still comes, until they have closed or so many bytes have come. To be done before
    /// closing: the kernel tells who is sending that we closed before it tells them what we said.
    pub(super) async fn hear_out(&mut self, most: usize) {
        let (mut heard, mut chunk) = (0, [0; CHUNK]);
        while heard < most {
            match self.stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(read) => heard += read,
            }
        }
    }

    /// Was a write given up?
    pub(super) fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// What a write or flush came to. One that stands still starts the clock, or is given up.
    fn timed<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let patience = self.patience.stall();
        let sleep = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(sleep.as_mut().poll(cx));
        self.gave_up = true;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// The place behind the empty line, if there is one. The first `before` bytes held none.
fn end_of_head(bytes: &[u8], before: usize) -> Option<usize> {
    let from = before.saturating_sub(2);
    let fresh = bytes.get(from..)?;
    let short = fresh.windows(2).position(|pair| pair == b"\n\n").map(|at| at + 2);
    let usual = fresh.windows(3).position(|three| three == b"\n\r\n").map(|at| at + 3);
    [short, usual].into_iter().flatten().min().map(|end| from + end)
}

fn understood(bytes: &[u8]) -> Result<Head, HeadError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let not_http = HeadError::Bad(Turned::NotHttp);
    match request.parse(bytes) {
        Ok(status) if status.is_complete() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::Bad(Turned::LongHead)),
        _ => return Err(not_http),
    }
    let mut found = HeaderMap::new();
    for header in request.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| not_http)?;
        let value = HeaderValue::from_bytes(header.value).map_err(|_| not_http)?;
        found.append(name, value);
    }
    Ok(Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        headers: found,
    })
}

impl<S: AsyncRead + Unpin> AsyncRead for Visitor<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, into);
        }
        let many = self.ahead.len().min(into.remaining());
        let rest = self.ahead.split_off(many);
        into.put_slice(&std::mem::replace(&mut self.ahead, rest));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Visitor<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.timed(cx, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.timed(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.timed(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.timed(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    fn block<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(future)
    }

    /// What comes of these bytes, written in pieces of so many, before the other end closes.
    fn heard(bytes: &[u8], piece: usize) -> (Result<Head, HeadError>, Vec<u8>) {
        block(async {
            let (here, mut there) = duplex(1 << 20);
            for part in bytes.chunks(piece) {
                there.write_all(part).await.unwrap();
            }
            drop(there);
            let mut visitor = Visitor::new(here, Arc::default());
            let head = visitor.head().await;
            let mut rest = Vec::new();
            visitor.read_to_end(&mut rest).await.unwrap();
            (head, rest)
        })
    }

    #[test]
    fn a_head_is_found_wherever_it_is_cut_and_all_is_there_to_be_read_again() {
        let bytes = b"POST /edit?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
        for piece in 1..=bytes.len() {
            let (head, again) = heard(bytes, piece);
            let head = head.unwrap();
            assert_eq!((head.method.as_str(), head.target.as_str()), ("POST", "/edit?x=1"));
            assert_eq!((head.content_length(), head.header("host")), (Some(2), Some("a")));
            assert_eq!(again, bytes);
        }
        assert!(heard(b"GET / HTTP/1.0\n\n", 1).0.is_ok(), "as written by hand");
    }

    #[test]
    fn what_is_no_head_is_told_apart() {
        let long = [b"GET / HTTP/1.1\r\nx: ".as_slice(), &[b'x'; HEAD_MAX]].concat();
        let many = [b"GET / HTTP/1.1\r\n".as_slice(), &b"x: y\r\n".repeat(65), b"\r\n"].concat();
        for (bytes, wanted) in [
            (b"".as_slice(), HeadError::Gone),
            (b"GET / HT", HeadError::Gone),
            (&long, HeadError::Bad(Turned::LongHead)),
            (&many, HeadError::Bad(Turned::LongHead)),
            (b"hello\r\n\r\n", HeadError::Bad(Turned::NotHttp)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HeadError::Bad(Turned::NotHttp)),
            (b"\x16\x03\x01\x02\x00\x01\n\n", HeadError::Bad(Turned::NotHttp)),
        ] {
            let shown = String::from_utf8_lossy(bytes.get(..20).unwrap_or(bytes)).into_owned();
            assert_eq!(heard(bytes, CHUNK).0, Err(wanted), "{shown}");
        }
    }

    #[test]
    fn a_write_that_stands_still_is_given_up_and_one_that_moves_is_not() {
        const STALL: Duration = Duration::from_secs(1);
        block(async {
            let (here, mut there) = duplex(1000);
            let patience = Patience::default();
            patience.stall_ms.store(milliseconds(STALL), Ordering::Relaxed);
            let mut visitor = Visitor::new(here, Arc::new(patience));
            let slow = async {
                for _ in 0..20 {
                    tokio::time::sleep(STALL / 10).await;
                    there.read_exact(&mut [0; 50]).await.unwrap();
                }
                there
            };
            let (written, there) = tokio::join!(visitor.write_all(&[0; 2000]), slow);
            written.unwrap();
            assert!(!visitor.gave_up(), "it took longer, but never stood still for so long");
            let error = visitor.write_all(&[0; 1]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(visitor.gave_up());
            drop(there);
        });
    }
}
