//! Networks of addresses, and a number for each, found by longest prefix in a few loads: DPDK's
//! `rte_fib` (IPv4) and `rte_fib6`.
//!
//! ```text
//! 192.0.2.7    first 24 bits ─► table of 16 million ──► number
//!                                      └─ longer prefixes below it? group of 256, by 8 bits more ─► number
//! 2001:db8::7  the same, with up to 13 groups one below the other
//! ```
//!
//! Built once and never changed after: another set of networks is another table. The groups
//! needed are counted before the table is made, so that making it either has room for everything or
//! is refused; of IPv6 as DPDK counts them, which is more than it uses. Memory, all of it DPDK's (`memory_mb`): the table of 2^24 entries (32 MB, or 64 MB with
//! more than 32,767 groups), 512 or 1024 bytes a group, and about 300 bytes a network for the tree that
//! DPDK builds it from and keeps.

use std::ffi::{c_int, c_uint};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr::NonNull;

use dpdk_sys as sys;

use super::eal::{Eal, last_error};
use super::pool::{ANY_NODE, unique_name};

/// The largest number a network can have.
pub const NUMBER_MAX: u16 = (1 << 15) - 1;
/// Bits looked up at once at first, and at each further step.
const FIRST_BITS: u32 = 24;
const STEP_BITS: u32 = 8;
/// Entries of the first table.
const FIRST_ENTRIES: u64 = 1 << FIRST_BITS;
/// What DPDK keeps of each network besides, bytes, about.
const NETWORK_BYTES: u64 = 300;

/// A table could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FibError {
    /// A number too large, or a prefix too long: the caller has checked neither.
    #[error("network {base}/{length} cannot carry the number {number}")]
    Network {
        /// As given.
        base: IpAddr,
        /// As given.
        length: u8,
        /// As given.
        number: u16,
    },
    /// DPDK has no memory for it.
    #[error(
        "no DPDK memory for {count} {family} networks, some {megabytes} MB in pieces of up to {largest} \
         MB: {reason}; raise `memory_mb`, or list fewer networks (those longer than 24 bits need \
         most)"
    )]
    Memory {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// How many.
        count: usize,
        /// Needed, about.
        megabytes: u64,
        /// The largest piece of that.
        largest: u64,
        /// What DPDK says.
        reason: String,
    },
}

/// A network, and its number.
pub type Entry<A> = (A, u8, u16);

/// Networks of IPv4.
#[derive(Debug)]
pub struct Fib4 {
    fib: NonNull<sys::rte_fib>,
    eal: Eal,
}

/// Networks of IPv6.
#[derive(Debug)]
pub struct Fib6 {
    fib: NonNull<sys::rte_fib6>,
    eal: Eal,
}

// SAFETY: a table has no tie to the thread that made it.
unsafe impl Send for Fib4 {}
// SAFETY: through `&Fib4` there are only lookups, which write nothing.
unsafe impl Sync for Fib4 {}
// SAFETY: as of `Fib4`.
unsafe impl Send for Fib6 {}
// SAFETY: as of `Fib4`.
unsafe impl Sync for Fib6 {}

impl Fib4 {
    /// A table of these networks; of two that are equal the later one counts.
    ///
    /// # Errors
    ///
    /// [`FibError`]; nothing is left behind.
    pub fn new(eal: &Eal, networks: &[Entry<Ipv4Addr>]) -> Result<Self, FibError> {
        let left = |base: Ipv4Addr| u128::from(base.to_bits()) << 96;
        let need = Need::of(networks.iter().map(|(base, length, _)| (left(*base), *length)));
        need.check("IPv4", eal)?;
        let mut conf = sys::rte_fib_conf {
            type_: sys::rte_fib_type::RTE_FIB_DIR24_8,
            max_routes: need.routes(),
            ..Default::default()
        };
        conf.__bindgen_anon_1.dir24_8.nh_sz = if need.is_wide() {
            sys::rte_fib_dir24_8_nh_sz::RTE_FIB_DIR24_8_4B
        } else {
            sys::rte_fib_dir24_8_nh_sz::RTE_FIB_DIR24_8_2B
        };
        conf.__bindgen_anon_1.dir24_8.num_tbl8 = need.groups();
        let name = unique_name("fib");
        let lock = eal.control();
        // SAFETY: EAL is running (`eal`); name and configuration are valid, and copied.
        let fib = unsafe { sys::rte_fib_create(name.as_ptr(), ANY_NODE, &raw mut conf) };
        let reason = last_error();
        drop(lock);
        let fib = NonNull::new(fib).ok_or_else(|| need.refused("IPv4", reason))?;
        let this = Self { fib, eal: eal.clone() };
        for (base, length, number) in networks {
            checked((*base).into(), *length, *number)?;
            let (ip, number) = (base.to_bits(), u64::from(*number));
            // SAFETY: the table lives, and nobody else has it yet.
            let result = unsafe { sys::rte_fib_add(fib.as_ptr(), ip, *length, number) };
            need.added("IPv4", result)?;
        }
        Ok(this)
    }

