//! EAL's beginning and end, each in a process of its own: a test runs its body in a child, which is
//! this same program asked for the one test.

#![expect(clippy::expect_used, reason = "tests say by panicking what is wrong")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use shunt::dataplane::access::{ListSet, Listed, Membership, Network};
use shunt::dataplane::io::{Burst, Packet, Rx, Tx};
use shunt::dpdk::eal::{Eal, EalError, EalOptions};
use shunt::dpdk::fib::{Fib4, Fib6, FibError};
use shunt::dpdk::mbuf::Mbuf;
use shunt::dpdk::memory::HugePages;
use shunt::dpdk::pool::{Pool, ROOM};
use shunt::dpdk::port::{PortSettings, Probed};
use shunt::dpdk::ring::lane;

/// Tells the child which body to run.
const CHILD: &str = "SHUNT_TEST_CHILD";

/// Runs `body` in a child process and returns what became of it; does not return in the child.
fn in_child(test: &str, body: impl FnOnce()) -> Output {
    if std::env::var(CHILD).is_ok_and(|name| name == test) {
        body();
        std::process::exit(0);
    }
    let program = std::env::current_exe().expect("a test is a program");
    let arguments = [test, "--exact", "--nocapture"];
    Command::new(program).args(arguments).env(CHILD, test).output().expect("it starts again")
}

/// [`in_child`], and the child must end well; returns what it printed.
fn succeeds(test: &str, body: impl FnOnce()) -> String {
    let output = in_child(test, body);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}\n{text}\n{errors}", output.status);
    text
}

fn prefix(pid: u32) -> String {
    format!("shunt-test-{pid}")
}

fn options(huge_pages: HugePages) -> EalOptions {
    let file_prefix = prefix(std::process::id());
    EalOptions { huge_pages, memory_mb: 64, file_prefix, ..EalOptions::default() }
}

fn start() -> Eal {
    Eal::start(&options(HugePages::Never)).expect("EAL starts on ordinary pages")
}

#[test]
fn a_packet_may_outlive_its_pool_and_eal() {
    succeeds("a_packet_may_outlive_its_pool_and_eal", || {
        let eal = start();
        let pool = Pool::new(&eal, 255, ROOM).expect("memory");
        let mut packet = pool.packet_from(&[7; 60]).expect("a buffer");
        drop((pool, eal));
        packet.data_mut()[0] = 8;
        assert!(packet.set_len(100));
        assert_eq!(packet.data()[..2], [8, 7]);
        drop(packet);
    });
}

#[test]
fn packets_in_a_lane_may_outlive_everything_else() {
    succeeds("packets_in_a_lane_may_outlive_everything_else", || {
        let eal = start();
        let pool = Pool::new(&eal, 255, ROOM).expect("memory");
        let (mut sender, mut receiver) = lane(&eal, 10).expect("memory");
        let mut burst: Burst<Mbuf> =
            (0..10).map(|_| pool.packet_from(&[7; 60]).expect("a buffer")).collect();
        sender.tx(&mut burst);
        drop((pool, eal, sender));
        assert_eq!(receiver.rx(&mut burst), 10);
        drop(receiver);
        assert!(burst.iter().all(|packet| packet.data() == [7; 60]));
    });
}

/// A number that looks random and is the same in every run.
fn scrambled(n: u64) -> u64 {
    (n ^ 0x5eed)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

#[expect(clippy::cast_possible_truncation, reason = "bits are what is wanted")]
fn v4(n: u64, length: u8) -> Network {
    let address = Ipv4Addr::from_bits(scrambled(n) as u32 & 0x3fff_ffff);
    let bits = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0) & address.to_bits();
    Network { base: Ipv4Addr::from_bits(bits).into(), length, lists: ListSet(n as u16 & 0x7ff | 1) }
}

