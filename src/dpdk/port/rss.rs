//! Receive-side scaling: which queue the device gives a flow to.
//!
//! The device hashes the 4-tuple (Toeplitz, with a key) and looks the low bits up in a redirection
//! table. If both can be *set and read back*, software can compute where any packet will arrive,
//! which is what FULL-NAT's choice of local ports rests on. What cannot be read back is not relied
//! on: the port then counts as one that spreads packets in an unknown way.

use std::ffi::c_int;

use dpdk_sys as sys;

use super::{Device, Info};

/// How a port spreads TCP and UDP flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rss {
    /// The Toeplitz key, 40 bytes or more; the first 40 decide for IPv4 and IPv6.
    pub key: Box<[u8]>,
    /// Hash (low bits) to queue; a power of two long.
    pub table: Box<[u16]>,
}

/// What every steering by 4-tuple needs: TCP and UDP in both families. SCTP, which few devices hash,
/// is not asked for; its packets are steered by software.
const NEEDED: u64 = sys::RTE_ETH_RSS_NONFRAG_IPV4_TCP
    | sys::RTE_ETH_RSS_NONFRAG_IPV4_UDP
    | sys::RTE_ETH_RSS_NONFRAG_IPV6_TCP
    | sys::RTE_ETH_RSS_NONFRAG_IPV6_UDP;
/// Toeplitz over the longest tuple, IPv6's 36 bytes, reads 40 bytes of key.
const KEY_BYTES: usize = 40;
/// Longest key a device can announce (a byte counts it).
const KEY_BYTES_MAX: usize = u8::MAX as usize;

/// What to ask of a device that can do RSS as steering needs it; `None` if it cannot.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) types: u64,
    pub(super) key: Vec<u8>,
    table_size: u16,
}

impl Request {
    /// `key` is repeated to the device's length; the extra bytes take part in no hash.
    pub(super) fn new(info: &Info, key: &[u8]) -> Option<Self> {
        let types = info.raw.flow_type_rss_offloads & NEEDED;
        let table_size = info.raw.reta_size;
        let able = types == NEEDED && table_size.is_power_of_two();
        let length = usize::from(info.raw.hash_key_size).max(KEY_BYTES);
        let key: Vec<u8> = key.iter().copied().cycle().take(length).collect();
        (able && !key.is_empty()).then_some(Self { types, key, table_size })
    }
}

impl Device {
    /// Fills the redirection table evenly and reads key and table back; `None` if the device
    /// refuses or cannot say.
    pub(super) fn agree_rss(&self, request: &Request, queues: u16) -> Option<Rss> {
        let _one_at_a_time = self.eal.control();
        let mut groups = even_table(request.table_size, queues);
        let size = request.table_size;
        // SAFETY: a valid port; the groups cover `size` entries.
        let result =
            unsafe { sys::rte_eth_dev_rss_reta_update(self.id, groups.as_mut_ptr(), size) };
        succeeded(result)?;
        for group in &mut groups {
            group.reta = [u16::MAX; GROUP];
        }
        // SAFETY: as above.
        let result = unsafe { sys::rte_eth_dev_rss_reta_query(self.id, groups.as_mut_ptr(), size) };
        succeeded(result)?;
        let table: Box<[u16]> =
            groups.iter().flat_map(|group| group.reta).take(usize::from(size)).collect();
        let key = self.read_key(request)?;
        table.iter().all(|&queue| queue < queues).then_some(Rss { key, table })
    }

    /// The key in use, if the device hashes all that was asked for.
    fn read_key(&self, request: &Request) -> Option<Box<[u8]>> {
        let mut key = [0_u8; KEY_BYTES_MAX];
        let length = u8::try_from(request.key.len()).ok()?;
        let mut conf = sys::rte_eth_rss_conf {
            rss_key: key.as_mut_ptr(),
            rss_key_len: length,
            ..Default::default()
        };
        // SAFETY: a valid port; the key's place is as long as any key can be.
        let result = unsafe { sys::rte_eth_dev_rss_hash_conf_get(self.id, &raw mut conf) };
        succeeded(result)?;
        let hashed = conf.rss_hf & request.types == request.types;
        hashed.then(|| key[..request.key.len()].into())
    }
}

/// Entries of one group of the redirection table.
const GROUP: usize = sys::RTE_ETH_RETA_GROUP_SIZE as usize;

/// A table of `size` entries that deals the queues out in turn.
fn even_table(size: u16, queues: u16) -> Vec<sys::rte_eth_rss_reta_entry64> {
    let mut groups = Vec::new();
    for first in (0..size).step_by(GROUP) {
        let entries = usize::from(size - first).min(GROUP);
        let mut group = sys::rte_eth_rss_reta_entry64 { mask: 0, reta: [0; GROUP] };
        for (entry, index) in group.reta.iter_mut().zip(first..size) {
            *entry = index % queues.max(1);
        }
        group.mask = u64::MAX >> (GROUP - entries);
        groups.push(group);
    }
    groups
}

fn succeeded(result: c_int) -> Option<()> {
    (result >= 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_gets_its_even_share_of_the_table_whatever_the_sizes() {
        for (size, queues) in [(128, 1), (128, 2), (512, 3), (64, 16), (32, 5), (1, 1)] {
            let groups = even_table(size, queues);
            let asked: u32 = groups.iter().map(|group| group.mask.count_ones()).sum();
            assert_eq!(asked, u32::from(size));
            let table: Vec<u16> =
                groups.iter().flat_map(|group| group.reta).take(usize::from(size)).collect();
            for queue in 0..queues {
                let share = table.iter().filter(|&&entry| entry == queue).count();
                assert!(share.abs_diff(usize::from(size / queues)) <= 1, "{size} {queues}");
            }
        }
    }
}
