//! What to measure, as asked for on the command line.

use std::str::FromStr;

use anyhow::ensure;
use clap::{Args, ValueEnum};
use shunt::dataplane::io::BURST;
use shunt::dataplane::sched::Scheduler;
use shunt::dataplane::snapshot::{self, Encapsulation, GueChecksum, Protocol};

/// How packets reach the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Both addresses and ports are rewritten.
    Fullnat,
    /// The destination is rewritten.
    Nat,
    /// Link addresses only; answers do not pass here.
    Dr,
    /// An outer IP header; answers do not pass here.
    Ipip,
    /// The same and a GRE header.
    Gre,
    /// The same, UDP and a GUE header.
    Gue,
}

impl Mode {
    /// The data path's word for it.
    pub(crate) fn of_backend(self) -> snapshot::Mode {
        match self {
            Self::Fullnat => snapshot::Mode::Fullnat,
            Self::Nat => snapshot::Mode::Nat,
            Self::Dr => snapshot::Mode::Dr,
            Self::Ipip => snapshot::Mode::Tunnel(Encapsulation::Ipip),
            Self::Gre => snapshot::Mode::Tunnel(Encapsulation::Gre { checksum: false }),
            Self::Gue => snapshot::Mode::Tunnel(Encapsulation::Gue {
                port: 6080,
                checksum: GueChecksum::Zero,
            }),
        }
    }

    /// Do answers pass here?
    pub(crate) fn has_replies(self) -> bool {
        matches!(self, Self::Fullnat | Self::Nat)
    }

    /// Bytes between an outer IP header and the packet inside; `None` if there is no outer one.
    pub(crate) fn wrapping(self) -> Option<usize> {
        match self {
            Self::Fullnat | Self::Nat | Self::Dr => None,
            Self::Ipip => Some(0),
            Self::Gre => Some(4),
            Self::Gue => Some(12),
        }
    }

    /// As written on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fullnat => "fullnat",
            Self::Nat => "nat",
            Self::Dr => "dr",
            Self::Ipip => "ipip",
            Self::Gre => "gre",
            Self::Gue => "gue",
        }
    }
}

/// What connections speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// A SYN, then segments.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Transport {
    /// The data path's word for it.
    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::Tcp => Protocol::Tcp,
            Self::Udp => Protocol::Udp,
        }
    }
}

/// Addresses of clients and backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum IpVersion {
    /// IPv4.
    #[value(name = "4")]
    V4,
    /// IPv6.
    #[value(name = "6")]
    V6,
}

/// Bytes of frames, FCS included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketSize {
    /// All alike.
    Bytes(u16),
    /// Seven of 64, four of 594, one of 1518: what the Internet is said to be like.
    Imix,
}

impl PacketSize {
    /// The sizes of one round of packets, in order.
    pub(crate) fn pattern(self) -> &'static [u16] {
        const IMIX: [u16; 12] = [64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 594, 64];
        match self {
            Self::Bytes(_) => &[],
            Self::Imix => &IMIX,
        }
    }
}

impl FromStr for PacketSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "imix" {
            return Ok(Self::Imix);
        }
        let size = text.parse().ok().filter(|size| (64..=1518).contains(size));
        size.map(Self::Bytes).ok_or_else(|| "expected 64 to 1518, or `imix`".to_owned())
    }
}

impl std::fmt::Display for PacketSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(size) => size.fmt(f),
            Self::Imix => f.write_str("imix"),
        }
    }
}

fn scheduler(name: &str) -> Result<Scheduler, String> {
    Scheduler::named(name).ok_or_else(|| {
        let names: Vec<_> =
            Scheduler::ALL.iter().map(|scheduler| scheduler.method().name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// Packets the data path takes at once.
pub(crate) const FULL_BURST: u8 = 32;
const _: () = assert!(FULL_BURST as usize == BURST, "`--burst` says what the data path takes");

/// The world that is measured in.
#[derive(Clone, Debug, Args)]
pub(crate) struct Scene {
    /// How packets reach the backend.
    #[arg(long, value_enum, default_value = "fullnat")]
    pub(crate) mode: Mode,
    /// How a backend is chosen.
    #[arg(long, value_parser = scheduler, default_value = "rr")]
    pub(crate) scheduler: Scheduler,
    /// What connections speak.
    #[arg(long, value_enum, default_value = "tcp")]
    pub(crate) protocol: Transport,
    /// Addresses of clients and backends.
    #[arg(long, value_enum, default_value = "4")]
    pub(crate) ip: IpVersion,
    /// Backends the connections are spread over.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) backends: u32,
    /// Bytes of a frame, FCS included: 64 to 1518, or `imix`. Frames that cannot be so short are as
    /// short as they can be.
    #[arg(long, default_value = "64")]
    pub(crate) packet_size: PacketSize,
    /// Packets that are in flight between generator and worker at once.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(64..=65536))]
    pub(crate) in_flight: u32,
    /// Packets a port gives at once, 1 to 32.
    #[arg(long, default_value_t = FULL_BURST, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(crate) burst: u8,
    /// Seed of the order in which connections are visited.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// CPU to run on; the generator of what needs two takes another one.
    #[arg(long)]
    pub(crate) core: Option<usize>,
    /// Do not use huge pages.
    #[arg(long)]
    pub(crate) no_huge: bool,
}

impl Scene {
    /// An error unless frames are as short as they can be: SYNs carry nothing.
    pub(crate) fn expect_shortest(&self) -> anyhow::Result<()> {
        let is_shortest = self.packet_size == PacketSize::Bytes(64);
        ensure!(
            is_shortest,
            "expected --packet-size 64: SYNs are measured here, which carry nothing"
        );
        Ok(())
    }
}

/// What `run` measures.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pub(crate) scene: Scene,
    /// Connections made beforehand; several counts, separated by commas, give a row each.
    #[arg(long, value_delimiter = ',', default_value = "1000000",
          value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) flows: Vec<u32>,
    /// Workers, each on a core of its own with a generator and its share of the connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) workers: u8,
    /// Of 1,000 packets so many make a connection, and as many old ones end.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) new_per_mille: u32,
    /// Clients' packets only, no backend answers.
    #[arg(long)]
    pub(crate) no_replies: bool,
    /// Seconds of measuring for each row.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) duration: u32,
    /// Rounds thrown away first.
    #[arg(long, default_value_t = 64)]
    pub(crate) warm_up: u32,
    /// Draw the rate against the number of connections into this file (SVG).
    #[arg(long)]
    pub(crate) plot: Option<std::path::PathBuf>,
    /// Print JSON, an object a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Exit code 1, naming the bar, if a million connections cost over 150 cycles a packet or not
    /// under twice what a thousand cost. Needs rows of both counts.
    #[arg(long)]
    pub(crate) assert: bool,
}
