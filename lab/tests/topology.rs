//! The lab proven without the balancer: the same hosts, programs and counts, with the kernel's own
//! NAT in the balancer's place. What fails here is the lab's fault, never Shunt's.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failing test panics")]

use std::net::SocketAddrV4;
use std::path::Path;
use std::time::Duration;

use lab::network::{self, CLIENT_SIDE, LAN, LOCAL, SERVER_SIDE, VIP, WAN};
use lab::{Binaries, Network, cleanup, command, programs, wait};

/// Lets the balancer's kernel do FULL-NAT: round robin over three backends, one local address.
fn balance_in_the_kernel(network: &Network) {
    let host = &network.balancer;
    host.ip(&format!("addr add {WAN}/24 dev {CLIENT_SIDE}")).unwrap();
    host.ip(&format!("addr add {LAN}/24 dev {SERVER_SIDE}")).unwrap();
    host.ip(&format!("addr add {}/32 dev {SERVER_SIDE}", LOCAL[0])).unwrap();
    host.run("sysctl", &["-qw", "net.ipv4.ip_forward=1"]).unwrap();
    let backends: Vec<_> =
        (0..3).map(|n| format!("{n} : {}", network::backend_address(n + 1))).collect();
    let map = format!("numgen inc mod 3 map {{ {} }}", backends.join(", "));
    let rules = format!(
        "table ip lab {{\n\
         chain pre {{ type nat hook prerouting priority dstnat; ip daddr {VIP} dnat to {map}; }}\n\
         chain post {{ type nat hook postrouting priority srcnat; \
         oifname {SERVER_SIDE} snat to {}; }}\n}}\n",
        LOCAL[0]
    );
    command::run_with_input(host.command("nft").args(["-f", "-"]), &rules).unwrap();
}

/// The agents are this package's own; the programs under test play no part here.
fn binaries() -> Binaries {
    let lab = Path::new(env!("CARGO_BIN_EXE_lab")).to_owned();
    Binaries { shuntd: lab.clone(), shunt: lab.clone(), lab }
}

fn web() -> SocketAddrV4 {
    SocketAddrV4::new(VIP, 80)
}

#[test]
fn every_program_of_the_lab_works_through_a_balancer_known_to_be_right() {
    let network = Network::new(2, 3).unwrap();
    balance_in_the_kernel(&network);
    let binaries = binaries();
    let servers: Vec<_> =
        network.backends.iter().map(|host| programs::nginx(&network, host).unwrap()).collect();

    curl_counts_backends_and_sees_the_local_address(&network);
    load_counts_every_connection(&network, &binaries);
    wrk_and_a_stoppable_load_run_side_by_side(&network, &binaries);
    files_arrive_whole_both_ways(&network, &servers);
    udp_reaches_every_backend(&network, &binaries);
    iperf3_fills_the_path(&network);
}

fn curl_counts_backends_and_sees_the_local_address(network: &Network) {
    let bodies = programs::curl_many(&network.clients[0], &format!("http://{VIP}/"), 30).unwrap();
    for (number, _) in network.backends.iter().enumerate() {
        let start = format!("backend-{} {} ", number + 1, LOCAL[0]);
        let count = bodies.iter().filter(|body| body.starts_with(&start)).count();
        assert_eq!(count, 10, "{start}: {bodies:?}");
    }
}

fn load_counts_every_connection(network: &Network, binaries: &Binaries) {
    let arguments = ["--requests", "600", "--threads", "16"];
    let mut load =
        programs::load(network, binaries, &network.clients[1], web(), &arguments).unwrap();
    let report = programs::load_report(&mut load, Duration::from_secs(30)).unwrap();
    assert_eq!((report.ok, report.failed), (600, 0), "{report:?}");
    assert_eq!(report.backends.values().copied().collect::<Vec<_>>(), [200; 3], "{report:?}");
    assert!(report.connect_ms_max > 0.0 && report.connect_ms_max < 1000.0, "{report:?}");
}

fn wrk_and_a_stoppable_load_run_side_by_side(network: &Network, binaries: &Binaries) {
    let url = format!("http://{VIP}/");
    let mut wrk = programs::wrk(network, &network.clients[0], &url, 1, 4).unwrap();
    let mut load =
        programs::load(network, binaries, &network.clients[1], web(), &["--pause-ms", "5"])
            .unwrap();
    let wrk = programs::wrk_report(&wrk.finish(Duration::from_secs(10)).unwrap()).unwrap();
    let load = programs::stop_load(&mut load).unwrap();
    assert!(wrk.requests > 100 && wrk.failed == 0, "{wrk:?}");
    assert!(load.ok > 5 && load.failed == 0, "{load:?}");
}

fn files_arrive_whole_both_ways(network: &Network, servers: &[programs::Nginx]) {
    let file = network.folder().join("blob");
    let bytes: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&file, bytes).unwrap();
    let sum = programs::sha256(&file).unwrap();
    let client = &network.clients[0];
    programs::upload(client, &file, &format!("http://{VIP}/up")).unwrap();
    let stored: Vec<_> = servers
        .iter()
        .map(|server| server.folder.join("up"))
        .filter(|path| path.exists())
        .collect();
    assert_eq!(stored.len(), 1, "one backend stored it");
    assert_eq!(programs::sha256(&stored[0]).unwrap(), sum);
    for server in servers {
        std::fs::copy(&file, server.folder.join("down")).unwrap();
    }
    let back = network.folder().join("back");
    programs::download(client, &format!("http://{VIP}/down"), &back).unwrap();
    assert_eq!(programs::sha256(&back).unwrap(), sum);
    assert!(
        programs::download(client, &format!("http://{VIP}/missing"), &back).is_err(),
        "a 404 is an error"
    );
}

