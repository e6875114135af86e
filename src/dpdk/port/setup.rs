//! Configuring a port: what is asked of the device, what it grants, and what software does instead.
//!
//! | asked on receive | if the device cannot |
//! |---|---|
//! | verdict on the IPv4 header checksum | the parser computes it |
//! | verdict on TCP and UDP checksums | the update is incremental: a wrong checksum stays wrong and the receiver sees it |
//! | RSS over the 4-tuple, table and key readable | steering in software, handover rings |
//! | the RSS hash beside each packet | nobody depends on it |
//! | the MTU | set at the other end of the virtual device |
//! | room for VLAN tags beyond the MTU: a larger MTU | as much as there is; [`Facts`] says what is missing |
//!
//! Not asked for, and so off: stripping VLAN tags, and filtering by them. Tags are the worker's.
//!
//! Nothing is asked on transmit: checksums are updated incrementally, which costs less than filling
//! in a descriptor's offload fields, and packets are single buffers.

use std::ffi::c_int;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dpdk_sys as sys;

use super::error::queues_mend;
use super::rss::Request;
use super::{Device, Facts, Info, Port, PortError, Probed};
use crate::dpdk::burst::Queue;
use crate::dpdk::pool::Pool;

/// Ethernet header, VLAN tag and frame check sequence.
const FRAME_OVERHEAD: u32 = 14 + 4 + 4;
/// What DPDK takes for it where a device announces a frame size but no MTU.
const PLAIN_OVERHEAD: u32 = 14 + 4;
/// What the kernel puts before a packet in a packet socket's ring, Ethernet header included. A tag
/// does not count: the kernel keeps it elsewhere.
const PACKET_SOCKET_OVERHEAD: u32 = 66 + 14;
/// The least MTU IPv4 allows, RFC 791.
const MTU_MIN: u16 = 68;

/// What a port is asked to be.
#[derive(Clone, Copy, Debug)]
pub struct PortSettings<'a> {
    /// Queue pairs: one per worker.
    pub queues: u16,
    /// Receive descriptors of each queue; rounded to what the device takes.
    pub rx_descriptors: u16,
    /// Transmit descriptors of each queue; rounded to what the device takes.
    pub tx_descriptors: u16,
    /// MTU.
    pub mtu: u16,
    /// How much longer VLAN tags make the longest packet.
    pub tag_room: u16,
    /// The RSS key to use where there is RSS; 40 bytes. Empty: no RSS.
    pub rss_key: &'a [u8],
    /// Receive frames for any address?
    pub promiscuous: bool,
    /// Where received packets live.
    pub pool: &'a Pool,
}

/// What the device does on receive; software does the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Checks IPv4 header checksums.
    pub ipv4_checksum: bool,
    /// Checks TCP and UDP checksums.
    pub l4_checksum: bool,
    /// Hands the RSS hash over with each packet.
    pub rss_hash: bool,
}

/// As the log has it: `ipv4_checksum,rss_hash`, or `none`.
impl fmt::Display for Offloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ipv4_checksum, l4_checksum, rss_hash } = *self;
        let all = [
            (ipv4_checksum, "ipv4_checksum"),
            (l4_checksum, "l4_checksum"),
            (rss_hash, "rss_hash"),
        ];
        let had: Vec<_> = all.into_iter().filter_map(|(has, name)| has.then_some(name)).collect();
        f.write_str(if had.is_empty() { "none" } else { "" })?;
        f.write_str(&had.join(","))
    }
}

impl Offloads {
    /// What `info` can do of what we want. Virtio is not asked about TCP and UDP: having said it
    /// checks them, it may hand over packets whose checksum was never computed.
    fn wanted(info: &Info, rss: bool) -> Self {
        let able = |flags: u64| info.raw.rx_offload_capa & flags == flags;
        let l4 = sys::RTE_ETH_RX_OFFLOAD_TCP_CKSUM | sys::RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
        let honest = !info.driver.starts_with("net_virtio") && info.driver != "net_vhost";
        Self {
            ipv4_checksum: able(sys::RTE_ETH_RX_OFFLOAD_IPV4_CKSUM),
            l4_checksum: able(l4) && honest,
            rss_hash: able(sys::RTE_ETH_RX_OFFLOAD_RSS_HASH) && rss,
        }
    }

    fn flags(self) -> u64 {
        let l4 = sys::RTE_ETH_RX_OFFLOAD_TCP_CKSUM | sys::RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
        let pick = |on: bool, flags: u64| if on { flags } else { 0 };
        pick(self.ipv4_checksum, sys::RTE_ETH_RX_OFFLOAD_IPV4_CKSUM)
            | pick(self.l4_checksum, l4)
            | pick(self.rss_hash, sys::RTE_ETH_RX_OFFLOAD_RSS_HASH)
    }
}