    /// The number of the longest network that contains `address`; 0 if none does.
    #[inline]
    pub fn lookup(&self, address: Ipv4Addr) -> u16 {
        let (mut ip, mut number) = (address.to_bits(), 0);
        // SAFETY: one address and room for one answer; the table lives.
        unsafe { sys::rte_fib_lookup_bulk(self.fib.as_ptr(), &raw mut ip, &raw mut number, 1) };
        narrow(number)
    }
}

impl Fib6 {
    /// A table of these networks; of two that are equal the later one counts.
    ///
    /// # Errors
    ///
    /// [`FibError`]; nothing is left behind.
    pub fn new(eal: &Eal, networks: &[Entry<Ipv6Addr>]) -> Result<Self, FibError> {
        let exact = Need::of(networks.iter().map(|(base, length, _)| (base.to_bits(), *length)));
        let need = Need { groups: exact.groups.max(Need::reserved(networks)), ..exact };
        need.check("IPv6", eal)?;
        let mut conf = sys::rte_fib6_conf {
            type_: sys::rte_fib6_type::RTE_FIB6_TRIE,
            max_routes: need.routes(),
            ..Default::default()
        };
        conf.__bindgen_anon_1.trie.nh_sz = if need.is_wide() {
            sys::rte_fib_trie_nh_sz::RTE_FIB6_TRIE_4B
        } else {
            sys::rte_fib_trie_nh_sz::RTE_FIB6_TRIE_2B
        };
        conf.__bindgen_anon_1.trie.num_tbl8 = need.groups();
        let name = unique_name("fib6");
        let lock = eal.control();
        // SAFETY: EAL is running (`eal`); name and configuration are valid, and copied.
        let fib = unsafe { sys::rte_fib6_create(name.as_ptr(), ANY_NODE, &raw mut conf) };
        let reason = last_error();
        drop(lock);
        let fib = NonNull::new(fib).ok_or_else(|| need.refused("IPv6", reason))?;
        let this = Self { fib, eal: eal.clone() };
        for (base, length, number) in networks {
            checked((*base).into(), *length, *number)?;
            let (ip, number) = (base.octets(), u64::from(*number));
            // SAFETY: 16 bytes are readable there; the table lives, and nobody else has it yet.
            let result = unsafe { sys::rte_fib6_add(fib.as_ptr(), ip.as_ptr(), *length, number) };
            need.added("IPv6", result)?;
        }
        Ok(this)
    }

    /// The number of the longest network that contains `address`; 0 if none does.
    #[inline]
    pub fn lookup(&self, address: Ipv6Addr) -> u16 {
        let (mut ip, mut number) = ([address.octets()], 0);
        let ips = ip.as_mut_ptr();
        // SAFETY: one address and room for one answer; the table lives.
        unsafe { sys::rte_fib6_lookup_bulk(self.fib.as_ptr(), ips, &raw mut number, 1) };
        narrow(number)
    }
}

impl Drop for Fib4 {
    fn drop(&mut self) {
        let _one_at_a_time = self.eal.control();
        // SAFETY: made by `new`, and nobody has it any more.
        unsafe { sys::rte_fib_free(self.fib.as_ptr()) };
    }
}

impl Drop for Fib6 {
    fn drop(&mut self) {
        let _one_at_a_time = self.eal.control();
        // SAFETY: made by `new`, and nobody has it any more.
        unsafe { sys::rte_fib6_free(self.fib.as_ptr()) };
    }
}

/// Numbers put in are at most [`NUMBER_MAX`].
#[expect(clippy::cast_possible_truncation, reason = "see above")]
fn narrow(number: u64) -> u16 {
    number as u16
}

fn checked(base: IpAddr, length: u8, number: u16) -> Result<(), FibError> {
    let bits = if base.is_ipv4() { 32 } else { 128 };
    if number > NUMBER_MAX || length > bits {
        return Err(FibError::Network { base, length, number });
    }
    Ok(())
}

/// What a set of networks takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Need {
    networks: usize,
    groups: usize,
}

impl Need {
    /// Of networks given as their first bits, and the length of their prefixes: one group below
    /// each place of a level that a longer prefix passes.
    fn of(networks: impl Iterator<Item = (u128, u8)> + Clone) -> Self {
        let mut groups = 0;
        let mut places = Vec::new();
        for level in (FIRST_BITS..u128::BITS).step_by(STEP_BITS as usize) {
            let longer = networks.clone().filter(|(_, length)| u32::from(*length) > level);
            places.clear();
            places.extend(longer.map(|(bits, _)| bits >> (u128::BITS - level)));
            places.sort_unstable();
            places.dedup();
            groups += places.len();
        }
        Self { networks: networks.count(), groups }
    }

