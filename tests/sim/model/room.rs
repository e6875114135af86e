//! Who has room: backends that have had enough, quotas of services and of sources.
//!
//! A backend at its upper limit takes nobody until fewer are left than its lower one says, or than
//! three quarters of the upper. A higher limit, or none, makes an end of that at once.

use std::net::IpAddr;

use shunt::dataplane::snapshot::{Limit, Quotas, Rate};
use shunt::dataplane::verdict::Reason;

use super::Model;
use super::persistence::network;
use crate::config::{Change, Place};
use crate::packet::Flow;

/// A source: service, how many bits, which.
pub(super) type Source = (usize, u8, IpAddr);

/// Thousandths of tokens that are missing, and when that was so.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket(u64, u64);

impl Bucket {
    /// One is taken, if there is one.
    fn take(&mut self, rate: Rate, now_ms: u64) -> bool {
        let Self(missing, at_ms) = *self;
        let missing = missing.saturating_sub((now_ms - at_ms) * u64::from(rate.per_second));
        *self = Self(missing, now_ms);
        let has_one = rate.per_second == 0 || missing + 1_000 <= u64::from(rate.burst) * 1_000;
        if has_one && rate.per_second > 0 {
            self.0 += 1_000;
        }
        has_one
    }
}

fn is_few(limit: Limit, left: u32) -> bool {
    match limit {
        Limit { most: 0, .. } => true,
        Limit { most, least: 0 } => left * 4 < most * 3,
        Limit { least, .. } => left < least,
    }
}

impl Model {
    fn at(&self, place: Place) -> u32 {
        let there = self.connections.values().filter(|connection| connection.place == place);
        u32::try_from(there.count()).unwrap() + u32::from(self.coming == Some(place))
    }

    /// Has it had enough?
    pub(super) fn is_full(&self, place: Place) -> bool {
        let most = self.config.backend(place).limit.most;
        let since = self.full_since.get(&place);
        most > 0 && (since.is_some_and(|under| *under >= most) || self.at(place) >= most)
    }

    /// One more comes: from now on it counts.
    pub(super) fn comes(&mut self, place: Place) {
        self.coming = Some(place);
        let most = self.config.backend(place).limit.most;
        if most > 0 && self.at(place) >= most {
            self.full_since.insert(place, most);
        } else if most > 0 {
            self.full_since.remove(&place);
        }
    }

    /// One has gone.
    pub(super) fn goes(&mut self, place: Place) {
        let backend = self.config.backend(place);
        let limit = if backend.weight.is_some() { backend.limit } else { Limit::NONE };
        let left = self.at(place);
        if limit.most > 0 && left + 1 >= limit.most {
            self.full_since.entry(place).or_insert(limit.most);
        }
        if is_few(limit, left) {
            self.full_since.remove(&place);
        }
    }

    /// What was full under a lower limit need not be under a higher one.
    pub(super) fn limits_change(&mut self, change: &Change) {
        let Change::Limit(place, new) = change else { return };
        let backend = self.config.backend(*place);
        let is_raised = new.most == 0 || new.most > backend.limit.most;
        if backend.weight.is_some() && backend.limit.most > 0 && is_raised {
            self.full_since.remove(place);
        }
    }

    /// Is anything of this service shared by all workers, so that it matters who comes first?
    pub(super) fn is_shared(&self, service: usize) -> bool {
        let service = &self.config.services[service];
        service.persistence.is_some()
            || service.quotas != Quotas::default()
            || service.backends.iter().any(|backend| backend.limit != Limit::NONE)
            || crate::terms::is_choosy(service.scheduler)
    }

    /// Whose account a new connection goes to.
    pub(super) fn source(&self, service: usize, client: IpAddr) -> Option<Source> {
        let prefix = self.config.services[service].quotas.source?.prefix;
        Some((service, prefix, network(client, prefix)))
    }

    /// May one more connection be made, as far as it goes by numbers? Tokens are taken for it.
    pub(super) fn let_in(&mut self, service: usize, client: Flow) -> Result<(), Reason> {
        let Quotas { service: all, source } = self.config.services[service].quotas;
        let now_ms = self.now_ms;
        if let (Some(terms), Some(key)) = (source, self.source(service, client.from.ip())) {
            let of_it = self.connections.values().filter(|it| it.source == Some(key)).count();
            let most = terms.quota.connections as usize;
            if most > 0 && of_it >= most {
                return Err(Reason::SourceFull);
            }
            if !self.source_tokens.entry(key).or_default().take(terms.quota.rate, now_ms) {
                return Err(Reason::SourceRate);
            }
        }
        let there = self.connections.values().filter(|it| it.place.service == service).count();
        if all.connections > 0 && there >= all.connections as usize {
            return Err(Reason::ServiceFull);
        }
        if !self.service_tokens.entry(service).or_default().take(all.rate, now_ms) {
            return Err(Reason::ServiceRate);
        }
        Ok(())
    }
}
