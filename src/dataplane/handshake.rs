//! The handshake with a client that the balancer does itself, by SYN cookies.
//!
//! ```text
//! admit ─┬─ SYN, cookies wanted ──► SYN+ACK with a cookie, from the VIP; nothing is kept
//!        └─ ACK of no connection ─► a cookie?  ─ right ─► a connection, and on to its backend
//!                                               early ─► dropped: the client's first segment follows
//!                                               else  ─► refused as any stray is
//! ```
//!
//! A SYN that nobody could serve gets no cookie but the ordinary refusal: a client is told that it is
//! connected only where that can be kept. Every SYN gets one answer, which has at most 4 bytes more:
//! spoofed SYNs are not amplified. There is no other limit on answers.
//!
//! Here the handshake ends, so here the checksum is looked at, unless the port has: what a damaged
//! segment says would be passed on in one of our own, with a right one.
//!
//! **Waiting for data** (`syn_cookies_wait_for_data`): nothing is kept for an ACK alone either. The
//! first data brings the same two numbers, so the cookie is in it: that makes the connection, as
//! long as the cookie may be taken. Clients that connect and say nothing cost nobody anything.
//!
//! **Above a rate**: SYNs within a service's allowance go the ordinary way and may use all that both
//! ends know. Each worker has its share of the rate, and a tenth of a second's worth at once.

use zerocopy::FromBytes;

use super::allowance::Allowance;
use super::conn::key::Side;
use super::conn::record::Way;
use super::conn::splice::{SACK, STAMPS, Splice};
use super::conn::state::State;
use super::conn::table::Slot;
use super::cookie::{self, Event, OUR_SCALE, Offer, SCALE_NONE, Secret, Verdict};
use super::family::Family;
use super::flows::{Fate, Flows};
use super::io::Packet;
use super::parse::Parsed;
use super::refuse::is_intact;
use super::segment::{self, Options, Segment};
use super::snapshot::{ClientAddress, Protocol, SynCookies};
use super::verdict::Reason;
use crate::ids::ServiceId;
use crate::wire::tcp::{self, options};
use crate::wire::{Mac, ether, fragment};

/// Segments that a client may send before its backend has answered (RFC 6928).
const FIRST_SEGMENTS: u16 = 10;
/// Longest PROXY header of version 1 (IPv4, IPv6), and of version 2.
const PROXY_V1_MAX: [u16; 2] = [56, 104];
const PROXY_V2: [u16; 2] = [28, 52];
/// TOA's option.
const TOA: [u16; 2] = [8, 20];

/// What a worker remembers of a service's cookies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gate {
    /// SYNs that may still go the ordinary way.
    ordinary: Allowance,
    /// When the last cookie was sent, if any was.
    last_ms: Option<u32>,
}

impl Flows {
    /// Is this SYN to be answered with a cookie?
    pub(super) fn wants_cookie<F: Family>(&mut self, id: ServiceId, parsed: &Parsed<F>) -> bool {
        let Some(service) = self.snapshot.service(id) else { return false };
        if parsed.key.protocol != Protocol::Tcp as u8 {
            return false;
        }
        match service.syn_cookies {
            SynCookies::Never => return false,
            SynCookies::Always => {}
            SynCookies::Above { per_second } => {
                let share = per_second.div_ceil(self.ownership.workers().into());
                let Some(gate) = self.gates.get_mut(id.index()) else { return false };
                gate.ordinary.refill(self.now_ms, share);
                if gate.ordinary.take() {
                    return false;
                }
            }
        }
        if !service.is_scheduled() || !self.has_room(id, service.quotas.service) {
            return false;
        }
        let flow = self.flow_of(parsed.key, &[]);
        self.chooser.has_place(&self.snapshot, &self.stats.loads, id, &flow)
    }

