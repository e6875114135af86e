//! The platform fence: what the pipeline asks of a packet, a port and a lane.
//!
//! Ownership crosses with the packet. Receiving appends owned packets to a fixed burst; sending
//! takes them out of it; what is left is the caller's to count and free (dropping frees). DPDK is
//! one implementation (`io::dpdk`), a `Vec` is another ([`memory`]): every packet test, fuzzer and
//! micro-benchmark runs without EAL.

use arrayvec::ArrayVec;

use super::probe::Probe;
use crate::ids::PortId;

pub mod dpdk;
pub mod memory;

/// Packets handled together: table lines of one burst are prefetched side by side. Above 64
/// nothing is gained, below 16 the misses stop overlapping.
pub const BURST: usize = 32;

/// Up to [`BURST`] owned packets.
pub type Burst<P> = ArrayVec<P, BURST>;

/// What a port found out about a checksum on receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumVerdict {
    /// Not looked at: software must, where it matters.
    #[default]
    Unknown,
    /// Checked and right.
    Good,
    /// Checked and wrong.
    Bad,
}

/// What came with a packet from the port that received it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxInfo {
    /// Verdict on the IPv4 header checksum.
    pub ip_checksum: ChecksumVerdict,
    /// Verdict on the TCP or UDP checksum.
    pub l4_checksum: ChecksumVerdict,
    /// More than one segment: the data path takes single-segment packets only.
    pub segmented: bool,
}

/// An owned packet buffer holding one Ethernet frame. Dropping it frees the buffer.
pub trait Packet: Sized {
    /// The frame's bytes.
    fn data(&self) -> &[u8];
    /// The frame's bytes, writable.
    fn data_mut(&mut self) -> &mut [u8];
    /// Asks the CPU to fetch the first line of the frame; no effect on correctness.
    fn prefetch(&self);
    /// What the receiving port said.
    fn rx_info(&self) -> RxInfo;
    /// The port this packet came from (set by the worker after `rx`) or shall leave by (set by the
    /// control plane on packets it injects). Survives rings.
    fn port(&self) -> PortId;
    /// Sets what [`Packet::port`] answers, and forgets the tag: whoever takes a packet in says
    /// where it came from, so no packet brings a tag from before its arrival.
    fn set_port(&mut self, port: PortId);
    /// What a worker noted on the packet for whoever handles it next; 0 if nothing. Survives rings.
    fn tag(&self) -> u32;
    /// Sets what [`Packet::tag`] answers, until the next [`Packet::set_port`].
    fn set_tag(&mut self, tag: u32);
    /// An empty packet with the usual headroom from where this one came from: same port, no tag.
    /// `None` when the pool has none left.
    fn sibling(&self) -> Option<Self>;
    /// Grows the frame by `len` bytes at the front and returns them, or `None` without headroom.
    fn prepend(&mut self, len: usize) -> Option<&mut [u8]>;
    /// Cuts `len` bytes off the front. False, and nothing done, if the frame is shorter.
    fn trim_front(&mut self, len: usize) -> bool;
    /// Sets the frame's length, cutting or growing at the end (new bytes unspecified). False, and
    /// nothing done, without tailroom.
    fn set_len(&mut self, len: usize) -> bool;
}

/// A place packets come from.
pub trait Rx {
    /// The packets it yields.
    type Packet: Packet;
    /// Appends what has arrived, up to the burst's capacity; returns how many.
    fn rx(&mut self, burst: &mut Burst<Self::Packet>) -> usize;
}

/// A place packets go to.
pub trait Tx {
    /// The packets it takes.
    type Packet: Packet;
    /// Takes packets out of the burst, from the front, as many as fit; returns how many. The rest
    /// stay in `burst`, in order.
    fn tx(&mut self, burst: &mut Burst<Self::Packet>) -> usize;
}

/// What a worker does when it has found nothing for long.
pub trait Rest {
    /// Waits: so short that what comes meanwhile may wait as long.
    fn rest(&mut self);
}

/// The concrete types one build of the pipeline runs on.
pub trait Platform {
    /// The packet type all of its places share.
    type Packet: Packet;
    /// One queue pair of a network port.
    type Port: Rx<Packet = Self::Packet> + Tx<Packet = Self::Packet>;
    /// The receiving end of a lane (handover, injection): single consumer.
    type LaneRx: Rx<Packet = Self::Packet>;
    /// The sending end of a lane (handover, punt): single producer.
    type LaneTx: Tx<Packet = Self::Packet>;
    /// Who is told where cycles go; `()` for nobody.
    type Probe: Probe;
    /// Does a worker count what it moves and watch samples of it? Only a benchmark that asks what this
    /// costs has one that does not.
    const WATCHED: bool = true;
    /// The time stamp counter, for what is sampled.
    fn ticks() -> u64;
}
