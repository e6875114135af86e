//! `directors`: the other boxes with the same VIPs, for a pair of which each is the other's backend.
//!
//! Told apart from clients by the address their frames come from, so a director must be on a link of ours:
//! behind a router it would have the router's, and all that the router brings would be taken for its.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::error::Problems;
use super::super::plan::Port;
use super::super::schema::List;
use super::value::address;
use crate::control::prefix::same_network;

/// They are compared with the sender of each packet that begins something.
const DIRECTORS_MAX: usize = 16;

/// Addresses of other boxes, in order, each once.
pub(super) fn directors(
    problems: &mut Problems,
    written: Option<&List<String>>,
    ports: &[Port],
) -> Vec<IpAddr> {
    let Some(written) = written else { return Vec::new() };
    if let Some(excess) = written.get_ref().get(DIRECTORS_MAX) {
        problems.error(excess.span(), format!("more than {DIRECTORS_MAX} directors"));
    }
    let own = || ports.iter().flat_map(|port| &port.addresses);
    let mut directors = BTreeSet::new();
    for value in written.get_ref() {
        let Some(address) = address(problems, "director", value) else { continue };
        if own().any(|(ours, _)| *ours == address) {
            problems.error(
                value.span(),
                format!("director {address} is a port's address: this host itself"),
            );
        } else if !own().any(|(ours, length)| same_network(*ours, address, *length)) {
            let message = format!("director {address} is on no link of this box");
            let help =
                "an address in the network of a port's: it is known by what its frames come from";
            problems.error_help(value.span(), message, help);
        }
        directors.insert(address);
    }
    directors.into_iter().collect()
}
