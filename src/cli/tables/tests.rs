//! What people see, as a whole.

use super::*;
use crate::control::admin::view::{
    Drops, LastReload, Latency, Losses, Refusal, Spelled, StaticFacts,
};
use crate::control::health::view::Check;
use crate::dataplane::snapshot::{Encapsulation, GueChecksum, Mode};

fn port_view() -> Port {
    Port {
        name: "wan".into(),
        device: Some("net_af_packet0,iface=eth1".into()),
        mac: "02:00:00:00:00:01".into(),
        tap: "tap-wan".into(),
        tap_up: true,
        rx_packets: 1000,
        rx_bytes: 64000,
        tx_packets: 900,
        tx_bytes: 57600,
        lost: Some(Losses::default()),
        to_kernel_packets: 12,
        from_kernel_packets: 11,
        tap_dropped_packets: 0,
    }
}

pub(in crate::cli) fn status_view() -> Status {
    Status {
        facts: StaticFacts {
            version: "0.1.0".into(),
            revision: "abc1234".into(),
            dpdk_version: "DPDK 22.11.7".into(),
            memory: "512 huge pages of 2 MB".into(),
            tsc_hz: 2_000_000_000,
            table_capacity: 1_000_000,
            table_bytes: 104_857_600,
        },
        uptime_s: 3725,
        file: "/etc/shunt/shunt.toml".into(),
        generation: 7,
        accepting: true,
        connections: 1234,
        workers: vec![
            Worker {
                id: 0,
                core: 2,
                busy: 0.073,
                connections: 600,
                generation: 7,
                stalled: false,
                latency: Some(Latency {
                    samples: 9,
                    p50_ns: 1_234,
                    p99_ns: 45_678,
                    p999_ns: 90_000,
                }),
            },
            Worker {
                id: 1,
                core: 3,
                busy: 1.0,
                connections: 634,
                generation: 6,
                stalled: true,
                latency: None,
            },
        ],
        ports: vec![port_view()],
        drops: vec![Drops {
            reason: "no_service".into(),
            meaning: "No service is configured for this VIP, protocol and port.".into(),
            packets: 42,
        }],
        next_hops: NextHops {
            resolved: 2,
            unanswered: vec![[10, 0, 0, 9].into()],
            unrouted: vec![],
        },
        last_reload: Some(LastReload {
            at_s: 1,
            result: ReloadResult::Applied,
            message: "2 changes applied; generation 7, 1 services".into(),
        }),
    }
}

#[test]
fn status_tells_all_of_it_on_one_page() {
    let want = "\
shuntd     0.1.0 (abc1234), DPDK 22.11.7
memory     512 huge pages of 2 MB
uptime     1h 2m
file       /etc/shunt/shunt.toml, generation 7, accepting
table      1234 of 1000000 connections, 104857600 B (100 MiB) reserved
next hops  2 resolved; no answer from: 10.0.0.9
reload     applied: 2 changes applied; generation 7, 1 services

worker  core  busy  connections  generation  latency p50     p99
0          2    7%          600           7        1.2µs  45.6µs
1          3  100%          634           6            -       -  STANDS STILL

port  device          mac                rx packets  rx bytes  tx packets  tx bytes  lost  tap      to kernel  from kernel  dropped
wan   net_af_packet0  02:00:00:00:00:01        1000     64000         900     57600     0  tap-wan         12           11        0

dropped  reason      meaning
     42  no_service  No service is configured for this VIP, protocol and port.
";
    let found = status(&status_view());
    assert!(found == want, "{found}");
}

#[test]
fn what_cards_lose_stands_below_what_was_refused_the_most_first() {
    let mut view = status_view();
    let lost = Losses { missed: 7, no_buffer: 90, ..Losses::default() };
    let tagged = Port { name: "blue".into(), device: None, lost: None, ..view.ports[0].clone() };
    view.ports[0].lost = Some(lost);
    view.ports.push(tagged);
    let below = "
lost  port  reason     meaning
  90  wan   no_buffer  There was no packet buffer to receive into.
   7  wan   missed     A receive queue was full: workers did not empty it in time.
";
    let found = status(&view);
    assert!(found.ends_with(&format!("protocol and port.\n{below}")), "{found}");
    let found = parts::AllDrops::new(vec![], &view.ports).text();
    assert_eq!(found, format!("nothing was refused\n{below}"));
    let found = parts::Ports { ports: view.ports }.text();
    let wanted = "
wan   net_af_packet0  02:00:00:00:00:01        1000     64000         900     57600    97  tap-wan         12           11        0
blue  -               02:00:00:00:00:01        1000     64000         900     57600     -  tap-wan         12           11        0
";
    assert!(found.ends_with(wanted), "{found}");
}

