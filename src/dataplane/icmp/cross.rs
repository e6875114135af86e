//! Errors about connections between the families (NAT64): ICMP becomes `ICMPv6` and the other way
//! round, the quoted packet included (RFC 7915 sections 4.2, 4.3, 5.2 and 5.3).
//!
//! ```text
//! │ Ethernet │ IP │ ICMP │ quoted IP │ what it carried …
//! └──────────── written anew ────────┘ only ports and checksum change
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, IntoBytes};

use super::convert;
use super::message::{HEADER, Message, seal};
use super::quote::{Quote, rewrite_transport};
use crate::dataplane::conn::key::{FlowKey, Side};
use crate::dataplane::conn::record::Record;
use crate::dataplane::cross::DIFFERENCE;
use crate::dataplane::family::Family;
use crate::dataplane::flows::{Fate, Flows};
use crate::dataplane::introduce;
use crate::dataplane::io::Packet;
use crate::dataplane::reply::IcmpError;
use crate::dataplane::rewrite::translation_deltas;
use crate::dataplane::snapshot::NextHop;
use crate::dataplane::verdict::Reason;
use crate::wire::{Raw16, Raw64, checksum, ether, ipv4, ipv6};

/// Longest ICMP error (RFC 1812 section 4.3.2.3) and `ICMPv6` error (RFC 4443 section 2.4 c).
const LENGTH_MAX_V4: usize = 576;
const LENGTH_MAX_V6: usize = ipv6::MTU_MIN as usize;
/// Bytes in front of what the quoted packet carried.
const FRONT_V4: usize = ether::LEN + ipv4::LEN + HEADER + ipv4::LEN;
const FRONT_V6: usize = ether::LEN + ipv6::LEN + HEADER + ipv6::LEN;

impl Flows {
    /// An error from the backend's side that no connection of its own family claims.
    pub(super) fn icmp_between_families<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        message: &Message<F>,
        quote: &Quote<F>,
    ) -> Fate {
        let hit = F::crossed(&self.tables, quote.key.reversed());
        let Some(hit) = hit.filter(|hit| hit.side == Side::Backend) else {
            return self.count(Reason::NoConnection);
        };
        let record = *self.tables.v6.record(hit.slot);
        let Some(hop) = self.hop_to(&record, Side::Client) else {
            return self.count(Reason::NextHop);
        };
        let Some(error) = in_family::<F, Ipv6Addr>(packet.data(), message) else {
            return Fate::Free;
        };
        let error = less(error, introduce::room(&record));
        introduce::take_back(packet.data_mut().get_mut(quote.l4..).unwrap_or_default(), &record);
        let about = record.key(Side::Client);
        self.sent(to_v6(packet, message, quote, about, error, hop), hop)
    }

    /// An error from a client about a packet that its IPv4 backend sent.
    pub(super) fn cross_error<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        message: &Message<F>,
        quote: &Quote<F>,
        record: &Record<F>,
        hop: NextHop,
    ) -> Fate {
        let Some(about) = F::unmapped(record.key(Side::Backend)) else {
            return self.count(Reason::NextHop);
        };
        let Some(error) = in_family::<F, Ipv4Addr>(packet.data(), message) else {
            return Fate::Free;
        };
        let delta = translation_deltas(quote.key, record.key(Side::Backend)).1;
        let done = ports_changed(packet, quote, about.ports, delta)
            .and_then(|()| to_v4(packet, message, quote, about, error, hop));
        self.sent(done, hop)
    }

    fn sent(&self, done: Option<()>, hop: NextHop) -> Fate {
        if done.is_some() { Fate::Send(hop.port) } else { self.count(Reason::NoRoom) }
    }
}

/// The same error in the other family's words.
fn in_family<F: Family, G: Family>(frame: &[u8], message: &Message<F>) -> Option<IcmpError> {
    let Some(mtu) = convert::too_big(frame, message) else {
        return convert::other::<F, G>(message);
    };
    let mtu = if G::IS_V6 {
        mtu.saturating_add(DIFFERENCE).max(ipv6::MTU_MIN)
    } else {
        mtu.saturating_sub(DIFFERENCE)
    };
    Some(IcmpError::TooBig { mtu })
}

/// An error that leaves room for what is inserted into a client's packets.
fn less(error: IcmpError, room: u16) -> IcmpError {
    match error {
        IcmpError::TooBig { mtu } => IcmpError::TooBig { mtu: mtu.saturating_sub(room) },
        other => other,
    }
}

fn ports_changed<F: Family, P: Packet>(
    packet: &mut P,
    quote: &Quote<F>,
    ports: u32,
    delta: checksum::Delta,
) -> Option<()> {
    let segment = packet.data_mut().get_mut(quote.l4..)?;
    rewrite_transport(segment, quote.key.protocol, ports, delta).then_some(())
}

