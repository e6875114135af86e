//! Telling the backend who the client is: TOA and PROXY protocol.
//!
//! **TOA** (TCP option address): an option of 8 bytes (IPv6: 20) with the client's address and
//! port, in front of the options of the SYN and of the first data. One that a client wrote itself
//! is overwritten by no-operations, in whatever segment. Where the option does not fit, 40 bytes
//! of options or the way's MTU being full, the segment goes without.
//!
//! **PROXY protocol**: in UDP a header in front of every datagram. In TCP the header is the
//! stream's first bytes: it goes with the first segment behind the SYN, which is the client's
//! ACK, so that a backend that speaks first has it too. Until the backend has acknowledged it,
//! every segment that starts there carries it: a retransmission does.
//!
//! ```text
//!            client's stream        first │ data ……
//!            backend's stream       first │ header │ data ……        shifted by its length
//!
//! client ──► backend   sequence number + length       backend ──► client   acknowledgment − length
//!                                                                           SACK edges − length
//! ```
//!
//! The MSS the backend announces is lowered by what will be inserted, so that the client leaves
//! room. Data in a SYN (RFC 7413) would be in front of the header: it is cut off, and comes again.

use zerocopy::FromBytes;

use super::conn::key::Side;
use super::conn::record::Record;
use super::family::Family;
use super::io::Packet;
use super::parse::Parsed;
use super::rewrite::insert;
use super::snapshot::{ClientAddress, Protocol};
use crate::wire::Be32;
use crate::wire::checksum::Delta;
use crate::wire::proxy::{self, Ends, Transport};
use crate::wire::tcp::{self, options};

/// TOA's kind for IPv4 clients, and the kinds a client may have forged.
const TOA_V4: u8 = 254;
const TOA_KINDS: [u8; 2] = [253, 254];
/// Longest TCP header.
const TCP_HEADER_MAX: usize = 60;
/// Longest TOA option.
const TOA_MAX: usize = 20;

/// What is to be inserted into a packet, and where in the frame.
#[derive(Clone, Copy, Debug)]
pub(super) enum Insertion {
    /// Nothing, but numbers may have to shift.
    Nothing,
    /// An option, in front of the others.
    Option([u8; TOA_MAX], usize),
    /// A PROXY header, in front of the payload.
    Header(proxy::Header),
}

impl Insertion {
    /// Bytes the packet grows by.
    pub(super) fn length(&self) -> u16 {
        let length = match self {
            Self::Nothing => 0,
            Self::Option(_, length) => *length,
            Self::Header(header) => header.as_bytes().len(),
        };
        u16::try_from(length).unwrap_or(u16::MAX)
    }

    /// May the packet go without it, where there is no room?
    pub(super) fn can_be_left_out(&self) -> bool {
        !matches!(self, Self::Header(_))
    }
}

/// How many bytes a service's way of introducing clients puts into the stream of one with these
/// ends: nothing but with PROXY protocol over TCP.
pub(super) fn in_stream<F: Family>(record: &Record<F>) -> u8 {
    if record.protocol() != Protocol::Tcp as u8 {
        return 0;
    }
    let length = proxy_header(record).map_or(0, |header| header.as_bytes().len());
    u8::try_from(length).unwrap_or(0)
}

fn proxy_header<F: Family>(record: &Record<F>) -> Option<proxy::Header> {
    let is_udp = record.protocol() == Protocol::Udp as u8;
    let transport = if is_udp { Transport::Datagram } else { Transport::Stream };
    let key = record.key(Side::Client);
    let source = (key.source().into(), key.source_port());
    let ends = Ends::between(source, (key.destination().into(), key.destination_port()))?;
    match record.introduction() {
        ClientAddress::ProxyV1 => Some(proxy::v1(&ends)),
        ClientAddress::ProxyV2 => Some(proxy::v2(transport, &ends)),
        ClientAddress::None | ClientAddress::Toa { .. } => None,
    }
}

