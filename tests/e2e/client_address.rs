//! The client's address for the backend: PROXY headers read by nginx, by HAProxy and, in datagrams,
//! by a reader of the lab's; TCP options seen by tcpdump.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::config::{Config, Service};
use lab::network::{self, LOCAL, LOCAL6, VIP, VIP6};
use lab::{Host, Program, command, haproxy, programs, wait};

use crate::families::Original;
use crate::harness::Rig;
use crate::ways::{ECHO, backend};

/// Where nginx wants a PROXY header before all else.
const PROXY_WEB: u16 = 8180;

/// A service: port of its VIP, VIP, protocol, how it tells, mode, backend, its family and its port.
pub(crate) type Row = (u16, IpAddr, &'static str, &'static str, &'static str, (u8, bool, u16));

/// Every mode that tells, in every family, to each that reads.
pub(crate) fn rows() -> Vec<Row> {
    let (vip, vip6) = (IpAddr::from(VIP), IpAddr::from(VIP6));
    let mut rows = Vec::new();
    let mut port = 8000;
    for (protocol, how, to) in [
        ("tcp", "proxy-v1", PROXY_WEB),
        ("tcp", "proxy-v2", PROXY_WEB),
        ("tcp", "proxy-v1", haproxy::PORT),
        ("tcp", "proxy-v2", haproxy::PORT),
        ("udp", "proxy-v2", ECHO),
    ] {
        for (vip, mode, (number, ipv6)) in [
            (vip, "fullnat", (1, false)),
            (vip6, "fullnat", (1, true)),
            (vip6, "fullnat", (1, false)),
            (vip, "nat", (2, false)),
            (vip6, "nat", (2, true)),
        ] {
            port += 1;
            rows.push((port, vip, protocol, how, mode, (number, ipv6, to)));
        }
    }
    rows
}

fn local(ipv6: bool) -> [IpAddr; 2] {
    if ipv6 { LOCAL6.map(IpAddr::from) } else { LOCAL.map(IpAddr::from) }
}

/// A service for each of them.
pub(crate) fn config(rig: &Rig, workers: usize) -> Config {
    let mut config = Config::new(&rig.network, workers);
    for (port, vip, protocol, how, mode, (number, ipv6, to)) in rows() {
        let name = format!("{protocol}{port}");
        let service = Service::new(&name, protocol, SocketAddr::new(vip, port), &local(ipv6));
        let service = if mode == "nat" { service.in_mode(mode, None) } else { service };
        config.service.push(service.telling(how).to((backend(number, ipv6), to)));
    }
    config
}

/// The first client's address of this family.
pub(crate) fn client_address(like: IpAddr) -> IpAddr {
    if like.is_ipv4() {
        network::client_address(1).into()
    } else {
        network::client_address6(1).into()
    }
}

/// nginx or HAProxy reads the client's address and port; then bytes both ways, on connections whose numbers
/// are shifted by the header all their life.
fn server_reads(rig: &Rig, original: &Original, row: &Row) -> Result<()> {
    let (port, vip, .., (number, _, _)) = *row;
    let (client, target) = (&rig.network.clients[0], SocketAddr::new(vip, port));
    let from = (port + 20_000).to_string();
    let url = format!("http://{target}/");
    let body = client.run("curl", &["-sS", "--fail", "-m", "5", "--local-port", &from, &url])?;
    let words: Vec<_> = body.split_whitespace().collect();
    ensure!(words[0] == format!("backend-{number}") && words[2] == from, "{body:?}, from {from}");
    ensure!(words[1].parse::<IpAddr>()? == client_address(vip), "{body:?}");
    let down = rig.network.folder().join(format!("down-{port}"));
    programs::download(client, &format!("{url}blob"), &down)?;
    original.is(&down)?;
    programs::upload(client, &original.file, &format!("{url}up-{port}"))?;
    original.is(&rig.web[usize::from(number) - 1].folder.join(format!("up-{port}")))
}

/// Each datagram brings its header.
fn echo_reads(rig: &Rig, row: &Row) -> Result<()> {
    let (port, vip, .., (number, _, _)) = *row;
    let target = SocketAddr::new(vip, port);
    let arguments = ["--sources", "20", "--rounds", "3"];
    let report = programs::udp_load(&rig.binaries, &rig.network.clients[0], target, &arguments)?;
    ensure!((report.ok, report.failed) == (60, 0), "{report:?}");
    ensure!(report.backend(&format!("backend-{number}")) == 60, "{report:?}");
    let address = client_address(vip);
    let of_client =
        |source: &String| source.parse::<SocketAddr>().is_ok_and(|source| source.ip() == address);
    ensure!(report.sources.keys().all(of_client), "{report:?}");
    ensure!(report.sources.len() == 20, "a port for each source: {report:?}");
    Ok(())
}

/// HAProxy beside every backend's nginx.
pub(crate) fn readers(rig: &Rig) -> Vec<Program> {
    let start = |host| haproxy::start(&rig.network, host).unwrap();
    rig.network.backends.iter().map(start).collect()
}

fn proxy_headers(workers: usize) {
    let rig = Rig::new(1, 2);
    rig.network.answer_through_the_balancer(&rig.network.backends[1]).unwrap();
    let original = Original::in_folder(rig.network.folder());
    for web in &rig.web {
        std::fs::copy(&original.file, web.folder.join("blob")).unwrap();
    }
    let echo = |(number, host): (u8, &Host)| {
        let addresses = [backend(number, false), backend(number, true)];
        let proxy = ["--proxy"];
        programs::udp_echo_at(&rig.network, &rig.binaries, host, ECHO, &addresses, &proxy).unwrap()
    };
    let _echoes: Vec<_> = (1..).zip(&rig.network.backends).map(echo).collect();
    let _readers: Vec<_> = readers(&rig);
    let mut balancer = rig.start(config(&rig, workers));
    let mut failures = Vec::new();
    for row in &rows() {
        let read =
            if row.2 == "tcp" { server_reads(&rig, &original, row) } else { echo_reads(&rig, row) };
        failures.extend(read.err().map(|error| format!("{row:?}: {error:#}")));
    }
    let status = balancer.shunt(&["status"]).unwrap();
    assert!(failures.is_empty(), "\n{}\n{status}", failures.join("\n"));
    balancer.stop().unwrap();
}

#[test]
fn proxy_headers_of_both_versions_and_families_are_read_with_one_worker() {
    proxy_headers(1);
}

#[test]
fn proxy_headers_of_both_versions_and_families_are_read_with_two_workers() {
    proxy_headers(2);
}

#[test]
fn proxy_headers_of_both_versions_and_families_are_read_with_four_workers() {
    proxy_headers(4);
}

/// TCP that arrives at port 80 of a backend: a line for each segment, then its bytes.
fn capture(rig: &Rig, host: &Host) -> Program {
    let mut tcpdump = host.command("tcpdump");
    tcpdump.args(["-i", "eth0", "-n", "-l", "-U", "--immediate-mode", "-x", "tcp dst port 80"]);
    let mut program = Program::start(&rig.network, "tcpdump", tcpdump).unwrap();
    let listening = |program: &Program| Ok(program.stderr().contains("listening on"));
    program.wait_until_ready(Duration::from_secs(5), listening).unwrap();
    program
}

/// What was captured, one text for each segment: the line about it, and its bytes in hexadecimal.
fn segments(captured: &Program) -> Vec<String> {
    let mut segments: Vec<String> = Vec::new();
    for line in captured.stdout().lines() {
        match (line.trim().strip_prefix("0x"), segments.last_mut()) {
            (Some(bytes), Some(segment)) => {
                let bytes = bytes.split_once(':').map_or("", |(_, bytes)| bytes);
                segment.extend(bytes.chars().filter(|digit| *digit != ' '));
            }
            _ => segments.push(format!("{line} ")),
        }
    }
    segments
}

/// A TOA option in hexadecimal.
fn option(kind: u8, client: SocketAddr) -> String {
    let address = match client.ip() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let bytes = [client.port().to_be_bytes().to_vec(), address].concat();
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let digits = digits.concat();
    format!("{kind:02x}{:02x}{digits}", 2 + bytes.len())
}

fn toa(workers: usize) {
    let rig = Rig::new(1, 1);
    let mut config = Config::new(&rig.network, workers);
    // Port of the VIP, VIP, how, the option's kind, the backend's family.
    let rows = [
        (8001, IpAddr::from(VIP), "toa", 254, false),
        (8002, VIP6.into(), "toa", 254, true),
        (8003, VIP6.into(), "toa-253", 253, true),
        (8004, VIP6.into(), "toa", 254, false),
        (8005, VIP.into(), "toa-253", 254, false),
    ];
    for (port, vip, how, _, ipv6) in rows {
        let service =
            Service::new(&format!("web{port}"), "tcp", SocketAddr::new(vip, port), &local(ipv6));
        config.service.push(service.telling(how).to((backend(1, ipv6), 80)));
    }
    let mut balancer = rig.start(config);
    let (client, host) = (&rig.network.clients[0], &rig.network.backends[0]);
    let captured = capture(&rig, host);
    for (port, vip, how, kind, _) in rows {
        let from = port + 20_000;
        let url = format!("http://{}/", SocketAddr::new(vip, port));
        let local_port = from.to_string();
        client
            .run("curl", &["-sS", "--fail", "-m", "5", "--local-port", &local_port, &url])
            .unwrap();
        let expected = option(kind, SocketAddr::new(client_address(vip), from));
        let told = |flags: &str| {
            let mut segments = segments(&captured).into_iter();
            Ok(segments.any(|text| text.contains(flags) && text.contains(&expected)))
        };
        for (what, flags) in [("SYN", "Flags [S]"), ("first data", "Flags [P.]")] {
            let what = format!("{how} for {vip} in the {what}: {expected}");
            let seen = wait::until_true(&what, Duration::from_secs(2), || told(flags));
            seen.with_context(|| captured.stdout()).unwrap();
        }
    }
    forged(&rig, &captured);
    balancer.stop().unwrap();
}

/// A client that claims to be another is told by its own address all the same.
fn forged(rig: &Rig, captured: &Program) {
    let (target, from) = (SocketAddrV4::new(VIP, 8001), 31_337);
    let claim = SocketAddrV4::new([203, 0, 113, 66].into(), 666);
    let client = &rig.network.clients[0];
    let mut forge = client.command(&rig.binaries.lab);
    forge.arg("forge").arg(target.to_string());
    forge.args(["--from", &from.to_string(), "--claim", &claim.to_string()]);
    command::run(&mut forge).unwrap();
    let own = SocketAddr::new(client_address(VIP.into()), from);
    let truth = option(254, own);
    let seen = |option: &str| segments(captured).iter().any(|text| text.contains(option));
    let told = || Ok(seen(&truth));
    wait::until_true("the true address", Duration::from_secs(2), told)
        .with_context(|| captured.stdout())
        .unwrap();
    let lie = option(254, claim.into());
    assert!(!seen(&lie), "{}", captured.stdout());
}

#[test]
fn the_clients_address_is_in_the_options_of_syn_and_first_data_with_one_worker() {
    toa(1);
}

#[test]
fn the_clients_address_is_in_the_options_of_syn_and_first_data_with_two_workers() {
    toa(2);
}

#[test]
fn the_clients_address_is_in_the_options_of_syn_and_first_data_with_four_workers() {
    toa(4);
}
