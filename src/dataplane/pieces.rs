//! A datagram in pieces (IP fragments): whose each piece is, and where it goes.
//!
//! Only the first piece has ports, and a card may bring pieces to any worker. So two workers have
//! a part in them, often the same one:
//!
//! ```text
//! whoever received it ──► keeper: a hash of the addresses; remembers ports by identification
//!                           ([`super::frag`]), holds pieces that are before the first
//!                    ──► owner of the flow, as for any packet: the piece goes on by itself, the
//!                           ports travelling beside it ([`Packet::tag`])
//! ```
//!
//! The first piece, which must hold the whole transport header (RFC 1858, RFC 7112), is treated
//! as a whole packet is: it may make a connection. A later one follows the connection, and only
//! its IP header changes. Limits: between the families (NAT64) pieces are refused, and so are
//! pieces of SCTP whose ports would change, since its checksum covers the whole packet.

use zerocopy::FromBytes;

use super::conn::key::{FlowKey, Side};
use super::conn::table::Hit;
use super::family::Family;
use super::flows::{Fate, Flows, Origin, port_mtu, source_mac, translation};
use super::frag;
use super::io::Packet;
use super::parse::{self, Parsed};
use super::rewrite::translate::rewrite_link;
use super::snapshot::Protocol;
use super::verdict::Reason;
use crate::ids::WorkerId;
use crate::wire::{ether, fragment, ipv4, ipv6};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A piece as it lies in an untagged frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<F: Family> {
    /// The datagram it is of.
    pub(super) name: frag::Key,
    /// Its headers; ports and signal are only those of a first piece.
    pub(super) parsed: Parsed<F>,
    /// Has it the transport header?
    pub(super) first: bool,
}

/// A piece of either family.
#[derive(Clone, Copy, Debug)]
pub(super) enum AnyPiece {
    V4(Piece<Ipv4Addr>),
    V6(Piece<Ipv6Addr>),
}

impl AnyPiece {
    /// The piece in a frame that parsing said holds one.
    pub(super) fn read(frame: &[u8]) -> Result<Self, Reason> {
        let (ether, packet) =
            ether::Header::ref_from_prefix(frame).map_err(|_| Reason::Truncated)?;
        if ether.ethertype.get() == ether::IPV6 {
            read_v6(packet).map(Self::V6)
        } else {
            read_v4(packet).map(Self::V4)
        }
    }

    pub(super) fn name(&self) -> frag::Key {
        match self {
            Self::V4(piece) => piece.name,
            Self::V6(piece) => piece.name,
        }
    }

    /// The ports of a first piece.
    pub(super) fn ports(&self) -> Option<u32> {
        match self {
            Self::V4(piece) => piece.first.then_some(piece.parsed.key.ports),
            Self::V6(piece) => piece.first.then_some(piece.parsed.key.ports),
        }
    }
}

fn read_v4(packet: &[u8]) -> Result<Piece<Ipv4Addr>, Reason> {
    let (ip, _) = ipv4::Header::ref_from_prefix(packet).map_err(|_| Reason::Truncated)?;
    let (header, length) = (ip.header_length().into(), ip.total_length.get().into());
    let addresses = ip.addresses.get();
    if !parse::is_host(addresses) {
        return Err(Reason::IpSource);
    }
    let span = ip.span();
    let key = FlowKey { addresses, ports: 0, protocol: ip.protocol };
    let parsed = with_transport(packet, key, (header, length), ip.ttl, span.is_first())?;
    Ok(Piece { name: frag::Key::v4(ip), parsed, first: span.is_first() })
}

fn read_v6(packet: &[u8]) -> Result<Piece<Ipv6Addr>, Reason> {
    let (ip, _) = ipv6::Header::ref_from_prefix(packet).map_err(|_| Reason::Truncated)?;
    let walked = ipv6::walk(packet).ok_or(Reason::Extensions)?;
    let rest = packet.get(walked.offset..).ok_or(Reason::Truncated)?;
    let (piece, _) = fragment::Header::ref_from_prefix(rest).map_err(|_| Reason::Truncated)?;
    let addresses = ip.addresses();
    if !parse::is_host_v6(addresses) {
        return Err(Reason::IpSource);
    }
    let header = walked.offset + fragment::LEN;
    let length = ipv6::LEN + usize::from(ip.payload_length.get());
    let span = piece.span();
    let key = FlowKey { addresses, ports: 0, protocol: piece.next_header };
    let parsed = with_transport(packet, key, (header, length), ip.hop_limit, span.is_first())?;
    let name = frag::Key::v6(zerocopy::transmute!(addresses), piece);
    Ok(Piece { name, parsed, first: span.is_first() })
}

