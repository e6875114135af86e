//! The HTTP servers against clients that do not do as clients should: each is refused or bounded, told so in a
//! sentence and counted, and whoever asks properly in the meantime is answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shunt::control::admin::door::{BODY_MAX, SEATS};
use shunt::control::admin::server::serve;
use shunt::control::admin::view::{Drift, Services};
use shunt::control::admin::{Claims, Command};
use shunt::stats::collect::Sources;
use shunt::stats::http::Turned;
use shunt::stats::slow::StaticFacts;

/// Longer than this nothing is waited for.
const BOUND: Duration = Duration::from_secs(60);
/// An answer that no socket's buffer holds.
const LONG_ANSWER: usize = 1 << 19;
/// More than may be seated, by far.
const IDLE: usize = 10_000;

/// Servers that answer `/services` shortly, `/drift` at length and `/metrics`, as long as the process lives.
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
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(answer(claims));
        });
        Self { socket, metrics, _folder: folder }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream.set_write_timeout(Some(BOUND)).unwrap();
        stream
    }

    /// What somebody gets who sends this and reads.
    fn told(&self, sent: &[u8]) -> String {
        let mut stream = self.connect();
        // Who is refused early is not listened to for long.
        let _ = stream.write_all(sent);
        read(&mut stream)
    }

    fn services(&self) -> String {
        self.told(b"GET /services HTTP/1.1\r\nhost: shuntd\r\n\r\n")
    }

    /// A metric, as it is now.
    fn count(&self, series: &str) -> u64 {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let text = read(&mut stream);
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {series} in {text}"))
    }

    fn turned_away(&self, why: Turned) -> u64 {
        let reason = why.label();
        self.count(&format!(
            "shunt_http_turned_away_total{{listener=\"admin\",reason=\"{reason}\"}}"
        ))
    }
}

async fn answer(claims: Claims) {
    let sources = Arc::new(Sources::new(StaticFacts::default(), vec![], vec![]));
    let mut served = serve(claims, sources, None).unwrap();
    while let Some(command) = served.commands.recv().await {
        match command {
            Command::Services(reply) => drop(reply.send(Services::default())),
            Command::Drift(_, reply) => {
                let changes = vec!["x".repeat(LONG_ANSWER)];
                drop(reply.send(Drift { changes, ..Drift::default() }));
            }
            other => panic!("{other:?} is not asked for here"),
        }
    }
}

