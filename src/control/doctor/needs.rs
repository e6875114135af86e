//! What a configuration asks of the machine.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::control::config::plan::{HugePages, Plan};

/// What is needed of a machine. Without a configuration nothing is: then only what every
/// configuration needs is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// CPUs of the workers.
    pub workers: BTreeSet<usize>,
    /// CPU of everything else, if it is said.
    pub control_core: Option<usize>,
    /// Devices of the ports.
    pub cards: Vec<CardNeed>,
    /// Where DPDK's memory comes from.
    pub huge_pages: HugePages,
    /// How much of it.
    pub memory_mb: u64,
    /// Must other processes be able to attach to it?
    pub secondary_processes: bool,
    /// Megabytes of connection tables, beside it.
    pub tables_mb: u64,
    /// Backends of each family that the kernel must keep neighbours for.
    pub backends: [usize; 2],
    /// Does a daemon run that has all this already?
    pub running: bool,
}

/// A port's device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardNeed {
    /// The port's name.
    pub port: String,
    /// As the configuration has it.
    pub device: String,
    /// Of the port.
    pub mtu: u64,
    /// Where the configuration names the device.
    pub line: usize,
}

impl CardNeed {
    /// Its PCI address as `/sys` has it, if it is a PCI device.
    pub(super) fn pci(&self) -> Option<String> {
        let address = self.device.split(',').next()?.to_ascii_lowercase();
        let whole =
            if address.matches(':').count() == 1 { format!("0000:{address}") } else { address };
        let (bus, function) = whole.split_once('.')?;
        let mut parts = bus.split(':').chain([function]);
        let lengths = [4, 2, 2, 1];
        let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let fits = lengths
            .iter()
            .all(|length| parts.next().is_some_and(|part| part.len() == *length && is_hex(part)));
        let fits = fits && parts.next().is_none();
        drop(parts);
        fits.then_some(whole)
    }

    /// The kernel's interface it shares, if it is a virtual device that shares one.
    pub(super) fn interface(&self) -> Option<&str> {
        let mut arguments = self.device.split(',');
        let driver = arguments.next()?;
        let shares = driver.starts_with("net_af_packet") || driver.starts_with("net_af_xdp");
        arguments.find_map(|argument| argument.strip_prefix("iface=")).filter(|_| shares)
    }

    /// How messages call it, as DPDK's do.
    pub(super) fn label(&self) -> String {
        format!("port {} ({})", self.port, self.device)
    }
}

impl Needs {
    /// Those of a configuration.
    pub fn of(plan: &Plan) -> Self {
        let daemon = &plan.daemon;
        let cards = plan.ports.iter().filter_map(|port| {
            let device = port.device()?.device.clone();
            let (port, mtu, line) = (port.name.clone(), port.mtu.into(), port.line.0);
            Some(CardNeed { port, device, mtu, line })
        });
        let v4 = u64::from(daemon.connections_max) * 96;
        let v6 = u64::from(daemon.connections_ipv6_max) * 160;
        let backends: BTreeSet<IpAddr> = plan
            .services
            .iter()
            .flat_map(|service| &service.backends)
            .map(|backend| backend.address.ip())
            .collect();
        let of_v4 = backends.iter().filter(|address| address.is_ipv4()).count();
        Self {
            workers: daemon.worker_cores.iter().copied().collect(),
            control_core: daemon.control_core,
            cards: cards.collect(),
            huge_pages: daemon.huge_pages,
            memory_mb: daemon.memory_mb.into(),
            secondary_processes: daemon.secondary_processes,
            tables_mb: (v4 + v6).div_ceil(1 << 20),
            backends: [of_v4, backends.len() - of_v4],
            running: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_apart() {
        let rows = [
            ("0000:3b:00.0", Some("0000:3b:00.0"), None),
            ("3B:00.1", Some("0000:3b:00.1"), None),
            ("0000:3b:00.0,dv_flow_en=1", Some("0000:3b:00.0"), None),
            ("net_af_packet0,iface=eth1", None, Some("eth1")),
            ("net_af_packet0,qpairs=2,iface=eth1,blocksz=4096", None, Some("eth1")),
            ("net_tap0,iface=dtap0", None, None),
            ("net_null0", None, None),
            ("0000:3b:00", None, None),
            ("0000:3b:00.00", None, None),
            ("eth0", None, None),
        ];
        for (device, pci, interface) in rows {
            let card = CardNeed { device: device.into(), ..CardNeed::default() };
            assert_eq!(card.pci().as_deref(), pci, "{device}");
            assert_eq!(card.interface(), interface, "{device}");
        }
    }
}
