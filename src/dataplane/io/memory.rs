//! Packets, ports and lanes made of `Vec`: the platform of the tests, the fuzzers and the
//! simulation. Allocates freely: no worker of the daemon uses it. Its control thread makes a packet of it to
//! try what a worker would do ([`crate::dataplane::explain`]).

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::{BURST, Burst, Packet, Platform, Rx, RxInfo, Tx};
use crate::ids::PortId;

/// Room in front of a fresh frame, as DPDK's default.
pub const HEADROOM: usize = 128;
/// Longest frame a buffer holds, headroom not counted.
pub const ROOM: usize = 2048;

thread_local! {
    /// A counter of this thread's that ticks whenever somebody looks.
    static TICKS: Cell<u64> = const { Cell::new(0) };
}

/// Most packets a lane reserves room for when it is made.
const RESERVED_MAX: usize = 4096;

/// A frame in a `Vec`, with headroom.
#[derive(Clone, Debug)]
pub struct VecPacket {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    port: PortId,
    tag: u32,
    /// How many more siblings its pool has; shared with them.
    pool: Option<Arc<AtomicUsize>>,
    /// What [`Packet::rx_info`] will answer.
    pub info: RxInfo,
}

impl VecPacket {
    /// A packet holding `frame`. Frames longer than [`ROOM`] are cut.
    pub fn new(frame: &[u8]) -> Self {
        Self::with_headroom(frame, HEADROOM)
    }

    /// As [`VecPacket::new`], with that much room in front.
    pub fn with_headroom(frame: &[u8], headroom: usize) -> Self {
        let length = frame.len().min(ROOM);
        let mut buffer = vec![0; headroom + ROOM];
        buffer[headroom..headroom + length].copy_from_slice(&frame[..length]);
        let (start, end) = (headroom, headroom + length);
        let info = RxInfo::default();
        Self { buffer, start, end, port: PortId(0), tag: 0, pool: None, info }
    }

    /// It holds another frame, as if it had just come: for what measures and must not allocate. Frames longer than
    /// [`ROOM`] are cut.
    pub fn refill(&mut self, frame: &[u8]) {
        let length = frame.len().min(ROOM);
        (self.start, self.end) = (HEADROOM, HEADROOM + length);
        self.buffer[HEADROOM..HEADROOM + length].copy_from_slice(&frame[..length]);
    }

    /// This packet, as one whose pool has only `siblings` more. They are not given back when
    /// dropped: enough to see a pool run dry.
    #[must_use]
    pub fn with_siblings_left(mut self, siblings: usize) -> Self {
        self.pool = Some(Arc::new(AtomicUsize::new(siblings)));
        self
    }
}

impl Packet for VecPacket {
    fn data(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    fn prefetch(&self) {}

    fn rx_info(&self) -> RxInfo {
        self.info
    }

    fn port(&self) -> PortId {
        self.port
    }

    fn set_port(&mut self, port: PortId) {
        (self.port, self.tag) = (port, 0);
    }

    fn tag(&self) -> u32 {
        self.tag
    }

    fn set_tag(&mut self, tag: u32) {
        self.tag = tag;
    }

    fn sibling(&self) -> Option<Self> {
        if let Some(left) = &self.pool {
            let one_less = |left: usize| left.checked_sub(1);
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).ok()?;
        }
        Some(Self { port: self.port, pool: self.pool.clone(), ..Self::new(&[]) })
    }

    fn prepend(&mut self, len: usize) -> Option<&mut [u8]> {
        self.start = self.start.checked_sub(len)?;
        Some(&mut self.buffer[self.start..self.start + len])
    }

    fn trim_front(&mut self, len: usize) -> bool {
        let fits = len <= self.end - self.start;
        self.start += if fits { len } else { 0 };
        fits
    }

    fn set_len(&mut self, len: usize) -> bool {
        let fits = self.start + len <= self.buffer.len();
        self.end = if fits { self.start + len } else { self.end };
        fits
    }
}

/// A queue of packets with a limit; clones share it, so one end can be kept by the test.
#[derive(Clone, Debug)]
pub struct VecLane {
    queue: Arc<Mutex<VecDeque<VecPacket>>>,
    limit: usize,
}

impl VecLane {
    /// A lane that takes at most `limit` packets.
    pub fn new(limit: usize) -> Self {
        let queue = VecDeque::with_capacity(limit.min(RESERVED_MAX));
        Self { queue: Arc::new(Mutex::new(queue)), limit }
    }

    /// Puts a packet in; gives it back when full.
    pub fn push(&self, packet: VecPacket) -> Result<(), VecPacket> {
        let mut queue = self.lock();
        if queue.len() >= self.limit {
            return Err(packet);
        }
        queue.push_back(packet);
        Ok(())
    }

    /// Takes the oldest packet out.
    pub fn pop(&self) -> Option<VecPacket> {
        self.lock().pop_front()
    }

    /// How many packets wait.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Is nothing waiting?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<VecPacket>> {
        self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Rx for VecLane {
    type Packet = VecPacket;

    fn rx(&mut self, burst: &mut Burst<VecPacket>) -> usize {
        let mut queue = self.lock();
        let count = queue.len().min(BURST - burst.len());
        burst.extend(queue.drain(..count));
        count
    }
}

impl Tx for VecLane {
    type Packet = VecPacket;

    fn tx(&mut self, burst: &mut Burst<VecPacket>) -> usize {
        let mut queue = self.lock();
        let count = burst.len().min(self.limit.saturating_sub(queue.len()));
        queue.extend(burst.drain(..count));
        count
    }
}

/// A port with one lane each way.
#[derive(Clone, Debug)]
pub struct VecPort {
    /// What the port will receive.
    pub inbound: VecLane,
    /// What was sent through it.
    pub outbound: VecLane,
}

impl VecPort {
    /// A port whose queues take `limit` packets.
    pub fn new(limit: usize) -> Self {
        Self { inbound: VecLane::new(limit), outbound: VecLane::new(limit) }
    }
}

impl Rx for VecPort {
    type Packet = VecPacket;

    fn rx(&mut self, burst: &mut Burst<VecPacket>) -> usize {
        self.inbound.rx(burst)
    }
}

impl Tx for VecPort {
    type Packet = VecPacket;

    fn tx(&mut self, burst: &mut Burst<VecPacket>) -> usize {
        self.outbound.tx(burst)
    }
}

/// The platform of the tests.
#[derive(Debug)]
pub struct Memory;

impl Platform for Memory {
    type Packet = VecPacket;
    type Port = VecPort;
    type LaneRx = VecLane;
    type LaneTx = VecLane;
    type Probe = ();

    fn ticks() -> u64 {
        TICKS.with(|ticks| {
            ticks.set(ticks.get() + 1);
            ticks.get()
        })
    }
}
