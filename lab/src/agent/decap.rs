//! The far end of a tunnel, for kernels built without one: takes packets out of IPv4 (RFC 2003),
//! GRE (RFC 2784) or GUE and hands them to this host's own stack.
//!
//! ```text
//!   eth0 ─► raw socket ─► outer headers checked and taken off ─► TUN device ─► the stack, as if
//!                                 └ wrong: told on standard error              it came from there
//! ```
//!
//! Strict on purpose: whatever a real tunnel device would forgive is said, so that a test can ask
//! for silence. What the kernel reassembles on the way arrives here whole.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketType, ipproto, recv, socket};
use tun_rs::{DeviceBuilder, Layer};

/// Name of the TUN device.
pub const DEVICE: &str = "decap0";
/// Printed when packets are taken.
pub const READY: &str = "ready";

/// Bytes of an IPv4 header without options, all a tunnel may send.
const IPV4: usize = 20;

/// What packets are inside of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// IPv4.
    Ipip,
    /// GRE.
    Gre,
    /// UDP and GUE version 0.
    Gue,
}

/// What is expected of the outer headers.
#[derive(Clone, Copy, Debug)]
pub struct Tunnel {
    /// Which there are.
    pub kind: Kind,
    /// Source address.
    pub from: Ipv4Addr,
    /// Destination port of GUE.
    pub port: u16,
    /// Whether GUE or GRE has a checksum.
    pub checksum: bool,
}

/// Unpacks until the process is ended.
pub fn run(tunnel: Tunnel) -> Result<()> {
    let packets = socket(AddressFamily::INET, SocketType::RAW, Some(tunnel.kind.protocol()))
        .context("opening a raw socket (needs root)")?;
    // Keeps the kernel from answering "port unreachable". Nobody reads it: what is too much is
    // dropped there, and read here.
    let _taken = (tunnel.kind == Kind::Gue)
        .then(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, tunnel.port)))
        .transpose()?;
    let device = DeviceBuilder::new().name(DEVICE).layer(Layer::L3).mtu(1500).build_sync()?;
    println!("{READY}");
    let mut buffer = vec![0; 65536];
    loop {
        let (length, _) = recv(&packets, buffer.as_mut_slice(), RecvFlags::empty())?;
        match tunnel.unpack(buffer.get(..length).unwrap_or_default()) {
            Ok(Some(inner)) => {
                device.send(inner)?;
            }
            Ok(None) => {}
            Err(error) => eprintln!("{error:#}"),
        }
    }
}

impl Kind {
    fn protocol(self) -> Protocol {
        match self {
            Self::Ipip => ipproto::IPIP,
            Self::Gre => ipproto::GRE,
            Self::Gue => ipproto::UDP,
        }
    }
}

impl Tunnel {
    /// The packet inside; `None` for a datagram to another port.
    fn unpack(self, packet: &[u8]) -> Result<Option<&[u8]>> {
        let (outer, body) = packet.split_at_checked(IPV4).context("shorter than an IPv4 header")?;
        if self.kind == Kind::Gue && word(body, 2)? != self.port {
            return Ok(None);
        }
        check_ipv4(outer, packet.len()).context("outer header")?;
        let source = address(outer, 12)?;
        ensure!(source == self.from, "outer source {source}, expected {}", self.from);
        let inner = match self.kind {
            Kind::Ipip => body,
            Kind::Gre => self.ungre(body)?,
            Kind::Gue => self.ungue(outer, body)?,
        };
        check_ipv4(inner, inner.len()).context("inner header")?;
        let (outer_ttl, inner_ttl) = (byte(outer, 8)?, byte(inner, 8)?);
        ensure!(outer_ttl <= inner_ttl, "outer TTL {outer_ttl}, inner {inner_ttl}");
        Ok(Some(inner))
    }

    fn ungre(self, body: &[u8]) -> Result<&[u8]> {
        let expected = if self.checksum { 0x8000 } else { 0 };
        let flags = word(body, 0)?;
        ensure!(flags == expected, "GRE flags {flags:#06x}, expected {expected:#06x}");
        ensure!(word(body, 2)? == 0x0800, "GRE carries no IPv4");
        if self.checksum {
            ensure!(word(body, 6)? == 0, "the reserved half of the GRE checksum is not zero");
            ensure!(sum(&[body]) == 0xffff, "the GRE checksum is wrong");
        }
        body.get(if self.checksum { 8 } else { 4 }..).context("shorter than a GRE header")
    }

    fn ungue<'packet>(self, outer: &[u8], body: &'packet [u8]) -> Result<&'packet [u8]> {
        let length = word(body, 4)?;
        ensure!(usize::from(length) == body.len(), "UDP length {length} of {}", body.len());
        let checksum = word(body, 6)?;
        ensure!(self.checksum == (checksum != 0), "UDP checksum {checksum:#06x}");
        if self.checksum {
            let addresses = outer.get(12..).unwrap_or_default();
            let pseudo = [0, 17, body[4], body[5]];
            ensure!(sum(&[addresses, &pseudo, body]) == 0xffff, "the UDP checksum is wrong");
        }
        let (header, inner) = body.split_at_checked(12).context("shorter than a GUE header")?;
        let gue = header.get(8..).unwrap_or_default();
        ensure!(gue == [0, 4, 0, 0], "GUE header {gue:02x?}, expected 00 04 00 00");
        Ok(inner)
    }
}

