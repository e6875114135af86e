//! The reader against tables: what is accepted, what is refused, and in which words.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::dataplane::snapshot::{
    ClientAddress, IcmpOnEnd, Limit, Mode, Ping, Protocol, Restarts, Scheduler, ServiceAddress,
    Strays, SynCookies, Timeouts,
};
use crate::ids::limits;
use plan::{Backend, Daemon, Device, HugePages, Link, Port, Service};

mod admin;
mod checks;
mod clients;
mod cookies;
mod daemon;
mod described;
mod families;
mod lists;
mod modes;
mod odd;
mod persistence;
mod ports;
mod protocols;
mod quotas;
mod services;
mod shape;
mod sloppy;
mod timeouts;
mod vlans;
mod whole;

/// A good file; every row of the tables is one edit away from it.
const BASE: &str = include_str!("base.toml");
const SAMPLE: &str = include_str!("../../../../dpdk-config/shunt.toml");
const DOCUMENTATION: &str = include_str!("../../../../docs/configuration.md");

/// One edit of the good file, and all that is said about it.
struct Row {
    name: &'static str,
    /// The first occurrence of one text in [`BASE`], replaced by another.
    edit: (&'static str, &'static str),
    /// The rendered messages, line by line.
    says: &'static [&'static str],
}

fn read(text: &str) -> Result<Reading, ConfigErrors> {
    parse_for(text, Path::new("shunt.toml"), &Machine::with_cpus(16))
}

fn refusal(text: &str) -> String {
    read(text).expect_err("this text must be refused").to_string()
}

fn edited(row: &Row) -> String {
    let (from, to) = row.edit;
    assert!(BASE.contains(from), "{}: the good file has no {from:?}", row.name);
    BASE.replacen(from, to, 1)
}

