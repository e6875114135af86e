//! Where a packet of a connection goes on, and whether it may: asked in one place, in one order,
//! before anything is changed.
//!
//! ```text
//! backend configured? ─► next hop known? ─► TTL above 1? ─► can it carry what goes in? ─► does it fit?
//!    backend_gone           next_hop          ttl_expired        fragment                  too_big
//! ```
//!
//! Whole packets, first pieces and later ones, packets between the families and ICMP errors are asked
//! alike, as far as a question concerns them. A packet that would start a connection is asked before
//! the connection is made, a first piece of SCTP before its checksum is: so what is refused is quoted
//! as it came, and leaves nothing behind.
//!
//! **How long** a packet may be depends on what is put around it and into it. [`Onward`] says for one
//! way both how long a frame's packet may leave ([`Onward::way`]) and how long it may come
//! ([`Onward::mtu`]).

use std::net::IpAddr;

use super::conn::key::Side;
use super::conn::record::Record;
use super::cross;
use super::family::Family;
use super::fate::Fate;
use super::flows::Flows;
use super::introduce::{self, Insertion};
use super::io::Packet;
use super::parse::Parsed;
use super::reply::IcmpError;
use super::rewrite::tunnel;
use super::snapshot::{ClientAddress, Encapsulation, NextHop, Snapshot, Way};
use super::verdict::Reason;
use crate::ids::PortId;
use crate::wire::{ether, fragment};

/// Why a packet does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its sender is told by policy, if at all.
    For(Reason),
    /// Longer than the way carries, which its sender said nobody may cut: it is told this much.
    TooBig(u16),
}

impl Refusal {
    /// What it is counted as.
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::For(reason) => reason,
            Self::TooBig(_) => Reason::TooBig,
        }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::For(reason)
    }
}

/// The way of one packet of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Onward {
    pub(super) next_hop: NextHop,
    /// Longest packet that may leave, all headers included.
    pub(super) way: u16,
    /// Longest packet of the sender's, as it comes in, that then fits.
    pub(super) mtu: u16,
    /// What is put around it.
    pub(super) outer: Option<Outer>,
}

/// An outer header's kind, our address and the backend's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outer {
    pub(super) encapsulation: Encapsulation,
    pub(super) ends: (IpAddr, IpAddr),
}

/// What goes into a packet that may go on, and does it have to be cut?
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) insertion: Insertion,
    pub(super) too_long: bool,
}

/// The first questions: is the backend configured, is the next hop of what `side` sent known, and is a
/// hop left?
#[inline(always)]
pub(super) fn next_hop<F: Family>(
    snapshot: &Snapshot,
    record: &Record<F>,
    (side, ttl): (Side, u8),
) -> Result<Way, Reason> {
    let hop = snapshot.hop(record.backend_id());
    if hop.is_gone() {
        return Err(Reason::BackendGone);
    }
    let way = match side {
        Side::Client => hop.way(),
        Side::Backend => way_back(snapshot, record),
    };
    match way {
        None => Err(Reason::NextHop),
        Some(_) if ttl <= 1 => Err(Reason::TtlExpired),
        Some(way) => Ok(way),
    }
}

/// The way back to the client: to where its last packet came from, if its port is still there.
#[inline(always)]
fn way_back<F: Family>(snapshot: &Snapshot, record: &Record<F>) -> Option<Way> {
    let client = record.client_link();
    let station = snapshot.station(client.port());
    let pair = ether::Pair::of_numbers(client.number(), station.number());
    (station.mtu() != 0).then_some(Way { pair, port: client.port(), mtu: station.mtu() })
}

/// The same, whatever may go there.
pub(super) fn client_hop<F: Family>(snapshot: &Snapshot, record: &Record<F>) -> Option<NextHop> {
    way_back(snapshot, record).map(Way::next_hop)
}

/// Longest IP packet that goes out by `port`.
#[inline(always)]
pub(super) fn port_mtu(snapshot: &Snapshot, port: PortId) -> u16 {
    snapshot.station(port).mtu()
}

/// Bytes of a packet as it counts against [`Onward::mtu`]: between the families, of the headers in
/// front of its transport's only the first goes on.
pub(super) fn length_of<F: Family>(parsed: &Parsed<F>, record: &Record<F>) -> u16 {
    if record.is_crossed() {
        return (parsed.end - parsed.l4).saturating_add(cross::HEADER_V6);
    }
    parsed.length()
}

impl Flows {
    /// The same, only where it goes.
    pub(super) fn leaves<F: Family>(
        &self,
        record: &Record<F>,
        side: Side,
        ttl: u8,
    ) -> Result<NextHop, Reason> {
        next_hop(&self.snapshot, record, (side, ttl)).map(Way::next_hop)
    }