/// The headers of a piece whose IP headers are `header` bytes long, of a packet of `length`.
fn with_transport<F: Family>(
    packet: &[u8],
    key: FlowKey<F>,
    (header, length): (usize, usize),
    ttl: u8,
    first: bool,
) -> Result<Parsed<F>, Reason> {
    let segment = packet.get(header..length).ok_or(Reason::IpTotalLength)?;
    Protocol::from_number(key.protocol).ok_or(Reason::Protocol)?;
    let (ports, signal) = if first { parse::first_piece(key.protocol, segment)? } else { (0, 0) };
    let offset = |bytes: usize| u16::try_from(ether::LEN + bytes).map_err(|_| Reason::Truncated);
    let (l3, l4, end) = (offset(0)?, offset(header)?, offset(length)?);
    Ok(Parsed { key: FlowKey { ports, ..key }, l3, l4, end, ttl, signal })
}

impl Flows {
    /// The worker that remembers the ports of datagrams between these two hosts.
    pub(super) fn keeper(&self, piece: &AnyPiece) -> WorkerId {
        match piece {
            AnyPiece::V4(piece) => self.keeper_of(piece.parsed.key),
            AnyPiece::V6(piece) => self.keeper_of(piece.parsed.key),
        }
    }

    fn keeper_of<F: Family>(&self, key: FlowKey<F>) -> WorkerId {
        let hosts = FlowKey { ports: 0, protocol: 0, ..key };
        self.ownership.request(F::table(&self.tables).hash(hosts))
    }

    /// Who owns the flow of a piece, now that its ports are known. `None` if nobody does.
    pub(super) fn piece_owner(&self, piece: &AnyPiece, ports: u32) -> Option<WorkerId> {
        match piece {
            AnyPiece::V4(piece) => self.flow_owner(piece.parsed.key.with_ports(ports)),
            AnyPiece::V6(piece) => self.flow_owner(piece.parsed.key.with_ports(ports)),
        }
        .map(|(_, owner)| owner)
    }

    /// A piece of one of our flows.
    #[cold]
    pub(super) fn piece<P: Packet>(
        &mut self,
        packet: &mut P,
        piece: &AnyPiece,
        ports: u32,
    ) -> Fate {
        match piece {
            AnyPiece::V4(piece) => self.piece_of(packet, piece, ports),
            AnyPiece::V6(piece) => self.piece_of(packet, piece, ports),
        }
    }

    fn piece_of<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        piece: &Piece<F>,
        ports: u32,
    ) -> Fate {
        let parsed = Parsed { key: piece.parsed.key.with_ports(ports), ..piece.parsed };
        let table = F::table(&self.tables);
        let found = table.find(parsed.key, table.hash(parsed.key));
        let record = found.map(|hit| table.record(hit.slot));
        if record.is_some_and(|record| !record.takes_pieces()) {
            return self.count(Reason::Fragment);
        }
        match found {
            Some(hit) if piece.first => self.established(packet, &parsed, hit, Origin::Handover),
            Some(hit) => self.later_piece(packet, &parsed, hit),
            None if piece.first => self.unknown(packet, &parsed, Origin::Handover),
            None => self.count(Reason::NoConnection),
        }
    }

    /// A piece without transport header: it goes the way of its connection.
    fn later_piece<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        hit: Hit,
    ) -> Fate {
        let record = F::table_mut(&mut self.tables).record_mut(hit.slot);
        if hit.side == Side::Client {
            record.set_client_link(packet.port(), source_mac(packet.data()));
        }
        record.seen_ms = self.now_ms;
        let record = *record;
        let Some(next_hop) = self.hop_to(&record, hit.side.opposite()) else {
            return self.count(Reason::NextHop);
        };
        if parsed.ttl <= 1 {
            return self.count(Reason::TtlExpired);
        }
        let port_mtu = port_mtu(&self.snapshot, next_hop.port);
        let too_long = parsed.end - parsed.l3 > self.path_mtu(&record, hit.side, port_mtu);
        if too_long && !self.may_cut(packet.data(), parsed, &record) {
            return self.count(Reason::TooBig);
        }
        let translation = translation(&record, hit.side, next_hop);
        let frame = packet.data_mut();
        let network = usize::from(parsed.l3)..usize::from(parsed.l4);
        let done = rewrite_link(frame, next_hop)
            && frame
                .get_mut(network)
                .is_some_and(|header| F::rewrite_network(header, &translation));
        match record.wrapping() {
            _ if !done => self.count(Reason::Truncated),
            Some(encapsulation) => self.wrap(packet, parsed, encapsulation, &record),
            None if too_long => Fate::Cut(next_hop.port, port_mtu),
            None => Fate::Send(next_hop.port),
        }
    }
}
