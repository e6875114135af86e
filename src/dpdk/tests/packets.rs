//! Packets: plain Rust against DPDK's own functions, and no buffer lost.

use dpdk_sys as sys;
use proptest::prelude::*;

use super::{eal, pool};
use crate::dataplane::io::{ChecksumVerdict, Packet};
use crate::dpdk::mbuf::Mbuf;
use crate::dpdk::pool::{HEADROOM, Pool, ROOM};
use crate::ids::PortId;

#[derive(Clone, Copy, Debug)]
enum Op {
    Prepend(usize),
    TrimFront(usize),
    SetLen(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let small = prop_oneof![0_usize..40, 0_usize..200, 0_usize..3000, Just(70_000)];
    (0..3, small).prop_map(|(kind, len)| match kind {
        0 => Op::Prepend(len),
        1 => Op::TrimFront(len),
        _ => Op::SetLen(len),
    })
}

/// What the operation does in Rust; did it happen?
fn ours(packet: &mut Mbuf, op: Op) -> bool {
    match op {
        Op::Prepend(len) => packet.prepend(len).map(|front| front.len()) == Some(len),
        Op::TrimFront(len) => packet.trim_front(len),
        Op::SetLen(len) => packet.set_len(len),
    }
}

/// What DPDK's functions do; did it happen? They take 16-bit lengths, so longer ones are asked for
/// as the longest.
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one reason covers all four calls")]
fn theirs(packet: &mut Mbuf, op: Op) -> bool {
    let raw = packet.raw();
    let short = |len: usize| u16::try_from(len).unwrap_or(u16::MAX);
    let now = packet.data().len();
    // SAFETY: `raw` is the packet's own buffer, exclusively borrowed.
    unsafe {
        match op {
            Op::Prepend(len) => !sys::rte_pktmbuf_prepend(raw, short(len)).is_null(),
            Op::TrimFront(len) => !sys::rte_pktmbuf_adj(raw, short(len)).is_null(),
            Op::SetLen(len) if len >= now => {
                !sys::rte_pktmbuf_append(raw, short(len - now)).is_null()
            }
            Op::SetLen(len) => sys::rte_pktmbuf_trim(raw, short(now - len)) == 0,
        }
    }
}

/// Everything the operations may change, as DPDK sees it.
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one reason covers all the reads")]
fn state(packet: &Mbuf) -> (u16, u16, u32, u16, u16, usize) {
    let raw = packet.raw();
    // SAFETY: `raw` is the packet's own buffer; the functions only read it.
    unsafe {
        let data = sys::shim_mbuf_data(raw).addr() - (*raw).buf_addr.addr();
        let room = (sys::rte_pktmbuf_headroom(raw), sys::rte_pktmbuf_tailroom(raw));
        (room.0, room.1, (*raw).pkt_len, (*raw).data_len, (*raw).nb_segs, data)
    }
}

fn shared_pool() -> &'static Pool {
    static POOL: std::sync::OnceLock<Pool> = std::sync::OnceLock::new();
    POOL.get_or_init(|| pool(64))
}

proptest! {
    #[test]
    fn every_operation_does_to_a_packet_what_dpdks_own_function_does(
        length in 0_usize..=usize::from(ROOM),
        ops in proptest::collection::vec(op(), 0..30),
    ) {
        let mut a = shared_pool().alloc().expect("a buffer");
        let mut b = shared_pool().alloc().expect("a buffer");
        prop_assert_eq!(ours(&mut a, Op::SetLen(length)), theirs(&mut b, Op::SetLen(length)));
        for op in ops {
            prop_assert_eq!(ours(&mut a, op), theirs(&mut b, op), "{:?}", op);
            prop_assert_eq!(state(&a), state(&b), "{:?}", op);
            prop_assert_eq!(a.headroom(), usize::from(state(&b).0));
            prop_assert_eq!(a.tailroom(), usize::from(state(&b).1));
            prop_assert_eq!(a.data().as_ptr().addr(), a.data_mut().as_ptr().addr());
        }
    }

    #[test]
    fn bytes_survive_growing_and_cutting_at_the_front(frame in proptest::collection::vec(any::<u8>(), 1..500)) {
        let mut packet = shared_pool().packet_from(&frame).expect("a buffer");
        packet.prepend(20).expect("headroom").fill(9);
        prop_assert_eq!(&packet.data()[..20], &[9; 20]);
        prop_assert_eq!(&packet.data()[20..], &frame[..]);
        prop_assert!(packet.trim_front(20));
        prop_assert_eq!(packet.data(), &frame[..]);
    }
}