    /// Answers a client's SYN and forgets it.
    pub(super) fn send_cookie<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        id: ServiceId,
    ) -> Fate {
        // One that acknowledges something starts nothing: answered, it would be reflected.
        if parsed.signal & tcp::ACK != 0 {
            return self.refuse(packet, parsed, Reason::NoConnection);
        }
        if in_pieces(packet.data(), parsed) {
            return self.count(Reason::Fragment);
        }
        if !is_intact(packet, parsed) {
            return self.count(Reason::L4Checksum);
        }
        if F::table(&self.tables).splices().is_full() {
            self.count_cookie(id, Event::Full);
            self.count_refused(id, Reason::CookieFull);
            return self.refuse(packet, parsed, Reason::CookieFull);
        }
        let answer = self.cookie_for(packet.data(), parsed, id);
        let Some((answer, stations)) = answer else { return self.count(Reason::Truncated) };
        if segment::write(packet, parsed.key.reversed(), stations, &answer).is_none() {
            return self.count(Reason::NoRoom);
        }
        if let Some(gate) = self.gates.get_mut(id.index()) {
            gate.last_ms = Some(self.now_ms);
        }
        self.count_cookie(id, Event::Sent);
        Fate::Send(packet.port())
    }

    /// The answer to a SYN, and from which station to which it goes.
    fn cookie_for<F: Family>(
        &self,
        frame: &[u8],
        parsed: &Parsed<F>,
        id: ServiceId,
    ) -> Option<(Segment, (Mac, Mac))> {
        let (link, _) = ether::Header::ref_from_prefix(frame).ok()?;
        let segment = segment_of(frame, parsed)?;
        let (syn, _) = tcp::Header::ref_from_prefix(segment).ok()?;
        let offer = Offer::read(options::area(segment));
        let start = syn.sequence.get();
        let index = cookie::mss_index::<F>(offer.mss);
        let [secret, _] = self.snapshot.cookie_secrets;
        let (client, service) = (parsed.key.source().into(), self.snapshot.service(id)?);
        let introduction = self.snapshot.introduction(service, client, parsed.key.protocol);
        let mss = self.our_mss::<F>(introduction);
        let stamps = offer.stamps.map(|(value, _)| (offer.stamp(self.now_ms), value));
        let can_carry = stamps.is_some();
        let answer = Segment {
            sequence: cookie::make(secret, parsed.key, start, index, self.now_ms),
            acknowledgment: start.wrapping_add(1),
            flags: tcp::SYN | tcp::ACK,
            window: mss.saturating_mul(FIRST_SEGMENTS),
            options: Options {
                mss: Some(mss),
                sack: can_carry && offer.sack,
                stamps,
                scale: offer.scale.filter(|_| can_carry).map(|_| OUR_SCALE),
            },
        };
        Some((answer, (link.destination, link.source)))
    }

    /// The MSS clients are told: what the narrowest of our ports carries, less what is inserted.
    fn our_mss<F: Family>(&self, introduction: ClientAddress) -> u16 {
        let mtu = self.snapshot.ports.iter().map(|port| port.mtu).min().unwrap_or(1500);
        let headers = if F::IS_V6 { 60 } else { 40 };
        let of = |lengths: [u16; 2]| lengths[usize::from(F::IS_V6)];
        let inserted = match introduction {
            ClientAddress::None => 0,
            ClientAddress::Toa { .. } => of(TOA),
            ClientAddress::ProxyV1 => of(PROXY_V1_MAX),
            ClientAddress::ProxyV2 => of(PROXY_V2),
        };
        mtu.saturating_sub(headers + inserted)
    }

    /// An ACK of no connection to a service with cookies. `None` if it has nothing to do with them.
    pub(super) fn accept_cookie<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        id: ServiceId,
    ) -> Option<Fate> {
        if parsed.signal & (tcp::SYN | tcp::RST | tcp::ACK) != tcp::ACK || !self.expects(id) {
            return None;
        }
        let segment = segment_of(packet.data(), parsed)?;
        let (ack, _) = tcp::Header::ref_from_prefix(segment).ok()?;
        let start = ack.sequence.get().wrapping_sub(1);
        let ours = ack.acknowledgment.get().wrapping_sub(1);
        let secrets: [Secret; 2] = self.snapshot.cookie_secrets;
        Some(match cookie::check(secrets, parsed.key, start, ours, self.now_ms) {
            Verdict::Right(_) if !is_intact(packet, parsed) => self.count(Reason::L4Checksum),
            Verdict::Right(_) if is_bare(segment) && self.waits_for_data(id) => {
                self.count_cookie(id, Event::Waited);
                Fate::Free
            }
            Verdict::Right(mss) => {
                let splice = splice(segment, (start, ours), mss)?;
                self.welcome(packet, parsed, id, splice)
            }
            Verdict::Early => {
                self.count_cookie(id, Event::Early);
                self.count(Reason::CookieEarly)
            }
            Verdict::Old => {
                self.count_cookie(id, Event::Old);
                self.refuse(packet, parsed, Reason::CookieOld)
            }
            Verdict::Wrong => {
                self.count_cookie(id, Event::Bad);
                self.refuse(packet, parsed, Reason::CookieBad)
            }
        })
    }

    /// Can a cookie of this service's come back? Where they are sent above a rate, only for so long.
    fn expects(&self, id: ServiceId) -> bool {
        match self.snapshot.service(id).map(|service| service.syn_cookies) {
            None | Some(SynCookies::Never) => false,
            Some(SynCookies::Always) => true,
            Some(SynCookies::Above { .. }) => {
                let last = self.gates.get(id.index()).and_then(|gate| gate.last_ms);
                last.is_some_and(|last| self.now_ms.wrapping_sub(last) <= 2 * cookie::LIFE_MS)
            }
        }
    }

    /// Is an ACK alone not enough to ask a backend?
    fn waits_for_data(&self, id: ServiceId) -> bool {
        self.snapshot.service(id).is_some_and(|service| service.syn_cookies_wait_for_data)
    }

    /// A client that has proven that it is there: the connection is made, and its backend asked.
    fn welcome<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        id: ServiceId,
        splice: Splice,
    ) -> Fate {
        let made = self.connect(packet, parsed, id, splice);
        let slot = match made {
            Ok(slot) => slot,
            Err(reason) => {
                let full = reason == Reason::CookieFull;
                self.count_cookie(id, if full { Event::Full } else { Event::Refused });
                self.count_refused(id, reason);
                return self.disappoint(packet, parsed, reason);
            }
        };
        self.count_cookie(id, Event::Accepted);
        if segment_of(packet.data(), parsed).is_some_and(is_bare) {
            return self.ask_backend::<F, P>(packet, slot);
        }
        // What it brings is kept; a packet of our own asks the backend, at once.
        let table = F::table_mut(&mut self.tables);
        if let Some(number) = table.record(slot).splice() {
            table.splices_mut().await_now(number, self.now_ms);
        }
        self.hold::<F>(slot)
    }

    fn connect<F: Family, P: Packet>(
        &mut self,
        packet: &P,
        parsed: &Parsed<F>,
        id: ServiceId,
        mut splice: Splice,
    ) -> Result<Slot, Reason> {
        if parsed.ttl <= 1 {
            return Err(Reason::TtlExpired);
        }
        if !self.snapshot.accepting {
            return Err(Reason::Draining);
        }
        if in_pieces(packet.data(), parsed) {
            return Err(Reason::Fragment);
        }
        if F::table(&self.tables).splices().is_full() {
            return Err(Reason::CookieFull);
        }
        let chosen = self.choose(id, parsed.key, &[])?;
        let new = chosen.connection(packet, parsed, id, State::Synack);
        if !matches!(new.way, Way::Translated | Way::Crossed) {
            self.withdraw(&new);
            return Err(Reason::NoBackend);
        }
        let slot = self.enter(&new, chosen.answers())?;
        self.count_new(&new);
        splice.chain.serial = self.next_serial();
        let (table, ours) = (F::table_mut(&mut self.tables), splice.ours);
        table.put_splice(slot, splice);
        table.remember(slot, Side::Client, ours.wrapping_add(1));
        Ok(slot)
    }

    /// A number for what waits for one connection's backend; never 0, which is nobody's.
    fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1).max(1);
        self.serial
    }

    pub(super) fn count_cookie(&self, id: ServiceId, event: Event) {
        if let Some(counters) = self.stats.services.get(id.index()) {
            counters.cookies[event as usize].add(1);
        }
    }
}

