//! A datagram in pieces (IP fragments): whose each piece is, and where it goes.
//!
//! Only the first piece has ports, and a card may bring pieces to any worker. So two workers have
//! a part in them, often the same one:
//!
//! ```text
//! whoever received it ──► keeper: a hash of the addresses; remembers ports by identification
//!                           ([`super::frag`]), holds pieces that are before the first
//!                    ──► owner of the flow, as for any packet: the piece goes on by itself, the
//!                           ports travelling beside it ([`AnyPiece::tag`])
//! ```
//!
//! The first piece, which must hold the whole transport header (RFC 1858, RFC 7112), is treated
//! as a whole packet is: it may make a connection. A later one follows the connection, and only
//! its IP header changes. An IPv6 packet with a fragment header that is all of its datagram (an
//! atomic fragment) has nothing to do with others of its name (RFC 6946): it needs no keeper.
//!
//! SCTP's checksum is a CRC, which new ports change by an amount that depends on the length of the
//! whole packet. So its pieces wait at their keeper until the first and the last have come; the
//! first one's checksum is then made right for all of them ([`sctp::foretell`]).
//!
//! Pieces of what is not balanced are the kernel's, as whole packets are: pings in pieces, and what
//! NAT backends send to the box itself. Limits: no SCTP association begins in pieces; IPv6 pieces
//! that begin with an extension header are refused as [`Reason::Extensions`] (so RFC 7915, 5.1.1).

use zerocopy::FromBytes;

use super::admit::starts;
use super::conn::key::{FlowKey, Side};
use super::conn::record::Record;
use super::conn::table::Hit;
use super::endings::Cause;
use super::established::{sender, translation};
use super::family::Family;
use super::fate::{Fate, Origin, PuntClass};
use super::flows::Flows;
use super::frag::{self, Told};
use super::introduce;
use super::io::Packet;
use super::parse::{self, Parsed};
use super::rewrite::number;
use super::snapshot::Protocol;
use super::verdict::Reason;
use crate::ids::WorkerId;
use crate::wire::fragment::Span;
use crate::wire::{ether, fragment, ipv4, ipv6, sctp};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A piece as it lies in an untagged frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<F: Family> {
    /// The datagram it is of.
    pub(super) name: frag::Key,
    /// Its headers; without ports and signal if it has no transport header.
    pub(super) parsed: Parsed<F>,
    /// Which part it is.
    pub(super) part: Part,
    /// Bytes of the datagram, if it is the last.
    end: Option<u16>,
}

/// Which part of its datagram a piece is, and what may become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// The one with the transport header.
    First,
    /// That one, of a packet whose checksum depends on the length of it all.
    FirstOfCrc,
    /// That one, but nothing that can go on.
    Unfit(Reason),
    /// One after it.
    Later,
    /// Any part, of a protocol that is not balanced.
    Foreign,
}

/// Makes a tag of a length, which may be 0.
const TAG_LENGTH: u32 = 1 << 16;

impl Part {
    fn has_ports(self) -> bool {
        matches!(self, Self::Whole | Self::First | Self::FirstOfCrc)
    }
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

    pub(super) fn part(&self) -> Part {
        match self {
            Self::V4(piece) => piece.part,
            Self::V6(piece) => piece.part,
        }
    }

    /// What it says itself: the ports, if it has the transport header.
    pub(super) fn told(&self) -> Told {
        let ports = match self {
            Self::V4(piece) => piece.parsed.key.ports,
            Self::V6(piece) => piece.parsed.key.ports,
        };
        Told { ports, length: 0 }
    }

    /// Where its datagram ends, if it is the last.
    pub(super) fn end(&self) -> Option<u16> {
        match self {
            Self::V4(piece) => piece.end,
            Self::V6(piece) => piece.end,
        }
    }

    /// What was found out about its datagram as a tag beside it, for whoever has the piece itself:
    /// of one with the ports the length, of another the ports. 0 says nothing.
    pub(super) fn tag(&self, told: Told) -> u32 {
        if self.part().has_ports() { TAG_LENGTH | u32::from(told.length) } else { told.ports }
    }

