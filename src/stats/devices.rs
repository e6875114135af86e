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

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Packets a device has lost since it was started, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// Those of one cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The metric's label.
    pub reason: &'static str,
    /// What it means, in a sentence.
    pub meaning: &'static str,
    /// How many.
    pub packets: u64,
}

impl Losses {
    /// Each cause.
    pub fn by_reason(self) -> [Loss; 4] {
        let Self { missed, no_buffer, rx_errors, tx_errors } = self;
        let of = |reason, packets, meaning| Loss { reason, meaning, packets };
        [
            of("missed", missed, "A receive queue was full: workers did not empty it in time."),
            of("no_buffer", no_buffer, "There was no packet buffer to receive into."),
            of("rx_errors", rx_errors, "The frame came in broken."),
            of("tx_errors", tx_errors, "The frame could not be sent."),
        ]
    }

    /// All of them.
    pub fn total(self) -> u64 {
        self.by_reason().map(|loss| loss.packets).iter().sum()
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

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../docs/dropped-packets.md");

    #[test]
    fn the_page_on_dropped_packets_says_what_to_do_about_each_reason() {
        let (_, section) = PAGE.split_once("\n## What a card lost\n").unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let reasons = Losses::default().by_reason().map(|loss| loss.reason);
        assert_eq!(rows.collect::<Vec<_>>(), reasons);
    }

    #[test]
    fn the_total_is_of_all_reasons() {
        let losses = Losses { missed: 1, no_buffer: 20, rx_errors: 300, tx_errors: 4000 };
        assert_eq!(losses.total(), 4321);
    }
}
