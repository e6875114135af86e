//! What a port's device loses by itself, before a worker sees it or after it has given it away.
//!
//! ```text
//! wire ─► device ─► receive queue ─► worker ─► send queue ─► device ─► wire
//!         broken    full: missed                             error
//!                   no buffer
//! ```
//!
//! Workers count what they see; these the device counts, and only the device can say. They are read when somebody
//! asks, through a function that who starts the ports hands over: numbers know nothing of DPDK.

use std::fmt;

/// Packets a device has lost since it was started, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// The receive queue was full: workers are too slow.
    pub missed: u64,
    /// There was no buffer to receive into: too few `packet_buffers`.
    pub no_buffer: u64,
    /// They came in broken.
    pub rx_errors: u64,
    /// They could not be sent.
    pub tx_errors: u64,
}

impl Losses {
    /// Each cause as metrics name it, and how many.
    pub fn by_reason(self) -> [(&'static str, u64); 4] {
        let Self { missed, no_buffer, rx_errors, tx_errors } = self;
        [
            ("missed", missed),
            ("no_buffer", no_buffer),
            ("rx_errors", rx_errors),
            ("tx_errors", tx_errors),
        ]
    }
}

type Read = Box<dyn Fn() -> Vec<Losses> + Send + Sync>;

/// Asks all devices, in the order of their ports, which have the first ids.
#[derive(Default)]
pub struct Devices(Option<Read>);

impl Devices {
    /// Those that this function asks.
    pub fn new(read: impl Fn() -> Vec<Losses> + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(read)))
    }

    /// What they have lost; empty if there are none.
    pub fn losses(&self) -> Vec<Losses> {
        self.0.as_ref().map(|read| read()).unwrap_or_default()
    }
}

impl fmt::Debug for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Devices").field(&self.losses()).finish()
    }
}
