//! What the kernel is told about a TAP under `/proc/sys/net`.
//!
//! ```text
//! ipv4   arp_notify 1        coming up tells the neighbours
//!        arp_announce 2      requests never carry an address of another subnet
//!        forwarding 0        the kernel routes nothing that arrives here
//!        accept_local 1      with `local_out` only: see [`super::own`]
//! ipv6   disable_ipv6 1      until the TAP gets its first IPv6 address: nothing is said unasked
//!        accept_ra 0         addresses and routes come from the configuration or a routing daemon
//!        router_solicitations 0, autoconf 0        so nobody is asked for them
//!        accept_dad 0, dad_transmits 0             an address works at once, as one of IPv4 does
//!        ndisc_notify 1      as arp_notify
//! ```
//!
//! Best effort: a key this kernel does not have changes nothing that matters. Forwarding of IPv6 is
//! not decided by interface and is left as it is.

use crate::control::parts::TapSpec;

/// Sets what does not depend on addresses, with IPv6 off.
pub(super) fn settle(tap: &str) {
    set_all("ipv4", tap, &[("arp_notify", "1"), ("arp_announce", "2"), ("forwarding", "0")]);
    let quiet = [
        ("accept_ra", "0"),
        ("router_solicitations", "0"),
        ("autoconf", "0"),
        ("accept_dad", "0"),
        ("dad_transmits", "0"),
        ("ndisc_notify", "1"),
        ("disable_ipv6", "1"),
    ];
    set_all("ipv6", tap, &quiet);
}

/// Turns IPv6 on, if it is off. The kernel then gives the TAP its link-local address.
pub(super) fn enable_ipv6(tap: &str) {
    let file = format!("/proc/sys/net/ipv6/conf/{tap}/disable_ipv6");
    if std::fs::read_to_string(file).is_ok_and(|off| off.trim() == "1") {
        set_all("ipv6", tap, &[("disable_ipv6", "0")]);
    }
}

/// Are packets from an address of the box's own taken, too? (IPv6 asks nobody.)
pub(super) fn accept_local(taps: &[TapSpec], on: bool) {
    for tap in taps {
        set_all("ipv4", &tap.tap, &[("accept_local", if on { "1" } else { "0" })]);
    }
}

fn set_all(family: &str, tap: &str, keys: &[(&str, &str)]) {
    for (key, value) in keys {
        let file = format!("/proc/sys/net/{family}/conf/{tap}/{key}");
        if let Err(error) = std::fs::write(&file, value) {
            tracing::debug!(file, %error, "not set");
        }
    }
}

/// With forwarding on, the kernel would route what is punted to it past the balancer.
pub(super) fn warn_if_forwarding() {
    let keys = [
        ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
        ("net.ipv6.conf.all.forwarding", "/proc/sys/net/ipv6/conf/all/forwarding"),
    ];
    for (key, file) in keys {
        if std::fs::read_to_string(file).is_ok_and(|on| on.trim() != "0") {
            tracing::warn!(
                key,
                "the kernel routes by itself between its other interfaces; turn it off unless that is \
                 wanted: `sysctl -w` with this key and 0"
            );
        }
    }
}
