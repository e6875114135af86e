//! Pools of packet buffers: every buffer of the daemon is reserved here at start.
//!
//! A port's receive queues take buffers from a pool, [`Mbuf`]s give them back when dropped, on any
//! thread. Threads registered with EAL keep up to [`CACHE`] × 1.5 free buffers to themselves, so
//! that most takes and gives touch no shared line: size a pool for descriptors + rings + bursts +
//! that much per worker, or a busy worker finds the pool empty while others sit on free buffers.
//!
//! A pool's memory is given back when EAL ends (see [`super::eal`]), not before: packets do not
//! count their pool.

use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dpdk_sys as sys;

use super::eal::{Eal, last_error};
use super::mbuf::Mbuf;

/// Free buffers a registered thread keeps to itself before it gives some back; smaller in small
/// pools.
pub const CACHE: u32 = 256;
/// Bytes in front of every received frame, for headers to grow into.
#[expect(clippy::cast_possible_truncation, reason = "128, and a 16-bit offset in every buffer")]
pub const HEADROOM: u16 = sys::RTE_PKTMBUF_HEADROOM as u16;
/// Bytes of frame a buffer holds unless asked otherwise: a full Ethernet frame with room to spare.
pub const ROOM: u16 = 2048;
/// DPDK's way to say "any NUMA node".
pub(super) const ANY_NODE: i32 = -1;

/// A pool could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// No buffers, or more room than a buffer can describe.
    #[error(
        "a pool of {buffers} buffers of {room} bytes: at least 1 buffer of 64 to {} bytes is needed",
        u16::MAX - HEADROOM
    )]
    Size {
        /// Buffers asked for.
        buffers: u32,
        /// Bytes of frame each.
        room: u16,
    },
    /// DPDK has no memory for it.
    #[error(
        "no DPDK memory for a pool of {buffers} buffers of {room} bytes (about {megabytes} MB): \
         {reason}; raise `memory_mb` or ask for fewer buffers"
    )]
    Create {
        /// Buffers asked for.
        buffers: u32,
        /// Bytes of frame each.
        room: u16,
        /// What they take.
        megabytes: u64,
        /// What `rte_errno` says.
        reason: String,
    },
}

/// A pool of equal packet buffers. Clones share it.
#[derive(Clone, Debug)]
pub struct Pool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: NonNull<sys::rte_mempool>,
    size: u32,
    room: u16,
    eal: Eal,
}

// SAFETY: mempool operations may be called from any thread (multi-producer, multi-consumer).
unsafe impl Send for Inner {}
// SAFETY: as above; everything else in it is immutable.
unsafe impl Sync for Inner {}

impl Pool {
    /// Reserves `buffers` buffers of `room` bytes of frame each (and [`HEADROOM`] more). Memory use
    /// is best just below a power of two.
    pub fn new(eal: &Eal, buffers: u32, room: u16) -> Result<Self, PoolError> {
        let total = room.checked_add(HEADROOM).filter(|_| buffers > 0 && room >= 64);
        let total = total.ok_or(PoolError::Size { buffers, room })?;
        let cache = CACHE.min(buffers / 4);
        let name = unique_name("pool");
        let lock = eal.control();
        // SAFETY: EAL is running (`eal`); the name is NUL-terminated and copied.
        let pool = unsafe {
            sys::rte_pktmbuf_pool_create(name.as_ptr(), buffers, cache, 0, total, ANY_NODE)
        };
        let reason = last_error();
        drop(lock);
        let megabytes = (u64::from(buffers) * (u64::from(total) + 256)).div_ceil(1 << 20);
        let pool =
            NonNull::new(pool).ok_or(PoolError::Create { buffers, room, megabytes, reason })?;
        Ok(Self { inner: Arc::new(Inner { pool, size: buffers, room, eal: eal.clone() }) })
    }

    /// Takes an empty buffer: no bytes of frame, [`HEADROOM`] in front. `None` when all are out.
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool lives (`self`).
        let buffer = unsafe { sys::rte_pktmbuf_alloc(self.raw()) };
        // SAFETY: a fresh buffer, owned by nobody else.
        NonNull::new(buffer).map(|buffer| unsafe { Mbuf::from_raw(buffer) })
    }

    /// A packet holding a copy of `frame`. `None` when the pool is empty or the frame too long.
    pub fn packet_from(&self, frame: &[u8]) -> Option<Mbuf> {
        use crate::dataplane::io::Packet;
        let mut packet = self.alloc()?;
        packet.set_len(frame.len()).then_some(())?;
        packet.data_mut().copy_from_slice(frame);
        Some(packet)
    }

    /// Buffers it has in all.
    pub fn size(&self) -> u32 {
        self.inner.size
    }

    /// Bytes of frame a fresh buffer holds.
    pub fn room(&self) -> u16 {
        self.inner.room
    }

    /// Buffers that are free now, thread caches included; approximate while others take and give.
    /// Walks all caches: for control threads.
    pub fn available(&self) -> u32 {
        // SAFETY: the pool lives (`self`).
        unsafe { sys::rte_mempool_avail_count(self.raw()) }
    }

    /// The pool, for calls that live no longer than `self`.
    pub(super) fn raw(&self) -> *mut sys::rte_mempool {
        self.inner.pool.as_ptr()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.eal.retire(self.pool, self.size);
    }
}

/// A name no other DPDK object of this process has: DPDK finds things by name, nobody here does.
pub(super) fn unique_name(kind: &str) -> CString {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    CString::new(format!("shunt_{kind}_{number}")).unwrap_or_default()
}
