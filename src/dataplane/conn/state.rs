//! TCP states as IPVS names them.

/// The state of a connection (IPVS names). UDP connections are always [`State::Udp`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(u8)]
pub enum State {
    /// Made, no event yet.
    #[default]
    None = 0,
    /// Both sides talked.
    Established = 1,
    /// The backend sent SYN.
    SynSent = 2,
    /// The client sent SYN.
    SynRecv = 3,
    /// One side closed.
    FinWait = 4,
    /// Both sides closed.
    TimeWait = 5,
    /// Reset, or last ACK seen.
    Close = 6,
    /// The client closed first.
    CloseWait = 7,
    /// Waiting for the last ACK.
    LastAck = 8,
    /// Unusual.
    Listen = 9,
    /// Answered by a SYN proxy.
    Synack = 10,
    /// A UDP flow.
    Udp = 11,
}