/// An IPv4 header without options, of a packet of this length, its checksum right.
fn check_ipv4(packet: &[u8], length: usize) -> Result<()> {
    let header = packet.get(..IPV4).context("shorter than an IPv4 header")?;
    ensure!(byte(header, 0)? == 0x45, "begins with {:#04x}, expected 0x45", header[0]);
    let claimed = word(header, 2)?;
    ensure!(usize::from(claimed) == length, "length {claimed} of {length}");
    ensure!(sum(&[header]) == 0xffff, "the checksum is wrong");
    Ok(())
}

fn byte(bytes: &[u8], at: usize) -> Result<u8> {
    bytes.get(at).copied().context("cut short")
}

fn word(bytes: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_be_bytes([byte(bytes, at)?, byte(bytes, at + 1)?]))
}

fn address(bytes: &[u8], at: usize) -> Result<Ipv4Addr> {
    let Some([a, b, c, d]) = bytes.get(at..at + 4) else { bail!("cut short") };
    Ok(Ipv4Addr::new(*a, *b, *c, *d))
}

/// One's-complement sum (RFC 1071) over pieces, of which only the last may be of odd length.
fn sum(pieces: &[&[u8]]) -> u16 {
    let pairs = pieces.iter().flat_map(|piece| piece.chunks(2));
    let mut sum: u64 =
        pairs.map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Ipv4Addr = Ipv4Addr::new(10, 44, 0, 1);

    /// An IPv4 packet around `body`, checksum right.
    fn ipv4(protocol: u8, ttl: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(IPV4 + body.len()).unwrap().to_be_bytes();
        let mut header =
            vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, ttl, protocol, 0, 0, 10, 44, 0, 1];
        header.extend([10, 44, 0, 11]);
        let checksum = !sum(&[&header]);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        [header, body.to_vec()].concat()
    }

    fn inner() -> Vec<u8> {
        ipv4(6, 63, &[7; 21])
    }

    fn gre(checksum: bool) -> Vec<u8> {
        let mut body = if checksum { vec![0x80, 0, 8, 0, 0, 0, 0, 0] } else { vec![0, 0, 8, 0] };
        body.extend(inner());
        if checksum {
            let checksum = !sum(&[&body]);
            body[4..6].copy_from_slice(&checksum.to_be_bytes());
        }
        ipv4(47, 63, &body)
    }

    fn gue(checksum: bool) -> Vec<u8> {
        let length = u16::try_from(12 + inner().len()).unwrap().to_be_bytes();
        let mut body = vec![0xc0, 0, 0x17, 0xc0, length[0], length[1], 0, 0, 0, 4, 0, 0];
        body.extend(inner());
        if checksum {
            let pseudo = [10, 44, 0, 1, 10, 44, 0, 11, 0, 17, length[0], length[1]];
            let checksum = !sum(&[&pseudo, &body]);
            body[6..8].copy_from_slice(&checksum.to_be_bytes());
        }
        ipv4(17, 63, &body)
    }

    fn tunnel(kind: Kind, checksum: bool) -> Tunnel {
        Tunnel { kind, from: FROM, port: 6080, checksum }
    }

    #[test]
    fn every_kind_gives_back_what_was_put_in() {
        let table = [
            (tunnel(Kind::Ipip, false), ipv4(4, 63, &inner())),
            (tunnel(Kind::Gre, false), gre(false)),
            (tunnel(Kind::Gre, true), gre(true)),
            (tunnel(Kind::Gue, false), gue(false)),
            (tunnel(Kind::Gue, true), gue(true)),
        ];
        for (tunnel, packet) in table {
            assert_eq!(tunnel.unpack(&packet).unwrap(), Some(inner().as_slice()), "{tunnel:?}");
            for length in 0..packet.len() {
                let cut = tunnel.unpack(&packet[..length]);
                assert!(!matches!(cut, Ok(Some(_))), "{tunnel:?} cut to {length}");
            }
        }
    }

    #[test]
    fn a_bit_flipped_in_any_outer_header_is_told() {
        let table = [
            (tunnel(Kind::Ipip, false), ipv4(4, 63, &inner()), 20),
            (tunnel(Kind::Gre, false), gre(false), 24),
            (tunnel(Kind::Gre, true), gre(true), 28),
            (tunnel(Kind::Gue, true), gue(true), 32),
        ];
        for (tunnel, packet, headers) in table {
            for bit in 0..headers * 8 {
                let mut wrong = packet.clone();
                wrong[bit / 8] ^= 1 << (bit % 8);
                assert!(!matches!(tunnel.unpack(&wrong), Ok(Some(_))), "{tunnel:?} bit {bit}");
            }
        }
    }

    #[test]
    fn another_checksum_setting_source_or_a_longer_outer_life_is_told() {
        assert!(tunnel(Kind::Gre, true).unpack(&gre(false)).is_err());
        assert!(tunnel(Kind::Gre, false).unpack(&gre(true)).is_err());
        assert!(tunnel(Kind::Gue, true).unpack(&gue(false)).is_err());
        assert!(tunnel(Kind::Gue, false).unpack(&gue(true)).is_err());
        let ipip = tunnel(Kind::Ipip, false);
        assert!(ipip.unpack(&ipv4(4, 64, &inner())).is_err());
        let other = Tunnel { from: Ipv4Addr::new(10, 44, 0, 2), ..ipip };
        assert!(other.unpack(&ipv4(4, 63, &inner())).is_err());
        let other_port = Tunnel { port: 6081, ..tunnel(Kind::Gue, false) };
        assert_eq!(other_port.unpack(&gue(false)).unwrap(), None, "somebody else's datagram");
    }
}
