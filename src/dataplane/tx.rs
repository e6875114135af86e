//! Sending: packets are staged by destination and go out by the burst.

use super::io::{Burst, Packet, Tx};

/// A place packets go to, and those on their way there.
#[derive(Debug)]
pub struct Staged<T: Tx> {
    /// The place.
    pub place: T,
    waiting: Burst<T::Packet>,
    waiting_bytes: u64,
}

/// What a flush did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Packets the place took.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets it did not take; they were freed.
    pub refused: u64,
}

impl<T: Tx> Staged<T> {
    /// Nothing staged yet.
    pub fn new(place: T) -> Self {
        Self { place, waiting: Burst::new_const(), waiting_bytes: 0 }
    }

    /// Stages a packet. The caller flushes when [`Staged::is_full`].
    #[inline(always)]
    pub fn push(&mut self, packet: T::Packet) {
        self.waiting_bytes += packet.data().len() as u64;
        let staged = self.waiting.try_push(packet);
        debug_assert!(staged.is_ok(), "the caller flushes a full stage");
    }

    /// Must it be flushed before the next push?
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.waiting.is_full()
    }

    /// Is there nothing to flush?
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends what waits. A place that does not take everything is asked once more; then the rest
    /// is freed: a bounded effort, and the caller counts.
    pub fn flush(&mut self) -> Flushed {
        let mut taken = self.place.tx(&mut self.waiting);
        if !self.waiting.is_empty() {
            taken += self.place.tx(&mut self.waiting);
        }
        let refused_bytes: u64 = self.waiting.iter().map(|p| p.data().len() as u64).sum();
        let refused = self.waiting.len() as u64;
        self.waiting.clear();
        let bytes = std::mem::take(&mut self.waiting_bytes) - refused_bytes;
        Flushed { packets: taken as u64, bytes, refused }
    }
}