/// Rebuilds an ICMP error as an `ICMPv6` one about `about`.
fn to_v6<F: Family, P: Packet>(
    packet: &mut P,
    message: &Message<F>,
    quote: &Quote<F>,
    about: FlowKey<Ipv6Addr>,
    error: IcmpError,
    hop: NextHop,
) -> Option<()> {
    let (received, _) = ipv4::Header::ref_from_prefix(packet.data().get(ether::LEN..)?).ok()?;
    let tos = received.tos;
    let (quoted, _) = ipv4::Header::ref_from_prefix(packet.data().get(quote.at..)?).ok()?;
    let header = usize::from(quoted.header_length());
    let inner = ipv6::Header {
        version_class_label: ipv6::version_class(quoted.tos),
        payload_length: u16::try_from(usize::from(quoted.total_length.get()).checked_sub(header)?)
            .ok()?
            .into(),
        next_header: quote.key.protocol,
        hop_limit: quoted.ttl,
        addresses: about.addresses.map(Raw64::new),
    };
    let was = FlowKey::<Ipv4Addr>::new(
        quote.key.protocol,
        (quoted.source(), quote.key.source_port()),
        (quoted.destination(), quote.key.destination_port()),
    );
    let delta = translation_deltas(was.mapped(), about).1;
    ports_changed(packet, quote, about.ports, delta)?;
    let carried = message.end.checked_sub(quote.l4)?;
    let carried = carried.min(LENGTH_MAX_V6 - (FRONT_V6 - ether::LEN));
    move_front(packet, quote.l4, FRONT_V6, carried)?;
    let addresses = ipv6::address_pair(about.destination(), about.source());
    let outer = ipv6::Header {
        version_class_label: ipv6::version_class(tos),
        payload_length: u16::try_from(HEADER + ipv6::LEN + carried).ok()?.into(),
        next_header: ipv6::ICMPV6,
        hop_limit: message.ttl.wrapping_sub(1),
        addresses: addresses.map(Raw64::new),
    };
    let frame = packet.data_mut();
    let at = write_link(frame, hop, ether::IPV6)?;
    let at = write(frame, at, outer.as_bytes())?;
    let body = write(frame, at, &error.header::<Ipv6Addr>())?;
    write(frame, body, inner.as_bytes())?;
    seal::<Ipv6Addr>(frame.get_mut(at..)?, addresses)
}

/// Rebuilds an `ICMPv6` error as an ICMP one about `about`. The ports have been changed.
fn to_v4<F: Family, P: Packet>(
    packet: &mut P,
    message: &Message<F>,
    quote: &Quote<F>,
    about: FlowKey<Ipv4Addr>,
    error: IcmpError,
    hop: NextHop,
) -> Option<()> {
    let (received, _) = ipv6::Header::ref_from_prefix(packet.data().get(ether::LEN..)?).ok()?;
    let tos = received.traffic_class();
    let (quoted, _) = ipv6::Header::ref_from_prefix(packet.data().get(quote.at..)?).ok()?;
    let extensions = (quote.l4 - quote.at).checked_sub(ipv6::LEN)?;
    let behind = usize::from(quoted.payload_length.get()).checked_sub(extensions)?;
    let inner = header_v4(
        quoted.traffic_class(),
        ipv4::LEN + behind,
        quoted.hop_limit,
        quote.key.protocol,
        about.addresses,
    )?;
    let carried = message.end.checked_sub(quote.l4)?;
    let carried = carried.min(LENGTH_MAX_V4 - (FRONT_V4 - ether::LEN));
    move_front(packet, quote.l4, FRONT_V4, carried)?;
    let addresses = ipv4::address_pair(about.destination(), about.source());
    let length = FRONT_V4 - ether::LEN + carried;
    let outer = header_v4(tos, length, message.ttl.wrapping_sub(1), ipv4::ICMP, addresses)?;
    let frame = packet.data_mut();
    let at = write_link(frame, hop, ether::IPV4)?;
    let at = write(frame, at, outer.as_bytes())?;
    let body = write(frame, at, &error.header::<Ipv4Addr>())?;
    write(frame, body, inner.as_bytes())?;
    seal::<Ipv4Addr>(frame.get_mut(at..)?, addresses)
}

/// An IPv4 header with DF.
fn header_v4(
    tos: u8,
    length: usize,
    ttl: u8,
    protocol: u8,
    addresses: u64,
) -> Option<ipv4::Header> {
    let mut header = ipv4::Header {
        version_ihl: ipv4::VERSION_IHL,
        tos,
        total_length: u16::try_from(length).ok()?.into(),
        identification: 0.into(),
        flags_fragment: ipv4::DONT_FRAGMENT.into(),
        ttl,
        protocol,
        checksum: Raw16::ZERO,
        addresses: Raw64::new(addresses),
    };
    header.checksum = Raw16::new(checksum::checksum(header.as_bytes()));
    Some(header)
}

/// Makes the `front` bytes of the frame be followed by `carried` of those from `l4` on.
fn move_front<P: Packet>(packet: &mut P, l4: usize, front: usize, carried: usize) -> Option<()> {
    if !packet.set_len(l4 + carried) {
        return None;
    }
    if l4 <= front {
        packet.prepend(front - l4)?;
        return Some(());
    }
    packet.trim_front(l4 - front).then_some(())
}

fn write_link(frame: &mut [u8], hop: NextHop, ethertype: u16) -> Option<usize> {
    let header = ether::Header {
        destination: hop.destination,
        source: hop.source,
        ethertype: ethertype.into(),
    };
    write(frame, 0, header.as_bytes())
}

/// Writes `bytes` at an offset; where they end.
fn write(frame: &mut [u8], at: usize, bytes: &[u8]) -> Option<usize> {
    let end = at + bytes.len();
    frame.get_mut(at..end)?.copy_from_slice(bytes);
    Some(end)
}
