//! Errors about connections between the families (NAT64): ICMP becomes `ICMPv6` and the other way
//! round, the quoted packet included (RFC 7915 sections 4.2, 4.3, 5.2 and 5.3).
//!
//! ```text
//! │ Ethernet │ IP │ ICMP │ quoted IP │ what it carried …
//! └──────────── written anew ────────┘ only ports and checksum change
//! ```
//!
//! Extensions behind the quote (RFC 4884) are passed on where the other family has a place for
//! them, which is not in Packet Too Big nor, in IPv6, in parameter problem; how long the quote in
//! front of them is, padded, is said anew in the new header's words.

use std::net::{Ipv4Addr, Ipv6Addr};

use arrayvec::ArrayVec;
use zerocopy::{FromBytes, IntoBytes};

use super::convert;
use super::message::{HEADER, Message, QUOTE_MIN, extension_unit, seal, takes_extensions};
use super::quote::{Quote, rewrite_transport};
use crate::dataplane::conn::key::{FlowKey, Side};
use crate::dataplane::conn::record::Record;
use crate::dataplane::cross::DIFFERENCE;
use crate::dataplane::family::Family;
use crate::dataplane::fate::Fate;
use crate::dataplane::flows::Flows;
use crate::dataplane::introduce;
use crate::dataplane::io::Packet;
use crate::dataplane::onward::port_mtu;
use crate::dataplane::reply::IcmpError;
use crate::dataplane::rewrite::{number, translation_deltas};
use crate::dataplane::snapshot::NextHop;
use crate::dataplane::verdict::Reason;
use crate::wire::{Raw16, Raw64, checksum, ether, fragment, ipv4, ipv6};

