//! Network ports: probe → configure → start, each step a type, so that no step is skipped.
//!
//! ```text
//! Probed ── configure(settings) ──► Configured ── start() ──► Port + one Queue per worker
//!   │ what the device can do           │ what was agreed         │ link, MAC, counters
//! ```
//!
//! A device is named as DPDK names it: a PCI address (`0000:3b:00.0`) or a virtual device with its
//! arguments (`net_af_packet0,iface=eth1`). Every capability a device lacks has a fallback in
//! software, and [`Facts`] says which it came to; what has no fallback (too few queues, too small
//! frames) is refused with the mend in the message.
//!
//! The device is stopped and closed when the [`Port`] and all its queues are dropped, whichever is
//! last. Control calls (everything but receiving and sending) are made for one caller at a time.

use std::ffi::{CString, c_int};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fmt, sync::Arc};

use dpdk_sys as sys;

use super::eal::{Eal, error_text, is_pci, owned_text};
use super::overheard::{overhear, with_words};
use super::pool::Pool;
use crate::wire::Mac;

mod error;
mod rss;
mod setup;

pub use error::PortError;
pub use rss::Rss;
pub use setup::{Configured, Offloads, PortSettings};

/// A device that DPDK drives and nobody else here owns.
#[derive(Debug)]
pub struct Probed {
    device: Arc<Device>,
    info: Info,
}

impl Probed {
    /// Takes a device over: finds it if EAL has it already, attaches it if not. `name` is the
    /// port's name in the configuration, for messages.
    pub fn probe(eal: &Eal, name: &str, device: &str) -> Result<Self, PortError> {
        let label = Label { name: name.to_owned(), device: device.to_owned() };
        let lock = eal.control();
        let (id, attached) = match find(short_name(device)) {
            Some(id) => (id, false),
            None => (attach(&label, device)?, true),
        };
        let claimed = eal.claim(id);
        drop(lock);
        if !claimed {
            return Err(PortError::Claimed { port: label });
        }
        let device = Device {
            id,
            label,
            remove: attached && !is_pci(device),
            started: AtomicBool::new(false),
            pool: OnceLock::new(),
            eal: eal.clone(),
        };
        let info = device.info()?;
        Ok(Self { device: Arc::new(device), info })
    }

    /// The driver's name.
    pub fn driver(&self) -> &str {
        &self.info.driver
    }

    /// Most queue pairs the device has as it was probed.
    pub fn queues_max(&self) -> u16 {
        self.info.raw.max_rx_queues.min(self.info.raw.max_tx_queues)
    }
}

/// What the device and the settings came to.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The driver's name.
    pub driver: String,
    /// The link-layer address.
    pub mac: Mac,
    /// The MTU frames are cut to by agreement.
    pub mtu: u16,
    /// Did the device take the MTU? If not (many virtual devices), what it carries is set where it
    /// ends: the veth, the TAP, the peer.
    pub mtu_set: bool,
    /// Bytes of VLAN tags asked for beyond the MTU that the device does not grant: longest tagged
    /// frames may be lost.
    pub tag_room_missing: u16,
    /// Queue pairs.
    pub queues: u16,
    /// Receive descriptors of each queue, as the device rounded them.
    pub rx_descriptors: u16,
    /// Transmit descriptors of each queue, as the device rounded them.
    pub tx_descriptors: u16,
    /// What the device does for us on receive.
    pub offloads: Offloads,
}

/// A running port, for the control thread.
#[derive(Debug)]
pub struct Port {
    pub(super) device: Arc<Device>,
    facts: Facts,
    rss: Option<Rss>,
}

/// State of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Is there a carrier?
    pub up: bool,
    /// Megabits a second, if the device says.
    pub speed_mbps: Option<u32>,
}

/// What a port has counted since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets the device dropped because the receive queue was full: workers too slow.
    pub rx_missed: u64,
    /// Packets received broken.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Receive attempts that found the packet pool empty: too few `packet_buffers`.
    pub rx_no_buffer: u64,
}

