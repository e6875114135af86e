//! The edge between tagged frames and ports: behind it nobody knows of tags.
//!
//! A port is a device, or the frames of a device that carry certain tags. Received frames lose
//! their tags here and get the id of their port; sent ones get them back and leave by the device.
//!
//! ```text
//! device 0 ──rx──► [200, 100] ─► tags off ─► port 3 ──┐
//!            ──►    no tag, or VID 0 ──────► port 0 ──┼─► looks, services, next hops, punt
//!            ──►    another tag ─► dropped: `vlan`    │
//! device 0 ◄──tx── tags on ◄──────────────── port 3 ──┘
//! ```
//!
//! Ports with a device come first, so a port's id says at once which of the two it is, and sending
//! by a device costs nothing here. On receive a device without tagged ports costs one question a
//! burst: its tagged frames are the kernel's, as they are. On a device that has some, the frames of
//! a burst are fetched together and then looked at one by one, before the stages that do the same.
//!
//! - A tag of VID 0 carries a priority only: it goes, and the frame counts as without it.
//! - Nothing reads PCP and DEI; both are 0 in what is sent.
//! - An outer tag may have either TPID; in what is sent it has the standard's, `88a8`.
//! - Counting: a device counts all its frames as they are on the wire, a tagged port its own without
//!   tags. What a device refuses to send (`tx_full`) its tagged port has counted as sent.
//!
//! Limits: two tags; what has more is dropped. Made once, from the ports as they were started.

use zerocopy::{FromBytes, IntoBytes};

use super::io::{Burst, Packet};
use super::snapshot::{Link, PortView};
use super::verdict::Reason;
use crate::ids::PortId;
use crate::stats::counters::WorkerStats;
use crate::wire::vlan::{self, Tag, Tags};

/// Shortest frame on a link, without FCS (IEEE 802.3): what tags took away is filled up to it.
const FRAME_MIN: usize = 60;
/// VIDs there are, the unusable ones included.
const VIDS: usize = 1 << 12;
/// The two link-layer addresses.
type Addresses = [u8; vlan::AT];

/// Which tags mean which port, both ways.
#[derive(Debug, Default)]
pub struct Edge {
    /// By device.
    trunks: Box<[Option<Trunk>]>,
    /// By port id, counted from the last device's on.
    ways: Box<[Way]>,
}

/// How frames of a tagged port are sent.
#[derive(Clone, Copy, Debug)]
struct Way {
    on: PortId,
    tags: [u8; 2 * vlan::LEN],
    length: usize,
}

/// The tagged ports of one device.
#[derive(Clone, Debug)]
struct Trunk {
    /// Ports of one tag, by its VID.
    single: Vids,
    /// Places in `inner`, by outer VID.
    outer: Vids,
    /// Ports of two tags, by inner VID.
    inner: Vec<Vids>,
}

/// A small number for some VIDs.
#[derive(Clone, Debug)]
struct Vids(Box<[u8; VIDS]>);

/// No number for this VID; ports are fewer.
const NONE: u8 = u8::MAX;

impl Vids {
    fn new() -> Self {
        Self(Box::new([NONE; VIDS]))
    }

    #[inline(always)]
    fn get(&self, vid: u16) -> Option<u8> {
        self.0.get(usize::from(vid)).copied().filter(|found| *found != NONE)
    }

    fn set(&mut self, vid: u16, number: u8) {
        if let Some(place) = self.0.get_mut(usize::from(vid)) {
            *place = number;
        }
    }
}

impl Trunk {
    fn new() -> Self {
        Self { single: Vids::new(), outer: Vids::new(), inner: Vec::new() }
    }

    fn add(&mut self, tags: Tags, port: PortId) {
        let outer = tags.outer.get();
        let Some(inner) = tags.inner else { return self.single.set(outer, port.0) };
        let place = self.outer.get(outer).unwrap_or_else(|| {
            self.inner.push(Vids::new());
            #[expect(clippy::cast_possible_truncation, reason = "at most one for each port")]
            let place = self.inner.len() as u8 - 1;
            self.outer.set(outer, place);
            place
        });
        if let Some(vids) = self.inner.get_mut(usize::from(place)) {
            vids.set(inner.get(), port.0);
        }
    }

    #[inline(always)]
    fn find(&self, stack: Stack) -> Option<PortId> {
        let port = match stack.inner {
            0 => self.single.get(stack.outer),
            inner => self.inner.get(usize::from(self.outer.get(stack.outer)?))?.get(inner),
        };
        port.map(PortId)
    }
}

/// The tags of one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stack {
    /// VID of the first tag that has one; 0: none.
    outer: u16,
    /// VID of the second; 0: none.
    inner: u16,
    /// Bytes of all tags.
    length: usize,
}

impl Stack {
    /// Reads the tags of a frame. One too short to have a type has none.
    #[inline(always)]
    fn of(frame: &[u8]) -> Result<Self, Reason> {
        let mut stack = Self::default();
        while let Some(tag) = tag_at(frame, vlan::AT + stack.length)? {
            if stack.length == 2 * vlan::LEN {
                return Err(Reason::Vlan);
            }
            stack.length += vlan::LEN;
            let place = if stack.outer == 0 { &mut stack.outer } else { &mut stack.inner };
            *place = tag.vid();
        }
        Ok(stack)
    }
}

/// The tag that stands there; it must have a type, or another tag, after it.
#[inline(always)]
fn tag_at(frame: &[u8], at: usize) -> Result<Option<Tag>, Reason> {
    let rest = frame.get(at..).unwrap_or_default();
    match rest.first_chunk() {
        Some(bytes) if vlan::is_tag(u16::from_be_bytes(*bytes)) => {}
        _ => return Ok(None),
    }
    match Tag::read_from_prefix(rest) {
        Ok((tag, [_, _, ..])) => Ok(Some(tag)),
        _ => Err(Reason::Truncated),
    }
}

