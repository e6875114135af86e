//! `generate`: packets through any box, by any DPDK ports: a Shunt, another balancer, a plain forwarder.
//!
//! It stands for the clients on one port and for the backends on another, so what it counts is what a
//! network sees. Of the box it knows nothing but the VIP. Two machines with a card of two ports each are a
//! test bed; two pairs of `veth` are one too, for tests.

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
    /// Search the highest rate without loss first, up to `--rate-kpps`; then half of it is offered.
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
    /// Packets offered.
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
    let mut rate = options.rate_kpps.map(|kpps| f64::from(kpps) * 1e3);
    let mut no_loss_mpps = None;
    if let Some(highest) = rate.filter(|_| options.search) {
        let search = Search { highest, tolerated_ppm: options.tolerated_ppm };
        let NoLoss { per_second, .. } = search.run(|rate| bench.trial(Some(rate), duration))?;
        ensure!(per_second > 0.0, "something was lost in every trial: see --tolerated-ppm");
        no_loss_mpps = Some(per_second / 1e6);
        rate = Some(per_second / 2.0);
    }
    let trial = bench.trial(rate, duration)?;
    Ok(Found {
        mode: options.mode.name(),
        protocol: options.protocol.protocol(),
        ip: if F::IS_V6 { 6 } else { 4 },
        flows: options.flows,
        packet_size: bench.mean_size(),
        opened_per_second: f64::from(options.flows) / opening.as_secs_f64(),
        no_loss_mpps,
        offered_packets: trial.offered,
        lost_packets: trial.lost,
        wrong_packets: bench.tally.wrong,
        other_packets: bench.tally.other,
        latency_ns: Latency::of(machine, trial.offered_per_second, &trial.latency),
    })
}

/// What was found, as text.
pub(crate) fn render(found: &Found, json: bool) -> String {
    if json {
        return serde_json::to_string(found).unwrap_or_default() + "\n";
    }
    let Latency { offered_mpps, p50, p99, p999 } = found.latency_ns;
    let [p50, p99, p999] = [p50, p99, p999].map(|ns| ns / 1e3);
    let searched = found.no_loss_mpps.map(|mpps| format!(", {mpps:.3} Mpps without loss"));
    format!(
        "{} IPv{} {} connections, {:.0} opened a second{}\n\
         {offered_mpps:.3} Mpps offered, {} packets, {} lost, {} wrong\n\
         latency {p50:.1} µs half, {p99:.1} µs 99 %, {p999:.1} µs 99.9 %\n",
        found.mode,
        found.ip,
        found.flows,
        found.opened_per_second,
        searched.unwrap_or_default(),
        found.offered_packets,
        found.lost_packets,
        found.wrong_packets,
    )
}