#[test]
fn a_fresh_buffer_is_empty_with_the_headroom_in_front_and_the_room_behind() {
    let packet = shared_pool().alloc().expect("a buffer");
    assert_eq!(packet.data().len(), 0);
    assert_eq!((packet.headroom(), packet.tailroom()), (HEADROOM.into(), ROOM.into()));
    assert_eq!(packet.rx_info().ip_checksum, ChecksumVerdict::Unknown);
    assert!(!packet.rx_info().segmented);
    assert_eq!(packet.rss_hash(), None);
}

#[test]
fn the_port_of_a_packet_is_what_was_set_for_every_port_there_can_be() {
    let mut packet = shared_pool().alloc().expect("a buffer");
    for port in 0..=u8::MAX {
        packet.set_port(PortId(port));
        assert_eq!(packet.port(), PortId(port));
    }
}

#[test]
fn a_tag_is_what_was_set_until_the_buffer_arrives_anew() {
    let pool = pool(1);
    let mut packet = pool.alloc().expect("the buffer");
    packet.set_port(PortId(255));
    assert_eq!(packet.tag(), 0);
    for tag in [7, 0, u32::MAX] {
        packet.set_tag(tag);
        assert_eq!((packet.tag(), packet.port()), (tag, PortId(255)));
    }
    drop(packet);
    let mut again = pool.alloc().expect("the same buffer");
    assert_eq!(again.tag(), 0, "as allocation leaves it");
    // SAFETY: the packet's own buffer; a driver that receives writes its number there.
    unsafe { (*again.raw()).port = 3 };
    assert_eq!(again.tag(), 0, "as the driver leaves it");
    again.set_tag(8);
    again.set_port(PortId(1));
    assert_eq!((again.tag(), again.port()), (0, PortId(1)), "as the worker leaves it");
}

#[test]
fn a_tag_takes_the_place_of_the_ports_hash() {
    let mut packet = shared_pool().alloc().expect("a buffer");
    // SAFETY: the packet's own buffer, as a driver with RSS fills it.
    unsafe { (*packet.raw()).ol_flags = sys::RTE_MBUF_F_RX_RSS_HASH | sys::RTE_MBUF_F_RX_VLAN };
    assert!(packet.rss_hash().is_some());
    packet.set_tag(5);
    assert_eq!(packet.rss_hash(), None);
    // SAFETY: the packet's own buffer.
    assert_eq!(unsafe { (*packet.raw()).ol_flags }, sys::RTE_MBUF_F_RX_VLAN, "nothing else");
}

#[test]
fn a_sibling_is_fresh_from_the_same_pool_and_of_the_same_port() {
    let pool = pool(2);
    let mut packet = pool.packet_from(&[1; 60]).expect("a buffer");
    packet.set_port(PortId(4));
    packet.set_tag(9);
    assert!(packet.prepend(100).is_some());
    let sibling = packet.sibling().expect("the other buffer");
    assert_eq!((sibling.data().len(), sibling.port(), sibling.tag()), (0, PortId(4), 0));
    assert_eq!((sibling.headroom(), sibling.tailroom()), (HEADROOM.into(), ROOM.into()));
    assert!(packet.sibling().is_none(), "the pool is empty");
    drop(sibling);
    assert_eq!(pool.available(), 1);
}

