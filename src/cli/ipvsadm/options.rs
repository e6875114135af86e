//! What may be said: commands, options, how each is spelled, and which go together.
//!
//! The order of [`Opt`] is the order in which `ipvsadm` looks for what is missing or out of place, so the
//! first complaint is the same as its first.
//!
//! Three commands and one option are not of `ipvsadm` 1.31 but of the LVS that has FULL-NAT (Alibaba's, and
//! DPVS): `-P`, `-Q` and `-G` with `-z`, and `-b` as a way of forwarding. `-b` means two things, and the
//! command says which: with `-A` and `-E` the scheduler's flags, as in 1.31, with `-a` and `-e` FULL-NAT. 1.31
//! has no `-b` with `-a`, so nothing that it understands means something else here.

/// A command: the first thing on the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `-A`
    AddService,
    /// `-E`
    EditService,
    /// `-D`
    DeleteService,
    /// `-C`
    Clear,
    /// `-R`
    Restore,
    /// `-S`
    Save,
    /// `-a`
    AddServer,
    /// `-e`
    EditServer,
    /// `-d`
    DeleteServer,
    /// `-L`
    List,
    /// `-Z`
    Zero,
    /// `--set`
    Set,
    /// `--start-daemon`
    StartDaemon,
    /// `--stop-daemon`
    StopDaemon,
    /// `-P`
    AddLocal,
    /// `-Q`
    DeleteLocal,
    /// `-G`
    ListLocals,
    /// `-h`
    Help,
    /// `-v`
    Version,
}

/// An option, by what it sets: `-g` and `-m` set the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opt {
    /// `-n`
    Numeric,
    /// `-c`
    Connection,
    /// `-t`, `-u`, `--sctp-service`, `-f`
    Service,
    /// `-s`
    Scheduler,
    /// `-p`
    Persistent,
    /// `-M`
    Netmask,
    /// `-r`
    Server,
    /// `-g`, `-i`, `-m`, and FULL-NAT's `-b`
    Forward,
    /// `-w`
    Weight,
    /// `-x`
    Upper,
    /// `-y`
    Lower,
    /// `--mcast-interface`
    McastInterface,
    /// `--timeout`
    Timeout,
    /// `--daemon`
    Daemon,
    /// `--stats`
    Stats,
    /// `--rate`
    Rate,
    /// `--thresholds`
    Thresholds,
    /// `--persistent-conn`
    PersistentConn,
    /// `--nosort`
    NoSort,
    /// `--syncid`
    SyncId,
    /// `-X`
    Exact,
    /// `-o`
    Ops,
    /// `--pe`
    Engine,
    /// `-b` with `-A` and `-E`
    SchedFlags,
    /// `--mcast-group`
    McastGroup,
    /// `--mcast-port`
    McastPort,
    /// `--mcast-ttl`
    McastTtl,
    /// `--sync-maxlen`
    SyncMaxlen,
    /// `--tun-info`
    TunInfo,
    /// `--tun-type`
    TunType,
    /// `--tun-port`
    TunPort,
    /// `--tun-nocsum`
    TunNoCsum,
    /// `--tun-csum`
    TunCsum,
    /// `--tun-remcsum`
    TunRemCsum,
    /// `-z`
    Local,
}

/// What a word on the line stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// A command.
    Verb(Verb),
    /// An option.
    Opt(Opt),
    /// `-t`: of [`Opt::Service`].
    Tcp,
    /// `-u`
    Udp,
    /// `--sctp-service`
    Sctp,
    /// `-f`
    Mark,
    /// `-6`
    Ipv6,
    /// `-g`: of [`Opt::Forward`].
    Route,
    /// `-i`
    Tunnel,
    /// `-m`
    Masq,
    /// `--fullnat`, and `-b` with servers
    Fullnat,
    /// `-F`: DPVS's interface of a local address. Shunt finds it by itself.
    Interface,
    /// `--sort`: does nothing.
    Sort,
}

/// Does a word take a value?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// No.
    Nothing,
    /// Yes.
    Value,
    /// If one follows that does not begin with a dash.
    Perhaps,
}

/// How a word is written.
#[derive(Clone, Copy, Debug)]
pub struct Spelling {
    /// Without the two dashes.
    pub long: &'static str,
    /// Without the dash.
    pub short: Option<char>,
    /// Its meaning.
    pub word: Word,
    /// Its value.
    pub takes: Takes,
}

