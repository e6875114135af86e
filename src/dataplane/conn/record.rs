//! One connection in one cache line: all that an established packet needs, in either direction.
//!
//! ```text
//! byte  0        16       24         32      36       42      46 47    48      50      52     56
//!       addresses ports    client     seen_ms backend, deltas  st live  way,    stream  first  said
//!       [2 × u64] [2 × u32] MAC, port,        service, ip, l4  at       intro-  or GUE  sequ-  [2 × u32]
//!                          protocol           seat             e        duction port    ence   (free list)
//! ```
//!
//! IPv6 addresses make it two lines: the first holds the addresses, the second the rest.
//!
//! A connection has two *sides*: the client's (side 0: client → VIP) and the backend's (side 1:
//! backend → local address). A packet that matches one side's key leaves with the *reverse of the
//! other side's key*, so both the match and the rewrite read the same two pairs of words, and the
//! side is an array index, not a branch. NAT is the same with the client's own address and port in
//! the place of the local ones. In DR and tunnel mode the backend answers by itself: then side 1 is
//! the reverse of side 0, "translation" changes nothing, and only side 0 is in the index. Side 0 is
//! not where every datagram is a connection. Checksum deltas are kept for side 0; side 1 is their
//! inverse.
//!
//! *Said* is what each side's last packet had for the other's numbers: TCP's acknowledgement, SCTP's
//! verification tag. A connection that ends here is ended with them (`dataplane/endings.rs`).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::key::{FlowKey, Side};
use super::state::{self, Direction, State};
use crate::dataplane::family::Family;
use crate::dataplane::rewrite::translation_deltas;
use crate::dataplane::snapshot::{ClientAddress, Encapsulation, GueChecksum};
use crate::dataplane::sources::Seat;
use crate::ids::{BackendId, PortId, ServiceId, limits};
use crate::wire::Mac;
use crate::wire::checksum::Delta;

/// The record. All-zero bytes are a free record.
#[derive(Clone, Copy, Debug, zerocopy::FromBytes, zerocopy::Immutable)]
#[repr(C, align(64))]
pub struct Record<F: Family = Ipv4Addr> {
    addresses: [F::Addresses; 2],
    ports: [u32; 2],
    client_link: ClientLink,
    /// When the last packet passed, in worker milliseconds (wraps after 49 days; only differences
    /// are used, and no timeout is longer than 31 days).
    pub seen_ms: u32,
    backend: u16,
    service: u16,
    /// [`Seat`]: where its source's connections are counted.
    seat: u16,
    ip_delta: u16,
    l4_delta: u16,
    state: u8,
    live: u8,
    /// [`Way`], and what it needs.
    way: u8,
    /// [`ClientAddress`], as a number.
    introduction: u8,
    /// Bytes put into the client's stream, and [`Progress`]; nothing is put into what is wrapped, and there
    /// they are the port of GUE.
    inserted: u8,
    progress: u8,
    /// Sequence number behind the client's SYN, where these bytes are.
    first_sequence: u32,
    /// What each side said last; 0 is nothing. The backend's place is the free list's link while the
    /// record is free, and the number of the splice, where the backend's is then, while [`SPLICED`].
    /// The client's is where its stream would start, from a SYN that asks for another start until the
    /// backend agrees ([`ASKED`]).
    said: [u32; 2],
}

const _: () = assert!(size_of::<Record>() == 64, "a record is one cache line");
const _: () = assert!(size_of::<Record<Ipv6Addr>>() == 128, "IPv6's is two");
const _: () = assert!(limits::BACKENDS <= 1 << 16 && limits::SERVICES <= 1 << 16, "ids fit");

/// Where a client was last seen on the link, and, in the byte that is left, the connection's protocol: the
/// sender's address, the port, the protocol, from the lowest byte up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, zerocopy::FromBytes, zerocopy::Immutable)]
#[repr(transparent)]
pub struct ClientLink(u64);

/// The bits of the address.
const MAC: u64 = (1 << PORT_AT) - 1;
const PORT_AT: u32 = 48;
const PROTOCOL_AT: u32 = 56;

