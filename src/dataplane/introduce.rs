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
//!
//! **No room.** A segment as long as its way carries cannot take the header: then that goes ahead in
//! a segment of its own ([`ahead`]). A datagram is cut if that is allowed, and if its sender could
//! not make it shorter; else its sender is told.
//!
//! **Pieces** (IP fragments). A segment in pieces goes without the option, and its numbers, all in
//! the first piece, shift as ever; where it would have to carry the header, that goes ahead. A
//! datagram in pieces gets a header whose length is a multiple of 8, and the offsets of the later
//! pieces grow by it ([`displaced`]). Refused is a SYN in pieces that has data, which would have to
//! be cut off.
//!
//! **Errors** about the client's segments quote the shifted number: it is shifted back, and what
//! still fits the way is said less the room for what is inserted ([`take_back`], [`room`]).

use zerocopy::FromBytes;

use super::conn::key::Side;
use super::conn::record::{Progress, Record};
use super::family::Family;
use super::io::Packet;
use super::parse::Parsed;
use super::rewrite::insert;
use super::snapshot::{ClientAddress, Protocol};
use crate::wire::checksum::Delta;
use crate::wire::proxy::{self, Ends, Transport};
use crate::wire::tcp::{self, options};
use crate::wire::{Be32, fragment};

mod ahead;

/// TOA's kind for IPv4 clients, and the kinds a client may have forged.
const TOA_V4: u8 = 254;
const TOA_KINDS: [u8; 2] = [253, 254];
/// Longest TCP header.
const TCP_HEADER_MAX: usize = 60;
/// Longest TOA option, which is the one for IPv6 clients.
const TOA_MAX: usize = 20;
/// Longest for IPv4 clients.
const TOA_V4_LEN: usize = 8;
/// From here on in its stream a client's numbers are [`Progress::Far`]: more than any header, and
/// little of all there are.
const FAR: u32 = 1 << 16;
/// More than any client has on the way before it has heard a word from the backend (RFC 6928: ten
/// segments).
const FLIGHT_MAX: u32 = 1 << 20;
/// Numbers up to this far ahead come later (RFC 9293 section 3.4), others before.
const AHEAD_MAX: u32 = u32::MAX / 2;

/// What is to be inserted into a packet, and where in the frame.
#[derive(Clone, Copy, Debug)]
pub(super) enum Insertion {
    /// Nothing, but numbers may have to shift.
    Nothing,
    /// An option, in front of the others.
    Option([u8; TOA_MAX], usize),
    /// A PROXY header, in front of the payload.
    Header(proxy::Header),
    /// Nothing, since the PROXY header goes ahead in a segment of its own; numbers shift.
    Ahead,
}

impl Insertion {
    /// Bytes the packet grows by.
    pub(super) fn length(&self) -> u16 {
        let length = match self {
            Self::Nothing | Self::Ahead => 0,
            Self::Option(_, length) => *length,
            Self::Header(header) => header.as_bytes().len(),
        };
        u16::try_from(length).unwrap_or(u16::MAX)
    }

    /// What becomes of it where there is no room.
    pub(super) fn without_room(self, protocol: u8) -> Self {
        match self {
            Self::Header(_) if protocol == Protocol::Tcp as u8 => Self::Ahead,
            Self::Header(_) | Self::Ahead => self,
            Self::Option(..) | Self::Nothing => Self::Nothing,
        }
    }
}

/// How many bytes a service's way of introducing clients puts into the stream of one with these
/// ends: nothing but with PROXY protocol over TCP.
fn in_stream<F: Family>(record: &Record<F>) -> u8 {
    if record.protocol() != Protocol::Tcp as u8 {
        return 0;
    }
    let length = proxy_header(record, false).map_or(0, |header| header.as_bytes().len());
    u8::try_from(length).unwrap_or(0)
}

/// The header for a stream, a whole datagram, or one in pieces.
fn proxy_header<F: Family>(record: &Record<F>, in_pieces: bool) -> Option<proxy::Header> {
    let is_udp = record.protocol() == Protocol::Udp as u8;
    let transport = if is_udp { Transport::Datagram } else { Transport::Stream };
    let key = record.key(Side::Client);
    let source = (key.source().into(), key.source_port());
    let ends = Ends::between(source, (key.destination().into(), key.destination_port()))?;
    match record.introduction() {
        ClientAddress::ProxyV1 => Some(proxy::v1(&ends)),
        ClientAddress::ProxyV2 if in_pieces => Some(proxy::v2_padded(transport, &ends)),
        ClientAddress::ProxyV2 => Some(proxy::v2(transport, &ends)),
        ClientAddress::None | ClientAddress::Toa { .. } => None,
    }
}