    /// The reverse of [`AnyPiece::tag`].
    pub(super) fn untagged(&self, tag: u32) -> Told {
        if !self.part().has_ports() {
            return Told { ports: tag, length: 0 };
        }
        let length = u16::try_from(tag & !TAG_LENGTH).unwrap_or(0);
        Told { length, ..self.told() }
    }

    fn destination_and_protocol(&self) -> (IpAddr, u8) {
        match self {
            Self::V4(Piece { parsed, .. }) => {
                (parsed.key.destination().into(), parsed.key.protocol)
            }
            Self::V6(Piece { parsed, .. }) => {
                (parsed.key.destination().into(), parsed.key.protocol)
            }
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
    let key = FlowKey { addresses, ports: 0, protocol: ip.protocol };
    with_transport(packet, key, (header, length), ip.ttl, (ip.span(), frag::Key::v4(ip)))
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
    if matches!(piece.next_header, ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS) {
        return Err(Reason::Extensions);
    }
    let key = FlowKey { addresses, ports: 0, protocol: piece.next_header };
    let name = frag::Key::v6(zerocopy::transmute!(addresses), piece);
    with_transport(packet, key, (header, length), ip.hop_limit, (piece.span(), name))
}

/// The piece whose IP headers are `header` bytes long, of a packet of `length`.
fn with_transport<F: Family>(
    packet: &[u8],
    key: FlowKey<F>,
    (header, length): (usize, usize),
    ttl: u8,
    (span, name): (Span, frag::Key),
) -> Result<Piece<F>, Reason> {
    let segment = packet.get(header..length).ok_or(Reason::IpTotalLength)?;
    let (part, (ports, signal)) = match Protocol::from_number(key.protocol) {
        None => (Part::Foreign, (0, 0)),
        Some(_) if span.is_later() => (Part::Later, (0, 0)),
        Some(_) => match parse::first_piece(key.protocol, segment) {
            Ok(said) if span.is_piece() && key.protocol == ipv4::SCTP => (Part::FirstOfCrc, said),
            Ok(said) if span.is_piece() => (Part::First, said),
            Ok(said) => (Part::Whole, said),
            Err(reason) => (Part::Unfit(reason), (0, 0)),
        },
    };
    let offset = |bytes: usize| u16::try_from(ether::LEN + bytes).map_err(|_| Reason::Truncated);
    let (l3, l4, end) = (offset(0)?, offset(header)?, offset(length)?);
    let parsed = Parsed { key: FlowKey { ports, ..key }, l3, l4, end, ttl, signal };
    let is_last = span.is_later() && !span.more;
    let end = span.offset.checked_add(end - l4).filter(|_| is_last);
    Ok(Piece { name, parsed, part, end })
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
            AnyPiece::V4(piece) => self.flow_owners(piece.parsed.key.with_ports(ports)),
            AnyPiece::V6(piece) => self.flow_owners(piece.parsed.key.with_ports(ports)),
        }
        .map(|owners| owners.first)
    }

    /// What becomes of a piece of a protocol that is not balanced.
    #[cold]
    pub(super) fn foreign_piece(&self, piece: &AnyPiece) -> Fate {
        let (to, protocol) = piece.destination_and_protocol();
        match (to, protocol) {
            (IpAddr::V4(_), ipv4::ICMP) | (IpAddr::V6(_), ipv6::ICMPV6) => self.ping(to),
            _ if self.snapshot.is_vip(to) || self.snapshot.is_local(to) => {
                self.count(Reason::Protocol)
            }
            _ => Fate::Punt(PuntClass::Other),
        }
    }

    /// A piece of one of our flows.
    #[cold]
    pub(super) fn piece<P: Packet>(
        &mut self,
        packet: &mut P,
        piece: &AnyPiece,
        told: Told,
    ) -> Fate {
        match piece {
            AnyPiece::V4(piece) => self.numbered(packet, piece, told),
            AnyPiece::V6(piece) => self.numbered(packet, piece, told),
        }
    }

