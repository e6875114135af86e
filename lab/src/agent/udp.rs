//! Datagrams: an echo that names itself, and a client with many source ports.
//!
//! An answer is `NAME SOURCE QUESTION`: who answered, the address it saw, what it was asked. The
//! client checks the last part in full and hands the first two to its report. Nothing is sent
//! twice: between namespaces a datagram is lost only by whoever stands between them.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::proxy;
use super::report::Report;

/// An answer that takes longer has failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers datagrams at each of these addresses until the process is ended: from the address that
/// was asked, which a socket for all of them could not. With `proxy`, a datagram must begin with a
/// header of the PROXY protocol, and the source told, with its port, is the one in there.
pub fn echo(name: &str, listen: &[SocketAddr], proxy: bool) -> Result<()> {
    let bind =
        |at: &SocketAddr| UdpSocket::bind(at).with_context(|| format!("listening at {at}/udp"));
    let sockets = listen.iter().map(bind).collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let answer = |socket| scope.spawn(move || answer_all(name, socket, proxy));
        let threads: Vec<_> = sockets.iter().map(answer).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    })
}

fn answer_all(name: &str, socket: &UdpSocket, proxy: bool) -> Result<()> {
    let mut buffer = vec![0; 65536];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer) {
            // An answer's way back was refused: nothing that was asked.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
            received => received?,
        };
        let mut question = buffer.get(..length).unwrap_or_default();
        let mut source = from.ip().to_string();
        if proxy {
            let told;
            (told, question) = proxy::read(question).unwrap_or((from, b"no PROXY header"));
            source = told.to_string();
        }
        let answer = [format!("{name} {source} ").as_bytes(), question].concat();
        socket.send_to(&answer, from)?;
    }
}

/// Asks `rounds` times from each of `sources` sockets, `size` bytes of question each time.
pub fn load(target: SocketAddr, sources: u32, rounds: u32, size: usize) -> Result<Report> {
    let sockets = (0..sources).map(|_| socket(target)).collect::<Result<Vec<_>>>()?;
    let mut report = Report::default();
    for round in 0..rounds {
        for (number, socket) in sockets.iter().enumerate() {
            let question = question(number, round, size);
            let start = Instant::now();
            match ask(socket, &question) {
                Ok(answer) => report.answered(&answer, start.elapsed()),
                Err(error) => report.failed(&format!("{error:#}")),
            }
        }
    }
    Ok(report)
}

fn socket(target: SocketAddr) -> Result<UdpSocket> {
    let any =
        if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let any = SocketAddr::new(any, 0);
    let socket = UdpSocket::bind(any).context("a UDP socket for each source")?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(socket)
}

/// A question of `size` bytes that no other has.
fn question(number: usize, round: u32, size: usize) -> String {
    let mut text = format!("question-{number}-{round}-");
    while text.len() < size {
        text.push(char::from(b'a' + u8::try_from(text.len() % 26).unwrap_or_default()));
    }
    text
}

fn ask(socket: &UdpSocket, question: &str) -> Result<String> {
    socket.send(question.as_bytes()).context("send")?;
    let mut answer = vec![0; 65536];
    let length = socket.recv(&mut answer).context("receive")?;
    answer.truncate(length);
    let answer = String::from_utf8(answer).context("answer: not text")?;
    if !answer.ends_with(&format!(" {question}")) {
        bail!("answer: to another question");
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_gets_its_own_answer_and_silence_is_a_failure() {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        std::thread::spawn(move || echo("b7", &[free], false));
        std::thread::sleep(Duration::from_millis(50));
        let report = load(free, 20, 3, 300).unwrap();
        assert_eq!((report.ok, report.failed, report.backend("b7")), (60, 0, 60), "{report:?}");
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let report = load(silent.local_addr().unwrap(), 1, 1, 30).unwrap();
        assert_eq!((report.ok, report.failed), (0, 1), "{report:?}");
    }
}
