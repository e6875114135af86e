//! The tunnel options of `-a` and `-e`, as `ipvsadm` reads them.
//!
//! | | `ipip` | `gue` | `gre` |
//! |---|---|---|---|
//! | `--tun-port` | no | must be | no |
//! | `--tun-nocsum`, `--tun-csum` | no | one of three | one of two |
//! | `--tun-remcsum` | no | one of three | no |

use super::messages::Refusal;
use super::names::number;
use super::options::Opt;
use crate::dataplane::snapshot::{Encapsulation, GueChecksum};

/// A kind of tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// IP in IP.
    Ipip,
    /// In UDP.
    Gue,
    /// GRE.
    Gre,
}

impl Tunnel {
    /// What belongs to tunnels only.
    pub const OPTIONS: [Opt; 5] =
        [Opt::TunType, Opt::TunPort, Opt::TunNoCsum, Opt::TunCsum, Opt::TunRemCsum];

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Ipip, Self::Gue, Self::Gre].into_iter().find(|kind| kind.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ipip => "ipip",
            Self::Gue => "gue",
            Self::Gre => "gre",
        }
    }

    fn takes(self, opt: Opt) -> bool {
        match self {
            Self::Ipip => false,
            Self::Gue => true,
            Self::Gre => matches!(opt, Opt::TunNoCsum | Opt::TunCsum),
        }
    }

    /// The tunnel of these options.
    pub fn read<'a>(self, said: &dyn Fn(Opt) -> Option<&'a str>) -> Result<Encapsulation, Refusal> {
        let (kind, port) = (self.name(), Opt::TunPort.name());
        if self == Self::Gue && said(Opt::TunPort).is_none() {
            return Err(Refusal::TunnelLacks { option: port, kind });
        }
        let sums =
            [Opt::TunRemCsum, Opt::TunCsum, Opt::TunNoCsum].map(|opt| (opt, said(opt).is_some()));
        for opt in [Opt::TunPort, Opt::TunNoCsum, Opt::TunCsum, Opt::TunRemCsum] {
            if said(opt).is_some() && !self.takes(opt) {
                return Err(Refusal::TunnelHasNo { option: opt.name(), kind });
            }
        }
        let pairs = [(1, 2), (0, 1), (0, 2)];
        if let Some((one, other)) =
            pairs.into_iter().find(|(one, other)| sums[*one].1 && sums[*other].1)
        {
            let (one, other) = (sums[one].0.name(), sums[other].0.name());
            return Err(Refusal::TunnelHasOne { one, other, kind });
        }
        let port = said(Opt::TunPort).and_then(|text| number(text, 1, 65_535));
        let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or_default();
        let [remote, outer, _] = sums.map(|(_, is_said)| is_said);
        Ok(match self {
            Self::Ipip => Encapsulation::Ipip,
            Self::Gre => Encapsulation::Gre { checksum: outer },
            Self::Gue if remote => Encapsulation::Gue { port, checksum: GueChecksum::Remote },
            Self::Gue if outer => Encapsulation::Gue { port, checksum: GueChecksum::Outer },
            Self::Gue => Encapsulation::Gue { port, checksum: GueChecksum::Zero },
        })
    }
}
