//! Each kind of check against servers that answer well, badly, not at all.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Instant;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;

use super::super::check::{Ca, Http, Statuses, Talk, Tls};
use super::*;
use crate::control::secret::Secret;

const CA: &[u8] = include_bytes!("tests/ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("tests/certificate.pem");
const KEY: &[u8] = include_bytes!("tests/key.pem");
const PATIENCE: Duration = Duration::from_millis(300);

fn ping_check() -> Check {
    Check {
        probe: Probe::Ping,
        address: None,
        port: None,
        interval_ms: 1000,
        fast_interval_ms: 1000,
        jitter_percent: 0,
        timeout_ms: 300,
        rise: 1,
        fall: 1,
    }
}

/// What is asked of whom, with the patience of a check.
async fn ask(probe: Probe, target: SocketAddr) -> Result<(), Failure> {
    let check = Check { probe, ..ping_check() };
    let asked = Asked { service: "web".into(), backend: target, target, aim: None };
    let prober = Prober::new(&check, Arc::default());
    let asking = tokio::time::timeout(PATIENCE, prober.ask(&asked, PATIENCE));
    asking.await.unwrap_or(Err(Failure::TimedOut))
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A server that says `answer` to whatever is said first, one client after the other.
async fn server(answer: &'static [u8]) -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, answer));
        }
    });
    address
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, answer: &'static [u8]) {
    let mut heard = [0; 1024];
    if stream.read(&mut heard).await.is_ok_and(|length| length > 0) {
        let _ = stream.write_all(answer).await;
        let _ = stream.shutdown().await;
    }
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    listener().await.1
}

fn talk(send: &str, expect: Option<&str>) -> Talk {
    Talk { send: send.into(), send_file: None, expect: expect.map(Into::into) }
}

fn unexpected(outcome: &Result<(), Failure>) -> bool {
    matches!(outcome, Err(Failure::Unexpected(_)))
}

#[tokio::test]
async fn tcp_asks_for_a_connection_and_if_told_so_for_an_answer() {
    let address = server(b"+PONG\r\n").await;
    assert_eq!(ask(Probe::Tcp(Talk::default()), address).await, Ok(()));
    assert_eq!(ask(Probe::Tcp(talk("PING\r\n", Some("PONG"))), address).await, Ok(()));
    assert_eq!(ask(Probe::Tcp(talk("PING\r\n", Some(""))), address).await, Ok(()));
    assert!(unexpected(&ask(Probe::Tcp(talk("PING\r\n", Some("PANG"))), address).await));
    let silent = listener().await;
    let expecting = Probe::Tcp(talk("PING\r\n", Some("PONG")));
    assert_eq!(ask(expecting, silent.1).await, Err(Failure::TimedOut));
    assert_eq!(ask(Probe::Tcp(Talk::default()), nobody().await).await, Err(Failure::Refused));
}

#[tokio::test]
async fn udp_takes_silence_for_good_unless_an_answer_is_expected() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut heard = [0; 64];
        while let Ok((length, from)) = socket.recv_from(&mut heard).await {
            if heard[..length].starts_with(b"ping") {
                let _ = socket.send_to(b"a pong", from).await;
            }
        }
    });
    assert_eq!(ask(Probe::Udp(talk("ping", Some("pong"))), address).await, Ok(()));
    assert!(unexpected(&ask(Probe::Udp(talk("ping", Some("gong"))), address).await));
    assert_eq!(ask(Probe::Udp(talk("say nothing", None)), address).await, Ok(()));
    assert_eq!(
        ask(Probe::Udp(talk("say nothing", Some(""))), address).await,
        Err(Failure::TimedOut)
    );
    let gone = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    assert_eq!(ask(Probe::Udp(talk("x", None)), gone).await, Err(Failure::Refused));
}

#[tokio::test]
async fn silence_is_no_answer_that_is_late_however_busy_the_thread_is() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let asking = ask(Probe::Udp(Talk::default()), silent.local_addr().unwrap());
    // The socket is there; before anything is said on it, others have the thread for all of the check's time.
    let others = async { std::thread::sleep(PATIENCE) };
    assert_eq!(tokio::join!(biased; asking, others).0, Ok(()));
}

