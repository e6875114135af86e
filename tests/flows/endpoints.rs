//! A little TCP at both ends of the balancer, for tests that compare streams: it sends what it is
//! told to, in any order and as often, receives by sequence number, and knows no clock and no
//! congestion. What it is told by the wire it holds against what the other end really has.

use etherparse::{SlicedPacket, TransportSlice};
use shunt::dataplane::conn::state::flags::{ACK, FIN, PSH, SYN};

use std::net::SocketAddr;

use crate::packets::oracle::judge_any;
use crate::packets::{CLIENT_MAC, OUR_INNER_MAC, OUR_MAC, packet};
use crate::world::backend_mac;

/// A segment as it was read off the wire, checksums judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) sequence: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Segment {
    /// Panics if it is no TCP segment with right checksums.
    pub(crate) fn read(frame: &[u8]) -> Self {
        let seen = judge_any(frame).unwrap();
        assert!(seen.ip_right && seen.l4_right, "checksums");
        let sliced = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
        Self {
            source: (seen.source, seen.ports.0).into(),
            destination: (seen.destination, seen.ports.1).into(),
            sequence: tcp.sequence_number(),
            ack: tcp.acknowledgment_number(),
            flags: tcp.slice()[13],
            window: tcp.window_size(),
            urgent: tcp.urgent_pointer(),
            options: tcp.options().to_vec(),
            payload: tcp.payload().to_vec(),
        }
    }

    pub(crate) fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

/// What came of a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inbox {
    /// Sequence number of the first byte.
    first: Option<u32>,
    bytes: Vec<Option<u8>>,
    /// How long the stream is, once FIN has come.
    length: Option<usize>,
}

impl Inbox {
    fn take(&mut self, segment: &Segment) {
        let Some(first) = self.first else { return };
        let at = i64::from(segment.sequence.wrapping_sub(first).cast_signed());
        for (at, byte) in (at..).zip(&segment.payload) {
            let Ok(at) = usize::try_from(at) else { continue };
            if self.bytes.len() <= at {
                self.bytes.resize(at + 1, None);
            }
            let was = self.bytes[at].replace(*byte);
            assert!(was.is_none_or(|was| was == *byte), "byte {at} changed");
        }
        if segment.has(FIN) {
            let end = usize::try_from(at).unwrap() + segment.payload.len();
            assert!(self.length.is_none_or(|length| length == end), "FIN moved");
            self.length = Some(end);
        }
    }

    /// What has come without a gap.
    pub(crate) fn stream(&self) -> Vec<u8> {
        self.bytes.iter().map_while(|byte| *byte).collect()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.length == Some(self.stream().len())
    }

    /// How far it has come, FIN counted.
    fn next(&self) -> usize {
        self.stream().len() + usize::from(self.is_complete())
    }

    /// Ranges that came behind a gap.
    fn beyond(&self) -> Vec<(usize, usize)> {
        let mut ranges: Vec<(usize, usize)> = vec![];
        for (at, byte) in self.bytes.iter().enumerate().skip(self.stream().len()) {
            match (byte, ranges.last_mut()) {
                (Some(_), Some((_, end))) if *end == at => *end += 1,
                (Some(_), _) => ranges.push((at, at + 1)),
                (None, _) => {}
            }
        }
        ranges.truncate(3);
        ranges
    }

    pub(crate) fn has(&self, from: usize, to: usize) -> bool {
        (from..to).all(|at| self.bytes.get(at).is_some_and(Option::is_some))
    }
}

/// One end.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) ours: SocketAddr,
    /// Unknown to a server before its first segment.
    pub(crate) theirs: Option<SocketAddr>,
    is_client: bool,
    /// Sequence number of the SYN.
    pub(crate) start: u32,
    pub(crate) data: Vec<u8>,
    /// Bytes of data, and FIN, that the other end has acknowledged.
    pub(crate) acknowledged: usize,
    /// Has it acknowledged the SYN?
    pub(crate) agreed: bool,
    pub(crate) inbox: Inbox,
    pub(crate) mss: usize,
    /// Options of each segment but SYNs, besides SACK.
    pub(crate) options: Vec<u8>,
    /// Options of SYNs alone.
    pub(crate) syn_options: Vec<u8>,
    /// The MSS the other end announced.
    pub(crate) their_mss: Option<u16>,
    /// Timestamps, if it has any.
    pub(crate) stamps: Option<Stamps>,
}

