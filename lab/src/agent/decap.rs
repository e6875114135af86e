//! The far end of a tunnel, for kernels built without one: takes packets out of IP (RFC 2003,
//! RFC 2473, RFC 4213), GRE (RFC 2784) or GUE and hands them to this host's own stack. Either
//! family inside and outside.
//!
//! ```text
//!   eth0 ─► raw socket ─► outer headers checked and taken off ─► TUN device ─► the stack, as if
//!                                 └ wrong: told on standard error              it came from there
//! ```
//!
//! Strict on purpose: whatever a real tunnel device would forgive is said, so that a test can ask
//! for silence. What the kernel reassembles on the way arrives here whole. A raw socket of IPv6
//! shows no outer header, so of that only the source is checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use anyhow::{Context as _, Result, ensure};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketType, ipproto, recvfrom, socket};
use tun_rs::{DeviceBuilder, Layer};

/// Name of the TUN device, if not told another.
pub const DEVICE: &str = "decap0";
/// Printed when packets are taken.
pub const READY: &str = "ready";

/// Bytes of an IPv4 header without options, all a tunnel may send.
const IPV4: usize = 20;
/// Bytes of an IPv6 header.
const IPV6: usize = 40;

/// What packets are inside of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// IP.
    Ipip,
    /// GRE.
    Gre,
    /// UDP and GUE version 0.
    Gue,
}

/// The family of the packets inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Inner {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// What is expected of the outer headers.
#[derive(Clone, Copy, Debug)]
pub struct Tunnel {
    /// Which there are.
    pub kind: Kind,
    /// What is inside.
    pub inner: Inner,
    /// Source address.
    pub from: IpAddr,
    /// Destination port of GUE.
    pub port: u16,
    /// Whether GUE or GRE has a checksum.
    pub checksum: bool,
}

/// The outer IP header, as much of it as a raw socket tells.
#[derive(Clone, Debug)]
struct Outer {
    source: IpAddr,
    /// TTL, of IPv4 only.
    ttl: Option<u8>,
    /// Source and destination, as they go into a checksum.
    addresses: Vec<u8>,
}

/// Unpacks until the process is ended.
pub fn run(tunnel: Tunnel, device: &str) -> Result<()> {
    let family = if tunnel.from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let packets = socket(family, SocketType::RAW, Some(tunnel.protocol()))
        .context("opening a raw socket (needs root)")?;
    let own = own_address(tunnel.from)?;
    // Keeps the kernel from answering "port unreachable". Nobody reads it: what is too much is
    // dropped there, and read here.
    let _taken = (tunnel.kind == Kind::Gue)
        .then(|| UdpSocket::bind(SocketAddr::new(own, tunnel.port)))
        .transpose()?;
    let device = DeviceBuilder::new().name(device).layer(Layer::L3).mtu(1500).build_sync()?;
    println!("{READY}");
    let mut buffer = vec![0; 65536];
    loop {
        let (length, _, from) = recvfrom(&packets, buffer.as_mut_slice(), RecvFlags::empty())?;
        let from = SocketAddr::try_from(from.context("a packet from nowhere")?)?.ip();
        match tunnel.unpack(from, own, buffer.get(..length).unwrap_or_default()) {
            Ok(Some(inner)) => {
                device.send(inner)?;
            }
            Ok(None) => {}
            Err(error) => eprintln!("{error:#}"),
        }
    }
}

