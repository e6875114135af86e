//! The platform of the daemon: packets, queues and lanes of DPDK.
//!
//! Nothing happens here. The types implement the traits where they are made, in [`crate::dpdk`];
//! this names them together.

use super::Platform;
use crate::dpdk::burst::Queue;
use crate::dpdk::clock;
use crate::dpdk::mbuf::Mbuf;
use crate::dpdk::ring::{Receiver, Sender};

/// DPDK's packets, ports and lanes.
#[derive(Debug)]
pub struct Dpdk;

impl Platform for Dpdk {
    type Packet = Mbuf;
    type Port = Queue;
    type LaneRx = Receiver;
    type LaneTx = Sender;
    type Probe = ();

    #[inline(always)]
    fn ticks() -> u64 {
        clock::now()
    }
}
