//! One SCTP association (RFC 9260), played by hand: for kernels built without SCTP.
//!
//! ```text
//!   client                                   server
//!     INIT ──────────────────────────────────►
//!     ◄────────────────────────── INIT ACK (cookie)
//!     COOKIE ECHO ───────────────────────────►
//!     ◄──────────────────────────────── COOKIE ACK
//!     DATA "question" ───────────────────────►
//!     ◄──────────────────────── SACK, DATA "answer"      one packet
//!     SHUTDOWN ──────────────────────────────►
//!     ◄────────────────────────────── SHUTDOWN ACK
//!     SHUTDOWN COMPLETE ─────────────────────►
//! ```
//!
//! Every packet's checksum, ports and verification tag are checked; what is wrong is not answered,
//! and the client fails. Nothing is sent again: nothing is lost between namespaces.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketType, bind, ipproto, recvfrom, sendto, socket,
};

/// Printed when packets are taken.
pub const READY: &str = "ready";
/// An answer that takes longer has failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Chunk types.
const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// What the server calls itself, and what the client wants to be called, in their packets' tags.
const SERVER_TAG: u32 = 0x5e17_0001;
const CLIENT_TAG: u32 = 0xc11e_0001;
/// Both begin to count at 1.
const FIRST_TSN: u32 = 1;
/// The parameter of INIT ACK that the client gives back.
const COOKIE: &[u8] = b"a cookie of sixteen bytes, twice";

/// A packet without its IP header.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Packet {
    from: u16,
    to: u16,
    tag: u32,
    chunks: Vec<(u8, Vec<u8>)>,
}

/// Answers associations at this port until the process is ended: its name and the source it saw.
pub fn serve(name: &str, listen: SocketAddr) -> Result<()> {
    let socket = open(listen.ip())?;
    bind(&socket, &SocketAddr::new(listen.ip(), 0))?;
    println!("{READY}");
    loop {
        let (packet, from) = match receive(&socket) {
            Ok(received) => received,
            Err(error) => {
                eprintln!("{error:#}");
                continue;
            }
        };
        if packet.to == listen.port()
            && let Some(answer) = answer(name, &packet, from)
        {
            send(&socket, from, &answer)?;
        }
    }
}

/// The server's answer. It keeps nothing: client and tag are as a real one's cookie would say.
fn answer(name: &str, packet: &Packet, from: IpAddr) -> Option<Packet> {
    let (kind, body) = packet.chunks.first()?;
    let right_tag = packet.tag == if *kind == INIT { 0 } else { SERVER_TAG };
    let chunks = match *kind {
        INIT => {
            let cookie = [&[0, 7, 0, 36][..], COOKIE].concat();
            vec![(INIT_ACK, [init(SERVER_TAG), cookie].concat())]
        }
        COOKIE_ECHO if body == COOKIE => vec![(COOKIE_ACK, Vec::new())],
        DATA => {
            let question = body.get(12..).unwrap_or_default();
            let text = format!("{name} {from} {} ", packet.from);
            let sack = [FIRST_TSN.to_be_bytes(), [0, 1, 0, 0], [0; 4]].concat();
            vec![(SACK, sack), (DATA, data(&[text.as_bytes(), question].concat()))]
        }
        SHUTDOWN => vec![(SHUTDOWN_ACK, Vec::new())],
        _ => return None,
    };
    right_tag.then_some(Packet { from: packet.to, to: packet.from, tag: CLIENT_TAG, chunks })
}

/// Plays the client; what the server said of itself and of us.
pub fn ask(target: SocketAddr, from_port: u16, question: &str) -> Result<String> {
    let socket = open(target.ip())?;
    set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
    let exchange = |tag: u32, kind: u8, body: Vec<u8>, expected: &[u8]| -> Result<Vec<u8>> {
        let chunks = vec![(kind, body)];
        send(&socket, target.ip(), &Packet { from: from_port, to: target.port(), tag, chunks })?;
        let answer = receive_from(&socket, target, from_port)
            .with_context(|| format!("the answer to a chunk of type {kind}"))?;
        ensure!(answer.tag == CLIENT_TAG, "tag {:#x}", answer.tag);
        let kinds: Vec<_> = answer.chunks.iter().map(|chunk| chunk.0).collect();
        ensure!(kinds == expected, "chunks {kinds:?}, expected {expected:?}");
        Ok(answer.chunks.into_iter().next_back().unwrap_or_default().1)
    };
    let said = exchange(0, INIT, init(CLIENT_TAG), &[INIT_ACK])?;
    let tag = said.first_chunk::<4>().map(|tag| u32::from_be_bytes(*tag)).context("no tag")?;
    let cookie = said.get(20..).unwrap_or_default().to_vec();
    exchange(tag, COOKIE_ECHO, cookie, &[COOKIE_ACK])?;
    let answer = exchange(tag, DATA, data(question.as_bytes()), &[SACK, DATA])?;
    exchange(tag, SHUTDOWN, FIRST_TSN.to_be_bytes().to_vec(), &[SHUTDOWN_ACK])?;
    let chunks = vec![(SHUTDOWN_COMPLETE, Vec::new())];
    send(&socket, target.ip(), &Packet { from: from_port, to: target.port(), tag, chunks })?;
    Ok(String::from_utf8_lossy(answer.get(12..).unwrap_or_default()).into_owned())
}