/// One end's clock, and what it knows of the other's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stamps {
    /// When it started, and ticks since.
    pub(crate) start: u32,
    pub(crate) ticks: u32,
    /// The other's clock: first, newest, and that of the newest SYN since the first.
    first: Option<u32>,
    newest: u32,
    heard: bool,
    newest_syn: Option<i64>,
}

impl Stamps {
    pub(crate) fn starting(start: u32) -> Self {
        Self { start, ..Self::default() }
    }

    fn option(&self) -> Vec<u8> {
        let now = self.start.wrapping_add(self.ticks);
        [&[1, 1, 8, 10][..], &now.to_be_bytes(), &self.newest.to_be_bytes()].concat()
    }

    /// Holds what was said against the truth. `slack` is by how much the balancer's own clock, of
    /// which SYNs are answered, has gone on. To a client nothing may look older than those answers
    /// (RFC 7323 section 5).
    pub(crate) fn take(
        &mut self,
        segment: &Segment,
        other_ticks: u32,
        slack: u32,
        is_client: bool,
    ) {
        let option = option(&segment.options, 8).expect("agreed upon");
        let number = |at: usize| u32::from_be_bytes(option[at..at + 4].try_into().unwrap());
        let (value, echo) = (number(2), number(6));
        let first = *self.first.get_or_insert(value);
        let ahead = i64::from(value.wrapping_sub(first).cast_signed());
        let (ticks, slack) = (i64::from(other_ticks), i64::from(slack));
        assert!((-slack - ticks..=slack + ticks).contains(&ahead), "a clock jumped by {ahead}");
        if segment.has(SYN) {
            self.newest_syn = self.newest_syn.max(Some(ahead));
        } else if is_client {
            assert!(Some(ahead) >= self.newest_syn, "older than an answer to the SYN: {ahead}");
        }
        if ahead >= i64::from(self.newest.wrapping_sub(first).cast_signed()) || !self.heard {
            (self.newest, self.heard) = (value, true);
        }
        if segment.has(ACK) {
            let since = i64::from(echo.wrapping_sub(self.start).cast_signed());
            let earliest = if is_client { 0 } else { -slack };
            let said = earliest..=i64::from(self.ticks);
            assert!(said.contains(&since), "{echo} echoed, never said");
        }
    }
}

impl End {
    pub(crate) fn client(ours: SocketAddr, theirs: SocketAddr, start: u32, data: &[u8]) -> Self {
        Self { theirs: Some(theirs), is_client: true, ..Self::server(ours, start, data) }
    }

    pub(crate) fn server(ours: SocketAddr, start: u32, data: &[u8]) -> Self {
        Self {
            ours,
            theirs: None,
            is_client: false,
            start,
            data: data.to_vec(),
            acknowledged: 0,
            agreed: false,
            inbox: Inbox::default(),
            mss: 40,
            options: vec![],
            syn_options: vec![],
            their_mss: None,
            stamps: None,
        }
    }

    /// Is all said, heard and acknowledged?
    pub(crate) fn is_done(&self) -> bool {
        self.acknowledged == self.data.len() + 1 && self.inbox.is_complete()
    }

    fn segment(&self, flags: u8, sequence: u32, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let Some(theirs) = self.theirs else { return vec![] };
        let next = u32::try_from(self.inbox.next()).unwrap();
        let ack = self.inbox.first.map_or(0, |first| first.wrapping_add(next));
        let flags = if self.inbox.first.is_some() { flags | ACK } else { flags };
        let frame = if self.is_client {
            packet().macs(CLIENT_MAC, OUR_MAC)
        } else {
            packet().macs(backend_mac(11), OUR_INNER_MAC)
        };
        let frame = frame.tcp(self.ours, theirs).flags(flags).numbers(sequence, ack);
        let stamps = self.stamps.as_ref().map(Stamps::option).unwrap_or_default();
        let options = &[&stamps[..], options].concat();
        frame.tcp_options(options).payload(payload).build()
    }

    /// SYN, or SYN and ACK, with data if there is some to be sent early.
    pub(crate) fn syn(&self, early: &[u8]) -> Vec<u8> {
        let options = [&[2, 4, 5, 180][..], &self.syn_options, &self.options].concat();
        self.segment(SYN, self.start, &options, early)
    }

    /// ACK alone, with SACK.
    pub(crate) fn ack(&self) -> Vec<u8> {
        let number = self.number(self.acknowledged);
        self.segment(0, number, &self.options_and_sack(), &[])
    }

