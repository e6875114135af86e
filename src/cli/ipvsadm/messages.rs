//! What is said when something is wrong, and the exit codes: scripts compare both.
//!
//! | code | |
//! |---|---|
//! | 0 | done |
//! | 1 | the service to list is not there |
//! | 2 | the line is understood and makes no sense, or nobody is there to ask |
//! | 255 | it is not understood, or the daemon says no |

/// Why nothing was done. The text is `ipvsadm`'s own where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No command, or not known.
    #[error("Try `ipvsadm -h' or 'ipvsadm --help' for more information.")]
    NoCommand,
    /// A word that is not known, or lacks its value.
    #[error("{0}")]
    BadWord(#[from] super::words::BadWord),
    /// A second command.
    #[error("invalid option `{0}'")]
    SecondCommand(String),
    /// What belongs to no option.
    #[error("unexpected argument {0}")]
    LeftOver(String),
    /// An option twice.
    #[error("multiple '{0}' options specified")]
    Twice(&'static str),
    /// An option is missing.
    #[error("You need to supply the '{option}' option for the '{command}' command")]
    Missing {
        /// Which.
        option: &'static str,
        /// For what.
        command: &'static str,
    },
    /// An option that has nothing to do with the command.
    #[error("Illegal '{option}' option with the '{command}' command")]
    OutOfPlace {
        /// Which.
        option: &'static str,
        /// With what.
        command: &'static str,
    },
    /// Two things to list.
    #[error("The option '{later}' conflicts with the '{earlier}' option in the 'list' command")]
    Conflict {
        /// The one.
        later: &'static str,
        /// The other.
        earlier: &'static str,
    },
    /// A listing that has no such figures.
    #[error("options conflicts in the list command")]
    Conflicts,
    /// A value that cannot be.
    #[error("illegal {0} specified")]
    Illegal(&'static str),
    /// The same, in other words.
    #[error("invalid {what} `{value}'{}", if *.is_specified { " specified" } else { "" })]
    Invalid {
        /// A value of what.
        what: &'static str,
        /// As written.
        value: String,
        /// How the sentence ends.
        is_specified: bool,
    },
    /// A flag of another scheduler.
    #[error("incompatible scheduler flag `{0}'")]
    ForeignFlag(String),
    /// `-6` belongs to `-f`.
    #[error("-6 used before -f\n")]
    SixBeforeMark,
    /// `--set` has three.
    #[error("--set option requires 3 timeout values")]
    ThreeTimeouts,
    /// All ports, and clients that may go anywhere with each.
    #[error("Zero port specified for non-persistent service")]
    ZeroPort,
    /// Only datagrams are scheduled by themselves.
    #[error("One-Packet Scheduling is only for UDP virtual services")]
    OpsNotUdp,
    /// A backend of the other family.
    #[error("Different address family is allowed only for tunneling servers")]
    OtherFamily,
    /// Tunnel options, and no tunnel.
    #[error("Tunnel options conflict with forward method")]
    NotATunnel,
    /// A tunnel lacks something.
    #[error("You need to supply the '{option}' option for the '{kind}' tunnel type")]
    TunnelLacks {
        /// Which option.
        option: &'static str,
        /// The tunnel.
        kind: &'static str,
    },
    /// A tunnel has no such thing.
    #[error("Illegal '{option}' option with the '{kind}' tunnel type")]
    TunnelHasNo {
        /// Which option.
        option: &'static str,
        /// The tunnel.
        kind: &'static str,
    },
    /// A tunnel has one or the other.
    #[error("The option '{one}' conflicts with the '{other}' option in the '{kind}' tunnel type")]
    TunnelHasOne {
        /// The one.
        one: &'static str,
        /// The other.
        other: &'static str,
        /// The tunnel.
        kind: &'static str,
    },
    /// A service that is there.
    #[error("Service already exists")]
    ServiceExists,
    /// A service that is not there.
    #[error("No such service")]
    NoService,
    /// The same, asked for a list.
    #[error("No such service")]
    NothingToList,
    /// The same, when a backend is added.
    #[error("Service not defined")]
    NotDefined,
    /// A backend that is there.
    #[error("Destination already exists")]
    ServerExists,
    /// A backend that is not there.
    #[error("No such destination")]
    NoServer,
    /// A scheduler or engine nobody knows.
    #[error("Scheduler or persistence engine not found")]
    NoScheduler,
    /// A backend that would never be full.
    #[error("Numerical result out of range")]
    OutOfRange,
    /// Something the configuration cannot say: with the reason on lines of its own.
    #[error("Invalid operation.  Possibly wrong module version, address not unicast, ...\n{0}")]
    InvalidOperation(String),
    /// The socket may not be opened.
    #[error("Permission denied (you must be root)\n{0}")]
    NotAllowed(String),
    /// There never is one.
    #[error("No daemon is running")]
    NoDaemon,
    /// What Shunt does not have.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The daemon is not there, or broke off.
    #[error("Can't initialize ipvs: {0}")]
    Unreachable(String),
}

impl Refusal {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::SecondCommand(_)
            | Self::LeftOver(_)
            | Self::Twice(_)
            | Self::Missing { .. }
            | Self::OutOfPlace { .. }
            | Self::Conflict { .. }
            | Self::Conflicts
            | Self::Illegal(_)
            | Self::Invalid { .. }
            | Self::ForeignFlag(_)
            | Self::SixBeforeMark
            | Self::ThreeTimeouts
            | Self::ZeroPort
            | Self::OpsNotUdp
            | Self::OtherFamily
            | Self::NotATunnel
            | Self::TunnelLacks { .. }
            | Self::TunnelHasNo { .. }
            | Self::TunnelHasOne { .. }
            | Self::Unreachable(_) => 2,
            Self::NothingToList => 1,
            _ => 255,
        }
    }
}
