//! A packet as the ends and the model think of it: fields, not bytes.
//!
//! Written with the packet table's builder (checksums by the slow sum), read with `etherparse`:
//! nothing here shares code with what is tested. A variant of [`Body`] is a transport.

use std::net::{Ipv4Addr, SocketAddr};

use etherparse::{IpNumber, SlicedPacket, TransportSlice};
use shunt::dataplane::snapshot::Protocol;
use shunt::wire::Mac;

use crate::packets::{oracle, packet};
use crate::pieces::{self, Piece, Slice};
use crate::quote;

/// TCP's flags, as on the wire.
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

/// SCTP's chunks, as on the wire.
pub(crate) mod chunk {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const INIT: u8 = 1;
    pub(crate) const INIT_ACK: u8 = 2;
    pub(crate) const SACK: u8 = 3;
    pub(crate) const ABORT: u8 = 6;
    pub(crate) const SHUTDOWN: u8 = 7;
    pub(crate) const SHUTDOWN_ACK: u8 = 8;
    pub(crate) const ERROR: u8 = 9;
    pub(crate) const COOKIE_ECHO: u8 = 10;
    pub(crate) const COOKIE_ACK: u8 = 11;
    pub(crate) const SHUTDOWN_COMPLETE: u8 = 14;
}

/// Bytes of an Ethernet header.
pub(crate) const LINK: usize = 14;

/// One direction of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) protocol: Protocol,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
}

/// What the IP packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Tcp {
        sequence: u32,
        ack: u32,
        flags: u8,
        window: u16,
        options: Vec<u8>,
    },
    Udp {
        checksum: bool,
    },
    /// Its chunks are the payload.
    Sctp {
        tag: u32,
    },
    /// ICMP, or between IPv6 addresses `ICMPv6`.
    Icmp {
        kind: u8,
        code: u8,
        rest: u32,
    },
}

/// A packet on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Link addresses, sender first.
    pub(crate) link: (Mac, Mac),
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    /// IPv4: the identification. IPv6: the flow label. What no mode touches that keeps the header.
    pub(crate) id: u16,
    /// Nobody may cut it; always so in IPv6.
    pub(crate) df: bool,
    pub(crate) body: Body,
    pub(crate) payload: Vec<u8>,
    /// Bytes the link added behind it.
    pub(crate) padding: usize,
    /// Only this part of it.
    pub(crate) piece: Option<Slice>,
    /// The checksum of an ICMP message is wrong.
    pub(crate) damaged: bool,
}

impl Packet {
    /// An ordinary one: TTL 64, DF, nothing in it.
    pub(crate) fn new(from: SocketAddr, to: SocketAddr, body: Body) -> Self {
        let link = (Mac::default(), Mac::default());
        let (ttl, tos, id, df, payload, padding) = (64, 0, 0, true, vec![], 0);
        let (piece, damaged) = (None, false);
        Self { link, from, to, ttl, tos, id, df, body, payload, padding, piece, damaged }
    }

    /// The same with another number.
    pub(crate) fn masked(&self, mask: u32) -> Self {
        let (mut masked, is_v6) = (self.clone(), self.is_v6());
        match &mut masked.piece {
            Some(piece) if is_v6 => piece.identification ^= mask,
            _ => masked.id ^= u16::try_from(mask & 0xffff).unwrap(),
        }
        masked
    }

