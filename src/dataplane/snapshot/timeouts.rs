//! How long silence lasts: one number for each state of a connection, by configuration key.
//!
//! Services may have times of their own, and most have not. So the snapshot keeps every *different* set
//! once, and for each service the number of its set:
//!
//! ```text
//! service ──► of: [u16] ──► sets: [[ms by state]]       the sweep asks; packets never do
//! ```

use std::collections::HashMap;

use crate::dataplane::conn::state::State;
use crate::ids::ServiceId;

/// One key, its states, one default: written once.
macro_rules! timeouts {
    ($($(#[doc = $doc:literal])* $key:ident: $($state:ident)|+ = $default:literal,)*) => {
        /// Seconds without a packet after which a connection of that state is forgotten (defaults:
        /// IPVS, `ip_vs_proto_tcp.c` and friends as recorded in its documentation).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
        pub struct Timeouts { $($(#[doc = $doc])* pub $key: u32,)* }

        impl Default for Timeouts {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl Timeouts {
            /// Their names, as written in the configuration.
            pub const KEYS: [&'static str; [$($default),*].len()] = [$(stringify!($key),)*];

            /// What each is, in a sentence.
            pub const MEANINGS: [&'static str; [$($default),*].len()] = [$(concat!($($doc),*),)*];

            /// Seconds in a state.
            pub fn of(&self, state: State) -> u32 {
                match state { $($(State::$state)|+ => self.$key,)* }
            }

            /// The one of that name.
            pub fn named(&self, key: &str) -> Option<u32> {
                match key {
                    $(stringify!($key) => Some(self.$key),)*
                    _ => None,
                }
            }

            /// The same, to be changed.
            pub fn named_mut(&mut self, key: &str) -> Option<&mut u32> {
                match key {
                    $(stringify!($key) => Some(&mut self.$key),)*
                    _ => None,
                }
            }
        }
    };
}

timeouts! {
    /// TCP, both sides talked.
    tcp_established_s: Established = 900,
    /// TCP, the backend sent SYN (active open through the balancer).
    tcp_syn_sent_s: SynSent = 120,
    /// TCP, the client sent SYN.
    tcp_syn_recv_s: SynRecv = 60,
    /// TCP, one side has closed.
    tcp_fin_wait_s: FinWait = 120,
    /// TCP, both sides have closed.
    tcp_time_wait_s: TimeWait = 120,
    /// TCP, reset or final ACK seen.
    tcp_close_s: Close = 10,
    /// TCP, the client has closed.
    tcp_close_wait_s: CloseWait = 60,
    /// TCP, waiting for the last ACK.
    tcp_last_ack_s: LastAck = 30,
    /// TCP, LISTEN (only reached through unusual sequences).
    tcp_listen_s: Listen = 120,
    /// TCP, SYN answered by the balancer.
    tcp_synack_s: Synack = 120,
    /// TCP, entry made but no state yet.
    tcp_none_s: None = 2,
    /// UDP.
    udp_s: Udp | UdpNone | UdpAsked | UdpUnanswered = 300,
    /// UDP, one datagram of a service that schedules each by itself.
    one_packet_s: OnePacket = 5,
    /// SCTP, entry made but no state yet.
    sctp_none_s: SctpNone = 2,
    /// SCTP, the client sent INIT.
    sctp_init1_s: SctpInit1 = 4,
    /// SCTP, the client sent INIT again.
    sctp_init_s: SctpInit = 61,
    /// SCTP, the backend answered with a cookie.
    sctp_cookie_sent_s: SctpCookieSent = 61,
    /// SCTP, the client gave the cookie back.
    sctp_cookie_replied_s: SctpCookieReplied = 61,
    /// SCTP, the backend sent INIT.
    sctp_cookie_wait_s: SctpCookieWait = 61,
    /// SCTP, the client answered the backend's INIT with a cookie.
    sctp_cookie_s: SctpCookie = 61,
    /// SCTP, the backend gave the client's cookie back.
    sctp_cookie_echoed_s: SctpCookieEchoed = 61,
    /// SCTP, both sides talked.
    sctp_established_s: SctpEstablished = 900,
    /// SCTP, the backend closes.
    sctp_shutdown_sent_s: SctpShutdownSent = 61,
    /// SCTP, the client closes.
    sctp_shutdown_received_s: SctpShutdownReceived = 61,
    /// SCTP, the backend agreed to the client's closing.
    sctp_shutdown_ack_sent_s: SctpShutdownAckSent = 61,
    /// SCTP, refused at the start.
    sctp_rejected_s: SctpRejected = 4,
    /// SCTP, over.
    sctp_closed_s: SctpClosed = 61,
}

/// Milliseconds by [`State`].
type Set = [u32; State::COUNT];

fn milliseconds(timeouts: &Timeouts) -> Set {
    State::ALL.map(|state| timeouts.of(state).saturating_mul(1000))
}

/// Every set there is, and which service has which.
#[derive(Clone, Debug)]
pub(super) struct Sets {
    /// The first is for whoever has none of its own.
    sets: Box<[Set]>,
    /// By service id.
    of: Box<[u16]>,
}

impl Default for Sets {
    fn default() -> Self {
        Self::new(&Timeouts::default(), std::iter::empty())
    }
}

impl Sets {
    /// `own` are those of the services, in the order of their ids.
    pub(super) fn new<'a>(
        common: &Timeouts,
        own: impl Iterator<Item = Option<&'a Timeouts>>,
    ) -> Self {
        let mut sets = vec![milliseconds(common)];
        let mut known = HashMap::from([(*common, 0)]);
        let of = own.map(|own| {
            let own = own.unwrap_or(common);
            *known.entry(*own).or_insert_with(|| {
                sets.push(milliseconds(own));
                u16::try_from(sets.len() - 1).unwrap_or(0)
            })
        });
        let of = of.collect();
        Self { sets: sets.into(), of }
    }

    /// Milliseconds a connection of the service may be silent in that state.
    #[inline(always)]
    pub(super) fn ms(&self, service: ServiceId, state: State) -> u32 {
        let number = self.of.get(service.index()).copied().unwrap_or(0);
        self.sets.get(usize::from(number)).map_or(0, |set| set[state as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_one_key_and_each_key_is_found_by_its_name() {
        let mut timeouts = Timeouts::default();
        for (key, value) in Timeouts::KEYS.iter().zip(1..) {
            *timeouts.named_mut(key).unwrap() = value;
        }
        let named = Timeouts::KEYS.map(|key| timeouts.named(key).unwrap());
        assert!(named.iter().copied().eq(1..=27));
        let of_udp =
            |state| matches!(state, State::UdpNone | State::UdpAsked | State::UdpUnanswered);
        let (udp, others): (Vec<_>, Vec<_>) = State::ALL.into_iter().partition(|it| of_udp(*it));
        let mut others: Vec<_> = others.into_iter().map(|state| timeouts.of(state)).collect();
        others.sort_unstable();
        assert_eq!(others, named, "no two other states share one");
        assert!(udp.into_iter().all(|state| timeouts.of(state) == timeouts.udp_s));
        assert_eq!((timeouts.named("tcp_x_s"), timeouts.named_mut("udp")), (None, None));
    }

    #[test]
    fn services_with_equal_times_share_a_set() {
        let (common, mut other) = (Timeouts::default(), Timeouts::default());
        other.udp_s = 7;
        let own = [None, Some(&other), Some(&common), Some(&other)];
        let sets = Sets::new(&common, own.into_iter());
        assert_eq!((sets.sets.len(), &*sets.of), (2, &[0, 1, 0, 1][..]));
        let udp = |service| sets.ms(ServiceId(service), State::Udp);
        assert_eq!([0, 1, 2, 3, 4].map(udp), [300_000, 7_000, 300_000, 7_000, 300_000]);
        assert_eq!(sets.ms(ServiceId(1), State::Established), 900_000);
    }
}
