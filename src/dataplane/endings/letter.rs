//! What an end of a connection is told when that ends here, as a packet.
//!
//! ```text
//! TCP    │ Ethernet │ IP │ RST, the number it waits for │
//! SCTP   │ Ethernet │ IP │ ABORT under its tag │
//! UDP    │ Ethernet │ IP │ ICMP: port unreachable │ IP │ UDP, empty │
//!                                                   └─ as it might have sent it ─┘
//! ```
//!
//! UDP has no word of its own, and an ICMP error quotes what it is about. No datagram has come here now, so one is
//! made up: from the receiver, to whom it talks to, of no data. That is all a kernel looks at to find the
//! socket (RFC 1122 section 4.1.3.3), and every checksum in it is right, as a firewall may look at these. Like a
//! RST it is from whom the receiver talks to: the one whose port is not there any more.

use zerocopy::IntoBytes;

use crate::dataplane::conn::key::FlowKey;
use crate::dataplane::family::Family;
use crate::dataplane::io::Packet;
use crate::dataplane::reply::IcmpError;
use crate::dataplane::segment::{self, Segment, Stations};
use crate::wire::{Be32, Raw16, Raw32, checksum, ether, ipv4, sctp, tcp, udp};

/// Turns an empty packet into what the end is told that a packet of that key goes to: of TCP the RST has that
/// number, of SCTP the ABORT that tag. `None` without room.
pub(super) fn write<F: Family, P: Packet>(
    packet: &mut P,
    key: FlowKey<F>,
    stations: Stations,
    number: u32,
) -> Option<()> {
    match key.protocol {
        ipv4::UDP => unreachable(packet, key, stations),
        ipv4::SCTP => abort(packet, key, stations, number),
        _ => {
            let reset = Segment { sequence: number, flags: tcp::RST, ..Segment::default() };
            segment::write(packet, key, stations, &reset).map(|_| ())
        }
    }
}

/// Writes an ABORT without a cause, under the receiver's tag.
fn abort<F: Family, P: Packet>(
    packet: &mut P,
    key: FlowKey<F>,
    stations: Stations,
    tag: u32,
) -> Option<()> {
    let length = sctp::LEN + sctp::CHUNK_LEN;
    let l4 = segment::head(packet, key, stations, length)?;
    let answer = packet.data_mut().get_mut(l4..)?;
    let header =
        sctp::Header { ports: Raw32::new(key.ports), tag: Be32::new(tag), checksum: 0.into() };
    header.write_to_prefix(answer).ok()?;
    let chunk = sctp::Chunk {
        kind: sctp::ABORT,
        flags: 0,
        length: u16::try_from(sctp::CHUNK_LEN).ok()?.into(),
    };
    chunk.write_to_prefix(answer.get_mut(sctp::LEN..)?).ok()?;
    sctp::set_checksum(answer);
    Some(())
}

/// Writes the receiver's own datagram, and turns that into the answer to it.
fn unreachable<F: Family, P: Packet>(
    packet: &mut P,
    key: FlowKey<F>,
    (from, to): Stations,
) -> Option<()> {
    let own = key.reversed();
    let l4 = segment::head(packet, own, (to, from), udp::LEN)?;
    let mut header = udp::Header {
        ports: Raw32::new(own.ports),
        length: u16::try_from(udp::LEN).ok()?.into(),
        checksum: Raw16::ZERO,
    };
    header.checksum = Raw16::new(checksum::udp(own.addresses, header.as_bytes()));
    header.write_to_prefix(packet.data_mut().get_mut(l4..)?).ok()?;
    let l3 = u16::try_from(ether::LEN).ok()?;
    F::report(packet, l3, IcmpError::PortUnreachable, key.source()).then_some(())
}