fn backend(port: u16, mode: Option<Mode>, weight: Option<u32>, reachable: bool) -> Backend {
    let address = std::net::SocketAddr::from(([10, 0, 0, 2], port));
    let forward = mode.map(Spelled::from);
    Backend {
        address,
        forward,
        weight,
        configured_weight: weight,
        by_hand: None,
        max_connections: 0,
        resume_below: 0,
        reachable,
        connections: 5,
        active_connections: 4,
        new_connections: 100,
        sorry: false,
        health: None,
        new_since_zero: 100,
        new_per_second: 0,
        volumes: Volumes::of([1000, 60_000, 900, 1_350_000]),
        volumes_since_zero: Volumes::default(),
        volumes_per_second: Volumes::default(),
    }
}

/// One with a weight that was set by hand.
fn held(port: u16, weight: u32, ends_in_s: Option<u64>) -> Backend {
    let by_hand = Some(ByHand { weight, ends_in_s });
    Backend { by_hand, ..backend(port, Some(Mode::Nat), Some(weight), true) }
}

fn refusal(reason: &str, connections: u64) -> Refusal {
    Refusal { reason: reason.into(), connections }
}

#[test]
fn services_list_their_backends_under_them_and_say_what_is_odd_about_one() {
    let tunnel = Mode::Tunnel(Encapsulation::Gue { port: 6080, checksum: GueChecksum::Outer });
    let backends = vec![
        backend(80, Some(Mode::Fullnat), Some(1), true),
        backend(81, Some(Mode::Nat), Some(0), true),
        held(84, 0, Some(125)),
        held(85, 7, None),
        backend(82, Some(tunnel), Some(1), false),
        backend(83, None, None, true),
    ];
    let services_view = Services {
        services: vec![Service {
            name: "web".into(),
            protocol: "tcp".into(),
            address: "192.0.2.1:80".into(),
            more_addresses: vec!["192.0.2.1:8000-8099".into(), "192.0.2.2:80".into()],
            clients: vec!["10.0.0.0/8".into(), "office".into()],
            scheduler: "wrr".into(),
            scheduler_flags: vec![],
            one_packet: false,
            persistence: None,
            local_addresses: vec![],
            removed: false,
            connections: 20,
            new_connections: 400,
            new_since_zero: 400,
            new_per_second: 0,
            volumes: Volumes::of([6000, 360_000, 5400, 8_100_000]),
            volumes_since_zero: Volumes::default(),
            volumes_per_second: Volumes::default(),
            refused: 4,
            refusals: vec![refusal("no_backend", 3), refusal("source_rate", 1)],
            quorum: None,
            backends,
        }],
    };
    let want = "\
service  protocol  address              scheduler  forward                   weight  connections  new  refused  in packets  in bytes  out packets  out bytes  state
web      tcp       192.0.2.1:80         wrr                                                   20  400        4        6000    360000         5400    8100000
         also      192.0.2.1:8000-8099
         also      192.0.2.2:80
         for       10.0.0.0/8
         for       office
         refused   no_backend                                                                                3
         refused   source_rate                                                                               1
         ->        10.0.0.2:80                     fullnat                        1            5  100                 1000     60000          900    1350000
         ->        10.0.0.2:81                     nat                            0            5  100                 1000     60000          900    1350000  draining
         ->        10.0.0.2:84                     nat                            0            5  100                 1000     60000          900    1350000  draining by hand, ended in 2m 5s
         ->        10.0.0.2:85                     nat                            7            5  100                 1000     60000          900    1350000  by hand
         ->        10.0.0.2:82                     tunnel gue:6080 checksum       1            5  100                 1000     60000          900    1350000  unreachable
         ->        10.0.0.2:83                                                                 5  100                 1000     60000          900    1350000  removed
";
    let found = services(&services_view);
    assert!(found == want, "{found}");
    assert_eq!(services(&Services::default()), "no services\n");
}

#[test]
fn a_quorum_is_shown_as_it_is_in_force_where_it_says_something() {
    let table = [
        ((true, 3, 1, 1), ""),
        ((false, 0, 1, 1), "quorum 1: lost, 0 up"),
        ((true, 6, 4, 4), "quorum 4: 6 up"),
        ((true, 3, 9, 3), "quorum 3, 9 asked for: 3 up"),
        ((false, 2, 9, 3), "quorum 3, 9 asked for: lost, 2 up"),
    ];
    for ((whole, live, wanted, in_force), expected) in table {
        assert_eq!(quorum_note(&Quorum { whole, live, wanted, in_force }), expected);
    }
}