/// What has to go into a client's packet.
pub(super) fn insertion<F: Family>(
    frame: &[u8],
    parsed: &Parsed<F>,
    record: &Record<F>,
) -> Insertion {
    if parsed.key.protocol == Protocol::Udp as u8 {
        return proxy_header(record).map_or(Insertion::Nothing, Insertion::Header);
    }
    let Some(segment) = segment(frame, parsed) else { return Insertion::Nothing };
    let Ok((header, _)) = tcp::Header::ref_from_prefix(segment) else { return Insertion::Nothing };
    let is_syn = header.flags & tcp::SYN != 0;
    let at_first = header.sequence.get() == record.first_sequence() && !is_syn;
    let has_data = segment.len() > usize::from(header.header_length());
    match record.introduction() {
        ClientAddress::Toa { kind_v6 } if is_syn || (at_first && has_data) => {
            toa(record, kind_v6, usize::from(header.header_length()))
        }
        ClientAddress::ProxyV1 | ClientAddress::ProxyV2
            if at_first && !record.is_delivered() && header.flags & tcp::RST == 0 =>
        {
            proxy_header(record).map_or(Insertion::Nothing, Insertion::Header)
        }
        _ => Insertion::Nothing,
    }
}

/// The option, if a header of that length has room for it.
fn toa<F: Family>(record: &Record<F>, kind_v6: u8, header_length: usize) -> Insertion {
    let key = record.key(Side::Client);
    let (kind, length) = if F::IS_V6 { (kind_v6, TOA_MAX) } else { (TOA_V4, 8) };
    if header_length + length > TCP_HEADER_MAX {
        return Insertion::Nothing;
    }
    let mut bytes = [0; TOA_MAX];
    let [high, low] = key.source_port().to_be_bytes();
    let address: std::net::IpAddr = key.source().into();
    let front = [kind, if F::IS_V6 { 20 } else { 8 }, high, low];
    let address = match address {
        std::net::IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        std::net::IpAddr::V6(address) => address.octets(),
    };
    for (place, byte) in bytes.iter_mut().zip(front.iter().chain(&address)) {
        *place = *byte;
    }
    Insertion::Option(bytes, length)
}

fn segment<'a, F: Family>(frame: &'a [u8], parsed: &Parsed<F>) -> Option<&'a [u8]> {
    frame.get(usize::from(parsed.l4)..usize::from(parsed.end))
}

/// Does to a client's packet what follows from how clients are introduced. `None` without room.
pub(super) fn from_client<F: Family, P: Packet>(
    packet: &mut P,
    parsed: &mut Parsed<F>,
    record: &Record<F>,
    insertion: &Insertion,
) -> Option<()> {
    if parsed.key.protocol == Protocol::Udp as u8 {
        let Insertion::Header(header) = insertion else { return Some(()) };
        return insert::into_datagram(packet, parsed, header.as_bytes());
    }
    prepare_segment(packet, parsed, record)?;
    let l4 = usize::from(parsed.l4);
    match insertion {
        Insertion::Nothing => Some(()),
        Insertion::Option(bytes, length) => {
            insert::into_options(packet, parsed, bytes.get(..*length)?)
        }
        Insertion::Header(header) => {
            let segment = packet.data().get(l4..)?;
            let (tcp, _) = tcp::Header::ref_from_prefix(segment).ok()?;
            let at = l4 + usize::from(tcp.header_length());
            insert::into_stream(packet, parsed, at, header.as_bytes())
        }
    }
}

