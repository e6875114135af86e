//! SCTP through the balancer: whole associations, from INIT to SHUTDOWN COMPLETE.
//!
//! Played by the lab's own client and server, who check every checksum, tag and port: few kernels of
//! test machines have SCTP.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use lab::config::{Config, Service, Tunnel};
use lab::network::{self, LAN, LAN6, LOCAL, LOCAL6, VIP, VIP6};
use lab::{Program, programs};

use crate::harness::Rig;
use crate::ways::backend;

/// Where backends listen that are translated to, and not where clients ask: the checksum has to be
/// made anew. In DR and tunnels it is the client's port, of the VIP.
const LISTEN: u16 = 2905;
/// Associations of each kind.
const ASSOCIATIONS: u16 = 10;

/// Port of the VIP, its family, mode, the backend and its family, whom that may see.
type Row = (u16, IpAddr, &'static str, (u8, bool), Vec<IpAddr>);

fn rows() -> [Row; 15] {
    let (vip, vip6) = (IpAddr::from(VIP), IpAddr::from(VIP6));
    let locals = LOCAL.map(IpAddr::from).to_vec();
    let client: Vec<IpAddr> = vec![network::client_address(1).into()];
    let client6: Vec<IpAddr> = vec![network::client_address6(1).into()];
    [
        (1001, vip, "fullnat", (1, false), locals.clone()),
        (1002, vip6, "fullnat", (1, true), LOCAL6.map(IpAddr::from).to_vec()),
        (1003, vip6, "fullnat", (1, false), locals),
        (1004, vip, "nat", (2, false), client.clone()),
        (1005, vip6, "nat", (2, true), client6.clone()),
        (1006, vip, "dr", (3, false), client.clone()),
        (1007, vip6, "dr", (3, true), client6.clone()),
        (1008, vip, "ipip", (3, false), client.clone()),
        (1009, vip6, "ipip", (3, true), client6.clone()),
        (1010, vip, "gre", (3, false), client.clone()),
        (1011, vip6, "gre", (3, true), client6.clone()),
        (1012, vip, "gue", (3, false), client.clone()),
        (1013, vip6, "gue", (3, true), client6.clone()),
        (1014, vip, "ipip", (3, true), client),
        (1015, vip6, "ipip", (3, false), client6),
    ]
}

/// The service's mode, and its tunnel.
fn mode(row: &str) -> (&str, Option<Tunnel>) {
    match row {
        "ipip" => ("tunnel", Some(Tunnel::ipip())),
        "gre" => ("tunnel", Some(Tunnel::gre(false))),
        "gue" => ("tunnel", Some(Tunnel::gue(6080, true))),
        mode => (mode, None),
    }
}

/// Where the backend of a row listens.
fn listens((port, vip, mode, (number, ipv6), _): &Row) -> SocketAddr {
    match *mode {
        "fullnat" | "nat" => SocketAddr::new(backend(*number, *ipv6), LISTEN),
        _ => SocketAddr::new(*vip, *port),
    }
}

fn config(rig: &Rig, workers: usize) -> Config {
    let mut config = Config::new(&rig.network, workers);
    for row in rows() {
        let to = SocketAddr::new(backend(row.3.0, row.3.1), listens(&row).port());
        let (port, vip, kind, (_, ipv6), _) = row;
        let local = if ipv6 { LOCAL6.map(IpAddr::from) } else { LOCAL.map(IpAddr::from) };
        let service =
            Service::new(&format!("sctp{port}"), "sctp", SocketAddr::new(vip, port), &local);
        let (mode, tunnel) = mode(kind);
        let service = if mode == "fullnat" { service } else { service.in_mode(mode, tunnel) };
        config.service.push(service.to(to));
    }
    config
}

/// One for each place where a backend listens.
fn servers(rig: &Rig) -> Vec<Program> {
    let places: BTreeSet<_> = rows().iter().map(|row| (row.3.0, listens(row))).collect();
    let server = |(number, listen): (u8, SocketAddr)| {
        let host = &rig.network.backends[usize::from(number) - 1];
        programs::sctp_echo(&rig.network, &rig.binaries, host, listen).unwrap()
    };
    places.into_iter().map(server).collect()
}

/// The far ends of the tunnels among the rows.
fn far_ends(rig: &Rig) -> Vec<Program> {
    let rows: [(IpAddr, &[&str]); 8] = [
        (LAN.into(), &["ipip", "--device", "ipip4"]),
        (LAN6.into(), &["ipip", "--inner", "ipv6", "--device", "ipip6"]),
        (LAN.into(), &["gre", "--device", "gre4"]),
        (LAN6.into(), &["gre", "--inner", "ipv6", "--device", "gre6"]),
        (LAN.into(), &["gue", "--checksum", "--device", "gue4"]),
        (LAN6.into(), &["gue", "--checksum", "--inner", "ipv6", "--device", "gue6"]),
        (LAN6.into(), &["ipip", "--device", "ipip46"]),
        (LAN.into(), &["ipip", "--inner", "ipv6", "--device", "ipip64"]),
    ];
    let host = &rig.network.backends[2];
    let start = |(from, arguments): (IpAddr, &[&str])| {
        programs::decap(&rig.network, &rig.binaries, host, from, arguments).unwrap()
    };
    rows.into_iter().map(start).collect()
}

fn associations(workers: usize) {
    let rig = Rig::new(1, 3);
    let backends = &rig.network.backends;
    rig.network.answer_through_the_balancer(&backends[1]).unwrap();
    rig.network.answer_for_past_the_balancer(&backends[2], &[VIP.into(), VIP6.into()]).unwrap();
    let servers: Vec<_> = far_ends(&rig).into_iter().chain(servers(&rig)).collect();
    let mut balancer = rig.start(config(&rig, workers));
    let (client, mut failures) = (&rig.network.clients[0], Vec::new());
    for (port, vip, mode, (number, _), seen) in rows() {
        for from in 5000..5000 + ASSOCIATIONS {
            let target = SocketAddr::new(vip, port);
            let question = format!("question {from}");
            match programs::sctp(&rig.binaries, client, target, from, &question) {
                Err(error) => failures.push(format!("{mode} {target} from {from}: {error:#}")),
                Ok(answer) => {
                    let words: Vec<_> = answer.splitn(4, ' ').collect();
                    assert_eq!(words[0], format!("backend-{number}"), "{answer}");
                    assert!(seen.contains(&words[1].parse().unwrap()), "{mode}: {answer}");
                    assert!(mode == "fullnat" || words[2] == from.to_string(), "{mode}: {answer}");
                    assert_eq!(words[3], question);
                }
            }
        }
    }
    let status = balancer.shunt(&["status"]).unwrap();
    assert!(failures.is_empty(), "\n{}\n{status}", failures.join("\n"));
    balancer.stop().unwrap();
    for server in &servers {
        assert_eq!(server.stderr(), "", "what was wrong with packets");
    }
}

#[test]
fn associations_of_both_families_begin_and_end_with_one_worker() {
    associations(1);
}

#[test]
fn associations_of_both_families_begin_and_end_with_two_workers() {
    associations(2);
}

#[test]
fn associations_of_both_families_begin_and_end_with_four_workers() {
    associations(4);
}