#[test]
fn as_json_a_backend_has_the_keys_of_the_file_and_reads_back() {
    let tunnel = Mode::Tunnel(Encapsulation::Gre { checksum: false });
    for (mode, keys) in [
        (Some(Mode::Dr), serde_json::json!({ "mode": "dr" })),
        (
            Some(tunnel),
            serde_json::json!({ "mode": "tunnel", "tunnel": { "kind": "gre", "checksum": false } }),
        ),
        (None, serde_json::json!({})),
    ] {
        let backend = backend(80, mode, Some(1), true);
        let json = serde_json::to_value(&backend).unwrap();
        for key in ["mode", "tunnel"] {
            assert_eq!(json.get(key), keys.get(key), "{json}");
        }
        assert_eq!(serde_json::from_value::<Backend>(json).unwrap(), backend);
    }
}

#[test]
fn connections_are_one_line_each_and_the_rest_is_announced() {
    let mut view = Connections {
        connections: vec![Connection {
            protocol: "tcp".into(),
            state: "ESTABLISHED".into(),
            client: "198.51.100.7:40000".parse().unwrap(),
            vip: "192.0.2.1:80".parse().unwrap(),
            local: "10.0.0.1:1024".parse().unwrap(),
            backend: "10.0.0.2:80".parse().unwrap(),
            service: "web".into(),
            worker: 1,
            idle_ms: 1250,
            expires_ms: 898_750,
        }],
        next: None,
    };
    let want = "\
protocol  state        client              vip           local          backend      service  worker  idle  expires
tcp       ESTABLISHED  198.51.100.7:40000  192.0.2.1:80  10.0.0.1:1024  10.0.0.2:80  web           1  1.2s   898.7s
";
    let found = connections(&view);
    assert!(found == want, "{found}");
    view.next = Some("1:5".into());
    assert!(
        connections(&view).ends_with("there are more; a higher --limit or a filter shows them\n")
    );
}

#[test]
fn a_reload_shows_its_changes_and_a_refused_one_what_it_would_have_changed() {
    let mut outcome = Reload {
        result: ReloadResult::Applied,
        message: "1 change applied; generation 8, 1 services".into(),
        changes: vec!["service web: backend 10.0.0.3:80 added".into()],
        undone: vec![],
    };
    let want = "applied: 1 change applied; generation 8, 1 services\n  service web: backend 10.0.0.3:80 added\n";
    assert_eq!(reload(&outcome), want);
    outcome.result = ReloadResult::Refused;
    assert!(reload(&outcome).contains("\nthe file would change:\n  service web"));
    outcome.undone = vec!["service web: backend 10.0.0.4:80 added".into()];
    let undone = "\nmade at runtime, and undone:\n  service web: backend 10.0.0.4:80 added\n";
    assert!(reload(&outcome).ends_with(undone));
}

#[test]
fn durations_read_like_uptime() {
    let table = [(5, "5s"), (65, "1m 5s"), (3725, "1h 2m"), (90_000, "1d 1h")];
    for (seconds, text) in table {
        assert_eq!(duration(seconds), text);
    }
}

#[test]
fn a_size_is_told_to_the_byte_and_never_rounded_up() {
    for (bytes, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1024 B (1 KiB)"),
        (393_216, "393216 B (384 KiB)"),
        (1_500_000, "1500000 B (1.4 MiB)"),
        ((1 << 30) - 1, "1073741823 B (1023.9 MiB)"),
        (u64::MAX, "18446744073709551615 B (17179869183.9 GiB)"),
    ] {
        assert_eq!(size(bytes), text);
    }
}

fn checked(state: &str, share_percent: Option<u32>, sorry: bool, weight: Option<u32>) -> Backend {
    let last = if state == "up" { "passed" } else { "status 503" };
    let check = Check {
        check: "http GET /".into(),
        up: state == "up",
        last: last.into(),
        ..Check::default()
    };
    let (state, checks) = (state.to_owned(), vec![check]);
    let health = BackendHealth { state, share_percent, checks, ..BackendHealth::default() };
    let health = (!sorry).then_some(health);
    Backend { weight, sorry, health, ..backend(80, Some(Mode::Fullnat), None, true) }
}

#[test]
fn a_backends_last_column_says_what_its_checks_say() {
    let table = [
        (checked("up", None, false, Some(1)), "up"),
        (checked("up", Some(35), false, Some(35)), "up, 35% of its share"),
        (checked("up", None, false, Some(0)), "draining"),
        (checked("up", None, false, None), "sorry backends serve"),
        (checked("down", None, false, None), "down: http GET /: status 503"),
        (checked("down", None, false, Some(0)), "down: http GET /: status 503"),
        (checked("", None, true, Some(1)), "sorry"),
        (checked("", None, true, None), "sorry"),
    ];
    for (backend, expected) in table {
        let row = backend_row(&backend);
        assert_eq!(row.last().map(String::as_str), Some(expected), "{backend:?}");
    }
}