#[expect(clippy::cast_possible_truncation, reason = "bits are what is wanted")]
fn v6(n: u64, length: u8) -> Network {
    let high = u128::from(0x2001_0db8_0000_0000 | scrambled(n) & 0x3_ffff_ffff) << 64;
    let bits = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    let base = Ipv6Addr::from_bits((high | u128::from(scrambled(!n))) & bits);
    Network { base: base.into(), length, lists: ListSet(n as u16 & 0x7ff | 1) }
}

/// The numbers both tables give to an address.
fn number(tables: &(Fib4, Fib6), address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(address) => tables.0.lookup(address),
        IpAddr::V6(address) => tables.1.lookup(address),
    }
}

fn tables(eal: &Eal, networks: &[Network]) -> Result<(Fib4, Fib6), FibError> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for Network { base, length, lists } in networks {
        match base {
            IpAddr::V4(base) => v4.push((*base, *length, lists.0)),
            IpAddr::V6(base) => v6.push((*base, *length, lists.0)),
        }
    }
    Ok((Fib4::new(eal, &v4)?, Fib6::new(eal, &v6)?))
}

fn roomy() -> Eal {
    let options = EalOptions { memory_mb: 900, ..options(HugePages::Never) };
    Eal::start(&options).expect("EAL starts on ordinary pages")
}

#[test]
fn a_network_table_answers_as_a_search_of_all_networks_does() {
    succeeds("a_network_table_answers_as_a_search_of_all_networks_does", || {
        let eal = roomy();
        let lengths = [0, 1, 7, 8, 16, 23, 24, 25, 31, 32].into_iter();
        let mut networks: Vec<Network> =
            lengths.flat_map(|length| (0..30).map(move |n| v4(n, length))).collect();
        let lengths = [0, 3, 24, 25, 32, 47, 48, 56, 64, 65, 127, 128].into_iter();
        networks.extend(lengths.flat_map(|length| (0..30).map(move |n| v6(n, length))));
        networks.sort_by_key(|network| (network.base, network.length));
        networks.dedup_by_key(|network| (network.base, network.length));
        let (tables, listed) = (tables(&eal, &networks).expect("memory"), Listed(networks.clone()));
        let random = (0..3_000).flat_map(|n| [v4(n, 32).base, v6(n, 128).base]);
        let edges = networks.iter().map(|network| network.base);
        for address in edges.chain(random) {
            assert_eq!(number(&tables, address), listed.lists_of(address).0, "{address}");
        }
    });
}

#[test]
fn an_empty_network_table_knows_nobody() {
    succeeds("an_empty_network_table_knows_nobody", || {
        let tables = tables(&roomy(), &[]).expect("memory");
        for address in ["192.0.2.1", "255.255.255.255", "::", "2001:db8::1"] {
            assert_eq!(number(&tables, address.parse().expect("an address")), 0, "{address}");
        }
    });
}

/// As a large operator's: most are /24 or shorter, a third are single addresses in some thousand
/// networks.
#[test]
fn a_million_networks_fit_and_are_found() {
    let output = succeeds("a_million_networks_fit_and_are_found", || {
        let eal = roomy();
        let network = |n: u64| if n % 3 > 0 { v4(n, 24) } else { v4(n % 900_000, 32) };
        let entry = |it: Network| match it.base {
            IpAddr::V4(base) => Some((base, it.length, 1)),
            IpAddr::V6(_) => None,
        };
        let entries: Vec<_> = (0..1_000_000).map(network).filter_map(entry).collect();
        let started = Instant::now();
        let table = Fib4::new(&eal, &entries).expect("memory");
        println!("a million networks in {:?}", started.elapsed());
        assert!(entries.iter().all(|(base, _, _)| table.lookup(*base) == 1));
    });
    assert!(output.contains("a million networks in"), "{output}");
}

#[test]
fn networks_that_do_not_fit_are_refused_and_leave_nothing_behind() {
    succeeds("networks_that_do_not_fit_are_refused_and_leave_nothing_behind", || {
        let eal = roomy();
        let many: Vec<_> =
            (0..4_000_000_u32).map(|n| (Ipv4Addr::from_bits(n << 8), 32, 1)).collect();
        let error = Fib4::new(&eal, &many).expect_err("4 GB");
        assert!(error.to_string().contains("raise `memory_mb`"), "{error}");
        for _ in 0..20 {
            Fib4::new(&eal, &many[..10]).expect("the memory is free again");
        }
    });
}