impl Port {
    /// What was agreed with the device.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// How the device spreads flows over its queues; `None` if nothing is known of it, and packets
    /// must be steered in software.
    pub fn rss(&self) -> Option<&Rss> {
        self.rss.as_ref()
    }

    /// The link, without waiting for it.
    pub fn link(&self) -> Link {
        let (mut speed, mut up): (u32, c_int) = (0, 0);
        let _one_at_a_time = self.device.eal.control();
        // SAFETY: a valid port; both places are writable.
        unsafe { sys::shim_link(self.device.id, &raw mut speed, &raw mut up) };
        let known = speed != sys::RTE_ETH_SPEED_NUM_NONE && speed != sys::RTE_ETH_SPEED_NUM_UNKNOWN;
        Link { up: up != 0, speed_mbps: known.then_some(speed) }
    }

    /// The counters now; zeros where the device keeps none.
    pub fn stats(&self) -> PortStats {
        let mut raw = sys::rte_eth_stats::default();
        let _one_at_a_time = self.device.eal.control();
        // SAFETY: a valid port; `raw` is writable, and stays zero if the call fails.
        unsafe { sys::rte_eth_stats_get(self.device.id, &raw mut raw) };
        PortStats {
            rx_packets: raw.ipackets,
            tx_packets: raw.opackets,
            rx_bytes: raw.ibytes,
            tx_bytes: raw.obytes,
            rx_missed: raw.imissed,
            rx_errors: raw.ierrors,
            tx_errors: raw.oerrors,
            rx_no_buffer: raw.rx_nombuf,
        }
    }

    /// Receives frames for any address (`true`) or only the port's own and group addresses. Virtual
    /// devices that cannot tell are left as they are.
    pub fn set_promiscuous(&self, on: bool) -> Result<(), PortError> {
        self.device.set_promiscuous(on)
    }
}

/// How messages name a port: `port wan (net_af_packet0,iface=eth1)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    name: String,
    device: String,
}

impl Label {
    /// The value of a device argument, as in `net_af_packet0,iface=eth1`.
    fn argument(&self, key: &str) -> Option<&str> {
        self.device.split(',').find_map(|argument| argument.strip_prefix(key)?.strip_prefix('='))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {} ({})", self.name, self.device)
    }
}

/// An Ethernet device this process owns; stopped and closed on drop.
#[derive(Debug)]
pub(super) struct Device {
    id: u16,
    label: Label,
    /// Did we attach it, so that we detach it?
    remove: bool,
    started: AtomicBool,
    /// Its receive queues take buffers from here.
    pool: OnceLock<Pool>,
    eal: Eal,
}

/// What a device says of itself.
#[derive(Debug)]
struct Info {
    raw: sys::rte_eth_dev_info,
    driver: String,
}

// SAFETY: the pointers in it lead to DPDK's own constants and device list; nobody follows them but
// `Device`, under the control lock.
unsafe impl Send for Info {}
// SAFETY: as above.
unsafe impl Sync for Info {}

impl Device {
    /// DPDK's number of the port.
    pub(super) fn id(&self) -> u16 {
        self.id
    }

    fn info(&self) -> Result<Info, PortError> {
        let mut raw = sys::rte_eth_dev_info::default();
        let _one_at_a_time = self.eal.control();
        // SAFETY: a valid port; `raw` is writable.
        let result = unsafe { sys::rte_eth_dev_info_get(self.id, &raw mut raw) };
        self.check(result, "asking what the device can do")?;
        Ok(Info { raw, driver: owned_text(raw.driver_name) })
    }

    fn mac(&self) -> Result<Mac, PortError> {
        let mut address = sys::rte_ether_addr::default();
        let _one_at_a_time = self.eal.control();
        // SAFETY: a valid port; `address` is writable.
        let result = unsafe { sys::rte_eth_macaddr_get(self.id, &raw mut address) };
        self.check(result, "reading its link-layer address")?;
        Ok(Mac(address.addr_bytes))
    }

    fn set_promiscuous(&self, on: bool) -> Result<(), PortError> {
        let _one_at_a_time = self.eal.control();
        let call =
            if on { sys::rte_eth_promiscuous_enable } else { sys::rte_eth_promiscuous_disable };
        // SAFETY: a valid port.
        let result = unsafe { call(self.id) };
        if result == -libc::ENOTSUP { Ok(()) } else { self.check(result, "promiscuous mode") }
    }