#[test]
fn checksum_verdicts_are_read_from_the_flags_dpdk_defines() {
    use ChecksumVerdict::{Bad, Good, Unknown};
    let ip = [
        (sys::RTE_MBUF_F_RX_IP_CKSUM_UNKNOWN, Unknown),
        (sys::RTE_MBUF_F_RX_IP_CKSUM_GOOD, Good),
        (sys::RTE_MBUF_F_RX_IP_CKSUM_BAD, Bad),
        (sys::RTE_MBUF_F_RX_IP_CKSUM_NONE, Unknown),
    ];
    let l4 = [
        (sys::RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN, Unknown),
        (sys::RTE_MBUF_F_RX_L4_CKSUM_GOOD, Good),
        (sys::RTE_MBUF_F_RX_L4_CKSUM_BAD, Bad),
        (sys::RTE_MBUF_F_RX_L4_CKSUM_NONE, Unknown),
    ];
    let packet = shared_pool().alloc().expect("a buffer");
    for (ip_flags, ip_checksum) in ip {
        for (l4_flags, l4_checksum) in l4 {
            // SAFETY: the packet's own buffer.
            unsafe { (*packet.raw()).ol_flags = ip_flags | l4_flags | sys::RTE_MBUF_F_RX_VLAN };
            let info = packet.rx_info();
            assert_eq!((info.ip_checksum, info.l4_checksum), (ip_checksum, l4_checksum));
        }
    }
}

/// A frame in two buffers, as a driver with small buffers makes them.
pub(super) fn chain(pool: &Pool) -> Mbuf {
    let head = pool.packet_from(&[1; 100]).expect("a buffer");
    let tail = pool.packet_from(&[2; 50]).expect("a buffer");
    // SAFETY: both are ours; `head` owns `tail` from here on.
    assert_eq!(unsafe { sys::rte_pktmbuf_chain(head.raw(), tail.raw()) }, 0);
    std::mem::forget(tail);
    head
}

#[test]
fn a_chain_says_so_keeps_its_total_and_frees_all_its_links() {
    let pool = pool(8);
    let mut packet = chain(&pool);
    assert!(packet.rx_info().segmented);
    assert_eq!((packet.data(), state(&packet).2), (&[1; 100][..], 150));
    assert!(packet.trim_front(10) && packet.prepend(30).is_some() && packet.set_len(70));
    assert_eq!(state(&packet).2, 70 + 50);
    assert_eq!(pool.available(), 6);
    drop(packet);
    assert_eq!(pool.available(), 8);
}

#[test]
fn an_empty_pool_answers_none_until_a_packet_comes_home() {
    let pool = pool(4);
    let mut packets: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(packets.len(), 4);
    assert!(pool.packet_from(&[0; 60]).is_none());
    packets.pop();
    assert!(pool.packet_from(&[0; 60]).is_some());
}

#[test]
fn a_frame_longer_than_a_buffer_is_refused_and_the_buffer_not_lost() {
    let pool = pool(4);
    assert!(pool.packet_from(&[0; ROOM as usize]).is_some());
    assert!(pool.packet_from(&[0; ROOM as usize + 1]).is_none());
    assert_eq!(pool.available(), 4);
}

#[test]
fn impossible_pools_are_refused_with_the_limits() {
    for (buffers, room) in [(0, ROOM), (16, 0), (16, u16::MAX)] {
        let error = Pool::new(eal(), buffers, room).expect_err("impossible");
        assert!(error.to_string().contains("64 to 65407"), "{error}");
    }
    let error = Pool::new(eal(), 50_000_000, ROOM).expect_err("110 GB");
    assert!(error.to_string().contains("raise `memory_mb`"), "{error}");
}

#[test]
fn registered_threads_cache_buffers_and_lose_none() {
    let pool = pool(2047);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let _registration = eal().register_thread().expect("room");
                for round in 0..200 {
                    let held: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc()).take(round).collect();
                    assert_eq!(held.len(), round);
                }
            });
        }
    });
    assert_eq!(pool.available(), 2047);
}