/// All that comes until the other end closes.
fn read(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_good(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("shunt-version: 0.")
}

/// A sentence as JSON, under that number.
fn is_refusal(answer: &str, code: u16, sentence: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let said: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    head.starts_with(&format!("HTTP/1.1 {code} "))
        && said["error"].as_str().is_some_and(|said| said.contains(sentence))
}

#[test]
fn what_cannot_be_taken_is_refused_at_once_in_a_sentence_and_counted() {
    let doors = Doors::open();
    let long_head = [b"GET /services HTTP/1.1\r\nx: ".as_slice(), &vec![b'x'; 64 << 10]].concat();
    let many = format!("GET /services HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(1000));
    let announced = format!("POST /edit HTTP/1.1\r\ncontent-length: {}\r\n\r\n", 1u64 << 30);
    let piece = format!("10000\r\n{}\r\n", " ".repeat(1 << 16));
    let unannounced = format!(
        "POST /edit HTTP/1.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{}",
        piece.repeat(BODY_MAX / (1 << 16) + 1)
    );
    let of_version = |version| {
        format!("GET /services HTTP/1.1\r\nshunt-version: {version}\r\n\r\n").into_bytes()
    };
    for (what, sent, code, sentence, why) in [
        ("no HTTP", b"status\r\n\r\n".to_vec(), 400, "HTTP/1.1", Turned::NotHttp),
        ("TLS", b"\x16\x03\x01\0\xa5\x01\n\r\n".to_vec(), 400, "HTTP/1.1", Turned::NotHttp),
        ("a long head", long_head, 431, "longer than 16384 bytes", Turned::LongHead),
        ("many headers", many.into_bytes(), 431, "too many lines", Turned::LongHead),
        ("a gigabyte announced", announced.into_bytes(), 413, "longer than", Turned::LongBody),
        ("a body that goes on", unannounced.into_bytes(), 413, "longer than", Turned::LongBody),
        ("a tool of the future", of_version("9.9.9"), 412, "another version", Turned::Version),
        ("a tool of no version", of_version("new"), 412, "another version", Turned::Version),
    ] {
        let before = doors.turned_away(why);
        let answer = doors.told(&sent);
        assert!(is_refusal(&answer, code, sentence), "{what}: {answer}");
        assert_eq!(doors.turned_away(why), before + 1, "{what}");
        assert!(is_good(&doors.services()), "{what}");
    }
    let ours = env!("CARGO_PKG_VERSION");
    let other_patch = format!("{}.999", ours.rsplit_once('.').unwrap().0);
    for version in [ours, &other_patch] {
        assert!(is_good(&doors.told(&of_version(version))), "{version}");
    }
}

#[test]
fn whoever_sends_a_gigabyte_is_told_while_sending_and_little_of_it_is_taken() {
    let doors = Doors::open();
    for head in [
        "POST /edit HTTP/1.1\r\ncontent-length: 1073741824\r\n\r\n",
        "GET /services HTTP/1.1\r\nx: ",
    ] {
        let stream = doors.connect();
        let mut writer = stream.try_clone().unwrap();
        let sender = thread::spawn(move || {
            writer.write_all(head.as_bytes()).unwrap();
            let piece = vec![b' '; 1 << 16];
            (0..16_384).take_while(|_| writer.write_all(&piece).is_ok()).count()
        });
        let answer = read(&mut &stream);
        assert!(answer.starts_with("HTTP/1.1 4") && answer.contains("longer than"), "{answer}");
        let pieces = sender.join().unwrap();
        assert!(pieces < 64, "{pieces} pieces of 64 KiB were taken");
    }
}

#[test]
fn ten_thousand_idle_connections_keep_nobody_out() {
    let limit = Rlimit { current: Some(16_384), maximum: getrlimit(Resource::Nofile).maximum };
    setrlimit(Resource::Nofile, limit).unwrap();
    let doors = Doors::open();
    let mut idle = Vec::new();
    for n in 0..IDLE {
        let mut stream = doors.connect();
        if n % 2 == 0 {
            stream.write_all(b"GET /serv").unwrap();
        }
        idle.push(stream);
        if n % 1000 == 0 {
            assert!(is_good(&doors.services()), "with {n} of them");
        }
    }
    assert!(is_good(&doors.services()));
    let now = doors.count("shunt_http_connections{listener=\"admin\"}");
    assert!(now <= 2 * SEATS as u64, "{now} are connected");
    let told = read(idle.first_mut().unwrap());
    assert!(is_refusal(&told, 408, "somebody else needed its place"), "{told}");
    assert!(doors.turned_away(Turned::Idle) >= (IDLE - 3 * SEATS) as u64);
}

#[test]
fn who_is_slow_is_given_a_while_and_then_told() {
    let doors = Doors::open();
    let slow = |sent: &'static str| doors.told(sent.as_bytes());
    let body =
        "POST /edit HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{";
    thread::scope(|scope| {
        let half_heads: Vec<_> = (0..5).map(|_| scope.spawn(|| slow("GET /serv"))).collect();
        let half_body = scope.spawn(|| slow(body));
        assert!(is_good(&doors.services()), "meanwhile others are answered");
        for told in half_heads {
            let told = told.join().unwrap();
            assert!(is_refusal(&told, 408, "head was not there after 5 s"), "{told}");
        }
        let told = half_body.join().unwrap();
        assert!(is_refusal(&told, 408, "body was not there after 10 s"), "{told}");
    });
    assert_eq!((doors.turned_away(Turned::SlowHead), doors.turned_away(Turned::SlowBody)), (5, 1));
}

#[test]
fn who_does_not_read_loses_the_seat_and_until_then_others_are_told_that_all_are_taken() {
    let doors = Doors::open();
    let ask = || {
        let mut stream = doors.connect();
        stream.write_all(b"GET /drift HTTP/1.1\r\n\r\n").unwrap();
        stream
    };
    // However slow the machine: seats of those who lose theirs meanwhile are taken by others who do not read.
    let (mut deaf, deadline) = (Vec::new(), Instant::now() + BOUND);
    let told = loop {
        deaf.push(ask());
        if deaf.len() < SEATS {
            continue;
        }
        let told = doors.services();
        if !is_good(&told) {
            break told;
        }
        assert!(Instant::now() < deadline, "there is always a seat");
    };
    assert!(is_refusal(&told, 503, "ask again"), "{told}");
    let mut told_so = 1;
    lab::wait::until("a seat", BOUND, || {
        let is_answered = is_good(&doors.services());
        told_so += u64::from(!is_answered);
        Ok(is_answered.then_some(()))
    })
    .unwrap();
    let all = || {
        let unread = doors.turned_away(Turned::Unread);
        let gone = unread + doors.turned_away(Turned::Full) + doors.turned_away(Turned::Idle);
        Ok((unread >= SEATS as u64 && gone == deaf.len() as u64 + told_so).then_some(()))
    };
    lab::wait::until("all of them to be given up", BOUND, all).unwrap();
}