    /// Group addresses (neighbour discovery, routing protocols, VRRP) are the kernel's twin's to
    /// choose from: receive all. Devices that cannot tell send them anyway.
    fn receive_all_multicast(&self) {
        let _one_at_a_time = self.eal.control();
        // SAFETY: a valid port.
        unsafe { sys::rte_eth_allmulticast_enable(self.id) };
    }

    /// Turns a negative result into an error that names the step.
    fn check(&self, result: c_int, step: &'static str) -> Result<(), PortError> {
        if result < 0 {
            let reason = error_text(result);
            return Err(PortError::Refused { port: self.label.clone(), step, reason });
        }
        Ok(())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let detach = if self.remove { self.info().ok().map(|info| info.raw.device) } else { None };
        let lock = self.eal.control();
        // A driver over a kernel interface would leave it promiscuous; one that cannot says so.
        // SAFETY: a valid port.
        unsafe { sys::rte_eth_promiscuous_disable(self.id) };
        if self.started.load(Ordering::Relaxed) {
            // SAFETY: a valid port whose queues nobody uses any more: each holds this device.
            unsafe { sys::rte_eth_dev_stop(self.id) };
        }
        // SAFETY: as above; the port is not used after.
        unsafe { sys::rte_eth_dev_close(self.id) };
        if let Some(device) = detach.filter(|device| !device.is_null()) {
            // SAFETY: the bus still lists the device we attached; its port is closed.
            unsafe { sys::rte_dev_remove(device) };
        }
        self.eal.release(self.id);
        drop(lock);
    }
}

/// The name a device goes by: without bus and arguments.
fn short_name(device: &str) -> &str {
    let name = device.split(',').next().unwrap_or_default();
    name.strip_prefix("vdev:").or_else(|| name.strip_prefix("pci:")).unwrap_or(name)
}

/// The port of that name, if there is one.
fn find(name: &str) -> Option<u16> {
    let name = CString::new(name).ok()?;
    let mut id = 0;
    // SAFETY: a NUL-terminated name; `id` is writable.
    let result = unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut id) };
    (result == 0).then_some(id)
}

/// Attaches a device and returns its port: the one of that name, or else the first that appeared
/// (some cards name their ports differently, or have two behind one address).
fn attach(label: &Label, device: &str) -> Result<u16, PortError> {
    let refused = |reason: String| PortError::Probe {
        port: label.clone(),
        reason,
        mend: error::probe_mend(device),
    };
    let arguments = CString::new(device).map_err(|e| refused(e.to_string()))?;
    let before = valid_ports();
    let probe = || {
        // SAFETY: EAL is running (the caller holds its control lock); a NUL-terminated string.
        let result = unsafe { sys::rte_dev_probe(arguments.as_ptr()) };
        if result < 0 && result != -libc::EEXIST { Err(result) } else { Ok(()) }
    };
    overhear(probe).map_err(|(number, words)| refused(with_words(error_text(number), words)))?;
    let appeared = || valid_ports().into_iter().find(|id| !before.contains(id));
    find(short_name(device))
        .or_else(appeared)
        .ok_or_else(|| refused("the device made no network port".into()))
}

fn valid_ports() -> Vec<u16> {
    let maximum = u16::try_from(sys::RTE_MAX_ETHPORTS).unwrap_or(u16::MAX);
    // SAFETY: any number may be asked about.
    (0..maximum).filter(|&id| unsafe { sys::rte_eth_dev_is_valid_port(id) } != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_without_bus_and_arguments() {
        for (device, name) in [
            ("net_af_packet0,iface=eth1,qpairs=2", "net_af_packet0"),
            ("vdev:net_ring3", "net_ring3"),
            ("pci:0000:3b:00.0,rx_vec_en=1", "0000:3b:00.0"),
            ("0000:3b:00.0", "0000:3b:00.0"),
        ] {
            assert_eq!(short_name(device), name);
        }
    }
}
