//! Both ends of a connection that ends here are told: by a RST, an ABORT, or an ICMP error.
//!
//! A connection ends here, and not by its ends, when it has been silent for too long, when its backend
//! was removed, and when a full table needs its place. IPVS forgets it without a word, and who still
//! believes in it waits for his own timers.
//!
//! ```text
//! packet of a side ─► what it says of the other's numbers ─► record (`said`)
//!                                                              │
//! sweep, removed backend, full table ─► two notices ─► written into packets at the poll's end (`letter`)
//! ```
//!
//! **The number.** A RST counts only if its number is the very next one the receiver waits for (RFC 5961
//! section 3.2): the one it has acknowledged last, which is what is kept of it. An end that has been
//! silent for a while has acknowledged all that came, so for it this is exact. One that talks may have more
//! on its way; but it is not left alone either: to its next packet, now one of no connection, it gets the
//! RST that strays get, with the number taken from that packet. An ABORT counts if it carries the receiver's
//! tag (RFC 9260 section 8.5.1): that of the packets that went to it.
//!
//! **UDP** has no numbers, and no word for the end either. Both ends get the ICMP error that a closed port answers with: to
//! a socket that is connected it is an error, `ECONNREFUSED`; most others never see it. Only flows that the backend
//! has answered: else the client is the likelier a forgery. As what is over for good and what merely has nothing
//! more to ask look alike, there is a choice ([`IcmpOnEnd`]): DNS would have two errors to each question.
//!
//! Told are both ends of what is open or closing, in `nat` and `fullnat`. Not: who has not finished a
//! handshake (its own timer is shorter than ours; but the client of a cookie, who has), what is over
//! (RFC 1337), datagrams that are scheduled each by itself, `dr` and `tunnel`, where nobody here knows what the backend has sent.
//!
//! A client whose stream carries a PROXY header is not told after a SYN that his backend did not agree to, which may be
//! forged: what he said last has given its place to that SYN's number ([`Record::start_stream`]).
//!
//! Limits: [`TOLD_PER_SECOND`] connections a second of each worker, and [`ROOM`] notices a poll. What is more
//! ends in silence and is counted; then the next packet of either end is answered, as before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arrayvec::ArrayVec;

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
use super::snapshot::{IcmpOnEnd, NextHop, Snapshot};
use super::verdict::Reason;
use crate::stats::counters::WorkerStats;
use crate::wire::{ipv4, tcp};

mod letter;

/// Connections a second whose ends one worker tells.
const TOLD_PER_SECOND: u32 = 50_000;

/// Notices that wait for the end of a poll: both ends of all that one step of both sweeps can end.
const ROOM: usize = 4 * STEP_MAX as usize;

/// Why a connection ends here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It was silent for too long, or its place is needed.
    Lapse,
    /// Its backend was removed, or somebody asked for its end.
    Order,
}

/// To whom: the key of the packet it will be.
#[derive(Clone, Copy, Debug)]
enum Address {
    V4(FlowKey<Ipv4Addr>),
    V6(FlowKey<Ipv6Addr>),
}

/// What one end is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notice {
    to: Address,
    /// Sequence number of a RST, tag of an ABORT; nothing of UDP.
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
        (cause, sides): (Cause, &[Side]),
    ) {
        if !is_told(snapshot, table.record(slot), cause) {
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

/// Do both ends believe in it, do we know what they believe, and shall they hear?
fn is_told<F: Family>(snapshot: &Snapshot, record: &Record<F>, cause: Cause) -> bool {
    let is_told = match record.state() {
        State::Udp => match snapshot.icmp_on_end {
            IcmpOnEnd::Always => true,
            IcmpOnEnd::Removal => cause == Cause::Order,
            IcmpOnEnd::Never => false,
        },
        State::UdpUnanswered => false,
        // The client has been told that it is connected.
        State::Synack => snapshot.reset_on_end,
        state => snapshot.reset_on_end && matches!(state.stage(), Stage::Open | Stage::Closing),
    };
    is_told && !record.is_direct()
}

/// What a side is told; nothing if what it waits for, or the way to it, is not known.
fn notice<F: Family>(
    snapshot: &Snapshot,
    table: &Table<F>,
    slot: Slot,
    side: Side,
) -> Option<Notice> {
    let record = table.record(slot);
    let number = match record.protocol() {
        ipv4::UDP => 0,
        ipv4::SCTP => known(table.said(slot, side.opposite()))?,
        _ => known(table.said(slot, side))?,
    };
    let (to, hop) = match side {
        Side::Client => {
            (address(record.key(Side::Client).reversed())?, client_hop(snapshot, record)?)
        }
        Side::Backend => {
            let key = record.translated(Side::Client);
            let crossed = || F::unmapped(key).map(Address::V4);
            let to = if record.is_crossed() { crossed() } else { address(key) };
            (to?, snapshot.way_to(record.backend_id())?)
        }
    };
    Some(Notice { to, number, hop })
}

/// 0 is nothing.
fn known(number: u32) -> Option<u32> {
    Some(number).filter(|number| *number != 0)
}

fn address<F: Family>(key: FlowKey<F>) -> Option<Address> {
    let ports = (key.source_port(), key.destination_port());
    match (key.source().into(), key.destination().into()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            Some(Address::V4(FlowKey::new(key.protocol, (from, ports.0), (to, ports.1))))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            Some(Address::V6(FlowKey::new(key.protocol, (from, ports.0), (to, ports.1))))
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
        let stations = (notice.hop.source, notice.hop.destination);
        let written = match notice.to {
            Address::V4(key) => letter::write(packet, key, stations, notice.number),
            Address::V6(key) => letter::write(packet, key, stations, notice.number),
        };
        if written.is_none() {
            return self.count(Reason::NoRoom);
        }
        self.stats.run.ends_told.add(1);
        Fate::Send(notice.hop.port)
    }
}
