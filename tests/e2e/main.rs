//! End to end: real programs in network namespaces, `shuntd` on DPDK between them.
//!
//! Needs root, and fails saying so without. Every test makes its own network and its own daemon;
//! they run one at a time (`.config/nextest.toml`, and a lock for `cargo test`), because each wants
//! both cores.
//!
//! - [`admin`]: the admin API, its bad clients, its page in a browser, and who asks from elsewhere.
//! - [`by_hand`]: set up, changed and emptied with `ipvsadm`, and the file after it.
//! - [`balance`]: who gets which connection. [`load`]: many short connections, none lost.
//! - [`transfer`]: many bytes and datagrams, all whole. [`first_packet`]: nothing is lost to ARP.
//! - [`modes`]: NAT, DR and tunnels beside FULL-NAT.
//! - [`families`]: every mode in both families, of [`ways`].
//! - [`icmp`]: errors and pings. [`path_mtu`]: packets too long. [`pieces`]: packets in pieces.
//! - [`client_address`]: PROXY headers and TOA. [`lossy`]: PROXY headers where packets are lost.
//! - [`ends`]: connections that end here, as both kernels see it.
//! - [`clients`]: lists, limits and persistence.
//! - [`cookies`]: SYN cookies. [`sctp`]: whole associations.
//! - [`local_out`]: the box's own programs as clients. [`outbound`]: NAT backends' own way out.
//! - [`directors`]: a pair of which each is the other's backend.
//! - [`drain`]: a backend taken out of service by hand, and given back.
//! - [`vlan`]: clients behind 802.1Q and two tags.
//! - [`reload`]: changing what runs. [`lifecycle`]: start, stop, kill.
//! - [`included`]: a configuration in several files, while it runs.
//! - [`capture`]: frames copied while they pass. [`secondary`]: DPDK's own tools do it.
//! - [`health`]: backends that die and come back. [`dying`]: what fails meanwhile. [`unanswered`]: backends that
//!   fall silent, and nobody asks. [`at_the_vip`]: checks that ask as clients do.
//! - [`scale`]: ten thousand backends, and services.
//! - [`slow_path`]: what belongs to the box itself, and what belongs to nobody.
//! - [`generate`]: the bench's generator in place of clients and backends.
//! - [`typed`]: what the documents tell people to type.
//! - [`observe`]: what the tool and the exporter say. [`refuse`]: bad input.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failing test panics")]

mod admin;
mod at_the_vip;
mod balance;
mod by_hand;
mod capture;
mod client_address;
mod clients;
mod cookies;
mod directors;
mod drain;
mod dying;
mod ends;
mod families;
mod first_packet;
mod generate;
mod harness;
mod health;
mod icmp;
mod included;
mod lifecycle;
mod load;
mod local_out;
mod lossy;
mod modes;
mod observe;
mod outbound;
mod path_mtu;
mod pieces;
mod refuse;
mod reload;
mod scale;
mod sctp;
mod secondary;
#[path = "../shared/typed.rs"]
mod shared_typed;
mod slow_path;
mod transfer;
mod typed;
mod unanswered;
mod vlan;
mod ways;
