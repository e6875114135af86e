//! What hosts did that the balancer has to be shown: a simulation in which they stopped doing it would
//! pass, and prove less.

use std::ops::AddAssign;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deeds {
    /// Segments with something new taken by an end that had closed, and knew that it was heard.
    pub(crate) taken_half_closed: u64,
    /// Connections this end broke off with a reset.
    pub(crate) resets: u64,
    /// Segments sent again after the handshake: what nobody answers is repeated without any loss.
    pub(crate) again: u64,
    /// Connections from the port of the one before.
    pub(crate) reused: u64,
}

impl AddAssign for Deeds {
    fn add_assign(&mut self, other: Self) {
        self.taken_half_closed += other.taken_half_closed;
        self.resets += other.resets;
        self.again += other.again;
        self.reused += other.reused;
    }
}
