//! The door of a server: who is let in, how many at a time, and what whoever is not is told.
//!
//! ```text
//! connect ─► a seat ─► head of the request ─► [version] ─► the answer ─► heard out ─► closed
//!             │ full     │ 5 s, 16 KiB                       │ a write that stands still: 10 s
//!             ▼          ▼                                   ▼
//!     the longest idle leaves;    a sentence and its number, counted by reason
//!     if all are being answered,
//!     the newcomer is told so
//! ```
//!
//! Beyond the machine TLS comes before all this, and the token with the version ([`lock`]).
//!
//! **A connection carries one request.** Each is then in one of a few states, and each state has its limit. What that
//! costs a client, a connect on the same machine, is nothing beside the answer.
//!
//! **Nobody is kept out by who says nothing.** There are [`SEATS`] at a listener. Ten thousand connections that ask
//! nothing take them in turn, the next the place of the longest idle, and who comes and asks is answered at once. Only if
//! every seat is held by somebody who is being answered is a newcomer refused, in a sentence. Connections on their
//! way out (a refusal that is being read, a client that is still sending) have places of their own, as many again;
//! when these are taken too, connections wait in the kernel's backlog.
//!
//! All of it runs on the control thread, between its other work. Packets are never touched by it.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode};
use axum::serve::Listener as Accept;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore};

use self::lock::Lock;
use self::visitor::{HEAD_MAX, Head, HeadError, Patience, Visitor};
use super::answers::events::TooMany;
use super::view::Failure;
use crate::control::credentials::USER;
use crate::stats::http::{HttpStats, Listener, ListenerStats, Turned};

pub mod claims;
pub mod lock;
mod visitor;

/// Connections of one listener that may ask and be answered at a time.
pub const SEATS: usize = 64;
/// How long the head of a request may take.
pub const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// How long the body of a request may take.
pub const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// Longest body of a request, bytes: as many edits as one request may have, and more.
pub const BODY_MAX: usize = 2 << 20;
/// How long an answer may take, from the head of its request.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// How long somebody who is leaving may take, and how much they may still say.
const FAREWELL: Duration = Duration::from_secs(1);
const HEARD_OUT: usize = 1 << 20;
/// The version of a tool, and ours in every answer.
pub const VERSION_HEADER: &str = "shunt-version";

/// Our version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where requests come from, and where that is counted.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    stats: Arc<HttpStats>,
    listener: Listener,
}

impl Tally {
    pub(super) fn new(stats: &Arc<HttpStats>, listener: Listener) -> Self {
        Self { stats: Arc::clone(stats), listener }
    }

    fn stats(&self) -> &ListenerStats {
        self.stats.of(self.listener)
    }

    fn turn_away(&self, why: Turned) {
        self.stats().turned[why as usize].add(1);
    }
}

/// Whom a handler answers.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    patience: Arc<Patience>,
    tally: Tally,
}

impl Guest {
    /// How long may the answer take?
    pub(super) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// The request is refused for this.
    pub(super) fn turned_away(&self, why: Turned) -> (StatusCode, String) {
        self.tally.turn_away(why);
        told(why)
    }
}

/// What is said to whom is turned away.
fn told(why: Turned) -> (StatusCode, String) {
    match why {
        Turned::Full => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{SEATS} requests are being answered already; ask again"),
        ),
        Turned::Idle => (
            StatusCode::REQUEST_TIMEOUT,
            "the connection asked nothing and somebody else needed its place".into(),
        ),
        Turned::SlowHead => (
            StatusCode::REQUEST_TIMEOUT,
            format!("the request's head was not there after {} s", HEAD_PATIENCE.as_secs()),
        ),
        Turned::LongHead => (
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            format!("the request's head is longer than {HEAD_MAX} bytes, or has too many lines"),
        ),
        Turned::NotHttp => (StatusCode::BAD_REQUEST, "expected a request of HTTP/1.1".into()),
        Turned::SlowBody => (
            StatusCode::REQUEST_TIMEOUT,
            format!("the request's body was not there after {} s", BODY_PATIENCE.as_secs()),
        ),
        Turned::LongBody => (
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the request's body is longer than {BODY_MAX} bytes"),
        ),
        // Never sent: they do not read.
        Turned::Unread => (StatusCode::REQUEST_TIMEOUT, "the answer was not read".into()),
        Turned::Tls => (
            StatusCode::BAD_REQUEST,
            "this port speaks TLS: ask with https://, and trust the daemon's certificate".into(),
        ),
        Turned::Token => (
            StatusCode::UNAUTHORIZED,
            "expected the token, as `Authorization: Bearer TOKEN`; it is in the file that `token_file` \
             of [admin] names"
                .into(),
        ),
        Turned::Browser => (
            StatusCode::FORBIDDEN,
            "pages in a browser may read but change nothing; use shunt, or a program".into(),
        ),
        Turned::Watchers => (StatusCode::SERVICE_UNAVAILABLE, TooMany.to_string()),
        Turned::Version => (
            StatusCode::PRECONDITION_FAILED,
            format!(
                "this is shuntd {VERSION} and the tool is of another version; use the shunt that \
                 came with this shuntd, or restart it if it was upgraded"
            ),
        ),
    }
}