impl ClientLink {
    fn new(mac: Mac, port: PortId, protocol: u8) -> Self {
        Self(mac.number(u16::from_le_bytes([port.0, protocol])))
    }

    /// Its port.
    #[inline(always)]
    pub fn port(self) -> PortId {
        PortId(self.0.to_le_bytes()[6])
    }

    /// Its link address.
    #[inline]
    pub fn mac(self) -> Mac {
        Mac::of_number(self.0)
    }

    /// The address as a little-endian number; the upper 16 bits are something else.
    #[inline(always)]
    pub fn number(self) -> u64 {
        self.0
    }
}

/// An id as the record has it. Nobody gives out others: the limits say so.
fn short(id: u32) -> u16 {
    u16::try_from(id).unwrap_or(u16::MAX)
}

/// What a new connection is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewConnection<F: Family = Ipv4Addr> {
    /// The client's packet: client → VIP.
    pub client: FlowKey<F>,
    /// The backend's packet: backend → local address.
    pub backend: FlowKey<F>,
    /// Service it belongs to.
    pub service: ServiceId,
    /// Backend it goes to.
    pub backend_id: BackendId,
    /// Link-layer sender of the client's first packet: where answers go.
    pub client_mac: Mac,
    /// Port the client's first packet came in by.
    pub client_port: PortId,
    /// Its first state.
    pub state: State,
    /// How its packets go to the backend.
    pub way: Way,
    /// How the backend learns who the client is.
    pub introduction: ClientAddress,
    /// Where it counts for its source.
    pub seat: Seat,
}

/// How packets of a connection go to its backend, for all its life: a reload that changes the
/// backend's mode is for new connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// Rewritten, both directions passing here (NAT, FULL-NAT).
    #[default]
    Translated,
    /// As they are.
    Direct,
    /// As they are, wrapped.
    Wrapped(Encapsulation),
    /// Rewritten, between an IPv6 client and an IPv4 backend (NAT64).
    Crossed,
}

/// What a packet has changed of its connection that others keep books of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "loads and counters follow"]
pub struct Noted(u8);

impl Noted {
    const TURNED: u8 = 1;
    const ANSWERED: u8 = 2;

    /// As of nearly all: nothing.
    #[inline(always)]
    pub fn is_nothing(self) -> bool {
        self.0 == 0
    }

    /// Does it count as active now and did not before, or the other way round?
    pub fn has_turned(self) -> bool {
        self.0 & Self::TURNED != 0
    }

    /// Does its backend answer, while its client waits for that?
    pub fn has_answered(self) -> bool {
        self.0 & Self::ANSWERED != 0
    }
}

/// How far a client's stream has come, as far as bytes inserted in front of it are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Progress {
    /// The backend has not answered the SYN: the client may still choose another number.
    Open = 0,
    /// The backend has acknowledged the SYN.
    Agreed = 1,
    /// And all that was inserted.
    Delivered = 2,
    /// And so much more that no older number is on its way any more: from here on numbers may go
    /// round.
    Far = 3,
}

/// Added to the progress: the client has asked for another start. Of what the old connection still
/// says nothing is kept from then on: it would hide what the new one asked for.
const ASKED: u8 = 0x80;
/// Added to the progress: it has been counted as one that its backend leaves without an answer.
const COUNTED: u8 = 0x40;
/// What else lies in the progress.
const PROGRESS_FLAGS: u8 = ASKED | COUNTED;

/// The code of [`Way::Wrapped`] in IPIP.
const IPIP: u8 = 2;
/// [`Way::Crossed`]'s code; those between 0 and it are of backends that answer by themselves.
const CROSSED: u8 = 16;
/// Added to the way's code: the connection has a splice.
const SPLICED: u8 = 0x80;

impl Way {
    /// One byte: 0 translated, 1 direct, from 2 wrapped, [`CROSSED`].
    fn code(self) -> u8 {
        match self {
            Way::Translated => 0,
            Way::Crossed => CROSSED,
            Way::Direct => 1,
            Way::Wrapped(Encapsulation::Ipip) => IPIP,
            Way::Wrapped(Encapsulation::Gre { checksum }) => 3 + u8::from(checksum),
            Way::Wrapped(Encapsulation::Gue { checksum, .. }) => 5 + checksum as u8,
        }
    }

