//! The two HTTP servers against clients that connect and do not say what they want.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shunt::control::admin::server::{CONNECTIONS_MAX, HEAD_PATIENCE, serve};
use shunt::control::admin::view::Services;
use shunt::control::admin::{Claims, Command};
use shunt::stats::collect::Sources;
use shunt::stats::slow::StaticFacts;

/// More than one listener serves at a time, several times over.
const HALF_WRITTEN: usize = 200;
/// Longer than this nothing is waited for.
const BOUND: Duration = Duration::from_secs(60);
/// A look at whether something has happened.
const LOOK: Duration = Duration::from_millis(200);

/// Servers that answer `/services` and `/metrics` as long as the process lives.
struct Doors {
    socket: PathBuf,
    metrics: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Doors {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        let claims = Claims::take(&socket, Some("127.0.0.1:0".parse().unwrap())).unwrap();
        let metrics = claims.metrics.as_ref().unwrap().local_addr().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(answer(claims));
        });
        Self { socket, metrics, _folder: folder }
    }

    fn half_written(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        stream.write_all(b"GET /metr").unwrap();
        stream
    }

    fn services(&self) -> String {
        ask(UnixStream::connect(&self.socket).unwrap(), "/services")
    }
}

async fn answer(claims: Claims) {
    let sources = Arc::new(Sources::new(StaticFacts::default(), vec![], vec![]));
    let mut served = serve(claims, sources).unwrap();
    while let Some(command) = served.commands.recv().await {
        if let Command::Services(reply) = command {
            let _ = reply.send(Services::default());
        }
    }
}

fn ask(mut stream: impl Read + Write, route: &str) -> String {
    stream.write_all(format!("GET {route} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Has the other end neither answered nor closed?
fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let nothing = stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    stream.set_nonblocking(false).unwrap();
    nothing
}

/// Waits for the other end to close; an error is an end too.
fn closed(mut stream: TcpStream, patience: Duration) -> bool {
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn half_written_requests_hinder_nobody_at_the_other_door_and_are_given_up() {
    let doors = Doors::open();
    let start = Instant::now();
    let mut streams: Vec<_> = (0..HALF_WRITTEN).map(|_| doors.half_written()).collect();
    assert!(doors.services().starts_with("HTTP/1.0 200"));
    let open = streams.iter().filter(|stream| is_open(stream)).count();
    assert!(open > CONNECTIONS_MAX, "answered while these were in the way: {open}");
    let first: Vec<_> = streams.drain(..CONNECTIONS_MAX).collect();
    for stream in first {
        assert!(closed(stream, HEAD_PATIENCE + BOUND), "after {:?}", start.elapsed());
    }
    assert!(start.elapsed() >= HEAD_PATIENCE, "not before its time is over");
    let last = streams.pop().unwrap();
    assert!(!closed(last, LOOK), "it waits for its turn, and its time begins then");
    drop(streams);
    let text = ask(TcpStream::connect(doors.metrics).unwrap(), "/metrics");
    assert!(text.starts_with("HTTP/1.0 200") && text.contains("shunt_"), "{text}");
}

#[test]
fn a_request_whose_head_does_not_end_and_a_body_nobody_wants_are_refused() {
    let doors = Doors::open();
    let mut endless = TcpStream::connect(doors.metrics).unwrap();
    let _ = endless.write_all(b"GET /metrics HTTP/1.1\r\nx: ");
    let _ = endless.write_all(&vec![b'x'; 64 << 10]);
    assert!(closed(endless, BOUND));
    let mut stream = UnixStream::connect(&doors.socket).unwrap();
    stream.set_write_timeout(Some(BOUND)).unwrap();
    stream.write_all(b"GET /services HTTP/1.1\r\ncontent-length: 1000000000\r\n\r\n").unwrap();
    let sent = (0..1000).take_while(|_| stream.write_all(&[0; 8 << 10]).is_ok()).count();
    assert!(sent < 800, "{sent} pieces of a body were taken");
}