/// The next packet of this association: a raw socket sees all of the host's.
fn receive_from(socket: &OwnedFd, peer: SocketAddr, port: u16) -> Result<Packet> {
    loop {
        let (packet, from) = receive(socket)?;
        if (from, packet.from, packet.to) == (peer.ip(), peer.port(), port) {
            return Ok(packet);
        }
    }
}

/// Initiate tag, window, streams out and in, first number.
fn init(tag: u32) -> Vec<u8> {
    [tag.to_be_bytes(), [0, 1, 0, 0], [0, 1, 0, 1], FIRST_TSN.to_be_bytes()].concat()
}

/// Number, stream 0, sequence 0, protocol 0, bytes.
fn data(bytes: &[u8]) -> Vec<u8> {
    [&FIRST_TSN.to_be_bytes()[..], &[0; 8], bytes].concat()
}

fn open(address: IpAddr) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    socket(family, SocketType::RAW, Some(ipproto::SCTP)).context("a raw socket (needs root)")
}

fn send(socket: &OwnedFd, to: IpAddr, packet: &Packet) -> Result<()> {
    sendto(socket, &packet.bytes(), SendFlags::empty(), &SocketAddr::new(to, 0))?;
    Ok(())
}

fn receive(socket: &OwnedFd) -> Result<(Packet, IpAddr)> {
    let mut buffer = vec![0; 65536];
    let (length, _, from) = recvfrom(socket, buffer.as_mut_slice(), RecvFlags::empty())?;
    let from = SocketAddr::try_from(from.context("a packet from nowhere")?)?.ip();
    let bytes = buffer.get(..length).unwrap_or_default();
    // IPv4 comes with its header.
    let header =
        if from.is_ipv4() { usize::from(bytes.first().map_or(0, |it| it & 15)) * 4 } else { 0 };
    Ok((Packet::read(bytes.get(header..).unwrap_or_default())?, from))
}

impl Packet {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.from.to_be_bytes(), self.to.to_be_bytes()].concat();
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend([0; 4]);
        for (kind, body) in &self.chunks {
            let flags = if *kind == DATA { 3 } else { 0 };
            let length = u16::try_from(4 + body.len()).unwrap_or(u16::MAX).to_be_bytes();
            bytes.extend([*kind, flags, length[0], length[1]]);
            bytes.extend(body);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let crc = crc32c(&bytes).to_le_bytes();
        bytes.splice(8..12, crc);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Self> {
        let (header, mut rest) = bytes.split_first_chunk::<12>().context("no common header")?;
        let (ports, tag) = (word(header, 0), word(header, 4));
        let [.., a, b, c, d] = *header;
        let blank = [&header[..8], &[0; 4], rest].concat();
        ensure!(crc32c(&blank) == u32::from_le_bytes([a, b, c, d]), "the CRC32c is wrong");
        let mut chunks = Vec::new();
        while let Some(&[kind, _, high, low]) = rest.first_chunk::<4>() {
            let length = usize::from(u16::from_be_bytes([high, low]));
            let body = rest.get(4..length).context("a chunk is cut short")?;
            chunks.push((kind, body.to_vec()));
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        // Both ports in one word, the sender's first.
        let [from, to] =
            [ports >> 16, ports & 0xffff].map(|port| u16::try_from(port).unwrap_or_default());
        Ok(Self { from, to, tag, chunks })
    }
}

/// Four bytes of the common header.
fn word(header: &[u8; 12], at: usize) -> u32 {
    header[at..at + 4].iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// `CRC32c` (RFC 9260, appendix A), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_published_check_value_and_a_packet_read_back() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let chunks = vec![(SACK, vec![1; 12]), (DATA, data(b"seven b"))];
        let packet = Packet { from: 7, to: 9, tag: 5, chunks };
        let bytes = packet.bytes();
        assert_eq!(Packet::read(&bytes).unwrap(), packet);
        for bit in 0..bytes.len() * 8 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(Packet::read(&wrong).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn what_has_a_wrong_tag_or_cookie_is_not_answered() {
        let from = Ipv4Addr::LOCALHOST.into();
        let packet = |tag, kind, body: &[u8]| Packet {
            from: 7,
            to: 9,
            tag,
            chunks: vec![(kind, body.to_vec())],
        };
        assert!(answer("b", &packet(0, INIT, &init(3)), from).is_some());
        assert!(answer("b", &packet(1, INIT, &init(3)), from).is_none());
        assert!(answer("b", &packet(SERVER_TAG, COOKIE_ECHO, COOKIE), from).is_some());
        assert!(answer("b", &packet(SERVER_TAG, COOKIE_ECHO, b"another"), from).is_none());
        assert!(answer("b", &packet(1, DATA, &data(b"x")), from).is_none());
    }
}