    fn port(self) -> u16 {
        match self {
            Way::Wrapped(Encapsulation::Gue { port, .. }) => port,
            _ => 0,
        }
    }
}

/// [`ClientAddress`] as a number: 0 none, these, or the kind of TOA's option.
const PROXY_V1: u8 = 1;
const PROXY_V2: u8 = 2;

fn introduction_code(introduction: ClientAddress) -> u8 {
    match introduction {
        ClientAddress::None => 0,
        ClientAddress::ProxyV1 => PROXY_V1,
        ClientAddress::ProxyV2 => PROXY_V2,
        ClientAddress::Toa { kind_v6 } => kind_v6,
    }
}

impl<F: Family> Record<F> {
    /// A live record of a connection last seen `now_ms`.
    #[inline]
    pub fn new(new: &NewConnection<F>, now_ms: u32) -> Self {
        let (ip_delta, l4_delta) = translation_deltas(new.client, new.backend.reversed());
        let [inserted, progress] = new.way.port().to_be_bytes();
        Self {
            addresses: [new.client.addresses, new.backend.addresses],
            ports: [new.client.ports, new.backend.ports],
            seen_ms: now_ms,
            backend: short(new.backend_id.0),
            service: short(new.service.0),
            seat: new.seat.0,
            ip_delta: ip_delta.0,
            l4_delta: l4_delta.0,
            client_link: ClientLink::new(new.client_mac, new.client_port, new.client.protocol),
            state: new.state as u8,
            live: 1,
            way: new.way.code(),
            introduction: introduction_code(new.introduction),
            inserted,
            progress,
            first_sequence: 0,
            said: [0; 2],
        }
    }

    /// Is a connection here?
    #[inline(always)]
    pub fn is_live(&self) -> bool {
        self.live != 0
    }

    /// Marks the record free.
    pub(super) fn retire(&mut self) {
        self.live = 0;
    }

    /// Does the backend answer by itself?
    #[inline(always)]
    pub fn is_direct(&self) -> bool {
        self.way.wrapping_sub(1) < CROSSED - 1
    }

    /// Does the backend see the client's own address? Not in FULL-NAT alone.
    pub fn shows_client(&self) -> bool {
        self.key(Side::Client).source() == self.key(Side::Backend).destination()
    }

    /// Is its backend of the other family (NAT64)?
    #[inline(always)]
    pub fn is_crossed(&self) -> bool {
        self.way & !SPLICED == CROSSED
    }

    /// Has the balancer shaken hands with its client itself (SYN cookies)?
    #[inline(always)]
    pub fn is_spliced(&self) -> bool {
        self.way & SPLICED != 0
    }

    /// The number of its splice, if it has one.
    #[inline]
    pub fn splice(&self) -> Option<u32> {
        self.is_spliced().then_some(self.link())
    }

    /// The next free record, or the splice.
    pub(super) fn link(&self) -> u32 {
        self.said[Side::Backend as usize]
    }

    /// Sets that.
    pub(super) fn set_link(&mut self, link: u32) {
        self.said[Side::Backend as usize] = link;
    }

    /// What a side said last of the other's numbers; 0 is nothing. Of a spliced connection's backend
    /// its splice knows.
    pub fn said(&self, side: Side) -> u32 {
        self.said[side as usize]
    }

    /// A side says so. Not for the backend of a spliced connection.
    #[inline(always)]
    pub fn remember(&mut self, side: Side, number: u32) {
        self.said[side as usize] = number;
    }

    /// It has this splice now.
    pub(super) fn set_splice(&mut self, number: u32) {
        self.way |= SPLICED;
        self.set_link(number);
    }

    /// Does it need more than new addresses: an outer header, the other family's, other numbers?
    #[inline(always)]
    pub fn is_special(&self) -> bool {
        self.way > 1 || self.introduction != 0
    }

    /// Does it need an IPIP header and nothing else?
    #[inline(always)]
    pub fn is_ipip(&self) -> bool {
        self.way == IPIP && self.introduction == 0
    }