/// An MTU: the one to configure the device with, and the one it carries.
#[derive(Clone, Copy, Debug)]
struct Granted {
    asked: u16,
    carried: u16,
}

/// A port whose queues exist, not yet running.
#[derive(Debug)]
pub struct Configured {
    device: Arc<Device>,
    facts: Facts,
    rss: Option<Request>,
    promiscuous: bool,
}

impl Probed {
    /// Configures the device and makes its queues.
    pub fn configure(self, settings: &PortSettings<'_>) -> Result<Configured, PortError> {
        let Self { device, info } = self;
        device.check_queues(&info, settings.queues)?;
        let Granted { asked, carried } = device.check_mtu(&info, settings)?;
        let wish = Request::new(&info, settings.rss_key);
        // A device may announce RSS and refuse it (or refuse it for these flow types): then without.
        let rss = match wish {
            Some(wish) if device.agree(&info, settings, asked, Some(&wish)).is_ok() => Some(wish),
            _ => {
                device.agree(&info, settings, asked, None)?;
                None
            }
        };
        let (rx_descriptors, tx_descriptors) = device.round_descriptors(settings)?;
        let facts = Facts {
            mac: device.mac()?,
            mtu: settings.mtu,
            mtu_set: device.set_mtu(carried),
            tag_room_missing: settings.mtu.saturating_add(settings.tag_room) - carried,
            queues: settings.queues,
            rx_descriptors,
            tx_descriptors,
            offloads: Offloads::wanted(&info, rss.is_some()),
            driver: info.driver,
        };
        device.make_queues(&facts, settings.pool)?;
        Ok(Configured { device, facts, rss, promiscuous: settings.promiscuous })
    }
}

impl Configured {
    /// What was agreed with the device.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Starts the device. Queue *n* of the result is for worker *n*.
    pub fn start(self) -> Result<(Port, Vec<Queue>), PortError> {
        let Self { device, facts, rss, promiscuous } = self;
        device.start()?;
        device.set_promiscuous(promiscuous)?;
        device.receive_all_multicast();
        let rss = rss.and_then(|request| device.agree_rss(&request, facts.queues));
        // SAFETY: started with that many queue pairs; this function consumes the only `Configured`
        // of the device, so each queue is made once.
        let queue = |number| unsafe { Queue::new(Arc::clone(&device), number) };
        let queues = (0..facts.queues).map(queue).collect();
        Ok((Port { device, facts, rss }, queues))
    }
}

impl Device {
    fn check_queues(&self, info: &Info, needs: u16) -> Result<(), PortError> {
        let port = || self.label.clone();
        let (rx, tx) = (info.raw.max_rx_queues, info.raw.max_tx_queues);
        if needs == 0 {
            return Err(PortError::NoQueues { port: port() });
        }
        for (direction, has) in [("rx", rx), ("tx", tx)] {
            if has < needs {
                let mend = queues_mend(&info.driver, needs);
                return Err(PortError::TooFewQueues { port: port(), direction, has, needs, mend });
            }
        }
        // The kernel fills every socket of a fanout group, read or not.
        if rx > needs && matches!(info.driver.as_str(), "net_af_packet" | "net_af_xdp") {
            let mend = queues_mend(&info.driver, needs);
            return Err(PortError::TooManyQueues { port: port(), has: rx, needs, mend });
        }
        Ok(())
    }

    /// Checks the MTU. What is granted has room for tags as far as the device goes.
    fn check_mtu(&self, info: &Info, settings: &PortSettings<'_>) -> Result<Granted, PortError> {
        let PortSettings { mtu, tag_room, pool, .. } = *settings;
        let min = info.raw.min_mtu.max(MTU_MIN);
        let announced = match info.raw.max_mtu {
            0 | u16::MAX => info.raw.max_rx_pktlen.saturating_sub(PLAIN_OVERHEAD),
            announced => u32::from(announced),
        };
        let max = announced.max(self.packet_socket_mtu(info).unwrap_or(0));
        let port = || self.label.clone();
        if mtu < min || u32::from(mtu) > max {
            let mend = "choose one within";
            return Err(PortError::Mtu { port: port(), mtu, min, max, mend });
        }
        let with_tags = mtu.saturating_add(tag_room);
        let (frame, room) = (u32::from(with_tags) + FRAME_OVERHEAD, pool.room());
        if frame > u32::from(room) {
            return Err(PortError::Room { port: port(), mtu, frame, room });
        }
        let as_u16 = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
        Ok(Granted { asked: with_tags.min(as_u16(announced)), carried: with_tags.min(as_u16(max)) })
    }

    /// What a packet socket carries whose frames were made longer. The driver announces an ordinary
    /// frame whatever the ring's are, refuses to be asked for more, and carries more.
    fn packet_socket_mtu(&self, info: &Info) -> Option<u32> {
        let frame = self.label.argument("framesz").filter(|_| info.driver == "net_af_packet")?;
        Some(frame.parse::<u32>().ok()?.saturating_sub(PACKET_SOCKET_OVERHEAD))
    }

