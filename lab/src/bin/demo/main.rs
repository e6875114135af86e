//! `make demo`: real programs through a FULL-NAT balancer on DPDK, in six steps; the last is [`minute`].
//!
//! Everything happens in network namespaces made here and removed at the end, whatever the end.
//! Every figure printed is also checked: exit code 0 and a last line `demo: ok` mean that all of
//! them were right.

mod minute;

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::agent::report::Report;
use lab::config::Config;
use lab::metrics::Metrics;
use lab::network::{self, LOCAL, VIP};
use lab::programs::{self, Nginx};
use lab::{Balancer, Binaries, Network, Program, cleanup};

const REQUESTS: u32 = 300;
const DNS_QUESTIONS: u32 = 12;
/// Kept open by wrk, which makes one more at its start to see whether anybody is there.
const WRK_CONNECTIONS: u32 = 8;
const WORKERS: usize = 2;
/// All of it, from the first namespace made to the last removed.
const TIME_LIMIT: Duration = Duration::from_secs(150);
/// Port 80 of the VIP.
const WEB: SocketAddrV4 = SocketAddrV4::new(VIP, 80);

fn main() -> Result<()> {
    // Not for an outcome that a signal is the cause of: that is its handler's to tell.
    demo().inspect_err(|_| cleanup::park_if_stopping())
}

fn demo() -> Result<()> {
    let start = Instant::now();
    let binaries = Binaries::beside(&std::env::current_exe()?)?;
    say("The lab: two clients, a balancer, three web servers and one to be added, each in a \
         network namespace");
    let network = Network::new(2, 4)?;
    let (mut web, _names) = start_servers(&network, &binaries)?;
    println!("  clients   {}, {}", network::client_address(1), network::client_address(2));
    println!("  VIP       {VIP}: tcp 80 (web), udp 53 (dns)");
    println!("  backends  {} to {}", network::backend_address(1), network::backend_address(3));
    println!("  later     {}", network::backend_address(4));

    let config = first_config(&network);
    let mut balancer = Balancer::start(&network, &binaries, config)?;
    println!("  shuntd    pid {}, two ports, {WORKERS} workers", balancer.program.pid());

    let before = balancer.metrics()?;
    let bodies = step_1_curl(&network)?;
    step_2_udp(&network)?;
    let reload = step_3_reload(&network, &binaries, &mut balancer)?;
    step_4_metrics(&before, &balancer.metrics()?, f64::from(REQUESTS) + reload)?;
    step_5_addresses(&bodies)?;
    minute::minute(&network, &binaries, &mut balancer, &mut web)?;

    say("SIGTERM: drain, end with exit code 0");
    balancer.stop()?;
    drop(balancer);
    drop(network);
    println!("\n{:.0} s, everything removed", start.elapsed().as_secs_f64());
    ensure!(start.elapsed() < TIME_LIMIT, "the demo takes under {} s", TIME_LIMIT.as_secs());
    println!("demo: ok");
    Ok(())
}

/// Prints a headline.
fn say(text: &str) {
    println!("\n== {text}");
}

/// nginx and a name server on every backend.
fn start_servers(network: &Network, binaries: &Binaries) -> Result<(Vec<Nginx>, Vec<Program>)> {
    let (mut web, mut names) = (Vec::new(), Vec::new());
    for (host, number) in network.backends.iter().zip(1..) {
        web.push(programs::nginx(network, host)?);
        names.push(programs::dns(network, binaries, host, network::backend_address(number))?);
    }
    Ok((web, names))
}

/// Three of the four backends, for both services.
fn first_config(network: &Network) -> Config {
    let three =
        |port: u16| -> Vec<_> { (1..=3).map(|number| (backend(number, port), 1)).collect() };
    Config::new(network, WORKERS).with_service("web", "tcp", 80, "wrr", &three(80)).with_service(
        "dns",
        "udp",
        53,
        "rr",
        &three(53),
    )
}

fn backend(number: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(network::backend_address(number), port)
}

fn step_1_curl(network: &Network) -> Result<Vec<String>> {
    say(&format!("1. {REQUESTS} requests by curl, a connection each"));
    let url = format!("http://{VIP}/");
    let bodies = programs::curl_many(&network.clients[0], &url, REQUESTS)?;
    let shares = count_words(&bodies, 0);
    print_shares(&shares);
    ensure!(bodies.len() == REQUESTS as usize, "{} answers to {REQUESTS}", bodies.len());
    check_even(&shares, 3, u64::from(REQUESTS))?;
    Ok(bodies)
}

fn step_2_udp(network: &Network) -> Result<()> {
    say(&format!(
        "2. {DNS_QUESTIONS} questions by dig over UDP: each backend answers with its address"
    ));
    let mut shares = BTreeMap::new();
    for _ in 0..DNS_QUESTIONS {
        let answer = programs::dig(&network.clients[0], VIP, "who.shunt.test")?;
        let [address] = answer[..] else { anyhow::bail!("dig got {answer:?}") };
        *shares.entry(address.to_string()).or_default() += 1;
    }
    print_shares(&shares);
    check_even(&shares, 3, u64::from(DNS_QUESTIONS))
}