    /// The same as `rte_fib6` reserves it, which counts the levels of each network below the one
    /// around it, whether or not it shares them with its neighbours.
    fn reserved(networks: &[Entry<Ipv6Addr>]) -> usize {
        let mut sorted: Vec<_> =
            networks.iter().map(|(base, length, _)| (base.to_bits(), u32::from(*length))).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut around: Vec<(u128, u32)> = Vec::new();
        let mut levels = 0;
        for (bits, length) in sorted {
            let outside = |(outer, of): &(u128, u32)| {
                (outer ^ bits).checked_shr(u128::BITS - of).unwrap_or(0) != 0
            };
            while around.last().is_some_and(outside) {
                around.pop();
            }
            let above = around.last().map_or(0, |(_, length)| *length);
            let [this, above] = [length, above].map(|it| it.next_multiple_of(STEP_BITS));
            levels += this.saturating_sub(above.max(FIRST_BITS)) / STEP_BITS;
            around.push((bits, length));
        }
        levels as usize
    }

    /// DPDK wants room for one at least.
    fn routes(self) -> c_int {
        c_int::try_from(self.networks.max(1)).unwrap_or(c_int::MAX)
    }

    /// DPDK numbers groups from 0 and keeps the first of `rte_fib6` for itself.
    fn groups(self) -> c_uint {
        c_uint::try_from(self.groups + 1).unwrap_or(c_uint::MAX)
    }

    /// Are there too many groups to be named by fifteen bits?
    fn is_wide(self) -> bool {
        self.groups() > c_uint::from(NUMBER_MAX)
    }

    /// The tables of 2^24 entries, the groups, and the tree, in bytes.
    fn bytes(self) -> [u64; 3] {
        let entry = if self.is_wide() { 4 } else { 2 };
        let (groups, networks) = (self.groups as u64, self.networks as u64);
        [FIRST_ENTRIES * entry, groups * 256 * entry, networks * NETWORK_BYTES]
    }

    fn megabytes(self) -> u64 {
        self.bytes().iter().sum::<u64>().div_ceil(1 << 20)
    }

    /// Refuses at once what is more than all memory that was asked for: on huge pages DPDK would take
    /// whatever the machine has.
    fn check(self, family: &'static str, eal: &Eal) -> Result<(), FibError> {
        let most = eal.memory_mb();
        if self.megabytes() <= most.into() {
            return Ok(());
        }
        Err(self.refused(family, format!("`memory_mb` is {most}")))
    }

    fn refused(self, family: &'static str, reason: String) -> FibError {
        let [first, groups, _] = self.bytes();
        FibError::Memory {
            family,
            count: self.networks,
            megabytes: self.megabytes(),
            largest: first.max(groups).div_ceil(1 << 20),
            reason,
        }
    }

    /// What adding a network came to.
    fn added(self, family: &'static str, result: c_int) -> Result<(), FibError> {
        if result == 0 {
            return Ok(());
        }
        let reason = std::io::Error::from_raw_os_error(-result).to_string();
        Err(self.refused(family, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(networks: &[(&str, u8)]) -> Need {
        let bits = |base: &str| match base.parse().unwrap() {
            IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let networks: Vec<_> =
            networks.iter().map(|(base, length)| (bits(base), *length)).collect();
        Need::of(networks.into_iter())
    }

    #[test]
    fn a_group_is_needed_below_every_place_a_longer_prefix_passes() {
        let table: &[(&[(&str, u8)], usize)] = &[
            (&[], 0),
            (&[("10.0.0.0", 8), ("10.1.2.0", 24)], 0),
            (&[("10.1.2.0", 25)], 1),
            (&[("10.1.2.3", 32), ("10.1.2.200", 32), ("10.1.3.0", 30)], 2),
            (&[("2001:db8::", 24)], 0),
            (&[("2001:db8::", 32)], 1),
            (&[("2001:db8::", 33)], 2),
            (&[("2001:db8::", 48), ("2001:db8:1::", 48)], 3),
            (&[("2001:db8::1", 128)], 13),
        ];
        for (networks, groups) in table {
            assert_eq!(need(networks).groups, *groups, "{networks:?}");
        }
    }

    /// The worst there is: a million networks of 64 bits that have nothing in common.
    #[test]
    fn a_million_unrelated_ipv6_networks_take_five_gigabytes() {
        let network = |n: u64| {
            let bits = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 3 | 1 << 61;
            (Ipv6Addr::from_bits(u128::from(bits) << 64), 64, 1)
        };
        let networks: Vec<Entry<Ipv6Addr>> = (0..1_000_000).map(network).collect();
        let groups = Need::reserved(&networks);
        assert_eq!(groups, 5_000_000, "five levels each, whatever they share");
        let need = Need { networks: networks.len(), groups };
        assert_eq!(need.megabytes(), 5_233);
        let short = Need { groups: 0, ..need };
        assert_eq!(short.megabytes(), 319, "a million of 24 bits or less");
    }

    #[test]
    fn what_does_not_fit_says_what_it_takes_and_what_helps() {
        let need = Need { networks: 1_000_000, groups: 100_000 };
        let text = need.refused("IPv4", "no memory".into()).to_string();
        for part in ["1000000 IPv4 networks", "448 MB", "98 MB", "memory_mb"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