    /// `rte_eth_dev_configure` with or without RSS.
    fn agree(
        &self,
        info: &Info,
        settings: &PortSettings<'_>,
        mtu: u16,
        rss: Option<&Request>,
    ) -> Result<(), PortError> {
        let mut conf = sys::rte_eth_conf::default();
        conf.rxmode.mtu = u32::from(mtu);
        conf.rxmode.offloads = Offloads::wanted(info, rss.is_some()).flags();
        let mut key = rss.map(|request| request.key.clone()).unwrap_or_default();
        if let Some(request) = rss {
            conf.rxmode.mq_mode = sys::rte_eth_rx_mq_mode::RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_key = key.as_mut_ptr();
            conf.rx_adv_conf.rss_conf.rss_key_len = u8::try_from(key.len()).unwrap_or(u8::MAX);
            conf.rx_adv_conf.rss_conf.rss_hf = request.types;
        }
        let _one_at_a_time = self.eal.control();
        let queues = settings.queues;
        // SAFETY: a valid, stopped port; DPDK copies `conf`, and drivers the key, before returning.
        let result =
            unsafe { sys::rte_eth_dev_configure(self.id, queues, queues, &raw const conf) };
        // DPDK keeps the key's address with its copy of `conf`: the key stays for good.
        std::mem::forget(key);
        self.check(result, "configuring it")
    }

    fn round_descriptors(&self, settings: &PortSettings<'_>) -> Result<(u16, u16), PortError> {
        let (mut rx, mut tx) = (settings.rx_descriptors, settings.tx_descriptors);
        let _one_at_a_time = self.eal.control();
        // SAFETY: a valid port; both places are writable.
        let result =
            unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.id, &raw mut rx, &raw mut tx) };
        self.check(result, "choosing its descriptor counts")?;
        Ok((rx, tx))
    }

    /// Did the device take the MTU?
    fn set_mtu(&self, mtu: u16) -> bool {
        let _one_at_a_time = self.eal.control();
        // SAFETY: a valid, stopped port.
        unsafe { sys::rte_eth_dev_set_mtu(self.id, mtu) == 0 }
    }

    fn make_queues(&self, facts: &Facts, pool: &Pool) -> Result<(), PortError> {
        let (queues, descriptors) = (facts.queues, facts.rx_descriptors);
        let buffers = pool.size();
        if u32::from(queues) * u32::from(descriptors) > buffers {
            let port = self.label.clone();
            return Err(PortError::PoolTooSmall { port, queues, descriptors, buffers });
        }
        // The device keeps the pool from here on, whatever comes next.
        let pool = self.pool.get_or_init(|| pool.clone());
        let _one_at_a_time = self.eal.control();
        for queue in 0..queues {
            self.check(self.rx_queue(queue, descriptors, pool), "making a receive queue")?;
            self.check(self.tx_queue(queue, facts.tx_descriptors), "making a transmit queue")?;
        }
        Ok(())
    }

    fn rx_queue(&self, queue: u16, descriptors: u16, pool: &Pool) -> c_int {
        let defaults = std::ptr::null();
        let node = self.node();
        // SAFETY: a configured port; `Device` keeps the pool; null asks for the driver's defaults.
        unsafe {
            sys::rte_eth_rx_queue_setup(self.id, queue, descriptors, node, defaults, pool.raw())
        }
    }

    fn tx_queue(&self, queue: u16, descriptors: u16) -> c_int {
        let (defaults, node) = (std::ptr::null(), self.node());
        // SAFETY: a configured port; null asks for the driver's defaults.
        unsafe { sys::rte_eth_tx_queue_setup(self.id, queue, descriptors, node, defaults) }
    }

    /// The NUMA node it sits on, as DPDK passes it around (−1, any, becomes all ones).
    fn node(&self) -> u32 {
        // SAFETY: a valid port.
        unsafe { sys::rte_eth_dev_socket_id(self.id) }.cast_unsigned()
    }

    fn start(&self) -> Result<(), PortError> {
        let _one_at_a_time = self.eal.control();
        // SAFETY: a configured port with all its queues.
        let result = unsafe { sys::rte_eth_dev_start(self.id) };
        self.check(result, "starting it")?;
        self.started.store(true, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Offloads;

    #[test]
    fn offloads_are_logged_as_words() {
        let none = Offloads::default();
        assert_eq!(none.to_string(), "none");
        assert_eq!(Offloads { l4_checksum: true, ..none }.to_string(), "l4_checksum");
        let all = Offloads { ipv4_checksum: true, l4_checksum: true, rss_hash: true };
        assert_eq!(all.to_string(), "ipv4_checksum,l4_checksum,rss_hash");
    }
}
