//! Datagrams: an echo that names itself, and a client with many source ports.
//!
//! An answer is `NAME SOURCE QUESTION`: who answered, the address it saw, what it was asked. The
//! client checks the last part in full and hands the first two to its report. Nothing is sent
//! twice: between namespaces a datagram is lost only by whoever stands between them.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::report::Report;

/// An answer that takes longer has failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers datagrams at `listen` until the process is ended.
pub fn echo(name: &str, listen: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(listen).with_context(|| format!("listening at {listen}/udp"))?;
    let mut question = vec![0; 65536];
    loop {
        let (length, from) = socket.recv_from(&mut question)?;
        let mut answer = format!("{name} {} ", from.ip()).into_bytes();
        answer.extend_from_slice(question.get(..length).unwrap_or_default());
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
    let socket = UdpSocket::bind("0.0.0.0:0").context("a UDP socket for each source")?;
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
        std::thread::spawn(move || echo("b7", free));
        std::thread::sleep(Duration::from_millis(50));
        let report = load(free, 20, 3, 300).unwrap();
        assert_eq!((report.ok, report.failed, report.backend("b7")), (60, 0, 60), "{report:?}");
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let report = load(silent.local_addr().unwrap(), 1, 1, 30).unwrap();
        assert_eq!((report.ok, report.failed), (0, 1), "{report:?}");
    }
}