/// Is it a piece of a packet?
pub(super) fn in_pieces<F: Family>(frame: &[u8], parsed: &Parsed<F>) -> bool {
    frame.get(usize::from(parsed.l3)..).is_some_and(fragment::is_in)
}

/// The TCP segment of a parsed frame.
pub(super) fn segment_of<'a, F: Family>(frame: &'a [u8], parsed: &Parsed<F>) -> Option<&'a [u8]> {
    frame.get(usize::from(parsed.l4)..usize::from(parsed.end))
}

/// Does a segment say nothing but what its header says: neither data nor that there will be none?
fn is_bare(segment: &[u8]) -> bool {
    tcp::Header::ref_from_prefix(segment).is_ok_and(|(header, _)| {
        usize::from(header.header_length()) == segment.len() && header.flags & tcp::FIN == 0
    })
}

/// What is to be remembered of a client whose ACK brought a cookie back: both first numbers, the
/// size of its segments, and what its timestamps carried.
fn splice(segment: &[u8], (start, ours): (u32, u32), mss: u16) -> Option<Splice> {
    let (ack, _) = tcp::Header::ref_from_prefix(segment).ok()?;
    let stamps = Offer::read(options::area(segment)).stamps;
    let offer = Offer::from_stamps(stamps, mss);
    let (stamp, our_stamp) = stamps.unwrap_or_default();
    let mut splice = Splice::default();
    (splice.start, splice.ours) = (start, ours);
    (splice.stamp, splice.our_stamp) = (stamp, our_stamp);
    (splice.mss, splice.window, splice.scale) =
        (mss, ack.window.get(), offer.scale.unwrap_or(SCALE_NONE));
    splice.set(if offer.sack { SACK } else { 0 });
    splice.set(if stamps.is_some() { STAMPS } else { 0 });
    Some(splice)
}
