//! Frames copied on their way for somebody who wants to see them, so that forwarding does not notice.
//!
//! ```text
//! control:  Order::Capture(what is wanted, ring) ─► worker
//!
//! rx ─► before? ─► … rewritten … ─► staged ─► after? ─► tx
//!          │                                     │
//!          └── wanted, a place free: copied ─────┴──► full ──► who streams them
//!                             └─ no place: counted    empty ◄── places given back
//! ```
//!
//! A ring is two queues of places that were reserved beforehand: the worker takes an empty one, fills it and puts
//! it among the full ones. It never waits: without an empty place the frame is missing from the capture, and
//! counted. Nobody capturing costs a branch for a burst and one for a flush.
//!
//! *Before* is the frame as its device received it, *after* the one a device is about to be given: what the
//! worker makes itself (answers, pieces) and what the kernel sends is only seen after, what is
//! refused or goes to the kernel only before. Tags of VLANs are in both.

use std::num::NonZeroU32;

use super::flows::Flows;
use super::sync::{Arc, AtomicU64, Ordering, Queue};
use super::vlan;
use crate::ids::{PortId, ServiceId};
use crate::wire::vlan::Tags;

mod concern;
pub mod filter;

use filter::Program;

/// When a frame is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// As it was received.
    Before,
    /// As it is sent.
    After,
}

/// The frames of one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The port.
    pub port: PortId,
    /// Its device.
    pub device: PortId,
    /// The tags its frames carry on that device; `None`: all of the device's frames.
    pub tags: Option<Tags>,
}

/// Which frames are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// As received?
    pub before: bool,
    /// As sent?
    pub after: bool,
    /// Of this port only.
    pub place: Option<Place>,
    /// Of these services' connections only; of everybody's if there are none.
    pub services: Box<[ServiceId]>,
    /// Those that this program wants.
    pub filter: Option<Program>,
    /// Of so many that match one is copied.
    pub one_in: NonZeroU32,
    /// No more than so many, each worker.
    pub frames_max: u64,
}

/// A place for a copy of a frame.
#[derive(Debug)]
pub struct Copied {
    /// Ticks of the time stamp counter.
    pub ticks: u64,
    /// The device that received or shall send it.
    pub device: PortId,
    /// Received or sent.
    pub moment: Moment,
    /// Bytes of the frame.
    pub length: usize,
    kept: usize,
    bytes: Box<[u8]>,
}

impl Copied {
    fn place(bytes: usize) -> Self {
        let bytes = vec![0; bytes].into();
        Self { ticks: 0, device: PortId(0), moment: Moment::Before, length: 0, kept: 0, bytes }
    }

    /// The frame's first bytes, as many as are kept.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.kept).unwrap_or_default()
    }

    fn fill(&mut self, frame: &[u8], seen: Seen) {
        self.ticks = seen.ticks;
        self.device = seen.device;
        self.moment = seen.moment;
        self.length = frame.len();
        self.kept = frame.len().min(self.bytes.len());
        if let (Some(to), Some(from)) = (self.bytes.get_mut(..self.kept), frame.get(..self.kept)) {
            to.copy_from_slice(from);
        }
    }
}

/// Copies on their way out of one worker.
#[derive(Debug)]
pub struct Ring {
    empty: Queue<Box<Copied>>,
    full: Queue<Box<Copied>>,
    missed: AtomicU64,
}

impl Ring {
    /// So many places, each of so many bytes; one place at least.
    pub fn new(places: usize, bytes: usize) -> Self {
        let places = places.max(1);
        let (empty, full) = (Queue::new(places), Queue::new(places));
        for _ in 0..places {
            // It has room for as many.
            let _ = empty.push(Box::new(Copied::place(bytes)));
        }
        Self { empty, full, missed: AtomicU64::new(0) }
    }

    /// The oldest copy.
    pub fn take(&self) -> Option<Box<Copied>> {
        self.full.pop()
    }

    /// A place can be used again.
    pub fn give_back(&self, place: Box<Copied>) {
        // It came from here, so there is room.
        let _ = self.empty.push(place);
    }

    /// Frames that found no place.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Copies a frame that the first device received.
    #[cfg(test)]
    pub(crate) fn put_at(&self, frame: &[u8], ticks: u64) -> bool {
        let moment = Moment::Before;
        self.put(frame, Seen { ticks, device: PortId(0), moment, taken_over: None })
    }