/// By how many bytes the later pieces of a client's datagram move towards its end.
pub(super) fn displaced<F: Family>(record: &Record<F>, side: Side) -> u16 {
    if side == Side::Backend || record.protocol() != Protocol::Udp as u8 {
        return 0;
    }
    let header = proxy_header(record, true);
    header.and_then(|header| u16::try_from(header.as_bytes().len()).ok()).unwrap_or(0)
}

/// Bytes by which a client's packets may grow.
pub(super) fn room<F: Family>(record: &Record<F>) -> u16 {
    let length = match record.introduction() {
        ClientAddress::None => 0,
        ClientAddress::Toa { .. } if F::IS_V6 => TOA_MAX,
        ClientAddress::Toa { .. } => TOA_V4_LEN,
        _ => proxy_header(record, false).map_or(0, |header| header.as_bytes().len()),
    };
    u16::try_from(length).unwrap_or(0)
}

/// What has to go into a client's packet. `None` if it would have to carry what it cannot.
pub(super) fn insertion<F: Family>(
    frame: &[u8],
    parsed: &Parsed<F>,
    record: &Record<F>,
) -> Option<Insertion> {
    let in_pieces = fragment::is_in(frame.get(usize::from(parsed.l3)..)?);
    if parsed.key.protocol == Protocol::Udp as u8 {
        return Some(proxy_header(record, in_pieces).map_or(Insertion::Nothing, Insertion::Header));
    }
    let insertion = into_segment(segment(frame, parsed)?, parsed, record)?;
    let loses_data = record.inserted() > 0 && parsed.signal & tcp::SYN != 0;
    match insertion {
        _ if !in_pieces => Some(insertion),
        Insertion::Header(_) => Some(Insertion::Ahead),
        _ if loses_data => None,
        _ => Some(Insertion::Nothing),
    }
}

/// What has to go into a whole segment.
fn into_segment<F: Family>(
    segment: &[u8],
    parsed: &Parsed<F>,
    record: &Record<F>,
) -> Option<Insertion> {
    let (header, _) = tcp::Header::ref_from_prefix(segment).ok()?;
    let is_syn = parsed.signal & tcp::SYN != 0;
    let at_first = header.sequence.get() == record.first_sequence() && !is_syn;
    let has_data = segment.len() > usize::from(header.header_length());
    let progress = record.progress();
    let is_first_data = at_first && has_data && progress < Progress::Far;
    Some(match record.introduction() {
        ClientAddress::Toa { kind_v6 } if is_syn || is_first_data => {
            toa(record, kind_v6, usize::from(header.header_length()))
        }
        ClientAddress::ProxyV1 | ClientAddress::ProxyV2
            if at_first && progress < Progress::Delivered && parsed.signal & tcp::RST == 0 =>
        {
            proxy_header(record, false).map_or(Insertion::Nothing, Insertion::Header)
        }
        _ => Insertion::Nothing,
    })
}

