//! One end of a TCP connection (RFC 9293, without what the balancer cannot see: windows that close,
//! selective acknowledgment, congestion). It goes back to the first unacknowledged byte when time
//! is up, takes only what comes in order, and gives up after [`TRIES_MAX`].
//!
//! Positions count from the initial sequence number: 0 is the SYN, 1 the first byte, the one behind
//! the last byte is the FIN.

use std::net::SocketAddr;

use super::deeds::Deeds;
use crate::packet::{ACK, Body, FIN, PSH, Packet, RST, SYN};

/// Most bytes on the way.
const WINDOW: u32 = 4_000;
const TIMEOUT_MS: u64 = 300;
const TRIES_MAX: u32 = 7;
/// What looks like TOA and is not.
const FORGED: [u8; 8] = [254, 8, 0, 80, 9, 9, 9, 9];

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both ends closed, and everything was acknowledged.
    Complete,
    /// The other end, or the balancer in its name, reset it.
    Reset,
    /// This end did.
    Aborted,
    /// Nobody answered.
    GaveUp,
}

#[derive(Clone, Debug)]
pub(crate) struct Tcp {
    us: SocketAddr,
    them: SocketAddr,
    our_first: u32,
    their_first: u32,
    /// Everything this end will have sent, as far as it is known.
    pub(crate) stream: Vec<u8>,
    /// Close when the stream is sent.
    pub(crate) closing: bool,
    acknowledged: u32,
    next: u32,
    highest: u32,
    expected: u32,
    pub(crate) received: Vec<u8>,
    /// The other end has closed.
    pub(crate) their_fin: bool,
    pub(crate) end: Option<End>,
    pub(crate) mss: usize,
    tries: u32,
    deadline_ms: Option<u64>,
    /// What came out of order, to be said with the next acknowledgment (RFC 2018).
    beyond: Option<(u32, u32)>,
    /// A TOA option of its own making goes with every segment.
    pub(crate) forges: bool,
    /// What it was told and cannot be.
    pub(crate) wrong: Option<String>,
    /// Since somebody took them.
    pub(crate) deeds: Deeds,
}

impl Tcp {
    fn new(us: SocketAddr, them: SocketAddr, our_first: u32, mss: usize) -> Self {
        // The IPv6 header is longer.
        let mss = mss - if us.is_ipv6() { 20 } else { 0 };
        Self {
            us,
            them,
            our_first,
            their_first: 0,
            stream: vec![],
            closing: false,
            acknowledged: 0,
            next: 0,
            highest: 0,
            expected: 0,
            received: vec![],
            their_fin: false,
            end: None,
            mss,
            tries: 0,
            deadline_ms: None,
            beyond: None,
            forges: false,
            wrong: None,
            deeds: Deeds::default(),
        }
    }

    /// A client's end, and its SYN.
    pub(crate) fn connect(
        us: SocketAddr,
        them: SocketAddr,
        first: u32,
        (mss, forges): (usize, bool),
        now_ms: u64,
    ) -> (Self, Vec<Packet>) {
        let mut end = Self { forges, ..Self::new(us, them, first, mss) };
        let packets = end.transmit(now_ms);
        (end, packets)
    }

    /// A backend's end, made by a SYN.
    pub(crate) fn accept(syn: &Packet, first: u32, now_ms: u64) -> (Self, Vec<Packet>) {
        let mut end = Self::new(syn.to, syn.from, first, 1_460);
        if let Body::Tcp { sequence, .. } = syn.body {
            (end.their_first, end.expected) = (sequence, 1);
        }
        let packets = end.transmit(now_ms);
        (end, packets)
    }

    /// Has the other end answered?
    pub(crate) fn is_connected(&self) -> bool {
        self.acknowledged > 0 && self.expected > 0
    }

    /// Is this the SYN that made this end?
    pub(crate) fn is_made_by(&self, syn: &Packet) -> bool {
        matches!(syn.body, Body::Tcp { sequence, .. } if sequence == self.their_first)
    }