    /// How its backend learns who the client is.
    #[inline]
    pub fn introduction(&self) -> ClientAddress {
        match self.introduction {
            0 => ClientAddress::None,
            PROXY_V1 => ClientAddress::ProxyV1,
            PROXY_V2 => ClientAddress::ProxyV2,
            kind_v6 => ClientAddress::Toa { kind_v6 },
        }
    }

    /// Sequence number of the first byte behind the client's SYN.
    #[inline]
    pub fn first_sequence(&self) -> u32 {
        self.first_sequence
    }

    /// Bytes that are put into the client's stream there.
    #[inline]
    pub fn inserted(&self) -> u8 {
        self.inserted
    }

    /// How far the client's stream has come.
    #[inline]
    pub fn progress(&self) -> Progress {
        match self.progress & !PROGRESS_FLAGS {
            0 => Progress::Open,
            1 => Progress::Agreed,
            2 => Progress::Delivered,
            _ => Progress::Far,
        }
    }

    /// The client's stream starts at `first_sequence`, with `inserted` bytes of ours. Once the
    /// backend has agreed to one, that is only noted: a forged SYN must not move the numbers of
    /// what lives.
    pub fn start_stream(&mut self, first_sequence: u32, inserted: u8) {
        if self.progress() == Progress::Open {
            (self.first_sequence, self.inserted) = (first_sequence, inserted);
        } else if first_sequence != self.first_sequence {
            self.said[Side::Client as usize] = first_sequence;
            self.progress |= ASKED;
        }
    }

    /// Has the client asked for another start than the one its backend has agreed to?
    pub fn asks_anew(&self) -> bool {
        self.progress & ASKED != 0 && !self.is_direct()
    }

    /// The backend answers a SYN, after which the client's stream starts there. If it has forgotten
    /// the stream it had agreed to, and the client has asked for this one, they have a new one.
    /// True if so.
    pub fn restart_stream(&mut self, first_sequence: u32) -> bool {
        let restarts = self.asks_anew() && self.said(Side::Client) == first_sequence;
        if restarts {
            (self.first_sequence, self.progress) = (first_sequence, Progress::Agreed as u8);
            self.said[Side::Client as usize] = 0;
        }
        restarts
    }

    /// The client's stream has come so far; never goes back.
    pub fn set_progress(&mut self, progress: Progress) {
        self.progress = self.progress & PROGRESS_FLAGS | self.progress().max(progress) as u8;
    }

    /// What its packets are wrapped in, if they are.
    #[inline(always)]
    pub fn wrapping(&self) -> Option<Encapsulation> {
        match self.way & !SPLICED {
            0 | 1 | CROSSED => None,
            IPIP => Some(Encapsulation::Ipip),
            3 => Some(Encapsulation::Gre { checksum: false }),
            4 => Some(Encapsulation::Gre { checksum: true }),
            code => {
                let checksum = match code {
                    5 => GueChecksum::Zero,
                    6 => GueChecksum::Outer,
                    _ => GueChecksum::Remote,
                };
                let port = u16::from_be_bytes([self.inserted, self.progress]);
                Some(Encapsulation::Gue { port, checksum })
            }
        }
    }

    /// Which state table a packet sent by `side` is an event of.
    #[inline(always)]
    pub fn direction(&self, side: Side) -> Direction {
        match side {
            Side::Backend => Direction::Output,
            Side::Client if self.is_direct() => Direction::InputOnly,
            Side::Client => Direction::Input,
        }
    }

