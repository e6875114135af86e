//! Both ends of a connection that ends here are told: by a RST, or an ABORT.
//!
//! A connection ends here, and not by its ends, when it has been silent for too long, when its backend
//! was removed, and when a full table needs its place. IPVS forgets it without a word, and who still
//! believes in it waits for his own timers.
//!
//! ```text
//! packet of a side ─► what it says of the other's numbers ─► record (`said`)
//!                                                              │
//! sweep, removed backend, full table ─► two notices ─► written into packets at the poll's end
//! ```
//!
//! **The number.** A RST counts only if its number is the very next one the receiver waits for (RFC 5961
//! section 3.2): the one it has acknowledged last, which is what is kept of it. An end that has been
//! silent for a while has acknowledged all that came, so for it this is exact. One that talks may have more
//! on its way; but it is not left alone either: to its next packet, now one of no connection, it gets the
//! RST that strays get, with the number taken from that packet. An ABORT counts if it carries the receiver's
//! tag (RFC 9260 section 8.5.1): that of the packets that went to it.
//!
//! Told are both ends of what is open or closing, in `nat` and `fullnat`. Not: who has not finished a
//! handshake (its own timer is shorter than ours), what is over (RFC 1337), UDP (a removed backend's client
//! is scheduled anew with its next datagram, and gets an ICMP error if nobody is left), `dr` and `tunnel`,
//! where nobody here knows what the backend has sent.
//!
//! Limits: [`TOLD_PER_SECOND`] connections a second of each worker, and [`ROOM`] notices a poll. What is more
//! ends in silence and is counted; then the next packet of either end is answered, as before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arrayvec::ArrayVec;
use zerocopy::IntoBytes;

use super::allowance::Allowance;
use super::conn::expiry::STEP_MAX;
use super::conn::key::{FlowKey, Side};
use super::conn::record::Record;
use super::conn::state::{Stage, State};
use super::conn::table::{Slot, Table};
use super::family::Family;
use super::fate::Fate;
use super::flows::Flows;
use super::io::Packet;
use super::onward::client_hop;
use super::parse::Parsed;
use super::segment::{self, Segment};
use super::snapshot::{NextHop, Snapshot};
use super::verdict::Reason;
use crate::stats::counters::WorkerStats;
use crate::wire::{Be32, Raw32, ipv4, sctp, tcp};

/// Connections a second whose ends one worker tells.
const TOLD_PER_SECOND: u32 = 50_000;

/// Notices that wait for the end of a poll: both ends of all that one step of both sweeps can end.
const ROOM: usize = 4 * STEP_MAX as usize;

/// To whom: the key of the packet it will be.
#[derive(Clone, Copy, Debug)]
enum Letter {
    V4(FlowKey<Ipv4Addr>),
    V6(FlowKey<Ipv6Addr>),
}

/// What one end is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notice {
    letter: Letter,
    /// Sequence number of a RST, tag of an ABORT.
    number: u32,
    hop: NextHop,
}

/// Those to be told at the end of this poll.
#[derive(Debug, Default)]
pub(super) struct Endings {
    notices: ArrayVec<Notice, ROOM>,
    allowance: Allowance,
}

impl Endings {
    /// Time has passed.
    pub(super) fn refill(&mut self, now_ms: u32) {
        self.allowance.refill(now_ms, TOLD_PER_SECOND);
    }

    /// A connection ends here: these sides of it are told.
    pub(super) fn announce<F: Family>(
        &mut self,
        (snapshot, stats): (&Snapshot, &WorkerStats),
        table: &Table<F>,
        slot: Slot,
        sides: &[Side],
    ) {
        let record = table.record(slot);
        if !snapshot.reset_on_end || !is_worth_telling(record) {
            return;
        }
        if self.notices.remaining_capacity() < sides.len() || !self.allowance.take() {
            stats.run.ends_untold.add(1);
            return;
        }
        for side in sides {
            let known = notice(snapshot, table, slot, *side);
            self.notices.extend(known);
        }
    }
}

/// Do both ends believe in it, and do we know what they believe?
fn is_worth_telling<F: Family>(record: &Record<F>) -> bool {
    let is_believed = match record.state() {
        State::Udp | State::UdpUnanswered => false,
        // The client has been told that it is connected.
        State::Synack => true,
        state => matches!(state.stage(), Stage::Open | Stage::Closing),
    };
    is_believed && !record.is_direct()
}