/// Versions that differ in their last number speak one language.
fn is_ours(version: &str) -> bool {
    let kind = |version: &str| version.trim().rsplit_once('.').map(|it| it.0.to_owned());
    kind(version).is_some() && kind(version) == kind(VERSION)
}

/// What is asked of every request before it is looked at.
fn check(head: &Head, lock: Option<&Lock>) -> Result<(), Turned> {
    lock.map_or(Ok(()), |lock| lock.check(head))?;
    if is_of_a_page(head) && !matches!(head.method.as_str(), "GET" | "HEAD") {
        return Err(Turned::Browser);
    }
    if head.header(VERSION_HEADER).is_some_and(|version| !is_ours(version)) {
        return Err(Turned::Version);
    }
    if head.content_length().is_some_and(|length| length > BODY_MAX as u64) {
        return Err(Turned::LongBody);
    }
    Ok(())
}

/// Does a page in a browser ask? Any page may have its reader's browser send a request here, with the password that
/// it remembers; browsers say so. The page of ours only reads.
fn is_of_a_page(head: &Head) -> bool {
    head.headers.contains_key("origin") || head.headers.contains_key("sec-fetch-site")
}

/// A place at the door.
#[derive(Debug, Default)]
struct Seat {
    /// The head of the request is there.
    is_heard: AtomicBool,
    /// Tells them to leave.
    leave: Notify,
}

/// Who is seated, in the order they came.
#[derive(Debug, Default)]
struct Seats(VecDeque<Arc<Seat>>);

impl Seats {
    /// A seat, if need be that of the longest idle; `None` if everybody is being answered.
    fn take(&mut self) -> Option<Arc<Seat>> {
        self.0.retain(|seat| Arc::strong_count(seat) > 1);
        if self.0.len() >= SEATS {
            let idle = self.0.iter().position(|seat| !seat.is_heard.load(Ordering::Relaxed))?;
            self.0.remove(idle)?.leave.notify_one();
        }
        let seat = Arc::<Seat>::default();
        self.0.push_back(Arc::clone(&seat));
        Some(seat)
    }
}

/// Lets connections in. Where the process has no file descriptor left, [`Accept::accept`] waits and tries again.
pub(super) async fn keep<L: Accept>(
    mut listener: L,
    router: Router,
    tally: Tally,
    lock: Option<Lock>,
) {
    let places = Arc::new(Semaphore::new(2 * SEATS));
    let mut seats = Seats::default();
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let (stream, _) = listener.accept().await;
        let (seat, lock) = (seats.take(), lock.clone());
        let (router, tally) = (router.clone(), tally.clone());
        tokio::spawn(async move {
            let connections = &tally.stats().connections;
            connections.set(connections.get() + 1);
            enter(stream, router, seat, &tally, lock).await;
            connections.set(connections.get() - 1);
            drop(place);
        });
        // Whoever came and asked at once is heard before the next who comes needs a place.
        tokio::task::yield_now().await;
    }
}

