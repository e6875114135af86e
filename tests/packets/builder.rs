//! Frames, spelled out: `packet().tcp(CLIENT, VIP).flags(SYN).payload(b"x").build()`.
//!
//! What is not said is right and ordinary. Every field that can lie has a method that makes it lie,
//! and checksums are computed after the lies, by the slow sum of RFC 1071 written out, so that the
//! builder shares no arithmetic with the code under test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::family::Family;
use shunt::dataplane::parse::Parsed;
use shunt::wire::Mac;

/// An address and a port.
pub(crate) type Endpoint = (Ipv4Addr, u16);

/// A frame to be.
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    literal: Option<Vec<u8>>,
    mac_source: Mac,
    mac_destination: Mac,
    ethertype: Option<u16>,
    version: Option<u8>,
    ihl: Option<u8>,
    tos: u8,
    flow_label: u32,
    total_length: Option<u16>,
    identification: u16,
    flags_fragment: u16,
    ttl: u8,
    protocol: u8,
    ip_wrong_by: u16,
    ip_options: Vec<u8>,
    source: SocketAddr,
    destination: SocketAddr,
    /// IPv6 extension headers: type, and all but the first byte.
    extensions: Vec<(u8, Vec<u8>)>,
    transport: Transport,
    l4_wrong_by: u16,
    payload: Vec<u8>,
    padding: usize,
    cut: Option<usize>,
}

#[derive(Clone, Debug)]
enum Transport {
    Tcp { sequence: u32, ack: u32, flags: u8, window: u16, offset: Option<u8>, options: Vec<u8> },
    Udp { length: Option<u16>, checksum: bool },
    Icmp { kind: u8, code: u8, rest: u32 },
    Sctp { tag: u32 },
    None,
}

/// A frame from [`super::CLIENT_MAC`] to [`super::OUR_MAC`], carrying nothing yet.
pub(crate) fn packet() -> Builder {
    Builder {
        literal: None,
        mac_source: super::CLIENT_MAC,
        mac_destination: super::OUR_MAC,
        ethertype: None,
        version: None,
        ihl: None,
        tos: 0,
        flow_label: 0,
        total_length: None,
        identification: 0x1234,
        flags_fragment: 0x4000,
        ttl: 64,
        protocol: 0,
        ip_wrong_by: 0,
        ip_options: vec![],
        source: super::CLIENT.into(),
        destination: super::VIP.into(),
        extensions: vec![],
        transport: Transport::None,
        l4_wrong_by: 0,
        payload: vec![],
        padding: 0,
        cut: None,
    }
}