/// Five thousand checks may wait at a time: each for itself is to be small.
#[tokio::test]
async fn a_check_that_waits_for_a_datagram_holds_no_room_for_it() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let target = silent.local_addr().unwrap();
    let asked = Asked { service: "web".into(), backend: target, target, aim: None };
    for probe in [Probe::Udp(talk("x", Some("y"))), Probe::Dns { name: ".".into(), record: 6 }] {
        let check = Check { probe, ..ping_check() };
        let prober = Prober::new(&check, Arc::default());
        let asking = prober.ask(&asked, PATIENCE);
        assert!(size_of_val(&asking) < 4096, "{check}: {} bytes", size_of_val(&asking));
    }
}

fn http(edit: impl FnOnce(&mut Http)) -> Probe {
    let mut http = Http {
        method: "GET".into(),
        path: "/healthz".into(),
        host: None,
        authorization_file: None,
        status: Statuses::default(),
        body: None,
        body_regex: None,
        tls: None,
    };
    edit(&mut http);
    Probe::Http(http)
}

/// The first request of one client, which is told that all is well.
fn heard(listener: TcpListener) -> tokio::task::JoinHandle<String> {
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    })
}

#[tokio::test]
async fn what_is_in_a_file_is_said_as_it_is() {
    let secret = |bytes: &[u8]| Some(Secret { file: "x".into(), bytes: bytes.into() });
    let (listener, address) = listener().await;
    let request = heard(listener);
    let probe = http(|it| it.authorization_file = secret(b"Bearer s3cret"));
    assert_eq!(ask(probe, address).await, Ok(()));
    assert!(request.await.unwrap().contains("authorization: Bearer s3cret\r\n"));
    let (listener, address) = self::listener().await;
    let request = heard(listener);
    let probe = Talk { send_file: secret(b"AUTH s3cret\r\n"), ..talk("", Some("200")) };
    assert_eq!(ask(Probe::Tcp(probe), address).await, Ok(()));
    assert_eq!(request.await.unwrap(), "AUTH s3cret\r\n");
}

#[tokio::test]
async fn http_judges_the_status_and_if_told_so_the_body() {
    let good = server(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nall well").await;
    let chunked = server(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nall \r\n4\r\nwell\r\n0\r\n\r\n",
    )
    .await;
    let endless = server(b"HTTP/1.0 200 OK\r\n\r\nall well").await;
    for address in [good, chunked, endless] {
        assert_eq!(ask(http(|_| {}), address).await, Ok(()));
        assert_eq!(ask(http(|it| it.body = Some("l w".into())), address).await, Ok(()));
        assert_eq!(
            ask(http(|it| it.body_regex = Some("^all w.*l$".into())), address).await,
            Ok(())
        );
        assert!(unexpected(&ask(http(|it| it.body = Some("ill".into())), address).await));
        let wrong = http(|it| it.body_regex = Some("^well".into()));
        assert!(unexpected(&ask(wrong, address).await));
        let moved = http(|it| it.status = Statuses([(301, 302)].into()));
        assert_eq!(ask(moved, address).await, Err(Failure::Status(200)));
    }
    let sick = server(b"HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(ask(http(|_| {}), sick).await, Err(Failure::Status(503)));
    let other = server(b"SSH-2.0-OpenSSH_9.2\r\n").await;
    assert!(unexpected(&ask(http(|_| {}), other).await));
    let mute = server(b"").await;
    assert_eq!(ask(http(|_| {}), mute).await, Err(Failure::Closed));
    assert_eq!(ask(http(|_| {}), nobody().await).await, Err(Failure::Refused));
}

#[tokio::test]
async fn http_says_what_it_was_told_to_say() {
    let (listener, address) = listener().await;
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = vec![0; 1024];
        let length = stream.read(&mut heard).await.unwrap();
        heard.truncate(length);
        stream.write_all(b"HTTP/1.1 204 ok\r\n\r\n").await.unwrap();
        String::from_utf8(heard).unwrap()
    });
    let probe = http(|it| (it.method, it.host) = ("HEAD".into(), Some("www.example.com".into())));
    assert_eq!(ask(probe, address).await, Ok(()));
    let heard = heard.await.unwrap().to_lowercase();
    assert!(heard.starts_with("head /healthz http/1.1\r\n"), "{heard}");
    for line in ["host: www.example.com", "connection: close", "user-agent: shunt/"] {
        assert!(heard.contains(&format!("\r\n{line}")), "{line} is missing in {heard}");
    }
}

