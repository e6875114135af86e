//! `max_…` and `source_…` of a service: how many connections, and how many new ones a second, of all
//! its clients and of each.

use super::super::error::Problems;
use super::super::schema::{self, Maybe, Spanned};
use super::value::integer;
use super::vips::PlacedVip;
use crate::control::prefix::width;
use crate::dataplane::snapshot::{Quota, Quotas, Rate, SourceQuota};

/// Most new connections a second that are worth limiting to.
const RATE_MAX: i64 = 100_000_000;
/// Clients of IPv6 are given networks, not addresses (RFC 6177).
const PREFIX_V6: u8 = 64;

/// A key and its value.
type Key<'a, T> = (&'a str, &'a Maybe<T>);

/// What a service and its sources have.
pub(super) fn quotas(
    problems: &mut Problems,
    written: &schema::Service,
    vips: &[PlacedVip],
) -> Quotas {
    let service = quota(
        problems,
        ("max_connections", &written.max_connections),
        ("max_new_per_second", &written.max_new_per_second),
        ("max_new_burst", &written.max_new_burst),
    );
    let each = quota(
        problems,
        ("source_max_connections", &written.source_max_connections),
        ("source_max_new_per_second", &written.source_max_new_per_second),
        ("source_max_new_burst", &written.source_max_new_burst),
    );
    let bits = vips.first().map_or(32, |(address, _)| width(address.vip));
    let value = written.source_prefix.as_ref();
    let default = bits.min(if bits > 32 { PREFIX_V6 } else { bits });
    let prefix = integer(problems, "source_prefix", value, 1..=i64::from(bits), default);
    if let Some(value) = value.filter(|_| each.is_none()) {
        let message = "this does nothing without a limit of sources";
        let help = "for example `source_max_connections = 100`";
        problems.error_help(value.span(), message, help);
    }
    let source = (!each.is_none()).then_some(SourceQuota { prefix, quota: each });
    Quotas { service, source }
}

fn quota(
    problems: &mut Problems,
    (most_key, most): Key<'_, i64>,
    rate_key: Key<'_, i64>,
    burst_key: Key<'_, i64>,
) -> Quota {
    let range = 0..=i64::from(u32::MAX);
    let connections = integer(problems, most_key, most.as_ref(), range, 0);
    Quota { connections, rate: rate(problems, rate_key, burst_key) }
}

fn rate(
    problems: &mut Problems,
    (rate_key, per_second): Key<'_, i64>,
    (burst_key, burst): Key<'_, i64>,
) -> Rate {
    let per_second: u32 = integer(problems, rate_key, per_second.as_ref(), 0..=RATE_MAX, 0);
    if per_second == 0 {
        if let Some(value) = burst {
            let message = format!("this does nothing without `{rate_key}`");
            problems.error_help(value.span(), message, format!("for example `{rate_key} = 100`"));
        }
        return Rate::default();
    }
    let default = per_second.min(Rate::BURST_MAX);
    let range = 1..=i64::from(Rate::BURST_MAX);
    let rate =
        Rate { per_second, burst: integer(problems, burst_key, burst.as_ref(), range, default) };
    refuse_small(problems, burst_key, burst.as_ref(), rate);
    rate
}

/// Time counts in milliseconds: a bucket that holds less than one brings never gives the rate.
fn refuse_small(
    problems: &mut Problems,
    key: &str,
    value: Option<&Spanned<i64>>,
    Rate { per_second, burst }: Rate,
) {
    let Some(value) = value else { return };
    let least = per_second.div_ceil(1000);
    if burst < least {
        let message = format!("{key} {burst} is less than a millisecond's worth of {per_second}");
        problems.error_help(value.span(), message, format!("{least} at least"));
    }
}
