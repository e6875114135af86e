//! Connections that the balancer ends: real kernels take the RSTs, at both ends, for theirs.

use std::net::SocketAddrV4;
use std::time::Duration;

use lab::config::Config;
use lab::network::{self, VIP};
use lab::{Balancer, Program, programs, wait};

use crate::harness::{Rig, web};

/// Why a connection ends, and what brings it about.
type Ending = (&'static str, fn(&mut Balancer<'_>));

const ENDINGS: [Ending; 3] = [
    ("silence", |_| {}),
    ("its backend is removed", |balancer| {
        let mut config = balancer.config.clone();
        config.remove_backend("web", web(1)).unwrap();
        balancer.reload(config).unwrap();
    }),
    ("clear", |balancer| {
        // The reader's, and what is kept of curl's, which is over.
        let said = balancer.shunt(&["clear", "--backend", &web(1).to_string()]).unwrap();
        assert_eq!(said, "2 connections ended\n");
    }),
];

/// A client that connects, says nothing and reads.
fn reader(rig: &Rig, what: &str) -> Program {
    let mut command = rig.network.clients[0].command("bash");
    command.env("LC_ALL", "C").args(["-c", &format!("exec 3<>/dev/tcp/{VIP}/80; cat <&3")]);
    Program::start(&rig.network, what, command).unwrap()
}

/// Connections of the first backend's kernel.
fn open(rig: &Rig) -> anyhow::Result<usize> {
    let arguments = ["-tnH", "state", "established", "sport = :80"];
    Ok(rig.network.backends[0].run("ss", &arguments)?.lines().count())
}

fn both_kernels_believe_it(mode: &str, workers: usize) {
    let rig = Rig::new(1, 2);
    let mut config = rig.web_config(workers, "rr", &[(1, 1), (2, 0)]);
    if mode == "nat" {
        config.set_mode("web", mode, None).unwrap();
        for backend in &rig.network.backends {
            rig.network.answer_through_the_balancer(backend).unwrap();
        }
    }
    for (number, (why, end)) in ENDINGS.into_iter().enumerate() {
        let mut config = config.clone();
        if number == 0 {
            let timeouts = toml::toml! { tcp_established_s = 3 };
            config.service[0].more.insert("timeouts".to_owned(), timeouts.into());
        }
        let mut balancer = rig.start(config);
        programs::curl(&rig.network.clients[0], &format!("http://{VIP}/")).unwrap();
        let mut client = reader(&rig, &format!("reader-{number}"));
        let is_open = || Ok(open(&rig)? == 1);
        wait::until_true("the connection", Duration::from_secs(10), is_open).unwrap();
        end(&mut balancer);
        let status = client.wait_for_end(Duration::from_secs(20)).unwrap();
        let said = client.stderr();
        assert!(!status.success() && said.contains("Connection reset by peer"), "{why}: {said}");
        let is_closed = || Ok(open(&rig)? == 0);
        wait::until_true("its end at the backend", Duration::from_secs(5), is_closed).unwrap();
        balancer.stop().unwrap();
    }
}

#[test]
fn who_reads_gets_connection_reset_in_fullnat_with_two_workers() {
    both_kernels_believe_it("fullnat", 2);
}

#[test]
fn who_reads_gets_connection_reset_in_nat_with_one_worker() {
    both_kernels_believe_it("nat", 1);
}

fn echo(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(network::backend_address(number), 7)
}

/// A client with a connected socket that asks once, reads the answer and waits.
fn asker(rig: &Rig) -> Program {
    let mut command = rig.network.clients[0].command("bash");
    let script = format!("exec 3<>/dev/udp/{VIP}/7; printf question >&3; cat <&3");
    command.env("LC_ALL", "C").args(["-c", &script]);
    Program::start(&rig.network, "asker", command).unwrap()
}

/// ICMP errors a host has received of ports that are closed.
fn unreachables(rig: &Rig) -> anyhow::Result<u64> {
    let said = rig.network.backends[0].run("cat", &["/proc/net/snmp"])?;
    let mut rows = said.lines().filter(|line| line.starts_with("Icmp:"));
    let (Some(names), Some(values)) = (rows.next(), rows.next()) else { anyhow::bail!("{said}") };
    let mut both = names.split(' ').zip(values.split(' '));
    let (_, count) = both.find(|(name, _)| *name == "InDestUnreachs").unwrap_or(("", "none"));
    Ok(count.parse()?)
}

/// The kernel finds the socket by what the error quotes.
fn who_waits_for_a_datagram_hears_of_it(mode: &str, workers: usize) {
    let rig = Rig::new(1, 2);
    let hosts = &rig.network.backends;
    let _echoes: Vec<Program> = hosts
        .iter()
        .map(|host| programs::udp_echo(&rig.network, &rig.binaries, host, 7).unwrap())
        .collect();
    let backends = [(echo(1), 1), (echo(2), 0)];
    let mut config =
        Config::new(&rig.network, workers).with_service("echo", "udp", 7, "rr", &backends);
    if mode == "nat" {
        config.set_mode("echo", mode, None).unwrap();
        for backend in hosts {
            rig.network.answer_through_the_balancer(backend).unwrap();
        }
    }
    let mut balancer = rig.start(config);
    let before = unreachables(&rig).unwrap();
    let mut client = asker(&rig);
    let is_answered = || Ok(client.stdout().contains("question"));
    wait::until_true("the answer", Duration::from_secs(10), is_answered).unwrap();
    let mut config = balancer.config.clone();
    config.remove_backend("echo", echo(1)).unwrap();
    balancer.reload(config).unwrap();
    let status = client.wait_for_end(Duration::from_secs(20)).unwrap();
    let said = client.stderr();
    assert!(!status.success() && said.contains("Connection refused"), "{said}");
    let has_heard = || Ok(unreachables(&rig)? > before);
    wait::until_true("the error at the backend", Duration::from_secs(5), has_heard).unwrap();
    balancer.stop().unwrap();
}

#[test]
fn who_waits_for_a_datagram_gets_connection_refused_in_fullnat_with_two_workers() {
    who_waits_for_a_datagram_hears_of_it("fullnat", 2);
}

#[test]
fn who_waits_for_a_datagram_gets_connection_refused_in_nat_with_one_worker() {
    who_waits_for_a_datagram_hears_of_it("nat", 1);
}