/// One connection; where there is a lock, TLS is what it is about first.
async fn enter<S>(
    stream: S,
    router: Router,
    seat: Option<Arc<Seat>>,
    tally: &Tally,
    lock: Option<Lock>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let patience = Arc::<Patience>::default();
    let Some(lock) = lock else {
        return converse(stream, router, seat, tally, None, patience).await;
    };
    // Who is too many here is not worth a handshake, and is closed without a word.
    let Some(held) = &seat else { return tally.turn_away(Turned::Full) };
    let visitor = Visitor::new(stream, Arc::clone(&patience));
    let shaken = tokio::select! {
        biased;
        shaken = lock.shake_hands(visitor) => shaken,
        () = held.leave.notified() => return tally.turn_away(Turned::Idle),
        () = tokio::time::sleep(HEAD_PATIENCE) => return tally.turn_away(Turned::SlowHead),
    };
    match shaken {
        Ok(stream) => converse(stream, router, seat, tally, Some(&lock), patience).await,
        Err(None) => tally.turn_away(Turned::Tls),
        Err(Some(mut plain)) => part(&mut plain, Some(Turned::Tls), tally).await,
    }
}

/// One connection, from the first byte of HTTP to the last.
async fn converse<S>(
    stream: S,
    router: Router,
    seat: Option<Arc<Seat>>,
    tally: &Tally,
    lock: Option<&Lock>,
    patience: Arc<Patience>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut visitor = Visitor::new(stream, Arc::clone(&patience));
    let guest = Guest { patience, tally: tally.clone() };
    let refused = match listen(&mut visitor, seat.as_deref(), lock).await {
        Ok(()) => {
            answer(&mut visitor, router, guest).await;
            None
        }
        Err(HeadError::Gone) => return,
        Err(HeadError::Bad(why)) => Some(why),
    };
    drop(seat);
    part(&mut visitor, refused, tally).await;
}

/// Says the last word, if there is one, and hears them out.
async fn part<S>(visitor: &mut Visitor<S>, refused: Option<Turned>, tally: &Tally)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let farewell = async {
        if let Some(why) = refused {
            tally.turn_away(why);
            let _ = visitor.write_all(&refusal(why)).await;
            let _ = visitor.shutdown().await;
        }
        // The place of who has said nothing is needed now.
        if refused != Some(Turned::Idle) {
            visitor.hear_out(HEARD_OUT).await;
        }
    };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

/// Waits for a request that may be answered.
async fn listen<S>(
    visitor: &mut Visitor<S>,
    seat: Option<&Seat>,
    lock: Option<&Lock>,
) -> Result<(), HeadError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(seat) = seat else { return Err(HeadError::Bad(Turned::Full)) };
    let head = tokio::select! {
        biased;
        head = visitor.head() => head?,
        () = seat.leave.notified() => return Err(HeadError::Bad(Turned::Idle)),
        () = tokio::time::sleep(HEAD_PATIENCE) => return Err(HeadError::Bad(Turned::SlowHead)),
    };
    seat.is_heard.store(true, Ordering::Relaxed);
    check(&head, lock).map_err(HeadError::Bad)
}

/// Has the request answered. What ends it is the client's affair: nothing is logged.
async fn answer<S>(visitor: &mut Visitor<S>, router: Router, guest: Guest)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    guest.tally.stats().requests.add(1);
    let (patience, tally) = (Arc::clone(&guest.patience), guest.tally.clone());
    let inner = TowerToHyperService::new(router.layer(Extension(guest)));
    let service = service_fn(move |request| {
        let answer = inner.call(request);
        async move {
            let mut answer = answer.await?;
            answer.headers_mut().insert(VERSION_HEADER, HeaderValue::from_static(VERSION));
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(2 * HEAD_MAX)
        .serve_connection(TokioIo::new(&mut *visitor), service);
    within(&patience, connection).await;
    if visitor.gave_up() {
        tally.turn_away(Turned::Unread);
    }
}

/// Gives an answer the time that every one has, and then what its handler has asked for.
async fn within(patience: &Patience, answer: impl Future) {
    let mut answer = pin!(answer);
    let mut left = ANSWER_PATIENCE;
    while !left.is_zero() && tokio::time::timeout(left, answer.as_mut()).await.is_err() {
        left = patience.take_life();
    }
}

/// A refusal as it goes over the wire: hyper has no part in it.
fn refusal(why: Turned) -> Vec<u8> {
    let (code, error) = told(why);
    let body = serde_json::to_string(&Failure { error }).unwrap_or_default();
    let reason = code.canonical_reason().unwrap_or_default();
    // A browser asks its user for a password.
    let more = match why {
        Turned::Token => format!("www-authenticate: Basic realm=\"{USER}\"\r\n"),
        _ => String::new(),
    };
    format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n{more}{VERSION_HEADER}: {VERSION}\r\n\r\n{body}",
        code.as_u16(),
        body.len()
    )
    .into_bytes()
}
