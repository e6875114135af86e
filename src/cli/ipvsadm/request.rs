//! What a command line asks for, once it is understood.

use std::net::{IpAddr, SocketAddr};

use crate::dataplane::sched::{Flag, Scheduler};
use crate::dataplane::snapshot::{Mode, Protocol};

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `-h`
    Help,
    /// `-v`
    Version,
    /// `-A`
    AddService(Service),
    /// `-E`
    EditService(Service),
    /// `-D`
    DeleteService(Key),
    /// `-C`
    Clear,
    /// `-R`
    Restore,
    /// `-S`
    Save {
        /// Addresses and ports as numbers.
        numeric: bool,
    },
    /// `-a`
    AddServer(Key, Server),
    /// `-e`
    EditServer(Key, Server),
    /// `-d`
    DeleteServer(Key, SocketAddr),
    /// `-L`
    List(List),
    /// `-Z`: of one service, or of all.
    Zero(Option<Key>),
    /// `--set`; 0 changes nothing.
    Set {
        /// Established.
        tcp_s: u32,
        /// After a FIN.
        tcp_fin_s: u32,
        /// UDP.
        udp_s: u32,
    },
    /// `--start-daemon`
    StartDaemon,
    /// `--stop-daemon`
    StopDaemon,
    /// `-P`
    AddLocal(Key, IpAddr),
    /// `-Q`
    DeleteLocal(Key, IpAddr),
    /// `-G`: of one service, or of all.
    ListLocals(Option<Key>),
}

/// What makes a service the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Where clients find it.
    Place {
        /// The protocol.
        protocol: Protocol,
        /// VIP and port.
        address: SocketAddr,
    },
    /// A mark of the kernel's firewall, which Shunt does not see.
    Mark {
        /// The mark.
        mark: u32,
        /// For IPv6?
        is_ipv6: bool,
    },
}

impl Key {
    /// Is it one of IPv6?
    pub fn is_ipv6(&self) -> bool {
        match self {
            Self::Place { address, .. } => address.is_ipv6(),
            Self::Mark { is_ipv6, .. } => *is_ipv6,
        }
    }
}

/// A service, with all that is not said at its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Which.
    pub key: Key,
    /// As written: the daemon knows which there are.
    pub scheduler: String,
    /// `-p`
    pub persistent_s: Option<u32>,
    /// `-M`: as many first bits.
    pub prefix: Option<u8>,
    /// `-M`, where ones follow zeros.
    pub has_odd_mask: bool,
    /// `-o`
    pub is_ops: bool,
    /// `--pe`
    pub engine: Option<String>,
    /// `-b`
    pub flags: SchedFlags,
}

/// The three flags a scheduler may have, whatever it calls them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedFlags(pub [bool; 3]);

impl SchedFlags {
    /// What the first and the second are for the schedulers that have any. The third is nobody's.
    pub const MEANING: [Flag; 2] = [Flag::Fallback, Flag::Port];

    /// Their names in the configuration; `None` if the scheduler has no such flag.
    pub fn names(self, scheduler: Scheduler) -> Option<Vec<&'static str>> {
        let known = scheduler.method().flags;
        let mut names = Vec::new();
        for (place, _) in self.0.iter().enumerate().filter(|(_, is_set)| **is_set) {
            let meaning = *Self::MEANING.get(place)?;
            names.push(known.iter().find(|(_, flag)| *flag == meaning)?.0);
        }
        Some(names)
    }
}

/// A backend, with all that is not said at its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its address; the service's port if none is said.
    pub address: SocketAddr,
    /// How packets reach it.
    pub forward: Mode,
    /// `-w`
    pub weight: u32,
    /// `-x`
    pub upper: u32,
    /// `-y`
    pub lower: u32,
}

/// What is listed, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Of one service.
    pub key: Option<Key>,
    /// What.
    pub what: What,
    /// Addresses and ports as numbers.
    pub numeric: bool,
    /// All digits.
    pub exact: bool,
    /// In the order of the configuration.
    pub unsorted: bool,
}

/// What is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum What {
    /// Weights and connections.
    #[default]
    Plain,
    /// `--stats`
    Stats,
    /// `--rate`
    Rate,
    /// `--thresholds`
    Thresholds,
    /// `--persistent-conn`
    PersistentConn,
    /// `--tun-info`
    TunInfo,
    /// `-c`
    Connections {
        /// With the columns of persistence engines.
        engines: bool,
    },
    /// `--timeout`
    Timeouts,
    /// `--daemon`
    Daemon,
}
