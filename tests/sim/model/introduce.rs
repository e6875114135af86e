//! How a backend learns who the client is: TOA and PROXY protocol, by their specifications and
//! what the configuration's documents promise.
//!
//! A PROXY header is the stream's first bytes, so all numbers behind it are that much higher for
//! the backend; every segment from the stream's start carries it until the backend has it. Where
//! there is no room, and where the segment is in pieces, it goes ahead in a segment of its own. A
//! datagram in pieces gets a longer one, since pieces are counted in eights of bytes.

use std::net::{IpAddr, SocketAddr};

use shunt::dataplane::snapshot::{ClientAddress, Mode, Protocol};

use super::{Connection, Model};
use crate::packet::{ACK, Body, Flow, Packet, RST, SYN};

/// The signature of version 2.
const SIGNATURE: [u8; 12] = [0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
/// Most options of a TCP header.
const OPTIONS_MAX: usize = 40;
/// More than anybody has on the way before the other end has said a word.
const FLIGHT_MAX: u32 = 1 << 20;
/// Half of all numbers: further ahead is behind.
const HALF: u32 = 1 << 31;

/// A client's packet, once it is said who the client is.
#[derive(Clone, Debug)]
pub(super) struct Introduced {
    pub(super) packet: Packet,
    /// How long it may have been as it came.
    pub(super) room: usize,
    /// Bytes it has grown by.
    pub(super) grown: usize,
    /// What goes ahead, in a segment of its own.
    pub(super) ahead: Option<Vec<u8>>,
}

impl Introduced {
    /// A packet that goes as it is.
    pub(super) fn plain(packet: &Packet, room: usize) -> Self {
        Self { packet: packet.clone(), room, grown: 0, ahead: None }
    }

    /// With these bytes in front of its payload.
    fn behind(mut self, header: &[u8]) -> Self {
        self.packet.put_in_front(header);
        if let Some(piece) = &mut self.packet.piece {
            piece.length += header.len();
        }
        Self { room: self.room.saturating_sub(header.len()), grown: header.len(), ..self }
    }
}

/// The segment with these bytes that goes ahead of another one.
pub(super) fn ahead_of(segment: &Packet, header: &[u8]) -> Packet {
    let mut body = segment.body.clone();
    if let Body::Tcp { sequence, flags, .. } = &mut body {
        *sequence = sequence.wrapping_sub(u32::try_from(header.len()).unwrap());
        *flags = ACK;
    }
    let payload = header.to_vec();
    Packet { link: segment.link, payload, ..Packet::new(segment.from, segment.to, body) }
}

/// What is known of a client's stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stream {
    /// Number of its first byte.
    first: u32,
    /// Has the backend agreed to it?
    agreed: bool,
    /// Has the backend what was put in front?
    delivered: bool,
    /// Where another one would start, which the client has asked for since.
    asked: Option<u32>,
}

impl Stream {
    /// Has the client asked for another start than the one the backend has agreed to?
    pub(super) fn is_asked_anew(self) -> bool {
        self.asked.is_some()
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An address as version 1 writes it. Zeros may be left out of an IPv6 one; nobody does here.
fn text(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => address.segments().map(|segment| format!("{segment:x}")).join(":"),
    }
}

/// The PROXY header of a client's flow.
fn header(version: u8, client: &Flow) -> Vec<u8> {
    let Flow { from, to, protocol } = *client;
    let is_v6 = from.is_ipv6();
    if version == 1 {
        let family = if is_v6 { 6 } else { 4 };
        let (source, destination) = (text(from.ip()), text(to.ip()));
        let line =
            format!("PROXY TCP{family} {source} {destination} {} {}\r\n", from.port(), to.port());
        return line.into_bytes();
    }
    let addresses = [octets(from.ip()), octets(to.ip())].concat();
    let transport = if protocol == Protocol::Udp { 2 } else { 1 };
    let family = if is_v6 { 0x20 } else { 0x10 } | transport;
    let length = u16::try_from(addresses.len() + 4).unwrap().to_be_bytes();
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    [&SIGNATURE[..], &[0x21, family], &length, &addresses, &ports].concat()
}

/// A header of version 2 with a TLV that means nothing: four bytes.
fn padded(mut header: Vec<u8>) -> Vec<u8> {
    header[15] += 4;
    header.extend([4, 0, 1, 0]);
    header
}

/// The TOA option for a client.
fn option(kind_v6: u8, client: SocketAddr) -> Vec<u8> {
    let (kind, length) = if client.is_ipv6() { (kind_v6, 20) } else { (254, 8) };
    [&[kind, length][..], &client.port().to_be_bytes(), &octets(client.ip())].concat()
}

/// Where options of these kinds are, with all their bytes.
fn options(area: &[u8], kinds: &[u8]) -> Vec<std::ops::Range<usize>> {
    let (mut at, mut found) = (0, vec![]);
    while at < area.len() && area[at] != 0 {
        let length = if area[at] == 1 { 1 } else { usize::from(area[at + 1]) };
        if kinds.contains(&area[at]) {
            found.push(at..at + length);
        }
        at += length;
    }
    found
}

/// A backend's number as the client counts.
fn as_client_counts(stream: Stream, inserted: u32, number: u32) -> u32 {
    let ahead = number.wrapping_sub(stream.first);
    number.wrapping_sub(if ahead < HALF { ahead.min(inserted) } else { 0 })
}

impl Model {
    /// How a connection of that flow is introduced in that mode.
    fn introduction(&self, service: usize, mode: Mode) -> ClientAddress {
        match (self.config.services[service].introduces, mode) {
            (ClientAddress::Toa { .. }, Mode::Nat) | (_, Mode::Dr | Mode::Tunnel(_)) => {
                ClientAddress::None
            }
            (introduces, _) => introduces,
        }
    }