    /// A piece, and the number of its datagram, where that has to be ours ([`number`]).
    fn numbered<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        piece: &Piece<F>,
        told: Told,
    ) -> Fate {
        let fate = self.piece_of(packet, piece, told);
        let goes_on = matches!(fate, Fate::Send(_) | Fate::Cut(..) | Fate::SendBehind(..));
        if goes_on && piece.part != Part::Whole {
            let key = piece.parsed.key.with_ports(told.ports);
            let table = F::table(&self.tables);
            let hit = table.find(key, table.hash(key)).filter(|hit| hit.side == Side::Client);
            let mask = hit.map_or(0, |hit| self.number_mask(table.record(hit.slot)));
            // An answer to what was refused is no piece.
            number::mask_piece(packet.data_mut().get_mut(ether::LEN..).unwrap_or_default(), mask);
        }
        fate
    }

    /// What the numbers of a client's datagrams are changed by; 0 where they stay.
    #[expect(clippy::cast_possible_truncation, reason = "half of it is enough")]
    pub(super) fn number_mask<F: Family>(&self, record: &Record<F>) -> u32 {
        if record.shows_client() {
            return 0;
        }
        F::table(&self.tables).shown(record.key(Side::Client).addresses) as u32
    }

    fn piece_of<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        piece: &Piece<F>,
        told: Told,
    ) -> Fate {
        let parsed = &Parsed { key: piece.parsed.key.with_ports(told.ports), ..piece.parsed };
        let found = self.connection_of(parsed, piece.part);
        let crossed = if found.is_some() { None } else { F::crossed(&self.tables, parsed.key) };
        if let (None, None, Some(owners)) = (found, crossed, self.flow_owners(parsed.key))
            && let Some(owner) = self.next_elsewhere(owners)
        {
            return Fate::HandOver(owner);
        }
        if piece.part == Part::FirstOfCrc {
            // No association begins in pieces.
            let Some(ports) = self.new_ports::<F>(found, crossed) else {
                return self.count(Reason::Fragment);
            };
            // What is refused is quoted as it came.
            if self.goes_on(packet.data(), parsed, found, crossed) {
                foretell(packet, parsed, ports, told.length);
            }
        }
        match (found, crossed) {
            (Some(hit), _) if piece.part.has_ports() => {
                self.established(packet, parsed, hit, Origin::Handover)
            }
            (Some(hit), _) => self.later_piece(packet, parsed, hit),
            _ if piece.part.has_ports() => self.unknown(packet, parsed, Origin::Handover),
            (None, Some(hit)) => self.cross_back_later(packet, parsed, hit.slot),
            // The first one was refused, and counted by its reason.
            (None, None) => self.count(Reason::Fragment),
        }
    }

    /// The connection of a piece in its own family's table. One whose backend is gone makes room
    /// for a new one, which another worker may own; an association that is over does so here, as a
    /// piece of SCTP must not find itself in a new one.
    fn connection_of<F: Family>(&mut self, parsed: &Parsed<F>, part: Part) -> Option<Hit> {
        let table = F::table(&self.tables);
        let hit = table.find(parsed.key, table.hash(parsed.key))?;
        let record = table.record(hit.slot);
        let is_over = part == Part::FirstOfCrc && record.state().is_reusable();
        let backend = self.snapshot.backend(record.backend_id()).filter(|_| !is_over);
        if backend.is_some() || hit.side == Side::Backend || !part.has_ports() || !starts(parsed) {
            return Some(hit);
        }
        self.announce::<F>(hit.slot, Cause::Order, &[Side::Backend]);
        self.forget::<F>(hit.slot);
        None
    }

    /// The ports that packets of a connection get, of the piece's own family or between both.
    fn new_ports<F: Family>(&self, found: Option<Hit>, crossed: Option<Hit>) -> Option<u32> {
        if let Some(hit) = found {
            return Some(F::table(&self.tables).record(hit.slot).translated(hit.side).ports);
        }
        let hit = crossed?;
        Some(self.tables.v6.record(hit.slot).translated(hit.side).ports)
    }

    /// Will a first piece of a connection go on?
    fn goes_on<F: Family>(
        &self,
        frame: &[u8],
        parsed: &Parsed<F>,
        found: Option<Hit>,
        crossed: Option<Hit>,
    ) -> bool {
        let asked = match (found, crossed) {
            (Some(hit), _) => {
                let record = F::table(&self.tables).record(hit.slot);
                Some(self.ask(frame, parsed, (record, hit.side)))
            }
            (None, Some(hit)) => Some(self.ask_back(frame, parsed, hit.slot)),
            (None, None) => None,
        };
        asked.is_some_and(|asked| asked.is_ok())
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
            record.set_client_link(packet.port(), sender(packet.data()));
        }
        let record = F::table(&self.tables).record(hit.slot);
        let onward = match self.leaves(record, hit.side, parsed.ttl) {
            Ok(next_hop) => self.onward(record, hit.side, next_hop),
            Err(reason) => return self.count(reason),
        };
        let Ok(too_long) = self.fits(packet.data(), parsed, record, onward.mtu) else {
            return self.count(Reason::TooBig);
        };
        let (crosses, by) = (record.is_crossed(), introduce::displaced(record, hit.side));
        let translation = translation(record, hit.side);
        let record = F::table_mut(&mut self.tables).record_mut(hit.slot);
        record.seen_ms = self.now_ms;
        self.volumes.count(record.backend_id(), hit.side, parsed.length());
        let frame = packet.data_mut();
        if displace(frame, parsed, by).is_none() {
            return self.count(Reason::NoRoom);
        }
        if crosses {
            return self.cross_over_later(packet, parsed, &translation, &onward);
        }
        let network = usize::from(parsed.l3)..usize::from(parsed.l4);
        let done = onward.next_hop.pair().store(frame)
            && frame
                .get_mut(network)
                .is_some_and(|header| F::rewrite_network(header, &translation));
        match onward.outer {
            _ if !done => self.count(Reason::Truncated),
            Some(outer) => self.wrap(packet, parsed, outer, &onward),
            None if too_long => Fate::Cut(onward.next_hop.port, onward.way),
            None => Fate::Send(onward.next_hop.port),
        }
    }
}

