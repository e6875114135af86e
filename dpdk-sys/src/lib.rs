//! Bindings to the distribution's DPDK, generated at build time from its headers.
//!
//! Nothing here is safe and nothing is by hand but the shims in `wrapper.h`. What each group asks
//! of its caller, which `shunt::dpdk` answers for:
//!
//! | group | asks |
//! |---|---|
//! | `rte_eal_init`, `rte_eal_cleanup` | once per process; after cleanup no DPDK pointer is valid |
//! | `rte_thread_register`, `_unregister` | same thread for both |
//! | `rte_dev_*`, `rte_eth_dev_*`, stats, link | one caller at a time; valid port id |
//! | `rte_eth_rx_burst`, `rte_eth_tx_burst` | started port, one caller per queue and direction |
//! | `rte_pktmbuf_*` | an mbuf the caller owns, its pool alive |
//! | `rte_ring_sp_*`, `rte_ring_sc_*` | one producer, one consumer |
//!
//! Variables of the calling thread (`rte_errno`) are reached through shims only: bindgen can link
//! to a C thread-local but not read one.

#![no_std]
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    clippy::all,
    clippy::pedantic,
    reason = "generated from C headers"
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
