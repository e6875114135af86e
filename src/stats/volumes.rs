//! Packets and bytes that pass between clients and each backend, as one worker forwards them.
//!
//! ```text
//!  a backend's half of a cache line    0        8       16        24     32
//!                                      │ packets, bytes │ packets, bytes │     by BackendId
//!                                      └── in: clients' ┴── out: its own ┘
//! ```
//!
//! What counts is what goes on, once, where the connection's record is told that a packet passes; as it came: the IP
//! packet, its header included, the frame around it and what is put into it or around it here not. IPVS counts the
//! same bytes. An ICMP error that is passed on is a packet of the end it comes from; a piece of a datagram is a packet.
//! What the balancer says for a client that has proven itself by a SYN cookie is the client's. What belongs
//! to no backend is not here: what is refused, what the balancer answers by itself, cookies among it.
//!
//! Every packet of every connection adds here, so it costs two additions to a line that nobody else writes: a
//! worker's array is its own, a place for each number an id can be, so that none is asked whether it is there.
//! A service's sums are made when somebody asks ([`super::collect`]). A counter of bytes is full after
//! forty years at 100 Gbit/s, and begins anew.

use std::alloc::{Layout, handle_alloc_error};

use serde::{Deserialize, Serialize};
use zerocopy::FromZeros;

use super::counters::Counter;
use crate::dataplane::conn::key::Side;
use crate::ids::{BackendId, limits};

/// Packets and bytes both ways.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct Volumes {
    /// Packets of clients that went on to backends.
    pub in_packets: u64,
    /// Their bytes, IP headers included.
    pub in_bytes: u64,
    /// Packets of backends that went on to clients.
    pub out_packets: u64,
    /// Their bytes.
    pub out_bytes: u64,
}

impl Volumes {
    /// Packets in, bytes in, packets out, bytes out.
    pub fn numbers(self) -> [u64; 4] {
        let Self { in_packets, in_bytes, out_packets, out_bytes } = self;
        [in_packets, in_bytes, out_packets, out_bytes]
    }

    /// The reverse.
    pub fn of([in_packets, in_bytes, out_packets, out_bytes]: [u64; 4]) -> Self {
        Self { in_packets, in_bytes, out_packets, out_bytes }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, more: Self) -> Self {
        self.each(more, u64::wrapping_add)
    }

    /// What has come since they were `then`, a full counter included.
    #[must_use]
    pub fn since(self, then: Self) -> Self {
        self.each(then, u64::wrapping_sub)
    }

    fn each(self, other: Self, how: fn(u64, u64) -> u64) -> Self {
        let (mut all, others) = (self.numbers(), other.numbers());
        all.iter_mut().zip(others).for_each(|(one, other)| *one = how(*one, other));
        Self::of(all)
    }
}

/// Packets and bytes one way.
#[derive(Debug, Default, FromZeros, zerocopy::KnownLayout)]
#[repr(C)]
struct Way {
    packets: Counter,
    bytes: Counter,
}

/// Those of one backend, by [`Side`].
#[derive(Debug, Default, FromZeros, zerocopy::KnownLayout)]
#[repr(C, align(32))]
struct Place([Way; 2]);

const _: () = assert!(size_of::<Place>() == 32, "a backend is in one line");

/// Those of all backends, as one worker counts them.
#[derive(Debug)]
pub struct VolumeCounters(Box<[Place; limits::BACKENDS]>);

impl Default for VolumeCounters {
    /// Nothing yet. The memory is the system's zero pages until it is used.
    fn default() -> Self {
        let places = <[Place; limits::BACKENDS]>::new_box_zeroed();
        Self(
            places
                .unwrap_or_else(|_| handle_alloc_error(Layout::new::<[Place; limits::BACKENDS]>())),
        )
    }
}

impl VolumeCounters {
    /// A packet that `side` sent goes on. The owner's alone, as all of these.
    #[inline(always)]
    pub fn count(&self, backend: BackendId, side: Side, bytes: u16) {
        let Some(place) = self.0.get(backend.index()) else { return };
        let way = &place.0[side as usize];
        way.packets.add(1);
        way.bytes.add(bytes.into());
    }

    /// What a backend's id has counted.
    pub fn of(&self, backend: BackendId) -> Volumes {
        let Some(Place([clients, own])) = self.0.get(backend.index()) else {
            return Volumes::default();
        };
        Volumes {
            in_packets: clients.packets.get(),
            in_bytes: clients.bytes.get(),
            out_packets: own.packets.get(),
            out_bytes: own.bytes.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: BackendId = BackendId(65_535);

    #[test]
    fn a_packet_counts_for_its_backend_and_its_sender_alone() {
        let counters = VolumeCounters::default();
        counters.count(BackendId(7), Side::Client, 40);
        counters.count(BackendId(7), Side::Client, 60);
        counters.count(BackendId(7), Side::Backend, 1500);
        counters.count(LAST, Side::Backend, u16::MAX);
        assert_eq!(counters.of(BackendId(7)), Volumes::of([2, 100, 1, 1500]));
        assert_eq!(counters.of(LAST), Volumes::of([0, 0, 1, 65_535]));
        for nobody in [BackendId(6), BackendId(8), BackendId(u32::MAX)] {
            assert_eq!(counters.of(nobody), Volumes::default());
        }
        counters.count(BackendId(u32::MAX), Side::Client, 1);
    }

    #[test]
    fn what_has_come_since_is_right_when_a_counter_was_full_in_between() {
        let then = Volumes::of([u64::MAX, u64::MAX - 1, 5, 0]);
        let now = then.and(Volumes::of([1, 2, 3, 4]));
        assert_eq!(now, Volumes::of([0, 0, 8, 4]));
        assert_eq!(now.since(then), Volumes::of([1, 2, 3, 4]));
    }
}
