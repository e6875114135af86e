//! Lanes: lock-free rings of owned packets between two threads.
//!
//! One thread sends, one receives: the handover of a packet to its owner, and the way to and from
//! the control thread. That there is one of each is a matter of types: [`lane`] makes one
//! [`Sender`] and one [`Receiver`], neither can be cloned, and both ask for `&mut self`. Single
//! producer and single consumer spare the ring its compare-and-swap loops.
//!
//! A full lane takes what fits; the rest stays with the caller. Packets in a lane whose ends are
//! gone are freed with it.

use std::ffi::c_uint;
use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys as sys;

use super::burst::{count16, forget_front};
use super::eal::{Eal, last_error};
use super::mbuf::Mbuf;
use super::pool::{ANY_NODE, unique_name};
use crate::dataplane::io::{BURST, Burst, Rx, Tx};

/// Largest capacity DPDK allows.
pub const CAPACITY_MAX: u32 = (1 << 30) - 1;

/// A lane could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// Nothing, or too much.
    #[error("a lane of {0} packets: between 1 and {CAPACITY_MAX} are possible")]
    Capacity(u32),
    /// DPDK has no memory for it.
    #[error("no DPDK memory for a lane of {capacity} packets: {reason}; raise `memory_mb`")]
    Create {
        /// Packets asked for.
        capacity: u32,
        /// What `rte_errno` says.
        reason: String,
    },
}

/// Makes a lane that holds up to `capacity` packets.
pub fn lane(eal: &Eal, capacity: u32) -> Result<(Sender, Receiver), RingError> {
    if !(1..=CAPACITY_MAX).contains(&capacity) {
        return Err(RingError::Capacity(capacity));
    }
    let flags = sys::RING_F_SP_ENQ | sys::RING_F_SC_DEQ | sys::RING_F_EXACT_SZ;
    let name = unique_name("lane");
    let lock = eal.control();
    // SAFETY: EAL is running (`eal`); the name is NUL-terminated and copied.
    let ring = unsafe { sys::rte_ring_create(name.as_ptr(), capacity, ANY_NODE, flags) };
    let reason = last_error();
    drop(lock);
    let ring = NonNull::new(ring).ok_or(RingError::Create { capacity, reason })?;
    let ring = Arc::new(Ring { ring, eal: eal.clone() });
    Ok((Sender { ring: Arc::clone(&ring) }, Receiver { ring }))
}

/// The sending end.
#[derive(Debug)]
pub struct Sender {
    ring: Arc<Ring>,
}

/// The receiving end.
#[derive(Debug)]
pub struct Receiver {
    ring: Arc<Ring>,
}

#[derive(Debug)]
struct Ring {
    ring: NonNull<sys::rte_ring>,
    eal: Eal,
}

// SAFETY: the ring has no tie to a thread, and the packets in it are `Send`.
unsafe impl Send for Ring {}
// SAFETY: through `&Ring` its two ends are used by one thread each (`&mut Sender`,
// `&mut Receiver`), which is what the single-producer, single-consumer functions ask; counting is
// allowed to anyone.
unsafe impl Sync for Ring {}

impl Ring {
    fn raw(&self) -> *mut sys::rte_ring {
        self.ring.as_ptr()
    }

    fn len(&self) -> usize {
        // SAFETY: the ring lives.
        unsafe { sys::rte_ring_count(self.raw()) as usize }
    }

    fn capacity(&self) -> usize {
        // SAFETY: the ring lives.
        unsafe { sys::rte_ring_get_capacity(self.raw()) as usize }
    }

    /// Moves packets from the ring behind those in `burst`, `most` if there are as many and room.
    ///
    /// # Safety
    /// The caller is the only consumer.
    #[inline(always)]
    unsafe fn dequeue(&self, burst: &mut Burst<Mbuf>, most: usize) -> usize {
        let held = burst.len();
        let spare = c_uint::from(count16(burst.remaining_capacity().min(most)));
        // SAFETY: `held` is at most the capacity.
        let place = unsafe { burst.as_mut_ptr().add(held) }.cast();
        // SAFETY: `place` has room for `spare` pointers, and an `Mbuf` is one (`repr(transparent)`).
        let count = unsafe {
            sys::rte_ring_sc_dequeue_burst(self.raw(), place, spare, std::ptr::null_mut())
        } as usize;
        // SAFETY: the ring wrote `count` pointers there, each an `Mbuf` given up by `enqueue`.
        unsafe { burst.set_len(held + count) };
        count
    }
}

impl Sender {
    /// Sends all of `burst` or nothing; false if it does not fit whole.
    pub fn send_all(&mut self, burst: &mut Burst<Mbuf>) -> bool {
        let count = c_uint::from(count16(burst.len()));
        let packets = burst.as_ptr().cast();
        let free = std::ptr::null_mut();
        // SAFETY: `count` pointers are readable there; `&mut self` is the only producer.
        let sent = unsafe { sys::rte_ring_sp_enqueue_bulk(self.ring.raw(), packets, count, free) };
        forget_front(burst, sent as usize);
        sent == count
    }

    /// Packets waiting; the other end may change it at any time.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Is nothing waiting?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Packets it holds at most.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }
}

impl Receiver {
    /// As [`Rx::rx`], but `most` packets at once: for who wants to know what short bursts cost.
    #[inline]
    pub fn rx_at_most(&mut self, burst: &mut Burst<Mbuf>, most: usize) -> usize {
        // SAFETY: `&mut self` is the only consumer.
        unsafe { self.ring.dequeue(burst, most) }
    }

    /// Packets waiting; the other end may change it at any time.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Is nothing waiting?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Tx for Sender {
    type Packet = Mbuf;

    #[inline]
    fn tx(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let count = c_uint::from(count16(burst.len()));
        let packets = burst.as_ptr().cast();
        let free = std::ptr::null_mut();
        // SAFETY: `count` pointers are readable there; `&mut self` is the only producer.
        let sent = unsafe { sys::rte_ring_sp_enqueue_burst(self.ring.raw(), packets, count, free) };
        forget_front(burst, sent as usize);
        sent as usize
    }
}

impl Rx for Receiver {
    type Packet = Mbuf;

    #[inline]
    fn rx(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        // SAFETY: `&mut self` is the only consumer.
        unsafe { self.ring.dequeue(burst, BURST) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut burst = Burst::new();
        // SAFETY: both ends are gone: this is the only consumer.
        while unsafe { self.dequeue(&mut burst, BURST) } > 0 {
            burst.clear();
        }
        let _one_at_a_time = self.eal.control();
        // SAFETY: made by `lane`, empty, and nobody has it any more.
        unsafe { sys::rte_ring_free(self.raw()) };
    }
}
