//! Sending: packets are staged by destination and go out by the burst.

use std::num::NonZeroU64;

use super::io::{Burst, Packet, Tx};

/// A place packets go to, and those on their way there.
#[derive(Debug)]
pub struct Staged<T: Tx> {
    /// The place.
    pub place: T,
    waiting: Burst<T::Packet>,
    waiting_bytes: u64,
    /// When one of them was received, if it is sampled.
    sample: Option<NonZeroU64>,
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
        Self { place, waiting: Burst::new_const(), waiting_bytes: 0, sample: None }
    }

    /// Stages a packet. The caller flushes when [`Staged::is_full`].
    #[inline(always)]
    pub fn push(&mut self, packet: T::Packet) {
        self.waiting_bytes += packet.data().len() as u64;
        self.push_uncounted(packet);
    }

    /// The same; its bytes are nobody's concern.
    #[inline(always)]
    pub fn push_uncounted(&mut self, packet: T::Packet) {
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

    /// What is staged.
    pub fn waiting(&self) -> &[T::Packet] {
        &self.waiting
    }

    /// A packet that is staged next was received at `ticks`. One sample at a time: the first stays.
    pub fn sample(&mut self, ticks: u64) {
        self.sample = self.sample.or(NonZeroU64::new(ticks));
    }

    /// The sample among those staged, once.
    #[inline(always)]
    pub fn sampled(&mut self) -> Option<NonZeroU64> {
        let sample = self.sample;
        if sample.is_some() {
            self.sample = None;
        }
        sample
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
        let bytes = std::mem::take(&mut self.waiting_bytes).saturating_sub(refused_bytes);
        Flushed { packets: taken as u64, bytes, refused }
    }
}