/// The option, if a header of that length has room for it.
fn toa<F: Family>(record: &Record<F>, kind_v6: u8, header_length: usize) -> Insertion {
    let key = record.key(Side::Client);
    let (kind, length) = if F::IS_V6 { (kind_v6, TOA_MAX) } else { (TOA_V4, TOA_V4_LEN) };
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
    let is_ahead = matches!(insertion, Insertion::Ahead);
    prepare_segment(packet, parsed, record, is_ahead)?;
    let l4 = usize::from(parsed.l4);
    match insertion {
        Insertion::Nothing | Insertion::Ahead => Some(()),
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

/// Options nobody may forge, and the numbers of what comes behind the header, which may be
/// `ahead` of this very segment.
fn prepare_segment<F: Family, P: Packet>(
    packet: &mut P,
    parsed: &mut Parsed<F>,
    record: &Record<F>,
    is_ahead: bool,
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
    let is_before = behind == 0 || behind > AHEAD_MAX;
    let is_delivered = is_ahead || record.progress() >= Progress::Delivered;
    let stays = tcp.flags & tcp::SYN != 0 || (is_before && !is_delivered);
    if inserted > 0 && !stays {
        delta = delta.plus(set_number(&mut tcp.sequence, sequence.wrapping_add(inserted.into())));
    }
    tcp.checksum.set(delta.apply(tcp.checksum.get()));
    Some(())
}

/// Does to a backend's segment what follows from what was inserted into the client's, and learns
/// from it how far that has come.
pub(super) fn from_backend<F: Family, G: Family>(
    frame: &mut [u8],
    parsed: &Parsed<F>,
    record: &mut Record<G>,
) -> Option<()> {
    if record.introduction() == ClientAddress::None || parsed.key.protocol != Protocol::Tcp as u8 {
        return Some(());
    }
    let segment = frame.get_mut(usize::from(parsed.l4)..usize::from(parsed.end))?;
    let mut delta = Delta::ZERO;
    if parsed.signal & tcp::SYN != 0 {
        delta = delta.plus(lower_mss(segment, record));
    }
    let (tcp, _) = tcp::Header::ref_from_prefix(segment).ok()?;
    if tcp.flags & (tcp::SYN | tcp::ACK) == tcp::SYN | tcp::ACK {
        record.restart_stream(tcp.acknowledgment.get());
    }
    let area = options::area_mut(segment);
    delta = delta.plus(options::map_sack(area, |edge| as_the_client_counts(record, edge)));
    let (tcp, _) = tcp::Header::mut_from_prefix(segment).ok()?;
    let acknowledged = tcp.acknowledgment.get();
    if tcp.flags & tcp::ACK != 0 {
        let number = as_the_client_counts(record, acknowledged);
        delta = delta.plus(set_number(&mut tcp.acknowledgment, number));
        learn(record, tcp.flags, acknowledged);
    }
    tcp.checksum.set(delta.apply(tcp.checksum.get()));
    Some(())
}

/// The number in the client's stream of one in the stream as the backend sees it.
fn as_the_client_counts<F: Family>(record: &Record<F>, number: u32) -> u32 {
    let inserted = u32::from(record.inserted());
    let ahead = number.wrapping_sub(record.first_sequence());
    let by = match record.progress() {
        Progress::Far => inserted,
        _ if ahead > AHEAD_MAX => 0,
        _ => ahead.min(inserted),
    };
    number.wrapping_sub(by)
}

/// What a backend's acknowledgment says. Of the first one only a SYN's counts: any other is about
/// a connection that the backend has had before. So is one, until the header has arrived, of more
/// than the client can have sent; and a SYN's that does not have the header to come.
fn learn<F: Family>(record: &mut Record<F>, flags: u8, acknowledged: u32) {
    let ahead = acknowledged.wrapping_sub(record.first_sequence());
    let most = if record.progress() < Progress::Delivered { FLIGHT_MAX } else { AHEAD_MAX };
    let is_syn = flags & tcp::SYN != 0;
    let is_of_another = is_syn && ahead != 0 && record.inserted() > 0;
    if ahead > most || is_of_another || (record.progress() == Progress::Open && !is_syn) {
        return;
    }
    record.set_progress(match ahead {
        FAR.. => Progress::Far,
        _ if ahead >= u32::from(record.inserted()) => Progress::Delivered,
        _ => Progress::Agreed,
    });
}

/// Takes back in a client's segment that an error quotes, from its transport header on, what
/// [`from_client`] has done to its number.
pub(super) fn take_back<F: Family>(quoted: &mut [u8], record: &Record<F>) {
    if record.inserted() == 0 {
        return;
    }
    let Some(place) = quoted.get_mut(4..).and_then(|rest| rest.first_chunk_mut()) else { return };
    let before = *place;
    *place = as_the_client_counts(record, u32::from_be_bytes(before)).to_be_bytes();
    let delta = Delta::of_u32(u32::from_ne_bytes(before), u32::from_ne_bytes(*place));
    if let Some(sum) = quoted.get_mut(16..).and_then(|rest| rest.first_chunk_mut()) {
        *sum = delta.apply(u16::from_ne_bytes(*sum)).to_ne_bytes();
    }
}

/// The least MSS announced in a backend's name: below, a client would send headers and next to no data.
/// A backend that announces less is taken at its word.
const MSS_MIN: u16 = 48;

/// Lowers the MSS a backend announces by what will be inserted.
fn lower_mss<F: Family>(segment: &mut [u8], record: &Record<F>) -> Delta {
    let room = room(record);
    let area = options::area_mut(segment);
    let announced = options::find(area, options::MSS).and_then(|option| {
        let &[_, _, high, low] = option.bytes.first_chunk()?;
        Some(u16::from_be_bytes([high, low]))
    });
    let lowered = |mss: u16| mss.saturating_sub(room).max(MSS_MIN);
    announced.map_or(Delta::ZERO, |mss| options::lower_mss(area, lowered(mss)))
}

/// Sets a sequence number; what that does to the checksum.
pub(super) fn set_number(place: &mut Be32, number: u32) -> Delta {
    let before = u32::from_ne_bytes(place.to_bytes());
    place.set(number);
    Delta::of_u32(before, u32::from_ne_bytes(place.to_bytes()))
}

/// Learns from a client's SYN where its stream starts, and what goes into it there. With numbers of
/// ours in between, too (`opening.rs`).
pub(super) fn begin<F: Family>(frame: &[u8], parsed: &Parsed<F>, record: &mut Record<F>) {
    let is_tcp = parsed.key.protocol == Protocol::Tcp as u8;
    let is_syn = is_tcp && parsed.signal & tcp::SYN != 0;
    let counts = record.introduction() != ClientAddress::None || record.is_spliced();
    if !is_syn || !counts {
        return;
    }
    let segment = segment(frame, parsed).unwrap_or_default();
    if let Ok((tcp, _)) = tcp::Header::ref_from_prefix(segment) {
        record.start_stream(tcp.sequence.get().wrapping_add(1), in_stream(record));
    }
}