/// One method per field: sets it and hands the builder on.
macro_rules! setters {
    ($( $(#[doc = $doc:literal])+ $name:ident($($value:ident: $kind:ty),+) => $set:expr; )+) => {
        impl Builder {
            $( $(#[doc = $doc])+
            pub(crate) fn $name(mut self, $($value: $kind),+) -> Self {
                let set: fn(&mut Self, $($kind),+) = $set;
                set(&mut self, $($value),+);
                self
            } )+
        }
    };
}

setters! {
    /// Exactly these bytes, whatever else is said.
    literal(bytes: &[u8]) => |b, bytes| b.literal = Some(bytes.to_vec());
    /// Link addresses.
    macs(source: Mac, destination: Mac) => |b, source, destination| {
        b.mac_source = source;
        b.mac_destination = destination;
    };
    /// Link address of the receiver.
    received_by(mac: Mac) => |b, mac| b.mac_destination = mac;
    /// EtherType.
    ethertype(value: u16) => |b, value| b.ethertype = Some(value);
    /// IP version.
    version(value: u8) => |b, value| b.version = Some(value);
    /// IP header length as claimed, in 32-bit words.
    ihl(words: u8) => |b, words| b.ihl = Some(words);
    /// Type of service.
    tos(value: u8) => |b, value| b.tos = value;
    /// IPv6 flow label.
    flow_label(value: u32) => |b, value| b.flow_label = value;
    /// IP total length as claimed; in IPv6 the payload length.
    total_length(bytes: u16) => |b, bytes| b.total_length = Some(bytes);
    /// IP identification.
    identification(value: u16) => |b, value| b.identification = value;
    /// IP flags and fragment offset.
    flags_fragment(value: u16) => |b, value| b.flags_fragment = value;
    /// Time to live.
    ttl(value: u8) => |b, value| b.ttl = value;
    /// IP options; a multiple of four bytes.
    ip_options(bytes: &[u8]) => |b, bytes| b.ip_options = bytes.to_vec();
    /// Makes the IP checksum wrong by this much.
    ip_wrong_by(difference: u16) => |b, difference| b.ip_wrong_by = difference;
    /// Makes the transport checksum wrong by this much.
    l4_wrong_by(difference: u16) => |b, difference| b.l4_wrong_by = difference;
    /// One more IPv6 extension header: its type and all its bytes but the first, which says what
    /// comes next.
    extension(kind: u8, rest: &[u8]) => |b, kind, rest| b.extensions.push((kind, rest.to_vec()));
    /// What the transport header carries.
    payload(bytes: &[u8]) => |b, bytes| b.payload = bytes.to_vec();
    /// Zero bytes after the IP packet, as the link adds them.
    padding(bytes: usize) => |b, bytes| b.padding = bytes;
    /// Ends the IP packet this many bytes after its header, the header saying so.
    cut(bytes: usize) => |b, bytes| b.cut = Some(bytes);
    /// Some other protocol.
    protocol(number: u8) => |b, number| {
        b.protocol = number;
        b.transport = Transport::None;
    };
    /// An ICMP or, between IPv6 addresses, `ICMPv6` message.
    icmp(kind: u8, code: u8, rest: u32) => |b, kind, code, rest| {
        b.protocol = if b.source.is_ipv6() { 58 } else { 1 };
        b.transport = Transport::Icmp { kind, code, rest };
    };
    /// TCP flags.
    flags(value: u8) => |b, value| {
        if let Transport::Tcp { flags, .. } = &mut b.transport { *flags = value; }
    };
    /// TCP sequence and acknowledgment number.
    numbers(sequence_value: u32, ack_value: u32) => |b, sequence_value, ack_value| {
        if let Transport::Tcp { sequence, ack, .. } = &mut b.transport {
            (*sequence, *ack) = (sequence_value, ack_value);
        }
    };
    /// TCP window.
    window(value: u16) => |b, value| {
        if let Transport::Tcp { window, .. } = &mut b.transport { *window = value; }
    };
    /// TCP options; a multiple of four bytes.
    tcp_options(bytes: &[u8]) => |b, bytes| {
        if let Transport::Tcp { options, .. } = &mut b.transport { *options = bytes.to_vec(); }
    };
    /// TCP data offset as claimed, in 32-bit words.
    data_offset(words: u8) => |b, words| {
        if let Transport::Tcp { offset, .. } = &mut b.transport { *offset = Some(words); }
    };
    /// UDP length as claimed.
    udp_length(bytes: u16) => |b, bytes| {
        if let Transport::Udp { length, .. } = &mut b.transport { *length = Some(bytes); }
    };
}

impl Builder {
    /// Addresses and ports.
    pub(crate) fn between(
        mut self,
        source: impl Into<SocketAddr>,
        destination: impl Into<SocketAddr>,
    ) -> Self {
        (self.source, self.destination) = (source.into(), destination.into());
        self
    }

    /// A TCP ACK.
    pub(crate) fn tcp(
        self,
        source: impl Into<SocketAddr>,
        destination: impl Into<SocketAddr>,
    ) -> Self {
        let mut b = self.between(source, destination);
        b.protocol = 6;
        b.transport = Transport::Tcp {
            sequence: 0x1111_2222,
            ack: 0x3333_4444,
            flags: 0x10,
            window: 0xfaf0,
            offset: None,
            options: vec![],
        };
        b
    }

    /// A UDP datagram.
    pub(crate) fn udp(
        self,
        source: impl Into<SocketAddr>,
        destination: impl Into<SocketAddr>,
    ) -> Self {
        let mut b = self.between(source, destination);
        b.protocol = 17;
        b.transport = Transport::Udp { length: None, checksum: true };
        b
    }

    /// An SCTP packet; its chunks are the payload.
    pub(crate) fn sctp(
        self,
        source: impl Into<SocketAddr>,
        destination: impl Into<SocketAddr>,
        tag: u32,
    ) -> Self {
        let mut b = self.between(source, destination);
        b.protocol = 132;
        b.transport = Transport::Sctp { tag };
        b
    }

    /// UDP without a checksum.
    pub(crate) fn without_checksum(mut self) -> Self {
        if let Transport::Udp { checksum, .. } = &mut self.transport {
            *checksum = false;
        }
        self
    }

    /// The TTL said.
    pub(crate) fn ttl_value(&self) -> u8 {
        self.ttl
    }

    /// Two more bytes of payload, chosen so that `like_this` of the packet has a transport
    /// checksum of zero.
    pub(crate) fn l4_checksum_zero_in(mut self, like_this: impl Fn(Self) -> Self) -> Self {
        assert!(self.payload.len().is_multiple_of(2), "the chosen word must be aligned");
        self.payload.extend([0, 0]);
        let word = like_this(self.clone()).l4_checksum();
        self.payload.truncate(self.payload.len() - 2);
        self.payload.extend(word.to_be_bytes());
        assert_eq!(like_this(self.clone()).l4_checksum(), 0, "the word makes the sum full");
        self
    }

    /// An identification chosen so that `like_this` of the packet has an IP checksum of zero.
    pub(crate) fn ip_checksum_zero_in(mut self, like_this: impl Fn(Self) -> Self) -> Self {
        self.identification = 0;
        let header = like_this(self.clone()).ip_header();
        self.identification = u16::from_be_bytes([header[10], header[11]]);
        self
    }

    /// The IP protocol said.
    pub(crate) fn protocol_number(&self) -> u8 {
        self.protocol
    }

    /// Source and destination, ports included.
    pub(crate) fn sockets(&self) -> (SocketAddr, SocketAddr) {
        (self.source, self.destination)
    }

    /// Source and destination address.
    pub(crate) fn addresses(&self) -> (IpAddr, IpAddr) {
        (self.source.ip(), self.destination.ip())
    }

    /// What parsing the frame must give if it is an IPv4 flow.
    pub(crate) fn parsed(&self) -> Parsed {
        let end = |end: SocketAddr| match end.ip() {
            IpAddr::V4(address) => (address, end.port()),
            IpAddr::V6(address) => panic!("{address} is IPv6"),
        };
        self.parsed_as(FlowKey::new(self.protocol, end(self.source), end(self.destination)))
    }

    /// What parsing the frame must give if it is an IPv6 flow.
    pub(crate) fn parsed_v6(&self) -> Parsed<Ipv6Addr> {
        let end = |end: SocketAddr| match end.ip() {
            IpAddr::V6(address) => (address, end.port()),
            IpAddr::V4(address) => panic!("{address} is IPv4"),
        };
        self.parsed_as(FlowKey::new(self.protocol, end(self.source), end(self.destination)))
    }

    fn parsed_as<F: Family>(&self, key: FlowKey<F>) -> Parsed<F> {
        let l4 = 14 + self.ip_header().len();
        let signal = match self.transport {
            Transport::Tcp { flags, .. } => flags,
            Transport::Sctp { .. } => sctp_event(&self.payload),
            _ => 0,
        };
        Parsed {
            key,
            l3: 14,
            l4: u16::try_from(l4).unwrap(),
            end: u16::try_from(l4 + self.segment().len()).unwrap(),
            ttl: self.ttl,
            signal,
        }
    }

    /// The frame.
    pub(crate) fn build(&self) -> Vec<u8> {
        if let Some(bytes) = &self.literal {
            return bytes.clone();
        }
        let mut frame = [self.mac_destination.0, self.mac_source.0].concat();
        let ethertype = if self.source.is_ipv6() { 0x86dd } else { 0x0800 };
        frame.extend(self.ethertype.unwrap_or(ethertype).to_be_bytes());
        frame.extend(self.ip_packet());
        frame.resize(frame.len() + self.padding, 0);
        frame
    }

    /// The IP packet alone.
    pub(crate) fn ip_packet(&self) -> Vec<u8> {
        [self.ip_header(), self.segment()].concat()
    }

    fn ip_header(&self) -> Vec<u8> {
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.header_v4(source, destination),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.header_v6(source, destination),
            ends => panic!("{ends:?} are of two families"),
        }
    }

    fn header_v6(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let kinds = self.extensions.iter().map(|(kind, _)| *kind).chain([self.protocol]);
        let kinds: Vec<u8> = kinds.collect();
        let extensions = kinds.iter().skip(1).zip(&self.extensions);
        let extensions: Vec<u8> =
            extensions.flat_map(|(next, (_, rest))| [&[*next], &rest[..]].concat()).collect();
        let honest = || u16::try_from(extensions.len() + self.segment().len()).unwrap();
        let version = self.version.unwrap_or(6);
        let [_, a, b, c] = self.flow_label.to_be_bytes();
        let mut header = vec![version << 4 | self.tos >> 4, self.tos << 4 | a, b, c];
        header.extend(self.total_length.unwrap_or_else(honest).to_be_bytes());
        header.extend([kinds[0], self.ttl]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(extensions);
        header
    }

    fn header_v4(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let length = 20 + self.ip_options.len();
        let ihl = self.ihl.unwrap_or_else(|| u8::try_from(length / 4).unwrap());
        let honest = || u16::try_from(length + self.segment().len()).unwrap();
        let mut header = vec![self.version.unwrap_or(4) << 4 | ihl, self.tos];
        header.extend(self.total_length.unwrap_or_else(honest).to_be_bytes());
        header.extend(self.identification.to_be_bytes());
        header.extend(self.flags_fragment.to_be_bytes());
        header.extend([self.ttl, self.protocol, 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(&self.ip_options);
        let checksum = add(!sum(&header), self.ip_wrong_by);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    }

    fn segment(&self) -> Vec<u8> {
        let mut segment = self.segment_with(0);
        let checksum = match (&self.transport, self.l4_checksum()) {
            (Transport::None | Transport::Sctp { .. }, _) => None,
            (Transport::Udp { checksum: false, .. }, _) => Some(0),
            (Transport::Udp { .. }, 0) => Some(0xffff),
            (_, checksum) => Some(checksum),
        };
        if let Some(checksum) = checksum {
            segment = self.segment_with(add(checksum, self.l4_wrong_by));
        }
        segment.truncate(self.cut.unwrap_or(usize::MAX));
        segment
    }

    /// The checksum as computed: for UDP, zero is not yet written as 0xffff.
    fn l4_checksum(&self) -> u16 {
        let mut segment = self.segment_with(0);
        if let Transport::Udp { length: Some(length), .. } = self.transport {
            segment.truncate(usize::from(length));
        }
        let mut summed = vec![];
        if !matches!(self.transport, Transport::Icmp { .. }) || self.source.is_ipv6() {
            summed.extend([octets(self.source.ip()), octets(self.destination.ip())].concat());
            summed.extend([0, self.protocol]);
            summed.extend(u16::try_from(segment.len()).unwrap().to_be_bytes());
        }
        summed.extend(segment);
        !sum(&summed)
    }

    fn segment_with(&self, checksum: u16) -> Vec<u8> {
        let ports = [self.source.port(), self.destination.port()].map(u16::to_be_bytes).concat();
        let mut segment = match &self.transport {
            Transport::Tcp { sequence, ack, flags, window, offset, options } => {
                let words = u8::try_from(5 + options.len() / 4).unwrap();
                let mut header = ports;
                header.extend(sequence.to_be_bytes());
                header.extend(ack.to_be_bytes());
                header.extend([offset.unwrap_or(words) << 4, *flags]);
                header.extend(window.to_be_bytes());
                header.extend(checksum.to_be_bytes());
                header.extend([0, 0]);
                header.extend(options);
                header
            }
            Transport::Udp { length, .. } => {
                let honest = || u16::try_from(8 + self.payload.len()).unwrap();
                let mut header = ports;
                header.extend(length.unwrap_or_else(honest).to_be_bytes());
                header.extend(checksum.to_be_bytes());
                header
            }
            Transport::Icmp { kind, code, rest } => {
                let mut header = vec![*kind, *code];
                header.extend(checksum.to_be_bytes());
                header.extend(rest.to_be_bytes());
                header
            }
            Transport::Sctp { tag } => {
                let mut header = ports;
                header.extend(tag.to_be_bytes());
                header.extend([0; 4]);
                let crc = crc32c([&header[..], &self.payload].concat().as_slice());
                header[8..].copy_from_slice(&(crc ^ u32::from(self.l4_wrong_by)).to_le_bytes());
                header
            }
            Transport::None => vec![],
        };
        segment.extend(&self.payload);
        segment
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The number of the event that these SCTP chunks are: the first one's type decides, but for an
/// ABORT right behind a cookie.
fn sctp_event(chunks: &[u8]) -> u8 {
    let length = usize::from(u16::from_be_bytes([chunks[2], chunks[3]]));
    let second = chunks.get(length.next_multiple_of(4)).filter(|_| length >= 4);
    match (chunks[0], second) {
        (10 | 11, Some(6)) | (6, _) => 9,
        (kind @ (1 | 2), _) => kind,
        (kind @ (10 | 11), _) => kind - 7,
        (kind @ (7 | 8), _) => kind - 2,
        (14, _) => 7,
        (9, _) => 8,
        _ => 0,
    }
}

/// An SCTP chunk: its type, flags and value, padded.
pub(crate) fn chunk(kind: u8, flags: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap().to_be_bytes();
    let mut chunk = [&[kind, flags], &length[..], value].concat();
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}

/// `CRC32c`, a bit at a time (RFC 9260 appendix A: the register is sent lowest byte first).
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// One's-complement addition.
fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}

/// The Internet checksum's sum, a big-endian word at a time (RFC 1071 section 1).
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0, |total, pair| {
        let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        add(total, word)
    })
}
