//! Lanes: order, limits, and no buffer lost in any order of operations.

use proptest::prelude::*;

use super::{eal, pool};
use crate::dataplane::io::{BURST, Burst, Packet, Rx, Tx};
use crate::dpdk::mbuf::Mbuf;
use crate::dpdk::pool::Pool;
use crate::dpdk::ring::{CAPACITY_MAX, Receiver, Sender, lane};

fn numbered(pool: &Pool, number: u64) -> Mbuf {
    pool.packet_from(&number.to_be_bytes()).expect("a buffer")
}

fn number(packet: &Mbuf) -> u64 {
    u64::from_be_bytes(packet.data().try_into().expect("eight bytes"))
}

#[test]
fn a_full_lane_takes_what_fits_and_leaves_the_rest_in_order() {
    let pool = pool(64);
    let (mut sender, mut receiver) = lane(eal(), 20).expect("memory");
    assert_eq!(sender.capacity(), 20);
    let mut burst: Burst<Mbuf> = (0..32).map(|n| numbered(&pool, n)).collect();
    assert_eq!(sender.tx(&mut burst), 20);
    assert_eq!(burst.iter().map(number).collect::<Vec<_>>(), (20..32).collect::<Vec<_>>());
    assert_eq!(sender.tx(&mut burst), 0);
    assert_eq!((burst.len(), sender.len(), receiver.len()), (12, 20, 20));
    assert_eq!(receiver.rx(&mut burst), 20);
    let order: Vec<u64> = (20..32).chain(0..20).collect();
    assert_eq!(burst.iter().map(number).collect::<Vec<_>>(), order);
    assert!(receiver.is_empty() && sender.is_empty());
}

#[test]
fn sending_all_or_nothing_sends_nothing_when_one_does_not_fit() {
    let pool = pool(64);
    let (mut sender, receiver) = lane(eal(), 20).expect("memory");
    let mut burst: Burst<Mbuf> = (0..21).map(|n| numbered(&pool, n)).collect();
    assert!(!sender.send_all(&mut burst));
    assert_eq!((burst.len(), receiver.len()), (21, 0));
    burst.pop();
    assert!(sender.send_all(&mut burst));
    assert_eq!((burst.len(), receiver.len()), (0, 20));
}

#[test]
fn packets_left_in_a_lane_are_freed_with_its_last_end() {
    let pool = pool(64);
    let (mut sender, receiver) = lane(eal(), 50).expect("memory");
    let mut burst: Burst<Mbuf> = (0..32).map(|n| numbered(&pool, n)).collect();
    sender.tx(&mut burst);
    drop(receiver);
    assert_eq!(pool.available(), 32);
    drop(sender);
    assert_eq!(pool.available(), 64);
}

#[test]
fn a_lane_of_no_or_too_many_packets_is_refused() {
    for capacity in [0, CAPACITY_MAX + 1] {
        let error = lane(eal(), capacity).expect_err("impossible");
        assert!(error.to_string().contains("between 1 and"), "{error}");
    }
    let error = lane(eal(), CAPACITY_MAX).expect_err("8 GB");
    assert!(error.to_string().contains("raise `memory_mb`"), "{error}");
}

#[test]
fn two_threads_see_every_packet_once_and_in_order() {
    const PACKETS: u64 = 50_000;
    let pool = pool(511);
    let (mut sender, mut receiver) = lane(eal(), 100).expect("memory");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut burst = Burst::new();
            let mut next = 0;
            while next < PACKETS || !burst.is_empty() {
                while next < PACKETS && !burst.is_full() {
                    let Some(packet) = pool.packet_from(&next.to_be_bytes()) else { break };
                    burst.push(packet);
                    next += 1;
                }
                if sender.tx(&mut burst) == 0 {
                    std::thread::yield_now();
                }
            }
        });
        let mut burst = Burst::new();
        let mut next = 0;
        while next < PACKETS {
            if receiver.rx(&mut burst) == 0 {
                std::thread::yield_now();
            }
            for packet in burst.drain(..) {
                assert_eq!(number(&packet), next);
                next += 1;
            }
        }
    });
    assert_eq!(pool.available(), 511);
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Fill(usize),
    Send,
    SendAll,
    Receive,
    Drop(usize),
    Swap,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..=BURST).prop_map(Op::Fill),
        Just(Op::Send),
        Just(Op::SendAll),
        Just(Op::Receive),
        (0..=BURST).prop_map(Op::Drop),
        Just(Op::Swap),
    ]
}

fn apply(op: Op, pool: &Pool, ends: &mut (Sender, Receiver), bursts: &mut [Burst<Mbuf>; 2]) {
    match op {
        Op::Fill(count) => {
            let spare = bursts[0].remaining_capacity();
            bursts[0].extend(std::iter::from_fn(|| pool.alloc()).take(count.min(spare)));
        }
        Op::Send => {
            ends.0.tx(&mut bursts[0]);
        }
        Op::SendAll => {
            let fits = ends.0.len() + bursts[0].len() <= ends.0.capacity();
            assert_eq!(ends.0.send_all(&mut bursts[0]), fits);
        }
        Op::Receive => {
            ends.1.rx(&mut bursts[0]);
        }
        Op::Drop(keep) => bursts[0].truncate(keep),
        Op::Swap => bursts.swap(0, 1),
    }
}

proptest! {
    #[test]
    fn no_order_of_filling_sending_receiving_and_dropping_loses_a_buffer(
        capacity in 1_u32..70,
        ops in proptest::collection::vec(op(), 0..60),
    ) {
        static POOL: std::sync::OnceLock<Pool> = std::sync::OnceLock::new();
        let pool = POOL.get_or_init(|| pool(100));
        {
            let mut ends = lane(eal(), capacity).expect("memory");
            let mut bursts = [Burst::new(), Burst::new()];
            for op in ops {
                apply(op, pool, &mut ends, &mut bursts);
                let out = ends.0.len() + bursts[0].len() + bursts[1].len();
                prop_assert_eq!(pool.available() as usize, 100 - out);
            }
        }
        prop_assert_eq!(pool.available(), 100);
    }
}