/// Every address of this one's family.
fn any(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The address of this host that a peer knows.
pub fn own_address(peer: IpAddr) -> Result<IpAddr> {
    let probe = UdpSocket::bind(SocketAddr::new(any(peer), 0))?;
    probe.connect(SocketAddr::new(peer, 9))?;
    Ok(probe.local_addr()?.ip())
}

impl Tunnel {
    fn protocol(self) -> Protocol {
        match (self.kind, self.inner) {
            (Kind::Ipip, Inner::Ipv4) => ipproto::IPIP,
            (Kind::Ipip, Inner::Ipv6) => ipproto::IPV6,
            (Kind::Gre, _) => ipproto::GRE,
            (Kind::Gue, _) => ipproto::UDP,
        }
    }

    /// The packet inside; `None` for a datagram to another port.
    fn unpack(self, from: IpAddr, own: IpAddr, packet: &[u8]) -> Result<Option<&[u8]>> {
        let header = if from.is_ipv4() { IPV4 } else { 0 };
        let (header, body) = packet.split_at_checked(header).context("shorter than a header")?;
        if self.kind == Kind::Gue && word(body, 2)? != self.port {
            return Ok(None);
        }
        let outer = Outer::read(header, packet.len(), from, own).context("outer header")?;
        ensure!(outer.source == self.from, "outer source {}, expected {}", outer.source, self.from);
        let inner = match self.kind {
            Kind::Ipip => body,
            Kind::Gre => self.ungre(body)?,
            Kind::Gue => self.ungue(&outer, body)?,
        };
        let inner_ttl = self.inner.check(inner).context("inner header")?;
        let outer_ttl = outer.ttl.unwrap_or(0);
        ensure!(outer_ttl <= inner_ttl, "outer TTL {outer_ttl}, inner {inner_ttl}");
        Ok(Some(inner))
    }

    fn ungre(self, body: &[u8]) -> Result<&[u8]> {
        let expected = if self.checksum { 0x8000 } else { 0 };
        let flags = word(body, 0)?;
        ensure!(flags == expected, "GRE flags {flags:#06x}, expected {expected:#06x}");
        let (carried, expected) = (word(body, 2)?, self.inner.ether_type());
        ensure!(carried == expected, "GRE carries {carried:#06x}, expected {expected:#06x}");
        if self.checksum {
            ensure!(word(body, 6)? == 0, "the reserved half of the GRE checksum is not zero");
            ensure!(sum(&[body]) == 0xffff, "the GRE checksum is wrong");
        }
        body.get(if self.checksum { 8 } else { 4 }..).context("shorter than a GRE header")
    }

    fn ungue<'packet>(self, outer: &Outer, body: &'packet [u8]) -> Result<&'packet [u8]> {
        let length = word(body, 4)?;
        ensure!(usize::from(length) == body.len(), "UDP length {length} of {}", body.len());
        let checksum = word(body, 6)?;
        ensure!(self.checksum == (checksum != 0), "UDP checksum {checksum:#06x}");
        if self.checksum {
            let pseudo = [0, 17, body[4], body[5]];
            let sum = sum(&[&outer.addresses, &pseudo, body]);
            ensure!(sum == 0xffff, "the UDP checksum is wrong");
        }
        let (header, inner) = body.split_at_checked(12).context("shorter than a GUE header")?;
        let (gue, expected) = (header.get(8..).unwrap_or_default(), self.inner.gue());
        ensure!(gue == expected, "GUE header {gue:02x?}, expected {expected:02x?}");
        Ok(inner)
    }
}

impl Outer {
    /// Of IPv4 from the header, of IPv6 from what the socket says.
    fn read(header: &[u8], length: usize, from: IpAddr, own: IpAddr) -> Result<Self> {
        if let (IpAddr::V6(from), IpAddr::V6(own)) = (from, own) {
            let addresses = [from.octets(), own.octets()].concat();
            return Ok(Self { source: from.into(), ttl: None, addresses });
        }
        check_ipv4(header, length)?;
        let addresses = header.get(12..).unwrap_or_default().to_vec();
        let source = addresses.first_chunk::<4>().map(|source| Ipv4Addr::from(*source));
        let source = source.context("cut short")?.into();
        Ok(Self { source, ttl: Some(byte(header, 8)?), addresses })
    }
}

impl Inner {
    fn ether_type(self) -> u16 {
        match self {
            Self::Ipv4 => 0x0800,
            Self::Ipv6 => 0x86dd,
        }
    }

    /// The whole GUE header: version 0, no options, the protocol.
    fn gue(self) -> [u8; 4] {
        match self {
            Self::Ipv4 => [0, 4, 0, 0],
            Self::Ipv6 => [0, 41, 0, 0],
        }
    }

