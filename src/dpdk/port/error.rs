//! What can go wrong with a port, said so that the reader knows what to change.

use super::super::eal::is_pci;
use super::Label;

/// A port could not be brought up.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// DPDK could not take the device.
    #[error("{port}: DPDK cannot take the device: {reason}; {mend}")]
    Probe {
        /// Which port.
        port: Label,
        /// What DPDK said.
        reason: String,
        /// What usually helps.
        mend: &'static str,
    },
    /// Another port of ours has it.
    #[error("{port}: another port uses this device already: give each port its own")]
    Claimed {
        /// Which port.
        port: Label,
    },
    /// Fewer queues than workers.
    #[error("{port}: has {}, {needs} workers need {needs}: {mend}", count(*.has, direction))]
    TooFewQueues {
        /// Which port.
        port: Label,
        /// `rx` or `tx`.
        direction: &'static str,
        /// Queues there are.
        has: u16,
        /// Queues needed.
        needs: u16,
        /// How to get more.
        mend: String,
    },
    /// More queues than workers, on a device that fills all of them whatever is configured.
    #[error(
        "{port}: spreads packets over {}, but only {needs} would be read: {mend}",
        count(*.has, "rx")
    )]
    TooManyQueues {
        /// Which port.
        port: Label,
        /// Queues there are.
        has: u16,
        /// Queues that would be read.
        needs: u16,
        /// How to get fewer.
        mend: String,
    },
    /// No queue at all was asked for.
    #[error("{port}: a port needs at least one queue, one per worker")]
    NoQueues {
        /// Which port.
        port: Label,
    },
    /// The device does not carry such frames.
    #[error("{port}: MTU {mtu} is outside what the device carries, {min} to {max}: {mend}")]
    Mtu {
        /// Which port.
        port: Label,
        /// Asked for.
        mtu: u16,
        /// Smallest possible.
        min: u16,
        /// Largest possible.
        max: u32,
        /// What to change.
        mend: &'static str,
    },
    /// A frame would not fit a buffer.
    #[error(
        "{port}: MTU {mtu} makes frames of up to {frame} bytes, and packet buffers hold {room}: \
         lower the MTU or use larger buffers"
    )]
    Room {
        /// Which port.
        port: Label,
        /// Asked for.
        mtu: u16,
        /// What it takes.
        frame: u32,
        /// What there is.
        room: u16,
    },
    /// The receive queues alone would hold more packets than there are.
    #[error(
        "{port}: {} of {descriptors} descriptors need more packet buffers than the pool's \
         {buffers}: raise `packet_buffers` or lower `rx_descriptors`",
        count(*.queues, "rx")
    )]
    PoolTooSmall {
        /// Which port.
        port: Label,
        /// Queues.
        queues: u16,
        /// Descriptors of each.
        descriptors: u16,
        /// Buffers of the pool.
        buffers: u32,
    },
    /// Any other call DPDK refused.
    #[error("{port}: {step} failed: {reason}")]
    Refused {
        /// Which port.
        port: Label,
        /// What was being done.
        step: &'static str,
        /// What DPDK said.
        reason: String,
    },
}

/// `1 rx queue`, `2 tx queues`.
fn count(number: u16, direction: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {direction} queue{plural}")
}

/// What usually helps when a device cannot be probed.
pub(super) fn probe_mend(device: &str) -> &'static str {
    const MENDS: [(&str, &str); 6] = [
        ("net_af_packet", "check that the interface in `iface=` exists and is up, and run as root"),
        (
            "net_af_xdp",
            "check that the interface in `iface=` exists and has as many combined channels as `queue_count=`, and run as root",
        ),
        ("net_tap", "check that `iface=` is not taken, and run as root"),
        (
            "net_memif",
            "check that the directory of `socket=` exists and `role=` is server or client",
        ),
        ("net_pcap", "check that the files exist and end in a valid pcap header"),
        (
            "net_",
            "check the driver's name and its arguments (DPDK guide, \"Network Interface Controller Drivers\")",
        ),
    ];
    if is_pci(device) {
        return "check that it exists (`lspci`), is bound to vfio-pci (`dpdk-devbind.py --status`) and is listed among EAL's devices";
    }
    let known = MENDS.iter().find(|(driver, _)| device.starts_with(driver));
    known.map_or(
        "name a PCI address (0000:3b:00.0) or a virtual device (net_af_packet0,iface=eth1)",
        |(_, mend)| mend,
    )
}

/// How to give a device of that driver `queues` queues.
pub(super) fn queues_mend(driver: &str, queues: u16) -> String {
    match driver {
        "net_af_packet" => format!("add `qpairs={queues}` to its device arguments"),
        "net_af_xdp" => format!("add `queue_count={queues}` to its device arguments"),
        "net_vhost" | "net_virtio_user" => format!("add `queues={queues}` to its device arguments"),
        "net_virtio" => format!("give the virtual machine's device {queues} queue pairs"),
        "net_pcap" => format!("name {queues} files, `rx_pcap=` and `tx_pcap=` once per queue"),
        _ => format!(
            "run {queues} or fewer workers' worth of queues on a device that has them, or use fewer workers"
        ),
    }
}
