//! An owned packet: one pointer to a DPDK buffer, freed on drop.
//!
//! ```text
//!  buf_addr          data_off              data_off + data_len          buf_len
//!     │  headroom       │  data: the frame         │  tailroom              │
//!     ▼                 ▼                          ▼                        ▼
//!     ├─────────────────┼──────────────────────────┼────────────────────────┤
//!       ◄── prepend ──    ── trim_front ──►          ◄── set_len ──►
//! ```
//!
//! The arithmetic on those fields is plain Rust and inlines into the data path; tests hold it
//! against DPDK's own functions, operation by operation. Invariant of every `Mbuf`: it is the only
//! owner, and `data_off + data_len ≤ buf_len`.
//!
//! A frame longer than a buffer arrives as a chain of them. `data` is then the first link only and
//! [`Packet::rx_info`] says `segmented`; lengths stay consistent (`pkt_len` moves with `data_len`),
//! so even a packet the data path should have dropped can be sent or freed without harm.
//!
//! The tag lies in `hash`, the field drivers write the RSS hash to and allocation leaves as it was.
//! The high byte of `port` says that one is there: `port` is 16 bits wide, ours are 8, so `set_port`
//! on arrival forgets what an earlier packet left in the buffer, at no cost.

use std::ptr::NonNull;

use dpdk_sys as sys;

use super::memory::prefetch_address;
use crate::dataplane::io::{ChecksumVerdict, Packet, RxInfo};
use crate::ids::PortId;

/// The high byte of `port` when `hash` holds a tag. Drivers write numbers below 256 to the field,
/// allocation writes 0xffff.
const TAGGED: u8 = 1;

/// An owned packet buffer of a [`super::pool::Pool`].
#[repr(transparent)]
pub struct Mbuf(NonNull<sys::rte_mbuf>);

// SAFETY: the only owner of its buffer; giving it back to the pool is allowed on any thread.
unsafe impl Send for Mbuf {}
// SAFETY: `&Mbuf` only reads fields and bytes that nothing else writes.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// Takes ownership of a buffer.
    ///
    /// # Safety
    /// The caller owns the buffer (and the chain it heads) and gives that up; its pool is a
    /// [`super::pool::Pool`]'s; its fields are as DPDK or a driver set them.
    pub(super) unsafe fn from_raw(buffer: NonNull<sys::rte_mbuf>) -> Self {
        Self(buffer)
    }

    #[inline(always)]
    fn fields(&self) -> &sys::rte_mbuf {
        // SAFETY: owned and alive; nothing writes to it while `&self` is out.
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    fn fields_mut(&mut self) -> &mut sys::rte_mbuf {
        // SAFETY: owned and alive; `&mut self` is exclusive.
        unsafe { self.0.as_mut() }
    }

    /// Where the frame begins.
    #[inline(always)]
    fn start(&self) -> *mut u8 {
        let fields = self.fields();
        // SAFETY: `data_off ≤ buf_len`, the length of the buffer at `buf_addr`.
        unsafe { fields.buf_addr.cast::<u8>().add(usize::from(fields.data_off)) }
    }

    /// Bytes in front of the frame.
    #[inline(always)]
    pub fn headroom(&self) -> usize {
        usize::from(self.fields().data_off)
    }

    /// Bytes behind the frame (behind its first segment).
    #[inline(always)]
    pub fn tailroom(&self) -> usize {
        let fields = self.fields();
        usize::from(fields.buf_len) - usize::from(fields.data_off) - usize::from(fields.data_len)
    }

    /// Is it one buffer rather than a chain?
    #[inline(always)]
    pub(super) fn is_single(&self) -> bool {
        self.fields().nb_segs == 1
    }

    /// The hash the port computed over the flow, if it did.
    #[inline(always)]
    pub fn rss_hash(&self) -> Option<u32> {
        if self.fields().ol_flags & sys::RTE_MBUF_F_RX_RSS_HASH == 0 {
            return None;
        }
        // SAFETY: all members of the union are plain integers; DPDK says `rss` is the one set.
        let hash = unsafe { self.fields().__bindgen_anon_2.hash };
        // SAFETY: as above.
        Some(unsafe { hash.rss })
    }

    /// The buffer, still owned by `self`: for the tests' calls into C.
    #[cfg(test)]
    pub(super) fn raw(&self) -> *mut sys::rte_mbuf {
        self.0.as_ptr()
    }

    /// Sets both lengths. The caller has checked that the frame still ends inside the buffer.
    #[inline(always)]
    fn set_lengths(&mut self, data_len: u16) {
        let fields = self.fields_mut();
        let others = fields.pkt_len.wrapping_sub(u32::from(fields.data_len));
        fields.pkt_len = others.wrapping_add(u32::from(data_len));
        fields.data_len = data_len;
    }
}