    /// Whether this is a packet of the family, whole and right; its TTL or hop limit.
    fn check(self, packet: &[u8]) -> Result<u8> {
        match self {
            Self::Ipv4 => {
                check_ipv4(packet, packet.len())?;
                byte(packet, 8)
            }
            Self::Ipv6 => {
                ensure!(byte(packet, 0)? >> 4 == 6, "begins with {:#04x}", packet[0]);
                let claimed = usize::from(word(packet, 4)?) + IPV6;
                ensure!(claimed == packet.len(), "length {claimed} of {}", packet.len());
                byte(packet, 7)
            }
        }
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

/// One's-complement sum (RFC 1071) over pieces, of which only the last may be of odd length.
pub fn sum(pieces: &[&[u8]]) -> u16 {
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
    const OWN: Ipv4Addr = Ipv4Addr::new(10, 44, 0, 11);
    const FROM6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    const OWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11);

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

    fn inner(family: Inner) -> Vec<u8> {
        let ipv6 = || [vec![0x60, 0, 0, 0, 0, 21, 6, 63], vec![9; 32], vec![7; 21]].concat();
        if family == Inner::Ipv4 { ipv4(6, 63, &[7; 21]) } else { ipv6() }
    }

    /// What follows the outer IP header: tunnel headers, checksums right, and the packet.
    fn body(tunnel: Tunnel, addresses: &[u8]) -> Vec<u8> {
        let inner = inner(tunnel.inner);
        let kind = tunnel.inner.ether_type().to_be_bytes();
        let mut body = match tunnel.kind {
            Kind::Ipip => return inner,
            Kind::Gre if tunnel.checksum => vec![0x80, 0, kind[0], kind[1], 0, 0, 0, 0],
            Kind::Gre => vec![0, 0, kind[0], kind[1]],
            Kind::Gue => {
                let length = u16::try_from(12 + inner.len()).unwrap().to_be_bytes();
                let udp = [0xc0, 0, 0x17, 0xc0, length[0], length[1], 0, 0];
                [&udp[..], &tunnel.inner.gue()].concat()
            }
        };
        body.extend(inner);
        if tunnel.checksum && tunnel.kind == Kind::Gre {
            let checksum = !sum(&[&body]);
            body[4..6].copy_from_slice(&checksum.to_be_bytes());
        } else if tunnel.checksum {
            let checksum = !sum(&[addresses, &[0, 17, body[4], body[5]], &body]);
            body[6..8].copy_from_slice(&checksum.to_be_bytes());
        }
        body
    }

    /// As a raw socket hands it over: with the outer header in IPv4, without in IPv6.
    fn packet(tunnel: Tunnel) -> Vec<u8> {
        match tunnel.from {
            IpAddr::V4(_) => {
                let protocol = u8::try_from(tunnel.protocol().as_raw().get()).unwrap();
                ipv4(protocol, 63, &body(tunnel, &[FROM.octets(), OWN.octets()].concat()))
            }
            IpAddr::V6(_) => body(tunnel, &[FROM6.octets(), OWN6.octets()].concat()),
        }
    }

    fn unpack(tunnel: Tunnel, packet: &[u8]) -> Result<Option<&[u8]>> {
        let ipv4 = tunnel.from.is_ipv4();
        let (from, own) =
            if ipv4 { (FROM.into(), OWN.into()) } else { (FROM6.into(), OWN6.into()) };
        tunnel.unpack(from, own, packet)
    }

    fn tunnel(kind: Kind, checksum: bool) -> Tunnel {
        Tunnel { kind, inner: Inner::Ipv4, from: FROM.into(), port: 6080, checksum }
    }

    /// Every kind with and without checksum, in every pair of families.
    fn every_tunnel() -> Vec<Tunnel> {
        let mut table = Vec::new();
        for (kind, checksum) in [
            (Kind::Ipip, false),
            (Kind::Gre, false),
            (Kind::Gre, true),
            (Kind::Gue, false),
            (Kind::Gue, true),
        ] {
            for inner in [Inner::Ipv4, Inner::Ipv6] {
                for from in [IpAddr::from(FROM), FROM6.into()] {
                    table.push(Tunnel { inner, from, ..tunnel(kind, checksum) });
                }
            }
        }
        table
    }

    #[test]
    fn every_kind_gives_back_what_was_put_in() {
        for tunnel in every_tunnel() {
            let (packet, inner) = (packet(tunnel), inner(tunnel.inner));
            assert_eq!(unpack(tunnel, &packet).unwrap(), Some(inner.as_slice()), "{tunnel:?}");
            for length in 0..packet.len() {
                let cut = unpack(tunnel, &packet[..length]);
                assert!(!matches!(cut, Ok(Some(_))), "{tunnel:?} cut to {length}");
            }
        }
    }

    #[test]
    fn a_bit_flipped_in_any_outer_header_is_told() {
        // GUE without a checksum says nothing of its source port, and is left out.
        let told = |tunnel: &Tunnel| tunnel.kind != Kind::Gue || tunnel.checksum;
        for tunnel in every_tunnel().into_iter().filter(told) {
            let packet = packet(tunnel);
            for bit in 0..(packet.len() - inner(tunnel.inner).len()) * 8 {
                let mut wrong = packet.clone();
                wrong[bit / 8] ^= 1 << (bit % 8);
                assert!(!matches!(unpack(tunnel, &wrong), Ok(Some(_))), "{tunnel:?} bit {bit}");
            }
        }
    }

    #[test]
    fn another_checksum_setting_family_source_or_a_longer_outer_life_is_told() {
        for wanted in every_tunnel() {
            for sent in every_tunnel() {
                let same = wanted.kind == sent.kind && wanted.from == sent.from;
                if same && (wanted.inner, wanted.checksum) != (sent.inner, sent.checksum) {
                    assert!(unpack(wanted, &packet(sent)).is_err(), "{wanted:?} {sent:?}");
                }
            }
            let other: IpAddr = if wanted.from.is_ipv4() { OWN.into() } else { OWN6.into() };
            let other = Tunnel { from: other, ..wanted };
            assert!(unpack(other, &packet(wanted)).is_err(), "{wanted:?}");
        }
        let ipip = tunnel(Kind::Ipip, false);
        assert!(unpack(ipip, &ipv4(4, 64, &inner(Inner::Ipv4))).is_err());
        let (gue, other_port) = (tunnel(Kind::Gue, false), 6081);
        let other_port = Tunnel { port: other_port, ..gue };
        assert_eq!(unpack(other_port, &packet(gue)).unwrap(), None, "somebody else's datagram");
    }
}