    fn introduction_of(&self, connection: &Connection) -> ClientAddress {
        self.introduction(connection.place.service, connection.mode)
    }

    /// Is the backend told who the client is?
    pub(super) fn is_introduced(&self, client: &Flow) -> bool {
        self.introduction_of(&self.connections[client]) != ClientAddress::None
    }

    /// By how much a client's packets may grow: what a backend's MSS is lowered by.
    pub(super) fn growth(&self, client: &Flow) -> usize {
        match self.introduction_of(&self.connections[client]) {
            ClientAddress::None => 0,
            ClientAddress::Toa { kind_v6 } => option(kind_v6, client.from).len(),
            ClientAddress::ProxyV1 => header(1, client).len(),
            ClientAddress::ProxyV2 => header(2, client).len(),
        }
    }

    /// Bytes in the stream that are not the client's.
    pub(super) fn inserted(&self, client: &Flow) -> u32 {
        let is_proxy = matches!(
            self.introduction_of(&self.connections[client]),
            ClientAddress::ProxyV1 | ClientAddress::ProxyV2
        );
        let in_stream = is_proxy && client.protocol == Protocol::Tcp;
        if in_stream { u32::try_from(self.growth(client)).unwrap() } else { 0 }
    }

    /// What the first packet of a connection may have become, before anything else happens to it.
    pub(super) fn first_as_introduced(
        &self,
        client: &Flow,
        service: usize,
        packet: &Packet,
    ) -> Packet {
        let introduces = self.config.services[service].introduces;
        introduced(introduces, client, packet, Stream::default(), usize::MAX).packet
    }

    /// A client's packet and what there is room for, once it is introduced.
    pub(super) fn introduce(&mut self, client: &Flow, packet: &Packet, room: usize) -> Introduced {
        let introduces = self.introduction_of(&self.connections[client]);
        let Some(connection) = self.connections.get_mut(client) else {
            return Introduced::plain(packet, room);
        };
        let stream = &mut connection.stream;
        if let Body::Tcp { sequence, flags, .. } = packet.body
            && flags & SYN != 0
        {
            let first = sequence.wrapping_add(1);
            if !stream.agreed {
                stream.first = first;
            } else if first != stream.first {
                stream.asked = Some(first);
                connection.said[0] = 0;
            }
        }
        introduced(introduces, client, packet, *stream, room)
    }

    /// A client's piece after the first: it moves by what the first one has grown.
    pub(super) fn introduce_later(
        &self,
        client: &Flow,
        packet: &Packet,
        room: usize,
    ) -> Introduced {
        let mut introduced = Introduced::plain(packet, room);
        let introduces = self.introduction_of(&self.connections[client]);
        if client.protocol == Protocol::Udp && introduces == ClientAddress::ProxyV2 {
            let header = padded(header(2, client));
            introduced.packet.put_in_front(&header);
            if let Some(piece) = &mut introduced.packet.piece {
                piece.offset += header.len();
            }
        }
        introduced
    }

