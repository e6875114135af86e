//! Receiving and sending on one queue of a port: the hottest code there is.
//!
//! DPDK exports, per port, the driver's two burst functions and its queues (`rte_eth_fp_ops`).
//! Reading them here compiles to two loads and one indirect call, the same as DPDK's own inline
//! function in C. Received pointers land in the burst's spare capacity: nothing is copied.
//!
//! A callback may be installed on a queue from C (packet capture, latency statistics). Its table
//! is looked at each burst, and if there is one, DPDK's own function does the work.
//!
//! Ownership: a queue pair is a value. [`super::port`] hands out each once, it cannot be cloned,
//! and both directions ask for `&mut self`: drivers allow one thread per queue, no more.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use dpdk_sys as sys;

use super::mbuf::Mbuf;
use super::port::Device;
use crate::dataplane::io::{BURST, Burst, Rx, Tx};

/// Receive and transmit queue `number` of a started port, owned.
#[derive(Debug)]
pub struct Queue {
    device: Arc<Device>,
    operations: NonNull<sys::rte_eth_fp_ops>,
    number: u16,
}

// SAFETY: a queue may be used by any one thread at a time, and `&mut self` sees to that.
unsafe impl Send for Queue {}

impl Queue {
    /// The queue pair `number` of a device.
    ///
    /// # Safety
    /// The device is started and has that many queue pairs; nobody else gets this one.
    pub(super) unsafe fn new(device: Arc<Device>, number: u16) -> Self {
        let table = (&raw mut sys::rte_eth_fp_ops).cast::<sys::rte_eth_fp_ops>();
        // SAFETY: the id of a valid port is below RTE_MAX_ETHPORTS, the table's length.
        let entry = unsafe { table.add(usize::from(device.id())) };
        // SAFETY: an element of a static array is not at address zero.
        let operations = unsafe { NonNull::new_unchecked(entry) };
        Self { device, operations, number }
    }

    /// Its position among the queues of its port, from 0.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Its device's number and its own.
    pub(super) fn place(&self) -> (u16, u16) {
        (self.device.id(), self.number)
    }

    #[inline(always)]
    fn operations(&self) -> &sys::rte_eth_fp_ops {
        // SAFETY: DPDK writes the entry when the port starts, stops and closes; `device` has
        // started it and stops it only when the last queue is gone.
        unsafe { self.operations.as_ref() }
    }

    /// Is a callback installed on this queue of the direction `table` belongs to?
    #[inline(always)]
    fn has_callback(&self, table: &sys::rte_ethdev_qdata) -> bool {
        let entry = table.clbk.cast::<AtomicPtr<std::ffi::c_void>>();
        // SAFETY: one entry per possible queue; C writes it atomically from other threads.
        let entry = unsafe { entry.add(usize::from(self.number)) };
        // SAFETY: as above.
        let entry = unsafe { &*entry };
        !entry.load(Ordering::Relaxed).is_null()
    }

    /// The driver's own queue.
    #[inline(always)]
    fn driver_queue(&self, table: &sys::rte_ethdev_qdata) -> *mut std::ffi::c_void {
        // SAFETY: one entry per possible queue, set when the port was started.
        let entry = unsafe { table.data.add(usize::from(self.number)) };
        // SAFETY: as above.
        unsafe { *entry }
    }

    /// Receives up to `spare` packets to `place`.
    ///
    /// # Safety
    /// `place` has room for `spare` pointers.
    #[inline(always)]
    unsafe fn receive(&mut self, place: *mut *mut sys::rte_mbuf, spare: u16) -> u16 {
        let operations = self.operations();
        match operations.rx_pkt_burst {
            Some(rx) if !self.has_callback(&operations.rxq) => {
                // SAFETY: the driver's function with its own queue; `place` as promised.
                unsafe { rx(self.driver_queue(&operations.rxq), place, spare) }
            }
            // SAFETY: a started port and one of its queues; `place` as promised.
            _ => unsafe { sys::rte_eth_rx_burst(self.device.id(), self.number, place, spare) },
        }
    }

    /// Sends the first `count` packets at `packets`; returns how many the driver took.
    ///
    /// # Safety
    /// `count` owned packets are there, and the caller forgets those taken.
    #[inline(always)]
    unsafe fn send(&mut self, packets: *mut *mut sys::rte_mbuf, count: u16) -> u16 {
        let operations = self.operations();
        match operations.tx_pkt_burst {
            Some(tx) if !self.has_callback(&operations.txq) => {
                // SAFETY: the driver's function with its own queue; `packets` as promised.
                unsafe { tx(self.driver_queue(&operations.txq), packets, count) }
            }
            // SAFETY: a started port and one of its queues; `packets` as promised.
            _ => unsafe { sys::rte_eth_tx_burst(self.device.id(), self.number, packets, count) },
        }
    }
}

impl Rx for Queue {
    type Packet = Mbuf;

    #[inline]
    fn rx(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let held = burst.len();
        let spare = count16(burst.remaining_capacity());
        // SAFETY: `held` is at most the capacity.
        let place = unsafe { burst.as_mut_ptr().add(held) }.cast();
        // SAFETY: `spare` free places follow, and an `Mbuf` is a pointer (`repr(transparent)`).
        let count = usize::from(unsafe { self.receive(place, spare) });
        // SAFETY: the driver wrote `count` pointers to packets that are ours now.
        unsafe { burst.set_len(held + count) };
        count
    }
}

impl Tx for Queue {
    type Packet = Mbuf;

    /// Chained packets are not sent: the burst is taken up to the first of them, and it stays.
    /// Ports are not set up for chains, and what a driver would make of one is its own affair.
    #[inline]
    fn tx(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let count = count16(burst.iter().take_while(|packet| packet.is_single()).count());
        let packets = burst.as_mut_ptr().cast();
        // SAFETY: the burst holds at least `count` packets, and those taken are forgotten next.
        let sent = usize::from(unsafe { self.send(packets, count) });
        forget_front(burst, sent);
        sent
    }
}

/// A number of packets of one burst, as drivers count them.
#[inline(always)]
pub(super) fn count16(packets: usize) -> u16 {
    const { assert!(BURST <= 4096, "a burst is counted in 16 bits") };
    u16::try_from(packets).unwrap_or(0)
}

/// Takes the first `count` packets out of the burst without freeing them: they are someone else's
/// now. The rest moves to the front, in order.
#[inline(always)]
pub(super) fn forget_front(burst: &mut Burst<Mbuf>, count: usize) {
    let rest = burst.len().saturating_sub(count);
    if rest > 0 && count > 0 {
        let start = burst.as_mut_ptr();
        // SAFETY: `count + rest` is the burst's length.
        let kept = unsafe { start.add(count) };
        // SAFETY: both ranges of `rest` packets lie inside the burst; copying moves them.
        unsafe { std::ptr::copy(kept, start, rest) };
    }
    // SAFETY: the first `rest` places hold packets; what was behind them has been moved or given
    // away.
    unsafe { burst.set_len(rest) };
}