async fn tls_server() -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(CERTIFICATE).unwrap()],
            PrivateKeyDer::from_pem_slice(KEY).unwrap(),
        )
        .unwrap();
    let (acceptor, (listener, address)) = (TlsAcceptor::from(Arc::new(config)), listener().await);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    converse(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn https_takes_any_certificate_unless_it_is_told_who_must_have_signed_it() {
    let address = tls_server().await;
    let ca = Ca { path: "ca.pem".into(), certificates: certificates(CA).unwrap() };
    let https = |sni: Option<&str>, ca: Option<&Ca>| {
        let tls = Tls { sni: sni.map(Into::into), ca: ca.cloned() };
        http(|it| it.tls = Some(tls))
    };
    assert_eq!(ask(https(None, None), address).await, Ok(()));
    assert_eq!(ask(https(Some("any.name"), None), address).await, Ok(()));
    assert_eq!(ask(https(Some("backend.test"), Some(&ca)), address).await, Ok(()));
    let other = Ca { certificates: certificates(CERTIFICATE).unwrap(), ..ca.clone() };
    for bad in [
        https(Some("other.test"), Some(&ca)),
        https(None, Some(&ca)),
        https(Some("backend.test"), Some(&other)),
    ] {
        let outcome = ask(bad, address).await;
        assert!(matches!(outcome, Err(Failure::Tls(_))), "{outcome:?}");
    }
    let plain = server(b"HTTP/1.1 400 TLS?\r\n\r\n").await;
    let outcome = ask(https(None, None), plain).await;
    assert!(matches!(outcome, Err(Failure::Tls(_))), "{outcome:?}");
}

#[test]
fn what_is_no_certificate_is_told() {
    assert!(certificates(b"").unwrap_err().contains("no certificate in it"));
    assert!(certificates(KEY).unwrap_err().contains("no certificate in it"));
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(certificates(broken).unwrap_err().contains("certificate 1 in it is bad"));
    assert!(certificates(b"-----BEGIN CERTIFICATE-----\n").unwrap_err().contains("not PEM"));
    assert_eq!(certificates(CA).unwrap().len(), 1);
}

/// Says its lines, each after a line was heard but the first.
async fn mail_server(lines: &'static [&'static str]) -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            say_lines(&mut stream, lines).await;
        }
    });
    address
}

async fn say_lines(stream: &mut TcpStream, lines: &[&str]) {
    let mut heard = [0; 256];
    for line in lines {
        let _ = stream.write_all(line.as_bytes()).await;
        let _ = stream.read(&mut heard).await;
    }
}

#[tokio::test]
async fn smtp_wants_a_greeting_and_answers_to_helo_and_quit() {
    let smtp = || Probe::Smtp { helo: "shunt".into() };
    let good = mail_server(&["220-mx\r\n220 ready\r\n", "250 mx\r\n", "221 bye\r\n"]).await;
    assert_eq!(ask(smtp(), good).await, Ok(()));
    for lines in [
        &["554 no\r\n"][..],
        &["220 mx\r\n", "550 no\r\n"][..],
        &["220 mx\r\n", "250 mx\r\n", "500 what\r\n"][..],
    ] {
        let address = mail_server(lines).await;
        let outcome = ask(smtp(), address).await;
        assert!(unexpected(&outcome), "{lines:?} {outcome:?}");
    }
}

#[tokio::test]
async fn dns_wants_an_answer_without_an_error() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut heard = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut heard).await {
            let mut answer = heard[..length].to_vec();
            // A name of one label is known.
            answer[2] |= 0x80;
            answer[3] = if answer[12] == 3 { 0x80 } else { 0x83 };
            let _ = socket.send_to(&answer, from).await;
        }
    });
    let dns = |name: &str| Probe::Dns { name: name.into(), record: 1 };
    assert_eq!(ask(dns("www"), address).await, Ok(()));
    assert!(unexpected(&ask(dns("wwww"), address).await));
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn ping_wants_an_echo() {
    if !is_root() {
        let outcome = ask(Probe::Ping, (Ipv4Addr::LOCALHOST, 0).into()).await;
        assert!(matches!(outcome, Err(Failure::NotRun(_))), "{outcome:?}");
        return;
    }
    for address in ["127.0.0.1:0", "[::1]:0"] {
        assert_eq!(ask(Probe::Ping, address.parse().unwrap()).await, Ok(()), "{address}");
    }
}