const fn plain(long: &'static str, short: Option<char>, word: Word) -> Spelling {
    Spelling { long, short, word, takes: Takes::Nothing }
}

const fn valued(long: &'static str, short: Option<char>, word: Word) -> Spelling {
    Spelling { long, short, word, takes: Takes::Value }
}

/// What `-b` is with servers.
pub const FULLNAT: Spelling = plain("fullnat", None, Word::Fullnat);

/// Every word there is.
#[rustfmt::skip]
pub const SPELLINGS: &[Spelling] = &[
    plain("add-service", Some('A'), Word::Verb(Verb::AddService)),
    plain("edit-service", Some('E'), Word::Verb(Verb::EditService)),
    plain("delete-service", Some('D'), Word::Verb(Verb::DeleteService)),
    plain("clear", Some('C'), Word::Verb(Verb::Clear)),
    plain("restore", Some('R'), Word::Verb(Verb::Restore)),
    plain("save", Some('S'), Word::Verb(Verb::Save)),
    plain("add-server", Some('a'), Word::Verb(Verb::AddServer)),
    plain("edit-server", Some('e'), Word::Verb(Verb::EditServer)),
    plain("delete-server", Some('d'), Word::Verb(Verb::DeleteServer)),
    plain("list", Some('L'), Word::Verb(Verb::List)),
    plain("list", Some('l'), Word::Verb(Verb::List)),
    plain("zero", Some('Z'), Word::Verb(Verb::Zero)),
    plain("set", None, Word::Verb(Verb::Set)),
    valued("start-daemon", None, Word::Verb(Verb::StartDaemon)),
    valued("stop-daemon", None, Word::Verb(Verb::StopDaemon)),
    plain("add-laddr", Some('P'), Word::Verb(Verb::AddLocal)),
    plain("del-laddr", Some('Q'), Word::Verb(Verb::DeleteLocal)),
    plain("get-laddr", Some('G'), Word::Verb(Verb::ListLocals)),
    plain("help", Some('h'), Word::Verb(Verb::Help)),
    plain("version", Some('v'), Word::Verb(Verb::Version)),
    valued("tcp-service", Some('t'), Word::Tcp),
    valued("udp-service", Some('u'), Word::Udp),
    valued("sctp-service", None, Word::Sctp),
    valued("fwmark-service", Some('f'), Word::Mark),
    plain("ipv6", Some('6'), Word::Ipv6),
    valued("scheduler", Some('s'), Word::Opt(Opt::Scheduler)),
    valued("pe", None, Word::Opt(Opt::Engine)),
    Spelling { long: "persistent", short: Some('p'), word: Word::Opt(Opt::Persistent), takes: Takes::Perhaps },
    valued("netmask", Some('M'), Word::Opt(Opt::Netmask)),
    valued("real-server", Some('r'), Word::Opt(Opt::Server)),
    plain("masquerading", Some('m'), Word::Masq),
    plain("ipip", Some('i'), Word::Tunnel),
    plain("gatewaying", Some('g'), Word::Route),
    FULLNAT,
    valued("sched-flags", Some('b'), Word::Opt(Opt::SchedFlags)),
    valued("weight", Some('w'), Word::Opt(Opt::Weight)),
    valued("u-threshold", Some('x'), Word::Opt(Opt::Upper)),
    valued("l-threshold", Some('y'), Word::Opt(Opt::Lower)),
    valued("tun-type", None, Word::Opt(Opt::TunType)),
    valued("tun-port", None, Word::Opt(Opt::TunPort)),
    plain("tun-nocsum", None, Word::Opt(Opt::TunNoCsum)),
    plain("tun-csum", None, Word::Opt(Opt::TunCsum)),
    plain("tun-remcsum", None, Word::Opt(Opt::TunRemCsum)),
    plain("numeric", Some('n'), Word::Opt(Opt::Numeric)),
    plain("connection", Some('c'), Word::Opt(Opt::Connection)),
    plain("timeout", None, Word::Opt(Opt::Timeout)),
    plain("daemon", None, Word::Opt(Opt::Daemon)),
    plain("stats", None, Word::Opt(Opt::Stats)),
    plain("rate", None, Word::Opt(Opt::Rate)),
    plain("thresholds", None, Word::Opt(Opt::Thresholds)),
    plain("persistent-conn", None, Word::Opt(Opt::PersistentConn)),
    plain("tun-info", None, Word::Opt(Opt::TunInfo)),
    plain("nosort", None, Word::Opt(Opt::NoSort)),
    plain("sort", None, Word::Sort),
    plain("exact", Some('X'), Word::Opt(Opt::Exact)),
    plain("ops", Some('o'), Word::Opt(Opt::Ops)),
    valued("mcast-interface", None, Word::Opt(Opt::McastInterface)),
    valued("syncid", None, Word::Opt(Opt::SyncId)),
    valued("sync-maxlen", None, Word::Opt(Opt::SyncMaxlen)),
    valued("mcast-group", None, Word::Opt(Opt::McastGroup)),
    valued("mcast-port", None, Word::Opt(Opt::McastPort)),
    valued("mcast-ttl", None, Word::Opt(Opt::McastTtl)),
    valued("laddr", Some('z'), Word::Opt(Opt::Local)),
    valued("ifname", Some('F'), Word::Interface),
];

