//! Where a worker's cycles go: marks between the stages of its loop.
//!
//! ```text
//! poll ─► other ─► [ ports ─► parse ─► lookup ─► rewrite ] for each source ─► ports
//! ```
//!
//! A platform names its probe. The balancer's is `()`: marks are empty and vanish. The benchmark's
//! reads the time stamp counter at each mark and charges what passed since the last one to the
//! stage that has just ended. Stages are those of a burst, not of a packet: a mark for each packet
//! would cost as much as what it measures.

/// A part of the worker's loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Receiving, counting, sending.
    Ports,
    /// From bytes to a key and its hash, and asking for its bucket.
    Parse,
    /// Comparing tags, and asking for the record.
    Lookup,
    /// Comparing the key, deciding, rewriting, staging.
    Rewrite,
    /// Orders, the clock, forgetting what is over.
    Other,
}

impl Stage {
    /// How many there are.
    pub const COUNT: usize = 5;
}

/// Told whenever a stage has ended.
pub trait Probe: Default {
    /// What was done since the last mark was `stage`.
    fn mark(&mut self, stage: Stage);
}

impl Probe for () {
    #[inline(always)]
    fn mark(&mut self, _: Stage) {}
}
