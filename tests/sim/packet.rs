//! A packet as the ends and the model think of it: fields, not bytes.
//!
//! Written with the packet table's builder (checksums by the slow sum), read with `etherparse`:
//! nothing here shares code with what is tested. A variant of [`Body`] is a transport.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use shunt::dataplane::snapshot::Protocol;
use shunt::wire::Mac;

use crate::packets::{oracle, packet};

/// TCP's flags, as on the wire.
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

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
    Tcp { sequence: u32, ack: u32, flags: u8, window: u16, options: Vec<u8> },
    Udp { checksum: bool },
    Icmp { kind: u8, code: u8, rest: u32 },
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
    pub(crate) id: u16,
    /// Nobody may cut it.
    pub(crate) df: bool,
    pub(crate) body: Body,
    pub(crate) payload: Vec<u8>,
    /// Bytes the link added behind it.
    pub(crate) padding: usize,
}

/// The address of a family the builder can write.
fn v4(address: SocketAddr) -> (Ipv4Addr, u16) {
    match address.ip() {
        IpAddr::V4(ip) => (ip, address.port()),
        IpAddr::V6(_) => panic!("only IPv4 is simulated: {address}"),
    }
}

impl Packet {
    /// An ordinary one: TTL 64, DF, nothing in it.
    pub(crate) fn new(from: SocketAddr, to: SocketAddr, body: Body) -> Self {
        let link = (Mac::default(), Mac::default());
        let (ttl, tos, id, df, payload, padding) = (64, 0, 0, true, vec![], 0);
        Self { link, from, to, ttl, tos, id, df, body, payload, padding }
    }

    /// As bytes.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let (from, to) = (v4(self.from), v4(self.to));
        let df = if self.df { 0x4000 } else { 0 };
        let base = packet().macs(self.link.0, self.link.1).between(from, to).ttl(self.ttl);
        let base = base.tos(self.tos).identification(self.id).flags_fragment(df);
        let base = base.payload(&self.payload).padding(self.padding);
        match &self.body {
            Body::Tcp { sequence, ack, flags, window, options } => base
                .tcp(from, to)
                .numbers(*sequence, *ack)
                .flags(*flags)
                .window(*window)
                .tcp_options(options)
                .build(),
            Body::Udp { checksum: true } => base.udp(from, to).build(),
            Body::Udp { checksum: false } => base.udp(from, to).without_checksum().build(),
            Body::Icmp { kind, code, rest } => base.icmp(*kind, *code, *rest).build(),
        }
    }

    /// From bytes; every checksum must be right.
    pub(crate) fn read(frame: &[u8]) -> Result<Self, String> {
        let judged = oracle::judge(frame)?;
        if !judged.ip_right || !judged.l4_right {
            return Err(format!("a checksum is wrong: {judged:?}"));
        }
        let sliced = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
        let Some(NetSlice::Ipv4(ip)) = &sliced.net else { return Err("not IPv4".to_owned()) };
        let header = ip.header();
        let (body, payload) = body_of(sliced.transport.as_ref())?;
        let mac = |at: usize| Mac(frame[at..at + 6].try_into().unwrap());
        Ok(Self {
            link: (mac(6), mac(0)),
            from: (judged.source, judged.ports.0).into(),
            to: (judged.destination, judged.ports.1).into(),
            ttl: header.ttl(),
            tos: header.slice()[1],
            id: header.identification(),
            df: header.dont_fragment(),
            body,
            payload: payload.to_vec(),
            padding: frame.len() - LINK - usize::from(header.total_len()),
        })
    }

    /// Its flow, if it is of a balanced protocol.
    pub(crate) fn flow(&self) -> Option<Flow> {
        let protocol = match self.body {
            Body::Tcp { .. } => Protocol::Tcp,
            Body::Udp { .. } => Protocol::Udp,
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
        };
        20 + header + self.payload.len()
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
        _ => Err("no transport header".to_owned()),
    }
}
