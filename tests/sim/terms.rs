//! What a service's terms are drawn as: who stays where, how many it takes, how long silence lasts.
//!
//! Rates are the same whenever there is one: what a token bucket lacks is then the same to everybody who
//! looks at it, however often a reload takes the limit away and gives it back.

use std::net::SocketAddr;

use shunt::dataplane::persistence::Persistence;
use shunt::dataplane::sched::{Flag, Flags};
use shunt::dataplane::snapshot::{Limit, Quota, Quotas, Rate, Scheduler, SourceQuota};

use crate::rng::Rng;

/// Of a service as a whole, and of each source.
const RATES: [Rate; 2] = [Rate { per_second: 2, burst: 4 }, Rate { per_second: 1, burst: 3 }];

/// Those that refuse nobody as long as any backend has a weight, and those that may.
const PLAIN: [&str; 11] =
    ["rr", "wrr", "lc", "wlc", "sed", "nq", "fo", "twos", "p2c", "lblc", "lblcr"];
const CHOOSY: [&str; 4] = ["sh", "dh", "mh", "ovf"];

/// Who chooses, and how.
pub(crate) fn scheduler(rng: &mut Rng) -> (Scheduler, Flags) {
    let is_choosy = rng.chance(250);
    let name = if is_choosy { rng.pick(&CHOOSY) } else { rng.pick(&PLAIN) };
    let mut flags = Flags::default();
    if ["sh", "mh"].contains(&name) {
        for flag in [Flag::Port, Flag::Fallback] {
            flags = if rng.chance(500) { flags.with(flag) } else { flags };
        }
    }
    (Scheduler::named(name).unwrap(), flags)
}

/// When a backend has had enough.
pub(crate) fn limit(rng: &mut Rng) -> Limit {
    let (most, least) = rng.pick(&[(0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (6, 0)]);
    Limit { most, least }
}

/// How many bits of an address all clients of a service here share, or some, or none.
fn prefix(rng: &mut Rng, vip: SocketAddr) -> u8 {
    if vip.is_ipv6() { rng.pick(&[128, 128, 127, 64, 0]) } else { rng.pick(&[32, 32, 31, 24, 0]) }
}

pub(crate) fn persistence(rng: &mut Rng, vip: SocketAddr) -> Option<Persistence> {
    let prefix = prefix(rng, vip);
    let persistence = Persistence {
        timeout_ms: rng.pick(&[20_000, 20_000, 60_000, 360_000]),
        prefix,
        to_drained: rng.chance(400),
        // Another one for each: then what another one kept means nothing.
        epoch: prefix.into(),
    };
    rng.chance(700).then_some(persistence)
}

pub(crate) fn quotas(rng: &mut Rng, vip: SocketAddr) -> Quotas {
    let [of_service, of_source] = RATES;
    let none = Rate::default();
    let source = Quota { connections: rng.pick(&[0, 1, 3]), rate: rng.pick(&[none, of_source]) };
    let source = SourceQuota { prefix: prefix(rng, vip).max(1), quota: source };
    Quotas {
        service: Quota {
            connections: rng.pick(&[0, 0, 2, 6]),
            rate: rng.pick(&[none, none, of_service]),
        },
        source: Some(source).filter(|source| !source.quota.is_none()),
    }
}

/// Is it one whose clients may be told that nobody takes them while somebody would?
pub(crate) fn is_choosy(scheduler: Scheduler) -> bool {
    CHOOSY.iter().chain(&["qh"]).any(|name| Scheduler::named(name) == Some(scheduler))
}