/// What a side is told; nothing if what it waits for, or the way to it, is not known.
fn notice<F: Family>(
    snapshot: &Snapshot,
    table: &Table<F>,
    slot: Slot,
    side: Side,
) -> Option<Notice> {
    let record = table.record(slot);
    let says = if record.protocol() == ipv4::SCTP { side.opposite() } else { side };
    let number = Some(table.said(slot, says)).filter(|number| *number != 0)?;
    let (letter, hop) = match side {
        Side::Client => {
            (letter(record.key(Side::Client).reversed())?, client_hop(snapshot, record)?)
        }
        Side::Backend => {
            let key = record.translated(Side::Client);
            let crossed = || F::unmapped(key).map(Letter::V4);
            let letter = if record.is_crossed() { crossed() } else { letter(key) };
            (letter?, snapshot.way_to(record.backend_id())?)
        }
    };
    Some(Notice { letter, number, hop })
}

fn letter<F: Family>(key: FlowKey<F>) -> Option<Letter> {
    let ports = (key.source_port(), key.destination_port());
    match (key.source().into(), key.destination().into()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            Some(Letter::V4(FlowKey::new(key.protocol, (from, ports.0), (to, ports.1))))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            Some(Letter::V6(FlowKey::new(key.protocol, (from, ports.0), (to, ports.1))))
        }
        _ => None,
    }
}

/// What a packet says of the other end's numbers, if anything.
#[inline(always)]
pub(super) fn said<F: Family>(frame: &[u8], parsed: &Parsed<F>) -> Option<u32> {
    let at = match parsed.key.protocol {
        ipv4::TCP if parsed.signal & tcp::ACK != 0 => 8,
        ipv4::SCTP => 4,
        _ => return None,
    };
    let number = frame.get(usize::from(parsed.l4) + at..)?.first_chunk()?;
    match u32::from_be_bytes(*number) {
        // 0 stands for nothing: one off, its end asks back with the number it means (RFC 5961
        // section 3.2).
        0 if parsed.key.protocol == ipv4::TCP => Some(1),
        // An INIT has no tag yet.
        0 => None,
        number => Some(number),
    }
}

impl Flows {
    /// The next that is to be told.
    #[inline]
    pub(super) fn next_notice(&mut self) -> Option<Notice> {
        self.endings.notices.pop()
    }

    /// Turns an empty packet into what an end is told.
    pub(super) fn write_notice<P: Packet>(&self, packet: &mut P, notice: &Notice) -> Fate {
        let written = match notice.letter {
            Letter::V4(key) => write(packet, key, notice),
            Letter::V6(key) => write(packet, key, notice),
        };
        if written.is_none() {
            return self.count(Reason::NoRoom);
        }
        self.stats.run.ends_told.add(1);
        Fate::Send(notice.hop.port)
    }
}

fn write<F: Family, P: Packet>(packet: &mut P, key: FlowKey<F>, notice: &Notice) -> Option<()> {
    let stations = (notice.hop.source, notice.hop.destination);
    if key.protocol == ipv4::SCTP {
        return abort(packet, key, stations, notice.number);
    }
    let reset = Segment { sequence: notice.number, flags: tcp::RST, ..Segment::default() };
    segment::write(packet, key, stations, &reset).map(|_| ())
}

/// Writes an ABORT without a cause, under the receiver's tag.
fn abort<F: Family, P: Packet>(
    packet: &mut P,
    key: FlowKey<F>,
    stations: segment::Stations,
    tag: u32,
) -> Option<()> {
    let length = sctp::LEN + sctp::CHUNK_LEN;
    let l4 = segment::head(packet, key, stations, length)?;
    let answer = packet.data_mut().get_mut(l4..)?;
    let header =
        sctp::Header { ports: Raw32::new(key.ports), tag: Be32::new(tag), checksum: 0.into() };
    header.write_to_prefix(answer).ok()?;
    let chunk = sctp::Chunk {
        kind: sctp::ABORT,
        flags: 0,
        length: u16::try_from(sctp::CHUNK_LEN).ok()?.into(),
    };
    chunk.write_to_prefix(answer.get_mut(sctp::LEN..)?).ok()?;
    sctp::set_checksum(answer);
    Some(())
}