    /// The sides that have an index entry: those whose packets pass here, but not a client's whose
    /// next datagram is another connection.
    pub fn sides(&self) -> &'static [Side] {
        match (self.state() == State::OnePacket, self.is_direct()) {
            (false, false) => &[Side::Client, Side::Backend],
            (false, true) => &[Side::Client],
            (true, false) => &[Side::Backend],
            (true, true) => &[],
        }
    }

    /// The key of packets sent by `side`.
    #[inline(always)]
    pub fn key(&self, side: Side) -> FlowKey<F> {
        let i = side as usize;
        let protocol = self.protocol();
        FlowKey { addresses: self.addresses[i], ports: self.ports[i], protocol }
    }

    /// Does a packet with this key belong to `side` of this connection?
    #[inline(always)]
    pub fn matches(&self, side: Side, key: FlowKey<F>) -> bool {
        let i = side as usize;
        let differ = F::difference(self.addresses[i], key.addresses)
            | u64::from(self.ports[i] ^ key.ports)
            | u64::from(self.protocol() ^ key.protocol)
            | u64::from(self.live ^ 1);
        differ == 0
    }

    /// The key a packet sent by `side` shall leave with: the reverse of the other side's.
    #[inline(always)]
    pub fn translated(&self, side: Side) -> FlowKey<F> {
        self.key(side.opposite()).reversed()
    }

    /// What translation of a packet sent by `side` does to the IPv4 and the TCP or UDP checksum.
    #[inline(always)]
    pub fn deltas(&self, side: Side) -> (Delta, Delta) {
        let (ip, l4) = (Delta(self.ip_delta), Delta(self.l4_delta));
        match side {
            Side::Client => (ip, l4),
            Side::Backend => (ip.inverse(), l4.inverse()),
        }
    }

    /// The backend's id.
    #[inline(always)]
    pub fn backend_id(&self) -> BackendId {
        BackendId(self.backend.into())
    }

    /// The service's id.
    #[inline(always)]
    pub fn service_id(&self) -> ServiceId {
        ServiceId(self.service.into())
    }

    /// Where it counts for its source.
    #[inline]
    pub fn seat(&self) -> Seat {
        Seat(self.seat)
    }

    /// Where the client was last seen on the link.
    #[inline(always)]
    pub fn client_link(&self) -> ClientLink {
        self.client_link
    }

    /// Remembers where the client's packets come from: a router that fails over to another is
    /// followed with its first packet. `source` is the sender's link address, a little-endian number
    /// whose upper 16 bits do not matter.
    #[inline(always)]
    pub fn set_client_link(&mut self, port: PortId, source: u64) {
        let protocol = self.client_link.0 >> PROTOCOL_AT << PROTOCOL_AT;
        self.client_link = ClientLink(source & MAC | u64::from(port.0) << PORT_AT | protocol);
    }

    /// A packet of `side` passes: when, and what it means for the state.
    #[inline(always)]
    pub fn note(&mut self, side: Side, signal: u8, now_ms: u32) -> Noted {
        self.seen_ms = now_ms;
        if state::keeps(self.state, signal) {
            return Noted(0);
        }
        let before = self.state();
        let state = state::advance(before, self.direction(side), signal);
        self.set_state(state);
        let has_turned = before.is_active() != state.is_active();
        let has_answered = side == Side::Backend && before.awaits_backend();
        let turned = if has_turned { Noted::TURNED } else { 0 };
        Noted(turned | if has_answered { Noted::ANSWERED } else { 0 })
    }

    /// Has the backend never answered it? Not of one whose handshake is the balancer's own, whose end says so
    /// (`dataplane/opening.rs`), and not where its answers do not pass here.
    ///
    /// A port that is used again keeps what was said before: that one counts as answered.
    pub fn is_unanswered(&self) -> bool {
        self.state().awaits_backend()
            && !self.is_direct()
            && !self.is_spliced()
            && self.said(Side::Backend) == 0
    }

    /// Counts it as unanswered. False if it was counted before.
    pub fn count_unanswered(&mut self) -> bool {
        let is_first = !self.is_counted_unanswered();
        self.progress |= COUNTED;
        is_first
    }

    /// Was it?
    pub fn is_counted_unanswered(&self) -> bool {
        self.progress & COUNTED != 0
    }

    /// Its state.
    #[inline(always)]
    pub fn state(&self) -> State {
        State::from_index(self.state)
    }

    /// Sets its state. [`State::OnePacket`], which [`Record::sides`] follows, no event begins or
    /// ends.
    #[inline(always)]
    pub fn set_state(&mut self, state: State) {
        self.state = state as u8;
    }

    /// IP protocol number.
    #[inline(always)]
    pub fn protocol(&self) -> u8 {
        self.client_link.0.to_le_bytes()[7]
    }
}