    /// As hosts ask whether the other is still there: one byte before what is next.
    pub(crate) fn keepalive(&self, payload: &[u8]) -> Vec<u8> {
        let number = self.number(self.acknowledged).wrapping_sub(1);
        self.segment(0, number, &self.options, payload)
    }

    /// One segment of data from `at` on, FIN with the last byte.
    pub(crate) fn send(&self, at: usize) -> Vec<u8> {
        let at = at.min(self.data.len());
        let end = (at + self.mss).min(self.data.len());
        let fin = if end == self.data.len() { FIN } else { 0 };
        self.segment(PSH | fin, self.number(at), &self.options_and_sack(), &self.data[at..end])
    }

    fn number(&self, at: usize) -> u32 {
        self.start.wrapping_add(1).wrapping_add(u32::try_from(at).unwrap())
    }

    fn options_and_sack(&self) -> Vec<u8> {
        let (Some(first), ranges) = (self.inbox.first, self.inbox.beyond()) else {
            return self.options.clone();
        };
        let room = 40 - self.options.len() - if self.stamps.is_some() { 12 } else { 0 };
        let count = ranges.len().min(room.saturating_sub(4) / 8);
        if count == 0 {
            return self.options.clone();
        }
        let mut options = self.options.clone();
        options.extend([1, 1, 5, u8::try_from(2 + 8 * count).unwrap()]);
        for (from, to) in &ranges[..count] {
            for at in [from, to] {
                let edge = first.wrapping_add(u32::try_from(*at).unwrap());
                options.extend(edge.to_be_bytes());
            }
        }
        options
    }

    /// Takes a segment in; what it answers. `other` is the true other end, whose stream has
    /// `inserted` bytes more, as it sees it, than we have sent.
    pub(crate) fn receive(&mut self, frame: &[u8], other: &Inbox, inserted: usize) -> Vec<Vec<u8>> {
        let segment = Segment::read(frame);
        self.theirs.get_or_insert(segment.source);
        assert_eq!((self.theirs, self.ours), (Some(segment.source), segment.destination));
        if segment.has(SYN) {
            self.inbox.first.get_or_insert(segment.sequence.wrapping_add(1));
            self.their_mss =
                option(&segment.options, 2).map(|mss| u16::from_be_bytes([mss[2], mss[3]]));
        }
        let Some(_) = self.inbox.first else { return vec![] };
        if segment.has(ACK) {
            self.learn(&segment, other, inserted);
        }
        if !segment.has(SYN) {
            self.inbox.take(&segment);
        }
        let answers = segment.has(SYN) || segment.has(FIN) || !segment.payload.is_empty();
        match (answers, self.is_client) {
            (false, _) => vec![],
            (true, false) if segment.has(SYN) => vec![self.syn(&[])],
            (true, _) => vec![self.ack()],
        }
    }

    /// Holds what was said against the truth.
    fn learn(&mut self, segment: &Segment, other: &Inbox, inserted: usize) {
        let said = segment.ack.wrapping_sub(self.number(0));
        let said = usize::try_from(said).unwrap();
        assert!(said <= self.data.len() + 1, "{said} bytes acknowledged, never sent");
        assert!(said == 0 || other.next() >= said + inserted, "{said} acknowledged, not received");
        self.agreed = true;
        self.acknowledged = self.acknowledged.max(said);
        for edges in option(&segment.options, 5).unwrap_or(&[0; 2])[2..].chunks(8) {
            let number = |bytes: &[u8]| {
                let edge = u32::from_be_bytes(bytes.try_into().unwrap());
                usize::try_from(edge.wrapping_sub(self.number(0))).unwrap()
            };
            let (from, to) = (number(&edges[..4]), number(&edges[4..]));
            assert!(from < to && to <= self.data.len(), "SACK of {from} to {to}");
            assert!(other.has(from + inserted, to + inserted), "SACK of what did not come");
        }
    }
}

/// The first option of a kind in an area that is well formed.
pub(crate) fn option(area: &[u8], kind: u8) -> Option<&[u8]> {
    let mut at = 0;
    while at < area.len() && area[at] != 0 {
        let length = if area[at] == 1 { 1 } else { usize::from(area[at + 1]) };
        if area[at] == kind {
            return Some(&area[at..at + length]);
        }
        at += length;
    }
    None
}