/// Longest ICMP error (RFC 1812 section 4.3.2.3) and `ICMPv6` error (RFC 4443 section 2.4 c).
const LENGTH_MAX_V4: usize = 576;
const LENGTH_MAX_V6: usize = ipv6::MTU_MIN as usize;
/// Bytes in front of the quoted packet.
const FRONT_V4: usize = ether::LEN + ipv4::LEN + HEADER;
const FRONT_V6: usize = ether::LEN + ipv6::LEN + HEADER;

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
        let hop = match self.leaves(&record, Side::Backend, message.ttl) {
            Ok(hop) => hop,
            Err(reason) => return self.count(reason),
        };
        let Some(error) = in_family::<F, Ipv6Addr>(packet.data(), message) else {
            return self.count(Reason::IcmpUntold);
        };
        let error = at_most(error, port_mtu(&self.snapshot, hop.port));
        let error = less(error, introduce::room(&record));
        introduce::take_back(quote.segment(packet.data_mut()), &record);
        number::mask_piece(quote.packet(packet.data_mut()), self.number_mask(&record));
        let about = record.key(Side::Client);
        let done = to_v6(packet, message, quote, about, error, hop);
        self.sent(done, hop, (&record, Side::Backend, message.length()))
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
            return self.count(Reason::IcmpUntold);
        };
        let error = at_most(error, port_mtu(&self.snapshot, hop.port));
        let delta = translation_deltas(quote.key, record.key(Side::Backend)).1;
        let done = ports_changed(packet, quote, about.ports, delta)
            .and_then(|()| to_v4(packet, message, quote, about, error, hop));
        self.sent(done, hop, (record, Side::Client, message.length()))
    }

    fn sent<F: Family>(
        &self,
        done: Option<()>,
        hop: NextHop,
        (record, side, length): (&Record<F>, Side, u16),
    ) -> Fate {
        if done.is_none() {
            return self.count(Reason::NoRoom);
        }
        self.volumes.count(record.backend_id(), side, length);
        Fate::Send(hop.port)
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

/// An error that promises no more than the way to whoever gets it carries (RFC 7915 sections 4.2
/// and 5.2).
fn at_most(error: IcmpError, mtu: u16) -> IcmpError {
    match error {
        IcmpError::TooBig { mtu: told } => IcmpError::TooBig { mtu: told.min(mtu) },
        other => other,
    }
}

/// An error that leaves room for what is inserted into a client's packets. Nobody sends less than
/// every IPv6 way carries: that goes without DF.
fn less(error: IcmpError, room: u16) -> IcmpError {
    match error {
        IcmpError::TooBig { mtu } => {
            IcmpError::TooBig { mtu: mtu.saturating_sub(room).max(ipv6::MTU_MIN) }
        }
        other => other,
    }
}

fn ports_changed<F: Family, P: Packet>(
    packet: &mut P,
    quote: &Quote<F>,
    ports: u32,
    delta: checksum::Delta,
) -> Option<()> {
    let segment = quote.segment(packet.data_mut());
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
    let inner = Inner::v6(quoted, quote.key.protocol, about)?;
    let was = FlowKey::<Ipv4Addr>::new(
        quote.key.protocol,
        (quoted.source(), quote.key.source_port()),
        (quoted.destination(), quote.key.destination_port()),
    );
    let delta = translation_deltas(was.mapped(), about).1;
    ports_changed(packet, quote, about.ports, delta)?;
    let room = LENGTH_MAX_V6 - ipv6::LEN - HEADER;
    let tail = Tail::lay::<F, Ipv6Addr, P>(packet, message, quote, &inner, error, room)?;
    move_front(packet, quote.l4, FRONT_V6 + inner.bytes.len(), tail.length)?;
    let addresses = ipv6::address_pair(about.destination(), about.source());
    let outer = ipv6::Header {
        version_class_label: ipv6::version_class(tos),
        payload_length: u16::try_from(HEADER + inner.bytes.len() + tail.length).ok()?.into(),
        next_header: ipv6::ICMPV6,
        hop_limit: message.ttl.wrapping_sub(1),
        addresses: addresses.map(Raw64::new),
    };
    let frame = packet.data_mut();
    let at = write_link(frame, hop, ether::IPV6)?;
    let at = write(frame, at, outer.as_bytes())?;
    let body = write(frame, at, &tail.header::<Ipv6Addr>(error))?;
    write(frame, body, &inner.bytes)?;
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
    let inner = Inner::v4(packet.data().get(quote.at..)?, quote, about)?;
    let room = LENGTH_MAX_V4 - ipv4::LEN - HEADER;
    let tail = Tail::lay::<F, Ipv4Addr, P>(packet, message, quote, &inner, error, room)?;
    move_front(packet, quote.l4, FRONT_V4 + inner.bytes.len(), tail.length)?;
    let addresses = ipv4::address_pair(about.destination(), about.source());
    let length = ipv4::LEN + HEADER + inner.bytes.len() + tail.length;
    let outer = header_v4(tos, length, message.ttl.wrapping_sub(1), ipv4::ICMP, addresses)?;
    let frame = packet.data_mut();
    let at = write_link(frame, hop, ether::IPV4)?;
    let at = write(frame, at, outer.as_bytes())?;
    let body = write(frame, at, &tail.header::<Ipv4Addr>(error))?;
    write(frame, body, &inner.bytes)?;
    seal::<Ipv4Addr>(frame.get_mut(at..)?, addresses)
}

/// The IP headers of the quoted packet in the other family.
struct Inner {
    bytes: ArrayVec<u8, { ipv6::LEN + fragment::LEN }>,
}

impl Inner {
    /// Of a quoted IPv4 packet; one in pieces gets a fragment header.
    fn v6(quoted: &ipv4::Header, protocol: u8, about: FlowKey<Ipv6Addr>) -> Option<Self> {
        let span = quoted.span();
        let number = quoted.identification.get().into();
        let piece = span.is_piece().then(|| fragment::Header::new(protocol, span, number));
        let piece = piece.as_ref().map_or(&[][..], IntoBytes::as_bytes);
        let carried = quoted.total_length.get().checked_sub(quoted.header_length().into())?;
        let header = ipv6::Header {
            version_class_label: ipv6::version_class(quoted.tos),
            payload_length: carried.checked_add(u16::try_from(piece.len()).ok()?)?.into(),
            next_header: if piece.is_empty() { protocol } else { ipv6::FRAGMENT },
            hop_limit: quoted.ttl,
            addresses: about.addresses.map(Raw64::new),
        };
        let mut bytes = ArrayVec::new();
        bytes.try_extend_from_slice(header.as_bytes()).ok()?;
        bytes.try_extend_from_slice(piece).ok()?;
        Some(Self { bytes })
    }

    /// Of the quoted IPv6 packet in `ip`.
    fn v4<F: Family>(ip: &[u8], quote: &Quote<F>, about: FlowKey<Ipv4Addr>) -> Option<Self> {
        let (quoted, _) = ipv6::Header::ref_from_prefix(ip).ok()?;
        let extensions = (quote.l4 - quote.at).checked_sub(ipv6::LEN)?;
        let behind = usize::from(quoted.payload_length.get()).checked_sub(extensions)?;
        let mut header = header_v4(
            quoted.traffic_class(),
            ipv4::LEN + behind,
            quoted.hop_limit,
            quote.key.protocol,
            about.addresses,
        )?;
        if let Some(piece) = fragment::of_v6(ip) {
            let [.., high, low] = piece.identification.to_bytes();
            header.identification.set(u16::from_be_bytes([high, low]));
            header.flags_fragment.set(piece.span().bits_v4());
            header.checksum = Raw16::ZERO;
            header.checksum = Raw16::new(checksum::checksum(header.as_bytes()));
        }
        let mut bytes = ArrayVec::new();
        bytes.try_extend_from_slice(header.as_bytes()).ok()?;
        Some(Self { bytes })
    }
}

/// What follows the quoted IP headers: what the packet carried, and extensions (RFC 4884).
struct Tail {
    /// Bytes of all of it.
    length: usize,
    /// The length of the quote in the header's words; 0 without extensions.
    words: u8,
}

impl Tail {
    /// Puts extensions where they belong behind the quote, filled up with zeros to the least they
    /// follow. The quote is cut to what the message has `room` for; extensions that have no place
    /// in the new message, or no room, are left out.
    fn lay<F: Family, G: Family, P: Packet>(
        packet: &mut P,
        message: &Message<F>,
        quote: &Quote<F>,
        inner: &Inner,
        error: IcmpError,
        room: usize,
    ) -> Option<Self> {
        let (headers, unit) = (inner.bytes.len(), extension_unit::<G>());
        let carried = message.quoted_end(packet.data()).checked_sub(quote.l4)?;
        let kind = error.header::<G>()[0];
        let extensions = message.extensions().filter(|_| takes_extensions::<G>(kind));
        let fitting = extensions.and_then(|extensions| {
            let most = room.checked_sub(extensions.len())? / unit * unit;
            (most >= QUOTE_MIN).then_some((extensions, most))
        });
        let Some((extensions, most)) = fitting else {
            return Some(Self { length: carried.min(room - headers), words: 0 });
        };
        let carried = carried.min(most - headers);
        let quoted = (headers + carried).max(QUOTE_MIN).next_multiple_of(unit);
        let at = quote.l4 + quoted - headers;
        let length = quoted - headers + extensions.len();
        if !packet.set_len(extensions.end.max(quote.l4 + length)) {
            return None;
        }
        let frame = packet.data_mut();
        frame.copy_within(extensions, at);
        frame.get_mut(quote.l4 + carried..at)?.fill(0);
        Some(Self { length, words: u8::try_from(quoted / unit).ok()? })
    }

    /// The ICMP header in front of all.
    fn header<G: Family>(&self, error: IcmpError) -> [u8; HEADER] {
        let mut header = error.header::<G>();
        let place = header.get_mut(if G::IS_V6 { 4 } else { 5 });
        if let Some(place) = place.filter(|_| self.words > 0) {
            *place = self.words;
        }
        header
    }
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
