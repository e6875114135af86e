//! `generate`: packets through any box, by any DPDK ports: a Shunt, another balancer, a plain forwarder.
//!
//! It stands for the clients on one port and for the backends on another, so what it counts is what a
//! network sees. Of the box it knows nothing but the VIP. Two machines with a card of two ports each are a
//! test bed; two pairs of `veth` are one too, for tests.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use serde::Serialize;
use shunt::wire::Mac;

use crate::latency::Latency;
use crate::machine::{Devices, Machine};
use crate::options::{Mode, PacketSize, Transport};
use crate::reflect::{Asked, Tester};
use crate::search::{NoLoss, Search};
use crate::tester::{Bench, End};

/// Packet buffers: descriptors of two ports, and what is under way.
const BUFFERS: u32 = 16_384;

fn mac(text: &str) -> Result<Mac, String> {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16));
    let bytes = bytes.collect::<Result<Vec<_>, _>>().ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(Mac).ok_or_else(|| "expected six bytes, as in 02:00:00:00:00:01".to_owned())
}

/// What `generate` does.
#[derive(Clone, Debug, Args)]
pub(crate) struct GenerateOptions {
    /// DPDK's name of the port on the clients' side: a PCI address, or a virtual device with its
    /// arguments.
    #[arg(long)]
    pub(crate) clients: String,
    /// The port on the backends' side; without it, the same.
    #[arg(long)]
    pub(crate) backends: Option<String>,
    /// Address and port of the service.
    #[arg(long)]
    pub(crate) vip: SocketAddr,
    /// Who takes packets for the VIP on the clients' side; without it, who has the VIP.
    #[arg(long)]
    pub(crate) gateway: Option<IpAddr>,
    /// Its link address, where nobody would say.
    #[arg(long, value_parser = mac)]
    pub(crate) gateway_mac: Option<Mac>,
    /// How the box reaches its backends.
    #[arg(long, value_enum, default_value = "fullnat")]
    pub(crate) mode: Mode,
    /// What connections speak.
    #[arg(long, value_enum, default_value = "tcp")]
    pub(crate) protocol: Transport,
    /// Connections, opened first.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) flows: u32,
    /// Bytes of a frame, FCS included: 64 to 1518, or `imix`.
    #[arg(long, default_value = "64")]
    pub(crate) packet_size: PacketSize,
    /// Thousands of packets offered a second; without it, as fast as packets come back.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate_kpps: Option<u32>,
    /// Packets that are under way at most where there is no rate.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) in_flight: u32,
    /// Search the highest rate without loss first, up to `--rate-kpps`; then 10, 90 and 50 % of it are offered.
    #[arg(long, requires = "rate_kpps")]
    pub(crate) search: bool,
    /// Packets of a million that may be lost in a trial of the search.
    #[arg(long, default_value_t = 0)]
    pub(crate) tolerated_ppm: u32,
    /// Seconds packets are offered for, and in each trial of the search.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) duration: u32,
    /// Seed of the order in which connections are visited.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// CPU to run on.
    #[arg(long)]
    pub(crate) core: Option<usize>,
    /// Do not use huge pages.
    #[arg(long)]
    pub(crate) no_huge: bool,
    /// A further argument for DPDK's EAL, as it is; may be given several times.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) eal: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    /// How the box reached its backends.
    pub(crate) mode: &'static str,
    /// What connections spoke.
    pub(crate) protocol: shunt::dataplane::snapshot::Protocol,
    /// 4 or 6.
    pub(crate) ip: u8,
    /// Connections.
    pub(crate) flows: u32,
    /// Bytes of a frame, FCS included, on average.
    pub(crate) packet_size: f64,
    /// Connections opened a second, packets under way limited.
    pub(crate) opened_per_second: f64,
    /// The highest rate tried at which nothing was lost, millions a second; `null` if not searched for.
    pub(crate) no_loss_mpps: Option<f64>,
    /// Latency at other shares of that rate: empty if it was not searched for.
    pub(crate) latency: Vec<AtLoad>,
    /// Packets offered, in what follows: at half of that rate, if it was.
    pub(crate) offered_packets: u64,
    /// Packets that did not come back.
    pub(crate) lost_packets: u64,
    /// Packets that came, and were not what was to come.
    pub(crate) wrong_packets: u64,
    /// Packets of others.
    pub(crate) other_packets: u64,
    /// Of those that came back.
    pub(crate) latency_ns: Latency,
}

/// Latency at a share of the highest rate without loss.
#[derive(Debug, Serialize)]
pub(crate) struct AtLoad {
    /// The share, in percent.
    pub(crate) load_percent: u32,
    /// Packets lost meanwhile.
    pub(crate) lost_packets: u64,
    /// Of those that came back.
    pub(crate) latency_ns: Latency,
}

