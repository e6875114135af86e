//! The IOMMU: it keeps a card, which writes where it is told, to DPDK's memory.
//!
//! `vfio-pci` gives a device away only with its whole *group*, the devices the IOMMU cannot tell apart.

use super::devices::DEVICES;
use super::needs::CardNeed;
use super::{Findings, Tree};

const AREA: &str = "IOMMU";
/// Drivers that may have another device of the group: they do no DMA for the kernel.
const HARMLESS: [&str; 3] = ["vfio-pci", "pci-stub", "pcieport"];

pub(super) fn examine(tree: &Tree, card: &CardNeed, findings: &mut Findings) {
    let Some(address) = card.pci() else { return };
    let driver = tree.link(&format!("{DEVICES}/{address}/driver"));
    match driver.as_deref() {
        Some("vfio-pci") => vfio(tree, card, &address, findings),
        Some(driver @ ("uio_pci_generic" | "igb_uio")) => {
            let said =
                format!("{}: with {driver} no IOMMU keeps the card to DPDK's memory", card.label());
            let mend = format!("modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci {address}");
            findings.warn(AREA, said, mend);
        }
        _ => {}
    }
}

fn vfio(tree: &Tree, card: &CardNeed, address: &str, findings: &mut Findings) {
    let label = card.label();
    let Some(group) = tree.link(&format!("{DEVICES}/{address}/iommu_group")) else {
        let unsafe_mode = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
        let mend = "boot with intel_iommu=on iommu=pt (Intel) or iommu=pt (AMD)";
        if tree.read(unsafe_mode).as_deref() == Some("Y") {
            let said = format!("{label}: no IOMMU keeps the card to DPDK's memory");
            return findings.warn(AREA, said, mend);
        }
        return findings.fail(AREA, format!("{label}: it is behind no IOMMU"), mend);
    };
    let devices = tree.names(&format!("sys/kernel/iommu_groups/{group}/devices"));
    let strange = devices.iter().find_map(|device| {
        let driver = tree.link(&format!("{DEVICES}/{device}/driver"))?;
        (!HARMLESS.contains(&&*driver)).then_some((device, driver))
    });
    match strange {
        None => findings.pass(AREA, format!("{label}: group {group}")),
        Some((device, driver)) => {
            let said = format!(
                "{label}: its group {group} has {device} in it, which the kernel's {driver} has"
            );
            findings.fail(AREA, said, format!("dpdk-devbind.py --bind=vfio-pci {device}"));
        }
    }
}