    /// As bytes.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let whole = self.whole_frame();
        self.piece.map_or_else(|| whole.clone(), |piece| pieces::part(&whole, &piece))
    }

    /// What can be told of a piece: who sends it where, and if it is a first one the ports.
    pub(crate) fn read_piece(frame: &[u8]) -> Option<Self> {
        let piece = Piece::read(frame)?;
        let ip = &piece.front[LINK..];
        let slice = piece.slice();
        let ports = if slice.offset == 0 { piece.payload.get(..4)? } else { &[0; 4] };
        // Read as the quote of an error is.
        let Flow { from, to, .. } = quote::flow(&[ip, ports].concat())?;
        let link = (Mac(frame[6..12].try_into().ok()?), Mac(frame[..6].try_into().ok()?));
        Some(Self { link, from, to, piece: Some(slice), ..Self::outline(&frame[LINK..]) })
    }

    fn whole_frame(&self) -> Vec<u8> {
        let (from, to) = (self.from, self.to);
        let df = if self.df { 0x4000 } else { 0 };
        let base = packet().macs(self.link.0, self.link.1).between(from, to).ttl(self.ttl);
        let base = base.tos(self.tos).identification(self.id).flags_fragment(df);
        let base = base.flow_label(self.id.into());
        let base = base.payload(&self.payload).padding(self.padding);
        match &self.body {
            Body::Tcp { sequence, ack, flags, window, options } => base
                .tcp(from, to)
                .numbers(*sequence, *ack)
                .flags(*flags)
                .window(*window)
                .tcp_options(options)
                .build(),
            Body::Sctp { tag } => base.sctp(from, to, *tag).build(),
            Body::Udp { checksum: true } => base.udp(from, to).build(),
            Body::Udp { checksum: false } => base.udp(from, to).without_checksum().build(),
            Body::Icmp { kind, code, rest } => {
                base.icmp(*kind, *code, *rest).l4_wrong_by(self.damaged.into()).build()
            }
        }
    }

    /// From bytes; every checksum must be right.
    pub(crate) fn read(frame: &[u8]) -> Result<Self, String> {
        if Piece::read(frame).is_some() {
            return Err("only a piece".to_owned());
        }
        let judged = oracle::judge_any(frame)?;
        if !judged.ip_right || !judged.l4_right {
            return Err(format!("a checksum is wrong: {judged:?}"));
        }
        let sliced = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
        let (body, payload) = match sliced.ip_payload().filter(|ip| ip.ip_number == IpNumber::SCTP)
        {
            Some(ip) => {
                let tag = u32::from_be_bytes(ip.payload[4..8].try_into().unwrap());
                (Body::Sctp { tag }, &ip.payload[12..])
            }
            None => body_of(sliced.transport.as_ref())?,
        };
        let mac = |at: usize| Mac(frame[at..at + 6].try_into().unwrap());
        Ok(Self {
            link: (mac(6), mac(0)),
            from: (judged.source, judged.ports.0).into(),
            to: (judged.destination, judged.ports.1).into(),
            body,
            payload: payload.to_vec(),
            ..Self::outline(&frame[LINK..])
        })
    }

    /// What the IP header says, but for the addresses.
    fn outline(ip: &[u8]) -> Self {
        let word = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
        let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let none = Self::new(nobody, nobody, Body::Udp { checksum: false });
        if ip[0] >> 4 == 6 {
            let padding = ip.len() - 40 - usize::from(word(4));
            return Self { ttl: ip[7], tos: ip[0] << 4 | ip[1] >> 4, id: word(2), padding, ..none };
        }
        let (df, padding) = (ip[6] & 0x40 != 0, ip.len() - usize::from(word(2)));
        Self { ttl: ip[8], tos: ip[1], id: word(4), df, padding, ..none }
    }

    /// Bytes in front of the payload. What the link had added behind it is not part of the packet.
    pub(crate) fn put_in_front(&mut self, bytes: &[u8]) {
        self.payload.splice(0..0, bytes.iter().copied());
        self.padding = 0;
    }

    pub(crate) fn is_v6(&self) -> bool {
        self.from.is_ipv6()
    }

    /// An error that says how much the way carries: how much.
    pub(crate) fn too_big(&self) -> Option<usize> {
        match (self.is_v6(), &self.body) {
            (false, Body::Icmp { kind: 3, code: 4, rest })
            | (true, Body::Icmp { kind: 2, code: 0, rest }) => Some(*rest as usize),
            _ => None,
        }
    }

    /// The flow of the packet that an error quotes.
    pub(crate) fn quoted(&self) -> Option<Flow> {
        quote::flow(&self.payload)
    }

    /// Is it an error?
    pub(crate) fn is_error(&self) -> bool {
        match self.body {
            Body::Icmp { kind, .. } if self.is_v6() => kind < 128,
            Body::Icmp { kind, .. } => [3, 4, 11, 12].contains(&kind),
            _ => false,
        }
    }

    /// Its flow, if it is of a balanced protocol.
    pub(crate) fn flow(&self) -> Option<Flow> {
        let protocol = match self.body {
            Body::Tcp { .. } => Protocol::Tcp,
            Body::Udp { .. } => Protocol::Udp,
            Body::Sctp { .. } => Protocol::Sctp,
            Body::Icmp { .. } => return None,
        };
        Some(Flow { protocol, from: self.from, to: self.to })
    }

    /// TCP's flags; none for others.
    pub(crate) fn flags(&self) -> u8 {
        if let Body::Tcp { flags, .. } = self.body { flags } else { 0 }
    }

    /// Length of the IP packet.
    pub(crate) fn length(&self) -> usize {
        let header = match &self.body {
            Body::Tcp { options, .. } => 20 + options.len(),
            Body::Udp { .. } | Body::Icmp { .. } => 8,
            Body::Sctp { .. } => 12,
        };
        let ip = if self.is_v6() { 40 } else { 20 };
        match self.piece {
            Some(piece) if self.is_v6() => ip + 8 + piece.length,
            Some(piece) => ip + piece.length,
            None => ip + header + self.payload.len(),
        }
    }
}

fn body_of<'a>(transport: Option<&TransportSlice<'a>>) -> Result<(Body, &'a [u8]), String> {
    match transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let body = Body::Tcp {
                sequence: tcp.sequence_number(),
                ack: tcp.acknowledgment_number(),
                flags: tcp.slice()[13],
                window: tcp.window_size(),
                options: tcp.options().to_vec(),
            };
            Ok((body, tcp.payload()))
        }
        Some(TransportSlice::Udp(udp)) => {
            Ok((Body::Udp { checksum: udp.checksum() != 0 }, udp.payload()))
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let bytes = icmp.slice();
            let rest = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
            Ok((Body::Icmp { kind: bytes[0], code: bytes[1], rest }, &bytes[8..]))
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            let bytes = icmp.slice();
            let rest = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
            Ok((Body::Icmp { kind: bytes[0], code: bytes[1], rest }, &bytes[8..]))
        }
        _ => Err("no transport header".to_owned()),
    }
}
