//! Counters of one worker: single writer, any reader, no lock and no locked instruction.
//!
//! A [`Counter`] is an atomic only so that another thread may read it: the owner adds with a plain
//! load and a plain store (`Relaxed`), which is one `add` to memory on x86. No second, published
//! copy is needed. All of a worker's counters sit in one [`WorkerStats`], allocated at start, so
//! that no two workers write one line.
//!
//! Limits: [`limits`] fixes the number of ports, services and backends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::answers::AnswerCounters;
use super::latency::Latencies;
use super::loads::Loads;
use super::tallies::Tallies;
use super::volumes::VolumeCounters;
use crate::dataplane::conn::state::Stage;
use crate::dataplane::cookie::Event;
use crate::dataplane::verdict::Reason;
use crate::ids::limits;

/// A number that only its owner changes and anybody reads.
#[derive(Debug, Default, zerocopy::FromZeros, zerocopy::KnownLayout)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning worker may call this; a second writer would lose counts.
    #[inline(always)]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Sets the value. Owner only. Who reads it also sees what the owner wrote before.
    #[inline(always)]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Release);
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// A level: goes up and down, owner writes, anybody reads.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU32);

impl Gauge {
    /// One more. Owner only.
    #[inline(always)]
    pub fn up(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// One less. Owner only; below zero is a bug, caught in tests.
    #[inline(always)]
    pub fn down(&self) {
        let now = self.0.load(Ordering::Relaxed);
        debug_assert!(now > 0, "a gauge never goes below zero");
        self.0.store(now.wrapping_sub(1), Ordering::Relaxed);
    }

    /// The level now.
    #[inline]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Packets and bytes (whole frames without FCS) of one port, as one worker moved them.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Frames received.
    pub rx_packets: Counter,
    /// Bytes received.
    pub rx_bytes: Counter,
    /// Frames the port took for sending.
    pub tx_packets: Counter,
    /// Bytes the port took for sending.
    pub tx_bytes: Counter,
}

/// Connections of one backend, as one worker made them.
#[derive(Debug, Default)]
pub struct BackendCounters {
    /// Connections made since start (or since the id was first used by this backend).
    pub new_connections: Counter,
    /// Connections in the table now.
    pub connections: Gauge,
}

/// Connections and refusals of one service, as one worker made them.
#[derive(Debug, Default)]
pub struct ServiceCounters {
    /// Connections made.
    pub new_connections: Counter,
    /// Connections in the table now.
    pub connections: Gauge,
    /// New connections refused, by place in [`Reason::OF_SERVICES`].
    pub refused: [Counter; Reason::OF_SERVICES.len()],
    /// 1 while its connections count in [`Tallies`]. The owner's alone.
    pub is_tallied: Counter,
    /// What happened with SYN cookies, by [`Event`].
    pub cookies: [Counter; Event::COUNT],
}

impl ServiceCounters {
    /// Counts one new connection refused, if the reason is one of services'.
    #[inline]
    pub fn count_refused(&self, reason: Reason) {
        let place = Reason::OF_SERVICES.iter().position(|one| *one == reason);
        if let Some(counter) = place.and_then(|place| self.refused.get(place)) {
            counter.add(1);
        }
    }

    /// New connections refused for any reason.
    pub fn all_refused(&self) -> u64 {
        self.refused.iter().map(Counter::get).sum()
    }
}

/// How a worker spent its time and what its parts did.
#[derive(Debug, Default)]
pub struct LoopCounters {
    /// TSC cycles in polls that moved at least one packet.
    pub busy_cycles: Counter,
    /// TSC cycles in empty polls, pauses and sleeps.
    pub idle_cycles: Counter,
    /// Polls that moved at least one packet.
    pub busy_polls: Counter,
    /// Packets handed to another worker.
    pub handed_over: Counter,
    /// Packets taken from other workers.
    pub taken_over: Counter,
    /// Packets punted to the kernel.
    pub punted: Counter,
    /// Packets of the kernel's sent out.
    pub injected: Counter,
    /// Packets answered in place (RST, ICMP).
    pub replied: Counter,
    /// Packets that would have been answered, had answers not had a limit.
    pub unanswered: Counter,
    /// Connections forgotten after their timeout.
    pub expired: Counter,
    /// Connections that were ended by order.
    pub cleared: Counter,
    /// Connections that made way in a full table, by [`Stage`].
    pub reclaimed: [Counter; Stage::COUNT],
    /// Ends that were told that their connection has ended here.
    pub ends_told: Counter,
    /// Connections that ended here without a word, for want of allowance or packet buffers.
    pub ends_untold: Counter,
    /// Persistence templates that made way for others.
    pub templates_evicted: Counter,
    /// Connections made without a persistence template: another worker had its place.
    pub templates_missed: Counter,
    /// Sources whose tokens were forgotten for others.
    pub sources_evicted: Counter,
    /// Connections made without counting for their source: no room, or another worker had the place.
    pub sources_uncounted: Counter,
    /// Destinations that schedulers `lblc` and `lblcr` forgot for want of room.
    pub forgotten_destinations: Counter,
    /// Frames copied for a capture.
    pub captured: Counter,
    /// Frames that a capture missed for want of room.
    pub capture_missed: Counter,
    /// Snapshots taken into use.
    pub snapshots: Counter,
    /// Generation of the snapshot in use.
    pub generation: Counter,
}

/// All numbers of one worker.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerStats {
    /// By port.
    pub ports: [PortCounters; limits::PORTS],
    /// By [`Reason`].
    pub drops: [Counter; Reason::COUNT],
    /// The loop and its parts.
    pub run: LoopCounters,
    /// Connections in this worker's table.
    pub connections: Gauge,
    /// Ticks from receiving a packet to sending it, of those sampled.
    pub latencies: Latencies,
    /// By service id.
    pub services: Box<[ServiceCounters]>,
    /// By backend id.
    pub backends: Box<[BackendCounters]>,
    /// Packets and bytes, by backend id: apart, as every packet adds to them.
    pub volumes: Arc<VolumeCounters>,
    /// How backends answer new connections, by backend id.
    pub answers: AnswerCounters,
    /// Connections of each backend over all workers: shared with them.
    pub loads: Arc<Loads>,
    /// What is limited over all workers: shared with them.
    pub tallies: Arc<Tallies>,
}

impl Default for WorkerStats {
    /// Those of a worker that is alone.
    fn default() -> Self {
        Self::sharing(Arc::default())
    }
}

impl WorkerStats {
    /// Those of one worker among several, which share `loads`.
    pub fn sharing(loads: Arc<Loads>) -> Self {
        Self {
            ports: std::array::from_fn(|_| PortCounters::default()),
            drops: std::array::from_fn(|_| Counter::default()),
            run: LoopCounters::default(),
            connections: Gauge::default(),
            latencies: Latencies::default(),
            services: std::iter::repeat_with(Default::default).take(limits::SERVICES).collect(),
            backends: std::iter::repeat_with(Default::default).take(limits::BACKENDS).collect(),
            volumes: Arc::default(),
            answers: AnswerCounters::default(),
            loads,
            tallies: Arc::default(),
        }
    }

    /// The same, with limits that hold for all who share `tallies`.
    #[must_use]
    pub fn with_tallies(self, tallies: Arc<Tallies>) -> Self {
        Self { tallies, ..self }
    }

    /// Counts one refused packet.
    #[inline(always)]
    pub fn count_drop(&self, reason: Reason) {
        self.drops[reason as usize].add(1);
    }
}
