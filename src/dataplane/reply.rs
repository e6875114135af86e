//! A received packet, turned in place into an answer to its sender.
//!
//! TCP that nobody wants gets a RST (RFC 9293 section 3.10.7.1), SCTP an ABORT, other refusals an ICMP error
//! (RFC 792, RFC 1812 section 4.3). The answer leaves by the port the packet came from, to the
//! link address it came from: no route and no neighbour is looked up.
//!
//! ```text
//! RST    │ Ethernet │ IP │ TCP │                       what followed is cut off
//! ICMP   │ Ethernet │ IP │ ICMP │ the packet as received: IP, TCP or UDP, … │
//!        └── headroom and the old Ethernet header ──┘  nothing is moved
//! ```
//!
//! Both functions answer false, with the packet as it was, if the rules say that nobody may answer
//! or the buffer has no room. Every answer gets TTL 64 and, being whole and atomic (RFC 6864),
//! DF with identification 0.

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::family::Family;
use super::io::Packet;
use super::parse::Parsed;
use crate::wire::{Be32, Raw16, Raw32, checksum, ether, ipv4, ipv6, tcp};

mod abort;
pub(super) mod v4;
pub(super) mod v6;

pub use abort::sctp_abort;

/// Time to live of an answer.
const TTL: u8 = 64;

/// The errors the balancer reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// Nobody serves this UDP port, or nobody can now.
    PortUnreachable,
    /// The TTL or hop limit would have reached zero here.
    TimeExceeded,
    /// Longer than the way carries, and not to be cut; what it carries (RFC 1191, RFC 8201).
    TooBig {
        /// Longest IP packet that goes through.
        mtu: u16,
    },
    /// What another router said, in the numbers of the family it is told in.
    Other {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The header's second word: a pointer.
        rest: u32,
    },
}

impl IcmpError {
    /// The eight bytes of the header, checksum zero.
    pub(super) fn header<F: Family>(self) -> [u8; 8] {
        let (kind, code) = if F::IS_V6 { self.kind_and_code_v6() } else { self.kind_and_code() };
        let rest = match self {
            Self::TooBig { mtu } => mtu.into(),
            Self::Other { rest, .. } => rest,
            Self::PortUnreachable | Self::TimeExceeded => 0,
        };
        let [a, b, c, d] = rest.to_be_bytes();
        [kind, code, 0, 0, a, b, c, d]
    }
}

/// Turns a packet, as received, into the ICMP error its sender gets from `source`. `l3` is the
/// offset of its IP header.
///
/// False for what must not be answered (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 e): an ICMP
/// error, a fragment other than the first, a packet to a group, a sender that is no host.
#[must_use]
pub fn icmp_error<F: Family, P: Packet>(
    packet: &mut P,
    l3: u16,
    kind: IcmpError,
    source: F,
) -> bool {
    F::report(packet, l3, kind, source)
}

/// Longest RST frame.
const RESET_MAX: usize = ether::LEN + ipv6::LEN + tcp::LEN;

/// A RST frame and its length.
type Reset = ([u8; RESET_MAX], usize);

/// Turns a TCP packet into the RST its sender gets. False for a RST: it is never answered.
#[must_use]
pub fn tcp_reset<F: Family, P: Packet>(packet: &mut P, parsed: &Parsed<F>) -> bool {
    let Some((bytes, length)) = reset_for(packet.data(), parsed) else { return false };
    let written = bytes.get(..length).unwrap_or_default();
    if !packet.set_len(written.len()) {
        return false;
    }
    packet.data_mut().copy_from_slice(written);
    true
}

fn reset_for<F: Family>(frame: &[u8], parsed: &Parsed<F>) -> Option<Reset> {
    if parsed.key.protocol != ipv4::TCP || parsed.signal & tcp::RST != 0 {
        return None;
    }
    let (ether, _) = ether::Header::ref_from_prefix(frame).ok()?;
    let segment = frame.get(usize::from(parsed.l4)..usize::from(parsed.end))?;
    let (received, _) = tcp::Header::ref_from_prefix(segment).ok()?;
    let addresses = parsed.key.reversed().addresses;
    let mut tcp = reset_header(received, segment.len());
    tcp.checksum = Raw16::new(checksum::tcp(addresses, tcp.as_bytes()));
    let mut bytes = [0; RESET_MAX];
    turned(ether).write_to_prefix(&mut bytes).ok()?;
    F::write_header(bytes.get_mut(ether::LEN..)?, tcp::LEN, ipv4::TCP, addresses)?;
    let l4 = ether::LEN + F::HEADER;
    tcp.write_to_prefix(bytes.get_mut(l4..)?).ok()?;
    Some((bytes, l4 + tcp::LEN))
}

/// RFC 9293 section 3.10.7.1: an answer to an ACK takes its number from it; anything else is
/// acknowledged as a whole. SYN and FIN each count as one byte of sequence.
fn reset_header(received: &tcp::Header, segment_length: usize) -> tcp::Header {
    let payload = segment_length.saturating_sub(usize::from(received.header_length()));
    let controls = (received.flags & (tcp::SYN | tcp::FIN)).count_ones();
    let length = u32::try_from(payload).unwrap_or(0).wrapping_add(controls);
    let (flags, sequence, acknowledgment) = if received.flags & tcp::ACK != 0 {
        (tcp::RST, received.acknowledgment, Be32::ZERO)
    } else {
        let next = received.sequence.get().wrapping_add(length);
        (tcp::RST | tcp::ACK, Be32::ZERO, Be32::new(next))
    };
    tcp::Header {
        ports: Raw32::new(received.ports.get().rotate_left(16)),
        sequence,
        acknowledgment,
        data_offset: 5 << 4,
        flags,
        ..tcp::Header::new_zeroed()
    }
}

/// An Ethernet header back to the sender.
fn turned(received: &ether::Header) -> ether::Header {
    ether::Header {
        destination: received.source,
        source: received.destination,
        ethertype: received.ethertype,
    }
}