/// Options nobody may forge, and the numbers of what comes behind the header.
fn prepare_segment<F: Family, P: Packet>(
    packet: &mut P,
    parsed: &mut Parsed<F>,
    record: &Record<F>,
) -> Option<()> {
    let inserted = record.inserted();
    if inserted > 0 && parsed.signal & tcp::SYN != 0 {
        insert::cut_payload(packet, parsed)?;
    }
    let segment = packet.data_mut().get_mut(usize::from(parsed.l4)..usize::from(parsed.end))?;
    let mut delta = Delta::ZERO;
    if matches!(record.introduction(), ClientAddress::Toa { .. }) {
        for kind in TOA_KINDS {
            delta = delta.plus(options::blank(options::area_mut(segment), kind));
        }
    }
    let (tcp, _) = tcp::Header::mut_from_prefix(segment).ok()?;
    let sequence = tcp.sequence.get();
    let behind = sequence.wrapping_sub(record.first_sequence());
    let is_before = behind == 0 || behind > u32::MAX / 2;
    let stays = tcp.flags & tcp::SYN != 0 || (is_before && !record.is_delivered());
    if inserted > 0 && !stays {
        delta = delta.plus(set_number(&mut tcp.sequence, sequence.wrapping_add(inserted.into())));
    }
    tcp.checksum.set(delta.apply(tcp.checksum.get()));
    Some(())
}

/// Does to a backend's segment what follows from what was inserted into the client's. True if it
/// acknowledges all of it.
pub(super) fn from_backend<F: Family, G: Family>(
    frame: &mut [u8],
    parsed: &Parsed<F>,
    record: &Record<G>,
) -> Option<bool> {
    if parsed.key.protocol != Protocol::Tcp as u8 {
        return Some(false);
    }
    let segment = frame.get_mut(usize::from(parsed.l4)..usize::from(parsed.end))?;
    let mut delta = Delta::ZERO;
    if parsed.signal & tcp::SYN != 0 {
        delta = delta.plus(lower_mss(segment, record));
    }
    let inserted = u32::from(record.inserted());
    if inserted > 0 {
        let area = options::area_mut(segment);
        delta = delta.plus(options::shift_sack(area, inserted.wrapping_neg()));
    }
    let (tcp, _) = tcp::Header::mut_from_prefix(segment).ok()?;
    let acknowledged = tcp.acknowledgment.get().wrapping_sub(record.first_sequence());
    let counts = inserted > 0 && tcp.flags & tcp::ACK != 0 && acknowledged <= u32::MAX / 2;
    if counts {
        let by = acknowledged.min(inserted);
        let number = tcp.acknowledgment.get().wrapping_sub(by);
        delta = delta.plus(set_number(&mut tcp.acknowledgment, number));
    }
    tcp.checksum.set(delta.apply(tcp.checksum.get()));
    Some(counts && acknowledged >= inserted)
}

/// Lowers the MSS a backend announces by what will be inserted.
fn lower_mss<F: Family>(segment: &mut [u8], record: &Record<F>) -> Delta {
    let room = match record.introduction() {
        ClientAddress::Toa { .. } if F::IS_V6 => 20,
        ClientAddress::Toa { .. } => 8,
        _ => record.inserted().into(),
    };
    let area = options::area_mut(segment);
    let announced = options::find(area, options::MSS).and_then(|option| {
        let &[_, _, high, low] = option.bytes.first_chunk()?;
        Some(u16::from_be_bytes([high, low]))
    });
    announced.map_or(Delta::ZERO, |mss| options::lower_mss(area, mss.saturating_sub(room)))
}

/// Sets a sequence number; what that does to the checksum.
fn set_number(place: &mut Be32, number: u32) -> Delta {
    let before = u32::from_ne_bytes(place.to_bytes());
    place.set(number);
    Delta::of_u32(before, u32::from_ne_bytes(place.to_bytes()))
}

/// Where a client's stream starts, if this is its SYN: the sequence number of its first byte.
pub(super) fn starts_at<F: Family>(frame: &[u8], parsed: &Parsed<F>) -> Option<u32> {
    if parsed.key.protocol != Protocol::Tcp as u8 || parsed.signal & tcp::SYN == 0 {
        return None;
    }
    let (tcp, _) = tcp::Header::ref_from_prefix(segment(frame, parsed)?).ok()?;
    Some(tcp.sequence.get().wrapping_add(1))
}
