//! HTTP/1.1 requests with every failure named.
//!
//! An answer counts only if it is status 200 with as many bytes of body as announced, so that a
//! connection cut short anywhere is a failure. Handshakes are timed: one over a second means that
//! a SYN was lost and sent again.
//!
//! The server closes first, and it alone has to wait (`TIME_WAIT`): a client's kernel that chooses
//! ports by itself takes some of them again soon. `first_port` gives every connection a port of its own instead, in order:
//! then there are as many connections to count as there were requests.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketType, bind, socket};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::report::Report;

/// A request that takes longer has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A body longer than this is a server gone mad.
const BODY_MAX: usize = 1 << 20;

/// What to ask, how often, and from how many threads.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Whom to ask for `/`.
    pub target: SocketAddr,
    /// Requests in all.
    pub requests: u64,
    /// Requests under way at once.
    pub threads: u64,
    /// Many requests on each connection, instead of one.
    pub keep_alive: bool,
    /// Source port of the first connection; the others have those after it. The kernel chooses if
    /// there is none.
    pub first_port: Option<u16>,
    /// Stop after this even if requests are left.
    pub time_limit: Duration,
    /// Pause between requests of a thread.
    pub pause: Duration,
}

/// Carries the plan out. SIGTERM or SIGINT ends it early, after the requests under way.
pub fn run(plan: Plan) -> Result<Report> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let ports = plan.first_port.map_or(u64::MAX, |first| 1 + u64::from(u16::MAX - first));
    ensure!(plan.requests <= ports, "{} requests and {ports} source ports", plan.requests);
    let left = Arc::new(AtomicU64::new(plan.requests));
    let end = Instant::now() + plan.time_limit;
    let go_on = move || {
        let in_time = !stop.load(Ordering::Relaxed) && Instant::now() < end;
        if in_time { take_one(&left) } else { None }
    };
    let threads: Vec<_> = (0..plan.threads)
        .map(|_| {
            let go_on = go_on.clone();
            thread::spawn(move || one_thread(plan, go_on))
        })
        .collect();
    let mut total = Report::default();
    for thread in threads {
        total.add(&thread.join().map_err(|_| anyhow!("a load thread panicked"))?);
    }
    Ok(total)
}

/// Takes one of the requests left: how many there were.
fn take_one(left: &AtomicU64) -> Option<u64> {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).ok()
}

fn one_thread(plan: Plan, go_on: impl Fn() -> Option<u64>) -> Report {
    let mut report = Report::default();
    let mut connection = None;
    while let Some(left) = go_on() {
        let done = u16::try_from(plan.requests - left).unwrap_or_default();
        let port = plan.first_port.map_or(0, |first| first + done);
        let (start, began) = (Instant::now(), SystemTime::now());
        match one_request(plan, port, &mut connection, &mut report) {
            Ok(body) => report.answered(&body, start.elapsed()),
            Err(error) => {
                connection = None;
                report.failed_while((began, SystemTime::now()), &format!("{error:#}"));
            }
        }
        thread::sleep(plan.pause);
    }
    report
}

/// Asks once, on the connection there is or a new one from this port.
fn one_request(
    plan: Plan,
    port: u16,
    kept: &mut Option<BufReader<TcpStream>>,
    report: &mut Report,
) -> Result<String> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => connect(plan.target, port, report)?,
    };
    let word = if plan.keep_alive { "keep-alive" } else { "close" };
    let request = format!("GET / HTTP/1.1\r\nHost: vip\r\nConnection: {word}\r\n\r\n");
    connection.get_mut().write_all(request.as_bytes()).context("send")?;
    let body = read_answer(&mut connection)?;
    if plan.keep_alive {
        *kept = Some(connection);
    } else {
        expect_end(&mut connection)?;
    }
    Ok(body)
}

