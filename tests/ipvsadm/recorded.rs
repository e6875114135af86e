//! Output of the real tool, recorded where IPVS has IPv6, tunnels and long names.

use shunt::cli::ipvsadm::grammar::request;
use shunt::cli::ipvsadm::list;
use shunt::cli::ipvsadm::order::sort;
use shunt::cli::ipvsadm::request::{List, What};
use shunt::cli::ipvsadm::save;
use shunt::cli::ipvsadm::table::{Figures, Server, Service};
use shunt::control::config::mode::{Spelled, SpelledTunnel};
use shunt::dataplane::snapshot::{Ports, Protocol, ServiceAddress};

/// Services of lines like `tcp 198.51.100.10:443 sh 11 600/24 ops`, each followed by backends like
/// `> 10.44.0.6:80 gue:6080:+c 0 3 4`: way of forwarding, weight, active and inactive connections.
pub(crate) fn table(lines: &[&str]) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            [">", address, way, weight, active, inactive] => {
                services.last_mut().unwrap().servers.push(Server {
                    address: address.parse().unwrap(),
                    forward: forward(way),
                    weight: weight.parse().unwrap(),
                    upper: 0,
                    lower: 0,
                    active: active.parse().unwrap(),
                    inactive: inactive.parse().unwrap(),
                    persistent: 0,
                    total: Figures::default(),
                    rate: Figures::default(),
                });
            }
            [protocol, address, scheduler, ref more @ ..] => {
                services.push(service(protocol, address, scheduler, more));
            }
            _ => panic!("{line}"),
        }
    }
    services
}

fn service(protocol: &str, address: &str, scheduler: &str, more: &[&str]) -> Service {
    let address: std::net::SocketAddr = address.parse().unwrap();
    let persistence = more.iter().find_map(|word| word.split_once('/'));
    Service {
        protocol: Protocol::ALL.into_iter().find(|it| it.to_string() == protocol).unwrap(),
        address: ServiceAddress { vip: address.ip(), ports: Ports::one(address.port()) },
        scheduler: scheduler.to_owned(),
        flags: if more.contains(&"11") { [true; 2] } else { [false; 2] },
        persistence: persistence
            .map(|(seconds, prefix)| (seconds.parse().unwrap(), prefix.parse().unwrap())),
        is_ops: more.contains(&"ops"),
        total: Figures::default(),
        rate: Figures::default(),
        locals: vec![],
        servers: vec![],
    }
}

fn forward(way: &str) -> Spelled {
    let Some((kind, rest)) = way.split_once(':') else {
        return Spelled { mode: way.to_owned(), tunnel: None };
    };
    let mut tunnel = SpelledTunnel { kind: kind.to_owned(), ..SpelledTunnel::default() };
    for word in rest.split(':').filter(|word| !word.is_empty()) {
        match word {
            "-c" => tunnel.checksum = Some(false),
            "+c" => tunnel.checksum = Some(true),
            "r+c" => (tunnel.checksum, tunnel.remote_checksum) = (Some(true), Some(true)),
            port => tunnel.port = Some(port.parse().unwrap()),
        }
    }
    Spelled { mode: "tunnel".to_owned(), tunnel: Some(tunnel) }
}

fn numeric(what: What) -> List {
    List { what, numeric: true, ..List::default() }
}

#[test]
fn a_list_of_all_kinds_of_services_is_as_recorded() {
    let services = table(&[
        "tcp [2001:db8:1::80]:80 wlc 100/64",
        "> [2001:db8:1::a0]:8080 nat 10 0 0",
        "sctp 198.51.100.10:2905 rr",
        "udp 198.51.100.10:5060 rr 60/32 ops",
        "tcp 198.51.100.10:443 sh 11 600/24",
        "tcp 198.51.100.10:80 wrr",
        "> 10.44.0.9:80 dr 1 0 0",
        "> 10.44.0.6:80 ipip: 0 0 0",
        "> 198.51.100.1:80 nat 1 0 0",
    ]);
    let expected = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  198.51.100.10:80 wrr
  -> 198.51.100.1:80              Masq    1      0          0         \n  \
  -> 10.44.0.6:80                 Tunnel  0      0          0         \n  \
  -> 10.44.0.9:80                 Route   1      0          0         \n\
TCP  198.51.100.10:443 sh (sh-fallback,sh-port) persistent 600 mask 255.255.255.0
UDP  198.51.100.10:5060 rr persistent 60 ops
SCTP 198.51.100.10:2905 rr
TCP  [2001:db8:1::80]:80 wlc persistent 100 mask 64
  -> [2001:db8:1::a0]:8080        Masq    10     0          0         \n";
    assert_eq!(
        list::version(4096) + &list::services(&sort(services), &numeric(What::Plain)),
        expected
    );
}