fn script(command: &[&str]) -> Probe {
    Probe::Script { command: command.iter().map(|word| (*word).to_owned()).collect() }
}

#[tokio::test]
async fn a_script_is_judged_by_how_it_ends_and_told_whom_it_is_about() {
    let backend: SocketAddr = "10.44.0.11:8080".parse().unwrap();
    let told = "test \"$SHUNT_SERVICE $SHUNT_BACKEND $SHUNT_ADDRESS $SHUNT_PORT\" = \
                'web 10.44.0.11:8080 10.44.0.11 8080'";
    assert_eq!(ask(script(&["/bin/sh", "-c", told]), backend).await, Ok(()));
    assert_eq!(
        ask(script(&["/bin/sh", "-c", "exit 3"]), backend).await,
        Err(Failure::Exit(Some(3)))
    );
    let killed = ask(script(&["/bin/sh", "-c", "kill -9 $$"]), backend).await;
    assert_eq!(killed, Err(Failure::Exit(None)));
    let missing = ask(script(&["/no/such/program"]), backend).await;
    assert!(matches!(&missing, Err(Failure::NotRun(text)) if text.contains("/no/such/program")));
}

/// The number that a script has written there.
async fn written(path: &Path) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match std::fs::read_to_string(path) {
            Ok(id) => return id.trim().to_owned(),
            Err(_) => assert!(Instant::now() < deadline, "the script did not come so far"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A zombie nobody has waited for yet is as dead.
fn is_alive(id: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/stat"));
    status.is_ok_and(|status| !status.contains(") Z"))
}

/// Waits until a process has ended, and looks for what scripts left behind meanwhile.
async fn ends(id: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while is_alive(id) {
        assert!(Instant::now() < deadline, "it lives on");
        sweep();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A script that writes the number of what it has started in this way, and then does that.
fn leaving(starts: &str, path: &Path, then: &str) -> Probe {
    let path = path.display();
    script(&[
        "/bin/sh",
        "-c",
        &format!("{starts} & echo $! > {path}.new; mv {path}.new {path}; {then}"),
    ])
}

#[tokio::test]
async fn a_script_that_hangs_is_killed_with_all_it_has_started() {
    let folder = tempfile::tempdir().unwrap();
    let target = "10.0.0.1:1".parse().unwrap();
    // Longer than any test may take: whoever waits for it is seen.
    for (name, starts, then) in [
        ("child", "sleep 3600", "wait"),
        ("session", "setsid sleep 3600", "wait"),
        ("session with others", "setsid sh -c 'sleep 3600 & wait'", "wait"),
    ] {
        let path = folder.path().join(name.replace(' ', "-"));
        while !path.exists() {
            let outcome = ask(leaving(starts, &path, then), target).await;
            assert_eq!(outcome, Err(Failure::TimedOut), "{name}");
        }
        ends(&written(&path).await).await;
    }
    // One that ends well and leaves somebody behind.
    let path = folder.path().join("daemon");
    assert_eq!(ask(leaving("setsid sleep 3600", &path, "exit 0"), target).await, Ok(()));
    let id = written(&path).await;
    ends(&id).await;
    let is_waited_for = || {
        sweep();
        !Path::new("/proc").join(&id).exists()
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_waited_for() {
        assert!(Instant::now() < deadline, "it stays as a zombie");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_a_script_has_set_free_lives_as_long_as_the_script() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("free");
    // Its parent ends at once, and it is our child while the script goes on.
    let text = format!(
        "(setsid sleep 3600 & echo $! > {0}.new); mv {0}.new {0}; while test ! -e {0}.end; do sleep 0.01; done",
        path.display()
    );
    let check = Check { probe: script(&["/bin/sh", "-c", &text]), ..ping_check() };
    let target = "10.0.0.1:1".parse().unwrap();
    let asked = Asked { service: "web".into(), backend: target, target, aim: None };
    let prober = Prober::new(&check, Arc::default());
    let runs = tokio::spawn(async move { prober.ask(&asked, PATIENCE).await });
    let id = written(&path).await;
    for _ in 0..20 {
        sweep();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(is_alive(&id), "the script still runs");
    std::fs::write(path.with_extension("end"), "").unwrap();
    assert_eq!(runs.await.unwrap(), Ok(()));
    ends(&id).await;
}
