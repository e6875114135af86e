//! Numbers of the HTTP servers: who is connected, what was asked, who was turned away and why.
//!
//! Written by the control thread only, as its servers run there.

use super::counters::Counter;

/// Where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// The admin socket.
    Admin,
    /// The address of `/metrics`.
    Metrics,
    /// The admin API's address beyond the machine.
    Remote,
}

impl Listener {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Metrics, Self::Remote];

    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Metrics => "metrics",
            Self::Remote => "remote",
        }
    }
}

/// Why a visitor did not get what they came for, whatever it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// As many as may be are being answered.
    Full,
    /// Nothing was asked yet when somebody else needed the place.
    Idle,
    /// The head of the request did not come in time.
    SlowHead,
    /// It is too long.
    LongHead,
    /// It is not HTTP.
    NotHttp,
    /// The body did not come in time.
    SlowBody,
    /// It is too long.
    LongBody,
    /// The answer was not read.
    Unread,
    /// The tool is of another version.
    Version,
    /// As many as may be are watching.
    Watchers,
    /// TLS was expected, or could not be agreed upon.
    Tls,
    /// Without the token, or with another.
    Token,
    /// A page in a browser tried to change something.
    Browser,
}

impl Turned {
    /// All of them, in order.
    pub const ALL: [Self; 13] = [
        Self::Full,
        Self::Idle,
        Self::SlowHead,
        Self::LongHead,
        Self::NotHttp,
        Self::SlowBody,
        Self::LongBody,
        Self::Unread,
        Self::Version,
        Self::Watchers,
        Self::Tls,
        Self::Token,
        Self::Browser,
    ];

    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Idle => "idle",
            Self::SlowHead => "slow_head",
            Self::LongHead => "long_head",
            Self::NotHttp => "not_http",
            Self::SlowBody => "slow_body",
            Self::LongBody => "long_body",
            Self::Unread => "unread",
            Self::Version => "version",
            Self::Watchers => "watchers",
            Self::Tls => "tls",
            Self::Token => "token",
            Self::Browser => "browser",
        }
    }
}

/// Numbers of one listener.
#[derive(Debug, Default)]
pub struct ListenerStats {
    /// Connections now.
    pub connections: Counter,
    /// Requests that were let in.
    pub requests: Counter,
    /// By [`Turned`].
    pub turned: [Counter; Turned::ALL.len()],
}

/// Numbers of all listeners.
#[derive(Debug, Default)]
pub struct HttpStats {
    /// Who follows `GET /watch` now.
    pub watchers: Counter,
    /// Events there were for them.
    pub events: Counter,
    /// Events that some of them were too slow for.
    pub lost_events: Counter,
    listeners: [ListenerStats; Listener::ALL.len()],
}

impl HttpStats {
    /// Those of one listener.
    pub fn of(&self, listener: Listener) -> &ListenerStats {
        &self.listeners[listener as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_every_listener_is_counted_by_itself() {
        let stats = HttpStats::default();
        let all = || Listener::ALL.into_iter().flat_map(|l| Turned::ALL.map(|why| (l, why)));
        for (n, (listener, why)) in (1..).zip(all()) {
            stats.of(listener).turned[why as usize].add(n);
        }
        for (n, (listener, why)) in (1..).zip(all()) {
            assert_eq!(stats.of(listener).turned[why as usize].get(), n, "{why:?}");
        }
    }
}