#[test]
fn tunnels_are_as_recorded() {
    let services = table(&[
        "tcp 198.51.100.10:80 wrr",
        "> 10.44.0.5:80 gre:-c 1 0 0",
        "> 10.44.0.6:80 gue:6080:+c 0 0 0",
        "> 10.44.0.7:80 ipip: 1 0 0",
    ]);
    let expected = "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn
TCP  198.51.100.10:80 wrr
  -> 10.44.0.5:80                 Tunnel  gre:-c        1      0          0         \n  \
  -> 10.44.0.6:80                 Tunnel  gue:6080:+c   0      0          0         \n  \
  -> 10.44.0.7:80                 Tunnel  ipip          1      0          0         \n";
    assert_eq!(list::services(&services, &numeric(What::TunInfo)), expected);
}

#[test]
fn saved_lines_are_as_recorded_and_read_back() {
    let services = table(&[
        "tcp 198.51.100.10:443 sh 11 600/24",
        "udp 198.51.100.10:5060 rr 60/32 ops",
        "tcp 198.51.100.10:80 wrr",
        "> 10.44.0.6:80 gue:6080:+c 0 0 0",
        "> 10.44.0.5:80 gre:-c 1 0 0",
        "> 10.44.0.7:80 ipip: 1 0 0",
        "> 10.44.0.8:80 gue:6080:r+c 1 0 0",
    ]);
    let expected = "\
-A -t 198.51.100.10:443 -s sh -p 600 -M 255.255.255.0 -b sh-fallback,sh-port
-A -u 198.51.100.10:5060 -s rr -p 60 -o
-A -t 198.51.100.10:80 -s wrr
-a -t 198.51.100.10:80 -r 10.44.0.6:80 -i -w 0 --tun-type gue --tun-port 6080 --tun-csum
-a -t 198.51.100.10:80 -r 10.44.0.5:80 -i -w 1 --tun-type gre --tun-nocsum
-a -t 198.51.100.10:80 -r 10.44.0.7:80 -i -w 1 --tun-type ipip
-a -t 198.51.100.10:80 -r 10.44.0.8:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum
";
    let saved = save::lines(&services, true);
    assert_eq!(saved, expected);
    for line in saved.lines() {
        let read = request(line.split_whitespace().map(str::to_owned));
        assert!(read.is_ok(), "{line}: {read:?}");
    }
}

#[test]
fn fullnat_is_saved_with_its_local_addresses_ahead_of_its_backends_and_keeps_thresholds() {
    let mut services = table(&["tcp 198.51.100.10:80 rr", "> 10.44.0.6:8080 fullnat 1 0 0"]);
    services[0].locals = vec!["10.44.0.2".parse().unwrap()];
    (services[0].servers[0].upper, services[0].servers[0].lower) = (1000, 800);
    let expected = "\
-A -t 198.51.100.10:80 -s rr
-P -t 198.51.100.10:80 -z 10.44.0.2
-a -t 198.51.100.10:80 -r 10.44.0.6:8080 -b -w 1 -x 1000 -y 800
";
    assert_eq!(save::lines(&services, true), expected);
    assert!(
        list::services(&services, &numeric(What::Plain))
            .contains("10.44.0.6:8080               FullNat 1 ")
    );
}

#[test]
fn what_ipvs_cannot_say_is_saved_as_a_comment() {
    let mut services = table(&[
        "tcp 198.51.100.10:80 rr",
        "tcp 198.51.100.11:80 rr",
        "tcp 198.51.100.12:80 rr 60/32",
    ]);
    services[0].address.ports = Ports { first: 8000, last: 8099 };
    services[1].address.ports = Ports::ALL;
    services[2].address.ports = Ports::ALL;
    let expected = "\
# not saved, IPVS has no such service: 198.51.100.10:8000-8099, 0 backends
# not saved, IPVS has no such service: 198.51.100.11:0, 0 backends
-A -t 198.51.100.12:0 -s rr -p 60
";
    assert_eq!(save::lines(&services, true), expected);
}