#[test]
fn every_refusal_says_what_is_wrong_and_where() {
    let tables = [
        shape::ROWS,
        daemon::ROWS,
        admin::ROWS,
        ports::ROWS,
        services::ROWS,
        modes::ROWS,
        vlans::ROWS,
        families::ROWS,
        clients::ROWS,
        protocols::ROWS,
        cookies::ROWS,
        sloppy::ROWS,
        quotas::ROWS,
        persistence::ROWS,
        lists::ROWS,
        timeouts::ROWS,
        checks::ROWS,
    ];
    let mut wrong = String::new();
    for row in tables.into_iter().flatten() {
        let said = read(&edited(row)).map_or_else(|errors| errors.to_string(), |_| "ok".into());
        if said != row.says.join("\n") {
            let expected = row.says.join("\n");
            writeln!(wrong, "{}:\n{said}\nexpected:\n{expected}\n", row.name).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_oddity_is_warned_of_and_used() {
    for row in odd::ROWS {
        let reading = read(&edited(row)).unwrap_or_else(|errors| panic!("{}: {errors}", row.name));
        assert_eq!(reading.warnings.join("\n"), row.says.join("\n"), "{}", row.name);
    }
}

/// A backend of which the file says nothing but its address.
fn plain(address: SocketAddr) -> Backend {
    let (limit, mode) = (Limit::NONE, Mode::Fullnat);
    Backend { address, weight: 1, limit, quic_server_id: None, sorry: false, mode }
}

#[test]
fn a_good_file_becomes_this_plan_with_these_defaults() {
    let socket = |text: &str| text.parse::<SocketAddr>().unwrap();
    let service = |name: &str, protocol, address, backend| Service {
        name: name.into(),
        protocol,
        address: ServiceAddress::one(socket(address).ip(), socket(address).port()),
        scheduler: Scheduler::WRR,
        local_addresses: vec!["10.44.0.2".parse().unwrap()],
        backends: vec![plain(socket(backend))],
        ..Service::default()
    };
    let port = |name: &str, device: &str, address: &str| Port {
        name: name.into(),
        link: Link::Device(Device {
            device: device.into(),
            rx_descriptors: 1024,
            tx_descriptors: 1024,
        }),
        tap: name.into(),
        addresses: vec![(address.parse().unwrap(), 24)],
        routes: Vec::new(),
        mtu: 1500,
        line: plan::Line::default(),
    };
    let mut wan = port("wan", "0000:3b:00.0", "192.0.2.1");
    wan.routes.push(("0.0.0.0".parse().unwrap(), 0, "192.0.2.254".parse().unwrap()));
    let plan = Plan {
        daemon: Daemon {
            worker_cores: vec![1, 2],
            control_core: None,
            busy_poll: false,
            idle_sleep: Duration::ZERO,
            connections_max: 1_000_000,
            connections_ipv6_max: 1_000_000,
            persistent_clients_max: 65_536,
            cookie_connections_max: 65_536,
            limited_sources_max: 65_536,
            packet_buffers: 32_768,
            admin_socket: "/run/shunt/admin.sock".into(),
            metrics_listen: Some("127.0.0.1:9150".parse().unwrap()),
            huge_pages: HugePages::Auto,
            memory_mb: 512,
            file_prefix: "shunt".into(),
            secondary_processes: false,
            eal_arguments: Vec::new(),
        },
        remote: None,
        ports: vec![wan, port("lan", "net_tap0,iface=x", "10.44.0.1")],
        timeouts: Timeouts::default(),
        strays: Strays::Reject,
        drop_malformed_tcp: false,
        udp_reflection_ports: vec![],
        restarts: Restarts::Closed,
        reset_on_end: true,
        icmp_on_end: IcmpOnEnd::Always,
        ping: Ping::Always,
        tunnels_ignore_df: false,
        local_out: false,
        directors: vec![],
        punt_per_second: 20_000,
        drain_deadline: Duration::from_secs(30),
        lists: vec![],
        deny: vec![],
        services: vec![
            service("web", Protocol::Tcp, "198.51.100.10:80", "10.44.0.11:8080"),
            service("dns", Protocol::Udp, "198.51.100.10:53", "10.44.0.21:53"),
        ],
    };
    let reading = read(BASE).unwrap();
    assert_eq!(reading.plan, plan);
    assert_eq!(reading.warnings, Vec::<String>::new());
}

#[test]
fn every_value_written_arrives_where_it_belongs() {
    let text = r#"
        [shunt]
        workers = [3, 1]
        control_core = 0
        busy_poll = true
        idle_sleep_us = 50
        admin_socket = "/tmp/x.sock"
        drain_deadline_s = 0
        strays = "drop"
        syn_restarts = "closing"
        reset_on_end = false
        icmp_on_end = "removal"
        ping = "live"
        tunnels_ignore_df = true
        directors = ["192.0.2.1", "192.0.2.1"]
        punt_per_second = 7
        [dpdk]
        huge_pages = "never"
        memory_mb = 64
        file_prefix = "p"
        eal_arguments = ["--log-level", "lib.eal:debug"]
        packet_buffers = 1024
        [limits]
        connections = 4294967294
        connections_ipv6 = 1024
        cookie_connections = 4096
        limited_sources = 2048
        [metrics]
        listen = ""
        [[port]]
        name = "p"
        device = "net_null0"
        tap = "t"
        addresses = ["192.0.2.0/31"]
        mtu = 9216
        rx_descriptors = 64
        tx_descriptors = 128
    "#;
    let Reading { plan, warnings } = read(text).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let Daemon { metrics_listen, connections_max, .. } = plan.daemon;
    assert_eq!(
        (plan.daemon.worker_cores.as_slice(), plan.daemon.control_core),
        (&[3, 1][..], Some(0))
    );
    assert_eq!(
        (plan.daemon.busy_poll, metrics_listen, connections_max),
        (true, None, u32::MAX - 1)
    );
    assert_eq!(plan.daemon.admin_socket, PathBuf::from("/tmp/x.sock"));
    assert_eq!((plan.daemon.huge_pages, plan.daemon.memory_mb), (HugePages::Never, 64));
    assert_eq!((plan.daemon.file_prefix.as_str(), plan.daemon.packet_buffers), ("p", 1024));
    assert_eq!(plan.daemon.eal_arguments, ["--log-level", "lib.eal:debug"]);
    assert_eq!((plan.strays, plan.punt_per_second), (Strays::Drop, 7));
    assert_eq!((plan.restarts, plan.reset_on_end), (Restarts::Closing, false));
    assert_eq!(plan.icmp_on_end, IcmpOnEnd::Removal);
    assert_eq!((plan.ping, plan.tunnels_ignore_df), (Ping::Live, true));
    assert_eq!(plan.directors, [std::net::IpAddr::from([192, 0, 2, 1])]);
    assert_eq!(plan.daemon.connections_ipv6_max, 1024);
    assert_eq!(plan.daemon.cookie_connections_max, 4096);
    assert_eq!(plan.daemon.limited_sources_max, 2048);
    assert_eq!(plan.drain_deadline, Duration::ZERO);
    let port = &plan.ports[0];
    assert_eq!((port.tap.as_str(), port.mtu), ("t", 9216));
    let device = port.device().unwrap();
    assert_eq!((device.rx_descriptors, device.tx_descriptors), (64, 128));
}

#[test]
fn every_timeout_written_arrives_where_it_belongs() {
    let timeouts = "[timeouts]
        tcp_established_s = 1
        tcp_syn_sent_s = 2
        tcp_syn_recv_s = 3
        tcp_fin_wait_s = 4
        tcp_time_wait_s = 5
        tcp_close_s = 6
        tcp_close_wait_s = 7
        tcp_last_ack_s = 8
        tcp_listen_s = 9
        tcp_synack_s = 10
        tcp_none_s = 11
        udp_s = 12
        one_packet_s = 27
        sctp_none_s = 13
        sctp_init1_s = 14
        sctp_init_s = 15
        sctp_cookie_sent_s = 16
        sctp_cookie_replied_s = 17
        sctp_cookie_wait_s = 18
        sctp_cookie_s = 19
        sctp_cookie_echoed_s = 20
        sctp_established_s = 21
        sctp_shutdown_sent_s = 22
        sctp_shutdown_received_s = 23
        sctp_shutdown_ack_sent_s = 24
        sctp_rejected_s = 25
        sctp_closed_s = 26
        [dpdk]";
    let read = read(&BASE.replace("[dpdk]", timeouts)).unwrap().plan.timeouts;
    let timeouts = Timeouts {
        tcp_established_s: 1,
        tcp_syn_sent_s: 2,
        tcp_syn_recv_s: 3,
        tcp_fin_wait_s: 4,
        tcp_time_wait_s: 5,
        tcp_close_s: 6,
        tcp_close_wait_s: 7,
        tcp_last_ack_s: 8,
        tcp_listen_s: 9,
        tcp_synack_s: 10,
        tcp_none_s: 11,
        udp_s: 12,
        one_packet_s: 27,
        sctp_none_s: 13,
        sctp_init1_s: 14,
        sctp_init_s: 15,
        sctp_cookie_sent_s: 16,
        sctp_cookie_replied_s: 17,
        sctp_cookie_wait_s: 18,
        sctp_cookie_s: 19,
        sctp_cookie_echoed_s: 20,
        sctp_established_s: 21,
        sctp_shutdown_sent_s: 22,
        sctp_shutdown_received_s: 23,
        sctp_shutdown_ack_sent_s: 24,
        sctp_rejected_s: 25,
        sctp_closed_s: 26,
    };
    assert_eq!(read, timeouts);
}