impl Verb {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::AddService => "add-service",
            Self::EditService => "edit-service",
            Self::DeleteService => "delete-service",
            Self::Clear => "flush",
            Self::Restore => "restore",
            Self::Save => "save",
            Self::AddServer => "add-server",
            Self::EditServer => "edit-server",
            Self::DeleteServer => "delete-server",
            Self::List => "list",
            Self::Zero => "zero",
            Self::Set => "set",
            Self::StartDaemon => "start-daemon",
            Self::StopDaemon => "stop-daemon",
            Self::AddLocal => "add-laddr",
            Self::DeleteLocal => "del-laddr",
            Self::ListLocals => "get-laddr",
            Self::Help => "help",
            Self::Version => "version",
        }
    }

    /// What it cannot do without.
    pub fn required(self) -> &'static [Opt] {
        match self {
            Self::AddService | Self::EditService | Self::DeleteService => &[Opt::Service],
            Self::AddServer | Self::EditServer | Self::DeleteServer => &[Opt::Service, Opt::Server],
            Self::AddLocal | Self::DeleteLocal => &[Opt::Service, Opt::Local],
            _ => &[],
        }
    }

    /// What may go with it besides.
    #[rustfmt::skip]
    pub fn allowed(self) -> &'static [Opt] {
        match self {
            Self::AddService | Self::EditService => &[
                Opt::Scheduler, Opt::Persistent, Opt::Netmask, Opt::Ops, Opt::Engine, Opt::SchedFlags,
            ],
            Self::AddServer | Self::EditServer => &[
                Opt::Forward, Opt::Weight, Opt::Upper, Opt::Lower, Opt::TunType, Opt::TunPort,
                Opt::TunNoCsum, Opt::TunCsum, Opt::TunRemCsum,
            ],
            Self::List => &[
                Opt::Numeric, Opt::Connection, Opt::Service, Opt::Timeout, Opt::Daemon, Opt::Stats, Opt::Rate,
                Opt::Thresholds, Opt::PersistentConn, Opt::NoSort, Opt::SyncId, Opt::Exact, Opt::TunInfo,
            ],
            Self::Save => &[Opt::Numeric],
            Self::Zero | Self::ListLocals => &[Opt::Service],
            Self::StartDaemon => &[
                Opt::McastInterface, Opt::SyncId, Opt::SyncMaxlen, Opt::McastGroup, Opt::McastPort,
                Opt::McastTtl,
            ],
            Self::StopDaemon => &[Opt::SyncId],
            _ => &[],
        }
    }

    /// Of these it takes one at most.
    pub fn alone(self) -> &'static [Opt] {
        match self {
            Self::List => &[Opt::Connection, Opt::Service, Opt::Timeout, Opt::Daemon],
            _ => &[],
        }
    }
}

impl Opt {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "service-address",
            Self::Forward => "forwarding-method",
            other => {
                let known = SPELLINGS.iter().find(|it| it.word == Word::Opt(other));
                known.map_or("", |it| it.long)
            }
        }
    }

    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        let own = SPELLINGS.iter().filter_map(|it| match it.word {
            Word::Opt(opt) => Some(opt),
            _ => None,
        });
        let mut all: Vec<_> = own.chain([Self::Service, Self::Forward]).collect();
        all.sort_unstable();
        all.into_iter()
    }
}