    /// When time must be looked at next.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.deadline_ms.filter(|_| self.end.is_none())
    }

    /// Position of the FIN.
    fn fin(&self) -> u32 {
        1 + u32::try_from(self.stream.len()).unwrap()
    }

    /// Sends what may be sent.
    pub(crate) fn transmit(&mut self, now_ms: u64) -> Vec<Packet> {
        let mut packets = vec![];
        while self.end.is_none() && self.next < self.sendable() {
            let (at, mut flags, mut payload) =
                (self.next, if self.expected > 0 { ACK } else { 0 }, vec![]);
            if at == 0 {
                flags |= SYN;
                self.next = 1;
            } else {
                let rest = &self.stream[(at as usize - 1).min(self.stream.len())..];
                let mss = self.mss - if self.forges { FORGED.len() } else { 0 };
                payload = rest[..rest.len().min(mss)].to_vec();
                self.next += u32::try_from(payload.len()).unwrap();
                flags |= if payload.is_empty() { 0 } else { PSH };
                if self.closing && self.next == self.fin() {
                    flags |= FIN;
                    self.next += 1;
                }
            }
            self.deeds.again += u64::from(at < self.highest && self.is_connected());
            packets.push(self.segment(at, flags, payload));
        }
        self.highest = self.highest.max(self.next);
        if !packets.is_empty() && self.deadline_ms.is_none() {
            self.deadline_ms = Some(now_ms + (TIMEOUT_MS << self.tries));
        }
        packets
    }

    /// The position up to which may be sent now.
    fn sendable(&self) -> u32 {
        if !self.is_connected() {
            return 1;
        }
        let all = self.fin() + u32::from(self.closing);
        all.min(self.acknowledged + WINDOW)
    }

    /// Time has passed: perhaps something must be sent again.
    pub(crate) fn on_time(&mut self, now_ms: u64) -> Vec<Packet> {
        if self.deadline_ms().is_none_or(|deadline| now_ms < deadline) {
            return vec![];
        }
        self.deadline_ms = None;
        self.tries += 1;
        if self.tries > TRIES_MAX {
            self.end = Some(End::GaveUp);
            return vec![];
        }
        self.next = self.acknowledged;
        self.transmit(now_ms)
    }

    /// Smaller packets from now on (RFC 1191): what was on the way is sent again.
    pub(crate) fn shrink(&mut self, mtu: usize, now_ms: u64) -> Vec<Packet> {
        let headers = if self.us.is_ipv6() { 60 } else { 40 };
        let mss = mtu.saturating_sub(headers).max(100);
        if mss >= self.mss || self.end.is_some() {
            return vec![];
        }
        self.mss = mss;
        self.next = self.acknowledged;
        self.transmit(now_ms)
    }

    /// Ends it with a reset.
    pub(crate) fn abort(&mut self) -> Packet {
        self.end = Some(End::Aborted);
        self.deeds.resets += 1;
        self.segment(self.next, RST | ACK, vec![])
    }

    /// A segment of the other end; what this end answers.
    pub(crate) fn receive(&mut self, packet: &Packet, now_ms: u64) -> Vec<Packet> {
        let Body::Tcp { sequence, ack, flags, .. } = packet.body else { return vec![] };
        let acked = ack.wrapping_sub(self.our_first);
        if flags & RST != 0 {
            self.on_reset(sequence, acked, flags);
            return vec![];
        }
        if self.end.is_some_and(|end| end != End::Complete) {
            return refusal(packet).into_iter().collect();
        }
        if self.expected == 0 {
            if flags & (SYN | ACK) != SYN | ACK || acked != 1 {
                return refusal(packet).into_iter().filter(|_| flags & ACK != 0).collect();
            }
            (self.their_first, self.expected) = (sequence, 1);
        }
        self.on_ack(flags, acked);
        self.check_sack(packet, acked);
        let answer = self.take(packet, sequence, flags);
        let mut packets = self.transmit(now_ms);
        if packets.is_empty() && answer {
            packets.push(self.segment(self.next, ACK, vec![]));
        }
        self.settle();
        packets
    }

    /// RFC 9293, 3.10.7.3 and 3.10.7.4: a reset must be of this connection.
    fn on_reset(&mut self, sequence: u32, acked: u32, flags: u8) {
        let right = if self.expected == 0 {
            flags & ACK != 0 && acked == 1
        } else {
            sequence == self.their_first.wrapping_add(self.expected)
        };
        if right && self.end.is_none() {
            self.end = Some(End::Reset);
        }
    }

    fn on_ack(&mut self, flags: u8, acked: u32) {
        if flags & ACK != 0 && acked > self.acknowledged && acked <= self.highest {
            self.acknowledged = acked;
            self.next = self.next.max(acked);
            self.tries = 0;
            self.deadline_ms = None;
        }
    }

    /// Takes what is new and in order. Must it be acknowledged?
    fn take(&mut self, packet: &Packet, sequence: u32, flags: u8) -> bool {
        let at = sequence.wrapping_sub(self.their_first);
        let length = u32::try_from(packet.payload.len()).unwrap();
        let is_new = flags & SYN == 0 && at <= self.expected && !self.their_fin;
        if is_new {
            let known = (self.expected - at) as usize;
            let new = packet.payload.get(known..).unwrap_or_default();
            let is_half_closed = self.closing && self.acknowledged == self.fin() + 1;
            self.deeds.taken_half_closed += u64::from(is_half_closed && !new.is_empty());
            self.received.extend(new);
            self.expected = self.expected.max(at + length);
            if flags & FIN != 0 && at + length == self.expected {
                self.their_fin = true;
                self.expected += 1;
            }
        }
        let is_beyond = length > 0 && at > self.expected && at < WINDOW * 2;
        self.beyond = is_beyond.then_some((sequence, sequence.wrapping_add(length)));
        length > 0 || flags & (SYN | FIN) != 0
    }

    /// Nobody can have what was never sent.
    fn check_sack(&mut self, packet: &Packet, acked: u32) {
        let Body::Tcp { options, .. } = &packet.body else { return };
        let current = acked > 0 && acked <= self.highest;
        let [1, 1, 5, 10, edges @ ..] = &options[..] else { return };
        for edge in edges.chunks_exact(4).take(2).filter(|_| current) {
            let at = u32::from_be_bytes(edge.try_into().unwrap()).wrapping_sub(self.our_first);
            if at == 0 || at > self.highest {
                self.wrong = Some(format!("SACK of {at}, and {} was sent", self.highest));
            }
        }
    }

    fn settle(&mut self) {
        if self.their_fin && self.closing && self.acknowledged == self.fin() + 1 {
            self.end.get_or_insert(End::Complete);
        }
    }

    fn segment(&self, at: u32, flags: u8, payload: Vec<u8>) -> Packet {
        let ack = if self.expected > 0 { self.their_first.wrapping_add(self.expected) } else { 0 };
        let mut options = match self.beyond {
            _ if flags & SYN != 0 => vec![2, 4, 5, 0xb4],
            Some((from, to)) if flags == ACK && payload.is_empty() => {
                [&[1, 1, 5, 10][..], &from.to_be_bytes(), &to.to_be_bytes()].concat()
            }
            _ => vec![],
        };
        if self.forges {
            options.extend(FORGED);
        }
        let sequence = self.our_first.wrapping_add(at);
        let body = Body::Tcp { sequence, ack, flags, window: 65_000, options };
        Packet { payload, ..Packet::new(self.us, self.them, body) }
    }
}

/// The reset a host answers with to a segment it has no connection for (RFC 9293, 3.10.7.1).
pub(crate) fn refusal(packet: &Packet) -> Option<Packet> {
    let Body::Tcp { sequence, ack, flags, .. } = packet.body else { return None };
    if flags & RST != 0 {
        return None;
    }
    let counted = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    let length = u32::try_from(packet.payload.len()).unwrap() + counted;
    let (sequence, ack, flags) = if flags & ACK != 0 {
        (ack, 0, RST)
    } else {
        (0, sequence.wrapping_add(length), RST | ACK)
    };
    let body = Body::Tcp { sequence, ack, flags, window: 0, options: vec![] };
    Some(Packet::new(packet.to, packet.from, body))
}