/// Everything at once, then nothing: pools, a port, a lane and registered threads.
fn use_everything(eal: &Eal) {
    let pool = Pool::new(eal, 2047, ROOM).expect("memory");
    let settings = PortSettings {
        queues: 1,
        rx_descriptors: 128,
        tx_descriptors: 128,
        mtu: 1500,
        tag_room: 0,
        rss_key: &[],
        promiscuous: false,
        pool: &pool,
    };
    let port = Probed::probe(eal, "loop", "net_ring0").expect("a virtual device");
    let port = port.configure(&settings).expect("one queue");
    let (_port, mut queues) = port.start().expect("nothing in the way");
    let (mut sender, mut receiver) = lane(eal, 64).expect("memory");
    std::thread::scope(|scope| {
        let (queue, pool) = (&mut queues[0], &pool);
        scope.spawn(move || {
            let _registration = eal.register_thread().expect("room");
            let mut burst: Burst<Mbuf> =
                (0..32).map(|_| pool.packet_from(&[1; 60]).expect("a buffer")).collect();
            assert_eq!(queue.tx(&mut burst), 32);
            assert_eq!(queue.rx(&mut burst), 32);
            assert_eq!(sender.tx(&mut burst), 32);
        });
        scope.spawn(move || {
            let _registration = eal.register_thread().expect("room");
            let mut burst = Burst::new();
            while burst.is_empty() {
                receiver.rx(&mut burst);
            }
        });
    });
}

#[test]
fn eal_ends_when_nothing_is_left_and_does_not_start_again() {
    succeeds("eal_ends_when_nothing_is_left_and_does_not_start_again", || {
        let eal = start();
        use_everything(&eal);
        drop(eal);
        let error = Eal::start(&options(HugePages::Never)).expect_err("once per process");
        assert!(matches!(error, EalError::AlreadyStarted));
    });
}

#[test]
fn arguments_eal_does_not_know_are_an_error_that_names_them() {
    let body = || {
        let extra = vec!["--no-such-argument".to_owned()];
        let error = Eal::start(&EalOptions { extra, ..options(HugePages::Never) });
        println!("said: {}", error.expect_err("no such argument"));
    };
    let text = succeeds("arguments_eal_does_not_know_are_an_error_that_names_them", body);
    assert!(text.contains("said: EAL did not start: "), "{text}");
    assert!(text.contains("--no-such-argument"), "{text}");
}

#[test]
fn huge_pages_are_used_when_free_and_a_killed_process_leaves_no_file() {
    let output =
        in_child("huge_pages_are_used_when_free_and_a_killed_process_leaves_no_file", || {
            let required = Eal::start(&options(HugePages::Require));
            let (eal, expected) = match required {
                Ok(eal) => (eal, "64 MB on huge pages"),
                Err(EalError::NoHugePages { .. }) => {
                    let eal = Eal::start(&options(HugePages::Auto)).expect("falls back");
                    (eal, "64 MB on ordinary pages")
                }
                Err(other) => panic!("{other}"),
            };
            assert!(eal.description().contains(expected), "{}", eal.description());
            use_everything(&eal);
            println!("pid {}.", std::process::id());
            let _ = Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
            std::thread::sleep(Duration::from_secs(5));
        });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), Some(9), "{}\n{text}\n{errors}", output.status);
    let pid = text.split("pid ").nth(1).and_then(|rest| rest.split('.').next()).expect("printed");
    for directory in ["/var/run/dpdk", "/run/dpdk", "/tmp/dpdk", "/dev/hugepages"] {
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            assert!(!name.contains(&prefix(pid.parse().expect("a number"))), "{directory}/{name}");
        }
    }
}