/// Opens connections, then measures.
pub(crate) fn run(options: &GenerateOptions) -> anyhow::Result<Found> {
    let gateway = options.gateway.unwrap_or(options.vip.ip());
    match (options.vip.ip(), gateway) {
        (IpAddr::V4(vip), IpAddr::V4(gateway)) => generate::<Ipv4Addr>(options, vip, gateway),
        (IpAddr::V6(vip), IpAddr::V6(gateway)) => generate::<Ipv6Addr>(options, vip, gateway),
        (vip, gateway) => anyhow::bail!("--gateway {gateway}: expected an address like {vip}"),
    }
}

fn generate<F: Tester>(options: &GenerateOptions, vip: F, gateway: F) -> anyhow::Result<Found> {
    let names: Vec<_> = std::iter::once(&options.clients).chain(&options.backends).collect();
    let devices = Devices {
        names: names.iter().map(|name| (*name).clone()).collect(),
        extra: options.eal.clone(),
    };
    let machine = Machine::on_devices(options.core, BUFFERS, options.no_huge, devices)?;
    let _registered = machine.eal.register_thread()?;
    let ends = ["clients", "backends"].iter().zip(names);
    let ends = ends.map(|(name, device)| End::start(&machine, name, device));
    let ends = ends.collect::<anyhow::Result<Vec<_>>>()?;
    let asked = Asked {
        vip: (vip, options.vip.port()),
        transport: options.protocol,
        mode: options.mode,
        flows: options.flows,
    };
    let frames = (options.packet_size, options.in_flight, options.seed);
    let mut bench = Bench::new(&machine, ends, asked, (gateway, options.gateway_mac), frames)?;
    let opening = bench.open().context("opening connections")?;
    measure(&machine, options, &mut bench, opening)
}

fn measure<F: Tester>(
    machine: &Machine,
    options: &GenerateOptions,
    bench: &mut Bench<'_, F>,
    opening: Duration,
) -> anyhow::Result<Found> {
    let duration = Duration::from_secs(options.duration.into());
    let offered = options.rate_kpps.map(|kpps| f64::from(kpps) * 1e3);
    let highest = offered.filter(|_| options.search);
    let no_loss = highest.map(|highest| searched(options, bench, highest)).transpose()?;
    let mut latency = vec![];
    if let Some(no_loss) = no_loss {
        for load_percent in [10, 90] {
            let rate = no_loss * f64::from(load_percent) / 100.0;
            let trial = bench.trial(Some(rate), duration)?;
            let latency_ns = Latency::of(machine, trial.offered_per_second, &trial.latency);
            latency.push(AtLoad { load_percent, lost_packets: trial.lost, latency_ns });
        }
    }
    let trial = bench.trial(no_loss.map(|highest| highest / 2.0).or(offered), duration)?;
    Ok(Found {
        mode: options.mode.name(),
        protocol: options.protocol.protocol(),
        ip: if F::IS_V6 { 6 } else { 4 },
        flows: options.flows,
        packet_size: bench.mean_size(),
        opened_per_second: f64::from(options.flows) / opening.as_secs_f64(),
        no_loss_mpps: no_loss.map(|per_second| per_second / 1e6),
        latency,
        offered_packets: trial.offered,
        lost_packets: trial.lost,
        wrong_packets: bench.tally.wrong,
        other_packets: bench.tally.other,
        latency_ns: Latency::of(machine, trial.offered_per_second, &trial.latency),
    })
}

/// The highest rate without loss, packets a second.
fn searched<F: Tester>(
    options: &GenerateOptions,
    bench: &mut Bench<'_, F>,
    highest: f64,
) -> anyhow::Result<f64> {
    let duration = Duration::from_secs(options.duration.into());
    let search = Search { highest, tolerated_ppm: options.tolerated_ppm };
    let NoLoss { per_second, .. } = search.run(|rate| bench.trial(Some(rate), duration))?;
    ensure!(per_second > 0.0, "something was lost in every trial: see --tolerated-ppm");
    Ok(per_second)
}

/// What was found, as text.
pub(crate) fn render(found: &Found, json: bool) -> String {
    if json {
        return serde_json::to_string(found).unwrap_or_default() + "\n";
    }
    let searched = found.no_loss_mpps.map(|mpps| format!(", {mpps:.3} Mpps without loss"));
    let mut text = format!(
        "{} IPv{} {} connections, {:.0} opened a second{}\n\
         {:.3} Mpps offered, {} packets, {} lost, {} wrong\n\
         latency {}\n",
        found.mode,
        found.ip,
        found.flows,
        found.opened_per_second,
        searched.unwrap_or_default(),
        found.latency_ns.offered_mpps,
        found.offered_packets,
        found.lost_packets,
        found.wrong_packets,
        percentiles(found.latency_ns),
    );
    for AtLoad { load_percent, lost_packets, latency_ns } in &found.latency {
        let percentiles = percentiles(*latency_ns);
        let _ = writeln!(text, "at {load_percent} %: {lost_packets} lost, latency {percentiles}");
    }
    text
}

fn percentiles(Latency { p50, p99, p999, .. }: Latency) -> String {
    let [p50, p99, p999] = [p50, p99, p999].map(|ns| ns / 1e3);
    format!("{p50:.1} µs half, {p99:.1} µs 99 %, {p999:.1} µs 99.9 %")
}
