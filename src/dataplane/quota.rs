//! How many: connections, and new ones a second, of a service and of each source of its clients.
//!
//! ```text
//! new connection ──► its source: too many, too fast? ─► refused (`source_full`, `source_rate`)
//!                └─► its service: too many, too fast? ─► refused (`service_full`, `service_rate`)
//!                └─► a backend …        nothing else is asked, and no packet of a connection that is there
//! ```
//!
//! All of it counts over all workers, exactly. A *source* is a client's address, or as many of its
//! first bits as the service says. Sources are asked first: one that wants too much must not use up
//! what the service has for the others.
//!
//! **Rates** are token buckets, kept as what is missing until full ([`Debt`]): all zero is a full
//! one. A new connection takes a token whether or not it then finds a backend; one by a SYN cookie does
//! when the client has proven that it is there, so forged SYNs take none.
//!
//! **Connections of a service** are counted in a word that all workers share, but only while there
//! is a limit ([`follow`]): a worker that takes a snapshot with a limit into use adds what it has, and
//! takes it out again with one without. Everybody else pays nothing. Connections of a source count
//! from when its service has a limit; those made before do not, and say so themselves ([`Seat`]).
//!
//! Refusals are silent: all of them may be over when the client tries again.

use std::net::IpAddr;

use super::conn::key::FlowKey;
use super::family::Family;
use super::flows::Flows;
use super::snapshot::Snapshot;
use super::sources::{Found, Refused, Seat, Source};
use super::verdict::Reason;
use crate::ids::ServiceId;
use crate::stats::counters::WorkerStats;

/// Thousandths of a token: a millisecond at one a second is not nothing.
const TOKEN: u32 = 1000;

/// New connections a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Rate {
    /// On average; 0 is no limit.
    pub per_second: u32,
    /// At once, after a while without any; at most [`Rate::BURST_MAX`].
    pub burst: u32,
}

impl Rate {
    /// The largest burst.
    pub const BURST_MAX: u32 = 1_000_000;
}

/// Most connections, and new ones a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Quota {
    /// 0 is no limit.
    pub connections: u32,
    /// How fast.
    pub rate: Rate,
}

impl Quota {
    /// Does it limit anything?
    pub fn is_none(self) -> bool {
        self.connections == 0 && self.rate.per_second == 0
    }
}

/// The same for each source of a service's clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SourceQuota {
    /// Clients that share this many first bits of their address are one source.
    pub prefix: u8,
    /// What each has.
    pub quota: Quota,
}

/// What a service and its sources have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Quotas {
    /// The service as a whole.
    pub service: Quota,
    /// Each source, if that is limited.
    pub source: Option<SourceQuota>,
}

/// What a token bucket lacks of being full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Debt {
    /// Thousandths of a token, at that time.
    pub missing: u32,
    /// Milliseconds, wrapping.
    pub at_ms: u32,
}

impl Debt {
    /// How far workers' clocks are apart at most.
    const SKEW_MS: u32 = 60_000;

    /// With one more taken; `None` if there is none.
    #[inline]
    #[must_use]
    pub fn take(self, rate: Rate, now_ms: u32) -> Option<Self> {
        let now = self.at(rate, now_ms);
        let missing = now.missing.checked_add(TOKEN)?;
        let most = rate.burst.saturating_mul(TOKEN);
        (missing <= most).then_some(Self { missing, ..now })
    }

    /// With what has come in since.
    #[inline]
    fn at(self, rate: Rate, now_ms: u32) -> Self {
        let elapsed_ms = now_ms.wrapping_sub(self.at_ms);
        // Another worker read the clock a little later.
        if self.missing > 0 && elapsed_ms > u32::MAX - Self::SKEW_MS {
            return self;
        }
        let earned = u64::from(elapsed_ms) * u64::from(rate.per_second);
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        Self { missing: self.missing.saturating_sub(earned), at_ms: now_ms }
    }

    /// Milliseconds from its own time until it is full.
    pub fn full_in_ms(self, rate: Rate) -> u32 {
        self.missing.div_ceil(rate.per_second.max(1))
    }

    /// As one word.
    #[inline]
    pub fn to_bits(self) -> u64 {
        u64::from(self.missing) << 32 | u64::from(self.at_ms)
    }

    /// Out of one.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "each half of the word is a number")]
    pub fn from_bits(bits: u64) -> Self {
        Self { missing: (bits >> 32) as u32, at_ms: bits as u32 }
    }
}

impl Flows {
    /// Lets a client of a service start a connection, as far as it goes by numbers. What is counted for it is
    /// given back by [`leave`].
    pub(super) fn let_in<F: Family>(
        &self,
        id: ServiceId,
        client: FlowKey<F>,
    ) -> Result<Seat, Reason> {
        let service = self.snapshot.service(id).ok_or(Reason::NoService)?;
        let Quotas { service: quota, source } = service.quotas;
        let address = client.source().into();
        let seat = source.map_or(Ok(Seat::NONE), |terms| self.seat(id, address, terms))?;
        let tallies = &*self.stats.tallies;
        let refusal = if quota.connections > 0 && !tallies.take(id, quota.connections) {
            Some(Reason::ServiceFull)
        } else if quota.rate.per_second > 0 && !tallies.spend(id, quota.rate, self.now_ms) {
            if quota.connections > 0 {
                tallies.give_back(id, 1);
            }
            Some(Reason::ServiceRate)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            stand_up(&self.stats, id, address, seat);
            return Err(refusal);
        }
        Ok(seat)
    }