    /// Copies a frame. False, and counted, without a place.
    fn put(&self, frame: &[u8], seen: Seen) -> bool {
        let Some(mut place) = self.empty.pop() else {
            self.missed.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        place.fill(frame, seen);
        self.full.push(place).is_ok()
    }
}

/// How a worker came to see a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) ticks: u64,
    pub(super) device: PortId,
    pub(super) moment: Moment,
    /// The port it was received by elsewhere, without its tags: another worker handed it over.
    pub(super) taken_over: Option<PortId>,
}

/// One worker's part of a capture.
#[derive(Debug)]
pub struct Capture {
    wanted: Arc<Wanted>,
    ring: Arc<Ring>,
    left: u64,
    /// Frames that matched since the last that was copied.
    passed: u32,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    NotWanted,
    Copied,
    Missed,
}

impl Capture {
    /// What is wanted, and where copies go.
    pub fn new(wanted: Arc<Wanted>, ring: Arc<Ring>) -> Self {
        let left = wanted.frames_max;
        Self { wanted, ring, left, passed: 0 }
    }

    /// Where copies go.
    #[cfg(test)]
    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Are packets from other workers to be looked at? Theirs whose service only the owner knows.
    pub(super) fn asks_owners(&self) -> bool {
        !self.wanted.services.is_empty()
    }

    /// Copies a frame if it is wanted.
    pub(super) fn see(&mut self, frame: &[u8], seen: Seen, flows: &Flows) -> Outcome {
        if self.left == 0 || !self.wanted.wants(frame, seen, flows) {
            return Outcome::NotWanted;
        }
        self.passed += 1;
        if self.passed < self.wanted.one_in.get() {
            return Outcome::NotWanted;
        }
        self.passed = 0;
        if !self.ring.put(frame, seen) {
            return Outcome::Missed;
        }
        self.left -= 1;
        Outcome::Copied
    }
}

impl Wanted {
    fn wants(&self, frame: &[u8], seen: Seen, flows: &Flows) -> bool {
        let moment = match seen.moment {
            Moment::Before => self.before,
            Moment::After => self.after,
        };
        moment
            && self.place.is_none_or(|place| place.has(frame, seen))
            && self.filter.as_ref().is_none_or(|program| program.wants(frame))
            && (self.services.is_empty() || flows.is_concerned(&self.services, frame, seen))
    }
}

impl Place {
    fn has(self, frame: &[u8], seen: Seen) -> bool {
        match (seen.taken_over, self.tags) {
            (Some(port), Some(_)) => port == self.port,
            (None, Some(tags)) => seen.device == self.device && vlan::has_tags(frame, tags),
            (_, None) => seen.device == self.device,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ticks: u64) -> Seen {
        Seen { ticks, device: PortId(1), moment: Moment::Before, taken_over: None }
    }

    #[test]
    fn a_copy_is_as_long_as_its_place_and_knows_how_long_the_frame_was() {
        let ring = Ring::new(3, 4);
        for (number, frame) in (1..).zip([&[1, 2, 3, 4, 5, 6, 7, 8, 9][..], &[1, 2, 3, 4], &[7]]) {
            assert!(ring.put(frame, seen(number)));
            let copied = ring.take().unwrap();
            assert_eq!(copied.bytes(), &frame[..frame.len().min(4)]);
            assert_eq!((copied.length, copied.ticks), (frame.len(), number));
            ring.give_back(copied);
        }
    }

    #[test]
    fn a_full_ring_misses_frames_counts_them_and_takes_more_when_places_come_back() {
        let ring = Ring::new(2, 64);
        let put = |number: u8| ring.put(&[number], seen(0));
        assert_eq!([1, 2, 3, 4].map(put), [true, true, false, false]);
        assert_eq!(ring.missed(), 2);
        ring.give_back(ring.take().unwrap());
        assert_eq!([5, 6].map(put), [true, false]);
        let left: Vec<_> = std::iter::from_fn(|| ring.take()).map(|it| it.bytes()[0]).collect();
        assert_eq!((left, ring.missed()), (vec![2, 5], 3));
    }
}
