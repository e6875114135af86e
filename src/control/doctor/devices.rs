//! Is each port's device there, and whose is it?
//!
//! | driver | |
//! |---|---|
//! | `vfio-pci` | DPDK's, behind an IOMMU |
//! | `uio_pci_generic`, `igb_uio` | DPDK's, without one |
//! | `mlx4_core`, `mlx5_core`, `mana` | the kernel's and DPDK's at once ("bifurcated") |
//! | any other | the kernel's: DPDK cannot have it |
//! | none | nobody's: DPDK cannot have it either |

use super::needs::CardNeed;
use super::{Findings, Tree};

const AREA: &str = "device";
pub(super) const DEVICES: &str = "sys/bus/pci/devices";

const DPDKS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];
const BIFURCATED: [&str; 3] = ["mlx4_core", "mlx5_core", "mana"];

pub(super) fn examine(tree: &Tree, card: &CardNeed, findings: &mut Findings) {
    if let Some(interface) = card.interface() {
        shared(tree, card, interface, findings);
    } else if let Some(address) = card.pci().filter(|_| tree.has(DEVICES)) {
        pci(tree, card, &address, findings);
    }
}

/// An interface of the kernel's. `/sys` may be that of another network namespace; this list is not.
fn shared(tree: &Tree, card: &CardNeed, interface: &str, findings: &mut Findings) {
    let Some(list) = tree.read("proc/net/dev") else { return };
    let mut names = list.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
    if names.any(|name| name == interface) {
        let said = format!("{}: the interface is there", card.label());
        return findings.pass(AREA, said);
    }
    let said = format!("{}: there is no interface {interface} here", card.label());
    findings.fail(AREA, said, "ip -brief link show, and name one of these");
}

fn pci(tree: &Tree, card: &CardNeed, address: &str, findings: &mut Findings) {
    let label = card.label();
    let folder = format!("{DEVICES}/{address}");
    if !tree.has(&folder) {
        let said = format!("{label}: there is no PCI device {address} here");
        return findings.fail(
            AREA,
            said,
            "dpdk-devbind.py --status-dev net, and name one of these",
        );
    }
    let bind = format!("modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci {address}");
    let Some(driver) = tree.link(&format!("{folder}/driver")) else {
        return findings.fail(AREA, format!("{label}: no driver has it"), bind);
    };
    if BIFURCATED.contains(&&*driver) {
        let said = format!("{label}: {driver} shares it with DPDK");
        return findings.pass(AREA, said);
    }
    if DPDKS.contains(&&*driver) {
        return findings.pass(AREA, format!("{label}: {driver} has it"));
    }
    let interfaces = tree.names(&format!("{folder}/net"));
    if interfaces.is_empty() {
        return findings.fail(AREA, format!("{label}: the kernel's {driver} has it"), bind);
    }
    let names = interfaces.join(", ");
    let route = if interfaces.iter().any(|name| has_default_route(tree, name)) {
        ". The default route goes through it: do not take the card you are logged in through"
    } else {
        ""
    };
    let said = format!("{label}: the kernel's {driver} has it, as {names}{route}");
    let down = interfaces.iter().map(|name| format!("ip link set {name} down"));
    let mend = down.chain([bind]).collect::<Vec<_>>().join(" && ");
    findings.fail(AREA, said, mend);
}

/// Does the kernel send what it knows no other way for through it?
fn has_default_route(tree: &Tree, interface: &str) -> bool {
    let routes = tree.read("proc/net/route").unwrap_or_default();
    routes.lines().any(|line| {
        let mut fields = line.split_whitespace();
        fields.next() == Some(interface) && fields.next() == Some("00000000")
    })
}