    fn seat(&self, id: ServiceId, address: IpAddr, terms: SourceQuota) -> Result<Seat, Reason> {
        let Some(sources) = &self.stats.tallies.sources else { return Ok(Seat::NONE) };
        let source = Source::of(address, id, terms.prefix);
        match sources.enter(source, terms.quota, self.now_ms) {
            Ok(Found::Here(seat)) => Ok(seat),
            Ok(Found::Evicted(seat)) => {
                self.stats.run.sources_evicted.add(1);
                Ok(seat)
            }
            Ok(Found::NoRoom) => {
                self.stats.run.sources_uncounted.add(1);
                Ok(Seat::NONE)
            }
            Err(Refused::Full) => Err(Reason::SourceFull),
            Err(Refused::Fast) => Err(Reason::SourceRate),
        }
    }

    /// Is there room for one more connection of the service, as far as that can be said before it
    /// is made?
    pub(super) fn has_room(&self, id: ServiceId, quota: Quota) -> bool {
        quota.connections == 0 || self.stats.tallies.count(id) < quota.connections
    }
}

/// What [`Flows::let_in`] counted is over.
pub(super) fn leave(stats: &WorkerStats, id: ServiceId, client: IpAddr, seat: Seat) {
    if stats.services.get(id.index()).is_some_and(|service| service.is_tallied.get() > 0) {
        stats.tallies.give_back(id, 1);
    }
    stand_up(stats, id, client, seat);
}

fn stand_up(stats: &WorkerStats, id: ServiceId, client: IpAddr, seat: Seat) {
    if let (Some(prefix), Some(sources)) = (seat.prefix(), &stats.tallies.sources) {
        sources.leave(Source::of(client, id, prefix), seat);
    }
}

/// A worker takes another snapshot into use: its connections count with the other workers' where
/// that limits their number, and nowhere else.
pub(super) fn follow(stats: &WorkerStats, before: &Snapshot, now: &Snapshot) {
    for id in before.limited().iter().chain(now.limited()) {
        let Some(own) = stats.services.get(id.index()) else { continue };
        let is_limited =
            |service: &super::snapshot::Service| service.quotas.service.connections > 0;
        let (shall, does) = (now.service(*id).is_some_and(is_limited), own.is_tallied.get() > 0);
        match (does, shall) {
            (false, true) => stats.tallies.add(*id, own.connections.get()),
            (true, false) => stats.tallies.give_back(*id, own.connections.get()),
            _ => {}
        }
        own.is_tallied.set(shall.into());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 5 };

    fn drain(debt: &mut Debt, rate: Rate, now_ms: u32) -> u32 {
        let mut taken = 0;
        while let Some(next) = debt.take(rate, now_ms) {
            (*debt, taken) = (next, taken + 1);
        }
        taken
    }

    #[test]
    fn it_starts_full_and_earns_by_time_also_over_the_wrap_and_after_an_age() {
        for start in [0, 1_000, 3_000_000_000, u32::MAX - 50] {
            let mut debt = Debt::default();
            assert_eq!(drain(&mut debt, RATE, start), 5, "from {start}");
            assert_eq!(drain(&mut debt, RATE, start.wrapping_add(99)), 0);
            assert_eq!(drain(&mut debt, RATE, start.wrapping_add(100)), 1);
            assert_eq!(debt.full_in_ms(RATE), 500);
            assert_eq!(drain(&mut debt, RATE, start.wrapping_add(60)), 0, "a clock behind");
            assert_eq!(drain(&mut debt, RATE, start.wrapping_add(3_000_000_000)), 5);
        }
    }

    #[test]
    fn a_word_holds_it() {
        let debt = Debt { missing: 4_000_000_000, at_ms: 3_000_000_001 };
        assert_eq!(Debt::from_bits(debt.to_bits()), debt);
    }

    proptest! {
        /// Whatever comes when: in no stretch of time more than the burst and what the rate gives.
        #[test]
        fn never_more_than_burst_and_rate(
            per_second in 1..2_000u32,
            burst in 1..50u32,
            start in any::<u32>(),
            steps in prop::collection::vec(0..200u32, 1..200),
        ) {
            let rate = Rate { per_second, burst };
            let mut debt = Debt::default();
            let (mut now_ms, mut taken) = (0u32, Vec::new());
            for step in steps {
                now_ms += step;
                if let Some(next) = debt.take(rate, start.wrapping_add(now_ms)) {
                    debt = next;
                    taken.push(u64::from(now_ms));
                } else {
                    let missing = debt.at(rate, start.wrapping_add(now_ms)).missing;
                    prop_assert!(missing + TOKEN > burst * TOKEN, "refused with a token left");
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (count, to) in (1u64..).zip(&taken[first..]) {
                    let most = u64::from(burst) * 1000 + (to - from) * u64::from(per_second);
                    prop_assert!(count * 1000 <= most, "{count} in {} ms", to - from);
                }
            }
        }
    }
}
