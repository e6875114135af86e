//! Datagrams that leave in pieces, in any order: kernels send theirs first piece first.
//!
//! ```text
//!   IP │ UDP header, data      first     ─┐           reversed: last, middle, first
//!   IP │ data                  middle     ├─ pieces   shuffled: middle, last, first
//!   IP │ data                  last      ─┘
//! ```
//!
//! A raw socket sends them, an ordinary one of the same port takes the answer: whole, because this
//! host's kernel has put its pieces together. Nothing is sent twice. A datagram's identification is
//! its source port: another so soon would be mistaken for it by whoever remembers pieces.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};

use super::decap::{own_address, sum};
use super::report::Report;

/// An answer that takes longer has failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Hops a piece may take.
const TTL: u8 = 64;
/// The protocol of a piece's data.
const UDP: u8 = 17;
/// IPv6's fragment header.
const FRAGMENT: u8 = 44;

/// In which order the pieces of a datagram leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Order {
    /// As kernels send them.
    Forward,
    /// The last first.
    Reversed,
    /// The first last, the others in order.
    Shuffled,
}

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// A UDP echo.
    pub target: SocketAddr,
    /// Datagrams, each from a source port of its own.
    pub count: u16,
    /// Bytes of each datagram's data.
    pub size: usize,
    /// Bytes of data in each piece, but the last: a multiple of eight.
    pub piece: usize,
    /// Order of its pieces.
    pub order: Order,
}

/// Asks and is answered, one datagram after another.
pub fn run(plan: Plan) -> Result<Report> {
    ensure!(plan.piece > 0 && plan.piece.is_multiple_of(8), "pieces are of multiples of eight");
    let family = if plan.target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    // Of this protocol a raw socket sends packets with the header they bring.
    let raw = socket(family, SocketType::RAW, Some(ipproto::RAW)).context("needs root")?;
    let own = own_address(plan.target.ip())?;
    let mut report = Report::default();
    for number in 1..=plan.count {
        let start = Instant::now();
        match ask(&raw, plan, own, number) {
            Ok(answer) => report.answered(&answer, start.elapsed()),
            Err(error) => report.failed(&format!("{error:#}")),
        }
    }
    Ok(report)
}

fn ask(raw: &OwnedFd, plan: Plan, own: IpAddr, number: u16) -> Result<String> {
    let taker = UdpSocket::bind(SocketAddr::new(own, 0))?;
    taker.connect(plan.target)?;
    taker.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let letters = ('a'..='z').cycle().skip(usize::from(number % 26));
    let question: String = letters.take(plan.size).collect();
    let datagram = datagram(taker.local_addr()?, plan.target, question.as_bytes())?;
    let id = taker.local_addr()?.port();
    let mut pieces = cut(own, plan.target.ip(), &datagram, plan.piece, id)?;
    match plan.order {
        Order::Forward => {}
        Order::Reversed => pieces.reverse(),
        Order::Shuffled => pieces.rotate_left(1),
    }
    for piece in pieces {
        let to = SocketAddr::new(plan.target.ip(), 0);
        sendto(raw, &piece, SendFlags::empty(), &to).context("sending a piece")?;
    }
    let mut answer = vec![0; 65536];
    let length = taker.recv(&mut answer).context("receive")?;
    answer.truncate(length);
    let answer = String::from_utf8(answer).context("answer: not text")?;
    if !answer.ends_with(&format!(" {question}")) {
        bail!("answer: to another question");
    }
    Ok(answer)
}

/// UDP header and data.
fn datagram(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Result<Vec<u8>> {
    let length = u16::try_from(8 + data.len()).context("too long for UDP")?.to_be_bytes();
    let mut datagram =
        [from.port().to_be_bytes(), to.port().to_be_bytes(), length, [0; 2]].concat();
    datagram.extend(data);
    let pseudo = [octets(from.ip()), octets(to.ip()), vec![0, UDP, length[0], length[1]]].concat();
    let checksum = match !sum(&[&pseudo, &datagram]) {
        0 => u16::MAX,
        checksum => checksum,
    };
    datagram.splice(6..8, checksum.to_be_bytes());
    Ok(datagram)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The packets that carry a datagram, in order. The kernel fills in IPv4's checksum.
fn cut(from: IpAddr, to: IpAddr, datagram: &[u8], piece: usize, id: u16) -> Result<Vec<Vec<u8>>> {
    let count = datagram.len().div_ceil(piece);
    let packet = |(number, data): (usize, &[u8])| {
        let (at, more) = (number * piece, number + 1 < count);
        let header = match from {
            IpAddr::V4(_) => ipv4(at, more, data.len(), id)?,
            IpAddr::V6(_) => ipv6(at, more, data.len(), id)?,
        };
        let (fixed, rest) = header.split_at(if from.is_ipv4() { 12 } else { 8 });
        Ok([fixed, &octets(from), &octets(to), rest, data].concat())
    };
    datagram.chunks(piece).enumerate().map(packet).collect()
}

/// The header without its addresses.
fn ipv4(at: usize, more: bool, length: usize, id: u16) -> Result<Vec<u8>> {
    let total = u16::try_from(20 + length)?.to_be_bytes();
    let place = u16::try_from(at / 8)? | if more { 0x2000 } else { 0 };
    let words = [total, id.to_be_bytes(), place.to_be_bytes()].concat();
    Ok([&[0x45, 0][..], &words, &[TTL, UDP, 0, 0]].concat())
}

/// The header without its addresses, and the fragment header.
fn ipv6(at: usize, more: bool, length: usize, id: u16) -> Result<Vec<u8>> {
    let payload = u16::try_from(8 + length)?.to_be_bytes();
    let place = (u16::try_from(at)? | u16::from(more)).to_be_bytes();
    let fixed = [0x60, 0, 0, 0, payload[0], payload[1], FRAGMENT, TTL];
    let id = u32::from(id).to_be_bytes();
    Ok([&fixed[..], &[UDP, 0], &place, &id].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_both_families_say_where_they_belong_and_make_the_whole() {
        let rows: [(&str, &str, usize); 2] =
            [("192.0.2.1", "192.0.2.2", 20), ("2001:db8::1", "2001:db8::2", 48)];
        for (from, to, header) in rows {
            let [from, to] = [from, to].map(|address| SocketAddr::new(address.parse().unwrap(), 9));
            let whole = datagram(from, to, &[7; 100]).unwrap();
            let pieces = cut(from.ip(), to.ip(), &whole, 48, 5).unwrap();
            let data: Vec<_> = pieces.iter().map(|piece| &piece[header..]).collect();
            assert_eq!(data.concat(), whole);
            let place = |piece: &Vec<u8>| {
                let at = if from.is_ipv4() { 6 } else { 42 };
                u16::from_be_bytes([piece[at], piece[at + 1]])
            };
            let places: Vec<_> = pieces.iter().map(place).collect();
            let expected = if from.is_ipv4() { [0x2000, 0x2006, 12] } else { [1, 49, 96] };
            assert_eq!(places, expected);
            let pseudo = [octets(from.ip()), octets(to.ip()), vec![0, UDP, 0, 108]].concat();
            assert_eq!(sum(&[&pseudo, &whole]), 0xffff, "the checksum covers the whole");
        }
    }
}