/// From a port, or 0 for any.
fn connect(target: SocketAddr, port: u16, report: &mut Report) -> Result<BufReader<TcpStream>> {
    let (family, any) = match target {
        SocketAddr::V4(_) => (AddressFamily::INET, IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        SocketAddr::V6(_) => (AddressFamily::INET6, IpAddr::from(Ipv6Addr::UNSPECIFIED)),
    };
    let socket = socket(family, SocketType::STREAM, None)?;
    if port != 0 {
        bind(&socket, &SocketAddr::new(any, port)).context("source port")?;
    }
    // Bounds the handshake too.
    set_socket_timeout(&socket, Timeout::Send, Some(REQUEST_TIMEOUT))?;
    let start = Instant::now();
    rustix::net::connect(&socket, &target).context("connect")?;
    report.connect_ms_max = report.connect_ms_max.max(start.elapsed().as_secs_f64() * 1e3);
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

/// Reads one whole answer; its body.
fn read_answer(connection: &mut BufReader<TcpStream>) -> Result<String> {
    let status = read_line(connection)?;
    if !status.starts_with("HTTP/1.1 200 ") {
        bail!("answer: status line {status:?}");
    }
    let mut length = None;
    loop {
        let header = read_line(connection)?.to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = Some(value.trim().parse::<usize>().context("answer: content-length")?);
        }
    }
    let length = length.context("answer: no content-length")?;
    if length > BODY_MAX {
        bail!("answer: body over {BODY_MAX} bytes");
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).context("read body")?;
    String::from_utf8(body).context("answer: not text")
}

fn read_line(connection: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    let bytes = connection.by_ref().take(8192).read_line(&mut line).context("read")?;
    if bytes == 0 {
        bail!("read: connection closed before the answer");
    }
    Ok(line.trim_end().to_owned())
}

/// The server closes in order: an end, not a reset.
fn expect_end(connection: &mut BufReader<TcpStream>) -> Result<()> {
    let mut rest = [0; 1];
    match connection.read(&mut rest).context("close")? {
        0 => Ok(()),
        _ => bail!("close: bytes after the answer"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server on loopback that gives each connection the next of these answers, then closes.
    fn server(answers: Vec<&'static str>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 512];
                let _read = stream.read(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        address
    }

    fn plan(target: SocketAddr, requests: u64) -> Plan {
        Plan {
            target,
            requests,
            threads: 1,
            keep_alive: false,
            first_port: None,
            time_limit: Duration::from_secs(20),
            pause: Duration::ZERO,
        }
    }

    #[test]
    fn only_whole_and_good_answers_count() {
        let answers = vec![
            "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nb1 10.0.0.1\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nb1 10.0.0.1\n",
            "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
            "",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nb1b",
        ];
        let report = run(plan(server(answers), 6)).unwrap();
        assert_eq!((report.ok, report.failed), (1, 5), "{report:?}");
        assert_eq!(report.backend("b1"), 1);
        assert_eq!(report.errors.len(), 5, "each failure has its own reason: {report:?}");
    }

    #[test]
    fn connections_come_from_the_ports_asked_for_and_no_more_than_there_are() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nb1";
        let server = thread::spawn(move || {
            let serve = |_| {
                let (mut stream, from) = listener.accept().unwrap();
                let _read = stream.read(&mut [0; 512]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                from.port()
            };
            (0..3).map(serve).collect::<Vec<_>>()
        });
        let plan = Plan { first_port: Some(7001), ..plan(target, 3) };
        let report = run(plan).unwrap();
        assert_eq!((report.ok, report.failed), (3, 0), "{report:?}");
        assert_eq!(server.join().unwrap(), [7001, 7002, 7003]);
        assert!(run(Plan { first_port: Some(65_535), requests: 2, ..plan }).is_err());
    }

    #[test]
    fn nobody_listening_is_a_failure_and_not_an_error() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let report = run(plan(closed, 3)).unwrap();
        assert_eq!((report.ok, report.failed), (0, 3), "{report:?}");
    }
}
