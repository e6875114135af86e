//! Lists and saved rules of random tables: the same from both, and what one saves the other reads.

use proptest::prelude::*;
use shunt::cli::ipvsadm::grammar::request;
use shunt::cli::ipvsadm::list;
use shunt::cli::ipvsadm::order::sort;
use shunt::cli::ipvsadm::request::Request;
use shunt::cli::ipvsadm::save;
use shunt::cli::ipvsadm::table::Service;
use shunt::control::admin::view::Connection;

use crate::real::ipvsadm;
use crate::samples::{services, told};

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// What we print for a line, of these services.
fn ours(line: &str, services: &[Service]) -> String {
    match request(words(line)).unwrap() {
        Request::List(asked) => {
            let listed = if asked.unsorted { services.to_vec() } else { sort(services.to_vec()) };
            list::version(4096) + &list::services(&listed, &asked)
        }
        Request::Save { numeric } => save::lines(&sort(services.to_vec()), numeric),
        other => panic!("{other:?}"),
    }
}

/// The structures of the socket options have no kind of tunnel: what `ipvsadm` makes of one is chance.
fn without_tunnels(mut services: Vec<Service>) -> Vec<Service> {
    for server in services.iter_mut().flat_map(|service| &mut service.servers) {
        if server.forward.tunnel.take().is_some() {
            "dr".clone_into(&mut server.forward.mode);
        }
    }
    services
}

const LISTS: &[&str] = &[
    "-Ln",
    "-Ln --stats",
    "-Ln --stats --exact",
    "-Ln --rate",
    "-Ln --rate -X",
    "-Ln --thresholds",
    "-Ln --persistent-conn",
    "-Ln --tun-info",
    "-Ln --nosort",
    "-Ln --sort",
    "-Ln --stats --thresholds --persistent-conn --tun-info",
    "-Ln --thresholds --persistent-conn --tun-info",
    "-Ln --persistent-conn --tun-info --nosort",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_list_is_the_same_to_the_byte(
        services in services(),
        line in proptest::sample::select(LISTS),
    ) {
        let is_about_them = line == "-Ln --tun-info";
        let services = if is_about_them { without_tunnels(services) } else { services };
        let theirs = ipvsadm(&words(line), &told(&services), "");
        prop_assert_eq!(ours(line, &services), theirs.out, "ipvsadm {}", line);
    }

    #[test]
    fn what_is_saved_is_the_same_but_for_thresholds_which_ipvsadm_forgets(services in services()) {
        let services = without_tunnels(services);
        let mut plain = services.clone();
        for server in plain.iter_mut().flat_map(|service| &mut service.servers) {
            (server.upper, server.lower) = (0, 0);
        }
        let theirs = ipvsadm(&words("-Sn"), &told(&services), "");
        prop_assert_eq!(ours("-Sn", &plain), theirs.out);
    }

    #[test]
    fn each_line_that_is_saved_is_one_to_both(services in services()) {
        for line in save::lines(&services, true).lines() {
            prop_assert!(request(words(line)).is_ok(), "{}", line);
            let theirs = ipvsadm(&words(line), "", "");
            prop_assert_eq!((theirs.code, theirs.err.as_str()), (0, ""), "{}", line);
        }
    }
}

#[test]
fn without_n_ports_have_the_names_of_services() {
    let table = "S 6 198.51.100.10 80 wrr 0 0 255.255.255.255 0 0 0 0 0 0 0 0 0 0\n\
                 D 10.44.0.6 8080 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
    let theirs = ipvsadm(&words("-L"), table, "").out;
    assert!(theirs.contains("198.51.100.10:http wrr"), "{theirs}");
    let services =
        crate::recorded::table(&["tcp 198.51.100.10:80 wrr", "> 10.44.0.6:8080 nat 1 0 0"]);
    assert_eq!(ours("-L", &services), theirs);
}

#[test]
fn connections_are_the_same_to_the_byte() {
    let kernel = "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n\
                  TCP C0000202 03E9 C633640A 0050 0A2C000B 1F90 ESTABLISHED     899\n\
                  UDP CB007163 FFFF C6336419 0035 0A2C000B 0035 UDP              98\n\
                  SCTP C0000202 1388 C633640A 0B59 0A2C000B 0B5A ESTABLISHED    7321\n";
    let connection =
        |protocol: &str, state: &str, [client, vip, backend]: [&str; 3], expires_ms| Connection {
            protocol: protocol.to_owned(),
            state: state.to_owned(),
            client: client.parse().unwrap(),
            vip: vip.parse().unwrap(),
            local: "10.44.0.2:5000".parse().unwrap(),
            backend: backend.parse().unwrap(),
            service: "web".to_owned(),
            worker: 0,
            idle_ms: 0,
            expires_ms,
        };
    let all = [
        connection(
            "tcp",
            "ESTABLISHED",
            ["192.0.2.2:1001", "198.51.100.10:80", "10.44.0.11:8080"],
            899_400,
        ),
        connection(
            "udp",
            "UDP",
            ["203.0.113.99:65535", "198.51.100.25:53", "10.44.0.11:53"],
            98_000,
        ),
        connection(
            "sctp",
            "ESTABLISHED",
            ["192.0.2.2:5000", "198.51.100.10:2905", "10.44.0.11:2906"],
            7_321_000,
        ),
    ];
    for (line, engines) in [("-Lnc", false), ("-Lnc --persistent-conn", true)] {
        let theirs = ipvsadm(&words(line), "", kernel).out;
        let Request::List(asked) = request(words(line)).unwrap() else { panic!("no list") };
        assert_eq!(list::connections(&all, &asked, engines), theirs);
    }
}
