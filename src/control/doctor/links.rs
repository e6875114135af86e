//! Links: of interfaces the kernel still sees, and of cards to the machine.

use super::devices::DEVICES;
use super::needs::CardNeed;
use super::{Findings, Tree};

const AREA: &str = "link";

pub(super) fn examine(tree: &Tree, card: &CardNeed, findings: &mut Findings) {
    if let Some(interface) = card.interface() {
        carrier(tree, card, interface, findings);
        mtu(tree, card, interface, findings);
    } else if let Some(address) = card.pci() {
        for interface in tree.names(&format!("{DEVICES}/{address}/net")) {
            carrier(tree, card, &interface, findings);
        }
        bus(tree, card, &address, findings);
    }
}

/// An interface that is down has a carrier file that cannot be read.
fn carrier(tree: &Tree, card: &CardNeed, interface: &str, findings: &mut Findings) {
    let folder = format!("sys/class/net/{interface}");
    let Some(state) = tree.read(&format!("{folder}/operstate")) else { return };
    let label = card.label();
    match tree.number(&format!("{folder}/carrier")) {
        Some(1) => findings.pass(AREA, format!("{label}: {interface} has a link")),
        Some(_) => {
            let mend = format!("ethtool {interface}, and the cable");
            findings.warn(AREA, format!("{label}: {interface} has no link"), mend);
        }
        None if state == "down" => {
            let mend = format!("ip link set {interface} up");
            findings.warn(AREA, format!("{label}: {interface} is down"), mend);
        }
        None => {}
    }
}

fn mtu(tree: &Tree, card: &CardNeed, interface: &str, findings: &mut Findings) {
    let Some(mtu) = tree.number(&format!("sys/class/net/{interface}/mtu")) else { return };
    if mtu < card.mtu {
        let said = format!(
            "{}: the MTU of {interface} is {mtu}, that of the port {}: longer packets are lost",
            card.label(),
            card.mtu
        );
        findings.warn(AREA, said, format!("ip link set {interface} mtu {}", card.mtu));
    }
}

/// A card in a slot with fewer or slower lanes than it has.
fn bus(tree: &Tree, card: &CardNeed, address: &str, findings: &mut Findings) {
    let read = |what: &str| tree.read(&format!("{DEVICES}/{address}/{what}"));
    let pair = |what: &str| {
        let (is, most) =
            (read(&format!("current_link_{what}"))?, read(&format!("max_link_{what}"))?);
        // A virtual function, or a guest's device, says 0 or that it does not know.
        let known = leading(&is)? > 0.0 && leading(&most)? > 0.0;
        known.then_some((leading(&is)? < leading(&most)?, is, most))
    };
    for (what, unit) in [("width", " lanes"), ("speed", "")] {
        if let Some((true, is, most)) = pair(what) {
            let said =
                format!("{}: it is on the bus with {is}{unit} of {most}{unit}", card.label());
            findings.warn(AREA, said, format!("lspci -vv -s {address}, and another slot"));
        }
    }
}

/// The number a text begins with.
fn leading(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}