/// Prepares an SCTP packet's first piece, which is to get these ports, for being rewritten as if it
/// were all of its `length` bytes.
fn foretell<F: Family, P: Packet>(packet: &mut P, parsed: &Parsed<F>, ports: u32, length: u16) {
    let piece = packet.data_mut().get_mut(parsed.l4.into()..parsed.end.into());
    sctp::foretell(piece.unwrap_or_default(), ports, length.into());
}

/// Moves a piece so many bytes, a multiple of 8, towards the end of its datagram. `None` if that
/// would be behind the longest.
fn displace<F: Family>(frame: &mut [u8], parsed: &Parsed<F>, by: u16) -> Option<()> {
    if by == 0 {
        return Some(());
    }
    let bytes = parsed.end - parsed.l4;
    let moved = |span: Span| {
        let offset = span.offset.checked_add(by)?;
        offset.checked_add(bytes)?;
        Some(Span { offset, ..span })
    };
    if F::IS_V6 {
        let at = usize::from(parsed.l4).checked_sub(fragment::LEN)?;
        let (header, _) = fragment::Header::mut_from_prefix(frame.get_mut(at..)?).ok()?;
        let span = moved(header.span())?;
        header.set_span(span);
        return Some(());
    }
    let header = frame.get_mut(usize::from(parsed.l3)..)?;
    let (header, _) = ipv4::Header::mut_from_prefix(header).ok()?;
    let span = moved(header.span())?;
    header.set_span(span);
    Some(())
}
