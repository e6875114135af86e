//! mh's table held against IPVS's way of filling it, written down plainly, for any weights; and what
//! changes hands when a backend leaves.
//!
//! Beyond the share of the one that leaves, slots move for two reasons. Who finds a slot free that was
//! taken before no longer takes the next one, which somebody else then finds free; two backends whose steps
//! lie badly to each other make long chains of that. And the table is filled in rounds, the last of which
//! is cut off: with weights a round is long (up to 63 slots for each backend of the kernel's 4,093), so
//! that there are few rounds, and where the last one ends matters more. More slots help against both. None
//! of it can be otherwise without another table than the kernel's: what is held here are numbers that many
//! draws have shown (20,000 of the kernel's size and equal weights), not a theorem.

use super::super::hash::sip13;
use super::super::mh::table_of;
use super::*;
use proptest::prelude::*;

/// What a draw of backends is.
const WEIGHTS: [fn(u64) -> u32; 4] = [
    |_| 1,
    |n| u32::try_from(n % 10 + 1).unwrap(),
    |n| u32::try_from(n % 65_535 + 1).unwrap(),
    |n| 1 << (n % 16),
];

/// Chance that is the same every time: xorshift (Marsaglia, 2003).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next()).unwrap() % end
    }

    fn entries(&mut self, count: usize, weight: fn(u64) -> u32) -> Vec<Entry> {
        (0..count).map(|_| entry(self.next(), weight(self.next()))).collect()
    }
}

/// A backend whose address and port are of that number.
fn entry(number: u64, weight: u32) -> Entry {
    let host = Ipv4Addr::from_bits(u32::try_from(number % (1 << 32)).unwrap());
    let port = u16::try_from((number >> 32) % 65_535 + 1).unwrap();
    Entry { address: (host, port).into(), weight, last_weight: weight, server_id: None }
}

/// The order in which a backend would take all slots.
fn preferences(backend: &Entry, slots: u64) -> impl Iterator<Item = usize> {
    let IpAddr::V4(host) = backend.address.ip() else { panic!("drawn of IPv4") };
    let word = host.to_bits().wrapping_add(backend.address.port().into()).to_le_bytes();
    let hash = |key| sip13(key, &word) & 0xffff_ffff;
    let (start, step) = (hash(2_654_435_761) % slots, hash(2_654_446_892) % (slots - 1) + 1);
    (0..slots).map(move |n| usize::try_from((start + n * step) % slots).unwrap())
}

/// Who has which slot by IPVS's rule.
fn by_the_rule(backends: &[Entry], slots: u32) -> Vec<SocketAddr> {
    let weights = || backends.iter().map(|backend| backend.last_weight).filter(|w| *w > 0);
    let largest = weights().max().unwrap();
    let divisor = (1..=largest).rev().find(|d| weights().all(|w| w.is_multiple_of(*d))).unwrap();
    let bits = |n: u32| n.checked_ilog2().map_or(0, |log| log + 1);
    let halved = bits(largest / divisor).saturating_sub(bits(slots) / 2);
    let turns = |backend: &Entry| ((backend.last_weight / divisor) >> halved).max(1);
    let with_weight = backends.iter().filter(|backend| backend.last_weight > 0);
    let mut queue: Vec<_> =
        with_weight.map(|it| (it.address, turns(it), preferences(it, slots.into()))).collect();
    let mut table: Vec<Option<SocketAddr>> = vec![None; slots as usize];
    let mut free = table.len();
    while free > 0 {
        for (address, turns, wishes) in &mut queue {
            for _ in 0..(*turns).min(u32::try_from(free).unwrap()) {
                let slot = wishes.find(|slot| table[*slot].is_none()).unwrap();
                table[slot] = Some(*address);
                free -= 1;
            }
        }
    }
    table.into_iter().flatten().collect()
}

fn by_shunt(backends: &[Entry], slots: u32) -> Vec<SocketAddr> {
    table_of(backends, slots).iter().map(|at| backends[usize::from(*at)].address).collect()
}

fn without(backends: &[Entry], leaver: usize) -> Vec<Entry> {
    let others = backends.iter().zip(0..).filter(|(_, at)| *at != leaver);
    others.map(|(entry, _)| *entry).collect()
}

proptest! {
    /// What moves is then what moves with IPVS, whoever leaves.
    #[test]
    fn mh_has_the_kernels_table_for_any_weights(
        numbers in proptest::collection::vec((any::<u64>(), 0..u64::MAX, 0..5usize), 2..40),
        leaver in any::<proptest::sample::Index>(),
        size in 0..1000usize,
    ) {
        let slots = Slots::ALL[[4, 4, 4, 0, 2, 5, 8][size % 7]];
        let weigh = |n: u64, kind: usize| WEIGHTS.get(kind).map_or(0, |weight| weight(n));
        let backends: Vec<Entry> =
            numbers.iter().map(|(name, n, kind)| entry(*name, weigh(*n, *kind))).collect();
        for backends in [without(&backends, leaver.index(backends.len())), backends] {
            if backends.iter().any(|backend| backend.last_weight > 0) {
                prop_assert_eq!(by_shunt(&backends, slots), by_the_rule(&backends, slots));
            }
        }
    }
}

/// How many of all slots change hands beyond the ideal share of the one that leaves, in hundredths of a
/// per cent.
fn beyond_ideal(backends: &[Entry], slots: u32, leaver: usize) -> i64 {
    let (before, after) = (by_shunt(backends, slots), by_shunt(&without(backends, leaver), slots));
    let moved = before.iter().zip(&after).filter(|(was, is)| was != is).count();
    let sum: i64 = backends.iter().map(|backend| i64::from(backend.weight)).sum();
    let ideal = i64::from(backends[leaver].weight) * 10_000 / sum;
    i64::try_from(moved).unwrap() * 10_000 / i64::from(slots) - ideal
}

/// Slots, most backends, their weights, draws; what half of them stay below, 99 of 100, and all.
type Row = (u32, usize, fn(u64) -> u32, usize, [i64; 3]);

#[test]
fn what_moves_beyond_the_share_of_who_leaves_is_as_documented() {
    let [equal, some, any, powers] = WEIGHTS;
    let rows: [Row; 8] = [
        (4_093, 30, equal, 1_000, [150, 300, 2_000]),
        (4_093, 30, some, 1_000, [250, 500, 1_400]),
        (4_093, 30, any, 1_000, [600, 1_300, 1_800]),
        (4_093, 30, powers, 1_000, [300, 500, 4_500]),
        (65_521, 30, equal, 60, [100, 150, 200]),
        (65_521, 300, equal, 60, [100, 150, 200]),
        (65_521, 30, some, 60, [100, 150, 200]),
        (65_521, 30, any, 60, [300, 700, 800]),
    ];
    for (slots, most, weight, draws, bounds) in rows {
        let mut dice = Dice(88_172_645_463_325_252);
        let draw = |_| {
            let count = 2 + dice.below(most - 1);
            let backends = dice.entries(count, weight);
            beyond_ideal(&backends, slots, dice.below(count))
        };
        let mut moved: Vec<i64> = (0..draws).map(draw).collect();
        moved.sort_unstable();
        let seen = [draws / 2, draws * 99 / 100, draws - 1].map(|at| moved[at]);
        let holds = seen.iter().zip(bounds).all(|(seen, bound)| *seen <= bound);
        assert!(holds, "{slots} slots, up to {most} backends: {seen:?}, not {bounds:?}");
    }
}