    /// The way of what `side` sends to that next hop.
    pub(super) fn onward<F: Family>(
        &self,
        record: &Record<F>,
        side: Side,
        next_hop: NextHop,
    ) -> Onward {
        let outer = record.wrapping().and_then(|encapsulation| {
            let backend = self.snapshot.backend(record.backend_id())?;
            Some(Outer { encapsulation, ends: (backend.our_address, backend.address) })
        });
        let grows = outer.is_some() || record.introduction() != ClientAddress::None;
        let mut way = port_mtu(&self.snapshot, next_hop.port);
        // A way that carries less than who sends to it can be told is remembered.
        if side == Side::Client && grows {
            way = self.path_mtus.limit(record.backend_id(), way, self.now_ms);
        }
        let mtu = match (outer, side) {
            // A sender need not make anything shorter: then the outer packet is cut.
            (Some(Outer { encapsulation, ends: (_, backend) }), _) => {
                way.saturating_sub(tunnel::overhead(encapsulation, backend)).max(F::MTU_MIN)
            }
            (None, Side::Backend) if record.is_crossed() => way.saturating_sub(cross::DIFFERENCE),
            (None, Side::Backend) => way,
            (None, Side::Client) if record.is_crossed() => {
                way.saturating_add(cross::DIFFERENCE).min(self.backend_takes(record))
            }
            (None, Side::Client) => way.min(self.backend_takes(record)),
        };
        Onward { next_hop, way, mtu, outer }
    }

    /// Longest packet of a client that its backend takes, which the client has not heard: we told
    /// it a MSS before we knew the backend's.
    fn backend_takes<F: Family>(&self, record: &Record<F>) -> u16 {
        let splices = F::table(&self.tables).splices();
        let splice = record.splice().and_then(|number| splices.get(number));
        let headers = if F::IS_V6 { 60 } else { 40 };
        splice.map_or(u16::MAX, |splice| splice.mss.saturating_add(headers).max(F::MTU_MIN))
    }

    /// The last questions, of a packet with a transport header: what has to go in, and does it fit?
    pub(super) fn load<F: Family>(
        &self,
        frame: &[u8],
        parsed: &Parsed<F>,
        (record, side): (&Record<F>, Side),
        onward: &Onward,
    ) -> Result<Load, Refusal> {
        let insertion = insertion(frame, parsed, (record, side), onward.mtu);
        let insertion = insertion.ok_or(Reason::Fragment)?;
        let mtu = onward.mtu.saturating_sub(insertion.length());
        let too_long = self.fits(frame, parsed, record, mtu)?;
        Ok(Load { insertion, too_long })
    }

    /// Is a packet longer than `mtu`, and to be cut?
    pub(super) fn fits<F: Family>(
        &self,
        frame: &[u8],
        parsed: &Parsed<F>,
        record: &Record<F>,
        mtu: u16,
    ) -> Result<bool, Refusal> {
        let length = length_of(parsed, record);
        // Nobody sends less than every way carries, even if told: that is cut, as it has grown here.
        let told = mtu.max(F::MTU_MIN);
        if length > told && !self.may_cut(frame, parsed, record) {
            return Err(Refusal::TooBig(told));
        }
        Ok(length > mtu)
    }

    /// May a packet too long for its way be cut? IPv6 never is, nor IPv4 with DF, unless it is
    /// told to be: then the outer packet of the tunnel is. What a client sends in pieces may be in
    /// IPv4 (RFC 7915 section 5.1.1).
    fn may_cut<F: Family>(&self, frame: &[u8], parsed: &Parsed<F>, record: &Record<F>) -> bool {
        let packet = frame.get(usize::from(parsed.l3)..).unwrap_or_default();
        let ignores_df = self.snapshot.tunnels_ignore_df && record.wrapping().is_some();
        !F::is_whole_for_good(packet)
            || (ignores_df && !F::IS_V6)
            || (record.is_crossed() && fragment::is_in(packet))
    }

    /// All questions, of a packet with a transport header.
    pub(super) fn ask<F: Family>(
        &self,
        frame: &[u8],
        parsed: &Parsed<F>,
        (record, side): (&Record<F>, Side),
    ) -> Result<(), Refusal> {
        let next_hop = self.leaves(record, side, parsed.ttl)?;
        let onward = self.onward(record, side, next_hop);
        self.load(frame, parsed, (record, side), &onward).map(|_| ())
    }

    /// Refuses a packet, and answers it where that is called for.
    #[cold]
    pub(super) fn turn_away<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        refusal: Refusal,
    ) -> Fate {
        match refusal {
            Refusal::For(reason) => self.refuse(packet, parsed, reason),
            Refusal::TooBig(mtu) => self.too_big(packet, parsed, mtu),
        }
    }

    /// Longer than the way carries: the sender is told.
    #[cold]
    pub(super) fn too_big<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        mtu: u16,
    ) -> Fate {
        self.stats.count_drop(Reason::TooBig);
        let answered = self.may_guide() && self.report(packet, parsed, IcmpError::TooBig { mtu });
        self.answered(packet, answered)
    }
}

/// What goes into a packet, so that the backend learns who the client is. Where there is no
/// room and it can do without, nothing. `None` if the packet cannot go on.
fn insertion<F: Family>(
    frame: &[u8],
    parsed: &Parsed<F>,
    (record, side): (&Record<F>, Side),
    mtu: u16,
) -> Option<Insertion> {
    if side == Side::Backend || record.introduction() == ClientAddress::None {
        return Some(Insertion::Nothing);
    }
    let insertion = introduce::insertion(frame, parsed, record)?;
    let fits = length_of(parsed, record).saturating_add(insertion.length()) <= mtu;
    Some(if fits { insertion } else { insertion.without_room(parsed.key.protocol) })
}
