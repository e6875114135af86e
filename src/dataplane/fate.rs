//! What may become of a packet: where it came from, where it goes.

use crate::ids::{PortId, WorkerId};

/// How a packet reached this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By its own queue of a port.
    Port,
    /// From a worker that found it was not its own.
    Handover,
}

/// What shall happen to a packet. Refusals have been counted by the time this is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Sent by this port.
    Send(PortId),
    /// The same; it asks a backend whether it takes a connection, and may have to again.
    Ask(PortId),
    /// The same, and then what has waited for that: a backend has agreed.
    Opened(PortId),
    /// Kept until its backend has agreed.
    Hold,
    /// Cut into pieces no longer than this many bytes, which are sent by this port.
    Cut(PortId, u16),
    /// Sent by this port, in pieces no longer than this many bytes, behind a segment with what its
    /// backend is to know of the client.
    SendBehind(PortId, u16),
    /// A piece of one of our packets: its keeper's.
    Piece,
    /// Handed to this worker.
    HandOver(WorkerId),
    /// Given to the kernel, within the limit of its class.
    Punt(PuntClass),
    /// Freed.
    Free,
}

/// What a packet for the kernel is, as far as its limit goes: a flood of one class must not
/// silence the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PuntClass {
    /// ARP: without it next hops are lost.
    Neighbors = 0,
    /// Everything else.
    Other = 1,
}

impl PuntClass {
    /// How many classes there are.
    pub const COUNT: usize = 2;
}