/// Does a frame carry these tags, and no others?
pub(super) fn has_tags(frame: &[u8], tags: Tags) -> bool {
    let wanted = (tags.outer.get(), tags.inner.map_or(0, vlan::Vid::get));
    Stack::of(frame).is_ok_and(|stack| (stack.outer, stack.inner) == wanted)
}

/// Bytes of a frame's tags.
pub(super) fn tags_length(frame: &[u8]) -> usize {
    Stack::of(frame).map_or(0, |stack| stack.length)
}

impl Edge {
    /// The edge of these ports, those with a device first.
    pub fn new(ports: &[PortView]) -> Self {
        let devices = ports.iter().take_while(|port| port.link == Link::Device).count();
        let mut trunks = vec![None; devices];
        let mut ways = Vec::new();
        for (id, port) in (0..).map(PortId).zip(ports).skip(devices) {
            let Link::Tagged { on, tags } = port.link else { continue };
            if let Some(trunk) = trunks.get_mut(on.index()) {
                trunk.get_or_insert_with(Trunk::new).add(tags, id);
            }
            ways.push(Way::new(on, tags));
        }
        Self { trunks: trunks.into(), ways: ways.into() }
    }

    /// Sorts what device `on` has received by port, takes the tags off, counts and drops what is
    /// no port's.
    #[inline(always)]
    pub fn receive<P: Packet>(&self, on: PortId, burst: &mut Burst<P>, stats: &WorkerStats) {
        if let Some(Some(trunk)) = self.trunks.get(on.index()) {
            sort(trunk, burst, stats);
        }
    }

    /// The device a port's packets leave by.
    pub fn device(&self, port: PortId) -> PortId {
        let way = port.index().checked_sub(self.trunks.len()).and_then(|at| self.ways.get(at));
        way.map_or(port, |way| way.on)
    }

    /// A packet for a port without a device: puts its tags on, and says by which device it leaves.
    #[inline(never)]
    pub fn send<P: Packet>(
        &self,
        packet: &mut P,
        port: PortId,
        stats: &WorkerStats,
    ) -> Result<PortId, Reason> {
        let way = port.index().checked_sub(self.trunks.len()).and_then(|at| self.ways.get(at));
        let way = way.ok_or(Reason::NextHop)?;
        let bytes = packet.data().len() as u64;
        put_on(packet, way).ok_or(Reason::NoRoom)?;
        if let Some(counters) = stats.ports.get(port.index()) {
            counters.tx_packets.add(1);
            counters.tx_bytes.add(bytes);
        }
        Ok(way.on)
    }
}

impl Way {
    fn new(on: PortId, Tags { outer, inner }: Tags) -> Self {
        let mut way = Self { on, tags: [0; 2 * vlan::LEN], length: vlan::LEN };
        let stack = match inner {
            None => [Tag::new(vlan::TAG, outer); 2],
            Some(inner) => {
                way.length = 2 * vlan::LEN;
                [Tag::new(vlan::OUTER, outer), Tag::new(vlan::TAG, inner)]
            }
        };
        way.tags.copy_from_slice(stack.as_bytes());
        way
    }
}

#[inline(never)]
fn sort<P: Packet>(trunk: &Trunk, burst: &mut Burst<P>, stats: &WorkerStats) {
    for packet in burst.iter() {
        packet.prefetch();
    }
    burst.retain(|packet| match take_off(packet, trunk) {
        Ok(None) => true,
        Ok(Some(port)) => {
            packet.set_port(port);
            if let Some(counters) = stats.ports.get(port.index()) {
                counters.rx_packets.add(1);
                counters.rx_bytes.add(packet.data().len() as u64);
            }
            true
        }
        Err(reason) => {
            stats.count_drop(reason);
            false
        }
    });
}

/// Takes the tags off; the tagged port it then belongs to, if it had any.
#[inline(always)]
fn take_off<P: Packet>(packet: &mut P, trunk: &Trunk) -> Result<Option<PortId>, Reason> {
    let stack = Stack::of(packet.data())?;
    if stack.length == 0 {
        return Ok(None);
    }
    let port = match stack.outer {
        0 => None,
        _ => Some(trunk.find(stack).ok_or(Reason::Vlan)?),
    };
    cut(packet, stack.length).ok_or(Reason::Truncated)?;
    Ok(port)
}

/// Moves the addresses over the tags. A short frame keeps its length, with zeros at its end: it
/// may leave by a link without tags, and what lay there before is nobody's business.
#[inline(always)]
fn cut<P: Packet>(packet: &mut P, length: usize) -> Option<()> {
    let before = packet.data().len();
    let addresses: Addresses = *packet.data().first_chunk()?;
    packet.trim_front(length).then_some(())?;
    *packet.data_mut().first_chunk_mut()? = addresses;
    let after = packet.data().len();
    if after < FRAME_MIN && packet.set_len(before.min(FRAME_MIN)) {
        packet.data_mut().get_mut(after..)?.fill(0);
    }
    Some(())
}

/// Moves the addresses to the front and writes the tags behind them.
#[inline(always)]
fn put_on<P: Packet>(packet: &mut P, way: &Way) -> Option<()> {
    let addresses: Addresses = *packet.data().first_chunk()?;
    packet.prepend(way.length)?;
    let frame = packet.data_mut();
    *frame.first_chunk_mut()? = addresses;
    let tags = way.tags.get(..way.length)?;
    frame.get_mut(vlan::AT..vlan::AT + way.length)?.copy_from_slice(tags);
    Some(())
}

#[cfg(test)]
mod tests;