impl Packet for Mbuf {
    #[inline(always)]
    fn data(&self) -> &[u8] {
        let length = usize::from(self.fields().data_len);
        // SAFETY: the invariant: the range lies inside the buffer, which `self` owns.
        unsafe { std::slice::from_raw_parts(self.start(), length) }
    }

    #[inline(always)]
    fn data_mut(&mut self) -> &mut [u8] {
        let length = usize::from(self.fields().data_len);
        // SAFETY: as in `data`, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start(), length) }
    }

    #[inline(always)]
    fn prefetch(&self) {
        prefetch_address(self.start());
    }

    #[inline(always)]
    fn rx_info(&self) -> RxInfo {
        let flags = self.fields().ol_flags;
        let ip = flags & sys::RTE_MBUF_F_RX_IP_CKSUM_MASK;
        let l4 = flags & sys::RTE_MBUF_F_RX_L4_CKSUM_MASK;
        // The fourth value, "none: not computed, but the data is known good", counts as unknown:
        // the field in the frame is not right, and the frame will leave on a real wire.
        RxInfo {
            ip_checksum: match ip {
                sys::RTE_MBUF_F_RX_IP_CKSUM_GOOD => ChecksumVerdict::Good,
                sys::RTE_MBUF_F_RX_IP_CKSUM_BAD => ChecksumVerdict::Bad,
                _ => ChecksumVerdict::Unknown,
            },
            l4_checksum: match l4 {
                sys::RTE_MBUF_F_RX_L4_CKSUM_GOOD => ChecksumVerdict::Good,
                sys::RTE_MBUF_F_RX_L4_CKSUM_BAD => ChecksumVerdict::Bad,
                _ => ChecksumVerdict::Unknown,
            },
            segmented: !self.is_single(),
        }
    }

    #[inline(always)]
    fn port(&self) -> PortId {
        // Only `set_port` gives the field a meaning of ours, and it writes a byte.
        PortId(self.fields().port.to_le_bytes()[0])
    }

    #[inline(always)]
    fn set_port(&mut self, port: PortId) {
        self.fields_mut().port = u16::from(port.0);
    }

    #[inline(always)]
    fn tag(&self) -> u32 {
        let fields = self.fields();
        if fields.port.to_le_bytes()[1] != TAGGED {
            return 0;
        }
        // SAFETY: all members of the union are plain integers.
        let hash = unsafe { fields.__bindgen_anon_2.hash };
        // SAFETY: as above.
        unsafe { hash.usr }
    }

    #[inline(always)]
    fn set_tag(&mut self, tag: u32) {
        let fields = self.fields_mut();
        fields.port = u16::from_le_bytes([fields.port.to_le_bytes()[0], TAGGED]);
        // One field, two uses: what is there now is no hash of a port's any more.
        fields.ol_flags &= !sys::RTE_MBUF_F_RX_RSS_HASH;
        fields.__bindgen_anon_2.hash.usr = tag;
    }

    #[inline]
    fn sibling(&self) -> Option<Self> {
        // SAFETY: the buffer's own pool, which lives while a buffer of it is out (`eal`).
        let buffer = unsafe { sys::rte_pktmbuf_alloc(self.fields().pool) };
        // SAFETY: a fresh buffer, owned by nobody else.
        let mut sibling = NonNull::new(buffer).map(|buffer| unsafe { Self::from_raw(buffer) })?;
        sibling.set_port(self.port());
        Some(sibling)
    }

    #[inline(always)]
    fn prepend(&mut self, len: usize) -> Option<&mut [u8]> {
        let grow = u16::try_from(len).ok()?;
        let start = self.fields().data_off.checked_sub(grow)?;
        let length = self.fields().data_len.checked_add(grow)?;
        self.fields_mut().data_off = start;
        self.set_lengths(length);
        self.data_mut().get_mut(..len)
    }

    #[inline(always)]
    fn trim_front(&mut self, len: usize) -> bool {
        let Ok(cut) = u16::try_from(len) else { return false };
        let Some(length) = self.fields().data_len.checked_sub(cut) else { return false };
        self.fields_mut().data_off += cut;
        self.set_lengths(length);
        true
    }

    #[inline(always)]
    fn set_len(&mut self, len: usize) -> bool {
        let fields = self.fields();
        let room = fields.buf_len - fields.data_off;
        let fits = u16::try_from(len).ok().filter(|&length| length <= room);
        if let Some(length) = fits {
            self.set_lengths(length);
        }
        fits.is_some()
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: owned, and never used again; its pool lives while a buffer is out (`eal`).
        unsafe { sys::rte_pktmbuf_free(self.0.as_ptr()) };
    }
}

impl std::fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Mbuf");
        out.field("port", &self.port()).field("length", &self.data().len()).finish_non_exhaustive()
    }
}