    /// What a backend's segment becomes for the client, and what is learned from it.
    pub(super) fn answered_introduction(&mut self, client: &Flow, packet: &Packet) -> Packet {
        let growth = self.growth(client);
        let mut packet = packet.clone();
        if growth == 0 || client.protocol != Protocol::Tcp {
            return packet;
        }
        let inserted = self.inserted(client);
        let Some(connection) = self.connections.get_mut(client) else { return packet };
        let stream = &mut connection.stream;
        let Body::Tcp { ack, flags, options: area, .. } = &mut packet.body else { return packet };
        if *flags & SYN != 0
            && let Some(mss) = options(area, &[2]).first()
        {
            let value = u16::from_be_bytes([area[mss.start + 2], area[mss.start + 3]]);
            let lower = value.saturating_sub(u16::try_from(growth).unwrap());
            area[mss.start + 2..mss.start + 4].copy_from_slice(&lower.to_be_bytes());
        }
        // A backend that has forgotten one stream agrees to the next.
        if *flags & (SYN | ACK) == SYN | ACK && stream.agreed && stream.asked == Some(*ack) {
            *stream = Stream { first: *ack, agreed: true, delivered: false, asked: None };
        }
        for sack in options(area, &[5]) {
            for edge in area[sack.start + 2..sack.end].chunks_mut(4) {
                let number = u32::from_be_bytes(edge.try_into().unwrap());
                edge.copy_from_slice(&as_client_counts(*stream, inserted, number).to_be_bytes());
            }
        }
        if *flags & ACK != 0 {
            let ahead = ack.wrapping_sub(stream.first);
            *ack = as_client_counts(*stream, inserted, *ack);
            let plausible = ahead <= if stream.delivered { HALF - 1 } else { FLIGHT_MAX };
            let is_syn = *flags & SYN != 0;
            // With a header to come, a SYN can acknowledge nothing but the SYN.
            let of_another = is_syn && ahead != 0 && inserted > 0;
            if plausible && !of_another && (stream.agreed || is_syn) {
                stream.agreed = true;
                stream.delivered |= ahead >= inserted;
            }
        }
        packet
    }

    /// A quoted packet of a client, as it went out, as the client sent it: from its transport
    /// header on, the number.
    pub(super) fn taken_back(&self, client: &Flow, number: u32) -> u32 {
        as_client_counts(self.connections[client].stream, self.inserted(client), number)
    }
}

/// A client's packet with what says who it is.
fn introduced(
    introduces: ClientAddress,
    client: &Flow,
    packet: &Packet,
    stream: Stream,
    room: usize,
) -> Introduced {
    let mut introduced = Introduced::plain(packet, room);
    let version = match introduces {
        ClientAddress::None => return introduced,
        ClientAddress::Toa { kind_v6 } => {
            with_option(&option(kind_v6, client.from), &mut introduced.packet, stream, room);
            introduced.grown = introduced.packet.length() - packet.length();
            return introduced;
        }
        ClientAddress::ProxyV1 => 1,
        ClientAddress::ProxyV2 => 2,
    };
    let header = header(version, client);
    let length = u32::try_from(header.len()).unwrap();
    let Body::Tcp { sequence, flags, .. } = &mut introduced.packet.body else {
        let header = if packet.piece.is_some() { padded(header) } else { header };
        return introduced.behind(&header);
    };
    // Data in a SYN would be in front of the header.
    if *flags & SYN != 0 {
        (introduced.packet.payload, introduced.packet.padding) = (vec![], 0);
        return introduced;
    }
    let ahead = sequence.wrapping_sub(stream.first);
    if ahead == 0 && !stream.delivered && *flags & RST == 0 {
        if packet.piece.is_none() && packet.length() + header.len() <= room {
            return introduced.behind(&header);
        }
        *sequence = sequence.wrapping_add(length);
        return Introduced { ahead: Some(header), ..introduced };
    }
    if stream.delivered || (ahead != 0 && ahead < HALF) {
        *sequence = sequence.wrapping_add(length);
    }
    introduced
}

/// In the SYN and the first data, if there is room; and nobody else's.
fn with_option(option: &[u8], packet: &mut Packet, stream: Stream, room: usize) {
    // Later pieces would have to move.
    let fits = packet.piece.is_none() && packet.length() + option.len() <= room;
    let has_data = !packet.payload.is_empty();
    let Body::Tcp { sequence, flags, options: area, .. } = &mut packet.body else { return };
    for forged in options(area, &[253, 254]) {
        area[forged].fill(1);
    }
    let is_syn = *flags & SYN != 0;
    let is_first = is_syn || (*sequence == stream.first && has_data);
    if is_first && fits && area.len() + option.len() <= OPTIONS_MAX {
        *area = [option, area].concat();
        packet.padding = 0;
    }
}
