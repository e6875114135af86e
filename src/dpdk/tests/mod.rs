//! DPDK under test, on virtual devices and ordinary pages: one EAL per process, however many
//! tests share it.

use std::sync::OnceLock;

use super::eal::{Eal, EalOptions};
use super::memory::HugePages;
use super::pool::{Pool, ROOM};
use super::port::{PortSettings, Probed};

mod lanes;
mod packets;
mod ports;

/// The EAL all tests of this process share. Never ended.
pub(crate) fn eal() -> &'static Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    EAL.get_or_init(|| {
        let options = EalOptions {
            huge_pages: HugePages::Never,
            memory_mb: 256,
            file_prefix: format!("shunt-unit-{}", std::process::id()),
            secondary_processes: false,
            devices: Vec::new(),
            extra: Vec::new(),
        };
        Eal::start(&options).expect("EAL starts on ordinary pages")
    })
}

/// A small pool of one test's own, so that it can count.
pub(crate) fn pool(buffers: u32) -> Pool {
    Pool::new(eal(), buffers, ROOM).expect("memory for a small pool")
}

/// A key that is neither symmetric nor regular: the one of Microsoft's RSS verification suite.
const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

fn settings(pool: &Pool, queues: u16) -> PortSettings<'_> {
    PortSettings {
        queues,
        rx_descriptors: 256,
        tx_descriptors: 256,
        mtu: 1500,
        tag_room: 0,
        rss_key: &KEY,
        promiscuous: true,
        pool,
    }
}

fn probe(device: &str) -> Probed {
    Probed::probe(eal(), "wan", device).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_second_start_of_eal_is_refused_with_a_sentence() {
    eal();
    let error = Eal::start(&EalOptions::default()).expect_err("once per process");
    assert!(error.to_string().contains("starts once: keep the handle"), "{error}");
}

#[test]
fn the_description_says_version_memory_and_prefix() {
    let text = eal().description();
    assert!(text.starts_with("DPDK 2"), "{text}");
    assert!(text.contains("256 MB on ordinary pages"), "{text}");
    assert!(text.contains("shunt-unit-"), "{text}");
}

#[test]
fn starting_eal_pins_neither_the_calling_thread_nor_its_children() {
    let before = super::lcore::usable_cpus().expect("readable");
    eal();
    assert_eq!(super::lcore::usable_cpus().expect("readable"), before);
    let child = std::thread::spawn(super::lcore::usable_cpus).join().expect("no panic");
    assert_eq!(child.expect("readable"), before);
}

#[test]
fn a_thread_registers_once_and_is_forgotten_when_the_guard_goes() {
    std::thread::spawn(|| {
        let first = eal().register_thread().expect("room");
        let error = eal().register_thread().expect_err("twice");
        assert!(error.to_string().contains("registered with EAL already"), "{error}");
        let number = first.number();
        drop(first);
        assert_eq!(eal().register_thread().expect("room again").number(), number);
    })
    .join()
    .expect("no panic");
}

/// Does not compile if the type implements the trait: the call would be ambiguous.
macro_rules! must_not_implement {
    ($type:ty, $trait:path) => {{
        trait Ambiguous<Tag> {
            fn check() {}
        }
        impl<T: ?Sized> Ambiguous<()> for T {}
        impl<T: ?Sized + $trait> Ambiguous<u8> for T {}
        <$type as Ambiguous<_>>::check();
    }};
}

#[test]
fn what_a_thread_may_not_do_does_not_compile() {
    fn may_move_to_another_thread<T: Send>() {}
    fn may_be_shared<T: Send + Sync + Clone>() {}
    use crate::dpdk::{burst::Queue, lcore::Registration, mbuf::Mbuf, ring};

    must_not_implement!(Registration, Send);
    must_not_implement!(Queue, Sync);
    must_not_implement!(Queue, Clone);
    must_not_implement!(ring::Sender, Clone);
    must_not_implement!(ring::Receiver, Clone);
    must_not_implement!(Mbuf, Clone);
    may_move_to_another_thread::<(Queue, ring::Sender, ring::Receiver, Mbuf)>();
    may_be_shared::<(Eal, Pool)>();
}
