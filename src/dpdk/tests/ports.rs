//! Ports on virtual devices: what goes in comes out, what is agreed is read back, what is wrong is
//! said.

use std::ffi::c_void;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use dpdk_sys as sys;
use proptest::prelude::*;

use super::{KEY, eal, packets, pool, probe, settings};
use crate::dataplane::io::{BURST, Burst, Packet, Rx, Tx};
use crate::dpdk::burst::Queue;
use crate::dpdk::mbuf::Mbuf;
use crate::dpdk::pool::Pool;
use crate::dpdk::port::{Configured, Port, PortError, PortSettings, Probed};

fn started(device: &str, pool: &Pool, queues: u16) -> (Port, Vec<Queue>) {
    let configured = probe(device).configure(&settings(pool, queues));
    configured.and_then(Configured::start).unwrap_or_else(|e| panic!("{e}"))
}

fn refused(device: &str, change: impl FnOnce(&mut PortSettings<'_>)) -> String {
    let pool = pool(1023);
    let mut wanted = settings(&pool, 1);
    change(&mut wanted);
    probe(device).configure(&wanted).expect_err("must be refused").to_string()
}

fn frame(number: u8) -> [u8; 60] {
    let mut frame = [number; 60];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    frame
}

fn first_bytes(burst: &Burst<Mbuf>) -> Vec<u8> {
    burst.iter().map(|packet| packet.data()[59]).collect()
}

#[test]
fn what_a_looped_port_sends_it_receives_whole_and_in_order() {
    let pool = pool(1023);
    let (port, mut queues) = started("net_ring1", &pool, 1);
    let mut burst: Burst<Mbuf> =
        (0..20).map(|n| pool.packet_from(&frame(n)).expect("a buffer")).collect();
    assert_eq!(queues[0].tx(&mut burst), 20);
    assert!(burst.is_empty());
    assert_eq!(queues[0].rx(&mut burst), 20);
    assert_eq!(first_bytes(&burst), (0..20).collect::<Vec<_>>());
    assert_eq!(burst[7].data(), frame(7));
    assert!(port.link().up);
    assert_eq!((port.stats().tx_packets, port.stats().rx_packets), (20, 20));
    assert_eq!(queues[0].rx(&mut burst), 0);
}

#[test]
fn receiving_appends_behind_what_the_burst_holds_and_stops_at_its_capacity() {
    let pool = pool(1023);
    let (_port, mut queues) = started("net_ring2", &pool, 1);
    let mut out: Burst<Mbuf> =
        (0..32).map(|n| pool.packet_from(&frame(n)).expect("a buffer")).collect();
    queues[0].tx(&mut out);
    let mut burst: Burst<Mbuf> =
        (100..110).map(|n| pool.packet_from(&frame(n)).expect("a buffer")).collect();
    assert_eq!(queues[0].rx(&mut burst), BURST - 10);
    assert_eq!(first_bytes(&burst), (100..110).chain(0..22).collect::<Vec<_>>());
}

#[test]
fn what_a_full_port_does_not_take_stays_in_the_burst_in_order() {
    let pool = pool(2047);
    let (_port, mut queues) = started("net_ring3", &pool, 1);
    let mut sent = 0;
    let left = loop {
        let mut burst: Burst<Mbuf> =
            (0..32).map(|n| pool.packet_from(&frame(n)).expect("a buffer")).collect();
        sent += queues[0].tx(&mut burst);
        if !burst.is_empty() {
            break first_bytes(&burst);
        }
    };
    let first = u8::try_from(sent % 32).expect("below 32");
    assert_eq!(left, (first..32).collect::<Vec<_>>());
}

#[test]
fn a_chained_packet_is_not_sent_and_stops_the_burst() {
    let pool = pool(1023);
    let (_port, mut queues) = started("net_ring4", &pool, 1);
    let mut burst = Burst::new();
    burst.push(pool.packet_from(&frame(1)).expect("a buffer"));
    burst.push(packets::chain(&pool));
    burst.push(pool.packet_from(&frame(3)).expect("a buffer"));
    assert_eq!(queues[0].tx(&mut burst), 1);
    assert!(burst[0].rx_info().segmented);
    assert_eq!(queues[0].tx(&mut burst), 0);
    assert_eq!(burst.len(), 2);
}

#[test]
fn queues_of_one_port_are_separate_and_numbered() {
    let pool = pool(2047);
    let (_port, mut queues) = started("net_ring5", &pool, 3);
    assert_eq!(queues.iter().map(Queue::number).collect::<Vec<_>>(), [0, 1, 2]);
    let mut burst = Burst::new();
    burst.push(pool.packet_from(&frame(1)).expect("a buffer"));
    assert_eq!(queues[2].tx(&mut burst), 1);
    let received: Vec<usize> = queues.iter_mut().map(|queue| queue.rx(&mut burst)).collect();
    assert_eq!(received, [0, 0, 1]);
}

#[test]
fn rss_key_and_table_are_what_the_device_says_it_uses() {
    let pool = pool(2047);
    let (port, _queues) = started("net_null6", &pool, 3);
    let rss = port.rss().expect("the null device has RSS");
    assert_eq!(rss.key[..40], KEY);
    assert_eq!(rss.table.len(), 128);
    let expected: Vec<u16> = (0..128).map(|entry| entry % 3).collect();
    assert_eq!(rss.table[..], expected);
}

#[test]
fn a_port_without_rss_or_without_a_key_is_steered_in_software() {
    let pool = pool(2047);
    assert!(started("net_ring7", &pool, 1).0.rss().is_none());
    let wanted = PortSettings { rss_key: &[], ..settings(&pool, 1) };
    let (port, _queues) = probe("net_null7").configure(&wanted).unwrap().start().unwrap();
    assert!(port.rss().is_none());
}

#[test]
fn the_facts_say_what_was_agreed() {
    let pool = pool(1023);
    let (port, _queues) = started("net_ring8", &pool, 1);
    let facts = port.facts();
    assert_eq!((facts.driver.as_str(), facts.queues, facts.mtu), ("net_ring", 1, 1500));
    assert_eq!((facts.rx_descriptors, facts.tx_descriptors), (256, 256));
    assert!(!facts.offloads.l4_checksum);
}

/// Writes a pcap file of Ethernet frames.
fn write_pcap(path: &Path, frames: &[[u8; 60]]) {
    let mut file: Vec<u8> = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1] {
        file.extend(word.to_le_bytes());
    }
    for frame in frames {
        for word in [0, 0, 60, 60_u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    std::fs::write(path, file).expect("a temporary file");
}

#[test]
fn frames_of_a_capture_file_come_in_and_go_out_to_another() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (input, output) = (directory.path().join("in.pcap"), directory.path().join("out.pcap"));
    let frames: Vec<[u8; 60]> = (0..50).map(frame).collect();
    write_pcap(&input, &frames);
    let pool = pool(1023);
    let device = format!("net_pcap9,rx_pcap={},tx_pcap={}", input.display(), output.display());
    let (port, mut queues) = started(&device, &pool, 1);
    let mut burst = Burst::new();
    for expected in [32, 18] {
        assert_eq!(queues[0].rx(&mut burst), expected);
        assert_eq!(queues[0].tx(&mut burst), expected);
    }
    drop((port, queues));
    let written = std::fs::read(output).expect("written on close");
    let (_, records) = written.split_at(24);
    let bodies: Vec<&[u8]> = records.chunks(16 + 60).map(|record| &record[16..]).collect();
    assert_eq!(bodies, frames.iter().map(|frame| &frame[..]).collect::<Vec<_>>());
    assert_eq!(pool.available(), 1023);
}

#[test]
fn a_port_is_closed_with_its_last_queue_and_can_be_probed_again() {
    let pool = pool(1023);
    let (port, queues) = started("net_null10", &pool, 1);
    let again = || Probed::probe(eal(), "lan", "net_null10");
    let error = again().expect_err("in use");
    assert_eq!(
        error.to_string(),
        "port lan (net_null10): another port uses this device already: give each port its own"
    );
    drop(port);
    assert!(matches!(again(), Err(PortError::Claimed { .. })));
    drop(queues);
    assert_eq!(pool.available(), 1023);
    again().expect("free again");
}

#[test]
fn a_port_that_cannot_be_probed_says_why_and_what_to_check() {
    for (device, mend) in [
        ("net_nosuch0", "check the driver's name"),
        ("nonsense", "name a PCI address"),
        ("net_af_packet11,iface=no-such-if", "check that the interface in `iface=` exists"),
        ("net_pcap11,rx_pcap=/no/such.pcap", "check that the files exist"),
        ("0000:ff:1f.7", "bound to vfio-pci"),
    ] {
        let error = Probed::probe(eal(), "wan", device).expect_err(device).to_string();
        let start = format!("port wan ({device})");
        assert!(error.starts_with(&start) && error.contains(mend), "{error}");
    }
}

#[test]
fn too_few_queues_are_refused_with_the_argument_that_gives_more() {
    let error = refused("net_pcap12,iface=lo", |wanted| wanted.queues = 2);
    assert_eq!(
        error,
        "port wan (net_pcap12,iface=lo): has 1 rx queue, 2 workers need 2: \
         name 2 files, `rx_pcap=` and `tx_pcap=` once per queue"
    );
    let error = refused("net_null12", |wanted| wanted.queues = 0);
    assert!(error.contains("at least one queue"), "{error}");
}

#[test]
fn a_kernel_interface_must_have_exactly_one_queue_per_worker() {
    let error = refused("net_af_packet13,iface=lo", |wanted| wanted.queues = 2);
    assert_eq!(
        error,
        "port wan (net_af_packet13,iface=lo): has 1 rx queue, 2 workers need 2: \
         add `qpairs=2` to its device arguments"
    );
    let error = refused("net_af_packet13,iface=lo,qpairs=2", |_| ());
    assert_eq!(
        error,
        "port wan (net_af_packet13,iface=lo,qpairs=2): spreads packets over 2 rx queues, but only 1 would be read: \
         add `qpairs=1` to its device arguments"
    );
}

#[test]
fn frames_too_long_for_the_device_or_the_buffers_are_refused() {
    let error = refused("net_af_packet14,iface=lo", |wanted| wanted.mtu = 9000);
    assert!(error.contains("MTU 9000 is outside what the device carries, 68 to 1500"), "{error}");
    let longer = "net_af_packet14,iface=lo,framesz=4096,blocksz=4096,framecnt=64";
    let error = refused(longer, |wanted| wanted.mtu = 9000);
    assert!(error.contains("what the device carries, 68 to 4016"), "the ring's frames: {error}");
    let error = refused("net_ring14", |wanted| wanted.mtu = 2040);
    assert!(error.contains("frames of up to 2062 bytes, and packet buffers hold 2048"), "{error}");
    let error = refused("net_ring14", |wanted| wanted.mtu = 20);
    assert!(error.contains("MTU 20 is outside"), "{error}");
}

#[test]
fn more_descriptors_than_packet_buffers_are_refused() {
    let error = refused("net_null15", |wanted| wanted.rx_descriptors = 2048);
    assert!(error.contains("raise `packet_buffers`"), "{error}");
}

/// Cuts every packet to 10 bytes and counts the calls.
unsafe extern "C" fn shorten(
    _port: u16,
    _queue: u16,
    packets: *mut *mut sys::rte_mbuf,
    count: u16,
    _most: u16,
    calls: *mut c_void,
) -> u16 {
    // SAFETY: the test passes its counter and outlives the callback.
    unsafe { &*calls.cast::<AtomicU32>() }.fetch_add(1, Ordering::Relaxed);
    for index in 0..usize::from(count) {
        // SAFETY: DPDK passes `count` packets.
        let place = unsafe { packets.add(index) };
        // SAFETY: as above.
        let packet = unsafe { *place };
        // SAFETY: the callback owns the packets while it runs.
        unsafe { sys::rte_pktmbuf_trim(packet, 50) };
    }
    count
}

#[test]
fn a_callback_installed_from_c_sees_the_packets_until_it_is_removed() {
    let pool = pool(1023);
    let (port, mut queues) = started("net_ring16", &pool, 1);
    let calls = AtomicU32::new(0);
    let argument = std::ptr::from_ref(&calls).cast_mut().cast();
    let id = port.device.id();
    // SAFETY: a started port; `calls` outlives the callback, which is removed below.
    let callback = unsafe { sys::rte_eth_add_rx_callback(id, 0, Some(shorten), argument) };
    assert!(!callback.is_null());
    let mut lengths = Vec::new();
    for round in 0..2 {
        let mut burst = Burst::new();
        burst.push(pool.packet_from(&frame(1)).expect("a buffer"));
        queues[0].tx(&mut burst);
        queues[0].rx(&mut burst);
        lengths.push(burst[0].data().len());
        if round == 0 {
            // SAFETY: the callback installed above, on the same queue.
            unsafe { sys::rte_eth_remove_rx_callback(id, 0, callback) };
        }
    }
    assert_eq!((lengths, calls.load(Ordering::Relaxed)), (vec![10, 60], 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_order_of_sending_and_receiving_on_a_port_loses_a_buffer(
        ops in proptest::collection::vec((0..4_u8, 0..=BURST), 0..80),
    ) {
        type Shared = (Pool, Mutex<(Port, Vec<Queue>)>);
        static SHARED: OnceLock<Shared> = OnceLock::new();
        let (pool, port) = SHARED.get_or_init(|| {
            let pool = pool(1500);
            let port = started("net_ring17", &pool, 1);
            (pool, Mutex::new(port))
        });
        let mut port = port.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = &mut port.1[0];
        let mut burst: Burst<Mbuf> = Burst::new();
        let mut inside = 0;
        for (op, count) in ops {
            match op {
                0 => {
                    let spare = burst.remaining_capacity().min(count);
                    burst.extend(std::iter::from_fn(|| pool.packet_from(&frame(1))).take(spare));
                }
                1 => inside += queue.tx(&mut burst),
                2 => inside -= queue.rx(&mut burst),
                _ => burst.truncate(count),
            }
            prop_assert_eq!(pool.available() as usize, 1500 - inside - burst.len());
        }
        burst.clear();
        while queue.rx(&mut burst) > 0 {
            burst.clear();
        }
        prop_assert_eq!(pool.available(), 1500);
    }
}
