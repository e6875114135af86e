//! SCTP through the balancer: whole associations, from INIT to SHUTDOWN COMPLETE.
//!
//! Played by the lab's own client and server, who check every checksum, tag and port: few kernels of
//! test machines have SCTP.

use std::net::{IpAddr, SocketAddr};

use lab::config::{Config, Service};
use lab::network::{self, LOCAL, LOCAL6, VIP, VIP6};
use lab::{Program, programs};

use crate::harness::Rig;
use crate::ways::backend;

/// Where backends listen, and not where clients ask: the checksum has to be made anew.
const LISTEN: u16 = 2905;
/// Associations of each kind.
const ASSOCIATIONS: u16 = 10;

/// Port of the VIP, its family, mode, the backend and its family, whom that may see.
type Row = (u16, IpAddr, &'static str, (u8, bool), Vec<IpAddr>);

fn rows() -> [Row; 5] {
    let (vip, vip6) = (IpAddr::from(VIP), IpAddr::from(VIP6));
    let locals = LOCAL.map(IpAddr::from).to_vec();
    [
        (1001, vip, "fullnat", (1, false), locals.clone()),
        (1002, vip6, "fullnat", (1, true), LOCAL6.map(IpAddr::from).to_vec()),
        (1003, vip6, "fullnat", (1, false), locals),
        (1004, vip, "nat", (2, false), vec![network::client_address(1).into()]),
        (1005, vip6, "nat", (2, true), vec![network::client_address6(1).into()]),
    ]
}

fn config(rig: &Rig, workers: usize) -> Config {
    let mut config = Config::new(&rig.network, workers);
    for (port, vip, mode, (number, ipv6), _) in rows() {
        let local = if ipv6 { LOCAL6.map(IpAddr::from) } else { LOCAL.map(IpAddr::from) };
        let service =
            Service::new(&format!("sctp{port}"), "sctp", SocketAddr::new(vip, port), &local);
        let service = if mode == "nat" { service.in_mode(mode, None) } else { service };
        config.service.push(service.to((backend(number, ipv6), LISTEN)));
    }
    config
}

fn servers(rig: &Rig) -> Vec<Program> {
    let server = |number: u8, ipv6| {
        let host = &rig.network.backends[usize::from(number) - 1];
        let listen = SocketAddr::new(backend(number, ipv6), LISTEN);
        programs::sctp_echo(&rig.network, &rig.binaries, host, listen).unwrap()
    };
    [(1, false), (1, true), (2, false), (2, true)].map(|(number, ipv6)| server(number, ipv6)).into()
}

fn associations(workers: usize) {
    let rig = Rig::new(1, 2);
    rig.network.answer_through_the_balancer(&rig.network.backends[1]).unwrap();
    let servers = servers(&rig);
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
                    assert!(mode != "nat" || words[2] == from.to_string(), "{mode}: {answer}");
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