fn udp_reaches_every_backend(network: &Network, binaries: &Binaries) {
    let mut running = Vec::new();
    for (host, number) in network.backends.iter().zip(1..) {
        let address = network::backend_address(number);
        running.push(programs::dns(network, binaries, host, address).unwrap());
        running.push(programs::udp_echo(network, binaries, host, 7).unwrap());
    }
    let client = &network.clients[0];
    let answers: Vec<_> =
        (0..3).map(|_| programs::dig(client, VIP, "who.lab.test").unwrap()).collect();
    for number in 1..=3 {
        assert!(answers.contains(&vec![network::backend_address(number)]), "{answers:?}");
    }
    let echo = SocketAddrV4::new(VIP, 7);
    let arguments = ["--sources", "60", "--rounds", "2", "--size", "1200"];
    let report = programs::udp_load(binaries, client, echo, &arguments).unwrap();
    assert_eq!((report.ok, report.failed), (120, 0), "{report:?}");
    assert_eq!(report.backends.len(), 3, "{report:?}");
    let answer = programs::socat_udp(client, echo, "hello").unwrap();
    assert!(answer.starts_with("backend-") && answer.ends_with("hello"), "{answer:?}");
}

fn iperf3_fills_the_path(network: &Network) {
    let _servers: Vec<_> = network
        .backends
        .iter()
        .map(|host| programs::iperf3_server(network, host).unwrap())
        .collect();
    // The kernel's round robin is per connection and iperf3 uses two: straight to one backend.
    network.clients[0].ip(&format!("route add 10.44.0.0/24 via {WAN}")).unwrap();
    let backend = network::backend_address(1);
    for reverse in [false, true] {
        let rate = programs::iperf3(&network.clients[0], backend, 1, reverse).unwrap();
        assert!(rate > 50.0, "{rate} Mbit/s");
    }
}

#[test]
fn a_network_leaves_nothing_behind() {
    let network = Network::new(1, 1).unwrap();
    let (name, folder) = (network.name().to_owned(), network.folder().to_owned());
    let server = programs::nginx(&network, &network.backends[0]).unwrap();
    let pid = server.program.pid();
    // The server is dropped after the network: the network must end it all the same.
    drop(network);
    let listed = command::run(std::process::Command::new("ip").args(["netns", "list"])).unwrap();
    assert!(!listed.contains(&name), "{listed}");
    assert!(!folder.exists());
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "still running: {state}");
    drop(server);
}

#[test]
fn what_a_killed_process_left_is_removed_by_the_next() {
    // A process that is certainly dead: it has been waited for.
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let orphan = format!("{}{}-0-client-1", cleanup::PREFIX, child.id());
    command::run(std::process::Command::new("ip").args(["netns", "add", &orphan])).unwrap();
    let folder = std::env::temp_dir().join(format!("{}{}-0-x", cleanup::PREFIX, child.id()));
    std::fs::create_dir(&folder).unwrap();
    let sleeping = std::process::Command::new("ip")
        .args(["netns", "exec", &orphan, "sleep", "1000"])
        .spawn()
        .unwrap();
    // A process that is still on its way in would be missed, and outlive its namespace's name.
    let inside = || Ok(!cleanup::processes_in(&orphan).is_empty());
    wait::until_true("the process to be inside", Duration::from_secs(10), inside).unwrap();
    let removed = cleanup::remove_leftovers();
    assert!(removed.contains(&format!("namespace {orphan}")), "{removed:?}");
    assert!(!folder.exists());
    assert!(cleanup::processes_in(&orphan).is_empty());
    let mut sleeping = sleeping;
    assert!(!sleeping.wait().unwrap().success(), "its processes are killed");
}

#[test]
fn the_balancers_kernel_is_deaf_on_ports_given_to_dpdk() {
    let network = Network::new(1, 1).unwrap();
    network.balancer.ip(&format!("addr add {WAN}/24 dev {CLIENT_SIDE}")).unwrap();
    let wan = WAN.to_string();
    let ping = ["-c", "1", "-W", "1", wan.as_str()];
    network.clients[0].run("ping", &ping).expect("before, it answers");
    network.give_ports_to_dpdk().unwrap();
    network.clients[0].run("ping", &ping).expect_err("after, it does not");
}

#[test]
fn a_syn_that_is_lost_is_seen_in_the_clients_counter() {
    let network = Network::new(1, 1).unwrap();
    let client = &network.clients[0];
    assert_eq!(client.kernel_counter("TcpExtTCPSynRetrans").unwrap(), 0);
    // A neighbour that takes frames and never answers: the balancer, deaf.
    network.give_ports_to_dpdk().unwrap();
    client.ip(&format!("neigh replace {WAN} lladdr 02:00:00:00:00:01 dev eth0")).unwrap();
    let url = format!("http://{VIP}/");
    client.run("curl", &["-sS", "--max-time", "1.5", &url]).expect_err("nobody is there");
    assert_eq!(client.kernel_counter("TcpExtTCPSynRetrans").unwrap(), 1);
}