/// Returns how many connections were made, wrk's not counted.
fn step_3_reload(
    network: &Network,
    binaries: &Binaries,
    balancer: &mut Balancer<'_>,
) -> Result<f64> {
    say("3. Under load (wrk on lasting connections, a loop of short ones): add one, drain one");
    let url = format!("http://{VIP}/");
    let mut wrk = programs::wrk(network, &network.clients[0], &url, 6, WRK_CONNECTIONS)?;
    let arguments = ["--threads", "4", "--pause-ms", "1"];
    let mut short = programs::load(network, binaries, &network.clients[1], WEB, &arguments)?;
    std::thread::sleep(Duration::from_secs(1));

    let mut config = balancer.config.clone();
    config.set_backend("web", backend(4, 80), 1)?;
    balancer.reload(config.clone())?;
    println!("  added {} and sent SIGHUP: in force", backend(4, 80));
    std::thread::sleep(Duration::from_secs(1));
    config.set_backend("web", backend(1, 80), 0)?;
    balancer.reload(config)?;
    println!("  gave {} weight 0 and sent SIGHUP: in force", backend(1, 80));
    let drained = count_words(&programs::curl_many(&network.clients[1], &url, 90)?, 0);
    let short = programs::stop_load(&mut short)?;
    let wrk = programs::wrk_report(&wrk.finish(Duration::from_secs(20))?)?;

    println!("  wrk: {} requests, {} failed", wrk.requests, wrk.failed);
    print_load("short connections over both reloads", &short);
    println!("  90 by curl after draining:");
    print_shares(&drained);
    ensure!(wrk.requests > 0 && wrk.failed == 0, "wrk lost requests");
    ensure!(short.ok > 0 && short.failed == 0, "requests failed: {:?}", short.errors);
    ensure!(short.backend("backend-4") > 0, "the added backend got nothing");
    ensure!(!drained.contains_key("backend-1"), "the drained backend got new connections");
    ensure!(drained.len() == 3, "three backends serve: {drained:?}");
    Ok(f64::from(u32::try_from(short.ok + drained.values().sum::<u64>())?))
}

fn print_load(what: &str, report: &Report) {
    println!("  {what}: {} requests, {} failed", report.ok, report.failed);
    print_shares(&report.backends);
}

/// `web_made` connections are known to have been made to the web service, besides wrk's.
fn step_4_metrics(before: &Metrics, after: &Metrics, web_made: f64) -> Result<()> {
    say("4. From /metrics");
    let shown = ["shunt_port_packets_total", "shunt_new_connections_total", "shunt_worker_busy"];
    let wanted = |line: &&str| {
        shown.iter().any(|name| line.starts_with(name)) && !line.ends_with(" 0")
            || line.starts_with("shunt_config_reloads_total")
    };
    after.text.lines().filter(wanted).for_each(|line| println!("  {line}"));
    let made = |labels: &[(&str, &str)]| -> Result<f64> {
        let now = after.sum("shunt_new_connections_total", labels).context("no such metric")?;
        Ok(now - before.sum("shunt_new_connections_total", labels).unwrap_or(0.0))
    };
    let (web, dns) = (made(&[("service", "web")])?, made(&[("service", "dns")])?);
    let by_wrk = web - web_made;
    let wrk_max = f64::from(WRK_CONNECTIONS + 1);
    ensure!((1.0..=wrk_max).contains(&by_wrk), "{web_made} to web and wrk's, counted {web}");
    ensure!((dns - f64::from(DNS_QUESTIONS)).abs() < 0.5, "counted {dns} to dns");
    let reloads = after.sum("shunt_config_reloads_total", &[("result", "applied")]);
    ensure!(reloads == Some(2.0), "two reloads, counted {reloads:?}");
    Ok(())
}

fn step_5_addresses(bodies: &[String]) -> Result<()> {
    say("5. The addresses the web servers saw in step 1: local addresses, not the client's");
    let seen = count_words(bodies, 1);
    print_shares(&seen);
    let local: Vec<_> = LOCAL.iter().map(ToString::to_string).collect();
    ensure!(seen.keys().all(|address| local.contains(address)), "{seen:?}, local are {local:?}");
    Ok(())
}

/// How often each word stands at this place of a line.
fn count_words(lines: &[String], place: usize) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in lines {
        let word = line.split(' ').nth(place).unwrap_or("?");
        *counts.entry(word.to_owned()).or_default() += 1;
    }
    counts
}

fn print_shares(shares: &BTreeMap<String, u64>) {
    for (name, count) in shares {
        println!("    {name:<14} {count:>6}");
    }
}

/// Each of `backends` has an equal share of `total`, give or take one for each worker: every
/// worker goes round by itself.
fn check_even(shares: &BTreeMap<String, u64>, backends: u64, total: u64) -> Result<()> {
    ensure!(shares.len() as u64 == backends, "{backends} backends answer: {shares:?}");
    ensure!(shares.values().sum::<u64>() == total, "{total} answers in all: {shares:?}");
    let even = |share: &u64| share.abs_diff(total / backends) <= WORKERS as u64;
    ensure!(shares.values().all(even), "the shares are not even: {shares:?}");
    Ok(())
}
